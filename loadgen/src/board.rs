//! What the fleet shows while it runs, for another thread to draw; and the word to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bootstorm_protocols::time::Moment;

use crate::fleet::Fleet;
use crate::tally::{Standing, Timed};

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

/// Shared by the fleet, the live view and whoever ends the run.
#[derive(Debug, Default)]
pub struct Board {
    stop: Arc<AtomicBool>,
    snapshot: Mutex<Snapshot>,
}

impl Board {
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

    /// Shows how the fleet stands.
    pub(crate) fn show(&self, fleet: &Fleet, now: Moment) {
        let tally = &fleet.tally;
        let snapshot = Snapshot {
            seconds: now.since(tally.start()).as_secs_f64(),
            total: fleet.total(),
            off: tally.standing(Standing::Off),
            discovering: tally.standing(Standing::Discovering),
            requesting: tally.standing(Standing::Requesting),
            loading: tally.standing(Standing::Loading),
            up: tally.standing(Standing::Up),
            given_up: tally.standing(Standing::GivenUp),
            exchanges: tally.dhcp.exchanges,
            bytes: tally.tftp.figures.bytes + tally.http.figures.bytes,
            quantiles: [
                tally.quantile(Timed::Offer, 0.5),
                tally.quantile(Timed::Offer, 0.99),
                tally.quantile(Timed::Ack, 0.5),
                tally.quantile(Timed::Ack, 0.99),
            ],
            violations: fleet.judge.violations(),
        };
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}
