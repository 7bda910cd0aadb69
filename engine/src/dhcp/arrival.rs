//! How a request came in, and which link its client is on.

use std::net::{Ipv4Addr, SocketAddrV4};

use bootstorm_protocols::dhcpv4::{Message, MessageType, RelayAgentInformation};

use super::Silence;
use crate::config::{AddressPlace, Dhcp, NetworkId, SubnetId};

/// What the packet engine knows about a datagram besides its payload.
#[derive(Copy, Clone, Debug)]
pub struct Arrival<'a> {
    /// The interface it came in on.
    pub ifindex: u32,
    /// IPv4 addresses of that interface, in the order of the kernel.
    pub interface: &'a [Ipv4Addr],
    /// IPv4 addresses of this server on all interfaces.
    pub server: &'a [Ipv4Addr],
    /// The largest IP datagram that the interface sends, in bytes.
    pub mtu: u16,
    /// Destination address of the IP header; `None` when the kernel did not say.
    pub destination: Option<Ipv4Addr>,
    /// Source address and port.
    pub source: SocketAddrV4,
}

impl Arrival<'_> {
    /// The server's address that the datagram was sent to, unless it was a broadcast.
    pub(super) fn unicast(&self) -> Option<Ipv4Addr> {
        self.destination.filter(|address| self.owns(*address))
    }

    /// ciaddr where the client answers ARP for it: it is an address of a machine, and the datagram
    /// came from it, or from another one (behind NAT, or through a relay agent). From 0.0.0.0
    /// ciaddr says nothing: NetworkManager and VPCS fill it in with an address that they no longer
    /// have.
    pub(super) fn ciaddr_in_use(&self, dhcp: &Dhcp, message: &Message<'_>) -> Option<Ipv4Addr> {
        let (ciaddr, source) = (message.ciaddr(), *self.source.ip());
        (dhcp.is_host(ciaddr) && dhcp.is_host(source)).then_some(ciaddr)
    }

    /// Whether `address` is an address of this server.
    pub(super) fn owns(&self, address: Ipv4Addr) -> bool {
        self.server.contains(&address) || self.interface.contains(&address)
    }

    /// Whether a client with `address` is behind a router: on a link that is served, and that is
    /// not the interface's.
    pub(super) fn is_routed(&self, dhcp: &Dhcp, address: Ipv4Addr) -> bool {
        let network = |address| dhcp.subnet_of(address).map(|id| dhcp.subnet(id).network);
        network(address)
            .is_some_and(|there| self.interface.iter().all(|&own| network(own) != Some(there)))
    }
}

/// The link a client is on: the subnet that named it, and the network of all subnets on that link.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Link {
    pub(super) subnet: SubnetId,
    pub(super) network: NetworkId,
}

/// What named the link of a client.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum LinkBy {
    /// The relay agent, by its link selection (option 82, sub-option 5, RFC 3527).
    LinkSelection(Ipv4Addr),
    /// The client, by its subnet selection (option 118, RFC 3011).
    SubnetSelection(Ipv4Addr),
    /// The relay agent, by its address (giaddr).
    Relay(Ipv4Addr),
    /// The client's own address, in a unicast.
    Ciaddr(Ipv4Addr),
    /// An address of the interface.
    Interface(Ipv4Addr),
}

impl Link {
    fn of(dhcp: &Dhcp, address: Ipv4Addr) -> Option<Self> {
        dhcp.subnet_of(address).map(|subnet| Self::of_subnet(dhcp, subnet))
    }

    fn of_subnet(dhcp: &Dhcp, subnet: SubnetId) -> Self {
        Self { subnet, network: dhcp.subnet(subnet).network }
    }

