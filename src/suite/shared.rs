//! Values that more than one table of a manifest has: repeats, time-outs, limits, commands.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::reader::{Reader, Value, in_order, nearest};
use super::{CommandLine, durations};
use crate::model::{Gate, Limit, Metric, Network, Shown};

pub(super) fn repeat(r: &mut Reader<'_>, value: &Value<'_>) -> Option<u32> {
    let repeat = r.integer("repeat", value, 1..1001)?;
    u32::try_from(repeat).ok()
}

pub(super) fn timeout(r: &mut Reader<'_>, value: &Value<'_>) -> Option<Duration> {
    let text = r.string("timeout", value, "a string with a unit, such as `\"60s\"`")?;
    durations::parse(text)
        .map_err(|bad| r.problem(value.span().start, bad))
        .ok()
}

pub(super) fn network(r: &mut Reader<'_>, value: &Value<'_>) -> Option<Network> {
    let text = r.string("network", value, "`\"none\"`, `\"loopback\"` or `\"host\"`")?;
    text.parse()
        .map_err(|unknown| r.problem(value.span().start, unknown))
        .ok()
}

/// What `cpu`, `time`, `threads`, `folder` and `user` of a table ask for; what it leaves out is as in `otherwise`.
pub(super) fn shown<'t>(
    r: &mut Reader<'t>,
    fields: &BTreeMap<&str, &Value<'t>>,
    otherwise: Shown,
) -> Shown {
    Shown {
        cpu: named(r, fields, "cpu", "a name, such as `\"x86-64-v3\"`").or(otherwise.cpu),
        time: named(r, fields, "time", "`\"virtual\"` or `\"real\"`").or(otherwise.time),
        threads: named(
            r,
            fields,
            "threads",
            "`\"turns\"`, `\"slices\"` or `\"free\"`",
        )
        .or(otherwise.threads),
        folder: named(r, fields, "folder", "`\"fixed\"` or `\"host\"`").or(otherwise.folder),
        user: named(r, fields, "user", "`\"host\"` or `\"root\"`").or(otherwise.user),
    }
}

fn named<'t, T: FromStr<Err: Display>>(
    r: &mut Reader<'t>,
    fields: &BTreeMap<&str, &Value<'t>>,
    key: &str,
    wanted: &str,
) -> Option<T> {
    let value = fields.get(key)?;
    let name = r.string(key, value, wanted)?;
    name.parse()
        .map_err(|unknown| r.problem(value.span().start, unknown))
        .ok()
}

/// The limits of a gate table. Dotted keys without quotes make tables in it, which are joined
/// again.
pub(super) fn gate<'t>(r: &mut Reader<'t>, key: &str, value: &Value<'t>) -> Gate {
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

/// A command that is run as it is: a string by `sh -c`, or an array.
pub(super) fn command_line<'t>(
    r: &mut Reader<'t>,
    key: &str,
    value: &Value<'t>,
) -> Option<CommandLine> {
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
