//! Gives the engine a name that changes with its translator: what another translator has left in the code cache is not
//! for this one. And lets the program start faster.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

fn main() {
    let mut files = vec![PathBuf::from("Cargo.lock")];
    collect(Path::new("src/dbi"), &mut files);
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in &files {
        hasher.write(&fs::read(file).unwrap_or_default());
    }
    if has_fixed_addresses() {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
    println!("cargo::rerun-if-changed=Cargo.lock");
    println!("cargo::rerun-if-changed=src/dbi");
    println!("cargo::rustc-env=COUNTERFOIL_ENGINE_ID={}", hasher.finish());
}

/// Whether the program is linked for one address: otherwise each start relocates some 80 pages, a third of the time it takes.
/// Only where the C library is a shared one: start files of static programs come in kinds of their own.
fn has_fixed_addresses() -> bool {
    let is = |name, value: &str| std::env::var(name).is_ok_and(|given| given == value);
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && !features.split(',').any(|feature| feature == "crt-static")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
