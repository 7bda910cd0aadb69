//! Any order of messages over several shards, with commits delayed, refused and failed, ACKs lost,
//! kills, reboots and reloads: never one address to two machines, by what the machines were told;
//! never a lost acknowledged lease; exact books; and nobody refused while an address is free.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::faulty::{Fault, FaultyStore};
use super::*;

#[derive(Clone, Debug)]
enum Act {
    /// A DISCOVER; `pools` are those that the stage of the boot may have, a bit for each.
    Discover {
        shard: usize,
        machine: u32,
        hint: Option<u8>,
        pools: u8,
    },
    /// A REQUEST for the address that the machine was told last, or for another.
    Request {
        shard: usize,
        machine: u32,
        other: Option<u8>,
        seconds: Option<u64>,
        lost: bool,
    },
    Submit {
        which: usize,
    },
    Abandon {
        which: usize,
    },
    Commit {
        fault: Fault,
    },
    Release {
        shard: usize,
        machine: u32,
    },
    Decline {
        shard: usize,
        machine: u32,
    },
    /// A person releases an address.
    Operator {
        address: u8,
    },
    /// A NAK for what the machine was told last; perhaps it gets there.
    Refuse {
        shard: usize,
        machine: u32,
        lost: bool,
    },
    Probe {
        shard: usize,
        address: u8,
    },
    Withdraw {
        shard: usize,
        machine: u32,
    },
    Wait {
        seconds: u64,
    },
    Sweep {
        budget: usize,
    },
    Reload {
        layout: usize,
    },
    Kill {
        shards: usize,
        reboot: bool,
    },
}

/// The last two are one machine under two identities: [`TWINS`].
const MACHINES: u32 = 8;
const TWINS: [u32; 2] = [0, 7];

fn act() -> impl Strategy<Value = Act> {
    let shard = 0..4_usize;
    let machine = 0..MACHINES;
    let address = 1..12_u8;
    let fault = prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::Nothing),
        1 => Just(Fault::Half),
        1 => Just(Fault::All),
        1 => Just(Fault::Reopen),
        1 => Just(Fault::Refuse),
    ];
    let hint = prop::option::weighted(0.3, address.clone());
    let other = prop::option::weighted(0.1, address.clone());
    let seconds = prop::option::weighted(0.85, 1..200_u64);
    let lost = prop::bool::weighted(0.3);
    prop_oneof![
        12 => (shard.clone(), machine.clone(), hint, 1..4_u8)
            .prop_map(|(shard, machine, hint, pools)| Act::Discover { shard, machine, hint, pools }),
        14 => (shard.clone(), machine.clone(), other, seconds, lost).prop_map(
            |(shard, machine, other, seconds, lost)| Act::Request { shard, machine, other, seconds, lost }
        ),
        12 => any::<usize>().prop_map(|which| Act::Submit { which }),
        1 => any::<usize>().prop_map(|which| Act::Abandon { which }),
        8 => fault.prop_map(|fault| Act::Commit { fault }),
        4 => (shard.clone(), machine.clone()).prop_map(|(shard, machine)| Act::Release { shard, machine }),
        2 => (shard.clone(), machine.clone()).prop_map(|(shard, machine)| Act::Decline { shard, machine }),
        1 => address.clone().prop_map(|address| Act::Operator { address }),
        2 => (shard.clone(), machine.clone(), lost)
            .prop_map(|(shard, machine, lost)| Act::Refuse { shard, machine, lost }),
        1 => (shard.clone(), address).prop_map(|(shard, address)| Act::Probe { shard, address }),
        2 => (shard, machine).prop_map(|(shard, machine)| Act::Withdraw { shard, machine }),
        4 => (1..90_u64).prop_map(|seconds| Act::Wait { seconds }),
        2 => (1..8_usize).prop_map(|budget| Act::Sweep { budget }),
        1 => (0..3_usize).prop_map(|layout| Act::Reload { layout }),
        1 => (1..5_usize, any::<bool>()).prop_map(|(shards, reboot)| Act::Kill { shards, reboot }),
    ]
}

