//! `bootstorm status`

use std::io::Write;

use bootstorm::control::protocol::{Request, Response};
use bootstorm::control::status::{DamageStatus, FailureStatus, InterfaceStatus, Status as Report};

use super::{Answer, Failure, Outcome, ServerArg, print_json, unexpected};

/// Show how the running server is
///
/// Its engine, interfaces, pools and counters, asked for through the control socket in the state
/// directory.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    server: ServerArg,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        let mut client = self.server.connect()?;
        client.ask(&Request::Status {})?;
        match client.response()? {
            Response::Status(report) if self.json => print_json(out, &report)?,
            Response::Status(report) => human(&report, out)?,
            other => return Err(unexpected(&other)),
        }
        Ok(Answer::Yes)
    }
}

fn human(report: &Report, out: &mut dyn Write) -> Result<(), Failure> {
    let Report { totals, leases, .. } = report;
    let mut line = |name: &str, text: String| writeln!(out, "{:<12} {text}", format!("{name}:"));
    line("version", format!("{}, process {}", report.version, report.pid))?;
    let up = std::time::Duration::from_secs(report.uptime_seconds.unsigned_abs());
    line("up", format!("{}, since {}", duration(up), report.started))?;
    let config = &report.config;
    match (&report.reloaded, &report.reload_error) {
        (None, _) => line("config", config.clone())?,
        (Some(at), None) => line("config", format!("{config}, reloaded {at}"))?,
        (Some(at), Some(error)) => {
            line("config", config.clone())?;
            line("RELOAD", format!("failed {at}, the configuration before it holds: {error}"))?;
        }
    }
    let dry = if report.dry_run { ", DRY RUN: sends and stores nothing" } else { "" };
    line("engine", format!("{}, shards: {}{dry}", report.engine, report.shards))?;
    for interface in &report.interface_states {
        line("interface", describe(interface))?;
    }
    if let Some(metrics) = &report.metrics {
        line("metrics", metrics.clone())?;
    }
    line(
        "leases",
        format!(
            "{} active, {} offered, {} idle, {} declined",
            leases.active, leases.offered, leases.idle, leases.declined
        ),
    )?;
    if let Some(damage) = &report.lease_store_damage {
        line("DAMAGE", describe_damage(damage))?;
    }
    if let Some(failure) = &report.lease_store_failure {
        let FailureStatus { since, error } = failure;
        let text = format!("since {since} no lease can be written and no ACK leaves: {error}");
        line("DISK", format!("{text}; see to free space and to the disk"))?;
    }
    for pool in &report.pools {
        let used = pool.size.saturating_sub(pool.free);
        let percent = used as f64 / pool.size.max(1) as f64 * 100.0;
        let usage = format!("{used} of {} used ({percent:.1} %)", pool.size);
        line("pool", format!("{} in {}: {usage}", pool.range, pool.subnet))?;
    }
    line(
        "dhcp",
        format!(
            "{} received, {} answered, {} left unanswered, {} malformed",
            totals.received, totals.replies, totals.silences, totals.malformed
        ),
    )?;
    let (pending, failed) = (totals.commits_pending, totals.commits_failed);
    line("commits", format!("{pending} pending, {failed} failed"))?;
    let kernel = totals.kernel_drops.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    let unsent = totals.send_failures;
    line("lost", format!("{kernel} dropped by the kernel unread, {unsent} replies not sent"))?;
    line(
        "tftp",
        format!(
            "{} active, {} finished, {} failed, {:.1} MB sent",
            totals.tftp_active,
            totals.tftp_finished,
            totals.tftp_failed,
            totals.tftp_bytes as f64 / 1e6
        ),
    )?;
    Ok(())
}

/// `eth1: served, 10.1.0.1, MTU 1500`, `eth2: NOT SERVED: it is down`
fn describe(interface: &InterfaceStatus) -> String {
    let mut parts = Vec::new();
    match (interface.served, &interface.reason) {
        (true, None) => parts.push("served".to_owned()),
        (true, Some(reason)) => parts.push(format!("served, {reason}")),
        (false, reason) => {
            parts.push(format!("NOT SERVED: {}", reason.as_deref().unwrap_or_default()));
        }
    }
    parts.extend(interface.addresses.iter().map(ToString::to_string));
    if interface.present {
        parts.push(format!("MTU {}", interface.mtu));
    }
    format!("{}: {}", interface.name, parts.join(", "))
}

