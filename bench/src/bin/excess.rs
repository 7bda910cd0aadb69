//! DISCOVERs beyond what a load generator can wait for: sent at a rate, never followed up, and no
//! answer is read. Beside `bootstorm-load dora --rate`, it is the part of an overload that no
//! server can serve.
//!
//! It plays a relay agent with an address of its own, for the OFFERs go there. They fill a small
//! receive buffer that nobody empties.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bootstorm_net::{
    Backend, Datagram, Engine, EngineKind, Handler, Limits, SocketId, Target, Transmit,
    UdpSocketSpec, now,
};
use bootstorm_protocols::dhcpv4::SERVER_PORT;
use bootstorm_protocols::time::Moment;
use clap::Parser;

#[derive(Parser)]
#[command(about = "Sends DISCOVERs of made-up clients at a rate, and reads no answer")]
struct Args {
    /// The server.
    #[arg(long)]
    server: Ipv4Addr,
    /// An address of this host that nobody else uses: the relay agent that is played.
    #[arg(long)]
    relay: Ipv4Addr,
    /// DISCOVERs a second.
    #[arg(long)]
    rate: f64,
    /// How long.
    #[arg(long)]
    seconds: f64,
    /// Clients that take turns.
    #[arg(long, default_value_t = 100_000)]
    clients: u32,
    /// Broadcast them, as clients without a relay agent do; answers go nowhere then.
    #[arg(long)]
    broadcast: bool,
}

/// Bytes of a DISCOVER, as the load generator's plain client sends it.
const LEN: usize = 300;
/// Between two bursts.
const STEP: Duration = Duration::from_micros(500);
/// DISCOVERs in one burst at most: after a pause the rest is never made up for.
const BURST: u64 = 512;

/// Leaves what comes where it is.
struct Deaf;

impl<T: Transmit> Handler<T> for Deaf {
    fn datagram(&mut self, _: Datagram<'_>, _: &mut T) {}
    fn woken(&mut self, _: &mut T) {}
    fn sent(&mut self, _: u64, _: io::Result<()>, _: &mut T) {}
    fn batch_end(&mut self, _: bool, _: &mut T) -> Option<Moment> {
        None
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let Engine::Mmsg(mut backend) =
        EngineKind::Mmsg.open(&Limits { batch: 64, ..Limits::default() })?
    else {
        return Err(io::Error::other("not the engine that was asked for"));
    };
    let spec = UdpSocketSpec {
        bind: SocketAddr::from((args.relay, SERVER_PORT)),
        receive_buffer: Some(1),
        send_buffer: Some(4 << 20),
        broadcast: true,
        ..UdpSocketSpec::default()
    };
    let socket = backend.add_socket(spec.open()?)?;
    backend.stop_receiving(socket)?;
    let (begin, mut sent, mut lost) = (now(), 0_u64, 0_u64);
    let to = if args.broadcast { Ipv4Addr::BROADCAST } else { args.server };
    let to = Target::Udp { to: (to, SERVER_PORT).into(), from: None, ifindex: 0 };
    loop {
        let passed = now().since(begin).as_secs_f64();
        if passed >= args.seconds {
            break;
        }
        let due = (passed * args.rate) as u64;
        lost += due.saturating_sub(sent + lost).saturating_sub(BURST);
        while sent + lost < due {
            send(&mut backend, socket, &to, &args, sent)?;
            sent += 1;
        }
        let next = now() + STEP;
        while now() < next {
            backend.turn(Some(next), &mut Deaf)?;
        }
    }
    let drops = backend.drops();
    println!("{{\"sent\":{sent},\"too_late\":{lost},\"errors\":{}}}", drops.send.total());
    Ok(())
}

fn send(
    backend: &mut impl Backend,
    socket: SocketId,
    to: &Target,
    args: &Args,
    number: u64,
) -> io::Result<()> {
    let client = (number % u64::from(args.clients.max(1))) as u32;
    let giaddr = if args.broadcast { Ipv4Addr::UNSPECIFIED } else { args.relay };
    let write = |slot: &mut [u8]| discover(&mut slot[..LEN], client, number as u32, giaddr);
    backend.tx().send(socket, to, write).map_err(io::Error::other)
}

/// A DISCOVER (RFC 2131 section 4.4.1) of a client by its number.
fn discover(message: &mut [u8], client: u32, xid: u32, giaddr: Ipv4Addr) -> usize {
    message.fill(0);
    // op BOOTREQUEST, htype Ethernet, hlen, hops
    message[..4].copy_from_slice(&[1, 1, 6, 1]);
    message[4..8].copy_from_slice(&xid.to_be_bytes());
    message[24..28].copy_from_slice(&giaddr.octets());
    message[28..30].copy_from_slice(&[0x02, 0xee]);
    message[30..34].copy_from_slice(&client.to_be_bytes());
    message[236..240].copy_from_slice(&[99, 130, 83, 99]);
    // Message type DISCOVER; ask for mask, router, name servers; end.
    message[240..249].copy_from_slice(&[53, 1, 1, 55, 3, 1, 3, 6, 255]);
    message.len()
}
