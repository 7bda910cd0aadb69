//! The end that has the file.

use std::time::Duration;

use crate::time::Moment;

use super::block::Rollover;
use super::negotiate::Negotiated;
use super::pace::{Answer, Pace};
use super::rtt::{GaveUp, RetryPolicy, RetryTimer};

/// One transfer to a client: which blocks are due, and when they are due again.
///
/// How to drive it: report how much of the file is loaded with [`content`](Self::content); send
/// what [`pending`](Self::pending) names and report it with [`sent`](Self::sent) or
/// [`sent_option_ack`](Self::sent_option_ack), until nothing is pending; hand in ACKs, and call
/// [`on_deadline`](Self::on_deadline) when [`deadline`](Self::deadline) has come.
///
/// An ACK inside a window means: go on behind it, whatever was sent since (RFC 7440 section 4).
/// A repeated ACK never makes more packets than the loss it may stand for: in lockstep it is
/// ignored (RFC 1123 section 4.2.3.1, the Sorcerer's Apprentice), with windows it repeats a
/// window at most once, and never one whose predecessor had been repeated, for then the ACK may
/// be the answer to that repetition.
///
/// A client that shares a stream with others asks, by its ACK of block n, for the block after n,
/// wherever that is in the file (RFC 2090).
///
/// Lost blocks slow the sender down to the path's rate: ask [`burst`](Self::burst) how many of the
/// pending blocks may be sent now.
#[derive(Clone, Debug)]
pub struct Sender {
    rollover: Rollover,
    /// The client shares a stream with others and may ask for any block (RFC 2090).
    multicast: bool,
    /// Blocks a window holds.
    window: u64,
    /// The OACK has not been answered yet.
    opening: bool,
    /// The client has answered something, so it has got the first packet.
    answered: bool,
    /// The OACK is to be sent, for the first time or again.
    option_ack_due: bool,
    /// Highest block that the client has, 0 at first.
    acked: u64,
    /// The block to be sent next.
    next: u64,
    /// Highest block ever sent.
    sent_until: u64,
    /// The lowest block never sent twice, nor about to be; the OACK counts as block 0.
    unrepeated: u64,
    /// Highest block whose bytes are loaded.
    ready: u64,
    /// The short block at the file's end, once its number is known.
    last: Option<u64>,
    /// When the first, and when the latest block of the current window was sent.
    window_started: Moment,
    latest_sent: Moment,
    /// An answer to the current window may be one to an earlier sending of it.
    doubtful: bool,
    /// How often the first block behind the last ACK has been sent.
    sendings: u32,
    /// How many more ACKs of the last acknowledged block may come because it was sent repeatedly.
    echoes: u32,
    pace: Pace,
    retry: RetryTimer,
    deadline: Option<Moment>,
}

/// What a [`Sender`] wants to have sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SenderSend {
    /// The OACK.
    OptionAck,
    /// The blocks `first .. first + count`; count is not 0. They may be sent in parts.
    Blocks {
        /// Absolute number of the first.
        first: u64,
        /// How many.
        count: u64,
    },
}

/// What an ACK meant.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Acked {
    /// The client has more than before.
    Progress,
    /// The client has the last block: the transfer is complete.
    Finished,
    /// A repeated ACK that reports the loss of a whole window's beginning: it is sent again.
    Repeat,
    /// Repeated, late, or of a block never sent: nothing follows from it.
    Ignored,
}

impl Sender {
    /// A transfer that begins: with the OACK if there are options, else with block 1.
    #[must_use]
    pub fn new(negotiated: &Negotiated, policy: &RetryPolicy, now: Moment) -> Self {
        Self {
            rollover: negotiated.rollover(),
            multicast: negotiated.multicast.is_some(),
            window: negotiated.window_len().into(),
            opening: negotiated.needs_option_ack(),
            answered: false,
            option_ack_due: negotiated.needs_option_ack(),
            acked: 0,
            next: 1,
            sent_until: 0,
            unrepeated: 0,
            ready: 0,
            last: None,
            window_started: now,
            latest_sent: now,
            doubtful: false,
            sendings: 0,
            echoes: 0,
            pace: Pace::default(),
            retry: RetryTimer::new(policy, negotiated.timeout(), now),
            deadline: None,
        }
    }

    /// A client whose upload the server has accepted, by OACK or ACK 0: begins with block 1.
    #[must_use]
    pub fn uploading(negotiated: &Negotiated, policy: &RetryPolicy, now: Moment) -> Self {
        let sender = Self::new(negotiated, policy, now);
        Self { opening: false, option_ack_due: false, ..sender }
    }

