//! Every verdict, and the gates at their borders.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{
    BackendInfo, BackendKind, Fingerprint, OpcodeMix, Outcome, Pinning, RegionCount, Repeats,
};

/// A measurement of two agreeing runs by callgrind.
pub(crate) fn measurement(instructions: u64, opcodes: &[(&str, u64)]) -> Measurement {
    let opcode = |(name, count): &(&str, u64)| ((*name).to_owned(), *count);
    Measurement {
        command: vec!["sort".to_owned()],
        backend: BackendInfo {
            name: BackendKind::Callgrind,
            version: "3.19".to_owned(),
            why: "asked for".to_owned(),
        },
        outcome: Outcome::Exited(0),
        metrics: [(Metric::Instructions, instructions)].into(),
        opcodes: (!opcodes.is_empty()).then(|| OpcodeMix(opcodes.iter().map(opcode).collect())),
        functions: None,
        regions: None,
        processes: Vec::new(),
        split: None,
        shims: Default::default(),
        repeats: Repeats {
            instructions: vec![instructions; 2],
            agree: true,
        },
        pinned: Pinning::default(),
        fingerprint: Fingerprint {
            subject: [("sort".to_owned(), "aa".to_owned())].into(),
            environment: [("arch".to_owned(), "x86_64".to_owned())].into(),
            variables: [("PATH".to_owned(), "aa".to_owned())].into(),
        },
        caveats: Vec::new(),
        attempts: Vec::new(),
    }
}

fn gate(limits: &[(&str, &str)]) -> Gate {
    let limit = |(metric, limit): &(&str, &str)| (metric.parse().unwrap(), limit.parse().unwrap());
    limits.iter().map(limit).collect()
}

fn held(before: &Measurement, after: &Measurement, limits: &[(&str, &str)]) -> Comparison {
    let case = StoredCase::from(before);
    let accepted = Accepted {
        backend: before.backend.name,
        case: &case,
    };
    judge("sort", Some(accepted), after, &gate(limits))
}

fn verdict_of(before: u64, after: u64) -> Verdict {
    held(&measurement(before, &[]), &measurement(after, &[]), &[]).verdict
}

#[test]
fn without_a_gate_half_a_percent_more_is_within() {
    assert_eq!(verdict_of(1000, 1000), Verdict::Identical);
    assert_eq!(verdict_of(1000, 999), Verdict::Improved);
    assert_eq!(verdict_of(1000, 1), Verdict::Improved);
    assert_eq!(verdict_of(1000, 1005), Verdict::Within);
    assert_eq!(verdict_of(1000, 1006), Verdict::Regressed);
}

#[test]
fn a_workload_without_a_baseline_is_new() {
    let row = judge("sort", None, &measurement(5, &[]), &gate(&[]));
    assert_eq!(row.verdict, Verdict::New);
    assert_eq!(row.metrics[0].after, Some(5));
}

#[test]
fn a_ceiling_fails_even_for_a_new_workload() {
    let limits = gate(&[("instructions", "<=4")]);
    let row = judge("sort", None, &measurement(5, &[]), &limits);
    assert_eq!(row.verdict, Verdict::Regressed);
    assert!(!row.metrics[0].holds);
}

#[test]
fn another_environment_is_not_comparable_and_names_the_facts() {
    let before = measurement(1000, &[]);
    let mut after = measurement(9000, &[]);
    let facts = &mut after.fingerprint.environment;
    facts.insert("arch".to_owned(), "aarch64".to_owned());
    facts.insert("python".to_owned(), "3.12".to_owned());
    let row = held(&before, &after, &[]);
    assert_eq!(row.verdict, Verdict::NotComparable);
    let names: Vec<_> = row.environment.iter().map(|d| d.fact.as_str()).collect();
    assert_eq!(names, ["arch", "python"]);
    assert_eq!(row.environment[1].before, None);
    let ceiling = held(&before, &after, &[("instructions", "<=8999")]);
    assert_eq!(ceiling.verdict, Verdict::Regressed);
}

