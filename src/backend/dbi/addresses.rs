//! Fixed addresses where the kernel gives none: the filter of a container refuses personality(2).
//!
//! At its exec, before its first instruction, a program is moved to where it would be without randomisation. All but one
//! thing has the very addresses then that it has elsewhere: the top of the memory for mappings (`mmap_base`,
//! arch/x86/mm/mmap.c) cannot be moved. So libraries and mappings are lower, by a number whose low 40 bits are zeros, and what
//! is above them is taken, for the kernel to put its next mappings there. Pure over bytes but for [`fix`] and [`reserve`].

use std::io;

use nix::libc;

use super::maps::{self, Line};
use super::setup::system_call_in_vdso;
use crate::sys::image;
use crate::sys::inject::Calls;
use crate::sys::limits::StackLimit;
use crate::sys::ptrace::Stopped;

/// Where a stack ends, and all that a program may have (STACK_TOP, arch/x86/include/asm/processor.h).
pub(super) const STACK_TOP: u64 = 0x7fff_ffff_f000;

/// Where the kernel puts programs that can be anywhere (ELF_ET_DYN_BASE, arch/x86/include/asm/elf.h), in whole pages.
const PROGRAM: u64 = 0x5555_5555_4000;

/// Between programs and mappings, however random they are.
const BETWEEN: u64 = 0x6800_0000_0000;

/// How much lower mappings are: more than the 2^32 pages of the most random kernel (vm.mmap_rnd_bits) and the room that is
/// left for a random stack.
const LOWER: u64 = 17 << 40;

/// The least and the greatest room for a stack between its end and the mappings (arch/x86/mm/mmap.c, `mmap_base`).
const STACK_ROOM: u64 = 128 << 20;
const MOST_STACK_ROOM: u64 = 1 << 40;

/// Where a mapping waits whose place overlaps the one it had.
const ASIDE: u64 = 0x2000_0000_0000;

/// getauxval(3).
const AT_PHDR: u64 = 3;
const AT_PHNUM: u64 = 5;
const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;
const AT_PLATFORM: u64 = 15;
const AT_BASE_PLATFORM: u64 = 24;
const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;
const AT_SYSINFO_EHDR: u64 = 33;

/// Those whose values are addresses.
const ADDRESSES: [u64; 8] = [
    AT_PHDR,
    AT_BASE,
    AT_ENTRY,
    AT_PLATFORM,
    AT_BASE_PLATFORM,
    AT_RANDOM,
    AT_EXECFN,
    AT_SYSINFO_EHDR,
];

/// Memory above the mappings, which must be taken: first address, and first address behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Above {
    start: u64,
    end: u64,
}

impl Above {
    /// For stacks of at most `limit` bytes.
    fn stack_of(limit: u64) -> Option<Above> {
        let room = limit.max(STACK_ROOM);
        let end = STACK_TOP.checked_sub(room.checked_next_multiple_of(PAGE)?)?;
        (room <= MOST_STACK_ROOM).then(|| Above {
            start: end - LOWER,
            end,
        })
    }

    /// What of it is not in one of these pieces, which are in order.
    fn without(self, pieces: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = self.start;
        for (start, end) in pieces {
            let until = self.end.min(*start);
            if at < until {
                gaps.push((at, until));
            }
            at = at.max(*end);
        }
        if at < self.end {
            gaps.push((at, self.end));
        }
        gaps
    }
}

const PAGE: u64 = 4096;

/// A mapping of a new program, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    from: u64,
    bytes: u64,
    to: u64,
}

impl Move {
    /// The address that one in the mapping becomes.
    fn onward(&self, address: u64) -> Option<u64> {
        let offset = address.wrapping_sub(self.from);
        (offset < self.bytes).then(|| self.to + offset)
    }
}

/// Where the mappings of a new program go, each group in an order in which none is in another's way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Moves {
    /// The kernel's own pages.
    kernels: Vec<Move>,
    /// The program, its interpreter and the stack.
    others: Vec<Move>,
    /// Where the heap begins.
    heap: u64,
}

