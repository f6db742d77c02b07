//! `counterfoil count`: one command, counted now.

use std::ffi::OsString;
use std::path::PathBuf;

use super::exit::Failure;
use super::options::Counting;
use super::terminal::Terminal;
use crate::backend::{Detail, Settings};
use crate::model::{BackendKind, Network, Shown};
use crate::report::{json, terminal as render};
use crate::supervise::choose::choose;
use crate::supervise::{Input, Job, Output, measure, parallel, program};

/// Counts the instructions of one command: all its processes and threads, from the first instruction after exec to
/// exit, the kernel excluded.
///
/// The command's own input, output, signals and exit code are as without counterfoil. The report goes to standard
/// error, or with --json to standard output (then the command's output goes to standard error).
///
/// Exit code: the command's own (128 + signal if it was killed, 124 if its time was up, 126 or 127 if it could not
/// be started); 125 if counting failed.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    counting: Counting,
    /// Write the report as JSON to standard output (docs/schema/count.json).
    #[arg(long)]
    json: bool,
    /// Write what the engine does to this file (docs/engine.md, for its developers).
    #[arg(long, value_name = "FILE", hide = true)]
    engine_log: Option<PathBuf>,
    /// The command, best after `--`.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

/// Runs the subcommand; the exit code is the program's.
pub fn run(
    arguments: &Arguments,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<i32, Failure> {
    let counting = &arguments.counting;
    let output = if arguments.json {
        Output::ToStderr
    } else {
        Output::Inherit
    };
    let job = job(counting, arguments.command.clone(), Input::Inherit, output);
    let settings = Settings {
        engine_log: arguments.engine_log.clone(),
        ..settings.clone()
    };
    let chosen = choose(counting.backend.0, job.detail, &[program(&job)?], &settings)?;
    if settings.engine_log.is_some() && chosen.info.name != BackendKind::Dbi {
        let name = chosen.info.name;
        let text = format!("--engine-log is for `--backend dbi`, and `{name}` counts here");
        return Err(Failure::Usage(text));
    }
    let measurement = measure(&job, &chosen)?.measurement;
    if arguments.json {
        terminal.out(&json::count(&measurement)?);
    } else {
        terminal.err(&render::count(
            &measurement,
            counting.top(),
            &terminal.stderr_view(),
        ));
    }
    Ok(measurement.outcome.code())
}

/// A job for a command given on the command line.
pub(super) fn job(
    counting: &Counting,
    command: Vec<OsString>,
    input: Input,
    output: Output,
) -> Job {
    Job {
        env: counting.variables(),
        pin: !counting.no_pin,
        shown: counting.shown(),
        timeout: counting.timeout,
        runs: counting.repeat,
        detail: counting.detail(),
        network: counting.network,
        ..plain(command, input, output)
    }
}

/// A job for one pinned run of a command.
pub(super) fn plain(command: Vec<OsString>, input: Input, output: Output) -> Job {
    Job {
        command,
        env: Vec::new(),
        cwd: None,
        input,
        output,
        pin: true,
        own_session: false,
        seed: 0,
        shown: Shown::default(),
        disturbance: None,
        cpu: parallel::cpus()[0],
        timeout: None,
        runs: 1,
        detail: Detail::default(),
        project: None,
        subject: Vec::new(),
        facts: Vec::new(),
        shims: Vec::new(),
        network: Network::default(),
        services: Vec::new(),
        exit: None,
    }
}
