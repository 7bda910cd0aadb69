//! Watches the generator itself: late actions, unread datagrams, kernel drops. A run in which the
//! generator was at fault says nothing about the server.

use std::fs;
use std::time::Duration;

use bootstorm_net::Drops;
use bootstorm_protocols::time::Moment;
use hdrhistogram::Histogram;

use crate::report::Generator;

/// Done so much after its time, an action is late. Firmware waits for seconds; ten thousand
/// machines that begin in one moment need 60 ms.
const LATE: Duration = Duration::from_millis(100);
/// More than this share of late actions makes a run invalid.
const MOST_LATE: f64 = 0.001;
/// One action so late does as well: a machine that waits for 4 seconds has waited for 5.
const MUCH_TOO_LATE: Duration = Duration::from_millis(500);
/// Sockets that were not empty for so long held answers that the server had given long before.
const BACKLOG: Duration = Duration::from_millis(100);
/// More than this share of the run with such a backlog makes times worthless.
const MOST_BACKLOG: f64 = 0.05;
/// More than this share of the run without the core it wanted does so, too.
const MOST_WITHOUT_CPU: f64 = 0.25;

/// Observes the generator.
#[derive(Debug)]
pub struct Health {
    start: Moment,
    delays: Histogram<u64>,
    late: u64,
    worst: Duration,
    /// Since when the sockets have not been empty.
    full_since: Option<Moment>,
    backlog: Duration,
    refused: u64,
    fetches: Fetches,
    cpu_at_start: Cpu,
}

/// How HTTP fetches waited for a connection of the generator.
#[derive(Copy, Clone, Debug, Default)]
struct Fetches {
    begun: u64,
    refused: u64,
    late: u64,
    worst: Duration,
}

/// What the observation comes to.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// In figures.
    pub figures: Generator,
    /// Faults that make any run invalid.
    pub faults: Vec<String>,
    /// Signs of overload. They make a missed limit worthless, since the generator may have caused
    /// it; a limit that was met stays met.
    pub overloads: Vec<String>,
}

/// Seconds that a thread ran and waited for its turn.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
struct Cpu {
    ran: f64,
    waited: f64,
}

impl Cpu {
    /// From the scheduler; zero where it keeps no such figures.
    fn of_this_thread() -> Cpu {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let mut seconds = text
            .split_whitespace()
            .map(|nanos| nanos.parse::<u64>().map_or(0.0, |nanos| nanos as f64 / 1e9));
        Cpu { ran: seconds.next().unwrap_or(0.0), waited: seconds.next().unwrap_or(0.0) }
    }
}

/// Resident memory of this process in MiB.
pub fn resident_mib() -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

impl Health {
    /// Begins to observe. To be called in the generator's own thread.
    ///
    /// # Errors
    /// No memory for the histogram.
    pub fn new(start: Moment) -> Result<Health, hdrhistogram::CreationError> {
        Ok(Health {
            start,
            delays: Histogram::new_with_bounds(1, 60_000_000, 2)?,
            late: 0,
            worst: Duration::ZERO,
            full_since: None,
            backlog: Duration::ZERO,
            refused: 0,
            fetches: Fetches::default(),
            cpu_at_start: Cpu::of_this_thread(),
        })
    }

    /// Something was done that was due at `due`.
    pub fn acted(&mut self, due: Moment, now: Moment) {
        let delay = now.since(due);
        self.delays.saturating_record((delay.as_micros() as u64).max(1));
        self.worst = self.worst.max(delay);
        if delay > LATE {
            self.late += 1;
        }
    }

    /// A batch ended; `dry` says that the sockets are empty.
    pub fn batch(&mut self, dry: bool, now: Moment) {
        if !dry {
            self.full_since.get_or_insert(now);
        } else if let Some(since) = self.full_since.take() {
            let full_for = now.since(since);
            if full_for > BACKLOG {
                self.backlog += full_for;
            }
        }
    }

    /// A datagram found no transmit slot.
    pub fn send_refused(&mut self) {
        self.refused += 1;
    }

    /// An HTTP fetch began so long after its machine wanted it, or could not even begin.
    pub fn fetch_began(&mut self, waited: Duration, refused: bool) {
        self.fetches.begun += 1;
        self.fetches.refused += u64::from(refused);
        self.fetches.late += u64::from(waited > LATE);
        self.fetches.worst = self.fetches.worst.max(waited);
    }

    /// Sums up, in the generator's own thread.
    pub fn diagnose(&self, drops: &Drops, strays: u64, now: Moment) -> Diagnosis {
        let cpu = Cpu::of_this_thread();
        let seconds = now.since(self.start).as_secs_f64().max(0.001);
        let millis = |micros: u64| micros as f64 / 1000.0;
        let figures = Generator {
            late_actions: self.late,
            timed_actions: self.delays.len(),
            worst_delay: self.worst.as_secs_f64() * 1000.0,
            p999_delay: millis(self.delays.value_at_quantile(0.999)),
            busy: ((cpu.ran - self.cpu_at_start.ran) / seconds).clamp(0.0, 1.0),
            waited_for_cpu_seconds: (cpu.waited - self.cpu_at_start.waited).max(0.0),
            kernel_drops: drops.kernel,
            send_errors: drops.send.total() + self.refused,
            strays,
            own_latency: None,
            late_fetches: self.fetches.late,
            worst_fetch_wait: self.fetches.worst.as_secs_f64() * 1000.0,
            memory_mib: resident_mib(),
        };
        let backlog =
            self.backlog + self.full_since.map_or(Duration::ZERO, |since| now.since(since));
        Diagnosis {
            faults: faults(&figures, &self.fetches, seconds),
            overloads: overloads(backlog.as_secs_f64() / seconds),
            figures,
        }
    }
}

