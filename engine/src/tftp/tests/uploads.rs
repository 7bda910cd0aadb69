//! Uploads.

use std::sync::Arc;
use std::time::Duration;

use bootstorm_net::sim::Faults;
use bootstorm_protocols::tftp::{ErrorCode, Mode};
use bootstorm_protocols::time::Moment;

use super::clients::{Outcome, Plan, SERVER, content};
use super::simulation::Simulation;
use crate::config::UploadMode;
use crate::event::Kind;
use crate::tftp::reason::Reason;

fn put(name: &str, bytes: Vec<u8>) -> Plan {
    Plan { upload: Some(Arc::new(bytes)), ..Plan::get(name) }
}

fn names(simulation: &Simulation) -> Vec<String> {
    let entries = std::fs::read_dir(simulation.path("")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn uploads_are_off_unless_allowed() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    let client = simulation.add(put("log", vec![1; 100]));
    simulation.run();
    assert_eq!(simulation.refusal(client), (ErrorCode::AccessViolation, "uploads are not allowed"));
    assert!(names(&simulation).is_empty());
}

#[test]
fn uploads_over_a_bad_network_are_stored_byte_for_byte() {
    let delay = Duration::from_micros(100);
    let faults =
        Faults { loss: 0.05, duplicate: 0.03, delay: delay..delay * 2, ..Faults::default() };
    let mut simulation = Simulation::new(1, faults, |config| config.upload = UploadMode::Create);
    let lens = [0, 1, 512, 5_000, 1_500_000];
    for len in lens {
        simulation.add(put(&format!("plain-{len}"), content(len, 3)));
        simulation.add(put(&format!("window-{len}"), content(len, 4)).options(1024, 8));
    }
    simulation.run();
    simulation.drain();
    for len in lens {
        assert!(std::fs::read(simulation.path(format!("plain-{len}"))).unwrap() == content(len, 3));
        assert!(
            std::fs::read(simulation.path(format!("window-{len}"))).unwrap() == content(len, 4)
        );
    }
    assert_eq!(names(&simulation).len(), lens.len() * 2, "{:?}", names(&simulation));
    assert_eq!(simulation.events(Kind::TransferFinished), lens.len() * 2);
}

#[test]
fn nothing_is_overwritten_and_nothing_half_is_left() {
    let mut simulation = Simulation::new(1, Faults::default(), |config| {
        config.upload = UploadMode::Create;
        config.retries = 2;
    });
    simulation.file("log", b"kept");
    let taken = simulation.add(put("log", vec![1; 100]));
    simulation.run();
    assert_eq!(simulation.refusal(taken), (ErrorCode::FileExists, "file exists"));
    let missing = simulation.add(put("no/such/directory", vec![1; 100]));
    simulation.run();
    assert_eq!(simulation.refusal(missing).0, ErrorCode::FileNotFound);
    let large = put("large", vec![1; 100]).options(512, 1);
    let asked = bootstorm_protocols::tftp::Negotiated { tsize: Some(1 << 50), ..large.asked };
    let large = simulation.add(Plan { asked, ..large });
    simulation.run();
    assert_eq!(simulation.refusal(large), (ErrorCode::DiskFull, "upload is too large"));

    let lost = simulation.add(put("lost", content(900_000, 1)));
    for _ in 0..200 {
        simulation.step();
    }
    assert_eq!(names(&simulation).len(), 2, "the upload has begun under another name");
    simulation.network.set_faults(Faults { loss: 1.0, ..Faults::default() });
    simulation.drain();
    assert_eq!(names(&simulation), ["log"]);
    assert_eq!(simulation.clients.list[lost].outcome, None);
    assert_eq!(std::fs::read(simulation.path("log")).unwrap(), b"kept");
}

#[test]
fn an_upload_that_only_waits_for_a_lost_ack_is_none_of_its_client_s_transfers() {
    let mut simulation = Simulation::new(1, Faults::default(), |config| {
        config.upload = UploadMode::Create;
        config.max_transfers_per_client = 1;
    });
    simulation.file("kernel", b"kernel");
    let stored = simulation.add(put("log", vec![1; 100]));
    simulation.run();
    assert_eq!(*simulation.outcome(stored), Outcome::Complete);
    assert_eq!(simulation.server.active(), 1, "it stays to repeat its last ACK");
    let next = simulation.add(Plan::get("kernel"));
    simulation.run();
    assert_eq!(simulation.bytes(next), b"kernel");
    assert_eq!(simulation.reason(0, Reason::ClientLimit), 0);
    simulation.drain();
}

#[test]
fn text_is_converted_back() {
    let mut simulation =
        Simulation::new(1, Faults::default(), |config| config.upload = UploadMode::Create);
    let plan = put("text", b"one\r\ntwo\r\0three\r".to_vec());
    simulation.add(Plan { mode: Mode::Netascii, ..plan });
    simulation.run();
    assert_eq!(std::fs::read(simulation.path("text")).unwrap(), b"one\ntwo\rthree\r");
}

#[test]
fn an_upload_replaces_a_file_only_when_it_is_complete() {
    let mut simulation = Simulation::new(1, Faults::default(), |config| {
        config.upload = UploadMode::Overwrite;
        config.retries = 2;
    });
    simulation.file("log", b"old");
    // One that is cut off.
    simulation.add(put("log", content(900_000, 1)).options(1024, 4));
    for _ in 0..200 {
        simulation.step();
    }
    assert_eq!(names(&simulation).len(), 2, "the upload has begun under another name");
    simulation.network.set_faults(Faults { loss: 1.0, ..Faults::default() });
    simulation.drain();
    assert_eq!(std::fs::read(simulation.path("log")).unwrap(), b"old");
    assert_eq!(names(&simulation), ["log"]);

    // One that fails: its client sends a block that is too long.
    simulation.network.set_faults(Faults::default());
    let client = simulation.add(Plan { start: Moment::NEVER, ..put("log", Vec::new()) });
    simulation.raw(client, (SERVER, 69).into(), b"\0\x02log\0octet\0");
    for _ in 0..10 {
        simulation.step();
    }
    let peer = simulation.clients.list[client].peer;
    simulation.raw(client, peer, &[&[0, 3, 0, 1], &[7; 600][..]].concat());
    simulation.drain();
    assert_eq!(std::fs::read(simulation.path("log")).unwrap(), b"old");
    assert_eq!(names(&simulation), ["log"]);

    // One that is complete, and a download that began before.
    let before = simulation.add(Plan::get("log"));
    simulation.run_until(before);
    let after = content(70_000, 3);
    let new = simulation.add(put("log", after.clone()));
    simulation.run_until(new);
    assert_eq!(simulation.bytes(before), b"old");
    assert!(std::fs::read(simulation.path("log")).unwrap() == after);
    let again = simulation.add(Plan::get("log"));
    simulation.run_until(again);
    assert!(simulation.bytes(again) == after, "the old image is still served");
    assert_eq!(names(&simulation), ["log"]);
}
