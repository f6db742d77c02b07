//! Code in the place of instructions and system calls that ask the machine for something: the answers of the machine that
//! programs are shown.
//!
//! All of it is cold, and leaves the program's flags alone or puts them back. Where it is interrupted the program stands
//! before the question, which is asked again: its results may be there already, what it reads is not changed.

use super::{ExitKind, Writer, counter_slot, spilled};
use crate::dbi::assemble::{Code, RAX, RCX, Register};
use crate::dbi::cpu;
use crate::dbi::decode::Question;
use crate::dbi::layout::{EPOCH_NS, UP_NS, slot};
use crate::dbi::plan::{Plan, Planned};
use crate::model::CpuModel;

/// Instructions before a `syscall` among which its number is looked for.
const LOOKED_BACK: usize = 8;

const NS_PER_SECOND: u32 = 1_000_000_000;
const NS_PER_MICROSECOND: u32 = 1000;

/// Clocks that show the time of day, and those that show how long the machine is up, as sets of bits (linux/time.h):
/// CLOCK_REALTIME and its coarse kind; CLOCK_MONOTONIC, its raw and coarse kinds, CLOCK_BOOTTIME.
const OF_DAY: u32 = 1 | 1 << 5;
const SINCE_BOOT: u32 = 1 << 1 | 1 << 4 | 1 << 6 | 1 << 7;

/// System calls that read the clock, with their numbers (arch/x86/entry/syscalls/syscall_64.tbl).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeCall {
    ClockGettime = 228,
    Gettimeofday = 96,
    Time = 201,
}

impl TimeCall {
    /// The call that the `syscall` at the end of a unit may make: that of a `mov eax, number` among the last instructions,
    /// if there is one. Whether it is so is seen when it is made.
    fn guess(plan: &Plan) -> Option<TimeCall> {
        let before = plan.insts.iter().rev().skip(1).take(LOOKED_BACK);
        let number = before
            .map(|planned| plan.bytes_of(planned))
            .find_map(|bytes| {
                let [0xb8, number @ ..] = bytes else {
                    return None;
                };
                Some(u32::from_le_bytes(number.try_into().ok()?))
            });
        let Some(number) = number else {
            return Some(TimeCall::ClockGettime);
        };
        [
            TimeCall::ClockGettime,
            TimeCall::Gettimeofday,
            TimeCall::Time,
        ]
        .into_iter()
        .find(|call| *call as u32 == number)
    }
}

/// A jump in cold code whose target comes later: the offset behind its displacement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jump(usize);

impl Code {
    /// `jmp` to a place that comes later.
    pub(super) fn jump_ahead(&mut self) -> Jump {
        self.raw(&[0xe9, 0, 0, 0, 0]);
        Jump(self.bytes.len())
    }

    /// `jcc` to a place that comes later.
    fn branch_ahead(&mut self, condition: u8) -> Jump {
        self.raw(&[0x0f, 0x80 | condition, 0, 0, 0, 0]);
        Jump(self.bytes.len())
    }

    /// The place is here.
    pub(super) fn land(&mut self, jump: Jump) {
        let distance = (self.bytes.len() - jump.0) as u32;
        self.bytes[jump.0 - 4..jump.0].copy_from_slice(&distance.to_le_bytes());
    }

    /// The place is in other code, at an address.
    pub(super) fn land_at(&mut self, jump: Jump, address: u64) {
        let behind = self.base + jump.0 as u64;
        let distance = address.wrapping_sub(behind) as u32;
        self.bytes[jump.0 - 4..jump.0].copy_from_slice(&distance.to_le_bytes());
    }

    /// Goes on if rcx is 0.
    pub(super) fn unless_rcx_zero(&mut self) -> Jump {
        const JUMP_BYTES: u8 = 5;
        self.skip_if_rcx_zero(JUMP_BYTES);
        self.jump_ahead()
    }

    /// Goes on if ecx is `value`, which is lost.
    fn unless_ecx_is(&mut self, value: u32) -> Jump {
        self.add_ecx(value.wrapping_neg() as i32);
        self.unless_rcx_zero()
    }

    /// Goes on if eax is `value`; ecx is lost.
    fn unless_eax_is(&mut self, value: u32) -> Jump {
        self.rax_less_to_ecx(value);
        self.unless_rcx_zero()
    }

    /// `mov register, value`, which has no short form that leaves flags alone.
    fn set_low(&mut self, register: u8, value: u32) {
        if register >= 8 {
            self.raw(&[0x41]);
        }
        self.raw(&[0xb8 | register & 7]);
        self.raw(&value.to_le_bytes());
    }

