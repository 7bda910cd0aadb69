//! The end that receives the file: a server with an upload, or a client.

use std::time::Duration;

use crate::time::Moment;

use super::block::Rollover;
use super::negotiate::{Negotiated, Refused, accept};
use super::packet::Options;
use super::rtt::{GaveUp, RetryPolicy, RetryTimer};

/// A server repeats the last ACK of an upload until the client has been silent for so long, at
/// least (dallying, RFC 1350 section 6). A client that misses the ACK takes the upload for failed.
const SERVER_DALLY: Duration = Duration::from_secs(10);

/// One transfer to this end: which blocks to take, and what to answer when.
///
/// How to drive it: send what [`pending`](Self::pending) names, report it with
/// [`sent`](Self::sent); hand in what arrives; call [`on_deadline`](Self::on_deadline) when
/// [`deadline`](Self::deadline) has come; stop when [`is_over`](Self::is_over).
///
/// A window is acknowledged when it is complete, at the file's end, and once per gap (RFC 7440
/// section 4). Blocks behind a gap are not kept: the sender goes back to the gap anyway.
#[derive(Clone, Debug)]
pub struct Receiver {
    negotiated: Negotiated,
    phase: Phase,
    /// Whether this end sent the request (RRQ).
    is_client: bool,
    /// Highest block received in order, 0 at first.
    last: u64,
    /// Blocks taken since the last ACK.
    unacked: u64,
    /// The block whose arrival showed a gap behind `last`.
    gap: Option<u64>,
    pending: Option<ReceiverSend>,
    /// When the packet that measures the round trip was sent; `None` after a repetition (Karn).
    asked_at: Option<Moment>,
    repeating: bool,
    retry: RetryTimer,
    deadline: Option<Moment>,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Phase {
    /// The request is out; OACK, block 1 or ERROR may come.
    Asking,
    Receiving,
    /// All blocks have arrived; the last ACK may have to be repeated (RFC 1350 section 6).
    Dallying,
    Over,
}

/// What a [`Receiver`] wants to have sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ReceiverSend {
    /// The client's request with its options.
    Request,
    /// The server's OACK to an upload.
    OptionAck,
    /// ACK of this absolute block.
    Ack(u64),
}

/// What a DATA packet meant.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Arrived {
    /// The next block: append its bytes.
    Take,
    /// The last block: append its bytes; the file is complete.
    Complete,
    /// Received before, behind a gap, or out of range: do not use its bytes.
    Ignored,
    /// Longer than the block length: the other end is broken, end the transfer with ERROR 4.
    TooLong,
}

impl Receiver {
    /// A server that has accepted an upload: answers with OACK or ACK 0.
    #[must_use]
    pub fn serving(negotiated: &Negotiated, policy: &RetryPolicy, now: Moment) -> Self {
        Self::new(*negotiated, Phase::Receiving, false, policy, now)
    }

    /// A client that wants a file with the options `asked` (tsize 0 to ask for the size).
    #[must_use]
    pub fn asking(asked: &Negotiated, policy: &RetryPolicy, now: Moment) -> Self {
        Self::new(*asked, Phase::Asking, true, policy, now)
    }

    fn new(
        negotiated: Negotiated,
        phase: Phase,
        is_client: bool,
        policy: &RetryPolicy,
        now: Moment,
    ) -> Self {
        let agreed = if is_client { None } else { negotiated.timeout() };
        let mut receiver = Self {
            negotiated,
            phase,
            is_client,
            last: 0,
            unacked: 0,
            gap: None,
            pending: None,
            asked_at: None,
            repeating: false,
            retry: RetryTimer::new(policy, agreed, now),
            deadline: None,
        };
        receiver.pending = Some(receiver.answer());
        receiver
    }

    /// What is to be sent now.
    #[must_use]
    pub fn pending(&self) -> Option<ReceiverSend> {
        self.pending
    }

    /// The pending packet has been handed to the network.
    pub fn sent(&mut self, now: Moment) {
        self.pending = None;
        self.asked_at = (!self.repeating).then_some(now);
        self.repeating = false;
        let wait = match self.phase {
            // Long enough for the sender to repeat the last block once more.
            Phase::Dallying => {
                let least = if self.is_client { Duration::ZERO } else { SERVER_DALLY };
                self.retry.interval().saturating_mul(2).max(least)
            }
            _ => self.retry.interval(),
        };
        self.deadline = Some(now + wait);
    }

