//! Leases in a log of our own.
//!
//! ```text
//! state/lease-log/
//!   segment-00 ...      batches, each written at once: one durable write, blocks that were written
//!                       before, so that no metadata of the file system changes with it
//!   checkpoint          the last record of each address, up to some batch
//!   checkpoint.spare    the one before, and the room for the next
//!   lock
//! ```
//! A batch goes behind the one before, in the same segment or, if it does not fit, at the start of
//! a free one. When half of the segments are used, all but the present one are merged with the
//! checkpoint into the spare file. That is made durable, the two exchange their names, the
//! directory is made durable, and only then are the segments free again. Everything has its room on
//! the disk from the start, so a full disk stops none of this.
//!
//! After a write that failed the segment is left, because nobody knows what of it is on the disk.
//! The next batch says which one was durable before it, so the failed one does not count, whole or
//! not. That batch has two blocks at least, so that it says so even if a bit flips in it.
//!
//! `block`, `batch`, `scan`, `records` and `checkpoint` are the format, without files of a host;
//! `recovery` reads what is there; `segments` and `maintain` are what happens to the files; this
//! file is the store.

mod batch;
mod block;
mod checkpoint;
mod maintain;
mod place;
mod records;
mod recovery;
mod scan;
mod segments;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bootstorm_net::file::{Blocks, Directory};
use parking_lot::{Condvar, Mutex};

use self::batch::Builder;
use self::block::{Kind, LogId, Stamp};
use self::checkpoint::Longest;
use self::maintain::Checkpoints;
pub use self::maintain::Maintenance;
pub use self::place::{ENTRIES, StatePlace};
use self::recovery::{Found, Recovery};
use self::segments::{Current, Segments};
use super::key::Key;
use super::{BatchId, Clock, Finished, LeaseStore, Loaded, Recovered, StoreError, Write, record};

/// How large a log is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Blocks of a segment.
    pub segment_blocks: u16,
    /// Segments at first.
    pub segments: u16,
    /// Segments that it grows to when the checkpoint is large.
    pub most_segments: u16,
}

impl Default for Layout {
    /// 16 MiB, and up to 64.
    fn default() -> Self {
        Self { segment_blocks: 512, segments: 8, most_segments: 32 }
    }
}

impl Layout {
    /// Blocks of the largest batch.
    fn largest_batch(self) -> usize {
        usize::from(self.segment_blocks / 2)
    }
}

/// Leases in a directory of their own.
pub struct LeaseLog {
    directory: Arc<dyn Directory>,
    /// Keeps other processes out.
    _lock: Box<dyn Send + Sync>,
    id: LogId,
    layout: Layout,
    writer: Mutex<Writer>,
    segments: Mutex<Segments>,
    checkpoints: Mutex<Checkpoints>,
    /// How long leases last, for the next checkpoint: a reload does not wait for one under way.
    longest: Mutex<Longest>,
    next_generation: AtomicU64,
    /// Says to the maintenance that segments are used up, or that it is to end.
    wake: (Mutex<maintain::Wake>, Condvar),
    /// What [`LeaseStore::load`] is for.
    found: Mutex<Option<Found>>,
    /// What was found damaged last.
    damage: Mutex<Option<String>>,
    /// See [`LeaseStore::has_lost`].
    lost: AtomicBool,
    /// Of the last batch, or of the start.
    clock: Mutex<Clock>,
}

struct Writer {
    current: Option<Current>,
    next_number: u64,
    /// The last batch that is durable.
    follows: u64,
    under_way: Option<(BatchId, u16)>,
    blocks: Blocks,
    value: Vec<u8>,
}

impl LeaseLog {
    /// Opens the log of a directory, or makes one there, whose id is `id`: bytes that no other log
    /// has.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process, which is to say the server, has it open; what
    /// the disk says. Damage is none: [`LeaseStore::load`] tells of it.
    pub fn open(
        directory: Arc<dyn Directory>,
        id: [u8; 16],
        layout: Layout,
    ) -> Result<Self, StoreError> {
        let place = directory.place();
        let lock = lock(&*directory)?;
        Self::open_locked(directory, lock, LogId(id), layout)
            .map_err(|source| StoreError::Io { place, source })
    }

