//! What a client has here: its leases and offers, in whichever networks and pools.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bootstorm_protocols::time::Moment;

use super::arrival::Link;
use super::machine::Machine;
use super::reservation::FoundBy;
use crate::config::{AddressPlace, Dhcp, HostId, NetworkId};
use crate::leases::{Admission, KeyHash, KeyKind, KnownAs, Lease, LeaseState, Notes};

/// One lease or offer of the client that is asking, with what decides about it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Own {
    pub(super) ip: Ipv4Addr,
    /// Where its address is in the configuration.
    pub(super) place: AddressPlace,
    /// Its address is of the link that the client is on.
    pub(super) is_here: bool,
    /// As it is now: a lease whose time is over is [`LeaseState::Expired`].
    pub(super) state: LeaseState,
    /// When it was given or renewed last.
    starts: Moment,
    /// When it ends.
    pub(super) expires: Moment,
    /// What it was asked for with.
    noted: Noted,
    /// The client may not go on with it: see [`Lease::refused`].
    pub(super) refused: bool,
    /// It is being written, and an ACK leaves when it is.
    pub(super) is_awaited: bool,
    /// See [`ShardLeases::may_be_outdated`](crate::leases::ShardLeases::may_be_outdated).
    pub(super) may_be_outdated: bool,
    pub(super) given_to: GivenTo,
    /// The first and last address of the pool that gave it.
    pub(super) pool: Option<(Ipv4Addr, Ipv4Addr)>,
}

/// What a lease remembers of its client, beside what a message says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Noted {
    /// The same client identifier and port.
    Same,
    /// The same client identifier, and no port: the message says one.
    NoPort,
    Other,
}

impl Noted {
    /// `past_relays`: the message says no port, and what was said before holds on.
    pub(super) fn of(notes: &Notes, machine: &Machine<'_>, past_relays: bool) -> Self {
        let [client_id, _, circuit_id, remote_id] = notes.said();
        let noted = (circuit_id, remote_id);
        let is_same = past_relays || noted == (machine.circuit_id, machine.remote_id);
        match client_id == machine.client_id {
            true if is_same => Self::Same,
            true if noted == (None, None) => Self::NoPort,
            _ => Self::Other,
        }
    }
}

/// As whom the client was given an address.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum GivenTo {
    /// As no host that there is still, or one that has the key no more by which the client was
    /// found to be it.
    Anybody,
    /// As this host, which still has the key by which the client was found.
    Host(HostId, FoundBy),
    /// The lease is of an earlier version of this program, which did not write down the key, or
    /// the host either.
    Unproven(Option<(HostId, KeyKind)>),
}

impl Own {
    /// What counts of a lease; `None` for other addresses than IPv4's.
    pub(super) fn of(
        lease: &Lease,
        may_be_outdated: bool,
        dhcp: &Dhcp,
        link: Link,
        noted: Noted,
    ) -> Option<Self> {
        let ip = lease.ipv4()?;
        let admission = lease.admission();
        let given_to = match admission {
            Admission::Host(host) => GivenTo::of(host, lease, dhcp),
            Admission::Pool { host: Some(host), .. } => GivenTo::of(host, lease, dhcp),
            Admission::Pool { host: None, .. } => GivenTo::Anybody,
            Admission::Unknown => GivenTo::Unproven(None),
        };
        let pool = match admission {
            Admission::Pool { low: IpAddr::V4(low), high: IpAddr::V4(high), .. } => {
                Some((low, high))
            }
            _ => None,
        };
        let Lease { starts, expires, refused, .. } = *lease;
        let (state, is_awaited) = (state_of(lease), lease.pending && !refused);
        let place = dhcp.place_of(ip);
        let is_here = link.has(dhcp, place);
        Some(Self {
            ip,
            place,
            is_here,
            state,
            starts,
            expires,
            noted,
            refused,
            is_awaited,
            may_be_outdated,
            given_to,
            pool,
        })
    }

