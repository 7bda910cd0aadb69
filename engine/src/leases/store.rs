//! What is durable: the backend interface of a database, or later a cluster, that keeps the leases.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::record::{self, CorruptRecord};
use super::{Clock, Lease};

/// Where leases are durable. One thread commits and shards never wait for it, so a store may take
/// its time, ask other servers, or refuse.
pub trait LeaseStore: Send + Sync {
    /// Makes the whole batch durable, or none of it. No address is in it twice; `clock` is for
    /// writing times down.
    ///
    /// # Errors
    /// After an error nothing is known about the batch: any part of it may be durable. The caller
    /// calls [`LeaseStore::reopen`] before it commits again, and then writes down anew what it
    /// takes the store to have for the addresses of the batch.
    fn commit(&self, batch: &[Write], clock: &Clock) -> Result<(), StoreError>;

    /// Hands over every lease that is durable. Their networks are left open.
    fn load(&self, clock: &Clock, each: &mut dyn FnMut(Loaded)) -> Result<(), StoreError>;

    /// After a failed commit: gets ready for the next, on nothing but what is durable.
    fn reopen(&self) -> Result<(), StoreError>;
}

/// One change of what is durable.
#[derive(Clone, PartialEq, Debug)]
pub enum Write {
    /// The address has this lease now, whatever it had before.
    Put(Lease),
    /// Nothing is known of the address.
    Erase(Ipv4Addr),
}

impl Write {
    /// The address.
    pub fn ip(&self) -> Ipv4Addr {
        match self {
            Self::Put(lease) => lease.ip,
            Self::Erase(ip) => *ip,
        }
    }
}

/// What a store holds for one address.
#[derive(Clone, PartialEq, Debug)]
pub enum Loaded {
    /// A lease.
    Lease(Lease),
    /// Something that cannot be read.
    Corrupt(CorruptRecord),
}

impl Loaded {
    pub(super) fn decode(key: &[u8], value: &[u8], clock: &Clock) -> Self {
        match record::decode(key, value, clock) {
            Ok(lease) => Self::Lease(lease),
            Err(error) => Self::Corrupt(error),
        }
    }
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open: the server runs.
    #[error("the lease store {0} is in use by another process")]
    InUse(String),
    /// The disk, or the file system.
    #[error("the lease store {place}: {source}")]
    Io {
        /// Which store.
        place: String,
        /// What the system says.
        source: io::Error,
    },
    /// Anything else; the text names the store.
    #[error("{0}")]
    Other(String),
}

/// A store without a disk, for tests and for `serve --dry-run`. It keeps records as they would lie
/// on a disk, and fails when it is told to.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: Mutex<BTreeMap<[u8; 5], Vec<u8>>>,
    failing: AtomicBool,
}

impl MemoryStore {
    /// From now on every commit and every reopening fails, or works again.
    #[cfg(test)]
    pub(crate) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// Puts raw bytes where the record of an address would be.
    #[cfg(test)]
    pub(crate) fn put_raw(&self, ip: Ipv4Addr, value: &[u8]) {
        self.records.lock().insert(record::key(ip), value.to_vec());
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
    fn commit(&self, batch: &[Write], clock: &Clock) -> Result<(), StoreError> {
        self.check()?;
        let mut records = self.records.lock();
        for write in batch {
            let key = record::key(write.ip());
            match write {
                Write::Put(lease) => {
                    let value = records.entry(key).or_default();
                    value.clear();
                    record::encode(lease, clock, value);
                }
                Write::Erase(_) => {
                    records.remove(&key);
                }
            }
        }
        Ok(())
    }

    fn load(&self, clock: &Clock, each: &mut dyn FnMut(Loaded)) -> Result<(), StoreError> {
        for (key, value) in &*self.records.lock() {
            each(Loaded::decode(key, value, clock));
        }
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.check()
    }
}
