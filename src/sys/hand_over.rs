//! Files for a traced process that cannot open them itself: it has become another user, or has another root or another /proc.
//!
//! It makes a pair of sockets for us, we take one of them as well, and what we send there it receives at the other (unix(7),
//! `SCM_RIGHTS`).

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::files::file_of;
use super::image;
use super::inject::Calls;

/// Bytes of the process's memory that a message takes for a moment.
pub const MESSAGE_BYTES: usize = 128;

/// Where things are in these bytes: the pair, a `struct msghdr`, its only buffer, that buffer's only byte, and the control
/// message: a `struct cmsghdr` and a descriptor behind it (bits/socket.h).
const PAIR: usize = 0;
const HEADER: usize = 16;
const BUFFER: usize = 80;
const BYTE: usize = 96;
const CONTROL: usize = 104;
const DESCRIPTOR: usize = CONTROL + 16;

/// Bytes of the control message.
const CONTROL_BYTES: u64 = 24;

/// Gives a process a file, closed at its next exec; under which number. `place`: where [`MESSAGE_BYTES`] of its memory may be used
/// for a moment.
pub fn hand_over(calls: &mut Calls<'_>, place: u64, file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut before = [0; MESSAGE_BYTES];
    if calls.thread().read(place, &mut before)? != before.len() {
        return Err(io::Error::other("there is no room for a message"));
    }
    let given = through_pair(calls, place, file);
    calls.thread().write(place, &before)?;
    given
}

fn through_pair(calls: &mut Calls<'_>, place: u64, file: BorrowedFd<'_>) -> io::Result<u64> {
    let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as u64;
    let pair = place + PAIR as u64;
    calls.make(
        libc::SYS_socketpair,
        [libc::AF_UNIX as u64, kind, 0, pair, 0, 0],
    )?;
    let mut ends = [0i32; 2];
    calls
        .thread()
        .read(pair, bytemuck::bytes_of_mut(&mut ends))?;
    let given = send(calls, ends[0], file).and_then(|()| receive(calls, place, ends[1]));
    for end in ends {
        calls.make(libc::SYS_close, [end as u64, 0, 0, 0, 0, 0])?;
    }
    given
}

fn send(calls: &Calls<'_>, end: RawFd, file: BorrowedFd<'_>) -> io::Result<()> {
    let end = file_of(image::process_of(calls.thread().tid())?, end)?;
    let files = [file.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&files)];
    sendmsg::<()>(
        end.as_raw_fd(),
        &[IoSlice::new(b"f")],
        &message,
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

fn receive(calls: &mut Calls<'_>, place: u64, end: RawFd) -> io::Result<u64> {
    let at = |offset: usize| place + offset as u64;
    let mut message = [0u8; MESSAGE_BYTES];
    let header = [0, 0, at(BUFFER), 1, at(CONTROL), CONTROL_BYTES, 0];
    message[HEADER..HEADER + 56].copy_from_slice(bytemuck::bytes_of(&header));
    message[BUFFER..BUFFER + 16].copy_from_slice(bytemuck::bytes_of(&[at(BYTE), 1]));
    calls.thread().write(place, &message)?;
    let flags = (libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) as u64;
    calls.make(libc::SYS_recvmsg, [end as u64, at(HEADER), flags, 0, 0, 0])?;
    calls.thread().read(place, &mut message)?;
    let length: u64 = bytemuck::pod_read_unaligned(&message[CONTROL..CONTROL + 8]);
    if length < CONTROL_BYTES - 4 {
        return Err(io::Error::other("it got a message without a file"));
    }
    let descriptor: i32 = bytemuck::pod_read_unaligned(&message[DESCRIPTOR..DESCRIPTOR + 4]);
    Ok(descriptor as u64)
}
