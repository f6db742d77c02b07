//! Opcodes of which [`super::fast`] must not learn from one instruction for others.
//!
//! Maps are numbered as there: 0 is the one-byte opcodes, 1 is 0f, 2 is 0f 38, 3 is 0f 3a, and 4 to 6 are the same three
//! under VEX. What is listed here without need costs time only.

/// Whether the effect of an opcode on flags hangs on an immediate count: shifts and rotates.
pub(super) fn is_counted(map: usize, opcode: u8) -> bool {
    matches!((map, opcode), (0, 0xc0 | 0xc1) | (1, 0xa4 | 0xac))
}

/// Whether an opcode says more with bits that are not in the index. `operands` are the index's lowest four bits: of legacy
/// encodings ModRM.reg and, lowest, whether the operand is a register.
pub(super) fn hangs_on_more(map: usize, opcode: u8, operands: usize) -> bool {
    let (extension, register) = (operands >> 1, operands & 1 != 0);
    match (map, opcode) {
        // `nop`, `pause`, or with REX.B an exchange.
        (0, 0x90) => true,
        // XOP or `pop`; segment registers that do not exist; the number of an interrupt.
        (0, 0x8c | 0x8e | 0x8f | 0xcd) => true,
        // x87 instructions whose opcode goes on in ModRM.rm.
        (0, 0xd8..=0xdf) => register,
        // `xabort` and `xbegin`, with f8 for ModRM.
        (0, 0xc6 | 0xc7) => extension == 7,
        // System instructions whose opcode goes on in ModRM.rm.
        (1, 0x01 | 0xae | 0xc7) => register,
        // 3DNow!, with the opcode in the immediate; control and debug registers; VIA's extensions.
        (1, 0x0f | 0x20..=0x27 | 0xa6 | 0xa7) => true,
        // `hreset`, with c0 for ModRM.
        (3, 0xf0) => true,
        // Mask registers, of which there are eight; opcodes that go on in ModRM.reg.
        (4, 0x41..=0x4b | 0x71..=0x73 | 0x90..=0x93 | 0x98 | 0x99 | 0xae) => true,
        // AMX tiles, gathers (whose registers must differ), and opcodes that go on in ModRM.reg.
        (5, 0x49 | 0x4b | 0x5c..=0x5f | 0x6c | 0x90..=0x93 | 0xf3) => true,
        // Mask registers again.
        (6, 0x30..=0x33) => true,
        _ => false,
    }
}
