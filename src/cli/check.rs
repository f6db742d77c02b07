//! `counterfoil check`: measure the suite and hold it against its baselines, or against another revision.

use std::collections::BTreeMap;

use super::exit::{self, Failure};
use super::explain::explain_disagreements;
use super::parity;
use super::shims::Shims;
use super::suite::{Counted, OwnedOutput, Ran, Selecting, Suite, wanted, where_it_is};
use super::terminal::Terminal;
use crate::backend::Settings;
use crate::baseline::{Baseline, Store};
use crate::compare::{
    disagreement, failed, judge, missing, not_reproducible, noted, snapshot, wrong_output,
};
use crate::model::{Accepted, BackendKind, Caveat, Comparison, StoredCase};
use crate::report::{Top, json, markdown, terminal as render};
use crate::suite::Case;
use crate::supervise::against::Worktree;
use crate::supervise::choose::Chosen;

/// Measures the suite and holds it against its baselines. Each workload gets a verdict; a regression is explained by the
/// functions and opcodes whose counts moved.
///
/// Exit code: 0 all gates hold; 1 a gate failed; 2 wrong use or manifest; 3 not comparable; 4 a workload failed to run;
/// 5 not reproducible; 6 no backend works here.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    selecting: Selecting,
    /// Build and measure this git revision here, and hold against it; no stored baseline is used.
    #[arg(long, value_name = "REV")]
    against: Option<String>,
    /// Report what is not comparable, and let it pass.
    #[arg(long)]
    allow_incomparable: bool,
    /// Write the report as JSON (docs/schema/check.json).
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Write the report as Markdown, for a pull request or a job's summary.
    #[arg(long)]
    markdown: bool,
    /// Show every function and opcode that moved, not the largest ten.
    #[arg(long)]
    all: bool,
}

/// Rows beneath a regression.
const ROWS: usize = 10;

