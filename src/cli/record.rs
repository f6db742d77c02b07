//! `counterfoil record`: measure the suite and store its baselines.

use std::collections::{BTreeMap, BTreeSet};

use super::check::{stored_outputs, verdict};
use super::exit::{self, Failure};
use super::explain::explain_disagreements;
use super::parity;
use super::shims::{Shims, recorders};
use super::suite::{OwnedOutput, Ran, Selecting, Suite, wanted};
use super::terminal::Terminal;
use crate::backend::Settings;
use crate::baseline::{Baseline, Output as Kept, Store, plan};
use crate::compare::{missing, snapshot};
use crate::model::{Comparison, Measurement, StoredCase, Verdict};
use crate::report::{json, terminal as render};
use crate::suite::Case;

/// Measures the suite and stores what it counts as baselines, with the snapshots of its output. Says what changes.
///
/// A workload that fails, or whose runs disagree, keeps its old baseline and fails the command.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    selecting: Selecting,
    /// Say what would change, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write the report as JSON (docs/schema/check.json).
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(
    arguments: &Arguments,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<i32, Failure> {
    let suite = arguments.selecting.open()?;
    let chosen = suite.choose(settings)?;
    let store = suite.store();
    let old = load(&suite, &store)?;
    suite.build(terminal)?;
    let results = suite.measure(&chosen, terminal, Shims::Record)?;
    let mut comparisons = comparisons(&suite, &store, &old, &results)?;
    parity::judge(&suite, &results, &mut comparisons)?;
    if !arguments.dry_run {
        write(&suite, &store, &old, &results, &comparisons)?;
    }
    explain_disagreements(&suite, &mut comparisons, settings, terminal)?;
    let report = match arguments.json {
        true => json::record(&comparisons)?,
        false => render::record(&comparisons, !arguments.dry_run, &terminal.stdout_view()),
    };
    terminal.out(&report);
    Ok(exit_code(&comparisons))
}

/// Baselines of all workloads concerned: the selected ones, and with the whole suite selected those that are gone.
fn load(suite: &Suite, store: &Store) -> Result<BTreeMap<String, Baseline>, Failure> {
    let mut names: BTreeSet<String> = suite
        .selected
        .iter()
        .map(|case| case.workload.clone())
        .collect();
    if suite.complete {
        names.extend(store.workloads()?);
    }
    let mut baselines = BTreeMap::new();
    for name in names {
        if let Some(baseline) = store.load(&name, None)? {
            baselines.insert(name, baseline);
        }
    }
    Ok(baselines)
}

fn comparisons(
    suite: &Suite,
    store: &Store,
    old: &BTreeMap<String, Baseline>,
    results: &[Ran],
) -> Result<Vec<Comparison>, Failure> {
    let mut comparisons = Vec::new();
    for (case, ran) in suite.selected.iter().zip(results) {
        let before = old
            .get(&case.workload)
            .and_then(|baseline| baseline.accepted(&case.id));
        comparisons.push(verdict(case, before, ran, &stored_outputs(case, store)?));
    }
    let known = |id: &str| suite.all.iter().any(|case| case.id == id);
    let stored = old.values().flat_map(|baseline| &baseline.cases);
    comparisons.extend(
        stored
            .filter(|(id, _)| !known(id))
            .map(|(id, case)| missing(id, case)),
    );
    Ok(comparisons)
}

/// Whether what was measured is stored. A run that failed or disagreed with itself is not.
fn is_accepted(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Failed | Verdict::NotReproducible)
}