    /// Arithmetic flags to [`slot::FLAGS`], through rax.
    fn save_flags(&mut self) {
        // lahf; seto al
        self.raw(&[0x9f, 0x0f, 0x90, 0xc0]);
        self.store(slot::FLAGS, RAX);
    }

    /// Arithmetic flags from [`slot::FLAGS`], through rax.
    fn restore_flags(&mut self) {
        self.load(RAX, slot::FLAGS);
        // add al, 127 overflows if al is 1; sahf
        self.raw(&[0x04, 0x7f, 0x9e]);
    }

    /// rax becomes the time, which rises by one; rcx is lost. The jump is taken if the tracer is to be asked first.
    fn read_clock(&mut self) -> Jump {
        const ABOVE_OR_EQUAL: u8 = 3;
        self.load(RCX, slot::CLOCK);
        self.set_low(EAX, 1);
        // lock xadd [rcx], rax
        self.raw(&[0xf0, 0x48, 0x0f, 0xc1, 0x01]);
        // cmp rax, [rcx + LIMIT - NOW]
        self.raw(&[0x48, 0x3b, 0x41, (slot::LIMIT - slot::NOW) as u8]);
        self.branch_ahead(ABOVE_OR_EQUAL)
    }

    /// rdx:rax becomes the remainder and quotient of rax by `divisor`, in rcx.
    fn divide(&mut self, divisor: u32) {
        self.set_low(ECX, divisor);
        // xor edx, edx; div rcx
        self.raw(&[0x31, 0xd2, 0x48, 0xf7, 0xf1]);
    }
}

const EAX: u8 = 0;
const ECX: u8 = 1;
const EDX: u8 = 2;
const EBX: u8 = 3;

/// rdx as [`Mark::base`](super::Mark::base).
const RDX: u8 = 2;

const BOTH: u8 = spilled::RAX | spilled::RCX;
const ALL: u8 = BOTH | spilled::FLAGS;

