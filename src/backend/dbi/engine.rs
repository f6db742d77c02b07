//! The tracer's half of the engine: answers a tree that runs translated code.
//!
//! Here is what it knows, and how a thread that has left translated code goes on. `watcher` is told what happens, signals and
//! ends among it; `births` has how programs, processes and threads begin, `calls` the system calls, `asks` the time and random
//! numbers, `timers` what fires by it and `real_timers` what does not, `host` what else is told of the machine, `requests` the
//! marks of regions, `counts` what a process has executed, `course` in which order; `turns` is where threads take turns,
//! `deadline` until when.

mod asks;
mod births;
mod calls;
mod counts;
pub mod course;
mod deadline;
mod host;
mod real_timers;
mod requests;
mod timers;
mod turns;
mod watcher;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use nix::libc::user_regs_struct;

use self::asks::Waiting;
use self::course::Recorder;
use self::deadline::Deadline;
use self::host::Told;
use self::requests::Between;
use self::timers::{TimerCall, Timers};
use self::turns::Turn;
use super::clock::Clock;
use super::code::Change;
use super::libraries::Libraries;
use super::log::Log;
use super::memory::Pool;
use super::ranges::Range;
use super::setup;
use super::signals;
use super::space::{Area, How, Space};
use super::state::{self, Partial};
use super::store::Store;
use super::tally::{Names, Weights};
use crate::backend::finish::ProcessTable;
use crate::backend::marks::{Chunks, Marks};
use crate::backend::profile::OffsetProfile;
use crate::backend::traced::Unsupported;
use crate::backend::{BackendError, Detail};
use crate::dbi::cache::{Full, Manner, NoTranslation};
use crate::dbi::emit::ExitKind;
use crate::dbi::layout::{INDIRECT, MAGIC_CALL, slot};
use crate::dbi::plan::NoUnit;
use crate::model::course::Courses;
use crate::model::{
    BackendKind, Caveat, CountOverflow, Machine, OpcodeMix, ProjectFolder, RegionCount,
};
use crate::sys::Pid;
use crate::sys::image;
use crate::sys::ptrace::{Pace, Stopped};
use crate::sys::random::Stream;
use crate::sys::tree::{Call, Onward};

/// Units that are translated ahead at one stop, at most: a bound for code that goes on and on. Mostly what is likely enough
/// to be reached is less.
const BUDGET: usize = 256;

/// Why a count ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something the engine does not support.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Counts that do not fit.
    #[error(transparent)]
    Overflow(#[from] CountOverflow),
    /// An instruction that cannot be translated.
    #[error("the instruction at {address:#x} of `{program}` ({bytes}) cannot be translated: {why}")]
    Instruction {
        /// Where.
        address: u64,
        /// Of which program.
        program: String,
        /// Its bytes.
        bytes: String,
        /// Why not.
        why: String,
    },
}

/// What the next stop of a thread is expected to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expected {
    #[default]
    Nothing,
    /// The first instruction of a signal handler.
    Handler,
    /// The return of a system call that changes code.
    Code(Change),
    /// The return of an open whose path was replaced: the register and its own value, and whether it may open that.
    Open {
        second: bool,
        path: u64,
        or_own: bool,
    },
    /// The return of a call that waits for a time.
    Wait(Waiting),
    /// The return of a call that makes or sets a timer.
    Timer(TimerCall),
    /// The return of a call that tells what is not so for the program.
    Told(Told),
    /// The return of a system call whose answer is recorded.
    Answer(usize),
}

/// A thread of the tree.
struct Thread {
    process: Pid,
    /// Which of those that its process has had so far, from 0 on.
    number: usize,
    area: usize,
    /// The original address where it was last sent.
    at: u64,
    expected: Expected,
    /// A file of ours that it is about to open.
    lent: Option<OwnedFd>,
    /// Whether it could not, and is about to open its own.
    opens_own: bool,
    /// If it makes a call that waits again: when the time of that is over.
    waits_until: Option<u64>,
}

