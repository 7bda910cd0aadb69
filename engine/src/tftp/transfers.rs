//! The transfers of one shard, in a slab: found by client address and port, or by number.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bootstorm_net::{SocketId, Target};
use bootstorm_protocols::tftp::netascii::Decoder;
use bootstorm_protocols::tftp::{Negotiated, Receiver, Sender};
use bootstorm_protocols::time::Moment;

use crate::event::{FileName, QuirkNames};

use super::images::Image;
use super::upload::Incoming;

/// One transfer.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) client: SocketAddr,
    /// The address that the client asked at, which answers it.
    pub(super) local: Option<IpAddr>,
    pub(super) ifindex: u32,
    /// The data socket whose port is this end's transfer identifier.
    pub(super) socket: SocketId,
    /// That socket receives requests as well, and carries all transfers.
    pub(super) single_port: bool,
    /// Tells a repeated request from a new one.
    pub(super) digest: u64,
    pub(super) negotiated: Negotiated,
    /// The shortest time before an unanswered packet is sent again.
    pub(super) min_retry: Duration,
    /// The quirks that changed something of it, for the log.
    pub(super) quirks: QuirkNames,
    pub(super) netascii: bool,
    pub(super) started: Moment,
    /// When the client last made progress.
    pub(super) heard: Moment,
    /// Its beginning has been logged. A client that only asks for the size begins no transfer.
    pub(super) announced: bool,
    /// It has ended well. An upload remains to repeat its last ACK.
    pub(super) settled: bool,
    pub(super) name: FileName,
    pub(super) work: Work,
    /// Whether windows are sent with UDP_SEGMENT: blocks fit the path's MTU, and the socket can.
    pub(super) segmented: bool,
    /// Shared sends that have not completed yet. No more are queued meanwhile, because sends of one
    /// window must not overtake each other.
    pub(super) in_flight: u32,
    /// The earliest entry for it in the shard's timers.
    pub(super) timer: Moment,
    /// It is in the list of transfers that wait for a chunk.
    pub(super) starved: bool,
    /// The stream that it is a member of: [`super::streams`].
    pub(super) stream: Option<u32>,
    /// It is in one of the queues of [`super::turns`].
    pub(super) queued: bool,
    /// Bytes of file data sent, each counted once.
    pub(super) sent: u64,
    /// Blocks sent more than once.
    pub(super) resent: u32,
}

/// What a transfer is doing.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub(super) enum Work {
    /// The file is being opened or created.
    Opening,
    /// The file is sent to the client.
    Sending { image: Arc<Image>, sender: Sender },
    /// The client listens to the group of a stream; another client is the stream's master.
    Listening { image: Arc<Image>, complete: bool },
    /// The client uploads.
    Receiving(Box<Upload>),
}

/// An upload.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) receiver: Receiver,
    /// `None` once it is stored, so that no descriptor stays open while the last ACK is repeated.
    pub(super) file: Option<Arc<Incoming>>,
    /// For netascii.
    pub(super) decoder: Option<Decoder>,
    /// Received bytes that are not being written yet.
    pub(super) buffer: Vec<u8>,
    /// The buffer's offset in the file.
    pub(super) offset: u64,
    /// A piece is being written.
    pub(super) writing: bool,
    pub(super) complete: bool,
    /// The file is on disk under its name, so the last ACK may be sent.
    pub(super) stored: bool,
}

impl Transfer {
    pub(super) fn target(&self) -> Target {
        Target::Udp {
            to: self.client,
            from: self.local,
            ifindex: scope(&self.client, self.ifindex),
        }
    }

    /// Where blocks of the file are sent: to the client, or to the group of its stream.
    pub(super) fn data_target(&self) -> Target {
        match self.negotiated.multicast.and_then(|multicast| multicast.group) {
            Some(group) => {
                Target::Udp { to: group.into(), from: self.local, ifindex: self.ifindex }
            }
            None => self.target(),
        }
    }

