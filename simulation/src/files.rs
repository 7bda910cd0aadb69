//! The files of the simulated machine, on a disk that fails: what was not flushed is lost, kept or
//! torn by a power cut, writes and flushes fail, names are as they were before the directory was
//! flushed, or after, bits flip while nobody looks, and the disk may be full.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use bootstorm_net::file::{BLOCK, Blocks, Directory, DurableFile};

use crate::committer::{Fate, NextWrite};
use crate::random::Stream;

/// So many batches are known by their place.
const BATCHES: usize = 16;
/// What a disk writes whole, or not at all.
const SECTOR: usize = 512;

/// One file: as programs see it, and as it is after a power cut.
#[derive(Clone, Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Where the two may differ, by number of the block.
    unflushed: BTreeSet<usize>,
}

/// A change of names that may not be durable yet.
#[derive(Clone)]
enum Naming {
    Made(String, usize),
    Removed(String),
    Renamed(String, String),
    Exchanged(String, String),
}

type Names = BTreeMap<String, usize>;

/// What the disk holds, and what goes wrong with it.
struct State {
    contents: Vec<Content>,
    names: Names,
    durable_names: Names,
    namings: Vec<Naming>,
    /// Files that were opened by a process that was killed since do nothing any more.
    process: u64,
    /// After so many more operations the process is dead.
    left: Option<u64>,
    /// So many of 1000 flushes fail.
    failing: u64,
    /// There is no room for more than the files have.
    full: bool,
    /// The last batches that became durable: file, and from where to where.
    batches: VecDeque<(usize, Range<usize>)>,
    locked: bool,
    random: Stream,
}

/// The disk of the simulated machine, in one directory.
#[derive(Clone)]
pub(crate) struct Files(Arc<Mutex<State>>);

impl Files {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            contents: Vec::new(),
            names: Names::new(),
            durable_names: Names::new(),
            namings: Vec::new(),
            process: 0,
            left: None,
            failing: 0,
            full: false,
            batches: VecDeque::new(),
            locked: false,
            random: Stream(seed),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics with it.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The directory for a process that starts; `next` decides about its durable writes.
    pub(crate) fn open(&self, next: NextWrite) -> Arc<dyn Directory> {
        let process = self.lock().process;
        Arc::new(Opened { files: self.clone(), process, next })
    }

    pub(crate) fn set_failing(&self, share: u64) {
        self.lock().failing = share;
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// Bits flip on a disk that nobody reads meanwhile, so many at most. Never in the last batch: a
    /// bad one at the end cannot be told from one that a power cut tore.
    pub(crate) fn flip_bits(&self, count: u64) {
        let mut state = self.lock();
        let State { contents, names, batches, random, .. } = &mut *state;
        let files: Vec<usize> = names.values().copied().collect();
        let bytes = files.iter().map(|file| contents[*file].cached.len() as u64).sum::<u64>();
        for _ in 0..count.min(bytes) {
            let mut at = random.below(bytes) as usize;
            let bit = 1 << random.below(8);
            for &file in &files {
                let Content { cached, durable, .. } = &mut contents[file];
                if at >= cached.len() {
                    at -= cached.len();
                    continue;
                }
                let spared = batches.back();
                if !spared.is_some_and(|(other, place)| *other == file && place.contains(&at)) {
                    cached[at] ^= bit;
                    if let Some(byte) = durable.get_mut(at) {
                        *byte ^= bit;
                    }
                }
                break;
            }
        }
    }

    /// A bit flips in each of so many of the last batches, but for the very last.
    pub(crate) fn spoil_batches(&self, count: usize) {
        let mut state = self.lock();
        let State { contents, batches, random, .. } = &mut *state;
        for (file, place) in batches.iter().rev().skip(1).take(count) {
            let at = place.start + random.below(place.len() as u64) as usize;
            let Content { cached, durable, .. } = &mut contents[*file];
            cached[at] ^= 1;
            durable[at] ^= 1;
        }
    }

    /// The process goes on for so many operations, and then no more.
    pub(crate) fn kill_after(&self, operations: u64) {
        self.lock().left = Some(operations);
    }

    /// The process is gone. What it wrote is in the cache.
    pub(crate) fn killed(&self) {
        let mut state = self.lock();
        state.process += 1;
        state.left = None;
        state.locked = false;
    }

    /// The machine lost its power, and with it what was not flushed.
    pub(crate) fn power_cut(&self) {
        self.killed();
        let mut state = self.lock();
        let State { contents, names, durable_names, namings, random, .. } = &mut *state;
        for content in contents.iter_mut() {
            content.settle(random);
        }
        // Some of the changes of names, in their order.
        let kept = random.below(namings.len() as u64 + 1) as usize;
        namings.drain(..).take(kept).for_each(|naming| naming.apply(durable_names));
        names.clone_from(durable_names);
    }
}

impl Content {
    /// Of each block that was not flushed the disk has the new content, the old, or parts of both.
    fn settle(&mut self, random: &mut Stream) {
        let longer = self.cached.len() > self.durable.len();
        if longer && random.chance(500) {
            self.durable.resize(self.cached.len(), 0);
        }
        let length = self.cached.len().min(self.durable.len());
        let unflushed = std::mem::take(&mut self.unflushed);
        for from in unflushed.into_iter().map(|block| block * BLOCK) {
            let until = (from + BLOCK).min(length);
            if from >= until || self.cached[from..until] == self.durable[from..until] {
                continue;
            }
            let sectors = match random.below(3) {
                0 => 0,
                1 => BLOCK / SECTOR,
                _ => random.below((BLOCK / SECTOR) as u64) as usize,
            };
            let written = (from + sectors * SECTOR).min(until);
            let new = self.cached[from..written].to_vec();
            self.durable[from..written].copy_from_slice(&new);
            self.cached[from..until].copy_from_slice(&self.durable[from..until]);
        }
        self.cached.truncate(self.durable.len());
    }

