//! What the tree tells the engine, and which part of it deals with that.

use std::io;

use nix::libc;

use super::super::signals::{self, Disposition};
use super::super::state;
use super::{Engine, Expected, timers, unknown};
use crate::dbi::layout::slot;
use crate::model::course::Moment;
use crate::sys::Pid;
use crate::sys::attempts::Frame;
use crate::sys::ptrace::{self, Pace, Stopped};
use crate::sys::tree::{Birth, Call, Limit, Onward, Watcher};

/// Bytes of a page (x86-64).
const PAGE: u64 = 4096;

impl Watcher for Engine {
    fn program(&mut self, stopped: &Stopped, _former: Pid) -> io::Result<()> {
        self.begin_program(stopped)
    }

    fn process(&mut self, birth: Birth, child: &Stopped) -> io::Result<()> {
        self.begin_process(birth, child)
    }

    fn thread(&mut self, process: Pid, thread: &Stopped) -> io::Result<()> {
        self.begin_thread(process, thread)
    }

    fn calling(&mut self, process: Pid, stopped: &Stopped) -> io::Result<Call> {
        let Some(thread) = self.threads.get(&stopped.tid()) else {
            return Ok(Call::Make);
        };
        let area = thread.area;
        let space = self.space(process)?;
        let reason = space.borrow().areas[area]
            .slots()
            .load_u64(slot::REASON.into()) as u32;
        if reason == 0 {
            return self.system_call(process, stopped);
        }
        space.borrow().areas[area]
            .slots()
            .store_u64(slot::REASON.into(), 0);
        drop(space);
        self.answer(process, stopped, area, reason)
    }

    fn returned(&mut self, process: Pid, stopped: &Stopped) -> io::Result<()> {
        if self
            .turn
            .known_time
            .is_some_and(|(known_by, _)| known_by == stopped.tid())
        {
            // It did not wait.
            self.turn.known_time = None;
        }
        let thread = self.thread(stopped.tid())?;
        let lent = thread.lent.take();
        match std::mem::take(&mut thread.expected) {
            Expected::Code(change) => self.code_changed(process, stopped, change),
            Expected::Open {
                second,
                path,
                or_own,
            } => self.opened(process, stopped, (second, path, or_own), lent),
            Expected::Wait(waiting) => self.waited(process, stopped, waiting),
            Expected::Timer(call) => self.timer_called(process, stopped, call),
            Expected::Told(told) => {
                self.told(stopped, told)?;
                let number = stopped.registers()?.orig_rax as libc::c_long;
                self.told_of(process, stopped, number)
            }
            Expected::Answer(call) => self.answered(process, stopped, call),
            Expected::Nothing | Expected::Handler => Ok(()),
        }
    }

    fn looks_again(&mut self, process: Pid, stopped: &Stopped) -> io::Result<bool> {
        self.polls_again(process, stopped)
    }

    fn interrupted(&mut self, process: Pid, stopped: &Stopped, by_us: bool) -> io::Result<()> {
        self.restart_in_turn(process, stopped, !by_us)
    }

    fn gives_turns(&self) -> bool {
        true
    }

    fn turns(&mut self, process: Pid, on: bool) -> io::Result<()> {
        self.set_turns(process, on)
    }

    fn stands(&mut self, process: Pid, stopped: &Stopped) -> io::Result<Frame> {
        let registers = stopped.registers()?;
        let thread = self.thread(stopped.tid())?;
        let (area, at) = (thread.area, thread.at);
        let space = self.space(process)?;
        let own = state::original(&space.borrow(), area, &registers, at);
        let own = own.ok_or_else(unknown)?.registers;
        Ok(Frame {
            pc: own.rip,
            sp: own.rsp,
            fp: own.rbp,
        })
    }

    fn turn(&mut self, process: Pid, thread: Pid) -> io::Result<()> {
        self.begin_turn(process, thread)
    }

    fn limit(&mut self, process: Pid, thread: Pid, limit: Limit) -> io::Result<()> {
        self.set_limit(process, thread, limit)
    }

    fn next_alarm(&self) -> Option<u64> {
        self.first_timer()
    }

    fn alarm(&mut self, now: u64) -> io::Result<()> {
        self.fire_timers(now)
    }

