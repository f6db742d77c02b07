//! System calls of a tree: reported before they are made, and when they have returned.

use nix::unistd::Pid;

use super::quick;
use super::turns::For;
use super::{Call, Tree, TreeError, follow, trace};
use crate::sys::ptrace::{Pace, Stopped};

impl Tree<'_> {
    /// A call has returned, or has been interrupted.
    pub(super) fn on_return(&mut self, stopped: Stopped) -> Result<(), TreeError> {
        let (process, thread) = (self.process_of(stopped.tid()), stopped.tid());
        if self.turns.was_told(thread) {
            self.watcher
                .time_is_over(process, &stopped)
                .map_err(follow("end a call that waits"))?;
        }
        if self.looks_again(process, &stopped)? {
            return self.make_again(stopped);
        }
        self.watcher
            .returned(process, &stopped)
            .map_err(follow("look at a system call's return"))?;
        self.mind_timers(process, thread)?;
        if self.turns.asks(process) && stopped.makes_call_again().map_err(trace)? {
            return self.make_again(stopped);
        }
        self.go_within(stopped)
    }

    /// Whether a thread that has slept makes its call again when it has its turn.
    fn looks_again(&mut self, process: Pid, stopped: &Stopped) -> Result<bool, TreeError> {
        if !self.turns.asks(process) || !self.turns.has_slept(stopped.tid()) {
            return Ok(false);
        }
        let looks = self.watcher.looks_again(process, stopped);
        looks.map_err(follow("have a call made again"))
    }

    /// A thread makes the call again that it is in, and that is reported.
    fn make_again(&mut self, stopped: Stopped) -> Result<(), TreeError> {
        self.again.insert(stopped.tid());
        self.resume(stopped, Pace::ToReturn, None)
    }

    /// A call is made again: it was interrupted and another thread has taken the signal, or it is to tell what is so now.
    pub(super) fn on_call_again(&mut self, stopped: Stopped) -> Result<(), TreeError> {
        let (thread, waits) = (stopped.tid(), quick::waits_for(&stopped).map_err(trace)?);
        stopped.resume(Pace::ToReturn, None).map_err(trace)?;
        self.turns.enters(thread, waits);
        Ok(())
    }

    /// The filter reports a system call before it is made.
    pub(super) fn on_call(&mut self, stopped: &Stopped) -> Result<Call, TreeError> {
        let process = self.process_of(stopped.tid());
        if let Some(attempts) = &mut self.attempts {
            let watcher = &mut *self.watcher;
            attempts.look(process, stopped, || watcher.stands(process, stopped));
        }
        self.rest.wait_before(process, stopped);
        let looked = self.watcher.calling(process, stopped);
        let call = looked.map_err(follow("look at a system call"))?;
        self.mind_timers(process, stopped.tid())?;
        if call == Call::Make
            && let Some(random) = &mut self.random
            && random.answer(process, stopped).map_err(trace)?
        {
            return Ok(Call::Done);
        }
        Ok(call)
    }

    /// Whoever has its turn while a timer runs is stopped when that fires.
    fn mind_timers(&mut self, process: Pid, thread: Pid) -> Result<(), TreeError> {
        if !self.take_turns || self.watcher.next_alarm().is_none() {
            return Ok(());
        }
        let alone = self.turns.timed((thread, process));
        if alone.map_err(follow("let threads take turns"))? {
            self.set_turns(process, true)?;
        }
        let limited = self.turns.set_limit(&mut *self.watcher);
        limited.map_err(follow("limit a turn"))
    }

    /// What was reported goes on.
    pub(super) fn make_call(&mut self, stopped: Stopped, call: Call) -> Result<(), TreeError> {
        let waits = match call {
            Call::Yield | Call::Overdue => {
                self.turns.give_up(stopped, call == Call::Overdue);
                return Ok(());
            }
            Call::Done => return self.go_within(stopped),
            Call::Make | Call::ReportReturn => self.waits(&stopped)?,
            Call::WaitUntil(over) => Some(For::Time(over)),
        };
        if waits.is_none() && call == Call::Make {
            return self.go_within(stopped);
        }
        let thread = stopped.tid();
        stopped.resume(Pace::ToReturn, None).map_err(trace)?;
        if let Some(waits) = waits {
            self.turns.enters(thread, waits);
        }
        Ok(())
    }

    /// What a thread may wait for in the call that it makes, if its turn may end with it.
    fn waits(&mut self, stopped: &Stopped) -> Result<Option<For>, TreeError> {
        let process = self.process_of(stopped.tid());
        let signals = quick::sends_signals(stopped).map_err(trace)?;
        if signals {
            self.turns.sends_signals();
            if self.turns.free_no_more(process) {
                self.set_turns(process, true)?;
            }
        }
        if !self.turns.asks(process) {
            return Ok(None);
        }
        let last = self.watcher.is_last_call(process, stopped);
        if last.map_err(follow("look at a turn"))? {
            self.turns.is_over();
        } else if quick::never_waits(stopped).map_err(trace)? {
            return Ok(None);
        }
        quick::waits_for(stopped).map_err(trace).map(Some)
    }

    pub(super) fn set_turns(&mut self, process: Pid, on: bool) -> Result<(), TreeError> {
        let set = self.watcher.turns(process, on);
        set.map_err(follow("let threads take turns"))
    }
}
