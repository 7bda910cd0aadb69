//! What the packet engine's backends cost, with no protocol above them: an echo of small datagrams and a blast of
//! segmented ones, through two network namespaces joined by a veth pair, one core each.
//!
//! ```text
//! packet-engine [echo|echo1472|pingpong|blast] [rounds] [batch] [buffers]
//! ```
//! Needs root. Each round runs every engine once, so that what else happens on the machine meets all of them; the medians
//! and the ratio to the first engine are printed at the end.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{env, io, thread};

use bootstorm_net::{
    Backend, Datagram, Engine, EngineKind, Handler, Limits, Mmsg, SharedBytes, SocketId, Target,
    Transmit, UdpSocketSpec,
};
use bootstorm_protocols::time::Moment;

type Error = Box<dyn std::error::Error + Send + Sync>;

const SERVER: &str = "10.99.7.1:6900";
const CLIENT: &str = "10.99.7.2:6901";
const WARM_UP: Duration = Duration::from_millis(300);
const MEASURE: Duration = Duration::from_millis(1500);
/// A client that lost all its datagrams begins anew after this.
const RESTART: Duration = Duration::from_millis(50);

fn main() -> Result<(), Error> {
    let mut args = env::args().skip(1);
    let what = args.next().unwrap_or_else(|| "echo".to_owned());
    let rounds = args.next().map_or(Ok(5), |n| n.parse())?;
    let mut limits = Limits::default();
    if let Some(batch) = args.next() {
        limits.batch = batch.parse()?;
    }
    if let Some(buffers) = args.next() {
        limits.buffers = buffers.parse()?;
    }
    let pair = Pair::new()?;
    let run: &dyn Fn(Subject) -> Result<Score, Error> = match what.as_str() {
        "echo" => &|subject| echo(&pair, subject, limits, 300, 256),
        "echo1472" => &|subject| echo(&pair, subject, limits, 1472, 256),
        "pingpong" => &|subject| echo(&pair, subject, limits, 300, 1),
        "blast" => &|subject| blast(&pair, subject, limits),
        _ => {
            return Err(
                "packet-engine [echo|echo1472|pingpong|blast] [rounds] [batch] [buffers]".into()
            );
        }
    };
    let subjects: &[Subject] = match what.as_str() {
        "blast" => &[Subject::Mmsg, Subject::Uring],
        _ => &[Subject::Mmsg, Subject::Uring, Subject::RecvFrom],
    };
    let mut scores = vec![Vec::new(); subjects.len()];
    for round in 0..rounds {
        for (subject, scores) in subjects.iter().zip(&mut scores) {
            let score = run(*subject)?;
            println!("{what} round {round} {subject:?}: {score}");
            scores.push(score);
        }
    }
    let base = Score::median(&scores[0]);
    for (subject, scores) in subjects.iter().zip(&scores) {
        let score = Score::median(scores);
        println!(
            "{what} median {subject:?}: {score}; rate {:.3}, cost {:.3} of {:?}",
            score.rate / base.rate,
            score.cost / base.cost,
            subjects[0],
        );
    }
    Ok(())
}

#[derive(Copy, Clone, Debug)]
enum Subject {
    Uring,
    Mmsg,
    RecvFrom,
}

impl Subject {
    fn kind(self) -> EngineKind {
        match self {
            Subject::Uring => EngineKind::Uring,
            Subject::Mmsg | Subject::RecvFrom => EngineKind::Mmsg,
        }
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
    fn median(scores: &[Score]) -> Score {
        let middle = |figure: fn(&Score) -> f64| {
            let mut figures: Vec<f64> = scores.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        Score { rate: middle(|s| s.rate), cost: middle(|s| s.cost) }
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0}/s, {:.3} us each", self.rate, self.cost)
    }
}

/// Two network namespaces joined by a veth pair.
struct Pair {
    names: [String; 2],
}

impl Pair {
    fn new() -> Result<Pair, Error> {
        let id = std::process::id();
        let pair = Pair { names: [format!("bs-net-{id}-s"), format!("bs-net-{id}-c")] };
        let [server, client] = &pair.names;
        ip(&["netns", "add", server])?;
        ip(&["netns", "add", client])?;
        let veth = ["link", "add", "veth0", "netns", server, "type", "veth", "peer", "veth0"];
        ip(&[&veth[..], &["netns", client]].concat())?;
        for (name, address) in [(server, "10.99.7.1/24"), (client, "10.99.7.2/24")] {
            ip(&["-n", name, "addr", "add", address, "dev", "veth0"])?;
            ip(&["-n", name, "link", "set", "veth0", "up"])?;
        }
        Ok(pair)
    }

