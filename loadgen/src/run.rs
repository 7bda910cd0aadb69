//! One run: sockets, fleet, loop, report.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bootstorm_net::{
    Backend, Drops, Engine, EngineChoice, Interface, Limits, PacketSocketSpec, ReceiveFrames,
    Socket, SocketId, UdpSocketSpec, interfaces, now,
};
use bootstorm_protocols::dhcpv4::{CLIENT_PORT, SERVER_PORT};
use bootstorm_protocols::tftp::{Negotiated, Patience};

use crate::board::Board;
use crate::fleet::{Fleet, Orders, Own, Relay, Way, Wires};
use crate::http::Fetcher;
use crate::judge::{Files, Judge, LocalCopies, Recorder};
use crate::report::Report;
use crate::routes::{Block, Routes};
use crate::scenario::{Scenario, Stage};
use crate::seed::Seed;
use crate::slo::Slo;
use crate::verdict;

/// A run to be made.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is played.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
    /// The server.
    pub server: Ipv4Addr,
    /// The interface towards it.
    pub interface: Option<String>,
    /// Relay agents.
    pub relays: Vec<RelaySpec>,
    /// Clients broadcast instead.
    pub direct: bool,
    /// Addresses of machines that ask for none.
    pub clients: Option<Block>,
    /// Machines speak from this host's address, a port each, even where they could have their own.
    pub ports: bool,
    /// Options of TFTP requests in place of the firmware's.
    pub asked: Option<Negotiated>,
    /// Patience of transfers in place of the firmware's.
    pub patience: Option<Patience>,
    /// The TFTP server, where it is not the one that DHCP names.
    pub tftp_server: Option<Ipv4Addr>,
    /// The HTTP server, where it is not port 80 of the server.
    pub http_server: Option<SocketAddrV4>,
    /// Where copies of the server's files are.
    pub copies: LocalCopies,
    /// Where the packets around violations go.
    pub capture: Option<PathBuf>,
    /// Which packet engine.
    pub engine: EngineChoice,
    /// What is asked of the server.
    pub slo: Slo,
    /// The command line, for the report.
    pub command: String,
}

/// A relay agent as it is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelaySpec {
    /// Its address.
    pub giaddr: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix: Option<u8>,
    /// Its circuit id (option 82, sub-option 1).
    pub circuit: Option<Vec<u8>>,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No such interface.
    #[error("no interface is called `{name}` here; there are {there}")]
    Interface {
        /// The name asked for.
        name: String,
        /// The names there are.
        there: String,
    },
    /// The interface has no IPv4 address, and no relay agent was named.
    #[error(
        "{0} has no IPv4 address to play a relay agent with: give it one, name one with --relay, or say --direct"
    )]
    NoAddress(String),
    /// Direct clients need to know where they are.
    #[error("--direct needs --interface: the one that the broadcasts leave by")]
    NoInterface,
    /// The server cannot be reached.
    #[error("no route to {server}: {error}")]
    NoRoute {
        /// The server.
        server: Ipv4Addr,
        /// The kernel's.
        error: io::Error,
    },
    /// io_uring was demanded and is denied.
    #[error(transparent)]
    Denied(#[from] bootstorm_net::Denied),
    /// A socket could not be opened.
    #[error(
        "{0}; port 67 wants root, and must not be in use by a DHCP server or relay agent in the same place"
    )]
    Socket(io::Error),
    /// An address could not be made this host's.
    #[error("{0}; it wants CAP_NET_ADMIN")]
    Route(io::Error),
    /// The packet engine failed.
    #[error("the packet engine failed: {0}")]
    Engine(io::Error),
    /// No memory.
    #[error("no memory for statistics: {0}")]
    Memory(#[from] hdrhistogram::CreationError),
}

/// Receive buffer of every socket: answers wait here while the generator is busy. A limit, not an allocation.
const RECEIVE_BUFFER: usize = 128 << 20;
/// Ports for transfers when machines have addresses of their own.
const TRANSFER_PORTS: u16 = 16;
/// The first of them.
const FIRST_TRANSFER_PORT: u16 = 20_100;
/// Sockets at most when machines have a port each.
const MOST_PORTS: u32 = 20_000;

const LIMITS: Limits =
    Limits { buffers: 256, payload_len: 65_535, slots: 8192, shared: 0, batch: 64 };

