//! Shards, clients, and the network between them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstorm_net::sim::{Faults, Sim, SimInterface, SimNetwork, SimSocket};
use bootstorm_net::{
    Address, Backend, Datagram, Handler, Limits, Outbox, SocketId, Target, Transmit,
};
use bootstorm_protocols::tftp::netascii::Decoder;
use bootstorm_protocols::tftp::{
    Acked, Arrived, ErrorCode, Listener, MULTICAST_PORT, Mode, Multicast, Negotiated, Packet,
    Receiver, ReceiverSend, RetryPolicy, Sender, SenderSend, ack, data_header, write_error,
    write_request,
};
use bootstorm_protocols::time::Moment;

use crate::config;
use crate::event::{BootEvent, Kind};
use crate::metrics::{Metrics, TftpMetrics};
use crate::tftp::reason::Reason;
use crate::tftp::{TftpPorts, TftpServer, TftpShard};

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Clients of one address, each with a port of its own.
const PORTS: usize = 32;
const ADDRESSES: usize = 32;

/// The address of a client; the first 32 clients have 10.0.0.2.
fn address(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2 + (index / PORTS) as u8))
}

/// Bytes that differ from block to block.
pub(super) fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What one client does.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) asked: Negotiated,
    pub(super) mode: Mode,
    /// What it uploads; `None` downloads.
    pub(super) upload: Option<Arc<Vec<u8>>>,
    /// Ends the transfer when the OACK has told the size.
    pub(super) probe: bool,
    /// [`Moment::NEVER`]: the test speaks for the client.
    pub(super) start: Moment,
}

impl Plan {
    pub(super) fn get(name: &str) -> Self {
        let (name, asked) = (name.to_owned(), Negotiated::default());
        Self {
            name,
            asked,
            mode: Mode::Octet,
            upload: None,
            probe: false,
            start: Moment::default(),
        }
    }

    pub(super) fn options(self, blksize: u16, windowsize: u16) -> Self {
        let (blksize, windowsize) = (Some(blksize), Some(windowsize));
        let asked = Negotiated { blksize, windowsize, tsize: Some(0), ..self.asked };
        Self { asked, ..self }
    }
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Complete,
    Refused(ErrorCode, String),
    GaveUp,
}

pub(super) struct Client {
    pub(super) socket: SocketId,
    pub(super) address: IpAddr,
    pub(super) plan: Plan,
    receiver: Receiver,
    /// In place of the receiver, when the server has granted a place in a stream.
    pub(super) listener: Option<Listener>,
    sender: Option<Sender>,
    decoder: Decoder,
    /// Where it asks; 69, and 1069 for the second shard.
    pub(super) port: u16,
    pub(super) peer: SocketAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) granted: Negotiated,
    pub(super) outcome: Option<Outcome>,
    /// Ports of the server that it got data from.
    pub(super) ports: BTreeSet<u16>,
    timer: Option<Moment>,
    counted: bool,
}

/// All clients, on one backend.
#[derive(Default)]
pub(super) struct Clients {
    pub(super) list: Vec<Client>,
    timers: BTreeSet<(Moment, usize)>,
    ended: usize,
}

impl Clients {
    fn act(&mut self, index: usize, tx: &mut Outbox) {
        let client = &mut self.list[index];
        let now = tx.now();
        if now >= client.plan.start && client.outcome.is_none() {
            client.send_due(tx);
        }
        let deadline = client.deadline();
        if deadline != client.timer {
            if let Some(old) = client.timer {
                self.timers.remove(&(old, index));
            }
            client.timer = deadline;
            self.timers.extend(deadline.map(|deadline| (deadline, index)));
        }
        if client.outcome.is_some() && !std::mem::replace(&mut client.counted, true) {
            self.ended += 1;
        }
    }
}

impl Client {
    fn deadline(&self) -> Option<Moment> {
        if self.outcome.is_some() {
            return None;
        }
        match (&self.sender, &self.listener) {
            (Some(sender), _) => sender.deadline(),
            (None, Some(listener)) => listener.deadline(),
            (None, None) => {
                let start = Some(self.plan.start).filter(|&start| start != Moment::NEVER);
                self.receiver.deadline().or(start)
            }
        }
    }

