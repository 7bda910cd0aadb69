//! The leases as the control thread uses them.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bootstorm_protocols::time::Moment;

use crate::config::Config;
use crate::control::lease_row::Clocks;
use crate::control::status::{LeaseAccess, LeaseCounts, Usage};
use crate::explain::{Asked, Explanation, LeasesFrom, Subject};
use crate::leases::{Damage, Lease, Leases, NotDurable, WriteFailure};
use crate::recent::{Received, Recent};
use crate::shard::dhcp_steering;
use crate::snapshot::SharedSnapshot;

/// The leases, and the pools of the configuration in force.
pub(super) struct LeasesAndPools {
    pub(super) leases: Arc<Leases>,
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) config_path: PathBuf,
    pub(super) snapshot: SharedSnapshot,
    /// What each shard received last.
    pub(super) recent: Arc<[Arc<Recent>]>,
}

impl LeasesAndPools {
    /// The last message of a machine, the DISCOVER of its transaction, and the shard.
    fn last(&self, asked: &Asked) -> Result<(Received, Option<Received>, usize), String> {
        let hardware = asked.hardware()?;
        let found = self.recent.iter().enumerate().filter_map(|(shard, recent)| {
            let (last, before) = recent.last(hardware.address())?;
            Some((last, before, shard))
        });
        found.max_by_key(|(last, ..)| last.at).ok_or_else(|| {
            format!(
                "no message of {hardware} is kept: none came since the server started, or too many \
                 others since; look with tcpdump whether its packets reach this host"
            )
        })
    }
}

impl LeaseAccess for LeasesAndPools {
    fn page(&self, from: IpAddr, limit: usize, now: Moment) -> Vec<Lease> {
        self.leases.page(from, limit, now)
    }

    fn release(&self, ip: Ipv4Addr, now: Moment) -> Result<Option<Lease>, NotDurable> {
        self.leases.release(ip, now)
    }

    fn usage(&self, _now: Moment) -> Usage {
        let config = self.config.load();
        let pools = config.dhcp.subnets.iter().flat_map(|subnet| subnet.pools.iter().copied());
        let mut usage = Usage::default();
        for pool in pools {
            // A reload may have taken the pool away meanwhile.
            let Some(counts) = self.leases.pool_counts(pool) else { continue };
            usage.pools.push((pool, counts.size, counts.unused + counts.idle));
            usage.counts = LeaseCounts {
                offered: usage.counts.offered + counts.offered,
                active: usage.counts.active + counts.active,
                idle: usage.counts.idle + counts.idle,
                declined: usage.counts.declined + counts.declined,
            };
        }
        usage
    }

    fn explain(&self, asked: &Asked) -> Result<Explanation, String> {
        let last = if asked.last { Some(self.last(asked)?) } else { None };
        let shard = match &last {
            Some((.., shard)) => *shard,
            None => {
                let shards = u16::try_from(self.recent.len()).unwrap_or(u16::MAX);
                dhcp_steering(shards, 0).shard_of(&asked.message(None)?).into()
            }
        };
        let clocks = Clocks::read();
        let snapshot = self.snapshot.read();
        let mut subject = Subject {
            config: self.config_path.display().to_string(),
            dhcp: &snapshot.config.dhcp,
            files: &snapshot.config.sources,
            interfaces: Cow::Borrowed(&snapshot.interfaces),
            state_dir: &snapshot.config.server.state_dir,
            leases: self.leases.view(shard),
            from: LeasesFrom::Server,
            now: clocks.now,
            time: &|moment| clocks.text(moment),
        };
        match last {
            Some((last, before, _)) => subject.received(&last, before.as_ref()),
            None => subject.asked(asked),
        }
    }

    fn damage(&self, now: Moment) -> Option<Damage> {
        self.leases.damage(now)
    }

    fn write_failure(&self) -> Option<WriteFailure> {
        self.leases.write_failure()
    }
}
