//! Counts by address while a program runs: the bytes there, what they are, and how often they ran.

use std::collections::HashMap;

use crate::backend::regions::{self, MARKER_BYTES};
use crate::backend::selftest::Machine;
use crate::isa::{self, Arch, Decoder, DecoderError};

/// What an instruction does that matters to counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// Parts are steps, and the pointer stays until the last one: iterations of a string instruction, or elements of a gather
    /// before one that faults (Intel SDM volume 2, VGATHERDPD: traps that are pending go before the fault).
    Parts,
    /// Ends with a report of its own kind.
    SystemCall,
    /// Stores the flags on the stack, the trap flag among them.
    StoresFlags,
    /// Completes with a SIGTRAP of its own.
    Breakpoint,
    /// The first of the five instructions of a client request.
    Request,
}

/// The bytes at an address, what they are, and how often they ran since the last flush.
#[derive(Clone, Debug)]
pub struct Slot {
    /// From the instruction on, and behind it.
    pub bytes: [u8; MARKER_BYTES],
    /// How many of `bytes` could be read.
    pub length: usize,
    /// What matters about the instruction.
    pub kind: Kind,
    /// Number of its mnemonic, see [`Reader::mnemonic`].
    pub mnemonic: usize,
    /// Whether it is a marker's, see [`regions::in_marker`].
    pub in_marker: bool,
    /// Completed executions.
    pub count: u64,
}

impl Slot {
    /// The bytes of the instruction, as far as they could be read; others may follow.
    pub fn instruction(&self) -> &[u8] {
        let length = self.length.min(isa::LONGEST_BYTES);
        self.bytes.get(..length).unwrap_or_default()
    }
}

/// Makes slots of bytes, and numbers the mnemonics.
pub struct Reader {
    decoder: Decoder,
    mnemonics: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Reader {
    /// A reader of x86-64 code.
    pub fn new() -> Result<Reader, DecoderError> {
        Ok(Reader {
            decoder: Decoder::new(Arch::X86_64)?,
            mnemonics: Vec::new(),
            numbers: HashMap::new(),
        })
    }

    /// The mnemonic of a slot.
    pub fn mnemonic(&self, slot: &Slot) -> &str {
        self.mnemonics.get(slot.mnemonic).map_or(isa::BAD, |m| m)
    }

    /// A slot for `bytes`, of which the first `length` could be read at `address`.
    pub fn decode(&mut self, bytes: &[u8; MARKER_BYTES], length: usize, address: u64) -> Slot {
        let seen = bytes.get(..length).unwrap_or_default();
        let decoded = self.decoder.decode(seen, address);
        let mnemonic = decoded.as_ref().map_or(isa::BAD, |i| &i.mnemonic);
        let kind = match mnemonic {
            _ if decoded.as_ref().is_some_and(|i| i.rep_string) => Kind::Parts,
            _ if mnemonic.contains("gather") || mnemonic.contains("scatter") => Kind::Parts,
            "syscall" | "sysenter" | "int" => Kind::SystemCall,
            "pushf" | "pushfq" | "pushfd" => Kind::StoresFlags,
            "int3" | "int1" => Kind::Breakpoint,
            _ if seen.starts_with(regions::REQUEST_X86_64) => Kind::Request,
            _ => Kind::Plain,
        };
        Slot {
            bytes: *bytes,
            length,
            kind,
            mnemonic: self.number(mnemonic.to_owned()),
            in_marker: regions::in_marker(Machine::X86_64, seen),
            count: 0,
        }
    }

    fn number(&mut self, mnemonic: String) -> usize {
        let mnemonics = &mut self.mnemonics;
        *self.numbers.entry(mnemonic).or_insert_with_key(|name| {
            mnemonics.push(name.clone());
            mnemonics.len() - 1
        })
    }
}
