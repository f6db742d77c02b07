//! The memory that a program may execute, as it sees it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::backend::profile::Place;

/// A stretch of executable memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// The file it is mapped from.
    pub file: Option<Arc<PathBuf>>,
    /// Offset of `start` in the file.
    pub offset: u64,
    /// The kernel's name for special memory (`[vdso]`).
    pub label: String,
    /// Whether its contents can change without a system call.
    pub volatile: bool,
    /// Whether the program can write it where it executes it.
    pub writable: bool,
}

impl Range {
    /// Whether both share an address.
    pub fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end
    }

    /// What a profile must know of it.
    pub fn place(&self) -> Place<'_> {
        Place {
            start: self.start,
            offset: self.offset,
            file: self.file.as_deref().map(PathBuf::as_path),
            label: &self.label,
        }
    }

    /// What lies in `start..end` of it.
    pub fn part(&self, start: u64, end: u64) -> Range {
        Range {
            start,
            end,
            offset: self.offset + (start - self.start),
            ..self.clone()
        }
    }
}

/// All of them, by address, without overlaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    /// The range at an address.
    pub fn at(&self, address: u64) -> Option<&Range> {
        let index = self.0.partition_point(|range| range.end <= address);
        self.0.get(index).filter(|range| range.start <= address)
    }

    /// Those that share an address with `start..end`.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Range> {
        self.0
            .iter()
            .filter(move |range| range.overlaps(start, end))
    }

    /// Puts a range in the place of what was there.
    pub fn add(&mut self, new: Range) {
        self.remove(new.start, new.end);
        let index = self.0.partition_point(|range| range.start < new.start);
        self.0.insert(index, new);
    }

    /// Takes `start..end` out.
    pub fn remove(&mut self, start: u64, end: u64) {
        let mut kept = Vec::with_capacity(self.0.len() + 1);
        for range in self.0.drain(..) {
            if !range.overlaps(start, end) {
                kept.push(range);
                continue;
            }
            if range.start < start {
                kept.push(range.part(range.start, start));
            }
            if end < range.end {
                kept.push(range.part(end, range.end));
            }
        }
        self.0 = kept;
    }

    /// From `at` on and before `limit`: where it changes whether memory is executable, and whether it is at `at`.
    pub fn stretch(&self, at: u64, limit: u64) -> (u64, bool) {
        match self.at(at) {
            Some(range) => (range.end.min(limit), true),
            None => {
                let next = self
                    .0
                    .iter()
                    .map(|range| range.start)
                    .find(|start| *start > at);
                (next.unwrap_or(limit).min(limit), false)
            }
        }
    }

    /// Every range.
    pub fn iter(&self) -> impl Iterator<Item = &Range> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Range {
        Range {
            start,
            end,
            offset: start,
            ..Range::default()
        }
    }

    #[test]
    fn a_new_range_replaces_what_was_there_and_leaves_the_rest() {
        let mut ranges = Ranges::default();
        ranges.add(range(0x1000, 0x5000));
        ranges.add(Range {
            volatile: true,
            ..range(0x2000, 0x3000)
        });
        let all: Vec<_> = ranges
            .iter()
            .map(|r| (r.start, r.end, r.offset, r.volatile))
            .collect();
        assert_eq!(
            all,
            [
                (0x1000, 0x2000, 0x1000, false),
                (0x2000, 0x3000, 0x2000, true),
                (0x3000, 0x5000, 0x3000, false)
            ]
        );
        assert!(ranges.at(0x2fff).unwrap().volatile);
        assert_eq!(ranges.at(0x5000), None);
        assert_eq!(ranges.stretch(0x4000, 0x9000), (0x5000, true));
        assert_eq!(ranges.stretch(0x0, 0x9000), (0x1000, false));
        assert_eq!(ranges.stretch(0x5000, 0x9000), (0x9000, false));
    }
}
