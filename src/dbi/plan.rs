//! Which instructions a unit of translation is made of, and where it is counted.
//!
//! A unit is a stretch of instructions that lie behind each other, entered at the first: it goes on behind forward
//! branches that are not taken, and ends with the first transfer of any other kind. What lies between two branches is a
//! basic block; one counter a block tells how often each of its instructions was executed.

use super::decode::{self, Flags, Inst, Kind, Refusal};

/// Original code, as the translator is given it.
pub trait Source {
    /// The bytes that may be executed from `pc` on, at most `most`; fewer where the memory ends, or none.
    fn code(&mut self, pc: u64, most: usize) -> &[u8];
}

/// Instructions a unit has at most: longer stretches become several.
pub const MOST_INSTRUCTIONS: usize = 96;

/// Basic blocks of a unit, at most.
pub const MOST_BLOCKS: usize = 7;

/// Bytes that a unit has at most.
pub const MOST_BYTES: usize = 512;

/// Bytes that tell whether an instruction belongs to a marker.
pub const MARKER_BYTES: usize = 32;

/// Instructions that are looked at behind a unit's end to learn whether flags are dead there.
const LOOKAHEAD: usize = 8;

/// The longest instruction (Intel SDM volume 1, section 11.1), and how many bytes decide what [`LOOKAHEAD`] are.
const LONGEST: usize = 15;

/// Bytes behind a unit's end, or behind the target of a branch, that may have been looked at.
pub const LOOKED_AT: u64 = (LOOKAHEAD * LONGEST) as u64;

/// Flags that the counting instruction, `inc`, changes.
const COUNTED_WITH: [Flags; 5] = [Flags::PF, Flags::AF, Flags::ZF, Flags::SF, Flags::OF];

/// One instruction of a unit.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Its offset from the unit's first byte.
    pub at: u16,
    /// What it is.
    pub inst: Inst,
}

/// Why there is no unit at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoUnit {
    /// Nothing can be executed there: the program faults, as it would without us.
    #[error("no code can be executed there")]
    NoCode,
    /// The first instruction cannot be translated.
    #[error("{0}")]
    Refused(Refusal),
}

/// Where a block is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CountAt {
    /// Before this instruction of the unit, where flags are dead: one `inc` does.
    Free(u8),
    /// At the block's beginning, leaving all flags alone.
    #[default]
    Entry,
}

/// A unit before it is translated.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Address of its first instruction.
    pub pc: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its instructions.
    pub insts: Vec<Planned>,
    /// What its flags say about it.
    pub findings: Findings,
    /// Whether it belongs to a marker.
    pub marker: bool,
    /// Whether it is to be stopped after so many rounds.
    pub timed: bool,
}

/// What flags say about a unit: its bytes alone do not tell, where they are looked at behind its ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Where each of its blocks is counted.
    pub count_at: [CountAt; MOST_BLOCKS],
    /// Whether every arithmetic flag is dead at its beginning.
    pub flags_dead: bool,
    /// Whether they are where it leads back to from its end, if that is timed.
    pub free_back: bool,
    /// Whether any of these rests on code that is not the unit's own.
    pub looks_behind: bool,
}

/// What limits a unit besides what it is made of.
pub struct Limits<'a> {
    /// Whether its code stays as it is until a system call changes it. Only then does the unit go on behind forward
    /// branches, and rest on code behind its ends.
    pub steady: bool,
    /// Whether it ends behind an instruction that writes memory, which may be the next instruction's.
    pub until_store: bool,
    /// Whether there is a unit at an address: another ends there, behind a branch.
    pub known: &'a dyn Fn(u64) -> bool,
    /// Whether code is a marker, which makes a unit of its own; at most [`MARKER_BYTES`] tell.
    pub marker: fn(&[u8]) -> bool,
    /// Whether it is to be stopped after so many rounds.
    pub timed: bool,
}

impl Plan {
    /// Address behind the last instruction.
    pub fn end(&self) -> u64 {
        self.pc + self.bytes.len() as u64
    }

