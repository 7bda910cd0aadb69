//! Between the shards and the committer: what waits to be written, when a batch closes, and what
//! came of it.
//!
//! A batch costs the same processor time whether it has one lease or a hundred, so batches must not
//! follow each other too closely. A batch closes
//! - when it is full;
//! - else [`PAUSE`] after the one before began, when every shard is dry: its sockets are empty, so
//!   no lease of it would come along soon;
//! - else [`LONGEST_PAUSE`] after that, when every shard has handed over what it had. A shard that
//!   is never dry does so at the end of the second turn after a lease; a turn handles a bounded
//!   number of datagrams.
//!
//! A lease that comes after a longer time without any is written at once. Only if a shard dies
//! between a submission and the end of its turn does the committer wake by itself, after
//! [`BACKSTOP`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use parking_lot::{Condvar, Mutex};

use super::NotDurable;
use super::changes::Pending;

/// A batch closes with so many leases, whatever the sockets hold: 64 to 128 measured best.
pub(super) const FULL_BATCH: usize = 96;

/// How long after the begin of a batch the next may begin, when no shard has anything to add. A
/// longer one costs clients that wait for each other more than it saves (measured).
const PAUSE: Duration = Duration::from_micros(600);

/// The same while a shard has datagrams left: its core has more use for them than for small
/// batches. An ACK is late by that at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// Changes that one shard may have on their way to the disk at one time, until it has taken what
/// came of them. The queues have room for that.
pub(super) const SHARD_LIMIT: usize = 8192;

/// How long leases wait at most for a shard that has stopped for good.
const BACKSTOP: Duration = Duration::from_millis(250);

/// How long another thread waits for the disk before it takes its change for lost.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// What the committer's thread waits for, each more than the one before.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Awaits {
    /// It works.
    Nothing,
    /// Every shard has nothing to add, or has held its changes back long enough.
    Given,
    /// Every shard's sockets are empty.
    Dry,
    /// A full batch.
    Full,
    /// The end.
    Stop,
}

/// When the last batches began, which tells when the next one may.
#[derive(Default)]
pub(super) struct Batches {
    last: Option<Instant>,
    /// They follow each other so closely that it pays to wait for more.
    dense: bool,
}

impl Batches {
    /// What the next batch needs now, and after how long less is enough.
    fn next(&self, now: Instant) -> (Awaits, Option<Duration>) {
        let Some(last) = self.last.filter(|_| self.dense) else { return (Awaits::Given, None) };
        let age = now.saturating_duration_since(last);
        if age < PAUSE {
            (Awaits::Full, Some(PAUSE - age))
        } else if age < LONGEST_PAUSE {
            (Awaits::Dry, Some(LONGEST_PAUSE - age))
        } else {
            (Awaits::Given, None)
        }
    }

    fn began(&mut self, now: Instant) {
        let last = self.last.replace(now);
        self.dense = last.is_some_and(|last| now.duration_since(last) < 2 * LONGEST_PAUSE);
    }
}

/// One change on its way to the disk.
#[derive(Copy, Clone, Debug)]
pub(super) struct Queued {
    pub(super) change: Pending,
    /// The channel of the submitter.
    pub(super) from: u16,
    /// By which the submitter knows who waits for it, if anybody does.
    pub(super) token: Option<u64>,
}

/// A change's token, and what became of it.
type Done = (Option<u64>, Result<(), NotDurable>);

/// What is exchanged with one shard.
struct Channel {
    /// Changes submitted so far.
    submitted: AtomicU64,
    /// Of how many of them the submitter has taken what became.
    taken: AtomicU64,
    /// How many of them came before the shard's sockets were empty last.
    dry: AtomicU64,
    /// How many of them it has nothing to add to soon, or has held back long enough.
    given: AtomicU64,
    done: ArrayQueue<Done>,
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
    /// What the committer waits for: an [`Awaits`].
    awaits: AtomicU8,
    stopping: AtomicBool,
}

