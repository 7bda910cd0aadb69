//! Leases as they lie on disk.
//!
//! Value, version 4, numbers big-endian; moments are nanoseconds since boot, wall times are seconds
//! since 1970:
//! ```text
//! version 1 | state 1 | flags 1: 1 refused, 2 told of an end | boot id 16 |
//! moments: starts 8, expires 8 | wall times: starts 8, expires 8 |
//! if told of an end: its moment 8, its wall time 8 |
//! key kind 1 | key length 2, key | htype 1 | hardware address length 1, address |
//! admission: length 1, bytes |
//! scope: length 1, bytes |
//! notes: a bit for each that follows 1 | each note: length 1, bytes
//! ```
//! An admission is nothing; or `4` and first and last address of an IPv4 pool, and perhaps a host
//! entry; `6` and the same of IPv6; `5` and `7` the same with a bill, 12 bytes, behind the
//! addresses; `1` and a host entry. A host entry is the kind of the key that
//! it was found by, `0x80` added if the hash of that key follows in 8 bytes
//! ([`KeyHash`](super::KeyHash)), and its name.
//! A scope is what the configuration keeps on the lease (`scope`). A lease without one is written
//! in version 3, which is the same without it.
//! Version 2 has no hashes, and no host entries of pools. Version 1 has neither flags nor
//! admission, nor an end that was told.
//!
//! Both clocks are written down. While the machine is up the monotonic one counts, so a step of the
//! wall clock neither ends a lease nor prolongs it; after a reboot there is only the wall clock,
//! where it was synchronised (`Clocks::times`).

use std::net::IpAddr;

use bootstorm_protocols::time::Moment;

use super::clock::Clocks;
use super::key::address;
use super::{BootId, ClientKey, Clock, Hardware, KeyKind, Lease, LeaseState, Notes};

const VERSION: u8 = 4;
/// Without scope.
const PLAIN_VERSION: u8 = 3;
/// Without admission, and what belongs to it.
const FIRST_VERSION: u8 = 1;

const REFUSED: u8 = 1;
const TOLD: u8 = 2;

/// Longest record; notes that do not fit are left out. What a relay agent said fits, with the
/// longest hardware address, admission and scope, and a client identifier of usual length.
pub(super) const LONGEST: usize = 1216;

/// Longest record without notes: what comes before the key, key, hardware address, admission,
/// scope, and which notes there are.
const _: () = assert!(67 + 3 + ClientKey::LONGEST + 18 + 256 + 257 <= LONGEST);

/// Why a record cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the lease record with key {key} cannot be read: {why}")]
pub struct CorruptRecord {
    /// The address, or the bytes of the key in hexadecimal if it is none.
    pub key: String,
    /// The address, if the key is one.
    pub ip: Option<IpAddr>,
    /// What is wrong.
    pub why: String,
}

impl CorruptRecord {
    pub(super) fn new(key: &[u8], why: impl Into<String>) -> Self {
        let ip = address(key);
        let text = ip.map_or_else(
            || key.iter().map(|byte| format!("{byte:02x}")).collect(),
            |ip| ip.to_string(),
        );
        Self { key: text, ip, why: why.into() }
    }
}

