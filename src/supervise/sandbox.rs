//! What a run has of its own in the place of the machine's: its network, its process ids, the place of its project.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::job::Job;
use super::machine::as_it_is;
use crate::model::explanation::Disturbance;
use crate::model::{BackendKind, Folder, Network, PinState, ProjectFolder, Shown, User};
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
    /// Whether the project's folder is where it is everywhere; absent where there is no project.
    pub(super) folder: Option<PinState>,
    /// Whether programs are the user that was asked for; absent where none was.
    pub(super) user: Option<PinState>,
}

impl Made {
    /// Whether programs see the project's folder where it is everywhere.
    pub(super) fn shows_project(&self) -> bool {
        self.folder == Some(PinState::Pinned)
    }
}

/// What a run is to have of its own besides a network; otherwise why not.
#[derive(Clone)]
struct Wish {
    ids: Result<(), String>,
    /// None where it is already where programs are to see it: a container can have it there.
    folder: Result<Option<ProjectFolder>, String>,
    /// Root already is who programs may want to be.
    user: Result<User, String>,
}

impl Wish {
    fn is_granted_by_the_machine(&self) -> bool {
        self.ids.is_err() && !self.mounts_folder() && self.user() == User::Host
    }

    fn mounts_folder(&self) -> bool {
        matches!(self.folder, Ok(Some(_)))
    }

    fn user(&self) -> User {
        self.user.as_ref().copied().unwrap_or_default()
    }

    fn make(&self, network: Network) -> io::Result<Sandbox> {
        Sandbox::new(Own {
            network,
            ids: self.ids.is_ok(),
            folder: self.folder.clone().ok().flatten(),
            user: self.user(),
        })
    }

    /// The same without process ids, which the kernel has refused.
    fn without_ids(&self, refused: &io::Error) -> Wish {
        Wish {
            ids: Err(format!(
                "the kernel refuses a PID namespace here ({refused}): {}",
                remedy(refused)
            )),
            ..self.clone()
        }
    }

    /// The same without the folder, whose mount the kernel has refused.
    fn without_folder(&self, refused: &io::Error) -> Wish {
        Wish {
            folder: Err(format!(
                "the kernel refuses to show it at {0} ({refused}): {1}; or have the checkout at {0}",
                ProjectFolder::SHOWN,
                remedy(refused)
            )),
            ..self.clone()
        }
    }

    /// The same as whoever runs us.
    fn without_user(&self, refused: &io::Error) -> Wish {
        Wish {
            user: Err(format!(
                "the kernel refuses a user namespace here ({refused}): {}",
                remedy(refused)
            )),
            ..self.clone()
        }
    }
}

/// Makes what a run of `job` has of its own: its network as asked for, and process ids and the place of the project's
/// folder where they can be had. `launch` has the streams of the run already.
pub(super) fn open(job: &Job, backend: BackendKind, launch: &Launch) -> Result<Made, NetworkError> {
    let wish = Wish {
        ids: why_no_ids(job, backend, launch).map_or(Ok(()), Err),
        folder: folder(job, backend),
        user: Ok(user(job)),
    };
    let (granted, sandbox) = most(wish, job.network);
    let sandbox = match (sandbox, job.network) {
        (Some(sandbox), _) => Some(sandbox),
        (None, Network::Host) => None,
        (None, wanted) => {
            let made = granted.make(wanted);
            Some(made.map_err(|source| NetworkError { wanted, source })?)
        }
    };
    let state = |wish: Result<(), String>| wish.map_or_else(PinState::Free, |()| PinState::Pinned);
    let folder = job.project.is_some();
    Ok(Made {
        sandbox: sandbox.map(Arc::new),
        ids: state(granted.ids),
        folder: folder.then(|| state(granted.folder.map(drop))),
        user: wants_root(job).then(|| state(granted.user.map(drop))),
    })
}

/// As much of a wish as the kernel grants, and the sandbox that has it; none where that is nothing.
fn most(wish: Wish, network: Network) -> (Wish, Option<Sandbox>) {
    if wish.is_granted_by_the_machine() {
        return (wish, None);
    }
    let refused = match wish.make(network) {
        Ok(made) => return (wish, Some(made)),
        Err(refused) => refused,
    };
    let less = match (wish.ids.is_ok(), wish.mounts_folder()) {
        // It is the one or the other: each is tried alone.
        (true, true) => {
            let ids_alone = wish.without_folder(&refused);
            match ids_alone.make(network) {
                Ok(made) => return (ids_alone, Some(made)),
                Err(refused) => wish.without_ids(&refused),
            }
        }
        (true, false) => wish.without_ids(&refused),
        (false, true) => wish.without_folder(&refused),
        (false, false) => wish.without_user(&refused),
    };
    most(less, network)
}

