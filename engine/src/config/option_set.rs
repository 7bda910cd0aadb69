//! DHCP options of one scope, encoded.

/// Options by code, as the bytes of the wire: without code and length octets, and longer than 255
/// bytes where need be (the writer splits them, RFC 3396). Lookup takes constant time; an empty set
/// owns no heap memory, because two hundred thousand hosts have one each.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct OptionSet {
    /// Bit `code` says whether the option is present.
    present: [u64; 4],
    /// End of each option in `bytes`, by rising code; one entry for each bit set in `present`.
    ends: Box<[u32]>,
    bytes: Box<[u8]>,
}

impl OptionSet {
    /// Builds a set; of two values for one code the later stands.
    pub fn new(options: impl IntoIterator<Item = (u8, Vec<u8>)>) -> Self {
        let by_code: std::collections::BTreeMap<u8, Vec<u8>> = options.into_iter().collect();
        let mut set = Self::default();
        let mut ends = Vec::with_capacity(by_code.len());
        let mut bytes = Vec::new();
        for (code, value) in by_code {
            set.present[usize::from(code / 64)] |= 1 << (code % 64);
            bytes.extend_from_slice(&value);
            // The loader reads files below 4 GiB, so the options of one scope are, too.
            ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        set.ends = ends.into();
        set.bytes = bytes.into();
        set
    }

    /// The value of option `code`, if this set has it; an empty value is a value.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        let (word, bit) = (usize::from(code / 64), code % 64);
        if self.present[word] >> bit & 1 == 0 {
            return None;
        }
        let below: u32 = self.present[..word].iter().map(|word| word.count_ones()).sum::<u32>()
            + (self.present[word] & ((1 << bit) - 1)).count_ones();
        self.at(below as usize)
    }

    /// Whether the set has option `code`.
    pub fn contains(&self, code: u8) -> bool {
        self.present[usize::from(code / 64)] >> (code % 64) & 1 == 1
    }

    /// Every option by rising code.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        (0..=u8::MAX)
            .filter(|&code| self.contains(code))
            .enumerate()
            .filter_map(|(index, code)| Some((code, self.at(index)?)))
    }

    /// How many options there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no option at all.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn at(&self, index: usize) -> Option<&[u8]> {
        let start = match index.checked_sub(1) {
            Some(previous) => *self.ends.get(previous)?,
            None => 0,
        };
        self.bytes.get(start as usize..*self.ends.get(index)? as usize)
    }
}
