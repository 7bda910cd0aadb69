//! Files of this host.
//!
//! A durable write goes with RWF_DSYNC to blocks that were written before, so that no metadata
//! changes with it; past the page cache (O_DIRECT) where the file system can, else through it.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::storage::{self, Storage};
use super::{BLOCK, Blocks, Directory, DurableFile};

/// The file whose lock is the directory's.
pub(super) const LOCK: &str = "lock";
/// How long a lock waits for those that only read: a listing of a million leases takes two seconds.
const READERS_WAIT: Duration = Duration::from_secs(10);

/// A directory of this host.
pub struct HostDirectory {
    path: PathBuf,
    directory: File,
    storage: Storage,
}

impl HostDirectory {
    /// Opens a directory, or makes it in one that exists.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let directory = File::open(path)?;
        let storage = Storage::of(&directory, path)?;
        if storage.copies_on_write() {
            storage::overwrite_in_place(&directory)?;
        }
        Ok(Self { path: path.to_owned(), directory, storage })
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
        list(&self.path)
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DurableFile>> {
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if create {
            flags |= OFlags::CREATE | OFlags::EXCL;
        }
        let mode = Mode::from_raw_mode(0o640);
        let open = |flags| fs::openat(&self.directory, name, flags, mode).map(File::from);
        let direct = self.storage.direct();
        let file = if direct { open(flags | OFlags::DIRECT) } else { open(flags) };
        Ok(Box::new(HostFile::new(name, file.map_err(|error| named(name, error))?)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::unlinkat(&self.directory, name, AtFlags::empty()).map_err(|error| named(name, error))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::renameat(&self.directory, from, &self.directory, to).map_err(|error| named(from, error))
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        let directory = &self.directory;
        fs::renameat_with(directory, one, directory, other, RenameFlags::EXCHANGE).map_err(
            |error| match error {
                Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => io::ErrorKind::Unsupported.into(),
                other => named(one, other),
            },
        )
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o640);
        let file = fs::openat(&self.directory, LOCK, flags, mode);
        let file = File::from(file.map_err(|error| named(LOCK, error))?);
        lock_within(&file, READERS_WAIT)?;
        Ok(Box::new(file))
    }
}

/// Locks a file against every other process. Waits so long for those that only read.
fn lock_within(file: &File, wait: Duration) -> io::Result<()> {
    let until = Instant::now() + wait;
    loop {
        match fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {}
            result => return Ok(result?),
        }
        // Beside a reader others may read, beside a writer nobody.
        let only_read = fs::flock(file, FlockOperation::NonBlockingLockShared).is_ok();
        if only_read {
            fs::flock(file, FlockOperation::Unlock)?;
        }
        if !only_read || Instant::now() >= until {
            return Err(in_use(file, if only_read { "reads it" } else { "has it open" }));
        }
        std::thread::sleep(READERS_WAIT / 500);
    }
}

/// The error of a lock that another process has.
pub(super) fn in_use(file: &File, does: &str) -> io::Error {
    let who = holder(file).unwrap_or_else(|| "another process".to_owned());
    io::Error::new(io::ErrorKind::WouldBlock, format!("{who} {does}"))
}

/// The process that has a lock of the file, as far as the kernel tells.
fn holder(file: &File) -> Option<String> {
    let inode = fs::fstat(file).ok()?.st_ino;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|lock| holder_in(lock, inode))?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("process {pid} ({})", name.trim_end().escape_debug()))
}

/// The process in a line of /proc/locks, such as `1: FLOCK  ADVISORY  WRITE 708 08:01:131 0 EOF`,
/// that has a lock of a file with that inode. The device is left out: on some file systems stat
/// gives another one.
fn holder_in(lock: &str, inode: u64) -> Option<u32> {
    let fields: Vec<&str> = lock.split_ascii_whitespace().collect();
    let [_, "FLOCK", _, _, pid, place, ..] = fields.as_slice() else { return None };
    let of = place.rsplit(':').next()?.parse::<u64>().ok()?;
    (of == inode).then(|| pid.parse().ok()).flatten()
}

