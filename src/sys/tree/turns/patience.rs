//! How long a turn may take while others are ready.

use std::time::Duration;

/// The CPU time that a thread may take in its turn while others are ready, before it is interrupted wherever it stands. Far
/// more compute so long without a system call than wait in a loop that nobody can tell from work.
const PATIENCE: Duration = Duration::from_secs(20);

/// The same for one that goes round in one place: few compute so, and many wait.
const PATIENCE_IN_PLACE: Duration = Duration::from_secs(2);

/// The most pieces of code of a loop that waits: what it does meanwhile, and what it looks at.
pub(super) const PIECES_IN_PLACE: usize = 8;

/// How often is looked for a thread that takes so much.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The CPU time that a thread had taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    /// When it was first looked at.
    at_first: Duration,
    /// When it was last found somewhere else than before.
    elsewhere: Duration,
    /// At the last look.
    last: Duration,
}

impl Used {
    /// At the first look.
    pub(super) fn first(now: Duration) -> Used {
        Used {
            at_first: now,
            elsewhere: now,
            last: now,
        }
    }

    /// At a later look.
    pub(super) fn then(self, now: Duration, in_place: bool) -> Used {
        Used {
            elsewhere: if in_place { self.elsewhere } else { now },
            last: now,
            ..self
        }
    }

    /// Whether it is another's turn, if it may be one that this thread waits for or that will end it. One that is neither
    /// has time.
    pub(super) fn is_too_much(&self, may_matter: bool) -> bool {
        may_matter && self.last.saturating_sub(self.at_first) >= PATIENCE
            || self.last.saturating_sub(self.elsewhere) >= PATIENCE_IN_PLACE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_round_in_one_place_is_ended_soon_and_who_works_late() {
        let second = Duration::from_secs;
        let mut works = Used::first(second(5));
        let mut waits = works;
        for now in 6..25 {
            works = works.then(second(now), false);
            waits = waits.then(second(now), true);
            assert!(!works.is_too_much(true), "{now}");
            assert_eq!(waits.is_too_much(false), now >= 7, "{now}");
        }
        works = works.then(second(25), false);
        assert!(works.is_too_much(true) && !works.is_too_much(false));
    }
}
