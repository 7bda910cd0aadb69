//! Two runs side by side: what differs, by how much, and which of the two was better.

mod text;

use super::formatting::{count, seconds, timed};
use super::{Machines, Report, Transfers, Verdict, headline};

/// Times and rates that differ by less than this share are called the same: two runs of one storm
/// against one server differ by as much.
pub const NOISE: f64 = 0.05;

/// Two runs, figure by figure.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The headline of each run.
    pub headlines: [String; 2],
    /// Why the two should not be compared, or only with care; empty for two runs of one storm.
    pub warnings: Vec<String>,
    /// The figures, in the order of a boot.
    pub figures: Vec<Figure>,
}

/// One figure of both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// In the first run; `None` when it was not measured.
    pub a: Option<f64>,
    /// In the second run.
    pub b: Option<f64>,
    /// The second run seen from the first.
    pub change: Change,
}

/// What a [`Figure`] is counted in.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Things.
    Count,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Things a second.
    PerSecond,
    /// Million bytes a second.
    MegabytesPerSecond,
}

/// The second run seen from the first.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The second run did better.
    Better,
    /// The second run did worse.
    Worse,
    /// Equal, or nearer than [`NOISE`] where that applies.
    Same,
    /// Measured in one run only, or in neither.
    Unknown,
}

#[derive(Copy, Clone)]
enum Wanted {
    More,
    Less,
}

/// Compares two runs; `a` is the baseline, `b` the one that is compared.
pub fn compare(a: &Report, b: &Report) -> Comparison {
    let mut all = Figures { list: Vec::new() };
    all.machines(&a.machines, &b.machines);
    all.dhcp(a, b);
    all.transfers("TFTP", &a.tftp, &b.tftp);
    all.transfers("HTTP", &a.http, &b.http);
    all.latency(a, b);
    all.violations(a, b);
    Comparison {
        headlines: [headline(a), headline(b)],
        warnings: warnings(a, b),
        figures: all.list,
    }
}

impl Comparison {
    /// The figures that changed for the better.
    pub fn better(&self) -> impl Iterator<Item = &Figure> {
        self.figures.iter().filter(|figure| figure.change == Change::Better)
    }

    /// The figures that changed for the worse.
    pub fn worse(&self) -> impl Iterator<Item = &Figure> {
        self.figures.iter().filter(|figure| figure.change == Change::Worse)
    }
}

struct Figures {
    list: Vec<Figure>,
}

impl Figures {
    fn add(&mut self, name: &str, unit: Unit, wanted: Wanted, a: Option<f64>, b: Option<f64>) {
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        let (a, b) = (finite(a), finite(b));
        let noise = if unit == Unit::Count { 0.0 } else { NOISE };
        self.list.push(Figure {
            name: name.to_owned(),
            unit,
            a,
            b,
            change: change(wanted, noise, a, b),
        });
    }

    /// A count of which less is better, where there was any.
    fn faults(&mut self, name: &str, a: u64, b: u64) {
        if a > 0 || b > 0 {
            self.none_too(name, a, b);
        }
    }

    /// A count of which less is better, told even when there was none.
    fn none_too(&mut self, name: &str, a: u64, b: u64) {
        self.add(name, Unit::Count, Wanted::Less, Some(a as f64), Some(b as f64));
    }

    fn machines(&mut self, a: &Machines, b: &Machines) {
        self.add("machines up", Unit::Count, Wanted::More, Some(a.up as f64), Some(b.up as f64));
        self.none_too("machines given up", a.given_up, b.given_up);
        self.faults("boots begun again", a.retried_boots, b.retried_boots);
        self.add("all up after", Unit::Seconds, Wanted::Less, a.all_up_seconds, b.all_up_seconds);
    }

    fn dhcp(&mut self, a: &Report, b: &Report) {
        let (a, b) = (&a.dhcp, &b.dhcp);
        if a.discovers == 0 && b.discovers == 0 && a.requests == 0 && b.requests == 0 {
            return;
        }
        let rate = |of: f64, done: u64| (done > 0).then_some(of);
        let (left, right) =
            (rate(a.exchanges_per_second, a.exchanges), rate(b.exchanges_per_second, b.exchanges));
        self.add("DHCP exchanges", Unit::PerSecond, Wanted::More, left, right);
        self.faults("DHCP unanswered", a.unanswered, b.unanswered);
        self.faults("DHCP sent again", a.retransmissions, b.retransmissions);
        self.faults("DHCP answers late", a.late, b.late);
        self.faults("NAKs", a.naks, b.naks);
        self.faults("leases ran out", a.expired, b.expired);
    }

