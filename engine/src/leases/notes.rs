//! What is remembered of a client besides its identity, packed into one allocation.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::scope::{self, LeaseScope, Room};
use super::{
    Admission, Bill, Client, ClientKey, Hardware, KeyHash, KeyKind, KnownAs, RelaySaid, Said,
};

/// What is remembered of a client besides its identity: what it said, at most [`Notes::LIMIT`]
/// bytes each, what its relay agent said, and how it was admitted. Cloning does not allocate.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Notes(
    /// A bit for each note that follows, then each note: its length, its bytes.
    Option<Arc<[u8]>>,
);

/// The notes in the order of their bits. The first four are on disk in that order, too.
#[derive(Copy, Clone)]
#[repr(u8)]
enum Note {
    /// Option 61.
    ClientId = 0,
    /// Option 12.
    Hostname = 1,
    /// Option 82, sub-option 1.
    CircuitId = 2,
    /// Option 82, sub-option 2.
    RemoteId = 3,
    /// `htype` and hardware address, unless the client's identity is made of them.
    Hardware = 4,
    /// A tag, then what it calls for.
    Admission = 5,
    /// See [`LeaseScope`].
    Scope = 6,
}

const COUNT: usize = 7;
/// Longest note: a length is one byte.
const LONGEST: usize = scope::LONGEST;

/// A pool of IPv4: two addresses follow, and perhaps a host entry.
const POOL_IPV4: u8 = 4;
/// A pool of IPv6: likewise.
const POOL_IPV6: u8 = 6;
/// Added to these where a bill follows the addresses, its key and its limit in 12 bytes.
const WITH_BILL: u8 = 1;
/// A reserved address: a host entry follows. That is the number of the kind of its key, the hash of
/// the key if [`WITH_KEY`] is in the number, then its name.
const HOST: u8 = 1;
const WITH_KEY: u8 = 0x80;

impl Notes {
    /// Longer values of the client's own are not remembered. Those of its relay agent are, whatever
    /// their length: by them it may be a host, or a member of a class.
    pub const LIMIT: usize = 96;

    /// Option 61.
    pub fn client_id(&self) -> Option<&[u8]> {
        self.get(Note::ClientId)
    }

    /// Option 12, not checked: never print it raw.
    pub fn hostname(&self) -> Option<&[u8]> {
        self.get(Note::Hostname)
    }

    /// Option 82, sub-option 1.
    pub fn circuit_id(&self) -> Option<&[u8]> {
        self.get(Note::CircuitId)
    }

    /// Option 82, sub-option 2.
    pub fn remote_id(&self) -> Option<&[u8]> {
        self.get(Note::RemoteId)
    }

    /// The hardware address that came with the last message of the client.
    pub fn hardware(&self, client: &ClientKey) -> Hardware {
        let bytes = match self.get(Note::Hardware) {
            None if client.kind() == KeyKind::Hardware => client.bytes(),
            noted => noted.unwrap_or_default(),
        };
        bytes
            .split_first()
            .map_or_else(Hardware::default, |(htype, address)| Hardware::new(*htype, address))
    }

