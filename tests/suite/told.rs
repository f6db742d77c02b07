//! What is told of a suite, where and in which order: errors with their place, progress, reports.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::common::Need::Program;
use crate::common::{case, output, stderr, stdout};
use crate::project::{Project, contains, scripted, shell, workload};

pub fn cases() -> Vec<Trial> {
    vec![
        case(
            "bad_input_is_named_with_its_place",
            &[],
            bad_input_is_named_with_its_place,
        ),
        case(
            "side_by_side_runs_are_reported_in_order",
            &[],
            side_by_side_runs_are_reported_in_order,
        ),
        case(
            "a_build_step_runs_once_and_its_failure_is_named",
            &[],
            a_build_step_runs_once_and_its_failure_is_named,
        ),
        case(
            "progress_is_for_terminals",
            &[Program("script")],
            progress_is_for_terminals,
        ),
        case("json_keeps_to_its_schema", &[], json_keeps_to_its_schema),
    ]
}

fn bad_input_is_named_with_its_place() {
    let project = Project::empty();
    contains(
        &project.expect(2, &["check"]),
        &["no `counterfoil.toml`", "counterfoil init"],
    );
    contains(
        &project.expect(2, &["check", "--manifest", "gone.toml"]),
        &["gone.toml"],
    );
    project.manifest("backend = \"fake\"\nrepeet = 3\n[[workload]]\nname = \"a\"\ncommand = \"true\"\ncomand = 1\n");
    contains(
        &project.expect(2, &["list"]),
        &[
            "counterfoil.toml:3:1: ",
            "`repeet`",
            "`repeat`",
            "counterfoil.toml:7:1: ",
            "`command`",
        ],
    );

    let project = Project::fake(&workload("a", "true", ""), &scripted(&[100]));
    project.expect(0, &["record"]);
    let good = project.read("baselines/a.json");
    let conflict = format!("<<<<<<< ours\n{good}=======\n{good}>>>>>>> theirs\n");
    for (text, parts) in [
        (
            good[..good.len() / 2].to_owned(),
            ["a.json:", "damaged", "version control"],
        ),
        (
            conflict,
            ["a.json:1:1", "merge conflict", "counterfoil record"],
        ),
        (
            good.replace("\"schema\": 1", "\"schema\": 99"),
            ["a.json:", "schema 99", "newer counterfoil"],
        ),
        (
            good.replace("\"instructions\": 100", "\"instructions\": -1"),
            ["a.json:", "damaged", "version control"],
        ),
        (
            good.replace("\"workload\": \"a\"", "\"workload\": \"b\""),
            ["a.json", "workload `b`", "version control"],
        ),
    ] {
        project.write("baselines/a.json", &text);
        for command in ["check", "record", "list"] {
            contains(&project.expect(2, &[command]), &parts);
            assert_eq!(project.read("baselines/a.json"), text);
        }
    }
    // The remedy works.
    fs::remove_file(project.path().join("baselines/a.json")).unwrap();
    project.expect(0, &["record"]);
    assert_eq!(project.read("baselines/a.json"), good);
}

fn side_by_side_runs_are_reported_in_order() {
    let names: Vec<_> = (0..12).map(|n| format!("w{n:02}")).collect();
    // The first take longest.
    let table = |n: usize| {
        shell(
            &names[n],
            &format!("sleep 0.{:02}", 24 - 2 * n),
            "repeat = 1",
        )
    };
    let manifest: String = (0..12).map(table).collect();
    let project = Project::fake(&format!("jobs = 6\n{manifest}"), &scripted(&[7]));
    let told = project.expect(0, &["check"]);
    let shown: Vec<_> = told
        .split_whitespace()
        .filter(|word| names.iter().any(|n| n == word))
        .collect();
    assert_eq!(shown, names);
}