/// Makes a run, from the first packet to the report.
///
/// # Errors
/// [`RunError`] says what stands in the way; nothing was sent then.
pub fn run(job: &Job, board: Arc<Board>) -> Result<Report, RunError> {
    let (kind, denied) = job.engine.resolve()?;
    let mut notes: Vec<String> =
        denied.iter().map(|denied| format!("{denied}; recvmmsg is used instead")).collect();
    match kind.open(&LIMITS).map_err(RunError::Engine)? {
        Engine::Uring(backend) => run_on(backend, job, board, &mut notes),
        Engine::Mmsg(backend) => run_on(backend, job, board, &mut notes),
    }
}

fn run_on<B: Backend<Socket = Socket>>(
    mut backend: B,
    job: &Job,
    board: Arc<Board>,
    notes: &mut Vec<String>,
) -> Result<Report, RunError> {
    let mut routes = Routes::default();
    let wires = Opening { backend: &mut backend, job, routes: &mut routes, notes }.wires()?;
    let started = SystemTime::now();
    let start = now();
    let recorder = Recorder::new(job.capture.is_some());
    let judge =
        Judge::new(start, job.scenario.expect_boot_file.clone(), reserved(job, &wires), recorder);
    let names = Names::of(&wires);
    let orders = Orders {
        scenario: job.scenario.clone(),
        seed: Seed(job.seed),
        wires,
        clients: clients(job),
        files: Files::new(job.copies.clone()),
        judge,
        board,
        asked: job.asked,
        patience: job.patience,
        tftp_server: job.tftp_server,
        routes,
        fetcher: fetches(&job.scenario)
            .then(|| Fetcher::start(backend.waker()))
            .transpose()
            .map_err(RunError::Engine)?,
        http_server: job.http_server,
    };
    let mut fleet = Fleet::new(orders, start)?;
    let schedule = fleet.schedule();
    let before = backend.drops();
    let mut deadline = Some(start);
    while !fleet.is_over() {
        deadline = backend.turn(deadline, &mut fleet).map_err(RunError::Engine)?;
    }
    let end = now();
    fleet.close();
    let drops = since(before, backend.drops());
    let engine = backend.name();
    let wall = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let wall_at_zero = (wall.as_nanos() as u64).saturating_sub(start.as_nanos());
    if let Some(path) = job.capture.as_deref().filter(|_| fleet.judge.recorder.has_kept())
        && let Err(error) = fleet.judge.recorder.write(path, wall_at_zero)
    {
        notes.push(format!("{}: {error}; the packets of the violations are lost", path.display()));
    }
    let ended = verdict::Ended { started, end, drops, engine, schedule, relays: names.0 };
    Ok(verdict::report(job, &mut fleet, ended, std::mem::take(notes)))
}

/// Relay agents' addresses, for the report.
struct Names(Vec<String>);

impl Names {
    fn of(wires: &Wires) -> Names {
        match &wires.way {
            Way::Relayed(relays) => Names(relays.iter().map(|r| r.giaddr.to_string()).collect()),
            Way::Direct { .. } | Way::None => Names(Vec::new()),
        }
    }
}

/// What was lost in this run.
fn since(before: Drops, after: Drops) -> Drops {
    Drops { kernel: after.kernel.saturating_sub(before.kernel), ..after }
}

/// Addresses that no machine may be given.
fn reserved(job: &Job, wires: &Wires) -> Vec<Ipv4Addr> {
    let relays = match &wires.way {
        Way::Relayed(relays) => relays.iter().map(|relay| relay.giaddr).collect(),
        Way::Direct { .. } | Way::None => Vec::new(),
    };
    relays.into_iter().chain([job.server]).collect()
}

/// Addresses of machines that ask for none: as asked for, or on loopback any.
fn clients(job: &Job) -> Option<Block> {
    let loopback = || Block::around(Ipv4Addr::new(127, 64, 0, 0), 10);
    job.clients.or_else(|| job.server.is_loopback().then(loopback))
}

fn asks_for_addresses(scenario: &Scenario) -> bool {
    scenario.stages.iter().any(|stage| matches!(stage, Stage::Dhcp(_) | Stage::Discover(_)))
        || scenario.attack.is_some()
}

