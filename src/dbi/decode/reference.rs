//! Decoding through iced-x86: right first, fast elsewhere.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register, RflagsBits,
};

use super::prefixes::Prefixes;
use super::{Flags, Inst, Kind, LONGEST_BYTES, Question, Refusal};

/// What iced-x86 calls the six flags, and what they are here.
const FLAGS: [(u32, Flags); 6] = [
    (RflagsBits::CF, Flags::CF),
    (RflagsBits::PF, Flags::PF),
    (RflagsBits::AF, Flags::AF),
    (RflagsBits::ZF, Flags::ZF),
    (RflagsBits::SF, Flags::SF),
    (RflagsBits::OF, Flags::OF),
];

/// As [`super::decode`], always through iced-x86: for comparison with it.
pub fn decode(bytes: &[u8], pc: u64) -> Inst {
    let bytes = bytes.get(..LONGEST_BYTES).unwrap_or(bytes);
    // Without the MPX option 0f 1a and 0f 1b are the no-operations that they are on a kernel without MPX (Linux since
    // 5.6); without the AMD option a 66 prefix does not shorten a branch, and such branches are refused.
    let mut decoder = Decoder::with_ip(64, bytes, pc, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return Inst::UNKNOWN;
    }
    let kind = kind(&instruction, &Prefixes::of(bytes));
    // Not through the immediate or the operand kinds: the offsets are the only thing that iced-x86 takes from the bytes
    // alone (D1 /4 has an immediate operand of 1 and no immediate).
    let offsets = decoder.get_constant_offsets(&instruction);
    let relative = instruction.is_ip_rel_memory_operand() && offsets.displacement_size() == 4;
    Inst {
        len: instruction.len() as u8,
        kind,
        reads: reads(&instruction, kind),
        kills: kills(&instruction, kind),
        rip_disp: relative.then(|| offsets.displacement_offset() as u8),
        string: repeats(&instruction),
    }
}

/// Whether the instruction that `bytes` begin with may write memory.
pub fn writes_memory(bytes: &[u8]) -> bool {
    let instruction = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(&instruction).used_memory();
    used.iter().any(|memory| writes(memory.access()))
}

fn writes(access: OpAccess) -> bool {
    use OpAccess::{CondRead, NoMemAccess, None, Read};
    !matches!(access, Read | CondRead | NoMemAccess | None)
}

/// Whether a loop of these instructions looks at the same memory in each round and changes none, unless atomically: it may
/// wait until another thread does. One that searches goes on from place to place.
pub fn looks_only(instructions: &[&[u8]]) -> bool {
    let uses: Vec<Uses> = instructions.iter().map(|bytes| Uses::of(bytes)).collect();
    // What is read before it is written is left by the round before.
    let (mut written, mut left) = (Vec::new(), Vec::new());
    for uses in &uses {
        left.extend(uses.reads.iter().filter(|read| !written.contains(*read)));
        written.extend(&uses.writes);
    }
    let mut varies: Vec<Register> = left;
    varies.retain(|register| written.contains(register));
    for uses in &uses {
        if uses.changes_memory || uses.places.iter().any(|place| varies.contains(place)) {
            return false;
        }
        let follows = uses.reads.iter().any(|read| varies.contains(read));
        varies.retain(|register| !uses.writes.contains(register));
        if follows {
            varies.extend(&uses.writes);
        }
    }
    uses.iter().any(|uses| uses.looks)
}

/// What an instruction uses: whole registers, by their 64-bit names.
struct Uses {
    reads: Vec<Register>,
    writes: Vec<Register>,
    /// The registers that memory is addressed by.
    places: Vec<Register>,
    /// Whether it reads memory.
    looks: bool,
    changes_memory: bool,
}

impl Uses {
    fn of(bytes: &[u8]) -> Uses {
        let instruction = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
        // xchg with memory is atomic with or without the prefix (Intel SDM volume 2, XCHG).
        let atomic = instruction.has_lock_prefix() || instruction.mnemonic() == Mnemonic::Xchg;
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(&instruction);
        let (registers, memory) = (info.used_registers(), info.used_memory());
        let those = |wanted: fn(OpAccess) -> bool| {
            let used = registers.iter().filter(move |used| wanted(used.access()));
            used.map(|used| used.register().full_register()).collect()
        };
        let places = memory
            .iter()
            .flat_map(|memory| [memory.base(), memory.index()]);
        Uses {
            reads: those(|access| !matches!(access, OpAccess::Write | OpAccess::None)),
            writes: those(writes),
            places: places
                .map(Register::full_register)
                .filter(|place| *place != Register::None)
                .collect(),
            looks: memory
                .iter()
                .any(|memory| memory.access() != OpAccess::NoMemAccess),
            changes_memory: !atomic && memory.iter().any(|memory| writes(memory.access())),
        }
    }
}

