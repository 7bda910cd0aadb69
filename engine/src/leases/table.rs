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

use super::pools::{Pool, PoolSet, Spare, Ticket};
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

/// Clients that lost an address or have it again: told to the client map once no slot is held.
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

    /// Tells the client map who lost an address, or has it again.
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

    /// Builds the client map anew. A client that is found twice is where it is active, or came
    /// last. Nobody else uses the index meanwhile.
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

    /// Puts a lease that the store had into the index, without a ticket.
    pub(super) fn load(&self, lease: Lease, durable: bool, now: Moment) {
        let durable = if durable { Durable::of(&lease, &lease) } else { Durable::Nothing };
        let version = self.next_version();
        let slot = Slot {
            durable,
            version,
            floor: version,
            pending: false,
            offer_ends: Moment::default(),
            ticket: None,
            hole: false,
            lease: lease.ended(now),
        };
        self.slots.insert(slot.lease.ip.to_bits(), slot);
    }

    /// Takes an unused address. `false` when somebody has it already: it was a hole.
    pub(super) fn claim_unused(&self, pools: &PoolSet, lease: &Lease, home: u16) -> bool {
        let ip = lease.ip.to_bits();
        match self.slots.entry(ip) {
            Entry::Vacant(vacant) => {
                vacant.insert(self.new_slot(pools, lease.clone(), home));
                true
            }
            Entry::Occupied(mut occupied) => {
                let slot = occupied.get_mut();
                if slot.hole
                    && let Some(pool) = pools.of(ip)
                {
                    slot.hole = false;
                    pool.hole_closed();
                }
                false
            }
        }
    }

    fn new_slot(&self, pools: &PoolSet, lease: Lease, home: u16) -> Slot {
        let version = self.next_version();
        let mut slot = Slot {
            offer_ends: lease.expires,
            lease,
            durable: Durable::Nothing,
            version,
            floor: version,
            pending: false,
            ticket: None,
            hole: false,
        };
        place(pools, &mut slot, None, home);
        slot
    }

    /// Takes an address by name if it is free, or if `replace` allows to take it from whoever has
    /// it. Otherwise tells what is in the way.
    pub(super) fn claim_named(
        &self,
        pools: &PoolSet,
        lease: Lease,
        home: u16,
        now: Moment,
        replace: bool,
    ) -> Result<(), LeaseState> {
        let ip = lease.ip.to_bits();
        let moved = match self.slots.entry(ip) {
            Entry::Vacant(vacant) => {
                let mut slot = self.new_slot(pools, lease, home);
                if let Some(pool) = pools.of(ip) {
                    slot.hole = true;
                    pool.hole_made();
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
                self.take_over(pools, slot, lease, home)
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
        home: u16,
        lease: &mut Lease,
    ) -> bool {
        while let Some(ip) = pool.take_own(home.into()) {
            lease.ip = Ipv4Addr::from_bits(ip);
            if self.claim_unused(pools, lease, home) {
                return true;
            }
        }
        self.take_spare(pools, pool, &mut pool.slow_path(), home, lease)
    }

    fn take_spare(
        &self,
        pools: &PoolSet,
        pool: &Pool,
        spare: &mut Spare,
        home: u16,
        lease: &mut Lease,
    ) -> bool {
        while let Some(ip) = pool.take_any(home.into(), spare) {
            lease.ip = Ipv4Addr::from_bits(ip);
            if self.claim_unused(pools, lease, home) {
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
        home: u16,
        now: Moment,
        lease: &mut Lease,
    ) -> bool {
        let mut spare = pool.slow_path();
        while self.end_due(pools, pool, now, 256) > 0 {}
        if self.take_spare(pools, pool, &mut spare, home, lease) {
            return true;
        }
        while let Some((ticket, ip)) = pool.idle_longest() {
            let Some(mut slot) = self.slots.get_mut(&ip).filter(|slot| slot.ticket == Some(ticket))
            else {
                // The owner came back between the two looks and has placed the address anew, or
                // this would be the trace of a slot that is gone: either way nothing to keep.
                self.forget_ticket(pool, ticket, ip);
                continue;
            };
            lease.ip = Ipv4Addr::from_bits(ip);
            let moved = self.take_over(pools, &mut slot, lease.clone(), home);
            drop(slot);
            self.moved(moved, ip);
            return true;
        }
        false
    }

    fn forget_ticket(&self, pool: &Pool, ticket: Ticket, ip: u32) {
        // The slot is locked, so that nobody gives it this very ticket in between.
        match self.slots.entry(ip) {
            Entry::Occupied(occupied) if occupied.get().ticket == Some(ticket) => {}
            Entry::Occupied(_) | Entry::Vacant(_) => pool.remove(ticket, ip),
        }
    }

    /// Gives the slot of an address to another lease.
    fn take_over(&self, pools: &PoolSet, slot: &mut Slot, lease: Lease, home: u16) -> Moved {
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
        place(pools, slot, Some(from), home);
        moved
    }

    /// Ends what is over in a pool, at most `budget` tickets; how many were looked at. The caller
    /// is in the slow path of the pool.
    pub(super) fn end_due(
        &self,
        pools: &PoolSet,
        pool: &Pool,
        now: Moment,
        budget: usize,
    ) -> usize {
        for done in 0..budget {
            let Some((ticket, ip)) = pool.due(now) else { return done };
            let moved = match self.slots.entry(ip) {
                Entry::Occupied(occupied) if occupied.get().ticket == Some(ticket) => {
                    self.end(pools, occupied, now)
                }
                Entry::Occupied(_) | Entry::Vacant(_) => {
                    pool.remove(ticket, ip);
                    Moved::default()
                }
            };
            self.moved(moved, ip);
        }
        budget
    }

    /// Looks at an address whose ticket is due.
    fn end(
        &self,
        pools: &PoolSet,
        mut occupied: OccupiedEntry<'_, u32, Slot>,
        now: Moment,
    ) -> Moved {
        let slot = occupied.get_mut();
        let from = slot.lease.state;
        let home = slot.ticket.map_or(0, |ticket| ticket.home);
        if slot.pending {
            place_at(pools, slot, home, false, now + PENDING_GRACE);
        } else if now < slot.lease.expires {
            place(pools, slot, Some(from), home);
        } else if from == LeaseState::Offered {
            return self.revert(pools, occupied, now);
        } else {
            if from.is_taken() {
                slot.lease.state = LeaseState::Expired;
            }
            place(pools, slot, Some(from), home);
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
        let home = slot.ticket.map_or(0, |ticket| ticket.home);
        let who = |lease: &Lease| lease.network.map(|network| (network, lease.client.clone()));
        let Some(durable) = slot.durable_lease() else {
            let slot = occupied.remove();
            if let Some(pool) = pools.of(ip) {
                pool.count(Some(slot.lease.state), None);
                if let Some(ticket) = slot.ticket {
                    pool.remove(ticket, ip);
                }
                if slot.hole {
                    pool.hole_closed();
                } else {
                    pool.give_back(home, ip);
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
        place(pools, slot, Some(from), home);
        moved
    }
}

/// Puts the ticket of a slot where its state asks for, after the state was `from`.
pub(super) fn place(pools: &PoolSet, slot: &mut Slot, from: Option<LeaseState>, home: u16) {
    if let Some(pool) = pools.of(slot.lease.ip.to_bits()) {
        pool.count(from, Some(slot.lease.state));
    }
    // What is released but not yet so on disk is nobody else's.
    let idle = !slot.lease.state.is_taken() && !slot.pending;
    place_at(pools, slot, home, idle, slot.lease.expires);
}

fn place_at(pools: &PoolSet, slot: &mut Slot, home: u16, idle: bool, at: Moment) {
    let ip = slot.lease.ip.to_bits();
    let Some(pool) = pools.of(ip) else {
        slot.ticket = None;
        return;
    };
    let new = Ticket { home, idle, at };
    match slot.ticket {
        Some(old) if old == new => {}
        Some(old) => pool.replace(old, new, ip),
        None => pool.add(new, ip),
    }
    slot.ticket = Some(new);
}
