//! A TFTP server without files, rules, timers or limits: what is left is the packet engine and the
//! format of a block. It answers any request and any ACK at once from one framed image, so that a
//! load generator in front of it shows its own limit and not that of a server. Each client may have
//! one transfer at a time, in blocks of 1468 bytes, and nothing is ever repeated.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bootstorm_net::{
    Backend, Datagram, Engine, EngineChoice, Handler, Limits, SharedBytes, Socket, SocketId,
    Target, Transmit, UdpSocketSpec,
};
use bootstorm_protocols::tftp::{
    DATA_HEADER_LEN, Direction, Limits as Agreed, Negotiated, Packet, Rollover, data_header,
    negotiate,
};
use bootstorm_protocols::time::Moment;
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

/// How long a signal may go unnoticed when nothing arrives.
const LOOK: Duration = Duration::from_millis(100);
const BLKSIZE: u16 = 1468;
const FRAME: usize = BLKSIZE as usize + DATA_HEADER_LEN;
/// Blocks of one send: 65,507 bytes.
const MOST: u64 = 44;

#[derive(Parser)]
#[command(about = "Answers every TFTP request at once, to measure load generators with")]
struct Args {
    /// An address of this host; port 69 of it.
    #[arg(long)]
    listen: Ipv4Addr,
    /// Bytes of the file that every name stands for.
    #[arg(long, default_value_t = 8 << 20)]
    size: u64,
}

#[derive(Copy, Clone)]
struct Transfer {
    negotiated: Negotiated,
    acked: u64,
    sent: u64,
}

struct Responder {
    image: SharedImage,
    clients: HashMap<SocketAddr, Transfer>,
    data: SocketId,
}

struct SharedImage {
    bytes: Arc<Vec<u8>>,
    blocks: u64,
    size: u64,
}

impl SharedImage {
    fn new(size: u64) -> SharedImage {
        let blocks = size / u64::from(BLKSIZE) + 1;
        let mut bytes = Vec::with_capacity(blocks as usize * FRAME);
        for block in 1..=blocks {
            bytes.extend_from_slice(&data_header(block, Rollover::default()));
            let left = size - (block - 1) * u64::from(BLKSIZE);
            let len = left.min(BLKSIZE.into()) as usize;
            // Bytes that differ from block to block.
            bytes.extend((0..len).map(|at| (at as u64 ^ block) as u8));
        }
        SharedImage { bytes: Arc::new(bytes), blocks, size }
    }

    /// The blocks `first .. first + count` as they are sent.
    fn range(&self, first: u64, count: u64) -> Option<SharedBytes> {
        let from = (first - 1) as usize * FRAME;
        let until = (from + count as usize * FRAME).min(self.bytes.len());
        SharedBytes::new(self.bytes.clone(), from..until)
    }
}

impl Responder {
    fn request<T: Transmit>(&mut self, datagram: &Datagram<'_>, tx: &mut T) {
        let Ok(Packet::Read(request)) = Packet::parse(datagram.payload) else { return };
        let limits = Agreed { max_blksize: BLKSIZE, max_windowsize: 64, multicast: false };
        let direction = Direction::Read { size: Some(self.image.size) };
        let Ok(negotiated) = negotiate(&request.options, &limits, direction) else { return };
        self.clients.insert(datagram.source, Transfer { negotiated, acked: 0, sent: 0 });
        let target = Target::Udp { to: datagram.source, from: datagram.destination, ifindex: 0 };
        let write = |slot: &mut [u8]| negotiated.write_option_ack(slot).unwrap_or(0);
        // A load generator asks again.
        let _ = tx.send(self.data, &target, write);
    }

    fn ack<T: Transmit>(&mut self, datagram: &Datagram<'_>, block: u16, tx: &mut T) {
        let Some(transfer) = self.clients.get_mut(&datagram.source) else { return };
        let acked = transfer.acked + u64::from(block.wrapping_sub(transfer.acked as u16));
        if acked > transfer.sent {
            return;
        }
        transfer.acked = acked;
        let target = Target::Udp { to: datagram.source, from: datagram.destination, ifindex: 0 };
        let window = u64::from(transfer.negotiated.window_len());
        let (mut next, end) = (acked + 1, (acked + window).min(self.image.blocks));
        while next <= end {
            let count = (end + 1 - next).min(MOST);
            let Some(bytes) = self.image.range(next, count) else { return };
            let segment = if count > 1 { FRAME as u16 } else { 0 };
            let _ = tx.send_shared(datagram.socket, &target, bytes, segment, 0);
            next += count;
        }
        transfer.sent = end;
    }
}

impl<T: Transmit> Handler<T> for Responder {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        match Packet::parse(datagram.payload) {
            Ok(Packet::Read(_)) => self.request(&datagram, tx),
            Ok(Packet::Ack { block }) => self.ack(&datagram, block, tx),
            _ => {}
        }
    }

    fn woken(&mut self, _: &mut T) {}

    fn sent(&mut self, _: u64, _: io::Result<()>, _: &mut T) {}

    fn batch_end(&mut self, _: bool, tx: &mut T) -> Option<Moment> {
        Some(tx.now() + LOOK)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let (kind, _) = EngineChoice::Auto.resolve()?;
    match kind.open(&Limits::default())? {
        Engine::Uring(backend) => serve(backend, &args, &stop),
        Engine::Mmsg(backend) => serve(backend, &args, &stop),
    }
}

fn serve(
    mut backend: impl Backend<Socket = Socket>,
    args: &Args,
    stop: &AtomicBool,
) -> Result<(), Box<dyn std::error::Error>> {
    let open = |port| {
        UdpSocketSpec {
            bind: SocketAddr::from((IpAddr::V4(args.listen), port)),
            receive_buffer: Some(8 << 20),
            send_buffer: Some(8 << 20),
            ..UdpSocketSpec::default()
        }
        .open()
    };
    backend.add_socket(open(69)?)?;
    let data = backend.add_socket(open(0)?)?;
    let image = SharedImage::new(args.size);
    let mut responder = Responder { image, clients: HashMap::new(), data };
    let mut next = None;
    while !stop.load(Ordering::Relaxed) {
        next = backend.turn(next, &mut responder)?;
    }
    Ok(())
}
