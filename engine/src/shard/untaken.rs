//! Which DISCOVERs are answered when not all can be. An OFFER that no machine takes up costs as
//! much as another, so beyond its rate the server gives each link a limited number of them: a link
//! is a relay agent or, without one, an interface. Further DISCOVERs of that link are dropped,
//! which costs a fourth.
//!
//! A link whose machines go on to REQUEST does not come near its limit. So what a link asks for and
//! does not take, by a fault, a loop or in bad faith, is not at the cost of others.

use std::net::Ipv4Addr;

use bootstorm_protocols::time::Moment;

/// Links that are told apart. Those with the same hash share a limit.
const LINKS: usize = 1 << LINK_BITS;
const LINK_BITS: u32 = 8;
/// DISCOVERs of a link that were answered and not followed up, at most.
const MOST: f64 = 4096.0;
/// How many of them are forgotten in a second, so that a link always gets some answers.
const FORGOTTEN: f64 = 4096.0;
/// How many are forgotten with each that is followed up: a link of which a fourth goes on has no
/// limit, because in an overload machines give up and answers are lost, too.
const FOLLOWED: f64 = 4.0;

/// DISCOVERs that were answered and not followed up, by link.
pub(super) struct Untaken {
    links: Box<[Link]>,
}

#[derive(Copy, Clone, Default)]
struct Link {
    untaken: f64,
    at: Moment,
}

impl Untaken {
    pub(super) fn new() -> Self {
        Self { links: vec![Link::default(); LINKS].into() }
    }

    /// Whether another DISCOVER of the link is to be answered.
    pub(super) fn may(&self, ifindex: u32, giaddr: Ipv4Addr, now: Moment) -> bool {
        self.links[place(ifindex, giaddr)].untaken_at(now) < MOST
    }

    /// A DISCOVER is answered.
    pub(super) fn answered(&mut self, ifindex: u32, giaddr: Ipv4Addr, now: Moment) {
        let link = &mut self.links[place(ifindex, giaddr)];
        *link = Link { untaken: link.untaken_at(now) + 1.0, at: now };
    }

    /// A machine of the link takes a lease.
    pub(super) fn followed_up(&mut self, ifindex: u32, giaddr: Ipv4Addr) {
        let link = &mut self.links[place(ifindex, giaddr)];
        link.untaken = (link.untaken - FOLLOWED).max(0.0);
    }
}

impl Link {
    fn untaken_at(self, now: Moment) -> f64 {
        let forgotten = now.since(self.at).as_secs_f64() * FORGOTTEN;
        (self.untaken - forgotten).max(0.0)
    }
}

/// Relay agents of one network differ in the last bits of their addresses, interfaces in the last
/// bits of their numbers.
fn place(ifindex: u32, giaddr: Ipv4Addr) -> usize {
    let mixed = (u32::from(giaddr) ^ ifindex.rotate_left(16)).wrapping_mul(0x9e37_79b1);
    (mixed >> (u32::BITS - LINK_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GOOD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    const BAD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

    /// Of 80,000 DISCOVERs a second, how many are answered in the third. `taken` of a thousand
    /// machines go on after 10 ms.
    fn answered(taken: u32) -> u32 {
        let mut untaken = Untaken::new();
        let start = Moment::from_nanos(1);
        let mut going_on = std::collections::VecDeque::new();
        let mut count = 0;
        for number in 0..240_000_u32 {
            let now = start + Duration::from_nanos(12_500) * number;
            while going_on.pop_front_if(|at| *at <= now).is_some() {
                untaken.followed_up(1, GOOD);
            }
            if untaken.may(1, GOOD, now) {
                untaken.answered(1, GOOD, now);
                count += u32::from(number >= 160_000);
                if number.wrapping_mul(0x9e37_79b1) >> 16 < taken * 65_536 / 1000 {
                    going_on.push_back(now + Duration::from_millis(10));
                }
            }
        }
        count
    }

    #[test]
    fn a_link_that_takes_what_it_is_offered_is_offered_all() {
        assert_eq!(answered(1000), 80_000);
        // Most have given up meanwhile.
        assert_eq!(answered(300), 80_000);
    }

    #[test]
    fn a_link_that_takes_nothing_is_offered_little_and_something() {
        assert_eq!(answered(0), FORGOTTEN as u32);
        // 4,096 of each second are not made up for by those that go on: 4,096 / (1 - 4 * 0.1).
        let some = answered(100);
        assert!((5_000..8_000).contains(&some), "{some}");
    }

    #[test]
    fn links_do_not_limit_each_other() {
        let mut untaken = Untaken::new();
        let now = Moment::from_nanos(1);
        while untaken.may(1, BAD, now) {
            untaken.answered(1, BAD, now);
        }
        let others = [(1, GOOD), (2, Ipv4Addr::UNSPECIFIED), (3, Ipv4Addr::UNSPECIFIED)];
        assert!(others.iter().all(|&(ifindex, giaddr)| untaken.may(ifindex, giaddr, now)));
        assert!(untaken.may(1, BAD, now + Duration::from_millis(1)), "some are forgotten");
    }
}
