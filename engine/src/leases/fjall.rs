//! Leases in a fjall database.
//!
//! What was read in fjall 3.1.13 and lsm-tree 3.1 before trusting them with leases:
//!
//! - A batch goes to the journal with a checksum, then fdatasync, then to the memtable; recovery
//!   drops a batch whose end is missing. `SyncData` suffices: a new journal is made 64 MiB long and
//!   fsynced with its directory, a recovered one is cut behind its last whole batch and appended
//!   to, and fdatasync writes the length and the block map too, being what it takes to read the
//!   data back (fdatasync(2)).
//! - After a failed write or fsync the database poisons itself, and so it does when its thread
//!   cannot flush or compact. It refuses every commit from then on; only dropping it and opening it
//!   again helps. All handles must be gone first, for the directory is locked by the last of them.
//! - Dropping it flushes what the journal's buffer still holds. So the batch that failed may become
//!   durable after all, and nobody is told: this is why the committer settles doubtful addresses.
//! - Opening appends to the newest journal. After a failed fsync that file must not be trusted: the
//!   kernel has marked its pages clean, a read shows them, and the disk may have a hole in front of
//!   whatever is appended. So a newer, empty journal is put there before the database is opened
//!   again. fjall then takes the old one for sealed: it replays what can be read of it, writes that
//!   to a table with an fsync, and removes it.
//! - A commit waits without end for its threads when tables pile up and no thread is left to work
//!   on them. With one thread, which both seals and flushes memtables, they cannot pile up.
//! - The journal is rotated by the flush of a memtable when it has passed 64 MB, a constant.
//!   So the directory holds up to 64 MB of journal and a sealed one while its memtable is flushed,
//!   whatever the number of leases, and besides that the tables, which compaction keeps
//!   proportional to the number of addresses.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fjall::config::{CompressionPolicy, FilterPolicy, HashRatioPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use parking_lot::Mutex;

use super::clock::Clocks;
use super::key::Key;
use super::record::encode;
use super::{BatchId, Clock, Finished, LeaseStore, Loaded, Recovered, StoreError, Write};

/// The directory of the database in the state directory.
const DIRECTORY: &str = "leases";
const KEYSPACE: &str = "leases";
/// Blocks are read at start and by compaction only.
const CACHE_BYTES: u64 = 1 << 20;
/// A memtable is flushed from this size on: some 60,000 records.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// At least one, and more would only race for the files.
const CACHED_FILES: usize = 64;

/// Leases in a directory of their own, each batch with one fdatasync.
pub struct FjallStore {
    directory: PathBuf,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    database: Option<(Database, Keyspace)>,
    /// A commit has failed, so the newest journal cannot be trusted.
    tainted: bool,
    value: Vec<u8>,
    begun: Option<BatchId>,
}

impl FjallStore {
    /// Opens the store of a state directory, or makes it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process, which is to say the server, has it open.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let directory = Self::directory(state_dir);
        let io = |source| StoreError::Io { place: directory.display().to_string(), source };
        clear_unfinished(&directory).map_err(io)?;
        let open = Open { database: Some(open_database(&directory)?), ..Open::default() };
        // fjall syncs its files and the directories of its tables, but not the entries that lead
        // there.
        for path in [directory.join("keyspaces").as_path(), &directory, state_dir] {
            File::open(path).and_then(|directory| directory.sync_all()).map_err(io)?;
        }
        Ok(Self { directory, open: Mutex::new(open) })
    }

    /// Where the store of a state directory is.
    pub fn directory(state_dir: &Path) -> PathBuf {
        state_dir.join(DIRECTORY)
    }

    /// Whether a state directory has a store, so that reading it would not make one.
    pub fn exists(state_dir: &Path) -> bool {
        Self::directory(state_dir).is_dir()
    }

    fn error(&self, error: fjall::Error) -> StoreError {
        store_error(&self.directory, error)
    }

    fn closed(&self) -> StoreError {
        let place = self.directory.display();
        StoreError::Other(format!("the lease store {place} is closed after a failure"))
    }
}

