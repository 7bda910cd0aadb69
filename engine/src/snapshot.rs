//! What all shards share and a reload replaces: the configuration and this host's interfaces.

use std::sync::Arc;

use parking_lot::{ArcRwLockReadGuard, RawRwLock, RwLock};

use crate::config::Config;
use crate::interfaces::Interfaces;
use crate::leases::Leases;
use crate::tftp::{Prepared, TftpServer};

/// What stays the same while one batch of datagrams is decided.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Arc<Config>,
    /// The interfaces.
    pub interfaces: Interfaces,
}

/// The current snapshot, behind a read-write lock. A shard holds a read guard while it works on a
/// batch. So a reload, which replaces the snapshot and the pools that its ids refer to, never meets
/// a shard in the middle of a decision.
#[derive(Clone, Debug)]
pub struct SharedSnapshot(Arc<RwLock<Snapshot>>);

/// Read access to the snapshot; it does not change until the guard is dropped.
pub type SnapshotGuard = ArcRwLockReadGuard<RawRwLock, Snapshot>;

impl SharedSnapshot {
    /// Shares `snapshot`.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(RwLock::new(snapshot)))
    }

    /// Locks the snapshot for reading.
    pub fn read(&self) -> SnapshotGuard {
        RwLock::read_arc(&self.0)
    }

    /// Changes the snapshot between two batches of every shard. Datagrams that arrive meanwhile
    /// wait in their sockets.
    pub fn change<R>(&self, change: impl FnOnce(&mut Snapshot) -> R) -> R {
        change(&mut self.0.write())
    }

    /// Puts `next` in force between two batches of every shard: configuration, pools and TFTP
    /// together, so that no decision sees a mix of both. `tftp` is the running service, and what
    /// was prepared for it. Returns the configuration that was in force.
    pub fn replace(
        &self,
        next: Snapshot,
        leases: &Leases,
        tftp: Option<(&TftpServer, Option<Prepared>)>,
    ) -> Arc<Config> {
        let pools = leases.prepare(next.interfaces.addresses(), &next.config.dhcp);
        let before = self.change(|snapshot| {
            pools.swap();
            if let Some((server, prepared)) = tftp {
                if let Some(prepared) = prepared {
                    server.apply(prepared);
                }
                tell_tftp(server, &next.config, &next.interfaces);
            }
            std::mem::replace(snapshot, next).config
        });
        pools.count();
        before
    }
}

/// Tells TFTP the MTU of each interface and the rate it may send at.
pub(crate) fn tell_tftp(server: &TftpServer, config: &Config, interfaces: &Interfaces) {
    server.set_mtus(interfaces.mtus());
    let rates = interfaces.all().filter_map(|interface| {
        let rate = config.tftp.as_ref()?.rate_of(&interface.name)?;
        Some((interface.index, rate))
    });
    server.set_rates(rates);
}