/// In the second the twins have an address of their own in the middle of the pool.
pub(super) fn layout(number: usize) -> Site {
    match number {
        0 => Site::new(&[("10.0.0.1", "10.0.0.5")], &[]),
        1 => Site::new(&[("10.0.0.1", "10.0.0.5")], &["10.0.0.3"]),
        _ => Site::new(&[("10.0.0.2", "10.0.0.3"), ("10.0.0.6", "10.0.0.8")], &["10.0.0.9"]),
    }
}

fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// An end that is never, as seconds.
const NEVER: u64 = u64::MAX;

/// A REQUEST whose ACK is held.
struct Held {
    machine: u32,
    address: Ipv4Addr,
    until: u64,
    /// The ACK does not get there.
    lost: bool,
    /// RELEASE, DECLINE or a person's release came since: no ACK may leave.
    given_up: bool,
}

struct World {
    store: Arc<FaultyStore>,
    server: Server,
    layout: usize,
    /// Seconds since the beginning, and when the host was booted last.
    time: u64,
    booted: u64,
    boot: u8,
    /// Where each machine wants to be, from its last OFFER or ACK.
    place: HashMap<u32, Ipv4Addr>,
    unsubmitted: Vec<(usize, Change, Held)>,
    held: HashMap<u64, Held>,
    next_token: u64,
    /// What machines believe to hold, by the ACKs that got there: (machine, address), until.
    believed: BTreeMap<(u32, Ipv4Addr), u64>,
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
            believed: BTreeMap::new(),
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

    /// Whether a machine believes to hold an address now.
    fn believes(&self, machine: u32, address: Ipv4Addr) -> bool {
        self.believed.get(&(machine, address)).is_some_and(|until| *until > self.time)
    }

    fn act(&mut self, act: Act) {
        let now = self.now();
        match act {
            Act::Discover { shard, machine, hint, pools } => {
                self.discover(shard, machine, hint, pools);
            }
            Act::Request { shard, machine, other, seconds, lost } => {
                self.request(shard, machine, other, seconds, lost);
            }
            Act::Submit { which } if !self.unsubmitted.is_empty() => {
                let (shard, change, held) =
                    self.unsubmitted.swap_remove(which % self.unsubmitted.len());
                let token = self.next_token;
                self.next_token += 1;
                self.server.shards[shard].submit(change, Some(token), at(now)).unwrap();
                self.held.insert(token, held);
            }
            Act::Abandon { which } if !self.unsubmitted.is_empty() => {
                let (shard, change, _) =
                    self.unsubmitted.swap_remove(which % self.unsubmitted.len());
                self.server.shards[shard].abandon(change, at(now));
            }
            Act::Submit { .. } | Act::Abandon { .. } => {}
            Act::Commit { fault } => {
                self.store.fail(fault);
                self.commit();
                self.store.fail(Fault::None);
            }
            Act::Release { shard, machine } => {
                let Some(&address) = self.place.get(&machine) else { return };
                self.give_up(machine, address);
                let shard = self.shard(shard);
                self.server.release(shard, machine, address, now);
            }
            Act::Decline { shard, machine } => {
                let Some(address) = self.place.remove(&machine) else { return };
                self.give_up(machine, address);
                let shard = self.shard(shard);
                let decline = Step::Decline { ip: address.into(), until: at(now + 100) };
                let _refused = self.server.step_and_submit(shard, machine, decline, now);
            }
            Act::Operator { address } => self.operator(host(address)),
            Act::Refuse { shard, machine, lost } => self.refuse(shard, machine, lost),
            Act::Probe { shard, address } => {
                let shard = self.shard(shard);
                let held = self.server.leases.at(host(address), at(now));
                let hardware = held.map(|lease| lease.hardware).unwrap_or_default();
                let shard = &mut self.server.shards[shard];
                let (since, until) = (Moment::default(), at(now + 100));
                let ip = host(address);
                if let Some(change) = shard.quarantine(ip, hardware, since, at(now), until) {
                    let waiting = self.unsubmitted.iter_mut().map(|(_, _, held)| held);
                    for held in waiting.chain(self.held.values_mut()) {
                        held.given_up |= held.address == ip;
                    }
                    shard.submit(change, None, at(now)).unwrap();
                }
            }
            Act::Withdraw { shard, machine } => {
                let Some(&address) = self.place.get(&machine) else { return };
                let shard = self.shard(shard);
                let withdraw = Step::Withdraw { ip: address.into() };
                assert!(
                    !self.server.step(shard, machine, withdraw, now).is_ok_and(|c| c.is_some())
                );
            }
            Act::Wait { seconds } => self.time += seconds,
            Act::Sweep { budget } => {
                self.server.leases.sweep(&self.clock(), budget);
            }
            Act::Reload { layout: number } => {
                self.layout = number;
                self.server.site = layout(number);
                self.server.leases.reconfigure(&[], &self.server.site.dhcp);
            }
            Act::Kill { shards, reboot } => self.kill(shards, reboot),
        }
    }

