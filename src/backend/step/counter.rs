//! What the single steps of a tree add up to.
//!
//! [`Counter`] is told every step by `sys::tree`. It looks at the bytes before a step and at the instruction
//! pointer after it, and keeps counts by address in each process until the process is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;

use nix::libc::user_regs_struct;
use nix::sched::{CpuSet, sched_getaffinity};

use super::super::BackendError;
use super::super::marks::{Chunks, Marks, Request, Sums};
use super::super::profile::{Modules, OffsetProfile, Place};
use super::super::regions::MARKER_BYTES;
use super::super::traced::{UNTRACED, Unsupported};
use super::slots::{Kind, Reader, Slot};
use crate::backend::Detail;
use crate::model::{
    BackendKind, Caveat, CountOverflow, Functions, OpcodeMix, ProcessCount, ProjectFolder,
    RegionCount,
};
use crate::sys::Pid;
use crate::sys::image::{self, Mapping};
use crate::sys::ptrace::{Pace, Stopped};
use crate::sys::tree::{self, Birth, Trap, Watcher};

/// The trap flag in RFLAGS (Intel SDM volume 1, section 3.4.3.3).
const TRAP_FLAG: u64 = 1 << 8;

/// System calls that change what is mapped executable: mmap, mprotect, munmap, shmat, mremap, pkey_mprotect.
const MAPPING_CALLS: [u64; 6] = [9, 10, 11, 30, 25, 329];

/// `rt_sigreturn`: after it, all registers are those of the interrupted code.
const SIGRETURN: u64 = 15;

/// Why a count ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something that single-stepping cannot follow.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Counts that do not fit.
    #[error(transparent)]
    Overflow(#[from] CountOverflow),
}

impl From<Failure> for BackendError {
    fn from(failure: Failure) -> BackendError {
        match failure {
            Failure::Unsupported(unsupported) => unsupported.into(),
            Failure::Overflow(overflow) => overflow.into(),
        }
    }
}

/// An instruction that a thread was set to execute.
#[derive(Clone, Copy, Debug)]
struct Pending {
    address: u64,
    kind: Kind,
    /// The system call's number, where it is one.
    call: u64,
}

/// One thread of the tree.
#[derive(Clone, Copy, Debug)]
struct Thread {
    process: Pid,
    pending: Option<Pending>,
    /// Where it stands, if nothing happened since it was asked.
    stands: Option<u64>,
    /// Where the client request ends that it has begun.
    request_ends: Option<u64>,
}

impl Thread {
    fn of(process: Pid) -> Thread {
        Thread {
            process,
            pending: None,
            stands: None,
            request_ends: None,
        }
    }
}

/// One program in one process.
struct Process {
    row: usize,
    slots: HashMap<u64, Slot>,
    /// Counts of this chunk whose slots are gone.
    aside: Sums,
    mappings: Vec<Mapping>,
    /// Whether `mappings` may have changed.
    stale: bool,
    marks: Marks,
}

impl Process {
    fn new(row: usize, marks: Marks) -> Process {
        Process {
            row,
            slots: HashMap::new(),
            aside: Sums::default(),
            mappings: Vec::new(),
            stale: true,
            marks,
        }
    }

    fn mapping(&self, address: u64) -> Option<&Mapping> {
        self.mappings
            .iter()
            .find(|m| m.start <= address && address < m.end)
    }
}

/// What a profile must know of a mapping.
fn place(mapping: &Mapping) -> Place<'_> {
    Place {
        start: mapping.start,
        offset: mapping.offset,
        file: mapping.file.as_deref(),
        label: &mapping.label,
    }
}

/// Everything that was counted.
pub struct Counted {
    pub instructions: u64,
    pub opcodes: Option<OpcodeMix>,
    pub functions: Option<Functions>,
    pub regions: Option<BTreeMap<String, RegionCount>>,
    pub processes: Vec<ProcessCount>,
    pub modules: Vec<PathBuf>,
    pub caveats: Vec<Caveat>,
}

