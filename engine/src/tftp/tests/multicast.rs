//! Streams with many clients, on a simulated network.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bootstorm_net::sim::{Faults, Outbox};
use bootstorm_net::{Datagram, Target, Transmit};
use bootstorm_protocols::tftp::{
    Arrived, ErrorCode, Listener, ListenerSend, Multicast, Packet, Rollover, ack, write_error,
    write_request,
};
use bootstorm_protocols::time::Moment;

use super::clients::{Client, Outcome, Plan, SERVER, content, copy, policy};
use super::simulation::Simulation;
use crate::config::{self, Prefix};
use crate::event::Kind;

fn lan() -> Faults {
    let delay = Duration::from_micros(100)..Duration::from_micros(200);
    Faults { delay, ..Faults::default() }
}

impl Client {
    /// Replaces the receiver by a listener if the server has granted the multicast option.
    pub(super) fn start_listener(&mut self, now: Moment) {
        let Some(Multicast { master, .. }) = self.granted.multicast else { return };
        let (block_len, window) = (self.granted.block_len(), self.granted.window_len());
        let listener = Listener::new(block_len, window, None, master, &policy(), now);
        self.listener = Some(listener);
    }

    /// A block that was sent to a group arrived.
    pub(super) fn multicast_block(
        &mut self,
        group: Ipv4Addr,
        datagram: &Datagram<'_>,
        now: Moment,
    ) {
        let own = self.granted.multicast.and_then(|multicast| multicast.group);
        let Some(listener) = &mut self.listener else { return };
        if own.is_none_or(|own| *own.ip() != group) || self.outcome.is_some() {
            return;
        }
        let Ok(Packet::Data { block, data }) = Packet::parse(datagram.payload) else { panic!() };
        assert_eq!(datagram.source, self.peer);
        match listener.on_data(block, data.len(), now) {
            Arrived::Ignored => {}
            Arrived::TooLong => panic!("block {block} has {} bytes", data.len()),
            Arrived::Take | Arrived::Complete => {
                let at = usize::from(block - 1) * usize::from(self.granted.block_len());
                self.bytes.resize(self.bytes.len().max(at + data.len()), 0);
                self.bytes[at..at + data.len()].copy_from_slice(data);
            }
        }
    }

    pub(super) fn send_as_listener(&mut self, tx: &mut Outbox) {
        let Some(listener) = &mut self.listener else { return };
        let Some(packet) = listener.pending() else { return };
        listener.sent(tx.now());
        let to = match packet {
            ListenerSend::Ack(_) => self.peer,
            ListenerSend::Request => SocketAddr::from((SERVER, self.port)),
        };
        let target = Target::Udp { to, from: Some(self.address), ifindex: 0 };
        let plan = &self.plan;
        let write = |slot: &mut [u8]| match packet {
            ListenerSend::Ack(block) => copy(slot, &ack(block, Rollover::default())),
            ListenerSend::Request => {
                let mut writer =
                    write_request(slot, false, plan.name.as_bytes(), plan.mode).unwrap();
                plan.asked.write_options(&mut writer).unwrap();
                writer.finish()
            }
        };
        tx.send(self.socket, &target, write).unwrap();
        if listener.is_complete() {
            self.outcome = Some(Outcome::Complete);
        }
    }
}

fn simulation(faults: Faults, change: impl FnOnce(&mut config::Tftp)) -> Simulation {
    Simulation::new(1, faults, |config| {
        let groups = Prefix::containing(Ipv4Addr::new(239, 255, 1, 0), 24).unwrap();
        config.multicast = Some(config::Multicast { groups, port: 1758, ttl: 1 });
        change(config);
    })
}

fn listens(name: &str) -> Plan {
    let plan = Plan::get(name).options(512, 4);
    Plan { asked: super::clients::with_multicast(plan.asked), ..plan }
}

fn later(plan: Plan, after: Duration) -> Plan {
    Plan { start: Moment::default() + after, ..plan }
}

#[test]
fn a_hundred_clients_share_one_stream() {
    let mut simulation = simulation(lan(), |_| {});
    let file = content(200_000, 1);
    simulation.file("image", &file);
    for _ in 0..100 {
        simulation.add(listens("image"));
    }
    simulation.run();
    simulation.drain();
    for client in 0..100 {
        assert!(simulation.bytes(client) == file, "client {client}");
    }
    let groups: HashSet<_> = simulation
        .clients
        .list
        .iter()
        .map(|client| client.granted.multicast.unwrap().group)
        .collect();
    assert_eq!(groups.len(), 1);
    let metrics = simulation.metrics(0);
    assert_eq!((metrics.listeners.get(), metrics.finished.get()), (99, 100));
    // The file was sent once, and not once for each client.
    assert!(metrics.bytes.get() < 2 * 200_000, "{}", metrics.bytes.get());
    assert_eq!(
        (simulation.events(Kind::TransferStarted), simulation.events(Kind::TransferFinished)),
        (100, 100)
    );
    simulation.step();
    assert_eq!(simulation.metrics(0).streams.get(), 0);
}

