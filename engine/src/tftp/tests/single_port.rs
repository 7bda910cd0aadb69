//! All transfers from the port that was asked: `single-port`.

use std::sync::Arc;
use std::time::Duration;

use bootstorm_net::sim::Faults;
use bootstorm_protocols::time::Moment;

use super::alone::Alone;
use super::clients::{Outcome, Plan, SERVER, content};
use super::simulation::Simulation;
use crate::config::{Tftp, UploadMode};
use crate::tftp::reason::Reason;

const OACK: &[u8] = b"\0\x06blksize\x001468\0windowsize\x004\0";
const READ: &[u8] = b"\0\x01kernel\0octet\0blksize\x001468\0windowsize\x004\0";
const PLAIN: &[u8] = b"\0\x01kernel\0octet\0";
const WRITE: &[u8] = b"\0\x02upload\0octet\0blksize\x001468\0windowsize\x004\0";

fn single_port(config: &mut Tftp) {
    config.single_port = true;
    config.upload = UploadMode::Create;
}

#[test]
fn every_file_arrives_from_the_port_that_was_asked() {
    let delay = Duration::from_micros(100);
    let faults = Faults { loss: 0.03, reorder: 0.01, delay: delay..delay * 2, ..Faults::default() };
    let mut simulation = Simulation::new(2, faults, single_port);
    simulation.file("kernel", &content(300_000, 1));
    simulation.file("menu", &content(700, 2));
    let plans = [
        Plan::get("kernel"),
        Plan::get("kernel").options(1468, 16),
        Plan::get("menu").options(1024, 1),
        Plan { upload: Some(Arc::new(content(90_000, 3))), ..Plan::get("log").options(1024, 8) },
    ];
    for shard in 0..2 {
        for plan in &plans {
            let name = format!("{}{}", plan.name, if plan.upload.is_some() { shard } else { 0 });
            let name = if plan.upload.is_some() { name } else { plan.name.clone() };
            let client = simulation.add(Plan { name, ..plan.clone() });
            simulation.ask_shard(client, shard);
        }
    }
    simulation.run();
    simulation.drain();
    for client in 0..2 * plans.len() {
        let asked = 69 + 1000 * (client / plans.len()) as u16;
        match client % plans.len() {
            3 => assert_eq!(*simulation.outcome(client), Outcome::Complete),
            2 => assert!(simulation.bytes(client) == content(700, 2)),
            _ => assert!(simulation.bytes(client) == content(300_000, 1)),
        }
        let ports = &simulation.clients.list[client].ports;
        assert!(ports.iter().all(|port| *port == asked), "{ports:?}");
    }
    for name in ["log0", "log1"] {
        assert!(std::fs::read(simulation.path(name)).unwrap() == content(90_000, 3));
    }
}

#[test]
fn no_transfer_gets_blocks_of_the_one_before_it_from_the_same_port() {
    // The path keeps the order of packets and loses every fifth. So often the server does not know
    // that the client has its file, while the client asks for the next from the same port.
    let delay = Duration::from_millis(100);
    let faults = Faults { loss: 0.2, delay: delay..delay, ..Faults::default() };
    let mut simulation = Simulation::new(1, faults, single_port);
    for file in 0..7 {
        simulation.file(&format!("{file}"), &content(100 + 700 * file, file as u64));
    }
    let plan = |round: usize| {
        let plan = Plan::get(&format!("{}", round % 7));
        if round.is_multiple_of(2) { plan } else { plan.options(512, 4) }
    };
    let client = simulation.add(plan(0));
    for round in 0..400 {
        let expected = content(100 + 700 * (round % 7), (round % 7) as u64);
        while simulation.clients.list[client].bytes.len() < expected.len() {
            assert_eq!(simulation.clients.list[client].outcome, None, "round {round}");
            simulation.step();
        }
        assert!(simulation.clients.list[client].bytes == expected, "round {round}");
        let pause = Duration::from_millis(round as u64 * 37 % 1900);
        let until = simulation.network.now() + pause;
        while simulation.network.now() < until && simulation.step() {}
        simulation.again(client, plan(round + 1));
    }
}

