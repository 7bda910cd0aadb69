//! What is done beside the writing: checkpoints, and room on the disk for the next ones.

use std::io;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use bootstorm_net::file::{BLOCK, Blocks, DurableFile};

use super::LeaseLog;
use super::batch::Record;
use super::block::{self, LogId};
use super::checkpoint::{self, Longest, Meta, Reader, Writer};
use super::records::Records;
use super::scan::{Chain, Segment};
use super::segments::{self, Sealed, UNFINISHED};
use crate::leases::fjall::Each;
use crate::leases::key::Key;
use crate::leases::{Clock, StoreError, clock};

/// Nice value of the thread that makes checkpoints.
const CHECKPOINT_NICE: i32 = 10;
/// How long to wait after a checkpoint that failed.
const RETRY: Duration = Duration::from_secs(1);
/// The version of everything that comes from an earlier store.
pub(super) const FIRST_VERSION: u64 = 1;
/// Blocks that are written at once when a file is made longer.
const STEP: usize = 256;

/// The checkpoint, and the file for the next.
pub(super) struct Checkpoints {
    /// What the present one says.
    pub(super) meta: Meta,
    /// There is less room for the next one than it may need.
    unreserved: bool,
}

impl Checkpoints {
    pub(super) fn new(meta: Meta) -> Self {
        Self { meta, unreserved: false }
    }
}

/// What the maintenance thread is to do.
#[derive(Default)]
pub(super) struct Wake {
    pub(super) due: bool,
    stopping: bool,
}

impl LeaseLog {
    /// Makes a checkpoint if segments are used up; whether it did. To be called by the maintenance
    /// thread, or by hand in a simulation.
    ///
    /// # Errors
    /// What the disk says. Nothing is lost, and it can be tried again.
    pub fn maintain(&self) -> Result<bool, StoreError> {
        let mut checkpoints = self.checkpoints.lock();
        if !self.segments.lock().are_low() {
            return Ok(false);
        }
        self.checkpoint(&mut checkpoints, None).map_err(|source| self.error(source))?;
        Ok(true)
    }

