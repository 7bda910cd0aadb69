//! The search for a limit, after RFC 2544 section 26.1: double until it fails, halve the gap, and
//! confirm. A single good trial is luck: the answer is a load that was met again and again. Where
//! the generator is the bottleneck before the server is, the answer is a lower bound.

/// Trials of one load that may be invalid before the load counts as more than the generator can
/// produce.
const INVALID_AT_A_LOAD: u32 = 2;
/// Trials in a row that may be invalid before the search ends, where no lower load was met.
const MOST_INVALID: u32 = 6;
/// A trial lasts so many times as long as a server's queue could hide that the load is too high.
const MARGIN: f64 = 1.5;

/// What to do next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Try this load.
    Try(u32),
    /// Try it once more: it may be the answer.
    Confirm(u32),
    /// The answer: it was confirmed, and the server missed the limits a step above.
    Found(u32),
    /// The answer is a lower bound.
    AtLeast(LowerBound),
    /// Not even the lowest load is met.
    None,
    /// The trials say nothing.
    Unclear,
}

/// The highest load that was met, where nothing shows that the server cannot do more.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct LowerBound {
    /// The load.
    pub load: u32,
    /// It was met again and again.
    pub confirmed: bool,
    /// What kept the search from higher loads.
    pub by: Bottleneck,
}

/// What kept a search from higher loads.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Bottleneck {
    /// The generator could not produce them.
    Generator,
    /// They were not to be tried.
    Most,
    /// The search was interrupted.
    Interrupted,
}

/// How a trial ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The limits were met.
    Met,
    /// One was missed.
    Missed,
    /// The generator was at fault: the trial says nothing about the server.
    Invalid,
}

/// A search.
#[derive(Clone, Debug)]
pub struct Search {
    load: u32,
    most: u32,
    within: f64,
    confirmations: u32,
    confirm_seconds: f64,
    /// Lower end of the gap that is halved.
    met: u32,
    /// Upper end of the gap that is halved.
    above: Option<Above>,
    /// Loads that a trial met and none missed.
    held: Vec<u32>,
    confirmed: u32,
    /// How long the trials that confirmed it lasted together.
    confirmed_seconds: f64,
    /// Invalid trials in a row, and those of them with this load.
    invalid: u32,
    invalid_here: u32,
    state: State,
}

/// A load that is too high, and for whom.
#[derive(Copy, Clone, Debug)]
struct Above {
    load: u32,
    for_generator: bool,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Searching,
    Confirming,
    Over(Step),
}

impl Search {
    /// Begins with `start`, never tries more than `most`, ends when the lower and the upper end are
    /// `within` this share of each other and the lower one held `confirmations` times more, for
    /// `confirm_seconds` together at least.
    pub fn new(
        start: u32,
        most: u32,
        within: f64,
        confirmations: u32,
        confirm_seconds: f64,
    ) -> Search {
        let most = most.max(1);
        Search {
            load: start.clamp(1, most),
            most,
            within: within.max(0.001),
            confirmations,
            confirm_seconds,
            met: 0,
            above: None,
            held: Vec::new(),
            confirmed: 0,
            confirmed_seconds: 0.0,
            invalid: 0,
            invalid_here: 0,
            state: State::Searching,
        }
    }

    /// What to do now. An answer stays the answer.
    pub fn next(&self) -> Step {
        match self.state {
            State::Searching => Step::Try(self.load),
            State::Confirming => Step::Confirm(self.load),
            State::Over(step) => step,
        }
    }

    /// How far the load of the next trial is above the highest that was met, as a share of that.
    fn step(&self) -> f64 {
        match self.state {
            State::Searching if self.met > 0 && self.load > self.met => {
                f64::from(self.load - self.met) / f64::from(self.met)
            }
            State::Searching => 1.0,
            State::Confirming | State::Over(_) => self.within,
        }
    }

