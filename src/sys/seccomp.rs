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

/// write(2) of two bytes or more to a descriptor of this number or above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writes {
    first: u32,
}

impl Writes {
    /// To descriptors from `first` on.
    pub fn from(first: u32) -> Writes {
        Writes { first }
    }
}

/// A filter that can be installed.
#[derive(Debug)]
pub(super) struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Reports certain writes, and getrandom(2) if asked for; none when there is nothing to report.
    pub(super) fn new(writes: Option<Writes>, random: bool) -> Option<Filter> {
        let mut rules = Vec::new();
        if random {
            rules.push(Rule::Jump(
                libc::BPF_JEQ,
                libc::SYS_getrandom as u32,
                To::Report,
                To::Next,
            ));
        }
        if let Some(Writes { first }) = writes {
            rules.extend([
                Rule::Jump(libc::BPF_JEQ, libc::SYS_write as u32, To::Next, To::Pass),
                Rule::Load(argument(0)),
                Rule::Jump(libc::BPF_JGE, first, To::Next, To::Pass),
                Rule::Load(argument(2)),
                Rule::Jump(libc::BPF_JGT, 1, To::Report, To::Pass),
            ]);
        }
        if rules.is_empty() {
            return None;
        }
        let head = [
            Rule::Load(ARCHITECTURE),
            Rule::Jump(libc::BPF_JEQ, HERE, To::Next, To::Pass),
            Rule::Load(NUMBER),
        ];
        Some(Filter(assemble(&[&head[..], &rules].concat())))
    }

    /// Puts it on this process for ever. Async-signal-safe; whether it worked.
    pub(super) fn install(&self) -> bool {
        let program = libc::sock_fprog {
            len: self.0.len() as libc::c_ushort,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: the program points to as many instructions as it says, which live in `self`; the kernel copies and
        // checks them, and changes nothing in our memory.
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

/// Where a comparison leads.
#[derive(Clone, Copy, Debug)]
enum To {
    Next,
    Pass,
    Report,
}

/// One instruction of the filter, its targets by name.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Load(u32),
    Jump(u32, u32, To, To),
}

/// Resolves the targets: behind the rules stand the two answers, to let the call pass and to report it.
fn assemble(rules: &[Rule]) -> Vec<libc::sock_filter> {
    let pass = rules.len();
    let distance = |at: usize, to| match to {
        To::Next => 0,
        To::Pass => (pass - at - 1) as u8,
        To::Report => (pass - at) as u8,
    };
    let mut code: Vec<_> = rules
        .iter()
        .enumerate()
        .map(|(at, rule)| match *rule {
            Rule::Load(from) => statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, from),
            Rule::Jump(comparison, k, yes, no) => libc::sock_filter {
                jt: distance(at, yes),
                jf: distance(at, no),
                ..statement(libc::BPF_JMP | comparison | libc::BPF_K, k)
            },
        })
        .collect();
    let answer = |what| statement(libc::BPF_RET | libc::BPF_K, what);
    code.extend([
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_TRACE),
    ]);
    code
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would (its few instructions), over a call's number and arguments.
    fn verdict(filter: &Filter, number: i64, arguments: [u32; 3]) -> u32 {
        let load = |at: u32| match at {
            NUMBER => number as u32,
            ARCHITECTURE => HERE,
            other => arguments[((other - 16) / 8) as usize],
        };
        let (mut at, mut value) = (0, 0);
        loop {
            let step = filter.0[at];
            let code = u32::from(step.code);
            let holds = match code & 0xf0 {
                libc::BPF_JEQ => value == step.k,
                libc::BPF_JGE => value >= step.k,
                _ => value > step.k,
            };
            match code & 0x07 {
                libc::BPF_LD => value = load(step.k),
                libc::BPF_RET => return step.k,
                _ => at += usize::from(if holds { step.jt } else { step.jf }),
            }
            at += 1;
        }
    }

    #[test]
    fn reports_what_it_is_asked_for_and_nothing_else() {
        const WRITE: i64 = libc::SYS_write;
        const RANDOM: i64 = libc::SYS_getrandom;
        let pass = libc::SECCOMP_RET_ALLOW;
        let report = libc::SECCOMP_RET_TRACE;
        let both = Filter::new(Some(Writes::from(100)), true).unwrap();
        let writes = Filter::new(Some(Writes::from(100)), false).unwrap();
        let random = Filter::new(None, true).unwrap();
        for (call, arguments, [by_both, by_writes, by_random]) in [
            (RANDOM, [1, 2, 3], [report, pass, report]),
            (WRITE, [100, 0, 2], [report, report, pass]),
            (WRITE, [100, 0, 1], [pass, pass, pass]),
            (WRITE, [99, 0, 9], [pass, pass, pass]),
            (libc::SYS_read, [100, 0, 9], [pass, pass, pass]),
        ] {
            assert_eq!(verdict(&both, call, arguments), by_both);
            assert_eq!(verdict(&writes, call, arguments), by_writes);
            assert_eq!(verdict(&random, call, arguments), by_random);
        }
        assert!(Filter::new(None, false).is_none());
    }
}
