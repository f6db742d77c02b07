//! What moved between two counts: functions and opcodes, largest difference first.

use super::super::number::{counted, grouped, percent, signed};
use super::super::table::{Cell, Table};
use super::super::{Paint, Top, View};
use crate::model::Change;

/// A table of changes behind `indent` blanks; empty when there are none.
pub(super) fn moves(
    what: &str,
    changes: &[Change],
    top: Top,
    indent: usize,
    view: &View,
) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let mut table = Table::new(indent, "rrrrl");
    table.head(["change", "%", "before", "after", what]);
    for change in changes.iter().take(top.limit()) {
        table.row(row(change));
    }
    let others = changes.len().saturating_sub(top.limit());
    if others > 0 {
        let name = counted(others, "smaller change");
        let mut cells: [Cell; 5] = Default::default();
        cells[4] = Cell::new(Paint::Faint, name);
        table.row(cells);
    }
    table.render(view)
}

fn row(change: &Change) -> [Cell; 5] {
    let delta = change.delta();
    let paint = match delta {
        1.. => Paint::Bad,
        _ => Paint::Good,
    };
    let side = |count: Option<u64>| count.map_or("-".to_owned(), grouped);
    let part = percent(change.before.unwrap_or(0), change.after.unwrap_or(0), None);
    [
        Cell::new(paint, signed(delta)),
        part.unwrap_or_default().into(),
        side(change.before).into(),
        side(change.after).into(),
        (&change.name).into(),
    ]
}
