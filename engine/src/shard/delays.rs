//! Replies that wait until they may leave (`reply-delay`). Nothing blocks: each waits in its
//! transmit slot, and the shard's timer sends it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bootstorm_protocols::time::Moment;

/// Replies that wait at one time, for which a shard has slots. Replies beyond it leave at once, so
/// machines that need a delay never take the slots of those that need none.
pub(super) const LIMIT: usize = 1024;

/// Replies by the time they are due; of those that are due together the first that came is first.
#[derive(Debug)]
pub(super) struct Delays<T> {
    heap: BinaryHeap<Waiting<T>>,
    added: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    due: Moment,
    number: u64,
    then: T,
}

impl<T> Delays<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), added: 0 }
    }

    /// Whether another reply can wait.
    pub(super) fn has_room(&self) -> bool {
        self.heap.len() < LIMIT
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    pub(super) fn add(&mut self, due: Moment, then: T) {
        self.added += 1;
        self.heap.push(Waiting { due, number: self.added, then });
    }

    /// The next one that is due.
    pub(super) fn due(&mut self, now: Moment) -> Option<T> {
        let due = self.heap.peek().is_some_and(|waiting| waiting.due <= now);
        due.then(|| self.heap.pop()).flatten().map(|waiting| waiting.then)
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|waiting| waiting.due)
    }
}

impl<T> Waiting<T> {
    fn key(&self) -> (Moment, u64) {
        (self.due, self.number)
    }
}

// The greatest is popped first, so the order is reversed.
impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Waiting<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn replies_leave_when_they_are_due_and_in_order() {
        let mut delays = Delays::new();
        for (due, reply) in [(20, "b"), (10, "a"), (20, "c"), (30, "d")] {
            delays.add(at(due), reply);
        }
        assert_eq!((delays.next(), delays.due(at(9))), (Some(at(10)), None));
        let due: Vec<_> = std::iter::from_fn(|| delays.due(at(29))).collect();
        assert_eq!(due, ["a", "b", "c"]);
        assert_eq!((delays.next(), delays.is_empty()), (Some(at(30)), false));
    }

    #[test]
    fn only_so_many_wait() {
        let mut delays = Delays::new();
        (0..LIMIT).for_each(|number| delays.add(at(1), number));
        assert!(!delays.has_room());
        assert_eq!(delays.due(at(1)), Some(0));
        assert!(delays.has_room());
    }
}
