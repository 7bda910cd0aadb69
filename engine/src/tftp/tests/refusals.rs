//! Which requests are refused, and how.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;

use bootstorm_net::sim::Faults;
use bootstorm_protocols::tftp::ErrorCode;
use bootstorm_protocols::time::Moment;

use super::clients::{Outcome, Plan, SERVER, content};
use super::simulation::Simulation;
use crate::config::MapRule;
use crate::event::Kind;
use crate::tftp::TftpServer;
use crate::tftp::reason::Reason;

#[test]
fn names_that_give_no_file_are_refused_with_the_code_that_fits() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    std::fs::write(simulation.dir.path().join("secret"), "secret").unwrap();
    symlink("../secret", simulation.path("link")).unwrap();
    std::fs::create_dir(simulation.path("directory")).unwrap();
    let cases = [
        ("missing", ErrorCode::FileNotFound, "file not found"),
        ("../secret", ErrorCode::AccessViolation, "file is outside of the TFTP root"),
        (r"..\secret", ErrorCode::AccessViolation, "file is outside of the TFTP root"),
        ("link", ErrorCode::AccessViolation, "file is outside of the TFTP root"),
        ("directory", ErrorCode::FileNotFound, "not a regular file"),
        ("/", ErrorCode::FileNotFound, "not a regular file"),
    ];
    for (name, code, text) in cases {
        let client = simulation.add(Plan::get(name));
        simulation.run();
        assert_eq!(simulation.refusal(client), (code, text), "{name}");
    }
    assert_eq!(simulation.metrics(0).refused.get(), cases.len() as u64);
    assert_eq!(simulation.events(Kind::FileMissing), 3);
    assert_eq!(simulation.events(Kind::TransferFailed), cases.len() - 3);
    assert_eq!(simulation.server.active(), 0);
}

#[test]
fn map_rules_rewrite_and_refuse() {
    let rule = |operation: &str, pattern: &str, replacement: &str| {
        MapRule::new(operation.to_owned(), pattern.to_owned(), replacement.to_owned())
    };
    let rules = vec![rule("a", "^private", ""), rule("r", "^", r"\x/")];
    let mut simulation = Simulation::new(1, Faults::default(), |config| config.map = rules);
    std::fs::create_dir(simulation.path("0A000002")).unwrap();
    simulation.file("0A000002/menu", b"for 10.0.0.2");
    let mapped = simulation.add(Plan::get("menu"));
    let denied = simulation.add(Plan::get("private"));
    simulation.run();
    assert_eq!(simulation.bytes(mapped), b"for 10.0.0.2");
    assert_eq!(simulation.refusal(denied).0, ErrorCode::AccessViolation);
}

#[test]
fn over_a_limit_a_client_hears_nothing_and_gets_its_file_when_it_asks_again() {
    for reason in [Reason::ServerLimit, Reason::ClientLimit] {
        let limit = |config: &mut crate::config::Tftp| match reason {
            Reason::ServerLimit => config.max_transfers = 5,
            _ => config.max_transfers_per_client = 5,
        };
        // Requests of one address reach both shards; the limit is that of the server.
        let mut simulation = Simulation::new(2, Faults::default(), limit);
        simulation.file("kernel", &content(200_000, 1));
        for client in 0..8 {
            simulation.add(Plan::get("kernel").options(1468, 4));
            simulation.ask_shard(client, client as u16 % 2);
        }
        simulation.run();
        simulation.drain();
        for client in 0..8 {
            assert!(simulation.bytes(client) == content(200_000, 1));
        }
        let sum = |of: &dyn Fn(usize) -> u64| of(0) + of(1);
        assert!(sum(&|shard| simulation.reason(shard, reason)) >= 3);
        assert_eq!(sum(&|shard| simulation.metrics(shard).refused.get()), 0);
        let logged = simulation.events(Kind::TransferFailed);
        assert!((1..=2).contains(&logged), "{logged} lines of one time and two shards");
    }
}

#[test]
fn what_was_sent_to_many_is_ignored() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    simulation.file("menu", b"menu");
    let client = simulation.add(Plan { start: Moment::NEVER, ..Plan::get("menu") });
    let many = ["10.0.0.255:69", "255.255.255.255:69", "239.1.2.3:69"];
    for to in many {
        simulation.raw(client, to.parse().unwrap(), b"\0\x01menu\0octet\0");
        simulation.raw(client, to.parse().unwrap(), b"\0\x01menu");
    }
    steps(&mut simulation, 20);
    assert_eq!(simulation.clients.list[client].outcome, None);
    assert_eq!(simulation.reason(0, Reason::Broadcast), 2 * many.len() as u64);
    assert_eq!(simulation.server.active(), 0);
}

