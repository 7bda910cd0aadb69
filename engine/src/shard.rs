//! The loop of one core: hands datagrams to `dhcp/` or `tftp/` and sends what they decide.
//! Composition only, no rules.

mod probes;
mod quirks;
mod sockets;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bootstorm_net::{Datagram, Handler, Held, Refused, SocketId, Target, Transmit};
use bootstorm_protocols::dhcpv4::{CLIENT_PORT, Message, MessageType, SERVER_PORT};
use bootstorm_protocols::frame::{HEADROOM, UdpFrame};
use bootstorm_protocols::icmp;
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;
use slab::Slab;

use crate::dhcp::{self, Action, Arrival, Delivery, Reply};
use crate::event::{BootEvent, Detail, Kind};
use crate::interfaces::Interface;
use crate::leases::ShardLeases;
use crate::log::EventSink;
use crate::metrics::{OwnMetrics, ShardMetrics};
use crate::snapshot::{SharedSnapshot, SnapshotGuard};
use crate::tftp::TftpShard;
use probes::Probes;
pub use sockets::{Binding, Role, Sockets};

/// An ACK, written into its transmit slot. It is sent when its lease is on disk.
struct Pending {
    held: Option<Held>,
    /// When its request was read.
    received: Moment,
    event: BootEvent,
}

/// An OFFER, written into its transmit slot. It is sent if nobody answers the ping in time.
struct Probed {
    held: Held,
    received: Moment,
    event: BootEvent,
    /// Decided again if the address turns out to be in use.
    request: Request,
}

/// A copy of a request, which outlives its receive buffer.
struct Request {
    socket: SocketId,
    source: SocketAddr,
    destination: Option<IpAddr>,
    broadcast: bool,
    ifindex: u32,
    payload: Box<[u8]>,
}

impl Request {
    fn copy(datagram: &Datagram<'_>) -> Self {
        Self {
            socket: datagram.socket,
            source: datagram.source,
            destination: datagram.destination,
            broadcast: datagram.broadcast,
            ifindex: datagram.ifindex,
            payload: datagram.payload.into(),
        }
    }

    fn datagram(&self) -> Datagram<'_> {
        Datagram {
            socket: self.socket,
            source: self.source,
            destination: self.destination,
            broadcast: self.broadcast,
            ifindex: self.ifindex,
            payload: &self.payload,
            segment: 0,
            truncated: false,
        }
    }
}

/// Counts and reports what was sent.
struct Sent<'a> {
    metrics: &'a ShardMetrics,
    events: &'a mut EventSink,
    /// When the requests were read that this batch answers: it leaves as a whole.
    answered: &'a mut Vec<Moment>,
}

impl Sent<'_> {
    /// A reply leaves with this batch, to a request that was read at `received`.
    fn reply(&mut self, event: &BootEvent, received: Moment) {
        let kind = match event.kind {
            Kind::Offer => MessageType::Offer.code(),
            Kind::Ack => MessageType::Ack.code(),
            Kind::Nak => MessageType::Nak.code(),
            // BOOTP has no message types.
            _ => 0,
        };
        self.metrics.replies.increment(kind.into());
        self.answered.push(received);
        self.events.emit(*event);
    }

    /// An ACK is withheld: its lease could not be written.
    fn not_durable(&mut self, event: &BootEvent) {
        self.metrics.commits_failed.increment();
        self.events.emit(BootEvent { kind: Kind::CommitFailed, ..*event });
    }
}

fn ipv4(address: Option<IpAddr>) -> Option<Ipv4Addr> {
    match address {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    }
}

/// What a shard is made of.
pub struct Parts {
    /// Configuration and interfaces.
    pub snapshot: SharedSnapshot,
    /// Its access to the leases.
    pub leases: ShardLeases,
    /// Its counters.
    pub metrics: OwnMetrics,
    /// Where its events go.
    pub events: EventSink,
    /// Its TFTP transfers; `None` without TFTP.
    pub tftp: Option<TftpShard>,
    /// Decide and log, but send nothing.
    pub dry_run: bool,
    /// Set when the server is stopping: nothing new is begun.
    pub draining: Arc<AtomicBool>,
    /// Reads the clock of the batches, for how long a batch took.
    pub clock: Box<dyn Fn() -> Moment + Send>,
}

/// One shard. The backend's [`Handler`].
pub struct Shard {
    parts: Parts,
    sockets: Sockets,
    link: Option<SocketId>,
    icmp: Option<SocketId>,
    arena: Bump,
    guard: Option<SnapshotGuard>,
    pending: Slab<Pending>,
    probes: Probes<Probed>,
    echo_sequence: u16,
    /// When the requests were read that this batch answers.
    answered: Vec<Moment>,
}

