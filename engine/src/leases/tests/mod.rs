//! What leases must never do, whatever happens.

mod bills;
mod disk;
mod ended;
mod faulty;
mod holders;
mod model;
mod races;
mod reload;
mod steps;
mod transitions;

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::config::{Host, Network, NetworkId, Pool, Prefix, Scope, Subnet};

/// The network, pool and machines of most tests.
pub(super) struct Site {
    pub(super) dhcp: Dhcp,
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
        dhcp.networks = vec![Network { subnets: vec![subnet], ..Network::default() }];
        dhcp.subnets = vec![Subnet {
            network,
            prefix: Prefix::containing(ip("10.0.0.0"), 16).unwrap(),
            around: None,
            scope: Scope::default(),
            groups: Box::default(),
            pools: ids.take(pools.len()).collect(),
        }];
        dhcp.pools = pools
            .iter()
            .map(|(low, high)| Pool {
                declared: 0,
                subnet,
                range: (ip(low), ip(high)),
                scope: Scope::default(),
                groups: Box::default(),
                allow: Vec::new(),
                deny: Vec::new(),
                class: None,
            })
            .collect();
        Self { dhcp }
    }

    /// Some of the pools, a bit for each; all when none of the bits is one's.
    pub(super) fn chosen(&self, bits: u8) -> Vec<PoolId> {
        let all = self.pools();
        let chosen: Vec<_> =
            all.iter().copied().filter(|pool| bits & 1 << pool.index() != 0).collect();
        if chosen.is_empty() { all } else { chosen }
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

/// An address that was offered, and whether the client has it or had it last.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Offer {
    pub(super) ip: Ipv4Addr,
    pub(super) previous: bool,
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

    /// Offers as the rules do: what the client has or had in the pools, else `hint`, else what the
    /// pools propose.
    pub(super) fn offer(
        &mut self,
        shard: usize,
        number: u32,
        hint: Option<&str>,
        now: u64,
    ) -> Result<Offer, Refusal> {
        self.offer_from(shard, number, hint, now, u8::MAX)
    }

    /// The same from some of the pools, a bit for each.
    pub(super) fn offer_from(
        &mut self,
        shard: usize,
        number: u32,
        hint: Option<&str>,
        now: u64,
        pools: u8,
    ) -> Result<Offer, Refusal> {
        let pools = self.site.chosen(pools);
        let own = self.own(shard, number, now, &pools);
        let (ip, previous) = match own {
            Some(ip) => (ip, true),
            None => {
                let dhcp = &self.site.dhcp;
                let hint = hint.map(|hint| IpAddr::V4(ip(hint)));
                (self.shards[shard].propose(dhcp, &pools, hint, at(now))?, false)
            }
        };
        let IpAddr::V4(ip) = ip else { panic!("{ip}") };
        self.hold(shard, number, ip, now)?;
        Ok(Offer { ip, previous })
    }

    /// The address in the pools that the client has, is offered, or had last.
    fn own(&self, shard: usize, number: u32, now: u64, pools: &[PoolId]) -> Option<IpAddr> {
        let known = self.leases.pools();
        let permitted = |lease: &Lease| {
            let of = known.of(lease.ip.into());
            of.is_some_and(|of| pools.iter().any(|pool| known.get(*pool) == Some(of)))
        };
        let mut best: Option<Lease> = None;
        let rank = |lease: &Lease| {
            let held = lease.is_active(at(now)) || lease.pending;
            (held, lease.state.is_taken(), lease.starts)
        };
        self.shards[shard].of_client(&machine(number).1, at(now), |lease| {
            let better = best.as_ref().is_none_or(|best| rank(lease) > rank(best));
            if permitted(lease) && better {
                best = Some(lease.clone());
            }
        });
        best.map(|lease| lease.ip)
    }

    /// Offers exactly this address.
    pub(super) fn hold(
        &mut self,
        shard: usize,
        number: u32,
        address: Ipv4Addr,
        now: u64,
    ) -> Result<(), Refusal> {
        let offer =
            Step::Offer { ip: address.into(), admission: Admission::Unknown, until: at(now + 60) };
        let change = self.step(shard, number, offer, now)?;
        assert!(change.is_none(), "an offer is written");
        Ok(())
    }

    /// Takes a step of a machine.
    pub(super) fn step(
        &mut self,
        shard: usize,
        number: u32,
        step: Step<'_>,
        now: u64,
    ) -> Result<Option<Change>, Refusal> {
        let (hardware, key) = machine(number);
        let client = Client { key: &key, hardware, notes: Said::default() };
        self.shards[shard].apply(&client, &step, at(now)).map_err(|Conflict(refusal)| refusal)
    }

    /// Takes a step, and has it written; whether there was something to write.
    pub(super) fn step_and_submit(
        &mut self,
        shard: usize,
        number: u32,
        step: Step<'_>,
        now: u64,
    ) -> Result<bool, Refusal> {
        let change = self.step(shard, number, step, now)?;
        let writes = change.is_some();
        self.shards[shard].submit(change, None, at(now)).unwrap();
        Ok(writes)
    }

    /// `Ok(None)`: it is being written already.
    pub(super) fn bind(
        &mut self,
        shard: usize,
        number: u32,
        address: Ipv4Addr,
        now: u64,
        seconds: u64,
    ) -> Result<Option<Change>, Refusal> {
        self.step(shard, number, bound(address, at(now + seconds), false), now)
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
            Ok(Some(change)) => {
                self.shards[shard].submit(change, Some(u64::from(number)), at(now)).unwrap();
                true
            }
            Ok(None) | Err(_) => false,
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
        let release = Step::Release { ip: address.into() };
        self.step_and_submit(shard, number, release, now) == Ok(true)
    }

    /// The only address that a machine has, is offered, or had last.
    pub(super) fn found(&self, number: u32, now: u64) -> Option<Lease> {
        let mut found = Vec::new();
        self.shards[0].of_client(&machine(number).1, at(now), |lease| found.push(lease.clone()));
        assert!(found.len() < 2, "{found:?}");
        found.pop()
    }

    pub(super) fn state(&self, address: Ipv4Addr, now: u64) -> Option<LeaseState> {
        self.leases.at(address, at(now)).map(|lease| lease.state)
    }

    pub(super) fn check(&self) {
        check_books(&self.leases);
    }
}

