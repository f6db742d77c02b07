//! Folders for the files of one run, gone when it ends; those of killed runs are swept by the next.
//!
//! Whoever has one keeps it locked. A process id in its name would not do: in another PID namespace it is another's.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

/// Names are `counterfoil-PID-RANDOM`; the process is for people.
const PREFIX: &str = "counterfoil-";

/// A folder of our own under the system's temporary folder.
#[derive(Debug)]
pub struct Scratch {
    // In this order: unlocked, the folder would be anybody's to sweep.
    folder: TempDir,
    /// None on a file system without locks, where nobody sweeps.
    _lock: Option<Flock<File>>,
}

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
        loop {
            let made = tempfile::Builder::new()
                .prefix(&start)
                .rand_bytes(random(start.len()))
                .tempdir_in(&base);
            let folder = made.map_err(|source| ScratchError {
                base: base.clone(),
                source,
            })?;
            let _lock = match try_lock(folder.path()) {
                Locked::Ours(lock) => Some(lock),
                Locked::Never => None,
                // Swept before it was locked.
                Locked::Others | Locked::Gone => continue,
            };
            return Ok(Scratch { folder, _lock });
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// What comes of an attempt to lock a folder.
enum Locked {
    Ours(Flock<File>),
    Others,
    Gone,
    /// The file system has no locks, or the folder is another user's.
    Never,
}

fn try_lock(folder: &Path) -> Locked {
    let open = match File::open(folder) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Locked::Gone,
        Err(_) => return Locked::Never,
    };
    match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
        Ok(_) if !folder.exists() => Locked::Gone,
        Ok(lock) => Locked::Ours(lock),
        Err((_, Errno::EWOULDBLOCK)) => Locked::Others,
        Err(_) => Locked::Never,
    }
}

/// Removes what is at `path` if it is the folder of a run that was killed: one of our user that nobody has locked.
pub fn sweep(path: &Path) {
    if has_our_name(path)
        && let Locked::Ours(_lock) = try_lock(path)
    {
        // Another user's folder refuses, and stays.
        let _ = fs::remove_dir_all(path);
    }
}

/// Whether a folder is one of ours that nobody has any more, and may be gone itself.
pub(super) fn is_left_behind(folder: &Path) -> bool {
    has_our_name(folder) && matches!(try_lock(folder), Locked::Ours(_) | Locked::Gone)
}

fn has_our_name(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    let parts = name.and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
    parts.is_some_and(|(pid, random)| !random.is_empty() && pid.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_names_only() {
        assert!(has_our_name(Path::new("/tmp/counterfoil-123-abc")));
        for other in [
            "counterfoil-123",
            "counterfoil-x-y",
            "counterfoil-123-",
            "other-123-a",
        ] {
            assert!(!has_our_name(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn sweeps_what_a_dead_process_left_and_nothing_else() {
        let live = Scratch::new().unwrap();
        // Of a run in a PID namespace whose id is a living process's here.
        let dead = std::env::temp_dir().join(format!("{PREFIX}1-{}", std::process::id()));
        fs::create_dir_all(dead.join("nested")).unwrap();
        assert!(is_left_behind(&dead) && !is_left_behind(live.path()));
        crate::supervise::sweep();
        assert!(live.path().exists());
        assert!(!dead.exists());
        assert!(is_left_behind(&dead));
    }
}
