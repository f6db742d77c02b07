//! The user's wish to stop, seen by everything that takes long.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use crate::sys::signals::{self, Received};
use crate::sys::tree;

/// The signal that stops everything; 0 for none yet.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// The latest signal that was the program's; 0 for none yet.
static PASSED_ON: AtomicI32 = AtomicI32::new(0);

/// Whether the trees that run now are the program, and not a backend's probe.
static PROGRAM: AtomicBool = AtomicBool::new(false);

/// How many trees had been started when the program began.
static TREES_BEFORE: AtomicU64 = AtomicU64::new(0);

/// The run was stopped by this signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped by signal {0}")]
pub struct Cancelled(pub i32);

/// What a signal to us means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It is the program's: pass it on, unless the terminal has given it to the program already. While no program
    /// runs (a backend is tried first) there is nobody to answer it, and it stops everything.
    PassOn,
    /// Stop everything: kill the workloads and let the command clean up.
    StopAll,
}

/// Takes charge of the signals that ask this process to stop. Call first thing, before other threads start.
pub fn install(policy: Policy) -> std::io::Result<()> {
    signals::take_over(move |received| match policy {
        Policy::PassOn => pass_on(received),
        Policy::StopAll => stop(received.signal),
    })
    .map_err(Into::into)
}

/// What runs while this lives is the program.
pub(super) struct Program(());

impl Program {
    pub(super) fn begins() -> Program {
        TREES_BEFORE.store(tree::started(), Ordering::SeqCst);
        PROGRAM.store(true, Ordering::SeqCst);
        Program(())
    }
}

impl Drop for Program {
    /// A signal that came while the program ran may be seen only now, on a busy machine: it was the program's.
    fn drop(&mut self) {
        signals::deal_with_waiting(|| PROGRAM.store(false, Ordering::SeqCst));
    }
}

fn stop(signal: i32) {
    if SIGNAL.swap(signal, Ordering::SeqCst) == 0 {
        std::thread::spawn(kill_until_we_end);
    }
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
    let runs = tree::any_runs();
    let has_run = tree::started() > TREES_BEFORE.load(Ordering::SeqCst);
    // The terminal has given it to a program that has ended meanwhile.
    let had_it = received.from_terminal && has_run;
    if !PROGRAM.load(Ordering::SeqCst) || !(runs || had_it) {
        return stop(received.signal);
    }
    PASSED_ON.store(received.signal, Ordering::SeqCst);
    if !received.from_terminal {
        tree::signal_roots(received.signal);
    }
}

/// An error when the program has died of a signal that we passed on to it: whoever sent it wants no further run.
pub(super) fn check_death(signal: i32) -> Result<(), Cancelled> {
    if PASSED_ON.load(Ordering::SeqCst) == signal {
        return Err(Cancelled(signal));
    }
    Ok(())
}

/// An error once the user has asked to stop.
pub fn check() -> Result<(), Cancelled> {
    match SIGNAL.load(Ordering::SeqCst) {
        0 => Ok(()),
        signal => Err(Cancelled(signal)),
    }
}
