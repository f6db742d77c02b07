//! The code that all units of a zone share: the way to the tracer and back.

use super::spilled;
use crate::dbi::assemble::{Code, RAX, RCX};
use crate::dbi::layout::{self, INDIRECT, slot};

/// Code that every direct exit, and every indirect branch without a translation, goes through; see [`Common::make`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Common {
    /// Where direct exits go.
    pub leave: u64,
    /// Where indirect branches go that the table does not know.
    pub miss: u64,
    /// The `syscall` instruction, for calls made for us.
    pub call: u64,
    /// The offset of the call's number.
    pub number: u64,
    /// Behind the whole.
    pub end: u64,
    start: u64,
    joint: u64,
    tail: u64,
    /// Behind each of the loads that restore registers.
    restored: [u64; 3],
}

/// What a state in [`Common`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// Registers to be restored, [`spilled`].
    pub restore: u8,
    /// Whether an indirect branch led here: the original address is in [`slot::TARGET`], else it is the exit's.
    pub indirect: bool,
    /// Whether the tracer was asked already: the slot of the target then holds the answer.
    pub answered: bool,
}

impl Common {
    /// Writes the code.
    ///
    /// Both ways save rax and r11, which a system call needs or destroys, and rcx; then the tracer is asked, and its
    /// answer is in [`slot::TARGET`].
    pub fn make(code: &mut Code) -> Common {
        let start = code.here();
        let leave = start;
        code.store(slot::RCX, RCX);
        code.store(slot::RAX, RAX);
        let skip = 2;
        code.raw(&[0xeb, 0]);
        let jump_end = code.bytes.len();
        let miss = code.here();
        code.store_value(slot::REASON, INDIRECT);
        code.store(slot::RAX, RAX);
        code.bytes[jump_end + 1 - skip] = (code.bytes.len() - jump_end) as u8;
        let joint = code.here();
        code.store_r11(slot::R11);
        code.pad(1);
        let tail = code.here();
        code.set_eax(layout::MAGIC_CALL);
        let number = code.here() - 4;
        let call = code.here();
        code.system_call();
        code.load(RAX, slot::RAX);
        let rax = code.here();
        code.restore_rcx();
        let rcx = code.here();
        code.load_r11(slot::R11);
        let restored = [rax, rcx, code.here()];
        code.jump_slot(slot::TARGET);
        Common {
            leave,
            miss,
            call,
            number,
            end: code.here(),
            start,
            joint,
            tail,
            restored,
        }
    }

    /// What it means to stand at `address`, given the thread's reason to leave; none outside.
    pub fn between(&self, address: u64, reason: u32) -> Option<Between> {
        use spilled::{R11, RAX, RCX};
        if address < self.start || address >= self.end {
            return None;
        }
        let resume = self.call + 2;
        if address < resume {
            let indirect = reason == INDIRECT || (self.miss..self.joint).contains(&address);
            let rcx = if indirect { RCX } else { 0 };
            let rax = if address > self.tail { RAX } else { 0 };
            return Some(Between {
                restore: rcx | rax,
                indirect,
                answered: false,
            });
        }
        let restored = self.restored.partition_point(|behind| *behind <= address);
        let restore = [RAX | RCX | R11, RCX | R11, R11, 0][restored];
        Some(Between {
            restore,
            indirect: false,
            answered: true,
        })
    }
}
