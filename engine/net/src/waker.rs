//! How another thread ends a backend's wait.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one backend, from any thread, and never waits for it. Wakes before the backend has come
/// round to them are one wake, and cost one atomic operation, no system call.
#[derive(Clone)]
pub struct Waker {
    inner: Arc<Inner>,
}

struct Inner {
    pending: AtomicBool,
    /// The backend waits for it to become readable; a simulated one never waits and has none.
    event: Option<OwnedFd>,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker::with(Some(event)))
    }

    /// For a backend that looks at [`Waker::is_pending`] instead of waiting.
    pub(crate) fn without_event() -> Waker {
        Waker::with(None)
    }

    fn with(event: Option<OwnedFd>) -> Waker {
        Waker { inner: Arc::new(Inner { pending: AtomicBool::new(false), event }) }
    }

    /// Makes the backend call [`crate::Handler::woken`] soon. What this thread did before is seen
    /// there.
    pub fn wake(&self) {
        // Release, so that a shard that clears the flag after this sees what was queued before it.
        if self.inner.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(event) = &self.inner.event {
            // It fails only when 2^64 - 1 wakes are unread, and then the event is readable already.
            let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
        }
    }

    /// Called by the backend before it calls the handler: wakes from now on are new ones. Returns
    /// whether there was one.
    pub(crate) fn clear(&self) -> bool {
        self.inner.pending.swap(false, Ordering::AcqRel)
    }

    /// Whether the backend has still to come round to a wake.
    pub(crate) fn is_pending(&self) -> bool {
        self.inner.pending.load(Ordering::Acquire)
    }

    /// What the backend waits for. Every wake is an edge, so it is never read.
    pub(crate) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.inner.event.as_ref().map(AsFd::as_fd)
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("pending", &self.inner.pending).finish_non_exhaustive()
    }
}
