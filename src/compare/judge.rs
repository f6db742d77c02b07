//! The verdict on one case.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::changes;
use super::gate::{Before, Breach, hold};
use crate::model::{
    Accepted, Comparison, Gate, Limit, Measurement, Metric, MetricChange, Repeats, StoredCase,
    Verdict, default_gate,
};

/// Holds a measurement against its baseline.
///
/// An empty `gate` means [`default_gate`]. In this order: repeats that disagree are not
/// reproducible; a gate that fails is a regression (without a comparable baseline only hard
/// ceilings, and metrics that were not counted, can fail); no baseline is new; another environment
/// or backend is not comparable; equal counts are identical, whatever became of the subject; then
/// improved, or within the limits.
pub fn judge(
    case: &str,
    before: Option<Accepted<'_>>,
    after: &Measurement,
    gate: &Gate,
) -> Comparison {
    let default = default_gate();
    let gate = if gate.is_empty() { &default } else { gate };
    let environment = before.map_or_else(Vec::new, |before| changes::environment(before, after));
    let stored = before.map(|before| before.case);
    let comparable = stored.filter(|_| environment.is_empty());
    let (metrics, breaches) = gated(stored, comparable.is_some(), after, gate);
    let mut comparison = Comparison {
        workload: case.to_owned(),
        verdict: Verdict::New,
        metrics,
        functions: stored.map_or_else(Vec::new, |s| {
            changes::functions(s.functions.as_ref(), after.functions.as_ref())
        }),
        opcodes: stored.map_or_else(Vec::new, |s| {
            changes::opcodes(s.opcodes.as_ref(), after.opcodes.as_ref())
        }),
        environment,
        subject: stored.map_or_else(Vec::new, |s| {
            changes::facts(&s.fingerprint.subject, &after.fingerprint.subject)
        }),
        variables: stored.map_or_else(Vec::new, |s| {
            changes::variables(&s.fingerprint, &after.fingerprint)
        }),
        detail: None,
        split: after.split,
        shims: after.shims.clone(),
    };
    let breached = !breaches.is_empty();
    comparison.verdict = verdict(&comparison, stored.is_some(), after, breached);
    comparison.detail = detail(&comparison, after, &breaches);
    comparison
}

/// A baseline whose workload the manifest does not have any more.
pub fn missing(case: &str, before: &StoredCase) -> Comparison {
    let row = |(metric, count): (&Metric, &u64)| MetricChange {
        metric: metric.clone(),
        before: Some(*count),
        after: None,
        limit: None,
        holds: true,
    };
    Comparison {
        metrics: before.metrics.iter().map(row).collect(),
        ..without_counts(case, Verdict::Missing, None)
    }
}

/// A workload that did not start, timed out or ended as it should not. `why` is one clause.
pub fn failed(case: &str, why: String) -> Comparison {
    without_counts(case, Verdict::Failed, Some(why))
}

/// Marks a judged case whose output is not the snapshot. `difference` names the output and what
/// differs. A workload that failed, or whose runs disagree, keeps that verdict.
pub fn wrong_output(mut comparison: Comparison, difference: &str) -> Comparison {
    if !matches!(
        comparison.verdict,
        Verdict::Failed | Verdict::NotReproducible
    ) {
        comparison.verdict = Verdict::WrongOutput;
    }
    add_detail(&mut comparison, difference);
    comparison
}

/// Marks a judged case whose runs did not agree on what they wrote, or whose baseline's did not on
/// their counts: nothing can be held against that.
pub fn not_reproducible(mut comparison: Comparison, difference: &str) -> Comparison {
    if comparison.verdict != Verdict::Failed {
        comparison.verdict = Verdict::NotReproducible;
    }
    add_detail(&mut comparison, difference);
    comparison
}

/// Adds a remark to a judged case; its verdict stays.
pub fn noted(comparison: &mut Comparison, remark: &str) {
    add_detail(comparison, remark);
}

fn add_detail(comparison: &mut Comparison, text: &str) {
    comparison.detail = Some(match comparison.detail.take() {
        Some(detail) => format!("{detail}\n{text}"),
        None => text.to_owned(),
    });
}

fn without_counts(case: &str, verdict: Verdict, detail: Option<String>) -> Comparison {
    Comparison {
        workload: case.to_owned(),
        verdict,
        metrics: Vec::new(),
        functions: Vec::new(),
        opcodes: Vec::new(),
        environment: Vec::new(),
        subject: Vec::new(),
        variables: Vec::new(),
        detail,
        split: None,
        shims: BTreeMap::new(),
    }
}