#[test]
fn the_first_packets_come_again_when_the_client_asks_again_and_not_by_a_timer() {
    let soon = Duration::from_millis(250);
    // The time in which every timer would have expired, but the transfer is not given up.
    let wait = |alone: &mut Alone| {
        for _ in 0..16 {
            alone.tx.now = alone.tx.now + soon;
            alone.batch_end(true);
        }
        assert_eq!((alone.taken().len(), alone.packets().len()), (0, 0));
    };
    for (request, oack) in [(READ, true), (WRITE, true), (PLAIN, false)] {
        let mut alone = Alone::new(single_port);
        for _ in 0..3 {
            alone.request(4000, request);
            match oack {
                true => assert_eq!(alone.packets(), [OACK]),
                false => {
                    let sends = alone.taken();
                    assert_eq!(sends.iter().map(|send| send.len).collect::<Vec<_>>(), [516]);
                    alone.sent(sends[0], None);
                }
            }
            wait(&mut alone);
        }
        if request == READ {
            // The blocks behind the OACK are lost each time: the client repeats its ACK 0.
            for _ in 0..3 {
                alone.ack(4000, 0);
                alone.batch_end(true);
                let sends = alone.taken();
                assert_eq!(sends.iter().map(|send| send.len).sum::<usize>(), 4 * 1472);
                sends.into_iter().for_each(|send| alone.sent(send, None));
                // One that came twice is answered once.
                alone.ack(4000, 0);
                alone.batch_end(true);
                assert_eq!(alone.taken().len(), 0);
                wait(&mut alone);
            }
        }
        // A client that stays silent is given up.
        for _ in 0..400 {
            alone.tx.now = alone.tx.now + soon;
            alone.batch_end(true);
        }
        assert_eq!(alone.server.active(), 0);
    }
}

#[test]
fn blocks_that_cannot_be_mistaken_come_again_by_the_timer() {
    let mut alone = Alone::new(single_port);
    alone.request(4000, READ);
    alone.ack(4000, 0);
    alone.batch_end(true);
    for send in alone.taken() {
        alone.sent(send, None);
    }
    alone.ack(4000, 4);
    alone.batch_end(true);
    let window = alone.taken();
    assert_eq!(window.len(), 1);
    alone.sent(window[0], None);
    alone.tx.now = alone.tx.now + Duration::from_secs(2);
    alone.batch_end(true);
    assert_eq!(alone.taken().len(), 1);
}

#[test]
fn what_fits_no_transfer_is_counted_and_not_answered() {
    let mut alone = Alone::new(single_port);
    alone.ack(4000, 1);
    alone.data(4000, 1, b"late");
    alone.batch_end(true);
    assert_eq!(alone.packets().len(), 0);
    let unknown = alone.metrics().reasons.values().nth(Reason::UnknownTransfer.number());
    assert_eq!(unknown, Some(2));
}

#[test]
fn a_server_that_drains_ends_what_it_began() {
    let mut simulation = Simulation::new(1, Faults::default(), single_port);
    simulation.file("kernel", &content(500_000, 1));
    let client = simulation.add(Plan::get("kernel").options(1468, 4));
    while simulation.clients.list[client].bytes.len() < 20_000 {
        assert!(simulation.step());
    }
    simulation.shards[0].1.tftp.drain();
    let late = simulation.add(Plan { start: Moment::NEVER, ..Plan::get("kernel") });
    simulation.raw(late, (SERVER, 69).into(), b"\0\x01kernel\0octet\0");
    while simulation.clients.list[client].outcome.is_none() {
        assert!(simulation.step());
    }
    assert!(simulation.bytes(client) == content(500_000, 1));
    assert_eq!(simulation.clients.list[late].outcome, None);
    assert_eq!(simulation.metrics(0).requests.get(), 1);
}

#[test]
fn transfers_go_on_when_their_interface_is_made_again() {
    let mut simulation = Simulation::new(1, Faults::default(), single_port);
    simulation.file("kernel", &content(500_000, 1));
    let reads = simulation.add(Plan::get("kernel").options(1468, 4));
    let upload = Some(Arc::new(content(500_000, 2)));
    let writes = simulation.add(Plan { upload, ..Plan::get("log").options(1468, 4) });
    while simulation.clients.list[reads].bytes.len() < 20_000 {
        assert!(simulation.step());
    }
    simulation.close_requests();
    let until = simulation.network.now() + Duration::from_millis(900);
    while simulation.network.now() < until {
        assert!(simulation.step());
    }
    assert_eq!(simulation.server.active(), 2);
    simulation.open_requests();
    simulation.run();
    assert!(simulation.bytes(reads) == content(500_000, 1));
    assert_eq!(*simulation.outcome(writes), Outcome::Complete);
    assert!(std::fs::read(simulation.path("log")).unwrap() == content(500_000, 2));

    let gone = simulation.add(Plan::get("kernel").options(1468, 4));
    while simulation.clients.list[gone].bytes.len() < 20_000 {
        assert!(simulation.step());
    }
    simulation.close_requests();
    simulation.drain();
    assert_eq!(simulation.server.active(), 0);
}

#[test]
fn a_client_port_begins_anew_when_it_asks_for_something_else() {
    let mut simulation = Simulation::new(1, Faults::default(), single_port);
    simulation.file("kernel", &content(500_000, 1));
    simulation.file("menu", b"menu");
    let client = simulation.add(Plan::get("kernel").options(1468, 4));
    while simulation.clients.list[client].bytes.len() < 20_000 {
        assert!(simulation.step());
    }
    simulation.again(client, Plan { start: Moment::default(), ..Plan::get("menu") });
    simulation.run();
    assert_eq!(simulation.bytes(client), b"menu");
    assert_eq!(simulation.server.active(), 0);
}
