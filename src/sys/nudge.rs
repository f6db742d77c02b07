//! Ending what this thread waits for, now and then: waitpid(2) has no time limit of its own.

use std::io;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;

/// The signal that does it: nobody sends it to us, and a program that we start ignores it as before (signal(7)).
const SIGNAL: Signal = Signal::SIGURG;

/// As long as it lives, what the thread that made it waits for in the kernel ends with EINTR from time to time.
#[derive(Debug)]
pub(super) struct Nudge {
    _timer: Timer,
}

impl Nudge {
    /// Each `period`.
    pub(super) fn each(period: Duration) -> io::Result<Nudge> {
        let handler = SigAction::new(
            SigHandler::Handler(do_nothing),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing at all, which is async-signal-safe.
        unsafe { sigaction(SIGNAL, &handler) }?;
        let this_thread = SigevNotify::SigevThreadId {
            signal: SIGNAL,
            thread_id: gettid().as_raw(),
            si_value: 0,
        };
        let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(this_thread))?;
        let each = Expiration::Interval(period.into());
        timer.set(each, TimerSetTimeFlags::empty())?;
        Ok(Nudge { _timer: timer })
    }
}

extern "C" fn do_nothing(_signal: libc::c_int) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn what_waits_for_ever_ends() {
        let _nudge = Nudge::each(Duration::from_millis(5)).unwrap();
        let start = Instant::now();
        // SAFETY: waits for a signal, and touches nothing.
        let answer = unsafe { libc::pause() };
        assert_eq!(answer, -1);
        assert_eq!(
            io::Error::last_os_error().kind(),
            io::ErrorKind::Interrupted
        );
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
