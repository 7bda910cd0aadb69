//! What the configuration keeps on a lease (dhcpd: the lease's scope): variables that its
//! statements set, and what it has done when the lease ends.
//!
//! It is one note of at most [`LONGEST`] bytes, in memory as on disk:
//! ```text
//! flags 1: 1 expiry, 2 release | if expiry: which block 8 | if release: which block 8 |
//! for each variable: name length 1, name | type 1 | value
//! ```
//! The value of a number has 8 bytes, that of data a length and so many bytes; true and false are
//! types of their own. Numbers are big-endian. Types never change their meaning.

use bumpalo::Bump;

use crate::config::{BlockKey, Value};

/// Bytes of the longest: a length is one byte.
pub(super) const LONGEST: usize = 255;
/// Variables of one lease at most.
pub const MOST_VARIABLES: usize = 16;
/// Bytes for all variables of one lease: for each its name, its value and two more, or three where
/// the value is data; a number has 8.
pub const VARIABLE_BYTES: usize = LONGEST - 1 - 2 * size_of::<BlockKey>();

const EXPIRY: u8 = 1;
const RELEASE: u8 = 2;

const FALSE: u8 = 0;
const TRUE: u8 = 1;
const NUMBER: u8 = 2;
const DATA: u8 = 3;

/// What the configuration keeps on a lease. When the lease is given back, it is forgotten.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaseScope<'a> {
    /// What runs when its time is over.
    pub expiry: Option<BlockKey>,
    /// What runs when it is given back.
    pub release: Option<BlockKey>,
    /// Its variables.
    pub variables: Variables<'a>,
}

/// The variables of a lease.
#[derive(Copy, Clone, PartialEq, Eq, Default)]
pub struct Variables<'a>(&'a [u8]);

impl<'a> LeaseScope<'a> {
    /// Reads a note. What cannot be read is left out.
    pub(super) fn of_note(note: &'a [u8]) -> Self {
        let Some((flags, mut rest)) = note.split_first() else { return Self::default() };
        let mut block = |flag| {
            let (key, behind) = rest.split_first_chunk().filter(|_| flags & flag != 0)?;
            rest = behind;
            Some(BlockKey(u64::from_be_bytes(*key)))
        };
        let (expiry, release) = (block(EXPIRY), block(RELEASE));
        Self { expiry, release, variables: Variables(rest) }
    }

    /// The same with its variables in the arena.
    pub(crate) fn copied<'b>(&self, arena: &'b Bump) -> LeaseScope<'b> {
        let variables = Variables(arena.alloc_slice_copy(self.variables.0));
        LeaseScope { variables, expiry: self.expiry, release: self.release }
    }

    /// Writes the note into `room`; empty if there is nothing to keep.
    pub(super) fn write<'r>(&self, room: &'r mut [u8; LONGEST]) -> &'r [u8] {
        let Self { expiry, release, variables } = self;
        let mut room = Room::new(room);
        let flag = |block: &Option<BlockKey>, flag| if block.is_some() { flag } else { 0 };
        let flags = flag(expiry, EXPIRY) | flag(release, RELEASE);
        if flags == 0 && variables.0.is_empty() {
            return &[];
        }
        room.push(&[&[flags]]);
        for BlockKey(key) in [expiry, release].into_iter().flatten() {
            room.push(&[&key.to_be_bytes()]);
        }
        // At most `VARIABLE_BYTES`, or as many as were read from a note of this length.
        room.push(&[variables.0]);
        room.done()
    }
}

