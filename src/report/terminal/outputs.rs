//! Outputs held against their snapshots.

use std::collections::BTreeMap;

use super::super::number::counted;
use super::super::{OutputRow, OutputState, Paint, View, words};

/// Blanks before what says why there is no output.
const BENEATH: usize = 4;

/// One line an output, a diff beneath where it is not its snapshot, then how many of each kind there are. `accepted`:
/// whether what differs was made the snapshot.
pub fn outputs(rows: &[OutputRow], accepted: bool, view: &View) -> String {
    let mut out = String::new();
    let mut tally: BTreeMap<(Paint, &str), usize> = BTreeMap::new();
    for row in rows {
        let (word, paint) = word(row.state, accepted);
        *tally.entry((paint, word)).or_insert(0) += 1;
        let name = match row.output.is_empty() {
            true => row.workload.clone(),
            false => format!("{}: {}", row.workload, row.output),
        };
        let name = words::shown_line(&name);
        out.push_str(&format!(
            "{}  {name}\n",
            view.paint(paint, &format!("{word:<12}"))
        ));
        out.push_str(&detail(row, view));
    }
    let parts: Vec<_> = tally
        .iter()
        .map(|((_, word), count)| format!("{count} {word}"))
        .collect();
    let worst = tally
        .keys()
        .map(|(paint, _)| *paint)
        .max()
        .unwrap_or(Paint::Warn);
    let closing = match rows.is_empty() {
        true => "no selected workload has a snapshot".to_owned(),
        false => format!("{}: {}", counted(rows.len(), "output"), parts.join(", ")),
    };
    out + &view.paint(worst, &closing) + "\n"
}

fn word(state: OutputState, accepted: bool) -> (&'static str, Paint) {
    match (state, accepted) {
        (OutputState::Same, _) => ("same", Paint::Good),
        (OutputState::New | OutputState::Changed, true) => ("accepted", Paint::Warn),
        (OutputState::New, false) => ("new", Paint::Warn),
        (OutputState::Changed, false) => ("differs", Paint::Bad),
        (OutputState::Unsteady, _) => ("unsteady", Paint::Bad),
        (OutputState::Failed, _) => ("failed", Paint::Bad),
    }
}

/// A diff at the left edge, so that it can be copied; anything else indented.
fn detail(row: &OutputRow, view: &View) -> String {
    if matches!(row.state, OutputState::Failed | OutputState::Unsteady) {
        return super::quoted_lines(&row.detail, BENEATH);
    }
    let line = |line: &str| {
        let paint = match line.as_bytes().first() {
            Some(b'+') => Paint::Good,
            Some(b'-') => Paint::Bad,
            _ => Paint::Plain,
        };
        view.paint(paint, &words::shown_line(line)) + "\n"
    };
    row.detail.lines().map(line).collect()
}
