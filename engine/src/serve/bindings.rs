//! Which sockets are bound to interfaces and addresses of this host, and what has to be opened and
//! closed when these change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use bootstorm_protocols::time::Moment;

use crate::config::{Config, Tftp};
use crate::interfaces::Interfaces;
use crate::shard::Binding;

/// Addresses of this host with data sockets of their own. Others are served as well, by sockets
/// for any address, at a little more of the kernel's time.
const BOUND_ADDRESSES: usize = 8;
/// How long the data sockets of an address that is gone are kept. An address often comes back at
/// once, as when a bridge is rebuilt, and then the transfers go on.
const ADDRESS_GRACE: Duration = Duration::from_secs(30);

/// The bindings that are open.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Bindings {
    open: BTreeSet<Binding>,
    /// Interfaces whose sockets could not be opened, and why.
    failed: BTreeMap<u32, String>,
    /// Since when addresses with data sockets are gone.
    gone: BTreeMap<IpAddr, Moment>,
}

/// What has to change so that the bindings fit the interfaces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Plan {
    /// Indexes of interfaces whose sockets are to be opened.
    pub(super) interfaces: Vec<u32>,
    /// Addresses whose data sockets are to be opened.
    pub(super) addresses: Vec<IpAddr>,
    /// What is to be closed.
    pub(super) close: Vec<Binding>,
}

/// What is bound to at all.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Scope {
    /// Requests come in by sockets of single interfaces: the configuration has a list of them.
    by_interface: bool,
    /// Transfers may have data sockets that are bound to an address.
    by_address: bool,
}

impl Scope {
    /// The scope of a server that starts with `config`.
    pub(super) fn of(config: &Config) -> Self {
        // A range of ports may be just large enough for the sockets for any address.
        let own_ports = |tftp: &Tftp| tftp.port_range.is_none() && !tftp.single_port;
        let by_address = config.tftp.as_ref().is_some_and(own_ports);
        Self { by_interface: config.server.interfaces.is_some(), by_address }
    }
}

impl Bindings {
    /// Compares the bindings with the interfaces as they are. Interfaces are known by their index:
    /// one that was made again is another one, and one that was renamed is the same.
    pub(super) fn plan(&self, scope: Scope, interfaces: &Interfaces, now: Moment) -> Plan {
        let mut plan = Plan::default();
        let served = interfaces.served();
        if scope.by_interface {
            let indexes = served.iter().map(|interface| interface.index);
            plan.interfaces =
                indexes.filter(|index| !self.open.contains(&Binding::Interface(*index))).collect();
        }
        if scope.by_address {
            let bound = self.open.iter().filter(|each| matches!(each, Binding::Address(_))).count();
            plan.addresses = served
                .iter()
                .flat_map(|interface| &interface.addresses)
                .map(|&address| address.into())
                .filter(|&address| !self.open.contains(&Binding::Address(address)))
                .take(BOUND_ADDRESSES.saturating_sub(bound))
                .collect();
        }
        let stale = |binding: &&Binding| match **binding {
            Binding::Host => false,
            Binding::Interface(index) => served.iter().all(|interface| interface.index != index),
            Binding::Address(address) => {
                self.gone.get(&address).is_some_and(|since| now >= *since + ADDRESS_GRACE)
            }
        };
        plan.close = self.open.iter().filter(stale).copied().collect();
        plan
    }

    /// Sockets were opened.
    pub(super) fn opened(&mut self, binding: Binding) {
        self.open.insert(binding);
        if let Binding::Interface(index) = binding {
            self.failed.remove(&index);
        }
    }

    /// The sockets of an interface could not be opened. Returns whether that is news.
    pub(super) fn failed(&mut self, index: u32, why: String) -> bool {
        self.failed.insert(index, why.clone()) != Some(why)
    }

    /// Sockets were closed.
    pub(super) fn closed(&mut self, bindings: &[Binding]) {
        self.open.retain(|binding| !bindings.contains(binding));
        self.gone.retain(|address, _| self.open.contains(&Binding::Address(*address)));
    }

    /// Notes which addresses are gone since when, and forgets failures of interfaces that are.
    pub(super) fn note(&mut self, interfaces: &Interfaces, now: Moment) {
        let own = interfaces.addresses();
        let is_here = |address| matches!(address, IpAddr::V4(address) if own.contains(&address));
        for binding in &self.open {
            match *binding {
                Binding::Address(address) if is_here(address) => {
                    self.gone.remove(&address);
                }
                Binding::Address(address) => {
                    self.gone.entry(address).or_insert(now);
                }
                Binding::Host | Binding::Interface(_) => {}
            }
        }
        self.failed.retain(|index, _| interfaces.get(*index).is_some_and(|each| each.served));
    }

