//! What a directory lies on: the file system, and what it can do.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, IFlags, StatxFlags};

use super::BLOCK;

const EXT4: u32 = 0xEF53;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683E;
const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58F6;
const OVERLAY: u32 = 0x794C_7630;

/// What a directory lies on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Storage {
    magic: u32,
    direct: bool,
    upper: Option<u32>,
}

impl Storage {
    pub(super) fn of(directory: &File, path: &Path) -> io::Result<Self> {
        let magic = magic(directory)?;
        let upper = if magic == OVERLAY { upper_directory(path) } else { None };
        let upper = upper.and_then(|upper| magic_at(Path::new(&upper)));
        Ok(Self { magic, direct: takes_direct_writes(directory)?, upper })
    }

    /// The name of the file system; `None` for one that durable writes were not tried on.
    #[must_use]
    pub fn file_system(&self) -> Option<&'static str> {
        Some(match self.magic {
            EXT4 => "ext4",
            XFS => "xfs",
            BTRFS => "btrfs",
            TMPFS => "tmpfs",
            RAMFS => "ramfs",
            OVERLAY => "overlay",
            _ => return None,
        })
    }

    /// Whether writes go past the page cache.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// Whether what is written is gone with the next start of the host, or, on an overlay whose
    /// upper directory cannot be seen from here, may be gone with the container.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        match self.magic {
            TMPFS | RAMFS => true,
            OVERLAY => self.upper.is_none_or(|upper| matches!(upper, TMPFS | RAMFS)),
            _ => false,
        }
    }

    pub(super) fn copies_on_write(&self) -> bool {
        self.magic == BTRFS
    }
}

/// Has btrfs overwrite the files that will be made in the directory, as other file systems do.
pub(super) fn overwrite_in_place(directory: &File) -> io::Result<()> {
    let flags = rustix::fs::ioctl_getflags(directory)?;
    if !flags.contains(IFlags::NOCOW) {
        rustix::fs::ioctl_setflags(directory, flags | IFlags::NOCOW)?;
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "the numbers have 32 bits")]
fn magic(directory: &File) -> io::Result<u32> {
    Ok(rustix::fs::fstatfs(directory)?.f_type as u32)
}

fn magic_at(path: &Path) -> Option<u32> {
    magic(&File::open(path).ok()?).ok()
}

/// Whether files in the directory take direct writes of whole blocks: tried with a file without a
/// name. Linux 6.1 says so by statx; before, only opening it tells.
fn takes_direct_writes(directory: &File) -> io::Result<bool> {
    use rustix::fs::{Mode, OFlags, openat, statx};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let Ok(file) = openat(directory, ".", flags | OFlags::DIRECT, mode) else {
        return Ok(false);
    };
    let Ok(status) = statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) else {
        return Ok(true);
    };
    if status.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return Ok(true);
    }
    let fits = |align: u32| align > 0 && (BLOCK as u32).is_multiple_of(align);
    Ok(fits(status.stx_dio_mem_align) && fits(status.stx_dio_offset_align))
}

/// The upper directory of the overlay that a path lies on, from the mount table.
fn upper_directory(path: &Path) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    upper_of(&table, &path.canonicalize().ok()?)
}

/// The same from the text of the table: the longest mount point that the path begins with.
fn upper_of(table: &str, path: &Path) -> Option<String> {
    let mounts = table.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        path.starts_with(point).then_some((point.len(), file_system))
    });
    let (_, file_system) = mounts.max_by_key(|(length, _)| *length)?;
    let mut fields = file_system.split(' ');
    let options = fields.nth(2).filter(|_| file_system.starts_with("overlay "))?;
    options.split(',').find_map(|option| option.strip_prefix("upperdir=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_directory_of_the_right_mount() {
        let table = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            30 22 0:40 / /var/lib rw,relatime shared:1 - overlay overlay rw,lowerdir=/l,upperdir=/run/up,workdir=/w\n\
            31 30 0:41 / /var/lib/other rw - tmpfs none rw\n";
        let upper = |path| upper_of(table, Path::new(path));
        assert_eq!(upper("/var/lib/bootstorm"), Some("/run/up".to_owned()));
        assert_eq!(upper("/var/lib/other/x"), None);
        assert_eq!(upper("/etc"), None);
    }

    #[test]
    fn what_is_gone_with_the_host_is_volatile() {
        let on = |magic, upper| Storage { magic, direct: false, upper }.is_volatile();
        assert!(on(TMPFS, None) && on(RAMFS, None) && on(OVERLAY, None));
        assert!(on(OVERLAY, Some(TMPFS)) && !on(OVERLAY, Some(EXT4)));
        assert!(!on(EXT4, None) && !on(XFS, None) && !on(BTRFS, None));
    }
}
