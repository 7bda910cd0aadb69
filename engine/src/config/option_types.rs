//! Types of options, and their values on the wire.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::domains;
use bootstorm_protocols::dhcpv4::options::Kind;
use bootstorm_protocols::wire::Writer;

use super::Prefix;
use super::problem::Fault;
use super::tree::{Node, Value};
use super::units;

/// How the value of an option is written in a configuration and laid out on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum OptionType {
    /// Nothing: it is there or it is not.
    Flag,
    /// One byte, 0 or 1.
    Boolean,
    /// A number without sign of 1, 2 or 4 bytes.
    Unsigned(u8),
    /// A number of 1, 2 or 4 bytes, two's complement.
    Signed(u8),
    /// An IPv4 address.
    Address,
    /// An IPv6 address.
    Address6,
    /// Characters, without a closing NUL.
    Text,
    /// Any bytes.
    Octets,
    /// One domain name (RFC 1035, section 3.1).
    Domain,
    /// Domain names one after the other, with pointers (RFC 3397) or without.
    DomainList { compressed: bool },
    /// Routes with prefixes (RFC 3442).
    Routes,
    /// SIP servers: names or addresses behind an octet that tells which (RFC 3361).
    SipServers,
    /// One or more of a kind.
    Array(Box<Self>),
    /// Several kinds in order.
    Record(Vec<Self>),
    /// Options of another space.
    Encapsulate(Box<str>),
}

