//! The model: everything the server is told, validated.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bootstorm_net::EngineChoice;
use bootstorm_protocols::dhcpv4::CLIENT_PORT;

use super::expression::Data;
use super::live::Naming;
use super::statement::{BlockKey, Statement};
use super::{
    AddressMap, ClassIndex, ClassTest, ClientMatch, Flags, HostName, Hosts, LeaseTime, OptionPath,
    Places, Prefix, Problem, Scope, ScopeId, Subclasses, Tftp, Use,
};

/// A whole configuration. Immutable: a reload makes another.
#[derive(Debug)]
pub struct Config {
    /// Interfaces, shards, privileges, place of the state.
    pub server: Server,
    /// Who gets which address, options and boot file.
    pub dhcp: Dhcp,
    /// The TFTP service; `None` when there is no `[tftp]` table, and no TFTP then.
    pub tftp: Option<Tftp>,
    /// Metrics and control.
    pub control: Control,
    /// What is logged, and how.
    pub log: Log,
    /// What can be used, and is perhaps not what is meant; what stands first of it.
    pub warnings: Vec<Problem>,
    /// How many more warnings there would be.
    pub more_warnings: usize,
    /// The files it was read from: the one named first, then what it includes.
    pub sources: Vec<PathBuf>,
    /// Names of hosts that were looked up for it.
    pub host_names: Vec<HostName>,
}

/// `[server]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Interfaces to serve; `None` is every interface with an IPv4 address.
    pub interfaces: Option<Vec<String>>,
    /// Where leases and the control socket live.
    pub state_dir: PathBuf,
    /// Number of shards, at least 1; `None` is one for each core the process may use.
    pub shards: Option<usize>,
    /// Which packet engine.
    pub engine: EngineChoice,
    /// Whether a shard keeps its core for a moment when a machine is about to answer.
    pub busy_poll: bool,
    /// The user to become once the sockets are open; `None` stays.
    pub user: Option<String>,
    /// The group to become; `None` is the user's own.
    pub group: Option<String>,
    /// Which foreign DHCP servers do not stop the first start.
    pub allow_other_servers: OtherServers,
    /// Where dhcpd keeps its leases, if this is a configuration of dhcpd's.
    pub lease_file: Option<PathBuf>,
}

/// `allow-other-servers` of `[server]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum OtherServers {
    /// None: a foreign OFFER at the first start ends it.
    #[default]
    None,
    /// All.
    All,
    /// Those with these server identifiers or source addresses.
    List(Vec<Ipv4Addr>),
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub(super) u32);

        impl $name {
            /// The id of a place in the list, from 0. Places beyond the list make lookups panic.
            pub const fn from_index(index: u32) -> Self {
                Self(index)
            }

            /// The place in the list, from 0.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// A place in [`Dhcp::networks`].
    NetworkId,
    /// A place in [`Dhcp::subnets`].
    SubnetId,
    /// A place in [`Dhcp::pools`].
    PoolId,
    /// A place in [`Dhcp::classes`].
    ClassId,
    /// A place in [`Dhcp::groups`].
    GroupId,
    /// A place in [`Dhcp::hosts`].
    HostId,
    /// A place in [`Dhcp::subclasses`].
    SubclassId,
    /// A place in [`Dhcp::spaces`].
    SpaceId,
    /// A place in [`Dhcp::variables`].
    VariableId,
}

