//! A program's output against its snapshot: byte for byte, or with numbers near enough and all text
//! exact.
//!
//! Works on bytes, so that output in any encoding, or in none, can be compared.

use std::fmt;
use std::time::Duration;

use similar::TextDiff;

use super::numbers::{Token, tokens};
use crate::model::Tolerance;

/// Lines around the first difference that a diff may show on each side.
const DIFF_WINDOW_LINES: usize = 200;
/// Lines that a diff shows at most.
const DIFF_LINES: usize = 60;
/// Bytes of a line that a diff shows at most.
const DIFF_LINE_BYTES: usize = 200;
/// Common lines before the first difference that the diff shows.
const CONTEXT_LINES: usize = 3;

/// The first difference, and a diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Line of the first difference in the output, from 1.
    pub line: usize,
    /// Its column in bytes, from 1.
    pub column: usize,
    /// What differs there.
    pub what: String,
    /// A unified diff, cut to a readable size; empty for output that is not text.
    pub diff: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.what
        )?;
        if self.diff.is_empty() {
            return Ok(());
        }
        write!(f, "\n{}", self.diff.trim_end())
    }
}

/// Holds `actual` against `expected`. Without a tolerance every byte must be equal; with one,
/// numbers may differ as far as it allows, and everything between them must be equal.
pub fn compare(
    expected: &[u8],
    actual: &[u8],
    tolerance: Option<Tolerance>,
) -> Result<(), Box<Mismatch>> {
    compare_as(expected, actual, tolerance, SNAPSHOT)
}

/// What the two sides are called in a diff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels<'a> {
    /// What is expected.
    pub expected: &'a str,
    /// What there is.
    pub actual: &'a str,
}

/// An output against its snapshot.
const SNAPSHOT: Labels<'_> = Labels {
    expected: "snapshot",
    actual: "output",
};

/// [`compare`] of sides that have other names.
pub(super) fn compare_as(
    expected: &[u8],
    actual: &[u8],
    tolerance: Option<Tolerance>,
    labels: Labels<'_>,
) -> Result<(), Box<Mismatch>> {
    if expected == actual {
        return Ok(());
    }
    let found = match tolerance {
        None => first_unequal_byte(expected, actual),
        Some(tolerance) => match first_unequal_token(expected, actual, tolerance) {
            None => return Ok(()),
            Some(found) => found,
        },
    };
    Err(Box::new(mismatch(
        expected, actual, tolerance, found, labels,
    )))
}

/// Where the sides differ first: offsets in both, and in words what does.
struct Found {
    expected_at: usize,
    actual_at: usize,
    what: String,
}

fn first_unequal_byte(expected: &[u8], actual: &[u8]) -> Found {
    let pairs = expected.iter().zip(actual);
    let at = pairs.take_while(|(a, b)| a == b).count();
    Found {
        expected_at: at,
        actual_at: at,
        what: format!(
            "expected {}, got {}",
            excerpt(expected, at),
            excerpt(actual, at)
        ),
    }
}

fn first_unequal_token(expected: &[u8], actual: &[u8], tolerance: Tolerance) -> Option<Found> {
    let (mut left, mut right) = (tokens(expected), tokens(actual));
    loop {
        let what = match (left.next(), right.next()) {
            (None, None) => return None,
            (Some(a), Some(b)) if agree(&a, &b, tolerance) => continue,
            (
                Some(Token {
                    number: Some(_),
                    at: a,
                    text,
                }),
                Some(Token {
                    number: Some(_),
                    at: b,
                    text: got,
                }),
            ) => {
                return Some(Found {
                    expected_at: a,
                    actual_at: b,
                    what: format!(
                        "expected {} within rtol {:e} and atol {:e}, got {}",
                        String::from_utf8_lossy(text),
                        tolerance.rtol,
                        tolerance.atol,
                        String::from_utf8_lossy(got)
                    ),
                });
            }
            (a, b) => (a, b),
        };
        return Some(unequal_text(expected, actual, what));
    }
}

