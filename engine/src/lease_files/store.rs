//! Writing leases into the store of a server that is down.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstorm_protocols::time::Moment;

use crate::leases::{Clock, Lease, LeaseLog, LeaseStore, Loaded, StatePlace, StoreError, Write};

/// A file in the state directory while leases are written: an import that was broken off is known
/// by it.
const MARK: &str = "lease-import";

/// Leases that are written at a time.
const BATCH: usize = 512;

/// Both clocks are written down in whole seconds, and read again.
const ROUNDING: Duration = Duration::from_secs(2);

/// What to do with leases that the store has.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Existing {
    /// Write nothing if it has others than those that are to be written.
    Refuse,
    /// Of two leases of one address the one that was given or renewed last counts.
    Merge,
}

/// What was written.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Imported {
    /// Leases that the store did not have so.
    pub written: u64,
    /// Leases that it had already.
    pub same: u64,
    /// Leases that it has a later one for.
    pub older: u64,
}

/// Why leases were not written.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It holds leases.
    #[error(
        "{place} holds {count} leases that are not those of the files, of {example} for one: \
         --merge puts both together, and of two leases of one address the later one counts", place = place.display()
    )]
    Holds {
        /// The store.
        place: PathBuf,
        /// How many.
        count: u64,
        /// The lowest address of them.
        example: IpAddr,
    },
    /// It is damaged.
    #[error("{place} is damaged, so nothing is written to it: {damage}", place = place.display())]
    Damaged {
        /// The store.
        place: PathBuf,
        /// What is.
        damage: String,
    },
    /// The mark.
    #[error("{place}: {cause}", place = place.display())]
    Mark {
        /// Its path.
        place: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// The mark of an import that was broken off, or is under way, in a state directory.
pub fn broken_off(state_dir: &Path) -> Option<PathBuf> {
    Some(state_dir.join(MARK)).filter(|mark| mark.exists())
}

/// The lease store of a server that is down, which nobody else opens meanwhile.
pub struct Store {
    state_dir: PathBuf,
    log: LeaseLog,
    clock: Clock,
}

impl Store {
    /// Opens the store of a state directory. If it is new, [`broken_off`] tells of it until
    /// something was written.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a server runs; the disk.
    pub fn open(state_dir: &Path, clock: &Clock) -> Result<Self, ImportError> {
        let place = StatePlace::new(state_dir);
        let is_new = place.present().is_none();
        let log = place.open(clock)?;
        let store = Self { state_dir: state_dir.to_owned(), log, clock: *clock };
        if is_new {
            store.mark()?;
        }
        Ok(store)
    }

    /// What is to be written of leases, each address once.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub fn plan(self, leases: Vec<Lease>, existing: Existing) -> Result<Plan, ImportError> {
        let place = || StatePlace::new(&self.state_dir).log();
        let mut known = BTreeMap::new();
        let mut unreadable = None;
        let recovered = self.log.load(&self.clock, &mut |loaded| match loaded {
            Loaded::Lease(lease, version) => _ = known.insert(lease.ip, (lease, version)),
            Loaded::Erased(..) => {}
            Loaded::Corrupt(error) => _ = unreadable.get_or_insert(error),
        })?;
        let damage = self.log.damage().or(unreadable.map(|error| error.to_string()));
        if let Some(damage) = damage {
            return Err(ImportError::Damaged { place: place(), damage });
        }
        let (mut writes, mut done) = (Vec::new(), Imported::default());
        let mut version = recovered.version;
        let mut longest = Duration::ZERO;
        for lease in leases {
            let before = known.remove(&lease.ip);
            match &before {
                Some((before, _)) if is_same(before, &lease) => {
                    done.same += 1;
                    continue;
                }
                Some((before, _)) if existing == Existing::Refuse => {
                    let before = before.clone();
                    known.insert(before.ip, (before, 0));
                }
                Some((before, _)) if lease.starts <= before.starts => {
                    done.older += 1;
                    continue;
                }
                _ => {}
            }
            version += 1;
            if lease.expires != Moment::NEVER {
                longest = longest.max(lease.expires.since(lease.starts));
            }
            let known = before.map_or(0, |(_, version)| version);
            writes.push(Write { ip: lease.ip, version, known, lease: Some(lease) });
        }
        if existing == Existing::Refuse
            && let Some(&example) = known.keys().next()
        {
            let count = known.len() as u64;
            return Err(ImportError::Holds { place: place(), count, example });
        }
        done.written = writes.len() as u64;
        Ok(Plan { store: self, writes, longest, done })
    }

    fn mark(&self) -> Result<(), ImportError> {
        let place = self.state_dir.join(MARK);
        let text = "Leases are being imported, or an import was broken off: do it again.\n";
        let written = fs::write(&place, text).and_then(|()| self.sync());
        written.map_err(|cause| ImportError::Mark { place, cause })
    }

    fn remove_mark(&self) -> Result<(), ImportError> {
        let place = self.state_dir.join(MARK);
        let removed = match fs::remove_file(&place) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            _ => self.sync(),
        };
        removed.map_err(|cause| ImportError::Mark { place, cause })
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.state_dir)?.sync_all()
    }
}

/// What an import writes.
pub struct Plan {
    store: Store,
    writes: Vec<Write>,
    longest: Duration,
    done: Imported,
}

impl Plan {
    /// Writes it. If it is broken off, part of it is written, [`broken_off`] tells of it, and the
    /// same import again writes the rest.
    ///
    /// # Errors
    /// The disk.
    pub fn write(self) -> Result<Imported, ImportError> {
        let Self { store, writes, longest, done } = self;
        if !writes.is_empty() {
            store.mark()?;
            store.log.gives(longest)?;
            for batch in writes.chunks(BATCH) {
                store.log.commit(batch, &store.clock)?;
            }
        }
        store.remove_mark()?;
        Ok(done)
    }
}

/// Whether both say the same, as far as files and clocks can tell.
fn is_same(a: &Lease, b: &Lease) -> bool {
    let near = |a: Moment, b: Moment| a.since(b).max(b.since(a)) <= ROUNDING;
    (a.state, &a.client, a.hardware) == (b.state, &b.client, b.hardware)
        && near(a.starts, b.starts)
        && near(a.expires, b.expires)
}
