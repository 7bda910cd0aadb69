//! The rings of receive buffers that we provide and the kernel takes from: one for the sockets of
//! each priority, so that none of these takes the last buffer of another.
//!
//! ```text
//!   ring    | entry | entry | ... |   address, length and number of a free buffer
//!               ^ our tail            the kernel reads at its head, we write at the tail
//!                                     (the tail lies in unused bytes of the first entry)
//!   store   | buffer 0 | buffer 1 | ... |
//!   buffer  | header 16 | name 28 | control 64 | payload ... |
//! ```
//! A buffer's number tells its ring: those of a ring begin behind those of the ring before. The
//! kernel owns a buffer from [`Buffers::give_back`] until a completion names it; then we own it.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::memory::Mapping;
use crate::Priority;
use crate::message::{NAME_LEN, RECEIVE_CONTROL_LEN};

/// What the kernel writes in front of the payload: `io_uring_recvmsg_out`, name, control messages.
const PREFIX_LEN: usize = 16 + NAME_LEN + RECEIVE_CONTROL_LEN;

#[derive(Debug)]
pub(super) struct Buffers {
    /// By priority. That of [`Priority::Bulk`] has entries always, the others perhaps none.
    rings: [Ring; Priority::COUNT],
    store: Mapping,
    stride: usize,
}

#[derive(Debug)]
struct Ring {
    /// None for a ring without buffers.
    entries: Option<Mapping>,
    /// Number of its first buffer.
    first: u16,
    count: u16,
    tail: u16,
}

impl Buffers {
    /// Gives so many buffers by priority (powers of two, or 0 for all but the last; together less
    /// than 65,536) for payloads of `payload_len` bytes to the groups of `ring`.
    pub(super) fn register(
        ring: &IoUring,
        counts: [u16; Priority::COUNT],
        payload_len: usize,
    ) -> io::Result<Buffers> {
        debug_assert!(counts.iter().all(|&count| count == 0 || count.is_power_of_two()));
        debug_assert!(counts[Priority::Bulk.index()] > 0);
        let count: u32 = counts.iter().map(|&count| u32::from(count)).sum();
        // Whole cache lines, so that two buffers never share one.
        let stride = (PREFIX_LEN + payload_len).next_multiple_of(64);
        let store = Mapping::new(count as usize * stride)?;
        let mut first = 0;
        let mut rings = [const { Ring { entries: None, first: 0, count: 0, tail: 0 } }; _];
        for (group, (ring_of_group, count)) in rings.iter_mut().zip(counts).enumerate() {
            if count > 0 {
                let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
                let address = entries.as_ptr() as u64;
                let submitter = ring.submitter();
                // SAFETY: the mapping is page-aligned and has room for count entries. It lives as
                // long as the ring: their owner cancels every request before it drops either.
                unsafe {
                    submitter.register_buf_ring_with_flags(address, count, group as u16, 0)?;
                }
                *ring_of_group = Ring { entries: Some(entries), first, count, tail: 0 };
            }
            first += count;
        }
        let mut buffers = Buffers { rings, store, stride };
        for number in 0..count {
            // At most 65,535.
            buffers.give_back(number as u16);
        }
        Ok(buffers)
    }

    /// The first `len` bytes of a buffer that a completion has named and that has not been given
    /// back.
    ///
    /// # Safety
    /// The kernel does not own buffer `number`, and it is not given back while the result is in
    /// use.
    pub(super) unsafe fn get<'a>(&self, number: u16, len: usize) -> &'a [u8] {
        let at = self.place(number) * self.stride;
        // SAFETY: within the mapping, initialized by it; the caller promises that nobody writes to
        // it.
        unsafe { std::slice::from_raw_parts(self.store.as_ptr().add(at), len.min(self.stride)) }
    }

    /// Where the buffers are.
    #[cfg(test)]
    pub(super) fn address(&self) -> usize {
        self.store.as_ptr() as usize
    }

    /// Makes a buffer the kernel's again.
    pub(super) fn give_back(&mut self, number: u16) {
        let place = self.place(number);
        // Only a number that the kernel made up has none.
        let of_number = self.rings.iter_mut().find(|ring| ring.contains(number));
        let Some((ring, entries)) = of_number.and_then(Ring::with_entries) else { return };
        let slot = usize::from(ring.tail & (ring.count - 1));
        ring.tail = ring.tail.wrapping_add(1);
        // SAFETY: the slot lies in the ring and the buffer in the store. There are as many slots as
        // buffers of the group, so the kernel has read what stood in this one. The tail is inside
        // of the ring's first entry, aligned, and written by us alone.
        unsafe {
            let base: *mut BufRingEntry = entries.cast();
            let entry = base.add(slot);
            (*entry).set_addr(self.store.as_ptr().add(place * self.stride) as u64);
            (*entry).set_len(self.stride as u32);
            (*entry).set_bid(number);
            let tail = BufRingEntry::tail(base).cast_mut();
            // Release: the kernel sees the entry before the tail that covers it.
            AtomicU16::from_ptr(tail).store(ring.tail, Ordering::Release);
        }
    }

    /// The group whose buffers the receives of a socket take, by the number that the kernel knows.
    pub(super) fn group(&self, priority: Priority) -> u16 {
        let own = priority.index();
        let group = if self.rings[own].count > 0 { own } else { Priority::Bulk.index() };
        group as u16
    }

    /// A buffer's place in the store. A number of the kernel's is one of ours; what is not stays
    /// inside of the store all the same.
    fn place(&self, number: u16) -> usize {
        let count: usize = self.rings.iter().map(|ring| usize::from(ring.count)).sum();
        usize::from(number) % count
    }
}

impl Ring {
    fn contains(&self, number: u16) -> bool {
        number.checked_sub(self.first).is_some_and(|place| place < self.count)
    }

    fn with_entries(&mut self) -> Option<(&mut Self, *mut u8)> {
        let entries = self.entries.as_ref()?.as_ptr();
        Some((self, entries))
    }
}
