//! The store of earlier versions, a fjall database, to be read into the log.
//!
//! What was read in fjall 3.1.13 and lsm-tree 3.1: recovery drops a batch whose end is missing, and
//! then the rest is what was acknowledged. The directory is locked by the last handle.

use std::fs::{self, File};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use rustix::fs::FlockOperation;

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
        Self::open_files(directory, directory)
    }

    /// The same whose files lie in `files`; `directory` is for messages.
    fn open_files(directory: &Path, files: &Path) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io { place: directory.display().to_string(), source };
        let open = if is_unfinished(files).map_err(io)? {
            if let Some(name) = foreign_entry(files).map_err(io)? {
                let place = directory.display();
                return Err(StoreError::Other(format!(
                    "{place} is no whole lease store of an earlier version: it has `{}` but not \
                     what `version` and `keyspaces` hold; put the whole store there, or move \
                     {place} away to start without its leases",
                    name.escape_debug()
                )));
            }
            None
        } else {
            Some(guarded(directory, || {
                let database = Database::builder(files).worker_threads(1).open()?;
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

/// Hands over key and record of every lease of an earlier store, by rising key, and writes nothing
/// there. The database writes to its files when it is opened, so this opens a copy of them in the
/// directory for temporary files.
///
/// # Errors
/// [`StoreError::InUse`] when another process, which is to say a server, has it open.
pub(super) fn read(directory: &Path, each: &mut Each<'_>) -> Result<(), StoreError> {
    let place = directory.display();
    let lock = lock_shared(directory).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => {
            StoreError::InUse(format!("{place} is in use by another process"))
        }
        _ => StoreError::Io { place: place.to_string(), source },
    })?;
    let failed = |error: io::Error| {
        StoreError::Other(format!(
            "the lease store {place} is of an earlier version and is read as a copy in {}, which \
             cannot be made: {error}; TMPDIR may name a directory with more room",
            std::env::temp_dir().display()
        ))
    };
    let copy = tempfile::tempdir().map_err(failed)?;
    let files = copy.path().join(KEYSPACE);
    copy_tree(directory, &files).map_err(failed)?;
    drop(lock);
    // Closed before the copy is removed.
    let store = EarlierStore::open_files(directory, &files)?;
    store.each(each)
}

/// Keeps out whoever opens the database; `None` where it has no file for that yet.
fn lock_shared(directory: &Path) -> io::Result<Option<File>> {
    match File::open(directory.join("lock")) {
        Ok(file) => {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)?;
            Ok(Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
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

/// The name of something that a first start which was not completed did not leave: other files, or
/// a journal with batches.
fn foreign_entry(directory: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_own = match &*name {
            "lock" | "version" | "keyspaces" => true,
            // Made at its full length, filled with zeros. Batches begin at its first byte.
            "0.jnl" => {
                let mut start = Vec::new();
                File::open(entry.path())?.take(64).read_to_end(&mut start)?;
                start.iter().all(|&byte| byte == 0)
            }
            _ => false,
        };
        if !is_own {
            return Ok(Some(name));
        }
    }
    Ok(None)
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
        fjall::Error::Locked => StoreError::InUse(format!("{place} is in use by another process")),
        fjall::Error::Io(source) => StoreError::Io { place, source },
        other => StoreError::Other(format!("the lease store {place}: {other}")),
    }
}
