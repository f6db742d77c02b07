//! What a code cache leaves to the next run of the same program: the units that were executed, packed and linked.
//!
//! An image holds places in memory (addresses of the program's code and of the cache's zones), so it fits a program
//! that is laid out in the same way, and only where its code is the same: both are the caller's to check, a stretch of
//! code at a time, before [`Cache::activate`].

use std::mem::size_of;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::{AT_ENTRY, AddressMap, Cache, Memory, NONE, Unit};
use crate::dbi::assemble::Code;
use crate::dbi::cache::zone::Owner;
use crate::dbi::emit::{Emitted, Exit, ExitKind, Site, prologue};
use crate::dbi::layout::{COLD_START, MOST_COUNTERS};
use crate::dbi::plan::{CountAt, Plan};

/// A stretch of the program's code, and the translations of what is in it.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Piece {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Where its code is in [`Image::code`].
    code: u64,
    first_unit: u32,
    units: u32,
    zone: u32,
    hot: u32,
    hot_bytes: u32,
    cold: u32,
    cold_bytes: u32,
    spare: u32,
}

impl Piece {
    /// Its units.
    pub fn units(&self) -> Range<u32> {
        self.first_unit..self.first_unit + self.units
    }
}

/// Where the hot and the cold code of a zone ends.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Ends {
    hot: u32,
    cold: u32,
}

/// An [`Exit`] as it is stored; `counter` is [`NONE`] for none.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct StoredExit {
    target: u64,
    patch: u64,
    counter: u32,
    done: u16,
    stale: u8,
    born_linked: u8,
}

impl From<&Exit> for StoredExit {
    fn from(exit: &Exit) -> StoredExit {
        StoredExit {
            target: exit.target,
            patch: exit.patch,
            counter: exit.counter.unwrap_or(NONE),
            done: exit.done,
            stale: (exit.kind == ExitKind::Stale).into(),
            born_linked: exit.born_linked.into(),
        }
    }
}

impl From<&StoredExit> for Exit {
    fn from(stored: &StoredExit) -> Exit {
        Exit {
            target: stored.target,
            patch: stored.patch,
            counter: Some(stored.counter).filter(|counter| *counter != NONE),
            done: stored.done,
            kind: match stored.stale {
                0 => ExitKind::Link,
                _ => ExitKind::Stale,
            },
            born_linked: stored.born_linked != 0,
        }
    }
}

/// How many of each there are.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Counts {
    pieces: u64,
    zones: u64,
    units: u64,
    exits: u64,
    kept: u64,
    code: u64,
    counters: u64,
}

/// The image of a code cache.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pieces: Vec<Piece>,
    ends: Vec<Ends>,
    units: Vec<Unit>,
    exits: Vec<StoredExit>,
    kept: Vec<u8>,
    code: Vec<u8>,
    counters: u32,
}

/// Units to be kept, of one stretch of code.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Which.
    pub units: Vec<u32>,
}

impl Image {
    /// The stretches it is made of.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Number of its units.
    pub fn units(&self) -> u32 {
        self.units.len() as u32
    }

    /// Appends it to `bytes`, whose length is a multiple of 8.
    pub fn store(&self, bytes: &mut Vec<u8>) {
        let counts = Counts {
            pieces: self.pieces.len() as u64,
            zones: self.ends.len() as u64,
            units: self.units.len() as u64,
            exits: self.exits.len() as u64,
            kept: self.kept.len() as u64,
            code: self.code.len() as u64,
            counters: self.counters.into(),
        };
        bytes.extend_from_slice(bytemuck::bytes_of(&counts));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.pieces));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.ends));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.units));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.exits));
        bytes.extend_from_slice(&self.kept);
        bytes.extend_from_slice(&self.code);
    }

    /// What [`Image::store`] has made; none if the lengths do not fit. `bytes` is aligned to 8.
    pub fn load(bytes: &[u8]) -> Option<Image> {
        let mut rest = bytes;
        let counts: Counts = *take(&mut rest, 1)?.first()?;
        let image = Image {
            pieces: take(&mut rest, counts.pieces)?.to_vec(),
            ends: take(&mut rest, counts.zones)?.to_vec(),
            units: take(&mut rest, counts.units)?.to_vec(),
            exits: take(&mut rest, counts.exits)?.to_vec(),
            kept: take(&mut rest, counts.kept)?.to_vec(),
            code: take(&mut rest, counts.code)?.to_vec(),
            counters: u32::try_from(counts.counters).ok()?,
        };
        (rest.is_empty() && image.is_sound()).then_some(image)
    }

    /// Whether everything refers to something that is there.
    fn is_sound(&self) -> bool {
        let within =
            |first: u32, count: u16, all: usize| first as usize + usize::from(count) <= all;
        let unit = |unit: &Unit| {
            usize::from(unit.zone) < self.ends.len()
                && within(unit.bytes_at, unit.bytes, self.kept.len())
                && within(unit.first_exit, unit.exits, self.exits.len())
                && unit.counter < self.counters
        };
        let piece = |piece: &Piece| {
            let code = piece
                .code
                .checked_add(u64::from(piece.hot_bytes) + u64::from(piece.cold_bytes));
            piece.first_unit as u64 + u64::from(piece.units) <= self.units.len() as u64
                && (piece.zone as usize) < self.ends.len()
                && code.is_some_and(|end| end <= self.code.len() as u64)
        };
        self.counters <= MOST_COUNTERS
            && self.units.iter().all(unit)
            && self.pieces.iter().all(piece)
    }

    /// The hot and the cold code of a piece.
    fn code_of(&self, piece: &Piece) -> (&[u8], &[u8]) {
        let start = piece.code as usize;
        let middle = start + piece.hot_bytes as usize;
        let end = middle + piece.cold_bytes as usize;
        (&self.code[start..middle], &self.code[middle..end])
    }
}

