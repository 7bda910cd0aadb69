//! What is free: the addresses of every pool, spread over the shards.
//!
//! Every address of a pool is in exactly one place:
//! - unused: in a range of fresh addresses, or in a list of returned ones (offered once, never
//!   bound);
//! - used: it has a slot in the index, and the slot has one [`Position`] here: in the timers
//!   (something ends then) or among the idle (released or expired, free to take, longest first).
//!
//! Every shard has an extent of its own and takes fresh addresses from it: O(1), under a lock that
//! is nearly never contended. The lock exists because other threads access the extent too: a
//! release through another shard, the sweep, a shard without fresh addresses. A shard without fresh
//! addresses takes the slow path. Only one thread of a pool is in it at a time (`spare`): it takes
//! a piece of what no shard has, then takes from other extents, then reuses the address that has
//! been idle longest in any extent. So no client is refused while any shard has a free address.
//! The pools only propose; the index decides. An address that was taken by name (a hint) may still
//! lie in a fresh range. The range then skips it when it gets there.
//!
//! Memory is proportional to use: ranges, not bitmaps. It grows (and allocates) with addresses in
//! use for the first time, with fragments, and when positions move; not with renewals.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bootstorm_protocols::time::Moment;
use crossbeam::utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use super::LeaseState;
use crate::config::{Dhcp, NetworkId, PoolId};

/// First and last address, both included.
pub(super) type Range = (u32, u32);

/// Most fresh addresses that a shard takes from the spare ones at once.
const LARGEST_EXTENT: u64 = 1024;

/// Where a used address is listed in its pool.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Position {
    /// The owning shard: the address is in its extent.
    pub(super) shard: u16,
    /// Listed among the idle, else in the timers.
    pub(super) idle: bool,
    /// When something ends (it may end later than that, never earlier), or when it ended.
    pub(super) at: Moment,
}

/// The addresses of one pool that one shard owns.
#[derive(Default)]
struct Extent {
    fresh: Vec<Range>,
    fresh_len: u64,
    returned: VecDeque<u32>,
    timers: BTreeSet<(Moment, u32)>,
    idle: BTreeSet<(Moment, u32)>,
}

impl Extent {
    fn take_fresh(&mut self) -> Option<u32> {
        let (low, high) = self.fresh.last_mut()?;
        let ip = *low;
        if low == high {
            self.fresh.pop();
        } else {
            *low += 1;
        }
        self.fresh_len -= 1;
        Some(ip)
    }

    fn add_fresh(&mut self, range: Range) {
        self.fresh.push(range);
        self.fresh_len += len(range);
    }

    /// Half of the last range, at least one address.
    fn split_fresh(&mut self) -> Option<Range> {
        let range = self.fresh.pop()?;
        let (low, high) = range;
        let middle = low + (high - low) / 2;
        self.fresh_len -= len((middle, high));
        if middle > low {
            self.fresh.push((low, middle - 1));
        }
        Some((middle, high))
    }

    fn positions(&mut self, idle: bool) -> &mut BTreeSet<(Moment, u32)> {
        if idle { &mut self.idle } else { &mut self.timers }
    }
}

/// Fresh addresses that no shard has taken yet, lowest last.
#[derive(Default)]
pub(super) struct Spare {
    ranges: Vec<Range>,
    len: u64,
}

impl Spare {
    fn take(&mut self, wanted: u64) -> Option<Range> {
        let (low, high) = self.ranges.pop()?;
        // At most the length of the range, which fits an address.
        let taken = wanted.clamp(1, len((low, high))) as u32;
        self.len -= u64::from(taken);
        if taken - 1 < high - low {
            self.ranges.push((low + taken, high));
        }
        Some((low, low + (taken - 1)))
    }
}

