//! What `record` writes, replaces, drops and keeps.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::common::Need::{DefaultBackend, Program};
use crate::common::{case, output, stderr, stdout};
use crate::project::{Project, contains, scripted, shell, spawn_by, workload};

pub fn cases() -> Vec<Trial> {
    vec![
        case(
            "recording_again_writes_nothing",
            &[],
            recording_again_writes_nothing,
        ),
        case("a_dry_run_writes_nothing", &[], a_dry_run_writes_nothing),
        case("record_says_what_changes", &[], record_says_what_changes),
        case(
            "the_baselines_of_the_assembly_programs_are_what_their_sources_state",
            &[],
            the_baselines_of_the_assembly_programs_are_what_their_sources_state,
        ),
        case(
            "what_is_not_selected_keeps_its_baseline",
            &[],
            what_is_not_selected_keeps_its_baseline,
        ),
        case(
            "what_the_manifest_lost_goes_with_its_snapshots",
            &[],
            what_the_manifest_lost_goes_with_its_snapshots,
        ),
        case(
            "record_keeps_what_it_could_not_measure",
            &[],
            record_keeps_what_it_could_not_measure,
        ),
        case(
            "variables_of_another_user_are_named_where_a_count_moves",
            &[],
            variables_of_another_user_are_named_where_a_count_moves,
        ),
        case(
            "every_shell_and_service_counts_the_same",
            &[DefaultBackend, Program("python3")],
            every_shell_and_service_counts_the_same,
        ),
    ]
}

fn variables_of_another_user_are_named_where_a_count_moves() {
    let project = Project::fake(&workload("a", "true", ""), &scripted(&[1000]));
    let at_home = |home: &str, arguments: &[&str]| {
        let run = output(project.command(arguments).env("HOME", home));
        assert!(run.status.success(), "{}", stderr(&run));
        stdout(&run)
    };
    at_home("/one", &["record"]);
    let first = project.baselines();
    contains(&at_home("/two", &["record"]), &["unchanged"]);
    assert_eq!(project.baselines(), first, "it did not matter");

    project.counts(&scripted(&[1001]));
    let unnamed = "something that no fingerprint names moved the count";
    contains(&at_home("/one", &["check"]), &[unnamed]);
    let named = "what else is known to differ is the value of HOME";
    let report = at_home("/two", &["check"]);
    let words: Vec<_> = report.split_whitespace().collect();
    contains(&words.join(" "), &[named]);

    let fixed = format!(
        "backend = \"fake\"\nenv = {{ HOME = \"/here\" }}\n{}",
        workload("a", "true", "")
    );
    project.manifest(&fixed);
    at_home("/one", &["record"]);
    let first = project.baselines();
    project.counts(&scripted(&[1002]));
    contains(&at_home("/two", &["check"]), &[unnamed]);
    assert_eq!(project.baselines(), first);
}

/// What is ignored and blocked, and how large a stack may grow: Python's own start counts another number under each.
fn every_shell_and_service_counts_the_same() {
    let project =
        Project::new(&workload("a", "python3", "").replace("\"]", "\", \"-c\", \"pass\"]"));
    project.expect(0, &["record"]);
    let starters = [
        "trap '' HUP INT QUIT XFSZ CHLD USR1",
        "ulimit -S -s unlimited",
        "ulimit -S -s 65536",
    ];
    for starter in starters {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{starter}; exec \"$@\""), "sh"]);
        let checked = spawn_by(shell, &project, &["check"]).wait_with_output();
        contains(&stdout(&checked.unwrap()), &["1 workload: 1 identical"]);
    }
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "trap '' HUP USR1; ulimit -S -s 131072; exec \"$@\"",
        "sh",
    ]);
    let counted = spawn_by(shell, &project, &["count", "--", "true"]).wait_with_output();
    contains(
        &stderr(&counted.unwrap()),
        &[
            "SIGHUP ignored, as nohup",
            "stack limit: 131072 KiB, where 8192 are usual",
        ],
    );
}

fn recording_again_writes_nothing() {
    let manifest =
        shell("a", "echo a", "snapshot = { stdout = true }") + &workload("b", "true", "");
    let project = Project::fake(&manifest, &scripted(&[100]));
    contains(
        &project.expect(0, &["record"]),
        &["new", "2 baselines written"],
    );
    let first = project.baselines();
    assert_eq!(first.len(), 3, "{:?}", first.keys());
    let times = || -> Vec<_> {
        let all = project.baselines().into_keys();
        all.map(|path| fs::metadata(path).unwrap().modified().unwrap())
            .collect()
    };
    let before = times();
    contains(
        &project.expect(0, &["record"]),
        &["unchanged", "0 baselines written"],
    );
    assert_eq!((project.baselines(), times()), (first, before));
}

fn a_dry_run_writes_nothing() {
    let project = Project::fake(&workload("a", "true", ""), &scripted(&[100]));
    contains(
        &project.expect(0, &["record", "--dry-run"]),
        &["new", "1 baseline would be written"],
    );
    assert!(!project.path().join("baselines").exists());
}

fn record_says_what_changes() {
    let project = Project::fake(&workload("a", "true", ""), &scripted(&[100]));
    project.expect(0, &["record"]);
    for (count, word) in [(150, "higher"), (140, "lower"), (140, "unchanged")] {
        project.counts(&scripted(&[count]));
        contains(&project.expect(0, &["record"]), &[word]);
    }
    project.manifest(&format!(
        "backend = \"fake\"\n{}",
        shell("a", "echo 1", "snapshot = { stdout = true }")
    ));
    contains(
        &project.expect(0, &["record"]),
        &["new output", "no snapshot of it", "1 baseline written"],
    );
    assert_eq!(project.read("baselines/a/stdout"), "1\n");
}

