//! One traced thread, as types: a [`Stopped`] can be looked at and is consumed by setting it going.
//!
//! Threads are seized (PTRACE_SEIZE), so that job control works as without a tracer. A thread that was
//! killed meanwhile answers ESRCH; the caller then waits for the report of its end.

#[cfg(target_arch = "x86_64")]
use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

/// How a stopped thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Until the next event or signal.
    Run,
    /// For one instruction.
    Step,
    /// Until the system call it is in returns, or the next event or signal.
    ToReturn,
}

/// What a thread seized with these options reports: everything that adds or replaces a program.
const OPTIONS: ptrace::Options = ptrace::Options::PTRACE_O_TRACEEXEC
    .union(ptrace::Options::PTRACE_O_TRACEFORK)
    .union(ptrace::Options::PTRACE_O_TRACEVFORK)
    .union(ptrace::Options::PTRACE_O_TRACECLONE)
    .union(ptrace::Options::PTRACE_O_TRACESECCOMP)
    .union(ptrace::Options::PTRACE_O_TRACEEXIT)
    .union(ptrace::Options::PTRACE_O_TRACESYSGOOD);

/// The stop of a thread at a system call's return, as a signal number (ptrace(2), PTRACE_O_TRACESYSGOOD).
pub(super) const CALL_STOP: i32 = libc::SIGTRAP | 0x80;

/// Begins to trace `pid` and all that will descend from it. `kill_with_us`: our end is theirs.
pub fn seize(pid: Pid, kill_with_us: bool) -> nix::Result<()> {
    let kill = if kill_with_us {
        ptrace::Options::PTRACE_O_EXITKILL
    } else {
        ptrace::Options::empty()
    };
    ptrace::seize(pid, OPTIONS | kill)
}

/// Replaces the general registers of a stopped thread, all but ds, es, fs and gs. A program may have selectors in those that
/// the processor takes and ptrace does not (1 and 2, which mean nothing at all: arch/x86/kernel/ptrace.c,
/// `invalid_selector`), and we never change them.
#[cfg(target_arch = "x86_64")]
pub(super) fn set_registers(tid: Pid, mut registers: libc::user_regs_struct) -> nix::Result<()> {
    /// linux/elf.h
    const NT_PRSTATUS: usize = 1;
    let part = libc::iovec {
        iov_base: (&raw mut registers).cast(),
        iov_len: std::mem::offset_of!(libc::user_regs_struct, ds),
    };
    // SAFETY: the kernel reads `iov_len` bytes from `iov_base`, which is a live local of more bytes, and the thread's
    // registers may have any value.
    let answer = unsafe {
        libc::ptrace(
            libc::PTRACE_SETREGSET as _,
            tid.as_raw(),
            NT_PRSTATUS as *mut libc::c_void,
            &raw const part,
        )
    };
    Errno::result(answer).map(drop)
}

/// A traced thread in a ptrace stop: its registers and memory hold still.
#[derive(Debug)]
pub struct Stopped {
    tid: Pid,
    /// What is known of its registers: nobody but us changes them.
    #[cfg(target_arch = "x86_64")]
    registers: Cell<Option<libc::user_regs_struct>>,
}

impl Stopped {
    /// The caller has just had a stop of `tid` reported by waitpid, and makes only one value of it.
    pub(super) fn from_wait(tid: Pid) -> Stopped {
        Stopped {
            tid,
            #[cfg(target_arch = "x86_64")]
            registers: Cell::new(None),
        }
    }

    /// Its thread id.
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// Sets it going, delivering `signal` if any.
    pub fn resume(self, pace: Pace, signal: Option<i32>) -> nix::Result<()> {
        let request = match pace {
            Pace::Run => libc::PTRACE_CONT,
            Pace::Step => libc::PTRACE_SINGLESTEP,
            Pace::ToReturn => libc::PTRACE_SYSCALL,
        };
        self.request(request, signal.unwrap_or(0))
    }

    /// Leaves it in its group stop (SIGSTOP, SIGTSTP ...) until SIGCONT arrives.
    pub fn listen(self) -> nix::Result<()> {
        self.request(libc::PTRACE_LISTEN, 0)
    }

    /// Lets it go for good, delivering `signal` if any.
    pub fn detach(self, signal: Option<i32>) -> nix::Result<()> {
        self.request(libc::PTRACE_DETACH, signal.unwrap_or(0))
    }

