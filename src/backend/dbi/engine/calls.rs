//! The system calls that the tracer is told of: what becomes of them, and what follows from them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::libc::{self, user_regs_struct};

use super::super::code::{self, Change};
use super::super::libraries;
use super::super::maps;
use super::super::mounts;
use super::super::space::How;
use super::super::support::{self, Whose};
use super::super::usage::Mapped;
use super::{Engine, Expected, files};
use crate::dbi::cache::Full;
use crate::dbi::layout::{MAGIC_CALL, slot};
use crate::sys::Pid;
use crate::sys::hand_over::hand_over;
use crate::sys::image;
use crate::sys::inject::Calls;
use crate::sys::machine::is_filtered;
use crate::sys::ptrace::Stopped;
use crate::sys::tree::Call;

/// The system call that every filter of a program must allow, and that does us no harm when skipped.
const ALLOWED_CALL: u32 = libc::SYS_rt_sigreturn as u32;

/// The system call by which translated code leaves at first. A filter that is on us, a container's, is on our programs, too:
/// what it does not know it refuses, and then the tracer is not told (seccomp(2): an errno comes before a report).
pub(super) fn first_magic() -> u32 {
    match is_filtered() {
        true => ALLOWED_CALL,
        false => MAGIC_CALL,
    }
}

/// `mcontext_t.rip` behind the stack pointer at rt_sigreturn (arch/x86/include/uapi/asm/sigcontext.h): 40 bytes of
/// ucontext, then 16 registers.
const RIP_IN_FRAME: u64 = 40 + 16 * 8;

/// Length of the instruction `syscall`.
const SYSTEM_CALL_BYTES: u64 = 2;

/// Those of a thread that is about to make the call it has just made, or was about to make.
pub(super) fn again(registers: &user_regs_struct) -> user_regs_struct {
    user_regs_struct {
        rip: registers.rip - SYSTEM_CALL_BYTES,
        rax: registers.orig_rax,
        orig_rax: u64::MAX,
        ..*registers
    }
}

/// What open(2) or openat(2) is asked for.
fn open_flags(registers: &user_regs_struct) -> i32 {
    match registers.orig_rax as libc::c_long {
        libc::SYS_open => registers.rsi as i32,
        _ => registers.rdx as i32,
    }
}

/// Whether open(2) or openat(2) is asked for reading alone.
fn only_reads(registers: &user_regs_struct) -> bool {
    registers.orig_rax != libc::SYS_openat2 as u64
        && open_flags(registers) & libc::O_ACCMODE == libc::O_RDONLY
}

impl Engine {
    /// A signal handler returns: to translated code.
    fn handler_returns(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        registers: &user_regs_struct,
    ) -> io::Result<Call> {
        let place = registers.rsp + RIP_IN_FRAME;
        let mut rip = [0; 8];
        if stopped.read(place, &mut rip).unwrap_or(0) == rip.len() {
            let pc = u64::from_ne_bytes(rip);
            let address = self.translate(process, stopped, pc, How::Direct)?;
            if stopped.registers()?.orig_rax != registers.orig_rax {
                // Room for the translation was made by calls of ours, in the place of this one: it is made again.
                stopped.set_registers(again(registers))?;
                return Ok(Call::Done);
            }
            self.thread(stopped.tid())?.at = pc;
            // What lies below the stack pointer is nobody's once the call is made.
            stopped.write(place, &address.to_ne_bytes())?;
        }
        Ok(Call::Make)
    }

