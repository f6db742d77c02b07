//! Any bytes as a `callgrind.out` file: parts that add up to their totals, or an error, never a panic.
#![no_main]

use counterfoil::backend::valgrind::callgrind_out::read_parts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for part in read_parts(bytes).unwrap_or_default() {
        let counts = part.objects.values().flat_map(|counts| counts.values());
        assert_eq!(counts.sum::<u64>(), part.total);
    }
});
