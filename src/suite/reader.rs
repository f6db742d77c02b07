//! Values of a TOML file by type, with every problem kept together with its place.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::{Problem, SuiteError};

/// A value with its place.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// Collects problems while values are read. A reading function that returns nothing has said why.
pub(super) struct Reader<'t> {
    text: &'t str,
    problems: Vec<(usize, String)>,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str) -> Self {
        let problems = Vec::new();
        Reader { text, problems }
    }

    /// The file as a table; what is no TOML is a problem.
    pub fn document(&mut self) -> Spanned<DeTable<'t>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            self.problem(at, format!("not valid TOML: {}", error.message()));
        }
        table
    }

    /// Records a problem at an offset of the text.
    pub fn problem(&mut self, at: usize, message: impl ToString) {
        self.problems.push((at, message.to_string()));
    }

    /// The line of an offset, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.position(at).0
    }

    /// The value, or all problems in the order of the file.
    pub fn finish<T>(mut self, path: &Path, value: Option<T>) -> Result<T, SuiteError> {
        if let (Some(value), true) = (value, self.problems.is_empty()) {
            return Ok(value);
        }
        self.problems.sort();
        self.problems.dedup();
        let problem = |(at, message): &(usize, String)| {
            let (line, column) = self.position(*at);
            let message = message.clone();
            Problem {
                line,
                column,
                message,
            }
        };
        Err(SuiteError::Invalid {
            path: path.to_owned(),
            problems: self.problems.iter().map(problem).collect(),
        })
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }

    fn wrong_type(&mut self, key: &str, value: &Value<'_>, wanted: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.problem(
            value.span().start,
            format!("`{key}` is {found}; write {wanted}"),
        );
    }

    /// The entries of a table by key; keys that are not `known` are problems.
    pub fn fields<'a, 'v>(
        &mut self,
        table: &'a DeTable<'v>,
        known: &[&str],
    ) -> BTreeMap<&'a str, &'a Value<'v>> {
        let mut fields = BTreeMap::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                fields.insert(name, value);
            } else {
                self.problem(key.span().start, unknown_key(name, known));
            }
        }
        fields
    }

    pub fn table<'a, 'v>(
        &mut self,
        key: &str,
        value: &'a Value<'v>,
        wanted: &str,
    ) -> Option<&'a DeTable<'v>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, value, wanted);
        }
        table
    }

    pub fn array<'a, 'v>(
        &mut self,
        key: &str,
        value: &'a Value<'v>,
        wanted: &str,
    ) -> Option<&'a [Value<'v>]> {
        let array = value.get_ref().as_array();
        if array.is_none() {
            self.wrong_type(key, value, wanted);
        }
        array.map(AsRef::as_ref)
    }

    /// Text that can be handed to a program: without NUL, and not empty.
    pub fn string<'a>(&mut self, key: &str, value: &'a Value<'_>, wanted: &str) -> Option<&'a str> {
        let text = self.any_string(key, value, wanted)?;
        if text.is_empty() {
            let message = format!("`{key}` is empty; write {wanted}, or remove it");
            self.problem(value.span().start, message);
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// Text that can be handed to a program: without NUL.
    pub fn any_string<'a>(
        &mut self,
        key: &str,
        value: &'a Value<'_>,
        wanted: &str,
    ) -> Option<&'a str> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, value, wanted);
            return None;
        };
        if text.contains('\0') {
            let message = format!(
                "`{key}` contains a NUL character, which no program can be given; remove it"
            );
            self.problem(value.span().start, message);
            return None;
        }
        Some(text)
    }

    /// Text of any content.
    pub fn text<'a>(&mut self, key: &str, value: &'a Value<'_>, wanted: &str) -> Option<&'a str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, wanted);
        }
        text
    }

    pub fn boolean(&mut self, key: &str, value: &Value<'_>) -> Option<bool> {
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(key, value, "`true` or `false`");
        }
        boolean
    }

    /// A whole number in `range`.
    pub fn integer(&mut self, key: &str, value: &Value<'_>, range: Range<i64>) -> Option<i64> {
        let wanted = format!("a whole number from {} to {}", range.start, range.end - 1);
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, &wanted);
            return None;
        };
        let number = as_i64(integer).filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!("`{key}` is out of range; write {wanted}");
            self.problem(value.span().start, message);
        }
        number
    }

    /// A finite number that is not negative, written as an integer or a float.
    pub fn tolerance(&mut self, key: &str, value: &Value<'_>) -> Option<f64> {
        const WANTED: &str = "a number like `1e-9`";
        let number: Option<f64> = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) => as_i64(integer).map(|number| number as f64),
            _ => {
                self.wrong_type(key, value, WANTED);
                return None;
            }
        };
        let usable = number.filter(|number| number.is_finite() && *number >= 0.0);
        if usable.is_none() {
            let message = format!("`{key}` must be finite and not negative; write {WANTED}");
            self.problem(value.span().start, message);
        }
        usable
    }
}

/// An integer's value; absent when it does not fit.
pub(super) fn as_i64(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The entries of a table in the order of the file.
pub(super) fn in_order<'a, 't>(
    table: &'a DeTable<'t>,
) -> Vec<(&'a Spanned<toml::de::DeString<'t>>, &'a Value<'t>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn unknown_key(name: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(name, known) {
        return format!("unknown key `{name}`; did you mean `{near}`?");
    }
    let all: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
    format!("unknown key `{name}`; known here are {}", all.join(", "))
}

/// The known word that `name` was probably meant to be: at most a third of its letters differ.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let with_distance = |known: &&'k str| (distance(name, known), *known);
    let (distance, near) = known.iter().map(with_distance).min()?;
    let letters = name.chars().count().max(near.chars().count());
    (distance * 3 <= letters).then_some(near)
}

/// Letters to insert, remove or replace to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((to, above), diagonal) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(0);
            let replaced = diagonal + usize::from(from != *to);
            next.push(replaced.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_letter_edits() {
        for (a, b, edits) in [
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("comand", "command", 1),
            ("a", "a", 0),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits));
        }
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let known = ["command", "cwd", "tags"];
        assert_eq!(nearest("comand", &known), Some("command"));
        assert_eq!(nearest("tag", &known), Some("tags"));
        assert_eq!(nearest("network", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
