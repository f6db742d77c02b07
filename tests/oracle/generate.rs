//! Random code: instructions whose memory operands are aimed at memory that is there, between branches, calls and loops that
//! end.

mod aim;
mod flow;

use counterfoil::dbi::decode::{Kind, Question, decode};
use iced_x86::{Code, InstructionInfoFactory};

use crate::encodings::{self, Entry};
use crate::layout::{
    CODE, CODE_BYTES, FINISH, FXSAVE, IMAGES, IMAGES_BYTES, INDICES, MEMORY_BYTES, MXCSR,
    RUNTIME_STACK, SAVED_RSP, SNAPSHOT,
};
use crate::random::Random;

/// A stretch of generated code, for messages.
#[derive(Clone, Debug)]
pub struct Note {
    pub at: u64,
    pub bytes: Vec<u8>,
    /// What it is, if it is an instruction that is compared.
    pub code: Option<Code>,
}

/// A program before it is linked to the runtime.
pub struct Generated {
    pub code: Vec<u8>,
    /// For each byte of the code: how far behind it to go on after a fault there; 0 where none is expected.
    pub skips: Vec<u8>,
    pub memory: Vec<u8>,
    pub images: Vec<u8>,
    pub notes: Vec<Note>,
}

/// What the code is made of.
pub struct Wish<'a> {
    pub seed: u64,
    /// Where the memory of operands is.
    pub memory: u64,
    /// Whether instructions may be aimed at the code, too: what writes there faults.
    pub code_is_kept: bool,
    /// Each at least once, in this order.
    pub entries: &'a [&'a Entry],
    /// Where else instructions come from.
    pub others: &'a [&'a Entry],
}

/// Makes the program.
pub fn generate(wish: &Wish) -> Generated {
    let mut writer = Writer {
        random: Random::new(wish.seed),
        memory: wish.memory,
        code_is_kept: wish.code_is_kept,
        code: Vec::new(),
        skips: Vec::new(),
        notes: Vec::new(),
        cells: 0,
        factory: InstructionInfoFactory::new(),
        wished: wish.entries,
        others: wish.others,
    };
    while !writer.wished.is_empty() && (writer.code.len() as u64) < CODE_BYTES - 0x4000 {
        writer.group();
    }
    writer.jump(FINISH);
    let mut random = writer.random;
    Generated {
        memory: random.bytes(MEMORY_BYTES as usize),
        images: images(&mut random),
        code: writer.code,
        skips: writer.skips,
        notes: writer.notes,
    }
}

/// What is read and never written.
fn images(random: &mut Random) -> Vec<u8> {
    let mut images = random.bytes(IMAGES_BYTES);
    let mut put = |at: u64, value: u32| {
        let at = (at - IMAGES) as usize;
        images[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    for index in 0..16 {
        // Bit 6 is "denormals are zeros", bits 7 to 12 mask exceptions, then rounding and "flush to zero".
        let masks = if index < 12 { 0x1f80 } else { 0 };
        put(MXCSR + 4 * index, random.next() as u32 & 0xffff | masks);
        put(INDICES + 8 * index, random.below(0x400) as u32);
        put(INDICES + 8 * index + 4, 0);
    }
    put(FXSAVE + 24, 0x1f80);
    put(FXSAVE + 28, 0xffff);
    images
}

/// Code in the making.
pub struct Writer<'a> {
    random: Random,
    memory: u64,
    code_is_kept: bool,
    code: Vec<u8>,
    skips: Vec<u8>,
    notes: Vec<Note>,
    cells: u64,
    factory: InstructionInfoFactory,
    wished: &'a [&'a Entry],
    others: &'a [&'a Entry],
}

