//! The rate limit of an interface, which all transfers of all shards share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bootstorm_protocols::time::Moment;

/// Time that was not used may be caught up with for so long: a busy shard sends about once in a
/// millisecond.
const SLACK: Duration = Duration::from_millis(1);
/// At least so many bytes are sent at once: the largest send.
const LEAST_BURST: u64 = 65_536;
/// Bytes of a datagram on the wire beside its payload: Ethernet 14 and 4, IPv4 20, UDP 8. IPv6 has
/// 20 more.
const OVERHEAD: u64 = 46;

/// A limit in bytes a second (generic cell rate algorithm): one number says until when the bytes
/// sent so far occupy the interface.
#[derive(Debug)]
pub(super) struct RateCap {
    bytes_per_second: u64,
    /// Nanoseconds, as in [`Moment`].
    used_until: AtomicU64,
}

impl RateCap {
    /// At most `bytes_per_second` (at least 1), headers included.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), used_until: AtomicU64::new(0) }
    }

    /// Whether something may be sent at `now`, or when.
    pub(super) fn ready(&self, now: Moment) -> Result<(), Moment> {
        let used_until = Moment::from_nanos(self.used_until.load(Ordering::Relaxed));
        let at = used_until - SLACK.max(self.time_of(LEAST_BURST));
        if at <= now { Ok(()) } else { Err(at) }
    }

    /// `bytes` of payload in so many datagrams were sent.
    pub(super) fn spend(&self, bytes: u64, datagrams: u64, now: Moment) {
        let time = self.time_of(bytes + datagrams * OVERHEAD);
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let add = |until: u64| Some(until.max(now.as_nanos()).saturating_add(time));
        // It never refuses.
        let _ = self.used_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn time_of(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_second_no_more_leaves_than_the_rate_says() {
        for rate in [100_000, 10_000_000, 1_250_000_000] {
            let cap = RateCap::new(rate);
            let (mut now, mut sent) = (Moment::from_nanos(5_000_000_000), 0);
            let end = now + Duration::from_secs(1);
            while now < end {
                match cap.ready(now) {
                    Ok(()) => {
                        cap.spend(22 * 1472, 22, now);
                        sent += 22 * (1472 + OVERHEAD);
                    }
                    Err(at) => {
                        assert!(at > now);
                        now = at;
                    }
                }
            }
            let burst = LEAST_BURST.max(rate / 1000);
            assert!(sent <= rate + 2 * burst, "{sent} at {rate}");
            assert!(sent + 2 * burst >= rate, "{sent} at {rate}");
        }
    }

    #[test]
    fn an_idle_line_saves_nothing_up() {
        let cap = RateCap::new(1_000_000);
        let later = Moment::from_nanos(3_600_000_000_000);
        let mut sends = 0;
        while cap.ready(later).is_ok() {
            cap.spend(1000 - OVERHEAD, 1, later);
            sends += 1;
        }
        assert!((65..=67).contains(&sends), "{sends}");
    }
}
