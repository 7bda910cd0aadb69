//! The running server: opens what it needs, gives up privileges, starts the shards, and owns them
//! until the end.

mod bindings;
mod describe;
mod ended;
mod follow;
mod hooks;
mod hosts;
mod imported;
mod kept;
mod lease_access;
mod names;
mod neighbours;
mod omapi;
mod reload;
mod shards;
mod sockets;
mod watchdog;
mod worker;

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bootstorm_net::{EngineKind, KernelLoss, now};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use jiff::Timestamp;

use crate::clock;
use crate::config::{CommandLine, Config, LIVE_HOSTS, Omapi, OmapiKey};
use crate::control::{self, Command, Control, Listeners};
use crate::event::bus::EventBus;
use crate::hooks::{Hooks, Job};
use crate::interfaces::Interfaces;
use crate::leases::{
    self, CommitterThread, LeaseStore, Leases, Maintenance, MemoryStore, StatePlace, StoreError,
};
use crate::live_hosts::{self, Origin};
use crate::liveness::Heartbeat;
use crate::log::EventLog;
use crate::metrics::Metrics;
use crate::privileges::{self, Account, PrivilegeError};
use crate::probe::NotAlone;
use crate::recent::Recent;
use crate::service_manager::ServiceManager;
use crate::signals::Signals;
use crate::snapshot::{SharedSnapshot, Snapshot, tell_tftp};
use crate::tftp::{TftpError, TftpServer};
use bindings::{Bindings, Scope};
use ended::Done;
use hooks::{HookThread, Missed};
use hosts::{SharedLiveHosts, Sources};
pub use imported::NotImported;
use kept::KeptSockets;
use lease_access::LeasesAndPools;
use names::Names;
use omapi::OmapiBackend;
use shards::Shards;
pub use sockets::SocketError;
use sockets::{PerShard, TftpRequests};
use worker::ShardStart;

/// How long a server that is told to stop waits for ACKs under way and transfers.
const DRAIN: Duration = Duration::from_secs(5);
/// Interval of what is looked at regularly: leases that ended, the kernel's counters.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Leases that end in one sweep, at most: some 20 ms of this thread.
const SWEEP: usize = 65_536;

/// Warnings of the configuration that are logged, at most.
const WARNINGS: usize = 20;

