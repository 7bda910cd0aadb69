//! TFTP on real sockets of this host, with the threads that read files, on both engines.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bootstorm::config;
use bootstorm::metrics::Metrics;
use bootstorm::tftp::{TftpPorts, TftpServer, TftpShard};
use bootstorm_net::{
    Backend, Datagram, Engine, EngineKind, Handler, Limits, Outbox, Socket, Transmit,
    UdpSocketSpec, now,
};
use bootstorm_protocols::tftp::{
    Arrived, Mode, Negotiated, Packet, Receiver, ReceiverSend, RetryPolicy, ack, write_request,
};
use bootstorm_protocols::time::Moment;

/// Nothing but TFTP.
struct Shard(TftpShard);

impl<T: Transmit> Handler<T> for Shard {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        self.0.datagram(&datagram, tx);
    }

    fn woken(&mut self, tx: &mut T) {
        self.0.woken(tx);
    }

    fn sent(&mut self, token: u64, result: io::Result<()>, _: &mut T) {
        self.0.sent(token, &result);
    }

    fn batch_end(&mut self, dry: bool, tx: &mut T) -> Option<Moment> {
        let next = self.0.batch_end(dry, tx);
        self.0.take_events().for_each(drop);
        // So that the loop sees that the test is over.
        let soon = tx.now() + Duration::from_millis(20);
        Some(next.map_or(soon, |next| next.min(soon)))
    }
}

fn serve<B>(
    mut backend: B,
    server: Arc<TftpServer>,
    metrics: Arc<Metrics>,
    sockets: Vec<Socket>,
    stop: &AtomicBool,
) where
    B: Backend<Tx = Outbox, Socket = Socket>,
{
    let mut ids = sockets.into_iter().map(|socket| backend.add_socket(socket).unwrap());
    let ports = TftpPorts { listen: ids.next().unwrap(), data: ids.collect(), bound: Vec::new() };
    let mut shard = Shard(TftpShard::new(server, vec![ports], backend.waker(), metrics, 0));
    let mut next = None;
    while !stop.load(Ordering::Relaxed) {
        next = backend.turn(next, &mut shard).unwrap();
    }
}

/// Gets one file as a client would.
fn fetch(server: SocketAddr, name: &str, asked: Negotiated) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut receiver = Receiver::asking(&asked, &RetryPolicy::default(), now());
    let (mut peer, mut bytes) = (server, Vec::new());
    let mut buf = vec![0; 65_536];
    while !receiver.is_complete() {
        if let Some(pending) = receiver.pending() {
            let len = match pending {
                ReceiverSend::Ack(block) => {
                    let packet = ack(block, receiver.negotiated().rollover());
                    buf[..packet.len()].copy_from_slice(&packet);
                    packet.len()
                }
                _ => {
                    let mut writer =
                        write_request(&mut buf, false, name.as_bytes(), Mode::Octet).unwrap();
                    asked.write_options(&mut writer).unwrap();
                    writer.finish()
                }
            };
            socket.send_to(&buf[..len], peer).unwrap();
            receiver.sent(now());
        }
        let wait = receiver.deadline().map_or(Duration::ZERO, |deadline| deadline.since(now()));
        if wait.is_zero() {
            receiver.on_deadline(now()).expect("the server answers");
            continue;
        }
        socket.set_read_timeout(Some(wait)).unwrap();
        let Ok((len, from)) = socket.recv_from(&mut buf) else { continue };
        peer = from;
        match Packet::parse(&buf[..len]).unwrap() {
            Packet::OptionAck(options) => {
                receiver.on_option_ack(&options, now()).unwrap();
            }
            Packet::Data { block, data } => {
                if receiver.on_data(block, data.len(), now()) != Arrived::Ignored {
                    bytes.extend_from_slice(data);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    // The last ACK; dallying is for networks that lose packets.
    if let Some(ReceiverSend::Ack(block)) = receiver.pending() {
        socket.send_to(&ack(block, receiver.negotiated().rollover()), peer).unwrap();
    }
    bytes
}

fn loopback(kind: EngineKind) {
    let root = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..5_000_000_u32).map(|at| (at / 1000) as u8).collect();
    std::fs::write(root.path().join("kernel"), &content).unwrap();
    std::fs::write(root.path().join("menu"), &content[..1000]).unwrap();
    let server = TftpServer::new(&config::Tftp::new(root.path().to_owned())).unwrap();
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let open = || UdpSocketSpec { bind, ..UdpSocketSpec::default() }.open().unwrap();
    let sockets: Vec<Socket> = (0..17).map(|_| open()).collect();
    let address = sockets[0].local_addr().unwrap();
    let metrics = Arc::new(Metrics::new(1));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (served, counted, stop) = (Arc::clone(&server), Arc::clone(&metrics), &stop);
        let shard = scope.spawn(move || match kind.open(&Limits::default()).unwrap() {
            Engine::Mmsg(backend) => serve(backend, served, counted, sockets, stop),
            Engine::Uring(backend) => serve(backend, served, counted, sockets, stop),
        });
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let content = &content;
                scope.spawn(move || {
                    let windows = Negotiated {
                        blksize: Some(1468),
                        windowsize: Some(64),
                        tsize: Some(0),
                        ..Negotiated::default()
                    };
                    let asked = if client % 2 == 0 { windows } else { Negotiated::default() };
                    assert!(fetch(address, "menu", asked) == content[..1000]);
                    assert!(fetch(address, "kernel", asked) == *content);
                })
            })
            .collect();
        // Whatever they did, the shard is to end.
        let results: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        let settled = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            server.active() == 0
        });
        stop.store(true, Ordering::Relaxed);
        shard.join().unwrap();
        assert!(results.iter().all(Result::is_ok));
        assert!(settled, "{} transfers do not end", server.active());
    });
    let tftp = &metrics.shard(0).unwrap().tftp;
    assert_eq!((tftp.finished.get(), tftp.failed.get()), (16, 0));
}

#[test]
fn clients_get_their_files_through_mmsg() {
    loopback(EngineKind::Mmsg);
}

#[test]
fn clients_get_their_files_through_io_uring() {
    loopback(EngineKind::Uring);
}
