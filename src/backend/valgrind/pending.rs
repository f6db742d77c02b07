//! The basic blocks that callgrind has begun and not yet counted, read from its memory.
//!
//! Callgrind adds what a block costs when the next one begins. The block that a thread ends in is therefore never
//! added, nor is the one that a signal handler ends in, and a forked child begins with one of its parent's. All of
//! them stand in callgrind's execution states: one for the code that runs, and for every thread those that it
//! left behind when it was interrupted.
//!
//! The states are found by what they point to: a block's record must describe itself consistently, and the state
//! must be the only one of its kind in the tool's own data. Layouts: callgrind/global.h (`exec_state`, `BBCC`,
//! `BB`, `obj_node`, `thread_info`), as in 3.19 on a 64-bit machine. Where they differ nothing is found, and the
//! caller is told.

use std::collections::HashMap;
use std::io;

use crate::model::CountOverflow;
use crate::sys::image;
use crate::sys::ptrace::Stopped;

/// Executions by object, then by address: as stated in the object's file, or as in the process for `???`.
pub type Executions = HashMap<String, HashMap<u64, u64>>;

/// The most instructions that a block can have, with room to spare (`--vex-guest-max-insns`, 100 at most).
const MOST_INSTRUCTIONS: u32 = 1000;

/// Signal handlers within each other, at most (`MAX_SIGHANDLERS`).
const MOST_HANDLERS: usize = 10;

/// Threads, at most (`--max-threads`).
const MOST_THREADS: usize = 500;

/// Bytes of `exec_state`.
const STATE_BYTES: usize = 64;

/// Offset of `bbcc` in it.
const BBCC: usize = 40;

/// Bytes of `exec_stack`: a depth, and pointers to states.
const STACK_BYTES: usize = 8 + 8 * MOST_HANDLERS;

/// Offset of `states` in `thread_info`.
const THREAD_STACK: u64 = 40;

/// Bytes of `BB` before its instructions, and of one of those.
const BLOCK_BYTES: usize = 96;
const INSTRUCTION_BYTES: usize = 24;

/// How far apart the static variables of one source file may be, in bytes.
const SAME_FILE_BYTES: u64 = 1024;

/// Where the states are. The tool is loaded at the same address in every process.
#[derive(Clone, Copy, Debug)]
struct Places {
    /// `CLG_(current_state)`.
    state: u64,
    /// The `exec_stack` of the thread that runs.
    stack: u64,
    /// The pointer to the table of `thread_info`.
    threads: u64,
}

/// What is pending in a process.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// The blocks of all threads, and of the handlers they are in.
    pub all: Executions,
    /// Those of them that the running code is in.
    pub running: Executions,
    /// How many signal handlers the running thread is in.
    pub handlers: usize,
}

/// Finds pending blocks. One for all processes of a run.
#[derive(Debug, Default)]
pub struct Finder {
    places: Option<Places>,
}

impl Finder {
    /// What is pending in `process`, which runs under callgrind and holds still; none before its first block.
    pub fn find(&mut self, process: &Stopped) -> io::Result<Option<Pending>> {
        let memory = Memory(process);
        if self.places.is_none() {
            self.places = search(&memory)?;
        }
        let Some(places) = self.places else {
            return Ok(None);
        };
        read(&memory, places)
    }
}

/// Adds `more` to `all`.
pub fn add(all: &mut Executions, more: &Executions) -> Result<(), CountOverflow> {
    for (object, counts) in more {
        let into = all.entry(object.clone()).or_default();
        for (address, count) in counts {
            let slot = into.entry(*address).or_default();
            *slot = slot.checked_add(*count).ok_or(CountOverflow)?;
        }
    }
    Ok(())
}

fn changed() -> io::Error {
    io::Error::other("callgrind's state is not as it is known to be")
}

fn read(memory: &Memory, places: Places) -> io::Result<Option<Pending>> {
    let state = memory.state(places.state).ok_or_else(changed)?;
    let Some(running) = state.block(memory)? else {
        return Ok(None);
    };
    let stack = memory.stack(places.stack).ok_or_else(changed)?;
    let mut pending = Pending {
        handlers: stack.depth,
        ..Pending::default()
    };
    running.add_to(&mut pending.running)?;
    running.add_to(&mut pending.all)?;
    for entry in stack.entries.iter().take(stack.depth) {
        let interrupted = memory.state(*entry).ok_or_else(changed)?;
        if let Some(block) = interrupted.block(memory)? {
            block.add_to(&mut pending.all)?;
        }
    }
    let table = memory.word(places.threads).ok_or_else(changed)?;
    let threads = memory.words(table, MOST_THREADS).ok_or_else(changed)?;
    for thread in threads.into_iter().filter(|thread| *thread != 0) {
        let other = memory
            .stack(thread.wrapping_add(THREAD_STACK))
            .ok_or_else(changed)?;
        if other.entries.first() == stack.entries.first() {
            continue;
        }
        for entry in other.entries.iter().take(other.depth + 1) {
            let left = memory.state(*entry).ok_or_else(changed)?;
            if let Some(block) = left.block(memory)? {
                block.add_to(&mut pending.all)?;
            }
        }
    }
    Ok(Some(pending))
}

