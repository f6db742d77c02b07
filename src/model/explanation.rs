//! Why the counts of two runs differ: conditions that were changed, where the runs part, the likely cause, the remedy.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Outcome;

/// A condition that is changed on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// The environment is longer, and the stack begins elsewhere.
    EnvLength,
    /// The program is executed by a longer path.
    PathLength,
    /// Addresses are random.
    Aslr,
    /// Hash seeds and random bytes are others.
    HashSeed,
    /// The clock is the real one.
    Time,
    /// Process ids are others.
    Pid,
    /// The program sees the CPU that there is.
    CpuModel,
    /// Another thread competes for the CPU.
    Load,
    /// All CPUs that there are may be used, and the machine is seen as it is.
    CpuCount,
}

impl Disturbance {
    /// Every one.
    pub const ALL: [Disturbance; 9] = [
        Disturbance::EnvLength,
        Disturbance::PathLength,
        Disturbance::Aslr,
        Disturbance::HashSeed,
        Disturbance::Time,
        Disturbance::Pid,
        Disturbance::CpuModel,
        Disturbance::Load,
        Disturbance::CpuCount,
    ];

    /// The name used on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Disturbance::EnvLength => "env-length",
            Disturbance::PathLength => "path-length",
            Disturbance::Aslr => "aslr",
            Disturbance::HashSeed => "hash-seed",
            Disturbance::Time => "time",
            Disturbance::Pid => "pid",
            Disturbance::CpuModel => "cpu-model",
            Disturbance::Load => "load",
            Disturbance::CpuCount => "cpu-count",
        }
    }

    /// What it does, as the end of a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Disturbance::EnvLength => "with a longer environment",
            Disturbance::PathLength => "by a longer path",
            Disturbance::Aslr => "with random addresses",
            Disturbance::HashSeed => "with other hash seeds and random bytes",
            Disturbance::Time => "by the real clock",
            Disturbance::Pid => "under another process id",
            Disturbance::CpuModel => "with the CPU that there is",
            Disturbance::Load => "beside a busy neighbour on its CPU",
            Disturbance::CpuCount => "with all CPUs of the real machine",
        }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A disturbance's name that does not exist.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown disturbance `{0}`; known are {names} and `all`", names = names())]
pub struct UnknownDisturbance(pub String);

fn names() -> String {
    let names: Vec<String> = Disturbance::ALL.map(|d| format!("`{d}`")).into();
    names.join(", ")
}

impl FromStr for Disturbance {
    type Err = UnknownDisturbance;

    fn from_str(name: &str) -> Result<Self, UnknownDisturbance> {
        let found = Disturbance::ALL
            .into_iter()
            .find(|known| known.name() == name);
        found.ok_or_else(|| UnknownDisturbance(name.to_owned()))
    }
}

/// What a count depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Addresses that are hashed.
    AddressHash,
    /// Addresses otherwise: their order, their alignment.
    Addresses,
    /// Environment variables.
    Environment,
    /// The path of the program.
    Path,
    /// The seed of hash functions.
    HashSeed,
    /// Random bytes.
    Random,
    /// The time.
    Clock,
    /// A process's or thread's id.
    Pid,
    /// The order in which a directory is read.
    DirectoryOrder,
    /// Which files are in a directory.
    DirectoryContents,
    /// What a file, or another process, had to say.
    Input,
    /// Times or numbers of files.
    FileStatus,
    /// In which order threads ran.
    Threads,
    /// How many CPUs there are.
    CpuCount,
    /// Which CPU it is: implementations are chosen by it.
    CpuModel,
    /// When a signal came.
    Signal,
    /// None of these was seen.
    Unknown,
}

