//! Sockets as bootstorm needs them, opened before privileges are dropped and handed to a backend
//! later.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, Type};

use crate::{Priority, Steering, link};

/// An open socket for [`crate::Uring`] or [`crate::Mmsg`].
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    bound: Option<IpAddr>,
    receives: bool,
    steered: bool,
    priority: Priority,
    /// [`MtuDiscovery::UntilTooLong`].
    until_too_long: bool,
    /// What the kernel had dropped when this process took the socket.
    drops_before: u64,
}

impl Socket {
    /// The same socket with this priority; [`Priority::Bulk`] unless it is said.
    #[must_use]
    pub fn with_priority(self, priority: Priority) -> Socket {
        Socket { priority, ..self }
    }

    pub(crate) fn priority(&self) -> Priority {
        self.priority
    }

    /// A datagram was too long for its path (EMSGSIZE): from now on such ones may go in fragments,
    /// if that is how the socket was opened.
    pub(crate) fn too_long(&self) {
        if let (true, Some(bound)) = (self.until_too_long, self.bound) {
            // Where it is refused datagrams go on being refused, each counted.
            let _ = set_mtu_discovery(&self.fd, bound, libc::IP_PMTUDISC_WANT);
        }
    }

    /// The address it is bound to; tells the port that the kernel chose for port 0.
    ///
    /// # Errors
    /// It is a packet socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = socket2::SockRef::from(&self.fd).local_addr()?;
        address
            .as_socket()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not an IP socket"))
    }

    /// The IP address it is bound to, perhaps the unspecified one.
    pub(crate) fn bound(&self) -> Option<IpAddr> {
        self.bound
    }

    /// Nothing more is to be received on it.
    pub(crate) fn stop_receiving(&mut self) {
        self.receives = false;
    }

    /// Packet sockets may be there to send only.
    pub(crate) fn receives(&self) -> bool {
        self.receives
    }

    /// Its drop counter counts what the steering filter refused.
    pub(crate) fn is_steered(&self) -> bool {
        self.steered
    }

    /// How many datagrams the kernel dropped instead of queueing them here. SO_RXQ_OVFL would tell
    /// the same number with a control message on every datagram.
    pub(crate) fn kernel_drops(&self) -> u64 {
        const SK_MEMINFO_DROPS: usize = 8;
        u64::from(self.memory()[SK_MEMINFO_DROPS]).saturating_sub(self.drops_before)
    }

    /// Counts drops from now on.
    pub(crate) fn forget_drops(&mut self) {
        self.drops_before = self.drops_before.saturating_add(self.kernel_drops());
    }

    /// Bytes that are free in its send buffer at least, for more may become free at any time, and
    /// all bytes of it.
    pub(crate) fn send_memory(&self) -> (usize, usize) {
        const SK_MEMINFO_WMEM_ALLOC: usize = 2;
        const SK_MEMINFO_SNDBUF: usize = 3;
        let info = self.memory();
        let size = info[SK_MEMINFO_SNDBUF];
        (size.saturating_sub(info[SK_MEMINFO_WMEM_ALLOC]) as usize, size as usize)
    }

    /// SO_MEMINFO; zeros where the kernel does not tell.
    pub(crate) fn memory(&self) -> [u32; 9] {
        let mut info = [0_u32; 9]; // SK_MEMINFO_VARS
        let mut len = size_of_val(&info) as libc::socklen_t;
        // SAFETY: info is writable for len bytes, and both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                info.as_mut_ptr().cast(),
                &mut len,
            )
        };
        if result == 0 { info } else { [0; 9] }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// What the kernel does about the path's MTU (IP_MTU_DISCOVER, IPV6_MTU_DISCOVER).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum MtuDiscovery {
    /// As the system is configured.
    #[default]
    System,
    /// Never set DF: routers on the way may fragment.
    Off,
    /// Set DF until a datagram is too long for its path (EMSGSIZE), then fragment where a path
    /// needs it (IP_PMTUDISC_WANT, the default of Linux). With DF set the kernel need not number
    /// the datagram for reassembly, for which it keeps a table by destination.
    UntilTooLong,
    /// Always set DF and ignore the path MTU that the kernel learned: only the device's MTU limits.
    Probe,
}

