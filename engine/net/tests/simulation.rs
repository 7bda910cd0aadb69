//! The simulated network: its faults happen, and happen again with the same seed.

// A helper of a test may panic as the test itself may.
#![allow(clippy::unwrap_used)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bootstorm_net::sim::{Faults, InterfaceId, Sim, SimInterface, SimNetwork, SimSocket};
use bootstorm_net::{
    Address, Backend, Datagram, Handler, Limits, SharedBytes, Steering, Target, Transmit,
};
use bootstorm_protocols::time::Moment;

/// What arrived, and when.
#[derive(Default)]
struct Sink {
    arrived: Vec<(Moment, IpAddr, Vec<u8>)>,
    sent: Vec<(u64, bool)>,
}

impl<T: Transmit> Handler<T> for Sink {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        let destination = datagram.destination.unwrap();
        self.arrived.push((tx.now(), destination, datagram.payload.to_vec()));
    }

    fn woken(&mut self, _: &mut T) {}

    fn sent(&mut self, token: u64, result: io::Result<()>, _: &mut T) {
        self.sent.push((token, result.is_ok()));
    }

    fn batch_end(&mut self, _: bool, _: &mut T) -> Option<Moment> {
        None
    }
}

impl Sink {
    fn numbers(&self) -> Vec<u32> {
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.first_chunk().copied().unwrap());
        self.arrived.iter().map(|(_, _, bytes)| number(bytes)).collect()
    }
}

fn attach(network: &SimNetwork, number: u8, segment: u32) -> InterfaceId {
    network.attach(SimInterface {
        ifindex: u32::from(number),
        mac: [2, 0, 0, 0, 0, number],
        addresses: vec![Address { ip: [10, 0, 0, number].into(), prefix: 24 }],
        segment,
    })
}

fn any(port: u16) -> SocketAddr {
    ([0, 0, 0, 0], port).into()
}

/// Sends numbers from one machine to another until all is quiet.
fn run(seed: u64, faults: Faults, count: u32) -> (Sink, Sink, Sim) {
    let network = SimNetwork::new(seed, faults);
    let limits = Limits { slots: 4096, ..Limits::default() };
    let (mut sender, mut receiver) = (network.backend(&limits), network.backend(&limits));
    let out = sender.add_socket(SimSocket::udp(attach(&network, 1, 0), any(68))).unwrap();
    receiver.add_socket(SimSocket::udp(attach(&network, 2, 0), any(67))).unwrap();
    let target = Target::Udp { to: "10.0.0.2:67".parse().unwrap(), from: None, ifindex: 0 };
    for number in 0..count {
        let write = |slot: &mut [u8]| {
            slot[..4].copy_from_slice(&number.to_be_bytes());
            4
        };
        sender.tx().send(out, &target, write).unwrap();
    }
    let (mut sent, mut got) = (Sink::default(), Sink::default());
    sender.turn(None, &mut sent).unwrap();
    while network.advance().is_some() {
        sender.turn(None, &mut sent).unwrap();
        receiver.turn(None, &mut got).unwrap();
    }
    (sent, got, sender)
}

#[test]
fn without_faults_all_arrive_once_and_in_order() {
    let (_, got, _) = run(1, Faults::default(), 1000);
    assert!(got.numbers().into_iter().eq(0..1000));
    assert!(
        got.arrived.iter().all(|(at, ..)| *at == Moment::default() + Duration::from_micros(50))
    );
}

#[test]
fn one_seed_is_one_run() {
    let faults = Faults {
        loss: 0.2,
        duplicate: 0.1,
        reorder: 0.1,
        delay: Duration::from_micros(10)..Duration::from_millis(2),
        ..Faults::default()
    };
    let (_, first, _) = run(7, faults.clone(), 1000);
    let (_, again, _) = run(7, faults.clone(), 1000);
    assert!(first.arrived == again.arrived);
    let (_, other, _) = run(8, faults, 1000);
    assert!(first.arrived != other.arrived);
}

