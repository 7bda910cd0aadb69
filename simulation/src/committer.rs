//! The committer, stepped: it begins a batch, and ends it when the disk has done what it does.

use std::sync::{Arc, Mutex, PoisonError};

use bootstorm::leases;
use bootstorm_protocols::time::Moment;

/// What becomes of the batch that is being written.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Fate {
    /// It is durable.
    #[default]
    Written,
    /// The disk fails: any part of it may be on the disk.
    Failed,
    /// The process is killed: any part of it may be in the caches.
    Killed,
}

/// What the committer is doing.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// It waits for the disk.
    Writing,
    /// It waits for work.
    Idle,
}

/// What becomes of the write that is under way: what the disk looks at when it is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct NextWrite(Arc<Mutex<Fate>>);

impl NextWrite {
    fn set(&self, fate: Fate) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fate;
    }

    pub(crate) fn fate(&self) -> Fate {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The committer as the simulation sees it.
pub(crate) struct Committer {
    committer: leases::Committer,
    next: NextWrite,
    pub(crate) state: Progress,
    /// Batches that it is through with.
    pub(crate) batches: u64,
}

impl Committer {
    /// `next` is what the disk looks at.
    pub(crate) fn new(committer: leases::Committer, next: NextWrite) -> Self {
        Self { committer, next, state: Progress::Idle, batches: 0 }
    }

    /// Takes what waits, until it has to wait for the disk or is through with it.
    pub(crate) fn run(&mut self, monotonic: Moment) -> Progress {
        self.committer.begin(monotonic);
        if self.committer.is_writing() {
            self.state = Progress::Writing;
        } else {
            self.end();
        }
        self.state
    }

    /// The disk has done what it does.
    pub(crate) fn written(&mut self, fate: Fate) {
        self.next.set(fate);
        self.end();
    }

    fn end(&mut self) {
        self.committer.end();
        self.state = Progress::Idle;
        self.batches += 1;
    }

    /// Whether there is something to write.
    pub(crate) fn has_work(&mut self, leases: &leases::Leases, monotonic: Moment) -> bool {
        self.state == Progress::Idle
            && (leases.awaits_commit() || self.committer.is_behind(monotonic))
    }

    /// See [`leases::Committer::has_doubts`].
    pub(crate) fn has_doubts(&self) -> bool {
        self.committer.has_doubts()
    }

    /// How many batches it will be through with when it has written what waits alone now.
    pub(crate) fn batches_until_next(&self) -> u64 {
        let under_way = u64::from(self.state != Progress::Idle);
        self.batches + under_way + 1
    }
}
