//! A server with its shards, its clients, and the network between them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstorm_net::sim::{Faults, InterfaceId, Outbox, Sim, SimInterface, SimNetwork, SimSocket};
use bootstorm_net::{Address, Backend, Datagram, Handler, Limits, SocketId, Target, Transmit};
use bootstorm_protocols::tftp::{ErrorCode, MULTICAST_PORT};
use bootstorm_protocols::time::Moment;

use super::clients::{ADDRESSES, Clients, Outcome, PORTS, Plan, SERVER, address, copy};
use crate::config;
use crate::event::{BootEvent, Kind};
use crate::metrics::{Metrics, TftpMetrics};
use crate::tftp::reason::Reason;
use crate::tftp::{TftpPorts, TftpServer, TftpShard};

/// One shard of the server.
pub(super) struct Shard {
    pub(super) tftp: TftpShard,
    /// The socket of requests that it began with, or that was opened last.
    listen: SocketId,
    pub(super) events: Vec<BootEvent>,
}

impl Handler<Outbox> for Shard {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut Outbox) {
        self.tftp.datagram(&datagram, tx);
    }

    fn woken(&mut self, tx: &mut Outbox) {
        self.tftp.woken(tx);
    }

    fn sent(&mut self, token: u64, result: io::Result<()>, _: &mut Outbox) {
        self.tftp.sent(token, &result);
    }

    fn batch_end(&mut self, dry: bool, tx: &mut Outbox) -> Option<Moment> {
        let next = self.tftp.batch_end(dry, tx);
        self.events.extend(self.tftp.take_events());
        next
    }
}

/// A server with its files, and clients.
pub(super) struct Simulation {
    pub(super) dir: tempfile::TempDir,
    pub(super) network: SimNetwork,
    /// The server's interface.
    here: InterfaceId,
    pub(super) server: Arc<TftpServer>,
    pub(super) shards: Vec<(Sim, Shard)>,
    pub(super) clients: Clients,
    backend: Sim,
    sockets: Vec<SocketId>,
    metrics: Arc<Metrics>,
}

impl Simulation {
    /// `change` adapts the configuration.
    pub(super) fn new(
        shards: usize,
        faults: Faults,
        change: impl FnOnce(&mut config::Tftp),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut config = config::Tftp::new(root);
        config.max_transfers_per_client = u32::MAX;
        config.retries = 30;
        change(&mut config);
        // Without threads the loader does each job at once, so that a run can be repeated.
        let server = TftpServer::without_threads(&config).unwrap();
        let network = SimNetwork::new(7, faults);
        let attach = |mac: u8, addresses: Vec<IpAddr>| {
            let addresses = addresses.into_iter().map(|ip| Address { ip, prefix: 24 }).collect();
            let mac = [2, 0, 0, 0, 0, mac];
            network.attach(SimInterface { ifindex: 1, mac, addresses, segment: 0 })
        };
        let here = attach(1, vec![IpAddr::V4(SERVER)]);
        let there = attach(2, (0..ADDRESSES).map(|at| address(at * PORTS)).collect());
        let metrics = Arc::new(Metrics::new(shards));
        let make = |index: usize| {
            let mut sim = network.backend(&Limits::default());
            // A simulated network has no steering among sockets of one port, so each shard listens
            // on a port of its own.
            let port = 69 + index as u16 * 1000;
            let any = Ipv4Addr::UNSPECIFIED;
            let listen = sim.add_socket(SimSocket::udp(here, (any, port))).unwrap();
            let mut data = || sim.add_socket(SimSocket::udp(here, (SERVER, 0))).unwrap();
            let sockets = if config.single_port { 0 } else { 16 };
            let data = (0..sockets).map(|_| data()).collect();
            let ports = TftpPorts { listen, data, bound: Vec::new() };
            let tftp = TftpShard::new(
                Arc::clone(&server),
                vec![ports],
                sim.waker(),
                Arc::clone(&metrics),
                index,
            );
            (sim, Shard { tftp, listen, events: Vec::new() })
        };
        let made = (0..shards).map(make).collect();
        let mut backend = network.backend(&Limits {
            slots: 16_384,
            batch: 1024,
            payload_len: 65_536,
            ..Limits::default()
        });
        let mut socket = |port| {
            backend.add_socket(SimSocket::udp(there, (Ipv4Addr::UNSPECIFIED, port))).unwrap()
        };
        let sockets = (0..PORTS as u16).map(|index| socket(10_000 + index)).collect();
        socket(MULTICAST_PORT);
        let clients = Clients::default();
        Self { dir, network, here, server, shards: made, clients, backend, sockets, metrics }
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("root").join(name)
    }

