//! What of this machine helps or hinders counting, each finding with a remedy. Judging is pure over the facts.
//!
//! Whether a backend works is for its own probe to say; these are the circumstances that explain it.

use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::machine::{self, Cpu, Machine};
use crate::sys::perf::{Event, Unusable, count_here};

/// How a finding bears on counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bearing {
    /// As it should be.
    Good,
    /// Worth knowing; nothing fails.
    Note,
    /// Counts are less exact, or runs less reproducible.
    Harmful,
    /// Some way of counting is out.
    Blocking,
}

/// One circumstance of this machine or process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: "hardware counters".
    pub subject: &'static str,
    /// How it bears on counting.
    pub bearing: Bearing,
    /// What was found, as a clause.
    pub found: String,
    /// What the user can do, as an imperative; absent when there is nothing to do.
    pub remedy: Option<String>,
}

/// Facts that must be tried out, not read.
#[derive(Debug)]
pub struct Tried {
    /// Whether address randomisation may be switched off.
    pub fixed_addresses: io::Result<()>,
    /// Whether speculated `lock` instructions are counted (AMD Zen's SpecLockMap); absent where that was not measured.
    pub spec_lock_map: Option<bool>,
}

/// Looks at this machine and process.
pub fn examine() -> Vec<Finding> {
    let machine = Machine::read();
    let tried = Tried {
        fixed_addresses: machine::try_fixed_addresses(),
        spec_lock_map: may_speculate_locks(&machine.cpu)
            .then(measure_spec_lock_map)
            .and_then(Result::ok),
    };
    judge(&machine, &tried)
}

