//! The boot events of all shards on their way into the log, and the thread that writes them.
//!
//! A shard never formats and never waits. It puts events into a bounded queue of its own; at full
//! load it only counts them, and the log thread says once a second how many were not logged.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, Ordering::Relaxed};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use tracing::level_filters::LevelFilter;

use super::utc_now;
use crate::event::bus::EventBus;
use crate::event::row::Row;
use crate::event::{BootEvent, Kind};
use crate::metrics::Counter;

/// Boot events a shard may log in one second; more are counted.
const LINES_PER_SECOND: u32 = 50;
/// Events that may wait between a shard and the log thread (about 1.5 MB a shard).
const BACKLOG: usize = 8192;
/// Events taken from one shard before those of the next.
const TURN: usize = 1024;
/// How long the log thread lets events gather before it looks again.
const GATHER: Duration = Duration::from_millis(5);

/// The queue from one shard to the log thread.
#[derive(Debug)]
struct LogQueue {
    events: ArrayQueue<Entry>,
    /// Lines the shard may still cause this second. The log thread refills it; a race costs or
    /// gains one line.
    budget: AtomicU32,
    /// Events left out of the log because the budget was used up.
    suppressed: Counter,
    /// Events lost because the queue was full.
    dropped: Counter,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    event: BootEvent,
    /// For the log, and not only for those who follow.
    logged: bool,
}

#[derive(Debug)]
struct Shared {
    queues: Box<[CachePadded<LogQueue>]>,
    bus: EventBus,
    /// The log thread waits to be woken.
    sleeping: AtomicBool,
    stopping: AtomicBool,
}

/// Where a shard puts its events. One a shard.
#[derive(Debug)]
pub struct EventSink {
    shared: Arc<Shared>,
    shard: usize,
    thread: Thread,
    pushed: bool,
}

impl EventSink {
    /// A sink whose events go nowhere: a simulation looks at the network instead.
    pub fn unheard() -> Self {
        let shared = Arc::new(Shared::new(1, 1, EventBus::default()));
        Self { shared, shard: 0, thread: thread::current(), pushed: false }
    }

    /// Notes an event. Never waits and never allocates.
    pub fn emit(&mut self, event: &BootEvent) {
        self.emit_with(event.kind, || *event);
    }

    /// Notes an event of that kind, which is made only if it is logged or followed.
    pub fn emit_with(&mut self, kind: Kind, event: impl FnOnce() -> BootEvent) {
        // `start` makes one sink for each queue.
        let own = &self.shared.queues[self.shard];
        let wanted = kind.level() <= LevelFilter::current();
        let budget = if wanted { own.budget.load(Relaxed) } else { 0 };
        let logged = budget > 0 || (wanted && kind.is_rare());
        if logged {
            own.budget.store(budget.saturating_sub(1), Relaxed);
        } else if wanted {
            own.suppressed.increment();
        }
        if !logged && !self.shared.bus.is_followed() {
            return;
        }
        match own.events.push(Entry { event: event(), logged }) {
            Ok(()) => self.pushed = true,
            Err(_) => own.dropped.increment(),
        }
    }

    /// Wakes the log thread if there is something for it and it sleeps. Call once a batch.
    pub fn batch_end(&mut self) {
        if !std::mem::take(&mut self.pushed) {
            return;
        }
        if self.shared.sleeping.load(Ordering::SeqCst)
            && self.shared.sleeping.swap(false, Ordering::SeqCst)
        {
            self.thread.unpark();
        }
    }
}

/// The log thread.
#[derive(Debug)]
pub struct EventLog {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// What the log left out, over all shards, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Events not logged because there were too many in one second.
    pub suppressed: u64,
    /// Events lost because the log could not keep up.
    pub dropped: u64,
}

/// Reads what the log left out.
#[derive(Clone, Debug)]
pub struct LogCounts(Arc<Shared>);

impl LogCounts {
    /// The sums over all shards.
    pub fn left_out(&self) -> LeftOut {
        self.0.left_out()
    }
}

