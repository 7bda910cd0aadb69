//! Random numbers from a seed. Each is a function of its purpose and place, not of earlier draws,
//! so neither the server's timing nor the order of events changes any other number.

use std::time::Duration;

/// What a draw is for. Draws for different purposes are independent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Which firmware a machine has.
    Firmware = 1,
    /// Length of the power-on self test.
    PostTime,
    /// How long a program takes to begin.
    Start,
    /// Deviation of one wait of a client from its mean.
    Wait,
    /// Hardware addresses of attackers.
    Attacker,
    /// Whether a machine declines.
    Decline,
    /// When a rack loses power.
    PowerCut,
    /// What the network does to a datagram on its way to the server.
    ToServer,
    /// The same on its way to a machine.
    ToMachine,
    /// Machine's UUID.
    Uuid,
    /// Salt of transaction ids.
    Xid,
}

/// The seed of a run.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// 64 random bits for the `nth` draw of a machine (or of whatever `who` numbers) for a purpose.
    pub fn draw(self, purpose: Purpose, who: u32, nth: u32) -> u64 {
        let place = u64::from(who) << 32 | u64::from(nth);
        mix(mix(self.0 ^ (purpose as u64) << 56) ^ place)
    }

    /// A number from 0 up to, but without, 1.
    pub fn fraction(self, purpose: Purpose, who: u32, nth: u32) -> f64 {
        unit(self.draw(purpose, who, nth))
    }

    /// A duration from `shortest` to `longest`.
    pub fn between(
        self,
        purpose: Purpose,
        who: u32,
        nth: u32,
        [shortest, longest]: [Duration; 2],
    ) -> Duration {
        let span = longest.saturating_sub(shortest);
        if span.is_zero() {
            return shortest;
        }
        shortest.saturating_add(span.mul_f64(self.fraction(purpose, who, nth)))
    }
}

/// 64 random bits as a number from 0 up to, but without, 1.
pub fn unit(bits: u64) -> f64 {
    // The 53 bits that a double holds exactly.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input changes half of
/// the output.
pub fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even_and_independent_of_their_neighbours() {
        let seed = Seed(7);
        let mean =
            |purpose| (0..10_000).map(|who| seed.fraction(purpose, who, 0)).sum::<f64>() / 10_000.0;
        assert!((mean(Purpose::PostTime) - 0.5).abs() < 0.02);
        let together: f64 = (0..10_000)
            .map(|who| {
                (seed.fraction(Purpose::Wait, who, 0) - 0.5)
                    * (seed.fraction(Purpose::Wait, who, 1) - 0.5)
            })
            .sum();
        assert!((together / 10_000.0).abs() < 0.01);
    }

    #[test]
    fn another_seed_purpose_or_place_is_another_draw() {
        let draw = Seed(1).draw(Purpose::Wait, 1, 1);
        assert_eq!(draw, Seed(1).draw(Purpose::Wait, 1, 1));
        for other in [
            Seed(2).draw(Purpose::Wait, 1, 1),
            Seed(1).draw(Purpose::Uuid, 1, 1),
            Seed(1).draw(Purpose::Wait, 2, 1),
            Seed(1).draw(Purpose::Wait, 1, 2),
        ] {
            assert_ne!(draw, other);
        }
    }
}
