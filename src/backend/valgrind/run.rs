//! One run under either tool, from the launch to the out files of its processes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::FormatError;
use super::family::{Autopsy, Family, Fate, Inherited, Member};
use super::launch::{Extent, Tool, Valgrind, check_program, log_file, out_file};
use crate::backend::{BackendError, callers, finish};
use crate::model::{Attempt, Caveat, Outcome, Pin, Pinning};
use crate::sys::Pid;
use crate::sys::spawn::Launch;
use crate::sys::tree::{self, End, Finished, TreeError};

/// A run whose out files are still to be read.
pub struct Ran {
    /// Its processes, in order of start.
    pub members: Vec<Member>,
    /// How the root ended.
    pub outcome: Outcome,
    /// What was pinned.
    pub pinning: Pinning,
    /// What is known to be missing in the counts.
    pub caveats: Vec<Caveat>,
    /// What it tried to reach in vain.
    pub attempts: Vec<Attempt>,
}

/// Runs `launch` under `tool`.
pub fn run(
    valgrind: &Valgrind,
    tool: Tool,
    extent: Extent,
    launch: &Launch,
    scratch: &Path,
    autopsy: &mut dyn Autopsy,
) -> Result<Ran, BackendError> {
    check_program(launch).map_err(TreeError::from)?;
    let wrapped = valgrind.wrap(launch, tool, extent, scratch);
    let mut family = Family::new(tool, scratch, autopsy);
    let finished = tree::run(&wrapped, &mut family)?;
    let Family {
        mut members,
        unseen,
        replaced,
        ..
    } = family;
    if finished.traced.is_err() {
        members = untraced(tool, launch, scratch)?;
    }
    let untold = untold(&members, scratch)?;
    note_killed(&mut members, &finished, scratch);
    let log = Log::read(scratch, members.iter().map(|m| m.pid))?;
    log.check(tool, &finished)?;
    let mut caveats = log.caveats();
    caveats.extend(left_running(&finished, &members));
    if replaced > 0 {
        caveats.push(Caveat::LostBeforeExec { execs: replaced });
    }
    if !unseen.is_empty() {
        let programs: BTreeSet<String> = unseen.iter().map(|p| p.display().to_string()).collect();
        let programs: Vec<String> = programs.into_iter().collect();
        caveats.push(Caveat::Other {
            text: format!(
                "{} ran outside Valgrind and is not counted",
                programs.join(", ")
            ),
        });
    }
    if untold > 0 {
        caveats.push(Caveat::Other {
            text: format!(
                "processes that were started so that no tracer is told of them (CLONE_UNTRACED) are not counted: {untold}"
            ),
        });
    }
    let pinning = pinning(launch, &finished);
    let attempts = named(callers::unnamed(finished.attempts), &members);
    Ok(Ran {
        members,
        outcome: finish::outcome(finished.end),
        pinning,
        caveats,
        attempts,
    })
}

/// The kernel knows a process by the name of the tool; the family knows the program that it ran last.
fn named(mut attempts: Vec<Attempt>, members: &[Member]) -> Vec<Attempt> {
    for attempt in &mut attempts {
        let mut last = members.iter().rev();
        if let Some(member) = last.find(|member| member.pid.as_raw() == attempt.pid) {
            attempt.program = member.program.display().to_string();
        }
    }
    attempts
}

/// Whoever wrote nothing in a run that was cut short was killed, or still runs; not every such end is seen.
fn note_killed(members: &mut [Member], finished: &Finished, scratch: &Path) {
    let signal = match finished.end {
        End::Exited(_) if finished.left_running.is_empty() => return,
        End::Killed(signal) => signal,
        End::Exited(_) | End::TimedOut => SIGKILL,
    };
    for member in members {
        let wrote = member.has_ended() && out_file(scratch, member.pid).exists();
        if member.killed_by.is_none() && !wrote {
            member.killed_by = Some(signal);
        }
    }
}

/// The processes that have written an out file.
fn writers(scratch: &Path) -> Result<Vec<Pid>, BackendError> {
    let entries = fs::read_dir(scratch).map_err(|source| BackendError::File {
        doing: "list",
        path: scratch.to_owned(),
        source,
    })?;
    let writer = |name: &OsStr| name.to_str()?.strip_prefix("out.")?.parse().ok();
    let writers = entries.filter_map(|entry| writer(&entry.ok()?.file_name()));
    Ok(writers.map(Pid::from_raw).collect())
}

