//! What survives the server: its lease log, on a disk that fails.

use std::sync::Arc;

use bootstorm::leases::{Layout, LeaseLog};

use crate::committer::NextWrite;
use crate::files::Files;

/// A log so small that it goes round many times in a simulation.
const LAYOUT: Layout = Layout { segment_blocks: 8, segments: 4, most_segments: 6 };

/// The disk of the simulated machine.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) files: Files,
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Self {
        Self { files: Files::new(seed) }
    }

    /// A server's log on it, and what decides about its writes.
    pub(crate) fn open(&self) -> Result<(Arc<LeaseLog>, NextWrite), String> {
        let next = NextWrite::default();
        let directory = self.files.open(next.clone());
        // Never another log on this disk.
        let log = LeaseLog::open(directory, [7; 16], LAYOUT).map_err(|error| error.to_string())?;
        Ok((Arc::new(log), next))
    }
}
