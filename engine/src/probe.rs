//! Finds other DHCP servers on a link with one DISCOVER, for the first start of a server and for
//! `bootstorm probe`.
//!
//! The DISCOVER leaves through a packet socket, as a client without an address sends it. The kernel
//! does not hand such a frame to sockets of this host, so a server that runs here does not answer
//! it.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use bootstorm_net::{Interface, LinkSocket};
use bootstorm_protocols::dhcpv4::{
    BOOTREPLY, BROADCAST_FLAG, CLIENT_PORT, ETHERNET, Header, Message, MessageType, MessageWriter,
    SERVER_PORT, options,
};
use bootstorm_protocols::frame::{HEADROOM, UdpFrame};

use crate::config::OtherServers;
use crate::leases::Hardware;

/// How long the start of a server waits for answers.
pub const START_WAIT: Duration = Duration::from_secs(1);
/// Options that the DISCOVER asks for, so that the OFFER shows what a booting machine would get.
const REQUESTED: [u8; 8] = [
    options::SUBNET_MASK,
    options::ROUTERS,
    options::DOMAIN_NAME_SERVERS,
    options::VENDOR_ENCAPSULATED_OPTIONS,
    options::LEASE_TIME,
    options::SERVER_IDENTIFIER,
    options::TFTP_SERVER_NAME,
    options::BOOTFILE_NAME,
];

/// Another server that answers DHCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignServer {
    /// The interface its OFFER came in on.
    pub interface: String,
    /// Its server identifier (option 54), or where it gives none the address its OFFER came from.
    pub server: Ipv4Addr,
    /// The address its OFFER came from: its own, or that of a relay agent or router.
    pub source: Ipv4Addr,
    /// The hardware address its OFFER came from.
    pub mac: Hardware,
    /// The address it offered.
    pub offered: Ipv4Addr,
    /// The next server it named (siaddr); unspecified when none.
    pub next_server: Ipv4Addr,
    /// The boot file it named, with escapes for what is not printable; empty when none.
    pub boot_file: String,
}

impl fmt::Display for ForeignServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, interface, mac, offered, .. } = self;
        write!(f, "{server} on {interface} ({mac}) offers {offered}")
    }
}

/// The result of a probe.
#[derive(Debug, Default)]
pub struct Answers {
    /// Every server that made an OFFER, once for each interface.
    pub servers: Vec<ForeignServer>,
    /// Interfaces that could not be asked, and why.
    pub unasked: Vec<(String, io::Error)>,
}

/// Another server answers, and the configuration does not allow it.
#[derive(Debug, thiserror::Error)]
#[error(
    "another DHCP server is on this network: {}; stop it, or allow it with `allow-other-servers = [{}]` in [server]",
    list(.0, |server| server.to_string()),
    list(.0, |server| format!("\"{}\"", server.server))
)]
pub struct NotAlone(pub Vec<ForeignServer>);

fn list(servers: &[ForeignServer], text: impl Fn(&ForeignServer) -> String) -> String {
    servers.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// The servers that `allow` does not allow, neither by server identifier nor by source address.
pub fn not_allowed(servers: &[ForeignServer], allow: &OtherServers) -> Vec<ForeignServer> {
    let allowed = |server: &&ForeignServer| match allow {
        OtherServers::None => false,
        OtherServers::All => true,
        OtherServers::List(list) => list.contains(&server.server) || list.contains(&server.source),
    };
    servers.iter().filter(|server| !allowed(server)).cloned().collect()
}

/// Asks on every interface at once who serves DHCP there, and collects OFFERs for `wait`. A
/// server with one of the addresses `own` is not foreign.
///
/// # Errors
/// The packet socket cannot be opened; without CAP_NET_RAW that is `PermissionDenied`.
pub fn other_servers(
    interfaces: &[&Interface],
    wait: Duration,
    own: &[Ipv4Addr],
) -> io::Result<Answers> {
    let socket = LinkSocket::open(CLIENT_PORT)?;
    let mut answers = Answers::default();
    let mut discovers = Vec::new();
    for interface in interfaces {
        let asked = Discover::new(interface, random()).and_then(|discover| {
            socket.send(interface.ifindex, discover.frame())?;
            Ok(discover)
        });
        match asked {
            Ok(discover) => discovers.push(discover),
            Err(error) => answers.unasked.push((interface.name.clone(), error)),
        }
    }
    if discovers.is_empty() {
        return Ok(answers);
    }
    let began = Instant::now();
    collect(&socket, &discovers, own, began + wait / 3, &mut answers)?;
    // Once more: a switch port that has just come up may have swallowed the first frame.
    for discover in &discovers {
        // It was sent before; if it cannot be now, the answers to the first are still to come.
        let _once_is_enough = socket.send(discover.interface.ifindex, discover.frame());
    }
    collect(&socket, &discovers, own, began + wait, &mut answers)?;
    Ok(answers)
}

/// Takes OFFERs until `deadline`.
fn collect(
    socket: &LinkSocket,
    discovers: &[Discover<'_>],
    own: &[Ipv4Addr],
    deadline: Instant,
    answers: &mut Answers,
) -> io::Result<()> {
    let mut frame = [0; 2048];
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(());
        }
        let Some(len) = socket.receive(&mut frame, rest)? else { continue };
        let offer = discovers.iter().find_map(|discover| discover.answer(&frame[..len], own));
        let Some(offer) = offer else { continue };
        let same = |known: &ForeignServer| {
            (known.server, &known.interface) == (offer.server, &offer.interface)
        };
        if !answers.servers.iter().any(same) {
            answers.servers.push(offer);
        }
    }
}

