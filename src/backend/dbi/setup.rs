//! Putting the engine into a program: memory mapped into it, its own code no longer executable.
//!
//! Done by system calls that the stopped program makes for us. Where things go depends on what is mapped already, and
//! on nothing else, so that a program with fixed addresses has them where it had them in the run before.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use nix::libc;

use super::addresses::STACK_TOP;
use super::maps::{self, Line};
use super::memory::{CodeMemory, Pool};
use super::ranges::{Range, Ranges};
use super::space::{AREAS_AT_ONCE, Space, Translations};
use super::store::{self, Kept, Key, Store};
use crate::dbi::cache::{Cache, Place};
use crate::dbi::layout::{AREA_BYTES, TABLE_BYTES, ZONE_BYTES, slot};
use crate::model::{Machine, ProjectFolder};
use crate::sys::Pid;
use crate::sys::hand_over::hand_over;
use crate::sys::image;
use crate::sys::inject::Calls;
use crate::sys::limits::StackLimit;
use crate::sys::ptrace::Stopped;

/// Where the areas of threads may be, the first place that is free, or one of those above it. First among the mappings of
/// programs, 1.5 TiB below their top: sanitizers take nearly all else for shadows, or forbid it (AddressSanitizer, MemorySanitizer,
/// ThreadSanitizer: compiler-rt/lib/*/*_platform*.h, `kHiAppMemBeg` and others), by mapping over what is there. Then, for
/// a program that is laid out otherwise, far from what the kernel, C libraries, Go and Java choose.
const AREAS: [u64; 2] = [0x7e80_0000_0000, 0x3e00_0000_0000];

/// How many groups of areas there is room for at each of these places: half a tebibyte.
const GROUPS: u64 = 512;

/// Bytes of the areas that are mapped at a time.
const GROUP_BYTES: u64 = AREAS_AT_ONCE * AREA_BYTES;

/// Where the table may be, the first place that is free: the instruction that uses it takes 31 bits of address.
const TABLES: [u64; 4] = [0x7f00_0000, 0x6f00_0000, 0x3f00_0000, 0x1f00_0000];

/// Room left to a stack beyond its limit (the kernel's stack_guard_gap is 256 pages).
const STACK_ROOM: u64 = 2 << 20;

/// Zones keep this far away from what may grow.
const ROOM: u64 = 1 << 30;

const MIB: u64 = 1 << 20;

/// How far below its stack pointer a new program is lent the path of the pool; nothing is there yet.
const BELOW_STACK: u64 = 1024;

/// Puts the engine into a program that is stopped at its exec; its address space, and the address of its first area.
/// `marked`: whether markers are looked for, so that only code is recalled that was translated in the same way. `folder`: the
/// project's, where programs see it elsewhere.
pub fn install(
    thread: &Stopped,
    pool: &Rc<Pool>,
    store: Option<&Store>,
    marked: bool,
    timed: bool,
    machine: Machine,
    folder: Option<&ProjectFolder>,
) -> io::Result<Space> {
    let text = image::read_proc_text(&format!("/proc/{}/maps", thread.tid()))?;
    let lines: Vec<Line<'_>> = maps::lines(&text).collect();
    let gadget = system_call_in_vdso(thread, &lines)?;
    let mut calls = Calls::begin(thread, gadget)?;
    let (fd, lender) = open_pool(thread, &mut calls, pool)?;
    let plan = Layout::of(
        &lines,
        calls.registers().rip,
        StackLimit::of(thread.tid()).soft,
    );
    let memory = CodeMemory::new(pool);
    let mut zones = Vec::new();
    for address in plan.zones {
        let place = memory.add_zone(address)?;
        map_zone(&mut calls, fd, place, NEW)?;
        zones.push(place);
    }
    let table = memory.add_table(plan.table)?;
    map_table(&mut calls, fd, table, NEW)?;
    let mut cache = Cache::new(&zones, table, machine, &memory);
    if timed {
        cache.make_timed(&memory).map_err(io::Error::other)?;
    }
    calls.through(cache.system_call());
    let mut translations = Translations {
        cache,
        memory,
        kept: Kept::default(),
    };
    let places: Vec<u64> = zones
        .iter()
        .chain([&table])
        .map(|place| place.address)
        .collect();
    if let Some(store) = store
        && let Some(key) = Key::of(thread, &lines, &places, marked, machine)
    {
        store::recall(store, key, thread.tid(), &mut translations);
        if timed {
            translations.kept.need_timed(thread.tid());
        }
    }
    let translations = Rc::new(RefCell::new(translations));
    let mut space = Space {
        pool: Rc::clone(pool),
        lender,
        translations,
        ranges: Ranges::default(),
        pages: super::fetch::Pages::default(),
        areas: Vec::new(),
        reserved: Vec::new(),
    };
    map_areas(&mut calls, fd, &mut space, areas_among(&lines)?)?;
    close(&mut calls, fd)?;
    for line in lines
        .iter()
        .filter(|line| line.executable() && line.name() != "[vsyscall]")
    {
        forbid(&mut calls, line)?;
        space.ranges.add(range_of(line, folder));
        space
            .translations
            .borrow_mut()
            .activate(thread, line.start, line.end);
    }
    calls.end()?;
    Ok(space)
}

