//! An IPv4 prefix.

use std::fmt;
use std::net::Ipv4Addr;

/// An IPv4 prefix without host bits, such as `10.1.0.0/16`.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    network: Ipv4Addr,
    length: u8,
}

impl Prefix {
    /// The prefix of `length` bits (0 to 32) that holds `address`; host bits of `address` are
    /// dropped. `None` when `length` is above 32.
    pub fn containing(address: Ipv4Addr, length: u8) -> Option<Self> {
        if length > 32 {
            return None;
        }
        Some(Self { network: Ipv4Addr::from_bits(address.to_bits() & mask(length)), length })
    }

    /// The first address: the network address of an ordinary subnet.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Number of leading bits that all addresses of the prefix share, 0 to 32.
    pub fn length(self) -> u8 {
        self.length
    }

    /// The subnet mask, as option 1 carries it.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.length))
    }

    /// The last address: the broadcast address of an ordinary subnet.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !mask(self.length))
    }

    /// Whether `address` lies in the prefix.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.length) == self.network.to_bits()
    }

    /// Whether the two prefixes have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// First and last address that a machine can have: up to /30 without the ends of the prefix
    /// (RFC 3021 uses both addresses of a /31).
    pub fn hosts(self) -> (Ipv4Addr, Ipv4Addr) {
        let ends = u32::from(self.length <= 30);
        let (first, last) = (self.network.to_bits(), self.broadcast().to_bits());
        (Ipv4Addr::from_bits(first + ends), Ipv4Addr::from_bits(last - ends))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

/// Whether one machine can have an address, as far as the address alone says.
pub(super) fn is_unicast(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast()
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}
