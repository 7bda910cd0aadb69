//! Two ends, a channel with seeded faults, and a clock that leaps to the next event.

use std::collections::BTreeMap;
use std::time::Duration;

use bootstorm_protocols::tftp::{
    Acked, Arrived, DATA_HEADER_LEN, Direction, Limits, Mode, Negotiated, Packet, Receiver,
    ReceiverSend, RetryPolicy, Sender, SenderSend, ack, data_header, negotiate, write_request,
};
use bootstorm_protocols::time::Moment;

/// Splitmix64: small, seeded, the same everywhere.
#[derive(Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

/// Faults in percent of all packets, delays in microseconds.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    /// Of packets that are held up for as long as ten others take.
    pub(crate) reordering: u64,
    pub(crate) delay: u64,
}

pub(crate) const CLEAN: Channel = Channel { loss: 0, duplication: 0, reordering: 0, delay: 100 };

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum End {
    Server,
    Client,
}

/// What happened in one run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) received: Vec<u8>,
    pub(crate) data_packets: u64,
    pub(crate) ack_packets: u64,
    /// Packets lost, repeated, overtaken.
    pub(crate) faults: u64,
    pub(crate) timeouts: u64,
    pub(crate) took: Duration,
    pub(crate) granted: Negotiated,
    pub(crate) sender_finished: bool,
}

/// One transfer to be run.
pub(crate) struct Pair {
    pub(crate) file: Vec<u8>,
    pub(crate) asked: Negotiated,
    pub(crate) limits: Limits,
    pub(crate) channel: Channel,
    pub(crate) policy: RetryPolicy,
    pub(crate) seed: u64,
    /// Blocks that come to hand every millisecond; `None` for all at once.
    pub(crate) disk: Option<u64>,
    pub(crate) upload: bool,
}

struct Run<'p> {
    pair: &'p Pair,
    random: Random,
    now: Moment,
    serial: u64,
    /// When the line to each end has carried what was sent so far.
    line_free: [Moment; 2],
    /// Packets on their way, by arrival.
    wire: BTreeMap<(Moment, u64), (End, Vec<u8>)>,
    server: Option<Sender>,
    client: Receiver,
    report: Report,
    started: Moment,
}

impl Pair {
    pub(crate) fn new(file: Vec<u8>, asked: Negotiated, channel: Channel, seed: u64) -> Self {
        // More tries than the losses of any channel here need.
        let policy =
            RetryPolicy { tries: 60, total: Duration::from_secs(3600), ..RetryPolicy::default() };
        let limits = Limits { max_blksize: u16::MAX, max_windowsize: u16::MAX, multicast: false };
        Self { file, asked, limits, channel, policy, seed, disk: None, upload: false }
    }

    /// Runs until both ends are done.
    pub(crate) fn run(&self) -> Report {
        if self.upload { self.run_upload() } else { self.run_download() }
    }

    fn run_download(&self) -> Report {
        let started = Moment::from_nanos(1_000_000);
        let client = Receiver::asking(&self.asked, &self.policy, started);
        self.drive(Run::new(self, None, client, started))
    }

    /// The options were agreed on already; the "server" of the run is the client that uploads.
    fn run_upload(&self) -> Report {
        let started = Moment::from_nanos(1_000_000);
        let granted = Negotiated { tsize: Some(self.file.len() as u64), ..self.asked };
        let receiver = Receiver::serving(&granted, &self.policy, started);
        let mut run = Run::new(self, None, receiver, started);
        run.report.granted = granted;
        self.drive(run)
    }

    fn drive(&self, mut run: Run<'_>) -> Report {
        let mut steps = 0u64;
        loop {
            steps += 1;
            assert!(steps < 50_000_000, "the transfer does not end");
            run.send_all();
            if run.is_done() {
                break;
            }
            let Some(next) = run.next_event() else {
                panic!("nothing is under way, nobody waits, and the transfer is not done")
            };
            run.now = run.now.max(next);
            run.deliver();
            run.expire();
        }
        run.report.took = run.now.since(run.started);
        run.report
    }

    fn last_block(&self, block_len: u16) -> u64 {
        self.file.len() as u64 / u64::from(block_len) + 1
    }
}

impl<'p> Run<'p> {
    fn new(pair: &'p Pair, server: Option<Sender>, client: Receiver, started: Moment) -> Self {
        Self {
            pair,
            random: Random(pair.seed),
            now: started,
            serial: 0,
            line_free: [started; 2],
            wire: BTreeMap::new(),
            server,
            client,
            report: Report::default(),
            started,
        }
    }

    fn is_done(&self) -> bool {
        let sender_done = self.report.sender_finished
            || (self.client.is_over() && self.server.as_ref().is_none_or(Sender::sent_last));
        self.client.is_complete() && sender_done
    }

    fn next_event(&self) -> Option<Moment> {
        let arrival = self.wire.keys().next().map(|(at, _)| *at);
        let server = if self.report.sender_finished { None } else { self.server.as_ref() };
        let disk = self.disk_pending().then(|| self.now + Duration::from_millis(1));
        [arrival, server.and_then(Sender::deadline), self.client.deadline(), disk]
            .into_iter()
            .flatten()
            .min()
    }

    fn disk_pending(&self) -> bool {
        let Some(server) = &self.server else { return false };
        let block_len = self.report.granted.block_len();
        self.pair.disk.is_some()
            && server.pending().is_none()
            && self.ready() < self.pair.last_block(block_len)
    }

