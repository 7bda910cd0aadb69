//! The cache of framed files, in chunks, that all transfers of all shards share.
//!
//! An image is one version of one file in one [`Shape`]. A chunk is framed when the first transfer
//! needs it. When the budget is used up, the chunk goes that was not used for longest; a transfer
//! that needs it again has it read again. So a file may be larger than the budget. Around every
//! read it is checked that the file has not changed, so an image never mixes two versions. The
//! image of a file that has changed leaves the cache with its last transfer.

use std::cmp::Ordering as Order;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use bootstorm_net::SharedBytes;
use bootstorm_protocols::tftp::Mode;
use parking_lot::Mutex;
use rustix::fs::{Stat, fstat};

use super::frame::{self, Framer, Shape, Start};
use super::loader::LoaderQueue;
use super::watch::Watch;

/// Images in the cache at most; each has a file descriptor.
const MAX_IMAGES: usize = 512;

/// Which version of which file. The change time is part of it because the modification time can be
/// set by hand.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Identity {
    fn new(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Whether the content may differ. The change time does not tell: a file that was unlinked or
    /// renamed has a new one, and the same content.
    fn differs(&self, other: &Self) -> bool {
        (self.size, self.modified) != (other.size, other.modified)
    }
}

type Key = (Identity, Shape);

/// Why an image can give no more chunks.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// The file was written to since it was opened.
    Changed,
    /// It cannot be read.
    Unreadable,
}

/// One version of one file, framed in one shape.
#[derive(Debug)]
pub(super) struct Image {
    file: File,
    key: Key,
    slots: Arc<[Slot]>,
    /// Number of the last block; 0 while it is unknown.
    last: AtomicU64,
    /// 0, or a [`Failure`].
    failure: AtomicU8,
    loading: Mutex<Loading>,
}

#[derive(Debug, Default)]
struct Slot {
    chunk: ArcSwapOption<Vec<u8>>,
    /// When it was used last, by [`Images::tick`].
    used: AtomicU64,
}

#[derive(Debug, Default)]
struct Loading {
    /// Indexes of the chunks that are being read.
    asked: Vec<usize>,
    waiting: Vec<Arc<LoaderQueue>>,
    /// Where in the file each chunk begins, as far as known. Used for netascii; for octet it is
    /// computed.
    starts: Vec<Start>,
}

/// The result of [`Image::window`].
#[derive(Debug)]
pub(super) enum Window {
    /// Framed blocks.
    Found { bytes: SharedBytes, blocks: u64 },
    /// The chunk with this index is not in memory.
    Missing(usize),
}

