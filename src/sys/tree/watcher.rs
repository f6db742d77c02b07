//! What a backend is told of a tree, and what it answers.

use std::io;

use nix::unistd::Pid;

use crate::sys::attempts::Frame;
use crate::sys::ptrace::{Pace, Stopped};

/// Why a thread in single-step stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// One instruction has been executed.
    Instruction,
    /// A system call has returned: its instruction has been executed.
    SystemCall,
    /// A signal handler was entered; no instruction has been executed.
    Handler,
}

/// What becomes of a system call that was reported before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It is made.
    Make,
    /// The watcher has dealt with it.
    Done,
    /// It is made, and its return is reported, too.
    ReportReturn,
    /// The same; and by the clock of the tree ([`Watcher::now`]) its time is over then. Where threads take turns.
    WaitUntil(u64),
    /// The watcher has dealt with it, and another thread may go on. Where threads take turns.
    Yield,
    /// The same; and those go on first whose time it is.
    Overdue,
}

/// How long a thread may compute in its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Until the clock of the tree ([`Watcher::now`]) shows this.
    pub until: Option<u64>,
    /// For a slice.
    pub slice: bool,
}

/// How a thread goes on that a signal has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Onward {
    /// At this pace.
    pub pace: Pace,
    /// With this signal delivered first.
    pub signal: Option<i32>,
}

/// What a backend wants to know of a tree. All stops are of threads that hold still during the call.
pub trait Watcher {
    /// The root exists, has not executed its program, and waits.
    fn held(&mut self, _root: Pid) -> io::Result<()> {
        Ok(())
    }
    /// Whether threads go on at full speed or instruction by instruction.
    fn pace(&self) -> Pace {
        Pace::Run
    }
    /// A program begins in process `stopped.tid()`: it is loaded and has executed nothing. Another thread of
    /// the process, `former`, may have asked for it.
    fn program(&mut self, _stopped: &Stopped, _former: Pid) -> io::Result<()> {
        Ok(())
    }
    /// Process `child` begins as a copy of `parent`, made by its thread `maker`; in the same memory if that is `shared`,
    /// until it executes a program (vfork).
    fn process(&mut self, _birth: Birth, _child: &Stopped) -> io::Result<()> {
        Ok(())
    }
    /// A thread begins in `process`.
    fn thread(&mut self, _process: Pid, _thread: &Stopped) -> io::Result<()> {
        Ok(())
    }
    /// The thread is about to go on for one instruction, `signal` being delivered first.
    fn stepping(&mut self, _stopped: &Stopped, _signal: Option<i32>) -> io::Result<()> {
        Ok(())
    }
    /// The thread has stopped again.
    fn stepped(&mut self, _stopped: &Stopped, _trap: Trap) -> io::Result<()> {
        Ok(())
    }
    /// Where the thread of `process` stands in its program.
    #[cfg(target_arch = "x86_64")]
    fn stands(&mut self, _process: Pid, stopped: &Stopped) -> io::Result<Frame> {
        let registers = stopped.registers()?;
        Ok(Frame {
            pc: registers.rip,
            sp: registers.rsp,
            fp: registers.rbp,
        })
    }
    /// Nobody asks on other architectures.
    #[cfg(not(target_arch = "x86_64"))]
    fn stands(&mut self, _process: Pid, _stopped: &Stopped) -> io::Result<Frame> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The thread of `process` is about to make a call that the launch has asked to be reported.
    fn calling(&mut self, _process: Pid, _stopped: &Stopped) -> io::Result<Call> {
        Ok(Call::Make)
    }
    /// A call has returned for which [`Call::ReportReturn`] was answered.
    fn returned(&mut self, _process: Pid, _stopped: &Stopped) -> io::Result<()> {
        Ok(())
    }
    /// A call has returned after its thread had slept in it and others had their turns. Whether the thread makes it again when
    /// it has its own, since what the call told may not be all that has happened by then. If so, its return is dealt with.
    fn looks_again(&mut self, _process: Pid, _stopped: &Stopped) -> io::Result<bool> {
        Ok(false)
    }
    /// A signal has stopped the thread of `process`; also the end of a single step. Only at [`Pace::Run`].
    fn signal(&mut self, _process: Pid, _stopped: &Stopped, signal: i32) -> io::Result<Onward> {
        Ok(Onward {
            pace: Pace::Run,
            signal: Some(signal),
        })
    }
    /// Whether threads can take turns under it: it has them ask before each call.
    fn gives_turns(&self) -> bool {
        false
    }
    /// The threads of `process` ask before each call from now on, or no longer.
    fn turns(&mut self, _process: Pid, _on: bool) -> io::Result<()> {
        Ok(())
    }
    /// The turn of a thread of `process` begins.
    fn turn(&mut self, _process: Pid, _thread: Pid) -> io::Result<()> {
        Ok(())
    }
    /// The thread of `process` whose turn it is shall let others go on ([`Call::Overdue`]) in time. It holds still.
    fn limit(&mut self, _process: Pid, _thread: Pid, _limit: Limit) -> io::Result<()> {
        Ok(())
    }
    /// When the first timer of the tree fires, by its clock. Where threads take turns.
    fn next_alarm(&self) -> Option<u64> {
        None
    }
    /// By the clock of the tree it is `now`: timers fire that are due. All threads hold still or sleep.
    fn alarm(&mut self, _now: u64) -> io::Result<()> {
        Ok(())
    }
    /// Whether the turn of the thread of `process` ends with the call that it is about to make, because it has made so many.
    fn is_last_call(&mut self, _process: Pid, _stopped: &Stopped) -> io::Result<bool> {
        Ok(false)
    }
    /// What the clock shows by which calls wait, [`Call::WaitUntil`]; the last turn is, or was, that of `process`.
    fn now(&mut self, _process: Pid) -> io::Result<u64> {
        Ok(0)
    }
    /// How many pieces of code `process` has executed since this was asked last: few, if it goes round in one place.
    fn pieces(&mut self, _process: Pid) -> io::Result<usize> {
        Ok(usize::MAX)
    }
    /// A call is about to be reported as returned which was interrupted because its time is over.
    fn time_is_over(&mut self, _process: Pid, _stopped: &Stopped) -> io::Result<()> {
        Ok(())
    }
    /// The thread of `process` goes on after a stop that was no signal's, call's or birth's; but perhaps one `by_us`.
    fn interrupted(&mut self, _process: Pid, _stopped: &Stopped, _by_us: bool) -> io::Result<()> {
        Ok(())
    }
    /// The thread is about to end; its memory and registers are still there.
    fn ending(&mut self, _process: Pid, _stopped: &Stopped) -> io::Result<()> {
        Ok(())
    }
    /// The thread has ended. With `tid == process`, so has the process.
    fn ended(&mut self, _process: Pid, _tid: Pid) {}
}

/// A process is born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The process that it is a copy of.
    pub parent: Pid,
    /// The thread of it that made the copy.
    pub maker: Pid,
    /// Whether both use the same memory.
    pub shared: bool,
}
