//! Shims from end to end: fake programs written by hand or recorded from real ones, and every way of missing them.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use common::Need::{DefaultBackend, Program, Step};
use common::project::Project;
use common::{case, counterfoil, output, skipped, stderr, stdout};
use counterfoil::backend::{Detail, Settings};
use counterfoil::model::{Answer, BackendKind, Content, Network, Shim, Shown};
use counterfoil::supervise::choose::choose;
use counterfoil::supervise::{Input, Job, Output, measure};
use serde_json::Value;

fn main() -> ExitCode {
    let real = [DefaultBackend];
    let mut trials = vec![
        case(
            "a_shim_is_counted_the_same_by_step_and_engine",
            &[DefaultBackend, Step],
            a_shim_is_counted_the_same_by_step_and_engine,
        ),
        case(
            "calls_are_answered_and_counted",
            &real,
            calls_are_answered_and_counted,
        ),
        case(
            "a_recording_replays_without_the_real_program",
            &real,
            a_recording_replays_without_the_real_program,
        ),
        case(
            "a_recording_of_git_replays_in_another_repository",
            &[DefaultBackend, Program("git")],
            a_recording_of_git_replays_in_another_repository,
        ),
        case(
            "a_call_that_nobody_recorded_fails_even_when_it_is_swallowed",
            &real,
            a_call_that_nobody_recorded_fails_even_when_it_is_swallowed,
        ),
        case(
            "a_call_by_path_past_a_shim_fails_with_path_and_caller",
            &real,
            a_call_by_path_past_a_shim_fails_with_path_and_caller,
        ),
        case(
            "an_answer_that_changes_between_calls_is_not_recorded",
            &real,
            an_answer_that_changes_between_calls_is_not_recorded,
        ),
        case(
            "a_real_program_that_is_not_there_is_named",
            &real,
            a_real_program_that_is_not_there_is_named,
        ),
        case(
            "two_commands_take_turns_with_the_shims_of_one_case",
            &real,
            two_commands_take_turns_with_the_shims_of_one_case,
        ),
        case(
            "bad_shims_are_named_with_their_place",
            &[],
            bad_shims_are_named_with_their_place,
        ),
        case(
            "a_damaged_recording_is_named_with_its_place",
            &real,
            a_damaged_recording_is_named_with_its_place,
        ),
        case(
            "the_report_splits_the_instructions_of_a_tree",
            &real,
            the_report_splits_the_instructions_of_a_tree,
        ),
    ];
    trials.push(match mounts() {
        Ok(()) => case(
            "a_full_disk_leaves_the_old_files_whole",
            &real,
            a_full_disk_leaves_the_old_files_whole,
        ),
        Err(why) => skipped("a_full_disk_leaves_the_old_files_whole", why),
    });
    common::run(trials)
}

/// Whether a small file system can be mounted here.
fn mounts() -> Result<(), String> {
    let mut command = Command::new("unshare");
    command.args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]);
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(stderr(&output).trim().to_owned()),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

/// The only row of `check --json`.
fn row(project: &Project, code: i32) -> Value {
    let report = project.json(code, &["check"]);
    report["workloads"][0].clone()
}

/// A workload that is a script, with its output as a snapshot.
fn scripted(shim: &str, script: &str) -> Project {
    let lines = "shims = [\"uv\"]\nsnapshot = { stdout = true }\n";
    Project::scripted(shim, lines, script)
}

