//! The committer, stepped: it begins a batch, and ends it when the disk has done what it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bootstorm::leases;
use bootstorm_protocols::time::Moment;

/// What becomes of the batch that is being written.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It is durable.
    Written,
    /// The disk fails, or the process is killed: any part of it may be on the disk.
    Failed,
}

/// What the committer is doing.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// It waits for the disk.
    Writing,
    /// It waits for work.
    Idle,
}

/// Whether the write that is under way fails: what the disk looks at when it is asked how it went.
#[derive(Clone, Debug, Default)]
pub(crate) struct NextWrite(Arc<AtomicBool>);

impl NextWrite {
    pub(crate) fn fails(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
        self.next.0.store(fate == Fate::Failed, Ordering::Relaxed);
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
