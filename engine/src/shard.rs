//! The loop of one core: hands datagrams to `dhcp/` or `tftp/` and sends what they decide.
//! Composition only, no rules.

mod delays;
mod pace;
mod probes;
mod quirks;
mod replies;
mod sockets;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bootstorm_net::{Datagram, Handler, Held, Limits, Priority, SocketId, Target, Transmit};
use bootstorm_protocols::dhcpv4::{Message, MessageType};
use bootstorm_protocols::icmp;
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;
use slab::Slab;

use crate::config::Dhcp;
use crate::dhcp::{self, Action, Arrival, Decision, HoldersTold, ReplyCache};
use crate::event::{BootEvent, Detail, Kind};
use crate::interfaces::Interface;
use crate::leases::ShardLeases;
use crate::log::EventSink;
use crate::metrics::{OwnMetrics, ShardMetrics};
use crate::snapshot::{SharedSnapshot, SnapshotGuard};
use crate::tftp::TftpShard;
use delays::Delays;
use pace::Pace;
use probes::Probes;
use replies::{Answer, Replies, ReplyPath};
pub use sockets::{Binding, Role, Sockets, dhcp_steering, split_discovers};

/// An ACK, written into its transmit slot. It is sent after its lease is on disk.
struct Pending {
    held: Option<Held>,
    answer: Answer,
}

/// An OFFER, written into its transmit slot. It is sent if nobody answers the ping in time.
struct Probed {
    held: Held,
    answer: Answer,
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

fn ipv4(address: Option<IpAddr>) -> Option<Ipv4Addr> {
    match address {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    }
}

/// Replies that wait in their transmit slots at once, by what they wait for: the disk (half a
/// second of a storm), the ping of an address, the end of their delay.
const MOST_HELD: usize = ShardLeases::MOST_WAITING + probes::LIMIT + delays::LIMIT;

/// Transmit slots that nothing waits in: a disk that stalls takes none of them from OFFERs, OACKs
/// and errors.
const PASSING: usize = 2048;

/// ACKs that wait for the disk before the shard takes no DISCOVER: it finishes what it began. Twice
/// what the committer writes at once, and more, so that a quick disk is never idle; a slow one has
/// them written in a few tenths of a second, when no client has given up yet.
const BACKLOG: usize = 1024;

/// What the packet engine of a shard holds.
#[must_use]
pub fn limits() -> Limits {
    Limits { slots: (MOST_HELD + PASSING) as u32, held: MOST_HELD as u32, ..Limits::default() }
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
    /// Set when the server is stopping: no transfer is begun. What asks for an address is answered
    /// if it was received; from then on it waits in its socket.
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
    /// ACKs whose leases are on disk, until it is their turn.
    durable: VecDeque<Pending>,
    /// How fast ACKs and OFFERs leave.
    pace: Pace,
    probes: Probes<Probed>,
    holders: HoldersTold,
    delays: Delays<(Held, Answer)>,
    /// Replies that were written before.
    cache: ReplyCache,
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
            durable: VecDeque::new(),
            pace: Pace::new(),
            probes: Probes::new(),
            holders: HoldersTold::default(),
            delays: Delays::new(),
            cache: ReplyCache::default(),
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
        self.pending.is_empty()
            && self.durable.is_empty()
            && self.delays.is_empty()
            && self.parts.tftp.as_ref().is_none_or(|tftp| tftp.active() == 0)
    }

