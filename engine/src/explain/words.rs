//! Names of things as the configuration has them, and what to do about silence.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use bootstorm_protocols::dhcpv4::options;
use bootstorm_protocols::dhcpv4::options::Rendered;
use bootstorm_protocols::dhcpv4::pxe::{Architecture, MachineId};

use super::{Source, ValuePart};
use crate::config::{
    BootFile, BootRule, ClassId, ClientMatch, Dhcp, Key, Line, Names, OptionPath, Permit, PoolId,
    ScopeChain, ScopeId, Value, VariableId,
};
use crate::dhcp::{Condition, NakReason, NotPermitted, PassedOver, Silence};
use crate::hex;

/// Names things of one configuration.
#[derive(Copy, Clone)]
pub(crate) struct Words<'c> {
    pub(crate) dhcp: &'c Dhcp,
    /// Its files.
    pub(crate) files: &'c [PathBuf],
}

impl Words<'_> {
    pub(crate) fn scope(self, scope: ScopeId) -> Source {
        let dhcp = self.dhcp;
        let name = match scope {
            ScopeId::Global => "[dhcp]".to_owned(),
            ScopeId::Network(id) => match &dhcp.network(id).name {
                Some(name) => format!("shared-network {name:?}"),
                None => "shared-network".to_owned(),
            },
            ScopeId::Subnet(id) => format!("subnet {}", dhcp.subnet(id).prefix),
            ScopeId::Pool(id) => {
                let (low, high) = dhcp.pool(id).range;
                format!("pool {low}-{high}")
            }
            ScopeId::Class(id) => format!("class {:?}", dhcp.class(id).name),
            ScopeId::Subclass(id) => {
                let subclass = dhcp.subclass(id);
                let class = &dhcp.class(subclass.class).name;
                format!("subclass {class:?} {}", quoted(&subclass.value))
            }
            ScopeId::Group(id) => match &dhcp.group(id).name {
                Some(name) => format!("group {name:?}"),
                None => "group".to_owned(),
            },
            ScopeId::Host(id) => format!("host {:?}", dhcp.host(id).name()),
        };
        Source { name, at: self.place(dhcp.line_of_scope(scope)) }
    }

    /// A level that says what `key` is, with the line that says it.
    pub(crate) fn value(self, chain: &ScopeChain<'_>, scope: ScopeId, key: Key) -> Source {
        let level = self.scope(scope);
        let at = self.place(chain.line_of(scope, key)).or(level.at);
        Source { name: level.name, at }
    }

    /// `FILE:LINE`
    pub(super) fn place(self, line: Option<Line>) -> Option<String> {
        let Line { file, line } = line?;
        let path = self.files.get(usize::try_from(file).ok()?)?;
        Some(format!("{}:{line}", path.display()))
    }

    pub(super) fn rule(self, rule: &BootRule) -> String {
        let mut text = self.conditions(&rule.matches).join(", ");
        if !text.is_empty() {
            text.push_str(" -> ");
        }
        text.push_str(&match &rule.file {
            BootFile::None => "none".to_owned(),
            BootFile::File(file) | BootFile::Url(file) => quoted(file),
        });
        if let Some(server) = rule.next_server {
            // Writing to a text never fails.
            let _ = write!(text, " from {server}");
        }
        text
    }

    /// Each condition that has entries, as `arch "x86-64-efi"`.
    fn conditions(self, matches: &ClientMatch) -> Vec<String> {
        CONDITIONS
            .into_iter()
            .map(|condition| (condition, self.wanted(condition, matches)))
            .filter(|(_, wanted)| !wanted.is_empty())
            .map(|(condition, wanted)| format!("{} {wanted}", key_of(condition)))
            .collect()
    }

    /// The entries of a condition; empty where it has none.
    fn wanted(self, condition: Condition, matches: &ClientMatch) -> String {
        let texts = |entries: &[Box<[u8]>]| entries.iter().map(|entry| quoted(entry)).collect();
        let mut entries: Vec<String> = match condition {
            Condition::UserClass => texts(&matches.user_class),
            Condition::VendorClass => texts(&matches.vendor_class),
            Condition::Arch => {
                let codes = matches.arch.iter().map(|code| Architecture::from_code(*code));
                codes.map(|arch| arch.to_string()).collect()
            }
            Condition::MacPrefix => {
                matches.mac_prefix.iter().map(|mac| hex::digits(mac, ":")).collect()
            }
            Condition::Uuid => matches.uuid.iter().map(uuid).collect(),
            Condition::CircuitId => texts(&matches.circuit_id),
            Condition::RemoteId => texts(&matches.remote_id),
            Condition::Class => {
                matches.class.iter().map(|id| format!("{:?}", self.dhcp.class(*id).name)).collect()
            }
        };
        // x86-64 UEFI has two numbers.
        entries.dedup();
        let more = entries.len().saturating_sub(ENTRIES);
        let mut text = entries.into_iter().take(ENTRIES).collect::<Vec<_>>().join(" or ");
        if more > 0 {
            let _ = write!(text, " or {more} more");
        }
        text
    }

    /// Why a condition does not hold; `said` is what the client says of it, empty for nothing.
    pub(super) fn fails(self, condition: Condition, matches: &ClientMatch, said: &str) -> String {
        let wanted = self.wanted(condition, matches);
        match condition {
            Condition::Class => format!("for members of class {wanted}"),
            _ if said.is_empty() => {
                format!("wants {} {wanted}; the client says none", key_of(condition))
            }
            _ => format!("wants {} {wanted}; the client says {said}", key_of(condition)),
        }
    }

    pub(super) fn passed_over(self, why: PassedOver, rule: &BootRule, said: &str) -> String {
        match why {
            PassedOver::Condition(condition) => self.fails(condition, &rule.matches, said),
            PassedOver::Unusable => match rule.file {
                BootFile::Url(_) => "PXE firmware loads no URL".to_owned(),
                _ => "HTTP boot loads nothing but an http:// or https:// URL".to_owned(),
            },
            PassedOver::Loop => {
                "iPXE would load iPXE again; write a rule with user-class = \"iPXE\" before it"
                    .to_owned()
            }
        }
    }

    /// State and reason of a pool that does not permit the client.
    pub(super) fn not_permitted(self, why: NotPermitted, pool: PoolId) -> (&'static str, String) {
        let permits = |permits: &[Permit]| {
            permits.iter().map(|permit| self.permit(*permit)).collect::<Vec<_>>().join(", ")
        };
        match why {
            NotPermitted::Denied(permit) => {
                ("denied", format!("it denies {}", self.permit(permit)))
            }
            NotPermitted::NotAllowed => match &*self.dhcp.pool(pool).allow {
                [] => ("not-allowed", "BOOTP clients need a pool that allows \"bootp\"".to_owned()),
                allow => ("not-allowed", format!("it allows only {}", permits(allow))),
            },
            NotPermitted::NotMember(class) => {
                ("class", format!("it is for members of class {:?}", self.dhcp.class(class).name))
            }
        }
    }

    fn permit(self, permit: Permit) -> String {
        match permit {
            Permit::All => "all clients".to_owned(),
            Permit::Known => "known clients (with a host entry)".to_owned(),
            Permit::Unknown => "unknown clients (without a host entry)".to_owned(),
            Permit::Bootp => "BOOTP clients".to_owned(),
            Permit::Member(class) => format!("members of class {:?}", self.dhcp.class(class).name),
            Permit::After(time) => format!("all clients after {}", date(time)),
        }
    }
}

