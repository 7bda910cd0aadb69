//! The loop of one core: hands datagrams to `dhcp/` or `tftp/` and sends what they decide.
//! Composition only, no rules.

mod delays;
mod pace;
mod ping;
mod probes;
mod quirks;
mod replies;
mod sockets;
#[cfg(test)]
mod tests;
mod untaken;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bootstorm_net::{Datagram, Handler, Held, Limits, Priority, SocketId, Transmit};
use bootstorm_protocols::dhcpv4::{Message, MessageType};
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;
use slab::Slab;

use crate::dhcp::{self, Action, Decision, HoldersTold, ReplyCache};
use crate::event::Unsent;
use crate::hooks::{Hooks, Tasks};
use crate::interfaces::Interface;
use crate::leases::ShardLeases;
use crate::log::EventSink;
use crate::metrics::{OwnMetrics, ShardMetrics};
use crate::recent::Recent;
use crate::snapshot::{SharedSnapshot, SnapshotGuard};
use crate::tftp::TftpShard;
use delays::Delays;
use pace::Pace;
use ping::{NotPingedTold, Probed, Request};
use probes::Probes;
use replies::{Answer, Replies, ReplyPath};
pub use sockets::{Binding, Role, Sockets, dhcp_steering, split_discovers};
use untaken::Untaken;

