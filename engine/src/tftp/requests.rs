//! Requests: which are refused at once, and how a transfer begins.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use bootstorm_net::{Datagram, SocketId, Target, Transmit};
use bootstorm_protocols::tftp::{
    Direction, ErrorCode, Mode, ParseError, Request, negotiate, write_error,
};
use bootstorm_protocols::time::Moment;

use crate::config::UploadMode;
use crate::event::FileName;
use crate::quirks::Terms;

use super::frame::Shape;
use super::loader::{FileRequest, Job};
use super::map::Requester;
use super::outcomes::Summary;
use super::reason::Reason;
use super::service::MAX_UPLOAD;
use super::shard::{BUCKETS, SILENCE, TftpShard};
use super::sockets::Role;
use super::transfers::{Transfer, Work, scope};

/// How often a shard logs that a limit is reached.
const LIMIT_LOG_INTERVAL: Duration = Duration::from_secs(10);

impl TftpShard {
    pub(super) fn malformed<T: Transmit>(
        &mut self,
        datagram: &Datagram<'_>,
        role: Role,
        error: Option<ParseError>,
        tx: &mut T,
    ) {
        self.count(Reason::Malformed);
        // Only requests are answered: two servers that answer errors would never stop.
        let answerable = match error {
            Some(ParseError::Unterminated | ParseError::NoFileName | ParseError::Mode) => error,
            _ => None,
        };
        if let (Some(_), Some(error)) = (role.requests(), answerable) {
            let text = error.to_string();
            send_error(tx, datagram.socket, datagram, ErrorCode::IllegalOperation, &text);
        }
    }

    pub(super) fn request<T: Transmit>(
        &mut self,
        datagram: &Datagram<'_>,
        ports: usize,
        request: &Request<'_>,
        writes: bool,
        tx: &mut T,
    ) {
        self.metrics().requests.increment();
        let digest = self.hasher.hash_one(datagram.payload);
        if let Some(number) = self.transfers.of_client(&datagram.source) {
            if self.repeated_request(number, digest, tx) {
                return self.count(Reason::Repeated);
            }
            self.supersede(number, tx);
        }
        let Some(socket) = self.data_socket(ports, datagram) else {
            return self.count(Reason::SocketClosed);
        };
        if let Err(reason) = self.begin(datagram, socket, request, writes, digest, tx.now()) {
            self.count(reason);
            let logged = match reason.code() {
                Some(code) => {
                    self.metrics().refused.increment();
                    send_error(tx, socket, datagram, code, reason.text());
                    true
                }
                // No answer: the client asks again, where an ERROR would end its boot.
                None => self.limit_is_news(tx.now()),
            };
            if logged {
                let file = FileName::new(request.filename);
                let summary = Summary { file, reason: reason.text(), ..Summary::default() };
                self.push(datagram.source, datagram.ifindex, reason.kind(), summary);
            }
        }
    }

    /// Whether the log is to hear at `now` that a limit is reached: clients ask again and again.
    fn limit_is_news(&mut self, now: Moment) -> bool {
        let news = self.limit_logged.is_none_or(|logged| now.since(logged) >= LIMIT_LOG_INTERVAL);
        if news {
            self.limit_logged = Some(now);
        }
        news
    }

    /// Whether a request repeats the one of a transfer that need not begin again. If the client has
    /// answered nothing yet, the first answer may have been lost, and is sent again at once.
    fn repeated_request<T: Transmit>(&mut self, number: u64, digest: u64, tx: &mut T) -> bool {
        let now = tx.now();
        let Some(known) = self.transfers.get(number).filter(|known| known.digest == digest) else {
            return false;
        };
        if matches!(known.work, Work::Listening { .. }) {
            self.tell_listener(number, tx);
            return true;
        }
        if known.request_repeated(now) {
            self.enqueue(number);
            return true;
        }
        matches!(known.work, Work::Opening) || now < known.heard + SILENCE
    }

