//! Whatever clients do in whatever order, over several shards, with crashes, failing disks, lost
//! replies and reloads between: no two machines ever hold one address; and no bytes bring the rules
//! down.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bootstorm_protocols::dhcpv4::{Message, MessageType, options};
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;
use proptest::prelude::*;

use super::client::{Client, Datagram, UUID};
use super::server::configuration;
use super::{ip, mac};
use crate::config::Config;
use crate::dhcp::{Action, Arrival, Silence, Through, answer, plan};
use crate::leases::{Clock, Committer, LeaseStore, Leases, MemoryStore, ShardLeases};

/// Six addresses, one of them reserved, for eight machines.
const TIGHT: &str = r#"
[dhcp]
authoritative = true
lease-time = "100s"
offer-time = "20s"
decline-time = "50s"
rapid-commit = true
[[dhcp.subnet]]
subnet = "10.1.0.0/24"
pools = ["10.1.0.10-10.1.0.15"]
[[dhcp.host]]
name = "reserved"
hardware = "52:54:00:00:00:01"
ip = "10.1.0.12"
"#;

/// A host that machine 2 is in the stages that say the UUID, and which address is whose.
const BY_UUID: &str = r#"
[[dhcp.host]]
name = "by-uuid"
uuid = "564d3210-aabb-ccdd-0102-030405060708"
ip = "10.1.0.11"
options = { domain-name = "by-uuid" }
"#;

/// What a reload may bring: reservations that come, go, swap and move from one host to another,
/// pools that move and shrink or are for a stage, and endless leases.
static CONFIGS: LazyLock<Vec<Config>> = LazyLock::new(|| {
    let other = TIGHT.replace("00:01", "00:03");
    let stages = TIGHT.replace(
        "pools = [\"10.1.0.10-10.1.0.15\"]",
        "pools = [{ range = \"10.1.0.10-10.1.0.12\", class = \"pxe\" }, \
         { range = \"10.1.0.13-10.1.0.15\", deny = [\"class:pxe\"] }]",
    ) + "[[dhcp.class]]\nname = \"pxe\"\nvendor-class = \"PXEClient\"\n";
    let swapped = TIGHT.replace("0.12", "0.11") + &BY_UUID.replace("0.11", "0.12");
    [
        TIGHT.to_owned(),
        TIGHT.to_owned() + BY_UUID,
        swapped,
        other.replace("10.1.0.10-10.1.0.15", "10.1.0.13-10.1.0.18"),
        stages,
        TIGHT.replace("reserved", "renamed").replace("0.12", "0.10"),
        TIGHT.replace("\"100s\"", "\"infinite\""),
    ]
    .map(|text| configuration(&text))
    .into()
});
/// The last of them has endless leases.
const ENDLESS: usize = 6;
const MACHINES: u8 = 8;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 6);

#[derive(Clone, Copy, Debug)]
enum What {
    Discover,
    RapidDiscover,
    Select,
    SelectAnother,
    Reboot,
    Renew,
    Rebind,
    Release,
    Decline,
}

