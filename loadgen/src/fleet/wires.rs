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

/// Addresses for machines that ask for none. Where there are fewer than machines, several machines share one, each
/// with ports of its own.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Homes {
    /// The first address.
    pub first: Ipv4Addr,
    /// How many there are, at least 1.
    pub count: u32,
}

impl Homes {
    /// Where a machine lives.
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

/// How machines speak once they have an address.
#[derive(Clone, Debug)]
pub enum Own {
    /// From their own addresses, through sockets that take datagrams for all of them.
    Addresses {
        /// Port 68, for renewals.
        client: Option<SocketId>,
        /// For transfers, the same number for each share of [`Wires::homes`]; a machine's next one uses the next.
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
    /// A port for transfers of all machines of this share of the homes.
    Transfers(u32),
    /// The port of machines with this remainder.
    Port(u32),
    /// The port of multicast groups.
    Groups,
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
    /// Where blocks for multicast groups come to.
    pub groups: Option<SocketId>,
    /// Of machines that ask for no address.
    pub homes: Option<Homes>,
    /// How many machines there are.
    pub machines: u32,
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
                let each = self.ports_a_share(tftp);
                let tftp = tftp.iter().enumerate();
                named.extend(
                    tftp.map(|(place, socket)| (*socket, Role::Transfers((place / each) as u32))),
                );
            }
            Own::Ports { sockets, .. } => {
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

    /// How many ports each share of the homes has.
    fn ports_a_share(&self, tftp: &[SocketId]) -> usize {
        let shares = self.homes.map_or(1, |homes| homes.shares(self.machines)) as usize;
        (tftp.len() / shares.max(1)).max(1)
    }

    /// The socket of a machine's `nth` transfer.
    pub(super) fn transfer_socket(&self, machine: u32, nth: u8) -> Option<SocketId> {
        match &self.own {
            Own::Addresses { tftp, .. } => {
                let each = self.ports_a_share(tftp);
                let share = self.homes.map_or(0, |homes| homes.share(machine)) as usize;
                tftp.get(share * each + usize::from(nth) % each).copied()
            }
            Own::Ports { sockets, .. } => {
                sockets.get(machine as usize % sockets.len().max(1)).copied()
            }
        }
    }

    /// The machine that lives at an address and uses the ports of this share.
    pub(super) fn at_home(&self, address: Ipv4Addr, share: u32) -> Option<u32> {
        self.homes?.machine(address, share)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_share_an_address_are_told_apart_by_their_share() {
        let homes = Homes { first: Ipv4Addr::new(10, 0, 0, 250), count: 10 };
        assert_eq!(homes.shares(25), 3);
        assert_eq!(homes.of(7), Ipv4Addr::new(10, 0, 1, 1));
        for machine in 0..25 {
            assert_eq!(homes.machine(homes.of(machine), homes.share(machine)), Some(machine));
        }
        assert_eq!(homes.machine(Ipv4Addr::new(10, 0, 1, 4), 0), None);
        assert_eq!(homes.machine(Ipv4Addr::new(9, 0, 0, 0), 0), None);
    }
}
