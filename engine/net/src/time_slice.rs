//! What a thread asks of the kernel's scheduler.

use std::io;
use std::time::Duration;

/// Asks for time slices of this length for the calling thread, from 100 µs to 100 ms; its policy
/// and nice value stay.
///
/// Its share of the core stays as well, but from Linux 6.12 on a thread that wakes gets the core
/// before others whose slices are longer: without this it waits, for milliseconds, until the slice
/// of whoever has the core is over. Earlier kernels do nothing.
///
/// # Errors
/// The kernel's, as where a sandbox refuses sched_setattr(2).
pub fn set_time_slice(slice: Duration) -> io::Result<()> {
    let mut attributes = attributes()?;
    attributes.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: the pointer is to a structure of the size that it states; the call only reads it.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Those of the calling thread.
fn attributes() -> io::Result<libc::sched_attr> {
    // SAFETY: plain numbers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::sched_attr>();
    // SAFETY: the pointer is to a structure of the size that the kernel is told.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(attributes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_the_slice_that_it_asks_for_and_nothing_else_changes() {
        let before = attributes().unwrap();
        set_time_slice(Duration::from_micros(300)).unwrap();
        let after = attributes().unwrap();
        let others = |attributes: &libc::sched_attr| {
            (attributes.sched_policy, attributes.sched_nice, attributes.sched_flags)
        };
        assert_eq!(others(&after), others(&before));
        // Before Linux 6.12 there is none.
        let slices = [before, after].map(|attributes| attributes.sched_runtime);
        assert!(slices[1] == 300_000 || slices == [0, 0], "{slices:?}");
    }
}
