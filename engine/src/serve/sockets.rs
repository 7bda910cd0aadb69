//! Opens the sockets of every shard.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use bootstorm_net::{MtuDiscovery, PacketSocketSpec, Socket, UdpSocketSpec, icmp_socket};
use bootstorm_protocols::dhcpv4::SERVER_PORT;
use rustix::io::Errno;

use super::kept::KeptSockets;
use crate::config::{Config, Tftp};
use crate::shard::{Binding, Role, dhcp_steering, split_discovers};

/// UDP port of TFTP requests (RFC 1350 section 4).
const TFTP_PORT: u16 = 69;
/// Ports that a shard's transfers are spread over: a client's next transfer uses another, so that
/// late packets of its last one cannot enter it (RFC 1350 section 4).
const DATA_SOCKETS: usize = 16;
/// Room for a hall that switches on at once, while a shard sleeps a moment: 8 MiB hold some 6,000
/// requests.
pub(super) const REQUEST_BUFFER: usize = 8 << 20;
/// Some 3,000 DISCOVERs. A server that is asked for more than it can do has this queue full all the
/// time: what it answers has waited for less than a tenth of a second, when no client has given up
/// yet, and the kernel drops the rest. Clients repeat what was dropped.
const DISCOVER_BUFFER: usize = 4 << 20;
/// Several windows of 64 KiB for many clients.
const DATA_BUFFER: usize = 4 << 20;

/// Why a socket could not be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{}{cause}{}", place(interface.as_deref()), advice(cause))]
pub struct SocketError {
    /// The interface that the socket is for.
    interface: Option<String>,
    cause: io::Error,
}

impl From<io::Error> for SocketError {
    fn from(cause: io::Error) -> Self {
        Self { interface: None, cause }
    }
}

fn place(interface: Option<&str>) -> String {
    interface.map(|name| format!("{name}: ")).unwrap_or_default()
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            "; start as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW"
        }
        io::ErrorKind::AddrInUse => {
            "; another server has the port: `ss -lunp` names it, or list `interfaces` in [server]"
        }
        _ => "",
    }
}

/// A socket to be given to its shard.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) role: Role,
    pub(super) binding: Binding,
    pub(super) socket: Socket,
}

/// Sockets for every shard, by number of the shard.
pub(super) type PerShard = Vec<Vec<Opened>>;

/// The sockets that receive TFTP requests, as they are until the end: a reload does not change
/// them.
#[derive(Copy, Clone, Debug)]
pub(super) struct TftpRequests {
    /// They carry the transfers as well, and no data socket is opened.
    single_port: bool,
    mtu_discovery: MtuDiscovery,
}

impl TftpRequests {
    /// Those of a server that starts with `config`; `None` without TFTP.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let tftp = config.tftp.as_ref()?;
        Some(Self { single_port: tftp.single_port, mtu_discovery: mtu_discovery(tftp) })
    }
}

/// Opens the sockets that stay open until the end.
///
/// With `interfaces` in the configuration every socket that receives requests is bound to one of
/// them, so that other servers may serve the rest of this host: see [`open_interface`]. Without,
/// one socket receives from all interfaces, those that come later too.
///
/// # Errors
/// The kernel's, with what would help.
pub(super) fn open_host(
    config: &Config,
    shards: usize,
    kept: &KeptSockets,
) -> Result<PerShard, SocketError> {
    let mut all = match &config.server.interfaces {
        None => open_requests(None, TftpRequests::of(config), shards, kept)?,
        Some(_) => (0..shards).map(|_| Vec::new()).collect(),
    };
    let families = families()?;
    let mut ports = config.tftp.as_ref().filter(|tftp| !tftp.single_port).map(Ports::new);
    for own in &mut all {
        let mut push = |role, socket| own.push(Opened { role, binding: Binding::Host, socket });
        let link = PacketSocketSpec { send_buffer: Some(DATA_BUFFER), receive: None };
        push(Role::Link, link.open()?);
        // Also without `ping-check`: a damaged lease store has addresses probed.
        push(Role::Icmp, icmp_socket()?);
        if let Some(ports) = &mut ports {
            for &address in &families {
                for _ in 0..DATA_SOCKETS {
                    push(Role::TftpData(address), ports.next(address)?);
                }
            }
        }
    }
    Ok(all)
}

/// Opens the sockets that receive requests on one interface, for every shard.
///
/// # Errors
/// The kernel's, with the interface and what would help.
pub(super) fn open_interface(
    ifindex: u32,
    name: &str,
    tftp: Option<TftpRequests>,
    shards: usize,
    kept: &KeptSockets,
) -> Result<PerShard, SocketError> {
    open_requests(Some(ifindex), tftp, shards, kept).map_err(|cause| {
        // A group that was opened before the failure is kept by the manager. Left there, its
        // sockets would be members of the group that the next attempt opens.
        forget_interface(ifindex, shards, kept);
        SocketError { interface: Some(name.to_owned()), cause }
    })
}

/// Opens data sockets that are bound to an address of this host, for every shard. Transfers from
/// it work without them, at a little more of the kernel's time.
///
/// # Errors
/// The kernel's.
pub(super) fn open_address(
    address: IpAddr,
    tftp: &Tftp,
    shards: usize,
) -> Result<PerShard, SocketError> {
    let role = Role::TftpData(address);
    let binding = Binding::Address(address);
    let open = || Ok(Opened { role, binding, socket: data_socket(address, 0, tftp)? });
    (0..shards).map(|_| (0..DATA_SOCKETS).map(|_| open()).collect()).collect()
}

