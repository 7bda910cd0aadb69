//! Addresses that no pool gives away, because something else has them.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::options;

use super::statement::Key;
use super::{Dhcp, Parameter, Scope};

/// What an address is used for that no pool gives away.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Use {
    /// `server-identifier` of a scope.
    ServerIdentifier,
    /// Option 3 of a scope.
    Router,
    /// `next-server` of a scope or of a boot rule.
    NextServer,
    /// Option 28 of a scope.
    Broadcast,
}

impl Use {
    /// A few words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServerIdentifier => "a server-identifier",
            Self::Router => "a router",
            Self::NextServer => "a next-server",
            Self::Broadcast => "a broadcast-address",
        }
    }
}

/// What the addresses are used for that a key names.
fn use_of(key: Key) -> Option<Use> {
    match key {
        Key::Option(options::ROUTERS) => Some(Use::Router),
        Key::Option(options::BROADCAST_ADDRESS) => Some(Use::Broadcast),
        Key::Parameter(Parameter::NextServer) => Some(Use::NextServer),
        Key::Parameter(Parameter::ServerIdentifier) => Some(Use::ServerIdentifier),
        _ => None,
    }
}

/// The addresses that one scope names as those of other machines.
fn named(scope: &Scope) -> Vec<(Ipv4Addr, Use)> {
    let settings = scope.settings();
    let rules = settings.boot.iter().filter_map(|rule| rule.next_server);
    let next = settings.next_server.into_iter().chain(rules);
    let identifier = settings.server_identifier.map(|address| (address, Use::ServerIdentifier));
    let mut all: Vec<_> = identifier.into_iter().collect();
    all.extend(next.map(|address| (address, Use::NextServer)));
    let codes = [options::ROUTERS, options::BROADCAST_ADDRESS];
    let values =
        codes.iter().filter_map(|&code| Some((Key::Option(code), scope.options.get(code)?)));
    // What statements set, or put before or behind other values, whatever the message.
    for (key, value) in values.chain(scope.constants()) {
        let addresses = value.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets));
        if let Some(used) = use_of(key) {
            all.extend(addresses.map(|address| (address, used)));
        }
    }
    all
}

/// The addresses of routers that a scope names, whatever the message.
pub(super) fn routers(scope: &Scope) -> impl Iterator<Item = Ipv4Addr> {
    let all = named(scope).into_iter();
    all.filter_map(|(address, used)| (used == Use::Router).then_some(address))
}

impl Dhcp {
    /// Every scope, and what statements in them set that does not depend on a message.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.levels().flat_map(|scope| std::iter::once(scope).chain(scope.fixed()))
    }

    /// Every scope; what several hosts say alike is one.
    pub(super) fn levels(&self) -> impl Iterator<Item = &Scope> {
        std::iter::once(&self.global)
            .chain(self.networks.iter().map(|network| &network.scope))
            .chain(self.subnets.iter().map(|subnet| &subnet.scope))
            .chain(self.pools.iter().map(|pool| &pool.scope))
            .chain(self.classes.iter().map(|class| &class.scope))
            .chain(self.subclasses.iter().map(|subclass| &subclass.scope))
            .chain(self.groups.iter().map(|group| &group.scope))
            .chain(self.hosts.scopes())
    }

    /// What no pool gives away of the addresses that some scope names; by rising address, each
    /// with its first use.
    pub(super) fn find_excluded(&self) -> Vec<(Ipv4Addr, Use)> {
        let mut excluded: Vec<_> = self.scopes().flat_map(named).collect();
        excluded.retain(|&(address, _)| self.search_subnet(address).is_some());
        excluded.sort_unstable();
        excluded.dedup_by_key(|(address, _)| *address);
        excluded
    }

    /// What an address is used for, of what [`Dhcp::find_excluded`] found.
    pub(super) fn search_excluded(&self, address: Ipv4Addr) -> Option<Use> {
        let place = self.excluded.binary_search_by_key(&address, |(address, _)| *address).ok()?;
        Some(self.excluded[place].1)
    }

    /// The addresses that lie in pools and are given to nobody, by rising address, and what each is
    /// used for. `own` are the addresses of this host.
    pub fn left_out(&self, own: &[Ipv4Addr]) -> Vec<(Ipv4Addr, &'static str)> {
        let own = own.iter().map(|&address| (address, "this host"));
        let named = self.excluded.iter().map(|&(address, what)| (address, what.name()));
        let mut all: Vec<_> = own.chain(named).collect();
        all.retain(|&(address, _)| {
            self.pool_of(address).is_some() && self.host_by_ip(address).is_none()
        });
        all.sort_by_key(|(address, _)| *address);
        all.dedup_by_key(|(address, _)| *address);
        all
    }
}