fn transfers(scenario: &Scenario) -> bool {
    scenario.stages.iter().any(|stage| matches!(stage, Stage::Tftp(_)))
}

fn fetches(scenario: &Scenario) -> bool {
    scenario.stages.iter().any(|stage| matches!(stage, Stage::Http(_)))
}

/// Opens what a run needs.
struct Opening<'a, B> {
    backend: &'a mut B,
    job: &'a Job,
    routes: &'a mut Routes,
    notes: &'a mut Vec<String>,
}

impl<B: Backend<Socket = Socket>> Opening<'_, B> {
    fn wires(mut self) -> Result<Wires, RunError> {
        // A socket for each relay agent, perhaps one for each machine, and connections.
        raise_descriptor_limit(u64::from(MOST_PORTS) + 8192);
        let interface = self.job.interface.as_deref().map(find_interface).transpose()?;
        let way = if !asks_for_addresses(&self.job.scenario) {
            Way::None
        } else if self.job.direct {
            self.direct(interface.as_ref())?
        } else {
            self.relayed(interface.as_ref())?
        };
        let own = self.own(&way, interface.as_ref())?;
        Ok(Wires { server: self.job.server, way, own })
    }

    fn direct(&mut self, interface: Option<&Interface>) -> Result<Way, RunError> {
        let interface = interface.ok_or(RunError::NoInterface)?;
        let receive = ReceiveFrames {
            ifindex: interface.ifindex,
            port: CLIENT_PORT,
            receive_buffer: Some(RECEIVE_BUFFER),
        };
        let spec = PacketSocketSpec { receive: Some(receive), ..PacketSocketSpec::default() };
        let socket = spec.open().map_err(RunError::Socket)?;
        let link = self.backend.add_socket(socket).map_err(RunError::Engine)?;
        Ok(Way::Direct { link, ifindex: interface.ifindex, network: None })
    }

    fn relayed(&mut self, interface: Option<&Interface>) -> Result<Way, RunError> {
        let mut specs = self.job.relays.clone();
        if specs.is_empty() {
            let address = match interface {
                Some(interface) => first_ipv4(interface)
                    .ok_or_else(|| RunError::NoAddress(interface.name.clone()))?,
                None => source_towards(self.job.server)?,
            };
            specs.push(RelaySpec { giaddr: address, prefix: None, circuit: None });
        }
        let ours = interfaces().map_err(RunError::Engine)?;
        let mut relays = Vec::with_capacity(specs.len());
        for spec in specs {
            relays.push(self.relay(&spec, &ours)?);
        }
        Ok(Way::Relayed(relays))
    }

    fn relay(&mut self, spec: &RelaySpec, ours: &[Interface]) -> Result<Relay, RunError> {
        let mut addresses = ours.iter().flat_map(|interface| &interface.addresses);
        let own = addresses.clone().find(|address| address.ip == IpAddr::V4(spec.giaddr));
        let prefix = spec.prefix.or(own.map(|address| address.prefix));
        let network = prefix.map(|prefix| Block::around(spec.giaddr, prefix));
        // A network that others live in as well cannot be this host's as a whole: its machines get routes one by one.
        let shared = network.is_none_or(|network| {
            network.contains(self.job.server)
                || addresses.any(|a| matches!(a.ip, IpAddr::V4(ip) if network.contains(ip)))
        });
        let whole = network.filter(|_| !shared);
        match whole {
            Some(network) => self.routes.add(network).map_err(RunError::Route)?,
            None if own.is_none() && !spec.giaddr.is_loopback() => {
                let alone = Block { first: spec.giaddr, prefix: 32 };
                self.routes.add(alone).map_err(RunError::Route)?;
            }
            None => {}
        }
        let socket = self.udp(SocketAddr::from((spec.giaddr, SERVER_PORT)))?;
        let option = spec.circuit.as_ref().map_or_else(Vec::new, |circuit| {
            let circuit = &circuit[..circuit.len().min(253)];
            [&[1, circuit.len() as u8], circuit].concat()
        });
        Ok(Relay { giaddr: spec.giaddr, network, option, socket, routed: whole.is_some() })
    }

    /// How machines speak once they have an address.
    fn own(&mut self, way: &Way, interface: Option<&Interface>) -> Result<Own, RunError> {
        let scenario = &self.job.scenario;
        let speaks = transfers(scenario) || fetches(scenario) || scenario.renew;
        let clients = clients(self.job);
        let homeless = matches!(way, Way::None) && clients.is_none();
        if speaks && !self.job.ports && !homeless && self.may_route(clients)? {
            let client = if scenario.renew || matches!(way, Way::Direct { .. }) {
                Some(self.udp(SocketAddr::from(([0, 0, 0, 0], CLIENT_PORT)))?)
            } else {
                None
            };
            let ports = if transfers(scenario) { TRANSFER_PORTS } else { 0 };
            let mut tftp = Vec::new();
            for port in FIRST_TRANSFER_PORT..FIRST_TRANSFER_PORT + ports {
                tftp.push(self.udp(SocketAddr::from(([0, 0, 0, 0], port)))?);
            }
            return Ok(Own::Addresses { client, tftp });
        }
        let address = match interface.and_then(first_ipv4) {
            Some(address) => address,
            None => source_towards(self.job.server)?,
        };
        let count = if transfers(scenario) { scenario.machines.min(MOST_PORTS) } else { 0 };
        if count > 0 {
            self.notes.push(format!(
                "Machines load from {address}, a port each, not from addresses of their own{}.",
                if count < scenario.machines {
                    format!("; {count} ports serve all")
                } else {
                    String::new()
                }
            ));
        }
        let mut sockets = Vec::with_capacity(count as usize);
        for _ in 0..count {
            sockets.push(self.udp(SocketAddr::from((address, 0)))?);
        }
        Ok(Own::Ports { address, sockets })
    }

    /// Whether addresses can be made this host's. Tried with those that are known beforehand.
    fn may_route(&mut self, clients: Option<Block>) -> Result<bool, RunError> {
        let probe = match clients {
            Some(clients) if !clients.first.is_loopback() => clients,
            // The address of this very host, which is local anyway: refused without the privilege, harmless with it.
            _ => Block { first: Ipv4Addr::LOCALHOST, prefix: 32 },
        };
        match self.routes.add(probe) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                // Loopback needs no route.
                let loopback = clients.is_some_and(|clients| clients.first.is_loopback());
                if !loopback {
                    self.notes.push(format!("{error}: without CAP_NET_ADMIN"));
                }
                Ok(loopback)
            }
            Err(error) => Err(RunError::Route(error)),
        }
    }

    fn udp(&mut self, bind: SocketAddr) -> Result<SocketId, RunError> {
        let spec = UdpSocketSpec {
            bind,
            // Blocks of a window come together where the device or the peer's kernel has not cut them apart.
            gro: bind.port() != SERVER_PORT && bind.port() != CLIENT_PORT,
            receive_buffer: Some(RECEIVE_BUFFER),
            ..UdpSocketSpec::default()
        };
        let socket = spec.open().map_err(RunError::Socket)?;
        self.backend.add_socket(socket).map_err(RunError::Engine)
    }
}