#[test]
fn another_backend_is_not_comparable() {
    let before = measurement(1000, &[]);
    let mut after = measurement(1000, &[]);
    after.backend.name = BackendKind::Step;
    let row = held(&before, &after, &[]);
    assert_eq!(row.verdict, Verdict::NotComparable);
    assert_eq!(row.environment[0].fact, "backend");
    assert_eq!(row.environment[0].before.as_deref(), Some("callgrind"));
}

#[test]
fn runs_that_disagree_are_not_reproducible_before_anything_else() {
    let mut after = measurement(9000, &[]);
    after.repeats = Repeats {
        instructions: vec![9000, 9001],
        agree: false,
    };
    let row = held(&measurement(1, &[]), &after, &[]);
    assert_eq!(row.verdict, Verdict::NotReproducible);
    let detail = row.detail.unwrap();
    assert!(
        detail.starts_with("the runs counted 9000, 9001 instructions\nthe first did less"),
        "{detail}"
    );
}

#[test]
fn equal_counts_are_identical_whatever_became_of_the_subject() {
    let before = measurement(7, &[]);
    let mut after = before.clone();
    after
        .fingerprint
        .subject
        .insert("sort".to_owned(), "bb".to_owned());
    let row = held(&before, &after, &[]);
    assert_eq!((row.verdict, row.subject.len()), (Verdict::Identical, 1));
}

#[test]
fn variables_are_held_against_those_of_the_baseline_if_it_knows_them() {
    let mut before = measurement(7, &[]);
    let mut after = measurement(8, &[]);
    let variables = &mut after.fingerprint.variables;
    variables.insert("PATH".to_owned(), "bb".to_owned());
    let row = held(&before, &after, &[("instructions", "50%")]);
    assert_eq!((row.verdict, row.variables.len()), (Verdict::Within, 1));
    before.fingerprint.variables.clear();
    let row = held(&before, &after, &[]);
    assert_eq!(row.variables, []);
}

#[test]
fn counts_that_move_while_the_subject_is_equal_leave_the_subject_empty() {
    let row = held(&measurement(1, &[]), &measurement(9, &[]), &[]);
    assert_eq!((row.verdict, row.subject.len()), (Verdict::Regressed, 0));
}

#[test]
fn a_regression_says_which_opcodes_moved() {
    let before = measurement(10, &[("add", 9), ("div", 1)]);
    let after = measurement(30, &[("add", 10), ("div", 20)]);
    let row = held(&before, &after, &[]);
    let moved: Vec<_> = row.opcodes.iter().map(|c| (&*c.name, c.delta())).collect();
    assert_eq!(moved, [("div", 19), ("add", 1)]);
}

#[test]
fn another_mix_with_the_same_total_is_not_identical() {
    let before = measurement(10, &[("add", 9), ("div", 1)]);
    let after = measurement(10, &[("add", 8), ("div", 2)]);
    assert_eq!(held(&before, &after, &[]).verdict, Verdict::Within);
    let limits = [("opcodes.div", "<=1")];
    assert_eq!(held(&before, &after, &limits).verdict, Verdict::Regressed);
}

#[test]
fn a_gate_on_what_the_backend_did_not_count_fails_by_name() {
    let plain = measurement(10, &[]);
    let row = held(&plain, &plain, &[("opcodes.div", "<=100")]);
    assert_eq!(row.verdict, Verdict::Regressed);
    let detail = row.detail.unwrap();
    assert!(
        detail.starts_with("gate on `opcodes.div`: backend `callgrind` did not count it"),
        "{detail}"
    );
}

#[test]
fn a_gate_on_what_the_baseline_lacks_asks_for_a_new_record() {
    let before = measurement(10, &[]);
    let after = measurement(10, &[("add", 10)]);
    let row = held(&before, &after, &[("opcodes.add", "0%")]);
    assert_eq!(row.verdict, Verdict::Regressed);
    assert!(row.detail.unwrap().contains("run `counterfoil record`"));
}

