//! How leases change: every step of a client, and what becomes of it on disk.

use std::net::Ipv4Addr;

use bootstorm_protocols::time::Moment;
use dashmap::mapref::entry::Entry;

use super::pools::PoolSet;
use super::slot::{Durable, Slot};
use super::table::{Moved, Table, Who, place};
use super::{Client, Lease, LeaseState, NotDurable, Notes, Refusal, Write};
use crate::config::PoolId;

/// What a shard was told to make durable.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Pending {
    pub(super) ip: u32,
    pub(super) version: u64,
}

impl Pending {
    /// A change that has nothing to write: an offer ended, of which the disk knows nothing.
    pub(super) fn nothing(ip: u32) -> Self {
        Self { ip, version: 0 }
    }

    pub(super) fn ip(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.ip)
    }
}

/// For whom, and until when, an address is to be held.
#[derive(Copy, Clone)]
pub(super) struct Hold<'a> {
    pub(super) client: &'a Client<'a>,
    /// The owning shard: the address goes to its extent.
    pub(super) shard: u16,
    pub(super) now: Moment,
    pub(super) until: Moment,
}

impl Hold<'_> {
    fn who(&self) -> Who {
        (self.client.network, self.client.key.clone())
    }

    fn lease(&self, ip: Ipv4Addr) -> Lease {
        Lease {
            ip,
            network: Some(self.client.network),
            client: self.client.key.clone(),
            hardware: self.client.hardware,
            state: LeaseState::Offered,
            starts: self.now,
            expires: self.until,
            notes: Notes::updated(None, &self.client.notes),
        }
    }
}

impl Table {
    /// Holds an address of the pools for a client; see `ShardLeases::offer`.
    pub(super) fn offer_from(
        &self,
        pools: &PoolSet,
        hold: &Hold<'_>,
        candidates: &[PoolId],
        hint: Option<Ipv4Addr>,
    ) -> Result<(Ipv4Addr, bool), Refusal> {
        let &Hold { shard, now, .. } = hold;
        let who = hold.who();
        let _guard = self.stripe(&who);
        let own = self.address_of(&who);
        if let Some(ip) = own
            && pools.permits(candidates, ip)
            && self.hold_own(pools, hold, ip)
        {
            return Ok((Ipv4Addr::from_bits(ip), true));
        }
        let mut lease = hold.lease(Ipv4Addr::UNSPECIFIED);
        let hinted = hint.filter(|ip| pools.permits(candidates, ip.to_bits())).is_some_and(|ip| {
            lease.ip = ip;
            self.claim_named(pools, lease.clone(), shard, now, false).is_ok()
        });
        let found = hinted || {
            let mut pools_of = candidates.iter().filter_map(|id| pools.get(*id));
            pools_of.clone().any(|pool| self.take_unused(pools, pool, shard, &mut lease))
                || pools_of.any(|pool| self.take_idle(pools, pool, shard, now, &mut lease))
        };
        if !found {
            return Err(Refusal::PoolFull);
        }
        self.settle_at(pools, who, own, lease.ip, now);
        Ok((lease.ip, false))
    }

    /// Holds a reserved address for a client.
    pub(super) fn offer_fixed(
        &self,
        pools: &PoolSet,
        hold: &Hold<'_>,
        ip: Ipv4Addr,
        replace: bool,
    ) -> Result<(Ipv4Addr, bool), Refusal> {
        let &Hold { shard, now, .. } = hold;
        let who = hold.who();
        let _guard = self.stripe(&who);
        let own = self.address_of(&who);
        if self.hold_own(pools, hold, ip.to_bits()) {
            self.settle_at(pools, who, own, ip, now);
            return Ok((ip, true));
        }
        match self.claim_named(pools, hold.lease(ip), shard, now, replace) {
            Ok(()) => {
                self.settle_at(pools, who, own, ip, now);
                Ok((ip, false))
            }
            Err(LeaseState::Declined) => Err(Refusal::Quarantined),
            Err(_) => Err(Refusal::HeldByOther),
        }
    }

    /// Holds the address that the client has or had; `false` when it is not there any more.
    fn hold_own(&self, pools: &PoolSet, hold: &Hold<'_>, ip: u32) -> bool {
        let &Hold { client, shard, now, until } = hold;
        let Some(mut slot) = self.slots.get_mut(&ip) else { return false };
        if !slot.is(client.network, client.key) {
            return false;
        }
        let from = slot.lease.state;
        match from {
            LeaseState::Declined => return false,
            LeaseState::Active if slot.pending || now < slot.lease.expires => {
                // Its lease goes on; it must not end before the client can ask for more.
                slot.lease.expires = slot.lease.expires.max(until);
            }
            LeaseState::Offered => {
                slot.lease.expires = slot.lease.expires.max(until);
            }
            LeaseState::Active | LeaseState::Released | LeaseState::Expired => {
                slot.lease.state = LeaseState::Offered;
                slot.lease.starts = now;
                slot.lease.expires = until;
                let shard = slot.position.map_or(shard, |position| position.shard);
                place(pools, &mut slot, Some(from), shard);
            }
        }
        slot.offer_ends = until;
        true
    }