    /// Reports that the blocks up to `ready` are loaded, and which block is the last if that is
    /// known. The last block is shorter than the block length, so a file whose length is a
    /// multiple of it ends with an empty block, and an empty file is one empty block.
    pub fn content(&mut self, ready: u64, last: Option<u64>) {
        self.ready = ready;
        self.last = last;
    }

    /// What is to be sent now.
    #[must_use]
    pub fn pending(&self) -> Option<SenderSend> {
        if self.opening {
            return self.option_ack_due.then_some(SenderSend::OptionAck);
        }
        let until = self.window_end().min(self.ready);
        let count = (until + 1).saturating_sub(self.next);
        (count > 0).then_some(SenderSend::Blocks { first: self.next, count })
    }

    /// Sets the least time for a block: its length divided by the client's permitted rate.
    pub fn limit_pace(&mut self, least: Duration) {
        self.pace.limit(least);
    }

    /// How many of the pending blocks may be sent at `now`.
    ///
    /// # Errors
    /// None may: the moment to ask again.
    pub fn burst(&self, now: Moment) -> Result<u64, Moment> {
        self.pace.burst(now)
    }

    /// The OACK has been handed to the network.
    pub fn sent_option_ack(&mut self, now: Moment) {
        self.option_ack_due = false;
        self.latest_sent = now;
        self.deadline = Some(now + self.retry.interval());
    }

    /// The first `count` of the pending blocks have been handed to the network.
    pub fn sent(&mut self, count: u64, now: Moment) {
        if self.next == self.acked + 1 {
            self.window_started = now;
            self.sendings = self.sendings.saturating_add(1);
        }
        self.latest_sent = now;
        self.pace.sent(count, now);
        self.next += count;
        self.sent_until = self.sent_until.max(self.next - 1);
        self.deadline = Some(now + self.retry.interval());
    }

    /// An ACK of the wire's `block` arrived.
    pub fn on_ack(&mut self, block: u16, now: Moment) -> Acked {
        if self.opening {
            let sent_before = !self.option_ack_due || self.unrepeated > 0;
            let block = u64::from(block);
            if !(block == 0 || self.may_ask_behind(block)) || !sent_before {
                return Acked::Ignored;
            }
            self.opening = false;
            self.option_ack_due = false;
            self.measure(0, now);
            return self.advance(block, now);
        }
        match self.rollover.distance(self.acked, block) {
            Some(0) if self.reports_loss(now) || self.asks_for_first(now) => {
                self.doubtful = true;
                self.go_back();
                Acked::Repeat
            }
            Some(ahead @ 1..)
                if self.acked + ahead <= self.sent_until
                    || self.may_ask_behind(self.acked + ahead) =>
            {
                self.measure(self.acked + ahead, now);
                self.follow(ahead.min(self.next - 1 - self.acked), now);
                self.advance(self.acked + ahead, now)
            }
            Some(0) => {
                self.repeated_ack(now);
                Acked::Ignored
            }
            _ => Acked::Ignored,
        }
    }

    /// A repeated ACK makes no packet by itself (RFC 1123 section 4.2.3.1). But unless it answers a
    /// repeated block, the client has repeated itself because it waits for the next one: then the
    /// back-off ends, and the next block is sent again a usual interval after it was sent last.
    fn repeated_ack(&mut self, now: Moment) {
        if self.echoes > 0 {
            self.echoes -= 1;
            return;
        }
        let Some(deadline) = self.deadline else { return };
        let interval = self.retry.repeated();
        self.deadline = Some(deadline.min((self.latest_sent + interval).max(now)));
    }

    /// The client has repeated its request. If it has not answered the first packet (the OACK, or
    /// block 1 where there are no options), that may have been lost: it becomes pending again.
    /// Returns whether it has.
    pub fn on_request(&mut self, now: Moment) -> bool {
        if self.answered {
            return false;
        }
        self.retry.progress(now);
        self.repeat_first();
        true
    }

    /// Makes the first packet pending again, unless it still is.
    fn repeat_first(&mut self) {
        if self.opening {
            self.unrepeated = u64::from(!self.option_ack_due || self.unrepeated > 0);
            self.option_ack_due = true;
        } else {
            self.go_back();
        }
        self.doubtful = self.unrepeated > 0;
    }

