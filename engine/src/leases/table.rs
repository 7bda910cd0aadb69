//! Who holds what: the index of all leases, by address and by client. It is the authority.
//!
//! Locks, in the order in which they may be taken: the stripe of a client, the slow path of a pool,
//! a shard of the client map, a slot of the address map, an extent of a pool. Nobody who holds a
//! slot asks for another slot or for the client map. The address map decides who holds an address;
//! the client map is where a client's address is found quickly, and what it says is checked against
//! the slot each time. So two shards that race for one address meet at its slot, and two that race
//! for one client meet at its stripe.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bootstorm_protocols::time::Moment;
use dashmap::DashMap;
use dashmap::mapref::entry::{Entry, OccupiedEntry};
use parking_lot::{Mutex, MutexGuard};

use super::pools::{Pool, PoolSet, Position, Spare};
use super::slot::{Durable, Slot};
use super::{ClientKey, Lease, LeaseState};
use crate::config::NetworkId;

/// A client of one network.
pub(super) type Who = (NetworkId, ClientKey);

/// Clients whose offers wait for each other fall into so many classes: far more than there are
/// shards.
const STRIPES: usize = 256;

/// How long after its end a lease is looked at again whose last change is not durable yet.
const PENDING_GRACE: Duration = Duration::from_secs(1);

/// Clients that lost an address or have it again. The client map is updated from it when no slot
/// is held.
#[derive(Default)]
#[must_use]
pub(super) struct Moved {
    pub(super) lost: Option<Who>,
    pub(super) gained: Option<Who>,
}

