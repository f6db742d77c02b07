//! Commands side by side.

use super::super::number::{grouped, percent, ratio, signed};
use super::super::table::{Cell, Table};
use super::super::{Paint, Side, Top, View, words};
use super::field;
use super::moves::moves;

/// A table of `sides` with ratios against the first, then what differs, largest first. The sides were all
/// counted by the first one's backend.
pub fn compare(sides: &[Side], top: Top, view: &View) -> String {
    let Some((first, others)) = sides.split_first() else {
        return String::new();
    };
    let mut out = summary(sides, first.measurement.instructions(), view);
    let backend = &first.measurement.backend;
    let text = format!("{} {} ({})", backend.name, backend.version, backend.why);
    out.push('\n');
    out.push_str(&field("backend", Paint::Plain, &text, view));
    for side in sides {
        out.push_str(&oddities(side, view));
    }
    let base = words::command_line(&first.measurement.command);
    for side in others {
        let opcodes = moves("opcode", &side.opcodes, top, 2, view);
        let functions = moves("function", &side.functions, top, 2, view);
        if opcodes.is_empty() && functions.is_empty() {
            continue;
        }
        let command = words::command_line(&side.measurement.command);
        let title = view.paint(Paint::Strong, &format!("{base}  ->  {command}"));
        out.push_str(&format!("\n{title}\n{opcodes}"));
        if !opcodes.is_empty() && !functions.is_empty() {
            out.push('\n');
        }
        out.push_str(&functions);
    }
    out
}

fn summary(sides: &[Side], base: u64, view: &View) -> String {
    let mut table = Table::new(2, "rrrrl");
    table.head(["instructions", "ratio", "difference", "%", "command"]);
    for (position, side) in sides.iter().enumerate() {
        let count = side.measurement.instructions();
        let (difference, part) = match position {
            0 => (String::new(), None),
            _ => (
                signed(i128::from(count) - i128::from(base)),
                percent(base, count, None),
            ),
        };
        let ratio = ratio(count, base).unwrap_or_default();
        table.row([
            Cell::new(Paint::Strong, grouped(count)),
            ratio.into(),
            difference.into(),
            part.unwrap_or_default().into(),
            words::command_line(&side.measurement.command).into(),
        ]);
    }
    table.render(view)
}

/// What makes this side's count less than a plain truth.
fn oddities(side: &Side, view: &View) -> String {
    let measurement = &side.measurement;
    let command = words::command_line(&measurement.command);
    let mut out = String::new();
    let mut say = |label: &str, paint, text: String| {
        let text = format!("{command}: {text}");
        out.push_str(&field(label, paint, &text, view));
    };
    if let Some(ending) = words::ending(measurement.outcome) {
        say("ended", Paint::Warn, ending);
    }
    if !measurement.repeats.agree {
        say(
            "repeats",
            Paint::Bad,
            words::agreement(&measurement.repeats),
        );
    }
    for caveat in &measurement.caveats {
        say("note", Paint::Warn, words::caveat(caveat));
    }
    for attempt in &measurement.attempts {
        say("network", Paint::Warn, words::attempt(attempt));
    }
    out
}
