//! The command line: one file a subcommand. The only layer that prints, and the only one that ends the process.

mod check;
mod compare;
mod count;
mod doctor;
pub mod exit;
mod init;
mod list;
mod options;
mod record;
pub mod scaffold;
mod suite;
mod terminal;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::backend::Settings;
use crate::supervise::cancel::{self, Policy};
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
    /// Write what the engine does to a file, an event a line, for whoever looks for a mistake in it.
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    engine_log: Option<PathBuf>,
}

impl Engine {
    fn settings(&self) -> Settings {
        Settings {
            code_cache: !self.no_code_cache,
            engine_log: self.engine_log.clone(),
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
    /// Write a commented counterfoil.toml and a GitHub workflow.
    Init(init::Arguments),
    /// Say what this machine can count with, and why not.
    Doctor(doctor::Arguments),
}

/// Runs the command line of this process and returns its exit code.
pub fn main() -> i32 {
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

fn run(command: Command, settings: &Settings, terminal: &Terminal) -> i32 {
    let counting = matches!(command, Command::Count(_) | Command::Compare(_));
    let result = match command {
        Command::Count(arguments) => count::run(&arguments, settings, terminal),
        Command::Compare(arguments) => compare::run(&arguments, settings, terminal),
        Command::List(arguments) => list::run(&arguments, terminal),
        Command::Record(arguments) => record::run(&arguments, settings, terminal),
        Command::Check(arguments) => check::run(&arguments, settings, terminal),
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
