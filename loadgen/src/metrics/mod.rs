//! Counters of a run: messages, times, machines by state, and all of them over time.

mod quantiles;

use std::collections::BTreeMap;
use std::time::Duration;

use bootstorm_protocols::time::Moment;
use hdrhistogram::Histogram;

use self::quantiles::quantiles;
use crate::report::{Dhcp, GiveUpRow, Machines, Phases, Quantiles, Timeline, Transfers};

/// Longest time that is told apart, in microseconds.
const LONGEST: u64 = 3_600_000_000;
/// Buckets of the time line; when they are full, two become one.
const MOST_BUCKETS: usize = 600;
const FIRST_BUCKET: Duration = Duration::from_millis(100);
/// Upper bounds of the rows of the heat map, in microseconds.
const BOUNDS: [u64; 18] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000, 32_000_000,
];

/// The state of a machine, as reports show it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Off, or in its power-on self test.
    Off,
    /// Waits for an OFFER, or between two stages.
    Discovering,
    /// Waits for an ACK.
    Requesting,
    /// Loads.
    Loading,
    /// Up.
    Up,
    /// Given up.
    GivenUp,
}

const STATES: usize = 6;

/// What is timed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Timed {
    /// DISCOVER to OFFER.
    Offer,
    /// REQUEST to ACK.
    Ack,
    /// DISCOVER to ACK.
    Dora,
    /// First TFTP request to last block.
    Transfer,
    /// HTTP request to last byte.
    Http,
    /// Power-on to up.
    Boot,
}

const TIMED: [(Timed, &str); 6] = [
    (Timed::Offer, "offer"),
    (Timed::Ack, "ack"),
    (Timed::Dora, "dora"),
    (Timed::Transfer, "transfer"),
    (Timed::Http, "http"),
    (Timed::Boot, "boot"),
];

/// What is counted in the bucket that is being filled.
#[derive(Clone, Debug, Default)]
struct Bucket {
    sent: u64,
    answered: u64,
    retransmissions: u64,
    bytes: u64,
    came_up: u64,
    gave_up: u64,
    states: [u64; STATES],
    latency: [u64; BOUNDS.len() + 1],
}

impl Bucket {
    /// Becomes this bucket and the one after it in one.
    fn join(&mut self, later: &Bucket) {
        self.sent += later.sent;
        self.answered += later.answered;
        self.retransmissions += later.retransmissions;
        self.bytes += later.bytes;
        self.came_up += later.came_up;
        self.gave_up += later.gave_up;
        self.states = later.states;
        for (mine, theirs) in self.latency.iter_mut().zip(later.latency) {
            *mine += theirs;
        }
    }
}

/// Transfers of one protocol, counted.
#[derive(Clone, Debug, Default)]
pub struct Loads {
    /// The figures of the report.
    pub figures: Transfers,
    at_once: u64,
    first: Option<Moment>,
    last: Option<Moment>,
}

impl Loads {
    /// A transfer begins.
    pub fn begin(&mut self, now: Moment) {
        self.figures.begun += 1;
        self.at_once += 1;
        self.figures.most_at_once = self.figures.most_at_once.max(self.at_once);
        self.first.get_or_insert(now);
    }

    /// A transfer is over, whole or not.
    pub fn end(&mut self, whole: bool, now: Moment) {
        self.at_once = self.at_once.saturating_sub(1);
        self.last = Some(now);
        if whole {
            self.figures.complete += 1;
        } else {
            self.figures.failed += 1;
        }
    }

    /// A transfer is over that is neither complete nor failed: it was to tell the size, or its
    /// machine lost power.
    pub fn set_aside(&mut self) {
        self.at_once = self.at_once.saturating_sub(1);
    }

    fn report(&self) -> Transfers {
        let mut figures = self.figures.clone();
        if let (Some(first), Some(last)) = (self.first, self.last) {
            figures.seconds = last.since(first).as_secs_f64();
            if figures.seconds > 0.0 {
                figures.megabytes_per_second = figures.bytes as f64 / 1e6 / figures.seconds;
            }
        }
        figures
    }
}

/// Everything counted.
#[derive(Debug)]
pub struct Metrics {
    start: Moment,
    /// DHCP messages.
    pub dhcp: Dhcp,
    /// TFTP.
    pub tftp: Loads,
    /// HTTP.
    pub http: Loads,
    /// Boots begun.
    pub boots: u64,
    /// Boots begun again after one that failed.
    pub retried_boots: u64,
    giveups: BTreeMap<String, u64>,
    times: [Histogram<u64>; TIMED.len()],
    /// What was begun and failed, so that it has no time.
    failed: [u64; TIMED.len()],
    states: [u64; STATES],
    buckets: Vec<Bucket>,
    current: Bucket,
    bucket_len: Duration,
    bucket_end: Moment,
    first_power_on: Option<Moment>,
    last_up: Option<Moment>,
    first_exchange: Option<Moment>,
    last_begun: Moment,
}

