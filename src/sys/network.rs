//! A network of its own for the programs of one run: a network namespace, and where we are not root the user namespace
//! that the kernel wants around it (network_namespaces(7), user_namespaces(7)).
//!
//! A process of ours, the keeper, makes both and lives as long as [`Network`] does. It shares our table of open files:
//! a program in a user namespace may not look into ours through /proc, but into the keeper's it may.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use nix::libc;
use nix::unistd::{Pid, getegid, geteuid};

/// A network that programs can be started in.
#[derive(Debug)]
pub struct Network {
    namespaces: Namespaces,
    loopback: bool,
    /// Dropped, it ends the keeper.
    stop: Option<Sender<()>>,
    parent: Option<JoinHandle<()>>,
}

/// What a program enters, in this order.
#[derive(Debug)]
struct Namespaces {
    keeper: Pid,
    user: Option<OwnedFd>,
    net: OwnedFd,
}

impl Network {
    /// Makes a network that nothing leads out of, with an address of the machine itself (`lo`) if that is wanted.
    pub fn new(loopback: bool) -> io::Result<Network> {
        let (stop, stopped) = channel();
        let (tell, told) = channel();
        // The keeper is the child of a thread that waits for nothing else: whoever follows a tree waits for all
        // children of its own thread.
        let parent = std::thread::spawn(move || keep(loopback, &tell, &stopped));
        let made = told
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("no thread could start")));
        match made {
            Ok(namespaces) => Ok(Network {
                namespaces,
                loopback,
                stop: Some(stop),
                parent: Some(parent),
            }),
            Err(error) => {
                let _ = parent.join();
                Err(error)
            }
        }
    }

    /// A process in this network, through which a program in it can open our files, too.
    pub fn keeper(&self) -> Pid {
        self.namespaces.keeper
    }

    /// Whether it has the addresses of the machine itself.
    pub(super) fn has_loopback(&self) -> bool {
        self.loopback
    }

    /// Moves this process, which must have one thread only, into the network; async-signal-safe. Whether it worked,
    /// with errno set where not.
    pub(super) fn enter(&self) -> bool {
        let Namespaces { user, net, .. } = &self.namespaces;
        // SAFETY: setns(2) on descriptors that live as long as `self`; it touches no memory of ours.
        unsafe {
            user.as_ref()
                .is_none_or(|user| libc::setns(user.as_raw_fd(), libc::CLONE_NEWUSER) == 0)
                && libc::setns(net.as_raw_fd(), libc::CLONE_NEWNET) == 0
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(parent) = self.parent.take() {
            let _ = parent.join();
        }
    }
}

/// The life of the keeper's parent: makes it, tells of it, and ends it when `stopped` is hung up.
fn keep(loopback: bool, tell: &Sender<io::Result<Namespaces>>, stopped: &Receiver<()>) {
    let keeper = match Keeper::start(loopback) {
        Ok(keeper) => keeper,
        Err(error) => return drop(tell.send(Err(error))),
    };
    let namespaces = keeper.namespaces();
    if tell.send(namespaces).is_ok() {
        let _ = stopped.recv();
    }
}

/// A child that has made the namespaces and stands still; dropped, it is gone.
struct Keeper {
    pid: Pid,
    in_user_namespace: bool,
}

impl Keeper {
    /// Root needs no user namespace, unless a container has taken the right away.
    fn start(loopback: bool) -> io::Result<Keeper> {
        if geteuid().is_root()
            && let Ok(keeper) = Keeper::start_with(loopback, None)
        {
            return Ok(keeper);
        }
        Keeper::start_with(loopback, Some(&Identity::ours()))
    }

    fn start_with(loopback: bool, identity: Option<&Identity>) -> io::Result<Keeper> {
        // SAFETY: a fork whose child shares the table of open files; it calls async-signal-safe functions only (see
        // `become_keeper`), all it needs is allocated, and it never returns.
        let pid = unsafe {
            let ours = libc::getpid();
            let flags = libc::CLONE_FILES | libc::SIGCHLD;
            match libc::syscall(libc::SYS_clone, flags as libc::c_long, 0, 0, 0, 0) {
                -1 => return Err(io::Error::last_os_error()),
                0 => become_keeper(loopback, identity, ours),
                pid => pid as libc::pid_t,
            }
        };
        let keeper = Keeper {
            pid: Pid::from_raw(pid),
            in_user_namespace: identity.is_some(),
        };
        match wait(pid, libc::WUNTRACED)? {
            status if libc::WIFSTOPPED(status) => Ok(keeper),
            status if libc::WIFEXITED(status) => {
                std::mem::forget(keeper);
                Err(io::Error::from_raw_os_error(libc::WEXITSTATUS(status)))
            }
            _ => {
                std::mem::forget(keeper);
                Err(io::Error::other("the process that made it was killed"))
            }
        }
    }