#[derive(Clone, Debug)]
enum Step {
    /// The machine says it in that stage of its boot; `deaf` if the answer is lost.
    Says {
        machine: u8,
        firmware: bool,
        shard: usize,
        what: What,
        deaf: bool,
    },
    Reload(usize),
    Commit,
    DiskFails(bool),
    Pass {
        seconds: u64,
    },
    Crash {
        shards: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use What::*;
    let what = prop_oneof![
        4 => Just(Discover), 1 => Just(RapidDiscover), 6 => Just(Select), 1 => Just(SelectAnother),
        2 => Just(Reboot), 2 => Just(Renew), 2 => Just(Rebind), 1 => Just(Release),
        1 => Just(Decline),
    ];
    let step = prop_oneof![
        20 => (1..=MACHINES, any::<bool>(), 0..4_usize, what, prop::bool::weighted(0.2))
            .prop_map(|(machine, firmware, shard, what, deaf)|
                Step::Says { machine, firmware, shard, what, deaf }),
        1 => (0..=ENDLESS).prop_map(Step::Reload),
        5 => Just(Step::Commit),
        1 => any::<bool>().prop_map(Step::DiskFails),
        3 => (1..60_u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => (1..=4_usize).prop_map(|shards| Step::Crash { shards }),
    ];
    prop::collection::vec(step, 1..200)
}

/// What a machine knows.
#[derive(Clone, Default)]
struct Machine {
    /// Number of its last message: replies to earlier ones are dropped.
    said: u32,
    offered: Option<Ipv4Addr>,
    /// The address it uses, and until when.
    holds: Option<(Ipv4Addr, Moment)>,
    /// What each of its stages, the firmware last, would ask for after a restart.
    remembers: [Option<Ipv4Addr>; 2],
}

/// An ACK that waits for its lease to be durable.
struct Waiting {
    machine: u8,
    stage: usize,
    said: u32,
    address: Ipv4Addr,
    until: Moment,
}

struct Simulation {
    config: &'static Config,
    store: Arc<MemoryStore>,
    leases: Arc<Leases>,
    shards: Vec<ShardLeases>,
    committer: Committer,
    now: Moment,
    machines: HashMap<u8, Machine>,
    waiting: HashMap<u64, Waiting>,
    token: u64,
}

fn clock(now: Moment) -> Clock {
    Clock {
        now,
        wall: 1_700_000_000 + now.as_nanos() / 1_000_000_000,
        boot: Default::default(),
        synchronised: true,
    }
}

impl Simulation {
    fn new(shards: usize) -> Self {
        let config = &CONFIGS[0];
        let store = Arc::new(MemoryStore::default());
        let now = Moment::from_nanos(0);
        let (leases, shards, committer) = start(&store, config, shards, now);
        let machines = (1..=MACHINES).map(|number| (number, Machine::default())).collect();
        let waiting = HashMap::new();
        Self { config, store, leases, shards, committer, now, machines, waiting, token: 0 }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Says { machine, firmware, shard, what, deaf } => {
                let stage = usize::from(firmware);
                if let Some(datagram) = self.say(machine, stage, what) {
                    self.hear((machine, stage), shard % self.shards.len(), &datagram, deaf);
                }
            }
            Step::Reload(number) => {
                self.config = &CONFIGS[number];
                self.leases.reconfigure(&[], &self.config.dhcp);
            }
            Step::Commit => self.commit(),
            Step::DiskFails(failing) => self.store.set_failing(failing),
            Step::Pass { seconds } => self.now = self.now + Duration::from_secs(seconds),
            Step::Crash { shards } => {
                self.waiting.clear();
                self.store.set_failing(false);
                (self.leases, self.shards, self.committer) =
                    start(&self.store, self.config, shards, self.now);
            }
        }
        self.check();
    }

    fn say(&mut self, number: u8, stage: usize, what: What) -> Option<Datagram> {
        let machine = self.machines.get_mut(&number).unwrap();
        let mut client = Client::plain(mac(number));
        if stage == 1 {
            client = client.with(options::VENDOR_CLASS_IDENTIFIER, b"PXEClient");
            if number == 2 {
                client = client.with(options::PXE_CLIENT_ID, &[&[0], &UUID[..]].concat());
            }
        }
        let valid = machine.holds.filter(|(_, until)| self.now < *until);
        let held = valid.map(|(address, _)| address);
        // Nobody renews a lease without end: who does has heard of one (see `Lease::told`).
        let finite = valid.filter(|(_, until)| *until != Moment::NEVER).map(|(address, _)| address);
        let datagram = match what {
            What::Discover => client.discover(),
            What::RapidDiscover => client.with(80, &[]).discover(),
            What::Select => client.select_from(SERVER, machine.offered?),
            What::SelectAnother => client.select_from(ip("10.1.0.7"), ip("10.1.0.200")),
            What::Reboot => client.reboot(machine.remembers[stage]?),
            What::Renew => client.renew(finite?),
            What::Rebind => client.rebind(finite?),
            What::Release => client.release(held?),
            What::Decline => client.decline(held?),
        };
        machine.said += 1;
        // Who begins anew has no address: it gave it up, or went on to another stage.
        if matches!(what, What::Release | What::Decline | What::Discover | What::RapidDiscover) {
            machine.holds = None;
        }
        Some(datagram)
    }

    fn hear(
        &mut self,
        (number, stage): (u8, usize),
        shard: usize,
        datagram: &Datagram,
        deaf: bool,
    ) {
        let message = Message::parse(&datagram.payload).unwrap();
        let arrival = Arrival {
            ifindex: 2,
            interface: &[SERVER],
            server: &[SERVER],
            mtu: 1500,
            destination: Some(datagram.to),
            source: datagram.source,
        };
        let arena = Bump::new();
        let shard = &mut self.shards[shard];
        let dhcp = &self.config.dhcp;
        let planned = plan(&message, &arrival, dhcp, shard, self.now, &arena);
        let decision = answer(&message, &arrival, dhcp, shard, self.now, &arena);
        // Of free addresses the pools may propose another one each time.
        let chosen = planned.reasons().and_then(|reasons| reasons.chosen);
        let any = chosen.is_some_and(|chosen| chosen.through == Through::Free);
        let said = |action: &Action<'_>| {
            action.reply().map(|reply| (reply.kind, (!any).then_some(reply.yiaddr)))
        };
        assert!(
            said(&planned.action) == said(&decision.action)
                || matches!(decision.action, Action::Silence(Silence::CommitPending)),
            "another answer than planned: {:?}, {:?}",
            planned.action,
            decision.action
        );
        if let Some(reply) = decision.action.reply() {
            let name = reply.options().iter().find(|option| option.code == options::DOMAIN_NAME);
            assert!(name.is_none() || number == 2, "machine {number} is told another's options");
            let host = self.config.dhcp.host_by_ip(reply.yiaddr);
            let own = [("reserved", 1), ("renamed", 1), ("reserved", 3), ("by-uuid", 2)];
            assert!(
                host.is_none_or(
                    |host| own.contains(&(&**self.config.dhcp.host(host).name(), number))
                ),
                "machine {number} gets an address that is reserved for another"
            );
        }
        let machine = self.machines.get_mut(&number).unwrap();
        let mut token = None;
        match decision.action {
            Action::Reply(_) | Action::ProbeThenOffer(..) if deaf => {}
            Action::Reply(reply) | Action::ProbeThenOffer(reply, _) => match reply.kind {
                Some(MessageType::Offer) => machine.offered = Some(reply.yiaddr),
                Some(MessageType::Nak) => {
                    machine.holds = None;
                    machine.remembers[stage] = None;
                }
                other => panic!("{other:?} without a lease"),
            },
            Action::AckWhenDurable(reply) => {
                self.token += 1;
                token = Some(self.token);
                let until = match reply.lease_seconds {
                    u32::MAX => Moment::NEVER,
                    seconds => self.now + Duration::from_secs(u64::from(seconds)),
                };
                let (address, said) = (reply.yiaddr, machine.said);
                if !deaf {
                    let waiting = Waiting { machine: number, stage, said, address, until };
                    self.waiting.insert(self.token, waiting);
                }
            }
            Action::Record { .. } | Action::Silence(_) => {}
        }
        if shard.submit(decision.changes, token, self.now).is_err()
            && let Some(token) = token
        {
            self.waiting.remove(&token);
        }
    }

