//! The state of a simulated network: who is attached, what is on its way, what has arrived.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use bootstorm_protocols::frame::UdpFrame;
use bootstorm_protocols::time::Moment;

use super::{Faults, InterfaceId, Kind, Outside, SimInterface, SimSocket};
use crate::backend::{SocketId, Taken, Target};
use crate::outbox::Outgoing;
use crate::{Priority, Waker};

/// Datagrams that a socket holds until its backend comes for them.
const QUEUE_LEN: usize = 4096;
/// How long a full send buffer stays full.
const BLOCKED_FOR: Duration = Duration::from_millis(1);

pub(super) struct State {
    pub(super) now: Moment,
    pub(super) faults: Faults,
    random: u64,
    interfaces: Vec<SimInterface>,
    pub(super) endpoints: Vec<Endpoint>,
    /// By arrival, then in the order of sending.
    on_the_way: BTreeMap<(Moment, u64), Packet>,
    sent: u64,
    next_port: u16,
    /// What was sent, once somebody plays the outside.
    pub(super) outside: Option<Vec<Outside>>,
}

/// What the network knows of a backend.
pub(super) struct Endpoint {
    sockets: BTreeMap<SocketId, Attached>,
    pub(super) inbox: VecDeque<Arrived>,
    pub(super) deadline: Option<Moment>,
    pub(super) blocked: Vec<(SocketId, Moment)>,
    pub(super) waker: Waker,
    pub(super) gone: bool,
    /// What its handler took at the end of its last turn.
    pub(super) taken: Taken,
    /// Dropped because the queue was full, and refused by steering.
    pub(super) overflow: u64,
    pub(super) refused: u64,
}

impl Endpoint {
    /// When the backend has something to do: `now` when something is ready.
    pub(super) fn next(&self, now: Moment) -> Option<Moment> {
        if self.has_ready() || self.waker.is_pending() {
            return Some(now);
        }
        self.blocked.iter().map(|(_, until)| *until).chain(self.deadline).min()
    }
}

struct Attached {
    socket: SimSocket,
    bind: Option<SocketAddr>,
}

#[derive(Clone)]
struct Packet {
    source: SocketAddr,
    to: SocketAddr,
    /// Set for a frame to one machine, whatever addresses it has.
    mac: Option<[u8; 6]>,
    /// The interface that it was sent by; `None` for what comes from outside.
    from: Option<InterfaceId>,
    /// The segment that it was sent into.
    segment: u32,
    payload: Vec<u8>,
}

/// A datagram that a backend may hand over.
pub(super) struct Arrived {
    pub(super) socket: SocketId,
    pub(super) priority: Priority,
    pub(super) source: SocketAddr,
    pub(super) destination: IpAddr,
    pub(super) broadcast: bool,
    pub(super) ifindex: u32,
    pub(super) payload: Vec<u8>,
}

impl Endpoint {
    /// Whether something has arrived that its handler takes.
    pub(super) fn has_ready(&self) -> bool {
        self.inbox.iter().any(|arrived| self.taken.has(arrived.priority))
    }

    /// The next datagram that is handed over, of those that the handler takes the most urgent.
    pub(super) fn take(&mut self) -> Option<Arrived> {
        let taken = self.inbox.iter().enumerate();
        let taken = taken.filter(|(_, arrived)| self.taken.has(arrived.priority));
        let (place, _) = taken.min_by_key(|(_, arrived)| arrived.priority)?;
        self.inbox.remove(place)
    }
}

impl State {
    pub(super) fn new(seed: u64, faults: Faults) -> State {
        State {
            now: Moment::default(),
            faults,
            random: seed,
            interfaces: Vec::new(),
            endpoints: Vec::new(),
            on_the_way: BTreeMap::new(),
            sent: 0,
            next_port: 49_152,
            outside: None,
        }
    }

    pub(super) fn attach(&mut self, interface: SimInterface) -> InterfaceId {
        self.interfaces.push(interface);
        InterfaceId(self.interfaces.len() - 1)
    }

    pub(super) fn add_endpoint(&mut self, waker: Waker) -> usize {
        self.endpoints.push(Endpoint {
            sockets: BTreeMap::new(),
            inbox: VecDeque::new(),
            deadline: None,
            blocked: Vec::new(),
            waker,
            gone: false,
            taken: Taken::ALL,
            overflow: 0,
            refused: 0,
        });
        self.endpoints.len() - 1
    }

    pub(super) fn add_socket(&mut self, endpoint: usize, id: SocketId, socket: SimSocket) {
        let bind = match socket.kind {
            Kind::Udp(mut bind) => {
                if bind.port() == 0 {
                    bind.set_port(self.next_port);
                    self.next_port = self.next_port.checked_add(1).unwrap_or(49_152);
                }
                Some(bind)
            }
            Kind::Packet => None,
        };
        self.endpoints[endpoint].sockets.insert(id, Attached { socket, bind });
    }

    pub(super) fn local_addr(&self, endpoint: usize, id: SocketId) -> Option<SocketAddr> {
        self.endpoints[endpoint].sockets.get(&id)?.bind
    }

