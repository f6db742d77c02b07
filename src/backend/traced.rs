//! What the backends share that trace the program themselves: their self-test, why tracing may be refused, and how they
//! refuse a program that they cannot follow.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use super::selftest::{self, Machine};
use super::{BackendError, Unavailable};
use crate::model::{BackendKind, Outcome, Run};
use crate::sys::spawn::Launch;

/// Rounds of the known program: enough to see a count that is off by a factor.
const ROUNDS: u32 = 100;

/// More than the known program ever needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts a program of known count with `count`.
pub fn count_known(
    count: impl Fn(&Launch) -> Result<Run, BackendError>,
) -> Result<(), Unavailable> {
    let known = selftest::program(Machine::X86_64, ROUNDS);
    let run = run_known(&known.elf, count).map_err(|error| match error {
        BackendError::Unavailable { source, .. } => source,
        other => Unavailable {
            reason: format!("the self-test failed: {other}"),
            remedy: "use another backend, and report this".to_owned(),
        },
    })?;
    if run.instructions == known.instructions && run.outcome == Outcome::Exited(0) {
        return Ok(());
    }
    Err(Unavailable {
        reason: format!(
            "a program of {} instructions counted as {}",
            known.instructions, run.instructions
        ),
        remedy: "use another backend, and report this".to_owned(),
    })
}

fn run_known(
    elf: &[u8],
    count: impl Fn(&Launch) -> Result<Run, BackendError>,
) -> Result<Run, BackendError> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| BackendError::File {
            doing,
            path,
            source,
        }
    };
    let temporary = std::env::temp_dir();
    let folder = tempfile::tempdir().map_err(failed("make a folder in", &temporary))?;
    let program = folder.path().join("known");
    fs::write(&program, elf).map_err(failed("write", &program))?;
    fs::set_permissions(&program, PermissionsExt::from_mode(0o700))
        .map_err(failed("make executable", &program))?;
    count(&Launch {
        args: vec![program.clone().into_os_string()],
        program,
        timeout: Some(PATIENCE),
        own_session: true,
        ..Launch::default()
    })
}

/// Something that programs do and the backend cannot follow.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{program}` {why}, which `{kind}` does not support; {}", self.remedy())]
pub struct Unsupported {
    /// The backend.
    pub kind: BackendKind,
    /// The program.
    pub program: String,
    /// What it does, as a verb phrase.
    pub why: &'static str,
}

/// Done by LeakSanitizer, which looks for leaks from a process of its own, and by reporters of crashes.
pub const UNTRACED: &str = "starts a process that no tracer is told of (CLONE_UNTRACED)";

impl Unsupported {
    /// What the user can do.
    fn remedy(&self) -> &'static str {
        match self.why {
            UNTRACED => {
                "if that is LeakSanitizer, which is in AddressSanitizer, switch it off: \
                 `--env ASAN_OPTIONS=detect_leaks=0`, or `LSAN_OPTIONS` where it is alone"
            }
            _ => "use `--backend step` or `--backend cachegrind`",
        }
    }
}

impl From<Unsupported> for BackendError {
    fn from(unsupported: Unsupported) -> BackendError {
        BackendError::Unsupported {
            kind: unsupported.kind,
            what: unsupported.to_string(),
        }
    }
}

/// Why tracing was refused.
pub fn forbidden(error: &io::Error) -> Unavailable {
    let denied = error.raw_os_error() == Some(Errno::EPERM as i32);
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    let locked = scope.is_ok_and(|scope| matches!(scope.trim(), "2" | "3"));
    let (reason, remedy) = if denied && locked {
        (
            "Yama forbids ptrace (kernel.yama.ptrace_scope)".to_owned(),
            "as root, run `sysctl kernel.yama.ptrace_scope=1` (3 stays until the next boot)",
        )
    } else if denied {
        (
            "ptrace is forbidden here, as by a container's seccomp filter".to_owned(),
            "start the container with `--cap-add SYS_PTRACE`, or use another backend",
        )
    } else {
        (format!("ptrace failed: {error}"), "use another backend")
    };
    Unavailable {
        reason,
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_to_do_where_ptrace_is_forbidden() {
        let error = forbidden(&io::Error::from_raw_os_error(Errno::EPERM as i32));
        assert!(error.reason.contains("ptrace"), "{error}");
        assert!(!error.remedy.is_empty());
    }
}
