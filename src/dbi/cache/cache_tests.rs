//! The cache over a made-up program and memory.

use std::cell::RefCell;
use std::collections::HashMap;

use super::*;
use crate::dbi::emit::ExitKind;
use crate::dbi::emit::Pc;
use crate::dbi::layout::TABLE_BYTES;

/// Bytes at offsets; what was never written is zero.
#[derive(Default)]
struct Bytes(RefCell<HashMap<u64, u8>>);

impl Bytes {
    fn read<const N: usize>(&self, offset: u64) -> [u8; N] {
        let bytes = self.0.borrow();
        std::array::from_fn(|at| bytes.get(&(offset + at as u64)).copied().unwrap_or(0))
    }
}

impl Memory for Bytes {
    fn write(&self, offset: u64, bytes: &[u8]) {
        let placed = bytes.iter().enumerate();
        let placed = placed.map(|(at, byte)| (offset + at as u64, *byte));
        self.0.borrow_mut().extend(placed);
    }
    fn fill(&self, offset: u64, words: usize, value: u64) {
        self.write(offset, &value.to_le_bytes().repeat(words));
    }
    fn store_u8(&self, offset: u64, value: u8) {
        self.write(offset, &[value]);
    }
    fn store_u32(&self, offset: u64, value: u32) {
        assert!(offset % 8 <= 4, "crosses eight bytes");
        self.write(offset, &value.to_le_bytes());
    }
    fn store_u64(&self, offset: u64, value: u64) {
        self.write(offset, &value.to_le_bytes());
    }
    fn load_u64(&self, offset: u64) -> u64 {
        u64::from_le_bytes(self.read(offset))
    }
}

/// Code at addresses, each stretch followed by `nop`s, what was asked for last, and whether all of it may change.
struct Stretches(Vec<(u64, Vec<u8>)>, Vec<u8>, bool);

impl Source for Stretches {
    fn code(&mut self, pc: u64, most: usize) -> &[u8] {
        let found = self.0.iter().find(|(start, _)| *start == pc);
        self.1 = found.map_or(Vec::new(), |(_, bytes)| bytes.clone());
        self.1.resize(most, 0x90);
        &self.1
    }
}

impl Program for Stretches {
    fn ground(&self, _pc: u64) -> Ground {
        Ground {
            volatile: self.2,
            writable: false,
        }
    }
}

const ONE: Manner = Manner {
    marker: |_| false,
    request: |_| None,
    budget: 0,
};

const ZONE: Place = Place {
    address: 0x1000_0000,
    offset: 0,
};

const TABLE: Place = Place {
    address: 0x7f00_0000,
    offset: ZONE_BYTES,
};

/// `jmp` from one address to another.
fn jump(from: u64, to: u64) -> (u64, Vec<u8>) {
    let distance = (to - (from + 5)) as u32;
    (from, [&[0xe9], &distance.to_le_bytes()[..]].concat())
}

fn start(stretches: Vec<(u64, Vec<u8>)>) -> (Bytes, Cache, Stretches) {
    let memory = Bytes::default();
    let cache = Cache::new(&[ZONE], TABLE, Machine::default(), &memory);
    (memory, cache, Stretches(stretches, Vec::new(), false))
}

/// Where an exit leads now.
fn destination(memory: &Bytes, exit: &Exit) -> u64 {
    let distance = i32::from_le_bytes(memory.read(exit.patch - ZONE.address));
    (exit.patch + 4).wrapping_add_signed(distance.into())
}

#[test]
fn exits_that_wait_for_dropped_code_wait_once_and_find_the_new() {
    let (memory, mut cache, mut program) = start(vec![
        jump(0x1000, 0x2000),
        jump(0x1100, 0x2000),
        (0x2000, vec![0xc3]),
    ]);
    for pc in [0x1000, 0x1100] {
        cache
            .translate(pc, false, &mut program, &memory, &ONE)
            .unwrap();
    }
    for _ in 0..2 {
        cache.drop_range(0x2000, 0x3000, &memory).unwrap();
    }
    let body = cache
        .translate(0x2000, false, &mut program, &memory, &ONE)
        .unwrap();
    for exit in &cache.exits[..2] {
        assert_eq!(destination(&memory, exit), body);
    }
    cache.drop_range(0x2000, 0x3000, &memory).unwrap();
    for exit in &cache.exits[..2] {
        assert_ne!(destination(&memory, exit), body);
    }
}

#[test]
fn an_indirect_branch_finds_each_of_two_addresses_that_share_a_bucket() {
    let (memory, mut cache, mut program) =
        start(vec![(0x1_2000, vec![0xc3]), (0x2_2000, vec![0xc3])]);
    let miss = memory.load_u64(TABLE.offset + 8 * 0x2000);
    for pc in [0x1_2000, 0x2_2000] {
        cache
            .translate(pc, true, &mut program, &memory, &ONE)
            .unwrap();
    }
    let second = memory.load_u64(TABLE.offset + 8 * 0x2000);
    assert_ne!(second, miss);
    assert!(cache.units().iter().all(|unit| unit.prologue != 0));
}

