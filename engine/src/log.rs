//! The log: lines for operators or for machines, and the thread that writes the boot events of all shards.
//!
//! A shard never formats and never waits. It puts events into a bounded queue of its own; at full load it only counts
//! them, and the log thread says once a second how many were not logged.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, Ordering::Relaxed};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogLevel};
use crate::event::BootEvent;
use crate::event::bus::EventBus;
use crate::event::row::Row;
use crate::metrics::Counter;

/// Boot events a shard may log in one second; more are counted.
const LINES_PER_SECOND: u32 = 50;
/// Events that may wait between a shard and the log thread (about 1.5 MB a shard).
const BACKLOG: usize = 8192;
/// Events taken from one shard before the next has its turn.
const TURN: usize = 1024;
/// How long the log thread lets events gather before it looks again.
const GATHER: Duration = Duration::from_millis(5);

/// Sends all log lines of the process to standard error. Only the first call has an effect.
pub fn init(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // The journal puts its own time before each line.
    let lines = lines(io::stderr, format, level, colours, !is_journal(io::stderr()));
    // A second call finds the log set up already, and leaves it. Libraries that use the `log` crate are heard, too.
    let _already = lines.try_init();
}

/// Whether `stream` leads to the journal. The variable alone does not tell: children inherit it, and their output may go
/// elsewhere (systemd.exec(5), JOURNAL_STREAM).
fn is_journal(stream: impl AsFd) -> bool {
    let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(stream)
        .is_ok_and(|stat| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn lines<W>(
    writer: W,
    format: LogFormat,
    level: LevelFilter,
    colours: bool,
    timed: bool,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Of libraries only what goes wrong, unless everything is wanted.
    let others = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    // A failing disk is said once, by the committer; the store would say it at every try.
    let store = if level >= LevelFilter::DEBUG { others } else { LevelFilter::OFF };
    let filter = format!("{others},fjall={store},lsm_tree={store},bootstorm={level}");
    let lines = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_env_filter(EnvFilter::new(filter))
        .with_target(false)
        .with_ansi(colours);
    match format {
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_timer(Utc).finish()),
        LogFormat::Human if timed => Box::new(lines.with_timer(Local).finish()),
        LogFormat::Human => Box::new(lines.without_time().finish()),
    }
}

struct Local;

impl FormatTime for Local {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", jiff::ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S%.3f"))
    }
}

struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&utc_now())
    }
}

