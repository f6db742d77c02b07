//! Shims: fake programs in front of a workload's `PATH`, and what became of their calls.
//!
//! A shim is a file that is written before the runs ([`program`]) and notes its calls in another ([`calls`]). They are in a
//! folder whose path is the same in every run and on every machine with the same temporary folder: the workload sees it
//! in its `PATH`, and what it does with that counts. Recording from real programs is [`record`]'s work.

pub mod call;
mod calls;
mod folder;
mod program;
pub(super) mod record;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use folder::Folder;
use verify::Noticed;

use super::cancel::Cancelled;
use crate::model::{Caveat, Run, Shim};

pub(super) use folder::sweep;
pub(super) use program::identity;

/// Why a run with shims gives no measurement.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// A file or folder of theirs cannot be used.
    #[error("{doing} `{}`: {source}", path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// Their folder belongs to somebody else.
    #[error("the folder `{}` of the shims is not ours alone; remove it, or set TMPDIR to a folder of your own", .0.display())]
    NotOurs(PathBuf),
    /// There is no code for this processor.
    #[error(
        "shim `{0}`: shims are programs for x86-64, and this machine is none; run this workload there"
    )]
    Processor(String),
    /// Its answers do not fit in a file.
    #[error("shim `{shim}`: {source}")]
    TooLarge {
        /// Its name.
        shim: String,
        /// Why.
        source: program::TooLarge,
    },
    /// A call that no answer fits.
    #[error("shim `{shim}` has no answer to the arguments {args}; {remedy}")]
    NoAnswer {
        /// Its name.
        shim: String,
        /// The arguments, as one could type them.
        args: String,
        /// What the user can do.
        remedy: String,
    },
    /// It could not do what its answer says.
    #[error("shim `{shim}` could not give its answer to the arguments {args}: {source}")]
    Failed {
        /// Its name.
        shim: String,
        /// The arguments, as one could type them.
        args: String,
        /// The answer of the kernel.
        source: io::Error,
    },
    /// The file of its calls is cut off, or lacks some.
    #[error("shim `{shim}`: {lost}; is the disk of `{}` full?", folder.display())]
    Lost {
        /// Its name.
        shim: String,
        /// What is not there.
        lost: String,
        /// Where its file is.
        folder: PathBuf,
    },
    /// A program of its name was executed that is not the shim.
    #[error(
        "`{path}` was executed{by}, past the shim `{shim}`: a shim stands in front of PATH, and only a call by the bare name meets it; call `{shim}` without a path, or take it out of `shims` to run the real one"
    )]
    Bypassed {
        /// Its name.
        shim: String,
        /// What was executed.
        path: String,
        /// ` by CALLER`; empty where the caller is not known.
        by: String,
    },
    /// What recording needs of a real program, and does not get.
    #[error("record shim `{shim}`: {problem}")]
    Record {
        /// Its name.
        shim: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn file_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShimError + use<> {
    let path = path.to_owned();
    move |source| ShimError::File {
        doing,
        path,
        source,
    }
}

/// The shims of one job, ready to be called. Dropped, they are gone.
#[derive(Debug)]
pub(super) struct Ready<'a> {
    folder: Folder,
    shims: &'a [Shim],
}

impl<'a> Ready<'a> {
    /// Writes the files of `shims`; none when there are no shims. `number` is the job's own, and the same in every run.
    pub fn prepare(shims: &'a [Shim], number: u64) -> Result<Option<Ready<'a>>, ShimError> {
        if shims.is_empty() {
            return Ok(None);
        }
        let folder = Folder::take(number)?;
        for shim in shims {
            let bytes = program::file(shim, &folder.calls(&shim.name))
                .ok_or_else(|| ShimError::Processor(shim.name.clone()))?;
            let bytes = bytes.map_err(|source| ShimError::TooLarge {
                shim: shim.name.clone(),
                source,
            })?;
            folder.program(&shim.name, &bytes)?;
        }
        Ok(Some(Ready { folder, shims }))
    }

    /// The folder to put in front of `PATH`.
    pub fn bin(&self) -> PathBuf {
        self.folder.bin()
    }

    /// Forgets all calls.
    pub fn begin(&self) -> Result<(), ShimError> {
        for shim in self.shims {
            let path = self.folder.calls(&shim.name);
            fs::write(&path, b"").map_err(file_error("write", &path))?;
        }
        Ok(())
    }

    /// How often each was called in a run that is over. Their files are taken out of the run's modules. What went
    /// wrong is an error, whatever the workload has made of it.
    pub fn finish(&self, run: &mut Run) -> Result<BTreeMap<String, u64>, ShimError> {
        let bin = self.bin();
        run.modules.retain(|module| !module.starts_with(&bin));
        let mut calls = BTreeMap::new();
        for shim in self.shims {
            let path = self.folder.calls(&shim.name);
            let bytes = fs::read(&path).map_err(file_error("read", &path))?;
            let lost = |lost: String| ShimError::Lost {
                shim: shim.name.clone(),
                lost,
                folder: self.folder.path().to_owned(),
            };
            let notes = calls::parse(&bytes);
            let notes = notes.ok_or_else(|| lost("the note of a call is cut off".to_owned()))?;
            let seen = Noticed {
                processes: &run.processes,
                outcome: run.outcome,
                bin: &bin,
            };
            let count = verify::verify(shim, &notes, &seen, lost)?;
            if count > verify::executed(shim, &seen) && !run.caveats.contains(&unseen()) {
                run.caveats.push(unseen());
            }
            calls.insert(shim.name.clone(), count);
        }
        Ok(calls)
    }
}

/// What a backend that does not follow every program cannot see.
fn unseen() -> Caveat {
    Caveat::Other {
        text: "not every program of the tree was seen here, so that a call past a shim, by its path, would go unnoticed"
            .to_owned(),
    }
}
