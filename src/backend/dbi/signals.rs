//! What a signal means to a program, and whether it is about the instruction it stands at.

use std::io;

use nix::libc::{self, user_regs_struct};

use crate::sys::Pid;
use crate::sys::image;
use crate::sys::ptrace::{Stopped, signal_address};

/// What becomes of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// A handler of the program's.
    Caught,
    /// It ends the program.
    Fatal,
    /// Nothing: it is ignored.
    Ignored,
    /// It stops the program for a while.
    Stops,
}

/// Signals that do nothing where no handler is set (signal(7)); SIGCONT has done its work when it is delivered.
const NO_ACTION: [i32; 4] = [libc::SIGCHLD, libc::SIGURG, libc::SIGWINCH, libc::SIGCONT];

/// Signals that stop where no handler is set.
const STOPPING: [i32; 4] = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Signals that an instruction can raise.
const FAULTS: [i32; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
];

/// Whether the kernel raised it because of the instruction that the thread stands at (sigaction(2), `si_code`).
fn is_fault(info: &libc::siginfo_t) -> bool {
    FAULTS.contains(&info.si_signo) && info.si_code > 0
}

/// What becomes of `signal` in a process, as /proc tells (proc_pid_status(5)).
pub fn disposition(process: Pid, stopped: &Stopped, signal: i32) -> io::Result<Disposition> {
    let status = image::read_proc_text(&format!("/proc/{}/status", stopped.tid()))?;
    let set = |name: &str| {
        let mask = image::signal_mask(&status, name);
        mask.ok_or_else(|| io::Error::other(format!("no {name} for process {process}")))
    };
    let bit = 1u64 << (signal - 1);
    if set("SigCgt:")? & bit != 0 {
        // A fault whose signal is held back ends the program, handler or not.
        let held = set("SigBlk:")? & bit != 0;
        let fatal = held && is_fault(&stopped.signal_info()?);
        return Ok(if fatal {
            Disposition::Fatal
        } else {
            Disposition::Caught
        });
    }
    if NO_ACTION.contains(&signal) {
        return Ok(Disposition::Ignored);
    }
    let ignored = set("SigIgn:")? & bit != 0;
    if ignored && !is_fault(&stopped.signal_info()?) {
        return Ok(Disposition::Ignored);
    }
    Ok(match STOPPING.contains(&signal) {
        true => Disposition::Stops,
        false => Disposition::Fatal,
    })
}

/// Whether the address that goes with the signal is that of the instruction, `rip`.
pub fn address_is_code(stopped: &Stopped, rip: u64) -> io::Result<bool> {
    let info = stopped.signal_info()?;
    if !is_fault(&info) {
        return Ok(false);
    }
    Ok(
        matches!(info.si_signo, libc::SIGILL | libc::SIGFPE | libc::SIGTRAP)
            && signal_address(&info) == rip,
    )
}

/// The address that a fault is about; none for signals that are no faults.
pub fn fault_address(stopped: &Stopped) -> io::Result<Option<u64>> {
    let info = stopped.signal_info()?;
    Ok(is_fault(&info).then(|| signal_address(&info)))
}

/// Whether a stop after a single step is at the first instruction of a handler: kernel/signal.c (signal_setup_done) reports
/// it by ptrace_notify(SIGTRAP), whose code is the signal's number.
pub fn is_handler_entry(stopped: &Stopped) -> io::Result<bool> {
    Ok(stopped.signal_code()? == libc::SIGTRAP)
}

/// Whether a trap was raised by the program's own trap flag (asm-generic/siginfo.h, TRAP_TRACE): ours are expected.
pub fn is_own_step(stopped: &Stopped) -> io::Result<bool> {
    Ok(stopped.signal_code()? == libc::TRAP_TRACE)
}

/// Whether a thread that is ending asked for it itself.
pub fn is_exit(registers: &user_regs_struct) -> bool {
    matches!(
        registers.orig_rax as libc::c_long,
        libc::SYS_exit | libc::SYS_exit_group
    )
}
