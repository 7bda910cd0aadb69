//! What a shard does while the engine has not sent what it was given.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bootstorm_net::sim::{Faults, SimInterface, SimNetwork, SimSocket};
use bootstorm_net::{
    Address, Backend, Datagram, Held, Limits, Refused, SharedBytes, SocketId, Target, Transmit,
};
use bootstorm_protocols::time::Moment;

use super::fleet::{SERVER, content};
use crate::config;
use crate::metrics::Metrics;
use crate::tftp::{TftpPorts, TftpServer, TftpShard};

/// An engine that takes `room` shared sends and reports none.
struct Stuck {
    room: usize,
    /// Bytes and segment of each send.
    shared: Vec<(usize, u16)>,
    token: u64,
}

impl Transmit for Stuck {
    fn send(
        &mut self,
        _: SocketId,
        _: &Target,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Refused> {
        write(&mut [0; 2048]);
        Ok(())
    }

    fn hold(
        &mut self,
        _: SocketId,
        _: &Target,
        _: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<Held, Refused> {
        Err(Refused::Full)
    }

    fn submit(&mut self, _: Held) {}

    fn discard(&mut self, _: Held) {}

    fn send_shared(
        &mut self,
        _: SocketId,
        _: &Target,
        bytes: SharedBytes,
        segment: u16,
        token: u64,
    ) -> Result<(), Refused> {
        if self.shared.len() >= self.room {
            return Err(Refused::Full);
        }
        self.shared.push((bytes.len(), segment));
        self.token = token;
        Ok(())
    }

    fn now(&self) -> Moment {
        Moment::from_nanos(1)
    }
}

#[test]
fn a_window_goes_in_two_sends_and_the_next_waits_until_both_are_accepted() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("kernel"), content(500_000, 1)).unwrap();
    let config = config::Tftp::new(root.path().to_owned());
    let server = TftpServer::with_threads(&config, 0).unwrap();
    let network = SimNetwork::new(1, Faults::default());
    let addresses = vec![Address { ip: IpAddr::V4(SERVER), prefix: 24 }];
    let interface = SimInterface { ifindex: 1, mac: [2; 6], addresses, segment: 0 };
    let link = network.attach(interface);
    let mut sim = network.backend(&Limits::default());
    let listen = sim.add_socket(SimSocket::udp(link, (SERVER, 69))).unwrap();
    let data = sim.add_socket(SimSocket::udp(link, (SERVER, 1069))).unwrap();
    let ports = vec![TftpPorts { listen, data: vec![data] }];
    let metrics = Arc::new(Metrics::new(1));
    let mut shard = TftpShard::new(server, ports, sim.waker(), metrics, 0);
    let mut tx = Stuck { room: 2, shared: Vec::new(), token: 0 };
    let source = SocketAddr::from(([10, 0, 0, 9], 4000));
    let datagram = |socket, payload: &'static [u8]| Datagram {
        socket,
        source,
        destination: Some(IpAddr::V4(SERVER)),
        ifindex: 1,
        payload,
        segment: 0,
        truncated: false,
    };
    let request = b"\0\x01kernel\0octet\0blksize\x001468\0windowsize\x0064\0";
    shard.datagram(&datagram(listen, request), &mut tx);
    shard.woken(&mut tx);
    shard.datagram(&datagram(data, b"\0\x04\0\0"), &mut tx);
    // 44 blocks of 1472 bytes are what one send of 65,507 bytes holds.
    assert_eq!(tx.shared, [(44 * 1472, 1472), (20 * 1472, 1472)]);

    // An ACK inside the window: what is behind it is due again, but not before the engine is done.
    tx.room = 100;
    shard.datagram(&datagram(data, b"\0\x04\0\x0a"), &mut tx);
    assert_eq!(tx.shared.len(), 2);
    let token = tx.token;
    shard.sent(token, &Ok(()), &mut tx);
    assert_eq!(tx.shared.len(), 2, "one of two is accepted");
    shard.sent(token, &Ok(()), &mut tx);
    assert_eq!(tx.shared[2..], [(44 * 1472, 1472), (20 * 1472, 1472)]);

    // No room for more: what is left comes as soon as there is some, and nobody need say so.
    shard.sent(token, &Ok(()), &mut tx);
    shard.sent(token, &Ok(()), &mut tx);
    tx.room = tx.shared.len() + 1;
    shard.datagram(&datagram(data, b"\0\x04\0\x4a"), &mut tx);
    assert_eq!(tx.shared.len(), 5);
    shard.sent(token, &Ok(()), &mut tx);
    let retry = shard.batch_end(&mut tx).expect("the shard wants to be called again");
    assert!(retry <= tx.now() + crate::tftp::service::RETRY);
    tx.room = 100;
    shard.batch_end(&mut tx);
    assert_eq!(tx.shared[4..], [(44 * 1472, 1472), (20 * 1472, 1472)]);

    // A path that takes no segments gets datagrams one by one.
    let broken = Err(std::io::Error::from_raw_os_error(5));
    shard.sent(token, &broken, &mut tx);
    assert_eq!(tx.shared[6..].iter().filter(|send| **send == (1472, 0)).count(), 64);
}
