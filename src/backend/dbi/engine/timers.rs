//! Timers that fire by the clock of the tree: the calls that set them and ask for them, and what happens when they fire.
//!
//! The kernel is not told of those that send signals: we send these. A file that a timer belongs to is the kernel's, which is
//! told that it never fires; we say that it has.

use std::collections::HashMap;
use std::io;

use nix::libc::{self, user_regs_struct};

use super::super::alarms::{Alarms, Effect, Fired, Setting, Signal, Which};
use super::super::clock;
use super::super::waits::{Argument, MOMENT, nanoseconds};
use super::asks::{NS_PER_SECOND, pair, timespec, words};
use super::host::done;
use super::real_timers::until;
use super::{Engine, Expected, unknown};
use crate::sys::Pid;
use crate::sys::image;
use crate::sys::ptrace::Stopped;
use crate::sys::timers::{TimerFile, TimerSignal};
use crate::sys::tree::Call;

/// The signals of setitimer(2), by the timer's number: real time, the process's own, and with what the kernel does for it.
/// All three are the same clock.
pub(super) const INTERVAL_SIGNALS: [i32; 3] = [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF];

/// A timer that timer_create(2) has made.
#[derive(Clone, Copy, Debug)]
struct Made {
    clock: i32,
    effect: Effect,
}

/// What is to be done when a call has returned that makes or sets a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerCall {
    /// timer_create: the id is at this address. No value was given where that is to be the id.
    Create {
        clock: i32,
        effect: Effect,
        value_is_id: bool,
        id: u64,
    },
    /// timerfd_settime: the descriptor, what it is set to, where that was read and where it was asked what it was before.
    SetFile {
        file: i32,
        setting: Setting,
        new: u64,
        old: u64,
    },
}

/// The timers of a tree.
#[derive(Debug, Default)]
pub(super) struct Timers {
    running: Alarms,
    made: HashMap<(Pid, i32), Made>,
}

impl Timers {
    /// A process executes another program.
    pub(super) fn executed(&mut self, process: Pid) {
        self.running.executed(process);
        self.made.retain(|(of, _), _| *of != process);
    }

    /// A process has ended.
    pub(super) fn ended(&mut self, process: Pid) {
        self.running.ended(process);
        self.made.retain(|(of, _), _| *of != process);
    }
}

impl Engine {
    /// A system call that has to do with timers; none if it is no such call, or the kernel is to make it.
    pub(super) fn timer_call(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        r: &user_regs_struct,
    ) -> io::Result<Option<Call>> {
        if !self.machine.turns {
            return Ok(None);
        }
        match r.orig_rax as libc::c_long {
            libc::SYS_alarm => self.set_alarm(process, stopped, r),
            libc::SYS_setitimer => self.set_interval(process, stopped, r),
            libc::SYS_getitimer => self.get_interval(process, stopped, r),
            libc::SYS_timer_create => self.create_timer(stopped, r),
            libc::SYS_timer_settime => self.set_posix(process, stopped, r),
            libc::SYS_timer_gettime => self.get_posix(process, stopped, r),
            libc::SYS_timer_delete => {
                let which = Which::Posix(r.rdi as i32);
                self.set_timer(process, which, Setting::default(), Effect::None)?;
                self.timers.made.remove(&(process, r.rdi as i32));
                Ok(None)
            }
            libc::SYS_timerfd_settime => self.set_file(process, stopped, r),
            libc::SYS_timerfd_gettime => self.get_file(process, stopped, r),
            _ => Ok(None),
        }
    }

    /// Sets a timer; what it was set to.
    fn set_timer(
        &mut self,
        process: Pid,
        which: Which,
        setting: Setting,
        effect: Effect,
    ) -> io::Result<Setting> {
        let now = self.exact_time(process)?;
        let running = &mut self.timers.running;
        let before = running.set(process, which, now, setting, effect);
        if running.first().is_some() {
            self.begin_turns(process);
        }
        Ok(before)
    }

    fn timer(&mut self, process: Pid, which: Which) -> io::Result<Setting> {
        let now = self.exact_time(process)?;
        Ok(self.timers.running.setting(process, which, now))
    }

    fn set_alarm(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        r: &user_regs_struct,
    ) -> io::Result<Option<Call>> {
        let setting = Setting {
            left: (r.rdi as u32 as u64) * NS_PER_SECOND,
            every: 0,
        };
        let before = self.set_timer(process, Which::Interval(0), setting, interval(0))?;
        done(stopped, r, rounded(before.left)).map(Some)
    }

    fn set_interval(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        r: &user_regs_struct,
    ) -> io::Result<Option<Call>> {
        let new = match r.rsi {
            0 => Some(Setting::default()),
            address => read(stopped, address, 1000),
        };
        let (Some(new), true) = (new, is_interval(r.rdi)) else {
            return Ok(None);
        };
        let before = self.set_timer(process, Which::Interval(r.rdi), new, interval(r.rdi))?;
        tell(stopped, r, r.rdx, before, 1000).map(Some)
    }