    /// Seconds that the next trial at a rate must last. A server that is asked for more than it can
    /// do puts the rest into a queue; clients notice when an answer waits longer than their
    /// `patience` in seconds. The smaller the step, the longer the queue takes to grow that long.
    pub fn least_seconds(&self, patience: f64) -> f64 {
        MARGIN * patience / self.step()
    }

    /// Tells how a trial of so many seconds ended.
    pub fn tell(&mut self, outcome: Outcome, seconds: f64) {
        if matches!(self.state, State::Over(_)) {
            return;
        }
        match outcome {
            Outcome::Met => {
                (self.invalid, self.invalid_here) = (0, 0);
                self.held.push(self.load);
                self.was_met(seconds);
            }
            Outcome::Missed => {
                (self.invalid, self.invalid_here) = (0, 0);
                self.held.retain(|load| *load < self.load);
                self.was_too_high(false);
            }
            Outcome::Invalid => {
                self.invalid += 1;
                self.invalid_here += 1;
                // A gap between a load that was met and one too high is soon halved to its end.
                let halves_a_gap = self.state == State::Searching && self.met > 0;
                if self.invalid >= MOST_INVALID && !halves_a_gap {
                    self.end(Bottleneck::Generator);
                } else if self.invalid_here >= INVALID_AT_A_LOAD {
                    self.invalid_here = 0;
                    self.was_too_high(true);
                }
            }
        }
    }

    /// Ends the search before its time.
    pub fn interrupt(&mut self) {
        if !matches!(self.state, State::Over(_)) {
            self.end(Bottleneck::Interrupted);
        }
    }

    /// Ends with the highest load that was met, confirmed or not.
    fn end(&mut self, by: Bottleneck) {
        let answer = match self.held.iter().max() {
            Some(&load) => Step::AtLeast(LowerBound { load, confirmed: false, by }),
            None => Step::Unclear,
        };
        self.state = State::Over(answer);
    }

    fn was_met(&mut self, seconds: f64) {
        if self.state == State::Searching {
            self.met = self.load;
            self.advance();
            return;
        }
        self.confirmed += 1;
        self.confirmed_seconds += seconds;
        if self.confirmed >= self.confirmations && self.confirmed_seconds >= self.confirm_seconds {
            self.found();
        }
    }

    fn was_too_high(&mut self, for_generator: bool) {
        self.above = Some(Above { load: self.load, for_generator });
        if self.state == State::Searching {
            self.advance();
            return;
        }
        // It held once and not again: the limit is lower.
        self.met = 0;
        self.confirmed = 0;
        self.confirmed_seconds = 0.0;
        self.lower();
    }

    fn advance(&mut self) {
        match self.above {
            None if self.met >= self.most => self.confirm(),
            None => self.load = self.met.saturating_mul(2).min(self.most),
            Some(above) if self.met == 0 => {
                self.load = above.load / 2;
                if self.load == 0 {
                    self.nothing_met(above);
                }
            }
            Some(Above { load: above, .. }) => {
                let gap = f64::from(above - self.met);
                if gap <= f64::from(self.met) * self.within || above - self.met <= 1 {
                    self.confirm();
                } else {
                    self.load = self.met + (above - self.met) / 2;
                }
            }
        }
    }

    fn confirm(&mut self) {
        self.load = self.met;
        self.confirmed = 0;
        self.confirmed_seconds = 0.0;
        if self.confirmations == 0 {
            self.found();
        } else {
            self.state = State::Confirming;
        }
    }

    /// The load of the last trial is the answer.
    fn found(&mut self) {
        let load = self.load;
        let at_least = |by| Step::AtLeast(LowerBound { load, confirmed: true, by });
        self.state = State::Over(match self.above {
            Some(Above { for_generator: false, .. }) => Step::Found(load),
            Some(Above { for_generator: true, .. }) => at_least(Bottleneck::Generator),
            None => at_least(Bottleneck::Most),
        });
    }