/// How `serve` was called.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file, for reloads.
    pub config_path: PathBuf,
    /// What the command line says beside it.
    pub command_line: CommandLine,
    /// Receive, decide and log, but send and store nothing.
    pub dry_run: bool,
    /// Start without leases, though dhcpd has left some.
    pub no_import: bool,
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
    /// There are leases that were not imported.
    #[error(transparent)]
    NotImported(#[from] NotImported),
    /// The lease store.
    #[error("{cause}{}", way_out(.cause))]
    Leases {
        /// Which, and why.
        cause: StoreError,
    },
    /// `engine = "uring"` on a host that denies it.
    #[error("[server] engine = \"uring\": {0}; write engine = \"auto\" to go on without io_uring")]
    Denied(#[from] bootstorm_net::Denied),
    /// The thread that writes leases failed.
    #[error("the thread that writes leases has failed: no client could get an ACK any more")]
    Committer,
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

/// What helps when the lease store cannot be opened.
fn way_out(error: &StoreError) -> &'static str {
    match error {
        StoreError::InUse(_) => "; a state-dir belongs to one server",
        StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            "; a new store needs 50 MiB, see to free space"
        }
        _ => "",
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
    let hosts = [LIVE_HOSTS, live_hosts::JOURNAL];
    let entries: Vec<&str> =
        leases::ENTRIES.into_iter().chain(hosts).chain(ended::ENTRIES).collect();
    privileges::prepare_state_dir(&state_dir, &entries, account.as_ref())?;
    let watch = follow::watch();
    let interfaces =
        Interfaces::read(config.server.interfaces.as_deref()).map_err(system("list interfaces"))?;
    let shards = config.server.shards.unwrap_or_else(cores);
    let (kind, denied) = config.server.engine.resolve()?;
    if let Some(denied) = denied {
        tracing::warn!("io_uring is not used: {denied}; recvmmsg and sendmmsg serve instead");
    }
    let first_start = StatePlace::new(&state_dir).present().is_none();
    if !options.dry_run {
        imported::check(&config.server, first_start, &options)?;
    }
    if first_start && !options.dry_run {
        manager.status("looking for other DHCP servers");
        neighbours::first_start(&config, &interfaces)?;
    }
    for (capability, purpose) in privileges::missing(sockets::REQUEST_BUFFER) {
        tracing::warn!("{capability} is missing, it is for {purpose}");
    }
    let kept = KeptSockets::from_environment(manager.clone());
    let (sockets, bindings) = follow::open_at_start(&config, &interfaces, shards, &kept)?;
    if let Some(account) = &account {
        privileges::drop_to(account)?;
    }
    // As the user that the server is now: its group may use the control socket.
    let listeners = Listeners::open(&state_dir, config.control.metrics)?;
    let omapi = listen_for_omapi(&config)?;
    // Threads from here on: each begins with the privileges that are left.
    if !first_start && !options.dry_run {
        let names: Vec<String> = interfaces.served().iter().map(|each| each.name.clone()).collect();
        neighbours::ask_later(&config, &interfaces, &names)?;
    }
    let network = Network { interfaces, sockets, bindings, kept };
    let server = Server::start(config, options, network, kind, listeners, manager)?;
    if let Some((listener, key)) = omapi {
        let (config, leases) = (server.config.clone(), server.leases.clone());
        let (commands, live_hosts) = (server.sender.clone(), server.live_hosts.clone());
        let backend = OmapiBackend { config, leases, commands, live_hosts };
        crate::omapi::serve(listener, key, Arc::new(backend))
            .map_err(system("start the OMAPI thread"))?;
    }
    follow::start(watch, server.sender.clone())?;
    server.run(signals)
}

/// Puts the journal of the live hosts into their file. It is read as it is if that cannot be done.
fn fold_live_hosts(path: &Path) {
    match live_hosts::fold(path) {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            "{}: the last change of live hosts was broken off before it was answered, and is left \
             out",
            path.display()
        ),
        Err(error) => tracing::warn!("the journal of live hosts stays: {error}"),
    }
}

/// The port of OMAPI, if it is spoken, and its key.
fn listen_for_omapi(
    config: &Config,
) -> Result<Option<(TcpListener, Option<OmapiKey>)>, control::OpenError> {
    let Some(Omapi { address, key }) = config.control.omapi.clone() else { return Ok(None) };
    let listener =
        TcpListener::bind(address).map_err(|cause| control::OpenError::Omapi { address, cause })?;
    Ok(Some((listener, key)))
}

/// What a server starts with: the interfaces of this host, and sockets that are bound to them.
struct Network {
    interfaces: Interfaces,
    sockets: PerShard,
    bindings: Bindings,
    kept: KeptSockets,
}

