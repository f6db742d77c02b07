//! Makes a traced process do what its program did not ask for: make system calls, duplicate itself.
//!
//! A call leaves the registers as they were. The copy is a process of its own with the same memory and files, stopped where the original is. The original
//! goes on as if nothing had happened; to it the copy is a child that no ordinary wait(2) reports, because its
//! exit signal is 0 (clone(2), `__WCLONE`). The caller must run the copy to its end, with [`Copy::finish`].

use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::ptrace::{CALL_STOP, Pace, Stopped, set_registers, stops_the_group};

/// The instruction `syscall` (Intel SDM volume 2).
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// A copy of a traced process, stopped before its first instruction.
pub struct Copy {
    stopped: Stopped,
}

impl Copy {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.stopped.tid()
    }

    /// The stopped process, to change its memory.
    pub fn stopped(&self) -> &Stopped {
        &self.stopped
    }

    /// Lets it run, and returns once it has ended.
    pub fn finish(self) -> io::Result<()> {
        let pid = self.pid();
        self.stopped.resume(Pace::Run, None)?;
        loop {
            let status = wait(pid)?;
            if !libc::WIFSTOPPED(status) {
                return Ok(());
            }
            let signal = (status >> 16 == 0).then(|| libc::WSTOPSIG(status));
            Stopped::from_wait(pid).resume(Pace::Run, signal)?;
        }
    }

    /// Ends it at once.
    pub fn kill(self) -> io::Result<()> {
        nix::sys::signal::kill(self.pid(), nix::sys::signal::Signal::SIGKILL)?;
        while libc::WIFSTOPPED(wait(self.pid())?) {
            let _ = Stopped::from_wait(self.pid()).resume(Pace::Run, None);
        }
        Ok(())
    }
}

/// Copies a process that is stopped right behind a system call: at the first stop of a forked child.
pub fn copy(original: &Stopped) -> io::Result<Copy> {
    let registers = original.registers()?;
    let mut before = [0; 2];
    let call = registers.rip.wrapping_sub(SYSCALL.len() as u64);
    if original.read(call, &mut before)? != before.len() || before != SYSCALL {
        return Err(io::Error::other("the process is not behind a system call"));
    }
    let mut calling = registers;
    calling.rip = call;
    calling.rax = libc::SYS_clone as u64;
    calling.orig_rax = u64::MAX;
    // No flags: memory and files are copied, the exit signal is 0, the stack goes on.
    (
        calling.rdi,
        calling.rsi,
        calling.rdx,
        calling.r10,
        calling.r8,
    ) = (0, 0, 0, 0, 0);
    set_registers(original.tid(), calling)?;
    let born = run_clone(original.tid());
    original.set_registers(registers)?;
    let pid = born?;
    if !libc::WIFSTOPPED(wait(pid)?) {
        return Err(io::Error::other("the copy was killed"));
    }
    set_registers(pid, registers)?;
    Ok(Copy {
        stopped: Stopped::from_wait(pid),
    })
}

/// Runs the prepared call to its end; the new process.
fn run_clone(tid: Pid) -> io::Result<Pid> {
    let mut born = None;
    // Entry, the event, exit. Valgrind and the kernel hold back all signals of a process that forks.
    for _ in 0..3 {
        ptrace::syscall(tid, None)?;
        let status = wait(tid)?;
        if !libc::WIFSTOPPED(status) {
            return Err(Errno::ESRCH.into());
        }
        if libc::WSTOPSIG(status) & !0x80 != libc::SIGTRAP {
            return Err(io::Error::other("a signal came in between"));
        }
        if status >> 16 == libc::PTRACE_EVENT_CLONE {
            born = Some(Pid::from_raw(ptrace::getevent(tid)? as i32));
        }
    }
    born.ok_or_else(|| io::Error::other("the kernel refused to copy the process"))
}

/// System calls made by a stopped thread for us. Its signals wait; dropped, everything is as before.
pub struct Calls<'a> {
    thread: &'a Stopped,
    registers: libc::user_regs_struct,
    mask: u64,
    /// Address of a `syscall` instruction.
    at: u64,
    /// What cannot wait came meanwhile, and is made up for at the end.
    owed: Owed,
}

