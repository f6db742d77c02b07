//! The machine that programs are shown under `dbi`: the same on every run, whatever this one is.

mod common;

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use common::Need::{Program, Step};
use common::{
    Need, case, compile, compile_small, count_in, counterfoil, folder, instructions, output,
    skipped, stderr, stdout, write,
};
use libtest_mimic::Trial;

fn main() -> ExitCode {
    let cases: [(&'static str, fn()); 7] = [
        (
            "what_the_machine_is_asked_has_the_same_answers_in_every_run",
            same_answers,
        ),
        ("the_cpu_is_the_one_that_was_asked_for", models),
        ("a_program_built_for_a_model_runs_on_it", executes),
        ("time_and_cpu_are_the_real_ones_when_asked_for", real_ones),
        ("a_loop_that_waits_for_the_clock_ends", waits_for_clock),
        ("other_backends_refuse_another_machine", other_backends),
        ("names_of_machines_are_checked", names),
    ];
    let trials = cases.map(|(name, body)| case(name, &[Need::Step, Need::Program("gcc")], body));
    let ids = [
        needs_namespaces(
            "process_ids_are_the_same_in_every_run",
            &[Step, Program("musl-gcc")],
            same_ids,
        ),
        needs_namespaces(
            "process_ids_are_the_same_in_runs_side_by_side",
            &[Step],
            same_ids_side_by_side,
        ),
        needs_namespaces(
            "process_ids_are_the_same_without_root",
            &[Step, Program("setpriv")],
            same_ids_without_root,
        ),
        needs_namespaces(
            "maps_are_found_by_the_ids_that_programs_know",
            &[Step],
            maps_by_id,
        ),
        needs_root(
            "what_a_run_reads_does_not_look_read_to_the_next",
            &[Step],
            leaves_times_of_access,
        ),
        needs_root(
            "another_user_is_shown_the_same_machine",
            &[Step, Program("setpriv"), Program("python3")],
            same_machine_for_another_user,
        ),
        needs_namespaces(
            "root_is_who_all_programs_are_that_are_to_be_root",
            &[Step, Program("setpriv")],
            root_is_who_all_are,
        ),
        needs_namespaces(
            "a_user_that_is_refused_is_named_as_not_pinned",
            &[Step],
            refused_user,
        ),
        needs_namespaces(
            "process_ids_that_are_refused_are_named_as_not_pinned",
            &[Step],
            refused_ids,
        ),
        case(
            "a_program_on_a_terminal_has_process_ids_of_the_machine",
            &[Step, Program("script")],
            ids_on_a_terminal,
        ),
    ];
    common::run(trials.into_iter().chain(ids).collect())
}

/// A test for where the kernel gives namespaces to users.
fn needs_namespaces(name: &'static str, needs: &[Need], body: fn()) -> Trial {
    let made = Command::new("unshare")
        .args(["-r", "--pid", "--fork", "--mount-proc", "true"])
        .output();
    match made {
        Ok(made) if made.status.success() => case(name, needs, body),
        Ok(made) => skipped(name, format!("no namespaces: {}", stderr(&made).trim())),
        Err(error) => skipped(name, format!("no unshare: {error}")),
    }
}

/// Of a kind that only root can mount.
fn needs_root(name: &'static str, needs: &[Need], body: fn()) -> Trial {
    match nix::unistd::geteuid().is_root() {
        true => needs_namespaces(name, needs, body),
        false => skipped(name, "not root".to_owned()),
    }
}

/// The program that asks for everything, in a folder with some files.
fn asks(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine/asks.c");
    let program = folder.join("asks");
    let built = Command::new("gcc")
        .args(["-O1", "-pthread", "-mrdrnd", "-mrdseed", "-o"])
        .args([&program, &source])
        .status()
        .unwrap();
    assert!(built.success());
    for name in ["zebra", "ape", "mouse", "cat"] {
        fs::write(folder.join(name), name).unwrap();
    }
    program
}

fn counted(folder: &Path, options: &[&str], program: &Path) -> (String, u64) {
    let count = ["count", "--backend", "dbi"];
    let program = program.to_str().unwrap();
    let mut command = counterfoil(&[&count, options, &["--", program]].concat());
    command.current_dir(folder);
    let ran = output(&mut command);
    assert!(ran.status.success(), "{}", stderr(&ran));
    (stdout(&ran), common::count_in(&stderr(&ran)))
}

fn line<'t>(text: &'t str, start: &str) -> &'t str {
    let mut lines = text.lines();
    lines
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no line `{start}`: {text}"))
}

