//! How long a client has an address.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::time::Moment;

use super::exchange::Exchange;
use super::reply::Reply;
use crate::config::{Date, LeaseTime, Parameter, Permit, ScopeChain};
use crate::leases::ShardLeases;

impl<'a> Exchange<'a> {
    /// How long the client may have an address whose scopes these are.
    pub(super) fn lease_time(&self, chain: &ScopeChain<'a>, cap: Option<LeaseTime>) -> LeaseTime {
        chain.lease_time_for(self.message.lease_time().map(LeaseTime::from_seconds), cap)
    }

    /// When the lease that a reply tells of ends, which begins now.
    pub(super) fn expiry(&self, reply: &Reply<'_>) -> Moment {
        let lease = LeaseTime::from_seconds(reply.lease_seconds);
        lease.duration().map_or(Moment::NEVER, |duration| self.now + duration)
    }

    /// How long a BOOTP client has an address.
    pub(super) fn bootp_lease(&self, chain: &ScopeChain<'a>, address: Ipv4Addr) -> LeaseTime {
        if self.reservation.address == Some(address) {
            return LeaseTime::INFINITE;
        }
        let time = chain.rare(Parameter::BootpLeaseTime, |settings| settings.bootp_lease_time);
        let end = chain.rare(Parameter::BootpLeaseCutoff, |settings| settings.bootp_lease_cutoff);
        match end.zip(self.wall) {
            Some((Date(end), wall)) => {
                let left = u64::from(end).saturating_sub(wall).max(1);
                LeaseTime::from_seconds(left.try_into().unwrap_or(u32::MAX))
            }
            None => time.unwrap_or(LeaseTime::INFINITE),
        }
    }

    /// The longest lease that the pool of an address gives now, where its fill or a date bounds it:
    /// in a full pool a client keeps the lease that it has, and gets a short one anew.
    pub(super) fn longest(&self, address: Ipv4Addr, leases: &ShardLeases) -> Option<LeaseTime> {
        let used = self.dhcp.used;
        let threshold = Parameter::AdaptiveThreshold;
        if !used.dates && used.parameters & threshold.bit() == 0 {
            return None;
        }
        let id = self.dhcp.pool_of(address)?;
        let ends = self.dhcp.pool(id).deny.iter().filter_map(|permit| match *permit {
            Permit::After(time) => Some(time.saturating_sub(self.wall?).max(1)),
            _ => None,
        });
        let ends =
            ends.min().map(|left| LeaseTime::from_seconds(left.try_into().unwrap_or(u32::MAX)));
        let chain = self.chain(Some(address));
        let threshold = chain.rare(threshold, |settings| settings.adaptive_threshold);
        let is_full = |threshold: u8| {
            let counts = leases.pool_counts(id)?;
            let taken = counts.active + counts.declined;
            Some(taken * 100 / counts.size.max(1) >= u64::from(threshold))
        };
        let bounded = threshold.filter(|percent| (1..100).contains(percent)).and_then(is_full);
        let shortened = bounded.filter(|is_full| *is_full).map(|_| {
            let own = self.own_at(address).filter(|own| own.is_held());
            let left = own.map_or(Duration::ZERO, |own| own.left_at(self.now));
            let left = LeaseTime::from_seconds(left.as_secs().try_into().unwrap_or(u32::MAX));
            left.max(chain.least_lease_time())
        });
        ends.into_iter().chain(shortened).min()
    }
}
