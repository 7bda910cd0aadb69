//! Scopes: what may be set for everybody, a network, a subnet, a pool, a class, a group or a host,
//! and which of them wins.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{ClassId, Dhcp, GroupId, HostId, NetworkId, OptionSet, PoolId, SubnetId};

/// A lease time as the wire has it: whole seconds, or infinite (RFC 2131, section 3.3).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseTime(u32);

impl LeaseTime {
    /// The lease that never ends, 0xffffffff on the wire. It is greater than every other.
    pub const INFINITE: Self = Self(u32::MAX);

    /// A lease time of that many seconds; `u32::MAX` is [`LeaseTime::INFINITE`].
    pub const fn from_seconds(seconds: u32) -> Self {
        Self(seconds)
    }

    /// Seconds as options 51, 58 and 59 carry them; `u32::MAX` for an infinite lease.
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// Whether the lease never ends.
    pub const fn is_infinite(self) -> bool {
        self.0 == u32::MAX
    }

    /// How long the lease runs; `None` when it never ends.
    pub fn duration(self) -> Option<Duration> {
        (!self.is_infinite()).then(|| Duration::from_secs(u64::from(self.0)))
    }
}

/// What every level of the configuration may set. Narrower levels win, key by key: see
/// [`ScopeChain`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Scope {
    /// Options to send when the client asks for them.
    pub options: OptionSet,
    /// `None` where nothing is set but options, as for most of a million hosts.
    settings: Option<Box<Settings>>,
}

// Each host with an option of its own has one.
const _: () = assert!(size_of::<Scope>() <= 32);

impl Scope {
    pub(super) fn new(options: OptionSet, settings: Settings) -> Self {
        let settings = (settings != Settings::NONE).then(|| Box::new(settings));
        Self { options, settings }
    }

    /// What is set beside options.
    pub fn settings(&self) -> &Settings {
        static NONE: Settings = Settings::NONE;
        self.settings.as_deref().unwrap_or(&NONE)
    }
}

/// What every level may set beside options.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    /// Codes to send whether the client asks or not; the levels add up.
    pub always_send: Vec<u8>,
    /// Which boot file a machine gets; the first rule that matches decides.
    pub boot: Vec<BootRule>,
    /// The lease a client gets that names no wish of its own.
    pub lease_time: Option<LeaseTime>,
    /// A client's wish (option 51) is raised to this.
    pub min_lease_time: Option<LeaseTime>,
    /// A client's wish (option 51) is cut to this.
    pub max_lease_time: Option<LeaseTime>,
    /// The TFTP server of the next stage (`siaddr`, option 66); default is this server.
    pub next_server: Option<Ipv4Addr>,
    /// The address at which clients reach this server (option 54); default is the one that the
    /// request came to.
    pub server_identifier: Option<Ipv4Addr>,
    /// The text for `sname`, at most 63 bytes.
    pub server_name: Option<Box<[u8]>>,
    /// Whether a host gets the name of its entry as option 12 where no level has one.
    pub use_host_decl_names: Option<bool>,
    /// The least time between a request and its reply; default is none.
    pub reply_delay: Option<Duration>,
}

impl Settings {
    /// Nothing is set.
    const NONE: Self = Self {
        always_send: Vec::new(),
        boot: Vec::new(),
        lease_time: None,
        min_lease_time: None,
        max_lease_time: None,
        next_server: None,
        server_identifier: None,
        server_name: None,
        use_host_decl_names: None,
        reply_delay: None,
    };
}

/// One line of `boot`: if the client matches, this is what it boots.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BootRule {
    /// Who is meant; a rule without conditions matches everybody.
    pub matches: ClientMatch,
    /// What it gets.
    pub file: BootFile,
    /// Where from, if the rule says other than its scope.
    pub next_server: Option<Ipv4Addr>,
}

/// What a boot rule sends. The bytes are as written, without a closing NUL.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum BootFile {
    /// `file = "none"`: no boot file at all.
    None,
    /// A path for TFTP. Longer than 127 bytes it fits option 67 only.
    File(Box<[u8]>),
    /// A URL for firmware or iPXE that fetches by HTTP.
    Url(Box<[u8]>),
}

