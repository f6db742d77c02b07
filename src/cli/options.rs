//! Options that several subcommands share.

use std::ffi::OsString;
use std::time::Duration;

use crate::backend::Detail;
use crate::model::{BackendKind, Cpu, Network, Shown, Threads, Time, User};
use crate::report::Top;
use crate::suite::parse_duration;

/// Rows of a list that is not shown whole.
const ROWS: usize = 20;

/// How to count, for `count` and `compare`.
#[derive(clap::Args, Debug)]
pub struct Counting {
    /// auto, perf, dbi, cachegrind, callgrind or step.
    ///
    /// auto takes the first that works here and gives what is asked for: perf (hardware counters), dbi (the engine
    /// that is built in), cachegrind, callgrind (Valgrind), step (single-stepping: exact, and some thousand times slower).
    #[arg(long, short, default_value = "auto", value_name = "BACKEND", value_parser = backend)]
    pub backend: Asked,
    /// Run the command this often; the counts must agree.
    #[arg(long, short = 'n', default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Count by opcode, too.
    #[arg(long)]
    pub opcodes: bool,
    /// Count by function, too.
    #[arg(long)]
    pub functions: bool,
    /// Show every opcode and function, not the largest twenty.
    #[arg(long)]
    pub all: bool,
    /// Count only inside the regions that the program marks (docs/regions.md).
    #[arg(long)]
    pub regions: bool,
    /// Leave address layout, environment, CPU and all else as they are.
    #[arg(long)]
    pub no_pin: bool,
    /// The CPU that the program sees under dbi: x86-64-v2, x86-64-v3 (the default where this one can execute it),
    /// x86-64-v4 or host.
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<Cpu>,
    /// The time that the program sees under dbi: virtual (starts at 2026-01-01 00:00 UTC, advances by a nanosecond an
    /// instruction and by what the program sleeps; the default) or real.
    #[arg(long, value_name = "TIME")]
    pub time: Option<Time>,
    /// How threads and processes run under dbi: turns (one at a time, in the same order in every run; the default), slices
    /// (the same, and no turn is long: for programs whose report says that a turn was ended) or free (as the kernel has them
    /// run).
    #[arg(long, value_name = "THREADS")]
    pub threads: Option<Threads>,
    /// Give the program this variable, or with NAME alone the one we have; pinned runs get few others.
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]", value_parser = variable)]
    pub env: Vec<Variable>,
    /// Kill the program after this time (500ms, 60s, 2m).
    #[arg(long, value_name = "TIME", value_parser = time_limit)]
    pub timeout: Option<Duration>,
    /// The program's network: host, loopback (one of its own with 127.0.0.1 only) or none.
    #[arg(long, default_value = "host", value_name = "NETWORK", value_parser = str::parse::<Network>)]
    pub network: Network,
    /// Who the program finds itself to be: host (whoever runs counterfoil) or root (with no more rights than that).
    #[arg(long, default_value = "host", value_name = "USER", value_parser = str::parse::<User>)]
    pub user: User,
}

/// A backend by name, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked(pub Option<BackendKind>);

impl Counting {
    /// The variables asked for; one that we do not have either stays away.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        variables(&self.env)
    }

    /// How much of a long list the report shows.
    pub fn top(&self) -> Top {
        if self.all { Top::All } else { Top::First(ROWS) }
    }

    /// The machine that the program shall see.
    pub fn shown(&self) -> Shown {
        Shown {
            cpu: self.cpu,
            time: self.time,
            threads: self.threads,
            folder: None,
            user: Some(self.user),
        }
    }

    /// What is to be counted.
    pub fn detail(&self) -> Detail {
        Detail {
            opcodes: self.opcodes,
            functions: self.functions,
            regions: self.regions,
        }
    }
}

/// Reads a `--backend` value.
pub fn backend(text: &str) -> Result<Asked, String> {
    match text {
        "auto" => Ok(Asked(None)),
        name => name
            .parse()
            .map(|kind| Asked(Some(kind)))
            .map_err(|error| format!("{error}, or `auto`")),
    }
}

/// `NAME=VALUE`, or `NAME` for the value we have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    name: OsString,
    value: Option<OsString>,
}

/// The variables asked for; one that we do not have either stays away.
pub fn variables(asked: &[Variable]) -> Vec<(OsString, OsString)> {
    let set = |v: &Variable| Some((v.name.clone(), v.value.clone()?));
    asked.iter().filter_map(set).collect()
}

/// Reads an `--env` value.
pub fn variable(text: &str) -> Result<Variable, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(OsString::from(value))),
        None => (text, std::env::var_os(text)),
    };
    if name.is_empty() {
        return Err("a variable needs a name: NAME or NAME=VALUE".to_owned());
    }
    Ok(Variable {
        name: name.into(),
        value,
    })
}

/// Reads a duration with its unit.
pub fn time_limit(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}