impl OptionType {
    /// A type by its name, as dhcpd.conf and Kea write them.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        if let Some(element) = text.strip_prefix("array of ") {
            return match Self::parse(element)? {
                element if element.width().is_some_and(|width| width > 0) => {
                    Ok(Self::Array(Box::new(element)))
                }
                _ => Err(unknown_type(text)),
            };
        }
        if let Some(fields) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let fields = fields.split(',').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
            // Only the last field may be without an end.
            let fixed = fields
                .split_last()
                .is_some_and(|(_, others)| others.iter().all(|field| field.width().is_some()));
            return if fixed { Ok(Self::Record(fields)) } else { Err(unknown_type(text)) };
        }
        if let Some(space) = text.strip_prefix("encapsulate ") {
            return Ok(Self::Encapsulate(space.trim().into()));
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        Ok(match words.as_slice() {
            ["flag" | "empty"] => Self::Flag,
            ["boolean"] => Self::Boolean,
            ["uint8"] | ["unsigned", "integer", "8"] => Self::Unsigned(1),
            ["uint16"] | ["unsigned", "integer", "16"] => Self::Unsigned(2),
            ["uint32"] | ["unsigned", "integer", "32"] => Self::Unsigned(4),
            ["int8"] | ["integer", "8"] | ["signed", "integer", "8"] => Self::Signed(1),
            ["int16"] | ["integer", "16"] | ["signed", "integer", "16"] => Self::Signed(2),
            ["int32"] | ["integer", "32"] | ["signed", "integer", "32"] => Self::Signed(4),
            ["ip-address" | "ipv4-address"] => Self::Address,
            ["ip6-address" | "ipv6-address"] => Self::Address6,
            ["text"] => Self::Text,
            ["string" | "binary"] => Self::Octets,
            ["domain-name" | "fqdn"] => Self::Domain,
            ["domain-list"] => Self::DomainList { compressed: false },
            ["domain-list", "compressed"] => Self::DomainList { compressed: true },
            _ => return Err(unknown_type(text)),
        })
    }

    /// The type of a standard option.
    pub(super) fn of(kind: &Kind) -> Self {
        let array = |element| Self::Array(Box::new(element));
        match kind {
            Kind::Empty => Self::Flag,
            Kind::Flag => Self::Boolean,
            Kind::U8 => Self::Unsigned(1),
            Kind::U16 => Self::Unsigned(2),
            Kind::U32 => Self::Unsigned(4),
            Kind::I8 => Self::Signed(1),
            Kind::I32 => Self::Signed(4),
            Kind::U8List => array(Self::Unsigned(1)),
            Kind::U16List => array(Self::Unsigned(2)),
            Kind::Ipv4 => Self::Address,
            Kind::Ipv4List => array(Self::Address),
            Kind::Ipv4PairList => array(Self::Record(vec![Self::Address, Self::Address])),
            Kind::Ipv6 => Self::Address6,
            Kind::Text => Self::Text,
            // What only servers with an implementation of their documents send is given as bytes.
            Kind::Bytes
            | Kind::ClientFqdn
            | Kind::UserClass
            | Kind::VendorClasses
            | Kind::VendorOptions => Self::Octets,
            Kind::Domain => Self::Domain,
            Kind::DomainList { compressed } => Self::DomainList { compressed: *compressed },
            Kind::ClasslessRoutes => Self::Routes,
            Kind::SipServers => Self::SipServers,
            Kind::Encapsulated(space) => Self::Encapsulate((*space).into()),
            Kind::Record(fields) => Self::Record(fields.iter().map(Self::of).collect()),
        }
    }

    /// Number of bytes of every value, if it is always the same.
    fn width(&self) -> Option<usize> {
        match self {
            Self::Flag => Some(0),
            Self::Boolean => Some(1),
            Self::Unsigned(width) | Self::Signed(width) => Some(usize::from(*width)),
            Self::Address => Some(4),
            Self::Address6 => Some(16),
            Self::Record(fields) => fields.iter().map(Self::width).sum(),
            _ => None,
        }
    }

    /// The bytes of a value. `hex:` and digits stand for bytes of every type, if their number fits.
    pub(super) fn encode(&self, node: &Node) -> Result<Vec<u8>, Fault> {
        if let Value::Text(text) = &node.value
            && let Some(digits) = text.strip_prefix("hex:")
        {
            return self.encode_hex(digits, node);
        }
        let mut bytes = Vec::new();
        self.append(node, &mut bytes)?;
        Ok(bytes)
    }

    fn encode_hex(&self, digits: &str, node: &Node) -> Result<Vec<u8>, Fault> {
        let bytes = units::hex_octets(digits).ok_or_else(|| {
            units::must_be("bytes", node, "write pairs of hexadecimal digits: \"hex:0a0b\"")
        })?;
        let element = match self {
            Self::Array(element) => element.width(),
            _ => None,
        };
        let fits = match (self.width(), element) {
            (Some(width), _) => bytes.len() == width,
            (None, Some(width)) => !bytes.is_empty() && bytes.len() % width == 0,
            (None, None) => true,
        };
        if fits {
            return Ok(bytes);
        }
        let unit = self.width().or(element).unwrap_or_default();
        Err(Fault::plain(format!("must have {unit} bytes a value, not {} in all", bytes.len())))
    }

    fn append(&self, node: &Node, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Self::Flag => {
                if !units::boolean(node)? {
                    let help = "an option without a value is there or not: leave the line out";
                    return Err(units::must_be("true", node, help));
                }
            }
            Self::Boolean => bytes.push(u8::from(units::boolean(node)?)),
            Self::Unsigned(1) => bytes.push(units::integer(node, 0..=u8::MAX)?),
            Self::Unsigned(2) => {
                bytes.extend(units::integer(node, 0..=u16::MAX)?.to_be_bytes());
            }
            Self::Unsigned(_) => bytes.extend(units::integer(node, 0..=u32::MAX)?.to_be_bytes()),
            Self::Signed(1) => {
                bytes.extend(units::integer(node, i8::MIN..=i8::MAX)?.to_be_bytes());
            }
            Self::Signed(2) => {
                bytes.extend(units::integer(node, i16::MIN..=i16::MAX)?.to_be_bytes());
            }
            Self::Signed(_) => {
                bytes.extend(units::integer(node, i32::MIN..=i32::MAX)?.to_be_bytes());
            }
            Self::Address => bytes.extend(units::ipv4(node)?.octets()),
            Self::Address6 => bytes.extend(units::ipv6(node)?.octets()),
            Self::Text => bytes.extend(units::text(node)?.as_bytes()),
            Self::Octets => bytes.extend(units::octets(node)?),
            Self::Domain => {
                let name = domain_name(node)?;
                let one = Node { place: node.place, value: Value::Text(name.into()) };
                domain_list(&one, false, bytes)?;
            }
            Self::DomainList { compressed } => return domain_list(node, *compressed, bytes),
            Self::Routes => {
                return each(node, &mut |node| append_route(node, bytes));
            }
            Self::SipServers => return sip_servers(node, bytes),
            Self::Array(element) => return array(element, node, bytes),
            Self::Record(fields) => return record(fields, node, bytes),
            Self::Encapsulate(space) => {
                let help = format!("write its options: {{ {space} = {{ name = value }} }}");
                return Err(units::must_be("bytes", node, &help));
            }
        }
        Ok(())
    }
}

fn unknown_type(text: &str) -> Fault {
    Fault::new(
        format!("must be a type, not `{text}`"),
        "types are flag, boolean, uint8, uint16, uint32, int8, int16, int32, ip-address, text, \
         string, domain-name, domain-list, `array of ...`, `{ ..., ... }` of types with a fixed \
         length, and `encapsulate SPACE`",
    )
}

/// Calls `append` for a value or for every value of a list that is not empty.
fn each(node: &Node, append: &mut dyn FnMut(&Node) -> Result<(), Fault>) -> Result<(), Fault> {
    match &node.value {
        Value::Array(nodes) if nodes.is_empty() => {
            Err(Fault::new("must have a value, not an empty list", "leave the line out"))
        }
        Value::Array(nodes) => nodes.iter().try_for_each(append),
        _ => append(node),
    }
}

