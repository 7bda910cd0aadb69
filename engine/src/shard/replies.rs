//! Replies on their way out: by which socket, in which frame, at once or later, and what is counted
//! and reported of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use bootstorm_net::{Datagram, Held, Refused, SocketId, Target, Transmit};
use bootstorm_protocols::dhcpv4::{MessageType, SERVER_PORT};
use bootstorm_protocols::frame::{HEADROOM, UdpFrame};
use bootstorm_protocols::time::Moment;

use super::delays::Delays;
use super::ping::Probed;
use crate::dhcp::{Delivery, NakReason, Reply, ReplyCache, Silence};
use crate::event::{BootEvent, Detail, Kind};
use crate::hooks::{Hooks, Job, Tasks};
use crate::interfaces::Interface;
use crate::leases::{Lease, NotDurable, ShardLeases};
use crate::log::EventSink;
use crate::metrics::ShardMetrics;

/// What is known of a reply besides its bytes.
#[derive(Copy, Clone, Debug)]
pub(super) struct Answer {
    /// When its request was read.
    pub(super) received: Moment,
    /// It does not leave before.
    pub(super) due: Moment,
    /// What is logged when it leaves.
    pub(super) event: BootEvent,
    /// Why it is a NAK.
    pub(super) nak: Option<NakReason>,
    /// For what waits for a lease: [`ShardLeases::endings`] when it was decided.
    pub(super) endings: Option<u64>,
}

impl Answer {
    /// Whether the lease that it tells of has been given back or taken away while it waited. A
    /// lease that is not on disk is another one, whose own ACK comes.
    fn is_void(&self, leases: &ShardLeases, now: Moment) -> bool {
        let BootEvent { address, hardware, .. } = self.event;
        let holds = |lease: &Lease| lease.is_active(now) && lease.hardware == hardware;
        self.endings.is_some_and(|before| before != leases.endings())
            && !leases.at(address, now).is_some_and(|lease| holds(&lease) && !lease.pending)
    }
}

/// Sends replies, counts them and reports them.
pub(super) struct Replies<'a> {
    pub(super) metrics: &'a ShardMetrics,
    pub(super) events: &'a mut EventSink,
    /// What has programs run.
    pub(super) hooks: &'a Hooks,
    /// When the requests were read that this batch answers: it leaves as a whole.
    pub(super) answered: &'a mut Vec<Moment>,
    pub(super) delays: &'a mut Delays<(Held, Answer)>,
    pub(super) cache: &'a mut ReplyCache,
    /// Send nothing.
    pub(super) dry_run: bool,
}

impl Replies<'_> {
    /// Sends a reply as soon as it is due.
    pub(super) fn send<T: Transmit>(
        &mut self,
        reply: &Reply<'_>,
        path: &ReplyPath,
        answer: &Answer,
        tx: &mut T,
    ) {
        let waits = answer.due > tx.now() && !self.dry_run;
        if waits
            && self.delays.has_room()
            && let Ok(held) = path.hold(reply, self.cache, tx)
        {
            return self.delays.add(answer.due, (held, *answer));
        }
        match self.dry_run || path.send(reply, self.cache, tx).is_ok() {
            true => self.leaves(answer, waits),
            false => self.metrics.send_failures.increment(),
        }
    }

    /// Sends a reply that was held back, as soon as it is due. `None` is that of a dry run. An ACK
    /// whose client has given the address back meanwhile does not leave.
    pub(super) fn submit<T: Transmit>(
        &mut self,
        held: Option<Held>,
        answer: Answer,
        leases: &ShardLeases,
        tx: &mut T,
    ) {
        if answer.is_void(leases, tx.now()) {
            held.into_iter().for_each(|held| tx.discard(held));
            return self.withheld(&answer.event, NotDurable::GivenUp);
        }
        let early = match held {
            Some(held) if answer.due > tx.now() && self.delays.has_room() => {
                return self.delays.add(answer.due, (held, answer));
            }
            Some(held) => {
                tx.submit(held);
                answer.due > tx.now()
            }
            None => false,
        };
        self.leaves(&answer, early);
    }

    /// Sends an OFFER that has waited for its ping.
    pub(super) fn offer<T: Transmit>(&mut self, probed: Probed, leases: &ShardLeases, tx: &mut T) {
        let Probed { held, answer, tasks, .. } = probed;
        self.carry_out(tasks, &answer.event);
        self.submit(Some(held), answer, leases, tx);
    }

    /// Does what statements ask for besides a reply: logs, and has programs run. `about` is the
    /// event of the reply.
    pub(super) fn carry_out(&mut self, tasks: Option<Box<Tasks>>, about: &BootEvent) {
        let Some(tasks) = tasks else { return };
        tasks.logs.iter().for_each(|log| self.events.emit(log));
        for command in tasks.commands {
            if !self.hooks.ask(Job::Run(command)) {
                let detail = Detail::Reason("so many programs wait to be run that it was dropped");
                self.events.emit(&BootEvent { kind: Kind::HookFailed, detail, ..*about });
            }
        }
    }

    /// Sends the replies that have waited until they were due.
    pub(super) fn submit_due<T: Transmit>(&mut self, leases: &ShardLeases, tx: &mut T) {
        while let Some((held, answer)) = self.delays.due(tx.now()) {
            self.submit(Some(held), answer, leases, tx);
        }
    }

    /// A reply leaves with this batch, before it is due where it is `early`.
    fn leaves(&mut self, answer: &Answer, early: bool) {
        let kind = match answer.event.kind {
            Kind::Offer => MessageType::Offer.code(),
            Kind::Ack => MessageType::Ack.code(),
            Kind::Nak => MessageType::Nak.code(),
            // BOOTP has no message types.
            _ => 0,
        };
        self.metrics.replies.increment(kind.into());
        if let Some(reason) = answer.nak {
            self.metrics.naks.increment(reason.index());
        }
        self.metrics.undelayed.add(early.into());
        self.answered.push(answer.received);
        self.events.emit(&answer.event);
    }

    /// An OFFER is withheld: its address could not be probed, and has to be.
    pub(super) fn not_probed(&mut self, event: &BootEvent) {
        let silence = Silence::NotProbed;
        self.metrics.silences.increment(silence.index());
        let detail = Detail::Reason(silence.name());
        self.events.emit(&BootEvent { kind: Kind::Silence, detail, ..*event });
    }

    /// An ACK is withheld.
    pub(super) fn withheld(&mut self, event: &BootEvent, why: NotDurable) {
        match why {
            NotDurable::GivenUp => self.metrics.silences.increment(Silence::NotHeld.index()),
            NotDurable::NotWritten => {
                self.metrics.commits_failed.increment();
                self.events.emit(&BootEvent { kind: Kind::CommitFailed, ..*event });
            }
        }
    }
}

