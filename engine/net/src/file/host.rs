//! Files of this host.
//!
//! A durable write goes with RWF_DSYNC to blocks that were written before, so that no metadata
//! changes with it; past the page cache (O_DIRECT) where the file system can, else through it.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::ring::Ring;
use super::storage::{self, Storage};
use super::{BLOCK, Blocks, Directory, DurableFile};

/// The file whose lock is the directory's.
const LOCK: &str = "lock";

/// A directory of this host.
pub struct HostDirectory {
    path: PathBuf,
    directory: File,
    storage: Storage,
    /// What durable writes go through; `None` is a system call each.
    ring: Option<Arc<Ring>>,
}

impl HostDirectory {
    /// Opens a directory, or makes it in one that exists. With `ring`, durable writes go through an
    /// io_uring of its own, if there can be one.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path, ring: bool) -> io::Result<Self> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let directory = File::open(path)?;
        let storage = Storage::of(&directory, path)?;
        if storage.copies_on_write() {
            storage::overwrite_in_place(&directory)?;
        }
        let ring = if ring { Ring::open().ok().map(Arc::new) } else { None };
        Ok(Self { path: path.to_owned(), directory, storage, ring })
    }

    /// What the directory lies on.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }
}

impl Directory for HostDirectory {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.path)?;
        names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DurableFile>> {
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if create {
            flags |= OFlags::CREATE | OFlags::EXCL;
        }
        let mode = Mode::from_raw_mode(0o640);
        let open = |flags| fs::openat(&self.directory, name, flags, mode).map(File::from);
        let direct = self.storage.direct();
        let file = if direct { open(flags | OFlags::DIRECT) } else { open(flags) }?;
        Ok(Box::new(HostFile { file, ring: self.ring.clone(), begun: Mutex::default() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.directory, name, AtFlags::empty())?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(fs::renameat(&self.directory, from, &self.directory, to)?)
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        let directory = &self.directory;
        fs::renameat_with(directory, one, directory, other, RenameFlags::EXCHANGE).map_err(
            |error| match error {
                Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => io::ErrorKind::Unsupported.into(),
                other => other.into(),
            },
        )
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o640);
        let file = File::from(fs::openat(&self.directory, LOCK, flags, mode)?);
        fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }
}

struct HostFile {
    file: File,
    ring: Option<Arc<Ring>>,
    begun: Mutex<Begun>,
}

/// The durable write that was begun.
#[derive(Default)]
enum Begun {
    #[default]
    Nothing,
    /// It is in the ring.
    UnderWay,
    /// It was made at once.
    Done(Blocks, io::Result<()>),
}

