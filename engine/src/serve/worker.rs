//! The thread of one shard: makes its packet engine, adds and removes sockets, and runs its loop
//! until the server ends.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bootstorm_net::{BUSY_POLL, Backend, Engine, EngineKind, Limits, Socket, Waker, now};
use bootstorm_protocols::time::Moment;
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use super::sockets::Opened;
use super::{DRAIN, HOUSEKEEPING, ServeError, system};
use crate::control::Command;
use crate::hooks::Hooks;
use crate::leases::Leases;
use crate::liveness::Heartbeat;
use crate::log::EventSink;
use crate::metrics::{Metrics, OwnMetrics};
use crate::recent::Recent;
use crate::shard::{self, Binding, Parts, Shard, Sockets};
use crate::snapshot::SharedSnapshot;
use crate::tftp::{TftpServer, TftpShard};

/// While leases are written for which ACKs wait, the shard rests for this long now and then. A disk
/// without FUA is flushed by a kernel thread of the core on which the committer runs. Where that is
/// the shard's, and the shard is not idle, the thread waits for 2 to 6 ms, because to yield passes
/// the core on within the scheduler's group of this process only.
const REST: Duration = Duration::from_micros(20);
/// How long the shard works between two rests: for most commits one is enough.
const REST_AFTER: Duration = Duration::from_micros(150);

/// Sockets for a shard to add and to remove.
struct SocketChange {
    open: Vec<Opened>,
    close: Vec<Binding>,
    /// Told when it is done. If sockets could not be added, none of them was.
    done: Sender<io::Result<()>>,
}

/// A shard's thread as its owner sees it.
pub(super) struct Worker {
    index: usize,
    thread: JoinHandle<io::Result<()>>,
    waker: Waker,
    changes: Sender<SocketChange>,
}

impl Worker {
    /// Makes the shard look for changes.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Adds sockets to a shard and removes others. The outcome comes when it is done; nothing
    /// comes from a shard that has ended.
    pub(super) fn change(
        &self,
        open: Vec<Opened>,
        close: Vec<Binding>,
    ) -> Receiver<io::Result<()>> {
        let (done, outcome) = bounded(1);
        // A shard that has ended is about to end the server.
        let _ended = self.changes.send(SocketChange { open, close, done });
        self.wake();
        outcome
    }

    /// A thread that answers changes with `carry_out`, for tests.
    #[cfg(test)]
    pub(super) fn answering(
        mut carry_out: impl FnMut(&[Opened], &[Binding]) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let (changes, inbox) = unbounded::<SocketChange>();
        let thread = thread::spawn(move || {
            for SocketChange { open, close, done } in inbox {
                done.send(carry_out(&open, &close)).unwrap();
            }
            Ok(())
        });
        let waker = bootstorm_net::Mmsg::new(&Limits::default()).unwrap().waker();
        Self { index: 0, thread, waker, changes }
    }

    /// Waits for its end.
    pub(super) fn join(self) -> Result<(), ServeError> {
        ended(self.index, self.thread)
    }
}

fn ended(shard: usize, thread: JoinHandle<io::Result<()>>) -> Result<(), ServeError> {
    let outcome = thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
    outcome.map_err(|cause| ServeError::Shard { shard, cause })
}

/// What a shard's thread starts with.
pub(super) struct ShardStart {
    pub(super) index: usize,
    pub(super) kind: EngineKind,
    pub(super) busy_poll: bool,
    pub(super) sockets: Vec<Opened>,
    pub(super) snapshot: SharedSnapshot,
    pub(super) leases: Arc<Leases>,
    pub(super) tftp: Option<Arc<TftpServer>>,
    pub(super) all_metrics: Arc<Metrics>,
    pub(super) metrics: OwnMetrics,
    pub(super) events: EventSink,
    pub(super) hooks: Hooks,
    pub(super) recent: Arc<Recent>,
    pub(super) dry_run: bool,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) heartbeat: Heartbeat,
}

