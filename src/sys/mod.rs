//! Where the kernel is touched: every `unsafe` of this program, each with its proof.
//!
//! [`spawn`] starts a program exactly as asked; [`ptrace`] is the tracer's view of one stopped thread,
//! as types; [`tree`] follows everything that descends from it and tells a [`tree::Watcher`].
//! Nothing here decides what a count means: that is the backends' work.

pub mod answer;
pub mod attempts;
mod files;
#[cfg(target_arch = "x86_64")]
pub mod hand_over;
pub mod handle;
pub mod heap;
pub mod image;
#[cfg(target_arch = "x86_64")]
pub mod inject;
pub mod limits;
pub mod machine;
pub mod mapped;
mod nudge;
pub mod perf;
pub mod ptrace;
pub mod random;
mod rest;
pub mod sandbox;
pub mod seccomp;
pub mod shared;
pub mod signals;
pub mod spawn;
pub mod timers;
pub mod tree;
pub mod unread;
pub mod waiting;

pub use nix::unistd::Pid;
