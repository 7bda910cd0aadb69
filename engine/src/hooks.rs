//! Programs that the configuration has run (`execute`): what is asked for, and the queue to the
//! thread that runs them. A shard hands over and never waits.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::event::BootEvent;
use crate::leases::{Ended, Hardware};

/// What may wait for the thread. What is beyond is dropped and counted.
pub(crate) const BACKLOG: usize = 4096;

/// A program to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Its name, then its arguments; without NULs.
    pub words: Box<[Box<[u8]>]>,
    /// For which machine.
    pub hardware: Hardware,
    /// For which address: those of one address run one after the other.
    pub address: Ipv4Addr,
}

/// What is to be done once a reply leaves, or its lease is durable.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tasks {
    /// What is logged.
    pub logs: Vec<BootEvent>,
    /// What is run.
    pub commands: Vec<Command>,
}

/// What the thread is to do.
#[derive(Debug)]
pub enum Job {
    /// Run a program.
    Run(Command),
    /// Do what the configuration says for a lease that has ended.
    End(Box<Ended>),
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct Hooks {
    jobs: Option<Sender<Job>>,
    dropped: Arc<AtomicU64>,
}

impl Hooks {
    /// The way, and its end for the thread.
    pub fn new() -> (Self, Receiver<Job>) {
        let (jobs, received) = bounded(BACKLOG);
        (Self { jobs: Some(jobs), dropped: Arc::default() }, received)
    }

    /// A way that leads nowhere: nothing is run.
    pub fn unheard() -> Self {
        Self { jobs: None, dropped: Arc::default() }
    }

    /// Hands a job over. `false`: too many wait, and it was dropped and counted.
    pub fn ask(&self, job: Job) -> bool {
        let Some(jobs) = &self.jobs else { return true };
        let taken = jobs.try_send(job).is_ok();
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// How many jobs were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