impl HostFile {
    fn write_durably(&self, offset: u64, blocks: &Blocks) -> io::Result<()> {
        let bytes = blocks.bytes();
        let slices = [IoSlice::new(bytes)];
        loop {
            match rustix::io::pwritev2(&self.file, &slices, offset, ReadWriteFlags::DSYNC) {
                Err(Errno::INTR) => {}
                Ok(written) if written == bytes.len() => return Ok(()),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl DurableFile for HostFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, count: usize, blocks: &mut Blocks) -> io::Result<()> {
        blocks.resize(count);
        let mut read = 0;
        while read < count * BLOCK {
            match self.file.read_at(&mut blocks.bytes_mut()[read..], offset + read as u64) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(0) => break,
                Ok(more) => {
                    read += more;
                    // The end of a file that is not of whole blocks; a direct read cannot go on.
                    if !read.is_multiple_of(BLOCK) {
                        break;
                    }
                }
            }
        }
        blocks.resize(read / BLOCK);
        Ok(())
    }

    fn write_at(&self, offset: u64, blocks: &Blocks) -> io::Result<()> {
        self.file.write_all_at(blocks.bytes(), offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn begin(&self, offset: u64, blocks: Blocks) {
        let mut begun = self.begun.lock();
        let blocks = match &self.ring {
            Some(ring) => match ring.begin(&self.file, offset, blocks) {
                Ok(()) => {
                    *begun = Begun::UnderWay;
                    return;
                }
                Err(blocks) => blocks,
            },
            None => blocks,
        };
        let result = self.write_durably(offset, &blocks);
        *begun = Begun::Done(blocks, result);
    }

    fn finish(&self) -> (Blocks, io::Result<()>) {
        match (std::mem::take(&mut *self.begun.lock()), &self.ring) {
            (Begun::Done(blocks, result), _) => (blocks, result),
            (Begun::UnderWay, Some(ring)) => ring.finish(),
            (Begun::UnderWay | Begun::Nothing, _) => (Blocks::default(), Ok(())),
        }
    }
}

impl Drop for HostFile {
    fn drop(&mut self) {
        // The ring still has the file's descriptor.
        if matches!(*self.begun.lock(), Begun::UnderWay) {
            _ = self.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize, with: u8) -> Blocks {
        let mut blocks = Blocks::default();
        blocks.resize(count);
        blocks.bytes_mut().fill(with);
        blocks
    }

    #[test]
    fn both_ways_of_writing_write() {
        for ring in [false, true] {
            let scratch = tempfile::tempdir().unwrap();
            let directory = HostDirectory::open(&scratch.path().join("log"), ring).unwrap();
            let file = directory.open("one", true).unwrap();
            file.write_at(0, &filled(8, 1)).unwrap();
            file.sync().unwrap();
            for at in 0..4 {
                file.begin(at * 2 * BLOCK as u64, filled(1, 2));
                let (blocks, result) = file.finish();
                assert_eq!((blocks.len(), result.ok()), (1, Some(())));
            }
            // Begun and not finished: it is waited for.
            file.begin(BLOCK as u64, filled(1, 3));
            drop(file);
            let file = directory.open("one", false).unwrap();
            let mut read = Blocks::default();
            file.read_at(0, 99, &mut read).unwrap();
            let firsts: Vec<u8> = read.iter().map(|block| block[BLOCK - 1]).collect();
            assert_eq!(firsts, [2, 3, 2, 1, 2, 1, 2, 1]);
            assert_eq!(file.len().unwrap(), 8 * BLOCK as u64);
        }
    }

    #[test]
    fn a_write_that_fails_says_so_both_ways() {
        for ring in [false, true] {
            let scratch = tempfile::tempdir().unwrap();
            let directory = HostDirectory::open(&scratch.path().join("log"), ring).unwrap();
            directory.open("one", true).unwrap();
            let path = scratch.path().join("log/one");
            let file = File::open(path).unwrap();
            let ring = directory.ring.clone();
            let read_only = HostFile { file, ring, begun: Mutex::default() };
            for _ in 0..3 {
                read_only.begin(0, filled(1, 1));
                assert!(read_only.finish().1.is_err());
            }
        }
    }

    #[test]
    fn names_are_listed_renamed_exchanged_and_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = HostDirectory::open(&scratch.path().join("log"), false).unwrap();
        for (name, with) in [("one", 1), ("two", 2)] {
            directory.open(name, true).unwrap().write_at(0, &filled(1, with)).unwrap();
            let again = directory.open(name, true).err().map(|error| error.kind());
            assert_eq!(again, Some(io::ErrorKind::AlreadyExists));
        }
        directory.exchange("one", "two").unwrap();
        let mut read = Blocks::default();
        directory.open("one", false).unwrap().read_at(0, 1, &mut read).unwrap();
        assert_eq!(read.bytes()[0], 2);
        directory.rename("one", "three").unwrap();
        directory.remove("two").unwrap();
        directory.sync().unwrap();
        assert_eq!(directory.list().unwrap(), ["three"]);
        for name in ["one", "two"] {
            let error = directory.open(name, false).err().map(|error| error.kind());
            assert_eq!(error, Some(io::ErrorKind::NotFound));
        }
    }

    #[test]
    fn a_directory_has_one_owner() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let directory = HostDirectory::open(&path, false).unwrap();
        let guard = directory.lock().unwrap();
        let other = HostDirectory::open(&path, false).unwrap();
        let refused = other.lock().err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::WouldBlock));
        drop(guard);
        assert!(other.lock().is_ok());
    }
}