fn utc_now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// One shard's way to the log thread.
#[derive(Debug)]
struct Lane {
    queue: ArrayQueue<Entry>,
    /// Lines the shard may still cause this second. The log thread refills it; a race costs or gains one line.
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
    lanes: Box<[CachePadded<Lane>]>,
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
    /// Notes an event. Never waits and never allocates.
    pub fn emit(&mut self, event: BootEvent) {
        // `start` makes one sink for each lane.
        let lane = &self.shared.lanes[self.shard];
        let wanted = event.kind.level() <= LevelFilter::current();
        let budget = if wanted { lane.budget.load(Relaxed) } else { 0 };
        let logged = budget > 0;
        if logged {
            lane.budget.store(budget - 1, Relaxed);
        } else if wanted {
            lane.suppressed.increment();
        }
        if !logged && !self.shared.bus.is_followed() {
            return;
        }
        match lane.queue.push(Entry { event, logged }) {
            Ok(()) => self.pushed = true,
            Err(_) => lane.dropped.increment(),
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
    fn new(shards: usize, bus: EventBus) -> Self {
        let lane = || Lane {
            queue: ArrayQueue::new(BACKLOG),
            budget: AtomicU32::new(LINES_PER_SECOND),
            suppressed: Counter::default(),
            dropped: Counter::default(),
        };
        Self {
            lanes: (0..shards).map(|_| CachePadded::new(lane())).collect(),
            bus,
            sleeping: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    fn left_out(&self) -> LeftOut {
        self.lanes.iter().fold(LeftOut::default(), |sum, lane| LeftOut {
            suppressed: sum.suppressed.wrapping_add(lane.suppressed.get()),
            dropped: sum.dropped.wrapping_add(lane.dropped.get()),
        })
    }

    /// Takes what waits, a turn for each shard. True when there was anything.
    fn drain(&self, mut take: impl FnMut(Entry)) -> bool {
        let mut any = false;
        for lane in &self.lanes {
            for _ in 0..TURN {
                let Some(entry) = lane.queue.pop() else { break };
                any = true;
                take(entry);
            }
        }
        any
    }

    fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.queue.is_empty())
    }

    fn refill(&self) {
        for lane in &self.lanes {
            lane.budget.store(LINES_PER_SECOND, Relaxed);
        }
    }
}

impl EventLog {
    /// Starts the log thread for `shards` shards, and gives each its sink.
    pub fn start(shards: usize, bus: EventBus) -> io::Result<(Self, Vec<EventSink>)> {
        let shared = Arc::new(Shared::new(shards, bus));
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
            // A shard that pushed before it saw the flag is seen here; one that pushes later wakes us.
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
fn line(level: tracing::Level, row: &Row) {
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
    use crate::event::{Detail, FileName, Kind};
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
        let shared = Arc::new(Shared::new(1, EventBus::default()));
        let mut sink = sink(&shared);
        for host in 0..LINES_PER_SECOND + 7 {
            sink.emit(ack(host));
        }
        let mut taken = 0;
        assert!(shared.drain(|entry| {
            assert!(entry.logged);
            taken += 1;
        }));
        assert_eq!(taken, LINES_PER_SECOND);
        assert_eq!(shared.left_out(), LeftOut { suppressed: 7, dropped: 0 });

        shared.refill();
        sink.emit(ack(0));
        assert!(shared.drain(|entry| assert!(entry.logged)));
    }

    #[test]
    fn who_follows_gets_the_events_that_are_not_logged() {
        everything();
        let bus = EventBus::default();
        let _follower = bus.subscribe(None);
        let shared = Arc::new(Shared::new(1, bus));
        let mut sink = sink(&shared);
        for host in 0..LINES_PER_SECOND + 7 {
            sink.emit(ack(host));
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
        let shared = Arc::new(Shared::new(1, bus));
        let mut sink = sink(&shared);
        for host in 0..BACKLOG as u32 + 3 {
            sink.emit(ack(host));
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
                sink.emit(ack(host));
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

    #[derive(Clone, Default)]
    struct Page(Arc<parking_lot::Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while `say` runs.
    fn written(format: LogFormat, level: LevelFilter, say: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let lines = lines(move || writer.clone(), format, level, false, false);
        tracing::subscriber::with_default(lines, say);
        let text = page.0.lock().clone();
        String::from_utf8(text).unwrap()
    }

    /// The log line of an ACK.
    fn logged(format: LogFormat) -> String {
        let detail =
            Detail::Answer { file: FileName::new(b"ipxe.efi"), lease_seconds: 3600, reason: "" };
        let row = Row::new(&BootEvent { detail, ..ack(7) }, String::new(), Some("eth1".to_owned()));
        written(format, LevelFilter::INFO, || line(tracing::Level::INFO, &row))
    }

    #[test]
    fn of_libraries_only_what_goes_wrong_is_heard() {
        let text = written(LogFormat::Human, LevelFilter::DEBUG, || {
            tracing::info!(target: "fjall", "compacted");
            tracing::warn!(target: "fjall", "slow");
            tracing::debug!(target: "bootstorm_net", "detail");
        });
        assert_eq!(text, " WARN slow\nDEBUG detail\n");
    }

    #[test]
    fn the_store_is_not_heard_beside_the_committer() {
        let text = written(LogFormat::Human, LevelFilter::INFO, || {
            tracing::error!(target: "fjall::journal", "cannot flush");
            tracing::error!(target: "lsm_tree", "cannot write");
            tracing::error!(target: "hyper", "broken");
        });
        assert_eq!(text, "ERROR broken\n");
    }

    #[test]
    fn one_line_says_who_got_what() {
        assert_eq!(
            logged(LogFormat::Human),
            " INFO ACK mac=02:00:00:00:00:01 ip=10.1.0.7 via=eth1 file=ipxe.efi lease=3600\n"
        );
        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!((&json["message"], &json["mac"]), (&"ACK".into(), &"02:00:00:00:00:01".into()));
        assert_eq!((&json["lease"], &json["level"]), (&3600.into(), &"INFO".into()));
        assert!(json["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{json}");
    }
}
