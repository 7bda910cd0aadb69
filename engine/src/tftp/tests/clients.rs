//! Clients on a simulated network.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bootstorm_net::sim::Outbox;
use bootstorm_net::{Datagram, Handler, SocketId, Target, Transmit};
use bootstorm_protocols::tftp::netascii::Decoder;
use bootstorm_protocols::tftp::{
    Acked, Arrived, ErrorCode, Listener, Mode, Multicast, Negotiated, Packet, Receiver,
    ReceiverSend, RetryPolicy, Sender, SenderSend, ack, data_header, write_error, write_request,
};
use bootstorm_protocols::time::Moment;

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Clients of one address, each with a port of its own.
pub(super) const PORTS: usize = 32;
pub(super) const ADDRESSES: usize = 32;

/// The address of a client; the first 32 clients have 10.0.0.2.
pub(super) fn address(index: usize) -> IpAddr {
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

/// What a client does.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) asked: Negotiated,
    pub(super) mode: Mode,
    /// What it uploads; `None` downloads.
    pub(super) upload: Option<Arc<Vec<u8>>>,
    /// Ends the transfer when the OACK has told the size.
    pub(super) probe: bool,
    /// [`Moment::NEVER`]: the test itself sends the client's packets.
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

/// How a client's transfer ended.
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
    /// Used instead of the receiver when the server has granted the multicast option.
    pub(super) listener: Option<Listener>,
    sender: Option<Sender>,
    decoder: Decoder,
    /// The port that it sends requests to: 69, or 1069 for the second shard.
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
    /// Adds a client that uses `socket`.
    pub(super) fn add(&mut self, plan: Plan, socket: SocketId) {
        let (index, start) = (self.list.len(), plan.start);
        self.list.push(Client {
            socket,
            address: address(index),
            receiver: Receiver::asking(&plan.asked, &policy(), start),
            plan,
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
        });
        if start != Moment::NEVER {
            self.timers.insert((start, index));
        }
    }

    /// A client begins another transfer, from the same port.
    pub(super) fn restart(&mut self, index: usize, plan: Plan) {
        let client = &mut self.list[index];
        let start = plan.start;
        client.receiver = Receiver::asking(&plan.asked, &policy(), start);
        client.plan = plan;
        client.sender = None;
        client.listener = None;
        client.peer = (SERVER, 69).into();
        client.bytes.clear();
        client.outcome = None;
        client.timer = Some(start);
        self.ended -= usize::from(std::mem::take(&mut client.counted));
        self.timers.insert((start, index));
    }

    /// Whether every client has an outcome.
    pub(super) fn all_ended(&self) -> bool {
        self.ended == self.list.len()
    }

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
            return self.send_as_listener(tx);
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
            // A client that has its file ignores errors.
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
                self.start_listener(tx.now());
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
                self.list[index].multicast_block(to, &datagram, tx.now());
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

pub(super) fn policy() -> RetryPolicy {
    RetryPolicy { tries: 40, total: Duration::from_secs(3600), ..RetryPolicy::default() }
}

pub(super) fn copy(slot: &mut [u8], packet: &[u8]) -> usize {
    slot[..packet.len()].copy_from_slice(packet);
    packet.len()
}

/// The same options, and the multicast option.
pub(super) fn with_multicast(asked: Negotiated) -> Negotiated {
    Negotiated { multicast: Some(Multicast::default()), ..asked }
}
