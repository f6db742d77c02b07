//! Marked regions from the counter's values at their markers. Pure.

use std::collections::BTreeMap;

use crate::model::{CountOverflow, RegionCount, sum};

/// A marker that makes no sense where it stands.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegionError {
    /// A line on the control pipe that is no marker.
    #[error("`{0}` is no region marker")]
    NoMarker(String),
    /// A region was left that was not entered.
    #[error("region `{0}` ends, but did not begin")]
    NotBegun(String),
    /// The counter went backwards.
    #[error("the counter fell while region `{0}` was open")]
    Backwards(String),
    /// No region was entered at all.
    #[error("the program entered no region")]
    NoneEntered,
    /// Counts that do not fit.
    #[error(transparent)]
    Overflow(#[from] CountOverflow),
}

/// The regions of one run.
///
/// A region that is entered again while it is open (recursion, another thread) is counted once from its first `begin`
/// to its last `end`. Stretches where any region is open add up to the total.
#[derive(Debug, Default)]
pub struct Ledger {
    regions: BTreeMap<String, RegionCount>,
    open: BTreeMap<String, Open>,
    outermost: Option<u64>,
    total: u64,
}

#[derive(Debug)]
struct Open {
    since: u64,
    depth: u64,
}

impl Ledger {
    /// One line of the control pipe, when the counter stood at `now`.
    pub fn mark(&mut self, line: &str, now: u64) -> Result<(), RegionError> {
        match line.split_once(':') {
            Some(("begin", name)) if !name.is_empty() => self.begin(name, now),
            Some(("end", name)) if !name.is_empty() => self.end(name, now),
            _ => Err(RegionError::NoMarker(line.to_owned())),
        }
    }

    fn begin(&mut self, name: &str, now: u64) -> Result<(), RegionError> {
        self.outermost.get_or_insert(now);
        let region = self.regions.entry(name.to_owned()).or_default();
        region.entries = sum([region.entries, 1])?;
        let open = Open {
            since: now,
            depth: 0,
        };
        let open = self.open.entry(name.to_owned()).or_insert(open);
        open.depth = sum([open.depth, 1])?;
        Ok(())
    }

    fn end(&mut self, name: &str, now: u64) -> Result<(), RegionError> {
        let Some(open) = self.open.get_mut(name) else {
            return Err(RegionError::NotBegun(name.to_owned()));
        };
        if open.depth > 1 {
            open.depth -= 1;
            return Ok(());
        }
        let since = open.since;
        self.open.remove(name);
        let inside = elapsed(name, since, now)?;
        let region = self.regions.entry(name.to_owned()).or_default();
        region.instructions = sum([region.instructions, inside])?;
        if self.open.is_empty()
            && let Some(since) = self.outermost.take()
        {
            self.total = sum([self.total, elapsed(name, since, now)?])?;
        }
        Ok(())
    }

    /// All regions, and the instructions executed while any was open. Those still open end with the program, when the
    /// counter stood at `now`.
    pub fn finish(mut self, now: u64) -> Result<(BTreeMap<String, RegionCount>, u64), RegionError> {
        while let Some((name, open)) = self.open.iter_mut().next() {
            open.depth = 1;
            let name = name.clone();
            self.end(&name, now)?;
        }
        if self.regions.is_empty() {
            return Err(RegionError::NoneEntered);
        }
        Ok((self.regions, self.total))
    }
}

fn elapsed(name: &str, since: u64, now: u64) -> Result<u64, RegionError> {
    now.checked_sub(since)
        .ok_or_else(|| RegionError::Backwards(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(marks: &[(&str, u64)]) -> Result<Ledger, RegionError> {
        let mut ledger = Ledger::default();
        for (line, now) in marks {
            ledger.mark(line, *now)?;
        }
        Ok(ledger)
    }

    fn region(entries: u64, instructions: u64) -> RegionCount {
        RegionCount {
            entries,
            instructions,
            opcodes: None,
        }
    }

    #[test]
    fn a_nested_region_counts_in_both_and_once_in_the_total() {
        let marks = [
            ("begin:outer", 10),
            ("begin:inner", 20),
            ("end:inner", 25),
            ("end:outer", 40),
            ("begin:inner", 100),
            ("end:inner", 101),
        ];
        let (regions, total) = ledger(&marks).unwrap().finish(1000).unwrap();
        assert_eq!(regions["outer"], region(1, 30));
        assert_eq!(regions["inner"], region(2, 6));
        assert_eq!(total, 31);
    }

    #[test]
    fn regions_that_overlap_without_nesting_are_counted_once_in_the_total() {
        let marks = [("begin:a", 0), ("begin:b", 5), ("end:a", 10), ("end:b", 20)];
        let (regions, total) = ledger(&marks).unwrap().finish(99).unwrap();
        assert_eq!(
            (regions["a"].instructions, regions["b"].instructions),
            (10, 15)
        );
        assert_eq!(total, 20);
    }

    #[test]
    fn recursion_counts_from_the_first_begin_to_the_last_end() {
        let marks = [("begin:a", 0), ("begin:a", 5), ("end:a", 10), ("end:a", 20)];
        let (regions, total) = ledger(&marks).unwrap().finish(99).unwrap();
        assert_eq!((regions["a"].clone(), total), (region(2, 20), 20));
    }

    #[test]
    fn a_region_that_is_open_at_the_end_ends_with_the_program() {
        let open = ledger(&[("begin:a", 3), ("begin:a", 4)]).unwrap();
        let (regions, total) = open.finish(10).unwrap();
        assert_eq!((regions["a"].clone(), total), (region(2, 7), 7));
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let refusal = |marks: &[(&str, u64)]| ledger(marks).unwrap_err();
        let not_begun = RegionError::NotBegun("a".to_owned());
        assert_eq!(refusal(&[("end:a", 1)]), not_begun);
        let backwards = RegionError::Backwards("a".to_owned());
        assert_eq!(refusal(&[("begin:a", 2), ("end:a", 1)]), backwards);
        for line in ["", "begin", "begin:", "stop:a"] {
            let no_marker = RegionError::NoMarker(line.to_owned());
            assert_eq!(refusal(&[(line, 1)]), no_marker);
        }
        let none = Ledger::default().finish(1).unwrap_err();
        assert_eq!(none, RegionError::NoneEntered);
    }
}
