//! The rules of the house, held by a test: which layer may import which, where `unsafe` may stand, who may print.

use std::fs;
use std::path::{Path, PathBuf};

/// From the lowest layer to the highest; a layer imports from earlier ones only.
const LAYERS: [&str; 12] = [
    "model",
    "isa",
    "object",
    "sys",
    "dbi",
    "backend",
    "suite",
    "supervise",
    "compare",
    "baseline",
    "report",
    "cli",
];

/// What the translator may import besides itself: it decides over bytes, and what pokes a process stands elsewhere.
const BELOW_DBI: [&str; 2] = ["model", "isa"];

/// Macros that write to a standard stream.
const PRINTING: [&str; 5] = ["println!", "eprintln!", "print!(", "eprint!(", "dbg!"];

fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for layer in LAYERS {
        let mut folders = vec![root.join(layer)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path).unwrap();
                    found.push((layer.to_owned(), path, text));
                }
            }
        }
    }
    assert!(found.len() > 30, "the sources are found");
    found
}

/// Lines of code with their numbers: comments left out, unit tests too.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    let code = numbered.take_while(|(_, line)| *line != "mod tests {");
    code.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn complaints(complain: impl Fn(&str, &str) -> Option<String>) -> Vec<String> {
    let mut all = Vec::new();
    for (layer, path, text) in sources() {
        for (number, line) in code(&text) {
            if let Some(problem) = complain(&layer, line) {
                all.push(format!("{}:{number}: {problem}", path.display()));
            }
        }
    }
    all
}

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|known| *known == layer)
}

fn imports(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn layers_import_downwards_only() {
    let found = complaints(|layer, line| {
        let above = imports(line).find(|other| rank(other) > rank(layer))?;
        Some(format!(
            "layer `{layer}` imports from `{above}`, which is above it"
        ))
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_translator_imports_no_system() {
    let found = complaints(|layer, line| {
        let allowed = |other: &str| other == "dbi" || BELOW_DBI.contains(&other);
        let above = imports(line).find(|other| layer == "dbi" && !allowed(other))?;
        Some(format!("layer `dbi` imports from `{above}`"))
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_code_stands_in_sys_only() {
    let found = complaints(|layer, line| {
        let has =
            line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl");
        (has && layer != "sys").then(|| "`unsafe` outside src/sys".to_owned())
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_below_the_command_line_prints() {
    let found = complaints(|layer, line| {
        let prints = PRINTING.iter().any(|name| line.contains(name));
        (prints && layer != "cli").then(|| "prints".to_owned())
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn only_main_ends_the_process() {
    let found = complaints(|_, line| line.contains("process::exit").then(|| "exits".to_owned()));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_file_says_first_what_it_is() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(_, _, text)| !text.starts_with("//!"))
        .map(|(_, path, _)| path)
        .collect();
    assert!(silent.is_empty(), "no `//!` at the top of {silent:?}");
}
