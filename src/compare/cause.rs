//! From where two runs part, and under what changed condition, to the likely cause.
//!
//! The changed condition is the strongest evidence; without one, what the machine answered otherwise before, the nearest
//! first, and that which the parting function itself asked for before all others.

use std::collections::BTreeSet;

use super::parting::{Parting, Unlike};
use crate::model::course::Place;
use crate::model::explanation::{Cause, Disturbance, Finding, Named, OtherAnswer};

/// Answers that are shown.
const MOST_ANSWERS: usize = 5;

/// What is known besides the parting itself.
pub struct Evidence<'a> {
    /// What was changed in the second run.
    pub under: Option<Disturbance>,
    /// Names places.
    pub name: &'a dyn Fn(Place) -> Named,
}

/// The parting in words, with its likely cause.
pub fn finding(parting: &Parting, evidence: &Evidence<'_>) -> Finding {
    let at = (evidence.name)(parting.at);
    let callers: Vec<Named> = parting
        .callers
        .iter()
        .map(|place| (evidence.name)(*place))
        .collect();
    let counted = (evidence.name)(parting.counted).spot;
    let own = callers.iter().find(|caller| !caller.library);
    let called_by = own.filter(|_| at.library).map(|caller| caller.spot.clone());
    let near = called_by.as_ref().unwrap_or(&at.spot);
    let answers = ranked(parting, &near.function, evidence);
    let asked: Vec<_> = parting
        .asked
        .iter()
        .map(|(what, place)| (*what, (evidence.name)(*place)))
        .filter(|(_, by)| !by.library)
        .take(MOST_ANSWERS)
        .collect();
    let seen = Seen {
        function: &at.spot.function,
        by_near: answers
            .first()
            .is_some_and(|first| asked_by(first, &near.function, evidence)),
        nearest: answers.first().copied(),
        asked: &asked,
    };
    let cause = cause(parting, &seen, evidence.under);
    let answers = shown(&seen, &answers, evidence);
    Finding {
        program: parting.program.clone(),
        leads_to: (counted != at.spot).then_some(counted),
        at: at.spot,
        branch: parting.branch,
        called_by,
        earlier: None,
        executions: parting.counts,
        after_instructions: parting.after,
        cause,
        answers,
        remedy: cause.remedy().to_owned(),
    }
}

/// The answers that were not alike: those that the function near the parting asked for, then those that programs branch
/// on, then the rest; the nearest first.
fn ranked<'a>(parting: &'a Parting, near: &str, evidence: &Evidence<'_>) -> Vec<&'a Unlike> {
    let mut all: Vec<&Unlike> = parting.answers.iter().collect();
    let by_near = |unlike: &Unlike| asked_by(unlike, near, evidence);
    let rank = |unlike: &&Unlike| (is_minor(unlike), !by_near(unlike));
    all.sort_by_key(rank);
    all
}

/// Whether a function is among those that asked.
fn asked_by(unlike: &Unlike, function: &str, evidence: &Evidence<'_>) -> bool {
    let mut callers = unlike.callers.iter();
    callers.any(|place| (evidence.name)(*place).spot.function == function)
}

/// Whether an answer often differs and seldom matters.
fn is_minor(unlike: &Unlike) -> bool {
    matches!(
        of_call(unlike),
        Cause::FileStatus | Cause::Threads | Cause::Unknown
    )
}

/// One of each kind and asker, the nearest.
fn shown(seen: &Seen<'_>, answers: &[&Unlike], evidence: &Evidence<'_>) -> Vec<OtherAnswer> {
    let by = |unlike: &Unlike| {
        let mut callers = unlike.callers.iter().map(|place| (evidence.name)(*place));
        callers
            .find(|caller| !caller.library)
            .map(|caller| caller.spot)
    };
    let calls = answers.iter().map(|unlike| OtherAnswer {
        call: unlike.first.call.to_owned(),
        file: unlike
            .first
            .file
            .as_ref()
            .map(|path| path.display().to_string()),
        first: unlike.first.shown.clone(),
        second: unlike.second.clone(),
        by: by(unlike),
    });
    let asked = seen.asked.iter().map(|(what, by)| OtherAnswer {
        call: (*what).to_owned(),
        file: None,
        first: String::new(),
        second: String::new(),
        by: Some(by.spot.clone()),
    });
    let mut known = BTreeSet::new();
    let first_of_its_kind = |answer: &OtherAnswer| {
        let by = answer.by.as_ref().map(|spot| spot.function.clone());
        known.insert((answer.call.clone(), answer.file.clone(), by))
    };
    asked
        .chain(calls)
        .filter(first_of_its_kind)
        .take(MOST_ANSWERS)
        .collect()
}

