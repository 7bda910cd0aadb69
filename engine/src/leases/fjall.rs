//! The store of earlier versions, a fjall database, to be read into the log.
//!
//! What was read in fjall 3.1.13 and lsm-tree 3.1: recovery drops a batch whose end is missing, and
//! then the rest is what was acknowledged. The directory is locked by the last handle.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions};

use super::StoreError;

const KEYSPACE: &str = "leases";

/// Takes key and record of one lease.
pub(super) type Each<'e> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'e;

/// A store of an earlier version, open.
pub(super) struct EarlierStore {
    directory: PathBuf,
    /// `None` for one whose first start was killed before it was complete: it never held a lease.
    open: Option<(Database, Keyspace)>,
}

impl EarlierStore {
    /// Opens it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process, which is to say a server, has it open.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io { place: directory.display().to_string(), source };
        let open = if is_unfinished(directory).map_err(io)? {
            None
        } else {
            Some(guarded(directory, || {
                let database = Database::builder(directory).worker_threads(1).open()?;
                let keyspace = database.keyspace(KEYSPACE, KeyspaceCreateOptions::default)?;
                Ok((database, keyspace))
            })?)
        };
        Ok(Self { directory: directory.to_owned(), open })
    }

    /// Hands over key and record of every lease, by rising key.
    pub(super) fn each(&self, each: &mut Each<'_>) -> Result<(), StoreError> {
        let Some((_, keyspace)) = &self.open else { return Ok(()) };
        let mut entries = guarded(&self.directory, || Ok(keyspace.iter()))?;
        while let Some((key, value)) =
            guarded(&self.directory, || entries.next().map(fjall::Guard::into_inner).transpose())?
        {
            each(&key, &value)?;
        }
        Ok(())
    }
}

/// Whether it is what a first start left that was killed before the database was complete: fjall
/// would not open it. The keyspaces come after the version marker.
fn is_unfinished(directory: &Path) -> io::Result<bool> {
    let complete = fs::metadata(directory.join("version")).is_ok_and(|marker| marker.len() > 0);
    let keyspaces = match fs::read_dir(directory.join("keyspaces")) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    Ok(!complete && !keyspaces)
}

/// Runs a step of the database. It asserts what it expects of its files; a panic is an error like
/// others.
fn guarded<T>(directory: &Path, step: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
    // Nothing is done with the database after an error.
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
