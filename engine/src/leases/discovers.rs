//! What clients said of themselves in the DISCOVERs whose offers are out.
//!
//! RFC 2131 section 3.1 wants the ACK to agree with the OFFER. Classes and boot rules go by what a
//! client says, and some firmware says less in its REQUEST than in its DISCOVER. So the options
//! that they go by are kept from the one to the other.
//!
//! An entry is found by client and offered address: what the client said on another network does
//! not count. An entry knows its transaction and the one before: a DISCOVER that comes late, from
//! before a NAK, is told by them from one that was sent after it.
//!
//! Memory is bounded and allocated once. Where more offers are out than there is room for, the
//! oldest of a bucket goes; its client is then known by its REQUEST alone.

use std::hash::BuildHasher;
use std::net::IpAddr;

use super::ClientKey;
use crate::hashing::KeyedHasher;
use bootstorm_protocols::time::Moment;

/// Entries of a bucket; the oldest gives way.
const WAYS: usize = 4;
/// Times [`WAYS`] is the number of offers that are remembered on one shard: 16,384, in 2 MiB.
const BUCKETS: usize = 4096;
/// Bytes of options that are kept of one client, code and length included. PXE firmware and iPXE
/// take up to 65.
const ROOM: usize = 103;

/// The DISCOVERs of one shard.
pub(super) struct Discovers {
    hasher: KeyedHasher,
    /// Whose entries there are; empty until there is something to remember.
    buckets: Vec<Bucket>,
    /// What the owner at the same place said.
    entries: Vec<Entry>,
}

/// One line of the processor's cache: all that is read for a client that has no entry.
#[derive(Copy, Clone)]
#[repr(align(64))]
struct Bucket([Owner; WAYS]);

/// Whose entry it is.
#[derive(Copy, Clone)]
struct Owner {
    /// Hash of client and offered address.
    client: u64,
    /// When the offer ends; [`Moment::default`] where there is none.
    until: Moment,
}

/// What a client said.
#[derive(Copy, Clone)]
struct Entry {
    xid: u32,
    /// The one before; the same where there was none.
    earlier: u32,
    len: u8,
    options: [u8; ROOM],
}

/// When a message was sent that tells of its transaction, beside what was decided last about an
/// address of its client.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Transaction {
    /// Before it, or not long after: it has the transaction of the DISCOVER that brought it about,
    /// or of the one before that.
    Before,
    /// After it: it has another transaction.
    After,
    /// A start in between has forgotten the transactions.
    Forgotten,
}

/// Options of a DISCOVER: code, length, value, one behind the other.
#[derive(Copy, Clone, Debug)]
pub struct Discovered<'a>(&'a [u8]);

impl<'a> Discovered<'a> {
    /// Those that [`Discovered::as_bytes`] gave.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// All of it, to be kept elsewhere.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The options in the order in which they were remembered.
    pub fn options(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (&[code, len], behind) = rest.split_first_chunk()?;
            let (value, behind) = behind.split_at_checked(len.into())?;
            rest = behind;
            Some((code, value))
        })
    }

    /// The value of an option.
    pub fn option(&self, code: u8) -> Option<&'a [u8]> {
        self.options().find(|(known, _)| *known == code).map(|(_, value)| value)
    }
}

impl Discovers {
    pub(super) fn new(hasher: KeyedHasher) -> Self {
        Self { hasher, buckets: Vec::new(), entries: Vec::new() }
    }

    /// Keeps options of the DISCOVER of a client that is offered an address until the offer ends;
    /// an option without room is left out.
    pub(super) fn remember<'o>(
        &mut self,
        client: (&ClientKey, IpAddr),
        xid: u32,
        until: Moment,
        options: impl Iterator<Item = (u8, &'o [u8])>,
    ) {
        let mut entry = Entry { xid, earlier: xid, len: 0, options: [0; ROOM] };
        for (code, value) in options {
            entry.push(code, value);
        }
        if self.buckets.is_empty() {
            let nobody = Owner { client: 0, until: Moment::default() };
            self.buckets = vec![Bucket([nobody; WAYS]); BUCKETS];
            self.entries = vec![entry; BUCKETS * WAYS];
        }
        let client = self.hasher.hash_one(client);
        let bucket = bucket(client);
        let owners = &mut self.buckets[bucket].0;
        let own = owners.iter().position(|owner| owner.client == client);
        let oldest = (0..WAYS).min_by_key(|&place| owners[place].until);
        if let Some(place) = own.or(oldest) {
            owners[place] = Owner { client, until };
            let before = &mut self.entries[bucket * WAYS + place];
            if own.is_some() {
                entry.earlier = if before.xid == xid { before.earlier } else { before.xid };
            }
            *before = entry;
        }
    }

    /// What the client said in the DISCOVER of this transaction, to which it was offered the
    /// address.
    pub(super) fn find(
        &self,
        client: (&ClientKey, IpAddr),
        xid: u32,
        now: Moment,
    ) -> Option<Discovered<'_>> {
        let entry = self.entry(client, now).filter(|entry| entry.xid == xid)?;
        Some(Discovered(&entry.options[..usize::from(entry.len)]))
    }

    /// Whether it is the transaction of the DISCOVER that is remembered of the client for the
    /// address, or of the one before; `None` where none is remembered.
    pub(super) fn knows(
        &self,
        client: (&ClientKey, IpAddr),
        xid: u32,
        now: Moment,
    ) -> Option<bool> {
        self.entry(client, now).map(|entry| [entry.xid, entry.earlier].contains(&xid))
    }

    fn entry(&self, client: (&ClientKey, IpAddr), now: Moment) -> Option<&Entry> {
        if self.buckets.is_empty() {
            return None;
        }
        let client = self.hasher.hash_one(client);
        let bucket = bucket(client);
        let is_own = |owner: &Owner| owner.client == client && now < owner.until;
        let place = self.buckets[bucket].0.iter().position(is_own)?;
        self.entries.get(bucket * WAYS + place)
    }
}

