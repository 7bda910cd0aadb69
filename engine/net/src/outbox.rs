//! What waits to be sent: slots, their queue and their bookkeeping, the same for every backend.
//!
//! ```text
//!   free --send--> queued --flush--> (kernel) --> free
//!    \---hold--> held --submit--/
//!                   \--discard--> free
//! ```
//! A backend's flush is over only when the kernel has taken or refused each datagram, so outside of
//! it the kernel holds no pointer into a slot.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bootstorm_protocols::time::Moment;

use crate::backend::{Handler, Held, Limits, Refused, SLOT_LEN, SocketId, Target, Transmit};
use crate::{Drops, SharedBytes};

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
    socket_generation: u32,
    target: Target,
    len: usize,
    segment: u16,
    token: u64,
    bytes: Option<SharedBytes>,
    /// The send of the same token before this one.
    after: Option<Held>,
}

/// What sending must know of a socket.
#[derive(Copy, Clone, Debug)]
struct Outlet {
    generation: u32,
    open: bool,
    /// Its buffer is full: nothing is tried until the kernel says it is writable.
    blocked: bool,
    segmentation: bool,
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

/// The [`Transmit`] of every backend.
#[derive(Debug)]
pub struct Outbox {
    pub(crate) now: Moment,
    pub(crate) drops: Drops,
    data: Box<[u8]>,
    entries: Box<[Entry]>,
    slots: u32,
    free_slots: Vec<u32>,
    free_shared: Vec<u32>,
    queue: VecDeque<u32>,
    /// Taken from the queue by the flush that runs and to be looked at again by the next one, in
    /// order.
    stalled: VecDeque<u32>,
    finished: VecDeque<(u64, Option<i32>)>,
    /// The last shared send that was queued.
    last_shared: Option<Held>,
    outlets: Vec<Outlet>,
    /// Ids of closed sockets, lowest first.
    free_ids: BinaryHeap<Reverse<u16>>,
}

impl Outbox {
    pub(crate) fn new(limits: &Limits, now: Moment) -> Outbox {
        let total = limits.slots + limits.shared;
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let entry = || Entry {
            generation: 0,
            state: State::Free,
            socket: SocketId(0),
            socket_generation: 0,
            target: Target::Udp { to: nowhere, from: None, ifindex: 0 },
            len: 0,
            segment: 0,
            token: 0,
            bytes: None,
            after: None,
        };
        Outbox {
            now,
            drops: Drops::default(),
            data: vec![0; limits.slots as usize * SLOT_LEN].into_boxed_slice(),
            entries: (0..total).map(|_| entry()).collect(),
            slots: limits.slots,
            free_slots: (0..limits.slots).rev().collect(),
            free_shared: (limits.slots..total).rev().collect(),
            queue: VecDeque::with_capacity(total as usize),
            stalled: VecDeque::with_capacity(total as usize),
            finished: VecDeque::with_capacity(limits.shared as usize),
            last_shared: None,
            outlets: Vec::new(),
            free_ids: BinaryHeap::new(),
        }
    }

    /// Something is to be reported to the handler.
    pub(crate) fn has_news(&self) -> bool {
        !self.finished.is_empty()
    }

    /// Opens the lowest free socket id.
    pub(crate) fn open_socket(&mut self) -> io::Result<SocketId> {
        let freed = self.free_ids.pop().map(|Reverse(id)| id);
        let id = freed
            .or_else(|| u16::try_from(self.outlets.len()).ok())
            .filter(|&id| id != u16::MAX)
            .map(SocketId)
            .ok_or_else(|| io::Error::other("65,535 sockets are open: no id is left"))?;
        let fresh = Outlet { generation: 1, open: true, blocked: false, segmentation: true };
        match self.outlets.get_mut(id.index()) {
            Some(old) => *old = Outlet { generation: old.generation.wrapping_add(1), ..fresh },
            None => self.outlets.push(fresh),
        }
        Ok(id)
    }

    /// Closes an id; what is queued for it is dropped when its turn comes.
    pub(crate) fn close_socket(&mut self, id: SocketId) {
        if let Some(outlet) = self.outlets.get_mut(id.index())
            && outlet.open
        {
            outlet.open = false;
            outlet.blocked = false;
            self.free_ids.push(Reverse(id.0));
        }
        self.requeue_stalled();
    }

    /// The socket can take datagrams again.
    pub(crate) fn unblock(&mut self, id: SocketId) {
        if let Some(outlet) = self.outlets.get_mut(id.index()) {
            outlet.blocked = false;
        }
        self.requeue_stalled();
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
            match self.outlets.get(entry.socket.index()) {
                Some(outlet) if outlet.open && outlet.generation == entry.socket_generation => {
                    if !outlet.blocked {
                        return Some(index);
                    }
                    self.stalled.push_back(index);
                }
                _ => self.finish(index, Some(libc::EBADF)),
            }
        }
        None
    }

    /// Whether an earlier send of the same token is not over yet, so that this one might overtake
    /// it.
    pub(crate) fn must_wait(&self, index: u32) -> bool {
        self.entries[index as usize]
            .after
            .is_some_and(|after| self.entries[after.slot as usize].generation == after.generation)
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
        let outlet = &mut self.outlets[entry.socket.index()];
        if errno == libc::EAGAIN {
            self.stalled.push_back(index);
            self.drops.delayed += 1;
            return !std::mem::replace(&mut outlet.blocked, true);
        }
        if errno == libc::EIO && entry.segment > 0 {
            outlet.segmentation = false;
        }
        self.drops.send.count(errno);
        self.finish(index, Some(errno));
        false
    }

