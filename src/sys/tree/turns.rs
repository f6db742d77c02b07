//! One thread of a process at a time, so that its threads do the same in every run.
//!
//! A thread has its turn until it waits for something in the kernel, or says that another may go on. Before the next is
//! chosen, everything that the last one has set off has happened: each thread that is in the kernel sleeps, or has come
//! back from there and holds still. Who comes back takes its place behind those that are ready, in the order in which they
//! went in. So the order follows from what the threads do, and from nothing else.
//!
//! What comes from outside (another process, a server, a signal) comes when it comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use nix::libc;
use nix::unistd::Pid;

use super::Watcher;
use super::asleep::Sleeper;
use crate::sys::image;
use crate::sys::nudge::Nudge;
use crate::sys::ptrace::{Pace, Stopped};

/// Calls in a row that a thread may make in its turn.
const MOST_CALLS: u32 = 256;

/// Turns after which those are asked for whose time is over, though others are ready.
const TURNS_BETWEEN_LOOKS: u32 = 8;

/// Threads of a process whose files of /proc are kept open, so that a program of thousands leaves us some.
const MOST_SLEEPERS: usize = 64;

/// The CPU time that a thread may take in its turn while others are ready, before it is interrupted wherever it stands. Far
/// more compute so long without a system call than wait in a loop that nobody can tell from work.
const PATIENCE: Duration = Duration::from_secs(20);

/// The same for one that goes round in one place: few compute so, and many wait.
const PATIENCE_IN_PLACE: Duration = Duration::from_secs(2);

/// The most pieces of code of a loop that waits: what it does meanwhile, and what it looks at.
const PIECES_IN_PLACE: usize = 8;

/// How often is looked for a thread that takes so much.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A thread that holds still, and how it will go on.
#[derive(Debug)]
struct Parked {
    stopped: Stopped,
    pace: Pace,
    signal: Option<i32>,
}

impl Parked {
    /// Whether it was killed meanwhile: then a report of its end is coming, which is not to be missed.
    fn ends(&self) -> bool {
        match self.stopped.event() {
            Ok(event) => event == libc::PTRACE_EVENT_EXIT,
            Err(_) => true,
        }
    }
}

/// A thread that is in the kernel.
#[derive(Clone, Copy, Debug)]
struct Inside {
    tid: Pid,
    /// When its time is over, by the clock of its process.
    over: Option<u64>,
    /// Whether it was told so.
    told: bool,
    /// Whether job control has stopped it.
    listens: bool,
}

/// What the tree does until something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Waits.
    Wait,
    /// Waits, but not longer than this.
    Until(Instant),
    /// Looks again at once.
    Look,
}

impl Next {
    /// Both.
    fn and(self, other: Next) -> Next {
        match (self, other) {
            (Next::Look, _) | (_, Next::Look) => Next::Look,
            (Next::Until(one), Next::Until(another)) => Next::Until(one.min(another)),
            (Next::Wait, other) | (other, Next::Wait) => other,
        }
    }
}

/// The processes of a tree whose threads take turns.
#[derive(Debug)]
pub(super) struct Turns {
    processes: BTreeMap<Pid, Process>,
    /// So that a turn that takes too long is noticed; none where there are no turns.
    nudge: Option<Nudge>,
    /// Whether all turns have ended by what the threads did.
    pub(super) held: io::Result<()>,
}

/// The CPU time that a thread had taken.
#[derive(Clone, Copy, Debug)]
struct Used {
    /// When it was first looked at.
    at_first: Duration,
    /// When it was last found somewhere else than before.
    elsewhere: Duration,
    /// At the last look.
    last: Duration,
}

impl Used {
    /// At the first look.
    fn first(now: Duration) -> Used {
        Used {
            at_first: now,
            elsewhere: now,
            last: now,
        }
    }

    /// At a later look.
    fn then(self, now: Duration, in_place: bool) -> Used {
        Used {
            elsewhere: if in_place { self.elsewhere } else { now },
            last: now,
            ..self
        }
    }

    /// Whether it is another's turn.
    fn is_too_much(&self) -> bool {
        self.last.saturating_sub(self.at_first) >= PATIENCE
            || self.last.saturating_sub(self.elsewhere) >= PATIENCE_IN_PLACE
    }
}

