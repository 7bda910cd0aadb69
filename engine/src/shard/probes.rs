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
    waiting: HashMap<Ipv4Addr, Probe<T>>,
    order: VecDeque<(Moment, Ipv4Addr, u32)>,
    begun: u32,
}

#[derive(Debug)]
struct Probe<T> {
    /// Tells it from earlier ones of the address.
    number: u32,
    /// The network has taken the ping.
    sent: bool,
    then: T,
}

/// In the token of a ping. In the low half of a transfer's number is its place in a table, which
/// never has so many.
const TOKEN: u64 = 1 << 31;

/// Whether what [`bootstorm_net::Handler::sent`] tells of is a ping.
pub(super) fn is_token(token: u64) -> bool {
    token & TOKEN != 0
}

/// Names one probe of one address.
fn token(address: Ipv4Addr, number: u32) -> u64 {
    u64::from(u32::from(address)) << 32 | TOKEN | u64::from(number)
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

    /// Waits for an answer of `address` until `until`. An earlier probe of it is replaced. Returns
    /// the token of its ping.
    pub(super) fn begin(&mut self, address: Ipv4Addr, until: Moment, then: T) -> u64 {
        self.begun = (self.begun + 1) % TOKEN as u32;
        self.waiting.insert(address, Probe { number: self.begun, sent: false, then });
        self.order.push_back((until, address, self.begun));
        token(address, self.begun)
    }

    /// The network has taken the ping with this token.
    pub(super) fn sent(&mut self, of: u64) {
        if let Some((_, probe)) = self.of_token(of) {
            probe.sent = true;
        }
    }

    /// The ping with this token was not sent: returns what waited for its answer, if it still does.
    pub(super) fn failed(&mut self, of: u64) -> Option<T> {
        let (address, _) = self.of_token(of)?;
        self.answered(address)
    }

    /// The probe that waits for the ping with this token, and its address.
    fn of_token(&mut self, of: u64) -> Option<(Ipv4Addr, &mut Probe<T>)> {
        let address = Ipv4Addr::from((of >> 32) as u32);
        let probe = self.waiting.get_mut(&address)?;
        (token(address, probe.number) == of).then_some((address, probe))
    }

    /// `address` answered: returns what waited for it.
    pub(super) fn answered(&mut self, address: Ipv4Addr) -> Option<T> {
        self.waiting.remove(&address).map(|probe| probe.then)
    }

    /// The next probe that nobody answered in time, and whether its ping was sent.
    pub(super) fn due(&mut self, now: Moment) -> Option<(T, bool)> {
        while let Some(&(until, address, number)) = self.order.front() {
            let probe = self.waiting.get(&address).filter(|probe| probe.number == number);
            if probe.is_some() && until > now {
                return None;
            }
            self.order.pop_front();
            if probe.is_some() {
                return self.waiting.remove(&address).map(|probe| (probe.then, probe.sent));
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
        let b = probes.begin(B, at(12), "b");
        probes.sent(b);
        assert!(probes.due(at(9)).is_none());
        assert_eq!(probes.answered(A), Some("a"));
        assert_eq!(probes.answered(A), None);
        assert!(probes.due(at(11)).is_none());
        assert_eq!(probes.due(at(12)), Some(("b", true)));
        assert_eq!(probes.next(), None);
    }

    #[test]
    fn a_second_probe_of_an_address_outlives_the_first() {
        let mut probes = Probes::new();
        let first = probes.begin(A, at(10), 1);
        probes.answered(A);
        let second = probes.begin(A, at(20), 2);
        assert!(is_token(first) && is_token(second) && first != second);
        // What becomes of the first ping says nothing of the second.
        assert_eq!(probes.failed(first), None);
        probes.sent(first);
        assert!(probes.due(at(15)).is_none());
        assert_eq!(probes.due(at(20)), Some((2, false)));
        assert_eq!(probes.failed(second), None);
    }

    #[test]
    fn what_waits_for_a_ping_that_was_not_sent_is_given_back_at_once() {
        let mut probes = Probes::new();
        let token = probes.begin(Ipv4Addr::BROADCAST, at(10), "a");
        assert!(is_token(token) && !is_token(u64::from(u32::MAX) << 32 | 1000));
        assert_eq!((probes.failed(token), probes.failed(token)), (Some("a"), None));
        assert_eq!((probes.due(at(10)), probes.next()), (None, None));
    }
}
