//! What all shards share: the current configuration, the images, the threads that read files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bootstorm_protocols::tftp::{Limits, RetryPolicy, blksize_for_mtu};
use bootstorm_protocols::time::Moment;
use thiserror::Error;

use crate::config;
use crate::quirks::{Notes, Quirks};

use super::admission::{Admission, MaxTransfers};
use super::groups::Groups;
use super::images::Images;
use super::loader::{Loader, Threads};
use super::map::{Map, MapError};
use super::paths::Root;
use super::rate::RateCap;
use super::transfers::Transfer;

/// The MTU of an interface whose MTU is unknown: Ethernet's.
const DEFAULT_MTU: u32 = 1500;
/// The smallest image budget in bytes, whatever is configured: a chunk has to stay in memory while
/// transfers send it.
const MIN_BUDGET: u64 = 4 << 20;
/// Bytes of an upload at most: enough for the crash dump of a large machine.
pub(super) const MAX_UPLOAD: u64 = 64 << 30;
/// The largest block of an upload in bytes: with its header it fits a receive buffer.
pub(super) const MAX_UPLOAD_BLKSIZE: u16 = 1468;
/// The largest window of an upload in blocks: a window fits the receive buffer of a socket, which
/// other transfers use as well.
pub(super) const MAX_UPLOAD_WINDOW: u16 = 16;

/// Why the service cannot start, or cannot take over a new configuration.
#[derive(Debug, Error)]
pub enum TftpError {
    /// The root cannot be opened.
    #[error("TFTP root {}: {error}; create it, or name another in [tftp] root", .path.display())]
    Root {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A map rule is invalid.
    #[error("[tftp] map: {0}")]
    Map(#[from] MapError),
    /// The system gives no more threads.
    #[error("cannot start the threads that read TFTP files: {0}")]
    Threads(io::Error),
}

/// One configuration: root opened, map rules compiled.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) root: Root,
    pub(super) map: Map,
    /// Without quirks.
    policy: RetryPolicy,
    /// Bytes a second of one transfer at most.
    client_rate: Option<u64>,
    pub(super) upload: config::UploadMode,
    pub(super) max_transfers: MaxTransfers,
    pub(super) quirks: Quirks,
    pub(super) adaptive_windowsize: bool,
    pub(super) multicast: Option<config::Multicast>,
    limits: Limits,
    clamp_to_mtu: bool,
}

impl Service {
    fn new(config: &config::Tftp) -> Result<Self, TftpError> {
        let root = Root::open(&config.root, config.case_insensitive)
            .map_err(|error| TftpError::Root { path: config.root.clone(), error })?;
        let usual = RetryPolicy::default();
        Ok(Self {
            root,
            map: Map::new(&config.map)?,
            policy: RetryPolicy {
                repeats_first: usual.repeats_first,
                initial: config.timeout,
                min: config.min_retry,
                max: usual.max.max(config.timeout),
                tries: config.retries,
                total: usual.total.max(config.timeout.saturating_mul(4)),
            },
            client_rate: config.client_rate,
            upload: config.upload,
            max_transfers: MaxTransfers {
                all: config.max_transfers,
                per_client: config.max_transfers_per_client,
            },
            quirks: config.quirks.clone(),
            adaptive_windowsize: config.adaptive_windowsize,
            limits: Limits {
                max_blksize: config.max_blksize,
                max_windowsize: config.max_windowsize,
                multicast: config.multicast.is_some(),
            },
            multicast: config.multicast,
            clamp_to_mtu: config.clamp_to_mtu,
        })
    }

    /// The retry policy of a transfer.
    pub(super) fn policy(&self, transfer: &Transfer) -> RetryPolicy {
        let policy = self.policy.at_least(transfer.min_retry);
        if transfer.single_port { policy.first_on_request() } else { policy }
    }

    /// The shortest interval of a transfer without quirks.
    pub(super) fn min_retry(&self) -> Duration {
        self.policy.min
    }

    /// The shortest time between two blocks of `len` bytes, at the rate that a client is granted.
    pub(super) fn least_gap(&self, len: u16) -> Duration {
        let nanos = |rate| u64::from(len) * 1_000_000_000 / rate;
        self.client_rate.map_or(Duration::ZERO, |rate| Duration::from_nanos(nanos(rate)))
    }

