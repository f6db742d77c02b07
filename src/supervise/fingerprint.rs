//! Identity of a measurement: what code it is about, and what else could have moved its counts.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::job::Job;
use super::shims;
use crate::model::{BackendInfo, Fingerprint, Machine};
use crate::object::build_id_of;
use crate::sys::unread;

/// A fact of the fingerprint could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    /// A file of the subject cannot be read.
    #[error("read `{}`, which the manifest names as subject: {source}", path.display())]
    Subject {
        /// The file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// A fingerprint command failed.
    #[error("fingerprint command `{command}`: {problem}")]
    Fact {
        /// As written.
        command: String,
        /// What went wrong.
        problem: String,
    },
}

/// Takes the fingerprint of a run of `program` that had `modules` mapped.
///
/// Code inside the job's project folder is the subject; without a project, the program alone is. Arguments that
/// name files of the project belong to the subject, too: scripts and their data.
pub(super) fn take(
    job: &Job,
    machine: Machine,
    program: &Path,
    cwd: &Path,
    modules: &[PathBuf],
    backend: &BackendInfo,
    variables: BTreeMap<String, String>,
) -> Result<Fingerprint, FingerprintError> {
    let mut print = Fingerprint {
        subject: BTreeMap::new(),
        environment: facts_of_machine(backend, machine),
        variables,
    };
    let program = canonical(&cwd.join(program));
    let code = std::iter::once(&program).chain(modules.iter().filter(|m| **m != program));
    for file in code {
        if let Some(identity) = identity(file) {
            let side = if is_subject(job, file, &program) {
                &mut print.subject
            } else {
                &mut print.environment
            };
            side.insert(file_name(file), identity);
        }
    }
    for file in arguments_in_project(job, cwd) {
        if let Some(identity) = identity(&file) {
            print.subject.insert(relative_name(job, &file), identity);
        }
    }
    for file in &job.subject {
        let read = |source| FingerprintError::Subject {
            path: file.clone(),
            source,
        };
        let identity = hash(file).map_err(read)?;
        print.subject.insert(relative_name(job, file), identity);
    }
    for shim in &job.shims {
        let name = format!("shim {}", shim.name);
        print.subject.insert(name, shims::identity(shim));
    }
    for command in &job.facts {
        print
            .environment
            .insert(command.join(" "), fact(command, cwd)?);
    }
    Ok(print)
}

/// The variables with digests in the place of their values, which may be nobody's business.
pub(super) fn digests<'a>(
    variables: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>,
) -> BTreeMap<String, String> {
    let digest = |(name, value): (&OsStr, &OsStr)| {
        let sum = Sha256::digest(value.as_bytes());
        (
            name.to_string_lossy().into_owned(),
            format!("sha256:{}", hex(&sum)),
        )
    };
    variables.into_iter().map(digest).collect()
}

fn is_subject(job: &Job, file: &Path, program: &Path) -> bool {
    match &job.project {
        Some(project) => file.starts_with(canonical(project)),
        None => file == program,
    }
}

fn arguments_in_project(job: &Job, cwd: &Path) -> Vec<PathBuf> {
    let Some(project) = job.project.as_ref().map(|folder| canonical(folder)) else {
        return Vec::new();
    };
    let paths = job
        .command
        .iter()
        .skip(1)
        .map(|word| canonical(&cwd.join(word)));
    paths
        .filter(|path| path.starts_with(&project) && path.is_file())
        .collect()
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// The path seen from the project, so that a checkout in another place has the same fingerprint.
fn relative_name(job: &Job, path: &Path) -> String {
    let project = job.project.as_ref().map(|folder| canonical(folder));
    let path = canonical(path);
    let inside = project.and_then(|folder| path.strip_prefix(folder).map(Path::to_owned).ok());
    inside.unwrap_or(path).to_string_lossy().into_owned()
}

fn facts_of_machine(backend: &BackendInfo, machine: Machine) -> BTreeMap<String, String> {
    let cpu = match machine.cpu {
        Some(model) => model.to_string(),
        None => cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
    };
    BTreeMap::from([
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        (
            "backend".to_owned(),
            format!("{} {}", backend.name, backend.version),
        ),
        ("cpu".to_owned(), cpu),
    ])
}

/// The first CPU of /proc/cpuinfo by the numbers that libraries dispatch on, not by its marketing name.
fn cpu_model(cpuinfo: &str) -> String {
    const KEYS: [&str; 6] = [
        "vendor_id",
        "cpu family",
        "model",
        "CPU implementer",
        "CPU variant",
        "CPU part",
    ];
    let first = cpuinfo.split("\n\n").next().unwrap_or("");
    let fields: HashMap<&str, &str> = first
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let known: Vec<_> = KEYS
        .iter()
        .filter_map(|key| fields.get(key).map(|value| format!("{key} {value}")))
        .collect();
    if known.is_empty() {
        "unknown".to_owned()
    } else {
        known.join(", ")
    }
}

/// Identities of files already looked at, by path and modification time: libraries recur in every run.
static KNOWN: Mutex<Vec<(PathBuf, SystemTime, String)>> = Mutex::new(Vec::new());

/// A file's build-id, or the hash of its bytes; none when it cannot be read (any more).
fn identity(file: &Path) -> Option<String> {
    let modified = fs::metadata(file)
        .and_then(|metadata| metadata.modified())
        .ok()?;
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known()
        .iter()
        .find(|(path, time, _)| path == file && *time == modified)
    {
        return Some(found.2.clone());
    }
    let build_id = build_id_of(&unread::open(file).ok()?);
    let identity = match build_id.as_deref().map(hex) {
        Some(id) => format!("build-id:{id}"),
        None => hash(file).ok()?,
    };
    known().push((file.to_owned(), modified, identity.clone()));
    Some(identity)
}

fn hash(file: &Path) -> io::Result<String> {
    let mut sum = Sha256::new();
    io::copy(&mut unread::open(file)?, &mut sum)?;
    Ok(format!("sha256:{}", hex(&sum.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a fingerprint command prints, on one line.
fn fact(command: &[String], cwd: &Path) -> Result<String, FingerprintError> {
    let failed = |problem: String| FingerprintError::Fact {
        command: command.join(" "),
        problem,
    };
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| failed("it is empty".to_owned()))?;
    let output = Command::new(program)
        .args(arguments)
        .current_dir(cwd)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("{}", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_cpu_by_the_numbers_that_libraries_dispatch_on() {
        let x86 = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: X\n\nvendor_id: no";
        assert_eq!(
            cpu_model(x86),
            "vendor_id AuthenticAMD, cpu family 25, model 17"
        );
        let arm = "processor: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";
        assert_eq!(cpu_model(arm), "CPU implementer 0x41, CPU part 0xd0c");
        assert_eq!(cpu_model(""), "unknown");
    }

    #[test]
    fn a_fact_is_what_a_command_prints() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(fact(&words("echo a  b"), Path::new("/")).unwrap(), "a b");
        let error = fact(&words("false"), Path::new("/"))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("fingerprint command `false`"), "{error}");
    }

    #[test]
    fn a_file_without_build_id_is_known_by_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script");
        fs::write(&file, "abc").unwrap();
        // SHA-256 of "abc": FIPS 180-2, appendix B.1.
        let sha = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(identity(&file).as_deref(), Some(sha));
        assert_eq!(identity(Path::new("/nonexistent")), None);
    }
}
