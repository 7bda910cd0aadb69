//! Files that hold what must survive a power cut, behind an interface that a simulation can fill
//! with a disk that fails.
//!
//! What a caller may rely on:
//! - [`DurableFile::write_at`] may stay in a cache until [`DurableFile::sync`]. Until then a power
//!   cut may lose it, in part or whole and in any order, block by block.
//! - A write that [`DurableFile::finish`] reported as done survives a power cut. Until then, and
//!   after an error, any of its blocks may have the old or the new bytes, or something torn.
//! - A name that was made, renamed, exchanged or removed survives after [`Directory::sync`]. A
//!   power cut before it leaves the old names or the new ones; an exchange is never half done.

mod blocks;
mod host;
mod read_only;
mod storage;

use std::io;

pub use blocks::{BLOCK, Blocks};
pub use host::HostDirectory;
pub use read_only::ReadOnlyDirectory;
pub use storage::Storage;

/// One directory, flat.
pub trait Directory: Send + Sync {
    /// Where it is, for messages.
    fn place(&self) -> String;

    /// The names in it, in any order.
    ///
    /// # Errors
    /// What the system says, as with all others here.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing. `create` makes a new one, empty.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or with `create` [`io::ErrorKind::AlreadyExists`].
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DurableFile>>;

    /// Removes a name.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of what had that name.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives two files each other's name, both at once.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]; [`io::ErrorKind::Unsupported`] where the file system cannot.
    fn exchange(&self, one: &str, other: &str) -> io::Result<()>;

    /// Makes the names durable.
    ///
    /// # Errors
    /// The names may be durable or not.
    fn sync(&self) -> io::Result<()>;

    /// Locks the directory against every other process until the guard is dropped. Waits for a
    /// while for those that only read.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another one holds it; the text says who, where that is
    /// known.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;
}

/// One file. Offsets and lengths of writes are multiples of [`BLOCK`].
pub trait DurableFile: Send + Sync {
    /// Length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether it holds nothing.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads up to `count` blocks from `offset` on into `blocks`, in place of what it holds; fewer
    /// at the end of the file. A last block that the file has only in part is left out.
    ///
    /// # Errors
    /// What the disk says; nothing is known of the range then.
    fn read_at(&self, offset: u64, count: usize, blocks: &mut Blocks) -> io::Result<()>;

    /// Writes without waiting until it is durable. It may lengthen the file.
    ///
    /// # Errors
    /// Any part may be written.
    fn write_at(&self, offset: u64, blocks: &Blocks) -> io::Result<()>;

    /// Makes everything durable that was written, and the length.
    ///
    /// # Errors
    /// Nothing that was written since the last sync can be relied on any more, whatever later calls
    /// report.
    fn sync(&self) -> io::Result<()>;

    /// Begins a write that is durable when it is finished, in a range of the file that was written
    /// before. One at a time: [`DurableFile::finish`] comes before the next.
    fn begin(&self, offset: u64, blocks: Blocks);

    /// Waits for the write that was begun, and hands its blocks back for the next; empty ones when
    /// none was begun.
    fn finish(&self) -> (Blocks, io::Result<()>);
}
