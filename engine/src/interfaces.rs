//! This host's network interfaces, as the server uses them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

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
    /// Direct clients on it are answered.
    pub served: bool,
}

impl Interface {
    /// An interface that came up a moment ago, or went: nothing is known of it yet but its number.
    pub fn unknown(index: u32) -> Self {
        Self {
            name: String::new(),
            index,
            mac: None,
            addresses: Vec::new(),
            mtu: 1500,
            served: false,
        }
    }
}

/// This host's interfaces at one time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interfaces {
    by_index: HashMap<u32, Interface>,
    addresses: Vec<Ipv4Addr>,
}

impl Interfaces {
    /// Asks the kernel. `wanted` are the interfaces of the configuration; `None` is every one with
    /// an IPv4 address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(wanted: Option<&[String]>) -> io::Result<Self> {
        let mut by_index = HashMap::new();
        let mut addresses = Vec::new();
        for found in bootstorm_net::interfaces()? {
            let own: Vec<Ipv4Addr> = found
                .addresses
                .iter()
                .filter_map(|address| match address.ip {
                    IpAddr::V4(ip) => Some(ip),
                    IpAddr::V6(_) => None,
                })
                .collect();
            addresses.extend_from_slice(&own);
            let served = wanted.map_or(!own.is_empty(), |names| names.contains(&found.name));
            let interface = Interface {
                mac: found.mac.filter(|mac| *mac != [0; 6] && !found.loopback),
                index: found.ifindex,
                addresses: own,
                mtu: u16::try_from(found.mtu).unwrap_or(u16::MAX),
                served,
                name: found.name,
            };
            by_index.insert(interface.index, interface);
        }
        Ok(Self { by_index, addresses })
    }

    /// The interface with the kernel's number `index`.
    pub fn get(&self, index: u32) -> Option<&Interface> {
        self.by_index.get(&index)
    }

    /// Whether there is an interface of that name.
    pub fn has(&self, name: &str) -> bool {
        self.by_index.values().any(|interface| interface.name == name)
    }

    /// The names of all, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.by_index.values().map(|each| each.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// Every IPv4 address of this host.
    pub fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    /// Index and MTU in bytes of each.
    pub fn mtus(&self) -> Vec<(u32, u32)> {
        self.by_index.values().map(|each| (each.index, u32::from(each.mtu))).collect()
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Interface> {
        self.by_index.values()
    }

    /// Those whose direct clients are answered, by name.
    pub fn served(&self) -> Vec<&Interface> {
        let mut served: Vec<_> = self.by_index.values().filter(|each| each.served).collect();
        served.sort_by(|a, b| a.name.cmp(&b.name));
        served
    }
}
