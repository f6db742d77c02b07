//! Marked stretches of a program: what the marks mean, and the counts between them.
//!
//! Pure: the backends deliver [`Chunk`]s, each the counts between two marks, in the order of the marks and process by
//! process; [`Regions`] adds them up. It does not watch programs and does not know where chunks come from.
//!
//! # Marks
//! A mark is one of callgrind's client requests in the instruction stream (valgrind/callgrind.h). The shim's `begin` is
//! START_INSTRUMENTATION, when no region is open yet, and then a dump labelled `counterfoil:begin:NAME`; its `end` is a
//! dump labelled `counterfoil:end:NAME` and then, when no region is open any more, STOP_INSTRUMENTATION. So a chunk is
//! what was counted since the dump before, and its label says which region opens or closes at its end.
//!
//! # What is inside
//! Every chunk counts in all regions that are open during it, once in each. What lies between
//! START_INSTRUMENTATION and the first `begin` is in none. The markers themselves count nowhere: [`in_marker`]
//! tells their instructions, and every backend leaves these out. That makes the counts of step and callgrind equal.
//!
//! # Programs marked with callgrind.h alone
//! A chunk that ends with any other label `x` is region `x`; what was counted while instrumentation was on and ended
//! without a label is region `instrumented`; what was counted between two TOGGLE_COLLECT is `collected`. Callgrind
//! itself accounts basic block by basic block: the block that a mark stands in counts behind the mark, or is lost if
//! instrumentation stops there. The shim's markers begin a block of their own, so with them this cannot happen.

use std::collections::{BTreeMap, BTreeSet};

use super::BackendError;
use super::selftest::Machine;
use crate::model::{Caveat, CountOverflow, Functions, OpcodeMix, RegionCount};

/// Label of the dump that opens a region, before its name.
pub const BEGIN: &str = "counterfoil:begin:";

/// Label of the dump that closes a region, before its name.
pub const END: &str = "counterfoil:end:";

/// The region of what was counted between START_ and STOP_INSTRUMENTATION without labels.
pub const INSTRUMENTED: &str = "instrumented";

/// The region of what was counted between two TOGGLE_COLLECT.
pub const COLLECTED: &str = "collected";

/// What stands at the end of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEnd {
    /// A dump with a label (DUMP_STATS_AT).
    Label(String),
    /// A dump without one, or the end of the program, after START_INSTRUMENTATION.
    Instrumented,
    /// The same, where TOGGLE_COLLECT alone had switched counting on.
    Collected,
}

/// The counts between two marks. Opcodes and functions are there for all chunks of a run or for none.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// What ended it.
    pub end: ChunkEnd,
    /// Retired user-mode instructions since the mark before, markers left out.
    pub instructions: u64,
    /// The same by opcode.
    pub opcodes: Option<OpcodeMix>,
    /// The same by function.
    pub functions: Option<Functions>,
}

/// The regions that are open in one process, outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    names: Vec<String>,
    /// How many of them were open already when the process was forked: their end is the parent's business.
    inherited: usize,
}

impl Open {
    /// What a forked child begins with.
    pub fn forked(&self) -> Open {
        Open {
            names: self.names.clone(),
            inherited: self.names.len(),
        }
    }

    /// Whether no region is open.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Closes the innermost region of this name; false when there is none.
    fn close(&mut self, name: &str) -> bool {
        let Some(place) = self.names.iter().rposition(|open| open == name) else {
            return false;
        };
        self.names.remove(place);
        if place < self.inherited {
            self.inherited -= 1;
        }
        true
    }

    /// Every open name once, however often it is nested in itself.
    fn distinct(&self) -> BTreeSet<&str> {
        self.names.iter().map(String::as_str).collect()
    }
}

/// Sums of one or several chunks.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sums {
    instructions: u64,
    opcodes: Option<OpcodeMix>,
    functions: Option<Functions>,
}

impl Sums {
    fn add(
        &mut self,
        instructions: u64,
        opcodes: Option<&OpcodeMix>,
        functions: Option<&Functions>,
    ) -> Result<(), CountOverflow> {
        add_to(&mut self.instructions, instructions)?;
        if let Some(opcodes) = opcodes {
            self.opcodes.get_or_insert_default().merge(opcodes)?;
        }
        if let Some(functions) = functions {
            self.functions.get_or_insert_default().merge(functions)?;
        }
        Ok(())
    }