    fn is_last_call(&mut self, process: Pid, stopped: &Stopped) -> io::Result<bool> {
        self.has_no_call_left(process, stopped.tid())
    }

    fn pieces(&mut self, process: Pid) -> io::Result<usize> {
        self.pieces_executed(process)
    }

    fn now(&mut self, process: Pid) -> io::Result<u64> {
        self.tree_time(process)
    }

    fn time_is_over(&mut self, process: Pid, stopped: &Stopped) -> io::Result<()> {
        Engine::time_is_over(self, process, stopped)
    }

    fn signal(&mut self, process: Pid, stopped: &Stopped, signal: i32) -> io::Result<Onward> {
        let plain = Onward {
            pace: Pace::Run,
            signal: Some(signal),
        };
        let nothing = Onward {
            pace: Pace::Run,
            signal: None,
        };
        let Some(thread) = self.threads.get_mut(&stopped.tid()) else {
            return Ok(plain);
        };
        let expected = thread.expected;
        thread.waits_until = None;
        if expected == Expected::Handler {
            thread.expected = Expected::Nothing;
        }
        let registers = stopped.registers()?;
        if expected == Expected::Handler
            && signal == libc::SIGTRAP
            && signals::is_handler_entry(stopped)?
        {
            stopped.hide_step_from_handler()?;
            self.redirect(process, stopped, registers)?;
            return Ok(nothing);
        }
        if signal == libc::SIGSEGV && self.is_stray(process, stopped, &registers)? {
            self.log
                .note(process, || format!("stray at {:#x}", registers.rip));
            let pc = registers.rip;
            self.redirect(process, stopped, registers)?;
            if stopped.registers()?.rip != pc {
                return Ok(nothing);
            }
            // The instruction there goes on where nothing can be executed: natively, that is where it faults.
            stopped.set_signal_address((pc | (PAGE - 1)) + 1)?;
        }
        if timers::INTERVAL_SIGNALS.contains(&signal) {
            stopped.seem_sent_by_interval_timer()?;
        }
        if signal == libc::SIGSEGV && self.clock_faulted(process, stopped, &registers)? {
            return Ok(nothing);
        }
        if signal == libc::SIGTRAP && signals::is_own_step(stopped)? {
            return self.refuse(stopped.tid(), "steps itself (the trap flag)");
        }
        match signals::disposition(process, stopped, signal)? {
            Disposition::Caught => {
                self.moment(process, Some(stopped), Moment::Signal(signal))?;
                self.deliver(process, stopped, signal, true, &registers)
            }
            Disposition::Fatal => self.deliver(process, stopped, signal, false, &registers),
            Disposition::Ignored if self.takes_turns(process) => {
                self.restart_in_turn(process, stopped, false)?;
                Ok(nothing)
            }
            unnoticed @ (Disposition::Ignored | Disposition::Stops) => {
                if ptrace::restarts(&registers)
                    && let Some(process) = self.processes.get_mut(&process)
                {
                    process.more += 1;
                }
                // Another thread may set a handler before it is delivered, which would then see translated code.
                Ok(match unnoticed {
                    Disposition::Ignored => nothing,
                    _ => plain,
                })
            }
        }
    }

    fn ending(&mut self, process: Pid, stopped: &Stopped) -> io::Result<()> {
        // One that was killed while the engine was put into it is in no process of ours.
        if !self.threads.contains_key(&stopped.tid()) || !self.processes.contains_key(&process) {
            return Ok(());
        }
        let registers = stopped.registers()?;
        // Who asks to end has executed all of the unit, whose last instruction that is.
        if signals::is_exit(&registers) {
            return Ok(());
        }
        self.settle(process, stopped, &registers).map(drop)
    }

    fn ended(&mut self, process: Pid, tid: Pid) {
        if let Some(thread) = self.threads.remove(&tid)
            && let Some(process) = self.processes.get(&process)
            && let Some(area) = process.space.borrow().areas.get(thread.area)
        {
            area.used.set(false);
        }
        if tid == process {
            self.timers.ended(process);
            // What cannot be read is an error below.
            let _ = self.turn_over(process);
            if let Err(overflow) = self.program_over(process) {
                self.failure = Some(overflow.into());
            }
            self.table.ended(process);
        }
    }
}
