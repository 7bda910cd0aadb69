//! Finding things in the model: by address with binary search, by what identifies a host by hash.

use std::net::Ipv4Addr;

use bumpalo::Bump;

use super::prefix::is_unicast;
use super::run::Run;
use super::statement::{self, Action};
use super::{
    Asked, BlockKey, Class, ClassId, ClientMatch, Dhcp, Facts, Group, GroupId, HostId, HostKey,
    HostView, Key, Network, NetworkId, Parameter, Permit, Pool, PoolId, Scope, ScopeId, Subclass,
    SubclassId, Subnet, SubnetId, Used,
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

    /// The subnet that holds `address`.
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<SubnetId> {
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
        let within = |id| {
            let (least, most) = self.subnet(id).prefix.hosts();
            (least..=most).contains(&address)
        };
        is_unicast(address) && self.subnet_of(address).is_none_or(within)
    }

    /// The pool that holds `address`.
    pub fn pool_of(&self, address: Ipv4Addr) -> Option<PoolId> {
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

    /// Hosts plugged in where the relay agent (option 82) says.
    pub fn hosts_by_circuit<'c>(
        &'c self,
        circuit_id: Option<&[u8]>,
        remote_id: Option<&'c [u8]>,
    ) -> impl Iterator<Item = HostId> + use<'c> {
        let exact = circuit_id.map_or(&[][..], |bytes| self.hosts.by_circuit_id(bytes));
        let switch = remote_id.map_or(&[][..], |bytes| self.hosts.by_remote_id(bytes));
        let agrees = move |id: &HostId| {
            self.host(*id).keys().any(|key| match key {
                HostKey::Circuit { circuit_id: Some(_), remote_id: Some(wanted) } => {
                    remote_id == Some(wanted)
                }
                HostKey::Circuit { circuit_id: Some(_), remote_id: None } => true,
                _ => false,
            })
        };
        exact.iter().copied().filter(agrees).chain(switch.iter().copied())
    }

    /// See [`Dhcp::goes_by_ports`].
    pub(super) fn names_ports(&self) -> bool {
        let rules = self.scopes().flat_map(|scope| &scope.settings().boot);
        let classes = self.classes.iter().map(|class| &class.matches);
        let mut conditions = rules.map(|rule| &rule.matches).chain(classes);
        let mut tests = self.classes.iter().filter_map(|class| class.test.as_ref());
        self.hosts.name_ports()
            || conditions.any(ClientMatch::names_ports)
            || tests.any(|test| test.names_ports)
    }

    /// See [`Dhcp::used`].
    pub(super) fn used_settings(&self) -> Used {
        let mut used = Used::default();
        for settings in self.scopes().map(Scope::settings) {
            used.flags.join(settings.flags);
            used.parameters |= settings.parameters();
        }
        let after = |permit: &Permit| matches!(permit, Permit::After(_));
        let dated = |pool: &Pool| pool.allow.iter().chain(&pool.deny).any(after);
        used.dates = self.pools.iter().any(dated);
        for scope in self.levels() {
            statement::each(scope.statements(), &mut |statement| match statement.action {
                Action::Assign(_, Key::Parameter(Parameter::Flag(flag)), _) => {
                    used.flags.set(flag, true);
                }
                Action::Assign(_, Key::Parameter(other), _) => used.parameters |= other.bit(),
                _ => {}
            });
        }
        used.dates |= used.parameters & Parameter::BootpLeaseCutoff.bit() != 0;
        used
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