impl<'a> Variables<'a> {
    /// Every variable with its value.
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (name, value, behind) = first(rest)?;
            rest = behind;
            Some((name, value))
        })
    }

    /// The value of a variable, in upper or lower case.
    pub(crate) fn get(self, name: &str) -> Option<Value<'a>> {
        let is_it = |own: &[u8]| own.eq_ignore_ascii_case(name.as_bytes());
        self.iter().find(|(own, _)| is_it(own)).map(|(_, value)| value)
    }

    /// These variables with what was `set` since, where `None` takes a variable away. They are
    /// written into `room`. How many have no place there comes back with them.
    pub(crate) fn with<'s>(
        self,
        set: impl Iterator<Item = (&'s str, Option<Value<'s>>)> + Clone,
        room: &mut [u8; VARIABLE_BYTES],
    ) -> (Variables<'_>, u32) {
        let last = |name: &[u8]| {
            set.clone().filter(|(own, _)| own.as_bytes().eq_ignore_ascii_case(name)).last()
        };
        let mut room = Room::new(room);
        let (mut count, mut lost) = (0, 0);
        let mut keep = |name: &[u8], value: Value<'_>| match count < MOST_VARIABLES
            && room.variable(name, value)
        {
            true => count += 1,
            false => lost += 1,
        };
        for (name, before) in self.iter() {
            match last(name) {
                None => keep(name, before),
                Some((_, Some(value))) => keep(name, value),
                Some((_, None)) => {}
            }
        }
        for (place, (name, _)) in set.clone().enumerate() {
            let same = |own: &str| own.eq_ignore_ascii_case(name);
            let is_first = !set.clone().take(place).any(|(own, _)| same(own));
            if is_first
                && self.get(name).is_none()
                && let Some((_, Some(value))) = last(name.as_bytes())
            {
                keep(name.as_bytes(), value);
            }
        }
        (Variables(room.done()), lost)
    }
}

impl std::fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self.iter().map(|(name, value)| (name.escape_ascii().to_string(), value));
        f.debug_map().entries(all).finish()
    }
}

/// The first variable, and what stands behind it.
fn first(bytes: &[u8]) -> Option<(&[u8], Value<'_>, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (kind, rest) = rest.split_first()?;
    Some(match *kind {
        FALSE => (name, Value::Boolean(false), rest),
        TRUE => (name, Value::Boolean(true), rest),
        NUMBER => {
            let (number, rest) = rest.split_first_chunk()?;
            (name, Value::Numeric(u64::from_be_bytes(*number)), rest)
        }
        DATA => {
            let (length, rest) = rest.split_first()?;
            let (data, rest) = rest.split_at_checked(usize::from(*length))?;
            (name, Value::Data(data), rest)
        }
        _ => return None,
    })
}

/// Bytes that are put together in place.
pub(super) struct Room<'r> {
    bytes: &'r mut [u8],
    length: usize,
}

impl<'r> Room<'r> {
    pub(super) fn new(bytes: &'r mut [u8]) -> Self {
        Self { bytes, length: 0 }
    }

    /// Adds parts, all of them or none.
    pub(super) fn push(&mut self, parts: &[&[u8]]) -> bool {
        let end = self.length + parts.iter().map(|part| part.len()).sum::<usize>();
        if end > self.bytes.len() {
            return false;
        }
        for part in parts {
            self.bytes[self.length..self.length + part.len()].copy_from_slice(part);
            self.length += part.len();
        }
        true
    }

    fn variable(&mut self, name: &[u8], value: Value<'_>) -> bool {
        let Ok(name_length) = u8::try_from(name.len()) else { return false };
        let head = [name_length];
        match value {
            Value::Boolean(true) => self.push(&[&head, name, &[TRUE]]),
            Value::Boolean(false) => self.push(&[&head, name, &[FALSE]]),
            Value::Numeric(number) => self.push(&[&head, name, &[NUMBER], &number.to_be_bytes()]),
            Value::Data(data) => match u8::try_from(data.len()) {
                Ok(length) => self.push(&[&head, name, &[DATA, length], data]),
                Err(_) => false,
            },
        }
    }

    pub(super) fn done(self) -> &'r [u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Set<'s> = (&'s str, Option<Value<'s>>);

