//! One traced thread, as types: a [`Stopped`] can be looked at and is consumed by setting it going.
//!
//! Threads are seized (PTRACE_SEIZE), so that job control works as without a tracer. A thread that was
//! killed meanwhile answers ESRCH; the caller then waits for the report of its end.

use std::io::{IoSlice, IoSliceMut};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

/// How a stopped thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Until the next event or signal.
    Run,
    /// For one instruction.
    Step,
}

/// What a thread seized with these options reports: everything that adds or replaces a program.
const OPTIONS: ptrace::Options = ptrace::Options::PTRACE_O_TRACEEXEC
    .union(ptrace::Options::PTRACE_O_TRACEFORK)
    .union(ptrace::Options::PTRACE_O_TRACEVFORK)
    .union(ptrace::Options::PTRACE_O_TRACECLONE)
    .union(ptrace::Options::PTRACE_O_TRACESECCOMP)
    .union(ptrace::Options::PTRACE_O_TRACEEXIT);

/// Begins to trace `pid` and all that will descend from it. `kill_with_us`: our end is theirs.
pub fn seize(pid: Pid, kill_with_us: bool) -> nix::Result<()> {
    let kill = if kill_with_us {
        ptrace::Options::PTRACE_O_EXITKILL
    } else {
        ptrace::Options::empty()
    };
    ptrace::seize(pid, OPTIONS | kill)
}

/// A traced thread in a ptrace stop: its registers and memory hold still.
#[derive(Debug)]
pub struct Stopped {
    tid: Pid,
}

impl Stopped {
    /// The caller has just had a stop of `tid` reported by waitpid, and makes only one value of it.
    pub(super) fn from_wait(tid: Pid) -> Stopped {
        Stopped { tid }
    }

    /// Its thread id.
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// Sets it going, delivering `signal` if any.
    pub fn resume(self, pace: Pace, signal: Option<i32>) -> nix::Result<()> {
        let request = match pace {
            Pace::Run => libc::PTRACE_CONT,
            Pace::Step => libc::PTRACE_SINGLESTEP,
        };
        self.request(request, signal.unwrap_or(0))
    }

    /// Leaves it in its group stop (SIGSTOP, SIGTSTP ...) until SIGCONT arrives.
    pub fn listen(self) -> nix::Result<()> {
        self.request(libc::PTRACE_LISTEN, 0)
    }

    /// Lets it go for good, delivering `signal` if any.
    pub fn detach(self, signal: Option<i32>) -> nix::Result<()> {
        self.request(libc::PTRACE_DETACH, signal.unwrap_or(0))
    }

    fn request(self, request: libc::c_uint, data: i32) -> nix::Result<()> {
        // SAFETY: these requests take no pointers: `addr` is ignored and `data` is a signal number. The
        // thread is ours and stopped, as the type says; if it was killed the kernel answers ESRCH.
        let answer = unsafe {
            libc::ptrace(
                request as _,
                self.tid.as_raw(),
                std::ptr::null_mut::<libc::c_void>(),
                data as libc::c_long as *mut libc::c_void,
            )
        };
        Errno::result(answer).map(drop)
    }

    /// The number that goes with the current event: a new thread's id, an exit status, a former thread id.
    pub fn event_message(&self) -> nix::Result<i64> {
        ptrace::getevent(self.tid)
    }

    /// `si_code` of the signal that stopped it.
    pub fn signal_code(&self) -> nix::Result<i32> {
        ptrace::getsiginfo(self.tid).map(|info| info.si_code)
    }

    /// Its general registers.
    #[cfg(target_arch = "x86_64")]
    pub fn registers(&self) -> nix::Result<libc::user_regs_struct> {
        ptrace::getregs(self.tid)
    }

    /// Replaces its general registers.
    #[cfg(target_arch = "x86_64")]
    pub fn set_registers(&self, registers: libc::user_regs_struct) -> nix::Result<()> {
        ptrace::setregs(self.tid, registers)
    }

    /// Reads its memory; the number of bytes read, fewer than asked for where the mapping ends.
    pub fn read(&self, address: u64, into: &mut [u8]) -> nix::Result<usize> {
        let remote = [RemoteIoVec {
            base: address as usize,
            len: into.len(),
        }];
        process_vm_readv(self.tid, &mut [IoSliceMut::new(into)], &remote)
    }

    /// Reads up to a NUL byte, which is left out, and at most `most` bytes.
    pub fn read_c_string(&self, address: u64, most: usize) -> nix::Result<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < most {
            let mut part = [0; 64];
            let at = address
                .checked_add(text.len() as u64)
                .ok_or(Errno::EFAULT)?;
            let got = self.read(at, &mut part)?;
            let part = part.get(..got).filter(|p| !p.is_empty());
            let part = part.ok_or(Errno::EFAULT)?;
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                text.extend(part.iter().take(end));
                break;
            }
            text.extend(part);
        }
        text.truncate(most);
        Ok(text)
    }

    /// Writes writable memory, all of `bytes` or an error.
    pub fn write(&self, address: u64, bytes: &[u8]) -> nix::Result<()> {
        let remote = [RemoteIoVec {
            base: address as usize,
            len: bytes.len(),
        }];
        let written = process_vm_writev(self.tid, &[IoSlice::new(bytes)], &remote)?;
        if written == bytes.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }
}

/// Whether a stop by this signal is a group stop, when the event is PTRACE_EVENT_STOP.
pub(super) fn stops_the_group(signal: i32) -> bool {
    const STOPPING: [Signal; 4] = [
        Signal::SIGSTOP,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ];
    STOPPING.iter().any(|s| *s as i32 == signal)
}
