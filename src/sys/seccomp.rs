//! A filter of system calls that lets all of them pass, and reports some to the tracer (seccomp(2)).
//!
//! It is inherited by everything the program starts, and cannot be taken off again. A reported call of a process
//! that nobody traces fails with ENOSYS: install it only where tracing is known to work.

use nix::libc;

use crate::model::Machine;

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

/// What a counting engine of our own wants to know of, and what it cannot have (x86-64).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineCalls {
    /// The number by which translated code asks for more; no kernel has it.
    pub magic: u32,
    /// The machine that programs are shown: what asks for the rest of it is reported.
    pub machine: Machine,
    /// Calls that are reported besides, by number.
    pub besides: &'static [u32],
}

/// The flag of x32 calls in their numbers (arch/x86/include/uapi/asm/unistd.h).
const X32: u32 = 0x4000_0000;

/// arch/x86/include/uapi/asm/prctl.h: ARCH_SET_GS.
const ARCH_SET_GS: u32 = 0x1001;

/// When a call is reported.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    /// This argument, a number of milliseconds, is above 0.
    Milliseconds(u32),
    /// This argument is no null pointer.
    Pointer(u32),
    /// This argument has this bit.
    Bit(u32, u32),
    /// This argument is this number.
    Is(u32, u32),
}

/// The program's code changes, a signal handler returns, a file is opened that would show our traces, or something is asked
/// for that cannot be had.
#[cfg(target_arch = "x86_64")]
const ENGINE_CALLS: [(libc::c_long, When); 16] = [
    (libc::SYS_clone, When::Bit(0, libc::CLONE_UNTRACED as u32)),
    // Its flags are in memory.
    (libc::SYS_clone3, When::Always),
    (libc::SYS_arch_prctl, When::Is(0, ARCH_SET_GS)),
    (libc::SYS_rt_sigreturn, When::Always),
    (libc::SYS_mmap, When::Bit(2, libc::PROT_EXEC as u32)),
    (libc::SYS_mprotect, When::Bit(2, libc::PROT_EXEC as u32)),
    (
        libc::SYS_pkey_mprotect,
        When::Bit(2, libc::PROT_EXEC as u32),
    ),
    (libc::SYS_mremap, When::Always),
    (libc::SYS_shmat, When::Bit(2, libc::SHM_EXEC as u32)),
    (libc::SYS_open, When::Always),
    (libc::SYS_openat, When::Always),
    (libc::SYS_openat2, When::Always),
    (libc::SYS_ptrace, When::Always),
    (libc::SYS_seccomp, When::Always),
    (libc::SYS_prctl, When::Is(0, libc::PR_SET_SECCOMP as u32)),
    (libc::SYS_personality, When::Always),
];

/// System calls that tell the time or wait for it.
#[cfg(target_arch = "x86_64")]
const TIME_CALLS: [(libc::c_long, When); 29] = [
    (libc::SYS_clock_gettime, When::Always),
    (libc::SYS_gettimeofday, When::Always),
    (libc::SYS_time, When::Always),
    (libc::SYS_clock_getres, When::Always),
    (libc::SYS_alarm, When::Always),
    (libc::SYS_setitimer, When::Always),
    (libc::SYS_timer_settime, When::Always),
    (libc::SYS_timerfd_settime, When::Always),
    (libc::SYS_getitimer, When::Always),
    (libc::SYS_timer_create, When::Always),
    (libc::SYS_timer_gettime, When::Always),
    (libc::SYS_timer_delete, When::Always),
    (libc::SYS_timerfd_gettime, When::Always),
    (libc::SYS_nanosleep, When::Always),
    (libc::SYS_clock_nanosleep, When::Always),
    (libc::SYS_poll, When::Milliseconds(2)),
    (libc::SYS_epoll_wait, When::Milliseconds(3)),
    (libc::SYS_epoll_pwait, When::Milliseconds(3)),
    (libc::SYS_epoll_pwait2, When::Pointer(3)),
    (libc::SYS_ppoll, When::Pointer(2)),
    (libc::SYS_select, When::Pointer(4)),
    (libc::SYS_pselect6, When::Pointer(4)),
    (libc::SYS_rt_sigtimedwait, When::Pointer(2)),
    (libc::SYS_semtimedop, When::Pointer(3)),
    (libc::SYS_mq_timedsend, When::Pointer(4)),
    (libc::SYS_mq_timedreceive, When::Pointer(4)),
    (libc::SYS_futex, When::Pointer(3)),
    (libc::SYS_times, When::Always),
    (libc::SYS_getrusage, When::Always),
];

