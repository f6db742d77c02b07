//! How processes and threads of a tree begin: each is admitted while its maker holds still.

use nix::libc;
use nix::unistd::Pid;

use super::live::live;
use super::turns::For;
use super::{Birth, Report, Tree, TreeError, follow, gone_is_fine, trace, wait};
use crate::sys::image;
use crate::sys::ptrace::{self, Pace, Stopped};

/// Who made a thread, and how.
#[derive(Clone, Copy, Debug)]
struct Maker {
    tid: Pid,
    shares_memory: bool,
}

impl Tree<'_> {
    /// A thread made another. One that was killed meanwhile may stand at its end already, and the number would be its
    /// exit status: that stop has a report of its own, which is the one to act on.
    pub(super) fn on_birth(&mut self, stopped: Stopped, event: i32) -> Result<(), TreeError> {
        let child = Pid::from_raw(stopped.event_message().map_err(trace)? as i32);
        if stopped.event().map_err(trace)? != event {
            return Ok(());
        }
        self.born(&stopped, child)?;
        let limited = self.turns.set_limit(&mut *self.watcher);
        limited.map_err(follow("limit a turn"))?;
        if event == libc::PTRACE_EVENT_VFORK && self.turns.asks(self.process_of(stopped.tid())) {
            let maker = stopped.tid();
            stopped.resume(Pace::ToReturn, None).map_err(trace)?;
            self.turns.enters(maker, For::Memory);
            return Ok(());
        }
        self.go_within(stopped)
    }

    /// Admits a new thread while its maker holds still: going on, the maker might change what the new one is a copy of,
    /// or end, before the first stop of the new one was seen.
    pub(super) fn born(&mut self, maker: &Stopped, child: Pid) -> Result<(), TreeError> {
        if let Some(live) = live().get_mut(&self.root.as_raw()) {
            live.insert(child.as_raw());
        }
        let process = self.process_of(maker.tid());
        if let Some(random) = &mut self.random {
            random.birth(process, child);
        }
        let maker = Maker {
            tid: maker.tid(),
            shares_memory: shares_memory(maker),
        };
        match self.first_stop(child)? {
            Some((first, signal)) => self.admit(first, signal, maker).or_else(gone_is_fine),
            None => Ok(()),
        }
    }

    /// Waits for the first stop of a new thread, unless it was seen already; none when it was killed before.
    fn first_stop(&mut self, child: Pid) -> Result<Option<(Stopped, i32)>, TreeError> {
        loop {
            if let Some(first) = self.orphans.remove(&child) {
                return Ok(Some(first));
            }
            let report = match wait(child.as_raw(), 0) {
                // It is nobody's to be traced, or has ended and was reported.
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
                report => report.map_err(follow("wait for a new thread"))?,
            };
            let ended = matches!(report, Some((_, Report::Ended(_))));
            self.handle(report)?;
            if ended {
                return Ok(None);
            }
        }
    }

    fn admit(&mut self, stopped: Stopped, signal: i32, maker: Maker) -> Result<(), TreeError> {
        let tid = stopped.tid();
        let birth = Birth {
            parent: self.process_of(maker.tid),
            maker: maker.tid,
            shared: maker.shares_memory,
        };
        let process = image::process_of(tid).map_err(follow("read /proc/TID/status"))?;
        self.threads.insert(tid, process);
        let begun = match process == tid {
            true => self.watcher.process(birth, &stopped),
            false => self.watcher.thread(process, &stopped),
        };
        begun.map_err(follow("begin a process or a thread"))?;
        if self.take_turns {
            let born = self.turns.born((maker.tid, birth.parent), (tid, process));
            born.map_err(follow("let threads take turns"))?;
            self.set_turns(birth.parent, true)?;
            self.set_turns(process, true)?;
        }
        // Its process is being stopped: so will it be, at once, whatever the watcher has had it do.
        if ptrace::stops_the_group(signal) {
            nix::sys::ptrace::interrupt(tid).map_err(trace)?;
        }
        self.go(stopped, None)
    }
}

/// Whether the thread or process that a stopped thread is just making will use the same memory (clone(2), CLONE_VM).
#[cfg(target_arch = "x86_64")]
fn shares_memory(maker: &Stopped) -> bool {
    let Ok(registers) = maker.registers() else {
        return false;
    };
    clone_flags(maker, &registers, registers.orig_rax) & libc::CLONE_VM as u64 != 0
}

/// Nobody asks on other architectures.
#[cfg(not(target_arch = "x86_64"))]
fn shares_memory(_maker: &Stopped) -> bool {
    false
}

/// Whether system call number `call`, which a stopped thread is about to make, makes a thread or process that no tracer is
/// told of.
#[cfg(target_arch = "x86_64")]
pub fn makes_untraced(maker: &Stopped, registers: &libc::user_regs_struct, call: u64) -> bool {
    clone_flags(maker, registers, call) & libc::CLONE_UNTRACED as u64 != 0
}

/// What the thread or process that a stopped thread makes by system call number `call` will share with it, and who is told
/// of it: the flags of clone(2).
#[cfg(target_arch = "x86_64")]
fn clone_flags(maker: &Stopped, registers: &libc::user_regs_struct, call: u64) -> u64 {
    match call as libc::c_long {
        libc::SYS_vfork => libc::CLONE_VM as u64,
        libc::SYS_clone => registers.rdi,
        libc::SYS_clone3 => {
            let mut flags = [0; 8];
            match maker.read(registers.rdi, &mut flags) {
                Ok(8) => u64::from_ne_bytes(flags),
                _ => 0,
            }
        }
        _ => 0,
    }
}
