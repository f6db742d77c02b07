//! System calls that change what a program may execute.

use std::io;

use nix::libc::{self, user_regs_struct};

use super::fetch::{Code, Pages};
use super::maps;
use super::ranges::Range;
use super::setup;
use super::space::{Space, Translations};
use crate::dbi::cache::Full;
use crate::model::ProjectFolder;
use crate::sys::image;
use crate::sys::ptrace::Stopped;

/// One such call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// mmap of executable memory: its length.
    Map {
        /// In bytes.
        length: u64,
    },
    /// mprotect that makes memory executable.
    Protect {
        /// From here on.
        start: u64,
        /// So many bytes.
        length: u64,
    },
    /// mremap.
    Move {
        /// From here.
        from: u64,
        /// Its length afterwards.
        length: u64,
    },
}

const EXECUTE: u64 = libc::PROT_EXEC as u64;

impl Change {
    /// The change that a call asks for.
    pub fn of(number: libc::c_long, registers: &user_regs_struct) -> Option<Change> {
        match number {
            libc::SYS_mmap => Some(Change::Map {
                length: registers.rsi,
            }),
            libc::SYS_mprotect | libc::SYS_pkey_mprotect => Some(Change::Protect {
                start: registers.rdi,
                length: registers.rsi,
            }),
            libc::SYS_mremap => Some(Change::Move {
                from: registers.rdi,
                length: registers.rdx,
            }),
            _ => None,
        }
    }

    /// Registers for the same call without the right to execute.
    pub fn without_execution(&self, registers: &user_regs_struct) -> Option<user_regs_struct> {
        match self {
            Change::Move { .. } => None,
            _ => Some(user_regs_struct {
                rdx: registers.rdx & !EXECUTE,
                ..*registers
            }),
        }
    }

    /// The registers that the program expects after the call.
    pub fn original_registers(&self, registers: &user_regs_struct) -> Option<user_regs_struct> {
        match self {
            Change::Move { .. } => None,
            _ => Some(user_regs_struct {
                rdx: registers.rdx | EXECUTE,
                ..*registers
            }),
        }
    }

    /// The memory that was changed, if the call succeeded: start and end, whole pages.
    pub fn outcome(&self, registers: &user_regs_struct) -> Option<(u64, u64)> {
        const PAGE: u64 = 4096;
        let answer = registers.rax;
        if (-4095..0).contains(&(answer as i64)) {
            return None;
        }
        let (start, length) = match *self {
            Change::Map { length } | Change::Move { length, .. } => (answer, length),
            Change::Protect { start, length } => (start, length),
        };
        Some((start, start + length.next_multiple_of(PAGE)))
    }
}

/// What now lies in `start..end`, as ranges that may be executed.
pub fn read(
    thread: &Stopped,
    start: u64,
    end: u64,
    folder: Option<&ProjectFolder>,
) -> io::Result<Vec<Range>> {
    let text = image::read_proc_text(&format!("/proc/{}/maps", thread.tid()))?;
    let inside = maps::lines(&text).filter(|line| line.start < end && start < line.end);
    let part = |line: maps::Line<'_>| {
        setup::range_of(&line, folder).part(line.start.max(start), line.end.min(end))
    };
    Ok(inside.map(part).collect())
}

impl Space {
    /// Memory may be executed from now on. The number of units dropped because their code is another now; may be called
    /// again when there was no room.
    pub fn grant(&mut self, thread: &Stopped, new: &[Range]) -> Result<usize, Full> {
        let mut dropped = 0;
        for range in new {
            let mut range = range.clone();
            if self
                .ranges
                .overlapping(range.start, range.end)
                .next()
                .is_some()
            {
                dropped += self.replace(thread, &mut range)?;
                self.pages.clear();
            } else if !range.volatile {
                let translations = &mut *self.translations.borrow_mut();
                translations.activate(thread, range.start, range.end);
            }
            self.ranges.add(range);
        }
        Ok(dropped)
    }

    /// A range comes where there was executable memory before.
    fn replace(&self, thread: &Stopped, range: &mut Range) -> Result<usize, Full> {
        let known = self.ranges.at(range.start);
        let changed = self.changed(thread, range);
        let same_file = known.is_some_and(|known| known.file == range.file);
        // Code that was changed once may be changed again.
        range.volatile |= same_file && (changed || known.is_some_and(|known| known.volatile));
        let translations = &mut *self.translations.borrow_mut();
        let cache = &translations.cache;
        let relied = cache.relies_on(range.start, range.end).count()
            + cache.rests_on(range.start, range.end).count();
        if relied > 0 && (changed || !same_file || range.volatile) {
            translations
                .cache
                .drop_range(range.start, range.end, &translations.memory)?;
            return Ok(relied);
        }
        Ok(0)
    }

    /// Whether something that is translated in a range, or rests on it, is no longer what it was.
    fn changed(&self, thread: &Stopped, range: &Range) -> bool {
        let Translations { cache, kept, .. } = &mut *self.translations.borrow_mut();
        let mut now = vec![0; 0];
        let other = cache.relies_on(range.start, range.end).any(|unit| {
            let before = cache.bytes_of(unit);
            now.resize(before.len(), 0);
            thread.read(unit.pc, &mut now).unwrap_or(0) < before.len() || now != before
        });
        let mut code = Code {
            thread,
            ranges: &self.ranges,
            pages: &mut Pages::default(),
            kept,
            buffer: Vec::new(),
        };
        other
            || cache
                .rests_on(range.start, range.end)
                .any(|unit| !cache.is_found_again(unit, &mut code))
    }

    /// What may be executed of a mapping that was moved from `from` to `start..end`.
    pub fn moved(&self, from: u64, start: u64, end: u64) -> Vec<Range> {
        let moved = self.ranges.at(from).map(|range| Range {
            start,
            end,
            offset: range.offset + (from - range.start),
            volatile: true,
            ..range.clone()
        });
        moved.into_iter().collect()
    }
}