    fn add_chunk(&mut self, chunk: &Chunk) -> Result<(), CountOverflow> {
        self.add(
            chunk.instructions,
            chunk.opcodes.as_ref(),
            chunk.functions.as_ref(),
        )
    }
}

fn add_to(sum: &mut u64, more: u64) -> Result<(), CountOverflow> {
    *sum = sum.checked_add(more).ok_or(CountOverflow)?;
    Ok(())
}

/// All regions of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Marked {
    /// By name.
    pub regions: BTreeMap<String, RegionCount>,
    /// Instructions inside any region, each once.
    pub instructions: u64,
    /// The same by opcode, where the chunks have it.
    pub opcodes: Option<OpcodeMix>,
    /// The same by function, where the chunks have it.
    pub functions: Option<Functions>,
    /// Whether chunks at [`Place::Unnamed`] are inside: the shim's labels were not used.
    pub unnamed_inside: bool,
    /// Marks that do not match.
    pub caveats: Vec<Caveat>,
}

/// Where a chunk turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In at least one region.
    Inside,
    /// In none, but counted because a program asked for it: [`Marked::unnamed_inside`] decides.
    Unnamed,
    /// In none.
    Outside,
}

/// Adds up the chunks of all processes of a run.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    named: BTreeMap<String, RegionCount>,
    inside: Sums,
    /// Chunks without a label while nothing was open, by the kind of mark.
    unnamed: BTreeMap<&'static str, (u64, Sums)>,
    shim_used: bool,
    not_begun: BTreeSet<String>,
    not_ended: BTreeSet<String>,
}

impl Regions {
    /// Takes the next chunk of the process in which `open` is open, and says where it was.
    pub fn chunk(&mut self, open: &mut Open, chunk: &Chunk) -> Result<Place, CountOverflow> {
        let mut names = open.distinct();
        let label = match &chunk.end {
            ChunkEnd::Label(label) => Some(label.as_str()),
            ChunkEnd::Instrumented | ChunkEnd::Collected => None,
        };
        let foreign = label.filter(|l| !l.starts_with(BEGIN) && !l.starts_with(END));
        names.extend(foreign);
        for name in &names {
            self.add(name, chunk)?;
        }
        let place = match (names.is_empty(), label) {
            (false, _) => Place::Inside,
            (true, None) => Place::Unnamed,
            (true, Some(_)) => Place::Outside,
        };
        match place {
            Place::Inside => self.inside.add_chunk(chunk)?,
            Place::Unnamed => self.add_unnamed(chunk)?,
            Place::Outside => {}
        }
        label.map_or(Ok(()), |label| self.mark(open, label))?;
        Ok(place)
    }

    fn add(&mut self, name: &str, chunk: &Chunk) -> Result<(), CountOverflow> {
        let region = self.named.entry(name.to_owned()).or_default();
        add_to(&mut region.instructions, chunk.instructions)?;
        if let Some(opcodes) = &chunk.opcodes {
            region.opcodes.get_or_insert_default().merge(opcodes)?;
        }
        Ok(())
    }

    fn add_unnamed(&mut self, chunk: &Chunk) -> Result<(), CountOverflow> {
        if chunk.instructions == 0 {
            return Ok(());
        }
        let name = match chunk.end {
            ChunkEnd::Collected => COLLECTED,
            ChunkEnd::Instrumented | ChunkEnd::Label(_) => INSTRUMENTED,
        };
        let (entries, sums) = self.unnamed.entry(name).or_default();
        add_to(entries, 1)?;
        sums.add_chunk(chunk)
    }

    /// Opens or closes what the label at the end of a chunk says.
    fn mark(&mut self, open: &mut Open, label: &str) -> Result<(), CountOverflow> {
        if let Some(name) = label.strip_prefix(BEGIN) {
            self.shim_used = true;
            open.names.push(name.to_owned());
            return self.enter(name);
        }
        if let Some(name) = label.strip_prefix(END) {
            self.shim_used = true;
            if !open.close(name) {
                self.not_begun.insert(name.to_owned());
            }
            return Ok(());
        }
        self.enter(label)
    }

    fn enter(&mut self, name: &str) -> Result<(), CountOverflow> {
        let region = self.named.entry(name.to_owned()).or_default();
        add_to(&mut region.entries, 1)
    }

    /// A process has ended, or executes another program.
    pub fn program_ended(&mut self, open: Open) {
        self.not_ended
            .extend(open.names.into_iter().skip(open.inherited));
    }

