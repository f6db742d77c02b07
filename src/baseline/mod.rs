//! The files of accepted measurements: one workload a file, whole at every moment.
//!
//! [`Baseline`] is the content of one file, [`Store`] the folder that holds them and the snapshots
//! of output, [`plan`] what recording would change. Nothing here judges: that is `compare`'s work.

mod atomic;
mod error;
mod format;
mod names;
mod plan;
mod recording;
mod store;

use std::collections::BTreeMap;

use crate::model::{Accepted, BackendKind, StoredCase};

pub use atomic::write_whole;
pub use error::{BaselineError, Place};
pub use format::{parse, render};
pub use plan::{Plan, PlannedChange, Step, plan};
pub use recording::{parse_recording, render_recording};
pub use store::{Output, Store};

/// The accepted counts of one workload, of all its parameter cases.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// The workload's name.
    pub workload: String,
    /// The backend that counted every case.
    pub backend: BackendKind,
    /// Cases by their id: `sort[n=1000]`.
    pub cases: BTreeMap<String, StoredCase>,
}

impl Baseline {
    /// One case, as `compare` takes it.
    pub fn accepted(&self, case: &str) -> Option<Accepted<'_>> {
        let case = self.cases.get(case)?;
        Some(Accepted {
            backend: self.backend,
            case,
        })
    }
}
