//! Test beds: a backend, and a client that is not one.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bootstorm_net::sim::{Faults, InterfaceId, Sim, SimInterface, SimNetwork, SimSocket};
use bootstorm_net::{
    Address, BUSY_POLL, Backend, Datagram, Handler, Limits, Mmsg, Priority, SocketId, Transmit,
    UdpSocketSpec, Uring,
};
use bootstorm_protocols::time::Moment;

/// Long enough for anything that ought to happen on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A backend under test and a client to talk to it.
pub(crate) trait Bed: Sized {
    type Backend: Backend;

    /// Whether receive buffers may run out while datagrams wait.
    const RECEIVES_INTO_A_RING: bool = false;

    fn new(limits: Limits) -> Self;

    fn backend(&mut self) -> &mut Self::Backend;

    /// Adds a UDP socket; `port` 0 for a free one.
    fn open(&mut self, ip: IpAddr, port: u16) -> io::Result<(SocketId, SocketAddr)>;

    /// An address of this host.
    fn ip(&self, v6: bool) -> IpAddr;

    /// The same, with a priority.
    fn open_with(&mut self, priority: Priority) -> io::Result<(SocketId, SocketAddr)>;

    fn client(&mut self, v6: bool) -> SocketAddr;

    fn client_sends(&mut self, to: SocketAddr, payload: &[u8]);

    /// The next datagram that the client got; `None` when none comes soon.
    fn client_receives(&mut self) -> Option<Vec<u8>>;

    /// Lets what the client sent reach the backend's sockets.
    fn arrive(&mut self) {}

    /// One turn, which waits no longer than needed.
    fn turn(&mut self, handler: &mut Recorder) -> Option<Moment>;

    /// The clock of this bed.
    fn now(&self) -> Moment;

    /// Turns until `done` says so.
    fn turn_until(&mut self, handler: &mut Recorder, done: impl Fn(&Recorder) -> bool) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if done(handler) {
                return;
            }
            self.turn(handler);
        }
        let (received, sent) = (handler.received.len(), handler.sent.len());
        panic!("it never happened; {received} received, {sent} sent, woken {}", handler.woken);
    }

    fn open_v4(&mut self) -> (SocketId, SocketAddr) {
        let ip = self.ip(false);
        self.open(ip, 0).unwrap()
    }
}

/// Remembers what it is told, and echoes if asked to.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) echo: bool,
    /// Takes nothing of this priority.
    pub(crate) refuses: Option<Priority>,
    pub(crate) deadline: Option<Moment>,
    pub(crate) received: Vec<Received>,
    pub(crate) woken: usize,
    pub(crate) sent: Vec<(u64, Result<(), io::ErrorKind>)>,
    pub(crate) ends: usize,
    pub(crate) dry: bool,
    pub(crate) now: Moment,
}

pub(crate) struct Received {
    pub(crate) socket: SocketId,
    pub(crate) source: SocketAddr,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) ifindex: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) segment: u16,
    pub(crate) segments: Vec<Vec<u8>>,
    pub(crate) truncated: bool,
}

impl<T: Transmit> Handler<T> for Recorder {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        self.received.push(Received {
            socket: datagram.socket,
            source: datagram.source,
            destination: datagram.destination,
            ifindex: datagram.ifindex,
            payload: datagram.payload.to_vec(),
            segment: datagram.segment,
            segments: datagram.segments().map(<[u8]>::to_vec).collect(),
            truncated: datagram.truncated,
        });
        if self.echo {
            let target = bootstorm_net::Target::Udp {
                to: datagram.source,
                from: datagram.destination,
                ifindex: datagram.ifindex,
            };
            let write = |slot: &mut [u8]| {
                slot[..datagram.payload.len()].copy_from_slice(datagram.payload);
                datagram.payload.len()
            };
            tx.send(datagram.socket, &target, write).unwrap();
        }
    }

    fn woken(&mut self, _: &mut T) {
        self.woken += 1;
    }

    fn sent(&mut self, token: u64, result: io::Result<()>, _: &mut T) {
        self.sent.push((token, result.map_err(|error| error.kind())));
    }

    fn takes(&self, priority: Priority, _: Moment) -> bool {
        self.refuses != Some(priority)
    }

    fn batch_end(&mut self, dry: bool, tx: &mut T) -> Option<Moment> {
        self.ends += 1;
        self.dry = dry;
        self.now = tx.now();
        self.deadline
    }
}

