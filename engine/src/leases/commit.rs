//! The committer: many leases, one fsync.
//!
//! It takes what waits, writes it as one batch, and tells every shard what became of its changes.
//! The batch carries what each address has at that moment, so a RELEASE that came while the bind
//! was waiting goes with it or after it, never before.
//!
//! When a batch cannot be written, nobody gets an ACK, every lease of it is in memory again what
//! the store had before, and the store is reopened before the next batch. What of the failed batch
//! reached the disk nobody knows; so its addresses are in doubt, and the first batch that works
//! carries their last known state along and settles it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bootstorm_protocols::time::Moment;

use super::address::Address;
use super::queue::{Batches, Queued};
use super::{BatchId, LeaseStore, Leases, NotDurable, StoreError, Write, WriteFailure};
use crate::liveness::Heartbeat;
use crate::metrics::Metrics;

/// Nice value of the committer: it works little, and many wait for it.
const COMMITTER_NICE: i32 = -10;
/// Changes in one batch, at most: what piled up during the last fsync, but no more than keeps the
/// wait short.
pub(super) const LARGEST_BATCH: usize = 256;

/// Addresses in doubt that one batch carries along, at most: the log takes a batch of so many of
/// the longest records.
pub(super) const MOST_DOUBTS: usize = 512;

/// How long to wait before another try after the first failure, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How often the log tells of ACKs that are withheld.
const TELL: Duration = Duration::from_secs(10);

/// The store has failed, and has not worked since.
struct Broken {
    retry_at: Moment,
    pause: Duration,
    /// ACKs withheld since, and how many of them the log has told of.
    withheld: u64,
    told: u64,
    tell_at: Moment,
}

impl Broken {
    /// How many more ACKs were withheld since this was last asked for, when the log is to say so.
    fn take_untold(&mut self, now: Moment) -> Option<u64> {
        let more = self.withheld - self.told;
        if now < self.tell_at || more == 0 {
            return None;
        }
        self.told = self.withheld;
        self.tell_at = now + TELL;
        Some(more)
    }
}

/// A batch that was begun.
struct Begun {
    now: Moment,
    /// Changes of it that are not in doubt.
    own: usize,
    /// Whether the store has it; false when there is nothing to write.
    begun: Result<bool, NotDurable>,
}

/// Writes leases. A thread of its own in the server, stepped by hand in tests and simulations.
pub struct Committer {
    leases: Arc<Leases>,
    store: Arc<dyn LeaseStore>,
    metrics: Option<Arc<Metrics>>,
    heartbeat: Option<Heartbeat>,
    on_failure: Option<Box<dyn FnOnce() + Send>>,
    taken: Vec<Queued>,
    batch: Vec<Write>,
    begun: Option<Begun>,
    next_id: BatchId,
    /// Addresses of failed batches, with the highest version that they had there, and those that
    /// the store has lost, with the version of what it had.
    in_doubt: BTreeMap<Address, u64>,
    broken: Option<Broken>,
}

impl Committer {
    pub(super) fn new(leases: Arc<Leases>, store: Arc<dyn LeaseStore>) -> Self {
        Self {
            leases,
            store,
            metrics: None,
            heartbeat: None,
            on_failure: None,
            taken: Vec::with_capacity(LARGEST_BATCH),
            batch: Vec::with_capacity(LARGEST_BATCH),
            begun: None,
            next_id: BatchId(0),
            in_doubt: BTreeMap::new(),
            broken: None,
        }
    }

    /// Counts into these metrics, as their only writer.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Says by it that its thread makes progress, and when it waits for the disk.
    #[must_use]
    pub fn with_heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// Calls this if its thread fails: nobody gets an ACK any more.
    #[must_use]
    pub fn on_failure(mut self, call: impl FnOnce() + Send + 'static) -> Self {
        self.on_failure = Some(Box::new(call));
        self
    }

