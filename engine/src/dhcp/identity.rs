//! What tells one machine from another on one link.

use bootstorm_protocols::dhcpv4::Message;
use bootstorm_protocols::time::Moment;

use super::machine::Machine;
use crate::config::Identity;
use crate::leases::{ClientKey, Hardware, Lease, ShardLeases};

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
        Identity::ClientId | Identity::ClientIdOrHardware => client_id().or(hardware).or_else(uuid),
    }
}

/// Which leases a client goes by that sends a client identifier and has no leases of it, where
/// [`Identity::ClientIdOrHardware`] holds.
pub(super) enum Found {
    /// Those of its hardware address: `noted` with this client identifier, else without any.
    ByHardware { key: ClientKey, noted: bool },
    /// It has none.
    Nothing(ClientKey),
}

/// Whether a lease of a hardware address is of a client with another client identifier. A client
/// without one has those leases only that nobody else has taken over by now.
pub(super) fn is_of_another(lease: &Lease, client_id: Option<&[u8]>) -> bool {
    let noted = lease.notes.client_id();
    noted.is_some() && noted != client_id && lease.client == ClientKey::hardware(&lease.hardware)
}

/// Looks for leases on a link as ISC dhcpd does: by client identifier, then by hardware address.
/// `None` for a client that has just one key, or goes by its client identifier.
pub(super) fn find(
    message: &Message<'_>,
    machine: &Machine<'_>,
    by_client_id: &ClientKey,
    is_here: impl Fn(&Lease) -> bool,
    leases: &ShardLeases,
    now: Moment,
) -> Option<Found> {
    let own = machine.client_id?;
    let hardware = Hardware::new(message.htype(), machine.chaddr);
    let by_hardware = hardware.names_a_card().then(|| ClientKey::hardware(&hardware))?;
    let mut has_leases = false;
    leases.of_client(by_client_id, now, |lease| has_leases |= is_here(lease));
    if has_leases {
        return None;
    }
    let mut found = Found::Nothing(by_hardware.clone());
    leases.of_client(&by_hardware, now, |lease| {
        if is_here(lease) && !is_of_another(lease, Some(own)) {
            let before = matches!(found, Found::ByHardware { noted: true, .. });
            let noted = before || lease.notes.client_id().is_some();
            found = Found::ByHardware { key: by_hardware.clone(), noted };
        }
    });
    Some(found)
}
