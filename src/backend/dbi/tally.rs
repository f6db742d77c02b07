//! What the counters of translated code add up to.

use std::collections::HashMap;

use super::ranges::{Range, Ranges};
use super::state::Partial;
use crate::backend::BackendError;
use crate::backend::marks::Sums;
use crate::dbi::cache::{Cache, Unit};
use crate::dbi::decode;
use crate::dbi::plan::MOST_INSTRUCTIONS;
use crate::isa::{self, Arch, Decoder};
use crate::model::CountOverflow;

/// The counters of a stretch of a process's life, and what they do not say.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// By how much each has risen.
    pub counters: &'a [u64],
    /// Units that were left or were under way when it ended.
    pub partial: &'a [Partial],
    /// Units that were under way when it began: what the stretch before has not got is in this one.
    pub carried: &'a [Partial],
    /// Whether threads ran while it began or ended: their units may be counted before it and left in it.
    pub torn: bool,
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

/// Adds up what was executed in a stretch; by place, and by opcode if there are names for them.
pub fn add_up(
    cache: &Cache,
    ranges: &Ranges,
    stretch: &Stretch,
    places: bool,
    mut names: Option<&mut Names>,
) -> Result<Sums, CountOverflow> {
    let counters = stretch.counters;
    let mut sums = Sums::default();
    let corrections = corrections(stretch);
    let only_total = !places && names.is_none() && !stretch.torn;
    let (mut total, mut executed) = (0i128, Vec::new());
    for (index, unit) in cache.units().iter().enumerate() {
        let corrected = match corrections.is_empty() {
            true => None,
            false => corrections.get(&(index as u32)),
        };
        let corrected = corrected.map_or(&[][..], Vec::as_slice);
        if unit.marker() {
            continue;
        }
        if only_total && corrected.is_empty() {
            total += in_total(cache, unit, counters);
            continue;
        }
        count(&mut executed, cache, unit, counters);
        if corrected.is_empty() && executed.iter().all(|count| *count == 0) {
            continue;
        }
        correct(&mut executed, cache, unit, corrected);
        if stretch.torn {
            executed
                .iter_mut()
                .for_each(|count| *count = (*count).max(0));
        }
        total += executed.iter().sum::<i128>();
        if places || names.is_some() {
            let names = names.as_deref_mut();
            detail(&mut sums, cache, ranges, unit, &executed, places, names)?;
        }
    }
    sums.instructions = u64::try_from(total).map_err(|_| CountOverflow)?;
    Ok(sums)
}

/// How many instructions each counter stands for: those of its block, or, for one that counts questions that nobody has
/// answered, less than none. Units are only ever added, and so are these.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    units: usize,
    /// As small as can be: they are read as often as the clock is.
    by_counter: Vec<i8>,
}

const _: () = assert!(MOST_INSTRUCTIONS <= i8::MAX as usize);

impl Weights {
    /// Takes in the units that are new.
    pub fn update(&mut self, cache: &Cache) {
        self.by_counter.resize(cache.counters() as usize, 0);
        for unit in &cache.units()[self.units..] {
            if unit.marker() {
                continue;
            }
            for block in cache.blocks(unit) {
                self.by_counter[block.counter as usize] = block.instructions() as i8;
            }
            if let Some((counter, done)) = cache.unanswered(unit) {
                self.by_counter[counter as usize] = done as i8 - unit.instructions as i8;
            }
        }
        self.units = cache.units().len();
    }

    /// How many counters there are.
    pub fn counters(&self) -> usize {
        self.by_counter.len()
    }

    /// The instructions that these counters stand for.
    pub fn sum(&self, counters: impl Iterator<Item = u64>) -> i64 {
        let counted = counters.zip(&self.by_counter);
        let products = counted.map(|(count, weight)| (count as i64).wrapping_mul((*weight).into()));
        products.fold(0, i64::wrapping_add)
    }

    /// What corrections add to that.
    pub fn correction(&self, cache: &Cache, partial: &[Partial]) -> i64 {
        let correct = |one: &Partial| {
            let unit = cache.units().get(one.unit as usize)?;
            let block = cache.block_at(unit, one.done)?;
            let in_question = block.in_question(one.done, one.counted).len() as i64;
            Some(if one.counted {
                -in_question
            } else {
                in_question
            })
        };
        partial.iter().filter_map(correct).sum()
    }
}

fn value(counters: &[u64], counter: u32) -> i128 {
    i128::from(counters.get(counter as usize).copied().unwrap_or(0))
}

/// The instructions of a unit that were executed.
fn in_total(cache: &Cache, unit: &Unit, counters: &[u64]) -> i128 {
    let blocks = cache.blocks(unit);
    let all = blocks.map(|block| value(counters, block.counter) * i128::from(block.instructions()));
    let unanswered = cache.unanswered(unit).map_or(0, |(counter, done)| {
        value(counters, counter) * i128::from(unit.instructions - done)
    });
    all.sum::<i128>() - unanswered
}

/// How often each instruction of a unit was executed.
fn count(executed: &mut Vec<i128>, cache: &Cache, unit: &Unit, counters: &[u64]) {
    executed.clear();
    for block in cache.blocks(unit) {
        executed.resize(block.to.into(), value(counters, block.counter));
    }
    if let Some((counter, done)) = cache.unanswered(unit) {
        let unanswered = value(counters, counter);
        let rest = executed.iter_mut().skip(done.into());
        rest.for_each(|count| *count -= unanswered);
    }
}

/// What to correct in each unit: by how much, and where.
fn corrections(stretch: &Stretch) -> HashMap<u32, Vec<(i128, Partial)>> {
    let mut all: HashMap<u32, Vec<(i128, Partial)>> = HashMap::new();
    for (sign, partial) in [(1, stretch.partial), (-1, stretch.carried)] {
        for one in partial {
            all.entry(one.unit).or_default().push((sign, *one));
        }
    }
    all
}

fn correct(executed: &mut [i128], cache: &Cache, unit: &Unit, corrections: &[(i128, Partial)]) {
    for (sign, partial) in corrections {
        let Some(block) = cache.block_at(unit, partial.done) else {
            continue;
        };
        let by = if partial.counted { -sign } else { *sign };
        for at in block.in_question(partial.done, partial.counted) {
            executed[at] += by;
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
            let pc = unit.pc + at as u64;
            let place = ranges.at(pc).map(Range::place);
            sums.places.add_at(place, pc, one, count)?;
        }
        at += length;
    }
    Ok(())
}
