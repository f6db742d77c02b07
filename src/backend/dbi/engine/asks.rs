//! What programs ask the machine for and only the tracer knows: the time, after a while, and random numbers.

use std::io;
use std::rc::Rc;

use nix::libc::{self, user_regs_struct};
use nix::time::{ClockId, clock_gettime};

use super::super::clock;
use super::super::shown;
use super::super::signals;
use super::super::space::Area;
use super::super::state;
use super::super::waits::{Argument, MOMENT, Until, Wait, nanoseconds, to_come};
use super::counts::executed;
use super::host::{answer, done};
use super::{Engine, Expected, Process, unknown};
use crate::dbi::decode::{self, Kind, Question, RandomOperand};
use crate::dbi::layout::slot;
use crate::sys::Pid;
use crate::sys::ptrace::{self, Stopped};
use crate::sys::tree::Call;

/// Arithmetic flags of rflags, and the one that says that there are random bits.
const FLAGS: u64 = 0x8d5;
const CARRY: u64 = 1;

pub(super) const NS_PER_SECOND: u64 = 1_000_000_000;

/// What is to be done when a call that waits has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// What it waits for, and how long that is in nanoseconds; none if it sets a timer.
    wait: Option<(Wait, u64)>,
    /// An argument of the program's that was replaced.
    replaced: Option<(Argument, u64)>,
    /// Flags that were replaced, in rsi.
    flags: Option<u64>,
    /// Where it waits in turn: its number, and when its time is over.
    pub(super) in_turn: Option<(u64, u64)>,
}

impl Waiting {
    /// A call that waits for nothing, of which an argument and the flags were replaced.
    pub(super) fn for_nothing(replaced: (Argument, u64), flags: u64) -> Waiting {
        Waiting {
            wait: None,
            replaced: Some(replaced),
            flags: Some(flags),
            in_turn: None,
        }
    }
}

/// `rdtsc`. By far the commonest question, and the only one of many a short program: it is told without the decoder, whose
/// reference takes longer to set up than such a program to run.
const READS_TIME: [u8; 2] = [0x0f, 0x31];

impl Engine {
    /// The instruction at `pc` asks for something: where the program goes on, and whether at once.
    pub(super) fn ask(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        area: usize,
        pc: u64,
    ) -> io::Result<(u64, Call)> {
        let mut bytes = [0; 15];
        let length = stopped.read(pc, &mut bytes)?;
        let bytes = &bytes[..length];
        if bytes.starts_with(&READS_TIME) {
            self.correct_clock(process)?;
            return Ok((pc, Call::Done));
        }
        match decode::decode(bytes, pc).kind {
            Kind::Asks(question) if question.is_random() => {
                let operand = decode::random_operand(bytes).ok_or_else(unknown)?;
                self.give_random(process, stopped, operand)?;
                Ok((pc + u64::from(operand.length), Call::Done))
            }
            Kind::Asks(Question::Pause) => Ok((pc, self.ends_turn(process, area)?)),
            _ => {
                self.correct_clock(process)?;
                Ok((pc, Call::Done))
            }
        }
    }

    /// Executes `rdrand` or `rdseed`.
    fn give_random(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        operand: RandomOperand,
    ) -> io::Result<()> {
        let area = self.area_of(stopped.tid())?;
        let process = self.processes.get_mut(&process).ok_or_else(unknown)?;
        process.more += 1;
        let bits = process.random.draw();
        let mut registers = stopped.registers()?;
        registers.eflags = registers.eflags & !FLAGS | CARRY;
        let slot = match operand.register {
            0 => Some(slot::RAX),
            1 => Some(slot::RCX),
            11 => Some(slot::R11),
            _ => None,
        };
        if let Some(slot) = slot {
            let before = area.slots().load_u64(slot.into());
            area.slots()
                .store_u64(slot.into(), mixed(before, bits, operand.bytes));
        } else {
            let register = general(&mut registers, operand.register);
            *register = mixed(*register, bits, operand.bytes);
        }
        Ok(stopped.set_registers(registers)?)
    }

