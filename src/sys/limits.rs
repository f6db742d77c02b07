//! The limit of the stack (getrlimit(2)): threads get stacks of its size, and memory is mapped below the room that it leaves.

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// No limit.
pub const NONE: u64 = libc::RLIM_INFINITY;

/// What a program's stack may grow to, in bytes, and what the program may raise that to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackLimit {
    /// What holds.
    pub soft: u64,
    /// The most that it can be.
    pub hard: u64,
}

impl StackLimit {
    /// Ours, and so that of the programs we start. None at all where the kernel does not say.
    pub fn ours() -> StackLimit {
        let (soft, hard) = getrlimit(Resource::RLIMIT_STACK).unwrap_or((NONE, NONE));
        StackLimit { soft, hard }
    }

    /// That of another process, which may have changed its own; ours where we may not ask for it.
    pub fn of(process: Pid) -> StackLimit {
        let mut limit = libc::rlimit {
            rlim_cur: NONE,
            rlim_max: NONE,
        };
        let (nothing, old) = (std::ptr::null(), &raw mut limit);
        // SAFETY: sets nothing, and writes one `rlimit` to a live local of that type.
        let answer = unsafe { libc::prlimit(process.as_raw(), libc::RLIMIT_STACK, nothing, old) };
        match answer {
            0 => StackLimit {
                soft: limit.rlim_cur,
                hard: limit.rlim_max,
            },
            _ => StackLimit::ours(),
        }
    }
}

/// Sets what holds in this process, as far as it may. Async-signal-safe: system calls alone.
pub fn set_stack(soft: u64) {
    let hard = StackLimit::ours().hard;
    let _ = setrlimit(Resource::RLIMIT_STACK, soft.min(hard), hard);
}