fn same_answers() {
    let folder = folder();
    let program = asks(folder.path());
    let first = counted(folder.path(), &[], &program);
    for _ in 0..4 {
        assert_eq!(counted(folder.path(), &[], &program), first);
    }
    let answers = first.0;
    for (start, expected) in [
        ("ids", "ids 2 of 0, thread 2, group 0, session 0"),
        ("thread", "thread 3"),
        ("child", "child 4 of 2"),
        ("waited", "waited for 4"),
        ("/proc/self 2", "/proc/self 2"),
        ("/proc/1/cmdline", "/proc/1/cmdline: counterfoil"),
        ("clock 0", "clock 0 1767225600.000"),
        ("clock 1 ", "clock 1 900.000"),
        ("policy", "policy 0, of its parent 0"),
        ("cpus", "cpus 1 1 1 on 0"),
        ("uname", "uname Linux counterfoil"),
        ("timer", "timer 1, due: 1"),
        ("bad pointer", "bad pointer: Bad address"),
        ("bad clock", "bad clock: Invalid argument"),
        ("/sys/devices", "/sys/devices/system/cpu/online: 0"),
    ] {
        assert!(line(&answers, start).starts_with(expected), "{answers}");
    }
    let entries: Vec<&str> = answers
        .lines()
        .filter(|l| l.starts_with("entry "))
        .collect();
    assert!(entries.is_sorted() && entries.len() == 7, "{entries:?}");
    let seconds = |start| -> f64 {
        let text = line(&answers, start).rsplit(' ').next().unwrap();
        text.parse().unwrap()
    };
    for (before, after, slept) in [
        ("before", "after usleep", 0.02),
        ("after usleep", "after a moment", 0.03),
        ("after a moment", "after poll", 0.01),
    ] {
        let took = seconds(after) - seconds(before);
        assert!((slept..slept + 0.001).contains(&took), "{before}: {took}");
    }
}

/// Whether this machine can stand in for a model.
fn has(flag: &str) -> bool {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|one| one == flag))
}

fn models() {
    let folder = folder();
    let program = asks(folder.path());
    for (model, needs, features) in [
        ("x86-64-v2", "sse4_2", "cpuid 7.0 00000000 00000000"),
        ("x86-64-v3", "avx2", "cpuid 7.0 00000000 00000128"),
        ("x86-64-v4", "avx512vl", "cpuid 7.0 00000000 d0030128"),
    ] {
        if has(needs) {
            let (answers, _) = counted(folder.path(), &["--cpu", model], &program);
            assert!(
                line(&answers, "cpuid 7.0").starts_with(features),
                "{answers}"
            );
            let name = format!("/proc/cpuinfo: model name\t: Counterfoil {model}");
            assert!(answers.contains(&name), "{answers}");
        } else {
            let refused = output(&mut counterfoil(&["count", "--cpu", model, "--", "true"]));
            let error = stderr(&refused);
            assert!(
                error.contains("cannot stand in for") && error.contains("host"),
                "{error}"
            );
        }
    }
}

/// Libraries choose by the model: with AVX-512 other code is executed than without, where this machine has it.
fn executes() {
    let models: &[&str] = match has("avx512vl") {
        true => &["x86-64-v2", "x86-64-v3", "x86-64-v4"],
        false => &["x86-64-v2", "x86-64-v3"],
    };
    let counts: Vec<u64> = models
        .iter()
        .map(|model| {
            let ran = output(&mut counterfoil(&[
                "count",
                "--json",
                "--backend",
                "dbi",
                "--cpu",
                model,
                "--",
                "git",
                "--version",
            ]));
            assert!(ran.status.success(), "{}", stderr(&ran));
            instructions(&serde_json::from_str(&stdout(&ran)).unwrap())
        })
        .collect();
    assert!(
        counts.windows(2).all(|pair| pair[0] != pair[1]),
        "{counts:?}"
    );
}

