//! Any order of messages over several shards, with commits delayed and failed, kills, reboots and
//! reloads: never one address to two machines, never a lost acknowledged lease, exact books, and
//! nobody refused while an address is free.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU8;

use proptest::prelude::*;

use super::*;

/// A store whose next commit may fail, with nothing, a part, or all of the batch written.
#[derive(Default)]
struct FaultyStore {
    inner: MemoryStore,
    fault: AtomicU8,
}

#[derive(Copy, Clone, Debug)]
enum Fault {
    None = 0,
    Nothing = 1,
    Half = 2,
    All = 3,
    Reopen = 4,
}

impl FaultyStore {
    fn take(&self) -> u8 {
        self.fault.swap(Fault::None as u8, Relaxed)
    }

    fn error() -> StoreError {
        StoreError::Other("as asked for".to_owned())
    }
}

impl LeaseStore for FaultyStore {
    fn begin(&self, id: BatchId, batch: &[Write], clock: &Clock) -> Result<(), StoreError> {
        let mut addresses: Vec<_> = batch.iter().map(|write| write.ip).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), batch.len(), "an address twice in a batch");
        let written = match self.take() {
            1 => 0,
            2 => batch.len() / 2,
            3 => batch.len(),
            _ => return self.inner.begin(id, batch, clock),
        };
        self.inner.commit(&batch[..written], clock)?;
        Err(Self::error())
    }

    fn finish(&self) -> Option<Finished> {
        self.inner.finish()
    }

    fn load(&self, clock: &Clock, each: &mut dyn FnMut(Loaded)) -> Result<Recovered, StoreError> {
        self.inner.load(clock, each)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        if self.fault.load(Relaxed) == Fault::Reopen as u8 {
            self.take();
            return Err(Self::error());
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Offer { shard: usize, machine: u32, hint: Option<u8> },
    Bind { shard: usize, machine: u32, other: Option<u8>, seconds: u64 },
    Submit { which: usize },
    Abandon { which: usize },
    Commit { fault: Fault },
    Release { shard: usize, machine: u32 },
    Decline { shard: usize, machine: u32 },
    Probe { shard: usize, address: u8 },
    Forget { shard: usize, machine: u32 },
    Wait { seconds: u64 },
    Sweep { budget: usize },
    Reload { layout: usize },
    Kill { shards: usize, reboot: bool },
}

const MACHINES: u32 = 7;

fn step() -> impl Strategy<Value = Step> {
    let shard = 0..4_usize;
    let machine = 0..MACHINES;
    let address = 1..12_u8;
    let fault = prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::Nothing),
        1 => Just(Fault::Half),
        1 => Just(Fault::All),
        1 => Just(Fault::Reopen),
    ];
    prop_oneof![
        12 => (shard.clone(), machine.clone(), prop::option::weighted(0.3, address.clone()))
            .prop_map(|(shard, machine, hint)| Step::Offer { shard, machine, hint }),
        14 => (shard.clone(), machine.clone(), prop::option::weighted(0.1, address.clone()), 1..200_u64)
            .prop_map(|(shard, machine, other, seconds)| Step::Bind { shard, machine, other, seconds }),
        12 => any::<usize>().prop_map(|which| Step::Submit { which }),
        1 => any::<usize>().prop_map(|which| Step::Abandon { which }),
        8 => fault.prop_map(|fault| Step::Commit { fault }),
        4 => (shard.clone(), machine.clone()).prop_map(|(shard, machine)| Step::Release { shard, machine }),
        2 => (shard.clone(), machine.clone()).prop_map(|(shard, machine)| Step::Decline { shard, machine }),
        1 => (shard.clone(), address).prop_map(|(shard, address)| Step::Probe { shard, address }),
        2 => (shard, machine).prop_map(|(shard, machine)| Step::Forget { shard, machine }),
        4 => (1..90_u64).prop_map(|seconds| Step::Wait { seconds }),
        2 => (1..8_usize).prop_map(|budget| Step::Sweep { budget }),
        1 => (0..3_usize).prop_map(|layout| Step::Reload { layout }),
        1 => (1..5_usize, any::<bool>()).prop_map(|(shards, reboot)| Step::Kill { shards, reboot }),
    ]
}

