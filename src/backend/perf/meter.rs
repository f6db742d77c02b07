//! The counters of one count: instructions, and interrupts to subtract where the CPU has the event.

use std::io;

use super::plan::Plan;
use crate::sys::Pid;
use crate::sys::perf::{Counter, Reach, Start, Unusable};

/// Why a meter gives no count.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// A counter that is no use.
    #[error("the counter of {event}: {source}")]
    Counter {
        /// Which.
        event: &'static str,
        /// Why not.
        source: Unusable,
    },
    /// More interrupts than instructions.
    #[error("{interrupts} interrupts were counted in {instructions} instructions")]
    Nonsense {
        /// Instructions counted.
        instructions: u64,
        /// Interrupts counted.
        interrupts: u64,
    },
}

/// Counts retired user-mode instructions of a thread and what it reaches, from its start to now.
#[derive(Debug)]
pub struct Meter {
    instructions: Counter,
    interrupts: Option<Counter>,
}

impl Meter {
    /// Opens the counters of `plan` on `pid`, in one group, so that they count the same time.
    pub fn open(plan: &Plan, pid: Pid, reach: Reach, start: Start) -> io::Result<Meter> {
        let instructions = Counter::open(plan.instructions, pid, reach, start, None)?;
        let interrupts = plan
            .interrupts
            .map(|event| Counter::open(event, pid, reach, start, Some(&instructions)))
            .transpose()?;
        Ok(Meter {
            instructions,
            interrupts,
        })
    }

    /// The count so far, less the interrupts.
    pub fn count(&self) -> Result<u64, MeterError> {
        let read = |counter: &Counter, event| {
            let count = counter.count();
            count.map_err(|source| MeterError::Counter { event, source })
        };
        let instructions = read(&self.instructions, "instructions")?;
        let interrupts = match &self.interrupts {
            Some(counter) => read(counter, "interrupts")?,
            None => 0,
        };
        instructions
            .checked_sub(interrupts)
            .ok_or(MeterError::Nonsense {
                instructions,
                interrupts,
            })
    }
}
