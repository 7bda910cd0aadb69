//! Between the shards and the committer: what waits to be written, when a batch closes, and what
//! came of it.
//!
//! A batch closes when enough leases wait, or when every shard has said that it is dry: nothing
//! waits in its sockets, so no lease of it would come along soon. No timer is in it. A shard that
//! is never dry must not hold a lone lease back, so its second turn after the lease counts as dry;
//! a turn handles a bounded number of datagrams. Only if a shard dies between a submission and the
//! end of its turn does the committer wake by itself, after [`BACKSTOP`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use parking_lot::{Condvar, Mutex};

use super::NotDurable;
use super::changes::Pending;

/// A batch closes with so many leases, whatever the sockets hold: 64 to 128 measured best.
pub(super) const FULL_BATCH: usize = 96;

/// What one shard may have on its way to the disk at one time.
pub(super) const SHARD_LIMIT: usize = 8192;

/// How long leases wait at most for a shard that has stopped for good.
const BACKSTOP: Duration = Duration::from_millis(250);

/// How long another thread waits for the disk before it takes its change for lost.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// One change on its way to the disk.
#[derive(Copy, Clone, Debug)]
pub(super) struct Queued {
    pub(super) change: Pending,
    /// Who waits for it, with the token to wake it by.
    pub(super) waiter: Option<(u16, u64)>,
}

/// What is exchanged with one shard.
struct Channel {
    /// Changes submitted so far.
    submitted: AtomicU64,
    /// How many of them came before the shard's sockets were empty last.
    dry: AtomicU64,
    done: ArrayQueue<(u64, Result<(), NotDurable>)>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// The changes that wait, and a channel to each shard.
pub(super) struct Queue {
    changes: ArrayQueue<Queued>,
    /// One for each shard, and one for all other threads that want a change written.
    channels: Box<[CachePadded<Channel>]>,
    /// Held by the one other thread that waits.
    one_waiter: Mutex<()>,
    /// Set when a change of that thread has completed.
    wake_event: (Mutex<bool>, Condvar),
    committer: OnceLock<Thread>,
    parked: AtomicBool,
    stopping: AtomicBool,
}

impl Queue {
    pub(super) fn new(shards: usize) -> Self {
        let channel = || Channel {
            submitted: AtomicU64::new(0),
            dry: AtomicU64::new(0),
            done: ArrayQueue::new(SHARD_LIMIT),
            wake: OnceLock::new(),
        };
        Self {
            // One part more than the shards can fill with what they wait for.
            changes: ArrayQueue::new((shards + 1) * SHARD_LIMIT),
            channels: (0..=shards).map(|_| CachePadded::new(channel())).collect(),
            one_waiter: Mutex::new(()),
            wake_event: (Mutex::new(false), Condvar::new()),
            committer: OnceLock::new(),
            parked: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// How a shard is woken. Set once for each shard.
    pub(super) fn set_wake(&self, shard: usize, wake: Box<dyn Fn() + Send + Sync>) -> bool {
        self.channels[shard].wake.set(wake).is_ok()
    }

    /// From a shard; `Err` when too much waits already.
    pub(super) fn submit(&self, shard: usize, queued: Queued) -> Result<(), NotDurable> {
        self.changes.push(queued).map_err(|_| NotDurable)?;
        self.channels[shard].submitted.fetch_add(1, Ordering::Release);
        if self.changes.len() >= FULL_BATCH {
            self.wake_committer();
        }
        Ok(())
    }

    /// From a thread that is no shard: waits until the change is durable.
    pub(super) fn submit_and_wait(&self, change: Pending) -> Result<(), NotDurable> {
        let channel = self.channels.len() - 1;
        let _guard = self.one_waiter.lock();
        // What came too late for the thread before.
        while self.completed(channel).is_some() {}
        // It is the last channel, and there are at most as many shards as cores.
        let waiter = Some((channel as u16, change.version));
        self.submit(channel, Queued { change, waiter })?;
        self.mark_dry(channel);
        let deadline = Instant::now() + WAIT_LIMIT;
        loop {
            while let Some((token, result)) = self.completed(channel) {
                if token == change.version {
                    return result;
                }
            }
            let mut set = self.wake_event.0.lock();
            if !*set && self.wake_event.1.wait_until(&mut set, deadline).timed_out() {
                return Err(NotDurable);
            }
            *set = false;
        }
    }

    /// The shard's sockets are empty: it has nothing more to add for now.
    pub(super) fn mark_dry(&self, shard: usize) {
        let channel = &self.channels[shard];
        channel.dry.store(channel.submitted.load(Ordering::Acquire), Ordering::Release);
        self.wake_if_closed();
    }

    /// Whether the waiting leases are to be written now.
    pub(super) fn is_closed(&self) -> bool {
        let waiting = self.changes.len();
        waiting >= FULL_BATCH
            || waiting > 0
                && self.channels.iter().all(|channel| {
                    channel.dry.load(Ordering::Acquire) == channel.submitted.load(Ordering::Acquire)
                })
    }

    fn wake_if_closed(&self) {
        if self.is_closed() {
            self.wake_committer();
        }
    }

    fn wake_committer(&self) {
        // Pairs with the fence in `wait`: either this sees the committer parked, or it sees what
        // was submitted.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed)
            && self.parked.swap(false, Ordering::Relaxed)
            && let Some(committer) = self.committer.get()
        {
            committer.unpark();
        }
    }

    /// Waits, in the committer's thread, until a batch closes; `false` when it is to stop and
    /// nothing is left. Calls `round` now and then meanwhile.
    pub(super) fn wait(&self, round: impl Fn()) -> bool {
        let _ = self.committer.set(thread::current());
        loop {
            round();
            self.parked.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let stopping = self.stopping.load(Ordering::Relaxed);
            let closed = self.is_closed() || stopping;
            if !closed {
                thread::park_timeout(BACKSTOP);
            }
            // Nobody woke it: the time is over.
            let alone = self.parked.swap(false, Ordering::Relaxed) && !closed;
            if closed || alone {
                if !self.changes.is_empty() {
                    return true;
                }
                if stopping {
                    return false;
                }
            }
        }
    }

    /// Asks the committer's thread to write what waits and to end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.wake_committer();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn pop(&self) -> Option<Queued> {
        self.changes.pop()
    }

    /// Tells who waits what became of a change; [`Queue::wake_waiters`] comes later.
    pub(super) fn complete(&self, waiter: Option<(u16, u64)>, result: Result<(), NotDurable>) {
        if let Some((channel, token)) = waiter {
            // A shard has at most SHARD_LIMIT tokens on their way, so there is room.
            let _ = self.channels[usize::from(channel)].done.push((token, result));
        }
    }

    pub(super) fn completed(&self, shard: usize) -> Option<(u64, Result<(), NotDurable>)> {
        self.channels[shard].done.pop()
    }

    /// Wakes everybody for whom something has completed that was not taken yet.
    pub(super) fn wake_waiters(&self) {
        for channel in self.channels.iter().filter(|channel| !channel.done.is_empty()) {
            match channel.wake.get() {
                Some(wake) => wake(),
                None => {
                    *self.wake_event.0.lock() = true;
                    self.wake_event.1.notify_all();
                }
            }
        }
    }
}