/// How a reply is sent: by which socket, to which address, and in which frame.
pub(super) struct ReplyPath {
    socket: SocketId,
    target: Target,
    frame: Option<UdpFrame>,
}

impl ReplyPath {
    pub(super) fn of(
        reply: &Reply<'_>,
        request: &Datagram<'_>,
        interface: &Interface,
        link: Option<SocketId>,
        only_address: Option<Ipv4Addr>,
    ) -> Self {
        let udp = |to: SocketAddrV4, ifindex| {
            // To say what goes without saying costs the kernel 5 % of a send.
            let implied = only_address == Some(reply.source) && !to.ip().is_loopback();
            let from = Some(IpAddr::V4(reply.source)).filter(|_| !implied);
            let target = Target::Udp { to: SocketAddr::V4(to), from, ifindex };
            Self { socket: request.socket, target, frame: None }
        };
        let (port, broadcast) = reply.broadcast();
        match (reply.delivery, link, interface.mac) {
            (Delivery::Relay(to) | Delivery::Unicast(to), _, _) => udp(to, 0),
            (Delivery::Link { ip, mac }, Some(socket), Some(src_mac)) => Self {
                socket,
                target: Target::Link { ifindex: interface.index, mac },
                frame: Some(UdpFrame {
                    src_mac,
                    dst_mac: mac,
                    src: SocketAddrV4::new(reply.source, SERVER_PORT),
                    dst: SocketAddrV4::new(ip, port),
                }),
            },
            // The kernel would take another address for a machine's.
            (Delivery::Broadcast, Some(socket), Some(src_mac))
                if broadcast != Ipv4Addr::BROADCAST =>
            {
                let frame = UdpFrame {
                    src_mac,
                    dst_mac: [0xff; 6],
                    src: SocketAddrV4::new(reply.source, SERVER_PORT),
                    dst: SocketAddrV4::new(broadcast, port),
                };
                let target = Target::Link { ifindex: interface.index, mac: frame.dst_mac };
                Self { socket, target, frame: Some(frame) }
            }
            // Without a packet socket a client that has no address can only be reached by
            // broadcast.
            (Delivery::Broadcast | Delivery::Link { .. }, _, _) => {
                udp(SocketAddrV4::new(broadcast, port), interface.index)
            }
        }
    }

    fn send<T: Transmit>(
        &self,
        reply: &Reply<'_>,
        cache: &mut ReplyCache,
        tx: &mut T,
    ) -> Result<(), Refused> {
        tx.send(self.socket, &self.target, |buf| self.write(reply, cache, buf))
    }

    pub(super) fn hold<T: Transmit>(
        &self,
        reply: &Reply<'_>,
        cache: &mut ReplyCache,
        tx: &mut T,
    ) -> Result<Held, Refused> {
        tx.hold(self.socket, &self.target, |buf| self.write(reply, cache, buf))
    }

    fn write(&self, reply: &Reply<'_>, cache: &mut ReplyCache, buf: &mut [u8]) -> usize {
        let Some(frame) = &self.frame else { return reply.write(cache, buf) };
        // A slot is longer than a frame's headers.
        let Some(payload) = buf.get_mut(HEADROOM..) else { return 0 };
        let len = reply.write(cache, payload);
        // What fits in a slot fits in a frame.
        frame.seal(buf, len).unwrap_or(0)
    }
}
