//! The model: everything the server is told, validated.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bootstorm_net::EngineChoice;

use super::problem::At;
use super::{ClassIndex, ClassTest, ClientMatch, Hosts, LeaseTime, Prefix, Problem, Scope, Use};
use crate::quirks::Quirks;

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
}

/// `[dhcp]`. The lists never change once the model is built, and ids index them.
#[derive(Debug)]
pub struct Dhcp {
    /// Whether this server may say NAK to clients it does not know.
    pub authoritative: bool,
    /// What tells one machine from another.
    pub identity: Identity,
    /// Whether a machine without a `[[dhcp.host]]` gets an answer.
    pub unknown_clients: UnknownClients,
    /// How long an address that was offered waits for its REQUEST.
    pub offer_time: Duration,
    /// How long an address that a client declined is left alone.
    pub decline_time: Duration,
    /// How long to wait for an echo reply before an address is offered; `None` does not ask.
    pub ping_check: Option<Duration>,
    /// Whether a DISCOVER that asks for it (RFC 4039) is answered with an ACK at once; right only
    /// where no other server answers as well.
    pub rapid_commit: bool,
    /// What holds for everybody.
    pub global: Scope,
    /// Shared networks; a subnet without one has a network of its own.
    pub networks: Vec<Network>,
    /// Subnets by rising address; no two overlap.
    pub subnets: Vec<Subnet>,
    /// Pools by rising address; no two overlap.
    pub pools: Vec<Pool>,
    /// Classes in the order of the configuration.
    pub classes: Vec<Class>,
    /// Which of them are worth a look for a message.
    pub class_index: ClassIndex,
    /// Groups of hosts.
    pub groups: Vec<Group>,
    /// Known machines.
    pub hosts: Hosts,
    /// Addresses that no pool gives away because some scope names them as another machine's,
    /// rising; see [`Dhcp::excluded`].
    pub excluded: Vec<(Ipv4Addr, Use)>,
    /// Whether what a client gets may depend on the port that its relay agent says: some host,
    /// class or boot rule names a circuit-id or remote-id.
    pub goes_by_ports: bool,
    /// Every `server-identifier`, rising.
    pub server_identifiers: Vec<Ipv4Addr>,
    /// Tells this model from every other, for what is kept under its ids.
    pub id: ModelId,
}

/// Tells a model from every other of this process.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ModelId(u64);

impl ModelId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
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
}

/// `unknown-clients` of `[dhcp]`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum UnknownClients {
    /// They get addresses from pools that allow them.
    #[default]
    Allow,
    /// They are not answered.
    Ignore,
}

/// Subnets on one link, between which a client may be placed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// `None` for the network of a single subnet without `shared-network`.
    pub name: Option<String>,
    /// What holds in all its subnets.
    pub scope: Scope,
    /// Its subnets by rising address.
    pub subnets: Vec<SubnetId>,
}

/// `[[dhcp.subnet]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subnet {
    /// The link it is on.
    pub network: NetworkId,
    /// Its addresses.
    pub prefix: Prefix,
    /// What holds in it.
    pub scope: Scope,
    /// Its pools by rising address.
    pub pools: Vec<PoolId>,
}

/// Addresses to give to machines that have none of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// The subnet that holds it.
    pub subnet: SubnetId,
    /// First and last address, both included.
    pub range: (Ipv4Addr, Ipv4Addr),
    /// What holds for clients with an address of it.
    pub scope: Scope,
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
}

/// `[[dhcp.class]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Class {
    /// Its name, unique.
    pub name: String,
    /// Conditions in the words of boot rules; without any, nobody is a member by them.
    pub matches: ClientMatch,
    /// A condition in dhcpd's language, which must hold as well.
    pub test: Option<ClassTest>,
    /// What holds for members.
    pub scope: Scope,
}

/// `[[dhcp.group]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// `None` when its hosts stand inside it.
    pub name: Option<String>,
    /// What holds for its hosts.
    pub scope: Scope,
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
}

/// `multicast` of `[tftp]`
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Multicast {
    /// Each stream has a group of these.
    pub groups: Prefix,
    /// The port that blocks are sent to.
    pub port: u16,
    /// Routers that a block may pass, and one more.
    pub ttl: u8,
}

/// What clients may write.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum UploadMode {
    /// Nothing.
    #[default]
    Off,
    /// Files of new names.
    Create,
    /// Files of new names, and in the place of others.
    Overwrite,
}

