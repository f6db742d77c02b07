//! The program's code as the translator reads it.

use std::collections::HashMap;

use super::ranges::Ranges;
use super::store::Kept;
use crate::dbi::cache::{Ground, Program};
use crate::dbi::plan::Source;
use crate::sys::ptrace::Stopped;

/// Bytes of a page (x86-64).
const PAGE: u64 = 4096;

/// Pages that are remembered at most: 16 MiB.
const MOST_PAGES: usize = 4096;

/// Pages of code that does not change by itself.
#[derive(Default)]
pub struct Pages(HashMap<u64, Box<[u8]>>);

impl Pages {
    /// Forgets everything: what is mapped has changed.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// The code of a stopped program.
pub struct Code<'a> {
    /// A thread of the program.
    pub thread: &'a Stopped,
    /// What may be executed.
    pub ranges: &'a Ranges,
    /// Pages read before.
    pub pages: &'a mut Pages,
    /// Is told which pages are read.
    pub kept: &'a mut Kept,
    /// What was asked for last.
    pub buffer: Vec<u8>,
}

impl Code<'_> {
    /// Appends what is at `at`, up to the end of its page; false where nothing can be read or executed.
    fn append(&mut self, at: u64, most: usize) -> bool {
        let Some(range) = self.ranges.at(at) else {
            return false;
        };
        let page = at & !(PAGE - 1);
        let inside = (at - page) as usize;
        let until = (range.end.min(page + PAGE) - page) as usize;
        let until = until.min(inside + most);
        if range.volatile {
            let mut bytes = vec![0; until - inside];
            let got = self.thread.read(at, &mut bytes).unwrap_or(0);
            self.buffer.extend_from_slice(&bytes[..got]);
            return got == bytes.len();
        }
        if !self.pages.0.contains_key(&page) {
            let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
            if self.thread.read(page, &mut bytes).unwrap_or(0) < bytes.len() {
                return false;
            }
            if self.pages.0.len() >= MOST_PAGES {
                self.pages.clear();
            }
            self.kept.note_page(page, &bytes);
            self.pages.0.insert(page, bytes);
        }
        let Some(bytes) = self.pages.0.get(&page) else {
            return false;
        };
        self.buffer.extend_from_slice(&bytes[inside..until]);
        true
    }
}

impl Source for Code<'_> {
    fn code(&mut self, pc: u64, most: usize) -> &[u8] {
        self.buffer.clear();
        while self.buffer.len() < most {
            let at = pc.wrapping_add(self.buffer.len() as u64);
            let left = most - self.buffer.len();
            let before = self.buffer.len();
            if !self.append(at, left) || self.buffer.len() == before {
                break;
            }
        }
        &self.buffer
    }
}

impl Program for Code<'_> {
    fn ground(&self, pc: u64) -> Ground {
        let range = self.ranges.at(pc);
        Ground {
            volatile: range.is_some_and(|range| range.volatile),
            writable: range.is_some_and(|range| range.writable),
        }
    }
}
