//! Counts by opcode and by function. All arithmetic is checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A sum of counts that does not fit in 64 bits. No real run comes near; a damaged input can.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a sum of counts does not fit in 64 bits: the input is damaged")]
pub struct CountOverflow;

/// Adds counts, and says so when they do not fit.
pub fn sum(counts: impl IntoIterator<Item = u64>) -> Result<u64, CountOverflow> {
    counts
        .into_iter()
        .try_fold(0u64, u64::checked_add)
        .ok_or(CountOverflow)
}

/// Executions of each opcode, by mnemonic. Sums to the instructions of the run exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpcodeMix(pub BTreeMap<String, u64>);

impl OpcodeMix {
    /// Adds `count` executions of `mnemonic`.
    pub fn add(&mut self, mnemonic: &str, count: u64) -> Result<(), CountOverflow> {
        if let Some(slot) = self.0.get_mut(mnemonic) {
            *slot = slot.checked_add(count).ok_or(CountOverflow)?;
        } else if count > 0 {
            self.0.insert(mnemonic.to_owned(), count);
        }
        Ok(())
    }

    /// Adds every count of `other`.
    pub fn merge(&mut self, other: &OpcodeMix) -> Result<(), CountOverflow> {
        other.0.iter().try_for_each(|(m, n)| self.add(m, *n))
    }

    /// Executions of all opcodes together.
    pub fn total(&self) -> Result<u64, CountOverflow> {
        sum(self.0.values().copied())
    }
}

/// Instructions executed in one function itself, without what it called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCount {
    /// File name of the executable or shared object, without its folder.
    pub module: String,
    /// Demangled name, or `[module+0x1234]`-like text where there is no symbol.
    pub function: String,
    /// Retired user-mode instructions.
    pub instructions: u64,
}

/// Instructions by function, keyed by module and name so that two runs can be joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Functions(BTreeMap<(String, String), u64>);

impl Functions {
    /// Adds `count` instructions to `function` of `module`.
    pub fn add(&mut self, module: &str, function: &str, count: u64) -> Result<(), CountOverflow> {
        let slot = self
            .0
            .entry((module.to_owned(), function.to_owned()))
            .or_default();
        *slot = slot.checked_add(count).ok_or(CountOverflow)?;
        Ok(())
    }

    /// Adds every count of `other`.
    pub fn merge(&mut self, other: &Functions) -> Result<(), CountOverflow> {
        other
            .0
            .iter()
            .try_for_each(|((m, f), n)| self.add(m, f, *n))
    }

    /// Instructions of `function` in `module`; absent when it never ran.
    pub fn get(&self, module: &str, function: &str) -> Option<u64> {
        self.0
            .get(&(module.to_owned(), function.to_owned()))
            .copied()
    }

    /// Every function as (module, function, instructions), by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.0
            .iter()
            .map(|((m, f), n)| (m.as_str(), f.as_str(), *n))
    }

    /// Functions that ran at all.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing ran.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Instructions of all functions together.
    pub fn total(&self) -> Result<u64, CountOverflow> {
        sum(self.0.values().copied())
    }

    /// All functions, the largest count first, equal counts by name.
    pub fn largest_first(&self) -> Vec<FunctionCount> {
        let mut rows: Vec<_> = self
            .iter()
            .map(|(module, function, instructions)| FunctionCount {
                module: module.to_owned(),
                function: function.to_owned(),
                instructions,
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.instructions));
        rows
    }
}

impl FromIterator<FunctionCount> for Functions {
    /// Later rows of the same function replace earlier ones.
    fn from_iter<I: IntoIterator<Item = FunctionCount>>(rows: I) -> Self {
        let key = |row: FunctionCount| ((row.module, row.function), row.instructions);
        Functions(rows.into_iter().map(key).collect())
    }
}

impl Serialize for Functions {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.largest_first())
    }
}

impl<'de> Deserialize<'de> for Functions {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<FunctionCount>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_does_not_fit_is_an_error_and_never_wraps() {
        assert_eq!(sum([u64::MAX, 0]), Ok(u64::MAX));
        assert_eq!(sum([u64::MAX, 1]), Err(CountOverflow));
        let mut mix = OpcodeMix::default();
        mix.add("nop", u64::MAX).unwrap();
        assert_eq!(mix.add("nop", 1), Err(CountOverflow));
        assert_eq!(mix.total(), Ok(u64::MAX));
    }

    #[test]
    fn an_opcode_that_never_ran_is_absent() {
        let mut mix = OpcodeMix::default();
        mix.add("nop", 0).unwrap();
        assert!(mix.0.is_empty());
    }

    #[test]
    fn functions_come_largest_first_and_equal_ones_by_name() {
        let mut functions = Functions::default();
        for (name, count) in [("b", 1), ("a", 1), ("main", 9), ("main", 1)] {
            functions.add("prog", name, count).unwrap();
        }
        let names: Vec<_> = functions
            .largest_first()
            .into_iter()
            .map(|row| row.function)
            .collect();
        assert_eq!(names, ["main", "a", "b"]);
        assert_eq!(functions.get("prog", "main"), Some(10));
    }
}
