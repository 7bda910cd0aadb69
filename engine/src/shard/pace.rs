//! How fast replies leave. A relay agent, a switch's control plane or a load generator has a small
//! receive buffer (208 KiB by default on Linux: some 160 replies), and what a slow disk or a busy
//! core held back would come to it all at once.
//!
//! A group leaves at once. What is more leaves a quarter faster than replies were asked for lately,
//! so a queue always becomes shorter, and where requests come in small groups or regularly nothing
//! waits. OFFERs wait as DISCOVERs in their socket, ACKs in their transmit slots. ACKs go first.

use std::time::Duration;

use bootstorm_protocols::time::Moment;

/// Replies that may leave at once: fewer would break up the turns of a busy shard.
const GROUP: u32 = 64;
/// Replies worth a turn of the shard of their own.
const LEAST: u32 = 16;
/// What counts as lately: this, and up to twice this.
const WINDOW: Duration = Duration::from_millis(32);
/// Replies a second that may leave at least, however few were asked for lately.
const SLOWEST: f64 = 40_000.0;
/// How many may leave for each that was asked for lately: a receiver that is busy with what it asks
/// for has little room for more.
const FASTER: f64 = 1.25;

/// The pace of one shard: a bucket of [`GROUP`] tokens, one for each reply.
#[derive(Debug)]
pub(super) struct Pace {
    tokens: f64,
    filled: Moment,
    /// When the window began, and how many replies were asked for in it and in the one before.
    began: Moment,
    counts: [u32; 2],
}

impl Pace {
    pub(super) fn new() -> Self {
        let long_ago = Moment::default();
        Self { tokens: GROUP.into(), filled: long_ago, began: long_ago, counts: [0; 2] }
    }

    /// Another reply is asked for.
    pub(super) fn expect(&mut self, now: Moment) {
        let passed = now.since(self.began);
        if passed >= WINDOW {
            let before = if passed < 2 * WINDOW { self.counts[1] } else { 0 };
            (self.counts, self.began) = ([before, 0], now);
        }
        self.counts[1] += 1;
    }

    /// Whether one may leave now.
    pub(super) fn may(&self, now: Moment) -> bool {
        self.tokens_at(now) >= 1.0
    }

    /// How many may leave now, of so many that wait. They are taken to leave.
    pub(super) fn take(&mut self, waiting: usize, now: Moment) -> usize {
        self.tokens = self.tokens_at(now);
        self.filled = now;
        let taken = waiting.min(self.tokens as usize);
        self.tokens -= taken as f64;
        taken
    }

    /// When to take again if so many wait.
    pub(super) fn next(&self, waiting: usize, now: Moment) -> Option<Moment> {
        let wanted = waiting.min(LEAST as usize) as f64;
        let missing = (wanted - self.tokens_at(now)).max(0.0);
        // Rounded up: a nanosecond too early there is no token, and nothing to wait for either.
        let nanos = (missing / self.rate(now) * 1e9).ceil() as u64;
        (waiting > 0).then(|| now + Duration::from_nanos(nanos))
    }

    /// When to take again, if none may leave now.
    pub(super) fn resumes(&self, now: Moment) -> Option<Moment> {
        (!self.may(now)).then(|| self.next(LEAST as usize, now)).flatten()
    }

    fn tokens_at(&self, now: Moment) -> f64 {
        let passed = now.since(self.filled).as_secs_f64();
        (self.tokens + passed * self.rate(now)).min(GROUP.into())
    }

