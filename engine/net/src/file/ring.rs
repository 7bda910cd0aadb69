//! An io_uring for one durable write at a time.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};
use parking_lot::Mutex;

use super::Blocks;

/// A ring, and what it writes.
pub(super) struct Ring(Mutex<State>);

struct State {
    ring: IoUring,
    /// The blocks that the kernel reads from until the write is complete.
    under_way: Option<Blocks>,
    /// The kernel did not take an entry, which may be in the queue still: no other is put there.
    broken: bool,
}

impl Ring {
    pub(super) fn open() -> io::Result<Self> {
        let ring = IoUring::builder().dontfork().build(2)?;
        Ok(Self(Mutex::new(State { ring, under_way: None, broken: false })))
    }

    /// Begins to write whole blocks. The file stays open until [`Ring::finish`]. Gives the blocks
    /// back when the ring cannot be used: another write is under way, or the kernel refused one.
    pub(super) fn begin(&self, file: &File, offset: u64, blocks: Blocks) -> Result<(), Blocks> {
        let state = &mut *self.0.lock();
        let Ok(length) = u32::try_from(blocks.bytes().len()) else { return Err(blocks) };
        if state.under_way.is_some() || state.broken {
            return Err(blocks);
        }
        let entry =
            opcode::Write::new(types::Fd(file.as_raw_fd()), blocks.bytes().as_ptr(), length)
                .offset(offset)
                .rw_flags(libc::RWF_DSYNC)
                .build();
        // SAFETY: the bytes are those of `blocks`, which `under_way` keeps where they are until
        // their completion was seen, or for ever when the entry may be in the queue without having
        // been submitted. The caller keeps the file open.
        if unsafe { state.ring.submission().push(&entry) }.is_err() {
            return Err(blocks);
        }
        loop {
            match state.ring.submit() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(1) => {
                    state.under_way = Some(blocks);
                    return Ok(());
                }
                Ok(_) | Err(_) => break,
            }
        }
        state.broken = true;
        let copy = blocks.clone();
        std::mem::forget(blocks);
        Err(copy)
    }

    /// Waits for the write that was begun, and gives its blocks back.
    pub(super) fn finish(&self) -> (Blocks, io::Result<()>) {
        let state = &mut *self.0.lock();
        let Some(blocks) = &state.under_way else {
            return (Blocks::default(), Err(io::ErrorKind::NotFound.into()));
        };
        let length = blocks.bytes().len();
        let result = state.wait();
        let result = match result {
            Ok(written) if usize::try_from(written) == Ok(length) => Ok(()),
            Ok(written) if written >= 0 => Err(io::ErrorKind::WriteZero.into()),
            Ok(code) => Err(io::Error::from_raw_os_error(-code)),
            Err(error) => {
                // The kernel may still read from them.
                state.broken = true;
                std::mem::forget(state.under_way.take());
                return (Blocks::default(), Err(error));
            }
        };
        (state.under_way.take().unwrap_or_default(), result)
    }
}

impl State {
    /// The result of the write under way.
    fn wait(&mut self) -> io::Result<i32> {
        loop {
            if let Some(entry) = self.ring.completion().next() {
                return Ok(entry.result());
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => _ = result?,
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // The kernel reads from the blocks until then.
        if self.under_way.is_some() && self.wait().is_err() {
            std::mem::forget(self.under_way.take());
        }
    }
}
