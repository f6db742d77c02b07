//! The manifest's content, and how text becomes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::params::{self, Matrix};
use super::reader::{Reader, Value, as_i64, in_order, nearest};
use super::template::{Template, is_name};
use super::{Case, FILE_NAME, Problem, Snapshot, SuiteError, durations, words};
use crate::model::{BackendKind, Gate, Limit, Metric, Tolerance, default_gate};

/// Where a workload's runs end when nothing else is said. Counting is slow: Valgrind takes 50 times
/// as long.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
/// Two runs show whether counts agree.
const DEFAULT_REPEAT: u32 = 2;
/// Longer names do not fit in a file name with its suffixes on every file system.
const LONGEST_NAME: usize = 100;

const ROOT_KEYS: [&str; 3] = ["suite", "gate", "workload"];
const SUITE_KEYS: [&str; 4] = ["backend", "repeat", "jobs", "timeout"];
const SNAPSHOT_KEYS: [&str; 5] = ["stdout", "stderr", "files", "rtol", "atol"];
const WORKLOAD_KEYS: [&str; 16] = [
    "name",
    "command",
    "params",
    "build",
    "tags",
    "stdin",
    "env",
    "cwd",
    "timeout",
    "exit",
    "snapshot",
    "gate",
    "regions",
    "fingerprint",
    "subject",
    "repeat",
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
}

/// A command of the manifest that is not counted: a build step, a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// As a person writes it, for messages.
    pub text: String,
    /// Program and arguments, never empty; `sh -c TEXT` for a string.
    pub argv: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Workload {
    name: String,
    command: Vec<Template>,
    params: Matrix,
    build: Option<CommandLine>,
    tags: Vec<String>,
    stdin: Option<Template>,
    env: BTreeMap<String, Template>,
    cwd: Option<Template>,
    timeout: Duration,
    exit: i32,
    snapshot: Wanted,
    gate: Gate,
    regions: bool,
    fingerprint: Vec<CommandLine>,
    subject: Vec<Template>,
    repeat: u32,
}

/// The snapshot as the manifest has it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Wanted {
    stdout: bool,
    stderr: bool,
    files: Vec<Template>,
    tolerance: Option<Tolerance>,
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
        let of = |workload| workload_cases(&self.folder, workload);
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
    let mut seen = BTreeMap::new();
    let mut workloads = Vec::new();
    for table in tables {
        workloads.extend(workload(r, table, &settings, &defaults, &mut seen));
    }
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
        backend: BackendKind::Callgrind,
        repeat: DEFAULT_REPEAT,
        jobs: None,
        timeout: DEFAULT_TIMEOUT,
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
    settings
}

fn backend(r: &mut Reader<'_>, value: &Value<'_>) -> Option<BackendKind> {
    let name = value.get_ref().as_str();
    if name == Some("auto") {
        r.problem(
            value.span().start,
            "`backend = \"auto\"` is not for suites: `record` and `check` must count with the same backend; name one, such as `callgrind`",
        );
        return None;
    }
    let name = r.string("backend", value, "a name, such as `\"callgrind\"`")?;
    name.parse()
        .map_err(|unknown| r.problem(value.span().start, unknown))
        .ok()
}

fn repeat(r: &mut Reader<'_>, value: &Value<'_>) -> Option<u32> {
    let repeat = r.integer("repeat", value, 1..1001)?;
    u32::try_from(repeat).ok()
}

fn timeout(r: &mut Reader<'_>, value: &Value<'_>) -> Option<Duration> {
    let text = r.string("timeout", value, "a string with a unit, such as `\"60s\"`")?;
    durations::parse(text)
        .map_err(|bad| r.problem(value.span().start, bad))
        .ok()
}

/// The limits of a gate table. Dotted keys without quotes make tables in it, which are joined
/// again.
fn gate<'t>(r: &mut Reader<'t>, key: &str, value: &Value<'t>) -> Gate {
    let mut gate = Gate::new();
    if let Some(table) = r.table(key, value, "a table, such as `{ instructions = \"0.5%\" }`") {
        limits(r, "", table, &mut gate);
    }
    gate
}