    fn discover(&mut self, shard: usize, machine: u32, hint: Option<u8>, pools: u8) {
        let now = self.now();
        let shard = self.shard(shard);
        // Whoever was refused starts anew: that lease ends, and the machine knows.
        let mut refused = Vec::new();
        let key = machine_key(machine);
        self.server.shards[shard].of_client(&key, at(now), |lease| {
            if lease.refused && lease.is_active(at(now)) {
                refused.push(lease.ip);
            }
        });
        for ip in refused {
            let IpAddr::V4(address) = ip else { continue };
            self.give_up(machine, address);
            let _pending = self.server.step_and_submit(shard, machine, Step::End { ip }, now);
        }
        let reserved = host(3);
        let offered = if self.layout == 1 && TWINS.contains(&machine) {
            let admission =
                Admission::Host(KnownAs { name: "twins", by: KeyKind::Hardware, key: None });
            let offer = Step::Offer { ip: reserved.into(), admission, until: at(now + 60) };
            self.step(shard, machine, offer).map(|_| {
                // The machine starts anew under this identity, and forgets the other.
                let twin = TWINS[usize::from(machine == TWINS[0])];
                self.believed.remove(&(twin, reserved));
                reserved
            })
        } else {
            let hint = hint.map(|hint| host(hint).to_string());
            self.server
                .offer_from(shard, machine, hint.as_deref(), now, pools)
                .map(|offer| offer.ip)
        };
        match offered {
            Ok(address) => {
                let taken = self.believed.iter().find(|((other, believed), until)| {
                    *other != machine && *believed == address && **until > self.time
                });
                assert_eq!(taken, None, "{address} is offered to {machine}");
                self.place.insert(machine, address);
            }
            Err(Refusal::PoolFull) => {
                let known = self.server.leases.pools();
                for pool in self.server.site.chosen(pools) {
                    let (low, high) = self.server.site.dhcp.pool(pool).range;
                    for bits in low.to_bits()..=high.to_bits() {
                        let address = Ipv4Addr::from_bits(bits).into();
                        let free = known.of(address).is_some()
                            && self.server.leases.table.is_free(address, at(now));
                        assert!(!free, "{address:?} is free and {machine} was refused");
                    }
                }
            }
            Err(_) => {}
        }
    }

    /// A step of a machine; the twins share their hardware address.
    fn step(
        &mut self,
        shard: usize,
        number: u32,
        step: Step<'_>,
    ) -> Result<Option<Change>, Refusal> {
        let now = self.now();
        let (hardware, _) = machine(if number == TWINS[1] { TWINS[0] } else { number });
        let client = Client { key: &machine_key(number), hardware, notes: Said::default() };
        self.server.shards[shard]
            .apply(&client, &step, at(now))
            .map_err(|Conflict(refusal)| refusal)
    }

