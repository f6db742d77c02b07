//! Registers and displacements so that the memory operands of an instruction are where memory is.

use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register, UsedMemory,
};

use super::Writer;
use crate::layout::{CODE, FS_BASE, FXSAVE, INDICES, MXCSR, STACK_MIDDLE};

/// What an operand address is made of.
#[derive(Clone, Copy, Debug)]
struct Parts {
    base: Register,
    index: Register,
    scale: u64,
    displacement: u64,
    fs: bool,
}

impl Parts {
    fn explicit(instruction: &Instruction) -> Parts {
        Parts {
            base: instruction.memory_base(),
            index: instruction.memory_index(),
            scale: instruction.memory_index_scale().into(),
            displacement: instruction.memory_displacement64(),
            fs: instruction.memory_segment() == Register::FS,
        }
    }

    fn is(&self, used: &UsedMemory) -> bool {
        used.base() == self.base && used.index() == self.index
    }
}

fn number(register: Register) -> u8 {
    register.full_register().number() as u8
}

impl Writer<'_> {
    /// Adds what aims the instruction, and it; false where that cannot be.
    pub(super) fn aimed(&mut self, mut bytes: Vec<u8>) -> bool {
        let mut decoder = Decoder::with_ip(64, &bytes, self.here(), DecoderOptions::NONE);
        let instruction = decoder.decode();
        let offsets = decoder.get_constant_offsets(&instruction);
        let explicit = instruction.op_kinds().any(|kind| kind == OpKind::Memory);
        if !self.can_aim(&instruction, explicit, offsets.displacement_size()) {
            return false;
        }
        self.aim_implicit(&instruction, explicit);
        if !explicit {
            self.compared(&bytes);
            return true;
        }
        let target = self.target(&instruction);
        let at = offsets.displacement_offset();
        let size = offsets.displacement_size();
        let parts = Parts::explicit(&instruction);
        let offset = target.wrapping_sub(self.segment(instruction.memory_segment()));
        match (parts.base, parts.index) {
            (Register::RIP, _) => {
                let next = self.here() + bytes.len() as u64;
                let distance = offset.wrapping_sub(next) as u32;
                bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
            }
            (Register::None, Register::None) => {
                bytes[at..at + size].copy_from_slice(&offset.to_le_bytes()[..size]);
            }
            _ => self.aim_registers(parts, offset),
        }
        self.compared(&bytes);
        self.forget_pointers(&instruction, target);
        true
    }

    /// The base of a segment.
    fn segment(&self, segment: Register) -> u64 {
        match segment {
            Register::FS => self.memory + FS_BASE,
            _ => 0,
        }
    }

    fn can_aim(&self, instruction: &Instruction, explicit: bool, displacement: usize) -> bool {
        if !explicit {
            return true;
        }
        let parts = Parts::explicit(instruction);
        let (base, index) = (parts.base.full_register(), parts.index.full_register());
        let absolute = (base, index) == (Register::None, Register::None);
        let reached = displacement == 8 || parts.fs || self.memory >> 31 == 0;
        // The register that a bit is chosen by is aimed as well, apart from the address.
        let bit = bit_register(instruction).is_some_and(|bit| bit == base || bit == index);
        let on_stack = instruction.is_stack_instruction() && base == Register::RSP;
        let far_from_stack = parts.displacement.cast_signed().unsigned_abs() > 0x1000;
        // Without a base, or with one register twice, the address is only almost the one that was chosen.
        let exact = absolute || base != index && base != Register::None;
        // Indices that say how far from nothing.
        let baseless = parts.index.is_vector_register() && base == Register::None;
        !(baseless
            || absolute && !reached
            || parts.fs && base == Register::RIP
            || bit
            || on_stack && (far_from_stack || index != Register::None)
            || !exact && !pointers(instruction).is_empty())
    }

    /// Where an operand shall be.
    fn target(&mut self, instruction: &Instruction) -> u64 {
        match instruction.mnemonic() {
            Mnemonic::Ldmxcsr | Mnemonic::Vldmxcsr if self.random.percent(80) => {
                return MXCSR + 4 * self.random.below(16);
            }
            Mnemonic::Fxrstor | Mnemonic::Fxrstor64 if self.random.percent(60) => return FXSAVE,
            _ => {}
        }
        let align = match self.random.below(8) {
            0 => 1,
            1 => 8,
            2..5 => 16,
            _ => 64,
        };
        match self.random.below(60) {
            // Code is data, too; what writes it faults.
            0 if self.code_is_kept => CODE + self.random.below(0x400),
            // The edges, where a part of the operand may be nowhere.
            1 => self.memory - 0x20 + self.random.below(0x28),
            2 => 0x1000 + self.random.below(0x100),
            _ => self.memory + 0x1000 + align * self.random.below(0xe000 / align),
        }
    }

    /// Sets base and index.
    fn aim_registers(&mut self, parts: Parts, target: u64) {
        let narrow = parts.base.is_gpr32() || parts.index.is_gpr32();
        let upper = if narrow { self.random.next() << 32 } else { 0 };
        let rest = target.wrapping_sub(parts.displacement);
        let set = |writer: &mut Self, register: Register, value: u64| {
            let value = if narrow {
                value & 0xffff_ffff | upper
            } else {
                value
            };
            writer.set(number(register), value);
        };
        if parts.index.is_vector_register() {
            self.small_indices(parts.index);
            return set(self, parts.base, rest);
        }
        // Rounds towards the middle of memory where the one register cannot give the exact address.
        let divided = |by: u64| match narrow {
            true => u64::from(rest as u32 / by as u32),
            false => rest
                .cast_signed()
                .div_euclid(by.cast_signed())
                .cast_unsigned(),
        };
        match (parts.base, parts.index) {
            (base, Register::None) => set(self, base, rest),
            (Register::None, index) => set(self, index, divided(parts.scale)),
            (base, index) if base == index => set(self, base, divided(parts.scale + 1)),
            (base, index) => {
                let value = self.random.number();
                set(self, index, value);
                set(
                    self,
                    base,
                    rest.wrapping_sub(value.wrapping_mul(parts.scale)),
                );
            }
        }
    }

    /// Fills a register that gathers and scatters take indices from.
    fn small_indices(&mut self, register: Register) {
        let number = register.number() as u8;
        let (low, r, r2) = (number & 7, !number >> 3 & 1, !number >> 4 & 1);
        if number < 16 && !register.is_zmm() {
            // vmovdqu ymm, [INDICES]
            self.relative(&[0xc5, r << 7 | 0x7e, 0x6f, low << 3 | 5], INDICES, &[]);
        } else {
            // vmovdqu64 zmm, [INDICES]; a fault here is met as any other.
            let start = self.code.len();
            let evex = [
                0x62,
                r << 7 | 0x60 | r2 << 4 | 1,
                0xfe,
                0x48,
                0x6f,
                low << 3 | 5,
            ];
            self.relative(&evex, INDICES, &[]);
            self.skips[start] = 10;
        }
    }

    /// Registers that an instruction uses without their being in its operands.
    fn aim_implicit(&mut self, instruction: &Instruction, explicit: bool) {
        use Mnemonic::{Clzero, Enter, Leave, Popf, Popfq};
        if instruction.is_stack_instruction() {
            self.set(4, self.memory + STACK_MIDDLE);
        }
        match instruction.mnemonic() {
            // Its operand is whatever line rax is in.
            Clzero => {
                let line = self.memory + 0x1000 + self.random.below(0xe000);
                self.set(0, line);
            }
            Enter | Leave => self.set(5, self.memory + STACK_MIDDLE + 0x100),
            Popf | Popfq => {
                let flags = self.random.next() as u32 & 0xcd5;
                let [a, b, c, d] = flags.to_le_bytes();
                self.raw(&[0x48, 0xc7, 0x04, 0x24, a, b, c, d]); // mov qword [rsp], flags
            }
            _ => {}
        }
        let own = Parts::explicit(instruction);
        let info = self.factory.info(instruction);
        let used: Vec<UsedMemory> = info.used_memory().to_vec();
        for memory in used {
            let base = memory.base();
            if explicit && own.is(&memory) || !base.is_gpr() || [4, 5].contains(&number(base)) {
                continue;
            }
            let align = if self.random.percent(85) { 64 } else { 1 };
            let at = self.memory + 0x8000 + align * self.random.below(0x4000 / align);
            self.set(number(base), at - self.segment(memory.segment()));
        }
        let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
        if repeated && instruction.is_string_instruction() {
            let count = self.random.below(6);
            self.set(1, count);
        }
        if let Some(bit) = bit_register(instruction) {
            let value = self.random.below(0x1000) as i64 - 0x800;
            self.set(number(bit), value.cast_unsigned());
        }
    }

    /// The address of the last x87 instruction is that of its copy, and goes with what saves it: overwritten.
    fn forget_pointers(&mut self, instruction: &Instruction, target: u64) {
        for offset in pointers(instruction) {
            let start = self.code.len();
            self.store(target + offset, 0);
            // Where there is no memory this faults, too.
            self.skips[start] = (self.code.len() - start) as u8;
        }
    }
}

/// The register that says which bit of a string of any length `bt` and its like take.
fn bit_register(instruction: &Instruction) -> Option<Register> {
    use Mnemonic::{Bt, Btc, Btr, Bts};
    let strings = matches!(instruction.mnemonic(), Bt | Bts | Btr | Btc)
        && instruction.op0_kind() == OpKind::Memory
        && instruction.op1_kind() == OpKind::Register;
    strings.then(|| instruction.op1_register().full_register())
}

/// Offsets of the double words, in what an instruction saves, that hold parts of the address of the last x87 instruction, of
/// its opcode, of its operand's address (Intel SDM volume 1, figures 8-9 to 8-12, and volume 2, FXSAVE).
fn pointers(instruction: &Instruction) -> &'static [u64] {
    use Code::*;
    match instruction.code() {
        Fnstenv_m14byte | Fnsave_m94byte => &[6, 8, 10],
        Fnstenv_m28byte | Fnsave_m108byte => &[12, 16, 20, 24],
        Fxsave_m512byte | Fxsave64_m512byte => &[4, 8, 12, 16, 20],
        _ => &[],
    }
}