impl Queue {
    pub(super) fn new(shards: usize) -> Self {
        let channel = || Channel {
            submitted: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            dry: AtomicU64::new(0),
            given: AtomicU64::new(0),
            done: ArrayQueue::new(SHARD_LIMIT),
            wake: OnceLock::new(),
        };
        Self {
            changes: ArrayQueue::new((shards + 1) * SHARD_LIMIT),
            channels: (0..=shards).map(|_| CachePadded::new(channel())).collect(),
            one_waiter: Mutex::new(()),
            wake_event: (Mutex::new(false), Condvar::new()),
            committer: OnceLock::new(),
            awaits: AtomicU8::new(Awaits::Nothing as u8),
            stopping: AtomicBool::new(false),
        }
    }

    /// How a shard is woken. Set once for each shard.
    pub(super) fn set_wake(&self, shard: usize, wake: Box<dyn Fn() + Send + Sync>) -> bool {
        self.channels[shard].wake.set(wake).is_ok()
    }

    /// From the thread that the channel is of; `Err` when it has [`SHARD_LIMIT`] on their way.
    pub(super) fn submit(&self, queued: Queued) -> Result<(), NotDurable> {
        let channel = &self.channels[usize::from(queued.from)];
        // Only this thread changes the two.
        let submitted = channel.submitted.load(Ordering::Relaxed);
        if submitted - channel.taken.load(Ordering::Relaxed) >= SHARD_LIMIT as u64 {
            return Err(NotDurable::NotWritten);
        }
        self.changes.push(queued).map_err(|_| NotDurable::NotWritten)?;
        channel.submitted.store(submitted + 1, Ordering::Release);
        if self.has(Awaits::Full) {
            self.wake_committer(Awaits::Full);
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
        let from = channel as u16;
        self.submit(Queued { change, from, token: Some(change.version) })?;
        self.hand_over(channel, true);
        let deadline = Instant::now() + WAIT_LIMIT;
        loop {
            while let Some((token, result)) = self.completed(channel) {
                if token == Some(change.version) {
                    return result;
                }
            }
            let mut set = self.wake_event.0.lock();
            if !*set && self.wake_event.1.wait_until(&mut set, deadline).timed_out() {
                return Err(NotDurable::NotWritten);
            }
            *set = false;
        }
    }

    /// The end of a shard's turn: it has nothing to add to what it submitted, because its sockets
    /// are empty (`dry`), or because it has held it back for long enough.
    pub(super) fn hand_over(&self, shard: usize, dry: bool) {
        let channel = &self.channels[shard];
        let submitted = channel.submitted.load(Ordering::Acquire);
        channel.given.store(submitted, Ordering::Release);
        if dry {
            channel.dry.store(submitted, Ordering::Release);
        }
        if self.has(Awaits::Dry) {
            self.wake_committer(Awaits::Dry);
        } else if self.has(Awaits::Given) {
            self.wake_committer(Awaits::Given);
        }
    }

    /// Whether what waits is enough for a batch, by that measure.
    fn has(&self, measure: Awaits) -> bool {
        let waiting = self.changes.len();
        let all = |count: fn(&Channel) -> &AtomicU64| {
            waiting > 0
                && self.channels.iter().all(|channel| {
                    count(channel).load(Ordering::Acquire)
                        == channel.submitted.load(Ordering::Acquire)
                })
        };
        waiting >= FULL_BATCH
            || match measure {
                Awaits::Given => all(|channel| &channel.given),
                Awaits::Dry => all(|channel| &channel.dry),
                Awaits::Nothing | Awaits::Full | Awaits::Stop => false,
            }
    }

    /// Whether the waiting leases are to be written now, if the last were long ago.
    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.has(Awaits::Given)
    }

    /// The same soon after others.
    #[cfg(test)]
    pub(super) fn is_dry(&self) -> bool {
        self.has(Awaits::Dry)
    }

    /// Wakes the committer if it waits for this, or for less.
    fn wake_committer(&self, reason: Awaits) {
        // Pairs with the fence in `wait`: either this sees what the committer waits for, or it sees
        // what was submitted.
        fence(Ordering::SeqCst);
        let awaits = self.awaits.load(Ordering::Relaxed);
        if awaits != Awaits::Nothing as u8
            && awaits <= reason as u8
            && self.awaits.swap(Awaits::Nothing as u8, Ordering::Relaxed) != Awaits::Nothing as u8
            && let Some(committer) = self.committer.get()
        {
            committer.unpark();
        }
    }

