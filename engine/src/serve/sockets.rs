//! The sockets of every shard, opened while the process still may.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bootstorm_net::{MtuDiscovery, PacketSocketSpec, Socket, Steering, UdpSocketSpec, icmp_socket};
use bootstorm_protocols::dhcpv4::SERVER_PORT;

use super::world::Interface;
use crate::config::{Config, Tftp};
use crate::shard::Role;

/// Where the last four bytes of an Ethernet chaddr stand in a DHCP message: what tells shards apart.
const CHADDR_TAIL: u16 = 30;
/// UDP port of TFTP requests (RFC 1350 section 4).
const TFTP_PORT: u16 = 69;
/// Ports that a shard's transfers are spread over: a client's next transfer uses another, so that late packets of its
/// last one cannot enter it (RFC 1350 section 4).
const DATA_SOCKETS: usize = 16;
/// Room for a hall that switches on at once, while a shard sleeps a moment: 8 MiB hold some 6,000 requests.
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

/// One shard's sockets and what they are for, in the order they are added to its backend.
#[derive(Debug, Default)]
pub(super) struct ShardSockets {
    /// In order.
    pub(super) sockets: Vec<(Role, Socket)>,
}

/// Opens the sockets of `shards` shards.
///
/// With `interfaces` in the configuration every socket is bound to one of them, so that other servers may serve the rest of
/// this host. Without, one socket hears all interfaces, those that come later too.
///
/// # Errors
/// The kernel's, with what would help.
pub(super) fn open(
    config: &Config,
    served: &[&Interface],
    shards: usize,
) -> Result<Vec<ShardSockets>, SocketError> {
    let mut all: Vec<ShardSockets> = (0..shards).map(|_| ShardSockets::default()).collect();
    let devices: Vec<Option<String>> = match config.server.interfaces {
        None => vec![None],
        Some(_) => served.iter().map(|interface| Some(interface.name.clone())).collect(),
    };
    let count = u16::try_from(shards).unwrap_or(u16::MAX);
    for device in &devices {
        // The kernel numbers the sockets of a group in the order they are bound: shard by shard.
        for (shard, own) in (0..count).zip(&mut all) {
            own.sockets.push((Role::Dhcp, dhcp_socket(device.clone(), count, shard)?));
        }
    }
    for own in &mut all {
        own.sockets.push((Role::Link, PacketSocketSpec { send_buffer: Some(DATA_BUFFER) }.open()?));
        if config.dhcp.ping_check.is_some() {
            own.sockets.push((Role::Icmp, icmp_socket()?));
        }
    }
    if let Some(tftp) = &config.tftp {
        for own in &mut all {
            for device in &devices {
                own.sockets.push((Role::TftpRequests, tftp_request_socket(device.clone())?));
            }
        }
        let mut ports = Ports::new(tftp);
        for own in &mut all {
            for _ in 0..DATA_SOCKETS {
                own.sockets.push((Role::TftpData, ports.next(tftp)?));
            }
        }
    }
    Ok(all)
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

fn tftp_request_socket(device: Option<String>) -> io::Result<Socket> {
    UdpSocketSpec {
        bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, TFTP_PORT)),
        device,
        // Requests are unicast: the kernel's own choice by the client's address and port keeps a repeated one on its shard.
        reuseport: true,
        receive_buffer: Some(REQUEST_BUFFER),
        ..UdpSocketSpec::default()
    }
    .open()
}

/// Ports for transfers: the kernel's choice, or one after another from the configured range.
struct Ports {
    range: Option<std::ops::RangeInclusive<u16>>,
}

impl Ports {
    fn new(tftp: &Tftp) -> Self {
        Self { range: tftp.port_range.map(|(first, last)| first..=last) }
    }

    fn next(&mut self, tftp: &Tftp) -> io::Result<Socket> {
        let Some(range) = &mut self.range else { return data_socket(0, tftp) };
        for port in range {
            match data_socket(port, tftp) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
        Err(io::Error::other(format!(
            "[tftp] port-range has too few free ports: every shard needs {DATA_SOCKETS}"
        )))
    }
}

fn data_socket(port: u16, tftp: &Tftp) -> io::Result<Socket> {
    UdpSocketSpec {
        bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        receive_buffer: Some(DATA_BUFFER),
        send_buffer: Some(DATA_BUFFER),
        // A blksize that was not cut to the path's MTU has to be fragmented.
        mtu_discovery: if tftp.clamp_to_mtu { MtuDiscovery::System } else { MtuDiscovery::Off },
        ..UdpSocketSpec::default()
    }
    .open()
}
