//! That the table answers like the reference: over everything that can be an index, over random bytes, and over the code
//! of installed programs.

use object::{Object, ObjectSection, SectionKind};
use proptest::prelude::*;

use super::{Kind, decode, decode_by_reference, fast};

const PC: u64 = 0x7fff_1234_5000;

/// How often each index is tried with other bits at random, but for ModRM.rm, which goes through its values.
const VARIANTS: u8 = 8;

/// Random numbers that are the same in every run (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Enough bytes for the longest instruction and the table's window.
    fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }

    /// One of `list`.
    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[(self.next() >> 8) as usize % list.len()]
    }
}

fn compare(bytes: &[u8]) {
    let (ours, wanted) = (decode(bytes, PC), decode_by_reference(bytes, PC));
    assert_eq!(ours, wanted, "{:02x?}", &bytes[..bytes.len().min(16)]);
}

/// What was taught of each index so far; 0 for nothing.
struct Lessons(Vec<u32>);

impl Lessons {
    /// Compares, and makes sure that no other instruction of the same index taught anything else: otherwise the answer
    /// would hang on which comes first.
    fn compare(&mut self, bytes: &[u8]) {
        compare(bytes);
        let Some((index, lesson)) = fast::lesson(bytes, PC) else {
            return;
        };
        let before = &mut self.0[index];
        let agree = lesson == 0 || *before == 0 || *before == lesson;
        assert!(
            agree,
            "{before:x}, then {lesson:x} from {:02x?}",
            &bytes[..16]
        );
        *before |= lesson;
    }
}

/// `head`, then random bytes, of which the first is ModRM with the given reg and with mod 3 or not.
fn compare_variants(
    lessons: &mut Lessons,
    random: &mut Random,
    head: &[u8],
    reg: u8,
    register: bool,
) {
    for variant in 0..VARIANTS {
        let mut bytes = random.bytes();
        let mode = match register {
            true => 0xc0,
            false => random.pick(&[0x00, 0x40, 0x80]),
        };
        bytes[..head.len()].copy_from_slice(head);
        bytes[head.len()] = mode | reg << 3 | variant;
        // Small immediates matter to shifts and interrupts, small displacements to nothing.
        if variant % 2 == 0 {
            bytes[head.len() + 1..].fill(random.pick(&[0, 1, 2, 7, 8, 9, 31, 32, 63, 0x80, 0xff]));
        }
        lessons.compare(&bytes);
    }
}

/// Calls with every ModRM.reg, for registers and for memory.
fn compare_operands(lessons: &mut Lessons, random: &mut Random, head: &[u8]) {
    for reg in 0..8 {
        for register in [false, true] {
            compare_variants(lessons, random, head, reg, register);
        }
    }
}

const SEGMENTS: [&[u8]; 8] = [&[], &[], &[], &[0x2e], &[0x3e], &[0x64], &[0x65], &[0x67]];

#[test]
fn the_table_agrees_over_all_legacy_opcodes() {
    let random = &mut Random(0x9e37_79b9_7f4a_7c15);
    let lessons = &mut Lessons(vec![0; fast::ENTRIES]);
    let maps: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    let prefixes: [&[u8]; 10] = [
        &[],
        &[0x66],
        &[0xf2],
        &[0xf3],
        &[0xf0],
        &[0x66, 0xf2],
        &[0xf3, 0x66],
        &[0x66, 0xf0],
        &[0x66, 0x66],
        &[0xf2, 0xf3],
    ];
    for opcode in 0..=255 {
        for (map, prefix) in maps
            .iter()
            .flat_map(|map| prefixes.map(|prefix| (map, prefix)))
        {
            for rex in [None, Some(0x40), Some(0x48)] {
                let segment = random.pick(&SEGMENTS);
                let extension = random.next() as u8 & 7;
                let rex = rex.map(|rex| rex | extension);
                let rex = rex.as_slice();
                let head = [segment, prefix, rex, map, &[opcode]].concat();
                compare_operands(lessons, random, &head);
            }
        }
    }
}

#[test]
fn the_table_agrees_over_all_vex_opcodes() {
    let random = &mut Random(0x2545_f491_4f6c_dd1d);
    let lessons = &mut Lessons(vec![0; fast::ENTRIES]);
    for opcode in 0..=255 {
        // W, L and pp.
        for low in (0..8).chain(0x80..0x88) {
            for map in 0..8 {
                let registers = random.next() as u8 & 0xe0;
                let source = random.next() as u8 & 0x78;
                let source = random.pick(&[0x78, source]);
                compare_operands(
                    lessons,
                    random,
                    &[0xc4, registers | map, low | source, opcode],
                );
                compare_operands(lessons, random, &[0xc5, low | source, opcode]);
            }
        }
    }
}

#[test]
fn the_table_agrees_over_random_bytes() {
    let random = &mut Random(0xd1b5_4a32_d192_ed03);
    let starts: [u8; 16] = [
        0x66, 0xf2, 0xf3, 0xf0, 0x2e, 0x64, 0x65, 0x67, 0x48, 0x4f, 0x41, 0x0f, 0x0f, 0xc5, 0xc4,
        0x62,
    ];
    for _ in 0..1_000_000 {
        let mut bytes = random.bytes();
        compare(&bytes);
        for byte in &mut bytes[..random.next() as usize % 5] {
            *byte = starts[usize::from(*byte & 15)];
        }
        compare(&bytes);
    }
}

#[test]
fn every_beginning_of_an_instruction_is_unknown() {
    let random = &mut Random(0x8538_ecb5_bd45_6ea3);
    for _ in 0..20_000 {
        let bytes = random.bytes();
        let whole = decode(&bytes, PC);
        let len = usize::from(whole.len);
        (0..len).for_each(|short| assert_eq!(decode(&bytes[..short], PC).kind, Kind::Unknown));
        if len > 0 {
            assert_eq!(decode(&bytes[..len], PC), whole);
        }
    }
}

proptest! {
    #[test]
    fn the_table_agrees_wherever_the_code_lies(bytes: [u8; 16], pc: u64) {
        prop_assert_eq!(decode(&bytes, pc), decode_by_reference(&bytes, pc));
    }
}

/// Compares instruction by instruction, going on a byte later where there is none.
fn compare_code(mut code: &[u8]) -> usize {
    let mut instructions = 0;
    while !code.is_empty() {
        compare(code);
        let len = decode(code, PC).len.max(1);
        code = &code[usize::from(len)..];
        instructions += 1;
    }
    instructions
}

/// Of each program that is installed, the code. The test program itself is always there.
#[test]
fn the_table_agrees_over_the_code_of_programs() {
    let itself = std::env::current_exe().unwrap();
    let mut instructions = 0;
    for path in [
        itself.to_str().unwrap(),
        "/bin/bash",
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib/x86_64-linux-gnu/libm.so.6",
        "/lib/x86_64-linux-gnu/libcrypto.so.3",
        "/usr/bin/python3",
    ] {
        let Ok(data) = std::fs::read(path) else {
            continue;
        };
        let file = object::File::parse(data.as_slice()).unwrap();
        for section in file
            .sections()
            .filter(|section| section.kind() == SectionKind::Text)
        {
            instructions += compare_code(section.data().unwrap());
        }
    }
    assert!(instructions > 100_000, "{instructions} instructions");
}