    /// The client is at `ip` now; an offer it had elsewhere is free again.
    fn settle_at(&self, pools: &PoolSet, who: Who, own: Option<u32>, ip: Ipv4Addr, now: Moment) {
        let ip = ip.to_bits();
        if let Some(own) = own.filter(|own| *own != ip) {
            self.drop_offer(pools, &who, own, now);
        }
        self.map(who, ip);
    }

    /// Ends the offer of an address to a client; whether there was one.
    pub(super) fn drop_offer(&self, pools: &PoolSet, who: &Who, ip: u32, now: Moment) -> bool {
        let Entry::Occupied(mut occupied) = self.slots.entry(ip) else { return false };
        let slot = occupied.get_mut();
        if !slot.is(who.0, &who.1) || slot.lease.state != LeaseState::Offered {
            return false;
        }
        if slot.pending {
            // Offered again while its release is on its way: the release goes on.
            slot.lease = slot.to_write();
            let shard = slot.position.map_or(0, |position| position.shard);
            place(pools, slot, Some(LeaseState::Offered), shard);
            return true;
        }
        let moved = self.revert(pools, occupied, now);
        self.moved(moved, ip);
        true
    }

    /// Gives a client the address it holds. `Ok(None)`: the same is being written already.
    pub(super) fn bind(
        &self,
        pools: &PoolSet,
        shard: u16,
        client: &Client<'_>,
        ip: Ipv4Addr,
        now: Moment,
        expires: Moment,
    ) -> Result<Option<Pending>, Refusal> {
        let ip = ip.to_bits();
        let Some(mut slot) = self.slots.get_mut(&ip) else { return Err(Refusal::NotHeld) };
        let from = slot.lease.state;
        if from == LeaseState::Declined && now < slot.lease.expires {
            return Err(Refusal::Quarantined);
        }
        if !slot.is(client.network, client.key) {
            let free = slot.is_free(now);
            return Err(if free { Refusal::NotHeld } else { Refusal::HeldByOther });
        }
        if from == LeaseState::Active && slot.pending {
            return Ok(None);
        }
        let renews = from == LeaseState::Active;
        // The ACK may be lost, and then the client goes by what it was told before. So a shorter
        // lease does not end before the one it renews; the client that hears of it may leave early.
        let promised = slot.lease.expires;
        let kept = renews && now < promised && promised != Moment::NEVER;
        let expires = if kept { expires.max(promised) } else { expires };
        slot.lease.state = LeaseState::Active;
        slot.lease.starts = now;
        slot.lease.expires = expires;
        slot.lease.hardware = client.hardware;
        slot.lease.notes = Notes::updated(slot.lease.notes.as_ref(), &client.notes);
        let change = self.pend(&mut slot, ip);
        // The timer of a renewed lease is early: the sweep corrects it. It must not be late.
        if !renews || slot.position.is_some_and(|position| expires < position.at) {
            let shard = slot.position.map_or(shard, |position| position.shard);
            place(pools, &mut slot, Some(from), shard);
        }
        drop(slot);
        if !renews {
            self.map((client.network, client.key.clone()), ip);
        }
        Ok(Some(change))
    }

    fn pend(&self, slot: &mut Slot, ip: u32) -> Pending {
        slot.version = self.next_version();
        slot.pending = true;
        Pending { ip, version: slot.version }
    }

    /// A client, or with `None` a person, gives an address back.
    pub(super) fn release(
        &self,
        pools: &PoolSet,
        who: Option<&Who>,
        ip: Ipv4Addr,
        now: Moment,
    ) -> Option<Pending> {
        let ip = ip.to_bits();
        let mut slot = self.slots.get_mut(&ip)?;
        if who.is_some_and(|who| !slot.is(who.0, &who.1)) {
            return None;
        }
        let from = slot.lease.state;
        let ends = match from {
            LeaseState::Active => slot.pending || now < slot.lease.expires,
            LeaseState::Declined => who.is_none() && now < slot.lease.expires,
            LeaseState::Offered if !slot.pending => {
                drop(slot);
                let who = who?;
                self.drop_offer(pools, who, ip, now);
                return None;
            }
            LeaseState::Offered | LeaseState::Released | LeaseState::Expired => false,
        };
        if !ends {
            return None;
        }
        slot.lease.state = LeaseState::Released;
        slot.lease.expires = now;
        let change = self.pend(&mut slot, ip);
        let shard = slot.position.map_or(0, |position| position.shard);
        place(pools, &mut slot, Some(from), shard);
        Some(change)
    }

