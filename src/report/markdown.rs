//! `check` for a pull request's comment or a job's summary: a compact table, details folded away.

use super::number::{counted, grouped, percent, signed};
use super::style::visible;
use super::{Top, tally, words};
use crate::model::{Change, Comparison, MetricChange, Verdict};

/// Characters of one detail that are shown.
const LONGEST_DETAIL: usize = 4000;
/// GitHub refuses comments above 65,536 bytes; the rest is for what the caller puts around the report.
const LARGEST_BYTES: usize = 60_000;

/// A heading with the verdicts' numbers, a table of what is not identical, and for each workload that needs
/// it the explanation, folded.
pub fn check(comparisons: &[Comparison], top: Top) -> String {
    let mut out = format!("### {}\n", headline(comparisons));
    let (same, moved): (Vec<_>, Vec<_>) = comparisons
        .iter()
        .partition(|comparison| comparison.verdict == Verdict::Identical);
    if !moved.is_empty() {
        out.push('\n');
        out.push_str(&table(&moved, LARGEST_BYTES / 2));
    }
    let mut unexplained = 0;
    for details in moved.iter().map(|comparison| details(comparison, top)) {
        if out.len() + details.len() <= LARGEST_BYTES {
            out.push_str(&details);
        } else {
            unexplained += 1;
        }
    }
    if unexplained > 0 {
        let left = counted(unexplained, "explanation");
        out.push_str(&format!("\n{left} left out: the report is too long.\n"));
    }
    if !same.is_empty() {
        let title = format!("{} identical", counted(same.len(), "workload"));
        let room = LARGEST_BYTES.saturating_sub(out.len());
        out.push_str(&folded(&title, &table(&same, room)));
    }
    out
}

fn headline(comparisons: &[Comparison]) -> String {
    if comparisons.is_empty() {
        "Counterfoil: no workload was selected".to_owned()
    } else {
        format!("Counterfoil: {}", words::tallied(&tally(comparisons)))
    }
}

