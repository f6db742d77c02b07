//! What this machine can count with.

use super::super::number::counted;
use super::super::table::{Cell, Table};
use super::super::{Checkup, Paint, State, View};
use super::wrapped;

/// One line a thing that was looked at, with reason and remedy beneath, then what that means.
pub fn doctor(checkups: &[Checkup], view: &View) -> String {
    let mut table = Table::new(0, "lll");
    for checkup in checkups {
        let (word, paint) = match checkup.state {
            State::Ok => ("ok", Paint::Good),
            State::Warn => ("warn", Paint::Warn),
            State::Out => ("out", Paint::Bad),
        };
        let mut lines = said(checkups, &checkup.reason, view).into_iter();
        table.row([
            Cell::new(paint, word),
            Cell::new(Paint::Strong, &checkup.name),
            lines.next().unwrap_or_default().into(),
        ]);
        let remedy = checkup.remedy.as_ref();
        let remedy = remedy.map(|text| said(checkups, &format!("-> {text}"), view));
        for line in lines.chain(remedy.into_iter().flatten()) {
            table.row([Cell::default(), Cell::default(), line.into()]);
        }
    }
    format!("{}\n{}", table.render(view), closing(checkups, view))
}

/// A text in lines that fit beside the names.
fn said(checkups: &[Checkup], text: &str, view: &View) -> Vec<String> {
    let names = checkups.iter().map(|row| super::columns(&row.name)).max();
    wrapped(text, names.unwrap_or(0) + "warn".len() + 4, view)
}

fn closing(checkups: &[Checkup], view: &View) -> String {
    let usable = |row: &&Checkup| row.backend.is_some() && row.state != State::Out;
    let names: Vec<_> = checkups
        .iter()
        .filter(usable)
        .map(|row| row.name.as_str())
        .collect();
    let (paint, text) = if names.is_empty() {
        (Paint::Bad, "no backend works here".to_owned())
    } else {
        let all = counted(names.len(), "usable backend");
        (Paint::Good, format!("{all}: {}", names.join(", ")))
    };
    view.paint(paint, &text) + "\n"
}
