//! What every backend that follows a tree concludes the same way: outcome, pins, caveats, process table.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use crate::model::{Caveat, CountOverflow, Outcome, Pin, Pinning, ProcessCount};
use crate::sys::Pid;
use crate::sys::spawn::Launch;
use crate::sys::tree::{End, Finished};

/// How the root ended, in the model's words.
pub fn outcome(end: End) -> Outcome {
    match end {
        End::Exited(code) => Outcome::Exited(code),
        End::Killed(signal) => Outcome::Killed(signal),
        End::TimedOut => Outcome::TimedOut,
    }
}

/// The pins that were asked for and that only the tree's start and tracing can hold. What `launch` did not
/// ask for is left out: whoever decided that knows why.
pub fn pinning(launch: &Launch, finished: &Finished) -> Pinning {
    let mut pinning = Pinning::default();
    if launch.fixed_addresses {
        settle(
            &mut pinning,
            Pin::Aslr,
            &finished.fixed_addresses,
            "personality(2) is refused here",
        );
    }
    if launch.fixed_random {
        let why = if finished.traced.is_err() {
            "the program cannot be traced here"
        } else {
            "a program's memory could not be written"
        };
        settle(&mut pinning, Pin::AtRandom, &finished.fixed_random, why);
    }
    if launch.no_vdso {
        let why = "programs get the kernel's own code";
        settle(&mut pinning, Pin::Vdso, &finished.hidden_vdso, why);
    }
    if launch.random_seed.is_some() {
        let why = "getrandom(2) is not answered";
        settle(
            &mut pinning,
            Pin::RandomBytes,
            &finished.answered_random,
            why,
        );
    }
    if launch.machine.turns {
        let why = "a turn was ended";
        settle(&mut pinning, Pin::ThreadOrder, &finished.took_turns, why);
    }
    if !launch.beside.is_empty() {
        let why = "in how many pieces the answers of services come is not fixed";
        settle(&mut pinning, Pin::Network, &finished.rested, why);
    }
    if launch.cpu.is_some() {
        pinning.pinned(Pin::OneCpu);
    }
    pinning
}

fn settle(pinning: &mut Pinning, pin: Pin, held: &io::Result<()>, why: &str) {
    match held {
        Ok(()) => pinning.pinned(pin),
        Err(error) => pinning.free(pin, format!("{why}: {error}")),
    }
}

