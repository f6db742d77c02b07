//! How pieces of translated code lead to each other: exits, the table of indirect branches, and taking both back.

use std::collections::HashSet;

use super::zone::Owner;
use super::{Cache, Full, Memory, NONE, Unit, reaches};
use crate::dbi::assemble::{Code, relative};
use crate::dbi::emit::{Exit, ExitKind, FITS_NONE, prologue};
use crate::dbi::layout::slot;
use crate::dbi::plan::LOOKED_AT;

impl Cache {
    /// Makes exit `reason` lead to `address`, which is a unit's body, if it reaches.
    pub fn link(&mut self, reason: u32, address: u64, memory: &impl Memory) {
        if let Some(exit) = self.exit(reason) {
            self.link_exit(&exit, address, memory);
        }
    }

    fn link_exit(&mut self, exit: &Exit, address: u64, memory: &impl Memory) {
        let Some(zone) = self.zone_of(exit.patch) else {
            return;
        };
        let to = match reaches(exit.patch, address) {
            true => Some(address),
            false => self.hop(zone, address, Owner::Way(exit.target), memory),
        };
        if let Some(distance) = to.and_then(|to| relative(exit.patch + 4, to)) {
            let zone = &self.zones[zone];
            memory.store_u32(exit.patch - zone.base + zone.offset, distance as u32);
        }
    }

    /// Cold code in a zone that jumps to an address anywhere.
    fn hop(
        &mut self,
        zone: usize,
        address: u64,
        owner: Owner,
        memory: &impl Memory,
    ) -> Option<u64> {
        // jmp qword [rip + 0]; the address
        let mut code = Code::default();
        code.raw(&[0xff, 0x25, 0, 0, 0, 0]);
        code.raw(&address.to_le_bytes());
        self.zones[zone].add_cold(&code.bytes, owner, memory)
    }

    /// Makes an exit leave the cache again.
    fn unlink(&mut self, number: u32, memory: &impl Memory) -> Result<(), Full> {
        let exit = self.exits[number as usize];
        let Some(zone) = self.zone_of(exit.patch) else {
            return Ok(());
        };
        let mut code = Code::default();
        code.restart(self.zones[zone].base + u64::from(self.zones[zone].cold));
        code.store_value(slot::REASON, number + 1);
        code.jump(self.zones[zone].common.leave);
        let owner = Owner::Way(exit.target);
        let leave = self.zones[zone]
            .add_cold(&code.bytes, owner, memory)
            .ok_or(Full::Zone)?;
        self.link_exit(&exit, leave, memory);
        if exit.kind == ExitKind::Stale {
            return Ok(());
        }
        let next = self.waiting.insert(exit.target, number).unwrap_or(NONE);
        self.waiting_next[number as usize] = next;
        Ok(())
    }

    /// Makes a unit's entry for indirect branches never fit.
    fn disable_prologue(&self, unit: &Unit, memory: &impl Memory) {
        if unit.prologue == 0 {
            return;
        }
        let zone = &self.zones[usize::from(unit.zone)];
        let mut code = Code::default();
        code.restart(zone.base + u64::from(unit.prologue));
        let skipped = prologue(&mut code, unit.pc, unit.flags_dead(), 0);
        let at = zone.offset + u64::from(unit.prologue) + u64::from(skipped);
        memory.store_u8(at, FITS_NONE);
    }

    /// Forgets the translations of what is in `start..end`, or rests on it, whose code is no longer what it was: nothing
    /// leads to them any more. A thread that is inside one leaves by its end.
    pub fn drop_range(&mut self, start: u64, end: u64, memory: &impl Memory) -> Result<(), Full> {
        self.release(start, end);
        let outside: HashSet<u64> = self
            .relies_on(start, end)
            .chain(self.rests_on(start, end))
            .map(|unit| unit.pc)
            .filter(|pc| !(start <= *pc && *pc < end))
            .collect();
        for pc in &outside {
            self.release(*pc, *pc + 1);
        }
        let gone = |pc: u64| start <= pc && pc < end || outside.contains(&pc);
        // Each exit there waits anew, once: those that wait already would else wait twice, in a circle.
        self.waiting.retain(|target, _| !gone(*target));
        for number in 0..self.exits.len() {
            let exit = self.exits[number];
            if !exit.kind.always_leaves() && gone(exit.target) {
                self.unlink(number as u32, memory)?;
            }
        }
        // Last, so that a caller who had to make room finds them again.
        for index in 0..self.units.len() {
            let unit = self.units[index];
            if gone(unit.pc) && self.index.get(&unit.pc) == Some(&(index as u32)) {
                self.index.remove(&unit.pc);
                self.disable_prologue(&unit, memory);
            }
        }
        Ok(())
    }

