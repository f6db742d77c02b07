//! What moved between two sets of counts, the largest movement first.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Accepted, Change, Difference, Fingerprint, Functions, Measurement, OpcodeMix, StoredFunctions,
};

/// The name of the row for all functions that the baseline does not list.
const REST: &str = "(functions not listed in the baseline)";

/// Opcodes whose counts differ, the largest difference first. None when either side did not count
/// them.
pub(super) fn opcodes(before: Option<&OpcodeMix>, after: Option<&OpcodeMix>) -> Vec<Change> {
    let (Some(before), Some(after)) = (before, after) else {
        return Vec::new();
    };
    let names: BTreeSet<&String> = before.0.keys().chain(after.0.keys()).collect();
    let change = |name: &String| Change {
        name: name.clone(),
        before: before.0.get(name).copied(),
        after: after.0.get(name).copied(),
    };
    largest_first(names.into_iter().map(change))
}

/// Functions whose counts differ, the largest difference first. None when either side did not count
/// them.
///
/// A function that the baseline does not list, and that cannot have been as large there as it is
/// now, has a row without a count before; all others that are not listed share one row, so that the
/// differences add up.
pub(super) fn functions(
    before: Option<&StoredFunctions>,
    after: Option<&Functions>,
) -> Vec<Change> {
    let (Some(before), Some(after)) = (before, after) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    let mut rest: Option<u64> = None;
    for (module, function, count) in after.iter() {
        let listed = before.listed.get(module, function);
        if listed.is_some() || count > before.rest.largest {
            rows.push(change(module, function, listed, Some(count)));
        } else {
            // A sum that does not fit cannot come from a checked measurement; it is then left out.
            rest = rest.unwrap_or(0).checked_add(count);
        }
    }
    for (module, function, count) in before.listed.iter() {
        if after.get(module, function).is_none() {
            rows.push(change(module, function, Some(count), None));
        }
    }
    let rest_before = (before.rest.functions > 0).then_some(before.rest.instructions);
    rows.push(Change {
        name: REST.to_owned(),
        before: rest_before,
        after: rest,
    });
    largest_first(rows)
}

/// The rows that moved, by size of the movement, equal ones by name.
pub(super) fn largest_first(rows: impl IntoIterator<Item = Change>) -> Vec<Change> {
    let mut rows: Vec<_> = rows.into_iter().filter(|row| row.delta() != 0).collect();
    rows.sort_by(|a, b| {
        let by_size = b.delta().unsigned_abs().cmp(&a.delta().unsigned_abs());
        by_size.then_with(|| a.name.cmp(&b.name))
    });
    rows
}

fn change(module: &str, function: &str, before: Option<u64>, after: Option<u64>) -> Change {
    Change {
        name: format!("{module}: {function}"),
        before,
        after,
    }
}

/// Facts of the environment that differ, the backend among them.
pub(super) fn environment(before: Accepted<'_>, after: &Measurement) -> Vec<Difference> {
    let mut rows = facts(
        &before.case.fingerprint.environment,
        &after.fingerprint.environment,
    );
    let named = rows.iter().any(|row| row.fact == "backend");
    if before.backend != after.backend.name && !named {
        rows.insert(
            0,
            Difference {
                fact: "backend".to_owned(),
                before: Some(before.backend.to_string()),
                after: Some(after.backend.name.to_string()),
            },
        );
    }
    rows
}

/// Variables that differ; none where the baseline is older than their being recorded.
pub(super) fn variables(before: &Fingerprint, after: &Fingerprint) -> Vec<Difference> {
    match before.variables.is_empty() {
        true => Vec::new(),
        false => facts(&before.variables, &after.variables),
    }
}

/// Facts that differ, by name.
pub(super) fn facts(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let row = |fact: &String| Difference {
        fact: fact.clone(),
        before: before.get(fact).cloned(),
        after: after.get(fact).cloned(),
    };
    let rows = names.into_iter().map(row);
    rows.filter(|row| row.before != row.after).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Metric, StoredCase};

    fn mix(counts: &BTreeMap<String, u64>) -> OpcodeMix {
        OpcodeMix(counts.clone())
    }

    fn functions_of(counts: &BTreeMap<String, u64>) -> Functions {
        let mut functions = Functions::default();
        for (name, count) in counts {
            functions.add("prog", name, *count).unwrap();
        }
        functions
    }

    fn stored(counts: &BTreeMap<String, u64>) -> StoredFunctions {
        let case = StoredCase {
            metrics: [(Metric::Instructions, counts.values().sum())].into(),
            functions: Some(StoredFunctions {
                listed: functions_of(counts),
                ..StoredFunctions::default()
            }),
            ..StoredCase::default()
        };
        case.trimmed().unwrap().functions.unwrap()
    }

    fn counts() -> impl Strategy<Value = BTreeMap<String, u64>> {
        prop::collection::btree_map("[a-f]{1,2}", 1u64..100_000, 0..30)
    }

    #[test]
    fn a_side_that_did_not_count_is_no_change() {
        let one = OpcodeMix([("add".to_owned(), 1)].into());
        assert_eq!(opcodes(None, Some(&one)), []);
        assert_eq!(opcodes(Some(&one), None), []);
    }

    #[test]
    fn a_function_the_baseline_could_not_list_is_not_called_new() {
        let before = stored(&[("main".to_owned(), 100_000), ("tiny".to_owned(), 5)].into());
        let after = functions_of(
            &[
                ("main".to_owned(), 100_000),
                ("tiny".to_owned(), 4),
                ("big".to_owned(), 50),
            ]
            .into(),
        );
        let rows = functions(Some(&before), Some(&after));
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].name.as_str(), rows[0].delta()), ("prog: big", 50));
        assert_eq!((rows[1].name.as_str(), rows[1].delta()), (REST, -1));
    }

    proptest! {
        #[test]
        fn swapping_the_sides_turns_every_delta_around(a in counts(), b in counts()) {
            let there = opcodes(Some(&mix(&a)), Some(&mix(&b)));
            let back = opcodes(Some(&mix(&b)), Some(&mix(&a)));
            prop_assert_eq!(there.len(), back.len());
            for (there, back) in there.iter().zip(&back) {
                prop_assert_eq!(&there.name, &back.name);
                prop_assert_eq!(there.delta(), -back.delta());
            }
        }

        #[test]
        fn the_deltas_add_up_to_the_difference_of_the_totals(a in counts(), b in counts()) {
            let total = |c: &BTreeMap<String, u64>| i128::from(c.values().sum::<u64>());
            let difference = total(&b) - total(&a);
            let rows = opcodes(Some(&mix(&a)), Some(&mix(&b)));
            prop_assert_eq!(rows.iter().map(Change::delta).sum::<i128>(), difference);
            let rows = functions(Some(&stored(&a)), Some(&functions_of(&b)));
            prop_assert_eq!(rows.iter().map(Change::delta).sum::<i128>(), difference);
        }

        #[test]
        fn the_largest_movement_comes_first(a in counts(), b in counts()) {
            let rows = functions(Some(&stored(&a)), Some(&functions_of(&b)));
            prop_assert!(rows.iter().all(|row| row.delta() != 0));
            let sizes: Vec<_> = rows.iter().map(|row| row.delta().unsigned_abs()).collect();
            prop_assert!(sizes.is_sorted_by(|x, y| x >= y));
        }
    }
}