impl LeaseStore for FjallStore {
    fn begin(&self, id: BatchId, batch: &[Write], clock: &Clock) -> Result<(), StoreError> {
        let Open { database, tainted, value, begun } = &mut *self.open.lock();
        let Some((database, keyspace)) = database else { return Err(self.closed()) };
        let mut writes = database.batch().durability(Some(PersistMode::SyncData));
        for write in batch {
            let key = &*Key::of(write.ip);
            match &write.lease {
                Some(lease) => {
                    value.clear();
                    encode(lease, clock, value);
                    writes.insert(keyspace, key, value.as_slice());
                }
                None => writes.remove(keyspace, key),
            }
        }
        // Until it has worked.
        *tainted = true;
        guarded(&self.directory, || writes.commit())?;
        *tainted = false;
        *begun = Some(id);
        Ok(())
    }

    fn finish(&self) -> Option<Finished> {
        let id = self.open.lock().begun.take()?;
        Some(Finished { id, result: Ok(Vec::new()) })
    }

    fn load(&self, clock: &Clock, each: &mut dyn FnMut(Loaded)) -> Result<Recovered, StoreError> {
        let open = self.open.lock();
        let Some((_, keyspace)) = &open.database else { return Err(self.closed()) };
        let clocks = Clocks::new(*clock);
        for guard in keyspace.iter() {
            let (key, value) = guard.into_inner().map_err(|error| self.error(error))?;
            each(Loaded::decode(&key, 1, &value, &clocks));
        }
        // It keeps no versions.
        Ok(Recovered { version: 1, damaged: None })
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut open = self.open.lock();
        // The keyspace first: the lock of the directory goes with the last handle.
        if let Some((database, keyspace)) = open.database.take() {
            drop(keyspace);
            guarded(&self.directory, || {
                drop(database);
                Ok(())
            })?;
        }
        if open.tainted {
            add_journal(&self.directory).map_err(|source| {
                let place = self.directory.display().to_string();
                StoreError::Io { place, source }
            })?;
        }
        open.database = Some(open_database(&self.directory)?);
        open.tainted = false;
        Ok(())
    }
}

fn open_database(directory: &Path) -> Result<(Database, Keyspace), StoreError> {
    guarded(directory, || {
        let database = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .max_cached_files(Some(CACHED_FILES))
            .worker_threads(1)
            .open()?;
        let keyspace = database.keyspace(KEYSPACE, || {
            KeyspaceCreateOptions::default()
                .manual_journal_persist(true)
                .max_memtable_size(MEMTABLE_BYTES)
                // Nothing is ever looked up: the index in memory answers, the store is scanned.
                .filter_policy(FilterPolicy::disabled())
                .expect_point_read_hits(true)
                .data_block_hash_ratio_policy(HashRatioPolicy::all(0.0))
                .data_block_compression_policy(CompressionPolicy::all(fjall::CompressionType::Lz4))
        })?;
        Ok((database, keyspace))
    })
}

/// Removes what a first start left that was killed before its database was complete: fjall would
/// neither finish it nor open it. Nothing is removed that ever held a lease: the keyspaces come
/// after the version marker.
fn clear_unfinished(directory: &Path) -> io::Result<()> {
    let complete = fs::metadata(directory.join("version")).is_ok_and(|marker| marker.len() > 0);
    let keyspaces = match fs::read_dir(directory.join("keyspaces")) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if complete || keyspaces || !directory.exists() {
        return Ok(());
    }
    fs::remove_dir_all(directory)
}

/// Puts an empty journal behind the newest one, unless that is empty already.
fn add_journal(directory: &Path) -> io::Result<()> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jnl"));
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            newest = newest.max(Some((number, entry.metadata()?.len())));
        }
    }
    if let Some((number, length)) = newest
        && length > 0
    {
        File::create_new(directory.join(format!("{}.jnl", number + 1)))?.sync_all()?;
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Runs a step of the database. It asserts what it expects of its files; leases must not end with
/// the thread that ran into one of these, so a panic is an error like others.
fn guarded<T>(directory: &Path, step: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
    // The database is dropped after any error, so nobody sees what a panic left half done.
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(result) => result.map_err(|error| store_error(directory, error)),
        Err(_) => {
            let place = directory.display();
            Err(StoreError::Other(format!("the database of the lease store {place} panicked")))
        }
    }
}

fn store_error(directory: &Path, error: fjall::Error) -> StoreError {
    let place = directory.display().to_string();
    match error {
        fjall::Error::Locked => StoreError::InUse(place),
        fjall::Error::Io(source) => StoreError::Io { place, source },
        other => StoreError::Other(format!("the lease store {place}: {other}")),
    }
}
