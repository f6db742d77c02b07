//! What the decoder says of instructions written out by hand, and what becomes of their operands.

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind, Register};

use super::*;

const PC: u64 = 0x7fff_1234_5000;

fn one(bytes: &[u8]) -> Inst {
    decode(bytes, PC)
}

/// Decodes bytes that are one whole instruction.
fn whole(bytes: &[u8]) -> Inst {
    let inst = one(bytes);
    assert_eq!(usize::from(inst.len), bytes.len(), "{bytes:02x?}: {inst:?}");
    inst
}

fn kind(bytes: &[u8]) -> Kind {
    whole(bytes).kind
}

fn after(len: u64, displacement: i64) -> u64 {
    (PC + len).wrapping_add_signed(displacement)
}

fn refused(bytes: &[u8], why: Refusal) {
    let inst = whole(bytes);
    assert_eq!(inst.kind, Kind::Refused(why), "{bytes:02x?}");
    assert_eq!(inst.reads, Flags::ALL);
    assert_eq!(inst.kills, Flags::NONE);
}

fn flags(list: &[Flags]) -> Flags {
    list.iter().fold(Flags::NONE, |all, flag| all.union(*flag))
}

#[test]
fn sets_of_flags_add_and_subtract() {
    let set = Flags::CF.union(Flags::OF);
    assert!(set.contains(Flags::CF) && set.contains(set) && set.contains(Flags::NONE));
    assert!(!set.contains(Flags::CF.union(Flags::ZF)));
    assert_eq!(set.minus(Flags::CF), Flags::OF);
    assert!(set.minus(Flags::ALL).is_empty());
}

#[test]
fn knows_direct_transfers_and_their_targets() {
    assert_eq!(kind(&[0xeb, 0xfe]), Kind::Jump { target: PC });
    let target = after(5, 0x100);
    assert_eq!(kind(&[0xe9, 0, 1, 0, 0]), Kind::Jump { target });
    assert_eq!(kind(&[0xe8, 0, 1, 0, 0]), Kind::Call { target });
    let target = after(2, -0x80);
    assert_eq!(
        kind(&[0x7c, 0x80]),
        Kind::Branch {
            condition: 12,
            target
        }
    );
    let target = after(6, -1);
    let branch = Kind::Branch {
        condition: 5,
        target,
    };
    assert_eq!(kind(&[0x0f, 0x85, 0xff, 0xff, 0xff, 0xff]), branch);
    let target = after(3, 1);
    let branch = Kind::Branch {
        condition: 4,
        target,
    };
    assert_eq!(kind(&[0x2e, 0x74, 1]), branch, "a branch hint");
}

#[test]
fn every_condition_is_the_nibble_of_its_opcode() {
    for condition in 0..16 {
        let target = after(2, 0);
        assert_eq!(
            kind(&[0x70 | condition, 0]),
            Kind::Branch { condition, target }
        );
        let target = after(6, 0);
        let near = [0x0f, 0x80 | condition, 0, 0, 0, 0];
        assert_eq!(kind(&near), Kind::Branch { condition, target });
    }
}

#[test]
fn knows_branches_on_a_register() {
    for opcode in 0xe0..=0xe3 {
        let of = |len| Kind::CountBranch {
            target: after(len, 5),
        };
        assert_eq!(kind(&[opcode, 5]), of(2));
        assert_eq!(kind(&[0x67, opcode, 5]), of(3));
    }
    assert_eq!(one(&[0xe1, 0]).reads, Flags::ZF);
    assert_eq!(one(&[0xe3, 0]).reads, Flags::NONE);
}

#[test]
fn ignores_prefixes_that_a_call_ignores() {
    let target = after(8, 0x10);
    let tls = [0x66, 0x66, 0x48, 0xe8, 0x10, 0, 0, 0];
    assert_eq!(kind(&tls), Kind::Call { target });
    let target = after(6, 0x10);
    assert_eq!(kind(&[0x67, 0xe8, 0x10, 0, 0, 0]), Kind::Call { target });
    assert_eq!(
        kind(&[0xf2, 0xe8, 0x10, 0, 0, 0]),
        Kind::Call { target },
        "bnd"
    );
    assert_eq!(kind(&[0x3e, 0xff, 0xe0]), Kind::JumpTo, "notrack jmp rax");
    assert_eq!(
        kind(&[0xf2, 0xff, 0x25, 0, 0, 0, 0]),
        Kind::JumpTo,
        "bnd jmp"
    );
}

