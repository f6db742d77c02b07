//! `init`: scaffolds a manifest that runs at once, and a GitHub workflow.
//!
//! Nothing is overwritten unless that was asked for, and each file appears whole or not at all.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The manifest's place in a project.
const MANIFEST: &str = "counterfoil.toml";
/// The workflow's place in a project.
const WORKFLOW: &str = ".github/workflows/counterfoil.yml";

/// Why a project could not be scaffolded.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Files that are there already. Nothing was written.
    #[error("{} there already; `--force` replaces what is there", listed(.0))]
    Exists(Vec<PathBuf>),
    /// A folder or file could not be written.
    #[error("{doing} `{}`: {source}", path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

fn listed(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|p| format!("`{}`", p.display())).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(" and "))
}

/// What a project is built with, as far as its files tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Project {
    /// There is a `Cargo.toml`; the package's name, absent in a bare workspace.
    Cargo(Option<String>),
    /// There is a `pyproject.toml` (with this project name) or a `setup.py`.
    Python(Option<String>),
    /// There is a makefile.
    Make,
    /// None of these.
    Other,
}

impl Project {
    /// Looks at the files of `dir`. A file that cannot be read or parsed gives no name, and is no error:
    /// the name only makes an example fit better.
    pub fn detect(dir: &Path) -> Project {
        let there = |name: &str| dir.join(name).is_file();
        if there("Cargo.toml") {
            Project::Cargo(name_in(&dir.join("Cargo.toml"), "package"))
        } else if there("pyproject.toml") || there("setup.py") {
            Project::Python(name_in(&dir.join("pyproject.toml"), "project"))
        } else if there("Makefile") || there("makefile") || there("GNUmakefile") {
            Project::Make
        } else {
            Project::Other
        }
    }

    /// The commented part of the manifest that fits this project.
    fn example(&self) -> String {
        match self {
            Project::Cargo(name) => with_name(include_str!("templates/cargo.toml"), name),
            Project::Python(name) => with_name(include_str!("templates/python.toml"), name),
            Project::Make => include_str!("templates/make.toml").to_owned(),
            Project::Other => include_str!("templates/other.toml").to_owned(),
        }
    }
}

fn name_in(file: &Path, table: &str) -> Option<String> {
    let document: toml::Table = fs::read_to_string(file).ok()?.parse().ok()?;
    let name = document.get(table)?.get("name")?.as_str()?;
    // What package registries allow. Anything else would not be a program's name, and could leave the comment.
    let usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!name.is_empty() && name.chars().all(usual)).then(|| name.to_owned())
}

fn with_name(template: &str, name: &Option<String>) -> String {
    match name {
        Some(name) => template
            .replace("MODULE", &name.replace('-', "_"))
            .replace("PROGRAM", name),
        None => template.to_owned(),
    }
}

/// The manifest for `project`.
pub fn manifest(project: &Project) -> String {
    let head = include_str!("templates/counterfoil.toml");
    format!("{head}\n{}", project.example())
}

/// The GitHub workflow.
pub fn workflow() -> &'static str {
    include_str!("templates/workflow.yml")
}

/// Writes the manifest and the workflow into `dir`, and returns their paths within it, in this order.
///
/// Without `force`, both are left alone when one of them exists.
pub fn run(dir: &Path, force: bool) -> Result<Vec<PathBuf>, InitError> {
    let manifest = manifest(&Project::detect(dir));
    let files = [(MANIFEST, manifest.as_str()), (WORKFLOW, workflow())];
    if !force {
        refuse_existing(dir, &files.map(|(name, _)| name))?;
    }
    for (name, text) in files {
        write(&dir.join(name), text, force)?;
    }
    Ok(files.map(|(name, _)| PathBuf::from(name)).to_vec())
}

