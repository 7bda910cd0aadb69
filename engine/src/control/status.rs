//! What the control thread reads of the running server, and the answer to `status`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bootstorm_net::KernelLoss;
use bootstorm_protocols::time::Moment;
use crossbeam::channel::Sender;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Command;
use super::lease_row::Clocks;
use crate::config::{Config, PoolId};
use crate::event::bus::EventBus;
use crate::explain::{Asked, Explanation};
use crate::leases::{Damage, Lease, NotDurable, WriteFailure};
use crate::log::LogCounts;
use crate::metrics::{Metrics, ShardMetrics};

/// The running server as the control thread sees it. The thread that owns the server makes it.
pub struct Running {
    /// The configuration file, as given on the command line.
    pub config_path: PathBuf,
    /// The configuration that holds; a reload swaps it.
    pub config: Arc<ArcSwap<Config>>,
    /// All leases.
    pub leases: Arc<dyn LeaseAccess>,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Where events can be followed.
    pub events: EventBus,
    /// What the log leaves out.
    pub log: LogCounts,
    /// Where to ask for a reload.
    pub commands: Sender<Command>,
    /// What else there is to know; the owner swaps it when it changes.
    pub facts: Arc<ArcSwap<Facts>>,
    /// Puts the kernel's drop counters right; `None` where `/proc` does not tell.
    pub kernel_loss: Option<KernelLoss>,
}

/// What the control thread does with leases.
pub trait LeaseAccess: Send + Sync {
    /// Up to `limit` leases by rising address, from `from` on.
    fn page(&self, from: IpAddr, limit: usize, now: Moment) -> Vec<Lease>;

    /// Gives an address back to its pool and waits until that is durable. Returns the lease as it
    /// is then; `None` when nobody holds the address.
    ///
    /// # Errors
    /// [`NotDurable`] when it could not be written; the lease stands then.
    fn release(&self, ip: Ipv4Addr, now: Moment) -> Result<Option<Lease>, NotDurable>;

    /// How full each pool is, and how many leases are in which state.
    fn usage(&self, now: Moment) -> Usage;

    /// What would be answered to a machine, or to its last message, and why.
    ///
    /// # Errors
    /// What is not said well, or that no message is known.
    fn explain(&self, asked: &Asked) -> Result<Explanation, String>;

    /// What the lease store has lost, as far as it is known; `None` when it is whole.
    fn damage(&self, now: Moment) -> Option<Damage>;

    /// Why the lease store cannot be written; `None` when it can.
    fn write_failure(&self) -> Option<WriteFailure>;
}

/// How full each pool is, and how many leases are in which state.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// (pool, its addresses, those that a new machine can get)
    pub pools: Vec<(PoolId, u64, u64)>,
    /// Leases by state.
    pub counts: LeaseCounts,
}

/// What only the owner of the server knows.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When the server started.
    pub started: Timestamp,
    /// The packet engine in use: `uring` or `mmsg`.
    pub engine: &'static str,
    /// The interfaces that the configuration wants to be served, by name.
    pub interfaces: Vec<InterfaceStatus>,
    /// Where the metrics are served.
    pub metrics: Option<SocketAddr>,
    /// True when nothing is sent or stored.
    pub dry_run: bool,
    /// When a reload was last tried, and how it went.
    pub last_reload: Option<(Timestamp, Result<String, String>)>,
}

impl Facts {
    /// The names of the interfaces that are served at this moment.
    pub fn served(&self) -> Vec<String> {
        let served = self.interfaces.iter().filter(|interface| interface.served);
        served.map(|interface| interface.name.clone()).collect()
    }
}

/// One interface that the configuration wants to be served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// This host has it.
    pub present: bool,
    /// It is up and has a carrier.
    pub up: bool,
    /// Requests on it are answered.
    pub served: bool,
    /// Why requests, or only those of direct clients, are not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its IPv4 addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// The largest IP datagram it sends, in bytes; 0 when it is not there.
    pub mtu: u16,
}

/// The answer to `status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Status {
    /// The server's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started: RFC 3339, UTC.
    pub started: String,
    /// Seconds since.
    pub uptime_seconds: i64,
    /// Its configuration file.
    pub config: String,
    /// When the configuration was last reloaded, if it was: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reloaded: Option<String>,
    /// Why the last reload failed, if it did; the configuration before it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload_error: Option<String>,
    /// The packet engine in use.
    pub engine: String,
    /// Number of shards.
    pub shards: usize,
    /// Names of the interfaces that are served at this moment.
    pub interfaces: Vec<String>,
    /// Every interface that the configuration wants to be served.
    pub interface_states: Vec<InterfaceStatus>,
    /// Where the metrics are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// True when nothing is sent or stored.
    pub dry_run: bool,
    /// Every pool.
    pub pools: Vec<PoolStatus>,
    /// How many leases are in which state.
    pub leases: LeaseCounts,
    /// What the lease store has lost; absent when it is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_store_damage: Option<DamageStatus>,
    /// Why leases cannot be written, so that no client gets an ACK; absent when they can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_store_failure: Option<FailureStatus>,
    /// What was counted since the start, over all shards.
    pub totals: Totals,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PoolStatus {
    /// First and last address, `10.1.4.0-10.1.255.250`.
    pub range: String,
    /// The subnet that holds it.
    pub subnet: String,
    /// Its addresses.
    pub size: u64,
    /// Those that a new machine can get.
    pub free: u64,
}

