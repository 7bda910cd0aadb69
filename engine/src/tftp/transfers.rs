//! The transfers of one shard: small structs in a slab, found by client and by number.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

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
    /// Tells a repeated request from a new one.
    pub(super) digest: u64,
    pub(super) negotiated: Negotiated,
    /// What of it a quirk changed, for the log.
    pub(super) quirks: QuirkNames,
    pub(super) netascii: bool,
    pub(super) started: Moment,
    /// Last sign that the client gets on.
    pub(super) heard: Moment,
    /// The log has heard of its beginning: a client that only asks for the size begins nothing.
    pub(super) announced: bool,
    /// An upload is stored, and the log has heard of it; what remains is waiting for a lost ACK.
    pub(super) settled: bool,
    pub(super) name: FileName,
    pub(super) work: Work,
    /// Whether windows go out by UDP_SEGMENT: blocks fit the path's MTU, and the socket can.
    pub(super) segmented: bool,
    /// Shared sends that the socket has not accepted yet. While there are some, no more are queued: sends of one window
    /// must not overtake each other.
    pub(super) in_flight: u32,
    /// The earliest entry for it among the timers.
    pub(super) timer: Moment,
    /// It stands in the list of those that wait for a chunk.
    pub(super) starved: bool,
    /// The stream that it is a member of: [`super::streams`].
    pub(super) stream: Option<u32>,
    /// It stands in a queue of those that want to send: [`super::turns`].
    pub(super) queued: bool,
    /// Bytes of file data sent, each counted once.
    pub(super) sent: u64,
    /// Blocks sent more than once.
    pub(super) resent: u32,
}

/// What a transfer is at.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub(super) enum Work {
    /// The file is being opened or created.
    Opening,
    /// To the client.
    Sending { image: Arc<Image>, sender: Sender },
    /// To a group that the client listens to, while another acknowledges the blocks.
    Listening { image: Arc<Image>, complete: bool },
    /// From the client.
    Receiving(Box<Upload>),
}

/// An upload.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) receiver: Receiver,
    pub(super) file: Arc<Incoming>,
    /// For netascii.
    pub(super) decoder: Option<Decoder>,
    /// Received and not yet given to the disk.
    pub(super) buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    pub(super) offset: u64,
    /// A piece is on its way to the disk.
    pub(super) writing: bool,
    pub(super) complete: bool,
    /// It is in its place; the last ACK may go.
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

    /// Where blocks of the file go: to the client, or to the group of its stream.
    pub(super) fn data_target(&self) -> Target {
        match self.negotiated.multicast.and_then(|multicast| multicast.group) {
            Some(group) => {
                Target::Udp { to: group.into(), from: self.local, ifindex: self.ifindex }
            }
            None => self.target(),
        }
    }

    /// Whether the client has shown that the transfer is under way.
    pub(super) fn begun(&self) -> bool {
        match &self.work {
            Work::Opening => false,
            Work::Sending { sender, .. } => sender.acked() > 0,
            Work::Listening { .. } => true,
            Work::Receiving(upload) => upload.receiver.blocks() > 0,
        }
    }

    /// Bytes of file data, as they travel, that the receiving end has got.
    pub(super) fn bytes(&self) -> u64 {
        let block_len = u64::from(self.negotiated.block_len());
        match &self.work {
            Work::Opening => 0,
            Work::Sending { image, sender } => {
                // A member of a stream has some of it from others.
                let most = self.stream.and(image.size()).unwrap_or(self.sent);
                sender.acked().saturating_mul(block_len).min(most)
            }
            Work::Listening { image, complete: true } => image.size().unwrap_or(0),
            Work::Listening { complete: false, .. } => 0,
            Work::Receiving(upload) => upload.offset + upload.buffer.len() as u64,
        }
    }
}

/// Answers go by route, but for link-local addresses, which mean nothing without their interface.
pub(super) fn scope(client: &SocketAddr, ifindex: u32) -> u32 {
    match client {
        SocketAddr::V6(client) if client.ip().is_unicast_link_local() => ifindex,
        _ => 0,
    }
}

/// All transfers. A number is never given twice: it holds the slot and how often the slot was used.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_client: HashMap<SocketAddr, u64>,
    per_address: HashMap<IpAddr, u32>,
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
        *self.per_address.entry(transfer.client.ip()).or_default() += 1;
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
        if let Some(count) = self.per_address.get_mut(&transfer.client.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&transfer.client.ip());
            }
        }
        Some(transfer)
    }

    /// The transfer of a client's address and port; a client port has one at a time.
    pub(super) fn of_client(&self, client: &SocketAddr) -> Option<u64> {
        self.by_client.get(client).copied()
    }

    /// Transfers of a client's address.
    pub(super) fn of_address(&self, address: IpAddr) -> u32 {
        self.per_address.get(&address).copied().unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// The numbers of all transfers.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.by_client.values().copied().collect()
    }
}