/// The bucket where a client may be.
fn bucket(client: u64) -> usize {
    // Below BUCKETS, so it fits.
    (client % BUCKETS as u64) as usize
}

impl Entry {
    fn push(&mut self, code: u8, value: &[u8]) {
        let start = usize::from(self.len);
        let end = start + 2 + value.len();
        // An option that fits is shorter than 256 bytes, as all of them together are.
        if let (Some(place), Ok(len)) = (self.options.get_mut(start..end), value.len().try_into()) {
            place[..2].copy_from_slice(&[code, len]);
            place[2..].copy_from_slice(value);
            self.len = end as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::leases::Hardware;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn key(number: u32) -> ClientKey {
        let [a, b, c, d] = number.to_be_bytes();
        ClientKey::hardware(&Hardware::ethernet([2, 0, a, b, c, d]))
    }

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    /// The vendor class that is remembered.
    fn class<'d>(
        discovers: &'d Discovers,
        key: &ClientKey,
        xid: u32,
        now: u64,
    ) -> Option<&'d [u8]> {
        discovers.find((key, IP), xid, at(now))?.option(60)
    }

    #[test]
    fn what_was_said_is_known_to_its_client_in_its_transaction_until_the_offer_ends() {
        let mut discovers = Discovers::new(KeyedHasher::default());
        let (first, second) = (key(1), key(2));
        assert_eq!(class(&discovers, &first, 7, 0), None);
        let options = [(60, &b"PXEClient"[..]), (77, b""), (93, &[0, 7])];
        discovers.remember((&first, IP), 7, at(60), options.into_iter());
        assert_eq!(class(&discovers, &first, 7, 59), Some(&b"PXEClient"[..]));
        let found = discovers.find((&first, IP), 7, at(1)).unwrap();
        assert_eq!(found.options().collect::<Vec<_>>(), options);
        assert_eq!(found.option(97), None);
        assert_eq!(class(&discovers, &first, 8, 1), None, "another transaction");
        assert_eq!(class(&discovers, &second, 7, 1), None, "another client");
        assert!(discovers.find((&first, IpAddr::from([10, 1, 0, 1])), 7, at(1)).is_none());
        assert_eq!(class(&discovers, &first, 7, 60), None, "the offer is over");
        // The next stage of the boot says something else, or nothing.
        discovers.remember((&first, IP), 9, at(90), [(60, &b"d-i"[..])].into_iter());
        assert_eq!(class(&discovers, &first, 7, 1), None);
        assert_eq!(class(&discovers, &first, 9, 1), Some(&b"d-i"[..]));
        discovers.remember((&first, IP), 10, at(90), std::iter::empty());
        assert_eq!(class(&discovers, &first, 9, 1), None);
    }

    #[test]
    fn the_transaction_before_is_known_and_what_was_said_in_it_is_not() {
        let mut discovers = Discovers::new(KeyedHasher::default());
        let client = key(1);
        let known = |discovers: &Discovers, now| {
            let knows = |xid: &u32| discovers.knows((&client, IP), *xid, at(now)) == Some(true);
            (0..9).filter(knows).collect::<Vec<_>>()
        };
        assert!(known(&discovers, 1).is_empty());
        discovers.remember((&client, IP), 3, at(60), [(60, &b"a"[..])].into_iter());
        assert_eq!(known(&discovers, 1), [3]);
        // Each is sent several times.
        for _ in 0..2 {
            discovers.remember((&client, IP), 5, at(90), std::iter::empty());
            assert_eq!(known(&discovers, 1), [3, 5]);
        }
        assert!(discovers.find((&client, IP), 3, at(1)).is_none());
        discovers.remember((&client, IP), 7, at(120), std::iter::empty());
        assert_eq!((known(&discovers, 1), known(&discovers, 120)), (vec![5, 7], vec![]));
        assert_eq!(discovers.knows((&key(2), IP), 7, at(1)), None);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_the_rest_is_kept() {
        let mut discovers = Discovers::new(KeyedHasher::default());
        let long = [b'x'; ROOM];
        let options = [(77, &long[..]), (60, b"PXEClient"), (97, &long[..ROOM - 13])];
        discovers.remember((&key(1), IP), 1, at(60), options.into_iter());
        let found = discovers.find((&key(1), IP), 1, at(0)).unwrap();
        assert_eq!(found.options().collect::<Vec<_>>(), [options[1], options[2]]);
    }

    #[test]
    fn the_oldest_gives_way_and_memory_does_not_grow() {
        let mut discovers = Discovers::new(KeyedHasher::default());
        let count = (BUCKETS * WAYS * 3) as u32;
        for number in 0..count {
            let until = at(60 + u64::from(number));
            discovers.remember((&key(number), IP), number, until, [(60, &b"a"[..])].into_iter());
        }
        assert_eq!(discovers.entries.len(), BUCKETS * WAYS);
        let known = |numbers: std::ops::Range<u32>| {
            numbers.filter(|&number| class(&discovers, &key(number), number, 0).is_some()).count()
        };
        // The latest 256 share a bucket with three others each next to never.
        assert_eq!(known(count - 256..count), 256);
        assert!(known(0..count) <= BUCKETS * WAYS);
    }
}
