//! Every encoding of every instruction that a program may execute, found by decoding all opcodes under all prefixes.
//!
//! Bytes rather than an assembler's output, which chooses one of the many encodings that mean the same. What is left out,
//! and why, says [`left_out`].

use counterfoil::dbi::decode::{Kind, decode};
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use crate::random::Random;

/// Encodings kept for one instruction.
const KEPT: usize = 16;

/// What comes before the opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Prefixes, REX, and the bytes that choose a map.
    Legacy(&'static [u8]),
    Vex(u8),
    Evex(u8),
    Xop(u8),
}

/// One opcode under fixed prefixes; what is random is in [`Fields`].
#[derive(Clone, Copy, Debug)]
pub struct Encoding {
    form: Form,
    /// 0 for none, else 1 to 3 for 66, f3 and f2, as VEX numbers them.
    prefix: u8,
    wide: bool,
    length: u8,
    opcode: u8,
    fields: Fields,
}

/// The parts of an encoding that choose operands.
#[derive(Clone, Copy, Debug, Default)]
struct Fields {
    modrm: u8,
    /// Extends ModRM.reg, SIB.index and ModRM.rm.
    extend: u8,
    /// Extends ModRM.reg and vvvv once more, under EVEX.
    extend_evex: u8,
    vvvv: u8,
    mask: u8,
    zeroing: bool,
    broadcast: bool,
}

/// An instruction and how it can be written.
#[derive(Clone, Debug)]
pub struct Entry {
    pub code: Code,
    pub encodings: Vec<Encoding>,
}

/// All that there is. Always the same.
pub fn all() -> Vec<Entry> {
    let mut found: Vec<Vec<Encoding>> = vec![Vec::new(); Code::values().len()];
    let mut seen = vec![0u64; found.len()];
    let mut random = Random::new(1);
    each(|encoding| {
        let bytes = encoding.bytes(&encoding.fields, &[], &[0x11, 0x20, 0, 0, 0, 0, 0, 0, 0, 0]);
        let Some(instruction) = instruction(&bytes) else {
            return;
        };
        let code = instruction.code() as usize;
        seen[code] += 1;
        // Each has the same chance to stay.
        if found[code].len() < KEPT {
            found[code].push(encoding);
        } else if let Some(kept) = found[code].get_mut(random.below(seen[code]) as usize) {
            *kept = encoding;
        }
    });
    let codes = Code::values().zip(found);
    let entries = codes.map(|(code, encodings)| Entry { code, encodings });
    entries
        .filter(|entry| !entry.encodings.is_empty())
        .collect()
}

/// The instruction at the beginning of `bytes` unless it is left out.
pub fn instruction(bytes: &[u8]) -> Option<Instruction> {
    let instruction = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
    let refused = matches!(decode(bytes, 0).kind, Kind::Refused(_));
    (!instruction.is_invalid() && !refused && !left_out(&instruction)).then_some(instruction)
}

fn each(mut take: impl FnMut(Encoding)) {
    const LEGACY: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    for map in LEGACY {
        each_of(Form::Legacy(map), 1, &[(0, 0)], &mut take);
    }
    for map in 1..=3 {
        each_of(Form::Vex(map), 2, &[(0, 0), (3, 0)], &mut take);
    }
    for map in [1, 2, 3, 5, 6] {
        each_of(Form::Evex(map), 3, &[(0, 0), (0, 1), (3, 1)], &mut take);
    }
    for map in 8..=10 {
        each_of(Form::Xop(map), 2, &[(0, 0), (3, 0)], &mut take);
    }
}

/// All opcodes of a map; `others` are vvvv and the mask register, of which some instructions demand one.
fn each_of(form: Form, lengths: u8, others: &[(u8, u8)], take: &mut impl FnMut(Encoding)) {
    for opcode in 0..=255u8 {
        if matches!(form, Form::Legacy([])) && is_prefix(opcode) {
            continue;
        }
        for variant in 0..8 * lengths {
            for &(vvvv, mask) in others {
                for modrm in operands(form) {
                    let (prefix, wide) = (variant & 3, variant & 4 != 0);
                    let fields = Fields {
                        modrm,
                        vvvv,
                        mask,
                        ..Fields::default()
                    };
                    take(Encoding {
                        form,
                        prefix,
                        wide,
                        length: variant >> 3,
                        opcode,
                        fields,
                    });
                }
            }
        }
    }
}

/// ModRM bytes: memory, with a SIB byte as some instructions demand, and registers. Outside VEX and EVEX rm may be a part
/// of the opcode.
fn operands(form: Form) -> Vec<u8> {
    let memory = (0..8).map(|reg| reg << 3 | 4);
    match form {
        Form::Legacy(_) => memory.chain(0xc0..=0xff).collect(),
        _ => memory.chain((0..8).map(|reg| 0xc1 | reg << 3)).collect(),
    }
}

/// Bytes that change the instruction that follows, or lead to another map.
fn is_prefix(byte: u8) -> bool {
    matches!(
        byte,
        0x0f | 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x62 | 0x64..=0x67 | 0xc4 | 0xc5 | 0xf0 | 0xf2 | 0xf3
    )
}