impl Shared {
    fn new(shards: usize, backlog: usize, bus: EventBus) -> Self {
        let queue = || LogQueue {
            events: ArrayQueue::new(backlog),
            budget: AtomicU32::new(LINES_PER_SECOND),
            suppressed: Counter::default(),
            dropped: Counter::default(),
        };
        Self {
            queues: (0..shards).map(|_| CachePadded::new(queue())).collect(),
            bus,
            sleeping: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    fn left_out(&self) -> LeftOut {
        self.queues.iter().fold(LeftOut::default(), |sum, queue| LeftOut {
            suppressed: sum.suppressed.wrapping_add(queue.suppressed.get()),
            dropped: sum.dropped.wrapping_add(queue.dropped.get()),
        })
    }

    /// Takes what waits, a turn for each shard. True when there was anything.
    fn drain(&self, mut take: impl FnMut(Entry)) -> bool {
        let mut any = false;
        for queue in &self.queues {
            for _ in 0..TURN {
                let Some(entry) = queue.events.pop() else { break };
                any = true;
                take(entry);
            }
        }
        any
    }

    fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.events.is_empty())
    }

    fn refill(&self) {
        for queue in &self.queues {
            queue.budget.store(LINES_PER_SECOND, Relaxed);
        }
    }
}

impl EventLog {
    /// Starts the log thread for `shards` shards, and gives each its sink.
    pub fn start(shards: usize, bus: EventBus) -> io::Result<(Self, Vec<EventSink>)> {
        let shared = Arc::new(Shared::new(shards, BACKLOG, bus));
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            crate::privileges::renounce_or_warn();
            run(&theirs);
        })?;
        let sinks = (0..shards)
            .map(|shard| EventSink {
                shared: shared.clone(),
                shard,
                thread: thread.thread().clone(),
                pushed: false,
            })
            .collect();
        Ok((Self { shared, thread }, sinks))
    }

    /// A reader of what the log leaves out.
    pub fn counts(&self) -> LogCounts {
        LogCounts(self.shared.clone())
    }

    /// Writes what waits and ends the thread and all subscriptions. The shards have ended before.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the log thread panicked");
        }
        self.shared.bus.close();
    }
}

fn run(shared: &Shared) {
    let mut second = Instant::now() + Duration::from_secs(1);
    let mut reported = LeftOut::default();
    let names = InterfaceNames::open();
    loop {
        let stopping = shared.stopping.load(Ordering::SeqCst);
        let any = shared.drain(|entry| write(&entry, &shared.bus, &names));
        if Instant::now() >= second || (stopping && !any) {
            shared.refill();
            reported = report(reported, shared.left_out());
            second = Instant::now() + Duration::from_secs(1);
        }
        if any {
            if !stopping {
                thread::sleep(GATHER);
            }
        } else if stopping {
            return;
        } else {
            shared.sleeping.store(true, Ordering::SeqCst);
            // A shard that pushed before it saw the flag is seen here; one that pushes later wakes
            // us.
            if shared.is_empty() && !shared.stopping.load(Ordering::SeqCst) {
                thread::park_timeout(second.saturating_duration_since(Instant::now()));
            }
            shared.sleeping.store(false, Ordering::SeqCst);
        }
    }
}

/// Says what was left out since the last report.
fn report(before: LeftOut, now: LeftOut) -> LeftOut {
    let suppressed = now.suppressed.wrapping_sub(before.suppressed);
    if suppressed > 0 {
        tracing::info!("{suppressed} more boot events not logged in the last second");
    }
    let dropped = now.dropped.wrapping_sub(before.dropped);
    if dropped > 0 {
        tracing::warn!("{dropped} boot events lost: the log cannot keep up");
    }
    now
}

/// Asks the kernel for the names of interfaces: they change, and this is far from the shards.
struct InterfaceNames(Option<socket2::Socket>);

impl InterfaceNames {
    fn open() -> Self {
        Self(socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).ok())
    }

    /// `None` for an interface that has gone; its events are worth a line all the same.
    fn of(&self, ifindex: u32) -> Option<String> {
        let socket = self.0.as_ref().filter(|_| ifindex != 0)?;
        rustix::net::netdevice::index_to_name(socket, ifindex).ok()
    }
}

fn write(entry: &Entry, bus: &EventBus, names: &InterfaceNames) {
    let event = &entry.event;
    let row = || Arc::new(Row::new(event, utc_now(), names.of(event.ifindex)));
    if entry.logged {
        let row = row();
        line(event.kind.level(), &row);
        bus.publish(event, || row);
    } else {
        bus.publish(event, row);
    }
}

