//! What the packet engine's backends cost, with no protocol above them: an echo of small datagrams
//! and a blast of segmented ones, through two network namespaces joined by a veth pair, one core
//! each.
//!
//! ```text
//! packet-engine cost|echo|echo1472|pingpong|pingpong1472|blast[N][gro]|wake [ROUNDS] [ENGINE]...
//!     ENGINE is NAME[:BATCH[:BUFFERS[:BUSY_POLL_US]]]
//! ```
//! `wake` wakes an engine from its own thread and takes the wake. `pingpong` has one datagram on
//! its way, echoes have 256. `blast` sends 44 segments at once, `blast16` 16; with `gro` the sink
//! takes UDP_GRO, so that the veth pair passes the whole send on as a network card with
//! segmentation offload does.
//!
//! NAME is `uring`, `mmsg` or `recvfrom` (a plain loop). `cost` is the one to compare with on a
//! busy machine: a single thread lets a burst pile up in the socket of each engine in turn and
//! takes the processor time of answering it, so neither the scheduler nor the speed of the other
//! side has a part in it, and whatever else happens meets all engines alike. Prints every round,
//! then the medians and their ratios to the first engine. Needs root.

mod blast;
mod pair;
mod wake;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fmt, io, thread};

use bootstorm_net::{
    Backend, Datagram, Engine, EngineKind, Handler, Limits, Mmsg, Socket, SocketId, Target,
    Transmit, UdpSocketSpec,
};
use bootstorm_protocols::time::Moment;

use crate::pair::{Pair, enter};

type Error = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "packet-engine cost|echo|echo1472|pingpong|pingpong1472|blast[N][gro]|wake \
    [ROUNDS] \
    [uring|mmsg|recvfrom[:BATCH[:BUFFERS[:BUSY_POLL_US]]]]...";
const SERVER_IP: [u8; 4] = [10, 99, 7, 1];
const SERVER_PORT: u16 = 6900;
const CLIENT: ([u8; 4], u16) = ([10, 99, 7, 2], 6800);
const WARM_UP: Duration = Duration::from_millis(300);
const MEASURE: Duration = Duration::from_millis(1500);
/// A client that lost all its datagrams begins anew after this.
const RESTART: Duration = Duration::from_millis(50);

fn main() -> Result<(), Error> {
    let mut args = env::args().skip(1);
    let what = args.next().ok_or(USAGE)?;
    let rounds: usize = args.next().map_or(Ok(5), |rounds| rounds.parse())?;
    let mut subjects = args.map(|arg| Subject::parse(&arg)).collect::<Result<Vec<_>, _>>()?;
    if subjects.is_empty() {
        subjects = ["mmsg", "uring", "recvfrom"].into_iter().flat_map(Subject::parse).collect();
    }
    let blast_of = blast::Blasting::parse(&what);
    if blast_of.is_some() || what == "wake" {
        // By hand it would be another program.
        subjects.retain(|subject| subject.kind.is_some());
    }
    let pair = Pair::new()?;
    let each = |run: &dyn Fn(&Subject) -> Result<Score, Error>| {
        subjects.iter().map(run).collect::<Result<Vec<_>, Error>>()
    };
    let mut scores = Vec::new();
    for round in 0..rounds {
        let results = match what.as_str() {
            "cost" => cost(&pair, &subjects)?,
            "echo" => each(&|subject| echo(&pair, subject, 300, 256))?,
            "echo1472" => each(&|subject| echo(&pair, subject, 1472, 256))?,
            "pingpong" => each(&|subject| echo(&pair, subject, 300, 1))?,
            "wake" => each(&|subject| wake::wake(subject))?,
            "pingpong1472" => each(&|subject| echo(&pair, subject, 1472, 1))?,
            _ => {
                let how = blast_of.ok_or(USAGE)?;
                each(&|subject| blast::blast(&pair, subject, how))?
            }
        };
        for (subject, score) in subjects.iter().zip(&results) {
            println!("{what} round {round} {subject}: {score}");
        }
        scores.push(results);
    }
    let medians: Vec<_> = (0..subjects.len())
        .map(|at| Score::median(scores.iter().map(|results| results[at]).collect()))
        .collect();
    for (subject, score) in subjects.iter().zip(&medians) {
        let (rate, cost) = (score.rate / medians[0].rate, score.cost / medians[0].cost);
        println!("{what} median {subject}: {score}; rate {rate:.3}, cost {cost:.3} of the first");
    }
    Ok(())
}

