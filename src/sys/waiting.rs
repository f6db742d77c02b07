//! Whether a program waits, and where: what its threads do in the kernel, as /proc tells.

use std::fs;
use std::os::fd::RawFd;

use nix::libc;
use nix::unistd::Pid;

/// What is known about a process that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// One of its threads sleeps in read(2) of the descriptor.
    Yes,
    /// None does, at this moment.
    No,
    /// This kernel does not tell (or not us).
    Unknown,
}

/// Whether a thread of `process` sleeps in read(2) of its descriptor `file`.
pub fn in_read(process: Pid, file: RawFd) -> Waiting {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Waiting::No;
    };
    let mut told = Waiting::Unknown;
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("syscall")) {
            Ok(line) if is_read(&line, file) => return Waiting::Yes,
            Ok(_) => told = Waiting::No,
            Err(_) => {}
        }
    }
    told
}

/// A line of /proc/PID/syscall (proc_pid_syscall(5)): the number, then the arguments; `running` when in none.
fn is_read(line: &str, file: RawFd) -> bool {
    let mut words = line.split(' ');
    let number = words.next().and_then(|word| word.parse().ok());
    let first = words.next().and_then(|word| word.strip_prefix("0x"));
    let first = first.and_then(|hex| u64::from_str_radix(hex, 16).ok());
    number == Some(libc::SYS_read) && first == u64::try_from(file).ok()
}

/// Where a thread stands that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its instruction pointer; behind the instruction that makes the system call, if it is in one.
    pub address: u64,
    /// Whether it is in a system call, which has not returned.
    pub in_call: bool,
}

/// Where a thread stands; none if it runs, or is waiting for a CPU, or where this kernel does not tell.
pub fn place(thread: Pid) -> Option<Place> {
    let line = fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
    place_in(&line)
}

fn place_in(line: &str) -> Option<Place> {
    let (first, rest) = line.trim_end().split_once(' ')?;
    let address = rest.rsplit(' ').next()?.strip_prefix("0x")?;
    Some(Place {
        address: u64::from_str_radix(address, 16).ok()?,
        in_call: first != "-1",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_where_a_thread_waits() {
        let at = |address, in_call| Some(Place { address, in_call });
        assert_eq!(
            place_in("202 0x7f00 0x80 0x0 0x0 0x0 0x0 0x7ff0 0x4002\n"),
            at(0x4002, true)
        );
        assert_eq!(place_in("-1 0x7ff0 0x4000\n"), at(0x4000, false));
        for other in ["running\n", "", "202"] {
            assert_eq!(place_in(other), None, "{other}");
        }
    }

    #[test]
    fn tells_a_read_of_the_descriptor_from_everything_else() {
        let line = format!(
            "{} 0xc7 0x7f00 0x1 0x0 0x0 0x0 0x7ff0 0x4000",
            libc::SYS_read
        );
        assert!(is_read(&line, 199));
        assert!(!is_read(&line, 198));
        let write = format!("{} 0xc7 0x7f00", libc::SYS_write);
        for other in [write.as_str(), "running\n", "", "-1 0x7ff0 0x4000"] {
            assert!(!is_read(other, 199), "{other}");
        }
    }

    #[test]
    fn sees_a_child_that_waits_for_its_input() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let mut seen = in_read(pid, 0);
        while seen == Waiting::No && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(1));
            seen = in_read(pid, 0);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_ne!(seen, Waiting::No);
    }
}
