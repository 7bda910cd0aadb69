//! What is refused, and how.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;

use bootstorm_net::sim::Faults;
use bootstorm_protocols::tftp::ErrorCode;
use bootstorm_protocols::time::Moment;

use super::fleet::{Fleet, Outcome, Plan, SERVER, content};
use crate::config::MapRule;
use crate::event::Kind;
use crate::tftp::TftpServer;
use crate::tftp::reason::Reason;

#[test]
fn names_that_give_no_file_are_refused_with_the_code_that_fits() {
    let mut fleet = Fleet::new(1, Faults::default(), |_| {});
    std::fs::write(fleet.dir.path().join("secret"), "secret").unwrap();
    symlink("../secret", fleet.path("link")).unwrap();
    std::fs::create_dir(fleet.path("directory")).unwrap();
    let cases = [
        ("missing", ErrorCode::FileNotFound, "file not found"),
        ("../secret", ErrorCode::AccessViolation, "bad file name"),
        (r"..\secret", ErrorCode::AccessViolation, "bad file name"),
        ("link", ErrorCode::AccessViolation, "file is outside of the TFTP root"),
        ("directory", ErrorCode::AccessViolation, "not a regular file"),
    ];
    for (name, code, text) in cases {
        let client = fleet.add(Plan::get(name));
        fleet.run();
        assert_eq!(fleet.refusal(client), (code, text), "{name}");
    }
    assert_eq!(fleet.metrics(0).refused.get(), cases.len() as u64);
    assert_eq!(fleet.events(Kind::TransferFailed), cases.len());
    assert_eq!(fleet.server.active(), 0);
}

#[test]
fn map_rules_rewrite_and_refuse() {
    let rule = |operation: &str, pattern: &str, replacement: &str| {
        MapRule::new(operation.to_owned(), pattern.to_owned(), replacement.to_owned())
    };
    let rules = vec![rule("a", "^private", ""), rule("r", "^", r"\x/")];
    let mut fleet = Fleet::new(1, Faults::default(), |config| config.map = rules);
    std::fs::create_dir(fleet.path("0A000002")).unwrap();
    fleet.file("0A000002/menu", b"for 10.0.0.2");
    let mapped = fleet.add(Plan::get("menu"));
    let denied = fleet.add(Plan::get("private"));
    fleet.run();
    assert_eq!(fleet.bytes(mapped), b"for 10.0.0.2");
    assert_eq!(fleet.refusal(denied).0, ErrorCode::AccessViolation);
}

#[test]
fn limits_hold_and_are_free_again_afterwards() {
    let mut fleet = Fleet::new(1, Faults::default(), |config| config.max_transfers = 5);
    fleet.file("kernel", &content(200_000, 1));
    for _ in 0..8 {
        fleet.add(Plan::get("kernel").options(1468, 4));
    }
    fleet.run();
    fleet.drain();
    let complete = |fleet: &Fleet| {
        (0..8).filter(|&client| *fleet.outcome(client) == Outcome::Complete).count()
    };
    assert_eq!(complete(&fleet), 5);
    assert_eq!(fleet.refusal(7), (ErrorCode::NotDefined, "server is busy"));
    assert_eq!(fleet.reason(0, Reason::ServerLimit), 3);
    fleet.again(7, Plan::get("kernel"));
    fleet.run();
    assert!(fleet.bytes(7) == content(200_000, 1));

    let mut fleet = Fleet::new(1, Faults::default(), |config| config.max_transfers_per_client = 2);
    fleet.file("kernel", &content(200_000, 1));
    for _ in 0..3 {
        fleet.add(Plan::get("kernel"));
    }
    fleet.run();
    assert_eq!(fleet.refusal(2).1, "too many transfers for this client");
}

#[test]
fn a_repeated_request_begins_no_second_transfer() {
    let mut fleet = Fleet::new(1, Faults { duplicate: 1.0, ..Faults::default() }, |_| {});
    fleet.file("kernel", &content(100_000, 1));
    let client = fleet.add(Plan::get("kernel").options(1024, 1));
    fleet.run();
    fleet.drain();
    assert!(fleet.bytes(client) == content(100_000, 1));
    assert_eq!(fleet.events(Kind::TransferStarted), 1);
    assert_eq!(fleet.metrics(0).retransmits.get(), 0, "the Sorcerer's Apprentice is here");
}

