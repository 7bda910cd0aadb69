//! One run: sockets, fleet, loop, report.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bootstorm_net::{Backend, Drops, Engine, EngineChoice, Limits, Socket, now};
use bootstorm_protocols::tftp::{Negotiated, Patience};

use crate::board::Board;
use crate::fleet::{Fleet, Orders, Way, Wires};
use crate::http::Fetcher;
use crate::judge::{Files, Judge, LocalCopies, Recorder};
use crate::opening::Opening;
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
    let wires = Opening::new(&mut backend, job, &mut routes, notes).wires()?;
    let started = SystemTime::now();
    let start = now();
    let recorder = Recorder::new(job.capture.is_some());
    let relays = relays(&wires);
    // Addresses that no machine may be given.
    let reserved = relays.iter().copied().chain([job.server]).collect();
    let judge = Judge::new(start, job.scenario.expect_boot_file.clone(), reserved, recorder);
    let orders = Orders {
        scenario: job.scenario.clone(),
        seed: Seed(job.seed),
        wires,
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
    let ended = verdict::Ended { started, end, drops, engine, schedule, relays };
    Ok(verdict::report(job, &mut fleet, ended, std::mem::take(notes)))
}

/// Addresses of the relay agents that are played.
fn relays(wires: &Wires) -> Vec<Ipv4Addr> {
    match &wires.way {
        Way::Relayed(relays) => relays.iter().map(|relay| relay.giaddr).collect(),
        Way::Direct { .. } | Way::None => Vec::new(),
    }
}

/// What was lost in this run.
fn since(before: Drops, after: Drops) -> Drops {
    Drops { kernel: after.kernel.saturating_sub(before.kernel), ..after }
}

pub(crate) fn asks_for_addresses(scenario: &Scenario) -> bool {
    scenario.stages.iter().any(|stage| matches!(stage, Stage::Dhcp(_) | Stage::Discover(_)))
        || scenario.attack.is_some()
}

pub(crate) fn transfers(scenario: &Scenario) -> bool {
    scenario.stages.iter().any(|stage| matches!(stage, Stage::Tftp(_)))
}

pub(crate) fn fetches(scenario: &Scenario) -> bool {
    scenario.stages.iter().any(|stage| matches!(stage, Stage::Http(_)))
}