    pub(super) fn remove_socket(&mut self, endpoint: usize, id: SocketId) {
        let endpoint = &mut self.endpoints[endpoint];
        endpoint.inbox.retain(|arrived| arrived.socket != id);
        endpoint.blocked.retain(|(blocked, _)| *blocked != id);
        endpoint.sockets.remove(&id);
    }

    pub(super) fn advance(&mut self) -> Option<Moment> {
        self.deliver();
        let mut next = self.on_the_way.first_key_value().map(|((at, _), _)| *at);
        for endpoint in self.endpoints.iter().filter(|endpoint| !endpoint.gone) {
            next = endpoint.next(self.now).into_iter().chain(next).min();
        }
        self.now = self.now.max(next.filter(|&next| next != Moment::NEVER)?);
        self.deliver();
        Some(self.now)
    }

    /// A datagram from outside is there.
    pub(super) fn arrive_from_outside(&mut self, outside: Outside) {
        let Outside { segment, mac, source, to, payload } = outside;
        self.arrive(&Packet { source, to, mac, from: None, segment, payload });
    }

    /// Takes what a backend sends; all segments of it or none, as the kernel does.
    ///
    /// # Errors
    /// The errno that the kernel would give.
    pub(super) fn send(&mut self, endpoint: usize, outgoing: &Outgoing<'_>) -> Result<(), i32> {
        if self.chance(self.faults.send_error) {
            return Err(libc::ENOBUFS);
        }
        if self.chance(self.faults.send_blocked) {
            let until = self.now + BLOCKED_FOR;
            self.endpoints[endpoint].blocked.push((outgoing.socket, until));
            return Err(libc::EAGAIN);
        }
        let sockets = &self.endpoints[endpoint].sockets;
        let attached = sockets.get(&outgoing.socket).ok_or(libc::EBADF)?;
        match *outgoing.target {
            Target::Udp { to, from, .. } => {
                let bind = attached.bind.ok_or(libc::EAFNOSUPPORT)?;
                let interface = attached.socket.interface;
                let ip = source_ip(&self.interfaces[interface.0], bind, from, to)?;
                let source = SocketAddr::new(ip, bind.port());
                let segment = match usize::from(outgoing.segment) {
                    // At least 1: an empty datagram has no chunks.
                    0 => outgoing.bytes.len().max(1),
                    segment => segment,
                };
                let segment_of = self.interfaces[interface.0].segment;
                let packet = |payload: &[u8]| Packet {
                    source,
                    to,
                    mac: None,
                    from: Some(interface),
                    segment: segment_of,
                    payload: payload.to_vec(),
                };
                if outgoing.bytes.is_empty() {
                    self.transmit(packet(&[]));
                }
                for payload in outgoing.bytes.chunks(segment) {
                    self.transmit(packet(payload));
                }
            }
            Target::Link { mac, .. } => {
                let from = attached.socket.interface;
                let segment = self.interfaces[from.0].segment;
                let packet = read_frame(outgoing.bytes, mac, from, segment)?;
                self.transmit(packet);
            }
        }
        Ok(())
    }

    fn transmit(&mut self, packet: Packet) {
        if let Some(outside) = &mut self.outside {
            let Packet { source, to, mac, segment, payload, .. } = packet;
            return outside.push(Outside { segment, mac, source, to, payload });
        }
        if self.chance(self.faults.loss) {
            return;
        }
        let copies = if self.chance(self.faults.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let Range { start, end } = self.faults.delay.clone();
            let spread = end.saturating_sub(start).as_nanos() as u64;
            let jitter = if spread == 0 { 0 } else { self.random() % spread };
            let mut at = self.now + start + Duration::from_nanos(jitter);
            if self.chance(self.faults.reorder) {
                at = at + end.max(start) * 10;
            }
            self.sent += 1;
            self.on_the_way.insert((at, self.sent), packet.clone());
        }
    }

    /// Moves what has arrived by now into the queues of the sockets that it is for.
    pub(super) fn deliver(&mut self) {
        while let Some(entry) = self.on_the_way.first_entry()
            && entry.key().0 <= self.now
        {
            let packet = entry.remove();
            self.arrive(&packet);
        }
    }

