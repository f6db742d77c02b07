//! What a process has executed: its counters read and added up, and at its end given to the sums of the run.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::space::Space;
use super::super::tally::{Stretch, add_up};
use super::requests::Between;
use super::{Engine, Process};
use crate::backend::marks::Sums;
use crate::dbi::cache::Unit;
use crate::dbi::layout::{AREA_BYTES, COUNTERS};
use crate::model::CountOverflow;
use crate::sys::Pid;

impl Engine {
    /// A program is over: its process ends or executes another.
    pub(super) fn program_over(&mut self, pid: Pid) -> Result<(), CountOverflow> {
        self.course_over(pid).map_err(|_| CountOverflow)?;
        let Some(mut process) = self.processes.remove(&pid) else {
            return Ok(());
        };
        let counters = read_counters(pid, &process)?;
        self.note_executed(pid, &process, &counters);
        let sums = self.catch_up(&mut process, counters)?;
        release_areas(pid, &process);
        let Process {
            space,
            row,
            between,
            ..
        } = process;
        self.account(row, between, sums)?;
        self.keep_code(space);
        Ok(())
    }

    /// Adds what a program has executed since its last mark.
    fn account(&mut self, row: usize, between: Between, sums: Sums) -> Result<(), CountOverflow> {
        if self.want.regions {
            let (marks, sums) = between.end(sums)?;
            return self.chunks.program_over(marks, sums);
        }
        self.table.add(row, sums.instructions)?;
        self.instructions = self
            .instructions
            .checked_add(sums.instructions)
            .ok_or(CountOverflow)?;
        self.opcodes.merge(&sums.opcodes)?;
        self.places.merge(sums.places)
    }

    /// The last to use a code cache leaves it to the next run.
    fn keep_code(&self, space: Rc<RefCell<Space>>) {
        if let Some(store) = &self.store
            && let Some(space) = Rc::into_inner(space)
            && Rc::strong_count(&space.borrow().translations) == 1
        {
            store.keep(&space.borrow());
        }
    }

    /// Units whose counters are not zero are worth keeping.
    fn note_executed(&self, pid: Pid, process: &Process, counters: &[u64]) {
        let space = process.space.borrow();
        let translations = &mut *space.translations.borrow_mut();
        let units = translations.cache.units();
        let entered = |unit: &Unit| counters.get(unit.counter as usize);
        let executed = |unit: &&Unit| entered(unit).is_some_and(|count| *count > 0);
        if self.store.is_some() {
            for (number, unit) in units.iter().enumerate() {
                if executed(&unit) {
                    translations.kept.note_executed(number as u32);
                }
            }
        }
        self.log.note(pid, || {
            let (all, executed) = (units.len(), units.iter().filter(executed).count());
            let counters = counters.len();
            format!("{all} units, {executed} of them executed, {counters} counters")
        });
    }

    /// What a process has executed since it was asked last, whose counters are `counters` now.
    pub(super) fn catch_up(
        &mut self,
        process: &mut Process,
        counters: Vec<u64>,
    ) -> Result<Sums, CountOverflow> {
        let space = process.space.borrow();
        let translations = space.translations.borrow();
        let risen = process.between.risen(counters);
        let stretch = Stretch {
            counters: &risen,
            partial: &process.partial,
            carried: &process.between.carried,
            torn: process.between.torn,
        };
        let mut sums = add_up(
            &translations.cache,
            &space.ranges,
            &stretch,
            self.want.functions,
            self.names.as_mut(),
        )?;
        if process.more > 0 {
            let sum = sums.instructions.checked_add(process.more);
            sums.instructions = sum.ok_or(CountOverflow)?;
            sums.opcodes.add("syscall", process.more)?;
        }
        Ok(sums)
    }
}

/// The counters of a process, those of all its threads added up.
pub(super) fn read_counters(pid: Pid, process: &Process) -> Result<Vec<u64>, CountOverflow> {
    let space = process.space.borrow();
    let in_use = space.translations.borrow().cache.counters();
    let mut counters = vec![0u64; in_use as usize];
    for area in space.areas_of(pid) {
        for (sum, count) in counters.iter_mut().zip(area.counters(in_use as usize)) {
            *sum = sum.checked_add(count).ok_or(CountOverflow)?;
        }
    }
    Ok(counters)
}

/// How many instructions the program of a process has executed: less exact than [`Engine::catch_up`] while other threads
/// run, and fast. `runs`: the only area whose thread may have executed something since, if that is known.
pub(super) fn executed(pid: Pid, process: &mut Process, runs: Option<u64>) -> u64 {
    let space = process.space.borrow();
    let cache = &space.translations.borrow().cache;
    process.weights.update(cache);
    let mut sum = process.weights.correction(cache, &process.partial);
    for area in space.areas_of(pid) {
        let rests = runs.is_some_and(|runs| runs != area.address);
        let known = area.executed.get().filter(|_| rests);
        let own = known.unwrap_or_else(|| {
            process
                .weights
                .sum(area.counters(process.weights.counters()))
        });
        area.executed.set(rests.then_some(own));
        sum = sum.wrapping_add(own);
    }
    u64::try_from(sum).unwrap_or(0).saturating_add(process.more)
}

/// A process no longer needs its areas.
fn release_areas(pid: Pid, process: &Process) {
    let space = process.space.borrow();
    for area in space.areas_of(pid) {
        let from = area.offset + u64::from(COUNTERS);
        let shared = space.pool.shared();
        shared.discard(from, AREA_BYTES - u64::from(COUNTERS));
        area.owner.set(None);
        area.used.set(false);
    }
}