/// What a line of the maps says as a range, whose file is where it is to us.
pub fn range_of(line: &Line<'_>, folder: Option<&ProjectFolder>) -> Range {
    let outside = |file| Arc::new(ProjectFolder::outside_of(folder, file));
    let file = line.file().map(outside);
    Range {
        start: line.start,
        end: line.end,
        label: if file.is_none() {
            line.name().to_owned()
        } else {
            String::new()
        },
        file,
        offset: line.offset,
        volatile: line.volatile(),
        writable: line.rights.as_bytes()[1] == b'w',
    }
}

/// Takes the right to execute away from a mapping.
pub fn forbid(calls: &mut Calls<'_>, line: &Line<'_>) -> io::Result<()> {
    let rights = line.rights.as_bytes();
    let mut protection = 0;
    if rights[0] == b'r' {
        protection |= libc::PROT_READ;
    }
    if rights[1] == b'w' {
        protection |= libc::PROT_WRITE;
    }
    let length = line.end - line.start;
    calls.make(
        libc::SYS_mprotect,
        [line.start, length, protection as u64, 0, 0, 0],
    )?;
    Ok(())
}

/// Where there is a `syscall` instruction before the engine has brought its own.
pub fn system_call_in_vdso(thread: &Stopped, lines: &[Line<'_>]) -> io::Result<u64> {
    let missing =
        || io::Error::other("the kernel gives programs no vDSO (is it switched off by `vdso=0`?)");
    let vdso = lines
        .iter()
        .find(|line| line.name() == "[vdso]")
        .ok_or_else(missing)?;
    let mut bytes = vec![0; (vdso.end - vdso.start) as usize];
    thread.read(vdso.start, &mut bytes)?;
    let at = bytes
        .windows(2)
        .position(|two| two == [0x0f, 0x05])
        .ok_or_else(missing)?;
    Ok(vdso.start + at as u64)
}

/// Opens the pool in a program that has just been executed, whose /proc may be one or another; the id by which the lender
/// is known there, too.
fn open_pool(thread: &Stopped, calls: &mut Calls<'_>, pool: &Pool) -> io::Result<(u64, Pid)> {
    let place = calls.registers().rsp - BELOW_STACK;
    let mut refused = None;
    for lender in pool.lenders() {
        let path = pool.path(*lender);
        let mut before = vec![0; path.len()];
        thread.read(place, &mut before)?;
        thread.write(place, &path)?;
        let opened = open(calls, place);
        thread.write(place, &before)?;
        match opened {
            // The id may be another process's in a /proc that we do not know.
            Ok(fd) if pool.is_open_as(thread.tid(), fd)? => return Ok((fd, *lender)),
            Ok(fd) => close(calls, fd)?,
            // The first says most: it is that of the namespace.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let lender = pool.lenders().first().copied().unwrap_or(thread.tid());
    let unknown = || io::Error::other("its /proc is that of other processes");
    let fd = be_given(calls, place, pool, &refused.unwrap_or_else(unknown))?;
    Ok((fd, lender))
}

fn open(calls: &mut Calls<'_>, path: u64) -> io::Result<u64> {
    let flags = (libc::O_RDWR | libc::O_CLOEXEC) as u64;
    let here = libc::AT_FDCWD as i64 as u64;
    calls.make(libc::SYS_openat, [here, path, flags, 0, 0, 0])
}

/// Opens the pool in a program that has an area at `own`.
fn open_again(calls: &mut Calls<'_>, own: u64, pool: &Pool) -> io::Result<u64> {
    let opened = open(calls, own + u64::from(slot::PATH));
    opened.or_else(|refused| be_given(calls, own + u64::from(slot::MESSAGE), pool, &refused))
}

/// Has the program be given the pool, which it could not open: another user may not look among our files, and other roots and
/// namespaces have another /proc or none.
fn be_given(
    calls: &mut Calls<'_>,
    place: u64,
    pool: &Pool,
    refused: &io::Error,
) -> io::Result<u64> {
    hand_over(calls, place, pool.shared().file()).map_err(|error| {
        explained(error, |error| format!(
            "the program can neither open our memory through /proc ({refused}) nor be handed it ({error}): does a filter of its own forbid system calls?"
        ))
    })
}

/// An error in words, but for that of a thread that was killed: that is none, and is told by its number.
fn explained(error: io::Error, words: impl FnOnce(&io::Error) -> String) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ESRCH) => error,
        _ => io::Error::other(words(&error)),
    }
}