/// Addresses of a pool by what they are used for.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct PoolCounts {
    /// Addresses that may be given: those of the range that are not a host's or somebody else's.
    pub size: u64,
    /// Never bound by anybody.
    pub unused: u64,
    /// Released or expired: free, remembered for the client that had it.
    pub idle: u64,
    /// Held for a client that has not requested it yet.
    pub offered: u64,
    /// Given to a client. Leases whose end no sweep has seen yet are among them.
    pub active: u64,
    /// In quarantine.
    pub declined: u64,
}

/// One pool.
pub(super) struct Pool {
    range: Range,
    /// Addresses of the range that the pool does not give away, rising: those of hosts, and those
    /// that this server or other machines have.
    reserved: Box<[u32]>,
    size: u64,
    extents: Box<[CachePadded<Mutex<Extent>>]>,
    spare: Mutex<Spare>,
    /// Used addresses that still lie in a fresh range or among the returned ones.
    used_in_range: AtomicU64,
    /// Slots by state, in the order of the numbers of [`LeaseState`].
    states: [AtomicU64; 6],
}

impl Pool {
    /// A new pool. The caller adds the positions of its `used` addresses, which rise.
    fn new(range: Range, reserved: Box<[u32]>, used: &[u32], shards: usize) -> Self {
        let mut spare = Spare::default();
        let mut next = Some(range.0);
        let mut used = used.iter().copied().peekable();
        let mut kept = reserved.iter().copied().peekable();
        loop {
            let taken = match (used.peek(), kept.peek()) {
                (Some(a), Some(b)) if a <= b => used.next(),
                (Some(_) | None, Some(_)) => kept.next(),
                (Some(_), None) => used.next(),
                (None, None) => None,
            };
            let Some(start) = next else { break };
            let end = match taken {
                Some(taken) if taken < start => continue,
                Some(taken) => taken.checked_sub(1),
                None => Some(range.1),
            };
            if let Some(end) = end.filter(|end| *end >= start) {
                spare.ranges.push((start, end));
                spare.len += len((start, end));
            }
            let Some(taken) = taken else { break };
            next = taken.checked_add(1).filter(|next| *next <= range.1);
        }
        spare.ranges.reverse();
        Self {
            range,
            size: len(range) - reserved.len() as u64,
            reserved,
            extents: (0..shards).map(|_| CachePadded::default()).collect(),
            spare: Mutex::new(spare),
            used_in_range: AtomicU64::new(0),
            states: Default::default(),
        }
    }

    /// A fresh address of the shard's own extent.
    pub(super) fn take_own(&self, shard: usize) -> Option<u32> {
        self.extents[shard].lock().take_fresh()
    }

    /// The lock of the slow path. Whoever holds a slot of the index does not ask for it.
    pub(super) fn slow_path(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock()
    }

    /// An unused address from wherever there is one: spare, returned, other shards.
    pub(super) fn take_any(&self, shard: usize, spare: &mut Spare) -> Option<u32> {
        let wanted = (spare.len / (2 * self.extents.len() as u64)).clamp(1, LARGEST_EXTENT);
        {
            let mut own = self.extents[shard].lock();
            if own.fresh.is_empty()
                && let Some(range) = spare.take(wanted)
            {
                own.add_fresh(range);
            }
            if let Some(ip) = own.take_fresh().or_else(|| own.returned.pop_front()) {
                return Some(ip);
            }
        }
        for other in &self.extents {
            let range = other.lock().split_fresh();
            if let Some(range) = range {
                let mut own = self.extents[shard].lock();
                own.add_fresh(range);
                return own.take_fresh();
            }
        }
        self.extents.iter().find_map(|other| other.lock().returned.pop_front())
    }

    /// A position of the timers that is due at `now`, in any extent. It stays listed.
    pub(super) fn due(&self, now: Moment) -> Option<(Position, u32)> {
        self.first(false).filter(|(position, _)| position.at <= now)
    }

    /// The address that has been idle longest, in any extent. It stays listed.
    pub(super) fn idle_longest(&self) -> Option<(Position, u32)> {
        self.first(true)
    }