/// A process of the tree.
struct Process {
    space: Rc<RefCell<Space>>,
    row: usize,
    /// Threads it has had.
    threads: usize,
    partial: Vec<Partial>,
    /// Instructions besides those of units: system calls that were restarted.
    more: u64,
    between: Between,
    clock: Clock,
    /// What its counters stand for, for its clock.
    weights: Weights,
    /// The area that its clock is in: that of its first thread.
    clock_area: Option<Rc<Area>>,
    /// What `rdrand` gives.
    random: Stream,
    /// Whether its threads ask before each call.
    takes_turns: bool,
    /// Whether its program's loader may still have to read the list of libraries: nobody has.
    loading: bool,
    /// Its counters when it was looked for a thread that has its turn for too long.
    looked_at: Vec<u64>,
}

impl Process {
    fn new(space: Rc<RefCell<Space>>, row: usize, marks: Marks) -> Process {
        Process {
            space,
            row,
            threads: 0,
            partial: Vec::new(),
            more: 0,
            between: Between::new(marks),
            clock: Clock::default(),
            weights: Weights::default(),
            clock_area: None,
            random: Stream(0),
            takes_turns: false,
            loading: false,
            looked_at: Vec::new(),
        }
    }
}

/// Counts a tree.
pub struct Engine {
    want: Detail,
    pool: Rc<Pool>,
    store: Option<Store>,
    manner: Manner,
    machine: Machine,
    /// Where programs see it at another place than it is.
    folder: Option<ProjectFolder>,
    libraries: Libraries,
    threads: HashMap<Pid, Thread>,
    processes: HashMap<Pid, Process>,
    table: ProcessTable,
    opcodes: OpcodeMix,
    places: OffsetProfile,
    /// Where regions are wanted, everything is counted here and not in the fields above.
    chunks: Chunks,
    /// Where opcodes are wanted.
    names: Option<Names>,
    modules: BTreeSet<PathBuf>,
    instructions: u64,
    magic: u32,
    turn: Turn,
    /// Until when may compute whose turn it is.
    deadline: Deadline,
    timers: Timers,
    /// Where the kernel does not fix addresses and they shall be: whether they are.
    fixed_addresses: Option<io::Result<()>>,
    failure: Option<Failure>,
    log: Log,
    /// Where the course of the run is wanted.
    recorder: Option<Recorder>,
}

/// Everything that was counted.
pub struct Counted {
    pub instructions: u64,
    pub opcodes: Option<OpcodeMix>,
    pub places: Option<OffsetProfile>,
    pub regions: Option<BTreeMap<String, RegionCount>>,
    pub table: ProcessTable,
    pub modules: Vec<PathBuf>,
    pub caveats: Vec<Caveat>,
    pub courses: Option<Courses>,
}

impl Engine {
    /// An engine for one tree, whose programs can open the files of a process by one of the ids in `lenders`.
    pub fn new(
        want: Detail,
        log: Log,
        store: Option<Store>,
        machine: Machine,
        lenders: Vec<Pid>,
    ) -> Result<Engine, BackendError> {
        let pool = Pool::new(lenders).map_err(|source| BackendError::File {
            doing: "make shared memory",
            path: "memfd:counterfoil".into(),
            source,
        })?;
        Ok(Engine {
            want,
            pool,
            store,
            manner: requests::manner(want.regions, BUDGET),
            machine,
            folder: None,
            libraries: Libraries::default(),
            threads: HashMap::new(),
            processes: HashMap::new(),
            table: ProcessTable::default(),
            opcodes: OpcodeMix::default(),
            places: OffsetProfile::default(),
            chunks: Chunks::new(want.opcodes),
            names: want.opcodes.then(Names::new).transpose()?,
            modules: BTreeSet::new(),
            instructions: 0,
            magic: calls::first_magic(),
            turn: Turn::default(),
            deadline: Deadline::none(),
            timers: Timers::default(),
            fixed_addresses: None,
            failure: None,
            log,
            recorder: None,
        })
    }

    /// The same with the course of the run recorded: one unit is made at a time, when its code is reached.
    pub fn recording(self, random_is_fixed: bool) -> Engine {
        Engine {
            manner: requests::manner(self.want.regions, 0),
            recorder: Some(Recorder::new(random_is_fixed)),
            ..self
        }
    }

