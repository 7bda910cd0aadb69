//! DHCP options: codes, names as ISC's dhcp-options(5) spells them, and types.
//!
//! A code that the IANA registry gives to several uses at once (128 to 135, 176, 177) has no name
//! here; it is written by its number.

mod render;
mod spaces;
mod table;

pub use render::Rendered;
pub use spaces::{Space, space, space_within};
pub use table::*;

/// Padding between options: one byte without length (RFC 2132 section 3.1).
pub const PAD: u8 = 0;
/// The end of the options of a field (RFC 2132 section 3.2).
pub const END: u8 = 255;

/// The type of an option's value.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// No bytes: the option's presence is its meaning.
    Empty,
    /// One byte, 0 or 1.
    Flag,
    /// One byte.
    U8,
    /// One byte with a sign.
    I8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Four bytes with a sign.
    I32,
    /// Bytes, each a number.
    U8List,
    /// Numbers of two bytes.
    U16List,
    /// An IPv4 address.
    Ipv4,
    /// IPv4 addresses.
    Ipv4List,
    /// Pairs of IPv4 addresses: a filter and its mask, a destination and its router.
    Ipv4PairList,
    /// An IPv6 address.
    Ipv6,
    /// Text without terminator.
    Text,
    /// Any bytes.
    Bytes,
    /// One domain name in labels (RFC 1035 section 3.1).
    Domain,
    /// Domain names in labels; `compressed` ones may point into one another (RFC 3397).
    DomainList {
        /// True where the option's document lets names share suffixes.
        compressed: bool,
    },
    /// Destinations of any prefix length with their routers (RFC 3442).
    ClasslessRoutes,
    /// An encoding byte, then domain names or addresses (RFC 3361).
    SipServers,
    /// The client's name: flags, two old response codes, the name (RFC 4702).
    ClientFqdn,
    /// Counted classes, or plain text as iPXE sends it (RFC 3004).
    UserClass,
    /// Enterprise numbers, each with counted classes (RFC 3925 section 3).
    VendorClasses,
    /// Enterprise numbers, each with its own sub-options (RFC 3925 section 4).
    VendorOptions,
    /// Options of another space.
    Encapsulated(&'static str),
    /// Values one after another; the last may be of variable length.
    Record(&'static [Kind]),
}

/// One option: what it is called and what it holds.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Definition {
    /// Its code.
    pub code: u8,
    /// Its name: ISC's; where ISC has none, Kea's or the registry's.
    pub name: &'static str,
    /// Other names that are in use for it.
    pub aliases: &'static [&'static str],
    /// Its type.
    pub kind: Kind,
}

impl Definition {
    /// True when the option is called so.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// The standard option of this name or alias.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.is_named(name))
}

/// The standard option of this code.
#[must_use]
pub fn by_code(code: u8) -> Option<&'static Definition> {
    const BY_CODE: [u8; 256] = {
        let mut places = [u8::MAX; 256];
        let mut place = 0;
        while place < DEFINITIONS.len() {
            places[DEFINITIONS[place].code as usize] = place as u8;
            place += 1;
        }
        places
    };
    DEFINITIONS.get(usize::from(BY_CODE[usize::from(code)]))
}

/// True for options that carry the protocol itself and that the server sets or echoes as its rules
/// say, so that configuring them has no meaning.
#[must_use]
pub const fn is_protocol(code: u8) -> bool {
    matches!(
        code,
        PAD | REQUESTED_ADDRESS
            | OPTION_OVERLOAD
            | MESSAGE_TYPE
            | PARAMETER_REQUEST_LIST
            | MAX_MESSAGE_SIZE
            | CLIENT_IDENTIFIER
            | RAPID_COMMIT
            | RELAY_AGENT_INFORMATION
            | AUTHENTICATION
            | SUBNET_SELECTION
            | END
    )
}
