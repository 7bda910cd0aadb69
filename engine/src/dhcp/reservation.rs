//! What the configuration knows of a machine: its `[[dhcp.host]]`.

use std::net::Ipv4Addr;

use super::machine::Machine;
use super::own::Own;
use crate::config::{Dhcp, HostId, NetworkId};
use crate::leases::KeyKind;

/// The host entry of a machine, as it counts on one link.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Reservation {
    /// The entry whose options and boot rules hold here. An entry with addresses holds where it
    /// has one; an entry without holds everywhere.
    pub(super) host: Option<HostId>,
    /// The address reserved for the machine on this link.
    pub(super) address: Option<Ipv4Addr>,
    /// By what the machine was found to be `host`.
    pub(super) by: Option<KeyKind>,
    /// Whether there is any entry for the machine, for this link or another.
    pub(super) known: bool,
}

impl Reservation {
    /// Looks the machine up by hardware address, client identifier, UUID, and the port it is
    /// plugged into, in this order; then by the entry that its lease on this link was given for. Of
    /// several entries the one with an address on this link wins.
    ///
    /// `own` are the machine's leases and offers on this link that count for its message.
    pub(super) fn find<'o>(
        dhcp: &Dhcp,
        machine: &Machine<'_>,
        network: NetworkId,
        own: impl Iterator<Item = &'o Own>,
    ) -> Self {
        if dhcp.hosts.is_empty() {
            return Self::default();
        }
        let by_hardware = dhcp.hosts_by_hardware(machine.chaddr);
        let by_client_id = machine.client_id.map_or(&[][..], |id| dhcp.hosts_by_client_id(id));
        let [uuid, swapped_uuid] = match &machine.uuid {
            // Firmware writes the UUID in either byte order; people write what the BMC shows.
            Some(id) => [*id, id.byte_swapped()].map(|id| dhcp.hosts_by_uuid(id.as_bytes())),
            None => [&[][..]; 2],
        };
        let by_circuit = dhcp.hosts_by_circuit(machine.circuit_id, machine.remote_id);
        let by_keys = [
            (by_hardware, KeyKind::Hardware),
            (by_client_id, KeyKind::ClientId),
            (uuid, KeyKind::Uuid),
            (swapped_uuid, KeyKind::Uuid),
        ];
        let ids = by_keys.into_iter().flat_map(|(ids, by)| ids.iter().map(move |&id| (id, by)));
        let ids = ids.chain(by_circuit.map(|id| (id, KeyKind::Circuit)));
        let ids = ids.chain(own.filter_map(|own| admitted(dhcp, machine, network, own)));

        let mut found = Self::default();
        for (id, by) in ids {
            found.known = true;
            let address = dhcp.host_address(id, network);
            if address.is_some() {
                return Self { host: Some(id), address, by: Some(by), known: true };
            }
            if found.host.is_none() && dhcp.host(id).ips().is_empty() {
                (found.host, found.by) = (Some(id), Some(by));
            }
        }
        found
    }
}

/// The entry that a lease or offer was given for, where the message is silent about the key by
/// which the machine was found then: later stages of a boot send no UUID, and a client identifier
/// of their own. A refused lease counts only where its entry has another address by now: else the
/// refusal says that the machine is not this host any more.
fn admitted(
    dhcp: &Dhcp,
    machine: &Machine<'_>,
    network: NetworkId,
    own: &Own,
) -> Option<(HostId, KeyKind)> {
    let (id, by) = own.host?;
    let silent = match by {
        KeyKind::Uuid => machine.uuid.is_none(),
        KeyKind::ClientId => true,
        KeyKind::Hardware | KeyKind::Circuit => false,
    };
    let moved = dhcp.host_address(id, network) != Some(own.ip);
    (silent && (!own.refused || moved)).then_some((id, by))
}
