//! Timers that run in real time: where threads run freely, and files that we cannot get at. The clock of a process is then at
//! least where they were due.

use std::io;

use nix::libc::{self, user_regs_struct};

use super::super::alarms::{Setting, Which};
use super::super::clock::since_beginning;
use super::super::waits::{Argument, MOMENT, nanoseconds};
use super::asks::{NS_PER_SECOND, Waiting, timespec, words};
use super::{Engine, Expected, timers, unknown};
use crate::dbi::layout::{EPOCH_NS, slot};
use crate::sys::Pid;
use crate::sys::ptrace::Stopped;
use crate::sys::tree::Call;

impl Engine {
    /// setitimer and alarm.
    pub(super) fn set_interval_timer(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        registers: &user_regs_struct,
    ) -> io::Result<()> {
        let now = self.correct_clock(process)?;
        let alarm = registers.orig_rax as libc::c_long == libc::SYS_alarm;
        let (ns, every) = if alarm {
            ((registers.rdi as u32 as u64) * NS_PER_SECOND, 0)
        } else {
            let value = |at| words(stopped, registers.rsi + at).and_then(|w| nanoseconds(w, 1000));
            // Only that of real time fires by itself.
            if registers.rdi != 0 || registers.rsi == 0 {
                return Ok(());
            }
            (value(16).unwrap_or(0), value(0).unwrap_or(0))
        };
        self.timer_is_set(process, Which::Interval(0), now, ns, every)
    }

    fn timer_is_set(
        &mut self,
        process: Pid,
        which: Which,
        now: u64,
        ns: u64,
        every: u64,
    ) -> io::Result<()> {
        let known = self.processes.get_mut(&process).ok_or_else(unknown)?;
        known.clock.set_timer(which, now, ns, every);
        let now = self.correct_clock(process)?;
        // The next reading may be after it has fired.
        let area = self.clock_area(process)?;
        area.slots().store_u64(slot::LIMIT.into(), now);
        Ok(())
    }

    /// timer_settime and timerfd_settime: a moment becomes the time that is left until then.
    pub(super) fn set_real_timer(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        registers: &user_regs_struct,
    ) -> io::Result<Call> {
        let now = self.time_of(process);
        let file = registers.orig_rax as libc::c_long == libc::SYS_timerfd_settime;
        let Some(Setting { left, every }) = timers::read(stopped, registers.rdx, 1) else {
            return Ok(Call::Make);
        };
        let absolute = registers.rsi & MOMENT != 0 && left > 0;
        let ns = if absolute {
            until(left, now).max(1)
        } else {
            left
        };
        let which = match file {
            true => Which::File(registers.rdi as i32),
            false => Which::Posix(registers.rdi as i32),
        };
        self.timer_is_set(process, which, now, ns, every)?;
        if !absolute {
            return Ok(Call::Make);
        }
        let waiting = Waiting::for_nothing((Argument::Third, registers.rdx), registers.rsi);
        let relative = user_regs_struct {
            rsi: registers.rsi & !MOMENT,
            ..*registers
        };
        let new = [timespec(every), timespec(ns)].concat();
        self.replace_moment(stopped, relative, Argument::Third, &new)?;
        self.thread(stopped.tid())?.expected = Expected::Wait(waiting);
        Ok(Call::ReportReturn)
    }
}

/// The moment of a timer, whose clock is not known: one of the time of day is far from all others.
pub(super) fn until(moment: u64, now: u64) -> u64 {
    let of_day = moment >= EPOCH_NS / 2;
    let clock = if of_day {
        libc::CLOCK_REALTIME
    } else {
        libc::CLOCK_MONOTONIC
    };
    since_beginning(clock, moment).map_or(0, |moment| moment.saturating_sub(now))
}
