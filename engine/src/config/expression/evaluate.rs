//! What expressions yield.
//!
//! Nothing is allocated but in the arena. The work for one expression is bounded by its number of
//! parts times the length of the message or of [`LONGEST_VALUE`].

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::{Arithmetic, Boolean, Data, Numeric, OptionPath, Width};
use crate::config::statement::Key;
use crate::config::{ClassId, VariableId};

/// Bytes of the longest value that is put together; a longer one is null. Parts of a message have
/// no such limit.
pub(super) const LONGEST_VALUE: usize = 8 << 10;
/// Numbers are written in these bases.
const BASES: std::ops::RangeInclusive<u64> = 2..=36;

/// What is known of one message and its sender. What is not known is null, or false, as in dhcpd.
pub(crate) trait Facts<'a> {
    /// The value of an option as it was sent, all pieces of it joined.
    fn option(&self, _path: OptionPath) -> Option<&'a [u8]> {
        None
    }

    /// The type of the card, one byte, and its address.
    fn hardware(&self) -> Option<&'a [u8]> {
        None
    }

    /// The whole message.
    fn message(&self) -> &'a [u8] {
        &[]
    }

    /// The field `file`, 128 bytes.
    fn file(&self) -> &'a [u8] {
        &[]
    }

    /// The field `sname`, 64 bytes.
    fn server_name(&self) -> &'a [u8] {
        &[]
    }

    /// Whether the sender is a member of a class that stands before the one that is asked about.
    fn is_member(&self, _class: ClassId) -> bool {
        false
    }

    /// Whether it has a host entry.
    fn is_known(&self) -> bool {
        false
    }

    /// Whether its address is that of its host entry.
    fn is_static(&self) -> bool {
        false
    }

    /// What is sent of an option or a setting, as far as it is decided.
    fn configured(&self, _key: Key) -> Option<&'a [u8]> {
        None
    }

    /// The address that it gets, four bytes.
    fn leased_address(&self) -> Option<&'a [u8]> {
        None
    }

    /// The name of its host entry, if it has its address by that.
    fn host_decl_name(&self) -> Option<&'a [u8]> {
        None
    }

    /// Seconds until the lease ends.
    fn lease_time(&self) -> Option<u64> {
        None
    }

    /// The value of a variable.
    fn variable(&self, _variable: VariableId) -> Option<Value<'a>> {
        None
    }
}

/// The value of a variable.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Value<'a> {
    Data(&'a [u8]),
    Numeric(u64),
    Boolean(bool),
}

/// Nothing is known: for what consists of constants.
pub(in crate::config) struct Nothing;

impl Facts<'_> for Nothing {}

impl Boolean {
    /// True, false, or `None` for null.
    pub(crate) fn evaluate<'a>(&'a self, facts: &impl Facts<'a>, arena: &'a Bump) -> Option<bool> {
        match self {
            Self::Constant(value) => Some(*value),
            Self::Null => None,
            // What stands behind false or null is not looked at, and then all of it is null: so
            // `false and x` is null, as in dhcpd.
            Self::And(parts) => {
                let (last, others) = parts.split_last()?;
                let all = others.iter().all(|part| part.evaluate(facts, arena) == Some(true));
                if all { last.evaluate(facts, arena) } else { None }
            }
            // Null beside false is false.
            Self::Or(parts) => {
                let mut value = None;
                for part in parts {
                    match part.evaluate(facts, arena) {
                        Some(true) => return Some(true),
                        Some(false) => value = Some(false),
                        None => {}
                    }
                }
                value
            }
            Self::Not(part) => part.evaluate(facts, arena).map(|value| !value),
            // Null equals null, and nothing else.
            Self::DataEqual(sides) => {
                let [left, right] = sides.each_ref().map(|side| side.evaluate(facts, arena));
                Some(left == right)
            }
            Self::NumbersEqual(sides) => {
                let [left, right] = sides.each_ref().map(|side| side.evaluate(facts, arena));
                Some(left == right)
            }
            Self::Matches(value, pattern) => {
                value.evaluate(facts, arena).map(|value| pattern.is_in(value))
            }
            Self::Exists(path) => Some(option(*path, facts).is_some()),
            Self::Member(class) => Some(facts.is_member(*class)),
            Self::Known => Some(facts.is_known()),
            Self::Static => Some(facts.is_static()),
            Self::Defined(variable) => Some(facts.variable(*variable).is_some()),
            Self::Variable(variable) => match facts.variable(*variable) {
                Some(Value::Boolean(value)) => Some(value),
                _ => None,
            },
            Self::VariablesEqual([left, right]) => {
                Some(facts.variable(*left) == facts.variable(*right))
            }
        }
    }
}

