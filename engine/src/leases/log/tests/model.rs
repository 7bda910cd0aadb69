//! Any order of commits, failures, kills, power cuts and flipped bits: what was acknowledged is
//! there, or the log says that it is damaged.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Commit {
        addresses: Vec<(u8, bool)>,
        fault: Fault,
    },
    Maintain {
        fault: Fault,
    },
    Kill {
        power: bool,
    },
    /// Power is cut, or the process killed, after so many writes of what comes next.
    CutLater {
        calls: u32,
    },
    Fill {
        full: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![
        8 => Just(Fault::None),
        1 => Just(Fault::Write),
        1 => Just(Fault::Sync),
    ];
    let addresses = prop::collection::btree_map(0..20_u8, prop::bool::weighted(0.9), 1..12);
    // Some batches are larger than a block.
    let many = prop::collection::btree_map(0..200_u8, Just(true), 60..120);
    let batch = prop_oneof![3 => addresses, 1 => many]
        .prop_map(|addresses| addresses.into_iter().collect());
    let step = prop_oneof![
        20 => (batch, fault.clone())
            .prop_map(|(addresses, fault)| Step::Commit { addresses, fault }),
        6 => fault.prop_map(|fault| Step::Maintain { fault }),
        2 => any::<bool>().prop_map(|power| Step::Kill { power }),
        1 => (0..40_u32).prop_map(|calls| Step::CutLater { calls }),
        1 => any::<bool>().prop_map(|full| Step::Fill { full }),
    ];
    prop::collection::vec(step, 1..80)
}

/// What an address may have: the state that was acknowledged last, and those tried since any were.
#[derive(Default, Clone)]
struct Expected {
    acknowledged: Option<u64>,
    tried: Vec<Option<u64>>,
}

struct World {
    disk: Disk,
    log: LeaseLog,
    version: u64,
    expected: BTreeMap<u8, Expected>,
    /// The addresses of the last batch that was acknowledged, and of those that failed since.
    last: Vec<u8>,
    /// Which of the deaths are no power cuts: what was written is in the caches then.
    kills: Vec<bool>,
}

impl World {
    fn new(seed: u64, kills: Vec<bool>) -> Self {
        let disk = Disk::new(seed);
        let log = open(&disk).unwrap();
        load(&log).unwrap();
        Self { disk, log, version: 0, expected: BTreeMap::new(), last: Vec::new(), kills }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit { addresses, fault } => self.commit(addresses, *fault),
            Step::Maintain { fault } => {
                if !self.disk.is_dead() {
                    self.disk.fail(*fault);
                }
                _ = self.log.maintain();
                if !self.disk.is_dead() {
                    self.disk.fail(Fault::None);
                }
            }
            Step::Kill { power } => self.restart(*power),
            Step::CutLater { calls } => self.disk.die_after(*calls),
            Step::Fill { full } => self.disk.fill(*full),
        }
        if self.disk.is_dead() {
            let killed = self.kills.pop().unwrap_or(false);
            self.restart(!killed);
        }
    }

    fn commit(&mut self, addresses: &[(u8, bool)], fault: Fault) {
        let mut batch = Vec::new();
        for (number, leased) in addresses {
            self.version += 1;
            let version = self.version;
            batch.push(if *leased { put(*number, version) } else { erase(*number, version) });
        }
        if !self.disk.is_dead() {
            self.disk.fail(fault);
        }
        let written = self.log.commit(&batch, &clock(1)).is_ok();
        if !self.disk.is_dead() {
            self.disk.fail(Fault::None);
        }
        if written {
            self.last.clear();
            // What failed before does not count any more.
            self.expected.values_mut().for_each(|expected| expected.tried.clear());
        }
        self.last.extend(addresses.iter().map(|(number, _)| *number));
        for (write, (number, _)) in batch.iter().zip(addresses) {
            let state = write.lease.as_ref().map(|_| write.version);
            let expected = self.expected.entry(*number).or_default();
            if written {
                *expected = Expected { acknowledged: state, tried: Vec::new() };
            } else {
                expected.tried.push(state);
            }
        }
    }

    fn restart(&mut self, power: bool) {
        if power {
            self.disk.cut_power();
        } else {
            self.disk.end_process();
        }
        self.log = open(&self.disk).unwrap();
        let (found, recovered) = load(&self.log).unwrap();
        assert_eq!(recovered.damaged, None);
        let found: BTreeMap<u8, u64> = found.into_iter().collect();
        for (number, expected) in &mut self.expected {
            let state = found.get(number).copied();
            assert!(
                state == expected.acknowledged || expected.tried.contains(&state),
                "{number}: {state:?} instead of {:?} or {:?}",
                expected.acknowledged,
                expected.tried,
            );
            // It is what the server goes on with.
            *expected = Expected { acknowledged: state, tried: Vec::new() };
        }
        assert!(found.keys().all(|number| self.expected.contains_key(number)));
        let highest = found.values().max().copied().unwrap_or(0);
        assert!(recovered.version >= highest);
    }

    /// Flips a bit at rest, and starts again.
    fn flip(mut self, which: usize, at: usize, bit: u8) {
        self.restart(false);
        let names = self.disk.names();
        let name = &names[which % names.len()];
        let blocks = self.disk.blocks(name);
        if blocks == 0 {
            return;
        }
        self.disk.damage(name, at / BLOCK % blocks, |block| block[at % BLOCK] ^= 1 << bit);
        self.disk.end_process();
        let log = open(&self.disk).unwrap();
        let (found, recovered) = load(&log).unwrap();
        let found: BTreeMap<u8, u64> = found.into_iter().collect();
        for (number, expected) in &self.expected {
            let state = found.get(number).copied();
            // The last batch may have been torn by a power cut, for all that the log can know: a
            // batch that failed after it may have left nothing on the disk.
            assert!(
                state == expected.acknowledged
                    || recovered.damaged.is_some()
                    || self.last.contains(number),
                "{name}: {number}: {state:?} instead of {:?}, in silence",
                expected.acknowledged,
            );
        }
    }
}

use bootstorm_net::file::BLOCK;

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost(
        seed in any::<u64>(),
        steps in steps(),
        kills in prop::collection::vec(any::<bool>(), 20),
    ) {
        let mut world = World::new(seed, kills);
        steps.iter().for_each(|step| world.step(step));
        world.restart(true);
    }

    #[test]
    fn no_flipped_bit_loses_anything_in_silence(
        steps in steps(),
        which in any::<usize>(),
        at in any::<usize>(),
        bit in 0..8_u8,
    ) {
        let mut world = World::new(1, Vec::new());
        steps.iter().for_each(|step| world.step(step));
        world.flip(which, at, bit);
    }
}
