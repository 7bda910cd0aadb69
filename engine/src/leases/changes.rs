//! Steps of clients, and what becomes of them on disk.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use bootstorm_protocols::time::Moment;

use super::address::Address;
use super::pools::PoolSet;
use super::slot::{Identity, stored};
use super::state::{Base, Event, From, Outcome, State, Whose, transition};
use super::table::{Handle, Locked, Stripe, Table};
use super::{
    Admission, Client, ClientKey, Hardware, Lease, NotDurable, Notes, Refusal, Step, Write,
};

/// A change that a shard was told to make durable.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Pending {
    pub(super) ip: Address,
    pub(super) version: u64,
    /// Where its slot was.
    pub(super) seen: Handle,
}

/// Where a step comes from.
#[derive(Copy, Clone)]
pub(super) struct Source<'a> {
    pub(super) client: &'a Client<'a>,
    /// The owning shard: the address goes to its extent.
    pub(super) shard: u16,
    /// A slot of the client, and its address.
    pub(super) seen: Option<(Address, Handle)>,
}

impl Table {
    /// Takes one step; see `ShardLeases::apply`.
    pub(super) fn apply(
        &self,
        pools: &PoolSet,
        source: Source<'_>,
        step: &Step<'_>,
        now: Moment,
    ) -> Result<Option<Pending>, Refusal> {
        let Source { client, shard, seen } = source;
        let address = step.ip().into();
        let mut locked = self.lock(address);
        let seen = seen.filter(|(seen, _)| *seen == address).map(|(_, handle)| handle);
        let found = self.find_now(pools, &mut locked, (address, seen), now);
        let (from, state) = self.relation(&locked, found, client, step);
        let version = locked.stripe.next_version();
        let event = match *step {
            Step::Offer { until, .. } => Event::Offer { from, until },
            Step::Bind { expires, heard, .. } => Event::Bind { from, expires, heard, version },
            Step::Release { .. } => Event::Release { from, version },
            Step::Decline { until, .. } => Event::Decline { from, until, version },
            Step::Refuse { .. } => Event::Refuse { from, version },
            Step::End { .. } => Event::End { from, version },
            Step::Withdraw { .. } => Event::Withdraw { from },
        };
        let outcome = transition(state, event, now)?;
        if outcome.writes && !matches!(step, Step::Bind { .. } | Step::Refuse { .. }) {
            self.endings.fetch_add(1, Ordering::Relaxed);
        }
        let admission = match *step {
            Step::Offer { admission, .. } | Step::Bind { admission, .. } => admission,
            _ => Admission::Unknown,
        };
        let identity =
            || Identity { client: client.key.clone(), notes: Notes::of(client, admission) };
        let Some(handle) = found else {
            if let Some(state) = outcome.state {
                let handle = self.insert(&mut locked, address, identity(), state, shard);
                self.list(pools, &mut locked.stripe, handle, now);
                // Most often it was proposed a moment ago: then the next client need not find out.
                if let Some(slot) = locked.stripe.slots.get_mut(handle.index())
                    && pools.of(address).is_some_and(|pool| pool.skip(shard, address))
                {
                    slot.in_free_range = false;
                }
            }
            return Ok(None);
        };
        if let (Step::Bind { .. }, true) = (step, outcome.writes) {
            let notes = &mut locked.stripe.slots[handle.index()].identity.notes;
            notes.update(client, admission);
        }
        if let (Step::Offer { .. }, Whose::Kept) = (step, outcome.whose) {
            let notes = &mut locked.stripe.slots[handle.index()].identity.notes;
            notes.set_admission(admission);
            if client.notes.tells_apart && matches!(outcome.state, Some(State::Offered { .. })) {
                // What it had has ended, so the offer says whose the address is.
                notes.set_client_id(client.notes.client_id);
            }
            if let Some(scope) = client.notes.scope {
                notes.set_scope(scope);
            }
        }
        if state.map(Outcome::kept) == Some(outcome) {
            // As for the OFFER to a client that has a lease: it is listed already.
            return Ok(None);
        }
        let sender = (outcome.whose == Whose::Senders).then(|| (identity(), shard));
        self.carry_out(pools, &mut locked.stripe, handle, outcome, sender, now);
        Ok(outcome.writes.then_some(Pending { ip: address, version, seen: handle }))
    }

    /// The slot of an address, which was seen somewhere, brought up to `now`.
    fn find_now(
        &self,
        pools: &PoolSet,
        locked: &mut Locked<'_>,
        (address, seen): (Address, Option<Handle>),
        now: Moment,
    ) -> Option<Handle> {
        let handle = locked.find_seen(address, seen)?;
        self.pass_time(pools, &mut locked.stripe, handle, now).then_some(handle)
    }

    /// What the client of a step is to an address, and the state of that.
    fn relation(
        &self,
        locked: &Locked<'_>,
        found: Option<Handle>,
        client: &Client<'_>,
        step: &Step<'_>,
    ) -> (From, Option<State>) {
        let Some(handle) = found else { return (From::Other, None) };
        let slot = &locked.stripe.slots[handle.index()];
        let Identity { client: holder, notes } = &slot.identity;
        let reserved = matches!(step, Step::Offer { admission: Admission::Host(_), .. });
        let from = if holder == client.key {
            From::Own
        } else if reserved && client.hardware.is_same_machine(&notes.hardware(holder)) {
            From::SameMachine
        } else {
            From::Other
        };
        (from, Some(slot.state(&locked.stripe.sides)))
    }

