//! Starting a program exactly as asked, held back until the caller lets go.
//!
//! Between fork and exec only async-signal-safe calls are made (signal-safety(7)): everything that
//! allocates is prepared before. Paths are taken as they are; looking a name up in `PATH` is the
//! caller's work. The caller must reap the child (`sys::tree` does).

use std::ffi::{CString, OsString};
use std::io::{self, IsTerminal, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use nix::sys::personality::{self, Persona};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::handle::Handle;
use super::limits;
use super::sandbox::Sandbox;
use super::seccomp::{EngineCalls, Filter, Writes};
use super::signals;
use crate::model::{Machine, Network, ProjectFolder};

/// One of the three standard streams of the program.
#[derive(Clone, Debug, Default)]
pub enum Stream {
    /// Ours, whatever it is.
    #[default]
    Inherit,
    /// This open file.
    File(Arc<OwnedFd>),
}

/// A program to start, complete in every detail: nothing else of our own state reaches it.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// The file to execute.
    pub program: PathBuf,
    /// Its arguments, the zeroth included.
    pub args: Vec<OsString>,
    /// Its environment as `NAME=value`, in this order.
    pub env: Vec<OsString>,
    /// Its working directory; ours when absent.
    pub cwd: Option<PathBuf>,
    /// Standard input.
    pub stdin: Stream,
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
    /// More open files, each under the number it shall have in the program.
    pub files: Vec<(Arc<OwnedFd>, RawFd)>,
    /// Switches address space layout randomisation off.
    pub fixed_addresses: bool,
    /// Rewrites `AT_RANDOM` at every exec of the tree, where it can be traced.
    pub fixed_random: bool,
    /// Hide the kernel's own code (the vDSO) from every program; needs tracing.
    pub no_vdso: bool,
    /// Entries of the auxiliary vector (getauxval(3)) that programs get otherwise, or not at all, at every exec of the tree;
    /// needs tracing.
    pub handed: &'static [(u64, Option<u64>)],
    /// Answers getrandom(2) with bytes that follow from this number, in the whole tree, where it can be traced
    /// (x86-64).
    pub random_seed: Option<u64>,
    /// Confines the tree to this CPU.
    pub cpu: Option<usize>,
    /// Gives the tree a session of its own, which ends with us: for suites. Otherwise the program shares our
    /// process group, so that the terminal treats it as if we were not there.
    pub own_session: bool,
    /// Reports these calls to the tree's watcher, where the tree can be traced.
    pub report: Option<Writes>,
    /// Takes rseq(2) away, which restarts code at an address of its own: no engine can have it, and who is compared with
    /// an engine shall not.
    pub no_rseq: bool,
    /// Takes clone3(2) away, as containers do: the C library then calls clone(2), which is some instructions more, and
    /// those shall be the same everywhere.
    pub no_clone3: bool,
    /// Reports what a counting engine must know of.
    pub engine: Option<EngineCalls>,
    /// What programs are shown of the machine, by a backend that can.
    pub machine: Machine,
    /// Which signals its first program ignores and blocks.
    pub signals: signals::Begins,
    /// The limit of its first program's stack, in bytes; ours when absent.
    pub stack_limit: Option<u64>,
    /// Kills the tree after this time.
    pub timeout: Option<Duration>,
    /// What the tree has of its own; all is the machine's when absent. Attempts to reach more than its network are
    /// reported, where the tree can be traced (x86-64).
    pub sandbox: Option<Arc<Sandbox>>,
    /// Process ids are the machine's all the same: for what runs beside a program whose ids shall not depend on it.
    pub host_ids: bool,
    /// Trees that it talks to: it receives nothing before they are at rest, where it can be traced (x86-64).
    pub beside: Vec<Handle>,
    /// By what others can reach the tree.
    pub handle: Handle,
}

