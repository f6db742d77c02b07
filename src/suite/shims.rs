//! `[shim.NAME]`: fake programs, written by hand or to be recorded.

use std::collections::BTreeMap;

use super::reader::{Reader, Value, in_order, nearest};
use crate::model::{Answer, Content, Shim};

const ANSWER_KEYS: [&str; 4] = ["stdout", "stderr", "exit", "files"];
const SHIM_KEYS: [&str; 6] = ["stdout", "stderr", "exit", "files", "call", "record"];
const CALL_KEYS: [&str; 5] = ["args", "stdout", "stderr", "exit", "files"];
/// Longer names do not fit in a file's name with what stands beside them.
const LONGEST_NAME: usize = 100;

/// A program to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorder {
    /// Its name.
    pub name: String,
    /// The files that belong to its answers, where a call writes them.
    pub files: Vec<String>,
}

/// Where the answers of a shim come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShimSource {
    /// The manifest.
    Canned(Shim),
    /// Calls of the real program, made by `record` and kept beside the baselines.
    Recorded(Recorder),
}

impl ShimSource {
    /// The name it is called by.
    pub fn name(&self) -> &str {
        match self {
            ShimSource::Canned(shim) => &shim.name,
            ShimSource::Recorded(recorder) => &recorder.name,
        }
    }
}

/// All shims of a manifest, by name.
pub(super) type Shims = BTreeMap<String, ShimSource>;

/// Reads the `shim` tables.
pub(super) fn shims<'t>(r: &mut Reader<'t>, value: &Value<'t>) -> Shims {
    let mut shims = Shims::new();
    let Some(table) = r.table("shim", value, "`[shim.NAME]`") else {
        return shims;
    };
    for (key, value) in in_order(table) {
        let name: &str = key.get_ref();
        if !is_program_name(name) {
            let message = format!(
                "`{}` cannot be a shim's name; use the bare name of a program: letters, digits, `.`, `_`, `+` and `-`",
                name.escape_debug()
            );
            r.problem(key.span().start, message);
        } else if let Some(source) = shim(r, name, value) {
            shims.insert(name.to_owned(), source);
        }
    }
    shims
}

fn is_program_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.chars().all(fine)
        && !name.starts_with('.')
}

fn shim<'t>(r: &mut Reader<'t>, name: &str, value: &Value<'t>) -> Option<ShimSource> {
    let at = value.span().start;
    let table = r.table(name, value, "a table, `[shim.NAME]`")?;
    let fields = r.fields(table, &SHIM_KEYS);
    let get = |key: &str| fields.get(key).copied();
    let record = get("record").and_then(|value| r.boolean("record", value));
    if record == Some(true) {
        for key in ["stdout", "stderr", "exit", "call"] {
            if let Some(value) = get(key) {
                let message = format!(
                    "`{key}` beside `record = true`: the real program gives the answers; remove one of both"
                );
                r.problem(value.span().start, message);
            }
        }
        return Some(ShimSource::Recorded(Recorder {
            name: name.to_owned(),
            files: get("files").map_or(Vec::new(), |value| paths(r, value)),
        }));
    }
    let mut answers = get("call").map_or(Vec::new(), |value| calls(r, value));
    if ANSWER_KEYS.iter().any(|key| get(key).is_some()) {
        answers.push(answer(r, None, get));
    } else if get("call").is_none() {
        let message = format!(
            "shim `{name}` has no answer; add `exit = 0`, `stdout = \"...\"`, `[[shim.{name}.call]]`, or `record = true`"
        );
        r.problem(at, message);
    }
    Some(ShimSource::Canned(Shim {
        name: name.to_owned(),
        recorded: false,
        answers,
    }))
}

