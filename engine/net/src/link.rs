//! A packet socket for a client that asks who else serves DHCP on a link. It is slow: one system
//! call for each frame.

use std::io::{self, Read};
use std::mem::offset_of;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockFilter, Type};

/// A packet socket that sends frames on any interface and receives the IPv4 UDP datagrams for one
/// port, whoever they are addressed to on this host, and whether or not the interface has an
/// address.
#[derive(Debug)]
pub struct LinkSocket(socket2::Socket);

pub(crate) const IPV4: u16 = libc::ETH_P_IP as u16;

impl LinkSocket {
    /// Opens the socket; from here on datagrams to `port` queue up.
    ///
    /// # Errors
    /// The kernel's; without CAP_NET_RAW, `PermissionDenied`.
    pub fn open(port: u16) -> io::Result<Self> {
        // Protocol 0 receives nothing until the filter is there and bind says what is wanted.
        let socket = socket2::Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.attach_filter(&udp_to(port))?;
        socket.bind(&address(0, IPV4))?;
        Ok(Self(socket))
    }

    /// Opens a socket that takes part in nothing: it receives the datagrams for two ports that come
    /// in on an interface, and those that other programs of this host send there.
    ///
    /// # Errors
    /// As of [`LinkSocket::open`].
    pub fn listen(ifindex: u32, ports: [u16; 2]) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.attach_filter(&udp_to_either(ports))?;
        // Only sockets of every protocol are handed what is sent.
        socket.bind(&address(ifindex, libc::ETH_P_ALL as u16))?;
        Ok(Self(socket))
    }

    /// Sends a whole Ethernet frame on an interface.
    ///
    /// # Errors
    /// The kernel's: the interface is down or gone, or the frame too long for it.
    pub fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        self.0.send_to(frame, &address(ifindex, IPV4)).map(drop)
    }

    /// Waits for a frame, at most so long; its length, or `None` when none came.
    ///
    /// # Errors
    /// The kernel's.
    pub fn receive(&self, frame: &mut [u8], patience: Duration) -> io::Result<Option<usize>> {
        // Zero would mean for ever.
        self.0.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        match (&self.0).read(frame) {
            Ok(len) => Ok(Some(len)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The address of an interface (0 for all) and a protocol.
pub(crate) fn address(ifindex: u32, protocol: u16) -> SockAddr {
    // SAFETY: SockAddr hands out zeroed storage of sockaddr_storage's size and alignment, which
    // holds any socket address; the family and length written here are those of sockaddr_ll.
    let result = unsafe {
        SockAddr::try_init(|storage, len| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as libc::sa_family_t;
            (*link).sll_protocol = protocol.to_be();
            (*link).sll_ifindex = ifindex as i32;
            *len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    };
    match result {
        Ok(((), address)) => address,
        // The closure above returns nothing else than Ok.
        Err(_) => unreachable!("writing an address cannot fail"),
    }
}

/// Classic BPF: unfragmented IPv4 UDP to one port, over Ethernet.
pub(crate) fn udp_to(port: u16) -> [SockFilter; 12] {
    udp_to_either([port, port])
}

/// The same of two ports.
fn udp_to_either(ports: [u16; 2]) -> [SockFilter; 12] {
    const ETHERNET: u32 = size_of::<libc::ethhdr>() as u32;
    const ETHERTYPE: u32 = offset_of!(libc::ethhdr, h_proto) as u32;
    const FRAGMENT: u32 = ETHERNET + 6;
    const PROTOCOL: u32 = ETHERNET + 9;
    const DESTINATION_PORT: u32 = ETHERNET + 2; // behind the IP header, whose length is in X
    let load_u8 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    let load_u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    let load_u16_at_x = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
    let x_is_header_len = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let any_of = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    let accept = (libc::BPF_RET | libc::BPF_K) as u16;
    [
        SockFilter::new(load_u16, 0, 0, ETHERTYPE),
        SockFilter::new(equal, 0, 9, u32::from(IPV4)),
        SockFilter::new(load_u8, 0, 0, PROTOCOL),
        SockFilter::new(equal, 0, 7, libc::IPPROTO_UDP as u32),
        SockFilter::new(load_u16, 0, 0, FRAGMENT),
        SockFilter::new(any_of, 5, 0, 0x1fff),
        SockFilter::new(x_is_header_len, 0, 0, ETHERNET),
        SockFilter::new(load_u16_at_x, 0, 0, DESTINATION_PORT),
        SockFilter::new(equal, 1, 0, u32::from(ports[0])),
        SockFilter::new(equal, 0, 1, u32::from(ports[1])),
        SockFilter::new(accept, 0, 0, u32::MAX),
        SockFilter::new(accept, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use bootstorm_protocols::frame::UdpFrame;

    use super::*;

    /// The loopback interface carries Ethernet headers, too.
    #[test]
    fn receives_only_datagrams_for_its_port() {
        if rustix::thread::capabilities(None)
            .is_ok_and(|held| !held.effective.contains(rustix::thread::CapabilitySet::NET_RAW))
        {
            let error = LinkSocket::open(9).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            return;
        }
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let link = LinkSocket::open(receiver.local_addr().unwrap().port()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"not this", other.local_addr().unwrap()).unwrap();
        sender.send_to(b"this", receiver.local_addr().unwrap()).unwrap();
        let mut frame = [0; 2048];
        let len = link.receive(&mut frame, Duration::from_secs(10)).unwrap().unwrap();
        let (headers, payload) = UdpFrame::parse(&frame[..len]).unwrap();
        assert_eq!(payload, b"this");
        assert_eq!(std::net::SocketAddr::V4(headers.src), sender.local_addr().unwrap());
        assert_eq!(link.receive(&mut frame, Duration::from_millis(20)).unwrap(), None);
    }
}
