//! Counters of the running server.
//!
//! Every shard, and the committer, writes its own block and nobody else's: a count is a relaxed
//! load and a relaxed store, no locked instruction. Readers (the metrics page, `bootstorm status`)
//! see each number a moment late and never torn. What the numbers are called on the metrics page
//! stands in `control/exposition.rs`.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bootstorm_net::Drops;
use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

/// A number that only grows. One writer, any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`. Only the owner of the block may call it: two writers would lose counts.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Takes over a total that is counted elsewhere, as the kernel's drops are.
    pub fn set(&self, total: u64) {
        self.0.store(total, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. One writer, any number of readers.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// The number as it is now.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The number as it was set last.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counters told apart by a small index: a message type, a reason.
#[derive(Debug)]
pub struct Counters<const N: usize>([Counter; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Counters<N> {
    /// Adds one to the counter of `index`; what lies beyond the last counter is counted in the
    /// last.
    pub fn increment(&self, index: usize) {
        self.0[index.min(N - 1)].increment();
    }

    /// The counter of `index`, for totals counted elsewhere; beyond the last it is the last.
    pub fn at(&self, index: usize) -> &Counter {
        &self.0[index.min(N - 1)]
    }

    /// All counts, by index.
    pub fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(Counter::get)
    }

    /// The sum over all indices.
    pub fn total(&self) -> u64 {
        self.values().fold(0, u64::wrapping_add)
    }
}

/// Upper bounds of the latency buckets in nanoseconds: two an octave from 1 µs (1, 1.5, 2, 3, 4, 6
/// … µs) to 8.4 s, so a quantile read from them is off by a fifth at most.
pub const LATENCY_BOUNDS: [u64; 47] = {
    let mut bounds = [0; 47];
    let mut i = 0;
    while i < bounds.len() {
        let octave = 1_000 << (i / 2);
        bounds[i] = if i % 2 == 0 { octave } else { octave / 2 * 3 };
        i += 1;
    }
    bounds
};

/// Upper bounds of the buckets that count how many leases one commit carried: powers of two.
pub const BATCH_BOUNDS: [u64; 14] = {
    let mut bounds = [0; 14];
    let mut i = 0;
    while i < bounds.len() {
        bounds[i] = 1 << i;
        i += 1;
    }
    bounds
};

/// Counters told apart by names that the configuration makes, kept over reloads. For what is
/// counted once a transfer at most: they are shared by all shards, behind a lock.
#[derive(Debug, Default)]
pub struct NamedCounters(Mutex<BTreeMap<Box<str>, u64>>);

impl NamedCounters {
    /// Adds one.
    pub fn count(&self, name: &str) {
        let mut counts = self.0.lock();
        match counts.get_mut(name) {
            Some(count) => *count = count.wrapping_add(1),
            None => drop(counts.insert(name.into(), 1)),
        }
    }

    /// All counts, by name; those of `expected` that were never counted are 0.
    pub fn values<'n>(&self, expected: impl Iterator<Item = &'n str>) -> BTreeMap<Box<str>, u64> {
        let mut counts = self.0.lock().clone();
        for name in expected {
            counts.entry(name.into()).or_default();
        }
        counts
    }
}

/// How often a value fell between two bounds. One writer, any number of readers.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    buckets: [Counter; N],
    beyond: Counter,
    sum: Counter,
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram over `bounds`, which rise.
    pub fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            buckets: std::array::from_fn(|_| Counter::default()),
            beyond: Counter::default(),
            sum: Counter::default(),
        }
    }

    /// Counts one value, in the unit of the bounds.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.buckets.get(bucket).unwrap_or(&self.beyond).increment();
        self.sum.add(value);
    }

    /// (upper bound, how many values were at most that), rising.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut total = 0u64;
        self.bounds.iter().zip(&self.buckets).map(move |(&bound, bucket)| {
            total = total.wrapping_add(bucket.get());
            (bound, total)
        })
    }

    /// How many values lay above the last bound.
    pub fn beyond(&self) -> u64 {
        self.beyond.get()
    }

    /// The sum of all values, in the unit of the bounds.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

/// A histogram of durations.
#[derive(Debug)]
pub struct Latency(Histogram<47>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new(&LATENCY_BOUNDS))
    }
}