fn close(calls: &mut Calls<'_>, fd: u64) -> io::Result<()> {
    calls.make(libc::SYS_close, [fd, 0, 0, 0, 0, 0]).map(drop)
}

/// A new mapping, and one in the place of what is there.
const NEW: i32 = libc::MAP_FIXED_NOREPLACE;
const INSTEAD: i32 = libc::MAP_FIXED;

fn map(
    calls: &mut Calls<'_>,
    fd: u64,
    address: u64,
    bytes: u64,
    offset: u64,
    protection: i32,
    how: i32,
) -> io::Result<()> {
    let flags = (libc::MAP_SHARED | libc::MAP_NORESERVE | how) as u64;
    calls
        .make(libc::SYS_mmap, [address, bytes, protection as u64, flags, fd, offset])
        .map_err(|error| {
            explained(error, |error| format!(
                "map {} MiB at {address:#x} in the program: {error} (is its address space limited by `ulimit -v`?)",
                bytes / MIB
            ))
        })?;
    Ok(())
}

fn map_zone(calls: &mut Calls<'_>, fd: u64, place: Place, how: i32) -> io::Result<()> {
    let rights = libc::PROT_READ | libc::PROT_EXEC;
    map(
        calls,
        fd,
        place.address,
        ZONE_BYTES,
        place.offset,
        rights,
        how,
    )
}

fn map_table(calls: &mut Calls<'_>, fd: u64, place: Place, how: i32) -> io::Result<()> {
    let rights = libc::PROT_READ;
    map(
        calls,
        fd,
        place.address,
        TABLE_BYTES,
        place.offset,
        rights,
        how,
    )
}

fn map_areas(calls: &mut Calls<'_>, fd: u64, space: &mut Space, address: u64) -> io::Result<()> {
    let bytes = GROUP_BYTES;
    let offset = space.pool.reserve(bytes);
    map(
        calls,
        fd,
        address,
        bytes,
        offset,
        libc::PROT_READ | libc::PROT_WRITE,
        NEW,
    )?;
    // A core file has no use for them.
    let unused = libc::MADV_DONTDUMP as u64;
    calls.make(libc::SYS_madvise, [address, bytes, unused, 0, 0, 0])?;
    space.add_areas(address, offset, AREAS_AT_ONCE);
    Ok(())
}

