//! `find-limit`: the search for the highest load that still meets the limits.

use std::collections::BTreeMap;
use std::time::Duration;

use super::args::FindLimitArgs;
use super::play::{Pace, dora_scenario, job, make, stoppable, storm_scenario};
use super::{Failure, INVALID, LOWER_BOUND, MET, MISSED};
use crate::job::Job;
use crate::report::{Bound, Limit, Report, Verdict, headline};
use crate::search::{Bottleneck, Outcome, Search, Step};

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
    let mut trials = Trials::default();
    for number in 0.. {
        let seconds = trial_seconds(args, &search);
        let (load, purpose) = match search.next() {
            Step::Try(load) => (load, "search"),
            Step::Confirm(load) => (load, "confirm"),
            over => return finish(args, over, trials, unit),
        };
        prepare(args)?;
        let report = make(&trial(args, number, load, seconds, command)?, true, &progress)?;
        // A trial that ended before the search was interrupted counts: who reads that it was met
        // and interrupts the search then has its load as the answer.
        let was_stopped = progress.is_stopped();
        println!(
            "{purpose:8} {load:8} {unit} for {:.0} s: {}",
            report.run.seconds,
            outcome(&report)
        );
        if was_stopped {
            search.interrupt();
            continue;
        }
        let outcome = match report.verdict {
            Verdict::Met => Outcome::Met,
            Verdict::Missed => Outcome::Missed,
            Verdict::Invalid => Outcome::Invalid,
        };
        search.tell(outcome, report.run.seconds);
        trials.keep(load, unit, report);
        if progress.is_stopped() {
            search.interrupt();
        } else if args.before_trial.is_none() {
            std::thread::sleep(SETTLE);
        }
    }
    // There are more numbers than trials.
    Ok(INVALID)
}

/// What is kept of the trials.
#[derive(Default)]
struct Trials {
    /// The last report of each load that was met.
    met: BTreeMap<u32, Report>,
    /// The last report.
    last: Option<Report>,
    /// Why the last invalid trial was none, and its load.
    bottleneck: Option<String>,
}

impl Trials {
    fn keep(&mut self, load: u32, unit: &str, report: Report) {
        match report.verdict {
            Verdict::Met => {
                self.met.insert(load, report.clone());
            }
            Verdict::Invalid => {
                let why = report.invalid_because.join("; ");
                self.bottleneck = Some(format!("with {load} {unit} {why}"));
            }
            Verdict::Missed => {}
        }
        self.last = Some(report);
    }

    /// What was found, for the report; `None` where nothing was.
    fn limit(&self, answer: Step, most: u32, unit: &str) -> Option<Limit> {
        let unit = unit.to_owned();
        let bound = match answer {
            Step::Found(load) => {
                let bound = Bound::Exact;
                return Some(Limit { load, unit, bound, confirmed: true, bottleneck: None });
            }
            Step::AtLeast(bound) => bound,
            Step::Try(_) | Step::Confirm(_) | Step::None | Step::Unclear => return None,
        };
        let bottleneck = match bound.by {
            Bottleneck::Generator => self.bottleneck.clone().unwrap_or_default(),
            Bottleneck::Most => format!("more than {most} was not to be tried (--most)"),
            Bottleneck::Interrupted => "the search was interrupted".to_owned(),
        };
        Some(Limit {
            load: bound.load,
            unit,
            bound: Bound::Lower,
            confirmed: bound.confirmed,
            bottleneck: Some(bottleneck),
        })
    }

    /// The report that tells of the answer: that of the load that was found, else the last.
    fn report(mut self, limit: Option<Limit>) -> Option<Report> {
        let found = limit.as_ref().and_then(|limit| self.met.remove(&limit.load));
        let mut report = found.or(self.last)?;
        report.limit = limit;
        Some(report)
    }
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

/// Prints the answer and writes the report; the exit status.
fn finish(args: &FindLimitArgs, answer: Step, trials: Trials, unit: &str) -> Result<u8, Failure> {
    let limit = trials.limit(answer, args.most, unit);
    println!("{}", answer_line(args, limit.as_ref(), answer, unit));
    if let (Some(json), Some(report)) = (&args.common.json, trials.report(limit)) {
        crate::report::json::write(json, &report)?;
    }
    Ok(status(answer))
}

fn status(answer: Step) -> u8 {
    match answer {
        Step::Found(_) => MET,
        // Whoever names the highest load wants to know whether it is met.
        Step::AtLeast(bound) if bound.by == Bottleneck::Most => MET,
        Step::AtLeast(_) => LOWER_BOUND,
        Step::None => MISSED,
        Step::Try(_) | Step::Confirm(_) | Step::Unclear => INVALID,
    }
}

/// The answer in a line.
fn answer_line(args: &FindLimitArgs, limit: Option<&Limit>, answer: Step, unit: &str) -> String {
    let Some(limit) = limit else {
        return match answer {
            Step::None => format!("no load of {} {unit} or less meets the limits", args.start),
            _ => "the generator was at fault again and again, or the search was interrupted: no \
                  limit found"
                .to_owned(),
        };
    };
    let confirmed = match limit.confirmed {
        true => format!("confirmed in {} runs{}", args.confirm, length(args)),
        false => "not confirmed".to_owned(),
    };
    match &limit.bottleneck {
        None => format!("limit: {} {unit}, {confirmed}", limit.load),
        Some(bottleneck) => format!(
            "limit: at least {} {unit}, {confirmed}; the server may do more: {bottleneck}",
            limit.load
        ),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::LowerBound;

    fn report(verdict: Verdict, why: &[&str]) -> Report {
        let invalid_because = why.iter().map(|why| (*why).to_owned()).collect();
        Report { verdict, invalid_because, ..Report::default() }
    }

    fn trials() -> Trials {
        let mut trials = Trials::default();
        trials.keep(48_000, "exchanges/s", report(Verdict::Met, &[]));
        let why = "the generator was the bottleneck for 30 % of the run";
        trials.keep(56_000, "exchanges/s", report(Verdict::Invalid, &[why]));
        trials
    }

    #[test]
    fn a_lower_bound_says_what_the_bottleneck_was() {
        let bound = LowerBound { load: 48_000, confirmed: true, by: Bottleneck::Generator };
        let answer = Step::AtLeast(bound);
        let limit = trials().limit(answer, 1_000_000, "exchanges/s").unwrap();
        assert_eq!((limit.load, limit.bound, limit.confirmed), (48_000, Bound::Lower, true));
        let bottleneck = limit.bottleneck.as_deref().unwrap();
        assert!(bottleneck.starts_with("with 56000 exchanges/s the generator"), "{bottleneck}");
        assert_eq!(status(answer), LOWER_BOUND);
        let report = trials().report(Some(limit)).unwrap();
        assert_eq!(report.verdict, Verdict::Met);
        assert_eq!(report.limit.unwrap().load, 48_000);
    }

    #[test]
    fn a_limit_that_the_server_missed_above_is_exact() {
        let limit = trials().limit(Step::Found(48_000), 1_000_000, "exchanges/s").unwrap();
        assert_eq!((limit.bound, limit.bottleneck), (Bound::Exact, None));
        assert_eq!(status(Step::Found(48_000)), MET);
    }

    #[test]
    fn what_found_nothing_reports_the_last_trial() {
        assert!(trials().limit(Step::Unclear, 1_000_000, "exchanges/s").is_none());
        assert_eq!(trials().report(None).unwrap().verdict, Verdict::Invalid);
        assert_eq!((status(Step::Unclear), status(Step::None)), (INVALID, MISSED));
    }
}
