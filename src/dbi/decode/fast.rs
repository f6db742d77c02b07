//! Decoding through a table that fills itself from [`super::reference`].
//!
//! The length of an instruction, what it does with control and which flags it touches depend on few of its bits: the
//! opcode, some prefixes, and of ModRM whether the operand is memory and the field that extends the opcode (Intel SDM
//! volume 2, chapter 2 and appendix A). Those are the index into [`TABLE`]. The first instruction with an index is
//! decoded by the reference, and what was learned from it answers for all others; so the table cannot differ from the
//! reference except where the answer hangs on other bits. [`super::exceptions`] lists those, and the tests compare the
//! two over all indices with the other bits at random.
//!
//! What is rare or irregular is left to the reference.

use std::sync::atomic::{AtomicU32, Ordering};

use super::bytes::{
    BYTES, HAS_MODRM_SHIFT, MODRM, MODRM_BASE, MODRM_BYTES_SHIFT, MODRM_INDEX, MODRM_RIP, NO_OPCODE,
};
use super::exceptions;
use super::{Flags, Inst, Kind, LONGEST_BYTES, reference};

/// Enough bytes for any instruction, and a power of two: masked indices need no checks.
const WINDOW_BYTES: usize = 16;
type Window = [u8; WINDOW_BYTES];

/// Enough bytes for REX, the opcode, ModRM and SIB; they are shifted out of a register.
const WORD_BYTES: usize = 8;

/// Those of `mov` with an immediate or an address of 64 bits.
const LONGEST_IMMEDIATE_BYTES: usize = 8;

/// Opcode maps: four of the legacy encoding and three of VEX.
const MAPS: usize = 7;
/// Of the VEX maps, the one before the first.
const VEX_MAPS: usize = 3;
/// Map, opcode (8 bits), prefixes (4 bits), operands (4 bits).
pub(super) const ENTRIES: usize = MAPS << 16;

/// What was learned, by [`Shape::index`]; 0 where nothing was yet. Two threads that learn the same thing at once write
/// the same value, so no order is needed between them.
static TABLE: [AtomicU32; ENTRIES] = [const { AtomicU32::new(0) }; ENTRIES];

/// What an instruction is under which prefixes, and where its parts lie.
pub(super) struct Shape {
    /// Which entry of the table is its own.
    index: usize,
    /// Offset after the opcode.
    operands: usize,
    /// Offset after ModRM, SIB and displacement: where an immediate would be.
    end: usize,
    /// Whether the memory operand is rip-relative; its displacement comes after ModRM.
    rip_relative: bool,
    /// Begins with the opcode, and reaches to the end of an instruction of nothing but that and an immediate of 4 bytes.
    word: u64,
}

/// What legacy prefixes come to.
#[derive(Clone, Copy, Default)]
struct Lead {
    /// Offset of what follows them.
    at: usize,
    /// f2 is 1, f3 is 2, f0 is 3; and the bits below.
    bits: usize,
}

/// Bits of [`Lead::bits`]: prefix 66, and REX.W.
const OPERAND_SIZE: usize = 4;
const WIDE: usize = 8;

impl Lead {
    /// Prefixes that contradict each other, rare ones, and too many to be an instruction.
    const STRANGE: Lead = Lead {
        at: usize::MAX,
        bits: 0,
    };

    fn of(window: &Window) -> Lead {
        let mut lead = Lead::default();
        while lead.at <= WINDOW_BYTES - WORD_BYTES {
            let bits = match window[lead.at] {
                0x66 => OPERAND_SIZE,
                0xf2 => 1,
                0xf3 => 2,
                0xf0 => 3,
                0x26 | 0x2e | 0x36 | 0x3e | 0x64 => 0,
                0x65 | 0x67 => return Lead::STRANGE,
                _ => return lead,
            };
            let repeats = lead.bits & 3;
            if repeats != 0 && bits & 3 != 0 && repeats != bits {
                return Lead::STRANGE;
            }
            lead.bits |= bits;
            lead.at += 1;
        }
        Lead::STRANGE
    }
}