/// What an instruction does with control.
fn kind(instruction: &Instruction, prefixes: &Prefixes) -> Kind {
    if let Some(refusal) = refusal(instruction, prefixes) {
        return Kind::Refused(refusal);
    }
    let transfer = transfer(instruction);
    if transfer != Kind::Plain && prefixes.operand_size && !prefixes.wide() {
        return Kind::Refused(Refusal::BranchSize);
    }
    match instruction.code() {
        Code::Syscall => Kind::SystemCall,
        _ => question(instruction).map_or(transfer, Kind::Asks),
    }
}

/// Length of `pause` without further prefixes.
const PAUSE_BYTES: usize = 2;

/// What an instruction asks the machine for.
fn question(instruction: &Instruction) -> Option<Question> {
    Some(match instruction.mnemonic() {
        Mnemonic::Cpuid => Question::Cpuid,
        Mnemonic::Xgetbv => Question::Xgetbv,
        Mnemonic::Rdtsc => Question::Rdtsc,
        Mnemonic::Rdtscp => Question::Rdtscp,
        Mnemonic::Rdpid => Question::Rdpid {
            register: instruction.op0_register().number() as u8,
        },
        Mnemonic::Rdrand => Question::Rdrand,
        Mnemonic::Rdseed => Question::Rdseed,
        // Under REX.B it exchanges r8 and rax, whatever other prefixes there are.
        Mnemonic::Pause if instruction.len() == PAUSE_BYTES => Question::Pause,
        _ => return None,
    })
}

/// Where `rdrand` or `rdseed` puts its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomOperand {
    /// The number of the register.
    pub register: u8,
    /// How many bytes of it.
    pub bytes: u8,
    /// Length of the instruction, in bytes.
    pub length: u8,
}

/// The operand of the `rdrand` or `rdseed` that `bytes` begin with.
pub fn random_operand(bytes: &[u8]) -> Option<RandomOperand> {
    let instruction = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
    let register = instruction.op0_register();
    question(&instruction)?.is_random().then(|| RandomOperand {
        register: register.number() as u8,
        bytes: register.size() as u8,
        length: instruction.len() as u8,
    })
}

/// Which near transfer of control an instruction is; `Plain` when it is none.
fn transfer(instruction: &Instruction) -> Kind {
    let target = instruction.near_branch_target();
    if instruction.is_jcc_short_or_near() {
        // iced-x86 has the conditions in the order of the opcodes, after its `None`.
        let condition = instruction.condition_code() as u8 - 1;
        return Kind::Branch { condition, target };
    }
    match instruction.mnemonic() {
        Mnemonic::Loopne | Mnemonic::Loope | Mnemonic::Loop | Mnemonic::Jrcxz | Mnemonic::Jecxz => {
            Kind::CountBranch { target }
        }
        Mnemonic::Jmp if instruction.is_jmp_near_indirect() => Kind::JumpTo,
        Mnemonic::Jmp => Kind::Jump { target },
        Mnemonic::Call if instruction.is_call_near_indirect() => Kind::CallTo,
        Mnemonic::Call => Kind::Call { target },
        Mnemonic::Ret => Kind::Return {
            pops: pops(instruction),
        },
        _ => Kind::Plain,
    }
}

/// What `ret imm16` takes off the stack.
fn pops(instruction: &Instruction) -> u16 {
    match instruction.op0_kind() {
        OpKind::Immediate16 => instruction.immediate16(),
        _ => 0,
    }
}

/// Why an instruction cannot be translated, if so.
fn refusal(instruction: &Instruction, prefixes: &Prefixes) -> Option<Refusal> {
    if instruction.is_jmp_far_indirect()
        || instruction.is_call_far_indirect()
        || instruction.is_jmp_far()
        || instruction.is_call_far()
    {
        return Some(Refusal::FarTransfer);
    }
    match instruction.mnemonic() {
        Mnemonic::Int if instruction.immediate8() == 0x80 => Some(Refusal::Call32),
        Mnemonic::Sysenter => Some(Refusal::Call32),
        Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq | Mnemonic::Uiret | Mnemonic::Retf => {
            Some(Refusal::FarTransfer)
        }
        Mnemonic::Xbegin => Some(Refusal::Transaction),
        Mnemonic::Enclu => Some(Refusal::Enclave),
        _ if uses_gs(instruction, prefixes) => Some(Refusal::UsesGs),
        _ if instruction.memory_base() == Register::EIP => Some(Refusal::EipRelative),
        _ => None,
    }
}

/// Whether an instruction uses or changes the gs segment. A prefix counts even where a later one may override it:
/// nobody needs the difference. Where there is no access to memory it says nothing.
fn uses_gs(instruction: &Instruction, prefixes: &Prefixes) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Rdgsbase | Mnemonic::Wrgsbase | Mnemonic::Swapgs | Mnemonic::Lgs => true,
        Mnemonic::Mov | Mnemonic::Pop if instruction.op0_register() == Register::GS => true,
        Mnemonic::Nop | Mnemonic::Reservednop | Mnemonic::Lea => false,
        _ => prefixes.gs,
    }
}

