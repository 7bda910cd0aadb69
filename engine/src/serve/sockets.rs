//! The sockets of every shard, opened while the process still may.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use bootstorm_net::{MtuDiscovery, PacketSocketSpec, Socket, Steering, UdpSocketSpec, icmp_socket};
use bootstorm_protocols::dhcpv4::SERVER_PORT;

use crate::config::{Config, Tftp};
use crate::shard::Role;

use crate::interfaces::Interfaces;

/// Where the last four bytes of an Ethernet chaddr stand in a DHCP message: what tells shards
/// apart.
const CHADDR_TAIL: u16 = 30;
/// UDP port of TFTP requests (RFC 1350 section 4).
const TFTP_PORT: u16 = 69;
/// Ports that a shard's transfers are spread over: a client's next transfer uses another, so that
/// late packets of its last one cannot enter it (RFC 1350 section 4).
const DATA_SOCKETS: usize = 16;
/// Addresses of this host with data sockets of their own. Others are served as well, by sockets of
/// any address, for a little more of the kernel's time.
const BOUND_ADDRESSES: usize = 8;
/// Room for a hall that switches on at once, while a shard sleeps a moment: 8 MiB hold some 6,000
/// requests.
const REQUEST_BUFFER: usize = 8 << 20;
/// Several windows of 64 KiB for many clients.
const DATA_BUFFER: usize = 4 << 20;

/// Why a socket could not be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{cause}{}", advice(cause))]
pub struct SocketError {
    cause: io::Error,
}

impl From<io::Error> for SocketError {
    fn from(cause: io::Error) -> Self {
        Self { cause }
    }
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            "; start as root, or with CAP_NET_BIND_SERVICE, CAP_NET_RAW and CAP_NET_ADMIN"
        }
        io::ErrorKind::AddrInUse => {
            "; another server has the port: `ss -lunp` names it, or list `interfaces` in [server]"
        }
        _ => "",
    }
}

/// A socket that waits for its shard.
#[derive(Debug)]
pub(super) struct Opened {
    /// What it is for.
    pub(super) role: Role,
    /// The interface it is bound to; `None` is all of them.
    pub(super) device: Option<String>,
    /// The socket.
    pub(super) socket: Socket,
}

/// Opens the sockets of `shards` shards, in the order they are to be added.
///
/// With `interfaces` in the configuration every socket that is asked is bound to one of them, so
/// that other servers may serve the rest of this host. Without, one socket hears all interfaces,
/// those that come later too.
///
/// # Errors
/// The kernel's, with what would help.
pub(super) fn open(
    config: &Config,
    interfaces: &Interfaces,
    shards: usize,
) -> Result<Vec<Vec<Opened>>, SocketError> {
    let mut all: Vec<Vec<Opened>> = (0..shards).map(|_| Vec::new()).collect();
    let has_tftp = config.tftp.is_some();
    match &config.server.interfaces {
        None => open_device(None, has_tftp, &mut all)?,
        Some(names) => {
            for name in names {
                open_device(Some(name), has_tftp, &mut all)?;
            }
        }
    }
    let mut ports = config.tftp.as_ref().map(Ports::new);
    for own in &mut all {
        let mut push = |role, socket| own.push(Opened { role, device: None, socket });
        let link = PacketSocketSpec { send_buffer: Some(DATA_BUFFER), receive: None };
        push(Role::Link, link.open()?);
        if config.dhcp.ping_check.is_some() {
            push(Role::Icmp, icmp_socket()?);
        }
        if let Some(ports) = &mut ports {
            for &address in &data_addresses(interfaces, ports) {
                for _ in 0..DATA_SOCKETS {
                    push(Role::TftpData(address), ports.next(address)?);
                }
            }
        }
    }
    Ok(all)
}

