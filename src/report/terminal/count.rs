//! One measurement.

use std::collections::BTreeMap;

use super::super::number::{counted, grouped, share};
use super::super::table::{Cell, Table};
use super::super::{Paint, Top, View, words};
use super::field;
use crate::model::{Functions, Measurement, OpcodeMix, Pinning, ProcessCount, RegionCount};

/// Trees of more programs than this are shown by program, not one line each.
const LARGE_TREE: usize = 30;
/// Deeper than this, a tree is no longer indented.
const DEEPEST_INDENT: usize = 12;

/// A measurement: the count, how it came about and what it does not say; then every detail that was counted.
pub fn count(measurement: &Measurement, top: Top, view: &View) -> String {
    let mut out = headline(measurement, view);
    out.push_str(&circumstances(measurement, view));
    let whole = measurement.instructions();
    if let Some(regions) = &measurement.regions {
        out.push_str(&regions_table(regions, view));
    }
    if measurement.processes.len() > 1 {
        out.push_str(&process_table(&measurement.processes, whole, view));
    }
    if let Some(functions) = &measurement.functions {
        out.push_str(&function_table(functions, whole, top, view));
    }
    if let Some(opcodes) = &measurement.opcodes {
        out.push_str(&opcode_table(opcodes, whole, top, view));
    }
    out
}

fn headline(measurement: &Measurement, view: &View) -> String {
    let number = view.paint(Paint::Strong, &grouped(measurement.instructions()));
    let command = words::command_line(&measurement.command);
    let what = match measurement.regions {
        Some(_) => "instructions in regions",
        None => "instructions",
    };
    format!("{number} {what}: {command}\n")
}

fn circumstances(measurement: &Measurement, view: &View) -> String {
    let mut out = String::new();
    if let Some(ending) = words::ending(measurement.outcome) {
        out.push_str(&field("ended", Paint::Warn, &ending, view));
    }
    let backend = &measurement.backend;
    let text = format!("{} {} ({})", backend.name, backend.version, backend.why);
    out.push_str(&field("backend", Paint::Plain, &text, view));
    let paint = match (
        measurement.repeats.agree,
        measurement.repeats.instructions.len(),
    ) {
        (false, _) => Paint::Bad,
        (true, 0 | 1) => Paint::Plain,
        (true, _) => Paint::Good,
    };
    let text = words::agreement(&measurement.repeats);
    out.push_str(&field("repeats", paint, &text, view));
    if let Some(split) = &measurement.split {
        out.push_str(&field("split", Paint::Plain, &words::split(split), view));
    }
    out.push_str(&pinning(&measurement.pinned, view));
    for caveat in &measurement.caveats {
        let text = words::caveat(caveat);
        out.push_str(&field("note", Paint::Warn, &text, view));
    }
    for attempt in &measurement.attempts {
        let text = words::attempt(attempt);
        out.push_str(&field("network", Paint::Warn, &text, view));
    }
    out
}

fn pinning(pinning: &Pinning, view: &View) -> String {
    let held: Vec<_> = pinning.held().map(words::pin).collect();
    let mut out = match held.is_empty() {
        true => String::new(),
        false => field("pinned", Paint::Plain, &held.join(", "), view),
    };
    for (position, (why, pins)) in by_reason(pinning).into_iter().enumerate() {
        let label = if position == 0 { "not pinned" } else { "" };
        let text = format!("{}: {why}", pins.join(", "));
        out.push_str(&field(label, Paint::Warn, &text, view));
    }
    out
}

/// Each reason once, in the order of the first source it holds for.
fn by_reason(pinning: &Pinning) -> Vec<(&str, Vec<String>)> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for (pin, why) in pinning.missing() {
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, pins)) => pins.push(pin.to_string()),
            None => reasons.push((why, vec![pin.to_string()])),
        }
    }
    reasons
}

fn regions_table(regions: &BTreeMap<String, RegionCount>, view: &View) -> String {
    let mut table = Table::new(2, "rrl");
    table.head(["instructions", "entered", "region"]);
    for (name, region) in regions {
        let entered = format!("{}x", grouped(region.entries));
        table.row([
            grouped(region.instructions).into(),
            entered.into(),
            name.into(),
        ]);
    }
    if regions.is_empty() {
        return format!(
            "\n{}",
            field("regions", Paint::Warn, "no marked region was entered", view)
        );
    }
    format!("\n{}", table.render(view))
}

fn process_table(processes: &[ProcessCount], whole: u64, view: &View) -> String {
    let mut table = Table::new(2, "rrl");
    if processes.len() <= LARGE_TREE {
        table.head(["instructions", "%", "process"]);
        for (depth, process) in tree(processes) {
            let indent = "  ".repeat(depth.min(DEEPEST_INDENT));
            let name = format!("{indent}{}", process.program);
            table.row(share_row(process.instructions, whole, &name));
        }
    } else {
        let title = format!("program ({})", counted(processes.len(), "process"));
        table.head(["instructions", "%", &title]);
        for row in by_program(processes) {
            let mut name = format!("{} x {}", row.times, row.program);
            if row.known.is_some() && row.unknown > 0 {
                name += &format!(" ({} not known)", row.unknown);
            }
            table.row(share_row(row.known, whole, &name));
        }
    }
    format!("\n{}", table.render(view))
}

