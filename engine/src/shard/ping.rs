//! Addresses are pinged before they are offered, where that is configured or the lease store is
//! damaged. An OFFER waits for the answer in its transmit slot.
//!
//! A ping that cannot be sent tells nothing. The address is offered without it, as by ISC dhcpd and
//! Kea: a wrong rule of a firewall must not end all service. Where the lease store is damaged it is
//! not offered.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bootstorm_net::{Datagram, Held, SocketId, Target, Transmit};
use bootstorm_protocols::dhcpv4::Message;
use bootstorm_protocols::icmp;
use bootstorm_protocols::time::Moment;

use super::replies::{Answer, Replies};
use super::{Parts, Shard};
use crate::event::{BootEvent, Detail, Kind, Unsent};
use crate::hooks::Tasks;

/// The ICMP identifier of this server's pings.
pub(super) const ECHO_IDENTIFIER: u16 = 0xb007;

/// Between two warnings of pings that were not sent.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// An OFFER, written into its transmit slot. It is sent if nobody answers the ping in time.
pub(super) struct Probed {
    pub(super) held: Held,
    pub(super) answer: Answer,
    /// What else is to be done when it leaves.
    pub(super) tasks: Option<Box<Tasks>>,
    /// Decided again if the address turns out to be in use.
    pub(super) request: Request,
}

/// A copy of a request, which outlives its receive buffer.
pub(super) struct Request {
    socket: SocketId,
    source: SocketAddr,
    destination: Option<IpAddr>,
    broadcast: bool,
    ifindex: u32,
    payload: Box<[u8]>,
}

impl Request {
    pub(super) fn copy(datagram: &Datagram<'_>) -> Self {
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

/// When pings that were not sent were last warned of: there may be as many as DISCOVERs.
#[derive(Debug, Default)]
pub(super) struct NotPingedTold {
    last: Option<Moment>,
    /// Those that were not warned of since.
    others: u32,
}

impl NotPingedTold {
    /// Counts an address that was to be pinged and was not, and warns of it unless it did so a
    /// moment ago. `offer` is the event of its OFFER.
    pub(super) fn tell(
        &mut self,
        replies: &mut Replies<'_>,
        offer: &BootEvent,
        why: Unsent,
        offered: bool,
        now: Moment,
    ) {
        replies.metrics.ping_failures.increment();
        if self.last.is_some_and(|last| now < last + WARNING_INTERVAL) {
            self.others = self.others.saturating_add(1);
            return;
        }
        self.last = Some(now);
        let others = std::mem::take(&mut self.others);
        let detail = Detail::NotPinged { why, offered, others };
        replies.events.emit(&BootEvent { kind: Kind::NotPinged, detail, ..*offer });
    }
}

impl Shard {
    /// Pings the address of an OFFER, which waits for the answer until then.
    pub(super) fn ping<T: Transmit>(&mut self, probed: Probed, until: Moment, tx: &mut T) {
        let address = probed.answer.event.address;
        let token = self.probes.begin(address, until, probed);
        self.echo_sequence = self.echo_sequence.wrapping_add(1);
        let echo = icmp::echo_request(ECHO_IDENTIFIER, self.echo_sequence);
        let to = SocketAddr::from((address, 0));
        let target = Target::Udp { to, from: None, ifindex: 0 };
        let sent = self.icmp.is_some_and(|icmp| {
            let queued = tx.send_reported(icmp, &target, token, |slot| {
                slot[..echo.len()].copy_from_slice(&echo);
                echo.len()
            });
            queued.is_ok()
        });
        if !sent && let Some(probed) = self.probes.failed(token) {
            self.unprobed(probed, Unsent::NoRoom, tx);
        }
    }

    /// The kernel has taken a ping, or not.
    pub(super) fn pinged<T: Transmit>(&mut self, token: u64, result: io::Result<()>, tx: &mut T) {
        let Err(error) = result else { return self.probes.sent(token) };
        if let Some(probed) = self.probes.failed(token) {
            let errno = error.raw_os_error().unwrap_or_default();
            self.unprobed(probed, Unsent::Errno(errno), tx);
        }
    }

    /// The ping of an address was not sent. Its OFFER does not wait any more.
    pub(super) fn unprobed<T: Transmit>(&mut self, probed: Probed, why: Unsent, tx: &mut T) {
        let (event, now) = (probed.answer.event, tx.now());
        let Self { parts, delays, cache, answered, not_pinged, .. } = self;
        let Parts { leases, metrics, events, hooks, dry_run, .. } = parts;
        let dry_run = *dry_run;
        let mut replies = Replies { metrics, events, hooks, answered, delays, cache, dry_run };
        let offered = !leases.is_damaged(now);
        if offered {
            replies.offer(probed, leases, tx);
        } else {
            tx.discard(probed.held);
            replies.not_probed(&event);
        }
        not_pinged.tell(&mut replies, &event, why, offered, now);
    }

    /// A host answered a ping: the address is put in quarantine, and the client gets another one.
    pub(super) fn echo<T: Transmit>(&mut self, packet: &[u8], tx: &mut T) {
        let Some(address) = icmp::echo_reply_from(packet, ECHO_IDENTIFIER) else { return };
        let Some(probed) = self.probes.answered(address) else { return };
        tx.discard(probed.held);
        let now = tx.now();
        let Parts { snapshot, leases, metrics, events, .. } = &mut self.parts;
        let quarantine = self.guard.get_or_insert_with(|| snapshot.read()).config.dhcp.decline_time;
        let since = probed.answer.received;
        let hardware = probed.answer.event.hardware;
        if let Some(change) = leases.quarantine(address, hardware, since, now, now + quarantine) {
            metrics.addresses_in_use.increment();
            events.emit(&BootEvent {
                kind: Kind::Decline,
                detail: Detail::Reason("the address answers ping: quarantined"),
                ..probed.answer.event
            });
            // If it is undone, the address will be pinged again before the next offer.
            let _undone = leases.submit(change, None, now);
        }
        let datagram = probed.request.datagram();
        // It was parsed before it was kept.
        if let Ok(message) = Message::parse(datagram.payload) {
            self.answer(&datagram, &message, Some(probed.answer.received), tx);
        }
    }
}
