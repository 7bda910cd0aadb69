//! A whole shard on a simulated network with a virtual clock.

mod delays;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bootstorm_net::sim::{Faults, Outbox, Sim, SimInterface, SimNetwork, SimSocket};
use bootstorm_net::{
    Address, Backend, Datagram, Handler, Limits, SocketId, Steering, Target, Transmit,
};
use bootstorm_protocols::dhcpv4::{Message, MessageType};
use bootstorm_protocols::time::Moment;

use super::{
    BACKLOG, Binding, FULL_TURNS, Parts, Role, Shard, Sockets, dhcp_steering, limits,
    split_discovers,
};
use crate::config;
use crate::event::bus::EventBus;
use crate::hooks::{Hooks, Job};
use crate::interfaces::Interfaces;
use crate::leases::{
    Client, Clock, Committer, Lease, Leases, MemoryStore, Said, ShardLeases, Step,
};
use crate::log::EventLog;
use crate::metrics::Metrics;
use crate::quirks::tests::discover;
use crate::recent::Recent;
use crate::snapshot::{SharedSnapshot, Snapshot};
use crate::tftp::{TftpServer, TftpShard};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
/// The only address of the pool.
const MACHINE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// How long each batch takes.
const BATCH: Duration = Duration::from_micros(5);
/// The simulated network has no raw sockets: any other serves.
const ICMP: (Role, u16) = (Role::Icmp, 7);

/// What came to the machine and its relay agent, and when.
#[derive(Default)]
struct Inbox {
    came: Vec<(Moment, Vec<u8>)>,
    /// When the simulation is to stop at the latest.
    alarm: Option<Moment>,
}

impl Handler<Outbox> for Inbox {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut Outbox) {
        self.came.push((tx.now(), datagram.payload.to_vec()));
    }

    fn woken(&mut self, _: &mut Outbox) {}

    fn sent(&mut self, _: u64, _: io::Result<()>, _: &mut Outbox) {}

    fn batch_end(&mut self, _: bool, _: &mut Outbox) -> Option<Moment> {
        self.alarm
    }
}

struct Lab {
    network: SimNetwork,
    server: (Sim, Shard),
    client: (Sim, Inbox),
    relay: SocketId,
    machine: SocketId,
    metrics: Arc<Metrics>,
    store: Arc<MemoryStore>,
    committer: Committer,
    draining: Arc<AtomicBool>,
    log: EventLog,
}

impl Lab {
    fn new(text: &str) -> Self {
        Self::on(Arc::new(MemoryStore::default()), text)
    }

    fn on(store: Arc<MemoryStore>, text: &str) -> Self {
        let config = config::parse(Path::new("a.toml"), text.as_bytes()).unwrap();
        let network = SimNetwork::new(1, Faults::default());
        let attach = |mac: u8, addresses: &[Ipv4Addr]| {
            let address = |&ip: &Ipv4Addr| Address { ip: IpAddr::V4(ip), prefix: 24 };
            network.attach(SimInterface {
                ifindex: 1,
                mac: [2, 0, 0, 0, 0, mac],
                addresses: addresses.iter().map(address).collect(),
                segment: 0,
            })
        };
        let (here, there) = (attach(1, &[SERVER]), attach(2, &[RELAY, MACHINE]));
        let mut sim = network.backend(&limits());
        let mut sockets = Sockets::default();
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let mut open = |role: Role, port, steering: Option<Steering>| {
            let socket = SimSocket::udp(here, (SERVER, port));
            let socket = steering.into_iter().fold(socket, SimSocket::steered);
            let id = sim.add_socket(socket.with_priority(role.priority())).unwrap();
            sockets.add(id, role, Binding::Host);
        };
        for (role, steering) in split_discovers(dhcp_steering(1, 0)) {
            open(role, 67, Some(steering));
        }
        for (role, port) in [(Role::TftpRequests(any), 69), (Role::TftpData(any), 1069), ICMP] {
            open(role, port, None);
        }
        let clock =
            Clock { now: Moment::default(), wall: 0, boot: Default::default(), synchronised: true };
        let leases = Leases::open(store.clone(), &config.dhcp, 1, clock).unwrap();
        let wake = sim.waker();
        let draining = Arc::new(AtomicBool::new(false));
        let metrics = Arc::new(Metrics::new(1));
        let (log, mut sinks) = EventLog::start(1, EventBus::default()).unwrap();
        // No threads: files are opened at once.
        let tftp = config.tftp.as_ref().map(|tftp| TftpServer::without_threads(tftp).unwrap());
        let ports = sockets.tftp_ports();
        let snapshot = Snapshot { config: Arc::new(config), interfaces: Interfaces::default() };
        let parts = Parts {
            hooks: Hooks::unheard(),
            recent: Arc::new(Recent::of(1)),
            snapshot: SharedSnapshot::new(snapshot),
            leases: leases.shard(0, move || wake.wake()),
            metrics: metrics.own(0).unwrap(),
            events: sinks.pop().unwrap(),
            tftp: tftp.map(|tftp| TftpShard::new(tftp, ports, sim.waker(), metrics.clone(), 0)),
            dry_run: false,
            draining: draining.clone(),
            clock: {
                let network = network.clone();
                Box::new(move || network.now() + BATCH)
            },
        };
        let mut client = network.backend(&Limits::default());
        let relay = client.add_socket(SimSocket::udp(there, (RELAY, 67))).unwrap();
        let machine = client.add_socket(SimSocket::udp(there, (MACHINE, 2000))).unwrap();
        let server = (sim, Shard::new(parts, sockets));
        Self {
            network,
            server,
            client: (client, Inbox::default()),
            relay,
            machine,
            metrics,
            store,
            committer: leases.committer(),
            draining,
            log,
        }
    }

