//! From what was counted to the report, and to what it all comes to.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use bootstorm_net::Drops;
use bootstorm_protocols::time::Moment;

use crate::fleet::Fleet;
use crate::job::Job;
use crate::report::{Report, Run, SCHEMA, Verdict};

/// A run that has ended.
pub(crate) struct Ended {
    /// When it began, by the wall clock.
    pub(crate) started: SystemTime,
    /// When it ended.
    pub(crate) end: Moment,
    /// What was lost on this side.
    pub(crate) drops: Drops,
    /// Name of the packet engine.
    pub(crate) engine: &'static str,
    /// Fingerprint of the schedule.
    pub(crate) schedule: u64,
    /// Relay agents.
    pub(crate) relays: Vec<Ipv4Addr>,
}

/// Writes the report.
pub(crate) fn report(job: &Job, fleet: &mut Fleet, ended: Ended, mut notes: Vec<String>) -> Report {
    let Ended { started, end, drops, engine, schedule, relays } = ended;
    let diagnosis = fleet.health.diagnose(&drops, fleet.strays(), end);
    if let Some(error) = fleet.route_error() {
        notes.push(format!(
            "Machines could not all get an address of their own on this host: {error}."
        ));
    }
    let [tftp, http] = fleet.tally.transfers();
    let started =
        jiff::Timestamp::try_from(started).map_or_else(|_| String::new(), |at| format!("{at:.0}"));
    let capture = job.capture.as_ref().filter(|_| fleet.judge.recorder.has_kept());
    let mut report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        verdict: Verdict::Invalid,
        interrupted: fleet.was_interrupted(),
        slo: Vec::new(),
        invalid_because: Vec::new(),
        notes,
        run: Run {
            scenario: job.scenario.name.clone(),
            summary: job.scenario.summary.clone(),
            command: job.command.clone(),
            seed: job.seed,
            schedule: format!("{schedule:016x}"),
            server: job.server.to_string(),
            interface: job.interface.clone(),
            relays: relays.iter().map(Ipv4Addr::to_string).collect(),
            engine: engine.to_owned(),
            started,
            seconds: end.since(fleet.tally.start()).as_secs_f64(),
        },
        machines: fleet.tally.machines(fleet.total(), fleet.not_started()),
        giveups: fleet.tally.giveups(),
        dhcp: fleet.tally.dhcp(),
        tftp,
        http,
        files: fleet.files.rows(),
        latency: fleet.tally.latency(),
        timeline: fleet.tally.timeline(end),
        violations: fleet.judge.rows(),
        capture: capture.map(|path| path.display().to_string()),
        generator: diagnosis.figures,
    };
    report.slo = job.slo.judge(&report);
    report.verdict = verdict(&report, &diagnosis.faults, &diagnosis.handicaps);
    match report.verdict {
        Verdict::Invalid => {
            report.invalid_because = diagnosis.faults;
            report.invalid_because.extend(diagnosis.handicaps);
        }
        Verdict::Met | Verdict::Missed => {
            report.notes.extend(diagnosis.faults.into_iter().chain(diagnosis.handicaps));
        }
    }
    report
}

/// A lie is a lie, whatever state its witness is in. Else a faulty generator says nothing, and a handicapped one nothing bad.
fn verdict(report: &Report, faults: &[String], handicaps: &[String]) -> Verdict {
    let met = report.slo.iter().all(|row| row.met);
    let lied = report.slo.iter().any(|row| row.name == "violations" && !row.met);
    if lied {
        Verdict::Missed
    } else if !faults.is_empty() || (!met && !handicaps.is_empty()) {
        Verdict::Invalid
    } else if met {
        Verdict::Met
    } else {
        Verdict::Missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SloRow;

    fn judged(slo: &[(&str, bool)], faults: usize, handicaps: usize) -> Verdict {
        let row = |&(name, met): &(&str, bool)| SloRow {
            name: name.to_owned(),
            limit: String::new(),
            found: String::new(),
            met,
        };
        let report = Report { slo: slo.iter().map(row).collect(), ..Report::default() };
        verdict(&report, &vec![String::new(); faults], &vec![String::new(); handicaps])
    }

    #[test]
    fn the_server_is_never_blamed_for_the_generators_faults() {
        assert_eq!(judged(&[("p99", true), ("violations", true)], 0, 0), Verdict::Met);
        assert_eq!(judged(&[("p99", false), ("violations", true)], 0, 0), Verdict::Missed);
        assert_eq!(judged(&[("p99", false), ("violations", true)], 1, 0), Verdict::Invalid);
        assert_eq!(judged(&[("p99", true), ("violations", true)], 1, 0), Verdict::Invalid);
        assert_eq!(judged(&[("p99", false), ("violations", true)], 0, 1), Verdict::Invalid);
        assert_eq!(judged(&[("p99", true), ("violations", true)], 0, 1), Verdict::Met);
        assert_eq!(judged(&[("p99", true), ("violations", false)], 1, 1), Verdict::Missed);
    }
}
