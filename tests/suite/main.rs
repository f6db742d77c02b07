//! The suite commands from end to end: `init`, `list`, `record`, `check`, `check --against`.
//!
//! Verdicts are tested with scripted counts (the fake backend), the stories around them with real ones.

mod against;
#[path = "../common/mod.rs"]
mod common;
mod first_steps;
mod folder;
mod interrupted;
mod project;
mod recording;
mod told;
mod verdicts;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cases = [
        first_steps::cases(),
        folder::cases(),
        recording::cases(),
        verdicts::cases(),
        told::cases(),
        interrupted::cases(),
        against::cases(),
    ];
    common::run(cases.into_iter().flatten().collect())
}