    /// The sums; an error when the program never entered a region.
    pub fn finish(mut self) -> Result<Marked, BackendError> {
        if !self.shim_used {
            self.keep_unnamed()?;
        }
        if self.named.is_empty() {
            return Err(self.nothing_entered());
        }
        Ok(Marked {
            unnamed_inside: !self.shim_used,
            caveats: self.caveats(),
            regions: self.named,
            instructions: self.inside.instructions,
            opcodes: self.inside.opcodes,
            functions: self.inside.functions,
        })
    }

    /// Without the shim's labels, what has no label is a region, too.
    fn keep_unnamed(&mut self) -> Result<(), CountOverflow> {
        for (name, (entries, sums)) in std::mem::take(&mut self.unnamed) {
            self.inside.add(
                sums.instructions,
                sums.opcodes.as_ref(),
                sums.functions.as_ref(),
            )?;
            let region = self.named.entry(name.to_owned()).or_default();
            add_to(&mut region.entries, entries)?;
            add_to(&mut region.instructions, sums.instructions)?;
            if let Some(opcodes) = &sums.opcodes {
                region.opcodes.get_or_insert_default().merge(opcodes)?;
            }
        }
        Ok(())
    }

    fn nothing_entered(&self) -> BackendError {
        let problem = match self.not_begun.first() {
            Some(name) => {
                format!("region `{name}` was ended and never begun, and no other entered")
            }
            None => "the program never entered a marked region".to_owned(),
        };
        BackendError::Tool {
            tool: "regions",
            problem,
            remedy:
                "mark one with counterfoil.h, the counterfoil-shim crate or valgrind/callgrind.h, \
                     or count without regions"
                    .to_owned(),
        }
    }

    fn caveats(&self) -> Vec<Caveat> {
        let other = |text| Caveat::Other { text };
        let not_begun = self.not_begun.iter().map(|name| {
            other(format!(
                "region `{name}` was ended where it had not begun; that end was ignored"
            ))
        });
        let not_ended = self.not_ended.iter().map(|name| {
            other(format!(
                "region `{name}` was never ended; it counts to the end of the program"
            ))
        });
        not_begun.chain(not_ended).collect()
    }
}

/// valgrind.h, amd64: `rol $3,%rdi; rol $13,%rdi; rol $61,%rdi; rol $51,%rdi; xchg %rbx,%rbx`.
pub const REQUEST_X86_64: &[u8; 19] =
    b"\x48\xc1\xc7\x03\x48\xc1\xc7\x0d\x48\xc1\xc7\x3d\x48\xc1\xc7\x33\x48\x87\xdb";

/// valgrind.h, arm64: `ror x12,x12,#3; ror x12,x12,#13; ror x12,x12,#51; ror x12,x12,#61; orr x10,x10,x10`.
pub const REQUEST_AARCH64: [u32; 5] = [
    0x93cc_0d8c,
    0x93cc_358c,
    0x93cc_cd8c,
    0x93cc_f58c,
    0xaa0a_014a,
];

/// Bytes that [`in_marker`] wants to see, where there are so many.
pub const MARKER_BYTES: usize = 32;

/// Whether the instruction that `code` begins with belongs to a marker, so that it counts nowhere: to a client
/// request, whoever wrote it, or to the lead-in of the shim's requests. `code` goes on behind that instruction.
///
/// The lead-in is `lea request(%rip),%rax; jmp .+2` on x86-64 and `adrp x4; add x4,x4,#; b .+4` on arm64: the jump
/// ends the basic block before the request.
pub fn in_marker(machine: Machine, code: &[u8]) -> bool {
    match machine {
        Machine::X86_64 => in_marker_x86_64(code),
        Machine::Aarch64 => in_marker_aarch64(code),
    }
}

fn in_marker_x86_64(code: &[u8]) -> bool {
    let rest_of_request = |code: &[u8]| {
        let rols = [0, 4, 8, 12].map(|at| REQUEST_X86_64.get(at..).unwrap_or_default());
        rols.into_iter().any(|rest| code.starts_with(rest))
    };
    let jump = |code: &[u8]| {
        code.strip_prefix(b"\xeb\x00")
            .is_some_and(|code| code.starts_with(REQUEST_X86_64))
    };
    let load = |code: &[u8]| code.starts_with(b"\x48\x8d\x05") && code.get(7..).is_some_and(jump);
    rest_of_request(code) || jump(code) || load(code)
}

