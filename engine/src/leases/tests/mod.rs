//! What leases must never do, whatever happens.

mod disk;
mod model;
mod steps;

use std::net::Ipv4Addr;
use std::sync::Arc;

use bootstorm_protocols::time::Moment;

use super::*;
use crate::config::{Host, Network, Pool, Prefix, Scope, Subnet};

/// The network, pool and machines of most tests.
pub(super) struct Site {
    pub(super) dhcp: Dhcp,
    pub(super) network: NetworkId,
}

pub(super) fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(super) fn at(seconds: u64) -> Moment {
    Moment::from_nanos(seconds * 1_000_000_000)
}

pub(super) fn clock(seconds: u64) -> Clock {
    Clock {
        now: at(seconds),
        wall: 1_800_000_000 + seconds,
        boot: BootId([1; 16]),
        synchronised: true,
    }
}

impl Site {
    /// 10.0.0.0/16 with these pools and reservations.
    pub(super) fn new(pools: &[(&str, &str)], reserved: &[&str]) -> Self {
        let network = NetworkId::from_index(0);
        let ids = (0..).map(PoolId::from_index);
        let subnet = crate::config::SubnetId::from_index(0);
        let host = |address: &&str| Host {
            name: format!("host-{address}").into(),
            keys: Vec::new(),
            ips: vec![ip(address)],
            group: None,
            scope: Scope::default(),
        };
        let hosts = reserved.iter().map(host).collect();
        let mut dhcp = Dhcp { hosts, ..Dhcp::default() };
        dhcp.networks =
            vec![Network { name: None, scope: Scope::default(), subnets: vec![subnet] }];
        dhcp.subnets = vec![Subnet {
            network,
            prefix: Prefix::containing(ip("10.0.0.0"), 16).unwrap(),
            scope: Scope::default(),
            pools: ids.take(pools.len()).collect(),
        }];
        dhcp.pools = pools
            .iter()
            .map(|(low, high)| Pool {
                subnet,
                range: (ip(low), ip(high)),
                scope: Scope::default(),
                allow: Vec::new(),
                deny: Vec::new(),
                class: None,
            })
            .collect();
        Self { dhcp, network }
    }

    pub(super) fn pools(&self) -> Vec<PoolId> {
        (0..).map(PoolId::from_index).take(self.dhcp.pools.len()).collect()
    }
}

/// A machine: its identity by its number.
pub(super) fn machine(number: u32) -> (Hardware, ClientKey) {
    let [a, b, c, d] = number.to_be_bytes();
    let hardware = Hardware::ethernet([2, 0, a, b, c, d]);
    (hardware, ClientKey::hardware(&hardware))
}

/// A server in a test: shards, and a committer that is stepped.
pub(super) struct Server {
    pub(super) site: Site,
    pub(super) leases: Arc<Leases>,
    pub(super) shards: Vec<ShardLeases>,
    pub(super) committer: Committer,
}

impl Server {
    pub(super) fn start(
        site: Site,
        store: Arc<dyn LeaseStore>,
        shards: usize,
        clock: Clock,
    ) -> Self {
        let leases = Leases::open(store, &site.dhcp, shards, clock).unwrap();
        let committer = leases.committer();
        let shards = (0..shards).map(|shard| leases.shard(shard, || ())).collect();
        Self { site, leases, shards, committer }
    }

    pub(super) fn offer(
        &mut self,
        shard: usize,
        number: u32,
        hint: Option<&str>,
        now: u64,
    ) -> Result<Offer, Refusal> {
        let (hardware, key) = machine(number);
        let client =
            Client { network: self.site.network, key: &key, hardware, notes: Said::default() };
        let pools = self.site.pools();
        let candidates = Candidates::Pools(&pools);
        self.shards[shard].offer(&client, candidates, hint.map(ip), at(now), at(now + 60))
    }

    pub(super) fn fixed(
        &mut self,
        shard: usize,
        number: u32,
        address: &str,
        replace: bool,
        now: u64,
    ) -> Result<Offer, Refusal> {
        let (hardware, key) = machine(number);
        let client =
            Client { network: self.site.network, key: &key, hardware, notes: Said::default() };
        let candidates = Candidates::Fixed { ip: ip(address), replace };
        self.shards[shard].offer(&client, candidates, None, at(now), at(now + 60))
    }

