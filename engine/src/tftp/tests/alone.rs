//! A single shard on a packet engine that completes a send only when the test says so.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bootstorm_net::sim::{Faults, SimInterface, SimNetwork, SimSocket};
use bootstorm_net::{
    Address, Backend, Datagram, Held, Limits, Refused, SharedBytes, SocketId, Target, Transmit,
};
use bootstorm_protocols::time::Moment;

use super::clients::{SERVER, content};
use crate::config;
use crate::metrics::{Metrics, TftpMetrics};
use crate::tftp::{TftpPorts, TftpServer, TftpShard};

/// A shared send.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Send {
    /// The client's port.
    pub(super) to: u16,
    pub(super) len: usize,
    pub(super) segment: u16,
    pub(super) token: u64,
}

/// A packet engine that accepts `room` shared sends and completes none by itself.
pub(super) struct Stuck {
    pub(super) room: usize,
    pub(super) now: Moment,
    pub(super) sends: Vec<Send>,
    /// OACKs, ACKs and ERRORs.
    packets: Vec<Vec<u8>>,
}

impl Transmit for Stuck {
    fn send(
        &mut self,
        _: SocketId,
        _: &Target,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Refused> {
        let mut slot = [0; 2048];
        let len = write(&mut slot);
        self.packets.push(slot[..len].to_vec());
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
        _: SocketId,
        target: &Target,
        bytes: SharedBytes,
        segment: u16,
        token: u64,
    ) -> Result<(), Refused> {
        if self.sends.len() >= self.room {
            return Err(Refused::Full);
        }
        let Target::Udp { to, .. } = target else { panic!("{target:?}") };
        self.sends.push(Send { to: to.port(), len: bytes.len(), segment, token });
        Ok(())
    }

    fn now(&self) -> Moment {
        self.now
    }
}

/// The shard. Its file `kernel` has 500,000 bytes, clients are ports of 10.0.0.9.
pub(super) struct Alone {
    pub(super) tx: Stuck,
    pub(super) server: Arc<TftpServer>,
    shard: TftpShard,
    metrics: Arc<Metrics>,
    listen: SocketId,
    data: SocketId,
    _root: tempfile::TempDir,
}

impl Alone {
    pub(super) fn new(change: impl FnOnce(&mut config::Tftp)) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("kernel"), content(500_000, 1)).unwrap();
        let mut config = config::Tftp::new(root.path().to_owned());
        config.max_transfers_per_client = u32::MAX;
        change(&mut config);
        let server = TftpServer::without_threads(&config).unwrap();
        let network = SimNetwork::new(1, Faults::default());
        let addresses = vec![Address { ip: IpAddr::V4(SERVER), prefix: 24 }];
        let interface = SimInterface { ifindex: 1, mac: [2; 6], addresses, segment: 0 };
        let link = network.attach(interface);
        let mut sim = network.backend(&Limits::default());
        let listen = sim.add_socket(SimSocket::udp(link, (SERVER, 69))).unwrap();
        let data = sim.add_socket(SimSocket::udp(link, (SERVER, 1069))).unwrap();
        // No request is sent to the address of the second socket.
        let any = sim.add_socket(SimSocket::udp(link, (SERVER, 1070))).unwrap();
        let (data, ports) = match config.single_port {
            true => (listen, TftpPorts { listen, data: Vec::new(), bound: Vec::new() }),
            false => {
                let bound = vec![(IpAddr::V4(SERVER), data)];
                (data, TftpPorts { listen, data: vec![any], bound })
            }
        };
        let ports = vec![ports];
        let metrics = Arc::new(Metrics::new(1));
        let shard = TftpShard::new(server.clone(), ports, sim.waker(), metrics.clone(), 0);
        let now = Moment::from_nanos(1_000_000_000);
        let tx = Stuck { room: usize::MAX, now, sends: Vec::new(), packets: Vec::new() };
        Self { tx, server, shard, metrics, listen, data, _root: root }
    }

    fn datagram(&mut self, socket: SocketId, client: u16, payload: &[u8]) {
        let datagram = Datagram {
            socket,
            source: SocketAddr::from(([10, 0, 0, 9], client)),
            destination: Some(IpAddr::V4(SERVER)),
            broadcast: false,
            ifindex: 1,
            payload,
            segment: 0,
            truncated: false,
        };
        self.shard.datagram(&datagram, &mut self.tx);
    }

    /// The client requests the file and gets an OACK; its ACK of block 0 makes the first window
    /// due.
    pub(super) fn ask(&mut self, client: u16, windowsize: u16) {
        let options = format!("blksize\x001468\x00windowsize\x00{windowsize}\x00");
        self.request(client, &[b"\0\x01kernel\0octet\0", options.as_bytes()].concat());
    }

    /// A request arrives; the loader does its part at once.
    pub(super) fn request(&mut self, client: u16, request: &[u8]) {
        self.datagram(self.listen, client, request);
        self.woken();
    }

    /// The loader has done something.
    pub(super) fn woken(&mut self) {
        self.shard.woken(&mut self.tx);
        self.batch_end(true);
    }

    pub(super) fn data(&mut self, client: u16, block: u16, data: &[u8]) {
        let [high, low] = block.to_be_bytes();
        self.datagram(self.data, client, &[&[0, 3, high, low], data].concat());
    }

    pub(super) fn ack(&mut self, client: u16, block: u16) {
        let [high, low] = block.to_be_bytes();
        self.datagram(self.data, client, &[0, 4, high, low]);
    }

    /// A send completes.
    pub(super) fn sent(&mut self, send: Send, errno: Option<i32>) {
        let result = errno.map_or(Ok(()), |errno| Err(std::io::Error::from_raw_os_error(errno)));
        self.shard.sent(send.token, &result);
    }

    pub(super) fn batch_end(&mut self, dry: bool) -> Option<Moment> {
        self.shard.batch_end(dry, &mut self.tx)
    }

    /// What was sent since the last call; none of it has completed.
    pub(super) fn taken(&mut self) -> Vec<Send> {
        std::mem::take(&mut self.tx.sends)
    }

    /// The OACKs, ACKs and ERRORs sent since the last call.
    pub(super) fn packets(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.tx.packets)
    }

    /// Transfers that a drain waits for.
    pub(super) fn active(&self) -> usize {
        self.shard.active()
    }

    pub(super) fn metrics(&self) -> &TftpMetrics {
        &self.metrics.shard(0).unwrap().tftp
    }
}