/// `[dhcp]`. The lists never change once the model is built, and ids index them.
#[derive(Debug)]
pub struct Dhcp {
    /// Whose rules hold where servers differ.
    pub compatibility: Compatibility,
    /// What tells one machine from another.
    pub identity: Identity,
    /// How long an address that was offered waits for its REQUEST.
    pub offer_time: Duration,
    /// How long an address that a client declined is left alone.
    pub decline_time: Duration,
    /// The port of clients: 68, but for tests.
    pub client_port: u16,
    /// Where broadcasts go on the client's link.
    pub limited_broadcast: Ipv4Addr,
    /// Whether a DISCOVER that asks for it (RFC 4039) is answered with an ACK at once; right only
    /// where no other server answers as well.
    pub rapid_commit: bool,
    /// What holds for everybody.
    pub global: Scope,
    /// Shared networks; a subnet without one has a network of its own.
    pub networks: Vec<Network>,
    /// Subnets by rising address, the wider first. In a file of dhcpd's one may lie in another.
    pub subnets: Vec<Subnet>,
    /// Pools by rising address; no two overlap.
    pub pools: Vec<Pool>,
    /// The pools that are ranges of one, of each pool that was declared.
    pub declared_pools: Vec<Vec<PoolId>>,
    /// Which of them an address is of, and what it is used for otherwise.
    pub address_map: AddressMap,
    /// Classes in the order of the configuration.
    pub classes: Vec<Class>,
    /// Which of them are worth a look for a message.
    pub class_index: ClassIndex,
    /// Subclasses of classes.
    pub subclasses: Subclasses,
    /// Groups of hosts and of other scopes.
    pub groups: Vec<Group>,
    /// Known machines.
    pub hosts: Hosts,
    /// Addresses that no pool gives away because some scope names them as another machine's,
    /// rising; see [`AddressPlace::excluded`](super::AddressPlace::excluded).
    pub excluded: Vec<(Ipv4Addr, Use)>,
    /// Whether some expression asks for what relay agents say.
    pub(crate) asks_ports: bool,
    /// Whether what a client gets may depend on the port that its relay agent says: some host,
    /// class or boot rule names a circuit-id or remote-id, or an expression asks for it.
    pub goes_by_ports: bool,
    /// Which settings some scope sets, and which flags are the same for everybody.
    pub used: Used,
    /// Every `server-identifier`, rising.
    pub server_identifiers: Vec<Ipv4Addr>,
    /// Where everything stands in its file.
    pub places: Places,
    /// Option spaces whose options are sent.
    pub spaces: Vec<Space>,
    /// What runs when leases end, by rising key.
    pub(crate) blocks: Vec<(BlockKey, Box<[Statement]>)>,
    /// The names of the variables that statements set.
    pub variables: Vec<Box<str>>,
    /// Whether what a client gets may depend on more of its message than the rules below know: some
    /// scope has statements or values of option spaces.
    pub has_statements: bool,
    /// What hosts that are added later may name.
    pub(crate) naming: Arc<Naming>,
    /// Tells this model from every other, for what is kept under its ids.
    pub id: ModelId,
}

/// Which settings some scope sets: what none does is not looked for, nor what is the same for
/// everybody.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Used {
    /// Flags of which no scope but the global one says anything, and what they are.
    pub same_flags: Flags,
    /// Settings with one value: bit n is that of the n-th [`Parameter`](super::Parameter).
    pub parameters: u64,
    /// Whether the date decides: who may use a pool, or when leases end.
    pub dates: bool,
}

/// Tells a model from every other of this process.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ModelId(u64);

impl ModelId {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// `compatibility` of `[dhcp]`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Compatibility {
    /// This server's.
    #[default]
    None,
    /// Those of ISC dhcpd 4.4.
    Dhcpd,
}

/// `identity` of `[dhcp]`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Identity {
    /// The hardware address: firmware, iPXE and installer are one machine, whatever client
    /// identifiers they send.
    #[default]
    Hardware,
    /// The client identifier if there is one (RFC 2131, section 4.2).
    ClientId,
    /// The same; but a client that had its address without one goes on with it when it sends one.
    /// So it is in ISC dhcpd.
    ClientIdOrHardware,
}

/// Subnets on one link, between which a client may be placed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Network {
    /// `None` for the network of a single subnet without `shared-network`.
    pub name: Option<String>,
    /// What holds in all its subnets.
    pub scope: Scope,
    /// The groups that it stands in, the innermost first.
    pub groups: Box<[GroupId]>,
    /// Its subnets by rising address.
    pub subnets: Vec<SubnetId>,
    /// The one of them that stands first in the configuration.
    pub first_subnet: Option<SubnetId>,
    /// The one of their pools that stands first in the configuration.
    pub first_pool: Option<PoolId>,
}

/// `[[dhcp.subnet]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subnet {
    /// The link it is on.
    pub network: NetworkId,
    /// Its addresses, but for those of subnets that lie in it.
    pub prefix: Prefix,
    /// The narrowest subnet that it lies in.
    pub around: Option<SubnetId>,
    /// What holds in it.
    pub scope: Scope,
    /// The groups that it stands in inside its network, the innermost first.
    pub groups: Box<[GroupId]>,
    /// Its pools by rising address.
    pub pools: Vec<PoolId>,
}

