//! `find-limit`: the search for the highest load that still meets the limits.

use std::time::Duration;

use super::args::FindLimitArgs;
use super::play::{Pace, dora_scenario, job, make, stoppable, storm_scenario};
use super::{Failure, INVALID, MET, MISSED};
use crate::job::Job;
use crate::report::{Report, Verdict, headline};
use crate::search::{Outcome, Search, Step};

/// The longest that a client of plain exchanges waits for an answer, in seconds.
const PATIENCE: f64 = 1.0;
/// RELEASEs a second after a trial, at least and at most.
const RELEASES: [u32; 2] = [500, 10_000];
/// How long the server has to deal with them before the next trial.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) fn run(args: &FindLimitArgs, command: &str) -> Result<u8, Failure> {
    let progress = stoppable()?;
    let unit = if args.scenario.is_some() { "machines at once" } else { "exchanges/s" };
    let confirm_seconds = if args.short { 0.0 } else { args.confirm_seconds };
    let mut search =
        Search::new(args.start, args.most, args.within.0, args.confirm, confirm_seconds);
    let mut last: Option<Report> = None;
    for number in 0.. {
        let seconds = trial_seconds(args, &search);
        let (load, purpose) = match search.next() {
            Step::Try(load) => (load, "search"),
            Step::Confirm(load) => (load, "confirm"),
            Step::Found(limit) => {
                println!(
                    "limit: {limit} {unit}, confirmed in {} runs{}",
                    args.confirm,
                    length(args)
                );
                return finish(args, last, MET);
            }
            Step::None => {
                println!("no load of {} {unit} or less meets the limits", args.start);
                return finish(args, last, MISSED);
            }
            Step::Unclear => {
                println!("the generator was at fault again and again: no limit found");
                return finish(args, last, INVALID);
            }
        };
        prepare(args)?;
        let report = make(&trial(args, number, load, seconds, command)?, true, &progress)?;
        println!(
            "{purpose:8} {load:8} {unit} for {:.0} s: {}",
            report.run.seconds,
            outcome(&report)
        );
        if progress.is_stopped() {
            return Err("interrupted: the search is not over".into());
        }
        let outcome = match report.verdict {
            Verdict::Met => Outcome::Met,
            Verdict::Missed => Outcome::Missed,
            Verdict::Invalid => Outcome::Invalid,
        };
        search.tell(outcome, report.run.seconds);
        last = Some(report);
        if args.before_trial.is_none() {
            std::thread::sleep(SETTLE);
        }
    }
    // There are more numbers than trials.
    Ok(INVALID)
}

/// How long the next trial at a rate lasts.
fn trial_seconds(args: &FindLimitArgs, search: &Search) -> f64 {
    let least = match search.next() {
        _ if args.short => 0.0,
        Step::Confirm(_) => search.least_seconds(PATIENCE).max(args.confirm_seconds),
        _ => search.least_seconds(PATIENCE),
    };
    args.seconds.max(least).ceil()
}

fn length(args: &FindLimitArgs) -> String {
    match args.short {
        true => " of a short search: not to be quoted".to_owned(),
        false => format!(" of {} s or more", args.confirm_seconds),
    }
}

/// Runs what makes the server's state fresh.
fn prepare(args: &FindLimitArgs) -> Result<(), Failure> {
    let Some(command) = &args.before_trial else { return Ok(()) };
    let failed = |why: String| format!("--before-trial `{command}`: {why}");
    let status = std::process::Command::new("sh")
        .args(["-c", command])
        .status()
        .map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        return Err(failed(status.to_string()).into());
    }
    Ok(())
}

/// A trial in a line.
fn outcome(report: &Report) -> String {
    if report.machines.boots == 0 {
        return headline(report);
    }
    let limits = report.slo.iter().map(|row| format!("{} {}", row.name, row.found));
    let verdict = match report.verdict {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        Verdict::Invalid => "invalid",
    };
    let why: Vec<&str> = report.invalid_because.iter().map(String::as_str).collect();
    let figures = limits.collect::<Vec<_>>().join(", ");
    [&[verdict, &figures], &why[..]].concat().join("; ")
}

fn finish(args: &FindLimitArgs, last: Option<Report>, status: u8) -> Result<u8, Failure> {
    if let (Some(json), Some(report)) = (&args.common.json, &last) {
        crate::report::json::write(json, report)?;
    }
    Ok(status)
}

/// A run with this load, by machines that the server has not seen in an earlier one.
fn trial(
    args: &FindLimitArgs,
    number: u32,
    load: u32,
    seconds: f64,
    command: &str,
) -> Result<Job, Failure> {
    let scenario = match &args.scenario {
        Some(name) => storm_scenario(name, Some(load), &args.common)?,
        None => {
            let pace = Pace { rate: Some(load.into()), in_flight: None };
            dora_scenario(&args.common, seconds, None, pace, args.discover_only)?
        }
    };
    let [least, most] = RELEASES;
    let mut job = job(&args.common, scenario, command)?;
    job.seed = job.seed.wrapping_add(number.into());
    job.generation = number as u8;
    job.release = args.before_trial.is_none().then_some((load / 2).clamp(least, most));
    Ok(job)
}
