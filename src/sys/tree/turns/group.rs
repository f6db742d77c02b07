//! The threads of a tree that take turns, and whose turn it is next; `time` has what that has to do with the clock.

mod time;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::Instant;

use nix::unistd::Pid;

use super::patience::Used;
use super::{For, Next, Parked};
use crate::sys::image;
use crate::sys::ptrace::{Pace, Stopped};
use crate::sys::tree::asleep::{Calm, Sleeper};
use crate::sys::tree::{Limit, Watcher};

/// Turns after which those are asked for whose time is over, though others are ready.
const TURNS_BETWEEN_LOOKS: u32 = 8;

/// Threads whose files of /proc are kept open, so that a program of thousands leaves us some.
const MOST_SLEEPERS: usize = 64;

/// A thread that is in the kernel.
#[derive(Clone, Copy, Debug)]
struct Inside {
    tid: Pid,
    waits: For,
    /// Whether it was told that its time is over.
    told: bool,
    /// Whether it was found asleep, and we have not woken it since.
    slept: bool,
}

impl Inside {
    /// Whether nothing but signals and ends wakes it.
    fn is_deaf(&self) -> bool {
        matches!(self.waits, For::Signal | For::Memory | For::Continue)
    }

    /// When its time is over of which it was not told.
    fn over(&self) -> Option<u64> {
        match self.waits {
            For::Time(over) if !self.told => Some(over),
            _ => None,
        }
    }
}

/// Threads that take turns.
#[derive(Debug)]
pub(super) struct Group {
    /// All of them, and their processes.
    threads: BTreeMap<Pid, Pid>,
    sleepers: BTreeMap<Pid, Sleeper>,
    /// Whether anybody runs at all; none where that says nothing of those that take turns.
    calm: Option<Calm>,
    /// Whose turn it is.
    holder: Option<Pid>,
    /// The process of whose turn it is, or was last.
    latest: Pid,
    /// A process that is not asked.
    free: Option<Pid>,
    /// Since when it is the holder's turn, or was not looked at.
    since: Instant,
    /// What it had taken when it was looked at in its turn.
    used: Option<Used>,
    /// Whether its turn is over in any case.
    over: bool,
    /// Whether a turn takes a slice of time at most.
    slices: bool,
    /// How long whose turn it was last may go on.
    limit: Option<(Pid, Limit)>,
    /// Whether it has let others go on because it was time.
    overdue: bool,
    /// Who has gone into the kernel last, by its number.
    last: Option<u64>,
    /// The number of who goes there next.
    number: u64,
    inside: BTreeMap<u64, Inside>,
    back: BTreeMap<u64, Parked>,
    ready: VecDeque<Parked>,
    ends: BTreeSet<Pid>,
    /// Those that sleep until somebody ends or sends a signal, which nobody has done since.
    deaf: BTreeSet<Pid>,
    /// Whether whose turn it is has sent signals in it.
    signals: bool,
    /// Whether somebody may have been killed who holds still.
    killed: bool,
    /// Those that we have interrupted.
    interrupted: BTreeSet<Pid>,
    /// Whether nothing was done since all of it had happened that was set off before.
    settled: bool,
    /// Turns since somebody began to wait for a time, or all slept.
    turns: u32,
    /// If all sleep: when the first of those whose time is over is told so.
    idle_until: Option<Instant>,
}

impl Group {
    /// One whose only thread so far is this, which runs. A thread is given with its process.
    /// `one_cpu`: it and all that descend from it have one CPU together.
    pub(super) fn of(thread: (Pid, Pid), slices: bool, one_cpu: bool) -> Group {
        let (holder, latest) = thread;
        Group {
            threads: BTreeMap::from([thread]),
            sleepers: BTreeMap::new(),
            calm: one_cpu.then(Calm::open).flatten(),
            holder: Some(holder),
            latest,
            free: None,
            since: Instant::now(),
            used: None,
            over: false,
            slices,
            limit: None,
            overdue: false,
            last: None,
            number: 0,
            inside: BTreeMap::new(),
            back: BTreeMap::new(),
            ready: VecDeque::new(),
            ends: BTreeSet::new(),
            deaf: BTreeSet::new(),
            signals: false,
            killed: false,
            interrupted: BTreeSet::new(),
            settled: false,
            turns: 0,
            idle_until: None,
        }
    }

