//! How another thread makes a shard look up from its wait.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::uring::RingBell;

/// Wakes one backend, from any thread. Wakes before the backend has come round to them are one
/// wake, and cost one atomic operation, no system call.
#[derive(Clone)]
pub struct Waker {
    inner: Arc<Inner>,
}

struct Inner {
    pending: AtomicBool,
    bell: Bell,
}

/// What makes the waiting thread return from the kernel.
pub(crate) enum Bell {
    /// An eventfd, written to by the waking thread.
    Event(OwnedFd),
    /// The ring of the backend.
    Ring(RingBell),
    /// Nothing: a simulated backend never waits, it looks at the flag.
    Silent,
}

impl Waker {
    pub(crate) fn new(bell: Bell) -> Waker {
        Waker { inner: Arc::new(Inner { pending: AtomicBool::new(false), bell }) }
    }

    /// Makes the backend call [`crate::Handler::woken`] soon. What this thread did before is seen
    /// there.
    pub fn wake(&self) {
        // Release, so that a shard that clears the flag after this sees what was queued before it.
        if self.inner.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        match &self.inner.bell {
            Bell::Event(event) => {
                // It fails only when 2^64 - 1 wakes are unread, and then the bell rings already.
                let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
            }
            Bell::Ring(bell) => bell.ring(),
            Bell::Silent => {}
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

    pub(crate) fn bell(&self) -> &Bell {
        &self.inner.bell
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("pending", &self.inner.pending).finish_non_exhaustive()
    }
}