/// A UDP socket. `Default` binds nothing in particular: every address, a port of the kernel's
/// choice.
#[derive(Clone, Debug)]
pub struct UdpSocketSpec {
    /// Address and port. IPv6 sockets receive IPv6 only.
    pub bind: SocketAddr,
    /// SO_BINDTOIFINDEX: only the interface with this index, in and out. Needs CAP_NET_RAW on
    /// kernels before 5.7. An interface that is not there is no error: then nothing arrives.
    pub ifindex: Option<u32>,
    /// SO_REUSEPORT: several sockets, each of one shard, share the port. Without `steering` the
    /// kernel chooses by the addresses of a datagram.
    pub reuseport: bool,
    /// Share by payload instead; implies `reuseport`.
    pub steering: Option<Steering>,
    /// May send to broadcast addresses.
    pub broadcast: bool,
    /// IP_MULTICAST_TTL: routers that a datagram for an IPv4 group may pass, and one more; 1 unless
    /// it is set.
    pub multicast_ttl: Option<u8>,
    /// Receive buffer in bytes (the kernel doubles it); SO_RCVBUFFORCE where privileged, else as
    /// much as rmem_max allows.
    pub receive_buffer: Option<usize>,
    /// Send buffer, in the same way.
    pub send_buffer: Option<usize>,
    /// Path MTU.
    pub mtu_discovery: MtuDiscovery,
    /// UDP_GRO: datagrams of one length from one source to one destination that came together may
    /// be received together, at most 65,535 bytes of them; [`crate::Datagram::segment`] tells. Not
    /// with `steering`, which looks at the first of them only.
    pub gro: bool,
}

impl Default for UdpSocketSpec {
    fn default() -> Self {
        UdpSocketSpec {
            bind: SocketAddr::from(([0, 0, 0, 0], 0)),
            ifindex: None,
            reuseport: false,
            steering: None,
            broadcast: false,
            multicast_ttl: None,
            receive_buffer: None,
            send_buffer: None,
            mtu_discovery: MtuDiscovery::System,
            gro: false,
        }
    }
}

impl UdpSocketSpec {
    /// Opens the socket. Received datagrams tell their destination and interface (IP_PKTINFO).
    /// IP_RECVERR stays off: on a socket that many clients share, the ICMP error of one would fail
    /// the send to another.
    ///
    /// # Errors
    /// The kernel's, with the option or address that it refused.
    pub fn open(&self) -> io::Result<Socket> {
        let domain = Domain::for_address(self.bind);
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))
            .map_err(|e| self.error("socket", e))?;
        if self.reuseport || self.steering.is_some() {
            socket.set_reuse_port(true).map_err(|e| self.error("SO_REUSEPORT", e))?;
        }
        if let Some(ifindex) = self.ifindex {
            // By index and not by name (SO_BINDTODEVICE): the interface may be renamed meanwhile.
            set_option(&socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &(ifindex as i32))
                .map_err(|e| self.error("SO_BINDTOIFINDEX", e))?;
        }
        if self.bind.is_ipv6() {
            socket.set_only_v6(true).map_err(|e| self.error("IPV6_V6ONLY", e))?;
        }
        // Options before the address is there, so that no datagram slips past them.
        self.configure(&socket)?;
        socket.bind(&SockAddr::from(self.bind)).map_err(|e| self.error("bind", e))?;
        Ok(self.bound(socket.into()))
    }

    /// What the backends must know of it.
    pub(crate) fn bound(&self, fd: OwnedFd) -> Socket {
        Socket {
            fd,
            bound: Some(self.bind.ip()),
            receives: true,
            steered: self.steering.is_some_and(|steering| steering.sockets() > 1),
            priority: Priority::default(),
            until_too_long: self.mtu_discovery == MtuDiscovery::UntilTooLong,
            drops_before: 0,
        }
    }

    /// Sets every option that a socket may have before or after it is bound.
    pub(crate) fn configure(&self, socket: &socket2::Socket) -> io::Result<()> {
        if self.broadcast {
            socket.set_broadcast(true).map_err(|e| self.error("SO_BROADCAST", e))?;
        }
        if let Some(ttl) = self.multicast_ttl.filter(|_| self.bind.is_ipv4()) {
            socket
                .set_multicast_ttl_v4(ttl.into())
                .map_err(|e| self.error("IP_MULTICAST_TTL", e))?;
        }
        if let Some(bytes) = self.receive_buffer {
            set_buffer(socket, bytes, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)
                .map_err(|e| self.error("SO_RCVBUF", e))?;
        }
        if let Some(bytes) = self.send_buffer {
            set_buffer(socket, bytes, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)
                .map_err(|e| self.error("SO_SNDBUF", e))?;
        }
        if self.bind.is_ipv4() {
            set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &1_i32)
                .map_err(|e| self.error("IP_PKTINFO", e))?;
        } else {
            set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1_i32)
                .map_err(|e| self.error("IPV6_RECVPKTINFO", e))?;
        }
        self.discover_mtu(socket).map_err(|e| self.error("IP_MTU_DISCOVER", e))?;
        if self.gro {
            if self.steering.is_some() {
                let why = "datagrams received together cannot be steered one by one";
                let error = io::Error::new(io::ErrorKind::InvalidInput, why);
                return Err(self.error("UDP_GRO", error));
            }
            set_option(socket, libc::SOL_UDP, libc::UDP_GRO, &1_i32)
                .map_err(|e| self.error("UDP_GRO", e))?;
        }
        if let Some(steering) = &self.steering {
            attach(socket, libc::SO_ATTACH_FILTER, &mut steering.filter())
                .map_err(|e| self.error("SO_ATTACH_FILTER", e))?;
            // The first one's program is the group's. The kernel lets no socket join that brings
            // one of its own.
            if steering.number() == 0 {
                attach(socket, libc::SO_ATTACH_REUSEPORT_CBPF, &mut steering.selector())
                    .map_err(|e| self.error("SO_ATTACH_REUSEPORT_CBPF", e))?;
            }
        }
        Ok(())
    }

    fn discover_mtu(&self, socket: &socket2::Socket) -> io::Result<()> {
        let value = match self.mtu_discovery {
            MtuDiscovery::System => return Ok(()),
            MtuDiscovery::Off => libc::IP_PMTUDISC_DONT,
            MtuDiscovery::UntilTooLong => libc::IP_PMTUDISC_DO,
            MtuDiscovery::Probe => libc::IP_PMTUDISC_PROBE,
        };
        set_mtu_discovery(socket, self.bind.ip(), value)
    }

    pub(crate) fn error(&self, what: &str, error: io::Error) -> io::Error {
        let interface = self.ifindex.map(|index| format!(" on interface {index}"));
        let interface = interface.unwrap_or_default();
        io::Error::new(error.kind(), format!("UDP {}{interface}: {what}: {error}", self.bind))
    }
}

