//! A run with its course recorded, under a condition that is changed on purpose.
//!
//! What a pin holds is changed by giving that pin up.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::cancel;
use super::choose::Chosen;
use super::input::Source;
use super::job::{self, Job, JobError, program};
use super::machine;
use super::scratch::Scratch;
use super::shims::Ready;
use crate::model::course::Courses;
use crate::model::explanation::Disturbance;
use crate::model::{Cpu, Run, Shown, Time};

/// How many more bytes the environment has, or the path. No multiple of a vector's or a page's length.
pub(super) const MORE_BYTES: usize = 123;

/// A run and its course.
pub struct Followed {
    /// The run.
    pub run: Run,
    /// What it executed, in order.
    pub courses: Courses,
    /// What was not as asked for, as a clause.
    pub note: Option<&'static str>,
}

/// The two jobs whose runs tell what depends on hash seeds: neither seed is 0, which switches hashing over in some programs.
pub fn two_seeds(job: &Job) -> [Job; 2] {
    [job.seed & !1, job.seed | 1].map(|seed| Job {
        disturbance: Some(Disturbance::HashSeed),
        seed,
        ..job.clone()
    })
}

/// Variables that a disturbance sets; the job's own win over them.
pub(super) fn variables(job: &Job) -> impl Iterator<Item = (OsString, OsString)> {
    let seed = if job.seed & 1 == 0 { "1" } else { "2" };
    let set = match job.disturbance {
        Some(Disturbance::HashSeed) => vec![("PYTHONHASHSEED", seed), ("PERL_HASH_SEED", seed)],
        _ => Vec::new(),
    };
    set.into_iter()
        .map(|(name, value)| (name.into(), value.into()))
}

/// Runs a job's command once, disturbed as the job says.
pub fn follow(job: &Job, chosen: &Chosen) -> Result<Followed, JobError> {
    cancel::check()?;
    let longer = match job.disturbance {
        Some(Disturbance::PathLength) => Some(LongerPath::to(&program(job)?)?),
        _ => None,
    };
    let job = Job {
        command: match &longer {
            Some(longer) => with_program(&job.command, &longer.program),
            None => job.command.clone(),
        },
        runs: 1,
        shown: shown(job),
        ..job.clone()
    };
    let cwd = job::working_folder(&job)?;
    let machine = machine::shown(&job, chosen)?;
    let shims = Ready::prepare(&job.shims, job.seed)?;
    let bin = shims.as_ref().map(Ready::bin);
    let (_, launches) = job::prepare(&job, &cwd, chosen, machine, bin.as_deref())?;
    let mut input =
        Source::prepare(&job.input, 1).map_err(job::stream(job::input_name(&job.input)))?;
    if let Some(shims) = &shims {
        shims.begin()?;
    }
    let neighbour = (job.disturbance == Some(Disturbance::Load)).then(|| Neighbour::on(job.cpu));
    let outcome = |(run, _): &(Run, Courses)| run.outcome;
    let backend = chosen.info.name;
    let once = job::surrounded(&job, backend, &launches, &mut input, outcome, |launch| {
        Ok(chosen.backend.follow(launch)?)
    });
    drop(neighbour);
    let (mut run, courses) = once?.run;
    if let Some(shims) = &shims {
        shims.finish(&mut run)?;
    }
    cancel::check()?;
    Ok(Followed {
        run,
        courses,
        note: note(&job),
    })
}

/// The machine that the program sees: the real one's clock or CPU where that is the disturbance.
fn shown(job: &Job) -> Shown {
    match job.disturbance {
        Some(Disturbance::Time) => Shown {
            time: Some(Time::Real),
            threads: None,
            ..job.shown
        },
        Some(Disturbance::CpuModel) => Shown {
            cpu: Some(Cpu::Host),
            ..job.shown
        },
        _ => job.shown,
    }
}

/// What is to be known of a disturbance.
fn note(job: &Job) -> Option<&'static str> {
    match job.disturbance {
        _ if !job.pin => Some("pinning is off: every condition may differ from run to run"),
        Some(Disturbance::CpuCount) => Some("all that tells of the machine is the real one's"),
        _ => None,
    }
}

fn with_program(command: &[OsString], program: &Path) -> Vec<OsString> {
    let rest = command.iter().skip(1).cloned();
    [program.as_os_str().to_owned()]
        .into_iter()
        .chain(rest)
        .collect()
}

/// A longer path to a program's folder.
struct LongerPath {
    program: PathBuf,
    _folder: Scratch,
}

impl LongerPath {
    fn to(program: &Path) -> Result<LongerPath, JobError> {
        let folder = Scratch::new()?;
        let link = folder.path().join("x".repeat(MORE_BYTES));
        let real = program.parent().unwrap_or(Path::new("/"));
        let made: io::Result<()> = symlink(real, &link);
        made.map_err(job::stream(format!("link `{}`", link.display())))?;
        let name = program.file_name().unwrap_or(OsStr::new("."));
        Ok(LongerPath {
            program: link.join(name),
            _folder: folder,
        })
    }
}

/// A thread of ours that keeps a CPU busy until it is dropped.
struct Neighbour {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    fn on(cpu: usize) -> Neighbour {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut only = CpuSet::new();
            // Where it may not be confined it competes wherever it runs.
            let _ = only
                .set(cpu)
                .and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
            while !told.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        Neighbour {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