    /// The address that a client has, where ISC dhcpd goes by its link: of a direct REQUEST that
    /// asks for no other address, and of an INFORM.
    fn ciaddr_of_dhcpd(message: &Message<'_>, arrival: &Arrival<'_>) -> Option<Ipv4Addr> {
        let ciaddr = Some(message.ciaddr()).filter(|address| !address.is_unspecified());
        match message.message_type()? {
            MessageType::Request if message.requested_address().is_none() => ciaddr,
            MessageType::Inform => ciaddr.or(Some(*arrival.source.ip())),
            _ => None,
        }
    }

    /// Whether `address` is of a subnet on the link.
    pub(super) fn holds(self, dhcp: &Dhcp, address: Ipv4Addr) -> bool {
        self.has(dhcp, dhcp.place_of(address))
    }

    /// The same of the place of an address.
    pub(super) fn has(self, dhcp: &Dhcp, place: AddressPlace) -> bool {
        place.subnet.is_some_and(|subnet| dhcp.subnet(subnet).network == self.network)
    }

    /// That of a relay agent, if a subnet holds it. Replies go to its address, which is to be that
    /// of one agent.
    fn of_relay(dhcp: &Dhcp, giaddr: Ipv4Addr) -> Result<Option<Self>, Silence> {
        let subnet = dhcp.subnet_of_host(giaddr).ok_or(Silence::NoSubnetForRelay)?;
        Ok(subnet.map(|subnet| Self::of_subnet(dhcp, subnet)))
    }

    /// Finds the link, and what named it. What a relay agent says of it (RFC 3527) goes before what
    /// the client says (RFC 3011), and both before giaddr, ciaddr and the interface.
    pub(super) fn find(
        dhcp: &Dhcp,
        message: &Message<'_>,
        relay: Option<&RelayAgentInformation<'_>>,
        arrival: &Arrival<'_>,
    ) -> Result<(Self, LinkBy), Silence> {
        let of = |by: fn(Ipv4Addr) -> LinkBy, address| {
            Self::of(dhcp, address).map(|link| (link, by(address)))
        };
        let giaddr = message.giaddr();
        let by_giaddr = match giaddr.is_unspecified() {
            true => None,
            false => Some(Self::of_relay(dhcp, giaddr)?),
        };
        // A direct client could write option 82 as well as a relay agent can; only with giaddr
        // (RFC 3527 section 3) the sub-option means anything.
        let by_relay = relay
            .filter(|_| !giaddr.is_unspecified() || dhcp.is_as_dhcpd())
            .and_then(|relay| relay.link_selection())
            .map(|address| of(LinkBy::LinkSelection, address));
        let by_client =
            || message.subnet_selection().map(|address| of(LinkBy::SubnetSelection, address));
        if let Some(selected) = by_relay.or_else(by_client) {
            // RFC 3527 section 3, RFC 3011 section 2: that subnet's link or none.
            return selected.ok_or(Silence::NoSubnetSelected);
        }
        if let Some(link) = by_giaddr {
            return Ok((link.ok_or(Silence::NoSubnetForRelay)?, LinkBy::Relay(giaddr)));
        }
        if dhcp.is_as_dhcpd()
            && let Some(address) = Self::ciaddr_of_dhcpd(message, arrival)
            && let Some(link) = of(LinkBy::Ciaddr, address)
        {
            return Ok(link);
        }
        // RFC 2131 4.3.2: a unicast request comes through no relay agent; ciaddr is trusted.
        if arrival.unicast().is_some()
            && let Some(ciaddr) = arrival.ciaddr_in_use(dhcp, message)
            && let Some(link) = of(LinkBy::Ciaddr, ciaddr)
        {
            return Ok(link);
        }
        let own = arrival.interface.iter().find_map(|&address| of(LinkBy::Interface, address));
        own.ok_or(Silence::NoSubnetHere)
    }

    /// The link of the interface that the message came in on.
    pub(super) fn of_interface(dhcp: &Dhcp, arrival: &Arrival<'_>) -> Option<Self> {
        arrival.interface.iter().find_map(|&address| Self::of(dhcp, address))
    }
}
