//! What the configuration knows of a machine: its `[[dhcp.host]]`.

use std::net::Ipv4Addr;

use super::machine::Machine;
use crate::config::{Dhcp, HostId, HostKey, NetworkId};

/// The host entry of a machine, as it counts on one link.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Reservation {
    /// The entry whose options and boot rules hold here. An entry with addresses holds where it
    /// has one; an entry without holds everywhere.
    pub(super) host: Option<HostId>,
    /// The address reserved for the machine on this link.
    pub(super) address: Option<Ipv4Addr>,
    /// Whether there is any entry for the machine, for this link or another.
    pub(super) known: bool,
}

impl Reservation {
    /// Looks the machine up by hardware address, client identifier, UUID, and the port it is
    /// plugged into, in this order. Of several entries the one with an address on this link wins.
    /// `held` is the address that the machine has on this link now.
    pub(super) fn find(
        dhcp: &Dhcp,
        machine: &Machine<'_>,
        network: NetworkId,
        held: Option<Ipv4Addr>,
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
        let ids = [by_hardware, by_client_id, uuid, swapped_uuid].into_iter().flatten().copied();
        let by_address = held.and_then(|held| dhcp.host_by_ip(held));
        let ids = ids.chain(by_circuit);
        let ids = ids.chain(by_address.filter(|&id| silent_about(dhcp, machine, id)));

        let mut found = Self::default();
        for id in ids {
            found.known = true;
            if let Some(address) = dhcp.host_address(id, network) {
                return Self { host: Some(id), address: Some(address), known: true };
            }
            if found.host.is_none() && dhcp.host(id).ips().is_empty() {
                found.host = Some(id);
            }
        }
        found
    }
}

/// Whether the entry knows the machine by something that the later stages of a boot leave out or
/// make up anew: the installer sends no UUID, and a client identifier of its own. A machine that
/// has the entry's address, by its unchanged identity, is the entry's machine then.
fn silent_about(dhcp: &Dhcp, machine: &Machine<'_>, id: HostId) -> bool {
    dhcp.host(id).keys().any(|key| match key {
        HostKey::Uuid(_) => machine.uuid.is_none(),
        HostKey::ClientId(_) => true,
        HostKey::Hardware(_) | HostKey::Circuit { .. } => false,
    })
}
