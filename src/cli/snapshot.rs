//! `counterfoil snapshot`: the outputs of the suite alone, without their counts.

use super::check::stored_output;
use super::exit::{self, Failure};
use super::record::drop_snapshots;
use super::shims::Shims;
use super::suite::{Ran, Selecting, Suite};
use super::terminal::Terminal;
use crate::backend::Settings;
use crate::baseline::Store;
use crate::compare::snapshot;
use crate::report::{OutputRow, OutputState, terminal as render};
use crate::suite::Case;

/// Shows how the outputs differ from their snapshots, or accepts them. Counts are neither compared nor stored.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Run the workloads and show what they write that is not as in their snapshots, as a unified diff.
    ///
    /// Exit code: 0 nothing differs; 1 something does; 4 a workload failed to run; 5 its runs wrote different things.
    Diff(Selecting),
    /// Run the workloads and make what they write their snapshots, showing what changes.
    Accept(Selecting),
}

/// Runs the subcommand.
pub fn run(
    arguments: &Arguments,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<i32, Failure> {
    let (selecting, accept) = match &arguments.action {
        Action::Diff(selecting) => (selecting, false),
        Action::Accept(selecting) => (selecting, true),
    };
    let suite = with_snapshots(selecting.open()?);
    let chosen = suite.choose(settings)?;
    let store = suite.store();
    suite.build(terminal)?;
    let results = suite.measure(&chosen, terminal, Shims::Replay(&store))?;
    let mut rows = Vec::new();
    for (case, ran) in suite.selected.iter().zip(&results) {
        rows.extend(outputs(case, ran, &store, accept)?);
    }
    if accept {
        for workload in suite.workloads() {
            drop_snapshots(&suite, &store, workload)?;
        }
    }
    terminal.out(&render::outputs(&rows, accept, &terminal.stdout_view()));
    Ok(exit_code(&rows, accept))
}

/// The suite with those cases only that have a snapshot.
fn with_snapshots(mut suite: Suite) -> Suite {
    suite.selected.retain(|case| case.snapshot.is_wanted());
    suite
}

/// One row for each output of a case, or one that says why there is none.
fn outputs(case: &Case, ran: &Ran, store: &Store, accept: bool) -> Result<Vec<OutputRow>, Failure> {
    let row = |output: String, state: OutputState, detail: String| OutputRow {
        workload: case.id.clone(),
        output,
        state,
        detail,
    };
    let counted = match ran {
        Ran::Failed(why) => return Ok(vec![row(String::new(), OutputState::Failed, why.clone())]),
        Ran::Counted(counted) => counted,
    };
    if let Some(unsteady) = &counted.unsteady {
        return Ok(vec![row(
            String::new(),
            OutputState::Unsteady,
            unsteady.clone(),
        )]);
    }
    let mut rows = Vec::new();
    for (name, actual) in &counted.outputs {
        let stored = stored_output(case, store, name)?;
        let tolerance = case.snapshot.tolerance;
        let before = stored.as_deref().unwrap_or_default();
        let state = match &stored {
            None => OutputState::New,
            Some(stored) if snapshot::compare(stored, actual, tolerance).is_ok() => {
                OutputState::Same
            }
            Some(_) => OutputState::Changed,
        };
        let path = store.snapshot_path(&case.workload, &case.id, name.key());
        let labels = snapshot::Labels {
            expected: &path.display().to_string(),
            actual: &format!("{} of {}", name.words(), case.id),
        };
        let diff = match state {
            OutputState::Same => String::new(),
            _ => snapshot::unified(before, actual, tolerance, labels)
                .unwrap_or_else(|| "(not text)\n".to_owned()),
        };
        if accept && state != OutputState::Same {
            store.save_snapshot(&case.workload, &case.id, name.key(), actual)?;
        }
        rows.push(row(name.words(), state, diff));
    }
    Ok(rows)
}

/// What was accepted is no difference any more.
fn exit_code(rows: &[OutputRow], accept: bool) -> i32 {
    let has = |wanted: OutputState| rows.iter().any(|row| row.state == wanted);
    if has(OutputState::Failed) {
        exit::RUN_FAILED
    } else if !accept && (has(OutputState::Changed) || has(OutputState::New)) {
        exit::GATE_FAILED
    } else if has(OutputState::Unsteady) {
        exit::NOT_REPRODUCIBLE
    } else {
        exit::OK
    }
}
