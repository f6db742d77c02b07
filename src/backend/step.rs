//! Counts by executing a program one instruction at a time over ptrace: slow, exact, the oracle of the tests.
//!
//! An instruction counts when it completes: a `rep` string instruction once, however many iterations it has and
//! signals interrupt it; one that faults only when it is executed again and does not fault; `syscall` once each
//! time it is executed, the last one of a thread included. All threads and children count, the kernel does not.
//! The program sees its own flags (`pushf`) as if it were not stepped. A program that steps itself (sets its trap flag),
//! blocks or ignores SIGTRAP, or is traced by another cannot be counted truly.
//!
//! x86-64 only: on arm64 every stop clears the exclusive monitor, so that loops of load- and store-exclusive
//! instructions never end.
//!
//! With regions (see [`regions`](super::regions)) callgrind's requests are read from the instruction stream, in each
//! process by itself: counting is off at first, START_ and STOP_INSTRUMENTATION switch it, TOGGLE_COLLECT interrupts
//! it, or switches it by itself where instrumentation was not started.

#[cfg(target_arch = "x86_64")]
mod counter;
#[cfg(target_arch = "x86_64")]
mod slots;

use std::path::Path;

use super::{Backend, BackendError, Detail, Ready, Unavailable};
use crate::model::{BackendKind, Run};
use crate::sys::spawn::Launch;

/// The backend `step`.
#[derive(Debug, Default)]
pub struct Step {
    #[cfg(target_arch = "x86_64")]
    modules: super::profile::Modules,
}

impl Backend for Step {
    fn kind(&self) -> BackendKind {
        BackendKind::Step
    }

    fn offers(&self) -> Detail {
        Detail {
            opcodes: true,
            functions: true,
            regions: true,
        }
    }

    fn probe(&self) -> Result<Ready, Unavailable> {
        self.count_known()?;
        Ok(Ready {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            notes: vec![
                "single-stepping takes some thousand times as long as the program".to_owned(),
            ],
        })
    }

    fn run(&self, launch: &Launch, want: Detail, _scratch: &Path) -> Result<Run, BackendError> {
        self.count(launch, want)
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Step {
    fn count_known(&self) -> Result<(), Unavailable> {
        Err(other_architecture())
    }

    fn count(&self, _launch: &Launch, _want: Detail) -> Result<Run, BackendError> {
        Err(BackendError::Unavailable {
            kind: BackendKind::Step,
            source: other_architecture(),
        })
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn other_architecture() -> Unavailable {
    Unavailable {
        reason: "single-stepping clears the exclusive monitor of this architecture, and atomic loops never end"
            .to_owned(),
        remedy: "count with `perf` or `callgrind`".to_owned(),
    }
}

#[cfg(target_arch = "x86_64")]
mod counting {
    use super::Step;
    use super::counter::Counter;
    use crate::backend::{BackendError, Detail, Unavailable, callers, finish, traced};
    use crate::model::{BackendKind, Pin, Pinning, Run};
    use crate::sys::spawn::Launch;
    use crate::sys::tree::{self, Finished};

    impl Step {
        /// Counts a program of known count.
        pub(super) fn count_known(&self) -> Result<(), Unavailable> {
            traced::count_known(|launch| self.count(launch, Detail::default()))
        }

        pub(super) fn count(&self, launch: &Launch, want: Detail) -> Result<Run, BackendError> {
            let mut counter = Counter::new(want, launch.cpu, launch.folder().cloned())?;
            // As under the engine, whose oracle this is.
            let launch = &Launch {
                no_rseq: true,
                ..launch.clone()
            };
            let followed = tree::run(launch, &mut counter);
            counter.take_failure()?;
            let finished = followed?;
            if let Err(error) = &finished.traced {
                return Err(BackendError::Unavailable {
                    kind: BackendKind::Step,
                    source: traced::forbidden(error),
                });
            }
            let on_one_cpu = counter.on_one_cpu();
            let counted = counter.finish(&self.modules)?;
            let mut caveats = counted.caveats;
            caveats.extend(finish::caveats(launch, &finished));
            Ok(Run {
                outcome: finish::outcome(finished.end),
                instructions: counted.instructions,
                opcodes: counted.opcodes,
                functions: counted.functions,
                regions: counted.regions,
                processes: counted.processes,
                modules: counted.modules,
                pinning: pinning(launch, &finished, on_one_cpu),
                caveats,
                attempts: callers::named(finished.attempts, &self.modules, launch.folder()),
            })
        }
    }

    /// The pins that were asked for, as they really held.
    fn pinning(launch: &Launch, finished: &Finished, on_one_cpu: bool) -> Pinning {
        let mut pinning = finish::pinning(launch, finished);
        if launch.cpu.is_some() && !on_one_cpu {
            pinning.free(
                Pin::OneCpu,
                "the kernel did not confine the program to one CPU",
            );
        }
        pinning
    }
}
