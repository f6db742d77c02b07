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

/// The shared memory of a run, given out in parts that are never given twice.
pub struct Pool {
    shared: Shared,
    next: Cell<u64>,
    lenders: Vec<Pid>,
}

impl Pool {
    /// New memory, which a traced program finds among the open files of the process that has one of these ids for it.
    pub fn new(lenders: Vec<Pid>) -> io::Result<Rc<Pool>> {
        Ok(Rc::new(Pool {
            shared: Shared::new()?,
            next: Cell::new(0),
            lenders,
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

    /// The offset of a new part.
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
        let offset = self.pool.reserve(bytes);
        let window = self.pool.shared().window(offset, bytes)?;
        self.parts.borrow_mut().push(Part {
            offset,
            bytes,
            window,
        });
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
        let parts = self.parts.borrow();
        let part = parts
            .iter()
            .find(|part| offset.wrapping_sub(part.offset) < part.bytes);
        let Some(part) = part else {
            unreachable!("code is written to parts of its own cache")
        };
        act(&part.window, offset - part.offset)
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        for part in self.parts.borrow().iter() {
            self.pool.shared().discard(part.offset, part.bytes);
        }
    }
}

impl Memory for CodeMemory {
    fn write(&self, offset: u64, bytes: &[u8]) {
        // The kernel fills whole pages for less than we would pay to have them mapped.
        if bytes.len() >= MUCH && self.pool.shared().write(offset, bytes).is_ok() {
            return;
        }
        self.with(offset, |window, at| window.write(at, bytes));
    }

    fn store_u8(&self, offset: u64, value: u8) {
        self.with(offset, |window, at| window.store_u8(at, value));
    }

    fn store_u32(&self, offset: u64, value: u32) {
        self.with(offset, |window, at| window.store_u32(at, value));
    }

    fn store_u64(&self, offset: u64, value: u64) {
        self.with(offset, |window, at| window.store_u64(at, value));
    }

    fn load_u64(&self, offset: u64) -> u64 {
        self.with(offset, |window, at| window.load_u64(at))
    }
}