#[test]
fn who_comes_late_gets_the_beginning_too() {
    let mut simulation = simulation(lan(), |_| {});
    let file = content(400_000, 2);
    simulation.file("image", &file);
    for client in 0..20 {
        simulation.add(later(listens("image"), Duration::from_millis(3 * client)));
    }
    simulation.run();
    simulation.drain();
    for client in 0..20 {
        assert!(simulation.bytes(client) == file, "client {client}");
    }
    assert!(
        simulation.metrics(0).bytes.get() < 3 * 400_000,
        "{}",
        simulation.metrics(0).bytes.get()
    );
    assert_eq!(simulation.metrics(0).finished.get(), 20);
}

#[test]
fn lost_packets_are_made_good() {
    let faults = Faults { loss: 0.05, duplicate: 0.02, reorder: 0.02, ..lan() };
    let mut simulation = simulation(faults, |config| config.retries = 100);
    let file = content(100_000, 3);
    simulation.file("image", &file);
    for client in 0..30 {
        simulation.add(later(listens("image"), Duration::from_millis(client)));
    }
    simulation.run();
    for client in 0..30 {
        assert!(simulation.bytes(client) == file, "client {client}");
    }
}

#[test]
fn a_master_that_dies_is_followed_by_another() {
    let mut simulation = simulation(lan(), |_| {});
    let file = content(300_000, 4);
    simulation.file("image", &file);
    for _ in 0..10 {
        simulation.add(listens("image"));
    }
    // One master is switched off in the middle of the file; the next one ends with an ERROR.
    while simulation.clients.list[0].bytes.len() < 100_000 {
        assert!(simulation.step());
    }
    let master = |simulation: &Simulation| {
        let is_master = |client: &Client| {
            client.outcome.is_none() && client.listener.as_ref().is_some_and(Listener::is_master)
        };
        simulation.clients.list.iter().position(is_master)
    };
    let first = master(&simulation).unwrap();
    simulation.clients.list[first].outcome = Some(Outcome::GaveUp);
    while master(&simulation).is_none() {
        assert!(simulation.step());
    }
    let second = master(&simulation).unwrap();
    let peer = simulation.clients.list[second].peer;
    let mut error = [0; 32];
    let len = write_error(&mut error, ErrorCode::NotDefined, "power button").unwrap();
    simulation.raw(second, peer, &error[..len]);
    simulation.clients.list[second].outcome = Some(Outcome::GaveUp);
    simulation.run();
    simulation.drain();
    for client in (0..10).filter(|client| ![first, second].contains(client)) {
        assert!(simulation.bytes(client) == file, "client {client}");
    }
    assert_eq!((simulation.metrics(0).finished.get(), simulation.metrics(0).failed.get()), (8, 2));
}

#[test]
fn where_there_can_be_no_stream_each_gets_the_file_by_itself() {
    let none = |config: &mut config::Tftp| config.multicast = None;
    let one = |config: &mut config::Tftp| {
        let groups = Prefix::containing(Ipv4Addr::new(239, 255, 1, 1), 32).unwrap();
        config.multicast = Some(config::Multicast { groups, port: 1758, ttl: 1 });
    };
    // Not configured; more blocks than 16 bits can count; no free group for the second file.
    for (change, len, blksize, streams) in
        [(&none as &dyn Fn(&mut _), 5000, 512, 0), (&one, 600_000, 8, 0), (&one, 5000, 512, 1)]
    {
        let mut simulation = simulation(lan(), change);
        let files: Vec<_> = (0..2).map(|seed| content(len, seed)).collect();
        for (name, file) in ["a", "b"].into_iter().zip(&files) {
            simulation.file(name, file);
            simulation.add(listens(name).options(blksize, 8));
        }
        simulation.run();
        let granted =
            simulation.clients.list.iter().filter(|client| client.granted.multicast.is_some());
        assert_eq!(granted.count(), streams);
        for (client, file) in files.iter().enumerate() {
            assert!(simulation.bytes(client) == *file);
        }
    }
}

#[test]
fn a_file_that_changes_begins_a_stream_of_its_own() {
    let mut simulation = simulation(lan(), |_| {});
    let (old, new) = (content(200_000, 5), content(150_000, 6));
    simulation.file("image", &old);
    simulation.add(listens("image"));
    while simulation.clients.list[0].bytes.len() < 50_000 {
        assert!(simulation.step());
    }
    std::fs::remove_file(simulation.path("image")).unwrap();
    simulation.file("image", &new);
    simulation.add(listens("image"));
    simulation.run();
    assert!(simulation.bytes(0) == old);
    assert!(simulation.bytes(1) == new);
    assert_eq!(simulation.metrics(0).listeners.get(), 0);
}
