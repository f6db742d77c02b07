//! How programs, processes and threads begin: the engine put into them, an area for each thread, and a clock.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::super::addresses::{self, Above};
use super::super::clock::Clock;
use super::super::setup;
use super::super::space::{Area, Space};
use super::super::support;
use super::{Engine, Expected, Process, Thread, files, unknown};
use crate::backend::marks::Marks;
use crate::dbi::layout::{CALLS_KNOWN, MAGIC_CALL, slot};
use crate::sys::Pid;
use crate::sys::image;
use crate::sys::ptrace::Stopped;
use crate::sys::random::Stream;
use crate::sys::tree::{Birth, QUICK};

/// What the random numbers follow from that `rdrand` gives.
const SEED: u64 = u64::from_le_bytes(*b"cfrdrand");

impl Engine {
    /// A program begins in a process.
    pub(super) fn begin_program(&mut self, stopped: &Stopped) -> io::Result<()> {
        let pid = stopped.tid();
        let now = self.exact_time_of(pid)?;
        let before = self.processes.get(&pid);
        let inherited = before.map(|process| (process.clock.next_program(now), process.random));
        let result = self.program_over(pid);
        self.keep(result)?;
        self.threads.retain(|_, thread| thread.process != pid);
        self.timers.executed(pid);
        if let Some(why) = support::refused_program(pid) {
            return self.refuse(pid, why);
        }
        let path = image::executed_path(stopped).or_else(|_| image::executable(pid));
        let path = path.map(|path| self.outside(path));
        let program = path.map_or_else(|_| "?".to_owned(), |path| path.display().to_string());
        let row = self.table.program(pid, program);
        let above = self.fix_addresses(stopped);
        let mut space = setup::install(
            stopped,
            &self.pool,
            self.store.as_ref(),
            self.want.regions,
            self.deadline.begins_timed(),
            self.machine,
            self.folder.as_ref(),
        )?;
        if self.magic != MAGIC_CALL {
            let translations = &mut *space.translations.borrow_mut();
            translations
                .cache
                .set_magic(self.magic, &translations.memory);
        }
        if let Some(above) = above {
            self.reserve(stopped, &mut space, above);
        }
        self.modules.extend(files(space.ranges.iter()));
        let base = space.areas[0].address;
        let space = Rc::new(RefCell::new(space));
        let mut process = Process::new(Rc::clone(&space), row, Marks::at_start());
        process.loading = true;
        (process.clock, process.random) = inherited.unwrap_or((Clock::default(), Stream(SEED)));
        self.processes.insert(pid, process);
        self.take_area(pid, &space.borrow().areas[0], now)?;
        self.add_thread(pid, pid, 0);
        self.go_on_until(pid)?;
        let mut registers = stopped.registers()?;
        registers.gs_base = base;
        self.log.note(pid, || {
            let space = space.borrow();
            let kept = &space.translations.borrow().kept;
            format!("begins at {:#x}; {kept}", registers.rip)
        });
        self.redirect(pid, stopped, registers)
    }

    /// Moves a new program to fixed addresses, where that is ours to do; the memory that must be taken then.
    fn fix_addresses(&mut self, stopped: &Stopped) -> Option<Above> {
        let held = self.fixed_addresses.as_mut()?;
        match addresses::fix(stopped) {
            Ok(above) => Some(above),
            Err(error) => {
                *held = Err(error);
                None
            }
        }
    }

    /// Takes the memory above the mappings of a program.
    fn reserve(&mut self, stopped: &Stopped, space: &mut Space, above: Above) {
        let pieces = space.hidden();
        let call = space.translations.borrow().cache.system_call();
        match addresses::reserve(stopped, call, above, &pieces) {
            Ok(reserved) => space.reserved = reserved,
            Err(error) => self.fixed_addresses = Some(Err(error)),
        }
    }

