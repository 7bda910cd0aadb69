//! Limits that a run is held against: `giveups=0,duplicates=0,p99=500ms,boot-p99=60s`.

use std::fmt;
use std::str::FromStr;

use crate::report::{Report, SloRow};
use crate::units::{Share, Span};

/// What a limit is about, and how its value is written.
#[derive(Copy, Clone, Debug)]
enum Figure {
    /// A number of things: at most so many.
    Count(fn(&Report) -> f64),
    /// A share: at most so much.
    Share(fn(&Report) -> f64),
    /// A number: at least so many.
    Least(fn(&Report) -> f64),
    /// A quantile of a time, by the key in [`Report::latency`]; at most so long.
    Time(&'static str, Quantile),
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Quantile {
    P50,
    P90,
    P99,
    P999,
    Max,
}

const QUANTILES: [(&str, Quantile); 5] = [
    ("p50", Quantile::P50),
    ("p90", Quantile::P90),
    ("p99", Quantile::P99),
    ("p999", Quantile::P999),
    ("max", Quantile::Max),
];

/// What a time is of: prefix in the limit's name, key in the report.
const TIMES: [(&str, &str); 7] = [
    ("", "answer"),
    ("offer-", "offer"),
    ("ack-", "ack"),
    ("dora-", "dora"),
    ("transfer-", "transfer"),
    ("http-", "http"),
    ("boot-", "boot"),
];

const COUNTS: [(&str, Figure); 9] = [
    ("giveups", Figure::Count(|report| report.machines.given_up as f64)),
    ("unfinished", Figure::Count(|report| report.machines.unfinished as f64)),
    ("duplicates", Figure::Count(|report| violations(report, Some("duplicate-address")))),
    ("violations", Figure::Count(|report| violations(report, None))),
    ("naks", Figure::Count(|report| report.dhcp.naks as f64)),
    ("late", Figure::Count(|report| report.dhcp.late as f64)),
    ("expired", Figure::Count(|report| report.dhcp.expired as f64)),
    ("loss", Figure::Share(loss)),
    ("rate", Figure::Least(|report| report.dhcp.exchanges_per_second)),
];

/// Limits of 0 that every run has unless it names others.
const IMPLIED: [&str; 2] = ["giveups", "violations"];

const UP: (&str, Figure) = ("up", Figure::Least(|report| report.machines.up as f64));
const SPEED: (&str, Figure) =
    ("mb-per-second", Figure::Least(|report| report.tftp.megabytes_per_second));

fn violations(report: &Report, kind: Option<&str>) -> f64 {
    let rows = report.violations.iter().filter(|row| kind.is_none_or(|kind| row.kind == kind));
    rows.map(|row| row.count).sum::<u64>() as f64
}

/// Exchanges begun that found no end.
fn loss(report: &Report) -> f64 {
    let all = report.dhcp.exchanges + report.dhcp.unanswered;
    if all == 0 { 0.0 } else { report.dhcp.unanswered as f64 / all as f64 }
}

/// One limit.
#[derive(Clone, Debug)]
struct Limit {
    name: String,
    figure: Figure,
    /// In the figure's unit: a number, a share, or milliseconds.
    value: f64,
    written: String,
}

/// All limits of a run.
#[derive(Clone, Debug, Default)]
pub struct Slo(Vec<Limit>);

/// A limit that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SloError {
    /// Not NAME=VALUE.
    #[error("`{0}` is no limit: write NAME=VALUE, such as p99=500ms")]
    Form(String),
    /// No such figure.
    #[error("no limit is called `{0}`; there are {names}", names = names())]
    Name(String),
    /// The value cannot be read.
    #[error("{0}: {1}")]
    Value(String, String),
}

fn names() -> String {
    let counts = COUNTS.iter().chain([&UP, &SPEED]).map(|&(name, _)| name.to_owned());
    let times = TIMES.iter().map(|(prefix, _)| format!("{prefix}p50|p90|p99|p999|max"));
    counts.chain(times).collect::<Vec<_>>().join(", ")
}

fn figure(name: &str) -> Option<Figure> {
    let count = COUNTS.iter().chain([&UP, &SPEED]).find(|(known, _)| *known == name);
    if let Some(&(_, figure)) = count {
        return Some(figure);
    }
    TIMES.iter().find_map(|&(prefix, key)| {
        let quantile = name.strip_prefix(prefix)?;
        let &(_, quantile) = QUANTILES.iter().find(|(known, _)| *known == quantile)?;
        Some(Figure::Time(key, quantile))
    })
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Slo, SloError> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(limit).collect::<Result<_, _>>().map(Slo)
    }
}

fn limit(text: &str) -> Result<Limit, SloError> {
    let (name, written) = text.split_once('=').ok_or_else(|| SloError::Form(text.to_owned()))?;
    let (name, written) = (name.trim(), written.trim());
    let figure = figure(name).ok_or_else(|| SloError::Name(name.to_owned()))?;
    let wrong = |error: String| SloError::Value(name.to_owned(), error);
    let value = match figure {
        Figure::Time(..) => written
            .parse::<Span>()
            .map(|span| span.0.as_secs_f64() * 1000.0)
            .map_err(|error| wrong(error.to_string()))?,
        Figure::Share(_) => written
            .parse::<Share>()
            .map(|share| share.0)
            .map_err(|error| wrong(error.to_string()))?,
        Figure::Count(_) | Figure::Least(_) => written
            .parse::<f64>()
            .ok()
            .filter(|number| *number >= 0.0 && number.is_finite())
            .ok_or_else(|| wrong(format!("`{written}` is not a number, 0 or more")))?,
    };
    Ok(Limit { name: name.to_owned(), figure, value, written: written.to_owned() })
}

