//! What the out files of cachegrind and callgrind have in common: numbered lines, numbers, errors with a place.

use std::io::{self, BufRead};

use crate::model::CountOverflow;

/// A line that is not as Valgrind writes it.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct FormatError {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with an out file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A line that fits nowhere.
    #[error("`{0}` is not a line of this format")]
    Unknown(String),
    /// Something else where a number should stand.
    #[error("`{0}` is not a number")]
    Number(String),
    /// A position before 0 or beyond 64 bits.
    #[error("the position `{0}` leaves the address space")]
    Position(String),
    /// The abbreviation of a name that was never spelled out.
    #[error("the name `({0})` was never given in full")]
    Name(u64),
    /// No column says `Ir`.
    #[error("there is no event `Ir`")]
    NoInstructions,
    /// A cost before the columns were named.
    #[error("a cost before `events:`")]
    CostBeforeEvents,
    /// The file ends before its totals: the tool was killed, or the disk is full.
    #[error("the file ends without its total")]
    Truncated,
    /// The file disagrees with itself.
    #[error("the lines sum to {lines}, but the file says {stated}")]
    Sum {
        /// What the lines add up to.
        lines: u64,
        /// What the summary says.
        stated: u64,
    },
    /// A sum that does not fit.
    #[error(transparent)]
    Overflow(#[from] CountOverflow),
}

/// The lines of a file, without copying.
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines that `reader` gives.
    pub fn new(reader: R) -> Lines<R> {
        Lines {
            reader,
            buffer: Vec::new(),
            number: 0,
        }
    }

    /// The next line without its end and trailing blanks; none at the end of the file.
    pub fn next(&mut self) -> Result<Option<&[u8]>, FormatError> {
        self.buffer.clear();
        self.number = self.number.saturating_add(1);
        match self.reader.read_until(b'\n', &mut self.buffer) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(self.buffer.trim_ascii_end())),
            Err(error) => Err(self.error(error.into())),
        }
    }

    /// `problem` at the line that was read last.
    pub fn error(&self, problem: Problem) -> FormatError {
        FormatError {
            line: self.number,
            problem,
        }
    }
}

/// A line, as far as a message can show it.
pub fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..80).unwrap_or(bytes)).into_owned()
}

/// A decimal number, or a hexadecimal one after `0x`.
pub fn number(word: &[u8]) -> Result<u64, Problem> {
    let bad = || Problem::Number(shown(word));
    let (digits, radix) = match word {
        [b'0', b'x' | b'X', hex @ ..] => (hex, 16),
        _ => (word, 10),
    };
    if digits.first() == Some(&b'+') {
        return Err(bad());
    }
    let text = std::str::from_utf8(digits).map_err(|_| bad())?;
    u64::from_str_radix(text, radix).map_err(|_| bad())
}

/// The blank-separated words of a line.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// Which column of an `events:` line says `Ir`, instructions read.
pub fn instruction_column(events: &[u8]) -> Result<usize, Problem> {
    words(events)
        .position(|event| event == b"Ir")
        .ok_or(Problem::NoInstructions)
}

/// The number in one column of costs. Columns that are left out at the end of a line are 0.
pub fn cost<'a>(
    mut columns: impl Iterator<Item = &'a [u8]>,
    wanted: usize,
) -> Result<u64, Problem> {
    match columns.nth(wanted) {
        Some(b".") | None => Ok(0),
        Some(word) => number(word),
    }
}

/// The key and the value of a `key: value` line.
pub fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (key, value) = line.split_at_checked(colon)?;
    Some((key, value.strip_prefix(b":")?.trim_ascii_start()))
}
