//! `find-limit`: the search for the highest load that still meets the limits.

use super::args::FindLimitArgs;
use super::play::{Pace, dora_scenario, job, make, stoppable, storm_scenario};
use super::{Failure, INVALID, MET, MISSED};
use crate::job::Job;
use crate::report::{Report, Verdict, headline};
use crate::search::{Outcome, Search, Step};

pub(super) fn run(args: &FindLimitArgs, command: &str) -> Result<u8, Failure> {
    let progress = stoppable()?;
    let unit = if args.scenario.is_some() { "machines at once" } else { "exchanges/s" };
    let mut search = Search::new(args.start, args.most, args.within.0, args.confirm);
    let mut last: Option<Report> = None;
    loop {
        let (load, purpose) = match search.next() {
            Step::Try(load) => (load, "search"),
            Step::Confirm(load) => (load, "confirm"),
            Step::Found(limit) => {
                println!("limit: {limit} {unit}, confirmed in {} runs", args.confirm);
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
        let report = make(&trial(args, load, command)?, true, &progress)?;
        println!("{purpose:8} {load:8} {unit}: {}", outcome(&report));
        if progress.is_stopped() {
            return Err("interrupted: the search is not over".into());
        }
        search.tell(match report.verdict {
            Verdict::Met => Outcome::Met,
            Verdict::Missed => Outcome::Missed,
            Verdict::Invalid => Outcome::Invalid,
        });
        last = Some(report);
    }
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

/// A run with this load.
fn trial(args: &FindLimitArgs, load: u32, command: &str) -> Result<Job, Failure> {
    let scenario = match &args.scenario {
        Some(name) => storm_scenario(name, Some(load), &args.common)?,
        None => {
            let pace = Pace { rate: Some(load.into()), in_flight: None };
            dora_scenario(&args.common, args.seconds, None, pace, args.discover_only)?
        }
    };
    job(&args.common, scenario, command)
}