/// Two tokens of which not both are numbers: they differ at their first unequal byte.
fn unequal_text(
    expected: &[u8],
    actual: &[u8],
    (left, right): (Option<Token<'_>>, Option<Token<'_>>),
) -> Found {
    let text = |token: &Option<Token<'_>>| token.as_ref().map_or(Vec::new(), |t| t.text.to_vec());
    let (a, b) = (text(&left), text(&right));
    let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let start = |token: &Option<Token<'_>>, end| token.as_ref().map_or(end, |t: &Token<'_>| t.at);
    let expected_at = start(&left, expected.len()).saturating_add(common);
    let actual_at = start(&right, actual.len()).saturating_add(common);
    Found {
        expected_at,
        actual_at,
        what: format!(
            "expected {}, got {}",
            excerpt(expected, expected_at),
            excerpt(actual, actual_at)
        ),
    }
}

fn agree(a: &Token<'_>, b: &Token<'_>, tolerance: Tolerance) -> bool {
    match (a.number, b.number) {
        (Some(x), Some(y)) => a.text == b.text || tolerance.allows(x, y),
        (None, None) => a.text == b.text,
        _ => false,
    }
}

/// A short piece of `bytes` from `at`, quoted and escaped.
fn excerpt(bytes: &[u8], at: usize) -> String {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return "the end".to_owned();
    }
    let line = rest.split_inclusive(|b| *b == b'\n').next().unwrap_or(rest);
    let piece = line.get(..32).unwrap_or(line);
    format!("`{}`", piece.escape_ascii())
}

fn mismatch(
    expected: &[u8],
    actual: &[u8],
    tolerance: Option<Tolerance>,
    found: Found,
    labels: Labels<'_>,
) -> Mismatch {
    let before = actual.get(..found.actual_at).unwrap_or(actual);
    let line = before.iter().filter(|b| **b == b'\n').count();
    let column = before.iter().rev().take_while(|b| **b != b'\n').count();
    let old_before = expected.get(..found.expected_at).unwrap_or(expected);
    let old_line = old_before.iter().filter(|b| **b == b'\n').count();
    let first = old_line.min(line);
    Mismatch {
        line: line + 1,
        column: column + 1,
        what: found.what,
        diff: diff(expected, actual, tolerance, first, labels).unwrap_or_default(),
    }
}

/// A unified diff of the lines from `first` (from 0) on; absent when a side is not text.
fn diff(
    expected: &[u8],
    actual: &[u8],
    tolerance: Option<Tolerance>,
    first: usize,
    labels: Labels<'_>,
) -> Option<String> {
    let (expected, actual) = (
        std::str::from_utf8(expected).ok()?,
        std::str::from_utf8(actual).ok()?,
    );
    let skipped = first.saturating_sub(CONTEXT_LINES);
    let window = |text: &str| -> Vec<String> {
        let lines = text.split_inclusive('\n').skip(skipped);
        lines.take(DIFF_WINDOW_LINES).map(cut).collect()
    };
    let (old, mut new) = (window(expected), window(actual));
    if let Some(tolerance) = tolerance {
        hide_what_agrees(&old, &mut new, tolerance);
    }
    let (old, new) = (old.concat(), new.concat());
    let text = TextDiff::from_lines(old.as_str(), new.as_str());
    let unified = text
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .header(labels.expected, labels.actual)
        .to_string();
    Some(shown(&unified, skipped))
}

/// How long a whole diff may be searched for the shortest; then a longer one is as good.
const SEARCH: Duration = Duration::from_secs(2);

/// A whole unified diff of an output against its snapshot; absent when a side is not text.
pub fn unified(
    expected: &[u8],
    actual: &[u8],
    tolerance: Option<Tolerance>,
    labels: Labels<'_>,
) -> Option<String> {
    let lines = |bytes| -> Option<Vec<String>> {
        let text = std::str::from_utf8(bytes).ok()?;
        Some(text.split_inclusive('\n').map(str::to_owned).collect())
    };
    let (old, mut new) = (lines(expected)?, lines(actual)?);
    if let Some(tolerance) = tolerance {
        hide_what_agrees(&old, &mut new, tolerance);
    }
    let (old, new) = (old.concat(), new.concat());
    let diff = TextDiff::configure().timeout(SEARCH).diff_lines(&old, &new);
    let mut unified = diff.unified_diff();
    let unified = unified.context_radius(CONTEXT_LINES);
    Some(unified.header(labels.expected, labels.actual).to_string())
}

