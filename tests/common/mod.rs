//! What the end-to-end tests share: skips that show, the binary, small programs, folders.
//!
//! A test that cannot run here is reported as ignored with the reason before its name; with
//! `COUNTERFOIL_NO_SKIPS=1` it fails instead.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod project;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;

/// What a test needs of the machine.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A program in PATH.
    Program(&'static str),
    /// What counts in a suite that names no backend: built in on x86-64, elsewhere callgrind.
    DefaultBackend,
    /// Single-stepping, which other processors than x86-64 do not offer.
    Step,
}

impl Need {
    /// Why it is not there; none when it is.
    fn missing(self) -> Option<String> {
        match self {
            Need::Program(name) => which(name).is_none().then(|| format!("no {name} in PATH")),
            Need::DefaultBackend if cfg!(target_arch = "x86_64") => None,
            Need::DefaultBackend => Need::Program("valgrind").missing(),
            Need::Step => {
                (!cfg!(target_arch = "x86_64")).then(|| "not an x86-64 machine".to_owned())
            }
        }
    }
}

/// The file of a program in PATH.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The distribution's Python where there is one: `python3` in PATH may be a script that starts dozens of shells first
/// (pyenv's), whose counts vary with the digits of their process ids where these are the machine's.
pub fn python() -> &'static str {
    let own = "/usr/bin/python3";
    if Path::new(own).is_file() {
        own
    } else {
        "python3"
    }
}

/// One test; what it needs is looked for first.
pub fn case(name: &'static str, needs: &[Need], body: fn()) -> Trial {
    trial(name, needs, body)
}

/// The same for a test that holds what it is about.
pub fn trial(name: &'static str, needs: &[Need], body: impl FnOnce() + Send + 'static) -> Trial {
    let missing: Vec<_> = needs.iter().filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        return Trial::test(name, move || {
            body();
            Ok(())
        });
    }
    skipped(name, missing.join(", "))
}

/// A test that cannot run here, and why.
pub fn skipped(name: &str, reason: String) -> Trial {
    if std::env::var_os("COUNTERFOIL_NO_SKIPS").is_some_and(|value| value == "1") {
        return Trial::test(name, move || {
            Err(format!("cannot run here: {reason}").into())
        });
    }
    Trial::test(name, || Ok(()))
        .with_kind(format!("skipped: {reason}"))
        .with_ignored_flag(true)
}

/// Runs the tests of one binary.
pub fn run(trials: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The `counterfoil` command with nothing of the surroundings that could colour its output.
pub fn counterfoil(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_counterfoil"));
    command
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("COUNTERFOIL_CACHE_DIR", code_cache())
        .env_remove("COLUMNS")
        .stdin(Stdio::null());
    command
}

/// The tests' own code cache: first runs fill it, later ones use it.
fn code_cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("code-cache")
}

/// Its finished run.
pub fn output(command: &mut Command) -> Output {
    command.output().expect("the command starts")
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The report of `count --json` with these arguments before the command.
pub fn count_json(arguments: &[&str]) -> serde_json::Value {
    let all: Vec<&str> = ["count", "--json"]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    let output = output(&mut counterfoil(&all));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", stdout(&output), stderr(&output)))
}

/// `metrics.instructions` of a report.
pub fn instructions(report: &serde_json::Value) -> u64 {
    report["metrics"]["instructions"]
        .as_u64()
        .unwrap_or_else(|| panic!("no count in {report:#}"))
}

/// The count in a report for people.
pub fn count_in(report: &str) -> u64 {
    let number: String = report
        .lines()
        .find(|line| line.contains(" instructions: "))
        .and_then(|line| line.split(' ').next())
        .unwrap_or_else(|| panic!("no count: {report}"))
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    number.parse().expect("a number")
}

/// An empty folder.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Writes a file below `folder`, its parents too, and returns its path.
pub fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("its folder");
    std::fs::write(&path, content).expect("the file");
    path
}

/// Compiles a C (or .S) source with more arguments for gcc, and returns the program.
pub fn compile(folder: &Path, name: &str, source: &str, arguments: &[&str]) -> PathBuf {
    built_by("gcc", folder, name, source, arguments)
}

/// The same for a program that is to be single-stepped: without a dynamic loader, and with a C library (musl) whose start
/// is some hundred instructions. A step takes about 20 microseconds, and /bin/true is 170000 of them.
pub fn compile_small(folder: &Path, name: &str, source: &str, arguments: &[&str]) -> PathBuf {
    let arguments = [&["-O1", "-static"], arguments].concat();
    built_by("musl-gcc", folder, name, source, &arguments)
}

fn built_by(
    compiler: &str,
    folder: &Path,
    name: &str,
    source: &str,
    arguments: &[&str],
) -> PathBuf {
    let source = write(folder, name, source);
    let program = source.with_extension("bin");
    let status = Command::new(compiler)
        .args(arguments)
        .arg("-o")
        .args([&program, &source])
        .status()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(status.success(), "{compiler} compiles {}", source.display());
    program
}

/// Waits until `condition` holds.
#[track_caller]
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes whose environment has this text: everything that a command started, and all below.
pub fn processes_with(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let folders = entries.map(|entry| entry.path());
    let has = |folder: &PathBuf| {
        let environment = std::fs::read(folder.join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(text)
    };
    let name = |folder: PathBuf| {
        std::fs::read_to_string(folder.join("cmdline"))
            .unwrap_or_default()
            .replace('\0', " ")
    };
    folders
        .filter(has)
        .map(name)
        .filter(|name| !name.is_empty())
        .collect()
}

/// Fails if one of them stays.
#[track_caller]
pub fn assert_no_process(mark: &str) {
    eventually(
        &format!("no process of {mark}: {:?}", processes_with(mark)),
        || processes_with(mark).is_empty(),
    );
}

/// A mark that no other process has.
pub fn mark(name: &str) -> String {
    format!("counterfoil-test-{}-{name}", std::process::id())
}