fn limits<'t>(r: &mut Reader<'t>, prefix: &str, table: &DeTable<'t>, gate: &mut Gate) {
    for (key, value) in in_order(table) {
        let name = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            limits(r, &format!("{name}."), inner, gate);
            continue;
        }
        let metric = match name.parse::<Metric>() {
            Ok(metric) => metric,
            Err(unknown) => {
                let near = nearest(&name, &["instructions"]);
                let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                r.problem(key.span().start, format!("{unknown}{hint}"));
                continue;
            }
        };
        if let Some(limit) = limit(r, &name, value)
            && gate.insert(metric, limit).is_some()
        {
            r.problem(
                key.span().start,
                format!("`{name}` has two limits; keep one"),
            );
        }
    }
}

fn limit(r: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Option<Limit> {
    if let DeValue::Integer(_) = value.get_ref() {
        let most = r.integer(key, value, 0..i64::MAX)?;
        return u64::try_from(most).ok().map(Limit::Ceiling);
    }
    let wanted =
        "a limit: `\"0.5%\"` or `\"+1000\"` above the baseline, or `1000` as a hard ceiling";
    let text = r.string(key, value, wanted)?;
    text.parse()
        .map_err(|bad| r.problem(value.span().start, bad))
        .ok()
}

/// The parameters of a workload, and which of them some placeholder uses.
struct Placeholders<'m> {
    matrix: &'m Matrix,
    used: BTreeSet<String>,
}

impl Placeholders<'_> {
    /// Text with placeholders, each of which must be a parameter.
    fn template(&mut self, r: &mut Reader<'_>, value: &Value<'_>, text: &str) -> Template {
        let template = Template::parse(text);
        for name in template.parameters() {
            if self.matrix.iter().any(|(known, _)| known == name) {
                self.used.insert(name.to_owned());
                continue;
            }
            let known: Vec<&str> = self
                .matrix
                .iter()
                .map(|(known, _)| known.as_str())
                .collect();
            let hint = match nearest(name, &known) {
                Some(near) => format!("did you mean `{{{near}}}`?"),
                None => format!(
                    "add `{name} = [...]` to `params`, or write `{{{{{name}}}}}` for the text itself"
                ),
            };
            r.problem(
                value.span().start,
                format!("unknown parameter `{{{name}}}`; {hint}"),
            );
        }
        template
    }

    fn path(&mut self, r: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Option<Template> {
        let text = r.string(key, value, "a path as a string")?;
        Some(self.template(r, value, text))
    }

    fn paths<'t>(&mut self, r: &mut Reader<'t>, key: &str, value: &Value<'t>) -> Vec<Template> {
        let paths = r.array(key, value, "an array of paths").unwrap_or_default();
        paths
            .iter()
            .filter_map(|value| self.path(r, key, value))
            .collect()
    }
}

fn workload<'t>(
    r: &mut Reader<'t>,
    value: &Value<'t>,
    settings: &Settings,
    defaults: &Gate,
    seen: &mut BTreeMap<String, usize>,
) -> Option<Workload> {
    let at = value.span().start;
    let table = r.table("workload", value, "`[[workload]]`, in double brackets")?;
    let fields = r.fields(table, &WORKLOAD_KEYS);
    let get = |key: &str| fields.get(key).copied();
    for key in ["name", "command"] {
        if get(key).is_none() {
            r.problem(at, format!("workload without `{key}`; add `{key} = ...`"));
        }
    }
    let name = get("name").and_then(|value| name(r, value, seen));
    let matrix = get("params").map_or(Matrix::new(), |value| matrix(r, value));
    let mut placeholders = Placeholders {
        matrix: &matrix,
        used: BTreeSet::new(),
    };
    let p = &mut placeholders;
    let mut gates = defaults.clone();
    gates.extend(get("gate").map_or(Gate::new(), |value| gate(r, "gate", value)));
    let workload = Workload {
        name: name.unwrap_or_default(),
        command: get("command").map_or(Vec::new(), |value| command(r, p, value)),
        params: matrix.clone(),
        build: get("build").and_then(|value| command_line(r, "build", value)),
        tags: get("tags").map_or(Vec::new(), |value| tags(r, value)),
        stdin: get("stdin").and_then(|value| p.path(r, "stdin", value)),
        env: get("env").map_or(BTreeMap::new(), |value| env(r, p, value)),
        cwd: get("cwd").and_then(|value| p.path(r, "cwd", value)),
        timeout: get("timeout")
            .and_then(|value| timeout(r, value))
            .unwrap_or(settings.timeout),
        exit: get("exit").map_or(0, |value| exit(r, value)),
        snapshot: get("snapshot").map_or(Wanted::default(), |value| snapshot(r, p, value)),
        gate: gates,
        regions: get("regions").is_some_and(|value| r.boolean("regions", value) == Some(true)),
        fingerprint: get("fingerprint").map_or(Vec::new(), |value| fingerprint(r, value)),
        subject: get("subject").map_or(Vec::new(), |value| p.paths(r, "subject", value)),
        repeat: get("repeat")
            .and_then(|value| repeat(r, value))
            .unwrap_or(settings.repeat),
    };
    let used = placeholders.used;
    if let Some(params) = get("params") {
        check_used(r, params, &matrix, &used);
        check_sets(r, params, &workload);
    }
    Some(workload)
}

