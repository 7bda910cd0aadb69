//! The committer, stepped. It runs in a thread of its own, because it waits for the disk in the
//! middle of its work; but the thread runs only while the simulation waits for it, so that a run
//! can be repeated.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

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

/// Where the committer's thread has stopped.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// It waits for the disk, with so many blocks.
    Writing(usize),
    /// It waits for work.
    Idle,
}

enum Step {
    Run(Moment),
    Write(Fate),
}

/// The thread's end, for the disk.
#[derive(Debug)]
pub(crate) struct Inner {
    steps: Receiver<Step>,
    progress: Sender<Progress>,
}

impl Inner {
    /// Called by the disk in the committer's thread: waits until the simulation says what becomes
    /// of the write.
    pub(crate) fn wait_for_disk(&self, blocks: usize) -> Fate {
        if self.progress.send(Progress::Writing(blocks)).is_err() {
            return Fate::Failed;
        }
        match self.steps.recv() {
            Ok(Step::Write(fate)) => fate,
            _ => Fate::Failed,
        }
    }
}

/// The committer as the simulation sees it.
pub(crate) struct Committer {
    steps: Sender<Step>,
    progress: Receiver<Progress>,
    thread: Option<JoinHandle<()>>,
    pub(crate) state: Progress,
    /// Batches that it is through with.
    pub(crate) batches: u64,
}

/// A committer whose thread has not started.
pub(crate) struct Prepared {
    steps: Sender<Step>,
    progress: Receiver<Progress>,
    inner: std::sync::Arc<std::sync::Mutex<Inner>>,
}

/// A committer, and what its disk waits by.
pub(crate) fn prepare() -> (Prepared, std::sync::Arc<std::sync::Mutex<Inner>>) {
    let (steps, taken) = channel();
    let (said, progress) = channel();
    let inner = std::sync::Arc::new(std::sync::Mutex::new(Inner { steps: taken, progress: said }));
    (Prepared { steps, progress, inner: inner.clone() }, inner)
}

impl Prepared {
    pub(crate) fn start(self, mut committer: leases::Committer) -> Committer {
        let Self { steps, progress, inner } = self;
        let thread = std::thread::spawn(move || {
            loop {
                let step = {
                    let Ok(inner) = inner.lock() else { return };
                    inner.steps.recv()
                };
                let Ok(Step::Run(now)) = step else { return };
                committer.run_once(now);
                let Ok(inner) = inner.lock() else { return };
                if inner.progress.send(Progress::Idle).is_err() {
                    return;
                }
            }
        });
        Committer { steps, progress, thread: Some(thread), state: Progress::Idle, batches: 0 }
    }
}

impl Committer {
    /// Takes what waits, until it has to wait for the disk or has nothing more to do.
    pub(crate) fn run(&mut self, monotonic: Moment) -> Result<Progress, String> {
        self.step(Step::Run(monotonic))
    }

    /// The disk has done what it does.
    pub(crate) fn written(&mut self, fate: Fate) -> Result<Progress, String> {
        self.step(Step::Write(fate))
    }

    /// How many batches it will be through with when it has written what waits alone now.
    pub(crate) fn batches_until_next(&self) -> u64 {
        let under_way = u64::from(self.state != Progress::Idle);
        self.batches + under_way + 1
    }

    fn step(&mut self, step: Step) -> Result<Progress, String> {
        let gone = "the committer's thread has panicked";
        self.steps.send(step).map_err(|_| gone.to_owned())?;
        self.state = self.progress.recv().map_err(|_| gone.to_owned())?;
        self.batches += u64::from(self.state == Progress::Idle);
        Ok(self.state)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // Closes the channel, which ends the thread.
        let (closed, _) = channel();
        self.steps = closed;
        if let Some(thread) = self.thread.take() {
            // Its panic was printed.
            let _ = thread.join();
        }
    }
}
