//! Machine code through capstone: where an instruction ends, and what its opcode is called.
//!
//! Pure over bytes: it reads neither files nor processes. The caller knows the architecture, hands over bytes
//! that start at an instruction, and must not take the length of an undecodable one for the truth.

use capstone::arch::BuildsCapstone;
use capstone::{Capstone, arch};

/// The opcode of bytes that no instruction of the architecture has, or that capstone does not know yet.
pub const BAD: &str = "(bad)";

/// Longest instruction of any architecture here, in bytes (Intel SDM volume 2, section 2.3.11).
pub const LONGEST_BYTES: usize = 15;

/// The longest x86-64 near `call` without prefixes: opcode, ModRM, SIB and four bytes.
pub const LONGEST_CALL_BYTES: usize = 7;

/// Prefixes that capstone prints as words before an x86 mnemonic.
const PREFIXES: [&str; 10] = [
    "rep", "repe", "repne", "repz", "repnz", "lock", "bnd", "notrack", "xacquire", "xrelease",
];

/// Stems of the x86 string instructions (Intel SDM volume 1, section 7.3.9), which a `rep` prefix repeats.
const STRING_STEMS: [&str; 7] = ["movs", "stos", "cmps", "scas", "lods", "ins", "outs"];

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 32-bit x86.
    X86,
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Arch {
    /// What this program itself runs on; absent where it has no decoder.
    pub fn native() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86" => Some(Arch::X86),
            "x86_64" => Some(Arch::X86_64),
            "aarch64" => Some(Arch::Aarch64),
            _ => None,
        }
    }
}

/// One decoded instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Its length in bytes; of an undecodable one, the least it can be.
    pub len: usize,
    /// The opcode as capstone prints it, without prefixes; [`BAD`] when undecodable.
    pub mnemonic: String,
    /// Whether it is a string instruction under a `rep` prefix: one retired instruction, many iterations.
    pub rep_string: bool,
}

impl Instruction {
    fn bad(len: usize) -> Instruction {
        Instruction {
            len,
            mnemonic: BAD.to_owned(),
            rep_string: false,
        }
    }
}

/// Capstone could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("set up the decoder for {arch:?}: {source}")]
pub struct DecoderError {
    arch: Arch,
    source: capstone::Error,
}

/// Decodes one architecture. A thread that decodes has its own.
pub struct Decoder {
    capstone: Capstone,
    /// Shortest instruction, in bytes.
    shortest: usize,
}

impl Decoder {
    /// A decoder for `arch`.
    pub fn new(arch: Arch) -> Result<Decoder, DecoderError> {
        let x86 = |mode| Capstone::new().x86().mode(mode).build();
        let (capstone, shortest) = match arch {
            Arch::X86 => (x86(arch::x86::ArchMode::Mode32), 1),
            Arch::X86_64 => (x86(arch::x86::ArchMode::Mode64), 1),
            Arch::Aarch64 => {
                let builder = Capstone::new().arm64();
                (builder.mode(arch::arm64::ArchMode::Arm).build(), 4)
            }
        };
        let capstone = capstone.map_err(|source| DecoderError { arch, source })?;
        Ok(Decoder { capstone, shortest })
    }

    /// The instruction that starts at `bytes[0]`, which lies at `address`. None only when there is no byte at
    /// all; bytes that are no instruction, or only the beginning of one, decode as [`BAD`].
    pub fn decode(&self, bytes: &[u8], address: u64) -> Option<Instruction> {
        if bytes.is_empty() {
            return None;
        }
        let window = bytes.get(..LONGEST_BYTES).unwrap_or(bytes);
        let bad = Instruction::bad(self.shortest.min(bytes.len()));
        let decoded = self.capstone.disasm_count(window, address, 1).ok();
        Some(
            decoded
                .as_ref()
                .and_then(|instructions| instructions.first())
                .and_then(|one| Some((one.len(), one.mnemonic()?)))
                .map_or(bad, |(len, text)| named(&window[..len], text)),
        )
    }
}

/// Takes the prefixes off the mnemonic of the instruction that `bytes` are.
fn named(bytes: &[u8], text: &str) -> Instruction {
    let words = || text.split_ascii_whitespace();
    let opcode = words().find(|word| !PREFIXES.contains(word));
    let repeated = words().any(|word| word.starts_with("rep")) || repeats_by_f2(bytes);
    let mnemonic = opcode.or_else(|| words().last()).unwrap_or(BAD);
    Instruction {
        len: bytes.len(),
        mnemonic: mnemonic.to_owned(),
        rep_string: repeated && is_string(mnemonic),
    }
}

/// Whether bytes are a string instruction that does not compare under an f2 prefix: it repeats as under f3 (AMD64 manual volume 3,
/// section 1.2.6), and capstone does not say so.
fn repeats_by_f2(bytes: &[u8]) -> bool {
    let Some((opcode, prefixes)) = bytes.split_last() else {
        return false;
    };
    let string = matches!(opcode, 0x6c..=0x6f | 0xa4 | 0xa5 | 0xaa..=0xad);
    let prefix = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf2 | 0xf3);
    string && prefixes.contains(&0xf2) && prefixes.iter().all(prefix)
}

/// Whether a mnemonic is a stem of [`STRING_STEMS`] with its size letter. (`movsd` is also an SSE move, and
/// capstone tells the two apart by the `rep` that only this one prints.)
fn is_string(mnemonic: &str) -> bool {
    let size = |stem| mnemonic.strip_prefix(stem);
    STRING_STEMS
        .iter()
        .filter_map(size)
        .any(|size| matches!(size, "b" | "w" | "d" | "q"))
}

