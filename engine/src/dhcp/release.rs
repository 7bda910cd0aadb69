//! RELEASE and DECLINE: a client no longer wants its address (RFC 2131, sections 4.3.3, 4.3.4).

use super::exchange::Exchange;
use super::{Action, Silence};
use crate::leases::{Declined, ShardLeases};

impl<'a> Exchange<'a> {
    /// The client shuts down in order. Neither message is ever answered.
    pub(super) fn release(&self, leases: &mut ShardLeases) -> Action<'a> {
        if let Some(silence) = self.meant_for_another() {
            return Action::Silence(silence);
        }
        let address = self.message.ciaddr();
        if address.is_unspecified() {
            return Action::Silence(Silence::NoAddressNamed);
        }
        match leases.release(self.link.network, &self.key, address, self.now) {
            Some(change) => Action::Record { change, address },
            None => Action::Silence(Silence::NotHeld),
        }
    }

    /// The client found somebody else on its address. Only the holder is believed; a reserved
    /// address stays reserved, or anybody with a machine's hardware address could take it away.
    pub(super) fn decline(&self, leases: &mut ShardLeases) -> Action<'a> {
        if let Some(silence) = self.meant_for_another() {
            return Action::Silence(silence);
        }
        let Some(address) = self.message.requested_address() else {
            return Action::Silence(Silence::NoAddressNamed);
        };
        let until = self.now + self.dhcp.decline_time;
        match leases.decline(self.link.network, &self.key, address, self.now, until) {
            Declined::Quarantined(change) => Action::Record { change, address },
            Declined::Reserved(change) => Action::Record { change, address },
            Declined::NotHeld => Action::Silence(Silence::NotHeld),
        }
    }

    fn meant_for_another(&self) -> Option<Silence> {
        let server = self.message.server_identifier()?;
        (!self.is_own_identifier(server)).then_some(Silence::OtherServer)
    }
}
