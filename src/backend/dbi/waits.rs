//! System calls that wait for a time: for how long, and what they return when it has passed.

use nix::libc::{self, c_long, user_regs_struct};

use super::clock::since_beginning;

/// An argument of a system call, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// rdi.
    First,
    /// rdx.
    Third,
    /// r10.
    Fourth,
    /// r8.
    Fifth,
}

impl Argument {
    /// Its value.
    pub fn of(self, registers: &user_regs_struct) -> u64 {
        match self {
            Argument::First => registers.rdi,
            Argument::Third => registers.rdx,
            Argument::Fourth => registers.r10,
            Argument::Fifth => registers.r8,
        }
    }

    /// Replaces it.
    pub fn set(self, registers: &mut user_regs_struct, value: u64) {
        *match self {
            Argument::First => &mut registers.rdi,
            Argument::Third => &mut registers.rdx,
            Argument::Fourth => &mut registers.r10,
            Argument::Fifth => &mut registers.r8,
        } = value;
    }
}

/// How a call says for how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// So many milliseconds.
    Milliseconds(i32),
    /// A `timespec` of seconds and nanoseconds at this address.
    Timespec(u64),
    /// A `timeval` of seconds and microseconds.
    Timeval(u64),
    /// The moment in a `timespec` at this address, of this clock.
    Moment {
        /// Where.
        address: u64,
        /// Of which clock.
        clock: i32,
    },
}

/// A call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For how long.
    pub until: Until,
    /// Which argument says so.
    pub argument: Argument,
    /// What it returns when the time has passed.
    pub passed: i64,
    /// Whether the kernel writes the time that is left where it was told it.
    pub tells_rest: bool,
}

/// Operations of futex(2) (linux/futex.h).
mod futex {
    pub const WAIT: u64 = 0;
    pub const LOCK_PI: u64 = 6;
    pub const WAIT_BITSET: u64 = 9;
    pub const WAIT_REQUEUE_PI: u64 = 11;
    pub const LOCK_PI2: u64 = 13;
    pub const OPERATION: u64 = 0x7f;
    pub const CLOCK_REALTIME: u64 = 256;
}

/// TIMER_ABSTIME of clock_nanosleep(2) and the timers.
pub const MOMENT: u64 = 1;