    fn get_interval(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        r: &user_regs_struct,
    ) -> io::Result<Option<Call>> {
        if !is_interval(r.rdi) || r.rsi == 0 {
            return Ok(None);
        }
        let setting = self.timer(process, Which::Interval(r.rdi))?;
        tell(stopped, r, r.rsi, setting, 1000).map(Some)
    }

    /// The kernel gives it an id, and checks what it is asked for.
    fn create_timer(
        &mut self,
        stopped: &Stopped,
        r: &user_regs_struct,
    ) -> io::Result<Option<Call>> {
        let clock = r.rdi as i32;
        let effect = match r.rsi {
            0 => Some(Effect::Signal(Signal {
                number: libc::SIGALRM,
                value: 0,
                thread: None,
            })),
            address => effect_at(stopped, address),
        };
        let (Some(effect), Some(_)) = (effect, clock::shown(clock, 0)) else {
            return Ok(None);
        };
        self.thread(stopped.tid())?.expected = Expected::Timer(TimerCall::Create {
            clock,
            effect,
            value_is_id: r.rsi == 0,
            id: r.rdx,
        });
        Ok(Some(Call::ReportReturn))
    }

    fn set_posix(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        r: &user_regs_struct,
    ) -> io::Result<Option<Call>> {
        let made = self.timers.made.get(&(process, r.rdi as i32)).copied();
        let (Some(made), Some(mut new)) = (made, read(stopped, r.rdx, 1)) else {
            return Ok(None);
        };
        if r.rsi & MOMENT != 0 && new.left > 0 {
            let now = self.exact_time(process)?;
            let moment = clock::since_beginning(made.clock, new.left).unwrap_or(0);
            new.left = moment.saturating_sub(now).max(1);
        }
        let which = Which::Posix(r.rdi as i32);
        let before = self.set_timer(process, which, new, made.effect)?;
        tell(stopped, r, r.r10, before, 1).map(Some)
    }

    fn get_posix(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        r: &user_regs_struct,
    ) -> io::Result<Option<Call>> {
        if !self.timers.made.contains_key(&(process, r.rdi as i32)) || r.rsi == 0 {
            return Ok(None);
        }
        let setting = self.timer(process, Which::Posix(r.rdi as i32))?;
        tell(stopped, r, r.rsi, setting, 1).map(Some)
    }

    /// The kernel is told to stop it, which makes it forget how often it has fired. Where we cannot get at the file it fires
    /// in real time.
    fn set_file(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        r: &user_regs_struct,
    ) -> io::Result<Option<Call>> {
        let file = r.rdi as i32;
        let Some(mut setting) = read(stopped, r.rdx, 1) else {
            return Ok(None);
        };
        if !matches!(TimerFile::of(process, file), Ok(Some(_))) {
            return Ok(None);
        }
        if r.rsi & MOMENT != 0 && setting.left > 0 {
            setting.left = until(setting.left, self.exact_time(process)?).max(1);
        }
        let never = [timespec(0), timespec(0)].concat();
        self.replace_moment(stopped, *r, Argument::Third, &never)?;
        self.thread(stopped.tid())?.expected = Expected::Timer(TimerCall::SetFile {
            file,
            setting,
            new: r.rdx,
            old: r.r10,
        });
        Ok(Some(Call::ReportReturn))
    }

    fn get_file(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        r: &user_regs_struct,
    ) -> io::Result<Option<Call>> {
        let setting = self.timer(process, Which::File(r.rdi as i32))?;
        if setting == Setting::default() || r.rsi == 0 {
            return Ok(None);
        }
        tell(stopped, r, r.rsi, setting, 1).map(Some)
    }

    /// A call has returned that makes or sets a timer.
    pub(super) fn timer_called(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        call: TimerCall,
    ) -> io::Result<()> {
        let registers = stopped.registers()?;
        let worked = registers.rax == 0;
        match call {
            TimerCall::Create {
                clock,
                effect,
                value_is_id,
                id,
            } => {
                let mut bytes = [0; 4];
                if worked && stopped.read(id, &mut bytes)? == bytes.len() {
                    let id = i32::from_ne_bytes(bytes);
                    let effect = match effect {
                        Effect::Signal(signal) if value_is_id => Effect::Signal(Signal {
                            value: id as u64,
                            ..signal
                        }),
                        effect => effect,
                    };
                    self.timers
                        .made
                        .insert((process, id), Made { clock, effect });
                }
                Ok(())
            }
            TimerCall::SetFile {
                file,
                setting,
                new,
                old,
            } => {
                stopped.set_registers(user_regs_struct {
                    rdx: new,
                    ..registers
                })?;
                if !worked {
                    return Ok(());
                }
                let before = self.set_timer(process, Which::File(file), setting, Effect::File)?;
                if old != 0 {
                    // The kernel has written there.
                    stopped.write(old, &bytes_of(before, 1))?;
                }
                Ok(())
            }
        }
    }

    /// When the first timer fires.
    pub(super) fn first_timer(&self) -> Option<u64> {
        self.timers.running.first()
    }

