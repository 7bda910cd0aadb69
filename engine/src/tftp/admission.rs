//! How many transfers run at one time: in all, and for each client address, over all shards.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::reason::Reason;

/// The most transfers at one time.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct MaxTransfers {
    /// Of all clients.
    pub(super) all: u32,
    /// Of one client address.
    pub(super) per_client: u32,
}

/// Counts the transfers of all shards. A shard asks once a request, never for a packet of a
/// transfer.
#[derive(Debug, Default)]
pub(super) struct Admission {
    all: AtomicU32,
    /// Transfers that run, by client address; addresses without one are not in it.
    running: DashMap<IpAddr, u32>,
}

impl Admission {
    /// Counts one transfer of `client` more.
    ///
    /// # Errors
    /// The limit that it would exceed. Then nothing is counted.
    pub(super) fn admit(&self, client: IpAddr, max: MaxTransfers) -> Result<(), Reason> {
        if self.all.fetch_add(1, Ordering::Relaxed) >= max.all {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::ServerLimit);
        }
        let mut running = self.running.entry(client).or_insert(0);
        if *running >= max.per_client {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::ClientLimit);
        }
        *running += 1;
        Ok(())
    }

    /// A transfer of `client` is over, though it may stay a while to repeat its last ACK.
    pub(super) fn over(&self, client: IpAddr) {
        if let Entry::Occupied(mut running) = self.running.entry(client) {
            match running.get().saturating_sub(1) {
                0 => drop(running.remove()),
                left => *running.get_mut() = left,
            }
        }
    }

    /// A transfer is gone.
    pub(super) fn gone(&self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }

    /// Transfers of all clients, those included that only stay to repeat their last ACK.
    pub(super) fn all(&self) -> u32 {
        self.all.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_and_a_refusal_counts_nothing() {
        let admission = Admission::default();
        let client = |last: u8| IpAddr::from([10, 0, 0, last]);
        let max = MaxTransfers { all: 3, per_client: 2 };
        assert_eq!(admission.admit(client(1), max), Ok(()));
        assert_eq!(admission.admit(client(1), max), Ok(()));
        assert_eq!(admission.admit(client(1), max), Err(Reason::ClientLimit));
        assert_eq!(admission.admit(client(2), max), Ok(()));
        assert_eq!(admission.admit(client(3), max), Err(Reason::ServerLimit));
        assert_eq!(admission.all(), 3);
        // One that is over and not gone counts among all only.
        admission.over(client(1));
        assert_eq!(admission.admit(client(1), max), Err(Reason::ServerLimit));
        admission.gone();
        assert_eq!(admission.admit(client(1), max), Ok(()));
        for (last, count) in [(1, 2), (2, 1)] {
            for _ in 0..count {
                admission.over(client(last));
                admission.gone();
            }
        }
        assert_eq!((admission.all(), admission.running.len()), (0, 0));
    }
}