/// Every metric that is gated or counted as a scalar, `instructions` first, and the gates that
/// fail.
fn gated(
    before: Option<&StoredCase>,
    comparable: bool,
    after: &Measurement,
    gate: &Gate,
) -> (Vec<MetricChange>, Vec<(Metric, Breach)>) {
    let regions = after.regions.iter().flatten().map(|(name, _)| name);
    let old_regions = before.and_then(|before| before.regions.as_ref());
    let regions = regions.chain(old_regions.into_iter().flatten().map(|(name, _)| name));
    // `Metric`'s order puts `instructions` first.
    let names: BTreeSet<Metric> = std::iter::once(Metric::Instructions)
        .chain(gate.keys().cloned())
        .chain(after.metrics.keys().cloned())
        .chain(before.iter().flat_map(|b| b.metrics.keys().cloned()))
        .chain(regions.map(|name| Metric::Region(name.clone())))
        .collect();
    let mut breaches = Vec::new();
    let mut rows = Vec::new();
    for metric in names {
        let row = metric_change(before, comparable, after, gate.get(&metric), &metric);
        if let Err(breach) = row.1 {
            breaches.push((metric, breach));
        }
        rows.push(row.0);
    }
    (rows, breaches)
}

fn metric_change(
    before: Option<&StoredCase>,
    comparable: bool,
    after: &Measurement,
    limit: Option<&Limit>,
    metric: &Metric,
) -> (MetricChange, Result<(), Breach>) {
    let old = before.and_then(|before| before.value(metric));
    let new = after.value(metric);
    let start = if comparable {
        Before::Comparable(old)
    } else {
        Before::Nothing
    };
    let held = limit.map_or(Ok(()), |limit| hold(*limit, start, new));
    let row = MetricChange {
        metric: metric.clone(),
        before: old,
        after: new,
        limit: limit.copied(),
        holds: held.is_ok(),
    };
    (row, held)
}

fn verdict(row: &Comparison, stored: bool, after: &Measurement, breached: bool) -> Verdict {
    if !after.repeats.agree {
        Verdict::NotReproducible
    } else if breached {
        Verdict::Regressed
    } else if !stored {
        Verdict::New
    } else if !row.environment.is_empty() {
        Verdict::NotComparable
    } else if is_identical(row) {
        Verdict::Identical
    } else if is_improved(row) {
        Verdict::Improved
    } else {
        Verdict::Within
    }
}

fn is_identical(row: &Comparison) -> bool {
    let equal = row.metrics.iter().all(|m| m.before == m.after);
    equal && row.functions.is_empty() && row.opcodes.is_empty()
}

fn is_improved(row: &Comparison) -> bool {
    let gated = || row.metrics.iter().filter(|m| m.limit.is_some());
    gated().all(|m| m.after <= m.before) && gated().any(|m| m.after < m.before)
}

fn detail(row: &Comparison, after: &Measurement, breaches: &[(Metric, Breach)]) -> Option<String> {
    if row.verdict == Verdict::NotReproducible {
        return disagreement(&after.repeats);
    }
    let lines: Vec<_> = breaches
        .iter()
        .filter_map(|(metric, breach)| breach_words(metric, *breach, after))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// How the runs of one measurement disagree, and what may be done about it; none when they agree.
pub fn disagreement(repeats: &Repeats) -> Option<String> {
    let (first, others) = repeats.instructions.split_first()?;
    if repeats.agree {
        return None;
    }
    if others.iter().all(|other| other == first) {
        return Some(format!(
            "the runs agree on {first} instructions, not on their opcodes, functions or regions"
        ));
    }
    let counts: Vec<_> = repeats.instructions.iter().map(u64::to_string).collect();
    let counted = format!("the runs counted {} instructions", counts.join(", "));
    let others_agree = others.iter().all(|other| Some(other) == others.first());
    match others.first().map(|other| other.cmp(first)) {
        Some(Ordering::Less) if others_agree => Some(format!(
            "{counted}\nthe first did more: it may have left something behind for the others, such as \
             a cache or .pyc files; make that in a `build` step"
        )),
        Some(Ordering::Greater) if others_agree => Some(format!(
            "{counted}\nthe first did less: it may have changed something that the others saw, such as \
             a file, or the time of access to a folder (Python counts a fresh one's as less work); try again"
        )),
        _ => Some(counted),
    }
}

/// What the numbers of the row do not say themselves.
fn breach_words(metric: &Metric, breach: Breach, after: &Measurement) -> Option<String> {
    match (breach, metric) {
        (Breach::Beyond, _) => None,
        (Breach::NotCounted, Metric::Region(name)) if after.regions.is_some() => Some(format!(
            "gate on `{metric}`: region `{name}` was never entered; correct its name, or mark it in the workload"
        )),
        (Breach::NotCounted, _) => Some(format!(
            "gate on `{metric}`: backend `{}` did not count it; choose a backend that does, or remove the gate",
            after.backend.name
        )),
        (Breach::NotInBaseline, _) => Some(format!(
            "gate on `{metric}`: the baseline has no count of it; run `counterfoil record`"
        )),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
pub(super) mod tests;
