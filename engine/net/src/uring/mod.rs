//! The io_uring backend: one ring, made and used by one thread.
//!
//! Receiving is one multishot recvmsg per socket, which takes buffers from a ring that we refill;
//! urgent sockets have a ring of their own, and what they received is handled first. Sending is one
//! send or sendmsg a datagram, all of a batch in the system call that also waits. They carry
//! MSG_DONTWAIT, so each is over when the call returns, and IOSQE_CQE_SKIP_SUCCESS, so only
//! failures produce a completion: the wait is not cut short by our own sends, and the kernel holds
//! no pointer into a slot outside of the call.
//!
//! Pool sizes. A completion that waits for us is: a received datagram (at most one for each
//! buffer), the end of a multishot receive or a poll (at most two for each socket), a failed send
//! (at most one for each submission entry), a wake (at most one is pending). The completion queue
//! holds their sum for 256 sockets; beyond that the kernel keeps the rest for us
//! (IORING_FEAT_NODROP).

mod bell;
mod buffers;
mod flight;
mod memory;
mod tag;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use bootstorm_protocols::time::Moment;
use io_uring::types::{CancelBuilder, Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

pub(crate) use self::bell::RingBell;
use self::buffers::Buffers;
use self::flight::Flight;
use self::tag::Tag;
use crate::backend::{Backend, Datagram, Handler, Limits, SocketId};
use crate::message::{NAME_LEN, RECEIVE_CONTROL_LEN, received};
use crate::outbox::Outbox;
use crate::waker::Bell;
use crate::{Drops, Socket, Waker};

/// Submission entries: a batch of replies and what re-arms receives. A longer queue of sends goes
/// in several calls; a longer ring would only cost cache.
const SUBMISSIONS: u32 = 256;
/// Sockets that the completion queue is sized for.
const SOCKETS: u32 = 256;
/// Pause before a receive that failed for another reason than empty or no buffers is tried again.
const RECEIVE_RETRY: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Entry {
    socket: Option<Socket>,
    /// Tells completions of this socket from those of its predecessors under the same id.
    generation: u32,
}

/// Work for the next submission.
#[derive(Copy, Clone, Debug)]
enum Chore {
    Receive { id: SocketId, not_before: Moment },
    AwaitWritable(SocketId),
    AwaitEvent,
}

/// Datagrams through io_uring.
pub struct Uring {
    // First, so that it is closed before the memory it uses is unmapped.
    ring: IoUring,
    buffers: Buffers,
    /// Shape of what multishot receives write; the kernel reads it when they are armed.
    shape: Box<libc::msghdr>,
    waker: Waker,
    tx: Outbox,
    sockets: Vec<Entry>,
    batch: usize,
    /// Completions that have been taken out of the ring and not been handled: those that do not
    /// wait for others, and the others.
    urgent: VecDeque<cqueue::Entry>,
    ready: VecDeque<cqueue::Entry>,
    chores: VecDeque<Chore>,
    flight: Flight,
    past: Drops,
    busy_poll: Duration,
    /// The last wait was short enough for the next to keep the core.
    brief: bool,
}

impl Uring {
    /// Makes the ring and gives it its buffers. The thread that calls this is the only one that can
    /// use it.
    ///
    /// # Errors
    /// The kernel's: `PermissionDenied` when io_uring is switched off, `InvalidInput` before Linux
    /// 6.1.
    pub fn new(limits: &Limits) -> io::Result<Uring> {
        let count = limits.buffers.clamp(1, 1 << 15).next_power_of_two();
        let urgent = match limits.urgent.min(1 << 15) {
            0 => 0,
            some => some.next_power_of_two(),
        };
        let completions = u32::from(count) + u32::from(urgent) + SUBMISSIONS + 2 * SOCKETS;
        let ring = open_ring(completions)?;
        let waker = Waker::new(Bell::Ring(RingBell::new(&ring)?));
        let buffers = Buffers::register(&ring, count, urgent, limits.payload_len)?;
        // SAFETY: msghdr is a C struct of integers and pointers; all zero is the empty message.
        let mut shape: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        shape.msg_namelen = NAME_LEN as libc::socklen_t;
        shape.msg_controllen = RECEIVE_CONTROL_LEN as _;
        Ok(Uring {
            ring,
            buffers,
            shape,
            waker,
            tx: Outbox::new(limits, crate::now()),
            sockets: Vec::new(),
            batch: usize::from(limits.batch.max(1)),
            urgent: VecDeque::with_capacity(completions.next_power_of_two() as usize),
            ready: VecDeque::with_capacity(completions.next_power_of_two() as usize),
            chores: VecDeque::from([Chore::AwaitEvent]),
            flight: Flight::new(SUBMISSIONS, limits.shared),
            past: Drops::default(),
            busy_poll: limits.busy_poll,
            brief: false,
        })
    }

    /// Sends out, completions in: everything that talks to the kernel in a turn.
    fn exchange(&mut self, deadline: Option<Moment>) -> io::Result<()> {
        let deadline = self.queue_chores(deadline);
        loop {
            // SAFETY: `enter` submits everything and returns when it is done, and only then
            // `settle` lets go of the outbox's slots and of the flight.
            let more = unsafe {
                self.flight.fill(&mut self.tx, &mut self.ring.submission(), |id| {
                    self.sockets.get(id.index()).and_then(|entry| entry.socket.as_ref())
                })
            };
            let wait = !more && !self.has_ready() && !self.tx.has_news();
            self.enter(wait, deadline)?;
            self.collect();
            let (chores, sockets) = (&mut self.chores, &self.sockets);
            self.flight.settle(
                &mut self.tx,
                |id| chores.push_back(Chore::AwaitWritable(id)),
                |id| {
                    let entry = sockets.get(id.index());
                    entry
                        .and_then(|entry| entry.socket.as_ref())
                        .into_iter()
                        .for_each(Socket::too_long);
                },
            );
            if !more {
                return Ok(());
            }
        }
    }

    /// Arms what is to be armed. Returns the deadline, or when the next chore is due if that is
    /// earlier.
    fn queue_chores(&mut self, mut deadline: Option<Moment>) -> Option<Moment> {
        for _ in 0..self.chores.len() {
            let Some(chore) = self.chores.pop_front() else { break };
            let entry = match chore {
                Chore::Receive { not_before, .. } if not_before > self.tx.now => {
                    deadline = Some(deadline.map_or(not_before, |d| d.min(not_before)));
                    self.chores.push_back(chore);
                    continue;
                }
                Chore::Receive { id, .. } => self.receive_entry(id),
                Chore::AwaitWritable(id) => self.open(id).map(|(socket, generation)| {
                    opcode::PollAdd::new(Fd(socket.as_raw_fd()), libc::POLLOUT as u32)
                        .build()
                        .user_data(Tag::Writable(id, generation).pack())
                }),
                Chore::AwaitEvent => match self.waker.bell() {
                    Bell::Ring(bell) => {
                        // Edge-triggered, so that nobody need read it.
                        let flags = libc::POLLIN as u32 | libc::EPOLLET as u32;
                        let poll = opcode::PollAdd::new(Fd(bell.event().as_raw_fd()), flags);
                        Some(poll.multi(true).build().user_data(Tag::Event.pack()))
                    }
                    _ => None,
                },
            };
            let Some(entry) = entry else { continue };
            // SAFETY: the entry leads to the shape or to nothing; the shape lives as long as the
            // ring.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                // More sockets than fit at once: the rest goes with the next turn, at once.
                self.chores.push_front(chore);
                return Some(Moment::default());
            }
        }
        deadline
    }

    fn receive_entry(&self, id: SocketId) -> Option<squeue::Entry> {
        let (socket, generation) = self.open(id)?;
        let group = self.buffers.group(socket.is_urgent());
        let shape = &raw const *self.shape;
        let receive = opcode::RecvMsgMulti::new(Fd(socket.as_raw_fd()), shape, group.id());
        Some(receive.build().user_data(Tag::Receive(id, generation).pack()))
    }

    fn open(&self, id: SocketId) -> Option<(&Socket, u32)> {
        let entry = self.sockets.get(id.index())?;
        Some((entry.socket.as_ref()?, entry.generation))
    }

    /// One system call: submits everything queued, and waits for a completion if asked to.
    fn enter(&mut self, wait: bool, deadline: Option<Moment>) -> io::Result<()> {
        let left = deadline.map(|d| d.since(crate::now()).min(Duration::from_secs(3600)));
        let wait = wait && left != Some(Duration::ZERO);
        let began = if wait { crate::now() } else { Moment::default() };
        if wait && self.brief {
            self.poll(began + self.busy_poll.min(left.unwrap_or(Duration::MAX)))?;
        }
        let result = match (wait, left) {
            (false, _) => {
                let submission = self.ring.submission();
                let idle =
                    submission.is_empty() && !submission.taskrun() && !submission.cq_overflow();
                drop(submission);
                if idle {
                    return Ok(());
                }
                self.ring.submitter().submit()
            }
            (true, None) => self.ring.submitter().submit_and_wait(1),
            (true, Some(left)) => {
                let timeout = Timespec::from(left);
                let args = SubmitArgs::new().timespec(&timeout);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        // What the kernel has not taken it is offered again: outside of this function no entry
        // waits.
        for _ in 0..1000 {
            if self.ring.submission().is_empty() {
                break;
            }
            std::thread::yield_now();
            self.ring.submit().or_else(harmless)?;
        }
        result.or_else(harmless)?;
        if wait {
            self.brief = crate::now().since(began) < 2 * self.busy_poll;
        }
        if !self.ring.submission().is_empty() {
            return Err(io::Error::other(
                "io_uring takes no submissions: the kernel is out of memory",
            ));
        }
        Ok(())
    }

    /// Submits everything queued, and looks for completions without a system call until some can be
    /// had or it is `late`.
    fn poll(&mut self, late: Moment) -> io::Result<()> {
        if !self.ring.submission().is_empty() {
            self.ring.submitter().submit().or_else(harmless)?;
        }
        while !self.ring.submission().taskrun()
            && self.ring.completion().is_empty()
            && crate::now() < late
        {
            // Whoever else wants the core goes first: a disk's thread of the kernel, for one, that
            // leases wait for.
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Takes the completions out of the ring, so that new ones have room.
    fn collect(&mut self) {
        for completion in self.ring.completion() {
            match Tag::unpack(completion.user_data()) {
                Some(Tag::Send(position)) => self.flight.completed(position, completion.result()),
                Some(Tag::Receive(id, _)) => {
                    let socket =
                        self.sockets.get(id.index()).and_then(|entry| entry.socket.as_ref());
                    match socket.is_some_and(Socket::is_urgent) {
                        true => self.urgent.push_back(completion),
                        false => self.ready.push_back(completion),
                    }
                }
                Some(Tag::Wake | Tag::Event | Tag::Writable(..)) => {
                    self.urgent.push_back(completion);
                }
                None => {}
            }
        }
    }

    fn has_ready(&self) -> bool {
        !self.urgent.is_empty() || !self.ready.is_empty()
    }

    fn dispatch(&mut self, handler: &mut impl Handler<Outbox>) {
        let mut datagrams = 0;
        // Whatever is urgent, others get a quarter of each batch.
        let urgent_until = self.batch - self.batch.min(self.ready.len()) / 4;
        while datagrams < self.batch
            && let Some(completion) = match datagrams < urgent_until {
                true => self.urgent.pop_front().or_else(|| self.ready.pop_front()),
                false => self.ready.pop_front().or_else(|| self.urgent.pop_front()),
            }
        {
            match Tag::unpack(completion.user_data()) {
                Some(Tag::Receive(id, generation)) => {
                    datagrams += 1;
                    self.received(&completion, id, generation, handler);
                }
                Some(Tag::Writable(id, generation)) => {
                    if self.open(id).is_some_and(|(_, current)| current == generation) {
                        self.tx.unblock(id);
                    }
                }
                Some(tag @ (Tag::Wake | Tag::Event)) => {
                    if tag == Tag::Event && !cqueue::more(completion.flags()) {
                        self.chores.push_back(Chore::AwaitEvent);
                    }
                    if self.waker.clear() {
                        handler.woken(&mut self.tx);
                    }
                }
                Some(Tag::Send(_)) | None => {}
            }
        }
    }

    fn received(
        &mut self,
        completion: &cqueue::Entry,
        id: SocketId,
        generation: u32,
        handler: &mut impl Handler<Outbox>,
    ) {
        let result = completion.result();
        let open = self.open(id).is_some_and(|(_, current)| current == generation);
        if open && !cqueue::more(completion.flags()) {
            let mut not_before = Moment::default();
            if result == -libc::ENOBUFS {
                self.tx.drops.no_buffers += 1;
            } else if result < 0 {
                self.tx.drops.receive += 1;
                not_before = self.tx.now + RECEIVE_RETRY;
            }
            self.chores.push_back(Chore::Receive { id, not_before });
        }
        let Some(buffer) = cqueue::buffer_select(completion.flags()) else { return };
        if open && let Ok(len) = usize::try_from(result) {
            // SAFETY: this completion named the buffer, so it is ours until it is given back below.
            let bytes = unsafe { self.buffers.get(buffer, len) };
            if let Some(datagram) = parse(bytes, &self.shape, id) {
                self.tx.drops.truncated += u64::from(datagram.truncated);
                handler.datagram(datagram, &mut self.tx);
            }
        }
        self.buffers.give_back(buffer);
    }

    /// Whether the kernel has nothing more for us at this moment. A receive that has to be armed
    /// again (it ran out of buffers) may have left something behind.
    fn is_dry(&mut self) -> bool {
        !self.has_ready()
            && !self.chores.iter().any(|chore| matches!(chore, Chore::Receive { .. }))
            && !self.ring.submission().taskrun()
            && self.ring.completion().is_empty()
    }
}

/// Reads what a multishot recvmsg wrote into its buffer.
fn parse<'a>(bytes: &'a [u8], shape: &libc::msghdr, socket: SocketId) -> Option<Datagram<'a>> {
    let out = RecvMsgOut::parse(bytes, shape).ok()?;
    let payload_at = bytes.len() - out.payload_data().len();
    let (payload, truncated) = (&bytes[payload_at..], out.is_payload_truncated());
    received(socket, out.name_data(), out.control_data(), payload, truncated)
}

/// Ends of a wait that are no errors: time is up, a signal came, completions must be taken out
/// first.
fn harmless(error: io::Error) -> io::Result<usize> {
    match error.raw_os_error() {
        Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(0),
        _ => Err(error),
    }
}

/// The ring with what this kernel has of the flags that only make it quicker.
fn open_ring(completions: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_cqsize(completions)
        .setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag();
    // Linux 6.6.
    match builder.clone().setup_no_sqarray().build(SUBMISSIONS) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(SUBMISSIONS),
        result => result,
    }
}

impl Backend for Uring {
    type Tx = Outbox;
    type Socket = Socket;

    fn add_socket(&mut self, socket: Socket) -> io::Result<SocketId> {
        let id = self.tx.open_socket()?;
        if id.index() == self.sockets.len() {
            self.sockets.push(Entry { socket: None, generation: 0 });
        }
        if socket.receives() {
            self.chores.push_back(Chore::Receive { id, not_before: Moment::default() });
        }
        self.sockets[id.index()].socket = Some(socket);
        Ok(id)
    }

    fn remove_socket(&mut self, id: SocketId) -> io::Result<()> {
        let entry = self.sockets.get_mut(id.index()).ok_or(io::ErrorKind::NotFound)?;
        let socket = entry.socket.take().ok_or(io::ErrorKind::NotFound)?;
        entry.generation = entry.generation.wrapping_add(1);
        self.tx.close_socket(id);
        self.past.count_kernel(&socket);
        // Requests hold the socket open, so they must be gone for the port to be free when this
        // returns.
        let requests = CancelBuilder::fd(Fd(socket.as_raw_fd())).all();
        match self.ring.submitter().register_sync_cancel(None, requests) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.enter(false, None)?;
        self.collect();
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn turn(
        &mut self,
        deadline: Option<Moment>,
        handler: &mut impl Handler<Outbox>,
    ) -> io::Result<Option<Moment>> {
        self.exchange(deadline)?;
        self.tx.now = crate::now();
        self.tx.report(handler);
        self.dispatch(handler);
        let dry = self.is_dry();
        Ok(handler.batch_end(dry, &mut self.tx))
    }

    fn tx(&mut self) -> &mut Outbox {
        &mut self.tx
    }

    fn drops(&self) -> Drops {
        let mut drops = self.tx.drops;
        drops.kernel += self.past.kernel;
        drops.steered += self.past.steered;
        for socket in self.sockets.iter().filter_map(|entry| entry.socket.as_ref()) {
            drops.count_kernel(socket);
        }
        drops
    }

    fn name(&self) -> &'static str {
        "uring"
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // A request that outlived this would go on writing into buffers that are unmapped, and keep
        // its port.
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        let _ = self.enter(false, None);
    }
}
