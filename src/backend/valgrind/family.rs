//! The processes of a run under Valgrind, as tracing tells of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::launch::{Tool, out_file};
use super::pending::{self, Executions, Finder, Pending};
use crate::model::CountOverflow;
use crate::sys::Pid;
use crate::sys::image::{self, Mapping};
use crate::sys::ptrace::Stopped;
use crate::sys::tree::{Birth, Call, Watcher};

/// What a forked process had inherited when it began.
#[derive(Debug)]
pub enum Inherited {
    /// It was started by exec: nothing.
    Nothing,
    /// The counts in this file.
    Counts(PathBuf),
    /// It could not be told, because of this.
    Unknown(String),
}

/// What became of the counts of one program in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are, or will be, in the process's out file.
    Written,
    /// The process executed another program, and Valgrind forgot them.
    Replaced,
}

/// One program in one process. A process that execs is several.
#[derive(Debug)]
pub struct Member {
    /// The process.
    pub pid: Pid,
    /// Its parent in the family.
    pub parent: Option<usize>,
    /// The program's path.
    pub program: PathBuf,
    /// What its counters held when it began.
    pub inherited: Inherited,
    /// How many parts its parent had dumped when it was forked.
    pub parent_parts: usize,
    /// Where its counts are.
    pub fate: Fate,
    /// The signal that ended it, if one did.
    pub killed_by: Option<i32>,
    /// What it had mapped executable at its end.
    pub mappings: Vec<Mapping>,
    /// Bytes of code that is in no file, by address.
    pub memory: HashMap<u64, Vec<u8>>,
    /// What callgrind leaves out of its counts.
    pub uncounted: Uncounted,
}

/// Blocks that callgrind has begun in a process and does not count there.
#[derive(Debug, Default)]
pub struct Uncounted {
    /// Those it had begun when the process was forked: counted later, and executed by the parent.
    pub before: Executions,
    /// Those that signal handlers ended in.
    pub handlers: Executions,
    /// Those that it had begun at the end; none when it was not seen there.
    pub last: Option<Executions>,
    /// Signal handlers that were entered and not left, as Valgrind's log tells.
    pub entered: usize,
    /// Why the above may not be all of it.
    pub doubt: Option<String>,
}

impl Member {
    /// Whether its end was seen; a process has code mapped until then.
    pub fn has_ended(&self) -> bool {
        !self.mappings.is_empty()
    }

    /// Whether it is a forked copy of its parent.
    pub fn is_copy(&self) -> bool {
        !matches!(self.inherited, Inherited::Nothing)
    }

    /// Whether a report lists it: a forked copy that went on to execute a program is that program.
    pub fn is_listed(&self) -> bool {
        !(self.is_copy() && self.fate == Fate::Replaced)
    }
}

/// Finds out at a process's end which addresses must be read from its memory, while that is still there.
pub trait Autopsy {
    /// The addresses, for the process that wrote `out_file` and had `mappings`.
    fn wanted(&mut self, out_file: &Path, mappings: &[Mapping]) -> Vec<u64>;
}

/// Nothing is wanted.
pub struct NoAutopsy;

impl Autopsy for NoAutopsy {
    fn wanted(&mut self, _: &Path, _: &[Mapping]) -> Vec<u64> {
        Vec::new()
    }
}

/// The watcher of a tree under Valgrind.
pub struct Family<'a> {
    tool: Tool,
    scratch: &'a Path,
    autopsy: &'a mut dyn Autopsy,
    /// In order of start.
    pub members: Vec<Member>,
    /// Finds what callgrind has not counted yet.
    finder: Finder,
    /// The program that each live process runs.
    current: HashMap<Pid, usize>,
    /// Programs that run without Valgrind, because it does not follow into them.
    pub unseen: Vec<PathBuf>,
    /// Programs that were replaced after they had been counted, or forked copies of one.
    pub replaced: u64,
}

