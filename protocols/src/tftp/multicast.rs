//! The multicast option: one stream of blocks for many clients (RFC 2090).
//!
//! A stream belongs to a file, a block length and a window. One client at a time, the master,
//! acknowledges blocks. The blocks sent in answer go to a multicast group that all clients listen
//! to. An ACK of block n asks for the block after n, so a master asks for what it lacks and skips
//! what it has. When the master has every block, the next client becomes master and does the same,
//! until all clients have every block.
//! The 16 bits of a block number alone say where in the file a block stands, so a file of more than
//! 65,535 blocks has no stream.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::time::Moment;
use crate::wire::Full;

use super::negotiate::Refused;
use super::packet::{OptionWriter, Options, write_decimal};
use super::receiver::Arrived;
use super::rtt::{GaveUp, RetryPolicy, RetryTimer};

/// The option's name.
pub(super) const MULTICAST: &str = "multicast";
/// The port that RFC 2090 recommends for groups.
pub const MULTICAST_PORT: u16 = 1758;
/// The longest file of a stream, in blocks.
pub const MAX_MULTICAST_BLOCKS: u64 = 0xffff;
/// A client that is not the master asks again after so long without a block. It must cover the time
/// that the server needs to notice a dead master.
const SILENCE: Duration = Duration::from_secs(5);

/// What the option says.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Multicast {
    /// The group that the blocks are sent to; `None` in a request, and in an OACK that does not
    /// change the group.
    pub group: Option<SocketAddrV4>,
    /// Whether the client that gets this OACK is the master from now on.
    pub master: bool,
}

impl Multicast {
    /// Reads the value of an OACK: `address,port,master`.
    ///
    /// # Errors
    /// [`Refused`] when the value is anything else, or its address is not a multicast address.
    pub fn parse(value: &[u8]) -> Result<Self, Refused> {
        Self::read(value).ok_or(Refused { option: MULTICAST })
    }

    fn read(value: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(value).ok()?.split(',').map(str::trim);
        let (address, port, master) = (parts.next()?, parts.next()?, parts.next()?);
        let master = match (master, parts.next()) {
            ("0", None) => false,
            ("1", None) => true,
            _ => return None,
        };
        let group = match (address, port) {
            ("", "") => None,
            _ => {
                let (address, port): (Ipv4Addr, u16) = (address.parse().ok()?, port.parse().ok()?);
                if !address.is_multicast() || port == 0 {
                    return None;
                }
                Some(SocketAddrV4::new(address, port))
            }
        };
        Some(Self { group, master })
    }

    /// Writes the option: empty for a request, else the group and whether the client is master.
    pub(super) fn write(&self, writer: &mut OptionWriter<'_>) -> Result<(), Full> {
        writer.text(MULTICAST, |out| {
            let Some(group) = self.group else { return Ok(()) };
            for (nth, octet) in group.ip().octets().into_iter().enumerate() {
                if nth > 0 {
                    out.u8(b'.')?;
                }
                write_decimal(out, octet.into())?;
            }
            out.u8(b',')?;
            write_decimal(out, group.port().into())?;
            out.bytes(if self.master { b",1" } else { b",0" })
        })
    }
}

/// What a [`Listener`] wants to have sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ListenerSend {
    /// The request once more, unchanged: the server answers with an OACK.
    Request,
    /// ACK of this block.
    Ack(u64),
}

/// A client of a stream: which blocks it has, and which ACKs it sends when.
///
/// It begins when an OACK has granted the option. Drive it like a [`super::Receiver`], and hand in
/// the group's blocks in any order. Write a block that is taken at its own offset in the file.
#[derive(Clone, Debug)]
pub struct Listener {
    block_len: u16,
    window: u64,
    master: bool,
    /// Which blocks have arrived: a bit for each block from 1 on.
    have: Vec<u64>,
    /// The highest block that has arrived.
    highest: u64,
    /// The first missing block.
    missing: u64,
    /// The file's last block, once it has arrived.
    last: Option<u64>,
    /// The block of the last ACK, and the block whose arrival caused that ACK.
    acked: u64,
    cause: u64,
    /// Blocks taken since the last ACK.
    unacked: u64,
    /// The block whose arrival showed a gap.
    gap: Option<u64>,
    pending: Option<ListenerSend>,
    /// When the ACK that measures the round trip was sent; `None` after a repetition (Karn).
    asked_at: Option<Moment>,
    retry: RetryTimer,
    deadline: Option<Moment>,
}

impl Listener {
    /// A client whose OACK came at `now` and made it master or not. Blocks have `block_len` bytes,
    /// a window has `window` blocks; `agreed` is the negotiated timeout.
    #[must_use]
    pub fn new(
        block_len: u16,
        window: u16,
        agreed: Option<Duration>,
        master: bool,
        policy: &RetryPolicy,
        now: Moment,
    ) -> Self {
        let mut listener = Self {
            block_len,
            window: window.max(1).into(),
            master: false,
            have: Vec::new(),
            highest: 0,
            missing: 1,
            last: None,
            acked: 0,
            cause: 0,
            unacked: 0,
            gap: None,
            pending: None,
            asked_at: None,
            retry: RetryTimer::new(policy, agreed, now),
            deadline: Some(now + SILENCE),
        };
        listener.appoint(master, now);
        listener
    }

