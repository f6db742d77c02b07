//! The manifest's content, and how text becomes it.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::params::Matrix;
use super::placeholders::Placeholders;
use super::reader::{Reader, Value};
use super::service::{check_used, services};
use super::shared::{gate, network, repeat, shown, timeout};
use super::shims::{Shims, shims};
use super::template::Template;
use super::workload::{Workload, cases, env, workload};
use super::{Case, FILE_NAME, Problem, SuiteError};
use crate::model::{BackendKind, Network, Shown, default_gate};

/// What counts when nothing else is said: the engine, which needs nothing that is not there, and counts exactly; elsewhere
/// than on x86-64 there is none. Not the best of the machine: `record` and `check` must agree on one everywhere.
const DEFAULT_BACKEND: BackendKind = if cfg!(target_arch = "x86_64") {
    BackendKind::Dbi
} else {
    BackendKind::Callgrind
};
/// Where a workload's runs end when nothing else is said. Counting is slow: Valgrind takes 50 times
/// as long.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
/// Two runs show whether counts agree.
const DEFAULT_REPEAT: u32 = 2;

const ROOT_KEYS: [&str; 5] = ["suite", "gate", "workload", "shim", "service"];
const SUITE_KEYS: [&str; 11] = [
    "backend", "repeat", "jobs", "timeout", "env", "cpu", "time", "threads", "folder", "user",
    "network",
];

/// A whole manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The file it was read from.
    pub path: PathBuf,
    /// Its folder, from which relative paths start; absolute after [`Manifest::read`].
    pub folder: PathBuf,
    /// What holds for the whole suite.
    pub settings: Settings,
    workloads: Vec<Workload>,
}

/// What holds for the whole suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The backend that records and checks.
    pub backend: BackendKind,
    /// Runs of each workload that must agree, unless the workload says otherwise.
    pub repeat: u32,
    /// Workloads that run at the same time; as many as there are CPUs when absent.
    pub jobs: Option<NonZeroUsize>,
    /// Time-out of a run, unless the workload says otherwise.
    pub timeout: Duration,
    /// Variables of every workload, whose own win.
    pub(super) env: BTreeMap<String, Template>,
    /// The machine that programs see, unless the workload says otherwise.
    pub shown: Shown,
    /// The network of a workload without services, unless it says otherwise.
    pub network: Network,
}

impl Manifest {
    /// The manifest in `start` or the nearest folder above that has one.
    pub fn find(start: &Path) -> Result<PathBuf, SuiteError> {
        let candidates = start.ancestors().map(|folder| folder.join(FILE_NAME));
        let mut existing = candidates.filter(|path| path.is_file());
        existing.next().ok_or_else(|| SuiteError::NotFound {
            from: start.to_owned(),
        })
    }

    /// Reads a manifest file.
    pub fn read(path: &Path) -> Result<Manifest, SuiteError> {
        let bytes = fs::read(path).map_err(|source| SuiteError::Read {
            path: path.to_owned(),
            source,
        })?;
        let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
        let mut manifest = Manifest::parse(path, &text)?;
        // Runs start in other folders than ours, so that paths must not depend on where we are.
        if let Ok(folder) = std::path::absolute(&manifest.folder) {
            manifest.folder = folder;
        }
        Ok(manifest)
    }

    /// Reads a manifest's text; `path` is where it came from. Nothing in `text` makes it panic, and
    /// an error names every problem that was found.
    pub fn parse(path: &Path, text: &str) -> Result<Manifest, SuiteError> {
        let mut reader = Reader::new(text);
        let document = reader.document();
        let manifest = manifest(&mut reader, path, document.get_ref());
        reader.finish(path, manifest)
    }

    /// Every workload with every set of its parameters, in the order of the file.
    pub fn cases(&self) -> Vec<Case> {
        let of = |workload| cases(&self.folder, workload);
        self.workloads.iter().flat_map(of).collect()
    }

