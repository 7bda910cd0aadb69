//! Streams: a file that many clients of a shard take at once (RFC 2090).
//!
//! ```text
//!   request --> member --listens--> master --has everything--> over
//!                 |                   ^
//!                 +-- had everything  +-- the member that has waited longest, when the master is done or silent
//! ```
//! A member is a transfer like any other, but that its blocks go to the group of its stream, and that they go only while it is
//! the master. The members of a stream share the data socket, so that whoever listens hears all blocks from one port.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bootstorm_net::{SocketId, Transmit};
use bootstorm_protocols::tftp::{MAX_MULTICAST_BLOCKS, Multicast, Negotiated, RetryPolicy, Sender};
use bootstorm_protocols::time::Moment;

use crate::event::Kind;

use super::images::Image;
use super::service::Service;
use super::shard::TftpShard;
use super::transfers::Work;

/// A master that is silent holds everybody up. Whoever is passed over may ask anew, and has lost nothing of what it heard.
const MASTER_TRIES: u32 = 4;
/// How long a member may take to find out that it is master, the first time it is told, and later.
const MASTER_INITIAL: Duration = Duration::from_millis(250);
const MASTER_MAX: Duration = Duration::from_millis(500);

/// The streams of one shard.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Vec<Stream>,
    /// Number of the next stream.
    next: u32,
    /// Those whose master has left.
    headless: Vec<u32>,
}

#[derive(Debug)]
struct Stream {
    number: u32,
    key: Key,
    socket: SocketId,
    group: SocketAddrV4,
    master: Option<u64>,
    /// Those who listen, longest waiting first; some may have left.
    waiting: VecDeque<u64>,
    /// Transfers that belong to it.
    members: u32,
}

/// Who may share a stream: whoever gets the same packets the same way.
#[derive(Clone, Debug)]
struct Key {
    image: Arc<Image>,
    window: u16,
    local: Option<IpAddr>,
    ifindex: u32,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.image, &other.image)
            && (self.window, self.local, self.ifindex) == (other.window, other.local, other.ifindex)
    }
}

impl Streams {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether one waits for a master.
    pub(super) fn is_headless(&self) -> bool {
        !self.headless.is_empty()
    }

    fn at(&mut self, number: u32) -> Option<&mut Stream> {
        self.open.iter_mut().find(|stream| stream.number == number)
    }
}

/// How a stream's master is waited for. The timeout that a client asked for does not hold: others wait with it.
pub(super) fn stream_terms(
    negotiated: &Negotiated,
    policy: &RetryPolicy,
) -> (Negotiated, RetryPolicy) {
    let policy = RetryPolicy {
        initial: policy.initial.min(MASTER_INITIAL),
        max: policy.max.min(MASTER_MAX),
        tries: policy.tries.min(MASTER_TRIES),
        ..*policy
    };
    (Negotiated { timeout: None, ..*negotiated }, policy)
}

impl TftpShard {
    /// A transfer that asked for the multicast option becomes a member of a stream, or an ordinary transfer where none can be had.
    pub(super) fn join_stream(&mut self, number: u64, image: &Arc<Image>, service: &Service) {
        let Some(transfer) = self.transfers.get(number) else { return };
        transfer.negotiated.multicast = None;
        let fits = image.last().is_some_and(|last| last <= MAX_MULTICAST_BLOCKS);
        let Some(config) = service.multicast.as_ref().filter(|_| fits) else { return };
        let key = Key {
            image: Arc::clone(image),
            window: transfer.negotiated.window_len(),
            local: transfer.local,
            ifindex: transfer.ifindex,
        };
        let socket = transfer.socket;
        let known = self.streams.open.iter().position(|stream| stream.key == key);
        let at = known.or_else(|| {
            let group = self.server.groups.take(config)?;
            let number = self.streams.next;
            self.streams.next = number.wrapping_add(1);
            self.streams.open.push(Stream {
                number,
                key,
                socket,
                group,
                master: None,
                waiting: VecDeque::new(),
                members: 0,
            });
            Some(self.streams.open.len() - 1)
        });
        let Some(stream) = at.and_then(|at| self.streams.open.get_mut(at)) else { return };
        stream.members += 1;
        // The first one is master at once. Where the master has just left, it is the turn of those who wait.
        let master = known.is_none();
        if master {
            stream.master = Some(number);
        } else {
            stream.waiting.push_back(number);
        }
        transfer.negotiated.multicast = Some(Multicast { group: Some(stream.group), master });
        transfer.stream = Some(stream.number);
        transfer.socket = stream.socket;
    }

