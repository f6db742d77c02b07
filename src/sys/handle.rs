//! Reaching a tree from outside of the thread that follows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::unistd::Pid;

/// Names the tree that a launch starts, before it starts and after it has ended.
#[derive(Clone, Debug, Default)]
pub struct Handle(Arc<AtomicI32>);

impl Handle {
    /// The root of the tree while it runs.
    pub fn root(&self) -> Option<Pid> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            root => Some(Pid::from_raw(root)),
        }
    }

    pub(super) fn set(&self, root: Option<Pid>) {
        self.0.store(root.map_or(0, Pid::as_raw), Ordering::SeqCst);
    }
}
