//! All simulated machines of a run, on one ring and one timer wheel.
//!
//! ```text
//!   arrivals ──power on──> machine ──stage by stage──> up, or given up
//!                            │  ▲
//!            depart ─────────┘  └──────── arrive
//!              │                             ▲
//!           impairment (loss, delay, …)      impairment
//!              │                             │
//!            socket ───── the server ────> socket ──> validator
//! ```
//! [`Clients`] is a [`Handler`] of the packet engine, as a shard of the server is. It is generic
//! over the backend and takes the time as an argument, so the same code runs on sockets and in
//! simulation.

mod arrivals;
mod dhcp;
mod encoder;
mod http;
mod impairment;
mod leases;
mod lifecycle;
mod machine;
mod messages;
mod multicast;
mod release;
mod sockets;
mod tftp;
mod timers;
mod transmit;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bootstorm_net::{Datagram, Handler, SocketId, Target, TimerWheel, Transmit};
use bootstorm_protocols::dhcpv4::CLIENT_PORT;
use bootstorm_protocols::frame::UdpFrame;
use bootstorm_protocols::tftp::Negotiated;
use bootstorm_protocols::time::Moment;

use self::arrivals::Arrivals;
use self::impairment::Impairment;
use self::machine::{Machine, Phase};
use self::multicast::ListenerGroup;
pub use self::release::Release;
use self::sockets::Role;
pub use self::sockets::{Access, ClientAddresses, Relay, Sockets, Sources};
use self::timers::TICK;
use crate::firmware::Program;
use crate::health::Health;
use crate::http::Fetcher;
use crate::identity::Identities;
use crate::memberships::Memberships;
use crate::metrics::{Metrics, State, Timed};
use crate::progress::Progress;
use crate::routes::Routes;
use crate::scenario::{Requester, Scenario, Stage};
use crate::seed::{Purpose, Seed, mix};
use crate::validator::{Files, Validator};

/// Things done in one batch at most, so that datagrams never wait long and transmit slots suffice.
const BURST: usize = 1024;
/// What waits for longer when the run ends has failed.
const CUT_OFF: Duration = Duration::from_secs(1);

/// The socket and target of a datagram.
#[derive(Copy, Clone, Debug)]
struct SendPath {
    socket: SocketId,
    target: Target,
}

impl From<(SocketId, Target)> for SendPath {
    fn from((socket, target): (SocketId, Target)) -> SendPath {
        SendPath { socket, target }
    }
}

/// What [`Clients`] are made from.
pub struct Config {
    /// What is played.
    pub scenario: Scenario,
    /// The seed.
    pub seed: Seed,
    /// Which set of hardware addresses machines have: each is of other machines.
    pub generation: u8,
    /// The sockets.
    pub sockets: Sockets,
    /// Files and what they are compared with.
    pub files: Files,
    /// The validator.
    pub validator: Validator,
    /// Progress for the live view, and the stop flag.
    pub progress: Arc<Progress>,
    /// Options of TFTP requests in place of the firmware's.
    pub asked: Option<Negotiated>,
    /// The TFTP server, where it is not the one that DHCP names.
    pub tftp_server: Option<Ipv4Addr>,
    /// Routes to machines' addresses.
    pub routes: Routes,
    /// Multicast groups.
    pub memberships: Memberships,
    /// The port of multicast groups, where machines ask for streams.
    pub multicast_port: Option<u16>,
    /// Fetches by HTTP, where the scenario asks for it.
    pub fetcher: Option<Fetcher>,
    /// The HTTP server, where it is not port 80 of the server.
    pub http_server: Option<SocketAddrV4>,
}

/// All machines of a run.
pub struct Clients {
    start: Moment,
    limit: Moment,
    seed: Seed,
    stages: Vec<Stage>,
    boot_attempts: u8,
    boot_pause: Duration,
    renew: bool,
    /// Machines send from their own addresses.
    uses_own_addresses: bool,
    /// Machines take turns instead of coming up for good.
    in_turns: bool,
    in_flight: u64,
    lease_time: Option<u32>,
    power_cuts: Option<crate::scenario::PowerCuts>,
    cuts_left: u64,
    post: [Duration; 2],
    rack: u32,
    attack: Option<Attackers>,
    asked: Option<Negotiated>,
    tftp_server: Option<Ipv4Addr>,
    ids: Identities,
    machines: Vec<Machine>,
    /// Machines of the scenario; those behind them in the list are attackers.
    real: u32,
    busy: u64,
    arrivals: Arrivals,
    sockets: Sockets,
    roles: Vec<Option<Role>>,
    routes: Routes,
    route_error: Option<String>,
    memberships: Memberships,
    multicast_port: Option<u16>,
    listener_groups: Vec<ListenerGroup>,
    fetcher: Option<Fetcher>,
    http_server: Option<SocketAddrV4>,
    wheel: TimerWheel,
    impairment: Option<Impairment>,
    /// The network of the scenario delivers datagrams twice.
    network_repeats: bool,
    progress: Arc<Progress>,
    next_tick: Moment,
    strays: u64,
    over: bool,
    interrupted: bool,
    /// What was counted.
    pub metrics: Metrics,
    /// What was right and wrong.
    pub validator: Validator,
    /// What was loaded.
    pub files: Files,
    /// How the generator itself performs.
    pub health: Health,
}

