//! INFORM: a machine with an address of its own asks for options only (RFC 2131, section 4.3.5).

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::Message;

use super::exchange::Exchange;
use super::plan::Draft;
use super::{Action, Arrival, Silence};
use crate::config::Dhcp;

/// The address of the machine that asks: ciaddr. Machines that leave it empty wrote from their
/// address.
pub(super) fn informed_address(
    message: &Message<'_>,
    arrival: &Arrival<'_>,
    dhcp: &Dhcp,
) -> Option<Ipv4Addr> {
    let of_host = |address| Some(address).filter(|&address| dhcp.is_host(address));
    let direct = message.giaddr().is_unspecified();
    let source = || of_host(*arrival.source.ip()).filter(|_| direct);
    of_host(message.ciaddr()).or_else(source)
}

impl<'a> Exchange<'a> {
    pub(super) fn inform(&self) -> Draft<'a> {
        let silence = |silence| Draft::silence(silence, self.arena);
        // dhcpd tells everybody, known or not.
        if let Some(why) = self.ignored() {
            return silence(why);
        }
        let Some(address) = informed_address(self.message, self.arrival, self.dhcp) else {
            return silence(Silence::NoAddressNamed);
        };
        let subnet = self.dhcp.subnet_of(address);
        if self.is_as_dhcpd() && !self.is_authoritative_as_dhcpd(subnet) {
            return silence(Silence::NotAuthoritative);
        }
        // RFC 2131 4.3.5: check the address against the network, but not against the leases.
        if !self.is_on_link(address) {
            return silence(Silence::NoSubnetHere);
        }
        Draft::of(Action::Reply(self.ack_to_inform(address)), self.arena)
    }
}
