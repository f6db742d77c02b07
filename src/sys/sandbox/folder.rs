//! The project's folder where programs see it: a mount of its own, on a folder that covers the machine's.
//!
//! What is found in the machine's folder is mounted on the one that covers it, so that nothing is hidden. Nothing can be
//! added there: it would be gone with the run.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use crate::model::ProjectFolder;

/// The folder that is covered, and the project's place in it.
const ABOVE: &CStr = c"/srv";
const SHOWN: &CStr = c"/srv/project";

/// All that it takes to mount the project's folder, allocated before the keeper is there.
pub(super) struct FolderMount {
    /// The project; seen from the covered folder if it is in it.
    source: CString,
    beside: Vec<Beside>,
}

/// What the machine has in the covered folder.
struct Beside {
    name: CString,
    /// Its path.
    place: CString,
    kind: Kind,
}

enum Kind {
    Folder,
    Link(CString),
    /// A file, whatever is in it.
    Other,
}

impl FolderMount {
    /// Looks at what is there.
    pub(super) fn prepare(folder: &ProjectFolder) -> io::Result<FolderMount> {
        let source = match folder.real().strip_prefix(ProjectFolder::ABOVE) {
            Ok(below) => Path::new(".").join(below),
            Err(_) => folder.real().to_owned(),
        };
        let beside = fs::read_dir(ProjectFolder::ABOVE)?.map(|entry| Beside::of(&entry?));
        Ok(FolderMount {
            source: c_path(&source)?,
            beside: beside.collect::<io::Result<_>>()?,
        })
    }

    /// Mounts it all.
    ///
    /// # Safety
    /// Only to be called in the keeper, whose mounts are nobody else's.
    pub(super) unsafe fn make(&self) -> Result<(), Errno> {
        // SAFETY: system calls with constants that end with NUL. The descriptor is closed again: others have the same table.
        unsafe {
            let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
            let before = Errno::result(libc::open(c".".as_ptr(), flags))?;
            let made = Errno::result(libc::chdir(ABOVE.as_ptr())).and_then(|_| self.cover());
            let back = Errno::result(libc::fchdir(before));
            libc::close(before);
            made.and(back.map(drop))
        }
    }

    /// Mounts everything, from the folder that is covered thereby: whoever is in it still sees what it has.
    ///
    /// # Safety
    /// As [`FolderMount::make`].
    unsafe fn cover(&self) -> Result<(), Errno> {
        let plain = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let none = std::ptr::null();
        let tmpfs = c"tmpfs".as_ptr();
        // SAFETY: mount(2) and mkdir(2) with texts that end with NUL, or null where nothing is looked at.
        unsafe {
            let mode = c"mode=0755".as_ptr();
            Errno::result(libc::mount(
                tmpfs,
                ABOVE.as_ptr(),
                tmpfs,
                plain,
                mode.cast(),
            ))?;
            for beside in &self.beside {
                beside.bring()?;
            }
            Errno::result(libc::mkdir(SHOWN.as_ptr(), 0o755))?;
            bind(&self.source, SHOWN)?;
            let closed = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | plain;
            Errno::result(libc::mount(none, ABOVE.as_ptr(), none, closed, none.cast())).map(drop)
        }
    }
}

impl Beside {
    fn of(entry: &fs::DirEntry) -> io::Result<Beside> {
        let kind = entry.file_type()?;
        Ok(Beside {
            name: c_path(Path::new(&entry.file_name()))?,
            place: c_path(&entry.path())?,
            kind: match kind {
                kind if kind.is_dir() => Kind::Folder,
                kind if kind.is_symlink() => Kind::Link(c_path(&fs::read_link(entry.path())?)?),
                _ => Kind::Other,
            },
        })
    }

    /// Makes it available in the covering folder, from the covered one.
    ///
    /// # Safety
    /// As [`FolderMount::make`].
    unsafe fn bring(&self) -> Result<(), Errno> {
        let place = self.place.as_ptr();
        // SAFETY: system calls with texts that live as long as `self`.
        unsafe {
            match &self.kind {
                Kind::Link(target) => {
                    return Errno::result(libc::symlink(target.as_ptr(), place)).map(drop);
                }
                Kind::Folder => Errno::result(libc::mkdir(place, 0o755))?,
                Kind::Other => Errno::result(libc::mknod(place, libc::S_IFREG | 0o644, 0))?,
            };
            bind(&self.name, &self.place)
        }
    }
}

/// Shows at `place` what is at `source`, and all that is mounted in it.
///
/// # Safety
/// As [`FolderMount::make`].
unsafe fn bind(source: &CStr, place: &CStr) -> Result<(), Errno> {
    let none = std::ptr::null();
    let flags = libc::MS_BIND | libc::MS_REC;
    // SAFETY: mount(2) with texts that end with NUL, or null where it looks at nothing.
    unsafe {
        let answer = libc::mount(source.as_ptr(), place.as_ptr(), none, flags, none.cast());
        Errno::result(answer).map(drop)
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_for_the_kernel_are_those_for_everybody_else() {
        assert_eq!(ABOVE.to_str(), Ok(ProjectFolder::ABOVE));
        assert_eq!(SHOWN.to_str(), Ok(ProjectFolder::SHOWN));
        assert!(ProjectFolder::SHOWN.ends_with(ProjectFolder::NAME));
    }
}
