//! The folder of baselines: `<workload>.json`, and beside it `<workload>/` with the snapshots of
//! output.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::names::{file_name, parameters};
use super::{
    Baseline, BaselineError, Place, parse, parse_recording, render, render_recording, write_whole,
};
use crate::model::{BackendKind, Shim};

/// A folder of baselines. It need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    folder: PathBuf,
}

/// One output of a case that is kept as a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The exit code.
    Exit,
    /// A file, by its path as the manifest has it, placeholders filled in.
    File(&'a str),
    /// The recorded answers of a shim.
    Shim(&'a str),
}

impl Store {
    /// The baselines in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Store {
            folder: folder.into(),
        }
    }

    /// Where the counts of a workload are.
    pub fn path(&self, workload: &str) -> PathBuf {
        self.folder.join(format!("{workload}.json"))
    }

    /// The baseline of a workload; absent when there is none yet. With `wanted`, one of another
    /// backend is an error.
    pub fn load(
        &self,
        workload: &str,
        wanted: Option<BackendKind>,
    ) -> Result<Option<Baseline>, BaselineError> {
        let path = self.path(workload);
        let Some(bytes) = read_if_there(&path)? else {
            return Ok(None);
        };
        let baseline = parse(&path, as_text(&path, &bytes)?, wanted)?;
        if baseline.workload == workload {
            return Ok(Some(baseline));
        }
        Err(BaselineError::Damaged {
            place: Place::new(&path, 1, 1),
            problem: format!("it is about workload `{}`", baseline.workload),
        })
    }

    /// Writes a workload's file, whole or not at all; without cases it is removed.
    pub fn save(&self, baseline: &Baseline) -> Result<(), BaselineError> {
        let path = self.path(&baseline.workload);
        if baseline.cases.is_empty() {
            return remove_if_there(&path);
        }
        write_whole(&path, render(baseline)?.as_bytes())
    }

    /// The workloads that have a baseline, in the order of their names. Leftovers of killed writers
    /// and files of other kinds are not among them.
    pub fn workloads(&self) -> Result<Vec<String>, BaselineError> {
        let names = names_in(&self.folder)?;
        let workload = |name: &String| Some(name.strip_suffix(".json")?.to_owned());
        Ok(names.iter().filter_map(workload).collect())
    }

    /// Where a snapshot is: `sort/n=1000.stdout`, `sort/stdout` without parameters,
    /// `sort/n=1000.file-out.json` for a file.
    pub fn snapshot_path(&self, workload: &str, case: &str, output: Output<'_>) -> PathBuf {
        let kind = match output {
            Output::Stdout => "stdout".to_owned(),
            Output::Stderr => "stderr".to_owned(),
            Output::Exit => "exit".to_owned(),
            Output::File(path) => format!("file-{}", file_name(path)),
            Output::Shim(name) => format!("shim-{}.json", file_name(name)),
        };
        let name = match parameters(workload, case) {
            Some(parameters) => format!("{}.{kind}", file_name(parameters)),
            None => kind,
        };
        self.folder.join(workload).join(name)
    }

    /// A snapshot's bytes; absent when there is none yet.
    pub fn load_snapshot(
        &self,
        workload: &str,
        case: &str,
        output: Output<'_>,
    ) -> Result<Option<Vec<u8>>, BaselineError> {
        read_if_there(&self.snapshot_path(workload, case, output))
    }

    /// Writes a snapshot, whole or not at all.
    pub fn save_snapshot(
        &self,
        workload: &str,
        case: &str,
        output: Output<'_>,
        bytes: &[u8],
    ) -> Result<(), BaselineError> {
        write_whole(&self.snapshot_path(workload, case, output), bytes)
    }

    /// The recorded answers of a shim; absent when there are none yet.
    pub fn load_recording(
        &self,
        workload: &str,
        case: &str,
        shim: &str,
    ) -> Result<Option<Shim>, BaselineError> {
        let path = self.snapshot_path(workload, case, Output::Shim(shim));
        let Some(bytes) = read_if_there(&path)? else {
            return Ok(None);
        };
        parse_recording(&path, shim, as_text(&path, &bytes)?).map(Some)
    }

    /// Writes the recorded answers of a shim, whole or not at all; a file that has them already stays.
    pub fn save_recording(
        &self,
        workload: &str,
        case: &str,
        shim: &Shim,
    ) -> Result<(), BaselineError> {
        let text = render_recording(shim)?;
        let path = self.snapshot_path(workload, case, Output::Shim(&shim.name));
        if read_if_there(&path)?.as_deref() == Some(text.as_bytes()) {
            return Ok(());
        }
        write_whole(&path, text.as_bytes())
    }

    /// Snapshots of a workload that no case wants any more. `wanted` are the paths of those that
    /// are.
    pub fn stale_snapshots(
        &self,
        workload: &str,
        wanted: &BTreeSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, BaselineError> {
        let folder = self.folder.join(workload);
        let names = names_in(&folder)?.into_iter();
        let paths = names
            .filter(|name| is_snapshot(name))
            .map(|name| folder.join(name));
        Ok(paths.filter(|path| !wanted.contains(path)).collect())
    }

    /// Removes a workload's folder of snapshots when nothing is left in it.
    pub fn remove_empty_folder(&self, workload: &str) {
        // A folder that is not empty, or not there, refuses and stays as it is.
        fs::remove_dir(self.folder.join(workload)).ok();
    }

    /// Removes a file of this store; fine when it is gone already.
    pub fn remove(&self, path: &Path) -> Result<(), BaselineError> {
        remove_if_there(path)
    }
}