impl Shard {
    /// A shard with the sockets that its backend has.
    pub fn new(parts: Parts, sockets: Sockets) -> Self {
        let link = sockets.of(Role::Link).next();
        let icmp = sockets.of(Role::Icmp).next();
        Self {
            link,
            icmp,
            sockets,
            arena: Bump::new(),
            guard: None,
            pending: Slab::new(),
            probes: Probes::new(),
            echo_sequence: 0,
            answered: Vec::new(),
            parts,
        }
    }

    /// Replaces the sockets, as after a reload or when an interface came or went.
    pub fn set_sockets(&mut self, sockets: Sockets) {
        if let Some(tftp) = &mut self.parts.tftp {
            tftp.set_ports(sockets.tftp_ports());
        }
        self.link = sockets.of(Role::Link).next();
        self.icmp = sockets.of(Role::Icmp).next();
        self.sockets = sockets;
    }

    /// Whether everything that was begun has ended.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.parts.tftp.as_ref().is_none_or(|tftp| tftp.active() == 0)
    }

    /// Whether ACKs wait for the disk.
    pub fn awaits_disk(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Its counters, for what others count.
    pub fn metrics(&self) -> &ShardMetrics {
        &self.parts.metrics
    }

    fn draining(&self) -> bool {
        self.parts.draining.load(Ordering::Relaxed)
    }

    /// Counts a datagram that came to the DHCP port, and answers it.
    fn dhcp<T: Transmit>(&mut self, datagram: &Datagram<'_>, tx: &mut T) {
        let metrics = &self.parts.metrics;
        match Message::parse(datagram.payload) {
            Ok(message) => {
                let kind = message.message_type().map_or(0, |kind| kind.code().into());
                metrics.received.increment(kind);
                self.answer(datagram, &message, None, tx);
            }
            Err(error) => {
                metrics.parse_errors.increment(error.index());
                let source = ipv4(Some(datagram.source.ip())).unwrap_or(Ipv4Addr::UNSPECIFIED);
                let (payload, ifindex) = (datagram.payload, datagram.ifindex);
                self.parts.events.emit(dhcp::malformed(payload, source, ifindex, error));
            }
        }
    }

    /// Answers a message. `waiting_since` is when it was read, where that was before this batch: it
    /// was counted and reported then.
    fn answer<T: Transmit>(
        &mut self,
        datagram: &Datagram<'_>,
        message: &Message<'_>,
        waiting_since: Option<Moment>,
        tx: &mut T,
    ) {
        let Self { parts, guard, arena, pending, probes, answered, .. } = self;
        let Parts { snapshot, leases, metrics, events, tftp, dry_run, .. } = parts;
        let current = guard.get_or_insert_with(|| snapshot.read());
        // The sockets are IPv4's.
        let SocketAddr::V4(source) = datagram.source else { return };
        let unknown = Interface::unknown(datagram.ifindex);
        let interface = current.interfaces.get(datagram.ifindex).unwrap_or(&unknown);
        let arrival = Arrival {
            ifindex: datagram.ifindex,
            // Where an interface is not served, direct clients find no subnet; relayed and unicast
            // requests need none.
            interface: if interface.served { &interface.addresses } else { &[] },
            server: current.interfaces.addresses(),
            mtu: interface.mtu,
            destination: ipv4(datagram.destination),
            source,
        };
        let now = tx.now();
        let received = waiting_since.unwrap_or(now);
        if waiting_since.is_none() {
            events.emit(dhcp::received(message, &arrival));
        }
        let decision = dhcp::answer(message, &arrival, &current.config.dhcp, leases, now, arena);
        if let Some(tftp) = tftp {
            quirks::note(tftp.notes(), &current.config, message, &decision.action);
        }
        let event = decision.event;
        let mut sent = Sent { metrics, events, answered };
        match decision.action {
            Action::Silence(silence) => {
                sent.metrics.silences.increment(silence.index());
                sent.events.emit(event);
            }
            Action::Record { change, .. } => {
                sent.events.emit(event);
                // No client waits for it. If the queue is full, the committer's counters say so.
                let _undone = leases.submit(change, None, now);
            }
            Action::Reply(reply) => {
                let path = ReplyPath::of(&reply, datagram, interface, self.link);
                match *dry_run || path.send(&reply, tx).is_ok() {
                    true => {
                        if let Some(reason) = reply.nak {
                            sent.metrics.naks.increment(reason.index());
                        }
                        sent.reply(&event, received);
                    }
                    false => sent.metrics.send_failures.increment(),
                }
            }
            Action::AckWhenDurable { change, reply } => {
                let path = ReplyPath::of(&reply, datagram, interface, self.link);
                let held = match *dry_run {
                    true => None,
                    false => match path.hold(&reply, tx) {
                        Ok(held) => Some(held),
                        Err(_) => {
                            leases.abandon(change, now);
                            return sent.metrics.send_failures.increment();
                        }
                    },
                };
                let token = pending.insert(Pending { held, received, event });
                if leases.submit(change, Some(token as u64), now).is_err() {
                    pending.remove(token).held.into_iter().for_each(|held| tx.discard(held));
                    sent.not_durable(&event);
                }
                sent.metrics.commits_pending.set(pending.len() as u64);
            }
            Action::ProbeThenOffer(reply) => {
                if probes.contains(reply.yiaddr) {
                    // The client asks again while its OFFER waits for the ping.
                    return;
                }
                let path = ReplyPath::of(&reply, datagram, interface, self.link);
                let Some(icmp) = self.icmp.filter(|_| !*dry_run && probes.has_room()) else {
                    return match *dry_run || path.send(&reply, tx).is_ok() {
                        true => sent.reply(&event, received),
                        false => sent.metrics.send_failures.increment(),
                    };
                };
                let Ok(held) = path.hold(&reply, tx) else {
                    return sent.metrics.send_failures.increment();
                };
                self.echo_sequence = self.echo_sequence.wrapping_add(1);
                let echo = icmp::echo_request(ECHO_IDENTIFIER, self.echo_sequence);
                let to = SocketAddr::from((reply.yiaddr, 0));
                let target = Target::Udp { to, from: None, ifindex: 0 };
                // A ping that cannot be sent gets no answer: the address is offered after the wait.
                let _unanswered = tx.send(icmp, &target, |buf| {
                    buf[..echo.len()].copy_from_slice(&echo);
                    echo.len()
                });
                let wait = current.config.dhcp.ping_check.unwrap_or_default();
                let request = Request::copy(datagram);
                probes.begin(reply.yiaddr, now + wait, Probed { held, received, event, request });
            }
        }
    }

    /// A host answered a ping: the address is put in quarantine, and the client gets another one.
    fn echo<T: Transmit>(&mut self, packet: &[u8], tx: &mut T) {
        let Some(address) = icmp::echo_reply_from(packet, ECHO_IDENTIFIER) else { return };
        let Some(probed) = self.probes.answered(address) else { return };
        tx.discard(probed.held);
        let now = tx.now();
        let Parts { snapshot, leases, metrics, events, .. } = &mut self.parts;
        let quarantine = self.guard.get_or_insert_with(|| snapshot.read()).config.dhcp.decline_time;
        metrics.addresses_in_use.increment();
        events.emit(BootEvent {
            kind: Kind::Decline,
            detail: Detail::Reason("the address answers ping: quarantined"),
            ..probed.event
        });
        if let Some(change) = leases.quarantine(address, now + quarantine) {
            // If it is undone, the address will be pinged again before the next offer.
            let _undone = leases.submit(change, None, now);
        }
        let datagram = probed.request.datagram();
        // It was parsed before it was kept.
        if let Ok(message) = Message::parse(datagram.payload) {
            self.answer(&datagram, &message, Some(probed.received), tx);
        }
    }

    /// Sends the offers whose address did not answer the ping in time.
    fn offers_due<T: Transmit>(&mut self, tx: &mut T) {
        let now = tx.now();
        let Self { parts: Parts { metrics, events, .. }, probes, answered, .. } = self;
        while let Some(probed) = probes.due(now) {
            tx.submit(probed.held);
            Sent { metrics, events, answered }.reply(&probed.event, probed.received);
        }
    }

    /// Sends the ACKs whose leases are on disk, and discards those whose leases were not written.
    fn committed<T: Transmit>(&mut self, tx: &mut T) {
        let Self { parts, pending, answered, .. } = self;
        let Parts { leases, metrics, events, .. } = parts;
        leases.completed(|token, result| {
            let Some(ack) = pending.try_remove(token as usize) else { return };
            match (result, ack.held) {
                (Ok(()), held) => {
                    held.into_iter().for_each(|held| tx.submit(held));
                    Sent { metrics, events, answered }.reply(&ack.event, ack.received);
                }
                (Err(_), held) => {
                    held.into_iter().for_each(|held| tx.discard(held));
                    Sent { metrics, events, answered }.not_durable(&ack.event);
                }
            }
        });
        metrics.commits_pending.set(pending.len() as u64);
    }
}