fn a_shim_is_counted_the_same_by_step_and_engine() {
    let answer = |args: &[&str]| Answer {
        args: Some(args.iter().map(|arg| (*arg).to_owned()).collect()),
        stdout: Content(b"uv 1\n".to_vec()),
        ..Answer::default()
    };
    let job = Job {
        disturbance: None,
        command: ["env", "uv", "--version"].map(Into::into).to_vec(),
        env: Vec::new(),
        cwd: None,
        input: Input::Null,
        output: Output::Keep,
        pin: true,
        own_session: true,
        seed: 0x51_5449,
        cpu: 0,
        timeout: Some(Duration::from_secs(100)),
        runs: 2,
        detail: Detail::default(),
        project: None,
        subject: Vec::new(),
        facts: Vec::new(),
        shown: Shown::default(),
        network: Network::Host,
        services: Vec::new(),
        exit: Some(0),
        shims: vec![Shim {
            name: "uv".to_owned(),
            recorded: false,
            answers: vec![answer(&["other"]), answer(&["--version"])],
        }],
    };
    let counts = [BackendKind::Step, BackendKind::Dbi].map(|backend| {
        let chosen = choose(Some(backend), Detail::default(), &[], &Settings::default()).unwrap();
        let measured = measure(&job, &chosen).unwrap();
        assert_eq!(measured.written[0].stdout, b"uv 1\n");
        assert_eq!(measured.measurement.shims["uv"], 1);
        assert!(measured.measurement.repeats.agree);
        let programs = measured.measurement.processes;
        let shim = programs
            .iter()
            .find(|program| program.program.ends_with("/bin/uv"));
        shim.unwrap().instructions
    });
    // Counted by hand in `src/sys/answer/x86_64.s`: 40 to the second answer, 39 to note the call, 29 to write and end.
    assert_eq!(counts, [Some(108), Some(108)]);
}

fn calls_are_answered_and_counted() {
    let shim = r#"
        [shim.uv]
        stderr = "uv: anything\n"
        exit = 7
        [[shim.uv.call]]
        args = ["lock", "a b"]
        stdout = "locked\n"
        files = { "deep/uv.lock" = "version = 1\n" }
    "#;
    let project = scripted(
        shim,
        "uv lock 'a b'; cat deep/uv.lock; uv x 2>&1; echo $?; uv; cd deep; uv lock 'a b'; ls\n",
    );
    project.expect(0, &["record"]);
    let written = "locked\nversion = 1\nuv: anything\n7\nlocked\ndeep\nuv.lock\n";
    assert_eq!(project.read("baselines/w/stdout"), written);
    let row = row(&project, 0);
    assert_eq!(row["shims"]["uv"], 4);
    let report = project.expect(0, &["check"]);
    assert!(report.contains("    shims: uv 4 calls\n"), "{report}");
}

const RECORD: &str = "[shim.uv]\nrecord = true\nfiles = [\"uv.lock\"]\n";

fn a_recording_replays_without_the_real_program() {
    let project = scripted(
        RECORD,
        "uv lock a; cat uv.lock; rm uv.lock; uv nope || echo $?; uv lock a\n",
    );
    project.program(
        "uv",
        "[ $1 = lock ] && { echo locked; echo v1 > uv.lock; exit; }; echo bad $* >&2; exit 3\n",
    );
    let missing = project.expect(4, &["check"]);
    assert!(
        missing.contains(
            "shim `uv` has no recording here; run `counterfoil record`, which calls the real `uv`"
        ),
        "{missing}"
    );
    project.expect(0, &["record"]);
    let recording = project.read("baselines/w/shim-uv.json");
    assert_eq!(recording.matches("\"args\"").count(), 2, "{recording}");
    assert!(
        recording.contains("\"v1\\n\"") && recording.contains("\"exit\": 3"),
        "{recording}"
    );
    project.without_program("uv");
    let row = row(&project, 0);
    assert_eq!(
        (&row["verdict"], &row["shims"]["uv"]),
        (&"identical".into(), &3.into())
    );
    assert_eq!(
        project.read("baselines/w/stdout"),
        "locked\nv1\n3\nlocked\n"
    );
    // Without the shim in the manifest, its recording goes.
    project.write(
        "counterfoil.toml",
        "[[workload]]\nname = \"w\"\ncommand = [\"true\"]\n",
    );
    project.expect(0, &["record"]);
    assert!(!project.path().join("baselines/w").exists());
}