#[test]
fn knows_indirect_transfers_and_returns() {
    assert_eq!(kind(&[0xc3]), Kind::Return { pops: 0 });
    assert_eq!(kind(&[0xf3, 0xc3]), Kind::Return { pops: 0 });
    assert_eq!(kind(&[0xf2, 0xc3]), Kind::Return { pops: 0 });
    assert_eq!(kind(&[0xc2, 0xfe, 0xff]), Kind::Return { pops: 0xfffe });
    assert_eq!(kind(&[0x41, 0xff, 0xd3]), Kind::CallTo, "call r11");
    let call = whole(&[0xff, 0x15, 8, 0, 0, 0]);
    assert_eq!((call.kind, call.rip_disp), (Kind::CallTo, Some(2)));
    assert!(call.reads.is_empty() && call.kills.is_empty());
    let syscall = whole(&[0x0f, 0x05]);
    assert_eq!(
        (syscall.kind, syscall.reads),
        (Kind::SystemCall, Flags::ALL)
    );
}

#[test]
fn refuses_the_gs_segment() {
    use Refusal::UsesGs;
    refused(&[0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0], UsesGs);
    refused(&[0x65, 0xff, 0x20], UsesGs);
    refused(&[0x65, 0xa4], UsesGs);
    refused(&[0xf3, 0x48, 0x0f, 0xae, 0xc8], UsesGs);
    refused(&[0xf3, 0x48, 0x0f, 0xae, 0xd8], UsesGs);
    refused(&[0x8e, 0xe8], UsesGs);
    refused(&[0x0f, 0xa9], UsesGs);
    refused(&[0x0f, 0x01, 0xf8], UsesGs);
    refused(&[0x0f, 0xb5, 0x00], UsesGs);
    assert_eq!(kind(&[0x8c, 0xe8]), Kind::Plain, "mov eax, gs");
    assert_eq!(kind(&[0x0f, 0xa8]), Kind::Plain, "push gs");
    assert_eq!(
        kind(&[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]),
        Kind::Plain
    );
    assert_eq!(kind(&[0x65, 0x0f, 0x1f, 0x00]), Kind::Plain, "a long nop");
}

#[test]
fn refuses_what_the_translator_cannot_follow() {
    refused(&[0xcd, 0x80], Refusal::Call32);
    refused(&[0x0f, 0x34], Refusal::Call32);
    refused(&[0xcb], Refusal::FarTransfer);
    refused(&[0xca, 0, 0], Refusal::FarTransfer);
    refused(&[0x48, 0xcf], Refusal::FarTransfer);
    refused(&[0xff, 0x18], Refusal::FarTransfer);
    refused(&[0x48, 0xff, 0x28], Refusal::FarTransfer);
    refused(&[0xf3, 0x0f, 0x01, 0xec], Refusal::FarTransfer);
    refused(&[0xc7, 0xf8, 0, 0, 0, 0], Refusal::Transaction);
    refused(&[0x0f, 0x01, 0xd7], Refusal::Enclave);
    refused(&[0x67, 0x8b, 0x05, 0, 0, 0, 0], Refusal::EipRelative);
}

#[test]
fn refuses_near_branches_whose_size_differs_between_processors() {
    for bytes in [
        &[0x66, 0xe9, 0, 0, 0, 0][..],
        &[0x66, 0xe8, 0, 0, 0, 0],
        &[0x66, 0xeb, 0],
        &[0x66, 0x74, 0],
        &[0x66, 0x0f, 0x84, 0, 0, 0, 0],
        &[0x66, 0xe2, 0],
        &[0x66, 0xc3],
        &[0x66, 0xff, 0xe0],
        // A REX prefix that is not right before the opcode is none.
        &[0x48, 0x66, 0xe8, 0, 0, 0, 0],
    ] {
        refused(bytes, Refusal::BranchSize);
    }
}

#[test]
fn refusals_have_words() {
    assert_eq!(Refusal::UsesGs.to_string(), "uses the gs segment");
}

#[test]
fn what_is_no_instruction_or_cut_short_is_unknown() {
    for bytes in [
        &[][..],
        &[0x06],
        &[0xf0, 0x90],
        &[0x0f],
        &[0xe8, 0, 0, 0],
        &[0x48, 0x8b, 0x05, 0, 0, 0],
        &[0x66; 16],
    ] {
        assert_eq!(one(bytes), Inst::UNKNOWN, "{bytes:02x?}");
    }
}