impl Image {
    fn new(file: File, key: Key) -> Self {
        let (identity, shape) = key;
        let most = shape.last_block(shape.longest(identity.size));
        let chunks = most.div_ceil(shape.chunk_blocks());
        Self {
            file,
            key,
            slots: (0..chunks).map(|_| Slot::default()).collect(),
            last: AtomicU64::new(if shape.mode == Mode::Octet { most } else { 0 }),
            failure: AtomicU8::new(0),
            loading: Mutex::new(Loading { starts: vec![Start::default()], ..Loading::default() }),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.key.1
    }

    /// Bytes of file data that a transfer sends, if that is known in advance (octet).
    pub(super) fn size(&self) -> Option<u64> {
        (self.shape().mode == Mode::Octet).then_some(self.key.0.size)
    }

    /// The number of the last block, once it is known.
    pub(super) fn last(&self) -> Option<u64> {
        Some(self.last.load(Ordering::Acquire)).filter(|&last| last > 0)
    }

    /// Why no more chunks can be read.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self.failure.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Failure::Changed),
            _ => Some(Failure::Unreadable),
        }
    }

    /// Blocks from `first` on: at most `count`, and none beyond the end of the chunk. `tick` is the
    /// [`Images::tick`] of the caller's batch.
    pub(super) fn window(&self, first: u64, count: u64, tick: u64) -> Window {
        let shape = self.shape();
        let index = ((first - 1) / shape.chunk_blocks()) as usize;
        let slot = self.slots.get(index);
        let Some(chunk) = slot.and_then(|slot| slot.chunk.load_full()) else {
            return Window::Missing(index);
        };
        if let Some(slot) = slot {
            slot.used.store(tick, Ordering::Relaxed);
        }
        let frame_len = shape.frame_len();
        let from = (first - 1) % shape.chunk_blocks() * frame_len;
        let until = (from + count * frame_len).min(chunk.len() as u64);
        let blocks = until.saturating_sub(from).div_ceil(frame_len);
        match SharedBytes::new(chunk, from as usize..until as usize) {
            Some(bytes) if blocks > 0 => Window::Found { bytes, blocks },
            _ => Window::Missing(index),
        }
    }

    /// Of the `count` chunks after that of block `first`, those that are not in memory.
    pub(super) fn lacks_ahead(&self, first: u64, count: usize) -> impl Iterator<Item = usize> {
        let blocks = self.shape().chunk_blocks();
        let next = ((first - 1) / blocks) as usize + 1;
        let chunks = self.last().map_or(0, |last| last.div_ceil(blocks) as usize);
        let absent =
            |&index: &usize| self.slots.get(index).is_some_and(|slot| slot.chunk.load().is_none());
        (next..chunks.min(next + count)).filter(absent)
    }

    /// Registers that a chunk is needed. Returns true if the caller has to have it read, false if
    /// it is in memory or being read. `loader_queue` is woken when it is there.
    pub(super) fn ask(&self, index: usize, loader_queue: Option<&Arc<LoaderQueue>>) -> bool {
        let mut loading = self.loading.lock();
        let there = self.slots.get(index).is_none_or(|slot| slot.chunk.load().is_some());
        if let Some(loader_queue) = loader_queue {
            if there || self.failure().is_some() {
                // It was loaded after the caller looked for it.
                loader_queue.wake();
                return false;
            }
            if !loading.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, loader_queue)) {
                loading.waiting.push(Arc::clone(loader_queue));
            }
        }
        if there || loading.asked.contains(&index) {
            return false;
        }
        loading.asked.push(index);
        true
    }

    /// Undoes an [`Image::ask`] whose read could not be queued.
    pub(super) fn unask(&self, index: usize) {
        self.loading.lock().asked.retain(|&asked| asked != index);
    }

    fn check(&self) -> Result<(), Failure> {
        let stat = fstat(&self.file).map_err(|_| Failure::Unreadable)?;
        if self.key.0.differs(&Identity::new(&stat)) { Err(Failure::Changed) } else { Ok(()) }
    }

    fn start(&self, index: usize) -> Option<Start> {
        let shape = self.shape();
        match shape.mode {
            Mode::Octet => {
                let block = index as u64 * shape.chunk_blocks();
                Some(Start { offset: block * u64::from(shape.blksize), ..Start::default() })
            }
            Mode::Netascii => self.loading.lock().starts.get(index).copied(),
        }
    }

    /// The framer for a chunk. `None` if it is not known where the chunk begins, since the one
    /// before it was never framed.
    pub(super) fn framer(&self, index: usize) -> Result<Option<Framer>, Failure> {
        let Some(start) = self.start(index) else { return Ok(None) };
        self.check()?;
        let (identity, shape) = self.key;
        let first = index as u64 * shape.chunk_blocks() + 1;
        Ok(Some(Framer::new(shape, first, start, identity.size)))
    }

    /// The framed chunk, unless the file has changed meanwhile.
    fn chunk(&self, index: usize, framer: Framer) -> Result<Vec<u8>, Failure> {
        self.check()?;
        let chunk = framer.finish();
        let end = (index as u64 + 1) * self.shape().chunk_blocks();
        match (self.last(), chunk.last) {
            (Some(known), Some(found)) if known != found => return Err(Failure::Changed),
            (Some(known), None) if known <= end => return Err(Failure::Changed),
            (None, Some(found)) => self.last.store(found, Ordering::Release),
            _ => {}
        }
        let mut loading = self.loading.lock();
        if loading.starts.len() == index + 1 {
            loading.starts.push(chunk.next);
        }
        Ok(chunk.bytes)
    }

    /// The open file, to be read for a [`Framer`].
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn fail(&self, failure: Failure) {
        let code = match failure {
            Failure::Changed => 1,
            Failure::Unreadable => 2,
        };
        self.failure.store(code, Ordering::Release);
    }

    /// The read of a chunk has ended: wakes the shards that wait.
    fn answered(&self, index: usize) {
        let mut loading = self.loading.lock();
        loading.asked.retain(|&asked| asked != index);
        for loader_queue in loading.waiting.drain(..) {
            loader_queue.wake();
        }
    }
}