    /// What is translated of the code in `start..end` and does not look at its code itself.
    pub fn relies_on(&self, start: u64, end: u64) -> impl Iterator<Item = &Unit> {
        self.unchecked()
            .filter(move |unit| unit.overlaps(start, end))
    }

    /// What is translated elsewhere, and rests on which flags the code in `start..end` reads.
    pub fn rests_on(&self, start: u64, end: u64) -> impl Iterator<Item = &Unit> {
        let looked_at = move |exit: &Exit| {
            exit.kind == ExitKind::Link
                && exit.target < end
                && start < exit.target.saturating_add(LOOKED_AT)
        };
        self.unchecked().filter(move |unit| {
            unit.looks_behind()
                && !unit.overlaps(start, end)
                && self.exits_of(unit).iter().any(looked_at)
        })
    }

    fn unchecked(&self) -> impl Iterator<Item = &Unit> {
        self.current_units()
            .map(|index| &self.units[index as usize])
            .filter(|unit| !unit.checked())
    }

    /// Links a new unit: its exits wait for their targets, and those that waited for it have an end.
    pub(super) fn settle(&mut self, index: u32, memory: &impl Memory) {
        let unit = self.units[index as usize];
        self.index.insert(unit.pc, index);
        for at in 0..self.emitted.exits.len() {
            let exit = self.emitted.exits[at];
            let number = self.exits.len() as u32;
            self.exits.push(exit);
            let waits = exit.kind == ExitKind::Link && !exit.born_linked;
            let next = if waits {
                self.waiting.insert(exit.target, number).unwrap_or(NONE)
            } else {
                NONE
            };
            self.waiting_next.push(next);
        }
        let body = self.body(&unit);
        let mut next = self.waiting.remove(&unit.pc).unwrap_or(NONE);
        while next != NONE {
            let exit = self.exits[next as usize];
            self.link_exit(&exit, body, memory);
            next = self.waiting_next[next as usize];
        }
    }

    fn table_entry(&self, pc: u64) -> u64 {
        self.table_offset + 8 * (pc & 0xffff)
    }

    /// Where an indirect branch to an address like `pc` goes now, as an address that `zone` reaches.
    pub(super) fn bucket_head(
        &mut self,
        zone: usize,
        pc: u64,
        memory: &impl Memory,
    ) -> Result<u64, Full> {
        let head = memory.load_u64(self.table_entry(pc));
        if reaches(self.zones[zone].base, head) {
            return Ok(head);
        }
        self.hop(zone, head, Owner::Lookup, memory)
            .ok_or(Full::Zone)
    }

    pub(super) fn enter_table(&self, pc: u64, prologue: u64, memory: &impl Memory) {
        memory.store_u64(self.table_entry(pc), prologue);
    }

    /// Gives a unit an entry for indirect branches.
    pub(super) fn add_prologue(&mut self, index: u32, memory: &impl Memory) -> Result<(), Full> {
        let unit = self.units[index as usize];
        let zone = usize::from(unit.zone);
        let otherwise = self.bucket_head(zone, unit.pc, memory)?;
        let mut code = Code::default();
        code.restart(self.zones[zone].base + u64::from(self.zones[zone].cold));
        prologue(&mut code, unit.pc, unit.flags_dead(), otherwise);
        code.jump(self.body(&unit));
        let start = self.zones[zone]
            .add_cold(&code.bytes, Owner::Lookup, memory)
            .ok_or(Full::Zone)?;
        self.units[index as usize].prologue = (start - self.zones[zone].base) as u32;
        self.enter_table(unit.pc, start, memory);
        Ok(())
    }
}
