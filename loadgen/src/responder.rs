//! A DHCP server without leases, rules or a journal: what is left is the packet engine and the wire
//! format. It answers any DISCOVER and REQUEST at once, so that a load generator in front of it
//! shows its own limit and not that of a server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bootstorm_net::{
    Backend, Datagram, Engine, EngineKind, Handler, Limits, Socket, SocketId, Target, Transmit,
    UdpSocketSpec, now,
};
use bootstorm_protocols::dhcpv4::{
    BOOTREQUEST, CLIENT_PORT, Header, Message, MessageType, MessageWriter, SERVER_PORT, options,
};
use bootstorm_protocols::time::Moment;

/// How long the flag or the end of the time may go unnoticed when nothing arrives.
const LOOK: Duration = Duration::from_millis(50);
const LEASE_SECONDS: u32 = 3600;
const MTU: u16 = 1500;

/// What a responder is told.
#[derive(Copy, Clone, Debug)]
pub struct Setting {
    /// An address of this host: port 67 of it, the server identifier, and siaddr.
    pub listen: Ipv4Addr,
    /// Where the addresses come from.
    pub net: Net,
    /// Broadcasts are answered, too.
    pub broadcasts: bool,
    /// For how long; `None` until it is told to stop.
    pub lasts: Option<Duration>,
}

/// What a responder has done.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Served {
    /// DISCOVERs answered.
    pub discovers: u64,
    /// REQUESTs answered.
    pub requests: u64,
    /// Datagrams that the kernel dropped.
    pub unheard: u64,
    /// Answers that could not be sent.
    pub unsent: u64,
}

/// Answers until the time is over or the flag is set; `ready` is called once its sockets are open.
///
/// # Errors
/// The port cannot be had, or the packet engine fails.
pub fn serve(
    kind: EngineKind,
    setting: &Setting,
    stop: &AtomicBool,
    ready: impl FnOnce(),
) -> io::Result<Served> {
    match kind.open(&Limits::default())? {
        Engine::Uring(backend) => serve_on(backend, setting, stop, ready),
        Engine::Mmsg(backend) => serve_on(backend, setting, stop, ready),
    }
}

fn serve_on<B: Backend<Socket = Socket>>(
    mut backend: B,
    setting: &Setting,
    stop: &AtomicBool,
    ready: impl FnOnce(),
) -> io::Result<Served> {
    let open = |ip: Ipv4Addr| {
        UdpSocketSpec {
            bind: (IpAddr::from(ip), SERVER_PORT).into(),
            broadcast: true,
            receive_buffer: Some(8 << 20),
            send_buffer: Some(8 << 20),
            ..UdpSocketSpec::default()
        }
        .open()
    };
    let Setting { listen, net, .. } = *setting;
    let socket = backend.add_socket(open(listen)?)?;
    if setting.broadcasts {
        // A socket bound to one address hears no broadcast; one bound to all would keep the port
        // from others here.
        backend.add_socket(open(Ipv4Addr::BROADCAST)?)?;
    }
    ready();
    let end = setting.lasts.map(|lasts| now() + lasts);
    let mut responder = Responder { socket, listen, net, discovers: 0, requests: 0, end };
    let mut deadline = Some(now());
    while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| now() < end) {
        deadline = backend.turn(deadline, &mut responder)?;
    }
    let drops = backend.drops();
    Ok(Served {
        discovers: responder.discovers,
        requests: responder.requests,
        unheard: drops.kernel,
        unsent: drops.slots_full + drops.send.total(),
    })
}

/// A network that gives every machine an address without remembering any.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Net {
    first: u32,
    mask: u32,
}

/// `10.100.0.0/16`, of /8 to /23.
impl FromStr for Net {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Net, &'static str> {
        const FORM: &str = "a network such as 10.100.0.0/16, of /8 to /23";
        let (address, prefix) = text.split_once('/').ok_or(FORM)?;
        let address: Ipv4Addr = address.parse().map_err(|_| FORM)?;
        let prefix: u8 = prefix.parse().map_err(|_| FORM)?;
        if !(8..=23).contains(&prefix) {
            return Err(FORM);
        }
        let mask = u32::MAX << (32 - prefix);
        Ok(Net { first: address.to_bits() & mask, mask })
    }
}