/// System calls that tell of the machine, and of what happens on it.
#[cfg(target_arch = "x86_64")]
const HOST_CALLS: [(libc::c_long, When); 9] = [
    (libc::SYS_uname, When::Always),
    (libc::SYS_sysinfo, When::Always),
    (libc::SYS_getcpu, When::Always),
    (libc::SYS_sched_getaffinity, When::Always),
    (libc::SYS_sched_setaffinity, When::Always),
    (libc::SYS_sched_getscheduler, When::Always),
    (libc::SYS_getdents64, When::Always),
    (libc::SYS_wait4, When::Pointer(3)),
    (libc::SYS_waitid, When::Pointer(4)),
];

/// System calls that send signals.
#[cfg(target_arch = "x86_64")]
pub(super) const SIGNALLING_CALLS: [libc::c_long; 6] = [
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
];

/// Whether an engine is told of a call that shows programs this machine, by what it wants to know of always.
#[cfg(target_arch = "x86_64")]
pub fn is_reported(machine: Machine, call: &libc::user_regs_struct) -> bool {
    let arguments = [call.rdi, call.rsi, call.rdx, call.r10, call.r8, call.r9];
    let low = |index: u32| arguments[index as usize] as u32;
    let holds = |when: When| match when {
        When::Always => true,
        When::Milliseconds(index) => low(index) as i32 > 0,
        When::Pointer(index) => arguments[index as usize] != 0,
        When::Bit(index, bit) => low(index) & bit != 0,
        When::Is(index, value) => low(index) == value,
    };
    let number = call.orig_rax;
    tables(machine).any(|(reported, when)| *reported as u64 == number && holds(*when))
        || number & u64::from(X32) != 0
}

/// The calls that an engine is told of.
#[cfg(target_arch = "x86_64")]
fn tables(machine: Machine) -> impl Iterator<Item = &'static (libc::c_long, When)> {
    let time = machine.virtual_time.then_some(&TIME_CALLS);
    let host = machine.host.then_some(&HOST_CALLS);
    let others = time.into_iter().flatten().chain(host.into_iter().flatten());
    ENGINE_CALLS.iter().chain(others)
}

/// Reports a call, whatever its arguments.
fn report(number: libc::c_long) -> Rule {
    Rule::Jump(libc::BPF_JEQ, number as u32, To::Report, To::Next)
}

/// Answers a call as a kernel does that has none of this number.
fn lack(number: libc::c_long) -> Rule {
    Rule::Jump(libc::BPF_JEQ, number as u32, To::Missing, To::Next)
}

#[cfg(target_arch = "x86_64")]
fn rules_for(calls: impl Iterator<Item = &'static (libc::c_long, When)>) -> Vec<Rule> {
    let rules = calls.flat_map(|(number, when)| {
        let looks = match *when {
            When::Always => return vec![report(*number)],
            When::Milliseconds(index) => vec![
                Rule::Load(argument(index)),
                Rule::Jump(libc::BPF_JSET, 1 << 31, To::Pass, To::Next),
                Rule::Jump(libc::BPF_JEQ, 0, To::Pass, To::Report),
            ],
            When::Pointer(index) => vec![
                Rule::Load(argument(index)),
                Rule::Jump(libc::BPF_JEQ, 0, To::Next, To::Report),
                Rule::Load(argument(index) + 4),
                Rule::Jump(libc::BPF_JEQ, 0, To::Pass, To::Report),
            ],
            When::Bit(index, bit) => vec![
                Rule::Load(argument(index)),
                Rule::Jump(libc::BPF_JSET, bit, To::Report, To::Pass),
            ],
            When::Is(index, value) => vec![
                Rule::Load(argument(index)),
                Rule::Jump(libc::BPF_JEQ, value, To::Report, To::Pass),
            ],
        };
        let others = To::Skip(looks.len() as u8);
        let this = Rule::Jump(libc::BPF_JEQ, *number as u32, To::Next, others);
        [&[this], &looks[..]].concat()
    });
    rules.collect()
}