    /// Nobody gets an address until `until`: its client, or with `None` a probe, found it in use.
    pub(super) fn quarantine(
        &self,
        pools: &PoolSet,
        who: Option<&Who>,
        ip: Ipv4Addr,
        until: Moment,
    ) -> Option<Pending> {
        let ip = ip.to_bits();
        let mut slot = self.slots.get_mut(&ip)?;
        let from = slot.lease.state;
        let allowed = match who {
            Some(who) => slot.is(who.0, &who.1) && from != LeaseState::Declined,
            None => !slot.pending && from == LeaseState::Offered,
        };
        if !allowed || pools.is_reserved(ip) {
            return None;
        }
        slot.lease.state = LeaseState::Declined;
        slot.lease.expires = until;
        let change = self.pend(&mut slot, ip);
        let shard = slot.position.map_or(0, |position| position.shard);
        place(pools, &mut slot, Some(from), shard);
        let lost = slot.lease.network.map(|network| (network, slot.lease.client.clone()));
        drop(slot);
        self.moved(Moved { lost, gained: None }, ip);
        Some(change)
    }

    /// What is to be written for a change; `Err` when the change is void, `None` when a later one
    /// has been written already.
    pub(super) fn to_write(&self, change: Pending) -> Result<Option<Write>, NotDurable> {
        let slot = self.slots.get(&change.ip).ok_or(NotDurable)?;
        if change.version < slot.floor {
            return Err(NotDurable);
        }
        Ok(slot.pending.then(|| Write {
            ip: change.ip().into(),
            version: slot.version,
            known: slot.stored,
            lease: Some(slot.to_write()),
        }))
    }

    /// What the store is known to have for an address, with its version; 0 for nothing.
    pub(super) fn durable(&self, ip: u32) -> (Option<Lease>, u64) {
        self.slots.get(&ip).map_or((None, 0), |slot| (slot.durable_lease(), slot.stored))
    }

    /// The lease was written when its slot had that version.
    pub(super) fn written(&self, pools: &PoolSet, lease: &Lease, version: u64) {
        let Some(mut slot) = self.slots.get_mut(&lease.ip.to_bits()) else { return };
        slot.durable = Durable::of(lease, &slot.lease);
        slot.stored = version;
        if slot.version == version {
            slot.pending = false;
            // Its timer may have been due meanwhile and was postponed.
            let late = slot.position.is_some_and(|position| position.at > slot.lease.expires);
            if late || !slot.lease.state.is_taken() {
                let from = slot.lease.state;
                let shard = slot.position.map_or(0, |position| position.shard);
                place(pools, &mut slot, Some(from), shard);
            }
        }
    }

    /// The last change of an address will not become durable: back to what the store has. A
    /// quarantine stays, on disk or not; an offer that is still good is an offer again, so that
    /// the client may ask once more. `version` is what the slot had when it was to be written.
    pub(super) fn roll_back(&self, pools: &PoolSet, ip: u32, version: u64, now: Moment) {
        let Entry::Occupied(mut occupied) = self.slots.entry(ip) else { return };
        let slot = occupied.get_mut();
        if !slot.pending {
            return;
        }
        if slot.lease.state == LeaseState::Declined {
            // A quarantine that came after that version is written by a later batch.
            slot.pending = slot.version != version;
            let shard = slot.position.map_or(0, |position| position.shard);
            place(pools, slot, Some(LeaseState::Declined), shard);
            return;
        }
        slot.pending = false;
        slot.version = self.next_version();
        slot.floor = slot.version;
        let had = matches!(
            slot.durable,
            Durable::Same { state: LeaseState::Active, expires, .. } if now < expires
        );
        if slot.lease.state == LeaseState::Active && !had && now < slot.offer_ends {
            slot.lease.state = LeaseState::Offered;
            slot.lease.expires = slot.offer_ends;
            let shard = slot.position.map_or(0, |position| position.shard);
            place(pools, slot, Some(LeaseState::Active), shard);
            return;
        }
        let moved = self.revert(pools, occupied, now);
        self.moved(moved, ip);
    }

    /// Takes back the change if nothing came after it.
    pub(super) fn abandon(&self, pools: &PoolSet, change: Pending, now: Moment) {
        let last = self.slots.get(&change.ip).is_some_and(|slot| slot.version == change.version);
        if last {
            self.roll_back(pools, change.ip, change.version, now);
        }
    }
}
