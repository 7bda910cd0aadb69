//! One address: the lease in memory, and what the store has of it.

use bootstorm_protocols::time::Moment;

use super::pools::Position;
use super::{ClientKey, Lease, LeaseState};
use crate::config::NetworkId;

/// What the store has for an address, compared with the lease in memory.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Durable {
    /// Nothing.
    Nothing,
    /// A lease of the same client, with these.
    Same { state: LeaseState, starts: Moment, expires: Moment },
    /// The lease of another client, whose time is over or who was replaced. It is made when an
    /// address changes hands, which allocates.
    Other(Box<Lease>),
}

impl Durable {
    /// What the store has after `written` was written, while memory has `current`.
    pub(super) fn of(written: &Lease, current: &Lease) -> Self {
        if written.client == current.client {
            let Lease { state, starts, expires, .. } = *written;
            Self::Same { state, starts, expires }
        } else {
            Self::Other(Box::new(written.clone()))
        }
    }
}

/// One address of the index.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) lease: Lease,
    pub(super) durable: Durable,
    /// The version that the store is known to have; 0 for nothing.
    pub(super) stored: u64,
    /// Rises with every change that is to become durable; the same number never comes twice.
    pub(super) version: u64,
    /// Changes with a lower version are void: they were rolled back, or another client came.
    pub(super) floor: u64,
    /// The store does not have the last change yet.
    pub(super) pending: bool,
    /// When the offer that led here ends.
    pub(super) offer_ends: Moment,
    /// Its position in its pool; `None` for reserved addresses and those of no pool.
    pub(super) position: Option<Position>,
    /// The address still lies in a fresh range of its pool, or among the returned ones.
    pub(super) in_free_range: bool,
}

impl Slot {
    /// Whether the client has the address, or had it last.
    pub(super) fn is(&self, network: NetworkId, client: &ClientKey) -> bool {
        self.lease.network == Some(network) && self.lease.client == *client
    }

    /// The lease as the store has it.
    pub(super) fn durable_lease(&self) -> Option<Lease> {
        match &self.durable {
            Durable::Nothing => None,
            Durable::Same { state, starts, expires } => {
                let (state, starts, expires) = (*state, *starts, *expires);
                Some(Lease { state, starts, expires, ..self.lease.clone() })
            }
            Durable::Other(lease) => Some(Lease::clone(lease)),
        }
    }

    /// The lease to be written. While a release is on its way its client may have been offered the
    /// address again; an offer is never written, the release is.
    pub(super) fn to_write(&self) -> Lease {
        let mut lease = self.lease.clone();
        if lease.state == LeaseState::Offered {
            lease.state = LeaseState::Released;
            lease.expires = lease.starts;
        }
        lease
    }

    /// The lease as it is at `now`: what is over is over, whether a sweep has seen it or not.
    pub(super) fn view(&self, now: Moment) -> Option<Lease> {
        if self.lease.state == LeaseState::Offered && now >= self.lease.expires && !self.pending {
            return self.durable_lease().map(|lease| lease.ended(now));
        }
        Some(self.lease.clone().ended(now))
    }

    /// Whether another client may have the address at `now`.
    pub(super) fn is_free(&self, now: Moment) -> bool {
        if self.pending {
            return false;
        }
        match self.lease.state {
            LeaseState::Released | LeaseState::Expired => true,
            LeaseState::Active | LeaseState::Declined => now >= self.lease.expires,
            LeaseState::Offered => {
                now >= self.lease.expires
                    && match &self.durable {
                        Durable::Nothing => true,
                        Durable::Same { state, expires, .. } => {
                            !state.is_taken() || now >= *expires
                        }
                        Durable::Other(lease) => !lease.state.is_taken() || now >= lease.expires,
                    }
            }
        }
    }
}