    /// What becomes of variables, as text, and how many are lost.
    fn after(before: Variables<'_>, set: &[Set<'_>]) -> (Vec<u8>, u32) {
        let mut room = [0; VARIABLE_BYTES];
        let (variables, lost) = before.with(set.iter().copied(), &mut room);
        (variables.0.to_vec(), lost)
    }

    #[test]
    fn the_last_value_stands_and_what_is_taken_away_is_gone() {
        let set = [
            ("ip", Some(Value::Data(b"10.0.0.1"))),
            ("count", Some(Value::Numeric(1))),
            ("seen", Some(Value::Boolean(true))),
            ("count", Some(Value::Numeric(2))),
            ("gone", Some(Value::Data(b"x"))),
            ("gone", None),
        ];
        let (first, lost) = after(Variables::default(), &set);
        let variables = Variables(&first);
        assert_eq!((variables.iter().count(), lost), (3, 0));
        assert_eq!(variables.get("IP"), Some(Value::Data(b"10.0.0.1")));
        assert_eq!(variables.get("count"), Some(Value::Numeric(2)));
        assert_eq!(variables.get("gone"), None);
        let set = [("ip", None), ("Seen", Some(Value::Boolean(false)))];
        let (second, _) = after(variables, &set);
        let text = format!("{:?}", Variables(&second));
        assert_eq!(text, r#"{"count": Numeric(2), "seen": Boolean(false)}"#);
        // The same again changes nothing.
        assert_eq!(after(Variables(&second), &[]).0, second);
    }

    #[test]
    fn what_has_no_place_is_counted_and_the_rest_stays() {
        let long = [7; VARIABLE_BYTES - 12];
        let set: [Set<'_>; 4] = [
            ("a", Some(Value::Data(&long))),
            ("b", Some(Value::Numeric(1))),
            ("c", Some(Value::Boolean(true))),
            ("d", Some(Value::Data(&[7; 256]))),
        ];
        let (bytes, lost) = after(Variables::default(), &set);
        let variables = Variables(&bytes);
        assert_eq!((lost, variables.get("b")), (2, None));
        assert_eq!(variables.get("c"), Some(Value::Boolean(true)));
        let names: Vec<String> = (0..20).map(|number| format!("v{number}")).collect();
        let set: Vec<Set<'_>> =
            names.iter().map(|name| (&**name, Some(Value::Boolean(true)))).collect();
        let (bytes, lost) = after(Variables::default(), &set);
        assert_eq!((Variables(&bytes).iter().count(), lost), (MOST_VARIABLES, 4));
    }

    /// It is on disk, so it never changes its meaning.
    #[test]
    fn the_bytes_of_a_note() {
        let set = [
            ("ip", Some(Value::Data(b"10.0.0.1"))),
            ("n", Some(Value::Numeric(7))),
            ("t", Some(Value::Boolean(true))),
        ];
        let (bytes, _) = after(Variables::default(), &set);
        let variables = Variables(&bytes);
        let scope = LeaseScope { expiry: Some(BlockKey(0x0102)), release: None, variables };
        let mut room = [0; LONGEST];
        let note = scope.write(&mut room);
        assert_eq!(
            note,
            b"\x01\0\0\0\0\0\0\x01\x02\x02ip\x03\x0810.0.0.1\x01n\x02\0\0\0\0\0\0\0\x07\x01t\x01"
        );
        assert_eq!(LeaseScope::of_note(note), scope);
        let both = LeaseScope { release: Some(BlockKey(3)), ..scope };
        assert_eq!(LeaseScope::of_note(both.write(&mut [0; LONGEST])), both);
        assert_eq!(LeaseScope::default().write(&mut [0; LONGEST]), b"");
        // What is cut short or unknown is left out.
        assert_eq!(LeaseScope::of_note(&note[..20]).variables.iter().count(), 0);
        assert_eq!(LeaseScope::of_note(b"\0\x01t\x09").variables.get("t"), None);
    }
}
