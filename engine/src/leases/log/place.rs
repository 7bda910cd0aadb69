//! Where the log lies in the state directory, and how the store of earlier versions becomes one.
//!
//! ```text
//! lease-log/          the log
//! lease-log.new/      one that is being made from an earlier store
//! leases              a file: an earlier version of this program wants a directory here, and
//!                     ends with an error instead of starting without leases
//! leases.before-log/  the earlier store, as it was
//! ```
//! An earlier store is the directory `leases`. It is read into `lease-log.new`. When that is
//! durable, `leases` and `leases.before-log`, a file until then, exchange their names: from here on
//! the log counts. Then it gets its name. A start that was killed goes on where it was.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstorm_net::file::{HostDirectory, ReadOnlyDirectory};
use rustix::fs::{CWD, RenameFlags};

use super::maintain::FIRST_VERSION;
use super::{Clock, Layout, LeaseLog, Loaded};
use crate::leases::StoreError;
use crate::leases::clock::Clocks;
use crate::leases::fjall::{self, EarlierStore};
use crate::leases::store::decode;

const LOG: &str = "lease-log";
const UNFINISHED: &str = "lease-log.new";
const EARLIER: &str = "leases";
const KEPT: &str = "leases.before-log";

/// What the file says that an earlier version of this program stumbles over.
const NOTE: &str = "The leases of this server are in the directory lease-log. Earlier versions of \
bootstorm cannot read them,\nand end with an error because of this file. Remove it only to start \
without any lease.\n";

/// The entries of a state directory that hold leases.
pub const ENTRIES: [&str; 4] = [LOG, UNFINISHED, EARLIER, KEPT];

/// The store of a state directory.
pub struct StatePlace {
    state: PathBuf,
}

impl StatePlace {
    /// Of that state directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { state: state_dir.to_owned() }
    }

    /// The directory of the log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.state.join(LOG)
    }

    /// What has the leases now: the log, or an earlier store that was not read into one yet; `None`
    /// when there are none.
    #[must_use]
    pub fn present(&self) -> Option<PathBuf> {
        let paths = [LOG, UNFINISHED, EARLIER].map(|name| self.state.join(name));
        paths.into_iter().find(|path| path.is_dir())
    }

    /// Opens the log, or makes it; from an earlier store if there is one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open; what the disk says.
    pub fn open(&self, clock: &Clock) -> Result<LeaseLog, StoreError> {
        let [log, unfinished, earlier, kept] = ENTRIES.map(|name| self.state.join(name));
        if self.has_earlier()? {
            self.migrate(clock)?;
        }
        let failed = |path: &Path| {
            let place = path.display().to_string();
            move |source| StoreError::Io { place, source }
        };
        if !log.exists() && unfinished.exists() && kept.is_dir() {
            fs::rename(&unfinished, &log).map_err(failed(&log))?;
            self.sync().map_err(failed(&self.state))?;
        }
        if !earlier.exists() {
            self.leave_note(&earlier).map_err(failed(&earlier))?;
        }
        let opened = open_log(&log)?;
        self.sync().map_err(failed(&self.state))?;
        Ok(opened)
    }

    /// Hands over what [`StatePlace::open`] would find, each address once, by rising address, and
    /// writes nothing in the state directory. Returns what is damaged.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process, which is to say a server, has it open; what the
    /// disk says.
    pub fn read(
        &self,
        clock: &Clock,
        each: &mut dyn FnMut(Loaded),
    ) -> Result<Option<String>, StoreError> {
        let [log, unfinished, earlier, kept] = ENTRIES.map(|name| self.state.join(name));
        if self.has_earlier()? {
            let clocks = Clocks::new(*clock);
            fjall::read(&earlier, &mut |key, record| {
                each(decode(key, FIRST_VERSION, record, &clocks));
                Ok(())
            })?;
            return Ok(None);
        }
        let is_unnamed = !log.exists() && kept.is_dir();
        let path = if is_unnamed { unfinished } else { log };
        if !path.is_dir() {
            return Ok(None);
        }
        let failed = |source| StoreError::Io { place: path.display().to_string(), source };
        let directory = ReadOnlyDirectory::open(&path).map_err(failed)?;
        LeaseLog::read(&directory, Layout::default(), clock, each)
    }

    /// Whether the leases are in an earlier store, and in no log yet.
    fn has_earlier(&self) -> Result<bool, StoreError> {
        let [log, earlier] = [LOG, EARLIER].map(|name| self.state.join(name));
        if earlier.is_dir() && log.exists() {
            let [earlier, log] = [&earlier, &log].map(|path| path.display());
            return Err(StoreError::Other(format!(
                "{earlier} and {log} both hold leases: move away the one that is out of date"
            )));
        }
        Ok(earlier.is_dir())
    }

    /// Reads an earlier store into a log, up to the point where the log counts.
    fn migrate(&self, clock: &Clock) -> Result<(), StoreError> {
        let [_, unfinished, earlier, kept] = ENTRIES.map(|name| self.state.join(name));
        let failed = |path: &Path| {
            let place = path.display().to_string();
            move |source| StoreError::Io { place, source }
        };
        let store = EarlierStore::open(&earlier)?;
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(failed(&unfinished))?;
        }
        if kept.is_dir() {
            let kept = kept.display();
            return Err(StoreError::Other(format!(
                "{} is to be kept as {kept}, which is there already: move that away",
                earlier.display()
            )));
        }
        let log = open_log(&unfinished)?;
        let count = log.import(clock, |each| store.each(each))?;
        drop((log, store));
        self.leave_note(&kept).map_err(failed(&kept))?;
        self.sync().map_err(failed(&self.state))?;
        rustix::fs::renameat_with(CWD, &earlier, CWD, &kept, RenameFlags::EXCHANGE)
            .map_err(|error| failed(&kept)(error.into()))?;
        self.sync().map_err(failed(&self.state))?;
        if count == 0 {
            tracing::warn!(
                "the lease store {} of an earlier version held no lease",
                earlier.display()
            );
        }
        tracing::info!(
            "{count} leases of an earlier version are in {} now; the old store is kept as {}",
            self.log().display(),
            kept.display()
        );
        Ok(())
    }

    fn leave_note(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(NOTE.as_bytes())?;
        file.sync_all()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.state)?.sync_all()
    }
}

fn open_log(path: &Path) -> Result<LeaseLog, StoreError> {
    let failed = |source| StoreError::Io { place: path.display().to_string(), source };
    let directory = HostDirectory::open(path).map_err(failed)?;
    let storage = directory.storage();
    if storage.is_volatile() {
        tracing::warn!(
            "{} lies on {}, which forgets everything when the host or the container ends: \
             acknowledged leases are lost then",
            path.display(),
            storage.file_system().unwrap_or_default()
        );
    }
    let id = fresh_id().map_err(failed)?;
    LeaseLog::open(Arc::new(directory), id, Layout::default())
}

/// Bytes that nothing else has.
fn fresh_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let digits: String = text.trim().split('-').collect();
    let number = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    Ok(number.to_be_bytes())
}
