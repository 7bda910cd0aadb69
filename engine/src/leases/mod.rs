//! Leases: who holds which address, what is free, and what of it is durable.
//!
//! ```text
//! ShardLeases ──> table (index, the authority) <──> pools (what is free)
//!      │ submit                  ▲ written, rolled back
//!      ▼                         │
//!    queue ──────────────> Committer ──────> LeaseStore (log, memory, later a cluster)
//!      ▲ completed, wake         │
//!      └─────────────────────────┘
//! ```
//!
//! A shard changes the table at once and hands the change to the one committer, which makes many
//! durable with one fsync. Until then no ACK leaves; if it fails, the table goes back to what the
//! store has. Time is an argument everywhere, and the committer can be stepped by hand.

mod changes;
mod client;
mod clock;
mod commit;
mod discovers;
mod fjall;
mod key;
mod lease;
mod log;
mod memory;
mod pools;
mod queue;
mod record;
mod shard;
mod slot;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bootstorm_protocols::time::Moment;
use crossbeam::utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

pub use client::{Client, ClientKey, Hardware, KeyKind, Notes, Said};
pub use clock::{BootId, Clock};
pub use commit::{Committer, CommitterThread};
pub use discovers::Discovered;
pub use lease::{Lease, LeaseState};
pub use log::{ENTRIES, Layout, LeaseLog, Maintenance, StatePlace};
pub use memory::MemoryStore;
pub use pools::PoolCounts;
pub use record::CorruptRecord;
pub use shard::{Bind, Candidates, Change, Declined, NotDurable, Offer, Refusal, ShardLeases};
pub use store::{BatchId, Finished, LeaseStore, Loaded, Recovered, StoreError, Write};

use crate::config::{Dhcp, NetworkId, PoolId};
use pools::PoolSet;
use queue::Queue;
use slot::Durable;
use table::{Table, place};

/// One thread's lock on the pools: together they are a read-write lock. A thread takes its own for
/// each step, which is nearly never contended. A reload takes all of them, so that no step uses the
/// old pools and the new ones.
type PoolsLock = CachePadded<Mutex<Arc<PoolSet>>>;

/// All leases of the server: shared by the shards, the committer and the control socket.
pub struct Leases {
    table: Table,
    queue: Queue,
    /// One for each shard, then the committer's, then one for all other threads.
    locks: Box<[PoolsLock]>,
    store: Arc<dyn LeaseStore>,
    /// The addresses of this host, which no client gets.
    own: Mutex<Vec<Ipv4Addr>>,
    /// As it was read last.
    clock: Mutex<Clock>,
    corrupt: AtomicU64,
    /// Until when clients may hold leases that the store has lost.
    damaged_until: Option<Moment>,
    shards: usize,
}