    /// A datagram of the relay agent comes to a socket of the shard, and no other in its batch.
    fn receive(&mut self, role: Role, payload: &[u8]) {
        let (sim, shard) = &mut self.server;
        let socket = shard.sockets.of(role).next().unwrap();
        let datagram = Datagram {
            socket,
            source: (RELAY, 67).into(),
            destination: Some(SERVER.into()),
            broadcast: false,
            ifindex: 1,
            payload,
            segment: 0,
            truncated: false,
        };
        shard.datagram(datagram, sim.tx());
        shard.batch_end(true, sim.tx());
    }

    /// Sends a datagram of the machine, or of its relay agent.
    fn send(&mut self, socket: SocketId, from: Ipv4Addr, port: u16, payload: &[u8]) {
        let to = SocketAddr::from((SERVER, port));
        let target = Target::Udp { to, from: Some(IpAddr::V4(from)), ifindex: 0 };
        let write = |slot: &mut [u8]| {
            slot[..payload.len()].copy_from_slice(payload);
            payload.len()
        };
        self.client.0.tx().send(socket, &target, write).unwrap();
    }

    /// The server hears it; whether it answers is no matter.
    fn tell(&mut self, socket: SocketId, from: Ipv4Addr, port: u16, payload: &[u8]) {
        self.send(socket, from, port, payload);
        for _ in 0..2 {
            self.client.0.turn(None, &mut self.client.1).unwrap();
            self.network.advance();
            self.server.0.turn(None, &mut self.server.1).unwrap();
        }
    }

    /// The first answer to a datagram of the machine, or of its relay agent.
    fn ask(&mut self, socket: SocketId, from: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
        self.client.1.came.clear();
        self.send(socket, from, port, payload);
        for _ in 0..100 {
            self.client.0.turn(None, &mut self.client.1).unwrap();
            self.server.0.turn(None, &mut self.server.1).unwrap();
            if let Some(answer) = self.client.1.came.first() {
                return answer.1.clone();
            }
            self.network.advance();
        }
        panic!("no answer to {}", payload.escape_ascii());
    }

    /// What the OACK of a read request says to a machine of this class, that got its address a
    /// moment ago.
    fn granted(&mut self, class: &[u8]) -> String {
        let offer = self.ask(self.relay, RELAY, 67, &relayed(class));
        assert_eq!(offer[16..20], MACHINE.octets());
        let request = b"\0\x01loader\0octet\0blksize\x001468\0windowsize\x004\0";
        let answer = self.ask(self.machine, MACHINE, 69, request);
        // The transfer ends, so that the next request is a new one.
        let socket = SocketAddr::from((SERVER, 1069));
        let target = Target::Udp { to: socket, from: Some(IpAddr::V4(MACHINE)), ifindex: 0 };
        let error = |slot: &mut [u8]| {
            slot[..5].copy_from_slice(b"\0\x05\0\0\0");
            5
        };
        self.client.0.tx().send(self.machine, &target, error).unwrap();
        answer.escape_ascii().to_string()
    }
}

/// A DISCOVER of a machine behind the relay agent.
fn relayed(class: &[u8]) -> Vec<u8> {
    let mut message = discover([0x52, 0x54, 0, 0, 0, 1], Some(class));
    message[24..28].copy_from_slice(&RELAY.octets());
    message
}

const SUBNET: &str = r#"
[[dhcp.subnet]]
subnet = "10.0.0.0/24"
pools = ["10.0.0.2"]
[tftp]
root = "/"
"#;