    /// Starts the thread that makes checkpoints.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn_maintenance(self: &Arc<Self>) -> io::Result<Maintenance> {
        let log = Arc::clone(self);
        // What the server before left used up.
        log.wake.0.lock().due = true;
        let run = move || {
            crate::privileges::renounce_network_or_warn();
            // It has a second and more for what takes a shard's core for some milliseconds. No more
            // than that, because the committer waits for it when all segments are used up.
            let _ = rustix::process::setpriority_process(None, CHECKPOINT_NICE);
            let mut failing = false;
            loop {
                {
                    let mut wake = log.wake.0.lock();
                    while !wake.due && !wake.stopping {
                        log.wake.1.wait(&mut wake);
                    }
                    if wake.stopping {
                        return;
                    }
                    wake.due = false;
                }
                match log.maintain() {
                    Ok(made) => {
                        failing = false;
                        if made {
                            // What it was made from is large, and free until the next one.
                            bootstorm_net::give_back_memory();
                        }
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut failing, true) {
                            tracing::error!(%error, "no checkpoint of the leases can be made");
                        }
                        let mut wake = log.wake.0.lock();
                        if !wake.stopping {
                            log.wake.1.wait_for(&mut wake, RETRY);
                        }
                        wake.due = true;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(run)?;
        Ok(Maintenance { log: Arc::clone(self), thread: Some(thread) })
    }

    /// Makes the files that are not there yet: all of a new log, or what a full disk, or a kill,
    /// left out. The checkpoint comes last, and with it a log exists.
    pub(super) fn complete(&self, has_checkpoint: bool) -> io::Result<()> {
        let made = |result: io::Result<()>| match result {
            Err(error) if has_checkpoint && error.kind() == io::ErrorKind::StorageFull => Ok(()),
            result => result,
        };
        made(self.grow(self.layout.segments.into()))?;
        made(self.open_or_make(checkpoint::SPARE).and_then(|spare| self.reserve(&*spare, 0)))?;
        if has_checkpoint {
            return Ok(());
        }
        let unfinished = format!("{}{UNFINISHED}", checkpoint::NAME);
        let file = self.directory.open(&unfinished, true)?;
        let mut checkpoints = self.checkpoints.lock();
        checkpoints.meta.segments = self.segments.lock().count();
        Writer::new(&*file, self.id, self.next_generation(), &checkpoints.meta).finish()?;
        self.reserve(&*file, 0)?;
        self.directory.rename(&unfinished, checkpoint::NAME)?;
        self.directory.sync()
    }

    fn open_or_make(&self, name: &str) -> io::Result<Box<dyn DurableFile>> {
        match self.directory.open(name, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.directory.open(name, true)
            }
            file => file,
        }
    }

    /// Merges what the sealed segments hold into a checkpoint, and frees them. `damaged`: when
    /// damage was found that the caller knows of.
    pub(super) fn checkpoint(
        &self,
        checkpoints: &mut Checkpoints,
        damaged: Option<Clock>,
    ) -> io::Result<()> {
        let directory = &*self.directory;
        let (sealed, durable) = {
            let segments = self.segments.lock();
            (segments.sealed(), segments.durable())
        };
        let included = checkpoints.meta.included;
        let (records, mut damage) = self.read_sealed(&sealed, included, durable)?;
        let mut meta = checkpoints.meta.clone();
        meta.longest = *self.longest.lock();
        meta.included = sealed.iter().map(|segment| segment.highest).fold(included, u64::max);
        meta.version = records.version.max(meta.version);
        meta.segments = self.segments.lock().count();
        records.clocks.iter().for_each(|clock| clock::saw(&mut meta.clocks, *clock));
        meta.damaged = damaged.or(meta.damaged);
        let mut known = damaged.is_some();
        // Where the names of the checkpoint before could not be made durable, a power cut brings
        // back the one that is the spare file now.
        directory.sync()?;
        let old = directory.open(checkpoint::NAME, false)?;
        let spare = self.open_or_make(checkpoint::SPARE)?;
        let size = loop {
            if let Some(damage) = damage.take().filter(|_| !known) {
                known = true;
                meta.damaged = Some(*self.clock.lock());
                self.alarm(damage);
                // Whoever writes has read the log when it was whole.
                self.lost.store(true, Relaxed);
            }
            let generation = self.next_generation();
            meta.next_generation = generation + 1;
            let mut writer = Writer::new(&*spare, self.id, generation, &meta);
            let mut reader = Reader::open(&*old)?;
            merge(&mut reader, records.iter(), |record| writer.record(record))?;
            let size = writer.finish()?;
            damage = reader.damage().map(str::to_owned);
            // Else once more, with the mark in it.
            if damage.is_none() || known {
                break size;
            }
        };
        self.install(checkpoints, meta)?;
        for segment in &sealed {
            match segment.mend(self.id) {
                Ok(()) => self.segments.lock().free(segment.index),
                // It stays sealed, and the next checkpoint tries again.
                Err(error) => tracing::debug!(%error, "a segment takes no writes"),
            }
        }
        self.make_room(checkpoints, size);
        Ok(())
    }

    /// What the batches after `included` up to `durable` in these segments hold, and what is wrong
    /// with them.
    fn read_sealed(
        &self,
        sealed: &[Sealed],
        included: u64,
        durable: u64,
    ) -> io::Result<(Records, Option<String>)> {
        let mut blocks = Blocks::default();
        let mut scans = Vec::with_capacity(sealed.len());
        for segment in sealed {
            segment.file.read_at(0, self.layout.segment_blocks.into(), &mut blocks)?;
            scans.push(Segment::scan(&blocks, self.id));
        }
        let chain = Chain::of(&scans, included, Some(durable), self.layout.largest_batch());
        let records = Records::of(&chain);
        let damage = chain.damage.or(records.unreadable());
        Ok((records, damage))
    }

    /// Puts what was written to the spare file in the place of the checkpoint.
    fn install(&self, checkpoints: &mut Checkpoints, meta: Meta) -> io::Result<()> {
        let directory = &*self.directory;
        match directory.exchange(checkpoint::NAME, checkpoint::SPARE) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                directory.rename(checkpoint::SPARE, checkpoint::NAME)?;
            }
            result => result?,
        }
        directory.sync()?;
        checkpoints.meta = meta;
        Ok(())
    }

    /// Makes what another store has the content of this log, which is new: key and record of each
    /// address, by rising key. Returns their number. All have the lowest version.
    pub(super) fn import(
        &self,
        clock: &Clock,
        each: impl FnOnce(&mut Each<'_>) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        let failed = |source| self.error(source);
        let mut checkpoints = self.checkpoints.lock();
        let generation = self.next_generation();
        let mut meta =
            Meta { version: FIRST_VERSION, next_generation: generation + 1, ..Meta::default() };
        *self.longest.lock() = Longest::UNKNOWN;
        meta.longest = Longest::UNKNOWN;
        meta.segments = self.segments.lock().count();
        meta.clocks.push(*clock);
        let spare = self.open_or_make(checkpoint::SPARE).map_err(failed)?;
        let mut writer = Writer::new(&*spare, self.id, generation, &meta);
        let mut count = 0;
        each(&mut |key, value| {
            let Some(key) = Key::from_bytes(key) else {
                tracing::error!("the key {key:02x?} of a lease is too long: it is left out");
                return Ok(());
            };
            count += 1;
            let value = Some(value);
            writer.record(&Record { key, version: FIRST_VERSION, value }).map_err(failed)
        })?;
        let size = writer.finish().map_err(failed)?;
        self.install(&mut checkpoints, meta).map_err(failed)?;
        self.make_room(&mut checkpoints, size);
        Ok(count)
    }

    /// Has the disk keep room for the next checkpoint, and makes more segments when the checkpoint
    /// is large, so that it is not written anew too often.
    fn make_room(&self, checkpoints: &mut Checkpoints, size: u64) {
        let segment = segments::offset(self.layout.segment_blocks);
        let most = usize::from(self.layout.most_segments);
        let wanted = usize::try_from(size / segment).unwrap_or(most).min(most);
        let reserve = || {
            for name in [checkpoint::NAME, checkpoint::SPARE] {
                self.reserve(&*self.open_or_make(name)?, size)?;
            }
            self.grow(wanted)
        };
        let failed = reserve().err();
        let unreserved = failed.is_some();
        if let Some(error) = failed.filter(|_| !checkpoints.unreserved) {
            tracing::warn!(
                %error,
                place = self.place(),
                "there is no room on the disk for many more leases; those that are known can \
                 still be renewed"
            );
        }
        checkpoints.unreserved = unreserved;
    }

    /// Makes the segments that are missing, and more until there are `count`.
    fn grow(&self, count: usize) -> io::Result<()> {
        let (gaps, has) = {
            let segments = self.segments.lock();
            (segments.gaps(), usize::from(segments.count()))
        };
        for index in gaps.into_iter().chain(has..count) {
            let file = segments::make(&*self.directory, index, self.id, self.layout)?;
            self.directory.sync()?;
            self.segments.lock().add(index, file);
        }
        Ok(())
    }

    /// Makes a file so long that a checkpoint fits which has `size` bytes now and, besides, all
    /// that the segments may hold.
    fn reserve(&self, file: &dyn DurableFile, size: u64) -> io::Result<()> {
        let segments = self.segments.lock().count().max(self.layout.segments);
        let log = u64::from(segments) * segments::offset(self.layout.segment_blocks);
        lengthen(file, checkpoint::whole_pieces(size + log), self.id)
    }
}

