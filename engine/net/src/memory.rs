//! The allocator of the process.

/// Gives memory that is free back to the kernel. The allocator keeps what is freed below something
/// that is still used, in each thread's share of it: so a process that reads a large configuration
/// again and again, each time in another thread, grows for a while. It takes the locks of the
/// allocator, a few milliseconds for each gigabyte: not for threads that answer.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator takes its own locks, and gives back pages that hold nothing.
    unsafe {
        libc::malloc_trim(0);
    }
}
