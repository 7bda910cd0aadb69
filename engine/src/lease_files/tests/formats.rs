//! What is read of each format, and what is written.

use std::net::Ipv4Addr;

use crate::leases::Hardware;

use super::super::read::{Wrong, read_from};
use super::super::{Binding, Entry, FileTime, Format, Item, LiveHost, Variable, Writer};

pub(super) fn items(text: &[u8]) -> Result<(Format, Vec<Item>), Wrong> {
    let mut items = Vec::new();
    let format = read_from(text, &mut |item| items.push(item))?;
    Ok((format, items))
}

/// The leases of a file that has nothing else.
pub(super) fn leases(text: &[u8]) -> Vec<Entry> {
    let lease = |item| match item {
        Item::Lease(entry) => *entry,
        other => panic!("{other:?}"),
    };
    items(text).unwrap().1.into_iter().map(lease).collect()
}

pub(super) fn written(format: Format, entries: &[Entry]) -> String {
    let mut out = Vec::new();
    let mut writer = Writer::new(format, &mut out).unwrap();
    entries.iter().for_each(|entry| writer.lease(entry, 1).unwrap());
    String::from_utf8(out).unwrap()
}

const DHCPD: &str = r#"
# The format of this file is documented in the dhcpd.leases(5) manual page.
# authoring-byte-order entry is generated, DO NOT DELETE
authoring-byte-order little-endian;

server-duid "\000\001\000\001/\016\352\032RT\000\0224V";

failover peer "dhcp" state {
  my state normal at 6 2026/11/28 01:00:00;
  partner state normal at 6 2026/11/28 01:00:01;
  mclt 3600;
}
class "rack" {
  spawning subclass "rack" 1:2;
}
subclass "rack" "a" {
  dynamic;
}
lease 10.0.0.10 {
  starts 6 2026/11/28 02:00:00;
  ends 6 2026/11/28 14:00:00;
  tstp 6 2026/11/28 20:00:00;
  tsfp 6 2026/11/28 20:00:00;
  atsfp 6 2026/11/28 20:00:00;
  cltt 6 2026/11/28 02:00:00;
  binding state active;
  next binding state expired;
  rewind binding state free;
  billing class "gold";
  billing subclass "rack" 1:2:a;
  hardware ethernet 52:54:00:12:34:56;
  uid "\001RT\000\0224V\"\\";
  set vendor-class-identifier = "PXEClient:Arch:00000";
  set count = %-7;
  set seen = true;
  option agent.circuit-id 0:4:0:1f;
  option agent.remote-id "switch7";
  option agent.link-selection 10.0.0.0;
  client-hostname "n01";
  on expiry or release {
    set gone = "yes";
    if exists agent.circuit-id {
      unset gone;
    }
  }
}
lease 10.0.0.11 {
  starts epoch 1795831565; # Sat Nov 28 02:06:05 2026
  ends never;
  binding state active;
  next binding state free;
  reserved;
  dynamic-bootp;
  hardware infiniband 80:00:00:48:fe:80:00:00:00:00:00:00:00:02;
  uid ff:0:0:0:1;
}
lease 10.0.0.12 { binding state abandoned; ends 6 2026/11/28 14:00:00; }
lease 10.0.0.13 {
  binding state backup;
  hardware unknown-27 01:02;
}
host n7 {
  dynamic;
  hardware ethernet 52:54:00:00:00:07;
  fixed-address 10.0.0.77, 10.0.1.77;
        filename "a \"b\"";
        option domain-name-servers 10.0.0.1, 10.0.0.2;
        if known { next-server 10.0.0.9; }
}
host n8 {
  dynamic;
  deleted;
}
"#;

