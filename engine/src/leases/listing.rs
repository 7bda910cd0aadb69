//! Where slots are listed besides the index: in the timers, and in the counts and idle lists of
//! their pools. Every change of a slot goes through [`Table::carry_out`], which keeps them true.

use std::collections::BTreeSet;

use bootstorm_protocols::time::Moment;
use crossbeam::utils::CachePadded;
use parking_lot::Mutex;
use slab::Slab;

use super::pools::{Listing, PoolSet};
use super::slot::{Identity, Side, Slot, record};
use super::state::{Kind, Outcome, State, Whose};
use super::table::{Handle, Stripe, Table};
use super::{Ended, Ending, LeaseScope, LeaseState};

/// When to look at which slot again; a list for each shard, so that two of them seldom meet.
pub(super) struct Timers(Box<[CachePadded<Mutex<TimerList>>]>);

type TimerList = BTreeSet<Timer>;

/// When, and which slot: twelve bytes, not sixteen, for there is one for each lease.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    upper: u32,
    lower: u32,
    slot: Handle,
}

impl Timer {
    fn new(at: Moment, slot: Handle) -> Self {
        let nanos = at.as_nanos();
        // The upper half and the lower half.
        Self { upper: (nanos >> 32) as u32, lower: nanos as u32, slot }
    }

    fn at(self) -> Moment {
        Moment::from_nanos(u64::from(self.upper) << 32 | u64::from(self.lower))
    }
}

impl Timers {
    pub(super) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| CachePadded::default()).collect())
    }

    fn set(&self, slot: &mut Slot, handle: Handle, at: Moment) {
        if slot.timer == at {
            return;
        }
        let mut timers = self.0[usize::from(slot.shard)].lock();
        if slot.timer != Moment::NEVER {
            timers.remove(&Timer::new(slot.timer, handle));
        }
        if at != Moment::NEVER {
            timers.insert(Timer::new(at, handle));
        }
        slot.timer = at;
    }

    fn first(&self, shard: usize) -> Option<(Moment, Handle)> {
        self.0[shard].lock().first().map(|timer| (timer.at(), timer.slot))
    }

    /// All of them.
    #[cfg(test)]
    pub(super) fn list(&self) -> Vec<(u16, Moment, Handle)> {
        let of = |(shard, timers): (u16, &CachePadded<Mutex<TimerList>>)| {
            let timers = timers.lock();
            timers.iter().map(|timer| (shard, timer.at(), timer.slot)).collect::<Vec<_>>()
        };
        (0..).zip(&self.0).flat_map(of).collect()
    }
}

impl Slot {
    /// How the lease that the pool counts ends by an outcome, if it does.
    fn ending(&self, sides: &Slab<Side>, outcome: &Outcome, now: Moment) -> Option<Ending> {
        if self.listed != LeaseState::Active {
            return None;
        }
        match self.state(sides).view(now).0 {
            LeaseState::Expired => Some(Ending::Expiry),
            LeaseState::Active => {
                let after = outcome.state.map(|state| state.view(now).0);
                (after == Some(LeaseState::Released)).then_some(Ending::Release)
            }
            _ => None,
        }
    }

    /// The lease as one that has ended, if the configuration has anything done then.
    fn ended(&self, sides: &Slab<Side>, how: Ending, now: Moment) -> Option<Ended> {
        let LeaseScope { expiry, release, .. } = self.identity.notes.scope();
        let block = match how {
            Ending::Expiry => expiry,
            Ending::Release => release,
        }?;
        let state = self.state(sides);
        let version = record(&state).map_or(0, |record| record.version);
        Some(Ended { lease: self.lease(&self.identity, &state, now), how, block, version })
    }
}

/// How the pool of a slot counts it now.
fn listed(slot: &Slot, state: &State, handle: Handle) -> Listing {
    let idle = match state {
        State::Settled(record) if !slot.listed.is_taken() => Some((record.expires, handle)),
        _ => None,
    };
    Listing { shard: slot.shard, state: slot.listed, idle }
}

