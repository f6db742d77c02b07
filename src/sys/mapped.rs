//! Files that are read where the kernel has them already.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc;

/// A file mapped into memory, read only.
///
/// For files that are replaced by renaming and never written in place. One that is made shorter all the same ends the
/// process by SIGBUS at the next access.
#[derive(Debug)]
pub struct Mapped {
    start: *const u8,
    length: usize,
}

// SAFETY: the mapping is read only and belongs to this value alone.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps the first `length` bytes of a file; `length` is not 0.
    pub fn new(file: &File, length: usize) -> io::Result<Mapped> {
        // SAFETY: a new mapping at an address of the kernel's choice; the answer is checked.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_POPULATE,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapped {
            start: start.cast_const().cast(),
            length,
        })
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the mapping has this length and lives as long as `self`; who may write the file does not (see `Mapped`).
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` has mapped; what borrows from it is gone.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.length) };
    }
}
