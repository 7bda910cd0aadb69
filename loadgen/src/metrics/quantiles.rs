//! Quantiles of what was timed, and of what failed and so is infinitely late.

use hdrhistogram::Histogram;

use crate::report::{Quantiles, WithFailures};

/// Quantiles in milliseconds of times in microseconds, and of so many more that failed.
pub(super) fn quantiles(times: &Histogram<u64>, failed: u64) -> Quantiles {
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    // The rank among all of them; behind those that were timed come those that failed.
    let (timed, all) = (times.len(), times.len() + failed);
    let with_failures = |quantile: f64| {
        let rank = ((quantile * all as f64).ceil() as u64).clamp(1, all.max(1));
        // Half a place below its rank, so that rounding cannot choose the next one.
        (rank <= timed).then(|| at((rank as f64 - 0.5) / timed as f64))
    };
    Quantiles {
        count: times.len(),
        min: times.min() as f64 / 1000.0,
        mean: times.mean() / 1000.0,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: times.max() as f64 / 1000.0,
        failed,
        with_failures: Some(WithFailures {
            p50: with_failures(0.5),
            p90: with_failures(0.9),
            p99: with_failures(0.99),
            p999: with_failures(0.999),
            max: (failed == 0 && timed > 0).then(|| times.max() as f64 / 1000.0),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bootstorm_protocols::time::Moment;

    use super::*;
    use crate::metrics::{Metrics, Timed};

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    #[test]
    fn what_failed_is_infinitely_late() {
        let mut metrics = Metrics::new(at(0), 1).unwrap();
        for millis in 1..=98 {
            metrics.answered(Timed::Offer, at(0), at(millis));
        }
        metrics.failed(Timed::Offer);
        metrics.failed(Timed::Ack);
        let latency = metrics.latency();
        // 98 of 100 were answered: every quantile up to there is a time, and none above.
        let answer = &latency["answer"];
        assert_eq!((answer.count, answer.failed), (98, 2));
        let all = answer.with_failures();
        assert!((all.p50.unwrap() - 50.0).abs() < 0.1, "{all:?}");
        assert!((all.p90.unwrap() - 90.0).abs() < 0.1, "{all:?}");
        assert_eq!((all.p99, all.p999, all.max), (None, None, None));
        assert_eq!(latency["offer"].with_failures().p99, None);
        let ack = &latency["ack"];
        assert_eq!((ack.count, ack.failed, ack.with_failures().p50), (0, 1, None));
        assert!(!latency.contains_key("boot"));
    }

    #[test]
    fn without_failures_both_kinds_of_quantiles_are_equal() {
        let mut metrics = Metrics::new(at(0), 1).unwrap();
        (1..=1000).for_each(|millis| metrics.answered(Timed::Ack, at(0), at(millis)));
        let ack = &metrics.latency()["ack"];
        let WithFailures { p50, p90, p99, p999, max } = ack.with_failures();
        let found = [p50, p90, p99, p999, max].map(Option::unwrap);
        assert_eq!(found, [ack.p50, ack.p90, ack.p99, ack.p999, ack.max]);
    }
}
