//! The code cache: what an earlier run has left changes how long a run takes, and nothing else.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use common::{Need, case, compile, counterfoil, folder, output, python, stderr, stdout};

fn main() -> ExitCode {
    let cases: [(&'static str, fn()); 10] = [
        ("a_second_run_uses_what_the_first_has_left", second_run),
        ("details_are_the_same_from_kept_code", details),
        ("children_and_threads_use_kept_code", children),
        ("code_is_of_the_kind_that_the_command_needs", kinds),
        ("damaged_files_are_as_good_as_none", damaged),
        ("another_program_at_the_same_place_is_noticed", changed),
        ("a_library_that_has_changed_is_noticed", changed_library),
        ("many_runs_at_once_do_not_disturb_each_other", at_once),
        ("a_folder_that_others_can_write_is_not_used", foreign_folder),
        ("it_can_be_switched_off", switched_off),
    ];
    let trials = cases.map(|(name, body)| case(name, &[Need::Step, Need::Program("gcc")], body));
    common::run(trials.into())
}

/// A run with a code cache of its own.
struct Cached {
    folder: PathBuf,
}

/// What a run says.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    /// The report, without what tells one run from another.
    report: serde_json::Value,
    /// Units that were kept of the first program.
    kept: u64,
    /// Whether they can be stopped in time.
    timed: bool,
}

impl Cached {
    fn in_folder(folder: &Path) -> Cached {
        Cached {
            folder: folder.join("cache"),
        }
    }

