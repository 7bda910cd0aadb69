//! Names of hosts in the configuration are looked up again, in a thread of their own: one that
//! could not be resolved may be known now, and one that was known may have other addresses.

use std::net::Ipv4Addr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::config::{HostName, look_up};

/// How long to wait after a name could not be resolved.
const AGAIN: Duration = Duration::from_secs(60);
/// How long to wait otherwise, as dhcpd does.
const FRESH: Duration = Duration::from_secs(3600);

/// When to ask, and the thread that asks.
#[derive(Debug)]
pub(super) struct Names {
    last: Instant,
    asking: Option<JoinHandle<bool>>,
    look_up: fn(&str) -> Result<Vec<Ipv4Addr>, String>,
}

impl Names {
    /// They were asked for just now.
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, asking: None, look_up }
    }

    /// Asks where it is time to. True once an answer is not what the configuration was read with.
    pub(super) fn have_changed(&mut self, names: &[HostName], now: Instant) -> bool {
        if let Some(thread) = self.asking.take_if(|thread| thread.is_finished()) {
            self.last = now;
            return thread.join().unwrap_or_default();
        }
        let unknown = names.iter().any(|name| name.addresses.is_empty());
        let wait = if unknown { AGAIN } else { FRESH };
        if self.asking.is_none() && !names.is_empty() && now.duration_since(self.last) >= wait {
            let (names, look_up) = (names.to_vec(), self.look_up);
            let ask = move || names.iter().any(|name| differs(name, look_up(&name.name)));
            match thread::Builder::new().name("names".to_owned()).spawn(ask) {
                Ok(thread) => self.asking = Some(thread),
                Err(error) => {
                    self.last = now;
                    tracing::warn!("names of hosts cannot be looked up: no thread starts: {error}");
                }
            }
        }
        false
    }
}

/// Whether a name has other addresses now. What cannot be told has not changed.
fn differs(before: &HostName, found: Result<Vec<Ipv4Addr>, String>) -> bool {
    let sorted = |mut addresses: Vec<Ipv4Addr>| {
        addresses.sort_unstable();
        addresses
    };
    found.is_ok_and(|found| sorted(found) != sorted(before.addresses.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
    const TWO: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

    /// `lost` is unknown, and every other name has two addresses.
    fn answer(name: &str) -> Result<Vec<Ipv4Addr>, String> {
        if name == "lost" { Err("nobody knows it".to_owned()) } else { Ok(vec![TWO, ONE]) }
    }

    fn name(name: &str, addresses: &[Ipv4Addr]) -> HostName {
        HostName { name: name.to_owned(), addresses: addresses.to_vec() }
    }

    /// What comes of asking after so long; `None` where nobody is asked.
    fn after(names: &[HostName], wait: Duration) -> Option<bool> {
        let start = Instant::now();
        let mut own = Names { look_up: answer, ..Names::new(start) };
        assert!(!own.have_changed(names, start + wait));
        let thread = own.asking.as_ref()?;
        while !thread.is_finished() {
            thread::yield_now();
        }
        Some(own.have_changed(names, start + wait))
    }

    #[test]
    fn what_was_unknown_is_asked_for_after_a_minute_and_the_rest_after_an_hour() {
        let (lost, found) = (name("lost", &[]), name("found", &[]));
        let (same, other) = (name("same", &[ONE, TWO]), name("other", &[ONE]));
        assert_eq!(after(&[], FRESH), None);
        assert_eq!(after(&[same.clone(), same.clone()], AGAIN), None);
        assert_eq!(after(&[same.clone(), lost.clone()], AGAIN - Duration::from_secs(1)), None);
        // The order of addresses is nothing new.
        assert_eq!(after(&[same.clone(), same.clone()], FRESH), Some(false));
        assert_eq!(after(&[other], FRESH), Some(true));
        assert_eq!(after(&[same, lost.clone()], AGAIN), Some(false));
        assert_eq!(after(&[lost, found], AGAIN), Some(true));
        // One that was known and is unknown for a while keeps its addresses.
        assert_eq!(after(&[name("lost", &[ONE])], FRESH), Some(false));
    }
}