/// What is measured.
#[derive(Clone, Debug)]
struct Subject {
    name: String,
    /// `None`: a plain loop of recvfrom and sendto.
    kind: Option<EngineKind>,
    limits: Limits,
}

impl Subject {
    fn parse(arg: &str) -> Result<Subject, Error> {
        let mut parts = arg.split(':');
        let kind = match parts.next() {
            Some("uring") => Some(EngineKind::Uring),
            Some("mmsg") => Some(EngineKind::Mmsg),
            Some("recvfrom") => None,
            _ => return Err(USAGE.into()),
        };
        let mut limits = Limits::default();
        if let Some(batch) = parts.next() {
            limits.batch = batch.parse()?;
        }
        if let Some(buffers) = parts.next() {
            limits.buffers = buffers.parse()?;
        }
        if let Some(micros) = parts.next() {
            limits.busy_poll = Duration::from_micros(micros.parse()?);
        }
        Ok(Subject { name: arg.to_owned(), kind, limits })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[derive(Copy, Clone, Debug)]
struct Score {
    /// Datagrams a second.
    rate: f64,
    /// Processor time of the measured thread for each, in microseconds.
    cost: f64,
}

impl Score {
    /// Median of each figure by itself.
    fn median(scores: Vec<Score>) -> Score {
        let middle = |figure: fn(&Score) -> f64| {
            let mut figures: Vec<f64> = scores.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        Score { rate: middle(|s| s.rate), cost: middle(|s| s.cost) }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0}/s, {:.3} us each", self.rate, self.cost)
    }
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What both threads of a run share.
#[derive(Default)]
struct Control {
    stop: AtomicBool,
    count: AtomicU64,
    /// Processor time of the measured thread so far, in nanoseconds, as it last told.
    cpu: AtomicU64,
}

impl Control {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Counts for a while what the threads do, then stops them.
    fn measure(&self) -> Score {
        let read = || {
            let count = self.count.load(Ordering::Relaxed);
            (count, self.cpu.load(Ordering::Relaxed), Instant::now())
        };
        thread::sleep(WARM_UP);
        let (count, cpu, time) = read();
        thread::sleep(MEASURE);
        let (count_after, cpu_after, time_after) = read();
        self.stop.store(true, Ordering::Relaxed);
        let done = (count_after - count) as f64;
        let seconds = (time_after - time).as_secs_f64();
        Score { rate: done / seconds, cost: (cpu_after - cpu) as f64 / done / 1e3 }
    }
}

fn open(address: impl Into<SocketAddr>) -> Result<Socket, Error> {
    open_with(address, false)
}

fn open_with(address: impl Into<SocketAddr>, gro: bool) -> Result<Socket, Error> {
    let spec = UdpSocketSpec {
        bind: address.into(),
        gro,
        receive_buffer: Some(8 << 20),
        send_buffer: Some(8 << 20),
        ..Default::default()
    };
    Ok(spec.open()?)
}

fn echo(pair: &Pair, subject: &Subject, len: usize, in_flight: usize) -> Result<Score, Error> {
    let control = Arc::new(Control::default());
    let (shared, kind, limits) = (control.clone(), subject.kind, subject.limits);
    let server = pair.spawn(0, move || match kind {
        None => echo_by_recvfrom(&shared),
        Some(kind) => match kind.open(&limits)? {
            Engine::Uring(backend) => serve(backend, &shared),
            Engine::Mmsg(backend) => serve(backend, &shared),
        },
    });
    let shared = control.clone();
    let client = pair.spawn(1, move || {
        let mut backend = Mmsg::new(&Limits::default())?;
        let socket = backend.add_socket(open(CLIENT)?)?;
        let to = (SERVER_IP, SERVER_PORT).into();
        let mut client = Client { to, len, in_flight, socket, control: &shared, heard: false };
        let mut next = None;
        while !client.control.stopped() {
            next = backend.turn(next.or(Some(Moment::default())), &mut client)?;
        }
        Ok(())
    });
    let score = control.measure();
    client.join().map_err(|_| "the client panicked")??;
    server.join().map_err(|_| "the server panicked")??;
    Ok(score)
}

fn serve(mut backend: impl Backend<Socket = Socket>, control: &Control) -> Result<(), Error> {
    backend.add_socket(open((SERVER_IP, SERVER_PORT))?)?;
    let mut echo = Echo { control, dry: false };
    let mut next = None;
    while !control.stopped() {
        next = backend.turn(next, &mut echo)?;
    }
    Ok(())
}

/// Answers every datagram with itself.
struct Echo<'a> {
    control: &'a Control,
    dry: bool,
}

impl<T: Transmit> Handler<T> for Echo<'_> {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        let target = Target::Udp { to: datagram.source, from: datagram.destination, ifindex: 0 };
        let _ = tx.send(datagram.socket, &target, |slot| {
            slot[..datagram.payload.len()].copy_from_slice(datagram.payload);
            datagram.payload.len()
        });
    }