    /// The same for programs that see the project's folder at another place than it is.
    pub fn seeing(self, folder: Option<ProjectFolder>) -> Engine {
        Engine { folder, ..self }
    }

    /// Where a path leads that a program has.
    fn outside(&self, path: PathBuf) -> PathBuf {
        ProjectFolder::outside_of(self.folder.as_ref(), path)
    }

    /// The program a process runs, for messages.
    fn name_of(&self, pid: Pid) -> String {
        let path = image::executable(pid).map(|path| self.outside(path));
        path.map_or_else(|_| "?".to_owned(), |path| path.display().to_string())
    }

    /// The same for programs that the kernel gives random addresses: they are moved to fixed ones.
    pub fn fixing_addresses(self, fixes: bool) -> Engine {
        Engine {
            fixed_addresses: fixes.then_some(Ok(())),
            ..self
        }
    }

    /// Whether the addresses of all programs were fixed, where that was the engine's work.
    pub fn fixed_addresses(&mut self) -> Option<io::Result<()>> {
        self.fixed_addresses.take()
    }

    /// The error that ended the count, if any.
    pub fn failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// All counts.
    pub fn finish(mut self) -> Result<Counted, BackendError> {
        let left: Vec<Pid> = self.processes.keys().copied().collect();
        for process in left {
            self.program_over(process)?;
        }
        let (mut regions, mut caveats) = (None, Vec::new());
        if self.want.regions {
            let (marked, places) = self.chunks.finish()?;
            self.instructions = marked.instructions;
            self.opcodes = marked.opcodes.unwrap_or_default();
            self.places = places;
            regions = Some(marked.regions);
            caveats = marked.caveats;
        }
        Ok(Counted {
            instructions: self.instructions,
            opcodes: self.want.opcodes.then_some(self.opcodes),
            places: self.want.functions.then_some(self.places),
            regions,
            caveats,
            table: self.table,
            modules: self.modules.into_iter().collect(),
            courses: self.recorder.map(Recorder::finish),
        })
    }

    /// Ends the count: the event loop carries an error, and [`Engine::failure`] says what it was.
    fn fail<T>(&mut self, failure: impl Into<Failure>) -> io::Result<T> {
        let failure = failure.into();
        let error = io::Error::other(failure.to_string());
        self.failure = Some(failure);
        Err(error)
    }

    /// Ends the count because of what a thread does.
    fn refuse<T>(&mut self, thread: Pid, why: &'static str) -> io::Result<T> {
        let program = self.name_of(thread);
        self.fail(Unsupported {
            kind: BackendKind::Dbi,
            program,
            why,
        })
    }

    fn space(&self, process: Pid) -> io::Result<Rc<RefCell<Space>>> {
        let process = self.processes.get(&process);
        process
            .map(|process| Rc::clone(&process.space))
            .ok_or_else(unknown)
    }

    fn thread(&mut self, tid: Pid) -> io::Result<&mut Thread> {
        self.threads.get_mut(&tid).ok_or_else(unknown)
    }

    /// The translation of `pc`, where the thread may be sent.
    fn translate(&mut self, process: Pid, stopped: &Stopped, pc: u64, how: How) -> io::Result<u64> {
        let space = self.space(process)?;
        let units = || space.borrow().translations.borrow().cache.units().len();
        let before = self.recorder.as_ref().map(|_| units());
        loop {
            let result = space.borrow_mut().translate(stopped, pc, how, &self.manner);
            match result {
                Ok(address) => {
                    if before.is_some_and(|before| units() > before) {
                        self.reached(process, stopped, pc)?;
                    }
                    return Ok(address);
                }
                // The program faults there, as it would without us.
                Err(NoTranslation::Unit(NoUnit::NoCode)) => return self.no_code(stopped, pc),
                Err(NoTranslation::Unit(NoUnit::Refused(why))) => {
                    return self.cannot_translate(stopped, pc, &why.to_string());
                }
                Err(NoTranslation::Full(Full::Zone)) => self.grow(process, stopped, pc)?,
                Err(NoTranslation::Full(full)) => {
                    return self.cannot_translate(stopped, pc, &full.to_string());
                }
            }
        }
    }