    fn namespaces(&self) -> io::Result<Namespaces> {
        let open = |kind: &str| File::open(format!("/proc/{}/ns/{kind}", self.pid));
        let user = self.in_user_namespace.then(|| open("user")).transpose()?;
        Ok(Namespaces {
            keeper: self.pid,
            user: user.map(OwnedFd::from),
            net: open("net")?.into(),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        super::tree::send_kill(self.pid);
        let _ = wait(self.pid.as_raw(), 0);
    }
}

/// waitpid(2) for one child of the calling thread.
fn wait(pid: libc::pid_t, flags: i32) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: the status pointer is to a live local.
        let waited = unsafe {
            libc::waitpid(
                pid,
                &raw mut status,
                flags | libc::__WALL | libc::__WNOTHREAD,
            )
        };
        if waited == pid {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Who we are, as a user namespace is told it: nobody else is known there.
struct Identity {
    user: CString,
    group: CString,
}

impl Identity {
    fn ours() -> Identity {
        let line = |id: u32| CString::new(format!("{id} {id} 1")).unwrap_or_default();
        Identity {
            user: line(geteuid().as_raw()),
            group: line(getegid().as_raw()),
        }
    }
}

/// The keeper's life: makes the namespaces and stands still, or ends with the errno as its exit code. Never allocates.
fn become_keeper(loopback: bool, identity: Option<&Identity>, parent: libc::pid_t) -> ! {
    // SAFETY: plain system calls in a process of one thread; pointers are to locals and to what `identity` holds. The
    // C library's own notion of the thread is that of our parent, so that kill(2) is asked for by number.
    unsafe {
        libc::setsid();
        let user = if identity.is_some() {
            libc::CLONE_NEWUSER
        } else {
            0
        };
        if libc::unshare(libc::CLONE_NEWNET | user) != 0 {
            give_up();
        }
        if let Some(identity) = identity {
            // user_namespaces(7): without privileges, groups can only be mapped once setgroups(2) is denied.
            write_file(c"/proc/self/setgroups", c"deny");
            write_file(c"/proc/self/uid_map", &identity.user);
            write_file(c"/proc/self/gid_map", &identity.group);
        }
        if loopback {
            bring_up_loopback();
        }
        // Before the signal is asked for: a change of credentials would take it back.
        if identity.is_some() {
            drop_capabilities();
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != parent {
            libc::_exit(libc::ECANCELED);
        }
        loop {
            libc::syscall(libc::SYS_kill, libc::getpid(), libc::SIGSTOP);
        }
    }
}

/// Ends the keeper with the errno of what has just failed.
fn give_up() -> ! {
    // SAFETY: ends this process without running any of the parent's exit handlers.
    unsafe { libc::_exit(nix::errno::Errno::last_raw()) }
}

/// Writes a short file of /proc in one call, or ends.
///
/// # Safety
/// Only to be called in the keeper.
unsafe fn write_file(path: &CStr, text: &CStr) {
    let bytes = text.to_bytes();
    // SAFETY: both texts end with NUL; the descriptor is closed again.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 {
            give_up();
        }
        if libc::write(file, bytes.as_ptr().cast(), bytes.len()) < 0 {
            let errno = nix::errno::Errno::last_raw();
            libc::close(file);
            libc::_exit(errno);
        }
        libc::close(file);
    }
}

/// Switches `lo` on (netdevice(7)); it brings its addresses along.
///
/// # Safety
/// Only to be called in the keeper.
unsafe fn bring_up_loopback() {
    // SAFETY: an all-zero `ifreq` is a valid one; the name fits with its NUL, and the kernel reads the flags it is given.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            give_up();
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
            *slot = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let failed = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) != 0;
        let errno = nix::errno::Errno::last_raw();
        libc::close(socket);
        if failed {
            libc::_exit(errno);
        }
    }
}

/// linux/capability.h: _LINUX_CAPABILITY_VERSION_3.
const CAPABILITIES: u32 = 0x2008_0522;

/// Gives up what the new user namespace has granted: a program without these rights may only look into a process that has
/// none of them either.
///
/// # Safety
/// Only to be called in the keeper.
unsafe fn drop_capabilities() {
    let header = [CAPABILITIES, 0];
    let none = [0u32; 6];
    // SAFETY: capset(2) reads a header of two words and, in this version, a table of twice three.
    unsafe {
        if libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) != 0 {
            give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces(network: &Network) -> String {
        std::fs::read_to_string(format!("/proc/{}/net/dev", network.keeper())).unwrap()
    }

    #[test]
    fn a_network_has_its_own_machine_and_nothing_else() {
        let network = Network::new(true).unwrap();
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
        let none = Network::new(false).unwrap();
        let routes = std::fs::read_to_string(format!("/proc/{}/net/fib_trie", none.keeper()));
        assert!(!routes.unwrap_or_default().contains("127.0.0.1"));
    }

    #[test]
    fn its_keeper_goes_with_it() {
        let network = Network::new(false).unwrap();
        let keeper = format!("/proc/{}", network.keeper());
        assert!(std::path::Path::new(&keeper).exists());
        drop(network);
        assert!(!std::path::Path::new(&keeper).exists());
    }
}