fn write(
    suite: &Suite,
    store: &Store,
    old: &BTreeMap<String, Baseline>,
    results: &[Ran],
    comparisons: &[Comparison],
) -> Result<(), Failure> {
    let mut measured: BTreeMap<&str, BTreeMap<String, StoredCase>> = BTreeMap::new();
    for ((case, ran), comparison) in suite.selected.iter().zip(results).zip(comparisons) {
        let cases = measured.entry(&case.workload).or_default();
        if let Ran::Counted(counted) = ran
            && is_accepted(comparison.verdict)
        {
            let before = old
                .get(&case.workload)
                .and_then(|baseline| baseline.cases.get(&case.id));
            let stored = to_store(&counted.measurement, comparison.verdict, before);
            cases.insert(case.id.clone(), stored);
            save_snapshots(store, case, &counted.outputs)?;
            for shim in &counted.recorded {
                store.save_recording(&case.workload, &case.id, shim)?;
            }
        }
    }
    for workload in old.keys().map(String::as_str) {
        measured.entry(workload).or_default();
    }
    for (workload, cases) in measured {
        save(suite, store, workload, old.get(workload), cases)?;
        drop_snapshots(suite, store, workload)?;
    }
    Ok(())
}

/// What is stored of a measurement. The variables of whoever records stay out where they did not matter: every user's are
/// others, and the file would change with each of them.
fn to_store(
    measurement: &Measurement,
    verdict: Verdict,
    before: Option<&StoredCase>,
) -> StoredCase {
    let mut stored = StoredCase::from(measurement);
    if let (Verdict::Identical, Some(before)) = (verdict, before) {
        stored.fingerprint.variables = before.fingerprint.variables.clone();
    }
    stored
}

/// Removes snapshots and recordings that no case of the manifest wants any more.
pub(super) fn drop_snapshots(suite: &Suite, store: &Store, workload: &str) -> Result<(), Failure> {
    let cases = suite.all.iter().filter(|case| case.workload == workload);
    let paths = cases.flat_map(|case| {
        let path = |kept: Kept<'_>| store.snapshot_path(workload, &case.id, kept);
        let outputs = wanted(case);
        let outputs: Vec<_> = outputs.iter().map(|name| path(name.key())).collect();
        let shims = recorders(case).map(move |shim| path(Kept::Shim(&shim.name)));
        outputs.into_iter().chain(shims)
    });
    for path in store.stale_snapshots(workload, &paths.collect())? {
        store.remove(&path)?;
    }
    store.remove_empty_folder(workload);
    Ok(())
}

/// Stores the outputs that the stored snapshots do not allow: one that is near enough stays the same file.
fn save_snapshots(
    store: &Store,
    case: &Case,
    outputs: &[(OwnedOutput, Vec<u8>)],
) -> Result<(), Failure> {
    for (name, bytes) in outputs {
        let stored = store.load_snapshot(&case.workload, &case.id, name.key())?;
        let agrees = |stored| snapshot::compare(stored, bytes, case.snapshot.tolerance).is_ok();
        if !stored.as_deref().is_some_and(agrees) {
            store.save_snapshot(&case.workload, &case.id, name.key(), bytes)?;
        }
    }
    Ok(())
}

fn save(
    suite: &Suite,
    store: &Store,
    workload: &str,
    old: Option<&Baseline>,
    cases: BTreeMap<String, StoredCase>,
) -> Result<(), Failure> {
    let of_workload = suite.all.iter().filter(|case| case.workload == workload);
    let in_manifest = of_workload.map(|case| case.id.clone()).collect();
    let plan = plan(
        workload,
        suite.manifest.settings.backend,
        old,
        cases,
        &in_manifest,
    )
    .map_err(crate::baseline::BaselineError::from)?;
    if plan.changes_anything() {
        store.save(&plan.after)?;
    }
    Ok(())
}

/// What was stored fails nothing, whatever its gates would say; the rest counts as in a check.
fn exit_code(comparisons: &[Comparison]) -> i32 {
    let verdicts = comparisons.iter().map(|comparison| comparison.verdict);
    let refused: Vec<Verdict> = verdicts.filter(|verdict| !is_accepted(*verdict)).collect();
    exit::of_verdicts(&refused, false)
}
