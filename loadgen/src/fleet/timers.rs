//! The timers of the fleet: what is due, and what happens then.

use std::time::Duration;

use bootstorm_net::Transmit;
use bootstorm_protocols::time::Moment;

use super::Fleet;
use super::machine::Phase;
use crate::board::Snapshot;
use crate::tally::{Standing, Timed};

/// How often the time line, the live view and the end of the run are looked at.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// What a timer is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Alarm {
    Machine(u32),
    Parcel(u32),
    PowerCut(u32),
}

impl Alarm {
    pub(super) fn pack(self) -> u64 {
        let (kind, number) = match self {
            Alarm::Machine(number) => (0, number),
            Alarm::Parcel(number) => (1, number),
            Alarm::PowerCut(number) => (2, number),
        };
        kind << 32 | u64::from(number)
    }

    fn unpack(token: u64) -> Alarm {
        let number = token as u32;
        match token >> 32 {
            0 => Alarm::Machine(number),
            1 => Alarm::Parcel(number),
            _ => Alarm::PowerCut(number),
        }
    }
}

impl Fleet {
    /// Sets a machine's timer. One that runs and fires earlier is left alone: it looks again then.
    pub(super) fn arm(&mut self, index: u32, due: Moment) {
        let machine = &mut self.machines[index as usize];
        machine.due = due;
        match machine.timer {
            Some(_) if machine.timer_at <= due => {}
            running => {
                if let Some(key) = running {
                    self.wheel.cancel(key);
                }
                machine.timer = Some(self.wheel.insert(due, Alarm::Machine(index).pack()));
                machine.timer_at = due;
            }
        }
    }

    pub(super) fn disarm(&mut self, index: u32) {
        if let Some(key) = self.machines[index as usize].timer.take() {
            self.wheel.cancel(key);
        }
    }

    /// A timer fired.
    pub(super) fn alarm<T: Transmit>(&mut self, token: u64, tx: &mut T) {
        let now = tx.now();
        let index = match Alarm::unpack(token) {
            Alarm::Machine(index) => index,
            Alarm::Parcel(number) => {
                let parcel = self.weather.as_mut().and_then(|weather| weather.arrived(number));
                if let Some(parcel) = parcel {
                    self.deliver(&parcel, tx);
                }
                return;
            }
            Alarm::PowerCut(number) => {
                self.cut_power(number, now);
                return;
            }
        };
        let machine = &mut self.machines[index as usize];
        machine.timer = None;
        let due = machine.due;
        if due > now {
            self.arm(index, due);
            return;
        }
        self.health.acted(due, now);
        match machine.phase {
            Phase::Off => self.power_on(index, due, tx),
            Phase::Starting => self.discover(index, due, tx),
            Phase::Pausing => self.begin_stage(index, due, tx),
            Phase::Selecting | Phase::Requesting => self.unanswered(index, tx),
            Phase::Collecting => self.collected(index, tx),
            Phase::Loading => self.load_again(index, tx),
            Phase::Up | Phase::Renewing => self.renew(index, tx),
            Phase::Fetching | Phase::GivenUp => {}
        }
    }

    /// Ten times a second: the time line, the live view, and whether it is over.
    pub(super) fn tick(&mut self, now: Moment) {
        self.health.acted(self.next_tick, now);
        self.next_tick = now + TICK;
        self.tally.tick(now);
        self.interrupted |= self.board.is_stopped();
        let all_done = self.busy == 0
            && self.arrivals.are_over(self.start, now)
            && self.cuts_left == 0
            && !self.renew;
        let powering_on = self.power_cuts.is_some() && self.tally.standing(Standing::Off) > 0;
        self.over |= self.interrupted || now >= self.limit || (all_done && !powering_on);
        self.board.show(self.snapshot(now));
    }

    /// How the fleet stands.
    pub(super) fn snapshot(&self, now: Moment) -> Snapshot {
        let tally = &self.tally;
        Snapshot {
            seconds: now.since(self.start).as_secs_f64(),
            total: self.total(),
            off: tally.standing(Standing::Off),
            discovering: tally.standing(Standing::Discovering),
            requesting: tally.standing(Standing::Requesting),
            loading: tally.standing(Standing::Loading),
            up: tally.standing(Standing::Up),
            given_up: tally.standing(Standing::GivenUp),
            exchanges: tally.dhcp.exchanges,
            bytes: tally.tftp.figures.bytes + tally.http.figures.bytes,
            quantiles: [
                tally.quantile(Timed::Offer, 0.5),
                tally.quantile(Timed::Offer, 0.99),
                tally.quantile(Timed::Ack, 0.5),
                tally.quantile(Timed::Ack, 0.99),
            ],
            violations: self.judge.violations(),
        }
    }
}
