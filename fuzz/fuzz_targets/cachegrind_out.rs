//! Any bytes as a `cachegrind.out` file: an answer or an error, never a panic.
#![no_main]

use counterfoil::backend::valgrind::cachegrind_out::read_total;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_total(bytes);
});
