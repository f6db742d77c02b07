//! Counts that a file gives, for tests of everything above the backends. The program runs, but is not counted.
//!
//! The variable `COUNTERFOIL_FAKE` names a JSON file: a list of runs, used in order and from the start again when all were
//! used. A run with a `program` is for programs of that file name only.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::{Backend, BackendError, Detail, Ready, Unavailable, callers, finish};
use crate::model::{BackendKind, Functions, OpcodeMix, ProcessCount, RegionCount, Run};
use crate::sys::spawn::Launch;
use crate::sys::tree::{self, Watcher};

/// The variable that names the file.
pub const VARIABLE: &str = "COUNTERFOIL_FAKE";

/// One run's counts, as the file has them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scripted {
    program: Option<String>,
    instructions: u64,
    opcodes: Option<OpcodeMix>,
    functions: Option<Functions>,
    regions: Option<BTreeMap<String, RegionCount>>,
}

/// The backend. It remembers how many runs each program has had.
#[derive(Debug, Default)]
pub struct Fake {
    file: Option<PathBuf>,
    used: Mutex<HashMap<OsString, usize>>,
}

impl Fake {
    /// Counts from the file that the environment names.
    pub fn from_environment() -> Fake {
        Fake {
            file: std::env::var_os(VARIABLE).map(PathBuf::from),
            used: Mutex::default(),
        }
    }

    /// Counts from `file`.
    pub fn from_file(file: impl Into<PathBuf>) -> Fake {
        Fake {
            file: Some(file.into()),
            used: Mutex::default(),
        }
    }

    fn next(&self, program: &Path) -> Result<Scripted, BackendError> {
        let file = self
            .file
            .as_deref()
            .ok_or_else(|| BackendError::Unavailable {
                kind: BackendKind::Fake,
                source: no_file(),
            })?;
        let damaged = |source| BackendError::File {
            doing: "read counts from",
            path: file.to_owned(),
            source,
        };
        let name = program.file_name().unwrap_or_default();
        let mut runs = read(file).map_err(damaged)?;
        runs.retain(|run| run.program.as_ref().is_none_or(|p| p.as_str() == name));
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let position = used.entry(name.to_owned()).or_default();
        let wanted = position.checked_rem(runs.len());
        *position += 1;
        wanted
            .and_then(|at| runs.into_iter().nth(at))
            .ok_or_else(|| damaged(io::Error::other("it has no run for this program")))
    }
}

fn read(file: &Path) -> io::Result<Vec<Scripted>> {
    let text = std::fs::read_to_string(file)?;
    serde_json::from_str(&text).map_err(io::Error::from)
}

fn no_file() -> Unavailable {
    Unavailable {
        reason: format!("`{VARIABLE}` names no file"),
        remedy: "set it, or use another backend".to_owned(),
    }
}

/// Sees nothing.
struct Nobody;

impl Watcher for Nobody {}

impl Backend for Fake {
    fn kind(&self) -> BackendKind {
        BackendKind::Fake
    }

    fn offers(&self) -> Detail {
        Detail {
            opcodes: true,
            functions: true,
            regions: true,
        }
    }

    fn probe(&self) -> Result<Ready, Unavailable> {
        match &self.file {
            Some(_) => Ok(Ready {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                notes: vec!["the counts come from a file".to_owned()],
            }),
            None => Err(no_file()),
        }
    }

    fn run(&self, launch: &Launch, want: Detail, _scratch: &Path) -> Result<Run, BackendError> {
        let scripted = self.next(&launch.program)?;
        let finished = tree::run(launch, &mut Nobody)?;
        Ok(Run {
            outcome: finish::outcome(finished.end),
            instructions: scripted.instructions,
            opcodes: scripted.opcodes.filter(|_| want.opcodes),
            functions: scripted.functions.filter(|_| want.functions),
            regions: scripted.regions.filter(|_| want.regions),
            processes: vec![ProcessCount {
                index: 0,
                parent: None,
                program: launch.program.display().to_string(),
                replaces: false,
                instructions: Some(scripted.instructions),
            }],
            modules: Vec::new(),
            pinning: finish::pinning(launch, &finished),
            caveats: finish::caveats(launch, &finished),
            attempts: callers::unnamed(finished.attempts),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Outcome;

    fn launch(program: &str) -> Launch {
        Launch {
            program: program.into(),
            args: vec![program.into()],
            ..Launch::default()
        }
    }

    fn file(text: &str) -> (tempfile::TempDir, Fake) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.json");
        std::fs::write(&path, text).unwrap();
        (folder, Fake::from_file(path))
    }

    fn run(fake: &Fake, program: &str, want: Detail) -> Result<Run, BackendError> {
        fake.run(&launch(program), want, Path::new("/"))
    }

    #[test]
    fn gives_the_runs_in_order_and_begins_again() {
        let (_folder, fake) = file(r#"[{"instructions": 5}, {"instructions": 6}]"#);
        let counts: Vec<u64> = (0..3)
            .map(|_| run(&fake, "/bin/true", Detail::default()))
            .map(|run| run.unwrap().instructions)
            .collect();
        assert_eq!(counts, [5, 6, 5]);
    }

    #[test]
    fn the_program_really_runs_and_only_wanted_details_are_given() {
        let (_folder, fake) = file(
            r#"[{"program": "false", "instructions": 5, "opcodes": {"nop": 5}},
                {"program": "true", "instructions": 9}]"#,
        );
        let plain = run(&fake, "/bin/false", Detail::default()).unwrap();
        assert_eq!(plain.outcome, Outcome::Exited(1));
        assert_eq!((plain.instructions, plain.opcodes), (5, None));
        let want = Detail {
            opcodes: true,
            ..Detail::default()
        };
        let detailed = run(&fake, "/bin/false", want).unwrap();
        assert_eq!(detailed.opcodes.unwrap().0["nop"], 5);
        assert_eq!(run(&fake, "/bin/true", want).unwrap().instructions, 9);
    }

    #[test]
    fn a_file_without_a_run_for_the_program_is_an_error_that_names_it() {
        for text in [
            "[]",
            r#"[{"program": "x", "instructions": 1}]"#,
            "{",
            "[{}]",
        ] {
            let (_folder, fake) = file(text);
            let error = run(&fake, "/bin/true", Detail::default()).unwrap_err();
            assert!(error.to_string().contains("counts.json"), "{error}");
        }
    }
}
