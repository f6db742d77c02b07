//! A suite held against its baselines, and baselines about to be written.

use std::cmp::Ordering;

use super::super::number::{counted, grouped, percent, signed};
use super::super::table::{Cell, Table};
use super::super::{Paint, Top, View, tally, words};
use super::moves::moves;
use super::{quoted_lines, wrapped};
use crate::model::{Comparison, MetricChange, Verdict};

/// Blanks before what stands beneath a workload's line.
const BENEATH: usize = 4;

/// One line a workload, with what explains it beneath, then how many workloads got each verdict.
/// `top` limits the functions and the opcodes beneath each regression.
pub fn check(comparisons: &[Comparison], top: Top, view: &View) -> String {
    let mut table = heading([
        "verdict", "workload", "before", "after", "change", "%", "limit",
    ]);
    for comparison in comparisons {
        let verdict = comparison.verdict;
        let word = Cell::new(Paint::of(verdict), verdict.words());
        table.row(line(word, comparison, comparison.metrics.first()));
        for metric in comparison
            .metrics
            .iter()
            .skip(1)
            .filter(|m| worth_a_line(m))
        {
            let mut cells = line(Cell::default(), comparison, Some(metric));
            cells[1] = format!("  {}", metric.metric).into();
            table.row(cells);
        }
        table.block(explanation(comparison, top, view));
    }
    if comparisons.is_empty() {
        return closing(comparisons, view);
    }
    format!("{}\n{}", table.render(view), closing(comparisons, view))
}

/// What `record` does to each baseline. `written`: whether it was done or only looked at.
pub fn record(comparisons: &[Comparison], written: bool, view: &View) -> String {
    let mut table = heading(["baseline", "workload", "before", "after", "change", "%", ""]);
    let mut changed = 0;
    for comparison in comparisons {
        let (word, paint, touches) = fate(comparison);
        changed += usize::from(touches);
        let mut cells = line(
            Cell::new(paint, word),
            comparison,
            comparison.metrics.first(),
        );
        // Recording knows no limits.
        cells[6] = Cell::default();
        table.row(cells);
        let facts = comparison.environment.iter().map(words::difference);
        for fact in facts.filter(|_| touches) {
            table.block(quoted_lines(&format!("environment {fact}"), BENEATH));
        }
        let detail = comparison.detail.as_deref().unwrap_or_default();
        table.block(quoted_lines(detail, BENEATH));
    }
    let verb = if written {
        "written"
    } else {
        "would be written"
    };
    let all = counted(comparisons.len(), "workload");
    let summary = format!("{all}: {} {verb}", counted(changed, "baseline"));
    let summary = view.paint(Paint::Strong, &summary);
    format!("{}\n{summary}\n", table.render(view))
}

/// What recording makes of a workload: word, colour, and whether its baseline is written.
fn fate(comparison: &Comparison) -> (&'static str, Paint, bool) {
    let count = comparison.metrics.first();
    let before = count.and_then(|count| count.before);
    match (comparison.verdict, before) {
        (Verdict::NotReproducible | Verdict::Failed, _) => ("not recorded", Paint::Bad, false),
        (Verdict::Missing, _) => ("dropped", Paint::Warn, true),
        (Verdict::New, _) | (_, None) => ("new", Paint::Good, true),
        (Verdict::WrongOutput, _) => ("new output", Paint::Warn, true),
        _ if !comparison.environment.is_empty() => ("replaced", Paint::Warn, true),
        (Verdict::Identical, _) if comparison.subject.is_empty() => {
            ("unchanged", Paint::Faint, false)
        }
        (Verdict::Identical, _) => ("same counts", Paint::Faint, true),
        (_, before) => match count.and_then(|count| count.after).cmp(&before) {
            Ordering::Less => ("lower", Paint::Good, true),
            Ordering::Equal => ("changed", Paint::Warn, true),
            Ordering::Greater => ("higher", Paint::Warn, true),
        },
    }
}

fn heading(titles: [&str; 7]) -> Table {
    let mut table = Table::new(0, "llrrrrl");
    table.head(titles);
    table
}

fn line(word: Cell, comparison: &Comparison, metric: Option<&MetricChange>) -> [Cell; 7] {
    let name = Cell::from(&comparison.workload);
    let mut cells: [Cell; 7] = Default::default();
    if let Some(metric) = metric {
        cells = numbers(metric, words::differences_count(comparison.verdict));
    }
    cells[0] = word;
    cells[1] = name;
    cells
}

/// The cells from `before` on; the difference of the two only where it means something.
fn numbers(metric: &MetricChange, subtract: bool) -> [Cell; 7] {
    let side = |count: Option<u64>| count.map_or("-".to_owned(), grouped);
    let paint = if metric.holds {
        Paint::Plain
    } else {
        Paint::Bad
    };
    let (mut change, mut part) = (String::new(), None);
    if let (true, Some(before), Some(after)) = (subtract, metric.before, metric.after) {
        let unlike = words::percent_limit(metric.limit);
        change = signed(i128::from(after) - i128::from(before));
        part = percent(before, after, unlike.as_deref());
    }
    [
        Cell::default(),
        Cell::default(),
        side(metric.before).into(),
        side(metric.after).into(),
        Cell::new(paint, change),
        Cell::new(paint, part.unwrap_or_default()),
        words::limit(metric.limit).into(),
    ]
}

/// Metrics beside the first are shown when they moved or failed.
fn worth_a_line(metric: &MetricChange) -> bool {
    !metric.holds || metric.before != metric.after
}

fn explanation(comparison: &Comparison, top: Top, view: &View) -> String {
    let mut lines = Vec::new();
    let named = |what: &str, list: &[crate::model::Difference]| -> Vec<String> {
        let text = |d| format!("{what} {}", words::difference(d));
        list.iter().map(text).collect()
    };
    lines.extend(comparison.detail.clone());
    lines.extend(named("environment", &comparison.environment));
    if !comparison.shims.is_empty() {
        lines.push(format!("shims: {}", words::shim_calls(&comparison.shims)));
    }
    let split = comparison.split.as_ref().filter(|_| {
        top == Top::All || !comparison.shims.is_empty() || comparison.verdict == Verdict::Regressed
    });
    lines.extend(split.map(|split| format!("split: {}", words::split(split))));
    let mut out = String::new();
    if comparison.verdict == Verdict::Regressed {
        lines.extend(named("subject", &comparison.subject));
        out.push_str(&moves(
            "function",
            &comparison.functions,
            top,
            BENEATH,
            view,
        ));
        out.push_str(&moves("opcode", &comparison.opcodes, top, BENEATH, view));
    }
    let sentence = words::not_your_code(comparison);
    lines.extend(
        sentence
            .into_iter()
            .flat_map(|text| wrapped(&text, BENEATH, view)),
    );
    quoted_lines(&lines.join("\n"), BENEATH) + &out
}

fn closing(comparisons: &[Comparison], view: &View) -> String {
    let tally = tally(comparisons);
    let worst = tally.keys().map(|verdict| Paint::of(*verdict));
    let paint = worst.max().unwrap_or(Paint::Warn);
    let all = counted(comparisons.len(), "workload");
    let text = match comparisons.is_empty() {
        true => "no workload was selected".to_owned(),
        false => format!("{all}: {}", words::tallied(&tally)),
    };
    view.paint(paint, &text) + "\n"
}
