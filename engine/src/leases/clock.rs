//! The time on all clocks at once.

use std::time::Duration;

use bootstorm_protocols::time::Moment;

/// The time on all clocks at once, as it was read at a start or by a sweep.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Clock {
    /// The monotonic clock.
    pub now: Moment,
    /// The wall clock: seconds since 1970.
    pub wall: u64,
    /// Which boot of the machine the monotonic clock counts from.
    pub boot: BootId,
}

/// One boot of the machine, `/proc/sys/kernel/random/boot_id`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct BootId(pub [u8; 16]);

impl Clock {
    /// The clocks at another moment, if nobody steps the wall clock until then.
    pub(super) fn at(&self, now: Moment) -> Self {
        let wall = self.wall_at(now);
        Self { now, wall, ..*self }
    }

    /// The wall clock at a moment, in seconds since 1970, rounded up; `u64::MAX` is never.
    pub(super) fn wall_at(&self, moment: Moment) -> u64 {
        if moment == Moment::NEVER {
            return u64::MAX;
        }
        let ahead = moment.since(self.now).as_nanos().div_ceil(1_000_000_000);
        let behind = self.now.since(moment).as_secs();
        let ahead = u64::try_from(ahead).unwrap_or(u64::MAX);
        self.wall.saturating_add(ahead).saturating_sub(behind)
    }

    /// The moment at which the wall clock shows `wall`; the origin for all that was before.
    pub(super) fn moment_at(&self, wall: u64) -> Moment {
        let ahead = Duration::from_secs(wall.saturating_sub(self.wall));
        let behind = Duration::from_secs(self.wall.saturating_sub(wall));
        (self.now + ahead) - behind
    }
}
