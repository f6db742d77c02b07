//! What the programs of one run have of their own in the place of the machine's: a network, process ids, the place of the
//! project's folder. Namespaces of the kernel (network_namespaces(7), pid_namespaces(7), mount_namespaces(7)), and where we
//! are not root the user namespace that the kernel wants around them (user_namespaces(7)).
//!
//! A process of ours, the keeper, lives as long as [`Sandbox`] does, and its namespaces with it. It shares our table of
//! open files: a program in a user namespace may not look into ours through /proc, and one with process ids of its own
//! does not see us there, but into the keeper's it may.

mod folder;
mod furniture;

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, getegid, geteuid};

use self::folder::FolderMount;
use self::furniture::{Furniture, furnish};
use super::image::behind_name;
use crate::model::{Network, ProjectFolder, User};

/// Parts of a machine that programs can have of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The network; [`Network::Host`] is the machine's.
    pub network: Network,
    /// Process and thread ids: 2 is the first process entered, whatever runs on the machine. And a /proc that shows these.
    pub ids: bool,
    /// The project's folder at the place where programs see it; none where they see it where it is.
    pub folder: Option<ProjectFolder>,
    /// Who programs are; for root, who is nobody else to the machine, nothing is made.
    pub user: User,
}

impl Own {
    /// Whether mounts are made.
    fn mounts(&self) -> bool {
        self.ids || self.folder.is_some()
    }
}

/// Namespaces that programs can be started in.
#[derive(Debug)]
pub struct Sandbox {
    own: Own,
    keeper: Pid,
    namespaces: Namespaces,
    /// Dropped, it ends the keeper.
    stop: Option<Sender<()>>,
    parent: Option<JoinHandle<()>>,
}

/// What a program enters, in this order.
#[derive(Debug)]
struct Namespaces {
    user: Option<OwnedFd>,
    net: Option<OwnedFd>,
    pid: Option<OwnedFd>,
    mounts: Option<Mounts>,
}

/// Mounts: with process ids, their /proc is among them. To enter mounts leads to their root: the folders are where a
/// program is to find itself.
#[derive(Debug)]
struct Mounts {
    mounts: OwnedFd,
    root: OwnedFd,
    folder: OwnedFd,
}

impl Sandbox {
    /// Makes what is wanted.
    pub fn new(own: Own) -> io::Result<Sandbox> {
        let (stop, stopped) = channel();
        let (tell, told) = channel();
        // The keeper is the child of a thread that waits for nothing else: whoever follows a tree waits for all
        // children of its own thread.
        let kept = own.clone();
        let parent = std::thread::spawn(move || keep(&kept, &tell, &stopped));
        let made = told
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("no thread could start")));
        match made {
            Ok((keeper, namespaces)) => Ok(Sandbox {
                own,
                keeper,
                namespaces,
                stop: Some(stop),
                parent: Some(parent),
            }),
            Err(error) => {
                let _ = parent.join();
                Err(error)
            }
        }
    }

    /// A process inside, as this one knows it.
    pub fn keeper(&self) -> Pid {
        self.keeper
    }

    /// The same process as programs inside know it that have entered the `ids`, too.
    pub(super) fn keeper_inside(&self, ids: bool) -> Pid {
        /// pid_namespaces(7): the first process of the namespace.
        const INIT: Pid = Pid::from_raw(1);
        if ids { INIT } else { self.keeper }
    }

    /// What it has.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// Moves this process, which must have one thread only, into it; async-signal-safe. Ids are those of the children
    /// that it will make, and left out where they are not wanted. Whether it worked, with errno set where not.
    pub(super) fn enter(&self, ids: bool) -> bool {
        let Namespaces {
            user,
            net,
            pid,
            mounts,
        } = &self.namespaces;
        let enter = |namespace: &Option<OwnedFd>, kind| {
            let namespace = namespace.as_ref();
            namespace.is_none_or(|namespace| enter_one(namespace, kind))
        };
        // Nothing is mounted that somebody with the machine's ids is to see.
        let others_proc = self.own.ids && !ids;
        let mounts = mounts.as_ref();
        let mounts = mounts.filter(|_| !others_proc || self.own.folder.is_some());
        enter(user, libc::CLONE_NEWUSER)
            && enter(net, libc::CLONE_NEWNET)
            && (!ids || enter(pid, libc::CLONE_NEWPID))
            && mounts.is_none_or(|mounts| {
                enter_one(&mounts.mounts, libc::CLONE_NEWNS)
                    && mounts.go_back()
                    && (!others_proc || uncover_proc())
            })
    }
}

