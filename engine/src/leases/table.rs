//! Who holds what: the index of all leases, by address and by client. It is the authority.
//!
//! Slots lie in stripes by their address, each under its own lock. A client has any number of
//! leases: the client index tells in which slots it is. Both are hashed with one keyed hash, in
//! blocks of 16 neighbours, which share the lines of the processor's cache that a look-up reads:
//! addresses are given in their order, and the cards of a rack have numbers in a row.
//!
//! Locks, in the order in which they may be taken: the slow path of a pool, a stripe of addresses,
//! and then one of: a stripe of the client index, the timers of a shard, an extent of a pool.
//! Nobody who holds a stripe asks for another. The client index is changed under the stripe of the
//! slot, so it is never behind. Who reads it first goes to the slots afterwards, and compares.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use bootstorm_protocols::time::Moment;
use crossbeam::utils::CachePadded;
use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};
use slab::Slab;

use super::address::Address;
use super::listing::Timers;
use super::slot::{self, Identity, Side, Slot};
use super::state::{Kind, Outcome, Record, State, Whose};
use super::{ClientKey, Ended, Lease, LeaseState};
use crate::hashing::KeyedHasher;

/// Far more than there are shards, so that two of them seldom meet at one.
const STRIPES: usize = 256;

/// Addresses, or clients, that lie next to each other in the hash tables if their numbers do.
const NEIGHBOURS: u64 = 16;

/// Slots of a stripe that are looked at together.
const PIECE: usize = 64;

/// Leases of one client that are looked at together.
const AT_ONCE: usize = 16;

/// Where a slot is: the number of its stripe in the upper 8 bits, its place there in the lower 24.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Handle(u32);

impl Handle {
    fn new(stripe: usize, index: usize) -> Self {
        // Below 256, and a stripe with 16 million slots would be one of four thousand million.
        Self((stripe as u32) << 24 | index as u32)
    }

    fn stripe(self) -> usize {
        (self.0 >> 24) as usize
    }

    pub(super) fn index(self) -> usize {
        (self.0 & 0x00ff_ffff) as usize
    }
}

/// The slots of some addresses.
#[derive(Default)]
pub(super) struct Stripe {
    by_address: HashTable<u32>,
    pub(super) slots: Slab<Slot>,
    pub(super) sides: Slab<Side>,
    /// The latest version that was given to a change of one of its slots, or is in the store.
    version: u64,
}

impl Stripe {
    pub(super) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// What is known of a slot at `now`.
    pub(super) fn view(&self, slot: &Slot, now: Moment) -> Option<Lease> {
        self.view_if(slot, now, |_| true)
    }

    /// What a client has, is offered, or had last at a slot. A quarantine is nobody's, also when it
    /// is over: the client that it began with never used the address, or does not any more.
    pub(super) fn view_of(&self, client: &ClientKey, slot: &Slot, now: Moment) -> Option<Lease> {
        let lease = self.view_if(slot, now, |state| !state.is_quarantine());
        lease.filter(|lease| lease.client == *client)
    }

    fn view_if(&self, slot: &Slot, now: Moment, wanted: fn(&State) -> bool) -> Option<Lease> {
        let Outcome { state, whose, .. } = slot.state(&self.sides).at(now);
        let state = state.filter(wanted)?;
        let identity = match whose {
            Whose::Bases => slot.base_identity(&self.sides),
            Whose::Kept | Whose::Senders => &slot.identity,
        };
        Some(slot.lease(identity, &state, now))
    }
}

/// A locked stripe, and the hash of the address that it was locked for.
pub(super) struct Locked<'t> {
    pub(super) stripe: MutexGuard<'t, Stripe>,
    number: usize,
    hash: u64,
}

impl Locked<'_> {
    /// Where the slot of the address is, which was seen at `seen`. Most often it is there still,
    /// and the index, of which a look-up is two lines that no cache has, is not asked.
    pub(super) fn find_seen(&self, address: Address, seen: Option<Handle>) -> Option<Handle> {
        let is_there = |seen: &Handle| {
            let slot = self.stripe.slots.get(seen.index());
            seen.stripe() == self.number && slot.is_some_and(|slot| slot.address == address)
        };
        seen.filter(is_there).or_else(|| self.find(address))
    }

    /// Where the slot of the address is.
    pub(super) fn find(&self, address: Address) -> Option<Handle> {
        let Stripe { by_address, slots, .. } = &*self.stripe;
        let is_it = |index: &u32| slots[*index as usize].address == address;
        by_address.find(self.hash, is_it).map(|index| Handle::new(self.number, *index as usize))
    }
}

