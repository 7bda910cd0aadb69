//! The clock of production.

use bootstorm_protocols::time::Moment;
use rustix::time::{ClockId, clock_gettime};

/// The time since boot, sleep included, so that leases end while a machine is suspended.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    // The kernel gives both fields non-negative for this clock.
    Moment::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