    /// A step of the wanted precision down, to be confirmed in its turn.
    fn lower(&mut self) {
        let lower = (f64::from(self.load) * (1.0 - self.within)) as u32;
        self.load = lower.min(self.load.saturating_sub(1));
        self.met = self.load;
        if let (0, Some(above)) = (self.load, self.above) {
            self.nothing_met(above);
        }
    }

    /// The lowest load was too high.
    fn nothing_met(&mut self, above: Above) {
        let answer = if above.for_generator { Step::Unclear } else { Step::None };
        self.state = State::Over(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(start: u32, most: u32, confirmations: u32) -> Search {
        Search::new(start, most, 0.05, confirmations, 0.0)
    }

    /// Runs a search against a server that holds up to `limit`.
    fn find(limit: u32, search: &mut Search) -> (Step, u32) {
        for trials in 0..200 {
            let load = match search.next() {
                Step::Try(load) | Step::Confirm(load) => load,
                over => return (over, trials),
            };
            search.tell(if load <= limit { Outcome::Met } else { Outcome::Missed }, 1.0);
        }
        panic!("the search does not end");
    }

    #[test]
    fn every_limit_is_found_within_what_was_asked() {
        for limit in [1, 7, 999, 1000, 1001, 15_300, 700_000] {
            let (step, trials) = find(limit, &mut new(1000, 1_000_000, 3));
            let Step::Found(found) = step else { panic!("{limit}: {step:?}") };
            assert!(
                found <= limit && f64::from(found) >= f64::from(limit) * 0.94 - 1.0,
                "{limit}: {found}"
            );
            assert!(trials < 40, "{limit}: {trials}");
        }
    }

    #[test]
    fn what_cannot_be_met_or_missed_ends() {
        assert_eq!(find(0, &mut new(1000, 10_000, 3)).0, Step::None);
        let most = LowerBound { load: 10_000, confirmed: true, by: Bottleneck::Most };
        assert_eq!(find(u32::MAX, &mut new(1000, 10_000, 3)).0, Step::AtLeast(most));
    }

    #[test]
    fn luck_is_not_confirmed() {
        let mut search = new(1000, 1000, 2);
        search.tell(Outcome::Met, 1.0);
        assert_eq!(search.next(), Step::Confirm(1000));
        search.tell(Outcome::Missed, 1.0);
        assert_eq!(search.next(), Step::Confirm(950));
        search.tell(Outcome::Met, 1.0);
        search.tell(Outcome::Met, 1.0);
        assert_eq!(search.next(), Step::Found(950));
    }

    #[test]
    fn what_was_confirmed_too_briefly_is_confirmed_again() {
        let mut search = Search::new(1000, 1000, 0.05, 2, 30.0);
        search.tell(Outcome::Met, 10.0);
        for _ in 0..3 {
            assert_eq!(search.next(), Step::Confirm(1000));
            search.tell(Outcome::Met, 10.0);
        }
        let most = LowerBound { load: 1000, confirmed: true, by: Bottleneck::Most };
        assert_eq!(search.next(), Step::AtLeast(most));
    }

    /// A server that does `limit` a second and queues the rest: whether clients that wait for
    /// `patience` seconds miss an answer.
    fn queue_shows(limit: f64, load: f64, seconds: f64, patience: f64) -> bool {
        (load - limit).max(0.0) * seconds / limit > patience
    }

    #[test]
    fn no_trial_is_so_short_that_a_queue_hides_the_overload() {
        for limit in [700.0, 5_100.0, 99_000.0] {
            let mut search = new(1000, 1_000_000, 3);
            while let Step::Try(load) | Step::Confirm(load) = search.next() {
                let seconds = search.least_seconds(1.0);
                let shows = queue_shows(limit, load.into(), seconds, 1.0);
                // Only what is less than a step of the search above the limit may be hidden.
                let above = f64::from(load) / limit - 1.0;
                assert!(shows || above <= search.step().max(0.05), "{load} of {limit}: {seconds}");
                search.tell(if shows { Outcome::Missed } else { Outcome::Met }, seconds);
            }
            let Step::Found(found) = search.next() else { panic!("{limit}: {:?}", search.next()) };
            assert!((0.9..1.05).contains(&(f64::from(found) / limit)), "{found} of {limit}");
        }
    }

    #[test]
    fn a_faulty_generator_finds_nothing() {
        let mut search = new(1000, 10_000, 3);
        for _ in 0..MOST_INVALID {
            assert!(matches!(search.next(), Step::Try(_)));
            search.tell(Outcome::Invalid, 1.0);
        }
        assert_eq!(search.next(), Step::Unclear);
    }

    /// Runs a search with a generator that produces up to `most`, against a server that holds up to
    /// `limit`.
    fn find_with(most: u32, limit: u32, search: &mut Search) -> Step {
        for _ in 0..200 {
            let load = match search.next() {
                Step::Try(load) | Step::Confirm(load) => load,
                over => return over,
            };
            let outcome = match load {
                load if load > most => Outcome::Invalid,
                load if load > limit => Outcome::Missed,
                _ => Outcome::Met,
            };
            search.tell(outcome, 1.0);
        }
        panic!("the search does not end");
    }

    #[test]
    fn where_the_generator_is_the_bottleneck_the_answer_is_a_lower_bound() {
        for (start, most) in [(1000, 999), (1000, 1700), (1000, 48_000), (100_000, 48_000)] {
            let step = find_with(most, 1_000_000, &mut new(start, 1_000_000, 3));
            let Step::AtLeast(bound) = step else { panic!("{start}, {most}: {step:?}") };
            assert!(bound.confirmed && bound.by == Bottleneck::Generator, "{bound:?}");
            let met = f64::from(bound.load) / f64::from(most);
            assert!((0.94..=1.0).contains(&met), "{start}, {most}: {bound:?}");
        }
    }

    #[test]
    fn a_server_that_is_slower_than_the_generator_has_a_limit() {
        let step = find_with(10_000, 7_000, &mut new(1000, 1_000_000, 3));
        let Step::Found(found) = step else { panic!("{step:?}") };
        assert!((6_500..=7_000).contains(&found), "{found}");
    }

    #[test]
    fn one_invalid_trial_is_made_again() {
        let mut search = new(1000, 10_000, 3);
        search.tell(Outcome::Met, 1.0);
        search.tell(Outcome::Invalid, 1.0);
        assert_eq!(search.next(), Step::Try(2000));
        search.tell(Outcome::Met, 1.0);
        assert_eq!(search.next(), Step::Try(4000));
    }

    #[test]
    fn a_generator_that_fails_altogether_leaves_what_was_met() {
        let mut search = new(1000, 10_000, 3);
        search.tell(Outcome::Met, 1.0);
        for _ in 0..200 {
            search.tell(Outcome::Invalid, 1.0);
        }
        let met = LowerBound { load: 1000, confirmed: false, by: Bottleneck::Generator };
        assert_eq!(search.next(), Step::AtLeast(met));
    }

    #[test]
    fn an_interrupted_search_has_what_was_met_and_not_missed_afterwards() {
        let mut search = new(1000, 10_000, 3);
        search.interrupt();
        assert_eq!(search.next(), Step::Unclear);
        let mut search = new(1000, 2000, 3);
        search.tell(Outcome::Met, 1.0);
        search.tell(Outcome::Met, 1.0);
        assert_eq!(search.next(), Step::Confirm(2000));
        search.tell(Outcome::Missed, 1.0);
        search.interrupt();
        let met = LowerBound { load: 1000, confirmed: false, by: Bottleneck::Interrupted };
        assert_eq!(search.next(), Step::AtLeast(met));
    }
}
