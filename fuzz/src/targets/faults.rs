//! Faults on purpose.

use std::hint::black_box;

use super::Target;
use crate::random::Random;

pub(crate) enum Fault {
    Panic,
    Memory,
    Stack,
    Time,
}

impl Target for Fault {
    fn input(&self, random: &mut Random) -> Vec<u8> {
        random.bytes(8)
    }

    fn feed(&self, input: &[u8]) {
        // Some cases go well before.
        if input.first().is_none_or(|byte| *byte > 64) {
            return;
        }
        match self {
            Self::Panic => panic!("on purpose"),
            Self::Memory => {
                let mut all = Vec::new();
                loop {
                    all.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            Self::Stack => drop(black_box(deep(u64::MAX))),
            Self::Time => loop {
                black_box(deep(100));
            },
        }
    }
}

fn deep(left: u64) -> u64 {
    let frame = black_box([left; 64]);
    if left == 0 { 0 } else { deep(left - 1) + frame[0] }
}
