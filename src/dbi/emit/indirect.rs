//! Indirect branches: how a unit leaves by one, and how the next is entered.
//!
//! A branch puts its target into [`slot::TARGET`] and jumps where the table says, whose entry the lower 16 bits choose. There
//! an entry of a unit compares the rest.

use super::{Pc, Writer, spilled};
use crate::dbi::assemble::{Code, RCX, relative};
use crate::dbi::decode;
use crate::dbi::layout::slot;
use crate::dbi::plan::{Planned, UNDEFINED};

/// What is skipped in a [`prologue`] that fits no address.
pub const FITS_NONE: u8 = 0;

/// Code that enters a unit by an indirect branch: compares the full address, and restores rcx. `otherwise` is executed
/// if it is another, with flags as they were. The lower 16 bits are equal, as they have chosen the entry of the table.
///
/// Returns the offset of the byte that says what is skipped if the address fits.
pub fn prologue(code: &mut Code, pc: u64, flags_dead: bool, otherwise: u64) -> u32 {
    let low = i32::try_from(pc);
    if let Ok(low) = low {
        code.load(RCX, slot::TARGET);
        code.add_rcx_long(-low);
    } else {
        code.load_ecx(slot::TARGET + 2);
        code.add_ecx(((pc >> 16) as i32).wrapping_neg());
    }
    let skipped = go_on_if_rcx_zero(code, otherwise);
    if low.is_err() {
        highest_bits(code, (pc >> 48) as i8, flags_dead, otherwise);
    }
    code.restore_rcx();
    skipped
}

/// Compares bits 48 to 63 of the target, which all are like the sign of `highest` in an address that can be executed:
/// whoever has others faults, and where flags are dead they may be lost by then.
fn highest_bits(code: &mut Code, highest: i8, flags_dead: bool, otherwise: u64) {
    const NOT_EQUAL: u8 = 5;
    if flags_dead {
        code.compare_word(slot::TARGET + 6, highest);
        code.branch(NOT_EQUAL, otherwise);
    } else {
        code.load_cx(slot::TARGET + 6);
        code.add_ecx(-i32::from(highest as u16));
        go_on_if_rcx_zero(code, otherwise);
    }
}

/// Jumps to `otherwise` unless rcx is 0; where the byte is that says what is skipped.
fn go_on_if_rcx_zero(code: &mut Code, otherwise: u64) -> u32 {
    const JUMP_BYTES: u8 = 5;
    code.skip_if_rcx_zero(JUMP_BYTES);
    let skipped = code.offset() - 1;
    code.jump(otherwise);
    skipped
}

impl<F: FnMut(usize, u64) -> Option<u64>> Writer<'_, F> {
    /// Pushes the address behind a call.
    pub(super) fn push_return(&mut self) {
        let to = self.plan.end();
        if let Ok(low) = i32::try_from(to) {
            self.out.hot.push_value(low);
        } else {
            let literal = self.literal(to);
            self.out.hot.push_literal(literal);
        }
    }

    /// Address of eight bytes that hold `value`.
    fn literal(&mut self, value: u64) -> u64 {
        while !self.out.cold.here().is_multiple_of(8) {
            self.out.cold.raw(&[0xcc]);
        }
        let address = self.out.cold.here();
        self.out.cold.raw(&value.to_le_bytes());
        address
    }

    pub(super) fn give_back(&mut self, pops: u16) {
        self.mark(0);
        self.out.hot.store(slot::RCX, RCX);
        self.mark(spilled::RCX);
        if pops == 0 {
            self.out.hot.pop_rcx();
        } else {
            self.out.hot.load_return();
            self.mark(spilled::RCX);
            self.out.hot.drop_stack(u32::from(pops) + 8);
        }
        self.look_up(false);
    }

    /// The unit is complete, and goes on where rcx says.
    fn look_up(&mut self, takes_time: bool) {
        self.done = self.plan.insts.len() as u16;
        self.mark_as(Pc::InRcx, spilled::RCX);
        self.out.hot.store(slot::TARGET, RCX);
        self.jump_indirect(takes_time);
    }

    /// rcx becomes the operand of an indirect branch; its own value is in its slot.
    fn load_operand(&mut self, planned: &Planned) {
        let bytes = self.plan.bytes_of(planned);
        let pc = self.plan.pc + u64::from(planned.at);
        self.mark(0);
        self.out.hot.store(slot::RCX, RCX);
        self.mark(spilled::RCX);
        let Some((load, at)) = decode::load_target(bytes, pc) else {
            self.out.hot.raw(&UNDEFINED);
            return;
        };
        let target = planned.inst.rip_target(bytes, pc);
        let (Some(at), Some(target)) = (at, target) else {
            self.out.hot.raw(&load);
            return;
        };
        let behind = self.out.hot.here() + load.len() as u64;
        if let Some(distance) = relative(behind, target) {
            let start = self.out.hot.bytes.len() + usize::from(at);
            self.out.hot.raw(&load);
            self.out.hot.bytes[start..start + 4].copy_from_slice(&distance.to_le_bytes());
        } else {
            self.out.hot.set_long(RCX, target);
            self.mark(spilled::RCX);
            // mov rcx, [rcx]
            self.out.hot.raw(&[0x48, 0x8b, 0x09]);
        }
    }

    pub(super) fn jump_to(&mut self, planned: &Planned) {
        self.load_operand(planned);
        self.look_up(true);
    }

    pub(super) fn call_to(&mut self, planned: &Planned) {
        self.load_operand(planned);
        self.mark(spilled::RCX);
        self.out.hot.store(slot::TARGET, RCX);
        self.mark(spilled::RCX);
        self.push_return();
        self.done = self.plan.insts.len() as u16;
        self.jump_indirect(true);
    }
}