/// The first `count` of what `bytes` holds.
fn take<'a, T: Pod>(bytes: &mut &'a [u8], count: u64) -> Option<&'a [T]> {
    let length = usize::try_from(count).ok()?.checked_mul(size_of::<T>())?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    bytemuck::try_cast_slice(taken).ok()
}

impl Cache {
    /// Takes over the numbering of an image: its units, exits and counters are there from now on, but nothing leads to
    /// them. The cache must be empty; whether it was, and has the zones that the image needs.
    pub fn adopt(&mut self, image: &Image) -> bool {
        if !self.units.is_empty() || image.ends.len() != self.zones.len() {
            return false;
        }
        self.units.extend_from_slice(&image.units);
        self.exits.extend(image.exits.iter().map(Exit::from));
        self.waiting_next.resize(self.exits.len(), NONE);
        self.kept.extend_from_slice(&image.kept);
        self.counters = image.counters;
        for (zone, ends) in self.zones.iter_mut().zip(&image.ends) {
            (zone.hot, zone.cold) = (ends.hot, ends.cold);
        }
        for (index, unit) in image.units.iter().enumerate() {
            let zone = &mut self.zones[usize::from(unit.zone)];
            zone.hot_owners.push((unit.hot, Owner::Unit(index as u32)));
            zone.cold_owners
                .push((unit.cold, Owner::Unit(index as u32)));
        }
        true
    }

    /// Puts the translations of a piece to use: the program's code there is what it was when the image was made.
    pub fn activate(&mut self, image: &Image, piece: &Piece, memory: &impl Memory) {
        let (hot, cold) = image.code_of(piece);
        let mut hot = hot.to_vec();
        let entries = self.chain(piece, &mut hot, memory);
        let offset = self.zones[piece.zone as usize].offset;
        memory.write(offset + u64::from(piece.cold), cold);
        memory.write(offset + u64::from(piece.hot), &hot);
        self.index.reserve(piece.units as usize);
        for number in piece.units() {
            self.index.insert(self.units[number as usize].pc, number);
        }
        for (pc, start) in entries {
            self.enter_table(pc, start, memory);
        }
    }

    /// Lets the entries for indirect branches of a piece lead on to what the table has now; new entries for the table.
    fn chain(&mut self, piece: &Piece, hot: &mut [u8], memory: &impl Memory) -> Vec<(u64, u64)> {
        let zone = piece.zone as usize;
        let (base, miss) = (self.zones[zone].base, self.zones[zone].common.miss);
        let mut entries = Vec::new();
        let mut heads: AddressMap<u64> = AddressMap::default();
        for number in piece.units() {
            let unit = self.units[number as usize];
            if unit.prologue == 0 {
                continue;
            }
            let start = base + u64::from(unit.prologue);
            let before = heads.insert(unit.pc & 0xffff, start);
            let before = before.map_or_else(|| self.bucket_head(zone, unit.pc, memory), Ok);
            // Without room for the way on, the entry is as good as none: it misses.
            let otherwise = before.unwrap_or(miss);
            if otherwise != miss {
                let mut code = Code::default();
                code.restart(start);
                prologue(&mut code, unit.pc, unit.flags_dead(), otherwise);
                let at = (unit.prologue - piece.hot) as usize;
                hot[at..at + code.bytes.len()].copy_from_slice(&code.bytes);
            }
            entries.push((unit.pc, start));
        }
        entries
    }

    /// The units that are current, by address: the first address of each, and its number.
    pub fn current(&self) -> Vec<(u64, u32)> {
        let mut all: Vec<(u64, u32)> = self.index.iter().map(|(pc, unit)| (*pc, *unit)).collect();
        all.sort_unstable();
        all
    }

    /// An image of these units, in order of address. Left out are units that look at their code themselves, client
    /// requests, and what leads directly out of its stretch.
    pub fn freeze(&self, stretches: Vec<Stretch>) -> Image {
        let mut freezer = Freezer::new(self);
        for mut stretch in stretches {
            let (start, end) = (stretch.start, stretch.end);
            stretch
                .units
                .retain(|unit| self.stays_within(*unit, start, end));
            freezer.stretch(&stretch);
        }
        freezer.image
    }