impl Leases {
    /// Reads the store and gets the pools ready. What cannot be read is logged and counted; its
    /// address is in quarantine for as long as a lease may last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(
        store: Arc<dyn LeaseStore>,
        dhcp: &Dhcp,
        shards: usize,
        clock: Clock,
    ) -> Result<Arc<Self>, StoreError> {
        let shards = shards.max(1);
        let table = Table::new();
        let quarantine = clock.now + longest_lease(dhcp).max(dhcp.decline_time);
        let mut corrupt = 0;
        let recovered = store.load(&clock, &mut |loaded| match loaded {
            Loaded::Lease(lease, version) => table.load(lease, Some(version), clock.now),
            Loaded::Erased(..) => {}
            Loaded::Corrupt(error) => {
                tracing::error!(%error, "the address is in quarantine until a lease would have ended");
                corrupt += 1;
                if let Some(IpAddr::V4(ip)) = error.ip {
                    table.load(unreadable(ip, clock.now, quarantine), None, clock.now);
                }
            }
        })?;
        table.continue_versions(recovered.version);
        let empty = Arc::new(PoolSet::empty(shards));
        let leases = Self {
            table,
            queue: Queue::new(shards),
            locks: (0..shards + 2)
                .map(|_| CachePadded::new(Mutex::new(Arc::clone(&empty))))
                .collect(),
            store,
            own: Mutex::new(Vec::new()),
            clock: Mutex::new(clock),
            corrupt: AtomicU64::new(corrupt),
            damaged_until: recovered.damaged.map(|found| found + longest_lease(dhcp)),
            shards,
        };
        leases.reconfigure(dhcp);
        Ok(Arc::new(leases))
    }

    /// What one shard holds to work with leases; `wake` is called, from the committer's thread,
    /// when [`ShardLeases::completed`] has something to tell. To be called once for each shard.
    ///
    /// # Panics
    /// When there is no such shard, or it was called for it before.
    pub fn shard(
        self: &Arc<Self>,
        shard: usize,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> ShardLeases {
        assert!(shard < self.shards, "shard {shard} of {}", self.shards);
        assert!(self.queue.set_wake(shard, Box::new(wake)), "shard {shard} is in use");
        ShardLeases::new(Arc::clone(self), shard)
    }

    /// The one that writes; there may be only one at a time.
    pub fn committer(self: &Arc<Self>) -> Committer {
        Committer::new(Arc::clone(self), Arc::clone(&self.store))
    }

    /// The lease of a client in a network: active, offered, or what it had last.
    pub fn find(&self, network: NetworkId, client: &ClientKey, now: Moment) -> Option<Lease> {
        self.table.find(&(network, client.clone()), now)
    }

    /// What is known of an address.
    pub fn at(&self, ip: Ipv4Addr, now: Moment) -> Option<Lease> {
        self.table.at(ip, now)
    }

    /// Up to `limit` leases by rising address, from `from` on. Looks at every lease, whatever the
    /// limit.
    pub fn page(&self, from: Ipv4Addr, limit: usize, now: Moment) -> Vec<Lease> {
        let mut lowest = BinaryHeap::with_capacity(limit.min(4096) + 1);
        for slot in &self.table.slots {
            let ip = *slot.key();
            if ip >= from.to_bits() && slot.view(now).is_some() {
                lowest.push(ip);
                if lowest.len() > limit {
                    lowest.pop();
                }
            }
        }
        let lowest = lowest.into_sorted_vec();
        lowest.into_iter().filter_map(|ip| self.at(Ipv4Addr::from_bits(ip), now)).collect()
    }

    /// Addresses of a pool by what they are used for. `None` when there is no such pool.
    pub fn pool_counts(&self, pool: PoolId) -> Option<PoolCounts> {
        let pools = Arc::clone(&self.lock_pools(self.common_lock()));
        pools.get(pool).map(pools::Pool::counts)
    }

    /// Records that could not be read when the store was opened.
    pub fn corrupt_records(&self) -> u64 {
        self.corrupt.load(Relaxed)
    }

    /// Whether clients may hold leases that the store has lost by damage: then an address is probed
    /// before it is offered, and a renewal of an address that seems free is granted.
    pub fn is_damaged(&self, now: Moment) -> bool {
        self.damaged_until.is_some_and(|until| now < until)
    }

    /// Takes over another configuration. Every lease stays; those outside all subnets are kept, and
    /// nobody is served from them. Shards wait at their next step until it is done: no longer than
    /// a moment if pools and networks are as they were, else as long as it takes to look at every
    /// lease.
    pub fn reconfigure(&self, dhcp: &Dhcp) {
        let mut locks: Vec<_> = self.locks.iter().map(|lock| lock.lock()).collect();
        let old = Arc::clone(&locks[0]);
        let mut used: Option<Vec<u32>> = None;
        let own = self.own.lock();
        let (next, new) = old.next(dhcp, &own, |(low, high)| {
            let used = used.get_or_insert_with(|| {
                let mut used: Vec<u32> = self.table.slots.iter().map(|slot| *slot.key()).collect();
                used.sort_unstable();
                used
            });
            let from = used.partition_point(|ip| *ip < low);
            let to = used.partition_point(|ip| *ip <= high);
            used[from..to].to_vec()
        });
        let moved = !next.same_networks(&old);
        if moved || !new.is_empty() || next.len() != old.len() {
            for mut slot in self.table.slots.iter_mut() {
                let ip = *slot.key();
                slot.lease.network = next.network(ip);
                if let Durable::Other(lease) = &mut slot.durable {
                    lease.network = next.network(ip);
                }
                let kept = next.of(ip).is_some_and(|pool| !new.iter().any(|new| **new == *pool));
                if !kept {
                    slot.position = None;
                    slot.in_free_range = false;
                    // Below the number of shards.
                    let shard = (ip as usize % self.shards) as u16;
                    place(&next, &mut slot, None, shard);
                }
            }
        }
        if moved {
            self.table.map_all();
        }
        let next = Arc::new(next);
        for lock in &mut locks {
            **lock = Arc::clone(&next);
        }
    }

    /// Sets the addresses of this host, which no client gets from now on, and takes over a
    /// configuration as [`Leases::reconfigure`] does.
    pub fn set_own_addresses(&self, own: &[Ipv4Addr], dhcp: &Dhcp) {
        *self.own.lock() = own.to_vec();
        self.reconfigure(dhcp);
    }

    /// Whether changes wait for the committer.
    pub fn awaits_commit(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Ends what is over, at most `budget` addresses of each pool, and reads the clocks anew. To be
    /// called every second or so. How many addresses it looked at.
    pub fn sweep(&self, clock: &Clock, budget: usize) -> usize {
        *self.clock.lock() = *clock;
        let pools = self.lock_pools(self.common_lock());
        let sweep = |pool: &pools::Pool| {
            let _only = pool.slow_path();
            self.table.end_due(&pools, pool, clock.now, budget)
        };
        pools.iter().map(sweep).sum()
    }

    /// A person gives an address back to its pool. Waits until that is durable, so it is not for a
    /// shard to call. The lease as it is then; `None` when nobody holds the address.
    ///
    /// # Errors
    /// [`NotDurable`] when it could not be written; the lease stands then.
    pub fn release(&self, ip: Ipv4Addr, now: Moment) -> Result<Option<Lease>, NotDurable> {
        let change = {
            let pools = self.lock_pools(self.common_lock());
            self.table.release(&pools, None, ip, now)
        };
        let Some(change) = change else { return Ok(None) };
        let done = self.queue.submit_and_wait(change);
        if done.is_err() {
            let pools = self.lock_pools(self.common_lock());
            self.table.abandon(&pools, change, now);
        }
        done.map(|()| self.at(ip, now))
    }

    /// The pools as one thread sees them, for the time of one step.
    fn lock_pools(&self, index: usize) -> MutexGuard<'_, Arc<PoolSet>> {
        self.locks[index].lock()
    }

    fn committer_lock(&self) -> usize {
        self.shards
    }

    fn common_lock(&self) -> usize {
        self.shards + 1
    }

    fn clock(&self, now: Moment) -> Clock {
        self.clock.lock().at(now)
    }

    #[cfg(test)]
    fn pools(&self) -> Arc<PoolSet> {
        Arc::clone(&self.lock_pools(self.common_lock()))
    }
}

/// The longest lease that the configuration gives, infinite ones counted as a day.
fn longest_lease(dhcp: &Dhcp) -> Duration {
    dhcp.scopes()
        .flat_map(|scope| [scope.lease_time, scope.max_lease_time])
        .flatten()
        .chain([Dhcp::DEFAULT_LEASE_TIME])
        .map(|time| time.duration().unwrap_or(Duration::from_secs(86_400)))
        .max()
        .unwrap_or_default()
}

/// What stands in the index for a record that cannot be read.
fn unreadable(ip: Ipv4Addr, now: Moment, until: Moment) -> Lease {
    Lease {
        ip,
        network: None,
        client: ClientKey::new(KeyKind::Hardware, &[]),
        hardware: Hardware::default(),
        state: LeaseState::Declined,
        starts: now,
        expires: until,
        notes: None,
    }
}
