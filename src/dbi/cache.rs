//! The code cache of one address space: which original addresses are translated, where, and how the pieces are linked.
//!
//! Pure but for [`Memory`], through which code is written into memory that the program executes at the same time. So
//! what is written is always whole before anything leads to it: first the code, then the displacements of exits, then
//! the entries of the table.

mod ahead;
pub mod image;
mod links;
mod unit;
mod zone;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use self::ahead::{Ahead, Wanted};
use self::image::Adopted;
use self::unit::is;
pub use self::unit::{Block, Unit};
use self::zone::{Owner, Zone};
use super::emit::{Between, Emitted, Exit, ExitKind, Mark, Pc, Site, spilled};
use super::layout::{COLD_START, MAGIC_CALL, MOST_COUNTERS, REACH, TABLE_ENTRIES, ZONE_BYTES};
use super::plan::{Findings, Limits, MARKER_BYTES, NoUnit, Plan, Source};
use crate::model::Machine;

/// Memory that a program executes while we write it.
pub trait Memory {
    /// Writes bytes that nothing leads to yet.
    fn write(&self, offset: u64, bytes: &[u8]);
    /// Makes so many words this value; nothing leads there yet.
    fn fill(&self, offset: u64, words: usize, value: u64);
    /// Stores a byte, behind everything written before.
    fn store_u8(&self, offset: u64, value: u8);
    /// Stores four bytes at once, behind everything written before.
    fn store_u32(&self, offset: u64, value: u32);
    /// Stores eight bytes at once, behind everything written before.
    fn store_u64(&self, offset: u64, value: u64);
    /// Reads eight bytes.
    fn load_u64(&self, offset: u64) -> u64;
}

/// A map from addresses: their bits are mixed by one multiplication (Fibonacci hashing, Knuth volume 3, 6.4).
pub type AddressMap<V> = HashMap<u64, V, BuildHasherDefault<AddressHasher>>;

/// The hasher of [`AddressMap`].
#[derive(Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

/// No unit, or no exit.
const NONE: u32 = u32::MAX;

/// Where a thread stands that was stopped in translated code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// In a unit.
    Unit {
        /// Which.
        unit: u32,
        /// What its state means.
        mark: Mark,
    },
    /// On its way between units.
    Between(Between),
}

/// Why a cache cannot take more code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// A zone has no room.
    #[error("the code cache is full")]
    Zone,
    /// No counters are left.
    #[error("all counters are in use")]
    Counters,
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTranslation {
    /// There is nothing to translate, or it cannot be.
    #[error(transparent)]
    Unit(#[from] NoUnit),
    /// There is no room: the cache must be emptied.
    #[error(transparent)]
    Full(#[from] Full),
}

/// What a program's code is like at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ground {
    /// Whether it may change without our being told.
    pub volatile: bool,
    /// Whether the program can write it where it executes it.
    pub writable: bool,
}

/// Original code, and what is known about it.
pub trait Program: Source {
    /// What the memory at `pc` is like.
    fn ground(&self, pc: u64) -> Ground;
}

/// How to translate.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Tells code of a marker.
    pub marker: fn(&[u8]) -> bool,
    /// Length of the client request that code begins with, where these are wanted.
    pub request: fn(&[u8]) -> Option<u8>,
    /// Units that one stop may translate ahead.
    pub budget: usize,
}

/// The code cache.
#[derive(Debug)]
pub struct Cache {
    machine: Machine,
    /// The system call by which code leaves.
    magic: u32,
    /// Whether all current units are timed.
    timed: bool,
    zones: Vec<Zone>,
    table: u32,
    table_offset: u64,
    units: Vec<Unit>,
    exits: Vec<Exit>,
    /// The next exit that waits for the same target, by exit.
    waiting_next: Vec<u32>,
    /// The first exit that waits for a target.
    waiting: AddressMap<u32>,
    index: AddressMap<u32>,
    /// Units of an earlier run, found by themselves.
    adopted: Vec<Adopted>,
    kept: Vec<u8>,
    counters: u32,
    plan: Plan,
    emitted: Emitted,
    ahead: Ahead,
}

/// A place for a zone: its address in the program and its offset in the shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address in the program.
    pub address: u64,
    /// Offset in the shared memory.
    pub offset: u64,
}

