//! What a process has loaded, as /proc tells while it is stopped.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::SplitWhitespace;
use std::time::Duration;

use nix::unistd::{Pid, SysconfVar, sysconf};

use super::ptrace::Stopped;

/// Sixteen fixed bytes in place of those the kernel draws at each exec (getauxval(3), AT_RANDOM).
pub const FIXED_RANDOM: &[u8; 16] = b"counterfoiltally";

/// limits.h: PATH_MAX.
const LONGEST_PATH_BYTES: usize = 4096;

/// getauxval(3): address of sixteen random bytes.
const AT_RANDOM: u64 = 25;

/// A part of a file that is mapped executable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mapping {
    /// First address, in the process.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Offset of `start` in the file.
    pub offset: u64,
    /// The file; absent for anonymous memory.
    pub file: Option<PathBuf>,
    /// The kernel's name for special memory (`[vdso]`), or empty.
    pub label: String,
}

/// A file of /proc, read in as few pieces as possible: each is made anew.
pub fn read_proc(path: &str) -> io::Result<Vec<u8>> {
    const MOST_ARE_SHORTER: usize = 16 << 10;
    let mut bytes = Vec::with_capacity(MOST_ARE_SHORTER);
    fs::File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same for text; what is not UTF-8 in it (names of files) is replaced.
pub fn read_proc_text(path: &str) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&read_proc(path)?).into_owned())
}

/// The state of a thread, as one letter; none if there is no such thread.
pub fn state_of(thread: i32) -> Option<char> {
    let stat = read_proc_text(&format!("/proc/{thread}/stat")).ok()?;
    behind_name(&stat)?.next()?.chars().next()
}

/// The fields of a text of proc_pid_stat(5) from the third on: the second is a name that may have anything in it, and ends
/// with the last parenthesis.
pub fn behind_name(stat: &str) -> Option<SplitWhitespace<'_>> {
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace())
}

/// One of the signal masks in a text of proc_pid_status(5), by its name with the colon: bit 0 is signal 1.
pub fn signal_mask(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether a signal waits for a thread that it does not block, other than that a child has ended.
pub fn has_pending_signal(thread: i32) -> bool {
    const CHILD: u64 = 1 << (libc::SIGCHLD - 1);
    let status = read_proc_text(&format!("/proc/{thread}/status")).unwrap_or_default();
    let mask = |name: &str| signal_mask(&status, name).unwrap_or(0);
    (mask("SigPnd:") | mask("ShdPnd:")) & !(mask("SigBlk:") | CHILD) != 0
}

/// The CPU time that a thread has taken, as exact as a tick of the kernel; none if there is no such thread.
pub fn cpu_time_of(thread: i32) -> Option<Duration> {
    /// proc_pid_stat(5): utime and stime, counted from the state on, in ticks of which sysconf(3) tells how many are a second.
    const USER: usize = 11;
    const SYSTEM: usize = 12;
    let stat = read_proc_text(&format!("/proc/{thread}/stat")).ok()?;
    let fields: Vec<&str> = behind_name(&stat)?.collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let a_second = sysconf(SysconfVar::CLK_TCK).ok()??;
    let ms = (ticks(USER)? + ticks(SYSTEM)?) * 1000 / u64::try_from(a_second).ok()?;
    Some(Duration::from_millis(ms))
}

/// The executable mappings of a process that is stopped at an exec, a signal or its exit.
pub fn executable_mappings(pid: Pid) -> io::Result<Vec<Mapping>> {
    let text = read_proc_text(&format!("/proc/{pid}/maps"))?;
    Ok(text.lines().filter_map(parse_mapping).collect())
}

/// The mappings of files of a process, executable or not: under the counting engine the program's own code is not.
pub fn file_mappings(pid: Pid) -> io::Result<Vec<Mapping>> {
    let text = read_proc_text(&format!("/proc/{pid}/maps"))?;
    let mappings = text.lines().filter_map(parse_line);
    let files = mappings.map(|(mapping, _)| mapping);
    Ok(files.filter(|mapping| mapping.file.is_some()).collect())
}

/// One line of /proc/PID/maps; none when it is not executable.
fn parse_mapping(line: &str) -> Option<Mapping> {
    let (mapping, executable) = parse_line(line)?;
    executable.then_some(mapping)
}

/// One line of /proc/PID/maps (proc_pid_maps(5)), and whether it is executable.
fn parse_line(line: &str) -> Option<(Mapping, bool)> {
    let mut fields = line.splitn(6, ' ').map(str::trim_start);
    let (start, end) = fields.next()?.split_once('-')?;
    let executable = fields.next()?.as_bytes().get(2) == Some(&b'x');
    let offset = fields.next()?;
    let name = fields.nth(2).unwrap_or("").trim_start();
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let file = name
        .starts_with('/')
        .then(|| PathBuf::from(name.trim_end_matches(" (deleted)")));
    let mapping = Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
        label: if file.is_none() {
            name.to_owned()
        } else {
            String::new()
        },
        file,
    };
    Some((mapping, executable))
}