impl Latency {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        self.0.observe(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The buckets, in nanoseconds.
    pub fn histogram(&self) -> &Histogram<47> {
        &self.0
    }
}

/// DHCP message types 1 to 18 (option 53), and 0 for BOOTP without the option.
pub const MESSAGE_TYPES: usize = 19;
/// Room for the reasons why requests are not answered.
pub const REASONS: usize = 32;
/// Room for the reasons of NAKs.
pub const NAK_REASONS: usize = 8;

/// The names of [`ShardMetrics::parse_errors`], in its order.
pub const PARSE_ERRORS: &[&str] = bootstorm_protocols::dhcpv4::ParseError::NAMES;

/// The names of [`ShardMetrics::drops`], in its order.
pub const DROPS: [&str; 12] = [
    "truncated",
    "no-buffers",
    "slots-full",
    "held-full",
    "delayed",
    "kernel-memory",
    "send-denied",
    "send-unreachable",
    "send-invalid",
    "send-no-memory",
    "send-other",
    "receive",
];

/// What one shard counts. It is the only writer.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// DHCP messages received, by message type; 0 is BOOTP.
    pub received: Counters<MESSAGE_TYPES>,
    /// DHCP replies handed to the kernel, by message type; 0 is BOOTP.
    pub replies: Counters<MESSAGE_TYPES>,
    /// DISCOVERs that were read and dropped, because too many ACKs waited for the disk, or in an
    /// overload because of what their link did not take up.
    pub discovers_refused: Counter,
    /// Requests that were not answered, by reason.
    pub silences: Counters<REASONS>,
    /// NAKs, by reason.
    pub naks: Counters<NAK_REASONS>,
    /// Datagrams that are not DHCP messages, by [`PARSE_ERRORS`].
    pub parse_errors: Counters<{ PARSE_ERRORS.len() }>,
    /// Datagrams and replies lost or held up, by [`DROPS`]. Totals of the packet engine.
    pub drops: Counters<{ DROPS.len() }>,
    /// What the kernel dropped at sockets of this shard: its exact count, and the count of steered
    /// sockets that [`bootstorm_net::KernelLoss`] puts right. Totals of the packet engine.
    pub kernel: Counters<2>,
    /// Replies that were due and could not be sent: no free slot, or the kernel refused them.
    pub send_failures: Counter,
    /// Replies that left before their `reply-delay` was over, because too many waited.
    pub undelayed: Counter,
    /// ACKs that wait for their lease to be on disk.
    pub commits_pending: Gauge,
    /// ACKs withheld because their lease could not be written.
    pub commits_failed: Counter,
    /// Addresses that answered a ping when they were about to be offered.
    pub addresses_in_use: Counter,
    /// Addresses that were to be pinged before an OFFER, and could not be.
    pub ping_failures: Counter,
    /// Variables that statements set and their leases had no room for.
    pub variables_lost: Counter,
    /// From reading a request to handing its reply to the kernel, the wait for the disk included.
    pub reply_latency: Latency,
    /// What the shard's TFTP transfers count.
    pub tftp: TftpMetrics,
}

impl ShardMetrics {
    /// Takes over the totals that the shard's packet engine counts.
    pub fn record_drops(&self, drops: &Drops) {
        let totals = [
            drops.truncated,
            drops.no_buffers,
            drops.slots_full,
            drops.held_full,
            drops.delayed,
            drops.starved,
            drops.send.denied,
            drops.send.unreachable,
            drops.send.invalid,
            drops.send.no_memory,
            drops.send.other,
            drops.receive,
        ];
        for (index, total) in totals.into_iter().enumerate() {
            self.drops.at(index).set(total);
        }
        self.kernel.at(0).set(drops.kernel);
        self.kernel.at(1).set(drops.steered);
    }

    /// The kernel's drops as [`bootstorm_net::KernelLoss::total`] wants them; the other reasons are
    /// left at 0.
    pub fn kernel_drops(&self) -> Drops {
        Drops {
            kernel: self.kernel.at(0).get(),
            steered: self.kernel.at(1).get(),
            ..Drops::default()
        }
    }
}

/// What the TFTP transfers of one shard count.
#[derive(Debug, Default)]
pub struct TftpMetrics {
    /// Read and write requests received.
    pub requests: Counter,
    /// Requests refused with an ERROR packet, and why is in the log.
    pub refused: Counter,
    /// Transfers that ended with their last block acknowledged.
    pub finished: Counter,
    /// Transfers given up: timed out, or ended by the client with an ERROR.
    pub failed: Counter,
    /// Bytes of file data sent, each retransmission counted again.
    pub bytes: Counter,
    /// Blocks sent again.
    pub retransmits: Counter,
    /// Transfers under way.
    pub active: Gauge,
    /// Requests that were granted a smaller window because the client's last transfers lost much.
    pub windows_narrowed: Counter,
    /// Requests that were given a place among those who listen to a stream.
    pub listeners: Counter,
    /// Streams under way.
    pub streams: Gauge,
    /// Why requests and transfers did not end with a file, by reason.
    pub reasons: Counters<REASONS>,
}