    /// A program writes.
    fn write(&mut self, offset: usize, new: &[u8]) {
        put(&mut self.cached, offset, new);
        self.unflushed.extend(blocks_of(offset, new.len()));
    }

    /// A program has written, and what it wrote is durable.
    fn write_durably(&mut self, offset: usize, new: &[u8]) {
        put(&mut self.cached, offset, new);
        put(&mut self.durable, offset, new);
        // A block may have other bytes that are not.
        for block in blocks_of(offset, new.len()) {
            if offset <= block * BLOCK && (block + 1) * BLOCK <= offset + new.len() {
                self.unflushed.remove(&block);
            }
        }
    }

    fn flush(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for from in std::mem::take(&mut self.unflushed).into_iter().map(|block| block * BLOCK) {
            let until = (from + BLOCK).min(self.cached.len());
            self.durable[from..until].copy_from_slice(&self.cached[from..until]);
        }
    }
}

fn blocks_of(offset: usize, length: usize) -> Range<usize> {
    offset / BLOCK..(offset + length).div_ceil(BLOCK)
}

impl Naming {
    fn apply(self, names: &mut Names) {
        match self {
            Self::Made(name, content) => {
                names.insert(name, content);
            }
            Self::Removed(name) => {
                names.remove(&name);
            }
            Self::Renamed(from, to) => {
                if let Some(content) = names.remove(&from) {
                    names.insert(to, content);
                }
            }
            Self::Exchanged(one, other) => {
                if let (Some(a), Some(b)) = (names.get(&one).copied(), names.get(&other).copied()) {
                    names.insert(one, b);
                    names.insert(other, a);
                }
            }
        }
    }
}

impl State {
    /// Counts an operation of a process; an error when the process is gone.
    fn operation(&mut self, process: u64) -> io::Result<()> {
        let dead = self.process != process || self.left == Some(0);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        if dead { Err(io::Error::other("the process was killed")) } else { Ok(()) }
    }

