//! What is free: the addresses of every pool, spread over the shards.
//!
//! Every address of a pool is unused, or it has a slot in the table. An unused one lies in a range
//! of fresh addresses, in a list of returned ones (offered once, never bound), or after a reload
//! among those that were used a moment ago (`to_check`). The pools only propose, the table decides:
//! an address that was taken by name (a client asked for it) may lie there, too. It is skipped when
//! it is reached, and the slot knows of it ([`Slot::in_free_range`]).
//!
//! Every shard has an extent of its own and takes fresh addresses from it: O(1), under a lock that
//! is nearly never contended. The lock exists because other threads access the extent too: a
//! release through another shard, the sweep, a shard without fresh addresses. A shard without fresh
//! addresses takes the slow path. Only one thread of a pool is in it at a time (`spare`): it takes
//! a piece of what no shard has, then takes from other extents. When nothing is unused in any
//! extent, the address goes that has been idle longest. So no client is refused while any shard has
//! a free address.
//!
//! Memory is proportional to use: ranges, not bitmaps. Leases that end are found through timers,
//! which are the table's: a pool that changes by a reload leaves nothing behind but its own lists.
//!
//! [`Slot::in_free_range`]: super::slot::Slot::in_free_range

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bootstorm_protocols::time::Moment;
use crossbeam::utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use super::LeaseState;
use super::address::Address;
use super::table::Handle;
use crate::config::{Dhcp, PoolId};

/// First and last address, both included.
pub(super) type Range = (Address, Address);

/// Most fresh addresses that a shard takes from the spare ones at once.
const LARGEST_EXTENT: u128 = 1024;

/// How a pool counts a slot.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Listing {
    /// Whose extent.
    pub(super) shard: u16,
    pub(super) state: LeaseState,
    /// Anybody may have it: since when, and where it is.
    pub(super) idle: Option<(Moment, Handle)>,
}

/// The addresses of one pool that one shard owns.
#[derive(Default)]
struct Extent {
    fresh: Vec<Range>,
    returned: VecDeque<Address>,
    idle: BTreeSet<(Moment, Handle)>,
    /// Slots by state, in the order of the numbers of [`LeaseState`].
    states: [u64; 6],
}

impl Extent {
    /// The next unused address, which stays where it is.
    fn first(&mut self) -> Option<Address> {
        if self.fresh.is_empty()
            && let Some(ip) = self.returned.pop_front()
        {
            self.fresh.push((ip, ip));
        }
        self.fresh.last().map(|(low, _)| *low)
    }

    /// Takes the next unused address out, if it is this one.
    fn skip(&mut self, ip: Address) -> bool {
        match self.fresh.last_mut() {
            Some((low, high)) if *low == ip && low == high => {
                self.fresh.pop();
                true
            }
            Some((low, _)) if *low == ip => {
                *low = Address::from_bits(ip.to_bits() + 1);
                true
            }
            _ => false,
        }
    }

    /// Half of the last range, at least one address.
    fn split_fresh(&mut self) -> Option<Range> {
        let (low, high) = self.fresh.pop()?;
        let (first, last) = (low.to_bits(), high.to_bits());
        let middle = first + (last - first) / 2;
        if middle > first {
            self.fresh.push((low, Address::from_bits(middle - 1)));
        }
        Some((Address::from_bits(middle), high))
    }

    fn list(&mut self, listing: Listing) {
        self.states[listing.state as usize] += 1;
        if let Some(idle) = listing.idle {
            self.idle.insert(idle);
        }
    }

    fn unlist(&mut self, listing: Listing) {
        self.states[listing.state as usize] -= 1;
        if let Some(idle) = listing.idle {
            self.idle.remove(&idle);
        }
    }
}

/// Fresh addresses that no shard has taken yet, lowest last.
#[derive(Default)]
pub(super) struct Spare {
    ranges: Vec<Range>,
    len: u128,
    /// Used when the pool was made, and not looked at since; rising.
    to_check: Vec<Address>,
    checked: usize,
}

impl Spare {
    fn take(&mut self, wanted: u128) -> Option<Range> {
        let (low, high) = self.ranges.pop()?;
        let taken = wanted.clamp(1, len((low, high)));
        self.len -= taken;
        let end = Address::from_bits(low.to_bits() + (taken - 1));
        if end < high {
            self.ranges.push((Address::from_bits(low.to_bits() + taken), high));
        }
        Some((low, end))
    }

