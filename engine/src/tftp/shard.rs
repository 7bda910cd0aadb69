//! The TFTP of one shard: requests, their transfers, timers. Files come from the loader's threads.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bootstorm_net::{Datagram, SocketId, Transmit, Waker};
use bootstorm_protocols::tftp::{Acked, ErrorCode, Packet, Receiver};
use bootstorm_protocols::time::Moment;

use crate::event::{BootEvent, Kind};
use crate::hashing::{self, KeyedHasher};
use crate::metrics::{Metrics, TftpMetrics};

use super::images::Image;
use super::loader::{Completion, LoaderQueue};
use super::reason::Reason;
use super::sending::{Progress, SendContext};
use super::service::TftpServer;
use super::sockets::{Role, TftpPorts};
use super::streams::Streams;
use super::transfers::{Transfers, Upload, Work};
use super::turns::{RETRY, Turns};
use super::upload::Incoming;
use super::windows::Windows;

/// Buckets of the tables that keep something of clients between their transfers. Clients whose
/// addresses hash alike share one.
pub(super) const BUCKETS: usize = 4096;
/// A request that is repeated while its transfer makes progress was delayed on its way. After a
/// silence of the client it means that the client begins again.
pub(super) const SILENCE: Duration = Duration::from_secs(2);
/// The longest time that timers wait for the sockets to become empty.
const MAX_TIMER_DELAY: Duration = Duration::from_millis(500);
/// How soon a timer looks again at a transfer whose delay this host itself causes.
const OWN_DELAY: Duration = Duration::from_millis(50);

/// The transfers of one shard.
pub struct TftpShard {
    pub(super) server: Arc<TftpServer>,
    pub(super) loader_queue: Arc<LoaderQueue>,
    pub(super) metrics: Arc<Metrics>,
    shard: usize,
    pub(super) ports: Vec<TftpPorts>,
    pub(super) roles: Vec<Role>,
    /// Per bucket of clients, a count that selects the data socket of the next transfer.
    pub(super) rotation: Box<[u8]>,
    pub(super) hasher: KeyedHasher,
    pub(super) transfers: Transfers,
    /// Client and socket of transfers that have just ended, so that a repeated last ACK is not
    /// answered with ERROR 5. Clients whose addresses hash alike replace each other.
    pub(super) served: Box<[Option<(SocketAddr, SocketId)>]>,
    /// Limits of the windows of clients whose last transfers lost much.
    pub(super) windows: Windows,
    pub(super) streams: Streams,
    timers: BinaryHeap<Reverse<(Moment, u64)>>,
    /// Transfers that wait for a chunk, and a second list used while the first is worked off.
    starved: Vec<u64>,
    awake: Vec<u64>,
    pub(super) turns: Turns,
    /// When the sockets were last empty, and since when they have not been.
    empty_at: Moment,
    busy_since: Moment,
    draining: bool,
    pub(super) events: Vec<BootEvent>,
    /// When the log was last told that a limit is reached.
    pub(super) limit_logged: Option<Moment>,
    tick: u64,
}

impl TftpShard {
    /// The TFTP of shard number `shard`. `waker` wakes the backend whose sockets `ports` names.
    ///
    /// # Panics
    /// `metrics` has no block for this shard.
    pub fn new(
        server: Arc<TftpServer>,
        ports: Vec<TftpPorts>,
        waker: Waker,
        metrics: Arc<Metrics>,
        shard: usize,
    ) -> Self {
        assert!(metrics.shard(shard).is_some(), "shard {shard} has no counters");
        let mut tftp = Self {
            server,
            loader_queue: Arc::new(LoaderQueue::new(waker)),
            metrics,
            shard,
            ports: Vec::new(),
            roles: Vec::new(),
            rotation: vec![0; BUCKETS].into_boxed_slice(),
            hasher: hashing::keyed(),
            transfers: Transfers::default(),
            served: vec![None; BUCKETS].into_boxed_slice(),
            windows: Windows::new(BUCKETS),
            streams: Streams::default(),
            timers: BinaryHeap::new(),
            starved: Vec::new(),
            awake: Vec::new(),
            turns: Turns::default(),
            empty_at: Moment::default(),
            busy_since: Moment::NEVER,
            draining: false,
            events: Vec::new(),
            limit_logged: None,
            tick: 0,
        };
        tftp.set_ports(ports);
        tftp
    }

