//! Any number of commands beside each other, each held against the first.

use super::changes;
use crate::model::{Functions, Measurement, Side, StoredFunctions};

/// Each measurement with the opcodes and functions whose counts differ from the first one's, the largest
/// difference first. Counts of two backends are never compared: such a side has no differences.
pub fn sides(measurements: Vec<Measurement>) -> Vec<Side> {
    let first = measurements.first().cloned();
    measurements
        .into_iter()
        .map(|measurement| match &first {
            Some(first) if first.backend.name == measurement.backend.name => {
                against(first, measurement)
            }
            _ => Side {
                measurement,
                opcodes: Vec::new(),
                functions: Vec::new(),
            },
        })
        .collect()
}

fn against(first: &Measurement, measurement: Measurement) -> Side {
    let listed = |all: &Functions| StoredFunctions {
        listed: all.clone(),
        ..Default::default()
    };
    let before = first.functions.as_ref().map(listed);
    Side {
        opcodes: changes::opcodes(first.opcodes.as_ref(), measurement.opcodes.as_ref()),
        functions: changes::functions(before.as_ref(), measurement.functions.as_ref()),
        measurement,
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::measurement;
    use super::*;
    use crate::model::BackendKind;

    #[test]
    fn the_opcode_that_differs_most_comes_first_and_equal_ones_are_left_out() {
        let all = vec![
            measurement(10, &[("add", 5), ("mov", 4), ("ret", 1)]),
            measurement(17, &[("add", 6), ("mov", 4), ("div", 7)]),
        ];
        let sides = sides(all);
        assert!(sides[0].opcodes.is_empty());
        let names: Vec<_> = sides[1]
            .opcodes
            .iter()
            .map(|row| row.name.as_str())
            .collect();
        assert_eq!(names, ["div", "add", "ret"]);
        assert_eq!(
            (sides[1].opcodes[0].before, sides[1].opcodes[0].after),
            (None, Some(7))
        );
    }

    #[test]
    fn counts_of_two_backends_are_not_set_beside_each_other() {
        let mut all = vec![measurement(1, &[("add", 1)]), measurement(2, &[("add", 2)])];
        all[1].backend.name = BackendKind::Perf;
        assert!(sides(all)[1].opcodes.is_empty());
        assert!(sides(Vec::new()).is_empty());
    }
}
