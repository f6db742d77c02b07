//! How Valgrind is found and started, and what is wrong with a program before Valgrind sees it.
//!
//! The options are those of Valgrind 3.19, with which all this was tested. Options that a user's `~/.valgrindrc`,
//! `./.valgrindrc` or `VALGRIND_OPTS` would add are shut out, because they would change counts.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, Pid, access};

use crate::backend::Unavailable;
use crate::sys::seccomp::Writes;
use crate::sys::spawn::{ChildStep, Launch, SpawnError};

/// The oldest version that is tried; the self-test says whether it counts. Older ones are refused unseen.
pub const OLDEST: (u32, u32) = (3, 15);

/// One of Valgrind's two counting tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Counts by source line, without caches.
    Cachegrind,
    /// Counts by instruction address.
    Callgrind,
}

impl Tool {
    /// Its name as `--tool=` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Cachegrind => "cachegrind",
            Tool::Callgrind => "callgrind",
        }
    }

    /// Whether `executable` is the program that runs clients under this tool: `callgrind-amd64-linux`.
    pub fn runs_as(self, executable: &Path) -> bool {
        let name = executable.file_name().unwrap_or_default().as_bytes();
        name.strip_prefix(self.name().as_bytes())
            .is_some_and(|rest| rest.starts_with(b"-"))
    }
}

/// What callgrind counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// Everything.
    #[default]
    Whole,
    /// What runs while the program has switched instrumentation on, dumped at its requests.
    Instrumented,
    /// What runs while the program has switched collection on, dumped at its requests.
    Collected,
}

/// A Valgrind that is installed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Valgrind {
    /// Its launcher.
    pub launcher: PathBuf,
    /// Its version, as it says itself: `3.19.0`.
    pub version: String,
}

impl Valgrind {
    /// The one on `PATH`.
    pub fn find() -> Result<Valgrind, Unavailable> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Valgrind::find_in(&path)
    }

    /// The first one in the folders of `path`, which is written as `PATH` is.
    pub fn find_in(path: &std::ffi::OsStr) -> Result<Valgrind, Unavailable> {
        let candidates = std::env::split_paths(path).map(|folder| folder.join("valgrind"));
        let found = candidates.into_iter().find(|file| is_program(file));
        let script = found.ok_or_else(|| Unavailable {
            reason: "Valgrind is not installed (no `valgrind` on PATH)".to_owned(),
            remedy: "install it, on Debian and Ubuntu with `apt install valgrind`".to_owned(),
        })?;
        let launcher = without_wrapper(script);
        let version = ask_version(&launcher)?;
        Ok(Valgrind { launcher, version })
    }

    /// The launch that runs `launch` under `tool`, with its files in `scratch`.
    pub fn wrap(&self, launch: &Launch, tool: Tool, extent: Extent, scratch: &Path) -> Launch {
        let mut args = vec![self.launcher.clone().into_os_string()];
        args.extend(options(tool, extent, scratch));
        args.push(unmistakable(&launch.program).into_os_string());
        args.extend(launch.args.iter().skip(1).cloned());
        Launch {
            program: self.launcher.clone(),
            args,
            report: (tool == Tool::Callgrind).then(log_writes),
            // Valgrind looks for it itself, and leaves it to its client.
            no_vdso: false,
            ..launch.clone()
        }
    }
}

/// Valgrind's writes to its log: its own files have the numbers that it takes from the end of those a process may
/// have (coregrind/m_libcfile.c, `VG_(fd_hard_limit)`).
fn log_writes() -> Writes {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((RESERVED, RESERVED));
    let first = soft.min(hard.saturating_sub(RESERVED));
    Writes::from(u32::try_from(first).unwrap_or(u32::MAX))
}

/// coregrind/pub_core_libcfile.h: `N_RESERVED_FDS`.
const RESERVED: u64 = 12;

/// Debian's `valgrind` is a script that adds variables to the environment of the program; the real one is beside it.
fn without_wrapper(script: PathBuf) -> PathBuf {
    let mut real = script.clone().into_os_string();
    real.push(".bin");
    let real = PathBuf::from(real);
    if is_program(&real) { real } else { script }
}