    /// Whether a thread has faulted where it stored the time for a system call: the kernel makes the call.
    pub(super) fn clock_faulted(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        registers: &user_regs_struct,
    ) -> io::Result<bool> {
        const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];
        let thread = self.thread(stopped.tid())?;
        let (area, at) = (thread.area, thread.at);
        if !self.machine.virtual_time || signals::fault_address(stopped)?.is_none() {
            return Ok(false);
        }
        let space = self.space(process)?;
        let original = match space.borrow().is_translated(registers.rip) {
            true => state::original(&space.borrow(), area, registers, at),
            false => None,
        };
        let mut bytes = [0; 2];
        let at_call = original.is_some_and(|original| {
            stopped.read(original.registers.rip, &mut bytes).is_ok() && bytes == SYSTEM_CALL
        });
        if at_call && let Some(original) = self.settle(process, stopped, registers)? {
            self.redirect(process, stopped, original)?;
        }
        Ok(at_call)
    }

    pub(super) fn area_of(&self, tid: Pid) -> io::Result<Rc<Area>> {
        let thread = self.threads.get(&tid).ok_or_else(unknown)?;
        let process = self.processes.get(&thread.process).ok_or_else(unknown)?;
        Ok(Rc::clone(&process.space.borrow().areas[thread.area]))
    }

    /// Adds what a process has executed to its clock; what it shows then.
    pub(super) fn correct_clock(&mut self, pid: Pid) -> io::Result<u64> {
        let runs = self.running_area(pid);
        let (process, area) = self.process_and_clock(pid)?;
        let executed = executed(pid, process, runs);
        let slots = area.slots();
        let reading = process
            .clock
            .correct(slots.load_u64(slot::NOW.into()), executed);
        slots.store_u64(slot::LIMIT.into(), reading.limit);
        slots.store_u64(slot::NOW.into(), reading.now);
        Ok(reading.now)
    }

    /// What the clock of a process would show if it were brought up to date.
    pub(super) fn exact_time(&mut self, pid: Pid) -> io::Result<u64> {
        let runs = self.running_area(pid);
        let (process, area) = self.process_and_clock(pid)?;
        let executed = executed(pid, process, runs);
        let shown = area.slots().load_u64(slot::NOW.into());
        Ok(process.clock.exact(shown, executed))
    }

    /// The same; 0 before it has a clock.
    pub(super) fn exact_time_of(&mut self, pid: Pid) -> io::Result<u64> {
        match self.processes.contains_key(&pid) {
            true => self.exact_time(pid),
            false => Ok(0),
        }
    }

    /// The time, read as translated code does.
    fn read_clock(&mut self, process: Pid) -> io::Result<u64> {
        let area = self.clock_area(process)?;
        let word = |at: u32| area.slots().load_u64(at.into());
        let now = match word(slot::NOW) {
            now if now < word(slot::LIMIT) => now,
            _ => self.correct_clock(process)?,
        };
        area.slots().store_u64(slot::NOW.into(), now + 1);
        Ok(now)
    }

    /// A process has slept for so long.
    pub(super) fn slept(&mut self, process: Pid, ns: u64) -> io::Result<()> {
        let (sleeper, area) = self.process_and_clock(process)?;
        sleeper.clock.sleep(ns);
        for at in [slot::LIMIT, slot::NOW] {
            let word = area.slots().load_u64(at.into());
            area.slots().store_u64(at.into(), word.saturating_add(ns));
        }
        Ok(())
    }

    /// A process has slept until then. Who looks at the clock next sees no earlier time.
    pub(super) fn sleeps_until(&mut self, process: Pid, time: u64) -> io::Result<()> {
        let now = self.exact_time(process)?;
        self.slept(process, time.saturating_sub(now))?;
        let area = self.clock_area(process)?;
        area.slots().store_u64(slot::LIMIT.into(), 0);
        Ok(())
    }

    /// A process, and the area that its clock is in.
    fn process_and_clock(&mut self, pid: Pid) -> io::Result<(&mut Process, Rc<Area>)> {
        let area = self.clock_area(pid)?;
        let process = self.processes.get_mut(&pid).ok_or_else(unknown)?;
        Ok((process, area))
    }

    pub(super) fn clock_area(&self, process: Pid) -> io::Result<Rc<Area>> {
        let process = self.processes.get(&process);
        let area = process.and_then(|process| process.clock_area.as_ref());
        area.map(Rc::clone).ok_or_else(unknown)
    }

    /// What the clock of a process shows, as it is; 0 before there is one.
    pub(super) fn time_of(&self, process: Pid) -> u64 {
        let area = self.processes.get(&process);
        let area = area.and_then(|process| process.clock_area.as_ref());
        area.map_or(0, |area| area.slots().load_u64(slot::NOW.into()))
    }

    /// A system call that has to do with time; none if it is no such call.
    pub(super) fn time_call(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        registers: &user_regs_struct,
    ) -> io::Result<Option<Call>> {
        if let Some(call) = self.timer_call(process, stopped, registers)? {
            return Ok(Some(call));
        }
        let number = registers.orig_rax as libc::c_long;
        match number {
            libc::SYS_getrusage | libc::SYS_times => {
                self.tell_usage(process, stopped, registers).map(Some)
            }
            libc::SYS_clock_gettime
            | libc::SYS_gettimeofday
            | libc::SYS_time
            | libc::SYS_clock_getres => self.tell_time(process, stopped, registers).map(Some),
            libc::SYS_alarm | libc::SYS_setitimer => {
                self.set_interval_timer(process, stopped, registers)?;
                Ok(Some(Call::Make))
            }
            libc::SYS_timer_settime | libc::SYS_timerfd_settime => {
                self.set_real_timer(process, stopped, registers).map(Some)
            }
            _ => match Wait::of(number, registers) {
                Some(wait) => self.wait(process, stopped, wait, *registers).map(Some),
                None => Ok(None),
            },
        }
    }

    /// Answers a call that asks what a process has used.
    fn tell_usage(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        r: &user_regs_struct,
    ) -> io::Result<Call> {
        const CHILDREN: i32 = -1;
        let asks_times = r.orig_rax as libc::c_long == libc::SYS_times;
        let used = match r.rdi as i32 {
            CHILDREN if !asks_times => 0,
            _ => self.correct_clock(process)?,
        };
        if !asks_times {
            return answer(stopped, r, r.rsi, &shown::rusage(used), 0);
        }
        let result = shown::ticks(used);
        match r.rdi {
            0 => done(stopped, r, result),
            address => answer(stopped, r, address, &shown::tms(used), result),
        }
    }

    /// Answers a call that reads a clock.
    fn tell_time(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        registers: &user_regs_struct,
    ) -> io::Result<Call> {
        const COARSE: [i32; 2] = [libc::CLOCK_REALTIME_COARSE, libc::CLOCK_MONOTONIC_COARSE];
        const TICK_NS: u64 = 4_000_000;
        let number = registers.orig_rax as libc::c_long;
        let clock = match number {
            libc::SYS_clock_gettime | libc::SYS_clock_getres => registers.rdi as i32,
            _ => libc::CLOCK_REALTIME,
        };
        // One that is not virtual, such as that of another process.
        let Some(beginning) = clock::shown(clock, 0) else {
            return Ok(Call::Make);
        };
        let now = match number {
            libc::SYS_clock_getres if COARSE.contains(&clock) => TICK_NS,
            libc::SYS_clock_getres => 1,
            _ => beginning + self.read_clock(process)?,
        };
        let (seconds, ns) = (now / NS_PER_SECOND, now % NS_PER_SECOND);
        let (address, parts) = match number {
            libc::SYS_clock_gettime | libc::SYS_clock_getres => (registers.rsi, ns),
            _ => (registers.rdi, ns / 1000),
        };
        let length = if number == libc::SYS_time { 8 } else { 16 };
        let written = address == 0
            || stopped
                .write(address, &pair(seconds, parts)[..length])
                .is_ok();
        let no_zone = number != libc::SYS_gettimeofday
            || registers.rsi == 0
            || stopped.write(registers.rsi, &[0; 8]).is_ok();
        // A bad address: the kernel answers as it always does.
        if !written || !no_zone {
            return Ok(Call::Make);
        }
        let result = if number == libc::SYS_time { seconds } else { 0 };
        done(stopped, registers, result)
    }

    /// A call that will wait: its moment becomes one of the real clock.
    fn wait(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        wait: Wait,
        mut registers: user_regs_struct,
    ) -> io::Result<Call> {
        let ns = match wait.until {
            Until::Milliseconds(ms) => Some(ms.unsigned_abs().into()).map(|ms: u64| ms * 1_000_000),
            Until::Timespec(address) => {
                words(stopped, address).and_then(|words| nanoseconds(words, 1))
            }
            Until::Timeval(address) => {
                words(stopped, address).and_then(|words| nanoseconds(words, 1000))
            }
            Until::Moment { address, clock } => {
                let moment = words(stopped, address).and_then(|words| nanoseconds(words, 1));
                let now = match self.waits_by_clock(process) {
                    true => self.exact_time(process)?,
                    false => self.time_of(process),
                };
                moment.and_then(|moment| to_come(clock, moment, now))
            }
        };
        // Nothing that the kernel would take, or a clock that is not virtual.
        let Some(ns) = ns else {
            return Ok(Call::Make);
        };
        let mut waiting = Waiting {
            wait: Some((wait, ns)),
            replaced: None,
            flags: None,
            in_turn: None,
        };
        if self.waits_by_clock(process) {
            return self.wait_in_turn(process, stopped, waiting, registers);
        }
        if let Until::Moment { clock, .. } = wait.until {
            let argument = wait.argument;
            let sleeps = registers.orig_rax as libc::c_long == libc::SYS_clock_nanosleep;
            let moment = if sleeps {
                ns
            } else {
                real(clock)?.saturating_add(ns)
            };
            waiting.replaced = Some((argument, argument.of(&registers)));
            waiting.flags = sleeps.then_some(registers.rsi);
            if sleeps {
                registers.rsi &= !MOMENT;
            }
            self.replace_moment(stopped, registers, argument, &timespec(moment))?;
        }
        self.thread(stopped.tid())?.expected = Expected::Wait(waiting);
        Ok(Call::ReportReturn)
    }

    /// Whether a call that waits for a time does so by the clock of the tree: threads take turns, or a timer may fire before.
    fn waits_by_clock(&self, process: Pid) -> bool {
        self.takes_turns(process) || self.first_timer().is_some()
    }

    /// The same where threads take turns: the call waits without a limit, until it is told that its time is over.
    fn wait_in_turn(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        waiting: Waiting,
        mut registers: user_regs_struct,
    ) -> io::Result<Call> {
        let (wait, ns) = waiting.wait.ok_or_else(unknown)?;
        let now = self.exact_time(process)?;
        self.turn.known_time = Some((stopped.tid(), now));
        let until = self.thread(stopped.tid())?.waits_until.take();
        let over = until.unwrap_or_else(|| now.saturating_add(ns));
        let waiting = Waiting {
            replaced: Some((wait.argument, wait.argument.of(&registers))),
            in_turn: Some((registers.orig_rax, over)),
            ..waiting
        };
        wait.without_limit(&mut registers);
        stopped.set_registers(registers)?;
        self.thread(stopped.tid())?.expected = Expected::Wait(waiting);
        Ok(Call::WaitUntil(over))
    }

    /// The time of a call that waits in turn is over, and it was interrupted for that, unless it has returned by itself.
    pub(super) fn time_is_over(&mut self, process: Pid, stopped: &Stopped) -> io::Result<()> {
        let Expected::Wait(waiting) = self.thread(stopped.tid())?.expected else {
            return Ok(());
        };
        let registers = stopped.registers()?;
        let (Some((wait, _)), Some((_, over))) = (waiting.wait, waiting.in_turn) else {
            return Ok(());
        };
        let interrupted = registers.rax as i64 == -i64::from(libc::EINTR);
        if !interrupted && !ptrace::restarts(&registers) {
            return Ok(());
        }
        stopped.set_registers(user_regs_struct {
            rax: wait.passed as u64,
            ..registers
        })?;
        self.sleeps_until(process, over)?;
        if wait.tells_rest {
            tell_rest(stopped, wait, 0);
        }
        Ok(())
    }

    /// The call is made with these bytes in the place of what an argument leads to.
    pub(super) fn replace_moment(
        &self,
        stopped: &Stopped,
        mut registers: user_regs_struct,
        argument: Argument,
        bytes: &[u8],
    ) -> io::Result<()> {
        let area = self.area_of(stopped.tid())?;
        area.slots().write(slot::MOMENT.into(), bytes);
        argument.set(&mut registers, area.address + u64::from(slot::MOMENT));
        Ok(stopped.set_registers(registers)?)
    }

    /// A call that waited has returned.
    pub(super) fn waited(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        waiting: Waiting,
    ) -> io::Result<()> {
        let mut registers = stopped.registers()?;
        let result = registers.rax as i64;
        if let Some((argument, value)) = waiting.replaced {
            argument.set(&mut registers, value);
        }
        if let Some(flags) = waiting.flags {
            registers.rsi = flags;
        }
        if let Some((number, _)) = waiting.in_turn {
            registers.orig_rax = number;
        }
        if waiting.replaced.is_some() {
            stopped.set_registers(registers)?;
        }
        match waiting.wait {
            Some((wait, ns)) if result == wait.passed && waiting.in_turn.is_none() => {
                self.slept(process, ns)?;
            }
            Some((wait, ns)) if wait.tells_rest && result > 0 => {
                let rest = match waiting.in_turn {
                    Some((_, over)) => over.saturating_sub(self.exact_time(process)?),
                    None => ns,
                };
                tell_rest(stopped, wait, rest);
            }
            _ => {}
        }
        if let Some((_, over)) = waiting.in_turn
            && (result == -i64::from(libc::EINTR) || ptrace::restarts(&registers))
        {
            let left = over.saturating_sub(self.exact_time(process)?);
            tell_left(stopped, &registers, left);
        }
        Ok(())
    }
}

