//! What a run has of its own in the place of the machine's: its network, its process ids.

use std::fs;
use std::io;
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::job::Job;
use super::machine::as_it_is;
use crate::model::explanation::Disturbance;
use crate::model::{BackendKind, Network, PinState};
use crate::sys::machine::is_filtered;
use crate::sys::sandbox::{Own, Sandbox};
use crate::sys::spawn::Launch;

/// The kernel refuses a network of one's own.
#[derive(Debug, thiserror::Error)]
#[error(
    "`network = \"{wanted}\"` takes a network namespace, and the kernel refuses one here ({source}): {}; or set `network = \"host\"`",
    remedy(source)
)]
pub struct NetworkError {
    /// What was asked for.
    pub wanted: Network,
    /// The answer.
    pub source: io::Error,
}

/// What was made for a run.
pub(super) struct Made {
    /// Namespaces; none where all is the machine's.
    pub(super) sandbox: Option<Arc<Sandbox>>,
    /// Whether process ids are among them.
    pub(super) ids: PinState,
}

/// Makes what a run of `job` has of its own: its network as asked for, and process ids where they can be had. `launch` has
/// the streams of the run already.
pub(super) fn open(job: &Job, backend: BackendKind, launch: &Launch) -> Result<Made, NetworkError> {
    let network = job.network;
    let why = match why_no_ids(job, backend, launch) {
        Some(why) => why,
        None => match Sandbox::new(Own { network, ids: true }) {
            Ok(made) => {
                return Ok(Made {
                    sandbox: Some(Arc::new(made)),
                    ids: PinState::Pinned,
                });
            }
            Err(refused) => format!(
                "the kernel refuses a PID namespace here ({refused}): {}",
                remedy(&refused)
            ),
        },
    };
    let own = Own {
        network,
        ids: false,
    };
    let sandbox = match network {
        Network::Host => None,
        wanted => {
            let made = Sandbox::new(own).map_err(|source| NetworkError { wanted, source })?;
            Some(Arc::new(made))
        }
    };
    Ok(Made {
        sandbox,
        ids: PinState::Free(why),
    })
}

/// Why a run shall have the machine's process ids; none where it shall have its own.
fn why_no_ids(job: &Job, backend: BackendKind, launch: &Launch) -> Option<String> {
    if !job.pin {
        return Some("pinning is switched off".to_owned());
    }
    if job.disturbance == Some(Disturbance::Pid) {
        return Some("others are wanted".to_owned());
    }
    match backend {
        BackendKind::Dbi | BackendKind::Step => {}
        BackendKind::Perf
        | BackendKind::Cachegrind
        | BackendKind::Callgrind
        | BackendKind::Fake => {
            return Some(as_it_is(backend));
        }
    }
    // Its foreground process group has no number inside.
    let shares = !job.own_session && launch.on_terminal();
    shares.then(|| "job control of the terminal needs the machine's".to_owned())
}

/// What whoever runs the machine can do about it.
fn remedy(error: &io::Error) -> &'static str {
    let is = |switch: &str, value: &str| {
        fs::read_to_string(switch).is_ok_and(|text| text.trim() == value)
    };
    match error.raw_os_error().map(Errno::from_raw) {
        // Debian's own switch, and the one of Ubuntu 24.04.
        Some(Errno::EPERM) if is("/proc/sys/kernel/unprivileged_userns_clone", "0") => {
            "as root, run `sysctl kernel.unprivileged_userns_clone=1`"
        }
        Some(Errno::EPERM | Errno::EACCES)
            if is(
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1",
            ) =>
        {
            "as root, run `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        }
        Some(Errno::EPERM | Errno::EACCES) if is_filtered() && geteuid().is_root() => {
            "a container's seccomp profile does that; start the container with `--cap-add SYS_ADMIN`"
        }
        Some(Errno::EPERM | Errno::EACCES) if is_filtered() => {
            "a container's seccomp profile does that; start the container with `--cap-add SYS_ADMIN`, and for process ids with `--security-opt systempaths=unconfined`, too"
        }
        // mount_namespaces(7): nobody may mount a /proc that shows more than the one there is.
        Some(Errno::EPERM | Errno::EACCES) => {
            "a container that hides a part of /proc does that; start it with `--cap-add SYS_ADMIN`, or with `--security-opt systempaths=unconfined`"
        }
        // user_namespaces(7) and namespaces(7): a limit is reached, and a limit of 0 always is.
        Some(Errno::ENOSPC) => {
            "as root, raise `sysctl user.max_user_namespaces`, `user.max_net_namespaces`, `user.max_pid_namespaces` and `user.max_mnt_namespaces`"
        }
        _ => "a kernel built with CONFIG_NET_NS, CONFIG_PID_NS and CONFIG_USER_NS has them",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_was_refused_and_two_ways_out() {
        let refused = |errno| NetworkError {
            wanted: Network::None,
            source: io::Error::from_raw_os_error(errno),
        };
        let text = refused(Errno::ENOSPC as i32).to_string();
        assert!(text.contains("user.max_user_namespaces"), "{text}");
        assert!(
            text.contains("`network = \"none\"` takes a network namespace"),
            "{text}"
        );
        assert!(
            refused(Errno::EPERM as i32)
                .to_string()
                .ends_with("or set `network = \"host\"`")
        );
    }
}