impl Data {
    /// The bytes, or `None` for null. Null in any argument makes it null, but for `pick`.
    pub(crate) fn evaluate<'a>(
        &'a self,
        facts: &impl Facts<'a>,
        arena: &'a Bump,
    ) -> Option<&'a [u8]> {
        match self {
            Self::Constant(value) => Some(value),
            Self::Null => None,
            Self::Option(path) => option(*path, facts),
            Self::Hardware => facts.hardware(),
            Self::File => text(facts.file()),
            Self::ServerName => text(facts.server_name()),
            Self::Packet(part) => {
                let [offset, len] = part.each_ref().map(|side| side.evaluate(facts, arena));
                let (rest, len) = (behind(facts.message(), offset?), len?);
                // Behind the end there is nothing, not even an empty value.
                (!rest.is_empty()).then(|| &rest[..shorter(rest.len(), len)])
            }
            Self::Substring(arguments) => {
                let (value, offset, len) = &**arguments;
                let value = value.evaluate(facts, arena)?;
                let rest = behind(value, offset.evaluate(facts, arena)?);
                Some(&rest[..shorter(rest.len(), len.evaluate(facts, arena)?)])
            }
            Self::Suffix(arguments) => {
                let (value, len) = &**arguments;
                let value = value.evaluate(facts, arena)?;
                let len = shorter(value.len(), len.evaluate(facts, arena)?);
                Some(&value[value.len() - len..])
            }
            Self::LowerCase(value) => {
                let value = value.evaluate(facts, arena)?;
                let lower = value.iter().map(u8::to_ascii_lowercase);
                short(value.len()).then(|| &*arena.alloc_slice_fill_iter(lower))
            }
            Self::UpperCase(value) => {
                let value = value.evaluate(facts, arena)?;
                let upper = value.iter().map(u8::to_ascii_uppercase);
                short(value.len()).then(|| &*arena.alloc_slice_fill_iter(upper))
            }
            Self::Concat(parts) => {
                let mut value = BumpVec::new_in(arena);
                for part in parts {
                    let part = part.evaluate(facts, arena)?;
                    append(&mut value, part)?;
                }
                Some(value.into_bump_slice())
            }
            // The first that is not null, be it empty.
            Self::PickFirst(parts) => parts.iter().find_map(|part| part.evaluate(facts, arena)),
            Self::Reverse(arguments) => {
                let (width, value) = &**arguments;
                let width = usize::try_from(width.evaluate(facts, arena)?).ok()?;
                let value = value.evaluate(facts, arena)?;
                if width == 0 || value.len() % width != 0 || !short(value.len()) {
                    return None;
                }
                let mut reversed = BumpVec::with_capacity_in(value.len(), arena);
                value.rchunks(width).for_each(|piece| reversed.extend_from_slice(piece));
                Some(reversed.into_bump_slice())
            }
            Self::BinaryToAscii(arguments) => {
                let (base, width, separator, value) = &**arguments;
                let base = base.evaluate(facts, arena)?;
                let width = Width::of_bits(width.evaluate(facts, arena)?)?.bytes();
                let separator = separator.evaluate(facts, arena)?;
                let value = value.evaluate(facts, arena)?;
                if value.len() % width != 0 || !BASES.contains(&base) {
                    return None;
                }
                let mut text = BumpVec::new_in(arena);
                for (index, number) in value.chunks(width).enumerate() {
                    append(&mut text, if index == 0 { &[] } else { separator })?;
                    digits(big_endian(number), base, &mut text)?;
                }
                Some(text.into_bump_slice())
            }
            // What does not fit is cut off.
            Self::EncodeInt(number, width) => {
                let bytes = number.evaluate(facts, arena)?.to_be_bytes();
                Some(arena.alloc_slice_copy(&bytes[8 - width.bytes()..]))
            }
            Self::Configured(key) => facts.configured(*key),
            Self::LeasedAddress => facts.leased_address(),
            Self::HostDeclName => facts.host_decl_name(),
            Self::Variable(variable) => match facts.variable(*variable) {
                Some(Value::Data(value)) => Some(value),
                _ => None,
            },
        }
    }
}

