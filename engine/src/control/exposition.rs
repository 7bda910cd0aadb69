//! The metrics page: Prometheus text, version 0.0.4.

use std::fmt::{Display, Write};

use super::status::Running;
use crate::dhcp::{NakReason, Silence};
use crate::metrics::{Counters, DROPS, Histogram, PARSE_ERRORS, ShardMetrics};

/// The media type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names of the DHCP message types by number (option 53); 0 is BOOTP.
const MESSAGE_TYPES: [&str; crate::metrics::MESSAGE_TYPES] = [
    "bootp",
    "discover",
    "offer",
    "request",
    "decline",
    "ack",
    "nak",
    "release",
    "inform",
    "forcerenew",
    "leasequery",
    "leaseunassigned",
    "leaseunknown",
    "leaseactive",
    "bulkleasequery",
    "leasequerydone",
    "activeleasequery",
    "leasequerystatus",
    "tls",
];

/// The whole page, as the counters stand now.
pub fn page(running: &Running) -> String {
    let mut page = Page::default();
    server(&mut page, running);
    dhcp(&mut page, running);
    hooks(&mut page, running);
    tftp(&mut page, running);
    commits(&mut page, running);
    pools(&mut page, running);
    page.0
}

fn server(page: &mut Page, running: &Running) {
    let facts = running.facts.load();
    page.gauge("bootstorm_build_info", "The running server; always 1.");
    page.sample(&[("version", env!("CARGO_PKG_VERSION")), ("engine", facts.engine)], 1);
    page.gauge("bootstorm_start_time_seconds", "When the server started, in seconds since 1970.");
    page.sample(&[], facts.started.as_second());
    page.gauge("bootstorm_shards", "Number of shards.");
    page.sample(&[], running.metrics.shards().len());
    if let Some((at, outcome)) = &facts.last_reload {
        page.gauge(
            "bootstorm_config_last_reload_successful",
            "Whether the last reload took the new configuration over.",
        );
        page.sample(&[], u8::from(outcome.is_ok()));
        page.gauge(
            "bootstorm_config_last_reload_time_seconds",
            "When a reload was last tried, in seconds since 1970.",
        );
        page.sample(&[], at.as_second());
    }
    let left_out = running.log.left_out();
    page.counter(
        "bootstorm_log_events_suppressed_total",
        "Boot events not logged because there were too many in one second.",
    );
    page.sample(&[], left_out.suppressed);
    page.counter(
        "bootstorm_log_events_dropped_total",
        "Boot events lost because the log could not keep up.",
    );
    page.sample(&[], left_out.dropped);
}

fn dhcp(page: &mut Page, running: &Running) {
    let shards = || shards(running);
    page.counter("bootstorm_dhcp_received_total", "DHCP messages received, by message type.");
    for (shard, metrics) in shards() {
        page.counts(&shard, "type", &MESSAGE_TYPES, &metrics.received);
    }
    page.counter("bootstorm_dhcp_replies_total", "DHCP replies sent, by message type.");
    for (shard, metrics) in shards() {
        page.counts(&shard, "type", &MESSAGE_TYPES, &metrics.replies);
    }
    page.counter(
        "bootstorm_dhcp_silences_total",
        "Requests that were not answered, and should not be, by reason.",
    );
    let reasons: Vec<&str> = Silence::ALL.iter().map(|silence| silence.name()).collect();
    for (shard, metrics) in shards() {
        page.counts(&shard, "reason", &reasons, &metrics.silences);
    }
    page.counter("bootstorm_dhcp_naks_total", "NAKs sent, by reason.");
    let reasons: Vec<&str> = NakReason::ALL.iter().map(|reason| reason.name()).collect();
    for (shard, metrics) in shards() {
        page.counts(&shard, "reason", &reasons, &metrics.naks);
    }
    page.each(
        running,
        "bootstorm_dhcp_discovers_refused_total",
        "DISCOVERs that were read and dropped in an overload.",
        |shard| shard.discovers_refused.get(),
    );
    page.each(
        running,
        "bootstorm_dhcp_undelayed_total",
        "Replies that left before their reply-delay was over, because too many waited.",
        |shard| shard.undelayed.get(),
    );
    page.counter(
        "bootstorm_dhcp_malformed_total",
        "Datagrams on the server port that are no DHCP messages, by what is wrong with them.",
    );
    for (shard, metrics) in shards() {
        page.counts(&shard, "error", PARSE_ERRORS, &metrics.parse_errors);
    }
    page.counter("bootstorm_drops_total", "Datagrams and replies lost or held up, by reason.");
    for (shard, metrics) in shards() {
        page.counts(&shard, "reason", &DROPS, &metrics.drops);
    }
    if let Some(drops) = running.kernel_drops() {
        page.counter(
            "bootstorm_kernel_receive_drops_total",
            "Datagrams that the kernel dropped because a receive buffer was full, before they were read.",
        );
        page.sample(&[], drops);
    }
    page.each(
        running,
        "bootstorm_send_failures_total",
        "Replies that were due and could not be sent.",
        |shard| shard.send_failures.get(),
    );
    page.gauge("bootstorm_commits_pending", "ACKs that wait for their lease to be on disk.");
    for (shard, metrics) in shards() {
        page.sample(&[("shard", &shard)], metrics.commits_pending.get());
    }
    page.each(
        running,
        "bootstorm_commits_failed_total",
        "ACKs withheld because their lease could not be written.",
        |shard| shard.commits_failed.get(),
    );
    page.each(
        running,
        "bootstorm_addresses_in_use_total",
        "Addresses that answered a ping when they were about to be offered.",
        |shard| shard.addresses_in_use.get(),
    );
    page.each(
        running,
        "bootstorm_ping_failures_total",
        "Addresses that were to be pinged before they were offered, and could not be.",
        |shard| shard.ping_failures.get(),
    );
    page.each(
        running,
        "bootstorm_lease_variables_dropped_total",
        "Variables that statements set and their leases had no room for.",
        |shard| shard.variables_lost.get(),
    );
    page.family(
        "bootstorm_reply_latency_seconds",
        "histogram",
        "From reading a DHCP request to handing its reply to the kernel.",
    );
    for (shard, metrics) in shards() {
        page.histogram(&[("shard", &shard)], metrics.reply_latency.histogram(), NANOSECONDS);
    }
}

