//! REQUEST in its four states (RFC 2131, section 4.3.2, table 4).

use std::net::Ipv4Addr;

use bootstorm_protocols::time::Moment;

use super::exchange::Exchange;
use super::own::Own;
use super::plan::{Chosen, Draft, Through};
use super::{Action, Silence};
use crate::config::{Flag, LeaseTerm, LeaseTime, LeaseTimeBy, Parameter, ScopeChain, Settings};
use crate::leases::{Admission, ShardLeases, Step};

/// Addresses that a client has or had on one link beyond which it gets no other by name. One for
/// each stage of a boot are a few; who names one address after the other would take a whole pool.
const MOST_ADDRESSES: usize = 8;

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
    pub(super) fn request(&self, leases: &ShardLeases) -> Draft<'a> {
        let silence = |silence| Draft::silence(silence, self.arena);
        let Some(state) = self.state() else { return silence(Silence::NoAddressNamed) };
        if let State::Selecting { server, .. } = state
            && !self.is_own_identifier(server)
        {
            // RFC 2131 3.1 (4): the client declined our offer by taking another's.
            let mut draft = silence(Silence::OtherServer);
            draft.steps.extend(self.withdraw_others(None));
            return draft;
        }
        if let Some(why) = self.ignored() {
            return silence(why);
        }
        if self.port_is_unknown {
            return silence(Silence::PortUnknown);
        }
        match state {
            State::Selecting { address, .. } => self.select(address, leases),
            State::InitReboot { address } => self.verify(address, false, leases),
            State::Extending { address } => self.verify(address, true, leases),
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

    /// The client takes our offer. We are the server it means, so it gets ACK or NAK. An offer that
    /// ran out, or that a restart forgot, is made again if the address is free: that one exactly,
    /// so a client that asks for what it cannot have keeps the offer that it has.
    fn select(&self, address: Ipv4Addr, leases: &ShardLeases) -> Draft<'a> {
        let own = self.own_at(address);
        // The ACK agrees with the OFFER, even if the reserved address became free since.
        let stays = own.is_some_and(Own::is_held) || self.is_machines(address, leases);
        // After damage somebody may have a lease of an address that seems free.
        let free = || {
            !leases.is_damaged(self.now)
                && (own.is_some() || self.is_free(address, leases))
                && self.must_move(address, leases).is_none()
        };
        match self.admission(address).or_else(|| self.goes_on(address)) {
            Some(admission) if stays || free() => self.bind(address, admission, false, leases),
            _ => self.refuse(address, true, leases),
        }
    }

    /// The client has an address (INIT-REBOOT, RENEWING, REBINDING): ACK if it may keep it. For
    /// all others see [`super::nak`].
    ///
    /// After damage another client may have a later lease of the address, which the store has lost.
    /// Who uses the address is believed where nothing else is known; who only remembers it begins
    /// anew, and the address is probed.
    fn verify(&self, address: Ipv4Addr, extends: bool, leases: &ShardLeases) -> Draft<'a> {
        let known = self.own_at(address).is_some();
        // RFC 2131 4.3.2 wants silence about a client that the server knows nothing of. ISC dhcpd
        // gives it what is free.
        let free = || self.is_as_dhcpd() && self.is_free(address, leases);
        // A reserved address may have been leased by no message yet.
        let reserved =
            || self.reservation.address == Some(address) && self.holder(address, leases).is_none();
        let has = match leases.is_damaged(self.now) {
            false => known || reserved() || free(),
            true if self.ciaddr_in_use == Some(address) => {
                known || reserved() || self.is_free(address, leases)
            }
            // An offer proves nothing: its probe may be under way.
            true => self.own_at(address).is_some_and(Own::is_active),
        };
        match self.admission(address).or_else(|| self.goes_on(address)) {
            Some(admission) if has && self.must_move(address, leases).is_none() => {
                self.bind(address, admission, extends, leases)
            }
            _ => self.refuse(address, false, leases),
        }
    }

    /// Whether the address is reserved for the machine, and leased to it as another client of its
    /// hardware address ([`Identity::ClientIdOrHardware`]).
    ///
    /// [`Identity::ClientIdOrHardware`]: crate::config::Identity::ClientIdOrHardware
    fn is_machines(&self, address: Ipv4Addr, leases: &ShardLeases) -> bool {
        self.reservation.address == Some(address)
            && leases
                .at(address, self.now)
                .is_some_and(|lease| lease.client == self.key && lease.is_active(self.now))
    }

    /// Whether nobody has the address, and the client may take one more by name.
    fn is_free(&self, address: Ipv4Addr, leases: &ShardLeases) -> bool {
        let more = self.own_here().take(MOST_ADDRESSES).count() < MOST_ADDRESSES;
        more && self.holder(address, leases).is_none()
    }

    /// What is left of the client's lease where it is too new to be renewed
    /// (`dhcp-cache-threshold`): it is told that, and nothing is written.
    fn left(
        &self,
        own: &Own,
        admission: Admission<'a>,
        chain: &ScopeChain<'a>,
        leases: &ShardLeases,
    ) -> Option<u32> {
        let get = |settings: &Settings<'a>| settings.cache_threshold;
        let threshold = chain.rare(Parameter::CacheThreshold, get).filter(|least| *least > 0)?;
        let is_of_pool = matches!(admission, Admission::Pool { .. });
        // A lease of a pool does not remember an entry that every message says the key of.
        let hashed = self.reservation.by.is_some_and(|by| by.key.is_some());
        let host = self.reservation.host.filter(|_| hashed);
        let keeps_port = self.is(Flag::StashAgentOptions, None);
        let left = own.left(threshold, host, keeps_port, self.now);
        left.filter(|_| is_of_pool && leases.is_stored(own.ip, own.expires))
    }

    /// Leases the address, which is free or the client's, and withdraws what else it was offered.
    fn bind(
        &self,
        address: Ipv4Addr,
        admission: Admission<'a>,
        heard: bool,
        leases: &ShardLeases,
    ) -> Draft<'a> {
        let ack = self.ack(address, self.longest(address, leases));
        let is_billed = matches!(admission, Admission::Pool { .. });
        let over_limit = || (is_billed && self.is_over_limit()).then_some(Silence::LeaseLimit);
        if let Some(silence) = self.silenced(ack.chain).or_else(over_limit) {
            return Draft::silence(silence, self.arena);
        }
        let own = self.own_at(address);
        let ip = address.into();
        if let Some((own, left)) =
            own.and_then(|own| Some((own, self.left(own, admission, ack.chain, leases)?)))
        {
            // An OFFER since may have kept the address for longer than a short lease.
            let is_kept = u64::from(left) <= self.dhcp.offer_time.as_secs();
            if !is_kept || left < ack.lease_seconds {
                let time = LeaseTime::from_seconds(left);
                ack.give(LeaseTerm { time, by: LeaseTimeBy::Left });
            }
            let mut draft = Draft::of(Action::Reply(ack), self.arena);
            draft.steps.extend(self.withdraw_others(Some(address)));
            draft.chosen = Some(Chosen { ip: own.ip, admission, through: Through::Lease });
            return draft;
        }
        let mut draft = Draft::of(Action::AckWhenDurable(ack), self.arena);
        if !own.is_some_and(Own::is_held) {
            let until = self.now + self.dhcp.offer_time;
            draft.steps.push(Step::Offer { ip, admission, until });
        }
        let wishes_for_ever = || self.message.lease_time() == Some(u32::MAX);
        let is_reserved = ack.chain.is(Flag::InfiniteIsReserved) && wishes_for_ever();
        let expires = if is_reserved { Moment::NEVER } else { self.expiry(ack) };
        draft.steps.push(Step::Bind { ip, admission, expires, heard });
        draft.steps.extend(self.withdraw_others(Some(address)));
        if ack.chain.is(Flag::OneLeasePerClient) {
            let others = self.own.iter().filter(|own| own.is_active() && own.ip != address);
            draft.steps.extend(others.map(|own| Step::Release { ip: own.ip.into() }));
        }
        let through = match own {
            _ if self.reservation.address == Some(address) => Through::Reservation,
            Some(own) if own.is_active() => Through::Lease,
            Some(own) if own.is_held() => Through::Offer,
            Some(_) => Through::Previous,
            None => Through::Wish,
        };
        draft.chosen = Some(Chosen { ip: address, admission, through });
        draft
    }
}
