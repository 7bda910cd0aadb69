//! What the configuration knows of a machine: its `[[dhcp.host]]`.

use std::net::Ipv4Addr;

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::evaluate::Known;
use super::machine::Machine;
use super::own::{GivenTo, Own};
use crate::config::{Dhcp, HostId, HostIds, HostKey, HostView, NetworkId, OptionPath, option_of};
use crate::leases::{KeyHash, KeyKind};

/// The host entry of a machine, as it counts on one link.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Reservation {
    /// The entry whose options and boot rules hold here. An entry with addresses holds where it
    /// has one; an entry without holds everywhere.
    pub(super) host: Option<HostId>,
    /// The address reserved for the machine on this link.
    pub(super) address: Option<Ipv4Addr>,
    /// By what the machine was found to be `host`.
    pub(super) by: Option<FoundBy>,
    /// Whether there is any entry for the machine, for this link or another.
    pub(super) known: bool,
}

/// The key by which a machine was found to be a host.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct FoundBy {
    pub(super) kind: KeyKind,
    /// Its hash, for the kinds that later stages of a boot do not say again.
    pub(super) key: Option<KeyHash>,
    /// Which option it was, for [`KeyKind::Option`].
    pub(super) option: Option<OptionPath>,
}

impl FoundBy {
    fn new(key: &HostKey<&[u8]>) -> Self {
        let kind = Self::kind_of(key);
        let (key, option) = match key {
            HostKey::Hardware(_) | HostKey::Circuit { .. } => (None, None),
            HostKey::Uuid(uuid) => (Some(KeyHash::of(uuid)), None),
            HostKey::ClientId(id) => (Some(KeyHash::of(id)), None),
            HostKey::Option { path, value } => {
                (Some(KeyHash::of_option(path.code, path.inner, value)), Some(*path))
            }
        };
        Self { kind, key, option }
    }

    /// By the kind alone.
    pub(super) fn kind_only(kind: KeyKind) -> Self {
        Self { kind, key: None, option: None }
    }

    /// What a lease remembers, if the host still has the key.
    pub(super) fn remembered(
        kind: KeyKind,
        key: Option<KeyHash>,
        host: HostView<'_>,
    ) -> Option<Self> {
        let key = Some(key?);
        let same = host.keys().filter(|own| Self::kind_of(own) == kind);
        same.map(|own| Self::new(&own)).find(|own| own.key == key)
    }

    /// Whether a lease remembers which key of this kind it was given by. The others are in every
    /// message, or in what a lease remembers of the relay agent.
    pub(super) fn is_hashed(kind: KeyKind) -> bool {
        matches!(kind, KeyKind::Uuid | KeyKind::ClientId | KeyKind::Option)
    }

    /// The kind of a key of the configuration.
    pub(super) fn kind_of(key: &HostKey<&[u8]>) -> KeyKind {
        match key {
            HostKey::Hardware(_) => KeyKind::Hardware,
            HostKey::Uuid(_) => KeyKind::Uuid,
            HostKey::ClientId(_) => KeyKind::ClientId,
            HostKey::Circuit { .. } => KeyKind::Circuit,
            HostKey::Option { .. } => KeyKind::Option,
        }
    }

    /// Whether the machine's message leaves open if it has the key still.
    fn is_left_open(&self, known: &Known<'_, '_>) -> bool {
        match self.option {
            Some(path) => option_of(path, known).is_none(),
            None => known.machine.is_silent_about(self.kind),
        }
    }
}

