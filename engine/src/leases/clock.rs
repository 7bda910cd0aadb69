//! The time on all clocks at once.

use std::time::Duration;

use bootstorm_protocols::time::Moment;

/// The time on all clocks at once, as it was read at a start or by a sweep.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Clock {
    /// The monotonic clock.
    pub now: Moment,
    /// The wall clock: seconds since 1970.
    pub wall: u64,
    /// Which boot of the machine the monotonic clock counts from.
    pub boot: BootId,
    /// The wall clock was set from a time source in this boot (adjtimex(2)). Until then it may
    /// show anything.
    pub synchronised: bool,
}

/// One boot of the machine, `/proc/sys/kernel/random/boot_id`.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BootId(pub [u8; 16]);

impl Clock {
    /// Of no boot.
    pub(super) const ORIGIN: Self =
        Self { now: Moment::from_nanos(0), wall: 0, boot: BootId([0; 16]), synchronised: false };

    /// The clocks at another moment, if nobody steps the wall clock until then.
    pub(super) fn at(&self, now: Moment) -> Self {
        let wall = self.wall_at(now);
        Self { now, wall, ..*self }
    }

    /// The wall clock at a moment, in seconds since 1970, rounded up; `u64::MAX` is never.
    pub(crate) fn wall_at(&self, moment: Moment) -> u64 {
        if moment == Moment::NEVER {
            return u64::MAX;
        }
        let ahead = moment.since(self.now).as_nanos().div_ceil(1_000_000_000);
        let behind = self.now.since(moment).as_secs();
        let ahead = u64::try_from(ahead).unwrap_or(u64::MAX);
        self.wall.saturating_add(ahead).saturating_sub(behind)
    }

    /// The moment at which the wall clock shows `wall`; the origin for all that was before.
    pub(crate) fn moment_at(&self, wall: u64) -> Moment {
        let ahead = Duration::from_secs(wall.saturating_sub(self.wall));
        let behind = Duration::from_secs(self.wall.saturating_sub(wall));
        (self.now + ahead) - behind
    }
}

/// Clocks of earlier boots that are remembered, at most: the latest.
const MOST: usize = 64;

/// The wall clock is written down in whole seconds: it may have been so much later.
const ROUNDING: Duration = Duration::from_secs(1);

/// The clocks at a start, and what the store tells of those of earlier boots.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    now: Clock,
    /// As [`saw`] keeps them.
    last: Vec<Clock>,
}

impl Clocks {
    pub(super) fn new(now: Clock) -> Self {
        Self { now, last: Vec::new() }
    }

    /// The store has this clock. To be called in the order in which they were written.
    pub(super) fn saw(&mut self, clock: Clock) {
        saw(&mut self.last, clock);
    }

    /// Begin and end of a lease that was written in some boot with both clocks, as moments of this
    /// boot.
    ///
    /// The wall clock counts after a reboot, if it is synchronised and was at any time of the boot
    /// of the lease; else the time between counts as none. Neither ends a lease too early. A lease
    /// has left at most what it was given for.
    pub(super) fn times(
        &self,
        boot: BootId,
        monotonic: [Moment; 2],
        wall: [u64; 2],
    ) -> [Moment; 2] {
        if boot == self.now.boot {
            return monotonic;
        }
        let [start, end] = monotonic;
        let now = self.now.now;
        let of_boot = || self.last.iter().rev().filter(|clock| clock.boot == boot);
        let trusted = of_boot().find(|clock| clock.synchronised);
        let [began, ends] = match (of_boot().next(), trusted) {
            // The wall clock may have been set after the lease was written, wrongly as well.
            (_, Some(trusted)) if self.now.synchronised => {
                monotonic.map(|at| self.now.moment_at(trusted.wall_at(at)) + ROUNDING)
            }
            (None, _) if self.now.synchronised => wall.map(|at| self.now.moment_at(at) + ROUNDING),
            (Some(last), _) => [now - last.now.since(start), now + end.since(last.now)],
            (None, _) => [now, now + end.since(start)],
        };
        let ends = if end == Moment::NEVER { end } else { ends.min(now + end.since(start)) };
        [began.min(now), ends]
    }
}

