//! What all shards share: the configuration as it is now, the images, the pool that reads them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bootstorm_protocols::tftp::{Limits, RetryPolicy, blksize_for_mtu};
use bootstorm_protocols::time::Moment;
use thiserror::Error;

use crate::config;
use crate::quirks::{Notes, Quirks};

use super::groups::Groups;
use super::images::Images;
use super::loader::{Loader, Threads};
use super::map::{Map, MapError};
use super::paths::Root;
use super::rate::RateCap;

/// A path whose MTU is unknown is an Ethernet.
const DEFAULT_MTU: u32 = 1500;
/// Bytes of chunks at least, whatever is configured: each transfer needs its own to stay while it is sent.
const MIN_BUDGET: u64 = 4 << 20;
/// The shortest time until an unanswered window is sent again. A machine room's round trips take less than a millisecond and
/// none of its clients delays an ACK on purpose, but some write to a slow disk or draw on a screen.
const MIN_RETRY: Duration = Duration::from_millis(50);
/// Bytes of an upload at most: a crash dump of a large machine fits, a full disk takes longer.
pub(super) const MAX_UPLOAD: u64 = 64 << 30;
/// Bytes of an upload's block at most: with its header it fits a receive buffer.
pub(super) const MAX_UPLOAD_BLKSIZE: u16 = 1468;
/// Blocks of an upload's window at most: a window fits the receive buffer of a socket that others share.
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
    /// A map rule is wrong.
    #[error("[tftp] map: {0}")]
    Map(#[from] MapError),
    /// No thread is left.
    #[error("cannot start the threads that read TFTP files: {0}")]
    Threads(io::Error),
}

/// One configuration, ready to be used.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) root: Root,
    pub(super) map: Map,
    pub(super) policy: RetryPolicy,
    /// Bytes a second of one transfer at most.
    client_rate: Option<u64>,
    pub(super) upload: bool,
    pub(super) max_transfers: u32,
    pub(super) max_transfers_per_client: u32,
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
                initial: config.timeout,
                min: MIN_RETRY.min(config.timeout),
                max: usual.max.max(config.timeout),
                tries: config.retries,
                total: usual.total.max(config.timeout.saturating_mul(4)),
            },
            client_rate: config.client_rate,
            upload: config.upload,
            max_transfers: config.max_transfers,
            max_transfers_per_client: config.max_transfers_per_client,
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

    /// How long a block of `len` bytes takes at least, at the rate that a client is granted.
    pub(super) fn least_gap(&self, len: u16) -> Duration {
        let nanos = |rate| u64::from(len) * 1_000_000_000 / rate;
        self.client_rate.map_or(Duration::ZERO, |rate| Duration::from_nanos(nanos(rate)))
    }

    /// What a client reached by a path of this MTU may negotiate.
    pub(super) fn limits(&self, mtu: u32, is_ipv6: bool, writes: bool) -> Limits {
        let mut limits = self.limits;
        if self.clamp_to_mtu {
            limits.max_blksize = limits.max_blksize.min(blksize_for_mtu(mtu, is_ipv6));
        }
        // A group has an IPv4 address.
        limits.multicast &= !is_ipv6;
        if writes {
            limits.max_blksize = limits.max_blksize.min(MAX_UPLOAD_BLKSIZE);
            limits.max_windowsize = limits.max_windowsize.min(MAX_UPLOAD_WINDOW);
        }
        limits
    }
}

/// The TFTP service of the whole server; each shard has a [`super::TftpShard`] on it.
#[derive(Debug)]
pub struct TftpServer {
    pub(super) service: ArcSwap<Service>,
    pub(super) images: Arc<Images>,
    pub(super) loader: Loader,
    /// The quirks of the clients, by address.
    pub(super) notes: Notes,
    /// The groups of streams.
    pub(super) groups: Groups,
    /// Transfers of all shards.
    pub(super) active: AtomicU32,
    /// Interface and MTU.
    mtus: ArcSwap<Vec<(u32, u32)>>,
    /// Interface and what it may send.
    caps: ArcSwap<Vec<(u32, RateCap)>>,
}

impl TftpServer {
    /// Opens the root, compiles the map rules and starts the threads that read files, with the privileges that the
    /// calling thread has now.
    ///
    /// # Errors
    /// [`TftpError`].
    pub fn new(config: &config::Tftp) -> Result<Arc<Self>, TftpError> {
        Self::with_threads(config, Threads::Ring)
    }

    /// Every job is done where it is asked for.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[cfg(test)]
    pub(crate) fn without_threads(config: &config::Tftp) -> Result<Arc<Self>, TftpError> {
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
            active: AtomicU32::new(0),
            mtus: ArcSwap::default(),
            caps: ArcSwap::default(),
        }))
    }

    /// Takes over a new configuration for the requests that come from now on; transfers under way are not touched.
    ///
    /// # Errors
    /// [`TftpError`]; the old configuration stays.
    pub fn reconfigure(&self, config: &config::Tftp) -> Result<(), TftpError> {
        self.service.store(Arc::new(Service::new(config)?));
        self.images.set_budget(config.image_budget.max(MIN_BUDGET));
        Ok(())
    }

    /// Says which interface (by index) has which MTU in bytes; 1500 is assumed for those not named.
    pub fn set_mtus(&self, mtus: impl IntoIterator<Item = (u32, u32)>) {
        self.mtus.store(Arc::new(mtus.into_iter().collect()));
    }

    /// Says which interface (by index) may send how many bytes a second, headers included; those not named are not limited.
    pub fn set_rates(&self, rates: impl IntoIterator<Item = (u32, u64)>) {
        let caps = rates.into_iter().map(|(ifindex, rate)| (ifindex, RateCap::new(rate)));
        self.caps.store(Arc::new(caps.collect()));
    }

    /// Whether an interface may send something at `now`, or when.
    pub(super) fn interface_ready(&self, ifindex: u32, now: Moment) -> Result<(), Moment> {
        let caps = self.caps.load();
        let cap = caps.iter().find(|(index, _)| *index == ifindex);
        cap.map_or(Ok(()), |(_, cap)| cap.ready(now))
    }

    /// An interface sends `bytes` of payload in so many datagrams.
    pub(super) fn charge_interface(&self, ifindex: u32, bytes: u64, datagrams: u64, now: Moment) {
        let caps = self.caps.load();
        if let Some((_, cap)) = caps.iter().find(|(index, _)| *index == ifindex) {
            cap.spend(bytes, datagrams, now);
        }
    }

    /// Transfers under way, over all shards.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    pub(super) fn mtu(&self, ifindex: u32) -> u32 {
        let mtus = self.mtus.load();
        mtus.iter().find(|(index, _)| *index == ifindex).map_or(DEFAULT_MTU, |(_, mtu)| *mtu)
    }
}
