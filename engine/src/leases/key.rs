//! Addresses as keys of a store: one byte for the kind, then the address in network byte order: `4`
//! and 4 bytes for IPv4, `6` and 16 bytes for IPv6. So keys are sorted as addresses are.

use std::net::IpAddr;
use std::ops::Deref;

const TAG_IPV4: u8 = 4;
const TAG_IPV6: u8 = 6;

/// The key of an address.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    bytes: [u8; 17],
    len: u8,
}

impl Key {
    pub(super) fn of(ip: IpAddr) -> Self {
        let mut bytes = [0; 17];
        let len = match ip {
            IpAddr::V4(ip) => {
                bytes[0] = TAG_IPV4;
                bytes[1..5].copy_from_slice(&ip.octets());
                5
            }
            IpAddr::V6(ip) => {
                bytes[0] = TAG_IPV6;
                bytes[1..].copy_from_slice(&ip.octets());
                17
            }
        };
        Self { bytes, len }
    }

    /// `None` for bytes that no key is as long as. They need not be the key of an address.
    pub(super) fn from_bytes(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; 17];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self { bytes, len: key.len() as u8 })
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The address of a key; `None` for what is none.
pub(super) fn address(key: &[u8]) -> Option<IpAddr> {
    let (tag, octets) = key.split_first()?;
    match *tag {
        TAG_IPV4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        TAG_IPV6 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_addresses_in_order() {
        let addresses = ["10.0.0.7", "10.0.1.0", "200.0.0.0", "::1", "2001:db8::1"];
        let ips = addresses.map(|text| text.parse::<IpAddr>().unwrap());
        let keys = ips.map(Key::of);
        assert!(keys.windows(2).all(|pair| pair[0][..] < pair[1][..]));
        assert_eq!(keys.map(|key| address(&key)), ips.map(Some));
        assert_eq!(keys[0][..], [4, 10, 0, 0, 7]);
        for wrong in [&[][..], &[4, 10, 0, 0], &[5, 1, 2, 3, 4], &[6, 1, 2, 3, 4]] {
            assert_eq!(address(wrong), None);
        }
    }
}