impl Reservation {
    /// Looks the machine up by hardware address, client identifier, UUID, the port it is plugged
    /// into, and other options that hosts name, in this order; then by the entry that its lease on
    /// this link was given for. Of several entries the one with an address on this link wins.
    ///
    /// By BOOTP only the hardware address counts. What a BOOTP client gets it has without end, so
    /// one message with the key of another machine, or from a port that another is plugged into
    /// next, would take the address of the entry for good.
    ///
    /// `own` are the machine's leases and offers on this link that count for its message.
    ///
    /// ISC dhcpd goes by client identifier, hardware address, and the options of `host-identifier`,
    /// of which the one that was declared last comes first, in this order, and the first key that
    /// any entry has decides about the address. The options are those of the first entry without
    /// addresses. An INFORM from the address `informed` is answered by the first entry that has
    /// this address, else by the first without addresses; `host-identifier` does not count then,
    /// and the machine counts as unknown.
    pub(super) fn find<'a>(
        dhcp: &'a Dhcp,
        known: &Known<'_, 'a>,
        network: NetworkId,
        informed: Option<Ipv4Addr>,
        own: impl Iterator<Item = &'a Own>,
        arena: &'a Bump,
    ) -> Self {
        let mut found = Self::default();
        if dhcp.hosts.is_empty() {
            return found;
        }
        let entries = Self::entries(dhcp, known, network, own, arena);
        if let Some(address) = informed.filter(|_| dhcp.is_as_dhcpd()) {
            return Self::informed(dhcp, entries, address);
        }
        let mut first = None;
        for &(id, by) in entries {
            found.known = true;
            let decides = *first.get_or_insert(by.kind) == by.kind || !dhcp.is_as_dhcpd();
            let address = dhcp.host_address(id, network).filter(|_| decides);
            if address.is_some() {
                return Self { host: Some(id), address, by: Some(by), known: true };
            }
            if found.host.is_none() && dhcp.host(id).ips().is_empty() {
                (found.host, found.by) = (Some(id), Some(by));
            }
        }
        found
    }

    /// The entry by which ISC dhcpd answers an INFORM from `address`.
    fn informed(dhcp: &Dhcp, entries: &[(HostId, FoundBy)], address: Ipv4Addr) -> Self {
        let is_identifier = |by: FoundBy| matches!(by.kind, KeyKind::Circuit | KeyKind::Option);
        let mut keyed = entries.iter().filter(|(_, by)| !is_identifier(*by));
        let ips = |id: HostId| dhcp.host(id).ips();
        let has_it = keyed.clone().find(|(id, _)| ips(*id).contains(&address));
        let found = has_it.or_else(|| keyed.find(|(id, _)| ips(*id).is_empty()));
        let (host, by) = found.copied().unzip();
        Self { host, by, ..Self::default() }
    }

    /// Every entry that the machine is known by, in the order of [`Reservation::find`]; the same
    /// entry may come several times. Most machines have none, so each look-up ends at once then.
    pub(super) fn entries<'a>(
        dhcp: &'a Dhcp,
        known: &Known<'_, 'a>,
        network: NetworkId,
        own: impl Iterator<Item = &'a Own>,
        arena: &'a Bump,
    ) -> &'a [(HostId, FoundBy)] {
        let (as_dhcpd, machine) = (dhcp.is_as_dhcpd(), known.machine);
        let mut entries = BumpVec::new_in(arena);
        let mut add = |key: HostKey<&[u8]>, hosts: HostIds<'_>| {
            if !hosts.is_empty() {
                let by = FoundBy::new(&key);
                entries.extend(hosts.iter().map(|&id| (id, by)));
            }
        };
        if let Some(id) = machine.client_id.filter(|_| as_dhcpd) {
            add(HostKey::ClientId(id), dhcp.hosts_by_client_id(id));
        }
        let chaddr = machine.chaddr;
        add(HostKey::Hardware(chaddr), dhcp.hosts_by_hardware(chaddr));
        if machine.bootp && !as_dhcpd {
            return entries.into_bump_slice();
        }
        if let Some(id) = machine.client_id.filter(|_| !as_dhcpd) {
            add(HostKey::ClientId(id), dhcp.hosts_by_client_id(id));
        }
        if let Some(uuid) = machine.uuid.filter(|_| !as_dhcpd && dhcp.hosts.have_uuids()) {
            // Firmware writes the UUID in either byte order; people write what the BMC shows.
            for id in [uuid, uuid.byte_swapped()] {
                let id = id.as_bytes();
                add(HostKey::Uuid(*id), dhcp.hosts_by_uuid(id));
            }
        }
        if as_dhcpd {
            let first = entries.len();
            for option in dhcp.hosts.options() {
                by_option(dhcp, option, known, &mut entries);
                if entries.len() > first {
                    break;
                }
            }
            return entries.into_bump_slice();
        }
        let Machine { circuit_id, remote_id, .. } = *machine;
        by_port(dhcp.hosts_at_port(circuit_id, remote_id), &mut entries);
        by_port(dhcp.hosts_at_switch(remote_id), &mut entries);
        let is_port = |path| path == OptionPath::CIRCUIT_ID || path == OptionPath::REMOTE_ID;
        for option in dhcp.hosts.options().filter(|(_, path)| !is_port(*path)) {
            by_option(dhcp, option, known, &mut entries);
        }
        entries.extend(own.filter_map(|own| given_to(dhcp, known, network, own)));
        entries.into_bump_slice()
    }
}

/// Adds the entries that name the machine's port.
fn by_port(hosts: impl Iterator<Item = HostId>, entries: &mut BumpVec<'_, (HostId, FoundBy)>) {
    entries.extend(hosts.map(|id| (id, FoundBy::kind_only(KeyKind::Circuit))));
}

/// Adds the entries that name what the machine says in an option, given with its place.
fn by_option(
    dhcp: &Dhcp,
    (place, path): (u8, OptionPath),
    known: &Known<'_, '_>,
    entries: &mut BumpVec<'_, (HostId, FoundBy)>,
) {
    let Machine { circuit_id, remote_id, .. } = *known.machine;
    match path {
        OptionPath::CIRCUIT_ID => by_port(dhcp.hosts_at_port(circuit_id, remote_id), entries),
        OptionPath::REMOTE_ID => by_port(dhcp.hosts_at_switch(remote_id), entries),
        _ => {
            let Some(value) = option_of(path, known) else { return };
            let hosts = dhcp.hosts.by_option(place, value);
            if !hosts.is_empty() {
                let by = FoundBy::new(&HostKey::Option { path, value });
                entries.extend(hosts.iter().map(|&id| (id, by)));
            }
        }
    }
}

/// The entry that a lease or offer was given for, where the message is silent about the key by
/// which the machine was found then: later stages of a boot send no UUID, and a client identifier
/// of their own. A refused lease counts only where its entry has another address by now: else the
/// refusal says that the machine is not this host any more.
fn given_to(
    dhcp: &Dhcp,
    known: &Known<'_, '_>,
    network: NetworkId,
    own: &Own,
) -> Option<(HostId, FoundBy)> {
    let GivenTo::Host(id, by) = own.given_to else { return None };
    let moved = dhcp.host_address(id, network) != Some(own.ip);
    (by.is_left_open(known) && (!own.refused || moved)).then_some((id, by))
}
