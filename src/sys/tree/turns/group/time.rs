//! What time does to turns: it ends them, and wakes those who wait for it.

use std::io;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::super::patience::{LOOK_EVERY, PIECES_IN_PLACE, Used};
use super::super::{For, Next, Parked};
use super::{Group, Inside};
use crate::sys::image;
use crate::sys::tree::{Limit, Watcher};

impl Group {
    /// Says how long a thread may compute that is about to go on, in each turn, and when that has changed.
    pub(super) fn set_limit(&mut self, thread: Pid, watcher: &mut dyn Watcher) -> io::Result<()> {
        let Some(process) = self.threads.get(&thread).copied() else {
            return Ok(());
        };
        let limit = Limit {
            until: self.first_due(watcher),
            slice: match self.slices {
                true => self.threads.len() > 1 && !self.is_free(process),
                false => self.is_ready_beside(process),
            },
        };
        let limit_of = Some((thread, limit));
        if limit_of != self.limit {
            self.limit = limit_of;
            watcher.limit(process, thread, limit)?;
        }
        Ok(())
    }

    /// Whether a thread of a process is ready to go on: who has its turn may wait for that.
    fn is_ready_beside(&self, process: Pid) -> bool {
        let mut ready = self.ready.iter();
        ready.any(|parked| self.threads.get(&parked.stopped.tid()) == Some(&process))
    }

    /// The same for whose turn it is: there is a new thread.
    pub(in super::super) fn set_limit_of_holder(
        &mut self,
        watcher: &mut dyn Watcher,
    ) -> io::Result<()> {
        match self.holder {
            Some(holder) => self.set_limit(holder, watcher),
            None => Ok(()),
        }
    }

    /// Tells threads that their time is over, if it is; if all sleep, the first of them when its time has passed.
    pub(super) fn tell(&mut self, watcher: &mut dyn Watcher) -> io::Result<Option<Next>> {
        let Some(first) = self.first_due(watcher) else {
            return Ok(None);
        };
        let now = watcher.now(self.latest)?;
        if first > now {
            if !self.ready.is_empty() {
                return Ok(None);
            }
            let rest = Duration::from_nanos(first - now);
            let until = *self.idle_until.get_or_insert_with(|| Instant::now() + rest);
            if Instant::now() < until {
                return Ok(Some(Next::Until(until)));
            }
        }
        self.idle_until = None;
        self.tell_first(first, watcher)?;
        Ok(Some(Next::Look))
    }

    /// Tells whose time is over first, at that time.
    fn tell_first(&mut self, time: u64, watcher: &mut dyn Watcher) -> io::Result<()> {
        if watcher.next_alarm().is_some_and(|alarm| alarm <= time) {
            return self.ring(time, watcher);
        }
        if let Some((_, number)) = self.first_over() {
            self.tell_one(number);
        }
        Ok(())
    }

    /// Timers fire that are due.
    fn ring(&mut self, time: u64, watcher: &mut dyn Watcher) -> io::Result<()> {
        self.settled = false;
        self.sends_signals();
        watcher.alarm(time)
    }

    /// Tells all whose time is over by `now`.
    pub(super) fn tell_all(&mut self, now: u64, watcher: &mut dyn Watcher) -> io::Result<()> {
        while let Some((first, number)) = self.first_over()
            && first <= now
        {
            self.tell_one(number);
        }
        match watcher.next_alarm() {
            Some(alarm) if alarm <= now => self.ring(now, watcher),
            _ => Ok(()),
        }
    }

    fn tell_one(&mut self, number: u64) {
        if let Some(inside) = self.inside.get_mut(&number) {
            inside.told = true;
            let thread = inside.tid;
            self.interrupt(thread);
        }
    }

    /// When the first time is over that somebody waits for, or the first timer fires.
    pub(super) fn first_due(&self, watcher: &dyn Watcher) -> Option<u64> {
        let over = self.first_over().map(|(first, _)| first);
        over.into_iter().chain(watcher.next_alarm()).min()
    }

    /// Whose time is over first of those that wait for one, and when.
    fn first_over(&self) -> Option<(u64, u64)> {
        let waits = |(number, inside): (&u64, &Inside)| Some((inside.over()?, *number));
        self.inside.iter().filter_map(waits).min()
    }

    /// Ends a turn that takes too long.
    pub(super) fn hurry(
        &mut self,
        holder: Pid,
        watcher: &mut dyn Watcher,
        held: &mut io::Result<()>,
    ) -> io::Result<Next> {
        if self.since.elapsed() < LOOK_EVERY {
            return Ok(Next::Wait);
        }
        // To look is work, and there may be many reports in a turn.
        self.since = Instant::now();
        let now = watcher.now(self.latest)?;
        let over = self.first_due(watcher).is_some_and(|first| first <= now);
        if !over && self.ready.is_empty() && self.back.is_empty() {
            return Ok(Next::Wait);
        }
        // One that is gone is reported.
        let Some(used) = image::cpu_time_of(holder.as_raw()) else {
            return Ok(Next::Wait);
        };
        let in_place = watcher.pieces(self.latest)? <= PIECES_IN_PLACE;
        let used = match self.used {
            Some(before) => before.then(used, in_place),
            None => Used::first(used),
        };
        self.used = Some(used);
        let why = if self.was_signalled_from_outside() {
            "a timer, or somebody outside, sent a signal while another had its turn"
        } else if used.is_too_much(over || self.someone_may_matter()) {
            "a thread ran on and on without a system call while others were ready (`--threads slices` ends such turns in time)"
        } else {
            return Ok(Next::Wait);
        };
        if held.is_ok() {
            *held = Err(io::Error::other(why));
        }
        self.end_turn(holder, now, watcher)?;
        Ok(Next::Look)
    }

    /// Whether one that is ready is in the process of whose turn it is, or has a signal.
    fn someone_may_matter(&self) -> bool {
        let mut ready = self.ready.iter().chain(self.back.values());
        ready.any(|parked| {
            self.threads.get(&parked.stopped.tid()) == Some(&self.latest) || parked.has_signal()
        })
    }

    /// Whether a signal has woken somebody in this turn, and it was not sent in it.
    fn was_signalled_from_outside(&self) -> bool {
        !self.signals && self.back.values().any(Parked::has_signal)
    }

    /// Ends a turn wherever the thread stands.
    fn end_turn(&mut self, holder: Pid, now: u64, watcher: &mut dyn Watcher) -> io::Result<()> {
        self.tell_all(now, watcher)?;
        // They go on before those that are ready: it was their time already when these began to wait for their turn.
        for parked in std::mem::take(&mut self.ready) {
            let number = self.next_number();
            self.back.insert(number, parked);
        }
        self.enters(holder, For::Anything);
        self.last = None;
        self.interrupt(holder);
        Ok(())
    }

    /// Whether a thread that is not asked has gone to sleep, while a timer runs: by the clock it is time then.
    pub(super) fn sleeps_before_alarm(&mut self, thread: Pid, watcher: &dyn Watcher) -> bool {
        watcher.next_alarm().is_some() && self.sleeper(thread, |sleeper| sleeper.is_asleep(false))
    }
}