/// A kernel backend on the loopback interface, and a plain socket.
pub(crate) struct KernelBed<B, const BUSY: bool> {
    backend: B,
    client: UdpSocket,
}

pub(crate) type UringBed = KernelBed<Uring, false>;
/// One that keeps its core for a while.
pub(crate) type BusyBed = KernelBed<Uring, true>;
pub(crate) type MmsgBed = KernelBed<Mmsg, false>;

pub(crate) trait Kernel: Backend<Socket = bootstorm_net::Socket> + Sized {
    const RECEIVES_INTO_A_RING: bool;

    fn make(limits: &Limits) -> io::Result<Self>;
}

impl Kernel for Uring {
    const RECEIVES_INTO_A_RING: bool = true;

    fn make(limits: &Limits) -> io::Result<Self> {
        Uring::new(limits)
    }
}

impl Kernel for Mmsg {
    const RECEIVES_INTO_A_RING: bool = false;

    fn make(limits: &Limits) -> io::Result<Self> {
        Mmsg::new(limits)
    }
}

impl<B: Kernel, const BUSY: bool> Bed for KernelBed<B, BUSY> {
    type Backend = B;

    const RECEIVES_INTO_A_RING: bool = B::RECEIVES_INTO_A_RING;

    fn new(limits: Limits) -> Self {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let busy_poll = if BUSY { BUSY_POLL } else { Duration::ZERO };
        KernelBed { backend: B::make(&Limits { busy_poll, ..limits }).unwrap(), client }
    }

    fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    fn open(&mut self, ip: IpAddr, port: u16) -> io::Result<(SocketId, SocketAddr)> {
        let bind = SocketAddr::new(ip, port);
        let socket = UdpSocketSpec { bind, ..Default::default() }.open()?;
        let address = socket.local_addr()?;
        Ok((self.backend.add_socket(socket)?, address))
    }

    fn open_with(&mut self, priority: Priority) -> io::Result<(SocketId, SocketAddr)> {
        let bind = (self.ip(false), 0).into();
        let socket = UdpSocketSpec { bind, ..Default::default() }.open()?.with_priority(priority);
        let address = socket.local_addr()?;
        Ok((self.backend.add_socket(socket)?, address))
    }

    fn ip(&self, v6: bool) -> IpAddr {
        let ip = if v6 { "::1" } else { "127.0.0.1" };
        ip.parse().unwrap()
    }

    fn client(&mut self, v6: bool) -> SocketAddr {
        if v6 {
            self.client = UdpSocket::bind("[::1]:0").unwrap();
        }
        self.client.local_addr().unwrap()
    }

    fn client_sends(&mut self, to: SocketAddr, payload: &[u8]) {
        self.client.send_to(payload, to).unwrap();
    }

    fn client_receives(&mut self) -> Option<Vec<u8>> {
        // On the loopback interface what was sent has arrived.
        self.client.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 65_536];
        let len = self.client.recv(&mut buffer).ok()?;
        buffer.truncate(len);
        Some(buffer)
    }

    fn turn(&mut self, handler: &mut Recorder) -> Option<Moment> {
        let soon = self.now() + Duration::from_millis(1);
        let deadline = handler.deadline.map_or(soon, |deadline| deadline.min(soon));
        self.backend.turn(Some(deadline), handler).unwrap()
    }

    fn now(&self) -> Moment {
        bootstorm_net::now()
    }
}

