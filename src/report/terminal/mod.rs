//! Reports for people at a terminal. Names of programs and functions are shown, never obeyed.

mod check;
mod compare;
mod count;
mod doctor;
mod explain;
mod list;
mod moves;
mod outputs;

pub use check::{check, record};
pub use compare::compare;
pub use count::count;
pub use doctor::doctor;
pub use explain::{explain, finding};
pub use list::list;
pub use outputs::outputs;

use super::style::{Paint, View, columns, visible};
use super::words;

/// Columns of the labels at the left edge.
const LABEL: usize = 12;
/// Narrower terminals than this get long lines, not a word a line.
const NARROWEST_WRAP: usize = 40;

/// `label   text`, the text wrapped at the terminal's edge and kept clear of the label.
fn field(label: &str, paint: Paint, text: &str, view: &View) -> String {
    let label = format!("{label:<LABEL$}");
    let hanging = 2 + columns(&label);
    let mut out = format!("  {}", view.paint(Paint::Faint, &label));
    for (position, line) in wrapped(text, hanging, view).iter().enumerate() {
        if position > 0 {
            out.extend(std::iter::repeat_n(' ', hanging));
        }
        out.push_str(&view.paint(paint, line));
        out.push('\n');
    }
    out
}

/// The words of `text` in lines that fit beside `hanging` columns. At least one line.
fn wrapped(text: &str, hanging: usize, view: &View) -> Vec<String> {
    let text = visible(text);
    let room = match view.width {
        Some(width) if width >= NARROWEST_WRAP => width.saturating_sub(hanging),
        _ => usize::MAX,
    };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if columns(line).saturating_add(1 + columns(word)) <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// The lines of a text that is not ours, each behind `indent` blanks.
fn quoted_lines(text: &str, indent: usize) -> String {
    let blanks = " ".repeat(indent);
    text.lines()
        .map(|line| {
            let line = words::shown_line(line);
            format!("{blanks}{line}").trim_end().to_owned() + "\n"
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_hangs_beside_its_label() {
        let view = View {
            colour: false,
            width: Some(40),
        };
        let text = field(
            "backend",
            Paint::Plain,
            "callgrind 3.19.0: no counter here",
            &view,
        );
        let lines = [
            "  backend     callgrind 3.19.0: no",
            "              counter here",
            "",
        ];
        assert_eq!(text, lines.join("\n"));
    }
}