/// Whether the last instruction in x86-64 code may be a near `call` (Intel SDM volume 2, CALL): `e8` with a displacement, or
/// `ff /2` in one of its lengths. Backwards that cannot be known for certain.
pub fn may_end_in_call(code: &[u8]) -> bool {
    let last = |length: usize| {
        let start = code.len().checked_sub(length);
        start.map_or(&[][..], |start| &code[start..])
    };
    let indirect = |length| matches!(*last(length), [0xff, modrm, ..] if modrm >> 3 & 7 == 2);
    last(5).first() == Some(&0xe8) || [2, 3, 4, 6, LONGEST_CALL_BYTES].into_iter().any(indirect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn x86_64(bytes: &[u8]) -> Instruction {
        let decoder = Decoder::new(Arch::X86_64).unwrap();
        decoder.decode(bytes, 0x1000).unwrap()
    }

    fn instruction(len: usize, mnemonic: &str, rep_string: bool) -> Instruction {
        Instruction {
            len,
            mnemonic: mnemonic.to_owned(),
            rep_string,
        }
    }

    #[test]
    fn prefixes_are_no_part_of_the_opcode() {
        let cases: [(&[u8], Instruction); 11] = [
            (&[0xf3, 0xa4], instruction(2, "movsb", true)),
            (&[0xf2, 0xa5], instruction(2, "movsd", true)),
            (&[0xf2, 0x48, 0xab], instruction(3, "stosq", true)),
            (&[0xf3, 0x48, 0xab], instruction(3, "stosq", true)),
            (&[0xf2, 0xae], instruction(2, "scasb", true)),
            (&[0xf3, 0xa6], instruction(2, "cmpsb", true)),
            (&[0xa4], instruction(1, "movsb", false)),
            (&[0xf3, 0xc3], instruction(2, "ret", false)),
            (
                &[0xf0, 0x48, 0x0f, 0xb1, 0x0f],
                instruction(5, "cmpxchg", false),
            ),
            (&[0xf2, 0xff, 0xe0], instruction(3, "jmp", false)),
            (&[0x3e, 0xff, 0xe0], instruction(3, "jmp", false)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(x86_64(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn an_sse_move_is_no_string_instruction() {
        let movsd = x86_64(&[0xf2, 0x0f, 0x10, 0x07]);
        assert_eq!(movsd, instruction(4, "movsd", false));
    }

    #[test]
    fn what_current_compilers_and_libraries_emit_is_known() {
        let cases: [(&[u8], &str); 8] = [
            (&[0xf3, 0x0f, 0x1e, 0xfa], "endbr64"),
            (&[0xf3, 0x48, 0x0f, 0x1e, 0xc8], "rdsspq"),
            (&[0x0f, 0x01, 0xd0], "xgetbv"),
            (&[0x0f, 0xc7, 0x64, 0x24, 0x40], "xsavec"),
            (&[0xc5, 0xfd, 0x6f, 0x06], "vmovdqa"),
            (&[0x62, 0xf1, 0x7c, 0x48, 0x10, 0x06], "vmovups"),
            (&[0xc4, 0xe2, 0xf8, 0xf3, 0xc8], "blsr"),
            (&[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], "nop"),
        ];
        for (bytes, mnemonic) in cases {
            assert_eq!(x86_64(bytes).mnemonic, mnemonic, "{bytes:02x?}");
        }
    }

    #[test]
    fn bytes_that_are_no_instruction_are_named_and_not_dropped() {
        assert_eq!(x86_64(&[0x06]), instruction(1, BAD, false));
        assert_eq!(x86_64(&[0x48]), instruction(1, BAD, false));
        let decoder = Decoder::new(Arch::X86_64).unwrap();
        assert_eq!(decoder.decode(&[], 0), None);
    }

    #[test]
    fn arm_code_decodes_by_words() {
        let decoder = Decoder::new(Arch::Aarch64).unwrap();
        let ret = decoder.decode(&[0xc0, 0x03, 0x5f, 0xd6], 0).unwrap();
        assert_eq!(ret, instruction(4, "ret", false));
        let bad = decoder.decode(&[0, 0, 0, 0xff], 0).unwrap();
        assert_eq!(bad, instruction(4, BAD, false));
        assert_eq!(decoder.decode(&[0xc0, 0x03], 0).unwrap().len, 2);
    }

    #[test]
    fn the_same_bytes_mean_another_thing_in_32_bit_mode() {
        let decoder = Decoder::new(Arch::X86).unwrap();
        let inc = decoder.decode(&[0x40], 0).unwrap();
        assert_eq!(inc, instruction(1, "inc", false));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_within_themselves(
            bytes in proptest::collection::vec(any::<u8>(), 1..32),
            address: u64,
        ) {
            for arch in [Arch::X86, Arch::X86_64, Arch::Aarch64] {
                let one = Decoder::new(arch).unwrap().decode(&bytes, address).unwrap();
                prop_assert!(one.len >= 1 && one.len <= bytes.len().min(LONGEST_BYTES));
                prop_assert!(!one.mnemonic.is_empty() && !one.mnemonic.contains(' '));
            }
        }
    }

    #[test]
    fn calls_are_told_from_jumps_and_pushes() {
        for call in [
            &[0xe8, 1, 2, 3, 4][..],
            &[0xff, 0xd0],
            &[0xff, 0x15, 1, 2, 3, 4],
            &[0xff, 0x94, 0x24, 1, 2, 3, 4],
        ] {
            assert!(may_end_in_call(call), "{call:x?}");
        }
        for other in [
            &[0xe9, 1, 2, 3, 4][..],
            &[0xe8, 1],
            &[0xff, 0xe0],
            &[0xff, 0x70, 8],
            &[0xff],
            &[],
        ] {
            assert!(!may_end_in_call(other), "{other:x?}");
        }
    }
}
