//! Callgrind's client requests as a backend meets them that executes the program itself: what they ask for, and the
//! chunks between them. `step` and `dbi` share it.
//!
//! It does not count: a backend keeps [`Marks`] for each process, counts only while [`Marks::counting`] says so, and
//! gives what it has counted to [`Chunks`] at every dump and at the end of every program.

use std::io;

use super::BackendError;
use super::profile::OffsetProfile;
use super::regions::{Chunk, ChunkEnd, Marked, Open, Place, Regions};
use crate::model::{CountOverflow, OpcodeMix};
use crate::sys::ptrace::Stopped;

/// callgrind.h: the client requests, from VG_USERREQ_TOOL_BASE('C','T') on.
mod code {
    pub const DUMP: u64 = 0x4354_0000;
    pub const ZERO: u64 = DUMP + 1;
    pub const TOGGLE: u64 = DUMP + 2;
    pub const DUMP_AT: u64 = DUMP + 3;
    pub const START: u64 = DUMP + 4;
    pub const STOP: u64 = DUMP + 5;
}

/// Longest label that is read from a program, in bytes.
const LONGEST_LABEL_BYTES: usize = 4096;

/// One of callgrind's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// DUMP_STATS, or DUMP_STATS_AT with its label.
    Dump(Option<String>),
    /// ZERO_STATS.
    Zero,
    /// TOGGLE_COLLECT.
    Toggle,
    /// START_INSTRUMENTATION.
    Start,
    /// STOP_INSTRUMENTATION.
    Stop,
}

impl Request {
    /// The request whose words are at `address`, as valgrind.h has it in rax; none where it is for another tool, or
    /// where nothing can be read.
    pub fn read(stopped: &Stopped, address: u64) -> io::Result<Option<Request>> {
        let mut words = [0; 16];
        if stopped.read(address, &mut words).unwrap_or(0) < words.len() {
            return Ok(None);
        }
        let (code, argument) = words.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
        Ok(Some(match word(code) {
            code::DUMP => Request::Dump(None),
            code::DUMP_AT => {
                let label = stopped.read_c_string(word(argument), LONGEST_LABEL_BYTES)?;
                Request::Dump(Some(String::from_utf8_lossy(&label).into_owned()))
            }
            code::ZERO => Request::Zero,
            code::TOGGLE => Request::Toggle,
            code::START => Request::Start,
            code::STOP => Request::Stop,
            _ => return Ok(None),
        }))
    }
}

/// Callgrind's switches.
#[derive(Clone, Copy, Debug)]
struct Switches {
    /// START_ and STOP_INSTRUMENTATION.
    instrument: bool,
    /// TOGGLE_COLLECT between these two.
    collect: bool,
    /// TOGGLE_COLLECT without START_INSTRUMENTATION.
    toggled: bool,
}

impl Switches {
    /// As every program begins.
    const AT_START: Switches = Switches {
        instrument: false,
        collect: true,
        toggled: false,
    };

    fn toggle(&mut self) {
        if self.instrument {
            self.collect = !self.collect;
        } else {
            self.toggled = !self.toggled;
        }
    }
}

/// What the marks of one process have brought about.
#[derive(Clone, Debug)]
pub struct Marks {
    switches: Switches,
    /// Whether the current chunk owes its counts to TOGGLE_COLLECT alone.
    collected: bool,
    open: Open,
}

impl Marks {
    /// As every program begins: nothing is counted.
    pub fn at_start() -> Marks {
        Marks {
            switches: Switches::AT_START,
            collected: false,
            open: Open::default(),
        }
    }

    /// What a forked child begins with.
    pub fn forked(&self) -> Marks {
        Marks {
            switches: self.switches,
            collected: self.switches.toggled && !self.switches.instrument,
            open: self.open.forked(),
        }
    }

    /// Whether instructions count now.
    pub fn counting(&self) -> bool {
        let switches = self.switches;
        (switches.instrument && switches.collect) || (!switches.instrument && switches.toggled)
    }

    /// Turns the switches. That a dump ends a chunk, and a zero forgets one, is the caller's business.
    pub fn turn(&mut self, request: &Request) {
        let switches = &mut self.switches;
        match request {
            Request::Start => switches.instrument = true,
            Request::Stop => switches.instrument = false,
            Request::Toggle => switches.toggle(),
            Request::Zero => {}
            Request::Dump(_) => return,
        }
        self.collected = match (switches.instrument, switches.toggled) {
            (true, _) => false,
            (false, true) => true,
            (false, false) => self.collected,
        };
    }
}

