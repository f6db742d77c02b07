//! Signals of this process: which ones we hold back, and what a child gets.
//!
//! A program under count must see the signal state that we were started with, not ours: Rust ignores
//! SIGPIPE before `main`, and the supervisor blocks what it forwards.

use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that end or interrupt a program on request. The supervisor takes them and passes them on.
const FORWARDED: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

static ORIGINAL_MASK: OnceLock<SigSet> = OnceLock::new();

/// A signal that reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Whether the terminal sent it (to the whole foreground group, so the program has it already).
    pub from_terminal: bool,
}

/// What becomes of the forwarded signals.
struct Taken {
    /// Those that wait for us; whoever holds the lock is dealing with them.
    waiting: Mutex<SignalFd>,
    on_signal: Box<dyn Fn(Received) + Send + Sync>,
}

static TAKEN: OnceLock<Taken> = OnceLock::new();

/// Blocks the forwarded signals in this thread and all threads it starts, and hands each one that arrives
/// to `on_signal` on a thread of its own. One that whoever started us wants ignored (nohup(1), a shell's `&`)
/// stays ignored. Call once, before any other thread exists.
pub fn take_over(on_signal: impl Fn(Received) + Send + Sync + 'static) -> nix::Result<()> {
    let wanted = FORWARDED.into_iter().filter(|signal| !is_ignored(*signal));
    let ours: SigSet = wanted.collect();
    let before = ours.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    if ORIGINAL_MASK.set(before).is_err() {
        return Ok(());
    }
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let waiting = SignalFd::with_flags(&ours, flags)?;
    let bell = waiting.as_fd().try_clone_to_owned();
    let bell = bell.map_err(|_| nix::errno::Errno::EMFILE)?;
    let _ = TAKEN.set(Taken {
        waiting: Mutex::new(waiting),
        on_signal: Box::new(on_signal),
    });
    std::thread::spawn(move || {
        loop {
            let mut bell = [PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
            if poll(&mut bell, PollTimeout::NONE).is_ok() {
                deal_with_waiting(|| ());
            }
        }
    });
    Ok(())
}

/// Deals with the signals that have arrived, and does `then` before any other is looked at.
pub fn deal_with_waiting(then: impl FnOnce()) {
    let Some(taken) = TAKEN.get() else {
        return then();
    };
    let waiting = taken.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    while let Ok(Some(info)) = waiting.read_signal() {
        (taken.on_signal)(Received {
            signal: info.ssi_signo as i32,
            from_terminal: info.ssi_code == libc::SI_KERNEL,
        });
    }
    then();
}

/// Whether this process ignores `signal`. A blocked signal would be kept for us even then.
fn is_ignored(signal: Signal) -> bool {
    // SAFETY: a zeroed sigaction is a valid one (plain integers and a null handler); the kernel fills it.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null pointer for the new action changes nothing; the old one goes to a live value.
    let asked = unsafe { libc::sigaction(signal as i32, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// In a forked child, before exec: the signal mask we were started with, and SIGPIPE's default.
///
/// # Safety
/// Async-signal-safe; only to be called in a child that is about to exec.
pub unsafe fn restore_in_child() {
    let empty = SigSet::empty();
    let mask = ORIGINAL_MASK.get().unwrap_or(&empty);
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(mask), None);
    // SAFETY: signal(2) with SIG_DFL installs no handler; Rust's runtime had set SIG_IGN before `main`.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
