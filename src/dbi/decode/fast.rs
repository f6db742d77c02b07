//! Decoding through a table that fills itself from [`super::reference`].
//!
//! The length of an instruction, what it does with control and which flags it touches depend on few of its bits: the
//! opcode, some prefixes, and of ModRM whether the operand is memory and the field that extends the opcode (Intel SDM
//! volume 2, chapter 2 and appendix A). Those are the index into [`TABLE`]. The first instruction with an index is
//! decoded by the reference, and what was learned from it answers for all others; so the table cannot differ from the
//! reference except where the answer hangs on other bits. [`super::exceptions`] lists those, and the tests compare the
//! two over all indices with the other bits at random.
//!
//! It answers `None` for what the caller must ask the reference instead.

use std::sync::atomic::{AtomicU32, Ordering};

use super::bytes::{BYTES, LEGACY_PREFIX, MODRM, MODRM_BYTES, NO_OPCODE};
use super::exceptions;
use super::{Flags, Inst, Kind, LONGEST_BYTES, reference};

/// Enough bytes for any instruction, and a power of two: masked indices need no checks.
const WINDOW_BYTES: usize = 16;
type Window = [u8; WINDOW_BYTES];

/// Enough bytes for REX, the opcode, ModRM and SIB; they are shifted out of a register.
const WORD_BYTES: usize = 8;

/// Opcode maps: four of the legacy encoding and three of VEX.
const MAPS: usize = 7;
/// Of the VEX maps, the one before the first.
const VEX_MAPS: usize = 3;
/// Map, opcode (8 bits), prefixes (4 bits), operands (4 bits).
const ENTRIES: usize = MAPS << 16;

/// What was learned, by [`Shape::index`]; 0 where nothing was yet. Two threads that learn the same thing at once write
/// the same value, so no order is needed between them.
static TABLE: [AtomicU32; ENTRIES] = [const { AtomicU32::new(0) }; ENTRIES];

/// What an instruction is under which prefixes, and where its parts lie.
pub(super) struct Shape {
    /// Which entry of the table is its own.
    index: usize,
    /// Offset after ModRM, SIB and displacement: where an immediate would be.
    end: usize,
    /// Offset of a rip-relative displacement, or 0.
    rip_disp: u8,
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

    #[inline(never)]
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
    /// None where the encoding has no map here. Written so that the only branches are those that are rarely taken: one that
    /// is predicted wrongly costs as much as all the rest.
    #[inline(always)]
    fn of(window: &Window) -> Option<Shape> {
        let (lead, word) = match BYTES[usize::from(window[0])] & LEGACY_PREFIX {
            0 => (Lead::default(), word(window, 0)?),
            _ => {
                let lead = Lead::of(window);
                (lead, word(window, lead.at)?)
            }
        };
        let rex = usize::from(word & 0xf0 == 0x40);
        let bits = lead.bits | word as usize & rex << 3;
        let word = word >> (8 * rex);
        if BYTES[usize::from(word as u8)] & NO_OPCODE != 0 {
            return Shape::without_opcode(window, lead.at + rex);
        }
        if word & 0xfdff == 0x380f {
            let (at, map) = (lead.at + rex + 2, 2 + (word >> 9 & 1) as usize);
            return Some(Shape::legacy(word >> 16, bits, map, at, true));
        }
        let escape = usize::from(word as u8 == 0x0f);
        let word = word >> (8 * escape);
        let has_modrm = BYTES[usize::from(word as u8)] & (MODRM << escape) != 0;
        let at = lead.at + rex + escape;
        Some(Shape::legacy(word, bits, escape, at, has_modrm))
    }

    /// An opcode in one of the first four maps; it lies at `at` and `word` begins with it.
    #[inline(always)]
    fn legacy(word: u64, bits: usize, map: usize, at: usize, has_modrm: bool) -> Shape {
        let register = usize::from(word & 0xc000 == 0xc000);
        let operands = (word >> 10) as usize & 14 | register;
        let operands = operands & usize::from(has_modrm).wrapping_neg();
        let opcode = usize::from(word as u8);
        let index = map << 16 | opcode << 8 | bits << 4 | operands;
        Shape::with_operands(word, index, at, has_modrm)
    }

    /// Where an opcode should be at `at` is a prefix: VEX, or what has no map here.
    #[inline(never)]
    fn without_opcode(window: &Window, at: usize) -> Option<Shape> {
        match window[0] {
            0xc5 if at == 0 => Shape::vex(window, 1, window[1] & 0x7f, 2),
            0xc4 if at == 0 => Shape::vex(window, window[1] & 0x1f, window[2], 3),
            _ => None,
        }
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
        let has_modrm = (map, opcode) != (1, 0x77);
        let prefixes = usize::from(payload & 0x07 | payload >> 4 & 0x08);
        let unused = usize::from(payload & 0x78 == 0x78) << 1;
        let register = usize::from(has_modrm && word & 0xc000 == 0xc000);
        let map = VEX_MAPS + usize::from(map);
        let index = map << 16 | opcode << 8 | prefixes << 4 | unused | register;
        Some(Shape::with_operands(word, index, at, has_modrm))
    }

