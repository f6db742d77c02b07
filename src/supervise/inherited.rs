//! What programs would inherit from the shell, service or CI runner that started us: which signals are ignored and blocked,
//! and how large a stack may grow.
//!
//! In a suite all of it is the same everywhere. A program that a user counts keeps what the user has set on purpose: what
//! nohup(1) and a shell's `&` ignore, and the stack that `ulimit -s` gives. Then it is named.

use super::job::Job;
use crate::model::{Pin, Pinning};
use crate::sys::limits::{self, StackLimit};
use crate::sys::signals::{self, Begins};

/// The limit of a stack in bytes that Linux begins with (`_STK_LIM`, include/uapi/linux/resource.h), and that nearly every
/// distribution leaves.
const STACK: u64 = 8 << 20;

/// The signals that a job's program begins with.
pub(super) fn signals(job: &Job) -> Begins {
    match (job.pin, job.own_session) {
        (false, _) => Begins::AsWe,
        (true, false) => Begins::ForTheUser,
        (true, true) => Begins::Afresh,
    }
}

/// The limit of its stack, where that is not ours.
pub(super) fn stack_limit(job: &Job) -> Option<u64> {
    (job.pin && job.own_session).then_some(STACK)
}

/// Records what of it is the same everywhere, for a pinned job.
pub(super) fn note(job: &Job, pinning: &mut Pinning) {
    let left = match signals(job) {
        Begins::Afresh => Vec::new(),
        Begins::AsWe | Begins::ForTheUser => signals::left_ignored(),
    };
    if left.is_empty() {
        pinning.pinned(Pin::Signals);
    } else {
        let names: Vec<_> = left.into_iter().map(|signal| signal.as_str()).collect();
        let names = names.join(", ");
        pinning.free(
            Pin::Signals,
            format!("{names} ignored, as nohup and a shell's `&` have it"),
        );
    }
    let limit = StackLimit::ours();
    let holds = stack_limit(job).map_or(limit.soft, |fixed| limit.hard.min(fixed));
    match holds {
        STACK => pinning.pinned(Pin::StackLimit),
        limits::NONE => pinning.free(
            Pin::StackLimit,
            "there is none, where 8 MiB are usual (`ulimit -s 8192`)",
        ),
        bytes => pinning.free(
            Pin::StackLimit,
            format!(
                "{} KiB, where 8192 are usual (`ulimit -s 8192`)",
                bytes >> 10
            ),
        ),
    }
}
