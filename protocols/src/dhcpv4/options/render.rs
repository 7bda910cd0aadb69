//! Option values as text, for events, lists and probes; writes to a formatter, allocates nothing.

use core::fmt::{self, Write};
use core::net::{Ipv4Addr, Ipv6Addr};

use super::{Definition, Kind, by_code, space};
use crate::dhcpv4::data::{OptionData, SubOptions};
use crate::dhcpv4::domains;
use crate::dhcpv4::user_class::UserClass;

/// Encapsulated options inside of encapsulated options are bytes from here on.
const DEPTH: u8 = 2;

/// A value with its type, to be displayed. A value that is not of its type is shown as bytes.
#[derive(Copy, Clone, Debug)]
pub struct Rendered<'a> {
    kind: Kind,
    data: OptionData<'a>,
    depth: u8,
}

impl Definition {
    /// The value as text.
    #[must_use]
    pub const fn render<'a>(&self, data: OptionData<'a>) -> Rendered<'a> {
        Rendered { kind: self.kind, data, depth: 0 }
    }
}

impl<'a> Rendered<'a> {
    /// The value of the standard option `code`; bytes where there is no such option.
    #[must_use]
    pub fn new(code: u8, data: OptionData<'a>) -> Self {
        let kind = by_code(code).map_or(Kind::Bytes, |definition| definition.kind);
        Self { kind, data, depth: 0 }
    }
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if fits(self.kind, self.data) {
            value(f, self.kind, self.data, self.depth)
        } else {
            bytes(f, self.data)
        }
    }
}

/// True when the value has the shape of the type, so that rendering shows every byte of it.
fn fits(kind: Kind, data: OptionData<'_>) -> bool {
    let len = data.len();
    match kind {
        Kind::Empty => len == 0,
        Kind::Flag => matches!(data.u8(), Some(0 | 1)),
        Kind::U8 | Kind::I8 => len == 1,
        Kind::U16 => len == 2,
        Kind::U32 | Kind::I32 | Kind::Ipv4 => len == 4,
        Kind::U16List => len.is_multiple_of(2),
        Kind::Ipv4List => len.is_multiple_of(4),
        Kind::Ipv4PairList => len.is_multiple_of(8),
        Kind::Ipv6 => len == 16,
        Kind::U8List | Kind::Text | Kind::Bytes | Kind::UserClass => true,
        Kind::Domain => names_fit(data) && domains::Names::new(data).count() == 1,
        Kind::DomainList { .. } => names_fit(data),
        Kind::ClasslessRoutes => Routes(data).all(|route| route.is_some()),
        Kind::SipServers => match data.get(0) {
            Some(0) => data.slice(1, len - 1).is_some_and(names_fit),
            Some(1) => len % 4 == 1,
            _ => false,
        },
        Kind::ClientFqdn => len >= 3,
        Kind::VendorClasses | Kind::VendorOptions => Enterprises(data).all(|part| part.is_some()),
        Kind::Encapsulated("agent") => data.sub_options().well_formed(),
        Kind::Encapsulated(_) => data.encapsulated().well_formed(),
        Kind::Record(fields) => {
            Fields { fields, data }.all(|field| field.is_some_and(|(kind, data)| fits(kind, data)))
        }
    }
}

fn names_fit(data: OptionData<'_>) -> bool {
    domains::Names::new(data).all(|name| name.is_ok())
}