impl Shard {
    /// The replies of a batch are handed to the kernel together, at its end.
    fn observe_latencies(&mut self) {
        if !self.answered.is_empty() {
            let now = (self.parts.clock)();
            let latency = &self.parts.metrics.reply_latency;
            self.answered.drain(..).for_each(|received| latency.observe(now.since(received)));
        }
    }
}

impl<T: Transmit> Handler<T> for Shard {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        let Some(role) = self.sockets.role(datagram.socket) else { return };
        let begins = matches!(role, Role::Dhcp | Role::TftpRequests(_));
        if begins && self.draining() {
            return;
        }
        match (role, &mut self.parts.tftp) {
            // The packet engine counts truncated datagrams; half a message is not parsed.
            (Role::Dhcp, _) if !datagram.truncated => self.dhcp(&datagram, tx),
            (Role::TftpRequests(_) | Role::TftpData(_), Some(tftp)) => tftp.datagram(&datagram, tx),
            (Role::Icmp, _) => self.echo(datagram.payload, tx),
            _ => {}
        }
    }

    fn woken(&mut self, tx: &mut T) {
        self.committed(tx);
        if let Some(tftp) = &mut self.parts.tftp {
            tftp.woken(tx);
        }
    }

    fn sent(&mut self, token: u64, result: io::Result<()>, _: &mut T) {
        if let Some(tftp) = &mut self.parts.tftp {
            tftp.sent(token, &result);
        }
    }

    fn batch_end(&mut self, dry: bool, tx: &mut T) -> Option<Moment> {
        self.offers_due(tx);
        let Parts { leases, events, tftp, .. } = &mut self.parts;
        let mut next = self.probes.next();
        if let Some(tftp) = tftp {
            let timer = tftp.batch_end(dry, tx);
            next = next.into_iter().chain(timer).min();
            tftp.take_events().for_each(|event| events.emit(event));
        }
        if leases.kick(dry) {
            next = Some(tx.now());
        }
        events.batch_end();
        self.observe_latencies();
        self.arena.reset();
        self.guard = None;
        next
    }
}

