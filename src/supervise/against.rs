//! A git worktree of another revision, removed whatever happens.
//!
//! Its path has as many bytes as the project's own, where the temporary folder allows it: programs that handle
//! their paths (Python's start-up does) then execute as much on both sides.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::scratch::{Scratch, ScratchError};

/// Why there is no worktree.
#[derive(Debug, thiserror::Error)]
pub enum WorktreeError {
    /// No room.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// git is missing.
    #[error("start git: {0}; `check --against` needs it")]
    NoGit(#[source] std::io::Error),
    /// git refused.
    #[error("git {command}: {message}")]
    Git {
        /// The git command.
        command: String,
        /// What it said.
        message: String,
    },
}

/// A checked-out revision.
#[derive(Debug)]
pub struct Worktree {
    repository: PathBuf,
    checkout: PathBuf,
    project: PathBuf,
    /// The commit's full name.
    pub commit: String,
    _scratch: Scratch,
}

impl Worktree {
    /// Checks `revision` of the repository that holds `project` out into a folder of its own.
    pub fn checkout(project: &Path, revision: &str) -> Result<Worktree, WorktreeError> {
        let repository = PathBuf::from(git(project, &["rev-parse", "--show-toplevel"])?);
        let prefix = git(project, &["rev-parse", "--show-prefix"])?;
        let commit = format!("{revision}^{{commit}}");
        let commit = git(
            project,
            &["rev-parse", "--verify", "--end-of-options", &commit],
        )?;
        let _ = git(&repository, &["worktree", "prune"]);
        let scratch = Scratch::new()?;
        let checkout = of_equal_length(scratch.path(), &repository);
        let worktree = Worktree {
            project: checkout.join(prefix),
            repository,
            checkout,
            commit,
            _scratch: scratch,
        };
        let folder = worktree.checkout.to_string_lossy().into_owned();
        let arguments = [
            "worktree",
            "add",
            "--detach",
            "--force",
            &folder,
            &worktree.commit,
        ];
        git(&worktree.repository, &arguments)?;
        Ok(worktree)
    }

    /// The project's folder in the checkout.
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// Whether its path has as many bytes as the project's own.
    pub fn has_equal_length(&self) -> bool {
        self.checkout.as_os_str().len() == self.repository.as_os_str().len()
    }
}

impl Drop for Worktree {
    fn drop(&mut self) {
        let folder = self.checkout.to_string_lossy().into_owned();
        let _ = git(
            &self.repository,
            &["worktree", "remove", "--force", "--force", &folder],
        );
    }
}

/// A folder below `base` whose path is as long as `model`, or the shortest when that is not to be had.
fn of_equal_length(base: &Path, model: &Path) -> PathBuf {
    let room = model
        .as_os_str()
        .len()
        .saturating_sub(base.as_os_str().len() + 1);
    // 255 bytes is the longest name a file may have (NAME_MAX, limits.h).
    let length = if (1..=255).contains(&room) { room } else { 1 };
    base.join(OsStr::from_bytes(&vec![b'w'; length]))
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String, WorktreeError> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()
        .map_err(WorktreeError::NoGit)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(WorktreeError::Git {
        command: arguments.join(" "),
        message: text(&output.stderr),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_has_a_path_as_long_as_the_project() {
        let base = Path::new("/tmp/counterfoil-1-abc");
        let model = Path::new("/home/someone/projects/thing");
        assert_eq!(
            of_equal_length(base, model).as_os_str().len(),
            model.as_os_str().len()
        );
        assert_eq!(of_equal_length(base, Path::new("/p")), base.join("w"));
    }
}
