//! Waiting until the servers beside a tree are at rest, before the tree receives anything.
//!
//! A server that answers in two pieces is seen in one or in two, as the two processes happen to be scheduled, and each
//! way takes instructions of its own. When every thread of the servers sleeps, all that they have to say has been said:
//! the tree then receives as much as there is, in every run.

use std::io;
use std::time::{Duration, Instant};

use nix::libc;
use nix::unistd::Pid;

use super::handle::Handle;
use super::image;
use super::ptrace::Stopped;
use super::tree::threads_of;

/// Looks in a row that must find all asleep: what one process has sent wakes the other a moment later.
const LOOKS: u32 = 3;

/// The time between two looks.
const PAUSE: Duration = Duration::from_micros(50);

/// How long servers may take to come to rest. Whoever takes longer never does, and is not waited for again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The servers beside a tree.
#[derive(Debug)]
pub(super) struct Rest {
    beside: Vec<Handle>,
    /// Whether they always came to rest.
    pub(super) held: io::Result<()>,
}

impl Rest {
    pub(super) fn new(beside: &[Handle]) -> Rest {
        Rest {
            beside: beside.to_vec(),
            held: Ok(()),
        }
    }

    /// Waits if the call that a thread of `process` is about to make can receive something.
    pub(super) fn wait_before(&mut self, process: Pid, stopped: &Stopped) {
        if self.held.is_err() || self.beside.is_empty() || !receives(process, stopped) {
            return;
        }
        let start = Instant::now();
        let mut looks = 0;
        while looks < LOOKS {
            looks = if self.asleep() { looks + 1 } else { 0 };
            if start.elapsed() > PATIENCE {
                self.held = Err(io::Error::other("one never comes to rest"));
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn asleep(&self) -> bool {
        let mut threads = self.beside.iter().flat_map(threads_of);
        threads.all(sleeps)
    }
}

/// Whether a thread waits for something, or is gone.
fn sleeps(thread: i32) -> bool {
    matches!(image::state_of(thread), Some('S' | 'Z' | 'X') | None)
}

/// Whether a call can receive something from another process.
#[cfg(target_arch = "x86_64")]
fn receives(process: Pid, stopped: &Stopped) -> bool {
    let Ok(registers) = stopped.registers() else {
        return false;
    };
    match registers.orig_rax as libc::c_long {
        libc::SYS_read | libc::SYS_readv => {
            let link = std::fs::read_link(format!("/proc/{process}/fd/{}", registers.rdi));
            link.is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        }
        number => super::seccomp::RECEIVING_CALLS.contains(&number),
    }
}

/// The filter reports no such call on this architecture.
#[cfg(not(target_arch = "x86_64"))]
fn receives(_process: Pid, _stopped: &Stopped) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_runs_does_not_sleep() {
        let this = nix::unistd::gettid().as_raw();
        assert!(!sleeps(this));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            let _ = tell.send(nix::unistd::gettid().as_raw());
            let _ = wait.recv();
        });
        let tid = told.recv().unwrap();
        let start = Instant::now();
        while !sleeps(tid) {
            assert!(start.elapsed() < PATIENCE);
        }
        drop(go);
        other.join().unwrap();
    }
}