/// A packet socket that sends whole Ethernet frames, to clients that have no address yet. `Default`
/// receives nothing.
#[derive(Copy, Clone, Debug, Default)]
pub struct PacketSocketSpec {
    /// Send buffer in bytes, as in [`UdpSocketSpec`].
    pub send_buffer: Option<usize>,
    /// What it receives, too.
    pub receive: Option<ReceiveFrames>,
}

/// Frames with an unfragmented IPv4 UDP datagram for one port that come in by one interface,
/// whatever hardware and IP addresses they are sent to: for many machines behind one interface.
/// Each is a [`crate::Datagram`] whose payload is the whole frame, without a VLAN tag. What this
/// host sends is not received, but by the loopback interface, which brings it back.
///
/// Between virtual interfaces the UDP checksum of a frame may be missing, and what was sent with
/// UDP_SEGMENT may arrive as one long frame that holds several datagrams.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ReceiveFrames {
    /// The interface, which is made promiscuous as long as the socket is open. When it is down,
    /// nothing comes and [`crate::Drops::receive`] counts.
    pub ifindex: u32,
    /// UDP destination port.
    pub port: u16,
    /// Receive buffer in bytes, as in [`UdpSocketSpec`].
    pub receive_buffer: Option<usize>,
}

impl ReceiveFrames {
    /// Lets `socket`, which receives nothing yet, receive these. An error comes with the step that
    /// failed.
    fn begin(&self, socket: &socket2::Socket) -> Result<(), (&'static str, io::Error)> {
        if let Some(bytes) = self.receive_buffer {
            set_buffer(socket, bytes, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)
                .map_err(|e| ("SO_RCVBUF", e))?;
        }
        socket.attach_filter(&link::udp_to(self.port)).map_err(|e| ("SO_ATTACH_FILTER", e))?;
        let membership = libc::packet_mreq {
            mr_ifindex: self.ifindex as i32,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set_option(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
            .map_err(|e| ("PACKET_ADD_MEMBERSHIP", e))?;
        // Last, for from here on it receives. A protocol of its own keeps frames that go out away
        // from it.
        socket.bind(&link::address(self.ifindex, link::IPV4)).map_err(|e| ("bind", e))
    }
}

impl PacketSocketSpec {
    /// Opens the socket. It sends by every interface: [`crate::Target::Link`] names one.
    ///
    /// # Errors
    /// The kernel's, with the option or address that it refused; without CAP_NET_RAW,
    /// `PermissionDenied`.
    pub fn open(&self) -> io::Result<Socket> {
        let named = |what: &str, e: io::Error| {
            io::Error::new(e.kind(), format!("packet socket: {what}: {e}"))
        };
        // Protocol 0: with any other it would receive a copy of every frame.
        let socket = socket2::Socket::new(Domain::PACKET, Type::RAW, None)
            .map_err(|e| named("socket (CAP_NET_RAW is needed)", e))?;
        if let Some(bytes) = self.send_buffer {
            set_buffer(&socket, bytes, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)
                .map_err(|e| named("SO_SNDBUF", e))?;
        }
        if let Some(receive) = &self.receive {
            receive.begin(&socket).map_err(|(what, e)| {
                named(&format!("{what} on interface {}", receive.ifindex), e)
            })?;
        }
        let receives = self.receive.is_some();
        Ok(Socket {
            fd: socket.into(),
            bound: None,
            receives,
            steered: false,
            priority: Priority::default(),
            until_too_long: false,
            drops_before: 0,
        })
    }
}

/// Opens a raw ICMP socket for echo requests. What it receives begins with the IPv4 header, and
/// only echo replies arrive.
///
/// # Errors
/// The kernel's; without CAP_NET_RAW, `PermissionDenied`.
pub fn icmp_socket() -> io::Result<Socket> {
    let named =
        |what: &str, e: io::Error| io::Error::new(e.kind(), format!("ICMP socket: {what}: {e}"));
    let socket = socket2::Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))
        .map_err(|e| named("socket (CAP_NET_RAW is needed)", e))?;
    // linux/icmp.h: a set bit keeps messages of that type out.
    const ICMP_FILTER: i32 = 1;
    let all_but_echo_reply = !1_u32;
    set_option(&socket, libc::SOL_RAW, ICMP_FILTER, &all_but_echo_reply)
        .map_err(|e| named("ICMP_FILTER", e))?;
    Ok(Socket {
        fd: socket.into(),
        bound: None,
        receives: true,
        steered: false,
        priority: Priority::default(),
        until_too_long: false,
        drops_before: 0,
    })
}

