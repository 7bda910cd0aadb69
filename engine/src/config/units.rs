//! Values of one kind each: addresses, times, sizes, hardware addresses. A fault says what the
//! value must be, as the end of a sentence that begins with the name of its key.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::pxe::MachineId;

use super::prefix::is_unicast;
use super::problem::Fault;
use super::schema::nearest;
use super::tree::{Node, Value};
use super::{LeaseTime, Prefix};

/// Long values are cut in messages; the line itself is printed below them.
const QUOTED: usize = 40;

/// A value as a message names it.
struct Shown<'n>(&'n Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Text(text) if text.chars().count() > QUOTED => {
                write!(f, "`{}...`", text.chars().take(QUOTED).collect::<String>().escape_debug())
            }
            Value::Text(text) => write!(f, "`{}`", text.escape_debug()),
            Value::Integer(number) => number.fmt(f),
            other => f.write_str(other.kind()),
        }
    }
}

/// `must be WHAT, not the value`.
pub(super) fn must_be(what: &str, node: &Node, help: &str) -> Fault {
    Fault::new(format!("must be {what}, not {}", Shown(&node.value)), help)
}

/// A text that is not empty.
pub(super) fn text(node: &Node) -> Result<&str, Fault> {
    match &node.value {
        Value::Text(text) if text.is_empty() => {
            Err(Fault::new("must not be empty", "leave the line out, or give it a value"))
        }
        Value::Text(text) => Ok(text),
        Value::Integer(number) => {
            Err(must_be("a text", node, &format!("texts stand in quotes: \"{number}\"")))
        }
        _ => Err(must_be("a text", node, "texts stand in quotes: \"...\"")),
    }
}

/// A path.
pub(super) fn path(node: &Node) -> Result<PathBuf, Fault> {
    let path = text(node)?;
    if path.contains('\0') {
        return Err(must_be("a path", node, "remove the NUL"));
    }
    Ok(PathBuf::from(path))
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node) -> Result<bool, Fault> {
    match &node.value {
        Value::Bool(value) => Ok(*value),
        Value::Text(text) if matches!(&**text, "true" | "false" | "on" | "off" | "yes" | "no") => {
            let meant = matches!(&**text, "true" | "on" | "yes");
            Err(must_be("true or false", node, &format!("write {meant}, without quotes")))
        }
        _ => Err(must_be("true or false", node, "write true or false, without quotes")),
    }
}

/// A whole number in a range.
pub(super) fn integer<T>(node: &Node, range: RangeInclusive<T>) -> Result<T, Fault>
where
    T: TryFrom<i64> + PartialOrd + fmt::Display,
{
    let what = format!("a number from {} to {}", range.start(), range.end());
    let value = match &node.value {
        Value::Integer(number) => T::try_from(*number).ok().filter(|value| range.contains(value)),
        Value::Text(text) if text.parse::<i64>().is_ok() => {
            return Err(must_be(&what, node, &format!("write {text}, without quotes")));
        }
        _ => None,
    };
    value.ok_or_else(|| Fault::plain(format!("must be {what}, not {}", Shown(&node.value))))
}

/// One of several words.
pub(super) fn word<T: Copy>(node: &Node, words: &[(&str, T)]) -> Result<T, Fault> {
    let Value::Text(text) = &node.value else { return Err(no_word(node, words)) };
    let found = words.iter().find(|(word, _)| *word == &**text);
    found.map(|&(_, value)| value).ok_or_else(|| no_word(node, words))
}

fn no_word<T>(node: &Node, words: &[(&str, T)]) -> Fault {
    let names: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let (last, others) = names
        .split_last()
        .map_or((String::new(), &[][..]), |(last, others)| (last.clone(), others));
    let what = if others.is_empty() { last } else { format!("{} or {last}", others.join(", ")) };
    let near = match &node.value {
        Value::Text(text) => nearest(text, words.iter().map(|&(word, _)| word)),
        _ => None,
    };
    let help = near.map(|near| format!("did you mean \"{near}\"?"));
    Fault { message: format!("must be {what}, not {}", Shown(&node.value)), help }
}

/// An IPv4 address.
pub(super) fn ipv4(node: &Node) -> Result<Ipv4Addr, Fault> {
    text(node)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| must_be("an IPv4 address", node, "write four numbers: \"10.1.0.6\""))
}

