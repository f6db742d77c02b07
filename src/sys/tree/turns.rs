//! One thread of a tree at a time, so that its threads and processes do the same in every run.
//!
//! A thread has its turn until it waits for something in the kernel, or says that another may go on. Before the next is
//! chosen, everything that the last one has set off has happened: each thread that is in the kernel sleeps, or has come
//! back from there and holds still, and each process that has ended is known to have. Who comes back takes its place behind
//! those that are ready, in the order in which they went in. So the order follows from what the threads do, and from
//! nothing else.
//!
//! To be told of each call costs time. A process of one thread is not asked while all others wait for nothing but a signal
//! or a child's end: none of them goes on before it ends or sends a signal, and of these we are told in any case.
//!
//! Who computes while others wait for a time is stopped in time, if the watcher can do that ([`Watcher::limit`]): then these
//! go on first. What comes from outside (a server, a terminal) comes when it comes.
//!
//! Here is what the tree tells and asks; `group` has the threads and chooses, `patience` how long a turn may take.

mod group;
mod patience;

use std::io;
use std::time::Instant;

use nix::libc;
use nix::unistd::Pid;

use self::group::Group;
use self::patience::LOOK_EVERY;
use super::{Watcher, asleep};
use crate::sys::image;
use crate::sys::nudge::Nudge;
use crate::sys::ptrace::{Pace, Stopped};

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

    /// Whether it has a signal to act on, other than that a child has ended.
    fn has_signal(&self) -> bool {
        self.signal.is_some() || image::has_pending_signal(self.stopped.tid().as_raw())
    }
}

/// What a thread in the kernel waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Anything.
    Anything,
    /// The same; and by the clock of the tree ([`Watcher::now`]) its time is over then.
    Time(u64),
    /// A signal, or the end of a child.
    Signal,
    /// A child that uses its memory (vfork(2)).
    Memory,
    /// To be continued: job control has stopped it.
    Continue,
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

/// The turns of a tree.
#[derive(Debug)]
pub(super) struct Turns {
    /// Whether a turn takes a slice of time at most.
    slices: bool,
    /// Whether all of the tree keep to the CPUs that its root has.
    keeps_cpus: bool,
    /// Its threads, while it has several.
    group: Option<Group>,
    /// So that a turn that takes too long is noticed; none before there are turns.
    nudge: Option<Nudge>,
    /// Whether all turns have ended by what the threads did.
    pub(super) held: io::Result<()>,
}

impl Turns {
    pub(super) fn new(slices: bool, keeps_cpus: bool) -> Turns {
        Turns {
            slices,
            keeps_cpus,
            group: None,
            nudge: None,
            held: Ok(()),
        }
    }

    /// Thread `maker`, which has its turn, has made another, and both have to ask from now on ([`Watcher::turns`]).
    pub(super) fn born(&mut self, maker: (Pid, Pid), child: (Pid, Pid)) -> io::Result<()> {
        self.group_of(maker)?.born(child);
        Ok(())
    }

    /// A timer runs: a thread that is alone has to ask from now on, too. Whether it is.
    pub(super) fn timed(&mut self, thread: (Pid, Pid)) -> io::Result<bool> {
        let alone = self.group.is_none();
        self.group_of(thread)?;
        Ok(alone)
    }

    /// The threads that take turns; so far this one.
    fn group_of(&mut self, thread: (Pid, Pid)) -> io::Result<&mut Group> {
        if self.nudge.is_none() {
            self.nudge = Some(Nudge::each(LOOK_EVERY / 4)?);
        }
        let (slices, keeps_cpus) = (self.slices, self.keeps_cpus);
        let group = &mut self.group;
        Ok(group.get_or_insert_with(|| {
            let one_cpu = keeps_cpus && asleep::has_one_cpu(thread.0);
            Group::of(thread, slices, one_cpu)
        }))
    }

    /// There is a new thread: whose turn it is may have to let it go on.
    pub(super) fn set_limit(&mut self, watcher: &mut dyn Watcher) -> io::Result<()> {
        let group = self.group.as_mut();
        group.map_or(Ok(()), |group| group.set_limit_of_holder(watcher))
    }

    /// Whether a process asks before each call.
    pub(super) fn asks(&self, process: Pid) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|group| !group.is_free(process))
    }

    /// Whether a process takes turns and is not asked; it is from now on.
    pub(super) fn free_no_more(&mut self, process: Pid) -> bool {
        let group = self.group.as_mut();
        group.is_some_and(|group| group.free_no_more(process))
    }

    /// A thread goes on at once if it is its turn, and else when it will be.
    pub(super) fn go(
        &mut self,
        stopped: Stopped,
        pace: Pace,
        signal: Option<i32>,
    ) -> nix::Result<()> {
        match &mut self.group {
            Some(group) if !group.has_turn(stopped.tid()) => {
                group.park(Parked {
                    stopped,
                    pace,
                    signal,
                });
                Ok(())
            }
            _ => stopped.resume(pace, signal),
        }
    }

    /// The thread whose turn it is lets others go on; `overdue`: before it, those whose time it is.
    pub(super) fn give_up(&mut self, stopped: Stopped, overdue: bool) {
        if let Some(group) = &mut self.group {
            group.give_up(stopped, overdue);
        }
    }

    /// The thread whose turn it is makes the last call of it.
    pub(super) fn is_over(&mut self) {
        if let Some(group) = &mut self.group {
            group.turn_is_over();
        }
    }

    /// It sends a signal, which may be the end of somebody who holds still.
    pub(super) fn sends_signals(&mut self) {
        if let Some(group) = &mut self.group {
            group.sends_signals();
        }
    }

    /// It has gone into the kernel, where it may wait. If it does not, it is still the same turn.
    pub(super) fn enters(&mut self, thread: Pid, waits: For) {
        if let Some(group) = &mut self.group {
            group.enters(thread, waits);
        }
    }

    /// Whether a thread that comes back was told that its time is over.
    pub(super) fn was_told(&self, thread: Pid) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|group| group.was_told(thread))
    }

    /// Whether a thread that comes back from the kernel was asleep there when others had their turns.
    pub(super) fn has_slept(&self, thread: Pid) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|group| group.has_slept(thread))
    }

    /// Whether it was we who have interrupted a thread. It is asked for once.
    pub(super) fn has_interrupted(&mut self, thread: Pid) -> bool {
        let group = self.group.as_mut();
        group.is_some_and(|group| group.has_interrupted(thread))
    }

    /// A thread is about to end.
    pub(super) fn ends(&mut self, thread: Pid) {
        if let Some(group) = &mut self.group {
            group.ends(thread);
        }
    }

    /// A thread has ended.
    pub(super) fn ended(&mut self, thread: Pid) {
        if let Some(group) = &mut self.group {
            group.ended(thread);
            self.group = self.group.take().filter(|group| !group.is_empty());
        }
    }

    /// Thread `former` of a process has executed another program, and is its only one.
    pub(super) fn executed(&mut self, process: Pid, former: Pid) {
        if let Some(group) = &mut self.group {
            group.executed(process, former);
        }
    }

    /// Gives the next turn, if it is time.
    pub(super) fn advance(&mut self, watcher: &mut dyn Watcher) -> io::Result<Next> {
        let Some(group) = &mut self.group else {
            return Ok(Next::Wait);
        };
        let next = group.advance(watcher, &mut self.held)?;
        if let Some(process) = group.is_one()
            && watcher.next_alarm().is_none()
        {
            if self.asks(process) {
                watcher.turns(process, false)?;
            }
            self.group = None;
        }
        Ok(next)
    }
}
