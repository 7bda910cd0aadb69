//! Leases as they lie on disk.
//!
//! Value, version 1, numbers big-endian:
//! ```text
//! version 1 | state 1 | boot id 16 | starts, expires: nanoseconds since boot 8 8 |
//! starts, expires: seconds since 1970 8 8 | key kind 1 | key length 2, key |
//! htype 1 | hardware address length 1, address | notes: a bit for each that follows 1 |
//! each note: length 1, bytes
//! ```
//! Both clocks are written down. While the machine is up the monotonic one counts, so a step of the
//! wall clock neither ends a lease nor prolongs it; after a reboot there is only the wall clock
//! (`Clocks::times`).

use std::net::{IpAddr, Ipv4Addr};

use bootstorm_protocols::time::Moment;

use super::clock::Clocks;
use super::key::address;
use super::{BootId, ClientKey, Clock, Hardware, KeyKind, Lease, LeaseState, Notes};

const VERSION: u8 = 1;
/// Longest record with notes: below the smallest unit that a disk writes whole, so that no power
/// cut can leave half of a short record with its end intact. Notes that do not fit are left out.
const LONGEST: usize = 480;

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
    out.push(VERSION);
    out.push(lease.state as u8);
    out.extend_from_slice(&clock.boot.0);
    for moment in [lease.starts, lease.expires] {
        out.extend_from_slice(&moment.as_nanos().to_be_bytes());
    }
    for moment in [lease.starts, lease.expires] {
        out.extend_from_slice(&clock.wall_at(moment).to_be_bytes());
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
    let mask_at = out.len();
    out.push(0);
    let Some(notes) = &lease.notes else { return };
    for (bit, note) in notes.list().into_iter().enumerate() {
        let Some(note) = note else { continue };
        let Ok(length) = u8::try_from(note.len()) else { continue };
        if out.len() + 1 + note.len() - start <= LONGEST {
            out[mask_at] |= 1 << bit;
            out.push(length);
            out.extend_from_slice(note);
        }
    }
}

