//! The workloads of a suite.

use super::super::number::{counted, grouped};
use super::super::table::{Cell, Table};
use super::super::{Paint, View, WorkloadRow, words};

/// One line a workload: name, the baseline's instructions, tags, command.
pub fn list(rows: &[WorkloadRow], view: &View) -> String {
    if rows.is_empty() {
        return "no workload was selected\n".to_owned();
    }
    let mut table = Table::new(0, "lrll");
    table.head(["workload", "baseline", "tags", "command"]);
    for row in rows {
        let baseline = match row.baseline {
            Some(count) => grouped(count).into(),
            None => Cell::new(Paint::Warn, "none"),
        };
        table.row([
            (&row.workload).into(),
            baseline,
            row.tags.join(",").into(),
            words::command_line(&row.command).into(),
        ]);
    }
    let known = rows.iter().filter(|row| row.baseline.is_some()).count();
    let all = counted(rows.len(), "workload");
    let closing = format!("{all}, {} with a baseline", known);
    format!("{}\n{closing}\n", table.render(view))
}
