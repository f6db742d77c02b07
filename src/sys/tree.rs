//! Follows a program and everything that descends from it, until the program ends.
//!
//! One thread of ours is the tracer of one tree: it alone waits for the tree's threads (`__WNOTHREAD`), so several
//! trees can be followed at once from several threads. Where tracing is forbidden the tree still runs, and
//! only its root is known. What the events mean is the [`Watcher`]'s business.
//!
//! Here is the event loop; `watcher` has what a backend is told, `births` how threads and processes begin, `calls` their
//! system calls, `turns` whose turn it is where threads take turns, `quick` which calls end one, `asleep` who sleeps in the
//! kernel, `after` what becomes of those who outlive the root, `live` the trees that run, for those who end them from outside.

mod after;
mod asleep;
mod births;
mod calls;
mod live;
mod quick;
mod turns;
mod watcher;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, CpuSet, clone, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

#[cfg(target_arch = "x86_64")]
pub use self::births::makes_untraced;
pub(super) use self::live::send_kill;
use self::live::{Registered, Watchdog, live};
pub use self::live::{any_runs, ask_to_end, kill, kill_all, signal_roots, started, threads_of};
#[cfg(target_arch = "x86_64")]
pub use self::quick::QUICK;
use self::turns::{For, Next, Turns};
pub use self::watcher::{Birth, Call, Limit, Onward, Trap, Watcher};
use super::attempts::{Attempts, Tried};
use super::image::{self, Auxv};
use super::ptrace::{self, Pace, Stopped};
use super::random::Random;
use super::rest::Rest;
use super::spawn::{self, Launch, SpawnError};

/// How often is looked for what has happened while a moment is waited for.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// How long is waited for a thread that is on its way back from the kernel, or is falling asleep there.
const SOON: Duration = Duration::from_micros(20);

/// How the root ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Its time was up, and we killed it.
    TimedOut,
}

/// A finished run of a tree.
#[derive(Debug)]
pub struct Finished {
    /// How the root ended.
    pub end: End,
    /// Programs that still ran a second after the root had ended: killed in a session of their own, with process ids of
    /// their own or under the counting engine, let go otherwise.
    pub left_running: Vec<PathBuf>,
    /// Whether the tree was traced; otherwise why not, and the watcher saw nothing but `held`.
    pub traced: io::Result<()>,
    /// Whether addresses were fixed, if that was asked for.
    pub fixed_addresses: io::Result<()>,
    /// Whether the random bytes of every program were fixed, if that was asked for.
    pub fixed_random: io::Result<()>,
    /// Whether the vDSO was hidden from every program, if that was asked for.
    pub hidden_vdso: io::Result<()>,
    /// Whether every getrandom(2) was answered by us, if that was asked for.
    pub answered_random: io::Result<()>,
    /// What it tried to reach beyond its network, if it has one of its own.
    pub attempts: Vec<Tried>,
    /// Whether the turns of threads, if they took turns, have ended by what these did and not by the time they took.
    pub took_turns: io::Result<()>,
    /// Whether what runs beside it was at rest whenever it received something.
    pub rested: io::Result<()>,
}

/// Why a tree could not be followed to its end.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The program did not start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The watcher, or the tracing, failed.
    #[error("{doing}: {source}")]
    Follow {
        /// What was attempted.
        doing: &'static str,
        /// The answer.
        source: io::Error,
    },
}

fn follow(doing: &'static str) -> impl FnOnce(io::Error) -> TreeError {
    move |source| TreeError::Follow { doing, source }
}

/// Whether nothing of the tree may go on without us. Translated code cannot: nobody would answer its exits. Nor can who has
/// process ids that end with us.
fn ends_with_us(launch: &Launch) -> bool {
    launch.own_session || launch.engine.is_some() || launch.own_ids()
}