    /// By what the client was given its address.
    pub fn admission(&self) -> Admission<'_> {
        self.get(Note::Admission).and_then(admission).unwrap_or_default()
    }

    /// What the configuration keeps on the lease.
    pub fn scope(&self) -> LeaseScope<'_> {
        self.get(Note::Scope).map(LeaseScope::of_note).unwrap_or_default()
    }

    /// These notes with that scope.
    #[must_use]
    pub fn with_scope(mut self, scope: LeaseScope<'_>) -> Self {
        self.set_scope(scope);
        self
    }

    /// What the client and its relay agent said, in the order of a record of the store: option 61,
    /// option 12, and sub-options 1 and 2 of option 82.
    pub(crate) fn said(&self) -> [Option<&[u8]>; 4] {
        let [client_id, hostname, circuit_id, remote_id, ..] = self.all();
        [client_id, hostname, circuit_id, remote_id]
    }

    /// The admission as a record of the store has it; empty for none.
    pub(super) fn stored_admission(&self) -> &[u8] {
        self.get(Note::Admission).unwrap_or_default()
    }

    /// The scope as a record of the store has it; empty for none.
    pub(super) fn stored_scope(&self) -> &[u8] {
        self.get(Note::Scope).unwrap_or_default()
    }

    /// Notes from what a record of the store says. What it cannot read of an admission it leaves
    /// out.
    pub(super) fn of_record(
        client: &ClientKey,
        hardware: Hardware,
        said: [Option<&[u8]>; 4],
        [stored, scope]: [&[u8]; 2],
    ) -> Self {
        let mut notes = Self::new(client, hardware, said, admission(stored).unwrap_or_default());
        notes.put(Note::Scope, scope);
        notes
    }

    /// The notes of a client that says this.
    pub fn new(
        client: &ClientKey,
        hardware: Hardware,
        said: [Option<&[u8]>; 4],
        admission: Admission<'_>,
    ) -> Self {
        let [client_id, hostname, circuit_id, remote_id] = said;
        let relay = RelaySaid::All;
        let scope = None;
        let tells_apart = false;
        let notes = Said { client_id, tells_apart, hostname, circuit_id, remote_id, relay, scope };
        Self::of(&Client { key: client, hardware, notes }, admission)
    }

    /// The notes of a client of which nothing was known.
    pub(super) fn of(client: &Client<'_>, admission: Admission<'_>) -> Self {
        let mut notes = Self::default();
        notes.update(client, admission);
        notes
    }

    /// Remembers what a message of the client says. Allocates nothing when that is nothing new.
    /// What a client says of itself is kept when it does not say it again; what its relay agent
    /// says, only as [`RelaySaid`] tells.
    pub(super) fn update(&mut self, client: &Client<'_>, admission: Admission<'_>) {
        let Client { key, hardware, notes: said } = client;
        let [client_id, hostname, circuit_id, remote_id, _, _, scope] = self.all();
        let kept = said.relay == RelaySaid::Kept;
        let fits = |said: &&[u8]| said.len() <= Self::LIMIT;
        let whole_fits = |said: &&[u8]| said.len() <= LONGEST;
        let htype = [hardware.htype()];
        let noted = *hardware != Self::default().hardware(key);
        let mut rooms = [[0; LONGEST]; 2];
        let [room, scope_room] = &mut rooms;
        let changed = self.other_than([
            said.client_id.filter(fits).or(client_id.filter(|_| !said.tells_apart)).map(whole),
            said.hostname.filter(fits).or(hostname).map(whole),
            said.circuit_id.filter(whole_fits).or(circuit_id.filter(|_| kept)).map(whole),
            said.remote_id.filter(whole_fits).or(remote_id.filter(|_| kept)).map(whole),
            noted.then(|| [&htype, hardware.address()]),
            some(write_admission(admission, room)).map(whole),
            said.scope.map_or(scope, |scope| some(scope.write(scope_room))).map(whole),
        ]);
        if let Some(changed) = changed {
            *self = changed;
        }
    }

    /// Remembers another admission, and what else there is as it was. Allocates nothing when it is
    /// the same.
    pub(super) fn set_admission(&mut self, admission: Admission<'_>) {
        let mut room = [0; LONGEST];
        self.put(Note::Admission, write_admission(admission, &mut room));
    }

    /// Remembers another client identifier, or none, as [`Notes::set_admission`].
    pub(super) fn set_client_id(&mut self, client_id: Option<&[u8]>) {
        let fits = |said: &&[u8]| said.len() <= Self::LIMIT;
        self.put(Note::ClientId, client_id.filter(fits).unwrap_or_default());
    }

    /// Remembers another scope, as [`Notes::set_admission`].
    pub(super) fn set_scope(&mut self, scope: LeaseScope<'_>) {
        let mut room = [0; LONGEST];
        self.put(Note::Scope, scope.write(&mut room));
    }

    /// Replaces one note, of at most [`LONGEST`] bytes; empty is none.
    fn put(&mut self, place: Note, note: &[u8]) {
        let mut notes = self.all().map(|note| note.map(whole));
        notes[place as usize] = some(note).map(whole);
        if let Some(changed) = self.other_than(notes) {
            *self = changed;
        }
    }

    /// These notes, in the order of [`Note`]; `None` where they are the same, which allocates
    /// nothing.
    fn other_than(&self, notes: [Option<Parts<'_>>; COUNT]) -> Option<Self> {
        (!self.are(&notes)).then(|| Self::of_parts(&notes))
    }

    fn are(&self, notes: &[Option<Parts<'_>>; COUNT]) -> bool {
        let Some((mask, mut rest)) = self.0.as_deref().and_then(<[u8]>::split_first) else {
            return notes.iter().all(Option::is_none);
        };
        if *mask != mask_of(notes) {
            return false;
        }
        for [head, tail] in notes.iter().flatten() {
            let Some((note, behind)) = split_note(rest) else { return false };
            if note.strip_prefix(*head) != Some(*tail) {
                return false;
            }
            rest = behind;
        }
        true
    }

    fn of_parts(notes: &[Option<Parts<'_>>; COUNT]) -> Self {
        let total = 1 + notes.iter().flatten().map(|parts| 1 + len(parts)).sum::<usize>();
        if total == 1 {
            return Self(None);
        }
        // One allocation, because the length is known.
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, total).collect();
        if let Some(bytes) = Arc::get_mut(&mut bytes) {
            bytes[0] = mask_of(notes);
            let mut at = 1;
            for parts in notes.iter().flatten() {
                // At most LONGEST.
                bytes[at] = len(parts) as u8;
                at += 1;
                for part in parts {
                    bytes[at..at + part.len()].copy_from_slice(part);
                    at += part.len();
                }
            }
        }
        Self(Some(bytes))
    }

    fn get(&self, wanted: Note) -> Option<&[u8]> {
        self.all()[wanted as usize]
    }

    /// All notes, in the order of [`Note`].
    fn all(&self) -> [Option<&[u8]>; COUNT] {
        let mut all = [None; COUNT];
        let Some((mask, mut rest)) = self.0.as_deref().and_then(<[u8]>::split_first) else {
            return all;
        };
        for (bit, place) in all.iter_mut().enumerate() {
            if mask >> bit & 1 == 1
                && let Some((note, behind)) = split_note(rest)
            {
                (*place, rest) = (Some(note), behind);
            }
        }
        all
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.escape_ascii().to_string());
        f.debug_struct("Notes")
            .field("client_id", &text(self.client_id()))
            .field("hostname", &text(self.hostname()))
            .field("circuit_id", &text(self.circuit_id()))
            .field("remote_id", &text(self.remote_id()))
            .field("hardware", &text(self.get(Note::Hardware)))
            .field("admission", &self.admission())
            .field("scope", &self.scope())
            .finish()
    }
}

