//! One endpoint of the simulated network.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bootstorm_protocols::time::Moment;
use parking_lot::Mutex;

use super::SimSocket;
use super::world::World;
use crate::outbox::Outbox;
use crate::seam::{Backend, Datagram, Handler, Limits, SocketId};
use crate::waker::Bell;
use crate::{Drops, Waker};

/// A backend of a [`super::SimNetwork`]. Its [`Backend::turn`] neither waits nor moves the clock.
pub struct Sim {
    world: Arc<Mutex<World>>,
    endpoint: usize,
    tx: Outbox,
    waker: Waker,
    batch: usize,
    payload_len: usize,
}

impl Sim {
    pub(super) fn new(world: Arc<Mutex<World>>, limits: &Limits) -> Sim {
        let waker = Waker::new(Bell::Silent);
        let mut inner = world.lock();
        let endpoint = inner.add_endpoint(waker.clone());
        let now = inner.now;
        drop(inner);
        Sim {
            world,
            endpoint,
            tx: Outbox::new(limits, now),
            waker,
            batch: usize::from(limits.batch.max(1)),
            payload_len: limits.payload_len,
        }
    }

    /// The address of a UDP socket; tells the port that was chosen for port 0.
    pub fn local_addr(&self, id: SocketId) -> Option<SocketAddr> {
        self.world.lock().local_addr(self.endpoint, id)
    }

    /// Sends what is queued. A full socket is tried again when the world says so.
    fn flush(&mut self, world: &mut World) {
        let now = world.now;
        let blocked = &mut world.endpoints[self.endpoint].blocked;
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
            let result = world.send(self.endpoint, &self.tx.outgoing(index));
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
        let id = self.tx.open_socket()?;
        self.world.lock().add_socket(self.endpoint, id, socket);
        Ok(id)
    }

    fn remove_socket(&mut self, id: SocketId) -> io::Result<()> {
        if !self.world.lock().remove_socket(self.endpoint, id) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.tx.close_socket(id);
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
        let world = self.world.clone();
        let mut world = world.lock();
        self.flush(&mut world);
        world.deliver();
        self.tx.now = world.now;
        let endpoint = &mut world.endpoints[self.endpoint];
        let count = endpoint.inbox.len().min(self.batch);
        let batch: Vec<_> = endpoint.inbox.drain(..count).collect();
        let dry = endpoint.inbox.is_empty();
        // A handler may ask the network for something.
        drop(world);
        self.tx.report(handler);
        if self.waker.clear() {
            handler.woken(&mut self.tx);
        }
        for arrived in &batch {
            let len = arrived.payload.len().min(self.payload_len);
            let truncated = len < arrived.payload.len();
            self.tx.drops.truncated += u64::from(truncated);
            let datagram = Datagram {
                socket: arrived.socket,
                source: arrived.source,
                destination: Some(arrived.destination),
                ifindex: arrived.ifindex,
                payload: &arrived.payload[..len],
                segment: 0,
                truncated,
            };
            handler.datagram(datagram, &mut self.tx);
        }
        let next = handler.batch_end(dry, &mut self.tx);
        let world = self.world.clone();
        let mut world = world.lock();
        // What the handler queued leaves at this moment, not when the clock has leapt.
        self.flush(&mut world);
        // Something to report: the next turn is due at once.
        let due = if self.tx.has_news() { Some(world.now) } else { next };
        world.endpoints[self.endpoint].deadline = due;
        Ok(next)
    }

    fn tx(&mut self) -> &mut Outbox {
        &mut self.tx
    }

    fn drops(&self) -> Drops {
        let world = self.world.lock();
        let endpoint = &world.endpoints[self.endpoint];
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
        self.world.lock().endpoints[self.endpoint].gone = true;
    }
}
