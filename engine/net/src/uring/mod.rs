//! The io_uring backend: one ring, made and used by one thread.
//!
//! Receiving is one multishot recvmsg per socket, which takes buffers from a ring that we refill;
//! the sockets of each priority have a ring of their own, and what is urgent is handled first.
//! Sending is one send or sendmsg a datagram, all of a batch in the system call that also waits.
//! They carry MSG_DONTWAIT, so each is over when the kernel has taken it, and
//! IOSQE_CQE_SKIP_SUCCESS, so only failures produce a completion: the wait is not cut short by our
//! own sends.
//!
//! The kernel may be short of memory, and then takes fewer entries than there are, or none. What it
//! has not taken stays queued for the next turn, with its flight; meanwhile completions are handled
//! and buffers given back.
//!
//! Pool sizes. A completion that waits for us is: a received datagram (at most one for each
//! buffer), the end of a multishot receive or a poll (at most two for each socket), a failed send
//! (at most one for each submission entry), a wake (at most one is pending). The completion queue
//! holds their sum for 256 sockets; beyond that the kernel keeps the rest for us
//! (IORING_FEAT_NODROP).

mod buffers;
mod flight;
mod memory;
mod ring;
mod tag;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::time::Duration;

use bootstorm_protocols::time::Moment;
use io_uring::types::{CancelBuilder, Fd, RecvMsgOut};
use io_uring::{cqueue, opcode, squeue};

use self::buffers::Buffers;
use self::flight::Flight;
use self::ring::{Ring, Wait};
use self::tag::Tag;
use crate::backend::{Backend, Datagram, Handler, Limits, SocketId, Taken};
use crate::message::{NAME_LEN, RECEIVE_CONTROL_LEN, received};
use crate::outbox::Outbox;
use crate::{Drops, Priority, Socket, Waker};

/// Submission entries: a batch of replies and what re-arms receives. A longer queue of sends goes
/// in several calls; a longer ring would only cost cache.
const SUBMISSIONS: u32 = 256;
/// Sockets that the completion queue is sized for.
const SOCKETS: u32 = 256;
/// Pause before a receive that failed for another reason than empty or no buffers is tried again.
const RECEIVE_RETRY: Duration = Duration::from_millis(10);
/// Pauses between tries to submit when the kernel is short of memory, before the turn goes on.
const SUBMIT_RETRIES: [Duration; 3] =
    [Duration::ZERO, Duration::from_micros(50), Duration::from_millis(1)];
/// How often the end tries to cancel requests.
const CANCEL_TRIES: usize = 5;
/// Calls until cancelled requests must have ended: Linux 6.18 lets twenty end in each, and there
/// may be two for each socket.
const MOST_CALLS: usize = 2 * 65_535 / 20;

/// The orders in which the queues are looked at when others than the urgent one have their share.
const MIDDLE_FIRST: [Priority; 3] = [Priority::Middle, Priority::Urgent, Priority::Bulk];
const BULK_FIRST: [Priority; 3] = [Priority::Bulk, Priority::Urgent, Priority::Middle];

/// What the next submission asks of the kernel.
#[derive(Copy, Clone, Debug)]
enum Request {
    Receive { id: SocketId, not_before: Moment },
    AwaitWritable(SocketId),
    AwaitEvent,
}

/// Datagrams through io_uring.
pub struct Uring {
    // Closed before the memory of its requests is unmapped: see `drop`.
    ring: ManuallyDrop<Ring>,
    memory: ManuallyDrop<Memory>,
    waker: Waker,
    tx: Outbox,
    batch: usize,
    /// Completions that have been taken out of the ring and not been handled, by priority.
    ready: [VecDeque<cqueue::Entry>; Priority::COUNT],
    /// What the handler takes of them now.
    taken: Taken,
    requests: VecDeque<Request>,
    flight: Flight,
    /// Removed sockets that something in the kernel may still use.
    closing: Vec<Socket>,
    busy_poll: Duration,
    /// The last wait was short enough for the next to keep the core.
    brief: bool,
    /// The handler wants it to.
    polls: bool,
}

