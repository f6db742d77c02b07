//! The verdicts of `check`, and when each is due.

use std::fs;

use libtest_mimic::Trial;

use crate::common::Need::{DefaultBackend, Program};
use crate::common::case;
use crate::project::{BUILT, Project, contains, hot, scripted, shell, workload};

pub fn cases() -> Vec<Trial> {
    let gcc = [DefaultBackend, Program("gcc")];
    let real = [DefaultBackend];
    let git = [Program("git")];
    vec![
        case(
            "a_change_of_the_source_is_explained",
            &gcc,
            a_change_of_the_source_is_explained,
        ),
        case(
            "every_verdict_has_its_exit_code",
            &[],
            every_verdict_has_its_exit_code,
        ),
        case(
            "another_environment_is_not_comparable",
            &[],
            another_environment_is_not_comparable,
        ),
        case(
            "another_backend_is_not_comparable",
            &real,
            another_backend_is_not_comparable,
        ),
        case("what_fails_says_how", &[], what_fails_says_how),
        case(
            "gates_hold_up_to_their_limit",
            &[],
            gates_hold_up_to_their_limit,
        ),
        case(
            "gates_on_opcodes_and_regions_are_held",
            &[],
            gates_on_opcodes_and_regions_are_held,
        ),
        case(
            "output_is_held_against_its_snapshot",
            &[],
            output_is_held_against_its_snapshot,
        ),
        case(
            "a_file_of_an_earlier_run_is_no_output",
            &[],
            a_file_of_an_earlier_run_is_no_output,
        ),
        case(
            "code_of_the_repository_is_the_subject",
            &git,
            code_of_the_repository_is_the_subject,
        ),
    ]
}

fn a_change_of_the_source_is_explained() {
    let project = Project::new(BUILT);
    project.write("hot.c", &hot("+", 10_000));
    contains(
        &project.expect(0, &["record"]),
        &["new", "hot", "1 baseline written"],
    );

    // Another binary, the same instructions.
    project.write("hot.c", &hot("+", 10_000).replace("3;", "5;"));
    contains(&project.expect(0, &["check"]), &["1 workload: 1 identical"]);
    contains(
        &project.expect(0, &["record"]),
        &["same counts", "1 baseline written"],
    );

    project.write("hot.c", &hot("%", 10_000));
    let slower = project.expect(1, &["check"]);
    contains(
        &slower,
        &[
            "regressed",
            "hot: hot",
            "imul",
            "subject hot",
            "1 workload: 1 regressed",
        ],
    );

    project.write("hot.c", &hot("+", 9_000));
    contains(&project.expect(0, &["check"]), &["1 workload: 1 improved"]);
    project.assert_clean();
}

fn every_verdict_has_its_exit_code() {
    let project = Project::fake(&workload("a", "true", ""), &scripted(&[100_000]));
    assert_eq!(project.verdicts(0, &["check"])["a"], "new");
    project.expect(0, &["record"]);
    for (counts, verdict, code) in [
        (&[100_000][..], "identical", 0),
        (&[99_999], "improved", 0),
        (&[100_500], "within", 0),
        (&[100_501], "regressed", 1),
        (&[100_000, 100_001], "not-reproducible", 5),
        // Disagreement is said before a regression is.
        (&[200_000, 200_001], "not-reproducible", 5),
    ] {
        project.counts(&scripted(counts));
        assert_eq!(
            project.verdicts(code, &["check"])["a"],
            verdict,
            "{counts:?}"
        );
    }
    project.counts(&scripted(&[150, 100]));
    contains(
        &project.expect(5, &["check"]),
        &[
            "the runs counted 150, 100 instructions",
            "the first did more",
            "`build` step",
        ],
    );
    let mix = |name: &str| format!("{{\"instructions\": 7, \"opcodes\": {{\"{name}\": 7}}}}");
    project.counts(&format!("[{}, {}]", mix("add"), mix("sub")));
    contains(
        &project.expect(5, &["check"]),
        &["the runs agree on 7 instructions, not on their opcodes"],
    );
    project.counts(&scripted(&[100_000]));
    for (script, verdict, code) in [("exit 1", "failed", 4), ("echo 1", "new", 0)] {
        project.manifest(&format!("backend = \"fake\"\n{}", shell("b", script, "")));
        assert_eq!(project.verdicts(code, &["check"])["b"], verdict);
        assert_eq!(project.verdicts(code, &["check"])["a"], "missing");
    }
    // Whoever asks for one workload does not hear of others.
    assert_eq!(project.verdicts(0, &["check", "b"]).len(), 1);
    let markdown = project.expect(0, &["check", "--markdown"]);
    contains(&markdown, &["| ", "missing"]);
}