    /// Whether ACKs wait for the disk.
    pub fn awaits_disk(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether files are on their way.
    pub fn has_transfers(&self) -> bool {
        self.parts.tftp.as_ref().is_some_and(|tftp| tftp.active() > 0)
    }

    /// Its counters, for what others count.
    pub fn metrics(&self) -> &ShardMetrics {
        &self.parts.metrics
    }

    /// Whether more was begun than can be finished soon.
    fn has_backlog(&self) -> bool {
        self.pending.len() >= BACKLOG
    }

    fn draining(&self) -> bool {
        self.parts.draining.load(Ordering::Relaxed)
    }

    /// Counts a datagram that came to the DHCP port, and answers it.
    fn dhcp<T: Transmit>(&mut self, datagram: &Datagram<'_>, tx: &mut T) {
        let metrics = &self.parts.metrics;
        match Message::parse(datagram.payload) {
            Ok(message) => {
                let kind = message.message_type();
                metrics.received.increment(kind.map_or(0, |kind| kind.code().into()));
                if kind == Some(MessageType::Discover) && self.has_backlog() {
                    return metrics.discovers_refused.increment();
                }
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
        let Self {
            parts,
            guard,
            arena,
            pending,
            pace,
            probes,
            delays,
            cache,
            answered,
            holders,
            ..
        } = self;
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
        let only_address = current.interfaces.only_address();
        let now = tx.now();
        let received = waiting_since.unwrap_or(now);
        if waiting_since.is_none() {
            events.emit_with(dhcp::received_kind(message), || dhcp::received(message, &arrival));
        }
        let decision = dhcp::answer(message, &arrival, &current.config.dhcp, leases, now, arena);
        let notes = tftp.as_ref().map(|tftp| tftp.notes());
        let delay = quirks::apply(notes, &current.config, message.chaddr(), &decision.action);
        let Decision { action, changes, event, holder } = decision;
        if let Some(told) = holder.and_then(|holder| holders.event(&holder, &event, now)) {
            events.emit(told);
        }
        let endings = matches!(action, Action::AckWhenDurable(_)).then(|| leases.endings());
        let nak = action.reply().and_then(|reply| reply.nak);
        let answer = Answer { received, due: received + delay, event, nak, endings };
        let dry_run = *dry_run;
        let mut replies = Replies { metrics, events, answered, delays, cache, dry_run };
        let changes = if let Action::AckWhenDurable(_) = action {
            Some(changes)
        } else {
            // No client waits for these. If the queue is full, the committer's counters say so.
            let _undone = leases.submit(changes, None, now);
            None
        };
        match action {
            Action::Silence(silence) => {
                replies.metrics.silences.increment(silence.index());
                replies.events.emit(event);
            }
            Action::Record { .. } => replies.events.emit(event),
            Action::Reply(reply) => {
                let path = ReplyPath::of(reply, datagram, interface, self.link, only_address);
                replies.send(reply, &path, answer, tx);
            }
            Action::AckWhenDurable(reply) => {
                let changes = changes.into_iter().flatten();
                let path = ReplyPath::of(reply, datagram, interface, self.link, only_address);
                let held = match replies.dry_run {
                    true => None,
                    false => match path.hold(reply, replies.cache, tx) {
                        Ok(held) => Some(held),
                        Err(_) => {
                            changes.for_each(|change| leases.abandon(change, now));
                            return replies.metrics.send_failures.increment();
                        }
                    },
                };
                pace.expect(now);
                let token = pending.insert(Pending { held, answer });
                if let Err(why) = leases.submit(changes, Some(token as u64), now) {
                    pending.remove(token).held.into_iter().for_each(|held| tx.discard(held));
                    replies.withheld(&event, why);
                }
                replies.metrics.commits_pending.set(pending.len() as u64);
            }
            Action::ProbeThenOffer(reply) => {
                if probes.contains(reply.yiaddr) {
                    // The client asks again while its OFFER waits for the ping.
                    return;
                }
                let path = ReplyPath::of(reply, datagram, interface, self.link, only_address);
                // The wish for a ping can do without one; a store that has lost leases cannot.
                let needed = !replies.dry_run && leases.is_damaged(now);
                let Some(icmp) = self.icmp.filter(|_| !replies.dry_run && probes.has_room()) else {
                    if needed {
                        return replies.not_probed(&event);
                    }
                    return replies.send(reply, &path, answer, tx);
                };
                let Ok(held) = path.hold(reply, replies.cache, tx) else {
                    return replies.metrics.send_failures.increment();
                };
                self.echo_sequence = self.echo_sequence.wrapping_add(1);
                let echo = icmp::echo_request(ECHO_IDENTIFIER, self.echo_sequence);
                let to = SocketAddr::from((reply.yiaddr, 0));
                let target = Target::Udp { to, from: None, ifindex: 0 };
                let sent = tx.send(icmp, &target, |buf| {
                    buf[..echo.len()].copy_from_slice(&echo);
                    echo.len()
                });
                // A ping that cannot be sent gets no answer: the address is offered after the wait.
                if sent.is_err() && needed {
                    tx.discard(held);
                    return replies.not_probed(&event);
                }
                let wait = current.config.dhcp.ping_check.unwrap_or(Dhcp::PING_WAIT);
                let request = Request::copy(datagram);
                probes.begin(reply.yiaddr, now + wait, Probed { held, answer, request });
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
            ..probed.answer.event
        });
        if let Some(change) = leases.quarantine(address, now, now + quarantine) {
            // If it is undone, the address will be pinged again before the next offer.
            let _undone = leases.submit(change, None, now);
        }
        let datagram = probed.request.datagram();
        // It was parsed before it was kept.
        if let Ok(message) = Message::parse(datagram.payload) {
            self.answer(&datagram, &message, Some(probed.answer.received), tx);
        }
    }

    /// Sends the replies that were delayed until now, and the offers whose address did not answer
    /// the ping in time.
    fn replies_due<T: Transmit>(&mut self, tx: &mut T) {
        let now = tx.now();
        let Self { parts, probes, delays, cache, answered, .. } = self;
        let Parts { leases, metrics, events, dry_run, .. } = parts;
        let dry_run = *dry_run;
        let mut replies = Replies { metrics, events, answered, delays, cache, dry_run };
        replies.submit_due(leases, tx);
        while let Some(probed) = probes.due(now) {
            replies.submit(Some(probed.held), probed.answer, leases, tx);
        }
    }

    /// Takes the ACKs whose leases are on disk, and discards those whose leases were not written.
    fn committed<T: Transmit>(&mut self, tx: &mut T) {
        let Self { parts, pending, durable, delays, cache, answered, .. } = self;
        let Parts { leases, metrics, events, dry_run, .. } = parts;
        let dry_run = *dry_run;
        let mut replies = Replies { metrics, events, answered, delays, cache, dry_run };
        leases.completed(|token, result| {
            let Some(ack) = pending.try_remove(token as usize) else { return };
            match result {
                Ok(()) => durable.push_back(ack),
                Err(why) => {
                    ack.held.into_iter().for_each(|held| tx.discard(held));
                    replies.withheld(&ack.answer.event, why);
                }
            }
        });
        replies.metrics.commits_pending.set(pending.len() as u64);
    }

    /// Sends the ACKs whose turn it is; returns when the next may leave.
    fn release<T: Transmit>(&mut self, tx: &mut T) -> Option<Moment> {
        let Self { parts, durable, pace, delays, cache, answered, .. } = self;
        let Parts { leases, metrics, events, dry_run, .. } = parts;
        let dry_run = *dry_run;
        let mut replies = Replies { metrics, events, answered, delays, cache, dry_run };
        for Pending { held, answer } in durable.drain(..pace.take(durable.len(), tx.now())) {
            replies.submit(held, answer, leases, tx);
        }
        pace.next(durable.len(), tx.now())
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
        let draining = self.draining();
        match (role, &mut self.parts.tftp) {
            // The packet engine counts truncated datagrams; half a message is not parsed.
            (Role::Dhcp, _) if !datagram.truncated => self.dhcp(&datagram, tx),
            (Role::Discovers, _) => {
                self.pace.expect(tx.now());
                self.pace.take(1, tx.now());
                if !datagram.truncated {
                    self.dhcp(&datagram, tx);
                }
            }
            (Role::TftpRequests(_) | Role::TftpData(_), Some(tftp)) => {
                if draining {
                    tftp.drain();
                }
                tftp.datagram(&datagram, tx);
            }
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

    fn takes(&self, priority: Priority, now: Moment) -> bool {
        // Only sockets of DISCOVERs have it.
        priority != Priority::Middle || (!self.has_backlog() && self.pace.may(now))
    }

    fn polls(&self) -> bool {
        // The next ACK of a transfer may be near. Beside the disk and the next machine that asks
        // for an address a sleep counts for nothing, and the disk's threads may want the core.
        self.has_transfers() && self.pending.is_empty()
    }

    fn batch_end(&mut self, dry: bool, tx: &mut T) -> Option<Moment> {
        let next_acks = self.release(tx);
        let next_offers = self.pace.resumes(tx.now());
        self.replies_due(tx);
        let Parts { leases, events, tftp, .. } = &mut self.parts;
        let mut next = self.probes.next().into_iter().chain(self.delays.next()).min();
        next = next.into_iter().chain(next_acks).chain(next_offers).min();
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