/// Whether a file has a name that [`Store::snapshot_path`] gives: nothing else in these folders is ours.
fn is_snapshot(name: &str) -> bool {
    let kind = |kind: &str| {
        ["stdout", "stderr", "exit"].contains(&kind)
            || kind.starts_with("file-")
            || kind.starts_with("shim-") && kind.ends_with(".json")
    };
    kind(name)
        || name
            .match_indices('.')
            .any(|(dot, _)| kind(&name[dot + 1..]))
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, BaselineError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BaselineError::file("read", path)(error)),
    }
}

fn remove_if_there(path: &Path) -> Result<(), BaselineError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BaselineError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Names of the files in a folder, sorted, hidden ones left out; none when there is no such folder.
fn names_in(folder: &Path) -> Result<Vec<String>, BaselineError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BaselineError::file("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(BaselineError::file("list", folder))?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if let (true, Ok(name)) = (is_file, entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}

fn as_text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, BaselineError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or(bytes);
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = good.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        BaselineError::Damaged {
            place: Place::new(path, line, column),
            problem: "not UTF-8".to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Metric, StoredCase};

    fn baseline(workload: &str) -> Baseline {
        let case = StoredCase {
            metrics: [(Metric::Instructions, 7)].into(),
            ..StoredCase::default()
        };
        Baseline {
            workload: workload.to_owned(),
            backend: BackendKind::Step,
            cases: [(workload.to_owned(), case)].into(),
        }
    }

    #[test]
    fn loads_what_it_saved_and_lists_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("baselines"));
        assert_eq!(store.workloads().unwrap(), [""; 0]);
        assert_eq!(store.load("b", None).unwrap(), None);
        for name in ["b", "a"] {
            store.save(&baseline(name)).unwrap();
        }
        fs::write(store.folder.join(".tmp-x.json"), b"{").unwrap();
        fs::write(store.folder.join("README.md"), b"").unwrap();
        assert_eq!(store.workloads().unwrap(), ["a", "b"]);
        assert_eq!(store.load("b", None).unwrap(), Some(baseline("b")));
    }

    #[test]
    fn a_baseline_without_cases_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let mut gone = baseline("a");
        store.save(&gone).unwrap();
        gone.cases.clear();
        store.save(&gone).unwrap();
        store.save(&gone).unwrap();
        assert_eq!(store.workloads().unwrap(), [""; 0]);
    }

    #[test]
    fn refuses_a_file_that_was_renamed_by_hand() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store.save(&baseline("a")).unwrap();
        fs::rename(store.path("a"), store.path("b")).unwrap();
        let error = store.load("b", None).unwrap_err().to_string();
        assert!(error.contains("b.json:1:1: damaged baseline: it is about workload `a`"));
    }

    #[test]
    fn says_where_a_file_stops_being_text() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        fs::write(store.path("a"), b"{\n \xff").unwrap();
        let error = store.load("a", None).unwrap_err().to_string();
        assert!(
            error.contains("a.json:2:2: damaged baseline: not UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn snapshots_have_a_file_for_each_case_and_output() {
        let store = Store::new("baselines");
        let path = |case, output| {
            let path = store.snapshot_path("sort", case, output);
            path.to_str().unwrap().to_owned()
        };
        assert_eq!(path("sort", Output::Stdout), "baselines/sort/stdout");
        assert_eq!(
            path("sort[n=10]", Output::Stderr),
            "baselines/sort/n=10.stderr"
        );
        assert_eq!(
            path("sort[n=10]", Output::File("out.json")),
            "baselines/sort/n=10.file-out.json"
        );
    }

    #[test]
    fn finds_the_snapshots_that_no_case_wants() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        for case in ["s[n=1]", "s[n=2]"] {
            store
                .save_snapshot("s", case, Output::Stdout, b"x")
                .unwrap();
        }
        let wanted = [store.snapshot_path("s", "s[n=1]", Output::Stdout)].into();
        let stale = store.stale_snapshots("s", &wanted).unwrap();
        assert_eq!(stale, [store.snapshot_path("s", "s[n=2]", Output::Stdout)]);
        store.remove(&stale[0]).unwrap();
        let gone = store.load_snapshot("s", "s[n=2]", Output::Stdout).unwrap();
        assert_eq!(gone, None);
    }
}
