//! Network impairment, applied by the generator itself: loss, delay, duplicates, reordering.
//! What happens to a datagram is a function of the seed, the machine, the direction and its number.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use bootstorm_net::{SocketId, Target};

use crate::scenario::Network;
use crate::seed::{Purpose, Seed, mix, unit};

/// Datagrams under way at most; what is more is delivered at once.
const MOST_UNDER_WAY: usize = 1 << 16;
/// How much later than others a datagram arrives that is overtaken.
const OVERTAKEN: Duration = Duration::from_millis(20);

/// A datagram that is delivered later.
#[derive(Clone, Debug)]
pub(super) struct DelayedPacket {
    pub(super) machine: u32,
    pub(super) to: Destination,
    pub(super) bytes: Vec<u8>,
}

/// Where a delayed packet goes.
#[derive(Copy, Clone, Debug)]
pub(super) enum Destination {
    /// Out, to the server.
    Server { socket: SocketId, target: Target },
    /// In, to its machine.
    Machine { socket: SocketId, source: SocketAddrV4, destination: Ipv4Addr },
}

/// The copies of one datagram that arrive, each after how long.
pub(super) type Copies = [Option<Duration>; 2];

/// The network between machines and server.
#[derive(Debug)]
pub(super) struct Impairment {
    network: Network,
    seed: Seed,
    packets: Vec<Option<DelayedPacket>>,
    free: Vec<usize>,
}

impl Impairment {
    pub(super) fn new(network: Network, seed: Seed) -> Impairment {
        Impairment { network, seed, packets: Vec::new(), free: Vec::new() }
    }

    /// What becomes of a machine's `nth` datagram.
    pub(super) fn copies(&self, purpose: Purpose, machine: u32, nth: u32) -> Copies {
        let Network { loss, duplicate, reorder, delay, jitter } = self.network;
        let mut bits = self.seed.draw(purpose, machine, nth);
        let mut next = || {
            bits = mix(bits);
            unit(bits)
        };
        if next() < loss.0 {
            return [None, None];
        }
        let mut late = || {
            let overtaken = if next() < reorder.0 {
                OVERTAKEN.saturating_add(jitter.0)
            } else {
                Duration::ZERO
            };
            delay.0.saturating_add(jitter.0.mul_f64(next())).saturating_add(overtaken)
        };
        let (first, second) = (late(), late());
        [Some(first), (next() < duplicate.0).then_some(second)]
    }

    /// Holds a packet back. Returns its number for [`Impairment::release`], or `None` when too many
    /// are held.
    pub(super) fn hold(&mut self, packet: DelayedPacket) -> Option<u32> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.packets.len() < MOST_UNDER_WAY => {
                self.packets.push(None);
                self.packets.len() - 1
            }
            None => return None,
        };
        self.packets[place] = Some(packet);
        Some(place as u32)
    }

    /// Returns a packet whose delay is over.
    pub(super) fn release(&mut self, number: u32) -> Option<DelayedPacket> {
        let place = number as usize;
        let packet = self.packets.get_mut(place)?.take()?;
        self.free.push(place);
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use bootstorm_net::sim::{Faults, SimInterface, SimNetwork, SimSocket};
    use bootstorm_net::{Backend, Limits};

    use super::*;
    use crate::units::{Share, Span};

    #[test]
    fn shares_are_what_was_asked_for() {
        let network = Network {
            loss: Share(0.1),
            duplicate: Share(0.2),
            delay: Span(Duration::from_millis(5)),
            ..Network::default()
        };
        let impairment = Impairment::new(network, Seed(9));
        let copies: Vec<Copies> =
            (0..20_000).map(|nth| impairment.copies(Purpose::ToServer, nth % 7, nth)).collect();
        let lost = copies.iter().filter(|copies| copies[0].is_none()).count();
        let twice = copies.iter().filter(|copies| copies[1].is_some()).count();
        assert!((1_800..2_200).contains(&lost), "{lost}");
        assert!((3_400..3_800).contains(&twice), "{twice}");
        assert!(copies.iter().flatten().flatten().all(|late| *late == Duration::from_millis(5)));
    }

    #[test]
    fn a_delayed_packet_is_released_once_and_its_slot_is_used_again() {
        let mut impairment = Impairment::new(Network::default(), Seed(1));
        let source = "10.0.0.1:67".parse().unwrap();
        let network = SimNetwork::new(0, Faults::default());
        let addresses = Vec::new();
        let link = network.attach(SimInterface { ifindex: 1, mac: [0; 6], addresses, segment: 0 });
        let mut backend = network.backend(&Limits::default());
        let any = std::net::SocketAddr::from(([0, 0, 0, 0], 67));
        let socket = backend.add_socket(SimSocket::udp(link, any)).unwrap();
        let packet = |socket| DelayedPacket {
            machine: 3,
            to: Destination::Machine { socket, source, destination: Ipv4Addr::LOCALHOST },
            bytes: vec![1, 2],
        };
        let first = impairment.hold(packet(socket)).unwrap();
        let second = impairment.hold(packet(socket)).unwrap();
        assert_ne!(first, second);
        assert_eq!(impairment.release(first).unwrap().machine, 3);
        assert!(impairment.release(first).is_none());
        assert_eq!(impairment.hold(packet(socket)), Some(first));
    }
}