fn value(f: &mut fmt::Formatter<'_>, kind: Kind, data: OptionData<'_>, depth: u8) -> fmt::Result {
    match kind {
        Kind::Empty => Ok(()),
        Kind::Flag => f.write_str(if data.u8() == Some(1) { "true" } else { "false" }),
        Kind::U8 | Kind::U16 | Kind::U32 => {
            let number = data.bytes().fold(0u32, |sum, byte| sum << 8 | u32::from(byte));
            write!(f, "{number}")
        }
        Kind::I8 => write!(f, "{}", data.u8().unwrap_or_default() as i8),
        Kind::I32 => write!(f, "{}", data.u32().unwrap_or_default() as i32),
        Kind::U8List => list(f, data.bytes()),
        Kind::U16List => list(f, chunks(data).map(u16::from_be_bytes)),
        Kind::Ipv4 | Kind::Ipv4List => list(f, chunks::<4>(data).map(Ipv4Addr::from)),
        Kind::Ipv4PairList => list(
            f,
            chunks::<8>(data).map(|[a, b, c, d, e, g, h, i]| {
                Pair(Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, g, h, i))
            }),
        ),
        Kind::Ipv6 => list(f, chunks::<16>(data).map(Ipv6Addr::from)),
        Kind::Text => text(f, data),
        Kind::Bytes => bytes(f, data),
        Kind::Domain | Kind::DomainList { .. } => names(f, data),
        Kind::ClasslessRoutes => list(f, Routes(data).flatten()),
        Kind::SipServers => {
            let servers = data.slice(1, data.len().saturating_sub(1));
            let servers = servers.unwrap_or(OptionData::from(&[][..]));
            match data.get(0) {
                Some(0) => names(f, servers),
                _ => value(f, Kind::Ipv4List, servers, depth),
            }
        }
        Kind::ClientFqdn => client_fqdn(f, data),
        Kind::UserClass => list(f, UserClass::new(data).classes().map(Text)),
        Kind::VendorClasses | Kind::VendorOptions => {
            list(f, Enterprises(data).flatten().map(|(number, data)| Enterprise { number, data }))
        }
        Kind::Encapsulated(_) if depth == DEPTH => bytes(f, data),
        Kind::Encapsulated(name) => encapsulated(f, name, data, depth),
        Kind::Record(fields) => list(
            f,
            Fields { fields, data }.flatten().map(|(kind, data)| Rendered { kind, data, depth }),
        ),
    }
}

/// Items with a comma and a space between.
fn list(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    for (index, item) in items.enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

/// The value in groups of `N` bytes; a shorter rest is left out.
fn chunks<const N: usize>(data: OptionData<'_>) -> impl Iterator<Item = [u8; N]> {
    let mut bytes = data.bytes();
    (0..data.len() / N).map(move |_| core::array::from_fn(|_| bytes.next().unwrap_or_default()))
}

/// Printable text in quotes, as relay agents name their ports; all else in hexadecimal.
fn bytes(f: &mut fmt::Formatter<'_>, data: OptionData<'_>) -> fmt::Result {
    let printable = |byte| matches!(byte, b' '..=b'~') && byte != b'"';
    if data.is_empty() || !data.bytes().all(printable) {
        return hex(f, data);
    }
    f.write_char('"')?;
    for byte in data.bytes() {
        f.write_char(char::from(byte))?;
    }
    f.write_char('"')
}

/// Hexadecimal bytes with colons between, as configurations write them.
fn hex(f: &mut fmt::Formatter<'_>, data: OptionData<'_>) -> fmt::Result {
    for (index, byte) in data.bytes().enumerate() {
        if index > 0 {
            f.write_char(':')?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// Printable ASCII as it is, the rest escaped: what a machine sends must not steer a terminal.
/// Trailing NULs, which some clients count in, are left out.
fn text(f: &mut fmt::Formatter<'_>, data: OptionData<'_>) -> fmt::Result {
    let trailing = data.bytes().fold(0, |zeros, byte| if byte == 0 { zeros + 1 } else { 0 });
    for byte in data.bytes().take(data.len() - trailing) {
        match byte {
            b'\\' => f.write_str("\\\\")?,
            b' '..=b'~' => f.write_char(char::from(byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    Ok(())
}

struct Text<'a>(OptionData<'a>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text(f, self.0)
    }
}

struct Pair(Ipv4Addr, Ipv4Addr);

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

fn names(f: &mut fmt::Formatter<'_>, data: OptionData<'_>) -> fmt::Result {
    list(f, domains::Names::new(data).filter_map(Result::ok))
}

/// Flags and name (RFC 4702 section 2): bit 2 of the flags says that the name is in labels.
fn client_fqdn(f: &mut fmt::Formatter<'_>, data: OptionData<'_>) -> fmt::Result {
    const ENCODED: u8 = 4;
    let flags = data.get(0).unwrap_or_default();
    let name = data.slice(3, data.len() - 3).unwrap_or(data);
    // A name in labels may be partial: then no root label ends it.
    match flags & ENCODED {
        0 => text(f, name),
        _ if names_fit(name) => names(f, name),
        _ => write!(f, "{}", domains::Partial(name)),
    }
}

fn encapsulated(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    data: OptionData<'_>,
    depth: u8,
) -> fmt::Result {
    let space = space(name);
    let sub_options: SubOptions<'_> =
        if name == "agent" { data.sub_options() } else { data.encapsulated() };
    for (index, sub_option) in sub_options.enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        let definition = space.and_then(|space| space.by_code(sub_option.code));
        match definition {
            Some(definition) => f.write_str(definition.name)?,
            None => write!(f, "{}", sub_option.code)?,
        }
        if !sub_option.data.is_empty() {
            let kind = definition.map_or(Kind::Bytes, |definition| definition.kind);
            write!(f, "={}", Rendered { kind, data: sub_option.data, depth: depth + 1 })?;
        }
    }
    Ok(())
}

/// A route of option 121: destination, prefix length, router.
struct Route {
    destination: Ipv4Addr,
    prefix: u8,
    router: Ipv4Addr,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.destination, self.prefix, self.router)
    }
}

/// The routes of an option (RFC 3442): only the significant bytes of a destination are sent. A cut
/// off or impossible one is `None`, and the last.
struct Routes<'a>(OptionData<'a>);

impl Iterator for Routes<'_> {
    type Item = Option<Route>;

    fn next(&mut self) -> Option<Self::Item> {
        let prefix = self.0.get(0)?;
        let len = usize::from(prefix.div_ceil(8));
        let route = self.0.slice(1, len + 4).filter(|_| prefix <= 32).map(|data| {
            let mut destination = [0; 4];
            for (slot, byte) in destination.iter_mut().zip(data.bytes().take(len)) {
                *slot = byte;
            }
            let router = data.slice(len, 4).and_then(|router| router.ipv4());
            Route {
                destination: destination.into(),
                prefix,
                router: router.unwrap_or(Ipv4Addr::UNSPECIFIED),
            }
        });
        let used = if route.is_some() { 1 + len + 4 } else { self.0.len() };
        self.0 = rest(self.0, used);
        Some(route)
    }
}

/// The parts of options 124 and 125: enterprise number and its counted data.
struct Enterprises<'a>(OptionData<'a>);

