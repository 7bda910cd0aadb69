//! When to send again and when to give up: RFC 6298's estimator, Karn's rule by the callers.

use std::time::Duration;

use thiserror::Error;

use crate::time::Moment;

/// How long one end waits for the other before it sends again, and before it gives up.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// First interval, before any round trip was measured (RFC 6298 section 2.1: 1 s).
    pub initial: Duration,
    /// Shortest interval. RFC 6298 section 2.4 asks for 1 s across the Internet; round trips in a
    /// data centre are a thousandth of that, and a lost packet would stop a client for so long.
    pub min: Duration,
    /// Longest interval that back-off reaches.
    pub max: Duration,
    /// Repetitions in a row without an answer after which the transfer is given up.
    pub tries: u32,
    /// Silence after which the transfer is given up even with tries left.
    pub total: Duration,
    /// Whether the timer repeats an end's first packets. If not, they are repeated only when the
    /// other end repeats its own: see [`Self::first_on_request`].
    pub repeats_first: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            min: Duration::from_millis(200),
            max: Duration::from_secs(5),
            tries: 8,
            total: Duration::from_secs(60),
            repeats_first: true,
        }
    }
}

impl RetryPolicy {
    /// The same policy, but with no interval shorter than `interval`.
    #[must_use]
    pub fn at_least(self, interval: Duration) -> Self {
        Self {
            initial: self.initial.max(interval),
            min: self.min.max(interval),
            max: self.max.max(interval),
            ..self
        }
    }

    /// The same policy for a server whose transfers share a port. A client that begins its next
    /// transfer from the same port takes the first block 1 or OACK that comes, be it a late one of
    /// its last transfer. On a path that keeps the order of packets, none is late that was sent
    /// because the client asked for it.
    #[must_use]
    pub fn first_on_request(self) -> Self {
        Self { repeats_first: false, ..self }
    }
}

/// The other end has been silent for too long.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Error)]
#[error("no answer after {tries} repetitions")]
pub struct GaveUp {
    /// Repetitions that went unanswered.
    pub tries: u32,
}

/// The retransmission timer of one end of one transfer.
#[derive(Copy, Clone, Debug)]
pub(super) struct RetryTimer {
    policy: RetryPolicy,
    /// The negotiated timeout: used as it is, without estimate and back-off (RFC 2349).
    agreed: Option<Duration>,
    /// Smoothed round trip and its variation.
    smoothed: Option<(Duration, Duration)>,
    /// The shortest round trip.
    least: Option<Duration>,
    interval: Duration,
    tries: u32,
    /// Last sign of life.
    heard: Moment,
}

impl RetryTimer {
    pub(super) fn new(policy: &RetryPolicy, agreed: Option<Duration>, now: Moment) -> Self {
        Self {
            policy: *policy,
            agreed,
            smoothed: None,
            least: None,
            interval: policy.initial,
            tries: 0,
            heard: now,
        }
    }

    /// Uses the timeout that the other end has granted.
    pub(super) fn agree(&mut self, timeout: Option<Duration>) {
        self.agreed = timeout;
    }

    pub(super) fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    pub(super) fn interval(&self) -> Duration {
        self.agreed.unwrap_or(self.interval)
    }