/// What a cause is told by.
struct Seen<'a> {
    /// The parting function.
    function: &'a str,
    /// The first of the ranked answers that were not alike.
    nearest: Option<&'a Unlike>,
    /// Whether the parting function, or that of the program's own that called it, asked for it.
    by_near: bool,
    /// Instructions outside the C library that ask the machine.
    asked: &'a [(&'static str, Named)],
}

fn cause(parting: &Parting, seen: &Seen<'_>, under: Option<Disturbance>) -> Cause {
    match under {
        Some(Disturbance::EnvLength) => Cause::Environment,
        Some(Disturbance::PathLength) => Cause::Path,
        Some(Disturbance::Aslr) if hashes(seen.function) => Cause::AddressHash,
        Some(Disturbance::Aslr) => Cause::Addresses,
        Some(Disturbance::HashSeed) => Cause::HashSeed,
        Some(Disturbance::CpuModel) => Cause::CpuModel,
        Some(Disturbance::Time) => Cause::Clock,
        // All of the real machine is seen then.
        Some(Disturbance::CpuCount) => match by_itself(parting, seen) {
            Cause::Unknown => Cause::CpuCount,
            cause => cause,
        },
        Some(Disturbance::Pid | Disturbance::Load) | None => by_itself(parting, seen),
    }
}

/// The cause where nothing was changed on purpose.
fn by_itself(parting: &Parting, seen: &Seen<'_>) -> Cause {
    let matters = |unlike: &&Unlike| !is_minor(unlike);
    let answered = seen.nearest.filter(matters).map(of_call);
    if let Some(cause) = answered.filter(|_| seen.by_near) {
        return cause;
    }
    if parting.threads > 1 {
        return Cause::Threads;
    }
    if let Some(cause) = seen.asked.iter().find_map(|(what, _)| of_instruction(what)) {
        return cause;
    }
    if let Some(cause) = answered {
        return cause;
    }
    if parting.signals {
        return Cause::Signal;
    }
    if is_variant(seen.function) {
        return Cause::CpuModel;
    }
    seen.nearest.map_or(Cause::Unknown, of_call)
}

/// What an instruction that asks the machine stands for.
fn of_instruction(name: &str) -> Option<Cause> {
    match name {
        "rdtsc" | "rdtscp" => Some(Cause::Clock),
        "rdrand" | "rdseed" => Some(Cause::Random),
        _ => None,
    }
}

/// What an answer stands for.
fn of_call(unlike: &Unlike) -> Cause {
    match unlike.first.call {
        "getpid" | "gettid" | "getppid" => Cause::Pid,
        "clock_gettime" | "gettimeofday" | "time" | "times" | "getrusage" | "sysinfo" => {
            Cause::Clock
        }
        "getrandom" => Cause::Random,
        "getdents64" if unlike.reordered => Cause::DirectoryOrder,
        "getdents64" => Cause::DirectoryContents,
        "sched_getaffinity" | "getcpu" => Cause::CpuCount,
        "futex" | "epoll_wait" | "poll" => Cause::Threads,
        "stat" | "lstat" | "fstat" | "newfstatat" => Cause::FileStatus,
        "read" | "pread64" | "recvfrom" | "readlink" => match &unlike.first.file {
            Some(path) if path.ends_with("urandom") || path.ends_with("/dev/random") => {
                Cause::Random
            }
            _ => Cause::Input,
        },
        "getcwd" => Cause::Path,
        "getuid" | "geteuid" | "umask" | "uname" => Cause::Environment,
        _ => Cause::Unknown,
    }
}

/// Whether a function's name says that it hashes.
fn hashes(function: &str) -> bool {
    let name = function.to_ascii_lowercase();
    ["hash", "dict", "map", "bucket", "set_"]
        .iter()
        .any(|part| name.contains(part))
}

/// Whether a function's name says that it is one of several implementations of the C library.
fn is_variant(function: &str) -> bool {
    ["_sse", "_ssse3", "_avx", "_evex", "_erms"]
        .iter()
        .any(|part| function.contains(part))
}

#[cfg(test)]
#[path = "cause_tests.rs"]
mod tests;
