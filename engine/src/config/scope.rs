//! Scopes: what may be set for everybody, a network, a subnet, a pool, a class, a group or a host,
//! and which of them wins.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::option_set::OptionView;
use super::statement::{self, Action, Statement};
use super::{
    ClassId, GroupId, HostId, NetworkId, OptionSet, PoolId, Settings, SpaceId, SubclassId, SubnetId,
};

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
/// [`super::ScopeChain`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Scope {
    /// Options to send when the client asks for them.
    pub options: OptionSet,
    /// `None` where nothing is set but options, as for most of a million hosts.
    rest: Option<Box<Rest>>,
}

// Each host with an option of its own has one.
const _: () = assert!(size_of::<Scope>() <= 32);

/// What a scope has beside options of the message.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Rest {
    settings: Settings<'static>,
    /// Options that travel inside others, by space.
    spaces: Box<[SpaceOptions]>,
    /// What depends on the message. They run in this order.
    statements: Box<[Statement]>,
}

/// Options of one space, by rising code.
pub(crate) type SpaceOptions = (SpaceId, Box<[(u32, Box<[u8]>)]>);

/// What one level says, whether it was read when the configuration was loaded or worked out for a
/// message.
#[derive(Copy, Clone, Debug)]
pub struct ScopeView<'c> {
    /// Its options.
    pub options: OptionView<'c>,
    settings: Option<&'c Settings<'c>>,
    /// An option that is not sent, whatever wider levels say.
    without: Option<u8>,
}

impl<'c> ScopeView<'c> {
    /// Options and nothing else.
    pub(super) fn of_options(options: OptionView<'c>) -> Self {
        Self { options, settings: None, without: None }
    }

    /// Settings and nothing else.
    pub(super) fn of_settings(settings: &'c Settings<'c>) -> Self {
        Self { options: OptionView::NONE, settings: Some(settings), without: None }
    }

    /// An option is not sent.
    pub(super) fn of_nothing(code: u8) -> Self {
        Self { options: OptionView::NONE, settings: None, without: Some(code) }
    }

    /// The option that is not sent, whatever wider levels say.
    pub fn without(&self) -> Option<u8> {
        self.without
    }

    /// What is set beside options.
    pub fn settings(&self) -> &'c Settings<'c> {
        self.settings.unwrap_or(NO_SETTINGS)
    }

    /// The same; `None` where nothing is.
    pub(super) fn any_settings(&self) -> Option<&'c Settings<'c>> {
        self.settings
    }
}

static NO_SETTINGS: &Settings<'static> = &Settings::NONE;

impl Scope {
    pub(super) fn new(
        options: OptionSet,
        settings: Settings<'static>,
        spaces: Box<[SpaceOptions]>,
        statements: Box<[Statement]>,
    ) -> Self {
        let rest = Rest { settings, spaces, statements };
        Self { options, rest: (rest != Rest::default()).then(|| Box::new(rest)) }
    }

    /// The same to be changed. What stays empty costs its box.
    pub(super) fn settings_mut(&mut self) -> &mut Settings<'static> {
        &mut self.rest.get_or_insert_default().settings
    }

    /// The scope without its statements, and these.
    pub(super) fn into_parts(mut self) -> (Self, Box<[Statement]>) {
        let Some(rest) = &mut self.rest else { return (self, Box::default()) };
        let statements = std::mem::take(&mut rest.statements);
        self.rest = self.rest.filter(|rest| **rest != Rest::default());
        (self, statements)
    }

    /// What is set beside options.
    pub fn settings(&self) -> &Settings<'static> {
        self.rest.as_deref().map_or(NO_SETTINGS, |rest| &rest.settings)
    }

    /// What does not depend on a message.
    pub fn view(&self) -> ScopeView<'_> {
        let settings = self.rest.as_deref().map(|rest| &rest.settings);
        ScopeView { options: self.options.view(), settings, without: None }
    }

    /// Whether what it says depends on the message or on other levels.
    pub(crate) fn is_dynamic(&self) -> bool {
        let rest = self.rest.as_deref();
        rest.is_some_and(|rest| !rest.statements.is_empty() || !rest.spaces.is_empty())
    }

    /// Options that travel inside others.
    pub(crate) fn spaces(&self) -> &[SpaceOptions] {
        self.rest.as_deref().map_or(&[], |rest| &rest.spaces)
    }

    /// What depends on the message.
    pub(crate) fn statements(&self) -> &[Statement] {
        self.rest.as_deref().map_or(&[], |rest| &rest.statements)
    }

    /// What its statements set that does not depend on a message, wherever in them it stands.
    pub(super) fn fixed(&self) -> Vec<&Self> {
        let mut fixed = Vec::new();
        statement::each(self.statements(), &mut |statement| {
            if let Action::Fixed(scope, _) = &statement.action {
                fixed.push(scope);
            }
        });
        fixed
    }

    /// What its statements set to one value, or make longer by one, wherever in them it stands.
    pub(super) fn constants(&self) -> Vec<(statement::Key, &[u8])> {
        let mut constants = Vec::new();
        statement::each(self.statements(), &mut |statement| {
            constants.extend(statement.constant());
        });
        constants
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.options.is_empty() && self.rest.is_none()
    }
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
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
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
    /// A subclass of a class.
    Subclass(SubclassId),
    /// `[[dhcp.group]]`
    Group(GroupId),
    /// `[[dhcp.host]]`
    Host(HostId),
}