/// Conditions on a client, of a boot rule or a class. Every kind that has entries must match, and
/// matches if one of its entries does.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ClientMatch {
    /// Equal to a user class of the client (option 77, raw or by RFC 3004).
    pub user_class: Vec<Box<[u8]>>,
    /// The beginning of the client's vendor class (option 60): `PXEClient` matches
    /// `PXEClient:Arch:00007:UNDI:003016`.
    pub vendor_class: Vec<Box<[u8]>>,
    /// Processor and firmware (option 93, RFC 4578): the codes of the names and numbers given.
    pub arch: Vec<u16>,
    /// The beginning of `chaddr`, 1 to 16 bytes.
    pub mac_prefix: Vec<Box<[u8]>>,
    /// The machine's UUID (option 97) in the byte order of its text.
    pub uuid: Vec<[u8; 16]>,
    /// Equal to the relay agent's circuit-id (option 82, sub-option 1).
    pub circuit_id: Vec<Box<[u8]>>,
    /// Equal to the relay agent's remote-id (option 82, sub-option 2).
    pub remote_id: Vec<Box<[u8]>>,
    /// The client is a member of the class. Always empty in the conditions of a class.
    pub class: Vec<ClassId>,
}

impl ClientMatch {
    /// Whether there is no condition, so that everybody matches.
    pub fn is_empty(&self) -> bool {
        let Self { user_class, vendor_class, arch, mac_prefix, uuid, circuit_id, remote_id, class } =
            self;
        user_class.is_empty()
            && vendor_class.is_empty()
            && arch.is_empty()
            && mac_prefix.is_empty()
            && uuid.is_empty()
            && circuit_id.is_empty()
            && remote_id.is_empty()
            && class.is_empty()
    }

    /// Whether it depends on what a relay agent says of the client's port.
    pub(super) fn names_ports(&self) -> bool {
        !self.circuit_id.is_empty() || !self.remote_id.is_empty()
    }
}

/// One level of the configuration, to say where a value came from.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum ScopeId {
    /// `[dhcp]`
    Global,
    /// `[[dhcp.shared-network]]`
    Network(NetworkId),
    /// `[[dhcp.subnet]]`
    Subnet(SubnetId),
    /// A pool of a subnet.
    Pool(PoolId),
    /// `[[dhcp.class]]`
    Class(ClassId),
    /// `[[dhcp.group]]`
    Group(GroupId),
    /// `[[dhcp.host]]`
    Host(HostId),
}