    /// A later OACK arrived; it may make this client the master, or end that.
    ///
    /// # Errors
    /// [`Refused`] when its multicast option cannot be read.
    pub fn on_option_ack(&mut self, options: &Options<'_>, now: Moment) -> Result<(), Refused> {
        if let Some(value) = options.get(MULTICAST) {
            self.appoint(Multicast::parse(value)?.master, now);
        }
        Ok(())
    }

    fn appoint(&mut self, master: bool, now: Moment) {
        self.retry.progress(now);
        self.master = master;
        if master {
            // An OACK that comes again means that the ACK to the one before was lost.
            self.acknowledge(0);
            self.asked_at = None;
        } else {
            self.deadline = Some(now + SILENCE);
        }
    }

    /// A DATA packet for the group, of the wire's `block` with `len` bytes of data.
    pub fn on_data(&mut self, block: u16, len: usize, now: Moment) -> Arrived {
        let block = u64::from(block);
        if len > usize::from(self.block_len) {
            return Arrived::TooLong;
        }
        if block == 0 || self.last.is_some_and(|last| block > last) {
            return Arrived::Ignored;
        }
        let short = len < usize::from(self.block_len);
        // Only the last block is short: with a later one here this is not the file's end.
        if short && block < self.highest {
            return Arrived::Ignored;
        }
        if let Some(asked_at) = self.asked_at.take() {
            self.retry.sample(now.since(asked_at));
        }
        self.retry.progress(now);
        self.deadline = Some(now + if self.master { self.retry.interval() } else { SILENCE });
        if !self.insert(block) {
            // The last ACK was lost if the block that caused it comes again, or if the server goes
            // on behind an earlier block although more is here than that ACK said: it reported a
            // gap, and the gap has closed since.
            let again = block == self.cause && self.unacked == 0;
            let behind = block == self.acked && self.missing - 1 > self.acked;
            if self.master && (again || behind) {
                self.acknowledge(block);
                self.asked_at = None;
            }
            return Arrived::Ignored;
        }
        if short {
            self.last = Some(block);
        }
        if self.is_complete() {
            // A client that has every block acknowledges the last one, master or not.
            self.acknowledge(block);
            return Arrived::Complete;
        }
        if !self.master {
            return Arrived::Take;
        }
        let reached = self.missing - 1;
        if reached >= self.acked + self.window || self.last.is_some_and(|last| block == last) {
            self.acknowledge(block);
        } else if block > self.missing {
            // One ACK for each gap; another only if the server went back and the block was lost
            // again.
            if self.gap.is_none_or(|seen| block <= seen) {
                self.acknowledge(block);
                self.asked_at = None;
            }
            self.gap = Some(block);
        } else {
            self.gap = None;
        }
        Arrived::Take
    }

    /// Notes a block; false when it had arrived before.
    fn insert(&mut self, block: u64) -> bool {
        let (word, bit) = ((block / 64) as usize, 1 << (block % 64));
        if self.have.len() <= word {
            self.have.resize(word + 1, 0);
        }
        if self.have[word] & bit != 0 {
            return false;
        }
        self.have[word] |= bit;
        self.highest = self.highest.max(block);
        self.unacked += 1;
        while self.has(self.missing) {
            self.missing += 1;
        }
        true
    }

    fn has(&self, block: u64) -> bool {
        self.have.get((block / 64) as usize).is_some_and(|word| word & 1 << (block % 64) != 0)
    }

    fn acknowledge(&mut self, cause: u64) {
        self.acked = self.missing - 1;
        self.cause = cause;
        self.unacked = 0;
        self.pending = Some(ListenerSend::Ack(self.acked));
    }

    /// What is to be sent now.
    #[must_use]
    pub fn pending(&self) -> Option<ListenerSend> {
        self.pending
    }

    /// The pending packet has been handed to the network.
    pub fn sent(&mut self, now: Moment) {
        self.pending = None;
        self.asked_at = Some(now);
        self.deadline = Some(now + self.retry.interval());
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    /// Nothing came in time: a master repeats its ACK, other clients repeat their request.
    ///
    /// # Errors
    /// [`GaveUp`] when the last repetition went unanswered; the transfer has failed.
    pub fn on_deadline(&mut self, now: Moment) -> Result<(), GaveUp> {
        self.retry.expired(now)?;
        self.asked_at = None;
        self.pending = Some(match self.master {
            true => ListenerSend::Ack(self.missing - 1),
            false => ListenerSend::Request,
        });
        Ok(())
    }

    /// Whether every block has arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.last.is_some_and(|last| self.missing > last)
    }

    /// Whether this client acknowledges blocks.
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.master
    }
}

#[cfg(test)]
mod tests;