/// How many processes have written counts and were not seen to begin: what they had inherited of those is not known.
fn untold(members: &[Member], scratch: &Path) -> Result<usize, BackendError> {
    let mut known: BTreeSet<PathBuf> = members.iter().map(|m| out_file(scratch, m.pid)).collect();
    known.extend(members.iter().filter_map(|m| match &m.inherited {
        Inherited::Counts(file) => Some(file.clone()),
        Inherited::Nothing | Inherited::Unknown(_) => None,
    }));
    let files = writers(scratch)?
        .into_iter()
        .map(|pid| out_file(scratch, pid));
    Ok(files.filter(|file| !known.contains(file)).count())
}

/// Without tracing only the out files tell which processes there were; more than one cannot be told apart.
fn untraced(tool: Tool, launch: &Launch, scratch: &Path) -> Result<Vec<Member>, BackendError> {
    let pids = writers(scratch)?;
    if pids.len() > 1 {
        return Err(BackendError::Tool {
            tool: tool.name(),
            problem: "the program started other processes, and what a forked one inherits of its \
                      parent's counts is only known when it is traced"
                .to_owned(),
            remedy: "allow ptrace here, or use the backend `perf`".to_owned(),
        });
    }
    let member = |pid: Pid| Member {
        pid,
        parent: None,
        program: launch.program.clone(),
        inherited: Inherited::Nothing,
        parent_parts: 0,
        fate: Fate::Written,
        killed_by: None,
        mappings: Vec::new(),
        memory: Default::default(),
        uncounted: Default::default(),
    };
    Ok(pids.into_iter().map(member).collect())
}

/// The kernel knows these processes by the name of the tool; the family knows the programs that it runs.
fn left_running(finished: &Finished, members: &[Member]) -> Option<Caveat> {
    let running = members
        .iter()
        .filter(|m| m.fate != Fate::Replaced && !m.has_ended());
    let programs: Vec<String> = running.map(|m| m.program.display().to_string()).collect();
    (!finished.left_running.is_empty()).then_some(Caveat::LeftRunning { programs })
}

fn pinning(launch: &Launch, finished: &Finished) -> Pinning {
    let mut pinning = Pinning::default();
    // Valgrind itself lays out the program's memory, and always the same.
    pinning.pinned(Pin::Aslr);
    pinning.free(Pin::Vdso, "Valgrind leaves it to programs");
    let of_tree = finish::pinning(launch, finished).0;
    pinning
        .0
        .extend(of_tree.into_iter().filter(|(pin, _)| *pin != Pin::Aslr));
    pinning
}

/// The counts of one program, when there are any.
pub enum Counts<T> {
    /// What it executed itself.
    Own(T),
    /// There are none, and a caveat says why.
    Lost,
}

/// Reads what each member executed itself: its out file less what it had inherited. `read` reads a file, `less`
/// subtracts.
pub fn own_counts<T>(
    tool: Tool,
    member: &Member,
    scratch: &Path,
    caveats: &mut Vec<Caveat>,
    mut read: impl FnMut(&Path) -> Result<T, FormatError>,
    less: impl FnOnce(T, T) -> Option<T>,
) -> Result<Counts<T>, BackendError> {
    if member.fate == Fate::Replaced {
        return Ok(Counts::Lost);
    }
    let file = out_file(scratch, member.pid);
    if !file.exists() {
        return no_file(tool, member, caveats);
    }
    let mut parse = |file: &Path| read(file).map_err(|error| damaged(tool, file, &error));
    let whole = match parse(&file) {
        Ok(whole) => whole,
        // Valgrind opens the file when it starts, and fills it when the program ends.
        Err(_) if member.killed_by.is_some() => return no_file(tool, member, caveats),
        Err(error) => return Err(error),
    };
    match &member.inherited {
        Inherited::Nothing => Ok(Counts::Own(whole)),
        Inherited::Unknown(reason) => {
            caveats.push(Caveat::Other {
                text: format!(
                    "a forked copy of {} is not counted: its counts cannot be told from its parent's ({reason})",
                    member.program.display()
                ),
            });
            Ok(Counts::Lost)
        }
        Inherited::Counts(base) => {
            let base = parse(base)?;
            less(whole, base)
                .map(Counts::Own)
                .ok_or_else(|| BackendError::Tool {
                    tool: tool.name(),
                    problem: format!(
                        "a forked copy of {} counted less than it had inherited",
                        member.program.display()
                    ),
                    remedy: "report this; the backend `step` counts such programs".to_owned(),
                })
        }
    }
}

const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;

/// A process that wrote nothing: killed before it could, left running, or Valgrind's own failure.
fn no_file<T>(
    tool: Tool,
    member: &Member,
    caveats: &mut Vec<Caveat>,
) -> Result<Counts<T>, BackendError> {
    let program = member.program.display();
    match member.killed_by {
        Some(signal) => {
            caveats.push(Caveat::Other {
                text: format!(
                    "{program} was killed by signal {signal}, or let go, before Valgrind could write its \
                     counts; they are missing"
                ),
            });
            Ok(Counts::Lost)
        }
        None => Err(BackendError::Tool {
            tool: tool.name(),
            problem: format!("{program} ended and left no counts"),
            remedy: format!(
                "run `valgrind --tool={} {program}` by hand and see what it says",
                tool.name()
            ),
        }),
    }
}