/// A name that can be a file's name everywhere and that no other workload has.
fn name(
    r: &mut Reader<'_>,
    value: &Value<'_>,
    seen: &mut BTreeMap<String, usize>,
) -> Option<String> {
    let at = value.span().start;
    let name = r.string("name", value, "a string")?;
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let usable = name.chars().all(fine)
        && !name.starts_with(['.', '-'])
        && !name.ends_with('.')
        && !name.ends_with(".json")
        && name.len() <= LONGEST_NAME;
    if !usable {
        r.problem(
            at,
            format!("name `{}` cannot be a file's name; use at most {LONGEST_NAME} letters, digits, `.`, `_` and `-`, beginning with a letter, digit or `_`, and not ending in `.` or `.json`", name.escape_debug()),
        );
        return None;
    }
    // Some file systems take `a` and `A` for the same name.
    if let Some(first) = seen.insert(name.to_ascii_lowercase(), at) {
        let line = r.line(first);
        r.problem(
            at,
            format!("duplicate name `{name}`: line {line} has it already (upper and lower case count as equal); rename one"),
        );
        return None;
    }
    Some(name.to_owned())
}

fn matrix<'t>(r: &mut Reader<'t>, value: &Value<'t>) -> Matrix {
    let mut matrix = Matrix::new();
    let Some(table) = r.table("params", value, "a table, such as `{ n = [10, 1000] }`") else {
        return matrix;
    };
    for (key, value) in in_order(table) {
        let name: &str = key.get_ref();
        if !is_name(name) {
            r.problem(
                key.span().start,
                format!("`{}` cannot be a parameter's name; use letters, digits, `_` and `-`, beginning with a letter or `_`", name.escape_debug()),
            );
            continue;
        }
        let wanted = format!("an array of values, such as `{name} = [10, 1000]`");
        let values = r.array(name, value, &wanted).unwrap_or_default();
        if values.is_empty() && value.get_ref().is_array() {
            r.problem(
                value.span().start,
                format!("parameter `{name}` has no value; write {wanted}, or remove it"),
            );
        }
        let mut texts: Vec<String> = Vec::new();
        for value in values {
            let Some(text) = parameter(r, name, value) else {
                continue;
            };
            if texts.contains(&text) {
                r.problem(
                    value.span().start,
                    format!("parameter `{name}` has the value `{text}` twice; remove one"),
                );
                continue;
            }
            texts.push(text);
        }
        matrix.push((name.to_owned(), texts));
    }
    matrix
}

