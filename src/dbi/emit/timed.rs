//! Timed code: it can be stopped after so many rounds, wherever it computes.
//!
//! No program goes on for long without a jump or a call that is indirect, or leads backwards: what only returns to where it
//! was called from has an end. In timed code each of these takes one from [`slot::BUDGET`], and asks the tracer when that was
//! the last. Which they are depends on the program's code alone, and not on how it was cut into units: so the stop is at the
//! same place in every run.

use super::turns::NOT_ZERO;
use super::{ExitKind, Pc, Way, Writer, spilled};
use crate::dbi::assemble::RCX;
use crate::dbi::layout::slot;

impl<F: FnMut(usize, u64) -> Option<u64>> Writer<'_, F> {
    /// Whether going on from the unit's end at `target` takes from the budget.
    pub(super) fn takes_time(&self, target: u64) -> bool {
        self.site.timed && target < self.plan.end()
    }

    /// The end of a unit that goes on at `target` and takes from the budget, where flags are dead there.
    pub(super) fn finish_in_time(&mut self, target: u64) {
        let n = self.plan.insts.len() as u16;
        self.done = n;
        let over = self.leave_in_time(target);
        let (onward, linked) = self.destination(target);
        self.mark_as(Pc::At(target), 0);
        self.out.hot.decrement(slot::BUDGET);
        let patch = self.out.hot.branch_patchable(NOT_ZERO, onward);
        let way = Way {
            to: onward,
            patch: None,
            linked,
        };
        self.link(target, &way, patch, n);
        self.out.hot.jump(over);
    }

    /// The same over which a conditional branch goes on behind the unit that is not taken.
    pub(super) fn branch_in_time(&mut self, condition: u8, target: u64) {
        // jcc of the opposite condition, over what follows
        self.out.hot.raw(&[0x70 | condition ^ 1, 0]);
        let start = self.out.hot.bytes.len();
        self.finish_in_time(target);
        let over = self.out.hot.bytes.len() - start;
        self.out.hot.bytes[start - 1] = over as u8;
        self.finish(self.plan.end());
    }

    /// Cold code that leaves for `target` because the budget is used up; its address.
    fn leave_in_time(&mut self, target: u64) -> u64 {
        let n = self.plan.insts.len() as u16;
        let over = self.leave(target, n, true);
        self.exit(target, 0, n, ExitKind::Turn, false);
        over
    }

    /// Cold code that takes from the budget and goes on at `target`.
    pub(super) fn way_in_time(&mut self, target: u64) -> Way {
        let n = self.plan.insts.len() as u16;
        let over = self.leave_in_time(target);
        let (onward, linked) = self.destination(target);
        let to = self.out.cold.here();
        self.mark_cold(target, n, true, 0);
        self.out.cold.store(slot::RCX, RCX);
        self.mark_cold(target, n, true, spilled::RCX);
        let more = self.out.cold.count_down(slot::BUDGET);
        self.out.cold.restore_rcx();
        self.mark_cold(target, n, true, 0);
        self.out.cold.jump(over);
        self.mark_cold(target, n, true, spilled::RCX);
        self.out.cold.land(more);
        self.out.cold.restore_rcx();
        self.mark_cold(target, n, true, 0);
        let patch = self.out.cold.jump_patchable(onward);
        Way {
            to,
            patch: Some(self.site.cold + u64::from(patch)),
            linked,
        }
    }

    /// Jumps to where [`slot::TARGET`] says, which is in rcx as well; the program's own rcx is in its slot.
    pub(super) fn jump_indirect(&mut self, takes_time: bool) {
        self.mark_as(Pc::InSlot, spilled::RCX);
        if !self.site.timed || !takes_time {
            self.out.hot.low_half();
            self.out.hot.jump_table(self.site.table);
            return;
        }
        let hot = &mut self.out.hot;
        let more = hot.count_down(slot::BUDGET);
        hot.jump(self.site.miss);
        hot.land(more);
        hot.load(RCX, slot::TARGET);
        hot.low_half();
        hot.jump_table(self.site.table);
    }
}
