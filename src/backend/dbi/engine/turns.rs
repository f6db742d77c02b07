//! Threads that take turns: which calls of the program the tree is told of, and where a thread goes on that was made to wait.
//!
//! The tree decides whose turn it is ([`crate::sys::tree`]). Translated code asks before each system call where that matters,
//! and after so many `pause`s.
//!
//! Each process has a clock of its own, which translated code reads. Only one runs at a time, so they are one clock: whoever
//! goes on has it set to what it shows in the process that had its turn before.

use std::io;

use nix::libc::{self, user_regs_struct};

use super::super::space::Area;
use super::super::state::{self, Original, Partial};
use super::calls::again;
use super::counts::read_counters;
use super::{Engine, Expected, unknown};
use crate::dbi::emit::Exit;
use crate::dbi::layout::slot;
use crate::sys::Pid;
use crate::sys::ptrace::{self, Stopped};
use crate::sys::seccomp;
use crate::sys::tree::{Call, Watcher};

/// Calls that a thread may make in its turn.
const CALLS_A_TURN: u64 = 256;

/// Times that a thread may `pause` in its turn. Whoever waits in a loop does so some ten to a thousand times before it
/// gives up and lets the kernel wake it.
const PAUSES_A_TURN: u64 = 128;

/// Rounds in a turn of loops that only look at memory: many search in it, and few wait.
const ROUNDS_A_TURN: u64 = 1 << 16;

/// What a sched_yield(2) takes, by the clock of its process: about what a change of threads takes a kernel. Whoever
/// yields until another has slept would do so a hundred thousand times a millisecond if it took nothing.
const YIELD_NS: u64 = 1000;

/// Whose turn it is, and the time.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// None before there were turns.
    process: Option<Pid>,
    /// The same; none before one was given.
    thread: Option<Pid>,
    /// The time, if a thread has gone into the kernel then and nobody has executed anything since.
    pub(super) known_time: Option<(Pid, u64)>,
    /// When it began, or the process before ended.
    time: u64,
}

impl Engine {
    /// Whether the threads of a process ask before each call, so that they can take turns.
    pub(super) fn takes_turns(&self, process: Pid) -> bool {
        let process = self.processes.get(&process);
        process.is_some_and(|process| process.takes_turns)
    }

    /// Makes threads take turns from now on, or not.
    pub(super) fn set_turns(&mut self, pid: Pid, on: bool) -> io::Result<()> {
        let process = self.processes.get_mut(&pid).ok_or_else(unknown)?;
        process.takes_turns = on;
        if !on {
            self.turn.thread = None;
        }
        let space = process.space.borrow();
        for area in space.areas_of(pid).filter(|area| area.used.get()) {
            let was_on = area.slots().load_u64(slot::TURNS.into()) != 0;
            area.slots().store_u64(slot::TURNS.into(), on.into());
            // Who makes processes and nothing else would have its turn for ever.
            if was_on != on {
                give_rounds(area, on);
            }
        }
        Ok(())
    }

    /// The turn of a thread begins: its process knows how much time has passed.
    pub(super) fn begin_turn(&mut self, process: Pid, thread: Pid) -> io::Result<()> {
        let before = self.turn.process.replace(process);
        if let Some(before) = before.filter(|before| *before != process) {
            let now = self.tree_time(before)?;
            let passed = now.saturating_sub(self.exact_time(process)?);
            self.slept(process, passed)?;
        }
        self.turn.thread = Some(thread);
        let area = self.area_of(thread)?;
        area.executed.set(None);
        area.slots().store_u64(slot::CALLS.into(), CALLS_A_TURN);
        self.log_turn(process, thread);
        Ok(())
    }

    /// The area of the only thread of a process that may be executing; none where all may.
    pub(super) fn running_area(&self, process: Pid) -> Option<u64> {
        let thread = self.turn.thread.filter(|_| self.takes_turns(process))?;
        self.area_of(thread).ok().map(|area| area.address)
    }

    /// Whether a thread has made as many calls as it may in its turn.
    pub(super) fn has_no_call_left(&self, process: Pid, thread: Pid) -> io::Result<bool> {
        let area = self.area_of(thread)?;
        Ok(self.takes_turns(process) && area.slots().load_u64(slot::CALLS.into()) == 0)
    }

    /// The time, by that of the process whose turn it was last.
    pub(super) fn tree_time(&mut self, latest: Pid) -> io::Result<u64> {
        if self.processes.contains_key(&latest) {
            self.turn.time = self.turn.time.max(self.exact_time(latest)?);
        }
        Ok(self.turn.time)
    }

    /// Time has passed for a process, and for all others.
    pub(super) fn time_is_at_least(&mut self, process: Pid, time: u64) -> io::Result<()> {
        self.sleeps_until(process, time)?;
        self.turn.time = self.turn.time.max(time);
        Ok(())
    }

    /// A process goes on with others beside it: if there were no turns before, this one is its.
    pub(super) fn begin_turns(&mut self, process: Pid) {
        self.turn.process.get_or_insert(process);
    }

    /// A process has ended: what it has executed has taken time.
    pub(super) fn turn_over(&mut self, process: Pid) -> io::Result<()> {
        if self.turn.process == Some(process) {
            self.tree_time(process)?;
        }
        Ok(())
    }