/// Starts `launch`, tells `watcher` what happens in its tree, and returns when the root has ended and its
/// descendants have too, or were given up.
pub fn run(launch: &Launch, watcher: &mut dyn Watcher) -> Result<Finished, TreeError> {
    let _beside = launch
        .cpu
        .filter(|_| launch.engine.is_some() || watcher.pace() == Pace::Step)
        .map(Beside::go);
    let held = spawn::spawn(launch)?;
    let root = held.pid;
    let _registered = Registered::new(root, &launch.handle);
    if let Err(error) = watcher.held(root) {
        drop(held);
        let _ = wait_for(root);
        return Err(TreeError::Follow {
            doing: "prepare the program",
            source: error,
        });
    }
    let traced = ptrace::seize(root, ends_with_us(launch)).map_err(io::Error::from);
    let fixed_addresses = held
        .fixed_addresses
        .as_ref()
        .map(|_| ())
        .map_err(copy_error);
    let released = held.release(traced.is_ok()).inspect_err(|_| {
        // It was killed. Nobody but us could wait for it, and its namespaces do.
        let _ = wait_for(root);
    })?;
    let watchdog = launch.timeout.map(|limit| Watchdog::start(root, limit));
    let mut tree = Tree::new(root, launch, watcher);
    let followed = match &traced {
        Ok(()) => tree.follow(),
        Err(_) => {
            let ended = wait_for(root);
            if ends_with_us(launch) {
                live::kill_session(root);
            }
            ended.map_err(follow("wait for the program"))
        }
    };
    if followed.is_err() {
        tree.abandon();
    }
    let (left_running, fixed_random) = (tree.left_running, tree.fixed_random);
    let hidden_vdso = tree.hidden_vdso;
    let rested = tree.rest.held;
    let took_turns = tree.turns.held;
    let attempts = tree.attempts.map_or_else(Vec::new, Attempts::into_list);
    let answered_random = tree.random.map_or(Ok(()), |random| random.passed);
    let timed_out = watchdog.is_some_and(Watchdog::stop);
    released.confirm()?;
    let end = followed?;
    Ok(Finished {
        end: if timed_out { End::TimedOut } else { end },
        left_running,
        fixed_random: traced.as_ref().map_err(copy_error).and(fixed_random),
        hidden_vdso: traced.as_ref().map_err(copy_error).and(hidden_vdso),
        answered_random: traced.as_ref().map_err(copy_error).and(answered_random),
        took_turns: traced.as_ref().map_err(copy_error).and(took_turns),
        rested: traced.as_ref().map_err(copy_error).and(rested),
        traced,
        fixed_addresses,
        attempts,
    })
}

/// Whether programs can be traced here: a child asks to be, and ends.
pub fn try_tracing() -> io::Result<()> {
    const STACK_BYTES: usize = 64 << 10;
    let ask = || match nix::sys::ptrace::traceme() {
        Ok(()) => 0,
        Err(error) => error as isize,
    };
    let mut stack = vec![0; STACK_BYTES];
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    // SAFETY: the child makes one system call on a stack of its own, and this thread waits for its end (CLONE_VFORK): nothing
    // else happens to what the two share, which is errno.
    let child = unsafe { clone(Box::new(ask), &mut stack, flags, Some(libc::SIGCHLD)) }?;
    match wait_for(child)? {
        End::Exited(0) => Ok(()),
        End::Exited(errno) => Err(io::Error::from_raw_os_error(errno)),
        _ => Err(io::Error::other(
            "the child that was to be traced did not end by itself",
        )),
    }
}

fn copy_error(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// This thread on the tracee's CPU, and back where it was afterwards: at every stop one of the two sleeps, and waking
/// a thread on the same CPU costs a third of waking it on another, a fifth in a virtual machine of a virtual machine.
struct Beside(Option<CpuSet>);

impl Beside {
    fn go(cpu: usize) -> Beside {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread).ok();
        let mut one = CpuSet::new();
        // Where it is not allowed, stepping is slower and as exact.
        let _ = one
            .set(cpu)
            .and_then(|()| sched_setaffinity(this_thread, &one));
        Beside(before)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = sched_setaffinity(Pid::from_raw(0), before);
        }
    }
}

/// Waits for a program that cannot be traced.
fn wait_for(root: Pid) -> io::Result<End> {
    loop {
        if let Some((_, Report::Ended(end))) = wait(root.as_raw(), 0)? {
            return Ok(end);
        }
    }
}

/// What waitpid reports of a thread.
enum Report {
    Ended(End),
    Stopped { signal: i32, event: i32 },
    Other,
}

/// waitpid(2) for threads of the calling thread's trees only; none when `WNOHANG` finds nothing, or a signal came first.
fn wait(which: i32, flags: i32) -> io::Result<Option<(Pid, Report)>> {
    let mut status = 0;
    // SAFETY: the status pointer is to a live local. `__WNOTHREAD` keeps other threads' children out.
    let tid = unsafe {
        libc::waitpid(
            which,
            &raw mut status,
            flags | libc::__WALL | libc::__WNOTHREAD,
        )
    };
    if tid < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    }
    let tid = Pid::from_raw(tid);
    let report = if libc::WIFEXITED(status) {
        Report::Ended(End::Exited(libc::WEXITSTATUS(status)))
    } else if libc::WIFSIGNALED(status) {
        Report::Ended(End::Killed(libc::WTERMSIG(status)))
    } else if libc::WIFSTOPPED(status) {
        Report::Stopped {
            signal: libc::WSTOPSIG(status),
            event: status >> 16,
        }
    } else {
        Report::Other
    };
    Ok((tid.as_raw() != 0).then_some((tid, report)))
}

