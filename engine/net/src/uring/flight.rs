//! The sends of one system call.
//!
//! Order. The kernel tries the sends of a call one after the other, but frees room in a send buffer
//! at any time: after one that found the buffer full (EAGAIN) the next could succeed and overtake
//! it. So only the last send of a socket in a flight may fail for want of room: see
//! [`crate::send_room`].

use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::squeue::{Flags, SubmissionQueue};
use io_uring::types::Fd;

use super::tag::Tag;
use crate::backend::SocketId;
use crate::message::Message;
use crate::outbox::Outbox;
use crate::send_room::most_taken;
use crate::table::Entry;

/// What one call sends: filled, submitted, settled, each in turn.
pub(super) struct Flight {
    /// Tells completions of this flight's sends from those of earlier ones.
    number: u32,
    messages: Box<[Message]>,
    /// Outbox entries, in the order of their messages.
    entries: Vec<u32>,
    /// The errno of each, 0 for success.
    errors: Box<[i32]>,
    /// Entries that go in the next call.
    later: Vec<u32>,
}

impl Flight {
    /// For at most `capacity` sends a call, from an outbox with at most `queued` ones.
    pub(super) fn new(capacity: u32, queued: u32) -> Flight {
        Flight {
            number: 0,
            messages: (0..capacity).map(|_| Message::new()).collect(),
            entries: Vec::with_capacity(capacity as usize),
            errors: vec![0; capacity as usize].into_boxed_slice(),
            later: Vec::with_capacity(queued as usize),
        }
    }

    /// Whether nothing is to be settled.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Moves sends from the outbox to the submission queue. Returns whether some are left for
    /// another call: those that do not fit, and those that might overtake one of this call.
    ///
    /// # Safety
    /// The flight is empty, and neither moved nor dropped before it is settled. It is settled, and
    /// the outbox frees a slot or writes to it, only when the kernel has taken all of `submission`
    /// or never will.
    pub(super) unsafe fn fill(
        &mut self,
        tx: &mut Outbox,
        submission: &mut SubmissionQueue<'_>,
    ) -> bool {
        self.number = self.number.wrapping_add(1);
        let messages = self.messages.as_mut_ptr();
        while let Some(index) = tx.next() {
            let position = self.entries.len();
            if submission.is_full() || position == self.messages.len() {
                self.later.push(index);
                break;
            }
            if !self.may_go(tx, index) {
                self.later.push(index);
                continue;
            }
            let outgoing = tx.outgoing(index);
            // The outbox gives out entries of open sockets only.
            let Some(socket) = tx.sockets.get(outgoing.socket).map(|entry| &entry.socket) else {
                tx.failed(index, libc::EBADF);
                continue;
            };
            // SAFETY: the position lies within the messages and is used once a flight; by the
            // caller's promise message and bytes rest until the kernel is done with them.
            let header = unsafe {
                let message = messages.add(position);
                Message::fill(message, &outgoing, socket.bound());
                &(*message).header
            };
            let fd = Fd(socket.as_raw_fd());
            let entry = match u32::try_from(outgoing.bytes.len()) {
                // No message for the kernel to read first: 3 % of the whole cost of an echo.
                Ok(len) if header.msg_controllen == 0 => {
                    opcode::Send::new(fd, outgoing.bytes.as_ptr(), len)
                        .dest_addr(header.msg_name.cast())
                        .dest_addr_len(header.msg_namelen)
                        .flags(libc::MSG_DONTWAIT)
                        .build()
                }
                _ => opcode::SendMsg::new(fd, header).flags(libc::MSG_DONTWAIT as u32).build(),
            };
            // A position is less than the number of submission entries.
            let tag = Tag::Send { flight: self.number, position: position as u16 }.pack();
            // SAFETY: what the entry leads to rests until the kernel is done with it, as said
            // above.
            let pushed =
                unsafe { submission.push(&entry.flags(Flags::SKIP_SUCCESS).user_data(tag)) };
            if pushed.is_err() {
                self.later.push(index);
                break;
            }
            self.entries.push(index);
        }
        // What is left waits for room in this call, or for the end of a send in it.
        let more = !self.later.is_empty();
        while let Some(index) = self.later.pop() {
            tx.put_back(index);
        }
        more
    }

    /// Whether an entry cannot overtake a send of its socket that is in this flight already.
    fn may_go(&self, tx: &mut Outbox, index: u32) -> bool {
        let outgoing = tx.outgoing(index);
        let (id, most) = (outgoing.socket, most_taken(outgoing.bytes.len(), outgoing.segment));
        let Some(Entry { socket, room, .. }) = tx.sockets.get_mut(id) else { return true };
        room.admit(self.number, most, || socket.send_memory())
    }

    /// Notes the result of a send of this flight: 0 or more for success, else the negative errno.
    /// Returns false if the send is of another flight.
    pub(super) fn completed(&mut self, flight: u32, position: u16, result: i32) -> bool {
        let known = flight == self.number && usize::from(position) < self.entries.len();
        if known {
            self.errors[usize::from(position)] = -result.min(0);
        }
        known
    }

    /// Ends the flight: what reported no error was sent. Calls `blocked` with each socket whose
    /// buffer turned out to be full.
    pub(super) fn settle(&mut self, tx: &mut Outbox, mut blocked: impl FnMut(SocketId)) {
        for (index, error) in self.entries.drain(..).zip(&mut self.errors) {
            match std::mem::take(error) {
                0 => tx.sent(index),
                errno => {
                    let socket = tx.outgoing(index).socket;
                    if tx.refused(index, errno) {
                        blocked(socket);
                    }
                }
            }
        }
    }
}