/// Opens what is asked on one interface, for every shard.
///
/// # Errors
/// As [`open`].
pub(super) fn open_device(
    device: Option<&str>,
    has_tftp: bool,
    all: &mut [Vec<Opened>],
) -> Result<(), SocketError> {
    let shards = u16::try_from(all.len()).unwrap_or(u16::MAX);
    // The kernel numbers the sockets of a group in the order they are bound: shard by shard.
    for (shard, own) in (0..shards).zip(all) {
        let owned = || device.map(str::to_owned);
        let socket = dhcp_socket(owned(), shards, shard)?;
        own.push(Opened { role: Role::Dhcp, device: owned(), socket });
        if !has_tftp {
            continue;
        }
        for family in families() {
            let socket = tftp_request_socket(family, owned())?;
            own.push(Opened { role: Role::TftpRequests(family), device: owned(), socket });
        }
    }
    Ok(())
}

fn dhcp_socket(device: Option<String>, shards: u16, shard: u16) -> io::Result<Socket> {
    UdpSocketSpec {
        bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, SERVER_PORT)),
        device,
        steering: Some(Steering { offset: CHADDR_TAIL, shards, shard }),
        broadcast: true,
        receive_buffer: Some(REQUEST_BUFFER),
        send_buffer: Some(DATA_BUFFER),
        ..UdpSocketSpec::default()
    }
    .open()
}

/// The addresses that are none, of the families that this host knows: IPv6 may be switched off.
fn families() -> impl Iterator<Item = IpAddr> {
    let ipv6 = || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
    let ipv6 = ipv6().then_some(Ipv6Addr::UNSPECIFIED.into());
    [Ipv4Addr::UNSPECIFIED.into()].into_iter().chain(ipv6)
}

/// What transfers are sent from: any address, and the first ones of the interfaces that are served.
/// With a range of ports only the former, for it may be just large enough.
fn data_addresses(interfaces: &Interfaces, ports: &Ports<'_>) -> Vec<IpAddr> {
    let served = interfaces.served();
    let own = served.iter().flat_map(|interface| &interface.addresses).map(|&own| own.into());
    let most = if ports.range.is_some() { 0 } else { BOUND_ADDRESSES };
    families().chain(own.take(most)).collect()
}

fn tftp_request_socket(family: IpAddr, device: Option<String>) -> io::Result<Socket> {
    UdpSocketSpec {
        bind: SocketAddr::from((family, TFTP_PORT)),
        device,
        // Requests are unicast: the kernel's own choice by the client's address and port keeps a
        // repeated one on its shard.
        reuseport: true,
        receive_buffer: Some(REQUEST_BUFFER),
        ..UdpSocketSpec::default()
    }
    .open()
}

/// Ports for transfers: the kernel's choice, or one after another from the configured range.
struct Ports<'c> {
    tftp: &'c Tftp,
    /// What is left of it, for each family.
    range: Option<[RangeInclusive<u16>; 2]>,
}

impl<'c> Ports<'c> {
    fn new(tftp: &'c Tftp) -> Self {
        Self { tftp, range: tftp.port_range.map(|(first, last)| [first..=last, first..=last]) }
    }

    fn next(&mut self, address: IpAddr) -> io::Result<Socket> {
        let Some(ranges) = &mut self.range else { return data_socket(address, 0, self.tftp) };
        for port in &mut ranges[usize::from(address.is_ipv6())] {
            match data_socket(address, port, self.tftp) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
        Err(io::Error::other(format!(
            "[tftp] port-range has too few free ports: every shard needs {DATA_SOCKETS}"
        )))
    }
}

fn data_socket(address: IpAddr, port: u16, tftp: &Tftp) -> io::Result<Socket> {
    UdpSocketSpec {
        bind: SocketAddr::from((address, port)),
        receive_buffer: Some(DATA_BUFFER),
        send_buffer: Some(DATA_BUFFER),
        multicast_ttl: tftp.multicast.map(|multicast| multicast.ttl),
        // A blksize that was not cut to the MTU has to be fragmented; one that was fits, but for a
        // path with a narrower network.
        mtu_discovery: match tftp.clamp_to_mtu {
            true => MtuDiscovery::UntilTooLong,
            false => MtuDiscovery::Off,
        },
        ..UdpSocketSpec::default()
    }
    .open()
}