    /// The same with another hasher than one whose key is random.
    #[must_use]
    pub fn hashed(mut self, hasher: KeyedHasher) -> Self {
        self.hasher = hasher;
        self
    }

    /// Ignores requests from now on; the transfers under way go on.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// A datagram on one of the sockets.
    pub fn datagram<T: Transmit>(&mut self, datagram: &Datagram<'_>, tx: &mut T) {
        if datagram.broadcast {
            return self.count(Reason::Broadcast);
        }
        let role = self.role(datagram.socket);
        let packet = match Packet::parse(datagram.payload) {
            Ok(packet) if !datagram.truncated => packet,
            parsed => return self.malformed(datagram, role, parsed.err(), tx),
        };
        match (packet, role.requests(), role.has_transfers()) {
            (Packet::Read(_) | Packet::Write(_), Some(_), _) if self.draining => {}
            (Packet::Read(request), Some(ports), _) => {
                self.request(datagram, ports, &request, false, tx);
            }
            (Packet::Write(request), Some(ports), _) => {
                self.request(datagram, ports, &request, true, tx);
            }
            (Packet::Ack { block }, _, true) => self.ack(datagram, block, tx),
            (Packet::Data { block, data }, _, true) => self.data(datagram, block, data, tx),
            (Packet::Error { code, .. }, _, true) => self.client_error(datagram, code, tx),
            _ => self.count(Reason::Malformed),
        }
    }

    /// The backend was woken: files may have been opened, chunks loaded, uploads written.
    pub fn woken<T: Transmit>(&mut self, tx: &mut T) {
        self.tick = self.server.images.tick();
        while let Some(completion) = self.loader_queue.take() {
            match completion {
                Completion::Opened { transfer, result } => self.opened(transfer, result, tx),
                Completion::Created { transfer, result } => self.created(transfer, result, tx),
                Completion::Written { transfer, last, result } => {
                    self.written(transfer, last, result, tx);
                }
            }
        }
        std::mem::swap(&mut self.starved, &mut self.awake);
        while let Some(number) = self.awake.pop() {
            if let Some(transfer) = self.transfers.get(number) {
                transfer.starved = false;
                self.enqueue(number);
            }
        }
    }

    /// A shared send has completed. Its token is the transfer's number.
    pub fn sent(&mut self, token: u64, result: &io::Result<()>) {
        let Some(transfer) = self.transfers.get(token) else { return };
        transfer.send_completed(result);
        if transfer.in_flight == 0 && transfer.is_due() {
            self.enqueue(token);
        }
    }

    /// The end of a batch: handles the timers that are due, and sends. `dry` says that the sockets
    /// are empty. Returns when to be called again.
    pub fn batch_end<T: Transmit>(&mut self, dry: bool, tx: &mut T) -> Option<Moment> {
        let now = tx.now();
        self.tick = self.server.images.tick();
        if dry {
            (self.empty_at, self.busy_since) = (now, Moment::NEVER);
        } else {
            self.busy_since = self.busy_since.min(now);
        }
        // After a stall of this process, or a burst, answers still wait in the sockets, and timers
        // would repeat blocks that have been acknowledged. So a timer fires only after the sockets
        // have been empty, or have been busy for very long.
        let busy_for_long = now.since(self.busy_since) > MAX_TIMER_DELAY;
        let due = if busy_for_long { now - MAX_TIMER_DELAY } else { self.empty_at };
        while let Some(&Reverse((at, number))) = self.timers.peek()
            && at <= due
        {
            self.timers.pop();
            match self.transfers.get(number) {
                // A later deadline gets an entry of its own only when this one has been removed.
                Some(transfer) if transfer.timer == at => transfer.timer = Moment::NEVER,
                _ => continue,
            }
            self.expire(number, now, tx);
        }
        // When a master has every block, so have most others, and their ACKs arrive now.
        if dry || busy_for_long {
            self.appoint_masters(now);
        }
        let turns = self.take_turns(tx);
        self.metrics().active.set(self.transfers.running() as u64);
        self.metrics().streams.set(self.streams.len() as u64);
        // Timers that are due but wait for empty sockets are handled in the next batch, which
        // follows at once.
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let appoint = self.streams.lacks_master().then_some(now);
        [timer, turns, appoint].into_iter().flatten().min()
    }

