//! Commands side by side, each held against the first. No verdicts: nothing is gated here.

use super::changes;
use crate::model::{BackendKind, Change, Measurement, StoredCase};

/// What differs between two commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Opcodes whose counts differ, largest absolute difference first.
    pub opcodes: Vec<Change>,
    /// Functions whose counts differ, largest absolute difference first.
    pub functions: Vec<Change>,
}

/// Two commands that were counted by different backends.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "counts of `{first}` and `{other}` are never compared; name one backend that counts both commands"
)]
pub struct OtherBackend {
    /// The first command's backend.
    pub first: BackendKind,
    /// The other one's.
    pub other: BackendKind,
}

/// Holds one command against the first. Nothing has moved where either side did not count.
pub fn against_first(first: &Measurement, other: &Measurement) -> Result<Moved, OtherBackend> {
    if first.backend.name != other.backend.name {
        return Err(OtherBackend {
            first: first.backend.name,
            other: other.backend.name,
        });
    }
    let before = StoredCase::from(first);
    Ok(Moved {
        opcodes: changes::opcodes(before.opcodes.as_ref(), other.opcodes.as_ref()),
        functions: changes::functions(before.functions.as_ref(), other.functions.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::measurement;
    use super::*;

    #[test]
    fn what_differs_most_comes_first_and_equal_counts_are_left_out() {
        let first = measurement(10, &[("add", 5), ("mov", 4), ("ret", 1)]);
        let other = measurement(17, &[("add", 6), ("mov", 4), ("div", 7)]);
        let moved = against_first(&first, &other).unwrap();
        let rows: Vec<_> = moved
            .opcodes
            .iter()
            .map(|c| (&*c.name, c.delta()))
            .collect();
        assert_eq!(rows, [("div", 7), ("add", 1), ("ret", -1)]);
        assert_eq!(moved.opcodes[0].before, None);
    }

    #[test]
    fn functions_are_joined_by_module_and_name() {
        let (mut first, mut other) = (measurement(3, &[]), measurement(9, &[]));
        for (side, rows) in [
            (&mut first, [("a", "f", 1), ("b", "f", 2)]),
            (&mut other, [("a", "f", 7), ("b", "f", 2)]),
        ] {
            let functions = side.functions.get_or_insert_default();
            for (module, name, count) in rows {
                functions.add(module, name, count).unwrap();
            }
        }
        let moved = against_first(&first, &other).unwrap();
        let rows: Vec<_> = moved
            .functions
            .iter()
            .map(|c| (&*c.name, c.delta()))
            .collect();
        assert_eq!(rows, [("a: f", 6)]);
    }

    #[test]
    fn counts_of_two_backends_are_not_compared() {
        let first = measurement(1, &[]);
        let mut other = first.clone();
        other.backend.name = BackendKind::Perf;
        let refused = against_first(&first, &other).unwrap_err().to_string();
        assert!(refused.starts_with("counts of `callgrind` and `perf` are never compared"));
    }
}
