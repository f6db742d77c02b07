//! The course of a run, recorded: code that is reached for the first time, and what the machine answers.
//!
//! Units are made one at a time and none is recalled from an earlier run, so that a unit is made when its code is reached
//! first. At each such moment the counters are read.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::io;

use nix::libc::{self, user_regs_struct};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::super::directory;
use super::super::ranges::Ranges;
use super::super::space::Space;
use super::counts::read_counters;
use super::{Engine, Expected};
use crate::dbi::cache::{Cache, Unit};
use crate::dbi::decode::{self, Kind};
use crate::isa::{LONGEST_CALL_BYTES, may_end_in_call};
use crate::model::course::{
    Answer, Block, Course, Courses, Event, Flow, Moment, Origin, Place, Step,
};
use crate::sys::Pid;
use crate::sys::ptrace::Stopped;
use crate::sys::tree::Call;

/// Counters up to which all are read at each moment; with more of them moments are left out, so that the work stays in
/// proportion to the program's code.
const ALWAYS_READ: usize = 32_768;

/// Words of the stack that are looked at for return addresses, and how many of these are kept.
const STACK_WORDS: usize = 64;
const MOST_CALLERS: usize = 6;

/// Bytes of an answer that are summed up, at most.
const MOST_BYTES: u64 = 1 << 16;

/// Where an answer is, besides the call's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    /// Nowhere.
    Nothing,
    /// As many bytes at an argument.
    Fixed(usize, u64),
    /// As many bytes at an argument as the result says.
    Result(usize),
    /// `struct stat` at an argument (arch/x86/include/uapi/asm/stat.h).
    Stat(usize),
}

/// System calls whose answers are the machine's and not the program's own doing.
const ANSWERS: [(libc::c_long, &str, Out); 30] = [
    (libc::SYS_getpid, "getpid", Out::Nothing),
    (libc::SYS_gettid, "gettid", Out::Nothing),
    (libc::SYS_getppid, "getppid", Out::Nothing),
    (libc::SYS_getuid, "getuid", Out::Nothing),
    (libc::SYS_geteuid, "geteuid", Out::Nothing),
    (libc::SYS_clock_gettime, "clock_gettime", Out::Fixed(1, 16)),
    (libc::SYS_gettimeofday, "gettimeofday", Out::Fixed(0, 16)),
    (libc::SYS_time, "time", Out::Nothing),
    (libc::SYS_times, "times", Out::Fixed(0, 32)),
    (libc::SYS_getrusage, "getrusage", Out::Fixed(1, 144)),
    (libc::SYS_getrandom, "getrandom", Out::Result(0)),
    (libc::SYS_read, "read", Out::Result(1)),
    (libc::SYS_pread64, "pread64", Out::Result(1)),
    (libc::SYS_recvfrom, "recvfrom", Out::Result(1)),
    (libc::SYS_readlink, "readlink", Out::Result(1)),
    (libc::SYS_getcwd, "getcwd", Out::Result(0)),
    (libc::SYS_getdents64, "getdents64", Out::Result(1)),
    (
        libc::SYS_sched_getaffinity,
        "sched_getaffinity",
        Out::Result(2),
    ),
    (libc::SYS_getcpu, "getcpu", Out::Fixed(0, 4)),
    (libc::SYS_uname, "uname", Out::Fixed(0, 390)),
    (libc::SYS_sysinfo, "sysinfo", Out::Fixed(0, 112)),
    (libc::SYS_stat, "stat", Out::Stat(1)),
    (libc::SYS_lstat, "lstat", Out::Stat(1)),
    (libc::SYS_fstat, "fstat", Out::Stat(1)),
    (libc::SYS_newfstatat, "newfstatat", Out::Stat(2)),
    (libc::SYS_umask, "umask", Out::Nothing),
    (libc::SYS_futex, "futex", Out::Nothing),
    (libc::SYS_poll, "poll", Out::Nothing),
    (libc::SYS_epoll_wait, "epoll_wait", Out::Nothing),
    (libc::SYS_ioctl, "ioctl", Out::Nothing),
];

/// The numbers of the calls that are recorded.
pub const RECORDED_CALLS: &[u32] = &{
    let mut numbers = [0; ANSWERS.len()];
    let mut at = 0;
    while at < numbers.len() {
        numbers[at] = ANSWERS[at].0 as u32;
        at += 1;
    }
    numbers
};

