//! What a code cache leaves to the next run of the same program: the units that were executed, packed and linked.
//!
//! An image holds places in memory (addresses of the program's code and of the cache's zones), so it fits a program
//! that is laid out in the same way, and only where its code is the same: both are the caller's to check, a stretch of
//! code at a time, before [`Cache::activate`].

use std::mem::size_of;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::unit::is;
use super::{AddressMap, Cache, Memory, NONE, Unit};
use crate::dbi::assemble::Code;
use crate::dbi::emit::{Emitted, Exit, ExitKind, Site, prologue};
use crate::dbi::layout::{COLD_START, MOST_COUNTERS, ZONE_BYTES};
use crate::dbi::plan::Plan;

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

/// An [`Exit`] as it is stored.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct StoredExit {
    target: u64,
    patch: u64,
    done: u16,
    kind: u8,
    born_linked: u8,
    spare: u32,
}

/// Kinds of exits by their stored numbers.
const KINDS: [ExitKind; 6] = [
    ExitKind::Link,
    ExitKind::Stale,
    ExitKind::Request,
    ExitKind::Ask,
    ExitKind::Call,
    ExitKind::Turn,
];

impl From<&Exit> for StoredExit {
    fn from(exit: &Exit) -> StoredExit {
        StoredExit {
            target: exit.target,
            patch: exit.patch,
            done: exit.done,
            kind: KINDS
                .iter()
                .position(|kind| *kind == exit.kind)
                .unwrap_or(0) as u8,
            born_linked: exit.born_linked.into(),
            spare: 0,
        }
    }
}

impl From<&StoredExit> for Exit {
    fn from(stored: &StoredExit) -> Exit {
        Exit {
            target: stored.target,
            patch: stored.patch,
            done: stored.done,
            kind: KINDS[usize::from(stored.kind) % KINDS.len()],
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
    timed: u64,
}

/// An image in the making: see [`Cache::freeze`].
#[derive(Clone, Debug, Default)]
pub struct Frozen {
    pieces: Vec<Piece>,
    ends: Vec<Ends>,
    units: Vec<Unit>,
    exits: Vec<StoredExit>,
    kept: Vec<u8>,
    code: Vec<u8>,
    counters: u32,
    timed: bool,
}

/// The image of a code cache, in bytes that somebody else keeps.
pub struct Image {
    bytes: Box<dyn AsRef<[u8]>>,
    pieces: Range<usize>,
    ends: Range<usize>,
    units: Range<usize>,
    exits: Range<usize>,
    kept: Range<usize>,
    code: Range<usize>,
    counters: u32,
    /// Whether it is timed.
    timed: bool,
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

impl Frozen {
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
            timed: self.timed.into(),
        };
        bytes.extend_from_slice(bytemuck::bytes_of(&counts));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.pieces));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.ends));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.units));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.exits));
        bytes.extend_from_slice(&self.kept);
        bytes.extend_from_slice(&self.code);
    }
}

impl Image {
    /// What [`Frozen::store`] has appended to the first `at` bytes, aligned to 8; none where it is not whole.
    pub fn load(bytes: Box<dyn AsRef<[u8]>>, at: usize) -> Option<Image> {
        let all = (*bytes).as_ref();
        let mut sections = Sections { all, next: at };
        let counts = sections.take::<Counts>(1)?;
        let counts: Counts = *bytemuck::from_bytes(&all[counts]);
        let image = Image {
            pieces: sections.take::<Piece>(counts.pieces)?,
            ends: sections.take::<Ends>(counts.zones)?,
            units: sections.take::<Unit>(counts.units)?,
            exits: sections.take::<StoredExit>(counts.exits)?,
            kept: sections.take::<u8>(counts.kept)?,
            code: sections.take::<u8>(counts.code)?,
            counters: u32::try_from(counts.counters).ok()?,
            timed: counts.timed != 0,
            bytes,
        };
        image.is_sound().then_some(image)
    }

    fn section<T: Pod>(&self, range: &Range<usize>) -> &[T] {
        bytemuck::cast_slice(&(*self.bytes).as_ref()[range.clone()])
    }

    /// The stretches it is made of.
    pub fn pieces(&self) -> &[Piece] {
        self.section(&self.pieces)
    }

    /// Whether it is timed.
    pub fn is_timed(&self) -> bool {
        self.timed
    }

    /// Number of its units.
    pub fn units(&self) -> u32 {
        (self.units.len() / size_of::<Unit>()) as u32
    }