/// Counts the steps of a tree.
pub struct Counter {
    want: Detail,
    folder: Option<ProjectFolder>,
    cpu: Option<usize>,
    on_one_cpu: bool,
    reader: Reader,
    threads: HashMap<Pid, Thread>,
    processes: HashMap<Pid, Process>,
    rows: Vec<ProcessCount>,
    opcodes: OpcodeMix,
    /// Counts by file and offset in the file.
    places: OffsetProfile,
    modules: BTreeSet<PathBuf>,
    /// Where regions are wanted, everything is counted here and not in the fields above.
    chunks: Chunks,
    /// Steps whose instruction was not known before.
    unseen: u64,
    /// What the event loop cannot carry.
    failure: Option<Failure>,
}

impl Counter {
    /// A counter for a tree that shall be confined to `cpu`, if any.
    /// `folder`: the project's, where programs see it at another place than it is.
    pub fn new(
        want: Detail,
        cpu: Option<usize>,
        folder: Option<ProjectFolder>,
    ) -> Result<Counter, BackendError> {
        Ok(Counter {
            folder,
            want,
            cpu,
            on_one_cpu: false,
            reader: Reader::new()?,
            threads: HashMap::new(),
            processes: HashMap::new(),
            rows: Vec::new(),
            opcodes: OpcodeMix::default(),
            places: OffsetProfile::default(),
            modules: BTreeSet::new(),
            chunks: Chunks::new(want.opcodes),
            unseen: 0,
            failure: None,
        })
    }

    /// What ended the count before its time.
    pub fn take_failure(&mut self) -> Result<(), Failure> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Whether the root was confined to the CPU that was asked for.
    pub fn on_one_cpu(&self) -> bool {
        self.on_one_cpu
    }

    /// Carries an overflow past the event loop.
    fn keep(&mut self, result: Result<(), CountOverflow>) -> io::Result<()> {
        result.or_else(|overflow| self.fail(overflow))
    }

    /// Ends the count.
    fn fail(&mut self, failure: impl Into<Failure>) -> io::Result<()> {
        let failure = failure.into();
        let error = io::Error::other(failure.to_string());
        self.failure = Some(failure);
        Err(error)
    }

    /// Ends the count before a process begins that would not be counted.
    fn refuse_untraced(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        registers: &user_regs_struct,
    ) -> io::Result<()> {
        if !tree::makes_untraced(stopped, registers, registers.rax) {
            return Ok(());
        }
        let row = self.processes.get(&process).map(|state| state.row);
        let row = row.and_then(|row| self.rows.get(row));
        let program = row.map_or_else(|| "?".to_owned(), |row| row.program.clone());
        self.fail(Unsupported {
            kind: BackendKind::Step,
            program,
            why: UNTRACED,
        })
    }

    fn new_row(&mut self, parent: Option<usize>, program: String, replaces: bool) -> usize {
        let index = self.rows.len();
        self.rows.push(ProcessCount {
            index,
            parent,
            program,
            replaces,
            instructions: (!self.want.regions).then_some(0),
        });
        index
    }

    /// The instruction at `address` of a stopped thread: from the slot, or decoded anew if the bytes changed.
    fn look(&mut self, process: Pid, stopped: &Stopped, address: u64) -> io::Result<Kind> {
        let mut bytes = [0; MARKER_BYTES];
        let length = stopped.read(address, &mut bytes).unwrap_or(0);
        self.refresh_mappings(process)?;
        let Some(state) = self.processes.get_mut(&process) else {
            return Ok(Kind::Plain);
        };
        if let Some(slot) = state.slots.get(&address)
            && slot.bytes == bytes
            && slot.length == length
        {
            return Ok(slot.kind);
        }
        let old = state.slots.remove(&address);
        if let Some(old) = old.filter(|slot| slot.count > 0) {
            state.slots.insert(address, old);
            self.set_aside(process)?;
        }
        let slot = self.reader.decode(&bytes, length, address);
        let kind = slot.kind;
        if let Some(state) = self.processes.get_mut(&process) {
            state.slots.insert(address, slot);
        }
        Ok(kind)
    }

