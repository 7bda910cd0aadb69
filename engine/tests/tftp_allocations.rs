//! The steady path of a TFTP transfer, from an ACK to the window that answers it, makes no heap
//! allocation.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bootstorm::config;
use bootstorm::metrics::Metrics;
use bootstorm::tftp::{TftpPorts, TftpServer, TftpShard};
use bootstorm_net::sim::{Faults, SimInterface, SimNetwork, SimSocket};
use bootstorm_net::{
    Address, Backend, Datagram, Held, Limits, Refused, SharedBytes, SocketId, Target, Transmit,
};
use bootstorm_protocols::time::Moment;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Takes everything, keeps nothing: what is measured is the shard.
#[derive(Default)]
struct Sink {
    now: Moment,
    socket: Option<SocketId>,
    tokens: Vec<u64>,
    sends: u64,
    blocks: u64,
}

impl Transmit for Sink {
    fn send(
        &mut self,
        socket: SocketId,
        _: &Target,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Refused> {
        write(&mut [0; 2048]);
        self.socket = Some(socket);
        self.sends += 1;
        Ok(())
    }

    fn send_reported(
        &mut self,
        socket: SocketId,
        target: &Target,
        _: u64,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Refused> {
        self.send(socket, target, write)
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
        socket: SocketId,
        _: &Target,
        bytes: SharedBytes,
        segment: u16,
        token: u64,
    ) -> Result<(), Refused> {
        self.socket = Some(socket);
        self.blocks += match segment {
            0 => 1,
            segment => bytes.len().div_ceil(segment.into()) as u64,
        };
        self.tokens.push(token);
        Ok(())
    }

    fn now(&self) -> Moment {
        self.now
    }
}

fn datagram(socket: SocketId, source: SocketAddr, payload: &[u8]) -> Datagram<'_> {
    let destination = Some(IpAddr::V4(SERVER));
    Datagram {
        socket,
        source,
        destination,
        broadcast: false,
        ifindex: 1,
        payload,
        segment: 0,
        truncated: false,
    }
}

/// 2000 blocks of one transfer; returns how many allocations that took.
fn transfer(shard: &mut TftpShard, listen: SocketId, client: SocketAddr, request: &[u8]) -> u64 {
    let mut sink = Sink { tokens: Vec::with_capacity(64), ..Sink::default() };
    shard.datagram(&datagram(listen, client, request), &mut sink);
    for _ in 0..5000 {
        shard.woken(&mut sink);
        shard.batch_end(true, &mut sink);
        if sink.socket.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let socket = sink.socket.expect("the file is opened");
    let mut counted = 0;
    let mut step = 0;
    while sink.blocks < 2000 {
        step += 1;
        sink.now = sink.now + Duration::from_micros(100);
        let [high, low] = (sink.blocks as u16).to_be_bytes();
        let info = allocation_counter::measure(|| {
            while let Some(token) = sink.tokens.pop() {
                shard.sent(token, &Ok(()));
            }
            shard.woken(&mut sink);
            shard.datagram(&datagram(socket, client, &[0, 4, high, low]), &mut sink);
            shard.batch_end(true, &mut sink);
        });
        // The first ACKs grow the timers and the list of those that wait.
        if step > 2 {
            counted += info.count_total;
        }
    }
    shard.take_events().for_each(drop);
    shard.datagram(&datagram(socket, client, b"\0\x05\0\0\0"), &mut sink);
    counted
}

#[test]
fn the_way_from_an_ack_to_its_window_allocates_nothing() -> io::Result<()> {
    let root = tempfile::tempdir()?;
    std::fs::write(root.path().join("kernel"), vec![7; 4_000_000])?;
    let Ok(server) = TftpServer::new(&config::Tftp::new(root.path().to_owned())) else {
        panic!("the root is there");
    };
    let network = SimNetwork::new(1, Faults::default());
    let link = network.attach(SimInterface {
        ifindex: 1,
        mac: [2, 0, 0, 0, 0, 1],
        addresses: vec![Address { ip: IpAddr::V4(SERVER), prefix: 24 }],
        segment: 0,
    });
    let mut sim = network.backend(&Limits::default());
    let listen = sim.add_socket(SimSocket::udp(link, (SERVER, 69)))?;
    let data = vec![sim.add_socket(SimSocket::udp(link, (SERVER, 1069)))?];
    let metrics = Arc::new(Metrics::new(1));
    let ports = vec![TftpPorts { listen, data, bound: Vec::new() }];
    let mut shard = TftpShard::new(server, ports, sim.waker(), metrics, 0);
    let requests = [
        &b"\0\x01kernel\0octet\0"[..],
        b"\0\x01kernel\0octet\0blksize\x001468\0windowsize\x0064\0",
        b"\0\x01kernel\0octet\0blksize\x001428\0windowsize\x008\0timeout\x001\0",
    ];
    for (turn, request) in requests.into_iter().enumerate() {
        // Twice: the first has the chunks framed.
        let warm = SocketAddr::from(([10, 0, 0, 2], 1000 + turn as u16));
        transfer(&mut shard, listen, warm, request);
        let client = SocketAddr::from(([10, 0, 0, 2], 2000 + turn as u16));
        let counted = transfer(&mut shard, listen, client, request);
        assert_eq!(counted, 0, "heap allocations in transfer {turn}");
    }
    Ok(())
}
