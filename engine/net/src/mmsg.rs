//! The backend for hosts where io_uring is denied: epoll, recvmmsg and sendmmsg.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use bootstorm_protocols::time::Moment;
use rustix::event::{Timespec, epoll};

use crate::backend::{Backend, Datagram, Handler, Limits, SocketId, Taken};
use crate::message::{Message, NAME_LEN, RECEIVE_CONTROL_LEN, received};
use crate::outbox::Outbox;
use crate::table::Entry;
use crate::{Drops, Priority, Socket, Waker};

/// Marks the waker in epoll's answers; no socket has this id.
const WAKER: u64 = u64::MAX;

/// Datagrams through recvmmsg and sendmmsg.
pub struct Mmsg {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    waker: Waker,
    tx: Outbox,
    rx: Receive,
    out: Send,
    /// What the handler takes, as epoll was told.
    taken: Taken,
}

impl Mmsg {
    /// Makes the backend with room for `limits`.
    ///
    /// # Errors
    /// No descriptor is left for epoll or eventfd.
    pub fn new(limits: &Limits) -> io::Result<Mmsg> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = Waker::new()?;
        if let Some(event) = waker.event() {
            // Edge-triggered, so it is never read.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&epoll, event, epoll::EventData::new_u64(WAKER), flags)?;
        }
        Ok(Mmsg {
            epoll,
            events: Vec::with_capacity(64),
            waker,
            tx: Outbox::new(limits, crate::now()),
            rx: Receive::new(limits),
            out: Send::new(usize::from(limits.batch)),
            taken: Taken::ALL,
        })
    }

    /// Sends what is queued until the queue or the sockets' buffers are done.
    fn flush(&mut self) -> io::Result<()> {
        while let Some(first) = self.tx.next() {
            let id = self.tx.outgoing(first).socket;
            self.out.run.clear();
            self.out.run.push(first);
            while self.out.run.len() < self.out.messages.len()
                && let Some(index) = self.tx.next()
            {
                if self.tx.outgoing(index).socket != id {
                    self.tx.put_back(index);
                    break;
                }
                self.out.run.push(index);
            }
            if self.out.send(id, &mut self.tx)
                && let Some(entry) = self.tx.sockets.get(id)
            {
                watch(&self.epoll, entry, id, self.taken)?;
            }
        }
        Ok(())
    }

    /// Waits for datagrams on the sockets that the handler takes now.
    fn watch_taken(&mut self, taken: Taken) -> io::Result<()> {
        if taken != self.taken {
            for (id, entry) in self.tx.sockets.entries() {
                let priority = entry.socket.priority();
                if taken.has(priority) != self.taken.has(priority) {
                    watch(&self.epoll, entry, id, taken)?;
                }
            }
            self.taken = taken;
        }
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Moment>) -> io::Result<()> {
        let timeout = deadline.map(|deadline| {
            let left = deadline.since(crate::now()).min(Duration::from_secs(3600));
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        self.events.clear();
        let events = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, events, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits for datagrams on a socket that receives and is taken, and for room on a blocked one.
fn watch(epoll: &OwnedFd, entry: &Entry<Socket>, id: SocketId, taken: Taken) -> io::Result<()> {
    Ok(epoll::modify(epoll, &entry.socket, mark(id), awaited(entry, taken))?)
}

fn awaited(entry: &Entry<Socket>, taken: Taken) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    let receives = entry.socket.receives() && taken.has(entry.socket.priority());
    flags.set(epoll::EventFlags::IN, receives);
    flags.set(epoll::EventFlags::OUT, entry.blocked);
    flags
}

/// Marks a socket in epoll's answers.
fn mark(id: SocketId) -> epoll::EventData {
    epoll::EventData::new_u64(u64::from(id.generation) << 16 | u64::from(id.index))
}

/// The socket that [`mark`] marks so.
fn marked(data: epoll::EventData) -> SocketId {
    SocketId { index: data.u64() as u16, generation: (data.u64() >> 16) as u16 }
}

impl Backend for Mmsg {
    type Tx = Outbox;
    type Socket = Socket;

    fn add_socket(&mut self, socket: Socket) -> io::Result<SocketId> {
        let id = self.tx.sockets.insert(socket)?;
        let entry = self.tx.sockets.get(id).ok_or(io::ErrorKind::NotFound)?;
        let flags = awaited(entry, self.taken);
        let added = epoll::add(&self.epoll, &entry.socket, mark(id), flags);
        if let Err(error) = added {
            self.tx.remove_socket(id);
            return Err(error.into());
        }
        Ok(id)
    }

    fn remove_socket(&mut self, id: SocketId) -> io::Result<()> {
        let socket = self.tx.remove_socket(id).ok_or(io::ErrorKind::NotFound)?;
        self.tx.drops.count_kernel(&socket);
        Ok(epoll::delete(&self.epoll, &socket)?)
    }

    fn stop_receiving(&mut self, id: SocketId) -> io::Result<()> {
        let entry = self.tx.sockets.get_mut(id).ok_or(io::ErrorKind::NotFound)?;
        entry.socket.stop_receiving();
        watch(&self.epoll, entry, id, self.taken)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn turn(
        &mut self,
        deadline: Option<Moment>,
        handler: &mut impl Handler<Outbox>,
    ) -> io::Result<Option<Moment>> {
        self.watch_taken(Taken::by(handler, self.tx.now))?;
        self.flush()?;
        self.wait(if self.tx.has_news() { Some(Moment::default()) } else { deadline })?;
        self.tx.now = crate::now();
        self.tx.report(handler);
        let mut dry = self.events.len() < self.events.capacity();
        let sockets = &self.tx.sockets;
        self.events.sort_unstable_by_key(|&epoll::Event { data, .. }| {
            // The waker is urgent as well.
            let socket = (data.u64() != WAKER).then(|| sockets.get(marked(data))).flatten();
            socket.map_or(Priority::Urgent, |entry| entry.socket.priority())
        });
        for event in 0..self.events.len() {
            let epoll::Event { data, flags } = self.events[event];
            if data.u64() == WAKER {
                self.waker.clear();
                handler.woken(&mut self.tx);
                continue;
            }
            let id = marked(data);
            if flags.contains(epoll::EventFlags::OUT) {
                self.tx.unblock(id);
            }
            let Some(entry) = self.tx.sockets.get(id) else { continue };
            let socket = &entry.socket;
            if flags.contains(epoll::EventFlags::OUT) {
                watch(&self.epoll, entry, id, self.taken)?;
            }
            if Taken::by(handler, self.tx.now).has(socket.priority())
                && flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::ERR)
            {
                let count = self.rx.receive(socket, &mut self.tx.drops);
                dry &= count < self.rx.batch();
                for index in 0..count {
                    if let Some(datagram) = self.rx.datagram(index, id) {
                        self.tx.drops.truncated += u64::from(datagram.truncated);
                        handler.datagram(datagram, &mut self.tx);
                    }
                }
            }
        }
        Ok(handler.batch_end(dry, &mut self.tx))
    }

    fn tx(&mut self) -> &mut Outbox {
        &mut self.tx
    }

    fn drops(&self) -> Drops {
        self.tx.drops_of_all()
    }

    fn name(&self) -> &'static str {
        "mmsg"
    }
}

/// Buffers of one recvmmsg: per datagram a name, control messages and the payload, side by side.
struct Receive {
    headers: Box<[libc::mmsghdr]>,
    iovs: Box<[libc::iovec]>,
    store: Box<[u8]>,
    stride: usize,
}

const PAYLOAD_AT: usize = (NAME_LEN + RECEIVE_CONTROL_LEN).next_multiple_of(8);

impl Receive {
    fn new(limits: &Limits) -> Receive {
        let batch = usize::from(limits.batch.max(1));
        let stride = (PAYLOAD_AT + limits.payload_len).next_multiple_of(64);
        // SAFETY: mmsghdr is a C struct of integers and pointers; all zero is the empty message.
        let header = || unsafe { std::mem::zeroed() };
        let iov = || libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Receive {
            headers: (0..batch).map(|_| header()).collect(),
            iovs: (0..batch).map(|_| iov()).collect(),
            store: vec![0; batch * stride].into_boxed_slice(),
            stride,
        }
    }

    fn batch(&self) -> usize {
        self.headers.len()
    }

    /// Takes what waits in the socket, at most a batch; returns how many.
    fn receive(&mut self, socket: &Socket, drops: &mut Drops) -> usize {
        let store = self.store.as_mut_ptr();
        let iovs = self.iovs.as_mut_ptr();
        for (index, header) in self.headers.iter_mut().enumerate() {
            // SAFETY: every index has its own stride of the store and its own iovec.
            unsafe {
                let at = store.add(index * self.stride);
                let iov = iovs.add(index);
                *iov = libc::iovec {
                    iov_base: at.add(PAYLOAD_AT).cast(),
                    iov_len: self.stride - PAYLOAD_AT,
                };
                header.msg_hdr.msg_name = at.cast();
                header.msg_hdr.msg_namelen = NAME_LEN as libc::socklen_t;
                header.msg_hdr.msg_control = at.add(NAME_LEN).cast();
                header.msg_hdr.msg_controllen = RECEIVE_CONTROL_LEN as _;
                header.msg_hdr.msg_iov = iov;
                header.msg_hdr.msg_iovlen = 1;
            }
        }
        // SAFETY: the headers lead to disjoint memory of self, which is borrowed mutably for the
        // whole call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(count).unwrap_or_else(|_| {
            let error = io::Error::last_os_error();
            let harmless = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
            drops.receive += u64::from(!harmless.contains(&error.kind()));
            0
        })
    }

    /// A datagram of the last [`Receive::receive`].
    fn datagram(&self, index: usize, socket: SocketId) -> Option<Datagram<'_>> {
        let header = &self.headers[index];
        let buffer = &self.store[index * self.stride..][..self.stride];
        let (name, rest) = buffer.split_at(NAME_LEN);
        let control_len = header.msg_hdr.msg_controllen.min(RECEIVE_CONTROL_LEN);
        let payload = &buffer[PAYLOAD_AT..];
        received(
            socket,
            &name[..NAME_LEN.min(header.msg_hdr.msg_namelen as usize)],
            &rest[..control_len],
            &payload[..payload.len().min(header.msg_len as usize)],
            header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        )
    }
}