    /// The client has repeated its request: makes the first answer due again, if the client has
    /// answered nothing yet. Returns whether it has.
    pub(super) fn request_repeated(&mut self, now: Moment) -> bool {
        match &mut self.work {
            Work::Opening | Work::Listening { .. } => false,
            Work::Sending { sender, .. } => sender.on_request(now),
            Work::Receiving(upload) => upload.receiver.on_request(now),
        }
    }

    /// Whether the client has sent a block, or an ACK of one, or has begun to take a stream's file.
    pub(super) fn begun(&self) -> bool {
        match &self.work {
            Work::Opening => false,
            // A member of a stream that has become its master has listened before.
            Work::Sending { sender, .. } => {
                sender.acked() > 0 || self.stream.is_some() && self.announced
            }
            Work::Listening { .. } => true,
            Work::Receiving(upload) => upload.receiver.blocks() > 0,
        }
    }

    /// Bytes of file data, counted as sent, that the receiving end has.
    pub(super) fn bytes(&self) -> u64 {
        let block_len = u64::from(self.negotiated.block_len());
        match &self.work {
            Work::Opening => 0,
            Work::Sending { image, sender } => {
                // A member of a stream has heard blocks that were sent to others.
                let most = self.stream.and(image.size()).unwrap_or(self.sent);
                sender.acked().saturating_mul(block_len).min(most)
            }
            Work::Listening { image, complete: true } => image.size().unwrap_or(0),
            Work::Listening { complete: false, .. } => 0,
            Work::Receiving(upload) => upload.offset + upload.buffer.len() as u64,
        }
    }
}

/// The interface to send to a client by: 0 (as the routes say) but for link-local addresses, which
/// are ambiguous without their interface.
pub(super) fn scope(client: &SocketAddr, ifindex: u32) -> u32 {
    match client {
        SocketAddr::V6(client) if client.ip().is_unicast_link_local() => ifindex,
        _ => 0,
    }
}

/// All transfers. A number is never reused: it holds the slot and the slot's generation.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_client: HashMap<SocketAddr, u64>,
    /// Transfers that are settled.
    settled: usize,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    transfer: Option<Transfer>,
}

impl Transfers {
    pub(super) fn insert(&mut self, transfer: Transfer) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            // Limited by `max-transfers`, which is 32 bits.
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let number = u64::from(slot.generation) << 32 | u64::from(index);
        self.by_client.insert(transfer.client, number);
        slot.transfer = Some(transfer);
        number
    }

    pub(super) fn get(&mut self, number: u64) -> Option<&mut Transfer> {
        let slot = self.slots.get_mut((number & 0xffff_ffff) as usize)?;
        if u64::from(slot.generation) == number >> 32 { slot.transfer.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Transfer> {
        self.get(number)?;
        let index = (number & 0xffff_ffff) as u32;
        let transfer = self.slots.get_mut(index as usize)?.transfer.take()?;
        self.free.push(index);
        if self.by_client.get(&transfer.client) == Some(&number) {
            self.by_client.remove(&transfer.client);
        }
        self.settled -= usize::from(transfer.settled);
        Some(transfer)
    }

    /// Notes that a transfer has ended well, and returns its client; `None` if that was noted
    /// before. The transfer remains until it is removed, but runs no more.
    pub(super) fn settle(&mut self, number: u64) -> Option<SocketAddr> {
        let transfer = self.get(number).filter(|transfer| !transfer.settled)?;
        transfer.settled = true;
        let client = transfer.client;
        self.settled += 1;
        Some(client)
    }

    /// The transfer of a client's address and port; a client port has one at a time.
    pub(super) fn of_client(&self, client: &SocketAddr) -> Option<u64> {
        self.by_client.get(client).copied()
    }

    /// Transfers under way: those that are not settled.
    pub(super) fn running(&self) -> usize {
        self.by_client.len().saturating_sub(self.settled)
    }

    /// The numbers of all transfers.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.by_client.values().copied().collect()
    }
}
