//! A workload with one set of parameters: everything filled in, ready to be run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Parity, ShimSource};
use crate::model::{Gate, Network, Normalize, Shown, Tolerance};

/// One workload with one set of parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// `sort[n=1000]`, or `sort` when it has no parameters.
    pub id: String,
    /// The workload's name.
    pub workload: String,
    /// Parameters by name and value, in the order of the manifest.
    pub params: Vec<(String, String)>,
    /// Program and arguments, never empty.
    pub command: Vec<String>,
    /// The program's file: from the manifest's folder when the command names it with a slash,
    /// whatever `cwd` says; otherwise a name to look up in `PATH`.
    pub program: PathBuf,
    /// What to run before, once for all cases of the workload.
    pub build: Option<CommandLine>,
    /// Names to select it by.
    pub tags: Vec<String>,
    /// The file that is its standard input; `/dev/null` when absent.
    pub stdin: Option<PathBuf>,
    /// Variables added to the pinned environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory; the manifest's folder when the manifest names none.
    pub cwd: PathBuf,
    /// After this time the run is killed and has failed.
    pub timeout: Duration,
    /// The exit code that is a success.
    pub exit: i32,
    /// What of its output is held against a snapshot.
    pub snapshot: Snapshot,
    /// The limits, defaults filled in; `instructions` is always there.
    pub gate: Gate,
    /// Whether only marked regions are counted.
    pub regions: bool,
    /// Commands whose output is part of the environment's fingerprint.
    pub fingerprint: Vec<CommandLine>,
    /// Files whose content is the subject, besides the program.
    pub subject: Vec<PathBuf>,
    /// Runs that must agree.
    pub repeat: u32,
    /// The machine that its programs see.
    pub shown: Shown,
    /// Fake programs in front of its `PATH`.
    pub shims: Vec<ShimSource>,
    /// What must be the same in all cases that differ in one parameter only.
    pub parity: Option<Parity>,
    /// The network that it has.
    pub network: Network,
    /// What runs beside it, in the order in which it starts.
    pub services: Vec<Service>,
}

/// A server that runs beside a case, in its network, and is not counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Program and arguments, never empty.
    pub command: Vec<String>,
    /// The program's file: from the manifest's folder when the command names it with a slash, otherwise a name to look
    /// up in `PATH`.
    pub program: PathBuf,
    /// Variables added to its pinned environment.
    pub env: BTreeMap<String, String>,
    /// Variables added to the environment of the workload.
    pub export: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// By what it shows that it serves.
    pub ready: Ready,
}

/// The signs by which a service shows that it serves; at least one, and all of them must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// It listens on this TCP port.
    pub port: Option<u16>,
    /// It has written this file.
    pub file: Option<PathBuf>,
    /// It has written a line with this text to its standard output or error.
    pub line: Option<String>,
    /// After this time it has failed.
    pub timeout: Duration,
}

/// A command of the manifest that is not counted: a build step, a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// As a person writes it, for messages.
    pub text: String,
    /// Program and arguments, never empty; `sh -c TEXT` for a string.
    pub argv: Vec<String>,
}

/// What of a case's output is held against a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Files, by the path that the manifest has (for the snapshot's name) and where they are.
    pub files: Vec<(String, PathBuf)>,
    /// How far numbers may differ; every byte counts when absent.
    pub tolerance: Option<Tolerance>,
    /// The exit code; then any is a success.
    pub exit: bool,
    /// What of the outputs is left out.
    pub normalize: Normalize,
}

impl Snapshot {
    /// Whether any output is held against a snapshot.
    pub fn is_wanted(&self) -> bool {
        self.stdout || self.stderr || self.exit || !self.files.is_empty()
    }
}