/// The state of one traced tree.
struct Tree<'a> {
    root: Pid,
    watcher: &'a mut dyn Watcher,
    fix_random: bool,
    no_vdso: bool,
    handed: &'static [(u64, Option<u64>)],
    kill_left: bool,
    /// Every known thread and the process it belongs to.
    threads: HashMap<Pid, Pid>,
    /// New threads whose first stop, with its signal, was seen before their parent's event told where they belong.
    orphans: HashMap<Pid, (Stopped, i32)>,
    started: bool,
    end: Option<End>,
    left_running: Vec<PathBuf>,
    fixed_random: io::Result<()>,
    hidden_vdso: io::Result<()>,
    random: Option<Random>,
    attempts: Option<Attempts>,
    rest: Rest,
    take_turns: bool,
    turns: Turns,
    /// Threads whose call was interrupted, and who go on to make it again if no signal comes first.
    again: HashSet<Pid>,
    /// Looks in a row that showed nothing new.
    looks: u32,
}

impl<'a> Tree<'a> {
    fn new(root: Pid, launch: &Launch, watcher: &'a mut dyn Watcher) -> Tree<'a> {
        Tree {
            root,
            take_turns: launch.machine.turns && watcher.gives_turns(),
            watcher,
            fix_random: launch.fixed_random,
            no_vdso: launch.no_vdso,
            handed: launch.handed,
            kill_left: ends_with_us(launch),
            threads: HashMap::from([(root, root)]),
            orphans: HashMap::new(),
            started: false,
            end: None,
            left_running: Vec::new(),
            fixed_random: Ok(()),
            hidden_vdso: Ok(()),
            random: launch.random_seed.map(Random::new),
            attempts: Attempts::beyond(launch.network()),
            rest: Rest::new(&launch.beside),
            // Programs that are shown another machine keep to the CPU that it has.
            turns: Turns::new(launch.machine.slices, launch.machine.host),
            again: HashSet::new(),
            looks: 0,
        }
    }

    /// The event loop.
    fn follow(&mut self) -> Result<End, TreeError> {
        while self.end.is_none() {
            let report = self.next_report()?;
            self.handle(report)?;
        }
        self.wait_for_descendants()?;
        self.give_up_descendants()?;
        Ok(self.end.unwrap_or(End::Exited(0)))
    }

    /// The next report; none if it is better to look again.
    fn next_report(&mut self) -> Result<Option<(Pid, Report)>, TreeError> {
        let next = self.turns.advance(self.watcher);
        let next = next.map_err(follow("choose whose turn it is"))?;
        let flags = if next == Next::Wait { 0 } else { libc::WNOHANG };
        let report = wait(-1, flags).map_err(follow("wait for the program"))?;
        match next {
            Next::Look if report.is_none() => self.give_way(),
            Next::Until(moment) if report.is_none() => {
                let rest = moment.saturating_duration_since(Instant::now());
                std::thread::sleep(rest.min(LOOK_EVERY));
            }
            _ => self.looks = 0,
        }
        Ok(report)
    }

    /// Lets a thread that is on its way have the CPU. Beside others that want it, who yields gets it back late, and who
    /// sleeps gets it soon.
    fn give_way(&mut self) {
        const YIELDS: u32 = 4;
        self.looks += 1;
        match self.looks > YIELDS {
            true => std::thread::sleep(SOON),
            false => std::thread::yield_now(),
        }
    }

    fn handle(&mut self, report: Option<(Pid, Report)>) -> Result<(), TreeError> {
        match report {
            Some((tid, Report::Ended(end))) => self.on_end(tid, end),
            Some((tid, Report::Stopped { signal, event })) => {
                let stopped = Stopped::from_wait(tid);
                self.on_stop(stopped, signal, event).or_else(gone_is_fine)?;
            }
            Some((_, Report::Other)) | None => {}
        }
        Ok(())
    }

    fn on_end(&mut self, tid: Pid, end: End) {
        let process = self.forget(tid);
        self.turns.ended(tid);
        self.again.remove(&tid);
        self.orphans.remove(&tid);
        if let Some(random) = &mut self.random {
            random.end(tid);
        }
        self.watcher.ended(process, tid);
        if tid == self.root {
            self.end = Some(end);
        }
    }

    fn forget(&mut self, tid: Pid) -> Pid {
        if let Some(threads) = live().get_mut(&self.root.as_raw()) {
            threads.remove(&tid.as_raw());
        }
        self.threads.remove(&tid).unwrap_or(tid)
    }

    fn on_stop(&mut self, stopped: Stopped, signal: i32, event: i32) -> Result<(), TreeError> {
        let again = self.again.remove(&stopped.tid());
        match event {
            0 if signal == ptrace::CALL_STOP && again => self.on_call_again(stopped),
            0 if signal == ptrace::CALL_STOP => self.on_return(stopped),
            0 => self.on_signal(stopped, signal),
            libc::PTRACE_EVENT_STOP => self.on_group_stop(stopped, signal),
            libc::PTRACE_EVENT_EXEC => self.on_exec(stopped),
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                self.on_birth(stopped, event)
            }
            libc::PTRACE_EVENT_SECCOMP => {
                let call = self.on_call(&stopped)?;
                self.make_call(stopped, call)
            }
            libc::PTRACE_EVENT_EXIT => self.on_ending(stopped),
            _ => resume_plain(stopped),
        }
    }

