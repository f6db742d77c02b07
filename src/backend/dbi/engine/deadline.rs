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

/// Rounds of a slice: some fifty to a hundred milliseconds, far more than threads go in loops that wait for each other.
const SLICE_ROUNDS: u64 = 1 << 23;

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
    /// Rounds that are left of its slice, if that has an end.
    slice: Option<u64>,
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
            slice: None,
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
            slice: limit.slice.then_some(SLICE_ROUNDS),
            last: None,
            ..self
        }
    }

    fn is_none(&self) -> bool {
        self.until.is_none() && self.slice.is_none()
    }

    /// How many rounds to go on at first; `now`: if the time is known.
    fn first_rounds(&mut self, now: Option<u64>) -> u64 {
        let rounds = match (self.until, now) {
            (None, _) => self.slice.unwrap_or(self.no_end),
            (Some(until), Some(now)) => self.look(until, now).unwrap_or(FEWEST_ROUNDS),
            (Some(_), None) => FIRST_ROUNDS,
        };
        self.take(rounds)
    }

    /// How many rounds to go on, if those that were given are over; none when it is time for others. It is asked for the time
    /// where that matters.
    fn next_rounds(&mut self, now: impl FnOnce() -> io::Result<u64>) -> io::Result<Option<u64>> {
        if self.slice == Some(0) {
            return Ok(None);
        }
        let rounds = match self.until {
            None => Some(self.no_end),
            Some(until) => self.look(until, now()?),
        };
        Ok(rounds.map(|rounds| self.take(rounds)))
    }

    /// Takes rounds from the slice, as many as it has.
    fn take(&mut self, rounds: u64) -> u64 {
        let Some(left) = &mut self.slice else {
            return rounds;
        };
        let rounds = rounds.min(*left);
        *left -= rounds;
        rounds
    }

    /// How many rounds go on before it is looked again, if it is `now`; none when it is time.
    fn look(&mut self, until: u64, now: u64) -> Option<u64> {
        if let Some((before, rounds)) = self.last {
            let took = now.saturating_sub(before);
            self.pace = Some(Pace { took, rounds });
        }
        let left = until.checked_sub(now).filter(|left| *left > 0)?;
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
        translations.kept.need_timed(process);
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
        let mut deadline = self.deadline;
        let rounds = deadline.next_rounds(|| self.exact_time(process));
        self.deadline = deadline;
        let Some(rounds) = rounds? else {
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

    fn limit(until: Option<u64>, slice: bool) -> Deadline {
        Deadline::none().next(Limit { until, slice })
    }

    #[test]
    fn looks_are_few_and_the_last_step_is_small() {
        for (until, per_round) in [(1_000_000_000, 3), (5_000_000, 700), (50_000, 1)] {
            let mut deadline = limit(Some(until), false);
            let (mut now, mut looks) = (0, 0);
            while let Some(rounds) = deadline.next_rounds(|| Ok(now)).unwrap() {
                now += rounds * per_round;
                looks += 1;
            }
            assert!(looks < 100, "{looks}");
            let late = now - until;
            assert!(late <= FIRST_ROUNDS * per_round, "{late}");
        }
    }

    #[test]
    fn a_slice_ends_after_its_rounds_however_often_is_looked() {
        let mut alone = limit(None, true);
        assert_eq!(alone.first_rounds(None), SLICE_ROUNDS);
        let unasked = || unreachable!("nobody waits for a time");
        assert_eq!(alone.next_rounds(unasked).unwrap(), None);
        let mut waited_for = limit(Some(u64::MAX), true);
        let (mut now, mut all) = (0, waited_for.first_rounds(Some(0)));
        while let Some(rounds) = waited_for.next_rounds(|| Ok(now)).unwrap() {
            now += 5 * rounds;
            all += rounds;
        }
        assert_eq!(all, SLICE_ROUNDS);
    }
}
