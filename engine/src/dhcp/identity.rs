//! What tells one machine from another on one link.

use bootstorm_protocols::dhcpv4::Message;

use super::machine::Machine;
use crate::config::Identity;
use crate::leases::{ClientKey, Hardware};

/// The identity of the sender, or `None` when it gives nothing to know it by.
///
/// By hardware address firmware, iPXE and installer are one machine, whatever client identifier
/// each of them makes up; by client identifier it is as RFC 2131 section 4.2 says. Where the
/// wanted identity is missing the next best stands in: RFC 4390 section 2.1 (InfiniBand) sends no
/// hardware address and makes the client identifier the identity.
pub(super) fn key(
    message: &Message<'_>,
    machine: &Machine<'_>,
    identity: Identity,
) -> Option<ClientKey> {
    // All cards that have no address would be one machine.
    let hardware = Hardware::new(message.htype(), machine.chaddr);
    let hardware = hardware.names_a_card().then(|| ClientKey::hardware(&hardware));
    let client_id = || machine.client_id.map(ClientKey::client_id);
    let uuid = || machine.uuid.map(|id| ClientKey::uuid(&id.key()));
    match identity {
        Identity::Hardware => hardware.or_else(client_id).or_else(uuid),
        Identity::ClientId => client_id().or(hardware).or_else(uuid),
    }
}