#[test]
fn an_offer_takes_as_long_as_its_batch() {
    let mut lab = Lab::new(SUBNET);
    lab.ask(lab.relay, RELAY, 67, &relayed(b"PXEClient"));
    let latency = lab.metrics.shard(0).unwrap().reply_latency.histogram();
    let observed = latency.cumulative().last().map(|(_, count)| count);
    assert_eq!((observed, latency.sum()), (Some(1), BATCH.as_nanos() as u64));
    lab.log.stop();
}

#[test]
fn a_discover_that_waits_for_a_ping_is_counted_once_however_the_ping_ends() {
    let mut lab = Lab::new(&format!("[dhcp]\nping-check = \"300ms\"\n{SUBNET}"));
    let message = relayed(b"PXEClient");
    lab.receive(Role::Dhcp, &message);
    // The pool has no other.
    lab.receive(Role::Icmp, &echo_of(MACHINE));
    let metrics = lab.metrics.shard(0).unwrap();
    assert_eq!(metrics.addresses_in_use.get(), 1);
    let discovers = metrics.received.values().nth(1);
    assert_eq!((discovers, metrics.received.total(), metrics.silences.total()), (Some(1), 1, 1));
    lab.log.stop();
}

#[test]
fn an_address_is_in_use_when_it_is_put_in_quarantine() {
    let mut lab = Lab::new(&format!("[dhcp]\nping-check = \"300ms\"\n{SUBNET}"));
    lab.receive(Role::Dhcp, &relayed(b"PXEClient"));
    // The offer ends before the ping is answered.
    let leases = &mut lab.server.1.parts.leases;
    let Lease { ip, client: key, hardware, .. } = leases.at(MACHINE, Moment::default()).unwrap();
    let client = Client { key: &key, hardware, notes: Said::default() };
    leases.apply(&client, &Step::Withdraw { ip }, Moment::default()).unwrap();
    lab.receive(Role::Icmp, &echo_of(MACHINE));
    assert_eq!(lab.metrics.shard(0).unwrap().addresses_in_use.get(), 0);
    lab.log.stop();
}

/// Somebody at an address answers a ping.
fn echo_of(address: Ipv4Addr) -> [u8; 28] {
    let mut echo = [0; 28];
    (echo[0], echo[9]) = (0x45, 1);
    echo[12..16].copy_from_slice(&address.octets());
    echo[24..26].copy_from_slice(&super::ping::ECHO_IDENTIFIER.to_be_bytes());
    echo
}

#[test]
fn what_is_asked_for_with_an_offer_is_done_when_it_leaves() {
    const FILE: &str = r#"
        ping-check true;
        subnet 10.0.0.0 netmask 255.255.255.0 {
          range 10.0.0.2 10.0.0.3;
          execute("/bin/x", binary-to-ascii(10, 8, ".", leased-address));
        }"#;
    let mut lab = Lab::new(FILE);
    let (hooks, jobs) = Hooks::new();
    lab.server.1.parts.hooks = hooks;
    let message = relayed(b"PXEClient");
    let run = || -> Vec<_> {
        let run = |job| match job {
            Job::Run(command) => command.address,
            Job::End(ended) => panic!("{ended:?} has ended"),
        };
        jobs.try_iter().map(run).collect()
    };
    // The client asks again while its OFFER waits, and somebody else has that address.
    for _ in 0..3 {
        lab.receive(Role::Dhcp, &message);
    }
    let other = Ipv4Addr::new(10, 0, 0, 3);
    let is_first = lab.server.1.probes.contains(MACHINE);
    let (taken, free) = if is_first { (MACHINE, other) } else { (other, MACHINE) };
    lab.receive(Role::Icmp, &echo_of(taken));
    assert_eq!(run(), Vec::<Ipv4Addr>::new());
    lab.network.advance_to(lab.network.now() + Duration::from_secs(2));
    lab.server.0.turn(None, &mut lab.server.1).unwrap();
    assert_eq!(run(), [free]);
    lab.log.stop();
}