    /// A transfer that has joined a stream without being its master begins to listen.
    pub(super) fn listen<T: Transmit>(&mut self, number: u64, image: Arc<Image>, tx: &mut T) {
        let Some(transfer) = self.transfers.get(number) else { return };
        transfer.work = Work::Listening { image, complete: false };
        transfer.announced = true;
        self.metrics().listeners.increment();
        self.event(number, Kind::TransferStarted, "", tx.now());
        self.tell_listener(number, tx);
    }

    /// Tells a listener which group it is to listen to. When that is lost, the client asks again.
    pub(super) fn tell_listener<T: Transmit>(&mut self, number: u64, tx: &mut T) {
        let Some(transfer) = self.transfers.get(number) else { return };
        let (target, negotiated) = (transfer.target(), &transfer.negotiated);
        let write = |slot: &mut [u8]| negotiated.write_option_ack(slot).unwrap_or(0);
        let _ = tx.send(transfer.socket, &target, write);
    }

    /// A listener acknowledges a block: the last one says that it has everything, others that it had been master before it was passed over.
    pub(super) fn listener_ack(&mut self, number: u64, block: u16, now: Moment) {
        let Some(transfer) = self.transfers.get(number) else { return };
        let Work::Listening { image, complete } = &mut transfer.work else { return };
        if image.last() == Some(block.into()) {
            *complete = true;
            self.finish(number, now);
        }
    }

    /// A transfer that is gone leaves its stream.
    pub(super) fn leave_stream(&mut self, stream: u32, number: u64) {
        let Some(left) = self.streams.at(stream) else { return };
        left.members -= 1;
        if left.master == Some(number) {
            left.master = None;
            self.streams.headless.push(stream);
        }
    }

    /// Streams whose master has left get another, or end.
    pub(super) fn appoint_masters(&mut self, now: Moment) {
        while let Some(number) = self.streams.headless.pop() {
            let Some(at) = self.streams.open.iter().position(|stream| stream.number == number)
            else {
                continue;
            };
            let stream = &mut self.streams.open[at];
            if stream.members == 0 {
                self.server.groups.give(stream.group);
                self.streams.open.swap_remove(at);
                continue;
            }
            while let Some(next) = stream.waiting.pop_front() {
                let Some(transfer) = self.transfers.get(next) else { continue };
                let Work::Listening { image, .. } = &transfer.work else { continue };
                let service = self.server.service.load();
                transfer.negotiated.multicast =
                    Some(Multicast { group: Some(stream.group), master: true });
                let image = Arc::clone(image);
                let sender = service.sender(&transfer.negotiated, now);
                transfer.work = Work::Sending { image, sender };
                stream.master = Some(next);
                drop(service);
                self.enqueue(next);
                break;
            }
        }
    }
}

impl Service {
    /// The sending end of a transfer that begins.
    pub(super) fn sender(&self, negotiated: &Negotiated, now: Moment) -> Sender {
        let mut sender = match negotiated.multicast {
            None => Sender::new(negotiated, &self.policy, now),
            Some(_) => {
                let (negotiated, policy) = stream_terms(negotiated, &self.policy);
                Sender::new(&negotiated, &policy, now)
            }
        };
        // Until a netascii file's end is known, every block may be asked for.
        sender.content(u64::MAX >> 1, None);
        sender.limit_pace(self.least_gap(negotiated.block_len()));
        sender
    }
}