impl Cache {
    /// An empty cache in these zones, with its table at `table`, which is below 2 GiB, for programs that are shown `machine`.
    pub fn new(zones: &[Place], table: Place, machine: Machine, memory: &impl Memory) -> Cache {
        let zones: Vec<Zone> = zones
            .iter()
            .map(|place| Zone::new(*place, memory))
            .collect();
        let cache = Cache {
            machine,
            magic: MAGIC_CALL,
            timed: false,
            table: table.address as u32,
            table_offset: table.offset,
            units: Vec::new(),
            exits: Vec::new(),
            waiting_next: Vec::new(),
            waiting: AddressMap::default(),
            index: AddressMap::default(),
            adopted: Vec::new(),
            kept: Vec::new(),
            counters: 0,
            plan: Plan::default(),
            emitted: Emitted::default(),
            ahead: Ahead::default(),
            zones,
        };
        memory.fill(table.offset, TABLE_ENTRIES, cache.zones[0].common.miss);
        cache
    }

    /// The `syscall` instruction that can be used for calls made for us.
    pub fn system_call(&self) -> u64 {
        self.zones[0].common.call
    }

    /// The units.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The unit that begins at an original address.
    pub fn unit_at(&self, pc: u64) -> Option<&Unit> {
        self.units.get(self.find(pc)? as usize)
    }

    fn exits_of(&self, unit: &Unit) -> &[Exit] {
        let first = unit.first_exit as usize;
        self.exits
            .get(first..first + usize::from(unit.exits))
            .unwrap_or_default()
    }

    /// The basic blocks of a unit.
    pub fn blocks(&self, unit: &Unit) -> impl Iterator<Item = Block> {
        let all = unit.instructions;
        let from_middle = move |exit: &&Exit| exit.kind == ExitKind::Link && exit.done < all;
        let ends = self.exits_of(unit).iter().filter(from_middle);
        let ends = ends.map(|exit| exit.done).chain([all]);
        let mut from = 0;
        ends.zip(unit.counter..).map(move |(to, counter)| Block {
            counter,
            from: std::mem::replace(&mut from, to),
            to,
        })
    }

    /// The block of a unit that goes on where so many of its instructions are complete.
    pub fn block_at(&self, unit: &Unit, done: u16) -> Option<Block> {
        let mut blocks = self.blocks(unit);
        blocks.find(|block| done < block.to || block.to == unit.instructions)
    }

    /// Of a unit that asks: the counter of how often nobody has answered, and the instructions complete then.
    pub fn unanswered(&self, unit: &Unit) -> Option<(u32, u16)> {
        let mut exits = self.exits_of(unit).iter();
        let exit = exits.find(|exit| exit.kind == ExitKind::Ask)?;
        Some((unit.counter + 1, exit.done))
    }

    /// Counters in use.
    pub fn counters(&self) -> u32 {
        self.counters
    }

    /// The original bytes of a unit.
    pub fn bytes_of(&self, unit: &Unit) -> &[u8] {
        let start = unit.bytes_at as usize;
        self.kept
            .get(start..start + usize::from(unit.bytes))
            .unwrap_or_default()
    }

    /// The exit that a thread's reason names.
    pub fn exit(&self, reason: u32) -> Option<Exit> {
        self.exits.get(reason.checked_sub(1)? as usize).copied()
    }

    /// The unit that a thread leaves with this reason.
    pub fn left_by(&self, reason: u32) -> Option<u32> {
        let number = reason.checked_sub(1)?;
        let behind = self.units.partition_point(|unit| unit.first_exit <= number);
        u32::try_from(behind.checked_sub(1)?).ok()
    }

    /// Whether an address is in the cache.
    pub fn contains(&self, address: u64) -> bool {
        self.zone_of(address).is_some()
    }

    /// Memory that the cache occupies in the program: start and end.
    pub fn places(&self) -> impl Iterator<Item = (u64, u64)> {
        let table = u64::from(self.table);
        let zones = self
            .zones
            .iter()
            .map(|zone| (zone.base, zone.base + ZONE_BYTES));
        zones.chain([(table, table + super::layout::TABLE_BYTES)])
    }

    fn zone_of(&self, address: u64) -> Option<usize> {
        self.zones
            .iter()
            .position(|zone| address.wrapping_sub(zone.base) < ZONE_BYTES)
    }

    fn body(&self, unit: &Unit) -> u64 {
        self.zones[usize::from(unit.zone)].base + u64::from(unit.hot) + u64::from(unit.body)
    }

