//! The ways of counting, behind one trait.
//!
//! A backend starts one program, counts its tree and returns plain data. It neither chooses itself, nor
//! repeats runs, nor judges: that is `supervise`'s and `compare`'s work.

#[cfg(not(target_arch = "x86_64"))]
pub mod absent;
pub mod all;
mod callers;
#[cfg(target_arch = "x86_64")]
pub mod dbi;
pub mod doctor;
pub mod fake;
pub mod finish;
#[cfg(target_arch = "x86_64")]
mod marks;
pub mod perf;
pub mod profile;
pub mod program_file;
pub mod regions;
pub mod selftest;
pub mod spots;
pub mod step;
#[cfg(target_arch = "x86_64")]
mod traced;
pub mod valgrind;

use std::path::{Path, PathBuf};

use crate::model::course::Courses;
use crate::model::{BackendKind, CountOverflow, Run};
use crate::sys::spawn::Launch;
use crate::sys::tree::TreeError;

/// Details that a caller may ask for, and that a backend offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Counts by opcode.
    pub opcodes: bool,
    /// Counts by function.
    pub functions: bool,
    /// Counts inside marked regions only, and by region.
    pub regions: bool,
}

impl Detail {
    /// Whether everything in `self` is in `offer`.
    pub fn within(self, offer: Detail) -> bool {
        (!self.opcodes || offer.opcodes)
            && (!self.functions || offer.functions)
            && (!self.regions || offer.regions)
    }
}

/// How the counting engine works; other backends have no use for it. No count depends on it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether translated code is kept from run to run.
    pub code_cache: bool,
    /// Where to write what the engine does.
    pub engine_log: Option<PathBuf>,
}

/// A backend that was tried and counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Version of the tool behind it.
    pub version: String,
    /// What a user should know about its counts on this machine, each a sentence.
    pub notes: Vec<String>,
}

/// A backend that cannot count here.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{reason}; {remedy}")]
pub struct Unavailable {
    /// Why, as a clause: "this machine shows no hardware counter".
    pub reason: String,
    /// What the user can do about it, as an imperative: "install it with ...".
    pub remedy: String,
}

/// Why a run could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The backend cannot count on this machine.
    #[error("backend `{kind}` cannot count here: {source}")]
    Unavailable {
        /// Which.
        kind: BackendKind,
        /// Why, and what to do.
        source: Unavailable,
    },
    /// The backend does not give what was asked for.
    #[error("backend `{kind}` cannot count {what}; {remedy}")]
    NotOffered {
        /// Which.
        kind: BackendKind,
        /// What: "opcodes", "regions".
        what: &'static str,
        /// What the user can do.
        remedy: &'static str,
    },
    /// The program does what the backend cannot follow.
    #[error("{what}")]
    Unsupported {
        /// Which backend.
        kind: BackendKind,
        /// The program, what it does, and what the user can do.
        what: String,
    },
    /// The program did not start, or its tree could not be followed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The tool behind the backend failed, or wrote what it should not.
    #[error("{tool}: {problem}; {remedy}")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// What went wrong, with the place.
        problem: String,
        /// What the user can do.
        remedy: String,
    },
    /// Counts that do not fit.
    #[error(transparent)]
    Overflow(#[from] CountOverflow),
    /// A file of ours could not be written or read.
    #[error("{doing} `{}`: {source}", path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// With which file.
        path: std::path::PathBuf,
        /// The answer.
        source: std::io::Error,
    },
}

/// A way of counting.
pub trait Backend: Send + Sync {
    /// Which one.
    fn kind(&self) -> BackendKind;

    /// The details it can give.
    fn offers(&self) -> Detail;

    /// Why it cannot count `program`, as far as the file tells before it is executed: a clause that names the file.
    /// None where it can be tried.
    fn refuses(&self, _program: &Path) -> Option<String> {
        None
    }

    /// Tries it for real, by counting something known. May take a moment; callers keep the answer.
    fn probe(&self) -> Result<Ready, Unavailable>;

    /// Whether runs need a folder for files of the backend's own.
    fn needs_folder(&self) -> bool {
        false
    }

    /// Runs `launch` to its end and counts it: retired user-mode instructions of all its processes and threads,
    /// from the first instruction after exec to exit, the kernel excluded. The run's caveats name every
    /// deviation. `scratch` is an empty folder, removed by the caller, where the backend needs one.
    fn run(&self, launch: &Launch, want: Detail, scratch: &Path) -> Result<Run, BackendError>;

    /// The same with the course of the run, and with no detail.
    fn follow(&self, _launch: &Launch) -> Result<(Run, Courses), BackendError> {
        Err(BackendError::NotOffered {
            kind: self.kind(),
            what: "the course of a run",
            remedy: "use `--backend dbi`",
        })
    }
}
