//! What waits to be sent: slots, their queue and their bookkeeping, the same for every backend.
//!
//! ```text
//!   free --send--> queued --flush--> (kernel) --> free
//!    \---hold--> held --submit--/
//!                   \--discard--> free
//! ```
//! A slot is free only after the kernel has taken or refused its datagram, so the kernel has no
//! pointer into a free slot.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bootstorm_protocols::time::Moment;

use crate::backend::{Handler, Held, Limits, Refused, SLOT_LEN, SocketId, Target, Transmit};
use crate::table::SocketTable;
use crate::{Drops, SharedBytes, Socket};

/// What a slot is doing.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Free,
    Held,
    Queued,
}

/// One datagram to be. Entries `0..slots` own `SLOT_LEN` bytes of `data`; the ones after them
/// borrow shared bytes.
#[derive(Debug)]
struct Entry {
    generation: u32,
    state: State,
    socket: SocketId,
    target: Target,
    len: usize,
    segment: u16,
    /// What the handler is told when the send is over; `None`: nothing.
    token: Option<u64>,
    bytes: Option<SharedBytes>,
}

/// One queued datagram, as a backend sends it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) socket: SocketId,
    pub(crate) target: &'a Target,
    pub(crate) bytes: &'a [u8],
    /// 0: no segmentation.
    pub(crate) segment: u16,
}

/// The [`Transmit`] of every backend, and its sockets; `S` is what the backend keeps of one.
#[derive(Debug)]
pub struct Outbox<S = Socket> {
    pub(crate) now: Moment,
    pub(crate) drops: Drops,
    pub(crate) sockets: SocketTable<S>,
    data: Box<[u8]>,
    entries: Box<[Entry]>,
    slots: u32,
    /// Entries that are held, and how many may be.
    held: u32,
    most_held: u32,
    free_slots: Vec<u32>,
    free_shared: Vec<u32>,
    queue: VecDeque<u32>,
    /// Entries of blocked sockets, in the order in which they were queued.
    stalled: VecDeque<u32>,
    finished: VecDeque<(u64, Option<i32>)>,
}

impl<S> Outbox<S> {
    pub(crate) fn new(limits: &Limits, now: Moment) -> Outbox<S> {
        let total = limits.slots + limits.shared;
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let entry = || Entry {
            generation: 0,
            state: State::Free,
            socket: SocketId { index: 0, generation: 0 },
            target: Target::Udp { to: nowhere, from: None, ifindex: 0 },
            len: 0,
            segment: 0,
            token: None,
            bytes: None,
        };
        Outbox {
            now,
            drops: Drops::default(),
            sockets: SocketTable::new(),
            data: vec![0; limits.slots as usize * SLOT_LEN].into_boxed_slice(),
            entries: (0..total).map(|_| entry()).collect(),
            slots: limits.slots,
            held: 0,
            most_held: limits.held,
            free_slots: (0..limits.slots).rev().collect(),
            free_shared: (limits.slots..total).rev().collect(),
            queue: VecDeque::with_capacity(total as usize),
            stalled: VecDeque::with_capacity(total as usize),
            finished: VecDeque::with_capacity(total as usize),
        }
    }

    /// Whether sends are over that the handler wants to hear of and has not been told of.
    pub(crate) fn has_news(&self) -> bool {
        !self.finished.is_empty()
    }

    /// Takes a socket out; what is queued on it is dropped when its turn comes.
    pub(crate) fn remove_socket(&mut self, id: SocketId) -> Option<S> {
        let socket = self.sockets.remove(id)?;
        self.requeue_stalled();
        Some(socket)
    }

    /// The socket can take datagrams again.
    pub(crate) fn unblock(&mut self, id: SocketId) {
        if let Some(entry) = self.sockets.get_mut(id) {
            entry.blocked = false;
            self.requeue_stalled();
        }
    }

    /// Puts what waited for a socket back in front of what was queued since.
    fn requeue_stalled(&mut self) {
        while let Some(index) = self.stalled.pop_back() {
            self.queue.push_front(index);
        }
    }