    fn request(self, request: libc::c_uint, data: i32) -> nix::Result<()> {
        // SAFETY: these requests take no pointers: `addr` is ignored and `data` is a signal number. The
        // thread is ours and stopped, as the type says; if it was killed the kernel answers ESRCH.
        let answer = unsafe {
            libc::ptrace(
                request as _,
                self.tid.as_raw(),
                std::ptr::null_mut::<libc::c_void>(),
                data as libc::c_long as *mut libc::c_void,
            )
        };
        Errno::result(answer).map(drop)
    }

    /// The number that goes with the current event: a new thread's id, an exit status, a former thread id.
    pub fn event_message(&self) -> nix::Result<i64> {
        ptrace::getevent(self.tid)
    }

    /// The event that it stands at now (ptrace(2): bits 8 and up of `si_code`).
    pub fn event(&self) -> nix::Result<i32> {
        self.signal_code().map(|code| code >> 8)
    }

    /// `si_code` of the signal that stopped it.
    pub fn signal_code(&self) -> nix::Result<i32> {
        ptrace::getsiginfo(self.tid).map(|info| info.si_code)
    }

    /// The signal that stopped it, with all that belongs to it.
    pub fn signal_info(&self) -> nix::Result<libc::siginfo_t> {
        ptrace::getsiginfo(self.tid)
    }

    /// If the signal that stopped it is one that we have sent for a timer of setitimer(2): it looks like the kernel's own.
    pub fn seem_sent_by_interval_timer(&self) -> nix::Result<()> {
        let mut info = ptrace::getsiginfo(self.tid)?;
        if super::timers::is_of_interval(&info) {
            super::timers::as_from_kernel(&mut info);
            ptrace::setsiginfo(self.tid, &info)?;
        }
        Ok(())
    }

    /// Replaces the address that goes with the signal that stopped it (sigaction(2), `si_addr`).
    pub fn set_signal_address(&self, address: u64) -> nix::Result<()> {
        /// Offset of `si_addr` on 64-bit machines (asm-generic/siginfo.h).
        const ADDRESS: usize = 16;
        let mut info = ptrace::getsiginfo(self.tid)?;
        // SAFETY: `siginfo_t` has 128 bytes, and those at this offset are the address, of any value.
        unsafe {
            (&raw mut info)
                .byte_add(ADDRESS)
                .cast::<u64>()
                .write(address)
        };
        ptrace::setsiginfo(self.tid, &info)
    }

    /// The signals it holds back, as a bit set (bit 0 is signal 1).
    pub fn signal_mask(&self) -> nix::Result<u64> {
        let mut mask = 0u64;
        self.mask_request(libc::PTRACE_GETSIGMASK, &mut mask)?;
        Ok(mask)
    }

    /// Changes the signals it holds back.
    pub fn set_signal_mask(&self, mut mask: u64) -> nix::Result<()> {
        self.mask_request(libc::PTRACE_SETSIGMASK, &mut mask)
    }

    fn mask_request(&self, request: libc::c_uint, mask: &mut u64) -> nix::Result<()> {
        // SAFETY: `addr` is the size of the kernel's signal set and `data` points to one, alive and writable.
        let answer = unsafe {
            libc::ptrace(
                request as _,
                self.tid.as_raw(),
                size_of::<u64>() as *mut libc::c_void,
                std::ptr::from_mut(mask).cast::<libc::c_void>(),
            )
        };
        Errno::result(answer).map(drop)
    }

    /// Skips the system call that it is about to make; the result is what stands in rax.
    #[cfg(target_arch = "x86_64")]
    pub fn skip_call(&self) -> nix::Result<()> {
        const ORIG_RAX: usize = std::mem::offset_of!(libc::user_regs_struct, orig_rax);
        self.registers.set(None);
        // SAFETY: stores one word among the thread's registers, at an offset of theirs.
        let answer = unsafe {
            libc::ptrace(
                libc::PTRACE_POKEUSER as _,
                self.tid.as_raw(),
                ORIG_RAX as *mut libc::c_void,
                -1isize as *mut libc::c_void,
            )
        };
        Errno::result(answer).map(drop)
    }

    /// The system call that it is about to make, with these registers, is not made and has this result (seccomp(2),
    /// SECCOMP_RET_TRACE: number -1 skips a call, and the result is what stands in rax).
    #[cfg(target_arch = "x86_64")]
    pub fn answer_call(&self, registers: &libc::user_regs_struct, result: u64) -> nix::Result<()> {
        self.set_registers(libc::user_regs_struct {
            orig_rax: u64::MAX,
            rax: result,
            ..*registers
        })
    }