    /// Address of instruction `index`, or of the end.
    pub fn pc_of(&self, index: usize) -> u64 {
        match self.insts.get(index) {
            Some(planned) => self.pc + u64::from(planned.at),
            None if index == 0 => self.pc,
            None => self.end(),
        }
    }

    /// The bytes of an instruction.
    pub fn bytes_of(&self, planned: &Planned) -> &[u8] {
        let start = usize::from(planned.at);
        &self.bytes[start..start + usize::from(planned.inst.len)]
    }

    /// Plans the unit at `pc` anew.
    pub fn make(
        &mut self,
        pc: u64,
        source: &mut impl Source,
        limits: &Limits,
    ) -> Result<(), NoUnit> {
        self.pc = pc;
        self.timed = limits.timed;
        self.insts.clear();
        self.bytes.clear();
        let code = source.code(pc, MOST_BYTES);
        let length = self.collect(code, limits)?;
        self.bytes.extend_from_slice(&code[..length]);
        self.findings = Findings::default();
        if limits.steady {
            self.look_behind(source);
        } else {
            self.find_free(|_| Flags::ALL);
        }
        Ok(())
    }

    /// Finds out what flags say, by the code behind its ends as well.
    pub fn look_behind(&mut self, source: &mut impl Source) {
        let looked = self.place_counters(source);
        self.findings.free_back = self.timed && self.free_back(source);
        self.findings.looks_behind = looked || self.findings.free_back;
    }

    /// The plan that was made before, from what was kept of it.
    pub fn again(&mut self, pc: u64, bytes: &[u8], instructions: u16, findings: Findings) {
        self.pc = pc;
        self.insts.clear();
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.findings = findings;
        let mut at = 0;
        for _ in 0..instructions {
            let inst = decode::decode(bytes.get(at..).unwrap_or_default(), pc + at as u64);
            let inst = if inst.kind == Kind::Unknown {
                undefined(inst)
            } else {
                inst
            };
            self.push(at, inst);
            at += usize::from(inst.len);
        }
    }

    /// Takes instructions up to the unit's end; its length in bytes.
    fn collect(&mut self, code: &[u8], limits: &Limits) -> Result<usize, NoUnit> {
        let (mut at, mut blocks) = (0, 1);
        while self.insts.len() < MOST_INSTRUCTIONS {
            let pc = self.pc + at as u64;
            let rest = &code[at..];
            if at > 0 && code.len() == MOST_BYTES && rest.len() < MARKER_BYTES {
                break;
            }
            let marker = (limits.marker)(rest);
            if self.insts.is_empty() {
                self.marker = marker;
            } else if marker != self.marker {
                break;
            }
            let inst = decode::decode(rest, pc);
            match inst.kind {
                // By itself: it may have to be begun again.
                Kind::Asks(_) if !self.insts.is_empty() => break,
                Kind::Unknown if rest.len() >= LONGEST && self.insts.is_empty() => {
                    self.push(at, undefined(inst));
                    return Ok((at + UNDEFINED_BYTES).min(code.len()));
                }
                Kind::Unknown if self.insts.is_empty() => return Err(NoUnit::NoCode),
                Kind::Refused(why) if self.insts.is_empty() => return Err(NoUnit::Refused(why)),
                Kind::Unknown | Kind::Refused(_) => break,
                _ => {}
            }
            self.push(at, inst);
            at += usize::from(inst.len);
            let goes_on = match inst.kind {
                Kind::Plain => !(limits.until_store && decode::writes_memory(rest)),
                Kind::Branch { target, .. } => {
                    blocks += 1;
                    let next = self.pc + at as u64;
                    let forward = target > pc && blocks <= MOST_BLOCKS;
                    limits.steady && forward && !(limits.known)(next)
                }
                _ => false,
            };
            if !goes_on {
                break;
            }
        }
        Ok(at)
    }

    fn push(&mut self, at: usize, inst: Inst) {
        self.insts.push(Planned {
            at: at as u16,
            inst,
        });
    }

