//! Any bytes as an ELF file: headers, code and symbols, or an error, never a panic.
#![no_main]

use counterfoil::object::{Elf, Symbols};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(elf) = Elf::parse(bytes.to_vec()) else {
        return;
    };
    let _ = (elf.build_id_hex(), elf.interpreter(), elf.debug_link());
    for segment in elf.segments() {
        let _ = elf.code(segment.svma, 15);
        let _ = elf.svma_of_offset(segment.offset);
    }
    let Ok(symbols) = Symbols::of(&elf) else {
        return;
    };
    for function in symbols.iter() {
        let _ = function.name();
        let found = symbols.at(function.svma);
        assert!(found.is_none_or(|f| f.svma <= function.svma && function.svma < f.end));
        let _ = symbols.end_before(function.svma);
    }
});