    /// An event that no client's message brought.
    fn happen(
        &self,
        pools: &PoolSet,
        address: Address,
        event: impl FnOnce(&Identity, u64) -> Event,
        now: Moment,
    ) -> Result<Option<Pending>, Refusal> {
        let mut locked = self.lock(address);
        let found = self.find_now(pools, &mut locked, (address, None), now);
        let handle = found.ok_or(Refusal::NotHeld)?;
        let version = locked.stripe.next_version();
        let slot = &locked.stripe.slots[handle.index()];
        let event = event(&slot.identity, version);
        let outcome = transition(Some(slot.state(&locked.stripe.sides)), event, now)?;
        self.endings.fetch_add(1, Ordering::Relaxed);
        self.carry_out(pools, &mut locked.stripe, handle, outcome, None, now);
        Ok(outcome.writes.then_some(Pending { ip: address, version, seen: handle }))
    }

    /// A person gives an address back.
    pub(super) fn release(&self, pools: &PoolSet, ip: IpAddr, now: Moment) -> Option<Pending> {
        let event = |_: &_, version| Event::Release { from: From::Operator, version };
        self.happen(pools, ip.into(), event, now).ok().flatten()
    }

    /// A probe found an address in use that is offered to a machine.
    pub(super) fn quarantine(
        &self,
        pools: &PoolSet,
        (ip, hardware): (IpAddr, Hardware),
        since: Moment,
        now: Moment,
        until: Moment,
    ) -> Option<Pending> {
        let event = |Identity { client, notes }: &Identity, version| {
            let is_its = notes.hardware(client) == hardware;
            let from = if is_its { From::Own } else { From::Other };
            Event::Probe { from, since, until, version }
        };
        self.happen(pools, ip.into(), event, now).ok().flatten()
    }

    /// What a client holds at an address, or held there last.
    pub(super) fn held(&self, client: &ClientKey, ip: IpAddr, now: Moment) -> Option<Lease> {
        let address = ip.into();
        let locked = self.lock(address);
        let handle = locked.find(address)?;
        locked.stripe.view_of(client, &locked.stripe.slots[handle.index()], now)
    }

    /// What is to be written for a change; `Err` when the change is void.
    pub(super) fn to_write(&self, change: Pending) -> Result<Write, NotDurable> {
        let locked = self.lock(change.ip);
        let found = locked.find_seen(change.ip, Some(change.seen)).ok_or(NotDurable::GivenUp)?;
        let slot = &locked.stripe.slots[found.index()];
        let state = slot.state(&locked.stripe.sides);
        let record = state.pending().filter(|record| record.version == change.version);
        let record = record.ok_or(NotDurable::GivenUp)?;
        Ok(Write {
            ip: change.ip.into(),
            version: record.version,
            known: state.base().record().map_or(0, |base| base.version),
            lease: Some(stored(change.ip, &slot.identity, &record)),
        })
    }

    /// What the store is known to have for an address, with its version; 0 for nothing.
    pub(super) fn durable(&self, ip: Address) -> (Option<Lease>, u64) {
        let locked = self.lock(ip);
        let Some(handle) = locked.find(ip) else { return (None, 0) };
        let slot = &locked.stripe.slots[handle.index()];
        let base = slot.state(&locked.stripe.sides).base();
        let identity = match base {
            Base::Other(_) => slot.base_identity(&locked.stripe.sides),
            Base::Nothing | Base::Own(_) => &slot.identity,
        };
        base.record()
            .map_or((None, 0), |record| (Some(stored(ip, identity, &record)), record.version))
    }

    /// Tells of every address of which the store is known to have something, and its version.
    pub(super) fn each_durable(&self, mut each: impl FnMut(Address, u64)) {
        self.each_slot(|stripe, handle| {
            let slot = &stripe.slots[handle.index()];
            if let Some(record) = slot.state(&stripe.sides).base().record() {
                each(slot.address, record.version);
            }
        });
    }

    /// The store has what it is known to have with this version now.
    pub(super) fn doubt_settled(&self, ip: Address, version: u64) {
        let mut locked = self.lock(ip);
        let Some(handle) = locked.find(ip) else { return };
        let Stripe { slots, sides, .. } = &mut *locked.stripe;
        let slot = &mut slots[handle.index()];
        let state = slot.state(sides).with_stored(version);
        slot.set(sides, state, Whose::Kept, None);
    }

    /// A change is durable. `false` when it became void while it was written: nobody may rely on
    /// it, and what the store has is in doubt.
    pub(super) fn written(&self, pools: &PoolSet, change: Pending, now: Moment) -> bool {
        self.settle(pools, change, Event::Written, now)
    }

    /// A change will not become durable.
    pub(super) fn roll_back(&self, pools: &PoolSet, change: Pending, now: Moment) -> bool {
        self.settle(pools, change, Event::Failed, now)
    }

    fn settle(&self, pools: &PoolSet, change: Pending, event: Event, now: Moment) -> bool {
        let mut locked = self.lock(change.ip);
        let seen = (change.ip, Some(change.seen));
        let Some(handle) = self.find_now(pools, &mut locked, seen, now) else { return false };
        let state = locked.stripe.slots[handle.index()].state(&locked.stripe.sides);
        if state.pending().is_none_or(|record| record.version != change.version) {
            return false;
        }
        let Ok(outcome) = transition(Some(state), event, now) else { return false };
        self.carry_out(pools, &mut locked.stripe, handle, outcome, None, now);
        true
    }
}