fn another_environment_is_not_comparable() {
    let table = "fingerprint = [\"cat version\"]";
    let project = Project::fake(&workload("a", "true", table), &scripted(&[100]));
    project.write("version", "1.0\n");
    project.expect(0, &["record"]);
    project.write("version", "2.0\n");
    project.counts(&scripted(&[900]));
    contains(
        &project.expect(3, &["check"]),
        &["not comparable", "1.0 -> 2.0", "version"],
    );
    assert_eq!(
        project.verdicts(0, &["check", "--allow-incomparable"])["a"],
        "not-comparable"
    );
    // A ceiling holds anywhere.
    let gated = format!("{table}\ngate = {{ instructions = \"<=800\" }}");
    project.manifest(&format!(
        "backend = \"fake\"\n{}",
        workload("a", "true", &gated)
    ));
    assert_eq!(
        project.verdicts(1, &["check", "--allow-incomparable"])["a"],
        "regressed"
    );
}

fn another_backend_is_not_comparable() {
    let default = match cfg!(target_arch = "x86_64") {
        true => "dbi",
        false => "callgrind",
    };
    let project = Project::fake(&workload("a", "true", ""), &scripted(&[100]));
    project.expect(0, &["record"]);
    project.manifest(&workload("a", "true", ""));
    contains(
        &project.expect(3, &["check"]),
        &["not comparable", "environment backend: fake", default],
    );
    contains(
        &project.expect(0, &["record"]),
        &["replaced", "1 baseline written"],
    );
    assert_eq!(project.verdicts(0, &["check"])["a"], "identical");
}

fn what_fails_says_how() {
    let cases = [
        (
            shell("a", "echo reason >&2; exit 7", ""),
            vec!["exit code 7, not 0", "reason"],
        ),
        (shell("a", "exit 0", "exit = 3"), vec!["exit code 0, not 3"]),
        (
            shell("a", "kill -SEGV $$", ""),
            vec!["signal 11", "SIGSEGV"],
        ),
        (
            shell("a", "sleep 60", "timeout = \"300ms\""),
            vec!["time", "300ms"],
        ),
        (
            workload("a", "no-such-program-here", ""),
            vec!["`no-such-program-here`", "PATH"],
        ),
        (
            workload("a", "./missing", ""),
            vec!["missing", "does not exist"],
        ),
        (
            workload("a", "true", "stdin = \"missing\""),
            vec!["missing", "standard input"],
        ),
        (workload("a", "true", "cwd = \"missing\""), vec!["missing"]),
        (
            workload("a", "true", "snapshot = { files = [\"out\"] }"),
            vec!["out", "snapshot"],
        ),
        (
            workload("a", "true", "fingerprint = [\"false\"]"),
            vec!["fingerprint command", "false"],
        ),
    ];
    for (manifest, parts) in cases {
        // One that fails does not keep another from being measured.
        let project = Project::fake(
            &(manifest.clone() + &workload("fine", "true", "")),
            &scripted(&[1]),
        );
        let told = project.expect(4, &["check"]);
        contains(&told, &["failed", "1 new, 1 failed"]);
        contains(&told, &parts);
        project.assert_clean();
    }
    let project = Project::fake(&shell("a", "exit 3", "exit = 3"), &scripted(&[1]));
    project.expect(0, &["check"]);
}

fn gates_hold_up_to_their_limit() {
    for (gate, most) in [("1%", 1010), ("0%", 1000), ("+5", 1005), ("<=1200", 1200)] {
        let table = format!("gate = {{ instructions = \"{gate}\" }}");
        let project = Project::fake(&workload("a", "true", &table), &scripted(&[1000]));
        project.expect(0, &["record"]);
        project.counts(&scripted(&[most]));
        project.expect(0, &["check"]);
        project.counts(&scripted(&[most + 1]));
        contains(&project.expect(1, &["check"]), &["regressed"]);
    }
    // Without a baseline only a ceiling can be broken.
    let table = "gate = { instructions = 10 }";
    let project = Project::fake(&workload("a", "true", table), &scripted(&[11]));
    let told = project.expect(1, &["check"]);
    contains(&told, &["regressed", "<=10"]);
    assert!(
        !told.contains("your code"),
        "nothing is known of it: {told}"
    );
}

fn gates_on_opcodes_and_regions_are_held() {
    let counts = |div: u64, inner: u64| {
        format!(
            "[{{\"instructions\": {}, \"opcodes\": {{\"div\": {div}, \"mov\": 1000}},
               \"regions\": {{\"inner\": {{\"entries\": 1, \"instructions\": {inner}}}}}}}]",
            1000 + div
        )
    };
    let gate = "regions = true\ngate = { \"opcodes.div\" = 2, \"regions.inner\" = \"10%\" }";
    let project = Project::fake(&workload("a", "true", gate), &counts(1, 100));
    project.expect(0, &["record"]);
    project.counts(&counts(2, 110));
    assert_eq!(project.verdicts(0, &["check"])["a"], "within");
    project.counts(&counts(3, 100));
    contains(&project.expect(1, &["check"]), &["opcodes.div", "<=2"]);
    project.counts(&counts(1, 111));
    contains(&project.expect(1, &["check"]), &["regions.inner", "10 %"]);
    project.counts("[{\"instructions\": 5, \"opcodes\": {\"mov\": 5}, \"regions\": {}}]");
    contains(
        &project.expect(1, &["check"]),
        &["region `inner` was never entered"],
    );
    project.counts(&scripted(&[5]));
    contains(
        &project.expect(1, &["check"]),
        &["gate on `opcodes.div`", "did not count it"],
    );
}

