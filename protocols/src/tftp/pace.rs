//! How fast the blocks of a window are sent: at once until blocks are lost, then at the path's
//! rate.
//!
//! A window that is sent at once can overflow the queue of the client's switch port: the port drops
//! the blocks that do not fit, and the client drops all blocks behind the first gap. TFTP cannot
//! shrink a window once it is agreed on (RFC 7440), but the sender can spread it over time. The
//! time from a window's first block to its ACK, less the round trip, says how long the path takes
//! for each block.

use std::time::Duration;

use crate::time::Moment;

/// Blocks that are due within so long a time are sent together. Timers of a host are too coarse for
/// a shorter one; with a longer one a switch port has to queue more (at 1 Gbit/s this is 31 kB).
const BURST: Duration = Duration::from_micros(250);
/// A window that nobody answered is spread over so long a time next, if the path's rate is unknown.
const CAREFUL: Duration = Duration::from_millis(10);
/// The longest time that a block is given.
const SLOWEST: Duration = Duration::from_millis(2);
/// A time for a block that is shorter than this counts as zero.
const NEGLIGIBLE: Duration = Duration::from_nanos(500);

/// The pace of one transfer.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Pace {
    /// Time for each block; zero: send a window at once.
    gap: Duration,
    /// The lower limit of `gap`.
    least: Duration,
    /// When the next block may leave.
    next: Moment,
}

/// What the answer to a window says of the path. Times exclude the round trip of an idle path.
#[derive(Copy, Clone, Debug)]
pub(super) struct Answer {
    /// How many blocks of the window arrived, counted from its first.
    pub(super) arrived: u64,
    /// Average time between two blocks when they were sent.
    pub(super) left: Duration,
    /// Time from the first block to the answer.
    pub(super) took: Duration,
    /// Time from the last block to the answer: how long the path's queues were.
    pub(super) waited: Duration,
    /// The next block was sent as well, and was lost.
    pub(super) lost: bool,
}

impl Pace {
    /// Sets the least time for a block.
    pub(super) fn limit(&mut self, least: Duration) {
        self.least = least;
        self.gap = self.gap.max(least);
    }

    /// How many blocks may be sent now (at least 1), or when the next may.
    pub(super) fn burst(&self, now: Moment) -> Result<u64, Moment> {
        if self.gap.is_zero() {
            return Ok(u64::MAX);
        }
        if now < self.next {
            return Err(self.next);
        }
        let late = now.since(self.next).min(BURST);
        let blocks = (BURST + late).as_nanos() / self.gap.as_nanos();
        Ok(u64::try_from(blocks).unwrap_or(u64::MAX).max(1))
    }

    /// `blocks` were sent.
    pub(super) fn sent(&mut self, blocks: u64, now: Moment) {
        if !self.gap.is_zero() {
            let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
            // A caller that comes a little late catches up.
            self.next = self.next.max(now - BURST) + self.gap.saturating_mul(blocks);
        }
    }

    /// A window was answered.
    pub(super) fn answered(&mut self, answer: Answer) {
        let Answer { arrived, left, took, waited, lost } = answer;
        if self.gap.is_zero() && !lost {
            return;
        }
        // The block behind the lost one caused this answer, so its time counts too.
        let blocks = arrived.saturating_add(u64::from(lost)).max(1);
        let took = took / u32::try_from(blocks).unwrap_or(u32::MAX);
        // A busy host sends later than planned; that says nothing of the path.
        let left = left.max(self.gap);
        if self.gap.is_zero() {
            self.set(took);
        } else if took > left + left / 8 {
            self.set(took.min(self.gap * 2));
        } else if waited < BURST.max(self.gap * 4) {
            // The path's queues are short, so a loss at this rate is not congestion.
            self.set(self.gap - self.gap / 4);
        } else {
            self.set(self.gap - self.gap / 16);
        }
    }