/// `[tftp]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tftp {
    /// The directory that no request leaves.
    pub root: PathBuf,
    /// Whether clients may write.
    pub upload: UploadMode,
    /// The largest blksize to agree to (RFC 2348), 8 to 65464.
    pub max_blksize: u16,
    /// The largest windowsize to agree to (RFC 7440), 1 to 65535; above 32767 it counts as 32767.
    pub max_windowsize: u16,
    /// Whether a client that lost much of its last transfer is granted a smaller window.
    pub adaptive_windowsize: bool,
    /// Streams that many clients share (RFC 2090); `None` sends to each client by itself.
    pub multicast: Option<Multicast>,
    /// Whether a blksize is cut to the path's MTU.
    pub clamp_to_mtu: bool,
    /// Transfers at one time, over all shards.
    pub max_transfers: u32,
    /// Transfers that run at one time for one client address, over all shards.
    pub max_transfers_per_client: u32,
    /// Ports to send from, first and last; `None` takes what the kernel gives.
    pub port_range: Option<(u16, u16)>,
    /// Whether all answers leave from the port that was asked.
    pub single_port: bool,
    /// How file names are rewritten, in order.
    pub map: Vec<MapRule>,
    /// Whether a name that does not exist finds one that differs in case only.
    pub case_insensitive: bool,
    /// Bytes of memory for framed images, over all shards.
    pub image_budget: u64,
    /// Bytes a second of one transfer at most.
    pub client_rate: Option<u64>,
    /// Bytes a second that all transfers of an interface may take, headers included: of the one
    /// named, or of each that is not.
    pub interface_rates: Vec<(Option<String>, u64)>,
    /// How long to wait for an ACK before anything is known of the round trip.
    pub timeout: Duration,
    /// The shortest time before an unanswered packet is sent again, at most `timeout`.
    pub min_retry: Duration,
    /// Retransmissions of one window before a transfer is given up.
    pub retries: u32,
    /// Known faults of firmware, and what machines that have them are granted.
    pub quirks: Quirks,
}

/// One line of a map file: an operation, a pattern, a replacement. What they mean is told by the
/// TFTP service, which compiles them. File names are bytes, so both may be no UTF-8.
#[derive(Clone, Debug)]
pub struct MapRule {
    /// The letters of the operation, as tftpd-hpa has them: `r`, `rg`, `ri`, `a`, ...
    pub operation: String,
    /// A regular expression.
    pub pattern: Vec<u8>,
    /// What replaces the match; empty where the operation needs none.
    pub replacement: Vec<u8>,
    pub(super) at: Option<At>,
}

impl MapRule {
    /// A rule that stands in no file.
    pub fn new(
        operation: String,
        pattern: impl Into<Vec<u8>>,
        replacement: impl Into<Vec<u8>>,
    ) -> Self {
        let (pattern, replacement) = (pattern.into(), replacement.into());
        Self { operation, pattern, replacement, at: None }
    }

    /// What is wrong with this rule, to be shown with the line it stands in.
    pub fn problem(&self, message: String) -> Problem {
        Problem::new(message, self.at.clone())
    }
}

impl PartialEq for MapRule {
    /// Rules are equal that do the same, wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        self.operation == other.operation
            && self.pattern == other.pattern
            && self.replacement == other.replacement
    }
}

impl Eq for MapRule {}

/// `[control]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Control {
    /// Where metrics are served by HTTP; `None` is nowhere.
    pub metrics: Option<SocketAddr>,
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
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
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
    /// Lease time where no scope sets one.
    pub const DEFAULT_LEASE_TIME: LeaseTime = LeaseTime::from_seconds(3600);

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
        }
    }
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            authoritative: false,
            identity: Identity::default(),
            unknown_clients: UnknownClients::default(),
            offer_time: Duration::from_secs(60),
            // Long enough to find the intruder, short enough for a pool that is nearly full.
            decline_time: Duration::from_secs(15 * 60),
            ping_check: None,
            rapid_commit: false,
            global: Scope::default(),
            networks: Vec::new(),
            subnets: Vec::new(),
            pools: Vec::new(),
            classes: Vec::new(),
            class_index: ClassIndex::default(),
            groups: Vec::new(),
            hosts: Hosts::default(),
            excluded: Vec::new(),
            goes_by_ports: false,
            server_identifiers: Vec::new(),
            id: ModelId::next(),
        }
    }
}

impl Tftp {
    /// Bytes a second that the transfers of an interface may take.
    pub fn rate_of(&self, interface: &str) -> Option<u64> {
        let of = |wanted: Option<&str>| {
            let mut rates = self.interface_rates.iter().rev();
            rates.find(|(name, _)| name.as_deref() == wanted).map(|(_, rate)| *rate)
        };
        of(Some(interface)).or_else(|| of(None))
    }

    /// The service of `root` with every other key at its default.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            upload: UploadMode::Off,
            max_blksize: 65464,
            max_windowsize: 64,
            adaptive_windowsize: true,
            multicast: None,
            clamp_to_mtu: true,
            max_transfers: 16_384,
            max_transfers_per_client: 256,
            port_range: None,
            single_port: false,
            map: Vec::new(),
            case_insensitive: false,
            image_budget: 512 << 20,
            client_rate: None,
            interface_rates: Vec::new(),
            timeout: Duration::from_secs(1),
            min_retry: Duration::from_millis(200),
            retries: 10,
            quirks: Quirks::default(),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { metrics: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9547))) }
    }
}
