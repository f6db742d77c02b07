//! Which kind of code a program is expected to need: what the same command needed the last time, or else what the last run
//! of the program did.

use bytemuck::{Pod, Zeroable};
use xxhash_rust::xxh3::xxh3_64;

use crate::sys::Pid;
use crate::sys::image;

/// How many commands are known at most. A newer one takes the place of another.
const COMMANDS: usize = 31;

/// The commands of a program, and which of them needed timed code. Zero: a place that is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Habits {
    /// Sums of commands; the lowest bit says what the command needed.
    commands: [u64; COMMANDS],
    /// Whether the last run needed it.
    last: u64,
}

/// The sum of a command, by which it is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command(u64);

impl Command {
    /// The command that a process executes.
    pub(super) fn of(process: Pid) -> Option<Command> {
        let words = image::read_proc(&format!("/proc/{process}/cmdline")).ok()?;
        Some(Command::from(words.as_slice()))
    }

    fn place(self) -> usize {
        (self.0 / 2) as usize % COMMANDS
    }
}

impl From<&[u8]> for Command {
    fn from(words: &[u8]) -> Command {
        Command((xxh3_64(words) | 2) & !1)
    }
}

impl Habits {
    /// Whether a command is expected to need timed code.
    pub(super) fn expect_timed(&self, command: Command) -> bool {
        let known = self.commands[command.place()];
        match known & !1 == command.0 {
            true => known & 1 != 0,
            false => self.last != 0,
        }
    }

    /// Learns what a command has needed.
    pub(super) fn learn(&mut self, command: Command, timed: bool) {
        self.commands[command.place()] = command.0 | u64::from(timed);
        self.last = timed.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[u8]) -> Command {
        Command::from(words)
    }

    #[test]
    fn a_command_needs_what_it_needed_before_and_a_new_one_what_the_last_run_did() {
        let mut habits = Habits::default();
        assert!(!habits.expect_timed(command(b"python3\0a.py\0")));
        habits.learn(command(b"python3\0threads.py\0"), true);
        habits.learn(command(b"python3\0a.py\0"), false);
        assert!(habits.expect_timed(command(b"python3\0threads.py\0")));
        assert!(!habits.expect_timed(command(b"python3\0b.py\0")));
        habits.learn(command(b"python3\0threads.py\0"), true);
        assert!(!habits.expect_timed(command(b"python3\0a.py\0")));
        assert!(habits.expect_timed(command(b"python3\0b.py\0")));
        habits.learn(command(b"python3\0threads.py\0"), false);
        assert!(!habits.expect_timed(command(b"python3\0threads.py\0")));
    }

    #[test]
    fn more_commands_than_there_is_room_for_leave_those_that_came_last() {
        let mut habits = Habits::default();
        for number in 0..1000u32 {
            habits.learn(command(&number.to_le_bytes()), number % 2 == 0);
            assert_eq!(
                habits.expect_timed(command(&number.to_le_bytes())),
                number % 2 == 0
            );
        }
    }
}
