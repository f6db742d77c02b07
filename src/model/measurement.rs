//! The counts of a run, with everything needed to judge them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Attempt, Fingerprint, Functions, Metric, OpcodeMix, Pinning};

/// A way of counting. Counts of two of them are never compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Hardware counters, through `perf_event_open`.
    Perf,
    /// The counting engine: the program runs as translated code that counts itself.
    Dbi,
    /// Valgrind's cachegrind without its cache simulation.
    Cachegrind,
    /// Valgrind's callgrind: counts by instruction address.
    Callgrind,
    /// Single-stepping over ptrace: slow and exact, the oracle of the tests.
    Step,
    /// Counts read from a file, for tests of everything above the backends.
    Fake,
}

/// A backend's name that does not exist.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown backend `{0}`; known are `perf`, `dbi`, `cachegrind`, `callgrind` and `step`")]
pub struct UnknownBackend(pub String);

impl BackendKind {
    /// The name used on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            BackendKind::Perf => "perf",
            BackendKind::Dbi => "dbi",
            BackendKind::Cachegrind => "cachegrind",
            BackendKind::Callgrind => "callgrind",
            BackendKind::Step => "step",
            BackendKind::Fake => "fake",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for BackendKind {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        use BackendKind::{Cachegrind, Callgrind, Dbi, Fake, Perf, Step};
        [Perf, Dbi, Cachegrind, Callgrind, Step, Fake]
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownBackend(name.to_owned()))
    }
}

/// Which backend counted, and why that one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendInfo {
    /// The backend.
    pub name: BackendKind,
    /// Version of the tool behind it: Valgrind's, or this program's own.
    pub version: String,
    /// Why it was chosen, as a clause: "asked for", "no PMU: ...; cachegrind is the fallback".
    pub why: String,
}

/// How the root process of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum Outcome {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
    /// It was killed by us, because its time was up.
    TimedOut,
}

impl Outcome {
    /// The exit code a shell would report: the program's own, 128 + signal, or 124 as timeout(1).
    pub fn code(self) -> i32 {
        match self {
            Outcome::Exited(code) => code,
            Outcome::Killed(signal) => 128 + signal,
            Outcome::TimedOut => 124,
        }
    }
}

/// Instructions of one program in the tree. A process that execs twice is two programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessCount {
    /// Position in order of start; the root is 0. Process ids differ from run to run, this does not.
    pub index: usize,
    /// `index` of the parent; absent for the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<usize>,
    /// The program: path of its executable as given to exec.
    pub program: String,
    /// Whether it took its parent's place in the same process, by exec.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaces: bool,
    /// Retired user-mode instructions of all its threads; absent where the backend cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
}

/// Instructions of the workload's own process against those of all processes that it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Retired user-mode instructions of the first process, whatever it executed one after the other.
    pub own: u64,
    /// Retired user-mode instructions of all other processes together.
    pub children: u64,
    /// How many other processes there were.
    pub processes: u64,
}

impl Split {
    /// Splits a tree's programs; none where there is one process only, or where the count of a program is not known.
    pub fn of(programs: &[ProcessCount]) -> Option<Split> {
        let mut split = Split {
            own: 0,
            children: 0,
            processes: 0,
        };
        let mut in_root = vec![false; programs.len()];
        for (position, program) in programs.iter().enumerate() {
            let parent = program
                .parent
                .and_then(|parent| in_root.get(parent).copied());
            let is_own = match parent {
                None => position == 0,
                Some(in_root) => in_root && program.replaces,
            };
            in_root[position] = is_own;
            let sum = if is_own {
                &mut split.own
            } else {
                split.processes += u64::from(!program.replaces);
                &mut split.children
            };
            *sum = sum.checked_add(program.instructions?)?;
        }
        (split.processes > 0).then_some(split)
    }
}

/// What was counted inside one marked region, over all times it was entered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionCount {
    /// Times it was entered.
    pub entries: u64,
    /// Retired user-mode instructions between its markers, nested regions included.
    pub instructions: u64,
    /// Opcodes between its markers, where the backend knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opcodes: Option<OpcodeMix>,
}

/// A named reason why a count is not exactly what the definition says.
///
/// Definition: retired user-mode instructions of all processes and threads of the tree, from the
/// first instruction after exec to exit, a `rep` string instruction once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Caveat {
    /// The backend counts each iteration of a `rep` string instruction.
    RepIterations,
    /// Processes still ran when the root had ended; what they did is not (all) in the count.
    LeftRunning {
        /// Their programs.
        programs: Vec<String>,
    },
    /// Instructions between fork and exec that the backend loses.
    LostBeforeExec {
        /// Programs that replaced another in the same process, or a forked copy of their parent.
        execs: u64,
    },
    /// Anything else, in words.
    Other {
        /// A sentence.
        text: String,
    },
}