    pub(super) fn bind(
        &mut self,
        shard: usize,
        number: u32,
        address: Ipv4Addr,
        now: u64,
        seconds: u64,
    ) -> Bind {
        let (hardware, key) = machine(number);
        let client =
            Client { network: self.site.network, key: &key, hardware, notes: Said::default() };
        self.shards[shard].bind(&client, address, at(now), at(now + seconds))
    }

    /// Binds and submits; true when an ACK is held for it.
    pub(super) fn request(
        &mut self,
        shard: usize,
        number: u32,
        address: Ipv4Addr,
        now: u64,
        seconds: u64,
    ) -> bool {
        match self.bind(shard, number, address, now, seconds) {
            Bind::Pending(change) => {
                self.shards[shard].submit(change, Some(u64::from(number)), at(now)).unwrap();
                true
            }
            Bind::AlreadyPending | Bind::Refused(_) => false,
        }
    }

    /// What became of the changes of a shard.
    pub(super) fn completed(&mut self, shard: usize) -> Vec<(u64, bool)> {
        let mut all = Vec::new();
        self.shards[shard].completed(|token, result| all.push((token, result.is_ok())));
        all
    }

    /// Offers, binds and commits on shard 0; the address.
    pub(super) fn lease(&mut self, number: u32, now: u64, seconds: u64) -> Ipv4Addr {
        let address = self.offer(0, number, None, now).unwrap().ip;
        assert!(self.request(0, number, address, now, seconds));
        self.committer.run_once(at(now));
        assert_eq!(self.completed(0), [(u64::from(number), true)]);
        address
    }

    pub(super) fn release(
        &mut self,
        shard: usize,
        number: u32,
        address: Ipv4Addr,
        now: u64,
    ) -> bool {
        let (_, key) = machine(number);
        let change = self.shards[shard].release(self.site.network, &key, address, at(now));
        change.map(|change| self.shards[shard].submit(change, None, at(now)).unwrap()).is_some()
    }

    pub(super) fn state(&self, address: Ipv4Addr, now: u64) -> Option<LeaseState> {
        self.leases.at(address, at(now)).map(|lease| lease.state)
    }

    pub(super) fn check(&self) {
        check_books(&self.leases);
    }
}

/// Every address of every pool is in exactly one place, and the counts say so.
pub(super) fn check_books(leases: &Leases) {
    use std::collections::HashMap;
    let pools = leases.pools();
    for (index, pool) in (0..).zip(pools.iter()) {
        let positions = pool.positions();
        let mut seen = HashMap::new();
        for (position, address) in &positions {
            let other = seen.insert(*address, *position);
            assert!(other.is_none(), "{address:x} has two positions: {other:?} {position:?}");
        }
        let mut slots = 0;
        let mut states = HashMap::<LeaseState, u64>::new();
        let mut used_in_range = 0;
        for slot in &leases.table.slots {
            if !pools.of(*slot.key()).is_some_and(|of| std::ptr::eq(of, pool)) {
                continue;
            }
            slots += 1;
            *states.entry(slot.lease.state).or_default() += 1;
            used_in_range += u64::from(slot.in_free_range);
            assert_eq!(slot.position, seen.get(slot.key()).copied(), "{:?}", *slot);
            let position = slot.position.unwrap();
            assert!(position.at <= slot.lease.expires || slot.pending, "{:?}", *slot);
        }
        assert_eq!(slots, positions.len());
        let counts = leases.pool_counts(PoolId::from_index(index)).unwrap();
        let of = |state| states.get(&state).copied().unwrap_or(0);
        assert_eq!(counts.active, of(LeaseState::Active));
        assert_eq!(counts.offered, of(LeaseState::Offered));
        assert_eq!(counts.declined, of(LeaseState::Declined));
        assert_eq!(counts.idle, of(LeaseState::Released) + of(LeaseState::Expired));
        let used = counts.active + counts.offered + counts.declined + counts.idle;
        assert_eq!(
            counts.unused + used,
            counts.size,
            "{counts:?}, {used_in_range} used in a fresh range"
        );
    }
}

pub(super) const HOUR: u64 = 3600;