/// The first of several notes, each of which stands behind its length, and the others.
fn split_note(notes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, behind) = notes.split_first()?;
    behind.split_at_checked(usize::from(*length))
}

fn admission(bytes: &[u8]) -> Option<Admission<'_>> {
    let (tag, rest) = bytes.split_first()?;
    match *tag {
        POOL_IPV4 => pool::<4>(rest, false),
        POOL_IPV6 => pool::<16>(rest, false),
        tag if tag == POOL_IPV4 + WITH_BILL => pool::<4>(rest, true),
        tag if tag == POOL_IPV6 + WITH_BILL => pool::<16>(rest, true),
        HOST => known_as(rest).map(Admission::Host),
        _ => None,
    }
}

fn pool<const N: usize>(bytes: &[u8], billed: bool) -> Option<Admission<'_>>
where
    IpAddr: From<[u8; N]>,
{
    let (low, rest) = bytes.split_first_chunk::<N>()?;
    let (high, mut rest) = rest.split_first_chunk::<N>()?;
    let mut bill = None;
    if billed {
        let (key, behind) = rest.split_first_chunk()?;
        let (limit, behind) = behind.split_first_chunk()?;
        let (key, limit) = (u64::from_be_bytes(*key), u32::from_be_bytes(*limit));
        (bill, rest) = (Some(Bill { key, limit }), behind);
    }
    let host = if rest.is_empty() { None } else { Some(known_as(rest)?) };
    Some(Admission::Pool { low: IpAddr::from(*low), high: IpAddr::from(*high), host, bill })
}