fn output_is_held_against_its_snapshot() {
    let manifest = |stdout: &str, stderr: &str, file: &str, more: &str| {
        let script = format!("echo '{stdout}'; echo '{stderr}' >&2; echo '{file}' > out.txt");
        let table =
            format!("snapshot = {{ stdout = true, stderr = true, files = [\"out.txt\"]{more} }}");
        format!("backend = \"fake\"\n{}", shell("a", &script, &table))
    };
    let project = Project::fake("", &scripted(&[100]));
    project.manifest(&manifest("one 1.0", "two", "three", ""));
    project.expect(0, &["record"]);
    assert_eq!(project.verdicts(0, &["check"])["a"], "identical");
    for (text, name, line) in [
        (
            manifest("one 1.1", "two", "three", ""),
            "standard output",
            "+one 1.1",
        ),
        (
            manifest("one 1.0", "too", "three", ""),
            "standard error",
            "+too",
        ),
        (
            manifest("one 1.0", "two", "tree", ""),
            "file `out.txt`",
            "+tree",
        ),
    ] {
        project.manifest(&text);
        contains(
            &project.expect(1, &["check"]),
            &["wrong output", name, line, "--- snapshot"],
        );
    }
    let near = ", rtol = 0.2";
    project.manifest(&manifest("one 1.1", "two", "three", near));
    assert_eq!(project.verdicts(0, &["check"])["a"], "identical");
    project.manifest(&manifest("one 1.3", "two", "three", near));
    contains(
        &project.expect(1, &["check"]),
        &["expected 1.0 within rtol 2e-1", "got 1.3"],
    );
    project.manifest(&manifest("ono 1.0", "two", "three", near));
    contains(&project.expect(1, &["check"]), &["wrong output"]);

    // Output that is never the same cannot be held; within the tolerance it is the same.
    let drifting = "n=$(cat n); echo $((n + 1)) > n; echo 100$n";
    for (more, code, verdict) in [
        ("", 5, "not-reproducible"),
        (", rtol = 0.5", 0, "identical"),
    ] {
        let project = Project::fake(
            &shell(
                "a",
                drifting,
                &format!("snapshot = {{ stdout = true{more} }}"),
            ),
            &scripted(&[100]),
        );
        project.write("n", "0\n");
        project.expect(code, &["record"]);
        if code == 0 {
            assert_eq!(project.verdicts(0, &["check"])["a"], verdict);
        } else {
            assert_eq!(project.verdicts(code, &["check"])["a"], verdict);
            assert!(project.baselines().is_empty());
        }
    }
}

fn a_file_of_an_earlier_run_is_no_output() {
    let table = "snapshot = { files = [\"out.txt\"] }";
    let project = Project::fake(&shell("a", "echo 1 > out.txt", table), &scripted(&[100]));
    project.expect(0, &["record"]);
    project.expect(0, &["check"]);
    project.manifest(&format!("backend = \"fake\"\n{}", shell("a", ":", table)));
    contains(
        &project.expect(4, &["check"]),
        &["did not write", "out.txt", "earlier run"],
    );
}

fn code_of_the_repository_is_the_subject() {
    let project = Project::empty();
    let program = project.write("tool", "#!/bin/sh\n");
    fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let manifest = workload("a", "../tool", "");
    project.write(
        "bench/counterfoil.toml",
        &format!("[suite]\nbackend = \"fake\"\n{manifest}"),
    );
    project.counts(&scripted(&[100]));
    let check = ["check", "--manifest", "bench/counterfoil.toml"];
    project.expect(0, &["record", "--manifest", "bench/counterfoil.toml"]);
    project.write("tool", "#!/bin/sh\n:\n");
    contains(&project.expect(3, &check), &["environment tool"]);
    // Alone in a folder beside it, a program is of the surroundings; in one repository, it is what changes.
    project.commit();
    project.expect(0, &["record", "--manifest", "bench/counterfoil.toml"]);
    project.write("tool", "#!/bin/sh\n: :\n");
    project.counts(&scripted(&[200]));
    contains(&project.expect(1, &check), &["regressed", "subject tool"]);
    project.counts(&scripted(&[100, 100, 200, 200]));
    let against = project.expect(1, &[&check[..], &["--against", "HEAD"]].concat());
    contains(&against, &["regressed", "subject tool"]);
}
