//! The rings of receive buffers that we provide and the kernel takes from: one for urgent sockets,
//! one for the others, so that these never take the last buffer.
//!
//! ```text
//!   ring    | entry | entry | ... |   address, length and number of a free buffer
//!               ^ our tail            the kernel reads at its head, we write at the tail
//!                                     (the tail lies in unused bytes of the first entry)
//!   store   | buffer 0 | buffer 1 | ... |
//!   buffer  | header 16 | name 28 | control 64 | payload ... |
//! ```
//! A buffer's number tells its ring: those of the second begin behind those of the first. The
//! kernel owns a buffer from [`Buffers::give_back`] until a completion names it; then we own it.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::memory::Mapping;
use crate::message::{NAME_LEN, RECEIVE_CONTROL_LEN};

/// The ring whose buffers a receive takes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Group {
    Bulk,
    Urgent,
}

impl Group {
    /// The number that the kernel knows it by.
    pub(super) fn id(self) -> u16 {
        self as u16
    }
}

/// What the kernel writes in front of the payload: `io_uring_recvmsg_out`, name, control messages.
const PREFIX_LEN: usize = 16 + NAME_LEN + RECEIVE_CONTROL_LEN;

#[derive(Debug)]
pub(super) struct Buffers {
    bulk: Ring,
    urgent: Option<Ring>,
    store: Mapping,
    stride: usize,
}

#[derive(Debug)]
struct Ring {
    entries: Mapping,
    count: u16,
    tail: u16,
}

impl Buffers {
    /// Gives `bulk` and `urgent` buffers (powers of two up to 32,768, the second perhaps 0) for
    /// payloads of `payload_len` bytes to the groups of `ring`.
    pub(super) fn register(
        ring: &IoUring,
        bulk: u16,
        urgent: u16,
        payload_len: usize,
    ) -> io::Result<Buffers> {
        debug_assert!(bulk.is_power_of_two() && bulk <= 1 << 15);
        debug_assert!(urgent == 0 || urgent.is_power_of_two() && urgent <= 1 << 15);
        let count = u32::from(bulk) + u32::from(urgent);
        // Whole cache lines, so that two buffers never share one.
        let stride = (PREFIX_LEN + payload_len).next_multiple_of(64);
        let store = Mapping::new(count as usize * stride)?;
        let register = |group: Group, count: u16| {
            let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
            let address = entries.as_ptr() as u64;
            let submitter = ring.submitter();
            // SAFETY: the mapping is page-aligned and has room for count entries. It lives as long
            // as the ring: their owner cancels every request before it drops either.
            unsafe { submitter.register_buf_ring_with_flags(address, count, group.id(), 0)? };
            io::Result::Ok(Ring { entries, count, tail: 0 })
        };
        let of_urgent = (urgent > 0).then(|| register(Group::Urgent, urgent)).transpose()?;
        let bulk = register(Group::Bulk, bulk)?;
        let mut buffers = Buffers { bulk, urgent: of_urgent, store, stride };
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
        let ring = match &mut self.urgent {
            Some(urgent) if number >= self.bulk.count => urgent,
            _ => &mut self.bulk,
        };
        let slot = usize::from(ring.tail & (ring.count - 1));
        ring.tail = ring.tail.wrapping_add(1);
        // SAFETY: the slot lies in the ring and the buffer in the store. There are as many slots as
        // buffers of the group, so the kernel has read what stood in this one. The tail is inside
        // of the ring's first entry, aligned, and written by us alone.
        unsafe {
            let base: *mut BufRingEntry = ring.entries.as_ptr().cast();
            let entry = base.add(slot);
            (*entry).set_addr(self.store.as_ptr().add(place * self.stride) as u64);
            (*entry).set_len(self.stride as u32);
            (*entry).set_bid(number);
            let tail = BufRingEntry::tail(base).cast_mut();
            // Release: the kernel sees the entry before the tail that covers it.
            AtomicU16::from_ptr(tail).store(ring.tail, Ordering::Release);
        }
    }

    /// Whose buffers the receives of a socket take.
    pub(super) fn group(&self, urgent: bool) -> Group {
        if urgent && self.urgent.is_some() { Group::Urgent } else { Group::Bulk }
    }

    /// A buffer's place in the store. A number of the kernel's is one of ours; what is not stays
    /// inside of the store all the same.
    fn place(&self, number: u16) -> usize {
        let urgent = self.urgent.as_ref().map_or(0, |ring| usize::from(ring.count));
        usize::from(number) % (usize::from(self.bulk.count) + urgent)
    }
}