fn known_as(bytes: &[u8]) -> Option<KnownAs<'_>> {
    let (kind, mut name) = bytes.split_first()?;
    let mut key = None;
    if kind & WITH_KEY != 0 {
        let (hash, rest) = name.split_first_chunk()?;
        (key, name) = (Some(KeyHash(u64::from_be_bytes(*hash))), rest);
    }
    let by = KeyKind::from_number(kind & !WITH_KEY)?;
    Some(KnownAs { name: std::str::from_utf8(name).ok()?, by, key })
}

/// Writes an admission into `room`; empty is [`Admission::Unknown`]. A host entry whose name is too
/// long is left out: what is left of a reservation is [`Admission::Unknown`].
fn write_admission<'r>(admission: Admission<'_>, room: &'r mut [u8; LONGEST]) -> &'r [u8] {
    let mut room = Room::new(room);
    let bill = admission.bill().map(|Bill { key, limit }| (key.to_be_bytes(), limit.to_be_bytes()));
    let with_bill = if bill.is_some() { WITH_BILL } else { 0 };
    let (pool, host): (&[&[u8]], _) = match admission {
        Admission::Unknown => (&[], None),
        Admission::Pool { low: IpAddr::V4(low), high: IpAddr::V4(high), host, .. } => {
            (&[&[POOL_IPV4 + with_bill], &low.octets(), &high.octets()], host)
        }
        Admission::Pool { low, high, host, .. } => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            (&[&[POOL_IPV6 + with_bill], &octets(low), &octets(high)], host)
        }
        Admission::Host(host) => (&[], Some(host)),
    };
    room.push(pool);
    if let Some((key, limit)) = &bill {
        room.push(&[key, limit]);
    }
    if let Some(KnownAs { name, by, key }) = host {
        let tag: &[u8] = if pool.is_empty() { &[HOST] } else { &[] };
        match key {
            Some(KeyHash(hash)) => {
                room.push(&[tag, &[by as u8 | WITH_KEY], &hash.to_be_bytes(), name.as_bytes()])
            }
            None => room.push(&[tag, &[by as u8], name.as_bytes()]),
        };
    }
    room.done()
}

/// A note in two pieces, at most [`LONGEST`] bytes.
type Parts<'n> = [&'n [u8]; 2];

fn whole(note: &[u8]) -> Parts<'_> {
    [note, &[]]
}

fn len([head, tail]: &Parts<'_>) -> usize {
    head.len() + tail.len()
}

/// A note, unless it is empty.
fn some(note: &[u8]) -> Option<&[u8]> {
    Some(note).filter(|note| !note.is_empty())
}

