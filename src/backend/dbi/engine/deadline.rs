//! Until when a thread computes in its turn: timed code asks after so many rounds, and the clock says whether it is time.

use std::io;

use super::Engine;
use crate::dbi::layout::slot;
use crate::sys::Pid;
use crate::sys::tree::{Call, Limit};

/// Rounds after which timed code asks that has not been measured yet: some ten thousand instructions.
const FIRST_ROUNDS: u64 = 1 << 12;

/// Rounds after which it asks in any case. To read the clock of a large program takes as long as some ten thousand rounds.
const MOST_ROUNDS: u64 = 1 << 22;

/// Fewer are not worth asking: who is late is so by some thousand instructions, in each run.
const FEWEST_ROUNDS: u64 = 1 << 9;

/// More than anybody goes.
const NO_END: u64 = u64::MAX / 2;

/// Has all code be timed, and ask after so many rounds, so that tests execute it all. Only builds with debug assertions know
/// this variable.
const ROUNDS_VARIABLE: &str = "COUNTERFOIL_TIMED_ROUNDS";

/// How long a thread may compute while others of its process wait: far longer than what threads do in loops that wait for each
/// other, and some ten times what a kernel gives them beside each other.
const SLICE_NS: u64 = 50_000_000;

/// How long rounds take, as was measured last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    took: u64,
    rounds: u64,
}

impl Pace {
    /// Most of the rounds that fit in so many nanoseconds, so that the last step is small.
    fn rounds_in(self, ns: u64) -> u64 {
        let rounds = u128::from(ns) * u128::from(self.rounds) / u128::from(self.took.max(1));
        u64::try_from(rounds * 7 / 8).unwrap_or(MOST_ROUNDS)
    }
}

/// The limit of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    until: Option<u64>,
    /// Whether it is at most a slice.
    slice: bool,
    /// When was looked last, and how many rounds were given then.
    last: Option<(u64, u64)>,
    pace: Option<Pace>,
    /// Rounds of who has no limit.
    no_end: u64,
}

impl Deadline {
    /// No limit.
    pub(super) fn none() -> Deadline {
        let rounds = || std::env::var(ROUNDS_VARIABLE).ok()?.parse().ok();
        let rounds = if cfg!(debug_assertions) {
            rounds()
        } else {
            None
        };
        Deadline {
            until: None,
            slice: false,
            last: None,
            pace: None,
            no_end: rounds.unwrap_or(NO_END),
        }
    }

    /// Whether a program that begins is timed from its beginning.
    pub(super) fn begins_timed(&self) -> bool {
        self.until.is_some() || self.no_end != NO_END
    }

    /// How many rounds a thread has that begins.
    pub(super) fn at_birth(&self) -> u64 {
        self.no_end
    }

    /// The next limit.
    fn next(self, limit: Limit) -> Deadline {
        Deadline {
            until: limit.until,
            slice: limit.slice,
            last: None,
            ..self
        }
    }

    fn is_none(&self) -> bool {
        self.until.is_none() && !self.slice
    }

    /// How many rounds to go on before it is looked for the first time; `now`: if the time is known.
    fn first_rounds(&mut self, now: Option<u64>) -> u64 {
        match now {
            _ if self.is_none() => self.no_end,
            Some(now) => self.rounds(now).unwrap_or(FEWEST_ROUNDS),
            None => FIRST_ROUNDS,
        }
    }

    /// How many rounds to go on before it is looked again, if it is `now`; none when it is time.
    fn rounds(&mut self, now: u64) -> Option<u64> {
        if self.is_none() {
            return Some(self.no_end);
        }
        if std::mem::take(&mut self.slice) {
            // To look at each turn's beginning would cost more than it gains.
            let slice = now.saturating_add(SLICE_NS);
            self.until = Some(self.until.map_or(slice, |until| until.min(slice)));
        }
        if let Some((before, rounds)) = self.last {
            let took = now.saturating_sub(before);
            self.pace = Some(Pace { took, rounds });
        }
        let left = self.until?.checked_sub(now).filter(|left| *left > 0)?;
        let rounds = self.pace.map_or(FIRST_ROUNDS, |pace| pace.rounds_in(left));
        let rounds = rounds.clamp(FEWEST_ROUNDS, MOST_ROUNDS);
        self.last = Some((now, rounds));
        Some(rounds)
    }
}

impl Engine {
    /// A thread is about to go on, for so long.
    pub(super) fn set_limit(&mut self, process: Pid, thread: Pid, limit: Limit) -> io::Result<()> {
        let now = self.turn.known_time.take().map(|(_, now)| now);
        self.deadline = self.deadline.next(limit);
        if !self.deadline.is_none() {
            self.make_timed(process)?;
        }
        let area = self.area_of(thread)?;
        let rounds = self.deadline.first_rounds(now);
        area.slots().store_u64(slot::BUDGET.into(), rounds);
        Ok(())
    }

    /// A program begins in the process whose turn it is: others of its threads there are none.
    pub(super) fn go_on_until(&mut self, process: Pid) -> io::Result<()> {
        let limit = Limit {
            until: self.deadline.until,
            slice: false,
        };
        self.set_limit(process, process, limit)
    }

    /// Has a process execute timed code. Where there is no room to leave what it executes now, it goes on with that: then its
    /// turn ends as that of a thread does that never asks.
    fn make_timed(&mut self, process: Pid) -> io::Result<()> {
        let space = self.space(process)?;
        let space = space.borrow();
        let translations = &mut *space.translations.borrow_mut();
        if !translations.cache.is_timed() {
            let made = translations.cache.make_timed(&translations.memory);
            self.log.note(process, || match made {
                Ok(()) => "is translated anew, so that it can be stopped in time".to_owned(),
                Err(full) => format!("cannot be stopped in time: {full}"),
            });
        }
        Ok(())
    }

    /// Whether a thread that has asked did so because it has used up its budget.
    pub(super) fn has_used_budget(&self, process: Pid, area: usize) -> io::Result<bool> {
        let space = self.space(process)?;
        let space = space.borrow();
        Ok(space.areas[area].slots().load_u64(slot::BUDGET.into()) == 0)
    }

    /// A thread has used up its budget: it gets another, or it is time for others.
    pub(super) fn look_at_time(&mut self, process: Pid, area: usize) -> io::Result<Call> {
        let now = self.exact_time(process)?;
        let rounds = self.deadline.rounds(now);
        let Some(rounds) = rounds else {
            return Ok(Call::Overdue);
        };
        let space = self.space(process)?;
        space.borrow().areas[area]
            .slots()
            .store_u64(slot::BUDGET.into(), rounds);
        Ok(Call::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_few_and_the_last_step_is_small() {
        for (until, per_round) in [(1_000_000_000, 3), (5_000_000, 700), (50_000, 1)] {
            let mut deadline = Deadline::none().next(Limit {
                until: Some(until),
                slice: false,
            });
            let (mut now, mut looks) = (0, 0);
            while let Some(rounds) = deadline.rounds(now) {
                now += rounds * per_round;
                looks += 1;
            }
            assert!(looks < 100, "{looks}");
            let late = now - until;
            assert!(late <= FIRST_ROUNDS * per_round, "{late}");
        }
    }
}
