//! What the counters of translated code add up to.

use std::collections::HashMap;

use super::ranges::Ranges;
use super::state::Partial;
use crate::backend::BackendError;
use crate::backend::profile::{MemoryCode, OffsetProfile};
use crate::dbi::cache::{Cache, Unit};
use crate::dbi::decode;
use crate::isa::{self, Arch, Decoder};
use crate::model::{CountOverflow, OpcodeMix};

/// Counts of a stretch of a process's life.
#[derive(Debug, Default)]
pub struct Sums {
    /// Instructions.
    pub instructions: u64,
    /// By opcode, where wanted.
    pub opcodes: OpcodeMix,
    /// By place, where wanted.
    pub places: OffsetProfile,
}

/// Names instructions; remembers what it has seen.
pub struct Names {
    decoder: Decoder,
    known: HashMap<Vec<u8>, String>,
}

impl Names {
    /// Nothing known yet.
    pub fn new() -> Result<Names, BackendError> {
        let decoder = Decoder::new(Arch::X86_64)?;
        Ok(Names {
            decoder,
            known: HashMap::new(),
        })
    }

    fn of(&mut self, bytes: &[u8]) -> &str {
        if !self.known.contains_key(bytes) {
            let decoded = self.decoder.decode(bytes, 0);
            let name = decoded.map_or(isa::BAD.to_owned(), |one| one.mnemonic);
            self.known.insert(bytes.to_vec(), name);
        }
        self.known.get(bytes).map_or(isa::BAD, String::as_str)
    }
}

/// Adds up `counters`, corrected by `partial`; by place, and by opcode if there are names for them.
pub fn add_up(
    cache: &Cache,
    ranges: &Ranges,
    counters: &[u64],
    partial: &[Partial],
    places: bool,
    mut names: Option<&mut Names>,
) -> Result<Sums, CountOverflow> {
    let mut sums = Sums::default();
    let mut corrections: HashMap<u32, Vec<Partial>> = HashMap::new();
    for one in partial {
        corrections.entry(one.unit).or_default().push(*one);
    }
    let (mut total, mut executed) = (0i128, Vec::new());
    for (index, unit) in cache.units().iter().enumerate() {
        let entered = counters.get(unit.counter as usize).copied().unwrap_or(0);
        let corrected = corrections
            .get(&(index as u32))
            .map_or(&[][..], Vec::as_slice);
        if unit.marker() || (entered == 0 && corrected.is_empty()) {
            continue;
        }
        executed.clear();
        executed.resize(usize::from(unit.instructions), i128::from(entered));
        leave_early(&mut executed, cache, unit, counters);
        correct(&mut executed, corrected);
        total += executed.iter().sum::<i128>();
        if places || names.is_some() {
            let names = names.as_deref_mut();
            detail(&mut sums, cache, ranges, unit, &executed, places, names)?;
        }
    }
    sums.instructions = u64::try_from(total).map_err(|_| CountOverflow)?;
    Ok(sums)
}

/// Takes away what edges out of the middle say was not executed.
fn leave_early(executed: &mut [i128], cache: &Cache, unit: &Unit, counters: &[u64]) {
    for (counter, done) in cache.counted_exits(unit) {
        let left = i128::from(counters.get(counter as usize).copied().unwrap_or(0));
        if left > 0 {
            executed
                .iter_mut()
                .skip(done.into())
                .for_each(|count| *count -= left);
        }
    }
}

fn correct(executed: &mut [i128], corrections: &[Partial]) {
    for partial in corrections {
        let done = usize::from(partial.done);
        if partial.counted {
            executed.iter_mut().skip(done).for_each(|count| *count -= 1);
        } else {
            executed.iter_mut().take(done).for_each(|count| *count += 1);
        }
    }
}

fn detail(
    sums: &mut Sums,
    cache: &Cache,
    ranges: &Ranges,
    unit: &Unit,
    executed: &[i128],
    places: bool,
    mut names: Option<&mut Names>,
) -> Result<(), CountOverflow> {
    let bytes = cache.bytes_of(unit);
    let mut at = 0;
    for count in executed {
        let count = u64::try_from(*count).map_err(|_| CountOverflow)?;
        let rest = bytes.get(at..).unwrap_or_default();
        let length = usize::from(decode::decode(rest, unit.pc + at as u64).len.max(1));
        let one = rest.get(..length).unwrap_or(rest);
        if let Some(names) = names.as_deref_mut() {
            sums.opcodes.add(names.of(one), count)?;
        }
        if places && count > 0 {
            add_place(&mut sums.places, ranges, unit.pc + at as u64, one, count)?;
        }
        at += length;
    }
    Ok(())
}

/// Adds the instruction `bytes` at `pc` where it belongs.
fn add_place(
    places: &mut OffsetProfile,
    ranges: &Ranges,
    pc: u64,
    bytes: &[u8],
    count: u64,
) -> Result<(), CountOverflow> {
    let range = ranges.at(pc);
    if let Some(range) = range
        && let Some(file) = &range.file
    {
        return places.add(file, pc - range.start + range.offset, count);
    }
    let label = range.map_or("", |range| range.label.as_str());
    let code = MemoryCode {
        label: if label.is_empty() {
            "[anonymous]"
        } else {
            label
        }
        .to_owned(),
        address: pc,
        bytes: bytes.to_vec(),
    };
    places.add_memory(code, count)
}
