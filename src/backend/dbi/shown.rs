//! What programs are told of the machine they run on, besides its processor: files of /proc and /sys, names, sizes.
//!
//! Pure. Numbers are those of a small machine that does nothing else.

use crate::dbi::cpu;
use crate::dbi::layout::{EPOCH_NS, UP_NS};
use crate::model::CpuModel;

/// Name of the machine.
pub const HOST: &str = "counterfoil";
/// Release of the kernel: one that is old enough for what it stands for to be there, and known to every program.
pub const RELEASE: &str = "6.1.0";
/// Version of the kernel.
pub const VERSION: &str = "#1 SMP Thu Jan  1 00:00:00 UTC 2026";

/// Entries of the auxiliary vector (getauxval(3)), and what they are, or that they are not there: features of the
/// processor, no more than every one has; room for a signal's frame on the largest; and nothing of rseq(2), whose sizes
/// follow the kernel.
pub const AUXV: [(u64, Option<u64>); 5] = [
    (AT_HWCAP, Some(cpu::BASELINE as u64)),
    (AT_HWCAP2, Some(0)),
    (AT_MINSIGSTKSZ, Some(12 << 10)),
    (AT_RSEQ_FEATURE_SIZE, None),
    (AT_RSEQ_ALIGN, None),
];
const AT_HWCAP: u64 = 16;
const AT_HWCAP2: u64 = 26;
const AT_RSEQ_FEATURE_SIZE: u64 = 27;
const AT_RSEQ_ALIGN: u64 = 28;
const AT_MINSIGSTKSZ: u64 = 51;

/// Memory, and what of it is free, in KiB.
const MEMORY_KIB: u64 = 8 << 20;
const FREE_KIB: u64 = 6 << 20;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Who asks, and when.
struct Asked {
    model: CpuModel,
    /// For how many seconds the machine has been up.
    up: u64,
}

/// What a file says.
type Says = fn(&Asked) -> String;

/// Files that tell of the machine, and what they say.
const FILES: [(&str, Says); 17] = [
    ("/proc/cpuinfo", |asked| cpuinfo(asked.model)),
    ("/proc/stat", |asked| stat(asked.up)),
    ("/proc/meminfo", |_| meminfo()),
    ("/proc/uptime", |asked| format!("{0}.00 {0}.00\n", asked.up)),
    ("/proc/loadavg", |_| "0.00 0.00 0.00 1/1 1\n".to_owned()),
    ("/proc/version", |_| {
        format!("Linux version {RELEASE} (counterfoil) {VERSION}\n")
    }),
    ("/proc/sys/kernel/hostname", |_| format!("{HOST}\n")),
    ("/proc/sys/kernel/osrelease", |_| format!("{RELEASE}\n")),
    ("/proc/sys/kernel/version", |_| format!("{VERSION}\n")),
    ("/proc/sys/kernel/random/boot_id", |_| uuid()),
    ("/proc/sys/kernel/random/uuid", |_| uuid()),
    ("/sys/devices/system/cpu/online", |_| only_one()),
    ("/sys/devices/system/cpu/possible", |_| only_one()),
    ("/sys/devices/system/cpu/present", |_| only_one()),
    ("/sys/devices/system/node/online", |_| only_one()),
    ("/sys/devices/system/node/possible", |_| only_one()),
    ("/sys/devices/system/node/node0/meminfo", |_| {
        let lines = meminfo();
        let lines = lines.lines().take(2);
        lines.map(|line| format!("Node 0 {line}\n")).collect()
    }),
];

/// Files of which each reading gives other random bytes.
const RANDOM: [&str; 2] = ["/dev/urandom", "/dev/random"];

/// The content of a file that tells of the machine; none for all others.
pub fn file(path: &str, model: CpuModel, now: u64) -> Option<String> {
    if let Some(rest) = path.strip_prefix("/proc/")
        && let Some((owner, CGROUP)) = rest.split_once('/')
        && (owner == "self" || owner.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Some("0::/\n".to_owned());
    }
    let up = (UP_NS + now) / NS_PER_SECOND;
    let known = FILES.iter().find(|(known, _)| *known == path);
    known.map(|(_, says)| says(&Asked { model, up }))
}

/// Of a process, in its folder.
const CGROUP: &str = "cgroup";

/// Whether a file gives random bytes.
pub fn is_random(path: &str) -> bool {
    RANDOM.contains(&path)
}

/// Whether a path that ends in this part may be that of such a file.
pub fn may_be_shown(last: &str) -> bool {
    let known = FILES.iter().map(|(path, _)| *path).chain(RANDOM);
    let mut parts = known.filter_map(|path| path.rsplit('/').next());
    last == CGROUP || parts.any(|part| part == last)
}

fn uuid() -> String {
    "00000000-0000-4000-8000-000000000001\n".to_owned()
}

fn only_one() -> String {
    "0\n".to_owned()
}

