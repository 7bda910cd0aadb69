//! Ends a process whose threads do not run any more, so that it is started again.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::liveness::{Liveness, Progress};
use crate::privileges;
use crate::service_manager::ServiceManager;

/// Between two looks at the threads. Each makes a round within a second.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a thread may make no progress, where no service manager says how long.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Looks between two warnings of a thread that waits for a disk.
const TELL: u32 = 10;

/// Nobody is watched yet. What is stuck is found here first, and named, before a service manager
/// ends the process without a word.
pub(super) fn liveness(manager: &ServiceManager) -> Liveness {
    let timeout = manager.watchdog_timeout().unwrap_or(TIMEOUT);
    let looks = timeout.as_secs() * 2 / 3;
    Liveness::new(u32::try_from(looks).unwrap_or(u32::MAX).max(4))
}

/// Starts the thread that looks after the others until the process ends.
pub(super) fn start(mut liveness: Liveness, manager: Arc<ServiceManager>) -> io::Result<()> {
    let watch = move || {
        privileges::renounce_or_warn();
        loop {
            thread::sleep(INTERVAL);
            let progress = liveness.look();
            for (name, looks) in liveness.waiting().filter(|(_, looks)| looks.is_multiple_of(TELL))
            {
                let seconds = u64::from(looks) * INTERVAL.as_secs();
                tracing::warn!(
                    "{name} has waited for the disk for {seconds} s; while the committer waits, no \
                     client gets an ACK: see to the disk"
                );
            }
            match progress {
                Progress::Made => manager.feed_watchdog(),
                Progress::Late => {}
                Progress::Stuck(name) => {
                    tracing::error!(
                        "{name} is dead or stuck: the process ends, to be started again"
                    );
                    // A core dump shows where it hangs.
                    std::process::abort();
                }
            }
        }
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
}