#[test]
fn every_fault_happens_about_as_often_as_asked() {
    let lossy = Faults { loss: 0.3, ..Faults::default() };
    let (_, got, _) = run(3, lossy, 4000);
    assert!((2600..3000).contains(&got.arrived.len()), "{}", got.arrived.len());

    let doubling = Faults { duplicate: 0.3, ..Faults::default() };
    let (_, got, _) = run(3, doubling, 2000);
    assert!((2500..2700).contains(&got.arrived.len()), "{}", got.arrived.len());

    let shuffling = Faults { reorder: 0.1, ..Faults::default() };
    let (_, got, _) = run(3, shuffling, 1000);
    let numbers = got.numbers();
    assert_eq!(numbers.len(), 1000);
    assert!(numbers.windows(2).any(|pair| pair[0] > pair[1]));

    let failing = Faults { send_error: 0.5, ..Faults::default() };
    let (_, got, sender) = run(3, failing, 1000);
    assert_eq!(got.arrived.len() as u64 + sender.drops().send.no_memory, 1000);
    assert!(sender.drops().send.no_memory > 400);
}

#[test]
fn a_blocked_socket_delays_but_loses_nothing() {
    let blocking = Faults { send_blocked: 0.2, ..Faults::default() };
    let (_, got, sender) = run(5, blocking, 300);
    let numbers = got.numbers();
    assert!(numbers.iter().copied().eq(0..300), "{numbers:?}");
    assert!(sender.drops().delayed > 30);
    assert!(got.arrived.last().unwrap().0 > Moment::default() + Duration::from_millis(10));
}

/// What finds a socket full is not overtaken by what was queued on it later, in whatever way; other
/// sockets go on meanwhile.
#[test]
fn a_blocked_socket_keeps_its_order_and_holds_up_no_other() {
    let network = SimNetwork::new(11, Faults { send_blocked: 0.3, ..Faults::default() });
    let limits = Limits::default();
    let (mut sender, mut receiver) = (network.backend(&limits), network.backend(&limits));
    let link = attach(&network, 1, 0);
    let sockets = [68, 69].map(|port| sender.add_socket(SimSocket::udp(link, any(port))).unwrap());
    receiver.add_socket(SimSocket::udp(attach(&network, 2, 0), any(67))).unwrap();
    let target = Target::Udp { to: "10.0.0.2:67".parse().unwrap(), from: None, ifindex: 0 };
    let tx = sender.tx();
    for number in 0..300_u32 {
        let bytes = number.to_be_bytes();
        let socket = sockets[number as usize % 2];
        let write = |slot: &mut [u8]| {
            slot[..4].copy_from_slice(&bytes);
            4
        };
        match number % 3 {
            0 => tx.send(socket, &target, write).unwrap(),
            1 => tx.send_shared(socket, &target, bytes.to_vec().into(), 0, 1).unwrap(),
            _ => {
                let held = tx.hold(socket, &target, write).unwrap();
                tx.submit(held);
            }
        }
    }
    let (mut sent, mut got) = (Sink::default(), Sink::default());
    sender.turn(None, &mut sent).unwrap();
    while network.advance().is_some() {
        sender.turn(None, &mut sent).unwrap();
        receiver.turn(None, &mut got).unwrap();
    }
    let numbers = got.numbers();
    for socket in 0..2 {
        let of = numbers.iter().copied().filter(|number| number % 2 == socket);
        assert!(of.eq((0..300).filter(|number| number % 2 == socket)), "{numbers:?}");
    }
    assert!(!numbers.iter().copied().eq(0..300), "no socket went on while the other was blocked");
}

