//! Where things are in a thread's area, which its gs base points to, and in an address space's code cache.
//!
//! Translated code and the tracer share these places; every number here is part of the format of translated code.

/// Slots of a thread's area, as offsets from its gs base, in bytes.
pub mod slot {
    /// Why the thread has left translated code: 0 for no reason, [`INDIRECT`](super::INDIRECT), or an exit's index + 1.
    pub const REASON: u32 = 0x00;
    /// Where the thread goes on: an original address on the way out, a translated one on the way back.
    pub const TARGET: u32 = 0x08;
    /// The program's own rax while translated code uses it.
    pub const RAX: u32 = 0x10;
    /// The program's own rcx.
    pub const RCX: u32 = 0x18;
    /// The program's own r11.
    pub const R11: u32 = 0x20;
    /// The program's own register that holds the address of a far operand.
    pub const BASE: u32 = 0x28;
    /// Address of the [`NOW`] of the thread's process.
    pub const CLOCK: u32 = 0x30;
    /// A time that was just read.
    pub const TIME: u32 = 0x38;
    /// The program's own arithmetic flags, as `lahf` and `seto al` leave them in ax.
    pub const FLAGS: u32 = 0x40;
    /// The virtual time of a process, in nanoseconds since its tree began. Each reading adds one.
    pub const NOW: u32 = 0x48;
    /// The time from which on the tracer is asked before the clock is read. Directly behind [`NOW`].
    pub const LIMIT: u32 = NOW + 8;
    /// Times that system calls are given in the place of the program's: up to four words.
    pub const MOMENT: u32 = 0x60;
    /// Not 0 where the tracer is asked before each system call: the threads of the process take turns.
    pub const TURNS: u32 = 0x80;
    /// How many more times the thread may `pause` before it is another's turn; 0 where there is no other.
    pub const PAUSES: u32 = 0x88;
    /// How many more rounds loops may go that look at memory and do nothing else; 0 where there is no other thread.
    pub const ROUNDS: u32 = 0x90;
    /// How many more calls the thread may make in its turn.
    pub const CALLS: u32 = 0x98;
    /// How many more rounds timed code goes until it asks the tracer.
    pub const BUDGET: u32 = 0xa0;
    /// Text that system calls made for us are given: a path, NUL-terminated.
    pub const PATH: u32 = 0x100;
    /// The same for calls of the program whose path is replaced.
    pub const OTHER_PATH: u32 = 0x180;
    /// Room for a message by which the program is handed a file.
    pub const MESSAGE: u32 = 0x200;
    /// A byte for each system call, by its number: not 0 if it never waits, so that its thread need not ask before it.
    pub const QUICK: u32 = 0x600;
}

/// System calls that have a byte at [`slot::QUICK`]: all that there are, and more. Translated code that looks for a higher
/// number finds any byte; the kernel has no such call.
pub const CALLS_KNOWN: usize = 512;

/// What a clock of the given kind shows when a run begins, in nanoseconds: the first second of 2026, and of a machine that
/// was started a quarter of an hour before. (A date in the future would be dangerous: caches and `git gc` delete what
/// looks old.)
pub const EPOCH_NS: u64 = 1_767_225_600_000_000_000;
/// The same for clocks that show how long the machine is up.
pub const UP_NS: u64 = 900_000_000_000;

/// A reason to leave translated code: an indirect branch whose target is in [`slot::TARGET`].
pub const INDIRECT: u32 = 0x7fff_ffff;

/// Counter `n` of a thread is the 64-bit word at this offset + 8n of its area.
pub const COUNTERS: u32 = 0x1000;

/// Bytes of one thread's area: slots and counters, of which only those in use take memory.
pub const AREA_BYTES: u64 = 32 << 20;

/// Counters that fit in an area.
pub const MOST_COUNTERS: u32 = ((AREA_BYTES - COUNTERS as u64) / 8) as u32;

/// Entries of the table of indirect branches: the low 16 bits of the target choose one.
pub const TABLE_ENTRIES: usize = 1 << 16;

/// Bytes of that table.
pub const TABLE_BYTES: u64 = 8 * TABLE_ENTRIES as u64;

/// Bytes of one zone of the code cache.
pub const ZONE_BYTES: u64 = 96 << 20;

/// Where, in a zone, the code starts that is executed rarely: exits, questions, literals.
pub const COLD_START: u32 = 52 << 20;

/// The number of the system call by which translated code asks the tracer for more: one that no kernel has, or, once
/// a filter is on the program that might kill it for that, `rt_sigreturn`, which every filter must allow.
pub const MAGIC_CALL: u32 = 9999;

/// Bytes by which 32-bit displacements may be too far: within this, everything in a zone reaches it.
pub const REACH: u64 = (1 << 31) - ZONE_BYTES - (1 << 20);
