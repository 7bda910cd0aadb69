//! The server under simulation: the product's shards, rules, leases and TFTP, composed as
//! `bootstorm serve` composes them, but on a simulated network and with a stepped committer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bootstorm::config::{self, Config};
use bootstorm::hashing;
use bootstorm::hooks::Hooks;
use bootstorm::interfaces::{Interface, Interfaces};
use bootstorm::leases::{BootId, Clock, LeaseLog, Leases};
use bootstorm::log::EventSink;
use bootstorm::metrics::Metrics;
use bootstorm::recent::Recent;
use bootstorm::shard::{Binding, Parts, Role, Shard, Sockets, dhcp_steering, split_discovers};
use bootstorm::snapshot::{SharedSnapshot, Snapshot};
use bootstorm::tftp::{TftpServer, TftpShard};
use bootstorm_net::sim::{Faults, Outside, Sim, SimInterface, SimNetwork, SimSocket};
use bootstorm_net::{Address, Backend, Limits};
use bootstorm_protocols::time::Moment;

use crate::committer::Committer;
use crate::disk::Disk;
use crate::site::SERVER;

/// Replies that may wait in their slots at once: fewer than in the product, so that this limit is
/// met, too.
const LIMITS: Limits = Limits {
    buffers: 128,
    urgent: 64,
    middle: 64,
    payload_len: 2048,
    slots: 512,
    held: 256,
    shared: 128,
    batch: 32,
    busy_poll: std::time::Duration::ZERO,
};

const IFINDEX: u32 = 1;
/// Where the first shard hears answers to its pings.
const PINGS: u16 = 7000;
const MAC: [u8; 6] = [2, 0xb0, 0, 0, 0, 1];
/// Turns of all shards without time passing, at most: more is a loop that never ends.
const MOST_TURNS: usize = 100_000;
/// Addresses of each pool that one round of housekeeping looks at, as in the product.
const SWEEP: usize = 4096;

/// The clocks of the machine that the server runs on.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Clocks {
    /// When it was booted, in the simulation's time.
    pub(crate) booted: Moment,
    /// How often it was booted.
    pub(crate) boots: u8,
    /// What its wall clock shows beyond the simulation's time, in seconds.
    pub(crate) wall: i64,
    /// It was set from a time source since the boot.
    pub(crate) synchronised: bool,
}

impl Clocks {
    /// The monotonic clock, which begins with a boot.
    pub(crate) fn monotonic(&self, now: Moment) -> Moment {
        // A machine needs a while from its start until the server runs.
        Moment::from_nanos(now.since(self.booted).as_nanos() as u64 + 5_000_000_000)
    }

    pub(crate) fn read(&self, now: Moment) -> Clock {
        let seconds = (now.as_nanos() / 1_000_000_000) as i64;
        Clock {
            now: self.monotonic(now),
            wall: u64::try_from(1_800_000_000 + seconds + self.wall).unwrap_or(0),
            boot: BootId([self.boots; 16]),
            synchronised: self.synchronised,
        }
    }
}

/// A server that runs.
pub(crate) struct Server {
    pub(crate) clocks: Clocks,
    pub(crate) network: SimNetwork,
    shards: Vec<(Sim, Shard)>,
    /// Until when a shard gets no processor time.
    stalled: Vec<Moment>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) log: Arc<LeaseLog>,
    pub(crate) committer: Committer,
    snapshot: SharedSnapshot,
    tftp: Arc<TftpServer>,
    pub(crate) config: Arc<Config>,
    metrics: Arc<Metrics>,
    draining: Arc<AtomicBool>,
}

