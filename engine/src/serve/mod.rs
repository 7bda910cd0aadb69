//! The running server: opens what it needs, gives up privileges, starts the shards, and owns them
//! until the end.

mod desk;
mod neighbours;
mod sockets;
mod watchdog;
mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use bootstorm_net::{EngineKind, KernelLoss, now};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::clock;
use crate::config::{self, Config};
use crate::control::{self, Command, Control, Listeners};
use crate::event::bus::EventBus;
use crate::interfaces::Interfaces;
use crate::leases::{CommitterThread, FjallStore, LeaseStore, Leases, MemoryStore, StoreError};
use crate::liveness::Heartbeat;
use crate::log::EventLog;
use crate::metrics::Metrics;
use crate::privileges::{self, Account, PrivilegeError};
use crate::probe::NotAlone;
use crate::service_manager::ServiceManager;
use crate::signals::Signals;
use crate::snapshot::{SharedSnapshot, Snapshot};
use crate::tftp::{TftpError, TftpServer};
use desk::Desk;
use sockets::Opened;
pub use sockets::SocketError;
use worker::{Seed, SocketChange, Worker};

/// How long a server that is told to stop waits for ACKs under way and transfers.
const DRAIN: Duration = Duration::from_secs(5);
/// Between two looks at what changes slowly: leases that ended, interfaces, the kernel's counters.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Addresses of each pool that one sweep looks at, at most: it shares the pool's lock with the
/// shards' slow path.
const SWEEP: usize = 4096;

/// Warnings of the configuration that are logged, at most.
const WARNINGS: usize = 20;

