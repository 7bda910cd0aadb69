//! The messages that a shard received last, to explain later what became of them.

use std::net::{Ipv4Addr, SocketAddrV4};

use bootstorm_protocols::dhcpv4::{Message, MessageType};
use bootstorm_protocols::time::Moment;
use parking_lot::Mutex;

/// Bytes of memory for the messages of all shards. A message of 350 bytes takes 384.
const ROOM: usize = 16 << 20;
/// Bytes of memory of each shard, at least.
const LEAST: usize = 256 << 10;
/// Messages that are looked at while their shard waits, at most.
const AT_ONCE: usize = 64;

/// A message as it was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// When.
    pub at: Moment,
    /// The interface that it came in on.
    pub ifindex: u32,
    /// Where it came from.
    pub source: SocketAddrV4,
    /// Where it was sent to; `None` when the kernel did not say.
    pub destination: Option<Ipv4Addr>,
    /// The message.
    pub payload: Vec<u8>,
}

/// The last messages of one shard, in a ring of fixed size: the oldest make room for new ones.
pub struct Recent(Mutex<Ring>);

struct Ring {
    /// Records: a head, a message, nothing up to a multiple of eight. None goes over the end.
    bytes: Box<[u8]>,
    /// Where the oldest record begins. Positions count all bytes since the start.
    first: u64,
    /// Where the next one begins.
    next: u64,
}

/// Length of a record's head: length of the message, ifindex, when, addresses and port.
const HEAD: usize = 32;
/// The length of a message where no record begins up to the end of the ring.
const NONE: u32 = u32::MAX;

impl Recent {
    /// That of one of so many shards.
    #[must_use]
    pub fn of(shards: usize) -> Self {
        Self::with_room((ROOM / shards.max(1)).max(LEAST))
    }

    fn with_room(bytes: usize) -> Self {
        let bytes = vec![0; bytes / HEAD * HEAD].into_boxed_slice();
        Self(Mutex::new(Ring { bytes, first: 0, next: 0 }))
    }

    /// Keeps a message. Allocates nothing.
    pub fn keep(
        &self,
        at: Moment,
        ifindex: u32,
        source: SocketAddrV4,
        destination: Option<Ipv4Addr>,
        payload: &[u8],
    ) {
        let mut ring = self.0.lock();
        let Some(place) = ring.make_room(payload.len()) else { return };
        let record = &mut ring.bytes[place..place + HEAD + payload.len()];
        let (head, message) = record.split_at_mut(HEAD);
        // A datagram is shorter than 64 KiB.
        head[0..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&ifindex.to_le_bytes());
        head[8..16].copy_from_slice(&at.as_nanos().to_le_bytes());
        head[16..20].copy_from_slice(&source.ip().octets());
        head[20..22].copy_from_slice(&source.port().to_le_bytes());
        head[22] = destination.is_some().into();
        head[24..28].copy_from_slice(&destination.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        message.copy_from_slice(payload);
    }

    /// The last message of a hardware address. If it is a REQUEST: and the DISCOVER of its
    /// transaction, if that is still kept.
    pub fn last(&self, chaddr: &[u8]) -> Option<(Received, Option<Received>)> {
        let (mut last, mut discover) = (None, None);
        let mut at = 0;
        loop {
            // A shard waits for a few messages at most.
            let ring = self.0.lock();
            at = at.max(ring.first);
            for _ in 0..AT_ONCE {
                let Some((received, next)) = ring.at(at) else {
                    drop(ring);
                    let transaction = |received: &Received| {
                        let message = Message::parse(&received.payload).ok()?;
                        Some((message.xid(), message.message_type()?))
                    };
                    let last: Received = last?;
                    let before = discover.filter(|discover| {
                        let (last, before) = (transaction(&last), transaction(discover));
                        last.zip(before).is_some_and(|((xid, kind), (other, _))| {
                            kind == MessageType::Request && xid == other
                        })
                    });
                    return Some((last, before));
                };
                at = next;
                let Some(view) = received else { continue };
                if Message::hardware_of(view.payload).is_some_and(|(_, own)| own == chaddr) {
                    let kind =
                        Message::parse(view.payload).ok().and_then(|each| each.message_type());
                    if kind == Some(MessageType::Discover) {
                        discover = Some(view.copy());
                    }
                    last = Some(view.copy());
                }
            }
        }
    }
}

/// A record of the ring.
struct View<'r> {
    head: &'r [u8],
    payload: &'r [u8],
}

impl View<'_> {
    fn copy(&self) -> Received {
        let four = |at: usize| {
            let bytes = self.head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.unwrap_or([0; 4])
        };
        let (low, high) = (u32::from_le_bytes(four(8)), u32::from_le_bytes(four(12)));
        let port = u16::from_le_bytes([self.head[20], self.head[21]]);
        let destination = Ipv4Addr::from(four(24));
        Received {
            at: Moment::from_nanos(u64::from(high) << 32 | u64::from(low)),
            ifindex: u32::from_le_bytes(four(4)),
            source: SocketAddrV4::new(Ipv4Addr::from(four(16)), port),
            destination: (self.head[22] == 1).then_some(destination),
            payload: self.payload.to_vec(),
        }
    }
}