    /// Hands over what is in a log that no server has open, each address once, by rising address,
    /// and writes nothing. Returns what is damaged.
    fn read(
        directory: &dyn Directory,
        layout: Layout,
        clock: &Clock,
        each: &mut dyn FnMut(Loaded),
    ) -> Result<Option<String>, StoreError> {
        let _lock = lock(directory)?;
        let failed = |source| StoreError::Io { place: directory.place(), source };
        let Recovery { meta, has_checkpoint, found, .. } =
            Recovery::of(directory, layout).map_err(failed)?;
        let meta = Some(&meta).filter(|_| has_checkpoint);
        let (_, damage) = found.hand_over(directory, meta, clock, each).map_err(failed)?;
        Ok(damage)
    }

    fn open_locked(
        directory: Arc<dyn Directory>,
        lock: Box<dyn Send + Sync>,
        new: LogId,
        layout: Layout,
    ) -> io::Result<Self> {
        let names = directory.list()?;
        for name in names.iter().filter(|name| name.ends_with(segments::UNFINISHED)) {
            directory.remove(name)?;
        }
        let Recovery { id, has_checkpoint, meta, segments, highest, last, next_generation, found } =
            Recovery::of(&*directory, layout)?;
        // What a process that was killed has written may be in the caches, and not on the disk.
        segments.sync()?;
        directory.sync()?;
        let writer = Writer {
            current: None,
            next_number: highest + 1,
            follows: last,
            under_way: None,
            blocks: Blocks::default(),
            value: Vec::new(),
        };
        let log = Self {
            directory,
            _lock: lock,
            id: id.unwrap_or(new),
            layout,
            writer: Mutex::new(writer),
            segments: Mutex::new(segments),
            longest: Mutex::new(meta.longest),
            checkpoints: Mutex::new(Checkpoints::new(meta)),
            next_generation: AtomicU64::new(next_generation),
            wake: Default::default(),
            found: Mutex::new(Some(found)),
            damage: Mutex::default(),
            lost: AtomicBool::new(false),
            clock: Mutex::default(),
        };
        log.complete(has_checkpoint)?;
        Ok(log)
    }

    /// The directory's path.
    pub fn place(&self) -> String {
        self.directory.place()
    }

    fn error(&self, source: io::Error) -> StoreError {
        StoreError::Io { place: self.place(), source }
    }

    /// Damage was found.
    fn alarm(&self, damage: String) {
        tracing::error!(
            place = self.place(),
            "the lease store is damaged: {damage}; leases that clients hold may be missing in it"
        );
        *self.damage.lock() = Some(damage);
    }

    fn next_generation(&self) -> u64 {
        self.next_generation.fetch_add(1, Relaxed)
    }

    /// Leaves the present segment, whose last `torn` blocks may not be as they were written.
    fn seal(&self, writer: &mut Writer, torn: u16) {
        if let Some(current) = writer.current.take() {
            let torn = current.next - torn..current.next;
            let mut segments = self.segments.lock();
            segments.seal(current.index, writer.next_number - 1, torn, writer.follows);
        }
    }

    /// Begins a free segment; when there is none, makes a checkpoint first.
    fn next_segment(&self, writer: &mut Writer) -> io::Result<()> {
        self.seal(writer, 0);
        let mut free = self.segments.lock().take();
        if free.is_none() {
            // One may be under way: then this waits for it, and need not make another.
            let mut checkpoints = self.checkpoints.lock();
            free = self.segments.lock().take();
            if free.is_none() {
                self.checkpoint(&mut checkpoints, None)?;
                free = self.segments.lock().take();
            }
        }
        let Some((index, file)) = free else { return Err(io::ErrorKind::StorageFull.into()) };
        let generation = self.next_generation();
        writer.current = Some(Current { index, file, generation, next: 0 });
        if self.segments.lock().are_low() {
            self.wake.0.lock().due = true;
            self.wake.1.notify_one();
        }
        Ok(())
    }