/// What the committer of leases counts. It is the only writer.
#[derive(Debug)]
pub struct CommitMetrics {
    /// Leases made durable.
    pub leases: Counter,
    /// Batches that could not be written.
    pub failures: Counter,
    /// Leases a batch.
    pub batch_size: Histogram<14>,
    /// From closing a batch to its being on disk.
    pub latency: Latency,
}

impl Default for CommitMetrics {
    fn default() -> Self {
        Self {
            leases: Counter::default(),
            failures: Counter::default(),
            batch_size: Histogram::new(&BATCH_BOUNDS),
            latency: Latency::default(),
        }
    }
}

/// What the thread of hooks counts. It is the only writer.
#[derive(Debug, Default)]
pub struct HookMetrics {
    /// Programs that were started.
    pub started: Counter,
    /// Programs that could not be started, or ended with another status than 0.
    pub failed: Counter,
    /// Programs that were killed because they took too long.
    pub killed: Counter,
    /// What was dropped because too many waited. A total of the queue.
    pub dropped: Counter,
}

/// One shard's own block, which it alone writes.
#[derive(Debug)]
pub struct OwnMetrics {
    all: Arc<Metrics>,
    shard: usize,
}

impl Deref for OwnMetrics {
    type Target = ShardMetrics;

    fn deref(&self) -> &ShardMetrics {
        // `Metrics::own` makes none beyond the last block.
        &self.all.shards[self.shard]
    }
}

/// All counters of one server.
#[derive(Debug)]
pub struct Metrics {
    shards: Box<[CachePadded<ShardMetrics>]>,
    /// The committer's.
    pub commits: CachePadded<CommitMetrics>,
    /// Of the thread of hooks.
    pub hooks: CachePadded<HookMetrics>,
    /// TFTP transfers that a quirk of the client's firmware changed, by its name.
    pub quirks: NamedCounters,
}

impl Metrics {
    /// Counters for `shards` shards, all zero.
    pub fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
            commits: CachePadded::default(),
            hooks: CachePadded::default(),
            quirks: NamedCounters::default(),
        }
    }

    /// The block of one shard. `None` beyond the last.
    pub fn shard(&self, shard: usize) -> Option<&ShardMetrics> {
        self.shards.get(shard).map(|padded| &**padded)
    }

    /// The block of one shard, for the shard to keep. `None` beyond the last.
    pub fn own(self: &Arc<Self>, shard: usize) -> Option<OwnMetrics> {
        (shard < self.shards.len()).then(|| OwnMetrics { all: self.clone(), shard })
    }

    /// The blocks of all shards, in order.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = &ShardMetrics> {
        self.shards.iter().map(|padded| &**padded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_bounds_rise_two_an_octave() {
        assert_eq!(&LATENCY_BOUNDS[..5], &[1_000, 1_500, 2_000, 3_000, 4_000]);
        assert!(LATENCY_BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(LATENCY_BOUNDS[46], 8_388_608_000);
    }

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        let latency = Latency::default();
        latency.observe(Duration::from_nanos(1_000));
        latency.observe(Duration::from_nanos(1_001));
        latency.observe(Duration::from_secs(3_600));
        let cumulative: Vec<_> = latency.histogram().cumulative().collect();
        assert_eq!(cumulative[0], (1_000, 1));
        assert_eq!(cumulative[1], (1_500, 2));
        assert_eq!(cumulative[46], (8_388_608_000, 2));
        assert_eq!(latency.histogram().beyond(), 1);
        assert_eq!(latency.histogram().sum(), 2_001 + 3_600_000_000_000);
    }

    #[test]
    fn drops_of_the_packet_engine_are_told_apart() {
        let metrics = ShardMetrics::default();
        metrics.record_drops(&Drops { truncated: 3, receive: 4, steered: 5, ..Drops::default() });
        assert_eq!(
            metrics.drops.values().collect::<Vec<_>>(),
            [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4]
        );
        assert_eq!(metrics.kernel_drops(), Drops { steered: 5, ..Drops::default() });
    }

    #[test]
    fn names_are_counted_and_expected_ones_begin_at_zero() {
        let counters = NamedCounters::default();
        counters.count("gone");
        counters.count("gone");
        let values = counters.values(["here", "gone"].into_iter());
        let values: Vec<(&str, u64)> =
            values.iter().map(|(name, &count)| (&**name, count)).collect();
        assert_eq!(values, [("gone", 2), ("here", 0)]);
    }

    #[test]
    fn an_index_beyond_the_last_counter_counts_in_the_last() {
        let counters = Counters::<4>::default();
        counters.increment(1);
        counters.increment(9);
        assert_eq!(counters.values().collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert_eq!(counters.total(), 2);
    }
}
