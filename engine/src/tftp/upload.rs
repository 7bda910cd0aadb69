//! Uploaded files: written under a temporary name, and renamed when they are complete.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, RenameFlags, accessat, fchmod, fsync, openat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::paths::{PathError, Root};

/// Makes the temporary names of one process unique.
static SERIAL: AtomicU64 = AtomicU64::new(0);
/// How many temporary names an upload tries, in case they are taken.
const TEMPORARY_NAMES: u32 = 1000;

/// An upload that is being received. If it is dropped before [`Incoming::store`], its file is
/// removed.
#[derive(Debug)]
pub(super) struct Incoming {
    directory: OwnedFd,
    temporary: Vec<u8>,
    name: Vec<u8>,
    file: File,
    /// Whether the file replaces one of its name.
    overwrite: bool,
    stored: AtomicBool,
}

impl Incoming {
    /// Begins a file in its final directory, which must exist. The name must be free; with
    /// `overwrite` it may be that of a file which this process may write to.
    pub(super) fn create(root: &Root, name: &[u8], overwrite: bool) -> Result<Self, PathError> {
        let (directory, name) = root.parent(name)?;
        let mode = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => None,
            Ok(old) if overwrite && FileType::from_raw_mode(old.st_mode).is_file() => {
                accessat(&directory, name, Access::WRITE_OK, AtFlags::EACCESS)?;
                Some(Mode::from_raw_mode(old.st_mode & 0o777))
            }
            Ok(_) => return Err(PathError::Exists),
            Err(errno) => return Err(errno.into()),
        };
        let (temporary, file) = create_temporary(&directory)?;
        let (name, stored) = (name.to_vec(), AtomicBool::new(false));
        let incoming = Self { directory, temporary, name, file, overwrite, stored };
        if let Some(mode) = mode {
            fchmod(&incoming.file, mode)?;
        }
        Ok(incoming)
    }

    /// Writes a piece.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// The file is complete: flushes it to the disk, gives it its name in one step, and flushes the
    /// name. Without `overwrite` the name must still be free. Until then a file that it replaces
    /// stays as it is.
    pub(super) fn store(&self) -> Result<(), PathError> {
        self.file.sync_all().map_err(|_| PathError::Failed)?;
        let (here, temporary) = (&self.directory, self.temporary.as_slice());
        let flags = if self.overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        renameat_with(here, temporary, here, self.name.as_slice(), flags)?;
        self.stored.store(true, Ordering::Relaxed);
        self.sync_name().map_err(|_| PathError::Failed)
    }

    fn sync_name(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(&self.directory, ".", flags, Mode::empty()) {
            Ok(directory) => Ok(fsync(directory)?),
            // Without permission to read the directory: a journal writes the name with the file.
            Err(_) => self.file.sync_all(),
        }
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

/// Creates a file under a temporary name. Another process of the same id may have left names
/// behind: in a container every process has the id 1.
fn create_temporary(directory: &OwnedFd) -> Result<(Vec<u8>, File), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut tries = TEMPORARY_NAMES;
    loop {
        tries -= 1;
        let name = temporary_name(SERIAL.fetch_add(1, Ordering::Relaxed));
        match openat(directory, name.as_str(), flags, Mode::from_raw_mode(0o644)) {
            Err(Errno::EXIST) if tries > 0 => {}
            created => return created.map(|file| (name.into_bytes(), file.into())),
        }
    }
}

/// The name of a file that is being received.
fn temporary_name(serial: u64) -> String {
    format!(".bootstorm-upload-{}-{serial}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_appears_complete_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), false).unwrap();
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        let lost = Incoming::create(&root, b"crash", false).unwrap();
        lost.write(0, b"half").unwrap();
        assert!(!dir.path().join("crash").exists());
        drop(lost);
        assert_eq!(names(), 0);

        let kept = Incoming::create(&root, b"log", false).unwrap();
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
        let late = Incoming::create(&root, b"name", false).unwrap();
        std::fs::write(path.join("name"), "first").unwrap();
        assert_eq!(Incoming::create(&root, b"name", false).err(), Some(PathError::Exists));
        assert_eq!(late.store(), Err(PathError::Exists));
        assert_eq!(std::fs::read(path.join("name")).unwrap(), b"first");

        std::os::unix::fs::symlink("..", path.join("up")).unwrap();
        assert_eq!(Incoming::create(&root, b"up/x", false).err(), Some(PathError::Outside));
        assert_eq!(Incoming::create(&root, b"none/x", false).err(), Some(PathError::NotFound));
        // Even to where a dangling link points.
        std::os::unix::fs::symlink("../outside", path.join("link")).unwrap();
        assert_eq!(Incoming::create(&root, b"link", false).err(), Some(PathError::Exists));
    }

    #[test]
    fn what_an_earlier_process_left_behind_takes_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), false).unwrap();
        let next = SERIAL.load(Ordering::Relaxed);
        // Of the same process id: in a container it is always 1.
        for serial in next..next + 50 {
            std::fs::write(dir.path().join(temporary_name(serial)), "left").unwrap();
        }
        Incoming::create(&root, b"log", false).unwrap().store().unwrap();
        assert!(dir.path().join("log").exists());
    }

    #[test]
    fn a_file_is_replaced_at_once_or_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), false).unwrap();
        let path = dir.path().join("log");
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let lost = Incoming::create(&root, b"log", true).unwrap();
        lost.write(0, b"half").unwrap();
        drop(lost);
        assert_eq!((std::fs::read(&path).unwrap(), names()), (b"old".to_vec(), 1));

        let new = Incoming::create(&root, b"log", true).unwrap();
        let mut reader = File::open(&path).unwrap();
        new.write(0, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        new.store().unwrap();
        drop(new);
        assert_eq!((std::fs::read(&path).unwrap(), names()), (b"new".to_vec(), 1));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        // Who is reading the old file goes on reading it.
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "old");

        // A name that is free, that becomes a directory, or is no file.
        Incoming::create(&root, b"free", true).unwrap().store().unwrap();
        let blocked = Incoming::create(&root, b"blocked", true).unwrap();
        std::fs::create_dir(dir.path().join("blocked")).unwrap();
        assert!(blocked.store().is_err());
        drop(blocked);
        assert_eq!(Incoming::create(&root, b"blocked", true).err(), Some(PathError::Exists));
        std::os::unix::fs::symlink("log", dir.path().join("link")).unwrap();
        assert_eq!(Incoming::create(&root, b"link", true).err(), Some(PathError::Exists));
        assert_eq!(names(), 4);
    }
}
