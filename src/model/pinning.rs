//! Which sources of variation were removed from a run, and which were not, and why not.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One source of variation that a pinned run removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pin {
    /// Address space layout randomisation is off (`personality(ADDR_NO_RANDOMIZE)`).
    Aslr,
    /// Only an allow-list of variables and those that were asked for reach the program.
    Environment,
    /// The initial stack pointer does not depend on the lengths of path, arguments and environment.
    StackLayout,
    /// The 16 bytes that the kernel draws at each exec (`AT_RANDOM`) are fixed.
    AtRandom,
    /// Programs get no vDSO: they make system calls for the time, which is one instruction each on every kernel.
    Vdso,
    /// What getrandom(2) gives: the same bytes in every run.
    RandomBytes,
    /// Hash seeds that a variable fixes (`PYTHONHASHSEED`, `PERL_HASH_SEED`).
    HashSeeds,
    /// `LC_ALL` and `LANG`.
    Locale,
    /// `TZ`.
    TimeZone,
    /// The implementations glibc chooses by CPU features (`glibc.cpu.hwcaps`).
    CpuDispatch,
    /// The thresholds glibc derives from cache sizes (`glibc.cpu.x86_*`).
    CacheThresholds,
    /// The program sees and uses one CPU.
    OneCpu,
    /// What `cpuid` and its like say: a processor that is the same on every machine.
    CpuModel,
    /// What the machine and its kernel are called, and how much memory and load there is.
    Host,
    /// The order in which directories are read.
    DirectoryOrder,
    /// The project's folder: programs see it at one path, wherever the checkout is. Of suites only.
    ProjectFolder,
    /// Ids of processes and threads: those of a machine that runs nothing else.
    ProcessIds,
    /// Clocks: they start at the same moment in every run, and advance with the instructions executed.
    Clock,
    /// The order in which the threads of a process run.
    ThreadOrder,
    /// Which signals are ignored and blocked when a program begins.
    Signals,
    /// What a stack may grow to (`ulimit -s`).
    StackLimit,
    /// Standard input is `/dev/null` or a file, not whatever happened to be open.
    Stdin,
    /// Who programs are: root, whoever runs them. Only where that was asked for.
    User,
    /// The machine's network and what answers there are out of reach.
    Network,
}

impl Pin {
    /// Every source of variation that this version knows.
    pub const ALL: [Pin; 24] = [
        Pin::Aslr,
        Pin::Environment,
        Pin::StackLayout,
        Pin::AtRandom,
        Pin::Vdso,
        Pin::RandomBytes,
        Pin::HashSeeds,
        Pin::Locale,
        Pin::TimeZone,
        Pin::CpuDispatch,
        Pin::CacheThresholds,
        Pin::OneCpu,
        Pin::CpuModel,
        Pin::Host,
        Pin::DirectoryOrder,
        Pin::ProjectFolder,
        Pin::ProcessIds,
        Pin::Clock,
        Pin::ThreadOrder,
        Pin::Signals,
        Pin::StackLimit,
        Pin::Stdin,
        Pin::User,
        Pin::Network,
    ];
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pin::Aslr => "address layout (ASLR)",
            Pin::Environment => "environment variables",
            Pin::StackLayout => "stack layout",
            Pin::AtRandom => "AT_RANDOM",
            Pin::Vdso => "vDSO",
            Pin::RandomBytes => "random bytes (getrandom)",
            Pin::HashSeeds => "hash seeds",
            Pin::Locale => "locale",
            Pin::TimeZone => "time zone",
            Pin::CpuDispatch => "glibc CPU dispatch",
            Pin::CacheThresholds => "glibc cache thresholds",
            Pin::OneCpu => "one CPU",
            Pin::CpuModel => "CPU model (cpuid)",
            Pin::Host => "host (name, kernel, memory)",
            Pin::DirectoryOrder => "directory order",
            Pin::ProjectFolder => "project folder",
            Pin::ProcessIds => "process ids",
            Pin::Clock => "clocks",
            Pin::ThreadOrder => "order of threads",
            Pin::Signals => "signals ignored and blocked",
            Pin::StackLimit => "stack limit",
            Pin::Stdin => "standard input",
            Pin::User => "user",
            Pin::Network => "network",
        })
    }
}

/// Whether one source of variation was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "why")]
pub enum PinState {
    /// Removed.
    Pinned,
    /// Still there; the text says why, as the end of a sentence ("ptrace is forbidden here").
    Free(String),
}

/// The state of every source of variation that this version knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pinning(pub BTreeMap<Pin, PinState>);

impl Pinning {
    /// Records that `pin` holds.
    pub fn pinned(&mut self, pin: Pin) {
        self.0.insert(pin, PinState::Pinned);
    }

    /// Records that `pin` does not hold, because of `why`.
    pub fn free(&mut self, pin: Pin, why: impl Into<String>) {
        self.0.insert(pin, PinState::Free(why.into()));
    }

    /// The sources that were removed.
    pub fn held(&self) -> impl Iterator<Item = Pin> {
        self.0
            .iter()
            .filter(|(_, state)| **state == PinState::Pinned)
            .map(|(pin, _)| *pin)
    }

    /// The sources that were not, each with the reason.
    pub fn missing(&self) -> impl Iterator<Item = (Pin, &str)> {
        self.0.iter().filter_map(|(pin, state)| match state {
            PinState::Pinned => None,
            PinState::Free(why) => Some((*pin, why.as_str())),
        })
    }
}
