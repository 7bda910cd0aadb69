//! The sockets of the clients, the role of each, and where a machine's datagram is sent.

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
    /// The network of its machines; `None` where nobody says which it is.
    pub network: Option<Block>,
    /// Value of option 82; empty for none.
    pub option: Vec<u8>,
    /// Its socket, bound to the address and port 67.
    pub socket: SocketId,
    /// Its network is routed to this host as a whole.
    pub routed: bool,
}

/// How DHCP messages reach the server.
#[derive(Clone, Debug)]
pub enum Access {
    /// Through relay agents, a rack behind each in turn.
    Relayed(Vec<Relay>),
    /// By broadcast on one interface, and packets to hardware addresses that no interface has.
    Direct {
        /// Packet socket that sends frames, and receives those to port 68.
        link: SocketId,
        /// The interface.
        ifindex: u32,
        /// The network of the machines; `None` where the interface has no subnet.
        network: Option<Block>,
    },
    /// They ask for no address.
    None,
}

/// Addresses for machines that ask for none. Where there are fewer than machines, several machines
/// share one, each with ports of its own.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ClientAddresses {
    /// The first address.
    pub first: Ipv4Addr,
    /// How many there are, at least 1.
    pub count: u32,
}

impl ClientAddresses {
    /// The address of a machine.
    pub fn of(self, machine: u32) -> Ipv4Addr {
        (u32::from(self.first) + machine % self.count).into()
    }

    /// Which of those who share an address a machine is, from 0.
    fn share(self, machine: u32) -> u32 {
        machine / self.count
    }

    /// The machine of this share at an address.
    fn machine(self, address: Ipv4Addr, share: u32) -> Option<u32> {
        let place = u32::from(address).checked_sub(self.first.into())?;
        (place < self.count).then(|| place + share * self.count)
    }

    /// Into how many shares so many machines fall.
    pub fn shares(self, machines: u32) -> u32 {
        machines.div_ceil(self.count)
    }
}

/// What machines send from once they have an address.
#[derive(Clone, Debug)]
pub enum Sources {
    /// From their own addresses, through sockets that take datagrams for all of them.
    Addresses {
        /// Port 68, for renewals.
        client: Option<SocketId>,
        /// Sockets for transfers, the same number for each share of
        /// [`Sockets::client_addresses`]. A machine's next transfer uses its next socket.
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
    /// Port 68 of direct clients. Never read: the packet socket receives the same datagrams.
    Unused,
    /// A port for transfers of all machines of this share of the client addresses.
    Transfers(u32),
    /// The port of machines with this remainder.
    Port(u32),
    /// The port of multicast groups.
    Groups,
}

/// All sockets of the clients.
#[derive(Clone, Debug)]
pub struct Sockets {
    /// The server.
    pub server: Ipv4Addr,
    /// Before a machine has an address.
    pub access: Access,
    /// After.
    pub sources: Sources,
    /// Receives blocks for multicast groups.
    pub groups: Option<SocketId>,
    /// Of machines that ask for no address.
    pub client_addresses: Option<ClientAddresses>,
    /// How many machines there are.
    pub machines: u32,
}

impl Sockets {
    /// What each socket is for, by its index.
    pub(super) fn roles(&self) -> Vec<Option<Role>> {
        let mut named: Vec<(SocketId, Role)> = Vec::new();
        match &self.access {
            Access::Relayed(relays) => {
                let relays = relays.iter().enumerate();
                named
                    .extend(relays.map(|(index, relay)| (relay.socket, Role::Relay(index as u16))));
            }
            Access::Direct { link, .. } => named.push((*link, Role::Link)),
            Access::None => {}
        }
        match &self.sources {
            Sources::Addresses { client, tftp } => {
                let heard = matches!(self.access, Access::Direct { .. });
                let role = if heard { Role::Unused } else { Role::Client };
                named.extend(client.map(|socket| (socket, role)));
                let each = self.ports_a_share(tftp);
                let tftp = tftp.iter().enumerate();
                named.extend(
                    tftp.map(|(place, socket)| (*socket, Role::Transfers((place / each) as u32))),
                );
            }
            Sources::Ports { sockets, .. } => {
                let sockets = sockets.iter().enumerate();
                named.extend(sockets.map(|(index, socket)| (*socket, Role::Port(index as u32))));
            }
        }
        named.extend(self.groups.map(|socket| (socket, Role::Groups)));
        let len = named.iter().map(|(socket, _)| socket.index() + 1).max().unwrap_or(0);
        let mut roles = vec![None; len];
        for (socket, role) in named {
            roles[socket.index()] = Some(role);
        }
        roles
    }

