//! DISCOVER: which address a client is offered (RFC 2131, section 4.3.1).

use std::net::Ipv4Addr;

use super::exchange::Exchange;
use super::{Action, Silence, machine};
use crate::leases::{Bind, Candidates, LeaseState, Offer, ShardLeases};

impl<'a> Exchange<'a> {
    pub(super) fn discover(&self, leases: &mut ShardLeases) -> Action<'a> {
        if self.ignored() {
            return Action::Silence(Silence::UnknownClient);
        }
        let offer = match self.allocate(self.message.requested_address(), leases) {
            Ok(offer) => offer,
            Err(silence) => return Action::Silence(silence),
        };
        if self.dhcp.rapid_commit && self.message.rapid_commit() {
            return self.commit_rapidly(offer, leases);
        }
        let until = self.now + self.dhcp.offer_time;
        let said = machine::telling(self.message, self.arena);
        leases.remember_discover(&self.key, offer.ip, self.message.xid(), until, said);
        let reply = self.offer(offer.ip);
        let reserved = self.reservation.address == Some(offer.ip);
        // The offer of a moment ago proves nothing: its probe may be under way.
        let had = self
            .lease
            .as_ref()
            .is_some_and(|lease| lease.ip == offer.ip && lease.state != LeaseState::Offered);
        if !reserved && !had && self.dhcp.ping_check.is_some() {
            Action::ProbeThenOffer(reply)
        } else {
            Action::Reply(reply)
        }
    }

    /// Holds an address for the client: its reserved one; while a machine that had it before the
    /// reservation still has it, or without a reservation, one of the pools. There it is, as
    /// RFC 2131 section 4.3.1 orders: what it has, what it had, what it asks for, any other.
    pub(super) fn allocate(
        &self,
        wish: Option<Ipv4Addr>,
        leases: &mut ShardLeases,
    ) -> Result<Offer, Silence> {
        let until = self.now + self.dhcp.offer_time;
        let client = self.client();
        let mut full = Silence::NoPoolPermitted;
        if let Some(reserved) = self.reservation.address {
            let fixed = self.fixed(reserved, leases);
            match leases.offer(&client, fixed, None, self.now, until) {
                Ok(offer) => return Ok(offer),
                Err(_) => full = Silence::PoolFull,
            }
        }
        let pools = self.pools();
        if pools.is_empty() {
            return Err(full);
        }
        let candidates = Candidates::Pools(pools);
        leases.offer(&client, candidates, wish, self.now, until).map_err(|_| Silence::PoolFull)
    }

    /// The ACK to a DISCOVER (RFC 4039 section 3).
    fn commit_rapidly(&self, offer: Offer, leases: &mut ShardLeases) -> Action<'a> {
        let lease = self.lease_time(offer.ip);
        match leases.bind(&self.client(), offer.ip, self.now, self.expiry(lease)) {
            Bind::Pending(change) => {
                Action::AckWhenDurable { change, reply: self.ack(offer.ip, lease) }
            }
            Bind::AlreadyPending => Action::Silence(Silence::CommitPending),
            Bind::Refused(_) => Action::Silence(Silence::PoolFull),
        }
    }
}