impl<'a> Family<'a> {
    /// An empty family.
    pub fn new(tool: Tool, scratch: &'a Path, autopsy: &'a mut dyn Autopsy) -> Family<'a> {
        Family {
            tool,
            scratch,
            autopsy,
            members: Vec::new(),
            finder: Finder::default(),
            current: HashMap::new(),
            unseen: Vec::new(),
            replaced: 0,
        }
    }

    fn add(&mut self, pid: Pid, parent: Option<usize>, program: PathBuf, inherited: Inherited) {
        self.current.insert(pid, self.members.len());
        self.members.push(Member {
            pid,
            parent,
            program,
            inherited,
            parent_parts: 0,
            fate: Fate::Written,
            killed_by: None,
            mappings: Vec::new(),
            memory: HashMap::new(),
            uncounted: Uncounted::default(),
        });
    }

    fn member(&mut self, pid: Pid) -> Option<&mut Member> {
        let index = *self.current.get(&pid)?;
        self.members.get_mut(index)
    }

    /// Marks the program of `pid` as replaced, once. What the next one comes from: that program, or its parent
    /// when it was only a forked copy.
    fn replace(&mut self, pid: Pid) -> Option<usize> {
        let index = *self.current.get(&pid)?;
        let member = self.members.get_mut(index)?;
        if member.fate == Fate::Written {
            member.fate = Fate::Replaced;
            self.replaced += 1;
        }
        if member.is_copy() {
            member.parent
        } else {
            Some(index)
        }
    }
}

impl Watcher for Family<'_> {
    fn program(&mut self, stopped: &Stopped, _former: Pid) -> io::Result<()> {
        let pid = stopped.tid();
        let executable = image::executable(pid)?;
        // The launcher comes before the tool; a shell script may come before the launcher.
        let before = self.replace(pid);
        if self.tool.runs_as(&executable) {
            let arguments = fs::read(format!("/proc/{pid}/cmdline"))?;
            let program = client(&arguments).unwrap_or(executable);
            self.add(pid, before, program, Inherited::Nothing);
        } else if before.is_some() && !is_launcher(&executable) {
            self.unseen.push(executable);
        }
        Ok(())
    }

    fn process(&mut self, birth: Birth, child: &Stopped) -> io::Result<()> {
        let parent = birth.parent;
        let Some(&index) = self.current.get(&parent) else {
            return Ok(());
        };
        let program = self.members.get(index).map(|m| m.program.clone());
        let before = match self.tool {
            Tool::Callgrind => self.finder.find(child),
            Tool::Cachegrind => Ok(None),
        };
        let inherited = inherited(self.scratch, child);
        let parts = parts_dumped(&out_file(self.scratch, parent));
        self.add(
            child.tid(),
            Some(index),
            program.unwrap_or_default(),
            inherited,
        );
        if let Some(member) = self.members.last_mut() {
            member.parent_parts = parts;
            member.uncounted.begin(before);
        }
        Ok(())
    }

    #[cfg(target_arch = "x86_64")]
    fn calling(&mut self, process: Pid, stopped: &Stopped) -> io::Result<Call> {
        let registers = stopped.registers()?;
        if registers.orig_rax != nix::libc::SYS_write as u64 {
            return Ok(Call::Make);
        }
        let length = usize::try_from(registers.rdx)
            .unwrap_or(0)
            .min(LONGEST_LINE_BYTES);
        let mut line = vec![0; length];
        let read = stopped.read(registers.rsi, &mut line).unwrap_or(0);
        let Some(said) = Said::from_line(line.get(..read).unwrap_or(&line)) else {
            return Ok(Call::Make);
        };
        let pending = match said {
            Said::HandlerLeft | Said::End => self.finder.find(stopped),
            Said::HandlerEntered | Said::Fault => Ok(None),
        };
        if let Some(member) = self.member(process) {
            member.uncounted.hear(said, pending);
        }
        Ok(Call::Make)
    }

    fn ending(&mut self, process: Pid, stopped: &Stopped) -> io::Result<()> {
        let status = stopped.event_message()?;
        let signal = (status & 0x7f) as i32;
        let out = out_file(self.scratch, process);
        let killed_by = (signal != 0).then_some(signal);
        let mappings = image::executable_mappings(process)?;
        let wanted = if out.exists() {
            self.autopsy.wanted(&out, &mappings)
        } else {
            Vec::new()
        };
        let Some(member) = self.member(process) else {
            return Ok(());
        };
        if stopped.tid() == process {
            member.killed_by = killed_by;
        }
        for address in wanted {
            let mut bytes = vec![0; crate::isa::LONGEST_BYTES];
            let read = stopped.read(address, &mut bytes).unwrap_or(0);
            bytes.truncate(read);
            member.memory.insert(address, bytes);
        }
        if !mappings.is_empty() {
            member.mappings = mappings;
        }
        Ok(())
    }

    fn ended(&mut self, process: Pid, tid: Pid) {
        if process == tid {
            self.current.remove(&process);
        }
    }
}

/// A line of Valgrind's log is cut at this length before it is looked at.
const LONGEST_LINE_BYTES: usize = 200;

