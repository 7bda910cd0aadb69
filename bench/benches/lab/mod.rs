//! A shard with leases in memory and the machines of one relay agent, for the benches of one DORA.

use std::error::Error;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bootstorm::config;
use bootstorm::event::bus::EventBus;
use bootstorm::hooks::Hooks;
use bootstorm::interfaces::Interfaces;
use bootstorm::leases::{Clock, Committer, Leases, MemoryStore};
use bootstorm::log::EventLog;
use bootstorm::metrics::Metrics;
use bootstorm::recent::Recent;
use bootstorm::shard::{Binding, Parts, Role, Shard, Sockets, limits};
use bootstorm::snapshot::{SharedSnapshot, Snapshot};
use bootstorm_net::sim::{Faults, Outbox, Sim, SimInterface, SimNetwork, SimSocket};
use bootstorm_net::{Address, Backend, Datagram, Handler, Limits, SocketId};
use bootstorm_protocols::dhcpv4::{ETHERNET, Header, Message, MessageType, MessageWriter, options};
use bootstorm_protocols::time::Moment;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 6);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// Machines that boot in turn.
const MACHINES: u32 = 4096;
/// Datagrams between two ends of a batch: what a simulated backend hands over in one turn.
pub(crate) const BATCH: u32 = 32;

/// As in `bench/versus`.
const PLAIN: &str = r#"
[dhcp]
authoritative = true
server-identifier = "10.1.0.6"
lease-time = "1h"
boot = [{ user-class = "iPXE", file = "boot.ipxe" }, { file = "loader.img" }]
[[dhcp.subnet]]
subnet = "10.1.0.0/16"
pools = ["10.1.4.0-10.1.255.250"]
"#;

/// A hall: levels, classes, options, hosts.
const HALL: &str = r#"
[dhcp]
authoritative = true
server-identifier = "10.1.0.6"
lease-time = "1h"
max-lease-time = "1d"
options = { domain-name = "hall.example", ntp-servers = ["10.1.0.3"], domain-name-servers = ["10.1.0.2", "10.1.0.3"] }
[[dhcp.class]]
name = "pi"
mac-prefix = "b8:27:eb"
[[dhcp.class]]
name = "firmware"
vendor-class = "PXEClient"
options = { tftp-server-name = "10.1.0.6" }
[[dhcp.subnet]]
subnet = "10.1.0.0/16"
pools = ["10.1.4.0-10.1.255.250"]
options = { routers = ["10.1.0.1"], broadcast-address = "10.1.255.255", interface-mtu = 1500 }
boot = [
    { user-class = "iPXE", file = "boot.ipxe" },
    { arch = "x86-64-http", url = "http://10.1.0.6/ipxe.efi" },
    { arch = "x86-64-efi", file = "ipxe.efi" },
    { file = "pxelinux.0" },
]
[[dhcp.subnet]]
subnet = "10.2.0.0/16"
pools = ["10.2.4.0-10.2.255.250"]
[[dhcp.host]]
name = "reserved"
uuid = "564d3210-aabb-ccdd-0102-030405060708"
ip = "10.1.0.17"
"#;

/// The hall with 50 classes more that compare one expression with a constant each.
fn with_tests() -> String {
    let class = |number: u32| {
        let test =
            format!("substring(option vendor-class-identifier, 0, 9) = \"vendor{number:03}\"");
        format!("[[dhcp.class]]\nname = \"{number}\"\ntest = '{test}'\n")
    };
    HALL.to_owned() + &(0..50).map(class).collect::<String>()
}

/// The plain configuration with 1,000 subnets, which have a router and a pool each, 100,000
/// reservations of addresses, and a class of 10,000 subclasses. The machines are of one of these
/// and of no reservation.
fn large() -> String {
    const SUBNETS: u32 = 999;
    let mut text = PLAIN.to_owned();
    let subnet = |number: u32| {
        let [_, _, high, low] = (number + 512).to_be_bytes();
        format!("10.{high}.{low}")
    };
    for number in 0..SUBNETS {
        let start = subnet(number);
        text += &format!(
            "[[dhcp.subnet]]\nsubnet = \"{start}.0/24\"\npools = [\"{start}.10-{start}.120\"]\n\
             options = {{ routers = [\"{start}.1\"] }}\n"
        );
    }
    text += "[[dhcp.class]]\nname = \"ports\"\nmatch = 'option agent.circuit-id'\n";
    for number in 0..10_000 {
        text += &format!("[[dhcp.class.subclass]]\nvalue = \"port{number}\"\n");
    }
    for number in 0..100_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let (hardware, start) = (format!("{a:02x}:{b:02x}:{c:02x}"), subnet(number % SUBNETS));
        text += &format!(
            "[[dhcp.host]]\nname = \"h{number}\"\nhardware = \"02:00:00:{hardware}\"\n\
             ip = \"{start}.{}\"\n",
            130 + number / SUBNETS
        );
    }
    text
}