/// What the kernel's own clock shows, in nanoseconds.
fn real(clock: i32) -> io::Result<u64> {
    let time = clock_gettime(ClockId::from_raw(clock))?;
    Ok(nanoseconds([time.tv_sec(), time.tv_nsec()], 1).unwrap_or(0))
}

/// Two words of the program.
pub(super) fn words(stopped: &Stopped, address: u64) -> Option<[i64; 2]> {
    let mut bytes = [0; 16];
    let got = stopped.read(address, &mut bytes).ok()?;
    let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, i64::from_ne_bytes);
    (got == bytes.len()).then(|| [word(0), word(8)])
}

pub(super) fn pair(first: u64, second: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_ne_bytes());
    bytes[8..].copy_from_slice(&second.to_ne_bytes());
    bytes
}

/// `struct timespec`.
pub(super) fn timespec(ns: u64) -> [u8; 16] {
    pair(ns / NS_PER_SECOND, ns % NS_PER_SECOND)
}

/// The kernel has written how much real time was left: by the virtual clock it is this.
fn tell_rest(stopped: &Stopped, wait: Wait, ns: u64) {
    let (address, rest) = match wait.until {
        Until::Timespec(address) => (address, timespec(ns)),
        Until::Timeval(address) => (address, pair(ns / NS_PER_SECOND, ns % NS_PER_SECOND / 1000)),
        Until::Milliseconds(_) | Until::Moment { .. } => return,
    };
    // Memory that cannot be written the kernel has not written either.
    let _ = stopped.write(address, &rest);
}