impl<F: FnMut(usize, u64) -> Option<u64>> Writer<'_, F> {
    /// An instruction that asks the machine, the only one of its unit.
    pub(super) fn asks(&mut self, question: Question, planned: &Planned) {
        let machine = self.site.machine;
        match (question, machine.cpu) {
            (Question::Pause, _) if machine.turns => self.pause(),
            (Question::Pause, _) => self.plain(planned, true),
            (Question::Rdtsc | Question::Rdtscp, _) if machine.virtual_time => {
                self.time_stamp(question == Question::Rdtscp);
            }
            (Question::Rdtsc | Question::Rdtscp, _) | (_, None) => self.plain(planned, true),
            (Question::Cpuid, Some(model)) => self.cpuid(model),
            (Question::Xgetbv, Some(model)) => {
                self.mark(0);
                self.out.hot.set_low(EAX, cpu::xcr0(model));
                self.out.hot.set_low(EDX, 0);
                self.asked();
            }
            (Question::Rdpid { register }, Some(_)) => {
                self.mark(0);
                self.out.hot.set_low(register, 0);
                self.asked();
            }
            (Question::Rdrand | Question::Rdseed, Some(_)) => {
                let leave = self.leave_before();
                self.mark(0);
                self.out.hot.jump(leave);
            }
        }
    }

    /// The question is answered; the unit is complete.
    pub(super) fn asked(&mut self) {
        self.done += 1;
        self.mark(0);
        self.finish(self.plan.end());
    }

    /// Saves rax and rcx and goes on in the cold code; where that comes back to, the unit complete.
    fn spill_and_go_on_cold(&mut self) -> u64 {
        self.mark(0);
        self.out.hot.store(slot::RCX, RCX);
        self.mark(spilled::RCX);
        self.out.hot.store(slot::RAX, RAX);
        self.mark(BOTH);
        let cold = self.out.cold.here();
        self.out.hot.jump(cold);
        self.out.hot.here()
    }

    /// The state from here on in the cold code, before the question.
    pub(super) fn before_question(&mut self, restore: u8) {
        self.mark_question(0, restore, 0);
    }

    pub(super) fn mark_question(&mut self, more: u16, restore: u8, base: u8) {
        let done = self.done + more;
        let pc = self.plan.pc_of(usize::from(done));
        self.mark_cold_full(pc, done, self.counted, restore, base);
    }

    /// The question was not answered: flags and rax are again what they were.
    fn restore_flags_and_rax(&mut self) {
        self.out.cold.restore_flags();
        self.before_question(BOTH);
        self.out.cold.load(RAX, slot::RAX);
        self.before_question(spilled::RCX);
    }

    fn cpuid(&mut self, model: CpuModel) {
        let behind = self.spill_and_go_on_cold();
        let leaves = cpu::leaves(model);
        for same in leaves.chunk_by(|one, next| one.leaf == next.leaf) {
            self.before_question(BOTH);
            let other_leaf = self.out.cold.unless_eax_is(same[0].leaf);
            for one in same {
                let other = one.subleaf.map(|subleaf| {
                    self.out.cold.load_ecx(slot::RCX);
                    self.out.cold.unless_ecx_is(subleaf)
                });
                self.answer_cpuid(one.answer, behind);
                self.before_question(BOTH);
                if let Some(other) = other {
                    self.out.cold.land(other);
                }
            }
            if same[0].subleaf.is_some() {
                self.answer_cpuid([0; 4], behind);
                self.before_question(BOTH);
            }
            self.out.cold.land(other_leaf);
        }
        self.answer_cpuid([0; 4], behind);
        self.asked();
    }

    /// Not rax and rcx before the others: they are the question.
    fn answer_cpuid(&mut self, [eax, ebx, ecx, edx]: cpu::Answer, behind: u64) {
        self.out.cold.set_low(EBX, ebx);
        self.out.cold.set_low(EDX, edx);
        self.out.cold.set_low(EAX, eax);
        self.out.cold.set_low(ECX, ecx);
        self.mark_question(1, 0, 0);
        self.out.cold.jump(behind);
    }

    fn time_stamp(&mut self, with_cpu: bool) {
        let behind = self.spill_and_go_on_cold();
        self.before_question(BOTH);
        self.out.cold.save_flags();
        self.before_question(ALL);
        let ask = self.out.cold.read_clock();
        self.out.cold.store(slot::TIME, RAX);
        self.out.cold.restore_flags();
        self.before_question(BOTH);
        self.out.cold.load_low(EDX, slot::TIME + 4);
        self.out.cold.load_low(EAX, slot::TIME);
        if with_cpu {
            self.out.cold.set_low(ECX, 0);
        } else {
            self.out.cold.restore_rcx();
        }
        self.mark_question(1, 0, 0);
        self.out.cold.jump(behind);
        self.before_question(ALL);
        self.out.cold.land(ask);
        self.restore_flags_and_rax();
        self.out.cold.restore_rcx();
        self.before_question(0);
        self.leave_before();
        self.asked();
    }

    /// Cold code that leaves before the question, and counts that it was not asked; its address.
    pub(super) fn leave_before(&mut self) -> u64 {
        let pc = self.plan.pc_of(usize::from(self.done));
        let counter = self.site.counter + self.out.counters;
        self.out.counters += 1;
        let address = self.out.cold.here();
        self.mark_cold(pc, self.done, self.counted, 0);
        self.out.cold.store(slot::RCX, RCX);
        self.mark_cold(pc, self.done, self.counted, spilled::RCX);
        self.out.cold.load(RCX, counter_slot(counter));
        self.out.cold.add_rcx(1);
        self.out.cold.store(counter_slot(counter), RCX);
        let n = self.plan.insts.len() as u16;
        self.mark_cold(pc, n, true, spilled::RCX);
        self.out.cold.restore_rcx();
        self.leave(pc, n, true);
        self.exit(pc, 0, self.done, ExitKind::Ask, false);
        address
    }

    /// A `syscall` that reads the clock, perhaps: whether code was written up to it. rcx is then in its slot.
    pub(super) fn read_clock_instead(&mut self) -> Option<ClockRead> {
        let call = self
            .site
            .machine
            .virtual_time
            .then(|| TimeCall::guess(self.plan))??;
        self.mark(0);
        self.out.hot.store(slot::RCX, RCX);
        self.mark(spilled::RCX);
        let cold = self.out.cold.here();
        self.out.hot.jump(cold);
        self.mark(0);
        Some(ClockRead {
            call,
            real: self.out.hot.here(),
        })
    }

    /// The cold code of [`Writer::read_clock_instead`]; `behind` is where the hot code goes on behind the `syscall`.
    pub(super) fn clock_read(&mut self, read: ClockRead, behind: u64) {
        self.before_question(spilled::RCX);
        let other_call = self.out.cold.unless_eax_is(read.call as u32);
        self.out.cold.store(slot::RAX, RAX);
        self.before_question(BOTH);
        self.out.cold.save_flags();
        self.before_question(ALL);
        let mut real = vec![self.out.cold.check_arguments(read.call)];
        real.extend(self.out.cold.check_more(read.call));
        real.push(self.out.cold.read_clock());
        self.out.cold.add_beginning(read.call);
        self.out.cold.store(slot::BASE, Register(RDX));
        self.mark_question(0, ALL | spilled::BASE, RDX);
        self.out.cold.divide(NS_PER_SECOND);
        self.out.cold.store_time(read.call);
        self.out.cold.load(Register(RDX), slot::BASE);
        self.before_question(ALL);
        self.out.cold.restore_flags();
        self.before_question(BOTH);
        // mov rax, rcx
        self.out.cold.raw(&[0x48, 0x89, 0xc8]);
        self.mark_question(1, spilled::CALL, 0);
        self.out.cold.jump(behind);
        self.before_question(ALL);
        real.into_iter().for_each(|jump| self.out.cold.land(jump));
        self.restore_flags_and_rax();
        self.out.cold.land(other_call);
        self.out.cold.restore_rcx();
        self.before_question(0);
        self.out.cold.jump(read.real);
    }
}