impl Moves {
    /// Those of a program with these mappings, which wants its first segment at a multiple of `alignment`.
    fn of(lines: &[Line<'_>], above: Above, alignment: u64) -> Option<Moves> {
        let user = || lines.iter().filter(|line| line.end <= STACK_TOP);
        let special = |line: &&Line<'_>| line.name().starts_with("[v");
        let own = || user().filter(|line| !special(line) && line.name() != "[stack]");
        let stack: Vec<_> = user().filter(|line| line.name() == "[stack]").collect();
        let mapped: Vec<_> = own().filter(|line| line.start >= BETWEEN).collect();
        let program: Vec<_> = own().filter(|line| line.start < BETWEEN).collect();
        let kernels: Vec<_> = user().filter(special).collect();
        let mapped = ending_at(&mapped, above.start);
        let top = mapped.first().map_or(above.start, |first| first.to);
        let kernels = ending_at(&kernels, top);
        let stack = ending_at(&stack, STACK_TOP);
        let program = match program.first() {
            Some(first) if first.start >= PROGRAM => {
                let bytes = program.last()?.end - first.start;
                ending_at(&program, (PROGRAM & !(alignment - 1)) + bytes)
            }
            _ => ending_at(&program, program.last().map_or(0, |last| last.end)),
        };
        // Without one the program is where mappings are, and the heap where a program would be.
        let heap = program
            .last()
            .map_or(PROGRAM + PAGE, |last| last.to + last.bytes);
        let others = [program, mapped, stack].map(in_order).concat();
        Some(Moves {
            kernels: in_order(kernels),
            others,
            heap,
        })
    }

    fn onward(&self, address: u64) -> u64 {
        let mut all = self.kernels.iter().chain(&self.others);
        all.find_map(|line| line.onward(address)).unwrap_or(address)
    }
}

/// Mappings with the distances they have, the last of which ends at `end`.
fn ending_at(lines: &[&Line<'_>], end: u64) -> Vec<Move> {
    let last = lines.last().map_or(0, |line| line.end);
    let to = |line: &&Line<'_>| Move {
        from: line.start,
        bytes: line.end - line.start,
        to: end - (last - line.start),
    };
    lines.iter().map(to).collect()
}

/// Those that go up begin with the last.
fn in_order(mut moves: Vec<Move>) -> Vec<Move> {
    if moves.first().is_some_and(|first| first.to > first.from) {
        moves.reverse();
    }
    moves
}

/// The stack of a new program: what its stack pointer leads to, which the kernel puts a random distance below its strings.
struct Stack {
    pointer: u64,
    /// From the count of arguments to the last string that the kernel makes.
    bytes: Vec<u8>,
    /// How far up it goes within the stack.
    up: u64,
}

impl Stack {
    fn of(thread: &Stopped, pointer: u64, auxv: &[u8], strings: u64) -> io::Result<Stack> {
        const LONGEST_PLATFORM: usize = 64;
        let platform = entry(auxv, AT_PLATFORM)?;
        let name = thread.read_c_string(platform, LONGEST_PLATFORM)?;
        let end = platform + name.len() as u64 + 1;
        // `arch_align_stack` (arch/x86/kernel/process.c): up to 8 KiB, then a multiple of 16.
        const MOST: u64 = 8192 + 16;
        let up = (strings & !15).wrapping_sub(end);
        if up > MOST || !up.is_multiple_of(16) || end < pointer {
            return Err(unknown("stack"));
        }
        let mut bytes = vec![0; (end - pointer) as usize];
        if thread.read(pointer, &mut bytes)? < bytes.len() {
            return Err(unknown("stack"));
        }
        Ok(Stack { pointer, bytes, up })
    }

    /// Where an address leads once all is moved.
    fn onward(&self, moves: &Moves, address: u64) -> u64 {
        let inside = address.wrapping_sub(self.pointer) < self.bytes.len() as u64;
        moves.onward(address) + if inside { self.up } else { 0 }
    }