    /// The names of the workloads, in the order of the file.
    pub fn workloads(&self) -> impl Iterator<Item = &str> {
        self.workloads.iter().map(|workload| workload.name.as_str())
    }
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> SuiteError {
    let good = error.utf8_error().valid_up_to();
    let good = error.as_bytes().get(..good).unwrap_or_default();
    let problem = Problem {
        line: good.iter().filter(|b| **b == b'\n').count() + 1,
        column: good.iter().rev().take_while(|b| **b != b'\n').count() + 1,
        message: "not UTF-8; save the file in that encoding".to_owned(),
    };
    SuiteError::Invalid {
        path: path.to_owned(),
        problems: vec![problem],
    }
}

fn manifest<'t>(r: &mut Reader<'t>, path: &Path, root: &DeTable<'t>) -> Option<Manifest> {
    let fields = r.fields(root, &ROOT_KEYS);
    let settings = settings(r, fields.get("suite").copied());
    let mut defaults = default_gate();
    if let Some(value) = fields.get("gate") {
        defaults.extend(gate(r, "gate", value));
    }
    let beside = fields
        .get("service")
        .map_or(Vec::new(), |value| services(r, value));
    let Some(value) = fields.get("workload") else {
        r.problem(
            0,
            "no workload; add a `[[workload]]` table with `name` and `command`",
        );
        return None;
    };
    let tables = r.array("workload", value, "`[[workload]]`, in double brackets")?;
    if tables.is_empty() {
        r.problem(
            value.span().start,
            "no workload; add a `[[workload]]` table with `name` and `command`",
        );
    }
    let known = fields
        .get("shim")
        .map_or(Shims::new(), |value| shims(r, value));
    let mut seen = BTreeMap::new();
    let mut workloads = Vec::new();
    for table in tables {
        workloads.extend(workload(
            r,
            table,
            &settings,
            &defaults,
            (&known, &beside),
            &mut seen,
        ));
    }
    check_used(
        r,
        &beside,
        workloads.iter().flat_map(|workload| &workload.services),
    );
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    Some(Manifest {
        path: path.to_owned(),
        folder: parent.unwrap_or(Path::new(".")).to_owned(),
        settings,
        workloads,
    })
}

fn settings<'t>(r: &mut Reader<'t>, value: Option<&Value<'t>>) -> Settings {
    let mut settings = Settings {
        backend: DEFAULT_BACKEND,
        repeat: DEFAULT_REPEAT,
        jobs: None,
        timeout: DEFAULT_TIMEOUT,
        env: BTreeMap::new(),
        shown: Shown::default(),
        network: Network::Host,
    };
    let table = value.and_then(|value| r.table("suite", value, "`[suite]`"));
    let Some(fields) = table.map(|table| r.fields(table, &SUITE_KEYS)) else {
        return settings;
    };
    let get = |key: &str| fields.get(key).copied();
    if let Some(backend) = get("backend").and_then(|value| backend(r, value)) {
        settings.backend = backend;
    }
    if let Some(repeat) = get("repeat").and_then(|value| repeat(r, value)) {
        settings.repeat = repeat;
    }
    if let Some(jobs) = get("jobs").and_then(|value| r.integer("jobs", value, 1..1025)) {
        settings.jobs = usize::try_from(jobs).ok().and_then(NonZeroUsize::new);
    }
    if let Some(timeout) = get("timeout").and_then(|value| timeout(r, value)) {
        settings.timeout = timeout;
    }
    if let Some(value) = get("env") {
        let no_parameter = Matrix::new();
        settings.env = env(r, &mut Placeholders::new(&no_parameter), "env", value);
    }
    settings.shown = shown(r, &fields, settings.shown);
    if let Some(network) = get("network").and_then(|value| network(r, value)) {
        settings.network = network;
    }
    settings
}

fn backend(r: &mut Reader<'_>, value: &Value<'_>) -> Option<BackendKind> {
    let name = value.get_ref().as_str();
    if name == Some("auto") {
        r.problem(
            value.span().start,
            "`backend = \"auto\"` is not for suites: `record` and `check` must count with the same backend; name one, such as `dbi`",
        );
        return None;
    }
    let name = r.string("backend", value, "a name, such as `\"dbi\"`")?;
    name.parse()
        .map_err(|unknown| r.problem(value.span().start, unknown))
        .ok()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
