//! The run in one sentence.

use super::formatting::{self, count, counted, seconds};
use super::{Machines, Report, Verdict};

/// Reasons, kinds and limits named in the sentence; the tables have them all.
const NAMED: usize = 3;

/// Most characters of a text from elsewhere; a sentence is no place for more.
const LONGEST: usize = 100;

/// What the run comes to, in one sentence for somebody who reads nothing else. A run that did not
/// go well says so with its first word: `MISSED`, `INVALID` or `INTERRUPTED`.
pub fn headline(report: &Report) -> String {
    let after = seconds(report.run.seconds);
    match report.verdict {
        Verdict::Invalid => {
            format!("INVALID: {}, so this says nothing about the server.", fault(report))
        }
        Verdict::Missed if report.interrupted => {
            format!("MISSED, and interrupted after {after}: {}.", wrong(report).join("; "))
        }
        Verdict::Missed => format!("MISSED: {}.", wrong(report).join("; ")),
        Verdict::Met if report.interrupted => format!(
            "INTERRUPTED after {after}: {} of {} up, and nothing was wrong until then.",
            count(report.machines.up),
            counted(report.machines.total, "machine", "machines")
        ),
        Verdict::Met if report.machines.total == 0 => {
            "No machine was played, so there is nothing to tell.".to_owned()
        }
        Verdict::Met => well(report),
    }
}

fn fault(report: &Report) -> String {
    let Some(first) = report.invalid_because.first() else {
        return "the generator could not keep up".to_owned();
    };
    let first = plain(first);
    let first = first.trim().trim_end_matches('.');
    match report.invalid_because.len() - 1 {
        0 => first.to_owned(),
        more => format!("{first} (and {more} more)"),
    }
}

fn well(report: &Report) -> String {
    let machines = &report.machines;
    let mut clauses = vec![came_up(machines)];
    if report.dhcp.acks > 0 {
        clauses.push("no address was given twice".to_owned());
    }
    if machines.given_up == 0 {
        let last = match clauses.len() {
            1 => "; nobody gave up".to_owned(),
            _ => ", nobody gave up".to_owned(),
        };
        let mut sentence = clauses.join("; ");
        sentence.push_str(&last);
        if machines.retried_boots > 0 {
            let again = counted(
                machines.retried_boots,
                "boot failed at first and was",
                "boots failed at first and were",
            );
            sentence.push_str(&format!(", but {again} begun again"));
        }
        sentence.push('.');
        return sentence;
    }
    clauses.push(format!("{} gave up, which the limits allow", count(machines.given_up)));
    format!("{}.", clauses.join("; "))
}

fn came_up(machines: &Machines) -> String {
    if machines.up < machines.total {
        let total = counted(machines.total, "machine", "machines");
        return format!("{} of {total} came up", count(machines.up));
    }
    let who = match machines.total {
        1 => "The one machine".to_owned(),
        2 => "Both machines".to_owned(),
        total => format!("All {} machines", count(total)),
    };
    match machines.all_up_seconds {
        Some(time) if time.is_finite() => format!("{who} came up within {}", within(time)),
        _ => format!("{who} came up"),
    }
}

/// Rounded up, for "within" is a promise.
fn within(time: f64) -> String {
    let step = if time >= 10.0 { 1.0 } else { 0.1 };
    // A time that is a whole number of steps but for the last bit of a float stays what it is.
    seconds(((time / step) - 1e-9).ceil() * step)
}

fn wrong(report: &Report) -> Vec<String> {
    let machines = &report.machines;
    let total = counted(machines.total, "machine", "machines");
    let mut clauses = Vec::new();
    if machines.given_up > 0 {
        clauses.push(format!("{} of {total} gave up{}", count(machines.given_up), reasons(report)));
    }
    for row in
        report.violations.iter().filter(|row| row.count > 0 && row.kind == "duplicate-address")
    {
        clauses.push(counted(row.count, "address was given twice", "addresses were given twice"));
    }
    let others: Vec<_> = report
        .violations
        .iter()
        .filter(|row| row.count > 0 && row.kind != "duplicate-address")
        .collect();
    if !others.is_empty() {
        let named = others
            .iter()
            .take(NAMED)
            .map(|row| format!("{} {}", count(row.count), plain(&row.kind)));
        let named = match others.as_slice() {
            [only] => plain(&only.kind),
            _ => more(named.collect(), others.len()),
        };
        let all = others.iter().fold(0_u64, |sum, row| sum.saturating_add(row.count));
        let what = if clauses.iter().any(|clause| clause.contains("given twice")) {
            counted(all, "other violation", "other violations")
        } else {
            counted(all, "violation", "violations")
        };
        clauses.push(format!("{what} ({named})"));
    }
    // A limit on give-ups is what the first clause told already.
    let told = |name: &str| name == "giveups" && machines.given_up > 0;
    let missed: Vec<_> =
        report.slo.iter().filter(|row| !row.met).filter(|row| !told(&row.name)).collect();
    if !missed.is_empty() {
        let named = missed.iter().take(NAMED).map(|row| {
            format!("{} was {} (limit {})", plain(&row.name), plain(&row.found), plain(&row.limit))
        });
        clauses.push(more(named.collect(), missed.len()));
    }
    let left = machines.unfinished.saturating_add(machines.not_started);
    if left > 0 && machines.given_up == 0 {
        clauses.push(format!("{} of {total} had not come up when the run ended", count(left)));
    }
    if clauses.is_empty() {
        clauses.push("a limit did not hold".to_owned());
    }
    clauses
}

fn reasons(report: &Report) -> String {
    if report.giveups.is_empty() {
        return String::new();
    }
    let named = report
        .giveups
        .iter()
        .take(NAMED)
        .map(|row| format!("{} {}", count(row.count), plain(&row.reason)));
    format!(" ({})", more(named.collect(), report.giveups.len()))
}

fn more(named: Vec<String>, all: usize) -> String {
    let rest = all - named.len().min(all);
    let mut text = named.join(", ");
    if rest > 0 {
        text.push_str(&format!(" and {rest} more"));
    }
    text
}

fn plain(text: &str) -> String {
    formatting::clip(formatting::plain(text).trim(), LONGEST)
}
