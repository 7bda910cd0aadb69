//! Blocks on their way to a client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bootstorm_net::{Refused, Transmit};
use bootstorm_protocols::tftp::SenderSend;
use bootstorm_protocols::time::Moment;
use rustix::io::Errno;

use crate::metrics::TftpMetrics;

use super::images::Window;
use super::loader::LoaderQueue;
use super::reason::Reason;
use super::service::TftpServer;
use super::transfers::{Transfer, Work};
use super::turns::RETRY;

/// Segments of one send, as the kernel limits them (UDP_MAX_SEGMENTS).
const MAX_SEGMENTS: u64 = 64;
/// Bytes of one send: the longest UDP payload.
const MAX_SEND: u64 = 65_507;

/// Chunks that are requested ahead of a transfer. With one only, it could come late while the disk
/// is busy with other chunks.
const AHEAD: usize = 2;

/// Bytes that a transfer sends in one turn, if each block needs a send of its own.
const MAX_TURN: u64 = 65_536;

/// How long after the client's last packet a transfer waits for a socket, and how often it looks.
const SOCKET_GRACE: Duration = Duration::from_secs(20);
const SOCKET_RETRY: Duration = Duration::from_millis(200);

/// What came of a transfer's turn to send.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Nothing is due, or nothing before the sends in flight have completed.
    Done,
    /// So many bytes are queued. When they have been sent, more may be due.
    Sent(u64),
    /// It waits for a chunk; the loader will report it.
    Starved,
    /// Try again at this moment: its pace allows nothing before, or a queue was full.
    Later(Moment),
    /// Its interface has reached its rate limit.
    Capped,
    /// The packet engine had no room: try again soon.
    Refused,
    /// It cannot go on.
    Failed(Reason),
}

/// What sending needs from its shard.
pub(super) struct SendContext<'s, T> {
    pub(super) server: &'s TftpServer,
    pub(super) loader_queue: &'s Arc<LoaderQueue>,
    pub(super) metrics: &'s TftpMetrics,
    /// The time of this batch, noted in images as their last use.
    pub(super) tick: u64,
    pub(super) tx: &'s mut T,
}

impl Transfer {
    /// Queues what is due of a transfer to a client, up to one send of the largest size.
    pub(super) fn send<T: Transmit>(
        &mut self,
        number: u64,
        out: &mut SendContext<'_, T>,
    ) -> Progress {
        if self.in_flight > 0 {
            return Progress::Done;
        }
        let mut sent = 0;
        loop {
            match self.send_some(number, MAX_TURN - sent, out) {
                Progress::Sent(bytes) => sent += bytes,
                _ if sent > 0 => return Progress::Sent(sent),
                other => return other,
            }
        }
    }

    /// What follows if the socket is gone. A data socket that was closed does not come back. With
    /// `single-port` its interface may be made again; then the client's next packet comes by the
    /// new socket, and the transfer goes on.
    pub(super) fn without_socket(&self, now: Moment) -> Progress {
        match self.single_port && now < self.heard + SOCKET_GRACE {
            true => Progress::Later(now + SOCKET_RETRY),
            false => Progress::Failed(Reason::SocketClosed),
        }
    }

    /// Queues one send of at most `room` bytes.
    fn send_some<T: Transmit>(
        &mut self,
        number: u64,
        room: u64,
        out: &mut SendContext<'_, T>,
    ) -> Progress {
        let (target, data_target, now) = (self.target(), self.data_target(), out.tx.now());
        let without_socket = self.without_socket(now);
        let Work::Sending { image, sender } = &mut self.work else { return Progress::Done };
        if let Some(last) = image.last() {
            sender.content(last, Some(last));
        }
        let (first, count) = match sender.pending() {
            None => return Progress::Done,
            Some(SenderSend::Blocks { first, count }) => (first, count),
            Some(SenderSend::OptionAck) => {
                let negotiated = &self.negotiated;
                // 128 bytes hold every OACK, a slot has 2048.
                let write = |slot: &mut [u8]| negotiated.write_option_ack(slot).unwrap_or(0);
                return match out.tx.send(self.socket, &target, write) {
                    Ok(()) => {
                        sender.sent_option_ack(now);
                        Progress::Sent(128)
                    }
                    Err(refused) => refusal(refused, without_socket),
                };
            }
        };
        let paced = match sender.burst(now) {
            Ok(blocks) => blocks,
            Err(at) => return Progress::Later(at),
        };
        if out.server.interface_ready(self.ifindex, now).is_err() {
            return Progress::Capped;
        }
        let frame_len = image.shape().frame_len();
        let most = match self.segmented {
            true => (MAX_SEND / frame_len).clamp(1, MAX_SEGMENTS),
            false => 1,
        };
        let most = most.min(room / frame_len);
        if most == 0 {
            return Progress::Done;
        }
        let (bytes, blocks) = match image.window(first, count.min(most).min(paced), out.tick) {
            Window::Found { bytes, blocks } => (bytes, blocks),
            Window::Missing(chunk) => {
                if let Some(failure) = image.failure() {
                    return Progress::Failed(failure.into());
                }
                return match out.server.loader.want(image, chunk, Some(out.loader_queue)) {
                    true => Progress::Starved,
                    false => Progress::Later(now + RETRY),
                };
            }
        };
        let len = bytes.len() as u64;
        // At most a block and its header: 65,468.
        let segment = if blocks > 1 { frame_len as u16 } else { 0 };
        match out.tx.send_shared(self.socket, &data_target, bytes, segment, number) {
            Ok(()) => {}
            Err(Refused::NoSegmentation) => {
                self.segmented = false;
                return Progress::Later(now);
            }
            Err(refused) => return refusal(refused, without_socket),
        }
        self.in_flight += 1;
        out.server.charge_interface(self.ifindex, len, blocks, now);
        let data = len - blocks * 4;
        let again = (sender.sent_until() + 1).saturating_sub(first).min(blocks);
        sender.sent(blocks, now);
        // Repeated blocks come first, and every block but the file's last is full.
        self.sent += data.saturating_sub(again * u64::from(image.shape().blksize));
        self.resent = self.resent.saturating_add(u32::try_from(again).unwrap_or(u32::MAX));
        out.metrics.bytes.add(data);
        out.metrics.retransmits.add(again);
        for next in image.lacks_ahead(first, AHEAD) {
            // If the loader's queue is full, the transfer asks again when it needs the chunk.
            out.server.loader.want(image, next, None);
        }
        Progress::Sent(len)
    }

    /// Whether there is more to send once the sends in flight have completed.
    pub(super) fn is_due(&self) -> bool {
        match &self.work {
            Work::Sending { sender, .. } => sender.pending().is_some(),
            Work::Opening | Work::Listening { .. } | Work::Receiving(_) => false,
        }
    }

    /// A shared send has completed.
    pub(super) fn send_completed(&mut self, result: &io::Result<()>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Work::Sending { sender, .. } = &mut self.work else { return };
        let errno = result.as_ref().err().and_then(Errno::from_io_error);
        // The interface has no checksum offload, or the path's MTU is smaller than the interface's:
        // the kernel can still send block by block. Any other error is treated as a lost packet.
        if let Some(Errno::IO | Errno::MSGSIZE | Errno::INVAL) = errno
            && self.segmented
        {
            self.segmented = false;
            sender.resend();
        }
    }
}

/// What follows if the engine takes no send; `without_socket` if the socket is gone.
pub(super) fn refusal(refused: Refused, without_socket: Progress) -> Progress {
    match refused {
        Refused::NoSocket => without_socket,
        Refused::Full | Refused::NoSegmentation => Progress::Refused,
    }
}