/// A sleep was cut short: where it was asked to, it tells how much was left (nanosleep(2)). In its place the kernel has made
/// a call that does not.
fn tell_left(stopped: &Stopped, registers: &user_regs_struct, ns: u64) {
    let address = match registers.orig_rax as libc::c_long {
        libc::SYS_nanosleep => registers.rsi,
        libc::SYS_clock_nanosleep if registers.rsi & MOMENT == 0 => registers.r10,
        _ => 0,
    };
    if address != 0 {
        // Where it cannot be written, the kernel says so when it has slept: too late for us.
        let _ = stopped.write(address, &timespec(ns));
    }
}

/// A register of which `bits` replace so many bytes: the upper half of 64 becomes zero, smaller parts leave the rest.
fn mixed(before: u64, bits: u64, bytes: u8) -> u64 {
    match bytes {
        8 => bits,
        4 => bits & 0xffff_ffff,
        _ => before & !0xffff | bits & 0xffff,
    }
}

/// A general register by its number (Intel SDM volume 2, table 3-1).
fn general(registers: &mut user_regs_struct, number: u8) -> &mut u64 {
    match number {
        0 => &mut registers.rax,
        1 => &mut registers.rcx,
        2 => &mut registers.rdx,
        3 => &mut registers.rbx,
        4 => &mut registers.rsp,
        5 => &mut registers.rbp,
        6 => &mut registers.rsi,
        7 => &mut registers.rdi,
        8 => &mut registers.r8,
        9 => &mut registers.r9,
        10 => &mut registers.r10,
        11 => &mut registers.r11,
        12 => &mut registers.r12,
        13 => &mut registers.r13,
        14 => &mut registers.r14,
        _ => &mut registers.r15,
    }
}
