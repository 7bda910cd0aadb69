//! The kernel's message structures: addresses and control messages, read and written as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::backend::{Datagram, SocketId, Target};
use crate::outbox::Outgoing;

/// Longest socket address in use here: `sockaddr_in6`.
pub(crate) const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();
/// Room for an IPV6_PKTINFO, or the shorter IP_PKTINFO.
const PKTINFO_SPACE: usize = cmsg_space(size_of::<libc::in6_pktinfo>());
/// Room for what receiving sockets ask for: where it came in, and UDP_GRO's segment size.
pub(crate) const RECEIVE_CONTROL_LEN: usize = PKTINFO_SPACE + cmsg_space(size_of::<i32>());
/// Room for a source address and a segment size.
const SEND_CONTROL_LEN: usize = PKTINFO_SPACE + cmsg_space(size_of::<u16>());

const CMSG_HEADER_LEN: usize = size_of::<libc::cmsghdr>();
// Control messages are read and written here as: length (usize), level, type, data, padding to a
// usize.
const _: () = assert!(CMSG_HEADER_LEN == size_of::<usize>() + 8);

/// Length of a control message with `len` bytes of data, padding included.
const fn cmsg_space(len: usize) -> usize {
    CMSG_HEADER_LEN + len.next_multiple_of(size_of::<usize>())
}

/// One outgoing message as the kernel reads it. `header` points at its siblings and at the datagram
/// after [`Message::fill`]; it must not move before the kernel has read it.
pub(crate) struct Message {
    pub(crate) header: libc::msghdr,
    iov: libc::iovec,
    name: [u8; NAME_LEN],
    control: [u8; SEND_CONTROL_LEN],
}

impl Message {
    pub(crate) fn new() -> Message {
        Message {
            // SAFETY: msghdr is a C struct of integers and pointers; all zero is the empty message.
            header: unsafe { std::mem::zeroed() },
            iov: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            name: [0; NAME_LEN],
            control: [0; SEND_CONTROL_LEN],
        }
    }

    /// Describes `outgoing`, which leaves by a socket bound to `bound`, in the message at `this`,
    /// whose pointers then lead to itself and to the bytes of `outgoing`.
    ///
    /// # Safety
    /// `this` is valid for reads and writes, and nothing else accesses it during the call. What is
    /// written is to be used only as long as neither the message nor the bytes of `outgoing` move,
    /// change or go away.
    pub(crate) unsafe fn fill(this: *mut Message, outgoing: &Outgoing<'_>, bound: Option<IpAddr>) {
        // SAFETY: the caller promises exclusive access to a valid message.
        let message = unsafe { &mut *this };
        let name_len = write_name(&mut message.name, outgoing.target);
        let control_len = write_control(&mut message.control, outgoing, bound);
        message.iov = libc::iovec {
            // sendmsg only reads through it.
            iov_base: outgoing.bytes.as_ptr().cast_mut().cast(),
            iov_len: outgoing.bytes.len(),
        };
        // Pointers to the fields are made from `this`, so that they stay valid when the reference
        // above is gone. SAFETY: as above; the reference is not used any more.
        unsafe {
            let header = &raw mut (*this).header;
            (*header).msg_name = (&raw mut (*this).name).cast();
            (*header).msg_namelen = name_len as libc::socklen_t;
            (*header).msg_iov = &raw mut (*this).iov;
            (*header).msg_iovlen = 1;
            (*header).msg_control = (&raw mut (*this).control).cast();
            (*header).msg_controllen = control_len as _;
        }
    }
}

