//! One `[[workload]]` of a manifest, and the cases that it makes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::outputs::{Wanted, differs, parity, snapshot};
use super::params::{self, Matrix};
use super::placeholders::{Placeholders, check, matrix};
use super::reader::{Reader, Value, in_order};
use super::service::{self, chosen};
use super::shared::{command_line, gate, network, repeat, shown, timeout};
use super::shims::{self, Shims};
use super::template::Template;
use super::{Case, CommandLine, Parity, Settings, ShimSource, Snapshot, words};
use crate::model::{Gate, Network, Shown};

/// Longer names do not fit in a file name with its suffixes on every file system.
const LONGEST_NAME: usize = 100;

const WORKLOAD_KEYS: [&str; 26] = [
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
    "cpu",
    "time",
    "threads",
    "folder",
    "user",
    "shims",
    "parity",
    "differs",
    "network",
    "services",
];

/// A workload with its placeholders.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Workload {
    pub name: String,
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
    shown: Shown,
    shims: Vec<ShimSource>,
    parity: Option<Parity>,
    network: Network,
    pub services: Vec<service::Entry>,
}

/// Reads one workload; `seen` are the names of those before it, each with its place.
pub(super) fn workload<'t>(
    r: &mut Reader<'t>,
    value: &Value<'t>,
    settings: &Settings,
    defaults: &Gate,
    (known, beside): (&Shims, &[service::Entry]),
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
    let mut placeholders = Placeholders::new(&matrix);
    let p = &mut placeholders;
    let mut gates = defaults.clone();
    gates.extend(get("gate").map_or(Gate::new(), |value| gate(r, "gate", value)));
    let snapshot = get("snapshot").map_or(Wanted::default(), |value| snapshot(r, p, value));
    let differs = get("differs").map_or(Vec::new(), |value| differs(r, value, &matrix, &snapshot));
    if let (Some(value), None) = (get("differs"), get("parity")) {
        r.problem(
            value.span().start,
            "`differs` without `parity`; add `parity = \"PARAMETER\"`",
        );
    }
    if let (true, Some(value)) = (snapshot.exit, get("exit")) {
        let message = "`exit` beside `snapshot = { exit = true }`: the snapshot holds the exit code; remove one of both";
        r.problem(value.span().start, message);
    }
    let mut variables = settings.env.clone();
    variables.extend(get("env").map_or(BTreeMap::new(), |value| env(r, p, "env", value)));
    let services = get("services").map_or(Vec::new(), |value| chosen(r, value, beside));
    let workload = Workload {
        name: name.unwrap_or_default(),
        command: get("command").map_or(Vec::new(), |value| command(r, p, value)),
        params: matrix.clone(),
        build: get("build").and_then(|value| command_line(r, "build", value)),
        tags: get("tags").map_or(Vec::new(), |value| tags(r, value)),
        stdin: get("stdin").and_then(|value| p.path(r, "stdin", value)),
        env: variables,
        cwd: get("cwd").and_then(|value| p.path(r, "cwd", value)),
        timeout: get("timeout")
            .and_then(|value| timeout(r, value))
            .unwrap_or(settings.timeout),
        exit: get("exit").map_or(0, |value| exit(r, value)),
        parity: get("parity").and_then(|value| parity(r, value, &matrix, &snapshot, differs)),
        snapshot,
        gate: gates,
        regions: get("regions").is_some_and(|value| r.boolean("regions", value) == Some(true)),
        fingerprint: get("fingerprint").map_or(Vec::new(), |value| fingerprint(r, value)),
        subject: get("subject").map_or(Vec::new(), |value| p.paths(r, "subject", value)),
        repeat: get("repeat")
            .and_then(|value| repeat(r, value))
            .unwrap_or(settings.repeat),
        shown: shown(r, &fields, settings.shown),
        shims: get("shims").map_or(Vec::new(), |value| shims::wanted(r, value, known)),
        network: get("network")
            .and_then(|value| network_beside(r, value, &services))
            .unwrap_or(match services.is_empty() {
                true => settings.network,
                false => Network::Loopback,
            }),
        services,
    };
    if let (Some(value), Some(_)) = (get("shims"), params::cases(&workload.params)) {
        check_program(r, value, &workload);
    }
    if let Some(params) = get("params") {
        check(r, params, &workload.name, &placeholders);
    }
    Some(workload)
}

/// A workload is not its own shim.
fn check_program(r: &mut Reader<'_>, shims: &Value<'_>, workload: &Workload) {
    for case in cases(Path::new(""), workload) {
        let name = case.program.file_name().unwrap_or_default();
        if workload.shims.iter().any(|shim| name == shim.name()) {
            let message = format!(
                "`{}` is the workload's own program, and a shim cannot stand for that; remove it",
                name.display()
            );
            r.problem(shims.span().start, message);
        }
    }
}

/// The network of a workload that has these services.
fn network_beside(
    r: &mut Reader<'_>,
    value: &Value<'_>,
    services: &[service::Entry],
) -> Option<Network> {
    let network = network(r, value)?;
    if let (Network::None, Some(service)) = (network, services.first()) {
        let name = &service.name;
        r.problem(value.span().start, format!("without a network, service `{name}` cannot be reached; write `network = \"loopback\"`, or remove the key"));
    }
    Some(network)
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

pub(super) fn command<'t>(
    r: &mut Reader<'t>,
    p: &mut Placeholders<'_>,
    value: &Value<'t>,
) -> Vec<Template> {
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

pub(super) fn env<'t>(
    r: &mut Reader<'t>,
    p: &mut Placeholders<'_>,
    key: &str,
    value: &Value<'t>,
) -> BTreeMap<String, Template> {
    let mut env = BTreeMap::new();
    let Some(table) = r.table(key, value, "a table, such as `{ MODE = \"fast\" }`") else {
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

/// Every case of a workload whose manifest is in `folder`.
pub(super) fn cases(folder: &Path, workload: &Workload) -> Vec<Case> {
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
            exit: workload.snapshot.exit,
            normalize: workload.snapshot.normalize.clone(),
        },
        gate: workload.gate.clone(),
        regions: workload.regions,
        fingerprint: workload.fingerprint.clone(),
        subject: workload.subject.iter().map(path).collect(),
        repeat: workload.repeat,
        shown: workload.shown,
        shims: workload.shims.clone(),
        parity: workload.parity.clone(),
        network: workload.network,
        services: workload
            .services
            .iter()
            .map(|entry| entry.service(folder))
            .collect(),
        params: row,
    }
}

pub(super) fn program(folder: &Path, name: &str) -> PathBuf {
    if name.contains('/') {
        folder.join(name)
    } else {
        PathBuf::from(name)
    }
}