/// A REQUEST of a client.
pub(super) fn bound(address: Ipv4Addr, expires: Moment, heard: bool) -> Step<'static> {
    Step::Bind { ip: address.into(), admission: Admission::Unknown, expires, heard }
}

/// Every address of every pool is in exactly one place, every slot is listed where it belongs, and
/// the counts say so.
pub(super) fn check_books(leases: &Leases) {
    use std::collections::{BTreeMap, BTreeSet, HashMap};
    let pools = leases.pools();
    let mut timers: HashMap<_, _> = HashMap::new();
    for (shard, at, handle) in leases.table.timers.list() {
        assert_eq!(timers.insert(handle, (shard, at)), None, "{handle:?} has two timers");
    }
    let mut slots = BTreeMap::new();
    leases.table.each_slot(|stripe, handle| {
        let slot = &stripe.slots[handle.index()];
        let state = slot.state(&stripe.sides);
        let timer = timers.remove(&handle);
        let own = (slot.timer != Moment::NEVER).then_some((slot.shard, slot.timer));
        assert_eq!(timer, own, "{slot:?}");
        // Time has looked at it when it was listed; then its timer is not too late.
        if let Some(end) = state.next_end(Moment::default()) {
            let settled = matches!(state, state::State::Settled(_));
            let ended = settled && (!slot.listed.is_taken() || slot.pool == 0);
            assert!(ended || slot.timer <= end, "{slot:?} {state:?}");
        }
        let idle = matches!(state, state::State::Settled(_)) && !slot.listed.is_taken();
        let since = state.view(Moment::default()).2;
        let idle = idle.then_some((since, handle));
        let counted = (slot.listed, idle, slot.pool, slot.in_free_range);
        assert_eq!(slots.insert(slot.address, counted), None);
    });
    assert!(timers.is_empty(), "{timers:?}");
    for (index, pool) in (0..).zip(pools.iter()) {
        let (unused, idle) = pool.lists();
        let mut unused_once = BTreeSet::new();
        for address in unused {
            assert!(unused_once.insert(address), "{address:?} is unused twice");
        }
        let mut idle: BTreeSet<_> = idle.into_iter().collect();
        let mut states = HashMap::<LeaseState, u64>::new();
        let of_pool = |ip: &Address| pools.of(*ip) == Some(pool);
        for (address, (listed, listed_idle, number, in_free_range)) in &slots {
            if !of_pool(address) {
                continue;
            }
            assert_eq!(*number, pool.number, "{address:?} is not counted");
            *states.entry(*listed).or_default() += 1;
            assert_eq!(unused_once.remove(address), *in_free_range, "{address:?}");
            if let Some(entry) = listed_idle {
                assert!(idle.remove(entry), "{address:?} is not among the idle");
            }
        }
        assert!(idle.is_empty(), "{idle:?}");
        let counts = leases.pool_counts(PoolId::from_index(index)).unwrap();
        let of = |state| states.get(&state).copied().unwrap_or(0);
        assert_eq!(counts.active, of(LeaseState::Active));
        assert_eq!(counts.offered, of(LeaseState::Offered));
        assert_eq!(counts.declined, of(LeaseState::Declined));
        assert_eq!(counts.idle, of(LeaseState::Released) + of(LeaseState::Expired));
        let used = counts.active + counts.offered + counts.declined + counts.idle;
        assert_eq!(counts.unused + used, counts.size, "{counts:?}");
        assert_eq!(unused_once.len() as u64, counts.unused, "{unused_once:?}");
    }
}

pub(super) const HOUR: u64 = 3600;
