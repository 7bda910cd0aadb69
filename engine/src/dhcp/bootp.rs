//! BOOTP: clients that know nothing of leases (RFC 951, RFC 1534).
//!
//! A BOOTP client never says that it is done with its address, so it gets one for ever: the one
//! reserved for it, for which nothing need be remembered, or one of a pool that permits `bootp` by
//! name, which is leased without end.

use super::exchange::Exchange;
use super::{Action, Silence};
use crate::config::LeaseTime;
use crate::leases::{Bind, Candidates, ShardLeases};

impl<'a> Exchange<'a> {
    pub(super) fn bootp(&self, leases: &mut ShardLeases) -> Action<'a> {
        if self.ignored() {
            return Action::Silence(Silence::UnknownClient);
        }
        if let Some(reserved) = self.reservation.address
            && !self.blocked(reserved, leases)
        {
            return Action::Reply(self.boot_reply(reserved));
        }
        let pools = self.pools();
        if pools.is_empty() {
            return Action::Silence(Silence::BootpWithoutHost);
        }
        let until = self.now + self.dhcp.offer_time;
        let client = self.client();
        let Ok(offer) = leases.offer(&client, Candidates::Pools(pools), None, self.now, until)
        else {
            return Action::Silence(Silence::PoolFull);
        };
        match leases.bind(&client, offer.ip, self.now, self.expiry(LeaseTime::INFINITE)) {
            Bind::Pending(change) => {
                Action::AckWhenDurable { change, reply: self.boot_reply(offer.ip) }
            }
            Bind::AlreadyPending => Action::Silence(Silence::CommitPending),
            Bind::Refused(_) => Action::Silence(Silence::PoolFull),
        }
    }
}