fn a_recording_of_git_replays_in_another_repository() {
    let project = Project::new(
        "[shim.git]\nrecord = true\n[[workload]]\nname = \"w\"\ncommand = [\"sh\", \"-c\", \"git log --oneline; git status --short\"]\nshims = [\"git\"]\nsnapshot = { stdout = true }\n",
    );
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
        let mut git = Command::new("git");
        git.current_dir(project.path())
            .args(identity)
            .args(arguments);
        assert!(output(&mut git).status.success(), "git {arguments:?}");
    };
    git(&["init", "-q"]);
    git(&["commit", "-q", "--allow-empty", "-m", "the first"]);
    project.expect(0, &["record"]);
    let before = project.read("baselines/w/stdout");
    assert!(
        before.contains("the first\n?? counterfoil.toml\n"),
        "{before}"
    );
    git(&["commit", "-q", "--allow-empty", "-m", "the second"]);
    let row = row(&project, 0);
    assert_eq!(
        (&row["verdict"], &row["shims"]["git"]),
        (&"identical".into(), &2.into())
    );
}

fn a_call_that_nobody_recorded_fails_even_when_it_is_swallowed() {
    let project = scripted(RECORD, "uv \"$(cat what)\" 2>/dev/null || true\n");
    project.program("uv", "exit 0\n");
    project.write("what", "sync");
    project.expect(0, &["record"]);
    project.write("what", "sync it's");
    let report = project.expect(4, &["check"]);
    let said = r"shim `uv` has no answer to the arguments `'sync it'\''s'`; nobody recorded that call: run `counterfoil record`";
    assert!(report.contains(said), "{report}");
    let canned = scripted("[shim.uv]\n[[shim.uv.call]]\nargs = []\n", "uv x || true\n");
    let report = canned.expect(4, &["record"]);
    assert!(
        report.contains("add a `[[shim.uv.call]]` with these `args`"),
        "{report}"
    );
}

fn a_call_by_path_past_a_shim_fails_with_path_and_caller() {
    let project = scripted("[shim.uv]\nexit = 0\n", "");
    let real = project.program("uv", "exit 0\n");
    project.write("w.sh", &format!("uv; {} || true\n", real.display()));
    let report = project.expect(4, &["check"]);
    let said = format!("`{}` was executed by `", real.display());
    assert!(
        report.contains(&said) && report.contains("past the shim `uv`"),
        "{report}"
    );
    // A path that leads to the shim is fine.
    project.write("w.sh", "$(command -v uv)\n");
    project.expect(0, &["check"]);
}

fn an_answer_that_changes_between_calls_is_not_recorded() {
    let project = scripted(RECORD, "uv count; uv count\n");
    project.program("uv", "echo x >> calls; wc -l < calls\n");
    let report = project.expect(4, &["record"]);
    let said = "record shim `uv`: two calls with the arguments `count` had different answers";
    assert!(report.contains(said), "{report}");
    assert!(!project.path().join("baselines").exists());
}

fn a_real_program_that_is_not_there_is_named() {
    let project = scripted("[shim.no-such-program-at-all]\nrecord = true\n", "");
    let manifest = project
        .read("counterfoil.toml")
        .replace("[\"uv\"]", "[\"no-such-program-at-all\"]");
    project.write("counterfoil.toml", &manifest);
    let report = project.expect(4, &["record"]);
    let said = "record shim `no-such-program-at-all`: its real program is needed once: program `no-such-program-at-all` was not found in PATH";
    assert!(report.contains(said), "{report}");
}

