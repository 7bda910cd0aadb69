//! The running server, as OMAPI sees it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bootstorm_net::now;
use crossbeam::channel::Sender;
use tokio::sync::oneshot;

use super::hosts::SharedLiveHosts;
use crate::clock;
use crate::config::{Config, LIVE_HOSTS};
use crate::control::Command;
use crate::leases::{Clock, Lease, Leases};
use crate::live_hosts::{By, Change, HostObject};
use crate::omapi::{Backend, Wanted};

pub(super) struct OmapiBackend {
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) leases: Arc<Leases>,
    pub(super) commands: Sender<Command>,
    pub(super) live_hosts: SharedLiveHosts,
}

impl Backend for OmapiBackend {
    fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    fn live_host(&self, name: &str) -> Option<HostObject> {
        let path = self.config.load().server.state_dir.join(LIVE_HOSTS);
        self.live_hosts.with(&path, |live| live.as_ref()?.object(name)).ok()?
    }

    fn change(&self, change: Change, host: HostObject) -> Result<(), String> {
        let (reply, outcome) = oneshot::channel();
        let (hosts, by) = (vec![host], By::Omapi);
        let gone = || "the server is going down".to_owned();
        let command = Command::ChangeHosts { change, hosts, by, reply };
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

    fn release(&self, ip: Ipv4Addr) -> Result<bool, String> {
        let released = self.leases.release(ip, now());
        released.map(|lease| lease.is_some()).map_err(|error| format!("{ip}: {error}"))
    }
}

impl OmapiBackend {
    /// Of the leases that are meant the one that ends last, of several the one with the highest
    /// address. Looks at every lease.
    fn best(&self, clock: &Clock, is_meant: impl Fn(&Lease) -> bool) -> Option<Lease> {
        let rank = |lease: &Lease| (lease.is_active(clock.now), lease.expires, lease.ip);
        let mut best: Option<Lease> = None;
        self.leases.each(clock.now, |lease| {
            if is_meant(&lease) && best.as_ref().is_none_or(|best| rank(best) < rank(&lease)) {
                best = Some(lease);
            }
        });
        best
    }
}