    /// The translation of `pc`, made if it is not there, and of what follows from it. `indirect`: an indirect branch
    /// led there, and shall find it by itself from now on.
    pub fn translate(
        &mut self,
        pc: u64,
        indirect: bool,
        program: &mut impl Program,
        memory: &impl Memory,
        manner: &Manner,
    ) -> Result<u64, NoTranslation> {
        let first = self.one(Wanted::now(pc, indirect), program, memory, manner)?;
        for _ in 0..manner.budget {
            let Some(wanted) = self.ahead.next() else {
                break;
            };
            // What cannot be translated ahead is met again when it is reached.
            let _ = self.one(wanted, program, memory, manner);
        }
        self.ahead.clear();
        Ok(first)
    }

    /// The same for a unit whose code has changed.
    pub fn translate_again(
        &mut self,
        pc: u64,
        program: &mut impl Program,
        memory: &impl Memory,
        manner: &Manner,
    ) -> Result<u64, NoTranslation> {
        let before = self.index.remove(&pc);
        let indirect = before.is_some_and(|unit| self.units[unit as usize].prologue != 0);
        self.translate(pc, indirect, program, memory, manner)
    }

    fn one(
        &mut self,
        wanted: Wanted,
        program: &mut impl Program,
        memory: &impl Memory,
        manner: &Manner,
    ) -> Result<u64, NoTranslation> {
        if let Some(index) = self.find(wanted.pc) {
            let unit = self.units[index as usize];
            if wanted.indirect && unit.prologue == 0 {
                self.add_prologue(index, memory)?;
            }
            return Ok(self.body(&unit));
        }
        let mut plan = std::mem::take(&mut self.plan);
        let made = self.make(&mut plan, wanted, program, memory, manner);
        self.plan = plan;
        made
    }

    fn make(
        &mut self,
        plan: &mut Plan,
        wanted: Wanted,
        program: &mut impl Program,
        memory: &impl Memory,
        manner: &Manner,
    ) -> Result<u64, NoTranslation> {
        let ground = program.ground(wanted.pc);
        let volatile = ground.volatile;
        let request = (manner.request)(program.code(wanted.pc, MARKER_BYTES));
        if let Some(length) = request {
            plan.again(
                wanted.pc,
                program.code(wanted.pc, usize::from(length)),
                0,
                Findings::default(),
            );
            plan.marker = true;
        } else {
            let known = |pc| self.find(pc).is_some();
            let limits = Limits {
                steady: !volatile,
                until_store: ground.writable,
                known: &known,
                marker: manner.marker,
                timed: self.timed,
            };
            plan.make(wanted.pc, program, &limits)?;
        }
        let index = self.emit(plan, wanted.indirect, volatile, request.is_some(), memory)?;
        let exits = &self.emitted.exits;
        self.ahead.follow(wanted, plan, exits);
        Ok(self.body(&self.units[index as usize]))
    }

    /// The nearest zone to a piece of code.
    fn nearest(&self, pc: u64) -> usize {
        self.nearest_of(pc, |_| true).unwrap_or(0)
    }

    fn nearest_of(&self, pc: u64, suits: impl Fn(&Zone) -> bool) -> Option<usize> {
        let zones = self.zones.iter().enumerate();
        let nearest = zones
            .filter(|(_, zone)| suits(zone))
            .min_by_key(|(_, zone)| zone.base.abs_diff(pc));
        nearest.map(|(index, _)| index)
    }

    /// The zone for a new translation of a piece of code: the nearest; where that takes no more, the nearest of those that do
    /// and are within reach.
    fn zone_for(&self, pc: u64) -> Result<usize, Full> {
        let nearest = self.nearest(pc);
        if self.zones[nearest].takes_units() {
            return Ok(nearest);
        }
        let suits = |zone: &Zone| zone.takes_units() && reaches(zone.base, pc);
        self.nearest_of(pc, suits).ok_or(Full::Zone)
    }

    fn emit(
        &mut self,
        plan: &Plan,
        indirect: bool,
        checked: bool,
        request: bool,
        memory: &impl Memory,
    ) -> Result<u32, Full> {
        let zone = self.zone_for(plan.pc)?;
        let otherwise = indirect
            .then(|| self.bucket_head(zone, plan.pc, memory))
            .transpose()?;
        let site = self.site(zone, plan, otherwise, checked, request);
        let mut emitted = std::mem::take(&mut self.emitted);
        let base = self.zones[zone].base;
        emitted.make(plan, &site, |_, target| {
            let unit = self.units.get(self.find(target)? as usize)?;
            Some(self.body(unit)).filter(|to| reaches(base, *to))
        });
        let added = self.add(plan, zone, &site, &emitted, memory);
        self.emitted = emitted;
        let index = added?;
        self.settle(index, memory);
        if indirect {
            let start = site.hot;
            self.enter_table(plan.pc, start, memory);
        }
        Ok(index)
    }

