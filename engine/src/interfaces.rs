//! This host's network interfaces, as the server uses them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use foldhash::fast::RandomState;

use crate::dhcp::Arrival;

/// The MTU of an interface that has just appeared or gone.
const UNKNOWN_MTU: u16 = 1500;

/// One interface of this host, as the DHCP rules need it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// Its Ethernet address; `None` where frames cannot be addressed by one, as on loopback.
    pub mac: Option<[u8; 6]>,
    /// Its IPv4 addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// The largest IP datagram it sends, in bytes.
    pub mtu: u16,
    /// Administratively up.
    pub up: bool,
    /// Up and with a carrier.
    pub carrier: bool,
    /// The configuration wants direct clients on it to be answered.
    pub served: bool,
}

impl Interface {
    /// An interface of which nothing is known but its number: it has just appeared or gone.
    pub fn unknown(index: u32) -> Self {
        Self {
            name: String::new(),
            index,
            mac: None,
            addresses: Vec::new(),
            mtu: UNKNOWN_MTU,
            up: true,
            carrier: true,
            served: false,
        }
    }
}

/// This host's interfaces at one time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interfaces {
    // Asked for each datagram.
    by_index: HashMap<u32, Interface, RandomState>,
    addresses: Vec<Ipv4Addr>,
    only: Option<Ipv4Addr>,
}

impl Interfaces {
    /// Reads them from the kernel. `wanted` are the names of the interfaces to serve; `None` is
    /// every one with an IPv4 address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(wanted: Option<&[String]>) -> io::Result<Self> {
        Ok(Self::of(bootstorm_net::interfaces()?.into_iter().map(|found| {
            let ipv4 = |ip| match ip {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            };
            let own = found.addresses.iter().filter_map(|address| ipv4(address.ip));
            let own: Vec<Ipv4Addr> = own.collect();
            Interface {
                mac: found.mac.filter(|mac| *mac != [0; 6] && !found.loopback),
                index: found.ifindex,
                mtu: u16::try_from(found.mtu).unwrap_or(u16::MAX),
                up: found.up,
                carrier: found.carrier,
                served: wanted.map_or(!own.is_empty(), |names| names.contains(&found.name)),
                addresses: own,
                name: found.name,
            }
        })))
    }

    /// A host with these interfaces.
    pub fn of(interfaces: impl IntoIterator<Item = Interface>) -> Self {
        let by_index: HashMap<u32, Interface, RandomState> =
            interfaces.into_iter().map(|interface| (interface.index, interface)).collect();
        let mut addresses: Vec<Ipv4Addr> =
            by_index.values().flat_map(|interface| &interface.addresses).copied().collect();
        // In an order of their own, so that two readings of the same host are equal.
        addresses.sort_unstable();
        let mut known = addresses.iter().filter(|address| !address.is_loopback());
        let only = known.next().filter(|_| known.next().is_none()).copied();
        Self { by_index, addresses, only }
    }

    /// The interface with the kernel's number `index`.
    pub fn get(&self, index: u32) -> Option<&Interface> {
        self.by_index.get(&index)
    }

    /// The name of the interface with that index; empty when there is none.
    pub(crate) fn name(&self, index: u32) -> &str {
        self.get(index).map_or("", |interface| &interface.name)
    }

    /// How a datagram came in: on an interface, to `destination`, from `source`. Where an interface
    /// is not served, direct clients find no subnet; relayed and unicast requests need none.
    pub(crate) fn arrival(
        &self,
        ifindex: u32,
        destination: Option<Ipv4Addr>,
        source: SocketAddrV4,
    ) -> Arrival<'_> {
        let interface = self.get(ifindex);
        Arrival {
            ifindex,
            interface: interface.filter(|each| each.served).map_or(&[], |each| &each.addresses),
            server: &self.addresses,
            mtu: interface.map_or(UNKNOWN_MTU, |each| each.mtu),
            destination,
            source,
        }
    }

    /// The interface of that name.
    pub fn named(&self, name: &str) -> Option<&Interface> {
        self.by_index.values().find(|interface| interface.name == name)
    }

    /// Every IPv4 address of this host, sorted.
    pub fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    /// The address of a host that has no other, but for loopback ones. The kernel sends from it to
    /// everybody but those, told or not.
    pub fn only_address(&self) -> Option<Ipv4Addr> {
        self.only
    }

    /// Index and MTU in bytes of each.
    pub fn mtus(&self) -> Vec<(u32, u32)> {
        self.by_index.values().map(|each| (each.index, u32::from(each.mtu))).collect()
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Interface> {
        self.by_index.values()
    }

    /// Those that the configuration wants to be served, by name.
    pub fn served(&self) -> Vec<&Interface> {
        let mut served: Vec<_> = self.by_index.values().filter(|each| each.served).collect();
        served.sort_by(|a, b| (&a.name, a.index).cmp(&(&b.name, b.index)));
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_an_only_address_if_all_others_are_loopback_ones() {
        let host = |addresses: &[[u8; 4]]| {
            let addresses = addresses.iter().map(|ip| Ipv4Addr::from(*ip)).collect();
            Interfaces::of([Interface { addresses, ..Interface::unknown(2) }]).only_address()
        };
        let only = Some(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(host(&[[10, 0, 0, 1]]), only);
        assert_eq!(host(&[[127, 0, 0, 1], [10, 0, 0, 1]]), only);
        assert_eq!(host(&[[10, 0, 0, 1], [10, 0, 0, 2]]), None);
        assert_eq!(host(&[[127, 0, 0, 1]]), None);
        assert_eq!(host(&[]), None);
    }
}
