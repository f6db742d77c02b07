//! Where threads take turns: places at which one may have to let another go on.
//!
//! What waits for another thread without the kernel's help would wait for ever: a loop around `pause`, or one that does
//! nothing but look at memory. Both have so many rounds a turn.

use super::asks::Jump;
use super::{ExitKind, Writer, spilled};
use crate::dbi::assemble::{Code, RCX};
use crate::dbi::decode::{self, Kind};
use crate::dbi::layout::slot;
use crate::dbi::plan::Plan;

/// Condition of a branch that is taken if the result was not 0 (Intel SDM volume 1, appendix B).
pub(super) const NOT_ZERO: u8 = 5;

/// A `syscall` for which threads take turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallInTurn {
    ask: Jump,
    /// The address of the instruction itself.
    call: u64,
    /// The address behind it.
    behind: u64,
}

/// Whether a unit is a loop that may wait for another thread.
fn may_wait(plan: &Plan) -> bool {
    let loops = plan.insts.last().is_some_and(|last| match last.inst.kind {
        Kind::Branch { target, .. } | Kind::Jump { target } => target == plan.pc,
        _ => false,
    });
    let instructions = || plan.insts.iter().map(|planned| plan.bytes_of(planned));
    loops && decode::looks_only(&instructions().collect::<Vec<_>>())
}

impl<F: FnMut(usize, u64) -> Option<u64>> Writer<'_, F> {
    /// A `pause`, which is not made: no other thread of the process runs. After so many it is another's turn.
    pub(super) fn pause(&mut self) {
        self.mark(0);
        self.out.hot.store(slot::RCX, RCX);
        self.mark(spilled::RCX);
        let cold = self.out.cold.here();
        self.out.hot.jump(cold);
        let behind = self.out.hot.here();
        self.before_question(spilled::RCX);
        let more = self.out.cold.count_down(slot::PAUSES);
        self.out.cold.restore_rcx();
        self.before_question(0);
        self.leave_before();
        self.before_question(spilled::RCX);
        self.out.cold.land(more);
        self.out.cold.restore_rcx();
        self.mark_question(1, 0, 0);
        self.out.cold.jump(behind);
        self.asked();
    }

    /// A `syscall` before which the tracer is asked if threads take turns.
    pub(super) fn system_call_in_turn(&mut self) -> CallInTurn {
        const JUMP_BYTES: u8 = 5;
        self.mark(0);
        self.out.hot.store(slot::RCX, RCX);
        self.mark(spilled::RCX);
        self.out.hot.load(RCX, slot::TURNS);
        self.out.hot.skip_if_rcx_zero(JUMP_BYTES);
        let ask = self.out.hot.jump_ahead();
        let call = self.out.hot.here();
        self.out.hot.system_call();
        let behind = self.out.hot.here();
        CallInTurn { ask, call, behind }
    }

    /// The cold code of [`Writer::system_call_in_turn`]: calls that never wait are made, but for the last of a turn.
    pub(super) fn ask_for_turn(&mut self, call: CallInTurn) {
        let cold = self.out.cold.here();
        self.out.hot.land_at(call.ask, cold);
        self.before_question(spilled::RCX);
        let more = self.out.cold.count_down(slot::CALLS);
        let last = self.out.cold.jump_ahead();
        self.out.cold.land(more);
        self.out.cold.look_up_ax(slot::QUICK);
        let quick = self.out.cold.unless_rcx_zero();
        self.out.cold.land(last);
        self.out.cold.restore_rcx();
        self.before_question(0);
        let pc = self.plan.pc_of(usize::from(self.done));
        self.leave(pc, self.done, self.counted);
        let (done, kind) = (self.done, ExitKind::Call);
        self.exit(pc, call.behind, done, kind, false);
        self.before_question(spilled::RCX);
        self.out.cold.land(quick);
        self.out.cold.jump(call.call);
    }

    /// Where a unit goes that begins again: to `own`, and after so many rounds to the tracer.
    pub(super) fn next_round(&mut self, own: u64) -> u64 {
        if !self.site.machine.turns || !may_wait(self.plan) {
            return own;
        }
        let (pc, n) = (self.plan.pc, self.plan.insts.len() as u16);
        let address = self.out.cold.here();
        self.mark_cold(pc, n, true, 0);
        if self.plan.findings.flags_dead {
            self.out.cold.decrement(slot::ROUNDS);
            self.out.cold.branch(NOT_ZERO, own);
        } else {
            self.out.cold.store(slot::RCX, RCX);
            self.mark_cold(pc, n, true, spilled::RCX);
            let more = self.out.cold.count_down(slot::ROUNDS);
            self.out.cold.restore_rcx();
            self.mark_cold(pc, n, true, 0);
            let over = self.out.cold.jump_ahead();
            self.mark_cold(pc, n, true, spilled::RCX);
            self.out.cold.land(more);
            self.out.cold.restore_rcx();
            self.mark_cold(pc, n, true, 0);
            self.out.cold.jump(own);
            self.out.cold.land(over);
        }
        self.leave(pc, n, true);
        self.exit(pc, 0, n, ExitKind::Turn, false);
        address
    }
}

impl Code {
    /// Takes one from a slot and leaves the flags alone; rcx is lost. The jump is taken unless that made it 0.
    pub(super) fn count_down(&mut self, at: u32) -> Jump {
        self.load(RCX, at);
        self.add_rcx(-1);
        self.store(at, RCX);
        self.unless_rcx_zero()
    }
}