    fn woken(&mut self, _: &mut T) {}

    fn sent(&mut self, _: u64, _: io::Result<()>, _: &mut T) {}

    fn batch_end(&mut self, dry: bool, tx: &mut T) -> Option<Moment> {
        self.dry = dry;
        self.control.cpu.store(thread_cpu().as_nanos() as u64, Ordering::Relaxed);
        Some(tx.now() + Duration::from_millis(100))
    }
}

/// Keeps a number of datagrams on their way.
struct Client<'a> {
    to: SocketAddr,
    len: usize,
    in_flight: usize,
    socket: SocketId,
    control: &'a Control,
    heard: bool,
}

impl Client<'_> {
    fn send<T: Transmit>(&self, tx: &mut T) {
        let target = Target::Udp { to: self.to, from: None, ifindex: 0 };
        let _ = tx.send(self.socket, &target, |_| self.len);
    }
}

impl<T: Transmit> Handler<T> for Client<'_> {
    fn datagram(&mut self, _: Datagram<'_>, tx: &mut T) {
        self.heard = true;
        self.control.count.fetch_add(1, Ordering::Relaxed);
        self.send(tx);
    }

    fn woken(&mut self, _: &mut T) {}

    fn sent(&mut self, _: u64, _: io::Result<()>, _: &mut T) {}

    fn batch_end(&mut self, _: bool, tx: &mut T) -> Option<Moment> {
        if !std::mem::take(&mut self.heard) {
            (0..self.in_flight).for_each(|_| self.send(tx));
        }
        Some(tx.now() + RESTART)
    }
}