    fn arrive(&mut self, packet: &Packet) {
        let mut unicast = Vec::new();
        for (index, endpoint) in self.endpoints.iter_mut().enumerate().filter(|(_, e)| !e.gone) {
            let Endpoint { sockets, inbox, overflow, refused, .. } = endpoint;
            for (&id, attached) in sockets.iter() {
                let interface = &self.interfaces[attached.socket.interface.0];
                let Some(bind) = attached.bind.filter(|bind| {
                    bind.port() == packet.to.port() && bind.is_ipv4() == packet.to.is_ipv4()
                }) else {
                    continue;
                };
                let near = interface.segment == packet.segment;
                let own = packet.from == Some(attached.socket.interface);
                let wildcard = bind.ip().is_unspecified();
                if is_broadcast(interface, packet) {
                    if !near || own || !(wildcard || bind.ip() == packet.to.ip()) {
                        continue;
                    }
                    let steering = attached.socket.steering;
                    if steering.is_some_and(|steering| !steering.takes(&packet.payload)) {
                        *refused += 1;
                        continue;
                    }
                    accept(inbox, overflow, arrived(packet, id, attached, interface));
                } else {
                    let mine = match packet.mac {
                        Some(mac) => near && mac == interface.mac,
                        None => interface.addresses.iter().any(|a| a.ip == packet.to.ip()),
                    };
                    if mine && (wildcard || bind.ip() == packet.to.ip()) {
                        unicast.push((wildcard, index, id));
                    }
                }
            }
        }
        // The more specific binding wins, as in the kernel.
        let specific = unicast.iter().any(|(wildcard, ..)| !wildcard);
        unicast.retain(|(wildcard, ..)| *wildcard != specific);
        let Some((_, endpoint, id)) = self.choose(packet, &unicast) else { return };
        let Endpoint { sockets, inbox, overflow, .. } = &mut self.endpoints[endpoint];
        if let Some(attached) = sockets.get(&id) {
            let interface = &self.interfaces[attached.socket.interface.0];
            accept(inbox, overflow, arrived(packet, id, attached, interface));
        }
    }

    /// One socket of a SO_REUSEPORT group: by payload where it is steered, else by the sender.
    fn choose(
        &self,
        packet: &Packet,
        group: &[(bool, usize, SocketId)],
    ) -> Option<(bool, usize, SocketId)> {
        let steering = |&&(_, endpoint, id): &&(bool, usize, SocketId)| {
            self.endpoints[endpoint].sockets.get(&id)?.socket.steering
        };
        if group.iter().any(|member| steering(&member).is_some()) {
            let matches = |member: &&(bool, usize, SocketId)| {
                steering(member).is_some_and(|steering| steering.takes(&packet.payload))
            };
            return group.iter().find(matches).copied();
        }
        let sender = usize::from(packet.source.port());
        group.get(sender % group.len().max(1)).copied()
    }

    fn chance(&mut self, probability: f64) -> bool {
        // No draw for what cannot happen, so that a fault that is off leaves the others as they
        // were.
        probability > 0.0 && (self.random() >> 11) as f64 / ((1_u64 << 53) as f64) < probability
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Queues what arrived, unless the queue of its socket is full.
fn accept(inbox: &mut VecDeque<Arrived>, overflow: &mut u64, arrived: Arrived) {
    let waiting = inbox.iter().filter(|other| other.socket == arrived.socket).count();
    if waiting < QUEUE_LEN {
        inbox.push_back(arrived);
    } else {
        *overflow += 1;
    }
}

fn arrived(
    packet: &Packet,
    socket: SocketId,
    attached: &Attached,
    interface: &SimInterface,
) -> Arrived {
    Arrived {
        socket,
        priority: attached.socket.priority,
        source: packet.source,
        destination: packet.to.ip(),
        broadcast: is_broadcast(interface, packet),
        ifindex: interface.ifindex,
        payload: packet.payload.clone(),
    }
}

fn source_ip(
    interface: &SimInterface,
    bind: SocketAddr,
    from: Option<IpAddr>,
    to: SocketAddr,
) -> Result<IpAddr, i32> {
    if bind.is_ipv4() != to.is_ipv4() {
        return Err(libc::EAFNOSUPPORT);
    }
    if let Some(from) = from.filter(|from| !from.is_unspecified()) {
        let known = interface.addresses.iter().any(|address| address.ip == from);
        return if known { Ok(from) } else { Err(libc::EINVAL) };
    }
    if !bind.ip().is_unspecified() {
        return Ok(bind.ip());
    }
    let mut own = interface.addresses.iter().map(|address| address.ip);
    Ok(own.find(|ip| ip.is_ipv4() == to.is_ipv4()).unwrap_or(bind.ip()))
}

fn is_broadcast(interface: &SimInterface, packet: &Packet) -> bool {
    let directed = |to: Ipv4Addr| {
        interface.addresses.iter().any(|address| {
            let IpAddr::V4(own) = address.ip else { return false };
            let host_bits = u32::MAX.checked_shr(u32::from(address.prefix)).unwrap_or(0);
            host_bits > 1 && u32::from(own) | host_bits == u32::from(to)
        })
    };
    packet.mac.is_some_and(|mac| mac[0] & 1 == 1)
        || match packet.to.ip() {
            IpAddr::V4(to) => to.is_broadcast() || to.is_multicast() || directed(to),
            IpAddr::V6(to) => to.is_multicast(),
        }
}

/// Takes an Ethernet frame with UDP over IPv4 apart.
fn read_frame(bytes: &[u8], mac: [u8; 6], from: InterfaceId, segment: u32) -> Result<Packet, i32> {
    let (frame, payload) = UdpFrame::parse(bytes).ok_or(libc::EINVAL)?;
    if frame.dst_mac != mac {
        return Err(libc::EINVAL);
    }
    Ok(Packet {
        source: frame.src.into(),
        to: frame.dst.into(),
        mac: Some(mac),
        from: Some(from),
        segment,
        payload: payload.to_vec(),
    })
}