/// The index.
pub(super) struct Table {
    pub(super) slots: DashMap<u32, Slot>,
    clients: DashMap<Who, u32>,
    stripes: Box<[Mutex<()>]>,
    versions: AtomicU64,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            slots: DashMap::new(),
            clients: DashMap::new(),
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            versions: AtomicU64::new(1),
        }
    }

    pub(super) fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Relaxed)
    }

    /// Lets no version come again that is not above `highest`.
    pub(super) fn continue_versions(&self, highest: u64) {
        self.versions.fetch_max(highest.saturating_add(1), Relaxed);
    }

    /// Makes the offers to one client wait for each other.
    pub(super) fn stripe(&self, who: &Who) -> MutexGuard<'_, ()> {
        self.stripes[self.clients.hash_usize(who) % STRIPES].lock()
    }

    /// The address where a client was seen last. It may have lost it since.
    pub(super) fn address_of(&self, who: &Who) -> Option<u32> {
        self.clients.get(who).map(|ip| *ip)
    }

    pub(super) fn find(&self, who: &Who, now: Moment) -> Option<Lease> {
        let ip = self.address_of(who)?;
        let slot = self.slots.get(&ip)?;
        if !slot.is(who.0, &who.1) {
            return None;
        }
        slot.view(now).filter(|lease| lease.client == who.1)
    }

    pub(super) fn at(&self, ip: Ipv4Addr, now: Moment) -> Option<Lease> {
        self.slots.get(&ip.to_bits())?.view(now)
    }

    /// Remembers where a client is.
    pub(super) fn map(&self, who: Who, ip: u32) {
        self.clients.insert(who, ip);
    }

    /// Updates the client map: a client lost an address, or has it again.
    pub(super) fn moved(&self, moved: Moved, ip: u32) {
        if let Some(who) = moved.lost {
            self.clients.remove_if(&who, |_, at| *at == ip && !self.is_there(&who, ip));
        }
        if let Some(who) = moved.gained
            && let Entry::Vacant(vacant) = self.clients.entry(who.clone())
            && self.is_there(&who, ip)
        {
            vacant.insert(ip);
        }
    }

    fn is_there(&self, who: &Who, ip: u32) -> bool {
        self.slots
            .get(&ip)
            .is_some_and(|slot| slot.is(who.0, &who.1) && slot.lease.state != LeaseState::Declined)
    }

    /// Rebuilds the client map from the slots. If a client has several leases, the map points to
    /// the active one, else to the newest. The caller has exclusive access.
    pub(super) fn map_all(&self) {
        self.clients.clear();
        let rank = |lease: &Lease| (lease.state.is_taken(), lease.starts);
        for slot in &self.slots {
            let lease = &slot.lease;
            let Some(network) = lease.network.filter(|_| lease.state != LeaseState::Declined)
            else {
                continue;
            };
            let who = (network, lease.client.clone());
            let other = self.clients.get(&who).map(|ip| *ip);
            let better = other.is_none_or(|other| {
                // Two readers of one map in one thread; nobody writes.
                self.slots.get(&other).is_none_or(|other| rank(lease) > rank(&other.lease))
            });
            if better {
                self.clients.insert(who, *slot.key());
            }
        }
    }

    /// Adds a lease to the index, without a position: one that the store has with that version, or
    /// one that it does not have.
    pub(super) fn load(&self, lease: Lease, stored: Option<u64>, now: Moment) {
        let durable = stored.map_or(Durable::Nothing, |_| Durable::of(&lease, &lease));
        let version = stored.unwrap_or_else(|| self.next_version());
        let slot = Slot {
            durable,
            stored: stored.unwrap_or(0),
            version,
            floor: version,
            pending: false,
            offer_ends: Moment::default(),
            position: None,
            in_free_range: false,
            lease: lease.ended(now),
        };
        self.slots.insert(slot.lease.ip.to_bits(), slot);
    }

    /// Takes an unused address. `false` when it is used already: it was taken by name before.
    pub(super) fn claim_unused(&self, pools: &PoolSet, lease: &Lease, shard: u16) -> bool {
        let ip = lease.ip.to_bits();
        match self.slots.entry(ip) {
            Entry::Vacant(vacant) => {
                vacant.insert(self.new_slot(pools, lease.clone(), shard));
                true
            }
            Entry::Occupied(mut occupied) => {
                let slot = occupied.get_mut();
                if slot.in_free_range
                    && let Some(pool) = pools.of(ip)
                {
                    slot.in_free_range = false;
                    pool.uncount_used_in_range();
                }
                false
            }
        }
    }

    fn new_slot(&self, pools: &PoolSet, lease: Lease, shard: u16) -> Slot {
        let version = self.next_version();
        let mut slot = Slot {
            offer_ends: lease.expires,
            lease,
            durable: Durable::Nothing,
            stored: 0,
            version,
            floor: version,
            pending: false,
            position: None,
            in_free_range: false,
        };
        place(pools, &mut slot, None, shard);
        slot
    }

    /// Takes an address by name if it is free, or if `replace` allows to take it from whoever has
    /// it. Otherwise tells what is in the way.
    pub(super) fn claim_named(
        &self,
        pools: &PoolSet,
        lease: Lease,
        shard: u16,
        now: Moment,
        replace: bool,
    ) -> Result<(), LeaseState> {
        let ip = lease.ip.to_bits();
        let moved = match self.slots.entry(ip) {
            Entry::Vacant(vacant) => {
                let mut slot = self.new_slot(pools, lease, shard);
                if let Some(pool) = pools.of(ip) {
                    slot.in_free_range = true;
                    pool.count_used_in_range();
                }
                vacant.insert(slot);
                return Ok(());
            }
            Entry::Occupied(mut occupied) => {
                let slot = occupied.get_mut();
                let state = slot.lease.state;
                let replaces = replace && !slot.pending && state != LeaseState::Declined;
                if !slot.is_free(now) && !replaces {
                    return Err(state);
                }
                self.take_over(pools, slot, lease, shard)
            }
        };
        self.moved(moved, ip);
        Ok(())
    }

    /// Takes an unused address of a pool, from the shard's own extent or from wherever there is
    /// one.
    pub(super) fn take_unused(
        &self,
        pools: &PoolSet,
        pool: &Pool,
        shard: u16,
        lease: &mut Lease,
    ) -> bool {
        while let Some(ip) = pool.take_own(shard.into()) {
            lease.ip = Ipv4Addr::from_bits(ip);
            if self.claim_unused(pools, lease, shard) {
                return true;
            }
        }
        self.take_spare(pools, pool, &mut pool.slow_path(), shard, lease)
    }

    fn take_spare(
        &self,
        pools: &PoolSet,
        pool: &Pool,
        spare: &mut Spare,
        shard: u16,
        lease: &mut Lease,
    ) -> bool {
        while let Some(ip) = pool.take_any(shard.into(), spare) {
            lease.ip = Ipv4Addr::from_bits(ip);
            if self.claim_unused(pools, lease, shard) {
                return true;
            }
        }
        false
    }

    /// Takes an address of a pool that was offered in vain, or else the one that has been released
    /// or expired longest. All that is due ends first, so `false` means that every address is
    /// taken at `now`.
    pub(super) fn take_idle(
        &self,
        pools: &PoolSet,
        pool: &Pool,
        shard: u16,
        now: Moment,
        lease: &mut Lease,
    ) -> bool {
        let mut spare = pool.slow_path();
        while self.end_due(pools, pool, now, 256) > 0 {}
        if self.take_spare(pools, pool, &mut spare, shard, lease) {
            return true;
        }
        while let Some((position, ip)) = pool.idle_longest() {
            let Some(mut slot) =
                self.slots.get_mut(&ip).filter(|slot| slot.position == Some(position))
            else {
                // The slot has another position by now, or is gone: this one is outdated.
                self.forget_position(pool, position, ip);
                continue;
            };
            lease.ip = Ipv4Addr::from_bits(ip);
            let moved = self.take_over(pools, &mut slot, lease.clone(), shard);
            drop(slot);
            self.moved(moved, ip);
            return true;
        }
        false
    }

    fn forget_position(&self, pool: &Pool, position: Position, ip: u32) {
        // The slot is locked, so no other thread gives it this position meanwhile.
        match self.slots.entry(ip) {
            Entry::Occupied(occupied) if occupied.get().position == Some(position) => {}
            Entry::Occupied(_) | Entry::Vacant(_) => pool.remove(position, ip),
        }
    }

    /// Gives the slot of an address to another lease.
    fn take_over(&self, pools: &PoolSet, slot: &mut Slot, lease: Lease, shard: u16) -> Moved {
        let mut moved = Moved::default();
        if slot.lease.client != lease.client || slot.lease.network != lease.network {
            moved.lost = slot.lease.network.map(|network| (network, slot.lease.client.clone()));
            slot.version = self.next_version();
            slot.floor = slot.version;
        }
        if let Some(durable) = slot.durable_lease() {
            slot.durable = Durable::of(&durable, &lease);
        }
        let from = slot.lease.state;
        slot.offer_ends = lease.expires;
        slot.lease = lease;
        place(pools, slot, Some(from), shard);
        moved
    }

    /// Ends what is over in a pool, at most `budget` positions; returns how many were looked at.
    /// The caller is in the slow path of the pool.
    pub(super) fn end_due(
        &self,
        pools: &PoolSet,
        pool: &Pool,
        now: Moment,
        budget: usize,
    ) -> usize {
        for done in 0..budget {
            let Some((position, ip)) = pool.due(now) else { return done };
            let moved = match self.slots.entry(ip) {
                Entry::Occupied(occupied) if occupied.get().position == Some(position) => {
                    self.end(pools, occupied, now)
                }
                Entry::Occupied(_) | Entry::Vacant(_) => {
                    pool.remove(position, ip);
                    Moved::default()
                }
            };
            self.moved(moved, ip);
        }
        budget
    }

    /// Ends what is over at an address whose timer is due.
    fn end(
        &self,
        pools: &PoolSet,
        mut occupied: OccupiedEntry<'_, u32, Slot>,
        now: Moment,
    ) -> Moved {
        let slot = occupied.get_mut();
        let from = slot.lease.state;
        let shard = slot.position.map_or(0, |position| position.shard);
        if slot.pending {
            place_at(pools, slot, shard, false, now + PENDING_GRACE);
        } else if now < slot.lease.expires {
            place(pools, slot, Some(from), shard);
        } else if from == LeaseState::Offered {
            return self.revert(pools, occupied, now);
        } else {
            if from.is_taken() {
                slot.lease.state = LeaseState::Expired;
            }
            place(pools, slot, Some(from), shard);
        }
        Moved::default()
    }

    /// Goes back to what the store has: an offer that came to nothing, a change that could not be
    /// written.
    pub(super) fn revert(
        &self,
        pools: &PoolSet,
        mut occupied: OccupiedEntry<'_, u32, Slot>,
        now: Moment,
    ) -> Moved {
        let ip = *occupied.key();
        let slot = occupied.get_mut();
        let shard = slot.position.map_or(0, |position| position.shard);
        let who = |lease: &Lease| lease.network.map(|network| (network, lease.client.clone()));
        let Some(durable) = slot.durable_lease() else {
            let slot = occupied.remove();
            if let Some(pool) = pools.of(ip) {
                pool.count(Some(slot.lease.state), None);
                if let Some(position) = slot.position {
                    pool.remove(position, ip);
                }
                if slot.in_free_range {
                    pool.uncount_used_in_range();
                } else {
                    pool.give_back(shard, ip);
                }
            }
            return Moved { lost: who(&slot.lease), gained: None };
        };
        let mut moved = Moved::default();
        if durable.client != slot.lease.client {
            moved = Moved { lost: who(&slot.lease), gained: who(&durable) };
        }
        slot.version = self.next_version();
        slot.floor = slot.version;
        slot.pending = false;
        slot.durable = Durable::of(&durable, &durable);
        let from = slot.lease.state;
        slot.lease = durable.ended(now);
        place(pools, slot, Some(from), shard);
        moved
    }
}

/// Lists the slot in its pool as its state asks for, after the state was `from`.
pub(super) fn place(pools: &PoolSet, slot: &mut Slot, from: Option<LeaseState>, shard: u16) {
    if let Some(pool) = pools.of(slot.lease.ip.to_bits()) {
        pool.count(from, Some(slot.lease.state));
    }
    // What is released but not yet so on disk is nobody else's.
    let idle = !slot.lease.state.is_taken() && !slot.pending;
    place_at(pools, slot, shard, idle, slot.lease.expires);
}

fn place_at(pools: &PoolSet, slot: &mut Slot, shard: u16, idle: bool, at: Moment) {
    let ip = slot.lease.ip.to_bits();
    let Some(pool) = pools.of(ip) else {
        slot.position = None;
        return;
    };
    let new = Position { shard, idle, at };
    match slot.position {
        Some(old) if old == new => {}
        Some(old) => pool.replace(old, new, ip),
        None => pool.add(new, ip),
    }
    slot.position = Some(new);
}
