//! The backend interface: what a backend gives to the shard above it and takes from it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bootstorm_protocols::time::Moment;

use crate::{Drops, SharedBytes, Waker};

/// Bytes of a transmit slot: an Ethernet frame of the usual 1500-byte MTU, its headers and some
/// more.
pub(crate) const SLOT_LEN: usize = 2048;

/// Names one socket inside one backend, for ever: the id of a removed socket names nothing.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId {
    pub(crate) index: u16,
    /// Tells the socket from those that had the same index before.
    pub(crate) generation: u16,
}

impl SocketId {
    /// For a table by socket. No two open sockets share an index; they count up from 0 in the order
    /// of [`Backend::add_socket`], and that of a removed socket is given again, lowest first.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.index)
    }
}

/// One received UDP datagram, or several of one sender ([`Datagram::segment`]), or an Ethernet
/// frame ([`crate::ReceiveFrames`]). It borrows the receive buffer, which goes back to the kernel
/// when the handler returns.
#[derive(Copy, Clone, Debug)]
pub struct Datagram<'a> {
    /// The socket it arrived on.
    pub socket: SocketId,
    /// Who sent it; 0.0.0.0:0 on a packet socket, where the frame tells.
    pub source: SocketAddr,
    /// Destination address in the IP header; `None` when the kernel did not tell, and on a packet
    /// socket.
    pub destination: Option<IpAddr>,
    /// It was sent to a broadcast address, limited or of a network of this host, or to a multicast
    /// address.
    pub broadcast: bool,
    /// Index of the interface it came in by; 0 when the kernel did not tell.
    pub ifindex: u32,
    /// UDP payload; may be empty. On a packet socket the whole frame, from its Ethernet header on.
    pub payload: &'a [u8],
    /// 0: `payload` is one datagram. Else it is several datagrams from one source to one
    /// destination, one after the other, of so many bytes each, of which the last may be shorter:
    /// see [`crate::UdpSocketSpec::gro`], without which this is always 0.
    pub segment: u16,
    /// The datagram was longer than the receive buffer; `payload` is its beginning.
    pub truncated: bool,
}

impl<'a> Datagram<'a> {
    /// The payloads of the datagrams in it, in order of arrival: at least one, and only one where
    /// `segment` is 0.
    pub fn segments(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let single = self.segment == 0 || self.payload.is_empty();
        let (whole, several) =
            if single { (Some(self.payload), [].as_slice()) } else { (None, self.payload) };
        // Chunks of no bytes would panic.
        whole.into_iter().chain(several.chunks(usize::from(self.segment).max(1)))
    }
}

/// Where a datagram goes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// By the kernel's UDP, on a UDP socket.
    Udp {
        /// Destination address and port.
        to: SocketAddr,
        /// Source address (IP_PKTINFO, IPV6_PKTINFO) of the same family as `to`. `None` lets the
        /// kernel choose. `None` and the address that the socket is bound to are the quickest.
        from: Option<IpAddr>,
        /// Interface to leave by; 0 is by route.
        ifindex: u32,
    },
    /// A whole Ethernet frame, on a packet socket.
    Link {
        /// Interface to leave by.
        ifindex: u32,
        /// Destination hardware address.
        mac: [u8; 6],
    },
}

/// Why a backend did not take a datagram.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// Every transmit slot is in use, held back or waiting for the kernel: counted in
    /// [`Drops::slots_full`]. Or as many datagrams are held back as may be: counted in
    /// [`Drops::held_full`].
    #[error("every transmit slot that it may take is in use")]
    Full,
    /// No such socket.
    #[error("no such socket")]
    NoSocket,
    /// UDP_SEGMENT failed on this socket before (no checksum offload on the way): send segment by
    /// segment.
    #[error("segmentation offload does not work on this socket")]
    NoSegmentation,
}