fn real_ones() {
    let folder = folder();
    let program = asks(folder.path());
    let (answers, _) = counted(
        folder.path(),
        &["--cpu", "host", "--time", "real"],
        &program,
    );
    let text = line(&answers, "clock 0").rsplit(' ').next().unwrap();
    let shown: f64 = text.parse().unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!((now.as_secs_f64() - shown).abs() < 60.0, "{shown}");
    assert!(!answers.contains("Counterfoil x86-64"), "{answers}");
}

/// It reads the clock so often that most readings are not exact.
fn waits_for_clock() {
    let folder = folder();
    let program = compile(
        folder.path(),
        "spin.c",
        "int main(void) { struct timespec a, b; clock_gettime(CLOCK_MONOTONIC, &a);
           do clock_gettime(CLOCK_MONOTONIC, &b); while (b.tv_sec - a.tv_sec < 1 || b.tv_nsec < a.tv_nsec);
           return 0; }",
        &["-include", "time.h"],
    );
    let first = counted(folder.path(), &[], &program);
    assert_eq!(counted(folder.path(), &[], &program), first);
}

fn other_backends() {
    for (option, value) in [("--cpu", "x86-64-v2"), ("--time", "virtual")] {
        let refused = output(&mut counterfoil(&[
            "count", "-b", "step", option, value, "--", "true",
        ]));
        assert_eq!(refused.status.code(), Some(125));
        let error = stderr(&refused);
        assert!(error.contains("only `dbi`"), "{error}");
    }
    let ran = output(&mut counterfoil(&["count", "-b", "step", "--", "true"]));
    let report = stderr(&ran);
    assert!(
        report.contains("CPU model") && report.contains("as it is"),
        "{report}"
    );
}

fn names() {
    for (option, value, names) in [
        ("--cpu", "haswell", "x86-64-v3"),
        ("--time", "fast", "virtual"),
    ] {
        let refused = output(&mut counterfoil(&["count", option, value, "--", "true"]));
        let error = stderr(&refused);
        assert!(error.contains(value) && error.contains(names), "{error}");
    }
}

/// A shell, a child of it and one without a parent tell who they are.
const FAMILY: &str = "echo $$ $PPID; sh -c 'echo $$ $PPID; (sh -c \"echo \\$\\$ >&2\") 2>&1'";

/// The same family in C, for `step`, which takes ten seconds for the shells.
const SMALL_FAMILY: &str = r#"
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int count, char **words) {
    static char *const child[] = {"family", "child", 0}, *const last[] = {"family", "child", "of", 0};
    if (count < 3) {
        printf("%d %d\n", getpid(), getppid());
        fflush(stdout);
        if (fork() == 0) execv("/proc/self/exe", count == 1 ? child : last);
        wait(0);
    } else printf("%d\n", getpid());
    return 0;
}
"#;

/// What they say in a namespace where they are the first.
const NUMBERED: &str = "2 0\n3 2\n4\n";

/// What the family writes, its count, and whether its ids were pinned.
fn family(
    command: &mut Command,
    backend: &str,
    words: &[&str],
) -> (String, u64, serde_json::Value) {
    let count = ["count", "--json", "-b", backend, "--"];
    let ran = output(command.args(count).args(words));
    assert!(ran.status.success(), "{}", stderr(&ran));
    let report: serde_json::Value = serde_json::from_str(&stdout(&ran)).unwrap();
    let state = report["pinned"]["process-ids"].clone();
    (stderr(&ran), instructions(&report), state)
}

fn same_ids() {
    let folder = folder();
    let small = compile_small(folder.path(), "family.c", SMALL_FAMILY, &[]);
    let small = small.to_str().unwrap();
    for (backend, words) in [("dbi", &["sh", "-c", FAMILY][..]), ("step", &[small])] {
        let again = || family(&mut counterfoil(&[]), backend, words);
        let first = again();
        assert_eq!(first.0, NUMBERED, "{backend}");
        assert_eq!(first.2["state"], "pinned", "{backend}");
        for _ in 0..9 {
            assert_eq!(again(), first, "{backend}");
        }
    }
}