impl Shape {
    /// None where the encoding has no map here.
    fn of(window: &Window) -> Option<Shape> {
        let lead = Lead::of(window);
        let at = lead.at;
        match window.get(at)? {
            0xc5 if at == 0 => Shape::vex(window, 1, window[1] & 0x7f, 2),
            0xc4 if at == 0 => Shape::vex(window, window[1] & 0x1f, window[2], 3),
            _ => Shape::after(window, lead),
        }
    }

    /// As [`Shape::of`] after legacy prefixes, and none for VEX. Written so that the only branches are those that are rarely
    /// taken: one that is predicted wrongly costs as much as all the rest.
    #[inline(always)]
    fn after(window: &Window, lead: Lead) -> Option<Shape> {
        let word = word(window, lead.at)?;
        let rex = usize::from(word & 0xf0 == 0x40);
        let bits = lead.bits | word as usize & rex << 3;
        let word = word >> (8 * rex);
        if BYTES[usize::from(word as u8)] & NO_OPCODE != 0 {
            return None;
        }
        if word & 0xfdff == 0x380f {
            let (at, map) = (lead.at + rex + 2, 2 + (word >> 9 & 1) as usize);
            return Some(Shape::legacy(word >> 16, bits, map, at, 1));
        }
        let escape = usize::from(word as u8 == 0x0f);
        let word = word >> (8 * escape);
        let has_modrm = u16::from(BYTES[usize::from(word as u8)] >> HAS_MODRM_SHIFT >> escape & 1);
        let at = lead.at + rex + escape;
        Some(Shape::legacy(word, bits, escape, at, has_modrm))
    }

    /// An opcode in one of the first four maps; it lies at `at` and `word` begins with it.
    #[inline(always)]
    fn legacy(word: u64, bits: usize, map: usize, at: usize, has_modrm: u16) -> Shape {
        let operands = modrm(word, has_modrm);
        let opcode = usize::from(word as u8);
        let index = map << 16 | opcode << 8 | bits << 4 | usize::from(operands & MODRM_INDEX);
        Shape::new(word, index, at, operands)
    }

    /// Intel SDM volume 2, section 2.3.5. In the index are VEX.pp, W and L, and whether VEX.vvvv names a register:
    /// where it must not, the instruction is invalid.
    fn vex(window: &Window, map: u8, payload: u8, at: usize) -> Option<Shape> {
        if !(1..=3).contains(&map) {
            return None;
        }
        let word = word(window, at)?;
        let opcode = usize::from(word as u8);
        // `vzeroupper` is the one without operands.
        let has_modrm = u16::from((map, opcode) != (1, 0x77));
        let prefixes = usize::from(payload & 0x07 | payload >> 4 & 0x08);
        let unused = usize::from(payload & 0x78 == 0x78) << 1;
        let operands = modrm(word, has_modrm);
        let register = usize::from(operands & 1);
        let map = VEX_MAPS + usize::from(map);
        let index = map << 16 | opcode << 8 | prefixes << 4 | unused | register;
        Some(Shape::new(word, index, at, operands))
    }

    /// `word` begins with the opcode, at `at`, and goes on with what [`modrm`] said of it.
    #[inline(always)]
    fn new(word: u64, index: usize, at: usize, operands: u16) -> Shape {
        // mod 00 with a SIB byte whose base is 101: no base, but a displacement.
        let baseless = operands & MODRM_BASE != 0 && word & 0x07_0000 == 0x05_0000;
        let bytes = usize::from(operands >> MODRM_BYTES_SHIFT);
        Shape {
            index,
            operands: at + 1,
            end: at + 1 + bytes + (usize::from(baseless) << 2),
            rip_relative: operands & MODRM_RIP != 0,
            word,
        }
    }

    /// What the table has for these bytes.
    #[inline(always)]
    fn look_up(&self, window: &Window, pc: u64) -> Option<Inst> {
        let entry = Entry(TABLE[self.index].load(Ordering::Relaxed));
        match entry.0 & Entry::KNOWN {
            0 => None,
            _ => entry.apply(self, window, pc),
        }
    }