/// `adrp x4, page`, apart from the page (Arm ARM C6.2.11).
const ADRP_X4: (u32, u32) = (0x9f00_001f, 0x9000_0004);
/// `add x4, x4, #offset`, apart from the offset (Arm ARM C6.2.5).
const ADD_X4: (u32, u32) = (0xffc0_03ff, 0x9100_0084);
/// `b .+4`.
const BRANCH_NEXT: (u32, u32) = (u32::MAX, 0x1400_0001);

fn in_marker_aarch64(code: &[u8]) -> bool {
    let words: Vec<u32> = code
        .chunks_exact(4)
        .take(8)
        .filter_map(|word| word.try_into().ok().map(u32::from_le_bytes))
        .collect();
    let exact = REQUEST_AARCH64.map(|word| (u32::MAX, word));
    let pattern: Vec<(u32, u32)> = [ADRP_X4, ADD_X4, BRANCH_NEXT]
        .into_iter()
        .chain(exact)
        .collect();
    let matches = |rest: &[(u32, u32)]| {
        let pairs = rest.iter().zip(&words);
        words.len() >= rest.len()
            && pairs
                .into_iter()
                .all(|((mask, bits), word)| word & mask == *bits)
    };
    // From each instruction to the end of the pattern; the last alone is no sign of a marker.
    (0..pattern.len() - 1).any(|from| pattern.get(from..).is_some_and(matches))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(end: ChunkEnd, instructions: u64) -> Chunk {
        let mut opcodes = OpcodeMix::default();
        opcodes.add("nop", instructions).unwrap();
        let mut functions = Functions::default();
        functions.add("prog", "main", instructions).unwrap();
        Chunk {
            end,
            instructions,
            opcodes: Some(opcodes),
            functions: Some(functions),
        }
    }

    fn label(text: &str, instructions: u64) -> Chunk {
        chunk(ChunkEnd::Label(text.to_owned()), instructions)
    }

    fn begin(name: &str, before: u64) -> Chunk {
        label(&format!("{BEGIN}{name}"), before)
    }

    fn end(name: &str, before: u64) -> Chunk {
        label(&format!("{END}{name}"), before)
    }

    fn rest(instructions: u64) -> Chunk {
        chunk(ChunkEnd::Instrumented, instructions)
    }

    fn add_up(chunks: &[Chunk]) -> Result<Marked, BackendError> {
        let (mut regions, mut open) = (Regions::default(), Open::default());
        for chunk in chunks {
            regions.chunk(&mut open, chunk)?;
        }
        regions.program_ended(open);
        regions.finish()
    }

    fn counts(marked: &Marked) -> Vec<(&str, u64, u64)> {
        let rows = marked.regions.iter();
        rows.map(|(name, r)| (name.as_str(), r.entries, r.instructions))
            .collect()
    }

    #[test]
    fn counts_between_begin_and_end_and_nothing_around() {
        let marked = add_up(&[begin("a", 5), end("a", 100), rest(7)]).unwrap();
        assert_eq!(counts(&marked), [("a", 1, 100)]);
        assert_eq!(marked.instructions, 100);
        assert_eq!(marked.opcodes.unwrap().total(), Ok(100));
        assert_eq!(marked.functions.unwrap().total(), Ok(100));
        assert_eq!(marked.caveats, []);
    }

    #[test]
    fn a_nested_region_counts_in_each_open_one_and_once_in_the_total() {
        let chunks = [
            begin("a", 5),
            begin("b", 10),
            end("b", 20),
            end("a", 30),
            rest(1),
        ];
        let marked = add_up(&chunks).unwrap();
        assert_eq!(counts(&marked), [("a", 1, 60), ("b", 1, 20)]);
        assert_eq!(marked.instructions, 60);
    }

    #[test]
    fn a_region_nested_in_itself_counts_each_instruction_once() {
        let chunks = [begin("a", 5), begin("a", 10), end("a", 20), end("a", 30)];
        assert_eq!(counts(&add_up(&chunks).unwrap()), [("a", 2, 60)]);
    }

    #[test]
    fn regions_may_overlap_without_nesting() {
        let chunks = [begin("a", 1), begin("b", 10), end("a", 20), end("b", 30)];
        let marked = add_up(&chunks).unwrap();
        assert_eq!(counts(&marked), [("a", 1, 30), ("b", 1, 50)]);
        assert_eq!(marked.instructions, 60);
    }

    #[test]
    fn what_is_entered_again_adds_up() {
        let chunks = [begin("a", 5), end("a", 10), begin("a", 3), end("a", 11)];
        assert_eq!(counts(&add_up(&chunks).unwrap()), [("a", 2, 21)]);
    }

    #[test]
    fn an_empty_region_was_entered_and_counts_zero() {
        let marked = add_up(&[begin("a", 5), end("a", 0)]).unwrap();
        assert_eq!(counts(&marked), [("a", 1, 0)]);
    }

    #[test]
    fn an_end_without_a_begin_is_named_and_ignored() {
        let marked = add_up(&[begin("a", 1), end("b", 10), end("a", 20)]).unwrap();
        assert_eq!(counts(&marked), [("a", 1, 30)]);
        let [Caveat::Other { text }] = &marked.caveats[..] else {
            panic!("{:?}", marked.caveats)
        };
        assert!(
            text.contains("`b` was ended where it had not begun"),
            "{text}"
        );
    }

    #[test]
    fn a_region_that_never_ends_is_named_and_counts_to_the_end() {
        let marked = add_up(&[begin("a", 1), rest(10)]).unwrap();
        assert_eq!(counts(&marked), [("a", 1, 10)]);
        let [Caveat::Other { text }] = &marked.caveats[..] else {
            panic!("{:?}", marked.caveats)
        };
        assert!(text.contains("`a` was never ended"), "{text}");
    }

    #[test]
    fn a_forked_child_goes_on_in_the_regions_of_its_parent() {
        let (mut regions, mut open) = (Regions::default(), Open::default());
        regions.chunk(&mut open, &begin("a", 1)).unwrap();
        let mut childs = open.forked();
        regions.chunk(&mut childs, &rest(40)).unwrap();
        regions.program_ended(childs);
        regions.chunk(&mut open, &end("a", 2)).unwrap();
        regions.program_ended(open);
        let marked = regions.finish().unwrap();
        assert_eq!(counts(&marked), [("a", 1, 42)]);
        assert_eq!(marked.caveats, []);
    }

    #[test]
    fn foreign_marks_make_regions_of_their_own() {
        let collected = chunk(ChunkEnd::Collected, 9);
        let marked = add_up(&[label("x", 10), label("x", 5), rest(7), collected]).unwrap();
        assert_eq!(
            counts(&marked),
            [("collected", 1, 9), ("instrumented", 1, 7), ("x", 2, 15)]
        );
        assert_eq!(marked.instructions, 31);
    }

    #[test]
    fn a_program_without_regions_is_an_error_that_says_what_to_do() {
        for chunks in [vec![], vec![rest(0)], vec![end("a", 3)]] {
            let error = add_up(&chunks).unwrap_err().to_string();
            assert!(error.contains("counterfoil.h"), "{error}");
        }
    }

    #[test]
    fn sums_that_do_not_fit_are_an_error() {
        let chunks = [
            begin("a", 1),
            end("a", u64::MAX),
            begin("a", 0),
            end("a", 1),
        ];
        assert!(matches!(add_up(&chunks), Err(BackendError::Overflow(_))));
    }

    #[test]
    fn knows_every_instruction_of_a_marker_on_x86_64() {
        let lead_in = b"\x48\x8d\x05\x11\x22\x33\x44\xeb\x00";
        let marker = [&lead_in[..], REQUEST_X86_64].concat();
        for at in [0, 7, 9, 13, 17, 21] {
            assert!(in_marker(Machine::X86_64, &marker[at..]), "at {at}");
        }
        for other in [&marker[25..], &marker[..20], b"\xeb\x00\x90", b""] {
            assert!(!in_marker(Machine::X86_64, other), "{other:x?}");
        }
    }

    #[test]
    fn knows_every_instruction_of_a_marker_on_arm64() {
        let lead_in = [0xb000_0004, 0x9104_8084, 0x1400_0001];
        let marker: Vec<u8> = lead_in
            .into_iter()
            .chain(REQUEST_AARCH64)
            .flat_map(u32::to_le_bytes)
            .collect();
        for at in 0..7 {
            assert!(in_marker(Machine::Aarch64, &marker[4 * at..]), "at {at}");
        }
        for other in [&marker[28..], &marker[..24], &[0x1f, 0x20, 0x03, 0xd5], &[]] {
            assert!(!in_marker(Machine::Aarch64, other), "{other:x?}");
        }
    }
}