impl Launch {
    /// Whether getrandom(2) is answered by the tracer.
    pub(super) fn answers_random(&self) -> bool {
        self.random_seed.is_some() && cfg!(target_arch = "x86_64")
    }

    /// System calls that its programs shall not have.
    fn missing(&self) -> Vec<libc::c_long> {
        let calls = [
            (self.no_rseq, libc::SYS_rseq),
            (self.no_clone3, libc::SYS_clone3),
        ];
        let missing = calls.into_iter().filter(|(is_missing, _)| *is_missing);
        missing.map(|(_, number)| number).collect()
    }

    /// Whether the tree has process ids of its own. It ends with us, then.
    pub fn own_ids(&self) -> bool {
        let sandbox = self.sandbox.as_ref();
        !self.host_ids && sandbox.is_some_and(|sandbox| sandbox.own().ids)
    }

    /// The network that the tree has.
    pub(super) fn network(&self) -> Network {
        let sandbox = self.sandbox.as_ref();
        sandbox.map_or(Network::Host, |sandbox| sandbox.own().network)
    }

    /// The project's folder, where programs see it at another place than it is.
    pub fn folder(&self) -> Option<&ProjectFolder> {
        self.sandbox.as_ref()?.own().folder.as_ref()
    }

    /// Where a path leads that programs of the tree have.
    pub fn outside(&self, path: PathBuf) -> PathBuf {
        ProjectFolder::outside_of(self.folder(), path)
    }

    /// The process through whose `/proc/PID/fd` a program of the tree can open our files, by the ids that it may have there:
    /// by the program's own `/proc`, and by ours, which another root may have.
    pub fn lenders(&self) -> Vec<Pid> {
        let ids = |sandbox: &Arc<Sandbox>| {
            let mut ids = vec![sandbox.keeper_inside(self.own_ids()), sandbox.keeper()];
            ids.dedup();
            ids
        };
        self.sandbox.as_ref().map_or_else(|| vec![Pid::this()], ids)
    }

    /// Whether one of the program's three streams is a terminal.
    pub fn on_terminal(&self) -> bool {
        let is = |stream: &Stream, ours: bool| match stream {
            Stream::Inherit => ours,
            Stream::File(file) => file.is_terminal(),
        };
        is(&self.stdin, io::stdin().is_terminal())
            || is(&self.stdout, io::stdout().is_terminal())
            || is(&self.stderr, io::stderr().is_terminal())
    }
}

/// Why a program did not start. `errno` says what exec (or the step before it) answered.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A name with a NUL byte in it cannot reach the kernel.
    #[error("`{0}` contains a NUL byte, which no program name, argument or variable can")]
    Nul(String),
    /// Fork or a pipe failed.
    #[error("start a process: {0}")]
    Fork(#[source] io::Error),
    /// The child could not become the program.
    #[error("{step} `{}`: {errno}", path.display())]
    Child {
        /// What was attempted.
        step: ChildStep,
        /// The program or folder it was attempted with.
        path: PathBuf,
        /// The kernel's answer.
        errno: io::Error,
    },
}

/// The steps of the child between fork and exec that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildStep {
    /// setns(2), and the process that is born inside.
    EnterSandbox,
    /// chdir(2).
    EnterFolder,
    /// execve(2).
    Execute,
}

impl std::fmt::Display for ChildStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ChildStep::EnterSandbox => "enter the namespaces made for",
            ChildStep::EnterFolder => "enter folder",
            ChildStep::Execute => "execute",
        })
    }
}

/// A child that has not yet executed its program. It waits for [`Held::release`]; dropped, it exits.
pub struct Held {
    /// Its process id.
    pub pid: Pid,
    /// Whether address randomisation could be switched off (a container may forbid it).
    pub fixed_addresses: io::Result<()>,
    go: PipeWriter,
    report: PipeReader,
    program: PathBuf,
    cwd: Option<PathBuf>,
}