    fn stays_within(&self, number: u32, start: u64, end: u64) -> bool {
        let unit = &self.units[number as usize];
        let first = unit.first_exit as usize;
        let mut exits = self.exits[first..first + usize::from(unit.exits)].iter();
        !unit.checked()
            && !unit.request()
            && unit.pc + u64::from(unit.bytes) <= end
            && exits.all(|exit| start <= exit.target && exit.target < end)
    }
}

/// An image in the making.
struct Freezer<'a> {
    cache: &'a Cache,
    image: Image,
    plan: Plan,
    emitted: Emitted,
}

/// Where a freezer writes next.
#[derive(Clone, Copy)]
struct Cursor {
    hot: u32,
    cold: u32,
    counter: u32,
    exit: u32,
}

impl Freezer<'_> {
    fn new(cache: &Cache) -> Freezer<'_> {
        let ends = cache.zones.iter().map(|zone| Ends {
            hot: zone.first_hot(),
            cold: COLD_START,
        });
        Freezer {
            cache,
            image: Image {
                ends: ends.collect(),
                ..Image::default()
            },
            plan: Plan::default(),
            emitted: Emitted::default(),
        }
    }

    /// Twice over all units: first to learn where each will be, then to write them with their links.
    fn stretch(&mut self, stretch: &Stretch) {
        let zone = self.cache.nearest(stretch.start);
        let base = self.cache.zones[zone].base;
        let begin = Cursor {
            hot: self.image.ends[zone].hot.next_multiple_of(64),
            cold: self.image.ends[zone].cold.next_multiple_of(64),
            counter: self.image.counters,
            exit: self.image.exits.len() as u32,
        };
        let mut bodies: AddressMap<u64> = stretch
            .units
            .iter()
            .map(|unit| (self.cache.units[*unit as usize].pc, base))
            .collect();
        let mut at = begin;
        let mut places = Vec::with_capacity(stretch.units.len());
        for unit in &stretch.units {
            let before = at;
            self.unit(zone, *unit, &mut at, &bodies);
            places.push((
                self.plan.pc,
                base + u64::from(before.hot + self.emitted.body),
            ));
        }
        bodies.extend(places);
        let piece = Piece {
            start: stretch.start,
            end: stretch.end,
            code: self.image.code.len() as u64,
            first_unit: self.image.units.len() as u32,
            units: stretch.units.len() as u32,
            zone: zone as u32,
            hot: begin.hot,
            hot_bytes: at.hot - begin.hot,
            cold: begin.cold,
            cold_bytes: at.cold - begin.cold,
            spare: 0,
        };
        let mut cold = Vec::new();
        let mut at = begin;
        for unit in &stretch.units {
            let before = at;
            self.unit(zone, *unit, &mut at, &bodies);
            self.keep(*unit, zone, before);
            self.image.code.extend_from_slice(&self.emitted.hot.bytes);
            cold.extend_from_slice(&self.emitted.cold.bytes);
        }
        self.image.code.extend_from_slice(&cold);
        self.image.ends[zone] = Ends {
            hot: at.hot,
            cold: at.cold,
        };
        self.image.counters = at.counter;
        self.image.pieces.push(piece);
    }

    /// Makes a unit at a place; units of the stretch are at `bodies`.
    fn unit(&mut self, zone: usize, number: u32, at: &mut Cursor, bodies: &AddressMap<u64>) {
        let unit = &self.cache.units[number as usize];
        let zone = &self.cache.zones[zone];
        let count_at = match unit.count_at {
            AT_ENTRY => CountAt::Entry,
            at => CountAt::Free(usize::from(at)),
        };
        self.plan.again(
            unit.pc,
            self.cache.bytes_of(unit),
            unit.instructions,
            count_at,
            unit.flags_dead(),
        );
        let site = Site {
            hot: zone.base + u64::from(at.hot),
            cold: zone.base + u64::from(at.cold),
            table: self.cache.table,
            leave: zone.common.leave,
            counter: at.counter,
            first_exit: at.exit,
            otherwise: (unit.prologue != 0).then_some(zone.common.miss),
            checked: false,
            request: None,
        };
        self.emitted
            .make(&self.plan, &site, |_, target| bodies.get(&target).copied());
        at.hot += self.emitted.hot.offset();
        at.cold += self.emitted.cold.offset();
        at.counter += self.emitted.counters;
        at.exit += self.emitted.exits.len() as u32;
    }

    /// Remembers the unit that was made last.
    fn keep(&mut self, number: u32, zone: usize, place: Cursor) {
        let unit = &self.cache.units[number as usize];
        self.image.units.push(Unit {
            bytes_at: self.image.kept.len() as u32,
            hot: place.hot,
            cold: place.cold,
            body: self.emitted.body as u16,
            prologue: if unit.prologue != 0 { place.hot } else { 0 },
            counter: place.counter,
            first_exit: place.exit,
            exits: self.emitted.exits.len() as u16,
            zone: zone as u8,
            ..*unit
        });
        self.image.kept.extend_from_slice(&self.plan.bytes);
        self.image
            .exits
            .extend(self.emitted.exits.iter().map(StoredExit::from));
    }
}