    /// Takes the next datagram that may be tried. The caller ends with it by [`Outbox::sent`] or
    /// [`Outbox::failed`].
    pub(crate) fn next(&mut self) -> Option<u32> {
        while let Some(index) = self.queue.pop_front() {
            let entry = &self.entries[index as usize];
            match self.sockets.get(entry.socket) {
                Some(socket) if socket.blocked => self.stalled.push_back(index),
                Some(_) => return Some(index),
                None => self.finish(index, Some(libc::EBADF)),
            }
        }
        None
    }

    /// Gives back what [`Outbox::next`] took, untried, in front of the queue.
    pub(crate) fn put_back(&mut self, index: u32) {
        self.queue.push_front(index);
    }

    /// A datagram that [`Outbox::next`] took.
    pub(crate) fn outgoing(&self, index: u32) -> Outgoing<'_> {
        let entry = &self.entries[index as usize];
        let bytes = match &entry.bytes {
            Some(bytes) => bytes,
            None => &self.data[index as usize * SLOT_LEN..][..entry.len],
        };
        // A single segment is an ordinary datagram: the kernel need not be asked to cut it.
        let segment = if usize::from(entry.segment) < bytes.len() { entry.segment } else { 0 };
        Outgoing { socket: entry.socket, target: &entry.target, bytes, segment }
    }

    /// The kernel took it.
    pub(crate) fn sent(&mut self, index: u32) {
        self.finish(index, None);
    }

    /// The kernel refused it with `errno`. A full buffer blocks the socket and keeps the datagram;
    /// then this returns true and the backend waits until the socket is writable.
    pub(crate) fn failed(&mut self, index: u32, errno: i32) -> bool {
        let entry = &self.entries[index as usize];
        let mut socket = self.sockets.get_mut(entry.socket);
        // One that was removed meanwhile never becomes writable.
        if errno == libc::EAGAIN
            && let Some(socket) = &mut socket
        {
            self.stalled.push_back(index);
            self.drops.delayed += 1;
            return !std::mem::replace(&mut socket.blocked, true);
        }
        if errno == libc::EIO && entry.segment > 0 {
            socket.into_iter().for_each(|socket| socket.segmentation = false);
        }
        self.drops.send.count(errno);
        self.finish(index, Some(errno));
        false
    }

    fn finish(&mut self, index: u32, errno: Option<i32>) {
        let entry = &mut self.entries[index as usize];
        entry.bytes = None;
        if let Some(token) = entry.token.take() {
            self.finished.push_back((token, errno));
        }
        self.free(index);
    }

    fn free(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.state = State::Free;
        entry.generation = entry.generation.wrapping_add(1);
        if index < self.slots {
            self.free_slots.push(index);
        } else {
            self.free_shared.push(index);
        }
    }

    /// Tells the handler which of the sends that it wants to hear of are over.
    pub(crate) fn report(&mut self, handler: &mut impl Handler<Self>) {
        // Only those that are over now: a handler that sends again is told in a later turn.
        for _ in 0..self.finished.len() {
            let Some((token, errno)) = self.finished.pop_front() else { return };
            let result = errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)));
            handler.sent(token, result, self);
        }
    }

    fn write(
        &mut self,
        socket: SocketId,
        target: &Target,
        state: State,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<u32, Refused> {
        self.sockets.get(socket).ok_or(Refused::NoSocket)?;
        let Some(index) = self.free_slots.pop() else {
            self.drops.slots_full += 1;
            return Err(Refused::Full);
        };
        let slot = &mut self.data[index as usize * SLOT_LEN..][..SLOT_LEN];
        let len = write(slot).min(SLOT_LEN);
        let entry = &mut self.entries[index as usize];
        entry.state = state;
        entry.socket = socket;
        entry.target = *target;
        entry.len = len;
        Ok(index)
    }

    /// Writes a datagram and queues it. With a token the handler is told when it is over.
    fn enqueue(
        &mut self,
        socket: SocketId,
        target: &Target,
        token: Option<u64>,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Refused> {
        let index = self.write(socket, target, State::Queued, write)?;
        self.entries[index as usize].token = token;
        self.queue.push_back(index);
        Ok(())
    }

    fn is_held(&self, held: Held) -> bool {
        self.entries
            .get(held.slot as usize)
            .is_some_and(|e| e.state == State::Held && e.generation == held.generation)
    }
}

impl Outbox {
    /// What was lost so far, with what the kernel dropped at open sockets.
    pub(crate) fn drops_of_all(&self) -> Drops {
        let mut drops = self.drops;
        self.sockets.sockets().for_each(|socket| drops.count_kernel(socket));
        drops
    }

    /// The kernel refused it with `errno`: as [`Outbox::failed`], for a socket of the kernel's.
    pub(crate) fn refused(&mut self, index: u32, errno: i32) -> bool {
        let id = self.entries[index as usize].socket;
        if errno == libc::EMSGSIZE
            && let Some(entry) = self.sockets.get(id)
        {
            entry.socket.too_long();
        }
        self.failed(index, errno)
    }
}

impl<S> Transmit for Outbox<S> {
    fn send(
        &mut self,
        socket: SocketId,
        target: &Target,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Refused> {
        self.enqueue(socket, target, None, write)
    }

    fn send_reported(
        &mut self,
        socket: SocketId,
        target: &Target,
        token: u64,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Refused> {
        self.enqueue(socket, target, Some(token), write)
    }

    fn hold(
        &mut self,
        socket: SocketId,
        target: &Target,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<Held, Refused> {
        if self.held >= self.most_held {
            self.sockets.get(socket).ok_or(Refused::NoSocket)?;
            self.drops.held_full += 1;
            return Err(Refused::Full);
        }
        let slot = self.write(socket, target, State::Held, write)?;
        self.held += 1;
        Ok(Held { slot, generation: self.entries[slot as usize].generation })
    }

    fn submit(&mut self, held: Held) {
        if self.is_held(held) {
            self.entries[held.slot as usize].state = State::Queued;
            self.held -= 1;
            self.queue.push_back(held.slot);
        }
    }

    fn discard(&mut self, held: Held) {
        if self.is_held(held) {
            self.held -= 1;
            self.free(held.slot);
        }
    }

    fn send_shared(
        &mut self,
        socket: SocketId,
        target: &Target,
        bytes: SharedBytes,
        segment: u16,
        token: u64,
    ) -> Result<(), Refused> {
        let open = self.sockets.get(socket).ok_or(Refused::NoSocket)?;
        if !open.segmentation && segment > 0 && bytes.len() > usize::from(segment) {
            return Err(Refused::NoSegmentation);
        }
        let Some(index) = self.free_shared.pop() else {
            self.drops.slots_full += 1;
            return Err(Refused::Full);
        };
        let entry = &mut self.entries[index as usize];
        entry.state = State::Queued;
        entry.socket = socket;
        entry.target = *target;
        entry.segment = segment;
        entry.token = Some(token);
        entry.bytes = Some(bytes);
        self.queue.push_back(index);
        Ok(())
    }

    fn now(&self) -> Moment {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(slots: u32, shared: u32) -> (Outbox<()>, SocketId, Target) {
        let limits = Limits { slots, held: slots, shared, ..Limits::default() };
        let mut outbox = Outbox::new(&limits, Moment::from_nanos(0));
        let socket = outbox.sockets.insert(()).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        (outbox, socket, Target::Udp { to, from: None, ifindex: 0 })
    }

    #[test]
    fn a_stale_token_does_nothing() {
        let (mut outbox, socket, target) = outbox(1, 0);
        let held = outbox.hold(socket, &target, |_| 1).unwrap();
        outbox.discard(held);
        let other = outbox.hold(socket, &target, |_| 2).unwrap();
        outbox.submit(held);
        outbox.discard(held);
        outbox.submit(Held { slot: 0, generation: 0 });
        outbox.submit(Held { slot: u32::MAX, generation: u32::MAX });
        assert_eq!(outbox.next(), None);
        outbox.submit(other);
        outbox.submit(other);
        let index = outbox.next().unwrap();
        assert_eq!(outbox.outgoing(index).bytes.len(), 2);
        assert_eq!(outbox.next(), None);
    }

    #[test]
    fn a_writer_that_claims_too_much_sends_the_whole_slot() {
        let (mut outbox, socket, target) = outbox(1, 0);
        outbox.send(socket, &target, |slot| slot.len() + 1).unwrap();
        let index = outbox.next().unwrap();
        assert_eq!(outbox.outgoing(index).bytes.len(), SLOT_LEN);
    }

    #[test]
    fn a_blocked_socket_keeps_its_order_and_lets_others_pass() {
        let (mut outbox, slow, target) = outbox(8, 0);
        let quick = outbox.sockets.insert(()).unwrap();
        for (socket, byte) in [(slow, 1), (slow, 2), (quick, 3), (slow, 4)] {
            outbox.send(socket, &target, |slot| fill(slot, byte)).unwrap();
        }
        let first = outbox.next().unwrap();
        assert!(outbox.failed(first, libc::EAGAIN));
        let other = outbox.next().unwrap();
        assert_eq!(outbox.outgoing(other).bytes, [3]);
        outbox.sent(other);
        assert_eq!(outbox.next(), None);
        outbox.unblock(slow);
        let rest: Vec<u8> = std::iter::from_fn(|| outbox.next())
            .collect::<Vec<_>>()
            .into_iter()
            .map(|index| outbox.outgoing(index).bytes[0])
            .collect();
        assert_eq!(rest, [1, 2, 4]);
        assert_eq!(outbox.drops.delayed, 1);
    }

    #[test]
    fn what_was_held_for_a_closed_socket_never_leaves_by_its_successor() {
        let (mut outbox, socket, target) = outbox(1, 1);
        let held = outbox.hold(socket, &target, |_| 1).unwrap();
        outbox.remove_socket(socket).unwrap();
        let successor = outbox.sockets.insert(()).unwrap();
        assert_eq!(successor.index(), socket.index());
        assert_eq!(outbox.send(socket, &target, |_| 1), Err(Refused::NoSocket));
        let bytes = SharedBytes::from(vec![1]);
        assert_eq!(outbox.send_shared(socket, &target, bytes, 0, 1), Err(Refused::NoSocket));
        outbox.submit(held);
        assert_eq!(outbox.next(), None);
        outbox.send(successor, &target, |_| 1).unwrap();
        assert!(outbox.next().is_some());
    }

    #[test]
    fn what_finds_no_room_in_a_socket_that_was_removed_meanwhile_ends() {
        let (mut outbox, socket, target) = outbox(0, 1);
        let bytes = SharedBytes::from(vec![1]);
        outbox.send_shared(socket, &target, bytes, 0, 7).unwrap();
        let index = outbox.next().unwrap();
        outbox.remove_socket(socket).unwrap();
        assert!(!outbox.failed(index, libc::EAGAIN));
        assert_eq!(outbox.finished.pop_front(), Some((7, Some(libc::EAGAIN))));
    }

    #[test]
    fn segmentation_is_refused_once_it_failed() {
        let (mut outbox, socket, target) = outbox(0, 1);
        let bytes = SharedBytes::from(vec![0; 20]);
        outbox.send_shared(socket, &target, bytes.clone(), 10, 7).unwrap();
        assert_eq!(outbox.send_shared(socket, &target, bytes.clone(), 10, 7), Err(Refused::Full));
        let index = outbox.next().unwrap();
        outbox.failed(index, libc::EIO);
        assert_eq!(outbox.finished.pop_front(), Some((7, Some(libc::EIO))));
        assert_eq!(
            outbox.send_shared(socket, &target, bytes.clone(), 10, 7),
            Err(Refused::NoSegmentation)
        );
        assert_eq!(outbox.send_shared(socket, &target, bytes, 20, 7), Ok(()));
    }

    fn fill(slot: &mut [u8], byte: u8) -> usize {
        slot[0] = byte;
        1
    }
}