/// `of the lease store: batch 7 is missing; see to the disk`
fn describe_damage(damage: &DamageStatus) -> String {
    let mut parts = Vec::new();
    match (&damage.found, &damage.probes_until) {
        (Some(found), _) => parts.push(found.clone()),
        (None, Some(_)) => parts.push("found by an earlier start".to_owned()),
        (None, None) => {}
    }
    if let Some(until) = &damage.probes_until {
        parts.push(format!("addresses are probed before they are offered until {until}"));
    }
    if damage.unreadable_records > 0 {
        let records = damage.unreadable_records;
        parts.push(format!("{records} records cannot be read, their addresses are in quarantine"));
    }
    format!("of the lease store: {}; see to the disk", parts.join("; "))
}

/// `3d 4h 5m`, the largest three units that are not zero before the first.
fn duration(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let shown: Vec<String> = units
        .iter()
        .skip_while(|(value, _)| *value == 0)
        .take(3)
        .map(|(value, unit)| format!("{value}{unit}"))
        .collect();
    if shown.is_empty() { "0s".to_owned() } else { shown.join(" ") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_begin_with_their_largest_unit() {
        let text = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(
            [text(0), text(59), text(3600), text(90_061)],
            ["0s", "59s", "1h 0m 0s", "1d 1h 1m"]
        );
    }

    #[test]
    fn an_interface_that_is_not_served_stands_out() {
        let served = InterfaceStatus {
            name: "eth1".to_owned(),
            present: true,
            up: true,
            served: true,
            reason: None,
            addresses: vec![[10, 1, 0, 1].into()],
            mtu: 9000,
        };
        assert_eq!(describe(&served), "eth1: served, 10.1.0.1, MTU 9000");
        let absent = InterfaceStatus {
            name: "eth2".to_owned(),
            reason: Some("no such interface".to_owned()),
            ..InterfaceStatus::default()
        };
        assert_eq!(describe(&absent), "eth2: NOT SERVED: no such interface");
    }

    #[test]
    fn damage_of_the_lease_store_stands_out() {
        let text = |damage| {
            let report = Report { lease_store_damage: damage, ..Report::default() };
            let mut text = Vec::new();
            human(&report, &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert!(!text(None).contains("DAMAGE"));
        let until = Some("2026-01-02T03:04:05Z".to_owned());
        let earlier = DamageStatus { found: None, probes_until: until, unreadable_records: 0 };
        let line = "DAMAGE:      of the lease store: found by an earlier start; addresses are \
            probed before they are offered until 2026-01-02T03:04:05Z; see to the disk\n";
        assert!(text(Some(earlier)).contains(line));
        let found = Some("batch 7 is missing".to_owned());
        let now = DamageStatus { found, probes_until: None, unreadable_records: 3 };
        let line = "DAMAGE:      of the lease store: batch 7 is missing; 3 records cannot be read, \
            their addresses are in quarantine; see to the disk\n";
        assert!(text(Some(now)).contains(line));
    }

    #[test]
    fn a_store_that_cannot_be_written_stands_out() {
        let failure = FailureStatus {
            since: "2026-01-02T03:04:05Z".to_owned(),
            error: "the lease store /s/lease-log: Input/output error".to_owned(),
        };
        let report = Report { lease_store_failure: Some(failure), ..Report::default() };
        let mut text = Vec::new();
        human(&report, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let line = "DISK:        since 2026-01-02T03:04:05Z no lease can be written and no ACK \
            leaves: the lease store /s/lease-log: Input/output error; see to free space and to \
            the disk\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_failed_reload_stands_out() {
        let report = Report {
            reloaded: Some("2026-01-02T03:04:05Z".to_owned()),
            reload_error: Some("line 3: no".to_owned()),
            ..Report::default()
        };
        let mut text = Vec::new();
        human(&report, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("RELOAD:      failed 2026-01-02T03:04:05Z"), "{text}");
        assert!(text.contains("unknown dropped by the kernel"), "{text}");
    }
}
