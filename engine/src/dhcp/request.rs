//! REQUEST in its four states (RFC 2131, section 4.3.2, table 4).

use std::net::Ipv4Addr;

use super::exchange::Exchange;
use super::{Action, Silence};
use crate::leases::{Bind, Candidates, ShardLeases};

/// What the client wants with its REQUEST, told from ciaddr and options 50 and 54.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    /// It takes the offer of one server.
    Selecting { server: Ipv4Addr, address: Ipv4Addr },
    /// It starts again and remembers an address.
    InitReboot { address: Ipv4Addr },
    /// It extends its lease: with the server that gave it (RENEWING), or with any (REBINDING).
    Extending { address: Ipv4Addr, with_us: bool },
}

/// Texts of option 56.
const WRONG_LINK: &str = "address is not on this network";
const NOT_YOURS: &str = "address belongs to another client";
const NOT_THE_LEASE: &str = "address is not the one leased to you";
const UNKNOWN: &str = "no lease known for you";

impl<'a> Exchange<'a> {
    pub(super) fn request(&self, leases: &mut ShardLeases) -> Action<'a> {
        let Some(state) = self.state() else { return Action::Silence(Silence::NoAddressNamed) };
        if let State::Selecting { server, .. } = state
            && !self.is_own_identifier(server)
        {
            // RFC 2131 3.1 (4): the client declined our offer by taking another's.
            leases.forget_offer(self.link.network, &self.key, self.now);
            return Action::Silence(Silence::OtherServer);
        }
        if self.ignored() {
            return Action::Silence(Silence::UnknownClient);
        }
        match state {
            State::Selecting { address, .. } => self.select(address, leases),
            State::InitReboot { address } => self.verify(address, false, leases),
            State::Extending { address, with_us } => self.verify(address, with_us, leases),
        }
    }

    fn state(&self) -> Option<State> {
        let ciaddr = Some(self.message.ciaddr()).filter(|address| !address.is_unspecified());
        let requested = self.message.requested_address();
        let server = self.message.server_identifier();
        // Renewing clients must send neither option 50 nor 54; some do. Their ciaddr says what
        // they mean, unless they name a server that is not this one.
        match (ciaddr, server, requested) {
            (Some(address), Some(server), _) if !self.is_own_identifier(server) => {
                Some(State::Selecting { server, address })
            }
            (Some(address), ..) => {
                // RFC 5010 section 4: the relay agent knows whether the client wrote by unicast.
                let unicast = match &self.relay {
                    Some(relay) => relay.unicast().unwrap_or(false),
                    None => self.arrival.unicast().is_some(),
                };
                Some(State::Extending { address, with_us: unicast })
            }
            (None, Some(server), Some(address)) => Some(State::Selecting { server, address }),
            (None, None, Some(address)) => Some(State::InitReboot { address }),
            (None, _, None) => None,
        }
    }

    /// The client takes our offer. We are the server it means, so it gets ACK or NAK.
    fn select(&self, address: Ipv4Addr, leases: &mut ShardLeases) -> Action<'a> {
        if !self.may_have(address, leases) {
            return self.refuse(address, leases);
        }
        // An offer that ran out, or that a restart forgot, is made again if the address is free.
        if self.lease.as_ref().is_none_or(|lease| lease.ip != address)
            && self.allocate_exactly(address, leases).is_err()
        {
            return self.refuse(address, leases);
        }
        self.bind(address, leases)
    }

    /// The client has an address (INIT-REBOOT, RENEWING, REBINDING). RFC 2131 4.3.2: NAK when the
    /// address is wrong for a client that is known; silence when nothing is known of it, unless
    /// this server is the authority here.
    fn verify(&self, address: Ipv4Addr, with_us: bool, leases: &mut ShardLeases) -> Action<'a> {
        let held = self.lease.as_ref().map(|lease| lease.ip);
        let reserved = self.reservation.address;
        let own = held == Some(address) || reserved == Some(address);
        if own && self.may_have(address, leases) {
            // A reserved address may have been leased by no message yet.
            if held == Some(address) || self.allocate_exactly(address, leases).is_ok() {
                return self.bind(address, leases);
            }
        }
        let moved = || leases.at(address, self.now).is_some_and(|lease| lease.client == self.key);
        // A renewal written to this server comes from a client that got its address here. If
        // another has that address now, silence would let two machines go on with it.
        let taken = || {
            with_us
                && leases
                    .at(address, self.now)
                    .is_some_and(|lease| lease.is_active(self.now) && lease.client != self.key)
        };
        if held.is_some() || reserved.is_some() || self.dhcp.authoritative || moved() || taken() {
            self.refuse(address, leases)
        } else {
            Action::Silence(Silence::NotAuthoritative)
        }
    }

    /// Holds exactly this address for the client, which may have it.
    fn allocate_exactly(&self, address: Ipv4Addr, leases: &mut ShardLeases) -> Result<(), ()> {
        let until = self.now + self.dhcp.offer_time;
        let pool = self.dhcp.pool_of(address);
        let pool = pool.as_slice();
        let candidates = match self.reservation.address {
            Some(reserved) if reserved == address => self.fixed(address, leases),
            _ => Candidates::Pools(pool),
        };
        let offer = leases
            .offer(&self.client(), candidates, Some(address), self.now, until)
            .map_err(|_| ())?;
        if offer.ip == address { Ok(()) } else { Err(()) }
    }

    fn bind(&self, address: Ipv4Addr, leases: &mut ShardLeases) -> Action<'a> {
        let lease = self.lease_time(address);
        match leases.bind(&self.client(), address, self.now, self.expiry(lease)) {
            Bind::Pending(change) => {
                Action::AckWhenDurable { change, reply: self.ack(address, lease) }
            }
            Bind::AlreadyPending => Action::Silence(Silence::CommitPending),
            Bind::Refused(_) => self.refuse(address, leases),
        }
    }

    fn refuse(&self, address: Ipv4Addr, leases: &ShardLeases) -> Action<'a> {
        let on_link = self
            .dhcp
            .subnet_of(address)
            .is_some_and(|subnet| self.dhcp.subnet(subnet).network == self.link.network);
        let why = if !on_link {
            WRONG_LINK
        } else if leases
            .at(address, self.now)
            .is_some_and(|lease| lease.state.is_taken() && lease.client != self.key)
        {
            NOT_YOURS
        } else if self.lease.is_some() || self.reservation.address.is_some() {
            NOT_THE_LEASE
        } else {
            UNKNOWN
        };
        Action::Reply(self.nak(why))
    }
}