/// Beyond the system's limit where we may, up to it where not.
fn set_buffer(socket: &socket2::Socket, bytes: usize, force: i32, plain: i32) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX / 2);
    set_option(socket, libc::SOL_SOCKET, force, &bytes)
        .or_else(|_| set_option(socket, libc::SOL_SOCKET, plain, &bytes))
}

/// Attaches a classic BPF program.
fn attach(
    socket: &socket2::Socket,
    option: i32,
    program: &mut [libc::sock_filter],
) -> io::Result<()> {
    // Programs here have ten statements; the kernel takes 4096.
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, option, &program)
}

/// `value` is one of IP_PMTUDISC_*, whose numbers are those of IPv6 as well; `bound` tells the
/// family.
fn set_mtu_discovery(socket: &impl AsRawFd, bound: IpAddr, value: i32) -> io::Result<()> {
    match bound {
        IpAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &value),
        IpAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &value),
    }
}

fn set_option<T>(socket: &impl AsRawFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    let value: *const T = value;
    // SAFETY: value is readable for len bytes during the call; a program that it points to lives as
    // long.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_socket_and_the_step() {
        let taken = UdpSocketSpec { bind: "127.0.0.1:0".parse().unwrap(), ..Default::default() };
        let socket = taken.open().unwrap();
        let bind = socket.local_addr().unwrap();
        let error = UdpSocketSpec { bind, ..Default::default() }.open().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("UDP {bind}: bind: ")), "{error}");
        let error = UdpSocketSpec { bind, ifindex: Some(1), ..Default::default() }.open();
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&format!("UDP {bind} on interface 1: bind: ")), "{error}");
        let steering = Some(Steering { offset: 30, shards: 2, shard: 0, split: None });
        let error = UdpSocketSpec { steering, gro: true, ..Default::default() }.open().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("UDP_GRO"), "{error}");
    }

    #[test]
    fn every_option_is_accepted_by_both_families() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            for mtu_discovery in [
                MtuDiscovery::System,
                MtuDiscovery::Off,
                MtuDiscovery::UntilTooLong,
                MtuDiscovery::Probe,
            ] {
                let spec = UdpSocketSpec {
                    bind: bind.parse().unwrap(),
                    steering: Some(Steering { offset: 30, shards: 2, shard: 0, split: None }),
                    broadcast: true,
                    receive_buffer: Some(1 << 20),
                    send_buffer: Some(1 << 20),
                    mtu_discovery,
                    ..Default::default()
                };
                assert_eq!(spec.open().unwrap().kernel_drops(), 0);
                let spec = UdpSocketSpec { steering: None, gro: true, ..spec };
                assert_eq!(spec.open().unwrap().kernel_drops(), 0);
            }
        }
    }

    #[test]
    fn kernel_drops_are_counted() {
        let spec = UdpSocketSpec {
            bind: "127.0.0.1:0".parse().unwrap(),
            receive_buffer: Some(4096),
            ..Default::default()
        };
        let socket = spec.open().unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            client.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
        }
        assert!(socket.kernel_drops() > 50, "{}", socket.kernel_drops());
        // Who takes the socket over counts its own.
        let spec = UdpSocketSpec { bind: socket.local_addr().unwrap(), ..Default::default() };
        let heir = spec.adopt(socket.fd.try_clone().unwrap()).unwrap();
        assert_eq!(heir.kernel_drops(), 0);
    }
}
