//! Outputs from end to end: normalised, accepted, shown as a diff, and held across a parameter.

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use common::Need::DefaultBackend;
use common::project::Project;
use common::{case, skipped};

fn main() -> ExitCode {
    let real = [DefaultBackend];
    let mut trials = vec![
        case(
            "what_differs_from_place_to_place_is_normalised",
            &real,
            what_differs_from_place_to_place_is_normalised,
        ),
        case(
            "diff_shows_what_accept_makes_the_snapshot",
            &real,
            diff_shows_what_accept_makes_the_snapshot,
        ),
        case(
            "accept_leaves_the_counts_alone",
            &real,
            accept_leaves_the_counts_alone,
        ),
        case(
            "a_failed_workload_has_no_output_to_accept",
            &real,
            a_failed_workload_has_no_output_to_accept,
        ),
        case(
            "two_implementations_must_agree",
            &real,
            two_implementations_must_agree,
        ),
        case(
            "bad_outputs_are_named_with_their_place",
            &[],
            bad_outputs_are_named_with_their_place,
        ),
    ];
    let name = "two_pythons_agree_but_for_what_is_meant";
    trials.push(match pythons() {
        Some(_) => case(name, &real, two_pythons_agree_but_for_what_is_meant),
        None => skipped(
            name,
            "no python3.12 and python3.13 in ~/.pyenv/versions".to_owned(),
        ),
    });
    common::run(trials)
}

/// The interpreters of two versions.
fn pythons() -> Option<[(&'static str, PathBuf); 2]> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let versions: Vec<_> = std::fs::read_dir(home.join(".pyenv/versions"))
        .ok()?
        .flatten()
        .collect();
    let find = |version: &'static str| {
        let program = |entry: &std::fs::DirEntry| entry.path().join(format!("bin/python{version}"));
        let found = versions
            .iter()
            .map(program)
            .find(|program| program.is_file())?;
        Some((version, found))
    };
    Some([find("3.12")?, find("3.13")?])
}

/// One workload, a script, with these lines besides.
fn scripted(lines: &str, script: &str) -> Project {
    Project::scripted("", lines, script)
}

fn what_differs_from_place_to_place_is_normalised() {
    let lines = r#"
        snapshot = { stdout = true, stderr = true, exit = true, files = ["log"], normalize = ["paths", "times"], replace = [{ pattern = "pid [0-9]+", with = "pid <pid>" }] }
    "#;
    let script = "pwd; echo $TMPDIR/x; echo \"pid $$\"; echo 'took 1.5s' >&2; date '+%F %T done' > log; exit 4\n";
    let project = scripted(lines, script);
    project.expect(0, &["record"]);
    assert_eq!(
        project.read("baselines/w/stdout"),
        "<project>\n<tmp>/x\npid <pid>\n"
    );
    assert_eq!(project.read("baselines/w/stderr"), "took <duration>\n");
    assert_eq!(project.read("baselines/w/exit"), "4\n");
    assert_eq!(project.read("baselines/w/file-log"), "<time> done\n");
    project.expect(0, &["snapshot", "diff"]);
    project.write("w.sh", &script.replace("exit 4", "exit 5"));
    let report = project.expect(1, &["check"]);
    assert!(
        report.contains("exit code: line 1, column 1: expected `4\\n`, got `5\\n`"),
        "{report}"
    );
}

fn diff_shows_what_accept_makes_the_snapshot() {
    let project = scripted("snapshot = { stdout = true }\n", "seq 1 500\n");
    let report = project.expect(1, &["snapshot", "diff"]);
    assert!(
        report.contains("new           w: standard output"),
        "{report}"
    );
    project.expect(0, &["snapshot", "accept"]);
    project.write("w.sh", "seq 1 499; echo last; echo more\n");
    let report = project.expect(1, &["snapshot", "diff", "w"]);
    assert!(
        report.contains("differs       w: standard output"),
        "{report}"
    );
    assert!(
        report.contains("@@ -497,4 +497,5 @@\n 497\n 498\n 499\n-500\n+last\n+more\n"),
        "{report}"
    );
    assert!(
        report.contains("baselines/w/stdout\n+++ standard output of w\n"),
        "{report}"
    );
    assert!(project.read("baselines/w/stdout").ends_with("500\n"));
    let report = project.expect(0, &["snapshot", "accept"]);
    assert!(
        report.contains("accepted      w: standard output") && report.contains("+more"),
        "{report}"
    );
    assert!(project.read("baselines/w/stdout").ends_with("last\nmore\n"));
    let report = project.expect(0, &["snapshot", "diff"]);
    assert!(report.ends_with("1 output: 1 same\n"), "{report}");
}

fn accept_leaves_the_counts_alone() {
    let project = scripted("snapshot = { stdout = true }\n", "echo a\n");
    project.expect(0, &["record"]);
    let before = project.read("baselines/w.json");
    project.write("w.sh", "echo b; echo c\n");
    project.expect(0, &["snapshot", "accept"]);
    assert_eq!(project.read("baselines/w.json"), before);
    assert_eq!(project.read("baselines/w/stdout"), "b\nc\n");
}