    fn send_due(&mut self, tx: &mut Outbox) {
        let target = Target::Udp { to: self.peer, from: Some(self.address), ifindex: 0 };
        if let (Some(sender), Some(file)) = (&mut self.sender, &self.plan.upload) {
            let block_len = usize::from(self.granted.block_len());
            let last = (file.len() / block_len + 1) as u64;
            sender.content(last, Some(last));
            while let Some(SenderSend::Blocks { first, .. }) = sender.pending() {
                let from = (first as usize - 1) * block_len;
                let data = &file[from..file.len().min(from + block_len)];
                let packet = [&data_header(first, self.granted.rollover())[..], data].concat();
                tx.send(self.socket, &target, |slot| copy(slot, &packet)).unwrap();
                sender.sent(1, tx.now());
            }
            return;
        }
        if self.listener.is_some() {
            return self.say_as_listener(tx);
        }
        while let Some(pending) = self.receiver.pending() {
            let to = match pending {
                ReceiverSend::Request => (SERVER, self.port).into(),
                _ => self.peer,
            };
            let to = Target::Udp { to, from: Some(self.address), ifindex: 0 };
            let plan = &self.plan;
            let rollover = self.receiver.negotiated().rollover();
            let write = |slot: &mut [u8]| match pending {
                ReceiverSend::Ack(block) => copy(slot, &ack(block, rollover)),
                _ => {
                    let (name, writes) = (plan.name.as_bytes(), plan.upload.is_some());
                    let mut writer = write_request(slot, writes, name, plan.mode).unwrap();
                    plan.asked.write_options(&mut writer).unwrap();
                    writer.finish()
                }
            };
            tx.send(self.socket, &to, write).unwrap();
            self.receiver.sent(tx.now());
        }
    }

    fn packet(&mut self, datagram: &Datagram<'_>, tx: &mut Outbox) {
        if self.outcome.is_some() {
            return;
        }
        let first = self.peer.port() == 69;
        if !first && datagram.source != self.peer {
            // A packet of another transfer: not for this one (RFC 1350 section 4).
            return;
        }
        match Packet::parse(datagram.payload).unwrap() {
            // Too late to matter, as for every client that has what it wanted.
            Packet::Error { .. } if self.receiver.is_complete() => {}
            Packet::Error { code, message } => {
                let message = String::from_utf8(message.to_vec()).unwrap();
                self.outcome = Some(Outcome::Refused(code, message));
            }
            Packet::OptionAck(options) => {
                self.peer = datagram.source;
                if self.plan.upload.is_some() && self.sender.is_some() {
                    return;
                }
                if let Some(listener) = &mut self.listener {
                    return listener.on_option_ack(&options, tx.now()).unwrap();
                }
                self.granted = self.receiver.on_option_ack(&options, tx.now()).unwrap();
                self.begin_to_listen(tx.now());
                if self.plan.probe {
                    let target =
                        Target::Udp { to: self.peer, from: Some(self.address), ifindex: 0 };
                    let write = |slot: &mut [u8]| {
                        write_error(slot, ErrorCode::OptionRefused, "size known").unwrap()
                    };
                    tx.send(self.socket, &target, write).unwrap();
                    self.outcome = Some(Outcome::Complete);
                } else if self.plan.upload.is_some() {
                    self.start_upload(tx.now());
                }
            }
            Packet::Ack { block } => {
                self.peer = datagram.source;
                match &mut self.sender {
                    None => self.start_upload(tx.now()),
                    Some(sender) => {
                        if sender.on_ack(block, tx.now()) == Acked::Finished {
                            self.outcome = Some(Outcome::Complete);
                        }
                    }
                }
            }
            Packet::Data { block, data } => {
                self.peer = datagram.source;
                self.ports.insert(datagram.source.port());
                let arrived = self.receiver.on_data(block, data.len(), tx.now());
                assert_ne!(arrived, Arrived::TooLong);
                if arrived != Arrived::Ignored {
                    match self.plan.mode {
                        Mode::Octet => self.bytes.extend_from_slice(data),
                        Mode::Netascii => {
                            self.decoder.decode(data, |byte| self.bytes.push(byte));
                        }
                    }
                }
            }
            other => panic!("the client got {other:?}"),
        }
    }

    fn start_upload(&mut self, now: Moment) {
        self.granted.tsize = None;
        self.sender = Some(Sender::uploading(&self.granted, &policy(), now));
    }

    fn expire(&mut self, now: Moment) {
        let result = match (&mut self.sender, &mut self.listener) {
            (Some(sender), _) => sender.on_deadline(now),
            (None, Some(listener)) => listener.on_deadline(now),
            (None, None) if self.receiver.deadline().is_none() => Ok(()),
            (None, None) => self.receiver.on_deadline(now),
        };
        if result.is_err() {
            self.outcome = Some(Outcome::GaveUp);
        }
        if self.sender.is_none() && self.receiver.is_over() {
            self.outcome = Some(Outcome::Complete);
        }
    }
}

