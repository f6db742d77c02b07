//! Any text as a manifest: it is read, or refused with the place of every problem.
#![no_main]

use std::path::Path;

use counterfoil::suite::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Manifest::parse(Path::new("counterfoil.toml"), text) {
        Ok(manifest) => assert!(!manifest.cases().is_empty()),
        Err(error) => assert!(error.to_string().starts_with("counterfoil.toml:")),
    }
});
