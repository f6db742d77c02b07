//! `check --against` a revision of the repository.

use std::fs;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::common::Need::{DefaultBackend, Program};
use crate::common::{case, eventually, mark, output, stderr};
use crate::project::{BUILT, Project, contains, end_by, hot, scripted, shell, spawn, workload};

pub fn cases() -> Vec<Trial> {
    let all = [DefaultBackend, Program("gcc"), Program("git")];
    let git = [Program("git")];
    let python = [DefaultBackend, Program("git"), Program("/usr/bin/python3")];
    vec![
        case(
            "a_regression_between_two_commits_is_found",
            &all,
            a_regression_between_two_commits_is_found,
        ),
        case(
            "a_revision_without_manifest_has_only_new_workloads",
            &git,
            a_revision_without_manifest_has_only_new_workloads,
        ),
        case(
            "a_revision_that_does_not_build_leaves_no_worktree",
            &git,
            a_revision_that_does_not_build_leaves_no_worktree,
        ),
        case(
            "an_unknown_revision_is_wrong_use",
            &git,
            an_unknown_revision_is_wrong_use,
        ),
        case(
            "a_worktree_does_not_outlive_an_interruption",
            &git,
            a_worktree_does_not_outlive_an_interruption,
        ),
        case(
            "snapshots_of_a_revision_are_matched_by_name",
            &git,
            snapshots_of_a_revision_are_matched_by_name,
        ),
        case(
            "a_checkout_elsewhere_does_not_move_a_count_of_python",
            &python,
            a_checkout_elsewhere_does_not_move_a_count_of_python,
        ),
    ]
}

fn a_regression_between_two_commits_is_found() {
    let steady = "[[workload]]\nname = \"steady\"\ncommand = [\"sort\", \"lines\"]\n";
    let project = Project::new(&format!("{BUILT}{steady}"));
    project.write("lines", "b\na\nc\n");
    project.write(".gitignore", "hot\n");
    project.write("hot.c", &hot("+", 10_000));
    project.commit();
    project.write("hot.c", &hot("%", 10_000));
    project.commit();
    let told = project.expect(1, &["check", "--against", "HEAD^"]);
    contains(
        &told,
        &[
            "measuring HEAD^",
            "regressed",
            "hot: hot",
            "imul",
            "1 identical, 1 regressed",
        ],
    );
    assert!(!told.contains("longer"), "{told}");
    project.assert_clean();

    // What is not committed is what is measured.
    project.write("hot.c", &hot("+", 9_000));
    let verdicts = project.verdicts(0, &["check", "--against", "HEAD^"]);
    assert_eq!(
        (&*verdicts["hot"], &*verdicts["steady"]),
        ("improved", "identical")
    );
    assert!(!project.path().join("baselines").exists());
    assert_eq!(project.git(&["status", "--short"]), " M hot.c\n");
    project.assert_clean();

    // The same from inside a hook, which tells git about its own repository.
    let hook = output(
        project
            .command(&["check", "--against", "HEAD", "steady"])
            .env("GIT_DIR", ".git")
            .env("GIT_INDEX_FILE", ".git/index"),
    );
    assert_eq!(hook.status.code(), Some(0), "{}", stderr(&hook));
    assert_eq!(project.git(&["status", "--short"]), " M hot.c\n");
}

fn a_revision_without_manifest_has_only_new_workloads() {
    let project = Project::empty();
    project.write("README", "");
    project.commit();
    project.manifest(&format!(
        "backend = \"fake\"\n{}",
        workload("a", "true", "")
    ));
    project.counts(&scripted(&[100]));
    contains(
        &project.expect(0, &["check", "--against", "HEAD"]),
        &["has no manifest", "1 new"],
    );
    // One that it has no more is missing, one that it adds is new.
    project.commit();
    project.manifest(&format!(
        "backend = \"fake\"\n{}",
        workload("b", "true", "")
    ));
    let verdicts = project.verdicts(0, &["check", "--against", "HEAD"]);
    assert_eq!((&*verdicts["a"], &*verdicts["b"]), ("missing", "new"));
    project.assert_clean();
}

fn a_revision_that_does_not_build_leaves_no_worktree() {
    let project = Project::fake(
        &shell("a", ":", "build = \"echo why; false\""),
        &scripted(&[100]),
    );
    project.commit();
    project.manifest(&format!(
        "backend = \"fake\"\n{}",
        shell("a", ":", "build = \"true\"")
    ));
    let told = project.expect(4, &["check", "--against", "HEAD"]);
    contains(&told, &["why", "build step `echo why; false`", "at HEAD"]);
    project.assert_clean();
}