fn hooks(page: &mut Page, running: &Running) {
    page.family(
        "bootstorm_hooks_total",
        "counter",
        "Programs that the configuration has run, by what became of them.",
    );
    let hooks = &running.metrics.hooks;
    for (result, count) in [
        ("started", &hooks.started),
        ("failed", &hooks.failed),
        ("killed", &hooks.killed),
        ("dropped", &hooks.dropped),
    ] {
        page.sample(&[("result", result)], count.get());
    }
}

fn tftp(page: &mut Page, running: &Running) {
    let requests = "TFTP read and write requests received.";
    page.each(running, "bootstorm_tftp_requests_total", requests, |s| s.tftp.requests.get());
    let refused = "TFTP requests refused with an ERROR.";
    page.each(running, "bootstorm_tftp_refused_total", refused, |s| s.tftp.refused.get());
    let finished = "TFTP transfers that ended with their last block acknowledged.";
    page.each(running, "bootstorm_tftp_finished_total", finished, |s| s.tftp.finished.get());
    let failed = "TFTP transfers given up or ended by the client.";
    page.each(running, "bootstorm_tftp_failed_total", failed, |s| s.tftp.failed.get());
    page.counter(
        "bootstorm_tftp_reasons_total",
        "Why TFTP requests and transfers did not end with a file.",
    );
    for (shard, metrics) in shards(running) {
        page.counts(&shard, "reason", &crate::tftp::REASONS, &metrics.tftp.reasons);
    }
    let bytes = "Bytes of file data sent by TFTP, retransmissions included.";
    page.each(running, "bootstorm_tftp_sent_bytes_total", bytes, |s| s.tftp.bytes.get());
    let again = "TFTP blocks sent again.";
    page.each(running, "bootstorm_tftp_retransmits_total", again, |s| s.tftp.retransmits.get());
    page.counter(
        "bootstorm_tftp_quirks_total",
        "TFTP transfers that a quirk of the machine's firmware changed, by quirk.",
    );
    let config = running.config.load();
    let names = config.tftp.iter().flat_map(|tftp| tftp.quirks.iter()).map(|quirk| &*quirk.name);
    for (name, count) in running.metrics.quirks.values(names) {
        page.sample(&[("quirk", &name)], count);
    }
    let narrowed = "TFTP requests granted a smaller window after transfers that lost much.";
    page.each(running, "bootstorm_tftp_windows_narrowed_total", narrowed, |s| {
        s.tftp.windows_narrowed.get()
    });
    let listeners = "TFTP requests given a place among those who listen to a multicast stream.";
    page.each(running, "bootstorm_tftp_listeners_total", listeners, |s| s.tftp.listeners.get());
    page.gauge("bootstorm_tftp_streams", "Multicast TFTP streams under way.");
    for (shard, metrics) in shards(running) {
        page.sample(&[("shard", &shard)], metrics.tftp.streams.get());
    }
    page.gauge("bootstorm_tftp_active_transfers", "TFTP transfers under way.");
    for (shard, metrics) in shards(running) {
        page.sample(&[("shard", &shard)], metrics.tftp.active.get());
    }
}

