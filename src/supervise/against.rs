//! A git worktree of another revision, removed whatever happens.
//!
//! Programs see it where they see the project. Where that cannot be had its path has as many bytes as the project's own,
//! if the temporary folder allows it: programs that handle their paths then execute about as much on both sides.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::scratch::{Scratch, ScratchError, is_left_behind};

/// Why there is no worktree.
#[derive(Debug, thiserror::Error)]
pub enum WorktreeError {
    /// No room.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// git is missing.
    #[error("start git: {0}; `check --against` needs it")]
    NoGit(#[source] std::io::Error),
    /// The repository does not know it.
    #[error(
        "no revision `{revision}` in this repository: {message}; fetch it first (checkouts in CI are often shallow)"
    )]
    Unknown {
        /// As asked for.
        revision: String,
        /// What git said.
        message: String,
    },
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
    project: PathBuf,
    /// The commit's full name.
    pub commit: String,
    scratch: Scratch,
}

impl Worktree {
    /// Checks `revision` of the repository that holds `project` out into a folder of its own.
    pub fn checkout(project: &Path, revision: &str) -> Result<Worktree, WorktreeError> {
        let repository = PathBuf::from(git(project, &["rev-parse", "--show-toplevel"])?);
        let prefix = git(project, &["rev-parse", "--show-prefix"])?;
        let commit = commit_of(project, revision)?;
        forget_killed(&repository);
        let scratch = Scratch::of_length(repository.as_os_str().len())?;
        let worktree = Worktree {
            project: scratch.path().join(prefix),
            repository,
            commit,
            scratch,
        };
        let folder = worktree.folder();
        // git takes a folder that is there and empty.
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

    fn folder(&self) -> String {
        self.scratch.path().to_string_lossy().into_owned()
    }

    /// The project's folder in the checkout.
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// Whether its path has as many bytes as the project's own.
    pub fn has_equal_length(&self) -> bool {
        self.scratch.path().as_os_str().len() == self.repository.as_os_str().len()
    }
}

impl Drop for Worktree {
    fn drop(&mut self) {
        let arguments = ["worktree", "remove", "--force", "--force", &self.folder()];
        let _ = git(&self.repository, &arguments);
    }
}

/// Makes the repository forget the worktrees of killed runs, and no others: `git worktree prune` would also drop the
/// user's own on a disk that is not mounted now.
fn forget_killed(repository: &Path) {
    let listed = git(repository, &["worktree", "list", "--porcelain"]).unwrap_or_default();
    for folder in listed
        .lines()
        .filter_map(|line| line.strip_prefix("worktree "))
    {
        if is_left_behind(Path::new(folder)) {
            // One that stays does no harm: the next checkout has another name.
            let _ = git(
                repository,
                &["worktree", "remove", "--force", "--force", folder],
            );
        }
    }
}

/// The full name of the commit that `revision` means.
fn commit_of(project: &Path, revision: &str) -> Result<String, WorktreeError> {
    let wanted = format!("{revision}^{{commit}}");
    let found = git(
        project,
        &["rev-parse", "--verify", "--end-of-options", &wanted],
    );
    found.map_err(|error| match error {
        WorktreeError::Git { message, .. } => WorktreeError::Unknown {
            revision: revision.to_owned(),
            message,
        },
        other => other,
    })
}

/// Variables that tell git which repository to work on; a hook of the user's repository sets them for what it starts
/// (githooks(5)), and git would believe them more than the folder.
const LOCAL_VARIABLES: [&str; 7] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE",
];

fn git(folder: &Path, arguments: &[&str]) -> Result<String, WorktreeError> {
    let mut command = Command::new("git");
    for variable in LOCAL_VARIABLES {
        command.env_remove(variable);
    }
    let output = command
        .arg("-C")
        .arg(folder)
        // The user's hooks are for the user's own checkouts.
        .args(["-c", "core.hooksPath=/dev/null"])
        .args(arguments)
        .stdin(Stdio::null())
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
        for length in [60, 100, 200] {
            let scratch = Scratch::of_length(length).unwrap();
            assert_eq!(scratch.path().as_os_str().len(), length);
        }
        assert!(Scratch::of_length(1).unwrap().path().is_dir());
        assert!(Scratch::of_length(9000).unwrap().path().is_dir());
    }
}
