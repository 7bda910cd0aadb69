//! One thread sends segments of shared bytes as fast as it can, another only reads.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bootstorm_net::{
    Backend, Datagram, Engine, EngineKind, Handler, Limits, Mmsg, SharedBytes, Socket, SocketId,
    Target, Transmit,
};
use bootstorm_protocols::time::Moment;

use crate::pair::Pair;
use crate::{
    CLIENT, Control, Error, SERVER_IP, SERVER_PORT, Score, Sink, Subject, open, open_with,
    thread_cpu,
};

const BLOCK: usize = 1472;

/// What a blast is made of.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Blasting {
    /// Segments of a send, 1 to 44.
    segments: usize,
    gro: bool,
}

impl Blasting {
    /// `blast`, `blast16`, `blastgro`, `blast16gro`.
    pub(crate) fn parse(what: &str) -> Option<Blasting> {
        let what = what.strip_prefix("blast")?;
        let (segments, gro) = match what.strip_suffix("gro") {
            Some(segments) => (segments, true),
            None => (what, false),
        };
        let segments = if segments.is_empty() { 44 } else { segments.parse().ok()? };
        (1..=44).contains(&segments).then_some(Blasting { segments, gro })
    }
}

/// One thread sends a framed image over and over, the other only reads.
pub(crate) fn blast(pair: &Pair, subject: &Subject, how: Blasting) -> Result<Score, Error> {
    let control = Arc::new(Control::default());
    let shared = control.clone();
    let sink = pair.spawn(1, move || {
        let payload_len = if how.gro { 65_535 } else { 2048 };
        let mut backend = Mmsg::new(&Limits { payload_len, ..Limits::default() })?;
        backend.add_socket(open_with(CLIENT, how.gro)?)?;
        while !shared.stopped() {
            let soon = bootstorm_net::now() + Duration::from_millis(100);
            backend.turn(Some(soon), &mut Sink::default())?;
        }
        Ok(())
    });
    let (shared, limits) = (control.clone(), subject.limits);
    let kind = subject.kind.unwrap_or(EngineKind::Mmsg);
    let server = pair.spawn(0, move || match kind.open(&limits)? {
        Engine::Uring(backend) => blast_with(backend, &shared, how.segments),
        Engine::Mmsg(backend) => blast_with(backend, &shared, how.segments),
    });
    let score = control.measure();
    server.join().map_err(|_| "the server panicked")??;
    sink.join().map_err(|_| "the sink panicked")??;
    Ok(score)
}

fn blast_with(
    mut backend: impl Backend<Socket = Socket>,
    control: &Control,
    segments: usize,
) -> Result<(), Error> {
    let socket = backend.add_socket(open((SERVER_IP, SERVER_PORT))?)?;
    let image = SharedBytes::from(vec![0x5a; BLOCK * segments]);
    let to = CLIENT.into();
    let mut blast = Blast { control, socket, image, segments, to, in_flight: 0, token: 0 };
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
    segments: usize,
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
            self.control.count.fetch_add(self.segments as u64, Ordering::Relaxed);
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
