//! Hosts that are changed while the server runs.
//!
//! A change is durable before it is in force, and in force before it is answered. A change of few
//! hosts is made in the model, and written into the journal of the live hosts. Where anything is to
//! be said of it, all live hosts are written into a file beside the old one, the configuration is
//! read with it, with all the checks of a reload, and the file takes the place of the old one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Server;
use crate::config::{self, Config, HostChange, LIVE_HOSTS};
use crate::live_hosts::{self, Change, Changed, HostObject, LiveHosts, LiveHostsError, Origin};
use crate::snapshot::Snapshot;

/// The most hosts that are changed in the model: the tree of their tables is in memory at once.
const FEW: usize = 1000;

/// The live hosts as their file has them; `None` until somebody asks.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedLiveHosts(Arc<Mutex<Option<LiveHosts>>>);

impl SharedLiveHosts {
    /// Calls `ask` with them. What it takes out is read again when somebody asks next.
    pub(super) fn with<R>(
        &self,
        path: &Path,
        ask: impl FnOnce(&mut Option<LiveHosts>) -> R,
    ) -> Result<R, LiveHostsError> {
        let mut live = self.0.lock();
        if live.is_none() {
            *live = Some(LiveHosts::read(path)?);
        }
        Ok(ask(&mut live))
    }

    /// The file was read anew: whoever asks next reads it as well.
    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }
}

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
        origin: Origin,
    ) -> Result<String, String> {
        let outcome = self.changed_hosts(change, hosts, origin);
        bootstorm_net::give_back_memory();
        if let Ok(line) = &outcome {
            tracing::info!("hosts: {line}");
        }
        outcome
    }

    fn changed_hosts(
        &mut self,
        change: Change,
        hosts: Vec<HostObject>,
        origin: Origin,
    ) -> Result<String, String> {
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
        let (shared, count) = (self.live_hosts.clone(), hosts.len());
        let outcome = shared.with(&path, |known| {
            // If it comes to nothing they are read again.
            let mut live = known.take().unwrap_or_default();
            let changed = live.change_all(change, hosts, origin)?;
            self.put_in_force(&mut live, &changed, &path)?;
            let left = live.len();
            *known = Some(live);
            Ok(left)
        });
        let left = outcome.map_err(|error| error.to_string()).flatten()?;
        let done = match change {
            Change::Add => "added",
            Change::Set => "set",
            Change::Remove => "removed",
        };
        let plural = if count == 1 { "host is" } else { "hosts are" };
        Ok(format!("{count} {plural} {done}; there are {left} live hosts"))
    }

    /// Makes changed live hosts durable, and puts them in force.
    fn put_in_force(
        &mut self,
        live: &mut LiveHosts,
        changed: &Changed,
        path: &Path,
    ) -> Result<(), String> {
        let few = changed.len() <= FEW && !self.hosts_in_doubt;
        let quick = few.then(|| self.changed_model(live, changed, path)).flatten();
        let config = Arc::new(match quick {
            Some(config) => {
                self.append(live, changed, path)?;
                if live.outgrows(path) {
                    self.write_whole(live, path);
                }
                config
            }
            None => self.read_whole(live, changed, path)?,
        });
        self.hosts_in_doubt = false;
        let interfaces = self.snapshot.read().interfaces.clone();
        let next = Snapshot { config: config.clone(), interfaces };
        let tftp = self.tftp.as_deref().map(|server| (server, None));
        self.heartbeat.while_waiting(|| self.snapshot.replace(next, &self.leases, tftp));
        self.config.store(config);
        Ok(())
    }

    /// Writes a change into the journal.
    fn append(
        &mut self,
        live: &mut LiveHosts,
        changed: &Changed,
        path: &Path,
    ) -> Result<(), String> {
        let appended = self.heartbeat.while_waiting(|| live.append(path, changed));
        appended.map_err(|error| self.not_written(error))
    }

    /// Writes live hosts anew that are durable already.
    fn write_whole(&self, live: &mut LiveHosts, path: &Path) {
        let new = path.with_added_extension("new");
        let write = || live.write(&new).and_then(|()| live.replace(&new, path));
        if let Err(error) = self.heartbeat.while_waiting(write) {
            tracing::warn!("the journal of live hosts grows: {error}");
        }
    }

    /// The configuration of the files with changed live hosts, which are durable then.
    fn read_whole(
        &mut self,
        live: &mut LiveHosts,
        changed: &Changed,
        path: &Path,
    ) -> Result<Config, String> {
        let new = path.with_added_extension("new");
        let written = self.heartbeat.while_waiting(|| live.write(&new));
        written.map_err(|error| error.to_string())?;
        let config = self.read_with(&new, path)?;
        // What is in the journal is made once more if the server is killed before it is removed.
        let journaled = live.has_journal();
        if journaled {
            self.append(live, changed, path).inspect_err(|_| live_hosts::remove(&new))?;
        }
        match self.heartbeat.while_waiting(|| live.replace(&new, path)) {
            Err(error) if journaled => {
                tracing::warn!("the journal of live hosts grows: {error}");
            }
            replaced => replaced.map_err(|error| self.not_written(error))?,
        }
        Ok(config)
    }

    /// What is said of a change that was not written. If the files may have other hosts than those
    /// in force, the next change reads and writes all of them.
    fn not_written(&mut self, error: LiveHostsError) -> String {
        self.hosts_in_doubt |= !matches!(error, LiveHostsError::Io { .. });
        error.to_string()
    }

    /// The configuration in force with changed hosts, if there is nothing to say of it.
    fn changed_model(&self, live: &LiveHosts, changed: &Changed, path: &Path) -> Option<Config> {
        let own = self.snapshot.read().interfaces.addresses().to_vec();
        self.config.load().with_hosts(&HostChange {
            before: changed.before,
            removed: &changed.removed(),
            added: &live.added(changed),
            file: path,
            own: &own,
        })
    }

    /// The configuration of the files with live hosts that stand in a new file yet, or what is
    /// wrong with it.
    fn read_with(&self, new: &Path, path: &Path) -> Result<Config, String> {
        let (main, given) = (&self.options.config_path, &self.options.command_line);
        let loaded = self.heartbeat.while_waiting(|| config::load_with_hosts(main, given, new));
        let mut config = match loaded {
            Ok(config) => config,
            Err(error) => {
                live_hosts::remove(new);
                return Err(error.render(false));
            }
        };
        for source in config.sources.iter_mut().filter(|source| **source == *new) {
            *source = path.to_owned();
        }
        Ok(config)
    }
}