impl Wait {
    /// What a call waits for; none where it does not, or for ever.
    pub fn of(number: c_long, r: &user_regs_struct) -> Option<Wait> {
        use Argument::{Fifth, First, Fourth, Third};
        let wait = |argument, until, passed: i32| Wait {
            until,
            argument,
            passed: -i64::from(passed),
            tells_rest: false,
        };
        let milliseconds = |argument: Argument| {
            let value = argument.of(r) as i32;
            (value > 0).then(|| wait(argument, Until::Milliseconds(value), 0))
        };
        let timespec = |argument: Argument, passed| {
            let address = argument.of(r);
            (address != 0).then(|| wait(argument, Until::Timespec(address), passed))
        };
        let rest = |wait: Wait| Wait {
            tells_rest: true,
            ..wait
        };
        let moment = |clock, argument: Argument, passed| {
            let address = argument.of(r);
            (address != 0).then(|| wait(argument, Until::Moment { address, clock }, passed))
        };
        match number {
            libc::SYS_nanosleep => timespec(First, 0),
            libc::SYS_clock_nanosleep if r.rsi & MOMENT == 0 => timespec(Third, 0),
            libc::SYS_clock_nanosleep => moment(r.rdi as i32, Third, 0),
            libc::SYS_poll => milliseconds(Third),
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait => milliseconds(Fourth),
            libc::SYS_ppoll => timespec(Third, 0).map(rest),
            libc::SYS_pselect6 => timespec(Fifth, 0).map(rest),
            libc::SYS_epoll_pwait2 => timespec(Fourth, 0),
            libc::SYS_select => (r.r8 != 0).then(|| rest(wait(Fifth, Until::Timeval(r.r8), 0))),
            libc::SYS_rt_sigtimedwait => timespec(Third, libc::EAGAIN),
            libc::SYS_semtimedop => timespec(Fourth, libc::EAGAIN),
            libc::SYS_mq_timedsend | libc::SYS_mq_timedreceive => {
                moment(libc::CLOCK_REALTIME, Fifth, libc::ETIMEDOUT)
            }
            libc::SYS_futex => match r.rsi & futex::OPERATION {
                futex::WAIT => timespec(Fourth, libc::ETIMEDOUT),
                futex::LOCK_PI => moment(libc::CLOCK_REALTIME, Fourth, libc::ETIMEDOUT),
                futex::WAIT_BITSET | futex::WAIT_REQUEUE_PI | futex::LOCK_PI2 => {
                    let of_day = r.rsi & futex::CLOCK_REALTIME != 0;
                    let clock = if of_day {
                        libc::CLOCK_REALTIME
                    } else {
                        libc::CLOCK_MONOTONIC
                    };
                    moment(clock, Fourth, libc::ETIMEDOUT)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

impl Wait {
    /// Makes the call `r` wait without a limit. One that does nothing but sleep becomes `pause`.
    pub fn without_limit(&self, r: &mut user_regs_struct) {
        match (r.orig_rax as c_long, self.until) {
            (libc::SYS_nanosleep | libc::SYS_clock_nanosleep, _) => {
                r.orig_rax = libc::SYS_pause as u64;
            }
            (_, Until::Milliseconds(_)) => self.argument.set(r, u64::from(u32::MAX)),
            (_, Until::Timespec(_) | Until::Timeval(_) | Until::Moment { .. }) => {
                self.argument.set(r, 0);
            }
        }
    }
}

/// Nanoseconds of two words: seconds, and parts of a second of so many nanoseconds each; none where the kernel would not
/// take them.
pub fn nanoseconds(words: [i64; 2], part_ns: u64) -> Option<u64> {
    let seconds = u64::try_from(words[0]).ok()?;
    let parts = u64::try_from(words[1]).ok()?.checked_mul(part_ns)?;
    (parts < 1_000_000_000).then(|| seconds.saturating_mul(1_000_000_000).saturating_add(parts))
}

/// For how long a moment of a virtual clock is still to come at `now`.
pub fn to_come(clock: i32, moment: u64, now: u64) -> Option<u64> {
    Some(since_beginning(clock, moment)?.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers() -> user_regs_struct {
        user_regs_struct {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rax: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            orig_rax: 0,
            rip: 0,
            cs: 0,
            eflags: 0,
            rsp: 0,
            ss: 0,
            fs_base: 0,
            gs_base: 0,
            ds: 0,
            es: 0,
            fs: 0,
            gs: 0,
        }
    }

    #[test]
    fn a_call_that_waits_for_ever_or_not_at_all_is_none() {
        let mut r = registers();
        r.rdx = u64::from(u32::MAX);
        assert_eq!(Wait::of(libc::SYS_poll, &r), None);
        r.rdx = 0;
        assert_eq!(Wait::of(libc::SYS_poll, &r), None);
        assert_eq!(Wait::of(libc::SYS_futex, &r), None);
        r.rsi = 1;
        r.r10 = 3;
        assert_eq!(Wait::of(libc::SYS_futex, &r), None, "FUTEX_WAKE");
    }

    #[test]
    fn a_lock_waits_for_a_moment_of_its_clock() {
        let mut r = registers();
        (r.rsi, r.r10) = (9 | 128 | 256, 0x1000);
        let wait = Wait::of(libc::SYS_futex, &r).unwrap();
        let (address, clock) = (0x1000, libc::CLOCK_REALTIME);
        assert_eq!(wait.until, Until::Moment { address, clock });
        assert_eq!((wait.argument, wait.passed), (Argument::Fourth, -110));
    }

    #[test]
    fn times_that_the_kernel_refuses_are_none() {
        assert_eq!(nanoseconds([1, 5], 1), Some(1_000_000_005));
        assert_eq!(nanoseconds([1, 5], 1000), Some(1_000_005_000));
        assert_eq!(nanoseconds([1, 1_000_000_000], 1), None);
        assert_eq!(nanoseconds([-1, 0], 1), None);
    }
}
