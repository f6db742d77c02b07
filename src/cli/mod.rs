//! The command line: one file a subcommand. The only layer that prints, and the only one that ends the process.

mod check;
mod compare;
mod count;
mod doctor;
pub mod exit;
mod explain;
mod init;
mod list;
mod options;
mod parity;
mod record;
pub mod scaffold;
mod shims;
mod snapshot;
mod suite;
mod terminal;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::backend::Settings;
use crate::supervise::cancel::{self, Policy};
use crate::supervise::shims::call;
use crate::sys::heap;
use exit::Failure;
use terminal::Terminal;

/// Counts the instructions a program executes, keeps the counts, and gates changes on them.
///
/// Counts do not wobble as times do: the same program gives the same count on every run.
#[derive(Parser, Debug)]
#[command(name = "counterfoil", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// When to colour: auto (on a terminal, unless NO_COLOR is set), always or never.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    color: terminal::Color,
    /// Print results and errors only: no progress, no notes.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(flatten)]
    engine: Engine,
}

/// How the counting engine works. No count depends on it.
#[derive(clap::Args, Debug)]
struct Engine {
    /// Translate all code anew: do not use what earlier runs have left in the code cache, and leave nothing.
    ///
    /// The cache is in $COUNTERFOIL_CACHE_DIR, else $XDG_CACHE_HOME/counterfoil, else ~/.cache/counterfoil.
    #[arg(long, global = true)]
    no_code_cache: bool,
}

impl Engine {
    fn settings(&self) -> Settings {
        Settings {
            code_cache: !self.no_code_cache,
            ..Settings::default()
        }
    }
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Count one command now.
    Count(count::Arguments),
    /// Count several commands and explain the differences.
    Compare(compare::Arguments),
    /// Show the suite's workloads.
    List(list::Arguments),
    /// Measure the suite and store its baselines.
    Record(record::Arguments),
    /// Measure the suite and gate it against its baselines.
    Check(check::Arguments),
    /// Show how outputs differ from their snapshots, or accept them.
    Snapshot(snapshot::Arguments),
    /// Run a workload several times; where and why its counts differ.
    Explain(explain::Arguments),
    /// Write a commented counterfoil.toml and a GitHub workflow.
    Init(init::Arguments),
    /// Say what this machine can count with, and why not.
    Doctor(doctor::Arguments),
}

/// A defect of ours ends the process at once, with `end`, and so all that it traces. To unwind would be to wait for programs
/// that hold still until they are told to go on.
pub fn end_on_panic(end: fn(i32) -> !) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let error = "this is a defect of counterfoil, and nothing was counted: please report it with the lines above";
        Terminal::new(terminal::Color::Never, true).error(error);
        end(exit::COUNTING_FAILED);
    }));
}

/// Runs the command line of this process and returns its exit code.
pub fn main() -> i32 {
    if let Some(code) = shim_call() {
        return code;
    }
    heap::keep_freed();
    let cli = Cli::parse();
    let terminal = Terminal::new(cli.color, cli.quiet);
    let policy = match cli.command {
        Command::Count(_) => Policy::PassOn,
        _ => Policy::StopAll,
    };
    if let Err(error) = cancel::install(policy) {
        terminal.error(&format!("take charge of signals: {error}"));
        return exit::COUNTING_FAILED;
    }
    crate::supervise::sweep();
    run(cli.command, &cli.engine.settings(), &terminal)
}

/// When a script in the place of a recorded program has started us: does what it asks, and gives the program's exit code.
/// Not a subcommand, because every argument is the program's, whatever it looks like.
fn shim_call() -> Option<i32> {
    let mut arguments = std::env::args_os().skip(1);
    arguments.next().filter(|first| first == call::ARGUMENT)?;
    let script = PathBuf::from(arguments.next()?);
    let called = call::run(&script, &arguments.collect::<Vec<_>>());
    Some(called.unwrap_or_else(|error| {
        Terminal::new(terminal::Color::Never, true).error(&error.to_string());
        exit::COUNTING_FAILED
    }))
}

fn run(command: Command, settings: &Settings, terminal: &Terminal) -> i32 {
    let counting = matches!(command, Command::Count(_) | Command::Compare(_));
    let result = match command {
        Command::Count(arguments) => count::run(&arguments, settings, terminal),
        Command::Compare(arguments) => compare::run(&arguments, settings, terminal),
        Command::List(arguments) => list::run(&arguments, terminal),
        Command::Record(arguments) => record::run(&arguments, settings, terminal),
        Command::Check(arguments) => check::run(&arguments, settings, terminal),
        Command::Snapshot(arguments) => snapshot::run(&arguments, settings, terminal),
        Command::Explain(arguments) => explain::run(&arguments, settings, terminal),
        Command::Init(arguments) => init::run(&arguments, terminal),
        Command::Doctor(arguments) => doctor::run(&arguments, terminal),
    };
    result.unwrap_or_else(|failure: Failure| {
        terminal.error(&failure.to_string());
        if counting {
            failure.code_of_count()
        } else {
            failure.code()
        }
    })
}
