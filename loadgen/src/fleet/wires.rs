//! The sockets of the fleet, what each is for, and how a datagram of a machine leaves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use bootstorm_net::{SocketId, Target};
use bootstorm_protocols::dhcpv4::{CLIENT_PORT, SERVER_PORT};

use crate::routes::Block;

/// UDP port of TFTP requests (RFC 1350 section 4).
const TFTP_PORT: u16 = 69;

/// A relay agent that the generator plays.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Its address, giaddr of everything it forwards.
    pub giaddr: Ipv4Addr,
    /// The network of its machines; `None` until an offer tells.
    pub network: Option<Block>,
    /// Value of option 82; empty for none.
    pub option: Vec<u8>,
    /// Its socket, bound to the address and port 67.
    pub socket: SocketId,
    /// Its network is routed to this host as a whole.
    pub routed: bool,
}

/// How machines reach the server before they have an address.
#[derive(Clone, Debug)]
pub enum Way {
    /// Through relay agents, a rack behind each in turn.
    Relayed(Vec<Relay>),
    /// By broadcast on one interface, and packets to hardware addresses that no interface has.
    Direct {
        /// Packet socket that sends frames, and receives those to port 68.
        link: SocketId,
        /// The interface.
        ifindex: u32,
        /// The network that an offer told of.
        network: Option<Block>,
    },
    /// They ask for no address.
    None,
}

/// How machines speak once they have an address.
#[derive(Clone, Debug)]
pub enum Own {
    /// From their own addresses, through sockets that take datagrams for all of them.
    Addresses {
        /// Port 68, for renewals.
        client: Option<SocketId>,
        /// For transfers; a machine's next one uses the next.
        tftp: Vec<SocketId>,
    },
    /// From this host's address, a port each.
    Ports {
        /// This host's address.
        address: Ipv4Addr,
        /// Machine `n` uses socket `n` modulo their number.
        sockets: Vec<SocketId>,
    },
}

/// What a socket is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// A relay agent's.
    Relay(u16),
    /// The packet socket.
    Link,
    /// Port 68.
    Client,
    /// The same for direct clients: the packet socket hears all of it already.
    Deaf,
    /// A shared port for transfers.
    Transfers,
    /// The port of machines with this remainder.
    Port(u32),
}

/// All sockets of the fleet.
#[derive(Clone, Debug)]
pub struct Wires {
    /// The server.
    pub server: Ipv4Addr,
    /// Before a machine has an address.
    pub way: Way,
    /// After.
    pub own: Own,
}

impl Wires {
    /// What each socket is for, by its index.
    pub(super) fn roles(&self) -> Vec<Option<Role>> {
        let mut named: Vec<(SocketId, Role)> = Vec::new();
        match &self.way {
            Way::Relayed(relays) => {
                let relays = relays.iter().enumerate();
                named
                    .extend(relays.map(|(index, relay)| (relay.socket, Role::Relay(index as u16))));
            }
            Way::Direct { link, .. } => named.push((*link, Role::Link)),
            Way::None => {}
        }
        match &self.own {
            Own::Addresses { client, tftp } => {
                let heard = matches!(self.way, Way::Direct { .. });
                let role = if heard { Role::Deaf } else { Role::Client };
                named.extend(client.map(|socket| (socket, role)));
                named.extend(tftp.iter().map(|socket| (*socket, Role::Transfers)));
            }
            Own::Ports { sockets, .. } => {
                let sockets = sockets.iter().enumerate();
                named.extend(sockets.map(|(index, socket)| (*socket, Role::Port(index as u32))));
            }
        }
        let len = named.iter().map(|(socket, _)| socket.index() + 1).max().unwrap_or(0);
        let mut roles = vec![None; len];
        for (socket, role) in named {
            roles[socket.index()] = Some(role);
        }
        roles
    }