impl Writer<'_> {
    fn here(&self) -> u64 {
        CODE + self.code.len() as u64
    }

    /// Adds bytes that are no instruction to be compared.
    fn raw(&mut self, bytes: &[u8]) {
        self.note(bytes, None);
    }

    fn note(&mut self, bytes: &[u8], code: Option<Code>) {
        self.notes.push(Note {
            at: self.here(),
            bytes: bytes.to_vec(),
            code,
        });
        self.code.extend_from_slice(bytes);
        self.skips.resize(self.code.len(), 0);
    }

    /// `opcode` and a displacement that leads to `target`, with `behind` more bytes.
    fn relative(&mut self, opcode: &[u8], target: u64, behind: &[u8]) {
        let mut bytes = opcode.to_vec();
        let next = self.here() + (opcode.len() + 4 + behind.len()) as u64;
        bytes.extend((target.wrapping_sub(next) as u32).to_le_bytes());
        bytes.extend(behind);
        self.raw(&bytes);
    }

    fn jump(&mut self, target: u64) {
        self.relative(&[0xe9], target, &[]);
    }

    /// `mov register, value`: the flags stay.
    fn set(&mut self, register: u8, value: u64) {
        let mut bytes = vec![0x48 | register >> 3, 0xb8 | register & 7];
        bytes.extend(value.to_le_bytes());
        self.raw(&bytes);
    }

    /// `mov dword [at], value`
    fn store(&mut self, at: u64, value: u32) {
        self.relative(&[0xc7, 0x05], at, &value.to_le_bytes());
    }

    /// Takes down all registers.
    fn snapshot(&mut self) {
        self.relative(&[0x48, 0x89, 0x25], SAVED_RSP, &[]); // mov [SAVED_RSP], rsp
        self.relative(&[0x48, 0x8d, 0x25], RUNTIME_STACK, &[]); // lea rsp, [RUNTIME_STACK]
        self.relative(&[0xe8], SNAPSHOT, &[]);
        self.relative(&[0x48, 0x8b, 0x25], SAVED_RSP, &[]); // mov rsp, [SAVED_RSP]
    }

    /// A few instructions, perhaps a branch, and all registers after that.
    fn group(&mut self) {
        self.refresh();
        for _ in 0..2 + self.random.below(4) {
            self.item(2);
        }
        self.snapshot();
    }

    /// New values where instructions leave many zeros.
    fn refresh(&mut self) {
        for _ in 0..2 {
            let (register, value) = (self.random.byte() & 15, self.random.number());
            if register != 4 {
                self.set(register, value);
            }
        }
        let from = self.memory + 16 * self.random.below(0x800);
        let register = self.random.byte() & 7;
        self.relative(&[0x0f, 0x10, register << 3 | 5], from, &[]); // movups
        if self.random.percent(20) {
            self.raw(&[0xdb, 0xe3]); // fninit
            self.relative(&[0x0f, 0xae, 0x15], MXCSR, &[]); // ldmxcsr
        }
        if self.random.percent(30) {
            self.flags();
        }
    }

    /// Random flags; not the trap flag.
    fn flags(&mut self) {
        self.set(4, self.memory + crate::layout::STACK_MIDDLE);
        let flags = self.random.next() as u32 & 0xcd5;
        self.raw(&[&[0x68][..], &flags.to_le_bytes()].concat()); // push
        self.raw(&[0x9d]); // popfq
    }

    /// An instruction or, `depth` times within each other, something with branches.
    fn item(&mut self, depth: u32) {
        if depth > 0 && self.random.percent(18) {
            self.flow(depth - 1);
        } else {
            self.instruction();
        }
    }

    fn items(&mut self, most: u64, depth: u32) {
        for _ in 0..1 + self.random.below(most) {
            self.item(depth);
        }
    }

    /// The next instruction that is wished for, or any.
    fn instruction(&mut self) {
        let others = self.others;
        let entry = match self.wished.split_first() {
            Some((first, rest)) if self.random.percent(90) => {
                self.wished = rest;
                *first
            }
            _ => *self.random.pick(others),
        };
        for _ in 0..8 {
            let encoding = *self.random.pick(&entry.encodings);
            let Some(bytes) = encoding.random(entry.code, &mut self.random) else {
                continue;
            };
            if self.aimed(bytes) {
                return;
            }
        }
    }

    /// Adds an instruction whose operands are aimed; where a fault is met it is left out.
    fn compared(&mut self, bytes: &[u8]) {
        let start = self.code.len();
        let code = encodings::instruction(bytes).map(|instruction| instruction.code());
        let kind = decode(bytes, self.here()).kind;
        assert!(matches!(kind, Kind::Plain | Kind::Asks(Question::Pause)));
        self.note(bytes, code);
        self.skips[start] = bytes.len() as u8;
    }
}