/// A parameter's value as it is written into the command: integers in decimal, floats as in the
/// manifest.
fn parameter(r: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<String> {
    match value.get_ref() {
        DeValue::Integer(integer) => {
            let number = as_i64(integer).map(|number| number.to_string());
            if number.is_none() {
                let message = format!("`{name}` does not fit in 64 bits; write it as a string");
                r.problem(value.span().start, message);
            }
            number
        }
        DeValue::Float(float) => Some(float.as_str().to_owned()),
        DeValue::Boolean(boolean) => Some(boolean.to_string()),
        _ => r
            .any_string(name, value, "strings, integers, floats or booleans")
            .map(str::to_owned),
    }
}

/// A parameter that nothing uses would count the same thing again and again.
fn check_used(r: &mut Reader<'_>, params: &Value<'_>, matrix: &Matrix, used: &BTreeSet<String>) {
    for (name, _) in matrix.iter().filter(|(name, _)| !used.contains(name)) {
        let table = params.get_ref().as_table();
        let key = table.and_then(|table| table.keys().find(|key| key.get_ref() == name));
        let at = key.map_or(params.span().start, |key| key.span().start);
        r.problem(
            at,
            format!("parameter `{name}` is not used; write `{{{name}}}` where its value belongs (in `command`, `stdin`, `env`, `cwd` or files), or remove it"),
        );
    }
}

/// Two sets of parameters must not have one id, and there must not be too many of them.
fn check_sets(r: &mut Reader<'_>, params: &Value<'_>, workload: &Workload) {
    let at = params.span().start;
    if params::cases(&workload.params).is_none() {
        let most = params::MOST_CASES;
        r.problem(
            at,
            format!("these parameters make more than {most} cases; remove some values"),
        );
        return;
    }
    let mut ids = BTreeSet::new();
    for row in params::product(&workload.params) {
        let id = params::case_id(&workload.name, &row);
        if !ids.insert(id.clone()) {
            r.problem(
                at,
                format!(
                    "duplicate parameter set: two cases would be called `{id}`; change a value"
                ),
            );
        }
    }
}

fn command<'t>(r: &mut Reader<'t>, p: &mut Placeholders<'_>, value: &Value<'t>) -> Vec<Template> {
    const WANTED: &str = "an array of strings, or one string";
    let at = value.span().start;
    let mut templates = Vec::new();
    if let Some(text) = value.get_ref().as_str() {
        match words::split(text) {
            Ok(words) if r.any_string("command", value, WANTED).is_some() => {
                templates.extend(words.iter().map(|word| p.template(r, value, word)));
            }
            Ok(_) => return templates,
            Err(error) => {
                r.problem(at, error);
                return templates;
            }
        }
    } else {
        let Some(array) = r.array("command", value, WANTED) else {
            return templates;
        };
        for value in array {
            if let Some(word) = r.any_string("command", value, WANTED) {
                templates.push(p.template(r, value, word));
            }
        }
    }
    if templates
        .first()
        .is_none_or(|program| *program == Template::default())
    {
        r.problem(
            at,
            "`command` names no program; write `command = [\"program\", \"argument\"]`",
        );
    }
    templates
}

/// A command that is run as it is: a string by `sh -c`, or an array.
fn command_line<'t>(r: &mut Reader<'t>, key: &str, value: &Value<'t>) -> Option<CommandLine> {
    const WANTED: &str = "a string (run by `sh -c`) or an array of strings";
    if value.get_ref().is_str() {
        let text = r.string(key, value, WANTED)?.to_owned();
        let argv = vec!["sh".to_owned(), "-c".to_owned(), text.clone()];
        return Some(CommandLine { text, argv });
    }
    let array = r.array(key, value, WANTED)?;
    let words = array.iter().map(|value| r.any_string(key, value, WANTED));
    let argv: Vec<String> = words.flatten().map(str::to_owned).collect();
    if argv.first().is_none_or(String::is_empty) {
        r.problem(
            value.span().start,
            format!("`{key}` names no program; write {WANTED}"),
        );
        return None;
    }
    let text = argv.join(" ");
    Some(CommandLine { text, argv })
}

fn fingerprint<'t>(r: &mut Reader<'t>, value: &Value<'t>) -> Vec<CommandLine> {
    let wanted = "an array of commands, such as `[\"python3 --version\"]`";
    let commands = r.array("fingerprint", value, wanted).unwrap_or_default();
    let command = |value| command_line(r, "fingerprint", value);
    commands.iter().filter_map(command).collect()
}

fn tags<'t>(r: &mut Reader<'t>, value: &Value<'t>) -> Vec<String> {
    let wanted = "an array of strings, such as `[\"component\"]`";
    let tags = r.array("tags", value, wanted).unwrap_or_default();
    let tag = |value| r.string("tags", value, wanted).map(str::to_owned);
    tags.iter().filter_map(tag).collect()
}