    /// How many relay agents there are.
    pub(super) fn relays(&self) -> usize {
        match &self.way {
            Way::Relayed(relays) => relays.len(),
            Way::Direct { .. } | Way::None => 0,
        }
    }

    pub(super) fn relay(&self, index: u16) -> Option<&Relay> {
        match &self.way {
            Way::Relayed(relays) => relays.get(usize::from(index)),
            Way::Direct { .. } | Way::None => None,
        }
    }

    /// The network that a machine behind a relay agent, or a direct one, is on.
    pub(super) fn network(&self, relay: u16) -> Option<Block> {
        match &self.way {
            Way::Relayed(_) => self.relay(relay)?.network,
            Way::Direct { network, .. } => *network,
            Way::None => None,
        }
    }

    /// Learns the network from an offer, the first time; returns whether it was news.
    pub(super) fn learn_network(&mut self, relay: u16, block: Block) -> bool {
        let network = match &mut self.way {
            Way::Relayed(relays) => match relays.get_mut(usize::from(relay)) {
                Some(relay) => &mut relay.network,
                None => return false,
            },
            Way::Direct { network, .. } => network,
            Way::None => return false,
        };
        let news = network.is_none();
        network.get_or_insert(block);
        news
    }

    /// Whether the address of a machine must be routed to this host by itself.
    pub(super) fn needs_route(&self, relay: u16) -> bool {
        let routed = self.relay(relay).is_some_and(|relay| relay.routed);
        matches!(self.own, Own::Addresses { .. }) && !routed && !matches!(self.way, Way::None)
    }

    /// How a relay agent sends.
    pub(super) fn to_server(&self, relay: &Relay) -> Target {
        Target::Udp {
            to: SocketAddr::from((self.server, SERVER_PORT)),
            from: Some(IpAddr::V4(relay.giaddr)),
            ifindex: 0,
        }
    }

    /// Socket and target of a renewal from a machine's own address.
    pub(super) fn renewal(
        &self,
        address: Ipv4Addr,
        server: Ipv4Addr,
    ) -> Option<(SocketId, Target)> {
        let Own::Addresses { client: Some(socket), .. } = &self.own else { return None };
        let to = SocketAddr::from((server, SERVER_PORT));
        Some((*socket, Target::Udp { to, from: Some(address.into()), ifindex: 0 }))
    }

    /// The socket of a machine's `nth` transfer.
    pub(super) fn transfer_socket(&self, machine: u32, nth: u8) -> Option<SocketId> {
        let sockets = match &self.own {
            Own::Addresses { tftp, .. } => tftp,
            Own::Ports { sockets, .. } => sockets,
        };
        let place = match &self.own {
            Own::Addresses { .. } => usize::from(nth),
            Own::Ports { .. } => machine as usize,
        };
        sockets.get(place % sockets.len().max(1)).copied()
    }

    /// How a packet of a transfer leaves.
    pub(super) fn transfer_target(
        &self,
        address: Ipv4Addr,
        server: Ipv4Addr,
        peer: Option<SocketAddrV4>,
    ) -> Target {
        let to = peer.unwrap_or(SocketAddrV4::new(server, TFTP_PORT)).into();
        let from = match self.own {
            Own::Addresses { .. } => Some(IpAddr::V4(address)),
            Own::Ports { .. } => None,
        };
        Target::Udp { to, from, ifindex: 0 }
    }

    /// Both ends of a datagram that leaves, for the record.
    pub(super) fn ends(&self, target: &Target, address: Ipv4Addr) -> [SocketAddrV4; 2] {
        let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
        match target {
            Target::Udp { to: SocketAddr::V4(to), from, .. } => {
                let from = match from {
                    Some(IpAddr::V4(from)) => *from,
                    _ => address,
                };
                let port = if to.port() == SERVER_PORT { SERVER_PORT } else { 0 };
                [SocketAddrV4::new(from, port), *to]
            }
            _ => [nowhere, SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT)],
        }
    }
}
