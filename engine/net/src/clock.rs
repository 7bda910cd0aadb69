//! The clock of production.

use bootstorm_protocols::time::Moment;
use rustix::time::{ClockId, clock_gettime};

/// The time since boot, sleep included, so that leases end while a machine is suspended.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    // The kernel gives both fields non-negative for this clock.
    Moment::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Whether the wall clock was set from a time source since the host was booted (adjtimex(2)). What
/// the kernel does not tell, as in a sandbox without that call, counts as no.
pub fn clock_is_synchronised() -> bool {
    // SAFETY: plain numbers, for which zero is a value.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a valid structure, and without modes the call only reads.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    result >= 0 && result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0
}
