//! Leases: who holds which address, what is free, and what of it is durable.

mod client;
mod lease;
mod shard;
mod store;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bootstorm_protocols::time::Moment;
use parking_lot::Mutex;

pub use client::{Client, ClientKey, Hardware, KeyKind, Notes, Said};
pub use lease::{Lease, LeaseState};
pub use shard::{Bind, Candidates, Change, Declined, NotDurable, Offer, Refusal, ShardLeases};
pub use store::{LeaseStore, MemoryStore, StoreError, Write};

use crate::config::{Dhcp, NetworkId};

/// The time on all clocks at once, as it was read at a start or by a sweep.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Clock {
    /// The monotonic clock.
    pub now: Moment,
    /// The wall clock: seconds since 1970.
    pub wall: u64,
    /// Which boot of the machine the monotonic clock counts from.
    pub boot: BootId,
}

/// One boot of the machine, `/proc/sys/kernel/random/boot_id`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct BootId(pub [u8; 16]);

/// All leases of the server: shared by the shards, the committer and the control room.
pub struct Leases {
    state: Mutex<State>,
    store: Arc<dyn LeaseStore>,
}

#[derive(Default)]
struct State {
    leases: BTreeMap<Ipv4Addr, Lease>,
    pools: Vec<(Ipv4Addr, Ipv4Addr)>,
    reserved: Vec<Ipv4Addr>,
    queue: Vec<(usize, Option<u64>, Change)>,
    done: Vec<Vec<u64>>,
    wake: Vec<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl Leases {
    /// Reads the store and gets the pools ready.
    pub fn open(
        store: Arc<dyn LeaseStore>,
        dhcp: &Dhcp,
        shards: usize,
        _clock: Clock,
    ) -> Result<Arc<Self>, StoreError> {
        let mut state = State::default();
        store.load(&mut |lease| {
            state.leases.insert(lease.ip, lease);
        })?;
        state.done.resize_with(shards, Vec::new);
        state.wake.resize_with(shards, || None);
        let leases = Self { state: Mutex::new(state), store };
        leases.reconfigure(dhcp);
        Ok(Arc::new(leases))
    }

    /// What one shard holds to work with leases; `wake` is called when something was committed.
    pub fn shard(
        self: &Arc<Self>,
        shard: usize,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> ShardLeases {
        self.state.lock().wake[shard] = Some(Box::new(wake));
        ShardLeases::new(Arc::clone(self), shard)
    }

    /// Takes over another configuration; every lease stays.
    pub fn reconfigure(&self, dhcp: &Dhcp) {
        let mut state = self.state.lock();
        state.pools = dhcp.pools.iter().map(|pool| pool.range).collect();
        state.reserved = dhcp.hosts.iter().flat_map(|host| host.ips.iter().copied()).collect();
    }

    /// The lease of a client in a network, whatever its state.
    pub fn find(&self, network: NetworkId, client: &ClientKey) -> Option<Lease> {
        let state = self.state.lock();
        let mine = |lease: &&Lease| lease.network == Some(network) && lease.client == *client;
        state.leases.values().find(mine).cloned()
    }

    /// What is known of an address.
    pub fn at(&self, ip: Ipv4Addr) -> Option<Lease> {
        self.state.lock().leases.get(&ip).cloned()
    }

    /// Writes all that waits as one batch; the number of changes in it.
    pub fn commit_once(&self) -> usize {
        let mut state = self.state.lock();
        let queue = std::mem::take(&mut state.queue);
        let batch: Vec<Write> = queue
            .iter()
            .filter_map(|(_, _, change)| state.leases.get(&change.ip()).cloned().map(Write::Put))
            .collect();
        if self.store.commit(&batch).is_err() {
            return 0;
        }
        for (shard, token, _) in &queue {
            state.done[*shard].extend(token);
            if let Some(wake) = &state.wake[*shard] {
                wake();
            }
        }
        queue.len()
    }
}
