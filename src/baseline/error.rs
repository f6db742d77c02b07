//! What can be wrong with a baseline file, each with the place and the remedy.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::{BackendKind, CountOverflow, SCHEMA};

/// A place in a file. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Its line.
    pub line: usize,
    /// The column, in bytes.
    pub column: usize,
}

impl Place {
    pub(super) fn new(path: &Path, line: usize, column: usize) -> Self {
        let path = path.to_owned();
        // serde_json says line 0 or column 0 at the very beginning.
        Place {
            path,
            line: line.max(1),
            column: column.max(1),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// Why a baseline or a snapshot cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// The file or folder could not be read or written.
    #[error("{doing} `{}`: {source}", path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// It is not a baseline file, or only a part of one.
    #[error(
        "{place}: damaged baseline: {problem}; restore the file from version control, or delete it and run `counterfoil record`"
    )]
    Damaged {
        /// Where.
        place: Place,
        /// What is wrong there.
        problem: String,
    },
    /// A merge left both sides in it.
    #[error(
        "{place}: unresolved merge conflict; take either side whole, then run `counterfoil record` on the merged code"
    )]
    Conflict {
        /// The first marker.
        place: Place,
    },
    /// A later version of this program wrote it.
    #[error(
        "{place}: baseline of schema {found}, but this version reads schema {SCHEMA}; use a newer counterfoil, or delete the file and run `counterfoil record`"
    )]
    NewerSchema {
        /// Where the schema number stands.
        place: Place,
        /// The number.
        found: u64,
    },
    /// No version of this program that could be migrated from wrote it.
    #[error(
        "{place}: baseline of schema {found}, older than any this version reads; delete the file and run `counterfoil record`"
    )]
    OlderSchema {
        /// Where the schema number stands.
        place: Place,
        /// The number.
        found: u64,
    },
    /// Counts of another backend, which are never compared.
    #[error(
        "{place}: baseline of backend `{found}`, but the suite counts with `{wanted}`; set `backend = \"{found}\"` in the manifest, or run `counterfoil record`"
    )]
    OtherBackend {
        /// Where the backend stands.
        place: Place,
        /// The file's backend.
        found: BackendKind,
        /// The suite's.
        wanted: BackendKind,
    },
    /// The measurement contradicts itself and is not written.
    #[error(
        "case `{case}`: {problem}; this is a defect of the backend, and the baseline was not written"
    )]
    Inconsistent {
        /// The case.
        case: String,
        /// What does not fit.
        problem: String,
    },
    /// It is not a recording of a shim's answers, or only a part of one.
    #[error(
        "{place}: damaged recording: {problem}; restore the file from version control, or run `counterfoil record`"
    )]
    Recording {
        /// Where.
        place: Place,
        /// What is wrong there.
        problem: String,
    },
    /// Counts that do not fit.
    #[error(transparent)]
    Overflow(#[from] CountOverflow),
}

impl BaselineError {
    /// For `map_err`: adds what was attempted, and with which file.
    pub(super) fn file(
        doing: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> BaselineError + use<> {
        let path = path.to_owned();
        move |source| BaselineError::File {
            doing,
            path,
            source,
        }
    }
}
