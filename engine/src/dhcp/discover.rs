//! DISCOVER: which address a client is offered (RFC 2131, section 4.3.1).

use std::net::Ipv4Addr;

use super::exchange::Exchange;
use super::own::Own;
use super::plan::{Chosen, Draft, Through};
use super::{Action, Silence};
use crate::config::Parameter;
use crate::leases::{LeaseState, ShardLeases, Step, Transaction};

impl<'a> Exchange<'a> {
    pub(super) fn discover(&self, leases: &ShardLeases) -> Draft<'a> {
        if let Some(silence) = self.ignored() {
            return Draft::silence(silence, self.arena);
        }
        let (chosen, holder) = self.choose(self.message.requested_address(), leases);
        let mut draft = match chosen.and_then(|chosen| self.in_scopes(chosen)) {
            Ok(chosen) => self.offer_chosen(chosen, leases.is_damaged(self.now)),
            Err(silence) => Draft::silence(silence, self.arena),
        };
        draft.holder = holder;
        self.leave(&mut draft, leases);
        draft
    }

    /// What becomes of the client's leases on its link, but for the address that it gets, when it
    /// asks for whatever it can have. Who asks so has no address (RFC 2131, section 4.4.1). But it
    /// may be one stage of a boot, and another one have a lease that it goes on with. So
    /// - a lease that a NAK told the client to leave ends;
    /// - a lease of an address that no stage of it can have any more, whatever it says, is marked
    ///   as a NAK marks it: machines that begin anew at each boot never ask for such an address,
    ///   and never hear the NAK. If the client asks again, it ends.
    ///
    /// A datagram of the network's may be late. What has the transaction of the OFFER of the lease,
    /// or of the mark, was not sent after it, and ends nothing. A server that was started a moment
    /// ago does not know these transactions any more: the first DISCOVER is taken for one of them.
    pub(super) fn leave(&self, draft: &mut Draft<'a>, leases: &ShardLeases) {
        let chosen = draft.chosen.map(|chosen| chosen.ip);
        let others = self.own_here().filter(|own| own.is_active() && chosen != Some(own.ip));
        for own in others {
            let ip = own.ip.into();
            if !own.refused {
                if self.is_lost(own) {
                    draft.steps.push(Step::Refuse { ip });
                    draft.remember.push((own.ip, self.now + self.dhcp.offer_time));
                }
                continue;
            }
            let offer_time = self.dhcp.offer_time;
            let xid = self.message.xid();
            match leases.transaction(&self.key, ip, xid, offer_time, self.now) {
                Transaction::Before => {}
                Transaction::After => draft.steps.push(Step::End { ip }),
                Transaction::Forgotten => draft.remember.push((own.ip, self.now + offer_time)),
            }
        }
    }

    /// The address, unless its scopes have this server ignore the machine.
    pub(super) fn in_scopes(&self, chosen: Chosen<'a>) -> Result<Chosen<'a>, Silence> {
        if !self.may_be_silenced() {
            return Ok(chosen);
        }
        let chain = self.chain(Some(chosen.ip));
        let secs = self.message.secs();
        let least = chain.rare(Parameter::MinSecs, |settings| settings.min_secs).unwrap_or(0);
        match self.silenced(chain) {
            None if secs < u16::from(least) && !self.machine.bootp => Err(Silence::TooEarly),
            None => Ok(chosen),
            Some(silence) => Err(silence),
        }
    }

    /// `damaged`: somebody may have a lease of the address that the store has lost.
    fn offer_chosen(&self, chosen: Chosen<'a>, damaged: bool) -> Draft<'a> {
        let Chosen { ip, admission, through } = chosen;
        let until = self.now + self.dhcp.offer_time;
        // The offer of a moment ago proves nothing: its probe may be under way.
        let has = |own: &Own| own.is_active() && !own.may_be_outdated;
        let proven = match through {
            Through::Lease => true,
            Through::Reservation | Through::Previous => {
                !damaged || self.own_at(ip).is_some_and(has)
            }
            Through::Offer | Through::Wish | Through::Free => false,
        };
        let probe = (self.dhcp.ping_check.is_some() || damaged) && !proven;
        // Where the address is asked first, there is time enough for an OFFER.
        let rapid = self.dhcp.rapid_commit && self.message.rapid_commit() && !probe;
        let action = if rapid {
            // RFC 4039 section 3.
            Action::AckWhenDurable(self.ack(ip))
        } else if probe {
            Action::ProbeThenOffer(self.offer(ip))
        } else {
            Action::Reply(self.offer(ip))
        };
        let mut draft = Draft::of(action, self.arena);
        draft.steps.push(Step::Offer { ip: ip.into(), admission, until });
        draft.remember.push((ip, until));
        if let Action::AckWhenDurable(ack) = draft.action {
            let expires = self.expiry(ack);
            draft.steps.push(Step::Bind { ip: ip.into(), admission, expires, heard: false });
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
