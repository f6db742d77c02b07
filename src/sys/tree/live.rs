//! The trees that run now: who is in them, and signals to all of them, or at the end of their time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::super::handle::Handle;

/// How long a program may take to end after SIGTERM when its time is up, before SIGKILL.
const PATIENCE: Duration = Duration::from_secs(1);

/// Threads of all trees that run now, by root: what a signal to us is passed on to.
static LIVE: Mutex<BTreeMap<i32, BTreeSet<i32>>> = Mutex::new(BTreeMap::new());

pub(super) fn live() -> MutexGuard<'static, BTreeMap<i32, BTreeSet<i32>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Trees started so far.
static STARTED: AtomicU64 = AtomicU64::new(0);

/// How many trees have been started.
pub fn started() -> u64 {
    STARTED.load(Ordering::SeqCst)
}

/// Whether a tree runs now.
pub fn any_runs() -> bool {
    !live().is_empty()
}

/// Sends `signal` to the root of every tree that runs now.
pub fn signal_roots(signal: i32) {
    for root in live().keys() {
        send(*root, signal);
    }
}

/// Kills every process of every tree that runs now.
pub fn kill_all() {
    for tid in live().values().flatten() {
        send(*tid, libc::SIGKILL);
    }
}

/// Kills every process of one tree, if it runs.
pub fn kill(handle: &Handle) {
    let live = live();
    let root = handle.root();
    for tid in root
        .and_then(|root| live.get(&root.as_raw()))
        .into_iter()
        .flatten()
    {
        send(*tid, libc::SIGKILL);
    }
}

/// The threads of one tree, if it runs.
pub fn threads_of(handle: &Handle) -> Vec<i32> {
    let live = live();
    let root = handle.root();
    let threads = root.and_then(|root| live.get(&root.as_raw()));
    threads.into_iter().flatten().copied().collect()
}

/// Asks the process group of one tree's root to end, if it runs: for trees that have a session of their own.
pub fn ask_to_end(handle: &Handle) {
    let live = live();
    if let Some(root) = handle
        .root()
        .filter(|root| live.contains_key(&root.as_raw()))
    {
        send(-root.as_raw(), libc::SIGTERM);
    }
}

/// Kills what is left in the process group of a root that has ended: all that is known of a tree that cannot be traced.
pub(super) fn kill_session(root: Pid) {
    send(-root.as_raw(), libc::SIGKILL);
}

/// Kills a child that is no tree.
pub(in super::super) fn send_kill(child: Pid) {
    send(child.as_raw(), libc::SIGKILL);
}

pub(super) fn kill_tree(root: Pid, signal: i32) {
    for tid in live().get(&root.as_raw()).into_iter().flatten() {
        send(*tid, signal);
    }
}

/// A thread that is gone already is what was wanted.
pub(super) fn send(tid: i32, signal: i32) {
    if let Ok(signal) = Signal::try_from(signal) {
        let _ = signal::kill(Pid::from_raw(tid), signal);
    }
}

/// Keeps a tree in [`LIVE`] for as long as it is followed.
pub(super) struct Registered(Pid, Handle);

impl Registered {
    pub(super) fn new(root: Pid, handle: &Handle) -> Registered {
        live().insert(root.as_raw(), BTreeSet::from([root.as_raw()]));
        STARTED.fetch_add(1, Ordering::SeqCst);
        handle.set(Some(root));
        Registered(root, handle.clone())
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut live = live();
        live.remove(&self.0.as_raw());
        self.1.set(None);
    }
}

/// Kills a tree when its time is up.
pub(super) struct Watchdog {
    stop: Sender<()>,
    barked: Arc<AtomicBool>,
}

impl Watchdog {
    pub(super) fn start(root: Pid, limit: Duration) -> Watchdog {
        let (stop, stopped) = channel::<()>();
        let barked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&barked);
        std::thread::spawn(move || {
            if stopped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                flag.store(true, Ordering::SeqCst);
                kill_tree(root, libc::SIGTERM);
                while stopped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    kill_tree(root, libc::SIGKILL);
                }
            }
        });
        Watchdog { stop, barked }
    }

    /// Whether it had to act.
    pub(super) fn stop(self) -> bool {
        let _ = self.stop.send(());
        self.barked.load(Ordering::SeqCst)
    }
}