/// In the second, machine 0 has an address of its own in the middle of the pool.
fn layout(number: usize) -> Site {
    match number {
        0 => Site::new(&[("10.0.0.1", "10.0.0.5")], &[]),
        1 => Site::new(&[("10.0.0.1", "10.0.0.5")], &["10.0.0.3"]),
        _ => Site::new(&[("10.0.0.2", "10.0.0.3"), ("10.0.0.6", "10.0.0.8")], &["10.0.0.9"]),
    }
}

fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// A REQUEST whose ACK is held.
struct Held {
    machine: u32,
    address: Ipv4Addr,
    until: u64,
    /// The client has said RELEASE or DECLINE since: it takes no ACK any more.
    given_up: bool,
}

struct World {
    store: Arc<FaultyStore>,
    server: Server,
    layout: usize,
    /// Seconds since the beginning, and when the machine was booted last.
    time: u64,
    booted: u64,
    boot: u8,
    /// Where each machine believes to be, from its last OFFER or ACK.
    place: HashMap<u32, Ipv4Addr>,
    unsubmitted: Vec<(usize, Change, Held)>,
    held: HashMap<u64, Held>,
    next_token: u64,
    /// Acknowledged leases: (machine, address), until.
    acknowledged: BTreeMap<(u32, Ipv4Addr), u64>,
}

impl World {
    fn new(layout_number: usize, shards: usize) -> Self {
        let store = Arc::new(FaultyStore::default());
        let server = Server::start(layout(layout_number), store.clone(), shards, clock(0));
        Self {
            store,
            server,
            layout: layout_number,
            time: 0,
            booted: 0,
            boot: 1,
            place: HashMap::new(),
            unsubmitted: Vec::new(),
            held: HashMap::new(),
            next_token: 0,
            acknowledged: BTreeMap::new(),
        }
    }

    fn now(&self) -> u64 {
        self.time - self.booted
    }

    fn clock(&self) -> Clock {
        let wall = 1_800_000_000 + self.time;
        Clock { now: at(self.now()), wall, boot: BootId([self.boot; 16]), synchronised: true }
    }

    fn shard(&self, shard: usize) -> usize {
        shard % self.server.shards.len()
    }

