//! A store without a disk.

use std::collections::{BTreeMap, VecDeque};
use std::io;
#[cfg(test)]
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::Clocks;
use super::key::Key;
use super::{BatchId, Clock, Finished, LeaseStore, Loaded, Recovered, StoreError, Write, record};

/// A store without a disk, for tests and for `serve --dry-run`. It keeps records as they would lie
/// on a disk, and fails when it is told to.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    failing: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Version and record of each key.
    records: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    version: u64,
    begun: VecDeque<BatchId>,
    damaged: bool,
    longest: Duration,
}

impl MemoryStore {
    /// From now on every commit and every reopening fails, or works again.
    #[cfg(test)]
    pub(crate) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// Loses every record, as a disk that is damaged, and says so at the next start.
    #[cfg(test)]
    pub(crate) fn lose(&self) {
        self.state.lock().records.clear();
        self.damage();
    }

    /// Says at the next start that records may be missing.
    #[cfg(test)]
    pub(crate) fn damage(&self) {
        self.state.lock().damaged = true;
    }

    /// Puts raw bytes where the record of an address would be.
    #[cfg(test)]
    pub(crate) fn put_raw(&self, ip: IpAddr, value: &[u8]) {
        self.state.lock().records.insert(Key::of(ip).to_vec(), (1, value.to_vec()));
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.failing.load(Ordering::Relaxed) {
            let source = io::Error::from(io::ErrorKind::StorageFull);
            return Err(StoreError::Io { place: "in memory".to_owned(), source });
        }
        Ok(())
    }
}

impl LeaseStore for MemoryStore {
    fn begin(&self, id: BatchId, batch: &[Write], clock: &Clock) -> Result<(), StoreError> {
        self.check()?;
        let State { records, version, begun, .. } = &mut *self.state.lock();
        for write in batch {
            *version = write.version.max(*version);
            let key = Key::of(write.ip);
            let Some(lease) = &write.lease else {
                records.remove(&key[..]);
                continue;
            };
            if !records.contains_key(&key[..]) {
                records.insert(key.to_vec(), (0, Vec::new()));
            }
            if let Some((version, value)) = records.get_mut(&key[..]) {
                *version = write.version;
                value.clear();
                record::encode(lease, clock, value);
            }
        }
        begun.push_back(id);
        Ok(())
    }

    fn finish(&self) -> Option<Finished> {
        let id = self.state.lock().begun.pop_front()?;
        Some(Finished { id, result: Ok(Vec::new()) })
    }

    fn load(&self, clock: &Clock, each: &mut dyn FnMut(Loaded)) -> Result<Recovered, StoreError> {
        let state = self.state.lock();
        let clocks = Clocks::new(*clock);
        for (key, (version, value)) in &state.records {
            each(super::store::decode(key, *version, value, &clocks));
        }
        Ok(Recovered {
            version: state.version,
            damaged: state.damaged.then_some(clock.now),
            longest: state.longest,
        })
    }

    fn gives(&self, longest: Duration) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.longest = state.longest.max(longest);
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.check()
    }
}
