//! All shards, as the thread that owns the server sees them.

use std::collections::BTreeSet;
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
        let bindings: BTreeSet<Binding> =
            sockets.iter().flatten().map(|each| each.binding).collect();
        if bindings.is_empty() {
            return Ok(());
        }
        let given = self.0.iter().zip(sockets);
        let outcomes = given.map(|(shard, own)| shard.change(own, Vec::new())).collect();
        outcome_of_all(outcomes).or_else(|error| {
            self.close(&Vec::from_iter(bindings))?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bootstorm_net::UdpSocketSpec;
    use parking_lot::Mutex;

    use super::super::sockets::Opened;
    use super::*;
    use crate::shard::Role;

    /// (shard, sockets added, bindings closed)
    type Journal = Arc<Mutex<Vec<(usize, usize, Vec<Binding>)>>>;

    fn shards(refusing: Option<usize>) -> (Shards, Journal) {
        let journal = Journal::default();
        let shard = |index| {
            let journal = journal.clone();
            Worker::answering(move |open, close| {
                journal.lock().push((index, open.len(), close.to_vec()));
                match refusing == Some(index) && !open.is_empty() {
                    true => Err(io::ErrorKind::OutOfMemory.into()),
                    false => Ok(()),
                }
            })
        };
        (Shards::new((0..3).map(shard).collect()), journal.clone())
    }

    fn sockets() -> PerShard {
        let open = || {
            let spec = UdpSocketSpec { bind: ([127, 0, 0, 1], 0).into(), ..Default::default() };
            let binding = Binding::Interface(7);
            vec![Opened { role: Role::Dhcp, binding, socket: spec.open().unwrap() }]
        };
        (0..3).map(|_| open()).collect()
    }

    #[test]
    fn sockets_that_one_shard_refuses_are_taken_back_from_all() {
        let (shards, journal) = shards(Some(1));
        assert_eq!(shards.open(sockets()).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        let mut steps = journal.lock().clone();
        steps.sort();
        let closed = |shard| (shard, 0, vec![Binding::Interface(7)]);
        let opened = |shard| (shard, 1, vec![]);
        assert_eq!(steps, [0, 1, 2].map(|shard| [closed(shard), opened(shard)]).as_flattened());
    }

    #[test]
    fn sockets_that_all_shards_take_stay() {
        let (shards, journal) = shards(None);
        shards.open(sockets()).unwrap();
        assert!(journal.lock().iter().all(|(_, opened, closed)| *opened == 1 && closed.is_empty()));
        shards.close(&[]).unwrap();
        assert_eq!(journal.lock().len(), 3);
    }
}