    fn ready(&self) -> u64 {
        let last = self.pair.last_block(self.report.granted.block_len());
        let millis = self.now.since(self.started).as_millis() as u64;
        self.pair.disk.map_or(last, |rate| last.min(rate * millis))
    }

    fn put(&mut self, to: End, packet: Vec<u8>) {
        let channel = self.pair.channel;
        if self.random.percent(channel.loss) {
            self.report.faults += 1;
            return;
        }
        let copies = if self.random.percent(channel.duplication) { 2 } else { 1 };
        self.report.faults += copies - 1;
        for _ in 0..copies {
            let mut delay = channel.delay;
            if self.random.percent(channel.reordering) {
                self.report.faults += 1;
                delay += self.random.next() % (channel.delay * 4 + 40);
            }
            self.serial += 1;
            // An end sends one packet in 4 microseconds, in their order.
            let line = &mut self.line_free[to as usize];
            *line = self.now.max(*line) + Duration::from_micros(4);
            let at = *line + Duration::from_micros(delay);
            self.wire.insert((at, self.serial), (to, packet.clone()));
        }
    }

    fn send_all(&mut self) {
        while let Some(pending) = self.client.pending() {
            let packet = match pending {
                ReceiverSend::Request => self.request(),
                ReceiverSend::OptionAck => {
                    let mut buf = [0; 128];
                    let len = self.client.negotiated().write_option_ack(&mut buf).expect("fits");
                    buf[..len].to_vec()
                }
                ReceiverSend::Ack(block) => {
                    self.report.ack_packets += 1;
                    ack(block, self.client.negotiated().rollover()).to_vec()
                }
            };
            self.client.sent(self.now);
            self.put(End::Server, packet);
        }
        if self.report.sender_finished {
            return;
        }
        let ready = self.ready();
        let granted = self.report.granted;
        let Some(mut server) = self.server.take() else { return };
        let last = self.pair.last_block(granted.block_len());
        server.content(ready, (ready == last).then_some(last));
        while let Some(pending) = server.pending() {
            match pending {
                SenderSend::OptionAck => {
                    let mut buf = [0; 128];
                    let len = granted.write_option_ack(&mut buf).expect("fits");
                    server.sent_option_ack(self.now);
                    self.put(End::Client, buf[..len].to_vec());
                }
                SenderSend::Blocks { first, count } => {
                    // In parts, as a real network takes them.
                    let count = count.min(1 + self.random.next() % 44);
                    server.sent(count, self.now);
                    for block in first..first + count {
                        self.report.data_packets += 1;
                        self.put(End::Client, self.block(block));
                    }
                }
            }
        }
        self.server = Some(server);
    }

    fn request(&self) -> Vec<u8> {
        let mut buf = [0; 256];
        let mut writer = write_request(&mut buf, false, b"file", Mode::Octet).expect("fits");
        self.pair.asked.write_options(&mut writer).expect("fits");
        let len = writer.finish();
        buf[..len].to_vec()
    }

    fn block(&self, block: u64) -> Vec<u8> {
        let granted = &self.report.granted;
        let block_len = usize::from(granted.block_len());
        let start = (block as usize - 1) * block_len;
        let end = self.pair.file.len().min(start + block_len);
        let mut packet = data_header(block, granted.rollover()).to_vec();
        packet.extend_from_slice(&self.pair.file[start..end]);
        packet
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.wire.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (to, bytes) = entry.remove();
            let packet = Packet::parse(&bytes).expect("what the ends write can be read");
            match to {
                End::Server => self.at_server(packet),
                End::Client => self.at_client(packet),
            }
            self.send_all();
        }
    }

    fn at_server(&mut self, packet: Packet<'_>) {
        let pair = self.pair;
        match packet {
            Packet::Read(request) if self.server.is_none() => {
                let direction = Direction::Read { size: Some(pair.file.len() as u64) };
                let granted = negotiate(&request.options, &pair.limits, direction).expect("fits");
                self.report.granted = granted;
                self.server = Some(Sender::new(&granted, &pair.policy, self.now));
            }
            // The uploading client starts when the server has accepted.
            Packet::OptionAck(_) | Packet::Ack { block: 0 }
                if pair.upload && self.server.is_none() =>
            {
                let granted = self.report.granted;
                self.server = Some(Sender::uploading(&granted, &pair.policy, self.now));
            }
            Packet::Ack { block } => {
                if let Some(server) = &mut self.server
                    && server.on_ack(block, self.now) == Acked::Finished
                {
                    self.report.sender_finished = true;
                }
            }
            _ => {}
        }
    }

    fn at_client(&mut self, packet: Packet<'_>) {
        match packet {
            Packet::OptionAck(options) => {
                self.client.on_option_ack(&options, self.now).expect("the answer fits");
            }
            Packet::Data { block, data } => {
                assert!(data.len() + DATA_HEADER_LEN <= u16::MAX.into());
                match self.client.on_data(block, data.len(), self.now) {
                    Arrived::Take | Arrived::Complete => {
                        self.report.received.extend_from_slice(data);
                    }
                    Arrived::Ignored => {}
                    Arrived::TooLong => panic!("block of {} bytes", data.len()),
                }
            }
            other => panic!("the client got {other:?}"),
        }
    }

    fn expire(&mut self) {
        if self.client.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.report.timeouts += 1;
            self.client.on_deadline(self.now).expect("tries are left");
        }
        if !self.report.sender_finished
            && let Some(server) = &mut self.server
            && server.deadline().is_some_and(|deadline| deadline <= self.now)
        {
            self.report.timeouts += 1;
            server.on_deadline(self.now).expect("tries are left");
        }
    }
}
