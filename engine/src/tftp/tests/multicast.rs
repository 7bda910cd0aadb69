//! Streams of many clients, over a simulated network.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bootstorm_net::sim::Faults;
use bootstorm_net::{Datagram, Outbox, Target, Transmit};
use bootstorm_protocols::tftp::{
    Arrived, ErrorCode, Listener, ListenerSend, Multicast, Packet, Rollover, ack, write_error,
    write_request,
};
use bootstorm_protocols::time::Moment;

use super::fleet::{Client, Fleet, Outcome, Plan, SERVER, content, copy, policy};
use crate::config::{self, Prefix};
use crate::event::Kind;

fn lan() -> Faults {
    let delay = Duration::from_micros(100)..Duration::from_micros(200);
    Faults { delay, ..Faults::default() }
}

impl Client {
    /// The receiver's part is over when the server has granted a place in a stream.
    pub(super) fn begin_to_listen(&mut self, now: Moment) {
        let Some(Multicast { master, .. }) = self.granted.multicast else { return };
        let (block_len, window) = (self.granted.block_len(), self.granted.window_len());
        let listener = Listener::new(block_len, window, None, master, &policy(), now);
        self.listener = Some(listener);
    }

    /// A block for a group.
    pub(super) fn hear(&mut self, group: Ipv4Addr, datagram: &Datagram<'_>, now: Moment) {
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

    pub(super) fn say_as_listener(&mut self, tx: &mut Outbox) {
        let Some(listener) = &mut self.listener else { return };
        let Some(says) = listener.pending() else { return };
        listener.sent(tx.now());
        let to = match says {
            ListenerSend::Ack(_) => self.peer,
            ListenerSend::Request => SocketAddr::from((SERVER, self.port)),
        };
        let target = Target::Udp { to, from: Some(self.address), ifindex: 0 };
        let plan = &self.plan;
        let write = |slot: &mut [u8]| match says {
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

fn fleet(faults: Faults, change: impl FnOnce(&mut config::Tftp)) -> Fleet {
    Fleet::new(1, faults, |config| {
        let groups = Prefix::containing(Ipv4Addr::new(239, 255, 1, 0), 24).unwrap();
        config.multicast = Some(config::Multicast { groups, port: 1758, ttl: 1 });
        change(config);
    })
}

fn listens(name: &str) -> Plan {
    let plan = Plan::get(name).options(512, 4);
    Plan { asked: super::fleet::asks_for_a_place(plan.asked), ..plan }
}

fn later(plan: Plan, after: Duration) -> Plan {
    Plan { start: Moment::default() + after, ..plan }
}

#[test]
fn a_hundred_clients_share_one_stream() {
    let mut fleet = fleet(lan(), |_| {});
    let file = content(200_000, 1);
    fleet.file("image", &file);
    for _ in 0..100 {
        fleet.add(listens("image"));
    }
    fleet.run();
    fleet.drain();
    for client in 0..100 {
        assert!(fleet.bytes(client) == file, "client {client}");
    }
    let groups: HashSet<_> =
        fleet.clients.list.iter().map(|client| client.granted.multicast.unwrap().group).collect();
    assert_eq!(groups.len(), 1);
    let metrics = fleet.metrics(0);
    assert_eq!((metrics.listeners.get(), metrics.finished.get()), (99, 100));
    // The file once, and not for each.
    assert!(metrics.bytes.get() < 2 * 200_000, "{}", metrics.bytes.get());
    assert_eq!(
        (fleet.events(Kind::TransferStarted), fleet.events(Kind::TransferFinished)),
        (100, 100)
    );
    fleet.step();
    assert_eq!(fleet.metrics(0).streams.get(), 0);
}

#[test]
fn who_comes_late_gets_the_beginning_too() {
    let mut fleet = fleet(lan(), |_| {});
    let file = content(400_000, 2);
    fleet.file("image", &file);
    for client in 0..20 {
        fleet.add(later(listens("image"), Duration::from_millis(3 * client)));
    }
    fleet.run();
    fleet.drain();
    for client in 0..20 {
        assert!(fleet.bytes(client) == file, "client {client}");
    }
    assert!(fleet.metrics(0).bytes.get() < 3 * 400_000, "{}", fleet.metrics(0).bytes.get());
    assert_eq!(fleet.metrics(0).finished.get(), 20);
}

#[test]
fn lost_packets_are_made_good() {
    let faults = Faults { loss: 0.05, duplicate: 0.02, reorder: 0.02, ..lan() };
    let mut fleet = fleet(faults, |config| config.retries = 100);
    let file = content(100_000, 3);
    fleet.file("image", &file);
    for client in 0..30 {
        fleet.add(later(listens("image"), Duration::from_millis(client)));
    }
    fleet.run();
    for client in 0..30 {
        assert!(fleet.bytes(client) == file, "client {client}");
    }
}

#[test]
fn a_master_that_dies_is_followed_by_another() {
    let mut fleet = fleet(lan(), |_| {});
    let file = content(300_000, 4);
    fleet.file("image", &file);
    for _ in 0..10 {
        fleet.add(listens("image"));
    }
    // One master is switched off in the middle, the next says that it leaves.
    while fleet.clients.list[0].bytes.len() < 100_000 {
        assert!(fleet.step());
    }
    let master = |fleet: &Fleet| {
        let is_master = |client: &Client| {
            client.outcome.is_none() && client.listener.as_ref().is_some_and(Listener::is_master)
        };
        fleet.clients.list.iter().position(is_master)
    };
    let first = master(&fleet).unwrap();
    fleet.clients.list[first].outcome = Some(Outcome::GaveUp);
    while master(&fleet).is_none() {
        assert!(fleet.step());
    }
    let second = master(&fleet).unwrap();
    let peer = fleet.clients.list[second].peer;
    let mut error = [0; 32];
    let len = write_error(&mut error, ErrorCode::NotDefined, "power button").unwrap();
    fleet.raw(second, peer, &error[..len]);
    fleet.clients.list[second].outcome = Some(Outcome::GaveUp);
    fleet.run();
    fleet.drain();
    for client in (0..10).filter(|client| ![first, second].contains(client)) {
        assert!(fleet.bytes(client) == file, "client {client}");
    }
    assert_eq!((fleet.metrics(0).finished.get(), fleet.metrics(0).failed.get()), (8, 2));
}

#[test]
fn where_there_can_be_no_stream_each_gets_the_file_by_itself() {
    let none = |config: &mut config::Tftp| config.multicast = None;
    let one = |config: &mut config::Tftp| {
        let groups = Prefix::containing(Ipv4Addr::new(239, 255, 1, 1), 32).unwrap();
        config.multicast = Some(config::Multicast { groups, port: 1758, ttl: 1 });
    };
    // Not configured; more blocks than 16 bits count; no group left for the second file.
    for (change, len, blksize, streams) in
        [(&none as &dyn Fn(&mut _), 5000, 512, 0), (&one, 600_000, 8, 0), (&one, 5000, 512, 1)]
    {
        let mut fleet = fleet(lan(), change);
        let files: Vec<_> = (0..2).map(|seed| content(len, seed)).collect();
        for (name, file) in ["a", "b"].into_iter().zip(&files) {
            fleet.file(name, file);
            fleet.add(listens(name).options(blksize, 8));
        }
        fleet.run();
        let granted = fleet.clients.list.iter().filter(|client| client.granted.multicast.is_some());
        assert_eq!(granted.count(), streams);
        for (client, file) in files.iter().enumerate() {
            assert!(fleet.bytes(client) == *file);
        }
    }
}

#[test]
fn a_file_that_changes_begins_a_stream_of_its_own() {
    let mut fleet = fleet(lan(), |_| {});
    let (old, new) = (content(200_000, 5), content(150_000, 6));
    fleet.file("image", &old);
    fleet.add(listens("image"));
    while fleet.clients.list[0].bytes.len() < 50_000 {
        assert!(fleet.step());
    }
    std::fs::remove_file(fleet.path("image")).unwrap();
    fleet.file("image", &new);
    fleet.add(listens("image"));
    fleet.run();
    assert!(fleet.bytes(0) == old);
    assert!(fleet.bytes(1) == new);
    assert_eq!(fleet.metrics(0).listeners.get(), 0);
}
