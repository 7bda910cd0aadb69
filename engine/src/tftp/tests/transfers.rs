//! Downloads, byte for byte.

use std::fs;
use std::io::Write;
use std::time::Duration;

use bootstorm_net::sim::Faults;
use bootstorm_protocols::tftp::{ErrorCode, Mode, Negotiated, Rollover};
use bootstorm_protocols::time::Moment;

use super::clients::{Outcome, Plan, content};
use super::simulation::Simulation;
use crate::event::{Detail, Kind};

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_thousand_clients_on_a_bad_network_get_every_byte() {
    let faults = Faults {
        loss: 0.03,
        duplicate: 0.02,
        reorder: 0.02,
        delay: micros(100)..micros(300),
        send_error: 0.01,
        send_blocked: 0.02,
    };
    let mut simulation = Simulation::new(1, faults, |_| {});
    let files = [("loader", 20_000), ("menu", 1024), ("empty", 0), ("kernel", 60_000)];
    for (name, len) in files {
        simulation.file(name, &content(len, 1));
    }
    for client in 0..1000_usize {
        let plan = Plan::get(files[client % 4].0);
        let mut plan = match client % 5 {
            0 => plan,
            1 => plan.options(1468, 1),
            2 => plan.options(1024, 8),
            _ => plan.options(1428, 64),
        };
        plan.start = Moment::default() + micros(client as u64 * 50);
        simulation.add(plan);
    }
    simulation.run();
    for client in 0..1000 {
        let (name, len) = files[client % 4];
        assert!(simulation.bytes(client) == content(len, 1), "client {client} got another {name}");
    }
    simulation.drain();
    // A last ACK that is lost, and not repeated for long enough, ends as a failure at the server.
    assert!(simulation.metrics(0).finished.get() >= 990);
    // A repeated request that comes when the transfer has ended gets an OACK, and no answer
    // follows.
    let begun = simulation.events(Kind::TransferStarted);
    assert!((1000..1010).contains(&begun), "{begun}");
}

#[test]
fn every_byte_arrives_over_paths_near_and_far_that_lose_repeat_and_reorder() {
    let delays = [micros(20)..micros(40), millis(1)..millis(3), millis(50)..millis(200)];
    for loss in [0.01, 0.05, 0.1] {
        for delay in delays.clone() {
            let faults = Faults {
                loss,
                duplicate: 0.05,
                reorder: 0.05,
                delay: delay.clone(),
                ..Faults::default()
            };
            let mut simulation = Simulation::new(1, faults, |_| {});
            simulation.file("kernel", &content(300_000, 3));
            for client in 0..40_usize {
                simulation.add(Plan::get("kernel").options(1468, [1, 4, 16, 64][client % 4]));
            }
            simulation.run();
            for client in 0..40 {
                assert!(
                    simulation.bytes(client) == content(300_000, 3),
                    "{client}: {loss} {delay:?}"
                );
            }
            simulation.drain();
        }
    }
}

#[test]
fn a_clean_network_needs_no_packet_twice() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    simulation.file("kernel", &content(3_000_000, 2));
    for _ in 0..20 {
        simulation.add(Plan::get("kernel").options(1468, 64));
    }
    simulation.run();
    simulation.drain();
    for client in 0..20 {
        assert!(simulation.bytes(client) == content(3_000_000, 2));
        assert_eq!(simulation.clients.list[client].granted.tsize, Some(3_000_000));
    }
    assert_eq!(simulation.metrics(0).retransmits.get(), 0);
    assert_eq!(simulation.metrics(0).bytes.get(), 20 * 3_000_000);
    assert_eq!(simulation.metrics(0).finished.get(), 20);
    // Framed once: the bytes, and four more for each block.
    assert_eq!(simulation.server.images.resident(), 3_000_000 + 4 * (3_000_000 / 1468 + 1));
}

#[test]
fn sends_that_are_held_up_do_not_overtake_each_other() {
    let faults = Faults { send_blocked: 0.3, ..Faults::default() };
    let mut simulation = Simulation::new(1, faults, |_| {});
    simulation.file("kernel", &content(500_000, 3));
    for _ in 0..10 {
        simulation.add(Plan::get("kernel").options(1468, 64));
        // Without segmentation there are 64 sends a window.
        simulation.add(Plan::get("kernel").options(64_000, 4));
    }
    simulation.run();
    for client in 0..20 {
        assert!(simulation.bytes(client) == content(500_000, 3));
    }
    assert_eq!(
        simulation.metrics(0).retransmits.get(),
        0,
        "a gap was seen that nothing was lost in"
    );
}