#[test]
fn every_place_in_a_unit_has_a_meaning() {
    // add eax, 1; je +2; inc ebx; ret
    let code = vec![0x83, 0xc0, 0x01, 0x74, 0x02, 0xff, 0xc3, 0xc3];
    let (memory, mut cache, mut program) = start(vec![(0x1000, code)]);
    let body = cache
        .translate(0x1000, false, &mut program, &memory, &ONE)
        .unwrap();
    let unit = cache.units()[0];
    assert_eq!((unit.instructions, unit.bytes), (4, 8));
    let meaning = |address: u64| match cache.stand(address, 0) {
        Some(Stand::Unit { unit: 0, mark }) => mark,
        other => panic!("{address:#x}: {other:?}"),
    };
    // The flags are dead before `add`: it is counted first.
    assert_eq!(
        (meaning(body).pc, meaning(body).counted),
        (Pc::At(0x1000), false)
    );
    const INCREMENT_BYTES: u64 = 9;
    let counted = meaning(body + INCREMENT_BYTES);
    assert_eq!(
        (counted.pc, counted.done, counted.counted),
        (Pc::At(0x1000), 0, true)
    );
    const OPCODE_BYTES: u64 = 2;
    let branch = meaning(cache.exits[0].patch - OPCODE_BYTES);
    assert_eq!(
        (branch.pc, branch.done, branch.counted),
        (Pc::At(0x1003), 1, true)
    );
    // Behind it another block begins, which is counted at once: `inc` changes the flags.
    let second = meaning(cache.exits[0].patch + 4);
    assert_eq!(
        (second.pc, second.done, second.counted),
        (Pc::At(0x1005), 2, false)
    );
    let blocks: Vec<Block> = cache.blocks(&unit).collect();
    let ends = blocks.iter().map(|block| (block.from, block.to));
    assert_eq!(ends.collect::<Vec<_>>(), [(0, 2), (2, 4)]);
    assert_eq!(cache.counters(), 2);
}

/// `cld` is a marker, and two of them are a request.
const MARKED: Manner = Manner {
    marker: |code| code.starts_with(&[0xfc]),
    request: |code| code.starts_with(&[0xfc, 0xfc]).then_some(2),
    budget: 0,
};

#[test]
fn a_request_that_was_not_made_yet_stands_at_its_own_address() {
    // cld; cld; ret
    for volatile in [false, true] {
        let (memory, mut cache, mut program) = start(vec![(0x1000, vec![0xfc, 0xfc, 0xc3])]);
        program.2 = volatile;
        let body = cache
            .translate(0x1000, false, &mut program, &memory, &MARKED)
            .unwrap();
        let request = cache
            .exits
            .iter()
            .find(|exit| exit.kind == ExitKind::Request)
            .unwrap();
        assert_eq!((request.target, request.done), (0x1002, 0));
        assert!(cache.units()[0].marker());
        let cold = ZONE.address + u64::from(COLD_START);
        let end = ZONE.address + u64::from(cache.zones[0].hot);
        let cold_end = ZONE.address + u64::from(cache.zones[0].cold);
        for address in (body..end).chain(cold..cold_end) {
            let Some(Stand::Unit { unit: 0, mark }) = cache.stand(address, 0) else {
                panic!("{address:#x} has no meaning")
            };
            assert_eq!((mark.pc, mark.done), (Pc::At(0x1000), 0), "{address:#x}");
        }
    }
}

#[test]
fn a_unit_ends_where_a_marker_could_not_be_seen_whole() {
    // 64 times nop dword [rax + rax], of eight bytes each.
    let code = [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0].repeat(64);
    let (memory, mut cache, mut program) = start(vec![(0x1000, code)]);
    cache
        .translate(0x1000, false, &mut program, &memory, &MARKED)
        .unwrap();
    let unit = cache.units()[0];
    let most = super::super::plan::MOST_BYTES - MARKER_BYTES;
    assert_eq!(usize::from(unit.bytes), most + 8);
}

/// Bytes at an address that is a multiple of eight.
struct Words(Vec<u64>, usize);

impl Words {
    fn of(bytes: &[u8]) -> Words {
        let mut words = vec![0; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Words(words, bytes.len())
    }
}

impl AsRef<[u8]> for Words {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..self.1]
    }
}

/// What a cache of three units leaves: 0x1000 jumps to 0x2000, which jumps on to 0x3000, which returns. The last is not kept.
fn stored() -> Vec<u8> {
    stored_as(false)
}

