//! Signals of this process: which ones we hold back, and what a child gets.
//!
//! A program under count must see the signal state that we were started with, not ours: Rust ignores
//! SIGPIPE before `main`, and the supervisor blocks what it forwards. A pinned one must see what is the same
//! under every shell, service and CI runner: [`Begins`].

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

/// Signals that are ignored for the sake of who starts a program: nohup(1), and a shell's `&` without job control.
const FOR_THE_BACKGROUND: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT];

/// Which signals a program ignores and blocks when it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begins {
    /// Those that we were started with; SIGPIPE has its default.
    #[default]
    AsWe,
    /// None, but what a user has it ignore who wants it to go on in the background.
    ForTheUser,
    /// None.
    Afresh,
}

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
/// to `on_signal` on a thread of its own; no other is blocked. One that whoever started us wants ignored (nohup(1),
/// a shell's `&`) stays ignored. Call once, before any other thread exists.
pub fn take_over(on_signal: impl Fn(Received) + Send + Sync + 'static) -> nix::Result<()> {
    let wanted = FORWARDED.into_iter().filter(|signal| !is_ignored(*signal));
    let ours: SigSet = wanted.collect();
    let before = ours.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: nothing of ours handles it. Ignored, the kernel would take away how our children end (wait(2)).
    unsafe { set_default(libc::SIGCHLD) };
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

/// Those which [`Begins::ForTheUser`] leaves ignored.
pub fn left_ignored() -> Vec<Signal> {
    let all = FOR_THE_BACKGROUND.into_iter();
    all.filter(|signal| is_ignored(*signal)).collect()
}

/// In a forked child, before exec: the signals that its program begins with. Rust's runtime had SIGPIPE ignored before
/// `main`, so what it was is not known.
///
/// # Safety
/// Async-signal-safe; only to be called in a child that is about to exec.
pub unsafe fn begin_in_child(begins: Begins) {
    let empty = SigSet::empty();
    let mask = match begins {
        Begins::AsWe => ORIGINAL_MASK.get().unwrap_or(&empty),
        Begins::ForTheUser | Begins::Afresh => &empty,
    };
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(mask), None);
    let is_left = |signal| {
        let background = || FOR_THE_BACKGROUND.iter().any(|left| *left as i32 == signal);
        match begins {
            Begins::AsWe => signal != libc::SIGPIPE,
            Begins::ForTheUser => background(),
            Begins::Afresh => false,
        }
    };
    for signal in (1..=LAST).filter(|signal| !is_left(*signal)) {
        // SAFETY: the caller is about to exec, so no handler of ours is needed any more.
        unsafe { set_default(signal) };
    }
}

/// The highest number of a signal (signal(7), `_NSIG`).
const LAST: i32 = 64;

/// Sets a signal's default, also of those which the C library keeps to itself. The kernel refuses SIGKILL and SIGSTOP.
///
/// # Safety
/// A handler that was set is not called any more.
unsafe fn set_default(signal: i32) {
    /// `struct sigaction` of the kernel, whose null handler is the default: handler, flags, restorer and mask of 8 bytes each.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    let old = std::ptr::null::<u64>();
    // SAFETY: reads one live constant of the size that the kernel reads, and writes nothing.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            DEFAULT.as_ptr(),
            old,
            MASK_BYTES,
        )
    };
}
