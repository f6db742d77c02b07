//! A project with a manifest, and what its workloads are made of.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{
    assert_no_process, counterfoil, folder, output, processes_with, stderr, stdout, write,
};

/// A project in a folder of its own, with a temporary folder of its own, so that leftovers are seen.
pub struct Project {
    pub root: TempDir,
}

impl Project {
    pub fn empty() -> Project {
        let root = folder();
        // Long enough for a checkout whose path has the same length.
        for name in ["the-project-of-this-test-in-a-long-folder", "tmp"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        Project { root }
    }

    /// With a manifest of these lines below `[suite]`.
    pub fn new(manifest: &str) -> Project {
        let project = Project::empty();
        project.manifest(manifest);
        project
    }

    /// Measured by the fake backend. Each run of each workload counts what `counts` says next.
    pub fn fake(manifest: &str, counts: &str) -> Project {
        let project = Project::new(&format!("backend = \"fake\"\n{manifest}"));
        project.counts(counts);
        project
    }

    pub fn path(&self) -> PathBuf {
        self.root
            .path()
            .join("the-project-of-this-test-in-a-long-folder")
    }

    pub fn tmp(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    pub fn manifest(&self, text: &str) {
        self.write("counterfoil.toml", &format!("[suite]\n{text}"));
    }

    pub fn counts(&self, json: &str) {
        fs::write(self.root.path().join("counts.json"), json).unwrap();
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        write(&self.path(), name, text)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = counterfoil(arguments);
        command
            .current_dir(self.path())
            .env("TMPDIR", self.tmp())
            .env("COUNTERFOIL_FAKE", self.root.path().join("counts.json"));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        output(&mut self.command(arguments))
    }

    /// What it wrote to standard output, once it has ended with `code`.
    pub fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let both = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{both}");
        both
    }

    /// Verdicts by workload.
    pub fn verdicts(&self, code: i32, arguments: &[&str]) -> BTreeMap<String, String> {
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
    pub fn baselines(&self) -> BTreeMap<PathBuf, Vec<u8>> {
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

    pub fn git(&self, arguments: &[&str]) -> String {
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

    pub fn commit(&self) {
        if !self.path().join(".git").exists() {
            self.git(&["init", "-q"]);
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "a state"]);
    }

    /// Nothing is left behind: no scratch folder, no worktree beside the user's own.
    pub fn assert_clean(&self) {
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
pub fn shell(name: &str, script: &str, more: &str) -> String {
    format!("[[workload]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n{more}\n")
}

pub fn workload(name: &str, program: &str, more: &str) -> String {
    format!("[[workload]]\nname = \"{name}\"\ncommand = [\"{program}\"]\n{more}\n")
}

/// Scripted runs of so many instructions, in order.
pub fn scripted(counts: &[u64]) -> String {
    let rows: Vec<_> = counts
        .iter()
        .map(|n| format!("{{\"instructions\": {n}}}"))
        .collect();
    format!("[{}]", rows.join(", "))
}

#[track_caller]
pub fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

const HOT: &str = "
static volatile unsigned sink;
__attribute__((noinline)) static void hot(unsigned n) { for (unsigned i = 0; i < n; i++) sink = i OP 3; }
int main(void) { hot(ROUNDS); return 0; }
";

pub fn hot(operator: &str, rounds: u32) -> String {
    HOT.replace("OP", operator)
        .replace("ROUNDS", &rounds.to_string())
}

pub const BUILT: &str = "
[[workload]]
name = \"hot\"
command = [\"./hot\"]
build = \"gcc -O1 -o hot hot.c\"
";

pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Sends a signal to a command that has processes of this mark: it ends with this code (none for a death by signal) and
/// leaves none of them.
#[track_caller]
pub fn end_by(child: Child, name: &str, code: Option<i32>, mark: &str) -> Output {
    assert!(!processes_with(mark).is_empty());
    signal(&child, name);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), code, "{}", stderr(&output));
    assert_no_process(mark);
    output
}

/// Starts the command with a mark in its environment.
pub fn spawn(project: &Project, arguments: &[&str], mark: &str) -> Child {
    // A test that runs in the background of a shell ignores interruptions, and so would what it starts.
    let mut undisturbed = Command::new("env");
    undisturbed.arg("--default-signal").env("MARK", mark);
    spawn_by(undisturbed, project, arguments)
}

/// Starts it by another that takes a command behind its own words.
pub fn spawn_by(mut starter: Command, project: &Project, arguments: &[&str]) -> Child {
    let command = project.command(arguments);
    starter
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
        .unwrap()
}
