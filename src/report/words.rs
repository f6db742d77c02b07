//! Sentences and short texts that more than one kind of report uses.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;

use super::number::{counted, grouped, share};
use super::style::visible;
use crate::model::explanation::Spot;
use crate::model::{
    Attempt, Caveat, Comparison, Difference, Limit, Outcome, Pin, Repeats, Split, Verdict,
};

/// Characters of a long hexadecimal digest that tell it from another.
const DIGEST_CHARACTERS: usize = 12;

/// A command as one could type it into a shell, with nothing in it that a terminal would obey.
pub fn command_line(command: &[String]) -> String {
    let words: Vec<_> = command.iter().map(|word| quoted(word)).collect();
    visible(&words.join(" ")).into_owned()
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A line that is not ours, with nothing in it that a terminal would obey.
pub(super) fn shown_line(line: &str) -> String {
    visible(&line.replace('\t', "    ")).into_owned()
}

/// How a program ended, where that is worth a line.
pub(super) fn ending(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Exited(0) => None,
        Outcome::Exited(code) => Some(format!("with exit code {code}")),
        Outcome::Killed(number) => {
            let name = Signal::try_from(number).map_or("unknown", Signal::as_str);
            Some(format!("killed by signal {number} ({name})"))
        }
        Outcome::TimedOut => Some("killed: its time was up".to_owned()),
    }
}

/// A source of variation in a list of many; the long name stands where it is the subject.
pub(super) fn pin(pin: Pin) -> &'static str {
    match pin {
        Pin::Aslr => "ASLR",
        Pin::Environment => "environment",
        Pin::StackLayout => "stack layout",
        Pin::AtRandom => "AT_RANDOM",
        Pin::Vdso => "vDSO",
        Pin::RandomBytes => "random bytes",
        Pin::HashSeeds => "hash seeds",
        Pin::Locale => "locale",
        Pin::TimeZone => "time zone",
        Pin::CpuDispatch => "CPU dispatch",
        Pin::CacheThresholds => "cache sizes",
        Pin::OneCpu => "one CPU",
        Pin::CpuModel => "CPU model",
        Pin::Host => "host",
        Pin::DirectoryOrder => "directory order",
        Pin::ProjectFolder => "project folder",
        Pin::ProcessIds => "process ids",
        Pin::Clock => "clocks",
        Pin::ThreadOrder => "order of threads",
        Pin::Signals => "signals",
        Pin::StackLimit => "stack limit",
        Pin::Stdin => "stdin",
        Pin::User => "user",
        Pin::Network => "network",
    }
}

/// What the repeats say.
pub(super) fn agreement(repeats: &Repeats) -> String {
    let runs = repeats.instructions.len();
    if runs <= 1 && repeats.agree {
        return "1 run; `--repeat 10` shows whether repeats agree".to_owned();
    }
    if repeats.agree {
        return format!("{0} of {0} runs agree", grouped_usize(runs));
    }
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for count in &repeats.instructions {
        *times.entry(*count).or_insert(0) += 1;
    }
    if times.len() <= 1 {
        return format!(
            "{} agree on the instructions, not on their opcodes, functions or regions",
            counted(runs, "run")
        );
    }
    let mut by_times: Vec<_> = times.into_iter().collect();
    by_times.sort_by_key(|(count, times)| (std::cmp::Reverse(*times), *count));
    let listed: Vec<_> = by_times
        .iter()
        .map(|(count, times)| format!("{} ({})", grouped(*count), counted(*times, "run")))
        .collect();
    format!("{} DISAGREE: {}", counted(runs, "run"), listed.join(", "))
}

fn grouped_usize(count: usize) -> String {
    u64::try_from(count).map_or_else(|_| count.to_string(), grouped)
}

/// A caveat as a sentence without its full stop.
pub(super) fn caveat(caveat: &Caveat) -> String {
    match caveat {
        Caveat::RepIterations => {
            "each iteration of a `rep` string instruction is counted, where hardware counts one \
             instruction"
                .to_owned()
        }
        Caveat::LeftRunning { programs } => format!(
            "still running when the command had ended, and not fully counted: {}",
            programs.join(", ")
        ),
        Caveat::LostBeforeExec { execs } => format!(
            "this backend loses the instructions between fork and exec ({} here)",
            counted(usize::try_from(*execs).unwrap_or(usize::MAX), "exec")
        ),
        Caveat::Other { text } => text.trim_end_matches('.').to_owned(),
    }
}

/// How a tree's instructions are split, as a clause.
pub(super) fn split(split: &Split) -> String {
    let whole = split.own.saturating_add(split.children);
    let processes = counted(
        usize::try_from(split.processes).unwrap_or(usize::MAX),
        "subprocess",
    );
    format!(
        "{} % in its own process ({}), {} % in {processes} ({})",
        share(split.own, whole),
        grouped(split.own),
        share(split.children, whole),
        grouped(split.children),
    )
}

/// How often shims were called.
pub(super) fn shim_calls(shims: &BTreeMap<String, u64>) -> String {
    let calls = |(name, calls): (&String, &u64)| {
        let calls = usize::try_from(*calls).unwrap_or(usize::MAX);
        format!("{name} {}", counted(calls, "call"))
    };
    shims.iter().map(calls).collect::<Vec<_>>().join(", ")
}