fn is_program(file: &Path) -> bool {
    file.is_file() && access(file, AccessFlags::X_OK).is_ok()
}

fn ask_version(launcher: &Path) -> Result<String, Unavailable> {
    let broken = |what: String| Unavailable {
        reason: format!("`{} --version` {what}", launcher.display()),
        remedy: "reinstall Valgrind".to_owned(),
    };
    let answer = Command::new(launcher).arg("--version").output();
    let answer = answer.map_err(|error| broken(format!("does not run: {error}")))?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let version = text.trim().strip_prefix("valgrind-").unwrap_or(text.trim());
    let numbers = numbers(version).ok_or_else(|| broken(format!("answers `{}`", text.trim())))?;
    if numbers < OLDEST {
        let (major, minor) = OLDEST;
        return Err(Unavailable {
            reason: format!("Valgrind {version} is too old"),
            remedy: format!("install version {major}.{minor} or newer"),
        });
    }
    Ok(version.to_owned())
}

/// Major and minor of `3.19.0` or `3.24.0.GIT`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A path that cannot be taken for an option, or be looked up in `PATH`.
fn unmistakable(program: &Path) -> PathBuf {
    if program.as_os_str().as_bytes().contains(&b'/') {
        program.to_owned()
    } else {
        Path::new(".").join(program)
    }
}

/// The out file of a process.
pub fn out_file(scratch: &Path, pid: Pid) -> PathBuf {
    scratch.join(format!("out.{pid}"))
}

/// The log file of a process.
pub fn log_file(scratch: &Path, pid: Pid) -> PathBuf {
    scratch.join(format!("log.{pid}"))
}

fn options(tool: Tool, extent: Extent, scratch: &Path) -> Vec<OsString> {
    let mut options: Vec<OsString> = vec![
        format!("--tool={}", tool.name()).into(),
        // Nothing from VALGRIND_OPTS, ~/.valgrindrc or ./.valgrindrc.
        "--command-line-only=yes".into(),
        with_path("--log-file=", scratch, "log.%p"),
        "--trace-children=yes".into(),
        // No debugger's FIFOs in /tmp, and no polling for it.
        "--vgdb=no".into(),
        "--fair-sched=yes".into(),
        // Off by default when quiet; the log must say which instruction it was.
        "--sigill-diagnostics=yes".into(),
        // No code of Valgrind's own choice at the program's end.
        "--run-libc-freeres=no".into(),
        "--run-cxx-freeres=no".into(),
    ];
    match tool {
        Tool::Cachegrind => {
            options.push("--quiet".into());
            options.push("--cache-sim=no".into());
            // Without this a block that is continued in another one is counted twice when it leaves early.
            options.push("--vex-guest-chase=no".into());
            options.push(with_path("--cachegrind-out-file=", scratch, "out.%p"));
        }
        Tool::Callgrind => {
            // Not quiet: the empty line before the counts are written is the moment to see what is not yet in them.
            options.push("--trace-signals=yes".into());
            options.push("--dump-instr=yes".into());
            options.push("--dump-line=no".into());
            options.push(with_path("--callgrind-out-file=", scratch, "out.%p"));
            options.extend(extent_options(extent).iter().map(OsString::from));
        }
    }
    options
}

fn extent_options(extent: Extent) -> &'static [&'static str] {
    match extent {
        Extent::Whole => &[],
        Extent::Instrumented => &["--combine-dumps=yes", "--instr-atstart=no"],
        Extent::Collected => &["--combine-dumps=yes", "--collect-atstart=no"],
    }
}

/// An option whose value is a file in `scratch`. Valgrind expands `%`, so the folder's own are doubled.
fn with_path(option: &str, scratch: &Path, name: &str) -> OsString {
    let mut bytes = option.as_bytes().to_vec();
    for byte in scratch.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b'%' {
            bytes.push(b'%');
        }
    }
    bytes.push(b'/');
    bytes.extend(name.as_bytes());
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