/// Writes the value of a lease behind what `out` holds.
pub(super) fn encode(lease: &Lease, clock: &Clock, out: &mut Vec<u8>) {
    let start = out.len();
    let scope = lease.notes.stored_scope();
    out.push(if scope.is_empty() { PLAIN_VERSION } else { VERSION });
    out.push(lease.state as u8);
    let told = lease.told.map_or(0, |_| TOLD);
    out.push(told | if lease.refused { REFUSED } else { 0 });
    out.extend_from_slice(&clock.boot.0);
    for moment in [lease.starts, lease.expires] {
        out.extend_from_slice(&moment.as_nanos().to_be_bytes());
    }
    for moment in [lease.starts, lease.expires] {
        out.extend_from_slice(&clock.wall_at(moment).to_be_bytes());
    }
    if let Some(told) = lease.told {
        out.extend_from_slice(&told.as_nanos().to_be_bytes());
        out.extend_from_slice(&clock.wall_at(told).to_be_bytes());
    }
    let key = lease.client.bytes();
    // A message is never so long.
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    out.push(lease.client.kind() as u8);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&key[..usize::from(length)]);
    let hardware = lease.hardware.address();
    out.push(lease.hardware.htype());
    // At most 16.
    out.push(hardware.len() as u8);
    out.extend_from_slice(hardware);
    let admission = lease.notes.stored_admission();
    // A note is at most 255 bytes long.
    out.push(admission.len() as u8);
    out.extend_from_slice(admission);
    if !scope.is_empty() {
        // As above.
        out.push(scope.len() as u8);
        out.extend_from_slice(scope);
    }
    let stored = lease.notes.said();
    let mut room = LONGEST.saturating_sub(out.len() - start + 1);
    let mut mask = 0;
    // The port decides who the client is, so it is left out last.
    for bit in [2, 3, 0, 1] {
        let length = stored[bit].map(<[u8]>::len).filter(|length| *length < room);
        if let Some(length) = length {
            mask |= 1 << bit;
            room -= 1 + length;
        }
    }
    out.push(mask);
    let kept = stored.into_iter().enumerate().filter(|(bit, _)| mask & 1 << bit != 0);
    for note in kept.filter_map(|(_, note)| note) {
        // At most 255.
        out.push(note.len() as u8);
        out.extend_from_slice(note);
    }
}