    /// Another of the reported system calls.
    pub(super) fn system_call(&mut self, process: Pid, stopped: &Stopped) -> io::Result<Call> {
        let registers = stopped.registers()?;
        let number = registers.orig_rax as libc::c_long;
        match number {
            libc::SYS_rt_sigreturn => return self.handler_returns(process, stopped, &registers),
            libc::SYS_open => return self.open(process, stopped, registers.rdi, false),
            libc::SYS_openat | libc::SYS_openat2 => {
                return self.open(process, stopped, registers.rsi, true);
            }
            libc::SYS_seccomp | libc::SYS_prctl => return Ok(self.own_filter()),
            _ => {}
        }
        if self.machine.host
            && let Some(call) = self.host_call(process, stopped, &registers)?
        {
            if call == Call::Done {
                self.told_of(process, stopped, number)?;
            }
            return Ok(call);
        }
        if self.machine.virtual_time
            && let Some(call) = self.time_call(process, stopped, &registers)?
        {
            return Ok(call);
        }
        if let Some(why) = support::refused_call(stopped, &registers) {
            return self.refuse(stopped.tid(), why);
        }
        let Some(change) = Change::of(number, &registers) else {
            return self.asked(stopped, &registers);
        };
        if let Some(registers) = change.without_execution(&registers) {
            stopped.set_registers(registers)?;
        }
        self.thread(stopped.tid())?.expected = Expected::Code(change);
        Ok(Call::ReportReturn)
    }

    /// The program installs a filter of its own: from now on translated code leaves by a call that it must allow.
    fn own_filter(&mut self) -> Call {
        self.magic = ALLOWED_CALL;
        for process in self.processes.values() {
            let space = process.space.borrow();
            let translations = &mut *space.translations.borrow_mut();
            translations
                .cache
                .set_magic(ALLOWED_CALL, &translations.memory);
        }
        Call::Make
    }

    /// An open of a file that would show what we did to the program.
    fn open(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        path: u64,
        second: bool,
    ) -> io::Result<Call> {
        const LONGEST: usize = 64;
        if std::mem::take(&mut self.thread(stopped.tid())?.opens_own) {
            return Ok(Call::Make);
        }
        let Ok(name) = stopped.read_c_string(path, LONGEST) else {
            return Ok(Call::Make);
        };
        let registers = stopped.registers()?;
        let folder = if second {
            registers.rdi as i32
        } else {
            libc::AT_FDCWD
        };
        let Some(name) = support::whole_path(stopped.tid(), folder, &name) else {
            return Ok(Call::Make);
        };
        if name == libraries::LIST && !only_reads(&registers) {
            return Ok(Call::Make);
        }
        let Some(support::Lent {
            file,
            path: path_of_file,
            or_own,
        }) = self.in_its_place(process, &name)?
        else {
            return Ok(Call::Make);
        };
        let area = self.thread(stopped.tid())?.area;
        let own = Rc::clone(&self.space(process)?.borrow().areas[area]);
        own.slots().write(slot::OTHER_PATH.into(), &path_of_file);
        let address = own.address + u64::from(slot::OTHER_PATH);
        let mut registers = stopped.registers()?;
        if second {
            registers.rsi = address;
        } else {
            registers.rdi = address;
        }
        stopped.set_registers(registers)?;
        let thread = self.thread(stopped.tid())?;
        thread.expected = Expected::Open {
            second,
            path,
            or_own,
        };
        thread.lent = Some(file);
        Ok(Call::ReportReturn)
    }

    /// An open whose path was replaced has returned. Where the program cannot open what we lend (it has another root, or
    /// became another user), it is handed over; if that cannot be either, and it cannot do without, it opens its own.
    pub(super) fn opened(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        (second, path, or_own): (bool, u64, bool),
        lent: Option<OwnedFd>,
    ) -> io::Result<()> {
        let mut registers = stopped.registers()?;
        let refused = (registers.rax as i64) < 0;
        if refused
            && only_reads(&registers)
            && let Some(lent) = lent
            && let Ok(given) = self.hand_over(process, stopped, &registers, &lent)
        {
            registers.rax = given;
        } else if refused && or_own {
            self.thread(stopped.tid())?.opens_own = true;
            registers = again(&registers);
        }
        if second {
            registers.rsi = path;
        } else {
            registers.rdi = path;
        }
        Ok(stopped.set_registers(registers)?)
    }