impl Metrics {
    /// For so many machines, all off.
    ///
    /// # Errors
    /// No memory for the histograms.
    pub fn new(start: Moment, machines: u32) -> Result<Metrics, hdrhistogram::CreationError> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3);
        let mut states = [0; STATES];
        states[State::Off as usize] = machines.into();
        Ok(Metrics {
            start,
            dhcp: Dhcp::default(),
            tftp: Loads::default(),
            http: Loads::default(),
            boots: 0,
            retried_boots: 0,
            giveups: BTreeMap::new(),
            times: [
                histogram()?,
                histogram()?,
                histogram()?,
                histogram()?,
                histogram()?,
                histogram()?,
            ],
            failed: [0; TIMED.len()],
            states,
            buckets: Vec::new(),
            current: Bucket::default(),
            bucket_len: FIRST_BUCKET,
            bucket_end: start + FIRST_BUCKET,
            first_power_on: None,
            last_up: None,
            first_exchange: None,
            last_begun: start,
        })
    }

    /// Closes the buckets that are over.
    pub fn tick(&mut self, now: Moment) {
        while now >= self.bucket_end {
            self.current.states = self.states;
            self.buckets.push(std::mem::take(&mut self.current));
            if self.buckets.len() == MOST_BUCKETS {
                let joined = self.buckets.chunks(2).map(|pair| {
                    let mut bucket = pair[0].clone();
                    pair[1..].iter().for_each(|later| bucket.join(later));
                    bucket
                });
                self.buckets = joined.collect();
                self.bucket_len *= 2;
            }
            self.bucket_end = self.bucket_end + self.bucket_len;
        }
    }

    /// A machine changes its state.
    pub fn moved(&mut self, from: State, to: State) {
        let count = &mut self.states[from as usize];
        *count = count.saturating_sub(1);
        self.states[to as usize] += 1;
    }

    /// How many machines are in a state. Attackers are not counted.
    pub fn state(&self, state: State) -> u64 {
        self.states[state as usize]
    }

    /// A machine is powered on.
    pub fn powered_on(&mut self, now: Moment) {
        self.first_power_on.get_or_insert(now);
        self.boots += 1;
    }

    /// A machine is up.
    pub fn came_up(&mut self, now: Moment) {
        self.current.came_up += 1;
        self.last_up = Some(now);
    }

    /// A machine gives up.
    pub fn gave_up(&mut self, reason: &str) {
        self.current.gave_up += 1;
        match self.giveups.get_mut(reason) {
            Some(count) => *count += 1,
            None => {
                self.giveups.insert(reason.to_owned(), 1);
            }
        }
    }

    /// An exchange is begun.
    pub fn exchange_begun(&mut self, now: Moment) {
        self.first_exchange.get_or_insert(now);
        self.last_begun = self.last_begun.max(now);
    }

    /// A DHCP message was sent.
    pub fn sent(&mut self) {
        self.current.sent += 1;
    }

    /// Something was sent again.
    pub fn sent_again(&mut self) {
        self.current.retransmissions += 1;
    }

    /// A DHCP answer came that was waited for since `since`.
    pub fn answered(&mut self, what: Timed, since: Moment, now: Moment) {
        let micros = self.took(what, since, now);
        self.current.answered += 1;
        let row = BOUNDS.partition_point(|bound| *bound < micros);
        self.current.latency[row] += 1;
    }

    /// Times something; returns microseconds.
    pub fn took(&mut self, what: Timed, since: Moment, now: Moment) -> u64 {
        let micros = now.since(since).as_micros() as u64;
        self.times[what as usize].saturating_record(micros.max(1));
        micros
    }

    /// Something that was begun has failed: it counts as infinitely late.
    pub fn failed(&mut self, what: Timed) {
        self.failed[what as usize] += 1;
    }

    /// Bytes of a file arrived, by TFTP.
    pub fn loaded(&mut self, bytes: u64) {
        self.current.bytes += bytes;
        self.tftp.figures.bytes += bytes;
    }

    /// Bytes of a file arrived, by HTTP.
    pub fn fetched(&mut self, bytes: u64) {
        self.current.bytes += bytes;
        self.http.figures.bytes += bytes;
    }

    /// The quantile of a time in milliseconds, for the live view.
    pub fn quantile(&self, what: Timed, quantile: f64) -> f64 {
        self.times[what as usize].value_at_quantile(quantile) as f64 / 1000.0
    }

    /// What became of the machines, of which so many have not been powered on.
    pub fn machines(&self, total: u64, not_started: u64) -> Machines {
        let (up, given_up) = (self.state(State::Up), self.state(State::GivenUp));
        let all_up = match (self.first_power_on, self.last_up) {
            (Some(first), Some(last)) if up == total => Some(last.since(first).as_secs_f64()),
            _ => None,
        };
        Machines {
            total,
            up,
            given_up,
            unfinished: total.saturating_sub(up + given_up + not_started),
            not_started,
            boots: self.boots,
            retried_boots: self.retried_boots,
            all_up_seconds: all_up,
        }
    }

    /// Why machines gave up, most frequent first.
    pub fn giveups(&self) -> Vec<GiveUpRow> {
        let mut rows: Vec<GiveUpRow> = self
            .giveups
            .iter()
            .map(|(reason, &count)| GiveUpRow { reason: reason.clone(), count })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows
    }

    /// DHCP in figures.
    pub fn dhcp(&self) -> Dhcp {
        let mut dhcp = self.dhcp.clone();
        if let Some(first) = self.first_exchange {
            let seconds = self.last_begun.since(first).as_secs_f64();
            // A burst that began all at once has no rate of beginning.
            if seconds > 0.0 {
                dhcp.exchanges_per_second = dhcp.exchanges as f64 / seconds;
            }
        }
        dhcp
    }

    /// TFTP and HTTP in figures.
    pub fn transfers(&self) -> [Transfers; 2] {
        [self.tftp.report(), self.http.report()]
    }

    /// Quantiles of everything that was timed.
    pub fn latency(&self) -> BTreeMap<String, Quantiles> {
        let mut map = BTreeMap::new();
        for (what, name) in TIMED {
            let found = quantiles(&self.times[what as usize], self.failed[what as usize]);
            map.insert(name.to_owned(), found);
        }
        let mut answer = self.times[Timed::Offer as usize].clone();
        // Histograms of the same bounds always add up.
        if answer.add(&self.times[Timed::Ack as usize]).is_ok() {
            let failed = self.failed[Timed::Offer as usize] + self.failed[Timed::Ack as usize];
            map.insert("answer".to_owned(), quantiles(&answer, failed));
        }
        map.retain(|_, found| !found.is_empty());
        map
    }

    /// The run over time, up to `now`.
    pub fn timeline(&mut self, now: Moment) -> Timeline {
        self.tick(now);
        self.current.states = self.states;
        let mut buckets = self.buckets.clone();
        buckets.push(self.current.clone());
        let column = |of: fn(&Bucket) -> u64| buckets.iter().map(of).collect::<Vec<_>>();
        let state = |which: State| {
            buckets.iter().map(|bucket| bucket.states[which as usize]).collect::<Vec<_>>()
        };
        Timeline {
            bucket_seconds: self.bucket_len.as_secs_f64(),
            phases: Phases {
                off: state(State::Off),
                discovering: state(State::Discovering),
                requesting: state(State::Requesting),
                loading: state(State::Loading),
                up: state(State::Up),
                given_up: state(State::GivenUp),
            },
            sent: column(|bucket| bucket.sent),
            answered: column(|bucket| bucket.answered),
            retransmissions: column(|bucket| bucket.retransmissions),
            bytes: column(|bucket| bucket.bytes),
            came_up: column(|bucket| bucket.came_up),
            gave_up: column(|bucket| bucket.gave_up),
            latency_bounds: BOUNDS.iter().map(|micros| *micros as f64 / 1000.0).collect(),
            latency: (0..=BOUNDS.len())
                .map(|row| buckets.iter().map(|bucket| bucket.latency[row]).collect())
                .collect(),
        }
    }

    /// When the run began.
    pub fn start(&self) -> Moment {
        self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    #[test]
    fn a_long_run_is_told_in_wider_buckets_and_loses_nothing() {
        let mut metrics = Metrics::new(at(0), 1).unwrap();
        let mut sent = 0;
        for millis in (0..300_000).step_by(70) {
            metrics.tick(at(millis));
            metrics.sent();
            sent += 1;
        }
        let timeline = metrics.timeline(at(300_000));
        assert!(timeline.sent.len() <= MOST_BUCKETS);
        assert_eq!(timeline.sent.iter().sum::<u64>(), sent);
        let covered = timeline.bucket_seconds * timeline.sent.len() as f64;
        assert!((300.0..302.0).contains(&covered), "{covered}");
    }

    #[test]
    fn answers_are_timed_and_stand_in_the_right_row() {
        let mut metrics = Metrics::new(at(0), 1).unwrap();
        metrics.answered(Timed::Offer, at(0), at(1));
        metrics.answered(Timed::Ack, at(0), at(100_000));
        let timeline = metrics.timeline(at(1));
        assert_eq!(timeline.latency[3], [1]);
        assert_eq!(timeline.latency[BOUNDS.len()], [1]);
        let latency = metrics.latency();
        assert_eq!(latency["answer"].count, 2);
        assert!((latency["offer"].p50 - 1.0).abs() < 0.01);
        assert!(!latency.contains_key("boot"));
    }

    #[test]
    fn machines_are_accounted_for() {
        let mut metrics = Metrics::new(at(0), 3).unwrap();
        metrics.powered_on(at(10));
        for _ in 0..2 {
            metrics.moved(State::Off, State::Up);
            metrics.came_up(at(2010));
        }
        let machines = metrics.machines(3, 1);
        assert_eq!((machines.up, machines.unfinished, machines.not_started), (2, 0, 1));
        assert_eq!(machines.all_up_seconds, None);
        metrics.moved(State::Off, State::Up);
        assert_eq!(metrics.machines(3, 0).all_up_seconds, Some(2.0));
    }
}