fn commits(page: &mut Page, running: &Running) {
    let commits = &running.metrics.commits;
    page.counter("bootstorm_committed_leases_total", "Changes of leases made durable.");
    page.sample(&[], commits.leases.get());
    page.counter("bootstorm_commit_failures_total", "Batches of leases that could not be written.");
    page.sample(&[], commits.failures.get());
    page.gauge("bootstorm_lease_store_failing", "1 when leases cannot be written: no ACK leaves.");
    page.sample(&[], u8::from(running.leases.write_failure().is_some()));
    let damage = running.leases.damage(bootstorm_net::now());
    page.gauge(
        "bootstorm_lease_store_damaged",
        "1 when leases are missing in the store, or cannot be read: the disk has lost them.",
    );
    page.sample(&[], u8::from(damage.is_some()));
    page.gauge(
        "bootstorm_lease_store_unreadable_records",
        "Lease records that could not be read at the start; their addresses are in quarantine.",
    );
    page.sample(&[], damage.map_or(0, |damage| damage.unreadable));
    page.family("bootstorm_commit_batch_leases", "histogram", "Changes of leases in one batch.");
    page.histogram(&[], &commits.batch_size, 1.0);
    page.family(
        "bootstorm_commit_latency_seconds",
        "histogram",
        "From closing a batch of leases to its being on disk.",
    );
    page.histogram(&[], commits.latency.histogram(), NANOSECONDS);
}

fn pools(page: &mut Page, running: &Running) {
    let (pools, counts) = running.occupancy();
    page.gauge("bootstorm_pool_addresses", "Addresses of a pool.");
    for pool in &pools {
        page.sample(&[("pool", &pool.range), ("subnet", &pool.subnet)], pool.size);
    }
    page.gauge("bootstorm_pool_free_addresses", "Addresses of a pool that a new machine can get.");
    for pool in &pools {
        page.sample(&[("pool", &pool.range), ("subnet", &pool.subnet)], pool.free);
    }
    page.gauge("bootstorm_leases", "Leases by state.");
    let states = [
        ("offered", counts.offered),
        ("active", counts.active),
        ("idle", counts.idle),
        ("declined", counts.declined),
    ];
    for (state, count) in states {
        page.sample(&[("state", state)], count);
    }
}

fn shards(running: &Running) -> impl Iterator<Item = (String, &ShardMetrics)> {
    running.metrics.shards().enumerate().map(|(shard, metrics)| (shard.to_string(), metrics))
}

/// Units of one second in the buckets of a latency histogram.
const NANOSECONDS: f64 = 1e9;

/// The text as it grows. Writing to a `String` cannot fail.
#[derive(Default)]
struct Page(String, &'static str);

impl Page {
    /// Begins a family: all its samples follow before the next begins.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.1 = name;
        let _ok = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn counter(&mut self, name: &'static str, help: &str) {
        self.family(name, "counter", help);
    }

    fn gauge(&mut self, name: &'static str, help: &str) {
        self.family(name, "gauge", help);
    }

    /// A counter that every shard has one of.
    fn each(
        &mut self,
        running: &Running,
        name: &'static str,
        help: &str,
        value: fn(&ShardMetrics) -> u64,
    ) {
        self.counter(name, help);
        for (shard, metrics) in shards(running) {
            self.sample(&[("shard", &shard)], value(metrics));
        }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// One sample for each name.
    fn counts<const N: usize>(
        &mut self,
        shard: &str,
        label: &str,
        names: &[&str],
        counters: &Counters<N>,
    ) {
        for (name, count) in names.iter().zip(counters.values()) {
            self.sample(&[("shard", shard), (label, name)], count);
        }
    }

    fn histogram<const N: usize>(
        &mut self,
        labels: &[(&str, &str)],
        histogram: &Histogram<N>,
        scale: f64,
    ) {
        let mut total = 0;
        for (bound, count) in histogram.cumulative() {
            total = count;
            self.line("_bucket", labels, Some(&(bound as f64 / scale).to_string()), count);
        }
        total += histogram.beyond();
        self.line("_bucket", labels, Some("+Inf"), total);
        self.line("_sum", labels, None, histogram.sum() as f64 / scale);
        self.line("_count", labels, None, total);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl Display,
    ) {
        let Self(text, name) = self;
        let _ok = write!(text, "{name}{suffix}");
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut open = '{';
        for (label, value) in labels {
            let _ok = write!(text, "{open}{label}=\"");
            for character in value.chars() {
                match character {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    other => text.push(other),
                }
            }
            text.push('"');
            open = ',';
        }
        if open == ',' {
            text.push('}');
        }
        let _ok = writeln!(text, " {value}");
    }
}
