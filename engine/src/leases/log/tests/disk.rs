//! A disk in memory that fails, loses and tears as the interface over files allows.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bootstorm_net::file::{BLOCK, Blocks, Directory, DurableFile};
use parking_lot::Mutex;

type Block = [u8; BLOCK];

/// What is to go wrong next.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Fault {
    #[default]
    None,
    /// The next durable write fails, having written any part of it.
    Write,
    /// The next durable write fails, and is on the disk all the same.
    Kept,
    /// The next sync fails, having written any part.
    Sync,
    /// The next sync of names fails: a power cut may bring the old ones back.
    Names,
    /// Everything fails from now on, as when the power is cut.
    Dead,
}

#[derive(Default)]
struct Inode {
    /// What a read shows, and what a power cut leaves.
    cached: Vec<Block>,
    durable: Vec<Block>,
}

type Names = BTreeMap<String, usize>;

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: Names,
    /// The names as they were at the last sync, and after each change since.
    unsynced: Vec<Names>,
    fault: Fault,
    /// Writes and syncs until everything fails.
    alive: Option<u32>,
    /// Blocks that the disk has.
    capacity: usize,
    locked: bool,
    random: u64,
}

impl State {
    fn random(&mut self, below: u64) -> u64 {
        // A linear congruential generator: the upper bits are good enough to tear with.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % below
    }

    fn check(&mut self) -> io::Result<()> {
        if let Some(alive) = &mut self.alive {
            match alive.checked_sub(1) {
                Some(left) => *alive = left,
                None => self.fault = Fault::Dead,
            }
        }
        match self.fault {
            Fault::Dead => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        }
    }

    fn take(&mut self, fault: Fault) -> bool {
        let now = self.fault == fault;
        if now {
            self.fault = Fault::None;
        }
        now
    }

    /// Leaves any part of what is not durable on the disk.
    fn tear(&mut self, inode: usize) {
        for at in 0..self.inodes[inode].cached.len() {
            let blank = [0; BLOCK];
            let new = self.inodes[inode].cached[at];
            let old = self.inodes[inode].durable.get(at).copied().unwrap_or(blank);
            if new == old {
                continue;
            }
            let mut block = old;
            match self.random(4) {
                0 => block = new,
                1 => {}
                2 => {
                    let sector = self.random(8) as usize * 512;
                    block[..sector].copy_from_slice(&new[..sector]);
                }
                _ => {
                    let sector = self.random(8) as usize * 512;
                    block[sector..].copy_from_slice(&new[sector..]);
                }
            }
            let durable = &mut self.inodes[inode].durable;
            durable.resize(durable.len().max(at + 1), blank);
            durable[at] = block;
        }
        self.inodes[inode].cached = self.inodes[inode].durable.clone();
    }

    fn changed_names(&mut self) {
        self.unsynced.push(self.names.clone());
    }
}

/// The disk. Clones are the same one.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        let state = State { random: seed, capacity: usize::MAX, ..State::default() };
        let disk = Self(Arc::new(Mutex::new(state)));
        disk.0.lock().changed_names();
        disk
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.0.lock().fault = fault;
    }

    /// Everything fails after so many writes and syncs.
    pub(super) fn die_after(&self, calls: u32) {
        self.0.lock().alive = Some(calls);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.0.lock().fault == Fault::Dead
    }

    /// Nothing that needs more room works any more, or with `false` everything does.
    pub(super) fn fill(&self, full: bool) {
        let mut state = self.0.lock();
        let used = state.inodes.iter().map(|inode| inode.cached.len()).sum();
        state.capacity = if full { used } else { usize::MAX };
    }

    /// Cuts the power, and switches it on again.
    pub(super) fn cut_power(&self) {
        let mut state = self.0.lock();
        for inode in 0..state.inodes.len() {
            state.tear(inode);
        }
        let changes = state.unsynced.len() as u64;
        let which = state.random(changes) as usize;
        state.names = state.unsynced[which].clone();
        state.unsynced = vec![state.names.clone()];
        state.fault = Fault::None;
        state.alive = None;
        state.locked = false;
    }

    /// The process ends; what it wrote is in the caches.
    pub(super) fn end_process(&self) {
        let mut state = self.0.lock();
        state.fault = Fault::None;
        state.alive = None;
        state.locked = false;
    }

    /// Number of blocks of a file.
    pub(super) fn blocks(&self, name: &str) -> usize {
        let state = self.0.lock();
        state.names.get(name).map_or(0, |inode| state.inodes[*inode].cached.len())
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// Changes a block of a file at rest.
    pub(super) fn damage(&self, name: &str, block: usize, with: impl FnOnce(&mut Block)) {
        let state = &mut *self.0.lock();
        let inode = &mut state.inodes[state.names[name]];
        with(&mut inode.cached[block]);
        inode.durable[block] = inode.cached[block];
    }

    pub(super) fn read(&self, name: &str) -> Vec<Block> {
        let state = self.0.lock();
        state.inodes[state.names[name]].cached.clone()
    }
}

