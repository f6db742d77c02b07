//! A project with a manifest, in a folder of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::{counterfoil, folder, output, stderr, stdout, write};

/// The project, programs of its own, and a temporary folder of its own, so that leftovers are seen.
pub struct Project {
    root: TempDir,
}

impl Project {
    pub fn new(manifest: &str) -> Project {
        let root = folder();
        for name in ["project", "tmp", "bin"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let project = Project { root };
        project.write("counterfoil.toml", manifest);
        project
    }

    /// With one workload `w`, which is a script of sh and has these lines; `before` are those before it.
    pub fn scripted(before: &str, lines: &str, script: &str) -> Project {
        let workload = "[[workload]]\nname = \"w\"\ncommand = [\"sh\", \"w.sh\"]";
        let project = Project::new(&format!("{before}\n{workload}\n{lines}"));
        project.write("w.sh", script);
        project
    }

    pub fn path(&self) -> PathBuf {
        self.root.path().join("project")
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        write(&self.path(), name, text)
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A program of this name in `PATH`: a script of /bin/sh.
    pub fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = write(
            &self.root.path().join("bin"),
            name,
            &format!("#!/bin/sh\n{script}"),
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Takes a program away.
    pub fn without_program(&self, name: &str) {
        fs::remove_file(self.root.path().join("bin").join(name)).unwrap();
    }

    /// A symbolic link in `PATH`.
    pub fn link(&self, name: &str, to: &Path) {
        std::os::unix::fs::symlink(to, self.root.path().join("bin").join(name)).unwrap();
    }

    /// `command` with the surroundings of the project.
    pub fn surround(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap_or_default();
        let own = self.root.path().join("bin");
        command
            .current_dir(self.path())
            .env("TMPDIR", self.root.path().join("tmp"))
            .env("PATH", format!("{}:{path}", own.display()));
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = counterfoil(arguments);
        self.surround(&mut command);
        output(&mut command)
    }

    /// What it wrote to both streams, once it has ended with `code`.
    #[track_caller]
    pub fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let both = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{both}");
        self.assert_clean();
        both
    }

    /// The report of a run with `--json` that has ended with `code`.
    #[track_caller]
    pub fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let both = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{both}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Nothing is left in the temporary folder.
    #[track_caller]
    pub fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.root.path().join("tmp"))
            .unwrap()
            .flatten()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
