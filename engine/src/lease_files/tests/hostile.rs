//! Files of any content.

use std::io::{self, BufReader, Read};
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::super::read::read_from;
use super::super::{Binding, Entry, FileTime, Format, Item};
use super::formats::{items, leases, written};
use crate::leases::Hardware;

fn bytes(longest: usize) -> impl Strategy<Value = Option<Box<[u8]>>> {
    let bytes = proptest::collection::vec(any::<u8>(), 1..=longest).prop_map(Box::from);
    proptest::option::of(bytes)
}

fn time() -> impl Strategy<Value = FileTime> {
    prop_oneof![9 => (0..4_000_000_000_u64).prop_map(FileTime), 1 => Just(FileTime::NEVER)]
}

prop_compose! {
    fn entry()(
        ip in any::<u32>(),
        binding in prop_oneof![
            Just(Binding::Active), Just(Binding::Released), Just(Binding::Expired),
            Just(Binding::Abandoned), Just(Binding::Free), Just(Binding::Backup),
        ],
        starts in 0..2_000_000_000_u64,
        ends in time(),
        card in proptest::option::of(any::<[u8; 6]>()),
        client_id in bytes(40),
        hostname in proptest::option::of("[ -~]{1,40}"),
        circuit_id in bytes(20),
        remote_id in bytes(20),
        reserved in any::<bool>(),
    ) -> Entry {
        let starts = Some(FileTime(starts));
        Entry {
            binding,
            starts,
            ends: Some(ends),
            cltt: starts,
            hardware: card.map(Hardware::ethernet),
            client_id,
            hostname: hostname.map(|name| name.into_bytes().into()),
            circuit_id,
            remote_id,
            reserved,
            ..Entry::new(Ipv4Addr::from(ip))
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(entry in entry()) {
        let text = written(Format::Csv, std::slice::from_ref(&entry));
        prop_assert_eq!(&leases(text.as_bytes()), std::slice::from_ref(&entry), "{}", text);
        let held = matches!(entry.binding, Binding::Active | Binding::Abandoned);
        let binding = if held { entry.binding } else { Binding::Free };
        let text = written(Format::Dhcpd, std::slice::from_ref(&entry));
        prop_assert_eq!(&leases(text.as_bytes())[0], &Entry { binding, ..entry }, "{}", text);
    }

    #[test]
    fn what_is_written_for_kea_is_read(entry in entry()) {
        let text = written(Format::Kea, std::slice::from_ref(&entry));
        let read = leases(text.as_bytes()).remove(0);
        prop_assert_eq!(read.ip, entry.ip);
        if entry.binding != Binding::Abandoned {
            prop_assert_eq!(read.hardware, entry.hardware);
            prop_assert_eq!(read.client_id, entry.client_id);
            prop_assert_eq!(read.circuit_id, entry.circuit_id);
            prop_assert_eq!(read.remote_id, entry.remote_id);
        }
        if entry.ends > entry.starts {
            prop_assert_eq!(read.ends, entry.ends);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        start in prop_oneof![
            Just(""), Just("lease 10.0.0.1 {\n"), Just("host a {\n"), Just("ip,state\n"),
            Just("address,hwaddr,client_id,valid_lifetime,expire,hostname,state\n"),
        ],
        rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut text = start.as_bytes().to_vec();
        text.extend(rest);
        let _ = items(&text);
    }

    /// Words, marks and ends in any order, which get further than bytes do.
    #[test]
    fn no_statements_make_it_panic(words in proptest::collection::vec(prop_oneof![
        Just("lease"), Just("10.0.0.1"), Just("{"), Just("}"), Just(";"), Just("="), Just(","),
        Just("starts"), Just("6"), Just("2026/11/28"), Just("02:00:00"), Just("never"),
        Just("epoch"), Just("99999999999999999999"), Just("binding"), Just("state"), Just("active"),
        Just("hardware"), Just("ethernet"), Just("1:2:3"), Just("uid"), Just("\"\\001\\x1\\9"),
        Just("\""), Just("set"), Just("a"), Just("%"), Just("option"), Just("agent.circuit-id"),
        Just("billing"), Just("subclass"), Just("host"), Just("deleted"), Just("\n"), Just("#"),
        Just("failover"), Just("-9223372036854775809/1/1"), Just("\0"),
    ], 0..40)) {
        let _ = items(words.join(" ").as_bytes());
    }

    #[test]
    fn a_file_that_is_cut_off_keeps_what_stands_before(
        entries in proptest::collection::vec(entry(), 1..4),
        at in any::<prop::sample::Index>(),
    ) {
        let text = written(Format::Dhcpd, &entries);
        let cut = &text.as_bytes()[..at.index(text.len())];
        let whole = text.match_indices("\n}\n").filter(|(end, _)| end + 2 <= cut.len()).count();
        let read = items(cut).unwrap().1;
        let torn = read.iter().filter(|item| matches!(item, Item::Torn { .. })).count();
        let leases = read.iter().filter(|item| matches!(item, Item::Lease(_))).count();
        prop_assert_eq!(leases, whole);
        let rest = cut.rsplitn(2, |byte| *byte == b'}').next().unwrap_or_default();
        let in_lease = rest.windows(7).any(|word| word == b"\nlease ");
        prop_assert!(torn <= 1 && (torn == 1 || !in_lease), "{}", text);
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(
        entry in entry(),
        format in prop_oneof![Just(Format::Dhcpd), Just(Format::Kea), Just(Format::Csv)],
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        let mut text = written(format, &[entry.clone(), entry]).into_bytes();
        let at = at.index(text.len());
        text[at] = with;
        let _ = items(&text);
    }
}

/// A statement without an end takes no memory without an end.
#[test]
fn what_has_no_end_is_refused() {
    for endless in ["lease ", "lease 10.0.0.1 { uid \"", "lease 10.0.0.1 { set a = b, ", "ip,"] {
        let mut text = endless.to_owned();
        text.extend(std::iter::repeat_n("a,", 100_000));
        let error = items(text.as_bytes()).unwrap_err();
        assert_eq!(error.line, Some(1), "{error:?}");
    }
}

/// What a lease or a host may say has limits.
#[test]
fn what_one_declaration_says_has_limits() {
    let many = |start: &str, each: &dyn Fn(usize) -> String| {
        let text: String = (0..100_000).map(each).collect();
        items(format!("{start} {{ {text} }}").as_bytes()).unwrap_err().what
    };
    let what = many("lease 10.0.0.1", &|number| format!("set v{number} = %1; "));
    assert!(what.contains("more than 1024"), "{what}");
    let what = many("lease 10.0.0.1", &|_| "billing class \"a\"; ".to_owned());
    assert!(what.contains("more than 1024"), "{what}");
    let what = many("host a", &|_| "filename \"a\"; ".to_owned());
    assert!(what.contains("have no end"), "{what}");
}

/// A file without end, of which nothing is kept.
struct Endless {
    block: Vec<u8>,
    at: usize,
    left: usize,
}

impl Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let rest = &self.block[self.at..];
        let length = rest.len().min(out.len()).min(self.left);
        out[..length].copy_from_slice(&rest[..length]);
        self.at = (self.at + length) % self.block.len();
        self.left -= length;
        Ok(length)
    }
}

#[test]
fn a_large_file_takes_as_much_memory_as_one_lease() {
    let entry =
        Entry { client_id: Some(vec![0; 1000].into()), ..Entry::new(Ipv4Addr::new(10, 0, 0, 1)) };
    for format in [Format::Dhcpd, Format::Csv, Format::Kea] {
        let text = written(format, &[entry.clone(), entry.clone()]);
        let start = text.find(if format == Format::Dhcpd { "\nlease " } else { "\n10." }).unwrap();
        let (head, block) = text.split_at(start);
        let block = block.as_bytes().to_vec();
        let endless = Endless { at: 0, left: 2 << 20, block };
        let mut count = 0;
        let read = allocation_counter::measure(|| {
            let input = BufReader::new(head.as_bytes().chain(endless));
            read_from(input, &mut |_| count += 1).unwrap();
        });
        assert!(count > 500 && read.bytes_max < 1 << 20, "{format:?} {count} {read:?}");
    }
}

/// Blocks in blocks take no stack.
#[test]
fn nesting_has_no_cost() {
    let text = format!("lease 10.0.0.1 {{ {} ", "on expiry { ".repeat(300_000));
    assert_eq!(items(text.as_bytes()).unwrap().1.len(), 1);
}