impl Handler<Outbox> for Clients {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut Outbox) {
        let Some(IpAddr::V4(to)) = datagram.destination else { panic!("{datagram:?}") };
        if to.is_multicast() {
            for index in 0..self.list.len() {
                self.list[index].hear(to, &datagram, tx.now());
                self.act(index, tx);
            }
            return;
        }
        let index = usize::from(to.octets()[3] - 2) * PORTS + datagram.socket.index();
        self.list[index].packet(&datagram, tx);
        self.act(index, tx);
    }

    fn woken(&mut self, _: &mut Outbox) {}

    fn sent(&mut self, _: u64, _: io::Result<()>, _: &mut Outbox) {}

    fn batch_end(&mut self, _: bool, tx: &mut Outbox) -> Option<Moment> {
        while let Some(&(at, index)) = self.timers.first()
            && at <= tx.now()
        {
            self.timers.pop_first();
            self.list[index].timer = None;
            self.list[index].expire(tx.now());
            self.act(index, tx);
        }
        self.timers.first().map(|(at, _)| *at)
    }
}

/// One shard of the server.
pub(super) struct Shard {
    pub(super) tftp: TftpShard,
    pub(super) events: Vec<BootEvent>,
}

impl Handler<Outbox> for Shard {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut Outbox) {
        assert!(self.tftp.owns(datagram.socket));
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

pub(super) fn policy() -> RetryPolicy {
    RetryPolicy { tries: 40, total: std::time::Duration::from_secs(3600), ..RetryPolicy::default() }
}

pub(super) fn copy(slot: &mut [u8], packet: &[u8]) -> usize {
    slot[..packet.len()].copy_from_slice(packet);
    packet.len()
}

/// A server with its files, and clients.
pub(super) struct Fleet {
    pub(super) dir: tempfile::TempDir,
    pub(super) network: SimNetwork,
    pub(super) server: Arc<TftpServer>,
    pub(super) shards: Vec<(Sim, Shard)>,
    pub(super) clients: Clients,
    backend: Sim,
    sockets: Vec<SocketId>,
    metrics: Arc<Metrics>,
}

impl Fleet {
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
        // No threads: what is asked of the disk is done at once, so that a run can be repeated.
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
            // Without steering a simulated network gives a datagram to the first of equal sockets, so the shards
            // listen on ports of their own here; which one gets a request is the kernel's affair.
            let port = 69 + index as u16 * 1000;
            let listen = sim.add_socket(SimSocket::udp(here, (SERVER, port))).unwrap();
            let mut data = || sim.add_socket(SimSocket::udp(here, (SERVER, 0))).unwrap();
            let data = (0..16).map(|_| data()).collect();
            let ports = TftpPorts { listen, data, bound: Vec::new() };
            let tftp = TftpShard::new(
                Arc::clone(&server),
                vec![ports],
                sim.waker(),
                Arc::clone(&metrics),
                index,
            );
            (sim, Shard { tftp, events: Vec::new() })
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
        Self { dir, network, server, shards: made, clients, backend, sockets, metrics }
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
        let client = Client {
            socket: self.sockets[index % PORTS],
            address: address(index),
            receiver: Receiver::asking(&plan.asked, &policy(), start),
            plan: Plan { start, ..plan },
            listener: None,
            sender: None,
            decoder: Decoder::default(),
            port: 69,
            peer: (SERVER, 69).into(),
            bytes: Vec::new(),
            granted: Negotiated::default(),
            outcome: None,
            ports: BTreeSet::new(),
            timer: Some(start),
            counted: false,
        };
        if start != Moment::NEVER {
            self.clients.timers.insert((start, index));
        }
        self.clients.list.push(client);
        index
    }

    /// The client's requests go to another shard.
    pub(super) fn ask_shard(&mut self, index: usize, shard: u16) {
        self.clients.list[index].port = 69 + shard * 1000;
    }

    /// The same client, from the same port, begins anew.
    pub(super) fn again(&mut self, index: usize, plan: Plan) {
        let now = self.network.now();
        let client = &mut self.clients.list[index];
        client.receiver = Receiver::asking(&plan.asked, &policy(), now);
        client.plan = Plan { start: now, ..plan };
        client.sender = None;
        client.listener = None;
        client.peer = (SERVER, 69).into();
        client.bytes.clear();
        client.outcome = None;
        client.timer = Some(now);
        self.clients.ended -= usize::from(std::mem::take(&mut client.counted));
        self.clients.timers.insert((now, index));
    }

    /// One leap of the clock; false when nothing will happen any more.
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

    /// Until every client has an outcome.
    pub(super) fn run(&mut self) {
        for _ in 0..3_000_000 {
            if !self.step() || self.clients.ended == self.clients.list.len() {
                return;
            }
        }
        panic!("{} of {} clients came to an end", self.clients.ended, self.clients.list.len());
    }

    /// Until the server has no transfer either.
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

/// The same options, and a place in a stream.
pub(super) fn asks_for_a_place(asked: Negotiated) -> Negotiated {
    Negotiated { multicast: Some(Multicast::default()), ..asked }
}