/// A datagram that is written and waits for [`Transmit::submit`] or [`Transmit::discard`]. A stale
/// one (already submitted or discarded) does nothing.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Held {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The sending half of a backend, lent to the handler while it is called. What is sent here leaves
/// with the next [`Backend::turn`], in one batch.
///
/// Sends of one socket leave in the order in which they were queued ([`Transmit::submit`] queues
/// what was held), shared or not, delayed or not. Those of different sockets may overtake each
/// other.
pub trait Transmit {
    /// Queues one datagram. `write` fills a slot of 2048 bytes and returns how
    /// many it used (more than the slot holds counts as all of it; 0 is an empty datagram).
    ///
    /// A full socket buffer delays such a datagram, it does not lose it; other send errors are
    /// counted in [`Drops::send`].
    fn send(
        &mut self,
        socket: SocketId,
        target: &Target,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Refused>;

    /// The same, and when it is over [`Handler::sent`] is told. For what must not be taken for sent
    /// when it was not.
    fn send_reported(
        &mut self,
        socket: SocketId,
        target: &Target,
        token: u64,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Refused>;

    /// As [`Transmit::send`], but held back until [`Transmit::submit`]: an ACK that waits for its
    /// lease to be durable. At most [`Limits::held`] are held back at once, so that they never take
    /// the slots of those that need not wait.
    fn hold(
        &mut self,
        socket: SocketId,
        target: &Target,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<Held, Refused>;

    /// Queues what was held back.
    fn submit(&mut self, held: Held);

    /// Forgets what was held back and frees its slot.
    fn discard(&mut self, held: Held);

    /// Queues bytes that many sends share, without copying them; they are kept alive until the
    /// kernel is done. With `segment` > 0 the kernel cuts them into datagrams of that many bytes
    /// (UDP_SEGMENT; at most 64 segments and 65,507 bytes), the last one may be shorter.
    ///
    /// Each such send is reported once to [`Handler::sent`]. A full socket buffer delays it, as in
    /// [`Transmit::send`].
    fn send_shared(
        &mut self,
        socket: SocketId,
        target: &Target,
        bytes: SharedBytes,
        segment: u16,
        token: u64,
    ) -> Result<(), Refused>;

    /// The time of this batch, read once when it began.
    fn now(&self) -> Moment;
}

/// What a backend calls. One thread, never re-entered.
pub trait Handler<T: Transmit> {
    /// A datagram arrived.
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T);

    /// [`Waker::wake`] was called, once or several times.
    fn woken(&mut self, tx: &mut T);

    /// A [`Transmit::send_shared`] or [`Transmit::send_reported`] is over: its bytes were handed to
    /// the network, or why not.
    fn sent(&mut self, token: u64, result: io::Result<()>, tx: &mut T);

    /// Whether datagrams of this priority are handled now: asked before each of them, and before
    /// the backend waits. Those of sockets that are urgent always are. What is not handled waits in
    /// its socket, whose queue the kernel bounds. `now` is the time of the batch.
    fn takes(&self, priority: Priority, now: Moment) -> bool {
        let _ = (priority, now);
        true
    }

    /// Whether a datagram may come so soon that the core is worth keeping for
    /// [`Limits::busy_poll`]: asked before each wait.
    fn polls(&self) -> bool {
        true
    }

    /// All that was ready has been handled; the sends go out after this. `dry` says that nothing
    /// more is waiting in the sockets. Due timers belong here. Returns when the handler wants to be
    /// called again at the latest.
    fn batch_end(&mut self, dry: bool, tx: &mut T) -> Option<Moment>;
}

/// A packet engine: sockets, their buffers and the wait. Made and used in one thread.
pub trait Backend {
    /// The half that the handler gets.
    type Tx: Transmit;
    /// What this backend takes for a socket.
    type Socket;

    /// Takes a socket and begins to receive on it, unless it is send-only.
    ///
    /// # Errors
    /// What the kernel says, or that the table of 65,535 sockets is full.
    fn add_socket(&mut self, socket: Self::Socket) -> io::Result<SocketId>;

    /// Stops receiving and closes the socket. Nothing that arrived on it is delivered after this;
    /// what was queued on it is dropped.
    ///
    /// # Errors
    /// `NotFound` when there is no such socket.
    fn remove_socket(&mut self, id: SocketId) -> io::Result<()>;

    /// Receives nothing more on a socket, which stays open. What was received already is delivered;
    /// what comes later waits in the socket, for whoever else has it.
    ///
    /// # Errors
    /// `NotFound` when there is no such socket, else the kernel's.
    fn stop_receiving(&mut self, id: SocketId) -> io::Result<()>;

    /// A handle with which any thread makes this backend call [`Handler::woken`].
    fn waker(&self) -> Waker;

    /// Sends what is queued, waits for something to do but at most until `deadline` (`None`: as
    /// long as it takes; a past one: not at all), hands everything to `handler`, and returns what
    /// its `batch_end` said, for the next turn.
    ///
    /// # Errors
    /// Only what no retry can cure. Errors of single datagrams are counted or reported to the
    /// handler.
    fn turn(
        &mut self,
        deadline: Option<Moment>,
        handler: &mut impl Handler<Self::Tx>,
    ) -> io::Result<Option<Moment>>;

    /// The sending half, outside of a turn.
    fn tx(&mut self) -> &mut Self::Tx;

    /// What was lost so far, by reason.
    fn drops(&self) -> Drops;

    /// "uring", "mmsg" or "sim".
    fn name(&self) -> &'static str;
}

/// Whose datagrams a backend handles first. Sockets of each priority have receive buffers of their
/// own and, where others wait, a quarter of each batch, so none ever waits for good.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Priority {
    /// Before all others: for sockets with few datagrams that clients wait for.
    Urgent,
    /// Behind those that are urgent, before bulk.
    Middle,
    /// When nothing else waits: for sockets that may never be empty.
    #[default]
    Bulk,
}

impl Priority {
    /// How many there are.
    pub(crate) const COUNT: usize = 3;