impl Directory for Disk {
    fn place(&self) -> String {
        "a disk in memory".to_owned()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DurableFile>> {
        let mut state = self.0.lock();
        let inode = match (state.names.get(name), create) {
            (Some(inode), false) => *inode,
            (Some(_), true) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, false) => return Err(io::ErrorKind::NotFound.into()),
            (None, true) => {
                state.check()?;
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.names.insert(name.to_owned(), inode);
                state.changed_names();
                inode
            }
        };
        Ok(Box::new(File { disk: self.clone(), inode, begun: Mutex::default() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.check()?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.changed_names();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.check()?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        state.changed_names();
        Ok(())
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.check()?;
        let [first, second] =
            [one, other].map(|name| state.names.get(name).copied().expect("it is there"));
        state.names.insert(one.to_owned(), second);
        state.names.insert(other.to_owned(), first);
        state.changed_names();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.check()?;
        if state.take(Fault::Sync) || state.take(Fault::Names) {
            return Err(io::ErrorKind::Other.into());
        }
        state.unsynced = vec![state.names.clone()];
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.0.lock();
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(Guard(self.clone())))
    }
}

struct Guard(Disk);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.lock().locked = false;
    }
}

struct File {
    disk: Disk,
    inode: usize,
    begun: Mutex<Option<(u64, Blocks)>>,
}

impl DurableFile for File {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.0.lock();
        Ok((state.inodes[self.inode].cached.len() * BLOCK) as u64)
    }

    fn read_at(&self, offset: u64, count: usize, blocks: &mut Blocks) -> io::Result<()> {
        let state = self.disk.0.lock();
        if state.fault == Fault::Dead {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        blocks.clear();
        let all = &state.inodes[self.inode].cached;
        for block in all.iter().skip(offset as usize / BLOCK).take(count) {
            blocks.push().copy_from_slice(block);
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, blocks: &Blocks) -> io::Result<()> {
        let state = &mut *self.disk.0.lock();
        state.check()?;
        let at = offset as usize / BLOCK;
        let used: usize = state.inodes.iter().map(|inode| inode.cached.len()).sum();
        let inode = &mut state.inodes[self.inode];
        let longer = (at + blocks.len()).saturating_sub(inode.cached.len());
        if longer > 0 && used + longer > state.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inode.cached.resize(inode.cached.len() + longer, [0; BLOCK]);
        for (block, new) in inode.cached[at..].iter_mut().zip(blocks.iter()) {
            *block = *new;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.disk.0.lock();
        state.check()?;
        if state.take(Fault::Sync) {
            state.tear(self.inode);
            return Err(io::ErrorKind::Other.into());
        }
        let inode = &mut state.inodes[self.inode];
        inode.durable.clone_from(&inode.cached);
        Ok(())
    }

    fn begin(&self, offset: u64, blocks: Blocks) {
        *self.begun.lock() = Some((offset, blocks));
    }

    fn finish(&self) -> (Blocks, io::Result<()>) {
        let Some((offset, blocks)) = self.begun.lock().take() else {
            return (Blocks::default(), Ok(()));
        };
        let at = offset as usize / BLOCK;
        {
            let state = self.disk.0.lock();
            let inode = &state.inodes[self.inode];
            assert!(at + blocks.len() <= inode.durable.len(), "it was not written before");
        }
        let state = &mut *self.disk.0.lock();
        let result = state.check();
        let kept = state.take(Fault::Kept);
        if state.fault == Fault::Write || result.is_err() {
            let inode = &mut state.inodes[self.inode];
            for (block, new) in inode.cached[at..].iter_mut().zip(blocks.iter()) {
                *block = *new;
            }
            if state.take(Fault::Write) {
                state.tear(self.inode);
            }
            return (blocks, Err(io::ErrorKind::Other.into()));
        }
        let inode = &mut state.inodes[self.inode];
        for (at, new) in (at..).zip(blocks.iter()) {
            inode.cached[at] = *new;
            inode.durable[at] = *new;
        }
        (blocks, if kept { Err(io::ErrorKind::Other.into()) } else { Ok(()) })
    }
}
