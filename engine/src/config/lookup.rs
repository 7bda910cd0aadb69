//! Finding things in the model: by address with binary search, by what identifies a host by hash.

use std::net::Ipv4Addr;

use bumpalo::Bump;

use super::prefix::is_unicast;
use super::run::Run;
use super::statement::{self, Action};
use super::{
    AddressPlace, Asked, BlockKey, Class, ClassId, ClientMatch, Dhcp, Facts, Flag, Flags, Group,
    GroupId, HostId, HostKey, HostView, Key, Network, NetworkId, Parameter, Permit, Pool, PoolId,
    Scope, ScopeId, Subclass, SubclassId, Subnet, SubnetId, Used,
};

/// Host ids under one key, in the order of the configuration.
pub type HostIds<'c> = &'c [HostId];

impl Dhcp {
    /// What statements of a block ask for, for a lease that has ended; `None` if the configuration
    /// has the block no more.
    pub(crate) fn run_block<'c>(
        &'c self,
        key: BlockKey,
        facts: &impl Facts<'c>,
        arena: &'c Bump,
    ) -> Option<Asked<'c>> {
        let place = self.blocks.binary_search_by_key(&key, |(own, _)| *own).ok()?;
        Some(Run::one(self, &self.blocks[place].1, facts, arena))
    }

    /// Whether anything is done when leases end.
    pub(crate) fn has_ends(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// The network of an id of this model. Ids of another model may panic here and below.
    pub fn network(&self, id: NetworkId) -> &Network {
        &self.networks[id.index()]
    }

    /// The subnet of an id.
    pub fn subnet(&self, id: SubnetId) -> &Subnet {
        &self.subnets[id.index()]
    }

    /// The pool of an id.
    pub fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[id.index()]
    }

    /// All ranges of the pool that was declared with this one, which is among them.
    pub(crate) fn ranges_with(&self, id: PoolId) -> &[PoolId] {
        &self.declared_pools[self.pool(id).declared]
    }

    /// The class of an id.
    pub fn class(&self, id: ClassId) -> &Class {
        &self.classes[id.index()]
    }

    /// The ids of all classes, in the order of the configuration.
    pub fn class_ids(&self) -> impl Iterator<Item = ClassId> + use<> {
        (0..u32::try_from(self.classes.len()).unwrap_or(u32::MAX)).map(ClassId)
    }

    /// The group of an id.
    pub fn group(&self, id: GroupId) -> &Group {
        &self.groups[id.index()]
    }

    /// The subclass of an id.
    pub fn subclass(&self, id: SubclassId) -> &Subclass {
        self.subclasses.get(id)
    }

    /// What a level says.
    pub fn scope(&self, id: ScopeId) -> &Scope {
        match id {
            ScopeId::Global => &self.global,
            ScopeId::Network(id) => &self.network(id).scope,
            ScopeId::Subnet(id) => &self.subnet(id).scope,
            ScopeId::Pool(id) => &self.pool(id).scope,
            ScopeId::Class(id) => &self.class(id).scope,
            ScopeId::Subclass(id) => &self.subclass(id).scope,
            ScopeId::Group(id) => &self.group(id).scope,
            ScopeId::Host(id) => self.host(id).scope().unwrap_or(self.hosts.no_scope()),
        }
    }

    /// The host of an id.
    pub fn host(&self, id: HostId) -> HostView<'_> {
        self.hosts.get(id)
    }

    /// The subnet and the pool that hold `address`, and what it is used for otherwise.
    pub fn place_of(&self, address: Ipv4Addr) -> AddressPlace {
        self.address_map.get(address)
    }

    /// The subnet that holds `address`.
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<SubnetId> {
        self.place_of(address).subnet
    }

    /// The same, of the subnets that are there while the model is made.
    pub(super) fn search_subnet(&self, address: Ipv4Addr) -> Option<SubnetId> {
        let after = self.subnets.partition_point(|subnet| subnet.prefix.network() <= address);
        let mut id = SubnetId(u32::try_from(after.checked_sub(1)?).ok()?);
        loop {
            let subnet = self.subnet(id);
            if subnet.prefix.contains(address) {
                return Some(id);
            }
            id = subnet.around?;
        }
    }

    /// Whether a machine can have `address`: it is unicast, and neither first nor last of a subnet.
    pub fn is_host(&self, address: Ipv4Addr) -> bool {
        self.subnet_of_host(address).is_some()
    }

    /// The subnet that holds an address, if any does; `None` for one that no machine can have.
    pub(crate) fn subnet_of_host(&self, address: Ipv4Addr) -> Option<Option<SubnetId>> {
        if !is_unicast(address) {
            return None;
        }
        let subnet = self.subnet_of(address);
        let within = |id| {
            let (least, most) = self.subnet(id).prefix.hosts();
            (least..=most).contains(&address)
        };
        subnet.is_none_or(within).then_some(subnet)
    }

    /// The pool that holds `address`.
    pub fn pool_of(&self, address: Ipv4Addr) -> Option<PoolId> {
        self.place_of(address).pool
    }

    /// The same, of the pools that are there while the model is made.
    pub(super) fn search_pool(&self, address: Ipv4Addr) -> Option<PoolId> {
        let after = self.pools.partition_point(|pool| pool.range.0 <= address);
        let index = after.checked_sub(1)?;
        let id = PoolId(u32::try_from(index).ok()?);
        (address <= self.pools[index].range.1).then_some(id)
    }

    /// Hosts with this hardware address: several when a machine stands in several networks.
    pub fn hosts_by_hardware(&self, chaddr: &[u8]) -> HostIds<'_> {
        self.hosts.by_hardware(chaddr)
    }

    /// Hosts with this UUID (option 97), in the byte order of its text.
    pub fn hosts_by_uuid(&self, uuid: &[u8; 16]) -> HostIds<'_> {
        self.hosts.by_uuid(uuid)
    }

    /// Hosts with this client identifier (option 61).
    pub fn hosts_by_client_id(&self, client_id: &[u8]) -> HostIds<'_> {
        self.hosts.by_client_id(client_id)
    }

    /// Hosts that name the switch of the relay agent's message (option 82), and no port of it.
    pub(crate) fn hosts_at_switch(
        &self,
        remote_id: Option<&[u8]>,
    ) -> impl Iterator<Item = HostId> + use<'_> {
        let hosts = remote_id.map_or(&[][..], |bytes| self.hosts.by_remote_id(bytes));
        hosts.iter().copied()
    }

    /// Hosts that name the port of the relay agent's message (option 82).
    pub(crate) fn hosts_at_port<'c>(
        &'c self,
        circuit_id: Option<&[u8]>,
        remote_id: Option<&'c [u8]>,
    ) -> impl Iterator<Item = HostId> + use<'c> {
        let exact = circuit_id.map_or(&[][..], |bytes| self.hosts.by_circuit_id(bytes));
        let agrees = move |id: &HostId| {
            self.host(*id).keys().any(|key| match key {
                HostKey::Circuit { circuit_id: Some(_), remote_id: Some(wanted) } => {
                    remote_id == Some(wanted)
                }
                HostKey::Circuit { circuit_id: Some(_), remote_id: None } => true,
                _ => false,
            })
        };
        exact.iter().copied().filter(agrees)
    }

    /// Finds out what some scope, class or host makes use of; all are known.
    pub(super) fn note_what_is_used(&mut self) {
        self.goes_by_ports = self.asks_ports || self.names_ports();
        self.used = self.used_settings();
        let has_statements = self.scopes().any(Scope::is_dynamic);
        self.has_statements = has_statements;
    }

    /// Whether some host, class or boot rule names a port.
    fn names_ports(&self) -> bool {
        let rules = self.scopes().flat_map(|scope| &scope.settings().boot);
        let classes = self.classes.iter().map(|class| &class.matches);
        let mut conditions = rules.map(|rule| &rule.matches).chain(classes);
        self.hosts.name_ports() || conditions.any(ClientMatch::names_ports)
    }

    /// What a flag is for every client and every address, if no scope but the global one says
    /// anything of it.
    pub(crate) fn same_for_all(&self, flag: Flag) -> Option<bool> {
        self.used.same_flags.get(flag)
    }

    /// Of how many classes a machine may be a member: ISC dhcpd knows five of a message.
    pub(crate) fn most_classes(&self) -> usize {
        if self.is_as_dhcpd() { 5 } else { usize::MAX }
    }

    /// Whether any scope has a setting with one value that is no flag.
    pub(crate) fn uses(&self, parameter: Parameter) -> bool {
        self.used.parameters & parameter.bit() != 0
    }

    /// See [`Dhcp::used`].
    fn used_settings(&self) -> Used {
        let (mut parameters, mut differing) = (0, Flags::NONE);
        for scope in self.scopes() {
            parameters |= scope.settings().parameters();
            if !std::ptr::eq(scope, &self.global) {
                differing.join(scope.settings().flags);
            }
        }
        let after = |permit: &Permit| matches!(permit, Permit::After(_));
        let dated = |pool: &Pool| pool.allow.iter().chain(&pool.deny).any(after);
        let dates = self.pools.iter().any(dated);
        for scope in self.levels() {
            statement::each(scope.statements(), &mut |statement| match statement.action {
                Action::Assign(_, Key::Parameter(Parameter::Flag(flag)), _) => {
                    differing.set(flag, true);
                }
                Action::Assign(_, Key::Parameter(other), _) => parameters |= other.bit(),
                _ => {}
            });
        }
        let mut same_flags = Flags::NONE;
        for flag in Flag::ALL.into_iter().filter(|flag| differing.get(*flag).is_none()) {
            let global = self.global.settings().flags.get(flag);
            same_flags.set(flag, global.unwrap_or(flag.by_default()));
        }
        let dates = dates || parameters & Parameter::BootpLeaseCutoff.bit() != 0;
        Used { same_flags, parameters, dates }
    }

    /// The host that owns `address`; nobody else is ever given it.
    pub fn host_by_ip(&self, address: Ipv4Addr) -> Option<HostId> {
        self.hosts.by_ip(address)
    }

    /// The host of that name.
    pub fn host_by_name(&self, name: &str) -> Option<HostId> {
        self.hosts.by_name(name)
    }

    /// The address of a host in a network.
    pub fn host_address(&self, host: HostId, network: NetworkId) -> Option<Ipv4Addr> {
        self.host(host).ips().iter().copied().find(|&ip| {
            self.subnet_of(ip).is_some_and(|subnet| self.subnet(subnet).network == network)
        })
    }
}