/// The cache of images.
#[derive(Debug)]
pub(super) struct Images {
    cache: Mutex<Cache>,
    budget: AtomicU64,
    tick: AtomicU64,
}

#[derive(Debug, Default)]
struct Cache {
    images: HashMap<Key, Entry>,
    /// Chunks in memory; on top the one with the oldest recorded use.
    resident: BinaryHeap<Resident>,
    bytes: u64,
    watch: Watch<Key>,
    /// Images of files that have changed and that transfers still send.
    stale: Vec<Key>,
}

/// A chunk in memory. The order is reversed: the heap's maximum has the lowest `used`.
#[derive(Debug)]
struct Resident {
    /// [`Slot::used`] when this was pushed on the heap.
    used: u64,
    slots: Arc<[Slot]>,
    index: usize,
}

impl Ord for Resident {
    fn cmp(&self, other: &Self) -> Order {
        other.used.cmp(&self.used)
    }
}

impl PartialOrd for Resident {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Resident {
    fn eq(&self, other: &Self) -> bool {
        self.used == other.used
    }
}

impl Eq for Resident {}

#[derive(Debug)]
struct Entry {
    image: Arc<Image>,
    opened: u64,
}

impl Images {
    /// A cache of at most `budget` bytes of chunks.
    pub(super) fn new(budget: u64) -> Self {
        Self {
            cache: Mutex::new(Cache::default()),
            budget: AtomicU64::new(budget),
            tick: AtomicU64::new(1),
        }
    }

    /// Changes the budget in bytes. Chunks beyond it go when the next is inserted.
    pub(super) fn set_budget(&self, budget: u64) {
        self.budget.store(budget, Ordering::Relaxed);
    }