    /// Reads the mappings again if they may have changed, before their counts would go to the wrong file.
    fn refresh_mappings(&mut self, process: Pid) -> io::Result<()> {
        if !self.processes.get(&process).is_some_and(|p| p.stale) {
            return Ok(());
        }
        let mut mappings = image::executable_mappings(process)?;
        for file in mappings
            .iter_mut()
            .filter_map(|mapping| mapping.file.as_mut())
        {
            *file = ProjectFolder::outside_of(self.folder.as_ref(), std::mem::take(file));
        }
        self.modules
            .extend(mappings.iter().filter_map(|m| m.file.clone()));
        if self
            .processes
            .get(&process)
            .is_some_and(|p| p.mappings != mappings)
        {
            self.set_aside(process)?;
        }
        if let Some(state) = self.processes.get_mut(&process) {
            state.mappings = mappings;
            state.stale = false;
        }
        Ok(())
    }

    /// Forgets all slots of a process, whose code may change; their counts are kept.
    fn set_aside(&mut self, process: Pid) -> io::Result<()> {
        let result = self.take(process);
        let taken = result.map(|sums| {
            if let Some(state) = self.processes.get_mut(&process) {
                state.aside = sums;
                state.slots.clear();
            }
        });
        self.keep(taken)
    }

    /// An instruction at `address` of a thread of `process` is complete.
    fn completed(&mut self, tid: Pid, process: Pid, done: Pending) -> io::Result<()> {
        let regions = self.want.regions;
        let thread = self.thread(tid);
        let ends_request = thread.request_ends == Some(done.address);
        if done.kind == Kind::Request {
            thread.request_ends = done.address.checked_add(16);
        } else if ends_request {
            thread.request_ends = None;
        }
        let Some(state) = self.processes.get_mut(&process) else {
            return Ok(());
        };
        if MAPPING_CALLS.contains(&done.call) && done.kind == Kind::SystemCall {
            state.stale = true;
        }
        if regions && (ends_request || !state.marks.counting()) {
            return Ok(());
        }
        if let Some(slot) = state.slots.get_mut(&done.address)
            && !(regions && slot.in_marker)
        {
            let count = slot.count.checked_add(1).ok_or(CountOverflow);
            match count {
                Ok(count) => slot.count = count,
                Err(overflow) => return self.keep(Err(overflow)),
            }
        }
        Ok(())
    }

    /// Takes all counts out of the slots of a process.
    fn take(&mut self, process: Pid) -> Result<Sums, CountOverflow> {
        let Some(state) = self.processes.get_mut(&process) else {
            return Ok(Sums::default());
        };
        let mut sums = std::mem::take(&mut state.aside);
        let mut slots = std::mem::take(&mut state.slots);
        for (address, slot) in slots.iter_mut().filter(|(_, slot)| slot.count > 0) {
            let count = std::mem::take(&mut slot.count);
            sums.instructions = sums.instructions.checked_add(count).ok_or(CountOverflow)?;
            sums.opcodes.add(self.reader.mnemonic(slot), count)?;
            if self.want.functions {
                let place = state.mapping(*address).map(place);
                let bytes = slot.instruction();
                sums.places.add_at(place, *address, bytes, count)?;
            }
        }
        state.slots = slots;
        Ok(sums)
    }

    fn add_plain(&mut self, row: usize, sums: Sums) -> Result<(), CountOverflow> {
        if let Some(row) = self.rows.get_mut(row) {
            let count = row.instructions.unwrap_or(0);
            row.instructions = Some(count.checked_add(sums.instructions).ok_or(CountOverflow)?);
        }
        self.opcodes.merge(&sums.opcodes)?;
        self.places.merge(sums.places)
    }

    /// A client request was executed: its words are at `address`.
    fn request(&mut self, process: Pid, stopped: &Stopped, address: u64) -> io::Result<()> {
        let Some(request) = Request::read(stopped, address)? else {
            return Ok(());
        };
        let result = self.obey(process, request);
        self.keep(result)
    }

    fn obey(&mut self, process: Pid, request: Request) -> Result<(), CountOverflow> {
        let over = match request {
            Request::Dump(_) | Request::Zero => Some(self.take(process)?),
            Request::Toggle | Request::Start | Request::Stop => None,
        };
        let Some(state) = self.processes.get_mut(&process) else {
            return Ok(());
        };
        state.marks.turn(&request);
        match (request, over) {
            (Request::Dump(label), Some(sums)) => self.chunks.end(&mut state.marks, label, sums),
            _ => Ok(()),
        }
    }

