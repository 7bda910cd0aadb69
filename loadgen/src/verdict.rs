//! Builds the report from what was counted, and decides the verdict.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use bootstorm_net::Drops;
use bootstorm_protocols::time::Moment;

use crate::clients::Clients;
use crate::job::Job;
use crate::report::{Report, Run, SCHEMA, Verdict};

/// A run that has ended.
pub(crate) struct Finished {
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
pub(crate) fn report(
    job: &Job,
    clients: &mut Clients,
    ended: Finished,
    mut notes: Vec<String>,
) -> Report {
    let Finished { started, end, drops, engine, schedule, relays } = ended;
    let diagnosis = clients.health.diagnose(&drops, clients.strays(), end);
    if let Some(error) = clients.route_error() {
        notes.push(format!(
            "Machines could not all get an address of their own on this host: {error}."
        ));
    }
    let [tftp, http] = clients.metrics.transfers();
    let started =
        jiff::Timestamp::try_from(started).map_or_else(|_| String::new(), |at| format!("{at:.0}"));
    let capture = job.capture.as_ref().filter(|_| clients.validator.recorder.has_kept());
    let mut report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        verdict: Verdict::Invalid,
        interrupted: clients.was_interrupted(),
        slo: Vec::new(),
        invalid_because: Vec::new(),
        notes,
        run: Run {
            scenario: job.scenario.name.clone(),
            summary: job.scenario.summary.clone(),
            command: job.command.clone(),
            load_loop: Some(job.scenario.load_loop()),
            seed: job.seed,
            schedule: format!("{schedule:016x}"),
            server: job.server.to_string(),
            interface: job.interface.clone(),
            relays: relays.iter().map(Ipv4Addr::to_string).collect(),
            engine: engine.to_owned(),
            started,
            seconds: end.since(clients.metrics.start()).as_secs_f64(),
        },
        machines: clients.metrics.machines(clients.total(), clients.not_started()),
        giveups: clients.metrics.giveups(),
        dhcp: clients.metrics.dhcp(),
        tftp,
        http,
        files: clients.files.rows(),
        latency: clients.metrics.latency(),
        timeline: clients.metrics.timeline(end),
        violations: clients.validator.rows(),
        capture: capture.map(|path| path.display().to_string()),
        generator: diagnosis.figures,
        limit: None,
    };
    report.slo = job.slo.check(&report);
    report.verdict = verdict(&report, &diagnosis.faults, &diagnosis.overloads);
    match report.verdict {
        Verdict::Invalid => {
            report.invalid_because = diagnosis.faults;
            report.invalid_because.extend(diagnosis.overloads);
        }
        Verdict::Met | Verdict::Missed => {
            report.notes.extend(diagnosis.faults.into_iter().chain(diagnosis.overloads));
        }
    }
    report
}

/// A violation counts even if the generator was overloaded. A missed limit does not: the generator
/// may have caused it.
fn verdict(report: &Report, faults: &[String], overloads: &[String]) -> Verdict {
    let met = report.slo.iter().all(|row| row.met);
    let violated = report.slo.iter().any(|row| row.name == "violations" && !row.met);
    if violated {
        Verdict::Missed
    } else if !faults.is_empty() || (!met && !overloads.is_empty()) {
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

    fn verdict_of(slo: &[(&str, bool)], faults: usize, overloads: usize) -> Verdict {
        let row = |&(name, met): &(&str, bool)| SloRow {
            name: name.to_owned(),
            limit: String::new(),
            found: String::new(),
            met,
        };
        let report = Report { slo: slo.iter().map(row).collect(), ..Report::default() };
        verdict(&report, &vec![String::new(); faults], &vec![String::new(); overloads])
    }

    #[test]
    fn the_server_is_never_blamed_for_the_generators_faults() {
        assert_eq!(verdict_of(&[("p99", true), ("violations", true)], 0, 0), Verdict::Met);
        assert_eq!(verdict_of(&[("p99", false), ("violations", true)], 0, 0), Verdict::Missed);
        assert_eq!(verdict_of(&[("p99", false), ("violations", true)], 1, 0), Verdict::Invalid);
        assert_eq!(verdict_of(&[("p99", true), ("violations", true)], 1, 0), Verdict::Invalid);
        assert_eq!(verdict_of(&[("p99", false), ("violations", true)], 0, 1), Verdict::Invalid);
        assert_eq!(verdict_of(&[("p99", true), ("violations", true)], 0, 1), Verdict::Met);
        assert_eq!(verdict_of(&[("p99", true), ("violations", false)], 1, 1), Verdict::Missed);
    }
}