/// What requests in the kernel use at any time.
struct Memory {
    buffers: Buffers,
    /// Shape of what multishot receives write; the kernel reads it when they are armed.
    shape: Box<libc::msghdr>,
}

impl Uring {
    /// Makes the ring and gives it its buffers. The thread that calls this is the only one that can
    /// use it.
    ///
    /// # Errors
    /// The kernel's: `PermissionDenied` when io_uring is switched off, `InvalidInput` before Linux
    /// 6.1.
    pub fn new(limits: &Limits) -> io::Result<Uring> {
        Uring::with_queues(limits, SUBMISSIONS, 2 * SOCKETS)
    }

    /// With so many submission entries, and room in the completion queue for `others` besides what
    /// the submissions and limits bound.
    fn with_queues(limits: &Limits, submissions: u32, others: u32) -> io::Result<Uring> {
        let count = |buffers: u16| match buffers.min(1 << 14) {
            0 => 0,
            some => some.next_power_of_two(),
        };
        // In the order of the priorities.
        let counts = [count(limits.urgent), count(limits.middle), count(limits.buffers.max(1))];
        let buffers: u32 = counts.iter().map(|&count| u32::from(count)).sum();
        let completions = buffers + submissions + others;
        let waker = Waker::new()?;
        let ring = Ring::open(submissions, completions)?;
        let buffers = Buffers::register(ring.io_uring(), counts, limits.payload_len)?;
        // SAFETY: msghdr is a C struct of integers and pointers; all zero is the empty message.
        let mut shape: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        shape.msg_namelen = NAME_LEN as libc::socklen_t;
        shape.msg_controllen = RECEIVE_CONTROL_LEN as _;
        Ok(Uring {
            ring: ManuallyDrop::new(ring),
            memory: ManuallyDrop::new(Memory { buffers, shape }),
            waker,
            tx: Outbox::new(limits, crate::now()),
            batch: usize::from(limits.batch.max(1)),
            ready: std::array::from_fn(|_| {
                VecDeque::with_capacity(completions.next_power_of_two() as usize)
            }),
            taken: Taken::ALL,
            requests: VecDeque::from([Request::AwaitEvent]),
            flight: Flight::new(submissions, limits.slots + limits.shared),
            closing: Vec::new(),
            busy_poll: limits.busy_poll,
            brief: false,
            polls: true,
        })
    }

    /// Sends out, completions in: everything that talks to the kernel in a turn.
    fn exchange(&mut self, deadline: Option<Moment>) -> io::Result<()> {
        if !self.closing.is_empty() {
            self.close_removed()?;
        }
        let deadline = self.queue_requests(deadline);
        loop {
            // A flight that is not empty has yet to be taken by the kernel, before others.
            let more = !self.flight.is_empty() || {
                // SAFETY: the flight is empty. It is settled, which lets go of the outbox's slots,
                // only below, when the kernel has taken everything. A flight that is dropped goes
                // with the ring, which then takes nothing any more.
                unsafe { self.flight.fill(&mut self.tx, &mut self.ring.submission()) }
            };
            let wait = !more && !self.has_ready() && !self.tx.has_news();
            self.enter(wait, deadline)?;
            let complete = self.collect()?;
            if !complete || !self.ring.is_submitted() {
                self.tx.drops.starved += 1;
                return Ok(());
            }
            let requests = &mut self.requests;
            self.flight.settle(&mut self.tx, |id| requests.push_back(Request::AwaitWritable(id)));
            if !more {
                return Ok(());
            }
        }
    }

    /// Queues what is to be armed. Returns the deadline, or when the next request is due if that is
    /// earlier.
    fn queue_requests(&mut self, mut deadline: Option<Moment>) -> Option<Moment> {
        for _ in 0..self.requests.len() {
            let Some(request) = self.requests.pop_front() else { break };
            if let Request::Receive { not_before, .. } = request
                && not_before > self.tx.now
            {
                deadline = Some(deadline.map_or(not_before, |d| d.min(not_before)));
                self.requests.push_back(request);
                continue;
            }
            // None for a socket that was removed or stopped meanwhile.
            let Some(entry) = self.entry(request) else { continue };
            // SAFETY: the entry leads to the shape or to nothing; the shape lives as long as the
            // ring.
            if !unsafe { self.ring.push(&entry) } {
                // More sockets than fit at once: the rest goes with the next turn, at once.
                self.requests.push_front(request);
                return Some(Moment::default());
            }
        }
        deadline
    }

