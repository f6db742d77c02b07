//! Signals and sudden ends: nothing is left behind, nothing is half written.

use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::common::Need::DefaultBackend;
use crate::common::{assert_no_process, case, eventually, mark, stderr, stdout};
use crate::project::{
    Project, contains, end_by, scripted, shell, signal, spawn, spawn_by, workload,
};

pub fn cases() -> Vec<Trial> {
    let real = [DefaultBackend];
    vec![
        case(
            "a_killed_record_leaves_whole_files_and_no_process",
            &[],
            a_killed_record_leaves_whole_files_and_no_process,
        ),
        case(
            "an_interrupted_check_leaves_nothing",
            &real,
            an_interrupted_check_leaves_nothing,
        ),
        case(
            "a_signal_to_be_ignored_is_ignored",
            &[],
            a_signal_to_be_ignored_is_ignored,
        ),
        case(
            "an_interrupted_build_leaves_nothing",
            &[],
            an_interrupted_build_leaves_nothing,
        ),
    ]
}

fn a_killed_record_leaves_whole_files_and_no_process() {
    let mark = mark("killed");
    let manifest: String = (0..6)
        .map(|n| {
            let table = format!("env = {{ MARK = \"{mark}\" }}\nsnapshot = {{ stdout = true }}");
            shell(
                &format!("w{n}"),
                "(sleep 0.02; :) & sleep 0.01; seq 1 20000; wait",
                &table,
            )
        })
        .collect();
    let project = Project::fake(&format!("jobs = 2\n{manifest}"), &scripted(&[1000]));
    project.expect(0, &["record"]);
    let whole: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    for round in 0..12u64 {
        project.counts(&scripted(&[2000 + round]));
        let mut child = spawn(&project, &["record"], &mark);
        // Record takes about 300 ms; the moments are spread over it and a little beyond.
        std::thread::sleep(Duration::from_millis(37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_no_process(&mark);
        for (path, bytes) in project.baselines() {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name == "stdout" {
                assert_eq!(
                    String::from_utf8(bytes).unwrap(),
                    whole,
                    "{}",
                    path.display()
                );
            } else if !name.starts_with(".tmp-") {
                serde_json::from_slice::<Value>(&bytes).unwrap();
            }
        }
        project.expect(0, &["list"]);
    }
    project.expect(0, &["record"]);
    let left: Vec<_> = project
        .baselines()
        .into_keys()
        .filter(|path| path.to_str().unwrap().contains(".tmp-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    project.assert_clean();
}

fn an_interrupted_check_leaves_nothing() {
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mark = mark(name);
        let table = format!("env = {{ MARK = \"{mark}\" }}");
        let manifest: String = (0..4)
            .map(|n| {
                shell(
                    &format!("w{n}"),
                    "touch started; (sleep 60) & sleep 60; wait",
                    &table,
                )
            })
            .collect();
        let project = Project::new(&format!("jobs = 2\n{manifest}"));
        let child = spawn(&project, &["check"], &mark);
        eventually("a workload starts", || {
            project.path().join("started").exists()
        });
        let output = end_by(child, name, Some(code), &mark);
        contains(&stderr(&output), &["stopped by signal"]);
        assert_eq!(stdout(&output), "");
        project.assert_clean();
    }
}

fn a_signal_to_be_ignored_is_ignored() {
    let project = Project::fake(
        &shell("a", "touch started; sleep 0.5", "repeat = 1"),
        &scripted(&[1]),
    );
    let child = spawn_by(Command::new("nohup"), &project, &["check"]);
    eventually("a workload starts", || {
        project.path().join("started").exists()
    });
    signal(&child, "HUP");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

fn an_interrupted_build_leaves_nothing() {
    for (name, code) in [("INT", Some(130)), ("KILL", None)] {
        let mark = mark(&format!("build-{name}"));
        let table = "build = \"touch started; (sleep 60; :) & sleep 60; wait\"";
        let project = Project::fake(&workload("a", "true", table), &scripted(&[1]));
        let child = spawn(&project, &["check"], &mark);
        eventually("the build starts", || {
            project.path().join("started").exists()
        });
        end_by(child, name, code, &mark);
        project.assert_clean();
    }
}
