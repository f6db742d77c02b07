//! The timers of a tree that fire by its clock: pure arithmetic over nanoseconds.

use std::collections::BTreeMap;

use crate::sys::Pid;

/// Which timer of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// Of setitimer(2), by its number; alarm(2) is the first.
    Interval(u64),
    /// Of timer_create(2), by its id.
    Posix(i32),
    /// Of timerfd_create(2), by its descriptor.
    File(i32),
}

/// What happens when a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: somebody looks at it.
    None,
    /// The process gets a signal.
    Signal(Signal),
    /// A file can be read.
    File,
}

/// A signal that a timer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// What goes with it (sigevent(7), `sigev_value`).
    pub value: u64,
    /// The thread that gets it, by the id that its program knows; none: the process.
    pub thread: Option<i32>,
}

/// For how long a timer runs, and then again and again if that is not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Nanoseconds until it fires; 0: it does not run.
    pub left: u64,
    /// Nanoseconds from one time to the next.
    pub every: u64,
}

/// A timer that runs.
#[derive(Clone, Copy, Debug)]
struct Alarm {
    due: u64,
    every: u64,
    effect: Effect,
}

/// One that has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Of which process.
    pub process: Pid,
    /// Which.
    pub which: Which,
    /// When it was due, the last time.
    pub due: u64,
    /// How often.
    pub times: u64,
    /// What happens.
    pub effect: Effect,
}

/// The timers that run.
#[derive(Clone, Debug, Default)]
pub struct Alarms(BTreeMap<(Pid, Which), Alarm>);

impl Alarms {
    /// Sets a timer at `now`; what it was set to.
    pub fn set(
        &mut self,
        process: Pid,
        which: Which,
        now: u64,
        setting: Setting,
        effect: Effect,
    ) -> Setting {
        let before = self.setting(process, which, now);
        self.0.remove(&(process, which));
        if setting.left > 0 {
            let alarm = Alarm {
                due: now.saturating_add(setting.left),
                every: setting.every,
                effect,
            };
            self.0.insert((process, which), alarm);
        }
        before
    }

    /// What a timer is set to; one that is due and has not fired yet has the least there is left.
    pub fn setting(&self, process: Pid, which: Which, now: u64) -> Setting {
        let alarm = self.0.get(&(process, which));
        alarm.map_or(Setting::default(), |alarm| Setting {
            left: alarm.due.saturating_sub(now).max(1),
            every: alarm.every,
        })
    }

    /// When the first fires.
    pub fn first(&self) -> Option<u64> {
        let felt = self.0.values().filter(|alarm| alarm.effect != Effect::None);
        felt.map(|alarm| alarm.due).min()
    }

    /// Those that are due by `now`, the first of them first.
    pub fn fire(&mut self, now: u64) -> Vec<Fired> {
        let mut all = Vec::new();
        self.0.retain(|(process, which), alarm| {
            let Some(late) = now.checked_sub(alarm.due) else {
                return true;
            };
            let more = late.checked_div(alarm.every).unwrap_or(0);
            let last = alarm.due + more * alarm.every;
            all.push(Fired {
                process: *process,
                which: *which,
                due: last,
                times: more + 1,
                effect: alarm.effect,
            });
            alarm.due = last.saturating_add(alarm.every);
            alarm.every > 0
        });
        all.sort_by_key(|fired| fired.due);
        all
    }

    /// A process executes another program (execve(2)), which has no timers of timer_create(2).
    pub fn executed(&mut self, process: Pid) {
        self.0
            .retain(|(of, which), _| *of != process || !matches!(which, Which::Posix(_)));
    }

    /// A process has ended.
    pub fn ended(&mut self, process: Pid) {
        self.0.retain(|(of, _), _| *of != process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: Pid = Pid::from_raw(7);
    const SIGNAL: Effect = Effect::Signal(Signal {
        number: 14,
        value: 0,
        thread: None,
    });

    fn set(alarms: &mut Alarms, which: u64, now: u64, left: u64, every: u64) -> Setting {
        let setting = Setting { left, every };
        alarms.set(PROCESS, Which::Interval(which), now, setting, SIGNAL)
    }

    #[test]
    fn a_timer_fires_once_and_an_interval_again_and_again() {
        let mut alarms = Alarms::default();
        set(&mut alarms, 0, 100, 50, 0);
        set(&mut alarms, 1, 100, 20, 15);
        assert_eq!(alarms.first(), Some(120));
        assert_eq!(alarms.fire(119), []);
        let fired = |alarms: &mut Alarms, now| -> Vec<(Which, u64, u64)> {
            let all = alarms.fire(now).into_iter();
            all.map(|one| (one.which, one.due, one.times)).collect()
        };
        assert_eq!(
            fired(&mut alarms, 151),
            [(Which::Interval(0), 150, 1), (Which::Interval(1), 150, 3)]
        );
        assert_eq!(alarms.first(), Some(165));
    }

    #[test]
    fn whoever_asks_is_told_what_is_left() {
        let mut alarms = Alarms::default();
        assert_eq!(set(&mut alarms, 0, 0, 100, 7), Setting::default());
        assert_eq!(
            set(&mut alarms, 0, 40, 0, 0),
            Setting { left: 60, every: 7 }
        );
        assert_eq!(alarms.first(), None);
    }

    #[test]
    fn timers_by_id_do_not_outlive_a_program_and_none_a_process() {
        let mut alarms = Alarms::default();
        for which in [Which::Interval(0), Which::Posix(0), Which::File(3)] {
            let setting = Setting { left: 9, every: 0 };
            alarms.set(PROCESS, which, 0, setting, SIGNAL);
        }
        alarms.executed(PROCESS);
        assert_eq!(alarms.fire(9).len(), 2);
        set(&mut alarms, 0, 0, 1, 0);
        alarms.ended(PROCESS);
        assert_eq!(alarms.first(), None);
    }
}
