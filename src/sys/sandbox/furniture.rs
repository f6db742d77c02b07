//! What the keeper puts into its namespaces: who it is, its mounts, a /proc, a loopback interface; and what rights it gives up. It
//! never allocates: the keeper is a fork of a process of several threads.

use std::ffi::CStr;

use nix::errno::Errno;
use nix::libc;

use super::folder::FolderMount;
use super::{Identity, Own};
use crate::model::Network;

/// What the keeper puts into its namespaces.
pub(super) struct Furniture<'a> {
    pub(super) own: &'a Own,
    pub(super) identity: Option<&'a Identity>,
    pub(super) folder: Option<FolderMount>,
}

/// Makes the keeper's namespaces what programs want of them.
pub(super) fn furnish(furniture: &Furniture<'_>) -> Result<(), Errno> {
    let Furniture {
        own,
        identity,
        folder,
    } = furniture;
    // SAFETY: plain system calls in a process of one thread, which is the keeper.
    unsafe {
        // Nobody else waits for orphans.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        if let Some(identity) = identity {
            // user_namespaces(7): without privileges, groups can only be mapped once setgroups(2) is denied.
            write_file(c"/proc/self/setgroups", c"deny")?;
            write_file(c"/proc/self/uid_map", &identity.user)?;
            write_file(c"/proc/self/gid_map", &identity.group)?;
        }
        if own.mounts() {
            part_mounts()?;
            keep_access_times();
        }
        if let Some(folder) = folder {
            folder.make()?;
        }
        if own.ids {
            mount_proc()?;
        }
        if own.network == Network::Loopback {
            bring_up_loopback()?;
        }
        drop_capabilities()?;
    }
    Ok(())
}

/// Writes a short file of /proc in one call.
///
/// # Safety
/// Only to be called in the keeper.
unsafe fn write_file(path: &CStr, text: &CStr) -> Result<(), Errno> {
    let bytes = text.to_bytes();
    // SAFETY: both texts end with NUL; the descriptor is closed again.
    unsafe {
        let file = Errno::result(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
        let written = Errno::result(libc::write(file, bytes.as_ptr().cast(), bytes.len()));
        libc::close(file);
        written.map(drop)
    }
}

/// What is mounted here and on the machine from now on is nothing to each other.
///
/// # Safety
/// Only to be called in the keeper.
unsafe fn part_mounts() -> Result<(), Errno> {
    let none = std::ptr::null();
    let alone = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: mount(2) with a NUL-terminated constant, and null where it looks at nothing.
    unsafe { Errno::result(libc::mount(none, c"/".as_ptr(), none, alone, none.cast())).map(drop) }
}

/// To read a file leaves the time of its last access what it is, for whoever is in these mounts: programs that ask for it would
/// execute something else in the next run. The kernel lets only root have that (mount_setattr(2), `EPERM`); others do without.
///
/// # Safety
/// Only to be called in the keeper.
unsafe fn keep_access_times() {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOATIME,
        attr_clr: libc::MOUNT_ATTR__ATIME,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: mount_setattr(2) with a constant path and a live local, whose size it is told.
    unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        );
    }
}

/// Shows the process ids of this namespace in /proc.
///
/// # Safety
/// Only to be called in the keeper.
unsafe fn mount_proc() -> Result<(), Errno> {
    let (place, proc) = (c"/proc".as_ptr(), c"proc".as_ptr());
    let plain = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: mount(2) with NUL-terminated constants, or null where it looks at nothing.
    unsafe {
        let answer = libc::mount(proc, place, proc, plain, std::ptr::null());
        Errno::result(answer).map(drop)
    }
}

/// Switches `lo` on (netdevice(7)); it brings its addresses along.
///
/// # Safety
/// Only to be called in the keeper.
unsafe fn bring_up_loopback() -> Result<(), Errno> {
    // SAFETY: an all-zero `ifreq` is a valid one; the name fits with its NUL, and the kernel reads the flags it is given.
    unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        let socket = Errno::result(libc::socket(libc::AF_INET, kind, 0))?;
        let mut request: libc::ifreq = std::mem::zeroed();
        for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
            *slot = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let answer = Errno::result(libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request));
        libc::close(socket);
        answer.map(drop)
    }
}

/// linux/capability.h: _LINUX_CAPABILITY_VERSION_3.
const CAPABILITIES: u32 = 0x2008_0522;

/// Gives up all rights, root's own and what a new user namespace has granted: a program that has none, or gives up its own,
/// may only look into a process that has none of them either (ptrace(2), "Ptrace access mode checking").
///
/// # Safety
/// Only to be called in the keeper.
unsafe fn drop_capabilities() -> Result<(), Errno> {
    let header = [CAPABILITIES, 0];
    let none = [0u32; 6];
    // SAFETY: capset(2) reads a header of two words and, in this version, a table of twice three.
    unsafe {
        let answer = libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr());
        Errno::result(answer).map(drop)
    }
}