/// Looks for the states in the tool's data. None when no block has begun; an error when several answers fit.
fn search(memory: &Memory) -> io::Result<Option<Places>> {
    let data = image::writable_data(memory.0.tid())?;
    let mut segments = Vec::new();
    for (start, end) in data {
        let length = usize::try_from(end - start).map_err(|_| changed())?;
        segments.push((start, memory.bytes(start, length).ok_or_else(changed)?));
    }
    let mut states = Vec::new();
    for (start, bytes) in &segments {
        for (index, window) in bytes.windows(STATE_BYTES).step_by(8).enumerate() {
            // Nearly all of ten megabytes is zeros; this test alone decides how long the search takes.
            if window.get(BBCC..BBCC + 8) != Some(&[0; 8])
                && let Some(state) = State::parse(window).filter(State::may_run)
                && let Ok(Some(_)) = state.block(memory)
            {
                states.push((start + 8 * index as u64, state));
            }
        }
    }
    let (at, state) = match states.as_slice() {
        [] => return Ok(None),
        [only] => *only,
        _ => return Err(changed()),
    };
    let (stack, threads) = segments
        .iter()
        .find_map(|(start, bytes)| search_threads(memory, *start, bytes, &state))
        .ok_or_else(changed)?;
    Ok(Some(Places {
        state: at,
        stack,
        threads,
    }))
}

/// The running thread's stack of states, whose top shares its costs with the running state, and close to it the
/// table of threads that has the same stack.
fn search_threads(
    memory: &Memory,
    start: u64,
    bytes: &[u8],
    running: &State,
) -> Option<(u64, u64)> {
    for (index, window) in bytes.windows(STACK_BYTES).step_by(8).enumerate() {
        let Some(stack) = Stack::parse(window) else {
            continue;
        };
        let Some(top) = stack.entries.get(stack.depth) else {
            continue;
        };
        if memory
            .state(*top)
            .is_none_or(|top| top.cost != running.cost)
        {
            continue;
        }
        let at = start + 8 * index as u64;
        let from = at.saturating_sub(SAME_FILE_BYTES).max(start);
        let near = bytes.get(usize::try_from(from - start).ok()?..)?;
        let near = near.chunks_exact(8).take(2 * SAME_FILE_BYTES as usize / 8);
        for (place, word) in near.enumerate() {
            let table = word_at(word, 0)?;
            if has_stack(memory, table, &stack) {
                return Some((at, from + 8 * place as u64));
            }
        }
    }
    None
}

/// Whether a table of threads has the one whose states are `stack`. There is no thread 0.
fn has_stack(memory: &Memory, table: u64, stack: &Stack) -> bool {
    if table == 0 || !table.is_multiple_of(8) {
        return false;
    }
    let threads = memory.words(table, MOST_THREADS).unwrap_or_default();
    let [0, threads @ ..] = threads.as_slice() else {
        return false;
    };
    let mut known = threads.iter().filter(|thread| **thread != 0);
    known.any(|thread| {
        let other = memory.stack(thread.wrapping_add(THREAD_STACK));
        other.is_some_and(|other| other.entries.first() == stack.entries.first())
    })
}

/// `exec_state`: the code that a thread, or a handler in it, is in.
#[derive(Clone, Copy, Debug)]
struct State {
    signal: u32,
    cost: u64,
    collect: u32,
    context: u64,
    /// Which of the block's exits was reached.
    passed: u32,
    bbcc: u64,
    nonskipped: u64,
}

impl State {
    fn parse(bytes: &[u8]) -> Option<State> {
        Some(State {
            signal: half_at(bytes, 0)?,
            cost: word_at(bytes, 8)?,
            collect: half_at(bytes, 16)? & 0xff,
            context: word_at(bytes, 24)?,
            passed: half_at(bytes, 32)?,
            bbcc: word_at(bytes, BBCC)?,
            nonskipped: word_at(bytes, 48)?,
        })
    }