/// The row as one log line.
pub(super) fn line(level: tracing::Level, row: &Row) {
    macro_rules! at {
        ($level:ident) => {
            tracing::event!(
                tracing::Level::$level,
                mac = row.mac.as_ref().map(tracing::field::display),
                ip = row.ip.as_ref().map(tracing::field::display),
                via = row.interface.as_ref().map(tracing::field::display),
                relay = row.relay.as_ref().map(tracing::field::display),
                arch = row.arch.as_ref().map(tracing::field::display),
                stage = row.stage.as_ref().map(tracing::field::display),
                file = row.file.as_ref().map(tracing::field::display),
                quirk = row.quirk.as_ref().map(tracing::field::display),
                lease = row.lease_seconds,
                bytes = row.bytes,
                rate = row.rate(),
                blksize = row.blksize,
                windowsize = row.windowsize,
                retransmits = row.retransmits,
                reason = row.reason,
                text = row.text,
                "{}",
                row.event
            )
        };
    }
    match level {
        tracing::Level::ERROR => at!(ERROR),
        tracing::Level::WARN => at!(WARN),
        tracing::Level::INFO => at!(INFO),
        _ => at!(DEBUG),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::leases::Hardware;

    fn sink(shared: &Arc<Shared>) -> EventSink {
        EventSink { shared: shared.clone(), shard: 0, thread: thread::current(), pushed: false }
    }

    fn ack(host: u32) -> BootEvent {
        BootEvent::new(
            Kind::Ack,
            Hardware::ethernet([2, 0, 0, 0, 0, 1]),
            Ipv4Addr::from(0x0a01_0000 + host),
        )
    }

    /// `LevelFilter::current()` is process-wide; the tests want every level on.
    fn everything() {
        let _already = tracing_subscriber::fmt()
            .with_test_writer()
            .with_max_level(LevelFilter::TRACE)
            .try_init();
    }

    #[test]
    fn beyond_the_budget_events_are_counted_and_not_queued() {
        everything();
        let shared = Arc::new(Shared::new(1, BACKLOG, EventBus::default()));
        let mut sink = sink(&shared);
        for host in 0..LINES_PER_SECOND + 7 {
            sink.emit(&ack(host));
        }
        let mut taken = 0;
        assert!(shared.drain(|entry| {
            assert!(entry.logged);
            taken += 1;
        }));
        assert_eq!(taken, LINES_PER_SECOND);
        assert_eq!(shared.left_out(), LeftOut { suppressed: 7, dropped: 0 });

        shared.refill();
        sink.emit(&ack(0));
        assert!(shared.drain(|entry| assert!(entry.logged)));
    }

    #[test]
    fn who_follows_gets_the_events_that_are_not_logged() {
        everything();
        let bus = EventBus::default();
        let _follower = bus.subscribe(None);
        let shared = Arc::new(Shared::new(1, BACKLOG, bus));
        let mut sink = sink(&shared);
        for host in 0..LINES_PER_SECOND + 7 {
            sink.emit(&ack(host));
        }
        let (mut logged, mut only_followed) = (0, 0);
        shared.drain(|entry| if entry.logged { logged += 1 } else { only_followed += 1 });
        assert_eq!((logged, only_followed), (LINES_PER_SECOND, 7));
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        everything();
        let bus = EventBus::default();
        let _follower = bus.subscribe(None);
        let shared = Arc::new(Shared::new(1, BACKLOG, bus));
        let mut sink = sink(&shared);
        for host in 0..BACKLOG as u32 + 3 {
            sink.emit(&ack(host));
        }
        assert_eq!(shared.left_out().dropped, 3);
    }

    #[test]
    fn the_thread_hands_everything_over_before_it_stops() {
        everything();
        let bus = EventBus::default();
        let mut follower = bus.subscribe(None);
        let (log, mut sinks) = EventLog::start(2, bus).unwrap();
        for sink in &mut sinks {
            for host in 0..100 {
                sink.emit(&ack(host));
            }
            sink.batch_end();
        }
        log.stop();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut count = 0;
        while runtime.block_on(follower.next()).is_some() {
            count += 1;
        }
        assert_eq!(count, 200);
    }
}