/// Runs the subcommand.
pub fn run(
    arguments: &Arguments,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<i32, Failure> {
    let suite = arguments.selecting.open()?;
    let chosen = suite.choose(settings)?;
    let mut comparisons = match &arguments.against {
        None => against_baselines(&suite, &chosen, terminal)?,
        Some(revision) => against_revision(&suite, revision, &chosen, terminal)?,
    };
    explain_disagreements(&suite, &mut comparisons, settings, terminal)?;
    let top = if arguments.all {
        Top::All
    } else {
        Top::First(ROWS)
    };
    let report = if arguments.json {
        json::check(&comparisons)?
    } else if arguments.markdown {
        markdown::check(&comparisons, top)
    } else {
        render::check(&comparisons, top, &terminal.stdout_view())
    };
    terminal.out(&report);
    let verdicts: Vec<_> = comparisons
        .iter()
        .map(|comparison| comparison.verdict)
        .collect();
    Ok(exit::of_verdicts(&verdicts, arguments.allow_incomparable))
}

/// Baselines are read before anything is measured: a damaged file should not cost a suite's time.
fn against_baselines(
    suite: &Suite,
    chosen: &Chosen,
    terminal: &Terminal,
) -> Result<Vec<Comparison>, Failure> {
    let store = suite.store();
    let baselines = load(suite, &store)?;
    let snapshots = snapshots(suite, &store)?;
    suite.build(terminal)?;
    let results = suite.measure(chosen, terminal, Shims::Replay(&store))?;
    let mut comparisons = Vec::new();
    for ((case, ran), expected) in suite.selected.iter().zip(&results).zip(&snapshots) {
        let before = baselines
            .get(&case.workload)
            .and_then(|baseline| baseline.accepted(&case.id));
        comparisons.push(verdict(case, before, ran, expected));
    }
    parity::judge(suite, &results, &mut comparisons)?;
    comparisons.extend(gone(suite, &store, &baselines)?);
    Ok(comparisons)
}

/// Baselines of the selected workloads.
pub(super) fn load(suite: &Suite, store: &Store) -> Result<BTreeMap<String, Baseline>, Failure> {
    let mut baselines = BTreeMap::new();
    for workload in suite.selected.iter().map(|case| &case.workload) {
        if !baselines.contains_key(workload)
            && let Some(baseline) = store.load(workload, None)?
        {
            baselines.insert(workload.clone(), baseline);
        }
    }
    Ok(baselines)
}

fn snapshots(suite: &Suite, store: &Store) -> Result<Vec<Expected>, Failure> {
    suite
        .selected
        .iter()
        .map(|case| stored_outputs(case, store))
        .collect()
}

/// The stored snapshots of one case.
pub(super) fn stored_outputs(case: &Case, store: &Store) -> Result<Expected, Failure> {
    let loaded = wanted(case);
    let loaded = loaded.iter().map(|name| stored_output(case, store, name));
    Ok(Expected::Stored(loaded.collect::<Result<_, _>>()?))
}

/// The stored snapshot of one output; absent when there is none yet.
pub(super) fn stored_output(
    case: &Case,
    store: &Store,
    name: &OwnedOutput,
) -> Result<Option<Vec<u8>>, Failure> {
    Ok(store.load_snapshot(&case.workload, &case.id, name.key())?)
}

/// Baselines of workloads, or of parameters, that the manifest does not have any more.
fn gone(
    suite: &Suite,
    store: &Store,
    baselines: &BTreeMap<String, Baseline>,
) -> Result<Vec<Comparison>, Failure> {
    let mut comparisons = Vec::new();
    let known = |id: &str| suite.all.iter().any(|case| case.id == id);
    let mut report = |baseline: &Baseline| {
        let stale = baseline.cases.iter().filter(|(id, _)| !known(id));
        comparisons.extend(stale.map(|(id, stored)| missing(id, stored)));
    };
    baselines.values().for_each(&mut report);
    if suite.complete {
        for workload in store.workloads()? {
            if !suite.manifest.workloads().any(|name| name == workload)
                && let Some(baseline) = store.load(&workload, None)?
            {
                report(&baseline);
            }
        }
    }
    Ok(comparisons)
}

/// Measures the other revision's suite in a worktree first, then ours in place.
fn against_revision(
    suite: &Suite,
    revision: &str,
    chosen: &Chosen,
    terminal: &Terminal,
) -> Result<Vec<Comparison>, Failure> {
    let before = measure_revision(suite, revision, chosen, terminal)?;
    suite.build(terminal)?;
    let results = suite.measure(chosen, terminal, Shims::Replay(&suite.store()))?;
    let mut comparisons = Vec::new();
    for (case, ran) in suite.selected.iter().zip(&results) {
        let before = before.get(&case.id);
        comparisons.push(against(case, before, ran, revision, chosen.info.name));
    }
    parity::judge(suite, &results, &mut comparisons)?;
    let is_gone = |id: &str| !suite.all.iter().any(|case| case.id == id);
    let counted = before
        .iter()
        .filter_map(|(id, before)| Some((id, before.as_ref().ok()?)));
    let gone = counted.filter(|(id, _)| is_gone(id));
    comparisons.extend(gone.map(|(id, before)| missing(id, &before.counts)));
    Ok(comparisons)
}

/// A case as the other revision counts it.
struct Before {
    counts: StoredCase,
    outputs: Expected,
    /// In words, how its runs disagreed.
    unsteady: Option<String>,
}

impl Before {
    fn new(counted: Counted) -> Before {
        Before {
            unsteady: disagreement(&counted.measurement.repeats).or(counted.unsteady),
            counts: StoredCase::from(&counted.measurement),
            outputs: Expected::Written(counted.outputs),
        }
    }
}

/// The verdict on one case held against the other revision's.
fn against(
    case: &Case,
    before: Option<&Result<Before, String>>,
    ran: &Ran,
    revision: &str,
    backend: BackendKind,
) -> Comparison {
    let before = match before {
        Some(Ok(before)) => before,
        uncounted => {
            let nothing = Expected::Written(Vec::new());
            let mut comparison = verdict(case, None, ran, &nothing);
            if let (Some(Err(why)), None) = (uncounted, &comparison.detail) {
                comparison.detail =
                    Some(format!("nothing to hold it against: at {revision}, {why}"));
            }
            return comparison;
        }
    };
    let accepted = Accepted {
        backend,
        case: &before.counts,
    };
    let comparison = verdict(case, Some(accepted), ran, &before.outputs);
    match &before.unsteady {
        Some(unsteady) => not_reproducible(comparison, &format!("at {revision}, {unsteady}")),
        None => comparison,
    }
}

/// Every selected case of the other revision, by id: its counts, or why there are none.
fn measure_revision(
    suite: &Suite,
    revision: &str,
    chosen: &Chosen,
    terminal: &Terminal,
) -> Result<BTreeMap<String, Result<Before, String>>, Failure> {
    let worktree = Worktree::checkout(&suite.manifest.folder, revision)?;
    let short = worktree.commit.get(..12).unwrap_or(&worktree.commit);
    terminal.note(&format!("measuring {revision} ({short})"));
    let there = |failure| match failure {
        stopped @ Failure::Cancelled(_) => stopped,
        failure => Failure::Revision {
            revision: revision.to_owned(),
            source: Box::new(failure),
        },
    };
    let Some(other) = suite.elsewhere(worktree.project()).map_err(there)? else {
        terminal.note(&format!(
            "{revision} has no manifest here: every workload is new"
        ));
        return Ok(BTreeMap::new());
    };
    other.build(terminal).map_err(there)?;
    let recorded = other.store();
    let results = other.measure(chosen, terminal, Shims::Replay(&recorded));
    let results = results.map_err(there)?;
    if !worktree.has_equal_length() && !where_it_is(&results).is_empty() {
        terminal.note(
            "the path of its checkout is longer than yours; a program that handles its own path executes more there",
        );
    }
    let ids = other.selected.iter().map(|case| case.id.clone());
    let before = results.into_iter().map(|ran| match ran {
        Ran::Counted(counted) => Ok(Before::new(*counted)),
        Ran::Failed(why) => Err(why),
    });
    Ok(ids.zip(before).collect())
}

/// What a case's outputs are held against, as far as it is known.
pub(super) enum Expected {
    /// The stored snapshots, in the order of the case's outputs; absent where none is stored.
    Stored(Vec<Option<Vec<u8>>>),
    /// What another revision wrote; an output that its manifest did not name is not there.
    Written(Vec<(OwnedOutput, Vec<u8>)>),
}

/// The verdict on one case: how it ended, then its counts, then its output.
pub(super) fn verdict(
    case: &Case,
    before: Option<Accepted<'_>>,
    ran: &Ran,
    expected: &Expected,
) -> Comparison {
    let counted = match ran {
        Ran::Failed(why) => return failed(&case.id, why.clone()),
        Ran::Counted(counted) => counted,
    };
    let mut comparison = judge(&case.id, before, &counted.measurement, &case.gate);
    for text in unseen(counted) {
        noted(&mut comparison, text);
    }
    if let Some(unsteady) = &counted.unsteady {
        return not_reproducible(comparison, unsteady);
    }
    match output_problem(case, counted, before.is_some(), expected) {
        Some(problem) => wrong_output(comparison, &problem),
        None => comparison,
    }
}

/// What the backend could not see of a case with shims.
fn unseen(counted: &Counted) -> impl Iterator<Item = &str> {
    let measurement = &counted.measurement;
    let caveats = measurement
        .caveats
        .iter()
        .filter(|_| !measurement.shims.is_empty());
    caveats.filter_map(|caveat| match caveat {
        Caveat::Other { text } => Some(text.as_str()),
        _ => None,
    })
}

/// What is wrong with the outputs; none when they are as in the snapshots, or the case is new. A case that has a
/// baseline must have its snapshots, too: without one, any output would pass.
fn output_problem(
    case: &Case,
    counted: &Counted,
    has_baseline: bool,
    expected: &Expected,
) -> Option<String> {
    let outputs = counted.outputs.iter().enumerate();
    let mut problems = outputs.filter_map(|(index, (name, actual))| {
        let wanted = match expected {
            Expected::Stored(all) => all.get(index).and_then(Option::as_ref),
            Expected::Written(all) => all.iter().find(|(n, _)| n == name).map(|(_, bytes)| bytes),
        };
        let problem = match (wanted, expected) {
            (Some(wanted), _) => snapshot::compare(wanted, actual, case.snapshot.tolerance)
                .err()?
                .to_string(),
            (None, Expected::Stored(_)) if has_baseline => {
                "the baseline has no snapshot of it; run `counterfoil record`".to_owned()
            }
            (None, _) => return None,
        };
        Some(format!("{}: {problem}", name.words()))
    });
    problems.next()
}
