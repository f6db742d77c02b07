//! Hardware counters: the backend that costs nothing, where the machine has them and lets us.
//!
//! User mode only, the whole tree, from exec to exit. Before anything is counted, a program of known count must come
//! out right. A counter that was shared, or never ran, is an error and never a number.

mod advice;
mod control;
mod ledger;
mod meter;
mod plan;
mod session;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use self::control::{Control, ControlError, Seen};
use self::ledger::RegionError;
use self::meter::Meter;
use self::plan::Plan;
use self::session::Session;
use super::profile::Modules;
use super::{Backend, BackendError, Detail, Ready, Unavailable, callers, finish, selftest};
use crate::model::{BackendKind, Caveat, ProcessCount, RegionCount, Run};
use crate::sys::Pid;
use crate::sys::machine::Machine;
use crate::sys::perf::{Reach, Start};
use crate::sys::spawn::{Launch, Stream};
use crate::sys::tree;

pub use self::advice::advise;
pub use self::plan::interrupts;

/// Rounds of the self-test's loop: some 0.1 ms, in which at most a few interrupts fall.
const SELF_TEST_ROUNDS: u32 = 100_000;

/// How far the self-test may be off, in instructions: page faults and interrupts of a start, on x86 one each.
const TOLERANCE: u64 = 16;

/// A busy machine may interrupt one attempt more often.
const ATTEMPTS: usize = 3;

/// The backend. It tests itself once, before its first count.
#[derive(Debug, Default)]
pub struct Perf {
    tested: OnceLock<Result<Tested, Unavailable>>,
}

/// What the self-test found to work.
#[derive(Clone, Debug)]
struct Tested {
    interrupts: bool,
    notes: Vec<String>,
}

/// Why the self-test's program gave no count.
enum TestError {
    Unavailable(Unavailable),
    Run(BackendError),
}

impl Perf {
    /// A backend that has not tested itself yet.
    pub fn new() -> Perf {
        Perf::default()
    }

    fn tested(&self) -> Result<&Tested, Unavailable> {
        self.tested
            .get_or_init(self_test)
            .as_ref()
            .map_err(Clone::clone)
    }

    fn unavailable(source: Unavailable) -> BackendError {
        BackendError::Unavailable {
            kind: BackendKind::Perf,
            source,
        }
    }
}

impl Backend for Perf {
    fn kind(&self) -> BackendKind {
        BackendKind::Perf
    }

    fn offers(&self) -> Detail {
        Detail {
            regions: true,
            ..Detail::default()
        }
    }

    fn probe(&self) -> Result<Ready, Unavailable> {
        let tested = self.tested()?;
        Ok(Ready {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            notes: tested.notes.clone(),
        })
    }

    fn run(&self, launch: &Launch, want: Detail, _scratch: &Path) -> Result<Run, BackendError> {
        refuse_what_counters_cannot_tell(want)?;
        let tested = self.tested().map_err(Perf::unavailable)?;
        let machine = Machine::read();
        let mut plan = plan::plan(&machine, launch.cpu);
        if !tested.interrupts {
            plan = plan.without_interrupts(&machine);
        }
        count(launch, &plan, want.regions, &machine)
    }
}

fn refuse_what_counters_cannot_tell(want: Detail) -> Result<(), BackendError> {
    let what = match want {
        Detail { opcodes: true, .. } => "opcodes",
        Detail {
            functions: true, ..
        } => "functions",
        _ => return Ok(()),
    };
    Err(BackendError::NotOffered {
        kind: BackendKind::Perf,
        what,
        remedy: "use `--backend callgrind`",
    })
}

/// Runs `launch` by `plan`.
fn count(
    launch: &Launch,
    plan: &Plan,
    regions: bool,
    machine: &Machine,
) -> Result<Run, BackendError> {
    let mut launch = launch.clone();
    launch.cpu = plan.cpu;
    let control = regions
        .then(|| Control::open(&mut launch))
        .transpose()
        .map_err(|error| regions_failed(error.into()))?;
    let mut session = Session::new(plan.clone(), control, !regions);
    let finished = tree::run(&launch, &mut session);
    // Our copies of the program's ends of the pipe.
    launch.files.clear();
    let seen = session.server.take().map(|server| server.finish());
    if let Some(error) = session.refused.take() {
        let errno = error.raw_os_error().unwrap_or(0);
        return Err(Perf::unavailable(advise(errno, machine)));
    }
    let finished = finished?;
    let total = match &session.total {
        Some(meter) => meter.count().map_err(|error| unusable(&error))?,
        None => return Err(unusable(&io::Error::other("it was never opened"))),
    };
    let mut caveats = finish::caveats(&launch, &finished);
    caveats.extend(plan.caveat.clone().map(|text| Caveat::Other { text }));
    let (regions, instructions) = match seen.transpose().map_err(regions_failed)? {
        Some(seen) => {
            caveats.extend(unsettled_caveat(&seen));
            let (regions, inside) = close(seen, total)?;
            (Some(regions), inside)
        }
        None => (None, total),
    };
    Ok(Run {
        outcome: finish::outcome(finished.end),
        instructions,
        opcodes: None,
        functions: None,
        regions,
        modules: session.modules.iter().cloned().collect(),
        processes: processes(session, &launch),
        pinning: finish::pinning(&launch, &finished),
        caveats,
        attempts: callers::named(finished.attempts, &Modules::default(), launch.folder()),
    })
}

type Regions = std::collections::BTreeMap<String, RegionCount>;

fn close(seen: Seen, total: u64) -> Result<(Regions, u64), BackendError> {
    let closed = seen.ledger.finish(total);
    closed.map_err(|error| regions_failed(error.into()))
}