fn faults(figures: &Generator, fetches: &Fetches, seconds: f64) -> Vec<String> {
    let mut faults = Vec::new();
    if figures.kernel_drops > 0 {
        faults.push(format!(
            "the generator left {} datagrams to be dropped by the kernel (give it a core of its \
             own, raise net.core.rmem_max)",
            figures.kernel_drops
        ));
    }
    if figures.send_errors > 0 {
        faults.push(format!(
            "the generator could not send {} datagrams (is there a route to the server?)",
            figures.send_errors
        ));
    }
    let late = figures.late_actions as f64 / (figures.timed_actions as f64).max(1.0);
    if figures.worst_delay > MUCH_TOO_LATE.as_secs_f64() * 1000.0 {
        faults.push(format!(
            "the generator acted {:.0} ms after its time (it was stopped, or had no core)",
            figures.worst_delay
        ));
    } else if late > MOST_LATE {
        faults.push(format!(
            "the generator did {} of {} things more than {} ms after their time",
            figures.late_actions,
            figures.timed_actions,
            LATE.as_millis()
        ));
    }
    let late = fetches.late as f64 / (fetches.begun as f64).max(1.0);
    if fetches.worst > MUCH_TOO_LATE || late > MOST_LATE {
        faults.push(format!(
            "HTTP fetches waited for a connection of the generator, {} of {} for more than {} ms \
             and the longest for {} ms (raise its limit of open files)",
            fetches.late,
            fetches.begun,
            LATE.as_millis(),
            fetches.worst.as_millis()
        ));
    }
    if fetches.refused > 0 {
        faults.push(format!(
            "the generator had no socket for {} HTTP fetches (raise its limit of open files; let \
             machines have addresses of their own)",
            fetches.refused
        ));
    }
    let waited = figures.waited_for_cpu_seconds / seconds;
    if waited > MOST_WITHOUT_CPU {
        faults.push(format!(
            "the generator had no core for {:.0} % of the run, while others used it",
            waited * 100.0
        ));
    }
    faults
}

fn overloads(backlog: f64) -> Vec<String> {
    if backlog <= MOST_BACKLOG {
        return Vec::new();
    }
    vec![format!(
        "the generator was the bottleneck for {:.0} % of the run (answers waited more than {} ms \
         for it)",
        backlog * 100.0,
        BACKLOG.as_millis()
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    fn healthy() -> Health {
        let mut health = Health::new(at(0)).unwrap();
        for millis in 0..2000 {
            health.acted(at(millis), at(millis));
            health.batch(true, at(millis));
        }
        health
    }

    fn faults_of(health: &Health, drops: &Drops) -> Vec<String> {
        health.diagnose(drops, 0, at(600_000)).faults
    }

    #[test]
    fn a_healthy_run_has_no_faults() {
        let diagnosis = healthy().diagnose(&Drops::default(), 0, at(600_000));
        assert!(diagnosis.faults.is_empty() && diagnosis.overloads.is_empty(), "{diagnosis:?}");
        assert!(diagnosis.figures.memory_mib > 0.0);
    }

    #[test]
    fn each_loss_of_its_own_is_named() {
        let drops = Drops { kernel: 3, ..Drops::default() };
        assert!(faults_of(&healthy(), &drops)[0].contains("left 3 datagrams"));
        let mut stopped = healthy();
        stopped.acted(at(2000), at(2600));
        assert!(faults_of(&stopped, &Drops::default())[0].contains("acted 600 ms"));
        let mut slow = healthy();
        (0..10).for_each(|_| slow.acted(at(2000), at(2110)));
        assert!(faults_of(&slow, &Drops::default())[0].contains("10 of 2010 things"));
        let mut queued = healthy();
        queued.fetch_began(Duration::from_millis(90), false);
        assert!(faults_of(&queued, &Drops::default()).is_empty());
        queued.fetch_began(Duration::from_millis(2600), false);
        assert!(faults_of(&queued, &Drops::default())[0].contains("1 of 2 for more than 100 ms"));
        let mut refused = healthy();
        refused.fetch_began(Duration::ZERO, true);
        assert!(faults_of(&refused, &Drops::default())[0].contains("no socket for 1 HTTP"));
        let mut full = healthy();
        full.send_refused();
        assert!(faults_of(&full, &Drops::default())[0].contains("could not send 1 "));
    }

    #[test]
    fn a_backlog_is_a_handicap() {
        let mut health = healthy();
        health.batch(false, at(3000));
        health.batch(false, at(50_000));
        health.batch(true, at(100_000));
        let diagnosis = health.diagnose(&Drops::default(), 0, at(600_000));
        assert!(diagnosis.overloads[0].contains("16 % of the run"), "{diagnosis:?}");
        // A sleep with empty sockets is none.
        assert!(diagnosis.faults.is_empty());
    }
}