impl Encoding {
    /// The bytes with random operands: the operands may be any that leave the instruction what it is.
    pub fn random(&self, code: Code, random: &mut Random) -> Option<Vec<u8>> {
        for attempt in 0..24 {
            let fields = match attempt {
                0..20 => self.fields(random),
                _ => self.fields,
            };
            let mut front = Vec::new();
            while attempt < 16 && random.percent(8) {
                front.push(
                    *random.pick(&[0x2e, 0x36, 0x3e, 0x26, 0x64, 0x67, 0x66, 0xf2, 0xf3, 0xf0]),
                );
            }
            let tail = random.bytes(12);
            let mut bytes = self.bytes(&fields, &front, &tail);
            if let Some(instruction) = instruction(&bytes)
                && instruction.code() == code
            {
                bytes.truncate(instruction.len());
                return Some(bytes);
            }
        }
        None
    }

    fn fields(&self, random: &mut Random) -> Fields {
        let memory = self.fields.modrm < 0xc0;
        let reg = random.byte() & 0x38;
        let modrm = match memory {
            true => ((random.below(3) as u8) << 6) | reg | random.byte() & 7,
            false => 0xc0 | reg | random.byte() & 7,
        };
        Fields {
            modrm,
            extend: random.byte() & 7,
            extend_evex: random.byte() & 3,
            vvvv: random.byte() & 15,
            mask: random.byte() & 7,
            zeroing: random.percent(30),
            broadcast: random.percent(30),
        }
    }

    fn bytes(&self, fields: &Fields, front: &[u8], tail: &[u8]) -> Vec<u8> {
        let mut bytes = front.to_vec();
        let inverted = |bits: u8, width: u32| !bits & ((1 << width) - 1);
        match self.form {
            Form::Legacy(map) => {
                bytes.extend([&[][..], &[0x66], &[0xf3], &[0xf2]][usize::from(self.prefix)]);
                let rex = u8::from(self.wide) << 3 | fields.extend;
                if rex != 0 || fields.zeroing {
                    bytes.push(0x40 | rex);
                }
                bytes.extend(map);
            }
            Form::Vex(1) if !self.wide && fields.extend & 3 == 0 && fields.zeroing => {
                let r = inverted(fields.extend >> 2, 1) << 7;
                bytes.extend([0xc5, r | self.vex_tail(fields)]);
            }
            Form::Vex(map) | Form::Xop(map) => {
                let xop = matches!(self.form, Form::Xop(_));
                bytes.push(if xop { 0x8f } else { 0xc4 });
                bytes.push(inverted(fields.extend, 3) << 5 | map);
                bytes.push(u8::from(self.wide) << 7 | self.vex_tail(fields));
            }
            Form::Evex(map) => {
                let reg = inverted(fields.extend_evex, 1) << 4;
                bytes.extend([0x62, inverted(fields.extend, 3) << 5 | reg | map]);
                bytes.push(
                    u8::from(self.wide) << 7 | inverted(fields.vvvv, 4) << 3 | 4 | self.prefix,
                );
                let (z, b) = (
                    u8::from(fields.zeroing) << 7,
                    u8::from(fields.broadcast) << 4,
                );
                let vvvv = inverted(fields.extend_evex >> 1, 1) << 3;
                bytes.push(z | self.length << 5 | b | vvvv | fields.mask);
            }
        }
        bytes.extend([self.opcode, fields.modrm]);
        bytes.extend(tail);
        bytes
    }

    fn vex_tail(&self, fields: &Fields) -> u8 {
        (!fields.vvvv & 15) << 3 | self.length << 2 | self.prefix
    }
}

/// Whether an instruction cannot be compared: its result is not the same in each run, or it changes what the comparison
/// stands on, or it is a branch (the generator makes those itself).
fn left_out(instruction: &Instruction) -> bool {
    use FlowControl::{Exception, Interrupt, Next};
    let flow = instruction.flow_control();
    if !matches!(flow, Next | Interrupt | Exception) {
        return true;
    }
    differs_between_runs(instruction.mnemonic()) || breaks_the_frame(instruction)
}

fn differs_between_runs(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    match mnemonic {
        // The clock, the CPU that the thread is on, chance.
        Rdtsc | Rdtscp | Rdpid | Rdpru | Rdpmc | Rdrand | Rdseed | Cpuid | Lsl | Sgdt | Sidt => {
            true
        }
        // Where the kernel keeps the answer to itself (UMIP) it emulates them, and single-stepping misses the next one.
        Str | Sldt | Smsw => true,
        // What the kernel's own saving and restoring made of states that are as they were at the start.
        Xgetbv | Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 => true,
        // Wait for the clock or an interrupt.
        Monitorx | Mwaitx | Umonitor | Umwait | Tpause => true,
        // Talk to a hypervisor, if there is one.
        Vmcall | Vmmcall | Vmfunc | Vmgexit | Tdcall | Seamcall => true,
        _ => false,
    }
}

fn breaks_the_frame(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    let to = instruction.op0_register();
    match instruction.mnemonic() {
        // The base of fs, which operands are aimed with.
        Wrfsbase | Lfs => true,
        Mov | Pop if to == Register::FS => true,
        // The right to the memory of the program. A processor without user interrupts takes `stui` for `wrpkru`.
        Wrpkru | Stui | Xrstor | Xrstor64 => true,
        // Saves the state in formats or sizes that differ between processors.
        Xsave | Xsave64 => true,
        // The stack beyond what is there.
        Enter => instruction.op0_kind() == OpKind::Immediate16 && instruction.immediate16() > 0xfff,
        _ => false,
    }
}