/// One entry of the client index: the lower half of the hash of the client, and a slot.
#[derive(Copy, Clone, PartialEq, Eq)]
struct Entry {
    client: u32,
    slot: Handle,
}

impl Entry {
    /// The stripe is chosen by other bits of the hash. The lower half stays; the upper half, of
    /// which the table of hashes keeps seven bits, differs among neighbours.
    fn hash(&self) -> u64 {
        u64::from(self.client).wrapping_mul(0x9e37_79b9_0000_0001)
    }
}

/// The index.
pub(super) struct Table {
    stripes: Box<[CachePadded<Mutex<Stripe>>]>,
    clients: Box<[CachePadded<Mutex<HashTable<Entry>>>]>,
    pub(super) timers: Timers,
    pub(super) hasher: KeyedHasher,
    /// Who is told of leases that have ended; it must not wait.
    pub(super) heard: OnceLock<Box<dyn Fn(Ended) + Send + Sync>>,
    /// How many leases were given back, or ended by somebody.
    pub(super) endings: CachePadded<AtomicU64>,
    /// How often a stripe was locked.
    #[cfg(test)]
    pub(super) locked: AtomicU64,
}

impl Table {
    pub(super) fn new(shards: usize, hasher: KeyedHasher) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| CachePadded::default()).collect(),
            clients: (0..STRIPES).map(|_| CachePadded::default()).collect(),
            timers: Timers::new(shards),
            hasher,
            heard: OnceLock::new(),
            endings: CachePadded::default(),
            #[cfg(test)]
            locked: AtomicU64::new(0),
        }
    }

    fn hash_address(&self, address: Address) -> u64 {
        let bits = address.to_bits();
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u128(bits >> NEIGHBOURS.ilog2());
        // Below 16.
        within_block(hasher.finish(), (bits % NEIGHBOURS as u128) as u64)
    }

    fn hash_client(&self, client: &ClientKey) -> u64 {
        let (last, others) = client.bytes().split_last().unwrap_or((&0, &[]));
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u8(client.kind() as u8);
        hasher.write(others);
        hasher.write_u8(*last >> NEIGHBOURS.ilog2());
        within_block(hasher.finish(), u64::from(*last) % NEIGHBOURS)
    }

    /// Locks the stripe of an address.
    pub(super) fn lock(&self, address: Address) -> Locked<'_> {
        let hash = self.hash_address(address);
        let number = stripe_of(hash);
        Locked { stripe: self.lock_stripe(number), number, hash }
    }

    fn lock_stripe(&self, number: usize) -> MutexGuard<'_, Stripe> {
        #[cfg(test)]
        self.locked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.stripes[number].lock()
    }

    /// Locks the stripe of a slot; what is there may be another slot by now.
    pub(super) fn lock_handle(&self, handle: Handle) -> MutexGuard<'_, Stripe> {
        self.lock_stripe(handle.stripe())
    }

    /// Adds a slot for an address that has none; see [`Slot::new`].
    pub(super) fn insert(
        &self,
        locked: &mut Locked<'_>,
        address: Address,
        identity: Identity,
        state: State,
        shard: u16,
    ) -> Handle {
        let Locked { stripe, number, hash } = locked;
        let Stripe { by_address, slots, .. } = &mut **stripe;
        let client = self.hash_client(&identity.client);
        let index = slots.insert(Slot::new(address, identity, state, shard));
        let hash_of = |index: &u32| self.hash_address(slots[*index as usize].address);
        // See `Handle::new`.
        by_address.insert_unique(*hash, index as u32, hash_of);
        let handle = Handle::new(*number, index);
        self.add_client(client, handle);
        handle
    }

    /// Removes a slot, which nothing lists any more.
    pub(super) fn remove(&self, stripe: &mut Stripe, handle: Handle) -> Slot {
        let mut slot = stripe.slots.remove(handle.index());
        slot.clear(&mut stripe.sides);
        let hash = self.hash_address(slot.address);
        let is_it = |index: &u32| *index as usize == handle.index();
        if let Ok(found) = stripe.by_address.find_entry(hash, is_it) {
            found.remove();
        }
        self.remove_client(&slot.identity.client, handle);
        slot
    }

    fn add_client(&self, client: u64, slot: Handle) {
        // The lower half.
        let entry = Entry { client: client as u32, slot };
        let mut clients = self.clients[stripe_of(client)].lock();
        clients.insert_unique(entry.hash(), entry, Entry::hash);
    }

    fn remove_client(&self, client: &ClientKey, slot: Handle) {
        let client = self.hash_client(client);
        // As it was added.
        let entry = Entry { client: client as u32, slot };
        let mut clients = self.clients[stripe_of(client)].lock();
        if let Ok(found) = clients.find_entry(entry.hash(), |other| *other == entry) {
            found.remove();
        }
    }

    /// A slot has gone from one client to another.
    pub(super) fn move_client(&self, from: &ClientKey, to: &ClientKey, slot: Handle) {
        if from != to {
            self.remove_client(from, slot);
            self.add_client(self.hash_client(to), slot);
        }
    }

    /// What is known of an address.
    pub(super) fn at(&self, ip: IpAddr, now: Moment) -> Option<Lease> {
        let address = ip.into();
        let locked = self.lock(address);
        let handle = locked.find(address)?;
        locked.stripe.view(&locked.stripe.slots[handle.index()], now)
    }

    /// The version of the lease of an address.
    pub(super) fn version(&self, ip: IpAddr) -> Option<u64> {
        let address = ip.into();
        let locked = self.lock(address);
        let handle = locked.find(address)?;
        let state = locked.stripe.slots[handle.index()].state(&locked.stripe.sides);
        slot::record(&state).map(|record| record.version)
    }

    /// Whether the store is sure to have a lease of the address that ends no earlier than `until`.
    pub(super) fn is_stored(&self, ip: IpAddr, until: Moment) -> bool {
        let address = ip.into();
        let locked = self.lock(address);
        let Some(handle) = locked.find(address) else { return false };
        let state = locked.stripe.slots[handle.index()].state(&locked.stripe.sides);
        matches!(state, State::Settled(Record { kind: Kind::Leased, expires, extended: false, .. })
            if until <= expires)
    }

    /// Whether anybody may have an address at `now`.
    pub(super) fn is_free(&self, address: Address, now: Moment) -> bool {
        let locked = self.lock(address);
        let Some(handle) = locked.find(address) else { return true };
        let state = locked.stripe.slots[handle.index()].state(&locked.stripe.sides);
        is_free(state, now)
    }

    /// The addresses that a client has, is offered, or had last; quarantines are nobody's.
    pub(super) fn of_client(
        &self,
        client: &ClientKey,
        now: Moment,
        each: &mut dyn FnMut(Handle, &Lease),
    ) {
        let hash = self.hash_client(client);
        // As in `add_client`.
        let entry = Entry { client: hash as u32, slot: Handle(0) };
        let mut skipped = 0;
        loop {
            let mut found = [Handle(0); AT_ONCE];
            let mut count = 0;
            {
                let clients = self.clients[stripe_of(hash)].lock();
                let same = |other: &&Entry| other.client == entry.client;
                let slots = clients.iter_hash(entry.hash()).filter(same).map(|entry| entry.slot);
                for (place, slot) in found.iter_mut().zip(slots.skip(skipped)) {
                    *place = slot;
                    count += 1;
                }
            }
            for handle in &found[..count] {
                let lease = {
                    let stripe = self.lock_handle(*handle);
                    let slot = stripe.slots.get(handle.index());
                    slot.and_then(|slot| stripe.view_of(client, slot, now))
                };
                if let Some(lease) = lease {
                    each(*handle, &lease);
                }
            }
            if count < AT_ONCE {
                break;
            }
            skipped += count;
        }
    }

    /// Looks at all slots, in pieces, so that nobody waits long for a stripe.
    pub(super) fn each_slot(&self, mut each: impl FnMut(&mut Stripe, Handle)) {
        for number in 0..STRIPES {
            let mut next = 0;
            loop {
                let mut stripe = self.lock_stripe(number);
                let end = stripe.slots.capacity().min(next + PIECE);
                for index in next..end {
                    if stripe.slots.contains(index) {
                        each(&mut stripe, Handle::new(number, index));
                    }
                }
                next = end;
                if end >= stripe.slots.capacity() {
                    break;
                }
            }
        }
    }

    /// Versions of changes from now on are higher.
    pub(super) fn continue_versions(&self, highest: u64) {
        for number in 0..STRIPES {
            let mut stripe = self.lock_stripe(number);
            stripe.version = stripe.version.max(highest);
        }
    }

    /// Adds a lease of the store, with its version there; without one it is a quarantine for
    /// something that could not be read. Pools are not asked yet.
    pub(super) fn load(&self, lease: Lease, stored: Option<u64>, shard: u16) {
        let address = lease.ip.into();
        let mut locked = self.lock(address);
        if locked.find(address).is_some() {
            return;
        }
        let kind = match lease.state {
            LeaseState::Released => Kind::Released,
            LeaseState::Declined => Kind::Declined,
            LeaseState::Active | LeaseState::Expired | LeaseState::Offered => Kind::Leased,
        };
        let Lease { starts, expires, told, refused, .. } = lease;
        let version = stored.unwrap_or_default();
        // Only an infinite lease has another end that was told.
        let told = told.filter(|_| expires == Moment::NEVER);
        // By the clocks of the next boot it may end earlier than by those of this one.
        let extended = true;
        let record = Record { kind, starts, expires, told, refused, extended, version };
        let state = match stored {
            Some(_) => State::Settled(record),
            None => State::Declining { record, unwritten: true, base: super::state::Base::Nothing },
        };
        locked.stripe.version = locked.stripe.version.max(version);
        let identity = Identity { client: lease.client, notes: lease.notes };
        self.insert(&mut locked, address, identity, state, shard);
    }

    /// Every address that has a slot, rising.
    pub(super) fn used(&self) -> Vec<Address> {
        let mut used = Vec::new();
        self.each_slot(|stripe, handle| {
            used.push(stripe.slots[handle.index()].address);
        });
        used.sort_unstable();
        used
    }
}

