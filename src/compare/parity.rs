//! Two outputs that should be the same, but for differences that are meant.

use regex::bytes::Regex;

use super::normalize::lines;
use super::snapshot::{Labels, Mismatch, compare_as};
use crate::model::Tolerance;

/// A difference that is meant.
#[derive(Clone, Debug)]
pub struct Intended(Option<Regex>);

impl Intended {
    /// Lines that match `pattern` may be on one side only; without a pattern, anything may differ. The manifest's reader
    /// has refused patterns that are none.
    pub fn new(pattern: Option<&str>) -> Result<Intended, regex::Error> {
        pattern.map(lines).transpose().map(Intended)
    }
}

/// What came of holding one output against another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The first difference that is not meant.
    pub mismatch: Option<Box<Mismatch>>,
    /// For each difference that is meant, whether it is there: without leave for it, the outputs would not agree. True
    /// for all where they do not agree anyway.
    pub occurs: Vec<bool>,
}

/// Holds `other` against `reference`.
pub fn hold(
    reference: &[u8],
    other: &[u8],
    tolerance: Option<Tolerance>,
    intended: &[Intended],
    labels: Labels<'_>,
) -> Held {
    let agree = |allowed: &[&Intended]| agreement(reference, other, tolerance, allowed, labels);
    let all: Vec<&Intended> = intended.iter().collect();
    if let Err(mismatch) = agree(&all) {
        return Held {
            mismatch: Some(mismatch),
            occurs: vec![true; intended.len()],
        };
    }
    let without = |left_out: usize| {
        let others = all
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != left_out);
        others.map(|(_, intended)| *intended).collect::<Vec<_>>()
    };
    let occurs = (0..intended.len()).map(|index| agree(&without(index)).is_err());
    Held {
        mismatch: None,
        occurs: occurs.collect(),
    }
}

fn agreement(
    reference: &[u8],
    other: &[u8],
    tolerance: Option<Tolerance>,
    allowed: &[&Intended],
    labels: Labels<'_>,
) -> Result<(), Box<Mismatch>> {
    if allowed.iter().any(|intended| intended.0.is_none()) {
        return Ok(());
    }
    let (reference, other) = (left(reference, allowed), left(other, allowed));
    compare_as(&reference, &other, tolerance, labels)
}

/// The lines in which nothing matches.
fn left(output: &[u8], allowed: &[&Intended]) -> Vec<u8> {
    let meant = |line: &[u8]| {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let matches = |intended: &&Intended| {
            intended
                .0
                .as_ref()
                .is_some_and(|regex| regex.is_match(text))
        };
        allowed.iter().any(matches)
    };
    let lines = output.split_inclusive(|byte| *byte == b'\n');
    lines
        .filter(|line| !meant(line))
        .collect::<Vec<_>>()
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: Labels<'_> = Labels {
        expected: "a",
        actual: "b",
    };

    fn held(reference: &str, other: &str, patterns: &[Option<&str>]) -> Held {
        let intended: Vec<_> = patterns
            .iter()
            .map(|pattern| Intended::new(*pattern).unwrap())
            .collect();
        hold(
            reference.as_bytes(),
            other.as_bytes(),
            None,
            &intended,
            LABELS,
        )
    }

    #[test]
    fn equal_outputs_agree_and_what_is_meant_to_differ_does_not_occur() {
        let held = held("a\n", "a\n", &[Some("^warning"), None]);
        assert_eq!(held.mismatch, None);
        assert_eq!(held.occurs, [false, false]);
    }

    #[test]
    fn lines_that_match_may_be_on_either_side() {
        let held = held(
            "a\nwarning: x\n",
            "warning: y\na\nnote\n",
            &[Some("^warning"), Some("^note$")],
        );
        assert_eq!(held.mismatch, None);
        assert_eq!(held.occurs, [true, true]);
    }

    #[test]
    fn what_is_not_meant_is_shown_without_what_is() {
        let held = held("a\nwarning\nb\n", "a\nc\n", &[Some("^warning")]);
        let mismatch = held.mismatch.unwrap();
        assert!(
            mismatch.diff.contains("-b\n+c") && !mismatch.diff.contains("warning"),
            "{mismatch}"
        );
        assert!(mismatch.diff.starts_with("--- a\n+++ b\n"), "{mismatch}");
        assert_eq!(held.occurs, [true]);
    }

    #[test]
    fn without_a_pattern_all_of_the_output_may_differ() {
        let held = held("a", "b", &[None]);
        assert_eq!((held.mismatch, held.occurs), (None, vec![true]));
    }

    #[test]
    fn numbers_may_differ_as_far_as_the_snapshot_allows() {
        let near = Some(Tolerance {
            rtol: 0.1,
            atol: 0.0,
        });
        assert_eq!(hold(b"1.00", b"1.01", near, &[], LABELS).mismatch, None);
        assert!(hold(b"1.00", b"1.20", near, &[], LABELS).mismatch.is_some());
    }
}
