//! The user's wish to stop, seen by everything that takes long.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::sys::signals::{self, Received};
use crate::sys::tree;

static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// The run was stopped by this signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped by signal {0}")]
pub struct Cancelled(pub i32);

/// What a signal to us means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It is the program's: pass it on, unless the terminal has given it to the program already.
    PassOn,
    /// Stop everything: kill the workloads and let the command clean up.
    StopAll,
}

/// Takes charge of the signals that ask this process to stop. Call first thing, before other threads start.
pub fn install(policy: Policy) -> std::io::Result<()> {
    signals::take_over(move |received| match policy {
        Policy::PassOn => pass_on(received),
        Policy::StopAll => {
            SIGNAL.store(received.signal, Ordering::SeqCst);
            tree::kill_all();
        }
    })
    .map_err(Into::into)
}

fn pass_on(received: Received) {
    if !received.from_terminal {
        tree::signal_roots(received.signal);
    }
}

/// An error once the user has asked to stop.
pub fn check() -> Result<(), Cancelled> {
    match SIGNAL.load(Ordering::SeqCst) {
        0 => Ok(()),
        signal => Err(Cancelled(signal)),
    }
}
