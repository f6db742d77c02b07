//! Whether a thread sleeps in the kernel, as /proc tells. It is asked for at each change of turns, so the files stay open.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
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

/// Whether nobody runs on the whole machine but us: one look in the place of one at each thread.
#[derive(Debug)]
pub(super) struct Calm {
    /// proc_loadavg(5).
    load: File,
}

impl Calm {
    /// None where /proc is not the kernel's own (lxcfs shows containers a load that it computes now and then).
    pub(super) fn open() -> Option<Calm> {
        let load = File::open("/proc/loadavg").ok()?;
        let about = fstatfs(&load).ok()?;
        (about.filesystem_type() == PROC_SUPER_MAGIC).then_some(Calm { load })
    }

    /// Whether those that we trace and that slept when we looked still do: nobody runs or wants to, and nobody has stopped for
    /// us meanwhile. Whoever wakes another on the same CPU has it queued there before it holds still itself (kernel/sched/core.c,
    /// `ttwu_queue`).
    pub(super) fn is_there(&self) -> bool {
        let mut line = [0; 64];
        let length = self.load.read_at(&mut line, 0).unwrap_or(0);
        only_one_runs(&line[..length]) && !somebody_has_stopped()
    }
}

/// Whether a thread has to keep to one CPU.
pub(super) fn has_one_cpu(thread: Pid) -> bool {
    let cpus = sched_getaffinity(thread);
    cpus.is_ok_and(|set| {
        let allowed = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
        (0..CpuSet::count()).filter(allowed).count() == 1
    })
}

/// The fourth field is how many run or want to, and of how many: `0.20 0.18 0.12 1/80 11206`.
fn only_one_runs(line: &[u8]) -> bool {
    let fourth = line.split(|byte| *byte == b' ').nth(3);
    fourth.is_some_and(|field| field.starts_with(b"1/"))
}

/// Whether a report of one that we trace waits for us.
fn somebody_has_stopped() -> bool {
    let flags = libc::WEXITED
        | libc::WSTOPPED
        | libc::WNOHANG
        | libc::WNOWAIT
        | libc::__WALL
        | libc::__WNOTHREAD;
    // SAFETY: an all-zero `siginfo_t` is a valid one, and the kernel fills it.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local; its pid is read from what was zeroed or filled.
    unsafe {
        let answer = libc::waitid(libc::P_ALL, 0, &raw mut info, flags);
        answer != 0 || info.si_pid() != 0
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
    fn who_may_use_several_cpus_is_told_from_who_keeps_to_one() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let first = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu).unwrap());
        let bound = std::thread::spawn(move || {
            let mut one = CpuSet::new();
            one.set(first.unwrap()).unwrap();
            nix::sched::sched_setaffinity(Pid::from_raw(0), &one).unwrap();
            has_one_cpu(nix::unistd::gettid())
        });
        assert!(bound.join().unwrap());
        let several = (0..CpuSet::count()).filter(|cpu| before.is_set(*cpu).unwrap());
        assert_eq!(has_one_cpu(nix::unistd::gettid()), several.count() == 1);
    }

    #[test]
    fn one_that_runs_is_told_from_several() {
        assert!(only_one_runs(b"0.20 0.18 0.12 1/80 11206\n"));
        for other in [
            &b"0.20 0.18 0.12 2/80 11206\n"[..],
            b"0.20 0.18 0.12 11/80 11206\n",
            b"0.00 0.00 0.00 0/0 0\n",
            b"1/2",
            b"",
        ] {
            assert!(!only_one_runs(other), "{}", String::from_utf8_lossy(other));
        }
    }

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