    fn transfers(&mut self, name: &str, a: &Transfers, b: &Transfers) {
        if a.begun == 0 && b.begun == 0 {
            return;
        }
        let rate = |of: &Transfers| (of.complete > 0).then_some(of.megabytes_per_second);
        self.add(name, Unit::MegabytesPerSecond, Wanted::More, rate(a), rate(b));
        self.faults(&format!("{name} failed"), a.failed, b.failed);
        self.faults(&format!("{name} sent again"), a.retransmissions, b.retransmissions);
    }

    fn latency(&mut self, a: &Report, b: &Report) {
        let mut kinds = timed(a);
        for kind in timed(b) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        for (key, _) in kinds {
            let of =
                |report: &Report| report.latency.get(&key).filter(|found| found.count > 0).cloned();
            let failed = |report: &Report| report.latency.get(&key).map_or(0, |found| found.failed);
            self.faults(&format!("{key} failed"), failed(a), failed(b));
            let (a, b) = (of(a), of(b));
            if a.is_none() && b.is_none() {
                continue;
            }
            for (quantile, take) in [
                ("median", (|found| found.p50) as fn(&super::Quantiles) -> f64),
                ("99 %", |found| found.p99),
                ("longest", |found| found.max),
            ] {
                let name = format!("{key} {quantile}");
                self.add(
                    &name,
                    Unit::Millis,
                    Wanted::Less,
                    a.as_ref().map(take),
                    b.as_ref().map(take),
                );
            }
        }
    }

    fn violations(&mut self, a: &Report, b: &Report) {
        let of = |report: &Report, kind: &str| {
            let rows = report.violations.iter().filter(|row| row.kind == kind);
            rows.fold(0_u64, |sum, row| sum.saturating_add(row.count))
        };
        let mut kinds = Vec::new();
        for row in a.violations.iter().chain(&b.violations) {
            if !kinds.contains(&row.kind) {
                kinds.push(row.kind.clone());
            }
        }
        if kinds.is_empty() {
            self.none_too("violations", 0, 0);
        }
        for kind in kinds {
            self.faults(&kind, of(a, &kind), of(b, &kind));
        }
    }
}

fn change(wanted: Wanted, noise: f64, a: Option<f64>, b: Option<f64>) -> Change {
    let (Some(a), Some(b)) = (a, b) else { return Change::Unknown };
    if a == b || (a - b).abs() <= noise * a.abs().max(b.abs()) {
        return Change::Same;
    }
    match wanted {
        Wanted::More if b > a => Change::Better,
        Wanted::Less if b < a => Change::Better,
        Wanted::More | Wanted::Less => Change::Worse,
    }
}

fn warnings(a: &Report, b: &Report) -> Vec<String> {
    let mut list = Vec::new();
    for (name, report) in [("A", a), ("B", b)] {
        if report.verdict == Verdict::Invalid {
            list.push(format!("{name} is invalid: it says nothing about its server"));
        }
        if report.interrupted {
            list.push(format!("{name} was interrupted after {}", seconds(report.run.seconds)));
        }
    }
    let mut differ = |what: &str, a: &str, b: &str| {
        if a != b {
            list.push(format!("{what} differs: {a} and {b}"));
        }
    };
    differ("the scenario", &a.run.scenario, &b.run.scenario);
    differ("the number of machines", &count(a.machines.total), &count(b.machines.total));
    differ("the seed", &a.run.seed.to_string(), &b.run.seed.to_string());
    differ("the schedule", &a.run.schedule, &b.run.schedule);
    differ("the generator's engine", &a.run.engine, &b.run.engine);
    differ("the generator's version", &a.version, &b.version);
    differ(
        "the number of relay agents",
        &a.run.relays.len().to_string(),
        &b.run.relays.len().to_string(),
    );
    for key in a.latency.keys().filter(|key| !b.latency.contains_key(*key)) {
        list.push(format!("only A timed {key}"));
    }
    for key in b.latency.keys().filter(|key| !a.latency.contains_key(*key)) {
        list.push(format!("only B timed {key}"));
    }
    for file in &a.files {
        let other = b.files.iter().find(|other| other.name == file.name);
        if other.is_some_and(|other| {
            other.sha256 != file.sha256 && other.sha256.is_some() && file.sha256.is_some()
        }) {
            list.push(format!("the file {} is not the same in both", file.name));
        }
    }
    list
}