    /// Has those timers fire that are due by `now`.
    pub(super) fn fire_timers(&mut self, now: u64) -> io::Result<()> {
        for fired in self.timers.running.fire(now) {
            if self.processes.contains_key(&fired.process) {
                self.time_is_at_least(fired.process, fired.due)?;
                self.fire(fired)?;
            }
        }
        Ok(())
    }

    fn fire(&mut self, fired: Fired) -> io::Result<()> {
        match fired.effect {
            Effect::None => Ok(()),
            Effect::File => match (fired.which, fired.times) {
                (Which::File(file), times) => match TimerFile::of(fired.process, file)? {
                    Some(file) => file.fire(times),
                    // It was closed.
                    None => Ok(()),
                },
                _ => Err(unknown()),
            },
            Effect::Signal(signal) => {
                let thread = match signal.thread {
                    Some(id) => self.thread_known_as(fired.process, id),
                    None => None,
                };
                let timer = match fired.which {
                    Which::Posix(id) => Some(id),
                    Which::Interval(_) | Which::File(_) => None,
                };
                let signal = TimerSignal {
                    number: signal.number,
                    timer,
                    value: signal.value,
                    thread,
                };
                signal.send(fired.process)
            }
        }
    }

    /// The thread of a process that has this id for itself.
    fn thread_known_as(&self, process: Pid, id: i32) -> Option<Pid> {
        let threads = self.threads.iter();
        let mut threads = threads.filter(|(_, thread)| thread.process == process);
        let is_it = |tid: Pid| image::own_id(tid).is_ok_and(|own| own.as_raw() == id);
        threads.find(|(tid, _)| is_it(**tid)).map(|(tid, _)| *tid)
    }
}

fn is_interval(which: u64) -> bool {
    which < INTERVAL_SIGNALS.len() as u64
}

/// What a timer of setitimer(2) does.
fn interval(which: u64) -> Effect {
    Effect::Signal(Signal {
        number: INTERVAL_SIGNALS[which as usize % INTERVAL_SIGNALS.len()],
        value: 0,
        thread: None,
    })
}

/// What a `struct sigevent` of the program's asks for (sigevent(7)); none where the kernel would refuse it, or does
/// something else.
fn effect_at(stopped: &Stopped, address: u64) -> Option<Effect> {
    let mut bytes = [0; 24];
    let whole = stopped.read(address, &mut bytes).ok()? == bytes.len();
    let word = |at: usize| bytes[at..at + 4].try_into().map_or(0, i32::from_ne_bytes);
    let signal = |thread| {
        Effect::Signal(Signal {
            number: word(8),
            value: bytes[..8].try_into().map_or(0, u64::from_ne_bytes),
            thread,
        })
    };
    match word(12) {
        _ if !whole => None,
        libc::SIGEV_NONE => Some(Effect::None),
        libc::SIGEV_SIGNAL => Some(signal(None)),
        libc::SIGEV_THREAD_ID => Some(signal(Some(word(16)))),
        _ => None,
    }
}

/// A `struct itimerval` or `itimerspec` of the program's, whose parts of a second are so many nanoseconds each; none where the
/// kernel would not take it.
pub(super) fn read(stopped: &Stopped, address: u64, part_ns: u64) -> Option<Setting> {
    let value = |at| nanoseconds(words(stopped, address.wrapping_add(at))?, part_ns);
    Some(Setting {
        every: value(0)?,
        left: value(16)?,
    })
}

/// The same to be written.
fn bytes_of(setting: Setting, part_ns: u64) -> Vec<u8> {
    let value = |ns: u64| pair(ns / NS_PER_SECOND, (ns % NS_PER_SECOND).div_ceil(part_ns));
    [value(setting.every), value(setting.left)].concat()
}

/// Answers a call with what a timer is, or was, set to.
fn tell(
    stopped: &Stopped,
    r: &user_regs_struct,
    address: u64,
    setting: Setting,
    part_ns: u64,
) -> io::Result<Call> {
    let written = address == 0 || stopped.write(address, &bytes_of(setting, part_ns)).is_ok();
    let result = if written { 0 } else { -i64::from(libc::EFAULT) };
    done(stopped, r, result as u64)
}

/// Seconds as alarm(2) tells them (kernel/time/itimer.c, `alarm_setitimer`): to the nearest, and none only when there is
/// nothing left.
fn rounded(ns: u64) -> u64 {
    let (seconds, rest) = (ns / NS_PER_SECOND, ns % NS_PER_SECOND);
    seconds + u64::from(rest >= NS_PER_SECOND / 2 || seconds == 0 && rest > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_told_in_seconds() {
        let told = [0, 1, 499_999_999, 1_499_999_999, 1_500_000_000].map(rounded);
        assert_eq!(told, [0, 1, 1, 1, 2]);
    }

    #[test]
    fn what_is_left_is_never_told_as_nothing() {
        let setting = Setting {
            left: 1,
            every: 2_000_001_000,
        };
        let bytes = bytes_of(setting, 1000);
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(words, [2, 1, 0, 1]);
    }
}
