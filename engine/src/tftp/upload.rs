//! Uploaded files: written under a temporary name, and renamed when they are complete.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use super::paths::{PathError, Root};

/// Makes the temporary names of one process unique.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// An upload that is being received. If it is dropped before [`Incoming::store`], its file is
/// removed.
#[derive(Debug)]
pub(super) struct Incoming {
    directory: OwnedFd,
    temporary: Vec<u8>,
    name: Vec<u8>,
    file: File,
    stored: AtomicBool,
}

impl Incoming {
    /// Begins a file in its final directory, which must exist; the name must be free.
    pub(super) fn create(root: &Root, name: &[u8]) -> Result<Self, PathError> {
        let (directory, name) = root.parent(name)?;
        match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(PathError::Exists),
            Err(errno) => return Err(errno.into()),
        }
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".bootstorm-upload-{}-{serial}", std::process::id()).into_bytes();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&directory, temporary.as_slice(), flags, Mode::from_raw_mode(0o644))?;
        let (name, stored) = (name.to_vec(), AtomicBool::new(false));
        Ok(Self { directory, temporary, name, file: file.into(), stored })
    }

    /// Writes a piece.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// The file is complete: flushes it to the disk and gives it its name, unless the name has been
    /// taken meanwhile.
    pub(super) fn store(&self) -> Result<(), PathError> {
        self.file.sync_all().map_err(|_| PathError::Failed)?;
        let (here, temporary) = (&self.directory, self.temporary.as_slice());
        renameat_with(here, temporary, here, self.name.as_slice(), RenameFlags::NOREPLACE)?;
        self.stored.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.stored.load(Ordering::Relaxed) {
            // A file that cannot be removed keeps its temporary name, and is never served as the
            // upload.
            let _ = unlinkat(&self.directory, self.temporary.as_slice(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_complete_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), false).unwrap();
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        let lost = Incoming::create(&root, b"crash").unwrap();
        lost.write(0, b"half").unwrap();
        assert!(!dir.path().join("crash").exists());
        drop(lost);
        assert_eq!(names(), 0);

        let kept = Incoming::create(&root, b"log").unwrap();
        kept.write(4, b"5678").unwrap();
        kept.write(0, b"1234").unwrap();
        kept.store().unwrap();
        drop(kept);
        assert_eq!(std::fs::read(dir.path().join("log")).unwrap(), b"12345678");
        assert_eq!(names(), 1);
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_leaves_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        std::fs::create_dir(&path).unwrap();
        let root = Root::open(&path, false).unwrap();
        let late = Incoming::create(&root, b"name").unwrap();
        std::fs::write(path.join("name"), "first").unwrap();
        assert_eq!(Incoming::create(&root, b"name").err(), Some(PathError::Exists));
        assert_eq!(late.store(), Err(PathError::Exists));
        assert_eq!(std::fs::read(path.join("name")).unwrap(), b"first");

        std::os::unix::fs::symlink("..", path.join("up")).unwrap();
        assert_eq!(Incoming::create(&root, b"up/x").err(), Some(PathError::Outside));
        assert_eq!(Incoming::create(&root, b"none/x").err(), Some(PathError::NotFound));
        // Even to where a dangling link points.
        std::os::unix::fs::symlink("../outside", path.join("link")).unwrap();
        assert_eq!(Incoming::create(&root, b"link").err(), Some(PathError::Exists));
    }
}