/// Reads a record.
pub(super) fn decode(key: &[u8], value: &[u8], clocks: &Clocks) -> Result<Lease, CorruptRecord> {
    let corrupt = |why: &str| CorruptRecord::new(key, why);
    let ip = address(key).ok_or_else(|| corrupt("the key is no address"))?;
    let mut fields = Fields(value);
    let version = match fields.u8() {
        Some(version @ FIRST_VERSION..=VERSION) => version,
        Some(other) => {
            return Err(corrupt(&format!(
                "its version is {other}, and this program reads versions {FIRST_VERSION} to \
                 {VERSION}"
            )));
        }
        None => return Err(corrupt("it is empty")),
    };
    let lease =
        fields.rest(version, ip, clocks).ok_or_else(|| corrupt("it is cut short or damaged"))?;
    if !fields.0.is_empty() {
        return Err(corrupt("bytes follow its end"));
    }
    Ok(lease)
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn note(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.bytes(length.into())
    }

    fn rest(&mut self, version: u8, ip: IpAddr, clocks: &Clocks) -> Option<Lease> {
        let state = LeaseState::from_number(self.u8()?)
            .filter(|state| !matches!(state, LeaseState::Offered | LeaseState::Expired))?;
        let flags = if version == FIRST_VERSION { 0 } else { self.u8()? };
        let boot = BootId(self.array()?);
        let [begin, end] = [self.u64()?, self.u64()?].map(Moment::from_nanos);
        let [wall_begin, wall_end] = [self.u64()?, self.u64()?];
        let times = |end, wall_end| clocks.times(boot, [begin, end], [wall_begin, wall_end]);
        let [starts, expires] = times(end, wall_end);
        let told = match flags & TOLD {
            0 => None,
            _ => Some(times(Moment::from_nanos(self.u64()?), self.u64()?)[1]),
        };
        let kind = KeyKind::from_number(self.u8()?)?;
        let length = self.array().map(u16::from_be_bytes)?;
        let client = ClientKey::new(kind, self.bytes(length.into())?);
        let htype = self.u8()?;
        let length = self.u8().filter(|length| *length <= 16)?;
        let hardware = Hardware::new(htype, self.bytes(length.into())?);
        let admission = if version == FIRST_VERSION { &[][..] } else { self.note()? };
        let scope = if version <= PLAIN_VERSION { &[][..] } else { self.note()? };
        let mask = self.u8().filter(|mask| *mask < 16)?;
        let mut said = [None; 4];
        for (bit, said) in said.iter_mut().enumerate() {
            if mask & 1 << bit != 0 {
                *said = Some(self.note()?);
            }
        }
        let notes = Notes::of_record(&client, hardware, said, [admission, scope]);
        let refused = flags & REFUSED != 0;
        let pending = false;
        Some(Lease { ip, client, hardware, state, starts, expires, refused, told, pending, notes })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::address::Address;
    use super::super::key::Key;
    use super::*;
    use crate::config::{BlockKey, Value};
    use crate::leases::{Admission, KeyHash, KnownAs, LeaseScope, VARIABLE_BYTES, Variables};

    const TAG_IPV4: u8 = 4;

    const CLOCK: Clock = Clock {
        now: Moment::from_nanos(5_000_000_000_000),
        wall: 1_800_000_000,
        boot: BootId([1; 16]),
        synchronised: true,
    };

    fn known_as(name: &str) -> KnownAs<'_> {
        KnownAs { name, by: KeyKind::Uuid, key: Some(KeyHash::of(&[7; 16])) }
    }

    fn note() -> impl Strategy<Value = Option<Box<[u8]>>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Into::into))
    }

    prop_compose! {
        fn lease()(
            ip in prop_oneof![any::<u32>().prop_map(|ip| IpAddr::V4(ip.into())), any::<u128>().prop_map(|ip| Address::from_bits(ip).into())],
            host in prop::option::of("[a-z]{1,20}"),
            refused in any::<bool>(),
            told in prop::option::of(0..10_000_000_000_000_u64),
            key in proptest::collection::vec(any::<u8>(), 0..60),
            hardware in proptest::collection::vec(any::<u8>(), 0..=16),
            state in prop::sample::select(vec![LeaseState::Active, LeaseState::Released, LeaseState::Declined]),
            starts in 0..10_000_000_000_000_u64,
            length in prop::option::of(0..10_000_000_000_000_u64),
            notes in (note(), note(), note(), note()),
            variable in prop::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        ) -> Lease {
            let (client_id, hostname, circuit_id, remote_id) = &notes;
            let said = [client_id, hostname, circuit_id, remote_id].map(Option::as_deref);
            let admission = match &host {
                Some(name) if told.is_some() => Admission::Host(known_as(name)),
                Some(name) => {
                    let host = refused.then(|| known_as(name));
                    Admission::Pool { low: ip, high: ip, host, bill: None }
                }
                None => Admission::Unknown,
            };
            let client = ClientKey::client_id(&key);
            let hardware = Hardware::new(1, &hardware);
            let mut room = [0; VARIABLE_BYTES];
            let set = [("x", variable.as_deref().map(Value::Data))];
            let (variables, _) = Variables::default().with(set.into_iter(), &mut room);
            let expiry = refused.then_some(BlockKey(starts));
            let scope = LeaseScope { expiry, variables, ..LeaseScope::default() };
            Lease {
                ip,
                notes: Notes::new(&client, hardware, said, admission).with_scope(scope),
                client,
                hardware,
                state,
                starts: Moment::from_nanos(starts),
                expires: length.map_or(Moment::NEVER, |length| Moment::from_nanos(starts + length)),
                refused,
                told: told.map(|length| Moment::from_nanos(starts + length)),
                pending: false,
            }
        }
    }

    fn encoded(lease: &Lease, clock: &Clock) -> Vec<u8> {
        let mut out = Vec::new();
        encode(lease, clock, &mut out);
        out
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_while_the_machine_is_up(lease in lease(), step in any::<u32>()) {
            let value = encoded(&lease, &CLOCK);
            let later = Clock { now: CLOCK.now + Duration::from_secs(60), wall: step.into(), ..CLOCK };
            prop_assert_eq!(decode(&Key::of(lease.ip), &value, &Clocks::new(later)), Ok(lease));
        }

        #[test]
        fn no_bytes_make_it_panic(key in proptest::collection::vec(any::<u8>(), 0..8), value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&key, &value, &Clocks::new(CLOCK));
            let mut value = value;
            value.insert(0, VERSION);
            let _ = decode(&[TAG_IPV4, 10, 0, 0, 1], &value, &Clocks::new(CLOCK));
        }

        #[test]
        fn what_is_cut_short_is_corrupt(lease in lease(), cut in any::<prop::sample::Index>()) {
            let value = encoded(&lease, &CLOCK);
            let cut = cut.index(value.len());
            prop_assert!(decode(&Key::of(lease.ip), &value[..cut], &Clocks::new(CLOCK)).is_err());
        }

        #[test]
        fn after_a_reboot_the_wall_clock_counts(lease in lease(), down in 0..5_000_u64) {
            let value = encoded(&lease, &CLOCK);
            // Up for 100 seconds since.
            let now = Moment::from_nanos(100_000_000_000);
            let clock = Clock { now, wall: CLOCK.wall + down, boot: BootId([2; 16]), synchronised: true };
            let read = decode(&Key::of(lease.ip), &value, &Clocks::new(clock)).unwrap();
            if lease.expires == Moment::NEVER {
                prop_assert_eq!(read.expires, Moment::NEVER);
            } else {
                let left = lease.expires.since(CLOCK.now).saturating_sub(Duration::from_secs(down));
                let read_left = read.expires.since(now);
                let given = lease.expires.since(lease.starts);
                // Both clocks are written down in whole seconds.
                prop_assert!(read_left <= (left + Duration::from_secs(2)).min(given));
                prop_assert!(read_left >= left.min(given));
            }
            prop_assert!(read.starts <= now);
        }
    }

    /// A lease of one machine.
    fn golden(said: [Option<&[u8]>; 4], admission: Admission<'_>) -> Lease {
        let hardware = Hardware::ethernet([2, 0, 0, 0, 0, 1]);
        let client = ClientKey::hardware(&hardware);
        Lease {
            ip: IpAddr::from([10, 0, 0, 7]),
            notes: Notes::new(&client, hardware, said, admission),
            client,
            hardware,
            state: LeaseState::Active,
            starts: CLOCK.now,
            expires: CLOCK.now + Duration::from_secs(3600),
            refused: false,
            told: None,
            pending: false,
        }
    }

    /// The bytes that a number of hexadecimal digits mean.
    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap() as u8;
        hex.as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
    }

    const VERSION_1: &str = "\
        0102010101010101010101010101010101010000048c27395000000007d257f1f000000000006b49\
        d200000000006b49e010010007010200000000010106020000000001070701020000000001036e30\
        3105706f727437";

    const VERSION_2: &str = "\
        020203010101010101010101010101010101010000048c27395000ffffffffffffffff000000006b\
        49d200ffffffffffffffff0000049a1f80a800000000006b49d23c01000701020000000001010602\
        000000000108010372312d6e30370a036e30310773776974636831";

    const VERSION_3: &str = "\
        030200010101010101010101010101010101010000048c27395000000007d257f1f000000000006b49\
        d200000000006b49e010010007010200000000010106020000000001100183fe8a7fec7d80ca737231\
        2d6e30370a036e30310773776974636831";

    const VERSION_4: &str = "\
        040200010101010101010101010101010101010000048c27395000000007d257f1f000000000006b49\
        d200000000006b49e010010007010200000000010106020000000001100183fe8a7fec7d80ca737231\
        2d6e30371601000000000000002a0269700308\
        31302e302e302e370a036e30310773776974636831";

    /// What older versions wrote is read for ever, and what is written never changes its meaning.
    #[test]
    fn the_bytes_of_every_version() {
        let id = [1, 2, 0, 0, 0, 0, 1];
        let first = golden([Some(&id), Some(b"n01"), Some(b"port7"), None], Admission::Unknown);
        let key = Key::of(first.ip);
        assert_eq!(decode(&key, &bytes(VERSION_1), &Clocks::new(CLOCK)), Ok(first));
        let unproven = KnownAs { key: None, ..known_as("r1-n07") };
        let admission = Admission::Host(unproven);
        let second = Lease {
            expires: Moment::NEVER,
            refused: true,
            told: Some(CLOCK.now + Duration::from_secs(60)),
            ..golden([None, Some(b"n01"), None, Some(b"switch1")], admission)
        };
        assert_eq!(decode(&key, &bytes(VERSION_2), &Clocks::new(CLOCK)), Ok(second));
        let admission = Admission::Host(known_as("r1-n07"));
        let third = golden([None, Some(b"n01"), None, Some(b"switch1")], admission);
        assert_eq!(decode(&key, &bytes(VERSION_3), &Clocks::new(CLOCK)), Ok(third.clone()));
        // What has no scope is written as before, so that the version before reads it.
        assert_eq!(encoded(&third, &CLOCK), bytes(VERSION_3));
        let mut room = [0; VARIABLE_BYTES];
        let set = [("ip", Some(Value::Data(b"10.0.0.7")))];
        let (variables, _) = Variables::default().with(set.into_iter(), &mut room);
        let scope = LeaseScope { expiry: Some(BlockKey(42)), release: None, variables };
        let fourth = Lease { notes: third.notes.clone().with_scope(scope), ..third };
        assert_eq!(decode(&key, &bytes(VERSION_4), &Clocks::new(CLOCK)), Ok(fourth.clone()));
        assert_eq!(encoded(&fourth, &CLOCK), bytes(VERSION_4));
    }

    #[test]
    fn a_clock_that_forgot_the_date_prolongs_no_lease() {
        let lease = Lease {
            ip: IpAddr::from([10, 0, 0, 7]),
            client: ClientKey::client_id(b"n01"),
            hardware: Hardware::ethernet([2, 0, 0, 0, 0, 1]),
            state: LeaseState::Active,
            starts: CLOCK.now,
            expires: CLOCK.now + Duration::from_secs(3600),
            refused: false,
            told: None,
            pending: false,
            notes: Notes::default(),
        };
        let value = encoded(&lease, &CLOCK);
        let clock = Clock {
            now: Moment::from_nanos(7),
            wall: 0,
            boot: BootId([2; 16]),
            synchronised: true,
        };
        let read = decode(&Key::of(lease.ip), &value, &Clocks::new(clock)).unwrap();
        assert_eq!(read.expires.since(clock.now), Duration::from_secs(3600));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_named() {
        let error = decode(&[TAG_IPV4, 10, 0, 0, 7], &[9, 2], &Clocks::new(CLOCK)).unwrap_err();
        assert_eq!(error.ip, Some(IpAddr::from([10, 0, 0, 7])));
        assert_eq!(
            error.to_string(),
            "the lease record with key 10.0.0.7 cannot be read: its version is 9, and this \
             program reads versions 1 to 4"
        );
        let error = decode(&[6, 0xfe], &[], &Clocks::new(CLOCK)).unwrap_err();
        assert_eq!((error.key.as_str(), error.ip), ("06fe", None));
    }

    #[test]
    fn notes_that_do_not_fit_are_left_out() {
        let (client, hardware) =
            (ClientKey::client_id(&[3; 200]), Hardware::ethernet([2, 0, 0, 0, 0, 1]));
        let name = "n".repeat(100);
        let admission = Admission::Host(known_as(&name));
        let (note, port) = ([7; Notes::LIMIT], [7; 255]);
        let said = [Some(&note[..]), Some(&note), Some(&port), Some(&port)];
        let mut room = [0; VARIABLE_BYTES];
        let set = [("x", Some(Value::Data(&[7; VARIABLE_BYTES - 4])))];
        let (variables, _) = Variables::default().with(set.into_iter(), &mut room);
        let block = Some(BlockKey(1));
        let scope = LeaseScope { expiry: block, release: block, variables };
        let notes = Notes::new(&client, hardware, said, admission).with_scope(scope);
        let lease = Lease {
            ip: IpAddr::from([10, 0, 0, 7]),
            client,
            hardware,
            state: LeaseState::Active,
            starts: CLOCK.now,
            expires: Moment::NEVER,
            refused: false,
            told: None,
            pending: false,
            notes,
        };
        let value = encoded(&lease, &CLOCK);
        assert!(value.len() <= LONGEST);
        let read = decode(&Key::of(lease.ip), &value, &Clocks::new(CLOCK)).unwrap().notes;
        assert_eq!((read.circuit_id(), read.remote_id()), (Some(&port[..]), Some(&port[..])));
        assert_eq!((read.client_id(), read.hostname()), (None, None));
        assert_eq!((read.admission(), read.scope()), (admission, scope));
    }
}
