//! Two measurements held against each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Limit, Measurement, Metric, Split};

/// What became of one workload, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every count equals the baseline's.
    Identical,
    /// No gated count rose, and at least one fell.
    Improved,
    /// Some count rose, none beyond its limit.
    Within,
    /// There is no baseline yet.
    New,
    /// There is a baseline, but no such workload in the manifest any more.
    Missing,
    /// The baseline was taken in another environment; the differences say which facts.
    NotComparable,
    /// The repeats of this run disagreed.
    NotReproducible,
    /// At least one gated count rose beyond its limit.
    Regressed,
    /// The counts may be fine; the output is not the snapshot.
    WrongOutput,
    /// It did not start, timed out, or ended with another exit code than expected.
    Failed,
}

impl Verdict {
    /// The words a report prints.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Identical => "identical",
            Verdict::Improved => "improved",
            Verdict::Within => "within",
            Verdict::New => "new",
            Verdict::Missing => "missing",
            Verdict::NotComparable => "not comparable",
            Verdict::NotReproducible => "not reproducible",
            Verdict::Regressed => "regressed",
            Verdict::WrongOutput => "wrong output",
            Verdict::Failed => "failed",
        }
    }
}

/// A count before and after. Absent: not counted on that side, or (functions) never ran there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What: an opcode's mnemonic, or `module: function`.
    pub name: String,
    /// The baseline's count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// The new count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

impl Change {
    /// After minus before; absent counts as 0. Wide enough for any two counts.
    pub fn delta(&self) -> i128 {
        i128::from(self.after.unwrap_or(0)) - i128::from(self.before.unwrap_or(0))
    }
}

/// One metric, before and after, with the limit that was applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricChange {
    /// The metric.
    pub metric: Metric,
    /// The baseline's count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// The new count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// The gate's limit; absent when the metric is reported but not gated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Whether the limit holds. True when there is none.
    pub holds: bool,
}

/// A fact of the environment that differs. Absent: the fact is not there on that side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The fact's name.
    pub fact: String,
    /// The baseline's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// This run's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// One workload (with one set of parameters) held against its baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The workload's name, with its parameters: `sort[n=1000]`.
    pub workload: String,
    /// What became of it.
    pub verdict: Verdict,
    /// The gated and reported metrics, `instructions` first.
    pub metrics: Vec<MetricChange>,
    /// Functions whose counts differ, largest absolute difference first.
    pub functions: Vec<Change>,
    /// Opcodes whose counts differ, largest absolute difference first.
    pub opcodes: Vec<Change>,
    /// Facts of the environment that differ.
    pub environment: Vec<Difference>,
    /// Files of the subject that differ. Counts that differ while this is empty are not the code's doing.
    pub subject: Vec<Difference>,
    /// Variables that reached the program from outside and differ. They may be why its counts do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<Difference>,
    /// What went wrong, in words, where the verdict needs them: a diff of the output, an exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The first process against all others, in this run; absent where there are none, or where the backend cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// How often each shim was called in this run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shims: BTreeMap<String, u64>,
}

/// One command of a side-by-side comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Its counts.
    pub measurement: Measurement,
    /// Opcodes whose counts differ from the first side's, largest absolute difference first.
    pub opcodes: Vec<Change>,
    /// Functions whose counts differ from the first side's, largest absolute difference first.
    pub functions: Vec<Change>,
}
