//! `dora`, `tftp` and `storm`: one run each, shown while it lasts, reported when it is over.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use bootstorm_protocols::tftp::{MAX_BLKSIZE, MAX_WINDOWSIZE, MIN_BLKSIZE, Multicast, Negotiated};

use super::args::{Common, DoraArgs, StormArgs, TftpArgs};
use super::{Failure, status};
use crate::guard::{self, Permission};
use crate::job::Job;
use crate::live::Live;
use crate::progress::Progress;
use crate::report::{self, Report};
use crate::run;
use crate::scenario::{Requester, Scenario, Stage, is_rate};
use crate::slo::Slo;
use crate::validator::LocalCopies;

pub(super) fn dora(args: &DoraArgs, command: &str) -> Result<u8, Failure> {
    let pace = Pace { rate: args.rate, in_flight: args.in_flight };
    let scenario =
        dora_scenario(&args.common, args.seconds, args.machines, pace, args.discover_only)?;
    let mut job = job(&args.common, scenario, command)?;
    job.generation = args.generation;
    play(&args.common, &job)
}

/// How exchanges follow each other; the scenario's way where nothing is said.
#[derive(Copy, Clone, Default)]
pub(super) struct Pace {
    /// So many a second.
    pub(super) rate: Option<f64>,
    /// So many at a time, where there is no rate.
    pub(super) in_flight: Option<u32>,
}

/// The scenario `dora` with what the command line says.
pub(super) fn dora_scenario(
    common: &Common,
    seconds: f64,
    machines: Option<u32>,
    pace: Pace,
    discover_only: bool,
) -> Result<Scenario, Failure> {
    if !(seconds > 0.0 && seconds <= 86_400.0) {
        return Err("--seconds: more than 0, at most 86400".into());
    }
    let mut set = vec![format!("arrival.for={}ms", (seconds * 1000.0).round())];
    set.extend(machines.map(|machines| format!("machines={machines}")));
    set.extend(common.set.iter().cloned());
    let mut scenario = Scenario::load("dora", &set)?;
    if let Some(rate) = pace.rate {
        if !is_rate(rate) {
            return Err("--rate: 0.001 to 10000000".into());
        }
        scenario.arrival.rate = Some(rate);
        scenario.arrival.in_flight = None;
    } else if let Some(in_flight) = pace.in_flight {
        if in_flight == 0 {
            return Err("--in-flight: at least 1".into());
        }
        scenario.arrival.in_flight = Some(in_flight);
    }
    if discover_only {
        scenario.stages = vec![Stage::Discover(Requester::Plain)];
    }
    Ok(scenario)
}

pub(super) fn tftp(args: &TftpArgs, command: &str) -> Result<u8, Failure> {
    if args.blksize != 0 && !(MIN_BLKSIZE..=MAX_BLKSIZE).contains(&args.blksize) {
        return Err(format!("--blksize: {MIN_BLKSIZE} to {MAX_BLKSIZE}, or 0").into());
    }
    if !(1..=MAX_WINDOWSIZE).contains(&args.windowsize) {
        return Err(format!("--windowsize: 1 to {MAX_WINDOWSIZE}").into());
    }
    let mut set = vec![format!("machines={}", args.clients)];
    set.extend(args.common.set.iter().cloned());
    let mut scenario = Scenario::load("tftp", &set)?;
    scenario.stages = vec![Stage::Tftp(args.file.clone())];
    if !args.over.0.is_zero() {
        let rate = f64::from(args.clients) / args.over.0.as_secs_f64();
        if !is_rate(rate) {
            return Err(format!("--over: {rate} clients a second are not 0.001 to 10000000").into());
        }
        scenario.arrival.rate = Some(rate);
    }
    let asked = Negotiated {
        blksize: (args.blksize != 0).then_some(args.blksize),
        windowsize: (args.windowsize != 1).then_some(args.windowsize),
        tsize: Some(0),
        multicast: args.multicast.then(Multicast::default),
        ..Negotiated::default()
    };
    let mut job = job(&args.common, scenario, command)?;
    job.multicast_port = args.multicast.then_some(args.multicast_port);
    job.asked = Some(asked);
    play(&args.common, &job)
}

pub(super) fn storm(args: &StormArgs, command: &str) -> Result<u8, Failure> {
    let scenario = storm_scenario(&args.scenario, args.machines, &args.common)?;
    play(&args.common, &job(&args.common, scenario, command)?)
}