    /// The smoothed round trip, once there is one.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.smoothed.map(|(smoothed, _)| smoothed)
    }

    /// The shortest round trip so far: that of packets which waited in no queue.
    pub(super) fn least_round_trip(&self) -> Option<Duration> {
        self.least
    }

    /// Takes one measured round trip; only of packets sent once (Karn).
    pub(super) fn sample(&mut self, round_trip: Duration) {
        // RFC 6298 section 2.2 and 2.3: alpha 1/8, beta 1/4, K 4.
        let (smoothed, variation) = match self.smoothed {
            None => (round_trip, round_trip / 2),
            Some((smoothed, variation)) => (
                smoothed.saturating_mul(7).saturating_add(round_trip) / 8,
                variation.saturating_mul(3).saturating_add(smoothed.abs_diff(round_trip)) / 4,
            ),
        };
        self.smoothed = Some((smoothed, variation));
        self.least = Some(self.least.map_or(round_trip, |least| least.min(round_trip)));
        self.interval = self.estimate().unwrap_or(self.interval);
    }

    /// The other end has repeated itself: it waits, and what was sent last was lost. Ends the
    /// back-off and renews the tries, but not `total`, which needs progress. Returns the interval.
    pub(super) fn repeated(&mut self) -> Duration {
        self.interval = self.interval.min(self.estimate().unwrap_or(self.policy.initial));
        self.tries = self.tries.min(1);
        self.interval()
    }

    /// The interval that follows from the round trips so far.
    fn estimate(&self) -> Option<Duration> {
        let (smoothed, variation) = self.smoothed?;
        // At least twice the round trip: where thousands of transfers share a queue, round trips
        // are long and hardly vary, and one more transfer would make all others repeat themselves.
        let interval = smoothed.saturating_add(variation.saturating_mul(4).max(smoothed));
        Some(interval.max(self.policy.min).min(self.policy.max))
    }

    /// An answer came `took` after the last packet, which may have been a repetition. If that is
    /// within the estimate, the earlier packets were lost and not late, so the back-off ends now.
    /// Waiting for the next sample may take long where every tenth packet is lost.
    pub(super) fn prompt(&mut self, took: Duration) {
        if let Some(estimate) = self.estimate().filter(|&estimate| took <= estimate) {
            self.interval = self.interval.min(estimate);
        }
    }

    /// The other end made progress. The interval stays backed off until the next sample (RFC 6298
    /// section 5.7 with Karn's rule); otherwise a client slower than the estimate would get every
    /// block twice.
    pub(super) fn progress(&mut self, now: Moment) {
        self.tries = 0;
        self.heard = now;
    }

    /// The interval passed without an answer: doubles it, or gives up.
    pub(super) fn expired(&mut self, now: Moment) -> Result<(), GaveUp> {
        // At least one repetition, however long the agreed timeout.
        let too_long = self.tries > 0 && now.since(self.heard) >= self.policy.total;
        if self.tries >= self.policy.tries || too_long {
            return Err(GaveUp { tries: self.tries });
        }
        self.tries += 1;
        self.interval = self.interval.saturating_mul(2).min(self.policy.max);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_interval_follows_the_round_trip_within_its_limits() {
        let policy = RetryPolicy::default();
        let mut retry = RetryTimer::new(&policy, None, Moment::default());
        assert_eq!(retry.interval(), ms(1000));
        retry.sample(ms(100));
        assert_eq!(retry.interval(), ms(300));
        for _ in 0..100 {
            retry.sample(ms(1));
        }
        assert_eq!(retry.interval(), policy.min);
        for _ in 0..100 {
            retry.sample(ms(60_000));
        }
        assert_eq!(retry.interval(), policy.max);
    }

    #[test]
    fn silence_doubles_the_interval_and_ends_it() {
        let policy = RetryPolicy { tries: 4, ..RetryPolicy::default() };
        let mut retry = RetryTimer::new(&policy, None, Moment::default());
        let mut now = Moment::default();
        let mut waited = Vec::new();
        let gave_up = loop {
            waited.push(retry.interval().as_secs());
            now = now + retry.interval();
            if let Err(gave_up) = retry.expired(now) {
                break gave_up;
            }
        };
        assert_eq!(waited, [1, 2, 4, 5, 5]);
        assert_eq!(gave_up, GaveUp { tries: 4 });
    }

    #[test]
    fn a_prompt_answer_ends_the_back_off_and_a_late_one_does_not() {
        let mut retry = RetryTimer::new(&RetryPolicy::default(), None, Moment::default());
        retry.prompt(ms(1));
        assert_eq!(retry.interval(), ms(1000), "nothing is known yet");
        for _ in 0..100 {
            retry.sample(ms(100));
        }
        let now = Moment::default();
        retry.expired(now).unwrap();
        retry.expired(now).unwrap();
        assert_eq!(retry.interval(), ms(800));
        retry.prompt(ms(300));
        assert_eq!(retry.interval(), ms(800));
        retry.prompt(ms(120));
        assert_eq!(retry.interval(), ms(200));
    }

    #[test]
    fn a_sign_of_life_renews_the_tries_but_not_the_interval() {
        let mut retry = RetryTimer::new(&RetryPolicy::default(), None, Moment::default());
        let now = Moment::default() + ms(1000);
        retry.expired(now).unwrap();
        retry.progress(now);
        assert_eq!(retry.interval(), ms(2000));
        retry.sample(ms(10));
        assert_eq!(retry.interval(), ms(200));
    }

    #[test]
    fn an_agreed_timeout_stands_and_total_silence_ends_it() {
        let agreed = Some(Duration::from_secs(40));
        let mut retry = RetryTimer::new(&RetryPolicy::default(), agreed, Moment::default());
        let mut now = Moment::default() + retry.interval();
        retry.expired(now).unwrap();
        assert_eq!(retry.interval(), Duration::from_secs(40));
        now = now + retry.interval();
        assert_eq!(retry.expired(now), Err(GaveUp { tries: 1 }));
    }
}