/// An IPv4 address that one host can have: neither unspecified nor broadcast nor multicast.
pub(super) fn host_ipv4(node: &Node) -> Result<Ipv4Addr, Fault> {
    let address = ipv4(node)?;
    if !is_unicast(address) {
        return Err(must_be("the address of a host", node, "write \"10.1.0.6\""));
    }
    Ok(address)
}

/// An IPv6 address.
pub(super) fn ipv6(node: &Node) -> Result<Ipv6Addr, Fault> {
    text(node)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| must_be("an IPv6 address", node, "write \"2001:db8::6\""))
}

/// Address and port.
pub(super) fn socket_address(node: &Node) -> Result<SocketAddr, Fault> {
    text(node).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
        must_be("an address with a port", node, "write \"127.0.0.1:9547\" or \"[::1]:9547\"")
    })
}

/// A prefix without host bits.
pub(super) fn prefix(node: &Node) -> Result<Prefix, Fault> {
    let wrong = || {
        must_be("a prefix", node, "write the network and the length of its mask: \"10.1.0.0/16\"")
    };
    let (address, length) = text(node)?.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.trim().parse().map_err(|_| wrong())?;
    let length = length.trim();
    if let Ok(mask) = length.parse::<Ipv4Addr>() {
        let bits = mask.to_bits().leading_ones();
        let right = u8::try_from(bits)
            .ok()
            .and_then(|bits| Prefix::containing(address, bits))
            .filter(|prefix| prefix.mask() == mask)
            .ok_or_else(wrong)?;
        return Err(must_be("a prefix", node, &format!("write the mask as a length: \"{right}\"")));
    }
    let length = length.parse().map_err(|_| wrong())?;
    let prefix = Prefix::containing(address, length).ok_or_else(|| {
        must_be("a prefix", node, "the length of an IPv4 mask is a number from 0 to 32")
    })?;
    if prefix.network() == address {
        return Ok(prefix);
    }
    Err(must_be(
        "a prefix",
        node,
        &format!("{address} has bits set behind the first {length}: write \"{prefix}\""),
    ))
}

/// Multicast groups that a site may use as it likes.
pub(super) fn multicast_groups(node: &Node) -> Result<Prefix, Fault> {
    let prefix = prefix(node)?;
    let (first, last) = (prefix.network(), prefix.broadcast());
    // RFC 5771: 224.0.0.0/24 and 224.0.1.0/24 are the network's own, switches let nobody choose
    // among the first.
    if !first.is_multicast() || !last.is_multicast() || first.octets()[..2] == [224, 0] {
        let help =
            "write some of 239.255.0.0/16, which are yours to use (RFC 2365): \"239.255.1.0/24\"";
        return Err(must_be("a prefix of multicast groups", node, help));
    }
    Ok(prefix)
}

/// The addresses of a pool, as written.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Range {
    /// `first-last` or one address.
    Span(Ipv4Addr, Ipv4Addr),
    /// A prefix, whose ends may be no host addresses.
    Prefix(Prefix),
}

impl Range {
    /// The first and the last address.
    pub(super) fn ends(self) -> (Ipv4Addr, Ipv4Addr) {
        match self {
            Self::Span(first, last) => (first, last),
            Self::Prefix(prefix) => (prefix.network(), prefix.broadcast()),
        }
    }
}

