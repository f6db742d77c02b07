//! System calls that change what a program may execute.

use std::fs;
use std::io;

use nix::libc::{self, user_regs_struct};

use super::maps;
use super::ranges::Range;
use super::setup;
use super::space::Space;
use crate::dbi::cache::Full;
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

/// Reads what memory is like.
pub struct Watched;

impl Watched {
    /// What now lies in `start..end`, as ranges that may be executed.
    pub fn read(
        thread: &Stopped,
        _change: &Change,
        start: u64,
        end: u64,
    ) -> io::Result<Vec<Range>> {
        let text = fs::read_to_string(format!("/proc/{}/maps", thread.tid()))?;
        let inside = maps::lines(&text).filter(|line| line.start < end && start < line.end);
        Ok(inside
            .map(|line| {
                let whole = setup::range_of(&line);
                let (from, to) = (line.start.max(start), line.end.min(end));
                Range {
                    start: from,
                    end: to,
                    offset: whole.offset + (from - line.start),
                    ..whole
                }
            })
            .collect())
    }
}

impl Space {
    /// Memory may be executed from now on. The number of units dropped because their code is another now.
    pub fn grant(&mut self, thread: &Stopped, new: Vec<Range>) -> Result<usize, Full> {
        let mut dropped = 0;
        for mut range in new {
            let known = self.ranges.at(range.start).cloned();
            let overlaps = self
                .ranges
                .overlapping(range.start, range.end)
                .next()
                .is_some();
            if overlaps {
                let changed = self.changed(thread, &range);
                let same_file = known.as_ref().is_some_and(|known| known.file == range.file);
                // Code that was changed once may be changed again.
                range.volatile |=
                    changed && same_file || known.is_some_and(|known| known.volatile && same_file);
                let relied = self
                    .translations
                    .borrow()
                    .cache
                    .relies_on(range.start, range.end)
                    .next()
                    .is_some();
                if relied && (changed || !same_file || range.volatile) {
                    let translations = &mut *self.translations.borrow_mut();
                    dropped += translations.cache.relies_on(range.start, range.end).count();
                    translations
                        .cache
                        .drop_range(range.start, range.end, &translations.memory)?;
                }
                self.pages.clear();
            }
            self.ranges.add(range);
        }
        Ok(dropped)
    }

    /// Whether something that is translated in a range is no longer what it was.
    fn changed(&self, thread: &Stopped, range: &Range) -> bool {
        let translations = self.translations.borrow();
        let cache = &translations.cache;
        let mut now = vec![0; 0];
        cache.relies_on(range.start, range.end).any(|unit| {
            let before = cache.bytes_of(unit);
            now.resize(before.len(), 0);
            thread.read(unit.pc, &mut now).unwrap_or(0) < before.len() || now != before
        })
    }

    /// A mapping was moved from `from` to `start..end`; what it may execute moves with it.
    pub fn code_moved(&mut self, from: u64, start: u64, end: u64) {
        if let Some(range) = self.ranges.at(from).cloned() {
            let offset = range.offset + (from - range.start);
            self.ranges.add(Range {
                start,
                end,
                offset,
                volatile: true,
                ..range
            });
            self.pages.clear();
        }
    }
}