impl<'a> Iterator for Enterprises<'a> {
    type Item = Option<(u32, OptionData<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = (|| {
            let number = self.0.slice(0, 4)?.u32()?;
            let len = usize::from(self.0.get(4)?);
            Some((number, self.0.slice(5, len)?))
        })();
        let used = part.map_or(self.0.len(), |(_, data)| 5 + data.len());
        self.0 = rest(self.0, used);
        Some(part)
    }
}

struct Enterprise<'a> {
    number: u32,
    data: OptionData<'a>,
}

impl fmt::Display for Enterprise<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.number)?;
        bytes(f, self.data)
    }
}

/// The fields of a record with their values; `None` for one that is cut off. What the last field
/// does not take is one more, of bytes.
struct Fields<'a> {
    fields: &'static [Kind],
    data: OptionData<'a>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(Kind, OptionData<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some((kind, later)) = self.fields.split_first() else {
            let left = self.data;
            self.data = rest(left, left.len());
            return (!left.is_empty()).then_some(Some((Kind::Bytes, left)));
        };
        self.fields = later;
        let len = match kind {
            Kind::Empty => 0,
            Kind::Flag | Kind::U8 | Kind::I8 => 1,
            Kind::U16 => 2,
            Kind::U32 | Kind::I32 | Kind::Ipv4 => 4,
            Kind::Ipv6 => 16,
            _ => self.data.len(),
        };
        let field = self.data.slice(0, len);
        self.data = rest(self.data, len.min(self.data.len()));
        Some(field.map(|data| (*kind, data)))
    }
}

/// What is left behind the first `used` bytes.
fn rest(data: OptionData<'_>, used: usize) -> OptionData<'_> {
    data.slice(used, data.len().saturating_sub(used)).unwrap_or(OptionData::from(&[][..]))
}
