//! The marks of regions: callgrind's client requests, at which translated code stops.
//!
//! Each process counts by itself. At a mark its counters are read, and what they have risen by since the mark before
//! belongs to the chunk that ends there. Other threads of the process are not stopped: one that waits in the kernel is
//! known to stand where it waits; of one that runs, up to a unit may be counted on the wrong side of the mark.

use std::io;

use super::super::space::Space;
use super::super::state::Partial;
use super::counts::read_counters;
use super::{Engine, Process};
use crate::backend::marks::{Marks, Request, Sums};
use crate::backend::regions::{REQUEST_X86_64, in_marker};
use crate::backend::selftest::Machine;
use crate::dbi::cache::{Manner, Stand};
use crate::dbi::layout::slot;
use crate::model::CountOverflow;
use crate::sys::Pid;
use crate::sys::ptrace::Stopped;
use crate::sys::waiting;

/// How to translate: where no regions are wanted, markers are code like any other.
pub(super) fn manner(regions: bool, budget: usize) -> Manner {
    if regions {
        Manner {
            marker: |code| in_marker(Machine::X86_64, code),
            request: request_length,
            budget,
        }
    } else {
        Manner {
            marker: |_| false,
            request: |_| None,
            budget,
        }
    }
}

fn request_length(code: &[u8]) -> Option<u8> {
    let is_request = code.starts_with(REQUEST_X86_64);
    is_request.then_some(REQUEST_X86_64.len() as u8)
}

/// What is known of a process between two of its marks.
pub(super) struct Between {
    marks: Marks,
    /// What the current chunk has got so far.
    sums: Sums,
    /// Its counters when they were read last.
    seen: Vec<u64>,
    /// Units that its other threads were in then.
    pub(super) carried: Vec<Partial>,
    /// Whether another thread ran while they were read, then or before.
    pub(super) torn: bool,
}

impl Between {
    pub(super) fn new(marks: Marks) -> Between {
        Between {
            marks,
            sums: Sums::default(),
            seen: Vec::new(),
            carried: Vec::new(),
            torn: false,
        }
    }

    /// The marks of a forked child.
    pub(super) fn forked(&self) -> Marks {
        self.marks.forked()
    }

    /// By how much counters have risen that are `now`.
    pub(super) fn risen(&mut self, now: Vec<u64>) -> Vec<u64> {
        let seen = std::mem::replace(&mut self.seen, now);
        let mut risen = self.seen.clone();
        for (count, before) in risen.iter_mut().zip(&seen) {
            *count -= before;
        }
        risen
    }

    fn add(&mut self, sums: Sums) -> Result<(), CountOverflow> {
        match self.marks.counting() {
            true => self.sums.merge(sums),
            false => Ok(()),
        }
    }

    /// The program is over, and `sums` is what it has executed since the last mark.
    pub(super) fn end(mut self, sums: Sums) -> Result<(Marks, Sums), CountOverflow> {
        self.add(sums)?;
        Ok((self.marks, self.sums))
    }
}

/// Where the threads of a process are while one of them makes a request.
#[derive(Default)]
struct Others {
    partial: Vec<Partial>,
    torn: bool,
}

impl Engine {
    /// A thread stands at a client request, and its own registers are in its area.
    pub(super) fn request(&mut self, pid: Pid, stopped: &Stopped, area: usize) -> io::Result<()> {
        let space = self.space(pid)?;
        let address = space.borrow().areas[area]
            .slots()
            .load_u64(slot::RAX.into());
        let Some(request) = Request::read(stopped, address)? else {
            return Ok(());
        };
        let Some(mut process) = self.processes.remove(&pid) else {
            return Ok(());
        };
        let others = self.others(pid, stopped.tid(), &space.borrow());
        let result = self.obey(pid, &mut process, request, others);
        self.processes.insert(pid, process);
        self.keep(result)
    }

    fn obey(
        &mut self,
        pid: Pid,
        process: &mut Process,
        request: Request,
        others: Others,
    ) -> Result<(), CountOverflow> {
        let mut turned = process.between.marks.clone();
        turned.turn(&request);
        if process.between.marks.counting() || turned.counting() {
            self.count_to_here(pid, process, others)?;
        }
        process.between.marks = turned;
        match request {
            Request::Dump(label) => {
                let sums = std::mem::take(&mut process.between.sums);
                self.chunks.end(&mut process.between.marks, label, sums)
            }
            Request::Zero => {
                process.between.sums = Sums::default();
                Ok(())
            }
            Request::Start | Request::Stop | Request::Toggle => Ok(()),
        }
    }

    /// What was executed up to a mark belongs to the chunk before it, where that counts.
    fn count_to_here(
        &mut self,
        pid: Pid,
        process: &mut Process,
        others: Others,
    ) -> Result<(), CountOverflow> {
        let counters = read_counters(pid, process)?;
        process.between.torn |= others.torn;
        if process.between.marks.counting() {
            process.partial.extend(&others.partial);
            let sums = self.catch_up(process, counters)?;
            process.between.add(sums)?;
        } else {
            process.between.seen = counters;
        }
        process.between.carried = others.partial;
        process.partial.clear();
        process.more = 0;
        Ok(())
    }

    fn others(&self, pid: Pid, maker: Pid, space: &Space) -> Others {
        let mut others = Others::default();
        for (tid, thread) in &self.threads {
            if thread.process != pid || *tid == maker {
                continue;
            }
            let Some(place) = waiting::place(*tid) else {
                others.torn = true;
                continue;
            };
            if let Some(Stand::Unit { unit, mark }) = space.stand(place.address, thread.area) {
                others.partial.push(Partial {
                    unit,
                    // A system call is complete when it returns.
                    done: mark.done.saturating_sub(place.in_call.into()),
                    counted: mark.counted,
                });
            }
        }
        others
    }
}