/// What the facts mean, in a fixed order.
pub fn judge(machine: &Machine, tried: &Tried) -> Vec<Finding> {
    [
        Some(processor(machine)),
        Some(counters(machine)),
        kinds_of_core(machine),
        paranoid(machine),
        seccomp(machine),
        tracing(machine),
        Some(addresses(&tried.fixed_addresses)),
        management_interrupts(machine),
        speculated_locks(machine, tried.spec_lock_map),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn finding(
    subject: &'static str,
    bearing: Bearing,
    found: impl Into<String>,
    remedy: Option<&str>,
) -> Finding {
    Finding {
        subject,
        bearing,
        found: found.into(),
        remedy: remedy.map(str::to_owned),
    }
}

fn processor(machine: &Machine) -> Finding {
    let cpu = &machine.cpu;
    let place = if cpu.virtualised {
        ", in a virtual machine"
    } else {
        ""
    };
    let found = format!(
        "{} (family {}, model {}){place}",
        cpu.name, cpu.family, cpu.model
    );
    finding("processor", Bearing::Note, found, None)
}

fn counters(machine: &Machine) -> Finding {
    let names: Vec<&str> = machine.pmus.iter().map(|pmu| pmu.name.as_str()).collect();
    if names.is_empty() {
        let remedy = if machine.cpu.virtualised {
            "enable a virtual PMU in the hypervisor, or use a backend that needs none"
        } else {
            "use a backend that needs none"
        };
        let found = "this machine shows no PMU";
        return finding("hardware counters", Bearing::Blocking, found, Some(remedy));
    }
    let found = format!("PMU {}", names.join(", "));
    finding("hardware counters", Bearing::Good, found, None)
}

fn kinds_of_core(machine: &Machine) -> Option<Finding> {
    let names: Vec<&str> = machine.pmus.iter().map(|pmu| pmu.name.as_str()).collect();
    (names.len() > 1).then(|| {
        finding(
            "kinds of core",
            Bearing::Note,
            format!(
                "several ({}); perf confines programs to one CPU",
                names.join(", ")
            ),
            None,
        )
    })
}

fn paranoid(machine: &Machine) -> Option<Finding> {
    let subject = "perf_event_paranoid";
    let Some(level) = machine.perf_event_paranoid else {
        let found = "this kernel has no perf_event_open";
        let remedy = "use a kernel built with CONFIG_PERF_EVENTS";
        return Some(finding(subject, Bearing::Blocking, found, Some(remedy)));
    };
    Some(if level <= 2 {
        finding(subject, Bearing::Good, format!("{level}"), None)
    } else if machine.may_count {
        let found = format!("{level}, which does not bind this process (CAP_PERFMON)");
        finding(subject, Bearing::Good, found, None)
    } else {
        let found = format!("{level}, which forbids counting");
        let remedy = "run `sudo sysctl kernel.perf_event_paranoid=2`";
        finding(subject, Bearing::Blocking, found, Some(remedy))
    })
}

fn seccomp(machine: &Machine) -> Option<Finding> {
    machine.seccomp.then(|| {
        finding(
            "seccomp",
            Bearing::Note,
            "a filter is on this process, as containers have; it may block perf_event_open, personality, and namespaces (process ids and networks of a run's own)",
            Some("where one is blocked that you need, the report names the switch"),
        )
    })
}

/// Yama: 0 and 1 let a parent trace its children, 2 asks for CAP_SYS_PTRACE, 3 forbids
/// (Documentation/admin-guide/LSM/Yama.rst).
fn tracing(machine: &Machine) -> Option<Finding> {
    let level = machine.ptrace_scope?;
    let forbidden = level >= 3 || (level == 2 && !machine.may_trace);
    Some(if forbidden {
        let found = format!("{level}, which forbids tracing");
        let remedy = if level == 2 {
            "run `sudo sysctl kernel.yama.ptrace_scope=1`"
        } else {
            "boot with kernel.yama.ptrace_scope below 3: it cannot be lowered again"
        };
        finding("ptrace_scope", Bearing::Blocking, found, Some(remedy))
    } else {
        finding("ptrace_scope", Bearing::Good, format!("{level}"), None)
    })
}

fn addresses(fixed: &io::Result<()>) -> Finding {
    let subject = "address randomisation";
    match fixed {
        Ok(()) => finding(subject, Bearing::Good, "can be switched off", None),
        Err(error) => finding(
            subject,
            Bearing::Note,
            format!(
                "cannot be switched off: {error}; `dbi` moves programs to fixed addresses by itself, `perf` and `step` cannot"
            ),
            Some("for those, allow personality(2) in the container's seccomp profile"),
        ),
    }
}

/// From Comet Lake on, counters run on through system management mode unless they are told not to (rr's requirements).
fn management_interrupts(machine: &Machine) -> Option<Finding> {
    let subject = "freeze_on_smi";
    let on = machine.freeze_on_smi?;
    if machine.pmus.is_empty() || !since_comet_lake(&machine.cpu) {
        return None;
    }
    Some(if on {
        finding(subject, Bearing::Good, "on", None)
    } else {
        finding(
            subject,
            Bearing::Harmful,
            "off: system management interrupts add to hardware counts",
            Some("run `echo 1 | sudo tee /sys/devices/cpu*/freeze_on_smi`"),
        )
    })
}

/// Intel's Comet Lake is models 165 and 166 of family 6. Later processors have other models above Skylake's 94, apart from
/// Kaby Lake (142, 158), Xeon Phi (133) and small cores (95, 122, 134) (arch/x86/include/asm/intel-family.h).
fn since_comet_lake(cpu: &Cpu) -> bool {
    let older = cpu.family < 6 || cpu.family == 15;
    let older_model = matches!(cpu.model, 0..=95 | 122 | 133 | 134 | 142 | 158);
    cpu.vendor == "GenuineIntel" && !older && (cpu.family > 6 || !older_model)
}

/// AMD family 17h (23) and later: Zen.
fn may_speculate_locks(cpu: &Cpu) -> bool {
    cpu.vendor == "AuthenticAMD" && cpu.family >= 23
}

fn speculated_locks(machine: &Machine, counted: Option<bool>) -> Option<Finding> {
    let subject = "SpecLockMap";
    if machine.pmus.is_empty() || !may_speculate_locks(&machine.cpu) {
        return None;
    }
    Some(match counted {
        Some(false) => finding(subject, Bearing::Good, "off", None),
        Some(true) => finding(
            subject,
            Bearing::Harmful,
            "on: hardware counts of programs with atomic instructions vary",
            Some("set bit 54 of MSR 0xc0011020, as rr's zen_workaround.py does"),
        ),
        None => finding(subject, Bearing::Note, "could not be measured", None),
    })
}

/// Whether speculated `lock` instructions are committed while atomics run: event 0x25, mask 0x08, of Zen
/// (rr, PerfCounters_x86.h).
fn measure_spec_lock_map() -> Result<bool, Unusable> {
    let cell = AtomicU64::new(0);
    let commits = count_here(Event::raw(0x0825), || {
        for _ in 0..100 {
            black_box(black_box(&cell).fetch_add(1, Ordering::SeqCst));
        }
    })?;
    Ok(commits > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::machine::Pmu;

    fn machine(vendor: &str, family: u32, model: u32) -> Machine {
        Machine {
            cpu: Cpu {
                vendor: vendor.to_owned(),
                family,
                model,
                ..Cpu::default()
            },
            pmus: vec![Pmu {
                name: "cpu".to_owned(),
                number: 4,
                cpus: Vec::new(),
            }],
            perf_event_paranoid: Some(2),
            ..Machine::default()
        }
    }

    fn found(machine: &Machine, subject: &str) -> Option<Finding> {
        found_when(machine, None, subject)
    }

    fn found_when(machine: &Machine, locks: Option<bool>, subject: &str) -> Option<Finding> {
        let tried = Tried {
            fixed_addresses: Err(io::Error::from_raw_os_error(1)),
            spec_lock_map: locks,
        };
        let findings = judge(machine, &tried);
        findings.into_iter().find(|f| f.subject == subject)
    }

    fn bearing(machine: &Machine, subject: &str) -> Option<Bearing> {
        found(machine, subject).map(|f| f.bearing)
    }

    #[test]
    fn a_paranoid_kernel_blocks_users_and_not_the_capable() {
        let mut ubuntu = machine("GenuineIntel", 6, 94);
        ubuntu.perf_event_paranoid = Some(4);
        assert_eq!(
            bearing(&ubuntu, "perf_event_paranoid"),
            Some(Bearing::Blocking)
        );
        ubuntu.may_count = true;
        assert_eq!(bearing(&ubuntu, "perf_event_paranoid"), Some(Bearing::Good));
    }

    #[test]
    fn a_machine_without_a_pmu_has_no_findings_about_its_counters_faults() {
        let mut bare = machine("AuthenticAMD", 25, 17);
        bare.pmus.clear();
        assert_eq!(bearing(&bare, "hardware counters"), Some(Bearing::Blocking));
        assert_eq!(bearing(&bare, "SpecLockMap"), None);
    }

    #[test]
    fn freeze_on_smi_matters_from_comet_lake_on() {
        for (model, expected) in [
            (158, None),
            (165, Some(Bearing::Harmful)),
            (151, Some(Bearing::Harmful)),
        ] {
            let mut intel = machine("GenuineIntel", 6, model);
            intel.freeze_on_smi = Some(false);
            assert_eq!(bearing(&intel, "freeze_on_smi"), expected, "model {model}");
        }
        let mut on = machine("GenuineIntel", 6, 165);
        on.freeze_on_smi = Some(true);
        assert_eq!(bearing(&on, "freeze_on_smi"), Some(Bearing::Good));
    }

    #[test]
    fn speculated_locks_are_a_matter_of_zen_only() {
        let zen = machine("AuthenticAMD", 25, 17);
        let harmful = found_when(&zen, Some(true), "SpecLockMap").unwrap();
        assert_eq!(harmful.bearing, Bearing::Harmful);
        assert_eq!(bearing(&zen, "SpecLockMap"), Some(Bearing::Note));
        let older = machine("AuthenticAMD", 21, 2);
        assert_eq!(found_when(&older, Some(true), "SpecLockMap"), None);
    }

    #[test]
    fn tracing_is_blocked_by_the_two_upper_levels_of_yama() {
        let mut yama = machine("GenuineIntel", 6, 94);
        for (level, may_trace, expected) in [
            (1, false, Bearing::Good),
            (2, false, Bearing::Blocking),
            (2, true, Bearing::Good),
            (3, true, Bearing::Blocking),
        ] {
            yama.ptrace_scope = Some(level);
            yama.may_trace = may_trace;
            assert_eq!(bearing(&yama, "ptrace_scope"), Some(expected), "{level}");
        }
    }

    #[test]
    fn whatever_hinders_has_a_remedy() {
        let mut worst = machine("GenuineIntel", 6, 165);
        worst.perf_event_paranoid = Some(4);
        worst.ptrace_scope = Some(3);
        worst.freeze_on_smi = Some(false);
        let tried = Tried {
            fixed_addresses: Err(io::Error::from_raw_os_error(1)),
            spec_lock_map: None,
        };
        let hindrances = judge(&worst, &tried)
            .into_iter()
            .filter(|f| f.bearing >= Bearing::Harmful);
        assert_eq!(hindrances.filter(|f| f.remedy.is_some()).count(), 3);
    }
}
