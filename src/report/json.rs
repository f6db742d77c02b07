//! Reports for programs. One document a call, described by the files in `docs/schema`.
//!
//! Every document begins with `schema` (the version of everything written here) and `kind`. What was not
//! counted or does not apply is an absent key; `null` is never written. Counts are whole numbers of up to
//! 64 bits: a reader that takes all numbers for floating point loses digits beyond 2^53.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Checkup, Side, WorkloadRow, tally};
use crate::model::explanation::Explanation;
use crate::model::{Comparison, Measurement, SCHEMA, Verdict};

#[derive(Serialize)]
struct Document<'a, T> {
    schema: u32,
    kind: &'a str,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
struct Sides<'a> {
    /// The commands; ratios and changes are against the first.
    sides: &'a [Side],
}

#[derive(Serialize)]
struct Suite<'a> {
    summary: BTreeMap<Verdict, usize>,
    workloads: &'a [Comparison],
}

#[derive(Serialize)]
struct Workloads<'a> {
    workloads: &'a [WorkloadRow],
}

#[derive(Serialize)]
struct Checkups<'a> {
    checkups: &'a [Checkup],
}

/// A measurement: `docs/schema/count.json`.
pub fn count(measurement: &Measurement) -> serde_json::Result<String> {
    document("count", measurement)
}

/// Commands side by side: `docs/schema/compare.json`.
pub fn compare(sides: &[Side]) -> serde_json::Result<String> {
    document("compare", Sides { sides })
}

/// A suite held against its baselines: `docs/schema/check.json`.
pub fn check(comparisons: &[Comparison]) -> serde_json::Result<String> {
    suite("check", comparisons)
}

/// What recording does to the baselines: `docs/schema/check.json`.
pub fn record(comparisons: &[Comparison]) -> serde_json::Result<String> {
    suite("record", comparisons)
}

/// The workloads of a suite: `docs/schema/list.json`.
pub fn list(workloads: &[WorkloadRow]) -> serde_json::Result<String> {
    document("list", Workloads { workloads })
}

/// What this machine can count with: `docs/schema/doctor.json`.
pub fn doctor(checkups: &[Checkup]) -> serde_json::Result<String> {
    document("doctor", Checkups { checkups })
}

/// Why counts differ: `docs/schema/explain.json`.
pub fn explain(explanation: &Explanation) -> serde_json::Result<String> {
    document("explain", explanation)
}

fn suite(kind: &str, workloads: &[Comparison]) -> serde_json::Result<String> {
    let summary = tally(workloads);
    document(kind, Suite { summary, workloads })
}

fn document(kind: &str, body: impl Serialize) -> serde_json::Result<String> {
    let schema = SCHEMA;
    let mut text = serde_json::to_string_pretty(&Document { schema, kind, body })?;
    text.push('\n');
    Ok(text)
}