/// The names in a directory.
pub(super) fn list(path: &Path) -> io::Result<Vec<String>> {
    let names = std::fs::read_dir(path)?;
    names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// An error that says of which file it is.
pub(super) fn named(name: &str, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

pub(super) struct HostFile {
    name: String,
    file: File,
    /// The durable write that was begun, which is made at once: a ring costs the core more than the
    /// overlap saves (measured, see docs/PERFORMANCE.md).
    begun: Mutex<Option<(Blocks, io::Result<()>)>>,
}

impl HostFile {
    /// `name` is for errors.
    pub(super) fn new(name: &str, file: File) -> Self {
        Self { name: name.to_owned(), file, begun: Mutex::default() }
    }

    fn failed(&self, error: impl Into<io::Error>) -> io::Error {
        named(&self.name, error)
    }

    fn write_durably(&self, offset: u64, blocks: &Blocks) -> io::Result<()> {
        let bytes = blocks.bytes();
        let slices = [IoSlice::new(bytes)];
        loop {
            match rustix::io::pwritev2(&self.file, &slices, offset, ReadWriteFlags::DSYNC) {
                Err(Errno::INTR) => {}
                Ok(written) if written == bytes.len() => return Ok(()),
                Ok(_) => return Err(self.failed(io::ErrorKind::WriteZero)),
                Err(error) => return Err(self.failed(error)),
            }
        }
    }
}

impl DurableFile for HostFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(|error| self.failed(error))?.len())
    }

    fn read_at(&self, offset: u64, count: usize, blocks: &mut Blocks) -> io::Result<()> {
        blocks.resize(count);
        let mut read = 0;
        while read < count * BLOCK {
            match self.file.read_at(&mut blocks.bytes_mut()[read..], offset + read as u64) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
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
        self.file.write_all_at(blocks.bytes(), offset).map_err(|error| self.failed(error))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all().map_err(|error| self.failed(error))
    }

    fn begin(&self, offset: u64, blocks: Blocks) {
        let result = self.write_durably(offset, &blocks);
        *self.begun.lock() = Some((blocks, result));
    }

    fn finish(&self) -> (Blocks, io::Result<()>) {
        self.begun.lock().take().unwrap_or((Blocks::default(), Ok(())))
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
    fn what_is_written_is_read() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = HostDirectory::open(&scratch.path().join("log")).unwrap();
        let file = directory.open("one", true).unwrap();
        file.write_at(0, &filled(8, 1)).unwrap();
        file.sync().unwrap();
        for at in 0..4 {
            file.begin(at * 2 * BLOCK as u64, filled(1, 2));
            let (blocks, result) = file.finish();
            assert_eq!((blocks.len(), result.ok()), (1, Some(())));
        }
        let file = directory.open("one", false).unwrap();
        let mut read = Blocks::default();
        file.read_at(0, 99, &mut read).unwrap();
        let lasts: Vec<u8> = read.iter().map(|block| block[BLOCK - 1]).collect();
        assert_eq!(lasts, [2, 1, 2, 1, 2, 1, 2, 1]);
        assert_eq!(file.len().unwrap(), 8 * BLOCK as u64);
    }

    #[test]
    fn a_write_that_fails_says_so() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("one");
        std::fs::write(&path, []).unwrap();
        let read_only = HostFile::new("one", File::open(path).unwrap());
        for _ in 0..3 {
            read_only.begin(0, filled(1, 1));
            let error = read_only.finish().1.unwrap_err().to_string();
            assert!(error.starts_with("one: "), "{error}");
        }
        let directory = HostDirectory::open(scratch.path()).unwrap();
        let error = directory.open("two", false).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("two: "), "{error}");
    }

    #[test]
    fn who_has_a_directory_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let open = || File::create(&path).unwrap();
        let own = std::process::id();
        for (how, does) in [
            (FlockOperation::LockShared, "reads it"),
            (FlockOperation::LockExclusive, "has it open"),
        ] {
            let other = open();
            fs::flock(&other, how).unwrap();
            let error = lock_within(&open(), Duration::ZERO).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            let text = error.to_string();
            assert!(text.contains(&format!("process {own} (")) && text.ends_with(does), "{text}");
        }
        lock_within(&open(), Duration::ZERO).unwrap();
        let line = "1: FLOCK  ADVISORY  WRITE 708 08:01:131 0 EOF";
        assert_eq!((holder_in(line, 131), holder_in(line, 13)), (Some(708), None));
        for bad in ["", "1: -> FLOCK", "1: POSIX  ADVISORY  WRITE 708 08:01:131 0 EOF"] {
            assert_eq!(holder_in(bad, 131), None);
        }
    }

    #[test]
    fn names_are_listed_renamed_exchanged_and_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = HostDirectory::open(&scratch.path().join("log")).unwrap();
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
        let directory = HostDirectory::open(&path).unwrap();
        let guard = directory.lock().unwrap();
        let other = HostDirectory::open(&path).unwrap();
        let refused = other.lock().err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::WouldBlock));
        drop(guard);
        assert!(other.lock().is_ok());
    }
}
