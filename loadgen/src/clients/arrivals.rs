//! When each machine is powered on. The schedule is fixed before the first packet.

use std::time::Duration;

use bootstorm_protocols::time::Moment;

use crate::scenario::Scenario;
use crate::seed::{Purpose, Seed, mix};

/// The order in which machines begin.
#[derive(Debug)]
pub(super) enum Arrivals {
    /// Each once, at a time of its own, counted from the start.
    Listed { order: Vec<(Duration, u32)>, next: usize },
    /// In turns, evenly, until a time.
    Rate { per_second: f64, count: u64, end: Moment, machines: u32 },
    /// In turns, as others finish.
    Window { begun: u64, end: Moment, machines: u32, most: u64 },
}

/// A machine to begin, and when it was meant to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Arrival {
    pub(super) machine: u32,
    pub(super) at: Moment,
}

impl Arrivals {
    pub(super) fn new(scenario: &Scenario, seed: Seed, start: Moment) -> Arrivals {
        let machines = scenario.machines;
        let arrival = &scenario.arrival;
        // Without a duration each machine has one turn.
        let lasts = arrival.lasts.map(|span| start + span.0);
        if arrival.in_flight.is_some() {
            let most = if lasts.is_some() { u64::MAX } else { machines.into() };
            return Arrivals::Window {
                begun: 0,
                end: lasts.unwrap_or(Moment::NEVER),
                machines,
                most,
            };
        }
        if let Some(per_second) = arrival.rate {
            let once = start + Duration::from_secs_f64(f64::from(machines) / per_second);
            return Arrivals::Rate { per_second, count: 0, end: lasts.unwrap_or(once), machines };
        }
        let rack = if arrival.rack == 0 { machines } else { arrival.rack };
        let post = arrival.post.map(|span| span.0);
        let mut order: Vec<(Duration, u32)> = (0..machines)
            .map(|machine| {
                let switched = arrival.every.0.saturating_mul(machine / rack);
                let post = seed.between(Purpose::PostTime, machine, 0, post);
                (switched.saturating_add(post), machine)
            })
            .collect();
        order.sort_unstable();
        Arrivals::Listed { order, next: 0 }
    }

    /// The next arrival that is due.
    pub(super) fn due(
        &mut self,
        start: Moment,
        now: Moment,
        busy: u64,
        in_flight: u64,
    ) -> Option<Arrival> {
        let next = self.peek(start)?;
        match self {
            Arrivals::Listed { order, next: place } => {
                let machine = order.get(*place).map(|(_, machine)| *machine)?;
                (next <= now).then(|| *place += 1)?;
                Some(Arrival { machine, at: next })
            }
            Arrivals::Rate { count, machines, .. } => {
                let machine = (*count % u64::from(*machines)) as u32;
                (next <= now).then(|| *count += 1)?;
                Some(Arrival { machine, at: next })
            }
            Arrivals::Window { begun, end, machines, .. } => {
                let machine = (*begun % u64::from(*machines)) as u32;
                (busy < in_flight && now < *end).then(|| *begun += 1)?;
                Some(Arrival { machine, at: now })
            }
        }
    }

    /// When the next one is due; `None` when there is none any more. For a window the answer is
    /// only whether.
    pub(super) fn peek(&self, start: Moment) -> Option<Moment> {
        match self {
            Arrivals::Listed { order, next } => order.get(*next).map(|(after, _)| start + *after),
            Arrivals::Rate { per_second, count, end, .. } => {
                let at = start + Duration::from_secs_f64(*count as f64 / per_second);
                (at < *end).then_some(at)
            }
            Arrivals::Window { begun, most, .. } => (begun < most).then_some(Moment::NEVER),
        }
    }

    /// Whether nobody begins any more.
    pub(super) fn are_over(&self, start: Moment, now: Moment) -> bool {
        match self {
            Arrivals::Window { end, .. } if now >= *end => true,
            _ => self.peek(start).is_none(),
        }
    }

    /// Machines that have not begun.
    pub(super) fn waiting(&self) -> u64 {
        match self {
            Arrivals::Listed { order, next } => (order.len() - next) as u64,
            Arrivals::Rate { count, machines, .. } => u64::from(*machines).saturating_sub(*count),
            Arrivals::Window { begun, machines, .. } => u64::from(*machines).saturating_sub(*begun),
        }
    }

    /// A number made of the schedule.
    pub(super) fn fingerprint(&self) -> u64 {
        match self {
            Arrivals::Listed { order, .. } => order.iter().fold(1, |sum, (after, machine)| {
                mix(sum ^ after.as_nanos() as u64 ^ u64::from(*machine) << 40)
            }),
            Arrivals::Rate { per_second, machines, .. } => {
                mix(per_second.to_bits() ^ u64::from(*machines))
            }
            Arrivals::Window { machines, .. } => mix(u64::from(*machines)),
        }
    }
}
