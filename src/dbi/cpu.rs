//! What `cpuid` and `xgetbv` say of the processors that programs are shown.
//!
//! Numbers are those of real processors of each level (Nehalem, Haswell, Skylake-X), with one core, less what differs
//! among processors of the level or would hide work from a count: transactions, `rdrand`, and fast `rep movs` (a copy of
//! any size would be one instruction). AES and carry-less multiplication, which the psABI's levels leave out, are part of
//! v3 and v4: every processor of these levels has them but a few early Celerons.
//! Layout: Intel SDM volume 2, CPUID.

use crate::model::CpuModel;

/// The answer to one question: eax, ebx, ecx, edx.
pub type Answer = [u32; 4];

/// What `cpuid` says where it says something; everything else is zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Value of eax.
    pub leaf: u32,
    /// Value of ecx, where it matters.
    pub subleaf: Option<u32>,
    /// The answer.
    pub answer: Answer,
}

/// Features that this machine needs before programs may be shown a model, as Linux names them.
pub fn needs(model: CpuModel) -> Vec<&'static str> {
    const V2: &[&str] = &[
        "cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2", "rdtscp",
    ];
    const V3: &[&str] = &[
        "avx",
        "avx2",
        "bmi1",
        "bmi2",
        "f16c",
        "fma",
        "abm",
        "movbe",
        "xsave",
        "aes",
        "pclmulqdq",
    ];
    const V4: &[&str] = &["avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"];
    match model {
        CpuModel::V2 => V2.to_vec(),
        CpuModel::V3 => [V2, V3].concat(),
        CpuModel::V4 => [V2, V3, V4].concat(),
    }
}

/// Features of a model as /proc/cpuinfo lists them: those of every x86-64 processor, and what it needs.
pub fn linux_flags(model: CpuModel) -> Vec<&'static str> {
    const EVERY: [&str; 26] = [
        "fpu",
        "vme",
        "de",
        "pse",
        "tsc",
        "msr",
        "pae",
        "mce",
        "cx8",
        "apic",
        "sep",
        "mtrr",
        "pge",
        "mca",
        "cmov",
        "pat",
        "pse36",
        "clflush",
        "mmx",
        "fxsr",
        "sse",
        "sse2",
        "syscall",
        "nx",
        "lm",
        "nonstop_tsc",
    ];
    [&EVERY[..], &needs(model)].concat()
}

/// Bits of leaf 1, edx: FPU to SSE2, what every x86-64 processor has. The kernel hands them on as `AT_HWCAP`.
pub const BASELINE: u32 = 0x078b_fbff;

/// Bits of leaf 1, ecx.
mod ecx1 {
    pub const SSE3: u32 = 1;
    pub const PCLMULQDQ: u32 = 1 << 1;
    pub const SSSE3: u32 = 1 << 9;
    pub const FMA: u32 = 1 << 12;
    pub const CX16: u32 = 1 << 13;
    pub const SSE4_1: u32 = 1 << 19;
    pub const SSE4_2: u32 = 1 << 20;
    pub const MOVBE: u32 = 1 << 22;
    pub const POPCNT: u32 = 1 << 23;
    pub const AES: u32 = 1 << 25;
    pub const XSAVE: u32 = 1 << 26;
    pub const OSXSAVE: u32 = 1 << 27;
    pub const AVX: u32 = 1 << 28;
    pub const F16C: u32 = 1 << 29;
}

/// Bits of leaf 7, ebx.
mod ebx7 {
    pub const BMI1: u32 = 1 << 3;
    pub const AVX2: u32 = 1 << 5;
    pub const BMI2: u32 = 1 << 8;
    pub const AVX512F: u32 = 1 << 16;
    pub const AVX512DQ: u32 = 1 << 17;
    pub const AVX512CD: u32 = 1 << 28;
    pub const AVX512BW: u32 = 1 << 30;
    pub const AVX512VL: u32 = 1 << 31;
}

const V2_ECX1: u32 =
    ecx1::SSE3 | ecx1::SSSE3 | ecx1::CX16 | ecx1::SSE4_1 | ecx1::SSE4_2 | ecx1::POPCNT;
const V3_ECX1: u32 = V2_ECX1
    | ecx1::PCLMULQDQ
    | ecx1::FMA
    | ecx1::MOVBE
    | ecx1::AES
    | ecx1::XSAVE
    | ecx1::OSXSAVE
    | ecx1::AVX
    | ecx1::F16C;