    /// The next address to be checked.
    pub(super) fn next_to_check(&mut self) -> Option<Address> {
        let next = self.to_check.get(self.checked).copied();
        self.checked += 1;
        if next.is_none() && !self.to_check.is_empty() {
            self.to_check = Vec::new();
        }
        next
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
    /// No other pool, before or after, has it; above 0.
    pub(super) number: u32,
    range: Range,
    /// Addresses of the range that the pool does not give away, rising: those of hosts, and those
    /// that this server or other machines have.
    reserved: Box<[Address]>,
    size: u64,
    extents: Box<[CachePadded<Mutex<Extent>>]>,
    spare: Mutex<Spare>,
}

impl Pool {
    /// A new pool, in which `used` addresses, which rise, are to be checked.
    fn new(
        number: u32,
        range: Range,
        reserved: Box<[Address]>,
        used: &[Address],
        shards: usize,
    ) -> Self {
        let mut spare = Spare::default();
        let mut next = Some(range.0.to_bits());
        let mut used_left = used.iter().copied().peekable();
        let mut kept = reserved.iter().copied().peekable();
        loop {
            let taken = match (used_left.peek(), kept.peek()) {
                (Some(a), Some(b)) if a <= b => used_left.next(),
                (Some(_) | None, Some(_)) => kept.next(),
                (Some(_), None) => used_left.next(),
                (None, None) => None,
            };
            let taken = taken.map(Address::to_bits);
            let Some(start) = next else { break };
            let end = match taken {
                Some(taken) if taken < start => continue,
                Some(taken) => taken.checked_sub(1),
                None => Some(range.1.to_bits()),
            };
            if let Some(end) = end.filter(|end| *end >= start) {
                let unused = (Address::from_bits(start), Address::from_bits(end));
                spare.ranges.push(unused);
                spare.len += len(unused);
            }
            let Some(taken) = taken else { break };
            next = taken.checked_add(1).filter(|next| *next <= range.1.to_bits());
        }
        spare.ranges.reverse();
        let of_pool = |ip: &Address| reserved.binary_search(ip).is_err();
        spare.to_check = used.iter().copied().filter(of_pool).collect();
        let size = len(range) - reserved.len() as u128;
        Self {
            number,
            range,
            size: u64::try_from(size).unwrap_or(u64::MAX),
            reserved,
            extents: (0..shards).map(|_| CachePadded::default()).collect(),
            spare: Mutex::new(spare),
        }
    }

    /// The next unused address of the shard's own extent, unless it was taken by name; it stays
    /// there.
    pub(super) fn first(&self, shard: u16) -> Option<Address> {
        self.extents[usize::from(shard)].lock().first()
    }

    /// That address is used: takes it out, if it is the next one of the shard's own extent.
    pub(super) fn skip(&self, shard: u16, ip: Address) -> bool {
        self.extents[usize::from(shard)].lock().skip(ip)
    }

    /// The lock of the slow path. Whoever holds a stripe of the table does not ask for it.
    pub(super) fn slow_path(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock()
    }

    /// Gets the shard's extent something unused from wherever there is something: spare, other
    /// shards.
    pub(super) fn refill(&self, shard: u16, spare: &mut Spare) -> bool {
        let own = &self.extents[usize::from(shard)];
        let wanted = (spare.len / (2 * self.extents.len() as u128)).clamp(1, LARGEST_EXTENT);
        let range = spare.take(wanted).or_else(|| {
            self.extents.iter().find_map(|other| {
                let mut other = other.lock();
                other.split_fresh().or_else(|| other.returned.pop_front().map(|ip| (ip, ip)))
            })
        });
        if let Some(range) = range {
            own.lock().fresh.push(range);
        }
        range.is_some()
    }

    /// The address that has been idle longest, in any extent.
    pub(super) fn idle_longest(&self) -> Option<(Moment, Handle)> {
        self.extents.iter().filter_map(|extent| extent.lock().idle.first().copied()).min()
    }

    /// A slot of the pool is counted differently from now on; `None` is not at all. The caller
    /// holds the stripe of the slot.
    pub(super) fn relist(&self, old: Option<Listing>, new: Option<Listing>) {
        if old == new {
            return;
        }
        let shard = |listing: Listing| usize::from(listing.shard);
        match (old, new) {
            (Some(old), Some(new)) if old.shard == new.shard => {
                let mut extent = self.extents[shard(new)].lock();
                extent.unlist(old);
                extent.list(new);
            }
            _ => {
                if let Some(old) = old {
                    self.extents[shard(old)].lock().unlist(old);
                }
                if let Some(new) = new {
                    self.extents[shard(new)].lock().list(new);
                }
            }
        }
    }

    /// The address of a slot that is gone and was never bound.
    pub(super) fn give_back(&self, shard: u16, ip: Address) {
        self.extents[usize::from(shard)].lock().returned.push_back(ip);
    }