    /// Hands a thread the file that its call has asked for; under which number, the first that is free as for any other.
    fn hand_over(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        asked: &user_regs_struct,
        lent: &OwnedFd,
    ) -> io::Result<u64> {
        let place = self.own_area(process, stopped.tid())? + u64::from(slot::MESSAGE);
        let gadget = {
            let space = self.space(process)?;
            let space = space.borrow();
            let translations = space.translations.borrow();
            translations.cache.system_call()
        };
        let mut calls = Calls::begin(stopped, gadget)?;
        let given = hand_over(&mut calls, place, lent.as_fd());
        let given = given.and_then(|given| {
            let kind = match open_flags(asked) & libc::O_CLOEXEC {
                0 => libc::F_DUPFD,
                _ => libc::F_DUPFD_CLOEXEC,
            };
            let first = calls.make(libc::SYS_fcntl, [given, kind as u64, 0, 0, 0, 0]);
            calls.make(libc::SYS_close, [given, 0, 0, 0, 0, 0])?;
            first
        });
        calls.end()?;
        given
    }

    /// The process of the thread that programs know by an id, which may be another than ours.
    fn process_known_as(&self, id: Pid) -> Option<Pid> {
        let mut threads = self.threads.iter();
        let known = threads.find(|(tid, _)| image::own_id(**tid).is_ok_and(|own| own == id));
        known.map(|(_, thread)| thread.process)
    }

    /// A file in the place of one that would show what we did to the program, or the machine as it is.
    fn in_its_place(&mut self, process: Pid, path: &str) -> io::Result<Option<support::Lent>> {
        if let Some((whose, name)) = support::of_thread(path)
            && support::OF_THREADS.contains(&name)
        {
            if name != "maps" && !self.machine.host {
                return Ok(None);
            }
            let of = match whose {
                Whose::Openers => Some(process),
                Whose::Of(id) => self.process_known_as(id),
            };
            let Some((of, shown)) = of.and_then(|of| Some((of, self.space(of).ok()?))) else {
                return Ok(None);
            };
            let read = |name: &str| image::read_proc_text(&format!("/proc/{of}/{name}"));
            let disguised = |real: &str| {
                let shown = shown.borrow();
                maps::disguise(real, &shown.ranges, &shown.hidden())
            };
            let text = match name {
                "maps" => disguised(&read("maps")?),
                "mountinfo" => mounts::renumbered(&read("mountinfo")?),
                _ => {
                    let mapped = Mapped::of(&disguised(&read("maps")?));
                    let asks = of == process;
                    // By its own /proc, where ids are those that it knows.
                    let own = image::own_id(of)?;
                    let path = format!("/proc/{process}/root/proc/{own}/{name}");
                    let Ok(real) = image::read_proc_text(&path) else {
                        return Ok(None);
                    };
                    match name {
                        "statm" => mapped.statm(),
                        "status" => mapped.status(&real, asks),
                        _ => match mapped.stat(&real, self.time_of(of), asks) {
                            Some(text) => text,
                            None => return Ok(None),
                        },
                    }
                }
            };
            // A program that has just changed its root may have /proc nowhere but among its open files.
            let lent = support::lend(text.as_bytes(), self.lender(process)?)?;
            return Ok(Some(lent.or_own()));
        }
        match self.machine.host {
            true => self.shown_file(process, path),
            false => Ok(None),
        }
    }

    /// A system call that changes code has returned.
    pub(super) fn code_changed(
        &mut self,
        process: Pid,
        stopped: &Stopped,
        change: Change,
    ) -> io::Result<()> {
        let mut registers = stopped.registers()?;
        if let Some(original) = change.original_registers(&registers) {
            registers = original;
            stopped.set_registers(registers)?;
        }
        let Some((start, end)) = change.outcome(&registers) else {
            return Ok(());
        };
        let space = self.space(process)?;
        let new = match change {
            Change::Move { from, .. } => space.borrow().moved(from, start, end),
            Change::Map { .. } | Change::Protect { .. } => {
                code::read(stopped, start, end, self.folder.as_ref())?
            }
        };
        if new.is_empty() {
            return Ok(());
        }
        self.modules.extend(files(new.iter()));
        self.own_cache(process, stopped)?;
        loop {
            let granted = space.borrow_mut().grant(stopped, &new);
            match granted {
                Ok(dropped) => {
                    self.log.note(process, || {
                        format!("{start:#x}-{end:#x} may be executed; {dropped} units dropped")
                    });
                    return Ok(());
                }
                Err(Full::Zone) => self.grow(process, stopped, start)?,
                Err(full) => return self.cannot_translate(stopped, start, &full.to_string()),
            }
        }
    }
}