/// Enters a namespace. Whether it worked.
fn enter_one(namespace: &OwnedFd, kind: i32) -> bool {
    // SAFETY: setns(2) on an open descriptor; it touches no memory of ours.
    unsafe { libc::setns(namespace.as_raw_fd(), kind) == 0 }
}

/// Shows this process the machine's /proc again, which a /proc of other process ids covers: in mounts of its own, as those
/// that it has entered are others', too. Whether it worked.
fn uncover_proc() -> bool {
    // SAFETY: system calls with a constant that ends with NUL.
    unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH) == 0
    }
}

impl Mounts {
    /// Goes to where we were before the mounts were entered. Whether it worked.
    fn go_back(&self) -> bool {
        // SAFETY: system calls on descriptors that live as long as `self`, and on a constant path.
        unsafe {
            libc::fchdir(self.root.as_raw_fd()) == 0
                && libc::chroot(c".".as_ptr()) == 0
                && libc::fchdir(self.folder.as_raw_fd()) == 0
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(parent) = self.parent.take() {
            let _ = parent.join();
        }
    }
}

/// The life of the keeper's parent: makes it, tells of it, and ends it when `stopped` is hung up.
fn keep(own: &Own, tell: &Sender<io::Result<(Pid, Namespaces)>>, stopped: &Receiver<()>) {
    let keeper = match Keeper::start(own) {
        Ok(keeper) => keeper,
        Err(error) => return drop(tell.send(Err(error))),
    };
    let namespaces = keeper.namespaces();
    if tell.send(namespaces.map(|made| (keeper.pid, made))).is_ok() {
        let _ = stopped.recv();
    }
}

/// A child in namespaces of its own that waits; dropped, it is gone, and whoever has its process ids.
struct Keeper {
    pid: Pid,
    own: Own,
    in_user_namespace: bool,
}

impl Keeper {
    /// Root needs no user namespace, unless a container has taken the right away.
    fn start(own: &Own) -> io::Result<Keeper> {
        if geteuid().is_root()
            && let Ok(keeper) = Keeper::start_with(own, None)
        {
            return Ok(keeper);
        }
        Keeper::start_with(own, Some(&Identity::ours(own.user)))
    }

    fn start_with(own: &Own, identity: Option<&Identity>) -> io::Result<Keeper> {
        let mut flags = libc::CLONE_FILES | libc::SIGCHLD;
        for (wanted, flag) in [
            (identity.is_some(), libc::CLONE_NEWUSER),
            (own.network != Network::Host, libc::CLONE_NEWNET),
            (own.ids, libc::CLONE_NEWPID),
            (own.mounts(), libc::CLONE_NEWNS),
        ] {
            flags |= if wanted { flag } else { 0 };
        }
        let (report, tell) = io::pipe()?;
        let (title, parent) = (Title::of_ours(), Parent::ours()?);
        let furniture = Furniture {
            identity,
            folder: own.folder.as_ref().map(FolderMount::prepare).transpose()?,
            own,
        };
        // SAFETY: a fork whose child shares the table of open files; it calls async-signal-safe functions only (see
        // `become_keeper`), all it needs is allocated, and it never returns.
        let pid = unsafe {
            match libc::syscall(libc::SYS_clone, flags as libc::c_long, 0, 0, 0, 0) {
                -1 => return Err(io::Error::last_os_error()),
                0 => become_keeper(&furniture, &title, &parent, &tell),
                pid => pid as libc::pid_t,
            }
        };
        let keeper = Keeper {
            pid: Pid::from_raw(pid),
            own: own.clone(),
            in_user_namespace: identity.is_some(),
        };
        keeper.wait_until_ready(report)?;
        Ok(keeper)
    }

    /// The end of the pipe says nothing here: whoever shares our open files has both.
    fn wait_until_ready(&self, mut report: PipeReader) -> io::Result<()> {
        /// How often to look whether it was killed.
        const PATIENCE: Duration = Duration::from_millis(100);
        let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::NONE);
        loop {
            let mut readable = [PollFd::new(report.as_fd(), PollFlags::POLLIN)];
            if poll(&mut readable, patience).is_ok_and(|ready| ready > 0) {
                let mut errno = [0; 4];
                report.read_exact(&mut errno)?;
                return match i32::from_ne_bytes(errno) {
                    0 => Ok(()),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                };
            }
            if wait(self.pid.as_raw(), libc::WNOHANG | libc::WNOWAIT)? {
                return Err(io::Error::other("the process that holds it was killed"));
            }
        }
    }