fn array(element: &OptionType, node: &Node, bytes: &mut Vec<u8>) -> Result<(), Fault> {
    let one_record = match (&node.value, element) {
        // [a, b] for an array of records is one record, [[a, b], [c, d]] two.
        (Value::Array(nodes), OptionType::Record(fields)) => {
            nodes.len() == fields.len()
                && !nodes.iter().any(|node| matches!(node.value, Value::Array(_)))
                && !nodes.iter().all(is_several)
        }
        _ => false,
    };
    if one_record {
        return element.append(node, bytes);
    }
    each(node, &mut |node| element.append(node, bytes))
}

/// Whether a text holds more than one value.
fn is_several(node: &Node) -> bool {
    matches!(&node.value, Value::Text(text) if words(text).count() > 1)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\t']).filter(|word| !word.is_empty())
}

/// The fields of a record: a list, or a text with blanks between them.
fn record(fields: &[OptionType], node: &Node, bytes: &mut Vec<u8>) -> Result<(), Fault> {
    let split;
    let nodes = match &node.value {
        Value::Array(nodes) => nodes,
        Value::Text(text) => {
            let node_of = |word: &str| Node {
                place: node.place,
                value: match word.parse() {
                    Ok(number) => Value::Integer(number),
                    Err(_) => Value::Text(word.into()),
                },
            };
            split = words(text).map(node_of).collect();
            &split
        }
        _ => return Err(units::must_be("a list", node, "write [ ..., ... ]")),
    };
    if nodes.len() != fields.len() {
        let text = format!("must have {} values together, not {}", fields.len(), nodes.len());
        return Err(Fault::plain(text));
    }
    fields.iter().zip(nodes).try_for_each(|(field, node)| field.append(node, bytes))
}

/// One or more domain names, with pointers into one another or without.
fn domain_list(node: &Node, compressed: bool, bytes: &mut Vec<u8>) -> Result<(), Fault> {
    let mut names: Vec<&str> = Vec::new();
    match &node.value {
        Value::Array(nodes) if !nodes.is_empty() => {
            for node in nodes {
                names.push(domain_name(node)?);
            }
        }
        _ => names.push(domain_name(node)?),
    }
    // A name takes two bytes more than its text: the length of the first label, and the root.
    let mut buffer = vec![0; names.iter().map(|name| name.len() + 2).sum()];
    let mut writer = Writer::new(&mut buffer);
    let encoded = if compressed {
        domains::encode_compressed(names, &mut writer)
    } else {
        domains::encode(names, &mut writer)
    };
    encoded.map_err(|why| Fault::plain(format!("must be domain names: {why}")))?;
    bytes.extend_from_slice(writer.written());
    Ok(())
}

/// A domain name, checked by itself, so that the message can show it.
fn domain_name(node: &Node) -> Result<&str, Fault> {
    let name = units::text(node)?;
    let mut buffer = [0; 256];
    domains::encode([name], &mut Writer::new(&mut buffer))
        .map_err(|why| units::must_be("a domain name", node, &why.to_string()))?;
    Ok(name)
}

/// `10.0.0.0/8 via 10.1.0.1`: length of the prefix, its bytes that are not all zero, router.
fn append_route(node: &Node, bytes: &mut Vec<u8>) -> Result<(), Fault> {
    let wrong = || {
        let help = "write \"10.0.0.0/8 via 10.1.0.1\" or \"default via 10.1.0.1\"";
        units::must_be("a route", node, help)
    };
    let text = units::text(node)?;
    let parts: Vec<&str> = text.split_whitespace().filter(|&part| part != "via").collect();
    let &[to, router] = parts.as_slice() else { return Err(wrong()) };
    let router: Ipv4Addr = router.parse().map_err(|_| wrong())?;
    let prefix = if to == "default" {
        Prefix::containing(Ipv4Addr::UNSPECIFIED, 0).ok_or_else(wrong)?
    } else {
        units::prefix(&Node { place: node.place, value: Value::Text(to.into()) })?
    };
    bytes.push(prefix.length());
    bytes.extend(&prefix.network().octets()[..usize::from(prefix.length().div_ceil(8))]);
    bytes.extend(router.octets());
    Ok(())
}

fn sip_servers(node: &Node, bytes: &mut Vec<u8>) -> Result<(), Fault> {
    let is_address = |node: &Node| units::ipv4(node).is_ok();
    let addresses = match &node.value {
        Value::Array(nodes) => nodes.iter().all(is_address),
        _ => is_address(node),
    };
    bytes.push(u8::from(addresses));
    if addresses {
        each(node, &mut |node| OptionType::Address.append(node, bytes))
    } else {
        domain_list(node, false, bytes)
    }
}