    /// Gives a thread an area: one that is free, or a new one.
    fn give_area(
        &mut self,
        process: Pid,
        maker: u64,
        now: u64,
        stopped: &Stopped,
    ) -> io::Result<()> {
        let space = self.space(process)?;
        let mut space = space.borrow_mut();
        let free = match space.free_area(process) {
            Some(free) => free,
            None => {
                setup::more_areas(stopped, &mut space, maker)?;
                space.free_area(process).ok_or_else(unknown)?
            }
        };
        let area = Rc::clone(&space.areas[free]);
        drop(space);
        self.take_area(process, &area, now)?;
        let mut registers = stopped.registers()?;
        registers.gs_base = area.address;
        stopped.set_registers(registers)?;
        self.add_thread(process, stopped.tid(), free);
        Ok(())
    }

    /// An area becomes a thread's; if it is the first of its process, the clock of that is in it, and shows `now`.
    fn take_area(&mut self, process: Pid, area: &Rc<Area>, now: u64) -> io::Result<()> {
        area.take(process, self.lender(process)?)?;
        let known = self.processes.get_mut(&process).ok_or_else(unknown)?;
        if known.clock_area.is_none() {
            area.slots().store_u64(slot::LIMIT.into(), 0);
            area.slots().store_u64(slot::NOW.into(), now);
        }
        let clock = known.clock_area.get_or_insert_with(|| Rc::clone(area));
        area.slots()
            .store_u64(slot::CLOCK.into(), clock.address + u64::from(slot::NOW));
        for at in [slot::REASON, slot::TURNS, slot::PAUSES, slot::ROUNDS] {
            area.slots().store_u64(at.into(), 0);
        }
        area.slots()
            .store_u64(slot::BUDGET.into(), self.deadline.at_birth());
        if self.machine.turns {
            area.slots().write(slot::QUICK.into(), &QUICK_CALLS);
        }
        Ok(())
    }

    /// A process begins as a copy of another.
    pub(super) fn begin_process(&mut self, birth: Birth, child: &Stopped) -> io::Result<()> {
        let pid = child.tid();
        let row = self.table.process(birth.parent, pid);
        let area = self.thread(birth.maker)?.area;
        let parent = self.space(birth.parent)?;
        let own = parent.borrow().areas[area].address;
        let space = match birth.shared {
            true => parent,
            false => Rc::new(RefCell::new(parent.borrow().forked())),
        };
        let marks = self.processes.get(&birth.parent);
        let marks = marks.map_or_else(Marks::at_start, |parent| parent.between.forked());
        self.begin_turns(birth.parent);
        let now = self.exact_time_of(birth.parent)?;
        let mut process = Process::new(space, row, marks);
        process.clock = Clock::beginning_at(now);
        if let Some(parent) = self.processes.get_mut(&birth.parent) {
            process.random = Stream(parent.random.draw());
        }
        self.processes.insert(pid, process);
        self.give_area(pid, own, now, child)
    }

    /// A thread begins in a process.
    pub(super) fn begin_thread(&mut self, process: Pid, thread: &Stopped) -> io::Result<()> {
        // The gs base of a new thread is still that of its maker.
        let maker = thread.registers()?.gs_base;
        self.give_area(process, maker, 0, thread)
    }

    fn add_thread(&mut self, process: Pid, tid: Pid, area: usize) {
        let number = self.processes.get_mut(&process).map_or(0, |process| {
            process.threads += 1;
            process.threads - 1
        });
        let thread = Thread {
            process,
            number,
            area,
            at: 0,
            expected: Expected::Nothing,
            lent: None,
            opens_own: false,
            waits_until: None,
        };
        self.threads.insert(tid, thread);
    }
}

/// What translated code looks at before a system call.
const QUICK_CALLS: [u8; CALLS_KNOWN] = {
    let mut table = [0; CALLS_KNOWN];
    let mut at = 0;
    while at < QUICK.len() {
        table[QUICK[at] as usize] = 1;
        at += 1;
    }
    table
};