/// An attacker's clients, begun one after the other.
#[derive(Debug)]
struct Attackers {
    per_second: f64,
    end: Moment,
    take: bool,
    begun: u64,
}

impl Attackers {
    /// When the next one begins; `None` when there is none any more.
    fn next(&self, start: Moment) -> Option<Moment> {
        let at = start + Duration::from_secs_f64(self.begun as f64 / self.per_second);
        (at < self.end).then_some(at)
    }
}

impl Clients {
    /// Clients whose run begins at `start`.
    ///
    /// # Errors
    /// No memory for the histograms.
    pub fn new(config: Config, start: Moment) -> Result<Clients, hdrhistogram::CreationError> {
        let Config { scenario, seed, sockets, .. } = config;
        let real = scenario.machines;
        let rack = if scenario.arrival.rack == 0 { real } else { scenario.arrival.rack };
        let relays = sockets.relays().max(1) as u32;
        let machines = (0..real)
            .map(|index| {
                let relay = (index / rack % relays) as u16;
                let mut machine = Machine::new(firmware(&scenario, seed, index), relay);
                if let Some(decline) = &scenario.decline
                    && seed.fraction(Purpose::Decline, index, 0) < decline.share.0
                {
                    machine.declines = decline.times;
                }
                machine
            })
            .collect();
        let attack = scenario.attack.as_ref().map(|attack| Attackers {
            per_second: attack.rate,
            end: attack.lasts.map_or(Moment::NEVER, |span| start + span.0),
            take: attack.take,
            begun: 0,
        });
        let racks = u64::from(real.div_ceil(rack));
        let cuts = scenario.power_cuts.as_ref().map_or(0, |cuts| u64::from(cuts.times) * racks);
        let mut clients = Clients {
            start,
            limit: start + scenario.limit.0,
            seed,
            boot_attempts: scenario.boot_attempts,
            boot_pause: scenario.boot_pause.0,
            renew: scenario.renew,
            uses_own_addresses: scenario.uses_own_addresses(),
            in_turns: scenario.arrival.lasts.is_some(),
            in_flight: scenario.arrival.in_flight.unwrap_or(0).into(),
            lease_time: scenario.lease_time.map(|span| span.0.as_secs() as u32),
            post: scenario.arrival.post.map(|span| span.0),
            rack,
            attack,
            asked: config.asked,
            tftp_server: config.tftp_server,
            ids: Identities::new(seed, real, config.generation),
            machines,
            real,
            busy: 0,
            arrivals: Arrivals::new(&scenario, seed, start),
            roles: sockets.roles(),
            sockets,
            routes: config.routes,
            route_error: None,
            memberships: config.memberships,
            multicast_port: config.multicast_port,
            listener_groups: Vec::new(),
            fetcher: config.fetcher,
            http_server: config.http_server,
            wheel: TimerWheel::new(start, real as usize),
            network_repeats: scenario.network.duplicate.0 > 0.0,
            impairment: (!scenario.network.is_perfect())
                .then(|| Impairment::new(scenario.network, seed)),
            progress: config.progress,
            next_tick: start + TICK,
            strays: 0,
            over: false,
            interrupted: false,
            metrics: Metrics::new(start, real)?,
            validator: config.validator,
            files: config.files,
            health: Health::new(start)?,
            stages: scenario.stages,
            cuts_left: cuts,
            power_cuts: scenario.power_cuts,
        };
        clients.plan_power_cuts(racks);
        Ok(clients)
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether somebody ended it before its time.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Machines that have not been powered on.
    pub fn not_started(&self) -> u64 {
        if self.in_turns { 0 } else { self.arrivals.waiting() }
    }

    /// Machines of the scenario; where they take turns, those that have had one.
    pub fn total(&self) -> u64 {
        let idle = if self.in_turns { self.arrivals.waiting() } else { 0 };
        u64::from(self.real) - idle
    }

    /// Datagrams that belonged to no machine.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Why an address could not be made this host's, the first time.
    pub fn route_error(&self) -> Option<&str> {
        self.route_error.as_deref()
    }

    /// A fingerprint of the whole schedule: arrival times, firmware, relay agents, transaction ids.
    pub fn schedule(&self) -> u64 {
        let machines = self.machines.iter().take(self.real as usize).enumerate();
        let identities = machines.fold(self.seed.0, |sum, (index, machine)| {
            let index = index as u32;
            let first = self.ids.xid(index, machine.serial);
            mix(sum
                ^ u64::from(first)
                ^ (machine.firmware as u64) << 40
                ^ u64::from(machine.relay) << 48)
        });
        mix(identities ^ self.arrivals.fingerprint())
    }

    fn is_attacker(&self, index: u32) -> bool {
        index >= self.real
    }

    /// A machine's current stage. Attackers have one.
    fn stage(&self, index: u32) -> Option<&Stage> {
        const TAKES: Stage = Stage::Dhcp(Requester::Plain);
        const LOOKS: Stage = Stage::Discover(Requester::Plain);
        let stage = self.machines[index as usize].stage;
        match &self.attack {
            Some(attack) if self.is_attacker(index) => match stage {
                0 if attack.take => Some(&TAKES),
                0 => Some(&LOOKS),
                _ => None,
            },
            _ => self.stages.get(usize::from(stage)),
        }
    }

    /// Changes the state of a machine, and the counters of states.
    fn set_state(&mut self, index: u32, state: State) {
        if self.is_attacker(index) {
            return;
        }
        let machine = &mut self.machines[index as usize];
        let finished = |state| matches!(state, State::Up | State::GivenUp | State::Off);
        let (was, is) = (!finished(machine.state), !finished(state));
        self.metrics.moved(machine.state, state);
        machine.state = state;
        match (was, is) {
            (false, true) => self.busy += 1,
            (true, false) => self.busy = self.busy.saturating_sub(1),
            _ => {}
        }
    }

    /// Counts what the end of the run cut off. What had not waited for long is no failure: it was
    /// merely under way.
    pub fn close(&mut self, now: Moment) {
        for index in 0..self.real {
            let machine = &self.machines[index as usize];
            let phase = machine.phase;
            let since = machine.transfer.as_ref().map_or(machine.asked, |transfer| transfer.began);
            let waits = now.since(since) > CUT_OFF;
            if matches!(phase, Phase::Selecting | Phase::Requesting) {
                self.metrics.dhcp.unanswered += 1;
            }
            match phase {
                _ if waits && machine.awaits_answer() => self.exchange_failed(index),
                Phase::Loading if waits => self.metrics.failed(Timed::Transfer),
                Phase::Fetching if waits => self.metrics.failed(Timed::Http),
                _ => {}
            }
            if self.boot_failed(index, now) {
                self.metrics.failed(Timed::Boot);
            }
        }
    }

    /// Whether a machine was powered on and is not up at the end of the run.
    fn boot_failed(&self, index: u32, now: Moment) -> bool {
        let machine = &self.machines[index as usize];
        match machine.state {
            State::Up => false,
            State::GivenUp => true,
            _ if self.in_turns => false,
            _ => machine.powered.is_some_and(|powered| now.since(powered) > CUT_OFF),
        }
    }
}

/// The firmware of a machine, by the weights of the scenario.
fn firmware(scenario: &Scenario, seed: Seed, index: u32) -> Program {
    let total: u32 = scenario.firmware.values().sum();
    if total == 0 {
        return Program::Plain;
    }
    let mut place = (seed.draw(Purpose::Firmware, index, 0) % u64::from(total)) as u32;
    for (&program, &weight) in &scenario.firmware {
        if place < weight {
            return program;
        }
        place -= weight;
    }
    Program::Plain
}

fn v4(ip: Option<IpAddr>) -> Ipv4Addr {
    match ip {
        Some(IpAddr::V4(ip)) => ip,
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

impl<T: Transmit> Handler<T> for Clients {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        let link = self.roles.get(datagram.socket.index()).copied().flatten() == Some(Role::Link);
        if link {
            match UdpFrame::parse(datagram.payload) {
                Some((frame, payload)) if frame.dst.port() == CLIENT_PORT => {
                    self.receive(datagram.socket, [frame.src, frame.dst], payload, tx);
                }
                _ => self.strays += 1,
            }
            return;
        }
        let SocketAddr::V4(source) = datagram.source else { return };
        let destination = SocketAddrV4::new(v4(datagram.destination), 0);
        for payload in datagram.segments() {
            self.receive(datagram.socket, [source, destination], payload, tx);
        }
    }

    fn woken(&mut self, tx: &mut T) {
        self.take_fetched(tx);
    }

    fn sent(&mut self, _token: u64, _result: io::Result<()>, _tx: &mut T) {}

    fn batch_end(&mut self, dry: bool, tx: &mut T) -> Option<Moment> {
        let now = tx.now();
        self.health.batch(dry, now);
        for _ in 0..BURST {
            let Some(token) = self.wheel.expired(now) else { break };
            self.timer_fired(token, tx);
        }
        if now < self.limit {
            self.begin_due(tx);
        }
        if now >= self.next_tick {
            self.tick(now);
        }
        let wheel = self.wheel.next();
        let begin = self.next_begin();
        wheel.into_iter().chain(begin).chain([self.next_tick]).min()
    }
}