/// What a program tried to reach in vain, as a sentence without its full stop.
pub fn attempt(attempt: &Attempt) -> String {
    let Attempt {
        program,
        pid,
        address,
        times,
        callers,
    } = attempt;
    let name = program.rsplit('/').next().unwrap_or(program);
    let often = match times {
        1 => String::new(),
        times => format!(", {} times", grouped(*times)),
    };
    let from = callers_of(callers);
    let text = format!(
        "{name} (pid {pid}) tried to connect to {address}{often}{from}: it has no such network"
    );
    visible(&text).into_owned()
}

/// The innermost caller; where it has no name, also the first that has.
fn callers_of(callers: &[Spot]) -> String {
    let Some(first) = callers.first() else {
        return String::new();
    };
    let mut named = callers.iter().filter(|caller| caller.is_named());
    match named.next().filter(|named| *named != first) {
        Some(named) => format!(", from {first}, below {named}"),
        None => format!(", from {first}"),
    }
}

/// `fact: before -> after`, digests shortened where that still tells them apart.
pub(super) fn difference(difference: &Difference) -> String {
    let before = difference.before.as_deref().unwrap_or("absent");
    let after = difference.after.as_deref().unwrap_or("absent");
    let (short_before, short_after) = (digest(before), digest(after));
    let (before, after) = match short_before == short_after {
        true => (before.to_owned(), after.to_owned()),
        false => (short_before, short_after),
    };
    format!("{}: {before} -> {after}", difference.fact)
}

fn digest(value: &str) -> String {
    let hexadecimal = value.chars().all(|c| c.is_ascii_hexdigit());
    if hexadecimal && value.len() > DIGEST_CHARACTERS + 4 {
        value.chars().take(DIGEST_CHARACTERS).chain(['…']).collect()
    } else {
        value.to_owned()
    }
}

/// Who is to blame, where the files that are expected to change did not: absent when they did, when no count
/// moved, or when there is no baseline whose files they could be.
pub(super) fn not_your_code(comparison: &Comparison) -> Option<String> {
    let moved = matches!(
        comparison.verdict,
        Verdict::Regressed | Verdict::Improved | Verdict::Within
    );
    let has_baseline = comparison.metrics.iter().any(|m| m.before.is_some());
    if !moved || !has_baseline || !comparison.subject.is_empty() {
        return None;
    }
    if !comparison.environment.is_empty() {
        return Some("not your code: the measured files are those of the baseline".to_owned());
    }
    let variables = comparison.variables.iter();
    let names: Vec<&str> = variables.map(|variable| variable.fact.as_str()).collect();
    let besides = match names.as_slice() {
        [] => "something that no fingerprint names moved the count".to_owned(),
        names => format!(
            "what else is known to differ is the value of {} (`env` in the manifest can give it one \
             value everywhere)",
            names.join(", ")
        ),
    };
    Some(format!(
        "not your code, unless it is in files that `subject` does not name: the measured files are \
         those of the baseline, and {besides}"
    ))
}

/// Whether a difference of the counts means anything.
pub(super) fn differences_count(verdict: Verdict) -> bool {
    !matches!(
        verdict,
        Verdict::NotComparable | Verdict::NotReproducible | Verdict::Failed
    )
}

/// The number of a percentage limit, which a percentage beside it must not be rounded to.
pub(super) fn percent_limit(limit: Option<Limit>) -> Option<String> {
    match limit? {
        Limit::Percent(percent) => Some(percent.to_string()),
        Limit::Absolute(_) | Limit::Ceiling(_) => None,
    }
}

/// A limit as a reader of counts writes it, in a column of limits.
pub(super) fn limit(limit: Option<Limit>) -> String {
    match limit {
        None => String::new(),
        Some(Limit::Percent(percent)) => format!("{percent} %"),
        Some(Limit::Absolute(count)) => format!("+{}", grouped(count)),
        Some(Limit::Ceiling(count)) => format!("<={}", grouped(count)),
    }
}

/// `9 identical, 1 regressed`: from good to bad.
pub(super) fn tallied(tally: &BTreeMap<Verdict, usize>) -> String {
    let parts: Vec<_> = tally
        .iter()
        .map(|(verdict, count)| format!("{} {}", grouped_usize(*count), verdict.words()))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeats(instructions: &[u64], agree: bool) -> String {
        let instructions = instructions.to_vec();
        agreement(&Repeats {
            instructions,
            agree,
        })
    }

    #[test]
    fn a_command_can_be_typed_again() {
        let command = ["sh", "-c", "echo 'a b' $HOME", "", "x=1"].map(str::to_owned);
        let text = r"sh -c 'echo '\''a b'\'' $HOME' '' x=1";
        assert_eq!(command_line(&command), text);
    }

    #[test]
    fn repeats_that_disagree_are_listed_by_how_often_they_came() {
        let text = "4 runs DISAGREE: 1,001 (2 runs), 998 (1 run), 1,000 (1 run)";
        assert_eq!(repeats(&[1001, 1000, 998, 1001], false), text);
        assert_eq!(repeats(&[5; 10], true), "10 of 10 runs agree");
        assert!(repeats(&[5, 5], false).contains("not on their opcodes"));
        assert!(repeats(&[5], true).starts_with("1 run;"));
    }

    #[test]
    fn digests_are_shortened_only_where_that_tells_them_apart() {
        let differ = |before: &str, after: &str| {
            difference(&Difference {
                fact: "libc".to_owned(),
                before: Some(before.to_owned()),
                after: Some(after.to_owned()),
            })
        };
        let (a, b) = ("0123456789abcdef0123", "1123456789abcdef0123");
        assert_eq!(differ(a, b), "libc: 0123456789ab… -> 1123456789ab…");
        let c = "0123456789abcdef0124";
        assert_eq!(differ(a, c), format!("libc: {a} -> {c}"));
    }
}