    /// Makes room in a code cache.
    fn grow(&mut self, process: Pid, stopped: &Stopped, pc: u64) -> io::Result<()> {
        let own = self.own_area(process, stopped.tid())?;
        self.own_cache(process, stopped)?;
        let space = self.space(process)?;
        self.log.note(process, || {
            format!("the code cache is full at {pc:#x}: another zone")
        });
        setup::more_zones(stopped, &mut space.borrow_mut(), own, pc)
    }

    fn own_area(&mut self, process: Pid, tid: Pid) -> io::Result<u64> {
        let area = self.thread(tid)?.area;
        let space = self.space(process)?;
        let address = space.borrow().areas[area].address;
        Ok(address)
    }

    /// Sends a thread where nothing can be executed, if that is so for the kernel, too.
    fn no_code(&mut self, stopped: &Stopped, pc: u64) -> io::Result<u64> {
        let text = image::read_proc_text(&format!("/proc/{}/maps", stopped.tid()))?;
        let line = super::maps::lines(&text).find(|line| line.start <= pc && pc < line.end);
        if line.is_some_and(|line| line.executable() && line.name() != "[vsyscall]") {
            return self.cannot_translate(
                stopped,
                pc,
                "memory became executable without our being told",
            );
        }
        Ok(pc)
    }

    fn cannot_translate<T>(&mut self, stopped: &Stopped, address: u64, why: &str) -> io::Result<T> {
        let mut bytes = [0; 15];
        let length = stopped.read(address, &mut bytes).unwrap_or(0);
        let bytes: Vec<String> = bytes[..length]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let program = self.name_of(stopped.tid());
        self.fail(Failure::Instruction {
            address,
            program,
            bytes: bytes.join(" "),
            why: why.to_owned(),
        })
    }

    /// A thread has left translated code for `reason`: sends it on.
    fn answer(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        area: usize,
        reason: u32,
    ) -> io::Result<Call> {
        let space = self.space(process)?;
        let mut onward = Call::Done;
        let (pc, address) = if reason == INDIRECT {
            let pc = space.borrow().areas[area]
                .slots()
                .load_u64(slot::TARGET.into());
            if self.has_used_budget(process, area)? {
                onward = self.look_at_time(process, area)?;
            }
            (pc, self.translate(process, stopped, pc, How::Indirect)?)
        } else {
            let exit = space.borrow().translations.borrow().cache.exit(reason);
            let Some(exit) = exit else {
                return Err(io::Error::other(format!(
                    "translated code left by an exit that is none: {reason}"
                )));
            };
            let (mut target, mut how) = (exit.target, How::Direct);
            match exit.kind {
                ExitKind::Link => {}
                ExitKind::Stale => how = How::Again,
                ExitKind::Ask => (target, onward) = self.ask(process, stopped, area, target)?,
                ExitKind::Turn => onward = self.ends_turn(process, area)?,
                ExitKind::Request => self.request(process, stopped, area)?,
                ExitKind::Call => return self.call_in_turn(process, stopped, area, exit),
            }
            let address = self.translate(process, stopped, target, how)?;
            if !exit.kind.always_leaves() && address != target {
                let space = space.borrow();
                let translations = &mut *space.translations.borrow_mut();
                translations
                    .cache
                    .link(reason, address, &translations.memory);
            }
            (target, address)
        };
        self.thread(stopped.tid())?.at = pc;
        space.borrow().areas[area]
            .slots()
            .store_u64(slot::TARGET.into(), address);
        if self.magic != MAGIC_CALL {
            stopped.skip_call()?;
        }
        Ok(onward)
    }

    /// Separates the code cache of a process from that of others, which may soon have other code.
    fn own_cache(&mut self, process: Pid, stopped: &Stopped) -> io::Result<()> {
        let own = self.own_area(process, stopped.tid())?;
        let space = self.space(process)?;
        let shared = Rc::strong_count(&space.borrow().translations) > 1;
        if shared {
            self.log
                .note(process, || "a code cache of its own".to_owned());
            setup::diverge(stopped, &mut space.borrow_mut(), own)?;
        }
        Ok(())
    }

