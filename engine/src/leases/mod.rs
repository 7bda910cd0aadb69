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

mod address;
mod bills;
mod changes;
mod client;
mod clock;
mod commit;
mod discovers;
mod fjall;
mod free;
mod key;
mod lease;
mod listing;
mod log;
mod memory;
mod notes;
mod pools;
mod queue;
mod record;
mod scope;
mod shard;
mod slot;
mod state;
mod step;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bootstorm_protocols::time::Moment;
use crossbeam::utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

pub use client::{Client, ClientKey, Hardware, KeyKind, RelaySaid, Said};
pub use clock::{BootId, Clock};
pub use commit::{Committer, CommitterThread};
pub use discovers::{Discovered, Transaction};
pub use lease::{Ended, Ending, Lease, LeaseState};
pub use log::{ENTRIES, Layout, LeaseLog, Maintenance, StatePlace};
pub use memory::MemoryStore;
pub use notes::Notes;
pub use pools::PoolCounts;
pub use record::CorruptRecord;
pub use scope::{LeaseScope, MOST_VARIABLES, VARIABLE_BYTES, Variables};
pub use shard::{Change, NotDurable, ShardLeases};
pub use step::{Admission, Bill, Conflict, KeyHash, KnownAs, Refusal, Step};
pub use store::{
    BatchId, Damage, Finished, LeaseStore, Loaded, Recovered, StoreError, Write, WriteFailure,
};

use crate::config::{Dhcp, LeaseTime, PoolId, Scope};
use crate::hashing::{self, KeyedHasher};
use address::Address;
use bills::Bills;
use pools::PoolSet;
use queue::Queue;
use table::Table;

/// One thread's lock on the pools: together they are a read-write lock. A thread takes its own for
/// each step, which is nearly never contended. A reload takes all of them, so that no step uses the
/// old pools and the new ones.
type PoolsLock = CachePadded<Mutex<Arc<PoolSet>>>;

