//! Where things are in a generated program; `runtime.S` is given the same numbers.

/// Code of `runtime.S`.
pub const RUNTIME: u64 = 0x1000_0000;
/// Takes down all registers.
pub const SNAPSHOT: u64 = RUNTIME + 0x800;
/// Writes what was taken down, and exits.
pub const FINISH: u64 = RUNTIME + 0xc00;
/// Generated code.
pub const CODE: u64 = 0x1010_0000;
/// Bytes of it at most.
pub const CODE_BYTES: u64 = 0x10_0000;
/// Cells of the runtime, and behind them those of generated code.
pub const STATE: u64 = 0x1020_0000;
/// The stack pointer while the runtime uses another.
pub const SAVED_RSP: u64 = STATE;
/// Where to go on after a jump to nowhere.
pub const RESUME_AT: u64 = STATE + 0x18;
/// Cells for generated code: counters of loops, targets of branches.
pub const CELLS: u64 = STATE + 0x100;
/// The top of the stack of snapshots.
pub const RUNTIME_STACK: u64 = STATE + 0x8000;
/// The top of the stack of generated calls, which no other instruction writes.
pub const CALL_STACK: u64 = STATE + 0xc000;
/// What only is read: images of registers.
pub const IMAGES: u64 = 0x1040_0000;
/// Eight valid values of mxcsr.
pub const MXCSR: u64 = IMAGES;
/// Small indices for gathers and scatters.
pub const INDICES: u64 = IMAGES + 0x40;
/// What `fxrstor` accepts.
pub const FXSAVE: u64 = IMAGES + 0x200;
/// Bytes of the images.
pub const IMAGES_BYTES: usize = 0x400;

/// Memory that operands are aimed at, where all addressing forms reach it.
pub const NEAR_MEMORY: u64 = 0x1060_0000;
/// The same at the end of what a relative operand reaches: from a copy of the code below it, one does not.
pub const FAR_MEMORY: u64 = CODE + 0x7fb0_0000;
/// Bytes of it: operands, and then the stack that instructions use.
pub const MEMORY_BYTES: u64 = 0x2_0000;
/// Where the stack pointer is aimed at, in it.
pub const STACK_MIDDLE: u64 = 0x1_8000;
/// The base of fs, in it.
pub const FS_BASE: u64 = 0x4000;
