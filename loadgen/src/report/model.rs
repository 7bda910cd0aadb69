//! The report as data: what `--json` writes, `compare` reads, and the page and the summary show.
//!
//! Times are milliseconds unless a name says otherwise. [`SCHEMA`] changes its number when a reader
//! of the old form would misread the new one; fields may be added without that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The form of the JSON document.
pub const SCHEMA: &str = "bootstorm-load/1";

/// One run, whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the program that wrote it.
    pub version: String,
    /// What it all comes to.
    pub verdict: Verdict,
    /// Somebody ended the run before its time; what is here holds for the part that ran.
    pub interrupted: bool,
    /// The limits that were asked for, and what was found.
    pub slo: Vec<SloRow>,
    /// Why the run says nothing about the server: faults of the generator or its host. Empty in a
    /// valid run.
    pub invalid_because: Vec<String>,
    /// What a reader must know to read the figures right.
    pub notes: Vec<String>,
    /// What was run.
    pub run: Run,
    /// What became of the machines.
    pub machines: Machines,
    /// Why machines gave up, most frequent first.
    pub giveups: Vec<GiveUpRow>,
    /// DHCP, counted in messages.
    pub dhcp: Dhcp,
    /// TFTP, counted in transfers and bytes.
    pub tftp: Transfers,
    /// HTTP, likewise.
    pub http: Transfers,
    /// Files that were fetched.
    pub files: Vec<FileRow>,
    /// Quantiles by what was timed: `offer` (DISCOVER to OFFER), `ack` (REQUEST to ACK), `answer`
    /// (both together), `dora` (DISCOVER to ACK), `transfer`, `http`, `boot` (end of the power-on
    /// self test to up). Each from the moment the first message was meant to be sent, however late
    /// it was sent and however often it was repeated.
    pub latency: BTreeMap<String, Quantiles>,
    /// The run over time.
    pub timeline: Timeline,
    /// What the server did wrong, by kind; empty for a correct server.
    pub violations: Vec<ViolationRow>,
    /// Where the packets around the first violations were written (pcapng).
    pub capture: Option<String>,
    /// How the generator itself performed.
    pub generator: Generator,
    /// What `find-limit` found; the rest of the report is then of one trial. `None` in reports of
    /// other commands.
    #[serde(default)]
    pub limit: Option<Limit>,
}

/// What a search for a limit found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// The highest load that was met.
    pub load: u32,
    /// `exchanges/s` or `machines at once`.
    pub unit: String,
    /// Whether the server can do more.
    pub bound: Bound,
    /// It was met again and again.
    pub confirmed: bool,
    /// What kept the search from higher loads, where it is a lower bound.
    pub bottleneck: Option<String>,
}

/// What is known about higher loads than the one that was found.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The server missed the limits there.
    Exact,
    /// Nothing: the server may do more.
    Lower,
}

/// What a run comes to.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every limit held and the server did nothing wrong.
    Met,
    /// A limit was missed, or the server did something wrong.
    Missed,
    /// The generator was not able to tell.
    #[default]
    Invalid,
}

/// One limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SloRow {
    /// As in `--slo`: `giveups`, `p99`, `boot-p99` and so on.
    pub name: String,
    /// The limit as written, such as `<= 500ms`.
    pub limit: String,
    /// What was found, written in the same unit; a dash when nothing was measured.
    pub found: String,
    /// Whether it held.
    pub met: bool,
}

/// What was run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    /// Name of the scenario.
    pub scenario: String,
    /// What the scenario plays, in a sentence.
    pub summary: String,
    /// The command line.
    pub command: String,
    /// Whether machines begin by a schedule or as others finish; `None` in reports of versions that
    /// did not say.
    #[serde(rename = "loop", default)]
    pub load_loop: Option<Loop>,
    /// The seed: the same one makes the same storm.
    pub seed: u64,
    /// A number made of the whole schedule: equal for equal storms.
    pub schedule: String,
    /// The server's address.
    pub server: String,
    /// The interface, where one was named.
    pub interface: Option<String>,
    /// Relay agents' addresses; empty for direct clients.
    pub relays: Vec<String>,
    /// `uring` or `mmsg`.
    pub engine: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// What decides when a machine begins.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loop {
    /// A schedule, whatever the server does: a stall is in the times of all that came meanwhile.
    Open,
    /// Another machine has finished: a slow server is asked less, and a stall is counted once for
    /// each machine that waits.
    Closed,
}

