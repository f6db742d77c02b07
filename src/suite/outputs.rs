//! What of a workload's output is held against something: `snapshot`, `parity` and `differs`.

use std::collections::BTreeMap;

use regex::bytes::RegexBuilder;

use super::params::Matrix;
use super::placeholders::{Placeholders, parameter};
use super::reader::{Reader, Value, in_order, nearest};
use super::template::Template;
use crate::model::{Normalize, Replacement, Tolerance};

const SNAPSHOT_KEYS: [&str; 8] = [
    "stdout",
    "stderr",
    "files",
    "rtol",
    "atol",
    "exit",
    "normalize",
    "replace",
];
const REPLACE_KEYS: [&str; 2] = ["pattern", "with"];
const DIFFERS_KEYS: [&str; 4] = ["params", "part", "pattern", "reason"];

/// The snapshot as the manifest has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    pub stdout: bool,
    pub stderr: bool,
    pub exit: bool,
    pub files: Vec<Template>,
    /// The files as they stand in the manifest.
    names: Vec<String>,
    pub tolerance: Option<Tolerance>,
    pub normalize: Normalize,
}

/// One output of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The exit code.
    Exit,
    /// A file, by its place in the snapshot's `files`.
    File(usize),
}

/// What must be the same for every value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parity {
    /// The parameter.
    pub parameter: String,
    /// Differences that are meant.
    pub differs: Vec<Differs>,
}

/// A difference between two cases that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// It is one of cases with all these parameters.
    pub params: BTreeMap<String, String>,
    /// Of this output.
    pub part: Part,
    /// Lines that match may be on one side only; the whole output when absent.
    pub pattern: Option<String>,
    /// Why.
    pub reason: String,
}

pub(super) fn snapshot<'t>(
    r: &mut Reader<'t>,
    p: &mut Placeholders<'_>,
    value: &Value<'t>,
) -> Wanted {
    let mut wanted = Wanted::default();
    let Some(table) = r.table("snapshot", value, "a table, such as `{ stdout = true }`") else {
        return wanted;
    };
    let fields = r.fields(table, &SNAPSHOT_KEYS);
    let get = |key: &str| fields.get(key).copied();
    wanted.stdout = get("stdout").is_some_and(|value| r.boolean("stdout", value) == Some(true));
    wanted.stderr = get("stderr").is_some_and(|value| r.boolean("stderr", value) == Some(true));
    wanted.exit = get("exit").is_some_and(|value| r.boolean("exit", value) == Some(true));
    if let Some(value) = get("files") {
        wanted.files = p.paths(r, "files", value);
        let names = value
            .get_ref()
            .as_array()
            .into_iter()
            .flat_map(|array| array.iter());
        wanted.names = names
            .filter_map(|name| name.get_ref().as_str())
            .map(str::to_owned)
            .collect();
    }
    let rtol = get("rtol").and_then(|value| r.tolerance("rtol", value));
    let atol = get("atol").and_then(|value| r.tolerance("atol", value));
    if rtol.is_some() || atol.is_some() {
        wanted.tolerance = Some(Tolerance {
            rtol: rtol.unwrap_or(0.0),
            atol: atol.unwrap_or(0.0),
        });
    }
    if let Some(value) = get("normalize") {
        normalize(r, value, &mut wanted.normalize);
    }
    if let Some(value) = get("replace") {
        wanted.normalize.replace = replacements(r, value);
    }
    if !wanted.stdout && !wanted.stderr && !wanted.exit && wanted.files.is_empty() {
        let message = "this snapshot compares nothing; add `stdout = true`, `stderr = true`, `exit = true` or `files = [...]`, or remove it";
        r.problem(value.span().start, message);
    }
    wanted
}

fn normalize(r: &mut Reader<'_>, value: &Value<'_>, into: &mut Normalize) {
    const KNOWN: [&str; 2] = ["paths", "times"];
    let wanted = "an array of `\"paths\"` and `\"times\"`";
    for value in r.array("normalize", value, wanted).unwrap_or_default() {
        match r.string("normalize", value, wanted) {
            Some("paths") => into.paths = true,
            Some("times") => into.times = true,
            Some(other) => {
                let hint = match nearest(other, &KNOWN) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        "known are `paths` and `times`; for others there is `replace`".to_owned()
                    }
                };
                r.problem(
                    value.span().start,
                    format!("unknown normaliser `{other}`; {hint}"),
                );
            }
            None => {}
        }
    }
}

fn replacements<'t>(r: &mut Reader<'t>, value: &Value<'t>) -> Vec<Replacement> {
    const WANTED: &str =
        "an array of tables, such as `[{ pattern = \"0x[0-9a-f]+\", with = \"<address>\" }]`";
    let mut replacements = Vec::new();
    for value in r.array("replace", value, WANTED).unwrap_or_default() {
        let Some(table) = r.table("replace", value, WANTED) else {
            continue;
        };
        let fields = r.fields(table, &REPLACE_KEYS);
        let (Some(of), Some(with)) = (fields.get("pattern"), fields.get("with")) else {
            r.problem(value.span().start, "`replace` needs `pattern` and `with`");
            continue;
        };
        let with = r.any_string("with", with, "a string");
        if let (Some(pattern), Some(with)) = (pattern(r, of), with) {
            let with = with.to_owned();
            replacements.push(Replacement { pattern, with });
        }
    }
    replacements
}

