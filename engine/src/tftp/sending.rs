//! Blocks on their way to a client.

use std::io;
use std::sync::Arc;

use bootstorm_net::{Refused, Transmit};
use bootstorm_protocols::tftp::SenderSend;
use rustix::io::Errno;

use crate::metrics::TftpMetrics;

use super::images::Window;
use super::loader::Door;
use super::reason::Reason;
use super::service::TftpServer;
use super::transfers::{Transfer, Work};

/// Segments of one send, as the kernel limits them (UDP_MAX_SEGMENTS).
const MAX_SEGMENTS: u64 = 64;
/// Bytes of one send: the longest UDP payload.
const MAX_SEND: u64 = 65_507;

/// How far a transfer got.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// All that is due is queued.
    Done,
    /// It waits for a chunk, and will be woken.
    Starved,
    /// There was no room in the engine or the pool: try again soon.
    Refused,
    /// It cannot go on.
    Failed(Reason),
}

/// What sending needs from its shard.
pub(super) struct Outlet<'s, T> {
    pub(super) server: &'s TftpServer,
    pub(super) door: &'s Arc<Door>,
    pub(super) metrics: &'s TftpMetrics,
    /// The time of this batch for the images' "used last".
    pub(super) tick: u64,
    pub(super) tx: &'s mut T,
}

impl Transfer {
    /// Queues what is due of a transfer to a client.
    pub(super) fn send<T: Transmit>(&mut self, number: u64, out: &mut Outlet<'_, T>) -> Progress {
        let target = self.target();
        let Work::Sending { image, sender } = &mut self.work else { return Progress::Done };
        if self.in_flight > 0 {
            return Progress::Done;
        }
        loop {
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
                    match out.tx.send(self.socket, &target, write) {
                        Ok(()) => sender.sent_option_ack(out.tx.now()),
                        Err(refused) => return refusal(refused),
                    }
                    continue;
                }
            };
            let frame_len = image.shape().frame_len();
            let most = match self.segmented {
                true => (MAX_SEND / frame_len).clamp(1, MAX_SEGMENTS),
                false => 1,
            };
            let (bytes, blocks) = match image.window(first, count.min(most), out.tick) {
                Window::Found { bytes, blocks } => (bytes, blocks),
                Window::Missing(chunk) => {
                    if let Some(failure) = image.failure() {
                        return Progress::Failed(failure.into());
                    }
                    return match out.server.loader.want(image, chunk, Some(out.door)) {
                        true => Progress::Starved,
                        false => Progress::Refused,
                    };
                }
            };
            let data = bytes.len() as u64 - blocks * 4;
            // At most a block and its header: 65,468.
            let segment = if blocks > 1 { frame_len as u16 } else { 0 };
            match out.tx.send_shared(self.socket, &target, bytes, segment, number) {
                Ok(()) => {}
                Err(Refused::NoSegmentation) => {
                    self.segmented = false;
                    continue;
                }
                Err(refused) => return refusal(refused),
            }
            self.in_flight += 1;
            let again = (sender.sent_until() + 1).saturating_sub(first).min(blocks);
            sender.sent(blocks, out.tx.now());
            // Those sent before come first, and all but the last of the file are full.
            self.sent += data.saturating_sub(again * u64::from(image.shape().blksize));
            self.resent = self.resent.saturating_add(u32::try_from(again).unwrap_or(u32::MAX));
            out.metrics.bytes.add(data);
            out.metrics.retransmits.add(again);
            if let Some(next) = image.lacks_next(first) {
                // Ahead of need; when the pool is busy, the need will ask again.
                out.server.loader.want(image, next, None);
            }
        }
    }

    /// A shared send is over.
    pub(super) fn accepted(&mut self, result: &io::Result<()>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Work::Sending { sender, .. } = &mut self.work else { return };
        let errno = result.as_ref().err().and_then(Errno::from_io_error);
        // No checksum offload on the way, or a path whose MTU is smaller than the interface's: block by block the
        // kernel manages. Other errors are as good as a loss, and cured as one.
        if let Some(Errno::IO | Errno::MSGSIZE | Errno::INVAL) = errno
            && self.segmented
        {
            self.segmented = false;
            sender.resend();
        }
    }
}

fn refusal(refused: Refused) -> Progress {
    match refused {
        Refused::NoSocket => Progress::Failed(Reason::SocketClosed),
        Refused::Full | Refused::NoSegmentation => Progress::Refused,
    }
}
