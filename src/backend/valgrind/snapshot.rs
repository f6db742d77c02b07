//! What a forked process inherits of its parent's counts.
//!
//! Valgrind's counters are memory of the process, so a forked child begins with all that its parent had counted,
//! and writes it again at its end. To know that part exactly the child is copied before its first
//! instruction, and the copy is made to end at once: its out file holds what was inherited and nothing else.
//!
//! The copy ends because its thread is marked as exiting, in the very field that Valgrind's own `exit_group`
//! wrapper sets. The thread's state is found through pointers to it on Valgrind's stack and is recognised by the
//! registers of the client, which hold the arguments of the fork that the kernel has just seen. Layouts:
//! Valgrind's coregrind/pub_core_threadstate.h (`ThreadState`: number, status, exit reason, registers) and
//! VEX/pub/libvex_guest_amd64.h, as in 3.19. If no state is found the caller is told.

use std::io;

use nix::unistd::Pid;

use crate::sys::inject;
use crate::sys::ptrace::Stopped;

/// How far up the stack pointers are sought, in bytes. Valgrind's frames between its scheduler and the system
/// call take about two thousand.
const STACK_BYTES: usize = 16 * 1024;

/// Bytes of a thread's state that are looked at: its head, and the registers up to R10.
const STATE_BYTES: usize = REGISTERS + 11 * 8;

/// Offset of the thread's number in `ThreadState`. The main thread is 1; `--max-threads` is 500.
const NUMBER: usize = 0;

/// Offset of its status.
const STATUS: usize = 4;

/// pub_core_threadstate.h: `VgTs_Runnable`.
const RUNNABLE: u32 = 2;

/// Offset of its exit reason.
const EXIT_REASON: usize = 8;

/// pub_core_threadstate.h: `VgSrc_ExitProcess`.
const EXIT_PROCESS: u32 = 2;

/// Offset of the client's registers: the head is padded to 16 bytes, and 16 bytes of Valgrind's own come first. They
/// are RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10, and so on.
const REGISTERS: usize = 32;
const RAX: usize = REGISTERS;
const RDI: usize = REGISTERS + 7 * 8;
const R10: usize = REGISTERS + 10 * 8;

/// Lets a copy of `child`, a process just forked under Valgrind, write what it inherited. The copy's process id,
/// which names its files.
pub fn take(child: &Stopped) -> io::Result<Pid> {
    let registers = child.registers()?;
    let copy = inject::copy(child)?;
    let pid = copy.pid();
    let marked = find_state(copy.stopped(), registers.rsp, registers.r10)
        .and_then(|state| Ok(copy.stopped().write(state, &EXIT_PROCESS.to_ne_bytes())?));
    match marked {
        Ok(()) => copy.finish()?,
        Err(error) => {
            copy.kill()?;
            return Err(error);
        }
    }
    Ok(pid)
}

/// The address of the exit reason of the thread that forks.
fn find_state(process: &Stopped, stack: u64, child_tid: u64) -> io::Result<u64> {
    let mut words = vec![0; STACK_BYTES];
    let read = process.read(stack, &mut words)?;
    let mut state = [0; STATE_BYTES];
    for word in words.get(..read).unwrap_or(&words).chunks_exact(8) {
        let Ok(address) = word.try_into().map(u64::from_ne_bytes) else {
            continue;
        };
        let readable = address % 16 == 0 && process.read(address, &mut state) == Ok(STATE_BYTES);
        if readable && is_forking(&state, child_tid) {
            return Ok(address + EXIT_REASON as u64);
        }
    }
    Err(io::Error::other(
        "Valgrind's state of the thread is not where it is known to be",
    ))
}

/// Whether `bytes` are the state of a thread that runs, is not exiting, and whose client is in clone(2), fork(2) or
/// vfork(2); clone with `child_tid` for its fourth argument, which Valgrind passes on.
fn is_forking(bytes: &[u8; STATE_BYTES], child_tid: u64) -> bool {
    let half = |at: usize| {
        bytes
            .get(at..)?
            .first_chunk()
            .copied()
            .map(u32::from_ne_bytes)
    };
    let register = |at: usize| {
        bytes
            .get(at..)?
            .first_chunk()
            .copied()
            .map(u64::from_ne_bytes)
    };
    let head = half(NUMBER).is_some_and(|number| (1..10_000).contains(&number))
        && half(STATUS) == Some(RUNNABLE)
        && half(EXIT_REASON) == Some(0);
    let exit_signal = register(RDI).map(|flags| flags & 0xff);
    head && match register(RAX).and_then(|number| i64::try_from(number).ok()) {
        Some(libc::SYS_clone) => {
            exit_signal == Some(libc::SIGCHLD as u64) && register(R10) == Some(child_tid)
        }
        Some(libc::SYS_fork | libc::SYS_vfork) => true,
        _ => false,
    }
}
