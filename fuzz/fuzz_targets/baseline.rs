//! Any text as a baseline file: what is read can be written and reads back the same.
#![no_main]

use std::path::Path;

use counterfoil::baseline::{parse, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let path = Path::new("baseline.json");
    let Ok(baseline) = parse(path, text, None) else {
        return;
    };
    // Rendering sums small functions, and sums of hostile counts need not fit.
    let Ok(written) = render(&baseline) else {
        return;
    };
    let again = parse(path, &written, Some(baseline.backend)).expect("written files read back");
    assert_eq!(render(&again).expect("and can be written again"), written);
});