    fn site(
        &self,
        zone: usize,
        plan: &Plan,
        otherwise: Option<u64>,
        checked: bool,
        request: bool,
    ) -> Site {
        let zone = &self.zones[zone];
        Site {
            hot: zone.base + u64::from(zone.hot),
            cold: zone.base + u64::from(zone.cold),
            table: self.table,
            leave: zone.common.leave,
            miss: zone.common.miss,
            counter: self.counters,
            first_exit: self.exits.len() as u32,
            otherwise,
            checked,
            request: request.then(|| plan.end()),
            timed: self.timed,
            machine: self.machine,
        }
    }

    /// Room for what a program of some size executes, so that it need not be moved again and again.
    fn make_room(&mut self) {
        const UNITS: usize = 1 << 16;
        const EXITS: usize = 2 * UNITS;
        const BYTES: usize = 32 * UNITS;
        self.units.reserve(UNITS);
        self.exits.reserve(EXITS);
        self.waiting_next.reserve(EXITS);
        self.kept.reserve(BYTES);
    }

    /// Writes a unit and remembers it.
    fn add(
        &mut self,
        plan: &Plan,
        zone_index: usize,
        site: &Site,
        emitted: &Emitted,
        memory: &impl Memory,
    ) -> Result<u32, Full> {
        let index = self.units.len() as u32;
        if index == 0 {
            self.make_room();
        }
        let zone = &mut self.zones[zone_index];
        if self.counters + emitted.counters > MOST_COUNTERS {
            return Err(Full::Counters);
        }
        let cold = zone.cold;
        let hot = zone.hot;
        zone.room(emitted)?;
        if !emitted.cold.bytes.is_empty() {
            zone.add_cold(&emitted.cold.bytes, Owner::Unit(index), memory);
        }
        memory.write(zone.offset + u64::from(hot), &emitted.hot.bytes);
        zone.hot_owners.push((hot, Owner::Unit(index)));
        zone.hot += emitted.hot.offset();
        let findings = plan.findings;
        self.units.push(Unit {
            pc: plan.pc,
            bytes_at: self.kept.len() as u32,
            bytes: plan.bytes.len() as u16,
            instructions: plan.insts.len() as u16,
            hot,
            cold,
            body: emitted.body as u16,
            count_at: unit::stored(findings.count_at),
            zone: zone_index as u8,
            prologue: if site.otherwise.is_some() { hot } else { 0 },
            is: [
                (findings.flags_dead, is::FLAGS_DEAD),
                (site.checked, is::CHECKED),
                (plan.marker, is::MARKER),
                (site.request.is_some(), is::REQUEST),
                (findings.looks_behind, is::LOOKS_BEHIND),
                (site.timed, is::TIMED),
                (findings.free_back, is::FREE_BACK),
            ]
            .iter()
            .map(|(it, bit)| if *it { *bit } else { 0 })
            .sum(),
            counter: site.counter,
            first_exit: site.first_exit,
            exits: emitted.exits.len() as u8,
        });
        self.kept.extend_from_slice(&plan.bytes);
        self.counters += emitted.counters;
        Ok(index)
    }

    /// Where a thread stands whose instruction pointer is `address`, in the cache, and whose reason to leave is `reason`.
    pub fn stand(&self, address: u64, reason: u32) -> Option<Stand> {
        let number = self.zone_of(address)?;
        let zone = &self.zones[number];
        if let Some(between) = zone.common.between(address, reason) {
            return Some(Stand::Between(between));
        }
        let adopted = self.adopted_owner(number, (address - zone.base) as u32);
        match adopted.map_or_else(|| zone.owner(address), |unit| Some(Owner::Unit(unit)))? {
            Owner::Unit(unit) => {
                let mark = self.emit_again(unit)?.mark_at(address)?;
                Some(Stand::Unit { unit, mark })
            }
            Owner::Lookup => Some(Stand::Between(Between {
                restore: spilled::RCX,
                indirect: true,
                answered: false,
            })),
            Owner::Way(target) => Some(Stand::Unit {
                unit: NONE,
                mark: Mark {
                    at: 0,
                    pc: Pc::At(target),
                    done: 0,
                    counted: true,
                    restore: 0,
                    base: 0,
                },
            }),
        }
    }