/// Addresses to give to machines that have none of their own: one range of a declared pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// The declared pool: an index of [`Dhcp::declared_pools`].
    pub declared: usize,
    /// The subnet that holds it.
    pub subnet: SubnetId,
    /// First and last address, both included.
    pub range: (Ipv4Addr, Ipv4Addr),
    /// What holds for clients with an address of it.
    pub scope: Scope,
    /// The groups that it stands in inside its subnet, the innermost first.
    pub groups: Box<[GroupId]>,
    /// Who may use it; empty is everybody.
    pub allow: Vec<Permit>,
    /// Who may not, whatever `allow` says.
    pub deny: Vec<Permit>,
    /// Only members of this class may use it.
    pub class: Option<ClassId>,
}

/// One entry of `allow` or `deny`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Permit {
    /// Everybody.
    All,
    /// Machines with a `[[dhcp.host]]`.
    Known,
    /// Machines without.
    Unknown,
    /// Machines that speak BOOTP (RFC 951), not DHCP.
    Bootp,
    /// Members of the class.
    Member(ClassId),
    /// Everybody from a time on, in seconds since 1970; and nobody before, where it is allowed.
    After(u64),
}

/// `[[dhcp.class]]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Class {
    /// Its name, unique.
    pub name: String,
    /// Conditions in the words of boot rules; without any, nobody is a member by them.
    pub matches: ClientMatch,
    /// A condition in dhcpd's language, which must hold as well.
    pub test: Option<ClassTest>,
    /// How its subclasses are told apart, if it may have any.
    pub(crate) submatch: Option<Submatch>,
    /// What holds for members.
    pub scope: Scope,
    /// The scopes that it stands in, the innermost first, without the global one. They hold for
    /// members as well.
    pub within: Box<[ScopeId]>,
    /// How many leases its members may have at one time; of a class with `spawn`, those of each of
    /// its subclasses.
    pub lease_limit: Option<u32>,
}

/// What makes a client a member of a subclass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Submatch {
    /// Its value names the subclass. Where it is null or empty, the class itself is looked at.
    pub(crate) expression: Data,
    /// A value without a subclass makes one (`spawn with`); else the client is no member.
    pub(crate) spawn: bool,
}

/// A part of a class: the members for which the expression of the class has one value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subclass {
    /// The class that it is of.
    pub class: ClassId,
    /// The value.
    pub value: Box<[u8]>,
    /// What holds for them. It lies inside the scope of the class.
    pub scope: Scope,
    /// How many leases they may have at one time.
    pub lease_limit: Option<u32>,
}

/// Options with codes of their own, which travel inside other options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Space {
    /// Its name, unique.
    pub name: Box<str>,
    /// Bytes of a code, of which there may be 1, 2 or 4.
    pub code_width: u8,
    /// Bytes of a length: 0, 1 or 2.
    pub length_width: u8,
    /// What it travels in.
    pub carrier: Carrier,
}

/// What an option space travels in.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Carrier {
    /// This option.
    Option(u8),
    /// Option 43, where `vendor-option-space` names the space.
    Vendor,
    /// Option 125 (RFC 3925), under this enterprise number.
    Enterprise(u32),
}

/// `[[dhcp.group]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// `None` when its hosts stand inside it.
    pub name: Option<String>,
    /// What holds for its hosts and for the scopes inside it.
    pub scope: Scope,
    /// The scopes that it stands in, the innermost first, without the global one.
    pub within: Box<[ScopeId]>,
}

/// `[[dhcp.host]]`: a machine that is known, before it is one of [`Hosts`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Its name, unique.
    pub name: Arc<str>,
    /// What identifies it; any one of them is enough.
    pub keys: Vec<HostKey>,
    /// Its addresses, one for each network; none means that it takes one from a pool. Of several in
    /// one network the first is the host's, and the others are nobody's.
    pub ips: Vec<Ipv4Addr>,
    /// The group it belongs to.
    pub group: Option<GroupId>,
    /// What holds for it.
    pub scope: Scope,
}

/// What identifies a host.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum HostKey<B = Box<[u8]>> {
    /// `chaddr`, 1 to 16 bytes.
    Hardware(B),
    /// Option 97, in the byte order of its text.
    Uuid([u8; 16]),
    /// Option 61, whole, with its type octet.
    ClientId(B),
    /// Option 82: the port and the switch it is plugged into. Where both are given, both must
    /// match.
    Circuit {
        /// Sub-option 1.
        circuit_id: Option<B>,
        /// Sub-option 2.
        remote_id: Option<B>,
    },
    /// An option, or one that travels in another.
    Option {
        /// Which.
        path: OptionPath,
        /// Its value.
        value: B,
    },
}

