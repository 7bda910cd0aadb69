//! Where a reply goes (RFC 2131, section 4.1).

use std::net::{Ipv4Addr, SocketAddrV4};

use bootstorm_protocols::dhcpv4::{CLIENT_PORT, ETHERNET, Message, SERVER_PORT};

/// How a reply reaches its client.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// By UDP to the relay agent.
    Relay(SocketAddrV4),
    /// By UDP to an address the client already has.
    Unicast(SocketAddrV4),
    /// In a frame of its own to a client that has no address yet and so cannot answer ARP.
    Link {
        /// Destination of the IP header.
        ip: Ipv4Addr,
        /// Destination of the Ethernet header.
        mac: [u8; 6],
    },
    /// By UDP to 255.255.255.255 port 68, or what the configuration has in their place, on the
    /// interface the request came in on.
    Broadcast,
}

impl Delivery {
    /// The way of an OFFER, an ACK or a BOOTREPLY that gives `yiaddr`. `relay_port` is the port
    /// that the relay agent sends from if it said so (RFC 8357). `broadcast` is the flag of the
    /// reply. For `ciaddr_in_use` see
    /// [`super::Arrival`].
    pub(super) fn of_answer(
        message: &Message<'_>,
        broadcast: bool,
        ciaddr_in_use: Option<Ipv4Addr>,
        relay_port: Option<u16>,
        yiaddr: Ipv4Addr,
    ) -> Self {
        // RFC 2131 4.1: a giaddr wins over everything, the broadcast flag included.
        Self::to_relay(message, relay_port)
            .or_else(|| ciaddr_in_use.map(Self::to_client))
            .unwrap_or_else(|| Self::on_link(message, broadcast, yiaddr))
    }

    /// The way of a NAK. `routed` says that the client sits behind a router and wrote by unicast.
    pub(super) fn of_nak(
        message: &Message<'_>,
        ciaddr_in_use: Option<Ipv4Addr>,
        relay_port: Option<u16>,
        routed: bool,
    ) -> Self {
        // RFC 2131 4.1: without giaddr a NAK is broadcast, because the client may not own its
        // address. A broadcast never reaches a client behind a router, and a renewing one still
        // listens on its address.
        Self::to_relay(message, relay_port)
            .or_else(|| ciaddr_in_use.filter(|_| routed).map(Self::to_client))
            .unwrap_or(Self::Broadcast)
    }

    /// The way of the ACK to an INFORM from `address`: RFC 2131 4.3.5 sends it to ciaddr, relay
    /// agent or not. Clients that leave ciaddr empty are answered where the datagram came from.
    pub(super) fn of_inform(
        message: &Message<'_>,
        ciaddr_in_use: Option<Ipv4Addr>,
        source: Ipv4Addr,
        relay_port: Option<u16>,
        address: Ipv4Addr,
    ) -> Self {
        if let Some(ciaddr) = ciaddr_in_use {
            return Self::to_client(ciaddr);
        }
        if let Some(relay) = Self::to_relay(message, relay_port) {
            return relay;
        }
        match source {
            Ipv4Addr::UNSPECIFIED => Self::on_link(message, message.broadcast(), address),
            source => Self::to_client(source),
        }
    }

    /// To a client on the server's own link that does not answer ARP yet: to its hardware address,
    /// or by broadcast if it asks for that, or the configuration has it so.
    fn on_link(message: &Message<'_>, broadcast: bool, ip: Ipv4Addr) -> Self {
        if broadcast {
            return Self::Broadcast;
        }
        // A client whose address is no Ethernet address cannot be reached by a frame that this
        // server builds; RFC 4390 section 2.1 asks for broadcasts on InfiniBand anyway.
        match <[u8; 6]>::try_from(message.chaddr()) {
            Ok(mac) if message.htype() == ETHERNET => Self::Link { ip, mac },
            _ => Self::Broadcast,
        }
    }

    fn to_relay(message: &Message<'_>, port: Option<u16>) -> Option<Self> {
        let giaddr = message.giaddr();
        (!giaddr.is_unspecified())
            .then(|| Self::Relay(SocketAddrV4::new(giaddr, port.unwrap_or(SERVER_PORT))))
    }

    /// The same way to clients that listen on another port.
    pub(super) fn to_port(self, port: u16) -> Self {
        match self {
            Self::Unicast(to) => Self::Unicast(SocketAddrV4::new(*to.ip(), port)),
            other => other,
        }
    }

    fn to_client(address: Ipv4Addr) -> Self {
        Self::Unicast(SocketAddrV4::new(address, CLIENT_PORT))
    }
}
