//! Addresses of both families as one number, for the table and the pools.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address: IPv6 as it is, IPv4 in ::ffff:0:0/96. So order and distance are those of the
/// addresses. Two words and not a `u128`, which would be aligned to 16 bytes in every slot.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    high: u64,
    low: u64,
}

impl Address {
    /// The number of the address.
    pub(super) fn to_bits(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    /// The address of a number.
    pub(super) fn from_bits(bits: u128) -> Self {
        // The upper half and the lower half.
        Self { high: (bits >> 64) as u64, low: bits as u64 }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self::from_bits(ip.to_bits())
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Self {
        IpAddr::V4(ip).into()
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        Ipv6Addr::from_bits(address.to_bits()).to_canonical()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_numbers_in_their_order() {
        let texts = ["0.0.0.0", "10.0.0.7", "10.0.1.0", "255.255.255.255", "2001:db8::1"];
        let ips = texts.map(|text| text.parse::<IpAddr>().unwrap());
        let addresses = ips.map(Address::from);
        assert_eq!(addresses.map(IpAddr::from), ips);
        assert!(addresses.is_sorted());
        assert_eq!(addresses[2].to_bits() - addresses[1].to_bits(), 249);
        assert_eq!(addresses.map(|address| Address::from_bits(address.to_bits())), addresses);
    }
}