/// Who programs are to be that are nobody else than whoever runs us.
fn user(job: &Job) -> User {
    match wants_root(job) && !geteuid().is_root() {
        true => User::Root,
        false => User::Host,
    }
}

/// Whether programs are to find that root runs them.
pub(super) fn wants_root(job: &Job) -> bool {
    job.shown.user == Some(User::Root)
}

/// The project's folder, to be seen at its place; otherwise why it is seen where it is.
fn folder(job: &Job, backend: BackendKind) -> Result<Option<ProjectFolder>, String> {
    let folder = seen(job, backend)?;
    let shown = Path::new(ProjectFolder::SHOWN);
    if folder.real() == shown {
        return Ok(None);
    }
    let above = Path::new(ProjectFolder::ABOVE);
    match above.canonicalize() {
        Ok(real) if real == above => {}
        Ok(real) => {
            return Err(format!(
                "`{}` leads to `{}`",
                above.display(),
                real.display()
            ));
        }
        Err(_) => {
            let above = above.display();
            return Err(format!(
                "there is no folder `{above}`, where it would be shown; `mkdir {above}` as root makes one"
            ));
        }
    }
    if shown.symlink_metadata().is_ok() {
        let shown = shown.display();
        return Err(format!("`{shown}` is something else here; move it away"));
    }
    Ok(Some(folder))
}

/// The folder that `job` wants to be seen at another place than it is, wherever that can be had.
pub(super) fn seen(job: &Job, backend: BackendKind) -> Result<ProjectFolder, String> {
    let Some(project) = &job.project else {
        return Err("there is no project".to_owned());
    };
    if !job.pin {
        return Err(SWITCHED_OFF.to_owned());
    }
    if asks_for_real(job.shown) {
        return Err("`folder = \"host\"` asks for the real one".to_owned());
    }
    if !is_traced(backend) {
        return Err(as_it_is(backend));
    }
    let real = project.canonicalize();
    let real = real.map_err(|error| format!("`{}`: {error}", project.display()))?;
    if real.parent().is_none() {
        return Err("it is the root of all folders".to_owned());
    }
    let folder = ProjectFolder::new(project.clone(), real);
    match way_out(job, &folder) {
        None => Ok(folder),
        Some(word) => Err(format!(
            "`{word}` leads out of it, and from where it would be shown to another place; write an absolute path, or set `folder = \"host\"`"
        )),
    }
}

fn asks_for_real(shown: Shown) -> bool {
    shown.folder == Some(Folder::Host)
}

/// Whether a suite that counts with `backend` can expect its programs to see the project's folder at its place.
pub fn shows_folder(backend: BackendKind, shown: Shown) -> bool {
    is_traced(backend) && !asks_for_real(shown)
}

/// A word of the job's command line or variables that leads from its folder out of the project.
fn way_out(job: &Job, folder: &ProjectFolder) -> Option<String> {
    let from = job.cwd.as_deref()?;
    let words = job.command.iter().skip(1);
    let mut words = words.chain(job.env.iter().map(|(_, value)| value));
    let leaves = |word: &&OsString| {
        // As in `--file=../data` and `a:../b`.
        let parts = word.as_bytes().split(|byte| b"=:,".contains(byte));
        let mut parts = parts.map(|part| Path::new(OsStr::from_bytes(part)));
        parts.any(|part| folder.is_left_by(part, from))
    };
    let word = words.find(leaves)?;
    Some(word.to_string_lossy().into_owned())
}

const SWITCHED_OFF: &str = "pinning is switched off";

/// Whether what a backend executes can have a view of the machine of its own.
fn is_traced(backend: BackendKind) -> bool {
    match backend {
        BackendKind::Dbi | BackendKind::Step => true,
        BackendKind::Perf
        | BackendKind::Cachegrind
        | BackendKind::Callgrind
        | BackendKind::Fake => false,
    }
}

/// Why a run shall have the machine's process ids; none where it shall have its own.
fn why_no_ids(job: &Job, backend: BackendKind, launch: &Launch) -> Option<String> {
    if !job.pin {
        return Some(SWITCHED_OFF.to_owned());
    }
    if job.disturbance == Some(Disturbance::Pid) {
        return Some("others are wanted".to_owned());
    }
    if !is_traced(backend) {
        return Some(as_it_is(backend));
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