/// Writes the socket address of `target`; returns its length.
fn write_name(name: &mut [u8; NAME_LEN], target: &Target) -> usize {
    match *target {
        Target::Udp { to: SocketAddr::V4(to), .. } => {
            name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            name[2..4].copy_from_slice(&to.port().to_be_bytes());
            name[4..8].copy_from_slice(&to.ip().octets());
            name[8..16].fill(0);
            size_of::<libc::sockaddr_in>()
        }
        Target::Udp { to: SocketAddr::V6(to), .. } => {
            name[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            name[2..4].copy_from_slice(&to.port().to_be_bytes());
            name[4..8].copy_from_slice(&to.flowinfo().to_be_bytes());
            name[8..24].copy_from_slice(&to.ip().octets());
            name[24..28].copy_from_slice(&to.scope_id().to_ne_bytes());
            size_of::<libc::sockaddr_in6>()
        }
        Target::Link { ifindex, mac } => {
            // sockaddr_ll: family, protocol, ifindex, hatype, pkttype, halen, addr[8]
            name[..2].copy_from_slice(&(libc::AF_PACKET as u16).to_ne_bytes());
            name[2..4].copy_from_slice(&(libc::ETH_P_IP as u16).to_be_bytes());
            name[4..8].copy_from_slice(&ifindex.to_ne_bytes());
            name[8..11].fill(0);
            name[11] = mac.len() as u8;
            name[12..18].copy_from_slice(&mac);
            name[18..20].fill(0);
            size_of::<libc::sockaddr_ll>()
        }
    }
}

/// Writes source address, outgoing interface and segment size where they are asked for; returns the
/// length.
fn write_control(
    control: &mut [u8; SEND_CONTROL_LEN],
    outgoing: &Outgoing<'_>,
    bound: Option<IpAddr>,
) -> usize {
    let mut len = 0;
    if let Target::Udp { to, from, ifindex } = *outgoing.target
        && ((from.is_some() && from != bound) || ifindex != 0)
    {
        if to.is_ipv4() {
            // in_pktinfo: ifindex, source, (destination: receiving only)
            let mut data = [0; size_of::<libc::in_pktinfo>()];
            data[..4].copy_from_slice(&ifindex.to_ne_bytes());
            if let Some(IpAddr::V4(from)) = from {
                data[4..8].copy_from_slice(&from.octets());
            }
            push_cmsg(control, &mut len, libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
        } else {
            // in6_pktinfo: address, ifindex
            let mut data = [0; size_of::<libc::in6_pktinfo>()];
            if let Some(IpAddr::V6(from)) = from {
                data[..16].copy_from_slice(&from.octets());
            }
            data[16..].copy_from_slice(&ifindex.to_ne_bytes());
            push_cmsg(control, &mut len, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
        }
    }
    if outgoing.segment > 0 {
        let data = outgoing.segment.to_ne_bytes();
        push_cmsg(control, &mut len, libc::SOL_UDP, libc::UDP_SEGMENT, &data);
    }
    len
}

fn push_cmsg(control: &mut [u8], len: &mut usize, level: i32, kind: i32, data: &[u8]) {
    let message = &mut control[*len..][..cmsg_space(data.len())];
    *len += message.len();
    let (header, rest) = message.split_at_mut(CMSG_HEADER_LEN);
    header[..8].copy_from_slice(&(CMSG_HEADER_LEN + data.len()).to_ne_bytes());
    header[8..12].copy_from_slice(&level.to_ne_bytes());
    header[12..16].copy_from_slice(&kind.to_ne_bytes());
    rest[..data.len()].copy_from_slice(data);
    rest[data.len()..].fill(0);
}

/// What arrived on `socket`, from the sender's address and the control messages that the kernel
/// wrote beside it. `None` for what is not delivered: a frame that this host sent, or an address of
/// a family unknown here.
pub(crate) fn received<'a>(
    socket: SocketId,
    name: &[u8],
    control: &[u8],
    payload: &'a [u8],
    truncated: bool,
) -> Option<Datagram<'a>> {
    let Some(source) = read_name(name) else {
        let source = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let ifindex = read_link(name)?;
        let destination = None;
        return Some(Datagram {
            socket,
            source,
            destination,
            broadcast: false,
            ifindex,
            payload,
            segment: 0,
            truncated,
        });
    };
    let Control { destination, broadcast, ifindex, segment } = read_control(control);
    // A single segment is an ordinary datagram.
    let segment = if usize::from(segment) < payload.len() { segment } else { 0 };
    Some(Datagram { socket, source, destination, broadcast, ifindex, payload, segment, truncated })
}

/// The interface by which a frame came in; `None` when it went out, or this is not the address of a
/// frame.
fn read_link(name: &[u8]) -> Option<u32> {
    // sockaddr_ll: family, protocol, ifindex, hatype, pkttype
    let family = u16::from_ne_bytes(take(name, 0)?);
    let [kind] = take(name, 10)?;
    if i32::from(family) != libc::AF_PACKET || kind == libc::PACKET_OUTGOING {
        return None;
    }
    Some(u32::from_ne_bytes(take(name, 4)?))
}

/// Reads a received socket address; `None` when it is not an IP address.
fn read_name(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(take(name, 0)?);
    let port = u16::from_be_bytes(take(name, 2)?);
    if i32::from(family) == libc::AF_INET {
        let ip = Ipv4Addr::from(take::<4>(name, 4)?);
        Some(SocketAddrV4::new(ip, port).into())
    } else if i32::from(family) == libc::AF_INET6 {
        let flowinfo = u32::from_be_bytes(take(name, 4)?);
        let ip = Ipv6Addr::from(take::<16>(name, 8)?);
        let scope = u32::from_ne_bytes(take(name, 24)?);
        Some(SocketAddrV6::new(ip, port, flowinfo, scope).into())
    } else {
        None
    }
}

/// What the control messages of a received datagram tell; nothing and 0 where they do not.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
struct Control {
    destination: Option<IpAddr>,
    broadcast: bool,
    ifindex: u32,
    segment: u16,
}

fn read_control(mut control: &[u8]) -> Control {
    let mut told = Control::default();
    while let Some(len) = take(control, 0).map(usize::from_ne_bytes) {
        let (Some(level), Some(kind)) = (take(control, 8), take(control, 12)) else { break };
        let Some(data) = control.get(CMSG_HEADER_LEN..len) else { break };
        match (i32::from_ne_bytes(level), i32::from_ne_bytes(kind)) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // ifindex, address of this host to answer from, destination in the header
                if let (Some(ifindex), Some(own), Some(ip)) =
                    (take(data, 0), take::<4>(data, 4), take::<4>(data, 8))
                {
                    let (own, ip) = (Ipv4Addr::from(own), Ipv4Addr::from(ip));
                    // The kernel answers from another address only if the destination belongs to
                    // several hosts (fib_compute_spec_dst).
                    let several = own != ip && !own.is_unspecified();
                    told.broadcast = several || ip.is_broadcast() || ip.is_multicast();
                    told.destination = Some(ip.into());
                    told.ifindex = u32::from_ne_bytes(ifindex);
                }
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                if let (Some(ip), Some(ifindex)) = (take::<16>(data, 0), take(data, 16)) {
                    let ip = Ipv6Addr::from(ip);
                    told.broadcast = ip.is_multicast();
                    told.destination = Some(ip.into());
                    told.ifindex = u32::from_ne_bytes(ifindex);
                }
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                // An int here, although UDP_SEGMENT is a short.
                let size = take(data, 0).map(i32::from_ne_bytes);
                told.segment = size.and_then(|size| u16::try_from(size).ok()).unwrap_or_default();
            }
            _ => {}
        }
        control = control.get(len.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
    }
    told
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANY: SocketId = SocketId { index: 0, generation: 0 };

    #[test]
    fn names_survive_the_round_trip() {
        for to in ["10.1.2.3:67", "[fe80::1%5]:69", "[2001:db8::7]:547"] {
            let to: SocketAddr = to.parse().unwrap();
            let mut name = [0xff; NAME_LEN];
            let len = write_name(&mut name, &Target::Udp { to, from: None, ifindex: 0 });
            assert_eq!(read_name(&name[..len]), Some(to));
        }
    }

    #[test]
    fn a_link_address_is_what_packet_sockets_expect() {
        let mut name = [0xff; NAME_LEN];
        let mac = [2, 0, 0, 0, 0, 9];
        assert_eq!(write_name(&mut name, &Target::Link { ifindex: 3, mac }), 20);
        // SAFETY: sockaddr_ll is plain integers, and the name is longer than it.
        let link: libc::sockaddr_ll = unsafe { std::ptr::read_unaligned(name.as_ptr().cast()) };
        assert_eq!(i32::from(link.sll_family), libc::AF_PACKET);
        assert_eq!(link.sll_protocol, (libc::ETH_P_IP as u16).to_be());
        assert_eq!((link.sll_ifindex, link.sll_halen), (3, 6));
        assert_eq!(link.sll_addr, [2, 0, 0, 0, 0, 9, 0, 0]);
    }

    #[test]
    fn the_kernels_macros_agree_on_the_layout() {
        // SAFETY: CMSG_SPACE only computes.
        let space = |len| unsafe { libc::CMSG_SPACE(len) } as usize;
        for len in [1, 2, 4, 12, 20] {
            assert_eq!(cmsg_space(len as usize), space(len));
        }
    }

    #[test]
    fn control_messages_survive_the_round_trip() {
        let to = "[2001:db8::1]:69".parse().unwrap();
        let from: IpAddr = "2001:db8::2".parse().unwrap();
        let target = Target::Udp { to, from: Some(from), ifindex: 4 };
        let outgoing = Outgoing { socket: ANY, target: &target, bytes: &[], segment: 9 };
        let mut control = [0xff; SEND_CONTROL_LEN];
        assert_eq!(write_control(&mut control, &outgoing, None), SEND_CONTROL_LEN);
        assert_eq!(
            read_control(&control),
            Control { destination: Some(from), broadcast: false, ifindex: 4, segment: 0 }
        );
    }

    /// The control messages of IP_PKTINFO and UDP_GRO, whichever comes first.
    #[test]
    fn a_segment_size_is_read_beside_the_destination() {
        let mut pktinfo = [0; 12];
        pktinfo[0] = 7;
        pktinfo[8..].copy_from_slice(&[10, 0, 0, 1]);
        let pktinfo = (libc::IPPROTO_IP, libc::IP_PKTINFO, &pktinfo[..]);
        let size = 1200_i32.to_ne_bytes();
        let gro = (libc::SOL_UDP, libc::UDP_GRO, &size[..]);
        let to: SocketAddr = "10.0.0.9:68".parse().unwrap();
        let mut name = [0; NAME_LEN];
        write_name(&mut name, &Target::Udp { to, from: None, ifindex: 0 });
        for messages in [[pktinfo, gro], [gro, pktinfo]] {
            let mut control = [0; RECEIVE_CONTROL_LEN];
            let mut len = 0;
            for (level, kind, data) in messages {
                push_cmsg(&mut control, &mut len, level, kind, data);
            }
            let datagram = |payload| received(ANY, &name, &control[..len], payload, false).unwrap();
            let several = datagram(&[0; 1201]);
            assert_eq!((several.source, several.ifindex), (to, 7));
            assert_eq!(several.destination, Some([10, 0, 0, 1].into()));
            assert_eq!(several.segment, 1200);
            assert_eq!(datagram(&[0; 1200]).segment, 0);
        }
    }

    #[test]
    fn what_was_sent_to_many_is_told() {
        let read = |level, kind, data: &[u8]| {
            let mut control = [0; RECEIVE_CONTROL_LEN];
            let mut len = 0;
            push_cmsg(&mut control, &mut len, level, kind, data);
            read_control(&control[..len]).broadcast
        };
        let ipv4 = |own: [u8; 4], to: [u8; 4]| {
            let data = [[1, 0, 0, 0], own, to].concat();
            read(libc::IPPROTO_IP, libc::IP_PKTINFO, &data)
        };
        assert!(!ipv4([10, 0, 0, 1], [10, 0, 0, 1]));
        assert!(!ipv4([0; 4], [10, 0, 0, 1]), "not told");
        assert!(ipv4([10, 0, 0, 1], [10, 0, 0, 255]));
        assert!(ipv4([10, 0, 0, 1], [255; 4]) && ipv4([0; 4], [255; 4]));
        assert!(ipv4([10, 0, 0, 1], [239, 1, 2, 3]));
        let ipv6 = |to: &str| {
            let mut data = [0; 20];
            data[..16].copy_from_slice(&to.parse::<Ipv6Addr>().unwrap().octets());
            read(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data)
        };
        assert!(ipv6("ff02::1") && !ipv6("2001:db8::1"));
    }

    #[test]
    fn a_frame_tells_its_interface_and_nothing_when_it_went_out() {
        let mut name = [0; NAME_LEN];
        write_name(&mut name, &Target::Link { ifindex: 3, mac: [2; 6] });
        let frame = received(ANY, &name, &[], b"frame", true).unwrap();
        assert_eq!((frame.ifindex, frame.payload, frame.segment), (3, b"frame".as_slice(), 0));
        assert_eq!(frame.source, "0.0.0.0:0".parse().unwrap());
        assert!(frame.truncated && frame.destination.is_none());
        name[10] = libc::PACKET_OUTGOING;
        assert!(received(ANY, &name, &[], b"frame", false).is_none());
    }

    #[test]
    fn what_the_socket_is_bound_to_need_not_be_said() {
        let from = IpAddr::from([10, 0, 0, 1]);
        let to = "10.0.0.9:68".parse().unwrap();
        let length = |ifindex, bound| {
            let target = Target::Udp { to, from: Some(from), ifindex };
            let socket = ANY;
            let outgoing = Outgoing { socket, target: &target, bytes: &[], segment: 0 };
            write_control(&mut [0; SEND_CONTROL_LEN], &outgoing, bound)
        };
        assert_eq!(length(0, Some(from)), 0);
        assert_ne!(length(0, Some([10, 0, 0, 2].into())), 0);
        assert_ne!(length(0, Some([0, 0, 0, 0].into())), 0);
        assert_ne!(length(0, None), 0);
        assert_ne!(length(3, Some(from)), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..96)) {
            let _ = read_control(&bytes);
            let _ = read_name(&bytes);
            let _ = read_link(&bytes);
        }

        #[test]
        fn any_length_in_a_control_message_is_survived(
            len in any::<usize>(),
            level in prop::sample::select(vec![libc::IPPROTO_IP, libc::IPPROTO_IPV6, libc::SOL_UDP]),
            kind in 0..110i32,
        ) {
            let mut bytes = [0; 48];
            bytes[..8].copy_from_slice(&len.to_ne_bytes());
            bytes[8..12].copy_from_slice(&level.to_ne_bytes());
            bytes[12..16].copy_from_slice(&kind.to_ne_bytes());
            let _ = read_control(&bytes);
        }
    }
}