    /// What happened since the last call, for the log.
    pub fn take_events(&mut self) -> impl Iterator<Item = BootEvent> + '_ {
        self.events.drain(..)
    }

    /// Transfers under way on this shard; 0 when a drain is over.
    pub fn active(&self) -> usize {
        self.transfers.running()
    }

    pub(super) fn metrics(&self) -> &TftpMetrics {
        // Checked in `new`; blocks are never removed.
        &self.metrics.shard(self.shard).expect("the shard has counters").tftp
    }

    pub(super) fn count(&self, reason: Reason) {
        self.metrics().reasons.increment(reason.number());
    }

    fn ack<T: Transmit>(&mut self, datagram: &Datagram<'_>, block: u16, tx: &mut T) {
        let Some(number) = self.known(datagram, tx) else { return };
        let Some(transfer) = self.transfers.get(number) else { return };
        let sender = match &mut transfer.work {
            Work::Sending { sender, .. } => sender,
            Work::Listening { .. } => return self.listener_ack(number, block, tx.now()),
            Work::Opening | Work::Receiving(_) => return,
        };
        match sender.on_ack(block, tx.now()) {
            Acked::Ignored => return,
            Acked::Finished => return self.finish(number, tx.now()),
            Acked::Progress | Acked::Repeat => {}
        }
        transfer.heard = tx.now();
        self.enqueue(number);
    }

    fn data<T: Transmit>(&mut self, datagram: &Datagram<'_>, block: u16, data: &[u8], tx: &mut T) {
        let Some(number) = self.known(datagram, tx) else { return };
        let Some(transfer) = self.transfers.get(number) else { return };
        transfer.heard = tx.now();
        let Work::Receiving(upload) = &mut transfer.work else { return };
        match upload.data(block, data, tx.now()) {
            Ok(()) => self.enqueue(number),
            Err(reason) => self.fail(number, reason, tx),
        }
    }

    fn client_error<T: Transmit>(&mut self, datagram: &Datagram<'_>, code: ErrorCode, tx: &mut T) {
        // No ERROR is answered: RFC 1350 section 2.
        let Some(number) = self.transfer_of(datagram) else { return };
        let Some(transfer) = self.transfers.get(number) else { return };
        let content = matches!(code, ErrorCode::NotDefined | ErrorCode::OptionRefused);
        let reason = if content && !transfer.begun() { Reason::Probe } else { Reason::ClientError };
        self.fail(number, reason, tx);
    }

    fn opened<T: Transmit>(&mut self, number: u64, result: Result<Arc<Image>, Reason>, tx: &mut T) {
        let Some(transfer) = self.transfers.get(number) else { return };
        let image = match result {
            Ok(image) => image,
            Err(reason) => return self.fail(number, reason, tx),
        };
        if transfer.negotiated.tsize.is_some() {
            transfer.negotiated.tsize = image.size();
        }
        let service = self.server.service.load_full();
        if transfer.negotiated.multicast.is_some() {
            self.join_stream(number, &image, &service);
        }
        let Some(transfer) = self.transfers.get(number) else { return };
        if transfer.negotiated.multicast.is_some_and(|multicast| !multicast.master) {
            return self.listen(number, image, tx);
        }
        let sender = service.sender(transfer, tx.now());
        transfer.work = Work::Sending { image, sender };
        self.enqueue(number);
    }

    fn created<T: Transmit>(
        &mut self,
        number: u64,
        result: Result<Arc<Incoming>, Reason>,
        tx: &mut T,
    ) {
        let service = self.server.service.load_full();
        let Some(transfer) = self.transfers.get(number) else {
            if let Ok(file) = result {
                self.discard(file);
            }
            return;
        };
        match result {
            Ok(file) => {
                let policy = service.policy(transfer);
                let receiver = Receiver::serving(&transfer.negotiated, &policy, tx.now());
                let upload = Upload::new(receiver, file, transfer.netascii);
                transfer.work = Work::Receiving(Box::new(upload));
                self.enqueue(number);
            }
            Err(reason) => self.fail(number, reason, tx),
        }
    }

    fn written<T: Transmit>(
        &mut self,
        number: u64,
        last: bool,
        result: Result<(), Reason>,
        tx: &mut T,
    ) {
        let Some(transfer) = self.transfers.get(number) else { return };
        let Work::Receiving(upload) = &mut transfer.work else { return };
        upload.writing = false;
        if last && result.is_ok() {
            upload.stored = true;
            let file = upload.file.take();
            self.settle(number, tx.now());
            file.into_iter().for_each(|file| self.discard(file));
        }
        match result {
            Ok(()) => self.enqueue(number),
            Err(reason) => self.fail(number, reason, tx),
        }
    }

    /// Queues what a transfer has to send, as far as its turn allows, and sets its timer.
    pub(super) fn advance<T: Transmit>(&mut self, number: u64, tx: &mut T) -> Progress {
        let Some(transfer) = self.transfers.get(number) else { return Progress::Done };
        // As in `metrics`, which would borrow all of self.
        let metrics = &self.metrics.shard(self.shard).expect("the shard has counters").tftp;
        let (server, loader_queue) = (&*self.server, &self.loader_queue);
        let mut out = SendContext { server, loader_queue, metrics, tick: self.tick, tx };
        let progress = match &mut transfer.work {
            Work::Opening | Work::Listening { .. } => Progress::Done,
            Work::Sending { .. } => transfer.send(number, &mut out),
            Work::Receiving(upload) => {
                match (
                    upload.flush(number, &server.loader, loader_queue),
                    transfer.answer(&mut out),
                ) {
                    (false, Progress::Done | Progress::Sent(_)) => {
                        Progress::Later(out.tx.now() + RETRY)
                    }
                    (_, progress) => progress,
                }
            }
        };
        match progress {
            Progress::Starved if !std::mem::replace(&mut transfer.starved, true) => {
                self.starved.push(number);
            }
            Progress::Failed(reason) => {
                self.fail(number, reason, tx);
                return progress;
            }
            _ => {}
        }
        let deadline = match &transfer.work {
            Work::Opening | Work::Listening { .. } => None,
            Work::Sending { sender, .. } => sender.deadline(),
            Work::Receiving(upload) => upload.receiver.deadline(),
        };
        let begins = match &transfer.work {
            Work::Opening | Work::Listening { .. } => false,
            Work::Sending { sender, .. } => sender.sent_until() > 0,
            Work::Receiving(_) => true,
        };
        if begins && !std::mem::replace(&mut transfer.announced, true) {
            self.event(number, Kind::TransferStarted, "", tx.now());
        }
        if let Some(deadline) = deadline {
            self.arm(number, deadline);
        }
        progress
    }

    /// Makes sure that the transfer has a timer at `deadline` or before. Each ACK moves the
    /// deadline, but not the entry: `expire` re-arms an entry that it finds too early.
    fn arm(&mut self, number: u64, deadline: Moment) {
        let Some(transfer) = self.transfers.get(number) else { return };
        if deadline < transfer.timer {
            transfer.timer = deadline;
            self.timers.push(Reverse((deadline, number)));
        }
    }

    fn expire<T: Transmit>(&mut self, number: u64, now: Moment, tx: &mut T) {
        let Some(transfer) = self.transfers.get(number) else { return };
        let (deadline, held_up) = match &transfer.work {
            Work::Opening | Work::Listening { .. } => return,
            Work::Sending { sender, .. } => (sender.deadline(), transfer.in_flight > 0),
            Work::Receiving(upload) => (upload.receiver.deadline(), upload.holds_back()),
        };
        let Some(deadline) = deadline else { return };
        if held_up {
            return self.arm(number, deadline.max(now + OWN_DELAY));
        }
        if deadline > now {
            return self.arm(number, deadline);
        }
        let gave_up = match &mut transfer.work {
            Work::Opening | Work::Listening { .. } => return,
            Work::Sending { sender, .. } => sender.on_deadline(now).is_err(),
            Work::Receiving(upload) => {
                let gave_up = upload.receiver.on_deadline(now).is_err();
                if upload.receiver.is_over() {
                    return self.finish(number, tx.now());
                }
                gave_up
            }
        };
        match gave_up {
            true => self.fail(number, Reason::TimedOut, tx),
            false => self.enqueue(number),
        }
    }
}

impl Drop for TftpShard {
    fn drop(&mut self) {
        for number in self.transfers.numbers() {
            self.remove(number);
        }
    }
}