#[test]
fn blocks_larger_than_the_mtu_are_given_only_when_told_to() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    simulation.file("kernel", &content(200_000, 3));
    let clamped = simulation.add(Plan::get("kernel").options(65_464, 4));
    simulation.run();
    assert_eq!(simulation.clients.list[clamped].granted.blksize, Some(1468));
    simulation.server.set_mtus([(1, 9000)]);
    let jumbo = simulation.add(Plan::get("kernel").options(65_464, 4));
    simulation.run();
    assert_eq!(simulation.clients.list[jumbo].granted.blksize, Some(8968));
    assert!(simulation.bytes(jumbo) == content(200_000, 3));

    let mut simulation =
        Simulation::new(1, Faults::default(), |config| config.clamp_to_mtu = false);
    simulation.file("kernel", &content(200_000, 3));
    let huge = simulation.add(Plan::get("kernel").options(1500, 4));
    simulation.run();
    assert_eq!(simulation.clients.list[huge].granted.blksize, Some(1500));
    assert!(simulation.bytes(huge) == content(200_000, 3));
}

#[test]
fn numbers_wrap_as_the_client_asks() {
    let mut simulation = Simulation::new(1, Faults { loss: 0.001, ..Faults::default() }, |_| {});
    let len = 8 * 66_000;
    simulation.file("kernel", &content(len, 4));
    for rollover in [None, Some(Rollover::ToZero), Some(Rollover::ToOne)] {
        let plan = Plan::get("kernel").options(8, 64);
        simulation.add(Plan { asked: Negotiated { rollover, ..plan.asked }, ..plan });
    }
    simulation.run();
    for client in 0..3 {
        assert!(simulation.bytes(client) == content(len, 4), "client {client}");
    }
}

#[test]
fn text_travels_as_netascii_and_has_no_size() {
    let mut simulation = Simulation::new(1, Faults { loss: 0.02, ..Faults::default() }, |_| {});
    let text = "first\nsecond\r\nthird\r".repeat(20_000);
    simulation.file("text", text.as_bytes());
    let plan = Plan::get("text").options(512, 16);
    let client = simulation.add(Plan { mode: Mode::Netascii, ..plan });
    simulation.run();
    assert!(simulation.bytes(client) == text.as_bytes());
    simulation.drain();
    let Some(Detail::Transfer { bytes, .. }) =
        simulation.shards[0].1.events.pop().map(|event| event.detail)
    else {
        panic!("the log hears nothing");
    };
    // Two more bytes in the first line, one in the second (its CR becomes CR NUL), one in the
    // third.
    assert_eq!(bytes, text.len() as u64 + 20_000 * 4, "as it travels, each byte once");
    assert_eq!(simulation.clients.list[client].granted.tsize, None);
}

#[test]
fn files_beyond_the_budget_stream_through_it() {
    let mut simulation =
        Simulation::new(1, Faults::default(), |config| config.image_budget = 4 << 20);
    simulation.file("large", &content(8 << 20, 5));
    for client in 0..4 {
        let start = Moment::default() + Duration::from_millis(client * 20);
        simulation.add(Plan { start, ..Plan::get("large").options(1468, 64) });
    }
    let mut most = 0;
    while simulation.step() {
        most = most.max(simulation.server.images.resident());
        if simulation.clients.list.iter().all(|client| client.outcome.is_some()) {
            break;
        }
    }
    assert!(most <= 4 << 20, "{most} bytes of images");
    for client in 0..4 {
        assert!(simulation.bytes(client) == content(8 << 20, 5));
    }
}

/// Runs until the first client has that many bytes.
#[test]
fn two_gigabytes_begin_at_once() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    fs::File::create(simulation.path("image")).unwrap().set_len(2 << 30).unwrap();
    let client = simulation.add(Plan::get("image").options(1468, 16));
    until_bytes(&mut simulation, 64 * 1468);
    assert!(
        simulation.server.images.resident() < 4 << 20,
        "{}",
        simulation.server.images.resident()
    );
    assert_eq!(simulation.clients.list[client].granted.tsize, Some(2 << 30));
}

fn until_bytes(simulation: &mut Simulation, bytes: usize) {
    while simulation.clients.list[0].bytes.len() < bytes {
        assert!(simulation.step());
    }
}

