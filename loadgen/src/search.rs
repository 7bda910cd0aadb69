//! The search for a limit, after RFC 2544 section 26.1: double until it fails, halve the gap, and
//! confirm. A single good trial is luck: the answer is a load that was met again and again.

/// Trials in a row that may be invalid before the search ends.
const MOST_INVALID: u32 = 5;
/// A trial lasts so many times as long as a server's queue could hide that the load is too high.
const MARGIN: f64 = 1.5;

/// What to do next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Try this load.
    Try(u32),
    /// Try it once more: it may be the answer.
    Confirm(u32),
    /// The answer.
    Found(u32),
    /// Not even the lowest load is met.
    None,
    /// The trials say nothing.
    Unclear,
}

/// How a trial ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The limits were met.
    Met,
    /// One was missed.
    Missed,
    /// The generator was at fault: the trial does not count.
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
    /// Highest load met so far, and lowest missed.
    met: u32,
    missed: Option<u32>,
    confirmed: u32,
    /// How long the trials that confirmed it lasted together.
    confirmed_seconds: f64,
    invalid: u32,
    state: State,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Searching,
    Confirming,
    Over(Step),
}

impl Search {
    /// Begins with `start`, never tries more than `most`, ends when met and missed are `within`
    /// this share of each other and the met one held `confirmations` times more, for
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
            missed: None,
            confirmed: 0,
            confirmed_seconds: 0.0,
            invalid: 0,
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
        if outcome == Outcome::Invalid {
            self.invalid += 1;
            if self.invalid >= MOST_INVALID {
                self.state = State::Over(Step::Unclear);
            }
            return;
        }
        self.invalid = 0;
        match (self.state, outcome) {
            (State::Confirming, Outcome::Met) => {
                self.confirmed += 1;
                self.confirmed_seconds += seconds;
                if self.confirmed >= self.confirmations
                    && self.confirmed_seconds >= self.confirm_seconds
                {
                    self.state = State::Over(Step::Found(self.load));
                }
            }
            (State::Confirming, _) => {
                // It held once and not again: the limit is lower.
                self.missed = Some(self.load);
                self.met = 0;
                self.confirmed = 0;
                self.confirmed_seconds = 0.0;
                self.lower();
            }
            (State::Searching, Outcome::Met) => {
                self.met = self.load;
                self.advance();
            }
            (State::Searching, _) => {
                self.missed = Some(self.load);
                self.advance();
            }
            (State::Over(_), _) => {}
        }
    }

    fn advance(&mut self) {
        match self.missed {
            None if self.met >= self.most => self.confirm(),
            None => self.load = self.met.saturating_mul(2).min(self.most),
            Some(missed) if self.met == 0 => {
                self.load = missed / 2;
                if self.load == 0 {
                    self.state = State::Over(Step::None);
                }
            }
            Some(missed) => {
                let gap = f64::from(missed - self.met);
                if gap <= f64::from(self.met) * self.within || missed - self.met <= 1 {
                    self.confirm();
                } else {
                    self.load = self.met + (missed - self.met) / 2;
                }
            }
        }
    }

    fn confirm(&mut self) {
        self.load = self.met;
        self.confirmed = 0;
        self.confirmed_seconds = 0.0;
        self.state = if self.confirmations == 0 {
            State::Over(Step::Found(self.met))
        } else {
            State::Confirming
        };
    }

    /// A step of the wanted precision down, to be confirmed in its turn.
    fn lower(&mut self) {
        let lower = (f64::from(self.load) * (1.0 - self.within)) as u32;
        self.load = lower.min(self.load.saturating_sub(1));
        self.met = self.load;
        if self.load == 0 {
            self.state = State::Over(Step::None);
        }
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
        assert_eq!(find(u32::MAX, &mut new(1000, 10_000, 3)).0, Step::Found(10_000));
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
        assert_eq!(search.next(), Step::Found(1000));
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
            assert_eq!(search.next(), Step::Try(1000));
            search.tell(Outcome::Invalid, 1.0);
        }
        assert_eq!(search.next(), Step::Unclear);
    }
}