/// Two machines on a simulated network.
pub(crate) struct SimBed {
    network: SimNetwork,
    backend: Sim,
    link: InterfaceId,
    client: Sim,
    client_socket: SocketId,
    client_link: InterfaceId,
    inbox: VecDeque<Vec<u8>>,
}

fn interface(number: u8) -> SimInterface {
    let v4 = IpAddr::from([10, 0, 0, number]);
    let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]);
    SimInterface {
        ifindex: u32::from(number),
        mac: [2, 0, 0, 0, 0, number],
        addresses: vec![Address { ip: v4, prefix: 24 }, Address { ip: v6, prefix: 64 }],
        segment: 0,
    }
}

impl SimBed {
    fn settle(&mut self) {
        let mut recorder = Recorder::default();
        self.client.turn(None, &mut recorder).unwrap();
        self.inbox.extend(recorder.received.into_iter().map(|received| received.payload));
    }
}

impl Bed for SimBed {
    type Backend = Sim;

    fn new(limits: Limits) -> Self {
        let network = SimNetwork::new(1, Faults::default());
        let (link, client_link) = (network.attach(interface(1)), network.attach(interface(2)));
        let backend = network.backend(&limits);
        let mut client = network.backend(&Limits { payload_len: 65_536, ..Limits::default() });
        let bind: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let client_socket = client.add_socket(SimSocket::udp(client_link, bind)).unwrap();
        let inbox = VecDeque::new();
        SimBed { network, backend, link, client, client_socket, client_link, inbox }
    }

    fn backend(&mut self) -> &mut Sim {
        &mut self.backend
    }

    fn open(&mut self, ip: IpAddr, port: u16) -> io::Result<(SocketId, SocketAddr)> {
        let id = self.backend.add_socket(SimSocket::udp(self.link, (ip, port)))?;
        let address = self.backend.local_addr(id).ok_or(io::ErrorKind::NotFound)?;
        Ok((id, address))
    }

    fn open_with(&mut self, priority: Priority) -> io::Result<(SocketId, SocketAddr)> {
        let socket = SimSocket::udp(self.link, (self.ip(false), 0)).with_priority(priority);
        let id = self.backend.add_socket(socket)?;
        let address = self.backend.local_addr(id).ok_or(io::ErrorKind::NotFound)?;
        Ok((id, address))
    }

    fn ip(&self, v6: bool) -> IpAddr {
        let ip = if v6 { "fd00::1" } else { "10.0.0.1" };
        ip.parse().unwrap()
    }

    fn client(&mut self, v6: bool) -> SocketAddr {
        if v6 {
            let bind: SocketAddr = "[fd00::2]:0".parse().unwrap();
            self.client_socket =
                self.client.add_socket(SimSocket::udp(self.client_link, bind)).unwrap();
            return self.client.local_addr(self.client_socket).unwrap();
        }
        let port = self.client.local_addr(self.client_socket).unwrap().port();
        SocketAddr::from(([10, 0, 0, 2], port))
    }

    fn client_sends(&mut self, to: SocketAddr, payload: &[u8]) {
        let target = bootstorm_net::Target::Udp { to, from: None, ifindex: 0 };
        let write = |slot: &mut [u8]| {
            slot[..payload.len()].copy_from_slice(payload);
            payload.len()
        };
        self.client.tx().send(self.client_socket, &target, write).unwrap();
        self.settle();
    }

    fn client_receives(&mut self) -> Option<Vec<u8>> {
        while self.inbox.is_empty() && self.network.advance().is_some() {
            // What the backend is due to do is not the client's business.
            let before = self.inbox.len();
            self.settle();
            if self.inbox.len() == before {
                break;
            }
        }
        self.inbox.pop_front()
    }

    fn arrive(&mut self) {
        self.network.advance();
    }

    fn turn(&mut self, handler: &mut Recorder) -> Option<Moment> {
        self.network.advance();
        self.settle();
        self.backend.turn(handler.deadline, handler).unwrap()
    }

    fn now(&self) -> Moment {
        self.network.now()
    }
}
