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
        let entered = counters.get(unit.counter as usize).copied().unwrap_or(0);
        let corrected = match corrections.is_empty() {
            true => None,
            false => corrections.get(&(index as u32)),
        };
        let corrected = corrected.map_or(&[][..], Vec::as_slice);
        if unit.marker() || (entered == 0 && corrected.is_empty()) {
            continue;
        }
        if only_total && corrected.is_empty() {
            total += in_total(cache, unit, entered, counters);
            continue;
        }
        executed.clear();
        executed.resize(usize::from(unit.instructions), i128::from(entered));
        leave_early(&mut executed, cache, unit, counters);
        correct(&mut executed, corrected);
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

/// How many instructions each counter stands for: those of its unit, or, for one that counts where a unit is left early, less
/// than none. Units are only ever added, and so are these.
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
            let all = unit.instructions as i8;
            self.by_counter[unit.counter as usize] = all;
            for (counter, done) in cache.counted_exits(unit) {
                self.by_counter[counter as usize] = done as i8 - all;
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
            let all = cache.units().get(one.unit as usize)?.instructions;
            let done = i64::from(one.done);
            Some(if one.counted {
                done - i64::from(all)
            } else {
                done
            })
        };
        partial.iter().filter_map(correct).sum()
    }
}

/// The instructions of a unit that were executed if it was entered so often.
fn in_total(cache: &Cache, unit: &Unit, entered: u64, counters: &[u64]) -> i128 {
    let all = i128::from(unit.instructions);
    let left = cache.counted_exits(unit).map(|(counter, done)| {
        let left = counters.get(counter as usize).copied().unwrap_or(0);
        i128::from(left) * (all - i128::from(done))
    });
    i128::from(entered) * all - left.sum::<i128>()
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

fn correct(executed: &mut [i128], corrections: &[(i128, Partial)]) {
    for (sign, partial) in corrections {
        let done = usize::from(partial.done);
        if partial.counted {
            let rest = executed.iter_mut().skip(done);
            rest.for_each(|count| *count -= sign);
        } else {
            let begun = executed.iter_mut().take(done);
            begun.for_each(|count| *count += sign);
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