/// Addresses from one to another, one address, or a prefix.
pub(super) fn range(node: &Node) -> Result<Range, Fault> {
    let wrong = || must_be("a range of addresses", node, "write \"10.1.4.0-10.1.255.250\"");
    let range = text(node)?;
    if range.contains('/') {
        return prefix(node).map(Range::Prefix);
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let first: Ipv4Addr = first.trim().parse().map_err(|_| wrong())?;
    let last: Ipv4Addr = last.trim().parse().map_err(|_| wrong())?;
    if first > last {
        let help = format!("the lower address stands first: \"{last}-{first}\"");
        return Err(must_be("a range of addresses", node, &help));
    }
    Ok(Range::Span(first, last))
}

/// Two ports, `first-last`.
pub(super) fn port_range(node: &Node) -> Result<(u16, u16), Fault> {
    let wrong = || must_be("a range of ports", node, "write \"40000-40999\"");
    let (first, last) = text(node)?.split_once('-').ok_or_else(wrong)?;
    let first: u16 = first.trim().parse().map_err(|_| wrong())?;
    let last: u16 = last.trim().parse().map_err(|_| wrong())?;
    if first == 0 || first > last {
        return Err(wrong());
    }
    Ok((first, last))
}

/// A time such as `90s`, `1h30m` or `500ms`; a bare number is seconds.
pub(super) fn duration(node: &Node) -> Result<Duration, Fault> {
    let wrong = || {
        must_be("a time", node, "write a number and ms, s, m, h, d or w: \"90s\", \"1h\", \"7d\"")
    };
    let text = match &node.value {
        Value::Integer(seconds) => {
            return u64::try_from(*seconds).map(Duration::from_secs).map_err(|_| wrong());
        }
        _ => text(node).map_err(|_| wrong())?,
    };
    let mut rest = text;
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(wrong()),
        };
        rest = &rest[unit..];
        millis = number
            .checked_mul(scale)
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(wrong)?;
    }
    Ok(Duration::from_millis(millis))
}

/// A time within limits.
pub(super) fn duration_in(node: &Node, least: Duration, most: Duration) -> Result<Duration, Fault> {
    let time = duration(node)?;
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    let what = format!("a time from {least:?} to {most:?}");
    Err(Fault::plain(format!("must be {what}, not {}", Shown(&node.value))))
}

/// The time before a TFTP packet is sent again. RFC 2349 lets clients ask for 1 to 255 seconds; a
/// server may begin sooner.
pub(super) fn retry_interval(node: &Node) -> Result<Duration, Fault> {
    duration_in(node, Duration::from_millis(10), Duration::from_secs(255))
}

/// A point in time, as RFC 3339 has it, or in seconds since 1970. Seconds since 1970.
pub(super) fn date(node: &Node) -> Result<u64, Fault> {
    let seconds = match &node.value {
        Value::Integer(seconds) => Some(*seconds),
        Value::Text(text) => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second),
        _ => None,
    };
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).ok_or_else(|| no_date(node))
}

/// It is no point in time.
pub(super) fn no_date(node: &Node) -> Fault {
    must_be("a point in time", node, "write \"2026-11-28T06:00:00Z\"")
}

/// A time of whole seconds.
pub(super) fn whole_seconds(node: &Node) -> Result<Duration, Fault> {
    let time = duration(node)?;
    let whole = time.subsec_nanos() == 0 && time.as_secs() <= u32::MAX.into();
    whole.then_some(time).ok_or_else(|| must_be("whole seconds", node, "write \"60s\""))
}

/// The longest `reply-delay`: a client waits about four seconds for an OFFER (RFC 2131, section
/// 4.1), and a server that is told to stop waits five for its replies.
const LONGEST_REPLY_DELAY: Duration = Duration::from_secs(3);

/// How long a reply waits.
pub(super) fn reply_delay(node: &Node) -> Result<Duration, Fault> {
    duration_in(node, Duration::ZERO, LONGEST_REPLY_DELAY)
}

/// A lease time: whole seconds or `infinite`.
pub(super) fn lease_time(node: &Node) -> Result<LeaseTime, Fault> {
    if matches!(&node.value, Value::Text(text) if &**text == "infinite") {
        return Ok(LeaseTime::INFINITE);
    }
    let time = duration(node).map_err(|fault| Fault {
        help: fault.help.map(|help| format!("{help}, or \"infinite\"")),
        ..fault
    })?;
    if time.subsec_nanos() != 0 || time.is_zero() {
        return Err(must_be("whole seconds", node, "the shortest lease is \"1s\""));
    }
    match u32::try_from(time.as_secs()) {
        Ok(seconds) if seconds < u32::MAX => Ok(LeaseTime::from_seconds(seconds)),
        _ => Err(must_be("below 136 years", node, "write \"infinite\" for a lease without end")),
    }
}