const V3_EBX7: u32 = ebx7::BMI1 | ebx7::AVX2 | ebx7::BMI2;
const V4_EBX7: u32 =
    V3_EBX7 | ebx7::AVX512F | ebx7::AVX512DQ | ebx7::AVX512CD | ebx7::AVX512BW | ebx7::AVX512VL;

/// `lahf`; and `lzcnt`, which came with v3: leaf 80000001, ecx.
const LAHF: u32 = 1;
const LZCNT: u32 = 1 << 5;

/// `syscall`, no-execute, `rdtscp`, 64-bit mode: leaf 80000001, edx.
const EXTENDED: u32 = 1 << 11 | 1 << 20 | 1 << 27 | 1 << 29;

/// Family, model and stepping as leaf 1 has them.
const fn signature(model: CpuModel) -> u32 {
    match model {
        CpuModel::V2 => 0x0001_06a5,
        CpuModel::V3 => 0x0003_06c3,
        CpuModel::V4 => 0x0005_0654,
    }
}

/// The registers that `xgetbv` says the kernel saves: x87 and SSE, with AVX, with AVX-512 (Intel SDM volume 1, 13.3).
pub const fn xcr0(model: CpuModel) -> u32 {
    match model {
        CpuModel::V2 => 0x03,
        CpuModel::V3 => 0x07,
        CpuModel::V4 => 0xe7,
    }
}

/// Family, model and stepping, as programs see them.
pub fn family_model_stepping(model: CpuModel) -> (u32, u32, u32) {
    let signature = signature(model);
    let extended = signature >> 16 & 0xf;
    (
        signature >> 8 & 0xf,
        extended << 4 | signature >> 4 & 0xf,
        signature & 0xf,
    )
}

/// Size of a core's first cache for data, of its second and of the third, in KiB.
pub const CACHES_KIB: [u32; 3] = [32, 256, 8192];

const LINE_BYTES: u32 = 64;

/// Leaf 4 of a cache of this type, level, size and number of ways.
const fn cache(kind: u32, level: u32, kib: u32, ways: u32, inclusive: u32) -> Answer {
    let sets = (kib << 10) / LINE_BYTES / ways;
    let self_initializing = 1 << 8;
    [
        kind | level << 5 | self_initializing,
        (ways - 1) << 22 | (LINE_BYTES - 1),
        sets - 1,
        inclusive << 1,
    ]
}

/// Everything that `cpuid` says of a model.
pub fn leaves(model: CpuModel) -> Vec<Leaf> {
    let mut all = Vec::new();
    let mut say = |leaf, subleaf, answer| {
        all.push(Leaf {
            leaf,
            subleaf,
            answer,
        })
    };
    let text = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    let avx = model >= CpuModel::V3;
    let highest = if avx { 0xd } else { 0xb };
    let vendor = |at: usize| text(&b"GenuineIntel"[at..at + 4]);
    say(0, None, [highest, vendor(0), vendor(8), vendor(4)]);
    // One logical processor, with lines of 64 bytes.
    let one_cpu = 1 << 16 | (LINE_BYTES / 8) << 8;
    let features = if avx { V3_ECX1 } else { V2_ECX1 };
    say(1, None, [signature(model), one_cpu, features, BASELINE]);
    // Leaf 4 has the caches.
    say(2, None, [0x0000_ff01, 0, 0, 0]);
    let [first, second, third] = CACHES_KIB;
    say(4, Some(0), cache(1, 1, first, 8, 0));
    say(4, Some(1), cache(2, 1, first, 8, 0));
    say(4, Some(2), cache(3, 2, second, 8, 0));
    say(4, Some(3), cache(3, 3, third, 16, 1));
    if avx {
        let features = if model == CpuModel::V4 {
            V4_EBX7
        } else {
            V3_EBX7
        };
        say(7, Some(0), [0, features, 0, 0]);
    }
    // One thread of one core.
    say(0xb, Some(0), [0, 1, 0x100, 0]);
    say(0xb, Some(1), [0, 1, 0x201, 0]);
    if avx {
        saved_registers(model, &mut say);
    }
    say(0x8000_0000, None, [0x8000_0008, 0, 0, 0]);
    let features = if avx { LAHF | LZCNT } else { LAHF };
    say(0x8000_0001, None, [0, 0, features, EXTENDED]);
    let mut brand = [0; 48];
    let name = brand_name(model);
    brand[..name.len()].copy_from_slice(name.as_bytes());
    for (leaf, part) in (0x8000_0002..).zip(brand.chunks_exact(16)) {
        let word = |at: usize| text(&part[at..at + 4]);
        say(leaf, None, [word(0), word(4), word(8), word(12)]);
    }
    // Its second cache, of 8 ways.
    say(
        0x8000_0006,
        None,
        [0, 0, second << 16 | 6 << 12 | LINE_BYTES, 0],
    );
    // The time-stamp counter does not change its pace.
    say(0x8000_0007, None, [0, 0, 0, 1 << 8]);
    // Bits of physical and of linear addresses.
    say(0x8000_0008, None, [48 << 8 | 46, 0, 0, 0]);
    all
}

