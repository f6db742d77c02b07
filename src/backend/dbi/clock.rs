//! The virtual clock of a process: pure arithmetic over nanoseconds.
//!
//! It begins at 0 with the tree and advances by one a retired instruction, by what the process sleeps, and by one each
//! time it is read. Translated code reads it without the tracer up to a limit; at the limit the tracer adds what was
//! executed since. A child begins with its parent's time.

use std::time::{Duration, Instant};

use super::alarms::Which;
use crate::dbi::layout::{EPOCH_NS, UP_NS};

/// Times that the clock is brought up to date at each reading before the tracer lets more pass.
const EXACT_READINGS: u32 = 16;

/// Readings between two corrections double after so many corrections, up to the most.
const DOUBLES_AFTER: u32 = 8;
const MOST_READINGS: u64 = 4096;

/// A timer of the process that runs in real time.
#[derive(Clone, Copy, Debug)]
struct Timer {
    which: Which,
    fires: Instant,
    due: u64,
    every: u64,
}

/// What is known of a process's clock; its time is in memory that the process shares.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Its time less what it has executed, when it began and after each sleep.
    ahead: u64,
    corrections: u32,
    timers: Vec<Timer>,
}

/// A time, and until when it can be read without the tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Nanoseconds since the tree began.
    pub now: u64,
    /// The limit.
    pub limit: u64,
}

impl Clock {
    /// That of a process that begins at `now`.
    pub fn beginning_at(now: u64) -> Clock {
        Clock {
            ahead: now,
            ..Clock::default()
        }
    }

    /// That of a program that the process executes at `now`.
    pub fn next_program(&self, now: u64) -> Clock {
        Clock {
            ahead: now,
            ..self.clone()
        }
    }

    /// What it would show if it were brought up to date; however often it is asked, later readings are the same.
    pub fn exact(&self, shown: u64, executed: u64) -> u64 {
        shown.max(self.ahead.saturating_add(executed))
    }

    /// Brings `shown` up to date for a program that has executed so many instructions.
    pub fn correct(&mut self, shown: u64, executed: u64) -> Reading {
        self.corrections = self.corrections.saturating_add(1);
        let mut now = self.exact(shown, executed);
        if let Some(due) = self.fired(Instant::now()) {
            now = now.max(due);
        }
        // What it is ahead of its instructions stays.
        self.ahead = now.saturating_sub(executed);
        let doubled = self.corrections.saturating_sub(EXACT_READINGS) / DOUBLES_AFTER;
        let readings = match self.timers.is_empty() {
            true => 1u64.checked_shl(doubled).unwrap_or(MOST_READINGS),
            // One of them may fire at any time.
            false => 1,
        };
        Reading {
            now,
            limit: now + readings.min(MOST_READINGS),
        }
    }

    /// The process has slept so long.
    pub fn sleep(&mut self, ns: u64) {
        self.ahead = self.ahead.saturating_add(ns);
    }

    /// A timer is set to fire in `ns`, and then each `every` ns; 0: never.
    pub fn set_timer(&mut self, which: Which, now: u64, ns: u64, every: u64) {
        self.timers.retain(|timer| timer.which != which);
        if ns > 0 {
            self.timers.push(Timer {
                which,
                fires: Instant::now() + Duration::from_nanos(ns),
                due: now.saturating_add(ns),
                every,
            });
        }
    }

    /// The time of the last timer that has fired by `now`, if any.
    fn fired(&mut self, now: Instant) -> Option<u64> {
        let mut last = None;
        for timer in &mut self.timers {
            while timer.fires <= now {
                last = last.max(Some(timer.due));
                if timer.every == 0 {
                    timer.due = 0;
                    break;
                }
                timer.fires += Duration::from_nanos(timer.every);
                timer.due = timer.due.saturating_add(timer.every);
            }
        }
        self.timers.retain(|timer| timer.due > 0);
        last
    }
}

/// What a clock (`CLOCK_*` of linux/time.h) shows; none for those that are not virtual.
pub fn shown(clock: i32, now: u64) -> Option<u64> {
    const PROCESS: i32 = 2;
    const THREAD: i32 = 3;
    match clock {
        0 | 5 | 8 | 11 => Some(EPOCH_NS + now),
        1 | 4 | 6 | 7 | 9 => Some(UP_NS + now),
        PROCESS | THREAD => Some(now),
        _ => None,
    }
}

/// A moment as clock `clock` shows it, in nanoseconds since the tree began.
pub fn since_beginning(clock: i32, shows: u64) -> Option<u64> {
    Some(shows.saturating_sub(shown(clock, 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_what_was_executed_and_slept() {
        let mut clock = Clock::beginning_at(1000);
        assert_eq!(clock.correct(1000, 50).now, 1050);
        clock.sleep(7);
        assert_eq!(clock.correct(1050, 60).now, 1067);
    }

    #[test]
    fn time_never_goes_back_and_readings_count() {
        let mut clock = Clock::default();
        assert_eq!(clock.correct(500, 10).now, 500);
        assert_eq!(clock.correct(501, 12).now, 502);
    }

    #[test]
    fn asking_for_the_exact_time_changes_no_reading() {
        let (mut asked, mut other) = (Clock::default(), Clock::default());
        for executed in 0..400 {
            for _ in 0..executed % 5 {
                assert_eq!(asked.exact(0, executed), executed);
            }
            assert_eq!(asked.correct(0, executed), other.correct(0, executed));
        }
    }

    #[test]
    fn the_first_readings_are_exact_and_later_ones_seldom() {
        let mut clock = Clock::default();
        let readings: Vec<u64> = (0..400)
            .map(|executed| clock.correct(0, executed))
            .map(|reading| reading.limit - reading.now)
            .collect();
        assert!(readings[..16].iter().all(|readings| *readings == 1));
        assert_eq!(readings[399], MOST_READINGS);
        assert!(readings.is_sorted());
    }

    #[test]
    fn a_timer_that_has_fired_moves_the_clock_to_when_it_was_due() {
        let mut clock = Clock::default();
        clock.set_timer(Which::Interval(0), 100, 1, 0);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(clock.correct(100, 0).now, 101);
        clock.set_timer(Which::Interval(0), 101, 60_000_000_000, 0);
        let reading = clock.correct(101, 0);
        assert_eq!((reading.now, reading.limit), (101, 102));
    }

    #[test]
    fn moments_are_the_same_on_the_way_there_and_back() {
        for clock in [0, 1, 2] {
            assert_eq!(since_beginning(clock, shown(clock, 5).unwrap()), Some(5));
        }
        assert_eq!(shown(-6, 5), None);
    }
}
