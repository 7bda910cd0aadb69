//! Names of hosts in the place of addresses.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::super::host_names::{self, HostName};

/// All look-ups of one configuration together take so long at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a look-up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::config) enum Lookup {
    Known(Vec<Ipv4Addr>),
    /// Why not.
    Unknown(String),
    /// Nobody was asked.
    NotAsked,
}

/// Asks the host's resolver, or nobody.
#[derive(Debug)]
pub(in crate::config) struct Resolver {
    /// `None`: nobody is asked.
    until: Option<Instant>,
    known: HashMap<String, Lookup>,
}

impl Resolver {
    /// One that asks nobody.
    pub(in crate::config) fn none() -> Self {
        Self { until: None, known: HashMap::new() }
    }

    /// One that asks the host, from now on.
    pub(in crate::config) fn of_host() -> Self {
        Self { until: Instant::now().checked_add(PATIENCE), known: HashMap::new() }
    }

    /// The names that were asked for, and what was found.
    pub(in crate::config) fn found(self) -> Vec<HostName> {
        let known = self.known.into_iter().map(|(name, found)| match found {
            Lookup::Known(addresses) => HostName { name, addresses },
            Lookup::Unknown(_) | Lookup::NotAsked => HostName { name, addresses: Vec::new() },
        });
        known.collect()
    }

    /// The IPv4 addresses of a name.
    pub(in crate::config) fn addresses(&mut self, name: &str) -> Lookup {
        let Some(until) = self.until else { return Lookup::NotAsked };
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let rest = until.saturating_duration_since(Instant::now());
        let found = if rest.is_zero() {
            Lookup::Unknown("there was no answer to the names before it".to_owned())
        } else {
            ask(name, rest)
        };
        self.known.insert(name.to_owned(), found.clone());
        found
    }
}

/// Asks in a thread of its own, for the resolver of the C library has no end of its own.
fn ask(name: &str, patience: Duration) -> Lookup {
    let (sender, receiver) = mpsc::channel();
    let asked = name.to_owned();
    let thread = std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        let _nobody_waits = sender.send(host_names::look_up(&asked));
    });
    match thread.map(|_thread| receiver.recv_timeout(patience)) {
        Ok(Ok(Ok(addresses))) => Lookup::Known(addresses),
        Ok(Ok(Err(why))) => Lookup::Unknown(why),
        Ok(Err(_)) => Lookup::Unknown("no answer in time".to_owned()),
        Err(error) => Lookup::Unknown(error.to_string()),
    }
}
