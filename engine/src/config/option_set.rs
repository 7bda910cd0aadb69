//! DHCP options of one scope, encoded.

use std::collections::BTreeMap;

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

/// Options by code, as the bytes of the wire: without code and length octets, and longer than 255
/// bytes where need be (the writer splits them, RFC 3396). All of a set is one allocation, and an
/// empty set owns no heap memory, because two hundred thousand hosts have one each.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct OptionSet {
    /// Bit `code % 64` is set for each option: most look-ups of a code that is missing end here.
    filter: u64,
    /// Nothing for an empty set. Else the number of options less one, in one byte; their codes,
    /// rising; the end of each value, counted from the first value, in four bytes; the values.
    packed: Box<[u8]>,
}

/// The options of a set, wherever they lie in memory.
#[derive(Copy, Clone, Debug)]
pub struct OptionView<'c> {
    filter: u64,
    packed: &'c [u8],
}

/// The parts of a packed set.
#[derive(Copy, Clone, Default)]
struct Parts<'a> {
    codes: &'a [u8],
    /// Little-endian.
    ends: &'a [[u8; 4]],
    values: &'a [u8],
}

impl OptionSet {
    /// Builds a set; of two values for one code the later stands.
    pub fn new(options: impl IntoIterator<Item = (u8, Vec<u8>)>) -> Self {
        let by_code: BTreeMap<u8, Vec<u8>> = options.into_iter().collect();
        let count = by_code.len();
        // There are 256 codes.
        let Some(last) = count.checked_sub(1).and_then(|last| u8::try_from(last).ok()) else {
            return Self::default();
        };
        let values = by_code.values();
        let mut packed =
            Vec::with_capacity(1 + 5 * count + values.clone().map(Vec::len).sum::<usize>());
        packed.push(last);
        packed.extend(by_code.keys());
        let mut end = 0;
        for value in values.clone() {
            end += value.len();
            // The loader reads files below 4 GiB, so the options of one scope are, too.
            packed.extend(u32::try_from(end).unwrap_or(u32::MAX).to_le_bytes());
        }
        values.for_each(|value| packed.extend_from_slice(value));
        let filter = by_code.keys().fold(0, |filter, &code| filter | 1_u64 << (code % 64));
        Self { filter, packed: packed.into() }
    }

    /// The same options, by reference.
    pub fn view(&self) -> OptionView<'_> {
        OptionView { filter: self.filter, packed: &self.packed }
    }

    /// The value of option `code`, if this set has it; an empty value is a value.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.view().get(code)
    }

    /// Whether the set has option `code`.
    pub fn contains(&self, code: u8) -> bool {
        self.get(code).is_some()
    }

    /// Every option by rising code.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.view().iter()
    }

    /// How many options there are.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there is no option at all.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }
}

impl<'c> OptionView<'c> {
    /// No option.
    pub(super) const NONE: Self = Self { filter: 0, packed: &[] };

    /// One option.
    pub(super) fn one(code: u8, value: &[u8], arena: &'c Bump) -> Self {
        let mut packed = BumpVec::with_capacity_in(6 + value.len(), arena);
        packed.extend_from_slice(&[0, code]);
        // Values are far shorter than 4 GiB.
        packed.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        packed.extend_from_slice(value);
        Self { filter: 1 << (code % 64), packed: packed.into_bump_slice() }
    }

    /// The value of option `code`, if this set has it; an empty value is a value.
    pub fn get(self, code: u8) -> Option<&'c [u8]> {
        if self.filter >> (code % 64) & 1 == 0 {
            return None;
        }
        let parts = self.parts();
        parts.value(parts.codes.binary_search(&code).ok()?)
    }

    /// Whether the set has option `code`.
    pub fn contains(self, code: u8) -> bool {
        self.get(code).is_some()
    }

    /// Every option by rising code.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'c [u8])> {
        let parts = self.parts();
        let codes = parts.codes.iter().enumerate();
        codes.filter_map(move |(index, &code)| Some((code, parts.value(index)?)))
    }

    /// How many options there are.
    pub fn len(self) -> usize {
        self.packed.first().map_or(0, |&last| usize::from(last) + 1)
    }

    /// Whether there is no option at all.
    pub fn is_empty(self) -> bool {
        self.packed.is_empty()
    }

    fn parts(self) -> Parts<'c> {
        let count = self.len();
        let Some((codes, rest)) =
            self.packed.get(1..).and_then(|rest| rest.split_at_checked(count))
        else {
            return Parts::default();
        };
        let Some((ends, values)) = rest.split_at_checked(4 * count) else {
            return Parts::default();
        };
        Parts { codes, ends: ends.as_chunks().0, values }
    }
}

impl<'a> Parts<'a> {
    fn value(self, index: usize) -> Option<&'a [u8]> {
        let end = |index: usize| Some(u32::from_le_bytes(*self.ends.get(index)?) as usize);
        let start = match index.checked_sub(1) {
            Some(previous) => end(previous)?,
            None => 0,
        };
        self.values.get(start..end(index)?)
    }
}
