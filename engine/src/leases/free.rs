//! Which address a client without one gets.

use bootstorm_protocols::time::Moment;

use super::Refusal;
use super::address::Address;
use super::pools::{Pool, PoolSet};
use super::table::{Table, is_free};

/// Addresses that are looked at together in the slow path.
const PIECE: usize = 256;

/// How often an idle address may be gone when it is looked at.
const TRIES: usize = 64;

impl Table {
    /// See `ShardLeases::propose`. Which addresses are used is found out on the way, and unused
    /// ones may go from one extent of a pool to another; nothing is taken.
    pub(super) fn propose<'p>(
        &self,
        pools: &'p PoolSet,
        candidates: impl Iterator<Item = &'p Pool> + Clone,
        wish: Option<Address>,
        shard: u16,
        now: Moment,
    ) -> Result<Address, Refusal> {
        if let Some(wish) = wish
            && let Some(pool) = pools.of(wish)
            && candidates.clone().any(|candidate| candidate.number == pool.number)
            && self.is_free(wish, now)
        {
            return Ok(wish);
        }
        let unused = candidates.clone().find_map(|pool| self.unused(pools, pool, shard, now));
        unused
            .or_else(|| candidates.clone().find_map(|pool| self.idle(pools, pool, shard, now)))
            .ok_or(Refusal::PoolFull)
    }

    /// An address of a pool that has no slot.
    fn unused(&self, pools: &PoolSet, pool: &Pool, shard: u16, now: Moment) -> Option<Address> {
        self.first_unused(pools, pool, shard, now).or_else(|| {
            let mut spare = pool.slow_path();
            loop {
                // Before what was used when the pool was made: there is most often none.
                if pool.refill(shard, &mut spare) {
                    if let Some(ip) = self.first_unused(pools, pool, shard, now) {
                        return Some(ip);
                    }
                } else if let Some(ip) = spare.next_to_check() {
                    self.check(pools, pool, ip, shard, now);
                } else {
                    return None;
                }
            }
        })
    }

    fn first_unused(
        &self,
        pools: &PoolSet,
        pool: &Pool,
        shard: u16,
        now: Moment,
    ) -> Option<Address> {
        while let Some(ip) = pool.first(shard) {
            if !self.is_used(pools, ip, now) {
                return Some(ip);
            }
            pool.skip(shard, ip);
        }
        None
    }

    /// Whether an address, which its pool is about to give away, has a slot. The slot knows then
    /// that the pool does not have it among the unused any more.
    fn is_used(&self, pools: &PoolSet, ip: Address, now: Moment) -> bool {
        let mut locked = self.lock(ip);
        let Some(handle) = locked.find(ip) else { return false };
        if !self.pass_time(pools, &mut locked.stripe, handle, now) {
            return false;
        }
        self.adopt(pools, &mut locked.stripe, handle, now);
        locked.stripe.slots[handle.index()].in_free_range = false;
        true
    }

    /// An address that had a slot when its pool was made: it has one still, or is unused.
    fn check(&self, pools: &PoolSet, pool: &Pool, ip: Address, shard: u16, now: Moment) {
        if !self.is_used(pools, ip, now) {
            pool.give_back(shard, ip);
        }
    }

    /// Looks at what of a pool was used when it was made, in pieces.
    pub(super) fn check_all(&self, pools: &PoolSet, pool: &Pool, shard: u16, now: Moment) {
        loop {
            let mut spare = pool.slow_path();
            for _ in 0..PIECE {
                let Some(ip) = spare.next_to_check() else { return };
                self.check(pools, pool, ip, shard, now);
            }
        }
    }

    /// An address of a pool that was offered in vain, or else the one that has been released or
    /// expired longest. All that is due ends first, so `None` means that every address is taken at
    /// `now`.
    fn idle(&self, pools: &PoolSet, pool: &Pool, shard: u16, now: Moment) -> Option<Address> {
        while self.end_due(pools, now, PIECE) > 0 {}
        if let Some(ip) = self.unused(pools, pool, shard, now) {
            return Some(ip);
        }
        for _ in 0..TRIES {
            // Another thread may take it, or have taken it, meanwhile.
            let (_, handle) = pool.idle_longest()?;
            let stripe = self.lock_handle(handle);
            if let Some(slot) = stripe.slots.get(handle.index())
                && is_free(slot.state(&stripe.sides), now)
                && pools.of(slot.address).is_some_and(|of| of.number == pool.number)
            {
                return Some(slot.address);
            }
        }
        None
    }
}
