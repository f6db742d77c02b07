//! Any bytes as machine code: each decodes within itself and has a name, in every architecture.
#![no_main]

use counterfoil::isa::{Arch, Decoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for arch in [Arch::X86, Arch::X86_64, Arch::Aarch64] {
        let Ok(decoder) = Decoder::new(arch) else {
            continue;
        };
        let mut rest = bytes;
        while let Some(one) = decoder.decode(rest, 0x1000) {
            assert!(one.len >= 1 && !one.mnemonic.is_empty() && !one.mnemonic.contains(' '));
            rest = &rest[one.len..];
        }
    }
});