/// The kernel numbers the sockets of a group in the order they are bound, and steering relies on
/// this order: so a group is opened as a whole, shard by shard, and closed as a whole. An
/// interface that is made again has another index, and its sockets are another group.
fn open_requests(
    ifindex: Option<u32>,
    tftp: Option<TftpRequests>,
    shards: usize,
    kept: &KeptSockets,
) -> io::Result<PerShard> {
    let binding = ifindex.map_or(Binding::Host, Binding::Interface);
    let count = u16::try_from(shards).unwrap_or(u16::MAX);
    let mut all: PerShard = (0..shards).map(|_| Vec::new()).collect();
    let mut give = |role, sockets: &mut dyn Iterator<Item = Socket>| {
        for (own, socket) in all.iter_mut().zip(sockets) {
            own.push(Opened { role, binding, socket });
        }
    };
    let shared: Vec<_> = (0..count).map(|shard| dhcp_requests(ifindex, count, shard)).collect();
    let split = with_discovers(&shared);
    let dhcp = kept.open(&group_name(Role::Dhcp, ifindex), &split, Some(&shared))?;
    let mut dhcp = dhcp.into_iter();
    give(Role::Dhcp, &mut dhcp.by_ref().take(shards));
    give(Role::Discovers, &mut dhcp);
    if let Some(tftp) = tftp {
        for family in families()? {
            let role = Role::TftpRequests(family);
            let specs: Vec<_> = (0..count).map(|_| tftp_requests(family, ifindex, tftp)).collect();
            give(role, &mut kept.open(&group_name(role, ifindex), &specs, None)?.into_iter());
        }
    }
    Ok(all)
}

/// The group of these sockets with a second one for each shard, for DISCOVERs, in the order in
/// which they are bound.
fn with_discovers(shared: &[UdpSocketSpec]) -> Vec<UdpSocketSpec> {
    let both = shared.iter().filter_map(|spec| {
        let sockets = split_discovers(spec.steering?);
        Some(sockets.map(|(role, steering)| UdpSocketSpec {
            steering: Some(steering),
            receive_buffer: match role {
                Role::Discovers => Some(DISCOVER_BUFFER),
                _ => spec.receive_buffer,
            },
            ..spec.clone()
        }))
    });
    let mut group: Vec<_> = both.flatten().collect();
    group.sort_by_key(|spec| spec.steering.map(|steering| steering.number()));
    group
}

/// What the service manager calls the sockets that receive requests of one kind on one interface.
fn group_name(role: Role, ifindex: Option<u32>) -> String {
    let place = ifindex.map_or("any".to_owned(), |ifindex| ifindex.to_string());
    match role {
        Role::TftpRequests(IpAddr::V6(_)) => format!("tftp6-{place}"),
        Role::TftpRequests(IpAddr::V4(_)) => format!("tftp4-{place}"),
        _ => format!("dhcp-{place}"),
    }
}

/// The sockets that receive requests on an interface are closed: the service manager is to close
/// them as well.
pub(super) fn forget_interface(ifindex: u32, shards: usize, kept: &KeptSockets) {
    let unspecified = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    for role in [Role::Dhcp].into_iter().chain(unspecified.map(Role::TftpRequests)) {
        let each = if role == Role::Dhcp { 2 } else { 1 };
        kept.forget_group(&group_name(role, Some(ifindex)), each * shards);
    }
}

fn dhcp_requests(ifindex: Option<u32>, shards: u16, shard: u16) -> UdpSocketSpec {
    UdpSocketSpec {
        bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, SERVER_PORT)),
        ifindex,
        steering: Some(dhcp_steering(shards, shard)),
        broadcast: true,
        receive_buffer: Some(REQUEST_BUFFER),
        send_buffer: Some(DATA_BUFFER),
        ..UdpSocketSpec::default()
    }
}

/// The unspecified address of each family that this host has: IPv6 may be switched off.
fn families() -> io::Result<Vec<IpAddr>> {
    let ipv4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ok(vec![ipv4, Ipv6Addr::UNSPECIFIED.into()]),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => Ok(vec![ipv4]),
            _ => Err(error),
        },
    }
}

fn tftp_requests(family: IpAddr, ifindex: Option<u32>, tftp: TftpRequests) -> UdpSocketSpec {
    let requests = UdpSocketSpec {
        bind: SocketAddr::from((family, TFTP_PORT)),
        ifindex,
        // The kernel chooses the socket by the addresses and ports of both ends. That keeps a
        // repeated request, or all packets of a transfer, on one shard.
        reuseport: true,
        receive_buffer: Some(REQUEST_BUFFER),
        ..UdpSocketSpec::default()
    };
    match tftp.single_port {
        true => UdpSocketSpec {
            send_buffer: Some(DATA_BUFFER),
            mtu_discovery: tftp.mtu_discovery,
            ..requests
        },
        false => requests,
    }
}

/// A blksize that was not cut to the MTU has to be fragmented; one that was fits, but for a path
/// with a narrower network.
fn mtu_discovery(tftp: &Tftp) -> MtuDiscovery {
    if tftp.clamp_to_mtu { MtuDiscovery::UntilTooLong } else { MtuDiscovery::Off }
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
        mtu_discovery: mtu_discovery(tftp),
        ..UdpSocketSpec::default()
    }
    .open()
}
