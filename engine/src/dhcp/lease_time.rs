//! How long a client has an address.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::time::Moment;

use super::exchange::Exchange;
use super::reply::Reply;
use crate::config::{
    Date, LeaseTerm, LeaseTime, LeaseTimeBy, Parameter, Permit, ScopeChain, Settings,
};
use crate::leases::ShardLeases;

impl<'a> Exchange<'a> {
    /// How long the client may have an address whose scopes these are.
    pub(super) fn lease_time(&self, chain: &ScopeChain<'a>, cap: Option<LeaseTerm>) -> LeaseTerm {
        chain.lease_time_for(self.message.lease_time().map(LeaseTime::from_seconds), cap)
    }

    /// When the lease that a reply tells of ends, which begins now.
    pub(super) fn expiry(&self, reply: &Reply<'_>) -> Moment {
        let lease = LeaseTime::from_seconds(reply.lease_seconds);
        lease.duration().map_or(Moment::NEVER, |duration| self.now + duration)
    }

    /// How long a BOOTP client has an address.
    pub(super) fn bootp_lease(&self, chain: &ScopeChain<'a>, address: Ipv4Addr) -> LeaseTerm {
        let for_ever = LeaseTerm { time: LeaseTime::INFINITE, by: LeaseTimeBy::Bootp };
        if self.reservation.address == Some(address) {
            return for_ever;
        }
        let time = chain.rare(Parameter::BootpLeaseTime, |settings| settings.bootp_lease_time);
        let end = chain.rare(Parameter::BootpLeaseCutoff, |settings| settings.bootp_lease_cutoff);
        match end.zip(self.wall) {
            Some((Date(end), wall)) => lasting(
                u64::from(end).saturating_sub(wall).max(1),
                Parameter::BootpLeaseCutoff.into(),
            ),
            None => time
                .map_or(for_ever, |time| LeaseTerm { time, by: Parameter::BootpLeaseTime.into() }),
        }
    }

    /// The longest lease that the pool of an address gives now, where its fill or a date bounds it:
    /// in a full pool a client keeps the lease that it has, and gets a short one anew.
    pub(super) fn longest(&self, address: Ipv4Addr, leases: &ShardLeases) -> Option<LeaseTerm> {
        if !self.dhcp.used.dates && !self.dhcp.uses(Parameter::AdaptiveThreshold) {
            return None;
        }
        let id = self.place_of(address).pool?;
        let ends = self.dhcp.pool(id).deny.iter().filter_map(|permit| match *permit {
            Permit::After(time) => {
                let left = time.saturating_sub(self.wall?).max(1);
                Some(lasting(left, LeaseTimeBy::After(time)))
            }
            _ => None,
        });
        let chain = self.chain(Some(address));
        let get = |settings: &Settings<'a>| settings.adaptive_threshold;
        let threshold = chain.rare(Parameter::AdaptiveThreshold, get);
        let is_full = |threshold: u8| {
            let ranges = self.dhcp.ranges_with(id).iter();
            let counts = ranges.filter_map(|range| leases.pool_counts(*range));
            let (taken, size) = counts.fold((0, 0), |(taken, size), counts| {
                (taken + counts.active + counts.declined, size + counts.size)
            });
            taken * 100 / size.max(1) >= u64::from(threshold)
        };
        let bounds = |percent: &u8| (1..100).contains(percent) && is_full(*percent);
        let shortened = threshold.filter(bounds).map(|_| {
            let own = self.own_at(address).filter(|own| own.is_held());
            let left = own.map_or(Duration::ZERO, |own| own.left_at(self.now));
            let by = Parameter::AdaptiveThreshold.into();
            lasting(left.as_secs(), by).max(LeaseTerm { by, ..chain.least_lease_time() })
        });
        ends.chain(shortened).min_by_key(|term| term.time)
    }
}

fn lasting(seconds: u64, by: LeaseTimeBy) -> LeaseTerm {
    LeaseTerm { time: LeaseTime::from_seconds(seconds.try_into().unwrap_or(u32::MAX)), by }
}
