//! One workload, from a command to a measurement: pinned environment, backend, repeats, output, identity.
//!
//! Nothing here prints or judges. The caller says what to run ([`Job`]) and gets a [`Measured`]; many jobs run
//! side by side through [`parallel`].

pub mod against;
pub mod build;
pub mod cancel;
pub mod choose;
pub mod command;
pub mod environment;
mod fingerprint;
pub mod follow;
mod inherited;
mod input;
mod job;
mod log;
mod machine;
mod output;
pub mod parallel;
mod ports;
mod sandbox;
mod scratch;
mod service;
pub mod shims;
mod surroundings;

pub use input::Input;
pub use job::{Job, JobError, Measured, Recorded, measure, program, record};
pub use log::Excerpt;
pub use output::{Output, Written};
pub use sandbox::{NetworkError, shows_folder};
pub use scratch::{Scratch, ScratchError};
pub use service::{During, ServiceError};

/// Removes the folders of runs that were killed.
pub fn sweep() {
    let entries = std::fs::read_dir(std::env::temp_dir());
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        scratch::sweep(&path);
        shims::sweep(&path);
    }
}