    fn command(&self, options: &[&str], command: &[&str]) -> Command {
        let count = ["count", "--json", "--backend", "dbi"];
        let mut counting = counterfoil(&[&count, options, &["--"], command].concat());
        // Python looks at the times of the folder it is in.
        counting
            .env("COUNTERFOIL_CACHE_DIR", &self.folder)
            .current_dir("/usr");
        counting
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Ran {
        let log = tempfile::NamedTempFile::new().unwrap();
        let name = log.path().to_str().unwrap();
        let run = output(&mut self.command(&[options, &["--engine-log", name]].concat(), command));
        let report = serde_json::from_slice(&run.stdout);
        let report: serde_json::Value =
            report.unwrap_or_else(|error| panic!("{error}: {}{}", stdout(&run), stderr(&run)));
        let log = fs::read_to_string(log.path()).unwrap();
        let begins = log.lines().find(|line| line.contains("begins at "));
        let begins = begins.unwrap_or_else(|| panic!("nothing begins in: {log}"));
        Ran {
            report,
            kept: kept(begins),
            timed: begins.ends_with("as code that can be stopped in time"),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// Units of which a line of an engine's log says that they were kept.
fn kept(begins: &str) -> u64 {
    let number = begins
        .split("; ")
        .nth(1)
        .and_then(|text| text.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap()
}

fn second_run() {
    let folder = folder();
    let cached = Cached::in_folder(folder.path());
    for command in [
        &[python(), "-c", "print(sum(range(1000)))"][..],
        &["ls", "/"],
    ] {
        let first = cached.run(&[], command);
        let second = cached.run(&[], command);
        assert_eq!(first.kept, 0, "{command:?}");
        assert!(second.kept > 500, "{command:?}: {}", second.kept);
        assert_eq!(first.report, second.report, "{command:?}");
    }
    // Another command of the same program: some of its code is kept, some is new.
    let other = [
        python(),
        "-c",
        "import json; print(json.dumps({'a': [1, 2.5]}))",
    ];
    let fresh = Cached::in_folder(&folder.path().join("fresh"));
    let (mixed, again) = (cached.run(&[], &other), cached.run(&[], &other));
    assert!(
        mixed.kept > 500 && again.kept > mixed.kept,
        "{} {}",
        mixed.kept,
        again.kept
    );
    // What is missing adds up until it is kept, however little it is.
    let little = [
        python(),
        "-c",
        "import json; print(json.dumps({'a': [1, 2.5]}, indent=1))",
    ];
    let first = cached.run(&[], &little);
    let runs = (0..200).map(|_| cached.run(&[], &little));
    let more = runs.take_while(|run| run.kept == first.kept).count();
    assert!((1..200).contains(&more), "{more} runs of {}", first.kept);
    assert_eq!(mixed.report, fresh.run(&[], &other).report);
    assert_eq!(mixed.report, again.report);
}

fn details() {
    let folder = folder();
    let cached = Cached::in_folder(folder.path());
    let options = ["--opcodes", "--functions", "--all"];
    let command = ["sh", "-c", "i=0; while [ $i -lt 100 ]; do i=$((i+1)); done"];
    let first = cached.run(&options, &command);
    let second = cached.run(&options, &command);
    assert!(first.kept == 0 && second.kept > 500);
    assert_eq!(first.report, second.report);
}

const THREADS: &str = r"
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include <sys/wait.h>
static volatile int caught;
static void handler(int signal) { caught += signal; }
static void *work(void *argument) {
    volatile long sum = 0;
    for (long i = 0; i < 1000; i++) sum += i;
    return argument;
}
int main(void) {
    signal(SIGUSR1, handler);
    for (int i = 0; i < 20; i++) raise(SIGUSR1);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], 0, work, 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
    pid_t child = fork();
    if (!child) { work(0); execl(SECOND, SECOND, (char *)0); _exit(1); }
    int status;
    waitpid(child, &status, 0);
    return caught == 20 * SIGUSR1 && status == 0 ? 0 : 1;
}
";

fn children() {
    let folder = folder();
    let cached = Cached::in_folder(folder.path());
    let program = compile(
        folder.path(),
        "threads.c",
        THREADS,
        &["-pthread", "-DSECOND=\"/bin/true\""],
    );
    let command = [program.to_str().unwrap()];
    let runs: Vec<Ran> = (0..4).map(|_| cached.run(&[], &command)).collect();
    for ran in &runs {
        assert_eq!(ran.report["outcome"], runs[0].report["outcome"]);
        assert_eq!(ran.report["exit_code"], runs[0].report["exit_code"]);
    }
    assert!(runs[0].kept == 0 && runs[1].kept > 300, "{}", runs[1].kept);
    // One file for each of both programs.
    assert_eq!(cached.files().len(), 2, "{:?}", cached.files());
}

/// A thread that computes while another sleeps, or one that sleeps alone.
const SLEEPER: &str = "import sys, time, threading
def work():
    sum(range(100000))
threads = [threading.Thread(target=work) for _ in sys.argv[2:]]
[thread.start() for thread in threads]
time.sleep(0.01)
[thread.join() for thread in threads]";

fn kinds() {
    let folder = folder();
    let cached = Cached::in_folder(folder.path());
    let program = folder.path().join("sleeper.py");
    fs::write(&program, SLEEPER).unwrap();
    let program = program.to_str().unwrap();
    let alone = || cached.run(&[], &[python(), program, "alone"]);
    let beside = || cached.run(&[], &[python(), program, "beside", "another"]);
    let first = [beside(), alone()];
    assert_eq!(first[0].kept, 0);
    assert!(
        first[1].timed,
        "what a command needs is not known before it has run"
    );
    // From then on each begins with code of its kind, in whatever order they come.
    for run in 0..3 {
        let again = [beside(), alone()];
        for (ran, first, timed) in [(&again[0], &first[0], true), (&again[1], &first[1], false)] {
            assert_eq!((ran.timed, &ran.report), (timed, &first.report), "{run}");
            assert!(ran.kept > 500, "{run}: {}", ran.kept);
        }
    }
    assert_eq!(cached.files().len(), 2, "{:?}", cached.files());
    // A command that was not run before is taken for one like the last.
    let other = cached.run(&[], &[python(), program, "other"]);
    assert!(other.kept > 500 && !other.timed);
}

fn damaged() {
    let folder = folder();
    let cached = Cached::in_folder(folder.path());
    let command = ["/bin/true"];
    let first = cached.run(&[], &command);
    let file = cached.files().remove(0);
    let whole = fs::read(&file).unwrap();
    let mut cases = vec![
        ("empty", Vec::new()),
        ("only a header", whole[..40].to_vec()),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("one byte short", whole[..whole.len() - 1].to_vec()),
        ("longer", [&whole[..], b"more"].concat()),
        (
            "nothing of ours",
            b"#!/bin/sh\necho this is no code cache\n".repeat(9),
        ),
    ];
    for at in (0..whole.len()).step_by(whole.len() / 20) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        cases.push(("a bit has changed", flipped));
    }
    for (name, bytes) in cases {
        fs::write(&file, bytes).unwrap();
        let ran = cached.run(&[], &command);
        assert_eq!((ran.kept, &ran.report), (0, &first.report), "{name}");
        assert_eq!(fs::read(&file).unwrap(), whole, "{name}: it is made anew");
    }
    assert!(cached.run(&[], &command).kept > 100);
}

/// Two programs that differ in one instruction, and in nothing that can be seen from outside.
fn program(folder: &Path, name: &str, steps: u32) -> PathBuf {
    let source = format!(
        "int main(void) {{ volatile int sum = 0; for (int i = 0; i < {steps}; i++) sum += i; return 0; }}"
    );
    compile(folder, name, &source, &["-O1", "-Wl,--build-id=none"])
}

fn changed() {
    let folder = folder();
    let cached = Cached::in_folder(folder.path());
    let (one, other) = (
        program(folder.path(), "a.c", 1000),
        program(folder.path(), "b.c", 3000),
    );
    let place = folder.path().join("program");
    let measure = |from: &Path, options: &[&str]| {
        fs::copy(from, &place).unwrap();
        let ran = cached.run(options, &[place.to_str().unwrap()]);
        ran.report["metrics"]["instructions"].as_u64().unwrap()
    };
    let (plain_one, plain_other) = (
        measure(&one, &["--no-code-cache"]),
        measure(&other, &["--no-code-cache"]),
    );
    assert!(plain_other > plain_one + 4000, "{plain_one} {plain_other}");
    for _ in 0..3 {
        assert_eq!(measure(&one, &[]), plain_one);
        assert_eq!(measure(&other, &[]), plain_other);
    }
    assert_eq!(cached.files().len(), 1, "both have the same name in it");
}

fn changed_library() {
    let folder = folder();
    let cached = Cached::in_folder(folder.path());
    let library = folder.path().join("libsteps.so");
    let make = |steps: u32| {
        let source = format!(
            "int steps(void) {{ volatile int sum = 0; for (int i = 0; i < {steps}; i++) sum += i; return sum; }}"
        );
        let flags = ["-O1", "-shared", "-fPIC", "-Wl,--build-id=none"];
        let made = compile(folder.path(), "steps.c", &source, &flags);
        fs::rename(made, &library).unwrap();
    };
    make(1000);
    let caller = "int steps(void); int main(void) { return steps() == 0; }";
    let at = format!("-L{}", folder.path().display());
    let path = format!("-Wl,-rpath,{}", folder.path().display());
    let program = compile(
        folder.path(),
        "caller.c",
        caller,
        &["-O1", "-Wl,--no-as-needed", &at, &path, "-lsteps"],
    );
    let measure = |options: &[&str]| cached.run(options, &[program.to_str().unwrap()]);
    let first = measure(&[]);
    let kept = measure(&[]);
    assert!(kept.kept > 100 && kept.report == first.report);
    make(3000);
    let changed = measure(&[]);
    assert!(changed.kept > 100, "what has not changed is used");
    let plain = measure(&["--no-code-cache"]);
    assert_eq!(changed.report["metrics"], plain.report["metrics"]);
    assert_ne!(changed.report["metrics"], first.report["metrics"]);
}

fn at_once() {
    let folder = folder();
    let cached = Cached::in_folder(folder.path());
    let start = || {
        let mut command = cached.command(&[], &["sort", "/etc/passwd"]);
        command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    for _ in 0..3 {
        let running: Vec<_> = (0..8).map(|_| start()).collect();
        let reports: Vec<_> = running
            .into_iter()
            .map(|child| child.wait_with_output().unwrap().stdout)
            .collect();
        for report in &reports {
            assert_eq!(
                String::from_utf8_lossy(report),
                String::from_utf8_lossy(&reports[0])
            );
        }
    }
    assert_eq!(cached.files().len(), 1);
}

fn foreign_folder() {
    let folder = folder();
    let cached = Cached::in_folder(folder.path());
    fs::create_dir(&cached.folder).unwrap();
    fs::set_permissions(&cached.folder, fs::Permissions::from_mode(0o777)).unwrap();
    for _ in 0..2 {
        assert_eq!(cached.run(&[], &["/bin/true"]).kept, 0);
    }
    assert!(cached.files().is_empty());
}

fn switched_off() {
    let folder = folder();
    let cached = Cached::in_folder(folder.path());
    assert_eq!(cached.run(&["--no-code-cache"], &["/bin/true"]).kept, 0);
    assert!(!cached.folder.exists());
    let left = cached.run(&[], &["/bin/true"]);
    let off = cached.run(&["--no-code-cache"], &["/bin/true"]);
    assert_eq!((off.kept, off.report), (0, left.report));
}