impl Held {
    /// Lets the child execute its program, with the calls reported that were asked for if it is `traced`. Call
    /// [`Released::confirm`] afterwards.
    pub fn release(mut self, traced: bool) -> Result<Released, SpawnError> {
        let go = if traced { GO_TRACED } else { GO };
        self.go.write_all(&[go]).map_err(SpawnError::Fork)?;
        Ok(Released {
            report: self.report,
            program: self.program,
            cwd: self.cwd,
        })
    }
}

/// A child on its way through exec.
pub struct Released {
    report: PipeReader,
    program: PathBuf,
    cwd: Option<PathBuf>,
}

impl Released {
    /// Reads what the child reported: nothing once exec has succeeded (the pipe closes on exec). Blocks until
    /// either is known, so a tracer must have passed the exec stop or seen the child end.
    pub fn confirm(mut self) -> Result<(), SpawnError> {
        let mut message = Vec::new();
        self.report
            .read_to_end(&mut message)
            .map_err(SpawnError::Fork)?;
        let [step, errno @ ..] = message.as_slice() else {
            return Ok(());
        };
        let errno = errno.try_into().map_or(0, i32::from_ne_bytes);
        let step = match *step {
            STEP_CHDIR => ChildStep::EnterFolder,
            _ => ChildStep::Execute,
        };
        let path = match step {
            ChildStep::EnterFolder => self.cwd.unwrap_or_default(),
            ChildStep::EnterSandbox | ChildStep::Execute => self.program,
        };
        Err(SpawnError::Child {
            step,
            path,
            errno: io::Error::from_raw_os_error(errno),
        })
    }
}

/// What the child is told to go on with.
const GO: u8 = 1;
const GO_TRACED: u8 = 2;

const STEP_CHDIR: u8 = 1;
const STEP_EXEC: u8 = 2;

/// Everything the child needs, allocated before fork.
struct Prepared {
    program: CString,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    cwd: Option<CString>,
    fds: Vec<(RawFd, RawFd)>,
    filter: Option<Filter>,
    _strings: Vec<CString>,
}

fn c_string(text: &std::ffi::OsStr) -> Result<CString, SpawnError> {
    CString::new(text.as_bytes()).map_err(|_| SpawnError::Nul(text.to_string_lossy().into_owned()))
}

