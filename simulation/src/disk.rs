//! What survives the server, with the faults of a disk.

use std::sync::{Arc, Mutex};

use bootstorm::leases::{
    BatchId, Clock, Finished, LeaseStore, Loaded, MemoryStore, Recovered, StoreError, Write,
};

use crate::committer::{Inner, Prepared, prepare};

/// The disk of the simulated machine.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    records: Arc<MemoryStore>,
}

impl Disk {
    /// A server's store on it, and the committer that writes it.
    pub(crate) fn open(&self) -> (Arc<dyn LeaseStore>, Prepared) {
        let (prepared, inner) = prepare();
        (
            Arc::new(Store { records: self.records.clone(), inner, begun: Mutex::default() }),
            prepared,
        )
    }
}

struct Store {
    records: Arc<MemoryStore>,
    inner: Arc<Mutex<Inner>>,
    /// The batch under way.
    begun: Mutex<Option<(BatchId, Vec<Write>, Clock)>>,
}

impl Store {
    fn failure() -> StoreError {
        StoreError::Other("the simulated disk has failed".to_owned())
    }

    /// Waits for the disk, which writes all of the batch or a part.
    fn write(&self, id: BatchId, batch: &[Write], clock: &Clock) -> Result<(), StoreError> {
        let Ok(inner) = self.inner.lock() else { return Err(Self::failure()) };
        let fate = inner.wait_for_disk(batch.len());
        let written = match fate.fails {
            true => batch.len() * usize::from(fate.written) / 256,
            false => batch.len(),
        };
        self.records.begin(id, &batch[..written], clock)?;
        self.records.finish();
        if fate.fails { Err(Self::failure()) } else { Ok(()) }
    }
}

impl LeaseStore for Store {
    fn begin(&self, id: BatchId, batch: &[Write], clock: &Clock) -> Result<(), StoreError> {
        let Ok(mut begun) = self.begun.lock() else { return Err(Self::failure()) };
        *begun = Some((id, batch.to_vec(), *clock));
        Ok(())
    }

    fn finish(&self) -> Option<Finished> {
        let (id, batch, clock) = self.begun.lock().ok()?.take()?;
        let result = self.write(id, &batch, &clock).map(|()| Vec::new());
        Some(Finished { id, result })
    }

    fn load(&self, clock: &Clock, each: &mut dyn FnMut(Loaded)) -> Result<Recovered, StoreError> {
        self.records.load(clock, each)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
