//! A filter of system calls that lets all of them pass, and reports some to the tracer (seccomp(2)).
//!
//! It is inherited by everything the program starts, and cannot be taken off again. A reported call of a process
//! that nobody traces fails with ENOSYS: install it only where tracing is known to work.

use nix::libc;

/// Where `struct seccomp_data` (linux/seccomp.h) has the call's number, the architecture and the low halves of the
/// arguments, in bytes.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// linux/audit.h: AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64.
const HERE: u32 = if cfg!(target_arch = "x86_64") {
    0xc000_003e
} else {
    0xc000_00b7
};

/// Instructions of the filter.
const LENGTH: usize = 10;

/// Reports each write(2) of two bytes or more to a descriptor of a certain number or above.
#[derive(Clone, Copy, Debug)]
pub struct Writes([libc::sock_filter; LENGTH]);

impl Writes {
    /// The filter for descriptors from `first` on.
    pub fn from(first: u32) -> Writes {
        let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
        let answer = |what| statement(libc::BPF_RET | libc::BPF_K, what);
        Writes([
            load(ARCHITECTURE),
            unless(libc::BPF_JEQ, HERE, 7),
            load(NUMBER),
            unless(libc::BPF_JEQ, libc::SYS_write as u32, 5),
            load(argument(0)),
            unless(libc::BPF_JGE, first, 3),
            load(argument(2)),
            unless(libc::BPF_JGT, 1, 1),
            answer(libc::SECCOMP_RET_TRACE),
            answer(libc::SECCOMP_RET_ALLOW),
        ])
    }

    /// Puts it on this process for ever. Async-signal-safe; whether it worked.
    pub(super) fn install(&self) -> bool {
        let program = libc::sock_fprog {
            len: LENGTH as libc::c_ushort,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: the program points to LENGTH instructions that live in `self`; the kernel copies and checks them,
        // and changes nothing in our memory.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                ) == 0
        }
    }
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Goes on when the comparison holds, and skips `over` instructions otherwise.
fn unless(comparison: u32, k: u32, over: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_JMP | comparison | libc::BPF_K) as u16,
        jt: 0,
        jf: over,
        k,
    }
}
