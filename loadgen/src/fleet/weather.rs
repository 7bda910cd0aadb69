//! What the network does to datagrams on their way: loss, delay, duplicates, reordering. Applied by the generator itself,
//! each datagram's fate a function of the seed, the machine, the direction and its number.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use bootstorm_net::{SocketId, Target};

use crate::scenario::Network;
use crate::seed::{Purpose, Seed, mix, unit};

/// Datagrams under way at most; what is more is delivered at once.
const MOST_UNDER_WAY: usize = 1 << 16;
/// How much later than others a datagram arrives that is overtaken.
const OVERTAKEN: Duration = Duration::from_millis(20);

/// A datagram that takes its time.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) machine: u32,
    pub(super) to: Bound,
    pub(super) bytes: Vec<u8>,
}

/// Where a parcel goes.
#[derive(Copy, Clone, Debug)]
pub(super) enum Bound {
    /// Out, to the server.
    Server { socket: SocketId, target: Target },
    /// In, to its machine.
    Machine { socket: SocketId, source: SocketAddrV4, destination: Ipv4Addr },
}

/// The copies of one datagram that arrive, each after how long.
pub(super) type Copies = [Option<Duration>; 2];

/// The network between machines and server.
#[derive(Debug)]
pub(super) struct Weather {
    network: Network,
    seed: Seed,
    parcels: Vec<Option<Parcel>>,
    free: Vec<usize>,
}

impl Weather {
    pub(super) fn new(network: Network, seed: Seed) -> Weather {
        Weather { network, seed, parcels: Vec::new(), free: Vec::new() }
    }

    /// What becomes of a machine's `nth` datagram.
    pub(super) fn fate(&self, purpose: Purpose, machine: u32, nth: u32) -> Copies {
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

    /// Takes a datagram on its way; `None` when too many are. The number names it until [`Weather::arrived`].
    pub(super) fn carry(&mut self, parcel: Parcel) -> Option<u32> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.parcels.len() < MOST_UNDER_WAY => {
                self.parcels.push(None);
                self.parcels.len() - 1
            }
            None => return None,
        };
        self.parcels[place] = Some(parcel);
        Some(place as u32)
    }

    /// Hands over a datagram that has arrived.
    pub(super) fn arrived(&mut self, number: u32) -> Option<Parcel> {
        let place = number as usize;
        let parcel = self.parcels.get_mut(place)?.take()?;
        self.free.push(place);
        Some(parcel)
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
        let weather = Weather::new(network, Seed(9));
        let fates: Vec<Copies> =
            (0..20_000).map(|nth| weather.fate(Purpose::ToServer, nth % 7, nth)).collect();
        let lost = fates.iter().filter(|fate| fate[0].is_none()).count();
        let twice = fates.iter().filter(|fate| fate[1].is_some()).count();
        assert!((1_800..2_200).contains(&lost), "{lost}");
        assert!((3_400..3_800).contains(&twice), "{twice}");
        assert!(fates.iter().flatten().flatten().all(|late| *late == Duration::from_millis(5)));
    }

    #[test]
    fn a_parcel_arrives_once_and_its_place_is_used_again() {
        let mut weather = Weather::new(Network::default(), Seed(1));
        let source = "10.0.0.1:67".parse().unwrap();
        let network = SimNetwork::new(0, Faults::default());
        let addresses = Vec::new();
        let link = network.attach(SimInterface { ifindex: 1, mac: [0; 6], addresses, segment: 0 });
        let mut backend = network.backend(&Limits::default());
        let any = std::net::SocketAddr::from(([0, 0, 0, 0], 67));
        let socket = backend.add_socket(SimSocket::udp(link, any)).unwrap();
        let parcel = |socket| Parcel {
            machine: 3,
            to: Bound::Machine { socket, source, destination: Ipv4Addr::LOCALHOST },
            bytes: vec![1, 2],
        };
        let first = weather.carry(parcel(socket)).unwrap();
        let second = weather.carry(parcel(socket)).unwrap();
        assert_ne!(first, second);
        assert_eq!(weather.arrived(first).unwrap().machine, 3);
        assert!(weather.arrived(first).is_none());
        assert_eq!(weather.carry(parcel(socket)), Some(first));
    }
}