fn refuse_existing(dir: &Path, names: &[&str]) -> Result<(), InitError> {
    // A symbolic link that leads nowhere is there, too.
    let there = |name: &&&str| fs::symlink_metadata(dir.join(name)).is_ok();
    let existing: Vec<_> = names.iter().filter(there).map(PathBuf::from).collect();
    match existing.is_empty() {
        true => Ok(()),
        false => Err(InitError::Exists(existing)),
    }
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), InitError> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| InitError::File {
            doing,
            path,
            source,
        }
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed("create folder", folder))?;
    let mut file = tempfile::Builder::new()
        .prefix(".counterfoil-init-")
        // Less the umask, as for any file that a program creates.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed("create a file in", folder))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed("write", path))?;
    let placed = match force {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    match placed {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(InitError::Exists(vec![path.to_owned()]))
        }
        Err(e) => Err(failed("write", path)(e.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn read(dir: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(dir.path().join(name)).unwrap()
    }

    /// The examples as a user gets them who removes the comment signs: `#key` is an example, `# Text` is not.
    fn uncommented(manifest: &str) -> String {
        let lines = manifest.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn every_project() -> [Project; 6] {
        let name = Some("my-tool".to_owned());
        [
            Project::Cargo(name.clone()),
            Project::Cargo(None),
            Project::Python(name),
            Project::Python(None),
            Project::Make,
            Project::Other,
        ]
    }

    #[test]
    fn a_fresh_folder_gets_both_files_and_nothing_else() {
        let dir = project(&[]);
        let written = run(dir.path(), false).unwrap();
        assert_eq!(written, [MANIFEST, WORKFLOW].map(PathBuf::from));
        assert_eq!(read(&dir, MANIFEST), manifest(&Project::Other));
        assert_eq!(read(&dir, WORKFLOW), workflow());
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .chain(fs::read_dir(dir.path().join(".github/workflows")).unwrap())
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name.to_string_lossy().starts_with(".counterfoil"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn files_get_the_permissions_of_any_new_file() {
        let dir = project(&[("usual", "")]);
        run(dir.path(), false).unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions();
        assert_eq!(mode(MANIFEST), mode("usual"));
    }

    #[test]
    fn refuses_to_overwrite_and_then_writes_neither_file() {
        let dir = project(&[(MANIFEST, "mine")]);
        let error = run(dir.path(), false).unwrap_err().to_string();
        let text = "`counterfoil.toml` is there already; `--force` replaces what is there";
        assert_eq!(error, text);
        assert_eq!(read(&dir, MANIFEST), "mine");
        assert!(!dir.path().join(".github").exists());
    }

    #[test]
    fn names_every_file_that_is_in_the_way_and_replaces_both_by_force() {
        let dir = project(&[]);
        run(dir.path(), false).unwrap();
        let error = run(dir.path(), false).unwrap_err().to_string();
        let names = "`counterfoil.toml` and `.github/workflows/counterfoil.yml` are there already";
        assert!(error.starts_with(names), "{error}");
        fs::write(dir.path().join(MANIFEST), "mine").unwrap();
        run(dir.path(), true).unwrap();
        assert_eq!(read(&dir, MANIFEST), manifest(&Project::Other));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_in_the_way_and_force_does_not_follow_it() {
        let dir = project(&[]);
        let outside = project(&[]);
        let target = outside.path().join("victim");
        std::os::unix::fs::symlink(&target, dir.path().join(MANIFEST)).unwrap();
        assert!(matches!(run(dir.path(), false), Err(InitError::Exists(_))));
        run(dir.path(), true).unwrap();
        assert!(!target.exists());
    }

    #[test]
    fn a_file_where_a_folder_belongs_is_named() {
        let dir = project(&[(".github", "")]);
        let error = run(dir.path(), false).unwrap_err().to_string();
        assert!(error.contains("create folder"), "{error}");
        assert!(error.contains(".github/workflows"), "{error}");
    }

    #[test]
    fn tells_projects_apart_by_their_files() {
        let cargo = "[package]\nname = \"my-tool\"\n";
        let python = "[project]\nname = \"my-tool\"\n";
        let name = Some("my-tool".to_owned());
        let cases = [
            (
                vec![("Cargo.toml", cargo), ("Makefile", "")],
                Project::Cargo(name.clone()),
            ),
            (vec![("Cargo.toml", "[workspace]")], Project::Cargo(None)),
            (vec![("Cargo.toml", "not toml [")], Project::Cargo(None)),
            (
                vec![("Cargo.toml", "[package]\nname = \"a\\nb\"")],
                Project::Cargo(None),
            ),
            (vec![("pyproject.toml", python)], Project::Python(name)),
            (vec![("setup.py", "")], Project::Python(None)),
            (vec![("GNUmakefile", "")], Project::Make),
            (vec![("main.c", "")], Project::Other),
        ];
        for (files, expected) in cases {
            assert_eq!(
                Project::detect(project(&files).path()),
                expected,
                "{files:?}"
            );
        }
    }

    #[test]
    fn every_manifest_is_toml_with_and_without_its_comment_signs() {
        for project in every_project() {
            let text = manifest(&project);
            let as_written: toml::Table = text.parse().unwrap();
            let workloads = |table: &toml::Table| table["workload"].as_array().unwrap().len();
            let opened: toml::Table = uncommented(&text).parse().unwrap();
            assert!(workloads(&opened) > workloads(&as_written), "{project:?}");
        }
    }

    #[test]
    fn examples_carry_the_projects_name() {
        let named = |project: Project| uncommented(&manifest(&project));
        let name = Some("my-tool".to_owned());
        let cargo = named(Project::Cargo(name.clone()));
        assert!(cargo.contains("\"target/release/my-tool\""), "{cargo}");
        let python = named(Project::Python(name));
        assert!(python.contains("\"my_tool\""), "{python}");
    }

    #[test]
    fn the_programs_of_the_live_workloads_are_on_this_machine() {
        let table: toml::Table = manifest(&Project::Other).parse().unwrap();
        for workload in table["workload"].as_array().unwrap() {
            let program = workload["command"][0].as_str().unwrap();
            let found = ["/bin", "/usr/bin"].map(|dir| Path::new(dir).join(program).exists());
            assert!(found.contains(&true), "{program}");
        }
    }
}
