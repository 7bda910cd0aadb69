//! Which threads still make progress.
//!
//! A watched thread counts its rounds in a [`Heartbeat`], and says when it waits for a disk; the
//! watchdog looks at the counts at intervals. A thread is late or stuck by the number of looks that
//! found nothing new, not by the clock: a host that was suspended looks first, and its threads have
//! run before the next look.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

const RUNNING: u8 = 0;
const WAITING: u8 = 1;
const ENDED: u8 = 2;
const PANICKED: u8 = 3;

#[derive(Debug, Default)]
struct State {
    rounds: AtomicU64,
    condition: AtomicU8,
}

/// A thread's own end: it says that the thread makes progress. When it is dropped, the thread has
/// ended; when a panic drops it, the thread has died.
#[derive(Debug)]
pub struct Heartbeat(Arc<State>);

impl Heartbeat {
    /// One more round. Costs a load and a store.
    pub fn beat(&self) {
        // This thread is the only writer.
        self.0.rounds.store(self.0.rounds.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Runs what may wait for a disk as long as the disk takes.
    pub fn while_waiting<R>(&self, wait: impl FnOnce() -> R) -> R {
        struct Waiting<'a>(&'a Heartbeat);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.0.condition.store(RUNNING, Relaxed);
                self.0.beat();
            }
        }
        let _waiting = Waiting(self);
        self.0.condition.store(WAITING, Relaxed);
        wait()
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let condition = if std::thread::panicking() { PANICKED } else { ENDED };
        self.0.condition.store(condition, Relaxed);
    }
}

#[derive(Debug)]
struct Watched {
    name: String,
    state: Arc<State>,
    rounds: u64,
    /// Looks that found nothing new, one after the other.
    unchanged: u32,
    /// Looks that found it in the same wait for a disk, one after the other.
    waits: u32,
}

/// What a look at all threads found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every thread makes progress, waits for a disk, or has ended.
    Made,
    /// Some thread has made none at the last looks, but may be only slow.
    Late,
    /// The thread of this name has panicked, or has made none for too long.
    Stuck(String),
}

/// Looks that may find nothing new without the thread being late: one falls between two rounds of a
/// thread that has nothing to do.
const EXCUSED: u32 = 2;

/// All watched threads.
#[derive(Debug)]
pub struct Liveness {
    watched: Vec<Watched>,
    stuck_after: u32,
}

impl Liveness {
    /// Nobody is watched yet. A thread is stuck when `stuck_after` looks find nothing new.
    #[must_use]
    pub fn new(stuck_after: u32) -> Self {
        Self { watched: Vec::new(), stuck_after }
    }

    /// Watches a thread from now on; `name` is what the log calls it.
    pub fn watch(&mut self, name: impl Into<String>) -> Heartbeat {
        let state = Arc::<State>::default();
        let (name, copy) = (name.into(), state.clone());
        self.watched.push(Watched { name, state: copy, rounds: 0, unchanged: 0, waits: 0 });
        Heartbeat(state)
    }

    /// Looks at every thread. Call it at even intervals, in which an idle thread makes a round.
    pub fn look(&mut self) -> Progress {
        let mut progress = Progress::Made;
        for thread in &mut self.watched {
            let rounds = thread.state.rounds.load(Relaxed);
            let condition = thread.state.condition.load(Relaxed);
            let no_round = rounds == thread.rounds;
            let more = |looks: u32, is: bool| if is { looks.saturating_add(1) } else { 0 };
            thread.unchanged = more(thread.unchanged, no_round && condition == RUNNING);
            thread.waits = more(thread.waits, no_round && condition == WAITING);
            thread.rounds = rounds;
            if condition == PANICKED || thread.unchanged >= self.stuck_after {
                return Progress::Stuck(thread.name.clone());
            }
            if thread.unchanged > EXCUSED {
                progress = Progress::Late;
            }
        }
        progress
    }

    /// The threads that waited for a disk at the last look and have not come back since, with the
    /// number of looks that found them so.
    pub fn waiting(&self) -> impl Iterator<Item = (&str, u32)> {
        let waiting = self.watched.iter().filter(|thread| thread.waits > 0);
        waiting.map(|thread| (thread.name.as_str(), thread.waits))
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_thread_is_late_and_then_stuck_when_it_makes_no_rounds() {
        let mut liveness = Liveness::new(5);
        let (idle, busy) = (liveness.watch("shard0"), liveness.watch("shard1"));
        let mut look = |beats| {
            busy.beat();
            (0..beats).for_each(|_| idle.beat());
            liveness.look()
        };
        let late = [Progress::Made, Progress::Made, Progress::Late, Progress::Late];
        assert_eq!(look(3), Progress::Made);
        assert_eq!([(); 4].map(|()| look(0)), late);
        assert_eq!(look(1), Progress::Made);
        assert_eq!([(); 4].map(|()| look(0)), late);
        assert_eq!(look(0), Progress::Stuck("shard0".to_owned()));
    }

    #[test]
    fn who_waits_for_a_disk_is_not_stuck_and_who_has_ended_is_not_watched() {
        let mut liveness = Liveness::new(2);
        let committer = liveness.watch("committer");
        committer.while_waiting(|| {
            for looks in 1..10 {
                assert_eq!(liveness.look(), Progress::Made);
                assert_eq!(liveness.waiting().collect::<Vec<_>>(), [("committer", looks)]);
            }
        });
        // Another wait, not the same.
        committer.while_waiting(|| assert_eq!(liveness.look(), Progress::Made));
        assert_eq!(liveness.waiting().count(), 0);
        assert_eq!(liveness.look(), Progress::Made);
        drop(committer);
        for _ in 0..10 {
            assert_eq!(liveness.look(), Progress::Made);
        }
    }

    #[test]
    fn a_thread_that_panicked_is_found_by_the_next_look_even_while_it_waited() {
        let mut liveness = Liveness::new(100);
        let heartbeat = liveness.watch("committer");
        let died = catch_unwind(AssertUnwindSafe(move || {
            heartbeat.while_waiting(|| panic!("on purpose"));
        }));
        assert!(died.is_err());
        assert_eq!(liveness.look(), Progress::Stuck("committer".to_owned()));
    }
}