/// While the disk stalls, what was begun goes on as far as it can, and nothing more is begun.
#[test]
fn a_disk_that_stalls_stops_discovers_before_requests_and_no_tftp() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("loader"), vec![7; 10_000]).unwrap();
    let text = SUBNET.replace("10.0.0.2\"", "10.0.64.0-10.0.127.255\"").replace("/24", "/16");
    let text = text.replace("[tftp]", &format!("server-identifier = \"{SERVER}\"\n[tftp]"));
    let mut lab = Lab::new(&text.replace("\"/\"", &format!("{:?}", root.path())));
    let request = |number: u16, kind: u8, address: Ipv4Addr, server: Ipv4Addr| {
        let [high, low] = number.to_be_bytes();
        let mut message = discover([0x52, 0x54, 0, 0, high, low], None);
        message[24..28].copy_from_slice(&RELAY.octets());
        // The end of the options makes room for the address that is asked for.
        let kind_at = 240 + 2;
        message.truncate(kind_at + 1);
        message[kind_at] = kind;
        message
            .extend([&[50, 4][..], &address.octets(), &[54, 4], &server.octets(), &[255]].concat());
        message
    };
    let begin = |number| request(number, 1, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
    let most = ShardLeases::MOST_WAITING as u16 + 10;
    let offers: Vec<_> =
        (0..most).map(|number| lab.ask(lab.relay, RELAY, 67, &begin(number))).collect();
    for (number, offer) in (0..).zip(&offers) {
        let offer = Message::parse(offer).unwrap();
        let server = offer.server_identifier().unwrap();
        lab.tell(lab.relay, RELAY, 67, &request(number, 3, offer.yiaddr(), server));
    }
    let metrics = lab.metrics.clone();
    let metrics = metrics.shard(0).unwrap();
    assert_eq!(metrics.commits_pending.get(), ShardLeases::MOST_WAITING as u64);
    // A DISCOVER waits in its socket; one that came to the socket for all messages is dropped.
    lab.client.1.came.clear();
    lab.tell(lab.relay, RELAY, 67, &begin(most));
    let mut elsewhere = begin(most + 1);
    elsewhere.insert(240, 0);
    lab.tell(lab.relay, RELAY, 67, &elsewhere);
    assert!(lab.client.1.came.is_empty());
    assert_eq!(metrics.discovers_refused.get(), 1);
    assert_eq!(metrics.received.values().nth(1), Some(u64::from(most) + 1));
    for file in ["loader", "nothing"] {
        let request = format!("\0\x01{file}\0octet\0blksize\x001468\0");
        let answer = lab.ask(lab.machine, MACHINE, 69, request.as_bytes());
        assert_eq!(answer[1], if file == "loader" { 6 } else { 5 });
    }
    // The disk goes on, until few enough wait.
    lab.client.1.came.clear();
    let offers = |lab: &Lab| {
        let came = lab.client.1.came.iter();
        let messages = came.filter_map(|(_, answer)| Message::parse(answer).ok());
        messages.filter(|answer| answer.message_type() == Some(MessageType::Offer)).count()
    };
    let mut turns = 0;
    while offers(&lab) == 0 {
        lab.committer.run_once(lab.network.now());
        lab.server.0.turn(None, &mut lab.server.1).unwrap();
        lab.network.advance();
        // It hears a few datagrams each time.
        for _ in 0..10 {
            lab.client.0.turn(None, &mut lab.client.1).unwrap();
        }
        let pending = lab.metrics.shard(0).unwrap().commits_pending.get();
        assert!(offers(&lab) == 0 || pending < BACKLOG as u64);
        turns += 1;
        assert!(turns < 100, "nobody answers the DISCOVER");
    }
    assert_eq!(offers(&lab), 1);
    lab.log.stop();
}

#[test]
fn a_link_that_takes_up_nothing_is_not_answered_at_the_cost_of_others() {
    let mut lab = Lab::new(&SUBNET.replace("10.0.0.2\"", "10.0.0.2-10.0.0.9\""));
    let other = Ipv4Addr::new(10, 0, 0, 254);
    // DISCOVERs by so many relay agents, while more comes than can be answered, or less.
    let mut hear = |overload: bool, relays: &[Ipv4Addr]| {
        for relay in relays {
            let mut message = discover([0x52, 0x54, 0, 0, 1, relay.octets()[3]], None);
            message[24..28].copy_from_slice(&relay.octets());
            lab.send(lab.relay, RELAY, 67, &message);
        }
        let now = lab.network.now();
        let shard = &mut lab.server.1;
        (0..6000).for_each(|_| shard.untaken.answered(1, RELAY, now));
        for _ in 0..4 {
            lab.client.0.turn(None, &mut lab.client.1).unwrap();
            lab.network.advance();
            lab.server.1.full_turns = if overload { FULL_TURNS } else { 0 };
            lab.server.0.turn(None, &mut lab.server.1).unwrap();
        }
        let metrics = lab.metrics.shard(0).unwrap();
        (metrics.discovers_refused.get(), metrics.replies.values().nth(2))
    };
    assert_eq!(hear(true, &[RELAY, other]), (1, Some(1)));
    assert_eq!(hear(false, &[RELAY, other]), (1, Some(3)));
    lab.log.stop();
}