fn a_failed_workload_has_no_output_to_accept() {
    let project = scripted("snapshot = { stdout = true }\n", "echo a\n");
    project.expect(0, &["snapshot", "accept"]);
    project.write("w.sh", "echo b; exit 9\n");
    for action in ["accept", "diff"] {
        let report = project.expect(4, &["snapshot", action]);
        assert!(
            report.contains("it ended with exit code 9, not 0"),
            "{report}"
        );
    }
    assert_eq!(project.read("baselines/w/stdout"), "a\n");
}

fn two_implementations_must_agree() {
    let manifest = r#"
[[workload]]
name = "sum"
command = ["./{by}", "{n}"]
params = { n = [10, 20], by = ["loop", "formula"] }
parity = "by"
snapshot = { stdout = true }
"#;
    let project = Project::new(manifest);
    let script = |name: &str, text: &str| {
        let path = project.write(name, &format!("#!/bin/sh\n{text}"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    };
    script(
        "loop",
        "s=0; i=1; while [ $i -le $1 ]; do s=$((s + i)); i=$((i + 1)); done; echo sum $s\n",
    );
    script("formula", "echo sum $(($1 * ($1 + 1) / 2))\n");
    project.expect(0, &["record"]);
    project.expect(0, &["check"]);
    // One that is wrong for 20 only.
    script("formula", "echo sum $(($1 * ($1 + 1) / 2 + $1 / 20))\n");
    project.expect(0, &["snapshot", "accept"]);
    let report = project.expect(1, &["check"]);
    let said = "parity: standard output is not that of `sum[n=20,by=loop]`: line 1, column 7: expected `0\\n`, got `1\\n`";
    assert!(report.contains(said), "{report}");
    assert!(
        report.contains("--- sum[n=20,by=loop]\n    +++ sum[n=20,by=formula]\n"),
        "{report}"
    );
    assert_eq!(report.matches("parity:").count(), 1, "{report}");
}

fn two_pythons_agree_but_for_what_is_meant() {
    let manifest = r#"
[[workload]]
name = "versions"
command = ["python{python}", "-S", "-B", "program.py"]
params = { python = ["3.12", "3.13"] }
parity = "python"
snapshot = { stdout = true, stderr = true }
"#;
    let differs = r#"
[[workload.differs]]
params = { python = "3.13" }
part = "stdout"
pattern = "^version "
reason = "it prints its version"
"#;
    let project = Project::new(manifest);
    for (version, path) in pythons().unwrap() {
        project.link(&format!("python{version}"), &path);
    }
    let program = "import sys\nprint('version', sys.version_info[:2])\nprint(sorted({3, 1, 2}))\n";
    project.write("program.py", program);
    let report = project.expect(0, &["snapshot", "accept"]);
    assert!(report.contains("4 outputs: 4 accepted"), "{report}");
    let report = project.expect(1, &["check"]);
    assert!(
        report.contains("parity: standard output is not that of `versions[python=3.12]`"),
        "{report}"
    );
    assert!(
        report.contains("    -version (3, 12)\n    +version (3, 13)\n"),
        "{report}"
    );
    project.write("counterfoil.toml", &format!("{manifest}{differs}"));
    let report = project.expect(0, &["check"]);
    assert!(
        !report.contains("parity") && !report.contains("stale"),
        "{report}"
    );
    // What is meant to differ and does not is said, and fails nothing.
    project.write("program.py", "print('the same')\n");
    project.expect(0, &["snapshot", "accept"]);
    let report = project.expect(0, &["check"]);
    let said = "stale: the outputs agree without leave to differ (it prints its version)";
    assert_eq!(report.matches(said).count(), 1, "{report}");
    let report = project.expect(0, &["check", "3.13"]);
    assert!(!report.contains("stale"), "{report}");
}

fn bad_outputs_are_named_with_their_place() {
    let manifest = r#"
[[workload]]
name = "w"
command = ["true", "{a}"]
params = { a = ["1", "2"] }
parity = "b"
exit = 3
[workload.snapshot]
stdout = true
exit = true
normalize = ["path", "zone"]
replace = [{ pattern = "(", with = "" }, { pattern = "x" }]
[[workload.differs]]
params = { a = "3", c = "1" }
part = "stderr"
[[workload.differs]]
part = "stdout"
pattern = "["
reason = "r"
[[workload]]
name = "v"
command = "true"
[[workload.differs]]
part = "stdout"
reason = "r"
"#;
    let project = Project::new(manifest);
    let report = project.expect(2, &["list"]);
    for said in [
        ":6:10: `parity` names no parameter: `b`; add `b = [...]` to `params`",
        ":7:8: `exit` beside `snapshot = { exit = true }`",
        ":11:14: unknown normaliser `path`; did you mean `paths`?",
        ":11:22: unknown normaliser `zone`; known are `paths` and `times`",
        ":12:24: `pattern` is no regular expression: unclosed group",
        ":12:42: `replace` needs `pattern` and `with`",
        ":13:1: difference without `reason`",
        ":14:16: `a` never has the value `3`; it has `1`, `2`",
        ":14:21: `c` is no parameter of this workload",
        ":15:8: `part` is no output of the snapshot: `stderr`; it has `stdout`, `exit`",
        ":18:11: `pattern` is no regular expression: unclosed character class",
        ":23:1: `differs` without `parity`",
    ] {
        assert!(report.contains(said), "{said}\n{report}");
    }
}
