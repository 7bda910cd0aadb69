//! All shards, as the thread that owns the server sees them.

use std::io;

use crossbeam::channel::Receiver;

use super::ServeError;
use super::sockets::PerShard;
use super::worker::Worker;
use crate::shard::Binding;

/// The threads of the shards, by number.
pub(super) struct Shards(Vec<Worker>);

impl Shards {
    pub(super) fn new(workers: Vec<Worker>) -> Self {
        Self(workers)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Makes every shard look for changes.
    pub(super) fn wake(&self) {
        self.0.iter().for_each(Worker::wake);
    }

    /// Gives each shard its sockets and waits until all receive on them. If one shard cannot, none
    /// has them afterwards.
    ///
    /// # Errors
    /// That of a shard.
    pub(super) fn open(&self, sockets: PerShard) -> io::Result<()> {
        let bindings: Vec<Binding> = sockets.iter().flatten().map(|each| each.binding).collect();
        if bindings.is_empty() {
            return Ok(());
        }
        let given = self.0.iter().zip(sockets);
        let outcomes = given.map(|(shard, own)| shard.change(own, Vec::new())).collect();
        outcome_of_all(outcomes).or_else(|error| {
            self.close(&bindings)?;
            Err(error)
        })
    }

    /// Closes the sockets of these bindings and waits until they are closed.
    ///
    /// # Errors
    /// That of a shard.
    pub(super) fn close(&self, bindings: &[Binding]) -> io::Result<()> {
        if bindings.is_empty() {
            return Ok(());
        }
        let close = |shard: &Worker| shard.change(Vec::new(), bindings.to_vec());
        outcome_of_all(self.0.iter().map(close).collect())
    }

    /// Waits for their end.
    ///
    /// # Errors
    /// That of a shard.
    pub(super) fn join(self) -> Result<(), ServeError> {
        let ended: Vec<_> = self.0.into_iter().map(Worker::join).collect();
        ended.into_iter().collect()
    }
}

/// Waits for every outcome, so that nothing is under way any more when this returns.
fn outcome_of_all(outcomes: Vec<Receiver<io::Result<()>>>) -> io::Result<()> {
    let ended = |_| Err(io::Error::other("a shard has ended"));
    let outcomes: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.recv().unwrap_or_else(ended)).collect();
    outcomes.into_iter().collect()
}
