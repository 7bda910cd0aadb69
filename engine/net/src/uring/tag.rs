//! What a completion belongs to.

use crate::backend::SocketId;

/// What a completion belongs to: kind, socket or position, generation of the socket, in one
/// user_data.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Tag {
    Receive(SocketId, u32),
    Writable(SocketId, u32),
    Send(u16),
    /// A message from another ring.
    Wake,
    /// The eventfd of threads without a ring.
    Event,
}

impl Tag {
    pub(super) fn pack(self) -> u64 {
        let (kind, index, generation) = match self {
            Tag::Receive(id, generation) => (1, id.0, generation),
            Tag::Writable(id, generation) => (2, id.0, generation),
            Tag::Send(position) => (3, position, 0),
            Tag::Wake => (4, 0, 0),
            Tag::Event => (5, 0, 0),
        };
        kind << 48 | u64::from(index) << 32 | u64::from(generation)
    }

    pub(super) fn unpack(bits: u64) -> Option<Tag> {
        let (index, generation) = ((bits >> 32) as u16, bits as u32);
        match bits >> 48 {
            1 => Some(Tag::Receive(SocketId(index), generation)),
            2 => Some(Tag::Writable(SocketId(index), generation)),
            3 => Some(Tag::Send(index)),
            4 => Some(Tag::Wake),
            5 => Some(Tag::Event),
            _ => None,
        }
    }
}