impl Loop {
    /// What it is and what that means for the times, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Loop::Open => "open loop: machines begin by a schedule, whatever the server does",
            Loop::Closed => {
                "closed loop: a machine begins when another has finished, so a slow server is \
                 asked less"
            }
        }
    }
}

/// What became of the machines at the end of the run. `total` = `up` + `given_up` + `unfinished` +
/// `not_started`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machines {
    /// Machines of the scenario; attackers are not counted.
    pub total: u64,
    /// Came all the way up.
    pub up: u64,
    /// Gave up, as their firmware does.
    pub given_up: u64,
    /// Were still at it when the run ended.
    pub unfinished: u64,
    /// Had not been powered on when the run ended.
    pub not_started: u64,
    /// Boots begun, with those after a power cut.
    pub boots: u64,
    /// Boots that failed and were begun again, as the firmware does.
    pub retried_boots: u64,
    /// Seconds from the end of the first power-on self test until the last machine was up; `None`
    /// unless all came up.
    pub all_up_seconds: Option<f64>,
}

/// How often machines gave up for one reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GiveUpRow {
    /// In a few words: `no OFFER`, `no ACK`, `NAK`, `TFTP silent: boot.img`.
    pub reason: String,
    /// Machines.
    pub count: u64,
}

/// DHCP messages.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Dhcp {
    /// DISCOVERs sent, repeated ones included.
    pub discovers: u64,
    /// OFFERs received that were waited for.
    pub offers: u64,
    /// REQUESTs sent, renewals and repeated ones included.
    pub requests: u64,
    /// ACKs received that were waited for.
    pub acks: u64,
    /// NAKs received.
    pub naks: u64,
    /// DECLINEs sent.
    pub declines: u64,
    /// RELEASEs sent.
    #[serde(default)]
    pub releases: u64,
    /// Addresses confirmed for machines that remembered them (INIT-REBOOT).
    #[serde(default)]
    pub reboots: u64,
    /// INFORMs answered.
    #[serde(default)]
    pub informs: u64,
    /// Leases renewed.
    pub renewals: u64,
    /// Leases that ran out because no renewal was answered.
    pub expired: u64,
    /// Messages sent again because no answer came in time.
    pub retransmissions: u64,
    /// Answers to a message that had been given up or answered already.
    pub late: u64,
    /// Complete exchanges, from DISCOVER to ACK.
    pub exchanges: u64,
    /// Exchanges begun that found no end (an answer missing) by the end of the run or of the
    /// machine's patience.
    pub unanswered: u64,
    /// Complete exchanges a second, over the time in which exchanges were begun.
    pub exchanges_per_second: f64,
    /// Messages of an attacker, on top of all of the above.
    pub attack_messages: u64,
}

/// Transfers of one protocol.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Transfers {
    /// Begun, probes for the size included.
    pub begun: u64,
    /// Complete.
    pub complete: u64,
    /// Ended by an error, or given up.
    pub failed: u64,
    /// Most at the same time.
    pub most_at_once: u64,
    /// Bytes of files received in order.
    pub bytes: u64,
    /// Blocks that came once more (TFTP).
    #[serde(default)]
    pub duplicate_blocks: u64,
    /// Requests and ACKs sent again because nothing came in time.
    pub retransmissions: u64,
    /// From the first request to the last byte, in seconds.
    pub seconds: f64,
    /// Million bytes a second over that time.
    pub megabytes_per_second: f64,
}

/// One file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileRow {
    /// Name asked for.
    pub name: String,
    /// Bytes; `None` when no transfer was complete.
    pub size: Option<u64>,
    /// Complete transfers.
    pub transfers: u64,
    /// SHA-256 of the first complete transfer, hexadecimal.
    pub sha256: Option<String>,
    /// What the bytes were compared with.
    pub compared_with: Reference,
}

/// What the bytes of a file are compared with.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    /// A local copy of the file.
    LocalCopy,
    /// Only with what other machines were sent.
    EachOther,
}

/// Quantiles of one kind of time, in milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many were timed.
    pub count: u64,
    /// Shortest.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 of 100 are not longer.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// Longest.
    pub max: f64,
    /// How many failed: given up, cut off or refused, so that there was no time to measure.
    #[serde(default)]
    pub failed: u64,
    /// Quantiles of all of them, with those that failed as infinitely late; `None` in reports of
    /// versions that did not count failures.
    #[serde(default)]
    pub with_failures: Option<WithFailures>,
}