/// Adds a clock that was written after those in the list. Of each boot the list keeps the last that
/// was synchronised, and the last of all where that is another one: somebody may have set the wall
/// clock wrong after it was right.
pub(super) fn saw(last: &mut Vec<Clock>, clock: Clock) {
    let is_replaced =
        |known: &Clock| known.boot == clock.boot && (clock.synchronised || !known.synchronised);
    last.retain(|known| !is_replaced(known));
    if last.len() == MOST {
        last.remove(0);
    }
    last.push(clock);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(boot: u8, now: u64, wall: u64, synchronised: bool) -> Clock {
        let now = Moment::from_nanos(now * 1_000_000_000);
        Clock { now, wall, boot: BootId([boot; 16]), synchronised }
    }

    /// Seconds left of a lease that boot 1 gave at its second 100 for an hour, when its wall clock
    /// showed `wall`.
    fn left(clocks: &Clocks, wall: u64) -> u64 {
        let at = |seconds: u64| Moment::from_nanos(seconds * 1_000_000_000);
        let [_, ends] = clocks.times(BootId([1; 16]), [at(100), at(3700)], [wall, wall + 3600]);
        ends.since(clocks.now.now).as_secs()
    }

    #[test]
    fn downtime_counts_when_both_clocks_are_synchronised() {
        let mut clocks = Clocks::new(clock(2, 50, 1_800_001_600, true));
        clocks.saw(clock(1, 600, 1_800_000_600, true));
        // 500 s before the power cut, and 1000 after. A second more, because of the rounding.
        assert_eq!(left(&clocks, 1_800_000_100), 3601 - 1500);
        assert_eq!(left(&Clocks::new(clock(2, 50, 1_800_001_600, true)), 1_800_000_100), 2101);
    }

    #[test]
    fn downtime_is_none_until_the_clock_is_synchronised() {
        // Ahead of the time by years, and behind it.
        for wall in [2_000_000_000, 0] {
            let mut clocks = Clocks::new(clock(2, 50, wall, false));
            assert_eq!(left(&clocks, 1_800_000_100), 3600);
            clocks.saw(clock(1, 600, 1_800_000_600, true));
            assert_eq!(left(&clocks, 1_800_000_100), 3100);
        }
    }

    #[test]
    fn a_clock_that_was_set_after_the_lease_was_written_is_used() {
        let mut clocks = Clocks::new(clock(2, 50, 1_800_001_600, true));
        clocks.saw(clock(1, 90, 7, false));
        clocks.saw(clock(1, 600, 1_800_000_600, true));
        clocks.saw(clock(1, 601, 1_800_000_601, false));
        assert_eq!(left(&clocks, 17), 2101);
    }

    #[test]
    fn a_clock_that_was_set_wrong_after_it_was_right_is_not_used() {
        let mut clocks = Clocks::new(clock(2, 50, 1_800_001_600, true));
        clocks.saw(clock(1, 600, 1_800_000_600, true));
        clocks.saw(clock(1, 601, 1_799_993_401, false));
        clocks.saw(clock(1, 700, 1_799_993_500, false));
        assert_eq!(left(&clocks, 1_800_000_100), 2101);
        // Until the clock of this boot is synchronised the last of all counts.
        clocks.now.synchronised = false;
        assert_eq!(left(&clocks, 1_800_000_100), 3000);
    }

    #[test]
    fn a_lease_ends_no_second_early_whatever_the_fractions() {
        // Written at 100.9, read at 100.9 + 1000 in the next boot, both cut to whole seconds.
        let at = |millis: u64| Moment::from_nanos(millis * 1_000_000);
        let read = |millis: u64, wall: u64, boot: u8| Clock {
            now: at(millis),
            wall,
            boot: BootId([boot; 16]),
            synchronised: true,
        };
        for (fraction, later) in [(900, 0), (0, 900), (900, 900), (1, 999)] {
            let mut clocks = Clocks::new(read(5_000, 1_100 + (fraction + later) / 1000, 2));
            clocks.saw(read(1_000, 100, 1));
            let lease = [at(1_000), at(3_601_000)];
            let [_, ends] = clocks.times(BootId([1; 16]), lease, [100, 3700]);
            let left = ends.since(at(5_000));
            // The true time between is 1000 s and `later`.
            assert!(left >= Duration::from_millis(3_600_000 - 1_000_000 - later), "{left:?}");
        }
    }

    #[test]
    fn the_latest_boots_are_remembered() {
        let mut clocks = Clocks::new(clock(200, 50, 0, false));
        for boot in 0..100 {
            clocks.saw(clock(boot, 600, 0, false));
        }
        assert_eq!(clocks.last.len(), MOST);
        assert_eq!(clocks.last[MOST - 1].boot, BootId([99; 16]));
    }
}