impl Names for Words<'_> {
    fn option(&self, path: OptionPath) -> String {
        // Whose options stand in option 43 the vendor decides.
        let vendor = path.code == options::VENDOR_ENCAPSULATED_OPTIONS;
        let space = options::space_within(path.code).filter(|_| !vendor);
        match (path.inner, space) {
            (None, _) => options::by_code(path.code)
                .map_or_else(|| format!("unknown-{}", path.code), |known| known.name.to_owned()),
            (Some(code), Some(space)) => {
                let known = space.by_code(code);
                let name = known.map_or_else(|| code.to_string(), |known| known.name.to_owned());
                format!("{}.{name}", space.name)
            }
            (Some(code), None) => format!("{code} of option {}", path.code),
        }
    }

    fn class(&self, class: ClassId) -> String {
        self.dhcp.class(class).name.to_string()
    }

    fn variable(&self, variable: VariableId) -> String {
        let name = self.dhcp.variables.get(variable.index());
        name.map_or_else(String::new, ToString::to_string)
    }

    fn configured(&self, key: Key) -> String {
        match key {
            Key::Option(code) => self.option(OptionPath { code, inner: None, text: false }),
            _ => "of the server".to_owned(),
        }
    }
}

/// Entries of a condition that are named.
const ENTRIES: usize = 8;

const CONDITIONS: [Condition; 8] = [
    Condition::UserClass,
    Condition::VendorClass,
    Condition::Arch,
    Condition::MacPrefix,
    Condition::Uuid,
    Condition::CircuitId,
    Condition::RemoteId,
    Condition::Class,
];

/// The key of the configuration.
fn key_of(condition: Condition) -> &'static str {
    match condition {
        Condition::UserClass => "user-class",
        Condition::VendorClass => "vendor-class",
        Condition::Arch => "arch",
        Condition::MacPrefix => "mac-prefix",
        Condition::Uuid => "uuid",
        Condition::CircuitId => "circuit-id",
        Condition::RemoteId => "remote-id",
        Condition::Class => "class",
    }
}

/// The server or the client, not the configuration.
pub(super) fn made_by(name: &str) -> Source {
    Source { name: name.to_owned(), at: None }
}

