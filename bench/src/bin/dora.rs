//! A closed-loop DHCP client behind a relay: as many exchanges (DISCOVER, OFFER, REQUEST, ACK) as the server can answer
//! with so many of them in flight. It writes down every ACK, so that a test can ask the server for what it promised.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bootstorm_net::{
    Backend, Datagram, Handler, Limits, Mmsg, SocketId, Target, Transmit, UdpSocketSpec, now,
};
use bootstorm_protocols::dhcpv4::{Header, Message, MessageType, MessageWriter, options};
use bootstorm_protocols::time::Moment;
use clap::Parser;
use hdrhistogram::Histogram;

/// How long a message is waited for before it is sent again.
const RETRANSMIT: Duration = Duration::from_millis(500);
/// A machine whose REQUEST was repeated so often begins again with a DISCOVER.
const REQUEST_TRIES: u8 = 4;

#[derive(Parser)]
#[command(about = "Closed-loop DHCP exchanges through a relay, for tests and benches")]
struct Args {
    /// The server.
    #[arg(long)]
    server: Ipv4Addr,
    /// An address of this host: source and giaddr of every message.
    #[arg(long)]
    source: Ipv4Addr,
    /// Machines, which take their turn for ever.
    #[arg(long, default_value_t = 10_000)]
    clients: u32,
    /// Exchanges at one time.
    #[arg(long, default_value_t = 64)]
    in_flight: u32,
    /// How long.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Where every ACK goes: a line each, hardware address and IP address.
    #[arg(long)]
    acks: Option<PathBuf>,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Phase {
    Idle,
    Selecting,
    Requesting { ip: Ipv4Addr, server: Ipv4Addr },
}

struct Machine {
    phase: Phase,
    /// Counts messages, so that a late reply to an earlier one is told from the awaited.
    round: u8,
    tries: u8,
    began: Moment,
    sent: Moment,
}

struct Storm {
    socket: SocketId,
    target: Target,
    giaddr: Ipv4Addr,
    machines: Vec<Machine>,
    /// Machines with an exchange under way, at most `in_flight`.
    active: Vec<u32>,
    next: u32,
    acks: Option<BufWriter<File>>,
    latency: Histogram<u64>,
    done: u64,
    naks: u64,
    retransmits: u64,
    next_scan: Moment,
}

impl Storm {
    fn hardware(machine: u32) -> [u8; 6] {
        let [_, a, b, c] = machine.to_be_bytes();
        [0x52, 0x54, 0x00, a, b, c]
    }

    fn xid(machine: u32, round: u8) -> u32 {
        machine << 8 | u32::from(round)
    }

    fn send<T: Transmit>(&mut self, index: u32, tx: &mut T) {
        let now = tx.now();
        let Some(machine) = self.machines.get_mut(index as usize) else { return };
        machine.sent = now;
        machine.round = machine.round.wrapping_add(1);
        let phase = machine.phase;
        let xid = Self::xid(index, machine.round);
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&Self::hardware(index));
        let header = Header {
            op: 1,
            htype: 1,
            hlen: 6,
            hops: 1,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: self.giaddr,
            chaddr,
            sname: &[],
            file: &[],
        };
        // A refusal is a lost datagram: the next scan sends it again.
        let _ = tx.send(self.socket, &self.target, |buf| {
            let Ok(mut writer) = MessageWriter::new(buf, 576, &header) else { return 0 };
            // These few options always fit.
            let _ = match phase {
                Phase::Requesting { ip, server } => writer
                    .option(options::MESSAGE_TYPE, &[MessageType::Request.code()])
                    .and_then(|()| writer.option(options::REQUESTED_ADDRESS, &ip.octets()))
                    .and_then(|()| writer.option(options::SERVER_IDENTIFIER, &server.octets())),
                _ => writer.option(options::MESSAGE_TYPE, &[MessageType::Discover.code()]),
            };
            let _ = writer.option(options::PARAMETER_REQUEST_LIST, &[1, 3, 6, 51, 54, 66, 67]);
            writer.finish()
        });
    }

    fn begin<T: Transmit>(&mut self, tx: &mut T) {
        // Machines take turns; one whose turn comes while it is still busy is passed over.
        for _ in 0..self.machines.len() {
            let index = self.next;
            self.next = (self.next + 1) % self.machines.len() as u32;
            let machine = &mut self.machines[index as usize];
            if machine.phase == Phase::Idle {
                machine.phase = Phase::Selecting;
                machine.began = tx.now();
                machine.tries = 0;
                self.active.push(index);
                self.send(index, tx);
                return;
            }
        }
    }