    fn may_fail(&mut self) -> io::Result<()> {
        let failing = self.failing;
        // No number is drawn for what cannot happen.
        match failing > 0 && self.random.chance(failing) {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    }

    /// An error when there is no room for a file of this length.
    fn make_room(&self, content: usize, length: usize) -> io::Result<()> {
        match self.full && length > self.contents[content].cached.len() {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn naming(&mut self, naming: Naming) {
        self.namings.push(naming.clone());
        naming.apply(&mut self.names);
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// The directory as one process has it.
struct Opened {
    files: Files,
    process: u64,
    next: NextWrite,
}

impl Opened {
    fn operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.files.lock();
        state.operation(self.process)?;
        Ok(state)
    }
}

impl Directory for Opened {
    fn place(&self) -> String {
        "the simulated disk".to_owned()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.operation()?.names.keys().cloned().collect())
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DurableFile>> {
        let mut state = self.operation()?;
        let found = state.find(name).ok();
        let content = match (found, create) {
            (Some(_), true) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(content), false) => content,
            (None, false) => return Err(io::ErrorKind::NotFound.into()),
            (None, true) if state.full => return Err(io::ErrorKind::StorageFull.into()),
            (None, true) => {
                state.contents.push(Content::default());
                let content = state.contents.len() - 1;
                state.naming(Naming::Made(name.to_owned(), content));
                content
            }
        };
        let begun = Mutex::new(None);
        let (files, process, next) = (self.files.clone(), self.process, self.next.clone());
        Ok(Box::new(OpenFile { files, process, next, content, begun }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.operation()?;
        state.find(name)?;
        state.naming(Naming::Removed(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.operation()?;
        state.find(from)?;
        state.naming(Naming::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        let mut state = self.operation()?;
        state.find(one)?;
        state.find(other)?;
        state.naming(Naming::Exchanged(one.to_owned(), other.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.operation()?;
        state.may_fail()?;
        let State { names, durable_names, namings, .. } = &mut *state;
        durable_names.clone_from(names);
        namings.clear();
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.operation()?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock { files: self.files.clone(), process: self.process }))
    }
}

struct Lock {
    files: Files,
    process: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.files.lock();
        if state.process == self.process {
            state.locked = false;
        }
    }
}

/// A file as one process has it.
struct OpenFile {
    files: Files,
    process: u64,
    next: NextWrite,
    content: usize,
    begun: Mutex<Option<(u64, Blocks)>>,
}

impl OpenFile {
    fn operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.files.lock();
        state.operation(self.process)?;
        Ok(state)
    }
}

fn bytes(blocks: &Blocks) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(blocks.len() * BLOCK);
    blocks.iter().for_each(|block| bytes.extend_from_slice(block));
    bytes
}

fn put(content: &mut Vec<u8>, from: usize, new: &[u8]) {
    if content.len() < from + new.len() {
        content.resize(from + new.len(), 0);
    }
    content[from..from + new.len()].copy_from_slice(new);
}

impl DurableFile for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.operation()?.contents[self.content].cached.len() as u64)
    }

    fn read_at(&self, offset: u64, count: usize, blocks: &mut Blocks) -> io::Result<()> {
        let state = self.operation()?;
        let content = &state.contents[self.content].cached;
        blocks.clear();
        let from = (offset as usize).min(content.len());
        for block in content[from..].chunks_exact(BLOCK).take(count) {
            blocks.push().copy_from_slice(block);
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, blocks: &Blocks) -> io::Result<()> {
        let mut state = self.operation()?;
        let new = bytes(blocks);
        state.make_room(self.content, offset as usize + new.len())?;
        state.contents[self.content].write(offset as usize, &new);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.operation()?;
        let outcome = state.may_fail();
        let State { contents, random, .. } = &mut *state;
        let content = &mut contents[self.content];
        match outcome {
            Ok(()) => content.flush(),
            Err(_) => content.settle(random),
        }
        outcome
    }

    fn begin(&self, offset: u64, blocks: Blocks) {
        if let Ok(mut begun) = self.begun.lock() {
            *begun = Some((offset, blocks));
        }
    }

    fn finish(&self) -> (Blocks, io::Result<()>) {
        let begun = self.begun.lock().ok().and_then(|mut begun| begun.take());
        let Some((offset, blocks)) = begun else { return (Blocks::default(), Ok(())) };
        let fate = self.next.fate();
        let mut state = self.files.lock();
        if state.process != self.process {
            return (blocks, Err(io::Error::other("the process was killed")));
        }
        let new = bytes(&blocks);
        let place = offset as usize..offset as usize + new.len();
        if let Err(error) = state.make_room(self.content, place.end) {
            return (blocks, Err(error));
        }
        let State { contents, random, batches, .. } = &mut *state;
        let content = &mut contents[self.content];
        match fate {
            Fate::Failed => {
                content.write(place.start, &new);
                content.settle(random);
                return (blocks, Err(io::Error::from_raw_os_error(5)));
            }
            Fate::Killed => {
                // Some of its blocks, in the caches: a power cut may take them away later.
                let written = random.below(blocks.len() as u64 + 1) as usize * BLOCK;
                content.write(place.start, &new[..written]);
                if written == new.len() {
                    batches.push_back((self.content, place));
                }
                return (blocks, Err(io::Error::other("the process was killed")));
            }
            Fate::Written => content.write_durably(place.start, &new),
        }
        // What was there before is no more.
        let stays = |(file, other): &(usize, Range<usize>)| {
            *file != self.content || other.end <= place.start || place.end <= other.start
        };
        batches.retain(stays);
        batches.push_back((self.content, place));
        if batches.len() > BATCHES {
            batches.pop_front();
        }
        (blocks, Ok(()))
    }
}