/// A number of bytes such as `512MiB`; a bare number is bytes.
pub(super) fn size(node: &Node) -> Result<u64, Fault> {
    let wrong =
        || must_be("a size", node, "write a number and B, KiB, MiB, GiB, kB, MB or GB: \"512MiB\"");
    let text = match &node.value {
        Value::Integer(bytes) => return u64::try_from(*bytes).map_err(|_| wrong()),
        _ => text(node).map_err(|_| wrong())?,
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let scale: u64 = match text[digits..].trim_start() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(scale).ok_or_else(wrong)
}

/// A rate, in bytes a second: network equipment counts bits, so this is how it is written.
pub(super) fn rate(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let scale: u64 = match text[digits..].trim_start() {
        "kbit" => 1_000,
        "Mbit" => 1_000_000,
        "Gbit" => 1_000_000_000,
        _ => return None,
    };
    // A transfer that takes years is no transfer.
    Some(number.checked_mul(scale)? / 8).filter(|&bytes| bytes >= 1000)
}

/// The rate of one client.
pub(super) fn client_rate(node: &Node) -> Result<u64, Fault> {
    let wrong = || {
        must_be("a rate", node, "write a number and kbit, Mbit or Gbit, 8kbit or more: \"900Mbit\"")
    };
    text(node).ok().and_then(rate).ok_or_else(wrong)
}

/// The rate of an interface, or of all that are not named: `eth0 900Mbit`, `9Gbit`.
pub(super) fn interface_rate(node: &Node) -> Result<(Option<String>, u64), Fault> {
    let wrong = || {
        let help = "write \"9Gbit\" for every interface, or \"eth0 900Mbit\" for one; kbit, Mbit or Gbit, 8kbit or more";
        must_be("a rate, or an interface and its rate", node, help)
    };
    let text = text(node).map_err(|_| wrong())?;
    let (name, text) = match text.split_once(' ') {
        Some((name, rest)) if !name.starts_with(|c: char| c.is_ascii_digit()) => {
            (Some(name.to_owned()), rest.trim_start())
        }
        _ => (None, text),
    };
    rate(text).map(|rate| (name, rate)).ok_or_else(wrong)
}

/// A hardware address or the beginning of one, 1 to 16 bytes: `52:54:00:12:34:56`, with `-` or `.`
/// or nothing between the digits as well.
pub(super) fn hardware(node: &Node) -> Result<Box<[u8]>, Fault> {
    let wrong = || must_be("a hardware address", node, "write \"52:54:00:12:34:56\"");
    let text = text(node)?;
    let separated = text.contains([':', '-']);
    let bytes: Vec<u8> = if separated {
        let part = |part: &str| match part.len() {
            1 | 2 if is_hex(part) => u8::from_str_radix(part, 16).ok(),
            _ => None,
        };
        text.trim_end_matches([':', '-']).split([':', '-']).map(part).collect::<Option<_>>()
    } else {
        hex(&text.replace('.', ""))
    }
    .ok_or_else(wrong)?;
    if bytes.is_empty() || bytes.len() > 16 {
        return Err(wrong());
    }
    Ok(bytes.into())
}

/// A UUID in the usual form; the dashes may be missing.
pub(super) fn uuid(node: &Node) -> Result<[u8; 16], Fault> {
    let text = text(node)?;
    if let Some(id) = MachineId::from_text(text) {
        return Ok(*id.as_bytes());
    }
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    Err(if digits == 32 && text.len() <= 36 {
        must_be(
            "a UUID of one machine",
            node,
            "boards without a UUID of their own send this one: identify the machine by hardware",
        )
    } else {
        let help = "write 32 hexadecimal digits: \"4c4c4544-0042-3510-8051-b2c04f4b3532\"";
        must_be("a UUID", node, help)
    })
}

/// Bytes: a text stands for itself, and `hex:` goes before hexadecimal digits.
pub(super) fn octets(node: &Node) -> Result<Box<[u8]>, Fault> {
    let text = text(node)?;
    let Some(digits) = text.strip_prefix("hex:") else { return Ok(text.as_bytes().into()) };
    hex_octets(digits)
        .map(Into::into)
        .ok_or_else(|| must_be("bytes", node, "write pairs of hexadecimal digits: \"hex:0a0b\""))
}

/// The digits after `hex:`; `:`, `-` and blanks may stand between the bytes.
pub(super) fn hex_octets(digits: &str) -> Option<Vec<u8>> {
    let digits: String = digits.chars().filter(|c| !matches!(c, ':' | '-' | ' ')).collect();
    hex(&digits)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    if !is_hex(digits) || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}