/// The large one with 50 classes that have an `if` each. The machines are members of one of them.
fn with_conditions() -> String {
    let class = |number: u32| {
        format!(
            "[[dhcp.class]]\nname = \"c{number}\"\n\
             test = 'substring(option vendor-class-identifier, 15, 5) = \"{number:05}\"'\n\
             [[dhcp.class.if]]\ntest = 'option user-class = \"iPXE\"'\nfilename = \"c{number}\"\n\
             else = {{ options = {{ domain-name = \"c{number}.example\" }} }}\n"
        )
    };
    large() + &(0..50).map(class).collect::<String>()
}

/// A name, and what writes the configuration.
type Named = (&'static str, fn() -> String);

/// Every configuration by its name. The first is the empty one, with which others are compared.
pub(crate) const CONFIGURATIONS: [Named; 5] = [
    ("plain", || PLAIN.to_owned()),
    ("hall", || HALL.to_owned()),
    ("tests", with_tests),
    ("large", large),
    ("conditions", with_conditions),
];

/// A message of UEFI firmware through a relay agent.
fn message(kind: MessageType, machine: u32, named: &[(u8, Ipv4Addr)]) -> Vec<u8> {
    let [_, a, b, c] = machine.to_be_bytes();
    let mac = [0x52, 0x54, 0, a, b, c];
    let header = Header { hops: 1, giaddr: RELAY, ..Header::request(ETHERNET, &mac, machine) };
    let mut uuid = [0; 17];
    uuid[1..7].copy_from_slice(&mac);
    let mut buf = [0; 1400];
    let Ok(mut writer) = MessageWriter::new(&mut buf, 1400, &header) else { return Vec::new() };
    let asked = [
        1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60,
        66, 67, 97, 128, 129, 130, 131, 132, 133, 134, 135,
    ];
    let addresses: Vec<_> = named.iter().map(|(code, address)| (*code, address.octets())).collect();
    let said = [
        (options::MESSAGE_TYPE, &[kind.code()][..]),
        (options::MAX_MESSAGE_SIZE, &1472_u16.to_be_bytes()),
        (options::PARAMETER_REQUEST_LIST, &asked),
        (options::PXE_CLIENT_ID, &uuid),
        (options::PXE_INTERFACE_ID, &[1, 3, 16]),
        (options::PXE_SYSTEM_TYPE, &[0, 7]),
        (options::VENDOR_CLASS_IDENTIFIER, b"PXEClient:Arch:00007:UNDI:003016"),
    ];
    let told = addresses.iter().map(|(code, address)| (*code, &address[..]));
    let relay = [(options::RELAY_AGENT_INFORMATION, &b"\x01\x05port7\x02\x07switch1"[..])];
    for (code, value) in said.into_iter().chain(told).chain(relay) {
        let _ = writer.option(code, value);
    }
    let len = writer.finish();
    buf[..len].to_vec()
}

/// What the relay agent hears: the address that each machine was given last.
struct Given(Vec<Ipv4Addr>);

impl Handler<Outbox> for Given {
    fn datagram(&mut self, datagram: Datagram<'_>, _: &mut Outbox) {
        let Ok(reply) = Message::parse(datagram.payload) else { return };
        if let Some(given) = self.0.get_mut(reply.xid() as usize) {
            *given = reply.yiaddr();
        }
    }

    fn woken(&mut self, _: &mut Outbox) {}

    fn sent(&mut self, _: u64, _: io::Result<()>, _: &mut Outbox) {}

    fn batch_end(&mut self, _: bool, _: &mut Outbox) -> Option<Moment> {
        None
    }
}

/// A shard with leases in memory, and the relay agent of its machines.
struct Lab {
    network: SimNetwork,
    sim: Sim,
    shard: Shard,
    socket: SocketId,
    committer: Committer,
    relay: Sim,
    given: Given,
    _log: EventLog,
}

impl Lab {
    fn new(text: &str) -> Result<Self, Box<dyn Error>> {
        let config = config::parse(Path::new("bench.toml"), text.as_bytes())
            .map_err(|error| format!("{error:?}"))?;
        let network = SimNetwork::new(1, Faults::default());
        let attach = |ip: Ipv4Addr| {
            network.attach(SimInterface {
                ifindex: 1,
                mac: [2, 0, 0, 0, 0, ip.octets()[3]],
                addresses: vec![Address { ip: IpAddr::V4(ip), prefix: 16 }],
                segment: 0,
            })
        };
        let (here, there) = (attach(SERVER), attach(RELAY));
        let mut sim = network.backend(&limits());
        let mut relay = network.backend(&Limits::default());
        relay.add_socket(SimSocket::udp(there, (RELAY, 67)))?;
        let socket = sim.add_socket(SimSocket::udp(here, (SERVER, 67)))?;
        let mut sockets = Sockets::default();
        sockets.add(socket, Role::Dhcp, Binding::Host);
        let clock = Clock::default();
        let leases = Leases::open(Arc::new(MemoryStore::default()), &config.dhcp, 1, clock)?;
        let metrics = Arc::new(Metrics::new(1));
        let (log, mut sinks) = EventLog::start(1, EventBus::default())?;
        let snapshot = Snapshot { config: Arc::new(config), interfaces: Interfaces::default() };
        let parts = Parts {
            snapshot: SharedSnapshot::new(snapshot),
            leases: leases.shard(0, || ()),
            metrics: metrics.own(0).ok_or("no metrics")?,
            events: sinks.pop().ok_or("no events")?,
            hooks: Hooks::unheard(),
            recent: Arc::new(Recent::of(1)),
            tftp: None,
            dry_run: false,
            draining: Arc::new(AtomicBool::new(false)),
            clock: Box::new(Moment::default),
        };
        let committer = leases.committer();
        let shard = Shard::new(parts, sockets);
        let given = Given(vec![Ipv4Addr::UNSPECIFIED; MACHINES as usize]);
        Ok(Self { network, sim, shard, socket, committer, relay, given, _log: log })
    }

    /// Gives the shard a datagram. The steps differ in their name, or the linker would fold them
    /// into one function.
    #[inline(always)]
    fn datagram(&mut self, payload: &[u8], step: &'static str) {
        black_box(step);
        let datagram = Datagram {
            socket: self.socket,
            source: SocketAddr::from((RELAY, 67)),
            destination: Some(IpAddr::V4(SERVER)),
            broadcast: false,
            ifindex: 1,
            payload,
            segment: 0,
            truncated: false,
        };
        self.shard.datagram(datagram, self.sim.tx());
    }

    /// One DISCOVER and its OFFER.
    #[inline(never)]
    fn discover(&mut self, payload: &[u8]) {
        self.datagram(payload, "discover");
    }

    /// One REQUEST and its ACK, which waits for its lease to be written.
    #[inline(never)]
    fn request(&mut self, payload: &[u8]) {
        self.datagram(payload, "request");
    }

    /// The ACKs leave whose leases were written.
    #[inline(never)]
    fn acks_leave(&mut self) {
        self.shard.woken(self.sim.tx());
    }

    /// Leases are written.
    fn commit(&mut self) {
        let now = self.network.now();
        while self.committer.run_once(now) > 0 {}
    }

    /// What was queued is sent, and reaches the relay agent.
    fn batch_end(&mut self) {
        self.shard.batch_end(true, self.sim.tx());
        for _ in 0..2 {
            // Nothing that a simulated backend does can fail.
            let _ = self.sim.turn(None, &mut self.shard);
            let _ = self.relay.turn(None, &mut self.given);
            self.network.advance();
        }
    }

    /// A batch of machines boots; how long each of the three steps took.
    fn boot(&mut self, machines: Range<u32>) -> [Duration; 3] {
        let kind = MessageType::Discover;
        let discovers: Vec<_> =
            machines.clone().map(|machine| message(kind, machine, &[])).collect();
        let discovering = timed(|| discovers.iter().for_each(|payload| self.discover(payload)));
        self.batch_end();
        let requests: Vec<_> = machines
            .map(|machine| {
                let given = self.given.0[machine as usize];
                let named =
                    [(options::REQUESTED_ADDRESS, given), (options::SERVER_IDENTIFIER, SERVER)];
                message(MessageType::Request, machine, &named)
            })
            .collect();
        let requesting = timed(|| requests.iter().for_each(|payload| self.request(payload)));
        self.commit();
        let leaving = timed(|| self.acks_leave());
        self.batch_end();
        [discovering, requesting, leaving]
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Machines that boot in turn, each of which has a lease.
pub(crate) struct Machines {
    lab: Lab,
    next: u32,
}

impl Machines {
    /// Machines that have booted under a configuration.
    pub(crate) fn new(config: &str) -> Self {
        let lab = Lab::new(config).expect("the bench's own configuration");
        let mut machines = Self { lab, next: 0 };
        for _ in 0..MACHINES / BATCH {
            machines.boot();
        }
        let given = &machines.lab.given.0;
        assert!(given.iter().all(|given| !given.is_unspecified()), "machines without address");
        machines
    }

    /// The next [`BATCH`] of them boot again; how long DISCOVERs, REQUESTs and the sending of ACKs
    /// took.
    pub(crate) fn boot(&mut self) -> [Duration; 3] {
        let batch = self.next..self.next + BATCH;
        self.next = batch.end % MACHINES;
        self.lab.boot(batch)
    }
}