    /// The plan of a unit as it was.
    fn plan_again(&self, unit: &Unit, plan: &mut Plan) {
        let bytes = self.bytes_of(unit);
        plan.again(unit.pc, bytes, unit.instructions, unit.findings());
        plan.timed = unit.timed();
    }

    /// Whether the code around a unit still says what it said when the unit was made.
    pub fn is_found_again(&self, unit: &Unit, source: &mut impl Source) -> bool {
        let mut plan = Plan::default();
        self.plan_again(unit, &mut plan);
        plan.look_behind(source);
        plan.findings == unit.findings()
    }

    /// A unit as it was made, to learn what the places in its code mean.
    fn emit_again(&self, index: u32) -> Option<Emitted> {
        let unit = self.units.get(index as usize)?;
        let zone = self.zones.get(usize::from(unit.zone))?;
        let mut plan = Plan::default();
        self.plan_again(unit, &mut plan);
        let site = Site {
            hot: zone.base + u64::from(unit.hot),
            cold: zone.base + u64::from(unit.cold),
            table: self.table,
            leave: zone.common.leave,
            miss: zone.common.miss,
            counter: unit.counter,
            first_exit: unit.first_exit,
            otherwise: (unit.body > 0).then_some(zone.common.miss),
            checked: unit.checked(),
            request: unit.request().then(|| plan.end()),
            timed: unit.timed(),
            machine: self.machine,
        };
        let mut emitted = Emitted::default();
        emitted.make_with_marks(&plan, &site, |at, _| {
            let exit = self.exits.get(unit.first_exit as usize + at)?;
            exit.born_linked.then_some(zone.base)
        });
        Some(emitted)
    }

    /// Changes the number of the system call by which code leaves.
    pub fn set_magic(&mut self, number: u32, memory: &impl Memory) {
        self.magic = number;
        for zone in &self.zones {
            memory.store_u32(zone.common.number - zone.base + zone.offset, number);
        }
    }

    /// A copy of this cache for memory that holds a copy of its code at `offset_of` each of its places.
    pub fn moved(&self, zones: &[u64], table: u64) -> Cache {
        let mut copy = Cache {
            machine: self.machine,
            magic: self.magic,
            timed: self.timed,
            zones: self.zones.clone(),
            table: self.table,
            table_offset: table,
            units: self.units.clone(),
            exits: self.exits.clone(),
            waiting_next: self.waiting_next.clone(),
            waiting: self.waiting.clone(),
            index: self.index.clone(),
            adopted: self.adopted.clone(),
            kept: self.kept.clone(),
            counters: self.counters,
            plan: Plan::default(),
            emitted: Emitted::default(),
            ahead: Ahead::default(),
        };
        for (zone, offset) in copy.zones.iter_mut().zip(zones) {
            zone.offset = *offset;
        }
        copy
    }

    /// The stretches of shared memory that hold code: offset, length and zone of each.
    pub fn written(&self) -> Vec<(u64, u64, usize)> {
        let mut all = Vec::new();
        for (number, zone) in self.zones.iter().enumerate() {
            all.push((zone.offset, u64::from(zone.hot), number));
            let cold = u64::from(zone.cold - COLD_START);
            all.push((zone.offset + u64::from(COLD_START), cold, number));
        }
        all
    }

    /// Where its zones are.
    pub fn zone_places(&self) -> Vec<Place> {
        let place = |zone: &Zone| Place {
            address: zone.base,
            offset: zone.offset,
        };
        self.zones.iter().map(place).collect()
    }

    /// Where its table is.
    pub fn table_place(&self) -> Place {
        Place {
            address: self.table.into(),
            offset: self.table_offset,
        }
    }

    /// Whether all code can be stopped after so many rounds.
    pub fn is_timed(&self) -> bool {
        self.timed
    }

    /// From now on it can; what is translated so far is forgotten.
    pub fn make_timed(&mut self, memory: &impl Memory) -> Result<(), Full> {
        if !self.timed {
            self.drop_range(0, u64::MAX, memory)?;
            self.timed = true;
        }
        Ok(())
    }

    /// Goes on in a new zone.
    pub fn add_zone(&mut self, place: Place, memory: &impl Memory) {
        self.zones.push(Zone::new(place, memory));
        self.set_magic(self.magic, memory);
    }
}

/// Whether code at `from` and within a zone of it reaches `to` with 32 bits.
fn reaches(from: u64, to: u64) -> bool {
    from.abs_diff(to) < REACH
}

#[cfg(test)]
#[path = "cache/cache_tests.rs"]
mod tests;
