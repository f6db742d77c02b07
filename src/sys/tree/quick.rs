//! System calls and turns: those that return soon, whatever other threads do, those that wait for nothing but signals, and
//! those that send them.

#[cfg(target_arch = "x86_64")]
use nix::libc;

use super::turns::For;
use crate::sys::ptrace::Stopped;
#[cfg(target_arch = "x86_64")]
use crate::sys::seccomp;

/// Whether a system call never waits for another thread; of those that are made often. All others may.
#[cfg(target_arch = "x86_64")]
pub(super) fn never_waits(stopped: &Stopped) -> nix::Result<bool> {
    /// linux/futex.h: operations that wake, and the bits that say which operation it is.
    const WAKES: [u64; 4] = [1, 3, 4, 5];
    const WAKES_BY_BITS: u64 = 10;
    const UNLOCKS: u64 = 7;
    const OPERATION: u64 = 0x7f;
    let registers = stopped.registers()?;
    Ok(match registers.orig_rax as libc::c_long {
        libc::SYS_futex => {
            let operation = registers.rsi & OPERATION;
            WAKES.contains(&operation) || [WAKES_BY_BITS, UNLOCKS].contains(&operation)
        }
        number => QUICK.contains(&number),
    })
}

/// What a call waits for, if it waits.
#[cfg(target_arch = "x86_64")]
pub(super) fn waits_for(stopped: &Stopped) -> nix::Result<For> {
    const SIGNALS: [libc::c_long; 5] = [
        libc::SYS_pause,
        libc::SYS_rt_sigsuspend,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_wait4,
        libc::SYS_waitid,
    ];
    Ok(match is_one_of(stopped, &SIGNALS)? {
        true => For::Signal,
        false => For::Anything,
    })
}

/// Whether a call sends signals.
#[cfg(target_arch = "x86_64")]
pub(super) fn sends_signals(stopped: &Stopped) -> nix::Result<bool> {
    is_one_of(stopped, &seccomp::SIGNALLING_CALLS)
}

#[cfg(target_arch = "x86_64")]
fn is_one_of(stopped: &Stopped, calls: &[libc::c_long]) -> nix::Result<bool> {
    Ok(calls.contains(&(stopped.registers()?.orig_rax as libc::c_long)))
}

/// Nobody asks on other architectures.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn waits_for(_stopped: &Stopped) -> nix::Result<For> {
    Ok(For::Anything)
}

/// Nobody asks on other architectures.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn sends_signals(_stopped: &Stopped) -> nix::Result<bool> {
    Ok(false)
}

/// Nobody asks on other architectures.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn never_waits(_stopped: &Stopped) -> nix::Result<bool> {
    Ok(true)
}

/// Those that never wait, whatever their arguments.
#[cfg(target_arch = "x86_64")]
pub const QUICK: [libc::c_long; 68] = [
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_chdir,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat2,
    libc::SYS_fork,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_lstat,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    libc::SYS_pipe2,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_pwrite64,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_setsockopt,
    libc::SYS_sigaltstack,
    libc::SYS_socket,
    libc::SYS_stat,
    libc::SYS_statx,
    libc::SYS_uname,
    libc::SYS_vfork,
];
