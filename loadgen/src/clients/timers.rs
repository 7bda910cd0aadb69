//! The timers of the clients, and what happens when one fires.

use std::time::Duration;

use bootstorm_net::Transmit;
use bootstorm_protocols::time::Moment;

use super::Clients;
use super::machine::Phase;
use crate::metrics::{State, Timed};
use crate::progress::Snapshot;

/// How often the time line, the live view and the end of the run are looked at.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// What a timer is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum TimerKind {
    Machine(u32),
    Delayed(u32),
    PowerCut(u32),
}

impl TimerKind {
    pub(super) fn pack(self) -> u64 {
        let (kind, number) = match self {
            TimerKind::Machine(number) => (0, number),
            TimerKind::Delayed(number) => (1, number),
            TimerKind::PowerCut(number) => (2, number),
        };
        kind << 32 | u64::from(number)
    }

    fn unpack(token: u64) -> TimerKind {
        let number = token as u32;
        match token >> 32 {
            0 => TimerKind::Machine(number),
            1 => TimerKind::Delayed(number),
            _ => TimerKind::PowerCut(number),
        }
    }
}

impl Clients {
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
                machine.timer = Some(self.wheel.insert(due, TimerKind::Machine(index).pack()));
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
    pub(super) fn timer_fired<T: Transmit>(&mut self, token: u64, tx: &mut T) {
        let now = tx.now();
        let index = match TimerKind::unpack(token) {
            TimerKind::Machine(index) => index,
            TimerKind::Delayed(number) => {
                let packet =
                    self.impairment.as_mut().and_then(|impairment| impairment.release(number));
                if let Some(packet) = packet {
                    self.deliver(&packet, tx);
                }
                return;
            }
            TimerKind::PowerCut(number) => {
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
            Phase::Starting => self.first_message(index, due, tx),
            Phase::Pausing => self.begin_stage(index, due, tx),
            Phase::Selecting | Phase::Requesting | Phase::Rebooting | Phase::Informing => {
                self.unanswered(index, tx);
            }
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
        self.metrics.tick(now);
        self.interrupted |= self.progress.is_stopped();
        let all_done = self.busy == 0
            && self.arrivals.are_over(self.start, now)
            && self.cuts_left == 0
            && !self.renew;
        let powering_on = self.power_cuts.is_some() && self.metrics.state(State::Off) > 0;
        self.over |= self.interrupted || now >= self.limit || (all_done && !powering_on);
        self.progress.show(self.snapshot(now));
    }

    /// The figures for the live view.
    pub(super) fn snapshot(&self, now: Moment) -> Snapshot {
        let metrics = &self.metrics;
        Snapshot {
            seconds: now.since(self.start).as_secs_f64(),
            total: self.total(),
            off: metrics.state(State::Off),
            discovering: metrics.state(State::Discovering),
            requesting: metrics.state(State::Requesting),
            loading: metrics.state(State::Loading),
            up: metrics.state(State::Up),
            given_up: metrics.state(State::GivenUp),
            exchanges: metrics.dhcp.exchanges,
            bytes: metrics.tftp.figures.bytes + metrics.http.figures.bytes,
            quantiles: [
                metrics.quantile(Timed::Offer, 0.5),
                metrics.quantile(Timed::Offer, 0.99),
                metrics.quantile(Timed::Ack, 0.5),
                metrics.quantile(Timed::Ack, 0.99),
            ],
            violations: self.validator.violations(),
        }
    }
}