fn calls<'t>(r: &mut Reader<'t>, value: &Value<'t>) -> Vec<Answer> {
    let tables = r.array("call", value, "`[[shim.NAME.call]]`, in double brackets");
    let mut answers: Vec<Answer> = Vec::new();
    for value in tables.unwrap_or_default() {
        let Some(table) = r.table("call", value, "`[[shim.NAME.call]]`, in double brackets") else {
            continue;
        };
        let fields = r.fields(table, &CALL_KEYS);
        let get = |key: &str| fields.get(key).copied();
        let Some(given) = get("args") else {
            let message = "call without `args`; add `args = [...]`, or write the answer to all other arguments into `[shim.NAME]`";
            r.problem(value.span().start, message);
            continue;
        };
        let wanted = "an array of strings, such as `[\"--version\"]`";
        let words = r.array("args", given, wanted).unwrap_or_default();
        let words = words.iter().map(|word| r.any_string("args", word, wanted));
        let args: Vec<String> = words.flatten().map(str::to_owned).collect();
        if answers
            .iter()
            .any(|other| other.args.as_ref() == Some(&args))
        {
            let message =
                "an earlier call has the same `args` and would always answer first; remove one";
            r.problem(given.span().start, message);
        }
        answers.push(answer(r, Some(args), get));
    }
    answers
}

fn answer<'v, 't: 'v>(
    r: &mut Reader<'t>,
    args: Option<Vec<String>>,
    get: impl Fn(&str) -> Option<&'v Value<'t>>,
) -> Answer {
    let exit = get("exit").and_then(|value| r.integer("exit", value, 0..256));
    Answer {
        args,
        stdout: content(r, "stdout", get("stdout")),
        stderr: content(r, "stderr", get("stderr")),
        exit: exit.and_then(|code| u8::try_from(code).ok()).unwrap_or(0),
        files: get("files").map_or(BTreeMap::new(), |value| files(r, value)),
    }
}

fn content(r: &mut Reader<'_>, key: &str, value: Option<&Value<'_>>) -> Content {
    let text = value.and_then(|value| r.text(key, value, "a string"));
    Content(text.unwrap_or_default().as_bytes().to_vec())
}

fn files<'t>(r: &mut Reader<'t>, value: &Value<'t>) -> BTreeMap<String, Content> {
    let mut files = BTreeMap::new();
    let wanted = "a table of paths and contents, such as `{ \"out.txt\" = \"content\" }`";
    for (key, value) in r
        .table("files", value, wanted)
        .map(in_order)
        .unwrap_or_default()
    {
        let path: &str = key.get_ref();
        if path.is_empty() || path.ends_with('/') || path.contains('\0') {
            let message = format!("`{}` is no path of a file", path.escape_debug());
            r.problem(key.span().start, message);
        }
        files.insert(path.to_owned(), content(r, path, Some(value)));
    }
    files
}

fn paths(r: &mut Reader<'_>, value: &Value<'_>) -> Vec<String> {
    let wanted = "an array of the paths of files that a call may write";
    let paths = r.array("files", value, wanted).unwrap_or_default();
    let path = |value| r.string("files", value, wanted).map(str::to_owned);
    paths.iter().filter_map(path).collect()
}

/// Reads the `shims` of a workload.
pub(super) fn wanted(r: &mut Reader<'_>, value: &Value<'_>, known: &Shims) -> Vec<ShimSource> {
    let wanted = "an array of names, such as `[\"uv\"]`";
    let mut shims: Vec<ShimSource> = Vec::new();
    for value in r.array("shims", value, wanted).unwrap_or_default() {
        let Some(name) = r.string("shims", value, wanted) else {
            continue;
        };
        let at = value.span().start;
        match known.get(name) {
            Some(_) if shims.iter().any(|shim| shim.name() == name) => {
                r.problem(at, format!("shim `{name}` stands here twice; remove one"));
            }
            Some(shim) => shims.push(shim.clone()),
            None => r.problem(at, unknown(name, known)),
        }
    }
    shims
}

fn unknown(name: &str, known: &Shims) -> String {
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    match nearest(name, &names) {
        Some(near) => format!("unknown shim `{name}`; did you mean `{near}`?"),
        None => format!("unknown shim `{name}`; add a `[shim.{name}]` table"),
    }
}
