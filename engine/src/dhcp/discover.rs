//! DISCOVER: which address a client is offered (RFC 2131, section 4.3.1).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::exchange::Exchange;
use super::own::Own;
use super::plan::{Chosen, Draft, Through};
use super::{Action, Silence};
use crate::config::{Dhcp, Flag, LeaseTerm, Parameter, ScopeChain};
use crate::leases::{LeaseState, ShardLeases, Step, Transaction};

impl<'a> Exchange<'a> {
    pub(super) fn discover(&self, leases: &ShardLeases) -> Draft<'a> {
        if let Some(silence) = self.ignored() {
            return Draft::silence(silence, self.arena);
        }
        let (chosen, holder) = self.choose(self.message.requested_address(), leases);
        let mut draft = match chosen.and_then(|chosen| self.in_scopes(chosen)) {
            Ok(chosen) => {
                let cap = self.longest(chosen.ip, leases);
                self.offer_chosen(chosen, cap, leases.is_damaged(self.now))
            }
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
    fn offer_chosen(&self, chosen: Chosen<'a>, cap: Option<LeaseTerm>, damaged: bool) -> Draft<'a> {
        let Chosen { ip, admission, .. } = chosen;
        let until = self.now + self.dhcp.offer_time;
        let probe = self.probe(chosen, damaged);
        // Where the address is asked first, there is time enough for an OFFER.
        let rapid = self.dhcp.rapid_commit && self.message.rapid_commit() && probe.is_none();
        let action = if rapid {
            // RFC 4039 section 3.
            Action::AckWhenDurable(self.ack(ip, cap))
        } else if let Some(wait) = probe {
            Action::ProbeThenOffer(self.offer(ip, cap), wait)
        } else {
            Action::Reply(self.offer(ip, cap))
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

    /// How long the address is pinged before it is offered; `None` if it is not.
    fn probe(&self, Chosen { ip, through, .. }: Chosen<'a>, damaged: bool) -> Option<Duration> {
        let pings = self.dhcp.same_for_all(Flag::PingCheck) != Some(false);
        let chain = pings.then(|| self.chain(Some(ip)));
        let ping = chain.and_then(ScopeChain::ping);
        if (ping.is_none() && !damaged) || through == Through::Lease {
            return None;
        }
        let has = |own: &Own| own.is_active() && !own.may_be_outdated;
        let silent = self.own_at(ip).map(|own| self.now.since(own.heard()));
        let cltt = chain.and_then(|chain| chain.rare(Parameter::PingCltt, |all| all.ping_cltt));
        let proven = match through {
            Through::Reservation | Through::Previous if damaged => self.own_at(ip).is_some_and(has),
            Through::Previous => silent < cltt || cltt.is_none(),
            // While it is pinged the offer proves nothing.
            Through::Offer => !damaged && silent < cltt && silent > ping,
            Through::Reservation | Through::Lease => true,
            Through::Wish | Through::Free => false,
        };
        (!proven).then_some(ping.unwrap_or(Dhcp::PING_WAIT))
    }

    /// Ends the client's offers on its link but for that of `kept`.
    pub(super) fn withdraw_others(&self, kept: Option<Ipv4Addr>) -> impl Iterator<Item = Step<'a>> {
        let offered = move |own: &&Own| own.state == LeaseState::Offered && kept != Some(own.ip);
        self.own_here().filter(offered).map(|own| Step::Withdraw { ip: own.ip.into() })
    }
}