    /// Starts the thread. `clock` reads the monotonic clock.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(
        mut self,
        clock: impl Fn() -> Moment + Send + 'static,
    ) -> io::Result<CommitterThread> {
        let leases = Arc::clone(&self.leases);
        let thread = std::thread::Builder::new().name("committer".to_owned()).spawn(move || {
            crate::privileges::renounce_network_or_warn();
            // Without it, on a core that a shard keeps busy, each step of an fsync waits for
            // milliseconds until the shard's time slice ends, and all ACKs with it. The process may
            // lack the right to it; then the committer works at normal priority.
            let _ = rustix::process::setpriority_process(None, COMMITTER_NICE);
            let _on_failure = OnFailure(self.on_failure.take());
            let leases = Arc::clone(&self.leases);
            let mut batches = Batches::default();
            while leases.queue.wait(&mut batches, || {
                self.heartbeat.iter().for_each(Heartbeat::beat);
                self.is_behind(clock())
            }) {
                let start = clock();
                self.run_once(start);
                if let Some(metrics) = &self.metrics {
                    metrics.commits.latency.observe(clock().since(start));
                }
            }
        })?;
        Ok(CommitterThread { leases, thread: Some(thread) })
    }

    /// Writes what waits now as one batch, closed or not; the number of changes it took.
    pub fn run_once(&mut self, now: Moment) -> usize {
        let took = self.begin(now);
        self.end();
        took
    }

    /// Whether there is something to write that no change waits for: what the store has lost, or
    /// may have. Not while it is too early for another try.
    pub fn is_behind(&mut self, now: Moment) -> bool {
        if self.store.has_lost() {
            self.doubt_everything();
        }
        let may_try = self.broken.as_ref().is_none_or(|broken| now >= broken.retry_at);
        may_try && !self.in_doubt.is_empty()
    }

    /// Begins to write what waits now; the number of changes it took. [`Committer::end`] has to
    /// come next.
    pub fn begin(&mut self, now: Moment) -> usize {
        self.taken.clear();
        while self.taken.len() < LARGEST_BATCH {
            let Some(queued) = self.leases.queue.pop() else { break };
            self.taken.push(queued);
        }
        if !self.is_behind(now) && self.taken.is_empty() {
            return 0;
        }
        self.taken.sort_unstable_by_key(|queued| queued.change.ip);
        let took = self.taken.len();
        self.collect();
        let own = self.batch.len();
        let begun = self.begin_write(now);
        self.begun = Some(Begun { now, own, begun });
        took
    }

    /// Whether a batch is on its way to the disk.
    pub fn is_writing(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.begun == Ok(true))
    }

    /// Whether the store may have something else of an address than it should: what failed, and
    /// what it has lost, is not written anew yet.
    pub fn has_doubts(&self) -> bool {
        !self.in_doubt.is_empty()
    }

    /// Waits for the disk, and tells everybody what became of the batch.
    pub fn end(&mut self) {
        let Some(Begun { now, own, begun }) = self.begun.take() else { return };
        let written = match begun {
            Ok(true) => self.end_write(own, now),
            Ok(false) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        self.settle(&written, now);
    }

    /// Fills the batch, and answers the changes that need no writing.
    fn collect(&mut self) {
        let Self { leases, taken, batch, .. } = self;
        batch.clear();
        // At most one change of an address is not void.
        taken.retain(|queued| match leases.table.to_write(queued.change) {
            Ok(write) => {
                batch.push(write);
                true
            }
            Err(void) => {
                leases.queue.complete(queued, Err(void));
                false
            }
        });
    }

    /// Hands the batch to the store, if there is one and it can be; whether the store has it.
    fn begin_write(&mut self, now: Moment) -> Result<bool, NotDurable> {
        if self.batch.is_empty() && self.in_doubt.is_empty() {
            return Ok(false);
        }
        if let Some(broken) = &self.broken {
            if now < broken.retry_at {
                return Err(NotDurable::NotWritten);
            }
            if let Err(error) = on_disk(self.heartbeat.as_ref(), || self.store.reopen()) {
                self.failed(&error, now);
                return Err(NotDurable::NotWritten);
            }
        }
        let own = self.batch.len();
        self.add_doubts();
        let clock = self.leases.clock(now);
        let id = self.next_id;
        self.next_id.0 += 1;
        // A checkpoint may have to come first.
        let begun = on_disk(self.heartbeat.as_ref(), || self.store.begin(id, &self.batch, &clock));
        begun.map(|()| true).map_err(|error| self.not_written(&error, own, now))
    }

    /// Makes the batch durable, of which so many changes are not in doubt; the addresses that the
    /// store refused.
    fn end_write(&mut self, own: usize, now: Moment) -> Result<Vec<IpAddr>, NotDurable> {
        let result = on_disk(self.heartbeat.as_ref(), || {
            // It is the only one under way.
            self.store.finish().map_or(Ok(Vec::new()), |finished| finished.result)
        });
        match result {
            Ok(refused) => {
                for (place, write) in self.batch.iter().enumerate() {
                    self.in_doubt.remove(&write.ip.into());
                    if place >= own {
                        self.leases.table.doubt_settled(write.ip.into(), write.version);
                    }
                }
                self.batch.truncate(own);
                if let Some(broken) = self.broken.take() {
                    *self.leases.failure.lock() = None;
                    tracing::warn!(
                        withheld = broken.withheld,
                        "leases are written again; ACKs leave again"
                    );
                }
                if let Some(metrics) = &self.metrics {
                    let size = self.batch.len() as u64;
                    metrics.commits.leases.add(size);
                    // None of what is only written anew.
                    if size > 0 {
                        metrics.commits.batch_size.observe(size);
                    }
                }
                Ok(refused)
            }
            Err(error) => Err(self.not_written(&error, own, now)),
        }
    }

    /// Nobody knows what of the batch the store has.
    fn not_written(&mut self, error: &StoreError, own: usize, now: Moment) -> NotDurable {
        for write in &self.batch {
            let version = self.in_doubt.entry(write.ip.into()).or_default();
            *version = write.version.max(*version);
        }
        self.batch.truncate(own);
        self.failed(error, now);
        NotDurable::NotWritten
    }

    /// The store has lost something, and memory knows what it had. The next batches write it anew.
    fn doubt_everything(&mut self) {
        let Self { leases, in_doubt, .. } = self;
        leases.table.each_durable(|ip, version| _ = in_doubt.entry(ip).or_insert(version));
        tracing::warn!("{} leases are written anew to the lease store", in_doubt.len());
    }

    /// Adds to the batch what the store should have for addresses in doubt. With the version that
    /// the failed write had: it outdoes that write, being later, and nothing that comes after.
    fn add_doubts(&mut self) {
        let own = self.batch.len();
        for (&ip, &version) in self.in_doubt.iter().take(MOST_DOUBTS) {
            if self.batch[..own].binary_search_by_key(&ip, |write| write.ip.into()).is_err() {
                let (lease, known) = self.leases.table.durable(ip);
                self.batch.push(Write { ip: ip.into(), version, known, lease });
            }
        }
    }

    fn failed(&mut self, error: &StoreError, now: Moment) {
        if let Some(metrics) = &self.metrics {
            metrics.commits.failures.increment();
        }
        let (first, longest) = RETRY;
        {
            let failure = &mut *self.leases.failure.lock();
            let since = failure.as_ref().map_or(now, |failure| failure.since);
            *failure = Some(WriteFailure { since, error: error.to_string() });
        }
        if let Some(broken) = &mut self.broken {
            broken.pause = (broken.pause * 2).min(longest);
            broken.retry_at = now + broken.pause;
            return;
        }
        tracing::error!(
            %error,
            "leases cannot be written: no client gets an ACK until the store works again; \
             see to free space and to the disk"
        );
        self.broken = Some(Broken {
            retry_at: now + first,
            pause: first,
            withheld: 0,
            told: 0,
            tell_at: now + TELL,
        });
    }

    /// Brings memory up to what became of the batch, and tells the shards.
    fn settle(&mut self, written: &Result<Vec<IpAddr>, NotDurable>, now: Moment) {
        let is_written = |ip: IpAddr| written.as_ref().is_ok_and(|refused| !refused.contains(&ip));
        {
            let Self { leases, taken, in_doubt, .. } = self;
            let pools = leases.lock_pools(leases.committer_lock());
            for queued in taken {
                let Queued { change, .. } = queued;
                let result = if !is_written(change.ip.into()) {
                    leases.table.roll_back(&pools, *change, now);
                    Err(NotDurable::NotWritten)
                } else if leases.table.written(&pools, *change, now) {
                    Ok(())
                } else {
                    // The store has it all the same.
                    in_doubt.insert(change.ip, change.version);
                    Err(NotDurable::GivenUp)
                };
                leases.queue.complete(queued, result);
            }
        }
        if let Some(broken) = &mut self.broken {
            broken.withheld +=
                self.taken.iter().filter(|queued| queued.token.is_some()).count() as u64;
            if let Some(more) = broken.take_untold(now) {
                tracing::warn!(
                    error = self.leases.write_failure().map(|failure| failure.error),
                    "leases still cannot be written: {more} more ACKs withheld; see to free space \
                     and to the disk"
                );
            }
        }
        self.leases.queue.wake_waiters();
    }
}

