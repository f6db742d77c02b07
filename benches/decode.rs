//! What decoding an instruction costs: `cargo bench --bench decode [FILE]`.
//!
//! Walks the code of a file (the C library unless another is named) with the translator's decoder and with the
//! reference that it falls back to, in turns, and prints the least time of each. A figure for people, not a test.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use counterfoil::dbi::decode::{Inst, decode, decode_by_reference};
use object::{Object, ObjectSection, SectionKind};

const ROUNDS: usize = 15;
const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

type Decode = fn(&[u8], u64) -> Inst;

fn main() {
    // Cargo passes `--bench` to what it runs.
    let named = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let path = named.unwrap_or_else(|| LIBC.to_owned());
    let code = code(Path::new(&path));
    let cold = walk(&code, decode);
    let mut table = cold;
    let mut reference = walk(&code, decode_by_reference);
    for _ in 0..ROUNDS {
        table = table.min(walk(&code, decode));
        reference = reference.min(walk(&code, decode_by_reference));
    }
    println!("{path}: {} bytes of code", code.len());
    println!(
        "table       {table:>6.1} ns an instruction (least of {ROUNDS}; {cold:.1} the first time)"
    );
    println!("reference   {reference:>6.1} ns an instruction");
}

/// The contents of all sections of code.
fn code(path: &Path) -> Vec<u8> {
    let data = std::fs::read(path).expect("the file is readable");
    let file = object::File::parse(data.as_slice()).expect("an object file");
    let is_code = |section: &object::Section| section.kind() == SectionKind::Text;
    let sections = file.sections().filter(is_code);
    sections
        .flat_map(|section| section.data().expect("its bytes").to_vec())
        .collect()
}

/// Nanoseconds an instruction.
fn walk(code: &[u8], decode: Decode) -> f64 {
    let start = Instant::now();
    let (mut at, mut instructions) = (0, 0_u32);
    while at < code.len() {
        let inst = decode(&code[at..], at as u64);
        black_box(&inst);
        at += usize::from(inst.len.max(1));
        instructions += 1;
    }
    start.elapsed().as_nanos() as f64 / f64::from(instructions)
}