    fn acknowledged(&mut self, index: u32, ip: Ipv4Addr) {
        if let Some(acks) = &mut self.acks {
            let [a, b, c, d, e, f] = Self::hardware(index);
            // Losing the record would make the test worthless: better no test at all.
            writeln!(acks, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} {ip}")
                .unwrap_or_else(|error| panic!("cannot write down an ACK: {error}"));
        }
    }
}

impl<T: Transmit> Handler<T> for Storm {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        let Ok(message) = Message::parse(datagram.payload) else { return };
        let index = message.xid() >> 8;
        let Some(machine) = self.machines.get_mut(index as usize) else { return };
        if message.xid() as u8 != machine.round || message.chaddr() != Self::hardware(index) {
            return;
        }
        match (message.message_type(), machine.phase) {
            (Some(MessageType::Offer), Phase::Selecting) => {
                let Some(server) = message.server_identifier() else { return };
                machine.phase = Phase::Requesting { ip: message.yiaddr(), server };
                machine.tries = 0;
                self.send(index, tx);
            }
            (Some(MessageType::Ack), Phase::Requesting { .. }) => {
                machine.phase = Phase::Idle;
                let took = tx.now().since(machine.began);
                self.latency.saturating_record(took.as_micros() as u64);
                self.done += 1;
                self.acknowledged(index, message.yiaddr());
                self.active.retain(|&active| active != index);
                self.begin(tx);
            }
            (Some(MessageType::Nak), Phase::Requesting { .. }) => {
                self.naks += 1;
                machine.phase = Phase::Selecting;
                self.send(index, tx);
            }
            _ => {}
        }
    }

    fn woken(&mut self, _tx: &mut T) {}

    fn sent(&mut self, _token: u64, _result: io::Result<()>, _tx: &mut T) {}

    fn batch_end(&mut self, dry: bool, tx: &mut T) -> Option<Moment> {
        let now = tx.now();
        if now >= self.next_scan {
            self.next_scan = now + RETRANSMIT / 4;
            for place in 0..self.active.len() {
                let index = self.active[place];
                let machine = &mut self.machines[index as usize];
                if now.since(machine.sent) < RETRANSMIT {
                    continue;
                }
                machine.tries += 1;
                if machine.tries > REQUEST_TRIES {
                    machine.phase = Phase::Selecting;
                    machine.tries = 0;
                }
                self.retransmits += 1;
                self.send(index, tx);
            }
        }
        if dry && let Some(acks) = &mut self.acks {
            acks.flush().unwrap_or_else(|error| panic!("cannot write down an ACK: {error}"));
        }
        Some(self.next_scan)
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    if args.clients == 0 || args.clients >= 1 << 24 {
        return Err(io::Error::other("--clients takes 1 to 16777215"));
    }
    let mut backend = Mmsg::new(&Limits::default())?;
    let socket = UdpSocketSpec {
        bind: SocketAddr::from((args.source, 67)),
        receive_buffer: Some(8 << 20),
        ..UdpSocketSpec::default()
    };
    let socket = backend.add_socket(socket.open()?)?;
    let start = now();
    let machines = (0..args.clients)
        .map(|_| Machine { phase: Phase::Idle, round: 0, tries: 0, began: start, sent: start })
        .collect();
    let mut storm = Storm {
        socket,
        target: Target::Udp { to: SocketAddr::from((args.server, 67)), from: None, ifindex: 0 },
        giaddr: args.source,
        machines,
        active: Vec::new(),
        next: 0,
        acks: args.acks.map(File::create).transpose()?.map(BufWriter::new),
        // Up to a minute, in microseconds.
        latency: Histogram::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)?,
        done: 0,
        naks: 0,
        retransmits: 0,
        next_scan: start + RETRANSMIT,
    };
    for _ in 0..args.in_flight.min(args.clients) {
        storm.begin(backend.tx());
    }
    let end = start + Duration::from_secs(args.seconds);
    let mut deadline = Some(start);
    while now() < end {
        deadline = backend.turn(deadline, &mut storm)?;
    }
    let seconds = now().since(start).as_secs_f64();
    println!(
        "{{\"dora_per_second\":{:.0},\"done\":{},\"retransmits\":{},\"naks\":{},\"p50_us\":{},\"p99_us\":{},\"max_us\":{}}}",
        storm.done as f64 / seconds,
        storm.done,
        storm.retransmits,
        storm.naks,
        storm.latency.value_at_quantile(0.5),
        storm.latency.value_at_quantile(0.99),
        storm.latency.max(),
    );
    Ok(())
}
