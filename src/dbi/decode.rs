//! x86-64 instructions as the translator sees them: how long, what becomes of control, which flags.
//!
//! Pure over bytes: it neither reads a process nor names opcodes (that is [`crate::isa`]), and it knows nothing of
//! code caches. What it says of flags is conservative: a flag is in [`Inst::kills`] only when every execution that
//! completes overwrites it, on every processor. That an instruction may fault half-way is for the caller to consider.

mod bytes;
mod exceptions;
mod fast;
mod prefixes;
mod reference;
mod rewrite;

pub use reference::{
    RandomOperand, decode as decode_by_reference, looks_only, random_operand, writes_memory,
};
pub use rewrite::{load_target, rebase};

/// Longest instruction, in bytes (Intel SDM volume 2, section 2.3.11).
const LONGEST_BYTES: usize = 15;

/// Arithmetic flags, as a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// Carry.
    pub const CF: Flags = Flags(1);
    /// Parity.
    pub const PF: Flags = Flags(2);
    /// Auxiliary carry.
    pub const AF: Flags = Flags(4);
    /// Zero.
    pub const ZF: Flags = Flags(8);
    /// Sign.
    pub const SF: Flags = Flags(16);
    /// Overflow.
    pub const OF: Flags = Flags(32);
    /// All six.
    pub const ALL: Flags = Flags(63);

    /// Whether every flag of `other` is in this set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags that are in either set.
    #[must_use]
    pub const fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// The flags of this set that are not in `other`.
    #[must_use]
    pub const fn minus(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// Whether no flag is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What an instruction does with control, and so what the translator does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Executes and falls through (or traps); may be copied, with a rip-relative operand rewritten.
    Plain,
    /// `jmp rel8` or `jmp rel32`.
    Jump {
        /// Where it goes.
        target: u64,
    },
    /// `jcc rel8` or `jcc rel32`.
    Branch {
        /// Low nibble of the opcode (Intel SDM volume 1, appendix B).
        condition: u8,
        /// Where it goes when the condition holds.
        target: u64,
    },
    /// `loopne`, `loope`, `loop` or `jrcxz`: branches on a register. A copy keeps all prefixes: besides 67, which chooses
    /// ecx, AMD processors take `f2 loope` for `loopne` and `f3 loopne` for `loope`, which no manual says.
    CountBranch {
        /// Where it goes when it branches.
        target: u64,
    },
    /// `call rel32`.
    Call {
        /// Where it goes.
        target: u64,
    },
    /// Near `ret`.
    Return {
        /// Bytes of arguments that it takes off the stack besides the return address.
        pops: u16,
    },
    /// Near `jmp` to the address in a register or in memory.
    JumpTo,
    /// Near `call` of the address in a register or in memory.
    CallTo,
    /// `syscall`.
    SystemCall,
    /// Executes and falls through; what it says is up to the machine, not to the program.
    Asks(Question),
    /// An instruction that the translator must not copy.
    Refused(Refusal),
    /// No instruction, or only the beginning of one.
    Unknown,
}

/// What an instruction asks the machine for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `cpuid`: what processor it is.
    Cpuid,
    /// `xgetbv`: which registers the kernel saves.
    Xgetbv,
    /// `rdtsc`: the time.
    Rdtsc,
    /// `rdtscp`: the time, and the CPU's number.
    Rdtscp,
    /// `rdpid`: the CPU's number, into this register.
    Rdpid {
        /// Its number.
        register: u8,
    },
    /// `rdrand`: random bits.
    Rdrand,
    /// `rdseed`: the same.
    Rdseed,
    /// `pause`: to wait a moment for another thread.
    Pause,
}

impl Question {
    /// The instruction's name.
    pub fn name(self) -> &'static str {
        match self {
            Question::Cpuid => "cpuid",
            Question::Xgetbv => "xgetbv",
            Question::Rdtsc => "rdtsc",
            Question::Rdtscp => "rdtscp",
            Question::Rdpid { .. } => "rdpid",
            Question::Rdrand => "rdrand",
            Question::Rdseed => "rdseed",
            Question::Pause => "pause",
        }
    }

    /// Whether it asks for random bits.
    pub fn is_random(self) -> bool {
        matches!(self, Question::Rdrand | Question::Rdseed)
    }
}

/// Why an instruction cannot be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The gs base belongs to the counters.
    #[error("uses the gs segment")]
    UsesGs,
    /// `int 0x80` and `sysenter`.
    #[error("makes a 32-bit system call")]
    Call32,
    /// Far `call`, `jmp` and `ret`, `iret` and `uiret`.
    #[error("is a far transfer of control")]
    FarTransfer,
    /// `xbegin`: the counters would be rolled back with the transaction.
    #[error("starts a hardware transaction")]
    Transaction,
    /// `enclu`: enters and leaves code that nobody can translate.
    #[error("enters or leaves an SGX enclave")]
    Enclave,
    /// A near branch under a 66 prefix: AMD truncates the target to 16 bits, Intel ignores the prefix (AMD64 manual
    /// volume 3, section 1.2.7; Intel SDM volume 1, section 6.3.7 and the entries of the branches in volume 2).
    #[error("is a near branch of 16-bit operand size, which processors execute differently")]
    BranchSize,
    /// A rip-relative operand under a 67 prefix, which lies in the lowest 4 GiB.
    #[error("addresses memory relative to eip")]
    EipRelative,
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inst {
    /// Its length in bytes; 0 when it is [`Kind::Unknown`].
    pub len: u8,
    /// What it does with control.
    pub kind: Kind,
    /// The flags whose value before the instruction matters.
    pub reads: Flags,
    /// The flags that every completed execution overwrites; what the new value depends on is in `reads`.
    pub kills: Flags,
    /// Offset in the instruction of the 4-byte displacement of its rip-relative memory operand.
    pub rip_disp: Option<u8>,
    /// Whether it is a string instruction under a `rep` prefix.
    pub string: bool,
}

impl Inst {
    /// No instruction: nothing is known, so every flag counts as read.
    const UNKNOWN: Inst = Inst {
        len: 0,
        kind: Kind::Unknown,
        reads: Flags::ALL,
        kills: Flags::NONE,
        rip_disp: None,
        string: false,
    };

    /// The address of the rip-relative memory operand, when there is one; `bytes` are those of the instruction and
    /// `pc` is where it lies.
    pub fn rip_target(&self, bytes: &[u8], pc: u64) -> Option<u64> {
        let offset = usize::from(self.rip_disp?);
        let displacement = bytes.get(offset..offset + 4)?.try_into().ok()?;
        let next = pc.wrapping_add(u64::from(self.len));
        Some(next.wrapping_add_signed(i32::from_le_bytes(displacement).into()))
    }
}

/// The instruction that starts at `bytes[0]`, which lies at `pc`; `bytes` may go on after it, and the more there are (16
/// suffice) the faster it is. The answer is that of [`decode_by_reference`].
pub fn decode(bytes: &[u8], pc: u64) -> Inst {
    fast::decode(bytes, pc)
}

/// A register that can address memory with neither prefix, SIB byte nor displacement; the value is its number in
/// ModRM.rm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Base {
    /// rax.
    Rax = 0,
    /// rcx.
    Rcx = 1,
    /// rdx.
    Rdx = 2,
    /// rbx.
    Rbx = 3,
    /// rsi.
    Rsi = 6,
    /// rdi.
    Rdi = 7,
}

#[cfg(test)]
#[path = "decode/decode_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "decode/equality_tests.rs"]
mod equality_tests;
