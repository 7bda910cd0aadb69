//! What the server tells the service manager: systemd, or whatever speaks its protocol
//! (sd_notify(3)). A few datagrams on a Unix socket: too little for a library. Without a service
//! manager all of it does nothing.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The manager's queue is short. When it is full, a message waits this long and is then left out.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// The last message found no room for [`SEND_TIMEOUT`]: the next do not wait at all, until one
    /// finds room, or a few dozen of them would hold up what they tell of.
    stalled: AtomicBool,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// What the environment says: NOTIFY_SOCKET, and WATCHDOG_USEC where it is meant for this
    /// process. A manager that cannot be reached is a warning.
    #[must_use]
    pub fn from_environment() -> Self {
        let text = |name| std::env::var(name).ok();
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("NOTIFY_SOCKET {}: {error}", name.display());
                None
            }
        });
        let pid = text("WATCHDOG_PID");
        let watchdog = watchdog(text("WATCHDOG_USEC"), pid, std::process::id());
        Self { socket, watchdog, ..Self::default() }
    }

    /// The manager ends this process when it hears nothing of its watchdog for so long.
    #[must_use]
    pub fn watchdog_timeout(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The server has started, or has finished a reload; `status` is a line for people.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\n{}", status_line(status)));
    }

    /// A reload begins; [`ServiceManager::ready`] ends it.
    pub fn reloading(&self) {
        // Without it systemd takes the message for one of an earlier reload (sd_notify(3)).
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        let status = status_line("reading the configuration");
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n{status}"));
    }

    /// The server ends.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\n{}", status_line(status)));
    }

    /// What the server does now, for people.
    pub fn status(&self, status: &str) {
        self.send(&status_line(status));
    }

    /// Keeps a socket open while this process is started again, and passes it back then under its
    /// name.
    pub fn keep(&self, name: &str, socket: BorrowedFd<'_>) {
        // Without FDPOLL it would be thrown away when some client's ICMP error comes.
        self.send_with(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), Some(socket));
    }

    /// Keeps no socket of this name any more.
    pub fn forget(&self, name: &str) {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }

    /// Waits until the manager has acted on everything that it was told, but not for long.
    pub fn wait_until_heard(&self) {
        if self.socket.is_none() {
            return;
        }
        let Ok((ours, theirs)) = pipe_with(PipeFlags::CLOEXEC) else { return };
        self.send_with("BARRIER=1", Some(theirs.as_fd()));
        drop(theirs);
        // The manager closes its copy then, and nobody else has one.
        let limit = Timespec { tv_sec: SEND_TIMEOUT.as_secs() as i64, tv_nsec: 0 };
        let _late = poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&limit));
    }

    /// Every watched thread makes progress.
    pub fn feed_watchdog(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, message: &str) {
        self.send_with(message, None);
    }

    fn send_with(&self, message: &str, descriptor: Option<BorrowedFd<'_>>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() {
            // There is room for one.
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let text = [io::IoSlice::new(message.as_bytes())];
        let Some(socket) = &self.socket else { return };
        let flags = match self.stalled.load(Relaxed) {
            true => SendFlags::DONTWAIT,
            false => SendFlags::empty(),
        };
        let outcome = sendmsg(socket, &text, &mut control, flags);
        self.stalled.store(matches!(outcome, Err(Errno::AGAIN)), Relaxed);
        if let Err(error) = outcome {
            tracing::debug!("the service manager was not told {message:?}: {error}");
        }
    }
}

/// A path, or behind an `@` an abstract name (unix(7)).
fn connect(name: &OsString) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::other("neither a path nor an abstract socket")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok(socket)
}

/// sd_watchdog_enabled(3). Without WATCHDOG_PID it is for every process.
fn watchdog(micros: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    let micros = micros?.parse().ok().filter(|micros| *micros > 0)?;
    let meant = pid.is_none_or(|pid| pid.parse() == Ok(own));
    meant.then_some(Duration::from_micros(micros))
}

/// A line break would begin another message.
fn status_line(status: &str) -> String {
    format!("STATUS={}", status.trim().replace(['\n', '\r'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let len = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    fn through(name: OsString, listener: UnixDatagram) {
        let socket = connect(&name).unwrap();
        let watchdog = Some(Duration::from_secs(30));
        let server = ServiceManager { socket: Some(socket), watchdog, ..ServiceManager::default() };
        server.ready("serving\non eth1");
        assert_eq!(received(&listener), "READY=1\nSTATUS=serving on eth1");
        server.reloading();
        let reload = received(&listener);
        let (first, rest) = reload.split_once("\nMONOTONIC_USEC=").unwrap();
        let micros: u64 = rest.split_once("\nSTATUS=").unwrap().0.parse().unwrap();
        assert!(first == "RELOADING=1" && micros > 0, "{reload}");
        server.feed_watchdog();
        assert_eq!(received(&listener), "WATCHDOG=1");
    }

    #[test]
    fn messages_go_to_a_path_and_to_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        through(path.clone().into(), UnixDatagram::bind(&path).unwrap());
        let name = format!("bootstorm-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        through(format!("@{name}").into(), UnixDatagram::bind_addr(&address).unwrap());
        assert!(connect(&"vsock:2:1234".into()).is_err());
        // Nobody listens there: the server runs without.
        ServiceManager::default().ready("serving");
    }

    #[test]
    fn a_manager_that_does_not_read_holds_one_message_up_and_not_each() {
        let name = format!("bootstorm-test-stalled-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let socket = connect(&format!("@{name}").into()).unwrap();
        let server = ServiceManager { socket: Some(socket), ..ServiceManager::default() };
        // As many as fit, and one that waits in vain.
        let mut sent = 0;
        while !server.stalled.load(Relaxed) {
            server.status(&sent.to_string());
            sent += 1;
        }
        server.status("left out");
        assert!(server.stalled.load(Relaxed));
        for number in 0..sent - 1 {
            assert_eq!(received(&listener), format!("STATUS={number}"));
        }
        server.status("next");
        assert_eq!(received(&listener), "STATUS=next");
        assert!(!server.stalled.load(Relaxed));
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_is_named() {
        let of = |micros: &str, pid: Option<&str>| {
            watchdog(Some(micros.to_owned()), pid.map(str::to_owned), 77)
        };
        assert_eq!(of("30000000", Some("77")), Some(Duration::from_secs(30)));
        assert_eq!(of("30000000", None), Some(Duration::from_secs(30)));
        assert_eq!(
            (of("30000000", Some("78")), of("0", None), of("soon", None)),
            (None, None, None)
        );
    }
}
