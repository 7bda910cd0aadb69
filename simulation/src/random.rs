//! Random numbers from one seed: as a function of their purpose where a story may be shortened, as
//! a stream where it is made.

/// Where all random numbers of one simulation come from.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seed(pub(crate) u64);

/// What a number is for: numbers of different purposes have nothing to do with each other.
#[derive(Copy, Clone, Debug)]
#[repr(u64)]
pub(crate) enum Purpose {
    Plan = 1,
    ToServer,
    ToMachine,
    Patience,
    Disk,
    Choice,
    Network,
    Content,
    Trouble,
    Ping,
}

impl Seed {
    /// A number that depends on nothing else: leaving out a machine or a message leaves those of
    /// all others as they were.
    pub(crate) fn draw(self, purpose: Purpose, of: u64, number: u64) -> u64 {
        mix(mix(mix(self.0 ^ (purpose as u64) << 56) ^ of) ^ number)
    }

    /// The numbers of one purpose, one after the other.
    pub(crate) fn stream(self, purpose: Purpose) -> Stream {
        Stream(self.draw(purpose, 0, 0))
    }
}

/// A sequence of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Stream(pub(crate) u64);

impl Stream {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `share` of 1000 cases.
    pub(crate) fn chance(&mut self, share: u64) -> bool {
        self.below(1000) < share
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }
}

/// The last step of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_depends_on_seed_purpose_and_place_alone() {
        let seed = Seed(7);
        assert_eq!(seed.draw(Purpose::Disk, 1, 2), Seed(7).draw(Purpose::Disk, 1, 2));
        let others = [
            seed.draw(Purpose::Disk, 2, 1),
            seed.draw(Purpose::Plan, 1, 2),
            Seed(8).draw(Purpose::Disk, 1, 2),
        ];
        assert!(!others.contains(&seed.draw(Purpose::Disk, 1, 2)));
    }
}
