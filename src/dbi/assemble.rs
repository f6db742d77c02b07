//! The few machine instructions that translated code is made of besides the program's own.
//!
//! One method an instruction, named after it; operands are in the order of the Intel manual (SDM volume 2), whose
//! opcodes these are.

use super::layout::slot;

/// `gs:` as an override, and the SIB byte of an absolute 32-bit address without a register.
const GS: u8 = 0x65;
const ABSOLUTE: u8 = 0x25;

/// The r/m fields of ModRM for an address with a SIB byte, and for one relative to rip.
const WITH_SIB: u8 = 4;
const RELATIVE: u8 = 5;

/// A register by its number; only those without an extension bit are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(pub u8);

/// rax.
pub const RAX: Register = Register(0);
/// rcx.
pub const RCX: Register = Register(1);

/// A stretch of code in the making, whose first byte will stand at `base`.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// The bytes so far.
    pub bytes: Vec<u8>,
    /// The address of the first.
    pub base: u64,
}

impl Code {
    /// Empties it, for code at `base`.
    pub fn restart(&mut self, base: u64) {
        self.bytes.clear();
        self.base = base;
    }

    /// The address of what comes next.
    pub fn here(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// The offset of what comes next.
    pub fn offset(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// Any bytes.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn gs(&mut self, opcode: &[u8], field: u8, at: u32) {
        self.gs_with(opcode, field, at, &[]);
    }

    /// An instruction on `gs:[at]`, with an immediate operand. Relative to rip it is a byte shorter, in code that is near
    /// enough to address 0.
    fn gs_with(&mut self, opcode: &[u8], field: u8, at: u32, immediate: &[u8]) {
        self.bytes.push(GS);
        self.raw(opcode);
        let behind = self.here() + 5 + immediate.len() as u64;
        if let Some(distance) = relative(behind, at.into()) {
            self.raw(&[field << 3 | RELATIVE]);
            self.raw(&distance.to_le_bytes());
        } else {
            self.raw(&[field << 3 | WITH_SIB, ABSOLUTE]);
            self.raw(&at.to_le_bytes());
        }
        self.raw(immediate);
    }

    /// `mov gs:[at], register`
    pub fn store(&mut self, at: u32, register: Register) {
        self.gs(&[0x48, 0x89], register.0, at);
    }

    /// `mov register, gs:[at]`
    pub fn load(&mut self, register: Register, at: u32) {
        self.gs(&[0x48, 0x8b], register.0, at);
    }

    /// `movzx ecx, ax; movzx ecx, byte gs:[rcx + table]`
    pub fn look_up_ax(&mut self, table: u32) {
        self.raw(&[0x0f, 0xb7, 0xc8, GS, 0x0f, 0xb6, 0x89]);
        self.raw(&table.to_le_bytes());
    }

    /// `mov gs:[at], r11`
    pub fn store_r11(&mut self, at: u32) {
        self.gs(&[0x4c, 0x89], 3, at);
    }

    /// `mov r11, gs:[at]`
    pub fn load_r11(&mut self, at: u32) {
        self.gs(&[0x4c, 0x8b], 3, at);
    }

    /// `mov ecx, gs:[at]`
    pub fn load_ecx(&mut self, at: u32) {
        self.load_low(RCX.0, at);
    }

    /// `movzx ecx, word gs:[at]`
    pub fn load_cx(&mut self, at: u32) {
        self.gs(&[0x0f, 0xb7], RCX.0, at);
    }

    /// `cmp word gs:[at], value`
    pub fn compare_word(&mut self, at: u32, value: i8) {
        self.gs_with(&[0x66, 0x83], 7, at, &[value as u8]);
    }

    /// `mov register, gs:[at]`, of its lower half; the upper becomes zero.
    pub fn load_low(&mut self, register: u8, at: u32) {
        self.gs(&[0x8b], register, at);
    }

    /// `cmp rcx, gs:[at]`
    pub fn compare_rcx(&mut self, at: u32) {
        self.gs(&[0x48, 0x3b], 1, at);
    }

    /// `inc qword gs:[at]`: leaves CF alone, and changes the other arithmetic flags.
    pub fn increment(&mut self, at: u32) {
        self.gs(&[0x48, 0xff], 0, at);
    }

    /// `dec qword gs:[at]`
    pub fn decrement(&mut self, at: u32) {
        self.gs(&[0x48, 0xff], 1, at);
    }

    /// `mov dword gs:[at], value`
    pub fn store_value(&mut self, at: u32, value: u32) {
        self.gs_with(&[0xc7], 0, at, &value.to_le_bytes());
    }

    /// `jmp qword gs:[at]`
    pub fn jump_slot(&mut self, at: u32) {
        self.gs(&[0xff], 4, at);
    }

    /// `lea rcx, [rcx + by]`
    pub fn add_rcx(&mut self, by: i8) {
        self.raw(&[0x48, 0x8d, 0x49, by as u8]);
    }

    /// `lea ecx, [rcx + by]`
    pub fn add_ecx(&mut self, by: i32) {
        self.raw(&[0x8d, 0x89]);
        self.raw(&by.to_le_bytes());
    }

    /// `lea rcx, [rcx + by]`, always of the same length.
    pub fn add_rcx_long(&mut self, by: i32) {
        self.raw(&[0x48, 0x8d, 0x89]);
        self.raw(&by.to_le_bytes());
    }

    /// `lea ecx, [rax - value]`
    pub fn rax_less_to_ecx(&mut self, value: u32) {
        self.raw(&[0x8d, 0x88]);
        self.raw(&value.wrapping_neg().to_le_bytes());
    }

    /// `lea rcx, [rcx + rax]`
    pub fn add_rax_to_rcx(&mut self) {
        self.raw(&[0x48, 0x8d, 0x0c, 0x01]);
    }

    /// `movzx ecx, cx`
    pub fn low_half(&mut self) {
        self.raw(&[0x0f, 0xb7, 0xc9]);
    }

    /// `jmp qword [rcx*8 + table]`
    pub fn jump_table(&mut self, table: u32) {
        self.raw(&[0xff, 0x24, 0xcd]);
        self.raw(&table.to_le_bytes());
    }

    /// `mov rcx, [rsp]`
    pub fn load_return(&mut self) {
        self.raw(&[0x48, 0x8b, 0x0c, 0x24]);
    }

    /// `lea rsp, [rsp + by]`
    pub fn drop_stack(&mut self, by: u32) {
        self.raw(&[0x48, 0x8d, 0xa4, 0x24]);
        self.raw(&by.to_le_bytes());
    }

    /// `pop rcx`
    pub fn pop_rcx(&mut self) {
        self.raw(&[0x59]);
    }

    /// `push value`
    pub fn push_value(&mut self, value: i32) {
        self.raw(&[0x68]);
        self.raw(&value.to_le_bytes());
    }

    /// `push qword [rip → literal]`
    pub fn push_literal(&mut self, literal: u64) {
        self.raw(&[0xff, 0x35]);
        self.relative(literal);
    }

    /// `mov register, value`, in the shortest form.
    pub fn set(&mut self, register: Register, value: u64) {
        if let Ok(low) = u32::try_from(value) {
            self.raw(&[0xb8 + register.0]);
            self.raw(&low.to_le_bytes());
        } else if let Some(relative) = relative(self.here() + 7, value) {
            self.raw(&[0x48, 0x8d, register.0 << 3 | 5]);
            self.raw(&relative.to_le_bytes());
        } else {
            self.set_long(register, value);
        }
    }

    /// `mov register, value`, always of the same length.
    pub fn set_long(&mut self, register: Register, value: u64) {
        self.raw(&[0x48, 0xb8 + register.0]);
        self.raw(&value.to_le_bytes());
    }

    /// `mov eax, value`
    pub fn set_eax(&mut self, value: u32) {
        self.raw(&[0xb8]);
        self.raw(&value.to_le_bytes());
    }

    /// `syscall`
    pub fn system_call(&mut self) {
        self.raw(&[0x0f, 0x05]);
    }

    /// `jrcxz` over the next `bytes`
    pub fn skip_if_rcx_zero(&mut self, bytes: u8) {
        self.raw(&[0xe3, bytes]);
    }

    /// `jmp target`, never to be changed.
    pub fn jump(&mut self, target: u64) {
        self.raw(&[0xe9]);
        self.relative(target);
    }

    /// `jcc target`, never to be changed.
    pub fn branch(&mut self, condition: u8, target: u64) {
        self.raw(&[0x0f, 0x80 | condition]);
        self.relative(target);
    }

    /// `jmp target` whose displacement can be changed in one store while it is executed; the offset of that.
    pub fn jump_patchable(&mut self, target: u64) -> u32 {
        self.pad(1);
        self.jump(target);
        self.offset() - 4
    }

    /// `jcc target` of the same kind.
    pub fn branch_patchable(&mut self, condition: u8, target: u64) -> u32 {
        self.pad_branch(0);
        self.branch(condition, target);
        self.offset() - 4
    }

    /// Fills up for such a branch that comes behind so many bytes.
    pub fn pad_branch(&mut self, behind: u64) {
        self.pad(behind + 2);
    }

    /// Fills up so that the four bytes `ahead` bytes from here do not cross a border of 8 bytes: stores within
    /// such are atomic on all x86-64 (AMD64 manual volume 2, section 7.3.2).
    pub fn pad(&mut self, ahead: u64) {
        const NOPS: [&[u8]; 4] = [&[], &[0x90], &[0x66, 0x90], &[0x0f, 0x1f, 0x00]];
        let within = (self.here() + ahead) % 8;
        let bytes = if within > 4 { 8 - within } else { 0 };
        self.raw(NOPS[bytes as usize % NOPS.len()]);
    }

    /// A 32-bit displacement that ends the instruction. The caller has made sure that it reaches.
    fn relative(&mut self, target: u64) {
        let distance = target.wrapping_sub(self.here() + 4);
        self.raw(&(distance as u32).to_le_bytes());
    }

    /// Restores the register that was stored by [`Code::store`] in `slot::RCX`.
    pub fn restore_rcx(&mut self) {
        self.load(RCX, slot::RCX);
    }
}

/// The displacement from `from` to `to`, where 32 bits are enough.
pub fn relative(from: u64, to: u64) -> Option<i32> {
    i32::try_from(to.wrapping_sub(from) as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Arch, Decoder};

    /// Capstone reads back what was meant.
    #[test]
    fn every_instruction_is_the_one_it_is_named_after() {
        let mut code = Code::default();
        code.restart(0xffff_0000);
        code.store(0x18, RCX);
        code.load_cx(0x8);
        code.compare_word(0x8, -1);
        code.add_rcx_long(-5);
        code.push_value(-5);
        code.load(RAX, 0x10);
        code.store_r11(0x20);
        code.load_r11(0x20);
        code.load_ecx(0x8);
        code.compare_rcx(0x8);
        code.increment(0x1008);
        code.store_value(0, 7);
        code.jump_slot(8);
        code.add_rcx(1);
        code.add_ecx(-5);
        code.rax_less_to_ecx(5);
        code.add_rax_to_rcx();
        code.low_half();
        code.jump_table(0x7000_0000);
        code.load_return();
        code.drop_stack(16);
        code.pop_rcx();
        code.push_literal(0x10000);
        code.set(RCX, 5);
        code.set(RCX, 0x1_0000_0000);
        code.set(RAX, 0x7fff_0000_0000);
        code.set_eax(9);
        code.system_call();
        code.skip_if_rcx_zero(5);
        code.jump(0x10000);
        code.branch(4, 0x10000);
        let decoder = Decoder::new(Arch::X86_64).unwrap();
        let (mut at, mut names) = (0, Vec::new());
        while at < code.bytes.len() {
            let one = decoder
                .decode(&code.bytes[at..], 0x10000 + at as u64)
                .unwrap();
            at += one.len;
            names.push(one.mnemonic);
        }
        let expected = "mov movzx cmp lea push mov mov mov mov cmp inc mov jmp lea lea lea lea movzx jmp mov lea pop push mov lea movabs mov \
                        syscall jrcxz jmp je";
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn slots_are_the_same_near_and_far() {
        let decoder = Decoder::new(Arch::X86_64).unwrap();
        for (base, bytes) in [(0x10000, 12), (0x7fff_0000_0000, 13)] {
            let mut code = Code::default();
            code.restart(base);
            code.store_value(0x1008, 7);
            assert_eq!(code.bytes.len(), bytes - 1);
            let one = decoder.decode(&code.bytes, base).unwrap();
            assert_eq!((one.len, one.mnemonic.as_str()), (bytes - 1, "mov"));
            let mut iced = iced_x86::Decoder::with_ip(64, &code.bytes, base, 0);
            let one = iced.decode();
            assert_eq!(one.memory_displacement64(), 0x1008);
            assert_eq!(one.segment_prefix(), iced_x86::Register::GS);
        }
    }

    #[test]
    fn displacements_that_change_do_not_cross_eight_bytes() {
        for start in 0..8 {
            let mut code = Code::default();
            code.restart(0x10000 + start);
            for at in [
                code.jump_patchable(0x10000),
                code.branch_patchable(5, 0x10000),
            ] {
                assert!((code.base + u64::from(at)) % 8 <= 4);
            }
        }
    }
}