fn share_row(count: Option<u64>, whole: u64, name: &str) -> [Cell; 3] {
    let (number, part) = match count {
        Some(count) => (grouped(count), share(count, whole)),
        None => ("not known".to_owned(), String::new()),
    };
    [number.into(), part.into(), name.into()]
}

/// Every process once, children after their parent, each with its depth.
///
/// A parent is believed only when it started earlier, so that damaged input makes no circle.
fn tree(processes: &[ProcessCount]) -> Vec<(usize, &ProcessCount)> {
    let mut children: BTreeMap<Option<usize>, Vec<&ProcessCount>> = BTreeMap::new();
    for (position, process) in processes.iter().enumerate() {
        let known = |parent: &usize| {
            *parent < process.index && processes.iter().take(position).any(|p| p.index == *parent)
        };
        let parent = process.parent.filter(known);
        children.entry(parent).or_default().push(process);
    }
    let mut rows = Vec::with_capacity(processes.len());
    let mut open: Vec<(usize, &ProcessCount)> = Vec::new();
    let mut enter = |open: &mut Vec<_>, depth, parent| {
        let found = children.remove(&parent).unwrap_or_default();
        open.extend(found.into_iter().rev().map(|child| (depth, child)));
    };
    enter(&mut open, 0, None);
    while let Some((depth, process)) = open.pop() {
        rows.push((depth, process));
        enter(&mut open, depth + 1, Some(process.index));
    }
    rows
}

/// The processes that ran one program.
struct ProgramRow<'a> {
    program: &'a str,
    times: usize,
    /// Instructions of those whose count is known; absent where none is.
    known: Option<u64>,
    /// How many are not known.
    unknown: usize,
}

/// The processes of each program, those with the most instructions first.
fn by_program(processes: &[ProcessCount]) -> Vec<ProgramRow<'_>> {
    let mut programs: BTreeMap<&str, ProgramRow> = BTreeMap::new();
    for process in processes {
        let row = programs.entry(&process.program).or_insert(ProgramRow {
            program: &process.program,
            times: 0,
            known: None,
            unknown: 0,
        });
        row.times += 1;
        let sum = process
            .instructions
            .and_then(|count| row.known.unwrap_or(0).checked_add(count));
        match sum {
            Some(sum) => row.known = Some(sum),
            None => row.unknown += 1,
        }
    }
    let mut rows: Vec<_> = programs.into_values().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.known));
    rows
}

fn function_table(functions: &Functions, whole: u64, top: Top, view: &View) -> String {
    let rows: Vec<_> = functions
        .largest_first()
        .into_iter()
        .map(|row| {
            (
                row.instructions,
                format!("{}: {}", row.module, row.function),
            )
        })
        .collect();
    ranking("function", &rows, whole, top, view)
}

fn opcode_table(opcodes: &OpcodeMix, whole: u64, top: Top, view: &View) -> String {
    let mut rows: Vec<_> = opcodes.0.iter().map(|(m, n)| (*n, m.clone())).collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    ranking("opcode", &rows, whole, top, view)
}

/// The first rows of a list that is ordered already, and one row for all others.
fn ranking(what: &str, rows: &[(u64, String)], whole: u64, top: Top, view: &View) -> String {
    let mut table = Table::new(2, "rrl");
    table.head(["instructions", "%", what]);
    // A row for the others that stands for a single one would take its place and say less.
    let shown = match rows.len() {
        all if all <= top.limit().saturating_add(1) => all,
        _ => top.limit(),
    };
    for (count, name) in rows.iter().take(shown) {
        table.row(share_row(Some(*count), whole, name));
    }
    if let Some(others) = rows.get(shown..).filter(|others| !others.is_empty()) {
        let sum = crate::model::sum(others.iter().map(|(count, _)| *count)).ok();
        let name = counted(others.len(), &format!("other {what}"));
        let [count, part, _] = share_row(sum, whole, "");
        table.row([count, part, Cell::new(Paint::Faint, name)]);
    }
    format!("\n{}", table.render(view))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(index: usize, parent: Option<usize>) -> ProcessCount {
        ProcessCount {
            index,
            parent,
            program: format!("p{index}"),
            replaces: false,
            instructions: Some(1),
        }
    }

    #[test]
    fn a_tree_lists_children_beneath_their_parents() {
        let processes = [
            process(0, None),
            process(1, Some(0)),
            process(2, Some(0)),
            process(3, Some(1)),
        ];
        let shape: Vec<_> = tree(&processes)
            .iter()
            .map(|(d, p)| (*d, p.index))
            .collect();
        assert_eq!(shape, [(0, 0), (1, 1), (2, 3), (1, 2)]);
    }

    #[test]
    fn damaged_parents_neither_lose_a_process_nor_hang() {
        let processes = [
            process(0, Some(0)),
            process(1, Some(2)),
            process(2, Some(1)),
            process(2, Some(9)),
        ];
        let mut seen: Vec<_> = tree(&processes).iter().map(|(_, p)| p.index).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 2]);
    }
}
