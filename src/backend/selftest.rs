//! A program whose instruction count is known by construction, as bytes: what backends count before they are trusted.
//!
//! Pure: nothing is written or run here. The program is a static ELF file without sections, loader or libc; it goes
//! round a loop of two instructions and exits with 0. A backend writes it into its scratch folder and executes it.

/// What the program executes apart from its loop on x86-64: `mov`; `mov`, `xor`, `syscall`.
const AROUND_X86_64: u64 = 4;

/// What the program executes apart from its loop on arm64: `mov`, `movk`; `mov`, `mov`, `svc`.
const AROUND_AARCH64: u64 = 5;

/// Instructions of one round on either: decrement, branch.
const ROUND: u64 = 2;

/// Where the file is loaded: above the lowest address a program may use (vm.mmap_min_addr).
const BASE: u64 = 0x40_0000;

/// Sizes of the ELF header and of one program header (elf(5)).
const ELF_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;

/// The machines a program can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// x86-64.
    X86_64,
    /// arm64.
    Aarch64,
}

impl Machine {
    /// The machine that this program was built for.
    pub const HERE: Machine = if cfg!(target_arch = "aarch64") {
        Machine::Aarch64
    } else {
        Machine::X86_64
    };

    /// `e_machine` (elf.h: EM_X86_64, EM_AARCH64).
    fn elf_number(self) -> u16 {
        match self {
            Machine::X86_64 => 62,
            Machine::Aarch64 => 183,
        }
    }
}

/// A program and its count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The ELF file.
    pub elf: Vec<u8>,
    /// Retired user-mode instructions from exec to exit, the exiting system call included.
    pub instructions: u64,
}

/// The program for `machine` that goes round its loop `rounds` times; at least once.
pub fn program(machine: Machine, rounds: u32) -> Known {
    let rounds = rounds.max(1);
    let (code, around) = match machine {
        Machine::X86_64 => (code_x86_64(rounds), AROUND_X86_64),
        Machine::Aarch64 => (code_aarch64(rounds), AROUND_AARCH64),
    };
    Known {
        elf: elf(machine, &code),
        instructions: around + ROUND * u64::from(rounds),
    }
}

fn code_x86_64(rounds: u32) -> Vec<u8> {
    let [a, b, c, d] = rounds.to_le_bytes();
    [
        &[0xb9, a, b, c, d][..],         // mov ecx, rounds
        &[0xff, 0xc9],                   // 1: dec ecx
        &[0x75, 0xfc],                   // jne 1b
        &[0xb8, 0xe7, 0x00, 0x00, 0x00], // mov eax, 231 (exit_group)
        &[0x31, 0xff],                   // xor edi, edi
        &[0x0f, 0x05],                   // syscall
    ]
    .concat()
}

fn code_aarch64(rounds: u32) -> Vec<u8> {
    let (low, high) = (rounds & 0xffff, rounds >> 16);
    [
        0x5280_0001 | low << 5,  // mov w1, #low
        0x72a0_0001 | high << 5, // movk w1, #high, lsl #16
        0x7100_0421,             // 1: subs w1, w1, #1
        0x54ff_ffe1,             // b.ne 1b
        0x5280_0000,             // mov w0, #0
        0x5280_0bc8,             // mov w8, #94 (exit_group)
        0xd400_0001,             // svc #0
    ]
    .into_iter()
    .flat_map(u32::to_le_bytes)
    .collect()
}

/// An executable file that is loaded whole as one read-and-execute segment and starts at `code`.
pub fn elf(machine: Machine, code: &[u8]) -> Vec<u8> {
    let headers = u64::from(ELF_HEADER) + u64::from(PROGRAM_HEADER);
    let length = headers + code.len() as u64;
    let mut file = Vec::with_capacity(length as usize);
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little-endian, version 1
    file.extend(2u16.to_le_bytes()); // e_type: ET_EXEC
    file.extend(machine.elf_number().to_le_bytes());
    file.extend(1u32.to_le_bytes()); // e_version
    file.extend((BASE + headers).to_le_bytes()); // e_entry
    file.extend(u64::from(ELF_HEADER).to_le_bytes()); // e_phoff
    file.extend(0u64.to_le_bytes()); // e_shoff: no sections
    file.extend(0u32.to_le_bytes()); // e_flags
    for half in [ELF_HEADER, PROGRAM_HEADER, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes()); // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
    }
    file.extend(1u32.to_le_bytes()); // p_type: PT_LOAD
    file.extend(5u32.to_le_bytes()); // p_flags: read, execute
    for word in [0, BASE, BASE, length, length, 0x1_0000] {
        file.extend(word.to_le_bytes()); // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
    }
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use capstone::prelude::*;

    fn mnemonics(machine: Machine, rounds: u32) -> Vec<String> {
        let decoder = match machine {
            Machine::X86_64 => Capstone::new()
                .x86()
                .mode(arch::x86::ArchMode::Mode64)
                .build(),
            Machine::Aarch64 => Capstone::new()
                .arm64()
                .mode(arch::arm64::ArchMode::Arm)
                .build(),
        };
        let known = program(machine, rounds);
        let decoder = decoder.unwrap();
        let lines = decoder.disasm_all(&known.elf[120..], BASE + 120).unwrap();
        let text = |i: &capstone::Insn| {
            format!("{} {}", i.mnemonic().unwrap(), i.op_str().unwrap())
                .trim()
                .to_owned()
        };
        lines.iter().map(text).collect()
    }

    #[test]
    fn another_disassembler_reads_the_x86_64_program_as_it_was_meant() {
        assert_eq!(
            mnemonics(Machine::X86_64, 0x12345),
            [
                "mov ecx, 0x12345",
                "dec ecx",
                "jne 0x40007d",
                "mov eax, 0xe7",
                "xor edi, edi",
                "syscall"
            ]
        );
        assert_eq!(
            program(Machine::X86_64, 0x12345).instructions,
            4 + 2 * 0x12345
        );
    }

    #[test]
    fn another_disassembler_reads_the_arm64_program_as_it_was_meant() {
        assert_eq!(
            mnemonics(Machine::Aarch64, 0x12345),
            [
                "mov w1, #0x2345",
                "movk w1, #1, lsl #16",
                "subs w1, w1, #1",
                "b.ne #0x400080",
                "mov w0, #0",
                "mov w8, #0x5e",
                "svc #0"
            ]
        );
        assert_eq!(
            program(Machine::Aarch64, 0x12345).instructions,
            5 + 2 * 0x12345
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_program_of_this_machine_runs_and_exits_with_zero() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known");
        std::fs::write(&path, program(Machine::HERE, 10).elf).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        assert!(
            std::process::Command::new(&path)
                .status()
                .unwrap()
                .success()
        );
    }
}