/// What the end of a tree says against its count.
pub fn caveats(launch: &Launch, finished: &Finished) -> Vec<Caveat> {
    let left = finished.left_running.iter().cloned();
    let programs: Vec<String> = left.map(|path| text(launch.outside(path))).collect();
    if programs.is_empty() {
        Vec::new()
    } else {
        vec![Caveat::LeftRunning { programs }]
    }
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// The programs of a tree in order of start, fed by a watcher's `program`, `process` and `ended`.
///
/// A row is one program: an exec opens a new row, a fork opens one for the copy. A row's parent is the program
/// that forked or executed it.
#[derive(Debug, Default)]
pub struct ProcessTable {
    rows: Vec<ProcessCount>,
    current: HashMap<Pid, usize>,
}

impl ProcessTable {
    /// Process `pid` begins `program`, by exec. The new row's index.
    pub fn program(&mut self, pid: Pid, program: impl Into<String>) -> usize {
        let replaced = self.current.get(&pid).copied();
        self.open(pid, replaced, program.into(), replaced.is_some())
    }

    /// Process `child` begins as a copy of `parent`, and runs its program. The new row's index.
    pub fn process(&mut self, parent: Pid, child: Pid) -> usize {
        let row = self.current.get(&parent).copied();
        let program = row.and_then(|row| self.rows.get(row));
        let program = program.map_or_else(String::new, |row| row.program.clone());
        self.open(child, row, program, false)
    }

    /// The program of a row.
    pub fn name(&self, row: usize) -> Option<&str> {
        Some(self.rows.get(row)?.program.as_str())
    }

    fn open(&mut self, pid: Pid, parent: Option<usize>, program: String, replaces: bool) -> usize {
        let index = self.rows.len();
        self.rows.push(ProcessCount {
            index,
            parent,
            program,
            replaces,
            instructions: None,
        });
        self.current.insert(pid, index);
        index
    }

    /// Process `pid` has ended; its id may be used again.
    pub fn ended(&mut self, pid: Pid) {
        self.current.remove(&pid);
    }

    /// The row of the program that `pid` runs now.
    pub fn row(&self, pid: Pid) -> Option<usize> {
        self.current.get(&pid).copied()
    }

    /// Adds `instructions` to the program in row `index`.
    pub fn add(&mut self, index: usize, instructions: u64) -> Result<(), CountOverflow> {
        if let Some(row) = self.rows.get_mut(index) {
            let before = row.instructions.unwrap_or(0);
            row.instructions = Some(before.checked_add(instructions).ok_or(CountOverflow)?);
        }
        Ok(())
    }

    /// All rows, in order of start.
    pub fn into_rows(self) -> Vec<ProcessCount> {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn finished(traced: io::Result<()>, fixed: io::Result<()>) -> Finished {
        Finished {
            end: End::Exited(0),
            left_running: vec![PathBuf::from("/usr/bin/sleep")],
            traced,
            fixed_addresses: Ok(()),
            fixed_random: fixed,
            hidden_vdso: Ok(()),
            answered_random: Ok(()),
            attempts: Vec::new(),
            rested: Ok(()),
            took_turns: Ok(()),
        }
    }

    fn refused() -> io::Result<()> {
        Err(io::Error::from_raw_os_error(1))
    }

    #[test]
    fn a_pin_that_was_asked_for_and_refused_is_free_with_the_reason() {
        let launch = Launch {
            fixed_addresses: true,
            fixed_random: true,
            ..Launch::default()
        };
        let pinning = pinning(&launch, &finished(refused(), refused()));
        assert_eq!(pinning.held().collect::<Vec<_>>(), [Pin::Aslr]);
        let (pin, why) = pinning.missing().next().unwrap();
        assert_eq!(pin, Pin::AtRandom);
        assert!(
            why.starts_with("the program cannot be traced here"),
            "{why}"
        );
    }

    #[test]
    fn a_pin_that_was_not_asked_for_is_not_judged() {
        let pinning = pinning(&Launch::default(), &finished(Ok(()), Ok(())));
        assert_eq!(pinning, Pinning::default());
    }

    #[test]
    fn programs_left_running_are_named_as_a_caveat() {
        let caveats = caveats(&Launch::default(), &finished(Ok(()), Ok(())));
        let programs = vec!["/usr/bin/sleep".to_owned()];
        assert_eq!(caveats, [Caveat::LeftRunning { programs }]);
    }

    #[test]
    fn a_fork_and_an_exec_each_open_a_row_below_the_program_that_made_them() {
        let [shell, child] = [100, 101].map(Pid::from_raw);
        let mut table = ProcessTable::default();
        table.program(shell, "/bin/sh");
        table.process(shell, child);
        table.program(child, "/bin/ls");
        table.ended(child);
        table.process(shell, child);
        table.add(1, 7).unwrap();
        table.add(1, 3).unwrap();
        let rows: Vec<_> = table
            .into_rows()
            .into_iter()
            .map(|row| (row.parent, row.program, row.instructions))
            .collect();
        let row = |parent, program: &str, n| (parent, program.to_owned(), n);
        assert_eq!(
            rows,
            [
                row(None, "/bin/sh", None),
                row(Some(0), "/bin/sh", Some(10)),
                row(Some(1), "/bin/ls", None),
                row(Some(0), "/bin/sh", None),
            ]
        );
    }

    #[test]
    fn a_row_that_would_overflow_is_an_error() {
        let mut table = ProcessTable::default();
        let row = table.program(Pid::from_raw(1), "x");
        table.add(row, u64::MAX).unwrap();
        assert_eq!(table.add(row, 1), Err(CountOverflow));
    }
}