#[test]
fn broadcasts_stay_in_their_segment_and_reach_one_shard() {
    let network = SimNetwork::new(1, Faults::default());
    let limits = Limits::default();
    let mut client = network.backend(&limits);
    let out = client.add_socket(SimSocket::udp(attach(&network, 1, 0), any(68))).unwrap();
    let near = attach(&network, 2, 0);
    let mut shards: Vec<_> = (0..4)
        .map(|shard| {
            let mut backend = network.backend(&limits);
            let steering = Steering { offset: 0, shards: 4, shard, split: None };
            backend.add_socket(SimSocket::udp(near, any(67)).steered(steering)).unwrap();
            (backend, Sink::default())
        })
        .collect();
    let mut far = network.backend(&limits);
    far.add_socket(SimSocket::udp(attach(&network, 3, 1), any(67))).unwrap();
    let to = ["255.255.255.255:67", "10.0.0.255:67", "10.0.0.2:67"];
    for (to, number) in to.iter().flat_map(|to| (0..40_u32).map(move |number| (to, number))) {
        let target = Target::Udp { to: to.parse().unwrap(), from: None, ifindex: 0 };
        let write = |slot: &mut [u8]| {
            slot[..4].copy_from_slice(&number.to_be_bytes());
            4
        };
        client.tx().send(out, &target, write).unwrap();
    }
    let (mut sink, mut nobody) = (Sink::default(), Sink::default());
    client.turn(None, &mut sink).unwrap();
    while network.advance().is_some() {
        far.turn(None, &mut nobody).unwrap();
        for (shard, sink) in &mut shards {
            shard.turn(None, sink).unwrap();
        }
    }
    assert!(nobody.arrived.is_empty());
    let mut all = Vec::new();
    for (shard, (backend, sink)) in (0..).zip(&shards) {
        let steering = Steering { offset: 0, shards: 4, shard, split: None };
        assert!(sink.arrived.iter().all(|(_, _, bytes)| steering.shard_of(bytes) == shard));
        all.extend(sink.numbers());
        // Three shards refuse each of the 80 broadcasts; nobody refuses a unicast.
        assert_eq!(backend.drops().steered as usize, 80 - sink.arrived.len() * 2 / 3);
    }
    all.sort();
    assert!(all.into_iter().eq((0..40).flat_map(|number| [number; 3])));
}

#[test]
fn a_frame_reaches_a_machine_that_has_no_address_yet() {
    let network = SimNetwork::new(1, Faults::default());
    let limits = Limits::default();
    let (mut server, mut client) = (network.backend(&limits), network.backend(&limits));
    let out = server.add_socket(SimSocket::packet(attach(&network, 1, 0))).unwrap();
    let mac = [2, 0, 0, 0, 0, 9];
    let bare = SimInterface { ifindex: 9, mac, addresses: vec![], segment: 0 };
    client.add_socket(SimSocket::udp(network.attach(bare), any(68))).unwrap();
    let frame = bootstorm_protocols::frame::UdpFrame {
        src_mac: [2, 0, 0, 0, 0, 1],
        dst_mac: mac,
        src: "10.0.0.1:67".parse().unwrap(),
        dst: "10.0.0.77:68".parse().unwrap(),
    };
    let target = Target::Link { ifindex: 1, mac };
    let write = |slot: &mut [u8]| {
        let headroom = bootstorm_protocols::frame::HEADROOM;
        slot[headroom..][..5].copy_from_slice(b"offer");
        frame.seal(slot, 5).unwrap()
    };
    server.tx().send(out, &target, write).unwrap();
    // To another machine's hardware address, and not a frame at all.
    let other = Target::Link { ifindex: 1, mac: [2, 0, 0, 0, 0, 8] };
    server.tx().send(out, &other, write).unwrap();
    server.tx().send(out, &target, |_| 20).unwrap();
    let (mut sent, mut got) = (Sink::default(), Sink::default());
    server.turn(None, &mut sent).unwrap();
    while network.advance().is_some() {
        client.turn(None, &mut got).unwrap();
    }
    let [(_, destination, payload)] = &got.arrived[..] else { panic!("one offer") };
    assert_eq!((*destination, payload.as_slice()), ([10, 0, 0, 77].into(), &b"offer"[..]));
    assert_eq!(server.drops().send.invalid, 2);
}

#[test]
fn shared_sends_are_reported_with_their_faults() {
    let network = SimNetwork::new(2, Faults { send_error: 0.5, ..Faults::default() });
    let mut sender = network.backend(&Limits::default());
    let out = sender.add_socket(SimSocket::udp(attach(&network, 1, 0), any(69))).unwrap();
    let target = Target::Udp { to: "10.0.0.2:70".parse().unwrap(), from: None, ifindex: 0 };
    let bytes = SharedBytes::from(vec![0; 3000]);
    for token in 0..100 {
        sender.tx().send_shared(out, &target, bytes.clone(), 1000, token).unwrap();
    }
    let mut sink = Sink::default();
    sender.turn(None, &mut sink).unwrap();
    while network.advance().is_some() {
        sender.turn(None, &mut sink).unwrap();
    }
    assert!(sink.sent.iter().map(|(token, _)| *token).eq(0..100));
    let failed = sink.sent.iter().filter(|(_, ok)| !ok).count();
    assert!((30..70).contains(&failed));
}
