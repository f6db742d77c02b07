//! A zone of the code cache: memory near the program's code, and who owns what in it.

use super::{Full, Memory, Place};
use crate::dbi::assemble::Code;
use crate::dbi::emit::{Common, Emitted};
use crate::dbi::layout::{COLD_START, ZONE_BYTES};

/// A piece of memory near some of the program's code, for its translations.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    /// Address in the program.
    pub(super) base: u64,
    /// Offset in the shared memory.
    pub(super) offset: u64,
    pub(super) hot: u32,
    pub(super) cold: u32,
    pub(super) common: Common,
    /// Who owns the hot and the cold code from an offset on.
    pub(super) hot_owners: Vec<(u32, Owner)>,
    pub(super) cold_owners: Vec<(u32, Owner)>,
}

/// Whose code it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    /// A unit's.
    Unit(u32),
    /// On its way to the unit for [`slot::TARGET`](crate::dbi::layout::slot::TARGET), rcx in its slot.
    Lookup,
    /// On its way to this original address.
    Way(u64),
}

impl Zone {
    pub(super) fn new(place: Place, memory: &impl Memory) -> Zone {
        let mut code = Code::default();
        code.restart(place.address);
        let common = Common::make(&mut code);
        memory.write(place.offset, &code.bytes);
        let mut zone = Zone {
            base: place.address,
            offset: place.offset,
            hot: 0,
            cold: COLD_START,
            common,
            hot_owners: Vec::new(),
            cold_owners: Vec::new(),
        };
        zone.hot = zone.first_hot();
        zone
    }

    /// Where its hot code begins.
    pub(super) fn first_hot(&self) -> u32 {
        ((self.common.end - self.base) as u32).next_multiple_of(64)
    }

    /// Whether new units go here. Those that are here may yet need cold code of their own, each some thirty bytes: an entry for
    /// indirect branches, or a way out again when what they led to is gone.
    pub(super) fn takes_units(&self) -> bool {
        const LARGEST_UNIT: u32 = 64 << 10;
        const RESERVE: u32 = 12 << 20;
        self.hot < COLD_START - LARGEST_UNIT && u64::from(self.cold + RESERVE) < ZONE_BYTES
    }

    /// Whether there is room for a unit, and for a hop besides.
    pub(super) fn room(&self, emitted: &Emitted) -> Result<(), Full> {
        const SPARE: u64 = 64;
        let hot = u64::from(self.hot) + u64::from(emitted.hot.offset()) + SPARE;
        let cold = u64::from(self.cold) + u64::from(emitted.cold.offset()) + SPARE;
        if hot < u64::from(COLD_START) && cold < ZONE_BYTES {
            Ok(())
        } else {
            Err(Full::Zone)
        }
    }

    pub(super) fn add_cold(
        &mut self,
        bytes: &[u8],
        owner: Owner,
        memory: &impl Memory,
    ) -> Option<u64> {
        let start = self.cold;
        let end = u64::from(start) + bytes.len() as u64;
        if end > ZONE_BYTES {
            return None;
        }
        memory.write(self.offset + u64::from(start), bytes);
        self.cold_owners.push((start, owner));
        self.cold = end as u32;
        Some(self.base + u64::from(start))
    }

    pub(super) fn owner(&self, address: u64) -> Option<Owner> {
        let offset = u32::try_from(address.checked_sub(self.base)?).ok()?;
        let owners = if offset < COLD_START {
            &self.hot_owners
        } else {
            &self.cold_owners
        };
        let index = owners.partition_point(|(start, _)| *start <= offset);
        owners.get(index.checked_sub(1)?).map(|(_, owner)| *owner)
    }
}