    /// Runs `work` in one of the two namespaces, on a core of its own.
    fn spawn<T: Send + 'static>(
        &self,
        side: usize,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> JoinHandle<Result<T, Error>> {
        let path = format!("/run/netns/{}", self.names[side]);
        thread::spawn(move || {
            let namespace = std::fs::File::open(path)?;
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
            let mut cpus = rustix::thread::CpuSet::new();
            cpus.set(side);
            rustix::thread::sched_setaffinity(None, &cpus)?;
            work()
        })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(args: &[&str]) -> Result<(), Error> {
    let output = Command::new("ip").args(args).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr)).into())
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

fn buffers(address: &str) -> Result<UdpSocketSpec, Error> {
    Ok(UdpSocketSpec {
        bind: address.parse()?,
        receive_buffer: Some(8 << 20),
        send_buffer: Some(8 << 20),
        ..Default::default()
    })
}

fn echo(
    pair: &Pair,
    subject: Subject,
    limits: Limits,
    len: usize,
    in_flight: usize,
) -> Result<Score, Error> {
    let control = Arc::new(Control::default());
    let shared = control.clone();
    let server = pair.spawn(0, move || match subject {
        Subject::RecvFrom => echo_by_recvfrom(&shared),
        _ => match subject.kind().open(&limits)? {
            Engine::Uring(backend) => serve(backend, &shared),
            Engine::Mmsg(backend) => serve(backend, &shared),
        },
    });
    let shared = control.clone();
    let client = pair.spawn(1, move || {
        let mut backend = Mmsg::new(&Limits { batch: 64, ..Limits::default() })?;
        let socket = backend.add_socket(buffers(CLIENT)?.open()?)?;
        let mut client = Client { len, in_flight, socket, control: &shared, heard: false };
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

fn serve(
    mut backend: impl Backend<Socket = bootstorm_net::Socket>,
    control: &Control,
) -> Result<(), Error> {
    backend.add_socket(buffers(SERVER)?.open()?)?;
    let mut next = None;
    let mut echo = Echo { control, turns: 0 };
    while !control.stopped() {
        next = backend.turn(next, &mut echo)?;
    }
    if env::var_os("BOOTSTORM_BENCH_DROPS").is_some() {
        println!("{} {:?} turns {}", backend.name(), backend.drops(), echo.turns);
    }
    Ok(())
}

/// Answers every datagram with itself.
struct Echo<'a> {
    control: &'a Control,
    turns: u64,
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

    fn batch_end(&mut self, _: bool, tx: &mut T) -> Option<Moment> {
        self.turns += 1;
        self.control.cpu.store(thread_cpu().as_nanos() as u64, Ordering::Relaxed);
        Some(tx.now() + Duration::from_millis(100))
    }
}

/// Keeps a number of datagrams on their way.
struct Client<'a> {
    len: usize,
    in_flight: usize,
    socket: SocketId,
    control: &'a Control,
    heard: bool,
}

impl Client<'_> {
    fn send<T: Transmit>(&self, tx: &mut T) {
        let ip = IpAddr::from([10, 99, 7, 1]);
        let target = Target::Udp { to: SocketAddr::new(ip, 6900), from: None, ifindex: 0 };
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
    let socket = UdpSocket::bind(SERVER)?;
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

const BLOCK: usize = 1472;
const SEGMENTS: usize = 44;

/// One thread sends a framed image over and over, the other only reads.
fn blast(pair: &Pair, subject: Subject, limits: Limits) -> Result<Score, Error> {
    let control = Arc::new(Control::default());
    let shared = control.clone();
    let sink = pair.spawn(1, move || {
        let mut backend = Mmsg::new(&Limits { batch: 64, ..Limits::default() })?;
        backend.add_socket(buffers(CLIENT)?.open()?)?;
        while !shared.stopped() {
            let soon = bootstorm_net::now() + Duration::from_millis(100);
            backend.turn(Some(soon), &mut Sink)?;
        }
        Ok(())
    });
    let shared = control.clone();
    let server = pair.spawn(0, move || match subject.kind().open(&limits)? {
        Engine::Uring(backend) => blast_with(backend, &shared),
        Engine::Mmsg(backend) => blast_with(backend, &shared),
    });
    let score = control.measure();
    server.join().map_err(|_| "the server panicked")??;
    sink.join().map_err(|_| "the sink panicked")??;
    Ok(score)
}

fn blast_with(
    mut backend: impl Backend<Socket = bootstorm_net::Socket>,
    control: &Control,
) -> Result<(), Error> {
    let socket = backend.add_socket(buffers(SERVER)?.open()?)?;
    let image = SharedBytes::from(vec![0x5a; BLOCK * SEGMENTS]);
    let mut blast = Blast { control, socket, image, to: CLIENT.parse()?, in_flight: 0, token: 0 };
    let mut next = Some(Moment::default());
    while !control.stopped() {
        next = backend.turn(next, &mut blast)?;
    }
    Ok(())
}

struct Blast<'a> {
    control: &'a Control,
    socket: SocketId,
    image: SharedBytes,
    to: SocketAddr,
    in_flight: usize,
    token: u64,
}

impl<T: Transmit> Handler<T> for Blast<'_> {
    fn datagram(&mut self, _: Datagram<'_>, _: &mut T) {}

    fn woken(&mut self, _: &mut T) {}

    fn sent(&mut self, _: u64, result: io::Result<()>, _: &mut T) {
        self.in_flight -= 1;
        if result.is_ok() {
            self.control.count.fetch_add(SEGMENTS as u64, Ordering::Relaxed);
        }
    }

    fn batch_end(&mut self, _: bool, tx: &mut T) -> Option<Moment> {
        while self.in_flight < 16 {
            self.in_flight += 1;
            self.token += 1;
            let target = Target::Udp { to: self.to, from: None, ifindex: 0 };
            let image = self.image.clone();
            let sent = tx.send_shared(self.socket, &target, image, BLOCK as u16, self.token);
            if sent.is_err() {
                self.in_flight -= 1;
                break;
            }
        }
        self.control.cpu.store(thread_cpu().as_nanos() as u64, Ordering::Relaxed);
        Some(tx.now())
    }
}

/// Only reads.
struct Sink;

impl<T: Transmit> Handler<T> for Sink {
    fn datagram(&mut self, _: Datagram<'_>, _: &mut T) {}

    fn woken(&mut self, _: &mut T) {}

    fn sent(&mut self, _: u64, _: io::Result<()>, _: &mut T) {}

    fn batch_end(&mut self, _: bool, _: &mut T) -> Option<Moment> {
        None
    }
}