/// A number that differs in every call, to tell this DISCOVER from others on the
/// link.
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

/// A DISCOVER on one interface.
struct Discover<'i> {
    interface: &'i Interface,
    mac: [u8; 6],
    xid: u32,
    frame: [u8; HEADROOM + 576],
    len: usize,
}

impl<'i> Discover<'i> {
    fn new(interface: &'i Interface, xid: u32) -> io::Result<Self> {
        let mac = interface.mac.ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "it has no hardware address")
        })?;
        let mut discover = Self { interface, mac, xid, frame: [0; HEADROOM + 576], len: 0 };
        discover.len = discover.write().map_err(io::Error::other)?;
        Ok(discover)
    }

    /// RFC 2131 section 4.4.1; the broadcast flag is set, because this host cannot answer ARP for
    /// an address that it does not have.
    fn write(&mut self) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        let header =
            Header { flags: BROADCAST_FLAG, ..Header::request(ETHERNET, &self.mac, self.xid) };
        let payload = &mut self.frame[HEADROOM..];
        let room = payload.len();
        let mut message = MessageWriter::new(payload, room, &header)?;
        message.option(options::MESSAGE_TYPE, &[MessageType::Discover.code()])?;
        message.option(options::PARAMETER_REQUEST_LIST, &REQUESTED)?;
        let len = message.finish();
        let addresses = UdpFrame {
            src_mac: self.mac,
            dst_mac: [0xff; 6],
            src: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT),
            dst: SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT),
        };
        Ok(addresses.seal(&mut self.frame, len)?)
    }

    fn frame(&self) -> &[u8] {
        &self.frame[..self.len]
    }

    /// The server behind a frame, if the frame is an OFFER to this discover and the server is none
    /// of `own`.
    fn answer(&self, frame: &[u8], own: &[Ipv4Addr]) -> Option<ForeignServer> {
        let (addresses, payload) = UdpFrame::parse(frame)?;
        let offer = Message::parse(payload).ok()?;
        let meant = offer.op() == BOOTREPLY
            && offer.xid() == self.xid
            && offer.chaddr() == self.mac
            && offer.message_type() == Some(MessageType::Offer);
        let source = *addresses.src.ip();
        let server = offer.server_identifier().unwrap_or(source);
        let ours = own.contains(&server) || own.contains(&source) || addresses.src_mac == self.mac;
        if !meant || ours {
            return None;
        }
        let mut scratch = [0; 256];
        let named = offer.option(options::BOOTFILE_NAME);
        let boot_file = match named.as_ref().and_then(|name| name.copy_to(&mut scratch)) {
            Some(name) => name.strip_suffix(&[0]).unwrap_or(name),
            None => offer.boot_file(),
        };
        Some(ForeignServer {
            interface: self.interface.name.clone(),
            server,
            source,
            mac: Hardware::ethernet(addresses.src_mac),
            offered: offer.yiaddr(),
            next_server: offer.siaddr(),
            boot_file: boot_file.escape_ascii().to_string(),
        })
    }
}