impl ShardStart {
    /// Starts the thread and waits until it receives.
    pub(super) fn start(self, commands: Sender<Command>) -> Result<Worker, ServeError> {
        let index = self.index;
        let (ready, started) = bounded(1);
        let (changes, inbox) = unbounded();
        let thread = thread::Builder::new()
            .name(format!("shard{index}"))
            .spawn(move || {
                // Its sockets are open: what a hostile datagram could reach has no privilege.
                crate::privileges::renounce_or_warn();
                let outcome = self.run(&ready, &inbox);
                if outcome.is_err() {
                    // The others cannot take over its sockets: better restarted as a whole.
                    let _ending = commands.send(Command::Stop);
                }
                outcome
            })
            .map_err(system("start a shard"))?;
        match started.recv() {
            Ok(waker) => Ok(Worker { index, thread, waker, changes }),
            // It ended before it was ready, and says why.
            Err(_) => {
                ended(index, thread)?;
                let cause = io::Error::other("its thread ended at once");
                Err(ServeError::Shard { shard: index, cause })
            }
        }
    }

    fn run(self, ready: &Sender<Waker>, inbox: &Receiver<SocketChange>) -> io::Result<()> {
        // The ring belongs to the thread that makes it.
        let busy_poll = if self.busy_poll { BUSY_POLL } else { Duration::ZERO };
        match self.kind.open(&Limits { busy_poll, ..shard::limits() })? {
            Engine::Uring(backend) => self.drive(backend, ready, inbox),
            Engine::Mmsg(backend) => self.drive(backend, ready, inbox),
        }
    }

    fn drive<B: Backend<Socket = Socket>>(
        self,
        mut backend: B,
        ready: &Sender<Waker>,
        inbox: &Receiver<SocketChange>,
    ) -> io::Result<()> {
        let mut sockets = Sockets::default();
        add(&mut backend, &mut sockets, self.sockets)?;
        let waker = backend.waker();
        let wake = waker.clone();
        let tftp = self.tftp.map(|server| {
            let ports = sockets.tftp_ports();
            TftpShard::new(server, ports, waker.clone(), self.all_metrics, self.index)
        });
        let leases = Arc::clone(&self.leases);
        let parts = Parts {
            snapshot: self.snapshot,
            leases: self.leases.shard(self.index, move || wake.wake()),
            metrics: self.metrics,
            events: self.events,
            hooks: self.hooks,
            recent: self.recent,
            tftp,
            dry_run: self.dry_run,
            draining: self.draining.clone(),
            clock: Box::new(now),
        };
        let mut shard = Shard::new(parts, sockets.clone());
        // Whoever waits is gone only if the start failed elsewhere.
        let _gone = ready.send(waker);
        // Otherwise each rest would last 50 µs longer. Refused it is by no kernel that has it.
        let _longer = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut rested = now();
        let mut wanted = None;
        let mut report = now();
        let mut end: Option<Moment> = None;
        // Everything has ended, but what ended it leaves with the next turn.
        let mut last_turn = false;
        loop {
            let deadline = match last_turn {
                true => Moment::default(),
                false => wanted.map_or(report, |wanted: Moment| wanted.min(report)),
            };
            wanted = backend.turn(Some(deadline), &mut shard)?;
            self.heartbeat.beat();
            let now = now();
            if !shard.awaits_disk() {
                rested = now;
            } else if leases.is_committing() && now.since(rested) >= REST_AFTER {
                thread::sleep(REST);
                rested = now + REST;
            } else {
                // The committer may wait for this core.
                thread::yield_now();
            }
            if now >= report {
                report = now + HOUSEKEEPING;
                shard.metrics().record_drops(&backend.drops());
            }
            while let Ok(SocketChange { open, close, done }) = inbox.try_recv() {
                let outcome = remove(&mut backend, &mut sockets, &close)
                    .and_then(|()| add_all(&mut backend, &mut sockets, open));
                shard.set_sockets(sockets.clone());
                // Whoever waited may have ended.
                let _gone = done.send(outcome);
            }
            if self.draining.load(Ordering::Relaxed) {
                if end.is_none() {
                    // What comes now waits in its socket, for the server that is started next.
                    for id in sockets.of_requests() {
                        backend.stop_receiving(id)?;
                    }
                }
                let end = *end.get_or_insert(now + DRAIN);
                if (last_turn && shard.is_idle()) || now >= end {
                    return Ok(());
                }
                last_turn = shard.is_idle();
            }
        }
    }
}