#[test]
fn knows_the_instructions_of_newer_processors() {
    for bytes in [
        &[0xf3, 0x0f, 0x1e, 0xfa][..],                     // endbr64
        &[0xf3, 0x48, 0x0f, 0x1e, 0xc8],                   // rdsspq rax
        &[0x0f, 0x01, 0xca],                               // clac
        &[0xf3, 0x0f, 0x09],                               // wbnoinvd
        &[0x66, 0x0f, 0x1b, 0x00],                         // bndmov, on kernels of today a nop
        &[0x62, 0xf1, 0x7c, 0x48, 0x28, 0x05, 0, 0, 0, 0], // vmovaps zmm0, [rip]
        &[0xc4, 0xe2, 0x7d, 0x58, 0x05, 0, 0, 0, 0],       // vpbroadcastd ymm0, [rip]
        &[0x0f, 0xae, 0xf0],                               // mfence
        &[0x0f, 0x0b],                                     // ud2
        &[0xcc],                                           // int3
        &[0xf4],                                           // hlt
    ] {
        assert_eq!(kind(bytes), Kind::Plain, "{bytes:02x?}");
    }
}

#[test]
fn knows_what_asks_the_machine() {
    for (bytes, question) in [
        (&[0x0f, 0xa2][..], Question::Cpuid),
        (&[0x0f, 0x01, 0xd0], Question::Xgetbv),
        (&[0x0f, 0x31], Question::Rdtsc),
        (&[0x0f, 0x01, 0xf9], Question::Rdtscp),
        (
            &[0xf3, 0x41, 0x0f, 0xc7, 0xf9],
            Question::Rdpid { register: 9 },
        ),
        (&[0x48, 0x0f, 0xc7, 0xf0], Question::Rdrand),
        (&[0x0f, 0xc7, 0xfb], Question::Rdseed),
        (&[0xf3, 0x90], Question::Pause),
    ] {
        assert_eq!(kind(bytes), Kind::Asks(question), "{bytes:02x?}");
    }
    assert_eq!(kind(&[0x0f, 0xc7, 0x08]), Kind::Plain, "cmpxchg8b");
    assert_eq!(kind(&[0xf3, 0x49, 0x90]), Kind::Plain, "xchg r8, rax");
    let operand = random_operand(&[0x66, 0x41, 0x0f, 0xc7, 0xf4]).unwrap();
    assert_eq!(
        (operand.register, operand.bytes, operand.length),
        (12, 2, 5)
    );
}

#[test]
fn what_traps_reads_all_flags() {
    for bytes in [
        &[0xcc][..],
        &[0xf1],
        &[0xf4],
        &[0x0f, 0x0b],
        &[0xcd, 3],
        &[0xfa],
    ] {
        assert_eq!(whole(bytes).reads, Flags::ALL, "{bytes:02x?}");
    }
    assert_eq!(whole(&[0x9c]).reads, Flags::ALL, "pushf");
}

#[test]
fn arithmetic_kills_what_it_defines() {
    let logic = Flags::ALL;
    assert_eq!(whole(&[0x31, 0xc8]).kills, logic, "xor eax, ecx");
    assert_eq!(whole(&[0x31, 0xc0]).kills, logic, "xor eax, eax");
    assert_eq!(whole(&[0x85, 0xc0]).kills, logic, "test eax, eax");
    assert_eq!(whole(&[0x01, 0xc8]).kills, Flags::ALL, "add eax, ecx");
    assert_eq!(
        whole(&[0xff, 0xc0]).kills,
        Flags::ALL.minus(Flags::CF),
        "inc eax"
    );
    assert_eq!(
        whole(&[0xf7, 0xe1]).kills,
        flags(&[Flags::CF, Flags::OF]),
        "mul ecx"
    );
    assert_eq!(whole(&[0xf7, 0xf1]).kills, Flags::NONE, "div ecx");
    assert_eq!(whole(&[0x0f, 0xa3, 0xc8]).kills, Flags::CF, "bt eax, ecx");
    let adc = whole(&[0x11, 0xc8]);
    assert_eq!((adc.reads, adc.kills), (Flags::CF, Flags::ALL));
    assert_eq!(whole(&[0x0f, 0x94, 0xc0]).reads, Flags::ZF, "sete al");
    assert_eq!(
        whole(&[0x0f, 0x46, 0xc1]).reads,
        flags(&[Flags::CF, Flags::ZF]),
        "cmovbe"
    );
    assert_eq!(whole(&[0x9f]).reads, Flags::ALL.minus(Flags::OF), "lahf");
    assert_eq!(whole(&[0x9d]).kills, Flags::ALL, "popf");
}

