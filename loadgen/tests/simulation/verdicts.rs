//! The judge against servers that lie, each in a run in which an honest one passes.

use crate::server::Lie;
use crate::world::play;

const RACK: &str = r#"
name = "rack"
summary = "Twenty machines that boot."
machines = 20
limit = "5m"
expect-boot-file = { pxe-bios = "boot.img" }
[arrival]
post = ["0s", "2s"]
[firmware]
pxe-bios = 1
[[stage]]
dhcp = "firmware"
[[stage]]
tftp = ["@boot-file"]
"#;

#[test]
fn an_honest_server_passes() {
    let ended = play(RACK, 1, Lie::Nothing);
    assert_eq!(ended.violations(), [""; 0]);
    assert_eq!(ended.fleet.tally.machines(20, 0).up, 20);
    let files = ended.fleet.files.rows();
    assert_eq!((files[0].size, files[0].transfers), (Some(3000), 20));
}

#[test]
fn every_lie_is_caught_by_its_name() {
    for (lie, kind) in [
        (Lie::Duplicate, "duplicate-address"),
        (Lie::Flip, "content"),
        (Lie::ServerId, "server-identifier"),
        (Lie::RelayOption, "relay-option"),
        (Lie::Xid, "xid"),
        (Lie::Chaddr, "chaddr"),
        (Lie::Giaddr, "giaddr"),
        (Lie::Subnet, "subnet"),
        (Lie::LeaseZero, "lease-time"),
        (Lie::WrongFile, "boot-file"),
        (Lie::AckOther, "address-changed"),
        (Lie::ShortFile, "file-size"),
    ] {
        let found = play(RACK, 1, lie).violations();
        assert!(found.iter().any(|found| found == kind), "{lie:?}: {found:?}");
    }
}

#[test]
fn a_lie_says_where_and_with_whom() {
    let ended = play(RACK, 1, Lie::Flip);
    let rows = ended.fleet.judge.rows();
    let example = &rows[0].first[0];
    assert!(example.detail.contains("block 2 of `boot.img`"), "{}", example.detail);
    assert!(example.mac.starts_with("02:b0:00:00:00:"), "{}", example.mac);
}