fn same_ids_side_by_side() {
    let folder = folder();
    let workload = |name| {
        format!(
            "[[workload]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", \"echo $$; sleep 0.1; sh -c 'echo $$; cat /proc/self/mountinfo'\"]\nsnapshot = {{ stdout = true }}\n"
        )
    };
    let manifest = ["a", "b", "c", "d"].map(workload).join("");
    let manifest = format!("[suite]\nrepeat = 3\njobs = 4\n{manifest}");
    write(folder.path(), "counterfoil.toml", &manifest);
    for (command, says) in [("record", "4 baselines written"), ("check", "4 identical")] {
        let ran = output(counterfoil(&[command]).current_dir(folder.path()));
        assert!(
            stdout(&ran).contains(says),
            "{}{}",
            stdout(&ran),
            stderr(&ran)
        );
    }
}

/// A folder that everybody may enter, with our binary: users may not see the folder that it is in.
fn open_folder() -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let readable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), readable).unwrap();
    let program = folder.path().join("counterfoil");
    fs::copy(env!("CARGO_BIN_EXE_counterfoil"), &program).unwrap();
    (folder, program)
}

/// `program` as nobody; as whoever runs the tests, if that is not root.
fn nobody(program: &Path) -> Command {
    let mut command = match nix::unistd::geteuid().is_root() {
        true => Command::new("setpriv"),
        false => return Command::new(program),
    };
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .env_remove("COUNTERFOIL_CACHE_DIR")
        .env("HOME", "/nonexistent");
    command
}

fn same_ids_without_root() {
    let (_folder, program) = open_folder();
    let nobody = || nobody(&program);
    let words = ["sh", "-c", FAMILY];
    let dbi = || family(nobody().stdin(std::process::Stdio::null()), "dbi", &words);
    let first = dbi();
    assert_eq!(first.0, NUMBERED);
    assert_eq!(first.2["state"], "pinned");
    assert_eq!(dbi(), first);
}

/// The engine shows its programs other maps than the kernel would, for which it must know whose they are.
fn maps_by_id() {
    let script = "sleep 100 & cat /proc/$$/maps /proc/$!/maps /proc/self/maps; kill $!";
    let ran = output(&mut counterfoil(&[
        "count", "-b", "dbi", "--", "sh", "-c", script,
    ]));
    let maps = stdout(&ran);
    let executable = |of: &str| {
        let mut lines = maps.lines();
        lines.any(|line| line.contains(" r-xp ") && line.ends_with(of))
    };
    assert!(!maps.contains("memfd:counterfoil"), "{maps}");
    for program in ["/dash", "/cat", "/sleep"] {
        let shown = maps.contains(program);
        assert_eq!(executable(program), shown, "{program}: {maps}");
    }
    assert!(executable("/cat") && executable("/sleep"), "{maps}");
}

/// What programs ask to know who they are and whose a file is, by number and by name.
const WHO: &str = "id -u; id -gn; stat -c '%u %G' \"$0\"; echo $USER";

/// Root and another user, to each of whom the same file belongs in turn.
fn root_is_who_all_are() {
    let (_folder, program) = open_folder();
    let who = |mut command: Command, user: &str| {
        let words = ["count", "-b", "dbi", "--user", user, "--", "sh", "-c", WHO];
        command.args(words).arg(&program);
        // Folders that only root may enter stay closed to others.
        command
            .env("HOME", "/nonexistent")
            .env("PATH", "/usr/bin:/bin");
        command
            .env_remove("LD_LIBRARY_PATH")
            .env("COUNTERFOIL_CACHE_DIR", "");
        let ran = output(command.stdin(Stdio::null()));
        assert!(ran.status.success(), "{}", stderr(&ran));
        let named = stderr(&ran).contains(", user\n");
        (stdout(&ran), count_in(&stderr(&ran)), named)
    };
    let ours = who(Command::new(&program), "root");
    assert_eq!(ours.0, "0\nroot\n0 root\nroot\n");
    assert!(ours.2);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&program, Some(65534), Some(65534)).unwrap();
    }
    assert_eq!(who(nobody(&program), "root"), ours);
    let as_they_are = who(nobody(&program), "host");
    assert!(!as_they_are.2 && !as_they_are.0.starts_with("0\n"));
}

