//! Shared memory of one run: who has which part of it, and the parts that code is written to.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

use crate::dbi::cache::{Memory, Place};
use crate::dbi::layout::{TABLE_BYTES, ZONE_BYTES};
use crate::sys::Pid;
use crate::sys::shared::{Shared, Window};

/// Bytes from which a system call is cheaper than stores to memory that was not touched before.
const MUCH: usize = 16 << 10;

/// Parts that wait for the next code cache, at most: whatever executes programs one after the other needs two or three.
const MOST_SPARE: usize = 6;

/// The shared memory of a run, given out in parts.
pub struct Pool {
    shared: Shared,
    next: Cell<u64>,
    lenders: Vec<Pid>,
    /// What nobody uses any more, as it was left: new memory costs the kernel more than all that is written to it.
    spare: RefCell<Vec<Part>>,
}

impl Pool {
    /// New memory, which a traced program finds among the open files of the process that has one of these ids for it.
    pub fn new(lenders: Vec<Pid>) -> io::Result<Rc<Pool>> {
        Ok(Rc::new(Pool {
            shared: Shared::new()?,
            next: Cell::new(0),
            lenders,
            spare: RefCell::default(),
        }))
    }

    /// The NUL-terminated path by which a traced program can open it that knows its lender by this id.
    pub fn path(&self, lender: Pid) -> Vec<u8> {
        format!("/proc/{lender}/fd/{}\0", self.shared.descriptor()).into_bytes()
    }

    /// Whether a process has it open by this number.
    pub fn is_open_as(&self, process: Pid, fd: u64) -> io::Result<bool> {
        let number = self.shared.descriptor();
        let [ours, its] = [
            format!("/proc/self/fd/{number}"),
            format!("/proc/{process}/fd/{fd}"),
        ]
        .map(|path| fs::metadata(path).map(|file| (file.dev(), file.ino())));
        Ok(ours? == its?)
    }

    /// The ids by which a traced program may know the process whose open files it can open.
    pub fn lenders(&self) -> &[Pid] {
        &self.lenders
    }

    /// A part for code or a table: what is in it is left from before, and nothing leads there.
    fn part(&self, bytes: u64) -> io::Result<Part> {
        let mut spare = self.spare.borrow_mut();
        if let Some(number) = spare.iter().position(|part| part.bytes == bytes) {
            return Ok(spare.swap_remove(number));
        }
        let offset = self.reserve(bytes);
        Ok(Part {
            offset,
            bytes,
            window: self.shared.window(offset, bytes)?,
            filled: None,
        })
    }

    /// Takes a part back that no program has mapped any more.
    fn give_back(&self, part: Part) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < MOST_SPARE {
            spare.push(part);
        } else {
            self.shared.discard(part.offset, part.bytes);
        }
    }

    /// The offset of new memory, which is never given twice.
    pub fn reserve(&self, bytes: u64) -> u64 {
        let offset = self.next.get();
        self.next.set(offset + bytes);
        offset
    }

    /// The memory itself.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// The parts of the pool that one code cache is in.
pub struct CodeMemory {
    pool: Rc<Pool>,
    parts: RefCell<Vec<Part>>,
}

struct Part {
    offset: u64,
    bytes: u64,
    window: Window,
    filled: Option<Filled>,
}

/// What is known of words that were filled with one value: which may be others now.
struct Filled {
    value: u64,
    others: Vec<u64>,
}

impl Part {
    fn contains(&self, offset: u64) -> bool {
        offset.wrapping_sub(self.offset) < self.bytes
    }
}

impl CodeMemory {
    /// No part yet.
    pub fn new(pool: &Rc<Pool>) -> CodeMemory {
        CodeMemory {
            pool: Rc::clone(pool),
            parts: RefCell::default(),
        }
    }

    fn add(&self, address: u64, bytes: u64) -> io::Result<Place> {
        let part = self.pool.part(bytes)?;
        let offset = part.offset;
        self.parts.borrow_mut().push(part);
        Ok(Place { address, offset })
    }

    /// Memory for a zone that will be at `address` in the program.
    pub fn add_zone(&self, address: u64) -> io::Result<Place> {
        self.add(address, ZONE_BYTES)
    }

    /// Memory for a table that will be at `address` in the program.
    pub fn add_table(&self, address: u64) -> io::Result<Place> {
        self.add(address, TABLE_BYTES)
    }

