//! A hierarchical timer wheel for one shard: tens of thousands of transfers and offers, each with
//! one deadline.
//!
//! Six levels of 64 slots. A slot of level 0 is one tick (2^20 ns, about a millisecond), a slot of
//! a higher level is 64 slots of the one below. A timer stands in the level of the highest digit
//! (base 64) in which its tick differs from the current one, and moves down when the wheel reaches
//! its slot, at most five times.
//!
//! ```text
//!   level 0   |.|.|x|.| ... |    64 ticks of 1 ms
//!   level 1   |.|x|.|.| ... |    64 slots of 67 ms
//!   ...
//!   level 5   |.|.|.|x| ... |    two years; what is later waits here and is looked at again
//! ```

use bootstorm_protocols::time::Moment;

const TICK_BITS: u32 = 20;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 6;
const HORIZON_BITS: u32 = SLOT_BITS * LEVELS as u32;
/// The list of timers that are due, after those of the slots.
const DUE: usize = LEVELS * SLOTS;
/// End of a list; no timer has this index.
const NONE: u32 = u32::MAX;

/// Names a timer until it fires or is cancelled; after that it names nothing.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct TimerKey {
    index: u32,
    generation: u32,
}

/// Deadlines of one shard. Inserting and cancelling are O(1); memory is reused, and grows only when
/// more timers run at once than ever before.
#[derive(Debug)]
pub struct TimerWheel {
    /// All ticks up to this one have been handled.
    tick: u64,
    timers: Vec<Timer>,
    free: u32,
    lists: [u32; DUE + 1],
    /// A bit for each slot that is not empty.
    occupied: [u64; LEVELS],
}

#[derive(Debug)]
struct Timer {
    generation: u32,
    /// Which list it is in; `lists.len()` when it does not run.
    list: u16,
    previous: u32,
    next: u32,
    /// The first tick at which it is due.
    due: u64,
    token: u64,
}

const IDLE: u16 = DUE as u16 + 1;

impl TimerWheel {
    /// A wheel for about `capacity` timers at once.
    pub fn new(now: Moment, capacity: usize) -> TimerWheel {
        TimerWheel {
            tick: now.as_nanos() >> TICK_BITS,
            timers: Vec::with_capacity(capacity),
            free: NONE,
            lists: [NONE; DUE + 1],
            occupied: [0; LEVELS],
        }
    }

    /// Starts a timer that fires with `token` at `at` or up to a tick later, never before. A past
    /// `at` fires at once.
    pub fn insert(&mut self, at: Moment, token: u64) -> TimerKey {
        let due = at.as_nanos().div_ceil(1 << TICK_BITS);
        let index = if self.free == NONE {
            let timer = Timer { generation: 0, list: IDLE, previous: NONE, next: NONE, due, token };
            self.timers.push(timer);
            // More than 4 billion timers of 40 bytes do not fit in memory.
            (self.timers.len() - 1) as u32
        } else {
            let index = self.free;
            let timer = &mut self.timers[index as usize];
            self.free = timer.next;
            timer.due = due;
            timer.token = token;
            index
        };
        self.place(index);
        TimerKey { index, generation: self.timers[index as usize].generation }
    }

    /// Stops a timer; returns its token, or `None` when it has fired or was cancelled before.
    pub fn cancel(&mut self, key: TimerKey) -> Option<u64> {
        let timer = self.timers.get(key.index as usize)?;
        if timer.generation != key.generation || timer.list == IDLE {
            return None;
        }
        self.unlink(key.index);
        Some(self.release(key.index))
    }

    /// The token of a timer that is due at `now`, one a call, `None` when no other is. Timers may
    /// be inserted and cancelled between calls.
    pub fn expired(&mut self, now: Moment) -> Option<u64> {
        self.advance(now.as_nanos() >> TICK_BITS);
        let index = self.lists[DUE];
        if index == NONE {
            return None;
        }
        self.unlink(index);
        Some(self.release(index))
    }

    /// When [`TimerWheel::expired`] is to be called next. No timer fires before this; the first one
    /// may be later than it, since a timer far away is known by its slot only.
    pub fn next(&self) -> Option<Moment> {
        if self.lists[DUE] != NONE {
            return Some(Moment::from_nanos(self.tick << TICK_BITS));
        }
        let (_, start) = self.next_slot()?;
        Some(Moment::from_nanos(start.saturating_mul(1 << TICK_BITS)))
    }

    /// Moves everything due up to `now` into the list of due timers.
    fn advance(&mut self, now: u64) {
        while let Some((list, start)) = self.next_slot()
            && start <= now
        {
            self.tick = start;
            let mut index = std::mem::replace(&mut self.lists[list], NONE);
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
            while index != NONE {
                let next = self.timers[index as usize].next;
                self.place(index);
                index = next;
            }
        }
        self.tick = self.tick.max(now);
    }

    /// The first slot that is not empty and the tick at which it begins. Lower levels come before
    /// higher ones.
    fn next_slot(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let shift = SLOT_BITS * level as u32;
        let position = (self.tick >> shift) % SLOTS as u64;
        let ahead = self.occupied[level].rotate_right(position as u32).trailing_zeros();
        let slot = (self.tick >> shift) + u64::from(ahead);
        Some((level * SLOTS + slot as usize % SLOTS, slot << shift))
    }

