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
    /// It extends its lease: with the server that gave it (RENEWING), or with any (REBINDING). For
    /// both the same is decided.
    Extending { address: Ipv4Addr },
}

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
            State::InitReboot { address } | State::Extending { address } => {
                self.verify(address, leases)
            }
        }
    }

    fn state(&self) -> Option<State> {
        let ciaddr = Some(self.message.ciaddr()).filter(|address| !address.is_unspecified());
        let requested = self.message.requested_address();
        let server = self.message.server_identifier();
        let direct = self.message.giaddr().is_unspecified();
        let in_use = self.ciaddr_in_use.filter(|_| direct);
        match (ciaddr, server, requested) {
            (Some(address), Some(server), _) if !self.is_own_identifier(server) => {
                Some(State::Selecting { server, address })
            }
            // Renewing clients must send neither option 50 nor 54; some do. The address that they
            // have says what they mean.
            _ if in_use.is_some() => in_use.map(|address| State::Extending { address }),
            // Selecting clients must leave ciaddr empty; some do not, and it is an old address.
            (_, Some(server), Some(address)) => Some(State::Selecting { server, address }),
            (Some(_), None, Some(address)) if direct => Some(State::InitReboot { address }),
            (Some(address), ..) => Some(State::Extending { address }),
            (None, None, Some(address)) => Some(State::InitReboot { address }),
            (None, _, None) => None,
        }
    }

    /// The client takes our offer. We are the server it means, so it gets ACK or NAK.
    fn select(&self, address: Ipv4Addr, leases: &mut ShardLeases) -> Action<'a> {
        // An offer that ran out, or that a restart forgot, is made again if the address is free.
        let offered = self.lease.as_ref().is_some_and(|lease| lease.ip == address);
        let granted = self.may_have(address, leases)
            && (offered || self.allocate_exactly(address, leases).is_ok());
        let action = granted.then(|| self.bind(address, leases)).flatten();
        action.unwrap_or_else(|| self.refuse(address, true, leases))
    }

    /// The client has an address (INIT-REBOOT, RENEWING, REBINDING): ACK if it may keep it. For
    /// all others see [`super::nak`].
    fn verify(&self, address: Ipv4Addr, leases: &mut ShardLeases) -> Action<'a> {
        let held = self.lease.as_ref().is_some_and(|lease| lease.ip == address);
        let own = held || self.reservation.address == Some(address);
        // A reserved address may have been leased by no message yet.
        let granted = own
            && self.may_have(address, leases)
            && (held || self.allocate_exactly(address, leases).is_ok());
        let action = granted.then(|| self.bind(address, leases)).flatten();
        action.unwrap_or_else(|| self.refuse(address, false, leases))
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

    /// Binds the address; `None` when another client has it by now.
    fn bind(&self, address: Ipv4Addr, leases: &mut ShardLeases) -> Option<Action<'a>> {
        let lease = self.lease_time(address);
        match leases.bind(&self.client(), address, self.now, self.expiry(lease)) {
            Bind::Pending(change) => {
                Some(Action::AckWhenDurable { change, reply: self.ack(address, lease) })
            }
            Bind::AlreadyPending => Some(Action::Silence(Silence::CommitPending)),
            Bind::Refused(_) => None,
        }
    }
}