    fn entry(&self, request: Request) -> Option<squeue::Entry> {
        Some(match request {
            Request::Receive { id, .. } => {
                let socket = self.socket(id).filter(|socket| socket.receives())?;
                let group = self.memory.buffers.group(socket.priority());
                let shape = &raw const *self.memory.shape;
                opcode::RecvMsgMulti::new(Fd(socket.as_raw_fd()), shape, group)
                    .build()
                    .user_data(Tag::Receive(id).pack())
            }
            Request::AwaitWritable(id) => {
                opcode::PollAdd::new(Fd(self.socket(id)?.as_raw_fd()), libc::POLLOUT as u32)
                    .build()
                    .user_data(Tag::Writable(id).pack())
            }
            Request::AwaitEvent => {
                // Edge-triggered, so it is never read.
                let flags = libc::POLLIN as u32 | libc::EPOLLET as u32;
                opcode::PollAdd::new(Fd(self.waker.event()?.as_raw_fd()), flags)
                    .multi(true)
                    .build()
                    .user_data(Tag::Event.pack())
            }
        })
    }

    fn socket(&self, id: SocketId) -> Option<&Socket> {
        self.tx.sockets.get(id).map(|entry| &entry.socket)
    }

    /// One system call: submits everything queued, and waits for a completion if asked to. What the
    /// kernel has no memory for it is offered a few times more.
    fn enter(&mut self, wait: bool, deadline: Option<Moment>) -> io::Result<()> {
        let left = deadline.map(|d| d.since(crate::now()).min(Duration::from_secs(3600)));
        let wait = wait && left != Some(Duration::ZERO);
        let mut taken = true;
        if wait {
            let began = crate::now();
            if self.brief && self.polls {
                self.poll(began + self.busy_poll.min(left.unwrap_or(Duration::MAX)))?;
            }
            taken = self.ring.submit(left.map_or(Wait::Forever, Wait::AtMost))?;
            self.brief = crate::now().since(began) < 2 * self.busy_poll;
        } else if !self.ring.is_submitted() || self.ring.needs_call() {
            taken = self.ring.submit(Wait::No)?;
        }
        for pause in SUBMIT_RETRIES {
            if taken {
                break;
            }
            // Completions that are taken out make room for others, and end requests.
            self.collect()?;
            std::thread::sleep(pause);
            taken = self.ring.submit(Wait::No)?;
        }
        Ok(())
    }