    fn step(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Offer { shard, machine, hint } => self.offer(shard, machine, hint),
            Step::Bind { shard, machine, other, seconds } => {
                let shard = self.shard(shard);
                let place = self.place.get(&machine).copied();
                let Some(address) = other.map(host).or(place) else { return };
                match self.server.bind(shard, machine, address, now, seconds) {
                    Bind::Pending(change) => {
                        let until = self.time + seconds;
                        let held = Held { machine, address, until, given_up: false };
                        self.unsubmitted.push((shard, change, held));
                    }
                    Bind::AlreadyPending => {
                        let waiting = |held: &Held| {
                            (held.machine, held.address) == (machine, address) && !held.given_up
                        };
                        let held = self.unsubmitted.iter().map(|(_, _, held)| held);
                        assert!(held.chain(self.held.values()).any(waiting), "nothing is pending");
                    }
                    Bind::Refused(_) => {
                        let key = (machine, address);
                        let lease = self.acknowledged.get(&key);
                        assert!(lease.is_none_or(|until| *until <= self.time), "renewal refused");
                    }
                }
            }
            Step::Submit { which } if !self.unsubmitted.is_empty() => {
                let (shard, change, held) =
                    self.unsubmitted.swap_remove(which % self.unsubmitted.len());
                let token = self.next_token;
                self.next_token += 1;
                self.server.shards[shard].submit(change, Some(token), at(now)).unwrap();
                self.held.insert(token, held);
            }
            Step::Abandon { which } if !self.unsubmitted.is_empty() => {
                let (shard, change, _) =
                    self.unsubmitted.swap_remove(which % self.unsubmitted.len());
                self.server.shards[shard].abandon(change, at(now));
            }
            Step::Submit { .. } | Step::Abandon { .. } => {}
            Step::Commit { fault } => {
                self.store.fault.store(fault as u8, Relaxed);
                self.commit();
                self.store.take();
            }
            Step::Release { shard, machine } => {
                let Some(&address) = self.place.get(&machine) else { return };
                self.give_up(machine, address);
                let shard = self.shard(shard);
                self.server.release(shard, machine, address, now);
            }
            Step::Decline { shard, machine } => {
                let Some(address) = self.place.remove(&machine) else { return };
                self.give_up(machine, address);
                let shard = self.shard(shard);
                let (_, key) = machine_key(machine);
                let network = self.server.site.network;
                let shard = &mut self.server.shards[shard];
                match shard.decline(network, &key, address, at(now), at(now + 100)) {
                    Declined::Quarantined(change) | Declined::Reserved(change) => {
                        shard.submit(change, None, at(now)).unwrap();
                    }
                    Declined::NotHeld => {}
                }
            }
            Step::Probe { shard, address } => {
                let shard = self.shard(shard);
                let shard = &mut self.server.shards[shard];
                if let Some(change) = shard.quarantine(host(address), at(now + 100)) {
                    shard.submit(change, None, at(now)).unwrap();
                }
            }
            Step::Forget { shard, machine } => {
                let shard = self.shard(shard);
                let network = self.server.site.network;
                let (_, key) = machine_key(machine);
                self.server.shards[shard].forget_offer(network, &key, at(now));
            }
            Step::Wait { seconds } => self.time += seconds,
            Step::Sweep { budget } => {
                self.server.leases.sweep(&self.clock(), budget);
            }
            Step::Reload { layout: number } => {
                self.layout = number;
                self.server.site = layout(number);
                self.server.leases.reconfigure(&self.server.site.dhcp);
            }
            Step::Kill { shards, reboot } => self.kill(shards, reboot),
        }
    }

    fn offer(&mut self, shard: usize, machine: u32, hint: Option<u8>) {
        let now = self.now();
        let shard = self.shard(shard);
        let offer = if self.layout == 1 && machine == 0 {
            self.server.fixed(shard, 0, "10.0.0.3", false, now)
        } else {
            let hint = hint.map(|hint| host(hint).to_string());
            self.server.offer(shard, machine, hint.as_deref(), now)
        };
        match offer {
            Ok(offer) => {
                let taken = self.acknowledged.iter().find(|((other, address), until)| {
                    *other != machine && *address == offer.ip && **until > self.time
                });
                assert_eq!(taken, None, "{offer:?} to {machine}");
                self.place.insert(machine, offer.ip);
            }
            Err(Refusal::PoolFull) => {
                let pools = self.server.leases.pools();
                for pool in &self.server.site.dhcp.pools {
                    for address in pool.range.0.to_bits()..=pool.range.1.to_bits() {
                        if pools.of(address).is_some() {
                            let slot = self.server.leases.table.slots.get(&address);
                            let free = slot.is_none_or(|slot| slot.is_free(at(now)));
                            assert!(!free, "{address:x} is free and {machine} was refused");
                        }
                    }
                }
            }
            Err(_) => {}
        }
    }

    fn commit(&mut self) {
        let now = self.now();
        self.server.committer.run_once(at(now));
        for shard in 0..self.server.shards.len() {
            for (token, written) in self.server.completed(shard) {
                let held = self.held.remove(&token).expect("a token comes back once");
                if written && !held.given_up && held.until > self.time {
                    self.place.insert(held.machine, held.address);
                    let until = self.acknowledged.entry((held.machine, held.address)).or_default();
                    *until = held.until.max(*until);
                }
            }
        }
    }

    fn give_up(&mut self, machine: u32, address: Ipv4Addr) {
        self.acknowledged.remove(&(machine, address));
        let held = self.unsubmitted.iter_mut().map(|(_, _, held)| held);
        for held in held.chain(self.held.values_mut()) {
            if (held.machine, held.address) == (machine, address) {
                held.given_up = true;
            }
        }
    }

    fn kill(&mut self, shards: usize, reboot: bool) {
        if reboot {
            self.boot += 1;
            // The clock of a new boot starts low.
            self.booted = self.time;
            self.time += 1;
        }
        self.unsubmitted.clear();
        self.held.clear();
        self.server = Server::start(layout(self.layout), self.store.clone(), shards, self.clock());
    }

    fn check(&self) {
        self.server.check();
        let mut owners = HashMap::new();
        for (&(machine, address), &until) in &self.acknowledged {
            if until <= self.time {
                continue;
            }
            let other = owners.insert(address, machine);
            assert_eq!(other, None, "{address} has been given to {machine} as well");
            let lease = self.server.leases.at(address, at(self.now()));
            let lease = lease.unwrap_or_else(|| panic!("{address} of {machine} is lost"));
            assert_eq!(lease.client, machine_key(machine).1, "{address} was {machine}'s");
            assert_eq!(lease.state, LeaseState::Active, "{address} of {machine}");
            assert!(lease.expires >= at(until - self.booted), "{address} of {machine} ends early");
        }
    }

    /// Once nothing fails any more, everything works.
    fn check_liveness(&mut self) {
        self.time += 10_000;
        while self.server.committer.run_once(at(self.now())) > 0 {}
        self.unsubmitted.clear();
        self.kill(2, false);
        self.server.site = layout(0);
        self.server.leases.reconfigure(&self.server.site.dhcp);
        self.layout = 0;
        for machine in 1..=5 {
            let now = self.now();
            let address = self.server.offer(machine as usize % 2, machine, None, now).unwrap().ip;
            assert!(self.server.request(0, machine, address, now, HOUR));
        }
        self.server.committer.run_once(at(self.now()));
        let answers = self.server.completed(0);
        assert!(answers.len() == 5 && answers.iter().all(|(_, written)| *written), "{answers:?}");
        self.server.check();
    }
}