/// What a line of Valgrind's log means here, written with `--trace-signals=yes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// A signal handler begins.
    HandlerEntered,
    /// A signal handler is about to return.
    HandlerLeft,
    /// An instruction raised a signal; its block was not executed to its end.
    Fault,
    /// The process has executed its last instruction, and its counts will be written now: an empty line.
    End,
}

impl Said {
    fn from_line(line: &[u8]) -> Option<Said> {
        let has = |text: &[u8]| line.windows(text.len()).any(|window| window == text);
        let mark = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'=' | b' ' | b'\n');
        if line.starts_with(b"==") && line.iter().all(mark) {
            Some(Said::End)
        } else if has(b"push_signal_frame (thread ") {
            Some(Said::HandlerEntered)
        } else if has(b"VG_(signal_return) (thread ") {
            Some(Said::HandlerLeft)
        } else if has(b"delivering signal ") && raised_by_instruction(line) {
            Some(Said::Fault)
        } else {
            None
        }
    }
}

/// Whether `delivering signal 11 (SIGSEGV):1 to thread 1` tells of a signal that an instruction raised: one of those,
/// with a code above 0, which only the kernel gives (sigaction(2)).
fn raised_by_instruction(line: &[u8]) -> bool {
    const RAISED: [&str; 5] = ["SIGILL", "SIGTRAP", "SIGBUS", "SIGFPE", "SIGSEGV"];
    let line = String::from_utf8_lossy(line);
    let named = line.split_once('(').map(|(_, behind)| behind);
    let parts = named.and_then(|behind| behind.split_once("):"));
    parts.is_some_and(|(name, behind)| {
        let code = behind.split(' ').next().unwrap_or_default();
        RAISED.contains(&name) && code.parse::<i32>().is_ok_and(|code| code > 0)
    })
}

impl Uncounted {
    /// A process begins as a copy of one in which this was pending.
    fn begin(&mut self, pending: io::Result<Option<Pending>>) {
        match pending {
            Ok(Some(pending)) => {
                self.before = pending.all;
                self.entered = pending.handlers;
            }
            Ok(None) => {}
            Err(error) => self.doubt = Some(error.to_string()),
        }
    }

    /// Valgrind said this while so much was pending.
    fn hear(&mut self, said: Said, pending: io::Result<Option<Pending>>) {
        let pending = match pending {
            Ok(pending) => pending,
            Err(error) => {
                self.doubt = Some(error.to_string());
                return;
            }
        };
        match (said, pending) {
            (Said::HandlerEntered, _) => self.entered = self.entered.saturating_add(1),
            (Said::Fault, _) => {
                self.doubt =
                    Some("an instruction raised a signal in the middle of a block".to_owned());
            }
            (Said::HandlerLeft, Some(pending)) => {
                self.entered = self.entered.saturating_sub(1);
                if pending::add(&mut self.handlers, &pending.running).is_err() {
                    self.doubt = Some(CountOverflow.to_string());
                }
            }
            (Said::End, Some(pending)) => {
                if self.entered != pending.handlers {
                    self.doubt = Some("a signal handler did not return".to_owned());
                }
                self.last = Some(pending.all);
            }
            // The end is announced once more when the counts have been written.
            (Said::HandlerLeft | Said::End, None) => {}
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn inherited(scratch: &Path, child: &Stopped) -> Inherited {
    match super::snapshot::take(child) {
        Ok(copy) => Inherited::Counts(out_file(scratch, copy)),
        Err(error) => Inherited::Unknown(error.to_string()),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn inherited(_: &Path, _: &Stopped) -> Inherited {
    Inherited::Unknown("not done on this architecture".to_owned())
}

/// The parts in an out file so far.
fn parts_dumped(out_file: &Path) -> usize {
    let text = fs::read(out_file).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter(|line| line.starts_with(b"part: ")).count()
}

/// Whether a program is Valgrind's launcher, which replaces itself by a tool.
fn is_launcher(executable: &Path) -> bool {
    let name = executable.file_name().unwrap_or_default();
    name == "valgrind" || name == "valgrind.bin"
}

/// The program in a tool's command line: the first argument behind the options.
fn client(arguments: &[u8]) -> Option<PathBuf> {
    let mut words = arguments.split(|byte| *byte == 0).skip(1);
    let program = words.find(|word| !word.starts_with(b"-"))?;
    Some(PathBuf::from(OsStr::from_bytes(program)))
}