    /// Whether everything refers to something that is there.
    fn is_sound(&self) -> bool {
        let within = |first: u32, count: usize, all: usize| first as usize + count <= all;
        let zones = self.ends.len() / size_of::<Ends>();
        let exits = self.exits.len() / size_of::<StoredExit>();
        let unit = |unit: &Unit| {
            usize::from(unit.zone) < zones
                && within(unit.bytes_at, unit.bytes.into(), self.kept.len())
                && within(unit.first_exit, unit.exits.into(), exits)
                && unit.counter < self.counters
        };
        let piece = |piece: &Piece| {
            let code = u64::from(piece.hot_bytes) + u64::from(piece.cold_bytes);
            let end = piece.code.checked_add(code);
            u64::from(piece.first_unit) + u64::from(piece.units) <= u64::from(self.units())
                && (piece.zone as usize) < zones
                && end.is_some_and(|end| end <= self.code.len() as u64)
        };
        self.counters <= MOST_COUNTERS
            && self.section(&self.units).iter().all(unit)
            && self.pieces().iter().all(piece)
    }

    /// The hot and the cold code of a piece.
    fn code_of(&self, piece: &Piece) -> (&[u8], &[u8]) {
        let code = self.section(&self.code);
        let start = piece.code as usize;
        let middle = start + piece.hot_bytes as usize;
        let end = middle + piece.cold_bytes as usize;
        (&code[start..middle], &code[middle..end])
    }
}

/// Where things are in bytes, one behind the other.
struct Sections<'a> {
    all: &'a [u8],
    next: usize,
}

impl Sections<'_> {
    fn take<T: Pod>(&mut self, count: u64) -> Option<Range<usize>> {
        let length = usize::try_from(count).ok()?.checked_mul(size_of::<T>())?;
        let range = self.next..self.next.checked_add(length)?;
        bytemuck::try_cast_slice::<u8, T>(self.all.get(range.clone())?).ok()?;
        self.next = range.end;
        Some(range)
    }
}

/// A piece of an image that a cache has taken over. Its units are in order of address, and of place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Adopted {
    piece: Piece,
    /// Whether its units are looked up here: it is in use, and all of it is current.
    active: bool,
}

impl Cache {
    /// Takes over the numbering of an image: its units, exits and counters are there from now on, but nothing leads to
    /// them. The cache must be empty; whether it was, and has the zones that the image needs.
    pub fn adopt(&mut self, image: &Image) -> bool {
        let ends: &[Ends] = image.section(&image.ends);
        let suits = image.timed || !self.timed;
        if !self.units.is_empty() || ends.len() != self.zones.len() || !suits {
            return false;
        }
        self.units.extend_from_slice(image.section(&image.units));
        let exits: &[StoredExit] = image.section(&image.exits);
        self.exits.extend(exits.iter().map(Exit::from));
        self.waiting_next.resize(self.exits.len(), NONE);
        self.kept.extend_from_slice(image.section(&image.kept));
        self.counters = image.counters;
        self.timed = image.timed;
        for (zone, ends) in self.zones.iter_mut().zip(ends) {
            (zone.hot, zone.cold) = (ends.hot, ends.cold);
        }
        let adopted = image.pieces().iter().map(|piece| Adopted {
            piece: *piece,
            active: false,
        });
        self.adopted = adopted.collect();
        true
    }

    /// Puts the translations of a piece to use: the program's code there is what it was when the image was made, and
    /// nothing there was translated since.
    pub fn activate(&mut self, image: &Image, number: usize, memory: &impl Memory) {
        let piece = self.adopted[number].piece;
        let (hot, cold) = image.code_of(&piece);
        let offset = self.zones[piece.zone as usize].offset;
        memory.write(offset + u64::from(piece.cold), cold);
        memory.write(offset + u64::from(piece.hot), hot);
        let entries = self.chain(&piece, memory);
        self.adopted[number].active = true;
        for (pc, start) in entries {
            self.enter_table(pc, start, memory);
        }
    }

    /// Whether the translations of an image are of the same kind as those that are made here.
    pub fn suits(&self, image: &Image) -> bool {
        self.timed == image.timed
    }

    /// The unit that is current at `pc`.
    pub(super) fn find(&self, pc: u64) -> Option<u32> {
        if let Some(unit) = self.index.get(&pc) {
            return Some(*unit);
        }
        let inside = |adopted: &&Adopted| {
            adopted.active && adopted.piece.start <= pc && pc < adopted.piece.end
        };
        let piece = self.adopted.iter().find(inside)?.piece;
        let units = &self.units[piece.first_unit as usize..][..piece.units as usize];
        let at = units.binary_search_by_key(&pc, |unit| unit.pc).ok()?;
        Some(piece.first_unit + at as u32)
    }

