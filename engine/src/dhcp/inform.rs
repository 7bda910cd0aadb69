//! INFORM: a machine with an address of its own asks for options only (RFC 2131, section 4.3.5).

use std::net::Ipv4Addr;

use super::exchange::Exchange;
use super::{Action, Silence};

impl<'a> Exchange<'a> {
    pub(super) fn inform(&self) -> Action<'a> {
        if self.ignored() {
            return Action::Silence(Silence::UnknownClient);
        }
        let Some(address) = self.informed_address() else {
            return Action::Silence(Silence::NoAddressNamed);
        };
        // RFC 2131 4.3.5: check the address against the network, but not against the leases.
        if !self.is_on_link(address) {
            return Action::Silence(Silence::NoSubnetHere);
        }
        Action::Reply(self.ack_to_inform(address))
    }

    /// ciaddr; clients that leave it empty wrote from their address.
    fn informed_address(&self) -> Option<Ipv4Addr> {
        let ciaddr = Some(self.message.ciaddr()).filter(|address| !address.is_unspecified());
        let source = *self.arrival.source.ip();
        let direct = self.message.giaddr().is_unspecified() && !source.is_unspecified();
        ciaddr.or(direct.then_some(source))
    }
}
