//! What this machine and this process are, as /proc and /sys tell: the facts that decide what can count here.
//!
//! Reading is thin, parsing is pure, and nothing is judged: that is the backends' work. A fact that cannot be
//! read is absent.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::personality::{self, Persona};

/// capability.h: numbers of bits in a set of capabilities.
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;

/// The processor, as /proc/cpuinfo describes its first CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// CPUID's vendor (`GenuineIntel`), or the implementer's number on arm64.
    pub vendor: String,
    /// CPU family, extended family included; 0 on arm64.
    pub family: u32,
    /// Model, extended model included; the part number on arm64.
    pub model: u32,
    /// Its name; on arm64, which gives none, made from the two numbers.
    pub name: String,
    /// Whether it says that a hypervisor is below it.
    pub virtualised: bool,
}

/// The features of the first CPU, as Linux names them.
pub fn cpu_flags() -> Vec<String> {
    let text = text("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find_map(|line| {
        let (name, flags) = line.split_once(':')?;
        (name.trim() == "flags").then_some(flags)
    });
    let flags = flags.unwrap_or_default().split_whitespace();
    flags.map(str::to_owned).collect()
}

/// A performance monitoring unit of CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pmu {
    /// Its name: `cpu`, `cpu_core`, `armv8_pmuv3_0`.
    pub name: String,
    /// The number that perf_event_open knows it by.
    pub number: u32,
    /// The CPUs it belongs to; empty where it does not say, which means all.
    pub cpus: Vec<usize>,
}

/// The facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The processor.
    pub cpu: Cpu,
    /// Its PMUs, by name; more than one where there are several kinds of core, none where nothing counts.
    pub pmus: Vec<Pmu>,
    /// `kernel.perf_event_paranoid`; absent where the kernel has no perf_event_open.
    pub perf_event_paranoid: Option<i32>,
    /// `kernel.yama.ptrace_scope`; absent where Yama is not in the kernel, which means 0.
    pub ptrace_scope: Option<i32>,
    /// Whether a seccomp filter, as containers install, is on this process.
    pub seccomp: bool,
    /// Whether this process may count despite `perf_event_paranoid` (CAP_PERFMON or CAP_SYS_ADMIN).
    pub may_count: bool,
    /// Whether this process may trace despite `ptrace_scope` (CAP_SYS_PTRACE).
    pub may_trace: bool,
    /// Whether counters stop during system management interrupts; absent where the CPU has no such switch.
    pub freeze_on_smi: Option<bool>,
}

impl Machine {
    /// Reads the facts of the machine and process this is.
    pub fn read() -> Machine {
        let status = text("/proc/self/status").unwrap_or_default();
        let capabilities = status_field(&status, "CapEff")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .unwrap_or(0);
        let has = |bit: u32| capabilities >> bit & 1 == 1;
        Machine {
            cpu: parse_cpuinfo(&text("/proc/cpuinfo").unwrap_or_default()),
            pmus: pmus(Path::new("/sys/bus/event_source/devices")).unwrap_or_default(),
            perf_event_paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
            ptrace_scope: number("/proc/sys/kernel/yama/ptrace_scope"),
            seccomp: has_filter(&status),
            may_count: has(CAP_PERFMON) || has(CAP_SYS_ADMIN),
            may_trace: has(CAP_SYS_PTRACE),
            freeze_on_smi: ["cpu", "cpu_core"]
                .iter()
                .find_map(|pmu| number(&format!("/sys/devices/{pmu}/freeze_on_smi")))
                .map(|on: i32| on != 0),
        }
    }
}

/// Whether a filter of system calls is on this process, and so on all that it starts (seccomp(2)).
pub fn is_filtered() -> bool {
    has_filter(&text("/proc/self/status").unwrap_or_default())
}

fn has_filter(status: &str) -> bool {
    status_field(status, "Seccomp").is_some_and(|mode| mode != "0")
}

/// Whether this process may switch address randomisation off for programs it starts. Tried for a moment, by this thread alone,
/// which executes no program meanwhile.
pub fn try_fixed_addresses() -> io::Result<()> {
    let before = personality::get()?;
    personality::set(before | Persona::ADDR_NO_RANDOMIZE)?;
    personality::set(before)?;
    Ok(())
}

fn text(path: &str) -> io::Result<String> {
    fs::read_to_string(path)
}

fn number(path: &str) -> Option<i32> {
    text(path).ok()?.trim().parse().ok()
}

/// The value of a `Name:\tvalue` line of /proc/PID/status (proc_pid_status(5)).
fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then_some(value.trim())
    })
}