/// A scenario with what the command line says.
pub(super) fn storm_scenario(
    name: &str,
    machines: Option<u32>,
    common: &Common,
) -> Result<Scenario, Failure> {
    let mut set: Vec<String> =
        machines.map(|machines| format!("machines={machines}")).into_iter().collect();
    set.extend(common.set.iter().cloned());
    Ok(Scenario::load(name, &set)?)
}

fn play(common: &Common, job: &Job) -> Result<u8, Failure> {
    let report = make(job, common.quiet, &stoppable()?)?;
    write(&report, common)?;
    Ok(status(report.verdict))
}

/// The shared progress of a run, whose stop flag Ctrl-C sets. A second Ctrl-C ends the program at
/// once.
pub(super) fn stoppable() -> Result<Arc<Progress>, Failure> {
    let progress = Arc::new(Progress::default());
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, progress.stop_flag())?;
        signal_hook::flag::register(signal, progress.stop_flag())?;
    }
    Ok(progress)
}

/// From the command line to a run that may be made.
pub(super) fn job(common: &Common, scenario: Scenario, command: &str) -> Result<Job, Failure> {
    let harmful = scenario.is_attack().then_some(scenario.name.as_str());
    let permission = Permission { owns_network: common.i_own_this_network, attack: common.attack };
    guard::check(common.server, common.direct, harmful, permission)?;
    for other in common.tftp_server.into_iter().chain(common.http.map(|http| *http.ip())) {
        guard::check(other, false, None, permission)?;
    }
    let slo = scenario.slo.parse::<Slo>()?.with(common.slo.clone().unwrap_or_default());
    if let Some(root) = common.root.as_deref().filter(|root| !root.is_dir()) {
        return Err(format!("--root {}: no such folder", root.display()).into());
    }
    let seed = common.seed.unwrap_or_else(|| bootstorm_net::now().as_nanos() % 1_000_000_007);
    let beside = |json: &Path| json.with_file_name("bootstorm-load.pcapng");
    let json = common.json.as_deref().filter(|json| *json != Path::new("-"));
    Ok(Job {
        scenario,
        seed,
        generation: 0,
        release: None,
        server: common.server,
        interface: common.interface.clone(),
        relays: common.relay.clone(),
        direct: common.direct,
        clients: common.client_net,
        ports: common.ports,
        gro: !common.no_gro,
        busy_poll: common.busy_poll,
        own_latency: !common.no_own_latency,
        asked: None,
        multicast_port: None,
        tftp_server: common.tftp_server,
        http_server: common.http,
        copies: LocalCopies(common.root.clone()),
        capture: common.capture.clone().or_else(|| json.map(beside)),
        engine: common.engine.into(),
        slo,
        command: command.to_owned(),
    })
}

/// Makes the run, with a live view unless it is to be quiet.
pub(super) fn make(job: &Job, quiet: bool, progress: &Arc<Progress>) -> Result<Report, Failure> {
    let live = (!quiet).then(|| {
        eprintln!(
            "{}: {} machines against {}, seed {}",
            job.scenario.name, job.scenario.machines, job.server, job.seed
        );
        Live::begin(progress.clone())
    });
    let report = run::run(job, progress.clone());
    drop(live);
    Ok(report?)
}

/// Prints the summary and writes what was asked for.
fn write(report: &Report, common: &Common) -> Result<(), Failure> {
    let to_stdout = common.json.as_deref() == Some(Path::new("-"));
    if let Some(json) = &common.json {
        if to_stdout {
            report::json::write_to(&mut std::io::stdout().lock(), report)?;
        } else {
            report::json::write(json, report)?;
        }
    }
    if let Some(html) = &common.html {
        std::fs::write(html, report::html::render(report))
            .map_err(|error| format!("--html {}: {error}", html.display()))?;
    }
    if !to_stdout {
        let mut out = std::io::stdout().lock();
        let summary = report::text::render(report, out.is_terminal());
        let page =
            common.html.as_ref().map(|html| format!("The whole story: {}\n", html.display()));
        // Whoever reads it may have seen enough; the files are written, and the verdict stands.
        let _ = out.write_all(summary.as_bytes());
        let _ = out.write_all(page.unwrap_or_default().as_bytes());
        let _ = out.flush();
    }
    Ok(())
}