/// Whether anybody may have an address in this state at `now`.
pub(super) fn is_free(state: State, now: Moment) -> bool {
    match state.at(now).state {
        None => true,
        Some(State::Settled(record)) => !record.is_valid(now),
        Some(_) => false,
    }
}

/// The hash of one of the neighbours of a block: its place stands next to theirs, and the seven
/// upper bits, by which the hash table tells those of one place apart, are its own.
fn within_block(block: u64, number: u64) -> u64 {
    block.wrapping_add(number).wrapping_add(number << 57)
}

/// The stripe of a hash, by bits that the hash tables do not use.
fn stripe_of(hash: u64) -> usize {
    (hash >> 40) as usize % STRIPES
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::leases::Hardware;

    /// Places next to each other, one stripe, and seven upper bits that tell them apart.
    fn check_block(hashes: [u64; NEIGHBOURS as usize]) {
        assert!(hashes.is_sorted_by(|a, b| b.wrapping_sub(*a) << 7 >> 7 == 1), "{hashes:x?}");
        let upper: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert_eq!(upper.len(), hashes.len(), "{hashes:x?}");
        assert!(hashes.iter().all(|hash| stripe_of(*hash) == stripe_of(hashes[0])), "{hashes:x?}");
    }

    #[test]
    fn neighbours_share_the_lines_of_a_look_up_and_are_told_apart() {
        let table = Table::new(1, KeyedHasher::default());
        let numbers = std::array::from_fn::<u8, { NEIGHBOURS as usize }, _>(|number| number as u8);
        check_block(
            numbers.map(|number| table.hash_address(IpAddr::from([10, 0, 1, 32 + number]).into())),
        );
        check_block(numbers.map(|number| {
            let hardware = Hardware::ethernet([2, 0, 0, 0, 0, 0x70 + number]);
            table.hash_client(&ClientKey::hardware(&hardware))
        }));
        let upper = numbers.map(|client| {
            Entry { client: 0x7000_0000 + u32::from(client), slot: Handle(0) }.hash() >> 57
        });
        assert_eq!(HashSet::from(upper).len(), upper.len());
        // The next block is anywhere.
        let address = |last| table.hash_address(IpAddr::from([10, 0, 1, last]).into());
        assert_ne!(address(48).wrapping_sub(address(47)) << 7 >> 7, 1);
    }
}
