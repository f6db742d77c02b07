//! The suite commands from end to end: `init`, `list`, `record`, `check`, `check --against`.
//!
//! Verdicts are tested with scripted counts (the fake backend), the stories around them with real ones.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::Duration;

use common::Need::{DefaultBackend, Program};
use common::{
    assert_no_process, case, counterfoil, eventually, folder, mark, processes_with, stderr, stdout,
    write,
};
use serde_json::Value;
use tempfile::TempDir;

fn main() -> ExitCode {
    let real = [DefaultBackend];
    let gcc = [DefaultBackend, Program("gcc")];
    let git = [Program("git")];
    let all = [DefaultBackend, Program("gcc"), Program("git")];
    let python = [DefaultBackend, Program("git"), Program("/usr/bin/python3")];
    common::run(vec![
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
        case(
            "a_change_of_the_source_is_explained",
            &gcc,
            a_change_of_the_source_is_explained,
        ),
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
            "code_of_the_repository_is_the_subject",
            &git,
            code_of_the_repository_is_the_subject,
        ),
        case(
            "a_checkout_elsewhere_does_not_move_a_count_of_python",
            &python,
            a_checkout_elsewhere_does_not_move_a_count_of_python,
        ),
    ])
}

/// A project in a folder of its own, with a temporary folder of its own, so that leftovers are seen.
struct Project {
    root: TempDir,
}

impl Project {
    fn empty() -> Project {
        let root = folder();
        // Long enough for a checkout whose path has the same length.
        for name in ["the-project-of-this-test-in-a-long-folder", "tmp"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        Project { root }
    }

    /// With a manifest of these lines below `[suite]`.
    fn new(manifest: &str) -> Project {
        let project = Project::empty();
        project.manifest(manifest);
        project
    }

    /// Measured by the fake backend. Each run of each workload counts what `counts` says next.
    fn fake(manifest: &str, counts: &str) -> Project {
        let project = Project::new(&format!("backend = \"fake\"\n{manifest}"));
        project.counts(counts);
        project
    }

    fn path(&self) -> PathBuf {
        self.root
            .path()
            .join("the-project-of-this-test-in-a-long-folder")
    }

    fn tmp(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    fn manifest(&self, text: &str) {
        self.write("counterfoil.toml", &format!("[suite]\n{text}"));
    }

    fn counts(&self, json: &str) {
        fs::write(self.root.path().join("counts.json"), json).unwrap();
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        write(&self.path(), name, text)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = counterfoil(arguments);
        command
            .current_dir(self.path())
            .env("TMPDIR", self.tmp())
            .env("COUNTERFOIL_FAKE", self.root.path().join("counts.json"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        common::output(&mut self.command(arguments))
    }

    /// What it wrote to standard output, once it has ended with `code`.
    fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let both = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{both}");
        both
    }

    /// Verdicts by workload.
    fn verdicts(&self, code: i32, arguments: &[&str]) -> BTreeMap<String, String> {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}{}",
            stdout(&output),
            stderr(&output)
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = report["workloads"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rows.map(|row| (text(&row["workload"]), text(&row["verdict"])))
            .collect()
    }

    /// Every file below the baselines, with its content.
    fn baselines(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path().join("baselines")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.clone(), fs::read(&path).unwrap());
                }
            }
        }
        files
    }

    fn git(&self, arguments: &[&str]) -> String {
        let identity = [
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.org",
            "-c",
            "init.defaultBranch=main",
        ];
        let output = Command::new("git")
            .current_dir(self.path())
            .args(identity)
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            stderr(&output)
        );
        stdout(&output)
    }

    fn commit(&self) {
        if !self.path().join(".git").exists() {
            self.git(&["init", "-q"]);
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "a state"]);
    }

    /// Nothing is left behind: no scratch folder, no worktree beside the user's own.
    fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.tmp())
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
        if self.path().join(".git").exists() {
            let worktrees = self.git(&["worktree", "list"]);
            assert_eq!(worktrees.lines().count(), 1, "{worktrees}");
        }
    }
}

/// A shell workload of this name, with more lines for its table.
fn shell(name: &str, script: &str, more: &str) -> String {
    format!("[[workload]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n{more}\n")
}

fn workload(name: &str, program: &str, more: &str) -> String {
    format!("[[workload]]\nname = \"{name}\"\ncommand = [\"{program}\"]\n{more}\n")
}

/// Scripted runs of so many instructions, in order.
fn scripted(counts: &[u64]) -> String {
    let rows: Vec<_> = counts
        .iter()
        .map(|n| format!("{{\"instructions\": {n}}}"))
        .collect();
    format!("[{}]", rows.join(", "))
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
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

const HOT: &str = "
static volatile unsigned sink;
__attribute__((noinline)) static void hot(unsigned n) { for (unsigned i = 0; i < n; i++) sink = i OP 3; }
int main(void) { hot(ROUNDS); return 0; }
";

fn hot(operator: &str, rounds: u32) -> String {
    HOT.replace("OP", operator)
        .replace("ROUNDS", &rounds.to_string())
}

const BUILT: &str = "
[[workload]]
name = \"hot\"
command = [\"./hot\"]
build = \"gcc -O1 -o hot hot.c\"
";

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
    stdout(&common::output(&mut command))
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

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

fn spawn(project: &Project, arguments: &[&str], mark: &str) -> Child {
    let command = project.command(arguments);
    let mut undisturbed = Command::new("env");
    // A test that runs in the background of a shell ignores interruptions, and so would what it starts.
    undisturbed
        .arg("--default-signal")
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(project.path())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("MARK", mark)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
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
        assert!(!processes_with(&mark).is_empty());
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        contains(&stderr(&output), &["stopped by signal"]);
        assert_eq!(stdout(&output), "");
        assert_no_process(&mark);
        project.assert_clean();
    }
}

fn a_signal_to_be_ignored_is_ignored() {
    let project = Project::fake(
        &shell("a", "touch started; sleep 0.5", "repeat = 1"),
        &scripted(&[1]),
    );
    let mut child = Command::new("nohup");
    let command = project.command(&["check"]);
    let child = child
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(project.path())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
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
        assert!(!processes_with(&mark).is_empty());
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), code, "{}", stderr(&output));
        assert_no_process(&mark);
        project.assert_clean();
    }
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
    let hook = common::output(
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
        assert!(!processes_with(&mark).is_empty());
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), code, "{}", stderr(&output));
        assert_no_process(&mark);
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
    // Python hashes its own path, so that a few hundred of many millions are the path's.
    assert!(before.abs_diff(after) < 1000, "{before} and {after}");
    project.assert_clean();
}