/// All leases of the server: shared by the shards, the committer and the control socket.
pub struct Leases {
    table: Table,
    bills: Bills,
    queue: Queue,
    /// One for each shard, then the committer's, then one for all other threads.
    locks: Box<[PoolsLock]>,
    store: Arc<dyn LeaseStore>,
    /// Held by the one thread that changes the pools.
    preparing: Mutex<()>,
    /// As it was read last.
    clock: Mutex<Clock>,
    /// Records that could not be read when the store was opened.
    corrupt: u64,
    /// Until when clients may hold leases that the store has lost.
    damaged_until: Option<Moment>,
    /// Why the store cannot be written; the committer says so.
    failure: Mutex<Option<WriteFailure>>,
    /// When the store was read.
    opened: Moment,
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
        Self::open_hashed(store, dhcp, shards, clock, hashing::keyed())
    }

    /// The same with a hasher of the caller's.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_hashed(
        store: Arc<dyn LeaseStore>,
        dhcp: &Dhcp,
        shards: usize,
        clock: Clock,
        hasher: KeyedHasher,
    ) -> Result<Arc<Self>, StoreError> {
        let shards = shards.max(1);
        let table = Table::new(shards, hasher);
        let bills = Bills::default();
        let quarantine = clock.now + longest_lease(dhcp).max(dhcp.decline_time);
        let mut corrupt = 0;
        let recovered = store.load(&clock, &mut |loaded| match loaded {
            Loaded::Lease(lease, version) => {
                let shard = shard_of(lease.ip, shards);
                if let Some(bill) = lease.notes.admission().bill() {
                    bills.load(bill, lease.ip);
                }
                table.load(lease, Some(version), shard);
            }
            Loaded::Erased(..) => {}
            Loaded::Corrupt(error) => {
                tracing::error!(%error, "the address is in quarantine until a lease would have ended");
                corrupt += 1;
                if let Some(ip) = error.ip {
                    table.load(unreadable(ip, clock.now, quarantine), None, shard_of(ip, shards));
                }
            }
        })?;
        table.continue_versions(recovered.version);
        let empty = Arc::new(PoolSet::empty(shards));
        let leases = Self {
            table,
            bills,
            queue: Queue::new(shards),
            locks: (0..shards + 2)
                .map(|_| CachePadded::new(Mutex::new(Arc::clone(&empty))))
                .collect(),
            store,
            preparing: Mutex::new(()),
            clock: Mutex::new(clock),
            corrupt,
            damaged_until: recovered
                .damaged
                .map(|found| found + longest_lease(dhcp).max(recovered.longest)),
            failure: Mutex::new(None),
            opened: clock.now,
            shards,
        };
        leases.reconfigure(&[], dhcp);
        // Those that no pool counts.
        leases.table.each_slot(|stripe, handle| {
            if stripe.slots[handle.index()].pool == 0 {
                leases.table.list(&empty, stripe, handle, clock.now);
            }
        });
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
        ShardLeases::new(Arc::clone(self), shard, shard)
    }

    /// What a thread that is no shard plans with as that shard would; to be changed it is not. What
    /// clients said in their DISCOVERs, only the shard knows.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn view(self: &Arc<Self>, shard: usize) -> ShardLeases {
        assert!(shard < self.shards, "shard {shard} of {}", self.shards);
        ShardLeases::new(Arc::clone(self), shard, self.common_lock())
    }

    /// The one that writes; there may be only one at a time.
    pub fn committer(self: &Arc<Self>) -> Committer {
        Committer::new(Arc::clone(self), Arc::clone(&self.store))
    }

    /// Has `heard` called with every lease that ends from now on and has something done then. It is
    /// called under a lock, so it must not wait. Only the first call counts.
    pub fn on_end(&self, heard: impl Fn(Ended) + Send + Sync + 'static) {
        let _others = self.table.heard.set(Box::new(heard));
    }

    /// Leases whose time is over, as far as that was noticed, and that have something done then;
    /// those first that ended first. Whether it was done is not known here.
    pub fn expired(&self, now: Moment) -> Vec<Ended> {
        self.table.expired(now)
    }

    /// The version of the lease of an address; [`Ended::version`] if it has ended.
    pub fn version(&self, ip: impl Into<IpAddr>) -> Option<u64> {
        self.table.version(ip.into())
    }

    /// What is known of an address.
    pub fn at(&self, ip: impl Into<IpAddr>, now: Moment) -> Option<Lease> {
        self.table.at(ip.into(), now)
    }

    /// Up to `limit` leases by rising address, from `from` on. Looks at every lease, whatever the
    /// limit.
    pub fn page(&self, from: impl Into<IpAddr>, limit: usize, now: Moment) -> Vec<Lease> {
        let from = Address::from(from.into());
        let mut lowest = BinaryHeap::with_capacity(limit.min(4096) + 1);
        self.table.each_slot(|stripe, handle| {
            let slot = &stripe.slots[handle.index()];
            if slot.address >= from && stripe.view(slot, now).is_some() {
                lowest.push(slot.address);
                if lowest.len() > limit {
                    lowest.pop();
                }
            }
        });
        let lowest = lowest.into_sorted_vec();
        lowest.into_iter().filter_map(|ip| self.at(ip, now)).collect()
    }

    /// Calls `each` with every lease, in no order. Others wait for leases meanwhile, so it is to
    /// be short.
    pub(crate) fn each(&self, now: Moment, mut each: impl FnMut(Lease)) {
        self.table.each_slot(|stripe, handle| {
            let slot = &stripe.slots[handle.index()];
            stripe.view(slot, now).into_iter().for_each(&mut each);
        });
    }

    /// Addresses of a pool by what they are used for. `None` when there is no such pool.
    pub fn pool_counts(&self, pool: PoolId) -> Option<PoolCounts> {
        let pools = Arc::clone(&self.lock_pools(self.common_lock()));
        pools.get(pool).map(pools::Pool::counts)
    }

    /// The wall clock at a moment, in seconds since 1970.
    pub(crate) fn wall_at(&self, moment: Moment) -> u64 {
        self.clock.lock().wall_at(moment)
    }

    /// What the store has lost, as far as it is known; `None` when it is whole.
    pub fn damage(&self, now: Moment) -> Option<Damage> {
        let damage = Damage {
            found: self.store.damage(),
            until: self.damaged_until.filter(|until| now < *until),
            unreadable: self.corrupt,
        };
        Some(damage).filter(|damage| *damage != Damage::default())
    }

    /// Why the store cannot be written; `None` when the last batch was.
    pub fn write_failure(&self) -> Option<WriteFailure> {
        self.failure.lock().clone()
    }

    /// Whether clients may hold leases that the store has lost by damage: then an address is probed
    /// before it is offered, and a renewal of an address that seems free is granted.
    pub fn is_damaged(&self, now: Moment) -> bool {
        self.damaged_until.is_some_and(|until| now < until)
    }

    /// Whether the store may have lost a later record than that of this lease: the client may have
    /// moved since, or given the address back, and another one may have it.
    pub fn may_be_outdated(&self, lease: &Lease, now: Moment) -> bool {
        // An offer keeps what the record beneath it says of the relay agent.
        let written = lease.starts > self.opened && lease.state != LeaseState::Offered;
        self.is_damaged(now) && !written
    }

    /// Gets the pools of another configuration ready, in which no client gets one of `own`, the
    /// addresses of this host. Where they are new it looks at every lease, and nobody waits for it.
    pub fn prepare(&self, own: &[Ipv4Addr], dhcp: &Dhcp) -> NextPools<'_> {
        let only = self.preparing.lock();
        let old = Arc::clone(&self.lock_pools(self.common_lock()));
        let next = Arc::new(old.next(dhcp, own, || self.table.used()));
        let longest = longest_lease(dhcp);
        if let Err(error) = self.store.gives(longest) {
            tracing::error!(
                %error,
                "that leases may last for {longest:?} cannot be written down: if the lease store \
                 is damaged before it can, addresses are probed for too short a time"
            );
        }
        NextPools { leases: self, next, old, longest, _only: only }
    }

    /// Takes over another configuration at once, and the addresses of this host; see
    /// [`Leases::prepare`].
    pub fn reconfigure(&self, own: &[Ipv4Addr], dhcp: &Dhcp) {
        let pools = self.prepare(own, dhcp);
        pools.swap();
        pools.count();
    }

    /// Whether the committer's thread is at work, or about to be.
    pub fn is_committing(&self) -> bool {
        self.queue.is_committing()
    }

    /// Whether changes wait for the committer.
    pub fn awaits_commit(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Ends what is over, at most `budget` addresses, and reads the clocks anew. To be
    /// called every second or so. How many addresses it looked at.
    pub fn sweep(&self, clock: &Clock, budget: usize) -> usize {
        *self.clock.lock() = *clock;
        let pools = self.lock_pools(self.common_lock());
        self.table.end_due(&pools, clock.now, budget)
    }

    /// A person gives an address back to its pool. Waits until that is durable, so it is not for a
    /// shard to call. The lease as it is then; `None` when nobody holds the address.
    ///
    /// # Errors
    /// [`NotDurable`] when it could not be written; the lease stands then.
    pub fn release(&self, ip: impl Into<IpAddr>, now: Moment) -> Result<Option<Lease>, NotDurable> {
        let ip = ip.into();
        let change = {
            let pools = self.lock_pools(self.common_lock());
            self.table.release(&pools, ip, now)
        };
        let Some(change) = change else { return Ok(None) };
        let done = self.queue.submit_and_wait(change);
        if done.is_err() {
            let pools = self.lock_pools(self.common_lock());
            self.table.roll_back(&pools, change, now);
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

/// The pools of another configuration, which are not in force before [`NextPools::swap`]. Every
/// lease stays whatever they are. Those outside all pools are kept.
#[must_use]
pub struct NextPools<'l> {
    leases: &'l Leases,
    next: Arc<PoolSet>,
    old: Arc<PoolSet>,
    longest: Duration,
    _only: MutexGuard<'l, ()>,
}

impl NextPools<'_> {
    /// Puts them in force. All shards wait at their next step meanwhile, and no lease is looked at.
    pub fn swap(&self) {
        let mut locks: Vec<_> = self.leases.locks.iter().map(|lock| lock.lock()).collect();
        for lock in &mut locks {
            **lock = Arc::clone(&self.next);
        }
    }

    /// Counts what is used of the new ones, piece by piece. Until then [`Leases::pool_counts`]
    /// shows less; whoever needs a free address finds out what is used by itself.
    pub fn count(self) {
        let Self { leases, next, old, longest, _only } = self;
        let Leases { table, clock, shards, store, .. } = leases;
        let clock = *clock.lock();
        store.gives_no_longer(longest, &clock);
        if !next.has_new(&old) {
            return;
        }
        let now = clock.now;
        for (place, pool) in next.iter().enumerate() {
            // Below the number of shards.
            table.check_all(&next, pool, (place % shards) as u16, now);
        }
        table.each_slot(|stripe, handle| table.adopt(&next, stripe, handle, now));
    }
}

/// The longest lease that the configuration gives. Infinite ones are counted as a day, as are those
/// of expressions.
fn longest_lease(dhcp: &Dhcp) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    dhcp.scopes()
        .map(Scope::settings)
        .flat_map(|settings| {
            [settings.lease_time, settings.max_lease_time, settings.bootp_lease_time]
        })
        .flatten()
        .chain([Dhcp::DEFAULT_LEASE_TIME])
        // What an expression gives nobody knows; a day is the limit of ISC dhcpd where none is set.
        .chain((dhcp.has_statements || dhcp.is_as_dhcpd()).then_some(LeaseTime::INFINITE))
        .map(|time| time.duration().unwrap_or(DAY))
        .max()
        .unwrap_or_default()
}

/// What stands in the index for a record that cannot be read.
fn unreadable(ip: IpAddr, now: Moment, until: Moment) -> Lease {
    Lease {
        ip,
        client: ClientKey::new(KeyKind::Hardware, &[]),
        hardware: Hardware::default(),
        state: LeaseState::Declined,
        starts: now,
        expires: until,
        refused: false,
        told: None,
        pending: false,
        notes: Notes::default(),
    }
}

/// The shard whose extent a lease of the store goes to.
fn shard_of(ip: IpAddr, shards: usize) -> u16 {
    // Below the number of shards.
    (Address::from(ip).to_bits() % shards as u128) as u16
}