fn what_is_not_selected_keeps_its_baseline() {
    let table = "params = { n = [1, 2] }\nsnapshot = { stdout = true }";
    let manifest = shell("a", "echo {n}", table)
        + &workload("b", "true", "tags = [\"quick\"]")
        + &workload("c", "true", "");
    let project = Project::fake(&manifest, &scripted(&[100]));
    project.expect(0, &["record"]);
    let before = project.baselines();
    project.counts(&scripted(&[200]));
    let selections: [(&[&str], &[&str]); 4] = [
        (&["a[n=1]"], &["a.json"]),
        (&["--tag", "quick"], &["b.json"]),
        (&["--exclude", "tag:quick", "--exclude", "a"], &["c.json"]),
        (&["a", "--dry-run"], &[]),
    ];
    let mut known = before.clone();
    for (selection, changed) in selections {
        project.expect(0, &[&["record"], selection].concat());
        let now = project.baselines();
        let different: Vec<_> = now
            .iter()
            .filter(|(path, bytes)| known.get(*path) != Some(bytes))
            .map(|(path, _)| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(different, changed, "{selection:?}");
        assert_eq!(now.len(), before.len());
        known = now;
    }
    let a: Value = serde_json::from_str(&project.read("baselines/a.json")).unwrap();
    assert_eq!(a["cases"]["a[n=1]"]["metrics"]["instructions"], 200);
    assert_eq!(a["cases"]["a[n=2]"]["metrics"]["instructions"], 100);
    contains(
        &project.expect(2, &["check", "nothing"]),
        &["nothing matches `nothing`", "a, b, c"],
    );
}

fn what_the_manifest_lost_goes_with_its_snapshots() {
    let with = |values: &str| {
        let table = format!("params = {{ n = [{values}] }}\nsnapshot = {{ stdout = true }}");
        format!("backend = \"fake\"\n{}", shell("a", "echo {n}", &table))
    };
    let gone = shell(
        "gone",
        "echo x",
        "snapshot = { stderr = true, stdout = true }",
    );
    let project = Project::fake(
        &(shell(
            "a",
            "echo {n}",
            "params = { n = [1, 2] }\nsnapshot = { stdout = true }",
        ) + &gone),
        &scripted(&[5]),
    );
    project.expect(0, &["record"]);
    project.write("baselines/gone/README", "Not ours.");
    project.manifest(&with("1"));
    let verdicts = project.verdicts(0, &["check"]);
    assert_eq!(verdicts["a[n=2]"], "missing");
    assert_eq!(verdicts["gone"], "missing");
    contains(
        &project.expect(0, &["record"]),
        &["dropped", "a[n=2]", "gone"],
    );
    let left: Vec<_> = project
        .baselines()
        .into_keys()
        .map(|path| {
            path.strip_prefix(project.path())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        left,
        [
            "baselines/a/n=1.stdout",
            "baselines/a.json",
            "baselines/gone/README"
        ]
    );
    assert_eq!(project.verdicts(0, &["check"]).len(), 1);
}

fn record_keeps_what_it_could_not_measure() {
    let manifest = |script: &str| {
        format!(
            "backend = \"fake\"\n{}",
            shell("a", script, "snapshot = { stdout = true }")
        )
    };
    let project = Project::fake("", &scripted(&[100]));
    project.manifest(&manifest("echo same"));
    project.expect(0, &["record"]);
    let before = project.baselines();
    project.counts(&scripted(&[100, 101]));
    contains(
        &project.expect(5, &["record"]),
        &["not recorded", "100", "101"],
    );
    project.counts(&scripted(&[100]));
    project.manifest(&manifest("date +%N"));
    contains(
        &project.expect(5, &["record"]),
        &[
            "not recorded",
            "standard output is not the same in every run",
        ],
    );
    project.manifest(&manifest("echo oops >&2; exit 3"));
    contains(
        &project.expect(4, &["record"]),
        &["not recorded", "exit code 3", "oops"],
    );
    assert_eq!(project.baselines(), before);
}

/// `check` holds the programs to their baselines; this holds the baselines to the truth.
fn the_baselines_of_the_assembly_programs_are_what_their_sources_state() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = fs::read_dir(root.join("workloads/asm/x86_64")).unwrap();
    for source in sources.map(|entry| entry.unwrap().path()) {
        let workload = format!("asm-{}", source.file_stem().unwrap().display());
        let baseline = fs::read_to_string(root.join(format!("baselines/{workload}.json")));
        let baseline: Value = serde_json::from_str(&baseline.unwrap()).unwrap();
        assert_eq!(baseline["backend"], "dbi", "{workload}");
        let case = &baseline["cases"][&workload];
        let text = fs::read_to_string(&source).unwrap();
        let stated = text
            .lines()
            .filter_map(|line| line.strip_prefix("// expect "));
        for (key, value) in stated.filter_map(|line| line.split_once('=')) {
            let counted = match key.strip_prefix("opcodes.") {
                Some(opcode) => &case["opcodes"][opcode],
                None if key == "instructions" => &case["metrics"]["instructions"],
                None => continue,
            };
            assert_eq!(counted.to_string(), value, "{workload}: {key}");
        }
    }
}