    /// Begins a transfer; a loader thread opens its file.
    fn begin(
        &mut self,
        datagram: &Datagram<'_>,
        socket: SocketId,
        request: &Request<'_>,
        writes: bool,
        digest: u64,
        now: Moment,
    ) -> Result<(), Reason> {
        let service = self.server.service.load_full();
        let client = datagram.source;
        if writes && service.upload == UploadMode::Off {
            return Err(Reason::UploadsOff);
        }
        let mtu = self.server.mtu(datagram.ifindex);
        let limits = service.limits(mtu, client.is_ipv6(), writes);
        // The size is filled in when the file is open.
        let size = (request.mode == Mode::Octet).then_some(0);
        let direction = if writes { Direction::Write } else { Direction::Read { size } };
        let negotiated =
            negotiate(&request.options, &limits, direction).map_err(|_| Reason::BadOption)?;
        let mut terms = Terms { negotiated, min_retry: service.min_retry() };
        let single_port = self.role(socket).is_single_port();
        if request.mode != Mode::Octet || datagram.ifindex == 0 || single_port {
            terms.negotiated.multicast = None;
        }
        if writes && negotiated.tsize.is_some_and(|size| size > MAX_UPLOAD) {
            return Err(Reason::UploadTooLarge);
        }
        let quirks = self.apply_quirks(&service, client.ip(), &mut terms);
        let Terms { mut negotiated, min_retry } = terms;
        if !writes {
            self.narrow_window(&service, client.ip(), &mut negotiated);
        }
        let headers = if client.is_ipv6() { 40 + 8 + 4 } else { 20 + 8 + 4 };
        let shape = Shape {
            blksize: negotiated.block_len(),
            mode: request.mode,
            rollover: negotiated.rollover(),
        };
        self.server.admission.admit(client.ip(), service.max_transfers)?;
        let number = self.transfers.insert(Transfer {
            client,
            local: datagram.destination,
            ifindex: datagram.ifindex,
            socket,
            single_port,
            digest,
            negotiated,
            min_retry,
            quirks,
            netascii: request.mode == Mode::Netascii,
            started: now,
            heard: now,
            announced: false,
            settled: false,
            name: FileName::new(request.filename),
            work: Work::Opening,
            segmented: u32::from(shape.blksize) + headers <= mtu,
            in_flight: 0,
            timer: Moment::NEVER,
            starved: false,
            stream: None,
            queued: false,
            sent: 0,
            resent: 0,
        });
        let requester = Requester { address: client.ip(), writes };
        let request = FileRequest { service, name: request.filename.to_vec(), requester };
        let (loader_queue, transfer) = (Arc::clone(&self.loader_queue), number);
        let job = match writes {
            true => Job::Create { loader_queue, transfer, request },
            false => Job::Open { loader_queue, transfer, request, shape },
        };
        if self.server.loader.submit(job).is_err() {
            self.remove(number);
            return Err(Reason::Overloaded);
        }
        Ok(())
    }

    pub(super) fn bucket(&self, client: &impl Hash) -> usize {
        self.hasher.hash_one(client) as usize % BUCKETS
    }

    /// Ends a transfer whose client has sent another request from the same port.
    fn supersede<T: Transmit>(&mut self, number: u64, tx: &mut T) {
        let Some(transfer) = self.transfers.get(number) else { return };
        let (begun, complete) = match &transfer.work {
            Work::Sending { sender, .. } => (transfer.begun(), sender.sent_last()),
            Work::Receiving(upload) => (transfer.begun(), upload.stored),
            Work::Listening { .. } => (true, false),
            Work::Opening => (false, false),
        };
        match (begun, complete) {
            // Everything was sent; only the last ACK was lost.
            (true, true) => self.finish(number, tx.now()),
            (true, false) => self.fail(number, Reason::Superseded, tx),
            (false, _) => self.fail(number, Reason::Probe, tx),
        }
    }
}

pub(super) fn send_error<T: Transmit>(
    tx: &mut T,
    socket: SocketId,
    datagram: &Datagram<'_>,
    code: ErrorCode,
    text: &str,
) {
    let to = datagram.source;
    let target =
        Target::Udp { to, from: datagram.destination, ifindex: scope(&to, datagram.ifindex) };
    // No room: the client finds out by its own timeout.
    let _ = tx.send(socket, &target, |slot| write_error(slot, code, text).unwrap_or(0));
}
