//! System calls that tell of the machine and what happens on it: answered with what programs are shown.

use std::io;
use std::thread;

use nix::libc::{self, user_regs_struct};

use super::super::libraries::{self, When};
use super::super::{directory, shown, support};
use super::{Engine, Expected, unknown};
use crate::sys::Pid;
use crate::sys::image;
use crate::sys::ptrace::Stopped;
use crate::sys::tree::Call;

/// Bytes of the CPU sets that the kernel gives: one word (sched_getaffinity(2)).
const CPU_SET_BYTES: u64 = 8;

/// The first CPU alone.
const FIRST_CPU: u64 = 1;

/// Most bytes of directory entries that are put in order.
const MOST_ENTRIES_BYTES: usize = 1 << 20;

/// What is to be done when a call that tells of something has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// getdents64: entries at this address.
    Directory(u64),
    /// wait4 and waitid: what a child has used, at this address.
    Usage(u64),
    /// sched_getscheduler: the answer.
    Policy,
}

impl Engine {
    /// A system call that tells of the machine; none if it is no such call.
    pub(super) fn host_call(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        r: &user_regs_struct,
    ) -> io::Result<Option<Call>> {
        let number = r.orig_rax as libc::c_long;
        let now = self.time_of(process);
        let (address, bytes, result) = match number {
            libc::SYS_uname => (r.rdi, shown::utsname(), 0),
            libc::SYS_sysinfo => (r.rdi, shown::sysinfo(now), 0),
            libc::SYS_getcpu => return self.get_cpu(stopped, r).map(Some),
            libc::SYS_sched_getaffinity if r.rsi >= CPU_SET_BYTES => {
                let bytes = FIRST_CPU.to_ne_bytes().to_vec();
                (r.rdx, bytes, CPU_SET_BYTES)
            }
            libc::SYS_sched_setaffinity => return set_affinity(stopped, r).map(Some),
            libc::SYS_getdents64 => return self.tells(stopped, Told::Directory(r.rsi)).map(Some),
            libc::SYS_sched_getscheduler => return self.tells(stopped, Told::Policy).map(Some),
            libc::SYS_wait4 => return self.tells(stopped, Told::Usage(r.r10)).map(Some),
            libc::SYS_waitid => return self.tells(stopped, Told::Usage(r.r8)).map(Some),
            _ => return Ok(None),
        };
        answer(stopped, r, address, &bytes, result).map(Some)
    }

    fn tells(&mut self, stopped: &Stopped, told: Told) -> io::Result<Call> {
        self.thread(stopped.tid())?.expected = Expected::Told(told);
        Ok(Call::ReportReturn)
    }

    /// Such a call has returned.
    pub(super) fn told(&mut self, stopped: &Stopped, told: Told) -> io::Result<()> {
        let registers = stopped.registers()?;
        let result = registers.rax as i64;
        match told {
            // What we have made it (`sys::spawn`).
            Told::Policy if result == i64::from(libc::SCHED_BATCH) => {
                stopped.set_registers(user_regs_struct {
                    rax: libc::SCHED_OTHER as u64,
                    ..registers
                })?;
            }
            Told::Directory(address) => {
                let length = usize::try_from(result).unwrap_or(0);
                if length == 0 || length > MOST_ENTRIES_BYTES {
                    return Ok(());
                }
                let mut entries = vec![0; length];
                if stopped.read(address, &mut entries)? == length
                    && let Some(sorted) = directory::sorted(&entries)
                {
                    stopped.write(address, &sorted)?;
                }
            }
            Told::Usage(address) if result >= 0 && address != 0 => {
                stopped.write(address, &shown::rusage(0))?;
            }
            Told::Usage(_) | Told::Policy => {}
        }
        Ok(())
    }

    fn get_cpu(&mut self, stopped: &Stopped, r: &user_regs_struct) -> io::Result<Call> {
        for address in [r.rdi, r.rsi] {
            // A bad address: the kernel answers as it always does.
            if address != 0 && stopped.write(address, &[0; 4]).is_err() {
                return Ok(Call::Make);
            }
        }
        done(stopped, r, 0)
    }

    /// An open of a file that tells of the machine: another file in its place.
    pub(super) fn shown_file(
        &mut self,
        process: Pid,
        path: &str,
    ) -> io::Result<Option<support::Lent>> {
        let lender = self.lender(process)?;
        if shown::is_random(path) {
            let process = self.processes.get_mut(&process).ok_or_else(unknown)?;
            let mut random = process.random;
            process.random.draw();
            let (lent, mut writer) = support::lend_stream(lender)?;
            // It ends when nobody reads any more.
            thread::spawn(move || {
                while io::Write::write_all(&mut writer, &random.bytes(1 << 12)).is_ok() {}
            });
            return Ok(Some(lent));
        }
        if path == libraries::LIST {
            return self.libraries_shown(process);
        }
        let model = self.machine.cpu.unwrap_or_default();
        match shown::file(path, model, self.time_of(process)) {
            Some(text) => support::lend(text.as_bytes(), lender).map(Some),
            None => Ok(None),
        }
    }

    /// By which id a program knows the process that lends it files.
    pub(super) fn lender(&self, process: Pid) -> io::Result<Pid> {
        Ok(self.space(process)?.borrow().lender)
    }

    /// Whether it is the loader that reads the list of libraries, for a program that has not begun: it reads it once.
    fn when_libraries_are_read(&mut self, process: Pid) -> io::Result<When> {
        let known = self.processes.get_mut(&process).ok_or_else(unknown)?;
        let first = match std::mem::take(&mut known.loading) {
            true => image::first_instruction(process),
            false => None,
        };
        let begun = first.map(|first| known.space.borrow().has_executed(process, first));
        Ok(match begun {
            Some(false) => When::Start,
            Some(true) | None => When::Later,
        })
    }

    /// The libraries that the program needs, in the place of all that are installed.
    fn libraries_shown(&mut self, process: Pid) -> io::Result<Option<support::Lent>> {
        let when = self.when_libraries_are_read(process)?;
        match self.libraries.shown_to(process, when) {
            Ok(list) => {
                let lent = support::lend(&list, self.lender(process)?)?;
                Ok(Some(lent.or_own()))
            }
            Err(why) => {
                self.log.note(process, || {
                    format!("libraries are shown as they are: {why}")
                });
                Ok(None)
            }
        }
    }
}

/// The program may only keep to the CPU that it sees.
fn set_affinity(stopped: &Stopped, r: &user_regs_struct) -> io::Result<Call> {
    let mut set = [0];
    if r.rsi == 0 || stopped.read(r.rdx, &mut set).unwrap_or(0) == 0 {
        return Ok(Call::Make);
    }
    let first = u64::from(set[0]) & FIRST_CPU != 0;
    let invalid = (-i64::from(libc::EINVAL)) as u64;
    done(stopped, r, if first { 0 } else { invalid })
}

/// Puts bytes where the call wants them, and a result in its place.
pub(super) fn answer(
    stopped: &Stopped,
    r: &user_regs_struct,
    address: u64,
    bytes: &[u8],
    result: u64,
) -> io::Result<Call> {
    // A bad address: the kernel answers as it always does.
    if stopped.write(address, bytes).is_err() {
        return Ok(Call::Make);
    }
    done(stopped, r, result)
}

/// The call is not made, and has this result.
pub(super) fn done(stopped: &Stopped, r: &user_regs_struct, result: u64) -> io::Result<Call> {
    stopped.answer_call(r, result)?;
    Ok(Call::Done)
}
