//! Open files of other processes.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// A file among those of another process (pidfd_getfd(2)).
pub(super) fn file_of(process: Pid, descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: both calls take numbers only; each answer is checked before it becomes an owner of what is new.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0);
        let process = OwnedFd::from_raw_fd(Errno::result(process)? as i32);
        let file = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0);
        Ok(OwnedFd::from_raw_fd(Errno::result(file)? as i32))
    }
}