#[test]
fn a_repeated_request_begins_no_second_transfer() {
    let mut simulation = Simulation::new(1, Faults { duplicate: 1.0, ..Faults::default() }, |_| {});
    simulation.file("kernel", &content(100_000, 1));
    let client = simulation.add(Plan::get("kernel").options(1024, 1));
    simulation.run();
    simulation.drain();
    assert!(simulation.bytes(client) == content(100_000, 1));
    assert_eq!(simulation.events(Kind::TransferStarted), 1);
    assert_eq!(simulation.metrics(0).retransmits.get(), 0, "the Sorcerer's Apprentice is here");
}

#[test]
fn a_strange_pair_of_ports_gets_error_5_and_errors_are_not_answered() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    simulation.file("menu", b"menu");
    let client = simulation.add(Plan::get("menu"));
    simulation.run();
    let port = *simulation.clients.list[client].ports.first().unwrap();
    // A repeated last ACK is ignored, and no error is sent.
    simulation.clients.list[client].outcome = None;
    simulation.raw(client, (SERVER, port).into(), b"\0\x04\0\x01");
    steps(&mut simulation, 5);
    assert_eq!(simulation.reason(0, Reason::UnknownTransfer), 0);
    let stranger = simulation.add(Plan { start: Moment::NEVER, ..Plan::get("menu") });
    let to = SocketAddr::from((SERVER, port));
    for packet in [&b"\0\x05\0\0\0"[..], b"\0\x06\0", b"junk", b"", b"\0\x01menu\0octet\0"] {
        simulation.raw(stranger, to, packet);
    }
    steps(&mut simulation, 20);
    assert_eq!(simulation.clients.list[stranger].outcome, None);
    simulation.raw(stranger, to, b"\0\x04\0\x01");
    steps(&mut simulation, 20);
    assert_eq!(simulation.refusal(stranger), (ErrorCode::UnknownTransfer, "unknown transfer"));
}

#[test]
fn requests_that_make_no_sense_are_answered_and_others_are_not() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    let client = simulation.add(Plan { start: Moment::NEVER, ..Plan::get("menu") });
    let to = SocketAddr::from((SERVER, 69));
    for packet in [&b"\0\x04\0\x01"[..], b"\0\x03\0\x01x", b"\0\x05\0\x01x\0", b"\0", b"\0\x09"] {
        simulation.raw(client, to, packet);
    }
    steps(&mut simulation, 20);
    assert_eq!(simulation.clients.list[client].outcome, None);
    simulation.raw(client, to, b"\0\x01menu\0mail\0");
    steps(&mut simulation, 20);
    assert_eq!(simulation.refusal(client), (ErrorCode::IllegalOperation, "unknown transfer mode"));
    let client = simulation.add(Plan { start: Moment::NEVER, ..Plan::get("menu") });
    simulation.raw(client, to, b"\0\x01menu\0octet\0blksize\x004\0");
    steps(&mut simulation, 20);
    assert_eq!(simulation.refusal(client), (ErrorCode::OptionRefused, "option refused"));
}

#[test]
fn a_client_that_falls_silent_is_given_up_and_told() {
    let mut simulation = Simulation::new(1, Faults::default(), |config| config.retries = 3);
    simulation.file("kernel", &content(100_000, 1));
    let client = simulation.add(Plan { start: Moment::NEVER, ..Plan::get("kernel") });
    simulation.raw(client, (SERVER, 69).into(), b"\0\x01kernel\0octet\0");
    steps(&mut simulation, 2);
    assert_eq!(simulation.server.active(), 1);
    simulation.clients.list[client].outcome = Some(Outcome::GaveUp);
    simulation.drain();
    assert_eq!(simulation.metrics(0).failed.get(), 1);
    assert_eq!(simulation.metrics(0).retransmits.get(), 3);
    assert_eq!(simulation.reason(0, Reason::TimedOut), 1);
}

#[test]
fn a_new_configuration_holds_for_new_requests() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    simulation.file("kernel", &content(1_000_000, 1));
    let old = simulation.add(Plan::get("kernel").options(1468, 4));
    while simulation.clients.list[old].bytes.len() < 10_000 {
        assert!(simulation.step());
    }
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("kernel"), "new").unwrap();
    let config = crate::config::Tftp::new(other.path().to_owned());
    simulation.server.apply(TftpServer::prepare(&config).unwrap());
    let missing = crate::config::Tftp::new(other.path().join("missing"));
    let error = TftpServer::prepare(&missing).unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains("create it"), "{error}");
    assert!(TftpServer::new(&missing).is_err());
    let new = simulation.add(Plan::get("kernel"));
    simulation.run();
    assert!(simulation.bytes(old) == content(1_000_000, 1));
    assert_eq!(simulation.bytes(new), b"new");
}

fn steps(simulation: &mut Simulation, count: usize) {
    for _ in 0..count {
        simulation.step();
    }
}
