//! The leases as the control thread uses them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bootstorm_protocols::time::Moment;

use crate::config::Config;
use crate::control::status::{LeaseAccess, LeaseCounts, Usage};
use crate::leases::{Damage, Lease, Leases, NotDurable, WriteFailure};

/// The leases, and the pools of the configuration in force.
pub(super) struct LeasesAndPools {
    pub(super) leases: Arc<Leases>,
    pub(super) config: Arc<ArcSwap<Config>>,
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

    fn damage(&self, now: Moment) -> Option<Damage> {
        self.leases.damage(now)
    }

    fn write_failure(&self) -> Option<WriteFailure> {
        self.leases.write_failure()
    }
}
