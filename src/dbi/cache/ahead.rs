//! What is translated before it is reached: the likeliest first.
//!
//! A stop of the program costs as much as some ten units do, so more than what is nearly sure pays, and not all that may be
//! reached. How likely that is: the product of the shares below, on the way there from what the program has reached.

use std::collections::BinaryHeap;

use crate::dbi::decode::Kind;
use crate::dbi::emit::{Exit, ExitKind};
use crate::dbi::plan::Plan;

/// How likely it is that something is reached, in parts of [`SURE`].
type Likelihood = u32;

/// It is reached.
const SURE: Likelihood = 1 << 16;

/// What is less likely waits until it is reached. With a fifth cc1 takes 0.95 of the time that it takes with a tenth.
const LEAST: Likelihood = SURE / 5;

// How often what follows a unit that was executed was executed, too: in python3, git log and cc1, translated with nothing
// left out.

/// A jump's or a call's target, and what follows a call: 0.87 to 0.98.
const GOES_ON: Likelihood = SURE / 16 * 15;

/// What follows a branch that is not taken: 0.69 to 0.87.
const NOT_TAKEN: Likelihood = SURE / 4 * 3;

/// The target of a branch: 0.3 to 0.6.
const TAKEN: Likelihood = SURE / 16 * 7;

/// An address that is to be translated. The greatest is the likeliest, and of several the one that was met last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    likely: Likelihood,
    met: u32,
    pub(super) pc: u64,
    /// Whether an indirect branch leads there.
    pub(super) indirect: bool,
}

impl Wanted {
    /// What the program has reached.
    pub(super) fn now(pc: u64, indirect: bool) -> Wanted {
        Wanted {
            likely: SURE,
            met: 0,
            pc,
            indirect,
        }
    }
}

/// What may be translated ahead in one stop.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    wanted: BinaryHeap<Wanted>,
    met: u32,
}

impl Ahead {
    /// Takes in what follows from a unit and is not translated.
    pub(super) fn follow(&mut self, unit: Wanted, plan: &Plan, exits: &[Exit]) {
        let last = plan.insts.last().map(|last| last.inst.kind);
        for exit in exits {
            if exit.kind == ExitKind::Link && !exit.born_linked {
                let share = share(exit, plan, last);
                self.add(unit, share, exit.target, false);
            }
        }
        if let Some(Kind::Call { .. } | Kind::CallTo) = last {
            self.add(unit, GOES_ON, plan.end(), true);
        }
    }

    fn add(&mut self, unit: Wanted, share: Likelihood, pc: u64, indirect: bool) {
        let product = u64::from(unit.likely) * u64::from(share) / u64::from(SURE);
        let likely = product as Likelihood;
        if likely < LEAST {
            return;
        }
        self.met += 1;
        self.wanted.push(Wanted {
            likely,
            met: self.met,
            pc,
            indirect,
        });
    }

    /// The next.
    pub(super) fn next(&mut self) -> Option<Wanted> {
        self.wanted.pop()
    }

    /// The program goes on.
    pub(super) fn clear(&mut self) {
        self.wanted.clear();
        self.met = 0;
    }
}

/// In how many of the times that a unit is executed this exit is, that of its last instruction or of one before.
fn share(exit: &Exit, plan: &Plan, last: Option<Kind>) -> Likelihood {
    let from_middle = usize::from(exit.done) < plan.insts.len();
    let is_branch = matches!(last, Some(Kind::Branch { .. } | Kind::CountBranch { .. }));
    match is_branch {
        _ if from_middle => TAKEN,
        true if exit.target != plan.end() => TAKEN,
        true => NOT_TAKEN,
        false => GOES_ON,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_is_next_and_of_equals_the_last() {
        let mut ahead = Ahead::default();
        let now = Wanted::now(0, false);
        ahead.add(now, TAKEN, 1, false);
        ahead.add(now, GOES_ON, 2, false);
        ahead.add(now, NOT_TAKEN, 3, false);
        ahead.add(now, GOES_ON, 4, true);
        let order: Vec<u64> = std::iter::from_fn(|| ahead.next())
            .map(|one| one.pc)
            .collect();
        assert_eq!(order, [4, 2, 3, 1]);
    }

    #[test]
    fn what_is_far_from_likely_is_left_alone() {
        let mut ahead = Ahead::default();
        ahead.add(Wanted::now(0, false), TAKEN, 1, false);
        let once = ahead.next().unwrap();
        ahead.add(once, TAKEN, 2, false);
        assert_eq!(ahead.next(), None);
        ahead.add(once, NOT_TAKEN, 3, false);
        assert_eq!(ahead.next().map(|one| one.pc), Some(3));
    }
}
