//! `counterfoil explain`: several runs of a command; where and why their counts differ first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::count;
use super::exit::{self, Failure};
use super::options::{Variable, time_limit, variable, variables};
use super::suite::{Selecting, Suite};
use super::terminal::Terminal;
use crate::backend::profile::Modules;
use crate::backend::{Detail, Settings, spots};
use crate::compare::{Evidence, Parting, finding, origin, parting};
use crate::model::course::{Courses, Origin, Place};
use crate::model::explanation::{Disturbance, Explanation, Finding, Trial};
use crate::model::{BackendKind, Comparison, Verdict};
use crate::report::{View, json, terminal as render};
use crate::supervise::choose::{Chosen, choose};
use crate::supervise::follow::{Followed, follow, two_seeds};
use crate::supervise::{Input, Job, Output};

/// Runs a workload, or a command behind `--`, two or more times under the counting engine, and says where the counts of
/// blocks first part: function and line, the likely cause and the remedy.
///
/// Exit code: 0 the equal runs agree; 5 they do not; 2 wrong use; 4 the command failed to run; 6 no engine here.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A workload of the suite, by its name or a part of it that no other has.
    #[arg(
        value_name = "WORKLOAD",
        conflicts_with = "command",
        required_unless_present = "command"
    )]
    workload: Option<String>,
    /// The manifest; without it, counterfoil.toml here or in the nearest folder above.
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    manifest: Option<PathBuf>,
    /// Change these conditions, each in a run of its own: env-length, path-length, aslr, hash-seed, time, pid, cpu-model,
    /// load, cpu-count, or all.
    #[arg(long, value_name = "CONDITION,...", value_delimiter = ',', value_parser = condition)]
    disturb: Vec<Condition>,
    /// Equal runs.
    #[arg(long, short = 'n', default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    repeat: u32,
    /// Leave address layout, environment, CPU and all else as they are.
    #[arg(long, conflicts_with = "disturb")]
    no_pin: bool,
    /// Give the command this variable, or with NAME alone the one we have.
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<Variable>,
    /// Kill a run after this time (500ms, 60s, 2m).
    #[arg(long, value_name = "TIME", value_parser = time_limit)]
    timeout: Option<Duration>,
    /// Write the report as JSON (docs/schema/explain.json).
    #[arg(long)]
    json: bool,
    /// The command.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What `--disturb` takes.
#[derive(Clone, Copy, Debug)]
enum Condition {
    All,
    One(Disturbance),
}

fn condition(text: &str) -> Result<Condition, String> {
    match text {
        "all" => Ok(Condition::All),
        name => name
            .parse()
            .map(Condition::One)
            .map_err(|unknown: crate::model::explanation::UnknownDisturbance| unknown.to_string()),
    }
}