/// A regular expression that can be used.
fn pattern(r: &mut Reader<'_>, value: &Value<'_>) -> Option<String> {
    let text = r.string("pattern", value, "a regular expression as a string")?;
    match RegexBuilder::new(text).multi_line(true).build() {
        Ok(_) => Some(text.to_owned()),
        Err(error) => {
            // The last line says what is wrong; those before draw the place.
            let error = error.to_string();
            let what = error.lines().last().unwrap_or_default();
            let message = format!(
                "`pattern` is no regular expression: {}",
                what.trim_start_matches("error: ")
            );
            r.problem(value.span().start, message);
            None
        }
    }
}

/// Reads `parity`: the name of a parameter.
pub(super) fn parity(
    r: &mut Reader<'_>,
    value: &Value<'_>,
    matrix: &Matrix,
    snapshot: &Wanted,
    differs: Vec<Differs>,
) -> Option<Parity> {
    let at = value.span().start;
    let name = r.string("parity", value, "the name of a parameter")?;
    let Some((_, values)) = matrix.iter().find(|(known, _)| known == name) else {
        let known: Vec<&str> = matrix.iter().map(|(known, _)| known.as_str()).collect();
        let hint = match nearest(name, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add `{name} = [...]` to `params`"),
        };
        r.problem(at, format!("`parity` names no parameter: `{name}`; {hint}"));
        return None;
    };
    if values.len() < 2 {
        r.problem(
            at,
            format!("`parity` needs two values of `{name}` or more, to hold one against the other"),
        );
    }
    if parts(snapshot).is_empty() {
        r.problem(
            at,
            "`parity` without `snapshot` compares nothing; add `snapshot = { stdout = true }`",
        );
    }
    Some(Parity {
        parameter: name.to_owned(),
        differs,
    })
}

/// The outputs that a snapshot names, as `part` names them.
fn parts(snapshot: &Wanted) -> Vec<(&str, Part)> {
    let fixed = [
        ("stdout", Part::Stdout, snapshot.stdout),
        ("stderr", Part::Stderr, snapshot.stderr),
        ("exit", Part::Exit, snapshot.exit),
    ];
    let fixed = fixed.into_iter().filter(|(_, _, wanted)| *wanted);
    let files = snapshot.names.iter().enumerate();
    let files = files.map(|(index, name)| (name.as_str(), Part::File(index)));
    fixed
        .map(|(name, part, _)| (name, part))
        .chain(files)
        .collect()
}

/// Reads `differs`.
pub(super) fn differs<'t>(
    r: &mut Reader<'t>,
    value: &Value<'t>,
    matrix: &Matrix,
    snapshot: &Wanted,
) -> Vec<Differs> {
    const WANTED: &str = "`[[workload.differs]]`, in double brackets";
    let tables = r.array("differs", value, WANTED).unwrap_or_default();
    tables
        .iter()
        .filter_map(|value| differ(r, value, matrix, snapshot))
        .collect()
}

fn differ<'t>(
    r: &mut Reader<'t>,
    value: &Value<'t>,
    matrix: &Matrix,
    snapshot: &Wanted,
) -> Option<Differs> {
    let at = value.span().start;
    let table = r.table(
        "differs",
        value,
        "`[[workload.differs]]`, in double brackets",
    )?;
    let fields = r.fields(table, &DIFFERS_KEYS);
    let get = |key: &str| fields.get(key).copied();
    for (key, what) in [
        ("part", "the output that differs, such as `\"stdout\"`"),
        ("reason", "why it is meant to"),
    ] {
        if get(key).is_none() {
            r.problem(at, format!("difference without `{key}`; add {what}"));
        }
    }
    let params = get("params").map_or(BTreeMap::new(), |value| chosen(r, value, matrix));
    let pattern = match get("pattern") {
        Some(value) => Some(pattern(r, value)?),
        None => None,
    };
    let name = get("part").and_then(|value| r.string("part", value, "a string"));
    let reason = get("reason").and_then(|value| r.string("reason", value, "a sentence"));
    let known = parts(snapshot);
    let part = known.iter().find(|(known, _)| Some(*known) == name);
    if let (Some(name), None) = (name, part) {
        let names: Vec<_> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
        let message = format!(
            "`part` is no output of the snapshot: `{name}`; it has {}",
            names.join(", ")
        );
        r.problem(get("part").map_or(at, |value| value.span().start), message);
    }
    Some(Differs {
        params,
        part: part?.1,
        pattern,
        reason: reason?.to_owned(),
    })
}

/// One value each of some parameters.
fn chosen<'t>(r: &mut Reader<'t>, value: &Value<'t>, matrix: &Matrix) -> BTreeMap<String, String> {
    let mut chosen = BTreeMap::new();
    let wanted = "a table of one value each, such as `{ python = \"3.13\" }`";
    for (key, value) in r
        .table("params", value, wanted)
        .map(in_order)
        .unwrap_or_default()
    {
        let name: &str = key.get_ref();
        let Some(text) = parameter(r, name, value) else {
            continue;
        };
        match matrix.iter().find(|(known, _)| known == name) {
            Some((_, values)) if values.contains(&text) => {
                chosen.insert(name.to_owned(), text);
            }
            Some((_, values)) => {
                let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
                let message = format!(
                    "`{name}` never has the value `{text}`; it has {}",
                    values.join(", ")
                );
                r.problem(value.span().start, message);
            }
            None => r.problem(
                key.span().start,
                format!("`{name}` is no parameter of this workload"),
            ),
        }
    }
    chosen
}
