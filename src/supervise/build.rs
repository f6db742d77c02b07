//! The build steps of a suite, before anything is measured.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::cancel::{self, Cancelled};
use crate::suite::CommandLine;

/// A build step that did not work.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// It did not start.
    #[error("start the build step `{step}` in `{}`: {source}", folder.display())]
    Start {
        /// The step as written.
        step: String,
        /// Where.
        folder: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// It failed.
    #[error("the build step `{step}` in `{}` failed: {status}; its output is above", folder.display())]
    Failed {
        /// The step as written.
        step: String,
        /// Where.
        folder: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// How often a running step is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// Runs a build step in `folder`, with all its output on our standard error.
pub fn run(step: &CommandLine, folder: &Path) -> Result<(), BuildError> {
    let name = || step.text.clone();
    let start = |source| BuildError::Start {
        step: name(),
        folder: folder.into(),
        source,
    };
    let [program, arguments @ ..] = step.argv.as_slice() else {
        return Ok(());
    };
    let stderr = io::stderr();
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(
            std::os::fd::AsFd::as_fd(&stderr)
                .try_clone_to_owned()
                .map_err(start)?,
        )
        .spawn()
        .map_err(start)?;
    let status = wait(&mut child).map_err(start)??;
    if status.success() {
        return Ok(());
    }
    Err(BuildError::Failed {
        step: name(),
        folder: folder.into(),
        status,
    })
}

fn wait(child: &mut Child) -> io::Result<Result<ExitStatus, Cancelled>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ok(status));
        }
        if let Err(cancelled) = cancel::check() {
            child.kill()?;
            child.wait()?;
            return Ok(Err(cancelled));
        }
        std::thread::sleep(GLANCE);
    }
}
