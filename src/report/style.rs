//! How a report may look: its colours and its width. The caller decides both; nothing here asks the terminal.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::model::Verdict;

/// What a text means, from which its colour follows; from quiet to loud.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Paint {
    /// Ordinary text.
    #[default]
    Plain,
    /// The number one came for, a heading.
    Strong,
    /// Labels, and what one may skip.
    Faint,
    /// As it should be.
    Good,
    /// Needs a look.
    Warn,
    /// A failed gate.
    Bad,
}

impl Paint {
    fn style(self) -> Style {
        let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
        match self {
            Paint::Plain => Style::new(),
            Paint::Strong => Style::new().bold(),
            Paint::Faint => Style::new().dimmed(),
            Paint::Good => colour(AnsiColor::Green),
            Paint::Warn => colour(AnsiColor::Yellow),
            Paint::Bad => colour(AnsiColor::Red).bold(),
        }
    }

    /// The colour of a verdict.
    pub fn of(verdict: Verdict) -> Paint {
        match verdict {
            Verdict::Identical | Verdict::Improved | Verdict::Within => Paint::Good,
            Verdict::New | Verdict::Missing | Verdict::NotComparable => Paint::Warn,
            Verdict::NotReproducible
            | Verdict::Regressed
            | Verdict::WrongOutput
            | Verdict::Failed => Paint::Bad,
        }
    }
}

/// The surface a report is drawn on. The default has no colours and no end of line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Whether to write colour codes.
    pub colour: bool,
    /// Columns of the terminal; absent for files and pipes, where nothing is wrapped or shortened.
    pub width: Option<usize>,
}

impl View {
    /// `text` in the colour of `paint`, or as it is.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if self.colour && paint != Paint::Plain && !text.is_empty() {
            let style = paint.style();
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// Columns `text` takes on a terminal.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// `text` cut to `limit` columns, the cut marked by `…`.
pub fn shortened(text: &str, limit: usize) -> Cow<'_, str> {
    if columns(text) <= limit {
        return Cow::Borrowed(text);
    }
    let mut used = 0;
    let kept: String = text
        .chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used < limit
        })
        .collect();
    Cow::Owned(kept + "…")
}

/// `text` with everything made visible that would move the cursor, change colours or reverse the reading
/// order: names and outputs of programs are not ours, and a terminal obeys them.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(unsafe_to_show) {
        return Cow::Borrowed(text);
    }
    let show = |c: char| match unsafe_to_show(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    Cow::Owned(text.chars().map(show).collect())
}

fn unsafe_to_show(c: char) -> bool {
    // The second part is the bidirectional controls of Unicode Standard Annex 9, section 2.
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_cannot_talk_to_the_terminal_through_a_report() {
        assert_eq!(visible("a\x1b[2Jb\r"), "a\\u{1b}[2Jb\\r");
        assert_eq!(visible("x\u{202e}y"), "x\\u{202e}y");
        assert!(matches!(visible("größe 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn wide_and_combining_characters_are_cut_by_columns() {
        assert_eq!(shortened("日本語", 6), "日本語");
        assert_eq!(shortened("日本語", 5), "日本…");
        assert_eq!(shortened("e\u{301}e\u{301}", 2), "e\u{301}e\u{301}");
        assert_eq!(shortened("abc", 0), "…");
    }

    #[test]
    fn no_colour_codes_when_colours_are_off() {
        assert_eq!(View::default().paint(Paint::Bad, "x"), "x");
        let view = View {
            colour: true,
            width: None,
        };
        assert_eq!(view.paint(Paint::Good, "x"), "\x1b[32mx\x1b[0m");
        assert_eq!(view.paint(Paint::Plain, "x"), "x");
    }
}