impl Cause {
    /// What the count depends on, as a clause.
    pub fn words(self) -> &'static str {
        match self {
            Cause::AddressHash => "addresses are hashed",
            Cause::Addresses => "the code depends on addresses",
            Cause::Environment => "the code depends on the environment's variables or their length",
            Cause::Path => "the code depends on the path of the program",
            Cause::HashSeed => "a hash function has another seed",
            Cause::Random => "random bytes",
            Cause::Clock => "the clock",
            Cause::Pid => "the process id",
            Cause::DirectoryOrder => "the order in which a directory is read",
            Cause::DirectoryContents => "which files are in a directory",
            Cause::Input => "what was read was not the same",
            Cause::FileStatus => "times, sizes or numbers of files",
            Cause::Threads => "the order in which threads ran",
            Cause::CpuCount => "the number of CPUs",
            Cause::CpuModel => "code is chosen by CPU model",
            Cause::Signal => "a signal came at another point",
            Cause::Unknown => "unknown: nothing that the machine answered differs before it",
        }
    }

    /// What the user can do, as an imperative.
    pub fn remedy(self) -> &'static str {
        match self {
            Cause::AddressHash | Cause::Addresses => {
                "keep pinning on (ASLR off), or hash and order by content instead of by pointer"
            }
            Cause::Environment => {
                "keep pinning on (a fixed, padded environment), and set what the program needs by `env` in the manifest or `--env`"
            }
            Cause::Path => {
                "keep pinning on (the stack is padded for the path), and start the program by the same path everywhere"
            }
            Cause::HashSeed => {
                "keep pinning on, or fix the seed by `env` in the manifest: PYTHONHASHSEED=0, PERL_HASH_SEED=0, or the program's own option"
            }
            Cause::Random => {
                "keep pinning on (getrandom is answered), or give the program a fixed seed"
            }
            Cause::Clock => {
                "keep pinning on (a virtual clock, `time = \"virtual\"`), give the program a fixed time (an option of its own, SOURCE_DATE_EPOCH), or bound its loop by work"
            }
            Cause::Pid => {
                "keep pinning on (a run without a terminal has process ids of its own where the kernel allows it; the report says why not), or do not derive names, seeds or branches from them"
            }
            Cause::DirectoryOrder => {
                "keep pinning on (directories are read in order), or sort what is read from the directory"
            }
            Cause::DirectoryContents => {
                "let each run begin with the same files: have it remove what it writes, or write elsewhere"
            }
            Cause::Input => {
                "give the workload the same input: `stdin` in the manifest, a file of its own"
            }
            Cause::FileStatus => {
                "let nothing depend on times or inode numbers of files, or create the files anew before each run"
            }
            Cause::Threads => {
                "keep pinning on (threads take turns, `threads = \"turns\"`), run it with one thread (an option of the program, OMP_NUM_THREADS=1 or RAYON_NUM_THREADS=1 by `env` in the manifest), or make its work independent of their order"
            }
            Cause::CpuCount => {
                "keep pinning on (one CPU), or give the program its number of workers by an option or `env`"
            }
            Cause::CpuModel => {
                "keep pinning on (a fixed CPU, `cpu = \"x86-64-v3\"`), or fix the choice by an option or `env` of the library"
            }
            Cause::Signal => "do without timers, or bound the work by its amount",
            Cause::Unknown => {
                "run `counterfoil explain --disturb all` to see which condition moves the count"
            }
        }
    }
}

/// A place in a program as people know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    /// The file that the code is in, without its folder.
    pub module: String,
    /// The function, or `[module+0x...]`.
    pub function: String,
    /// `file:line`, where there is debug information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
}

impl Spot {
    /// Whether its function has a name.
    pub fn is_named(&self) -> bool {
        !self.function.starts_with('[')
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.line {
            Some(line) => write!(f, "`{}` ({line}) in {}", self.function, self.module),
            None => write!(f, "`{}` in {}", self.function, self.module),
        }
    }
}

/// A place by name, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The place.
    pub spot: Spot,
    /// Whether it belongs to the C library or the dynamic loader.
    pub library: bool,
}

/// An answer that was not the same in both runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherAnswer {
    /// The system call or instruction.
    pub call: String,
    /// The file it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The first run's answer, shortened.
    pub first: String,
    /// The second's.
    pub second: String,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Spot>,
}

/// Where two runs part first, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The program.
    pub program: String,
    /// Where.
    pub at: Spot,
    /// Whether it is a branch; otherwise the first code that not both runs executed equally often.
    pub branch: bool,
    /// The code whose counts differ, where it is not on the same line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leads_to: Option<Spot>,
    /// The function of the program's own that called it, where it is in a library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called_by: Option<Spot>,
    /// Where the C library or the dynamic loader parts before; `at` is in the program's own code then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Spot>,
    /// How often that code was executed in each run.
    pub executions: (u64, u64),
    /// Instructions of the program before it, about.
    pub after_instructions: u64,
    /// The likely cause.
    pub cause: Cause,
    /// What the machine answered otherwise before, the nearest first.
    pub answers: Vec<OtherAnswer>,
    /// What to do.
    pub remedy: String,
}

/// A run, held against another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// What was changed; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disturbance: Option<Disturbance>,
    /// Its instructions.
    pub instructions: u64,
    /// Those of the run that it is held against: the first, or one with another hash seed.
    pub against: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether every block was executed as often as in that.
    pub agrees: bool,
    /// Where and why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// What was not as asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A command, run several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The workload's name, or the command.
    pub subject: String,
    /// Instructions of the first run.
    pub instructions: u64,
    /// The runs after the first.
    pub trials: Vec<Trial>,
}
