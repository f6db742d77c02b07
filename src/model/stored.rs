//! A measurement as a baseline keeps it: what a later run is held against, and no more.

use std::collections::BTreeMap;

use super::measurement::value_of;
use super::{
    BackendKind, CountOverflow, Fingerprint, Functions, Measurement, Metric, OpcodeMix, RegionCount,
};

/// Functions with less than one part in this many of the case's instructions are summed, not
/// listed.
const LISTED_SHARE: u64 = 1000;
/// At most this many functions are listed.
const LISTED_MOST: usize = 100;

/// The counts of one case that were accepted, and what they are about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredCase {
    /// Subject and environment of the measurement.
    pub fingerprint: Fingerprint,
    /// Scalar counts.
    pub metrics: BTreeMap<Metric, u64>,
    /// By opcode; absent when the backend did not count them.
    pub opcodes: Option<OpcodeMix>,
    /// By function; absent when the backend did not count them.
    pub functions: Option<StoredFunctions>,
    /// By marked region; absent when they were not counted.
    pub regions: Option<BTreeMap<String, RegionCount>>,
}

/// Instructions by function, the small functions summed up so that the total stays exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredFunctions {
    /// The functions that are kept by name.
    pub listed: Functions,
    /// All others together.
    pub rest: Rest,
}

/// The functions that are not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// How many.
    pub functions: u64,
    /// Retired user-mode instructions of all of them together.
    pub instructions: u64,
    /// Retired user-mode instructions of the largest of them: a bound for each.
    pub largest: u64,
}

/// A stored case with the backend that counted it: counts of two backends are never compared.
#[derive(Clone, Copy, Debug)]
pub struct Accepted<'a> {
    /// The backend of the baseline.
    pub backend: BackendKind,
    /// The counts.
    pub case: &'a StoredCase,
}

impl From<&Measurement> for StoredCase {
    /// Every function is listed; [`StoredCase::trimmed`] sums the small ones.
    fn from(measurement: &Measurement) -> Self {
        let listed = |functions: &Functions| StoredFunctions {
            listed: functions.clone(),
            rest: Rest::default(),
        };
        StoredCase {
            fingerprint: measurement.fingerprint.clone(),
            metrics: measurement.metrics.clone(),
            opcodes: measurement.opcodes.clone(),
            functions: measurement.functions.as_ref().map(listed),
            regions: measurement.regions.clone(),
        }
    }
}

impl StoredCase {
    /// The count of any metric, by the rules of [`Measurement::value`].
    pub fn value(&self, metric: &Metric) -> Option<u64> {
        value_of(
            &self.metrics,
            self.opcodes.as_ref(),
            self.regions.as_ref(),
            metric,
        )
    }

    /// The same with at most 100 functions listed, each with 0.1 % of the instructions or more.
    pub fn trimmed(mut self) -> Result<Self, CountOverflow> {
        let total = self.value(&Metric::Instructions).unwrap_or(0);
        self.functions = self.functions.map(|all| all.trimmed(total)).transpose()?;
        Ok(self)
    }
}

impl StoredFunctions {
    /// Instructions of all functions together, listed or not.
    pub fn total(&self) -> Result<u64, CountOverflow> {
        let listed = self.listed.total()?;
        listed
            .checked_add(self.rest.instructions)
            .ok_or(CountOverflow)
    }

    fn trimmed(self, total: u64) -> Result<Self, CountOverflow> {
        let least = total.div_ceil(LISTED_SHARE);
        let mut kept = StoredFunctions {
            listed: Functions::default(),
            rest: self.rest,
        };
        for row in self.listed.largest_first() {
            if row.instructions >= least && kept.listed.len() < LISTED_MOST {
                kept.listed
                    .add(&row.module, &row.function, row.instructions)?;
            } else {
                kept.rest.add(row.instructions)?;
            }
        }
        Ok(kept)
    }
}

impl Rest {
    fn add(&mut self, instructions: u64) -> Result<(), CountOverflow> {
        self.functions = self.functions.checked_add(1).ok_or(CountOverflow)?;
        self.instructions = self
            .instructions
            .checked_add(instructions)
            .ok_or(CountOverflow)?;
        self.largest = self.largest.max(instructions);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case_of(counts: impl IntoIterator<Item = u64>) -> StoredCase {
        let mut functions = StoredFunctions::default();
        for (i, count) in counts.into_iter().enumerate() {
            functions
                .listed
                .add("prog", &format!("f{i}"), count)
                .unwrap();
        }
        let total = functions.total().unwrap();
        StoredCase {
            metrics: BTreeMap::from([(Metric::Instructions, total)]),
            functions: Some(functions),
            ..StoredCase::default()
        }
    }

    #[test]
    fn a_thousandth_of_the_instructions_is_listed_and_less_is_summed() {
        let case = case_of([1989, 2, 1, 1, 7]).trimmed().unwrap();
        let functions = case.functions.unwrap();
        assert_eq!(functions.listed.len(), 3);
        let rest = Rest {
            functions: 2,
            instructions: 2,
            largest: 1,
        };
        assert_eq!(functions.rest, rest);
        assert_eq!(functions.total(), Ok(2000));
    }

    #[test]
    fn at_most_a_hundred_functions_are_listed() {
        let case = case_of((0..150).map(|i| 1000 + i)).trimmed().unwrap();
        let functions = case.functions.unwrap();
        assert_eq!(
            (functions.listed.len(), functions.rest.functions),
            (100, 50)
        );
        assert_eq!(functions.rest.largest, 1049);
    }

    #[test]
    fn trimming_twice_changes_nothing_more() {
        let once = case_of((0..150).map(|i| i * i)).trimmed().unwrap();
        assert_eq!(once.clone().trimmed().unwrap(), once);
    }
}
