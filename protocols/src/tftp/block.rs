//! Block numbers: 64 bits in memory, 16 bits on the wire.

/// What follows block 65535 on the wire. RFC 1350 does not say; the field counts on to 0, and a
/// few clients ask for 1 with the `rollover` option.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Rollover {
    /// 65535 is followed by 0: the low 16 bits of the absolute number.
    #[default]
    ToZero,
    /// 65535 is followed by 1: 0 means only "before the first block".
    ToOne,
}

impl Rollover {
    /// The number on the wire of the absolute block `block`.
    #[must_use]
    pub fn wire(self, block: u64) -> u16 {
        match self {
            Self::ToZero => (block & 0xffff) as u16,
            Self::ToOne if block == 0 => 0,
            // At most 65535, so nothing is cut off.
            Self::ToOne => ((block - 1) % 0xffff + 1) as u16,
        }
    }

    /// How many blocks after the absolute block `from` the wire number `wire` stands, going
    /// forwards: 0 for `from` itself. `None` for a number that no block has.
    #[must_use]
    pub fn distance(self, from: u64, wire: u16) -> Option<u64> {
        match self {
            Self::ToZero => Some(u64::from(wire.wrapping_sub(self.wire(from)))),
            Self::ToOne if wire == 0 => (from == 0).then_some(0),
            Self::ToOne if from == 0 => Some(u64::from(wire)),
            Self::ToOne => {
                let (wire, from) = (u64::from(wire), u64::from(self.wire(from)));
                Some((wire + 0xffff - from) % 0xffff)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rollover;
    use proptest::prelude::*;

    #[test]
    fn block_65536_is_zero_or_one() {
        assert_eq!(Rollover::ToZero.wire(65_535), 65_535);
        assert_eq!(Rollover::ToZero.wire(65_536), 0);
        assert_eq!(Rollover::ToZero.wire(65_537), 1);
        assert_eq!(Rollover::ToOne.wire(65_535), 65_535);
        assert_eq!(Rollover::ToOne.wire(65_536), 1);
        assert_eq!(Rollover::ToOne.wire(2 * 65_535), 65_535);
        assert_eq!(Rollover::ToOne.distance(65_535, 0), None);
        assert_eq!(Rollover::ToOne.distance(0, 0), Some(0));
    }

    proptest! {
        #[test]
        fn distance_undoes_wire(from in 0u64..10_000_000, ahead in 0u64..65_535, one: bool) {
            let rollover = if one { Rollover::ToOne } else { Rollover::ToZero };
            let wire = rollover.wire(from + ahead);
            prop_assert_eq!(rollover.distance(from, wire), Some(ahead));
        }
    }
}
