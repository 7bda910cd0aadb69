//! How transfers end, and how that is logged and counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bootstorm_net::Transmit;
use bootstorm_protocols::tftp::write_error;
use bootstorm_protocols::time::Moment;

use crate::event::{BootEvent, Detail, FileName, Kind, QuirkNames};
use crate::leases::Hardware;

use super::loader::Job;
use super::reason::Reason;
use super::shard::TftpShard;
use super::transfers::Work;
use super::upload::Incoming;

/// Events that may wait for [`TftpShard::take_events`]; further ones are lost.
const MAX_EVENTS: usize = 4096;

impl TftpShard {
    pub(super) fn finish(&mut self, number: u64, now: Moment) {
        self.settle(number, now);
        if let Some(transfer) = self.transfers.get(number) {
            let served = (transfer.client, transfer.socket);
            let bucket = self.bucket(&served.0);
            self.served[bucket] = Some(served);
        }
        self.remove(number);
    }

    /// Counts and logs, once, that the file has arrived.
    pub(super) fn settle(&mut self, number: u64, now: Moment) {
        let Some(client) = self.transfers.settle(number) else { return };
        self.server.admission.over(client.ip());
        self.metrics().finished.increment();
        self.event(number, Kind::TransferFinished, "", now);
    }

    /// Ends a transfer that cannot go on. The client gets an ERROR if the reason has a code. An
    /// event is logged unless it was a probe.
    pub(super) fn fail<T: Transmit>(&mut self, number: u64, reason: Reason, tx: &mut T) {
        let Some(transfer) = self.transfers.get(number) else { return };
        if transfer.settled {
            return self.remove(number);
        }
        self.count(reason);
        let Some(transfer) = self.transfers.get(number) else { return };
        if let Some(code) = reason.code() {
            let write = |slot: &mut [u8]| write_error(slot, code, reason.text()).unwrap_or(0);
            let target = transfer.target();
            // If there is no room, the client finds out by its own timeout.
            let _ = tx.send(transfer.socket, &target, write);
        }
        if reason != Reason::Probe {
            let opening = matches!(transfer.work, Work::Opening);
            let counter = if opening { &self.metrics().refused } else { &self.metrics().failed };
            counter.increment();
            self.event(number, reason.kind(), reason.text(), tx.now());
        }
        self.remove(number);
    }

    pub(super) fn remove(&mut self, number: u64) {
        let Some(transfer) = self.transfers.remove(number) else { return };
        if !transfer.settled {
            self.server.admission.over(transfer.client.ip());
        }
        self.server.admission.gone();
        self.learn_window(&transfer);
        if let Some(stream) = transfer.stream {
            self.leave_stream(stream, number);
        }
        if let Work::Receiving(upload) = transfer.work
            && let Some(file) = upload.file
        {
            self.discard(file);
        }
    }

    /// Logs an event of a transfer.
    pub(super) fn event(&mut self, number: u64, kind: Kind, reason: &'static str, now: Moment) {
        let Some(transfer) = self.transfers.get(number) else { return };
        let summary = Summary {
            file: transfer.name,
            bytes: match kind {
                Kind::TransferStarted => transfer.negotiated.tsize.unwrap_or(0),
                _ => transfer.bytes(),
            },
            took: match kind {
                Kind::TransferStarted => Duration::ZERO,
                _ => now.since(transfer.started),
            },
            blksize: transfer.negotiated.block_len(),
            windowsize: transfer.negotiated.window_len(),
            retransmits: transfer.resent,
            quirks: transfer.quirks,
            reason,
        };
        let (client, ifindex) = (transfer.client, transfer.ifindex);
        self.push(client, ifindex, kind, summary);
    }

    pub(super) fn push(&mut self, client: SocketAddr, ifindex: u32, kind: Kind, summary: Summary) {
        if self.events.len() >= MAX_EVENTS {
            return;
        }
        let (address, ipv6) = match client.ip() {
            IpAddr::V4(address) => (address, None),
            IpAddr::V6(address) => (Ipv4Addr::UNSPECIFIED, Some(address)),
        };
        let event = BootEvent::new(kind, Hardware::default(), address);
        self.events.push(BootEvent { ifindex, detail: summary.detail(ipv6), ..event });
    }

    /// Closes an upload's file in a loader thread, because that may take long.
    pub(super) fn discard(&self, file: Arc<Incoming>) {
        // If too many jobs wait, the file is closed here, which is rare.
        let _ = self.server.loader.submit(Job::Discard { file });
    }
}

/// What is logged of a transfer.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Summary {
    pub(super) file: FileName,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    pub(super) blksize: u16,
    pub(super) windowsize: u16,
    pub(super) retransmits: u32,
    pub(super) quirks: QuirkNames,
    pub(super) reason: &'static str,
}

impl Summary {
    fn detail(self, ipv6: Option<Ipv6Addr>) -> Detail {
        let Self { file, bytes, took, blksize, windowsize, retransmits, quirks, reason } = self;
        Detail::Transfer {
            ipv6,
            file,
            bytes,
            took,
            blksize,
            windowsize,
            retransmits,
            quirks,
            reason,
        }
    }
}
