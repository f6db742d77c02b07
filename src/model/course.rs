//! The course of a run: what its programs executed, in the order in which they reached it, and what the machine answered.
//!
//! Counts alone say that two runs differ. A course says when: between any two of its events it has the counts of what was
//! executed, so that two runs can be held against each other event by event.

use std::path::PathBuf;

/// Where code comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// Memory that is in no file: `[anonymous]`, `[vdso]`.
    Memory(String),
}

/// An instruction: which origin (an index of [`Courses::origins`]), and its offset in the file or its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Index of the origin.
    pub origin: u32,
    /// Offset in its file; the address where it is memory.
    pub offset: u64,
}

/// How control goes on behind an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next.
    On,
    /// To the next, after the machine itself was asked something: `rdtsc`, `cpuid`.
    Asks(&'static str),
    /// To the next or to the target.
    Branch(Place),
    /// To the target.
    Jump(Place),
    /// To the target, and later to the next.
    Call(Place),
    /// Where a register or memory says.
    Elsewhere,
}

/// One instruction of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it is.
    pub place: Place,
    /// Its length in bytes.
    pub bytes: u8,
    /// What comes after it.
    pub flow: Flow,
}

/// Instructions that lie behind each other and are entered at the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its instructions.
    pub steps: Vec<Step>,
    /// The counter of its entries.
    pub counter: u32,
    /// The counters of its side exits, with the number of instructions that are complete there.
    pub exits: Vec<(u32, u16)>,
}

/// What the machine answered a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The system call.
    pub call: &'static str,
    /// The file it is about, where it is about one.
    pub file: Option<PathBuf>,
    /// A sum of all that it answered.
    pub digest: u64,
    /// A sum of its parts in whatever order: the names in a folder. Absent where it has none.
    pub parts: Option<u64>,
    /// The answer for people, shortened.
    pub shown: String,
}

/// What marks a moment of a course.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Code was reached for the first time: its first instruction.
    Reached(Place),
    /// A system call was answered.
    Answered(Answer),
    /// A signal was delivered.
    Signal(i32),
    /// The program was over.
    Over,
}

/// A moment, and what happened since the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its position among the events of all programs of the run.
    pub at: u64,
    /// What it is.
    pub moment: Moment,
    /// Counters that have risen since the last event that read them, and by how much; absent where they were not read.
    pub risen: Option<Vec<(u32, u64)>>,
    /// Threads that the program had; one where they take turns, because no other then ran beside it.
    pub threads: usize,
    /// Where the thread will return to, innermost first, as far as its stack shows.
    pub callers: Vec<Place>,
}

/// One program of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// Its position among the run's programs, in order of start.
    pub row: usize,
    /// The program: path of its executable as given to exec.
    pub program: String,
    /// What it executed.
    pub blocks: Vec<Block>,
    /// Its moments, in order.
    pub events: Vec<Event>,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Courses {
    /// Where code came from.
    pub origins: Vec<Origin>,
    /// Its programs, in order of start.
    pub programs: Vec<Course>,
}
