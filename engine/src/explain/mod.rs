//! Why a machine gets the answer that it gets: the plan of the rules in words.
//!
//! `asked` is the question and makes the message, `make` has the rules plan it and puts down what
//! they found out, `words` names things as the configuration does, `text` prints it. Nothing here
//! decides anything, and nothing is changed.

mod asked;
mod make;
mod reply;
mod stored;
#[cfg(test)]
mod tests;
mod text;
pub(crate) mod words;

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

pub use asked::Asked;
pub use make::Subject;
pub use stored::stored;

/// Classes that a client is no member of and that are named, at most.
const CLASSES: usize = 64;
/// Branches of statements that are named, at most.
const BRANCHES: usize = 256;

/// Why a machine gets the answer that it gets. Fields without a value are left out of the JSON;
/// later versions may add fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Explanation {
    /// The configuration that it is by.
    pub config: String,
    /// Whose leases these are.
    pub leases: LeasesFrom,
    /// What was received.
    pub request: RequestPart,
    /// What is answered.
    pub answer: AnswerPart,
    /// The client's link; absent where none was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkPart>,
    /// What the machine is told apart by: `hardware`, `client-id`, `uuid` or `circuit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Classes in the order of the configuration: all that the client is a member of, and the first
    /// of the others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassPart>,
    /// How many more classes there are of which the client is no member.
    #[serde(skip_serializing_if = "is_default")]
    pub more_classes: usize,
    /// Branches of statements in the order in which they run, those that are taken and those that
    /// are not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<BranchPart>,
    /// How many more branches there are.
    #[serde(skip_serializing_if = "is_default")]
    pub more_branches: usize,
    /// Host entries that the machine is known by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostPart>,
    /// What the client has or had, on any link.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldPart>,
    /// The address that it gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<AddressPart>,
    /// The pools of its network in the order in which they are tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolPart>,
    /// How many pools there are in other networks.
    #[serde(skip_serializing_if = "is_default")]
    pub pools_elsewhere: usize,
    /// The lease time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_time: Option<LeaseTimePart>,
    /// What it boots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootPart>,
    /// The options of the reply, in its order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionPart>,
    /// Options that the configuration has for the client and that are not sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unsent: Vec<UnsentPart>,
    /// Programs that are run: when the reply leaves or, of an ACK, when the lease is durable.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<String>,
    /// The reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyPart>,
}

/// Whether a value says nothing, so that it is left out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whose leases it was planned on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeasesFrom {
    /// Those of the running server.
    #[default]
    Server,
    /// Those in the state directory; no server runs.
    Store,
    /// There are none: no server ever ran on the state directory.
    None,
}

/// A level of the configuration, or what stands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Source {
    /// As the configuration names it: `subnet 10.1.0.0/16`, `class "uefi"`; `server` for what the
    /// server makes, `client` for what the client sent.
    pub name: String,
    /// File and line, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// The message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct RequestPart {
    /// When it was received: RFC 3339, UTC. Absent for one that was only described.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<String>,
    /// `DISCOVER`, `REQUEST`, ..., `BOOTP`.
    pub message: String,
    /// Hardware address.
    pub mac: String,
    /// Name of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// giaddr.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<Ipv4Addr>,
    /// ciaddr.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ciaddr: Option<Ipv4Addr>,
    /// The firmware that it is of: `PXE`, `HTTP boot`, `iPXE`; absent for what is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// Its options.
    pub options: Vec<ValuePart>,
}

/// An option with its value as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ValuePart {
    /// Its code.
    pub code: u8,
    /// Its name in dhcpd.conf; empty for one without.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AnswerPart {
    /// `offer`, `ack`, `nak`, `boot-reply`, `silence`, or `none` where no answer is wanted.
    pub kind: String,
    /// Why there is no answer, or a NAK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What happens before it is sent: the address is pinged, the lease written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Which link a client is on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct LinkPart {
    /// What named it: `interface`, `relay`, `link-selection`, `subnet-selection` or `ciaddr`.
    pub by: String,
    /// The address that named it.
    pub address: Option<Ipv4Addr>,
    /// The subnet that holds the address.
    pub subnet: Source,
    /// The shared network, if the subnet is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Source>,
}

/// A class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ClassPart {
    /// Its name.
    pub class: Source,
    /// Whether the client is a member of it.
    pub member: bool,
    /// Why, or why not.
    pub why: String,
    /// The limit of its members' leases that counts for the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitPart>,
}

