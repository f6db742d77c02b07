//! Hardware counters of other processes: opening, reading and judging one perf_event_open(2) event.
//!
//! Attributes come from the `perf-event` crate. The call itself is made here, because the crate's leaves the
//! descriptor open across exec, has groups only on the calling process, and panics on times that do not fit.
//! An event with `inherit` cannot be read as a group (kernel/events/core.c, perf_event_open), so each counter
//! is read by itself, with the times that tell whether it counted throughout.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// linux/perf_event.h: PERF_TYPE_HARDWARE, PERF_TYPE_RAW, PERF_COUNT_HW_INSTRUCTIONS.
const TYPE_HARDWARE: u32 = 0;
const TYPE_RAW: u32 = 4;
const HW_INSTRUCTIONS: u64 = 1;

/// linux/perf_event.h: PERF_FLAG_FD_CLOEXEC.
const FLAG_CLOEXEC: libc::c_ulong = 8;

/// An event, as the kernel is asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    kind: u32,
    config: u64,
}

impl Event {
    /// Retired instructions, on whatever PMU the kernel takes for it.
    pub const INSTRUCTIONS: Event = Event {
        kind: TYPE_HARDWARE,
        config: HW_INSTRUCTIONS,
    };

    /// Retired instructions on the PMU of this type number only (PERF_PMU_TYPE_SHIFT).
    pub fn instructions_on(pmu: u32) -> Event {
        Event {
            kind: TYPE_HARDWARE,
            config: u64::from(pmu) << 32 | HW_INSTRUCTIONS,
        }
    }

    /// An event of the CPU's own numbering.
    pub const fn raw(config: u64) -> Event {
        Event {
            kind: TYPE_RAW,
            config,
        }
    }

    /// An event of one PMU's own numbering.
    pub fn of_pmu(pmu: u32, config: u64) -> Event {
        Event { kind: pmu, config }
    }
}

/// Who is counted beside the thread itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nobody.
    Thread,
    /// Threads it makes, and those they make, in its process (kernel 5.13 and newer).
    Process,
    /// All threads and processes that descend from it.
    Tree,
}

/// When counting begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At once, or together with the leader of the group.
    Now,
    /// When the thread has executed a program.
    AtExec,
}

/// One counter of user-mode events.
#[derive(Debug)]
pub struct Counter {
    file: File,
}

/// What a counter says: events of all it reaches since its start, and for how long it was to count and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Events.
    pub count: u64,
    /// Time it was enabled while its threads ran, in nanoseconds.
    pub enabled_ns: u64,
    /// Time it really counted, in nanoseconds.
    pub running_ns: u64,
}

/// Why what a counter says is no count.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The kernel could not give it a hardware counter.
    #[error("the kernel found no free hardware counter for it")]
    DidNotFit,
    /// It shared a hardware counter, so the count is an estimate.
    #[error(
        "it counted for {running_ns} of {enabled_ns} ns only: the hardware counters are shared"
    )]
    Multiplexed {
        /// Time it was enabled.
        enabled_ns: u64,
        /// Time it counted.
        running_ns: u64,
    },
    /// The kernel's answer to read(2).
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl Reading {
    /// The count, if the counter counted all the time it should have.
    ///
    /// A pinned event that found no hardware counter reads as zeros once its task has ended; a time of zero is
    /// therefore an error, never a count of zero.
    pub fn exact(self) -> Result<u64, Unusable> {
        let Reading {
            count,
            enabled_ns,
            running_ns,
        } = self;
        if enabled_ns == 0 || running_ns == 0 {
            Err(Unusable::DidNotFit)
        } else if running_ns != enabled_ns {
            Err(Unusable::Multiplexed {
                enabled_ns,
                running_ns,
            })
        } else {
            Ok(count)
        }
    }
}

impl Counter {
    /// Opens `event` on thread `pid` (0: the calling one), user mode only: pinned, or in the group of `leader`, which is.
    pub fn open(
        event: Event,
        pid: Pid,
        reach: Reach,
        start: Start,
        leader: Option<&Counter>,
    ) -> io::Result<Counter> {
        let mut builder = perf_event::Builder::new();
        builder
            .inherit(reach != Reach::Thread)
            .inherit_thread(reach == Reach::Process)
            .pinned(leader.is_none())
            .enabled(start == Start::Now || leader.is_some())
            .enable_on_exec(start == Start::AtExec && leader.is_none());
        let attributes = builder.attrs_mut();
        attributes.type_ = event.kind;
        attributes.config = event.config;
        let group = leader.map_or(-1, |leader| leader.file.as_raw_fd());
        // SAFETY: `attributes` points to a whole perf_event_attr whose `size` field is its size (the crate sets it)
        // and which the kernel only reads; the other arguments are plain numbers.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const *attributes,
                pid.as_raw(),
                -1,
                group,
                FLAG_CLOEXEC,
            )
        };
        let descriptor = Errno::result(answer)? as i32;
        // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
        let file = unsafe { File::from_raw_fd(descriptor) };
        Ok(Counter { file })
    }

    /// What it says now.
    pub fn read(&self) -> Result<Reading, Unusable> {
        let mut bytes = [0u8; 24];
        let length = (&self.file).read(&mut bytes)?;
        if length != bytes.len() {
            return Err(Unusable::DidNotFit);
        }
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|part| part.try_into().ok());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        Ok(Reading {
            count: word(0),
            enabled_ns: word(8),
            running_ns: word(16),
        })
    }

    /// Its count, if it counted all the time.
    pub fn count(&self) -> Result<u64, Unusable> {
        self.read()?.exact()
    }
}

/// Events of the calling thread during `work`, user mode only.
pub fn count_here(event: Event, work: impl FnOnce()) -> Result<u64, Unusable> {
    let own = Pid::from_raw(0);
    let counter = Counter::open(event, own, Reach::Thread, Start::Now, None)?;
    work();
    counter.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(count: u64, enabled_ns: u64, running_ns: u64) -> Result<u64, Unusable> {
        Reading {
            count,
            enabled_ns,
            running_ns,
        }
        .exact()
    }

    #[test]
    fn a_counter_that_ran_throughout_is_believed() {
        assert_eq!(judge(7, 100, 100).unwrap(), 7);
    }

    #[test]
    fn a_counter_that_never_ran_is_an_error_and_not_a_zero() {
        assert!(matches!(judge(0, 0, 0), Err(Unusable::DidNotFit)));
        assert!(matches!(judge(0, 100, 0), Err(Unusable::DidNotFit)));
    }

    #[test]
    fn a_counter_that_shared_its_hardware_is_refused() {
        let refused = judge(7, 100, 73);
        assert!(matches!(refused, Err(Unusable::Multiplexed { .. })));
    }

    #[test]
    fn a_counter_that_claims_to_have_run_longer_than_enabled_is_refused() {
        assert!(judge(7, 100, 101).is_err());
    }

    #[test]
    fn an_event_that_does_not_exist_is_refused_by_the_kernel() {
        let nonsense = Event::of_pmu(u32::MAX, 0);
        let answer = Counter::open(nonsense, Pid::from_raw(0), Reach::Thread, Start::Now, None);
        assert!(answer.unwrap_err().raw_os_error().is_some());
    }
}
