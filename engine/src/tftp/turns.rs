//! Whose turn it is to send.
//!
//! ```text
//!   an ACK, a timer, a chunk, a send that is over --> ready --one send each--> engine
//!                                                      ^  |
//!            when the pace or the line allows it ------+  +--> paced (by time), capped (by interface, in order)
//! ```
//! Everybody who has something to send stands in one queue and sends at most one send's worth when its turn comes; a turn of the
//! shard ends after a fixed amount of bytes. So a slow client, or one with large windows, takes no more than its share, and what
//! else the shard has to do, DHCP first of all, never waits longer than for that amount.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use bootstorm_net::Transmit;
use bootstorm_protocols::time::Moment;

use super::sending::Progress;
use super::shard::TftpShard;

/// Bytes that are sent in one turn of the shard, about: eight of the largest sends, a quarter of a millisecond of work.
const TURN: u64 = 512 << 10;
/// What a send costs at least, in bytes of a large one.
const LEAST: u64 = 4 << 10;
/// How soon something that was refused for want of room is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(5);

/// Those who have something to send. Each transfer stands in one of the queues at most: `Transfer::queued`.
#[derive(Debug, Default)]
pub(super) struct Turns {
    ready: VecDeque<u64>,
    /// Those whose pace lets nothing go yet.
    paced: BinaryHeap<Reverse<(Moment, u64)>>,
    /// Those whose interface may send nothing yet, by its index.
    capped: Vec<(u32, VecDeque<u64>)>,
    /// Somebody has more to send as soon as the engine is done with what it has.
    more: bool,
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

    /// Sends what is due, up to a turn's worth. Returns when to be called again.
    pub(super) fn take_turns<T: Transmit>(&mut self, tx: &mut T) -> Option<Moment> {
        let now = tx.now();
        while let Some(&Reverse((at, number))) = self.turns.paced.peek()
            && at <= now
        {
            self.turns.paced.pop();
            self.turns.ready.push_back(number);
        }
        let mut left = TURN;
        for at in 0..self.turns.capped.len() {
            let ifindex = self.turns.capped[at].0;
            while left > 0
                && self.server.line(ifindex, now).is_ok()
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
        if std::mem::take(&mut self.turns.more) || !self.turns.ready.is_empty() {
            return Some(now);
        }
        let paced = self.turns.paced.peek().map(|Reverse((at, _))| *at);
        let capped = self.turns.capped.iter().filter(|(_, waiting)| !waiting.is_empty());
        let capped =
            capped.map(|(ifindex, _)| self.server.line(*ifindex, now).err().unwrap_or(now));
        paced.into_iter().chain(capped).min()
    }

    /// One transfer's turn; false when the engine has no room, for anybody.
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
