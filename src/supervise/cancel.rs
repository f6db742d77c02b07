//! The user's wish to stop, seen by everything that takes long.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

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
            if SIGNAL.swap(received.signal, Ordering::SeqCst) == 0 {
                std::thread::spawn(kill_until_we_end);
            }
        }
    })
    .map_err(Into::into)
}

/// How soon a tree dies that was just being started when the signal came.
const AGAIN: Duration = Duration::from_millis(50);

/// Kills what runs again and again: a worker may have looked for a signal just before it came, and start a tree after.
fn kill_until_we_end() -> ! {
    loop {
        tree::kill_all();
        std::thread::sleep(AGAIN);
    }
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
