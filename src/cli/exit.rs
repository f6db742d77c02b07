//! Exit codes: named, documented, chosen in one place.

use super::scaffold::InitError;
use crate::baseline::BaselineError;
use crate::model::Verdict;
use crate::suite::{SelectionError, SuiteError};
use crate::supervise::against::WorktreeError;
use crate::supervise::build::BuildError;
use crate::supervise::cancel::Cancelled;
use crate::supervise::choose::ChooseError;
use crate::supervise::{JobError, ScratchError};

/// Everything holds.
pub const OK: i32 = 0;
/// A gate failed: a regression, or a wrong output.
pub const GATE_FAILED: i32 = 1;
/// The command line, the manifest or a baseline file is wrong.
pub const USAGE: i32 = 2;
/// Nothing comparable: baselines of another backend or environment.
pub const NOT_COMPARABLE: i32 = 3;
/// A workload failed to build, to start, or to end as expected.
pub const RUN_FAILED: i32 = 4;
/// Counts were not reproducible.
pub const NOT_REPRODUCIBLE: i32 = 5;
/// No backend works here.
pub const NO_BACKEND: i32 = 6;
/// `count` and `compare` themselves failed: other codes belong to the program they run (as with timeout(1)).
pub const COUNTING_FAILED: i32 = 125;

/// Why a command failed, by layer. The message is the error's own.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong use, in words.
    #[error("{0}")]
    Usage(String),
    /// A wrong manifest.
    #[error(transparent)]
    Manifest(#[from] SuiteError),
    /// A selection that selects nothing.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// A baseline file that cannot be used.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// No backend.
    #[error(transparent)]
    Choose(#[from] ChooseError),
    /// A build step.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A job.
    #[error(transparent)]
    Job(#[from] JobError),
    /// A revision that cannot be checked out.
    #[error(transparent)]
    Worktree(#[from] WorktreeError),
    /// What happened in the checkout of another revision.
    #[error("at {revision}: {source}")]
    Revision {
        /// The revision as asked for.
        revision: String,
        /// What happened.
        source: Box<Failure>,
    },
    /// Temporary files.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// Stopped by the user.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The project could not be scaffolded.
    #[error(transparent)]
    Scaffold(#[from] InitError),
    /// A report could not be written as JSON.
    #[error("write the report: {0}")]
    Report(#[from] serde_json::Error),
    /// A pattern of the manifest that is none; its reader refuses them.
    #[error(transparent)]
    Pattern(#[from] regex::Error),
    /// Anything at the edge.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// The code of a suite command that failed like this.
    pub fn code(&self) -> i32 {
        if let Some(stop) = self.stop() {
            return 128 + stop.0;
        }
        match self {
            Failure::Usage(_) | Failure::Manifest(_) | Failure::Selection(_) => USAGE,
            Failure::Pattern(_) => USAGE,
            Failure::Baseline(_) => USAGE,
            Failure::Worktree(_) | Failure::Scaffold(_) => USAGE,
            Failure::Choose(_) => NO_BACKEND,
            Failure::Revision { source, .. } => source.code(),
            Failure::Build(_) | Failure::Job(_) | Failure::Cancelled(_) => RUN_FAILED,
            Failure::Scratch(_) | Failure::Report(_) | Failure::Other(_) => RUN_FAILED,
        }
    }

    /// The code of `count` and `compare`: 126, 127 and 128 + signal as a shell, 2 for wrong use, 125 for the rest.
    pub fn code_of_count(&self) -> i32 {
        if let Some(stop) = self.stop() {
            return 128 + stop.0;
        }
        match self {
            Failure::Job(JobError::Command(problem)) => problem.exit_code(),
            Failure::Usage(_) => USAGE,
            _ => COUNTING_FAILED,
        }
    }

    /// The signal that stopped us, if that is why.
    fn stop(&self) -> Option<Cancelled> {
        match self {
            Failure::Build(BuildError::Cancelled(stop))
            | Failure::Choose(ChooseError::Cancelled(stop))
            | Failure::Job(JobError::Cancelled(stop))
            | Failure::Cancelled(stop) => Some(*stop),
            Failure::Revision { source, .. } => source.stop(),
            _ => None,
        }
    }
}

/// The code of a check with these verdicts: the gravest of them decides, in the order failed, gate, not
/// reproducible, not comparable.
pub fn of_verdicts(verdicts: &[Verdict], allow_incomparable: bool) -> i32 {
    let has = |wanted: &[Verdict]| verdicts.iter().any(|verdict| wanted.contains(verdict));
    if has(&[Verdict::Failed]) {
        RUN_FAILED
    } else if has(&[Verdict::Regressed, Verdict::WrongOutput]) {
        GATE_FAILED
    } else if has(&[Verdict::NotReproducible]) {
        NOT_REPRODUCIBLE
    } else if has(&[Verdict::NotComparable]) && !allow_incomparable {
        NOT_COMPARABLE
    } else {
        OK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_verdict_decides() {
        use Verdict::{Failed, Identical, NotComparable, NotReproducible, Regressed};
        let code = |verdicts: &[Verdict]| of_verdicts(verdicts, false);
        assert_eq!(code(&[]), OK);
        assert_eq!(code(&[Identical, NotComparable]), NOT_COMPARABLE);
        assert_eq!(code(&[NotComparable, NotReproducible]), NOT_REPRODUCIBLE);
        assert_eq!(code(&[NotReproducible, Regressed]), GATE_FAILED);
        assert_eq!(code(&[Regressed, Failed]), RUN_FAILED);
        assert_eq!(of_verdicts(&[NotComparable], true), OK);
    }

    #[test]
    fn new_and_missing_workloads_fail_no_gate() {
        assert_eq!(
            of_verdicts(&[Verdict::New, Verdict::Missing, Verdict::Improved], false),
            OK
        );
    }
}