/// What stops a thread although its signals wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Owed {
    #[default]
    Nothing,
    /// SIGSTOP to this thread.
    Stop,
    /// A stop of all threads of its process, which another thread began.
    GroupStop,
}

impl<'a> Calls<'a> {
    /// Gets ready for calls through the `syscall` instruction at `at`.
    pub fn begin(thread: &'a Stopped, at: u64) -> io::Result<Calls<'a>> {
        let registers = thread.registers()?;
        let mask = thread.signal_mask()?;
        thread.set_signal_mask(u64::MAX)?;
        Ok(Calls {
            thread,
            registers,
            mask,
            at,
            owed: Owed::Nothing,
        })
    }

    /// The thread that makes them.
    pub fn thread(&self) -> &'a Stopped {
        self.thread
    }

    /// The registers that the thread will have afterwards.
    pub fn registers(&mut self) -> &mut libc::user_regs_struct {
        &mut self.registers
    }

    /// Address of the `syscall` instruction that calls are made through.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// From now on through the `syscall` instruction at `at`.
    pub fn through(&mut self, at: u64) {
        self.at = at;
    }

    /// Makes a call; its result, an errno as an error.
    pub fn make(&mut self, number: libc::c_long, arguments: [u64; 6]) -> io::Result<u64> {
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let calling = libc::user_regs_struct {
            rip: self.at,
            rax: number as u64,
            orig_rax: u64::MAX,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..self.registers
        };
        let tid = self.thread.tid();
        set_registers(tid, calling)?;
        let behind = self.at + SYSCALL.len() as u64;
        let mut entered = false;
        // From stop to stop of system calls, not by single steps: the SIGTRAP of a step that the program holds back or
        // ignores takes its handler away (kernel/signal.c, force_sig_info_to_task).
        loop {
            ptrace::syscall(tid, None)?;
            if !self.at_call(wait(tid)?)? {
                continue;
            }
            let now = ptrace::getregs(tid)?;
            if now.rip != behind {
                // The call that it was stopped in has returned, into rax.
                set_registers(tid, calling)?;
            } else if !entered {
                entered = true;
            } else {
                let answer = now.rax as i64;
                // Linux answers errors as -4095 to -1.
                return match answer {
                    -4095..=-1 => Err(io::Error::from_raw_os_error(-answer as i32)),
                    _ => Ok(now.rax),
                };
            }
        }
    }

    /// Whether a thread has stopped where a system call begins or returns. ESRCH when it was killed: its end is still to
    /// be reported, and whoever waits for the tree must see that report.
    fn at_call(&mut self, status: i32) -> io::Result<bool> {
        let tid = self.thread.tid();
        if !libc::WIFSTOPPED(status) {
            return Err(Errno::ESRCH.into());
        }
        match (status >> 16, libc::WSTOPSIG(status)) {
            (0, CALL_STOP) => return Ok(true),
            (0, libc::SIGSTOP) => self.owed = Owed::Stop,
            (0, signal) => {
                return Err(io::Error::other(format!(
                    "a call made for us raised signal {signal}"
                )));
            }
            (libc::PTRACE_EVENT_STOP, signal) if stops_the_group(signal) => {
                self.owed = Owed::GroupStop;
            }
            (libc::PTRACE_EVENT_EXIT, _) => {
                ptrace::cont(tid, None)?;
                return Err(Errno::ESRCH.into());
            }
            // The filter's report of our own call, or the end of a stop.
            _ => {}
        }
        Ok(false)
    }

    /// Puts everything back.
    pub fn end(self) -> io::Result<()> {
        let registers = libc::user_regs_struct {
            orig_rax: u64::MAX,
            ..self.registers
        };
        let tid = self.thread.tid();
        self.thread.set_registers(registers)?;
        self.thread.set_signal_mask(self.mask)?;
        match self.owed {
            Owed::Nothing => Ok(()),
            Owed::Stop => Ok(nix::sys::signal::kill(
                tid,
                nix::sys::signal::Signal::SIGSTOP,
            )?),
            // Once set going it stops at once, and tells whether its process is stopped still.
            Owed::GroupStop => Ok(ptrace::interrupt(tid)?),
        }
    }
}

fn wait(pid: Pid) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: the status pointer is to a live local. `__WALL` because a copy's exit signal is not SIGCHLD.
        let answer = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::__WALL) };
        if answer == pid.as_raw() {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
