//! Attempts to reach a network that a tree does not have, as its system calls show them, and who made them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::libc;
use nix::unistd::Pid;

use super::image::{self, Mapping};
use super::ptrace::Stopped;
use crate::model::{Attempt, Network};

/// The longest address that matters here (linux/in6.h, struct sockaddr_in6), in bytes.
const ADDRESS_BYTES: usize = 28;

/// How much of a stack is kept to tell who called whom, in bytes.
const STACK_BYTES: usize = 64 << 10;

/// An attempt, and where its thread stood when it was made first.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The attempt, as yet without its callers.
    pub attempt: Attempt,
    /// Where it was made; none where that could not be read.
    pub stand: Option<Stand>,
}

/// Where a thread stands: what it takes to tell its callers once the program has ended.
#[derive(Clone, Debug)]
pub struct Stand {
    /// Addresses of the next instruction, the stack and the frame.
    pub registers: Frame,
    /// What is on the stack, from its pointer on.
    pub stack: Vec<u8>,
    /// The files that its process has mapped.
    pub mappings: Vec<Mapping>,
}

/// The registers that lead from a function to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The next instruction.
    pub pc: u64,
    /// The stack.
    pub sp: u64,
    /// The frame, or whatever else the compiler has put there.
    pub fp: u64,
}

impl Stand {
    fn of(process: Pid, stopped: &Stopped, registers: Frame) -> io::Result<Stand> {
        let mut stack = vec![0; STACK_BYTES];
        let read = stopped.read(registers.sp, &mut stack)?;
        stack.truncate(read);
        Ok(Stand {
            registers,
            stack,
            mappings: image::file_mappings(process)?,
        })
    }
}

/// What a tree tried to reach so far.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Whether the tree has its own machine's addresses.
    loopback: bool,
    seen: Vec<Tried>,
}

impl Attempts {
    /// For a tree that has this network; none for the machine's, which leads everywhere.
    pub(super) fn beyond(network: Network) -> Option<Attempts> {
        let loopback = match network {
            Network::Host => return None,
            Network::None => false,
            Network::Loopback => true,
        };
        let seen = Vec::new();
        Some(Attempts { loopback, seen })
    }

    /// Looks at the call that a thread of `process` is about to make, which `stands` where it says.
    pub(super) fn look(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        stands: impl FnOnce() -> io::Result<Frame>,
    ) {
        let bytes = named_address(stopped);
        let Some(address) = bytes.and_then(|bytes| parse(&bytes)) else {
            return;
        };
        if self.loopback && is_own_machine(address.ip()) {
            return;
        }
        let program = image::executable(process).unwrap_or_default();
        let attempt = Attempt {
            program: program.display().to_string(),
            pid: image::own_id(process).unwrap_or(process).as_raw(),
            address: address.to_string(),
            times: 1,
            callers: Vec::new(),
        };
        self.note(attempt, || Stand::of(process, stopped, stands().ok()?).ok());
    }

    fn note(&mut self, attempt: Attempt, stand: impl FnOnce() -> Option<Stand>) {
        let same = |tried: &&mut Tried| {
            let known = &tried.attempt;
            known.pid == attempt.pid
                && known.address == attempt.address
                && known.program == attempt.program
        };
        match self.seen.iter_mut().find(same) {
            Some(Tried { attempt, .. }) => attempt.times = attempt.times.saturating_add(1),
            None => self.seen.push(Tried {
                attempt,
                stand: stand(),
            }),
        }
    }

    /// All of them, in order of the first time.
    pub(super) fn into_list(self) -> Vec<Tried> {
        self.seen
    }
}

/// An unspecified address leads to one's own machine, too.
fn is_own_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

/// An internet address as the kernel is given it; none when it is of another family, or too short.
fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.first_chunk().copied()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let ip: IpAddr = match i32::from(family) {
        libc::AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The bytes of the address that a call names, if it is one that can name one.
#[cfg(target_arch = "x86_64")]
fn named_address(stopped: &Stopped) -> Option<Vec<u8>> {
    let registers = stopped.registers().ok()?;
    let (at, length) = match registers.orig_rax as libc::c_long {
        libc::SYS_connect => (registers.rsi, registers.rdx),
        libc::SYS_sendto => (registers.r8, registers.r9),
        // msghdr begins with the address and its length, and so does each mmsghdr: only the first is looked at.
        libc::SYS_sendmsg | libc::SYS_sendmmsg => {
            let mut head = [0; 12];
            let read = stopped.read(registers.rsi, &mut head).ok()?;
            let (name, length) = head.split_first_chunk::<8>()?;
            let length = u32::from_ne_bytes(length.try_into().ok()?);
            (read == head.len()).then_some((u64::from_ne_bytes(*name), length.into()))?
        }
        _ => return None,
    };
    if at == 0 {
        return None;
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(ADDRESS_BYTES)];
    let read = stopped.read(at, &mut bytes).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

/// The filter reports no such call on this architecture.
#[cfg(not(target_arch = "x86_64"))]
fn named_address(_stopped: &Stopped) -> Option<Vec<u8>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
        let family = (libc::AF_INET as u16).to_ne_bytes();
        [&family[..], &port.to_be_bytes(), &ip, &[0; 8]].concat()
    }

    #[test]
    fn addresses_of_the_internet_are_read_and_no_others() {
        let read = |bytes: &[u8]| parse(bytes).map(|address| address.to_string());
        assert_eq!(
            read(&v4([93, 184, 216, 34], 443)),
            Some("93.184.216.34:443".to_owned())
        );
        assert_eq!(read(&v4([1, 2, 3, 4], 1)[..7]), None);
        let family = (libc::AF_INET6 as u16).to_ne_bytes();
        let ip = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        let six = [&family[..], &53u16.to_be_bytes(), &[0; 4], &ip, &[0; 4]].concat();
        assert_eq!(read(&six), Some("[2001:db8::1]:53".to_owned()));
        let unix = [&(libc::AF_UNIX as u16).to_ne_bytes()[..], b"/run/x"].concat();
        assert_eq!(read(&unix), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn what_is_tried_again_by_the_same_process_is_one_attempt() {
        let mut attempts = Attempts::beyond(Network::None).unwrap();
        let attempt = |pid, address: &str| Attempt {
            program: "/bin/x".to_owned(),
            pid,
            address: address.to_owned(),
            times: 1,
            callers: Vec::new(),
        };
        for (pid, address) in [(7, "10.0.0.1:1"), (8, "10.0.0.1:1"), (7, "10.0.0.1:1")] {
            attempts.note(attempt(pid, address), || None);
        }
        let times: Vec<_> = attempts
            .into_list()
            .iter()
            .map(|tried| (tried.attempt.pid, tried.attempt.times))
            .collect();
        assert_eq!(times, [(7, 2), (8, 1)]);
    }

    #[test]
    fn ones_own_machine_has_many_addresses() {
        for own in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
        ] {
            assert!(is_own_machine(own.parse().unwrap()), "{own}");
        }
        assert!(!is_own_machine("128.0.0.1".parse().unwrap()));
    }
}