/// The IPv4 addresses of some interfaces.
pub fn addresses<'i>(interfaces: impl IntoIterator<Item = &'i Interface>) -> Vec<Ipv4Addr> {
    let all = interfaces.into_iter().flat_map(|interface| &interface.addresses);
    all.filter_map(|address| match address.ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
    const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn interface() -> Interface {
        Interface {
            name: "eth1".to_owned(),
            ifindex: 7,
            mac: Some([2, 0, 0, 0, 0, 9]),
            addresses: Vec::new(),
            mtu: 1500,
            up: true,
            carrier: true,
            loopback: false,
            broadcast: true,
        }
    }

    /// The frame that a server sends in answer to a discover.
    fn reply(discover: &Discover<'_>, kind: MessageType, identifier: Option<Ipv4Addr>) -> Vec<u8> {
        let (_, payload) = UdpFrame::parse(discover.frame()).unwrap();
        let request = Message::parse(payload).unwrap();
        let header = Header {
            yiaddr: Ipv4Addr::new(10, 1, 0, 55),
            siaddr: Ipv4Addr::new(10, 1, 0, 6),
            file: b"other.0",
            ..Header::reply_to(&request)
        };
        let mut frame = vec![0; HEADROOM + 576];
        let mut message = MessageWriter::new(&mut frame[HEADROOM..], 576, &header).unwrap();
        message.option(options::MESSAGE_TYPE, &[kind.code()]).unwrap();
        if let Some(identifier) = identifier {
            message.option(options::SERVER_IDENTIFIER, &identifier.octets()).unwrap();
        }
        let len = message.finish();
        let addresses = UdpFrame {
            src_mac: SERVER_MAC,
            dst_mac: [0xff; 6],
            src: SocketAddrV4::new(SERVER, SERVER_PORT),
            dst: SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
        };
        let len = addresses.seal(&mut frame, len).unwrap();
        frame.truncate(len);
        frame
    }

    #[test]
    fn the_frame_is_a_discover_of_a_client_without_an_address() {
        let interface = interface();
        let discover = Discover::new(&interface, 0x1234_5678).unwrap();
        let (addresses, payload) = UdpFrame::parse(discover.frame()).unwrap();
        assert_eq!(addresses.dst, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67));
        assert_eq!(addresses.src, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68));
        let discover = Message::parse(payload).unwrap();
        assert_eq!(discover.message_type(), Some(MessageType::Discover));
        assert!(discover.broadcast() && discover.requests(options::BOOTFILE_NAME));
        assert_eq!((discover.xid(), discover.chaddr()), (0x1234_5678, &[2, 0, 0, 0, 0, 9][..]));
        assert!(Discover::new(&Interface { mac: None, ..interface.clone() }, 1).is_err());
    }

    #[test]
    fn an_offer_names_its_server_and_what_it_would_boot() {
        let interface = interface();
        let discover = Discover::new(&interface, 1).unwrap();
        let other = Ipv4Addr::new(192, 0, 2, 1);
        let found =
            discover.answer(&reply(&discover, MessageType::Offer, Some(other)), &[]).unwrap();
        assert_eq!(
            (found.server, found.source, found.mac),
            (other, SERVER, Hardware::ethernet(SERVER_MAC))
        );
        assert_eq!((&*found.interface, &*found.boot_file), ("eth1", "other.0"));
        assert_eq!(found.offered, Ipv4Addr::new(10, 1, 0, 55));
        let nameless = discover.answer(&reply(&discover, MessageType::Offer, None), &[]).unwrap();
        assert_eq!(nameless.server, SERVER);
    }

    #[test]
    fn other_answers_are_not_taken_for_a_server() {
        let interface = interface();
        let discover = Discover::new(&interface, 1).unwrap();
        let offer = reply(&discover, MessageType::Offer, Some(SERVER));
        assert!(discover.answer(&offer, &[SERVER]).is_none(), "this host's own");
        assert!(Discover::new(&interface, 2).unwrap().answer(&offer, &[]).is_none(), "another xid");
        let nak = reply(&discover, MessageType::Nak, Some(SERVER));
        assert!(discover.answer(&nak, &[]).is_none());
        assert!(discover.answer(discover.frame(), &[]).is_none(), "the DISCOVER itself");
        for len in 0..offer.len() {
            assert!(discover.answer(&offer[..len], &[]).is_none());
        }
    }

    #[test]
    fn a_server_is_allowed_by_identifier_or_by_source() {
        let interface = interface();
        let discover = Discover::new(&interface, 1).unwrap();
        let other = Ipv4Addr::new(192, 0, 2, 1);
        let offer = reply(&discover, MessageType::Offer, Some(other));
        let found = vec![discover.answer(&offer, &[]).unwrap()];
        let refused = |allow: OtherServers| not_allowed(&found, &allow).len();
        assert_eq!(refused(OtherServers::None), 1);
        assert_eq!(refused(OtherServers::All), 0);
        assert_eq!(refused(OtherServers::List(vec![other])), 0);
        assert_eq!(refused(OtherServers::List(vec![SERVER])), 0);
        assert_eq!(refused(OtherServers::List(vec![Ipv4Addr::LOCALHOST])), 1);
        let text = NotAlone(found).to_string();
        assert!(text.contains("192.0.2.1 on eth1 (02:00:00:00:00:01) offers 10.1.0.55"), "{text}");
        assert!(text.contains("allow-other-servers = [\"192.0.2.1\"]"), "{text}");
    }
}