/// Messages of one sendmmsg.
struct Send {
    messages: Box<[Message]>,
    headers: Box<[libc::mmsghdr]>,
    /// Outbox entries of the messages.
    run: Vec<u32>,
}

impl Send {
    fn new(batch: usize) -> Send {
        let batch = batch.max(1);
        // SAFETY: mmsghdr is a C struct of integers and pointers; all zero is the empty message.
        let header = || unsafe { std::mem::zeroed() };
        Send {
            messages: (0..batch).map(|_| Message::new()).collect(),
            headers: (0..batch).map(|_| header()).collect(),
            run: Vec::with_capacity(batch),
        }
    }

    /// Sends the run, all of one socket; returns true when the socket's buffer became full.
    fn send(&mut self, socket: SocketId, tx: &mut Outbox) -> bool {
        // The outbox gives out entries of open sockets only, and none is closed meanwhile.
        let Some(entry) = tx.sockets.get(socket) else { return false };
        let (fd, bound) = (entry.socket.as_raw_fd(), entry.socket.bound());
        let messages = self.messages.as_mut_ptr();
        for (at, &index) in self.run.iter().enumerate() {
            // SAFETY: a run is not longer than the messages. They and the outbox's bytes stay as
            // they are until the last sendmmsg below: what changes in the outbox meanwhile is its
            // bookkeeping.
            unsafe {
                let message = messages.add(at);
                Message::fill(message, &tx.outgoing(index), bound);
                self.headers[at].msg_hdr = (*message).header;
            }
        }
        let mut done = 0;
        while done < self.run.len() {
            let rest = &mut self.headers[done..self.run.len()];
            // SAFETY: the headers lead to messages and bytes that live and rest, as said above.
            let count = unsafe {
                libc::sendmmsg(
                    fd,
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            if let Ok(count) = usize::try_from(count) {
                self.run[done..][..count].iter().for_each(|&index| tx.sent(index));
                done += count;
                continue;
            }
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
            if errno == libc::EINTR {
                continue;
            }
            let blocked = tx.refused(self.run[done], errno);
            done += 1;
            if errno == libc::EAGAIN {
                // Those behind it wait their turn; the outbox holds them while the socket is
                // blocked.
                self.run[done..].iter().rev().for_each(|&index| tx.put_back(index));
                return blocked;
            }
        }
        false
    }
}