fn machine_key(number: u32) -> (Hardware, ClientKey) {
    machine(number)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(
        layout in 0..3_usize,
        shards in 1..4_usize,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new(layout, shards);
        for step in steps {
            world.step(step);
            world.check();
        }
        world.check_liveness();
    }
}

/// What a failed batch left on the disk is put right by the next one that works.
#[test]
fn doubts_are_settled() {
    for fault in [Fault::Nothing, Fault::Half, Fault::All] {
        let store = Arc::new(FaultyStore::default());
        let mut server = Server::start(layout(0), store.clone(), 1, clock(0));
        let old = server.lease(1, 0, 100);
        let held: Vec<_> =
            (2..4).map(|number| server.offer(0, number, None, 10).unwrap().ip).collect();
        assert!(server.request(0, 2, held[0], 10, HOUR));
        assert!(server.request(0, 3, held[1], 10, HOUR));
        assert!(server.release(0, 1, old, 10));
        store.fault.store(fault as u8, Relaxed);
        server.committer.run_once(at(10));
        assert!(server.completed(0).iter().all(|(_, written)| !written));
        // Another client's lease is the next that is written, once the store is opened again.
        let other = server.offer(0, 4, None, 20).unwrap().ip;
        assert!(server.request(0, 4, other, 20, HOUR));
        server.committer.run_once(at(20));
        assert_eq!(server.completed(0), [(4, true)], "{fault:?}");
        let after = Server::start(layout(0), store, 1, clock(21));
        assert_eq!(after.state(old, 21), Some(LeaseState::Active), "{fault:?}");
        assert_eq!(after.state(held[0], 21), None, "{fault:?}");
        assert_eq!(after.state(held[1], 21), None, "{fault:?}");
        assert_eq!(after.state(other, 21), Some(LeaseState::Active), "{fault:?}");
    }
}

