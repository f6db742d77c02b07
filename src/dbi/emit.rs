//! From a planned unit to machine code, and back from an address in it to the state of the program.
//!
//! Pure: bytes in, bytes out. The code goes to two places: what is executed often (hot), and behind it, elsewhere, what is
//! executed rarely (cold): exits, questions, literals.

mod asks;
mod common;
mod indirect;
mod timed;
mod turns;

pub use self::common::{Between, Common};
pub use self::indirect::{FITS_NONE, prologue};
use super::assemble::{Code, RAX, RCX, Register, relative};
use super::decode::{self, Kind};
use super::layout::{COUNTERS, slot};
use super::plan::{CountAt, Plan, Planned, UNDEFINED};
use crate::model::Machine;

/// Registers whose program's value is in a slot, as a set of bits.
pub mod spilled {
    /// In [`slot::RCX`](super::slot::RCX).
    pub const RCX: u8 = 1;
    /// In [`slot::RAX`](super::slot::RAX).
    pub const RAX: u8 = 2;
    /// In [`slot::R11`](super::slot::R11).
    pub const R11: u8 = 4;
    /// The register [`Mark::base`](super::Mark::base), in [`slot::BASE`](super::slot::BASE).
    pub const BASE: u8 = 8;
    /// rcx must become the address behind the system call that was just made (Intel SDM volume 2, SYSCALL).
    pub const CALL: u8 = 16;
    /// The arithmetic flags, in [`slot::FLAGS`](super::slot::FLAGS).
    pub const FLAGS: u8 = 32;
}

/// Where the program stands, in its own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pc {
    /// There.
    At(u64),
    /// At the address in rcx.
    InRcx,
    /// At the address in [`slot::TARGET`].
    InSlot,
}

/// What a thread's state means that stands at or behind `at`, up to the next mark: each instruction of ours has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Offset in the hot or the cold code of the unit.
    pub at: u32,
    /// Where the program stands.
    pub pc: Pc,
    /// Instructions of the unit that are complete.
    pub done: u16,
    /// Whether the counter of the block that goes on there says already that all of it are.
    pub counted: bool,
    /// Registers to be restored.
    pub restore: u8,
    /// The register of [`spilled::BASE`].
    pub base: u8,
}

/// What an exit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// Goes on at the target.
    Link,
    /// The code at the unit's own address is not what was translated: goes on there with the new code.
    Stale,
    /// A client request stands before the target.
    Request,
    /// The instruction at the target asks for what only the tracer knows.
    Ask,
    /// A loop has gone round so often that it may be another thread's turn, or the budget is used up.
    Turn,
    /// The system call at the target may have to wait for its turn: the tracer makes it from here.
    Call,
}

impl ExitKind {
    /// Whether the tracer is asked each time, whatever is translated.
    pub fn always_leaves(self) -> bool {
        !matches!(self, ExitKind::Link | ExitKind::Stale)
    }
}

/// A way out of a unit that is not indirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Original address where it leads.
    pub target: u64,
    /// Where its displacement is, in the code cache; that of an [`ExitKind::Call`] is where the thread goes on behind the
    /// call.
    pub patch: u64,
    /// Instructions of the unit that are complete when it is taken.
    pub done: u16,
    /// What it is for.
    pub kind: ExitKind,
    /// Whether it was made to lead to translated code: then it has no cold code of its own.
    pub born_linked: bool,
}

/// Where and with what a unit is made.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Address of the hot code.
    pub hot: u64,
    /// Address of the cold code.
    pub cold: u64,
    /// Address of the table of indirect branches, in the lower 2 GiB.
    pub table: u32,
    /// Address of the code of all direct exits.
    pub leave: u64,
    /// Address of the code of indirect branches without a translation.
    pub miss: u64,
    /// The counter of the unit's first block; those of the others follow.
    pub counter: u32,
    /// Index of the unit's first exit.
    pub first_exit: u32,
    /// If it is entered by indirect branches: where to go on if the address is another.
    pub otherwise: Option<u64>,
    /// Whether it looks at each entry whether the program's code is still the same.
    pub checked: bool,
    /// If it is a client request, which nobody counts: the address behind it.
    pub request: Option<u64>,
    /// Whether it can be stopped after so many rounds.
    pub timed: bool,
    /// The machine that the program is shown.
    pub machine: Machine,
}

