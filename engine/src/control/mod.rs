//! How people and programs observe and control the running server: metrics over HTTP, and the
//! control socket.
//!
//! Both run on one thread with a tokio-uring runtime. It holds no capability and owns no state: it
//! reads counters and the lease index, and sends [`Command`]s to the thread that owns the server.

pub mod client;
pub mod exposition;
mod http;
pub mod lease_row;
pub mod protocol;
mod socket;
pub mod status;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

pub use self::status::Running;
use crate::live_hosts::{By, Change, HostObject};

/// The control socket's name in the state directory.
pub const SOCKET_NAME: &str = "control.sock";

/// What the thread that owns the server is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Read the configuration again and take it over, or keep the old one.
    Reload {
        /// Who wants to know how it went; `None` for SIGHUP, where the log says it.
        reply: Option<ReloadReply>,
    },
    /// Change the hosts that are no part of the configuration's files.
    ChangeHosts {
        /// How.
        change: Change,
        /// Which.
        hosts: Vec<HostObject>,
        /// Through whom.
        by: By,
        /// Who wants to know how it went.
        reply: ReloadReply,
    },
    /// Follow the interfaces of this host: something about them has changed.
    FollowInterfaces,
    /// Drain and end.
    Stop,
}

/// Takes the outcome of a reload: a line that says what changed, or the error as it is shown to
/// people.
pub type ReloadReply = oneshot::Sender<Result<String, String>>;

/// Why the control socket or the metrics page cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address of the metrics page.
    #[error("control.metrics {address}: {cause}; choose another port, or write metrics = \"off\"")]
    Metrics {
        /// As configured.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The port of OMAPI.
    #[error("control.omapi {address}: {cause}; is dhcpd still running?")]
    Omapi {
        /// As configured.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// Another server answers on the socket.
    #[error(
        "{path}: another bootstorm is running on this state-dir; stop it first",
        path = path.display()
    )]
    Running {
        /// Its control socket.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("{path}: cannot listen: {cause}", path = path.display())]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// The control socket and the metrics port, listening.
#[derive(Debug)]
pub struct Listeners {
    metrics: Option<TcpListener>,
    control: UnixListener,
    path: PathBuf,
}

impl Listeners {
    /// Opens the control socket in `state_dir`, for its owner and group only, and the metrics port.
    /// A socket that a dead server left behind is replaced.
    pub fn open(state_dir: &Path, metrics: Option<SocketAddr>) -> Result<Self, OpenError> {
        let metrics = match metrics {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address)
                    .map_err(|cause| OpenError::Metrics { address, cause })?;
                Some(listener)
            }
        };
        let path = state_dir.join(SOCKET_NAME);
        if UnixStream::connect(&path).is_ok() {
            return Err(OpenError::Running { path });
        }
        let failed = |cause| OpenError::Socket { path: path.clone(), cause };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let control = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
        Ok(Self { metrics, control, path })
    }

    /// Where the metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }
}

/// The control thread, running.
#[derive(Debug)]
pub struct Control {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    path: PathBuf,
}

impl Control {
    /// Starts its thread.
    pub fn start(listeners: Listeners, running: Running) -> io::Result<Self> {
        let path = listeners.path.clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            crate::privileges::renounce_or_warn();
            if let Err(error) = run(listeners, running, stopped) {
                tracing::error!("no metrics and no control socket: {error}");
            }
        })?;
        Ok(Self { stop, thread, path })
    }

    /// Ends its thread and removes the control socket.
    pub fn stop(self) {
        // Fails only when the thread has ended already.
        let _ended = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the control thread panicked");
        }
        // It may be gone; the next start would replace it anyway.
        let _gone = fs::remove_file(&self.path);
    }
}

/// Serves until it is stopped: on tokio-uring, or where io_uring is denied on plain tokio.
fn run(listeners: Listeners, running: Running, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let running = Rc::new(running);
    let serving = async move {
        listeners.control.set_nonblocking(true)?;
        let control = tokio::net::UnixListener::from_std(listeners.control)?;
        tokio::task::spawn_local(socket::serve(control, running.clone()));
        if let Some(metrics) = listeners.metrics {
            metrics.set_nonblocking(true)?;
            let metrics = tokio::net::TcpListener::from_std(metrics)?;
            tokio::task::spawn_local(http::serve(metrics, running));
        }
        // An error means that the other end is gone, which is a stop, too.
        let _stop = stopped.await;
        Ok(())
    };
    match tokio_uring::Runtime::new(&tokio_uring::builder()) {
        Ok(runtime) => runtime.block_on(serving),
        Err(error) => {
            tracing::debug!("control thread without io_uring: {error}");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio::task::LocalSet::new().block_on(&runtime, serving)
        }
    }
}

/// Waits for the next peer.
async fn accept<S, A, F>(mut next: impl FnMut() -> F) -> S
where
    F: Future<Output = io::Result<(S, A)>>,
{
    loop {
        match next().await {
            Ok((stream, _)) => return stream,
            // Out of descriptors, or the peer gave up in the queue: not worth ending for, nor a
            // busy loop.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
