//! What is remembered of a translated unit. Plain data: an image of the cache holds it as it is.

use bytemuck::{Pod, Zeroable};

use crate::dbi::plan::{CountAt, Findings};

/// [`Unit::count_at`] for [`CountAt::Entry`].
const AT_ENTRY: u16 = u16::MAX;

/// Of [`Unit::free_edges`]: its [`free_back`](Findings::free_back).
const FREE_BACK: u32 = 1 << 8;

/// [`Unit::free_edges`].
pub(super) fn stored_edges(findings: Findings) -> u32 {
    let back = if findings.free_back { FREE_BACK } else { 0 };
    u32::from(findings.free_edges) | back
}

/// [`Unit::count_at`].
pub(super) fn stored(count_at: CountAt) -> u16 {
    match count_at {
        CountAt::Free(at) => at as u16,
        CountAt::Entry => AT_ENTRY,
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
    /// Its counter, the first of its exits, and how many those are.
    pub counter: u32,
    pub(super) first_exit: u32,
    pub(super) exits: u16,
    /// Number of original bytes.
    pub bytes: u16,
    /// Number of instructions.
    pub instructions: u16,
    pub(super) body: u16,
    pub(super) count_at: u16,
    pub(super) zone: u8,
    /// What it is, of [`is`].
    pub(super) is: u8,
    /// Its [`free_edges`](Findings::free_edges), and [`FREE_BACK`].
    pub(super) free_edges: u32,
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
}

impl Unit {
    /// What its flags said about it when it was made.
    pub(super) fn findings(&self) -> Findings {
        Findings {
            count_at: match self.count_at {
                AT_ENTRY => CountAt::Entry,
                at => CountAt::Free(usize::from(at)),
            },
            flags_dead: self.flags_dead(),
            free_edges: self.free_edges as u8,
            free_back: self.timed() && self.free_edges & FREE_BACK != 0,
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
