//! Leases by what they are billed to: classes limit how many leases their members have.
//!
//! What a lease is billed to stands in its admission, so it is as durable as the lease. Here are
//! the addresses under each bill, so that they can be counted. An address may stand here that is
//! free or billed elsewhere by now: the table is asked when it is counted.

use std::collections::hash_map::RandomState;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bootstorm_protocols::time::Moment;
use dashmap::DashMap;

use super::address::Address;
use super::table::Table;
use super::{Bill, Lease, LeaseState};

/// Bills, and addresses of one bill, that are kept before it is looked for those that are over.
const SLACK: usize = 64;

/// The addresses under each bill.
#[derive(Debug, Default)]
pub(super) struct Bills {
    by_key: DashMap<u64, Vec<Address>, RandomState>,
    /// How many bills there were when those without leases were dropped last.
    kept: AtomicUsize,
}

impl Bills {
    /// Adds a lease of the store.
    pub(super) fn load(&self, bill: Bill, ip: IpAddr) {
        self.by_key.entry(bill.key).or_default().push(ip.into());
    }

    /// Whether another address can be billed. Those of `own` do not count: their client is billed
    /// for them already.
    pub(super) fn has_room(
        &self,
        bill: Bill,
        own: impl Fn(IpAddr) -> bool,
        table: &Table,
        now: Moment,
    ) -> bool {
        let Some(addresses) = self.by_key.get(&bill.key) else { return bill.limit > 0 };
        count(&addresses, bill, own, table, now) < bill.limit
    }

    /// How many addresses are billed to it.
    pub(super) fn billed(&self, bill: Bill, table: &Table, now: Moment) -> usize {
        let addresses = self.by_key.get(&bill.key);
        addresses.map_or(0, |all| {
            all.iter().filter(|&&address| is_billed(address, bill.key, table, now)).count()
        })
    }

    /// Bills an address if `take` succeeds, unless there is no room: then `None`. Nobody else bills
    /// anything to the same meanwhile.
    pub(super) fn bill<T, E>(
        &self,
        bill: Bill,
        ip: IpAddr,
        table: &Table,
        now: Moment,
        take: impl FnOnce() -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        if !self.by_key.contains_key(&bill.key) {
            self.drop_empty(table, now);
        }
        let mut addresses = self.by_key.entry(bill.key).or_default();
        if count(&addresses, bill, |own| own == ip, table, now) >= bill.limit {
            return None;
        }
        let taken = take();
        let address = ip.into();
        if taken.is_ok() && !addresses.contains(&address) {
            if addresses.len() >= SLACK && addresses.len().is_power_of_two() {
                addresses.retain(|&other| may_be_billed(other, bill.key, table, now));
            }
            addresses.push(address);
        }
        Some(taken)
    }

    /// Drops bills without leases, once there are twice as many as were left the last time.
    fn drop_empty(&self, table: &Table, now: Moment) {
        if self.by_key.len() < 2 * self.kept.load(Ordering::Relaxed) + SLACK {
            return;
        }
        self.by_key.retain(|&key, addresses| {
            addresses.retain(|&address| may_be_billed(address, key, table, now));
            !addresses.is_empty()
        });
        self.kept.store(self.by_key.len(), Ordering::Relaxed);
    }
}

/// How many addresses are taken and billed; beyond the limit nobody counts.
fn count(
    addresses: &[Address],
    bill: Bill,
    own: impl Fn(IpAddr) -> bool,
    table: &Table,
    now: Moment,
) -> u32 {
    let others = addresses.iter().filter(|&&address| !own(address.into()));
    let billed = others.filter(|&&address| is_billed(address, bill.key, table, now));
    let most = usize::try_from(bill.limit).unwrap_or(usize::MAX);
    // At most the limit.
    billed.take(most).count() as u32
}

fn is_billed(address: Address, key: u64, table: &Table, now: Moment) -> bool {
    // One that was declined is nobody's.
    let has_holder = |lease: Lease| matches!(lease.state, LeaseState::Offered | LeaseState::Active);
    lease(address, key, table, now).is_some_and(has_holder)
}

/// Whether it is billed, or will be again if what its client said of it cannot be written.
fn may_be_billed(address: Address, key: u64, table: &Table, now: Moment) -> bool {
    let may_be = |lease: Lease| lease.pending || lease.state.is_taken();
    lease(address, key, table, now).is_some_and(may_be)
}

/// The lease of an address that was billed.
fn lease(address: Address, key: u64, table: &Table, now: Moment) -> Option<Lease> {
    let lease = table.at(address.into(), now)?;
    lease.notes.admission().bill().filter(|bill| bill.key == key).map(|_| lease)
}