impl Server {
    /// Starts a server on what the disk has.
    pub(crate) fn start(
        text: &str,
        disk: &Disk,
        shards: usize,
        clocks: Clocks,
        now: Moment,
        seed: u64,
    ) -> Result<Self, String> {
        let config = Arc::new(parse(text)?);
        let interfaces = interfaces();
        let network = SimNetwork::new(seed, Faults::default());
        network.play_outside();
        network.advance_to(clocks.monotonic(now));
        let here = network.attach(SimInterface {
            ifindex: IFINDEX,
            mac: MAC,
            addresses: vec![Address { ip: IpAddr::V4(SERVER), prefix: 24 }],
            segment: 0,
        });
        let (log, next) = disk.open()?;
        let hasher = hashing::with_key(seed);
        let clock = clocks.read(now);
        let leases = Leases::open_hashed(log.clone(), &config.dhcp, shards, clock, hasher.clone())
            .map_err(|error| format!("open the leases: {error}"))?;
        leases.reconfigure(interfaces.addresses(), &config.dhcp);
        let metrics = Arc::new(Metrics::new(shards));
        let committer = leases.committer().with_metrics(metrics.clone());
        let committer = Committer::new(committer, next);
        let tftp_config = config.tftp.as_ref().ok_or("the configuration has no [tftp]")?;
        let tftp = TftpServer::without_threads(tftp_config).map_err(|error| error.to_string())?;
        let snapshot = SharedSnapshot::new(Snapshot { config: config.clone(), interfaces });
        let draining = Arc::new(AtomicBool::new(false));
        let mut running = Vec::new();
        for index in 0..shards {
            let mut sim = network.backend(&LIMITS);
            let mut sockets = Sockets::default();
            // At most as many shards as cores.
            let (number, count) = (index as u16, shards as u16);
            let any = Ipv4Addr::UNSPECIFIED;
            let mut add = |role: Role, socket: SimSocket| {
                let socket = socket.with_priority(role.priority());
                let id = sim.add_socket(socket).map_err(|error| error.to_string())?;
                sockets.add(id, role, Binding::Host);
                Ok::<_, String>(())
            };
            for (role, steering) in split_discovers(dhcp_steering(count, number)) {
                add(role, SimSocket::udp(here, (any, 67)).steered(steering))?;
            }
            add(Role::Link, SimSocket::packet(here))?;
            // The simulated network has no raw sockets: any other serves.
            add(Role::Icmp, SimSocket::udp(here, (any, PINGS + number)))?;
            add(Role::TftpRequests(any.into()), SimSocket::udp(here, (any, 69)))?;
            for port in 0..4 {
                let port = 20_000 + number * 100 + port;
                add(Role::TftpData(any.into()), SimSocket::udp(here, (any, port)))?;
            }
            let waker = sim.waker();
            let wake = waker.clone();
            let ports = sockets.tftp_ports();
            let clock = network.clone();
            let tftp_shard = TftpShard::new(tftp.clone(), ports, waker, metrics.clone(), index);
            let parts = Parts {
                snapshot: snapshot.clone(),
                leases: leases.shard(index, move || wake.wake()),
                metrics: metrics.own(index).ok_or("a shard has no counters")?,
                events: EventSink::unheard(),
                hooks: Hooks::unheard(),
                recent: Arc::new(Recent::of(shards)),
                tftp: Some(tftp_shard.hashed(hasher.clone())),
                dry_run: false,
                draining: draining.clone(),
                clock: Box::new(move || clock.now()),
            };
            running.push((sim, Shard::new(parts, sockets)));
        }
        let stalled = vec![Moment::default(); shards];
        Ok(Self {
            clocks,
            network,
            shards: running,
            stalled,
            leases,
            log,
            committer,
            snapshot,
            tftp,
            config,
            metrics,
            draining,
        })
    }

    /// As a reload does: everything that can fail is prepared, then it takes effect at once.
    pub(crate) fn reload(&mut self, text: &str) -> Result<(), String> {
        let config = Arc::new(parse(text)?);
        let prepared = match &config.tftp {
            Some(tftp) => Some(TftpServer::prepare(tftp).map_err(|error| error.to_string())?),
            None => None,
        };
        let next = Snapshot { config: config.clone(), interfaces: interfaces() };
        self.snapshot.replace(next, &self.leases, Some((&self.tftp, prepared)));
        self.config = config;
        Ok(())
    }