/// The memory that a program's own variables are in, start and end: what is writable behind the first mapping of the
/// file it runs, without a gap.
pub fn writable_data(pid: Pid) -> io::Result<Vec<(u64, u64)>> {
    let program = executable(pid)?;
    let program = program.to_string_lossy();
    let text = read_proc_text(&format!("/proc/{pid}/maps"))?;
    let mut behind = None;
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ' ');
        let range = fields.next().and_then(|range| range.split_once('-'));
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let Some((Some(start), Some(end))) = range.map(|(start, end)| (hex(start), hex(end)))
        else {
            continue;
        };
        let inside = line.ends_with(&*program) || behind == Some(start);
        if !inside {
            continue;
        }
        behind = Some(end);
        if fields.next().is_some_and(|rights| rights.starts_with("rw")) {
            found.push((start, end));
        }
    }
    Ok(found)
}

/// The program a process runs, as the kernel knows it.
pub fn executable(pid: Pid) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe"))
}

/// The id of a thread as it knows it itself, which in a PID namespace of its own is another than ours.
pub fn own_id(thread: Pid) -> io::Result<Pid> {
    let status = read_proc_text(&format!("/proc/{thread}/status"))?;
    innermost(&status)
        .map(Pid::from_raw)
        .ok_or_else(|| io::Error::other("no NSpid line"))
}

/// The process that a thread belongs to.
pub fn process_of(thread: Pid) -> io::Result<Pid> {
    let status = read_proc_text(&format!("/proc/{thread}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    line.and_then(|id| id.trim().parse().ok())
        .map(Pid::from_raw)
        .ok_or_else(|| io::Error::other("no Tgid line"))
}

/// The last id of /proc/PID/status, field NSpid (proc_pid_status(5)).
fn innermost(status: &str) -> Option<i32> {
    let mut lines = status.lines();
    let ids = lines.find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_whitespace().next_back()?.parse().ok()
}

/// getauxval(3): address of the path that was given to execve.
const AT_EXECFN: u64 = 31;

/// getauxval(3): address of the kernel's code for programs (the vDSO); and an entry that means nothing.
const AT_SYSINFO_EHDR: u64 = 33;
const AT_IGNORE: u64 = 1;

/// The auxiliary vector of a program that is stopped at its exec: what the kernel hands to it, in pairs of 64-bit words.
pub struct Auxv<'a> {
    process: &'a Stopped,
    bytes: Vec<u8>,
}

impl Auxv<'_> {
    /// Reads it.
    pub fn of(process: &Stopped) -> io::Result<Auxv<'_>> {
        let bytes = read_proc(&format!("/proc/{}/auxv", process.tid()))?;
        Ok(Auxv { process, bytes })
    }

    fn entry(&self, wanted: u64, name: &str) -> io::Result<u64> {
        auxv_entry(&self.bytes, wanted)
            .ok_or_else(|| io::Error::other(format!("the kernel gave this program no {name}")))
    }

    /// Replaces the random bytes of the program.
    pub fn fix_random(&self) -> io::Result<()> {
        let address = self.entry(AT_RANDOM, "AT_RANDOM")?;
        Ok(self.process.write(address, FIXED_RANDOM)?)
    }

    /// Hides the kernel's code (the vDSO) from the program: it makes system calls instead. How many instructions that
    /// code takes depends on the time, and on the kernel's version.
    pub const NO_VDSO: (u64, Option<u64>) = (AT_SYSINFO_EHDR, None);

    /// Gives entries other values, or takes them away; those that are not there stay away.
    pub fn replace(&self, entries: &[(u64, Option<u64>)]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let start = auxv_on_stack(self.process)?;
        for (kind, value) in entries {
            let is_it = |(there, _)| there == *kind;
            let Some(number) = auxv_pairs(&self.bytes).position(is_it) else {
                continue;
            };
            let entry = start + 16 * number as u64;
            let mut there = [0; 8];
            self.process.read(entry, &mut there)?;
            if u64::from_ne_bytes(there) != *kind {
                return Err(io::Error::other("the stack is not as the kernel makes it"));
            }
            match value {
                Some(value) => self.process.write(entry + 8, &value.to_ne_bytes())?,
                None => self.process.write(entry, &AT_IGNORE.to_ne_bytes())?,
            }
        }
        Ok(())
    }
}