fn damaged(tool: Tool, file: &Path, error: &FormatError) -> BackendError {
    BackendError::Tool {
        tool: tool.name(),
        problem: format!("{}: {error}", file.display()),
        remedy: "check that the disk of the temporary folder is not full, and report this"
            .to_owned(),
    }
}

/// Opens an out file for one of the parsers.
pub fn open(file: &Path) -> Result<BufReader<File>, FormatError> {
    match File::open(file) {
        Ok(open) => Ok(BufReader::with_capacity(1 << 16, open)),
        Err(error) => Err(FormatError {
            line: 0,
            problem: error.into(),
        }),
    }
}

/// What Valgrind said in its log files.
struct Log {
    text: String,
    place: PathBuf,
}

/// Lines by which Valgrind says that it has given up.
const FATAL: [(&str, &str); 5] = [
    (
        "the 'impossible' happened",
        "report it to Valgrind, and use the backend `step` or `perf`",
    ),
    (
        "INTERNAL ERROR",
        "report it to Valgrind, and use the backend `step` or `perf`",
    ),
    (
        "out of memory",
        "give the machine more memory, or count a smaller input",
    ),
    (
        "Can't extend",
        "raise the stack limit (`ulimit -s`), or count a smaller input",
    ),
    ("FATAL", "see Valgrind's manual for the message"),
];

/// How Valgrind says that it met an instruction it does not know.
const UNKNOWN_INSTRUCTION: [&str; 2] = ["unhandled instruction bytes", "unrecognised instruction"];

const SIGILL: i32 = nix::sys::signal::Signal::SIGILL as i32;

impl Log {
    fn read(scratch: &Path, pids: impl Iterator<Item = Pid>) -> Result<Log, BackendError> {
        let mut all = Log {
            text: String::new(),
            place: scratch.to_owned(),
        };
        for pid in pids {
            let path = log_file(scratch, pid);
            match fs::read(&path) {
                Ok(bytes) => all.text += &String::from_utf8_lossy(&bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(BackendError::File {
                        doing: "read",
                        path,
                        source,
                    });
                }
            }
        }
        Ok(all)
    }

    fn line(&self, sign: &str) -> Option<String> {
        let line = self.text.lines().find(|line| line.contains(sign))?;
        Some(without_pid(line).to_owned())
    }

    /// An error when Valgrind itself has died, or killed the program.
    fn check(&self, tool: Tool, finished: &Finished) -> Result<(), BackendError> {
        let failure = |problem: String, remedy: &str| {
            Err(BackendError::Tool {
                tool: tool.name(),
                problem,
                remedy: remedy.to_owned(),
            })
        };
        let unknown = UNKNOWN_INSTRUCTION.iter().find_map(|sign| self.line(sign));
        if let (Some(line), End::Killed(SIGILL)) = (unknown, finished.end) {
            return failure(
                format!(
                    "Valgrind does not know an instruction of the program ({line}), which died of it"
                ),
                "build without it (AVX-512 for one: `-mno-avx512f`), keep libraries from choosing it by \
                 CPU (`GLIBC_TUNABLES=glibc.cpu.hwcaps=...`), or use the backend `perf` or `step`",
            );
        }
        for (sign, remedy) in FATAL {
            if let Some(line) = self.line(sign) {
                return failure(
                    format!("Valgrind gave up ({line}; log in {})", self.place.display()),
                    remedy,
                );
            }
        }
        Ok(())
    }

    fn caveats(&self) -> Vec<Caveat> {
        let other = |text| Caveat::Other { text };
        let unknown = UNKNOWN_INSTRUCTION.iter().find_map(|sign| self.line(sign));
        let unknown = unknown.map(|line| {
            other(format!(
                "Valgrind answered an instruction it does not know with SIGILL, which the CPU would not ({line})"
            ))
        });
        let setuid = self.line("Can't execute setuid").map(|line| {
            other(format!(
                "Valgrind refused what the program wanted to execute ({line})"
            ))
        });
        unknown.into_iter().chain(setuid).collect()
    }
}

/// A log line without its `==PID==`, which differs from run to run.
fn without_pid(line: &str) -> &str {
    let mark = |c| matches!(c, '=' | '-' | '*' | ' ');
    line.trim_start_matches(|c: char| mark(c) || c.is_ascii_digit())
}