    /// The server answered with an OACK. Returns what holds now.
    ///
    /// # Errors
    /// [`Refused`] when the OACK holds what was not asked for: end the transfer with ERROR 8.
    pub fn on_option_ack(
        &mut self,
        options: &Options<'_>,
        now: Moment,
    ) -> Result<Negotiated, Refused> {
        match self.phase {
            Phase::Asking => {
                self.negotiated = accept(&self.negotiated, options)?;
                self.retry.agree(self.negotiated.timeout());
                self.phase = Phase::Receiving;
                self.heard(now);
                self.pending = Some(ReceiverSend::Ack(0));
            }
            // ACK 0 was lost.
            Phase::Receiving if self.is_client && self.last == 0 => self.repeat(),
            _ => {}
        }
        Ok(self.negotiated)
    }

    /// A DATA packet of the wire's `block` with `len` bytes of data arrived.
    pub fn on_data(&mut self, block: u16, len: usize, now: Moment) -> Arrived {
        if self.phase == Phase::Asking {
            if block != 1 {
                return Arrived::Ignored;
            }
            // A server without options answers with the first block (RFC 2347 section 3).
            self.negotiated = Negotiated::default();
            self.phase = Phase::Receiving;
        }
        if len > usize::from(self.negotiated.block_len()) {
            return Arrived::TooLong;
        }
        match (self.phase, self.rollover().distance(self.last, block)) {
            (Phase::Receiving, Some(1)) => self.take(len, now),
            // The window's last block comes again: its ACK was lost.
            (Phase::Receiving, Some(0)) if self.last > 0 && self.unacked == 0 => {
                self.repeat();
                Arrived::Ignored
            }
            (Phase::Receiving, Some(ahead)) if (2..=self.window()).contains(&ahead) => {
                self.report_gap(self.last + ahead);
                Arrived::Ignored
            }
            (Phase::Dallying, Some(0)) => {
                self.repeat();
                Arrived::Ignored
            }
            _ => Arrived::Ignored,
        }
    }

    /// A client that uploads has repeated its request. If no block has arrived, the OACK or ACK 0
    /// may have been lost: it becomes pending again. Returns whether it has.
    pub fn on_request(&mut self, now: Moment) -> bool {
        if self.is_client || self.last > 0 || self.phase != Phase::Receiving {
            return false;
        }
        self.retry.progress(now);
        self.repeat();
        true
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    /// Nothing came in time: the last answer becomes pending again, or dallying ends.
    ///
    /// # Errors
    /// [`GaveUp`] when the last repetition went unanswered; the transfer has failed.
    pub fn on_deadline(&mut self, now: Moment) -> Result<(), GaveUp> {
        self.deadline = None;
        match self.phase {
            Phase::Over => {}
            Phase::Dallying => self.phase = Phase::Over,
            Phase::Asking | Phase::Receiving => {
                self.retry.expired(now)?;
                let first = self.last == 0 && !self.is_client;
                if first && !self.retry.policy().repeats_first {
                    self.deadline = Some(now + self.retry.interval());
                } else {
                    self.repeat();
                }
            }
        }
        Ok(())
    }

    /// The options of this transfer: those asked for until the server has answered.
    #[must_use]
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// Whether every block has arrived; the last ACK may still have to be repeated.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::Dallying | Phase::Over)
    }

    /// Whether nothing remains to be done for this transfer.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Blocks received in order so far.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.last
    }

    fn rollover(&self) -> Rollover {
        self.negotiated.rollover()
    }

    fn window(&self) -> u64 {
        self.negotiated.window_len().into()
    }

    fn take(&mut self, len: usize, now: Moment) -> Arrived {
        self.heard(now);
        self.last += 1;
        self.unacked += 1;
        self.gap = None;
        self.deadline = Some(now + self.retry.interval());
        let complete = len < usize::from(self.negotiated.block_len());
        if complete {
            self.phase = Phase::Dallying;
        }
        // An ACK that could not be sent yet must cover this block too.
        if complete || self.unacked >= self.window() || self.pending.is_some() {
            self.acknowledge();
        }
        if complete { Arrived::Complete } else { Arrived::Take }
    }

    /// Reports a gap once; again only if the sender went back and the block was lost again.
    fn report_gap(&mut self, block: u64) {
        if self.gap.is_none_or(|seen| block <= seen) {
            self.repeat();
        }
        self.gap = Some(block);
    }

    fn acknowledge(&mut self) {
        self.pending = Some(self.answer());
        self.unacked = 0;
        self.repeating = false;
    }

    fn repeat(&mut self) {
        self.acknowledge();
        self.repeating = true;
    }

    /// The packet that acknowledges what has arrived so far.
    fn answer(&self) -> ReceiverSend {
        match self.phase {
            Phase::Asking => ReceiverSend::Request,
            _ if self.last == 0 && !self.is_client && self.negotiated.needs_option_ack() => {
                ReceiverSend::OptionAck
            }
            _ => ReceiverSend::Ack(self.last),
        }
    }

    fn heard(&mut self, now: Moment) {
        if let Some(asked_at) = self.asked_at.take() {
            self.retry.sample(now.since(asked_at));
        }
        self.retry.progress(now);
    }
}
