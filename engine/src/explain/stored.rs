//! The leases of a server that is down, read as they are.

use std::path::Path;
use std::sync::Arc;

use super::LeasesFrom;
use crate::config::Dhcp;
use crate::leases::{
    BatchId, Clock, Finished, LeaseStore, Leases, Loaded, Recovered, StatePlace, StoreError, Write,
};

/// The leases in a state directory, in which nothing is changed; none where there is no store.
/// After damage addresses are probed, as by a server that starts.
///
/// # Errors
/// A server has the store open, or it cannot be read.
pub fn stored(
    state_dir: &Path,
    dhcp: &Dhcp,
    clock: Clock,
) -> Result<(Arc<Leases>, LeasesFrom), StoreError> {
    let place = StatePlace::new(state_dir);
    let from = match place.present() {
        Some(_) => LeasesFrom::Store,
        None => LeasesFrom::None,
    };
    let leases = Leases::open(Arc::new(ReadOnly(place)), dhcp, 1, clock)?;
    Ok((leases, from))
}

/// A store that is read once.
struct ReadOnly(StatePlace);

impl LeaseStore for ReadOnly {
    fn begin(&self, _: BatchId, _: &[Write], _: &Clock) -> Result<(), StoreError> {
        Err(StoreError::Other("the lease store is only read".to_owned()))
    }

    fn finish(&self) -> Option<Finished> {
        None
    }

    fn load(&self, clock: &Clock, each: &mut dyn FnMut(Loaded)) -> Result<Recovered, StoreError> {
        let damage = self.0.read(clock, each)?;
        Ok(Recovered { damaged: damage.map(|_| clock.now), ..Recovered::default() })
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