    pub(super) fn counts(&self) -> PoolCounts {
        let mut states = [0; 6];
        for extent in &self.extents {
            let extent = extent.lock();
            states.iter_mut().zip(extent.states).for_each(|(sum, count)| *sum += count);
        }
        let used: u64 = states.iter().sum();
        let state = |state: LeaseState| states[state as usize];
        PoolCounts {
            size: self.size,
            unused: self.size.saturating_sub(used),
            idle: state(LeaseState::Released) + state(LeaseState::Expired),
            offered: state(LeaseState::Offered),
            active: state(LeaseState::Active),
            declined: state(LeaseState::Declined),
        }
    }

    /// Every address that may be unused, as often as it is listed, and every idle one.
    #[cfg(test)]
    pub(super) fn lists(&self) -> (Vec<Address>, Vec<(Moment, Handle)>) {
        let (mut unused, mut idle) = (Vec::new(), Vec::new());
        let spare = self.spare.lock();
        let mut add = |(low, high): &Range| {
            unused.extend((low.to_bits()..=high.to_bits()).map(Address::from_bits));
        };
        spare.ranges.iter().for_each(&mut add);
        for extent in &self.extents {
            let extent = extent.lock();
            extent.fresh.iter().for_each(&mut add);
            extent.returned.iter().for_each(|ip| add(&(*ip, *ip)));
            idle.extend(extent.idle.iter().copied());
        }
        unused.extend(&spare.to_check[spare.checked.min(spare.to_check.len())..]);
        (unused, idle)
    }
}

/// All pools of one configuration.
pub(super) struct PoolSet {
    /// In the order of the configuration: by rising address, none overlaps.
    pools: Vec<Arc<Pool>>,
    /// Of the latest pool.
    number: u32,
    shards: usize,
}

impl PoolSet {
    pub(super) fn empty(shards: usize) -> Self {
        Self { pools: Vec::new(), number: 0, shards }
    }

    /// The pools of a configuration. Those that are as they were are taken over with all they hold;
    /// for the others `used` gives all used addresses, rising; it is asked once at most. `own` are
    /// the addresses of this host.
    pub(super) fn next(
        &self,
        dhcp: &Dhcp,
        own: &[Ipv4Addr],
        used: impl FnOnce() -> Vec<Address>,
    ) -> Self {
        let hosts = dhcp.hosts.ips().iter();
        let excluded = dhcp.excluded.iter().map(|(address, _)| address);
        let mut reserved: Vec<_> =
            hosts.chain(excluded).chain(own).map(|ip| Address::from(*ip)).collect();
        reserved.sort_unstable();
        reserved.dedup();
        let within = |all: &[Address], range: Range| {
            all.partition_point(|ip| *ip < range.0)..all.partition_point(|ip| *ip <= range.1)
        };
        let mut used = Some(used);
        let mut used_now = Vec::new();
        let mut number = self.number;
        let pools = dhcp.pools.iter().map(|pool| {
            let range = (pool.range.0.into(), pool.range.1.into());
            let inside = &reserved[within(&reserved, range)];
            let kept = self
                .containing(range.0)
                .filter(|old| old.range == range && *old.reserved == *inside);
            kept.cloned().unwrap_or_else(|| {
                if let Some(used) = used.take() {
                    used_now = used();
                }
                number += 1;
                let used = &used_now[within(&used_now, range)];
                Arc::new(Pool::new(number, range, inside.into(), used, self.shards))
            })
        });
        let pools = pools.collect();
        Self { pools, number, shards: self.shards }
    }

    fn containing(&self, ip: Address) -> Option<&Arc<Pool>> {
        let after = self.pools.partition_point(|pool| pool.range.0 <= ip);
        self.pools[..after].last().filter(|pool| ip <= pool.range.1)
    }

    /// The pool that manages an address: none where no pool gives it away.
    pub(super) fn of(&self, ip: Address) -> Option<&Pool> {
        let pool = self.containing(ip)?;
        pool.reserved.binary_search(&ip).is_err().then_some(pool)
    }

    /// The pool of an id, if the configuration has so many.
    pub(super) fn get(&self, id: PoolId) -> Option<&Pool> {
        self.pools.get(id.index()).map(Arc::as_ref)
    }

    /// The pool that has exactly this range.
    pub(super) fn with_range(&self, range: Range) -> Option<&Pool> {
        self.containing(range.0).filter(|pool| pool.range == range).map(Arc::as_ref)
    }

    /// Whether it has pools that `old` did not have.
    pub(super) fn has_new(&self, old: &Self) -> bool {
        self.number != old.number
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().map(Arc::as_ref)
    }
}

impl PartialEq for Pool {
    /// The same pool, not one that is like it.
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

/// Number of addresses in a range.
fn len((low, high): Range) -> u128 {
    high.to_bits() - low.to_bits() + 1
}