#[test]
fn what_may_write_no_flags_kills_none() {
    for bytes in [
        &[0xd3, 0xe0][..],             // shl eax, cl
        &[0xd3, 0xc0],                 // rol eax, cl
        &[0xc1, 0xe0, 0x20],           // shl eax, 32
        &[0x48, 0xc1, 0xe0, 0x40],     // shl rax, 64
        &[0xc0, 0xe0, 0x09],           // shl al, 9
        &[0x0f, 0xa5, 0xc8],           // shld eax, ecx, cl
        &[0x66, 0x0f, 0xa4, 0xc8, 17], // shld ax, cx, 17
        &[0xf3, 0xa6],                 // repe cmpsb
        &[0xf2, 0xae],                 // repne scasb
        &[0xdb, 0xf0],                 // fcomi: not when an unmasked exception is pending
        &[0xf2, 0x0f, 0xc2, 0xc1, 0],  // cmpsd xmm0, xmm1
    ] {
        assert_eq!(whole(bytes).kills, Flags::NONE, "{bytes:02x?}");
    }
    assert_eq!(whole(&[0x0f, 0xbc, 0xc1]).kills, Flags::ZF, "bsf");
    assert_eq!(whole(&[0xf3, 0x0f, 0xbc, 0xc1]).kills, Flags::ZF, "tzcnt");
    let shl = flags(&[Flags::CF, Flags::PF, Flags::ZF, Flags::SF]);
    assert_eq!(whole(&[0xc1, 0xe0, 0x02]).kills, shl, "shl eax, 2");
    assert_eq!(
        whole(&[0xd1, 0xe0]).kills,
        shl.union(Flags::OF),
        "shl eax, 1"
    );
    assert_eq!(whole(&[0xa6]).kills, Flags::ALL, "cmpsb");
}

#[test]
fn finds_string_instructions_under_rep() {
    assert!(whole(&[0xf3, 0x48, 0xab]).string && whole(&[0xf2, 0xa4]).string);
    assert!(!whole(&[0x48, 0xab]).string);
    assert!(!whole(&[0xf3, 0x0f, 0x10, 0xc1]).string, "movss");
    assert!(!whole(&[0xf3, 0x90]).string, "pause");
}

#[test]
fn finds_rip_relative_operands() {
    let bytes = [0x48, 0x81, 0x3d, 0x10, 0, 0, 0, 1, 2, 3, 4];
    let inst = whole(&bytes);
    assert_eq!(inst.rip_disp, Some(3));
    assert_eq!(inst.rip_target(&bytes, PC), Some(PC + 11 + 0x10));
    let bytes = [0xd1, 0x25, 0xf0, 0xff, 0xff, 0xff];
    let inst = whole(&bytes);
    assert_eq!(inst.rip_disp, Some(2), "no phantom immediate");
    assert_eq!(inst.rip_target(&bytes, PC), Some(PC + 6 - 0x10));
    assert_eq!(
        whole(&[0x8b, 0x04, 0x25, 0, 0, 0, 0]).rip_disp,
        None,
        "absolute"
    );
}

fn iced(bytes: &[u8], pc: u64) -> Instruction {
    Decoder::with_ip(64, bytes, pc, DecoderOptions::NONE).decode()
}

/// An instruction with its rip-relative operand replaced by `[base]`, through iced-x86.
fn expected(bytes: &[u8], base: Base) -> Instruction {
    let mut instruction = iced(bytes, PC);
    instruction.set_memory_base(match base {
        Base::Rax => Register::RAX,
        Base::Rcx => Register::RCX,
        Base::Rdx => Register::RDX,
        Base::Rbx => Register::RBX,
        Base::Rsi => Register::RSI,
        Base::Rdi => Register::RDI,
    });
    instruction.set_memory_displacement64(0);
    instruction.set_memory_displ_size(0);
    instruction
}

#[test]
fn rebases_every_form_of_encoding() {
    for bytes in [
        &[0x48, 0x8b, 0x05, 1, 0, 0, 0][..],
        &[0x4f, 0x8b, 0x05, 1, 0, 0, 0], // with REX.X and REX.B, which mean nothing here
        &[0x48, 0x81, 0x0d, 1, 0, 0, 0, 5, 6, 7, 8],
        &[0xff, 0x25, 1, 0, 0, 0],
        &[0xff, 0x15, 1, 0, 0, 0],
        &[0xf0, 0x48, 0x0f, 0xc7, 0x0d, 1, 0, 0, 0], // cmpxchg16b: rax, rbx, rcx and rdx are taken
        &[0x66, 0x0f, 0x3a, 0x0f, 0x05, 1, 0, 0, 0, 4],
        &[0xc5, 0xf8, 0x28, 0x05, 1, 0, 0, 0],
        &[0xc4, 0xc2, 0x7d, 0x58, 0x05, 1, 0, 0, 0], // VEX.B set
        &[0x62, 0xd1, 0x7c, 0x48, 0x28, 0x05, 1, 0, 0, 0], // EVEX.B set
        &[0x8f, 0xc9, 0x78, 0x80, 0x05, 1, 0, 0, 0], // vfrczps xmm0, XOP.B set
        &[0x8f, 0x05, 1, 0, 0, 0],                   // pop
    ] {
        let (rebased, base) = rebase(bytes, PC).unwrap();
        assert_eq!(rebased.len(), bytes.len() - 4, "{bytes:02x?}");
        let (now, wanted) = (iced(&rebased, PC), expected(bytes, base));
        assert_eq!(now, wanted, "{now:?} for {wanted:?}");
        assert_eq!(now.code(), wanted.code());
    }
    let (_, base) = rebase(&[0x48, 0x0f, 0xc7, 0x0d, 1, 0, 0, 0], PC).unwrap();
    assert!(matches!(base, Base::Rsi | Base::Rdi));
}