/// Runs the subcommand.
pub fn run(
    arguments: &Arguments,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<i32, Failure> {
    let chosen = engine(settings)?;
    let (subject, job) = match &arguments.workload {
        Some(name) => workload(arguments, name, &chosen, terminal)?,
        None => command(arguments),
    };
    let trials = trials(arguments);
    let progress = terminal.progress(trials.len() + 1);
    let explanation = explain(&subject, &job, &chosen, &trials, || progress.inc(1))?;
    progress.finish_and_clear();
    terminal.out(&match arguments.json {
        true => json::explain(&explanation)?,
        false => render::explain(&explanation, &terminal.stdout_view()),
    });
    let equal = explanation
        .trials
        .iter()
        .filter(|trial| trial.disturbance.is_none());
    let agree = equal.into_iter().all(|trial| trial.agrees);
    Ok(if agree {
        exit::OK
    } else {
        exit::NOT_REPRODUCIBLE
    })
}

/// The engine alone can tell the course of a run.
fn engine(settings: &Settings) -> Result<Chosen, Failure> {
    Ok(choose(
        Some(BackendKind::Dbi),
        Detail::default(),
        &[],
        settings,
    )?)
}

fn trials(arguments: &Arguments) -> Vec<Option<Disturbance>> {
    let mut trials = vec![None; arguments.repeat as usize - 1];
    for condition in &arguments.disturb {
        match condition {
            Condition::All => trials.extend(Disturbance::ALL.map(Some)),
            Condition::One(one) => trials.push(Some(*one)),
        }
    }
    trials
}

fn workload(
    arguments: &Arguments,
    name: &str,
    chosen: &Chosen,
    terminal: &Terminal,
) -> Result<(String, Job), Failure> {
    let selecting = Selecting::only(name.to_owned(), arguments.manifest.clone());
    let suite = selecting.open()?;
    let [case] = suite.selected.as_slice() else {
        let names: Vec<&str> = suite.selected.iter().map(|case| case.id.as_str()).collect();
        let names = names.join(", ");
        return Err(Failure::Usage(format!(
            "`{name}` is more than one workload: {names}; name one"
        )));
    };
    suite.build(terminal)?;
    let job = suite.job_to_explain(case, chosen)?;
    let env = job
        .env
        .iter()
        .cloned()
        .chain(variables(&arguments.env))
        .collect();
    let timeout = arguments.timeout.or(job.timeout);
    Ok((
        case.id.clone(),
        Job {
            env,
            timeout,
            pin: !arguments.no_pin,
            ..job
        },
    ))
}

fn command(arguments: &Arguments) -> (String, Job) {
    let words: Vec<String> = arguments
        .command
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let subject = crate::report::command_line(&words);
    let job = Job {
        env: variables(&arguments.env),
        pin: !arguments.no_pin,
        own_session: true,
        timeout: arguments.timeout,
        ..count::plain(arguments.command.clone(), Input::Null, Output::Discard)
    };
    (subject, job)
}

/// Runs a job once, and then once a trial, each held against the first.
fn explain(
    subject: &str,
    job: &Job,
    chosen: &Chosen,
    trials: &[Option<Disturbance>],
    ran: impl Fn(),
) -> Result<Explanation, Failure> {
    let first = follow(job, chosen)?;
    ran();
    let modules = Modules::default();
    let mut explanation = Explanation {
        subject: subject.to_owned(),
        instructions: first.run.instructions,
        trials: Vec::new(),
    };
    for disturbance in trials {
        let trial = trial(job, *disturbance, &first, chosen, &modules)?;
        explanation.trials.push(trial);
        ran();
    }
    Ok(explanation)
}

/// One more run, held against the first; where hash seeds are to differ, against one of its own.
fn trial(
    job: &Job,
    disturbance: Option<Disturbance>,
    first: &Followed,
    chosen: &Chosen,
    modules: &Modules,
) -> Result<Trial, Failure> {
    let (other, job) = match disturbance {
        Some(Disturbance::HashSeed) => {
            let [one, two] = two_seeds(job);
            (Some(follow(&one, chosen)?), two)
        }
        _ => (
            None,
            Job {
                disturbance,
                ..job.clone()
            },
        ),
    };
    let first = other.as_ref().unwrap_or(first);
    let second = follow(&job, chosen)?;
    let finding = found(&first.courses, &second.courses, disturbance, modules);
    Ok(Trial {
        disturbance,
        instructions: second.run.instructions,
        against: first.run.instructions,
        outcome: second.run.outcome,
        agrees: finding.is_none() && second.run.instructions == first.run.instructions,
        finding,
        note: second.note.map(str::to_owned),
    })
}

/// The first parting. One that is in the C library, and not by a call of the program's own, says little: then that in the
/// program's own code, or in the C library without the loader, if there is one.
fn found(
    first: &Courses,
    second: &Courses,
    under: Option<Disturbance>,
    modules: &Modules,
) -> Option<Finding> {
    let name = |place: Place| spots::name(modules, origin(first, second, place.origin), place);
    let in_words = |parting: &Parting| {
        let evidence = Evidence { under, name: &name };
        finding(parting, &evidence)
    };
    let overall = parting(first, second, &|_| true)?;
    let earliest = in_words(&overall);
    if !name(overall.at).library || earliest.called_by.is_some() {
        return Some(earliest);
    }
    let own = |origin: &Origin| !in_library(origin, spots::is_library);
    let not_loader = |origin: &Origin| !in_library(origin, spots::is_loader);
    let later = parting(first, second, &own).or_else(|| parting(first, second, &not_loader));
    Some(match later {
        Some(later) => Finding {
            earlier: Some(earliest.at),
            ..in_words(&later)
        },
        None => earliest,
    })
}

fn in_library(origin: &Origin, is: fn(&Path) -> bool) -> bool {
    matches!(origin, Origin::File(path) if is(path))
}

/// Runs of a workload whose repeats disagreed, that `check` and `record` look into.
const EQUAL_TRIALS: usize = 3;

/// Adds to each verdict of a workload whose runs disagree where and why they do. What cannot be explained stays as it is.
pub(super) fn explain_disagreements(
    suite: &Suite,
    comparisons: &mut [Comparison],
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), Failure> {
    for comparison in comparisons.iter_mut() {
        let case = suite
            .selected
            .iter()
            .find(|case| case.id == comparison.workload);
        let (Verdict::NotReproducible, Some(case)) = (comparison.verdict, case) else {
            continue;
        };
        let Ok(chosen) = engine(settings) else {
            return Ok(());
        };
        terminal.note(&format!("explaining: {}", case.id));
        let job = suite.job_to_explain(case, &chosen);
        let trials = [None; EQUAL_TRIALS];
        match job.and_then(|job| explain(&case.id, &job, &chosen, &trials, || ())) {
            Ok(explanation) => append(&mut comparison.detail, &in_words(&explanation)),
            Err(stopped @ Failure::Cancelled(_)) => return Err(stopped),
            Err(failure) => append(&mut comparison.detail, &format!("not explained: {failure}")),
        }
    }
    Ok(())
}

fn in_words(explanation: &Explanation) -> String {
    let found = explanation
        .trials
        .iter()
        .find_map(|trial| trial.finding.as_ref());
    match found {
        Some(found) => render::finding(found, &View::default()),
        None => format!(
            "{} more runs under `dbi` agreed in every block",
            EQUAL_TRIALS + 1
        ),
    }
}

fn append(detail: &mut Option<String>, text: &str) {
    let before = detail
        .take()
        .map_or_else(String::new, |detail| detail + "\n");
    *detail = Some(before + text.trim_end());
}
