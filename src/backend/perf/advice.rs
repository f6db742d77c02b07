//! What to do when the kernel refuses a counter: each errno of perf_event_open(2) with its reason and remedy. Pure.

use nix::libc;

use crate::backend::Unavailable;
use crate::sys::machine::Machine;

/// Above this value of `kernel.perf_event_paranoid` users may not even count their own programs in user mode. The
/// kernel itself knows no higher one; Debian added 3, Ubuntu 4.
const PARANOID_FOR_ALL: i32 = 2;

/// Why `errno` came back when a user-mode instruction counter was opened on a child of ours, and what helps.
pub fn advise(errno: i32, machine: &Machine) -> Unavailable {
    let (reason, remedy) = match errno {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => absent(machine),
        libc::EACCES | libc::EPERM => forbidden(errno, machine),
        libc::ENOSYS if machine.seccomp => filtered("ENOSYS"),
        libc::ENOSYS => plain(
            "this kernel has no perf_event_open (ENOSYS)",
            "use a kernel built with CONFIG_PERF_EVENTS",
        ),
        libc::EOPNOTSUPP => plain(
            "the PMU cannot count user mode alone (EOPNOTSUPP)",
            "use a machine whose PMU can, or another backend",
        ),
        libc::EINVAL => plain(
            "the kernel does not understand the request for a counter (EINVAL)",
            "use a newer kernel, or another backend",
        ),
        libc::EMFILE | libc::ENFILE => plain(
            "too many files are open (EMFILE)",
            "raise the limit with `ulimit -n`",
        ),
        libc::EBUSY => plain(
            "something else holds the hardware counters (EBUSY)",
            "end other profilers, or switch the NMI watchdog off with `sysctl kernel.nmi_watchdog=0`",
        ),
        libc::ENOSPC => plain(
            "no hardware counter is left (ENOSPC)",
            "end other profilers",
        ),
        libc::E2BIG => plain(
            "the kernel is too old for the request (E2BIG)",
            "use a newer kernel, or another backend",
        ),
        libc::ESRCH => plain(
            "the program was gone before it could be counted (ESRCH)",
            "run it again",
        ),
        other => (
            format!(
                "perf_event_open answers: {}",
                std::io::Error::from_raw_os_error(other)
            ),
            "use another backend".to_owned(),
        ),
    };
    Unavailable { reason, remedy }
}

fn plain(reason: &str, remedy: &str) -> (String, String) {
    (reason.to_owned(), remedy.to_owned())
}

/// The event does not exist.
fn absent(machine: &Machine) -> (String, String) {
    match machine.pmus.first() {
        Some(pmu) => (
            format!("the PMU `{}` has no instruction counter", pmu.name),
            "use another backend".to_owned(),
        ),
        None if machine.cpu.virtualised => plain(
            "this virtual machine shows no hardware counter",
            "enable a virtual PMU in its hypervisor, use an instance type that has one, or another backend",
        ),
        None => plain(
            "this machine shows no hardware counter",
            "use a machine that has a PMU, or another backend",
        ),
    }
}

/// The event may exist, but not for us.
fn forbidden(errno: i32, machine: &Machine) -> (String, String) {
    let name = if errno == libc::EPERM {
        "EPERM"
    } else {
        "EACCES"
    };
    match machine.perf_event_paranoid {
        Some(level) if level > PARANOID_FOR_ALL && !machine.may_count => (
            format!("kernel.perf_event_paranoid is {level}, which forbids counting ({name})"),
            format!(
                "allow it with `sudo sysctl kernel.perf_event_paranoid={PARANOID_FOR_ALL}`, or run with CAP_PERFMON"
            ),
        ),
        _ if machine.seccomp => filtered(name),
        _ => (
            format!("the kernel forbids counting this program ({name})"),
            "do not count set-user-id programs, or run with CAP_PERFMON; a security module may also forbid it"
                .to_owned(),
        ),
    }
}

fn filtered(name: &str) -> (String, String) {
    (
        format!("a seccomp filter, as containers have, blocks perf_event_open ({name})"),
        "start the container with `--cap-add PERFMON`, or with a seccomp profile that allows perf_event_open"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::machine::{Cpu, Pmu};

    fn with_pmu() -> Machine {
        Machine {
            pmus: vec![Pmu {
                name: "cpu".to_owned(),
                number: 4,
                cpus: Vec::new(),
            }],
            perf_event_paranoid: Some(2),
            ..Machine::default()
        }
    }

    #[test]
    fn a_machine_without_a_pmu_is_told_from_a_pmu_without_the_event() {
        let bare = advise(libc::ENOENT, &Machine::default());
        assert_eq!(bare.reason, "this machine shows no hardware counter");
        let poor = advise(libc::ENOENT, &with_pmu());
        assert_eq!(poor.reason, "the PMU `cpu` has no instruction counter");
    }

    #[test]
    fn a_virtual_machine_without_a_pmu_is_sent_to_its_hypervisor() {
        let cpu = Cpu {
            virtualised: true,
            ..Cpu::default()
        };
        let machine = Machine {
            cpu,
            ..Machine::default()
        };
        let advice = advise(libc::ENOENT, &machine);
        assert!(advice.remedy.contains("hypervisor"), "{advice}");
    }

    #[test]
    fn a_paranoid_kernel_is_named_with_its_level() {
        let machine = Machine {
            perf_event_paranoid: Some(4),
            ..with_pmu()
        };
        let advice = advise(libc::EACCES, &machine);
        assert!(advice.reason.contains("perf_event_paranoid is 4"));
        assert!(advice.remedy.contains("perf_event_paranoid=2"));
    }

    #[test]
    fn the_level_is_not_blamed_when_it_would_allow_counting() {
        let filtered = Machine {
            seccomp: true,
            ..with_pmu()
        };
        assert!(advise(libc::EPERM, &filtered).reason.contains("seccomp"));
        let capable = Machine {
            perf_event_paranoid: Some(4),
            may_count: true,
            ..with_pmu()
        };
        let advice = advise(libc::EACCES, &capable);
        assert!(!advice.reason.contains("paranoid"), "{advice}");
    }

    #[test]
    fn every_errno_has_a_reason_of_its_own() {
        let machine = with_pmu();
        let errnos = [
            libc::ENOENT,
            libc::EACCES,
            libc::EPERM,
            libc::EOPNOTSUPP,
            libc::EINVAL,
            libc::EMFILE,
            libc::EBUSY,
            libc::ENOSPC,
            libc::ENOSYS,
            libc::E2BIG,
            libc::ESRCH,
            libc::EIO,
        ];
        let reasons: std::collections::BTreeSet<_> = errnos
            .iter()
            .map(|errno| advise(*errno, &machine).reason)
            .collect();
        assert_eq!(reasons.len(), errnos.len());
    }
}