/// Quantiles in milliseconds in which what failed is infinitely late; `None` is infinite.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct WithFailures {
    /// Median.
    pub p50: Option<f64>,
    /// 90 of 100 are not longer.
    pub p90: Option<f64>,
    /// 99 of 100.
    pub p99: Option<f64>,
    /// 999 of 1,000.
    pub p999: Option<f64>,
    /// Longest.
    pub max: Option<f64>,
}

impl Quantiles {
    /// Whether anything was timed or failed.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.failed == 0
    }

    /// The quantiles in which what failed is infinitely late. In a report of a version that did not
    /// count failures they are those of what was timed.
    pub fn with_failures(&self) -> WithFailures {
        self.with_failures.clone().unwrap_or(WithFailures {
            p50: Some(self.p50),
            p90: Some(self.p90),
            p99: Some(self.p99),
            p999: Some(self.p999),
            max: Some(self.max),
        })
    }
}

/// The run over time, in buckets of equal length. Every list has one entry for each bucket.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Timeline {
    /// Length of a bucket in seconds.
    pub bucket_seconds: f64,
    /// Machines in each phase at the end of the bucket.
    pub phases: Phases,
    /// DISCOVERs and REQUESTs sent in the bucket.
    pub sent: Vec<u64>,
    /// OFFERs and ACKs received.
    pub answered: Vec<u64>,
    /// Messages and requests sent again, DHCP and TFTP.
    pub retransmissions: Vec<u64>,
    /// Bytes of files received.
    pub bytes: Vec<u64>,
    /// Machines that came up.
    pub came_up: Vec<u64>,
    /// Machines that gave up.
    pub gave_up: Vec<u64>,
    /// Upper bounds of the rows of `latency`, in milliseconds, rising; the last row has no bound.
    pub latency_bounds: Vec<f64>,
    /// DHCP answers by the time they took: a row for each bound and one more, an entry for each
    /// bucket in which the answer came.
    pub latency: Vec<Vec<u64>>,
}

/// Machines by phase at the end of each bucket.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Phases {
    /// Not powered on, or in their power-on self test.
    pub off: Vec<u64>,
    /// Wait for an OFFER.
    pub discovering: Vec<u64>,
    /// Have an offer, wait for the ACK.
    pub requesting: Vec<u64>,
    /// Load files.
    pub loading: Vec<u64>,
    /// Up.
    pub up: Vec<u64>,
    /// Given up.
    pub given_up: Vec<u64>,
}

/// What the server did wrong, one kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ViolationRow {
    /// Kind, in kebab case: `duplicate-address`, `content`, …
    pub kind: String,
    /// What that means, in a sentence.
    pub meaning: String,
    /// How often.
    pub count: u64,
    /// The first ones.
    pub first: Vec<Example>,
}

/// One violation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Example {
    /// Seconds since the run began.
    pub at_seconds: f64,
    /// Number of the machine.
    pub machine: u32,
    /// Its hardware address.
    pub mac: String,
    /// What was seen, and what was expected.
    pub detail: String,
}

/// Latency of the generator itself: answers of a bare responder on loopback, measured before the
/// run. Times are milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OwnLatency {
    /// How many answers.
    pub answers: u64,
    /// Median.
    pub p50: f64,
    /// 99 of 100 are not longer.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

/// How the generator itself performed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Generator {
    /// Things done later than 100 ms after their time.
    pub late_actions: u64,
    /// Things done at a time of their own.
    pub timed_actions: u64,
    /// Longest delay of one, in milliseconds.
    pub worst_delay: f64,
    /// 999 of 1,000 were not later than this, in milliseconds.
    pub p999_delay: f64,
    /// Share of the run in which its thread was running, 0 to 1.
    pub busy: f64,
    /// Seconds in which its thread wanted to run and another ran on its core.
    pub waited_for_cpu_seconds: f64,
    /// Datagrams that the kernel dropped because the generator did not read them in time.
    pub kernel_drops: u64,
    /// Datagrams that could not be sent.
    pub send_errors: u64,
    /// Datagrams received that belong to no machine.
    pub strays: u64,
    /// HTTP fetches that waited more than 100 ms for a connection of the generator.
    #[serde(default)]
    pub late_fetches: u64,
    /// The longest such wait, in milliseconds.
    #[serde(default)]
    pub worst_fetch_wait: f64,
    /// What answers take without a server, by the same packet engine; `None` where it was not
    /// measured.
    #[serde(default)]
    pub own_latency: Option<OwnLatency>,
    /// Resident memory at the end, in MiB.
    pub memory_mib: f64,
}
