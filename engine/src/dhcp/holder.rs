//! Who has an address that is reserved for another machine.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use bootstorm_protocols::time::Moment;

use crate::event::{BootEvent, Detail, Kind};
use crate::leases::{Hardware, Lease, LeaseState};

/// Who has an address that is reserved for another machine.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The address.
    pub ip: Ipv4Addr,
    /// The holder's hardware address.
    pub hardware: Hardware,
    /// What the address is to the holder: leased, offered, in quarantine, or given back and not yet
    /// so on disk.
    pub state: LeaseState,
    /// When that ends; [`Moment::NEVER`] for an infinite lease.
    pub ends: Moment,
}

/// Holders that a shard told of: the same holder is not told of with each DISCOVER of the machine
/// that waits.
#[derive(Debug, Default)]
pub struct HoldersTold(VecDeque<Holder>);

impl Holder {
    pub(super) fn of(lease: &Lease, ip: Ipv4Addr) -> Self {
        Self { ip, hardware: lease.hardware, state: lease.state, ends: lease.expires }
    }
}

impl HoldersTold {
    /// Holders that are remembered; beyond that the oldest is told of again.
    const LIMIT: usize = 256;

    /// The event that tells of a holder, once for each lease: `decided` is the event of the machine
    /// that waits. `None` for what ends soon, and for what was told before.
    pub fn event(
        &mut self,
        holder: &Holder,
        decided: &BootEvent,
        now: Moment,
    ) -> Option<BootEvent> {
        if !matches!(holder.state, LeaseState::Active | LeaseState::Declined) {
            return None;
        }
        let same = |told: &&Holder| (told.ip, told.hardware) == (holder.ip, holder.hardware);
        if self.0.iter().find(same).is_some_and(|told| now < told.ends) {
            return None;
        }
        self.0.retain(|told| now < told.ends);
        if self.0.len() == Self::LIMIT {
            self.0.pop_front();
        }
        self.0.push_back(*holder);
        let left = (holder.ends != Moment::NEVER).then(|| holder.ends.since(now));
        let quarantine = holder.state == LeaseState::Declined;
        Some(BootEvent {
            kind: Kind::ReservedHeld,
            address: holder.ip,
            detail: Detail::Holder { hardware: holder.hardware, quarantine, left },
            ..*decided
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_holder_is_told_of_once_for_each_lease() {
        let mut told = HoldersTold::default();
        let at = |seconds: u64| Moment::from_nanos(seconds * 1_000_000_000);
        let holder = |last: u8, ends| Holder {
            ip: Ipv4Addr::new(10, 1, 0, last),
            hardware: Hardware::ethernet([2, 0, 0, 0, 0, last]),
            state: LeaseState::Active,
            ends,
        };
        let waits = BootEvent::new(Kind::Offer, Hardware::default(), Ipv4Addr::new(10, 1, 4, 0));
        let first = holder(1, at(100));
        let event = told.event(&first, &waits, at(40)).unwrap();
        assert_eq!(event.address, first.ip);
        let left = Some(Duration::from_secs(60));
        let detail = Detail::Holder { hardware: first.hardware, quarantine: false, left };
        assert_eq!(event.detail, detail);
        assert_eq!(told.event(&first, &waits, at(41)), None);
        let endless = holder(2, Moment::NEVER);
        assert!(told.event(&endless, &waits, at(42)).is_some());
        assert_eq!(told.event(&endless, &waits, at(1_000_000)), None);
        // The same machine with another lease of it, after the first one ended.
        assert!(told.event(&holder(1, at(300)), &waits, at(200)).is_some());
        let offered = Holder { state: LeaseState::Offered, ..holder(3, at(300)) };
        assert_eq!(told.event(&offered, &waits, at(200)), None);
        // However many there are, memory is bounded.
        for last in 0..1000_u32 {
            let ip = Ipv4Addr::from(0x0a02_0000 + last);
            assert!(told.event(&Holder { ip, ..endless }, &waits, at(200)).is_some());
        }
        assert_eq!(told.0.len(), HoldersTold::LIMIT);
    }
}
