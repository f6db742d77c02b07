//! A backend that this architecture does not have: known by name, and says why it is not there.

use std::path::Path;

use super::{Backend, BackendError, Detail, Ready, Unavailable};
use crate::model::{BackendKind, Run};
use crate::sys::spawn::Launch;

/// In the place of backend `kind`.
#[derive(Clone, Copy, Debug)]
pub struct Absent {
    /// Which backend is not there.
    pub kind: BackendKind,
    /// Why, as a clause.
    pub reason: &'static str,
}

impl Absent {
    fn why(self) -> Unavailable {
        Unavailable {
            reason: self.reason.to_owned(),
            remedy: "count with `perf` or `callgrind`".to_owned(),
        }
    }
}

impl Backend for Absent {
    fn kind(&self) -> BackendKind {
        self.kind
    }

    fn offers(&self) -> Detail {
        Detail::default()
    }

    fn probe(&self) -> Result<Ready, Unavailable> {
        Err(self.why())
    }

    fn run(&self, _launch: &Launch, _want: Detail, _scratch: &Path) -> Result<Run, BackendError> {
        Err(BackendError::Unavailable {
            kind: self.kind,
            source: self.why(),
        })
    }
}