fn echo_by_recvfrom(control: &Control) -> Result<(), Error> {
    let socket = UdpSocket::bind(SocketAddr::from((SERVER_IP, SERVER_PORT)))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut buffer = [0; 2048];
    let mut count = 0_u32;
    while !control.stopped() {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
        count += 1;
        if count.is_multiple_of(64) {
            control.cpu.store(thread_cpu().as_nanos() as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Datagrams that wait in the server's socket when it is let run.
const BURST: u32 = 128;

/// Answers everything that waits.
type Answer = Box<dyn FnMut() -> Result<(), Error>>;

fn cost(pair: &Pair, subjects: &[Subject]) -> Result<Vec<Score>, Error> {
    let server_side = pair.path(0);
    let subjects = subjects.to_vec();
    let run = pair.spawn(1, move || {
        let mut client = Mmsg::new(&Limits::default())?;
        let socket = client.add_socket(open(CLIENT)?)?;
        enter(&server_side)?;
        let mut servers = (SERVER_PORT..)
            .zip(&subjects)
            .map(|(port, subject)| Ok(((SERVER_IP, port).into(), answering(subject, port)?)))
            .collect::<Result<Vec<(SocketAddr, Answer)>, Error>>()?;
        let mut spent = vec![Duration::ZERO; servers.len()];
        let mut bursts = 0;
        let began = Instant::now();
        while began.elapsed() < MEASURE * subjects.len() as u32 {
            for ((to, answer), spent) in servers.iter_mut().zip(&mut spent) {
                *spent += burst(&mut client, socket, *to, answer)?;
            }
            bursts += 1;
        }
        let done = f64::from(bursts * BURST);
        let score = |spent: &Duration| Score {
            rate: done / spent.as_secs_f64(),
            cost: spent.as_secs_f64() * 1e6 / done,
        };
        Ok(spent.iter().map(score).collect())
    });
    run.join().map_err(|_| "the measured thread panicked")?
}

fn answering(subject: &Subject, port: u16) -> Result<Answer, Error> {
    let Some(kind) = subject.kind else {
        let server = UdpSocket::bind(SocketAddr::from((SERVER_IP, port)))?;
        server.set_nonblocking(true)?;
        let mut buffer = [0; 2048];
        return Ok(Box::new(move || {
            while let Ok((len, from)) = server.recv_from(&mut buffer) {
                server.send_to(&buffer[..len], from)?;
            }
            Ok(())
        }));
    };
    Ok(match kind.open(&subject.limits)? {
        Engine::Uring(backend) => answering_with(backend, port)?,
        Engine::Mmsg(backend) => answering_with(backend, port)?,
    })
}

fn answering_with(
    mut server: impl Backend<Socket = Socket> + 'static,
    port: u16,
) -> Result<Answer, Error> {
    server.add_socket(open((SERVER_IP, port))?)?;
    Ok(Box::new(move || {
        let mut echo = Echo { control: &Control::default(), dry: false };
        while !echo.dry {
            server.turn(Some(Moment::default()), &mut echo)?;
        }
        // The last answers leave with the next turn.
        server.turn(Some(Moment::default()), &mut echo)?;
        Ok(())
    }))
}

/// Sends a burst, and tells what it costs to answer it.
fn burst(
    client: &mut Mmsg,
    socket: SocketId,
    to: SocketAddr,
    answer: &mut Answer,
) -> Result<Duration, Error> {
    let control = Control::default();
    let sender = Client { to, len: 300, in_flight: 0, socket, control: &control, heard: true };
    let mut sink = Sink::default();
    (0..BURST).for_each(|_| sender.send(client.tx()));
    client.turn(Some(Moment::default()), &mut sink)?;
    let before = thread_cpu();
    answer()?;
    let spent = thread_cpu() - before;
    // The answers are there: a few turns take them.
    for _ in 0..BURST {
        client.turn(Some(Moment::default()), &mut sink)?;
        if sink.received == BURST {
            return Ok(spent);
        }
    }
    Err(format!("{BURST} sent to {to}, {} answered", sink.received).into())
}

/// Only reads.
#[derive(Default)]
struct Sink {
    received: u32,
}

impl<T: Transmit> Handler<T> for Sink {
    fn datagram(&mut self, _: Datagram<'_>, _: &mut T) {
        self.received += 1;
    }

    fn woken(&mut self, _: &mut T) {}

    fn sent(&mut self, _: u64, _: io::Result<()>, _: &mut T) {}

    fn batch_end(&mut self, _: bool, _: &mut T) -> Option<Moment> {
        None
    }
}