/// The bits of the notes that there are.
fn mask_of(notes: &[Option<Parts<'_>>; COUNT]) -> u8 {
    let bits = notes.iter().enumerate().map(|(bit, note)| u8::from(note.is_some()) << bit);
    bits.fold(0, |mask, bit| mask | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn said<'a>(circuit_id: Option<&'a [u8]>, relay: RelaySaid) -> Said<'a> {
        Said { circuit_id, hostname: Some(b"n01"), relay, ..Said::default() }
    }

    /// The notes after a message of one machine.
    fn after(notes: &Notes, said: Said<'_>, admission: Admission<'_>) -> Notes {
        let hardware = Hardware::ethernet(HARDWARE);
        let key = ClientKey::hardware(&hardware);
        let mut notes = notes.clone();
        notes.update(&Client { key: &key, hardware, notes: said }, admission);
        notes
    }

    #[test]
    fn what_the_relay_agent_said_holds_on_past_it_and_not_where_it_is_asked_again() {
        let relayed = after(&Notes::default(), said(Some(b"port7"), RelaySaid::All), POOL);
        assert_eq!(relayed.circuit_id(), Some(&b"port7"[..]));
        let renewed = after(&relayed, said(None, RelaySaid::Kept), POOL);
        assert!(Arc::ptr_eq(relayed.0.as_ref().unwrap(), renewed.0.as_ref().unwrap()));
        let moved = after(&renewed, said(None, RelaySaid::All), POOL);
        assert_eq!((moved.circuit_id(), moved.hostname()), (None, Some(&b"n01"[..])));
        let silent = Said { relay: RelaySaid::All, ..Said::default() };
        assert_eq!(after(&moved, silent, POOL).hostname(), Some(&b"n01"[..]));
    }

    const POOL: Admission<'_> = Admission::Pool {
        low: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
        high: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9)),
        host: None,
        bill: None,
    };

    #[test]
    fn every_admission_is_read_as_it_was_written() {
        let v6 = |text: &str| IpAddr::V6(text.parse().unwrap());
        let by_port = KnownAs { name: "r1-n07", by: KeyKind::Circuit, key: None };
        let by_uuid = KnownAs { by: KeyKind::Uuid, key: Some(KeyHash::of(&[7; 16])), ..by_port };
        let by_option = KnownAs { by: KeyKind::Option, ..by_uuid };
        let mut all = vec![Admission::Unknown];
        for host in [None, Some(by_port), Some(by_uuid), Some(by_option)] {
            let (low, high) = (v6("2001:db8::1"), v6("2001:db8::ff"));
            for bill in [None, Some(Bill::new("class", Some(b"value"), 3))] {
                all.push(Admission::Pool { low, high, host, bill });
                let (low, high) = ([10, 0, 0, 1].into(), [10, 0, 0, 9].into());
                all.push(Admission::Pool { low, high, host, bill });
            }
            all.extend(host.map(Admission::Host));
        }
        let mut notes = Notes::default();
        for admission in all {
            notes = after(&notes, said(Some(b"port7"), RelaySaid::All), POOL);
            notes.set_admission(admission);
            assert_eq!((notes.admission(), notes.circuit_id()), (admission, Some(&b"port7"[..])));
            assert_eq!(notes, after(&notes, said(None, RelaySaid::Kept), admission));
        }
        let name = "n".repeat(250);
        let long = KnownAs { name: &name, ..by_uuid };
        notes.set_admission(Admission::Host(long));
        assert_eq!(notes.admission(), Admission::Unknown);
        let Admission::Pool { low, high, .. } = POOL else { unreachable!() };
        notes.set_admission(Admission::Pool { low, high, host: Some(long), bill: None });
        assert_eq!(notes.admission(), POOL);
    }

    #[test]
    fn hardware_is_noted_only_where_the_identity_is_something_else() {
        let hardware = Hardware::ethernet(HARDWARE);
        let by_hardware = ClientKey::hardware(&hardware);
        let notes = Notes::new(&by_hardware, hardware, [None; 4], Admission::Unknown);
        assert_eq!((&notes, notes.hardware(&by_hardware)), (&Notes::default(), hardware));
        let by_id = ClientKey::client_id(b"n01");
        let notes = Notes::new(&by_id, hardware, [None; 4], Admission::Unknown);
        assert_eq!(notes.hardware(&by_id), hardware);
        assert_eq!(Notes::default().hardware(&by_id), Hardware::default());
    }

    #[test]
    fn what_is_too_long_is_not_remembered() {
        let huge = [0; Notes::LIMIT + 1];
        let too_long = Said { hostname: Some(&huge), ..Said::default() };
        assert_eq!(after(&Notes::default(), too_long, Admission::Unknown), Notes::default());
        let port = [7; LONGEST];
        let said = Said { circuit_id: Some(&port), remote_id: Some(&port), ..Said::default() };
        let notes = after(&Notes::default(), said, POOL);
        assert_eq!((notes.circuit_id(), notes.remote_id()), (Some(&port[..]), Some(&port[..])));
    }
}
