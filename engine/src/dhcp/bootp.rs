//! BOOTP: clients that know nothing of leases (RFC 951, RFC 1534).
//!
//! A BOOTP client never says that it is done with its address, so it gets one for ever: the one
//! reserved for it, or one of a pool that permits `bootp` by name. Either is leased without end, so
//! that no other machine of the same host entry gets the address meanwhile, and the reply leaves
//! when the lease is durable. When the machine's system renews the address by DHCP, the lease has
//! an end again.
//!
//! Only its hardware address says which host it is (see [`Reservation::find`]).
//!
//! [`Reservation::find`]: super::reservation::Reservation::find

use super::exchange::Exchange;
use super::plan::{Chosen, Draft};
use super::{Action, Silence};
use crate::leases::{ShardLeases, Step};

impl<'a> Exchange<'a> {
    pub(super) fn bootp(&self, leases: &ShardLeases) -> Draft<'a> {
        if let Some(silence) = self.ignored() {
            return Draft::silence(silence, self.arena);
        }
        let (chosen, holder) = self.choose(None, leases);
        // After damage another machine may have a lease of the address, which the store has lost,
        // and no OFFER comes first that could wait for a probe. A lease proves it the machine's:
        // nobody is given what another has.
        let proven = |ip| leases.at(ip, self.now).is_some_and(|lease| lease.is_active(self.now));
        let mut draft = match chosen.and_then(|chosen| self.in_scopes(chosen)) {
            Ok(Chosen { ip, .. }) if leases.is_damaged(self.now) && !proven(ip) => {
                Draft::silence(Silence::NotProbed, self.arena)
            }
            Ok(chosen) => self.give_for_ever(chosen),
            Err(Silence::NoPoolPermitted) => Draft::silence(Silence::BootpWithoutHost, self.arena),
            Err(silence) => Draft::silence(silence, self.arena),
        };
        draft.holder = holder;
        self.leave(&mut draft, leases);
        draft
    }

    fn give_for_ever(&self, chosen: Chosen<'a>) -> Draft<'a> {
        let Chosen { ip, admission, .. } = chosen;
        let reply = self.boot_reply(ip);
        let mut draft = Draft::of(Action::AckWhenDurable(reply), self.arena);
        let (until, expires) = (self.now + self.dhcp.offer_time, self.expiry(reply));
        let ip = ip.into();
        draft.steps.push(Step::Offer { ip, admission, until });
        draft.steps.push(Step::Bind { ip, admission, expires, heard: false });
        draft.steps.extend(self.withdraw_others(Some(chosen.ip)));
        draft.chosen = Some(chosen);
        draft
    }
}