    fn first(&self, idle: bool) -> Option<(Position, u32)> {
        let firsts = (0..).zip(&self.extents).filter_map(|(shard, extent)| {
            let (at, ip) = extent.lock().positions(idle).first().copied()?;
            Some((Position { shard, idle, at }, ip))
        });
        firsts.min_by_key(|(position, ip)| (position.at, *ip))
    }

    /// Adds the position of a slot. The caller holds the slot.
    pub(super) fn add(&self, position: Position, ip: u32) {
        let mut extent = self.extents[usize::from(position.shard)].lock();
        extent.positions(position.idle).insert((position.at, ip));
    }

    /// Moves the position of a slot. The caller holds the slot.
    pub(super) fn replace(&self, old: Position, new: Position, ip: u32) {
        let mut extent = self.extents[usize::from(old.shard)].lock();
        extent.positions(old.idle).remove(&(old.at, ip));
        if old.shard == new.shard {
            extent.positions(new.idle).insert((new.at, ip));
        } else {
            drop(extent);
            self.add(new, ip);
        }
    }

    /// Removes the position of a slot.
    pub(super) fn remove(&self, position: Position, ip: u32) {
        self.extents[usize::from(position.shard)]
            .lock()
            .positions(position.idle)
            .remove(&(position.at, ip));
    }

    /// The address of a slot that is gone and was never bound.
    pub(super) fn give_back(&self, shard: u16, ip: u32) {
        self.extents[usize::from(shard)].lock().returned.push_back(ip);
    }

    /// An address was taken by name while it lay in a fresh range.
    pub(super) fn count_used_in_range(&self) {
        self.used_in_range.fetch_add(1, Relaxed);
    }

    /// Such an address was reached in its range, or is unused again.
    pub(super) fn uncount_used_in_range(&self) {
        self.used_in_range.fetch_sub(1, Relaxed);
    }