/// Lines whose numbers are near enough are no difference: they are shown as the snapshot has them.
fn hide_what_agrees(old: &[String], new: &mut [String], tolerance: Tolerance) {
    for (old, new) in old.iter().zip(new) {
        if first_unequal_token(old.as_bytes(), new.as_bytes(), tolerance).is_none() {
            new.clone_from(old);
        }
    }
}

/// A line, cut where it is too long to read.
fn cut(line: &str) -> String {
    if line.len() <= DIFF_LINE_BYTES {
        return line.to_owned();
    }
    let starts = line.char_indices().map(|(start, _)| start);
    let end = starts.take_while(|start| *start <= DIFF_LINE_BYTES).last();
    let kept = line.get(..end.unwrap_or(0)).unwrap_or_default();
    format!("{kept}...\n")
}

/// The beginning of a diff, with a word on what is not shown.
fn shown(unified: &str, skipped: usize) -> String {
    let mut text = String::new();
    if skipped > 0 {
        text.push_str(&format!(
            "({skipped} equal lines skipped; line numbers start after them)\n"
        ));
    }
    let lines = unified.lines().count();
    for line in unified.lines().take(DIFF_LINES) {
        text.push_str(line);
        text.push('\n');
    }
    if lines > DIFF_LINES {
        text.push_str(&format!("({} more lines of diff)\n", lines - DIFF_LINES));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(rtol: f64, atol: f64) -> Option<Tolerance> {
        Some(Tolerance { rtol, atol })
    }

    fn place(expected: &str, actual: &str, tolerance: Option<Tolerance>) -> Option<(usize, usize)> {
        let found = compare(expected.as_bytes(), actual.as_bytes(), tolerance);
        found.err().map(|m| (m.line, m.column))
    }

    #[test]
    fn without_a_tolerance_every_byte_counts() {
        assert_eq!(place("a\nb\n", "a\nb\n", None), None);
        assert_eq!(place("a\nbc\n", "a\nbd\n", None), Some((2, 2)));
        assert_eq!(place("1.0", "1.00", None), Some((1, 4)));
        assert_eq!(place("a\n", "a", None), Some((1, 2)));
        assert_eq!(place("a\n", "a\r\n", None), Some((1, 2)));
    }

    #[test]
    fn numbers_may_differ_and_the_text_around_them_may_not() {
        let one_percent = near(0.01, 0.0);
        assert_eq!(place("sum 100 ms", "sum 100.9 ms", one_percent), None);
        assert_eq!(
            place("sum 100 ms", "sum 101.1 ms", one_percent),
            Some((1, 5))
        );
        assert_eq!(
            place("sum 100 ms", "sum 100  ms", one_percent),
            Some((1, 9))
        );
        assert_eq!(place("sum 100 ms", "sum 100 s", one_percent), Some((1, 9)));
        assert_eq!(place("x -1", "x 1", near(0.0, 1.0)), Some((1, 3)));
        assert_eq!(place("x -1", "x 1", near(0.0, 2.0)), None);
        assert_eq!(
            place("1e3 NaN -inf", "1000 nan -Infinity", near(0.0, 0.0)),
            None
        );
        assert_eq!(place("1 2", "1", one_percent), Some((1, 2)));
        assert_eq!(place("1\n2\nx", "1\n2\n3", one_percent), Some((3, 1)));
    }

    #[test]
    fn a_number_inside_a_name_is_text() {
        let wide = near(10.0, 10.0);
        assert_eq!(place("x86_64", "x86_65", wide), Some((1, 6)));
        assert_eq!(place("v1", "v2", wide), Some((1, 2)));
        assert_eq!(place("nancy", "Nancy", wide), Some((1, 1)));
    }

    #[test]
    fn whole_numbers_beyond_doubles_are_not_taken_for_equal_when_exact() {
        let exact = near(0.0, 0.0);
        assert_eq!(place("9007199254740993", "9007199254740993", exact), None);
        assert_eq!(
            place("9007199254740993", "9007199254740992", None),
            Some((1, 16))
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_compared_and_shown_escaped() {
        let found = compare(b"ok \xff\n", b"ok \xfe\n", None).unwrap_err();
        assert_eq!((found.line, found.column), (1, 4));
        assert_eq!(found.what, r"expected `\xff\n`, got `\xfe\n`");
        assert_eq!(found.diff, "");
        assert!(compare(b"\xff 1.0", b"\xff 1.01", near(0.1, 0.0)).is_ok());
    }

    #[test]
    fn shows_a_unified_diff_without_the_lines_that_are_near_enough() {
        let found = compare(b"a 1.00\nb\nc\n", b"a 1.001\nx\nc\n", near(0.01, 0.0)).unwrap_err();
        insta::assert_snapshot!(found, @r"
        line 2, column 1: expected `b\n`, got `x\n`
        --- snapshot
        +++ output
        @@ -1,3 +1,3 @@
         a 1.00
        -b
        +x
         c
        ");
    }

    #[test]
    fn a_diff_of_large_outputs_stays_small() {
        let text = |word: &str| -> Vec<u8> {
            let line = |i| format!("{i} {word} {}\n", "x".repeat(5000));
            (0..2000).flat_map(|i| line(i).into_bytes()).collect()
        };
        let found = compare(&text("old"), &text("new"), None).unwrap_err();
        assert!(found.diff.len() < 20_000, "{}", found.diff.len());
        assert!(found.diff.ends_with("more lines of diff)\n"));
    }

    #[test]
    fn a_difference_deep_inside_shows_its_neighbours() {
        let text = |last: &str| -> String {
            (0..999).map(|i| format!("{i}\n")).collect::<String>() + last
        };
        let found = compare(text("old\n").as_bytes(), text("new\n").as_bytes(), None).unwrap_err();
        assert_eq!(found.line, 1000);
        assert!(found.diff.contains(" 998\n-old\n+new\n"), "{}", found.diff);
        assert!(
            found.diff.starts_with("(996 equal lines skipped"),
            "{}",
            found.diff
        );
    }

    proptest! {
        #[test]
        fn output_equals_itself_with_any_tolerance(
            bytes in prop::collection::vec(any::<u8>(), 0..200), rtol in 0.0f64..1.0,
        ) {
            prop_assert!(compare(&bytes, &bytes, None).is_ok());
            let tolerance = Tolerance { rtol, atol: 0.0 };
            prop_assert!(first_unequal_token(&bytes, &bytes, tolerance).is_none());
        }

        #[test]
        fn any_two_outputs_differ_at_a_place_inside_them(
            a in prop::collection::vec(any::<u8>(), 0..100),
            b in prop::collection::vec(any::<u8>(), 0..100),
            tolerant: bool,
        ) {
            let tolerance = near(0.0, 0.5).filter(|_| tolerant);
            if let Err(found) = compare(&a, &b, tolerance) {
                let lines = b.iter().filter(|b| **b == b'\n').count() + 1;
                prop_assert!(found.line <= lines && found.column <= b.len() + 1);
                prop_assert!(!found.to_string().is_empty());
            }
        }

        #[test]
        fn text_with_numbers_and_signs_never_panics(
            a in "[-+.0-9eEnaif_x \n]{0,60}", b in "[-+.0-9eEnaif_x \n]{0,60}",
        ) {
            let there = compare(a.as_bytes(), b.as_bytes(), near(0.0, 0.5)).is_ok();
            let back = compare(b.as_bytes(), a.as_bytes(), near(0.0, 0.5)).is_ok();
            prop_assert_eq!(there, back);
        }
    }
}
