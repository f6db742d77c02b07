//! One address space of the tree: its code cache, the areas of its threads, and what it may execute.
//!
//! Threads share it, and so does a process between vfork and exec. A forked process has one of its own, which shares the
//! code cache with its parent's until one of the two maps other code.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::Rc;

use super::fetch::{Code, Pages};
use super::memory::{CodeMemory, Pool};
use super::ranges::Ranges;
use super::store::Kept;
use crate::dbi::cache::{Cache, Manner, NoTranslation, Stand};
use crate::dbi::emit::counter_slot;
use crate::dbi::layout::{AREA_BYTES, COUNTERS, slot};
use crate::sys::Pid;
use crate::sys::ptrace::Stopped;
use crate::sys::shared::Window;

/// Areas that are mapped at a time: one for the first thread, and some for those that follow.
pub const AREAS_AT_ONCE: u64 = 32;

/// A code cache and the memory it is in.
pub struct Translations {
    /// What is where.
    pub cache: Cache,
    /// The memory.
    pub memory: CodeMemory,
    /// What is kept of it from run to run.
    pub kept: Kept,
}

/// The area of one thread.
pub struct Area {
    /// Its address in the program: the thread's gs base.
    pub address: u64,
    /// Its offset in the pool.
    pub offset: u64,
    window: OnceCell<Window>,
    /// The process whose counts are in it.
    pub owner: Cell<Option<Pid>>,
    /// Whether a thread uses it.
    pub used: Cell<bool>,
    /// What its counters stand for, if no thread has executed anything in it since that was found out.
    pub executed: Cell<Option<i64>>,
    pool: Rc<Pool>,
}

impl Area {
    /// Gives it to a thread of a process, which knows by `lender` who lends it files.
    pub fn take(&self, process: Pid, lender: Pid) -> io::Result<()> {
        if self.window.get().is_none() {
            let window = self.pool.shared().window(self.offset, AREA_BYTES)?;
            window.write(slot::PATH.into(), &self.pool.path(lender));
            let _ = self.window.set(window);
        }
        self.used.set(true);
        self.executed.set(None);
        self.owner.set(Some(process));
        Ok(())
    }

    /// The slots of an area that was taken.
    pub fn slots(&self) -> &Window {
        let Some(window) = self.window.get() else {
            unreachable!("threads are in areas that were given to them")
        };
        window
    }

    /// The first of its counters.
    pub fn counters(&self, count: usize) -> impl Iterator<Item = u64> {
        self.slots().words(COUNTERS.into(), count)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        if self.window.get().is_some() {
            self.pool.shared().discard(self.offset, AREA_BYTES);
        }
    }
}

/// An address space.
pub struct Space {
    /// Where its memory comes from.
    pub pool: Rc<Pool>,
    /// By which id its program knows the process that lends it files.
    pub lender: Pid,
    /// Its code cache, shared with forked copies.
    pub translations: Rc<RefCell<Translations>>,
    /// What it may execute.
    pub ranges: Ranges,
    /// Code read before.
    pub pages: Pages,
    /// Areas that its threads can use. Those that were mapped before a fork are shared by both processes: each has some.
    pub areas: Vec<Rc<Area>>,
    /// Memory that is taken for nothing to be there: start and end of each piece.
    pub reserved: Vec<(u64, u64)>,
}

impl Space {
    /// The address of the translation of `pc`.
    pub fn translate(
        &mut self,
        thread: &Stopped,
        pc: u64,
        how: How,
        manner: &Manner,
    ) -> Result<u64, NoTranslation> {
        let Translations {
            cache,
            memory,
            kept,
        } = &mut *self.translations.borrow_mut();
        let mut code = Code {
            thread,
            ranges: &self.ranges,
            pages: &mut self.pages,
            kept,
            buffer: Vec::new(),
        };
        match how {
            How::Direct => cache.translate(pc, false, &mut code, memory, manner),
            How::Indirect => cache.translate(pc, true, &mut code, memory, manner),
            How::Again => cache.translate_again(pc, &mut code, memory, manner),
        }
    }

    /// What it means that a thread stands at `address`; none if that is no translated code.
    pub fn stand(&self, address: u64, area: usize) -> Option<Stand> {
        let reason = self.areas[area].slots().load_u64(slot::REASON.into()) as u32;
        self.translations.borrow().cache.stand(address, reason)
    }

    /// Whether an address is in translated code.
    pub fn is_translated(&self, address: u64) -> bool {
        self.translations.borrow().cache.contains(address)
    }

    /// The space of a forked copy: everything is where it was.
    pub fn forked(&self) -> Space {
        Space {
            pool: Rc::clone(&self.pool),
            lender: self.lender,
            translations: Rc::clone(&self.translations),
            ranges: self.ranges.clone(),
            pages: Pages::default(),
            areas: self.areas.clone(),
            reserved: self.reserved.clone(),
        }
    }

    /// Adds mapped areas, from `address` in the program and `offset` in the pool on.
    pub fn add_areas(&mut self, address: u64, offset: u64, count: u64) {
        for number in 0..count {
            let offset = offset + number * AREA_BYTES;
            let address = address + number * AREA_BYTES;
            let pool = Rc::clone(&self.pool);
            let (owner, used) = (Cell::new(None), Cell::new(false));
            self.areas.push(Rc::new(Area {
                address,
                offset,
                window: OnceCell::new(),
                owner,
                used,
                executed: Cell::new(None),
                pool,
            }));
        }
    }

    /// A free area that holds no other process's counts.
    pub fn free_area(&self, process: Pid) -> Option<usize> {
        let free = |area: &Rc<Area>| {
            !area.used.get() && area.owner.get().is_none_or(|owner| owner == process)
        };
        self.areas.iter().position(free)
    }

    /// The areas that hold counts of a process.
    pub fn areas_of(&self, process: Pid) -> impl Iterator<Item = &Rc<Area>> {
        self.areas
            .iter()
            .filter(move |area| area.owner.get() == Some(process))
    }

    /// Whether a process has executed the instruction at `pc`, which an indirect branch leads to.
    pub fn has_executed(&self, process: Pid, pc: u64) -> bool {
        let cache = &self.translations.borrow().cache;
        let counted = cache.unit_at(pc).map(|unit| counter_slot(unit.counter));
        let executed = |counter: u32| {
            let mut areas = self.areas_of(process);
            areas.any(|area| area.slots().load_u64(counter.into()) > 0)
        };
        counted.is_some_and(executed)
    }

    /// Memory that is ours in the program: start and end of each piece.
    pub fn hidden(&self) -> Vec<(u64, u64)> {
        let areas = self
            .areas
            .iter()
            .map(|area| (area.address, area.address + AREA_BYTES));
        let translations = self.translations.borrow();
        let reserved = self.reserved.iter().copied();
        let own = translations.cache.places().chain(areas);
        own.chain(reserved).collect()
    }
}

/// How a thread came to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By an exit, or by our putting it there.
    Direct,
    /// By an indirect branch.
    Indirect,
    /// By a unit that has found its code changed.
    Again,
}
