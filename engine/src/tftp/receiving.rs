//! Blocks on their way from a client to the disk.

use std::sync::Arc;

use bootstorm_net::Transmit;
use bootstorm_protocols::tftp::netascii::Decoder;
use bootstorm_protocols::tftp::{Arrived, Receiver, ReceiverSend, ack};
use bootstorm_protocols::time::Moment;

use super::loader::{Job, Loader, LoaderQueue};
use super::reason::Reason;
use super::sending::{Progress, SendContext, refusal};
use super::service::{MAX_UPLOAD, MAX_UPLOAD_BLKSIZE, MAX_UPLOAD_WINDOW};
use super::transfers::{Transfer, Upload, Work};
use super::upload::Incoming;

/// Bytes that go to the disk in one piece.
const PIECE: usize = 256 << 10;
/// Bytes that may wait until they can be written; beyond that, ACKs are held back and the client
/// waits.
const BACKLOG: usize = 1 << 20;
/// Bytes that wait at most. A window that was on its way fits beyond the backlog; a client that
/// goes on without an ACK loses its blocks.
const MOST: usize = BACKLOG + MAX_UPLOAD_WINDOW as usize * MAX_UPLOAD_BLKSIZE as usize;

impl Upload {
    pub(super) fn new(receiver: Receiver, file: Arc<Incoming>, netascii: bool) -> Self {
        Self {
            receiver,
            file: Some(file),
            decoder: netascii.then(Decoder::default),
            buffer: Vec::new(),
            offset: 0,
            writing: false,
            complete: false,
            stored: false,
        }
    }

    /// A block arrived.
    pub(super) fn data(&mut self, block: u16, data: &[u8], now: Moment) -> Result<(), Reason> {
        if self.buffer.len() + data.len() > MOST {
            return Ok(());
        }
        let arrived = self.receiver.on_data(block, data.len(), now);
        match arrived {
            Arrived::Ignored => return Ok(()),
            Arrived::TooLong => return Err(Reason::TooLongBlock),
            Arrived::Take | Arrived::Complete => {}
        }
        match &mut self.decoder {
            None => self.buffer.extend_from_slice(data),
            Some(decoder) => decoder.decode(data, |byte| self.buffer.push(byte)),
        }
        if arrived == Arrived::Complete {
            self.complete = true;
            if let Some(decoder) = &mut self.decoder {
                decoder.finish(|byte| self.buffer.push(byte));
            }
        }
        if self.offset + self.buffer.len() as u64 > MAX_UPLOAD {
            return Err(Reason::UploadTooLarge);
        }
        Ok(())
    }

    /// Has the due bytes written; false when the loader's queue is full.
    pub(super) fn flush(
        &mut self,
        transfer: u64,
        loader: &Loader,
        loader_queue: &Arc<LoaderQueue>,
    ) -> bool {
        let due = self.buffer.len() >= PIECE || self.complete;
        let Some(file) = self.file.as_ref().filter(|_| due && !self.writing) else { return true };
        let bytes = std::mem::take(&mut self.buffer);
        let (offset, len) = (self.offset, bytes.len() as u64);
        let job = Job::Write {
            loader_queue: Arc::clone(loader_queue),
            transfer,
            file: Arc::clone(file),
            offset,
            bytes,
            last: self.complete,
        };
        match loader.submit(job) {
            Ok(()) => {
                self.writing = true;
                self.offset += len;
                true
            }
            Err(Job::Write { bytes, .. }) => {
                self.buffer = bytes;
                false
            }
            Err(_) => false,
        }
    }

    /// Whether the client has to wait for the disk: the last ACK is sent only when the file is
    /// stored.
    pub(super) fn holds_back(&self) -> bool {
        self.complete && !self.stored || self.buffer.len() > BACKLOG
    }
}

impl Transfer {
    /// Queues the answer that is due to a client that uploads.
    pub(super) fn answer<T: Transmit>(&mut self, out: &mut SendContext<'_, T>) -> Progress {
        let (target, without_socket) = (self.target(), self.without_socket(out.tx.now()));
        let Work::Receiving(upload) = &mut self.work else { return Progress::Done };
        if upload.holds_back() {
            return Progress::Done;
        }
        let Some(pending) = upload.receiver.pending() else { return Progress::Done };
        let negotiated = &self.negotiated;
        let write = |slot: &mut [u8]| match pending {
            ReceiverSend::Ack(block) => {
                let packet = ack(block, negotiated.rollover());
                // A slot has 2048 bytes.
                slot[..packet.len()].copy_from_slice(&packet);
                packet.len()
            }
            // A server makes no request.
            ReceiverSend::OptionAck | ReceiverSend::Request => {
                negotiated.write_option_ack(slot).unwrap_or(0)
            }
        };
        match out.tx.send(self.socket, &target, write) {
            Ok(()) => {
                upload.receiver.sent(out.tx.now());
                Progress::Sent(0)
            }
            Err(refused) => refusal(refused, without_socket),
        }
    }
}

#[cfg(test)]
mod tests {
    use bootstorm_protocols::tftp::{Negotiated, RetryPolicy};

    use super::*;
    use crate::tftp::paths::Root;

    #[test]
    fn a_client_that_waits_for_no_ack_fills_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), false).unwrap();
        let file = Arc::new(Incoming::create(&root, b"log", false).unwrap());
        let now = Moment::default();
        let receiver = Receiver::serving(&Negotiated::default(), &RetryPolicy::default(), now);
        for writing in [true, false] {
            let mut upload = Upload::new(receiver.clone(), Arc::clone(&file), false);
            // The disk is stalled, or the loader's queue is full: nothing is flushed.
            upload.writing = writing;
            let mut sent = 0_u16;
            while sent < 5_000 && upload.receiver.blocks() == u64::from(sent) {
                sent += 1;
                upload.data(sent, &[0; 512], now).unwrap();
            }
            assert!(upload.buffer.len() <= MOST && upload.holds_back(), "{}", upload.buffer.len());
            // What the client sends again later is taken, as after a loss.
            upload.buffer.clear();
            upload.data(sent, &[0; 512], now).unwrap();
            assert_eq!((upload.buffer.len(), upload.receiver.blocks()), (512, u64::from(sent)));
        }
    }
}