/// A machine whose only CPU was in user mode all the time.
fn stat(up: u64) -> String {
    let since = (EPOCH_NS - UP_NS) / NS_PER_SECOND;
    format!(
        "cpu  {up}00 0 0 0 0 0 0 0 0 0\ncpu0 {up}00 0 0 0 0 0 0 0 0 0\nintr 0\nctxt 0\nbtime {since}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n"
    )
}

fn cpuinfo(model: CpuModel) -> String {
    let (family, number, stepping) = cpu::family_model_stepping(model);
    let name = cpu::brand_name(model);
    let flags = cpu::linux_flags(model).join(" ");
    let cache = cpu::CACHES_KIB[2];
    format!(
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: {family}\nmodel\t\t: {number}\nmodel name\t: {name}\n\
         stepping\t: {stepping}\ncpu MHz\t\t: 1000.000\ncache size\t: {cache} KB\nphysical id\t: 0\nsiblings\t: 1\n\
         core id\t\t: 0\ncpu cores\t: 1\napicid\t\t: 0\ninitial apicid\t: 0\nfpu\t\t: yes\nfpu_exception\t: yes\n\
         cpuid level\t: 13\nwp\t\t: yes\nflags\t\t: {flags}\nbugs\t\t:\nbogomips\t: 2000.00\nclflush size\t: 64\n\
         cache_alignment\t: 64\naddress sizes\t: 46 bits physical, 48 bits virtual\npower management:\n\n"
    )
}

fn meminfo() -> String {
    let lines = [
        ("MemTotal", MEMORY_KIB),
        ("MemFree", FREE_KIB),
        ("MemAvailable", FREE_KIB),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
    ];
    let line = |(name, kib): (&str, u64)| format!("{:<15} {kib:>8} kB\n", format!("{name}:"));
    lines.into_iter().map(line).collect()
}

/// `struct utsname` of uname(2): six texts in 65 bytes each.
pub fn utsname() -> Vec<u8> {
    const FIELD_BYTES: usize = 65;
    let texts = ["Linux", HOST, RELEASE, VERSION, "x86_64", "(none)"];
    let mut bytes = vec![0; texts.len() * FIELD_BYTES];
    for (field, text) in bytes.chunks_exact_mut(FIELD_BYTES).zip(texts) {
        field[..text.len()].copy_from_slice(text.as_bytes());
    }
    bytes
}

/// `struct sysinfo` of sysinfo(2), 112 bytes: seconds up, three loads, memory in all and free, shared and buffered, swap
/// in all and free, processes, high memory in all and free, and the unit, a byte.
pub fn sysinfo(now: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(112);
    let (memory, free) = (MEMORY_KIB << 10, FREE_KIB << 10);
    for word in [
        (UP_NS + now) / NS_PER_SECOND,
        0,
        0,
        0,
        memory,
        free,
        0,
        0,
        0,
        0,
        1,
        0,
        0,
        1,
    ] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// `struct rusage` of a process that has used so many nanoseconds: their seconds and microseconds, and zeros.
pub fn rusage(used_ns: u64) -> Vec<u8> {
    let mut bytes = vec![0; 144];
    bytes[..8].copy_from_slice(&(used_ns / NS_PER_SECOND).to_ne_bytes());
    bytes[8..16].copy_from_slice(&(used_ns % NS_PER_SECOND / 1000).to_ne_bytes());
    bytes
}

/// `struct tms` of times(2): ticks of 10 ms that the process has used, and three zeros.
pub fn tms(used_ns: u64) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[..8].copy_from_slice(&ticks(used_ns).to_ne_bytes());
    bytes
}

/// A time in ticks of 10 ms (sysconf(3), `_SC_CLK_TCK`).
pub fn ticks(ns: u64) -> u64 {
    const NS_PER_TICK: u64 = 10_000_000;
    ns / NS_PER_TICK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernels() {
        assert_eq!(utsname().len(), size_of::<nix::libc::utsname>());
        assert_eq!(sysinfo(0).len(), size_of::<nix::libc::sysinfo>());
        assert_eq!(rusage(0).len(), size_of::<nix::libc::rusage>());
        assert_eq!(tms(0).len(), size_of::<nix::libc::tms>());
    }

    #[test]
    fn only_files_that_tell_of_the_machine_are_replaced() {
        let shown = |path| file(path, CpuModel::V3, 0);
        assert!(shown("/proc/cpuinfo").unwrap().contains(" avx2"));
        let node = shown("/sys/devices/system/node/node0/meminfo").unwrap();
        assert!(node.starts_with("Node 0 MemTotal: ") && node.contains("\nNode 0 MemFree: "));
        assert!(shown("/proc/self/cgroup").is_some() && shown("/proc/12/cgroup").is_some());
        assert!(shown("/proc/self/status").is_none() && shown("/proc/net/cgroup").is_none());
        assert!(may_be_shown("cpuinfo") && may_be_shown("urandom") && !may_be_shown("status"));
    }
}