/// A translated unit.
#[derive(Clone, Debug, Default)]
pub struct Emitted {
    /// Executed often.
    pub hot: Code,
    /// Executed rarely.
    pub cold: Code,
    /// Offset of the first instruction behind the prologue, in the hot code.
    pub body: u32,
    /// Its exits, in the order of their indices.
    pub exits: Vec<Exit>,
    /// Counters used: one a block, and one for a question that was not answered.
    pub counters: u32,
    /// The meaning of the hot code, if that is wanted.
    pub hot_marks: Vec<Mark>,
    /// The meaning of the cold code, if that is wanted.
    pub cold_marks: Vec<Mark>,
    /// Whether it is: only a thread that was stopped in the code asks.
    with_marks: bool,
}

/// The offset of a counter in an area.
pub const fn counter_slot(index: u32) -> u32 {
    COUNTERS + 8 * index
}

impl Emitted {
    /// Translates `plan` at `site`. `find` gives the address of translated code for the
    /// original address that exit number so-and-so of the unit leads to.
    pub fn make(&mut self, plan: &Plan, site: &Site, find: impl FnMut(usize, u64) -> Option<u64>) {
        self.with_marks = false;
        self.write(plan, site, find);
    }

    /// The same, with what each place in the code means.
    pub fn make_with_marks(
        &mut self,
        plan: &Plan,
        site: &Site,
        find: impl FnMut(usize, u64) -> Option<u64>,
    ) {
        self.with_marks = true;
        self.write(plan, site, find);
    }

    fn write(&mut self, plan: &Plan, site: &Site, find: impl FnMut(usize, u64) -> Option<u64>) {
        self.hot.restart(site.hot);
        self.cold.restart(site.cold);
        self.exits.clear();
        self.hot_marks.clear();
        self.cold_marks.clear();
        self.counters = 1;
        let mut writer = Writer {
            plan,
            site,
            find,
            out: self,
            done: 0,
            counted: false,
            block: 0,
        };
        writer.unit();
    }

    /// The mark of the instruction at an address of the unit's code.
    pub fn mark_at(&self, address: u64) -> Option<Mark> {
        let (marks, base, length) =
            if address.wrapping_sub(self.hot.base) < self.hot.bytes.len() as u64 {
                (&self.hot_marks, self.hot.base, self.hot.bytes.len())
            } else {
                (&self.cold_marks, self.cold.base, self.cold.bytes.len())
            };
        let offset = u32::try_from(address.checked_sub(base)?).ok()?;
        if offset as usize >= length {
            return None;
        }
        let index = marks.partition_point(|mark| mark.at <= offset);
        marks.get(index.checked_sub(1)?).copied()
    }
}

/// Where a unit goes on.
struct Way {
    /// The address.
    to: u64,
    /// Where the displacement is that can be changed, if that is not the one which leads there.
    patch: Option<u64>,
    /// Whether it leads to translated code.
    linked: bool,
}

/// A unit in the making.
struct Writer<'a, F> {
    plan: &'a Plan,
    site: &'a Site,
    find: F,
    out: &'a mut Emitted,
    done: u16,
    counted: bool,
    /// The block that is being written.
    block: usize,
}

