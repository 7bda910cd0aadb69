//! What a client has here: its leases and offers, in whichever networks and pools.

use std::net::Ipv4Addr;

use bootstorm_protocols::time::Moment;

use crate::config::{Dhcp, HostId};
use crate::leases::{Admission, KeyKind, Lease, LeaseState};

/// One lease or offer of the client that is asking, with what decides about it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Own {
    pub(super) ip: Ipv4Addr,
    /// As it is now: a lease whose time is over is [`LeaseState::Expired`].
    pub(super) state: LeaseState,
    /// When it was given or renewed last.
    starts: Moment,
    /// A NAK has told the client to leave it.
    pub(super) refused: bool,
    /// It is being written, and an ACK leaves when it is.
    pub(super) is_awaited: bool,
    /// The `[[dhcp.host]]` whose reserved address it was given as, and the key by which the client
    /// was found to be that host; `None` where a pool gave it, or that host is no more.
    pub(super) host: Option<(HostId, KeyKind)>,
}

impl Own {
    /// What counts of a lease; `None` for other addresses than IPv4's.
    pub(super) fn of(lease: &Lease, dhcp: &Dhcp) -> Option<Self> {
        let host = match lease.admission() {
            Admission::Host { name, by } => dhcp.host_by_name(name).map(|host| (host, by)),
            Admission::Pool { .. } | Admission::Unknown => None,
        };
        let Lease { starts, refused, .. } = *lease;
        let (state, is_awaited) = (state_of(lease), lease.pending && !refused);
        Some(Self { ip: lease.ipv4()?, state, starts, refused, is_awaited, host })
    }

    /// Whether it is a lease that has not ended.
    pub(super) fn is_active(&self) -> bool {
        self.state == LeaseState::Active
    }

    /// Whether it is a lease or an offer that has not ended.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.state, LeaseState::Active | LeaseState::Offered)
    }

    /// Of several that a client may have the greatest is offered (RFC 2131, section 4.3.1): a valid
    /// lease, then an offer, then the one that was given last.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        (self.is_active(), self.is_held(), self.starts)
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