impl Numeric {
    /// The number, or `None` for null.
    pub(crate) fn evaluate<'a>(&'a self, facts: &impl Facts<'a>, arena: &'a Bump) -> Option<u64> {
        match self {
            Self::Constant(value) => Some(*value),
            Self::Null => None,
            // The first bytes count; too few are null.
            Self::ExtractInt(value, width) => {
                Some(big_endian(value.evaluate(facts, arena)?.get(..width.bytes())?))
            }
            Self::LeaseTime => facts.lease_time(),
            Self::Variable(variable) => match facts.variable(*variable) {
                Some(Value::Numeric(value)) => Some(value),
                _ => None,
            },
            Self::Arithmetic(operator, sides) => {
                let [left, right] = sides.each_ref().map(|side| side.evaluate(facts, arena));
                let (left, right) = (left?, right?);
                match operator {
                    Arithmetic::Add => Some(left.wrapping_add(right)),
                    Arithmetic::Subtract => Some(left.wrapping_sub(right)),
                    Arithmetic::Multiply => Some(left.wrapping_mul(right)),
                    Arithmetic::Divide => left.checked_div(right),
                    Arithmetic::Remainder => left.checked_rem(right),
                    Arithmetic::And => Some(left & right),
                    Arithmetic::Or => Some(left | right),
                    Arithmetic::Xor => Some(left ^ right),
                }
            }
        }
    }
}

/// An option as dhcpd keeps it.
pub(crate) fn option<'a>(path: OptionPath, facts: &impl Facts<'a>) -> Option<&'a [u8]> {
    let value = facts.option(path)?;
    if !path.text {
        return Some(value);
    }
    let end = value.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    (!value.is_empty()).then(|| &value[..end])
}

/// A field up to its NUL; an empty one is null.
fn text(field: &[u8]) -> Option<&[u8]> {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    (end > 0).then(|| &field[..end])
}

/// What stands behind so many bytes.
fn behind(value: &[u8], offset: u64) -> &[u8] {
    usize::try_from(offset).ok().and_then(|offset| value.get(offset..)).unwrap_or_default()
}

/// The shorter of two lengths.
fn shorter(len: usize, wanted: u64) -> usize {
    usize::try_from(wanted).map_or(len, |wanted| len.min(wanted))
}

fn short(len: usize) -> bool {
    len <= LONGEST_VALUE
}

/// Adds to a value that is put together, unless it gets too long.
fn append(value: &mut BumpVec<'_, u8>, part: &[u8]) -> Option<()> {
    if !short(value.len() + part.len()) {
        return None;
    }
    value.extend_from_slice(part);
    Some(())
}

/// A number of at most eight bytes.
fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Adds a number of at most 32 bits in a base of [`BASES`], in lower case. It has no leading zeros
/// but where dhcpd puts some: it compares with powers of the base in 32 bits, of which those that
/// do not fit may count as well.
fn digits(mut number: u64, base: u64, text: &mut BumpVec<'_, u8>) -> Option<()> {
    // Below 37, so it fits.
    let base = base as u32;
    let (mut count, mut power) = (1, base);
    while number >= u64::from(power) {
        count += 1;
        let next = power.wrapping_mul(base);
        if next <= power {
            break;
        }
        power = next;
    }
    let mut room = [0; 64];
    let start = room.len().checked_sub(count)?;
    for place in room[start..].iter_mut().rev() {
        *place = char::from_digit((number % u64::from(base)) as u32, base)? as u8;
        number /= u64::from(base);
    }
    append(text, &room[start..])
}
