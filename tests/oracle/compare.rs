//! Records that two runs of a program have written, side by side.

use std::collections::HashSet;
use std::fmt::Write;

use crate::generate::Note;
use crate::layout::{CODE, CODE_BYTES, MEMORY_BYTES};

/// Where the saved state begins in a record.
const STATE_AT: usize = 256;

/// Names of the words of a snapshot from word 1 on, in the order in which `runtime.S` has them.
const SNAPSHOT: [&str; 18] = [
    "rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "flags", "at", "rsp",
];

/// The same of a signal (sys/ucontext.h).
const SIGNAL: [&str; 27] = [
    "signal", "code", "address", "value", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip", "flags", "segments", "error",
    "trap", "mask", "cr2",
];

/// The arithmetic flags: where no instruction reads them again, the engine's own code changes them, and a signal's
/// context shows that (docs/engine.md).
const ARITHMETIC: u64 = 0x8d5;

/// A page fault, whose address is in cr2; after others it is that of an earlier one.
const PAGE_FAULT: u64 = 14;

/// What a program has written.
pub struct Dump<'a> {
    records: Vec<&'a [u8]>,
    memory: &'a [u8],
}

impl<'a> Dump<'a> {
    /// Takes it apart; none if it is not whole.
    pub fn of(bytes: &'a [u8], record_bytes: usize) -> Option<Dump<'a>> {
        let (records, memory) =
            bytes.split_at_checked(bytes.len().checked_sub(MEMORY_BYTES as usize)?)?;
        let records = records.chunks(record_bytes).collect();
        Some(Dump { records, memory })
    }

    /// Where signals were raised.
    pub fn faults(&self) -> HashSet<u64> {
        let signals = self.records.iter().filter(|record| word(record, 0) == 2);
        signals.map(|record| place(record)).collect()
    }
}

fn word(record: &[u8], index: usize) -> u64 {
    let bytes = record[8 * index..8 * index + 8].try_into();
    bytes.map_or(0, u64::from_le_bytes)
}

/// The first difference, with the code before it; none if there is none.
pub fn difference(native: &Dump, engine: &Dump, notes: &[Note]) -> Option<String> {
    let mut before = CODE;
    for (index, (one, other)) in native.records.iter().zip(&engine.records).enumerate() {
        let differs = record_difference(one, other);
        if !differs.is_empty() {
            let text = format!("record {index} (native, engine):\n{differs}");
            return Some(format!("{text}{}", listing(notes, before, place(one))));
        }
        before = place(one);
    }
    if native.records.len() != engine.records.len() {
        let (one, other) = (native.records.len(), engine.records.len());
        return Some(format!("{one} records natively, {other} under the engine"));
    }
    let pairs = native.memory.iter().zip(engine.memory);
    let at = pairs.clone().position(|(one, other)| one != other)?;
    let count = pairs.filter(|(one, other)| one != other).count();
    Some(format!(
        "{count} bytes of memory differ, first at offset {at:#x}"
    ))
}

/// Where in the code a record was made.
fn place(record: &[u8]) -> u64 {
    match word(record, 0) {
        1 => word(record, 17),
        _ => word(record, 21),
    }
}

fn record_difference(one: &[u8], other: &[u8]) -> String {
    let mut text = String::new();
    if word(one, 0) != word(other, 0) {
        let name = |record| {
            if word(record, 0) == 1 {
                "snapshot"
            } else {
                "signal"
            }
        };
        let places = (place(one), place(other));
        return format!(
            "{} at {:#x}, {} at {:#x}\n",
            name(one),
            places.0,
            name(other),
            places.1
        );
    }
    let signal = word(one, 0) == 2;
    let names = if signal { &SIGNAL[..] } else { &SNAPSHOT[..] };
    for (index, name) in names.iter().enumerate() {
        let mask = match *name {
            "flags" if signal => !ARITHMETIC,
            "cr2" if word(one, 25) != PAGE_FAULT => 0,
            _ => u64::MAX,
        };
        let (a, b) = (word(one, index + 1) & mask, word(other, index + 1) & mask);
        if a != b {
            let _ = writeln!(text, "  {name}: {a:#x}, {b:#x}");
        }
    }
    let states = one[STATE_AT..].iter().zip(&other[STATE_AT..]).enumerate();
    for (at, (a, b)) in states.filter(|(at, (a, b))| a != b && compared(*at)) {
        let _ = writeln!(text, "  saved state, byte {at}: {a:#x}, {b:#x}");
    }
    text
}

/// Whether a byte of the saved state (Intel SDM volume 1, section 13.4) must be equal: opcode and address of the last x87
/// instruction are those of its copy, AMD's kernels forget the address of its operand, and XSTATE_BV tells of the
/// kernel's work.
fn compared(at: usize) -> bool {
    !matches!(at, 6..24 | 512..576)
}

/// The code up to `to` from `from` on, if that is not far.
fn listing(notes: &[Note], from: u64, to: u64) -> String {
    let in_code = |at: u64| (CODE..CODE + CODE_BYTES).contains(&at);
    let from = if in_code(from) && from < to {
        from
    } else {
        to.saturating_sub(200)
    };
    let mut text = String::new();
    for note in notes
        .iter()
        .filter(|note| (from..to + 16).contains(&note.at))
    {
        let bytes: Vec<String> = note
            .bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let code = note.code.map_or(String::new(), |code| format!("{code:?}"));
        let _ = writeln!(text, "    {:#x}  {:<45} {code}", note.at, bytes.join(" "));
    }
    text
}