    fn write(
        &self,
        writer: &mut Writer,
        id: BatchId,
        batch: &[Write],
        clock: &Clock,
    ) -> Result<(), StoreError> {
        let mut builder = Builder::new(std::mem::take(&mut writer.blocks));
        builder.clock(clock);
        for write in batch {
            let value = write.lease.as_ref().map(|lease| {
                writer.value.clear();
                record::encode(lease, clock, &mut writer.value);
                writer.value.as_slice()
            });
            builder.record(&Key::of(write.ip), write.version, value);
        }
        if writer.follows + 1 < writer.next_number {
            // It alone says that the batch before failed. If one of its blocks is bad, the other
            // says so.
            builder.lengthen(2);
        }
        let count = builder.blocks();
        if count > self.layout.largest_batch() {
            let place = self.place();
            return Err(StoreError::Other(format!("the lease store {place}: too large a batch")));
        }
        // At most half of a segment.
        let count = count as u16;
        let room = |current: &Current| current.next + count <= self.layout.segment_blocks;
        if !writer.current.as_ref().is_some_and(room) {
            self.next_segment(writer).map_err(|source| self.error(source))?;
        }
        let Some(current) = &writer.current else { return Ok(()) };
        let stamp = Stamp {
            kind: Kind::Batch,
            log: self.id,
            generation: current.generation,
            number: writer.next_number,
            follows: writer.follows,
        };
        writer.next_number += 1;
        writer.under_way = Some((id, count));
        current.file.begin(segments::offset(current.next), builder.seal(&stamp));
        Ok(())
    }
}

fn lock(directory: &dyn Directory) -> Result<Box<dyn Send + Sync>, StoreError> {
    directory.lock().map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => {
            StoreError::InUse(format!("{} is in use: {source}", directory.place()))
        }
        _ => StoreError::Io { place: directory.place(), source },
    })
}

impl LeaseStore for LeaseLog {
    fn begin(&self, id: BatchId, batch: &[Write], clock: &Clock) -> Result<(), StoreError> {
        let writer = &mut *self.writer.lock();
        // Whoever writes knows what was found, or does not care.
        self.found.lock().take();
        *self.clock.lock() = *clock;
        if writer.under_way.is_some() {
            return Err(self.error(io::ErrorKind::ResourceBusy.into()));
        }
        self.write(writer, id, batch, clock)
    }

    fn finish(&self) -> Option<Finished> {
        let writer = &mut *self.writer.lock();
        let (id, count) = writer.under_way.take()?;
        let current = writer.current.as_mut()?;
        let (blocks, result) = current.file.finish();
        writer.blocks = blocks;
        current.next += count;
        if result.is_ok() {
            writer.follows = writer.next_number - 1;
        } else {
            self.seal(writer, count);
        }
        let result = result.map(|()| Vec::new()).map_err(|source| self.error(source));
        Some(Finished { id, result })
    }

    fn load(&self, clock: &Clock, each: &mut dyn FnMut(Loaded)) -> Result<Recovered, StoreError> {
        let Some(found) = self.found.lock().take() else {
            let place = self.place();
            return Err(StoreError::Other(format!("the lease store {place} was read before")));
        };
        *self.clock.lock() = *clock;
        let mut checkpoints = self.checkpoints.lock();
        let meta = &checkpoints.meta;
        let version = meta.version.max(found.records.version);
        let (clocks, damage) = found
            .hand_over(&*self.directory, Some(meta), clock, each)
            .map_err(|source| self.error(source))?;
        let mut found = meta.damaged;
        if let Some(damage) = damage {
            self.alarm(damage);
            found = Some(*clock);
            // Says so to the next start, too.
            self.checkpoint(&mut checkpoints, found).map_err(|source| self.error(source))?;
        }
        let damaged = found.map(|found| {
            let [at, _] = clocks.times(found.boot, [found.now; 2], [found.wall; 2]);
            at
        });
        let Longest { now, before, until } = *self.longest.lock();
        let ends = [until.now, until.now + Duration::from_secs(before)];
        let [_, ends] = clocks.times(until.boot, ends, [until.wall, until.wall + before]);
        let before = damaged.map_or(Duration::ZERO, |found| ends.since(found));
        let longest = Duration::from_secs(now).max(before);
        Ok(Recovered { version, damaged, longest })
    }

    fn gives(&self, longest: Duration) -> Result<(), StoreError> {
        {
            let known = &mut *self.longest.lock();
            if longest.as_secs() <= known.now {
                return Ok(());
            }
            known.now = longest.as_secs();
        }
        let mut checkpoints = self.checkpoints.lock();
        self.checkpoint(&mut checkpoints, None).map_err(|source| self.error(source))
    }

    fn gives_no_longer(&self, longest: Duration, clock: &Clock) {
        self.longest.lock().shorten(longest.as_secs(), clock);
    }

    fn reopen(&self) -> Result<(), StoreError> {
        // The next batch begins a segment of its own.
        Ok(())
    }

    fn damage(&self) -> Option<String> {
        self.damage.lock().clone()
    }

    fn has_lost(&self) -> bool {
        self.lost.load(Relaxed) && self.lost.swap(false, Relaxed)
    }
}