/// One program's recording.
#[derive(Default)]
struct Recording {
    events: Vec<Event>,
    /// Its counters when they were read last.
    seen: Vec<u64>,
}

/// What is recorded of a run.
#[derive(Default)]
pub struct Recorder {
    /// Whether getrandom(2) is answered by somebody else, always in the same way.
    random_is_fixed: bool,
    origins: HashMap<Origin, u32>,
    rows: BTreeMap<usize, Recording>,
    over: Vec<Course>,
    moments: u64,
}

impl Recorder {
    /// Nothing recorded yet.
    pub fn new(random_is_fixed: bool) -> Recorder {
        Recorder {
            random_is_fixed,
            ..Recorder::default()
        }
    }

    /// Everything that was recorded.
    pub fn finish(self) -> Courses {
        let mut origins = vec![Origin::Memory(String::new()); self.origins.len()];
        for (origin, index) in self.origins {
            origins[index as usize] = origin;
        }
        let mut programs = self.over;
        programs.sort_by_key(|course| course.row);
        Courses { origins, programs }
    }

    fn place(&mut self, ranges: &Ranges, address: u64) -> Place {
        let range = ranges.at(address);
        let (origin, offset) = match range.and_then(|range| Some((range, range.file.as_ref()?))) {
            Some((range, file)) => (
                Origin::File(file.as_ref().clone()),
                address - range.start + range.offset,
            ),
            None => {
                let label = range.map_or("", |range| range.label.as_str());
                let label = if label.is_empty() {
                    "[anonymous]"
                } else {
                    label
                };
                (Origin::Memory(label.to_owned()), address)
            }
        };
        let next = self.origins.len() as u32;
        Place {
            origin: *self.origins.entry(origin).or_insert(next),
            offset,
        }
    }

    /// The blocks of the units of a program that were executed.
    fn blocks(&mut self, cache: &Cache, ranges: &Ranges, counters: &[u64]) -> Vec<Block> {
        let executed = |unit: &&Unit| counters.get(unit.counter as usize).is_some_and(|c| *c > 0);
        let units: Vec<&Unit> = cache.units().iter().filter(executed).collect();
        let mut blocks = Vec::with_capacity(units.len());
        for unit in units {
            let steps = self.steps(cache.bytes_of(unit), unit, ranges);
            let unanswered = cache.unanswered(unit);
            blocks.extend(cache.blocks(unit).map(|block| Block {
                steps: steps[block.from.into()..block.to.into()].to_vec(),
                counter: block.counter,
                exits: unanswered.into_iter().collect(),
            }));
        }
        blocks
    }

    fn steps(&mut self, bytes: &[u8], unit: &Unit, ranges: &Ranges) -> Vec<Step> {
        let mut steps = Vec::with_capacity(unit.instructions.into());
        let mut at = 0;
        for _ in 0..unit.instructions {
            let (pc, rest) = (unit.pc + at as u64, bytes.get(at..).unwrap_or_default());
            let inst = decode::decode(rest, pc);
            let flow = match inst.kind {
                Kind::Branch { target, .. } | Kind::CountBranch { target } => {
                    Flow::Branch(self.place(ranges, target))
                }
                Kind::Jump { target } => Flow::Jump(self.place(ranges, target)),
                Kind::Call { target } => Flow::Call(self.place(ranges, target)),
                Kind::Return { .. } | Kind::JumpTo => Flow::Elsewhere,
                Kind::Asks(question) => Flow::Asks(question.name()),
                _ => Flow::On,
            };
            let place = self.place(ranges, pc);
            let bytes = inst.len.max(1);
            steps.push(Step { place, bytes, flow });
            at += usize::from(inst.len.max(1));
        }
        steps
    }
}

impl Engine {
    /// A unit was made: its code is reached for the first time.
    pub(super) fn reached(&mut self, process: Pid, stopped: &Stopped, pc: u64) -> io::Result<()> {
        let space = self.space(process)?;
        let place = self
            .recorder
            .as_mut()
            .map(|recorder| recorder.place(&space.borrow().ranges, pc));
        match place {
            Some(place) => self.moment(process, Some(stopped), Moment::Reached(place)),
            None => Ok(()),
        }
    }