    /// A program is over: its process ends or executes another.
    fn program_over(&mut self, process: Pid) -> Result<(), CountOverflow> {
        let sums = self.take(process)?;
        match self.processes.remove(&process) {
            Some(state) if self.want.regions => self.chunks.program_over(state.marks, sums),
            Some(state) => self.add_plain(state.row, sums),
            None => Ok(()),
        }
    }

    /// All counts, opcodes and functions resolved.
    pub fn finish(mut self, modules: &Modules) -> Result<Counted, BackendError> {
        let left: Vec<Pid> = self.processes.keys().copied().collect();
        for process in left {
            self.program_over(process)?;
        }
        let mut caveats = Vec::new();
        let (mut instructions, mut regions) = (None, None);
        if self.want.regions {
            let (marked, places) = self.chunks.finish()?;
            self.places = places;
            self.opcodes = marked.opcodes.unwrap_or_default();
            instructions = Some(marked.instructions);
            regions = Some(marked.regions);
            caveats = marked.caveats;
        }
        let in_rows = self.rows.iter().filter_map(|row| row.instructions);
        let instructions = match instructions {
            Some(instructions) => instructions,
            None => crate::model::sum(in_rows)?,
        };
        if self.unseen > 0 {
            let text = format!(
                "{} steps of unknown instructions are not in the count",
                self.unseen
            );
            caveats.push(Caveat::Other { text });
        }
        let functions = match self.want.functions {
            true => Some(self.places.functions(modules)?),
            false => None,
        };
        Ok(Counted {
            instructions,
            opcodes: self.want.opcodes.then_some(self.opcodes),
            functions,
            regions,
            processes: self.rows,
            modules: self.modules.into_iter().collect(),
            caveats,
        })
    }

    fn thread(&mut self, tid: Pid) -> &mut Thread {
        self.threads.entry(tid).or_insert(Thread::of(tid))
    }

    /// The trap flag that `pushf` has just stored is ours: takes it out.
    fn hide_trap_flag(stopped: &Stopped, stack: u64) -> io::Result<()> {
        let mut flags = [0; 2];
        stopped.read(stack, &mut flags)?;
        let hidden = u16::from_le_bytes(flags) & !(TRAP_FLAG as u16);
        Ok(stopped.write(stack, &hidden.to_le_bytes())?)
    }

    /// What follows from an instruction apart from its count.
    fn consequences(
        &mut self,
        stopped: &Stopped,
        registers: &user_regs_struct,
        done: Pending,
    ) -> io::Result<()> {
        let thread = *self.thread(stopped.tid());
        if done.kind == Kind::StoresFlags {
            Self::hide_trap_flag(stopped, registers.rsp)?;
        }
        if self.want.regions && thread.request_ends == Some(done.address) {
            self.request(thread.process, stopped, registers.rax)?;
        }
        Ok(())
    }

    /// `syscall` has left our trap flag in r11 (Intel SDM volume 2, SYSCALL): takes it out.
    fn hide_in_r11(
        stopped: &Stopped,
        mut registers: user_regs_struct,
        done: Pending,
    ) -> io::Result<()> {
        if done.call != SIGRETURN && registers.r11 & TRAP_FLAG != 0 {
            registers.r11 &= !TRAP_FLAG;
            stopped.set_registers(registers)?;
        }
        Ok(())
    }

    fn begin_program(&mut self, stopped: &Stopped, former: Pid) -> io::Result<()> {
        let pid = stopped.tid();
        if let Some(exec) = self.thread(former).pending.take() {
            self.completed(former, pid, exec)?;
        }
        let parent = self.processes.get(&pid).map(|state| state.row);
        let result = self.program_over(pid);
        self.keep(result)?;
        self.threads.retain(|_, thread| thread.process != pid);
        let path = image::executed_path(stopped).or_else(|_| image::executable(pid));
        let path = path.map(|path| ProjectFolder::outside_of(self.folder.as_ref(), path));
        let program = path.map_or_else(|_| "?".to_owned(), |p| p.display().to_string());
        let row = self.new_row(parent, program, parent.is_some());
        let state = Process::new(row, Marks::at_start());
        self.processes.insert(pid, state);
        self.threads.insert(pid, Thread::of(pid));
        if parent.is_none()
            && let Some(cpu) = self.cpu
        {
            self.on_one_cpu = confined(pid, cpu)?;
        }
        Ok(())
    }
}

