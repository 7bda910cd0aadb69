//! Time as the rules see it: a number that is handed in, never a clock that is read.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the monotonic clock: nanoseconds since an arbitrary origin (since boot in production,
/// virtual in tests).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(u64);

impl Moment {
    /// Later than every moment that comes: the end of an infinite lease.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment that many nanoseconds after the origin; `u64::MAX` is [`Moment::NEVER`].
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Saturates at [`Moment::NEVER`].
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    /// Saturates at the origin; [`Moment::NEVER`] stays what it is.
    fn sub(self, duration: Duration) -> Self {
        if self == Self::NEVER {
            return self;
        }
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_and_never_stays_never() {
        let second = Duration::from_secs(1);
        let one = Moment::from_nanos(1_000_000_000);
        assert_eq!(Moment::default() + second, one);
        assert_eq!(one - second, Moment::default());
        assert_eq!(Moment::default() - second, Moment::default());
        assert_eq!(Moment::NEVER + second, Moment::NEVER);
        assert_eq!(Moment::NEVER - second, Moment::NEVER);
        assert_eq!(one + Duration::MAX, Moment::NEVER);
        assert_eq!(one.since(Moment::default()), second);
        assert_eq!(Moment::default().since(one), Duration::ZERO);
    }
}