fn prepare(launch: &Launch) -> Result<Prepared, SpawnError> {
    let all: Vec<CString> = launch
        .args
        .iter()
        .chain(&launch.env)
        .map(|text| c_string(text))
        .collect::<Result<_, _>>()?;
    let (args, env) = all.split_at(launch.args.len());
    let table = |strings: &[CString]| {
        let pointers = strings.iter().map(|s| s.as_ptr());
        pointers.chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let standard = [(&launch.stdin, 0), (&launch.stdout, 1), (&launch.stderr, 2)];
    let streams = standard
        .into_iter()
        .filter_map(|(stream, number)| match stream {
            Stream::Inherit => None,
            Stream::File(file) => Some((file.as_raw_fd(), number)),
        });
    let files = launch
        .files
        .iter()
        .map(|(file, number)| (file.as_raw_fd(), *number));
    Ok(Prepared {
        program: c_string(launch.program.as_os_str())?,
        argv: table(args),
        envp: table(env),
        cwd: launch
            .cwd
            .as_ref()
            .map(|cwd| c_string(cwd.as_os_str()))
            .transpose()?,
        fds: streams.chain(files).collect(),
        filter: Filter::new(
            launch.report,
            launch.answers_random(),
            &launch.missing(),
            launch.engine,
            launch.network() != Network::Host,
            !launch.beside.is_empty(),
        ),
        _strings: all,
    })
}

/// Forks a child that is ready to execute `launch` and waits for the caller.
pub fn spawn(launch: &Launch) -> Result<Held, SpawnError> {
    let prepared = prepare(launch)?;
    let (wait, go) = io::pipe().map_err(SpawnError::Fork)?;
    let (mut report, tell) = io::pipe().map_err(SpawnError::Fork)?;
    let ours = Pid::this();
    // SAFETY: the child calls only async-signal-safe functions before it execs or exits (see `become_program`),
    // and touches no memory that another thread may hold locked: all it needs was allocated above.
    match unsafe { fork() }.map_err(|errno| SpawnError::Fork(errno.into()))? {
        ForkResult::Child => {
            let parent = move_in(launch, ours, &tell);
            become_program(launch, &prepared, parent, &wait, &go, &tell)
        }
        ForkResult::Parent { child } => {
            drop((wait, tell));
            let (pid, fixed_addresses) = who_goes_on(launch, child, &mut report)?;
            Ok(Held {
                pid,
                fixed_addresses,
                go,
                report,
                program: launch.outside(launch.program.clone()),
                cwd: launch.cwd.clone().map(|cwd| launch.outside(cwd)),
            })
        }
    }
}

/// What the child tells before it waits: who goes on, or the errno below zero; and the errno of fixing addresses.
#[derive(Clone, Copy)]
struct Word {
    goes_on: i32,
    fixed: i32,
}

impl Word {
    const BYTES: usize = 8;

    /// In the child; the next word of whoever goes on comes after this one.
    fn tell(self, to: &PipeWriter) {
        let both = [self.goes_on, self.fixed];
        // SAFETY: writes the bytes of a live local to an open pipe.
        unsafe { libc::write(to.as_raw_fd(), both.as_ptr().cast(), Word::BYTES) };
    }

    fn read(report: &mut PipeReader) -> io::Result<Word> {
        let (mut goes_on, mut fixed) = ([0; 4], [0; 4]);
        report.read_exact(&mut goes_on)?;
        report.read_exact(&mut fixed)?;
        Ok(Word {
            goes_on: i32::from_ne_bytes(goes_on),
            fixed: i32::from_ne_bytes(fixed),
        })
    }
}

/// The process that the program will be, `child` or one that it has made in its place; and whether addresses are fixed.
fn who_goes_on(
    launch: &Launch,
    child: Pid,
    report: &mut PipeReader,
) -> Result<(Pid, io::Result<()>), SpawnError> {
    let word = Word::read(report).map_err(SpawnError::Fork);
    if !matches!(word, Ok(Word { goes_on, .. }) if goes_on == child.as_raw()) {
        let ended = waitpid(child, Some(WaitPidFlag::__WALL));
        ended.map_err(|errno| SpawnError::Fork(errno.into()))?;
    }
    let Word { goes_on, fixed } = word?;
    if goes_on < 0 {
        return Err(SpawnError::Child {
            step: ChildStep::EnterSandbox,
            path: launch.outside(launch.program.clone()),
            errno: io::Error::from_raw_os_error(-goes_on),
        });
    }
    let fixed = match fixed {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    };
    Ok((Pid::from_raw(goes_on), fixed))
}

/// The child fixes its addresses and enters the sandbox; its own process id changes only with another process, which takes
/// its place in the family. Tells of it, and returns in that process; the parent as seen from there.
fn move_in(launch: &Launch, parent: Pid, tell: &PipeWriter) -> Pid {
    /// pid_namespaces(7): the id of a parent outside of the namespace.
    const OUTSIDE: Pid = Pid::from_raw(0);
    let fixed = if launch.fixed_addresses {
        fix_addresses()
    } else {
        0
    };
    let say = |goes_on: i32| Word { goes_on, fixed }.tell(tell);
    let sandbox = launch.sandbox.as_ref();
    if sandbox.is_some_and(|sandbox| !sandbox.enter(launch.own_ids())) {
        say(-nix::errno::Errno::last_raw());
        // SAFETY: ends this process without running any of the parent's exit handlers.
        unsafe { libc::_exit(127) }
    }
    if !launch.own_ids() {
        say(Pid::this().as_raw());
        return parent;
    }
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: a fork; the new process goes on as this one would have, and this one ends without running any of the
    // parent's exit handlers.
    unsafe {
        match libc::syscall(libc::SYS_clone, flags as libc::c_long, 0, 0, 0, 0) {
            0 => OUTSIDE,
            -1 => {
                say(-nix::errno::Errno::last_raw());
                libc::_exit(127)
            }
            // The number is that of our own namespace.
            program => {
                say(program as i32);
                libc::_exit(0)
            }
        }
    }
}

/// The child's half: never returns, never allocates.
fn become_program(
    launch: &Launch,
    prepared: &Prepared,
    parent: Pid,
    wait: &PipeReader,
    go: &PipeWriter,
    tell: &PipeWriter,
) -> ! {
    // SAFETY: plain system calls on descriptors this process owns; none allocates or locks. The pointers in
    // `prepared` are NUL-terminated tables of NUL-terminated strings that live in `prepared` itself.
    unsafe {
        libc::close(go.as_raw_fd());
        let mut byte = 0u8;
        if libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(127);
        }
        if launch.own_session {
            libc::setsid();
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() != parent.as_raw() {
                libc::_exit(127);
            }
        }
        if let Some(cpu) = launch.cpu {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
        }
        if launch.machine.turns {
            // Whoever is woken goes on when the one that woke it has done what it was about: it may be closing several pipes
            // (kernel/sched/fair.c, `check_preempt_wakeup_fair`: only normal tasks take the CPU from others).
            let normal: libc::sched_param = std::mem::zeroed();
            libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const normal);
        }
        if let Some(cwd) = &prepared.cwd
            && libc::chdir(cwd.as_ptr()) != 0
        {
            fail(tell, STEP_CHDIR);
        }
        place_descriptors(&prepared.fds);
        // Where a filter is forbidden nothing is reported, and the watcher knows that it saw nothing.
        if let (Some(filter), GO_TRACED) = (&prepared.filter, byte) {
            filter.install();
        }
        if let Some(limit) = launch.stack_limit {
            limits::set_stack(limit);
        }
        signals::begin_in_child(launch.signals);
        libc::execve(
            prepared.program.as_ptr(),
            prepared.argv.as_ptr(),
            prepared.envp.as_ptr(),
        );
        fail(tell, STEP_EXEC)
    }
}

