//! `init`, and what it leaves to open.

use libtest_mimic::Trial;
use serde_json::Value;

use crate::common::Need::DefaultBackend;
use crate::common::{case, stderr};
use crate::project::{Project, contains};

pub fn cases() -> Vec<Trial> {
    let real = [DefaultBackend];
    vec![
        case(
            "what_init_writes_runs_at_once",
            &real,
            what_init_writes_runs_at_once,
        ),
        case(
            "the_examples_of_init_are_good_manifests",
            &[],
            the_examples_of_init_are_good_manifests,
        ),
    ]
}

fn what_init_writes_runs_at_once() {
    let project = Project::empty();
    let told = project.expect(0, &["init"]);
    contains(
        &told,
        &[
            "wrote ./counterfoil.toml",
            ".github/workflows/counterfoil.yml",
            "counterfoil record",
            "counterfoil check",
        ],
    );
    contains(&project.expect(2, &["init"]), &["already", "--force"]);
    contains(
        &project.expect(0, &["list"]),
        &["numbers[n=100]", "numbers[n=10000]", "shell-loop"],
    );
    contains(
        &project.expect(0, &["record"]),
        &["3 workloads: 3 baselines written"],
    );
    contains(
        &project.expect(0, &["check"]),
        &["3 workloads: 3 identical"],
    );
    assert_eq!(
        project
            .read("baselines/numbers/n=100.stdout")
            .lines()
            .count(),
        100
    );
    project.assert_clean();
}

fn the_examples_of_init_are_good_manifests() {
    for (file, text) in [
        ("Cargo.toml", "[package]\nname = \"my-tool\"\n"),
        ("pyproject.toml", "[project]\nname = \"my-tool\"\n"),
        ("Makefile", "all:\n"),
        ("main.c", ""),
    ] {
        let project = Project::empty();
        project.write(file, text);
        project.expect(0, &["init"]);
        let manifest = project.read("counterfoil.toml");
        let lines = manifest.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
            _ => line,
        });
        let opened = lines.collect::<Vec<_>>().join("\n");
        project.write("counterfoil.toml", &opened);
        let listed = project.run(&["list", "--json"]);
        let list: Value = serde_json::from_slice(&listed.stdout)
            .unwrap_or_else(|_| panic!("{file}: {}", stderr(&listed)));
        assert!(
            list["workloads"].as_array().unwrap().len() > 3,
            "{file}: {list:#}"
        );
    }
}