/// Reads a record; `network` of the lease is left open.
pub(super) fn decode(key: &[u8], value: &[u8], clocks: &Clocks) -> Result<Lease, CorruptRecord> {
    let corrupt = |why: &str| CorruptRecord::new(key, why);
    let Some(IpAddr::V4(ip)) = address(key) else {
        return Err(corrupt("the key is no IPv4 address"));
    };
    let mut fields = Fields(value);
    match fields.u8() {
        Some(VERSION) => {}
        Some(other) => {
            return Err(corrupt(&format!(
                "its version is {other}, and this program reads version {VERSION} only"
            )));
        }
        None => return Err(corrupt("it is empty")),
    }
    let lease = fields.rest(ip, clocks).ok_or_else(|| corrupt("it is cut short or damaged"))?;
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

    fn rest(&mut self, ip: Ipv4Addr, clocks: &Clocks) -> Option<Lease> {
        let state = LeaseState::from_number(self.u8()?)
            .filter(|state| !matches!(state, LeaseState::Offered | LeaseState::Expired))?;
        let boot = BootId(self.array()?);
        let monotonic = [self.u64()?, self.u64()?].map(Moment::from_nanos);
        let wall = [self.u64()?, self.u64()?];
        let kind = KeyKind::from_number(self.u8()?)?;
        let length = self.array().map(u16::from_be_bytes)?;
        let client = ClientKey::new(kind, self.bytes(length.into())?);
        let htype = self.u8()?;
        let length = self.u8().filter(|length| *length <= 16)?;
        let hardware = Hardware::new(htype, self.bytes(length.into())?);
        let mask = self.u8().filter(|mask| *mask < 16)?;
        let mut note = |bit: u8| -> Option<Option<Box<[u8]>>> {
            if mask & 1 << bit == 0 {
                return Some(None);
            }
            let length = self.u8()?;
            Some(Some(self.bytes(length.into())?.into()))
        };
        let notes = Notes {
            client_id: note(0)?,
            hostname: note(1)?,
            circuit_id: note(2)?,
            remote_id: note(3)?,
        };
        let [starts, expires] = clocks.times(boot, monotonic, wall);
        let notes = (mask != 0).then(|| notes.into());
        Some(Lease { ip, network: None, client, hardware, state, starts, expires, notes })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::key::Key;
    use super::*;

    const TAG_IPV4: u8 = 4;

    const CLOCK: Clock = Clock {
        now: Moment::from_nanos(5_000_000_000_000),
        wall: 1_800_000_000,
        boot: BootId([1; 16]),
        synchronised: true,
    };

    fn note() -> impl Strategy<Value = Option<Box<[u8]>>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Into::into))
    }

    prop_compose! {
        fn lease()(
            ip in any::<u32>(),
            key in proptest::collection::vec(any::<u8>(), 0..60),
            hardware in proptest::collection::vec(any::<u8>(), 0..=16),
            state in prop::sample::select(vec![LeaseState::Active, LeaseState::Released, LeaseState::Declined]),
            starts in 0..10_000_000_000_000_u64,
            length in prop::option::of(0..10_000_000_000_000_u64),
            notes in (note(), note(), note(), note()),
        ) -> Lease {
            let (client_id, hostname, circuit_id, remote_id) = notes;
            let notes = Notes { client_id, hostname, circuit_id, remote_id };
            Lease {
                ip: Ipv4Addr::from_bits(ip),
                network: None,
                client: ClientKey::client_id(&key),
                hardware: Hardware::new(1, &hardware),
                state,
                starts: Moment::from_nanos(starts),
                expires: length.map_or(Moment::NEVER, |length| Moment::from_nanos(starts + length)),
                notes: (notes != Notes::default()).then(|| notes.into()),
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
            prop_assert_eq!(decode(&Key::of(lease.ip.into()), &value, &Clocks::new(later)), Ok(lease));
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
            prop_assert!(decode(&Key::of(lease.ip.into()), &value[..cut], &Clocks::new(CLOCK)).is_err());
        }

        #[test]
        fn after_a_reboot_the_wall_clock_counts(lease in lease(), down in 0..5_000_u64) {
            let value = encoded(&lease, &CLOCK);
            // Up for 100 seconds since.
            let now = Moment::from_nanos(100_000_000_000);
            let clock = Clock { now, wall: CLOCK.wall + down, boot: BootId([2; 16]), synchronised: true };
            let read = decode(&Key::of(lease.ip.into()), &value, &Clocks::new(clock)).unwrap();
            if lease.expires == Moment::NEVER {
                prop_assert_eq!(read.expires, Moment::NEVER);
            } else {
                let left = lease.expires.since(CLOCK.now).saturating_sub(Duration::from_secs(down));
                let read_left = read.expires.since(now);
                let given = lease.expires.since(lease.starts);
                prop_assert!(read_left <= (left + Duration::from_secs(1)).min(given));
                prop_assert!(read_left >= left.min(given));
            }
            prop_assert!(read.starts <= now);
        }
    }

    #[test]
    fn a_clock_that_forgot_the_date_prolongs_no_lease() {
        let lease = Lease {
            ip: Ipv4Addr::new(10, 0, 0, 7),
            network: None,
            client: ClientKey::client_id(b"n01"),
            hardware: Hardware::ethernet([2, 0, 0, 0, 0, 1]),
            state: LeaseState::Active,
            starts: CLOCK.now,
            expires: CLOCK.now + Duration::from_secs(3600),
            notes: None,
        };
        let value = encoded(&lease, &CLOCK);
        let clock = Clock {
            now: Moment::from_nanos(7),
            wall: 0,
            boot: BootId([2; 16]),
            synchronised: true,
        };
        let read = decode(&Key::of(lease.ip.into()), &value, &Clocks::new(clock)).unwrap();
        assert_eq!(read.expires.since(clock.now), Duration::from_secs(3600));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_named() {
        let error = decode(&[TAG_IPV4, 10, 0, 0, 7], &[9, 2], &Clocks::new(CLOCK)).unwrap_err();
        assert_eq!(error.ip, Some(IpAddr::from([10, 0, 0, 7])));
        assert_eq!(
            error.to_string(),
            "the lease record with key 10.0.0.7 cannot be read: its version is 9, and this \
             program reads version 1 only"
        );
        let error = decode(&[6, 0xfe], &[], &Clocks::new(CLOCK)).unwrap_err();
        assert_eq!((error.key.as_str(), error.ip), ("06fe", None));
    }

    #[test]
    fn notes_that_do_not_fit_are_left_out() {
        let note = || Some(vec![7; Notes::LIMIT].into());
        let notes =
            Notes { client_id: note(), hostname: note(), circuit_id: note(), remote_id: note() };
        let lease = Lease {
            ip: Ipv4Addr::new(10, 0, 0, 7),
            network: None,
            client: ClientKey::client_id(&[3; 60]),
            hardware: Hardware::ethernet([2, 0, 0, 0, 0, 1]),
            state: LeaseState::Active,
            starts: CLOCK.now,
            expires: Moment::NEVER,
            notes: Some(notes.into()),
        };
        let value = encoded(&lease, &CLOCK);
        assert!(value.len() <= LONGEST);
        let read =
            decode(&Key::of(lease.ip.into()), &value, &Clocks::new(CLOCK)).unwrap().notes.unwrap();
        assert!(read.circuit_id.is_some() && read.remote_id.is_none());
    }
}