    fn finish(&mut self, index: u32, errno: Option<i32>) {
        let entry = &mut self.entries[index as usize];
        if entry.bytes.take().is_some() {
            self.finished.push_back((entry.token, errno));
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

    /// Tells the handler which shared sends are over.
    pub(crate) fn report(&mut self, handler: &mut impl Handler<Outbox>) {
        // Only those that are over now: a handler that sends again is told in a later turn.
        for _ in 0..self.finished.len() {
            let Some((token, errno)) = self.finished.pop_front() else { return };
            let result = errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)));
            handler.sent(token, result, self);
        }
    }

    fn outlet(&self, socket: SocketId) -> Result<Outlet, Refused> {
        let outlet = self.outlets.get(socket.index()).filter(|outlet| outlet.open);
        outlet.copied().ok_or(Refused::NoSocket)
    }

    fn write(
        &mut self,
        socket: SocketId,
        target: &Target,
        state: State,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<u32, Refused> {
        let socket_generation = self.outlet(socket)?.generation;
        let Some(index) = self.free_slots.pop() else {
            self.drops.slots_full += 1;
            return Err(Refused::Full);
        };
        let slot = &mut self.data[index as usize * SLOT_LEN..][..SLOT_LEN];
        let len = write(slot).min(SLOT_LEN);
        let entry = &mut self.entries[index as usize];
        entry.state = state;
        entry.socket = socket;
        entry.socket_generation = socket_generation;
        entry.target = *target;
        entry.len = len;
        Ok(index)
    }

    fn is_held(&self, held: Held) -> bool {
        self.entries
            .get(held.slot as usize)
            .is_some_and(|e| e.state == State::Held && e.generation == held.generation)
    }
}

impl Transmit for Outbox {
    fn send(
        &mut self,
        socket: SocketId,
        target: &Target,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Refused> {
        let index = self.write(socket, target, State::Queued, write)?;
        self.queue.push_back(index);
        Ok(())
    }

    fn hold(
        &mut self,
        socket: SocketId,
        target: &Target,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<Held, Refused> {
        let slot = self.write(socket, target, State::Held, write)?;
        Ok(Held { slot, generation: self.entries[slot as usize].generation })
    }

    fn submit(&mut self, held: Held) {
        if self.is_held(held) {
            self.entries[held.slot as usize].state = State::Queued;
            self.queue.push_back(held.slot);
        }
    }

    fn discard(&mut self, held: Held) {
        if self.is_held(held) {
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
        let outlet = self.outlet(socket)?;
        if !outlet.segmentation && segment > 0 && bytes.len() > usize::from(segment) {
            return Err(Refused::NoSegmentation);
        }
        let Some(index) = self.free_shared.pop() else {
            self.drops.slots_full += 1;
            return Err(Refused::Full);
        };
        let entry = &mut self.entries[index as usize];
        entry.state = State::Queued;
        entry.socket = socket;
        entry.socket_generation = outlet.generation;
        entry.target = *target;
        entry.segment = segment;
        entry.token = token;
        entry.bytes = Some(bytes);
        let generation = entry.generation;
        let last = self.last_shared.replace(Held { slot: index, generation });
        let same = |last: &Held| {
            let last = &self.entries[last.slot as usize];
            last.token == token && last.socket == socket
        };
        self.entries[index as usize].after = last.filter(same);
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

    fn outbox(slots: u32, shared: u32) -> (Outbox, SocketId, Target) {
        let limits = Limits { slots, shared, ..Limits::default() };
        let mut outbox = Outbox::new(&limits, Moment::from_nanos(0));
        let socket = outbox.open_socket().unwrap();
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
        let quick = outbox.open_socket().unwrap();
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
        outbox.close_socket(socket);
        assert_eq!(outbox.send(socket, &target, |_| 1), Err(Refused::NoSocket));
        assert_eq!(outbox.open_socket().unwrap(), socket);
        outbox.submit(held);
        assert_eq!(outbox.next(), None);
        outbox.send(socket, &target, |_| 1).unwrap();
        assert!(outbox.next().is_some());
    }

    #[test]
    fn ids_are_given_again_lowest_first_and_never_twice() {
        let (mut outbox, first, _) = outbox(0, 0);
        let ids: Vec<_> = (1..5).map(|_| outbox.open_socket().unwrap()).collect();
        assert!(ids.iter().map(|id| id.index()).eq(1..5));
        for id in [ids[2], first, ids[0], first, ids[2]] {
            outbox.close_socket(id);
        }
        let again: Vec<_> = (0..4).map(|_| outbox.open_socket().unwrap().index()).collect();
        assert_eq!(again, [0, 1, 3, 5]);
    }

    #[test]
    fn every_id_but_the_last_is_given() {
        let (mut outbox, first, _) = outbox(0, 0);
        for index in 1..65_535 {
            assert_eq!(outbox.open_socket().unwrap().index(), index);
        }
        assert!(outbox.open_socket().is_err());
        outbox.close_socket(first);
        assert_eq!(outbox.open_socket().unwrap(), first);
        assert!(outbox.open_socket().is_err());
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