/// An ACK, written into its transmit slot. It is sent after its lease is on disk.
struct Pending {
    held: Option<Held>,
    answer: Answer,
    /// What else is to be done then.
    tasks: Option<Box<Tasks>>,
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

/// After so many turns that left something in the sockets, more comes than can be answered.
const FULL_TURNS: u32 = 8;

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
    /// What has programs run.
    pub hooks: Hooks,
    /// What it received last.
    pub recent: Arc<Recent>,
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
    not_pinged: NotPingedTold,
    holders: HoldersTold,
    delays: Delays<(Held, Answer)>,
    /// DISCOVERs that were answered and not followed up, by link.
    untaken: Untaken,
    /// Turns since the sockets were empty last.
    full_turns: u32,
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
            not_pinged: NotPingedTold::default(),
            holders: HoldersTold::default(),
            delays: Delays::new(),
            untaken: Untaken::new(),
            full_turns: 0,
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
    fn has_transfers(&self) -> bool {
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

    /// Whether more comes than can be answered.
    fn is_overloaded(&self) -> bool {
        self.full_turns >= FULL_TURNS
    }

    fn draining(&self) -> bool {
        self.parts.draining.load(Ordering::Relaxed)
    }

    /// Counts a datagram that came to the DHCP port, and answers it. `paced`: it waited until a
    /// reply may leave.
    fn dhcp<T: Transmit>(&mut self, datagram: &Datagram<'_>, paced: bool, tx: &mut T) {
        let metrics = &self.parts.metrics;
        // Matched by reference: a message is long, and every move is a copy.
        match &Message::parse(datagram.payload) {
            Ok(message) => {
                let kind = message.message_type();
                metrics.received.increment(kind.map_or(0, |kind| kind.code().into()));
                if kind == Some(MessageType::Discover) {
                    let (ifindex, giaddr, now) = (datagram.ifindex, message.giaddr(), tx.now());
                    let in_vain = self.is_overloaded() && !self.untaken.may(ifindex, giaddr, now);
                    if in_vain || self.has_backlog() {
                        return metrics.discovers_refused.increment();
                    }
                    self.untaken.answered(ifindex, giaddr, now);
                }
                if paced {
                    self.pace.expect(tx.now());
                    self.pace.take(1, tx.now());
                }
                self.answer(datagram, message, None, tx);
            }
            Err(error) => {
                metrics.parse_errors.increment(error.index());
                let source = ipv4(Some(datagram.source.ip())).unwrap_or(Ipv4Addr::UNSPECIFIED);
                let (payload, ifindex) = (datagram.payload, datagram.ifindex);
                self.parts.events.emit(&dhcp::malformed(payload, source, ifindex, *error));
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
        if let Some((probed, until)) = self.decide(datagram, message, waiting_since, tx) {
            self.ping(probed, until, tx);
        }
    }

    /// The same, but for an OFFER whose address is to be pinged first: returns it, and until when
    /// it waits for an answer.
    fn decide<T: Transmit>(
        &mut self,
        datagram: &Datagram<'_>,
        message: &Message<'_>,
        waiting_since: Option<Moment>,
        tx: &mut T,
    ) -> Option<(Probed, Moment)> {
        let Self {
            parts,
            guard,
            arena,
            pending,
            pace,
            probes,
            not_pinged,
            delays,
            cache,
            answered,
            holders,
            untaken,
            ..
        } = self;
        let Parts { snapshot, leases, metrics, events, hooks, recent, tftp, dry_run, .. } = parts;
        let current = guard.get_or_insert_with(|| snapshot.read());
        // The sockets are IPv4's.
        let SocketAddr::V4(source) = datagram.source else { return None };
        let unknown = Interface::unknown(datagram.ifindex);
        let interface = current.interfaces.get(datagram.ifindex).unwrap_or(&unknown);
        let destination = ipv4(datagram.destination);
        let arrival = current.interfaces.arrival(datagram.ifindex, destination, source);
        let only_address = current.interfaces.only_address();
        let now = tx.now();
        let received = waiting_since.unwrap_or(now);
        if waiting_since.is_none() {
            recent.keep(now, datagram.ifindex, source, destination, datagram.payload);
            events.emit_with(dhcp::received_kind(message), || dhcp::received(message, &arrival));
        }
        let decision = dhcp::answer(message, &arrival, &current.config.dhcp, leases, now, arena);
        let notes = tftp.as_ref().map(|tftp| tftp.notes());
        let delay = quirks::apply(notes, &current.config, message.chaddr(), &decision.action);
        let Decision { action, changes, holder, variables_lost } = decision;
        let endings = matches!(action, Action::AckWhenDurable(_)).then(|| leases.endings());
        let nak = action.reply().and_then(|reply| reply.nak);
        let event = dhcp::decided(message, &arrival, &action);
        let answer = Answer { received, due: received + delay, event, nak, endings };
        let event = &answer.event;
        if let Some(told) = holder.and_then(|holder| holders.event(&holder, event, now)) {
            events.emit(&told);
        }
        if variables_lost > 0 {
            metrics.variables_lost.add(variables_lost.into());
            events.emit(&dhcp::variables_lost(event));
        }
        dhcp::logged(&action, event).for_each(|logged| events.emit(&logged));
        let mut tasks = dhcp::tasks(&action, event);
        let dry_run = *dry_run;
        let mut replies = Replies { metrics, events, hooks, answered, delays, cache, dry_run };
        if !matches!(action, Action::AckWhenDurable(_) | Action::ProbeThenOffer(..)) {
            replies.carry_out(tasks.take(), event);
        }
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
                replies.send(reply, &path, &answer, tx);
            }
            Action::AckWhenDurable(reply) => {
                untaken.followed_up(datagram.ifindex, message.giaddr());
                let changes = changes.into_iter().flatten();
                let path = ReplyPath::of(reply, datagram, interface, self.link, only_address);
                let held = match replies.dry_run {
                    true => None,
                    false => match path.hold(reply, replies.cache, tx) {
                        Ok(held) => Some(held),
                        Err(_) => {
                            changes.for_each(|change| leases.abandon(change, now));
                            replies.metrics.send_failures.increment();
                            return None;
                        }
                    },
                };
                pace.expect(now);
                let token = pending.insert(Pending { held, answer, tasks });
                if let Err(why) = leases.submit(changes, Some(token as u64), now) {
                    pending.remove(token).held.into_iter().for_each(|held| tx.discard(held));
                    replies.withheld(event, why);
                }
                replies.metrics.commits_pending.set(pending.len() as u64);
            }
            Action::ProbeThenOffer(reply, wait) => {
                if probes.contains(reply.yiaddr) {
                    // The client asks again while its OFFER waits for the ping.
                    return None;
                }
                let path = ReplyPath::of(reply, datagram, interface, self.link, only_address);
                let offered = replies.dry_run || !leases.is_damaged(now);
                if replies.dry_run || !probes.has_room() {
                    match offered {
                        true => {
                            replies.carry_out(tasks, event);
                            replies.send(reply, &path, &answer, tx);
                        }
                        false => replies.not_probed(event),
                    }
                    if !replies.dry_run {
                        not_pinged.tell(&mut replies, event, Unsent::TooMany, offered, now);
                    }
                    return None;
                }
                let Ok(held) = path.hold(reply, replies.cache, tx) else {
                    replies.metrics.send_failures.increment();
                    return None;
                };
                let until = now + wait;
                let request = Request::copy(datagram);
                return Some((Probed { held, answer, tasks, request }, until));
            }
        }
        None
    }

    /// Sends the replies that were delayed until now, and the offers whose address did not answer
    /// the ping in time.
    fn replies_due<T: Transmit>(&mut self, tx: &mut T) {
        let now = tx.now();
        let Self { parts, probes, delays, cache, answered, .. } = self;
        let Parts { leases, metrics, events, hooks, dry_run, .. } = parts;
        let dry_run = *dry_run;
        let mut replies = Replies { metrics, events, hooks, answered, delays, cache, dry_run };
        replies.submit_due(leases, tx);
        let mut unsent = Vec::new();
        while let Some((probed, sent)) = probes.due(now) {
            match sent {
                true => replies.offer(probed, leases, tx),
                false => unsent.push(probed),
            }
        }
        unsent.into_iter().for_each(|probed| self.unprobed(probed, Unsent::NoRoom, tx));
    }

    /// Takes the ACKs whose leases are on disk, and discards those whose leases were not written.
    fn committed<T: Transmit>(&mut self, tx: &mut T) {
        let Self { parts, pending, durable, delays, cache, answered, .. } = self;
        let Parts { leases, metrics, events, hooks, dry_run, .. } = parts;
        let dry_run = *dry_run;
        let mut replies = Replies { metrics, events, hooks, answered, delays, cache, dry_run };
        leases.completed(|token, result| {
            let Some(mut ack) = pending.try_remove(token as usize) else { return };
            match result {
                Ok(()) => {
                    replies.carry_out(ack.tasks.take(), &ack.answer.event);
                    durable.push_back(ack);
                }
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
        let Parts { leases, metrics, events, hooks, dry_run, .. } = parts;
        let dry_run = *dry_run;
        let mut replies = Replies { metrics, events, hooks, answered, delays, cache, dry_run };
        for Pending { held, answer, .. } in durable.drain(..pace.take(durable.len(), tx.now())) {
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
            (Role::Dhcp, _) if !datagram.truncated => self.dhcp(&datagram, false, tx),
            (Role::Discovers, _) if !datagram.truncated => self.dhcp(&datagram, true, tx),
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

    fn sent(&mut self, token: u64, result: io::Result<()>, tx: &mut T) {
        if probes::is_token(token) {
            self.pinged(token, result, tx);
        } else if let Some(tftp) = &mut self.parts.tftp {
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
        self.full_turns = if dry { 0 } else { self.full_turns.saturating_add(1) };
        let next_acks = self.release(tx);
        let next_offers = self.pace.resumes(tx.now());
        self.replies_due(tx);
        let Parts { leases, events, tftp, .. } = &mut self.parts;
        let mut next = self.probes.next().into_iter().chain(self.delays.next()).min();
        next = next.into_iter().chain(next_acks).chain(next_offers).min();
        if let Some(tftp) = tftp {
            let timer = tftp.batch_end(dry, tx);
            next = next.into_iter().chain(timer).min();
            tftp.take_events().for_each(|event| events.emit(&event));
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
