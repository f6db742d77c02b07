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
#[cfg(target_arch = "x86_64")]
mod switches;

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
    use std::fs;
    use std::io;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use nix::errno::Errno;

    use super::Step;
    use super::counter::Counter;
    use crate::backend::selftest::{self, Known, Machine};
    use crate::backend::{BackendError, Detail, Unavailable, finish};
    use crate::model::{BackendKind, Caveat, Outcome, Pin, Pinning, Run};
    use crate::sys::spawn::Launch;
    use crate::sys::tree::{self, Finished};

    /// Rounds of the known program: enough to see a count that is off by a factor.
    const ROUNDS: u32 = 100;

    /// More than the known program ever needs.
    const PATIENCE: Duration = Duration::from_secs(20);

    impl Step {
        /// Counts a program of known count.
        pub(super) fn count_known(&self) -> Result<(), Unavailable> {
            let known = selftest::program(Machine::X86_64, ROUNDS);
            let run = self.run_known(&known).map_err(|error| match error {
                BackendError::Unavailable { source, .. } => source,
                other => Unavailable {
                    reason: format!("the self-test failed: {other}"),
                    remedy: "use another backend, and report this".to_owned(),
                },
            })?;
            if run.instructions == known.instructions && run.outcome == Outcome::Exited(0) {
                return Ok(());
            }
            Err(Unavailable {
                reason: format!(
                    "a program of {} instructions counted as {}",
                    known.instructions, run.instructions
                ),
                remedy: "use another backend, and report this".to_owned(),
            })
        }

        fn run_known(&self, known: &Known) -> Result<Run, BackendError> {
            let failed = |doing, path: &std::path::Path| {
                let path = path.to_owned();
                move |source| BackendError::File {
                    doing,
                    path,
                    source,
                }
            };
            let temporary = std::env::temp_dir();
            let folder = tempfile::tempdir().map_err(failed("make a folder in", &temporary))?;
            let program = folder.path().join("known");
            fs::write(&program, &known.elf).map_err(failed("write", &program))?;
            fs::set_permissions(&program, PermissionsExt::from_mode(0o700))
                .map_err(failed("make executable", &program))?;
            let launch = Launch {
                args: vec![program.clone().into_os_string()],
                program,
                timeout: Some(PATIENCE),
                own_session: true,
                ..Launch::default()
            };
            self.count(&launch, Detail::default())
        }

        pub(super) fn count(&self, launch: &Launch, want: Detail) -> Result<Run, BackendError> {
            let mut counter = Counter::new(want, launch.cpu)?;
            let followed = tree::run(launch, &mut counter);
            counter.failure()?;
            let finished = followed?;
            if let Err(error) = &finished.traced {
                return Err(BackendError::Unavailable {
                    kind: BackendKind::Step,
                    source: forbidden(error),
                });
            }
            let on_one_cpu = counter.on_one_cpu();
            let counted = counter.finish(&self.modules)?;
            let mut caveats = counted.caveats;
            if !finished.left_running.is_empty() {
                let names = finished.left_running.iter();
                caveats.push(Caveat::LeftRunning {
                    programs: names.map(|p| p.display().to_string()).collect(),
                });
            }
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

    /// Why tracing was refused.
    fn forbidden(error: &io::Error) -> Unavailable {
        let denied = error.raw_os_error() == Some(Errno::EPERM as i32);
        let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
        let locked = scope.is_ok_and(|scope| matches!(scope.trim(), "2" | "3"));
        let (reason, remedy) = if denied && locked {
            (
                "Yama forbids ptrace (kernel.yama.ptrace_scope)".to_owned(),
                "as root, run `sysctl kernel.yama.ptrace_scope=1` (3 stays until the next boot)",
            )
        } else if denied {
            (
                "ptrace is forbidden here, as by a container's seccomp filter".to_owned(),
                "start the container with `--cap-add SYS_PTRACE`, or use another backend",
            )
        } else {
            (format!("ptrace failed: {error}"), "use another backend")
        };
        Unavailable {
            reason,
            remedy: remedy.to_owned(),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn says_what_to_do_where_ptrace_is_forbidden() {
            let error = forbidden(&io::Error::from_raw_os_error(Errno::EPERM as i32));
            assert!(error.reason.contains("ptrace"), "{error}");
            assert!(!error.remedy.is_empty());
        }
    }
}