/// How `serve` was called.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file, for reloads.
    pub config_path: PathBuf,
    /// Receive, decide and log, but send and store nothing.
    pub dry_run: bool,
}

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Interfaces cannot be listed, threads not started, clocks not read.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
    /// An interface of the configuration is not there.
    #[error(
        "[server] interfaces: there is no interface {name}; this host has {present} (`ip link` lists them)"
    )]
    NoInterface {
        /// As configured.
        name: String,
        /// What there is.
        present: String,
    },
    /// Somebody else serves DHCP here.
    #[error(transparent)]
    NotAlone(NotAlone),
    /// A socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Less privilege.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// Metrics or control socket.
    #[error(transparent)]
    Control(#[from] control::OpenError),
    /// The TFTP service.
    #[error(transparent)]
    Tftp(#[from] TftpError),
    /// The lease store.
    #[error("leases in {path}: {cause}", path = path.display())]
    Leases {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: StoreError,
    },
    /// `engine = "uring"` on a host that denies it.
    #[error("[server] engine = \"uring\": {0}; write engine = \"auto\" to go on without io_uring")]
    Denied(#[from] bootstorm_net::Denied),
    /// A shard ended before it was told to.
    #[error("shard {shard}: {cause}")]
    Shard {
        /// Which.
        shard: usize,
        /// Why.
        cause: io::Error,
    },
}

impl ServeError {
    /// Whether only another configuration helps. Whatever else went wrong may pass: a port that
    /// another process has, a directory that is not mounted yet, a full disk.
    #[must_use]
    pub fn is_of_configuration(&self) -> bool {
        matches!(
            self,
            Self::Privilege(PrivilegeError::NoUser { .. } | PrivilegeError::NoGroup { .. })
                | Self::Tftp(TftpError::Map(_))
        )
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> ServeError {
    move |cause| ServeError::System { what, cause }
}

/// Serves until a signal says stop.
///
/// # Errors
/// What keeps it from starting, or a shard that failed.
pub fn run(config: Config, options: Options) -> Result<(), ServeError> {
    log_warnings(&config);
    let signals = Signals::catch().map_err(system("catch signals"))?;
    let manager = Arc::new(ServiceManager::from_environment());
    let state_dir = config.server.state_dir.clone();
    let account = match (&config.server.user, &config.server.group) {
        (Some(user), Some(group)) => Some(Account::find(user)?.with_group(group)?),
        (Some(user), None) => Some(Account::find(user)?),
        // Without another user there are no privileges to give up with a group.
        (None, _) => None,
    };
    let leases = FjallStore::directory(&state_dir);
    let contents = leases.file_name().and_then(|name| name.to_str());
    privileges::prepare_state_dir(&state_dir, contents.as_slice(), account.as_ref())?;
    let interfaces =
        Interfaces::read(config.server.interfaces.as_deref()).map_err(system("list interfaces"))?;
    check_interfaces(&config, &interfaces)?;
    let shards = config.server.shards.unwrap_or_else(cores);
    let (kind, denied) = config.server.engine.resolve()?;
    if let Some(denied) = denied {
        tracing::warn!("io_uring is not used: {denied}; recvmmsg and sendmmsg serve instead");
    }
    let first_start = !FjallStore::exists(&state_dir);
    if first_start && !options.dry_run {
        manager.status("looking for other DHCP servers");
        neighbours::first_start(&config, &interfaces)?;
    }
    for (capability, purpose) in privileges::missing() {
        tracing::warn!("{capability} is missing, it is for {purpose}");
    }
    let sockets = sockets::open(&config, &interfaces, shards)?;
    if let Some(account) = &account {
        privileges::drop_to(account)?;
    }
    // As the user that the server is now: its group may use the control socket.
    let listeners = Listeners::open(&state_dir, config.control.metrics)?;
    // Threads from here on: each begins with the privileges that are left.
    if !first_start && !options.dry_run {
        neighbours::later_start(&config, &interfaces)?;
    }
    Server::start(config, options, interfaces, kind, sockets, listeners, manager)?.run(signals)
}

/// Logs what looks wrong in the configuration, a line each.
fn log_warnings(config: &Config) {
    for warning in config.warnings.iter().take(WARNINGS) {
        tracing::warn!("{}", warning.one_line());
    }
    if let Some(more) = config.warnings.len().checked_sub(WARNINGS).filter(|more| *more > 0) {
        tracing::warn!("and {more} more warnings: `bootstorm check` shows them");
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn engine_name(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::Uring => "uring",
        EngineKind::Mmsg => "mmsg",
    }
}

fn check_interfaces(config: &Config, interfaces: &Interfaces) -> Result<(), ServeError> {
    let missing = config.server.interfaces.iter().flatten().find(|name| !interfaces.has(name));
    match missing {
        None => Ok(()),
        Some(name) => {
            let present = interfaces.names().join(", ");
            Err(ServeError::NoInterface { name: name.clone(), present })
        }
    }
}

struct Server {
    manager: Arc<ServiceManager>,
    heartbeat: Heartbeat,
    options: Options,
    snapshot: SharedSnapshot,
    config: Arc<ArcSwap<Config>>,
    leases: Arc<Leases>,
    tftp: Option<Arc<TftpServer>>,
    committer: CommitterThread,
    shards: Vec<Worker>,
    draining: Arc<AtomicBool>,
    control: Control,
    facts: Arc<ArcSwap<control::status::Facts>>,
    log: EventLog,
    sender: Sender<Command>,
    commands: Receiver<Command>,
}

impl Server {
    fn start(
        config: Config,
        options: Options,
        interfaces: Interfaces,
        kind: EngineKind,
        sockets: Vec<Vec<Opened>>,
        listeners: Listeners,
        manager: Arc<ServiceManager>,
    ) -> Result<Self, ServeError> {
        let shards = sockets.len();
        let mut liveness = watchdog::liveness(&manager);
        let config = Arc::new(config);
        let bus = EventBus::default();
        let (log, sinks) =
            EventLog::start(shards, bus.clone()).map_err(system("start the log thread"))?;
        let all_metrics = Arc::new(Metrics::new(shards));
        let leases = open_leases(&config, &options, shards)?;
        let served = interfaces.served().iter().map(|each| each.name.clone()).collect();
        let draining = Arc::new(AtomicBool::new(false));
        let (sender, commands) = unbounded();

        let committer = leases
            .committer()
            .with_metrics(all_metrics.clone())
            .with_heartbeat(liveness.watch("the committer"))
            .spawn(now)
            .map_err(system("start the committer"))?;
        let tftp = config.tftp.as_ref().map(TftpServer::new).transpose()?;
        tell_tftp(tftp.as_deref(), &config, &interfaces);
        let snapshot = SharedSnapshot::new(Snapshot { config: config.clone(), interfaces });
        let mut running = Vec::new();
        for (index, (sockets, events)) in sockets.into_iter().zip(sinks).enumerate() {
            // There is a block for each shard.
            let Some(metrics) = all_metrics.own(index) else { break };
            let seed = Seed {
                index,
                kind,
                busy_poll: config.server.busy_poll,
                sockets,
                snapshot: snapshot.clone(),
                leases: leases.clone(),
                // A dry run sends nothing, and a transfer is nothing but sending.
                tftp: tftp.clone().filter(|_| !options.dry_run),
                all_metrics: all_metrics.clone(),
                metrics,
                events,
                dry_run: options.dry_run,
                draining: draining.clone(),
                heartbeat: liveness.watch(format!("shard {index}")),
            };
            running.push(seed.start(sender.clone())?);
        }
        let facts = Arc::new(ArcSwap::from_pointee(control::status::Facts {
            started: jiff::Timestamp::now(),
            engine: engine_name(kind),
            interfaces: served,
            metrics: listeners.metrics_address(),
            dry_run: options.dry_run,
            last_reload: None,
        }));
        let config = Arc::new(ArcSwap::new(config));
        let desk = control::Running {
            config_path: options.config_path.clone(),
            config: config.clone(),
            leases: Arc::new(Desk { leases: leases.clone(), config: config.clone() }),
            metrics: all_metrics,
            events: bus,
            log: log.counts(),
            commands: sender.clone(),
            facts: facts.clone(),
            kernel_loss: KernelLoss::new().ok(),
        };
        let control =
            Control::start(listeners, desk).map_err(system("start the control thread"))?;
        let heartbeat = liveness.watch("the main thread");
        watchdog::start(liveness, manager.clone()).map_err(system("start the watchdog"))?;
        Ok(Self {
            manager,
            heartbeat,
            options,
            snapshot,
            config,
            leases,
            tftp,
            committer,
            shards: running,
            draining,
            control,
            facts,
            log,
            sender,
            commands,
        })
    }

    fn run(mut self, signals: Signals) -> Result<(), ServeError> {
        signals.forward(self.sender.clone()).map_err(system("start the signal thread"))?;
        let serving = self.serving();
        tracing::info!("{serving}");
        self.manager.ready(&serving);
        loop {
            self.heartbeat.beat();
            match self.commands.recv_timeout(HOUSEKEEPING) {
                Ok(Command::Reload { reply }) => {
                    self.manager.reloading();
                    let outcome = self.reload();
                    self.note_reload(outcome.clone());
                    self.manager.ready(&match &outcome {
                        Ok(_) => self.serving(),
                        Err(_) => format!("{}; the last reload failed", self.serving()),
                    });
                    if let Some(reply) = reply {
                        // Whoever asked may be gone.
                        let _gone = reply.send(outcome);
                    }
                }
                Ok(Command::Stop) => return self.stop(),
                Err(RecvTimeoutError::Timeout) => self.keep_house(),
                Err(RecvTimeoutError::Disconnected) => return self.stop(),
            }
        }
    }

    /// What the server does, in one line.
    fn serving(&self) -> String {
        let shards = self.shards.len();
        let plural = if shards == 1 { "" } else { "s" };
        let interfaces = self.facts.load().interfaces.join(", ");
        format!("serving with {shards} shard{plural} on {interfaces}")
    }

    /// Takes over the file as it is now, or says why it cannot.
    fn reload(&mut self) -> Result<String, String> {
        let path = &self.options.config_path;
        let loaded = self.heartbeat.while_waiting(|| config::load_on_host(path));
        let new = Arc::new(loaded.map_err(|error| error.render(false))?);
        let interfaces = Interfaces::read(new.server.interfaces.as_deref())
            .map_err(|error| format!("list interfaces: {error}"))?;
        if let (Some(server), Some(tftp)) = (&self.tftp, &new.tftp) {
            let open = || server.reconfigure(tftp);
            self.heartbeat.while_waiting(open).map_err(|error| error.to_string())?;
        }
        let old = self.config.load_full();
        self.change_devices(&old, &new, &interfaces)?;
        tell_tftp(self.tftp.as_deref(), &new, &interfaces);
        self.snapshot.change(|snapshot| {
            self.leases.reconfigure(&new.dhcp);
            snapshot.config = new.clone();
            snapshot.interfaces = interfaces;
        });
        self.config.store(new.clone());
        log_warnings(&new);
        let later = needs_restart(&old, &new);
        Ok(match later.as_slice() {
            [] => format!("{} is in force", path.display()),
            keys => format!(
                "{} is in force, but for {}: restart for that",
                path.display(),
                keys.join(", ")
            ),
        })
    }

    /// Opens the sockets of interfaces that are new in the configuration, and closes those of
    /// interfaces that left it.
    fn change_devices(
        &self,
        old: &Config,
        new: &Config,
        interfaces: &Interfaces,
    ) -> Result<(), String> {
        // From one socket for all interfaces to one for each, or back, there is no way without a
        // gap.
        let (Some(was), Some(is)) = (&old.server.interfaces, &new.server.interfaces) else {
            return Ok(());
        };
        check_interfaces(new, interfaces).map_err(|error| error.to_string())?;
        let mut opened: Vec<Vec<Opened>> = self.shards.iter().map(|_| Vec::new()).collect();
        for name in is.iter().filter(|name| !was.contains(name)) {
            // What the running sockets serve: TFTP begins and ends with a restart.
            sockets::open_device(Some(name), self.tftp.is_some(), &mut opened)
                .map_err(|error| error.to_string())?;
        }
        let closed: Vec<String> = was.iter().filter(|name| !is.contains(name)).cloned().collect();
        for (shard, open) in self.shards.iter().zip(opened) {
            shard.change(SocketChange { open, close: closed.clone() });
        }
        Ok(())
    }

    fn note_reload(&self, outcome: Result<String, String>) {
        match &outcome {
            Ok(line) => tracing::info!("reload: {line}"),
            Err(error) => tracing::error!("reload: the old configuration stays: {error}"),
        }
        let facts = control::status::Facts {
            last_reload: Some((jiff::Timestamp::now(), outcome)),
            ..self.facts.load().as_ref().clone()
        };
        self.facts.store(Arc::new(facts));
    }

    fn keep_house(&mut self) {
        match clock::read() {
            Ok(clock) => {
                self.leases.sweep(&clock, SWEEP);
            }
            Err(error) => tracing::warn!("the clocks cannot be read: {error}"),
        }
        let wanted = self.config.load();
        match Interfaces::read(wanted.server.interfaces.as_deref()) {
            Ok(interfaces) if interfaces != self.snapshot.read().interfaces => {
                tracing::info!("the interfaces of this host have changed");
                tell_tftp(self.tftp.as_deref(), &self.config.load(), &interfaces);
                self.snapshot.change(|snapshot| snapshot.interfaces = interfaces);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("interfaces cannot be listed: {error}"),
        }
    }

    /// Lets what was begun end, and ends.
    fn stop(self) -> Result<(), ServeError> {
        tracing::info!("stopping: ACKs and transfers under way are finished first");
        self.manager.stopping("finishing ACKs and transfers");
        // Whoever is joined below is watched, and this thread waits for them.
        drop(self.heartbeat);
        self.draining.store(true, Ordering::SeqCst);
        self.shards.iter().for_each(Worker::wake);
        let mut outcome = Ok(());
        for shard in self.shards {
            if let Err(error) = shard.join() {
                outcome = Err(error);
            }
        }
        self.control.stop();
        self.committer.stop();
        self.log.stop();
        outcome
    }
}

fn open_leases(
    config: &Config,
    options: &Options,
    shards: usize,
) -> Result<Arc<Leases>, ServeError> {
    let path = FjallStore::directory(&config.server.state_dir);
    let clock = clock::read().map_err(system("read the clocks"))?;
    let failed = |cause| ServeError::Leases { path: path.clone(), cause };
    let store: Arc<dyn LeaseStore> = match options.dry_run {
        true => Arc::new(MemoryStore::default()),
        false => Arc::new(FjallStore::open(&config.server.state_dir).map_err(failed)?),
    };
    Leases::open(store, &config.dhcp, shards, clock).map_err(failed)
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
    differ("[dhcp] ping-check", old.dhcp.ping_check.is_some() != new.dhcp.ping_check.is_some());
    differ("[tftp]", old.tftp.is_some() != new.tftp.is_some());
    let ttl = |config: &Config| {
        let multicast = config.tftp.as_ref().and_then(|tftp| tftp.multicast);
        multicast.map(|multicast| multicast.ttl)
    };
    differ("[tftp] multicast-ttl", ttl(old).unwrap_or(1) != ttl(new).unwrap_or(1));
    differ("[control] metrics", old.control != new.control);
    differ("[log]", old.log != new.log);
    keys
}

/// What TFTP must know of interfaces: what they carry, and what they may.
fn tell_tftp(tftp: Option<&TftpServer>, config: &Config, interfaces: &Interfaces) {
    if let Some(tftp) = tftp {
        tftp.set_mtus(interfaces.mtus());
        let rates = interfaces.all().filter_map(|interface| {
            let rate = config.tftp.as_ref()?.rate_of(&interface.name)?;
            Some((interface.index, rate))
        });
        tftp.set_rates(rates);
    }
}