    /// Its bytes with all addresses as they will be, behind as many zeros as it goes up.
    fn rewritten(&self, moves: &Moves) -> io::Result<Vec<u8>> {
        let onward = |address| self.onward(moves, address);
        let mut bytes = self.bytes.clone();
        let auxv = vectors(&mut bytes, onward).ok_or_else(|| unknown("stack"))?;
        rewrite_auxv(&mut bytes[auxv..], onward);
        Ok([vec![0; self.up as usize], bytes].concat())
    }
}

/// Replaces the addresses of arguments and variables; where the auxiliary vector begins (System V ABI, AMD64 supplement,
/// figure 3.9).
fn vectors(stack: &mut [u8], onward: impl Fn(u64) -> u64) -> Option<usize> {
    let mut nulls = 0;
    for (number, word) in stack.chunks_exact_mut(8).enumerate().skip(1) {
        match word_of(word) {
            0 => nulls += 1,
            address => word.copy_from_slice(&onward(address).to_ne_bytes()),
        }
        if nulls == 2 {
            return Some(8 * (number + 1));
        }
    }
    None
}

/// Replaces the addresses of an auxiliary vector.
fn rewrite_auxv(auxv: &mut [u8], onward: impl Fn(u64) -> u64) {
    for pair in auxv.chunks_exact_mut(16) {
        let (kind, value) = pair.split_at_mut(8);
        match word_of(kind) {
            0 => return,
            kind if ADDRESSES.contains(&kind) => {
                let there = word_of(value);
                value.copy_from_slice(&onward(there).to_ne_bytes());
            }
            _ => {}
        }
    }
}

fn word_of(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}

fn entry(auxv: &[u8], wanted: u64) -> io::Result<u64> {
    image::auxv_entry(auxv, wanted).ok_or_else(|| unknown("auxiliary vector"))
}

fn unknown(what: &str) -> io::Error {
    io::Error::other(format!("the {what} is not as the kernel makes it"))
}

/// What the kernel remembers of a program's memory (proc_pid_stat(5), fields 26 to 28 and 45 to 51).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    code: [u64; 2],
    data: [u64; 2],
    arguments: [u64; 2],
    variables: [u64; 2],
}

impl Memory {
    fn parse(stat: &str) -> Option<Memory> {
        let fields: Vec<u64> = image::behind_name(stat)?
            .skip(1)
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        // The first of these is field 4.
        let pair = |number: usize| Some([*fields.get(number - 4)?, *fields.get(number - 3)?]);
        Some(Memory {
            code: pair(26)?,
            data: pair(45)?,
            arguments: pair(48)?,
            variables: pair(50)?,
        })
    }

    /// `struct prctl_mm_map` (linux/prctl.h) with everything moved, and the auxiliary vector at `auxv`.
    fn moved(&self, stack: &Stack, moves: &Moves, program: u64, auxv: (u64, usize)) -> Vec<u8> {
        let shift = moves.onward(program).wrapping_sub(program);
        let [code, data] = [self.code, self.data].map(|pair| pair.map(|at| at.wrapping_add(shift)));
        let [arguments, variables] =
            [self.arguments, self.variables].map(|pair| pair.map(|at| moves.onward(at)));
        let pointer = stack.onward(moves, stack.pointer);
        let heap = [moves.heap; 2];
        /// No other file is the program's.
        const NO_FILE: u64 = u32::MAX as u64;
        let last = [auxv.0, auxv.1 as u64 | NO_FILE << 32];
        let words = [code, data, heap].concat();
        let words = words.into_iter().chain([pointer]);
        let words = words.chain([arguments, variables, last].concat());
        words.flat_map(u64::to_ne_bytes).collect()
    }
}

/// The greatest alignment that a program's segments ask for, by its program headers (elf(5)).
fn alignment(headers: &[u8]) -> u64 {
    const HEADER_BYTES: usize = 56;
    const LOAD: u32 = 1;
    let loads = headers
        .chunks_exact(HEADER_BYTES)
        .filter(|header| header[..4] == LOAD.to_ne_bytes());
    let wanted = loads.map(|header| word_of(&header[48..]));
    let powers = wanted.filter(|alignment| alignment.is_power_of_two());
    powers.max().unwrap_or(PAGE).max(PAGE)
}

