//! Files that are written whole or not at all, whatever kills the writer.
//!
//! A writer fills a temporary file beside the target, makes it durable and renames it into place.
//! While it does, it holds a lock on the folder, so that a temporary file that it finds there is a
//! dead writer's.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::BaselineError;

/// Names of temporary files begin with this; readers ignore them.
const TEMPORARY: &str = ".tmp-";

/// Replaces `path` by a file with `bytes`, durably. Readers see the old file or the new one, whole.
/// Missing folders are created. Of concurrent writers the last one wins.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BaselineError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(BaselineError::file("create folder", folder))?;
    let open = File::open(folder).map_err(BaselineError::file("open folder", folder))?;
    let locked = lock(open);
    if locked.is_ok() {
        sweep(folder);
    }
    let folder_file = match &locked {
        Ok(lock) => &**lock,
        Err(unlocked) => unlocked,
    };
    write_in(folder, folder_file, path, bytes).map_err(BaselineError::file("write", path))
}

fn write_in(folder: &Path, folder_file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(permissions())
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    folder_file.sync_all()
}

/// Baselines are committed and shared: readable for all, as far as the umask allows.
fn permissions() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// Waits for the folder. A file system without such locks gives the file back: the names of
/// temporary files are still unique, only leftovers stay.
fn lock(folder: File) -> Result<Flock<File>, File> {
    Flock::lock(folder, FlockArg::LockExclusive).map_err(|(folder, _)| folder)
}

/// Removes what killed writers left. The caller holds the folder's lock. A file that does not go
/// away does no harm, since readers ignore it.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if is_temporary(&entry.file_name()) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_sweeps_what_a_killed_writer_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/sort.json");
        write_whole(&path, b"old").unwrap();
        fs::write(folder.path().join("deep/.tmp-leftover"), b"hal").unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path().join("deep")).unwrap().count(), 1);
    }

    #[test]
    fn concurrent_writers_leave_one_of_their_files_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sort.json");
        std::thread::scope(|scope| {
            for writer in 0..4u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        write_whole(path, &vec![writer; 10_000]).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 10_000);
        assert!(bytes.iter().all(|byte| byte == &bytes[0]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = write_whole(&file.join("sort.json"), b"").unwrap_err();
        assert!(error.to_string().starts_with("create folder `"));
    }
}
