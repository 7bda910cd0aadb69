//! Clients and a server in one simulated network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bootstorm_loadgen::clients::{Access, Clients, Config, Relay, Release, Sockets, Sources};
use bootstorm_loadgen::memberships::Memberships;
use bootstorm_loadgen::progress::Progress;
use bootstorm_loadgen::routes::{Block, Routes};
use bootstorm_loadgen::scenario::Scenario;
use bootstorm_loadgen::seed::Seed;
use bootstorm_loadgen::validator::{Files, LocalCopies, Recorder, Validator};
use bootstorm_net::sim::{Faults, SimInterface, SimNetwork, SimSocket};
use bootstorm_net::{Address, Backend, Limits};
use bootstorm_protocols::time::Moment;

use crate::server::{ADDRESS, Fault, Server};

const GIADDR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// A run that has ended.
pub(crate) struct Ended {
    pub(crate) clients: Clients,
    pub(crate) server: Server,
}

impl Ended {
    /// Kinds of violations, sorted.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.clients.validator.rows().into_iter().map(|row| row.kind).collect()
    }
}

/// Plays a scenario against a server to its end, in no time.
pub(crate) fn play(text: &str, seed: u64, fault: Fault) -> Ended {
    play_and(text, seed, fault, None)
}

/// The same; at the end machines give their leases back, so many a second.
pub(crate) fn play_and(text: &str, seed: u64, fault: Fault, release: Option<u32>) -> Ended {
    let scenario = Scenario::parse("test", text, &[]).unwrap();
    let limits = Limits { slots: 4096, shared: 0, ..Limits::default() };
    let network = SimNetwork::new(seed, Faults::default());
    let machines = (0..=400).map(|place| u32::from_be_bytes([10, 9, 1, 0]) + place);
    let clients_side = network.attach(interface(1, std::iter::once(GIADDR.into()).chain(machines)));
    let server_side = network.attach(interface(2, std::iter::once(ADDRESS.into())));

    let mut backend = network.backend(&limits);
    let mut udp = |address: &str| {
        let address: SocketAddr = address.parse().unwrap();
        backend.add_socket(SimSocket::udp(clients_side, address)).unwrap()
    };
    let relay = Relay {
        giaddr: GIADDR,
        network: Some(Block::around(GIADDR, 16)),
        option: b"\x01\x04rack".to_vec(),
        socket: udp("10.9.0.1:67"),
        routed: true,
    };
    let tftp = (20_100..20_104).map(|port| udp(&format!("0.0.0.0:{port}"))).collect();
    let sources = Sources::Addresses { client: Some(udp("0.0.0.0:68")), tftp };
    let machines = scenario.machines;
    let access = Access::Relayed(vec![relay]);
    let sockets = Sockets {
        server: ADDRESS,
        access,
        sources,
        groups: None,
        client_addresses: None,
        machines,
    };

    let mut server_backend = network.backend(&limits);
    let mut udp = |port| {
        let address = SocketAddr::from((ADDRESS, port));
        server_backend.add_socket(SimSocket::udp(server_side, address)).unwrap()
    };
    let mut server = Server::new(fault, udp(67), udp(69));

    let start = network.now();
    let recorder = Recorder::new(false);
    let reserved = vec![GIADDR, ADDRESS];
    let validator = Validator::new(start, scenario.expected(), reserved, recorder);
    let config = Config {
        scenario,
        seed: Seed(seed),
        generation: 0,
        sockets,
        files: Files::new(LocalCopies::default()),
        validator,
        progress: Arc::new(Progress::default()),
        asked: None,
        tftp_server: None,
        routes: Routes::default(),
        memberships: Memberships::default(),
        multicast_port: None,
        fetcher: None,
        http_server: None,
    };
    let mut clients = Clients::new(config, start).unwrap();
    let mut next: Option<Moment> = Some(start);
    while !clients.is_over() {
        next = backend.turn(next, &mut clients).unwrap();
        server_backend.turn(None, &mut server).unwrap();
        network.advance();
    }
    clients.close(network.now());
    if let Some(per_second) = release {
        let mut release = Release::new(&mut clients, per_second, network.now());
        let mut next = Some(network.now());
        while !release.is_over() {
            next = backend.turn(next, &mut release).unwrap();
            server_backend.turn(None, &mut server).unwrap();
            network.advance();
        }
        server_backend.turn(None, &mut server).unwrap();
    }
    Ended { clients, server }
}

fn interface(ifindex: u32, addresses: impl Iterator<Item = u32>) -> SimInterface {
    let address = |ip: u32| Address { ip: IpAddr::V4(ip.into()), prefix: 16 };
    SimInterface {
        ifindex,
        mac: [2, 0, 0, 0, 0, ifindex as u8],
        addresses: addresses.map(address).collect(),
        segment: ifindex,
    }
}