    fn process_of(&self, tid: Pid) -> Pid {
        self.threads.get(&tid).copied().unwrap_or(tid)
    }

    /// A signal is about to be delivered, or a step is done.
    fn on_signal(&mut self, stopped: Stopped, signal: i32) -> Result<(), TreeError> {
        let stepping = self.started && self.watcher.pace() == Pace::Step;
        if stepping && signal == libc::SIGTRAP {
            let code = stopped.signal_code().map_err(trace)?;
            if let Some(trap) = step_trap(code) {
                self.watcher
                    .stepped(&stopped, trap)
                    .map_err(follow("count an instruction"))?;
                return self.go(stopped, None);
            }
        }
        if !self.started || stepping {
            return self.go(stopped, Some(signal));
        }
        let process = self.process_of(stopped.tid());
        let onward = self
            .watcher
            .signal(process, &stopped, signal)
            .map_err(follow("deliver a signal"))?;
        self.resume(stopped, onward.pace, onward.signal)
    }

    /// Goes on at the watcher's pace.
    fn go(&mut self, stopped: Stopped, signal: Option<i32>) -> Result<(), TreeError> {
        let pace = if self.started {
            self.watcher.pace()
        } else {
            Pace::Run
        };
        if pace == Pace::Step {
            self.watcher
                .stepping(&stopped, signal)
                .map_err(follow("look at an instruction"))?;
        }
        self.resume(stopped, pace, signal)
    }

    /// Goes on at the watcher's pace in the middle of a system call: the instruction is the same as before.
    fn go_within(&mut self, stopped: Stopped) -> Result<(), TreeError> {
        let pace = if self.started {
            self.watcher.pace()
        } else {
            Pace::Run
        };
        self.resume(stopped, pace, None)
    }

    /// Goes on, as soon as it is its turn.
    fn resume(
        &mut self,
        stopped: Stopped,
        pace: Pace,
        signal: Option<i32>,
    ) -> Result<(), TreeError> {
        let resumed = self.turns.go(stopped, pace, signal);
        resumed.map_err(trace)
    }

    /// The first stop of a new thread, a stop by job control, or the end of one.
    fn on_group_stop(&mut self, stopped: Stopped, signal: i32) -> Result<(), TreeError> {
        let tid = stopped.tid();
        if !self.threads.contains_key(&tid) {
            self.orphans.insert(tid, (stopped, signal));
            return Ok(());
        }
        let process = self.process_of(tid);
        if ptrace::stops_the_group(signal) {
            self.turns.enters(tid, For::Continue);
            return stopped.listen().map_err(trace);
        }
        let by_us = self.turns.has_interrupted(tid);
        self.watcher
            .interrupted(process, &stopped, by_us)
            .map_err(follow("look at an interrupted thread"))?;
        self.go(stopped, None)
    }

    /// A thread is about to end. The report of a birth is lost when its maker is killed before we have seen it; nobody
    /// else would ever set the new process going.
    fn on_ending(&mut self, stopped: Stopped) -> Result<(), TreeError> {
        let process = self.process_of(stopped.tid());
        for child in children(process, stopped.tid()) {
            if !self.threads.contains_key(&child) {
                self.born(&stopped, child)?;
            }
        }
        self.watcher
            .ending(process, &stopped)
            .map_err(follow("look at an ending thread"))?;
        self.turns.ends(stopped.tid());
        resume_plain(stopped)
    }

