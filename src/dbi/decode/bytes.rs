//! What a byte at the start of an instruction is, and how much ModRM brings along, as tables.

/// What is no opcode in 64-bit mode: a legacy prefix (Intel SDM volume 2, section 2.1.1), REX, VEX or EVEX.
pub(super) const NO_OPCODE: u8 = 1;
/// Number of the bit that says that as an opcode of one byte it has a ModRM byte; the next bit says it of opcodes after 0f.
pub(super) const HAS_MODRM_SHIFT: u32 = 1;

/// The bits above, by byte.
pub(super) static BYTES: [u8; 256] = bytes();

/// Of an entry of [`MODRM`]: ModRM.reg, and lowest whether ModRM.rm is a register.
pub(super) const MODRM_INDEX: u16 = 0x0f;
/// The operand is rip-relative.
pub(super) const MODRM_RIP: u16 = 0x10;
/// There is a SIB byte, and there is a displacement of 4 bytes besides if its base is 101.
pub(super) const MODRM_BASE: u16 = 0x20;
/// From here on, the bytes of ModRM, SIB and displacement, but for that displacement.
pub(super) const MODRM_BYTES_SHIFT: u32 = 8;

/// The bits above by ModRM (Intel SDM volume 2, table 2-2).
pub(super) static MODRM: [u16; 256] = modrm();

/// Legacy opcodes of one byte with a ModRM byte (Intel SDM volume 2, table A-2), a bit for each.
const MODRM_1: [u32; 8] = [
    0x0f0f_0f0f, // 00-1f: the first four of each half row
    0x0f0f_0f0f, // 20-3f
    0x0000_0000, // 40-5f
    0x0000_0a08, // 60-7f: 63, 69, 6b
    0x0000_ffff, // 80-9f: 80-8f
    0x0000_0000, // a0-bf
    0xff0f_00c3, // c0-df: c0, c1, c6, c7, d0-d3, d8-df
    0xc0c0_0000, // e0-ff: f6, f7, fe, ff
];

/// Legacy opcodes after 0f with a ModRM byte (table A-3).
const MODRM_0F: [u32; 8] = [
    0xffff_a00f, // 00-1f: 00-03, 0d, 0f, 10-1f
    0x0000_ff0f, // 20-3f: 20-23, 28-2f
    0xffff_ffff, // 40-5f
    0xff7f_ffff, // 60-7f: all but 77
    0xffff_0000, // 80-9f: 90-9f
    0xffff_f8f8, // a0-bf: all but a0-a2, a8-aa
    0xffff_00ff, // c0-df: all but c8-cf
    0xffff_ffff, // e0-ff
];

const fn bytes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = lead(byte as u8);
        if has(&MODRM_1, byte) {
            table[byte] |= 1 << HAS_MODRM_SHIFT;
        }
        if has(&MODRM_0F, byte) {
            table[byte] |= 2 << HAS_MODRM_SHIFT;
        }
        byte += 1;
    }
    table
}

const fn lead(byte: u8) -> u8 {
    match byte {
        0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 => NO_OPCODE,
        0x40..=0x4f | 0x62 | 0xc4 | 0xc5 => NO_OPCODE,
        _ => 0,
    }
}

const fn has(set: &[u32; 8], byte: usize) -> bool {
    set[byte >> 5] >> (byte & 31) & 1 != 0
}

const fn modrm() -> [u16; 256] {
    let mut table = [0; 256];
    let mut modrm = 0;
    while modrm < 256 {
        let (mode, reg, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
        let (bytes, bits) = match (mode, rm) {
            (0, 5) => (5, MODRM_RIP),
            (0, 4) => (2, MODRM_BASE),
            (0, _) => (1, 0),
            (1, 4) => (3, 0),
            (1, _) => (2, 0),
            (2, 4) => (6, 0),
            (2, _) => (5, 0),
            _ => (1, 1),
        };
        table[modrm] = bytes << MODRM_BYTES_SHIFT | (reg as u16) << 1 | bits;
        modrm += 1;
    }
    table
}
