//! The network of a run: the machine's, or one made for it.

use std::fs;
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use crate::model::Network;
use crate::sys::network::Network as Own;

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

/// A new network as asked for; none for the machine's.
pub(super) fn open(wanted: Network) -> Result<Option<Arc<Own>>, NetworkError> {
    let loopback = match wanted {
        Network::Host => return Ok(None),
        Network::None => false,
        Network::Loopback => true,
    };
    let made = Own::new(loopback).map_err(|source| NetworkError { wanted, source })?;
    Ok(Some(Arc::new(made)))
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
        Some(Errno::EPERM | Errno::EACCES) => {
            "a container's seccomp profile does that, and `--security-opt seccomp=unconfined` takes it off"
        }
        // user_namespaces(7) and namespaces(7): a limit is reached, and a limit of 0 always is.
        Some(Errno::ENOSPC) => {
            "as root, raise `sysctl user.max_user_namespaces` and `sysctl user.max_net_namespaces`"
        }
        _ => "a kernel built with CONFIG_NET_NS and CONFIG_USER_NS has them",
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