/// The ICMP identifier of this server's pings.
const ECHO_IDENTIFIER: u16 = 0xb007;

/// How a reply is sent: by which socket, to which address, and in which frame.
struct ReplyPath {
    socket: SocketId,
    target: Target,
    frame: Option<UdpFrame>,
}

impl ReplyPath {
    fn of(
        reply: &Reply<'_>,
        request: &Datagram<'_>,
        interface: &Interface,
        link: Option<SocketId>,
    ) -> Self {
        let from = Some(IpAddr::V4(reply.source));
        let udp = |to: SocketAddrV4, ifindex| Self {
            socket: request.socket,
            target: Target::Udp { to: SocketAddr::V4(to), from, ifindex },
            frame: None,
        };
        match (reply.delivery, link, interface.mac) {
            (Delivery::Relay(to) | Delivery::Unicast(to), _, _) => udp(to, 0),
            (Delivery::Link { ip, mac }, Some(socket), Some(src_mac)) => Self {
                socket,
                target: Target::Link { ifindex: interface.index, mac },
                frame: Some(UdpFrame {
                    src_mac,
                    dst_mac: mac,
                    src: SocketAddrV4::new(reply.source, SERVER_PORT),
                    dst: SocketAddrV4::new(ip, CLIENT_PORT),
                }),
            },
            // Without a packet socket a client that has no address can only be reached by broadcast.
            (Delivery::Broadcast | Delivery::Link { .. }, _, _) => {
                udp(SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT), interface.index)
            }
        }
    }

    fn send<T: Transmit>(&self, reply: &Reply<'_>, tx: &mut T) -> Result<(), Refused> {
        tx.send(self.socket, &self.target, |buf| self.write(reply, buf))
    }

    fn hold<T: Transmit>(&self, reply: &Reply<'_>, tx: &mut T) -> Result<Held, Refused> {
        tx.hold(self.socket, &self.target, |buf| self.write(reply, buf))
    }

    fn write(&self, reply: &Reply<'_>, buf: &mut [u8]) -> usize {
        let Some(frame) = &self.frame else { return reply.write(buf) };
        // A slot is longer than a frame's headers.
        let Some(payload) = buf.get_mut(HEADROOM..) else { return 0 };
        let len = reply.write(payload);
        // What fits in a slot fits in a frame.
        frame.seal(buf, len).unwrap_or(0)
    }
}