    /// Its general registers.
    #[cfg(target_arch = "x86_64")]
    pub fn registers(&self) -> nix::Result<libc::user_regs_struct> {
        if let Some(known) = self.registers.get() {
            return Ok(known);
        }
        let registers = ptrace::getregs(self.tid)?;
        self.registers.set(Some(registers));
        Ok(registers)
    }

    /// Replaces its general registers; see [`set_registers`].
    #[cfg(target_arch = "x86_64")]
    pub fn set_registers(&self, registers: libc::user_regs_struct) -> nix::Result<()> {
        self.registers.set(None);
        set_registers(self.tid, registers)?;
        self.registers.set(Some(registers));
        Ok(())
    }

    /// Whether the system call that it is in was interrupted, and the kernel will make it again ([`restarts`]).
    pub(super) fn makes_call_again(&self) -> nix::Result<bool> {
        #[cfg(target_arch = "x86_64")]
        return self.registers().map(|registers| restarts(&registers));
        #[cfg(not(target_arch = "x86_64"))]
        return Ok(false);
    }

    /// Takes the trap flag out of the context that a signal handler was just given, at the handler's first instruction.
    ///
    /// It is that of the step by which we got there. The kernel takes it back but where the instruction that the signal
    /// came before would set it itself (`popf`, or data that looks like it: arch/x86/kernel/step.c,
    /// `is_setting_trap_flag`). For programs that have none of their own.
    #[cfg(target_arch = "x86_64")]
    pub fn hide_step_from_handler(&self) -> nix::Result<()> {
        /// Behind the stack pointer: the return address, 40 bytes of ucontext, 17 registers
        /// (arch/x86/include/uapi/asm/sigcontext.h).
        const FLAGS_IN_FRAME: u64 = 8 + 40 + 8 * 17;
        /// Bit 8 of the flags is bit 0 of their second byte.
        const TRAP: u8 = 1;
        let place = self.registers()?.rsp + FLAGS_IN_FRAME + 1;
        let mut flags = [0];
        if self.read(place, &mut flags).unwrap_or(0) == 1 && flags[0] & TRAP != 0 {
            self.write(place, &[flags[0] & !TRAP])?;
        }
        Ok(())
    }

    /// Reads its memory; the number of bytes read, fewer than asked for where the mapping ends.
    pub fn read(&self, address: u64, into: &mut [u8]) -> nix::Result<usize> {
        let remote = [RemoteIoVec {
            base: address as usize,
            len: into.len(),
        }];
        process_vm_readv(self.tid, &mut [IoSliceMut::new(into)], &remote)
    }

    /// Reads up to a NUL byte, which is left out, and at most `most` bytes.
    pub fn read_c_string(&self, address: u64, most: usize) -> nix::Result<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < most {
            let mut part = [0; 64];
            let at = address
                .checked_add(text.len() as u64)
                .ok_or(Errno::EFAULT)?;
            let got = self.read(at, &mut part)?;
            let part = part.get(..got).filter(|p| !p.is_empty());
            let part = part.ok_or(Errno::EFAULT)?;
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                text.extend(part.iter().take(end));
                break;
            }
            text.extend(part);
        }
        text.truncate(most);
        Ok(text)
    }

    /// Writes writable memory, all of `bytes` or an error.
    pub fn write(&self, address: u64, bytes: &[u8]) -> nix::Result<()> {
        let remote = [RemoteIoVec {
            base: address as usize,
            len: bytes.len(),
        }];
        let written = process_vm_writev(self.tid, &[IoSlice::new(bytes)], &remote)?;
        if written == bytes.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }
}

/// Whether the kernel will make the system call again that was interrupted (linux/errno.h, ERESTARTSYS and its like).
#[cfg(target_arch = "x86_64")]
pub fn restarts(registers: &libc::user_regs_struct) -> bool {
    const RESTARTS: [i64; 4] = [-512, -513, -514, -516];
    (registers.orig_rax as i64) >= 0 && RESTARTS.contains(&(registers.rax as i64))
}

/// The address that goes with a signal (sigaction(2), `si_addr`); meaningless for signals that are no faults.
pub fn signal_address(info: &libc::siginfo_t) -> u64 {
    // SAFETY: reads one word of a union all of whose bytes were filled by the kernel.
    unsafe { info.si_addr() as u64 }
}

/// Whether a stop by this signal is a group stop, when the event is PTRACE_EVENT_STOP.
pub(super) fn stops_the_group(signal: i32) -> bool {
    const STOPPING: [Signal; 4] = [
        Signal::SIGSTOP,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ];
    STOPPING.iter().any(|s| *s as i32 == signal)
}