/// One of them.
#[derive(Debug)]
struct Process {
    threads: BTreeSet<Pid>,
    sleepers: BTreeMap<Pid, Sleeper>,
    /// Whose turn it is.
    holder: Option<Pid>,
    /// Since when.
    since: Instant,
    /// What it had taken when it was looked at in its turn.
    used: Option<Used>,
    /// The calls it has made in its turn.
    calls: u32,
    /// Who has gone into the kernel last, by its number.
    last: Option<u64>,
    /// The number of who goes there next.
    number: u64,
    inside: BTreeMap<u64, Inside>,
    back: BTreeMap<u64, Parked>,
    ready: VecDeque<Parked>,
    ends: BTreeSet<Pid>,
    /// Whether nothing was done since all of it had happened that was set off before.
    settled: bool,
    /// Turns since somebody began to wait for a time, or all slept.
    turns: u32,
    /// If all sleep: when the first of those whose time is over is told so.
    idle_until: Option<Instant>,
}

impl Turns {
    pub(super) fn new() -> Turns {
        Turns {
            processes: BTreeMap::new(),
            nudge: None,
            held: Ok(()),
        }
    }

    /// Thread `maker` has made another in its process.
    pub(super) fn born(&mut self, process: Pid, maker: Pid, thread: Pid) -> io::Result<()> {
        if self.nudge.is_none() {
            self.nudge = Some(Nudge::each(LOOK_EVERY / 4)?);
        }
        let known = self.processes.entry(process);
        let known = known.or_insert_with(|| Process::of(maker));
        known.threads.insert(thread);
        // It may be known still from threads that have ended, and their ends are reported late or soon.
        known.calls = 0;
        Ok(())
    }

    /// Whether the threads of a process take turns.
    pub(super) fn are_taken(&self, process: Pid) -> bool {
        self.processes.contains_key(&process)
    }

    /// A thread goes on at once if it is its turn, and else when it will be.
    pub(super) fn go(
        &mut self,
        process: Pid,
        stopped: Stopped,
        pace: Pace,
        signal: Option<i32>,
    ) -> nix::Result<()> {
        match self.processes.get_mut(&process) {
            Some(turns) if turns.holder != Some(stopped.tid()) => {
                turns.park(Parked {
                    stopped,
                    pace,
                    signal,
                });
                Ok(())
            }
            _ => stopped.resume(pace, signal),
        }
    }

    /// The thread whose turn it is lets others go on.
    pub(super) fn give_up(&mut self, process: Pid, stopped: Stopped) {
        if let Some(turns) = self.processes.get_mut(&process) {
            turns.holder = None;
            turns.last = None;
            let parked = Parked {
                stopped,
                pace: Pace::Run,
                signal: None,
            };
            let number = turns.next_number();
            turns.back.insert(number, parked);
        }
    }

    /// The thread whose turn it is makes a system call: whether its turn ends with it.
    pub(super) fn is_last_call(&mut self, process: Pid) -> bool {
        let Some(turns) = self.processes.get_mut(&process) else {
            return false;
        };
        turns.settled = false;
        turns.calls += 1;
        turns.calls > MOST_CALLS
    }

    /// It has gone into the kernel, where it may wait; until `over` at most, by the clock of its process. If it does not,
    /// it is still the same turn, unless that `ends` in any case.
    pub(super) fn enters(&mut self, process: Pid, thread: Pid, over: Option<u64>, ends: bool) {
        if let Some(turns) = self.processes.get_mut(&process) {
            turns.enters(thread, over, false);
            turns.last = turns.last.filter(|_| !ends);
        }
    }

    /// Job control has stopped a thread.
    pub(super) fn listens(&mut self, process: Pid, thread: Pid) {
        if let Some(turns) = self.processes.get_mut(&process) {
            turns.forget(thread);
            turns.enters(thread, None, true);
        }
    }

    /// Whether a thread that comes back was told that its time is over.
    pub(super) fn was_told(&self, process: Pid, thread: Pid) -> bool {
        let turns = self.processes.get(&process);
        turns.is_some_and(|turns| {
            let mut inside = turns.inside.values();
            inside.any(|inside| inside.tid == thread && inside.told)
        })
    }

    /// A thread is about to end.
    pub(super) fn ends(&mut self, process: Pid, thread: Pid) {
        if let Some(turns) = self.processes.get_mut(&process) {
            turns.forget(thread);
            turns.ends.insert(thread);
        }
    }

    /// A thread has ended.
    pub(super) fn ended(&mut self, process: Pid, thread: Pid) {
        if let Some(turns) = self.processes.get_mut(&process) {
            turns.forget(thread);
            turns.ends.remove(&thread);
            turns.threads.remove(&thread);
            turns.sleepers.remove(&thread);
            if turns.threads.is_empty() {
                self.processes.remove(&process);
            }
        }
    }

    /// A process has one thread, which executes another program.
    pub(super) fn over(&mut self, process: Pid) {
        self.processes.remove(&process);
    }