fn two_commands_take_turns_with_the_shims_of_one_case() {
    let project = scripted("[shim.uv]\nstdout = \"x\\n\"\n", "uv; sleep 0.3; uv\n");
    project.expect(0, &["record"]);
    let started: Vec<_> = (0..3)
        .map(|_| {
            let mut command = counterfoil(&["check"]);
            project.surround(&mut command);
            command
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in started {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
        assert!(
            stdout(&output).starts_with("verdict"),
            "{}",
            stdout(&output)
        );
    }
    project.assert_clean();
}

fn bad_shims_are_named_with_their_place() {
    let manifest = r#"
[shim.uv]
exit = 256
[shim."a/b"]
exit = 0
[shim.empty]
[shim.both]
record = true
stdout = "x"
[shim.twice]
[[shim.twice.call]]
args = ["x"]
[[shim.twice.call]]
args = ["x"]
[[shim.twice.call]]
stdot = "x"
[[workload]]
name = "w"
command = ["empty"]
shims = ["twise", "other-thing", "empty"]
"#;
    let project = Project::new(manifest);
    let report = project.expect(2, &["list"]);
    for said in [
        ":3:8: `exit` is out of range",
        ":4:7: `a/b` cannot be a shim's name",
        ":6:1: shim `empty` has no answer; add `exit = 0`",
        ":9:10: `stdout` beside `record = true`",
        ":14:8: an earlier call has the same `args`",
        ":15:1: call without `args`",
        ":16:1: unknown key `stdot`; did you mean `stdout`?",
        ":20:10: unknown shim `twise`; did you mean `twice`?",
        ":20:19: unknown shim `other-thing`; add a `[shim.other-thing]` table",
        ":20:9: `empty` is the workload's own program",
    ] {
        assert!(report.contains(said), "{said}\n{report}");
    }
}

fn a_damaged_recording_is_named_with_its_place() {
    let project = scripted(RECORD, "uv\n");
    project.program("uv", "exit 0\n");
    project.expect(0, &["record"]);
    project.write("baselines/w/shim-uv.json", "{\n");
    let report = project.expect(2, &["check"]);
    assert!(
        report.contains("baselines/w/shim-uv.json:1:2: damaged recording: EOF")
            || report.contains("baselines/w/shim-uv.json:2:1: damaged recording: EOF"),
        "{report}"
    );
}

fn the_report_splits_the_instructions_of_a_tree() {
    let report = common::count_json(&[
        "--backend",
        "dbi",
        "--",
        "sh",
        "-c",
        "/bin/true; exec /bin/true",
    ]);
    let programs = report["processes"].as_array().unwrap();
    let sum = |own: bool| -> u64 {
        let of = |program: &&Value| {
            (program["index"] == 0 || program["parent"] == 0 && program["replaces"] == true) == own
        };
        programs
            .iter()
            .filter(of)
            .map(|program| program["instructions"].as_u64().unwrap())
            .sum()
    };
    assert_eq!(report["split"]["own"], sum(true), "{report:#}");
    assert_eq!(report["split"]["children"], sum(false), "{report:#}");
    assert_eq!(report["split"]["processes"], 1);
    let alone = common::count_json(&["--backend", "dbi", "--", "/bin/true"]);
    assert!(alone.get("split").is_none());
}

fn a_full_disk_leaves_the_old_files_whole() {
    let project = scripted(RECORD, "uv \"$(cat what)\"\n");
    project.program("uv", "echo one; echo two\n");
    project.write("what", "a");
    let script = r#"
        mount -t tmpfs -o size=128k none baselines && "$0" record -q && cp -r baselines before || exit 99
        head -c 1000000 /dev/zero > baselines/filler
        head -c 20000 /dev/zero | tr '\0' x > what
        "$0" record; echo "record: $?"
        "$0" snapshot accept; echo "accept: $?"
        diff -r -x filler before baselines && echo intact
        ls -A baselines | grep tmp && echo leftover
        mount -t tmpfs -o size=4k none small; head -c 9000 /dev/zero > small/filler
        rm baselines/filler; printf a > what
        TMPDIR=$PWD/small "$0" check; echo "check: $?"
    "#;
    for name in ["baselines", "small"] {
        fs::create_dir(project.path().join(name)).unwrap();
    }
    let mut command = Command::new("unshare");
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_counterfoil"));
    command
        .args(["-rm", "sh", "-c", script])
        .arg(binary)
        .env("NO_COLOR", "1");
    project.surround(&mut command);
    let output = output(&mut command);
    let text = format!("{}{}", stdout(&output), stderr(&output));
    assert!(text.contains("record: 2\n"), "{text}");
    assert!(text.contains("No space left on device"), "{text}");
    assert!(
        text.contains("intact\n") && !text.contains("leftover"),
        "{text}"
    );
    assert!(text.contains("check: 4\n"), "{text}");
}