    /// The program's own state at a stop, if the thread is in translated code; its counts are corrected.
    fn settle(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        registers: &user_regs_struct,
    ) -> io::Result<Option<user_regs_struct>> {
        let thread = self.thread(stopped.tid())?;
        let (area, at) = (thread.area, thread.at);
        let space = self.space(process)?;
        let space = space.borrow();
        if !space.is_translated(registers.rip) {
            return Ok(None);
        }
        let Some(original) = state::original(&space, area, registers, at) else {
            return Err(io::Error::other(format!(
                "translated code at {:#x} has no meaning",
                registers.rip
            )));
        };
        if let Some(process) = self.processes.get_mut(&process) {
            process.partial.extend(original.partial);
        }
        Ok(Some(original.registers))
    }

    /// A thread that had a reason to leave translated code, and is taken out of it before it could say so, has none.
    fn forget_reason(&mut self, process: Pid, tid: Pid) -> io::Result<()> {
        let area = self.thread(tid)?.area;
        let space = self.space(process)?;
        let space = space.borrow();
        space.areas[area].slots().store_u64(slot::REASON.into(), 0);
        Ok(())
    }

    /// A thread stands at an original address: sends it to the translation.
    fn redirect(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        mut registers: user_regs_struct,
    ) -> io::Result<()> {
        let pc = registers.rip;
        registers.rip = self.translate(process, stopped, pc, How::Direct)?;
        self.thread(stopped.tid())?.at = pc;
        Ok(stopped.set_registers(registers)?)
    }

    /// A signal that a handler catches, or that ends the program: it sees its own state.
    fn deliver(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        signal: i32,
        caught: bool,
        registers: &user_regs_struct,
    ) -> io::Result<Onward> {
        if let Some(original) = self.settle(process, stopped, registers)? {
            if signals::address_is_code(stopped, registers.rip)? {
                stopped.set_signal_address(original.rip)?;
            }
            stopped.set_registers(original)?;
            self.forget_reason(process, stopped.tid())?;
            let (from, to) = (registers.rip, original.rip);
            self.log.note(process, || {
                format!(
                    "signal {signal} at {to:#x} (translated: {from:#x}), caught: {caught}; {}",
                    code_at(stopped, from, to)
                )
            });
        }
        if !caught {
            return Ok(Onward {
                pace: Pace::Run,
                signal: Some(signal),
            });
        }
        self.thread(stopped.tid())?.expected = Expected::Handler;
        Ok(Onward {
            pace: Pace::Step,
            signal: Some(signal),
        })
    }

    /// Whether a fault only says that a thread stands at an original address.
    fn is_stray(
        &self,
        process: Pid,
        stopped: &Stopped,
        registers: &user_regs_struct,
    ) -> io::Result<bool> {
        let space = self.space(process)?;
        let space = space.borrow();
        let ours = !space.is_translated(registers.rip) && space.ranges.at(registers.rip).is_some();
        Ok(ours && signals::fault_address(stopped)? == Some(registers.rip))
    }

    fn keep(&mut self, result: Result<(), CountOverflow>) -> io::Result<()> {
        result.or_else(|overflow| self.fail(overflow))
    }
}

/// The bytes at a place in translated code, and those they stand for.
fn code_at(stopped: &Stopped, translated: u64, original: u64) -> String {
    let bytes = |at: u64| {
        let mut bytes = [0; 16];
        let length = stopped.read(at, &mut bytes).unwrap_or(0);
        let text: Vec<String> = bytes[..length]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        text.join(" ")
    };
    format!("{} for {}", bytes(translated), bytes(original))
}

/// The files that ranges are mapped from.
fn files<'a>(ranges: impl Iterator<Item = &'a Range>) -> impl Iterator<Item = PathBuf> {
    ranges.filter_map(|range| range.file.as_deref().cloned())
}

fn unknown() -> io::Error {
    io::Error::other("a thread that was never announced")
}
