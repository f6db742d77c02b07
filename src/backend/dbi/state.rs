//! From a thread that was stopped in translated code to the program's own state, and the correction of its counts.

use nix::libc::user_regs_struct;

use super::space::{Area, Space};
use crate::backend::regions::REQUEST_X86_64;
use crate::dbi::cache::Stand;
use crate::dbi::emit::{Between, Exit, ExitKind, Mark, Pc, spilled};
use crate::dbi::layout::{INDIRECT, slot};

/// Instructions of a unit's block that were not executed although its counter says so, or the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// The unit.
    pub unit: u32,
    /// Its instructions that are complete.
    pub done: u16,
    /// Whether the counter of the block that goes on there has all of it.
    pub counted: bool,
}

/// Where a program really is.
#[derive(Clone, Copy, Debug)]
pub struct Original {
    /// Its registers.
    pub registers: user_regs_struct,
    /// What to correct.
    pub partial: Option<Partial>,
}

/// The program's own registers of a thread that was stopped with `registers`; none where it is not in translated code.
/// `resumed_at` is the original address that the thread was last sent to.
pub fn original(
    space: &Space,
    area: usize,
    registers: &user_regs_struct,
    resumed_at: u64,
) -> Option<Original> {
    let stand = space.stand(registers.rip, area)?;
    let slots = &space.areas[area];
    Some(match stand {
        Stand::Between(between) => Original {
            registers: on_the_way(space, slots, registers, between, resumed_at),
            partial: before_call(space, slots, between),
        },
        Stand::Unit { unit, mark } => in_unit(slots, registers, unit, mark),
    })
}

fn load(area: &Area, at: u32) -> u64 {
    area.slots().load_u64(at.into())
}

fn on_the_way(
    space: &Space,
    area: &Area,
    registers: &user_regs_struct,
    between: Between,
    resumed_at: u64,
) -> user_regs_struct {
    let reason = load(area, slot::REASON) as u32;
    let rip = if between.answered {
        resumed_at
    } else if between.indirect || reason == INDIRECT {
        load(area, slot::TARGET)
    } else {
        let exit = space.translations.borrow().cache.exit(reason);
        exit.map_or(resumed_at, |exit| left_at(&exit))
    };
    user_regs_struct {
        rip,
        ..restored(area, registers, between.restore, 0)
    }
}

/// The unit of a thread that leaves for a system call, and has not made it: the call is the unit's last instruction.
fn before_call(space: &Space, area: &Area, between: Between) -> Option<Partial> {
    let reason = load(area, slot::REASON) as u32;
    let cache = &space.translations.borrow().cache;
    let exit = cache
        .exit(reason)
        .filter(|exit| exit.kind == ExitKind::Call)?;
    let leaves = !between.answered && !between.indirect;
    Some(Partial {
        unit: leaves.then(|| cache.left_by(reason))??,
        done: exit.done,
        counted: true,
    })
}

/// Where a thread is natively that leaves by an exit and has not said so.
fn left_at(exit: &Exit) -> u64 {
    match exit.kind {
        // Not made yet: it is made when the thread comes back.
        ExitKind::Request => exit.target - REQUEST_X86_64.len() as u64,
        _ => exit.target,
    }
}

fn in_unit(area: &Area, registers: &user_regs_struct, unit: u32, mark: Mark) -> Original {
    let rip = match mark.pc {
        Pc::At(pc) => pc,
        Pc::InRcx => registers.rcx,
        Pc::InSlot => load(area, slot::TARGET),
    };
    let mut registers = user_regs_struct {
        rip,
        ..restored(area, registers, mark.restore, mark.base)
    };
    if mark.restore & spilled::CALL != 0 {
        registers.rcx = rip;
    }
    let partial = Partial {
        unit,
        done: mark.done,
        counted: mark.counted,
    };
    Original {
        registers,
        partial: Some(partial),
    }
}

fn restored(area: &Area, registers: &user_regs_struct, which: u8, base: u8) -> user_regs_struct {
    let mut registers = *registers;
    if which & spilled::RCX != 0 {
        registers.rcx = load(area, slot::RCX);
    }
    if which & spilled::RAX != 0 {
        registers.rax = load(area, slot::RAX);
    }
    if which & spilled::R11 != 0 {
        registers.r11 = load(area, slot::R11);
    }
    if which & spilled::FLAGS != 0 {
        registers.eflags = with_flags(registers.eflags, load(area, slot::FLAGS));
    }
    if which & spilled::BASE != 0 {
        let value = load(area, slot::BASE);
        match base {
            0 => registers.rax = value,
            1 => registers.rcx = value,
            2 => registers.rdx = value,
            3 => registers.rbx = value,
            6 => registers.rsi = value,
            _ => registers.rdi = value,
        }
    }
    registers
}

/// `rflags` with the arithmetic flags that `lahf` and `seto al` have left in ax.
fn with_flags(rflags: u64, saved: u64) -> u64 {
    const LOW: u64 = 0xd5;
    const OVERFLOW: u64 = 1 << 11;
    rflags & !(LOW | OVERFLOW) | saved >> 8 & LOW | (saved & 1) << 11
}
