//! What survives the server: its lease log, on a disk that fails.

use std::sync::Arc;

use bootstorm::leases::{Layout, LeaseLog};

use crate::committer::NextWrite;
use crate::files::Files;

/// A log so small that it goes round many times in a simulation. A batch may have half of a
/// segment, and must have room for every lease, in case that the disk has lost them.
const LAYOUT: Layout = Layout { segment_blocks: 16, segments: 4, most_segments: 6 };
/// The same for hundreds of machines.
const LARGE: Layout = Layout { segment_blocks: 128, ..LAYOUT };

/// The disk of the simulated machine.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) files: Files,
    layout: Layout,
}

impl Disk {
    /// A disk for the leases of so many machines.
    pub(crate) fn new(seed: u64, machines: usize) -> Self {
        let layout = if machines > 50 { LARGE } else { LAYOUT };
        Self { files: Files::new(seed), layout }
    }

    /// A server's log on it, and what decides about its writes.
    pub(crate) fn open(&self) -> Result<(Arc<LeaseLog>, NextWrite), String> {
        let next = NextWrite::default();
        let directory = self.files.open(next.clone());
        // Never another log on this disk.
        let log =
            LeaseLog::open(directory, [7; 16], self.layout).map_err(|error| error.to_string())?;
        Ok((Arc::new(log), next))
    }
}
