//! DISCOVER: which address a client is offered (RFC 2131, section 4.3.1).

use std::net::Ipv4Addr;

use super::exchange::Exchange;
use super::own::Own;
use super::plan::{Chosen, Draft, Through};
use super::{Action, Silence};
use crate::leases::{LeaseState, ShardLeases, Step};

impl<'a> Exchange<'a> {
    pub(super) fn discover(&self, leases: &ShardLeases) -> Draft<'a> {
        if self.ignored() {
            return Draft::silence(Silence::UnknownClient, self.arena);
        }
        let (chosen, holder) = self.choose(self.message.requested_address(), leases);
        let mut draft = match chosen {
            Ok(chosen) => self.offer_chosen(chosen, leases.is_damaged(self.now)),
            Err(silence) => Draft::silence(silence, self.arena),
        };
        draft.holder = holder;
        // A NAK told the client to leave these, and it asks anew: it has left them.
        let chosen = draft.chosen.map(|chosen| chosen.ip);
        let left = self.own_here().filter(|own| own.refused && own.is_active());
        let left = left.filter(|own| chosen != Some(own.ip));
        draft.steps.extend(left.map(|own| Step::End { ip: own.ip.into() }));
        draft
    }

    /// `damaged`: somebody may have a lease of the address that the store has lost.
    fn offer_chosen(&self, chosen: Chosen<'a>, damaged: bool) -> Draft<'a> {
        let Chosen { ip, admission, through } = chosen;
        let until = self.now + self.dhcp.offer_time;
        // The offer of a moment ago proves nothing: its probe may be under way.
        let proven = match through {
            Through::Lease => true,
            Through::Reservation | Through::Previous => !damaged,
            Through::Offer | Through::Wish | Through::Free => false,
        };
        let probe = (self.dhcp.ping_check.is_some() || damaged) && !proven;
        // Where the address is asked first, there is time enough for an OFFER.
        let rapid = self.dhcp.rapid_commit && self.message.rapid_commit() && !probe;
        let action = if rapid {
            // RFC 4039 section 3.
            Action::AckWhenDurable(self.ack(ip, self.lease_time(ip)))
        } else {
            let reply = self.offer(ip);
            if probe { Action::ProbeThenOffer(reply) } else { Action::Reply(reply) }
        };
        let mut draft = Draft::of(action, self.arena);
        draft.steps.push(Step::Offer { ip: ip.into(), admission, until });
        if rapid {
            let expires = self.expiry(self.lease_time(ip));
            draft.steps.push(Step::Bind { ip: ip.into(), admission, expires, heard: false });
        } else {
            draft.remember = Some((ip, until));
        }
        draft.chosen = Some(chosen);
        draft.steps.extend(self.withdraw_others(Some(ip)));
        draft
    }

    /// Ends the client's offers on its link but for that of `kept`.
    pub(super) fn withdraw_others(&self, kept: Option<Ipv4Addr>) -> impl Iterator<Item = Step<'a>> {
        let offered = move |own: &&Own| own.state == LeaseState::Offered && kept != Some(own.ip);
        self.own_here().filter(offered).map(|own| Step::Withdraw { ip: own.ip.into() })
    }
}