    /// Gives turns to threads that are ready.
    pub(super) fn advance(&mut self, watcher: &mut dyn Watcher) -> io::Result<Next> {
        let mut next = Next::Wait;
        let mut alone = Vec::new();
        for (pid, process) in &mut self.processes {
            next = next.and(match process.holder {
                None => process.choose(*pid, watcher)?,
                Some(holder) => process.hurry(*pid, holder, watcher, &mut self.held)?,
            });
            if process.holder.is_some() && process.threads.len() == 1 {
                alone.push(*pid);
            }
        }
        for pid in alone {
            watcher.turns(pid, false)?;
            self.processes.remove(&pid);
        }
        if self.processes.is_empty() {
            self.nudge = None;
        }
        Ok(next)
    }
}

impl Process {
    /// One whose only thread so far is this, which runs.
    fn of(thread: Pid) -> Process {
        Process {
            threads: BTreeSet::from([thread]),
            sleepers: BTreeMap::new(),
            holder: Some(thread),
            since: Instant::now(),
            used: None,
            calls: 0,
            last: None,
            number: 0,
            inside: BTreeMap::new(),
            back: BTreeMap::new(),
            ready: VecDeque::new(),
            ends: BTreeSet::new(),
            settled: false,
            turns: 0,
            idle_until: None,
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn number_of(&self, thread: Pid) -> Option<u64> {
        let mut inside = self.inside.iter();
        inside
            .find(|(_, inside)| inside.tid == thread)
            .map(|(number, _)| *number)
    }

    fn enters(&mut self, tid: Pid, over: Option<u64>, listens: bool) {
        self.settled = false;
        // One whose turn was ended may go there before it stops.
        self.inside.retain(|_, inside| inside.tid != tid);
        let number = self.next_number();
        if over.is_some() {
            self.turns = 0;
        }
        if self.holder == Some(tid) {
            self.holder = None;
            self.last = Some(number);
        }
        let inside = Inside {
            tid,
            over,
            told: false,
            listens,
        };
        self.inside.insert(number, inside);
    }

    fn park(&mut self, parked: Parked) {
        self.settled = false;
        match self.number_of(parked.stopped.tid()) {
            Some(number) => {
                self.inside.remove(&number);
                self.back.insert(number, parked);
            }
            // A new one.
            None => self.ready.push_back(parked),
        }
    }

    /// A thread is nowhere.
    fn forget(&mut self, thread: Pid) {
        self.settled = false;
        if self.holder == Some(thread) {
            self.holder = None;
        }
        self.inside.retain(|_, inside| inside.tid != thread);
        self.back.retain(|_, parked| parked.stopped.tid() != thread);
        self.ready.retain(|parked| parked.stopped.tid() != thread);
    }

    /// Whether everything has happened that the last turn has set off.
    fn is_settled(&mut self) -> bool {
        if !self.settled {
            self.ends.retain(|thread| {
                !matches!(image::state_of(thread.as_raw()), None | Some('Z' | 'X'))
            });
            self.settled = self.ends.is_empty() && self.all_sleep();
        }
        self.settled
    }

    /// Whether all that are in the kernel sleep. Who did when looked at may have been woken by one that was looked at
    /// later, so all have to be found asleep twice. Whoever has gone there last is the likeliest to be at work.
    fn all_sleep(&mut self) -> bool {
        let inside = self.inside.values().filter(|inside| !inside.listens);
        let threads: Vec<Pid> = inside.map(|inside| inside.tid).rev().collect();
        let looks: [fn(&Sleeper) -> bool; 2] = [Sleeper::seems_asleep, Sleeper::is_asleep];
        looks.iter().all(|look| {
            let mut threads = threads.iter();
            threads.all(|thread| self.sleeper(*thread, *look))
        })
    }

    /// Looks at a thread that may be asleep; one that is gone is not.
    fn sleeper(&mut self, thread: Pid, look: fn(&Sleeper) -> bool) -> bool {
        if let Some(sleeper) = self.sleepers.get(&thread) {
            return look(sleeper);
        }
        let Ok(sleeper) = Sleeper::of(thread) else {
            return false;
        };
        let answer = look(&sleeper);
        if self.sleepers.len() < MOST_SLEEPERS {
            self.sleepers.insert(thread, sleeper);
        }
        answer
    }

    /// Chooses whose turn it is.
    fn choose(&mut self, pid: Pid, watcher: &mut dyn Watcher) -> io::Result<Next> {
        if !self.is_settled() {
            return Ok(Next::Look);
        }
        // A call that did not wait: it is still the same turn.
        let same = self.last.take().and_then(|last| self.back.remove(&last));
        if let Some(parked) = same {
            if self.calls <= MOST_CALLS {
                return Ok(self.resume(parked));
            }
            let number = self.next_number();
            self.back.insert(number, parked);
        }
        self.ready
            .extend(std::mem::take(&mut self.back).into_values());
        let looks = self.ready.is_empty() || self.turns.is_multiple_of(TURNS_BETWEEN_LOOKS);
        if looks && let Some(next) = self.tell(pid, watcher)? {
            return Ok(next);
        }
        let Some(parked) = self.ready.pop_front() else {
            self.turns = 0;
            return Ok(Next::Wait);
        };
        self.turns = self.turns.wrapping_add(1);
        self.calls = 0;
        if !parked.ends() {
            watcher.turn(pid, parked.stopped.tid());
        }
        Ok(self.resume(parked))
    }

    fn resume(&mut self, parked: Parked) -> Next {
        self.idle_until = None;
        let thread = parked.stopped.tid();
        if parked.ends() || parked.stopped.resume(parked.pace, parked.signal).is_err() {
            self.settled = false;
            self.ends.insert(thread);
            return Next::Look;
        }
        self.holder = Some(thread);
        self.since = Instant::now();
        self.used = None;
        Next::Wait
    }

    /// Tells threads that their time is over, if it is; if all sleep, the first of them when its time has passed.
    fn tell(&mut self, pid: Pid, watcher: &mut dyn Watcher) -> io::Result<Option<Next>> {
        let Some((first, number)) = self.first_over() else {
            return Ok(None);
        };
        let now = watcher.now(pid)?;
        if first > now {
            if !self.ready.is_empty() {
                return Ok(None);
            }
            let rest = Duration::from_nanos(first - now);
            let until = *self.idle_until.get_or_insert_with(|| Instant::now() + rest);
            if Instant::now() < until {
                return Ok(Some(Next::Until(until)));
            }
        }
        self.idle_until = None;
        self.tell_one(number);
        Ok(Some(Next::Look))
    }

    fn tell_one(&mut self, number: u64) {
        if let Some(inside) = self.inside.get_mut(&number) {
            self.settled = false;
            inside.told = true;
            // One that was killed meanwhile ends, and that is reported.
            let _ = nix::sys::ptrace::interrupt(inside.tid);
        }
    }

    /// Whose time is over first of those that wait for one, and when.
    fn first_over(&self) -> Option<(u64, u64)> {
        let waits = |(number, inside): (&u64, &Inside)| {
            let over = inside.over.filter(|_| !inside.told)?;
            Some((over, *number))
        };
        self.inside.iter().filter_map(waits).min()
    }

    /// Ends a turn that takes too long.
    fn hurry(
        &mut self,
        pid: Pid,
        holder: Pid,
        watcher: &mut dyn Watcher,
        held: &mut io::Result<()>,
    ) -> io::Result<Next> {
        if self.since.elapsed() < LOOK_EVERY {
            return Ok(Next::Wait);
        }
        let now = watcher.now(pid)?;
        let over = self.first_over().is_some_and(|(first, _)| first <= now);
        if !over && self.ready.is_empty() && self.back.is_empty() {
            return Ok(Next::Wait);
        }
        // One that is gone is reported.
        let Some(used) = image::cpu_time_of(holder.as_raw()) else {
            return Ok(Next::Wait);
        };
        let in_place = watcher.pieces(pid)? <= PIECES_IN_PLACE;
        let used = match self.used {
            Some(before) => before.then(used, in_place),
            None => Used::first(used),
        };
        self.used = Some(used);
        self.since = Instant::now();
        if !used.is_too_much() {
            return Ok(Next::Wait);
        }
        if held.is_ok() {
            *held = Err(io::Error::other(
                "a thread ran on and on without a system call while others were ready",
            ));
        }
        while let Some((first, number)) = self.first_over()
            && first <= now
        {
            self.tell_one(number);
        }
        // They go on before those that are ready: it was their time already when these began to wait for their turn.
        for parked in std::mem::take(&mut self.ready) {
            let number = self.next_number();
            self.back.insert(number, parked);
        }
        self.enters(holder, None, false);
        self.last = None;
        // One that was killed meanwhile ends, and that is reported.
        let _ = nix::sys::ptrace::interrupt(holder);
        Ok(Next::Look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_round_in_one_place_is_ended_soon_and_who_works_late() {
        let second = Duration::from_secs;
        let mut works = Used::first(second(5));
        let mut waits = works;
        for now in 6..25 {
            works = works.then(second(now), false);
            waits = waits.then(second(now), true);
            assert!(!works.is_too_much(), "{now}");
            assert_eq!(waits.is_too_much(), now >= 7, "{now}");
        }
        assert!(works.then(second(25), false).is_too_much());
    }
}
