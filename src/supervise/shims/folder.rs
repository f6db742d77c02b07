//! The folder of a job's shims: one path for each job, whoever runs it, and one user at a time.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::{ShimError, file_error};
use crate::supervise::cancel;

/// How the names of the folders begin; the job's number follows.
const PREFIX: &str = "counterfoil-shims-";

/// How often to look whether another process has left the folder.
const PATIENCE: Duration = Duration::from_millis(50);

/// A folder that nobody else uses while this lives. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Folder {
    /// Takes the folder of job `number`, and waits while another process measures the same job.
    pub fn take(number: u64) -> Result<Folder, ShimError> {
        let path = std::env::temp_dir().join(format!("{PREFIX}{number:016x}"));
        let lock = loop {
            cancel::check()?;
            if let Some(lock) = try_lock(&path)? {
                break lock;
            }
            std::thread::sleep(PATIENCE);
        };
        let folder = Folder { path, _lock: lock };
        folder.clear().map_err(file_error("clear", &folder.path))?;
        let bin = folder.bin();
        let made = DirBuilder::new().mode(0o755).create(&bin);
        made.map_err(file_error("make folder", &bin))?;
        Ok(folder)
    }

    /// Removes what a killed process has left.
    fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the programs.
    pub fn bin(&self) -> PathBuf {
        self.path.join("bin")
    }

    /// The file in which a shim notes its calls.
    pub fn calls(&self, shim: &str) -> PathBuf {
        self.path.join(format!("calls-{shim}"))
    }

    /// Writes the program of a shim.
    pub fn program(&self, shim: &str, bytes: &[u8]) -> Result<(), ShimError> {
        let path = self.bin().join(shim);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o755);
        let file = options.open(&path);
        let written = file.and_then(|mut file| file.write_all(bytes));
        written.map_err(file_error("write", &path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The next one clears what cannot be removed now.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what is at `path` if it is the folder of a killed process: one that nobody has locked.
pub fn sweep(path: &Path) {
    let name = path.file_name().and_then(OsStr::to_str);
    if name.is_some_and(|name| name.starts_with(PREFIX))
        && let Ok(Some(lock)) = try_lock(path)
    {
        drop(Folder {
            path: path.to_owned(),
            _lock: lock,
        });
    }
}

/// Makes the folder if need be and locks it; none while another process has it, or has just removed it. The name can
/// be guessed, so that what is there must be a folder that only we can write to.
fn try_lock(path: &Path) -> Result<Option<Flock<File>>, ShimError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(file_error("make folder", path)(error));
        }
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true);
    options.custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW);
    let open = match options.open(path) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err(ShimError::NotOurs(path.to_owned())),
    };
    let Ok(lock) = Flock::lock(open, FlockArg::LockExclusiveNonblock) else {
        return Ok(None);
    };
    let metadata = lock.metadata().map_err(file_error("look at", path))?;
    if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(ShimError::NotOurs(path.to_owned()));
    }
    let still_there = fs::symlink_metadata(path).is_ok_and(|now| now.ino() == metadata.ino());
    Ok(still_there.then_some(lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number() -> u64 {
        0xc0de_0000_0000_0000 | u64::from(std::process::id())
    }

    #[test]
    fn a_folder_is_one_users_at_a_time_and_gone_afterwards() {
        let first = Folder::take(number()).unwrap();
        fs::write(first.calls("uv"), b"left").unwrap();
        let path = first.path().to_owned();
        assert!(try_lock(&path).unwrap().is_none());
        let waiting = std::thread::spawn(|| Folder::take(number()).unwrap());
        std::thread::sleep(PATIENCE * 2);
        assert!(!waiting.is_finished());
        drop(first);
        let second = waiting.join().unwrap();
        assert_eq!(second.path(), path);
        assert!(!second.calls("uv").exists() && second.bin().is_dir());
        crate::supervise::sweep();
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        crate::supervise::sweep();
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(matches!(try_lock(&open), Err(ShimError::NotOurs(_))));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(matches!(try_lock(&link), Err(ShimError::NotOurs(_))));
    }
}