fn unsettled_caveat(seen: &Seen) -> Option<Caveat> {
    (seen.unsettled > 0).then(|| Caveat::Other {
        text: format!(
            "{} region markers were counted while the program still ran, a few instructions early or late",
            seen.unsettled
        ),
    })
}

/// The tree's programs; where it could not be traced, only the root is known.
fn processes(session: Session, launch: &Launch) -> Vec<ProcessCount> {
    let rows = session.into_processes();
    if !rows.is_empty() {
        return rows;
    }
    vec![ProcessCount {
        index: 0,
        parent: None,
        program: launch.program.display().to_string(),
        replaces: false,
        instructions: None,
    }]
}

fn unusable(error: &dyn std::error::Error) -> BackendError {
    BackendError::Tool {
        tool: "hardware counter",
        problem: error.to_string(),
        remedy:
            "end other profilers and virtual machines that use counters, or use another backend"
                .to_owned(),
    }
}

fn regions_failed(error: ControlError) -> BackendError {
    let remedy = match &error {
        ControlError::Region(RegionError::NoneEntered) => {
            "mark one with the header or the crate of shim/, or count without regions"
        }
        ControlError::Region(_) => "pair every begin with an end",
        ControlError::Meter(_) => "end other profilers, or use another backend",
        ControlError::Pipe(_) => "count without regions",
    };
    BackendError::Tool {
        tool: "regions",
        problem: error.to_string(),
        remedy: remedy.to_owned(),
    }
}

/// Finds the best plan that counts the known program right.
fn self_test() -> Result<Tested, Unavailable> {
    let machine = Machine::read();
    let plan = plan::plan(&machine, None);
    let plain = plan.without_interrupts(&machine);
    // Most machines without a counter say so at once, and are spared a program that cannot be counted.
    if let Err(refused) = Meter::open(&plain, Pid::from_raw(0), Reach::Tree, Start::AtExec) {
        return Err(advise(refused.raw_os_error().unwrap_or(0), &machine));
    }
    if plan.interrupts.is_some() && self_test_by(&plan, &machine).is_ok() {
        let notes = plan.notes;
        return Ok(Tested {
            interrupts: true,
            notes,
        });
    }
    self_test_by(&plain, &machine)?;
    Ok(Tested {
        interrupts: false,
        notes: plain.notes,
    })
}

fn self_test_by(plan: &Plan, machine: &Machine) -> Result<(), Unavailable> {
    let known = selftest::program(selftest::Machine::HERE, SELF_TEST_ROUNDS);
    let folder = tempfile::tempdir().map_err(|error| no_self_test(&error))?;
    let program = folder.path().join("self-test");
    write_program(&program, &known.elf).map_err(|error| no_self_test(&error))?;
    let mut counted = Err(Unavailable {
        reason: "the self-test was not run".to_owned(),
        remedy: "report this as a bug".to_owned(),
    });
    for _ in 0..ATTEMPTS {
        counted = match attempt(&program, plan, machine) {
            Ok(count) => judge(count, known.instructions),
            Err(TestError::Unavailable(unavailable)) => return Err(unavailable),
            Err(TestError::Run(BackendError::Tool {
                problem, remedy, ..
            })) => Err(Unavailable {
                reason: format!("the self-test could not be counted: {problem}"),
                remedy,
            }),
            Err(TestError::Run(error)) => Err(no_self_test(&error)),
        };
        if counted.is_ok() {
            break;
        }
    }
    counted
}

fn attempt(program: &Path, plan: &Plan, machine: &Machine) -> Result<u64, TestError> {
    let launch = Launch {
        program: program.to_owned(),
        args: vec!["self-test".into()],
        stdin: Stream::Inherit,
        own_session: true,
        ..Launch::default()
    };
    match count(&launch, plan, false, machine) {
        Ok(run) => Ok(run.instructions),
        Err(BackendError::Unavailable { source, .. }) => Err(TestError::Unavailable(source)),
        Err(error) => Err(TestError::Run(error)),
    }
}

/// Whether the known program came out right.
fn judge(counted: u64, known: u64) -> Result<(), Unavailable> {
    if counted.abs_diff(known) <= TOLERANCE {
        return Ok(());
    }
    Err(Unavailable {
        reason: format!(
            "the counter is wrong: it gave {counted} for a program of {known} instructions"
        ),
        remedy: "use another backend".to_owned(),
    })
}

fn no_self_test(error: &dyn std::error::Error) -> Unavailable {
    Unavailable {
        reason: format!("the self-test could not be counted: {error}"),
        remedy: "point TMPDIR to a folder where programs may be executed".to_owned(),
    }
}

fn write_program(path: &PathBuf, elf: &[u8]) -> io::Result<()> {
    std::fs::write(path, elf)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_counts_nothing_or_double_fails_its_test() {
        assert!(judge(0, 200_005).is_err());
        assert!(judge(400_010, 200_005).is_err());
        assert!(judge(200_005 + TOLERANCE, 200_005).is_ok());
        assert!(judge(200_005 - TOLERANCE - 1, 200_005).is_err());
    }

    #[test]
    fn refuses_details_that_no_counter_gives() {
        let want = Detail {
            opcodes: true,
            ..Detail::default()
        };
        let refusal = Perf::new().run(&Launch::default(), want, Path::new("/"));
        assert!(matches!(refusal, Err(BackendError::NotOffered { .. })));
    }

    #[test]
    fn a_probe_counts_or_says_why_not_and_what_to_do() {
        match Perf::new().probe() {
            Ok(ready) => assert!(!ready.version.is_empty()),
            Err(unavailable) => {
                assert!(!unavailable.reason.is_empty());
                assert!(!unavailable.remedy.is_empty());
            }
        }
    }
}
