//! `counterfoil list`: the suite's workloads.

use super::check::load;
use super::exit::{self, Failure};
use super::suite::Selecting;
use super::terminal::Terminal;
use crate::model::Metric;
use crate::report::{WorkloadRow, json, terminal as render};

/// Shows the suite's workloads, one line for each set of parameters, with the instructions of its baseline.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    selecting: Selecting,
    /// Write the list as JSON (docs/schema/list.json).
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, terminal: &Terminal) -> Result<i32, Failure> {
    let suite = arguments.selecting.open()?;
    let store = suite.store();
    let baselines = load(&suite, &store)?;
    let mut rows = Vec::new();
    for case in &suite.selected {
        let stored = baselines
            .get(&case.workload)
            .and_then(|baseline| baseline.cases.get(&case.id));
        rows.push(WorkloadRow {
            workload: case.id.clone(),
            command: case.command.clone(),
            tags: case.tags.clone(),
            baseline: stored.and_then(|stored| stored.value(&Metric::Instructions)),
        });
    }
    match arguments.json {
        true => terminal.out(&json::list(&rows)?),
        false => terminal.out(&render::list(&rows, &terminal.stdout_view())),
    }
    Ok(exit::OK)
}