fn an_unknown_revision_is_wrong_use() {
    let project = Project::fake(&workload("a", "true", ""), &scripted(&[100]));
    contains(
        &project.expect(2, &["check", "--against", "HEAD"]),
        &["git", "not a git repository"],
    );
    project.commit();
    for revision in ["no-such-branch", "--help"] {
        let told = project.expect(2, &["check", &format!("--against={revision}")]);
        contains(&told, &["no revision", revision]);
    }
    project.assert_clean();
}

fn a_worktree_does_not_outlive_an_interruption() {
    let script = "case $PWD in *the-project*) : ;; *) touch ../started; sleep 60 ;; esac";
    let project = Project::fake(&shell("a", script, ""), &scripted(&[100]));
    project.commit();
    let started = project.tmp().join("started");
    for (name, code) in [("INT", Some(130)), ("KILL", None)] {
        let mark = mark(&format!("against-{name}"));
        let child = spawn(&project, &["check", "--against", "HEAD"], &mark);
        eventually("the revision runs", || started.exists());
        fs::remove_file(&started).unwrap();
        end_by(child, name, code, &mark);
        if code.is_some() {
            project.assert_clean();
        }
    }
    // The killed one left its folder; the next run clears it away and is not disturbed.
    assert_eq!(project.git(&["worktree", "list"]).lines().count(), 2);
    let quick = shell("a", ":", "");
    project.manifest(&format!("backend = \"fake\"\n{quick}"));
    project.commit();
    assert_eq!(
        project.verdicts(0, &["check", "--against", "HEAD"])["a"],
        "identical"
    );
    project.assert_clean();

    // A worktree of the user's own is none of our business, even when its disk is not there now.
    let away = project.root.path().join("away");
    project.git(&["worktree", "add", "-q", away.to_str().unwrap()]);
    fs::rename(&away, away.with_extension("unmounted")).unwrap();
    project.expect(0, &["check", "--against", "HEAD"]);
    assert_eq!(project.git(&["worktree", "list"]).lines().count(), 2);
}

fn snapshots_of_a_revision_are_matched_by_name() {
    let manifest = |snapshot: &str| {
        format!(
            "backend = \"fake\"\n{}",
            shell("a", "echo out; echo err >&2", snapshot)
        )
    };
    let project = Project::fake("", &scripted(&[100]));
    project.manifest(&manifest("snapshot = { stdout = true }"));
    project.commit();
    project.manifest(&manifest("snapshot = { stderr = true }"));
    assert_eq!(
        project.verdicts(0, &["check", "--against", "HEAD"])["a"],
        "identical"
    );
    project.manifest(&manifest("snapshot = { stdout = true }").replace("echo out", "echo oat"));
    contains(
        &project.expect(1, &["check", "--against", "HEAD"]),
        &["wrong output", "+oat"],
    );
    // What could not be counted there is new here, and says so.
    project.manifest(&manifest("").replace("echo err", "exit 3; echo err"));
    project.commit();
    project.manifest(&manifest(""));
    contains(
        &project.expect(0, &["check", "--against", "HEAD"]),
        &["1 new", "at HEAD, it ended with exit code 3"],
    );
    project.commit();
    // Runs that disagree there prove nothing about here.
    project.manifest(&manifest(""));
    project.counts(&scripted(&[100, 101, 100, 100]));
    contains(
        &project.expect(5, &["check", "--against", "HEAD"]),
        &["not reproducible", "at HEAD, the runs counted 100, 101"],
    );
}

fn a_checkout_elsewhere_does_not_move_a_count_of_python() {
    let workload = "[[workload]]\nname = \"py\"\ncommand = [\"/usr/bin/python3\", \"main.py\"]\nsnapshot = { stdout = true }\n";
    let project = Project::new(workload);
    project.write("main.py", "print(sum(range(1000)))\n");
    project.commit();
    let run = project.run(&["check", "--against", "HEAD", "--json"]);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    let metric = &report["workloads"][0]["metrics"][0];
    let (before, after) = (
        metric["before"].as_u64().unwrap(),
        metric["after"].as_u64().unwrap(),
    );
    assert_eq!(before, after);
    project.assert_clean();
}
