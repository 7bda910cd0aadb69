//! From files to the lease store.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use bootstorm_protocols::time::Moment;

use super::super::{
    Billings, Entry, Existing, Format, ImportError, Imported, Report, Store, Taken, broken_off,
};
use super::formats;
use crate::config::{self, Config};
use crate::leases::{
    Admission, Bill, BootId, ClientKey, Clock, Hardware, Lease, LeaseState, Loaded, StatePlace,
};

/// 2026-11-28, 12:00:00 UTC, a day after the host was started.
const CLOCK: Clock = Clock {
    now: Moment::from_nanos(86_400_000_000_000),
    wall: 1_795_867_200,
    boot: BootId([1; 16]),
    synchronised: true,
};

fn config(identity: &str) -> Config {
    let text = format!(
        "[dhcp]\nidentity = \"{identity}\"\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/16\"\n\
         pools = [\"10.0.0.10-10.0.0.250\"]\n\
         [[dhcp.host]]\nname = \"n9\"\nhardware = \"52:54:00:00:00:09\"\nip = \"10.0.1.9\"\n"
    );
    config::parse(Path::new("test.toml"), text.as_bytes()).unwrap()
}

fn lease(last: u8, hours: [u8; 2], rest: &str) -> String {
    let [starts, ends] = hours;
    format!(
        "lease 10.0.0.{last} {{\n  starts 6 2026/11/28 {starts:02}:00:00;\n  \
         ends 6 2026/11/28 {ends:02}:00:00;\n  cltt 6 2026/11/28 {starts:02}:00:00;\n  {rest}\n}}\n"
    )
}

fn active(last: u8, hours: [u8; 2], card: u8) -> String {
    let rest = format!(
        "binding state active;\n  hardware ethernet 52:54:00:00:00:{card:02x};\n  \
         uid \"\\001{card:03}\";"
    );
    lease(last, hours, &rest)
}

fn taken(config: &Config, files: &[&str]) -> (Vec<Lease>, Report) {
    let directory = tempfile::tempdir().unwrap();
    let mut taken = Taken::new(&config.dhcp);
    for (number, text) in files.iter().enumerate() {
        let path = directory.path().join(format!("leases-{number}"));
        fs::write(&path, text).unwrap();
        taken.read(&path).unwrap();
    }
    taken.finish(&CLOCK)
}

fn card(last: u8) -> Hardware {
    Hardware::ethernet([0x52, 0x54, 0, 0, 0, last])
}

fn hour(hour: u64) -> Moment {
    CLOCK.moment_at(1_795_824_000 + hour * 3600)
}

#[test]
fn a_lease_is_its_clients_as_if_it_had_been_given_here() {
    let text = active(20, [10, 14], 1);
    let (leases, report) = taken(&config("hardware"), &[&text]);
    let [lease] = &leases[..] else { panic!("{leases:?}") };
    assert_eq!(lease.client, ClientKey::hardware(&card(1)));
    assert_eq!((lease.state, lease.hardware), (LeaseState::Active, card(1)));
    assert_eq!((lease.starts, lease.expires), (hour(10), hour(14)));
    assert_eq!(lease.notes.client_id(), Some(&b"\x01001"[..]));
    let [low, high] = [10, 250].map(|last| IpAddr::from([10, 0, 0, last]));
    assert_eq!(lease.admission(), Admission::Pool { low, high, host: None, bill: None });
    assert_eq!(report.active, 1);

    let (leases, _) = taken(&config("client-id"), &[&text]);
    assert_eq!(leases[0].client, ClientKey::client_id(b"\x01001"));
}

#[test]
fn what_becomes_of_each_state() {
    let named = "hardware ethernet 52:54:00:00:00:02;";
    let with = |state: &str, rest: &str| format!("binding state {state};\n  {rest}");
    let text = [
        lease(20, [8, 10], &with("free", named)),
        lease(21, [8, 10], &with("backup", named)),
        lease(22, [8, 10], &with("expired", named)),
        lease(23, [8, 10], &with("active", named)),
        lease(24, [8, 20], &with("abandoned", named)),
        lease(25, [8, 10], &with("abandoned", named)),
        lease(26, [8, 10], &with("free", "")),
        lease(27, [8, 20], &with("active", "")),
        lease(28, [8, 20], &with("active", &format!("reserved; {named}"))),
        lease(29, [8, 10], &with("active", &format!("reserved; {named}"))),
    ]
    .concat();
    let (leases, report) = taken(&config("hardware"), &[&text]);
    let seen: Vec<_> = leases
        .iter()
        .map(|lease| {
            let IpAddr::V4(ip) = lease.ip else { panic!() };
            (ip.octets()[3], lease.state, lease.expires, lease.told)
        })
        .collect();
    use LeaseState::{Active, Declined, Released};
    assert_eq!(
        seen,
        [
            (20, Released, hour(10), None),
            (21, Released, hour(10), None),
            (22, Active, hour(10), None),
            (23, Active, hour(10), None),
            (24, Declined, hour(20), None),
            (27, Declined, hour(20), None),
            (28, Active, Moment::NEVER, Some(hour(20))),
            (29, Active, Moment::NEVER, None),
        ]
    );
    assert_eq!((report.active, report.ended, report.quarantined), (2, 4, 2));
}

