//! What is remembered of a translated unit. Plain data: an image of the cache holds it as it is.

use bytemuck::{Pod, Zeroable};

use crate::dbi::plan::{CountAt, Findings, MOST_BLOCKS};

/// In [`Unit::count_at`]: [`CountAt::Entry`].
const AT_ENTRY: u8 = u8::MAX;

/// [`Unit::count_at`].
pub(super) fn stored(count_at: [CountAt; MOST_BLOCKS]) -> [u8; MOST_BLOCKS] {
    count_at.map(|place| match place {
        CountAt::Free(at) => at,
        CountAt::Entry => AT_ENTRY,
    })
}

/// A basic block of a unit, and what counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its counter.
    pub counter: u32,
    /// Its first instruction, by its number in the unit.
    pub from: u16,
    /// The first behind it.
    pub to: u16,
}

impl Block {
    /// How many instructions it has.
    pub fn instructions(&self) -> u16 {
        self.to - self.from
    }

    /// Those that its counter says are executed and are not, or the reverse, where the first `done` of its unit are.
    pub fn in_question(&self, done: u16, counted: bool) -> std::ops::Range<usize> {
        match counted {
            true => done.into()..self.to.into(),
            false => self.from.into()..done.into(),
        }
    }
}

/// A translated unit, as far as it must be remembered.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Unit {
    /// Original address of its first instruction.
    pub pc: u64,
    /// Where its original bytes are kept, and how many they are.
    pub(super) bytes_at: u32,
    pub(super) hot: u32,
    pub(super) cold: u32,
    /// Offset of its entry for indirect branches in the zone; 0 if it has none.
    pub(super) prologue: u32,
    /// The counter of its first block, by which it is entered; those of the others follow.
    pub counter: u32,
    /// The first of its exits.
    pub(super) first_exit: u32,
    /// Number of original bytes.
    pub bytes: u16,
    /// Number of instructions.
    pub instructions: u16,
    pub(super) body: u16,
    /// How many exits it has.
    pub(super) exits: u8,
    pub(super) zone: u8,
    /// What it is, of [`is`].
    pub(super) is: u8,
    /// Where its blocks are counted: instructions by their numbers, or [`AT_ENTRY`].
    pub(super) count_at: [u8; MOST_BLOCKS],
}

/// What units are, as bits.
pub(super) mod is {
    /// Every arithmetic flag is dead at its beginning.
    pub const FLAGS_DEAD: u8 = 1;
    /// It looks at its original bytes at each entry.
    pub const CHECKED: u8 = 2;
    /// It belongs to a marker.
    pub const MARKER: u8 = 4;
    /// It is a client request.
    pub const REQUEST: u8 = 8;
    /// It rests on code behind its ends.
    pub const LOOKS_BEHIND: u8 = 16;
    /// It can be stopped after so many rounds.
    pub const TIMED: u8 = 32;
    /// Where it is timed, flags are dead where it leads back to.
    pub const FREE_BACK: u8 = 64;
}

impl Unit {
    /// What its flags said about it when it was made.
    pub(super) fn findings(&self) -> Findings {
        Findings {
            count_at: self.count_at.map(|place| match place {
                AT_ENTRY => CountAt::Entry,
                at => CountAt::Free(at),
            }),
            flags_dead: self.flags_dead(),
            free_back: self.timed() && self.is & is::FREE_BACK != 0,
            looks_behind: self.looks_behind(),
        }
    }

    pub(super) fn flags_dead(&self) -> bool {
        self.is & is::FLAGS_DEAD != 0
    }

    /// Whether its own code overlaps `start..end`.
    pub(super) fn overlaps(&self, start: u64, end: u64) -> bool {
        self.pc < end && start < self.pc + u64::from(self.bytes).max(1)
    }

    /// Whether it rests on code behind its ends: on which flags that reads.
    pub(super) fn looks_behind(&self) -> bool {
        self.is & is::LOOKS_BEHIND != 0
    }

    pub(super) fn checked(&self) -> bool {
        self.is & is::CHECKED != 0
    }

    /// Whether it belongs to a marker: its instructions count nowhere.
    pub fn marker(&self) -> bool {
        self.is & is::MARKER != 0
    }

    pub(super) fn timed(&self) -> bool {
        self.is & is::TIMED != 0
    }

    pub(super) fn request(&self) -> bool {
        self.is & is::REQUEST != 0
    }
}
