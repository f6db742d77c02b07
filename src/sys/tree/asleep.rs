//! Whether a thread sleeps in the kernel, as /proc tells. It is asked for at each change of turns, so the files stay open.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::unistd::Pid;

/// Where a thread's state is told.
#[derive(Debug)]
pub(super) struct Sleeper {
    /// proc_pid_stat(5).
    stat: File,
    /// /proc/TID/syscall (proc(5)); not every kernel has it.
    call: Option<File>,
}

impl Sleeper {
    pub(super) fn of(thread: Pid) -> io::Result<Sleeper> {
        Ok(Sleeper {
            stat: File::open(format!("/proc/{thread}/stat"))?,
            call: File::open(format!("/proc/{thread}/syscall")).ok(),
        })
    }

    /// Whether it is about to sleep, or does. Who waits for a child that uses its memory (vfork(2)) is said to be in a sleep
    /// of the kind that others are in for a moment only.
    pub(super) fn seems_asleep(&self, for_memory: bool) -> bool {
        let state = self.state();
        state == Some(b'S') || for_memory && state == Some(b'D')
    }

    /// Whether it has let go of its CPU, and sleeps. Some calls (wait4(2)) say that they sleep before they look whether they
    /// have to; but /proc/TID/syscall waits until the thread is off its CPU, or says that it runs (kernel/sched/core.c,
    /// `wait_task_inactive`). Before that it may have been one that was just woken and has not begun to run; after that, one
    /// that has returned from the call and stopped for us.
    pub(super) fn is_asleep(&self, for_memory: bool) -> bool {
        self.seems_asleep(for_memory) && !self.runs() && self.seems_asleep(for_memory)
    }

    /// False where the kernel does not tell.
    fn runs(&self) -> bool {
        let mut word = [0; RUNNING.len()];
        let read = self.call.as_ref().map(|call| call.read_at(&mut word, 0));
        matches!(read, Some(Ok(_))) && word == RUNNING
    }

    /// The letter behind the name, which ends in the last parenthesis.
    fn state(&self) -> Option<u8> {
        // The name has 15 bytes at most, each of which may be written as four.
        let mut line = [0; 128];
        let length = self.stat.read_at(&mut line, 0).ok()?;
        let line = &line[..length];
        let end = line.iter().rposition(|byte| *byte == b')')?;
        line.get(end + 2).copied()
    }
}

/// What /proc/TID/syscall says of a thread that runs, or wants to.
const RUNNING: [u8; 7] = *b"running";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};

    #[test]
    fn who_waits_sleeps_and_who_spins_does_not() {
        let end = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let spins = std::thread::spawn({
            let tell = tell.clone();
            let end = Arc::clone(&end);
            move || {
                tell.send(nix::unistd::gettid()).unwrap();
                while !end.load(Ordering::Relaxed) {}
            }
        });
        let spinner = Sleeper::of(told.recv().unwrap()).unwrap();
        while spinner.seems_asleep(false) {}
        assert!(!spinner.is_asleep(false));
        end.store(true, Ordering::Relaxed);
        spins.join().unwrap();

        let (go, wait) = mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid()).unwrap();
            let _ = wait.recv();
        });
        let other_sleeps = Sleeper::of(told.recv().unwrap()).unwrap();
        while !(other_sleeps.seems_asleep(false) && other_sleeps.is_asleep(false)) {
            std::thread::yield_now();
        }
        drop(go);
        other.join().unwrap();
        assert!(!other_sleeps.seems_asleep(false));
    }
}
