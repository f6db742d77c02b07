//! The program's code as the translator reads it.

use super::ranges::Ranges;
use super::store::Kept;
use crate::dbi::cache::{AddressMap, Ground, Program};
use crate::dbi::plan::Source;
use crate::sys::ptrace::Stopped;

/// Bytes of a page (x86-64).
const PAGE: u64 = 4096;

/// Pages that are remembered at most: 16 MiB.
const MOST_PAGES: usize = 4096;

/// Pages of code that does not change by itself.
#[derive(Default)]
pub struct Pages {
    bytes: Vec<Box<[u8]>>,
    index: AddressMap<usize>,
    /// The one asked for last, and its number: most code is near what was asked for before.
    latest: Option<(u64, usize)>,
}

impl Pages {
    /// Forgets everything: what is mapped has changed.
    pub fn clear(&mut self) {
        *self = Pages::default();
    }

    fn find(&mut self, page: u64) -> Option<usize> {
        if let Some((latest, number)) = self.latest
            && latest == page
        {
            return Some(number);
        }
        let number = *self.index.get(&page)?;
        self.latest = Some((page, number));
        Some(number)
    }

    fn add(&mut self, page: u64, bytes: Box<[u8]>) -> usize {
        if self.bytes.len() >= MOST_PAGES {
            self.clear();
        }
        self.bytes.push(bytes);
        self.index.insert(page, self.bytes.len() - 1);
        self.bytes.len() - 1
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
    /// The number of a page, read if it was not; none where nothing can be read.
    fn page(&mut self, page: u64) -> Option<usize> {
        if let Some(number) = self.pages.find(page) {
            return Some(number);
        }
        let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
        if self.thread.read(page, &mut bytes).unwrap_or(0) < bytes.len() {
            return None;
        }
        self.kept.note_page(page, &bytes);
        Some(self.pages.add(page, bytes))
    }

    /// The page that all of `most` bytes from `pc` on are in, if they may be executed and do not change by themselves.
    fn one_page(&mut self, pc: u64, most: usize) -> Option<usize> {
        let end = pc.checked_add(most as u64)?;
        let page = pc & !(PAGE - 1);
        let range = self.ranges.at(pc)?;
        if range.volatile || end > range.end.min(page + PAGE) {
            return None;
        }
        self.page(page)
    }

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
        let Some(number) = self.page(page) else {
            return false;
        };
        self.buffer
            .extend_from_slice(&self.pages.bytes[number][inside..until]);
        true
    }
}

impl Source for Code<'_> {
    fn code(&mut self, pc: u64, most: usize) -> &[u8] {
        if let Some(number) = self.one_page(pc, most) {
            let inside = (pc % PAGE) as usize;
            return &self.pages.bytes[number][inside..inside + most];
        }
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
