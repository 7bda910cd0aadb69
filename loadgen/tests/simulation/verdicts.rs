//! The validator against faulty servers, each in a run in which a correct one passes.

use crate::run::play;
use crate::server::Fault;

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
fn a_correct_server_passes() {
    let ended = play(RACK, 1, Fault::Nothing);
    assert_eq!(ended.violations(), [""; 0]);
    assert_eq!(ended.clients.metrics.machines(20, 0).up, 20);
    let files = ended.clients.files.rows();
    assert_eq!((files[0].size, files[0].transfers), (Some(3000), 20));
}

#[test]
fn every_fault_is_found_under_its_name() {
    for (fault, kind) in [
        (Fault::Duplicate, "duplicate-address"),
        (Fault::Flip, "content"),
        (Fault::ServerId, "server-identifier"),
        (Fault::RelayOption, "relay-option"),
        (Fault::Xid, "xid"),
        (Fault::Chaddr, "chaddr"),
        (Fault::Giaddr, "giaddr"),
        (Fault::Subnet, "subnet"),
        (Fault::LeaseZero, "lease-time"),
        (Fault::WrongFile, "boot-file"),
        (Fault::AckOther, "address-changed"),
        (Fault::ShortFile, "file-size"),
    ] {
        let found = play(RACK, 1, fault).violations();
        assert!(found.iter().any(|found| found == kind), "{fault:?}: {found:?}");
    }
}

#[test]
fn a_violation_names_the_place_and_the_machine() {
    let ended = play(RACK, 1, Fault::Flip);
    let rows = ended.clients.validator.rows();
    let example = &rows[0].first[0];
    assert!(example.detail.contains("block 2 of `boot.img`"), "{}", example.detail);
    assert!(example.mac.starts_with("02:b0:00:00:00:"), "{}", example.mac);
}