impl<F: FnMut(usize, u64) -> Option<u64>> Writer<'_, F> {
    fn unit(&mut self) {
        if let Some(otherwise) = self.site.otherwise {
            self.mark_as(Pc::InSlot, spilled::RCX);
            prologue(
                &mut self.out.hot,
                self.plan.pc,
                self.plan.findings.flags_dead,
                otherwise,
            );
        }
        self.out.body = self.out.hot.offset();
        if self.site.checked {
            self.check();
        }
        if let Some(next) = self.site.request {
            return self.request(next);
        }
        let plan = self.plan;
        self.begin_block();
        for (index, planned) in plan.insts.iter().enumerate() {
            self.done = index as u16;
            self.count_if_here();
            self.instruction(planned, index + 1 == plan.insts.len());
        }
    }

    /// A block begins; it is counted at once where that is as good as anywhere.
    fn begin_block(&mut self) {
        self.counted = false;
        if self.plan.findings.count_at[self.block] == CountAt::Entry {
            self.count_carefully();
        }
    }

    /// Counts the block if that is to be done before the next instruction.
    fn count_if_here(&mut self) {
        if self.plan.findings.count_at[self.block] == CountAt::Free(self.done as u8) {
            self.count();
        }
    }

    /// The offset of the block's counter.
    fn counter(&self) -> u32 {
        counter_slot(self.site.counter + self.block as u32)
    }

    /// The program's state from here on, in the hot code.
    fn mark(&mut self, restore: u8) {
        self.mark_as(Pc::At(self.plan.pc_of(usize::from(self.done))), restore);
    }

    fn mark_as(&mut self, pc: Pc, restore: u8) {
        self.mark_full(pc, restore, 0);
    }

    fn mark_full(&mut self, pc: Pc, restore: u8, base: u8) {
        if !self.out.with_marks {
            return;
        }
        self.out.hot_marks.push(Mark {
            at: self.out.hot.offset(),
            pc,
            done: self.done,
            counted: self.counted,
            restore,
            base,
        });
    }

    fn mark_cold(&mut self, pc: u64, done: u16, counted: bool, restore: u8) {
        self.mark_cold_full(pc, done, counted, restore, 0);
    }

    fn mark_cold_full(&mut self, pc: u64, done: u16, counted: bool, restore: u8, base: u8) {
        if !self.out.with_marks {
            return;
        }
        self.out.cold_marks.push(Mark {
            at: self.out.cold.offset(),
            pc: Pc::At(pc),
            done,
            counted,
            restore,
            base,
        });
    }

    fn count(&mut self) {
        self.mark(0);
        self.out.hot.increment(self.counter());
        self.counted = true;
        self.mark(0);
    }

    /// Counts where flags may be live.
    fn count_carefully(&mut self) {
        let counter = self.counter();
        self.mark(0);
        self.out.hot.store(slot::RCX, RCX);
        self.mark(spilled::RCX);
        self.out.hot.load(RCX, counter);
        self.out.hot.add_rcx(1);
        self.out.hot.store(counter, RCX);
        self.counted = true;
        self.mark(spilled::RCX);
        self.out.hot.restore_rcx();
        self.mark(0);
    }

    fn instruction(&mut self, planned: &Planned, last: bool) {
        match planned.inst.kind {
            Kind::Plain => self.plain(planned, last),
            Kind::Branch { condition, target } => self.branch(condition, target, last),
            Kind::CountBranch { target } => self.count_branch(planned, target),
            Kind::Jump { target } => {
                self.mark(0);
                self.separate_from_trap();
                self.finish(target);
            }
            Kind::Call { target } => self.call(target),
            Kind::Return { pops } => self.give_back(pops),
            Kind::JumpTo => self.jump_to(planned),
            Kind::CallTo => self.call_to(planned),
            Kind::SystemCall => self.system_call(),
            Kind::Asks(question) => self.asks(question, planned),
            Kind::Refused(_) | Kind::Unknown => {
                self.mark(0);
                self.out.hot.raw(&UNDEFINED);
            }
        }
    }

    /// Behind `int3` and `int1` a handler sees the address of the next instruction. A jump has none in our code, where its
    /// target would be seen: a `nop` stands for it. The last byte may be another instruction's operand, and nothing is lost.
    fn separate_from_trap(&mut self) {
        if matches!(self.out.hot.bytes.last(), Some(0xcc | 0xf1)) {
            self.out.hot.raw(&[0x90]);
        }
    }

    fn plain(&mut self, planned: &Planned, last: bool) {
        let bytes = self.plan.bytes_of(planned);
        let pc = self.plan.pc + u64::from(planned.at);
        self.mark(0);
        match (planned.inst.rip_disp, planned.inst.rip_target(bytes, pc)) {
            (Some(at), Some(target)) => self.relative_operand(bytes, usize::from(at), target, pc),
            _ => {
                self.keep_fused(bytes.len());
                self.out.hot.raw(bytes);
            }
        }
        if last {
            self.done += 1;
            self.count_if_here();
            self.mark(0);
            self.finish(self.plan.end());
        }
    }

    /// Fills up before an instruction of so many bytes where that would else be done between it and the branch behind it:
    /// processors execute the two as one only if nothing is between them (AMD Software Optimization Guide, "Branch Fusion").
    fn keep_fused(&mut self, bytes: usize) {
        let next = self.plan.insts.get(usize::from(self.done) + 1);
        if next.is_some_and(|next| matches!(next.inst.kind, Kind::Branch { .. })) {
            self.out.hot.pad_branch(bytes as u64);
        }
    }

    /// An instruction with an operand relative to its own address.
    fn relative_operand(&mut self, bytes: &[u8], at: usize, target: u64, pc: u64) {
        let behind = self.out.hot.here() + bytes.len() as u64;
        if let Some(distance) = relative(behind, target) {
            let start = self.out.hot.bytes.len();
            self.out.hot.raw(bytes);
            self.out.hot.bytes[start + at..start + at + 4].copy_from_slice(&distance.to_le_bytes());
            return;
        }
        let Some((moved, base)) = decode::rebase(bytes, pc) else {
            // Every instruction leaves one of six registers alone; `ud2` if ever one does not.
            self.out.hot.raw(&UNDEFINED);
            return;
        };
        let register = Register(base as u8);
        self.out.hot.store(slot::BASE, register);
        self.mark_full(Pc::At(pc), spilled::BASE, register.0);
        self.out.hot.set_long(register, target);
        self.mark_full(Pc::At(pc), spilled::BASE, register.0);
        self.out.hot.raw(&moved);
        let next = pc + bytes.len() as u64;
        self.done += 1;
        self.mark_full(Pc::At(next), spilled::BASE, register.0);
        self.done -= 1;
        self.out.hot.load(register, slot::BASE);
    }

    /// The unit is complete and goes on at `target`.
    fn finish(&mut self, target: u64) {
        if self.takes_time(target) && self.plan.findings.free_back {
            return self.finish_in_time(target);
        }
        let n = self.plan.insts.len() as u16;
        self.done = n;
        self.mark_as(Pc::At(target), 0);
        let way = self.way(target);
        let patch = self.out.hot.jump_patchable(way.to);
        self.link(target, &way, patch, n);
    }

    /// The exit of a unit's end by a way; the displacement in the hot code is at `patch`.
    fn link(&mut self, target: u64, way: &Way, patch: u32, done: u16) {
        let patch = way.patch.unwrap_or(self.site.hot + u64::from(patch));
        self.exit(target, patch, done, ExitKind::Link, way.linked);
    }

    /// The way from the unit's end to `target`.
    fn way(&mut self, target: u64) -> Way {
        match self.takes_time(target) {
            true => self.way_in_time(target),
            false => self.straight(target),
        }
    }

    /// The way to `target` that takes nothing from a budget.
    fn straight(&mut self, target: u64) -> Way {
        let (to, linked) = self.destination(target);
        Way {
            to,
            patch: None,
            linked,
        }
    }

    /// Translated code for `target`, or else a new exit's.
    fn destination(&mut self, target: u64) -> (u64, bool) {
        let known = if target == self.plan.pc && !self.site.checked {
            let own = self.site.hot + u64::from(self.out.body);
            Some(self.next_round(own))
        } else {
            (self.find)(self.out.exits.len(), target)
        };
        match known {
            Some(to) => (to, true),
            None => (
                self.leave(target, self.plan.insts.len() as u16, true),
                false,
            ),
        }
    }

    /// Cold code that leaves for `target`; its address.
    fn leave(&mut self, target: u64, done: u16, counted: bool) -> u64 {
        let address = self.out.cold.here();
        self.mark_cold(target, done, counted, 0);
        let number = self.site.first_exit + self.out.exits.len() as u32 + 1;
        self.out.cold.store_value(slot::REASON, number);
        self.out.cold.jump(self.site.leave);
        address
    }

    fn exit(&mut self, target: u64, patch: u64, done: u16, kind: ExitKind, born_linked: bool) {
        self.out.exits.push(Exit {
            target,
            patch,
            done,
            kind,
            born_linked,
        });
    }

    fn branch(&mut self, condition: u8, target: u64, last: bool) {
        self.mark(0);
        if last && self.takes_time(target) && self.plan.findings.free_back {
            return self.branch_in_time(condition, target);
        }
        // Out of the middle it leads forward, which takes no time.
        let way = match last {
            true => self.way(target),
            false => self.straight(target),
        };
        let patch = self.out.hot.branch_patchable(condition, way.to);
        self.link(target, &way, patch, self.done + 1);
        self.done += 1;
        if last {
            return self.finish(self.plan.end());
        }
        self.block += 1;
        self.out.counters += 1;
        self.begin_block();
    }

    /// `loop` and `jrcxz`, which reach 127 bytes: over a jump.
    fn count_branch(&mut self, planned: &Planned, target: u64) {
        self.mark(0);
        let n = self.plan.insts.len() as u16;
        let taken = self.way(target);
        let bytes = self.plan.bytes_of(planned);
        self.out.hot.raw(&bytes[..bytes.len() - 1]);
        self.out.hot.raw(&[0]);
        let over = self.out.hot.bytes.len();
        let taken_index = self.out.exits.len();
        self.link(target, &taken, 0, n);
        self.finish(self.plan.end());
        self.out.hot.bytes[over - 1] = (self.out.hot.bytes.len() - over) as u8;
        self.done = n;
        self.mark_as(Pc::At(target), 0);
        let patch = self.out.hot.jump_patchable(taken.to);
        let patch = taken.patch.unwrap_or(self.site.hot + u64::from(patch));
        self.out.exits[taken_index].patch = patch;
    }

    fn call(&mut self, target: u64) {
        self.mark(0);
        self.push_return();
        self.finish(target);
    }

    fn system_call(&mut self) {
        let clock_read = self.read_clock_instead();
        let turns = self.site.machine.turns;
        let in_turn = turns.then(|| self.system_call_in_turn());
        if in_turn.is_none() {
            self.mark(0);
            self.out.hot.system_call();
        }
        if let Some(read) = clock_read {
            let behind = self.out.hot.here();
            self.clock_read(read, behind);
        }
        if let Some(call) = in_turn {
            self.ask_for_turn(call);
        }
        self.done = self.plan.insts.len() as u16;
        let next = self.plan.end();
        self.mark_as(Pc::At(next), spilled::CALL);
        self.out.hot.set(RCX, next);
        self.finish(next);
    }

    /// A client request: the tracer does what it asks for.
    fn request(&mut self, next: u64) {
        self.mark_as(Pc::At(self.plan.pc), 0);
        self.counted = true;
        // Until the tracer was asked it is not made: a thread that is taken out before makes it when it comes back.
        let leave = self.leave(self.plan.pc, 0, true);
        self.out.hot.jump(leave);
        self.exit(next, 0, 0, ExitKind::Request, false);
    }

    /// Compares the program's code with what was translated, and leaves if it is another. Flags are left alone.
    fn check(&mut self) {
        let pc = self.plan.pc;
        let bytes = self.plan.bytes.clone();
        let stale = self.stale();
        self.mark(0);
        self.out.hot.store(slot::RCX, RCX);
        self.mark(spilled::RCX);
        self.out.hot.store(slot::RAX, RAX);
        self.mark(spilled::RCX | spilled::RAX);
        let mut at = 0;
        while at < bytes.len() {
            // Aligned loads only: the program may have asked for faults on others (Intel SDM volume 1, AC flag).
            let aligned = (pc + at as u64).is_multiple_of(4);
            let four = bytes.get(at..at + 4).filter(|_| aligned);
            match four.and_then(|four| four.try_into().ok()) {
                Some(four) => {
                    // mov eax, [address]
                    self.out.hot.raw(&[0xa1]);
                    self.out.hot.raw(&(pc + at as u64).to_le_bytes());
                    self.differs(i32::from_le_bytes(four), stale);
                    at += 4;
                }
                None => {
                    self.out.hot.set_eax(0);
                    // mov al, [address]
                    self.out.hot.raw(&[0xa0]);
                    self.out.hot.raw(&(pc + at as u64).to_le_bytes());
                    self.differs(i32::from(bytes[at]), stale);
                    at += 1;
                }
            }
        }
        self.out.hot.restore_rcx();
        self.mark(spilled::RAX);
        self.out.hot.load(RAX, slot::RAX);
        self.mark(0);
    }

    /// Jumps to `stale` if eax is not `value`.
    fn differs(&mut self, value: i32, stale: u64) {
        self.out.hot.rax_less_to_ecx(value as u32);
        self.out.hot.skip_if_rcx_zero(5);
        self.out.hot.jump(stale);
    }

    /// Cold code for a unit whose code has changed; its address.
    fn stale(&mut self) -> u64 {
        let pc = self.plan.pc;
        let leave = self.leave(pc, 0, false);
        let address = self.out.cold.here();
        self.mark_cold(pc, 0, false, spilled::RCX | spilled::RAX);
        self.out.cold.load(RAX, slot::RAX);
        self.mark_cold(pc, 0, false, spilled::RCX);
        self.out.cold.restore_rcx();
        self.mark_cold(pc, 0, false, 0);
        let patch = self.out.cold.jump_patchable(leave);
        let patch = self.site.cold + u64::from(patch);
        self.exit(pc, patch, 0, ExitKind::Stale, false);
        address
    }
}