/// A point in time by its seconds since 1970.
pub(super) fn date(seconds: u64) -> String {
    match jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(i64::MAX)) {
        Ok(time) => time.to_string(),
        Err(_) => "the end of time".to_owned(),
    }
}

/// A variable as `set` writes it.
pub(super) fn variable((name, value): (&[u8], Value<'_>)) -> String {
    let value = match value {
        Value::Data(bytes) => quoted(bytes),
        Value::Numeric(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
    };
    format!("{} = {value}", name.escape_ascii())
}

/// A program and its arguments.
pub(super) fn program(words: &[&[u8]]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// Bytes as text in quotes, with escapes.
pub(super) fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

/// A UUID in the byte order of its text.
fn uuid(bytes: &[u8; 16]) -> String {
    MachineId::from_bytes(*bytes).map_or_else(|| hex::digits(bytes, ""), |id| id.to_string())
}

/// An option with its value as text.
pub(crate) fn option(code: u8, value: &[u8]) -> ValuePart {
    let name = options::by_code(code).map_or("", |known| known.name);
    let value = Rendered::new(code, value.into()).to_string();
    ValuePart { code, name: name.to_owned(), value }
}

/// What to do where a client is to be answered and is not; `None` where the silence is as it should
/// be. `place` is what the message came from: `interface eth1`, `relay agent 10.2.0.1`; `giaddr`
/// the relay agent's address.
pub(crate) fn remedy(silence: Silence, place: &str, giaddr: Ipv4Addr) -> Option<String> {
    Some(match silence {
        Silence::NoSubnetHere => format!(
            "give {place} an address in a [[dhcp.subnet]], or add the subnet of one of its addresses"
        ),
        Silence::NoSubnetForRelay => {
            format!("add a [[dhcp.subnet]] that holds {giaddr}, the relay agent's address")
        }
        Silence::NoSubnetSelected => {
            "add a [[dhcp.subnet]] that holds the address of the selection (option 118, or option \
             82 sub-option 5)"
                .to_owned()
        }
        Silence::NoIdentity => "the machine sends neither hardware address nor client identifier \
                                nor UUID: look at its firmware"
            .to_owned(),
        Silence::UnknownClient => "add a [[dhcp.host]] with the machine's hardware address, or \
                                   write boot-unknown-clients = true"
            .to_owned(),
        Silence::BootingDenied => {
            "take booting = false out of the machine's scopes, or write booting = true for its host"
                .to_owned()
        }
        Silence::BootpDenied => "write bootp = true in a scope of the machine".to_owned(),
        Silence::TooEarly => "the machine asks again and is answered when it has tried for min-secs; \
                              to answer at once take min-secs out"
            .to_owned(),
        Silence::PoolFull => "make the pool larger or lease-time shorter; `bootstorm leases list` \
                              shows who has the addresses"
            .to_owned(),
        Silence::LeaseLimit => "raise lease-limit of the machine's class, or wait until a lease of \
                                another member ends"
            .to_owned(),
        Silence::ReservedHeld => "wait until the lease of the other machine ends, or make sure that \
                                  it is off and end it: bootstorm leases release ADDRESS; or give \
                                  the network a pool that permits this machine"
            .to_owned(),
        Silence::NoPoolPermitted => "add a pool to the subnet, or let one of those below permit \
                                     this machine, or reserve an address for it"
            .to_owned(),
        Silence::BootpWithoutHost => "reserve an address with a [[dhcp.host]], or let a pool allow \
                                      \"bootp\""
            .to_owned(),
        Silence::NotAuthoritative => "write authoritative = true if no other server serves this \
                                      network; the machine is then told to begin anew"
            .to_owned(),
        Silence::NotProbed | Silence::PortUnknown => "restore the lease store, or wait until no \
                                                      lost lease can be left: see `bootstorm status`"
            .to_owned(),
        Silence::NotARequest
        | Silence::MessageType
        | Silence::OtherServer
        | Silence::DeclinesDenied
        | Silence::NoAddressNamed
        | Silence::NotHeld
        | Silence::Contended
        | Silence::CommitPending => return None,
    })
}

/// What follows a NAK, and how to avoid it.
pub(super) fn remedy_of_nak(reason: NakReason) -> &'static str {
    match reason {
        NakReason::WrongNetwork => {
            "the machine begins anew and gets an address of the network that it is on"
        }
        NakReason::HeldByOther => {
            "the machine begins anew; `bootstorm leases show ADDRESS` shows who has the address"
        }
        NakReason::OtherLease | NakReason::OtherReservation => {
            "the machine begins anew and gets the other address"
        }
        NakReason::NotAvailable => {
            "the machine begins anew; let a pool permit it with the address that it wants, if it \
             is to have that"
        }
        NakReason::UnknownClient => {
            "the machine begins anew; write authoritative = false if another server knows it"
        }
    }
}