    pub(super) fn born(&mut self, (thread, process): (Pid, Pid)) {
        self.threads.insert(thread, process);
        self.free = None;
    }

    pub(super) fn is_free(&self, process: Pid) -> bool {
        self.free == Some(process)
    }

    pub(super) fn free_no_more(&mut self, process: Pid) -> bool {
        let was = self.is_free(process);
        self.free = self.free.filter(|_| !was);
        was
    }

    pub(super) fn has_turn(&self, thread: Pid) -> bool {
        self.holder == Some(thread)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// The process of the only thread that is left, if it has its turn: nobody has to take any.
    pub(super) fn is_one(&self) -> Option<Pid> {
        let (thread, process) = self.threads.first_key_value()?;
        (self.threads.len() == 1 && self.has_turn(*thread)).then_some(*process)
    }

    pub(super) fn give_up(&mut self, stopped: Stopped, overdue: bool) {
        self.holder = None;
        self.last = None;
        self.overdue = overdue;
        self.limit = None;
        let parked = Parked {
            stopped,
            pace: Pace::Run,
            signal: None,
        };
        let number = self.next_number();
        self.back.insert(number, parked);
    }

    pub(super) fn turn_is_over(&mut self) {
        self.over = true;
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

    pub(super) fn enters(&mut self, tid: Pid, waits: For) {
        self.settled = false;
        // One whose turn was ended may go there before it stops, and a call that is made again is reported twice.
        let goes_on = self.may_go_on(tid);
        self.inside.retain(|_, inside| inside.tid != tid);
        let number = self.next_number();
        if matches!(waits, For::Time(_)) {
            self.turns = 0;
        }
        if self.has_turn(tid) || goes_on {
            self.holder = None;
            self.last = Some(number);
        }
        if waits == For::Continue {
            // Its parent may wait for that.
            self.deaf.clear();
        }
        self.deaf.remove(&tid);
        let inside = Inside {
            tid,
            waits,
            told: false,
            slept: false,
        };
        self.inside.insert(number, inside);
    }

    pub(super) fn was_told(&self, thread: Pid) -> bool {
        let mut inside = self.inside.values();
        inside.any(|inside| inside.tid == thread && inside.told)
    }

    /// Whether a thread in the kernel was whose turn it was last, and it is not known yet whether its call waits.
    fn may_go_on(&self, thread: Pid) -> bool {
        let last = self.last.and_then(|last| self.inside.get(&last));
        last.is_some_and(|inside| inside.tid == thread)
    }

    pub(super) fn has_slept(&self, thread: Pid) -> bool {
        self.number_of(thread).is_some() && !self.may_go_on(thread)
    }

    pub(super) fn has_interrupted(&mut self, thread: Pid) -> bool {
        self.interrupted.remove(&thread)
    }

    pub(super) fn sends_signals(&mut self) {
        self.signals = true;
        self.killed = true;
        self.deaf.clear();
    }

    fn interrupt(&mut self, thread: Pid) {
        self.settled = false;
        let mut inside = self.inside.values_mut();
        if let Some(inside) = inside.find(|inside| inside.tid == thread) {
            inside.slept = false;
        }
        self.interrupted.insert(thread);
        // One that was killed meanwhile ends, and that is reported.
        let _ = nix::sys::ptrace::interrupt(thread);
    }

    pub(super) fn park(&mut self, parked: Parked) {
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

    pub(super) fn ends(&mut self, thread: Pid) {
        self.forget(thread);
        // It may end all threads of its process (exit_group(2)).
        let process = self.threads.get(&thread).copied();
        let alone = process.is_some_and(|process| self.only_thread_of(process).is_some());
        self.killed |= !alone;
        self.ends.insert(thread);
    }

    pub(super) fn ended(&mut self, thread: Pid) {
        self.forget(thread);
        self.ends.remove(&thread);
        self.sleepers.remove(&thread);
        self.interrupted.remove(&thread);
        if let Some(process) = self.threads.remove(&thread)
            && self.only_thread_of(process).is_none()
        {
            self.free_no_more(process);
        }
    }

    /// A thread of a process, if it has no other.
    fn only_thread_of(&self, process: Pid) -> Option<Pid> {
        let mut threads = self.threads.iter().filter(|(_, of)| **of == process);
        let first = threads.next().map(|(thread, _)| *thread);
        first.filter(|_| threads.next().is_none())
    }

    pub(super) fn executed(&mut self, process: Pid, former: Pid) {
        let had_turn = self.has_turn(former);
        let gone: Vec<Pid> = self
            .threads
            .iter()
            .filter(|(_, of)| **of == process)
            .map(|(thread, _)| *thread)
            .collect();
        for thread in gone {
            self.ended(thread);
        }
        self.threads.insert(process, process);
        self.holder = self.holder.or(had_turn.then_some(process));
    }

    /// A thread is nowhere.
    fn forget(&mut self, thread: Pid) {
        self.settled = false;
        self.deaf.clear();
        if self.has_turn(thread) {
            self.holder = None;
        }
        self.inside.retain(|_, inside| inside.tid != thread);
        self.back.retain(|_, parked| parked.stopped.tid() != thread);
        self.ready.retain(|parked| parked.stopped.tid() != thread);
    }

    pub(super) fn advance(
        &mut self,
        watcher: &mut dyn Watcher,
        held: &mut io::Result<()>,
    ) -> io::Result<Next> {
        let Some(holder) = self.holder else {
            return self.choose(watcher);
        };
        if self.free.is_some()
            && (!(self.ready.is_empty() && self.back.is_empty())
                || self.sleeps_before_alarm(holder, watcher))
            && let Some(process) = self.free.take()
        {
            // It may be in the kernel, and wait there for somebody that goes on now.
            watcher.turns(process, true)?;
            self.interrupt(holder);
        }
        self.hurry(holder, watcher, held)
    }

    /// Whether everything has happened that the last turn has set off.
    fn is_settled(&mut self) -> bool {
        if !self.settled {
            self.settled = self.have_ended() && self.all_sleep() && self.none_was_killed();
        }
        self.settled
    }

    /// Whether all go on that were to go on, and none of them ends instead.
    fn none_was_killed(&mut self) -> bool {
        if !std::mem::take(&mut self.killed) {
            return true;
        }
        let (ready, back) = (
            std::mem::take(&mut self.ready),
            std::mem::take(&mut self.back),
        );
        let (killed, ready): (VecDeque<_>, VecDeque<_>) = ready.into_iter().partition(Parked::ends);
        let (killed_back, back): (BTreeMap<_, _>, BTreeMap<_, _>) =
            back.into_iter().partition(|(_, parked)| parked.ends());
        (self.ready, self.back) = (ready, back);
        let none = killed.is_empty() && killed_back.is_empty();
        let killed = killed.iter().chain(killed_back.values());
        self.ends.extend(killed.map(|parked| parked.stopped.tid()));
        none
    }

    /// Whether those that end have come so far that nobody notices the rest, and their ends are reported to us: only then
    /// they are for the parent of a process (kernel/exit.c, `wait_task_zombie`). That of a process's first thread is when all
    /// its others have ended, so it is waited for as soon as none of them goes on.
    fn have_ended(&self) -> bool {
        let others_live = |first: &Pid| {
            let mut threads = self.threads.iter();
            threads.any(|(other, process)| process == first && !self.ends.contains(other))
        };
        let is_first = |thread: &Pid| self.threads.get(thread) == Some(thread);
        self.ends.iter().all(|thread| {
            is_first(thread)
                && others_live(thread)
                && matches!(image::state_of(thread.as_raw()), None | Some('Z' | 'X'))
        })
    }

    /// Whether all that are in the kernel sleep. Who did when looked at may have been woken by one that was looked at
    /// later, so all have to be found asleep twice. Whoever has gone there last is the likeliest to be at work. If nobody on
    /// the machine runs, those that slept before still do.
    fn all_sleep(&mut self) -> bool {
        let inside = self.inside.values().rev();
        let inside = inside
            .filter(|inside| inside.waits != For::Continue && !self.deaf.contains(&inside.tid));
        let threads: Vec<Inside> = inside.copied().collect();
        let (known, new): (Vec<Inside>, Vec<Inside>) =
            threads.iter().partition(|inside| inside.slept);
        if !known.is_empty() && !self.are(&new, Sleeper::is_asleep) {
            return false;
        }
        let calm = !known.is_empty() && self.calm.as_ref().is_some_and(Calm::is_there);
        let several = threads.len() > 1;
        let all = calm
            || (!several || self.are(&threads, Sleeper::seems_asleep))
                && self.are(&threads, Sleeper::is_asleep);
        if all {
            let deaf = threads.iter().filter(|inside| inside.is_deaf());
            self.deaf.extend(deaf.map(|inside| inside.tid));
            // The deaf were found asleep before.
            let inside = self.inside.values_mut();
            inside.for_each(|inside| inside.slept = inside.waits != For::Continue);
        }
        all
    }

    /// Whether all of these are, in their order.
    fn are(&mut self, threads: &[Inside], asleep: fn(&Sleeper, bool) -> bool) -> bool {
        threads.iter().all(|inside| {
            let for_memory = inside.waits == For::Memory;
            self.sleeper(inside.tid, |sleeper| asleep(sleeper, for_memory))
        })
    }

    /// Looks at a thread that may be asleep; one that is gone is not.
    fn sleeper(&mut self, thread: Pid, look: impl Fn(&Sleeper) -> bool) -> bool {
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
    fn choose(&mut self, watcher: &mut dyn Watcher) -> io::Result<Next> {
        if !self.is_settled() {
            return Ok(Next::Look);
        }
        if std::mem::take(&mut self.overdue) {
            let now = watcher.now(self.latest)?;
            self.tell_all(now, watcher)?;
            return Ok(Next::Look);
        }
        // A call that did not wait: it is still the same turn.
        let same = self.last.take().and_then(|last| self.back.remove(&last));
        if let Some(parked) = same {
            if !self.over {
                return self.resume(parked, watcher);
            }
            let number = self.next_number();
            self.back.insert(number, parked);
        }
        self.ready
            .extend(std::mem::take(&mut self.back).into_values());
        let looks = self.ready.is_empty() || self.turns.is_multiple_of(TURNS_BETWEEN_LOOKS);
        if looks && let Some(next) = self.tell(watcher)? {
            return Ok(next);
        }
        let Some(parked) = self.ready.pop_front() else {
            self.turns = 0;
            return Ok(Next::Wait);
        };
        self.turns = self.turns.wrapping_add(1);
        self.over = false;
        self.signals = false;
        self.resume_in_new_turn(parked, watcher)
    }

    fn resume_in_new_turn(
        &mut self,
        parked: Parked,
        watcher: &mut dyn Watcher,
    ) -> io::Result<Next> {
        let thread = parked.stopped.tid();
        if !parked.ends()
            && let Some(process) = self.threads.get(&thread)
        {
            watcher.turn(*process, thread)?;
            self.latest = *process;
        }
        self.resume(parked, watcher)
    }

    fn resume(&mut self, parked: Parked, watcher: &mut dyn Watcher) -> io::Result<Next> {
        self.idle_until = None;
        self.settled = false;
        let thread = parked.stopped.tid();
        if parked.ends() {
            return Ok(self.ends_instead(thread));
        }
        self.ask_if_it_matters(thread, watcher)?;
        self.set_limit(thread, watcher)?;
        if parked.stopped.resume(parked.pace, parked.signal).is_err() {
            return Ok(self.ends_instead(thread));
        }
        self.holder = Some(thread);
        self.since = Instant::now();
        self.used = None;
        Ok(Next::Wait)
    }

    /// A thread that was to go on was killed, and a report of that is coming.
    fn ends_instead(&mut self, thread: Pid) -> Next {
        self.ends.insert(thread);
        Next::Look
    }

    /// Has the process of a thread that is about to go on ask before each call, unless nobody minds them.
    fn ask_if_it_matters(&mut self, thread: Pid, watcher: &mut dyn Watcher) -> io::Result<()> {
        let process = self.threads.get(&thread).copied().filter(|process| {
            self.ready.is_empty()
                && self.back.is_empty()
                && self.only_thread_of(*process).is_some()
                && self.inside.values().all(Inside::is_deaf)
        });
        let before = std::mem::replace(&mut self.free, process);
        if before == process {
            return Ok(());
        }
        if let Some(asks) = before {
            watcher.turns(asks, true)?;
        }
        process.map_or(Ok(()), |free| watcher.turns(free, false))
    }
}