    /// Whether the client may have a block that this sender never sent, because it was sent to
    /// others of its stream. A stream's file has at most 65,535 blocks, so an old ACK is never
    /// taken for one ahead.
    fn may_ask_behind(&self, block: u64) -> bool {
        self.multicast && self.last.is_some_and(|last| block <= last)
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    /// No answer in time: what was sent last becomes pending again.
    ///
    /// # Errors
    /// [`GaveUp`] when the last repetition went unanswered; the transfer has failed.
    pub fn on_deadline(&mut self, now: Moment) -> Result<(), GaveUp> {
        if self.pending().is_some() || self.starved() {
            // This end has not sent the whole window yet, so the client may still be waiting.
            self.deadline = Some(now + self.retry.interval());
            return Ok(());
        }
        self.retry.expired(now)?;
        if self.acked == 0 && !self.retry.policy().repeats_first {
            self.deadline = Some(now + self.retry.interval());
            return Ok(());
        }
        self.deadline = None;
        if self.opening {
            self.repeat_first();
        } else {
            self.doubtful = true;
            self.pace.unanswered(self.next - 1 - self.acked);
            self.go_back();
        }
        Ok(())
    }

    /// What was sent since the last ACK did not leave this host: the blocks become pending again.
    pub fn resend(&mut self) {
        self.go_back();
    }

    /// Highest block ever sent, 0 when none was.
    #[must_use]
    pub fn sent_until(&self) -> u64 {
        self.sent_until
    }

    /// Highest block that the client has acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Whether the last block has been sent at least once.
    #[must_use]
    pub fn sent_last(&self) -> bool {
        self.last == Some(self.sent_until)
    }

    fn window_end(&self) -> u64 {
        let end = self.acked.saturating_add(self.window);
        self.last.map_or(end, |last| end.min(last))
    }

    /// Whether the window waits for bytes of the file to be loaded.
    fn starved(&self) -> bool {
        !self.opening && self.next <= self.window_end() && self.next > self.ready
    }

    fn advance(&mut self, acked: u64, now: Moment) -> Acked {
        self.retry.progress(now);
        self.retry.prompt(now.since(self.latest_sent));
        self.answered = true;
        self.echoes = std::mem::take(&mut self.sendings).saturating_sub(1);
        self.acked = acked;
        self.sent_until = self.sent_until.max(acked);
        self.doubtful = false;
        self.deadline = None;
        self.go_back();
        if self.last == Some(acked) { Acked::Finished } else { Acked::Progress }
    }

    /// Goes on behind the last acknowledged block.
    fn go_back(&mut self) {
        self.next = self.acked + 1;
        if self.sent_until > self.acked {
            self.unrepeated = self.sent_until + 1;
        }
    }

    /// Whether a repeated ACK reports a lost block and is not a duplicated packet.
    fn reports_loss(&self, now: Moment) -> bool {
        let outstanding = self.next > self.acked + 1;
        let unrepeated = self.acked >= self.unrepeated;
        // An earlier ACK cannot be an answer to this window.
        let answer = self
            .retry
            .round_trip()
            .is_some_and(|round_trip| now.since(self.window_started) >= round_trip / 2);
        self.window > 1 && outstanding && unrepeated && answer
    }

    /// Whether a repeated ACK 0 asks for block 1 again, which the timer does not repeat.
    fn asks_for_first(&self, now: Moment) -> bool {
        let policy = self.retry.policy();
        let late = now.since(self.latest_sent) >= policy.min;
        self.acked == 0 && self.next > 1 && !policy.repeats_first && late
    }

    /// Adapts the pace to the answer to a window: `arrived` of its blocks have arrived.
    fn follow(&mut self, arrived: u64, now: Moment) {
        let lost = self.acked + arrived < self.next - 1;
        if let Some(round_trip) = self.retry.least_round_trip().filter(|_| !self.doubtful) {
            let since = |sent| now.since(sent).saturating_sub(round_trip);
            let (took, waited) = (since(self.window_started), since(self.latest_sent));
            let between =
                u32::try_from(self.next.saturating_sub(self.acked + 2)).unwrap_or(u32::MAX).max(1);
            let left = self.latest_sent.since(self.window_started) / between;
            self.pace.answered(Answer { arrived, left, took, waited, lost });
        }
    }

    /// Measures the round trip of the window that `acked` answers, unless the ACK may answer an
    /// earlier sending (Karn). A client drops the blocks behind a gap, so after it has reported one
    /// its next ACK answers blocks that were sent since.
    fn measure(&mut self, acked: u64, now: Moment) {
        if self.doubtful && acked < self.unrepeated {
            return;
        }
        // An ACK inside a window answers any block of it, the first one at the earliest.
        let since = if acked == self.sent_until { self.latest_sent } else { self.window_started };
        self.retry.sample(now.since(since));
    }
}