    fn map(&self) -> usize {
        self.index >> 16
    }

    fn opcode(&self) -> u8 {
        (self.index >> 8) as u8
    }

    /// From 2 to below this, any two counts of a shift by an immediate have the same effect on flags: the operand's size
    /// in bits (c0 shifts bytes; the others shift words under 66).
    fn count_limit(&self) -> u8 {
        match self.index >> 4 & (WIDE | OPERAND_SIZE) {
            _ if self.opcode() == 0xc0 => 8,
            0 => 32,
            OPERAND_SIZE => 16,
            _ => 64,
        }
    }
}

/// What the table holds for an index: bits 0-3 the bytes of immediates, 4-7 the kind, 8-13 [`Inst::reads`], 16-21
/// [`Inst::kills`], and the bits below.
#[derive(Clone, Copy)]
struct Entry(u32);

impl Entry {
    /// [`Inst::string`].
    const STRING: u32 = 1 << 24;
    /// A shift by an immediate: holds for ordinary counts only.
    const COUNTED: u32 = 1 << 25;
    /// Only the reference knows.
    const NEVER: u32 = 1 << 30;
    /// The rest is of use.
    const KNOWN: u32 = 1 << 31;

    /// The kind with a number other than 0. Those with an immediate have it right after the opcode.
    #[inline(always)]
    fn transfer(self, shape: &Shape, len: usize, pc: u64) -> Kind {
        let immediate = (shape.word >> 8) as i32;
        // Sign-extended from one byte or four, without a branch.
        let unused = 24 & u32::from(self.0 & 15 == 1).wrapping_neg();
        let displacement = immediate << unused >> unused;
        let next = pc.wrapping_add(len as u64);
        let target = next.wrapping_add_signed(displacement.into());
        let opcode = shape.word as u8;
        // The frequent ones differ little enough to be told apart without a branch either.
        let number = self.0 >> 4 & 15;
        if number <= 3 {
            return match number {
                1 => Kind::Branch {
                    condition: opcode & 15,
                    target,
                },
                2 => Kind::Call { target },
                _ => Kind::Jump { target },
            };
        }
        match number {
            4 if self.0 & 15 == 0 => Kind::Return { pops: 0 },
            4 => Kind::Return {
                pops: immediate as u16,
            },
            5 => Kind::JumpTo,
            6 => Kind::CallTo,
            7 => Kind::CountBranch { target },
            _ => Kind::SystemCall,
        }
    }

    /// The number of a kind; none of those that are never learned.
    fn number(kind: Kind) -> Option<u32> {
        Some(match kind {
            Kind::Plain => 0,
            Kind::Branch { .. } => 1,
            Kind::Call { .. } => 2,
            Kind::Jump { .. } => 3,
            Kind::Return { .. } => 4,
            Kind::JumpTo => 5,
            Kind::CallTo => 6,
            Kind::CountBranch { .. } => 7,
            Kind::SystemCall => 8,
            Kind::Asks(_) | Kind::Refused(_) | Kind::Unknown => return None,
        })
    }

    /// The instruction that this entry makes of bytes.
    #[inline(always)]
    fn apply(self, shape: &Shape, window: &Window, pc: u64) -> Option<Inst> {
        let len = shape.end + (self.0 & 15) as usize;
        if len > LONGEST_BYTES {
            return None;
        }
        if self.0 & Entry::COUNTED != 0 && !(2..shape.count_limit()).contains(&window[len - 1]) {
            return None;
        }
        let kind = match self.0 >> 4 & 15 {
            0 => Kind::Plain,
            _ => self.transfer(shape, len, pc),
        };
        Some(Inst {
            len: len as u8,
            kind,
            reads: Flags((self.0 >> 8) as u8),
            kills: Flags((self.0 >> 16) as u8),
            rip_disp: shape.rip_relative.then_some(shape.operands as u8 + 1),
            string: self.0 & Entry::STRING != 0,
        })
    }

