//! What one instruction is and does, as far as a translator must know.
//!
//! Bytes in, plain data out. Everything here is conservative: what is not certain reads all flags, kills none, or is
//! refused by name.

use iced_x86::{
    Code, ConstantOffsets, Decoder, DecoderOptions, Encoder, FlowControl, Instruction,
    InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, RflagsBits,
};

/// Arithmetic flags, as a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// None of them.
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
    /// All of them.
    pub const ALL: Flags = Flags(63);

    /// Whether every flag of `other` is here.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of both.
    pub const fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Those that are not in `other`.
    pub const fn minus(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn from_iced(bits: u32) -> Flags {
        const PAIRS: [(u32, Flags); 6] = [
            (RflagsBits::CF, Flags::CF),
            (RflagsBits::PF, Flags::PF),
            (RflagsBits::AF, Flags::AF),
            (RflagsBits::ZF, Flags::ZF),
            (RflagsBits::SF, Flags::SF),
            (RflagsBits::OF, Flags::OF),
        ];
        let set = PAIRS.iter().filter(|(bit, _)| bits & bit != 0);
        set.fold(Flags::NONE, |all, (_, flag)| all.union(*flag))
    }
}

/// What an instruction does to the flow of control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Executes and falls through.
    Plain,
    /// `jmp` to a fixed address.
    Jump {
        /// Where.
        target: u64,
    },
    /// A conditional jump.
    Branch {
        /// The low four bits of its opcode.
        condition: u8,
        /// Where.
        target: u64,
    },
    /// `loop`, `loope`, `loopne`, `jrcxz`: jumps of eight bits that know rcx.
    CountBranch {
        /// 0xe0 to 0xe3.
        opcode: u8,
        /// Whether it looks at ecx.
        address_size_32: bool,
        /// Where.
        target: u64,
    },
    /// `call` of a fixed address.
    Call {
        /// Where.
        target: u64,
    },
    /// A near return.
    Return {
        /// Bytes it drops behind the address.
        pops: u16,
    },
    /// `jmp` to an address in a register or memory.
    JumpTo,
    /// `call` of an address in a register or memory.
    CallTo,
    /// `syscall`.
    SystemCall,
    /// Cannot be translated.
    Refused(Refusal),
    /// No instruction, or cut short.
    Unknown,
}

/// Why an instruction cannot be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The engine needs the gs base for itself.
    #[error("it uses the segment register gs, which the engine needs for itself")]
    UsesGs,
    /// A 32-bit system call.
    #[error("it makes a 32-bit system call")]
    Call32,
    /// A far call, jump or return, or an interrupt return.
    #[error("it changes the code segment")]
    FarTransfer,
    /// Transactional memory.
    #[error("it begins a memory transaction")]
    Transaction,
    /// Vendors differ.
    #[error("it is a near branch with a 16-bit operand, which Intel and AMD execute differently")]
    BranchSize,
    /// An operand relative to a 32-bit instruction pointer.
    #[error("it addresses memory relative to a 32-bit instruction pointer")]
    EipRelative,
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inst {
    /// Its length in bytes.
    pub len: u8,
    /// What it does.
    pub kind: Kind,
    /// Flags whose value before it matters.
    pub reads: Flags,
    /// Flags that it overwrites for certain, whatever they were.
    pub kills: Flags,
    /// Offset of the 32-bit displacement of an operand relative to its own address.
    pub rip_disp: Option<u8>,
}

impl Inst {
    /// The address that a relative operand of the instruction at `pc` means.
    pub fn rip_target(&self, bytes: &[u8], pc: u64) -> Option<u64> {
        let at = usize::from(self.rip_disp?);
        let displacement = bytes.get(at..at + 4)?.try_into().ok()?;
        let distance = i64::from(i32::from_le_bytes(displacement));
        Some((pc + u64::from(self.len)).wrapping_add_signed(distance))
    }
}

/// A register that an operand's address can be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base(u8);