    /// So that two runs can be compared: nothing in the line hangs on anything but what the tree did itself.
    fn log_turn(&mut self, process: Pid, thread: Pid) {
        let (Some(thread), Some(program)) = (
            self.threads.get(&thread).map(|thread| thread.number),
            self.processes.get(&process).map(|process| process.row),
        ) else {
            return;
        };
        if self.log.is_kept()
            && let Ok(time) = self.exact_time(process)
        {
            let line = || format!("turn of thread {thread} of program {program} at {time} ns");
            self.log.note(process, line);
        }
    }

    /// How many units and branches of a process were executed since this was asked last.
    pub(super) fn pieces_executed(&mut self, pid: Pid) -> io::Result<usize> {
        let process = self.processes.get_mut(&pid).ok_or_else(unknown)?;
        let now = read_counters(pid, process).map_err(io::Error::other)?;
        let before = std::mem::replace(&mut process.looked_at, now);
        let now = process.looked_at.iter().enumerate();
        let risen = now.filter(|(at, count)| before.get(*at).unwrap_or(&0) != *count);
        Ok(risen.count())
    }

    /// A thread has left translated code before a system call: it makes the call from where it is, and goes on behind it.
    pub(super) fn call_in_turn(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        area: usize,
        exit: Exit,
    ) -> io::Result<Call> {
        let registers = stopped.registers()?;
        let space = self.space(process)?;
        let number = space.borrow().areas[area]
            .slots()
            .load_u64(slot::RAX.into());
        stopped.set_registers(user_regs_struct {
            orig_rax: number,
            // What the kernel itself leaves there (Intel SDM volume 2, SYSCALL).
            rcx: exit.patch,
            r11: registers.eflags,
            rip: exit.patch,
            ..registers
        })?;
        let registers = stopped.registers()?;
        if number == libc::SYS_sched_yield as u64 {
            stopped.answer_call(&registers, 0)?;
            self.slept(process, YIELD_NS)?;
            return Ok(Call::Yield);
        }
        match seccomp::is_reported(self.machine, &registers) {
            true => self.system_call(process, stopped),
            false => self.asked(stopped, &registers),
        }
    }

    /// A call has woken its thread, and it is not this thread's turn. If it was poll(2), which changes nothing, it is made
    /// again in the turn, until the same time: a process that ends closes one pipe after the other, and whoever waits for
    /// several of them is woken by the first, sometimes before the second is closed.
    pub(super) fn polls_again(&mut self, process: Pid, stopped: &Stopped) -> io::Result<bool> {
        const POLLS: [libc::c_long; 2] = [libc::SYS_poll, libc::SYS_ppoll];
        let registers = stopped.registers()?;
        let thread = self.thread(stopped.tid())?;
        let (number, until) = match thread.expected {
            Expected::Wait(waiting) => waiting.in_turn.unzip(),
            _ => (None, None),
        };
        let number = number.unwrap_or(registers.orig_rax);
        if !POLLS.contains(&(number as libc::c_long)) || registers.rax as i64 <= 0 {
            return Ok(false);
        }
        if let Expected::Answer(_) = thread.expected {
            // The answer is the last one.
            thread.expected = Expected::Nothing;
        }
        self.returned(process, stopped)?;
        stopped.set_registers(again(&stopped.registers()?))?;
        self.thread(stopped.tid())?.waits_until = until;
        Ok(true)
    }

    /// A thread has gone round so often that it is time to ask.
    pub(super) fn ends_turn(&mut self, process: Pid, area: usize) -> io::Result<Call> {
        if self.has_used_budget(process, area)? {
            return self.look_at_time(process, area);
        }
        let on = self.takes_turns(process);
        let space = self.space(process)?;
        give_rounds(&space.borrow().areas[area], on);
        Ok(if on { Call::Yield } else { Call::Done })
    }

    /// The kernel is about to make a call again that was interrupted: the thread itself makes it again, and asks before.
    /// Both times count if the program has noticed why: a signal that it ignores interrupts nothing where nobody traces it
    /// (kernel/signal.c, `sig_ignored`), and who of its threads gets it is chance.
    pub(super) fn restart_in_turn(
        &mut self,
        pid: Pid,
        stopped: &Stopped,
        noticed: bool,
    ) -> io::Result<()> {
        let registers = stopped.registers()?;
        if !self.takes_turns(pid) || !ptrace::restarts(&registers) {
            return Ok(());
        }
        let thread = self.thread(stopped.tid())?;
        let (area, at) = (thread.area, thread.at);
        let space = self.space(pid)?;
        let original = state::original(&space.borrow(), area, &registers, at);
        let Original {
            registers: original,
            partial,
        } = original.ok_or_else(unknown)?;
        if !noticed && let Some(process) = self.processes.get_mut(&pid) {
            process.partial.extend(partial.map(|partial| Partial {
                done: partial.done.saturating_sub(1),
                ..partial
            }));
        }
        self.redirect(pid, stopped, again(&original))
    }
}

/// How often a thread may go round, and make calls, until its turn ends.
fn give_rounds(area: &Area, on: bool) {
    for (at, rounds) in [
        (slot::PAUSES, PAUSES_A_TURN),
        (slot::ROUNDS, ROUNDS_A_TURN),
        (slot::CALLS, CALLS_A_TURN),
    ] {
        area.slots()
            .store_u64(at.into(), if on { rounds } else { 0 });
    }
}