/// Writes blank blocks at the end of a file until it has `length` bytes, and makes them durable.
fn lengthen(file: &dyn DurableFile, length: u64, log: LogId) -> io::Result<()> {
    let mut at = file.len()? / BLOCK as u64 * BLOCK as u64;
    if at >= length {
        return Ok(());
    }
    let blank = block::blank(STEP, log);
    while at < length {
        file.write_at(at, &blank)?;
        at += (STEP * BLOCK) as u64;
    }
    file.sync()
}

/// Hands over the records of a checkpoint and of batches after it: of each address the one with the
/// higher version, of equal ones that of the batches.
pub(super) fn merge<'r, E>(
    reader: &mut Reader<'_>,
    records: impl Iterator<Item = Record<'r>>,
    mut each: impl FnMut(&Record<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut records = records.peekable();
    while reader.next(|old| merge_one(old, &mut records, &mut each))? {}
    records.try_for_each(|record| each(&record))
}

fn merge_one<'r, E>(
    old: &Record<'_>,
    records: &mut Peekable<impl Iterator<Item = Record<'r>>>,
    each: &mut impl FnMut(&Record<'_>) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(new) = records.next_if(|new| new.key < old.key) {
        each(&new)?;
    }
    match records.next_if(|new| new.key == old.key) {
        Some(new) if new.version >= old.version => each(&new),
        _ => each(old),
    }
}

/// The thread that makes checkpoints. Dropping it ends the thread, after the one under way.
pub struct Maintenance {
    log: Arc<LeaseLog>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.log.wake.0.lock().stopping = true;
        self.log.wake.1.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that makes checkpoints of the leases had failed");
        }
    }
}