    fn on_exec(&mut self, stopped: Stopped) -> Result<(), TreeError> {
        let pid = stopped.tid();
        let former = Pid::from_raw(stopped.event_message().map_err(trace)? as i32);
        let others: Vec<Pid> = self.threads_of(pid).filter(|tid| *tid != pid).collect();
        for tid in others {
            self.forget(tid);
        }
        self.threads.insert(pid, pid);
        self.turns.executed(pid, former);
        if !self.started {
            self.check_filter(pid);
        }
        self.started = true;
        let handed = self.fix_handed(&stopped);
        self.watcher
            .program(&stopped, former)
            .map_err(follow("begin a program"))?;
        if self.turns.asks(pid) {
            self.set_turns(pid, true)?;
        }
        handed.map_err(follow("change what the kernel hands to a program"))?;
        self.go(stopped, None)
    }

    /// Pins what the kernel hands to a program. Of pins, what failed once is reported, and not tried again; the error is
    /// that of entries that were to be others.
    fn fix_handed(&mut self, stopped: &Stopped) -> io::Result<()> {
        let random = self.fix_random && self.fixed_random.is_ok();
        let vdso = self.no_vdso && self.hidden_vdso.is_ok();
        if !random && !vdso && self.handed.is_empty() {
            return Ok(());
        }
        let auxv = Auxv::of(stopped);
        let with = |fix: &dyn Fn(&Auxv<'_>) -> io::Result<()>| match &auxv {
            Ok(auxv) => fix(auxv),
            Err(error) => Err(copy_error(error)),
        };
        if random {
            self.fixed_random = with(&|auxv| auxv.fix_random());
        }
        let hidden: &[_] = if vdso { &[Auxv::NO_VDSO] } else { &[] };
        let entries = [hidden, self.handed].concat();
        let replaced = with(&|auxv| auxv.replace(&entries));
        if vdso {
            self.hidden_vdso = replaced.as_ref().map_err(copy_error).copied();
        }
        if self.handed.is_empty() {
            Ok(())
        } else {
            replaced
        }
    }

    /// A filter that is not there (a container may forbid it) answers nothing.
    fn check_filter(&mut self, root: Pid) {
        let Some(random) = &mut self.random else {
            return;
        };
        let filters = |process: &str| -> Option<u32> {
            let status = image::read_proc_text(&format!("/proc/{process}/status")).ok()?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("Seccomp_filters:"));
            line?.trim().parse().ok()
        };
        if !cfg!(target_arch = "x86_64") {
            random.passed = Err(io::Error::other("only x86-64 has the means"));
        } else if filters("self").is_some_and(|ours| filters(&root.to_string()) == Some(ours)) {
            random.passed = Err(io::Error::other("a seccomp filter is refused here"));
        }
    }

    fn threads_of(&self, process: Pid) -> impl Iterator<Item = Pid> {
        self.threads
            .iter()
            .filter(move |(_, p)| **p == process)
            .map(|(tid, _)| *tid)
    }
}

/// Continues past an event that the pace does not matter for.
fn resume_plain(stopped: Stopped) -> Result<(), TreeError> {
    stopped.resume(Pace::Run, None).map_err(trace)
}

fn trace(errno: Errno) -> TreeError {
    TreeError::Follow {
        doing: "trace the program",
        source: errno.into(),
    }
}

/// A thread that was killed while it was being looked at is not an error: its end will be reported.
fn gone_is_fine(error: TreeError) -> Result<(), TreeError> {
    match &error {
        TreeError::Follow { source, .. } if source.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        _ => Err(error),
    }
}

/// `si_code` of a SIGTRAP to what it means under PTRACE_SINGLESTEP; none when the program caused it.
///
/// arch/x86/kernel/traps.c: TRAP_TRACE after an instruction. arch/x86/kernel/ptrace.c
/// (user_single_step_report): TRAP_BRKPT after a system call. kernel/signal.c (signal_setup_done):
/// ptrace_notify(SIGTRAP), whose code is the signal number, on entry of a handler.
fn step_trap(code: i32) -> Option<Trap> {
    match code {
        libc::TRAP_TRACE => Some(Trap::Instruction),
        libc::TRAP_BRKPT => Some(Trap::SystemCall),
        libc::SIGTRAP => Some(Trap::Handler),
        _ => None,
    }
}

/// The processes that a thread has made and nobody has waited for (proc_pid_children(5)); none where the kernel does not tell.
fn children(process: Pid, thread: Pid) -> Vec<Pid> {
    let path = format!("/proc/{process}/task/{thread}/children");
    let text = image::read_proc_text(&path).unwrap_or_default();
    let numbers = text.split_whitespace().filter_map(|id| id.parse().ok());
    numbers.map(Pid::from_raw).collect()
}