impl Ring {
    /// Where the record of a message of that length goes; `None` for one that is too long.
    fn make_room(&mut self, len: usize) -> Option<usize> {
        let size = self.bytes.len() as u64;
        let taken = ((HEAD + len).next_multiple_of(8)) as u64;
        if taken > size {
            return None;
        }
        let place = self.next % size;
        if place + taken > size {
            let skipped = size - place;
            self.forget(self.next + skipped);
            let place = place as usize;
            if let Some(head) = self.bytes.get_mut(place..place + 4) {
                head.copy_from_slice(&NONE.to_le_bytes());
            }
            self.next += skipped;
        }
        self.forget(self.next + taken);
        let place = (self.next % size) as usize;
        self.next += taken;
        Some(place)
    }

    /// Forgets the records whose room ends before `end` is written.
    fn forget(&mut self, end: u64) {
        let size = self.bytes.len() as u64;
        while self.first < self.next && end > self.first + size {
            match self.at(self.first) {
                Some((_, next)) => self.first = next,
                None => self.first = self.next,
            }
        }
    }

    /// The record at a position, if there is one, and where the next one begins. `None` behind the
    /// last one.
    fn at(&self, position: u64) -> Option<(Option<View<'_>>, u64)> {
        if position >= self.next {
            return None;
        }
        let size = self.bytes.len() as u64;
        let place = (position % size) as usize;
        let head = self.bytes.get(place..)?;
        let len = u32::from_le_bytes(head.get(..4)?.try_into().ok()?);
        if len == NONE {
            return Some((None, position + (size - position % size)));
        }
        let len = len as usize;
        let (head, payload) = head.get(..HEAD + len)?.split_at(HEAD);
        let next = position + (HEAD + len).next_multiple_of(8) as u64;
        Some((Some(View { head, payload }), next))
    }
}

#[cfg(test)]
mod tests {
    use bootstorm_protocols::dhcpv4::{ETHERNET, Header, MessageWriter, options};

    use super::*;

    fn message(machine: u8, xid: u32, kind: MessageType, more: usize) -> Vec<u8> {
        let header = Header::request(ETHERNET, &[0, 0, 0, 0, 0, machine], xid);
        let mut buf = [0; 1500];
        let mut writer = MessageWriter::new(&mut buf, 1500, &header).unwrap();
        writer.option(options::MESSAGE_TYPE, &[kind.code()]).unwrap();
        writer.option(options::HOST_NAME, &vec![b'x'; more]).unwrap();
        let len = writer.finish();
        buf[..len].to_vec()
    }

    fn keep(recent: &Recent, seconds: u64, payload: &[u8]) -> Received {
        let received = Received {
            at: Moment::from_nanos(seconds * 1_000_000_000 + 7),
            ifindex: 3,
            source: SocketAddrV4::new(Ipv4Addr::new(10, 2, 0, 1), 67),
            destination: seconds.is_multiple_of(2).then_some(Ipv4Addr::new(10, 1, 0, 6)),
            payload: payload.to_vec(),
        };
        recent.keep(
            received.at,
            received.ifindex,
            received.source,
            received.destination,
            &received.payload,
        );
        received
    }

    fn mac(machine: u8) -> [u8; 6] {
        [0, 0, 0, 0, 0, machine]
    }

    #[test]
    fn the_last_message_is_found_with_the_discover_of_its_transaction() {
        let recent = Recent::with_room(64 << 10);
        assert_eq!(recent.last(&mac(1)), None);
        let old = keep(&recent, 1, &message(1, 8, MessageType::Discover, 1));
        keep(&recent, 1, &message(2, 9, MessageType::Discover, 1));
        assert_eq!(recent.last(&mac(1)), Some((old, None)));
        let discover = keep(&recent, 2, &message(1, 9, MessageType::Discover, 2));
        let request = keep(&recent, 3, &message(1, 9, MessageType::Request, 3));
        assert_eq!(recent.last(&mac(1)), Some((request, Some(discover))));
        let other = keep(&recent, 4, &message(1, 10, MessageType::Request, 3));
        assert_eq!(recent.last(&mac(1)), Some((other, None)));
        assert_eq!(recent.last(&mac(3)), None);
    }

    #[test]
    fn the_oldest_make_room_and_the_rest_stays_whole() {
        for room in [2048, 4096, 4100, 10_000] {
            let recent = Recent::with_room(room);
            let mut kept: Vec<Received> = Vec::new();
            for number in 0..2000_u64 {
                let machine = (number % 200) as u8;
                let length = (number * 37 % 251) as usize;
                let payload = message(machine, number as u32, MessageType::Request, length);
                kept.push(keep(&recent, number, &payload));
                let newest = kept.last().unwrap();
                let (last, before) = recent.last(&mac(machine)).unwrap();
                assert_eq!((&last, before), (newest, None));
                // So many of the last are there as fit; what is there is what was kept.
                let used =
                    |received: &Received| (HEAD + received.payload.len()).next_multiple_of(8);
                let mut left = room / 2 - 1600.min(room / 2);
                for older in kept.iter().rev() {
                    let mac = Message::hardware_of(&older.payload).unwrap().1.to_vec();
                    let found = recent.last(&mac);
                    if used(older) > left {
                        break;
                    }
                    left -= used(older);
                    assert_eq!(found.as_ref().map(|(last, _)| last), Some(older));
                }
            }
        }
    }

    #[test]
    fn what_is_longer_than_the_ring_is_not_kept() {
        let recent = Recent::with_room(512);
        keep(&recent, 1, &message(1, 1, MessageType::Request, 250));
        assert_eq!(recent.last(&mac(1)), None);
        let short = keep(&recent, 1, &message(1, 1, MessageType::Request, 1));
        assert_eq!(recent.last(&mac(1)), Some((short, None)));
    }
}
