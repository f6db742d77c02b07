//! Counts with the engine: the program runs as translated code that counts itself, exactly and at a fraction of the
//! cost of anything else that needs no hardware counter.
//!
//! [`crate::dbi`] makes the code; here is what touches processes. Every retired user-mode instruction of all threads and
//! children counts, from the first after exec to the last; a `rep` string instruction once; one that faults only when it is
//! executed again and does not fault; a system call that a signal interrupts and the kernel restarts, again. x86-64 only.
//!
//! | module | what it is |
//! |---|---|
//! | `engine` | the watcher of the tree: answers translated code, signals, system calls |
//! | `setup` | putting the engine into a program |
//! | `space` | an address space: code cache, areas of threads, what may be executed |
//! | `clock`, `waits` | the virtual clock, and system calls that wait for a time |
//! | `directory` | entries of directories, in order |
//! | `code` | system calls that change what may be executed |
//! | `state` | from a place in translated code to the program's own state |
//! | `signals` | what becomes of a signal |
//! | `tally` | what the counters add up to |
//! | `store` | translated code kept from run to run |
//! | `shown` | what programs are told of the machine in the place of the truth |
//! | `libraries`, `loader_cache` | the list of libraries that the dynamic loader is shown |
//! | `mounts` | numbers of mounts, in order |
//! | `support` | what is refused, and what is shown instead of what is |

mod addresses;
mod alarms;
mod clock;
mod code;
mod directory;
mod engine;
mod fetch;
mod libraries;
mod loader_cache;
mod log;
mod maps;
mod memory;
mod mounts;
mod ranges;
mod setup;
mod shown;
mod signals;
mod space;
mod state;
mod store;
mod support;
mod tally;
mod usage;
mod waits;

use std::path::Path;

use self::engine::{Engine, Failure, course};
use self::log::Log;
use self::store::Store;
use super::profile::Modules;
use super::program_file::ProgramFile;
use super::{Backend, BackendError, Detail, Ready, Settings, Unavailable, callers, finish, traced};
use crate::dbi::layout::MAGIC_CALL;
use crate::model::course::Courses;
use crate::model::{BackendKind, Run};
use crate::sys::machine;
use crate::sys::seccomp::EngineCalls;
use crate::sys::spawn::Launch;
use crate::sys::tree;

/// The backend `dbi`.
#[derive(Debug, Default)]
pub struct Dbi {
    modules: Modules,
    settings: Settings,
}

impl Dbi {
    /// The backend, set so.
    pub fn new(settings: Settings) -> Dbi {
        Dbi {
            settings,
            ..Dbi::default()
        }
    }
}

impl Backend for Dbi {
    fn kind(&self) -> BackendKind {
        BackendKind::Dbi
    }

    fn offers(&self) -> Detail {
        Detail {
            opcodes: true,
            functions: true,
            regions: true,
        }
    }

    fn refuses(&self, program: &Path) -> Option<String> {
        let file = ProgramFile::executed_for(program)?;
        let why = support::refused_file(&file)?;
        Some(format!("`{}` {why}", file.path.display()))
    }

    fn probe(&self) -> Result<Ready, Unavailable> {
        // Counting something known would take longer than many a program; the tests do that.
        tree::try_tracing().map_err(|error| traced::forbidden(&error))?;
        Ok(Ready {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            notes: Vec::new(),
        })
    }

    fn run(&self, launch: &Launch, want: Detail, _scratch: &Path) -> Result<Run, BackendError> {
        // Where addresses differ from run to run, nothing kept would ever fit.
        let keeps = self.settings.code_cache && launch.fixed_addresses;
        let store = keeps.then(Store::open).flatten();
        let engine = self.engine(launch, want, store)?;
        self.counted(launch, engine, &[]).map(|(run, _)| run)
    }

    fn follow(&self, launch: &Launch) -> Result<(Run, Courses), BackendError> {
        let random_is_fixed = launch.random_seed.is_some();
        let engine = self.engine(launch, Detail::default(), None)?;
        let engine = engine.recording(random_is_fixed);
        self.counted(launch, engine, course::RECORDED_CALLS)
    }
}

impl Dbi {
    /// An engine for the tree of `launch`.
    fn engine(
        &self,
        launch: &Launch,
        want: Detail,
        store: Option<Store>,
    ) -> Result<Engine, BackendError> {
        let log = self.log()?;
        let engine = Engine::new(want, log, store, launch.machine, launch.lenders())?;
        let fixes = launch.fixed_addresses && machine::try_fixed_addresses().is_err();
        let engine = engine.seeing(launch.folder().cloned());
        Ok(engine.fixing_addresses(fixes))
    }

    fn log(&self) -> Result<Log, BackendError> {
        let Some(path) = &self.settings.engine_log else {
            return Ok(Log::default());
        };
        Log::to(path).map_err(|source| BackendError::File {
            doing: "write the engine's log to",
            path: path.clone(),
            source,
        })
    }

    /// Runs to the end under an engine that is told of some calls `besides` those it must know of.
    fn counted(
        &self,
        launch: &Launch,
        mut engine: Engine,
        besides: &'static [u32],
    ) -> Result<(Run, Courses), BackendError> {
        let launch = Launch {
            no_rseq: true,
            handed: match launch.machine.cpu {
                Some(_) => &shown::AUXV,
                None => &[],
            },
            engine: Some(EngineCalls {
                magic: MAGIC_CALL,
                machine: launch.machine,
                besides,
            }),
            ..launch.clone()
        };
        let followed = tree::run(&launch, &mut engine);
        if let Some(failure) = engine.failure() {
            return Err(failed(failure));
        }
        let mut finished = followed?;
        if let Some(fixed) = engine.fixed_addresses() {
            finished.fixed_addresses = fixed;
        }
        if let Err(error) = &finished.traced {
            return Err(BackendError::Unavailable {
                kind: BackendKind::Dbi,
                source: traced::forbidden(error),
            });
        }
        let counted = engine.finish()?;
        let functions = counted
            .places
            .map(|places| places.functions(&self.modules))
            .transpose()?;
        let mut caveats = counted.caveats;
        caveats.extend(finish::caveats(&launch, &finished));
        let run = Run {
            outcome: finish::outcome(finished.end),
            instructions: counted.instructions,
            opcodes: counted.opcodes,
            functions,
            regions: counted.regions,
            processes: counted.table.into_rows(),
            modules: counted.modules,
            pinning: finish::pinning(&launch, &finished),
            caveats,
            attempts: callers::named(finished.attempts, &self.modules, launch.folder()),
        };
        Ok((run, counted.courses.unwrap_or_default()))
    }
}

fn failed(failure: Failure) -> BackendError {
    match failure {
        Failure::Overflow(overflow) => BackendError::Overflow(overflow),
        Failure::Unsupported(unsupported) => unsupported.into(),
        instruction @ Failure::Instruction { .. } => BackendError::Tool {
            tool: "dbi",
            problem: instruction.to_string(),
            remedy: "use `--backend cachegrind` or `--backend step`, and report this".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_program_of_known_count() {
        let backend = Dbi::default();
        backend.probe().unwrap();
        traced::count_known(|launch| backend.run(launch, Detail::default(), Path::new("")))
            .unwrap();
    }
}