    /// As a change of live hosts does: nothing else is looked at again.
    pub(crate) fn change_hosts(&mut self, text: &str) -> Result<(), String> {
        let config = Arc::new(parse(text)?);
        let interfaces = self.snapshot.read().interfaces.clone();
        let next = Snapshot { config: config.clone(), interfaces };
        self.snapshot.replace(next, &self.leases, Some((&self.tftp, None)));
        self.config = config;
        Ok(())
    }

    /// A datagram arrives at the server's interface.
    pub(crate) fn arrive(&self, datagram: Outside) {
        self.network.arrive(datagram);
    }

    /// The answer of an address to a ping, which all shards hear.
    pub(crate) fn echo(&self, ip: Ipv4Addr, reply: &[u8]) {
        for number in 0..self.shards.len() as u16 {
            let to = SocketAddr::from((SERVER, PINGS + number));
            let source = SocketAddr::from((ip, 0));
            self.arrive(Outside { segment: 0, mac: None, source, to, payload: reply.to_vec() });
        }
    }

    /// Batches of leases that were not written, so far.
    pub(crate) fn failed_batches(&self) -> u64 {
        self.metrics.commits.failures.get()
    }

    /// When a shard wants to run next, in the simulation's time.
    pub(crate) fn next(&self, now: Moment) -> Option<Moment> {
        let next = |(index, (sim, _)): (usize, &(Sim, Shard))| {
            let wanted = sim.next()?;
            let ahead = wanted.since(self.network.now());
            Some((now + ahead).max(self.stalled[index]))
        };
        self.shards.iter().enumerate().filter_map(next).min()
    }

    /// Lets every shard run that has something to do, until none has; what they sent.
    pub(crate) fn run(&mut self, now: Moment) -> Result<Vec<Outside>, String> {
        self.network.advance_to(self.clocks.monotonic(now));
        let mut sent = Vec::new();
        for _ in 0..MOST_TURNS {
            let mut idle = true;
            for (index, (sim, shard)) in self.shards.iter_mut().enumerate() {
                let due = sim.next().is_some_and(|next| next <= self.network.now());
                if due && self.stalled[index] <= now {
                    sim.turn(None, shard).map_err(|error| format!("shard {index}: {error}"))?;
                    idle = false;
                }
            }
            sent.extend(self.network.take_sent());
            if idle {
                return Ok(sent);
            }
        }
        Err("the shards go on for ever".to_owned())
    }

    /// A shard gets no processor time until then.
    pub(crate) fn stall(&mut self, shard: usize, until: Moment) {
        let shard = shard % self.stalled.len();
        self.stalled[shard] = until;
    }

    pub(crate) fn housekeeping(&self, now: Moment) {
        self.leases.sweep(&self.clocks.read(now), SWEEP);
    }

    /// From now on no transfer is begun and no request is taken.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether all that was begun has ended.
    pub(crate) fn is_idle(&self) -> bool {
        self.shards.iter().all(|(_, shard)| shard.is_idle())
    }

    pub(crate) fn transfers(&self) -> u32 {
        self.tftp.active()
    }

    /// What the network does to what the server sends.
    pub(crate) fn set_send_faults(&self, errors: f64, blocked: f64) {
        let faults = Faults { send_error: errors, send_blocked: blocked, ..Faults::default() };
        self.network.set_faults(faults);
    }

    /// States of all leases, by address.
    pub(crate) fn table(&self, now: Moment) -> HashMap<Ipv4Addr, bootstorm::leases::Lease> {
        let all = self.leases.page(Ipv4Addr::UNSPECIFIED, usize::MAX, self.clocks.monotonic(now));
        all.into_iter().filter_map(|lease| Some((lease.ipv4()?, lease))).collect()
    }
}

fn parse(text: &str) -> Result<Config, String> {
    config::parse(Path::new("simulated.toml"), text.as_bytes())
        .map_err(|error| format!("{}\n{text}", error.render(false)))
}

fn interfaces() -> Interfaces {
    Interfaces::of([Interface {
        name: "lan0".to_owned(),
        index: IFINDEX,
        mac: Some(MAC),
        addresses: vec![SERVER],
        mtu: 1500,
        up: true,
        carrier: true,
        served: true,
    }])
}
