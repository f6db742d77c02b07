//! Where the words go: results to standard output or error, progress to a terminal only.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::View;

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set (no-color.org).
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The process's standard output and error, as the user wants them used.
pub struct Terminal {
    color: Color,
    quiet: bool,
}

impl Terminal {
    /// As asked for on the command line.
    pub fn new(color: Color, quiet: bool) -> Terminal {
        Terminal { color, quiet }
    }

    /// How to render for standard output.
    pub fn stdout_view(&self) -> View {
        self.view(io::stdout().is_terminal())
    }

    /// How to render for standard error.
    pub fn stderr_view(&self) -> View {
        self.view(io::stderr().is_terminal())
    }

    fn view(&self, is_terminal: bool) -> View {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let colour = match self.color {
            Color::Auto => is_terminal && wanted,
            Color::Always => true,
            Color::Never => false,
        };
        let width = is_terminal.then(console_width).flatten();
        View { colour, width }
    }

    /// Writes a result to standard output. A reader that went away (`| head`) is not our error.
    pub fn out(&self, text: &str) {
        let _ = io::stdout()
            .write_all(text.as_bytes())
            .and_then(|()| io::stdout().flush());
    }

    /// Writes a result to standard error.
    pub fn err(&self, text: &str) {
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// Writes a remark to standard error, unless the user wants quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.err(&format!("counterfoil: {text}\n"));
        }
    }

    /// Writes an error to standard error.
    pub fn error(&self, text: &str) {
        self.err(&format!("counterfoil: {text}\n"));
    }

    /// A bar for `steps` steps on standard error; invisible when that is no terminal.
    pub fn progress(&self, steps: usize) -> ProgressBar {
        let target = match self.quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
        match ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg} {elapsed}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// COLUMNS when it is set (as for ls(1)), else what the terminal says.
fn console_width() -> Option<usize> {
    let columns = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    columns.or_else(|| terminal_size::terminal_size_of(io::stderr()).map(|size| size.0.0.into()))
}