#[test]
fn a_strange_pair_of_ports_gets_error_5_and_errors_are_not_answered() {
    let mut fleet = Fleet::new(1, Faults::default(), |_| {});
    fleet.file("menu", b"menu");
    let client = fleet.add(Plan::get("menu"));
    fleet.run();
    let port = *fleet.clients.list[client].ports.first().unwrap();
    // The last ACK once more is no news, and no error either.
    fleet.clients.list[client].outcome = None;
    fleet.raw(client, (SERVER, port).into(), b"\0\x04\0\x01");
    steps(&mut fleet, 5);
    assert_eq!(fleet.reason(0, Reason::UnknownTransfer), 0);
    let stranger = fleet.add(Plan { start: Moment::NEVER, ..Plan::get("menu") });
    let to = SocketAddr::from((SERVER, port));
    for packet in [&b"\0\x05\0\0\0"[..], b"\0\x06\0", b"junk", b"", b"\0\x01menu\0octet\0"] {
        fleet.raw(stranger, to, packet);
    }
    steps(&mut fleet, 20);
    assert_eq!(fleet.clients.list[stranger].outcome, None);
    fleet.raw(stranger, to, b"\0\x04\0\x01");
    steps(&mut fleet, 20);
    assert_eq!(fleet.refusal(stranger), (ErrorCode::UnknownTransfer, "unknown transfer"));
}

#[test]
fn requests_that_make_no_sense_are_answered_and_others_are_not() {
    let mut fleet = Fleet::new(1, Faults::default(), |_| {});
    let client = fleet.add(Plan { start: Moment::NEVER, ..Plan::get("menu") });
    let to = SocketAddr::from((SERVER, 69));
    for packet in [&b"\0\x04\0\x01"[..], b"\0\x03\0\x01x", b"\0\x05\0\x01x\0", b"\0", b"\0\x09"] {
        fleet.raw(client, to, packet);
    }
    steps(&mut fleet, 20);
    assert_eq!(fleet.clients.list[client].outcome, None);
    fleet.raw(client, to, b"\0\x01menu\0mail\0");
    steps(&mut fleet, 20);
    assert_eq!(fleet.refusal(client), (ErrorCode::IllegalOperation, "unknown transfer mode"));
    let client = fleet.add(Plan { start: Moment::NEVER, ..Plan::get("menu") });
    fleet.raw(client, to, b"\0\x01menu\0octet\0blksize\x004\0");
    steps(&mut fleet, 20);
    assert_eq!(fleet.refusal(client), (ErrorCode::OptionRefused, "option refused"));
}

#[test]
fn a_client_that_falls_silent_is_given_up_and_told() {
    let mut fleet = Fleet::new(1, Faults::default(), |config| config.retries = 3);
    fleet.file("kernel", &content(100_000, 1));
    let client = fleet.add(Plan { start: Moment::NEVER, ..Plan::get("kernel") });
    fleet.raw(client, (SERVER, 69).into(), b"\0\x01kernel\0octet\0");
    steps(&mut fleet, 2);
    assert_eq!(fleet.server.active(), 1);
    fleet.clients.list[client].outcome = Some(Outcome::GaveUp);
    fleet.drain();
    assert_eq!(fleet.metrics(0).failed.get(), 1);
    assert_eq!(fleet.metrics(0).retransmits.get(), 3);
    assert_eq!(fleet.reason(0, Reason::TimedOut), 1);
}

#[test]
fn a_new_configuration_holds_for_new_requests() {
    let mut fleet = Fleet::new(1, Faults::default(), |_| {});
    fleet.file("kernel", &content(1_000_000, 1));
    let old = fleet.add(Plan::get("kernel").options(1468, 4));
    while fleet.clients.list[old].bytes.len() < 10_000 {
        assert!(fleet.step());
    }
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("kernel"), "new").unwrap();
    let config = crate::config::Tftp::new(other.path().to_owned());
    fleet.server.reconfigure(&config).unwrap();
    let missing = crate::config::Tftp::new(other.path().join("missing"));
    let error = fleet.server.reconfigure(&missing).unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains("create it"), "{error}");
    assert!(TftpServer::new(&missing).is_err());
    let new = fleet.add(Plan::get("kernel"));
    fleet.run();
    assert!(fleet.bytes(old) == content(1_000_000, 1));
    assert_eq!(fleet.bytes(new), b"new");
}

fn steps(fleet: &mut Fleet, count: usize) {
    for _ in 0..count {
        fleet.step();
    }
}