/// A refusal and its remedy are in the report.
#[track_caller]
fn tells(ran: &std::process::Output, refusal: &str, remedy: &str) {
    let report = stderr(ran);
    assert!(
        report.contains(refusal) && report.contains(remedy),
        "{report}"
    );
}

fn refused_user() {
    let limit = "echo 0 > /proc/sys/user/max_user_namespaces";
    let ours = env!("CARGO_BIN_EXE_counterfoil");
    let script = format!("{limit}; exec {ours} count -b dbi --user root -- id -u");
    let ran = output(
        Command::new("unshare")
            .args([
                "--user",
                "--keep-caps",
                "--map-user=1000",
                "--map-group=1000",
            ])
            .args(["sh", "-c", &script])
            .stdin(Stdio::null()),
    );
    assert_eq!(stdout(&ran), "1000\n", "{}", stderr(&ran));
    tells(
        &ran,
        "user: the kernel refuses a user namespace here",
        "user.max_user_namespaces",
    );
}

/// What a user may not open that counts as another than started the run is handed over, as if it had been opened.
fn same_machine_for_another_user() {
    let asks = "import os
before = len(os.listdir('/proc/self/fd'))
first = os.dup(0)
os.close(first)
for name, flags in ('/proc/cpuinfo', os.O_CLOEXEC), ('/proc/meminfo', 0), ('/dev/urandom', 0):
    file = os.open(name, os.O_RDONLY | flags)
    print(file - first, os.read(file, 16))
    os.close(os.dup(file))
print(os.getuid(), len(os.listdir('/proc/self/fd')) - before)
try: os.open('/proc/cpuinfo', os.O_WRONLY)
except PermissionError: print('only root may write')";
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let words = nobody.split(' ').chain(["/usr/bin/python3", "-c", asks]);
    let words: Vec<&str> = ["count", "--"].into_iter().chain(words).collect();
    let ran = output(counterfoil(&words).current_dir("/"));
    assert!(ran.status.success(), "{}", stderr(&ran));
    let shown = stdout(&ran);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "0 b'processor\\t: 0\\nve'");
    assert_eq!(lines[1], "1 b'MemTotal:       '");
    assert!(lines[2].starts_with("2 b"), "{shown}");
    assert_eq!(lines[3], "65534 3");
    assert_eq!(lines[4], "only root may write");
    let again = output(counterfoil(&words).current_dir("/"));
    assert_eq!(stdout(&again), shown);
}

fn leaves_times_of_access() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "#!/bin/sh\ncat \"$0\" >/dev/null\nstat -c %X \"$0\"").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let times = FileTimes::new().set_accessed(long_ago);
    File::open(&file).unwrap().set_times(times).unwrap();
    // The file is looked at before the run, executed and read in it, and named in the report after it.
    for _ in 0..2 {
        let ran = output(&mut counterfoil(&["count", "--", file.to_str().unwrap()]));
        assert_eq!(stdout(&ran), "1000000\n", "{}", stderr(&ran));
    }
    let accessed = file.metadata().unwrap().accessed();
    assert_eq!(accessed.unwrap(), long_ago);
}

fn refused_ids() {
    let limit = "echo 0 > /proc/sys/user/max_pid_namespaces";
    let ours = env!("CARGO_BIN_EXE_counterfoil");
    let script = format!("{limit}; exec {ours} count -b dbi -- sh -c 'echo $PPID'");
    let ran = output(
        Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", &script])
            .stdin(std::process::Stdio::null()),
    );
    assert!(ran.status.success(), "{}", stderr(&ran));
    assert_ne!(stdout(&ran), "0\n");
    tells(
        &ran,
        "process ids: the kernel refuses a PID namespace here",
        "user.max_pid_namespaces",
    );
}

fn ids_on_a_terminal() {
    let ours = env!("CARGO_BIN_EXE_counterfoil");
    let command = format!("{ours} count -b dbi -- sh -c 'echo parent $PPID'");
    let ran = output(
        Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(std::process::Stdio::null()),
    );
    let shown = stdout(&ran);
    let parent = line(&shown, "parent").trim();
    assert_ne!(parent, "parent 0", "{shown}");
    assert!(shown.contains("process ids: job control"), "{shown}");
}