/// Switches randomisation off in this process. 0, or the errno.
fn fix_addresses() -> i32 {
    let persona = personality::get().and_then(|p| personality::set(p | Persona::ADDR_NO_RANDOMIZE));
    persona.map_or_else(|errno| errno as i32, |_| 0)
}

/// Reports the current errno with the step that set it, and ends the child.
fn fail(tell: &PipeWriter, step: u8) -> ! {
    let errno = nix::errno::Errno::last_raw().to_ne_bytes();
    let message = [step, errno[0], errno[1], errno[2], errno[3]];
    // SAFETY: writes five bytes of a local array to an open pipe, then ends this process without running
    // any of the parent's exit handlers.
    unsafe {
        libc::write(tell.as_raw_fd(), message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}

/// First number above any that a launch may ask for; copies live there while the targets are overwritten.
const PARKING: RawFd = 200;

/// Gives each descriptor its number. Two passes, because one's target may be another's source.
///
/// # Safety
/// Only to be called in a forked child: it overwrites descriptors by number.
unsafe fn place_descriptors(fds: &[(RawFd, RawFd)]) {
    let mut parked = [-1; 16];
    for (slot, (source, _)) in parked.iter_mut().zip(fds) {
        // SAFETY: duplicates an open descriptor; closes on exec, so nothing leaks.
        *slot = unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, PARKING) };
    }
    for (slot, (_, target)) in parked.iter().zip(fds) {
        // SAFETY: the caller promises that this process's descriptors are ours to replace.
        unsafe { libc::dup2(*slot, *target) };
    }
}