fn stored_as(timed: bool) -> Vec<u8> {
    let (memory, mut cache, mut program) = three();
    for pc in [0x3000, 0x2000, 0x1000] {
        cache
            .translate(pc, pc == 0x2000, &mut program, &memory, &ONE)
            .unwrap();
    }
    let units = cache.current().into_iter().map(|(_, unit)| unit);
    let stretch = image::Stretch {
        start: 0x1000,
        end: 0x4000,
        units: units.take(2).collect(),
    };
    let frozen = cache.freeze(vec![stretch], timed);
    let mut bytes = Vec::new();
    frozen.store(&mut bytes);
    bytes
}

fn three() -> (Bytes, Cache, Stretches) {
    start(vec![
        jump(0x1000, 0x2000),
        jump(0x2000, 0x3000),
        (0x3000, vec![0xc3]),
    ])
}

#[test]
fn what_was_kept_is_found_linked_and_understood() {
    let image = image::Image::load(Box::new(Words::of(&stored())), 0).unwrap();
    let (memory, mut cache, mut program) = three();
    let miss = memory.load_u64(TABLE.offset + 8 * 0x2000);
    assert!(cache.adopt(&image));
    assert_eq!(cache.find(0x1000), None, "it is not in use yet");
    cache.activate(&image, 0, &memory);
    let translate = |cache: &mut Cache, program: &mut Stretches, pc| {
        cache.translate(pc, false, program, &memory, &ONE).unwrap()
    };
    let first = translate(&mut cache, &mut program, 0x1000);
    let second = translate(&mut cache, &mut program, 0x2000);
    assert_eq!(cache.units().len(), 2, "nothing was translated");
    assert_ne!(memory.load_u64(TABLE.offset + 8 * 0x2000), miss);
    assert_eq!(destination(&memory, &cache.exits[0]), second);
    for (number, body) in [(0, first), (1, second)] {
        let Some(Stand::Unit { unit, mark }) = cache.stand(body, 0) else {
            panic!("{body:#x} has no meaning")
        };
        let pc = cache.units()[number].pc;
        assert_eq!((unit as usize, mark.pc), (number, Pc::At(pc)));
    }
    // What was not kept is translated, and what is dropped is forgotten.
    let third = translate(&mut cache, &mut program, 0x3000);
    assert_eq!(cache.units().len(), 3);
    cache.link(2, third, &memory);
    assert_eq!(destination(&memory, &cache.exits[1]), third);
    cache.drop_range(0x2000, 0x2800, &memory).unwrap();
    assert_eq!(cache.find(0x2000), None);
    assert_eq!(cache.find(0x1000), Some(0));
    assert_ne!(destination(&memory, &cache.exits[0]), second);
    assert_ne!(translate(&mut cache, &mut program, 0x2000), second);
}

#[test]
fn code_of_one_kind_is_kept_as_the_other() {
    for timed in [false, true] {
        let image = image::Image::load(Box::new(Words::of(&stored_as(timed))), 0).unwrap();
        let (memory, mut cache, mut program) = three();
        assert!(cache.adopt(&image) && cache.is_timed() == timed);
        cache.activate(&image, 0, &memory);
        let body = cache.translate(0x1000, false, &mut program, &memory, &ONE);
        let Some(Stand::Unit { unit, .. }) = cache.stand(body.unwrap(), 0) else {
            panic!("its code has no meaning")
        };
        assert_eq!(cache.units()[unit as usize].timed(), timed);
    }
    let (memory, mut cache, _) = three();
    cache.make_timed(&memory).unwrap();
    let plain = image::Image::load(Box::new(Words::of(&stored())), 0).unwrap();
    assert!(!cache.adopt(&plain), "this could not be stopped in time");
}

#[test]
fn what_is_not_whole_is_no_image() {
    let whole = stored();
    for length in 0..whole.len() {
        let part = Words::of(&whole[..length]);
        assert!(image::Image::load(Box::new(part), 0).is_none(), "{length}");
    }
}

#[test]
fn code_goes_to_another_zone_when_the_nearest_is_full_and_to_none_out_of_reach() {
    let (memory, mut cache, mut program) = start(vec![
        (0x1000, vec![0xc3]),
        (0x2000, vec![0xc3]),
        (0x3000, vec![0xc3]),
    ]);
    let place = |address, number| Place {
        address,
        offset: TABLE.offset + TABLE_BYTES + number * ZONE_BYTES,
    };
    let mut translated = |cache: &mut Cache, pc| {
        let address = cache.translate(pc, true, &mut program, &memory, &ONE);
        address.map(|address| cache.zone_of(address))
    };
    assert_eq!(translated(&mut cache, 0x1000), Ok(Some(0)));
    cache.zones[0].hot = COLD_START - 1;
    cache.add_zone(place(0x5555_0000_0000, 0), &memory);
    let full = Err(NoTranslation::Full(Full::Zone));
    assert_eq!(translated(&mut cache, 0x2000), full);
    cache.add_zone(place(0x3000_0000, 1), &memory);
    assert_eq!(translated(&mut cache, 0x2000), Ok(Some(2)));
    // What is in the full one stays there.
    assert_eq!(translated(&mut cache, 0x1000), Ok(Some(0)));
}
