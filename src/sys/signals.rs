//! Signals of this process: which ones we hold back, and what a child gets.
//!
//! A program under count must see the signal state that we were started with, not ours: Rust ignores
//! SIGPIPE before `main`, and the supervisor blocks what it forwards.

use std::sync::OnceLock;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

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

/// Blocks the forwarded signals in this thread and all threads it starts, and hands each one that arrives
/// to `on_signal` on a thread of its own. One that whoever started us wants ignored (nohup(1), a shell's `&`)
/// stays ignored. Call once, before any other thread exists.
pub fn take_over(on_signal: impl Fn(Received) + Send + 'static) -> nix::Result<()> {
    let wanted = FORWARDED.into_iter().filter(|signal| !is_ignored(*signal));
    let ours: SigSet = wanted.collect();
    let before = ours.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    if ORIGINAL_MASK.set(before).is_err() {
        return Ok(());
    }
    std::thread::spawn(move || {
        loop {
            if let Some(received) = wait_for(&ours) {
                on_signal(received);
            }
        }
    });
    Ok(())
}

/// Whether this process ignores `signal`. A blocked signal would be kept for us even then.
fn is_ignored(signal: Signal) -> bool {
    // SAFETY: a zeroed sigaction is a valid one (plain integers and a null handler); the kernel fills it.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null pointer for the new action changes nothing; the old one goes to a live value.
    let asked = unsafe { libc::sigaction(signal as i32, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

fn wait_for(set: &SigSet) -> Option<Received> {
    // SAFETY: a zeroed siginfo_t is a valid one (plain integers); the kernel fills it.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right types.
    let signal = unsafe { libc::sigwaitinfo(set.as_ref(), &raw mut info) };
    (signal > 0).then_some(Received {
        signal,
        from_terminal: info.si_code == libc::SI_KERNEL,
    })
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
