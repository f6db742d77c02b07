//! New bytes for an instruction that can no longer reach its memory operand from where it is copied to.

use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Register};

use super::prefixes::Prefixes;
use super::{Base, Kind, LONGEST_BYTES, decode};

/// The registers that [`rebase`] chooses from, in its order of preference.
const BASES: [(Base, Register); 6] = [
    (Base::Rcx, Register::RCX),
    (Base::Rdx, Register::RDX),
    (Base::Rsi, Register::RSI),
    (Base::Rdi, Register::RDI),
    (Base::Rax, Register::RAX),
    (Base::Rbx, Register::RBX),
];

/// Makes the rip-relative memory operand of an instruction `[base]`, where `base` is a register that the instruction
/// neither reads nor writes. The instruction may be of any kind; none when it has no such operand, or must not be
/// copied.
pub fn rebase(bytes: &[u8], pc: u64) -> Option<(Vec<u8>, Base)> {
    let decoded = decode(bytes, pc);
    if matches!(decoded.kind, Kind::Refused(_)) {
        return None;
    }
    let displacement = usize::from(decoded.rip_disp?);
    let bytes = &bytes[..usize::from(decoded.len)];
    let base = free_register(bytes, pc)?;
    let mut written = bytes.to_vec();
    clear_base_extension(&mut written);
    // ModRM: mod 00, reg as it is, rm the register (Intel SDM volume 2, table 2-2).
    written[displacement - 1] = bytes[displacement - 1] & 0x38 | base as u8;
    written.drain(displacement..displacement + 4);
    Some((written, base))
}

/// A register that the instruction does not touch, not even implicitly.
fn free_register(bytes: &[u8], pc: u64) -> Option<Base> {
    let instruction = Decoder::with_ip(64, bytes, pc, DecoderOptions::NONE).decode();
    let used = used_registers(&instruction);
    let free = |(_, register): &&(Base, Register)| !used.contains(register);
    BASES.iter().find(free).map(|(base, _)| *base)
}

/// The full names of all registers that an instruction reads or writes.
fn used_registers(instruction: &Instruction) -> Vec<Register> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let registers = info.used_registers().iter();
    registers
        .map(|used| used.register().full_register())
        .collect()
}

/// Clears the bits that extend ModRM.rm and SIB.index to r8 and beyond. A rip-relative operand ignores them (Intel SDM
/// volume 2, section 2.2.1.6); a register obeys them.
fn clear_base_extension(bytes: &mut [u8]) {
    let prefixes = Prefixes::of(bytes);
    let opcode = prefixes.opcode;
    match bytes[opcode] {
        // Three-byte VEX, EVEX and XOP have them inverted, in the byte that follows (sections 2.3.5 and 2.7.1, and AMD64
        // manual volume 3, section 1.8.2). After XOP's 8f the byte tells it from `pop`, whose operand is not rip-relative
        // with reg other than 0.
        0xc4 | 0x62 => bytes[opcode + 1] |= 0x60,
        0x8f if bytes[opcode + 1] & 0x1f >= 8 => bytes[opcode + 1] |= 0x60,
        _ if prefixes.rex != 0 => bytes[opcode - 1] &= !0x03,
        _ => {}
    }
}

/// The bytes of `mov rcx, operand` for the operand of a [`Kind::JumpTo`] or [`Kind::CallTo`], and the offset of the
/// displacement in them when the operand is rip-relative: it still counts from where the instruction was, so the caller
/// must rewrite it. None for any other instruction.
pub fn load_target(bytes: &[u8], pc: u64) -> Option<(Vec<u8>, Option<u8>)> {
    let decoded = decode(bytes, pc);
    if !matches!(decoded.kind, Kind::JumpTo | Kind::CallTo) {
        return None;
    }
    let bytes = &bytes[..usize::from(decoded.len)];
    let prefixes = Prefixes::of(bytes);
    let operand = prefixes.opcode + 1;
    let mut written = Vec::with_capacity(LONGEST_BYTES);
    written.extend(prefixes.fs.then_some(0x64));
    written.extend(prefixes.address_size.then_some(0x67));
    // REX.W for 64 bits; X and B belong to the operand, R would make the destination r9.
    written.push(0x48 | prefixes.rex & 0x03);
    written.push(0x8b);
    let kept = written.len();
    written.push(bytes[operand] & !0x38 | 0x08);
    written.extend_from_slice(&bytes[operand + 1..]);
    let moved = |offset: u8| offset - operand as u8 + kept as u8;
    Some((written, decoded.rip_disp.map(moved)))
}