#[test]
fn all_that_dhcpd_writes() {
    let (format, items) = items(DHCPD.as_bytes()).unwrap();
    assert_eq!(format, Format::Dhcpd);
    let mut items = items.into_iter().filter(|item| !matches!(item, Item::LeftOut(_)));
    let mut lease = || match items.next() {
        Some(Item::Lease(entry)) => *entry,
        other => panic!("{other:?}"),
    };
    let first = lease();
    let bytes = |bytes: &[u8]| Some(Box::from(bytes));
    let at = |hour: u64| Some(FileTime(1_795_824_000 + hour * 3600));
    assert_eq!(
        first,
        Entry {
            binding: Binding::Active,
            starts: at(2),
            ends: at(14),
            cltt: at(2),
            hardware: Some(Hardware::ethernet([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
            client_id: bytes(b"\x01RT\0\x124V\"\\"),
            hostname: bytes(b"n01"),
            circuit_id: bytes(&[0, 4, 0, 0x1f]),
            remote_id: bytes(b"switch7"),
            agent: vec![("link-selection".into(), [10, 0, 0, 0].into())],
            variables: vec![
                (
                    "vendor-class-identifier".into(),
                    Variable::Data((*b"PXEClient:Arch:00000").into())
                ),
                ("count".into(), Variable::Number(-7)),
                ("seen".into(), Variable::Boolean(true)),
            ],
            billing: vec![("gold".into(), None), ("rack".into(), bytes(&[1, 2, 10]))],
            ..Entry::new(Ipv4Addr::new(10, 0, 0, 10))
        }
    );
    let endless = lease();
    assert_eq!(endless.starts, Some(FileTime(1_795_831_565)));
    assert_eq!(endless.ends, Some(FileTime::NEVER));
    assert!(endless.reserved && endless.bootp);
    assert_eq!(endless.hardware.unwrap().htype(), 32);
    assert_eq!(endless.client_id, bytes(&[255, 0, 0, 0, 1]));
    assert_eq!(lease().binding, Binding::Abandoned);
    let backup = lease();
    assert_eq!(backup.binding, Binding::Backup);
    assert_eq!(backup.hardware, Some(Hardware::new(27, &[1, 2])));
    let host = LiveHost {
        name: "n7".into(),
        hardware: Some(Hardware::ethernet([0x52, 0x54, 0, 0, 0, 7])),
        addresses: vec!["10.0.0.77".into(), "10.0.1.77".into()],
        statements: "filename \"a \\\"b\\\"\"; option domain-name-servers 10.0.0.1, 10.0.0.2; if \
                     known { next-server 10.0.0.9; } "
            .to_owned(),
        ..LiveHost::default()
    };
    assert_eq!(items.next(), Some(Item::Host(host)));
    assert_eq!(items.next(), Some(Item::HostDeleted("n8".into())));
    assert_eq!(items.next(), None);
}

#[test]
fn a_torn_end_is_named_and_the_rest_is_whole() {
    let whole = "lease 10.0.0.1 {\n  binding state active;\n}\n";
    let next = "lease 10.0.0.2 {\n  starts 6 2026/11/28 02:00:00;\n  uid \"\\001a\";\n}\n";
    for cut in 1..next.len() - 2 {
        let text = format!("{whole}{}", &next[..cut]);
        for end in ["", "\0\0\0"] {
            let (_, items) = items(format!("{text}{end}").as_bytes()).unwrap();
            assert!(matches!(&items[0], Item::Lease(_)), "{cut}");
            assert_eq!(items[1..], [Item::Torn { line: 4 }], "{cut}");
        }
    }
}

#[test]
fn what_is_wrong_has_its_line() {
    let wrong = |text: &str| match items(text.as_bytes()) {
        Err(Wrong { line: Some(line), what }) => format!("{line}: {what}"),
        other => panic!("{text}: {other:?}"),
    };
    for (text, expected) in [
        ("\nlease 10.0.0.300 {\n}\n", "2: `lease 10.0.0.300` is no IPv4 address"),
        ("lease 10.0.0.1 {\n  starts 6 2026/13/28 02:00:00;\n}\n", "2: `6 2026/13/28 02:00:00`"),
        ("lease 10.0.0.1 {\n  binding state frozen;\n}\n", "2: `frozen` is no binding state"),
        ("lease 10.0.0.1 {\n  hardware ether 1:2;\n}\n", "2: `ether` is no hardware type"),
        ("lease 10.0.0.1 {\n  uid zz;\n}\n", "2: `zz` is neither a text"),
        ("subnet 10.0.0.0 netmask 255.0.0.0 {\n}\n", "1: `subnet` is no declaration"),
        ("default-lease-time 600;\n", "1: `default-lease-time` is no declaration"),
        ("}\n", "1: a `}` without its `{`"),
        ("lease 10.0.0.1 {\n  starts\n}\n", "3: a `;` is missing"),
        ("lease 10.0.0.1 {\n\0\n}\n", "2: zero bytes stand in the middle"),
        ("address,hwaddr\n", "1: the column `client_id` is missing"),
        ("ip,state\n10.0.0.1,frozen\n", "2: `frozen` is no state of a lease"),
        ("ip,colour\n", "1: `colour` is no column of a lease file"),
        ("ip,state,expires\n10.0.0.1,active,noon\n", "2: `noon` is no time"),
    ] {
        let found = wrong(text);
        assert!(found.starts_with(expected), "{found}");
    }
}

/// As Kea 2.2 writes it.
const KEA: &str = r#"address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context
10.0.0.10,52:54:00:12:34:56,01:52:54:00:12:34:56,3600,1795835165,1,0,0,n01.example.org.,0,{ "ISC": { "relay-agent-info": { "sub-options": "0x0104000400010207737769746368" } } }
10.0.0.11,52:54:00:12:34:57,,4294967295,6090798860,1,0,0,a&#x2cb,0,
10.0.0.12,,,3600,1795835165,1,0,0,,1,
10.0.0.10,52:54:00:12:34:56,,0,1795831565,1,0,0,,0,
"#;

#[test]
fn what_kea_writes() {
    let (format, items) = items(KEA.as_bytes()).unwrap();
    assert_eq!(format, Format::Kea);
    let [Item::Lease(first), Item::Lease(endless), Item::Lease(declined), Item::Removed(ip)] =
        &items[..]
    else {
        panic!("{items:?}")
    };
    assert_eq!(first.starts, Some(FileTime(1_795_831_565)));
    assert_eq!(first.ends, Some(FileTime(1_795_835_165)));
    assert_eq!(first.circuit_id.as_deref(), Some(&[0, 4, 0, 1][..]));
    // Its length is longer than the options.
    assert_eq!(first.remote_id, None);
    assert_eq!(first.hostname.as_deref(), Some(&b"n01.example.org"[..]));
    assert_eq!(endless.ends, Some(FileTime::NEVER));
    assert_eq!(endless.hostname.as_deref(), Some(&b"a,b"[..]));
    assert_eq!(declined.binding, Binding::Abandoned);
    assert_eq!(*ip, Ipv4Addr::new(10, 0, 0, 10));
}

#[test]
fn what_a_spreadsheet_writes() {
    let text = "ip,state,hardware,hostname,expires\r\n\
                10.0.0.1,active,52-54-00-12-34-56,\"n,1\",2026-11-28T14:00:00Z\r\n\
                10.0.0.2,free,,\\x00\\\\,never";
    let leases = leases(text.as_bytes());
    assert_eq!(leases[0].hardware, Some(Hardware::ethernet([0x52, 0x54, 0, 0x12, 0x34, 0x56])));
    assert_eq!(leases[0].hostname.as_deref(), Some(&b"n,1"[..]));
    assert_eq!(leases[0].ends, Some(FileTime(1_795_824_000 + 14 * 3600)));
    assert_eq!(leases[1].hostname.as_deref(), Some(&b"\0\\"[..]));
    assert_eq!(leases[1].ends, Some(FileTime::NEVER));
}

#[test]
fn what_is_written_for_dhcpd() {
    let start = DHCPD.find("lease 10.0.0.10").unwrap();
    let end = DHCPD.find("lease 10.0.0.11").unwrap();
    let entry = &leases(&DHCPD.as_bytes()[start..end])[0];
    let text = written(Format::Dhcpd, std::slice::from_ref(entry));
    let lease = text.split("lease 10").nth(1).unwrap();
    assert_eq!(
        lease,
        r#".0.0.10 {
  starts 6 2026/11/28 02:00:00;
  ends 6 2026/11/28 14:00:00;
  cltt 6 2026/11/28 02:00:00;
  binding state active;
  next binding state free;
  rewind binding state free;
  billing class "gold";
  billing subclass "rack" 1:2:a;
  hardware ethernet 52:54:00:12:34:56;
  uid "\001RT\000\0224V\"\\";
  set vendor-class-identifier = "PXEClient:Arch:00000";
  set count = %-7;
  set seen = true;
  option agent.circuit-id 0:4:0:1f;
  option agent.remote-id "switch7";
  client-hostname "n01";
}
"#
    );
}