#[test]
fn rebases_nothing_without_such_an_operand() {
    assert_eq!(rebase(&[0x48, 0x8b, 0x03], PC), None);
    assert_eq!(rebase(&[0x67, 0x8b, 0x05, 0, 0, 0, 0], PC), None);
    assert_eq!(rebase(&[0x06], PC), None);
}

#[test]
fn loads_the_target_of_an_indirect_transfer() {
    for (bytes, disp) in [
        (&[0xff, 0xe0][..], None),
        (&[0x41, 0xff, 0xd3], None),
        (&[0x3e, 0xff, 0xe1], None),
        (&[0x64, 0xff, 0x14, 0x25, 8, 0, 0, 0], None),
        (&[0x67, 0xff, 0x20], None),
        (&[0x43, 0xff, 0x64, 0xc5, 0x10], None),
        (&[0xff, 0x25, 1, 2, 0, 0], Some(3)),
        (&[0xf2, 0x48, 0xff, 0x15, 1, 2, 0, 0], Some(3)),
        (&[0x4f, 0xff, 0x15, 1, 2, 0, 0], Some(3)),
    ] {
        let (written, found) = load_target(bytes, PC).unwrap();
        assert_eq!(found, disp, "{bytes:02x?}");
        let (was, now) = (iced(bytes, PC), iced(&written, PC));
        assert_eq!(now.len(), written.len());
        assert_eq!(now.op0_register(), Register::RCX, "{now:?}");
        same_operand(&was, &now);
    }
    assert_eq!(load_target(&[0x48, 0x8b, 0x03], PC), None);
    assert_eq!(load_target(&[0x65, 0xff, 0x20], PC), None);
}

fn same_operand(was: &Instruction, now: &Instruction) {
    assert_eq!(was.op0_kind(), now.op1_kind());
    if was.op0_kind() == OpKind::Register {
        return assert_eq!(was.op0_register(), now.op1_register());
    }
    assert_eq!(was.memory_base(), now.memory_base());
    assert_eq!(was.memory_index(), now.memory_index());
    assert_eq!(was.memory_index_scale(), now.memory_index_scale());
    assert_eq!(was.memory_segment(), now.memory_segment());
    // A rip-relative displacement is an address in iced-x86, and the length has changed.
    if was.memory_base() != Register::RIP {
        assert_eq!(was.memory_displacement64(), now.memory_displacement64());
    }
}

#[test]
fn a_loop_that_waits_looks_at_the_same_place_again_and_again() {
    let load: &[u8] = &[0x8b, 0x07]; // mov eax, [rdi]
    let pointer: &[u8] = &[0x48, 0x8b, 0x3e]; // mov rdi, [rsi]
    let compare: &[u8] = &[0x39, 0xc8]; // cmp eax, ecx
    let again: &[u8] = &[0x75, 0xfa]; // jne
    let next: &[u8] = &[0x48, 0xff, 0xc7]; // inc rdi
    let follow: &[u8] = &[0x48, 0x8b, 0x3f]; // mov rdi, [rdi]
    let count: &[u8] = &[0xff, 0xca]; // dec edx
    let exchange: &[u8] = &[0x87, 0x07]; // xchg [rdi], eax
    let store: &[u8] = &[0x89, 0x07]; // mov [rdi], eax
    for (waits, instructions) in [
        (true, &[load, compare, again][..]),
        (true, &[pointer, load, compare, again]),
        (true, &[load, count, again]),
        (true, &[exchange, compare, again]),
        (false, &[load, next, compare, again]),
        (false, &[next, load, compare, again]),
        (false, &[follow, compare, again]),
        (false, &[load, store, again]),
        (false, &[count, again]),
    ] {
        assert_eq!(looks_only(instructions), waits, "{instructions:02x?}");
    }
}
