//! The build steps of a suite, before anything is measured.
//!
//! A step runs in a session of its own and is followed like a workload, without being counted: when the user stops
//! us, or something kills us, its compilers end with it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cancel::{self, Cancelled};
use super::command::{CommandError, DEFAULT_PATH, resolve};
use crate::suite::CommandLine;
use crate::sys::spawn::{Launch, Stream};
use crate::sys::tree::{self, End, TreeError, Watcher};

/// A build step that did not work.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Its program cannot be started.
    #[error("start the build step `{step}` in `{}`: {source}", folder.display())]
    Command {
        /// The step as written.
        step: String,
        /// Where.
        folder: PathBuf,
        /// What is wrong with the program.
        source: CommandError,
    },
    /// Its streams could not be set up.
    #[error("start the build step `{step}` in `{}`: {source}", folder.display())]
    Stream {
        /// The step as written.
        step: String,
        /// Where.
        folder: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// It did not start, or could not be followed.
    #[error("run the build step `{step}` in `{}`: {source}", folder.display())]
    Run {
        /// The step as written.
        step: String,
        /// Where.
        folder: PathBuf,
        /// The answer.
        source: TreeError,
    },
    /// It failed.
    #[error("the build step `{step}` in `{}` failed: {}; its output is above", folder.display(), words(*.end))]
    Failed {
        /// The step as written.
        step: String,
        /// Where.
        folder: PathBuf,
        /// How it ended.
        end: End,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn words(end: End) -> String {
    match end {
        End::Exited(code) => format!("exit code {code}"),
        End::Killed(signal) => format!("signal {signal} killed it"),
        End::TimedOut => "its time was up".to_owned(),
    }
}

/// Sees nothing.
pub(super) struct Nobody;

impl Watcher for Nobody {}

/// Runs a build step in `folder`, with our environment and all its output on our standard error.
pub fn run(step: &CommandLine, folder: &Path) -> Result<(), BuildError> {
    let (name, place) = (|| step.text.clone(), || folder.to_owned());
    cancel::check()?;
    let launch = launch(step, folder)?;
    let finished = tree::run(&launch, &mut Nobody);
    cancel::check()?;
    let finished = finished.map_err(|source| BuildError::Run {
        step: name(),
        folder: place(),
        source,
    })?;
    match finished.end {
        End::Exited(0) => Ok(()),
        end => Err(BuildError::Failed {
            step: name(),
            folder: place(),
            end,
        }),
    }
}

fn launch(step: &CommandLine, folder: &Path) -> Result<Launch, BuildError> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let command: Vec<OsString> = step.argv.iter().map(OsString::from).collect();
    let resolved = resolve(&command, &path, folder).map_err(|source| BuildError::Command {
        step: step.text.clone(),
        folder: folder.to_owned(),
        source,
    })?;
    let (stdin, stdout) = streams().map_err(|source| BuildError::Stream {
        step: step.text.clone(),
        folder: folder.to_owned(),
        source,
    })?;
    Ok(Launch {
        program: resolved.program,
        args: resolved.args,
        env: std::env::vars_os().map(assignment).collect(),
        cwd: Some(folder.to_owned()),
        stdin,
        stdout,
        own_session: true,
        ..Launch::default()
    })
}

fn assignment((name, value): (OsString, OsString)) -> OsString {
    let mut text = name.into_vec();
    text.push(b'=');
    text.extend(value.into_vec());
    OsString::from_vec(text)
}

/// Nothing to read, and our standard error to write to.
fn streams() -> io::Result<(Stream, Stream)> {
    let null = OwnedFd::from(std::fs::File::open("/dev/null")?);
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    Ok((Stream::File(Arc::new(null)), Stream::File(Arc::new(stderr))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(argv: &[&str]) -> CommandLine {
        CommandLine {
            text: argv.join(" "),
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    #[test]
    fn runs_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        run(&step(&["touch", "built"]), folder.path()).unwrap();
        assert!(folder.path().join("built").exists());
    }

    #[test]
    fn a_failure_names_the_step_and_how_it_ended() {
        let failed = |argv: &[&str]| run(&step(argv), Path::new("/")).unwrap_err().to_string();
        let error = failed(&["sh", "-c", "exit 3"]);
        assert!(
            error.contains("`sh -c exit 3`") && error.contains("exit code 3"),
            "{error}"
        );
        let error = failed(&["no-such-program"]);
        assert!(
            error.contains("`no-such-program` was not found in PATH"),
            "{error}"
        );
    }
}