#[test]
fn a_file_written_to_while_it_is_sent_ends_in_an_error_and_never_in_a_mixture() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    simulation.file("kernel", &content(8 << 20, 6));
    let torn = simulation.add(Plan::get("kernel").options(1468, 16));
    until_bytes(&mut simulation, 100_000);
    fs::OpenOptions::new()
        .write(true)
        .open(simulation.path("kernel"))
        .unwrap()
        .write_all(b"new")
        .unwrap();
    simulation.run();
    assert_eq!(simulation.refusal(torn), (ErrorCode::NotDefined, "file changed while it was sent"));
    let got = &simulation.clients.list[torn].bytes;
    assert!(*got == content(8 << 20, 6)[..got.len()]);
    let new = simulation.add(Plan::get("kernel").options(1468, 16));
    simulation.run();
    let mut expected = content(8 << 20, 6);
    expected[..3].copy_from_slice(b"new");
    assert!(simulation.bytes(new) == expected);
    assert_eq!(simulation.events(Kind::TransferFailed), 1);
}

#[test]
fn a_file_replaced_while_it_is_sent_stays_one_version_for_each_client() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    simulation.file("kernel", &content(8 << 20, 6));
    let old = simulation.add(Plan::get("kernel").options(1468, 16));
    until_bytes(&mut simulation, 100_000);
    simulation.file("new", &content(5 << 20, 7));
    fs::rename(simulation.path("new"), simulation.path("kernel")).unwrap();
    let new = simulation.add(Plan::get("kernel").options(1468, 16));
    simulation.run();
    assert!(simulation.bytes(old) == content(8 << 20, 6));
    assert!(simulation.bytes(new) == content(5 << 20, 7));
}

#[test]
fn the_log_hears_of_bytes_and_duration() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    simulation.file("kernel", &content(300_000, 8));
    simulation.add(Plan::get("kernel").options(1468, 4));
    simulation.run();
    simulation.drain();
    let (_, shard) = &simulation.shards[0];
    assert_eq!(shard.events.len(), 2);
    let Detail::Transfer { file, bytes, took, blksize, windowsize, .. } = shard.events[1].detail
    else {
        panic!("{:?}", shard.events[1]);
    };
    let Detail::Transfer { took: at_start, .. } = shard.events[0].detail else { panic!() };
    assert_eq!(at_start, Duration::ZERO);
    assert_eq!(file.as_slice(), b"kernel");
    assert_eq!((bytes, blksize, windowsize), (300_000, 1468, 4));
    assert!(took > Duration::from_millis(2), "52 windows of 100 microseconds: {took:?}");
}

#[test]
fn a_client_that_only_wants_the_size_has_not_failed() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    simulation.file("kernel", &content(300_000, 8));
    let probe = simulation.add(Plan { probe: true, ..Plan::get("kernel").options(1468, 4) });
    simulation.run();
    simulation.drain();
    assert_eq!(simulation.clients.list[probe].granted.tsize, Some(300_000));
    // As firmware does: from the same port, at once.
    simulation.again(probe, Plan::get("kernel").options(1468, 4));
    simulation.run();
    simulation.drain();
    assert!(simulation.bytes(probe) == content(300_000, 8));
    assert_eq!(simulation.metrics(0).failed.get(), 0);
    assert_eq!(simulation.events(Kind::TransferFailed), 0);
    assert_eq!(simulation.events(Kind::TransferStarted), 1, "asking for the size begins nothing");
}

#[test]
fn the_next_transfer_of_a_client_uses_another_port() {
    let mut simulation = Simulation::new(1, Faults::default(), |_| {});
    simulation.file("menu", b"menu");
    let client = simulation.add(Plan::get("menu"));
    simulation.run();
    for turn in 2..=16 {
        simulation.again(client, Plan::get("menu"));
        simulation.run();
        assert_eq!(*simulation.outcome(client), Outcome::Complete);
        assert_eq!(simulation.clients.list[client].ports.len(), turn);
    }
}

#[test]
fn two_shards_share_the_images() {
    let mut simulation = Simulation::new(2, Faults::default(), |_| {});
    simulation.file("kernel", &content(2_000_000, 9));
    let first = simulation.add(Plan::get("kernel").options(1468, 32));
    let second = simulation.add(Plan::get("kernel").options(1468, 32));
    simulation.ask_shard(second, 1);
    simulation.run();
    simulation.drain();
    assert!(simulation.bytes(first) == content(2_000_000, 9));
    assert!(simulation.bytes(second) == content(2_000_000, 9));
    assert_eq!(
        (simulation.metrics(0).finished.get(), simulation.metrics(1).finished.get()),
        (1, 1)
    );
    assert_eq!(simulation.server.images.resident(), 2_000_000 + 4 * (2_000_000 / 1468 + 1));
}
