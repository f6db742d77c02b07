//! The `[service.NAME]` tables of a manifest: servers that run beside a workload.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::params::{Matrix, Values};
use super::placeholders::Placeholders;
use super::reader::{Reader, Value, in_order, nearest};
use super::shared::timeout;
use super::template::{Template, is_name};
use super::workload::{command, env, program};
use super::{Ready, Service};

/// How long a service may take to get ready when nothing else is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

const SERVICE_KEYS: [&str; 5] = ["command", "env", "export", "cwd", "ready"];
const READY_KEYS: [&str; 4] = ["port", "file", "line", "timeout"];

/// A service as the manifest has it, placeholders filled in; paths are still relative.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub name: String,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    pub export: BTreeMap<String, String>,
    cwd: Option<PathBuf>,
    pub ready: Ready,
    /// Where its name stands.
    at: usize,
}

impl Entry {
    /// As a run needs it, for a manifest in `folder`.
    pub fn service(&self, folder: &Path) -> Service {
        let cwd = self.cwd.as_ref().map(|cwd| folder.join(cwd));
        let file = self.ready.file.as_ref();
        Service {
            name: self.name.clone(),
            program: program(folder, self.command.first().map_or("", String::as_str)),
            command: self.command.clone(),
            env: self.env.clone(),
            export: self.export.clone(),
            cwd: cwd.unwrap_or_else(|| folder.to_owned()),
            ready: Ready {
                file: file.map(|file| folder.join(file)),
                ..self.ready.clone()
            },
        }
    }
}

/// Reads all of them.
pub(super) fn services<'t>(r: &mut Reader<'t>, value: &Value<'t>) -> Vec<Entry> {
    const WANTED: &str = "`[service.NAME]` tables";
    let mut entries = Vec::new();
    for (key, value) in r
        .table("service", value, WANTED)
        .map(in_order)
        .unwrap_or_default()
    {
        let (name, at): (&str, usize) = (key.get_ref(), key.span().start);
        if !is_name(name) {
            r.problem(at, format!("`{}` cannot be a service's name; use letters, digits, `_` and `-`, beginning with a letter or `_`", name.escape_debug()));
        } else {
            entries.extend(service(r, name, at, value));
        }
    }
    entries
}

fn service<'t>(r: &mut Reader<'t>, name: &str, at: usize, value: &Value<'t>) -> Option<Entry> {
    let table = r.table(name, value, "`[service.NAME]`, a table")?;
    let fields = r.fields(table, &SERVICE_KEYS);
    let get = |key: &str| fields.get(key).copied();
    if get("command").is_none() {
        r.problem(
            at,
            format!("service `{name}` without `command`; add `command = ...`"),
        );
    }
    let ready = match get("ready") {
        Some(value) => ready(r, value)?,
        None => {
            r.problem(at, format!("service `{name}` without `ready`; add `ready = {{ port = ... }}`, or `file` or `line`, by which it shows that it serves"));
            return None;
        }
    };
    let port = ready.port.map(|port| ("port".to_owned(), port.to_string()));
    let values: Values = port.into_iter().collect();
    let matrix: Matrix = values
        .iter()
        .map(|(name, value)| (name.clone(), vec![value.clone()]))
        .collect();
    let p = &mut Placeholders::of_a_service(&matrix);
    let filled = |variables: BTreeMap<String, Template>| {
        let fill = |(name, value): (String, Template)| (name, value.fill(&values));
        variables.into_iter().map(fill).collect()
    };
    let words = get("command").map_or(Vec::new(), |value| command(r, p, value));
    Some(Entry {
        name: name.to_owned(),
        command: words.iter().map(|word| word.fill(&values)).collect(),
        env: get("env").map_or(BTreeMap::new(), |value| filled(env(r, p, "env", value))),
        export: get("export").map_or(BTreeMap::new(), |value| filled(env(r, p, "export", value))),
        cwd: get("cwd")
            .and_then(|value| p.path(r, "cwd", value))
            .map(|cwd| cwd.fill(&values).into()),
        ready,
        at,
    })
}

fn ready<'t>(r: &mut Reader<'t>, value: &Value<'t>) -> Option<Ready> {
    let table = r.table("ready", value, "a table, such as `{ port = 8080 }`")?;
    let fields = r.fields(table, &READY_KEYS);
    let get = |key: &str| fields.get(key).copied();
    let port = get("port").and_then(|value| r.integer("port", value, 1..65536));
    let file = get("file").and_then(|value| r.string("file", value, "a path as a string"));
    let line =
        get("line").and_then(|value| r.string("line", value, "a part of the line, as a string"));
    if !["port", "file", "line"]
        .iter()
        .any(|key| fields.contains_key(key))
    {
        r.problem(
            value.span().start,
            "`ready` names no sign; add `port = ...`, `file = ...` or `line = ...`",
        );
    }
    Some(Ready {
        port: port.and_then(|port| u16::try_from(port).ok()),
        file: file.map(PathBuf::from),
        line: line.map(str::to_owned),
        timeout: get("timeout")
            .and_then(|value| timeout(r, value))
            .unwrap_or(DEFAULT_TIMEOUT),
    })
}

/// The services that a workload names, in its order. Each must exist, and no two of them be in each other's way.
pub(super) fn chosen<'t>(r: &mut Reader<'t>, value: &Value<'t>, known: &[Entry]) -> Vec<Entry> {
    const WANTED: &str = "an array of names, such as `[\"pypi\"]`";
    let mut chosen: Vec<Entry> = Vec::new();
    for value in r.array("services", value, WANTED).unwrap_or_default() {
        let at = value.span().start;
        let Some(name) = r.string("services", value, WANTED) else {
            continue;
        };
        let Some(entry) = known.iter().find(|entry| entry.name == name) else {
            r.problem(at, unknown(name, known));
            continue;
        };
        if let Some(why) = chosen.iter().find_map(|other| clash(other, entry)) {
            r.problem(at, why);
            continue;
        }
        chosen.push(entry.clone());
    }
    chosen
}

fn unknown(name: &str, known: &[Entry]) -> String {
    let names: Vec<&str> = known.iter().map(|entry| entry.name.as_str()).collect();
    let hint = match nearest(name, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => format!("add a table `[service.{}]`", name.escape_debug()),
        None => {
            let known = names.join("`, `");
            let name = name.escape_debug();
            format!("known are `{known}`, and a table `[service.{name}]` makes another")
        }
    };
    format!("unknown service `{}`; {hint}", name.escape_debug())
}

fn clash(one: &Entry, other: &Entry) -> Option<String> {
    let (a, b) = (&one.name, &other.name);
    if a == b {
        return Some(format!("service `{a}` is named twice; remove one"));
    }
    if one.ready.port.is_some() && one.ready.port == other.ready.port {
        return Some(format!(
            "services `{a}` and `{b}` have the same port; give one another"
        ));
    }
    let variable = one
        .export
        .keys()
        .find(|name| other.export.contains_key(*name))?;
    Some(format!(
        "services `{a}` and `{b}` both export `{variable}`; give one another name"
    ))
}

/// A service that no workload names would never start, which nobody can have meant.
pub(super) fn check_used<'a>(
    r: &mut Reader<'_>,
    known: &[Entry],
    used: impl Iterator<Item = &'a Entry>,
) {
    let used: BTreeSet<&str> = used.map(|entry| entry.name.as_str()).collect();
    for entry in known
        .iter()
        .filter(|entry| !used.contains(entry.name.as_str()))
    {
        let name = &entry.name;
        r.problem(entry.at, format!("service `{name}` is not used; add `services = [\"{name}\"]` to a workload, or remove it"));
    }
}