    /// Most urgent first.
    pub(crate) const ALL: [Priority; Priority::COUNT] =
        [Priority::Urgent, Priority::Middle, Priority::Bulk];

    /// For a table by priority.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// Which priorities a handler takes now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Taken([bool; Priority::COUNT]);

impl Taken {
    pub(crate) const ALL: Taken = Taken([true; Priority::COUNT]);

    pub(crate) fn by<T: Transmit>(handler: &impl Handler<T>, now: Moment) -> Taken {
        let takes = |priority| priority == Priority::Urgent || handler.takes(priority, now);
        Taken(Priority::ALL.map(takes))
    }

    pub(crate) fn has(self, priority: Priority) -> bool {
        self.0[priority.index()]
    }
}

/// How much a backend may hold at once. Memory is taken when it is made and does not grow.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Receive buffers of a ring for sockets of [`Priority::Bulk`]; rounded up to a power of two,
    /// at most 16,384.
    pub buffers: u16,
    /// Receive buffers of a ring for sockets of [`Priority::Urgent`], in the same way; 0: these use
    /// those of bulk.
    pub urgent: u16,
    /// The same for sockets of [`Priority::Middle`].
    pub middle: u16,
    /// Longest payload received whole, in bytes. 65,535 for a backend that has a socket with
    /// [`crate::UdpSocketSpec::gro`], or datagrams that came together are cut off; each of
    /// [`Limits::buffers`] is so long.
    pub payload_len: usize,
    /// Slots for datagrams written by [`Transmit::send`] and [`Transmit::hold`]; what is held back
    /// for a commit stays in its slot.
    pub slots: u32,
    /// Of these slots, as many as held datagrams may take at once: the others are for those that
    /// leave with the batch.
    pub held: u32,
    /// [`Transmit::send_shared`] sends in one batch.
    pub shared: u32,
    /// Datagrams handled before the replies to them are sent.
    pub batch: u16,
    /// How long a turn keeps its core before it sleeps, when the last wait was hardly longer: a
    /// peer that answers within microseconds is answered without a sleep and a wake. Only a ring
    /// does so; zero sleeps at once.
    pub busy_poll: Duration,
}

/// A [`Limits::busy_poll`] that bridges the round trip of a machine room, and costs an idle host
/// nothing.
pub const BUSY_POLL: Duration = Duration::from_micros(50);

impl Default for Limits {
    /// One shard of a storm: about 5 MB, most of it slots, of which the hot ones are used again
    /// first. Receive buffers go round in a ring, so there are few of them: 1024 instead of 128
    /// cost 4 to 9 % more time per datagram in cache misses, and what finds no buffer waits in its
    /// socket.
    fn default() -> Self {
        Limits {
            buffers: 128,
            urgent: 64,
            middle: 64,
            payload_len: 2048,
            slots: 2048,
            held: 1536,
            shared: 1024,
            batch: 32,
            busy_poll: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_cut_at_their_length_and_there_is_always_one() {
        let segments = |payload: &'static [u8], segment| {
            let datagram = Datagram {
                socket: SocketId { index: 0, generation: 0 },
                source: SocketAddr::from(([0, 0, 0, 0], 0)),
                destination: None,
                broadcast: false,
                ifindex: 0,
                payload,
                segment,
                truncated: false,
            };
            datagram.segments().collect::<Vec<_>>()
        };
        assert_eq!(segments(b"abcdefg", 3), [b"abc".as_slice(), b"def", b"g"]);
        assert_eq!(segments(b"abcdef", 3), [b"abc", b"def"]);
        assert_eq!(segments(b"ab", 3), [b"ab"]);
        assert_eq!(segments(b"abc", 0), [b"abc"]);
        assert_eq!(segments(b"", 0), [b""]);
        assert_eq!(segments(b"", 3), [b""]);
    }
}
