//! RELEASE and DECLINE: a client no longer wants its address (RFC 2131, sections 4.3.3, 4.3.4).

use std::net::Ipv4Addr;

use super::exchange::Exchange;
use super::plan::Draft;
use super::{Action, Silence};
use crate::config::Flag;
use crate::leases::Step;

impl<'a> Exchange<'a> {
    /// The client shuts down in order. Neither message is ever answered.
    pub(super) fn release(&self) -> Draft<'a> {
        let address = self.message.ciaddr();
        self.give_back(Some(address).filter(|address| !address.is_unspecified()), |own| {
            own.is_held().then_some(Step::Release { ip: own.ip.into() })
        })
    }

    /// The client found somebody else on its address. Only the holder is believed; a reserved
    /// address stays reserved, or anybody with a machine's hardware address could take it away.
    pub(super) fn decline(&self) -> Draft<'a> {
        if let Some(address) = self.message.requested_address()
            && !self.is(Flag::Declines, Some(address))
        {
            return Draft::silence(Silence::DeclinesDenied, self.arena);
        }
        self.give_back(self.message.requested_address(), |own| {
            let ip = own.ip.into();
            let until = self.now + self.dhcp.decline_time;
            match self.is_left_out(own.ip) || self.dhcp.host_by_ip(own.ip).is_some() {
                true => own.is_held().then_some(Step::Release { ip }),
                false => Some(Step::Decline { ip, until }),
            }
        })
    }

    fn give_back(
        &self,
        address: Option<Ipv4Addr>,
        step: impl FnOnce(&super::own::Own) -> Option<Step<'a>>,
    ) -> Draft<'a> {
        let silence = |silence| Draft::silence(silence, self.arena);
        let server = self.message.server_identifier();
        if server.is_some_and(|server| !self.is_own_identifier(server)) {
            return silence(Silence::OtherServer);
        }
        let Some(address) = address else { return silence(Silence::NoAddressNamed) };
        let Some(step) = self.own_at(address).and_then(step) else {
            return silence(Silence::NotHeld);
        };
        let mut draft = Draft::of(Action::Record { address }, self.arena);
        draft.steps.push(step);
        draft
    }
}
