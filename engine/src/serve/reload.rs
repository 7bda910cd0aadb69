//! A reload: everything that can fail is prepared first, then all of it takes effect at once.

use std::sync::Arc;

use bootstorm_net::now;
use jiff::Timestamp;

use super::bindings::Plan;
use super::hosts::Sources;
use super::sockets::{self, PerShard};
use super::{Server, describe, ended, log_warnings};
use crate::config::{self, Config};
use crate::control::status::Facts;
use crate::interfaces::Interfaces;
use crate::shard::Binding;
use crate::snapshot::Snapshot;
use crate::tftp::{Prepared, TftpError, TftpServer};

/// A reload that cannot fail any more.
struct Reload {
    config: Arc<Config>,
    served: Option<Vec<String>>,
    interfaces: Interfaces,
    tftp: Option<Prepared>,
    plan: Plan,
}

impl Server {
    /// Applies the configuration file as it is now, or says why it cannot and changes nothing.
    pub(super) fn reload(&mut self) -> Result<String, String> {
        let outcome = self.prepare().map(|reload| self.apply(reload));
        // The old configuration is dropped in this thread, as what was read in vain.
        bootstorm_net::give_back_memory();
        outcome
    }

    fn prepare(&self) -> Result<Reload, String> {
        let (path, given) = (&self.options.config_path, &self.options.command_line);
        let loaded = self.heartbeat.while_waiting(|| config::load_on_host(path, given));
        let config = Arc::new(loaded.map_err(|error| error.render(false))?);
        // A change from one socket for all interfaces to one for each, or back, needs a restart:
        // ports cannot be shared between the two.
        let served = match (&self.served, &config.server.interfaces) {
            (Some(_), Some(names)) => Some(names.clone()),
            (before, _) => before.clone(),
        };
        let interfaces = Interfaces::read(served.as_deref())
            .map_err(|error| format!("list interfaces: {error}"))?;
        let tftp = match (&self.tftp, &config.tftp) {
            (Some(_), Some(tftp)) => {
                let prepared = self.heartbeat.while_waiting(|| TftpServer::prepare(tftp));
                Some(prepared.map_err(|error| in_file(&error, tftp))?)
            }
            _ => None,
        };
        let mut plan = self.bindings.plan(self.scope, &interfaces, now());
        // Where data sockets are missing transfers work, too: they follow later.
        plan.addresses.clear();
        let mut failed = None;
        let mut sockets: PerShard = (0..self.shards.count()).map(|_| Vec::new()).collect();
        plan.interfaces.retain(|&index| {
            match self.open_interface(index, interfaces.name(index)) {
                Ok(opened) => {
                    sockets.iter_mut().zip(opened).for_each(|(all, own)| all.extend(own));
                    true
                }
                Err(error) => {
                    // What failed before is missing with the old configuration, too.
                    if self.bindings.failure(index).is_none() {
                        failed.get_or_insert(error);
                    }
                    false
                }
            }
        });
        let opened = match failed {
            Some(error) => Err(error.to_string()),
            None => self.shards.open(sockets).map_err(|error| format!("open sockets: {error}")),
        };
        if let Err(error) = opened {
            let shards = self.shards.count();
            plan.interfaces
                .iter()
                .for_each(|&index| sockets::forget_interface(index, shards, &self.kept));
            return Err(error);
        }
        Ok(Reload { config, served, interfaces, tftp, plan })
    }

    /// Carries a reload out. Shards see the old configuration or the new one, whole.
    fn apply(&mut self, reload: Reload) -> String {
        let Reload { config, served, interfaces, tftp, plan } = reload;
        let added: Vec<String> =
            plan.interfaces.iter().map(|&index| interfaces.name(index).to_owned()).collect();
        let next = Snapshot { config: config.clone(), interfaces };
        let tftp = self.tftp.as_deref().map(|server| (server, tftp));
        // That leases may last longer than before is written to the disk first.
        let before =
            self.heartbeat.while_waiting(|| self.snapshot.replace(next, &self.leases, tftp));
        if !self.options.dry_run && config.dhcp.has_ends() {
            ended::begin(&before.server.state_dir, || self.leases.expired(now()));
        }
        self.config.store(config.clone());
        self.sources = Sources::of(&config);
        self.live_hosts.forget();
        self.hosts_in_doubt = false;
        log_warnings(&config);
        self.served = served;
        plan.interfaces.iter().for_each(|&index| self.bindings.opened(Binding::Interface(index)));
        self.close(&plan.close);
        // Data sockets, and what may have changed meanwhile.
        self.follow_interfaces();
        self.ask_for_servers(&self.snapshot.read().interfaces.clone(), &added);
        let mut line = format!("{} is in force", self.options.config_path.display());
        let later = needs_restart(&before, &config);
        if !later.is_empty() {
            line.push_str(&format!(", but for {}: restart for that", later.join(", ")));
        }
        for state in self.facts.load().interfaces.iter().filter(|state| !state.served) {
            line.push_str(&format!("; {}", describe::not_served(state)));
        }
        line
    }

    pub(super) fn note_reload(&self, outcome: Result<String, String>) {
        match &outcome {
            Ok(line) => tracing::info!("reload: {line}"),
            Err(error) => tracing::error!("reload: the old configuration stays: {error}"),
        }
        let facts = Facts {
            last_reload: Some((Timestamp::now(), outcome)),
            ..self.facts.load().as_ref().clone()
        };
        self.facts.store(Arc::new(facts));
    }
}

/// What is wrong with `[tftp]`, with its place where that is known.
fn in_file(error: &TftpError, tftp: &config::Tftp) -> String {
    match error {
        TftpError::Map(wrong) => tftp.map.get(wrong.index).map_or_else(
            || error.to_string(),
            |rule| rule.problem(wrong.problem.clone()).render(false),
        ),
        _ => error.to_string(),
    }
}

/// Keys that a reload read but cannot change.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut keys = Vec::new();
    let mut differ = |key, differs| {
        if differs {
            keys.push(key);
        }
    };
    let (was, is) = (&old.server, &new.server);
    differ("[server] interfaces", was.interfaces.is_some() != is.interfaces.is_some());
    differ("[server] state-dir", was.state_dir != is.state_dir);
    differ("[server] shards", was.shards != is.shards);
    differ("[server] engine", was.engine != is.engine);
    differ("[server] busy-poll", was.busy_poll != is.busy_poll);
    differ("[server] user and group", (&was.user, &was.group) != (&is.user, &is.group));
    differ("[tftp]", old.tftp.is_some() != new.tftp.is_some());
    let single_port = |config: &Config| config.tftp.as_ref().is_some_and(|tftp| tftp.single_port);
    differ("[tftp] single-port", single_port(old) != single_port(new));
    let ttl = |config: &Config| {
        let multicast = config.tftp.as_ref().and_then(|tftp| tftp.multicast);
        multicast.map(|multicast| multicast.ttl)
    };
    differ("[tftp] multicast-ttl", ttl(old).unwrap_or(1) != ttl(new).unwrap_or(1));
    differ("[control]", old.control != new.control);
    differ("[log]", old.log != new.log);
    keys
}