    /// How many relay agents there are.
    pub(super) fn relays(&self) -> usize {
        match &self.access {
            Access::Relayed(relays) => relays.len(),
            Access::Direct { .. } | Access::None => 0,
        }
    }

    pub(super) fn relay(&self, index: u16) -> Option<&Relay> {
        match &self.access {
            Access::Relayed(relays) => relays.get(usize::from(index)),
            Access::Direct { .. } | Access::None => None,
        }
    }

    /// The network that a machine behind a relay agent, or a direct one, is on.
    pub(super) fn network(&self, relay: u16) -> Option<Block> {
        match &self.access {
            Access::Relayed(_) => self.relay(relay)?.network,
            Access::Direct { network, .. } => *network,
            Access::None => None,
        }
    }

    /// Whether the address of a machine must be routed to this host by itself.
    pub(super) fn needs_route(&self, relay: u16) -> bool {
        let routed = self.relay(relay).is_some_and(|relay| relay.routed);
        matches!(self.sources, Sources::Addresses { .. })
            && !routed
            && !matches!(self.access, Access::None)
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
        let Sources::Addresses { client: Some(socket), .. } = &self.sources else { return None };
        let to = SocketAddr::from((server, SERVER_PORT));
        Some((*socket, Target::Udp { to, from: Some(address.into()), ifindex: 0 }))
    }

    /// How many ports each share of the client addresses has.
    fn ports_a_share(&self, tftp: &[SocketId]) -> usize {
        let shares = self
            .client_addresses
            .map_or(1, |client_addresses| client_addresses.shares(self.machines))
            as usize;
        (tftp.len() / shares.max(1)).max(1)
    }

    /// The socket of a machine's `nth` transfer.
    pub(super) fn transfer_socket(&self, machine: u32, nth: u8) -> Option<SocketId> {
        match &self.sources {
            Sources::Addresses { tftp, .. } => {
                let each = self.ports_a_share(tftp);
                let share = self
                    .client_addresses
                    .map_or(0, |client_addresses| client_addresses.share(machine))
                    as usize;
                tftp.get(share * each + usize::from(nth) % each).copied()
            }
            Sources::Ports { sockets, .. } => {
                sockets.get(machine as usize % sockets.len().max(1)).copied()
            }
        }
    }

    /// The machine that has an address and uses the ports of this share.
    pub(super) fn owner(&self, address: Ipv4Addr, share: u32) -> Option<u32> {
        self.client_addresses?.machine(address, share)
    }

    /// How a packet of a transfer leaves.
    pub(super) fn transfer_target(
        &self,
        address: Ipv4Addr,
        server: Ipv4Addr,
        peer: Option<SocketAddrV4>,
    ) -> Target {
        let to = peer.unwrap_or(SocketAddrV4::new(server, TFTP_PORT)).into();
        let from = match self.sources {
            Sources::Addresses { .. } => Some(IpAddr::V4(address)),
            Sources::Ports { .. } => None,
        };
        Target::Udp { to, from, ifindex: 0 }
    }

    /// Source and destination of a datagram that is sent, for the recorder.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_share_an_address_are_told_apart_by_their_share() {
        let client_addresses = ClientAddresses { first: Ipv4Addr::new(10, 0, 0, 250), count: 10 };
        assert_eq!(client_addresses.shares(25), 3);
        assert_eq!(client_addresses.of(7), Ipv4Addr::new(10, 0, 1, 1));
        for machine in 0..25 {
            assert_eq!(
                client_addresses
                    .machine(client_addresses.of(machine), client_addresses.share(machine)),
                Some(machine)
            );
        }
        assert_eq!(client_addresses.machine(Ipv4Addr::new(10, 0, 1, 4), 0), None);
        assert_eq!(client_addresses.machine(Ipv4Addr::new(9, 0, 0, 0), 0), None);
    }
}