/// How many leases the members of a class may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct LimitPart {
    /// How many they have.
    pub used: usize,
    /// How many they may have.
    pub most: u32,
    /// Whether the client can get none for it.
    pub full: bool,
}

/// A branch of an `if` or `switch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct BranchPart {
    /// `if`, `elsif`, `else`, `case` or `default`.
    pub branch: String,
    /// The scope that it stands in, and its line; `on commit` for what runs when the lease is
    /// durable.
    pub source: Source,
    /// Whether its statements run.
    pub taken: bool,
    /// The part of the condition that decided, and what it finds.
    pub why: String,
}

/// A host entry that the machine is known by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct HostPart {
    /// Its name.
    pub host: Source,
    /// The key that it is known by: `hardware`, `client-id`, `uuid`, `circuit` or
    /// `host-identifier`.
    pub by: String,
    /// The option of a `host-identifier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option: Option<String>,
    /// Whether it is the entry that counts here.
    pub counts: bool,
    /// Its address in the client's network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Why it does not count, or what keeps the client from its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Where it is of no file of the configuration, but was added while the server ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<LivePart>,
}

/// A host that was added while the server ran. When and through whom is left out where nobody
/// knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct LivePart {
    /// When it was added, or changed last: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
    /// Through whom: `bootstorm host`, `OMAPI` or `import`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
}

/// A lease or an offer of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct HeldPart {
    /// Its address.
    pub ip: String,
    /// `offered`, `active`, `released`, `expired` or `declined`.
    pub state: String,
    /// When the state ends, or ended: RFC 3339, UTC, or `never`.
    pub until: String,
    /// Whether it was refused by a NAK, and ends with the next DISCOVER.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// The variables that statements gave it, as `name = value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
}

/// The address that a client gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AddressPart {
    /// The address.
    pub ip: Option<Ipv4Addr>,
    /// Why this one: `reservation`, `lease`, `offer`, `previous`, `wish` or `free`.
    pub through: String,
    /// The host entry or the pool that gives it.
    pub source: Source,
}

/// A pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PoolPart {
    /// Its range.
    pub pool: Source,
    /// `chosen`, `denied`, `not-allowed`, `class`, `full` or `not-needed`.
    pub state: String,
    /// Why.
    pub why: String,
}

/// A lease time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct LeaseTimePart {
    /// Seconds; 4294967295 is for ever.
    pub seconds: u32,
    /// The key that decided: that of a setting, `option 51`, `bootp` for ever, `after` for a pool
    /// that denies the client from a date on, or `lease` for what is left of a lease that is not
    /// renewed yet.
    pub key: String,
    /// Where that stands.
    pub source: Source,
    /// What the client asked for, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<u32>,
    /// What wider levels have for the key, which this hides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hides: Vec<HiddenPart>,
}

/// What a machine boots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct BootPart {
    /// Path or URL; empty for nothing.
    pub file: String,
    /// siaddr.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Ipv4Addr>,
    /// Where siaddr comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_from: Option<Source>,
    /// Why there is no file, or not the first that a rule names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The rules up to the one that decided.
    pub rules: Vec<RulePart>,
}

/// A boot rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct RulePart {
    /// The rule, as text.
    pub rule: String,
    /// Its level.
    pub source: Source,
    /// Why it was passed over; absent for the one that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<String>,
}

/// An option that is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct OptionPart {
    /// Which, and its value.
    #[serde(flatten)]
    pub option: ValuePart,
    /// Where the value comes from.
    pub source: Source,
    /// What other levels have for it, which this hides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hides: Vec<HiddenPart>,
}

/// A value that another one hides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct HiddenPart {
    /// The value.
    pub value: String,
    /// Its level.
    pub source: Source,
}

/// An option that the configuration has and that is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct UnsentPart {
    /// Which, and its value.
    #[serde(flatten)]
    pub option: ValuePart,
    /// The level that has it.
    pub source: Source,
    /// Why it is not sent.
    pub why: String,
}

/// The reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ReplyPart {
    /// How it reaches the client.
    pub to: String,
    /// This server's address that it is sent from.
    pub source: Option<Ipv4Addr>,
    /// The text of `sname`; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    /// How long it waits before it is sent, in milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub delay_ms: u64,
    /// The message in hexadecimal.
    pub bytes: String,
}
