//! What a completion belongs to.

use crate::backend::SocketId;

/// What a completion belongs to, in one user_data.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Tag {
    /// A multishot receive.
    Receive(SocketId),
    /// A poll for room in a send buffer.
    Writable(SocketId),
    /// The send at `position` of the flight of this number.
    Send { flight: u32, position: u16 },
    /// The poll of the waker's eventfd.
    Event,
}

impl Tag {
    pub(super) fn pack(self) -> u64 {
        let (kind, low, high) = match self {
            Tag::Receive(id) => (1, id.index, u32::from(id.generation)),
            Tag::Writable(id) => (2, id.index, u32::from(id.generation)),
            Tag::Send { flight, position } => (3, position, flight),
            Tag::Event => (4, 0, 0),
        };
        kind << 48 | u64::from(high) << 16 | u64::from(low)
    }

    pub(super) fn unpack(bits: u64) -> Option<Tag> {
        let (low, high) = (bits as u16, (bits >> 16) as u32);
        let id = SocketId { index: low, generation: high as u16 };
        match bits >> 48 {
            1 => Some(Tag::Receive(id)),
            2 => Some(Tag::Writable(id)),
            3 => Some(Tag::Send { flight: high, position: low }),
            4 => Some(Tag::Event),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_survive_the_round_trip() {
        let id = SocketId { index: u16::MAX, generation: u16::MAX - 1 };
        let send = Tag::Send { flight: u32::MAX, position: 255 };
        for tag in [Tag::Receive(id), Tag::Writable(id), send, Tag::Event] {
            assert_eq!(Tag::unpack(tag.pack()), Some(tag));
        }
        assert_eq!(Tag::unpack(0), None);
    }
}
