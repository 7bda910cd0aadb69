//! Which address has which quirks, from the shard that gave the address to the shard that sends it
//! a file.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{QuirkSet, Quirks};

/// Sets of slots; the last 16 bits of an address say which one is its.
const SETS: usize = 1 << 16;
/// Slots of a set: so many networks of 65,536 addresses fit without pushing each other out.
const WAYS: usize = 4;

/// A table of fixed size, 2 MiB. It never allocates, waits or grows: a machine that finds its set
/// full takes the slot of another, for which then no quirk applies.
///
/// ```text
///   slot: | first half of the address, 16 | the list's fingerprint, 24 | quirks, 24 |
///   without quirks: empty
/// ```
pub struct Notes(Box<[AtomicU64]>);

impl Default for Notes {
    fn default() -> Self {
        Self((0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notes").finish_non_exhaustive()
    }
}

impl Notes {
    /// Remembers the quirks that whoever has `address` now has of `quirks`; none forgets those of
    /// its holder before.
    pub fn note(&self, address: Ipv4Addr, quirks: &Quirks, set: QuirkSet) {
        let (tag, slots) = self.slots(address);
        let note = match set.is_empty() {
            true => 0,
            false => tag << 48 | u64::from(quirks.fingerprint()) << 24 | u64::from(set.0),
        };
        let empty = |slot: &&AtomicU64| slot.load(Relaxed) == 0;
        let own = slots.iter().find(|slot| is_of(slot.load(Relaxed), tag));
        let slot = match own {
            Some(slot) => slot,
            None if note == 0 => return,
            // Two shards may take the same slot at once: one of the two notes is lost, as if the
            // set were full.
            None => slots.iter().find(empty).unwrap_or(&slots[tag as usize % WAYS]),
        };
        // A renewal says what is known already; other shards keep the line in their caches.
        if slot.load(Relaxed) != note {
            slot.store(note, Relaxed);
        }
    }

    /// The quirks noted of `address`, if they were noted with the same list.
    pub fn of(&self, address: Ipv4Addr, quirks: &Quirks) -> QuirkSet {
        let (tag, slots) = self.slots(address);
        let notes = slots.iter().map(|slot| slot.load(Relaxed));
        let note = notes.into_iter().find(|&note| is_of(note, tag)).unwrap_or(0);
        match (note >> 24 & 0xff_ffff) as u32 == quirks.fingerprint() {
            true => QuirkSet((note & 0xff_ffff) as u32),
            false => QuirkSet::default(),
        }
    }

    fn slots(&self, address: Ipv4Addr) -> (u64, &[AtomicU64]) {
        let bits = address.to_bits();
        let first = (bits as usize & (SETS - 1)) * WAYS;
        (u64::from(bits >> 16), &self.0[first..first + WAYS])
    }
}

fn is_of(note: u64, tag: u64) -> bool {
    note != 0 && note >> 48 == tag
}