/// What programs read as the processor's name.
pub fn brand_name(model: CpuModel) -> String {
    format!("Counterfoil {model}")
}

/// Leaf 13: sizes and offsets of what `xsave` saves (Intel SDM volume 1, 13.5).
///
/// The size of the whole is always that with AVX-512: programs (glibc's lazy binding) let `xsave` store whatever the real
/// processor has of a longer list, in room of this size.
fn saved_registers(model: CpuModel, say: &mut impl FnMut(u32, Option<u32>, Answer)) {
    const AVX: (u32, u32) = (256, 576);
    const MASKS: (u32, u32) = (64, 1088);
    const UPPER_HALVES: (u32, u32) = (512, 1152);
    const UPPER_REGISTERS: (u32, u32) = (1024, 1664);
    const WHOLE: u32 = UPPER_REGISTERS.0 + UPPER_REGISTERS.1;
    say(0xd, Some(0), [xcr0(model), WHOLE, WHOLE, 0]);
    say(0xd, Some(2), [AVX.0, AVX.1, 0, 0]);
    if model == CpuModel::V4 {
        for (number, (bytes, offset)) in (5..).zip([MASKS, UPPER_HALVES, UPPER_REGISTERS]) {
            say(0xd, Some(number), [bytes, offset, 0, 0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(model: CpuModel, leaf: u32, subleaf: u32) -> Answer {
        let here = |one: &&Leaf| one.leaf == leaf && one.subleaf.is_none_or(|sub| sub == subleaf);
        leaves(model)
            .iter()
            .find(here)
            .map_or([0; 4], |one| one.answer)
    }

    #[test]
    fn leaves_are_in_order_and_none_is_beyond_the_highest() {
        for model in CpuModel::ALL {
            let all = leaves(model);
            assert!(all.is_sorted_by_key(|one| (one.leaf, one.subleaf)));
            let highest = answer(model, 0, 0)[0];
            let extended = answer(model, 0x8000_0000, 0)[0];
            assert!(
                all.iter()
                    .all(|one| one.leaf <= highest || (0x8000_0000..=extended).contains(&one.leaf))
            );
        }
    }

    #[test]
    fn caches_have_the_sizes_that_are_told_elsewhere() {
        for (subleaf, kib) in [(0, 32), (2, 256), (3, 8192)] {
            let [_, ebx, ecx, _] = answer(CpuModel::V3, 4, subleaf);
            let (ways, line, sets) = ((ebx >> 22) + 1, (ebx & 0xfff) + 1, ecx + 1);
            assert_eq!(ways * line * sets, kib << 10);
        }
    }

    #[test]
    fn each_model_has_what_the_one_before_has() {
        for pair in CpuModel::ALL.windows(2) {
            for (leaf, register) in [(1, 2), (1, 3), (7, 1), (0x8000_0001, 2)] {
                let [less, more] = [pair[0], pair[1]].map(|model| answer(model, leaf, 0)[register]);
                assert_eq!(less & more, less, "leaf {leaf:#x} of {}", pair[1]);
            }
            assert!(
                needs(pair[0])
                    .iter()
                    .all(|flag| needs(pair[1]).contains(flag))
            );
        }
    }

    #[test]
    fn family_and_model_are_those_of_haswell() {
        assert_eq!(family_model_stepping(CpuModel::V3), (6, 60, 3));
    }
}