#[test]
fn the_core_is_kept_for_transfers_and_not_while_the_disk_works() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("loader"), vec![7; 10_000]).unwrap();
    let text = SUBNET.replace("[tftp]", "server-identifier = \"10.0.0.1\"\n[tftp]");
    let mut lab = Lab::new(&text.replace("\"/\"", &format!("{:?}", root.path())));
    let polls = |lab: &Lab| Handler::<Outbox>::polls(&lab.server.1);
    let discover = relayed(b"PXEClient");
    lab.ask(lab.relay, RELAY, 67, &discover);
    assert!(!polls(&lab), "nobody loads");
    lab.ask(lab.machine, MACHINE, 69, b"\0\x01loader\0octet\0blksize\x001468\0");
    assert!(polls(&lab));
    select_in_silence(&mut lab, &discover);
    assert!(!polls(&lab), "an ACK waits for the disk");
    lab.log.stop();
}

#[test]
fn what_a_machine_says_to_dhcp_decides_what_tftp_grants() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("loader"), vec![7; 10_000]).unwrap();
    let mut lab = Lab::new(&format!(
        r#"
[[dhcp.subnet]]
subnet = "10.0.0.0/24"
pools = ["10.0.0.2"]
[tftp]
root = "{}"
quirks-on = ["edk2-windowsize"]
[[tftp.quirk]]
name = "qemu"
vendor-class = "PXEClient:Arch:00000"
mac-prefix = "52:54:00"
max-blksize = 600
"#,
        root.path().display()
    ));
    let uefi = lab.granted(b"PXEClient:Arch:00007:UNDI:003016");
    assert_eq!(uefi, r"\x00\x06blksize\x001468\x00windowsize\x001\x00");
    let bios = lab.granted(b"PXEClient:Arch:00000:UNDI:002001");
    assert_eq!(bios, r"\x00\x06blksize\x00600\x00windowsize\x004\x00");
    let system = lab.granted(b"an operating system");
    assert_eq!(system, r"\x00\x06blksize\x001468\x00windowsize\x004\x00");
    lab.log.stop();
}

/// A REQUEST of SELECTING without vendor class, of the machine that sends `discover`: it is taken
/// up.
fn select_in_silence(lab: &mut Lab, discover: &[u8]) {
    // Type, requested address and server identifier in place of the options of the DISCOVER.
    let mut request = discover[..240].to_vec();
    request.extend([53, 1, 3, 50, 4, 10, 0, 0, 2, 54, 4, 10, 0, 0, 1, 255]);
    request.resize(300, 0);
    lab.send(lab.relay, RELAY, 67, &request);
    for _ in 0..10 {
        lab.client.0.turn(None, &mut lab.client.1).unwrap();
        lab.server.0.turn(None, &mut lab.server.1).unwrap();
        lab.network.advance();
    }
    assert!(lab.server.1.awaits_disk(), "the REQUEST was taken up");
}

// RFC 2131 section 3.1: firmware that says less in its REQUEST is the same firmware.
#[test]
fn a_request_without_vendor_class_keeps_what_its_discover_said() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("loader"), vec![7; 10_000]).unwrap();
    let text = format!(
        r#"
[[dhcp.subnet]]
subnet = "10.0.0.0/24"
pools = ["10.0.0.2"]
server-identifier = "10.0.0.1"
[tftp]
root = "{}"
quirks-on = ["edk2-windowsize"]
[[tftp.quirk]]
name = "qemu"
mac-prefix = "52:54:00"
max-blksize = 600
"#,
        root.path().display()
    );
    let discover = relayed(b"PXEClient:Arch:00007:UNDI:003016");
    let read = b"\0\x01loader\0octet\0blksize\x001468\0windowsize\x004\0";
    let mut lab = Lab::new(&text);
    lab.ask(lab.relay, RELAY, 67, &discover);
    select_in_silence(&mut lab, &discover);
    let granted = lab.ask(lab.machine, MACHINE, 69, read).escape_ascii().to_string();
    assert_eq!(granted, r"\x00\x06blksize\x00600\x00windowsize\x001\x00");
    lab.log.stop();
    // After a restart the hardware address is all that is known.
    let mut lab = Lab::new(&text);
    select_in_silence(&mut lab, &discover);
    let granted = lab.ask(lab.machine, MACHINE, 69, read).escape_ascii().to_string();
    assert_eq!(granted, r"\x00\x06blksize\x00600\x00windowsize\x004\x00");
    lab.log.stop();
}
