//! What the engine does not support, and what it shows in the place of what would betray it.

use std::ffi::CString;
use std::fs;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::libc::{self, user_regs_struct};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::shown;
use crate::backend::program_file::{Format, ProgramFile};
use crate::backend::traced::UNTRACED;
use crate::sys::ptrace::Stopped;
use crate::sys::{Pid, tree};

/// Why a file cannot be counted when it is executed; none where it can.
pub fn refused_file(file: &ProgramFile) -> Option<&'static str> {
    match file.format {
        Format::Other => None,
        Format::X86 | Format::Foreign => Some("is no 64-bit x86 program"),
        Format::X86_64 => file.other_user.then_some("runs as another user (set-uid)"),
    }
}

/// Why the program that a process has just executed cannot be counted.
pub fn refused_program(pid: Pid) -> Option<&'static str> {
    let file = ProgramFile::executed_for(Path::new(&format!("/proc/{pid}/exe")))?;
    refused_file(&file)
}

/// Why a reported system call cannot be allowed.
pub fn refused_call(thread: &Stopped, registers: &user_regs_struct) -> Option<&'static str> {
    const X32: u64 = 0x4000_0000;
    const ADDR_LIMITS: u64 = 0x0800_0000;
    /// sys/personality.h
    const READ_IMPLIES_EXEC: u64 = 0x0040_0000;
    const ASK: u64 = 0xffff_ffff;
    let untraced = || tree::makes_untraced(thread, registers, registers.orig_rax);
    match registers.orig_rax as libc::c_long {
        libc::SYS_ptrace => Some("traces another program (ptrace)"),
        libc::SYS_clone | libc::SYS_clone3 if untraced() => Some(UNTRACED),
        libc::SYS_arch_prctl => Some("sets the segment register gs"),
        libc::SYS_personality
            if registers.rdi & ASK != ASK
                && registers.rdi & (READ_IMPLIES_EXEC | ADDR_LIMITS) != 0 =>
        {
            Some("makes all readable memory executable (personality)")
        }
        libc::SYS_shmat => Some("executes System V shared memory"),
        _ if registers.orig_rax & X32 != 0 => Some("makes x32 system calls"),
        _ => None,
    }
}

/// The path that a thread means by `name` in the folder that `folder` is open on, if it may be of a file that is not shown
/// as it is: all of those are in three folders.
pub fn whole_path(thread: Pid, folder: i32, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    if name.starts_with('/') {
        return Some(name.to_owned());
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    if !OF_THREADS.contains(&last) && !shown::may_be_shown(last) {
        return None;
    }
    let folder = match folder {
        libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
        number => format!("/proc/{thread}/fd/{number}"),
    };
    let folder = fs::read_link(folder).ok()?;
    let folder = folder.to_str()?;
    let inside = ["/proc", "/sys", "/dev"]
        .iter()
        .any(|top| folder.starts_with(top));
    inside.then(|| format!("{folder}/{}", name.strip_prefix("./").unwrap_or(name)))
}

/// Files of a thread in /proc that are not shown as they are.
pub const OF_THREADS: [&str; 5] = ["maps", "mountinfo", "stat", "statm", "status"];

/// Of whom a file of /proc tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of whoever opens it.
    Openers,
    /// Of the thread that programs know by this id.
    Of(Pid),
}

/// Of whom the file at this path tells, and what it is called; none for others than those of threads.
pub fn of_thread(path: &str) -> Option<(Whose, &str)> {
    let (owner, name) = path.strip_prefix("/proc/")?.rsplit_once('/')?;
    let whose = match owner {
        "self" | "thread-self" => Whose::Openers,
        _ => {
            let number = owner.split('/').next()?.parse().ok()?;
            Whose::Of(Pid::from_raw(number))
        }
    };
    Some((whose, name))
}

/// A file of ours that another process can open while it is there.
pub struct Lent {
    /// The file.
    pub file: OwnedFd,
    /// The NUL-terminated path.
    pub path: Vec<u8>,
    /// Whether a process that cannot open it opens the one that it asked for.
    pub or_own: bool,
}

impl Lent {
    /// `owner`: among whose open files it is to be found.
    fn new(file: OwnedFd, owner: Pid) -> Lent {
        let path = format!("/proc/{owner}/fd/{}\0", file.as_raw_fd());
        Lent {
            file,
            path: path.into_bytes(),
            or_own: false,
        }
    }

    /// The same for a process that may open its own where it cannot open this.
    pub fn or_own(self) -> Lent {
        Lent {
            or_own: true,
            ..self
        }
    }
}

/// A file of these contents, among the open files of `owner`.
pub fn lend(content: &[u8], owner: Pid) -> io::Result<Lent> {
    let name = CString::from(c"maps");
    let file: OwnedFd = memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC)?;
    let mut file = fs::File::from(file);
    file.write_all(content)?;
    // Whoever is handed it reads on from where we are.
    file.rewind()?;
    Ok(Lent::new(file.into(), owner))
}

/// The same for what is written to a stream.
pub fn lend_stream(owner: Pid) -> io::Result<(Lent, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((Lent::new(reader.into(), owner), writer))
}