#[test]
fn the_last_record_of_a_file_counts_and_of_a_pair_the_one_heard_of_last() {
    let config = config("hardware");
    let twice = active(20, [9, 14], 1) + &active(20, [8, 13], 2);
    let (leases, _) = taken(&config, &[&twice]);
    assert_eq!(leases[0].hardware, card(2));

    let primary = active(20, [9, 14], 1) + &active(21, [11, 15], 3);
    let secondary = active(20, [10, 15], 2) + &active(21, [11, 14], 3) + &active(22, [9, 13], 4);
    for files in [[&primary, &secondary], [&secondary, &primary]] {
        let (leases, report) = taken(&config, &files.map(String::as_str));
        let seen: Vec<_> = leases.iter().map(|lease| (lease.hardware, lease.expires)).collect();
        assert_eq!(seen, [(card(2), hour(15)), (card(3), hour(15)), (card(4), hour(13))]);
        let clash = report.changed.keys().find(|what| what.contains("different clients")).unwrap();
        assert_eq!(report.changed[clash].examples, ["10.0.0.20"]);
    }
}

#[test]
fn what_one_of_a_pair_was_told_last_counts() {
    let card = "hardware ethernet 52:54:00:00:00:01;";
    let released = lease(20, [9, 10], &format!("binding state released;\n  {card}"));
    let expired = lease(21, [9, 10], &format!("binding state expired;\n  {card}"));
    let one = released + &expired;
    // The other server did not hear of the RELEASE; but of a renewal before the lease was over.
    let other = active(20, [9, 14], 1) + &active(21, [9, 14], 1);
    let later = active(20, [11, 14], 1);
    for (files, states) in [
        ([&one, &other], [LeaseState::Released, LeaseState::Active]),
        ([&other, &one], [LeaseState::Released, LeaseState::Active]),
        ([&one, &later], [LeaseState::Active, LeaseState::Active]),
    ] {
        let (leases, _) = taken(&config("hardware"), &files.map(String::as_str));
        let seen: Vec<_> = leases.iter().map(|lease| lease.state).collect();
        assert_eq!(seen, states);
    }
    let (leases, _) = taken(&config("hardware"), &[&one, &other]);
    assert_eq!(leases[1].expires, hour(14));
}

#[test]
fn a_lease_counts_for_the_class_that_it_counted_for() {
    let text = "[dhcp]\n[[dhcp.class]]\nname = \"gold\"\nmatch = 'hardware'\nspawn = true\n\
                lease-limit = 4\n[[dhcp.class.subclass]]\nvalue = \"one\"\nlease-limit = 2\n\
                [[dhcp.class]]\nname = \"tin\"\nvendor-class = \"t\"\nlease-limit = 9\n\
                [[dhcp.subnet]]\nsubnet = \"10.0.0.0/16\"\npools = [\"10.0.0.10-10.0.0.250\"]\n";
    let config = config::parse(Path::new("test.toml"), text.as_bytes()).unwrap();
    let billed = |last, billing| active(last, [10, 14], last).replace("uid", billing);
    let text = billed(20, "billing subclass \"gold\" \"one\";\n  uid")
        + &billed(21, "billing subclass \"gold\" 52:54;\n  uid")
        + &billed(22, "billing class \"tin\";\n  uid")
        + &billed(23, "billing class \"other\";\n  uid");
    let (leases, _) = taken(&config, &[&text]);
    let bills: Vec<_> = leases.iter().map(|lease| lease.notes.admission().bill()).collect();
    assert_eq!(
        bills,
        [
            Some(Bill::new("gold", Some(b"one"), 2)),
            Some(Bill::new("gold", Some(&[0x52, 0x54]), 4)),
            Some(Bill::new("tin", None, 9)),
            None,
        ]
    );

    // Written again, but for the value that only its hash is known of.
    let billings = Billings::of(&config.dhcp);
    let entries: Vec<Entry> = (leases.iter().zip(bills))
        .map(|(lease, bill)| {
            let mut entry = Entry::new(lease.ipv4().unwrap());
            let known = bill.map(|bill| billings.put(bill.key(), &mut entry));
            assert_eq!(known, bill.map(|_| entry.ip.octets()[3] != 21));
            entry
        })
        .collect();
    let text = formats::written(Format::Dhcpd, &entries);
    for line in ["  billing subclass \"gold\" \"one\";\n", "  billing class \"tin\";\n"] {
        assert_eq!(text.matches(line).count(), 1, "{text}");
    }
    assert_eq!(formats::leases(text.as_bytes()), entries);
}