    /// Goes over ModRM, SIB and displacement (Intel SDM volume 2, sections 2.1.3 and 2.1.5) after the opcode at `at`, with
    /// which `word` begins.
    #[inline(always)]
    fn with_operands(word: u64, index: usize, at: usize, has_modrm: bool) -> Shape {
        // mod 00 with a SIB byte whose base is 101: no base, but a displacement.
        let baseless = usize::from(word & 0x07_c700 == 0x05_0400) << 2;
        let operands = usize::from(MODRM_BYTES[usize::from((word >> 8) as u8)]) + baseless;
        let mask = usize::from(has_modrm).wrapping_neg();
        // mod 00 and rm 101.
        let relative = usize::from(word & 0xc700 == 0x0500).wrapping_neg();
        Shape {
            index,
            end: at + 1 + (operands & mask),
            rip_disp: ((at + 2) & relative & mask) as u8,
            word,
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
    const STRING: u32 = 1 << 14;
    /// A shift by an immediate: holds for ordinary counts only.
    const COUNTED: u32 = 1 << 15;
    /// Something was learned.
    const KNOWN: u32 = 1 << 30;
    /// What was learned is that only the reference knows.
    const NEVER: u32 = Entry::KNOWN | 1 << 31;

    /// The kind with a number other than 0. Those with an immediate have it right after the opcode.
    #[inline(always)]
    fn transfer(self, shape: &Shape, len: usize, pc: u64) -> Kind {
        let immediate = (shape.word >> 8) as i32;
        let displacement = match self.0 & 15 {
            1 => i32::from(immediate as i8),
            _ => immediate,
        };
        let next = pc.wrapping_add(len as u64);
        let target = next.wrapping_add_signed(displacement.into());
        let opcode = shape.word as u8;
        match self.0 >> 4 & 15 {
            1 => Kind::Jump { target },
            2 => Kind::Branch {
                condition: opcode & 15,
                target,
            },
            3 => Kind::CountBranch {
                opcode,
                address_size_32: false,
                target,
            },
            4 => Kind::Call { target },
            5 if self.0 & 15 == 0 => Kind::Return { pops: 0 },
            5 => Kind::Return {
                pops: immediate as u16,
            },
            6 => Kind::JumpTo,
            7 => Kind::CallTo,
            _ => Kind::SystemCall,
        }
    }

    /// The number of a kind; none of those that are never learned.
    fn number(kind: Kind) -> Option<u32> {
        Some(match kind {
            Kind::Plain => 0,
            Kind::Jump { .. } => 1,
            Kind::Branch { .. } => 2,
            Kind::CountBranch { .. } => 3,
            Kind::Call { .. } => 4,
            Kind::Return { .. } => 5,
            Kind::JumpTo => 6,
            Kind::CallTo => 7,
            Kind::SystemCall => 8,
            Kind::Refused(_) | Kind::Unknown => return None,
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
            reads: Flags((self.0 >> 8) as u8 & Flags::ALL.0),
            kills: Flags((self.0 >> 16) as u8 & Flags::ALL.0),
            rip_disp: (shape.rip_disp != 0).then_some(shape.rip_disp),
            string: self.0 & Entry::STRING != 0,
        })
    }

    /// What an instruction teaches about all of its index.
    fn learned_from(inst: &Inst, shape: &Shape) -> Option<Entry> {
        let immediate = usize::from(inst.len).checked_sub(shape.end)?;
        let kind = Entry::number(inst.kind)?;
        if immediate > 8 {
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

/// The bytes from `at` on; none when they reach past the window.
#[inline(always)]
fn word(window: &Window, at: usize) -> Option<u64> {
    let bytes = window.get(at..)?.first_chunk::<WORD_BYTES>()?;
    Some(u64::from_le_bytes(*bytes))
}

/// As [`super::decode`], for what the table can answer already.
#[inline(always)]
pub(super) fn decode(bytes: &[u8], pc: u64) -> Option<Inst> {
    let window = bytes.first_chunk::<WINDOW_BYTES>()?;
    let shape = Shape::of(window)?;
    let entry = Entry(TABLE[shape.index].load(Ordering::Relaxed));
    if entry.0 & Entry::NEVER != Entry::KNOWN {
        return None;
    }
    entry.apply(&shape, window, pc)
}

/// As [`super::decode`], for what [`decode`] could not answer: asks the reference, and notes the answer in the table unless
/// it holds for these very bytes only.
#[cold]
#[inline(never)]
pub(super) fn learn(bytes: &[u8], pc: u64) -> Inst {
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

/// What the table shall hold after an instruction has been seen.
fn note(inst: &Inst, shape: &Shape, window: &Window, pc: u64) -> u32 {
    let operands = shape.index & 15;
    let entry = match exceptions::hangs_on_more(shape.map(), shape.opcode(), operands) {
        true => None,
        false => Entry::learned_from(inst, shape),
    };
    let Some(entry) = entry else {
        return Entry::NEVER;
    };
    match entry.apply(shape, window, pc) {
        Some(same) if same == *inst => entry.0,
        // A shift by no ordinary count teaches nothing of those.
        None => 0,
        Some(_) => Entry::NEVER,
    }
}