    /// Replies a second.
    fn rate(&self, now: Moment) -> f64 {
        let passed = now.since(self.began);
        if passed >= 2 * WINDOW {
            return SLOWEST;
        }
        let asked = f64::from(self.counts[0]) + f64::from(self.counts[1]);
        (FASTER * asked / (WINDOW + passed).as_secs_f64()).max(SLOWEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Moment {
        Moment::from_nanos(1_000 * micros)
    }

    /// When each of the ACKs leaves, in microseconds. Each batch says when its leases are asked
    /// for, when they become durable, and how many they are.
    fn leave(batches: impl IntoIterator<Item = (u64, u64, usize)>) -> Vec<u64> {
        // (when, asked for, durable)
        let mut events: Vec<_> = batches
            .into_iter()
            .flat_map(|(asked, durable, count)| [(asked, count, 0), (durable, 0, count)])
            .collect();
        events.sort_unstable();
        let mut pace = Pace::new();
        let mut left = Vec::new();
        let (mut waiting, mut next) = (0, None::<u64>);
        let mut events = events.into_iter().peekable();
        while let Some(now) = events.peek().map(|(at, ..)| *at).into_iter().chain(next).min() {
            while let Some((_, asked, durable)) = events.next_if(|(at, ..)| *at <= now) {
                (0..asked).for_each(|_| pace.expect(at(now)));
                waiting += durable;
            }
            let taken = pace.take(waiting, at(now));
            waiting -= taken;
            left.extend(std::iter::repeat_n(now, taken));
            // A timer is never early.
            next = pace.next(waiting, at(now)).map(|next| next.as_nanos().div_ceil(1_000));
        }
        assert_eq!(waiting, 0);
        left
    }

    #[test]
    fn a_lone_ack_or_a_group_leaves_at_once() {
        let left = leave([(0, 10, 1), (1, 20, 1), (500, 2000, 60)]);
        assert_eq!(left, [&[10, 20][..], &[2000; 60]].concat());
    }

    /// Once it is known how many there are.
    #[test]
    fn regular_batches_hardly_wait() {
        for (size, longest) in [(25, 0), (50, 500), (100, 800)] {
            let batches = (1..1000).map(|number| (number * 1000 - 500, number * 1000, size));
            let came: Vec<u64> =
                batches.clone().flat_map(|(_, at, size)| std::iter::repeat_n(at, size)).collect();
            let late = leave(batches).into_iter().zip(&came).map(|(left, came)| left - came);
            assert!(late.skip(100 * size).max() <= Some(longest), "{size}");
        }
    }

    #[test]
    fn what_a_stalled_disk_held_back_leaves_in_small_groups_and_not_for_ever() {
        // 32 a millisecond, and once nothing for 60 ms.
        let stall = |at| if (100_000..160_000).contains(&at) { 160_000 } else { at };
        let batches = (1..500).map(|number| (number * 1000 - 200, stall(number * 1000), 32));
        let left = leave(batches);
        // In no 4 ms more than a group and a quarter more than is usual.
        let within = |from: u64| left.iter().filter(|at| (from..from + 4000).contains(*at)).count();
        let most = left.iter().map(|at| within(*at)).max();
        assert!(most <= Some(64 + 4 * 41), "a burst of {most:?}");
        // What came in 60 ms has left after 240, beside what came meanwhile.
        assert_eq!(left.iter().filter(|at| **at <= 410_000).count(), 410 * 32);
    }

    #[test]
    fn each_turn_sends_something_or_comes_later() {
        for asked in [1, 65, 1000, 1717, 4001] {
            let (mut pace, mut now) = (Pace::new(), at(7));
            (0..asked).for_each(|_| pace.expect(now));
            let mut waiting = asked;
            let mut turns = 0;
            while waiting > 0 {
                waiting -= pace.take(waiting, now);
                if let Some(next) = pace.next(waiting, now) {
                    assert!(next > now, "{waiting} of {asked} wait, and nothing leaves");
                    now = next;
                }
                turns += 1;
            }
            assert!(turns <= 3 + asked / 8, "{turns} turns for {asked}");
        }
    }

    #[test]
    fn a_cold_start_is_not_slow() {
        let left = leave([(0, 100, 256)]);
        assert!(left.last() <= Some(&6_000), "{left:?}");
        assert!(left.windows(96).all(|some| some[95] - some[0] >= 600));
    }
}
