//! The network interfaces of this host, or of this thread's network namespace.

mod watch;

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

pub use self::watch::InterfaceWatch;

/// An address of an interface and its subnet.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of the subnet's prefix in bits.
    pub prefix: u8,
}

/// A network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// As `ip link` names it.
    pub name: String,
    /// The kernel's number for it.
    pub ifindex: u32,
    /// Hardware address; `None` where it is not Ethernet-like.
    pub mac: Option<[u8; 6]>,
    /// IPv4 and IPv6 addresses, in the kernel's order.
    pub addresses: Vec<Address>,
    /// Longest IP packet in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// It is up and has a carrier: a cable with a peer at its other end.
    pub carrier: bool,
    /// The loopback interface.
    pub loopback: bool,
    /// It can broadcast: an Ethernet, not a point-to-point link.
    pub broadcast: bool,
}

/// All interfaces, by index.
///
/// # Errors
/// The kernel's, from getifaddrs or a socket.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let probe = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let list = List::new()?;
    let mut found = BTreeMap::<u32, Interface>::new();
    let mut by_name = HashMap::<String, u32>::new();
    // Link entries come first in the list, but that is not specified: two passes.
    for entry in list.iter() {
        if let Some(Entry::Link { ifindex, mac }) = entry.address {
            let interface = Interface {
                mtu: mtu(&probe, entry.name).unwrap_or(1500),
                name: entry.name.to_string_lossy().into_owned(),
                ifindex,
                mac,
                addresses: Vec::new(),
                up: entry.has(libc::IFF_UP),
                carrier: entry.has(libc::IFF_UP) && entry.has(libc::IFF_RUNNING),
                loopback: entry.has(libc::IFF_LOOPBACK),
                broadcast: entry.has(libc::IFF_BROADCAST),
            };
            by_name.insert(interface.name.clone(), ifindex);
            found.insert(ifindex, interface);
        }
    }
    for entry in list.iter() {
        if let Some(Entry::Ip(address)) = entry.address {
            // Alias labels ("eth0:1") belong to the interface before the colon.
            let name = entry.name.to_string_lossy();
            let name = name.split(':').next().unwrap_or_default();
            let interface = by_name.get(name).and_then(|ifindex| found.get_mut(ifindex));
            interface.into_iter().for_each(|interface| interface.addresses.push(address));
        }
    }
    Ok(found.into_values().collect())
}

/// Asked of the socket's own namespace; /sys may show another one's.
fn mtu(socket: &socket2::Socket, name: &CStr) -> Option<u32> {
    // SAFETY: ifreq is a C struct of integers and a union of them; all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = name.to_bytes_with_nul();
    if name.len() > request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    // SAFETY: SIOCGIFMTU reads the name and writes the union of this ifreq.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &mut request) };
    if result != 0 {
        return None;
    }
    // SAFETY: SIOCGIFMTU succeeded, so the kernel has written this member.
    Some(unsafe { request.ifr_ifru.ifru_mtu } as u32)
}

/// What getifaddrs returned, freed on drop.
struct List {
    head: *mut libc::ifaddrs,
}

/// One entry of the list.
struct Item<'a> {
    name: &'a CStr,
    flags: libc::c_uint,
    address: Option<Entry>,
}

enum Entry {
    Link { ifindex: u32, mac: Option<[u8; 6]> },
    Ip(Address),
}

impl Item<'_> {
    fn has(&self, flag: libc::c_int) -> bool {
        self.flags & flag as libc::c_uint != 0
    }
}

impl List {
    fn new() -> io::Result<List> {
        let mut head = std::ptr::null_mut();
        // SAFETY: head is a place for one pointer.
        if unsafe { libc::getifaddrs(&mut head) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(List { head })
    }

    fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        let mut next = self.head;
        std::iter::from_fn(move || {
            // SAFETY: next is null or an entry of the list, which lives as long as self.
            let entry = unsafe { next.as_ref() }?;
            next = entry.ifa_next;
            // SAFETY: ifa_name is a C string of the list; the addresses are null or sockaddrs of
            // their family.
            let (name, address) = unsafe {
                (CStr::from_ptr(entry.ifa_name), read(entry.ifa_addr, entry.ifa_netmask))
            };
            Some(Item { name, flags: entry.ifa_flags, address })
        })
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: head came from getifaddrs and is freed once.
        unsafe { libc::freeifaddrs(self.head) };
    }
}

/// # Safety
/// Each pointer is null or leads to a socket address as long as its family says.
unsafe fn read(address: *const libc::sockaddr, mask: *const libc::sockaddr) -> Option<Entry> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, so by the caller's promise a socket address of its family.
    unsafe {
        match i32::from((*address).sa_family) {
            libc::AF_PACKET => {
                let link = &*address.cast::<libc::sockaddr_ll>();
                let mac = <[u8; 6]>::try_from(&link.sll_addr[..6]).ok();
                Some(Entry::Link {
                    ifindex: link.sll_ifindex as u32,
                    mac: mac.filter(|_| link.sll_halen == 6),
                })
            }
            libc::AF_INET => {
                let v4 =
                    |at: *const libc::sockaddr| (*at.cast::<libc::sockaddr_in>()).sin_addr.s_addr;
                let ip = Ipv4Addr::from(u32::from_be(v4(address)));
                let prefix = if mask.is_null() { 32 } else { v4(mask).count_ones() as u8 };
                Some(Entry::Ip(Address { ip: ip.into(), prefix }))
            }
            libc::AF_INET6 => {
                let v6 = |at: *const libc::sockaddr| {
                    u128::from_be_bytes((*at.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr)
                };
                let ip = Ipv6Addr::from(v6(address));
                let prefix = if mask.is_null() { 128 } else { v6(mask).count_ones() as u8 };
                Some(Entry::Ip(Address { ip: ip.into(), prefix }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_as_everybody_knows_it() {
        let interfaces = interfaces().unwrap();
        let lo = interfaces.iter().find(|i| i.loopback).unwrap();
        assert_eq!((lo.name.as_str(), lo.ifindex), ("lo", 1));
        assert!(lo.up && lo.mtu >= 1280 && !lo.broadcast);
        let localhost = Address { ip: Ipv4Addr::LOCALHOST.into(), prefix: 8 };
        assert!(lo.addresses.contains(&localhost), "{lo:?}");
    }
}