/// The levels that hold for one client, of which the narrowest that says something wins:
/// global, shared network, subnet, pool, class, group, host. Among classes the first wins.
#[derive(Copy, Clone, Debug)]
pub struct ScopeChain<'c> {
    dhcp: &'c Dhcp,
    host: Option<HostId>,
    host_scope: Option<&'c Scope>,
    group: Option<(GroupId, &'c Scope)>,
    classes: &'c [ClassId],
    pool: Option<(PoolId, &'c Scope)>,
    subnet: Option<(SubnetId, &'c Scope)>,
    network: Option<(NetworkId, &'c Scope)>,
}

impl<'c> ScopeChain<'c> {
    /// The chain of a client in `subnet` and `pool`, member of `classes` in the order of the
    /// configuration, known as `host`. The subnet brings its network, the host its group.
    pub fn new(
        dhcp: &'c Dhcp,
        subnet: Option<SubnetId>,
        pool: Option<PoolId>,
        classes: &'c [ClassId],
        host: Option<HostId>,
    ) -> Self {
        let entry = host.map(|id| dhcp.host(id));
        let network = subnet.map(|id| dhcp.subnet(id).network);
        Self {
            dhcp,
            host,
            host_scope: entry.and_then(|entry| entry.scope()),
            group: entry.and_then(|entry| entry.group()).map(|id| (id, &dhcp.group(id).scope)),
            classes,
            pool: pool.map(|id| (id, &dhcp.pool(id).scope)),
            subnet: subnet.map(|id| (id, &dhcp.subnet(id).scope)),
            network: network.map(|id| (id, &dhcp.network(id).scope)),
        }
    }

    /// The configuration that the levels are of.
    pub fn dhcp(&self) -> &'c Dhcp {
        self.dhcp
    }

    /// The subnet.
    pub fn subnet(&self) -> Option<SubnetId> {
        self.subnet.map(|(id, _)| id)
    }

    /// The pool.
    pub fn pool(&self) -> Option<PoolId> {
        self.pool.map(|(id, _)| id)
    }

    /// The classes, in the order of the configuration.
    pub fn classes(&self) -> &'c [ClassId] {
        self.classes
    }

    /// The group of the host.
    pub fn group(&self) -> Option<GroupId> {
        self.group.map(|(id, _)| id)
    }

    /// What is said of the host and of nobody else.
    pub fn host_scope(&self) -> Option<&'c Scope> {
        self.host_scope
    }

    /// What `found` finds first, from the narrowest level on. Level by level, not by a chain of
    /// iterators, which takes several times as long: each reply asks a dozen times.
    pub fn find<T>(&self, mut found: impl FnMut(ScopeId, &'c Scope) -> Option<T>) -> Option<T> {
        if let Some((id, scope)) = self.host.zip(self.host_scope)
            && let Some(value) = found(ScopeId::Host(id), scope)
        {
            return Some(value);
        }
        if let Some((id, scope)) = self.group
            && let Some(value) = found(ScopeId::Group(id), scope)
        {
            return Some(value);
        }
        for &id in self.classes {
            if let Some(value) = found(ScopeId::Class(id), &self.dhcp.class(id).scope) {
                return Some(value);
            }
        }
        if let Some((id, scope)) = self.pool
            && let Some(value) = found(ScopeId::Pool(id), scope)
        {
            return Some(value);
        }
        if let Some((id, scope)) = self.subnet
            && let Some(value) = found(ScopeId::Subnet(id), scope)
        {
            return Some(value);
        }
        if let Some((id, scope)) = self.network
            && let Some(value) = found(ScopeId::Network(id), scope)
        {
            return Some(value);
        }
        found(ScopeId::Global, &self.dhcp.global)
    }

    /// Calls `each` with every level, the narrowest first.
    pub fn for_each(&self, mut each: impl FnMut(ScopeId, &'c Scope)) {
        self.find(|id, scope| {
            each(id, scope);
            None::<()>
        });
    }

    /// The value of option `code` and the level it comes from.
    pub fn option(&self, code: u8) -> Option<(&'c [u8], ScopeId)> {
        self.first(|scope| scope.options.get(code))
    }

    /// The lease time for a client without a wish; see [`Settings::lease_time`].
    pub fn lease_time(&self) -> LeaseTime {
        self.setting(|settings| settings.lease_time).unwrap_or(Dhcp::DEFAULT_LEASE_TIME)
    }

    /// The lease time for a client that asks for `wish` (option 51): its wish within
    /// `min-lease-time` and `max-lease-time`, which both are `lease-time` unless they are set.
    pub fn lease_time_for(&self, wish: LeaseTime) -> LeaseTime {
        let usual = self.lease_time();
        let least = self.setting(|settings| settings.min_lease_time).unwrap_or(usual);
        let most = self.setting(|settings| settings.max_lease_time).unwrap_or(usual);
        wish.max(least).min(most)
    }

    /// The TFTP server of the next stage, if the configuration names one.
    pub fn next_server(&self) -> Option<Ipv4Addr> {
        self.setting(|settings| settings.next_server)
    }

    /// The address at which clients reach this server, if the configuration sets one.
    pub fn server_identifier(&self) -> Option<Ipv4Addr> {
        self.setting(|settings| settings.server_identifier)
    }

    /// The text for `sname`, if the configuration has one.
    pub fn server_name(&self) -> Option<&'c [u8]> {
        self.setting(|settings| settings.server_name.as_deref())
    }

    /// The name of the client's `[[dhcp.host]]` where `use-host-decl-names` has it sent.
    pub fn host_decl_name(&self) -> Option<(&'c [u8], ScopeId)> {
        let id = self.host?;
        let wanted = self.setting(|settings| settings.use_host_decl_names) == Some(true);
        wanted.then(|| (self.dhcp.host(id).name().as_bytes(), ScopeId::Host(id)))
    }

    /// The least time between a request and its reply.
    pub fn reply_delay(&self) -> Duration {
        self.setting(|settings| settings.reply_delay).unwrap_or_default()
    }

    /// Whether some level sends option `code` to clients that did not ask for it.
    pub fn always_sends(&self, code: u8) -> bool {
        self.setting(|settings| settings.always_send.contains(&code).then_some(())).is_some()
    }

    /// The narrowest boot rule that `matches` says is the client's, and its level.
    pub fn boot_rule(
        &self,
        mut matches: impl FnMut(&'c BootRule) -> bool,
    ) -> Option<(&'c BootRule, ScopeId)> {
        self.first(|scope| scope.settings().boot.iter().find(|rule| matches(rule)))
    }

    /// What the narrowest level says that says anything.
    fn first<T>(&self, mut get: impl FnMut(&'c Scope) -> Option<T>) -> Option<(T, ScopeId)> {
        self.find(|id, scope| get(scope).map(|value| (value, id)))
    }

    /// The same of what is set beside options, without the level.
    fn setting<T>(&self, mut get: impl FnMut(&'c Settings) -> Option<T>) -> Option<T> {
        self.find(|_, scope| get(scope.settings.as_deref()?))
    }
}
