//! Which machine holds which address, by the ACKs that machines received.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::time::Moment;
use foldhash::HashMap;

use crate::firmware::ClientId;

#[derive(Copy, Clone, Debug)]
struct Lease {
    machine: u32,
    /// How the machine identified itself.
    client_id: ClientId,
    until: Moment,
}

/// Addresses and their holders.
#[derive(Debug, Default)]
pub(super) struct Holders {
    by_address: HashMap<Ipv4Addr, Lease>,
    by_machine: HashMap<u32, Ipv4Addr>,
    declined: HashMap<Ipv4Addr, Moment>,
}

impl Holders {
    /// Gives an address to a machine; its last one is free then, as it uses one at a time. Returns
    /// the machine that holds it already: from then on both do, and the newcomer is remembered.
    pub(super) fn give(
        &mut self,
        address: Ipv4Addr,
        machine: u32,
        client_id: ClientId,
        until: Moment,
        now: Moment,
    ) -> Option<u32> {
        let other = self.other_holder(address, machine, now);
        if let Some(old) = self.by_machine.insert(machine, address)
            && old != address
        {
            self.forget(old, machine);
        }
        self.by_address.insert(address, Lease { machine, client_id, until });
        other
    }

    /// Another machine whose lease of the address has not run out.
    pub(super) fn other_holder(&self, address: Ipv4Addr, machine: u32, now: Moment) -> Option<u32> {
        let lease = self.by_address.get(&address)?;
        (lease.machine != machine && lease.until > now).then_some(lease.machine)
    }

    /// Whether the machine's lease of the address has not run out.
    pub(super) fn holds(&self, address: Ipv4Addr, machine: u32, now: Moment) -> bool {
        let lease = self.by_address.get(&address);
        lease.is_some_and(|lease| lease.machine == machine && lease.until > now)
    }

    /// Another address that the machine has a lease of, and how it identified itself then.
    pub(super) fn other_lease(
        &self,
        address: Ipv4Addr,
        machine: u32,
        now: Moment,
    ) -> Option<(Ipv4Addr, ClientId)> {
        let held = *self.by_machine.get(&machine).filter(|held| **held != address)?;
        let lease = self.by_address.get(&held)?;
        (lease.machine == machine && lease.until > now).then_some((held, lease.client_id))
    }

    /// Machines and the addresses that they hold, by machine.
    pub(super) fn leases(&self) -> Vec<(u32, Ipv4Addr)> {
        let mut all: Vec<_> = self.by_machine.iter().map(|(&m, &address)| (m, address)).collect();
        all.sort_unstable();
        all
    }

    /// The last machine that got the address.
    pub(super) fn holder(&self, address: Ipv4Addr) -> Option<u32> {
        self.by_address.get(&address).map(|lease| lease.machine)
    }

    pub(super) fn release(&mut self, address: Ipv4Addr, machine: u32) {
        self.by_machine.remove(&machine);
        self.forget(address, machine);
    }

    pub(super) fn decline(&mut self, address: Ipv4Addr, machine: u32, now: Moment) {
        self.release(address, machine);
        self.declined.insert(address, now);
    }

    pub(super) fn declined_since(&self, address: Ipv4Addr, now: Moment, span: Duration) -> bool {
        self.declined.get(&address).is_some_and(|at| now.since(*at) < span)
    }

    fn forget(&mut self, address: Ipv4Addr, machine: u32) {
        if self.by_address.get(&address).is_some_and(|lease| lease.machine == machine) {
            self.by_address.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn an_address_is_held_until_its_lease_ends() {
        let mut holders = Holders::default();
        assert_eq!(holders.give(A, 1, ClientId::None, at(60), at(0)), None);
        assert_eq!(holders.give(A, 1, ClientId::None, at(90), at(30)), None);
        assert_eq!(holders.other_holder(A, 2, at(89)), Some(1));
        assert_eq!(holders.give(A, 2, ClientId::None, at(200), at(90)), None);
        assert_eq!(holders.holder(A), Some(2));
    }

    #[test]
    fn a_machine_that_moves_or_releases_leaves_its_address_free() {
        let mut holders = Holders::default();
        holders.give(A, 1, ClientId::None, at(60), at(0));
        holders.give(B, 1, ClientId::None, at(60), at(1));
        assert_eq!(holders.give(A, 2, ClientId::None, at(60), at(2)), None);
        assert_eq!(holders.give(B, 2, ClientId::None, at(60), at(2)), Some(1));
        // Its own old lease of A went; what the other holds is not touched by a late release.
        holders.release(B, 1);
        assert_eq!(holders.holder(B), Some(2));
    }

    #[test]
    fn a_declined_address_is_remembered() {
        let mut holders = Holders::default();
        holders.give(A, 1, ClientId::None, at(60), at(0));
        holders.decline(A, 1, at(5));
        assert_eq!(holders.holder(A), None);
        assert!(holders.declined_since(A, at(10), Duration::from_secs(60)));
        assert!(!holders.declined_since(A, at(65), Duration::from_secs(60)));
    }
}
