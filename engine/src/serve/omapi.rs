//! The running server, as OMAPI sees it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam::channel::Sender;
use tokio::sync::oneshot;

use crate::clock;
use crate::config::{Config, LIVE_HOSTS};
use crate::control::Command;
use crate::leases::{Clock, Lease, Leases};
use crate::live_hosts::{Change, HostObject, LiveHosts};
use crate::omapi::{Backend, Wanted};

/// Leases that are looked at together.
const PAGE: usize = 16_384;

pub(super) struct OmapiBackend {
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) leases: Arc<Leases>,
    pub(super) commands: Sender<Command>,
}

impl Backend for OmapiBackend {
    fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    fn live_host(&self, name: &str) -> Option<HostObject> {
        let path = self.config.load().server.state_dir.join(LIVE_HOSTS);
        LiveHosts::read(&path).ok()?.object(name)
    }

    fn change(&self, change: Change, host: HostObject) -> Result<(), String> {
        let (reply, outcome) = oneshot::channel();
        let hosts = vec![host];
        let gone = || "the server is going down".to_owned();
        let command = Command::ChangeHosts { change, hosts, reply };
        self.commands.try_send(command).map_err(|_| gone())?;
        outcome.blocking_recv().map_err(|_| gone())?.map(|_| ())
    }

    fn lease(&self, wanted: &Wanted<'_>) -> (Option<Lease>, Clock) {
        let Ok(clock) = clock::read() else { return (None, Clock::default()) };
        let now = clock.now;
        let lease = match *wanted {
            Wanted::Address(ip) => self.leases.at(ip, now),
            Wanted::Hardware(hardware) => {
                self.best(&clock, |lease| lease.hardware.address() == hardware.address())
            }
            Wanted::ClientId(id) => self.best(&clock, |lease| lease.notes.client_id() == Some(id)),
        };
        (lease, clock)
    }
}

impl OmapiBackend {
    /// Of the leases that are meant the one that ends last. Looks at every lease.
    fn best(&self, clock: &Clock, is_meant: impl Fn(&Lease) -> bool) -> Option<Lease> {
        let mut best: Option<Lease> = None;
        let mut from = Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        while let Some(start) = from {
            let page = self.leases.page(start, PAGE, clock.now);
            let last = page.last().filter(|_| page.len() == PAGE).map(|last| match last.ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            });
            from = last.and_then(|ip| ip.to_bits().checked_add(1)).map(|ip| IpAddr::V6(ip.into()));
            let found = page.into_iter().filter(|lease| is_meant(lease));
            best =
                found.chain(best).max_by_key(|lease| (lease.is_active(clock.now), lease.expires));
        }
        best
    }
}