fn add<B: Backend<Socket = Socket>>(
    backend: &mut B,
    sockets: &mut Sockets,
    opened: Vec<Opened>,
) -> io::Result<()> {
    for Opened { role, binding, socket } in opened {
        let socket = socket.with_priority(role.priority());
        sockets.add(backend.add_socket(socket)?, role, binding);
    }
    Ok(())
}

/// Adds all of the sockets or, where one cannot be added, none.
fn add_all<B: Backend<Socket = Socket>>(
    backend: &mut B,
    sockets: &mut Sockets,
    opened: Vec<Opened>,
) -> io::Result<()> {
    let bindings: Vec<Binding> = opened.iter().map(|opened| opened.binding).collect();
    add(backend, sockets, opened).or_else(|error| {
        remove(backend, sockets, &bindings)?;
        Err(error)
    })
}

fn remove<B: Backend<Socket = Socket>>(
    backend: &mut B,
    sockets: &mut Sockets,
    bindings: &[Binding],
) -> io::Result<()> {
    let removed: Vec<_> =
        sockets.take(bindings).into_iter().map(|id| backend.remove_socket(id)).collect();
    removed.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use bootstorm_net::{Drops, Handler, Mmsg, Outbox, SocketId, UdpSocketSpec};

    use super::*;
    use crate::shard::Role;

    /// A backend that takes so many sockets.
    struct Full {
        inner: Mmsg,
        room: usize,
    }

    impl Backend for Full {
        type Tx = Outbox;
        type Socket = Socket;

        fn add_socket(&mut self, socket: Socket) -> io::Result<SocketId> {
            self.room = self.room.checked_sub(1).ok_or(io::ErrorKind::OutOfMemory)?;
            self.inner.add_socket(socket)
        }

        fn remove_socket(&mut self, id: SocketId) -> io::Result<()> {
            self.room += 1;
            self.inner.remove_socket(id)
        }

        fn stop_receiving(&mut self, id: SocketId) -> io::Result<()> {
            self.inner.stop_receiving(id)
        }

        fn waker(&self) -> Waker {
            self.inner.waker()
        }

        fn turn(
            &mut self,
            deadline: Option<Moment>,
            handler: &mut impl Handler<Outbox>,
        ) -> io::Result<Option<Moment>> {
            self.inner.turn(deadline, handler)
        }

        fn tx(&mut self) -> &mut Outbox {
            self.inner.tx()
        }

        fn drops(&self) -> Drops {
            self.inner.drops()
        }

        fn name(&self) -> &'static str {
            self.inner.name()
        }
    }

    fn sockets(index: u32) -> Vec<Opened> {
        let open = || UdpSocketSpec { bind: ([127, 0, 0, 1], 0).into(), ..Default::default() };
        let opened =
            |socket| Opened { role: Role::Dhcp, binding: Binding::Interface(index), socket };
        (0..3).map(|_| opened(open().open().unwrap())).collect()
    }

    #[test]
    fn a_shard_takes_all_sockets_or_none() {
        let mut backend = Full { inner: Mmsg::new(&Limits::default()).unwrap(), room: 5 };
        let mut table = Sockets::default();
        add_all(&mut backend, &mut table, sockets(1)).unwrap();
        assert!(add_all(&mut backend, &mut table, sockets(2)).is_err());
        assert_eq!((table.of(Role::Dhcp).count(), backend.room), (3, 2));
        remove(&mut backend, &mut table, &[Binding::Interface(1)]).unwrap();
        add_all(&mut backend, &mut table, sockets(2)).unwrap();
        assert_eq!((table.of(Role::Dhcp).count(), backend.room), (3, 2));
    }
}
