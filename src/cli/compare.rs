//! `counterfoil compare`: several commands side by side.

use super::count::job;
use super::exit::{self, Failure};
use super::options::Counting;
use super::terminal::Terminal;
use crate::backend::{self, Detail, Settings};
use crate::compare::sides;
use crate::report::{json, terminal as render};
use crate::suite::split_words;
use crate::supervise::choose::choose;
use crate::supervise::{Input, Job, Output, measure};

/// Counts several commands and shows each as a ratio of the first, with the opcodes and functions that differ,
/// largest difference first.
///
/// Each command is one argument, split into words as a shell would ('sort -n file'), but not run by a shell
/// unless --shell is given. Their output is discarded unless --show-output is given.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    counting: Counting,
    /// Run each command by /bin/sh, so that pipes and expansions work; the shell is counted, too.
    #[arg(long)]
    shell: bool,
    /// Let the commands' output through, to standard error.
    #[arg(long)]
    show_output: bool,
    /// Write the report as JSON (docs/schema/compare.json).
    #[arg(long)]
    json: bool,
    /// The commands, each one argument.
    #[arg(required = true, num_args = 2.., value_name = "CMD")]
    commands: Vec<String>,
}

/// Runs the subcommand.
pub fn run(
    arguments: &Arguments,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<i32, Failure> {
    let mut jobs = Vec::new();
    for command in &arguments.commands {
        jobs.push(one(arguments, command)?);
    }
    let chosen = choose(arguments.counting.backend.0, jobs[0].detail, settings)?;
    let progress = terminal.progress(jobs.len());
    // One after the other: all have the same random bytes, and side by side would choose the same names for files.
    let mut measurements = Vec::new();
    for job in &jobs {
        measurements.push(measure(job, &chosen)?.measurement);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let sides = sides(measurements);
    if arguments.json {
        terminal.out(&json::compare(&sides)?);
    } else {
        terminal.out(&render::compare(
            &sides,
            arguments.counting.top(),
            &terminal.stdout_view(),
        ));
    }
    Ok(exit::OK)
}

fn one(arguments: &Arguments, command: &str) -> Result<Job, Failure> {
    let words = match arguments.shell {
        true => vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()],
        false => {
            split_words(command).map_err(|error| Failure::Usage(format!("`{command}`: {error}")))?
        }
    };
    let output = if arguments.show_output {
        Output::ToStderr
    } else {
        Output::Discard
    };
    let words = words.into_iter().map(Into::into).collect();
    let job = job(&arguments.counting, words, Input::Null, output);
    Ok(Job {
        own_session: true,
        detail: explaining(&arguments.counting),
        ..job
    })
}

/// Differences are to be explained: `auto` takes a backend that counts opcodes and functions, and a backend asked for
/// by name counts what it can.
fn explaining(counting: &Counting) -> Detail {
    let all = Detail {
        opcodes: true,
        functions: true,
        regions: counting.regions,
    };
    let Some(kind) = counting.backend.0 else {
        return all;
    };
    let offers = backend::all::open(kind, &Settings::default()).offers();
    Detail {
        opcodes: counting.opcodes || offers.opcodes,
        functions: counting.functions || offers.functions,
        ..all
    }
}
