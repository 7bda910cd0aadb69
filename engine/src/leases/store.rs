//! What is durable: the interface of a log on disk, or later a cluster, that keeps the leases.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bootstorm_protocols::time::Moment;

use super::clock::Clocks;
use super::record::{self, CorruptRecord};
use super::{Clock, Lease};

/// Where leases are durable. One thread commits and shards never wait for it, so a store may take
/// its time, ask other servers, or refuse.
pub trait LeaseStore: Send + Sync {
    /// Begins to make a batch durable; what became of it comes from [`LeaseStore::finish`]. No
    /// address is in it twice; `clock` is for writing times down. The next batch may be begun while
    /// this one is under way, at most [`LeaseStore::depth`] at a time.
    ///
    /// # Errors
    /// As with a batch that failed; nothing of it comes from [`LeaseStore::finish`].
    fn begin(&self, id: BatchId, batch: &[Write], clock: &Clock) -> Result<(), StoreError>;

    /// Waits for the oldest batch under way; `None` when there is none.
    ///
    /// After an error nothing is known about that batch, nor about those begun after it, which fail
    /// as well: any part of them may be durable. The caller calls [`LeaseStore::reopen`] before it
    /// begins another, and then writes down anew what it takes the store to have for the addresses
    /// of these batches.
    fn finish(&self) -> Option<Finished>;

    /// How many batches may be under way at a time.
    fn depth(&self) -> usize {
        1
    }

    /// Hands over what is durable, each address once, by rising address. Networks of leases are
    /// left open.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self, clock: &Clock, each: &mut dyn FnMut(Loaded)) -> Result<Recovered, StoreError>;

    /// From now on leases as long as this may be given. [`LeaseStore::load`] tells of it, whatever
    /// else is lost. Waits for the disk only where they are longer than before.
    ///
    /// # Errors
    /// When it cannot be made durable.
    fn gives(&self, _longest: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    /// From this time on no lease is given that is longer than this. Waits for no disk.
    fn gives_no_longer(&self, _longest: Duration, _clock: &Clock) {}

    /// After a failed batch: gets ready for the next, on nothing but what is durable.
    ///
    /// # Errors
    /// When the store still does not work; the caller tries again later.
    fn reopen(&self) -> Result<(), StoreError>;

    /// Hands over what other servers wrote since the last call, which takes precedence over what is
    /// in memory by its version. A store of one server has nothing.
    fn foreign(&self, _clock: &Clock, _each: &mut dyn FnMut(Loaded)) {}

    /// What was found damaged since the store was opened, by [`LeaseStore::load`] or later.
    fn damage(&self) -> Option<String> {
        None
    }

    /// Whether it has lost, since it was asked last, what was durable and the caller knows of. The
    /// caller then writes down anew what it takes the store to have, of every address.
    fn has_lost(&self) -> bool {
        false
    }

    /// Makes a batch durable, and waits for it.
    ///
    /// # Errors
    /// As of [`LeaseStore::finish`]; [`StoreError::Refused`] when a write was refused.
    fn commit(&self, batch: &[Write], clock: &Clock) -> Result<(), StoreError> {
        let id = BatchId(u64::MAX);
        self.begin(id, batch, clock)?;
        while let Some(finished) = self.finish() {
            if finished.id == id {
                let refused = finished.result?;
                return refused.first().map_or(Ok(()), |ip| Err(StoreError::Refused(*ip)));
            }
        }
        Ok(())
    }
}

/// Which batch. The caller counts them.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BatchId(pub u64);

/// What became of a batch.
#[derive(Debug)]
pub struct Finished {
    /// Which.
    pub id: BatchId,
    /// It is durable, except for the addresses listed here: the store had something else for them
    /// than the [`Write::known`] of their writes.
    pub result: Result<Vec<IpAddr>, StoreError>,
}

/// One change of what is durable.
#[derive(Clone, PartialEq, Debug)]
pub struct Write {
    /// The address.
    pub ip: IpAddr,
    /// Rises with each change of the address, over restarts, too. Of two that a store finds for one
    /// address the higher counts; of equal ones the later.
    pub version: u64,
    /// The version that the store is known to have of it; 0 for nothing. A store that other servers
    /// write to refuses the change when it has another.
    pub known: u64,
    /// The lease that the address has now, whatever it had before; with `None` nothing is known of
    /// the address.
    pub lease: Option<Lease>,
}

/// What a store holds for one address.
#[derive(Clone, PartialEq, Debug)]
pub enum Loaded {
    /// A lease, with its version.
    Lease(Lease, u64),
    /// The address was erased with that version. Only other servers tell of it.
    Erased(IpAddr, u64),
    /// Something that cannot be read.
    Corrupt(CorruptRecord),
}

/// Reads a record of a store.
pub(super) fn decode(key: &[u8], version: u64, value: &[u8], clocks: &Clocks) -> Loaded {
    match record::decode(key, value, clocks) {
        Ok(lease) => Loaded::Lease(lease, version),
        Err(error) => Loaded::Corrupt(error),
    }
}

/// What a store says of itself when it has been read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// The highest version that was ever written.
    pub version: u64,
    /// When it was found damaged: leases may be missing that clients hold.
    pub damaged: Option<Moment>,
    /// How long such leases last at most from then on, as far as the store knows.
    pub longest: Duration,
}

/// What is known to be damaged in a store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Damage {
    /// What was found since the start; `None` when an earlier start found it.
    pub found: Option<String>,
    /// Until when clients may hold leases that the store has lost; `None` when they hold none, for
    /// all is in memory or as long ago as a lease lasts.
    pub until: Option<Moment>,
    /// Records that could not be read at the start. Their addresses are in quarantine.
    pub unreadable: u64,
}

/// The store cannot be written, so that no client gets an ACK.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteFailure {
    /// When the first batch failed.
    pub since: Moment,
    /// What the store said last; names the place.
    pub error: String,
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open, which is to say a server. Names the place and who that is.
    #[error("the lease store {0}")]
    InUse(String),
    /// The disk, or the file system.
    #[error("the lease store {place}: {source}")]
    Io {
        /// Which store.
        place: String,
        /// What the system says.
        source: io::Error,
    },
    /// It has something else for an address than the writer knew.
    #[error("the lease store has a newer lease of {0}")]
    Refused(IpAddr),
    /// Anything else; the text names the store.
    #[error("{0}")]
    Other(String),
}