/// Does what takes as long as the disk.
fn on_disk<R>(heartbeat: Option<&Heartbeat>, wait: impl FnOnce() -> R) -> R {
    match heartbeat {
        Some(heartbeat) => heartbeat.while_waiting(wait),
        None => wait(),
    }
}

/// Calls something when the thread that holds it fails.
struct OnFailure(Option<Box<dyn FnOnce() + Send>>);

impl Drop for OnFailure {
    fn drop(&mut self) {
        if let Some(call) = self.0.take().filter(|_| std::thread::panicking()) {
            call();
        }
    }
}

/// The committer's thread. Dropping it ends the thread, after it has written what waits.
pub struct CommitterThread {
    leases: Arc<Leases>,
    thread: Option<JoinHandle<()>>,
}

impl CommitterThread {
    /// Ends the thread after it has written what waits. Shards submit nothing after that. `false`
    /// when it had failed.
    pub fn stop(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        self.leases.queue.stop();
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl Drop for CommitterThread {
    fn drop(&mut self) {
        if !self.end() {
            tracing::error!("the thread that writes leases had failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn withheld_acks_are_told_of_now_and_then_and_each_once() {
        let start = Moment::from_nanos(1);
        let mut broken =
            Broken { retry_at: start, pause: RETRY.0, withheld: 5, told: 0, tell_at: start + TELL };
        let mut after = |seconds, withheld| {
            broken.withheld += withheld;
            broken.take_untold(start + Duration::from_secs(seconds))
        };
        assert_eq!(
            [after(1, 2), after(10, 1), after(11, 7), after(19, 1)],
            [None, Some(8), None, None]
        );
        assert_eq!([after(20, 0), after(30, 0), after(31, 1)], [Some(8), None, Some(1)]);
    }

    #[test]
    fn a_thread_that_fails_is_told_of_and_one_that_ends_is_not() {
        let calls = Arc::new(AtomicU32::new(0));
        for fails in [true, false] {
            let counter = Arc::clone(&calls);
            let thread = std::thread::spawn(move || {
                let call = move || _ = counter.fetch_add(1, Ordering::Relaxed);
                let _on_failure = OnFailure(Some(Box::new(call)));
                assert!(!fails, "as asked for");
            });
            assert_eq!(thread.join().is_err(), fails);
            assert_eq!(calls.load(Ordering::Relaxed), 1);
        }
    }
}
