//! What is durable: the seam behind which a database, or later a cluster, keeps the leases.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use parking_lot::Mutex;

use super::Lease;

/// Where leases are durable. One thread commits; it may take its time, shards never wait for it.
pub trait LeaseStore: Send + Sync {
    /// Makes the whole batch durable, or fails: then nothing of it may be trusted, and the caller
    /// does not commit again before [`LeaseStore::reopen`] has succeeded.
    fn commit(&self, batch: &[Write]) -> Result<(), StoreError>;

    /// Hands over every lease that is durable.
    fn load(&self, each: &mut dyn FnMut(Lease)) -> Result<(), StoreError>;

    /// After a failed commit: goes back to what is durable and makes the store ready for the next.
    fn reopen(&self) -> Result<(), StoreError>;
}

/// One change of what is durable.
#[derive(Clone, Debug)]
pub enum Write {
    /// The address has this lease now, whatever it had before.
    Put(Lease),
    /// Nothing is known of the address.
    Erase(Ipv4Addr),
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// A store without a disk, for tests and for `serve --dry-run`.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<Ipv4Addr, Lease>>);

impl LeaseStore for MemoryStore {
    fn commit(&self, batch: &[Write]) -> Result<(), StoreError> {
        let mut leases = self.0.lock();
        for write in batch {
            match write {
                Write::Put(lease) => leases.insert(lease.ip, lease.clone()),
                Write::Erase(ip) => leases.remove(ip),
            };
        }
        Ok(())
    }

    fn load(&self, each: &mut dyn FnMut(Lease)) -> Result<(), StoreError> {
        self.0.lock().values().cloned().for_each(each);
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