    /// A system call is about to be made whose answer is recorded.
    pub(super) fn asked(
        &mut self,
        stopped: &Stopped,
        registers: &user_regs_struct,
    ) -> io::Result<Call> {
        let number = registers.orig_rax as libc::c_long;
        let Some(recorder) = &self.recorder else {
            return Ok(Call::Make);
        };
        let known = ANSWERS.iter().position(|(known, _, _)| *known == number);
        let Some(call) =
            known.filter(|_| number != libc::SYS_getrandom || !recorder.random_is_fixed)
        else {
            return Ok(Call::Make);
        };
        self.thread(stopped.tid())?.expected = Expected::Answer(call);
        Ok(Call::ReportReturn)
    }

    /// It has returned.
    pub(super) fn answered(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        call: usize,
    ) -> io::Result<()> {
        let registers = stopped.registers()?;
        let mut answer = answer(stopped, &registers, ANSWERS[call]);
        answer.file = answer.file.map(|file| self.outside(file));
        self.moment(process, Some(stopped), Moment::Answered(answer))
    }

    /// A call was answered with what is shown of the machine: recorded as if the kernel had answered.
    pub(super) fn told_of(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        number: libc::c_long,
    ) -> io::Result<()> {
        let known = ANSWERS.iter().position(|(known, _, _)| *known == number);
        match known.filter(|_| self.recorder.is_some()) {
            Some(call) => self.answered(process, stopped, call),
            None => Ok(()),
        }
    }

    /// Records a moment of a process's program.
    pub(super) fn moment(
        &mut self,
        pid: Pid,
        stopped: Option<&Stopped>,
        moment: Moment,
    ) -> io::Result<()> {
        let takes_turns = self.takes_turns(pid);
        let (Some(recorder), Some(process)) = (&mut self.recorder, self.processes.get(&pid)) else {
            return Ok(());
        };
        let threads = self.threads.values().filter(|thread| thread.process == pid);
        let threads = if takes_turns { 1 } else { threads.count() };
        let recording = recorder.rows.entry(process.row).or_default();
        let number = recording.events.len();
        let interval = (recording.seen.len() / ALWAYS_READ).pow(2).max(1);
        let reads = moment == Moment::Over || number.is_multiple_of(interval);
        let risen = match reads {
            true => Some(recording.risen(read_counters(pid, process).map_err(io::Error::other)?)),
            false => None,
        };
        let callers = match stopped {
            Some(stopped) => recorder.callers(&process.space.borrow(), stopped)?,
            None => Vec::new(),
        };
        recorder.moments += 1;
        let event = Event {
            at: recorder.moments,
            moment,
            risen,
            threads,
            callers,
        };
        recorder
            .rows
            .entry(process.row)
            .or_default()
            .events
            .push(event);
        Ok(())
    }

    /// A program is over.
    pub(super) fn course_over(&mut self, pid: Pid) -> io::Result<()> {
        self.moment(pid, None, Moment::Over)?;
        let (Some(recorder), Some(process)) = (&mut self.recorder, self.processes.get(&pid)) else {
            return Ok(());
        };
        let recording = recorder.rows.remove(&process.row).unwrap_or_default();
        let space = process.space.borrow();
        let translations = space.translations.borrow();
        let blocks = recorder.blocks(&translations.cache, &space.ranges, &recording.seen);
        recorder.over.push(Course {
            row: process.row,
            program: self.table.name(process.row).unwrap_or_default().to_owned(),
            blocks,
            events: recording.events,
        });
        Ok(())
    }
}

impl Recording {
    /// The counters that have risen since they were read last, and by how much.
    fn risen(&mut self, now: Vec<u64>) -> Vec<(u32, u64)> {
        self.seen.resize(now.len(), 0);
        let pairs = now.iter().zip(&self.seen).enumerate();
        let risen = pairs
            .filter(|(_, (now, before))| now != before)
            .map(|(index, (now, before))| (index as u32, now - before))
            .collect();
        self.seen = now;
        risen
    }
}