/// What execve(2) would answer for this program, so that the error is the kernel's and not Valgrind's.
pub fn check_program(launch: &Launch) -> Result<(), SpawnError> {
    if let Some(cwd) = &launch.cwd {
        let entered = fs::metadata(cwd).and_then(|m| {
            if m.is_dir() {
                Ok(())
            } else {
                Err(Errno::ENOTDIR.into())
            }
        });
        entered.map_err(|errno| SpawnError::Child {
            step: ChildStep::EnterFolder,
            path: cwd.clone(),
            errno,
        })?;
    }
    let folder = launch.cwd.clone().unwrap_or_default();
    check_file(&folder, &launch.program, SCRIPTS_DEEP).map_err(|errno| SpawnError::Child {
        step: ChildStep::Execute,
        path: launch.program.clone(),
        errno,
    })
}

/// How many interpreters may be scripts themselves (fs/exec.c, exec_binprm).
const SCRIPTS_DEEP: u32 = 5;

fn check_file(folder: &Path, program: &Path, depth: u32) -> io::Result<()> {
    let file = folder.join(program);
    let metadata = fs::metadata(&file)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(Errno::EACCES.into());
    }
    access(&file, AccessFlags::X_OK)?;
    let mut start = Vec::new();
    // A program may be executable and not readable; then only the kernel knows what it is.
    let Ok(open) = File::open(&file) else {
        return Ok(());
    };
    open.take(256).read_to_end(&mut start)?;
    if start.starts_with(b"\x7fELF") {
        return Ok(());
    }
    let interpreter = interpreter(&start).ok_or(Errno::ENOEXEC)?;
    let depth = depth.checked_sub(1).ok_or(Errno::ELOOP)?;
    check_file(folder, &interpreter, depth)
}

/// The program that a `#!` line names (execve(2), "Interpreter scripts").
fn interpreter(start: &[u8]) -> Option<PathBuf> {
    let line = start.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let mut words = line
        .split(|b| *b == b' ' || *b == b'\t')
        .filter(|word| !word.is_empty());
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(words.next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_in_the_folder_is_not_expanded() {
        let option = with_path("--log-file=", Path::new("/tmp/5%p"), "log.%p");
        assert_eq!(option, "--log-file=/tmp/5%%p/log.%p");
    }

    #[test]
    fn a_program_name_cannot_be_taken_for_an_option() {
        assert_eq!(unmistakable(Path::new("-q")), Path::new("./-q"));
        assert_eq!(unmistakable(Path::new("/bin/true")), Path::new("/bin/true"));
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(numbers("3.9.0"), Some((3, 9)));
        assert!(numbers("3.9.0") < Some(OLDEST) && numbers("3.24.0.GIT") > Some(OLDEST));
        assert_eq!(numbers("unknown"), None);
    }

    #[test]
    fn a_missing_valgrind_is_answered_with_the_way_to_get_it() {
        let error = Valgrind::find_in("/nonexistent".as_ref()).unwrap_err();
        assert!(error.to_string().contains("apt install valgrind"));
    }

    #[test]
    fn programs_that_cannot_start_get_the_answer_of_the_kernel() {
        let errno = |program: &str| match check_program(&Launch {
            program: program.into(),
            ..Launch::default()
        }) {
            Err(SpawnError::Child { errno, .. }) => errno.raw_os_error(),
            _ => None,
        };
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, mode, text: &str| {
            let file = folder.path().join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            file.to_str().unwrap().to_owned()
        };
        assert_eq!(errno("/nonexistent"), Some(libc::ENOENT));
        assert_eq!(errno("/"), Some(libc::EACCES));
        assert_eq!(
            errno(&write("plain", 0o644, "#!/bin/sh\n")),
            Some(libc::EACCES)
        );
        assert_eq!(errno(&write("text", 0o755, "echo\n")), Some(libc::ENOEXEC));
        assert_eq!(
            errno(&write("lost", 0o755, "#!/nonexistent -x\n")),
            Some(libc::ENOENT)
        );
        assert_eq!(errno(&write("script", 0o755, "#! /bin/sh\n")), None);
        assert_eq!(errno("/bin/sh"), None);
    }
}
