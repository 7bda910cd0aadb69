//! A store whose next batch may fail.

use std::sync::atomic::{AtomicBool, AtomicU8};

use super::*;

/// A store whose next batch may fail, with nothing, a part, or all of it written.
#[derive(Default)]
pub(super) struct FaultyStore {
    inner: MemoryStore,
    fault: AtomicU8,
    refused: Mutex<Vec<IpAddr>>,
    lost: AtomicBool,
}

#[derive(Copy, Clone, Debug)]
pub(super) enum Fault {
    None = 0,
    Nothing = 1,
    Half = 2,
    All = 3,
    Reopen = 4,
    /// The store refuses the first change of the batch, and takes the others.
    Refuse = 5,
}

impl FaultyStore {
    /// What becomes of the next batch.
    pub(super) fn fail(&self, fault: Fault) {
        self.fault.store(fault as u8, Relaxed);
    }

    /// Loses every record, and knows it.
    pub(super) fn lose(&self) {
        self.inner.lose();
        self.lost.store(true, Relaxed);
    }

    fn take(&self) -> u8 {
        self.fault.swap(Fault::None as u8, Relaxed)
    }

    fn error() -> StoreError {
        StoreError::Other("as asked for".to_owned())
    }
}

impl LeaseStore for FaultyStore {
    fn begin(&self, id: BatchId, batch: &[Write], clock: &Clock) -> Result<(), StoreError> {
        let mut addresses: Vec<_> = batch.iter().map(|write| write.ip).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), batch.len(), "an address twice in a batch");
        let written = match self.take() {
            1 => 0,
            2 => batch.len() / 2,
            3 => batch.len(),
            5 => {
                let (refused, rest) = batch.split_first().unwrap();
                self.refused.lock().push(refused.ip);
                return self.inner.begin(id, rest, clock);
            }
            _ => return self.inner.begin(id, batch, clock),
        };
        self.inner.commit(&batch[..written], clock)?;
        Err(Self::error())
    }

    fn finish(&self) -> Option<Finished> {
        let finished = self.inner.finish()?;
        let result = finished.result.map(|_| std::mem::take(&mut *self.refused.lock()));
        Some(Finished { result, ..finished })
    }

    fn load(&self, clock: &Clock, each: &mut dyn FnMut(Loaded)) -> Result<Recovered, StoreError> {
        self.inner.load(clock, each)
    }

    fn has_lost(&self) -> bool {
        self.lost.swap(false, Relaxed)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        if self.fault.load(Relaxed) == Fault::Reopen as u8 {
            self.take();
            return Err(Self::error());
        }
        Ok(())
    }
}
