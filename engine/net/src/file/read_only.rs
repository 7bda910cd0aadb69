//! A directory that is only read.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::host::{HostFile, LOCK, in_use, named};
use super::{Directory, DurableFile};

/// A directory of this host in which nothing is changed: writes and changes of names fail. Its lock
/// keeps out who writes, not who reads.
pub struct ReadOnlyDirectory {
    path: PathBuf,
    directory: File,
}

impl ReadOnlyDirectory {
    /// Opens a directory that exists.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), directory: File::open(path)? })
    }

    fn open_file(&self, name: &str) -> rustix::io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        fs::openat(&self.directory, name, flags, Mode::empty()).map(File::from)
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Directory for ReadOnlyDirectory {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        super::host::list(&self.path)
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DurableFile>> {
        if create {
            return refused();
        }
        let file = self.open_file(name).map_err(|error| named(name, error))?;
        Ok(Box::new(HostFile::new(name, file)))
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        refused()
    }

    fn exchange(&self, _one: &str, _other: &str) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        match self.open_file(LOCK) {
            Ok(file) => match fs::flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => Ok(Box::new(file)),
                Err(Errno::WOULDBLOCK) => Err(in_use(&file, "has it open")),
                Err(error) => Err(error.into()),
            },
            // Nobody has ever locked it.
            Err(Errno::NOENT) => Ok(Box::new(())),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Blocks, HostDirectory};
    use super::*;

    #[test]
    fn it_is_read_by_many_and_changed_by_none() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let kind = |error: io::Error| error.kind();
        assert_eq!(ReadOnlyDirectory::open(&path).err().map(kind), Some(io::ErrorKind::NotFound));
        let owner = HostDirectory::open(&path).unwrap();
        let mut blocks = Blocks::default();
        blocks.push().fill(7);
        owner.open("one", true).unwrap().write_at(0, &blocks).unwrap();

        let reader = ReadOnlyDirectory::open(&path).unwrap();
        // Without a lock file nobody has it locked, and none is made.
        drop(reader.lock().unwrap());
        assert_eq!(reader.list().unwrap(), ["one"]);
        let file = reader.open("one", false).unwrap();
        let mut read = Blocks::default();
        file.read_at(0, 1, &mut read).unwrap();
        assert_eq!(read.bytes()[0], 7);
        assert!(file.write_at(0, &blocks).is_err());
        file.begin(0, blocks);
        assert!(file.finish().1.is_err());
        assert!(reader.open("two", true).is_err() && reader.remove("one").is_err());
        assert!(reader.rename("one", "two").is_err() && reader.exchange("one", "one").is_err());

        let guard = owner.lock().unwrap();
        assert_eq!(reader.lock().err().map(kind), Some(io::ErrorKind::WouldBlock));
        drop(guard);
        let guards = [reader.lock().unwrap(), reader.lock().unwrap()];
        // Who writes waits until they have read.
        let owner = std::thread::spawn(move || drop(owner.lock().unwrap()));
        std::thread::sleep(Duration::from_millis(30));
        drop(guards);
        owner.join().unwrap();
    }
}