impl Recorder {
    /// Return addresses on a thread's stack, innermost first: words that lead behind a `call`.
    fn callers(&mut self, space: &Space, stopped: &Stopped) -> io::Result<Vec<Place>> {
        let mut bytes = [0; 8 * STACK_WORDS];
        let length = stopped
            .read(stopped.registers()?.rsp, &mut bytes)
            .unwrap_or(0);
        let words = bytes[..length].chunks_exact(8);
        let addresses = words.map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        let mut callers = Vec::new();
        for address in addresses.filter(|address| space.ranges.at(*address).is_some()) {
            if callers.len() < MOST_CALLERS && is_behind_call(stopped, address) {
                callers.push(self.place(&space.ranges, address - 1));
            }
        }
        Ok(callers)
    }
}

/// Whether the instruction before an address may be a `call`.
fn is_behind_call(stopped: &Stopped, address: u64) -> bool {
    let mut code = [0; LONGEST_CALL_BYTES];
    let start = address - LONGEST_CALL_BYTES as u64;
    stopped.read(start, &mut code).unwrap_or(0) == code.len() && may_end_in_call(&code)
}

fn answer(
    stopped: &Stopped,
    registers: &user_regs_struct,
    call: (libc::c_long, &'static str, Out),
) -> Answer {
    let (number, name, out) = call;
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10];
    let result = registers.rax as i64;
    let (at, length) = match out {
        _ if result < 0 => (0, 0),
        Out::Nothing => (0, 0),
        Out::Fixed(argument, length) => (arguments[argument], length),
        Out::Result(argument) => (arguments[argument], result as u64),
        Out::Stat(argument) => (arguments[argument], 144),
    };
    let mut bytes = vec![0; length.min(MOST_BYTES) as usize];
    let read = if at == 0 {
        0
    } else {
        stopped.read(at, &mut bytes).unwrap_or(0)
    };
    bytes.truncate(read);
    match out {
        // The time of the last access, which reading changes.
        Out::Stat(_) if bytes.len() >= 88 => bytes[72..88].fill(0),
        _ => {}
    }
    let names = (number == libc::SYS_getdents64).then(|| names(&bytes));
    let parts = names.as_ref().map(|names| {
        let sums = names.iter().map(|name| xxh3_64(name.as_bytes()));
        sums.fold(0, u64::wrapping_add)
    });
    let bytes = names
        .as_ref()
        .map_or(bytes, |names| names.join("\0").into_bytes());
    let mut digest = Xxh3::new();
    digest.write_i64(if names.is_some() { 0 } else { result });
    digest.write_u64(xxh3_64(&bytes));
    let descriptor = matches!(
        number,
        libc::SYS_read
            | libc::SYS_pread64
            | libc::SYS_getdents64
            | libc::SYS_fstat
            | libc::SYS_recvfrom
    );
    Answer {
        call: name,
        file: descriptor
            .then(|| file_of(stopped.tid(), registers.rdi))
            .flatten(),
        digest: digest.finish(),
        parts,
        shown: shown(number, result, &bytes, names.as_deref()),
    }
}

fn file_of(tid: Pid, descriptor: u64) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{tid}/fd/{}", descriptor as i32)).ok()
}

/// The names in what getdents64(2) gives.
fn names(entries: &[u8]) -> Vec<String> {
    let (entries, _) = directory::entries(entries);
    let name = |entry: &&[u8]| String::from_utf8_lossy(directory::name(entry)).into_owned();
    entries.iter().map(name).collect()
}

fn shown(number: libc::c_long, result: i64, bytes: &[u8], names: Option<&[String]>) -> String {
    let word = |at: usize| {
        let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
        word.map_or(0, i64::from_le_bytes)
    };
    let plain = |name: &&String| !matches!(name.as_str(), "." | "..");
    match (number, names) {
        (_, Some(names)) => {
            let first: Vec<&str> = names
                .iter()
                .filter(plain)
                .take(3)
                .map(String::as_str)
                .collect();
            first.join(", ")
        }
        (libc::SYS_clock_gettime, _) if bytes.len() == 16 => {
            format!("{}.{:09} s", word(0), word(8))
        }
        (libc::SYS_gettimeofday, _) if bytes.len() == 16 => format!("{}.{:06} s", word(0), word(8)),
        (
            libc::SYS_getrandom | libc::SYS_read | libc::SYS_pread64 | libc::SYS_sched_getaffinity,
            _,
        ) => {
            let hex: Vec<String> = bytes
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            hex.join(" ")
        }
        _ => result.to_string(),
    }
}