    /// What a client may negotiate that is reached through an interface with this MTU in bytes.
    pub(super) fn limits(&self, mtu: u32, is_ipv6: bool, writes: bool) -> Limits {
        let mut limits = self.limits;
        if self.clamp_to_mtu {
            limits.max_blksize = limits.max_blksize.min(blksize_for_mtu(mtu, is_ipv6));
        }
        // RFC 2090 knows IPv4 groups only.
        limits.multicast &= !is_ipv6;
        if writes {
            limits.max_blksize = limits.max_blksize.min(MAX_UPLOAD_BLKSIZE);
            limits.max_windowsize = limits.max_windowsize.min(MAX_UPLOAD_WINDOW);
        }
        limits
    }
}

/// A new configuration whose root is open and whose rules are compiled.
#[derive(Debug)]
pub struct Prepared {
    service: Arc<Service>,
    image_budget: u64,
}

/// The TFTP service of the whole server; each shard has a [`super::TftpShard`] on it.
#[derive(Debug)]
pub struct TftpServer {
    pub(super) service: ArcSwap<Service>,
    pub(super) images: Arc<Images>,
    pub(super) loader: Loader,
    /// The quirks of clients, by address, as DHCP found them.
    pub(super) notes: Notes,
    /// The multicast groups in use.
    pub(super) groups: Groups,
    pub(super) admission: Admission,
    /// Index and MTU in bytes of each interface.
    mtus: ArcSwap<Vec<(u32, u32)>>,
    /// Index and rate limit of each interface that has one.
    caps: ArcSwap<Vec<(u32, RateCap)>>,
}

impl TftpServer {
    /// Opens the root, compiles the map rules and starts the threads that read files, with the
    /// privileges of the calling thread.
    ///
    /// # Errors
    /// [`TftpError`].
    pub fn new(config: &config::Tftp) -> Result<Arc<Self>, TftpError> {
        Self::with_threads(config, Threads::Ring)
    }

    /// A server without threads, for a simulation: every job is done by the thread that submits it,
    /// so that a run can be repeated.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn without_threads(config: &config::Tftp) -> Result<Arc<Self>, TftpError> {
        Self::with_threads(config, Threads::None)
    }

    pub(super) fn with_threads(
        config: &config::Tftp,
        threads: Threads,
    ) -> Result<Arc<Self>, TftpError> {
        let service = ArcSwap::from_pointee(Service::new(config)?);
        let images = Arc::new(Images::new(config.image_budget.max(MIN_BUDGET)));
        let loader = Loader::new(threads, Arc::clone(&images)).map_err(TftpError::Threads)?;
        Ok(Arc::new(Self {
            service,
            images,
            loader,
            notes: Notes::default(),
            groups: Groups::default(),
            admission: Admission::default(),
            mtus: ArcSwap::default(),
            caps: ArcSwap::default(),
        }))
    }

    /// Opens and compiles what a new configuration needs. Changes nothing.
    ///
    /// # Errors
    /// [`TftpError`].
    pub fn prepare(config: &config::Tftp) -> Result<Prepared, TftpError> {
        let service = Arc::new(Service::new(config)?);
        Ok(Prepared { service, image_budget: config.image_budget.max(MIN_BUDGET) })
    }

    /// Uses a new configuration for all later requests. Transfers under way keep theirs.
    pub(crate) fn apply(&self, prepared: Prepared) {
        self.service.store(prepared.service);
        self.images.set_budget(prepared.image_budget);
    }

    /// Sets the MTU in bytes of each interface, by index. It is 1500 for those not named.
    pub(crate) fn set_mtus(&self, mtus: impl IntoIterator<Item = (u32, u32)>) {
        self.mtus.store(Arc::new(mtus.into_iter().collect()));
    }

    /// Sets the rate limit of each interface, by index, in bytes a second with headers. Those not
    /// named are not limited.
    pub(crate) fn set_rates(&self, rates: impl IntoIterator<Item = (u32, u64)>) {
        let caps = rates.into_iter().map(|(ifindex, rate)| (ifindex, RateCap::new(rate)));
        self.caps.store(Arc::new(caps.collect()));
    }

    /// Whether an interface may send at `now`; if not, when it may.
    pub(super) fn interface_ready(&self, ifindex: u32, now: Moment) -> Result<(), Moment> {
        let caps = self.caps.load();
        let cap = caps.iter().find(|(index, _)| *index == ifindex);
        cap.map_or(Ok(()), |(_, cap)| cap.ready(now))
    }

    /// Counts `bytes` of payload in so many datagrams against the interface's rate.
    pub(super) fn charge_interface(&self, ifindex: u32, bytes: u64, datagrams: u64, now: Moment) {
        let caps = self.caps.load();
        if let Some((_, cap)) = caps.iter().find(|(index, _)| *index == ifindex) {
            cap.spend(bytes, datagrams, now);
        }
    }

    /// Transfers under way, over all shards.
    pub fn active(&self) -> u32 {
        self.admission.all()
    }

    pub(super) fn mtu(&self, ifindex: u32) -> u32 {
        let mtus = self.mtus.load();
        mtus.iter().find(|(index, _)| *index == ifindex).map_or(DEFAULT_MTU, |(_, mtu)| *mtu)
    }
}