#[test]
fn the_report_says_what_is_left_out() {
    let text = active(20, [10, 14], 1).replace(
        "uid",
        "set colour = \"red\";\n  set ddns-fwd-name = \"n\";\n  billing class \"gold\";\n  uid",
    ) + &active(9, [10, 14], 2)
        + "lease 192.0.2.1 {\n  hardware ethernet 52:54:00:00:00:03;\n}\n"
        + "lease 10.";
    let (leases, report) = taken(&config("hardware"), &[&text]);
    assert_eq!(leases.len(), 2);
    let variables = format!("{:?}", leases[1].notes.scope().variables);
    assert_eq!(variables, r#"{"colour": Data([114, 101, 100])}"#);
    let lines = report.lines().join("\n");
    for part in [
        "taken: 2 leases: 2 active",
        "dropped: 1 × the variable ddns-fwd-name: this server does not update DNS yet (10.0.0.20)",
        "dropped: 1 × the class that a lease counts for has no limit in this configuration",
        "dropped: 1 × the address is in no subnet of this configuration (192.0.2.1)",
        "changed: 1 × no pool and no host has the address: its client gets another one (10.0.0.9)",
        "leases-0:23)",
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
}

fn stored(state_dir: &Path) -> Vec<Lease> {
    let mut leases = Vec::new();
    let each = &mut |loaded| match loaded {
        Loaded::Lease(lease, _) => leases.push(lease),
        other => panic!("{other:?}"),
    };
    StatePlace::new(state_dir).read(&CLOCK, each).unwrap();
    leases
}

fn store(
    state_dir: &Path,
    leases: Vec<Lease>,
    existing: Existing,
) -> Result<Imported, ImportError> {
    Store::open(state_dir, &CLOCK)?.plan(leases, existing)?.write()
}

fn many(cards: std::ops::Range<u8>, hours: [u8; 2]) -> Vec<Lease> {
    let text: String = cards.map(|card| active(card + 10, hours, card)).collect();
    taken(&config("hardware"), &[&text]).0
}

#[test]
fn an_import_writes_all_and_again_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let leases = many(0..200, [10, 14]);
    let done = store(directory.path(), leases.clone(), Existing::Refuse).unwrap();
    assert_eq!(done, Imported { written: 200, ..Imported::default() });
    assert_eq!(stored(directory.path()), leases);
    assert_eq!(broken_off(directory.path()), None);
    let again = store(directory.path(), leases, Existing::Refuse).unwrap();
    assert_eq!(again, Imported { same: 200, ..Imported::default() });
}

#[test]
fn leases_of_another_origin_are_not_written_over() {
    let directory = tempfile::tempdir().unwrap();
    store(directory.path(), many(0..3, [10, 14]), Existing::Refuse).unwrap();
    // One later, one earlier, one that is new.
    let mut next = many(1..4, [9, 13]);
    next[0] = many(1..2, [11, 15]).remove(0);
    let error = store(directory.path(), next.clone(), Existing::Refuse).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ImportError::Holds { count: 3, .. }), "{text}");
    assert!(text.contains("holds 3 leases") && text.contains("--merge"), "{text}");
    assert_eq!(stored(directory.path()).len(), 3);

    let done = store(directory.path(), next, Existing::Merge).unwrap();
    assert_eq!(done, Imported { written: 2, same: 0, older: 1 });
    let ends: Vec<_> = stored(directory.path()).iter().map(|lease| lease.expires).collect();
    assert_eq!(ends, [hour(14), hour(15), hour(14), hour(13)]);
}

#[test]
fn what_was_broken_off_is_known_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    // Before anything is written a server would start with nothing.
    drop(Store::open(directory.path(), &CLOCK).unwrap());
    assert!(broken_off(directory.path()).is_some());
    let leases = many(0..100, [10, 14]);
    // As a kill leaves it: a part is written, and the mark is there.
    let part = leases[..40].to_vec();
    store(directory.path(), part, Existing::Refuse).unwrap();
    fs::write(directory.path().join("lease-import"), "").unwrap();
    assert!(broken_off(directory.path()).is_some());
    let done = store(directory.path(), leases, Existing::Refuse).unwrap();
    assert_eq!(done, Imported { written: 60, same: 40, older: 0 });
    assert_eq!(broken_off(directory.path()), None);
    assert_eq!(stored(directory.path()).len(), 100);
}

#[test]
fn after_a_reboot_the_leases_end_when_the_file_said() {
    let directory = tempfile::tempdir().unwrap();
    store(directory.path(), many(0..1, [10, 14]), Existing::Refuse).unwrap();
    let later = Clock {
        now: Moment::from_nanos(60_000_000_000),
        wall: CLOCK.wall + 3600,
        boot: BootId([2; 16]),
        synchronised: true,
    };
    let mut left = None;
    let each = &mut |loaded| {
        if let Loaded::Lease(lease, _) = loaded {
            left = Some(lease.expires.since(later.now));
        }
    };
    StatePlace::new(directory.path()).read(&later, each).unwrap();
    let left = left.unwrap();
    assert!(left >= Duration::from_secs(3600) && left < Duration::from_secs(3603), "{left:?}");
}
