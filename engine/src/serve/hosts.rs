//! Hosts that are changed while the server runs.
//!
//! A change is durable before it is in force, and in force before it is answered: the file of the
//! live hosts is written anew beside the old one, the configuration is read with it, with all the
//! checks of a reload, and only then it takes the place of the old file and the configuration that
//! of the old one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Server;
use crate::config::{self, Config, LIVE_HOSTS};
use crate::live_hosts::{self, Change, HostObject, LiveHosts};
use crate::snapshot::Snapshot;

/// The files of a configuration, as they were when it was read.
#[derive(Debug, Default)]
pub(super) struct Sources(Vec<(PathBuf, Option<FileState>)>);

/// Length, and the times of the last change of content and of anything.
type FileState = (u64, [i64; 4]);

impl Sources {
    /// Those of a configuration that was read a moment ago.
    pub(super) fn of(config: &Config) -> Self {
        let live = config.server.state_dir.join(LIVE_HOSTS);
        let files = config.sources.iter().filter(|path| **path != live);
        Self(files.map(|path| (path.clone(), state_of(path))).collect())
    }

    /// One that has changed since.
    fn changed(&self) -> Option<&PathBuf> {
        self.0.iter().find(|(path, state)| state_of(path) != *state).map(|(path, _)| path)
    }
}

fn state_of(path: &PathBuf) -> Option<FileState> {
    let metadata = fs::metadata(path).ok()?;
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    Some((metadata.len(), times))
}

impl Server {
    /// Makes a change of live hosts, or says why it cannot and changes nothing.
    pub(super) fn change_hosts(
        &mut self,
        change: Change,
        hosts: Vec<HostObject>,
    ) -> Result<String, String> {
        let outcome = self.changed_hosts(change, hosts);
        bootstorm_net::give_back_memory();
        if let Ok(line) = &outcome {
            tracing::info!("hosts: {line}");
        }
        outcome
    }

    fn changed_hosts(&mut self, change: Change, hosts: Vec<HostObject>) -> Result<String, String> {
        if self.options.dry_run {
            return Err("a dry run stores nothing, no hosts either".to_owned());
        }
        // Else a configuration that somebody is writing would be in force.
        if let Some(path) = self.sources.changed() {
            return Err(format!(
                "{} has changed since it was read: `bootstorm reload` first, then change hosts",
                path.display()
            ));
        }
        let path = self.config.load().server.state_dir.join(LIVE_HOSTS);
        let new = path.with_added_extension("new");
        let mut live = LiveHosts::read(&path).map_err(|error| error.to_string())?;
        let count = hosts.len();
        for host in hosts {
            live.change(change, host)?;
        }
        let written = self.heartbeat.while_waiting(|| live.write(&new));
        written.map_err(|error| error.to_string())?;
        let (main, given) = (&self.options.config_path, &self.options.command_line);
        let loaded = self.heartbeat.while_waiting(|| config::load_with_hosts(main, given, &new));
        let mut config = match loaded {
            Ok(config) => config,
            Err(error) => {
                // The next change writes it anew.
                let _kept = fs::remove_file(&new);
                return Err(error.render(false));
            }
        };
        live_hosts::replace(&new, &path).map_err(|error| error.to_string())?;
        for source in config.sources.iter_mut().filter(|source| **source == new) {
            source.clone_from(&path);
        }
        let config = Arc::new(config);
        let interfaces = self.snapshot.read().interfaces.clone();
        let next = Snapshot { config: config.clone(), interfaces };
        let tftp = self.tftp.as_deref().map(|server| (server, None));
        self.heartbeat.while_waiting(|| self.snapshot.replace(next, &self.leases, tftp));
        self.config.store(config);
        let done = match change {
            Change::Add => "added",
            Change::Set => "set",
            Change::Remove => "removed",
        };
        let plural = if count == 1 { "host is" } else { "hosts are" };
        Ok(format!("{count} {plural} {done}; there are {} live hosts", live.len()))
    }
}