/// Moves a program that is stopped at its exec. The memory that [`reserve`] must take once the engine is in it. Where that
/// is an error nothing has been moved.
pub fn fix(thread: &Stopped) -> io::Result<Above> {
    let read = |name: &str| image::read_proc(&format!("/proc/{}/{name}", thread.tid()));
    let text = String::from_utf8_lossy(&read("maps")?).into_owned();
    let lines: Vec<Line<'_>> = maps::lines(&text).collect();
    let mut auxv = read("auxv")?;
    let memory = Memory::parse(&String::from_utf8_lossy(&read("stat")?));
    let memory = memory.ok_or_else(|| unknown("memory"))?;
    let above = Above::stack_of(StackLimit::of(thread.tid()).soft)
        .ok_or_else(|| io::Error::other("the stack has no limit (`ulimit -s`)"))?;
    let program = entry(&auxv, AT_PHDR)?;
    let mut headers = vec![0; 56 * entry(&auxv, AT_PHNUM)? as usize];
    thread.read(program, &mut headers)?;
    let moves = Moves::of(&lines, above, alignment(&headers));
    let moves = moves.ok_or_else(|| unknown("memory"))?;
    let mut calls = Calls::begin(thread, system_call_in_vdso(thread, &lines)?)?;
    let pointer = calls.registers().rsp;
    let stack = Stack::of(thread, pointer, &auxv, memory.arguments[0]);
    let moved = stack.and_then(|stack| {
        rewrite_auxv(&mut auxv, |address| stack.onward(&moves, address));
        let map = |auxv| memory.moved(&stack, &moves, program, auxv);
        tell_kernel(thread, &mut calls, &auxv, map)?;
        move_all(thread, &mut calls, &stack, &moves)
    });
    calls.end()?;
    moved.map(|()| above)
}

/// Moves everything, and the thread with it. Only the first move may be refused: that of the kernel's own pages.
fn move_all(
    thread: &Stopped,
    calls: &mut Calls<'_>,
    stack: &Stack,
    moves: &Moves,
) -> io::Result<()> {
    let rewritten = stack.rewritten(moves)?;
    for line in &moves.kernels {
        go(calls, line)?;
        let at = calls.at();
        calls.through(line.onward(at).unwrap_or(at));
    }
    for line in &moves.others {
        go(calls, line)?;
    }
    thread.write(moves.onward(stack.pointer), &rewritten)?;
    let registers = calls.registers();
    registers.rip = moves.onward(registers.rip);
    registers.rsp = stack.onward(moves, stack.pointer);
    Ok(())
}

/// prctl(PR_SET_MM_MAP): which addresses a program's memory has. Below the stack pointer nothing is yet.
fn tell_kernel(
    thread: &Stopped,
    calls: &mut Calls<'_>,
    auxv: &[u8],
    map: impl FnOnce((u64, usize)) -> Vec<u8>,
) -> io::Result<()> {
    const BELOW_STACK: u64 = 2048;
    let place = calls.registers().rsp - BELOW_STACK;
    let map = map((place, auxv.len()));
    let bytes = [auxv, &map].concat();
    thread.write(place, &bytes)?;
    let [what, how] = [libc::PR_SET_MM, libc::PR_SET_MM_MAP].map(|number| number as u64);
    let at = place + auxv.len() as u64;
    let answer = calls.make(libc::SYS_prctl, [what, how, at, map.len() as u64, 0, 0]);
    thread.write(place, &vec![0; bytes.len()])?;
    answer.map(drop)
}

/// Moves one mapping.
fn go(calls: &mut Calls<'_>, line: &Move) -> io::Result<()> {
    let Move { from, bytes, to } = *line;
    if from == to {
        return Ok(());
    }
    let how = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
    let mut go = |from, to| calls.make(libc::SYS_mremap, [from, bytes, bytes, how, to, 0]);
    match from.abs_diff(to) < bytes {
        true => go(from, ASIDE).and_then(|_| go(ASIDE, to)).map(drop),
        false => go(from, to).map(drop),
    }
}

/// Takes the memory above the mappings of a program, but for these pieces of the engine's; what was taken.
pub fn reserve(
    thread: &Stopped,
    system_call: u64,
    above: Above,
    pieces: &[(u64, u64)],
) -> io::Result<Vec<(u64, u64)>> {
    let mut pieces = pieces.to_vec();
    pieces.sort_unstable();
    let gaps = above.without(&pieces);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let flags = (flags | libc::MAP_FIXED_NOREPLACE) as u64;
    let rights = libc::PROT_NONE as u64;
    let mut calls = Calls::begin(thread, system_call)?;
    let taken = gaps.iter().try_for_each(|(start, end)| {
        let arguments = [*start, end - start, rights, flags, u64::MAX, 0];
        calls.make(libc::SYS_mmap, arguments).map(drop)
    });
    calls.end()?;
    let short = |error| match taken_too_much(&error) {
        true => io::Error::other(format!(
            "{} TiB of addresses cannot be taken: {error} (is the address space limited by `ulimit -v`?)",
            LOWER >> 40
        )),
        false => error,
    };
    taken.map(|()| gaps).map_err(short)
}