/// One execution of a workload, counted: what a backend returns.
///
/// What the backend cannot give, or was not asked for, is absent and never zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// How the root process ended.
    pub outcome: Outcome,
    /// Retired user-mode instructions of the tree; inside regions only, when regions were asked for.
    pub instructions: u64,
    /// The same by opcode.
    pub opcodes: Option<OpcodeMix>,
    /// The same by function.
    pub functions: Option<Functions>,
    /// By marked region, nested ones counted in each.
    pub regions: Option<BTreeMap<String, RegionCount>>,
    /// By process, in order of start.
    pub processes: Vec<ProcessCount>,
    /// Files that were mapped executable in any process of the tree, by path. Empty when unknown.
    pub modules: Vec<std::path::PathBuf>,
    /// Pins that only the backend can hold or lose (ASLR, AT_RANDOM, one CPU).
    pub pinning: Pinning,
    /// What makes the count differ from its definition.
    pub caveats: Vec<Caveat>,
    /// What it tried to reach in vain, without the machine's network.
    pub attempts: Vec<Attempt>,
}

/// Whether repeated runs agreed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeats {
    /// Instructions of each run, in order.
    pub instructions: Vec<u64>,
    /// Whether every count of every run was equal (opcodes, functions and regions, too).
    pub agree: bool,
}

/// A counted command with everything needed to judge it: the first run's counts, the verdict of the
/// repeats, what was pinned and what it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Which backend, and why.
    pub backend: BackendInfo,
    /// How the root process of the first run ended.
    pub outcome: Outcome,
    /// Scalar counts; `instructions` is always there.
    pub metrics: BTreeMap<Metric, u64>,
    /// By opcode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opcodes: Option<OpcodeMix>,
    /// By function, largest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<Functions>,
    /// By marked region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<BTreeMap<String, RegionCount>>,
    /// By process, in order of start.
    pub processes: Vec<ProcessCount>,
    /// The first process against all others; absent where there are none, or where the backend cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// How often each shim was called.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shims: BTreeMap<String, u64>,
    /// Agreement of the runs.
    pub repeats: Repeats,
    /// What was pinned and what was not.
    pub pinned: Pinning,
    /// Subject and environment.
    pub fingerprint: Fingerprint,
    /// What makes the count differ from its definition.
    pub caveats: Vec<Caveat>,
    /// What its first run tried to reach in vain, without the machine's network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

impl Measurement {
    /// Retired user-mode instructions of the whole tree, or inside regions where only those were counted.
    pub fn instructions(&self) -> u64 {
        self.metrics
            .get(&Metric::Instructions)
            .copied()
            .unwrap_or(0)
    }

    /// The count of any metric. An opcode that never ran is 0 where opcodes were counted; what was not
    /// counted, and a region that was never entered, is absent.
    pub fn value(&self, metric: &Metric) -> Option<u64> {
        value_of(
            &self.metrics,
            self.opcodes.as_ref(),
            self.regions.as_ref(),
            metric,
        )
    }
}

/// Looks a metric up where it is counted.
pub(super) fn value_of(
    metrics: &BTreeMap<Metric, u64>,
    opcodes: Option<&OpcodeMix>,
    regions: Option<&BTreeMap<String, RegionCount>>,
    metric: &Metric,
) -> Option<u64> {
    match metric {
        Metric::Instructions => metrics.get(metric).copied(),
        Metric::Opcode(mnemonic) => Some(opcodes?.0.get(mnemonic).copied().unwrap_or(0)),
        Metric::Region(name) => Some(regions?.get(name)?.instructions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(parent: Option<usize>, replaces: bool, instructions: Option<u64>) -> ProcessCount {
        ProcessCount {
            index: 0,
            parent,
            program: "p".to_owned(),
            replaces,
            instructions,
        }
    }

    #[test]
    fn what_the_first_process_executes_is_its_own_and_all_else_its_childrens() {
        let programs = [
            program(None, false, Some(1)),
            program(Some(0), true, Some(10)),
            program(Some(1), false, Some(100)),
            program(Some(2), true, Some(1000)),
        ];
        let split = Split {
            own: 11,
            children: 1100,
            processes: 1,
        };
        assert_eq!(Split::of(&programs), Some(split));
    }

    #[test]
    fn nothing_is_split_where_there_is_one_process_or_a_count_is_not_known() {
        let exec = [
            program(None, false, Some(1)),
            program(Some(0), true, Some(2)),
        ];
        assert_eq!(Split::of(&exec), None);
        let unknown = [program(None, false, Some(1)), program(Some(0), false, None)];
        assert_eq!(Split::of(&unknown), None);
        assert_eq!(Split::of(&[]), None);
    }
}