    /// What an instruction teaches about all of its index.
    fn learned_from(inst: &Inst, shape: &Shape) -> Option<Entry> {
        let immediate = usize::from(inst.len).checked_sub(shape.end)?;
        let kind = Entry::number(inst.kind)?;
        if immediate > LONGEST_IMMEDIATE_BYTES {
            return None;
        }
        let counted = match exceptions::is_counted(shape.map(), shape.opcode()) {
            true => Entry::COUNTED,
            false => 0,
        };
        let string = if inst.string { Entry::STRING } else { 0 };
        let flags = u32::from(inst.reads.0) << 8 | u32::from(inst.kills.0) << 16;
        Some(Entry(
            immediate as u32 | kind << 4 | flags | string | counted | Entry::KNOWN,
        ))
    }
}

/// What follows the opcode with which `word` begins, as [`MODRM`] has it; 0 if `has_modrm` is 0 rather than 1.
/// (Of a `bool` the compiler would make a branch.)
#[inline(always)]
fn modrm(word: u64, has_modrm: u16) -> u16 {
    // Not by the row of a table: the two look-ups need not wait for each other.
    MODRM[usize::from((word >> 8) as u8)] & has_modrm.wrapping_neg()
}

/// The bytes from `at` on; none when they reach past the window.
#[inline(always)]
fn word(window: &Window, at: usize) -> Option<u64> {
    let bytes = window.get(at..)?.first_chunk::<WORD_BYTES>()?;
    Some(u64::from_le_bytes(*bytes))
}

/// As [`super::decode`]. It decodes what has neither legacy prefixes nor VEX itself, and leaves the rest to others: a
/// function that calls nothing before its end need save no registers.
#[inline(always)]
pub(super) fn decode(bytes: &[u8], pc: u64) -> Inst {
    if let Some(window) = bytes.first_chunk()
        && let Some(shape) = Shape::after(window, Lead::default())
        && let Some(inst) = shape.look_up(window, pc)
    {
        return inst;
    }
    decode_prefixed(bytes, pc)
}

/// As [`decode`], for everything.
#[inline(never)]
fn decode_prefixed(bytes: &[u8], pc: u64) -> Inst {
    if let Some(window) = bytes.first_chunk()
        && let Some(shape) = Shape::of(window)
        && let Some(inst) = shape.look_up(window, pc)
    {
        return inst;
    }
    learn(bytes, pc)
}

/// Asks the reference, and notes the answer in the table unless it holds for these very bytes only.
#[cold]
#[inline(never)]
fn learn(bytes: &[u8], pc: u64) -> Inst {
    let inst = reference::decode(bytes, pc);
    if let Some(window) = bytes.first_chunk()
        && let Some(shape) = Shape::of(window)
        && TABLE[shape.index].load(Ordering::Relaxed) == 0
    {
        let note = note(&inst, &shape, window, pc);
        TABLE[shape.index].store(note, Ordering::Relaxed);
    }
    inst
}

/// What the table shall hold after an instruction has been seen; 0 if it teaches nothing.
fn note(inst: &Inst, shape: &Shape, window: &Window, pc: u64) -> u32 {
    let operands = shape.index & 15;
    if exceptions::hangs_on_more(shape.map(), shape.opcode(), operands) {
        return Entry::NEVER;
    }
    // Perhaps only because these prefixes and operands make it too long.
    if inst.kind == Kind::Unknown && shape.end + LONGEST_IMMEDIATE_BYTES > LONGEST_BYTES {
        return 0;
    }
    let Some(entry) = Entry::learned_from(inst, shape) else {
        return Entry::NEVER;
    };
    match entry.apply(shape, window, pc) {
        Some(same) if same == *inst => entry.0,
        // A shift by no ordinary count teaches nothing of those.
        None => 0,
        Some(_) => Entry::NEVER,
    }
}

/// The index of an instruction, and what it would teach of it were it the first.
#[cfg(test)]
pub(super) fn lesson(bytes: &[u8], pc: u64) -> Option<(usize, u32)> {
    let window = bytes.first_chunk()?;
    let shape = Shape::of(window)?;
    let inst = reference::decode(bytes, pc);
    Some((shape.index, note(&inst, &shape, window, pc)))
}