fn env<'t>(
    r: &mut Reader<'t>,
    p: &mut Placeholders<'_>,
    value: &Value<'t>,
) -> BTreeMap<String, Template> {
    let mut env = BTreeMap::new();
    let Some(table) = r.table("env", value, "a table, such as `{ MODE = \"fast\" }`") else {
        return env;
    };
    for (key, value) in in_order(table) {
        let name: &str = key.get_ref();
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = format!(
                "`{}` cannot be a variable's name; it is empty, or has `=` or NUL in it",
                name.escape_debug()
            );
            r.problem(key.span().start, message);
        } else if let Some(text) = r.any_string(name, value, "a string, in quotes") {
            env.insert(name.to_owned(), p.template(r, value, text));
        }
    }
    env
}

fn exit(r: &mut Reader<'_>, value: &Value<'_>) -> i32 {
    let code = r.integer("exit", value, 0..256);
    code.and_then(|code| i32::try_from(code).ok()).unwrap_or(0)
}

fn snapshot<'t>(r: &mut Reader<'t>, p: &mut Placeholders<'_>, value: &Value<'t>) -> Wanted {
    let mut wanted = Wanted::default();
    let Some(table) = r.table("snapshot", value, "a table, such as `{ stdout = true }`") else {
        return wanted;
    };
    let fields = r.fields(table, &SNAPSHOT_KEYS);
    let get = |key: &str| fields.get(key).copied();
    wanted.stdout = get("stdout").is_some_and(|value| r.boolean("stdout", value) == Some(true));
    wanted.stderr = get("stderr").is_some_and(|value| r.boolean("stderr", value) == Some(true));
    wanted.files = get("files").map_or(Vec::new(), |value| p.paths(r, "files", value));
    let rtol = get("rtol").and_then(|value| r.tolerance("rtol", value));
    let atol = get("atol").and_then(|value| r.tolerance("atol", value));
    if rtol.is_some() || atol.is_some() {
        wanted.tolerance = Some(Tolerance {
            rtol: rtol.unwrap_or(0.0),
            atol: atol.unwrap_or(0.0),
        });
    }
    if !wanted.stdout && !wanted.stderr && wanted.files.is_empty() {
        let message = "this snapshot compares nothing; add `stdout = true`, `stderr = true` or `files = [...]`, or remove it";
        r.problem(value.span().start, message);
    }
    wanted
}

fn workload_cases(folder: &Path, workload: &Workload) -> Vec<Case> {
    let rows = params::product(&workload.params);
    rows.into_iter()
        .map(|row| case(folder, workload, row))
        .collect()
}

fn case(folder: &Path, workload: &Workload, row: Vec<(String, String)>) -> Case {
    let values: params::Values = row.iter().cloned().collect();
    let path = |template: &Template| folder.join(template.fill(&values));
    let command: Vec<String> = workload
        .command
        .iter()
        .map(|word| word.fill(&values))
        .collect();
    let file = |template: &Template| (template.fill(&values), path(template));
    let value = |(name, value): (&String, &Template)| (name.clone(), value.fill(&values));
    Case {
        id: params::case_id(&workload.name, &row),
        workload: workload.name.clone(),
        program: program(folder, command.first().map_or("", String::as_str)),
        command,
        build: workload.build.clone(),
        tags: workload.tags.clone(),
        stdin: workload.stdin.as_ref().map(path),
        env: workload.env.iter().map(value).collect(),
        cwd: workload
            .cwd
            .as_ref()
            .map_or_else(|| folder.to_owned(), path),
        timeout: workload.timeout,
        exit: workload.exit,
        snapshot: Snapshot {
            stdout: workload.snapshot.stdout,
            stderr: workload.snapshot.stderr,
            files: workload.snapshot.files.iter().map(file).collect(),
            tolerance: workload.snapshot.tolerance,
        },
        gate: workload.gate.clone(),
        regions: workload.regions,
        fingerprint: workload.fingerprint.clone(),
        subject: workload.subject.iter().map(path).collect(),
        repeat: workload.repeat,
        params: row,
    }
}

fn program(folder: &Path, name: &str) -> PathBuf {
    if name.contains('/') {
        folder.join(name)
    } else {
        PathBuf::from(name)
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