    /// Waits, in the committer's thread, until a batch closes; `false` when it is to stop and
    /// nothing is left. Calls `round` now and then meanwhile, which says whether there is something
    /// to write that no change waits for.
    pub(super) fn wait(&self, batches: &mut Batches, mut round: impl FnMut() -> bool) -> bool {
        let _ = self.committer.set(thread::current());
        loop {
            if round() && self.changes.is_empty() {
                return true;
            }
            let (awaits, at_most) = batches.next(Instant::now());
            self.awaits.store(awaits as u8, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let stopping = self.stopping.load(Ordering::Relaxed);
            let mut closed = self.has(awaits) || stopping;
            if !closed {
                thread::park_timeout(at_most.unwrap_or(BACKSTOP));
            }
            let woken =
                self.awaits.swap(Awaits::Nothing as u8, Ordering::Relaxed) == Awaits::Nothing as u8;
            // Nobody woke it, and the time is over.
            closed |= !woken && at_most.is_none();
            if closed || woken {
                if !self.changes.is_empty() {
                    batches.began(Instant::now());
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
        self.wake_committer(Awaits::Stop);
    }

    /// Whether the committer works and waits for nothing.
    pub(super) fn is_committing(&self) -> bool {
        self.awaits.load(Ordering::Relaxed) == Awaits::Nothing as u8
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn pop(&self) -> Option<Queued> {
        self.changes.pop()
    }

    /// Tells the submitter what became of a change; [`Queue::wake_waiters`] comes later.
    pub(super) fn complete(&self, queued: &Queued, result: Result<(), NotDurable>) {
        let full = self.channels[usize::from(queued.from)].done.push((queued.token, result));
        debug_assert!(full.is_ok(), "more than a channel may have on their way");
    }

    pub(super) fn completed(&self, shard: usize) -> Option<Done> {
        let channel = &self.channels[shard];
        let done = channel.done.pop()?;
        channel.taken.store(channel.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(done)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_do_not_follow_each_other_too_closely() {
        let start = Instant::now();
        let mut batches = Batches::default();
        // Nothing was written for long: at once.
        assert_eq!(batches.next(start), (Awaits::Given, None));
        batches.began(start);
        assert_eq!(batches.next(start), (Awaits::Given, None));
        // The second of them may be the begin of many.
        let second = start + PAUSE / 4;
        batches.began(second);
        assert_eq!(batches.next(second), (Awaits::Full, Some(PAUSE)));
        assert_eq!(batches.next(second + PAUSE / 2), (Awaits::Full, Some(PAUSE / 2)));
        let rest = LONGEST_PAUSE - PAUSE;
        assert_eq!(batches.next(second + PAUSE), (Awaits::Dry, Some(rest)));
        assert_eq!(batches.next(second + LONGEST_PAUSE), (Awaits::Given, None));
        // A write that takes longer than the pause holds nothing back.
        let third = second + LONGEST_PAUSE;
        batches.began(third);
        assert_eq!(batches.next(third + 2 * LONGEST_PAUSE), (Awaits::Given, None));
        // Few leases are written as they come.
        let late = third + 2 * LONGEST_PAUSE;
        batches.began(late);
        assert_eq!(batches.next(late), (Awaits::Given, None));
    }

    #[test]
    fn who_waits_for_less_is_woken_by_more() {
        let queue = Queue::new(1);
        let _ = queue.committer.set(thread::current());
        for (awaits, reason, woken) in [
            (Awaits::Nothing, Awaits::Stop, true),
            (Awaits::Given, Awaits::Given, true),
            (Awaits::Given, Awaits::Full, true),
            (Awaits::Dry, Awaits::Given, false),
            (Awaits::Full, Awaits::Dry, false),
            (Awaits::Full, Awaits::Full, true),
            (Awaits::Full, Awaits::Stop, true),
        ] {
            queue.awaits.store(awaits as u8, Ordering::Relaxed);
            queue.wake_committer(reason);
            assert_eq!(queue.is_committing(), woken, "{awaits:?} by {reason:?}");
        }
    }
}