/// `[control]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Control {
    /// Where metrics are served by HTTP; `None` is nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where OMAPI is spoken; `None` is nowhere.
    pub omapi: Option<Omapi>,
}

/// `omapi` and `omapi-key` of `[control]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Omapi {
    /// Where it listens.
    pub address: SocketAddr,
    /// What messages are signed with; without a key everybody may change hosts.
    pub key: Option<OmapiKey>,
}

/// `omapi-key` of `[control]`
#[derive(Clone, PartialEq, Eq)]
pub struct OmapiKey {
    /// Its name.
    pub name: String,
    /// How messages are signed.
    pub algorithm: OmapiAlgorithm,
    /// What makes the signature; never shown.
    pub secret: Box<[u8]>,
}

impl std::fmt::Debug for OmapiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, algorithm, .. } = self;
        f.debug_struct("OmapiKey").field("name", name).field("algorithm", algorithm).finish()
    }
}

/// How messages of OMAPI are signed.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names of hashes")]
pub enum OmapiAlgorithm {
    #[default]
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl OmapiAlgorithm {
    /// All of them, by the names that dhcpd has for them.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("hmac-md5", Self::Md5),
        ("hmac-sha1", Self::Sha1),
        ("hmac-sha224", Self::Sha224),
        ("hmac-sha256", Self::Sha256),
        ("hmac-sha384", Self::Sha384),
        ("hmac-sha512", Self::Sha512),
    ];
}

/// `[log]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Log {
    /// The least important level that is written.
    pub level: LogLevel,
    /// Lines for people or for programs.
    pub format: LogFormat,
}

/// `level` of `[log]`.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum LogLevel {
    /// Only what needs a person.
    Error,
    /// And what may soon.
    Warn,
    /// And one line for each boot event.
    #[default]
    Info,
    /// And why each decision was taken.
    Debug,
    /// And everything else.
    Trace,
}

/// `format` of `[log]`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// One line of text for each event.
    #[default]
    Human,
    /// One JSON object for each event.
    Json,
}

impl Dhcp {
    /// Whether the rules of ISC dhcpd hold where servers differ.
    pub fn is_as_dhcpd(&self) -> bool {
        self.compatibility == Compatibility::Dhcpd
    }

    /// Lease time where no scope sets one.
    pub const DEFAULT_LEASE_TIME: LeaseTime = LeaseTime::from_seconds(3600);

    /// The same by the rules of ISC dhcpd, and its limits.
    pub(crate) const DHCPD_LEASE_TIME: LeaseTime = LeaseTime::from_seconds(43_200);
    pub(crate) const DHCPD_MAX_LEASE_TIME: LeaseTime = LeaseTime::from_seconds(86_400);
    pub(crate) const DHCPD_MIN_LEASE_TIME: LeaseTime = LeaseTime::from_seconds(300);

    /// How long an echo reply is waited for where `ping-check` says no time.
    pub const PING_WAIT: Duration = Duration::from_millis(500);
}

impl Default for Server {
    fn default() -> Self {
        Self {
            interfaces: None,
            state_dir: PathBuf::from("/var/lib/bootstorm"),
            shards: None,
            engine: EngineChoice::default(),
            busy_poll: true,
            user: None,
            group: None,
            allow_other_servers: OtherServers::default(),
            lease_file: None,
        }
    }
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            compatibility: Compatibility::default(),
            identity: Identity::default(),
            offer_time: Duration::from_secs(60),
            // Long enough to find the intruder, short enough for a pool that is nearly full.
            decline_time: Duration::from_secs(15 * 60),
            client_port: CLIENT_PORT,
            limited_broadcast: Ipv4Addr::BROADCAST,
            rapid_commit: false,
            global: Scope::default(),
            networks: Vec::new(),
            subnets: Vec::new(),
            pools: Vec::new(),
            declared_pools: Vec::new(),
            address_map: AddressMap::default(),
            classes: Vec::new(),
            class_index: ClassIndex::default(),
            subclasses: Subclasses::default(),
            groups: Vec::new(),
            hosts: Hosts::default(),
            excluded: Vec::new(),
            asks_ports: false,
            goes_by_ports: false,
            used: Used::default(),
            server_identifiers: Vec::new(),
            places: Places::default(),
            spaces: Vec::new(),
            blocks: Vec::new(),
            variables: Vec::new(),
            has_statements: false,
            naming: Arc::default(),
            id: ModelId::next(),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { metrics: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9547))), omapi: None }
    }
}