fn a_build_step_runs_once_and_its_failure_is_named() {
    let table = "build = \"echo x >> built; echo noise\"\nparams = { n = [1, 2] }";
    let manifest = shell("a", "exit {n}{n}0", table).replace("exit {n}{n}0", ": {n}")
        + &shell("b", ":", "build = \"echo x >> built; echo noise\"");
    let project = Project::fake(&manifest, &scripted(&[1]));
    let run = project.run(&["check"]);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    assert_eq!(project.read("built"), "x\n");
    contains(&stderr(&run), &["building: echo x", "noise"]);
    assert!(!stdout(&run).contains("noise"));

    project.manifest(&format!(
        "backend = \"fake\"\n{}",
        shell("a", ":", "build = \"echo why; exit 9\"")
    ));
    contains(
        &project.expect(4, &["check"]),
        &["why", "build step", "exit code 9", "echo why; exit 9"],
    );
    project.manifest(&format!(
        "backend = \"fake\"\n{}",
        shell("a", ":", "build = [\"no-such-tool\"]")
    ));
    contains(
        &project.expect(4, &["check"]),
        &["build step", "`no-such-tool`"],
    );
}

/// What the command writes to a terminal.
fn on_terminal(project: &Project, line: &str, no_color: bool) -> String {
    let mut command = Command::new("script");
    let program = env!("CARGO_BIN_EXE_counterfoil");
    command
        .args(["-qec", &format!("{program} {line}"), "/dev/null"])
        .current_dir(project.path())
        .env("TMPDIR", project.tmp())
        .env("TERM", "xterm")
        .env("COUNTERFOIL_FAKE", project.root.path().join("counts.json"))
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    if no_color {
        command.env("NO_COLOR", "1");
    }
    stdout(&output(&mut command))
}

fn progress_is_for_terminals() {
    let project = Project::fake(
        &shell("a", "sleep 0.3", "params = { n = [1, 2] }")
            .replace("sleep 0.3", "sleep 0.3; : {n}"),
        &scripted(&[5]),
    );
    const GREEN_OR_SUCH: &str = "\u{1b}[3";
    contains(
        &on_terminal(&project, "check", false),
        &["/2 ", "2 new", GREEN_OR_SUCH],
    );
    let plain = on_terminal(&project, "check", true);
    assert!(
        plain.contains("2 new") && !plain.contains(GREEN_OR_SUCH),
        "{plain:?}"
    );
    let quiet = on_terminal(&project, "--quiet check", false);
    assert!(
        quiet.contains("2 new") && !quiet.contains("/2 "),
        "{quiet:?}"
    );
    let piped = project.run(&["check"]);
    assert_eq!(stderr(&piped), "");
    assert!(!stdout(&piped).contains('\u{1b}'));
    contains(
        &stdout(&project.run(&["check", "--color", "always"])),
        &["\u{1b}["],
    );

    project.manifest(&format!(
        "backend = \"fake\"\n{}",
        shell("a", ":", "build = \"true\"")
    ));
    contains(&stderr(&project.run(&["check"])), &["building: true"]);
    assert_eq!(stderr(&project.run(&["check", "--quiet"])), "");
}

fn json_keeps_to_its_schema() {
    let manifest = workload("a", "true", "gate = { instructions = \"0%\" }")
        + &workload("b", "true", "fingerprint = [\"cat version\"]")
        + &shell("c", "cat version", "snapshot = { stdout = true }")
        + &workload("gone", "true", "");
    let project = Project::fake(&manifest, &scripted(&[100]));
    project.write("version", "1\n");
    project.expect(0, &["record"]);
    project.write("version", "2\n");
    project.counts(&scripted(&[90]));
    let changed = manifest.replace("\"gone\"", "\"fresh\"") + &shell("bad", "exit 1", "");
    project.manifest(&format!("backend = \"fake\"\n{changed}"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/check.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for arguments in [["check", "--json"], ["record", "--json"]] {
        let report: Value = serde_json::from_slice(&project.run(&arguments).stdout).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&report)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{arguments:?}: {errors:?}");
        let verdicts: Vec<_> = report["workloads"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| w["verdict"].as_str().unwrap())
            .collect();
        let expected = [
            "improved",
            "not-comparable",
            "wrong-output",
            "new",
            "failed",
            "missing",
        ];
        assert_eq!(verdicts, expected, "{arguments:?}");
    }
}