    fn commit(&mut self) {
        self.committer.run_once(self.now);
        for shard in &mut self.shards {
            shard.completed(|token, result| {
                let Some(waiting) = self.waiting.remove(&token) else { return };
                let machine = self.machines.get_mut(&waiting.machine).unwrap();
                if result.is_ok() && machine.said == waiting.said {
                    machine.holds = Some((waiting.address, waiting.until));
                    machine.remembers[waiting.stage] = Some(waiting.address);
                }
            });
        }
    }

    /// The property.
    fn check(&self) {
        let mut holders: HashMap<Ipv4Addr, u8> = HashMap::new();
        for (number, machine) in &self.machines {
            let Some((address, until)) = machine.holds else { continue };
            if until <= self.now {
                continue;
            }
            if let Some(other) = holders.insert(address, *number) {
                panic!("machines {number} and {other} both hold {address}");
            }
            let lease = self.leases.at(address, self.now);
            let lease = lease.expect("a lease whose ACK left is unknown");
            assert!(lease.is_active(self.now), "a lease whose ACK left ended early: {lease:?}");
        }
    }
}

fn start(
    store: &Arc<MemoryStore>,
    config: &Config,
    shards: usize,
    now: Moment,
) -> (Arc<Leases>, Vec<ShardLeases>, Committer) {
    let store: Arc<dyn LeaseStore> = Arc::<MemoryStore>::clone(store);
    let leases = Leases::open(store, &config.dhcp, shards, clock(now)).unwrap();
    let handles = (0..shards).map(|shard| leases.shard(shard, || ())).collect();
    let committer = leases.committer();
    (leases, handles, committer)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_gives_one_address_to_two_machines(
        shards in 1..=4_usize,
        steps in steps(),
    ) {
        let mut simulation = Simulation::new(shards);
        for step in &steps {
            simulation.take(step);
        }
    }

    // Once faults stop, everybody who can be served is: six machines, six addresses.
    #[test]
    fn after_any_history_every_machine_boots_when_the_faults_stop(
        shards in 1..=4_usize,
        steps in steps(),
    ) {
        let mut simulation = Simulation::new(shards);
        for step in &steps {
            if !matches!(step, Step::Reload(ENDLESS)) {
                simulation.take(step);
            }
        }
        simulation.take(&Step::Reload(0));
        simulation.store.set_failing(false);
        simulation.commit();
        simulation.now = simulation.now + Duration::from_secs(1000);
        simulation.commit();
        for machine in 1..=6 {
            for what in [What::Discover, What::Select] {
                let (firmware, deaf, shard) = (false, false, usize::from(machine));
                simulation.take(&Step::Says { machine, firmware, shard, what, deaf });
                simulation.take(&Step::Commit);
            }
            let held = simulation.machines[&machine].holds;
            prop_assert!(held.is_some_and(|(_, until)| until > simulation.now));
        }
    }

    #[test]
    fn no_bytes_make_the_rules_panic(
        tail in prop::collection::vec(any::<u8>(), 0..400),
        header in prop::collection::vec(any::<u8>(), 236),
        kind in 0..=12_u8,
        op in 1..=2_u8,
        unicast in any::<bool>(),
        relayed in any::<bool>(),
    ) {
        let mut payload = header;
        payload[0] = op;
        payload[2] %= 17;
        if !relayed {
            payload[24..28].fill(0);
        }
        payload.extend([99, 130, 83, 99, 53, 1, kind]);
        payload.extend(tail);
        let mut simulation = Simulation::new(1);
        let to = if unicast { SERVER } else { Ipv4Addr::BROADCAST };
        let datagram = Datagram { payload, source: SocketAddrV4::new(SERVER, 68), to };
        if Message::parse(&datagram.payload).is_ok() {
            receive_anything(&mut simulation, &datagram);
        }
    }

    // Well-formed messages with any options reach further into the rules.
    #[test]
    fn no_options_make_the_rules_panic(
        options in prop::collection::vec(
            (1..=254_u8, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        kind in 0..5_u8,
        relay in any::<Option<[u8; 4]>>(),
        address in any::<[u8; 4]>(),
    ) {
        let mut client = Client::plain(mac(1));
        for (code, value) in options {
            if ![50, 52, 53, 54, 82].contains(&code) {
                client = client.with(code, &value);
            }
        }
        if let Some(relay) = relay {
            client = client.behind(Ipv4Addr::from(relay), &[]);
        }
        let address = Ipv4Addr::from(address);
        let datagram = match kind {
            0 => client.discover(),
            1 => client.reboot(address),
            2 => client.renew(address),
            3 => client.inform(address),
            _ => client.bootp(),
        };
        receive_anything(&mut Simulation::new(1), &datagram);
    }
}

fn receive_anything(simulation: &mut Simulation, datagram: &Datagram) {
    let Ok(message) = Message::parse(&datagram.payload) else { return };
    let arrival = Arrival {
        ifindex: 2,
        interface: &[SERVER],
        server: &[SERVER],
        mtu: 1500,
        destination: Some(datagram.to),
        source: datagram.source,
    };
    let arena = Bump::new();
    let dhcp = &simulation.config.dhcp;
    let decision =
        answer(&message, &arrival, dhcp, &mut simulation.shards[0], simulation.now, &arena);
    if let Action::Reply(reply) | Action::AckWhenDurable(reply) = decision.action {
        let mut buf = [0; 2048];
        let len = reply.render(&mut buf);
        assert!(len >= 300, "{len}");
        let written = Message::parse(&buf[..len]).unwrap();
        assert_eq!(written.xid(), message.xid());
    }
}
