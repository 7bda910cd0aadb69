//! Progress of a run, shared with the thread that shows it, and the flag that ends the run early.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A moment of a run.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Seconds since the run began.
    pub seconds: f64,
    /// Machines of the scenario.
    pub total: u64,
    /// Off, or in their power-on self test.
    pub off: u64,
    /// Wait for an OFFER.
    pub discovering: u64,
    /// Wait for an ACK.
    pub requesting: u64,
    /// Load.
    pub loading: u64,
    /// Up.
    pub up: u64,
    /// Given up.
    pub given_up: u64,
    /// Exchanges complete.
    pub exchanges: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Median and 99th percentile of OFFERs and of ACKs, in milliseconds.
    pub quantiles: [f64; 4],
    /// Things that the server did wrong.
    pub violations: u64,
}

/// Shared by the run, the live view and the signal handler.
#[derive(Debug, Default)]
pub struct Progress {
    stop: Arc<AtomicBool>,
    snapshot: Mutex<Snapshot>,
}

impl Progress {
    /// The flag that ends the run early, for a signal handler.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Whether somebody wants the run to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The moment that was shown last.
    pub fn look(&self) -> Snapshot {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows a moment.
    pub(crate) fn show(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}
