//! One endpoint of the simulated network.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bootstorm_protocols::time::Moment;
use parking_lot::Mutex;

use super::state::{Arrived, Endpoint, State};
use super::{Outbox, SimSocket};
use crate::backend::{Backend, Datagram, Handler, Limits, SocketId, Taken};
use crate::{Drops, Waker};

/// A backend of a [`super::SimNetwork`]. Its [`Backend::turn`] neither waits nor moves the clock.
pub struct Sim {
    state: Arc<Mutex<State>>,
    endpoint: usize,
    tx: Outbox,
    waker: Waker,
    batch: usize,
    payload_len: usize,
}

impl Sim {
    pub(super) fn new(state: Arc<Mutex<State>>, limits: &Limits) -> Sim {
        let waker = Waker::without_event();
        let mut inner = state.lock();
        let endpoint = inner.add_endpoint(waker.clone());
        let now = inner.now;
        drop(inner);
        Sim {
            state,
            endpoint,
            tx: Outbox::new(limits, now),
            waker,
            batch: usize::from(limits.batch.max(1)),
            payload_len: limits.payload_len,
        }
    }

    /// The address of a UDP socket; tells the port that was chosen for port 0.
    pub fn local_addr(&self, id: SocketId) -> Option<SocketAddr> {
        self.state.lock().local_addr(self.endpoint, id)
    }

    /// The next datagram that the handler takes.
    fn take(&self, taken: Taken) -> Option<Arrived> {
        self.look(taken, Endpoint::take)
    }

    /// Notes what the handler takes, then looks at what has arrived.
    fn look<R>(&self, taken: Taken, look: impl FnOnce(&mut Endpoint) -> R) -> R {
        let mut state = self.state.lock();
        let endpoint = &mut state.endpoints[self.endpoint];
        endpoint.taken = taken;
        look(endpoint)
    }

    /// When it has something to do: now, when something is ready. `None`: not before something
    /// arrives.
    pub fn next(&self) -> Option<Moment> {
        let state = self.state.lock();
        state.endpoints[self.endpoint].next(state.now).filter(|&next| next != Moment::NEVER)
    }

    /// Sends what is queued. A full socket is tried again when the state says so.
    fn flush(&mut self, state: &mut State) {
        let now = state.now;
        let blocked = &mut state.endpoints[self.endpoint].blocked;
        let mut at = 0;
        while let Some(&(id, until)) = blocked.get(at) {
            if until <= now {
                blocked.swap_remove(at);
                self.tx.unblock(id);
            } else {
                at += 1;
            }
        }
        while let Some(index) = self.tx.next() {
            let result = state.send(self.endpoint, &self.tx.outgoing(index));
            match result {
                Ok(()) => self.tx.sent(index),
                Err(errno) => {
                    self.tx.failed(index, errno);
                }
            }
        }
    }
}

impl Backend for Sim {
    type Tx = Outbox;
    type Socket = SimSocket;

    fn add_socket(&mut self, socket: SimSocket) -> io::Result<SocketId> {
        let id = self.tx.sockets.insert(())?;
        self.state.lock().add_socket(self.endpoint, id, socket);
        Ok(id)
    }

    fn remove_socket(&mut self, id: SocketId) -> io::Result<()> {
        self.tx.remove_socket(id).ok_or(io::ErrorKind::NotFound)?;
        self.state.lock().remove_socket(self.endpoint, id);
        Ok(())
    }

    fn stop_receiving(&mut self, id: SocketId) -> io::Result<()> {
        self.tx.sockets.get(id).ok_or(io::ErrorKind::NotFound)?;
        self.state.lock().remove_socket(self.endpoint, id);
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn turn(
        &mut self,
        _deadline: Option<Moment>,
        handler: &mut impl Handler<Outbox>,
    ) -> io::Result<Option<Moment>> {
        let state = self.state.clone();
        let mut state = state.lock();
        self.flush(&mut state);
        state.deliver();
        self.tx.now = state.now;
        // A handler may ask the network for something.
        drop(state);
        self.tx.report(handler);
        if self.waker.clear() {
            handler.woken(&mut self.tx);
        }
        for _ in 0..self.batch {
            let Some(arrived) = self.take(Taken::by(handler, self.tx.now)) else { break };
            let len = arrived.payload.len().min(self.payload_len);
            let truncated = len < arrived.payload.len();
            self.tx.drops.truncated += u64::from(truncated);
            let datagram = Datagram {
                socket: arrived.socket,
                source: arrived.source,
                destination: Some(arrived.destination),
                broadcast: arrived.broadcast,
                ifindex: arrived.ifindex,
                payload: &arrived.payload[..len],
                segment: 0,
                truncated,
            };
            handler.datagram(datagram, &mut self.tx);
        }
        let taken = Taken::by(handler, self.tx.now);
        let dry = !self.look(taken, |endpoint| endpoint.has_ready());
        let next = handler.batch_end(dry, &mut self.tx);
        self.look(Taken::by(handler, self.tx.now), |_| ());
        let state = self.state.clone();
        let mut state = state.lock();
        // What the handler queued leaves at this moment, not when the clock has leapt.
        self.flush(&mut state);
        // Something to report: the next turn is due at once.
        let due = if self.tx.has_news() { Some(state.now) } else { next };
        state.endpoints[self.endpoint].deadline = due;
        Ok(next)
    }

    fn tx(&mut self) -> &mut Outbox {
        &mut self.tx
    }

    fn drops(&self) -> Drops {
        let state = self.state.lock();
        let endpoint = &state.endpoints[self.endpoint];
        let mut drops = self.tx.drops;
        drops.kernel += endpoint.overflow;
        drops.steered += endpoint.refused;
        drops
    }

    fn name(&self) -> &'static str {
        "sim"
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.state.lock().endpoints[self.endpoint].gone = true;
    }
}