/// Logs what looks wrong in the configuration, a line each.
fn log_warnings(config: &Config) {
    for warning in config.warnings.iter().take(WARNINGS) {
        tracing::warn!("{}", warning.one_line());
    }
    let more = config.warnings.len().saturating_sub(WARNINGS) + config.more_warnings;
    if more > 0 {
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

struct Server {
    manager: Arc<ServiceManager>,
    heartbeat: Heartbeat,
    options: Options,
    snapshot: SharedSnapshot,
    config: Arc<ArcSwap<Config>>,
    leases: Arc<Leases>,
    tftp: Option<Arc<TftpServer>>,
    committer: CommitterThread,
    /// Of the store; ends after the committer. A dry run has none.
    maintenance: Option<Maintenance>,
    shards: Shards,
    /// Names of the interfaces to serve; `None` is every one with an IPv4 address.
    served: Option<Vec<String>>,
    scope: Scope,
    tftp_requests: Option<TftpRequests>,
    bindings: Bindings,
    kept: KeptSockets,
    /// The interfaces have changed and could not be read.
    unread: bool,
    draining: Arc<AtomicBool>,
    control: Control,
    facts: Arc<ArcSwap<control::status::Facts>>,
    /// The files of the configuration in force, as they were when it was read.
    sources: Sources,
    live_hosts: SharedLiveHosts,
    /// Their files may have others than those in force.
    hosts_in_doubt: bool,
    log: EventLog,
    sender: Sender<Command>,
    commands: Receiver<Command>,
    names: Names,
}

impl Server {
    fn start(
        config: Config,
        options: Options,
        network: Network,
        kind: EngineKind,
        listeners: Listeners,
        manager: Arc<ServiceManager>,
    ) -> Result<Self, ServeError> {
        let Network { interfaces, sockets, bindings, kept } = network;
        let shards = sockets.len();
        let mut liveness = watchdog::liveness(&manager);
        let config = Arc::new(config);
        let bus = EventBus::default();
        // One for each shard, and one for the thread of hooks.
        let (log, mut sinks) =
            EventLog::start(shards + 1, bus.clone()).map_err(system("start the log thread"))?;
        let all_metrics = Arc::new(Metrics::new(shards));
        let (leases, maintenance) = open_leases(&config, &options, shards)?;
        // Behind the lock of the store: until then they may be those of a server that runs.
        if !options.dry_run {
            fold_live_hosts(&config.server.state_dir.join(LIVE_HOSTS));
        }
        let mut missed = leases.expired(now());
        let done = (!options.dry_run).then(|| {
            let (directory, is_used) = (&config.server.state_dir, config.dhcp.has_ends());
            Done::open(directory, is_used, &mut missed, |ip| leases.version(ip))
        });
        leases.reconfigure(interfaces.addresses(), &config.dhcp);
        let served = config.server.interfaces.clone();
        let states = describe::states(served.as_deref(), &interfaces, &bindings, &config.dhcp);
        let draining = Arc::new(AtomicBool::new(false));
        let (sender, commands) = unbounded();

        let committer = leases
            .committer()
            .with_metrics(all_metrics.clone())
            .with_heartbeat(liveness.watch("the committer"))
            .on_failure({
                let sender = sender.clone();
                // The main thread is there, or is ending anyway.
                move || _ = sender.send(Command::Stop)
            })
            .spawn(now)
            .map_err(system("start the committer"))?;
        let tftp = config.tftp.as_ref().map(TftpServer::new).transpose()?;
        if let Some(tftp) = &tftp {
            tell_tftp(tftp, &config, &interfaces);
        }
        let snapshot = SharedSnapshot::new(Snapshot { config: config.clone(), interfaces });
        let mut running = Vec::new();
        let recent: Arc<[Arc<Recent>]> =
            (0..shards).map(|_| Arc::new(Recent::of(shards))).collect();
        let (hooks, jobs) = match options.dry_run {
            true => (Hooks::unheard(), None),
            false => {
                let (hooks, jobs) = Hooks::new();
                let own = hooks.clone();
                leases.on_end(move |ended| _ = own.ask(Job::End(Box::new(ended))));
                (hooks, Some(jobs).zip(sinks.pop()))
            }
        };
        let each = sockets.into_iter().zip(sinks).zip(recent.iter().cloned());
        for (index, ((sockets, events), recent)) in each.enumerate() {
            // There is a block for each shard.
            let Some(metrics) = all_metrics.own(index) else { break };
            let shard = ShardStart {
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
                hooks: hooks.clone(),
                recent,
                dry_run: options.dry_run,
                draining: draining.clone(),
                heartbeat: liveness.watch(format!("shard {index}")),
            };
            running.push(shard.start(sender.clone())?);
        }
        let facts = Arc::new(ArcSwap::from_pointee(control::status::Facts {
            started: Timestamp::now(),
            engine: engine_name(kind),
            interfaces: states,
            metrics: listeners.metrics_address(),
            dry_run: options.dry_run,
            last_reload: None,
        }));
        let sources = Sources::of(&config);
        let scope = Scope::of(&config);
        let tftp_requests = TftpRequests::of(&config);
        let config = Arc::new(ArcSwap::new(config));
        if let Some((jobs, events)) = jobs {
            let (config, metrics) = (config.clone(), all_metrics.clone());
            let missed = Missed::new(missed);
            hooks::start(HookThread { hooks, jobs, config, metrics, events, done, missed })
                .map_err(system("start the thread of hooks"))?;
        }
        let parts = control::Running {
            config_path: options.config_path.clone(),
            config: config.clone(),
            leases: Arc::new(LeasesAndPools {
                leases: leases.clone(),
                config: config.clone(),
                config_path: options.config_path.clone(),
                snapshot: snapshot.clone(),
                recent,
            }),
            metrics: all_metrics,
            events: bus,
            log: log.counts(),
            commands: sender.clone(),
            facts: facts.clone(),
            kernel_loss: KernelLoss::new().ok(),
        };
        let control =
            Control::start(listeners, parts).map_err(system("start the control thread"))?;
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
            maintenance,
            shards: Shards::new(running),
            served,
            scope,
            tftp_requests,
            bindings,
            kept,
            unread: false,
            draining,
            control,
            facts,
            sources,
            live_hosts: SharedLiveHosts::default(),
            hosts_in_doubt: false,
            log,
            sender,
            commands,
            names: Names::new(Instant::now()),
        })
    }

    fn run(mut self, signals: Signals) -> Result<(), ServeError> {
        signals.forward(self.sender.clone()).map_err(system("start the signal thread"))?;
        let serving = self.serving();
        tracing::info!("{serving}");
        for state in self.facts.load().interfaces.iter().filter(|state| !state.served) {
            tracing::warn!("{}", describe::not_served(state));
        }
        self.manager.ready(&serving);
        let mut next = Instant::now() + HOUSEKEEPING;
        loop {
            self.heartbeat.beat();
            match self.commands.recv_deadline(next) {
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
                Ok(Command::ChangeHosts { change, hosts, by, reply }) => {
                    let origin = Origin::new(Timestamp::now(), by);
                    let outcome = self.change_hosts(change, hosts, origin);
                    // Whoever asked may be gone.
                    let _gone = reply.send(outcome);
                }
                Ok(Command::FollowInterfaces) => self.follow_interfaces(),
                Ok(Command::Stop) => return self.stop(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.stop(),
            }
            // Due as well while commands come all the time.
            if Instant::now() >= next {
                next = Instant::now() + HOUSEKEEPING;
                self.housekeeping();
            }
        }
    }

    /// What the server does, in one line.
    fn serving(&self) -> String {
        let shards = self.shards.count();
        let plural = if shards == 1 { "" } else { "s" };
        let interfaces = match self.facts.load().served() {
            none if none.is_empty() => "no interface yet".to_owned(),
            some => some.join(", "),
        };
        format!("serving with {shards} shard{plural} on {interfaces}")
    }

    fn housekeeping(&mut self) {
        match clock::read() {
            Ok(clock) => {
                self.leases.sweep(&clock, SWEEP);
            }
            Err(error) => tracing::warn!("the clocks cannot be read: {error}"),
        }
        if self.unread || self.bindings.is_unsettled() {
            self.follow_interfaces();
        }
        if self.names.have_changed(&self.config.load().host_names, Instant::now()) {
            tracing::info!("a name in the configuration has other addresses now: reloading");
            // Nobody waits for this one, and the queue ends with this thread.
            let _queued = self.sender.send(Command::Reload { reply: None });
        }
    }

    /// Lets what was begun end, and ends.
    fn stop(self) -> Result<(), ServeError> {
        tracing::info!("stopping: ACKs and transfers under way are finished first");
        self.manager.stopping("finishing ACKs and transfers");
        // Whoever is joined below is watched, and this thread waits for them.
        drop(self.heartbeat);
        self.draining.store(true, Ordering::SeqCst);
        self.shards.wake();
        let outcome = self.shards.join();
        self.control.stop();
        let committed = self.committer.stop();
        drop(self.maintenance);
        self.log.stop();
        outcome?;
        if committed { Ok(()) } else { Err(ServeError::Committer) }
    }
}

fn open_leases(
    config: &Config,
    options: &Options,
    shards: usize,
) -> Result<(Arc<Leases>, Option<Maintenance>), ServeError> {
    let place = StatePlace::new(&config.server.state_dir);
    let clock = clock::read().map_err(system("read the clocks"))?;
    let failed = |cause| ServeError::Leases { cause };
    let mut maintenance = None;
    let store: Arc<dyn LeaseStore> = if options.dry_run {
        Arc::new(MemoryStore::default())
    } else {
        let log = Arc::new(place.open(&clock).map_err(failed)?);
        let thread = log.spawn_maintenance().map_err(system("start the checkpoint thread"))?;
        maintenance = Some(thread);
        log
    };
    let leases = Leases::open(store, &config.dhcp, shards, clock).map_err(failed)?;
    Ok((leases, maintenance))
}