#[test]
fn regions_are_reported_and_a_gate_on_one_never_entered_fails() {
    let mut after = measurement(10, &[]);
    let region = RegionCount {
        entries: 1,
        instructions: 8,
        opcodes: None,
    };
    after.regions = Some(BTreeMap::from([("parse".to_owned(), region)]));
    let row = held(&after, &after, &[]);
    let names: Vec<_> = row.metrics.iter().map(|m| m.metric.to_string()).collect();
    assert_eq!(names, ["instructions", "regions.parse"]);
    let row = held(&after, &after, &[("regions.pasre", "<=9")]);
    assert!(row.detail.unwrap().contains("`pasre` was never entered"));
}

#[test]
fn a_fall_of_one_gated_metric_does_not_hide_the_rise_of_another() {
    let before = measurement(1000, &[("add", 990), ("div", 10)]);
    let after = measurement(900, &[("add", 889), ("div", 11)]);
    let verdict = |limit| {
        let limits = [("instructions", "0%"), ("opcodes.div", limit)];
        held(&before, &after, &limits).verdict
    };
    assert_eq!(verdict("+1"), Verdict::Within);
    assert_eq!(verdict("+0"), Verdict::Regressed);
}

#[test]
fn a_baseline_without_a_workload_is_missing_with_its_counts() {
    let row = missing("old", &StoredCase::from(&measurement(5, &[])));
    assert_eq!(row.verdict, Verdict::Missing);
    assert_eq!(
        (row.metrics[0].before, row.metrics[0].after),
        (Some(5), None)
    );
}

#[test]
fn wrong_output_outweighs_good_counts_and_keeps_the_words_of_both() {
    let plain = measurement(10, &[]);
    let row = wrong_output(held(&plain, &plain, &[]), "stdout: line 1");
    assert_eq!(row.verdict, Verdict::WrongOutput);
    assert_eq!(row.detail.as_deref(), Some("stdout: line 1"));
    let failed = wrong_output(failed("sort", "exit code 1".to_owned()), "stdout: line 1");
    assert_eq!(failed.verdict, Verdict::Failed);
    assert_eq!(
        failed.detail.as_deref(),
        Some("exit code 1\nstdout: line 1")
    );
}

proptest! {
    #[test]
    fn a_measurement_is_identical_to_itself(
        opcodes in prop::collection::btree_map("[a-z]{1,4}", 1u64..1 << 40, 1..10),
    ) {
        let total = opcodes.values().sum();
        let rows: Vec<_> = opcodes.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        let measurement = measurement(total, &rows);
        let row = held(&measurement, &measurement, &[("instructions", "0%")]);
        prop_assert_eq!(row.verdict, Verdict::Identical);
    }

    #[test]
    fn summing_small_functions_does_not_hide_that_nothing_changed(
        functions in prop::collection::btree_map("[a-z]{1,4}", 0u64..100_000, 1..200),
    ) {
        let mut measurement = measurement(functions.values().sum(), &[]);
        let counts = measurement.functions.get_or_insert_default();
        for (name, count) in &functions {
            counts.add("prog", name, *count).unwrap();
        }
        let case = StoredCase::from(&measurement).trimmed().unwrap();
        let accepted = Accepted {
            backend: measurement.backend.name,
            case: &case,
        };
        let row = judge("sort", Some(accepted), &measurement, &gate(&[]));
        prop_assert_eq!(row.verdict, Verdict::Identical);
    }

    #[test]
    fn a_higher_count_never_gets_a_better_verdict(before: u64, a: u64, b: u64) {
        let rank = |after| match verdict_of(before, after) {
            Verdict::Improved => 0,
            Verdict::Identical => 1,
            Verdict::Within => 2,
            _ => 3,
        };
        prop_assert!(rank(a.min(b)) <= rank(a.max(b)));
    }
}