    /// Chooses where its blocks are counted: looks behind its ends only where that is needed, and says whether it mattered.
    fn place_counters(&mut self, source: &mut impl Source) -> bool {
        if self.find_free(|_| Flags::ALL) {
            return false;
        }
        let without = self.findings;
        self.find_free(|target| Flags::ALL.minus(dead_at(target, source)));
        self.findings != without
    }

    /// [`Findings::free_back`].
    fn free_back(&self, source: &mut impl Source) -> bool {
        let last = self.insts.last().map(|last| last.inst.kind);
        let Some(
            Kind::Branch { target, .. }
            | Kind::CountBranch { target }
            | Kind::Jump { target }
            | Kind::Call { target },
        ) = last
        else {
            return false;
        };
        target < self.end() && dead_for_inc(Flags::ALL.minus(dead_at(target, source)))
    }

    /// Whether the block with an instruction ends behind it, and another of the unit begins.
    fn ends_block(&self, index: usize) -> bool {
        let is_branch = |planned: &Planned| matches!(planned.inst.kind, Kind::Branch { .. });
        index + 1 < self.insts.len() && self.insts.get(index).is_some_and(is_branch)
    }

    /// Whether a free place was found in each block, given what is live at each target of the unit.
    fn find_free(&mut self, mut live_at: impl FnMut(u64) -> Flags) -> bool {
        let last = self.insts.last().map(|last| last.inst.kind);
        let mut live = match last {
            Some(
                Kind::Plain
                | Kind::Branch { .. }
                | Kind::CountBranch { .. }
                | Kind::SystemCall
                | Kind::Asks(_),
            ) => live_at(self.end()),
            _ => Flags::ALL,
        };
        let mut block = (0..self.insts.len())
            .filter(|index| self.ends_block(*index))
            .count();
        let mut places = [CountAt::Entry; MOST_BLOCKS];
        if last == Some(Kind::Plain) && dead_for_inc(live) {
            places[block] = CountAt::Free(self.insts.len() as u8);
        }
        let blocks = block + 1;
        for (index, planned) in self.insts.iter().enumerate().rev() {
            if self.ends_block(index) {
                block -= 1;
            }
            live = match planned.inst.kind {
                Kind::Jump { target } | Kind::Call { target } => live_at(target),
                Kind::Branch { target, .. } | Kind::CountBranch { target, .. } => {
                    live.union(live_at(target))
                }
                Kind::Return { .. } | Kind::JumpTo | Kind::CallTo => Flags::ALL,
                _ => live.minus(planned.inst.kills),
            };
            live = live.union(planned.inst.reads);
            if dead_for_inc(live) {
                places[block] = CountAt::Free(index as u8);
            }
        }
        self.findings.flags_dead = live.is_empty();
        self.findings.count_at = places;
        !places[..blocks].contains(&CountAt::Entry)
    }
}

/// `ud2`: what stands for bytes that are no instruction.
pub const UNDEFINED: [u8; 2] = [0x0f, 0x0b];

/// Bytes of the original that stand for it.
const UNDEFINED_BYTES: usize = 1;

fn undefined(inst: Inst) -> Inst {
    Inst {
        len: UNDEFINED_BYTES as u8,
        kind: Kind::Unknown,
        reads: Flags::ALL,
        kills: Flags::NONE,
        ..inst
    }
}

fn dead_for_inc(live: Flags) -> bool {
    COUNTED_WITH.iter().all(|flag| !live.contains(*flag))
}

/// Flags that are overwritten at `pc` before anybody reads them.
fn dead_at(pc: u64, source: &mut impl Source) -> Flags {
    let code = source.code(pc, LOOKAHEAD * LONGEST);
    let (mut at, mut dead, mut read) = (0, Flags::NONE, Flags::NONE);
    for _ in 0..LOOKAHEAD {
        let inst = decode::decode(&code[at..], pc + at as u64);
        read = read.union(inst.reads.minus(dead));
        dead = dead.union(inst.kills.minus(read));
        at += usize::from(inst.len);
        if inst.kind != Kind::Plain || dead.union(read) == Flags::ALL {
            break;
        }
    }
    dead
}
