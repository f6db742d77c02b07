//! Any bytes as code for the translator: the table answers like the reference, and rewritten operands are instructions.
#![no_main]

use counterfoil::dbi::decode::{Kind, decode, decode_by_reference, load_target, rebase};
use libfuzzer_sys::fuzz_target;

const PC: u64 = 0x7fff_1234_5000;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while !rest.is_empty() {
        let inst = decode(rest, PC);
        assert_eq!(inst, decode_by_reference(rest, PC));
        assert!(usize::from(inst.len) <= rest.len());
        if let Some((rebased, _)) = rebase(rest, PC) {
            let now = decode(&rebased, PC);
            assert_eq!((usize::from(now.len), now.rip_disp), (rebased.len(), None));
            assert_eq!(
                (now.kind, now.reads, now.kills),
                (inst.kind, inst.reads, inst.kills)
            );
        }
        if let Some((loaded, displacement)) = load_target(rest, PC) {
            let now = decode(&loaded, PC);
            assert_eq!(
                (now.kind, usize::from(now.len)),
                (Kind::Plain, loaded.len())
            );
            assert_eq!(now.rip_disp, displacement);
        }
        rest = &rest[usize::from(inst.len.max(1))..];
    }
});