/// Real threads, a real committer: shards race for few addresses and for the same clients.
#[test]
fn shards_race() {
    const SHARDS: usize = 4;
    const MACHINES_EACH: u32 = 6;
    let store = Arc::new(MemoryStore::default());
    let site = Site::new(&[("10.0.0.1", "10.0.0.8")], &[]);
    let leases = Leases::open(store.clone(), &site.dhcp, SHARDS, clock(0)).unwrap();
    // Who believes to hold an address: number of the machine, 0 for nobody.
    let owners: Vec<_> = (0..9).map(|_| std::sync::atomic::AtomicU32::new(0)).collect();
    let committer = leases.committer().spawn(|| at(1)).unwrap();
    std::thread::scope(|scope| {
        for shard in 0..SHARDS {
            let (leases, owners, site) = (&leases, &owners, &site);
            scope.spawn(move || {
                let thread = std::thread::current();
                let mut mine = leases.shard(shard, move || thread.unpark());
                let pools = site.pools();
                let mut random = shard as u32 + 1;
                let mut waiting = HashMap::new();
                for round in 0..4_000_u64 {
                    random ^= random << 13;
                    random ^= random >> 17;
                    random ^= random << 5;
                    // A machine belongs to one shard, but its DISCOVER may reach any.
                    let foreign = machine(1 + random % (MACHINES_EACH * SHARDS as u32)).1;
                    let number = 1 + shard as u32 * MACHINES_EACH + random % MACHINES_EACH;
                    let (hardware, key) = machine(number);
                    let client = |key| Client {
                        network: site.network,
                        key,
                        hardware,
                        notes: Said::default(),
                    };
                    let candidates = Candidates::Pools(&pools);
                    let _ = mine.offer(&client(&foreign), candidates, None, at(1), at(1));
                    if waiting.values().any(|(other, _)| *other == number) {
                        // It waits for its ACK.
                    } else if let Ok(offer) =
                        mine.offer(&client(&key), candidates, None, at(1), at(2))
                        && let Bind::Pending(change) =
                            mine.bind(&client(&key), offer.ip, at(1), at(HOUR))
                    {
                        mine.submit(change, Some(round), at(1)).unwrap();
                        waiting.insert(round, (number, offer.ip));
                    }
                    mine.kick(random.is_multiple_of(3));
                    let mut acknowledged = Vec::new();
                    mine.completed(|token, written| {
                        let (number, address) = waiting.remove(&token).unwrap();
                        if written.is_ok() {
                            acknowledged.push((number, address));
                        }
                    });
                    for (number, address) in acknowledged {
                        let owner = &owners[address.octets()[3] as usize];
                        let before = owner.swap(number, Relaxed);
                        assert!(before == 0 || before == number, "{before} and {number}");
                        if random.is_multiple_of(2) {
                            owner.store(0, Relaxed);
                            let (_, key) = machine(number);
                            let change = mine.release(site.network, &key, address, at(1));
                            mine.submit(change.unwrap(), None, at(1)).unwrap();
                        }
                    }
                }
                while mine.waiting() > 0 {
                    mine.kick(true);
                    mine.completed(|token, _| {
                        waiting.remove(&token);
                    });
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                mine.kick(true);
            });
        }
    });
    drop(committer);
    check_books(&leases);
    let mut clients: Vec<_> = leases
        .page(ip("0.0.0.0"), 100, at(1))
        .into_iter()
        .filter(|lease| lease.is_active(at(1)))
        .map(|lease| lease.client.bytes().to_vec())
        .collect();
    let active = clients.len();
    clients.sort_unstable();
    clients.dedup();
    assert_eq!(clients.len(), active, "a client holds two addresses");
}
