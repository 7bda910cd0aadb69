//! One run: opens the sockets, makes the clients, runs the loop, writes the report.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bootstorm_net::{BUSY_POLL, Backend, Drops, Engine, Limits, Socket, now};

use crate::clients::{Access, Clients, Config, Release, Sockets};
use crate::http::Fetcher;
use crate::job::{Job, RunError};
use crate::memberships::Memberships;
use crate::own_latency;
use crate::progress::Progress;
use crate::report::Report;
use crate::routes::Routes;
use crate::seed::Seed;
use crate::setup::{Setup, memberships};
use crate::validator::{Files, Recorder, Validator};
use crate::verdict;

const LIMITS: Limits = Limits {
    buffers: 256,
    urgent: 64,
    middle: 0,
    payload_len: 65_535,
    slots: 8192,
    held: 0,
    shared: 0,
    batch: 64,
    busy_poll: Duration::ZERO,
};

/// Makes a run, from the first packet to the report.
///
/// # Errors
/// [`RunError`] says what stands in the way; nothing was sent then.
pub fn run(job: &Job, progress: Arc<Progress>) -> Result<Report, RunError> {
    let (kind, denied) = job.engine.resolve()?;
    let mut notes: Vec<String> =
        denied.iter().map(|denied| format!("{denied}; recvmmsg is used instead")).collect();
    let busy_poll = if job.busy_poll { BUSY_POLL } else { Duration::ZERO };
    let limits = Limits { busy_poll, ..LIMITS };
    let wanted = job.own_latency && job.scenario.asks_for_addresses();
    let own_latency = match wanted.then(|| own_latency::measure(kind, &limits)).transpose() {
        Ok(found) => found,
        Err(error) => {
            notes.push(format!("The generator's own latency was not measured: {error}."));
            None
        }
    };
    let mut report = match kind.open(&limits).map_err(RunError::Engine)? {
        Engine::Uring(backend) => run_on(backend, job, progress, &mut notes),
        Engine::Mmsg(backend) => run_on(backend, job, progress, &mut notes),
    }?;
    report.generator.own_latency = own_latency;
    Ok(report)
}

fn run_on<B: Backend<Socket = Socket>>(
    mut backend: B,
    job: &Job,
    progress: Arc<Progress>,
    notes: &mut Vec<String>,
) -> Result<Report, RunError> {
    let mut routes = Routes::default();
    let sockets = Setup::new(&mut backend, job, &mut routes, notes).sockets()?;
    let started = SystemTime::now();
    let start = now();
    let recorder = Recorder::new(job.capture.is_some());
    let relays = relays(&sockets);
    // Addresses that no machine may be given.
    let reserved = relays.iter().copied().chain([job.server]).collect();
    let validator = Validator::new(start, job.scenario.expected(), reserved, recorder);
    let config = Config {
        scenario: job.scenario.clone(),
        seed: Seed(job.seed),
        generation: job.generation,
        sockets,
        files: Files::new(job.copies.clone()),
        validator,
        progress,
        asked: job.asked,
        tftp_server: job.tftp_server,
        routes,
        memberships: match job.multicast_port {
            Some(_) => memberships(job)?,
            None => Memberships::default(),
        },
        multicast_port: job.multicast_port,
        fetcher: job
            .scenario
            .fetches()
            .then(|| Fetcher::start(backend.waker(), job.scenario.machines))
            .transpose()
            .map_err(RunError::Engine)?,
        http_server: job.http_server,
    };
    let mut clients = Clients::new(config, start)?;
    let schedule = clients.schedule();
    let before = backend.drops();
    let mut deadline = Some(start);
    while !clients.is_over() {
        deadline = backend.turn(deadline, &mut clients).map_err(RunError::Engine)?;
    }
    let end = now();
    clients.close(end);
    let drops = since(before, backend.drops());
    let engine = backend.name();
    let wall = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let wall_at_zero = (wall.as_nanos() as u64).saturating_sub(start.as_nanos());
    if let Some(path) = job.capture.as_deref().filter(|_| clients.validator.recorder.has_kept())
        && let Err(error) = clients.validator.recorder.write(path, wall_at_zero)
    {
        notes.push(format!("{}: {error}; the packets of the violations are lost", path.display()));
    }
    let ended = verdict::Finished { started, end, drops, engine, schedule, relays };
    let report = verdict::report(job, &mut clients, ended, std::mem::take(notes));
    if let Some(per_second) = job.release {
        let mut release = Release::new(&mut clients, per_second, now());
        let mut deadline = Some(now());
        while !release.is_over() {
            deadline = backend.turn(deadline, &mut release).map_err(RunError::Engine)?;
        }
    }
    Ok(report)
}

/// Addresses of the relay agents that are played.
fn relays(sockets: &Sockets) -> Vec<Ipv4Addr> {
    match &sockets.access {
        Access::Relayed(relays) => relays.iter().map(|relay| relay.giaddr).collect(),
        Access::Direct { .. } | Access::None => Vec::new(),
    }
}

/// What was lost in this run.
fn since(before: Drops, after: Drops) -> Drops {
    Drops { kernel: after.kernel.saturating_sub(before.kernel), ..after }
}
