//! Follows the interfaces of this host while the server runs: sockets, snapshot, TFTP and status.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bootstorm_net::{InterfaceWatch, now};
use crossbeam::channel::Sender;

use super::bindings::{Bindings, Plan, Scope};
use super::kept::KeptSockets;
use super::sockets::{self, PerShard, SocketError, TftpRequests};
use super::{HOUSEKEEPING, ServeError, Server, describe, neighbours, system};
use crate::config::Config;
use crate::control::{Command, status};
use crate::interfaces::Interfaces;
use crate::leases::NextPools;
use crate::shard::Binding;
use crate::snapshot::tell_tftp;

/// A change of an interface makes several notices; so long they are collected.
const SETTLE: Duration = Duration::from_millis(100);

/// Subscribes to changes of interfaces. Before the first reading of them, so that none is missed.
pub(super) fn watch() -> Option<InterfaceWatch> {
    let outcome = InterfaceWatch::new();
    outcome.inspect_err(unwatched).ok()
}

fn unwatched(error: &std::io::Error) {
    tracing::warn!("the kernel does not tell of changed interfaces ({error}): read every second");
}

/// Starts the thread that commands to follow the interfaces whenever they have changed; without a
/// watch once a second.
pub(super) fn start(
    mut watch: Option<InterfaceWatch>,
    commands: Sender<Command>,
) -> Result<(), ServeError> {
    let notice = move || {
        crate::privileges::renounce_or_warn();
        loop {
            match &watch {
                Some(changes) => {
                    let noticed = changes.wait().and_then(|()| {
                        thread::sleep(SETTLE);
                        // Before the interfaces are read, so that later changes are noticed.
                        changes.drain()
                    });
                    if let Err(error) = noticed {
                        unwatched(&error);
                        watch = None;
                    }
                }
                None => thread::sleep(HOUSEKEEPING),
            }
            if commands.send(Command::FollowInterfaces).is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("interfaces".to_owned());
    thread.spawn(notice).map(drop).map_err(system("start the thread that follows interfaces"))
}

/// Opens all sockets, those that are bound to interfaces and addresses of this host as well.
///
/// # Errors
/// The kernel's, with what would help.
pub(super) fn open_at_start(
    config: &Config,
    interfaces: &Interfaces,
    shards: usize,
    kept: &KeptSockets,
) -> Result<(PerShard, Bindings), SocketError> {
    let mut all = sockets::open_host(config, shards, kept)?;
    let mut bindings = Bindings::default();
    let mut add = |binding, opened: PerShard| {
        all.iter_mut().zip(opened).for_each(|(all, own)| all.extend(own));
        bindings.opened(binding);
    };
    let plan = Bindings::default().plan(Scope::of(config), interfaces, now());
    for index in plan.interfaces {
        let name = interfaces.name(index);
        let opened = sockets::open_interface(index, name, TftpRequests::of(config), shards, kept)?;
        add(Binding::Interface(index), opened);
    }
    for address in plan.addresses {
        let Some(tftp) = &config.tftp else { break };
        // An address may be gone since it was read.
        if let Ok(opened) = sockets::open_address(address, tftp, shards) {
            add(Binding::Address(address), opened);
        }
    }
    kept.discard_rest();
    Ok((all, bindings))
}

impl Server {
    /// Reads the interfaces, and adapts everything to them.
    pub(super) fn follow_interfaces(&mut self) {
        let outcome = Interfaces::read(self.served.as_deref());
        self.unread = outcome.is_err();
        let interfaces = match outcome {
            Ok(interfaces) => interfaces,
            Err(error) => return tracing::warn!("interfaces cannot be listed: {error}"),
        };
        let before = self.snapshot.read().interfaces.clone();
        let appeared = describe::log_changes(&before, &interfaces);
        if interfaces != before {
            if let Some(tftp) = &self.tftp {
                tell_tftp(tftp, &self.config.load(), &interfaces);
            }
            let new = interfaces.clone();
            let config = self.config.load();
            let moved = before.addresses() != new.addresses();
            let pools = moved.then(|| self.leases.prepare(new.addresses(), &config.dhcp));
            self.snapshot.change(|snapshot| {
                pools.iter().for_each(NextPools::swap);
                snapshot.interfaces = new;
            });
            pools.into_iter().for_each(NextPools::count);
        }
        let now = now();
        self.bindings.note(&interfaces, now);
        let plan = self.bindings.plan(self.scope, &interfaces, now);
        self.close(&plan.close);
        self.open(&plan, &interfaces);
        self.report_interfaces(&interfaces);
        self.ask_for_servers(&interfaces, &appeared);
    }

    /// Asks who else serves DHCP on interfaces that are served from now on.
    pub(super) fn ask_for_servers(&self, interfaces: &Interfaces, names: &[String]) {
        if !names.is_empty() && !self.options.dry_run {
            let asked = neighbours::ask_later(&self.config.load(), interfaces, names);
            asked.unwrap_or_else(|error| tracing::warn!("{error}"));
        }
    }

    /// Opens what a plan wants. What cannot be opened is tried again later.
    fn open(&mut self, plan: &Plan, interfaces: &Interfaces) {
        for &index in &plan.interfaces {
            let name = interfaces.name(index);
            match self.open_interface(index, name).map_err(|error| error.to_string()) {
                Ok(sockets) => match self.shards.open(sockets) {
                    Ok(()) => self.bindings.opened(Binding::Interface(index)),
                    Err(error) => {
                        sockets::forget_interface(index, self.shards.count(), &self.kept);
                        self.not_opened(index, format!("{name}: {error}"));
                    }
                },
                Err(error) => self.not_opened(index, error),
            }
        }
        for &address in &plan.addresses {
            let Some(tftp) = &self.config.load().tftp else { return };
            // It may be gone already, and its clients are served without them, too.
            let opened = sockets::open_address(address, tftp, self.shards.count());
            if opened.is_ok_and(|sockets| self.shards.open(sockets).is_ok()) {
                self.bindings.opened(Binding::Address(address));
            }
        }
    }

    pub(super) fn open_interface(&self, index: u32, name: &str) -> Result<PerShard, SocketError> {
        sockets::open_interface(index, name, self.tftp_requests, self.shards.count(), &self.kept)
    }

    fn not_opened(&mut self, index: u32, why: String) {
        if self.bindings.failed(index, why.clone()) {
            tracing::error!("{why}; its clients are not served, and it is tried every second");
        }
    }

    pub(super) fn close(&mut self, bindings: &[Binding]) {
        if let Err(error) = self.shards.close(bindings) {
            tracing::warn!("sockets of interfaces that are gone: {error}");
        }
        for binding in bindings {
            if let Binding::Interface(index) = *binding {
                sockets::forget_interface(index, self.shards.count(), &self.kept);
            }
        }
        self.bindings.closed(bindings);
    }

    /// Brings the status up to date.
    pub(super) fn report_interfaces(&self, interfaces: &Interfaces) {
        let config = self.config.load();
        let states =
            describe::states(self.served.as_deref(), interfaces, &self.bindings, &config.dhcp);
        let facts = self.facts.load();
        if facts.interfaces != states {
            let facts = status::Facts { interfaces: states, ..facts.as_ref().clone() };
            self.facts.store(Arc::new(facts));
            self.manager.status(&self.serving());
        }
    }
}