    /// What is left of a valid lease of a pool at `now`, of which no more than `threshold` percent
    /// are over: whole seconds, as ISC dhcpd counts. `None` if it is to be renewed. `keeps_port`:
    /// what a relay agent says is remembered.
    pub(super) fn left(
        &self,
        threshold: u8,
        host: Option<HostId>,
        keeps_port: bool,
        now: Moment,
    ) -> Option<u32> {
        let is_same = match self.given_to {
            GivenTo::Anybody => host.is_none(),
            GivenTo::Host(known, _) => host == Some(known),
            GivenTo::Unproven(_) => false,
        };
        let is_good = self.is_active() && !self.refused && !self.is_awaited;
        let is_certain = is_good && !self.may_be_outdated && self.pool.is_some();
        // What is new is to be written.
        let is_known = match self.noted {
            Noted::Same => true,
            Noted::NoPort => !keeps_port,
            Noted::Other => false,
        };
        if !is_certain || !is_same || !is_known || self.expires == Moment::NEVER {
            return None;
        }
        let whole = self.expires.since(self.starts).as_secs();
        let over = now.since(self.starts).as_secs();
        let is_new = over <= whole * u64::from(threshold) / 100;
        let left = self.expires.since(now).as_secs();
        let left = u32::try_from(left).ok().filter(|left| *left > 0);
        left.filter(|_| is_new)
    }

    /// How long it lasts from `now` on.
    pub(super) fn left_at(&self, now: Moment) -> Duration {
        self.expires.since(now)
    }

    /// When it was offered, given or renewed last.
    pub(super) fn heard(&self) -> Moment {
        self.starts
    }

    /// Whether it is a lease that has not ended.
    pub(super) fn is_active(&self) -> bool {
        self.state == LeaseState::Active
    }

    /// Whether it is a lease or an offer that has not ended.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.state, LeaseState::Active | LeaseState::Offered)
    }

    /// Whether it was given to the client as a host that still is one.
    pub(super) fn is_given_to_host(&self) -> bool {
        matches!(self.given_to, GivenTo::Host(..))
    }

    /// Whether it says who the client is when it asks for whatever address it can get. An offer
    /// does. A lease does if the host has an address on the link: a machine that is only known may
    /// be unknown in another stage of its boot, and has an address in a pool of each.
    pub(super) fn counts_anywhere(&self, dhcp: &Dhcp, network: NetworkId) -> bool {
        match self.given_to {
            GivenTo::Host(host, _) => {
                self.state == LeaseState::Offered
                    || self.is_active() && dhcp.host_address(host, network).is_some()
            }
            GivenTo::Anybody | GivenTo::Unproven(_) => false,
        }
    }

    /// Of several that a client may have the greatest is offered (RFC 2131, section 4.3.1): a valid
    /// lease, then an offer, then the one that was given last.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        (self.is_active(), self.is_held(), self.starts)
    }
}

impl GivenTo {
    fn of(known_as: KnownAs<'_>, lease: &Lease, dhcp: &Dhcp) -> Self {
        let KnownAs { name, by: kind, key } = known_as;
        let Some(host) = dhcp.host_by_name(name) else { return Self::Anybody };
        if !FoundBy::is_hashed(kind) {
            return Self::Host(host, FoundBy::kind_only(kind));
        }
        // The client identifier that a lease of an earlier version was asked for with is a proof.
        let noted = || lease.notes.client_id().filter(|_| kind == KeyKind::ClientId);
        let key = key.or_else(|| noted().map(KeyHash::of));
        match FoundBy::remembered(kind, key, dhcp.host(host)) {
            Some(found) => Self::Host(host, found),
            None if known_as.key.is_none() => Self::Unproven(Some((host, kind))),
            None => Self::Anybody,
        }
    }
}

/// What an address is to its client. A quarantine, or a lease, that is over before it was written
/// keeps the address from everybody until it is.
pub(super) fn state_of(lease: &Lease) -> LeaseState {
    match lease.state {
        LeaseState::Expired if lease.pending => LeaseState::Declined,
        state => state,
    }
}