impl Slo {
    /// These limits with those of `named`, which take the place of those of the same name.
    #[must_use]
    pub fn with(self, named: Slo) -> Slo {
        let kept = self.0.into_iter();
        let kept = kept.filter(|limit| named.0.iter().all(|other| other.name != limit.name));
        Slo(kept.chain(named.0.iter().cloned()).collect())
    }

    /// Holds a report against the limits. That no machine gives up, and that the server does
    /// nothing wrong, is asked unless a limit on it says otherwise.
    pub fn check(&self, report: &Report) -> Vec<SloRow> {
        let implied = COUNTS
            .iter()
            .filter(|(name, _)| IMPLIED.contains(name))
            .filter(|(name, _)| self.0.iter().all(|limit| limit.name != *name))
            .map(|&(name, figure)| Limit {
                name: name.to_owned(),
                figure,
                value: 0.0,
                written: "0".to_owned(),
            });
        self.0.iter().cloned().chain(implied).map(|limit| limit.check(report)).collect()
    }
}

impl Limit {
    fn check(&self, report: &Report) -> SloRow {
        let (found, met, sign) = match self.figure {
            Figure::Count(of) => (of(report).to_string(), of(report) <= self.value, "<="),
            Figure::Share(of) => {
                (format!("{:.2}%", of(report) * 100.0), of(report) <= self.value, "<=")
            }
            Figure::Least(of) => (format!("{:.0}", of(report)), of(report) >= self.value, ">="),
            Figure::Time(key, quantile) => {
                let times = report.latency.get(key).filter(|times| !times.is_empty());
                // `None` is nothing measured, `Some(None)` infinitely late.
                let found = times.map(|times| {
                    let all = times.with_failures();
                    match quantile {
                        Quantile::P50 => all.p50,
                        Quantile::P90 => all.p90,
                        Quantile::P99 => all.p99,
                        Quantile::P999 => all.p999,
                        Quantile::Max => all.max,
                    }
                });
                let met = found.flatten().is_some_and(|found| found <= self.value);
                let found = match found {
                    None => "-".to_owned(),
                    Some(None) => "never".to_owned(),
                    Some(Some(ms)) => Milliseconds(ms).to_string(),
                };
                (found, met, "<=")
            }
        };
        SloRow { name: self.name.clone(), limit: format!("{sign} {}", self.written), found, met }
    }
}

/// Milliseconds as people read them: `0.31 ms`, `412 ms`, `61.2 s`.
#[derive(Copy, Clone, Debug)]
pub struct Milliseconds(pub f64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms < 10.0 => write!(f, "{ms:.2} ms"),
            ms if ms < 100.0 => write!(f, "{ms:.1} ms"),
            ms if ms < 10_000.0 => write!(f, "{ms:.0} ms"),
            ms => write!(f, "{:.1} s", ms / 1000.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Quantiles, WithFailures};

    #[test]
    fn limits_hold_up_to_their_value() {
        let mut report = Report::default();
        report.machines.given_up = 2;
        let answers = Quantiles { count: 9, p99: 500.0, ..Quantiles::default() };
        report.latency.insert("answer".into(), answers);
        let met = |slo: &str| -> Vec<bool> {
            slo.parse::<Slo>().unwrap().check(&report).iter().map(|row| row.met).collect()
        };
        assert_eq!(met("giveups=2,p99=500ms"), [true, true, true]);
        assert_eq!(met("giveups=1,p99=499ms,violations=0"), [false, false, true]);
        // Two gave up, and no limit allows that.
        assert_eq!(met("up=1"), [false, false, true]);
    }

    #[test]
    fn naming_a_limit_adds_to_those_of_the_scenario() {
        let scenario = "giveups=0,p99=500ms".parse::<Slo>().unwrap();
        let both = scenario.with("p99=1s,boot-p99=60s".parse().unwrap());
        let written: Vec<String> =
            both.0.iter().map(|limit| format!("{}={}", limit.name, limit.written)).collect();
        assert_eq!(written, ["giveups=0", "p99=1s", "boot-p99=60s"]);
    }

    #[test]
    fn a_quantile_that_failures_reach_is_never_met() {
        let mut report = Report::default();
        let all = WithFailures { p50: Some(3.0), ..WithFailures::default() };
        let answers = Quantiles { count: 98, failed: 2, p99: 5.0, ..Quantiles::default() };
        report.latency.insert("answer".into(), Quantiles { with_failures: Some(all), ..answers });
        let rows = "p50=10ms,p99=1h".parse::<Slo>().unwrap().check(&report);
        assert_eq!((rows[0].found.as_str(), rows[0].met), ("3.00 ms", true));
        assert_eq!((rows[1].found.as_str(), rows[1].met), ("never", false));
    }

    #[test]
    fn what_was_never_measured_is_not_met() {
        let rows = "boot-p99=60s".parse::<Slo>().unwrap().check(&Report::default());
        assert_eq!((rows[0].found.as_str(), rows[0].met), ("-", false));
    }

    #[test]
    fn mistakes_name_the_limit_and_the_way_out() {
        let fault = |text: &str| text.parse::<Slo>().unwrap_err().to_string();
        assert!(fault("p99").contains("NAME=VALUE"));
        assert!(fault("p98=1s").contains("boot-p50|p90|p99"));
        assert!(fault("p99=fast").contains("p99: `fast` is not a time"));
        assert!(fault("giveups=none").contains("giveups: `none` is not a number"));
        assert!("".parse::<Slo>().unwrap().0.is_empty());
    }
}
