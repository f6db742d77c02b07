//! The processes of a run under Valgrind, as tracing tells of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::launch::{Tool, out_file};
use crate::sys::Pid;
use crate::sys::image::{self, Mapping};
use crate::sys::ptrace::Stopped;
use crate::sys::tree::Watcher;

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

    fn process(&mut self, parent: Pid, child: &Stopped) -> io::Result<()> {
        let Some(&index) = self.current.get(&parent) else {
            return Ok(());
        };
        let program = self.members.get(index).map(|m| m.program.clone());
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
        }
        Ok(())
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