    /// Submits everything queued, and looks for completions without a system call until some can be
    /// had or it is `late`.
    fn poll(&mut self, late: Moment) -> io::Result<()> {
        if !self.ring.is_submitted() {
            self.ring.submit(Wait::No)?;
        }
        while !self.ring.needs_call() && self.ring.completions().is_empty() && crate::now() < late {
            // Yield: a kernel thread that completes a disk write, for which leases wait, may want
            // this core.
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Takes the completions out of the ring, so that new ones have room. Returns whether none is
    /// left in the kernel.
    fn collect(&mut self) -> io::Result<bool> {
        loop {
            for completion in self.ring.completions() {
                match Tag::unpack(completion.user_data()) {
                    Some(Tag::Send { flight, position }) => {
                        let result = completion.result();
                        if !self.flight.completed(flight, position, result) {
                            // It was taken for sent when its flight was settled.
                            self.tx.drops.send.count(-result);
                        }
                    }
                    Some(Tag::Receive(id)) => {
                        let entry = self.tx.sockets.get(id);
                        let priority = entry.map_or(Priority::Bulk, |e| e.socket.priority());
                        self.ready[priority.index()].push_back(completion);
                    }
                    Some(Tag::Event | Tag::Writable(_)) => {
                        self.ready[Priority::Urgent.index()].push_back(completion);
                    }
                    None => {}
                }
            }
            if !self.ring.has_overflow() {
                return Ok(true);
            }
            self.ring.reap()?;
            if self.ring.completions().is_empty() {
                return Ok(false);
            }
        }
    }

    /// Closes removed sockets, as far as nothing in the kernel uses them any more.
    fn close_removed(&mut self) -> io::Result<()> {
        // What is queued may name their descriptors, which would mean other files then.
        if !self.ring.is_submitted() {
            self.enter(false, None)?;
        }
        if !self.ring.is_submitted() {
            return Ok(());
        }
        let mut cancelled = true;
        for socket in &self.closing {
            cancelled &= self.ring.cancel(CancelBuilder::fd(Fd(socket.as_raw_fd())).all())?;
        }
        // Requests keep a socket open until they have ended.
        if cancelled && self.end_cancelled()? {
            self.closing.clear();
        }
        Ok(())
    }

    /// Ends every request. False if some may go on.
    fn end_requests(&mut self) -> bool {
        let cancel = |_| matches!(self.ring.cancel(CancelBuilder::any()), Ok(true));
        (0..CANCEL_TRIES).any(cancel) && matches!(self.end_cancelled(), Ok(true))
    }

    /// Lets requests that were cancelled end. False if that has to be tried again.
    fn end_cancelled(&mut self) -> io::Result<bool> {
        for _ in 0..MOST_CALLS {
            self.collect()?;
            self.ring.reap()?;
            if self.ring.completions().is_empty() && !self.ring.needs_call() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_ready(&self) -> bool {
        let queues = Priority::ALL.iter().zip(&self.ready);
        queues.into_iter().any(|(&priority, queue)| self.taken.has(priority) && !queue.is_empty())
    }

    fn dispatch(&mut self, handler: &mut impl Handler<Outbox>) {
        let mut datagrams = 0;
        // Whatever is more urgent, what waits in a queue gets a quarter of each batch.
        let [_, middle, bulk] = &self.ready;
        let share = |queue: &VecDeque<_>| self.batch.min(queue.len()) / 4;
        let middle_until = self.batch - share(bulk);
        let urgent_until = middle_until - share(middle);
        while datagrams < self.batch {
            // Its event may come with the next call only, behind all that this batch sends.
            if self.waker.is_pending() && self.waker.clear() {
                handler.woken(&mut self.tx);
            }
            let order = match datagrams {
                number if number < urgent_until => Priority::ALL,
                number if number < middle_until => MIDDLE_FIRST,
                _ => BULK_FIRST,
            };
            self.taken = Taken::by(handler, self.tx.now);
            let next = order.into_iter().find_map(|priority| {
                let queue = &mut self.ready[priority.index()];
                self.taken.has(priority).then(|| queue.pop_front()).flatten()
            });
            let Some(completion) = next else { break };
            match Tag::unpack(completion.user_data()) {
                Some(Tag::Receive(id)) => {
                    datagrams += 1;
                    self.received(&completion, id, handler);
                }
                Some(Tag::Writable(id)) => self.tx.unblock(id),
                Some(Tag::Event) => {
                    if !cqueue::more(completion.flags()) {
                        self.requests.push_back(Request::AwaitEvent);
                    }
                    if self.waker.clear() {
                        handler.woken(&mut self.tx);
                    }
                }
                Some(Tag::Send { .. }) | None => {}
            }
        }
    }

    fn received(
        &mut self,
        completion: &cqueue::Entry,
        id: SocketId,
        handler: &mut impl Handler<Outbox>,
    ) {
        let result = completion.result();
        let open = self.socket(id).is_some();
        let receives = self.socket(id).is_some_and(Socket::receives);
        if receives && !cqueue::more(completion.flags()) {
            let mut not_before = Moment::default();
            if result == -libc::ENOBUFS {
                self.tx.drops.no_buffers += 1;
            } else if result < 0 {
                self.tx.drops.receive += 1;
                not_before = self.tx.now + RECEIVE_RETRY;
            }
            self.requests.push_back(Request::Receive { id, not_before });
        }
        let Some(buffer) = cqueue::buffer_select(completion.flags()) else { return };
        if open && let Ok(len) = usize::try_from(result) {
            // SAFETY: this completion named the buffer, so it is ours until it is given back below.
            let bytes = unsafe { self.memory.buffers.get(buffer, len) };
            if let Some(datagram) = parse(bytes, &self.memory.shape, id) {
                self.tx.drops.truncated += u64::from(datagram.truncated);
                handler.datagram(datagram, &mut self.tx);
            }
        }
        self.memory.buffers.give_back(buffer);
    }

    /// Whether the kernel has nothing more for us at this moment. A receive that has ended, because
    /// buffers ran out or a datagram was empty, may have left something behind: it is armed again
    /// first, which looks.
    fn is_dry(&mut self) -> io::Result<bool> {
        if self.has_ready() {
            return Ok(false);
        }
        let now = self.tx.now;
        let due = |request: &Request| match request {
            Request::Receive { not_before, .. } => *not_before <= now,
            Request::AwaitWritable(_) | Request::AwaitEvent => false,
        };
        if self.requests.iter().any(due) && self.flight.is_empty() {
            self.queue_requests(None);
            self.enter(false, None)?;
            self.collect()?;
        }
        Ok(!self.has_ready()
            && self.ring.is_submitted()
            && !self.ring.needs_call()
            && self.ring.completions().is_empty())
    }
}

/// Reads what a multishot recvmsg wrote into its buffer.
fn parse<'a>(bytes: &'a [u8], shape: &libc::msghdr, socket: SocketId) -> Option<Datagram<'a>> {
    let out = RecvMsgOut::parse(bytes, shape).ok()?;
    let payload_at = bytes.len() - out.payload_data().len();
    let (payload, truncated) = (&bytes[payload_at..], out.is_payload_truncated());
    received(socket, out.name_data(), out.control_data(), payload, truncated)
}

impl Backend for Uring {
    type Tx = Outbox;
    type Socket = Socket;

    fn add_socket(&mut self, socket: Socket) -> io::Result<SocketId> {
        let receives = socket.receives();
        let id = self.tx.sockets.insert(socket)?;
        if receives {
            self.requests.push_back(Request::Receive { id, not_before: Moment::default() });
        }
        Ok(id)
    }

    fn remove_socket(&mut self, id: SocketId) -> io::Result<()> {
        let socket = self.tx.remove_socket(id).ok_or(io::ErrorKind::NotFound)?;
        self.tx.drops.count_kernel(&socket);
        self.closing.push(socket);
        self.close_removed()
    }

    fn stop_receiving(&mut self, id: SocketId) -> io::Result<()> {
        let entry = self.tx.sockets.get_mut(id).ok_or(io::ErrorKind::NotFound)?;
        // It is not armed again.
        entry.socket.stop_receiving();
        if !self.ring.is_submitted() {
            self.enter(false, None)?;
        }
        self.ring.cancel(CancelBuilder::user_data(Tag::Receive(id).pack()))?;
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
        self.taken = Taken::by(handler, self.tx.now);
        self.polls = handler.polls();
        self.exchange(deadline)?;
        self.tx.now = crate::now();
        self.tx.report(handler);
        self.dispatch(handler);
        let dry = self.is_dry()?;
        Ok(handler.batch_end(dry, &mut self.tx))
    }

    fn tx(&mut self) -> &mut Outbox {
        &mut self.tx
    }

    fn drops(&self) -> Drops {
        self.tx.drops_of_all()
    }

    fn name(&self) -> &'static str {
        "uring"
    }
}

impl Drop for Uring {
    /// Requests first: the kernel writes to the memory of one that has not ended, and a closed ring
    /// ends its requests some time later. Then the ring, then the memory.
    fn drop(&mut self) {
        let ended = self.end_requests();
        // SAFETY: neither is used after this, and each is dropped once.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            // Else the memory stays mapped: it is the kernel's for who knows how long.
            if ended {
                ManuallyDrop::drop(&mut self.memory);
            }
        }
    }
}