    /// Puts a timer in the list where its tick belongs, seen from the current one.
    fn place(&mut self, index: u32) {
        let due = self.timers[index as usize].due;
        let list = if due <= self.tick {
            DUE
        } else {
            // What lies beyond the horizon waits in the last slot before it.
            let due = due.min(self.tick + (1 << HORIZON_BITS) - (1 << (HORIZON_BITS - SLOT_BITS)));
            let digit = (self.tick ^ due).ilog2() / SLOT_BITS;
            let level = (digit as usize).min(LEVELS - 1);
            let slot = (due >> (SLOT_BITS * level as u32)) as usize % SLOTS;
            self.occupied[level] |= 1 << slot;
            level * SLOTS + slot
        };
        let head = std::mem::replace(&mut self.lists[list], index);
        if head != NONE {
            self.timers[head as usize].previous = index;
        }
        let timer = &mut self.timers[index as usize];
        timer.list = list as u16;
        timer.previous = NONE;
        timer.next = head;
    }

    fn unlink(&mut self, index: u32) {
        let Timer { list, previous, next, .. } = self.timers[index as usize];
        let list = usize::from(list);
        if next != NONE {
            self.timers[next as usize].previous = previous;
        }
        if previous != NONE {
            self.timers[previous as usize].next = next;
            return;
        }
        self.lists[list] = next;
        if next == NONE && list != DUE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    fn release(&mut self, index: u32) -> u64 {
        let timer = &mut self.timers[index as usize];
        timer.generation = timer.generation.wrapping_add(1);
        timer.list = IDLE;
        timer.next = self.free;
        self.free = index;
        timer.token
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    const TICK: u64 = 1 << TICK_BITS;

    #[test]
    fn a_timer_fires_within_a_tick_and_never_early() {
        let start = Moment::from_nanos(5 * TICK + 17);
        let mut wheel = TimerWheel::new(start, 1);
        let at = start + Duration::from_secs(90);
        wheel.insert(at, 7);
        let mut wakes = 0;
        let mut now = start;
        while let Some(next) = wheel.next() {
            assert!(next > now);
            now = next;
            wakes += 1;
            if let Some(token) = wheel.expired(now) {
                assert_eq!(token, 7);
                assert!(now >= at && now.since(at) < Duration::from_nanos(TICK));
            }
        }
        assert_eq!(wheel.next(), None);
        assert!(wakes <= LEVELS, "{wakes}");
    }

    #[test]
    fn a_key_that_has_fired_or_was_cancelled_names_nothing() {
        let mut wheel = TimerWheel::new(Moment::default(), 1);
        let fired = wheel.insert(Moment::default(), 1);
        assert_eq!(wheel.expired(Moment::default()), Some(1));
        assert_eq!(wheel.cancel(fired), None);
        let second = wheel.insert(Moment::from_nanos(TICK), 2);
        assert_eq!(wheel.cancel(fired), None);
        assert_eq!(wheel.cancel(second), Some(2));
        assert_eq!(wheel.cancel(second), None);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn never_is_far_away_but_can_be_cancelled() {
        let mut wheel = TimerWheel::new(Moment::default(), 1);
        let key = wheel.insert(Moment::NEVER, 1);
        let century = Moment::default() + Duration::from_secs(100 * 365 * 86_400);
        assert_eq!(wheel.expired(century), None);
        assert_eq!(wheel.cancel(key), Some(1));
    }

    #[test]
    fn steady_state_takes_no_memory() {
        let mut wheel = TimerWheel::new(Moment::default(), 64);
        let capacity = wheel.timers.capacity();
        let mut now = Moment::default();
        for round in 0..10_000 {
            wheel.insert(now + Duration::from_millis(round % 50), round);
            now = now + Duration::from_millis(1);
            while wheel.expired(now).is_some() {}
        }
        assert_eq!(wheel.timers.capacity(), capacity);
    }

    proptest! {
        /// Against a plain map: every timer fires exactly once, at the first call after its tick
        /// has come.
        #[test]
        fn it_does_what_a_map_would(
            steps in prop::collection::vec((0..4_u8, 0..60_u32, any::<u64>()), 1..200),
            start in any::<u32>(),
        ) {
            let mut now = Moment::from_nanos(u64::from(start));
            let mut wheel = TimerWheel::new(now, 0);
            let mut model = HashMap::new();
            for (token, (what, bits, raw)) in steps.into_iter().enumerate() {
                let token = token as u64;
                let delay = Duration::from_nanos(raw >> (63 - bits));
                match what {
                    0 | 1 => {
                        let at = now + delay;
                        model.insert(token, (at, wheel.insert(at, token)));
                    }
                    2 => {
                        let victim = model.keys().copied().min_by_key(|t| t ^ (raw % 64));
                        if let Some(victim) = victim {
                            let (_, key) = model.remove(&victim).unwrap();
                            prop_assert_eq!(wheel.cancel(key), Some(victim));
                        }
                    }
                    _ => now = now + delay,
                }
                while let Some(fired) = wheel.expired(now) {
                    let (at, _) = model.remove(&fired).unwrap();
                    prop_assert!(at <= now);
                }
                for (at, _) in model.values() {
                    prop_assert!(at.as_nanos().div_ceil(TICK) > now.as_nanos() / TICK);
                }
                prop_assert_eq!(wheel.next().is_none(), model.is_empty());
                if let Some(next) = wheel.next() {
                    let first = model.values().map(|(at, _)| *at).min().unwrap();
                    prop_assert!(next.as_nanos() <= first.as_nanos().div_ceil(TICK).saturating_mul(TICK));
                    prop_assert!(next > now);
                }
            }
        }
    }
}