    /// A slot changed its state; `None` is no slot.
    pub(super) fn count(&self, from: Option<LeaseState>, to: Option<LeaseState>) {
        if let Some(from) = from {
            self.states[from as usize].fetch_sub(1, Relaxed);
        }
        if let Some(to) = to {
            self.states[to as usize].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn counts(&self) -> PoolCounts {
        let spare = self.spare.lock();
        let unused: u64 = self
            .extents
            .iter()
            .map(|extent| extent.lock())
            .map(|extent| extent.fresh_len + extent.returned.len() as u64)
            .sum();
        let state = |state: LeaseState| self.states[state as usize].load(Relaxed);
        PoolCounts {
            size: self.size,
            unused: (unused + spare.len).saturating_sub(self.used_in_range.load(Relaxed)),
            idle: state(LeaseState::Released) + state(LeaseState::Expired),
            offered: state(LeaseState::Offered),
            active: state(LeaseState::Active),
            declined: state(LeaseState::Declined),
        }
    }

    #[cfg(test)]
    pub(super) fn positions(&self) -> Vec<(Position, u32)> {
        let mut all = Vec::new();
        for (shard, extent) in (0..).zip(&self.extents) {
            let extent = extent.lock();
            all.extend(
                extent.timers.iter().map(|&(at, ip)| (Position { shard, idle: false, at }, ip)),
            );
            all.extend(
                extent.idle.iter().map(|&(at, ip)| (Position { shard, idle: true, at }, ip)),
            );
        }
        all
    }
}

/// All pools of one configuration, and what else of it the leases need.
pub(super) struct PoolSet {
    /// In the order of the configuration: by rising address, none overlaps.
    pools: Vec<Arc<Pool>>,
    /// First address, last address, network: by rising address.
    networks: Vec<(u32, u32, NetworkId)>,
    /// Addresses that no pool gives away, rising.
    reserved: Vec<u32>,
    pub(super) shards: usize,
}

impl PoolSet {
    pub(super) fn empty(shards: usize) -> Self {
        Self { pools: Vec::new(), networks: Vec::new(), reserved: Vec::new(), shards }
    }

    /// The pools of a configuration. Those that are as they were are taken over with all they hold;
    /// for the others `used` gives the used addresses in a range, rising. `own` are the addresses
    /// of this host. Also tells which are new.
    pub(super) fn next(
        &self,
        dhcp: &Dhcp,
        own: &[Ipv4Addr],
        mut used: impl FnMut(Range) -> Vec<u32>,
    ) -> (Self, Vec<Arc<Pool>>) {
        let hosts = dhcp.hosts.ips().iter();
        let excluded = dhcp.excluded.iter().map(|(address, _)| address);
        let mut reserved: Vec<u32> =
            hosts.chain(excluded).chain(own).map(|ip| ip.to_bits()).collect();
        reserved.sort_unstable();
        reserved.dedup();
        let mut networks: Vec<_> = dhcp
            .subnets
            .iter()
            .map(|subnet| {
                let (low, high) = (subnet.prefix.network(), subnet.prefix.broadcast());
                (low.to_bits(), high.to_bits(), subnet.network)
            })
            .collect();
        networks.sort_unstable_by_key(|(low, _, _)| *low);
        let mut new = Vec::new();
        let pools = dhcp.pools.iter().map(|pool| {
            let range = (pool.range.0.to_bits(), pool.range.1.to_bits());
            let inside = reserved.partition_point(|ip| *ip < range.0)
                ..reserved.partition_point(|ip| *ip <= range.1);
            let kept = self
                .containing(range.0)
                .filter(|old| old.range == range && *old.reserved == reserved[inside.clone()]);
            Arc::clone(kept.unwrap_or_else(|| {
                let reserved = reserved[inside.clone()].into();
                new.push(Arc::new(Pool::new(range, reserved, &used(range), self.shards)));
                // Just pushed.
                &new[new.len() - 1]
            }))
        });
        let pools = pools.collect();
        (Self { pools, networks, reserved, shards: self.shards }, new)
    }

    fn containing(&self, ip: u32) -> Option<&Arc<Pool>> {
        let after = self.pools.partition_point(|pool| pool.range.0 <= ip);
        self.pools[..after].last().filter(|pool| ip <= pool.range.1)
    }

    /// The pool that manages an address: none where no pool gives it away.
    pub(super) fn of(&self, ip: u32) -> Option<&Pool> {
        let pool = self.containing(ip)?;
        pool.reserved.binary_search(&ip).is_err().then_some(pool)
    }

    /// The pool of an id, if the configuration has so many.
    pub(super) fn get(&self, id: PoolId) -> Option<&Pool> {
        self.pools.get(id.index()).map(Arc::as_ref)
    }

    /// Whether one of the pools may give an address away.
    pub(super) fn permits(&self, ids: &[PoolId], ip: u32) -> bool {
        self.of(ip).is_some_and(|pool| {
            ids.iter().any(|id| self.get(*id).is_some_and(|wanted| wanted.range == pool.range))
        })
    }

    /// Whether no pool gives the address away: it is a host's, this server's, or named as another
    /// machine's.
    pub(super) fn is_reserved(&self, ip: u32) -> bool {
        self.reserved.binary_search(&ip).is_ok()
    }

    /// The network an address lies in.
    pub(super) fn network(&self, ip: u32) -> Option<NetworkId> {
        let after = self.networks.partition_point(|(low, _, _)| *low <= ip);
        let (_, high, network) = self.networks[..after].last()?;
        (ip <= *high).then_some(*network)
    }

    pub(super) fn same_networks(&self, other: &Self) -> bool {
        self.networks == other.networks
    }

    pub(super) fn len(&self) -> usize {
        self.pools.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().map(Arc::as_ref)
    }
}

impl PartialEq for Pool {
    /// The same pool, not one that is like it.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

/// Number of addresses in a range.
fn len((low, high): Range) -> u64 {
    u64::from(high - low) + 1
}