    /// Lets units of adopted pieces in `start..end` be found like any other, so that they can be forgotten.
    pub(super) fn release(&mut self, start: u64, end: u64) {
        for adopted in &mut self.adopted {
            let piece = adopted.piece;
            if adopted.active && piece.start < end && start < piece.end {
                adopted.active = false;
                for number in piece.units() {
                    self.index.insert(self.units[number as usize].pc, number);
                }
            }
        }
    }

    /// Every unit that is current.
    pub(super) fn current_units(&self) -> impl Iterator<Item = u32> {
        let active = self.adopted.iter().filter(|adopted| adopted.active);
        let adopted = active.flat_map(|adopted| adopted.piece.units());
        self.index.values().copied().chain(adopted)
    }

    /// Whose code is at an offset of a zone, if it is an adopted piece's.
    pub(super) fn adopted_owner(&self, zone: usize, offset: u32) -> Option<u32> {
        let hot = offset < COLD_START;
        let place = |piece: &Piece| match hot {
            true => (piece.hot, piece.hot_bytes),
            false => (piece.cold, piece.cold_bytes),
        };
        let piece = self
            .adopted
            .iter()
            .map(|adopted| adopted.piece)
            .find(|piece| {
                let (start, bytes) = place(piece);
                piece.zone as usize == zone && offset.wrapping_sub(start) < bytes
            })?;
        let units = &self.units[piece.first_unit as usize..][..piece.units as usize];
        let start = |unit: &Unit| if hot { unit.hot } else { unit.cold };
        let behind = units.partition_point(|unit| start(unit) <= offset);
        Some(piece.first_unit + behind.checked_sub(1)? as u32)
    }

    /// Lets the entries for indirect branches of a piece lead on to what the table has now; new entries for the table.
    fn chain(&mut self, piece: &Piece, memory: &impl Memory) -> Vec<(u64, u64)> {
        let zone = piece.zone as usize;
        let (base, miss) = (self.zones[zone].base, self.zones[zone].common.miss);
        let offset = self.zones[zone].offset;
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
                memory.write(offset + u64::from(unit.prologue), &code.bytes);
            }
            entries.push((unit.pc, start));
        }
        entries
    }

    /// The units that are current, by address: the first address of each, and its number.
    pub fn current(&self) -> Vec<(u64, u32)> {
        let place = |number: u32| (self.units[number as usize].pc, number);
        let mut all: Vec<(u64, u32)> = self.current_units().map(place).collect();
        all.sort_unstable();
        all
    }

    /// An image of these units, in order of address, timed or not. Left out are units that look at their code themselves,
    /// client requests, and what leads directly out of its stretch.
    pub fn freeze(&self, stretches: Vec<Stretch>, timed: bool) -> Frozen {
        let mut freezer = Freezer::new(self, timed);
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
    image: Frozen,
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

impl Cursor {
    /// Whether the next run has room for what it executes besides: a quarter of everything.
    fn leaves_room(&self) -> bool {
        let most_cold = u64::from(COLD_START) + (ZONE_BYTES - u64::from(COLD_START)) / 4 * 3;
        self.hot < COLD_START / 4 * 3
            && u64::from(self.cold) < most_cold
            && self.counter < MOST_COUNTERS / 4 * 3
    }
}

impl Freezer<'_> {
    fn new(cache: &Cache, timed: bool) -> Freezer<'_> {
        let ends = cache.zones.iter().map(|zone| Ends {
            hot: zone.first_hot(),
            cold: COLD_START,
        });
        Freezer {
            cache,
            image: Frozen {
                ends: ends.collect(),
                timed,
                ..Frozen::default()
            },
            plan: Plan::default(),
            emitted: Emitted::default(),
        }
    }

    /// Twice over all units: first to learn where each will be, then to write them with their links. A stretch for which
    /// there is no room is left out.
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
        if !at.leaves_room() {
            return;
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
        self.cache.plan_again(unit, &mut self.plan);
        let site = Site {
            hot: zone.base + u64::from(at.hot),
            cold: zone.base + u64::from(at.cold),
            table: self.cache.table,
            leave: zone.common.leave,
            miss: zone.common.miss,
            counter: at.counter,
            first_exit: at.exit,
            otherwise: (unit.prologue != 0).then_some(zone.common.miss),
            checked: false,
            request: None,
            timed: self.image.timed,
            machine: self.cache.machine,
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
            exits: self.emitted.exits.len() as u8,
            zone: zone as u8,
            is: unit.is & !is::TIMED | if self.image.timed { is::TIMED } else { 0 },
            ..*unit
        });
        self.image.kept.extend_from_slice(&self.plan.bytes);
        self.image
            .exits
            .extend(self.emitted.exits.iter().map(StoredExit::from));
    }
}