/// How many leases are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct LeaseCounts {
    /// Offered and not requested yet.
    pub offered: u64,
    /// Held by a machine.
    pub active: u64,
    /// Given back or run out, and remembered for the machine that had it.
    pub idle: u64,
    /// In quarantine.
    pub declined: u64,
}

/// What the lease store has lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct DamageStatus {
    /// What was found since the start; absent when an earlier start found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// Until when addresses are probed before they are offered, because clients may hold leases
    /// that the store has lost: RFC 3339, UTC. Absent when they hold none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes_until: Option<String>,
    /// Lease records that could not be read at the start. Their addresses are in quarantine.
    pub unreadable_records: u64,
}

/// The lease store cannot be written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct FailureStatus {
    /// When the first write failed: RFC 3339, UTC.
    pub since: String,
    /// What the last one failed of.
    pub error: String,
}

/// Sums over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Totals {
    /// DHCP messages received.
    pub received: u64,
    /// DHCP replies sent.
    pub replies: u64,
    /// Requests not answered on purpose.
    pub silences: u64,
    /// Datagrams that are no DHCP messages.
    pub malformed: u64,
    /// Datagrams that the kernel dropped before they were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_drops: Option<u64>,
    /// Replies that could not be sent.
    pub send_failures: u64,
    /// ACKs that wait for the disk.
    pub commits_pending: u64,
    /// ACKs withheld because the disk failed.
    pub commits_failed: u64,
    /// TFTP transfers under way.
    pub tftp_active: u64,
    /// TFTP transfers that ended well.
    pub tftp_finished: u64,
    /// TFTP transfers that did not.
    pub tftp_failed: u64,
    /// Bytes of files sent.
    pub tftp_bytes: u64,
}

impl Running {
    /// The server at this moment.
    pub fn status(&self) -> Status {
        let facts = self.facts.load();
        let now = Timestamp::now();
        let (reloaded, reload_error) = match &facts.last_reload {
            None => (None, None),
            Some((at, outcome)) => (Some(seconds(*at)), outcome.as_ref().err().cloned()),
        };
        let (pools, leases) = self.occupancy();
        let clocks = Clocks::read();
        let damage = self.leases.damage(clocks.now).map(|damage| DamageStatus {
            found: damage.found,
            probes_until: damage.until.map(|until| clocks.text(until)),
            unreadable_records: damage.unreadable,
        });
        let failure = self.leases.write_failure().map(|failure| FailureStatus {
            since: clocks.text(failure.since),
            error: failure.error,
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: seconds(facts.started),
            uptime_seconds: now.duration_since(facts.started).as_secs(),
            config: self.config_path.display().to_string(),
            reloaded,
            reload_error,
            engine: facts.engine.to_owned(),
            shards: self.metrics.shards().len(),
            interfaces: facts.served(),
            interface_states: facts.interfaces.clone(),
            metrics: facts.metrics.map(|address| format!("http://{address}/metrics")),
            dry_run: facts.dry_run,
            pools,
            leases,
            lease_store_damage: damage,
            lease_store_failure: failure,
            totals: self.totals(),
        }
    }

    /// How full each pool is, and how many leases are in which state.
    pub fn occupancy(&self) -> (Vec<PoolStatus>, LeaseCounts) {
        let config = self.config.load();
        let usage = self.leases.usage(bootstorm_net::now());
        let pools = usage
            .pools
            .iter()
            .filter_map(|&(pool, size, free)| {
                // A reload may have swapped the configuration since the leases were counted.
                let pool = config.dhcp.pools.get(pool.index())?;
                let subnet = config.dhcp.subnets.get(pool.subnet.index())?;
                Some(PoolStatus {
                    range: format!("{}-{}", pool.range.0, pool.range.1),
                    subnet: subnet.prefix.to_string(),
                    size,
                    free,
                })
            })
            .collect();
        (pools, usage.counts)
    }

    /// Datagrams that the kernel dropped before any shard read them, since the start; `None` when
    /// it cannot be told.
    pub fn kernel_drops(&self) -> Option<u64> {
        let shards = self.metrics.shards().map(ShardMetrics::kernel_drops);
        self.kernel_loss.as_ref()?.total(shards).ok()
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals { kernel_drops: self.kernel_drops(), ..Totals::default() };
        for shard in self.metrics.shards() {
            totals.received += shard.received.total();
            totals.replies += shard.replies.total();
            totals.silences += shard.silences.total();
            totals.malformed += shard.parse_errors.total();
            totals.send_failures += shard.send_failures.get();
            totals.commits_pending += shard.commits_pending.get();
            totals.commits_failed += shard.commits_failed.get();
            totals.tftp_active += shard.tftp.active.get();
            totals.tftp_finished += shard.tftp.finished.get();
            totals.tftp_failed += shard.tftp.failed.get();
            totals.tftp_bytes += shard.tftp.bytes.get();
        }
        totals
    }
}

fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}