/// A row for each workload, as long as they fit in `room_bytes`, and one row for those that do not.
fn table(comparisons: &[&Comparison], room_bytes: usize) -> String {
    let mut out = "| verdict | workload | before | after | change | limit |\n".to_owned();
    out.push_str("|---|---|--:|--:|--:|--:|\n");
    let mut left_out = 0;
    for rows in comparisons.iter().map(|comparison| rows(comparison)) {
        if left_out == 0 && out.len() + rows.len() <= room_bytes {
            out.push_str(&rows);
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        let left = counted(left_out, "more workload");
        out.push_str(&format!("| | {left} | | | | |\n"));
    }
    out
}

/// The row of a workload's first metric, and one for each other metric that failed.
fn rows(comparison: &Comparison) -> String {
    let verdict = comparison.verdict;
    let title = format!("{} {}", sign(verdict), verdict.words());
    let name = code(&comparison.workload);
    let Some((first, others)) = comparison.metrics.split_first() else {
        return format!("| {title} | {name} | | | | |\n");
    };
    let failed = others.iter().filter(|metric| !metric.holds);
    let failed = failed.map(|metric| row("", &code(&metric.metric.to_string()), metric, verdict));
    row(&title, &name, first, verdict) + &failed.collect::<String>()
}

fn row(title: &str, name: &str, metric: &MetricChange, verdict: Verdict) -> String {
    let side = |count: Option<u64>| count.map_or("-".to_owned(), grouped);
    let mut change = String::new();
    let subtract = words::differences_count(verdict);
    if let (true, Some(before), Some(after)) = (subtract, metric.before, metric.after) {
        let unlike = words::percent_limit(metric.limit);
        change = moved(before, after, unlike.as_deref());
    }
    format!(
        "| {title} | {name} | {} | {} | {change} | {} |\n",
        side(metric.before),
        side(metric.after),
        words::limit(metric.limit).replace('<', "&lt;"),
    )
}

fn moved(before: u64, after: u64, unlike: Option<&str>) -> String {
    let delta = signed(i128::from(after) - i128::from(before));
    match percent(before, after, unlike) {
        Some(part) if before != after => format!("{delta} ({part})"),
        _ => delta,
    }
}

fn details(comparison: &Comparison, top: Top) -> String {
    let mut body = String::new();
    if let Some(detail) = &comparison.detail {
        body.push_str(&fenced(detail));
    }
    if let Some(words) = words::not_your_code(comparison) {
        body.push_str(&format!("{words}.\n\n"));
    }
    for (what, list) in [
        ("environment", &comparison.environment),
        ("subject", &comparison.subject),
    ] {
        for difference in list {
            let fact = code(&words::difference(difference));
            body.push_str(&format!("- {what} {fact}\n"));
        }
    }
    if comparison.verdict == Verdict::Regressed {
        body.push_str(&changes("function", &comparison.functions, top));
        body.push_str(&changes("opcode", &comparison.opcodes, top));
    }
    if body.is_empty() {
        return body;
    }
    let name = code_html(&comparison.workload);
    let title = format!("{name}: {}", comparison.verdict.words());
    folded(&title, &body)
}

fn changes(what: &str, changes: &[Change], top: Top) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let mut out = format!("\n| change | before | after | {what} |\n|--:|--:|--:|---|\n");
    let side = |count: Option<u64>| count.map_or("-".to_owned(), grouped);
    for change in changes.iter().take(top.limit()) {
        let (before, after) = (change.before.unwrap_or(0), change.after.unwrap_or(0));
        out.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            moved(before, after, None),
            side(change.before),
            side(change.after),
            code(&change.name)
        ));
    }
    let others = changes.len().saturating_sub(top.limit());
    if others > 0 {
        let others = counted(others, "smaller change");
        out.push_str(&format!("| | | | {others} |\n"));
    }
    out
}

fn folded(title: &str, body: &str) -> String {
    let body = body.trim_matches('\n');
    format!("\n<details><summary>{title}</summary>\n\n{body}\n\n</details>\n")
}

fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Identical | Verdict::Improved | Verdict::Within => "🟢",
        Verdict::New | Verdict::Missing | Verdict::NotComparable => "🟡",
        Verdict::NotReproducible | Verdict::Regressed | Verdict::WrongOutput | Verdict::Failed => {
            "🔴"
        }
    }
}

/// Text that is not ours as HTML code, which no character in it can end: it also holds within a table, where
/// a backtick fence would not hold against a `|`.
fn code(text: &str) -> String {
    code_html(text).replace('|', "&#124;")
}

fn code_html(text: &str) -> String {
    let mut out = String::from("<code>");
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // Whatever Markdown would take for its own, a mention of a user included.
            '*' | '_' | '`' | '[' | ']' | '\\' | '~' | '@' | '#' | '$' | ':' => {
                out.push_str(&format!("&#{};", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push_str("</code>");
    out
}

/// Several lines that are not ours, within a fence longer than any in them.
fn fenced(text: &str) -> String {
    let (text, cut) = match text.char_indices().nth(LONGEST_DETAIL) {
        Some((end, _)) => (text.get(..end).unwrap_or_default(), "\n[shortened]"),
        None => (text, ""),
    };
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let lines: Vec<_> = text.lines().map(words::shown_line).collect();
    format!("{fence}text\n{}{cut}\n{fence}\n\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_cell_or_become_markup() {
        let text = code("a|b<img>`@me`");
        let shown = "<code>a&#124;b&lt;img&gt;&#96;&#64;me&#96;</code>";
        assert_eq!(text, shown);
    }

    #[test]
    fn a_fence_in_the_output_does_not_end_the_quote() {
        let text = fenced("a\n````\nb");
        assert_eq!(text, "`````text\na\n````\nb\n`````\n\n");
    }
}