impl Base {
    /// Its number in machine code.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// Registers that need no extension bit nor a SIB byte as a base.
const BASES: [(Register, u8); 6] = [
    (Register::RAX, 0),
    (Register::RCX, 1),
    (Register::RDX, 2),
    (Register::RBX, 3),
    (Register::RSI, 6),
    (Register::RDI, 7),
];

fn read(bytes: &[u8], pc: u64) -> (Instruction, ConstantOffsets) {
    let mut decoder = Decoder::with_ip(64, bytes, pc, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let offsets = decoder.get_constant_offsets(&instruction);
    (instruction, offsets)
}

/// The instruction that `bytes` begin with, which stand at `pc`; they may go on behind it.
pub fn decode(bytes: &[u8], pc: u64) -> Inst {
    let (one, offsets) = read(bytes, pc);
    let kind = kind(&one);
    let relative = one.is_ip_rel_memory_operand() && offsets.displacement_size() == 4;
    let (reads, kills) = flags(&one, kind);
    Inst {
        len: one.len() as u8,
        kind,
        reads,
        kills,
        rip_disp: relative.then(|| offsets.displacement_offset() as u8),
    }
}

fn kind(one: &Instruction) -> Kind {
    if one.is_invalid() {
        return Kind::Unknown;
    }
    if let Some(refusal) = refusal(one) {
        return Kind::Refused(refusal);
    }
    let target = one.near_branch_target();
    match one.flow_control() {
        FlowControl::UnconditionalBranch => Kind::Jump { target },
        FlowControl::ConditionalBranch => match count_branch(one.code()) {
            Some((opcode, address_size_32)) => Kind::CountBranch {
                opcode,
                address_size_32,
                target,
            },
            // `ConditionCode` has `None` first, then the conditions in the order of their numbers.
            None => Kind::Branch {
                condition: (one.condition_code() as u8).wrapping_sub(1) & 15,
                target,
            },
        },
        FlowControl::Call if one.is_call_near() => Kind::Call { target },
        FlowControl::Call if one.code() == Code::Syscall => Kind::SystemCall,
        FlowControl::Return => Kind::Return {
            pops: if one.op_count() > 0 {
                one.immediate16()
            } else {
                0
            },
        },
        FlowControl::IndirectBranch => Kind::JumpTo,
        FlowControl::IndirectCall => Kind::CallTo,
        _ => Kind::Plain,
    }
}

/// Opcode, and whether it looks at ecx.
fn count_branch(code: Code) -> Option<(u8, bool)> {
    Some(match code {
        Code::Loopne_rel8_64_RCX => (0xe0, false),
        Code::Loopne_rel8_64_ECX => (0xe0, true),
        Code::Loope_rel8_64_RCX => (0xe1, false),
        Code::Loope_rel8_64_ECX => (0xe1, true),
        Code::Loop_rel8_64_RCX => (0xe2, false),
        Code::Loop_rel8_64_ECX => (0xe2, true),
        Code::Jrcxz_rel8_64 => (0xe3, false),
        Code::Jecxz_rel8_64 => (0xe3, true),
        _ => return None,
    })
}

fn refusal(one: &Instruction) -> Option<Refusal> {
    use Mnemonic::{
        Int, Into, Iret, Iretd, Iretq, Lgs, Lkgs, Rdgsbase, Retf, Swapgs, Sysenter, Wrgsbase,
        Xbegin,
    };
    let gs_operand = || {
        (0..one.op_count())
            .any(|at| one.op_kind(at) == OpKind::Register && one.op_register(at) == Register::GS)
    };
    match one.mnemonic() {
        Rdgsbase | Wrgsbase | Swapgs | Lgs | Lkgs => Some(Refusal::UsesGs),
        Int if one.immediate8() == 0x80 => Some(Refusal::Call32),
        Sysenter => Some(Refusal::Call32),
        Iret | Iretd | Iretq | Retf | Into => Some(Refusal::FarTransfer),
        Xbegin => Some(Refusal::Transaction),
        _ if one.is_call_far()
            || one.is_jmp_far()
            || one.is_call_far_indirect()
            || one.is_jmp_far_indirect() =>
        {
            Some(Refusal::FarTransfer)
        }
        _ if one.segment_prefix() == Register::GS && one.memory_segment() == Register::GS => {
            Some(Refusal::UsesGs)
        }
        _ if gs_operand() => Some(Refusal::UsesGs),
        _ if has_16_bit_target(one) => Some(Refusal::BranchSize),
        _ if one.memory_base() == Register::EIP => Some(Refusal::EipRelative),
        _ => None,
    }
}

fn has_16_bit_target(one: &Instruction) -> bool {
    let relative = one.op_count() > 0 && one.op_kind(0) == OpKind::NearBranch16;
    relative
        || matches!(
            one.code(),
            Code::Retnw | Code::Retnw_imm16 | Code::Jmp_rm16 | Code::Call_rm16
        )
}

/// Flags read, and flags killed.
fn flags(one: &Instruction, kind: Kind) -> (Flags, Flags) {
    match kind {
        Kind::Unknown | Kind::Refused(_) | Kind::SystemCall => return (Flags::ALL, Flags::NONE),
        Kind::Jump { .. }
        | Kind::Call { .. }
        | Kind::Return { .. }
        | Kind::JumpTo
        | Kind::CallTo => {
            return (Flags::NONE, Flags::NONE);
        }
        _ => {}
    }
    if stops(one) {
        return (Flags::ALL, Flags::NONE);
    }
    let reads = Flags::from_iced(one.rflags_read());
    let kills = if may_leave_flags(one) {
        Flags::NONE
    } else {
        let certain = one.rflags_written() | one.rflags_cleared() | one.rflags_set();
        Flags::from_iced(certain).union(undefined_but_changed(one.mnemonic()))
    };
    (reads, kills)
}

/// Instructions that always stop the program: whoever looks at it then sees the flags.
fn stops(one: &Instruction) -> bool {
    matches!(
        one.flow_control(),
        FlowControl::Interrupt | FlowControl::Exception
    ) || one.is_privileged()
}

/// Whether flags may stay as they were: a shift by nothing, a repetition of nothing (Intel SDM volume 2, SAL/SAR/SHL/SHR,
/// RCL/RCR/ROL/ROR, SHLD, REP), a scan that finds nothing.
fn may_leave_flags(one: &Instruction) -> bool {
    use Mnemonic::{Bsf, Bsr, Rcl, Rcr, Rol, Ror, Sal, Sar, Shl, Shld, Shr, Shrd};
    if one.has_rep_prefix() || one.has_repne_prefix() {
        return true;
    }
    match one.mnemonic() {
        Bsf | Bsr => true,
        Rcl | Rcr | Rol | Ror | Sal | Sar | Shl | Shr | Shld | Shrd => {
            let last = one.op_count() - 1;
            match one.op_kind(last) {
                OpKind::Immediate8 => one.immediate8() & 31 == 0,
                _ => true,
            }
        }
        _ => false,
    }
}

/// AF behind logical operations: undefined by the manual, and on all processors not what it was before.
fn undefined_but_changed(mnemonic: Mnemonic) -> Flags {
    use Mnemonic::{And, Or, Test, Xor};
    match mnemonic {
        And | Or | Xor | Test => Flags::AF,
        _ => Flags::NONE,
    }
}

/// Whether the instruction that `bytes` begin with may write memory.
pub fn writes_memory(bytes: &[u8]) -> bool {
    let (one, _) = read(bytes, 0);
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(&one).used_memory();
    used.iter().any(|memory| {
        !matches!(
            memory.access(),
            OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None
        )
    })
}

/// The instruction at `pc` with its relative operand addressed through a register that it does not use; the bytes and the
/// register, which must hold the operand's address.
pub fn rebase(bytes: &[u8], pc: u64) -> Option<(Vec<u8>, Base)> {
    let (mut one, _) = read(bytes, pc);
    let mut factory = InstructionInfoFactory::new();
    let used: Vec<Register> = factory
        .info(&one)
        .used_registers()
        .iter()
        .map(|used| used.register().full_register())
        .collect();
    let (register, number) = BASES
        .into_iter()
        .find(|(register, _)| !used.contains(register))?;
    one.set_memory_base(register);
    one.set_memory_index(Register::None);
    one.set_memory_displacement64(0);
    one.set_memory_displ_size(0);
    let mut encoder = Encoder::new(64);
    encoder.encode(&one, pc).ok()?;
    Some((encoder.take_buffer(), Base(number)))
}

/// `mov rcx, OPERAND` for an indirect branch, and where its relative displacement is, if it has one.
///
/// The bytes stay as they are but for the opcode, its register field, and prefixes that only branches have.
pub fn load_target(bytes: &[u8], pc: u64) -> Option<(Vec<u8>, Option<u8>)> {
    const BRANCH_PREFIXES: [u8; 4] = [0x66, 0xf2, 0xf3, 0x3e];
    const OPCODE: u8 = 0xff;
    const REX_W: u8 = 0x48;
    const REX_R: u8 = 4;
    const RCX: u8 = 1;
    let inst = decode(bytes, pc);
    let opcode = bytes.iter().position(|byte| *byte == OPCODE)?;
    let (prefixes, rest) = bytes.get(..usize::from(inst.len))?.split_at(opcode);
    let rex = prefixes.last().copied().filter(|byte| byte & 0xf0 == 0x40);
    let legacy = prefixes
        .iter()
        .filter(|byte| **byte & 0xf0 != 0x40 && !BRANCH_PREFIXES.contains(byte));
    let mut load: Vec<u8> = legacy.copied().collect();
    load.push(rex.unwrap_or(0) & !REX_R | REX_W);
    load.push(0x8b);
    load.push(rest.get(1)? & !0x38 | RCX << 3);
    load.extend_from_slice(rest.get(2..)?);
    let at = inst.rip_disp.map(|_| load.len() as u8 - 4);
    Some((load, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(bytes: &[u8]) -> Kind {
        decode(bytes, 0x1000).kind
    }

    #[test]
    fn tells_the_ways_of_control() {
        assert_eq!(kind_of(&[0xeb, 0]), Kind::Jump { target: 0x1002 });
        assert_eq!(
            kind_of(&[0x0f, 0x84, 1, 0, 0, 0]),
            Kind::Branch {
                condition: 4,
                target: 0x1007
            }
        );
        assert_eq!(
            kind_of(&[0x75, 0xfe]),
            Kind::Branch {
                condition: 5,
                target: 0x1000
            }
        );
        let jrcxz = Kind::CountBranch {
            opcode: 0xe3,
            address_size_32: false,
            target: 0x1002,
        };
        assert_eq!(kind_of(&[0xe3, 0]), jrcxz);
        let loop32 = Kind::CountBranch {
            opcode: 0xe2,
            address_size_32: true,
            target: 0x1003,
        };
        assert_eq!(kind_of(&[0x67, 0xe2, 0]), loop32);
        assert_eq!(kind_of(&[0xe8, 0, 0, 0, 0]), Kind::Call { target: 0x1005 });
        assert_eq!(
            kind_of(&[0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0]),
            Kind::Call { target: 0x1008 }
        );
        assert_eq!(kind_of(&[0xc3]), Kind::Return { pops: 0 });
        assert_eq!(kind_of(&[0xf3, 0xc3]), Kind::Return { pops: 0 });
        assert_eq!(kind_of(&[0xc2, 8, 0]), Kind::Return { pops: 8 });
        assert_eq!(kind_of(&[0xff, 0xe0]), Kind::JumpTo);
        assert_eq!(kind_of(&[0x3e, 0xff, 0xe0]), Kind::JumpTo);
        assert_eq!(kind_of(&[0xff, 0x14, 0x24]), Kind::CallTo);
        assert_eq!(kind_of(&[0x0f, 0x05]), Kind::SystemCall);
        assert_eq!(kind_of(&[0x0f, 0x0b]), Kind::Plain);
        assert_eq!(kind_of(&[0xcc]), Kind::Plain);
        assert_eq!(kind_of(&[0xf3, 0x0f, 0x1e, 0xfa]), Kind::Plain);
        assert_eq!(kind_of(&[0x06]), Kind::Unknown);
        assert_eq!(kind_of(&[0x48]), Kind::Unknown);
        assert_eq!(kind_of(&[]), Kind::Unknown);
    }

    #[test]
    fn refuses_by_name() {
        assert_eq!(
            kind_of(&[0x65, 0x48, 0x8b, 4, 0x25, 0, 0, 0, 0]),
            Kind::Refused(Refusal::UsesGs)
        );
        assert_eq!(
            kind_of(&[0xf3, 0x48, 0x0f, 0xae, 0xd8]),
            Kind::Refused(Refusal::UsesGs)
        );
        assert_eq!(kind_of(&[0xcd, 0x80]), Kind::Refused(Refusal::Call32));
        assert_eq!(kind_of(&[0x48, 0xcf]), Kind::Refused(Refusal::FarTransfer));
        assert_eq!(
            kind_of(&[0xc7, 0xf8, 0, 0, 0, 0]),
            Kind::Refused(Refusal::Transaction)
        );
    }

    #[test]
    fn flags_stay_alive_where_they_might() {
        let flags = |bytes: &[u8]| {
            let one = decode(bytes, 0);
            (one.reads, one.kills)
        };
        assert_eq!(flags(&[0x01, 0xd8]), (Flags::NONE, Flags::ALL));
        assert_eq!(flags(&[0x31, 0xc0]), (Flags::NONE, Flags::ALL));
        assert_eq!(flags(&[0x11, 0xd8]), (Flags::CF, Flags::ALL));
        assert_eq!(flags(&[0xd3, 0xe0]).1, Flags::NONE);
        assert_eq!(flags(&[0xc1, 0xe0, 32]).1, Flags::NONE);
        assert_eq!(flags(&[0x0f, 0xbc, 0xc3]).1, Flags::NONE);
        assert_eq!(flags(&[0xf3, 0xa6]).1, Flags::NONE);
        assert_eq!(flags(&[0xff, 0xc0]).1, Flags::ALL.minus(Flags::CF));
        assert_eq!(flags(&[0x0f, 0x94, 0xc0]), (Flags::ZF, Flags::NONE));
        assert_eq!(flags(&[0x0f, 0x0b]).0, Flags::ALL);
        assert_eq!(flags(&[0x9c]).0, Flags::ALL);
    }

    #[test]
    fn finds_relative_operands() {
        let bytes = [0x48, 0x8b, 0x05, 0x10, 0, 0, 0];
        let one = decode(&bytes, 0x1000);
        assert_eq!(
            (one.rip_disp, one.rip_target(&bytes, 0x1000)),
            (Some(3), Some(0x1017))
        );
        let shift = [0xd1, 0x25, 0x10, 0, 0, 0];
        assert_eq!(decode(&shift, 0).rip_disp, Some(2));
        let compare = [0x83, 0x3d, 0x10, 0, 0, 0, 5];
        assert_eq!(decode(&compare, 0).rip_target(&compare, 0), Some(0x17));
    }

    #[test]
    fn rebases_on_a_register_that_is_not_used() {
        // xchg [rip+16], rax → xchg [rcx], rax
        let (bytes, base) = rebase(&[0x48, 0x87, 0x05, 0x10, 0, 0, 0], 0x1000).unwrap();
        assert_eq!((bytes, base.number()), (vec![0x48, 0x87, 0x01], 1));
        // cmpxchg16b [rip+16]: all of rax, rbx, rcx, rdx are used.
        let (_, base) = rebase(&[0x48, 0x0f, 0xc7, 0x0d, 0x10, 0, 0, 0], 0x1000).unwrap();
        assert_eq!(base.number(), 6);
    }

    #[test]
    fn loads_the_target_of_an_indirect_branch() {
        let load = |bytes: &[u8]| load_target(bytes, 0x1000).unwrap();
        assert_eq!(load(&[0xff, 0xe0]), (vec![0x48, 0x8b, 0xc8], None));
        assert_eq!(load(&[0x41, 0xff, 0xe3]), (vec![0x49, 0x8b, 0xcb], None));
        assert_eq!(load(&[0x3e, 0xff, 0xe0]), (vec![0x48, 0x8b, 0xc8], None));
        assert_eq!(
            load(&[0xff, 0x25, 1, 0, 0, 0]),
            (vec![0x48, 0x8b, 0x0d, 1, 0, 0, 0], Some(3))
        );
        assert_eq!(
            load(&[0x64, 0xff, 0x14, 0x25, 1, 0, 0, 0]),
            (vec![0x64, 0x48, 0x8b, 0x0c, 0x25, 1, 0, 0, 0], None)
        );
        assert_eq!(
            load(&[0xff, 0x54, 0xc4, 8]),
            (vec![0x48, 0x8b, 0x4c, 0xc4, 8], None)
        );
    }
}