/// The path that was given to exec, of a program that is stopped at its exec: a script's own, not its interpreter's.
pub fn executed_path(process: &Stopped) -> io::Result<PathBuf> {
    let address = Auxv::of(process)?.entry(AT_EXECFN, "AT_EXECFN")?;
    let path = process.read_c_string(address, LONGEST_PATH_BYTES)?;
    Ok(PathBuf::from(OsString::from_vec(path)))
}

/// Where the program of a process begins, once its loader is done; none if the kernel does not say.
pub fn first_instruction(process: Pid) -> Option<u64> {
    /// getauxval(3).
    const AT_ENTRY: u64 = 9;
    auxv_entry(&read_proc(&format!("/proc/{process}/auxv")).ok()?, AT_ENTRY)
}

/// Types and values of an auxiliary vector of 64-bit words.
fn auxv_pairs(auxv: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    let pairs = auxv.chunks_exact(16);
    pairs.map(move |pair| (word(&pair[..8]), word(&pair[8..])))
}

/// The value of one entry.
pub fn auxv_entry(auxv: &[u8], wanted: u64) -> Option<u64> {
    let found = auxv_pairs(auxv).find(|(kind, _)| *kind == wanted);
    found.map(|(_, value)| value)
}

/// Where the auxiliary vector is on the stack of a program that is stopped at its exec: behind argc, the arguments, a
/// null, the environment and a null (System V ABI, AMD64 supplement, figure 3.9; the same for AArch64).
fn auxv_on_stack(process: &Stopped) -> io::Result<u64> {
    let mut at = stack_pointer(process)? + 8;
    let mut nulls = 0;
    let mut words = [0; 512];
    loop {
        let got = process.read(at, &mut words)? / 8 * 8;
        if got == 0 {
            return Err(io::Error::other(
                "the stack ends before its auxiliary vector",
            ));
        }
        for word in words[..got].chunks_exact(8) {
            at += 8;
            nulls += usize::from(word.iter().all(|byte| *byte == 0));
            if nulls == 2 {
                return Ok(at);
            }
        }
    }
}

/// The stack pointer of a stopped thread, on any machine: the last but one field of /proc/PID/syscall
/// (proc_pid_syscall(5)).
fn stack_pointer(process: &Stopped) -> io::Result<u64> {
    let text = read_proc_text(&format!("/proc/{}/syscall", process.tid()))?;
    let field = text.split_whitespace().rev().nth(1);
    let number = field.and_then(|field| field.strip_prefix("0x"));
    number
        .and_then(|number| u64::from_str_radix(number, 16).ok())
        .ok_or_else(|| io::Error::other(format!("no stack pointer in /proc/PID/syscall: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_mapping_whose_file_name_has_blanks() {
        let line = "7f00-7fff r-xp 00001000 08:01 42                         /opt/a b/lib c.so";
        let mapping = parse_mapping(line).unwrap();
        assert_eq!(mapping.file, Some(PathBuf::from("/opt/a b/lib c.so")));
        assert_eq!(
            (mapping.start, mapping.end, mapping.offset),
            (0x7f00, 0x7fff, 0x1000)
        );
    }

    #[test]
    fn leaves_out_what_cannot_execute() {
        assert_eq!(
            parse_mapping("7f00-7fff rw-p 00000000 00:00 0 [stack]"),
            None
        );
    }

    #[test]
    fn names_special_memory() {
        let mapping = parse_mapping("7f00-7fff r-xp 00000000 00:00 0 [vdso]").unwrap();
        assert_eq!((mapping.file, mapping.label.as_str()), (None, "[vdso]"));
    }

    #[test]
    fn finds_random_bytes_of_this_very_process() {
        let auxv = fs::read("/proc/self/auxv").unwrap();
        assert!(auxv_entry(&auxv, AT_RANDOM).is_some());
        assert_eq!(auxv_entry(&auxv, 0xdead_beef), None);
    }
}