impl Table {
    /// Carries out what became of an event: the state of the slot, its client, and where it is
    /// listed. `sender` is the client that the event came from, and its shard. The slot may be gone
    /// afterwards: then `false`.
    pub(super) fn carry_out(
        &self,
        pools: &PoolSet,
        stripe: &mut Stripe,
        handle: Handle,
        outcome: Outcome,
        sender: Option<(Identity, u16)>,
        now: Moment,
    ) -> bool {
        let Stripe { slots, sides, .. } = stripe;
        let slot = &mut slots[handle.index()];
        let ending = slot.ending(sides, &outcome, now);
        if let Some(ended) = ending {
            self.tell(slot, sides, ended, now);
        }
        let pool = pools.of(slot.address);
        let counted = pool.filter(|pool| pool.number == slot.pool);
        let old = counted.map(|_| listed(slot, &slot.state(sides), handle));
        let Some(state) = outcome.state else {
            self.timers.set(slot, handle, Moment::NEVER);
            let slot = self.remove(stripe, handle);
            if let Some(pool) = counted {
                pool.relist(old, None);
                if !slot.in_free_range {
                    pool.give_back(slot.shard, slot.address);
                }
            }
            return false;
        };
        let (sender, shard) = sender.unzip();
        if let Some(shard) =
            shard.filter(|shard| outcome.whose == Whose::Senders && slot.shard != *shard)
        {
            let at = slot.timer;
            self.timers.set(slot, handle, Moment::NEVER);
            slot.shard = shard;
            self.timers.set(slot, handle, at);
        }
        if let Some(before) = slot.set(sides, state, outcome.whose, sender) {
            let to = slot.identity.client.clone();
            self.move_client(&before.client, &to, handle);
        }
        let slot = &mut slots[handle.index()];
        if let Some(end) = state.next_end(now)
            && end < slot.timer
        {
            self.timers.set(slot, handle, end);
        }
        slot.listed = state.view(now).0;
        if ending == Some(Ending::Release) {
            slot.identity.notes.set_scope(LeaseScope::default());
        }
        match pool {
            Some(pool) => {
                if counted.is_none() {
                    slot.pool = pool.number;
                    // Wherever the pool has it, it finds the slot when it gets there.
                    slot.in_free_range = true;
                }
                pool.relist(old, Some(listed(slot, &state, handle)));
            }
            None => slot.pool = 0,
        }
        true
    }

    /// Tells of a lease that has ended, if the configuration has anything done then.
    fn tell(&self, slot: &Slot, sides: &Slab<Side>, how: Ending, now: Moment) {
        let Some(heard) = self.heard.get() else { return };
        slot.ended(sides, how, now).into_iter().for_each(heard);
    }

    /// Leases that are listed as expired, and for which the configuration has something done then;
    /// those come first that ended first.
    pub(super) fn expired(&self, now: Moment) -> Vec<Ended> {
        let mut expired = Vec::new();
        self.each_slot(|stripe, handle| {
            let slot = &stripe.slots[handle.index()];
            // A quarantine that is over is none.
            if slot.listed == LeaseState::Expired && slot.kind == Kind::Leased {
                expired.extend(slot.ended(&stripe.sides, Ending::Expiry, now));
            }
        });
        expired.sort_by_key(|ended| (ended.lease.expires, ended.lease.ip));
        expired
    }

    /// Lists a slot anew: a pool of the configuration has it now, or its timer was due.
    pub(super) fn list(&self, pools: &PoolSet, stripe: &mut Stripe, handle: Handle, now: Moment) {
        let outcome = stripe.slots[handle.index()].state(&stripe.sides).at(now);
        self.carry_out(pools, stripe, handle, outcome, None, now);
    }

    /// Brings a slot up to `now`; `false` when it is gone.
    pub(super) fn pass_time(
        &self,
        pools: &PoolSet,
        stripe: &mut Stripe,
        handle: Handle,
        now: Moment,
    ) -> bool {
        let state = stripe.slots[handle.index()].state(&stripe.sides);
        let outcome = state.at(now);
        if outcome.state == Some(state) {
            return true;
        }
        self.carry_out(pools, stripe, handle, outcome, None, now)
    }

    /// Lists a slot in the pool that manages its address now, if that does not count it yet.
    pub(super) fn adopt(&self, pools: &PoolSet, stripe: &mut Stripe, handle: Handle, now: Moment) {
        let slot = &stripe.slots[handle.index()];
        if slot.pool != pools.of(slot.address).map_or(0, |pool| pool.number) {
            self.list(pools, stripe, handle, now);
        }
    }

    /// Ends what is over, at most `budget` slots; how many were looked at.
    pub(super) fn end_due(&self, pools: &PoolSet, now: Moment, budget: usize) -> usize {
        let mut done = 0;
        for shard in 0..self.timers.0.len() {
            while done < budget {
                let Some((at, handle)) = self.timers.first(shard).filter(|(at, _)| *at <= now)
                else {
                    break;
                };
                done += 1;
                let mut stripe = self.lock_handle(handle);
                let slot = stripe.slots.get_mut(handle.index());
                match slot {
                    Some(slot) if slot.timer == at && usize::from(slot.shard) == shard => {
                        self.timers.set(slot, handle, Moment::NEVER);
                        self.list(pools, &mut stripe, handle, now);
                    }
                    // Another thread was here meanwhile.
                    _ => {}
                }
            }
        }
        done
    }
}