/// Whether an instruction is a string instruction under a `rep` prefix.
fn repeats(instruction: &Instruction) -> bool {
    instruction.is_string_instruction()
        && (instruction.has_rep_prefix() || instruction.has_repne_prefix())
}

/// The flags whose value before the instruction matters.
fn reads(instruction: &Instruction, kind: Kind) -> Flags {
    let observed = match kind {
        Kind::Refused(_) | Kind::Unknown | Kind::SystemCall => true,
        // A handler of the fault or trap sees the flags.
        _ => {
            matches!(
                instruction.flow_control(),
                FlowControl::Interrupt | FlowControl::Exception
            ) || instruction.is_privileged()
        }
    };
    match observed {
        true => Flags::ALL,
        false => of_iced(instruction.rflags_read()),
    }
}

/// The flags that every completed execution overwrites.
fn kills(instruction: &Instruction, kind: Kind) -> Flags {
    if kind != Kind::Plain || repeats(instruction) {
        return Flags::NONE;
    }
    let defined = of_iced(
        instruction.rflags_written() | instruction.rflags_cleared() | instruction.rflags_set(),
    );
    match certainty(instruction) {
        Certainty::None => Flags::NONE,
        Certainty::Zero => Flags::ZF,
        Certainty::Defined => defined,
        Certainty::DefinedAndAf => defined.union(Flags::AF),
    }
}

/// Which of the flags that the manual says are written count as overwritten.
enum Certainty {
    /// None.
    None,
    /// Only ZF.
    Zero,
    /// Those with a defined value.
    Defined,
    /// AF too, which is undefined after a bitwise operation and which no program can expect to survive one.
    DefinedAndAf,
}

/// A list of those that are known to write, rather than one of exceptions: what is missing here costs time only.
fn certainty(instruction: &Instruction) -> Certainty {
    use Mnemonic::*;
    match instruction.mnemonic() {
        And | Or | Xor | Test => Certainty::DefinedAndAf,
        Add | Adc | Sub | Sbb | Cmp | Inc | Dec | Neg | Xadd | Cmpxchg | Mul | Imul => {
            Certainty::Defined
        }
        Bt | Bts | Btr | Btc | Clc | Stc | Cmc | Sahf | Popf | Popfq => Certainty::Defined,
        // `cmpsd` is also an SSE comparison; that one defines no flags.
        Cmpsb | Cmpsw | Cmpsd | Cmpsq | Scasb | Scasw | Scasd | Scasq => Certainty::Defined,
        Popcnt | Andn | Bextr | Blsi | Blsr | Blsmsk | Bzhi | Adcx | Adox => Certainty::Defined,
        Ptest | Vptest | Comiss | Comisd | Ucomiss | Ucomisd => Certainty::Defined,
        Vcomiss | Vcomisd | Vucomiss | Vucomisd => Certainty::Defined,
        Cmpxchg8b | Cmpxchg16b => Certainty::Defined,
        // A processor without BMI1 executes `tzcnt` and `lzcnt` as `bsf` and `bsr`, which leave CF undefined.
        Bsf | Bsr | Tzcnt | Lzcnt => Certainty::Zero,
        Shl | Sal | Shr | Sar | Rol | Ror | Rcl | Rcr | Shld | Shrd => shift(instruction),
        _ => Certainty::None,
    }
}

/// A shift writes nothing when its masked count is 0, and a count beyond the operand's size leaves more undefined
/// (Intel SDM volume 2, `SAL/SAR/SHL/SHR`, `RCL/RCR/ROL/ROR` and `SHLD`).
fn shift(instruction: &Instruction) -> Certainty {
    let last = instruction.op_count() - 1;
    if instruction.op_kind(last) != OpKind::Immediate8 {
        return Certainty::None;
    }
    let bits = 8 * instruction_size(instruction);
    let count = instruction.immediate8() & if bits == 64 { 0x3f } else { 0x1f };
    match count {
        0 => Certainty::None,
        _ if u32::from(count) >= bits => Certainty::None,
        _ => Certainty::Defined,
    }
}

/// Size in bytes of the operand that an instruction shifts.
fn instruction_size(instruction: &Instruction) -> u32 {
    match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size() as u32,
        _ => instruction.memory_size().size() as u32,
    }
}

fn of_iced(bits: u32) -> Flags {
    let has = |(bit, _): &&(u32, Flags)| bits & bit != 0;
    FLAGS
        .iter()
        .filter(has)
        .fold(Flags::NONE, |all, (_, flag)| all.union(*flag))
}
