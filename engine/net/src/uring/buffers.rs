//! The ring of receive buffers that we provide and the kernel takes from.
//!
//! ```text
//!   ring    | entry | entry | ... |   address, length and number of a free buffer; the kernel reads from its head,
//!               ^ our tail            we write at the tail (which lies in unused bytes of the first entry)
//!   store   | buffer 0 | buffer 1 | ... |
//!   buffer  | header 16 | name 28 | control 64 | payload ... |
//! ```
//! A buffer is the kernel's from [`Buffers::give_back`] until a completion names it; then it is ours.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::memory::Mapping;
use crate::message::{NAME_LEN, RECEIVE_CONTROL_LEN};

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;
/// What the kernel writes in front of the payload: `io_uring_recvmsg_out`, name, control messages.
const PREFIX_LEN: usize = 16 + NAME_LEN + RECEIVE_CONTROL_LEN;

#[derive(Debug)]
pub(super) struct Buffers {
    ring: Mapping,
    store: Mapping,
    stride: usize,
    count: u16,
    tail: u16,
}

impl Buffers {
    /// Gives `count` buffers (a power of two up to 32,768) for payloads of `payload_len` bytes to `ring`.
    pub(super) fn register(ring: &IoUring, count: u16, payload_len: usize) -> io::Result<Buffers> {
        debug_assert!(count.is_power_of_two() && count <= 1 << 15);
        // Whole cache lines, so that two buffers never share one.
        let stride = (PREFIX_LEN + payload_len).next_multiple_of(64);
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let store = Mapping::new(usize::from(count) * stride)?;
        let address = entries.as_ptr() as u64;
        // SAFETY: the mapping is page-aligned and has room for count entries. It lives as long as the ring: their owner
        // cancels every request before it drops either.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0)? };
        let mut buffers = Buffers { ring: entries, store, stride, count, tail: 0 };
        for id in 0..count {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// The first `len` bytes of a buffer that a completion has named and that has not been given back.
    ///
    /// # Safety
    /// The kernel does not own buffer `id`, and it is not given back while the result is in use.
    pub(super) unsafe fn get<'a>(&self, id: u16, len: usize) -> &'a [u8] {
        let at = usize::from(id % self.count) * self.stride;
        // SAFETY: within the mapping, initialized by it; the caller promises that nobody writes to it.
        unsafe { std::slice::from_raw_parts(self.store.as_ptr().add(at), len.min(self.stride)) }
    }

    /// Makes a buffer the kernel's again.
    pub(super) fn give_back(&mut self, id: u16) {
        let id = id % self.count;
        let slot = usize::from(self.tail & (self.count - 1));
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the slot lies in the ring and the buffer in the store. There are as many slots as buffers, so the kernel has
        // read what stood in this one. The tail is inside of the ring's first entry, aligned, and written by us alone.
        unsafe {
            let base: *mut BufRingEntry = self.ring.as_ptr().cast();
            let entry = base.add(slot);
            (*entry).set_addr(self.store.as_ptr().add(usize::from(id) * self.stride) as u64);
            (*entry).set_len(self.stride as u32);
            (*entry).set_bid(id);
            let tail = BufRingEntry::tail(base).cast_mut();
            // Release: the kernel sees the entry before the tail that covers it.
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}
