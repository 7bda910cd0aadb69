//! The sends of one system call.

use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::squeue::{Flags, SubmissionQueue};
use io_uring::types::Fd;

use super::tag::Tag;
use crate::Socket;
use crate::backend::SocketId;
use crate::message::Message;
use crate::outbox::Outbox;

/// What one call sends: filled, submitted, settled, each in turn.
pub(super) struct Flight {
    messages: Box<[Message]>,
    /// Outbox entries, in the order of their messages.
    entries: Vec<u32>,
    /// The errno of each, 0 for success.
    errors: Box<[i32]>,
    /// Entries that go in the next call.
    later: Vec<u32>,
}

impl Flight {
    /// For at most `capacity` sends a call, from an outbox with at most `shared` shared ones.
    pub(super) fn new(capacity: u32, shared: u32) -> Flight {
        Flight {
            messages: (0..capacity).map(|_| Message::new()).collect(),
            entries: Vec::with_capacity(capacity as usize),
            errors: vec![0; capacity as usize].into_boxed_slice(),
            later: Vec::with_capacity(shared as usize + 1),
        }
    }

    /// Moves sends from the outbox to the submission queue. Returns whether some are left for
    /// another call: those that do not fit, and those whose predecessor must be known to have been
    /// sent.
    ///
    /// # Safety
    /// What is queued in `submission` is submitted, and the call that does so has returned, before
    /// the outbox writes to a slot again or frees one, and before the flight is filled again,
    /// settled, moved or dropped.
    pub(super) unsafe fn fill<'a>(
        &mut self,
        tx: &mut Outbox,
        submission: &mut SubmissionQueue<'_>,
        socket: impl Fn(SocketId) -> Option<&'a Socket>,
    ) -> bool {
        let messages = self.messages.as_mut_ptr();
        while let Some(index) = tx.next() {
            if tx.must_wait(index) {
                self.later.push(index);
                continue;
            }
            let position = self.entries.len();
            if submission.is_full() || position == self.messages.len() {
                self.later.push(index);
                break;
            }
            let outgoing = tx.outgoing(index);
            let Some(socket) = socket(outgoing.socket) else {
                tx.failed(index, libc::EBADF);
                continue;
            };
            // SAFETY: the position lies within the messages and is used once a flight; by the
            // caller's promise message and bytes rest until the call has returned.
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
            let tag = Tag::Send(position as u16).pack();
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
        // What waits does so for room, or for one that is in flight, ahead of it in the queue.
        let more = !self.later.is_empty() && (submission.is_full() || !self.entries.is_empty());
        while let Some(index) = self.later.pop() {
            tx.put_back(index);
        }
        more
    }

    /// Notes the result of the send at `position`: 0 or more for success, else the negative errno.
    pub(super) fn completed(&mut self, position: u16, result: i32) {
        if let Some(error) = self.errors.get_mut(usize::from(position)) {
            *error = -result.min(0);
        }
    }

    /// Closes the books: what reported no error was sent. Calls `blocked` with each socket whose
    /// buffer turned out to be full, and `too_long` with each that was given a datagram too long
    /// for its path.
    pub(super) fn settle(
        &mut self,
        tx: &mut Outbox,
        mut blocked: impl FnMut(SocketId),
        mut too_long: impl FnMut(SocketId),
    ) {
        for (index, error) in self.entries.drain(..).zip(&mut self.errors) {
            match std::mem::take(error) {
                0 => tx.sent(index),
                errno => {
                    let socket = tx.outgoing(index).socket;
                    if errno == libc::EMSGSIZE {
                        too_long(socket);
                    }
                    if tx.failed(index, errno) {
                        blocked(socket);
                    }
                }
            }
        }
    }
}
