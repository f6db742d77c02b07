//! /proc/PID/maps: reading it, and what a program shall see in its place.
//!
//! The engine takes the right to execute away from the program's code and adds mappings of its own; the text that the
//! program reads has neither. Pure over text.

use std::fmt::Write;
use std::path::PathBuf;

use super::ranges::Ranges;

/// One line of /proc/PID/maps (proc_pid_maps(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// `rwxp` and the like.
    pub rights: &'a str,
    /// Offset of `start` in the file.
    pub offset: u64,
    /// Device, inode and name, as they stand there.
    pub rest: &'a str,
}

impl<'a> Line<'a> {
    /// Reads a line; none if it is none.
    pub fn parse(line: &'a str) -> Option<Line<'a>> {
        let mut fields = line.splitn(4, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let rights = fields.next().filter(|rights| rights.len() == 4)?;
        let offset = fields.next()?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some(Line {
            start: hex(start)?,
            end: hex(end)?,
            rights,
            offset: hex(offset)?,
            rest: fields.next().unwrap_or(""),
        })
    }

    /// The name behind device and inode; empty for anonymous memory.
    pub fn name(&self) -> &'a str {
        self.rest.splitn(3, ' ').nth(2).unwrap_or("").trim_start()
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        let name = self.name();
        name.starts_with('/')
            .then(|| PathBuf::from(name.trim_end_matches(" (deleted)")))
    }

    /// Whether it can be executed.
    pub fn executable(&self) -> bool {
        self.rights.as_bytes()[2] == b'x'
    }

    /// Whether its contents can change without a system call: it is writable, shared, or no file's.
    pub fn volatile(&self) -> bool {
        let rights = self.rights.as_bytes();
        let kernels = self.name().starts_with("[v");
        rights[1] == b'w' || rights[3] == b's' || (self.file().is_none() && !kernels)
    }
}

/// All lines.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(Line::parse)
}

/// What the program shall read: `real` with the right to execute where it had it, and without `hidden`.
pub fn disguise(real: &str, executable: &Ranges, hidden: &[(u64, u64)]) -> String {
    let mut text = String::new();
    for line in lines(real) {
        if hidden
            .iter()
            .any(|(start, end)| line.start < *end && *start < line.end)
        {
            continue;
        }
        let mut at = line.start;
        while at < line.end {
            let (until, runs) = executable.stretch(at, line.end);
            write_part(&mut text, &line, at, until, runs);
            at = until;
        }
    }
    text
}

/// A part of a mapping, aligned as the kernel does: names begin in column 73 (fs/proc/task_mmu.c, show_vma_header_prefix).
fn write_part(text: &mut String, line: &Line, start: u64, end: u64, runs: bool) {
    let mut rights = line.rights.to_owned();
    if runs {
        rights.replace_range(2..3, "x");
    }
    let offset = if line.file().is_some() {
        line.offset + (start - line.start)
    } else {
        line.offset
    };
    let mut fields = line.rest.splitn(3, ' ');
    let device = fields.next().unwrap_or("");
    let inode = fields.next().unwrap_or("");
    let head = format!("{start:08x}-{end:08x} {rights} {offset:08x} {device} {inode}");
    let _ = match line.name() {
        "" => writeln!(text, "{head} "),
        name => writeln!(text, "{head:<72} {name}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::dbi::ranges::Range;

    const REAL: &str = "\
555555554000-555555558000 r--p 00000000 08:01 42                         /usr/bin/a b
555555558000-555555559000 rw-p 00000000 00:00 0 
7ffff8000000-7ffffe000000 r-xs 00000000 00:01 9                          /memfd:counterfoil (deleted)
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]
";

    #[test]
    fn reads_every_field() {
        let all: Vec<_> = lines(REAL).collect();
        assert_eq!(all.len(), 4);
        assert_eq!(all[0].file(), Some("/usr/bin/a b".into()));
        assert_eq!((all[1].name(), all[1].volatile()), ("", true));
        assert_eq!(all[2].file(), Some("/memfd:counterfoil".into()));
        assert!(all[2].executable() && all[2].volatile() && !all[0].volatile());
    }

    #[test]
    fn shows_code_as_executable_and_hides_what_is_ours() {
        let mut ranges = Ranges::default();
        ranges.add(Range {
            start: 0x5555_5555_5000,
            end: 0x5555_5555_7000,
            ..Range::default()
        });
        let seen = disguise(REAL, &ranges, &[(0x7fff_f800_0000, 0x7fff_fe00_0000)]);
        assert_eq!(
            seen,
            "\
555555554000-555555555000 r--p 00000000 08:01 42                         /usr/bin/a b
555555555000-555555557000 r-xp 00001000 08:01 42                         /usr/bin/a b
555555557000-555555558000 r--p 00003000 08:01 42                         /usr/bin/a b
555555558000-555555559000 rw-p 00000000 00:00 0 
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]
"
        );
    }
}