/// A `syscall` that may be answered without the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockRead {
    call: TimeCall,
    /// The address of the `syscall`.
    real: u64,
}

impl Code {
    /// Jumps where the kernel is to answer.
    fn check_arguments(&mut self, call: TimeCall) -> Jump {
        const ABOVE: u8 = 7;
        const ZERO: u8 = 4;
        const NOT_ZERO: u8 = 5;
        match call {
            TimeCall::ClockGettime => {
                // cmp edi, 7
                self.raw(&[0x83, 0xff, 0x07]);
                self.branch_ahead(ABOVE)
            }
            TimeCall::Gettimeofday => {
                // test rdi, rdi
                self.raw(&[0x48, 0x85, 0xff]);
                self.branch_ahead(ZERO)
            }
            TimeCall::Time => {
                // test rdi, rdi
                self.raw(&[0x48, 0x85, 0xff]);
                self.branch_ahead(NOT_ZERO)
            }
        }
    }

    fn check_more(&mut self, call: TimeCall) -> Option<Jump> {
        const NOT_CARRY: u8 = 3;
        const NOT_ZERO: u8 = 5;
        match call {
            TimeCall::ClockGettime => {
                self.set_low(ECX, OF_DAY | SINCE_BOOT);
                // bt ecx, edi
                self.raw(&[0x0f, 0xa3, 0xf9]);
                Some(self.branch_ahead(NOT_CARRY))
            }
            TimeCall::Gettimeofday => {
                // test rsi, rsi
                self.raw(&[0x48, 0x85, 0xf6]);
                Some(self.branch_ahead(NOT_ZERO))
            }
            TimeCall::Time => None,
        }
    }

    /// rax becomes what the clock shows; rcx is lost.
    fn add_beginning(&mut self, call: TimeCall) {
        const LONG_MOVE_BYTES: u8 = 10;
        if call == TimeCall::ClockGettime {
            self.set_low(ECX, OF_DAY);
            // bt ecx, edi
            self.raw(&[0x0f, 0xa3, 0xf9]);
            self.set_long(RCX, UP_NS);
            // jnc over the next instruction
            self.raw(&[0x73, LONG_MOVE_BYTES]);
        }
        self.set_long(RCX, EPOCH_NS);
        // add rax, rcx
        self.raw(&[0x48, 0x01, 0xc8]);
    }

    /// Seconds in rax, nanoseconds in rdx: to where they are wanted. rcx becomes the call's result.
    fn store_time(&mut self, call: TimeCall) {
        match call {
            TimeCall::ClockGettime => {
                // mov [rsi], rax; mov [rsi + 8], rdx
                self.raw(&[0x48, 0x89, 0x06, 0x48, 0x89, 0x56, 0x08]);
                self.set_low(ECX, 0);
            }
            TimeCall::Gettimeofday => {
                // mov [rdi], rax; mov rax, rdx
                self.raw(&[0x48, 0x89, 0x07, 0x48, 0x89, 0xd0]);
                self.divide(NS_PER_MICROSECOND);
                // mov [rdi + 8], rax
                self.raw(&[0x48, 0x89, 0x47, 0x08]);
                self.set_low(ECX, 0);
            }
            // mov rcx, rax
            TimeCall::Time => self.raw(&[0x48, 0x89, 0xc1]),
        }
    }
}