    fn namespaces(&self) -> io::Result<Namespaces> {
        let open =
            |kind: &str| File::open(format!("/proc/{}/ns/{kind}", self.pid)).map(OwnedFd::from);
        // A folder that may not be read can be one's own all the same.
        let place = |kind: &str| {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
                .open(format!("/proc/{}/{kind}", self.pid))
                .map(OwnedFd::from)
        };
        let mounts = || {
            io::Result::Ok(Mounts {
                mounts: open("mnt")?,
                root: place("root")?,
                folder: place("cwd")?,
            })
        };
        Ok(Namespaces {
            user: self.in_user_namespace.then(|| open("user")).transpose()?,
            net: (self.own.network != Network::Host)
                .then(|| open("net"))
                .transpose()?,
            pid: self.own.ids.then(|| open("pid")).transpose()?,
            mounts: self.own.mounts().then(mounts).transpose()?,
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        super::tree::send_kill(self.pid);
        let _ = wait(self.pid.as_raw(), 0);
    }
}

/// waitid(2) for the end of one child of the calling thread; whether it has ended.
fn wait(pid: libc::pid_t, flags: i32) -> io::Result<bool> {
    loop {
        // SAFETY: an all-zero `siginfo_t` is a valid one, and the kernel fills it.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = flags | libc::WEXITED | libc::__WALL | libc::__WNOTHREAD;
        // SAFETY: the pointer is to a live local; its pid is read from what was zeroed or filled.
        let (answer, ended) = unsafe {
            let answer = libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, flags);
            (answer, info.si_pid() == pid)
        };
        if answer == 0 {
            return Ok(ended);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Who we are inside of a user namespace, as it is told: nobody else is known there.
struct Identity {
    user: CString,
    group: CString,
}

impl Identity {
    fn ours(user: User) -> Identity {
        // user_namespaces(7): the id inside, the one outside, and how many.
        let line = |id: u32| {
            let inside = match user {
                User::Host => id,
                User::Root => 0,
            };
            CString::new(format!("{inside} {id} 1")).unwrap_or_default()
        };
        Identity {
            user: line(geteuid().as_raw()),
            group: line(getegid().as_raw()),
        }
    }
}

/// Where our arguments are in memory, the keeper's copy of which is what programs find in /proc/1/cmdline: how we were
/// called shall not make a difference to them.
struct Title(Option<(u64, u64)>);

impl Title {
    /// Of the form that the kernel takes for a title: behind the last argument is no NUL byte, and the text ends where one
    /// is (fs/proc/base.c, `get_mm_cmdline`).
    const TEXT: &CStr = c"counterfoil";
    const NO_NUL: &[u8] = b".";

    fn of_ours() -> Title {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Title(arguments_at(&stat))
    }

    /// In the keeper. Where there is no room things stay as they are.
    fn replace(&self) {
        let text = Title::TEXT.to_bytes_with_nul();
        let Some((start, end)) = self.0 else {
            return;
        };
        if end.saturating_sub(start) <= text.len() as u64 {
            return;
        }
        // SAFETY: the paths and bytes are constants, and the descriptor is closed again. What is written is this process's
        // copy of the arguments, which nobody reads here any more.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, Title::TEXT.as_ptr());
            let memory = libc::open(c"/proc/self/mem".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if memory >= 0 {
                libc::pwrite(memory, text.as_ptr().cast(), text.len(), start as i64);
                libc::pwrite(memory, Title::NO_NUL.as_ptr().cast(), 1, end as i64 - 1);
                libc::close(memory);
            }
        }
    }
}

/// First address of a process's arguments and the first behind them (proc_pid_stat(5), fields 48 and 49).
fn arguments_at(stat: &str) -> Option<(u64, u64)> {
    let mut fields = behind_name(stat)?.skip(48 - 3);
    let start = fields.next()?.parse().ok()?;
    let end = fields.next()?.parse().ok()?;
    Some((start, end))
}

/// The keeper's life: furnishes its namespaces, says so, and waits to be killed; or says with which errno it has failed,
/// and ends. Never allocates. With process ids of its own it is the one that processes without a parent fall to.
fn become_keeper(
    furniture: &Furniture<'_>,
    title: &Title,
    parent: &Parent,
    tell: &PipeWriter,
) -> ! {
    // SAFETY: plain system calls in a process of one thread; the pointer is to a live local of four bytes.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if !parent.lives() {
            libc::_exit(libc::ECANCELED);
        }
    }
    title.replace();
    let furnished = furnish(furniture);
    let errno = furnished.err().map_or(0, |errno| errno as i32);
    // SAFETY: as above.
    unsafe {
        libc::write(
            tell.as_raw_fd(),
            (&raw const errno).cast(),
            size_of_val(&errno),
        );
        if errno != 0 {
            libc::_exit(errno);
        }
        loop {
            libc::pause();
        }
    }
}

/// This process, as a child looks for it that may not know it by its id: for the first process of a PID namespace
/// getppid(2) is 0 whether it has a parent or not.
struct Parent {
    statm: File,
}

impl Parent {
    fn ours() -> io::Result<Parent> {
        File::open("/proc/self/statm").map(|statm| Parent { statm })
    }

    /// Whether it has memory still (proc_pid_statm(5)): that goes before children are told of its end.
    fn lives(&self) -> bool {
        let mut pages = [0u8];
        // SAFETY: one byte is read to a live local, from a file that lives as long as `self`.
        let read = unsafe {
            let file = self.statm.as_raw_fd();
            libc::pread(file, pages.as_mut_ptr().cast(), pages.len(), 0)
        };
        read == 1 && pages != *b"0"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(network: Network, ids: bool) -> Sandbox {
        let folder = None;
        Sandbox::new(Own {
            network,
            ids,
            folder,
            user: User::Host,
        })
        .unwrap()
    }

    fn interfaces(sandbox: &Sandbox) -> String {
        std::fs::read_to_string(format!("/proc/{}/net/dev", sandbox.keeper())).unwrap()
    }

    #[test]
    fn a_network_has_its_own_machine_and_nothing_else() {
        let network = own(Network::Loopback, false);
        let text = interfaces(&network);
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name.trim())
            .collect();
        assert!(
            names.contains(&"lo") && !names.iter().any(|name| name.starts_with("eth")),
            "{text}"
        );
        let routes = std::fs::read_to_string(format!("/proc/{}/net/fib_trie", network.keeper()));
        assert!(routes.unwrap().contains("127.0.0.1"));
        let none = own(Network::None, false);
        let routes = std::fs::read_to_string(format!("/proc/{}/net/fib_trie", none.keeper()));
        assert!(!routes.unwrap_or_default().contains("127.0.0.1"));
    }

    #[test]
    fn process_ids_of_its_own_show_in_a_proc_of_its_own() {
        let sandbox = own(Network::Host, true);
        let root = format!("/proc/{}/root/proc", sandbox.keeper());
        let entries = std::fs::read_dir(root).unwrap().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let ids: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
        assert_eq!(ids, [1]);
        let title = std::fs::read(format!("/proc/{}/cmdline", sandbox.keeper()));
        assert_eq!(title.unwrap(), b"counterfoil\0");
    }

    #[test]
    fn a_project_is_seen_at_its_place_and_where_it_is() {
        let project = tempfile::tempdir().unwrap();
        std::fs::write(project.path().join("file"), "here").unwrap();
        let real = project.path().canonicalize().unwrap();
        let beside = std::fs::read_dir(ProjectFolder::ABOVE).unwrap().count();
        for ids in [false, true] {
            let sandbox = Sandbox::new(Own {
                network: Network::Host,
                ids,
                folder: Some(ProjectFolder::new(real.clone(), real.clone())),
                user: User::Host,
            });
            let sandbox = sandbox.unwrap();
            let root = format!("/proc/{}/root", sandbox.keeper());
            for folder in [ProjectFolder::SHOWN, real.to_str().unwrap()] {
                let file = std::fs::read_to_string(format!("{root}{folder}/file"));
                assert_eq!(file.unwrap(), "here");
            }
            let above = format!("{root}{}", ProjectFolder::ABOVE);
            assert_eq!(std::fs::read_dir(&above).unwrap().count(), beside + 1);
            let refused = std::fs::write(format!("{above}/new"), "").unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
    }

    #[test]
    fn the_place_of_arguments_is_read_behind_any_name() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("1 (a) b) {}", fields.join(" "));
        assert_eq!(arguments_at(&stat), Some((48, 49)));
        assert_eq!(arguments_at(""), None);
    }

    #[test]
    fn its_keeper_goes_with_it() {
        for ids in [false, true] {
            let sandbox = own(Network::None, ids);
            let keeper = format!("/proc/{}", sandbox.keeper());
            assert!(std::path::Path::new(&keeper).exists());
            drop(sandbox);
            assert!(!std::path::Path::new(&keeper).exists());
        }
    }
}