/// Where areas can be mapped among these mappings.
fn areas_among(lines: &[Line<'_>]) -> io::Result<u64> {
    let taken = taken(lines);
    let groups = AREAS
        .into_iter()
        .flat_map(|first| (0..GROUPS).map(move |group| first + group * GROUP_BYTES));
    let mut free_groups = groups.filter(|group| free(&taken, *group, GROUP_BYTES));
    free_groups
        .next()
        .ok_or_else(|| io::Error::other("no room for the areas of more threads"))
}

/// Maps more areas: all are in use. `own` is an area that the stopped thread can read.
pub fn more_areas(thread: &Stopped, space: &mut Space, own: u64) -> io::Result<()> {
    let call = space.translations.borrow().cache.system_call();
    let text = image::read_proc_text(&format!("/proc/{}/maps", thread.tid()))?;
    let address = areas_among(&maps::lines(&text).collect::<Vec<_>>())?;
    let mut calls = Calls::begin(thread, call)?;
    let fd = open_again(&mut calls, own, &space.pool)?;
    map_areas(&mut calls, fd, space, address)?;
    close(&mut calls, fd)?;
    calls.end()
}

/// Gives a process a code cache of its own, a copy of the one it shares with another.
pub fn diverge(thread: &Stopped, space: &mut Space, own: u64) -> io::Result<()> {
    let shared = Rc::clone(&space.translations);
    let shared = shared.borrow();
    let mut calls = Calls::begin(thread, shared.cache.system_call())?;
    let fd = open_again(&mut calls, own, &space.pool)?;
    let memory = CodeMemory::new(&space.pool);
    let places = shared.cache.zone_places();
    let mut offsets = Vec::new();
    for place in &places {
        offsets.push(memory.add_zone(place.address)?.offset);
    }
    let table = shared.cache.table_place();
    let new_table = memory.add_table(table.address)?;
    for (from, bytes, zone) in shared.cache.written() {
        let to = offsets[zone] + (from - places[zone].offset);
        memory.copy_from(&shared.memory, from, to, bytes);
    }
    memory.copy_from(&shared.memory, table.offset, new_table.offset, TABLE_BYTES);
    for (place, offset) in places.iter().zip(&offsets) {
        let place = Place {
            address: place.address,
            offset: *offset,
        };
        map_zone(&mut calls, fd, place, INSTEAD)?;
    }
    map_table(&mut calls, fd, new_table, INSTEAD)?;
    close(&mut calls, fd)?;
    calls.end()?;
    let cache = shared.cache.moved(&offsets, new_table.offset);
    space.translations = Rc::new(RefCell::new(Translations {
        cache,
        memory,
        kept: shared.kept.clone(),
    }));
    Ok(())
}

/// Adds a zone near `pc` to a code cache that is full. None of its processes may share it.
pub fn more_zones(thread: &Stopped, space: &mut Space, own: u64, pc: u64) -> io::Result<()> {
    let text = image::read_proc_text(&format!("/proc/{}/maps", thread.tid()))?;
    let lines: Vec<Line<'_>> = maps::lines(&text).collect();
    let address =
        near(&lines, pc).ok_or_else(|| io::Error::other("no room for a larger code cache"))?;
    let translations = &mut *space.translations.borrow_mut();
    let mut calls = Calls::begin(thread, translations.cache.system_call())?;
    let fd = open_again(&mut calls, own, &space.pool)?;
    let place = translations.memory.add_zone(address)?;
    map_zone(&mut calls, fd, place, NEW)?;
    close(&mut calls, fd)?;
    translations.cache.add_zone(place, &translations.memory);
    calls.end()
}

/// Where things go.
struct Layout {
    zones: Vec<u64>,
    table: u64,
}

impl Layout {
    /// For a program with these mappings, whose first instruction is at `entry` and whose stack may have so many bytes.
    fn of(lines: &[Line<'_>], entry: u64, stack_limit: u64) -> Layout {
        let code = |line: &&Line<'_>| line.executable() && line.file().is_some();
        let mut zones: Vec<u64> = Vec::new();
        let mut taken = taken(lines);
        let starts: Vec<u64> = lines
            .iter()
            .filter(code)
            .map(|line| line.start)
            .chain([entry])
            .collect();
        for start in starts {
            if zones
                .iter()
                .any(|zone| zone.abs_diff(start) < ROOM + ROOM / 2)
            {
                continue;
            }
            if let Some(zone) = zone_for(lines, &taken, start, stack_limit) {
                taken.push((zone, zone + ZONE_BYTES));
                zones.push(zone);
            }
        }
        let table = TABLES
            .into_iter()
            .find(|table| free(&taken, *table, TABLE_BYTES));
        Layout {
            zones,
            table: table.unwrap_or(TABLES[0]),
        }
    }
}

/// The memory that mappings are in: start and end of each.
fn taken(lines: &[Line<'_>]) -> Vec<(u64, u64)> {
    lines.iter().map(|line| (line.start, line.end)).collect()
}

fn free(taken: &[(u64, u64)], start: u64, bytes: u64) -> bool {
    start >= 1 << 16
        && start + bytes <= STACK_TOP
        && taken
            .iter()
            .all(|(from, to)| start + bytes <= *from || *to <= start)
}

/// A place for the zone of the code at `start`: above the shared libraries and below the stack, where the kernel puts
/// nothing of its own accord; below the program, or far enough above it and its heap.
fn zone_for(lines: &[Line<'_>], taken: &[(u64, u64)], start: u64, stack_limit: u64) -> Option<u64> {
    let stack = lines.iter().find(|line| line.name() == "[stack]");
    let room = stack_limit.checked_add(STACK_ROOM);
    let below_stack = stack.and_then(|stack| stack.end.checked_sub(room?));
    let last = lines
        .iter()
        .filter(|line| stack.is_some_and(|stack| line.end <= stack.start));
    let last = last.map(|line| line.end).max().unwrap_or(0);
    let above = last.next_multiple_of(MIB) + MIB;
    let in_gap = below_stack
        .filter(|top| above + ZONE_BYTES <= *top && above.abs_diff(start) < ROOM)
        .map(|_| above);
    let below = start
        .checked_sub(ZONE_BYTES + 16 * MIB)
        .map(|at| at & !(MIB - 1));
    let choices = [
        in_gap,
        below.filter(|_| last.abs_diff(start) > ROOM),
        Some((start & !(MIB - 1)) + ROOM),
        start.checked_sub(ROOM),
    ];
    choices
        .into_iter()
        .flatten()
        .find(|at| free(taken, *at, ZONE_BYTES))
}

/// A free place within reach of `pc`.
fn near(lines: &[Line<'_>], pc: u64) -> Option<u64> {
    let taken = taken(lines);
    let base = pc & !(MIB - 1);
    let steps = (1..12).map(|step| step * ZONE_BYTES.next_multiple_of(MIB) + ROOM / 2);
    let choices = steps.flat_map(|step| [base.checked_sub(step), base.checked_add(step)]);
    choices.flatten().find(|at| free(&taken, *at, ZONE_BYTES))
}