    /// Whether this can be the state of code that runs: cheap, for the search.
    fn may_run(&self) -> bool {
        let pointer = |word: u64| word > 0xffff && word.is_multiple_of(8);
        self.signal <= 64
            && self.collect <= 1
            && self.passed < MOST_INSTRUCTIONS
            && self.nonskipped == 0
            && [self.cost, self.context, self.bbcc]
                .into_iter()
                .all(pointer)
    }

    /// The block that is pending; none when there is none, or when it would not be counted.
    fn block(&self, memory: &Memory) -> io::Result<Option<Block>> {
        if self.bbcc == 0 || self.collect == 0 {
            return Ok(None);
        }
        let bb = memory.word(self.bbcc).ok_or_else(changed)?;
        Block::read(memory, bb, self.passed)
            .map(Some)
            .ok_or_else(changed)
    }
}

/// `exec_stack`: the states of a thread, and which of them is the last.
struct Stack {
    depth: usize,
    entries: Vec<u64>,
}

impl Stack {
    fn parse(bytes: &[u8]) -> Option<Stack> {
        let depth = usize::try_from(half_at(bytes, 0)?).ok()?;
        if depth >= MOST_HANDLERS || bytes.get(8..16) == Some(&[0; 8]) {
            return None;
        }
        let entries = (1..=MOST_HANDLERS).map(|index| word_at(bytes, 8 * index));
        let entries: Vec<u64> = entries.collect::<Option<_>>()?;
        let used = entries.get(..=depth)?;
        let pointers = used
            .iter()
            .all(|entry| *entry > 0xffff && entry.is_multiple_of(8));
        pointers.then_some(Stack { depth, entries })
    }
}

/// The part of a block that was executed.
struct Block {
    object: String,
    addresses: Vec<u64>,
}

impl Block {
    fn read(memory: &Memory, bb: u64, passed: u32) -> Option<Block> {
        let head = memory.bytes(bb, BLOCK_BYTES)?;
        let (object, offset) = (word_at(&head, 0)?, word_at(&head, 8)?);
        let (instructions, exits) = (half_at(&head, 28)?, half_at(&head, 64)?);
        let (jumps, length) = (word_at(&head, 72)?, half_at(&head, 84)?);
        let plausible = (1..=MOST_INSTRUCTIONS).contains(&instructions)
            && exits <= MOST_INSTRUCTIONS
            && passed <= exits
            && length >= instructions;
        let behind = BLOCK_BYTES as u64 + u64::from(instructions) * INSTRUCTION_BYTES as u64;
        if !plausible || jumps != bb.checked_add(behind)? {
            return None;
        }
        let table = usize::try_from(instructions).ok()? * INSTRUCTION_BYTES;
        let table = memory.bytes(bb + BLOCK_BYTES as u64, table)?;
        let jump = memory.bytes(jumps.checked_add(8 * u64::from(passed))?, 4)?;
        let last = usize::try_from(half_at(&jump, 0)?).ok()?;
        let mut addresses = Vec::new();
        let mut bytes = 0;
        for instruction in table.chunks_exact(INSTRUCTION_BYTES) {
            let (start, size) = (half_at(instruction, 0)?, half_at(instruction, 4)?);
            if !(1..=16).contains(&size) {
                return None;
            }
            bytes += size;
            addresses.push(offset.wrapping_add(u64::from(start)));
        }
        if bytes != length || last >= addresses.len() {
            return None;
        }
        addresses.truncate(last + 1);
        let name = memory.0.read_c_string(memory.word(object)?, 4096).ok()?;
        Some(Block {
            object: String::from_utf8_lossy(&name).into_owned(),
            addresses,
        })
    }

    fn add_to(&self, all: &mut Executions) -> io::Result<()> {
        let once = self.addresses.iter().map(|address| (*address, 1)).collect();
        let once = Executions::from([(self.object.clone(), once)]);
        add(all, &once).map_err(io::Error::other)
    }
}

/// The memory of a process that holds still.
struct Memory<'a>(&'a Stopped);

impl Memory<'_> {
    fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        (self.0.read(address, &mut bytes) == Ok(length)).then_some(bytes)
    }

    fn word(&self, address: u64) -> Option<u64> {
        word_at(&self.bytes(address, 8)?, 0)
    }

    fn words(&self, address: u64, count: usize) -> Option<Vec<u64>> {
        let bytes = self.bytes(address, count * 8)?;
        bytes.chunks_exact(8).map(|word| word_at(word, 0)).collect()
    }

    fn state(&self, address: u64) -> Option<State> {
        State::parse(&self.bytes(address, STATE_BYTES)?)
    }

    fn stack(&self, address: u64) -> Option<Stack> {
        Stack::parse(&self.bytes(address, STACK_BYTES)?)
    }
}

fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u64::from_ne_bytes)
}

fn half_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_ne_bytes)
}
