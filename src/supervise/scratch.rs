//! Folders for the files of one run, gone when it ends; those of killed runs are swept by the next.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Names are `counterfoil-PID-RANDOM`, so that a folder tells whether its owner still lives.
const PREFIX: &str = "counterfoil-";

/// A folder of our own under the system's temporary folder.
#[derive(Debug)]
pub struct Scratch(TempDir);

/// The temporary folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("make a folder under `{}`: {source}; set TMPDIR to a folder that can be written", base.display())]
pub struct ScratchError {
    /// The temporary folder.
    pub base: PathBuf,
    /// The answer.
    pub source: io::Error,
}

/// Random characters of a name: enough that two folders of a process hardly ever meet, and fewer where a
/// certain length is wanted (then another try follows).
const RANDOM: usize = 6;
/// The longest name a file may have in bytes (NAME_MAX, limits.h).
const LONGEST_NAME: usize = 255;

impl Scratch {
    /// Makes an empty folder.
    pub fn new() -> Result<Scratch, ScratchError> {
        Scratch::make(|_| RANDOM)
    }

    /// Makes an empty folder whose path has `length` bytes, or as nearly as the temporary folder allows.
    pub fn of_length(length: usize) -> Result<Scratch, ScratchError> {
        Scratch::make(|start| {
            let base = std::env::temp_dir().join("").as_os_str().len();
            let most = LONGEST_NAME.saturating_sub(start);
            length
                .saturating_sub(base.saturating_add(start))
                .clamp(1, most)
        })
    }

    /// `random`: how many random characters follow a name's start of so many bytes.
    fn make(random: impl Fn(usize) -> usize) -> Result<Scratch, ScratchError> {
        let base = std::env::temp_dir();
        let start = format!("{PREFIX}{}-", std::process::id());
        tempfile::Builder::new()
            .prefix(&start)
            .rand_bytes(random(start.len()))
            .tempdir_in(&base)
            .map(Scratch)
            .map_err(|source| ScratchError { base, source })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Removes the folders of runs that were killed: those of our user whose process is gone.
pub fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(is_left_behind) {
            // Another user's folder refuses, and stays.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether a folder of this name is one of ours whose owner is gone.
pub(super) fn is_left_behind(name: &str) -> bool {
    owner_of(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// The process that made a folder of this name; none when the name is not one of ours.
fn owner_of(name: &str) -> Option<u32> {
    let (pid, random) = name.strip_prefix(PREFIX)?.split_once('-')?;
    (!random.is_empty()).then(|| pid.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_names_only() {
        assert_eq!(owner_of("counterfoil-123-abc"), Some(123));
        for other in [
            "counterfoil-123",
            "counterfoil-x-y",
            "counterfoil-123-",
            "other-123-a",
        ] {
            assert_eq!(owner_of(other), None, "{other}");
        }
    }

    #[test]
    fn sweeps_what_a_dead_process_left_and_nothing_else() {
        let live = Scratch::new().unwrap();
        // Process ids end at 2^22 (proc_sys_kernel(5), pid_max), so this one never lives.
        let dead = std::env::temp_dir().join(format!("{PREFIX}99999999-{}", std::process::id()));
        fs::create_dir_all(dead.join("nested")).unwrap();
        sweep();
        assert!(live.path().exists());
        assert!(!dead.exists());
    }
}