impl Watcher for Counter {
    fn pace(&self) -> Pace {
        Pace::Step
    }

    fn program(&mut self, stopped: &Stopped, former: Pid) -> io::Result<()> {
        self.begin_program(stopped, former)
    }

    fn process(&mut self, birth: Birth, child: &Stopped) -> io::Result<()> {
        let pid = child.tid();
        let (row, marks) = match self.processes.get(&birth.parent) {
            Some(state) => (Some(state.row), state.marks.forked()),
            None => (None, Marks::at_start()),
        };
        let program = row.and_then(|row| self.rows.get(row));
        let program = program.map_or_else(|| "?".to_owned(), |row| row.program.clone());
        let row = self.new_row(row, program, false);
        self.processes.insert(pid, Process::new(row, marks));
        self.threads.insert(pid, Thread::of(pid));
        Ok(())
    }

    fn thread(&mut self, process: Pid, thread: &Stopped) -> io::Result<()> {
        self.threads.insert(thread.tid(), Thread::of(process));
        Ok(())
    }

    fn stepping(&mut self, stopped: &Stopped, _signal: Option<i32>) -> io::Result<()> {
        let tid = stopped.tid();
        let thread = self.thread(tid);
        let (process, before) = (thread.process, thread.pending.take());
        let address = match thread.stands.take() {
            Some(address) => address,
            None => stopped.registers()?.rip,
        };
        if let Some(before) = before
            && before.kind == Kind::Breakpoint
            && before.address != address
        {
            self.completed(tid, process, before)?;
        }
        let kind = self.look(process, stopped, address)?;
        let call = match kind {
            Kind::SystemCall => {
                let registers = stopped.registers()?;
                self.refuse_untraced(process, stopped, &registers)?;
                registers.rax
            }
            _ => 0,
        };
        self.thread(tid).pending = Some(Pending {
            address,
            kind,
            call,
        });
        Ok(())
    }

    fn stepped(&mut self, stopped: &Stopped, trap: Trap) -> io::Result<()> {
        let tid = stopped.tid();
        let registers = stopped.registers()?;
        let address = registers.rip;
        let thread = self.thread(tid);
        let process = thread.process;
        thread.stands = Some(address);
        let pending = thread.pending.take();
        match (trap, pending) {
            (Trap::Handler, _) => Ok(stopped.hide_step_from_handler()?),
            (Trap::SystemCall, None) => Ok(()),
            (Trap::Instruction, None) => {
                self.unseen = self.unseen.saturating_add(1);
                Ok(())
            }
            (Trap::Instruction, Some(done)) => {
                if done.kind == Kind::Parts && done.address == address {
                    return Ok(());
                }
                self.consequences(stopped, &registers, done)?;
                self.completed(tid, process, done)
            }
            // A report of a call that was not stepped into: after an exec, or in a new child.
            (Trap::SystemCall, Some(done))
                if done.kind != Kind::SystemCall || done.address == address =>
            {
                Ok(())
            }
            (Trap::SystemCall, Some(done)) => {
                Self::hide_in_r11(stopped, registers, done)?;
                self.completed(tid, process, done)
            }
        }
    }

    fn ending(&mut self, process: Pid, stopped: &Stopped) -> io::Result<()> {
        let tid = stopped.tid();
        let Some(last) = self.thread(tid).pending.take() else {
            return Ok(());
        };
        if stopped.registers()?.rip == last.address {
            return Ok(());
        }
        self.completed(tid, process, last)
    }

    fn ended(&mut self, process: Pid, tid: Pid) {
        self.threads.remove(&tid);
        if tid == process
            && let Err(overflow) = self.program_over(process)
        {
            self.failure = Some(overflow.into());
        }
    }
}

/// Whether a process may run on `cpu` only.
fn confined(pid: Pid, cpu: usize) -> io::Result<bool> {
    let set = sched_getaffinity(pid)?;
    let allowed = |cpu| set.is_set(cpu).unwrap_or(false);
    Ok(allowed(cpu) && (0..CpuSet::count()).filter(|c| allowed(*c)).count() == 1)
}
