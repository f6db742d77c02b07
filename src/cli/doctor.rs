//! `counterfoil doctor`: what this machine can count with, and why not.

use super::exit::{self, Failure};
use super::terminal::Terminal;
use crate::backend::doctor::{Bearing, Finding, examine};
use crate::backend::{Settings, all};
use crate::model::BackendKind;
use crate::report::{Checkup, State, json, terminal as render};

/// Tries every backend for real, and names what stands in the way of those that do not work.
///
/// Exit code: 0 when at least one backend works, else 6.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Write the report as JSON (docs/schema/doctor.json).
    #[arg(long)]
    json: bool,
}

/// The backends a user can choose.
const BACKENDS: [BackendKind; 5] = [
    BackendKind::Perf,
    BackendKind::Dbi,
    BackendKind::Cachegrind,
    BackendKind::Callgrind,
    BackendKind::Step,
];

/// Runs the subcommand.
pub fn run(arguments: &Arguments, terminal: &Terminal) -> Result<i32, Failure> {
    let backends: Vec<Checkup> = BACKENDS.into_iter().map(try_backend).collect();
    let works = backends.iter().any(|checkup| checkup.state != State::Out);
    let circumstances = examine().into_iter().map(circumstance);
    let all: Vec<Checkup> = backends.into_iter().chain(circumstances).collect();
    match arguments.json {
        true => terminal.out(&json::doctor(&all)?),
        false => terminal.out(&render::doctor(&all, &terminal.stdout_view())),
    }
    Ok(if works { exit::OK } else { exit::NO_BACKEND })
}

fn try_backend(kind: BackendKind) -> Checkup {
    let (state, reason, remedy) = match all::open(kind, &Settings::default()).probe() {
        Ok(ready) if ready.notes.is_empty() => (
            State::Ok,
            format!("counts (version {})", ready.version),
            None,
        ),
        Ok(ready) => (
            State::Warn,
            format!(
                "counts (version {}); {}",
                ready.version,
                ready.notes.join("; ")
            ),
            None,
        ),
        Err(out) => (State::Out, out.reason, Some(out.remedy)),
    };
    Checkup {
        name: kind.to_string(),
        state,
        reason,
        remedy,
        backend: Some(kind),
    }
}

fn circumstance(finding: Finding) -> Checkup {
    let state = match finding.bearing {
        Bearing::Good => State::Ok,
        Bearing::Note | Bearing::Harmful => State::Warn,
        Bearing::Blocking => State::Out,
    };
    Checkup {
        name: finding.subject.to_owned(),
        state,
        reason: finding.found,
        remedy: finding.remedy,
        backend: None,
    }
}