impl Net {
    /// Left to routers and hosts at the beginning of the network.
    const RESERVED: u32 = 256;

    /// The address of a machine, by the end of its hardware address: as many machines as the
    /// network has addresses, numbered one after the other, get one each. The broadcast address is
    /// nobody's.
    fn address(&self, chaddr: &[u8]) -> Ipv4Addr {
        let number = chaddr.iter().fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
        let size = !self.mask - Self::RESERVED;
        Ipv4Addr::from_bits(self.first + Self::RESERVED + number % size)
    }
}

/// Answers at once, from no memory of anything.
#[derive(Debug)]
struct Responder {
    /// Where everything leaves from, so that the source address need not be said.
    socket: SocketId,
    listen: Ipv4Addr,
    net: Net,
    discovers: u64,
    requests: u64,
    end: Option<Moment>,
}

impl Responder {
    /// Writes the reply; returns its length.
    fn write(&self, kind: MessageType, request: &Message<'_>, buf: &mut [u8]) -> usize {
        let header = Header {
            yiaddr: self.net.address(request.chaddr()),
            siaddr: self.listen,
            ..Header::reply_to(request)
        };
        // Cannot fail: a slot holds every message, and a parsed hardware address fits.
        let Ok(mut writer) = MessageWriter::new(buf, request.reply_room(MTU), &header) else {
            return 0;
        };
        // These few always fit.
        let _ = writer
            .option(options::MESSAGE_TYPE, &[kind.code()])
            .and_then(|()| writer.option(options::SERVER_IDENTIFIER, &self.listen.octets()))
            .and_then(|()| writer.option(options::LEASE_TIME, &LEASE_SECONDS.to_be_bytes()))
            .and_then(|()| writer.option(options::SUBNET_MASK, &self.net.mask.to_be_bytes()));
        if let Some(information) = request.relay_agent_information() {
            // One of more than 255 bytes may not fit; nobody sends that.
            let _ = writer.echo(&information);
        }
        writer.finish()
    }
}

/// Where the reply goes: to the relay agent, to a client with an address, or to everybody on the
/// link.
fn target(request: &Message<'_>, source: SocketAddr, ifindex: u32) -> Target {
    let giaddr = request.giaddr();
    let by_route = |to| Target::Udp { to, from: None, ifindex: 0 };
    if !giaddr.is_unspecified() {
        by_route((giaddr, SERVER_PORT).into())
    } else if !source.ip().is_unspecified() {
        by_route(source)
    } else {
        let to = (Ipv4Addr::BROADCAST, CLIENT_PORT).into();
        Target::Udp { to, from: None, ifindex }
    }
}