/// Counts of a stretch of a process's life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Instructions.
    pub instructions: u64,
    /// By opcode, where wanted.
    pub opcodes: OpcodeMix,
    /// By place, where wanted.
    pub places: OffsetProfile,
}

impl Sums {
    /// Adds every count of `other`.
    pub fn merge(&mut self, other: Sums) -> Result<(), CountOverflow> {
        let sum = self.instructions.checked_add(other.instructions);
        self.instructions = sum.ok_or(CountOverflow)?;
        self.opcodes.merge(&other.opcodes)?;
        self.places.merge(other.places)
    }
}

/// The chunks of all processes of a run.
#[derive(Debug, Default)]
pub struct Chunks {
    opcodes: bool,
    regions: Regions,
    /// Counts by place inside regions.
    places: OffsetProfile,
    /// The same for chunks of which it is not known yet whether they are inside.
    unnamed: OffsetProfile,
}

impl Chunks {
    /// None yet. `opcodes`: whether they have counts by opcode.
    pub fn new(opcodes: bool) -> Chunks {
        Chunks {
            opcodes,
            ..Chunks::default()
        }
    }

    /// A chunk of the process that `marks` belongs to is over, by a dump with this label or without.
    pub fn end(
        &mut self,
        marks: &mut Marks,
        label: Option<String>,
        sums: Sums,
    ) -> Result<(), CountOverflow> {
        let end = match label {
            Some(label) => ChunkEnd::Label(label),
            None if marks.collected => ChunkEnd::Collected,
            None => ChunkEnd::Instrumented,
        };
        let chunk = Chunk {
            end,
            instructions: sums.instructions,
            opcodes: self.opcodes.then_some(sums.opcodes),
            functions: None,
        };
        match self.regions.chunk(&mut marks.open, &chunk)? {
            Place::Inside => self.places.merge(sums.places),
            Place::Unnamed => self.unnamed.merge(sums.places),
            Place::Outside => Ok(()),
        }
    }

    /// The program of a process is over, and with it its last chunk.
    pub fn program_over(&mut self, mut marks: Marks, sums: Sums) -> Result<(), CountOverflow> {
        self.end(&mut marks, None, sums)?;
        self.regions.program_ended(marks.open);
        Ok(())
    }

    /// The regions, and the counts by place inside them; an error when the program never entered one.
    pub fn finish(self) -> Result<(Marked, OffsetProfile), BackendError> {
        let marked = self.regions.finish()?;
        let mut places = self.places;
        if marked.unnamed_inside {
            places.merge(self.unnamed)?;
        }
        Ok((marked, places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(requests: &[Request]) -> Marks {
        let mut marks = Marks::at_start();
        for request in requests {
            marks.turn(request);
        }
        marks
    }

    #[test]
    fn toggling_interrupts_instrumentation_and_counts_without_it() {
        use Request::{Start, Stop, Toggle};
        assert!(!after(&[]).counting());
        assert!(after(&[Start]).counting());
        assert!(!after(&[Start, Toggle]).counting());
        assert!(after(&[Start, Toggle, Toggle]).counting());
        assert!(!after(&[Start, Stop]).counting());
        assert!(after(&[Toggle]).counting());
        assert!(!after(&[Toggle, Toggle]).counting());
        assert!(after(&[Toggle, Start]).counting());
    }

    #[test]
    fn a_chunk_that_toggling_alone_has_counted_is_collected() {
        use Request::{Start, Toggle};
        assert!(after(&[Toggle]).collected);
        assert!(after(&[Toggle, Toggle]).collected);
        assert!(!after(&[Toggle, Start]).collected);
        assert!(after(&[Toggle]).forked().counting());
    }

    #[test]
    fn places_of_chunks_without_a_label_are_inside_where_the_shim_was_not_used() {
        let sums = |count| {
            let mut places = OffsetProfile::default();
            places.add("prog".as_ref(), 0, count).unwrap();
            Sums {
                instructions: count,
                places,
                ..Sums::default()
            }
        };
        for (label, inside) in [("x", 3), ("counterfoil:begin:x", 0)] {
            let mut chunks = Chunks::new(false);
            let mut marks = Marks::at_start();
            chunks.end(&mut marks, None, sums(2)).unwrap();
            chunks
                .end(&mut marks, Some(label.to_owned()), sums(1))
                .unwrap();
            let (marked, places) = chunks.finish().unwrap();
            assert_eq!(marked.instructions, inside, "{label}");
            let expected = if inside > 0 {
                sums(inside).places
            } else {
                OffsetProfile::default()
            };
            assert_eq!(places, expected, "{label}");
        }
    }
}