/// Calls that name an address to reach, each in a way of its own.
const NAMING_CALLS: [libc::c_long; 3] = [libc::SYS_connect, libc::SYS_sendmsg, libc::SYS_sendmmsg];

/// Calls that are made to receive something, besides read(2).
#[cfg(target_arch = "x86_64")]
pub(super) const RECEIVING_CALLS: [libc::c_long; 10] = [
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
];

/// Nobody asks on other architectures.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const RECEIVING_CALLS: [libc::c_long; 0] = [];

impl EngineCalls {
    #[cfg(not(target_arch = "x86_64"))]
    fn rules(self) -> Vec<Rule> {
        Vec::new()
    }

    #[cfg(target_arch = "x86_64")]
    fn rules(self) -> Vec<Rule> {
        let mut rules = vec![
            report(self.magic.into()),
            Rule::Jump(libc::BPF_JSET, X32, To::Report, To::Next),
        ];
        rules.extend(rules_for(tables(self.machine)));
        if self.machine.turns {
            rules.extend(SIGNALLING_CALLS.map(report));
        }
        rules.extend(self.besides.iter().map(|number| report((*number).into())));
        rules
    }
}

impl Filter {
    /// Reports certain writes, getrandom(2) if asked for, what an engine wants, with `network` the calls that name an
    /// address and with `receives` those that receive something; has no `missing` calls; none when there is nothing to do.
    pub(super) fn new(
        writes: Option<Writes>,
        random: bool,
        missing: &[libc::c_long],
        engine: Option<EngineCalls>,
        network: bool,
        receives: bool,
    ) -> Option<Filter> {
        let mut rules = Vec::new();
        if receives {
            // First: what follows lets some of them pass.
            let reads = [libc::SYS_read, libc::SYS_readv];
            let all = RECEIVING_CALLS.iter().chain(&reads);
            rules.extend(all.map(|number| report(*number)));
        }
        rules.extend(missing.iter().map(|number| lack(*number)));
        rules.extend(engine.map(EngineCalls::rules).unwrap_or_default());
        if random {
            rules.push(report(libc::SYS_getrandom));
        }
        if network {
            rules.extend(NAMING_CALLS.map(report));
            // Without an address, sendto(2) is what send(2) is made of.
            rules.extend([
                Rule::Jump(
                    libc::BPF_JEQ,
                    libc::SYS_sendto as u32,
                    To::Next,
                    To::Skip(2),
                ),
                Rule::Load(argument(4)),
                Rule::Jump(libc::BPF_JEQ, 0, To::Pass, To::Report),
            ]);
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
    /// Over so many rules.
    Skip(u8),
    Pass,
    Report,
    /// There is no such call.
    Missing,
}

/// One instruction of the filter, its targets by name.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Load(u32),
    Jump(u32, u32, To, To),
}

/// Resolves the targets: behind the rules stand the answers: to let the call pass, to report it, to
/// have no such call.
fn assemble(rules: &[Rule]) -> Vec<libc::sock_filter> {
    let pass = rules.len();
    let distance = |at: usize, to| match to {
        To::Next => 0,
        To::Skip(rules) => rules,
        To::Pass => (pass - at - 1) as u8,
        To::Report => (pass - at) as u8,
        To::Missing => (pass - at + 1) as u8,
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
        answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
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

    const MISSING: [libc::c_long; 2] = [libc::SYS_rseq, libc::SYS_clone3];

    /// Runs the filter as the kernel would (its few instructions), over a call's number and arguments.
    fn verdict(filter: &Filter, number: i64, arguments: [u32; 3]) -> u32 {
        let arguments = [&arguments[..], &[0; 3]].concat();
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
                libc::BPF_JSET => value & step.k != 0,
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

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn an_engine_is_told_of_code_that_changes_and_of_what_shows_its_traces() {
        let engine = EngineCalls {
            magic: 9999,
            machine: Machine::default(),
            besides: &[libc::SYS_getpid as u32],
        };
        let filter = Filter::new(None, true, &MISSING, Some(engine), false, false).unwrap();
        let pass = libc::SECCOMP_RET_ALLOW;
        let report = libc::SECCOMP_RET_TRACE;
        let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        for (call, arguments, expected) in [
            (9999, [0; 3], report),
            (libc::SYS_mmap, [0, 4096, 5], report),
            (libc::SYS_mmap, [0, 4096, 3], pass),
            (libc::SYS_mprotect, [0, 4096, 4], report),
            (libc::SYS_munmap, [0, 4096, 4], pass),
            (libc::SYS_rt_sigreturn, [0; 3], report),
            (libc::SYS_rseq, [0; 3], missing),
            (libc::SYS_clone3, [0; 3], missing),
            (libc::SYS_clone, [0; 3], pass),
            (libc::SYS_clone, [libc::CLONE_UNTRACED as u32, 0, 0], report),
            (libc::SYS_arch_prctl, [ARCH_SET_GS, 0, 0], report),
            (libc::SYS_arch_prctl, [0x1002, 0, 0], pass),
            (libc::SYS_prctl, [15, 0, 0], pass),
            (libc::SYS_prctl, [22, 0, 0], report),
            (libc::SYS_getrandom, [1, 2, 3], report),
            (libc::SYS_getpid, [0; 3], report),
            (libc::SYS_read, [0, 0, 7], pass),
            (0x4000_0001, [0; 3], report),
        ] {
            assert_eq!(verdict(&filter, call, arguments), expected, "call {call}");
        }
    }

    #[test]
    fn calls_that_name_an_address_are_reported_and_a_plain_send_is_not() {
        let filter = Filter::new(Some(Writes::from(100)), false, &[], None, true, false).unwrap();
        let pass = libc::SECCOMP_RET_ALLOW;
        let report = libc::SECCOMP_RET_TRACE;
        for (call, expected) in [
            (libc::SYS_connect, report),
            (libc::SYS_sendmsg, report),
            (libc::SYS_sendmmsg, report),
            (libc::SYS_sendto, pass),
            (libc::SYS_recvfrom, pass),
        ] {
            assert_eq!(verdict(&filter, call, [0; 3]), expected, "call {call}");
        }
        assert_eq!(verdict(&filter, libc::SYS_write, [100, 0, 2]), report);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_that_receive_are_reported_whether_they_wait_or_not() {
        let engine = EngineCalls {
            magic: 9999,
            machine: Machine::default(),
            besides: &[],
        };
        // With all rules there are: a jump is one byte long.
        let writes = Some(Writes::from(100));
        let filter = Filter::new(writes, true, &MISSING, Some(engine), true, true).unwrap();
        assert!(filter.0.len() < 256);
        for call in [libc::SYS_poll, libc::SYS_recvfrom, libc::SYS_read] {
            let report = libc::SECCOMP_RET_TRACE;
            assert_eq!(verdict(&filter, call, [0; 3]), report, "call {call}");
        }
    }

    #[test]
    fn reports_what_it_is_asked_for_and_nothing_else() {
        const WRITE: i64 = libc::SYS_write;
        const RANDOM: i64 = libc::SYS_getrandom;
        let pass = libc::SECCOMP_RET_ALLOW;
        let report = libc::SECCOMP_RET_TRACE;
        let both = Filter::new(Some(Writes::from(100)), true, &[], None, false, false).unwrap();
        let writes = Filter::new(Some(Writes::from(100)), false, &[], None, false, false).unwrap();
        let random = Filter::new(None, true, &[], None, false, false).unwrap();
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
        assert!(Filter::new(None, false, &[], None, false, false).is_none());
    }
}