    /// Copies bytes from another cache's memory.
    pub fn copy_from(&self, other: &CodeMemory, from: u64, to: u64, bytes: u64) {
        let mut buffer = vec![0; bytes as usize];
        other.with(from, |window, at| window.read(at, &mut buffer));
        self.write(to, &buffer);
    }

    fn with<T>(&self, offset: u64, act: impl FnOnce(&Window, u64) -> T) -> T {
        self.with_part(offset, |part| act(&part.window, offset - part.offset))
    }

    fn with_part<T>(&self, offset: u64, act: impl FnOnce(&mut Part) -> T) -> T {
        let mut parts = self.parts.borrow_mut();
        let Some(part) = parts.iter_mut().find(|part| part.contains(offset)) else {
            unreachable!("code is written to parts of its own cache")
        };
        act(part)
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        for part in self.parts.take() {
            self.pool.give_back(part);
        }
    }
}

impl Memory for CodeMemory {
    fn write(&self, offset: u64, bytes: &[u8]) {
        self.with_part(offset, |part| {
            part.filled = None;
            // The kernel fills whole pages for less than we would pay to have them mapped.
            if bytes.len() < MUCH || self.pool.shared().write(offset, bytes).is_err() {
                part.window.write(offset - part.offset, bytes);
            }
        });
    }

    fn fill(&self, offset: u64, words: usize, value: u64) {
        let before = self.with_part(offset, |part| part.filled.take());
        let others = match before {
            Some(filled) if filled.value == value => filled.others,
            _ => {
                let some = value.to_le_bytes().repeat(MUCH / 8);
                for from in (0..8 * words).step_by(MUCH) {
                    let piece = &some[..MUCH.min(8 * words - from)];
                    self.write(offset + from as u64, piece);
                }
                Vec::new()
            }
        };
        self.with_part(offset, |part| {
            for at in &others {
                part.window.store_u64(*at, value);
            }
            let others = Vec::new();
            part.filled = Some(Filled { value, others });
        });
    }

    fn store_u8(&self, offset: u64, value: u8) {
        self.with(offset, |window, at| window.store_u8(at, value));
    }

    fn store_u32(&self, offset: u64, value: u32) {
        self.with(offset, |window, at| window.store_u32(at, value));
    }

    fn store_u64(&self, offset: u64, value: u64) {
        self.with_part(offset, |part| {
            let at = offset - part.offset;
            part.window.store_u64(at, value);
            if let Some(filled) = &mut part.filled {
                filled.others.push(at);
            }
            // More than there are words: filling all is as good.
            part.filled
                .take_if(|filled| filled.others.len() as u64 > part.bytes / 8);
        });
    }

    fn load_u64(&self, offset: u64) -> u64 {
        self.with(offset, |window, at| window.load_u64(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dbi::layout::TABLE_ENTRIES;

    #[test]
    fn a_table_is_given_again_and_filled_as_if_it_were_new() {
        let pool = Pool::new(Vec::new()).unwrap();
        let used = |value: u64, changes: &dyn Fn(&CodeMemory, u64)| {
            let memory = CodeMemory::new(&pool);
            let offset = memory.add_table(0x7000_0000).unwrap().offset;
            memory.fill(offset, TABLE_ENTRIES, value);
            let words = (0..TABLE_ENTRIES as u64).map(|word| memory.load_u64(offset + 8 * word));
            assert_eq!(words.filter(|word| *word != value).count(), 0);
            changes(&memory, offset);
            offset
        };
        let first = used(5, &|memory, at| memory.store_u64(at + 16, 6));
        assert_eq!(
            used(5, &|memory, at| memory.write(at + 24, &[1; 16])),
            first
        );
        assert_eq!(used(5, &|memory, at| memory.store_u64(at, 1)), first);
        assert_eq!(used(7, &|_, _| ()), first);
    }

    #[test]
    fn what_is_in_use_is_nobody_elses() {
        let pool = Pool::new(Vec::new()).unwrap();
        let [one, other] = [(); 2].map(|()| CodeMemory::new(&pool));
        let places = [&one, &other].map(|memory| memory.add_zone(0).unwrap().offset);
        assert!(places[0].abs_diff(places[1]) >= ZONE_BYTES);
        drop(one);
        assert_eq!(other.add_zone(0).unwrap().offset, places[0]);
    }
}
