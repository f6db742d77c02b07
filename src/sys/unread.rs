//! Files of programs, read by us so that they are not marked as read: the time of a file's last access is the program's to
//! see, and would be another in its next run.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// Opens a file to read it. The kernel lets a file's owner and root leave its times alone (open(2), `O_NOATIME`); for others
/// they are as always.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let quietly = options.read(true).custom_flags(libc::O_NOATIME).open(path);
    match quietly {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => File::open(path),
        opened => opened,
    }
}

/// All that is in a file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let length = file.metadata().map_or(0, |about| about.len());
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn what_is_read_so_does_not_look_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "text").unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let times = FileTimes::new().set_accessed(long_ago);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_times(times)
            .unwrap();
        assert_eq!(read(&path).unwrap(), b"text");
        assert_eq!(path.metadata().unwrap().accessed().unwrap(), long_ago);
        assert!(read(&folder.path().join("none")).is_err());
    }
}
