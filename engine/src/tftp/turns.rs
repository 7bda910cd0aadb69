//! In which order transfers send: round robin.
//!
//! ```text
//!   ACK, timer, chunk, completed send --> ready --one send each--> packet engine
//!                                          ^ |
//!        when pace or interface allow it --+ +--> paced (by time), capped (by interface, in order)
//! ```
//! All transfers that have something to send wait in one queue, and each sends at most one send of
//! the largest size per turn. A turn of the shard ends after about 50 us. So a slow client, or one
//! with large windows, gets no more than its share, and the shard's other work, DHCP above all,
//! never waits longer than a turn.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use bootstorm_net::Transmit;
use bootstorm_protocols::time::Moment;

use super::sending::Progress;
use super::shard::TftpShard;

/// How long a turn of the shard takes, about. The cost of a send differs tenfold, since either the
/// network card splits it into datagrams or the kernel does.
const TURN: Duration = Duration::from_micros(50);
/// Bytes of a turn: at least one send of the largest size.
const BYTES: RangeInclusive<u64> = 64 << 10..=1 << 20;
/// The least that a send counts, in bytes.
const LEAST: u64 = 4 << 10;
/// How soon something that found a queue full is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(5);

/// Transfers that have something to send. A transfer is in at most one of the queues
/// (`Transfer::queued`).
#[derive(Debug, Default)]
pub(super) struct Turns {
    ready: VecDeque<u64>,
    /// Transfers whose pace allows nothing before this moment.
    paced: BinaryHeap<Reverse<(Moment, u64)>>,
    /// By interface index: transfers that wait because of the interface's rate limit.
    capped: Vec<(u32, VecDeque<u64>)>,
    /// A transfer has more to send as soon as its send in flight has completed.
    more: bool,
    bytes: Allowance,
}

/// How many bytes a turn may send, so that it takes as long as it should.
#[derive(Debug)]
struct Allowance {
    bytes: u64,
    /// When the last turn began, if it used up its bytes, so that the next follows at once.
    since: Option<Moment>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { bytes: *BYTES.end() / 2, since: None }
    }
}

impl Allowance {
    /// How many bytes may be sent in the turn that begins at `now`.
    fn begin(&mut self, now: Moment) -> u64 {
        if let Some(since) = self.since.take() {
            let took = now.since(since);
            if took > TURN + TURN / 4 {
                self.bytes = (self.bytes / 2).max(*BYTES.start());
            } else if took < TURN {
                self.bytes = (self.bytes + self.bytes / 4).min(*BYTES.end());
            }
        }
        self.bytes
    }

    /// The turn that began at `now` has used up its bytes.
    fn used_up(&mut self, now: Moment) {
        self.since = Some(now);
    }
}

impl Turns {
    fn capped(&mut self, ifindex: u32) -> &mut VecDeque<u64> {
        let at = self.capped.iter().position(|(index, _)| *index == ifindex);
        let at = at.unwrap_or_else(|| {
            self.capped.push((ifindex, VecDeque::new()));
            self.capped.len() - 1
        });
        &mut self.capped[at].1
    }

    fn is_capped(&self, ifindex: u32) -> bool {
        self.capped.iter().any(|(index, waiting)| *index == ifindex && !waiting.is_empty())
    }
}

impl TftpShard {
    /// The transfer may have something to send.
    pub(super) fn enqueue(&mut self, number: u64) {
        if let Some(transfer) = self.transfers.get(number)
            && !std::mem::replace(&mut transfer.queued, true)
        {
            self.turns.ready.push_back(number);
        }
    }

    /// Sends what is due, up to the bytes of a turn. Returns when to be called again.
    pub(super) fn take_turns<T: Transmit>(&mut self, tx: &mut T) -> Option<Moment> {
        let now = tx.now();
        while let Some(&Reverse((at, number))) = self.turns.paced.peek()
            && at <= now
        {
            self.turns.paced.pop();
            self.turns.ready.push_back(number);
        }
        let mut left = self.turns.bytes.begin(now);
        for at in 0..self.turns.capped.len() {
            let ifindex = self.turns.capped[at].0;
            while left > 0
                && self.server.interface_ready(ifindex, now).is_ok()
                && let Some(number) = self.turns.capped[at].1.pop_front()
            {
                if !self.turn(number, &mut left, tx) {
                    return Some(now + RETRY);
                }
            }
        }
        while left > 0
            && let Some(number) = self.turns.ready.pop_front()
        {
            let ifindex = self.transfers.get(number).map_or(0, |transfer| transfer.ifindex);
            if self.turns.is_capped(ifindex) {
                self.turns.capped(ifindex).push_back(number);
            } else if !self.turn(number, &mut left, tx) {
                return Some(now + RETRY);
            }
        }
        if left == 0 {
            self.turns.bytes.used_up(now);
        }
        if std::mem::take(&mut self.turns.more) || !self.turns.ready.is_empty() {
            return Some(now);
        }
        let paced = self.turns.paced.peek().map(|Reverse((at, _))| *at);
        let capped = self.turns.capped.iter().filter(|(_, waiting)| !waiting.is_empty());
        let capped = capped
            .map(|(ifindex, _)| self.server.interface_ready(*ifindex, now).err().unwrap_or(now));
        paced.into_iter().chain(capped).min()
    }

    /// One transfer's turn; false when the packet engine has no room for any transfer.
    fn turn<T: Transmit>(&mut self, number: u64, left: &mut u64, tx: &mut T) -> bool {
        let Some(transfer) = self.transfers.get(number) else { return true };
        transfer.queued = false;
        let ifindex = transfer.ifindex;
        let room = match self.advance(number, tx) {
            Progress::Done | Progress::Starved | Progress::Failed(_) => return true,
            Progress::Sent(bytes) => {
                *left = left.saturating_sub(bytes.max(LEAST));
                self.turns.more |= self.transfers.get(number).is_some_and(|sent| sent.is_due());
                return true;
            }
            Progress::Later(at) => {
                self.turns.paced.push(Reverse((at, number)));
                true
            }
            Progress::Capped => {
                self.turns.capped(ifindex).push_back(number);
                true
            }
            Progress::Refused => {
                self.turns.ready.push_front(number);
                false
            }
        };
        if let Some(transfer) = self.transfers.get(number) {
            transfer.queued = true;
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_sends_as_much_as_its_time_allows() {
        let mut allowance = Allowance::default();
        let mut now = Moment::default();
        // Sends at 100 MB/s, at 100 GB/s, and in between.
        for (nanos, least, most) in
            [(10.0, 0, 65_536), (0.01, 1 << 20, 1 << 20), (0.25, 120_000, 260_000)]
        {
            let mut bytes = 0;
            for _ in 0..50 {
                bytes = allowance.begin(now);
                allowance.used_up(now);
                now = now + Duration::from_nanos((bytes as f64 * nanos) as u64);
            }
            assert!((least..=most).contains(&bytes), "{bytes} at {nanos} ns a byte");
        }
        allowance.begin(now);
        // A turn after a wait says nothing.
        let bytes = allowance.begin(now);
        assert_eq!(allowance.begin(now + Duration::from_secs(1)), bytes);
    }
}
