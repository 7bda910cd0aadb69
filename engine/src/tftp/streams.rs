//! Streams: one file that many clients of a shard receive at once (RFC 2090).
//!
//! ```text
//!   request --> listener --> master --> ends when it has every block
//!                  |           ^
//!                  |           +-- the longest waiting listener, when the master ends or is silent
//!                  +--> ends when it has every block
//! ```
//! A member of a stream is a transfer like any other, except that its blocks are sent to the group
//! of its stream, and only while it is the master. The members of a stream share one data socket,
//! so listeners receive all blocks from one port.

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
use super::transfers::{Transfer, Work};

/// Repetitions before a silent master is replaced, since all others wait for it. A client that is
/// replaced may ask again, and keeps the blocks it has.
const MASTER_TRIES: u32 = 4;
/// How long a member may take to answer that it is master: the first interval, and the longest.
const MASTER_INITIAL: Duration = Duration::from_millis(250);
const MASTER_MAX: Duration = Duration::from_millis(500);

/// The streams of one shard.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Vec<Stream>,
    /// Number of the next stream.
    next: u32,
    /// Streams whose master has left.
    without_master: Vec<u32>,
}

#[derive(Debug)]
struct Stream {
    number: u32,
    key: Key,
    socket: SocketId,
    group: SocketAddrV4,
    master: Option<u64>,
    /// Listeners, the longest waiting first; some may have left.
    waiting: VecDeque<u64>,
    /// Transfers that belong to it.
    members: u32,
}

/// Transfers with equal keys share a stream: they get the same packets the same way.
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

    /// Whether a stream waits for a master.
    pub(super) fn lacks_master(&self) -> bool {
        !self.without_master.is_empty()
    }

    fn at(&mut self, number: u32) -> Option<&mut Stream> {
        self.open.iter_mut().find(|stream| stream.number == number)
    }
}

/// The options and the retry policy of a stream's master. The timeout that it asked for does not
/// hold, because others wait as well.
pub(super) fn stream_terms(
    negotiated: &Negotiated,
    policy: &RetryPolicy,
) -> (Negotiated, RetryPolicy) {
    let policy = RetryPolicy {
        initial: policy.initial.min(MASTER_INITIAL).max(policy.min),
        max: policy.max.min(MASTER_MAX).max(policy.min),
        tries: policy.tries.min(MASTER_TRIES),
        ..*policy
    };
    (Negotiated { timeout: None, ..*negotiated }, policy)
}

impl TftpShard {
    /// Makes a transfer that asked for the multicast option the member of a stream, or an ordinary
    /// transfer if the file is too long or no group is free.
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
        // The first member is master at once. If a stream's master has just left, the next one
        // comes from those that wait.
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

    /// Makes a transfer that has joined a stream, and is not its master, a listener.
    pub(super) fn listen<T: Transmit>(&mut self, number: u64, image: Arc<Image>, tx: &mut T) {
        let Some(transfer) = self.transfers.get(number) else { return };
        transfer.work = Work::Listening { image, complete: false };
        transfer.announced = true;
        self.metrics().listeners.increment();
        self.event(number, Kind::TransferStarted, "", tx.now());
        self.tell_listener(number, tx);
    }

    /// Sends a listener its OACK. If that is lost, the client asks again.
    pub(super) fn tell_listener<T: Transmit>(&mut self, number: u64, tx: &mut T) {
        let Some(transfer) = self.transfers.get(number) else { return };
        let (target, negotiated) = (transfer.target(), &transfer.negotiated);
        let write = |slot: &mut [u8]| negotiated.write_option_ack(slot).unwrap_or(0);
        let _ = tx.send(transfer.socket, &target, write);
    }

    /// A listener acknowledges a block. ACK of the last block says that it has every block; any
    /// other comes from a client that was master before.
    pub(super) fn listener_ack(&mut self, number: u64, block: u16, now: Moment) {
        let Some(transfer) = self.transfers.get(number) else { return };
        let Work::Listening { image, complete } = &mut transfer.work else { return };
        if image.last() == Some(block.into()) {
            *complete = true;
            self.finish(number, now);
        }
    }

    /// A transfer that has ended leaves its stream.
    pub(super) fn leave_stream(&mut self, stream: u32, number: u64) {
        let Some(left) = self.streams.at(stream) else { return };
        left.members -= 1;
        if left.master == Some(number) {
            left.master = None;
            self.streams.without_master.push(stream);
        }
    }

    /// Gives streams whose master has left another one; a stream without members ends.
    pub(super) fn appoint_masters(&mut self, now: Moment) {
        while let Some(number) = self.streams.without_master.pop() {
            let Some(at) = self.streams.open.iter().position(|stream| stream.number == number)
            else {
                continue;
            };
            let stream = &mut self.streams.open[at];
            if stream.members == 0 {
                self.server.groups.release(stream.group);
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
                let sender = service.sender(transfer, now);
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
    /// The state machine of a transfer that begins.
    pub(super) fn sender(&self, transfer: &Transfer, now: Moment) -> Sender {
        let (negotiated, policy) = (&transfer.negotiated, self.policy(transfer));
        let mut sender = match negotiated.multicast {
            None => Sender::new(negotiated, &policy, now),
            Some(_) => {
                let (negotiated, policy) = stream_terms(negotiated, &policy);
                Sender::new(&negotiated, &policy, now)
            }
        };
        // All blocks count as loaded until the last one is known; the image says what is missing.
        sender.content(u64::MAX >> 1, None);
        sender.limit_pace(self.least_gap(negotiated.block_len()));
        sender
    }
}