    /// A logical clock for "last used". Shards advance it once a batch.
    pub(super) fn tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::Relaxed)
    }

    /// Bytes of chunks in memory.
    #[cfg(test)]
    pub(super) fn resident(&self) -> u64 {
        self.cache.lock().bytes
    }

    /// The cached image of an open file, or a new one without chunks.
    pub(super) fn image(&self, file: File, stat: &Stat, shape: Shape) -> Arc<Image> {
        let key = (Identity::new(stat), shape);
        let opened = self.tick();
        let mut cache = self.cache.lock();
        cache.forget_changed();
        if let Some(entry) = cache.images.get_mut(&key) {
            entry.opened = opened;
            return Arc::clone(&entry.image);
        }
        if cache.images.len() >= MAX_IMAGES {
            cache.forget_idle();
        }
        let image = Arc::new(Image::new(file, key));
        cache.watch.add(&image.file, key);
        cache.images.insert(key, Entry { image: Arc::clone(&image), opened });
        image
    }

    /// Reads a chunk, for which [`Image::ask`] returned true, in the calling thread.
    pub(super) fn load(&self, image: &Arc<Image>, index: usize) {
        let read = image.framer(index).and_then(|framer| {
            let Some(mut framer) = framer else { return Ok(None) };
            frame::read(&image.file, &mut framer).map_err(|_| Failure::Unreadable)?;
            Ok(Some(framer))
        });
        self.loaded(image, index, read);
    }

    /// Stores a chunk, for which [`Image::ask`] returned true, or why it could not be read.
    pub(super) fn loaded(
        &self,
        image: &Arc<Image>,
        index: usize,
        read: Result<Option<Framer>, Failure>,
    ) {
        let chunk =
            read.and_then(|framer| framer.map(|framer| image.chunk(index, framer)).transpose());
        match chunk {
            Ok(Some(bytes)) => self.insert(image, index, bytes),
            Ok(None) => {}
            Err(failure) => {
                image.fail(failure);
                // The next request opens the file anew.
                self.cache.lock().forget(&image.key);
            }
        }
        image.answered(index);
    }

    fn insert(&self, image: &Arc<Image>, index: usize, bytes: Vec<u8>) {
        let len = bytes.len() as u64;
        let tick = self.tick();
        let mut cache = self.cache.lock();
        let budget = self.budget.load(Ordering::Relaxed);
        cache.forget_changed();
        while cache.bytes + len > budget && cache.evict() {}
        let Some(slot) = image.slots.get(index) else { return };
        slot.used.store(tick, Ordering::Relaxed);
        slot.chunk.store(Some(Arc::new(bytes)));
        // An image that has left the cache meanwhile is not counted; its transfers still use it.
        if cache.images.get(&image.key).is_some_and(|entry| Arc::ptr_eq(&entry.image, image)) {
            cache.resident.push(Resident { used: tick, slots: Arc::clone(&image.slots), index });
            cache.bytes += len;
        }
    }
}

impl Cache {
    /// Drops the chunk that was not used for longest; false if there is none.
    fn evict(&mut self) -> bool {
        while let Some(mut oldest) = self.resident.pop() {
            let Some(slot) = oldest.slots.get(oldest.index) else { continue };
            let used = slot.used.load(Ordering::Relaxed);
            if used > oldest.used {
                // The chunk was used since. No entry is newer than its chunk's last use, so the
                // first entry that is up to date is the oldest of all.
                oldest.used = used;
                self.resident.push(oldest);
                continue;
            }
            let chunk = slot.chunk.swap(None);
            self.bytes -= chunk.map_or(0, |chunk| chunk.len() as u64);
            return true;
        }
        false
    }

    /// Removes the images of changed files that no transfer uses.
    fn forget_changed(&mut self) {
        self.stale.extend(self.watch.changed());
        for key in std::mem::take(&mut self.stale) {
            match self.images.get(&key) {
                Some(entry) if Arc::strong_count(&entry.image) > 1 => self.stale.push(key),
                _ => self.forget(&key),
            }
        }
    }

    /// Removes the unused image that was opened longest ago.
    fn forget_idle(&mut self) {
        let idle = self.images.iter().filter(|(_, entry)| Arc::strong_count(&entry.image) == 1);
        if let Some(key) = idle.min_by_key(|(_, entry)| entry.opened).map(|(key, _)| *key) {
            self.forget(&key);
        }
    }

    /// Removes an image. Transfers that use it keep it and its chunks.
    fn forget(&mut self, key: &Key) {
        let Some(entry) = self.images.remove(key) else { return };
        self.watch.remove(key);
        let mut freed = 0;
        self.resident.retain(|resident| {
            let own = Arc::ptr_eq(&resident.slots, &entry.image.slots);
            if own {
                let chunk =
                    resident.slots.get(resident.index).and_then(|slot| slot.chunk.load_full());
                freed += chunk.map_or(0, |chunk| chunk.len() as u64);
            }
            !own
        });
        self.bytes -= freed;
    }
}

#[cfg(test)]
mod tests;
