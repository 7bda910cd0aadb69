//! Addresses that are pinged before they are offered. Nothing blocks: the OFFER stays in its
//! transmit slot until the wait is over, and is discarded if the address answers.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use bootstorm_protocols::time::Moment;

/// Probes under way at one time. Beyond that addresses are offered without a ping, or, where the
/// lease store is damaged, not at all.
pub(super) const LIMIT: usize = 1024;

/// Probes by address and by the time they end. All wait equally long, so they end in the order they
/// began.
#[derive(Debug)]
pub(super) struct Probes<T> {
    waiting: HashMap<Ipv4Addr, (u32, T)>,
    order: VecDeque<(Moment, Ipv4Addr, u32)>,
    begun: u32,
}

impl<T> Probes<T> {
    pub(super) fn new() -> Self {
        Self { waiting: HashMap::new(), order: VecDeque::new(), begun: 0 }
    }

    /// Whether the address is being pinged already.
    pub(super) fn contains(&self, address: Ipv4Addr) -> bool {
        self.waiting.contains_key(&address)
    }

    /// Whether another probe can begin.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < LIMIT
    }

    /// Waits for an answer of `address` until `until`. An earlier probe of it is replaced.
    pub(super) fn begin(&mut self, address: Ipv4Addr, until: Moment, then: T) {
        self.begun = self.begun.wrapping_add(1);
        self.waiting.insert(address, (self.begun, then));
        self.order.push_back((until, address, self.begun));
    }

    /// `address` answered: returns what waited for it.
    pub(super) fn answered(&mut self, address: Ipv4Addr) -> Option<T> {
        self.waiting.remove(&address).map(|(_, then)| then)
    }

    /// The next probe that nobody answered in time.
    pub(super) fn due(&mut self, now: Moment) -> Option<T> {
        while let Some(&(until, address, number)) = self.order.front() {
            let current = self.waiting.get(&address).is_some_and(|(begun, _)| *begun == number);
            if current && until > now {
                return None;
            }
            self.order.pop_front();
            if current {
                return self.answered(address);
            }
        }
        None
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Moment> {
        self.order.front().map(|(until, _, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn a_probe_is_due_unless_its_address_answers() {
        let mut probes = Probes::new();
        probes.begin(A, at(10), "a");
        probes.begin(B, at(12), "b");
        assert!(probes.due(at(9)).is_none());
        assert_eq!(probes.answered(A), Some("a"));
        assert_eq!(probes.answered(A), None);
        assert!(probes.due(at(11)).is_none());
        assert_eq!(probes.due(at(12)), Some("b"));
        assert_eq!(probes.next(), None);
    }

    #[test]
    fn a_second_probe_of_an_address_outlives_the_first() {
        let mut probes = Probes::new();
        probes.begin(A, at(10), 1);
        probes.answered(A);
        probes.begin(A, at(20), 2);
        assert!(probes.due(at(15)).is_none());
        assert_eq!(probes.due(at(20)), Some(2));
    }
}