    /// A window of so many blocks was not answered.
    pub(super) fn unanswered(&mut self, window: u64) {
        if window > 1 {
            let careful = CAREFUL / u32::try_from(window).unwrap_or(u32::MAX);
            self.set((self.gap * 2).clamp(careful, careful * 4).max(self.gap));
        }
    }

    fn set(&mut self, gap: Duration) {
        let gap = if gap < NEGLIGIBLE { Duration::ZERO } else { gap.min(SLOWEST) };
        self.gap = gap.max(self.least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn answer(arrived: u64, took: Duration, lost: bool) -> Answer {
        Answer { arrived, left: Duration::ZERO, took, waited: Duration::ZERO, lost }
    }

    #[test]
    fn without_loss_everything_leaves_at_once() {
        let mut pace = Pace::default();
        let now = Moment::from_nanos(1);
        pace.sent(64, now);
        pace.answered(answer(64, us(900), false));
        assert_eq!(pace.burst(now), Ok(u64::MAX));
        pace.unanswered(1);
        assert_eq!(pace.burst(now), Ok(u64::MAX), "one block cannot be spread");
    }

    #[test]
    fn after_a_loss_blocks_leave_as_fast_as_they_arrived_then_faster_by_and_by() {
        let mut pace = Pace::default();
        pace.answered(answer(39, us(400), true));
        let now = Moment::default();
        assert_eq!(pace.burst(now), Ok(25), "10 us a block");
        pace.sent(25, now);
        assert_eq!(pace.burst(now), Err(now + us(250)));
        assert_eq!(pace.burst(now + us(250)), Ok(25));
        // A late caller catches up, by one burst at most.
        assert_eq!(pace.burst(now + us(300)), Ok(30));
        assert_eq!(pace.burst(now + us(3000)), Ok(50));
        // The path takes 14 us a block: the gap follows at once, and at most doubles.
        pace.answered(answer(64, us(64 * 14), false));
        assert_eq!(pace.gap, us(14));
        pace.answered(answer(64, us(64 * 90), false));
        assert_eq!(pace.gap, us(28));
        // Random losses at this rate do not slow it down.
        for _ in 0..10 {
            pace.answered(answer(9, pace.gap * 10, true));
        }
        assert!(pace.gap < us(9), "{:?}", pace.gap);
        // A host that sent later than planned learns nothing of the path.
        let before = pace.gap;
        pace.answered(Answer { left: us(40), ..answer(64, us(64 * 41), false) });
        assert_eq!(pace.gap, before - before / 4);
        // Where blocks wait in queues the gap shrinks in smaller steps.
        let (gap, waited) = (pace.gap, us(400));
        pace.answered(Answer { waited, ..answer(64, Duration::ZERO, false) });
        assert_eq!(pace.gap, gap - gap / 16);
        for _ in 0..40 {
            pace.answered(answer(64, Duration::ZERO, false));
        }
        assert_eq!(pace.burst(now), Ok(u64::MAX));
    }

    #[test]
    fn silence_slows_down_within_limits() {
        let mut pace = Pace::default();
        pace.unanswered(50);
        assert_eq!(pace.gap, us(200));
        pace.unanswered(50);
        assert_eq!(pace.gap, us(400));
        for _ in 0..9 {
            pace.unanswered(50);
        }
        assert_eq!(pace.gap, us(800));
        for _ in 0..9 {
            pace.answered(answer(1, us(100_000), true));
        }
        assert_eq!(pace.gap, SLOWEST);
        pace.unanswered(50);
        assert_eq!(pace.gap, SLOWEST);
        assert_eq!(pace.burst(Moment::default()), Ok(1));
    }

    #[test]
    fn a_limit_holds_in_lockstep_too() {
        let mut pace = Pace::default();
        pace.limit(us(125));
        let now = Moment::default();
        for _ in 0..50 {
            pace.answered(answer(1, Duration::ZERO, false));
        }
        assert_eq!(pace.burst(now), Ok(2));
        pace.sent(2, now);
        assert_eq!(pace.burst(now), Err(now + us(250)));
    }
}