/// The first CPU of /proc/cpuinfo, in x86's words or arm64's.
fn parse_cpuinfo(text: &str) -> Cpu {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim_end() == name).then_some(value.trim())
        })
    };
    let decimal = |name| field(name).and_then(|v| v.parse().ok()).unwrap_or(0);
    if let (Some(implementer), Some(part)) = (field("CPU implementer"), field("CPU part")) {
        let hex = part.trim_start_matches("0x");
        return Cpu {
            vendor: implementer.to_owned(),
            model: u32::from_str_radix(hex, 16).unwrap_or(0),
            name: format!("arm64 implementer {implementer} part {part}"),
            ..Cpu::default()
        };
    }
    Cpu {
        vendor: field("vendor_id").unwrap_or_default().to_owned(),
        family: decimal("cpu family"),
        model: decimal("model"),
        name: field("model name").unwrap_or_default().to_owned(),
        virtualised: field("flags").is_some_and(|f| f.split(' ').any(|f| f == "hypervisor")),
    }
}

/// The PMUs of CPUs among all event sources, by name.
fn pmus(folder: &Path) -> io::Result<Vec<Pmu>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let read = |file| fs::read_to_string(entry.path().join(file)).ok();
        let Some(number) = read("type").and_then(|text| text.trim().parse().ok()) else {
            continue;
        };
        if counts_instructions(&name) {
            let cpus = read("cpus").map_or_else(Vec::new, |list| parse_cpu_list(&list));
            found.push(Pmu { name, number, cpus });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Whether an event source is the PMU of CPU cores: x86 calls it `cpu`, or `cpu_KIND` where there are several
/// (arch/x86/events/core.c); arm64 `armv8_CORE` and the like, Apple's `apple_CORE_pmu` (drivers/perf).
fn counts_instructions(name: &str) -> bool {
    name == "cpu"
        || ["cpu_", "armv", "apple_"]
            .iter()
            .any(|start| name.starts_with(start))
}

/// A list of CPUs as the kernel writes them: `0-3,8`. Parts that are not understood are left out.
fn parse_cpu_list(list: &str) -> Vec<usize> {
    /// More than any machine has; a damaged list must not fill the memory.
    const MOST: usize = 1 << 16;
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cpus.extend((first..=last.min(MOST)).take(MOST));
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_x86_processor_and_that_it_is_virtual() {
        let cpu = parse_cpuinfo(
            "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n\
             model name\t: AMD EPYC\nflags\t\t: fpu hypervisor lahf_lm\n",
        );
        assert_eq!((cpu.family, cpu.model), (25, 17));
        assert_eq!(cpu.vendor, "AuthenticAMD");
        assert_eq!(cpu.name, "AMD EPYC");
        assert!(cpu.virtualised);
    }

    #[test]
    fn reads_an_arm64_processor_that_has_no_name() {
        let cpu = parse_cpuinfo(
            "processor\t: 0\nBogoMIPS\t: 125.00\nCPU implementer\t: 0x41\nCPU architecture: 8\n\
             CPU variant\t: 0x4\nCPU part\t: 0xd0c\nCPU revision\t: 1\n",
        );
        assert_eq!((cpu.vendor.as_str(), cpu.model), ("0x41", 0xd0c));
        assert_eq!(cpu.name, "arm64 implementer 0x41 part 0xd0c");
    }

    #[test]
    fn an_empty_cpuinfo_is_an_unknown_processor() {
        assert_eq!(parse_cpuinfo(""), Cpu::default());
    }

    #[test]
    fn reads_lists_of_cpus_and_survives_damaged_ones() {
        assert_eq!(parse_cpu_list("0-2,8\n"), [0, 1, 2, 8]);
        assert!(parse_cpu_list("").is_empty());
        assert_eq!(parse_cpu_list("x,5,3-1"), [5]);
        assert!(parse_cpu_list("0-99999999999").len() <= 1 << 16);
    }

    #[test]
    fn finds_the_pmus_of_cores_among_other_event_sources() {
        let folder = tempfile::tempdir().unwrap();
        for (name, number, cpus) in [
            ("cpu_core", "4", Some("0-1")),
            ("cpu_atom", "10", Some("2-3")),
            ("uncore_imc", "11", None),
            ("software", "1", None),
        ] {
            let device = folder.path().join(name);
            fs::create_dir(&device).unwrap();
            fs::write(device.join("type"), number).unwrap();
            if let Some(cpus) = cpus {
                fs::write(device.join("cpus"), cpus).unwrap();
            }
        }
        let pmu = |name: &str, number, cpus: &[usize]| Pmu {
            name: name.to_owned(),
            number,
            cpus: cpus.to_vec(),
        };
        assert_eq!(
            pmus(folder.path()).unwrap(),
            [pmu("cpu_atom", 10, &[2, 3]), pmu("cpu_core", 4, &[0, 1])]
        );
    }

    #[test]
    fn finds_a_field_of_a_status_file_by_its_whole_name() {
        let status = "Seccomp_filters:\t3\nSeccomp:\t2\n";
        assert_eq!(status_field(status, "Seccomp"), Some("2"));
        assert_eq!(status_field(status, "CapEff"), None);
    }
}