fn find_interface(name: &str) -> Result<Interface, RunError> {
    let all = interfaces().map_err(RunError::Engine)?;
    let there: Vec<&str> = all.iter().map(|interface| interface.name.as_str()).collect();
    let there = there.join(", ");
    all.into_iter()
        .find(|interface| interface.name == name)
        .ok_or_else(|| RunError::Interface { name: name.to_owned(), there })
}

fn first_ipv4(interface: &Interface) -> Option<Ipv4Addr> {
    interface.addresses.iter().find_map(|address| match address.ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    })
}

/// The address that this host uses towards a server; nothing is sent.
fn source_towards(server: Ipv4Addr) -> Result<Ipv4Addr, RunError> {
    let find = || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((server, SERVER_PORT))?;
        socket.local_addr()
    };
    match find() {
        Ok(SocketAddr::V4(address)) => Ok(*address.ip()),
        Ok(SocketAddr::V6(_)) => Ok(Ipv4Addr::UNSPECIFIED),
        Err(error) => Err(RunError::NoRoute { server, error }),
    }
}

/// Many sockets need many descriptors; what cannot be had shows when they are opened.
fn raise_descriptor_limit(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
        let raised = Rlimit { current: Some(wanted), maximum };
        let fallback = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_err() {
            let _ = setrlimit(Resource::Nofile, fallback);
        }
    }
}