    fn request(
        &mut self,
        shard: usize,
        machine: u32,
        other: Option<u8>,
        seconds: Option<u64>,
        lost: bool,
    ) {
        let shard = self.shard(shard);
        let place = self.place.get(&machine).copied();
        let Some(address) = other.map(host).or(place) else { return };
        // A machine renews what it believes to have until some time; nobody renews for ever.
        let believed = self.believed.get(&(machine, address)).copied();
        let heard = believed.is_some_and(|until| until > self.time && until != NEVER);
        let until = seconds.map_or(NEVER, |seconds| self.time + seconds);
        let expires = seconds.map_or(Moment::NEVER, |seconds| at(self.now() + seconds));
        match self.step(shard, machine, bound(address, expires, heard)) {
            Ok(Some(change)) => {
                let held = Held { machine, address, until, lost, given_up: false };
                self.unsubmitted.push((shard, change, held));
            }
            Ok(None) => {
                let waiting = |held: &Held| {
                    (held.machine, held.address) == (machine, address) && !held.given_up
                };
                let held = self.unsubmitted.iter().map(|(_, _, held)| held);
                assert!(held.chain(self.held.values()).any(waiting), "nothing is pending");
            }
            Err(_) => assert!(!self.believes(machine, address), "renewal refused"),
        }
    }

    /// A NAK to a machine that renews. What gets there ends what the machine believes.
    fn refuse(&mut self, shard: usize, machine: u32, lost: bool) {
        let Some(&address) = self.place.get(&machine) else { return };
        let shard = self.shard(shard);
        let refuse = Step::Refuse { ip: address.into() };
        let now = self.now();
        if self.server.step_and_submit(shard, machine, refuse, now).is_ok() && !lost {
            self.believed.remove(&(machine, address));
        }
    }

    fn operator(&mut self, address: Ipv4Addr) {
        let now = self.now();
        let leases = &self.server.leases;
        let pools = leases.pools();
        if let Some(change) = leases.table.release(&pools, address.into(), at(now)) {
            for machine in 0..MACHINES {
                self.give_up(machine, address);
            }
            self.server
                .leases
                .queue
                .submit(queue::Queued { change, from: 0, token: None })
                .unwrap();
        }
    }

    fn commit(&mut self) {
        let now = self.now();
        self.server.committer.run_once(at(now));
        for shard in 0..self.server.shards.len() {
            for (token, written) in self.server.completed(shard) {
                let held = self.held.remove(&token).expect("a token comes back once");
                assert!(!(written && held.given_up), "an ACK leaves for what was given up");
                if written && !held.lost && held.until > self.time {
                    self.place.insert(held.machine, held.address);
                    self.believed.insert((held.machine, held.address), held.until);
                }
            }
        }
    }

    fn give_up(&mut self, machine: u32, address: Ipv4Addr) {
        self.believed.remove(&(machine, address));
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
        for (&(machine, address), &until) in &self.believed {
            if until <= self.time {
                continue;
            }
            let other = owners.insert(address, machine);
            assert_eq!(other, None, "{address} has been given to {machine} as well");
            let lease = self.server.leases.at(address, at(self.now()));
            let lease = lease.unwrap_or_else(|| panic!("{address} of {machine} is lost"));
            assert_eq!(lease.client, machine_key(machine), "{address} was {machine}'s");
            assert_eq!(lease.state, LeaseState::Active, "{address} of {machine}");
            let end = if until == NEVER { Moment::NEVER } else { at(until - self.booted) };
            assert!(lease.expires >= end, "{address} of {machine} ends early");
            let mut found = false;
            let own = &self.server.shards[0];
            own.of_client(&lease.client, at(self.now()), |own| found |= own.ip == lease.ip);
            assert!(found, "{machine} does not find {address}");
        }
    }

    /// Once nothing fails any more, everything works.
    fn check_liveness(&mut self) {
        while self.server.committer.run_once(at(self.now())) > 0 {}
        self.unsubmitted.clear();
        self.kill(2, false);
        for number in 1..12 {
            // Some were given for ever.
            self.operator(host(number));
        }
        while self.server.committer.run_once(at(self.now())) > 0 {}
        self.time += 10_000;
        self.server.site = layout(0);
        self.server.leases.reconfigure(&[], &self.server.site.dhcp);
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

fn machine_key(number: u32) -> ClientKey {
    machine(number).1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(
        layout in 0..3_usize,
        shards in 1..4_usize,
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let mut world = World::new(layout, shards);
        for act in acts {
            world.act(act);
            world.check();
        }
        world.check_liveness();
    }
}