fn taken_too_much(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOMEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: &str = "\
55e9bbb3e000-55e9bbb3f000 r--p 00000000 fe:00 1                          /bin/p
55e9bbb3f000-55e9bbb43000 rw-p 00003000 fe:00 1                          /bin/p
7f7462545000-7f7462549000 r--p 00000000 00:00 0                          [vvar]
7f746254b000-7f746254d000 r-xp 00000000 00:00 0                          [vdso]
7f746254d000-7f7462582000 r--p 00000000 fe:00 2                          /lib/ld.so
7ffcf19f2000-7ffcf1a13000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    fn above() -> Above {
        Above::stack_of(8 << 20).unwrap()
    }

    #[test]
    fn a_program_goes_to_where_it_is_without_randomisation() {
        let lines: Vec<_> = maps::lines(RANDOM).collect();
        let moves = Moves::of(&lines, above(), PAGE).unwrap();
        assert_eq!(above().end, 0x7fff_f7ff_f000);
        for (from, to) in [
            (0x55e9_bbb3_e123, 0x5555_5555_4123),
            (0x55e9_bbb3_f000, 0x5555_5555_5000),
            (0x7f74_6258_1fff, above().start - 1),
            (0x7f74_6254_b000, above().start - 0x37000),
            (0x7ffc_f1a1_2fff, STACK_TOP - 1),
            (0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_0000),
        ] {
            assert_eq!(moves.onward(from), to, "{from:#x}");
        }
        assert_eq!(moves.heap, 0x5555_5555_9000);
        // What goes up begins at its end, so that nothing is in the way.
        assert!(moves.others[0].from < moves.others[1].from);
    }

    #[test]
    fn a_program_of_fixed_addresses_stays_and_a_large_alignment_is_kept() {
        let fixed =
            "00400000-004a7000 r-xp 00000000 fe:00 1                          /bin/static\n";
        let lines: Vec<_> = maps::lines(fixed).collect();
        let moves = Moves::of(&lines, above(), PAGE).unwrap();
        assert_eq!(
            (moves.onward(0x40_1000), moves.heap),
            (0x40_1000, 0x4a_7000)
        );
        let lines: Vec<_> = maps::lines(RANDOM).collect();
        let moves = Moves::of(&lines, above(), 2 << 20).unwrap();
        assert_eq!(moves.onward(0x55e9_bbb3_e000), 0x5555_5540_0000);
    }

    #[test]
    fn the_memory_above_is_taken_around_what_the_engine_has() {
        let Above { start, end } = above();
        let zone = (start + (1 << 20), start + (97 << 20));
        let gaps = above().without(&[(0x1000, 0x2000), zone, (end + 5, end + 6)]);
        assert_eq!(gaps, [(start, zone.0), (zone.1, end)]);
        assert_eq!(above().without(&[]), [(start, end)]);
        assert_eq!(Above::stack_of(u64::MAX), None);
    }

    #[test]
    fn addresses_on_the_stack_are_replaced_and_numbers_are_not() {
        let words = [1u64, 0x10, 0, 0x20, 0, AT_ENTRY, 0x30, 11, 0x40, 0, 0, 7];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let auxv = vectors(&mut bytes, |address| address + 1).unwrap();
        rewrite_auxv(&mut bytes[auxv..], |address| address + 1);
        let after: Vec<u64> = bytes.chunks(8).map(word_of).collect();
        assert_eq!(
            after,
            [1, 0x11, 0, 0x21, 0, AT_ENTRY, 0x31, 11, 0x40, 0, 0, 7]
        );
    }

    #[test]
    fn what_the_kernel_remembers_is_read_by_its_fields() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = format!("1 (a) b) R {}", fields.join(" "));
        let memory = Memory::parse(&stat).unwrap();
        assert_eq!((memory.code, memory.data), ([26, 27], [45, 46]));
        assert_eq!((memory.arguments, memory.variables), ([48, 49], [50, 51]));
    }
}
