//! Finished data in, text out: for terminals, as JSON and as Markdown.
//!
//! Nothing here measures, compares, chooses what to show for the user or prints. The caller hands over
//! plain data, a [`View`], and writes what comes back to where it belongs.

pub mod json;
pub mod markdown;
mod number;
mod style;
mod table;
pub mod terminal;
mod words;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{BackendKind, Comparison, Verdict};

pub use crate::model::Side;
pub use number::{grouped, percent, ratio, share, signed};
pub use style::{Paint, View};
pub use words::{attempt, command_line};

/// How many rows of a long list to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// Each.
    All,
    /// The largest ones, and one row that sums up the others.
    First(usize),
}

impl Top {
    fn limit(self) -> usize {
        match self {
            Top::All => usize::MAX,
            Top::First(rows) => rows,
        }
    }
}

/// One workload of a suite, as `list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkloadRow {
    /// Name with parameters: `sort[n=1000]`.
    pub workload: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Tags, in the manifest's order.
    pub tags: Vec<String>,
    /// Instructions of the stored baseline; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<u64>,
}

/// One output of a suite, as `snapshot` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRow {
    /// Name of the workload with parameters.
    pub workload: String,
    /// Which output; empty where there is none of that workload.
    pub output: String,
    /// How it stands to its snapshot.
    pub state: OutputState,
    /// A unified diff, or why there is no output.
    pub detail: String,
}

/// How an output stands to its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputState {
    /// As the snapshot, or as near as it allows.
    Same,
    /// There is no snapshot.
    New,
    /// Not as the snapshot.
    Changed,
    /// Not the same in every run.
    Unsteady,
    /// The workload failed.
    Failed,
}

/// Whether something that was looked at can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It works.
    Ok,
    /// It works, and the reason says what to watch for.
    Warn,
    /// It does not work.
    Out,
}

/// One thing that `doctor` looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// What: a backend's name, a kernel setting.
    pub name: String,
    /// What came of it.
    pub state: State,
    /// What was found, as a clause.
    pub reason: String,
    /// What the user can do about it, as an imperative; absent where nothing needs doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The backend this is about; absent for everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendKind>,
}

/// How many workloads got each verdict. A verdict that nobody got is absent.
pub fn tally(comparisons: &[Comparison]) -> BTreeMap<Verdict, usize> {
    let mut tally = BTreeMap::new();
    for comparison in comparisons {
        *tally.entry(comparison.verdict).or_insert(0) += 1;
    }
    tally
}