    pub(super) fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Adds a client with a port of its own.
    pub(super) fn add(&mut self, plan: Plan) -> usize {
        let index = self.clients.list.len();
        assert!(index < PORTS * ADDRESSES);
        let start = plan.start.max(self.network.now());
        self.clients.add(Plan { start, ..plan }, self.sockets[index % PORTS]);
        index
    }

    /// The client's requests go to another shard.
    pub(super) fn ask_shard(&mut self, index: usize, shard: u16) {
        self.clients.list[index].port = 69 + shard * 1000;
    }

    /// The same client begins another transfer, from the same port.
    pub(super) fn again(&mut self, index: usize, plan: Plan) {
        let now = self.network.now();
        self.clients.restart(index, Plan { start: now, ..plan });
    }

    /// Closes the first shard's socket of port 69, as when its interface goes away.
    pub(super) fn close_requests(&mut self) {
        let (sim, shard) = &mut self.shards[0];
        sim.remove_socket(shard.listen).unwrap();
        shard.tftp.set_ports(Vec::new());
    }

    /// Opens another one, for a server with one port.
    pub(super) fn open_requests(&mut self) {
        let (sim, shard) = &mut self.shards[0];
        let listen = sim.add_socket(SimSocket::udp(self.here, (Ipv4Addr::UNSPECIFIED, 69)));
        shard.listen = listen.unwrap();
        let (listen, data, bound) = (shard.listen, Vec::new(), Vec::new());
        shard.tftp.set_ports(vec![TftpPorts { listen, data, bound }]);
    }

    /// Advances the clock to the next event; false when there is none.
    pub(super) fn step(&mut self) -> bool {
        for (sim, shard) in &mut self.shards {
            sim.turn(None, shard).unwrap();
        }
        self.backend.turn(None, &mut self.clients).unwrap();
        for (sim, shard) in &mut self.shards {
            sim.turn(None, shard).unwrap();
        }
        self.network.advance().is_some()
    }

    /// Runs until every client has an outcome.
    pub(super) fn run(&mut self) {
        for _ in 0..3_000_000 {
            if !self.step() || self.clients.all_ended() {
                return;
            }
        }
        panic!("not all of {} clients came to an end", self.clients.list.len());
    }

    /// Runs until this client has an outcome.
    pub(super) fn run_until(&mut self, client: usize) {
        for _ in 0..1_000_000 {
            if self.clients.list[client].outcome.is_some() || !self.step() {
                return;
            }
        }
        panic!("client {client} did not come to an end");
    }

    /// Runs until the server has no transfer.
    pub(super) fn drain(&mut self) {
        for _ in 0..1_000_000 {
            if self.server.active() == 0 || !self.step() {
                return;
            }
        }
        panic!("{} transfers do not end", self.server.active());
    }

    pub(super) fn outcome(&self, index: usize) -> &Outcome {
        self.clients.list[index].outcome.as_ref().expect("the client has come to an end")
    }

    pub(super) fn refusal(&self, index: usize) -> (ErrorCode, &str) {
        match self.outcome(index) {
            Outcome::Refused(code, text) => (*code, text),
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        assert_eq!(*self.outcome(index), Outcome::Complete);
        &self.clients.list[index].bytes
    }

    pub(super) fn metrics(&self, shard: usize) -> &TftpMetrics {
        &self.metrics.shard(shard).unwrap().tftp
    }

    /// How often something ended for this reason.
    pub(super) fn reason(&self, shard: usize, reason: Reason) -> u64 {
        self.metrics(shard).reasons.values().nth(reason.number()).expect("a reason has a counter")
    }

    pub(super) fn all_metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn events(&self, kind: Kind) -> usize {
        let events = self.shards.iter().flat_map(|(_, shard)| &shard.events);
        events.filter(|event| event.kind == kind).count()
    }

    /// Sends raw bytes from a client's socket.
    pub(super) fn raw(&mut self, index: usize, to: SocketAddr, packet: &[u8]) {
        let client = &self.clients.list[index];
        let target = Target::Udp { to, from: Some(client.address), ifindex: 0 };
        let socket = client.socket;
        self.backend.tx().send(socket, &target, |slot| copy(slot, packet)).unwrap();
    }
}