impl<T: Transmit> Handler<T> for Responder {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        let Ok(request) = Message::parse(datagram.payload) else { return };
        if request.op() != BOOTREQUEST {
            return;
        }
        let kind = match request.message_type() {
            Some(MessageType::Discover) => {
                self.discovers += 1;
                MessageType::Offer
            }
            Some(MessageType::Request) => {
                self.requests += 1;
                MessageType::Ack
            }
            _ => return,
        };
        let target = target(&request, datagram.source, datagram.ifindex);
        // What is refused is counted in the drops, which the last line tells.
        let _ = tx.send(self.socket, &target, |buf| self.write(kind, &request, buf));
    }

    fn woken(&mut self, _tx: &mut T) {}

    fn sent(&mut self, _token: u64, _result: io::Result<()>, _tx: &mut T) {}

    fn batch_end(&mut self, _dry: bool, tx: &mut T) -> Option<Moment> {
        let look = tx.now() + LOOK;
        Some(self.end.map_or(look, |end| end.min(look)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_refused() {
        let net16 = "10.100.7.9/16".parse::<Net>().unwrap();
        assert_eq!(net16, "10.100.0.0/16".parse().unwrap());
        for wrong in ["10.100.0.0", "10.100.0.0/7", "10.100.0.0/24", "10.100.0/16", "::/16", "/"] {
            assert!(wrong.parse::<Net>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn neighbours_get_different_addresses_of_the_network() {
        for prefix in [16, 22, 23] {
            let net: Net = format!("10.100.0.0/{prefix}").parse().unwrap();
            let size = (1_u32 << (32 - prefix)) - 1 - Net::RESERVED;
            // Not from a round number on.
            let machine = |number: u32| {
                let [a, b, c, d] = (0x00ff_fff0 + number).to_be_bytes();
                net.address(&[0x52, 0x54, a, b, c, d])
            };
            let mut all: Vec<_> = (0..size).map(machine).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), size as usize);
            assert_eq!(all[0], Ipv4Addr::new(10, 100, 1, 0));
            let last = u32::from(Ipv4Addr::new(10, 100, 0, 0)) + !net.mask - 1;
            assert_eq!(all[all.len() - 1].to_bits(), last);
            assert_eq!(machine(size), machine(0));
            assert!(all.contains(&net.address(&[])));
        }
    }

    #[test]
    fn replies_carry_what_a_client_needs() {
        let mut buf = [0; 600];
        let information = [1, 3, b'e', b't', b'h'];
        let header = Header {
            hops: 1,
            secs: 9,
            giaddr: Ipv4Addr::new(10, 0, 0, 9),
            ..Header::request(1, &[0x52, 0x54, 0, 0, 0, 5], 0x1234_5678)
        };
        let mut writer = MessageWriter::new(&mut buf, 576, &header).unwrap();
        writer.option(options::MESSAGE_TYPE, &[MessageType::Request.code()]).unwrap();
        writer.option(options::RELAY_AGENT_INFORMATION, &information).unwrap();
        let len = writer.finish();
        let request = Message::parse(&buf[..len]).unwrap();

        let listen = Ipv4Addr::new(10, 0, 0, 1);
        let mut backend = bootstorm_net::Mmsg::new(&Limits::default()).unwrap();
        let socket = UdpSocketSpec::default().open().unwrap();
        let responder = Responder {
            socket: backend.add_socket(socket).unwrap(),
            listen,
            net: "10.100.0.0/16".parse().unwrap(),
            discovers: 0,
            requests: 0,
            end: None,
        };
        let mut out = [0xff; 2048];
        let len = responder.write(MessageType::Ack, &request, &mut out);
        assert_eq!(len, 300);
        let reply = Message::parse(&out[..len]).unwrap();
        assert_eq!((reply.op(), reply.xid(), reply.hops()), (2, 0x1234_5678, 0));
        assert_eq!(reply.message_type(), Some(MessageType::Ack));
        assert_eq!(reply.yiaddr(), Ipv4Addr::new(10, 100, 1, 5));
        assert_eq!((reply.siaddr(), reply.server_identifier()), (listen, Some(listen)));
        assert_eq!((reply.giaddr(), reply.chaddr()), (header.giaddr, &header.chaddr[..6]));
        assert_eq!(reply.lease_time(), Some(3600));
        let mask = reply.option(options::SUBNET_MASK).unwrap().ipv4();
        assert_eq!(mask, Some(Ipv4Addr::new(255, 255, 0, 0)));
        let echoed = reply.relay_agent_information().unwrap().data();
        assert_eq!(echoed.as_slice(), Some(&information[..]));

        let source = "10.0.0.9:4000".parse().unwrap();
        let relayed = Target::Udp { to: "10.0.0.9:67".parse().unwrap(), from: None, ifindex: 0 };
        assert_eq!(target(&request, source, 3), relayed);
    }

    #[test]
    fn replies_go_where_the_client_is() {
        let discover = [&[1, 1, 6, 0][..], &[0; 232], &[99, 130, 83, 99, 53, 1, 1, 255]].concat();
        let discover = Message::parse(&discover).unwrap();
        let nowhere = "0.0.0.0:68".parse().unwrap();
        let to = "255.255.255.255:68".parse().unwrap();
        assert_eq!(target(&discover, nowhere, 3), Target::Udp { to, from: None, ifindex: 3 });
        let to = "10.0.0.7:68".parse().unwrap();
        assert_eq!(target(&discover, to, 3), Target::Udp { to, from: None, ifindex: 0 });
    }
}
