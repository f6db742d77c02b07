//! The prefixes of an instruction (Intel SDM volume 2, section 2.1.1 and 2.2.1).

/// The prefixes in front of an opcode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefixes {
    /// Offset of the opcode, or of the VEX, EVEX or XOP prefix.
    pub opcode: usize,
    /// The REX prefix if it is in force, which it is only right before the opcode; else 0.
    pub rex: u8,
    /// 66 is among them.
    pub operand_size: bool,
    /// 67 is among them.
    pub address_size: bool,
    /// 64 is among them.
    pub fs: bool,
    /// 65 is among them.
    pub gs: bool,
}

impl Prefixes {
    /// Reads the prefixes at the start of `bytes`.
    pub fn of(bytes: &[u8]) -> Prefixes {
        let mut found = Prefixes::default();
        for &byte in bytes {
            match byte {
                0x40..=0x4f => found.rex = byte,
                _ if found.legacy(byte) => found.rex = 0,
                _ => break,
            }
            found.opcode += 1;
        }
        found
    }

    /// Notes a legacy prefix; false when `byte` is none.
    fn legacy(&mut self, byte: u8) -> bool {
        match byte {
            0x64 => self.fs = true,
            0x65 => self.gs = true,
            0x66 => self.operand_size = true,
            0x67 => self.address_size = true,
            0x26 | 0x2e | 0x36 | 0x3e | 0xf0 | 0xf2 | 0xf3 => {}
            _ => return false,
        }
        true
    }

    /// Whether REX.W is in force.
    pub fn wide(&self) -> bool {
        self.rex & 0x08 != 0
    }
}