    /// Why the sockets of an interface are not open.
    pub(super) fn failure(&self, index: u32) -> Option<&str> {
        self.failed.get(&index).map(String::as_str)
    }

    /// Whether something is to be tried or closed later, though no interface changes.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.failed.is_empty() || !self.gone.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::interfaces::Interface;

    const ALL: Scope = Scope { by_interface: true, by_address: true };

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    /// Served interfaces, each with an index and the last bytes of its addresses.
    fn host(interfaces: &[(u32, &[u8])]) -> Interfaces {
        Interfaces::of(interfaces.iter().map(|(index, addresses)| Interface {
            addresses: addresses.iter().map(|&last| Ipv4Addr::new(10, 0, 0, last)).collect(),
            served: true,
            ..Interface::unknown(*index)
        }))
    }

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    /// Carries a plan out, and returns it.
    fn follow(bindings: &mut Bindings, interfaces: &Interfaces, now: Moment) -> Plan {
        bindings.note(interfaces, now);
        let plan = bindings.plan(ALL, interfaces, now);
        plan.interfaces.iter().for_each(|&index| bindings.opened(Binding::Interface(index)));
        plan.addresses.iter().for_each(|&address| bindings.opened(Binding::Address(address)));
        bindings.closed(&plan.close);
        plan
    }

    #[test]
    fn an_interface_that_is_made_again_is_bound_again() {
        let mut bindings = Bindings::default();
        let plan = follow(&mut bindings, &host(&[(2, &[1]), (3, &[])]), at(0));
        assert_eq!((plan.interfaces, plan.addresses), (vec![2, 3], vec![address(1)]));
        assert_eq!(follow(&mut bindings, &host(&[(2, &[1]), (3, &[])]), at(1)), Plan::default());
        let plan = follow(&mut bindings, &host(&[(3, &[])]), at(2));
        assert_eq!((plan.interfaces, plan.close), (vec![], vec![Binding::Interface(2)]));
        let plan = follow(&mut bindings, &host(&[(3, &[]), (7, &[1])]), at(3));
        assert_eq!((plan.interfaces, plan.addresses, plan.close), (vec![7], vec![], vec![]));
        assert!(!bindings.is_unsettled());
    }

    #[test]
    fn an_address_that_comes_back_soon_keeps_its_sockets() {
        let mut bindings = Bindings::default();
        follow(&mut bindings, &host(&[(2, &[1])]), at(0));
        assert_eq!(follow(&mut bindings, &host(&[(2, &[])]), at(1)), Plan::default());
        assert!(bindings.is_unsettled());
        assert_eq!(follow(&mut bindings, &host(&[(2, &[1])]), at(29)), Plan::default());
        assert_eq!(follow(&mut bindings, &host(&[(2, &[])]), at(40)), Plan::default());
        let plan = follow(&mut bindings, &host(&[(2, &[5])]), at(69));
        assert_eq!((plan.addresses, plan.close), (vec![address(5)], vec![]));
        let plan = follow(&mut bindings, &host(&[(2, &[5])]), at(70));
        assert_eq!(plan.close, [Binding::Address(address(1))]);
        assert!(!bindings.is_unsettled());
    }

    #[test]
    fn so_many_addresses_have_sockets_of_their_own_and_no_more() {
        let mut bindings = Bindings::default();
        let plan = follow(&mut bindings, &host(&[(2, &[1, 2, 3, 4, 5, 6, 7, 8, 9])]), at(0));
        assert_eq!(plan.addresses.len(), BOUND_ADDRESSES);
        let only_last = host(&[(2, &[9])]);
        assert!(follow(&mut bindings, &only_last, at(1)).addresses.is_empty());
        assert_eq!(follow(&mut bindings, &only_last, at(31)).close.len(), BOUND_ADDRESSES);
        assert_eq!(follow(&mut bindings, &only_last, at(32)).addresses, [address(9)]);
    }

    #[test]
    fn a_failure_is_news_once_and_tried_again() {
        let mut bindings = Bindings::default();
        let here = host(&[(2, &[])]);
        assert!(bindings.failed(2, "port in use".to_owned()));
        assert!(!bindings.failed(2, "port in use".to_owned()));
        assert!(bindings.is_unsettled());
        assert_eq!(bindings.plan(ALL, &here, at(0)).interfaces, [2]);
        assert_eq!(bindings.failure(2), Some("port in use"));
        bindings.note(&host(&[]), at(1));
        assert_eq!((bindings.failure(2), bindings.is_unsettled()), (None, false));
    }

    #[test]
    fn one_socket_for_all_interfaces_is_bound_to_none() {
        let scope = Scope { by_interface: false, by_address: false };
        let plan = Bindings::default().plan(scope, &host(&[(2, &[1])]), at(0));
        assert_eq!(plan, Plan::default());
    }
}
