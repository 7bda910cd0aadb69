//! OMAPI: how programs written for ISC dhcpd (Foreman, MAAS, omshell) add and remove hosts and look
//! leases up.
//!
//! A connection has a thread of its own, away from the shards, and there are few of them. What it
//! changes are live hosts, as `bootstorm host` does.

mod key;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::config::{Config, OmapiKey};
use crate::leases::{Clock, Hardware, Lease};
use crate::live_hosts::{Change, HostObject};
use session::Session;

/// Connections at one time.
const CONNECTIONS: usize = 16;
/// How long a client may be silent: people type into omshell.
const IDLE: Duration = Duration::from_secs(600);
/// How long a client that has shown no key may be silent.
const IDLE_UNKNOWN: Duration = Duration::from_secs(20);
/// How long a client may take to read an answer.
const WRITE: Duration = Duration::from_secs(30);

/// The server, as OMAPI sees it. Calls may wait for the disk.
pub trait Backend: Send + Sync {
    /// The configuration in force.
    fn config(&self) -> Arc<Config>;

    /// A live host.
    fn live_host(&self, name: &str) -> Option<HostObject>;

    /// Changes a live host, durably.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    fn change(&self, change: Change, host: HostObject) -> Result<(), String>;

    /// The lease that is wanted, and the time; of several of a client the one that ends last.
    fn lease(&self, wanted: &Wanted<'_>) -> (Option<Lease>, Clock);

    /// Gives an address back to its pool, durably, whoever holds it. Whether anybody did.
    ///
    /// # Errors
    /// Why it cannot be done, for people.
    fn release(&self, ip: Ipv4Addr) -> Result<bool, String>;
}

/// Which lease.
#[derive(Copy, Clone, Debug)]
pub enum Wanted<'w> {
    /// That of an address.
    Address(Ipv4Addr),
    /// One of a card.
    Hardware(Hardware),
    /// One of a client identifier.
    ClientId(&'w [u8]),
}

/// Answers in threads of its own until the process ends.
///
/// # Errors
/// When no thread can be started.
pub fn serve(
    listener: TcpListener,
    key: Option<OmapiKey>,
    backend: Arc<dyn Backend>,
) -> io::Result<()> {
    let key = key.map(Arc::new);
    let open = Arc::new(AtomicUsize::new(0));
    thread::Builder::new().name("omapi".to_owned()).spawn(move || {
        crate::privileges::renounce_or_warn();
        loop {
            let Ok((stream, peer)) = listener.accept() else {
                // Out of descriptors, or the peer gave up.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                open.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%peer, "OMAPI: too many connections, this one is closed");
                continue;
            }
            let (key, backend, counted) = (key.clone(), backend.clone(), open.clone());
            let started = thread::Builder::new().name("omapi client".to_owned()).spawn(move || {
                if let Err(error) = converse(stream, Session::new(key, &*backend)) {
                    tracing::debug!(%peer, "OMAPI: {error}");
                }
                counted.fetch_sub(1, Ordering::Relaxed);
            });
            if let Err(error) = started {
                open.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%peer, "OMAPI: no thread for a connection: {error}");
            }
        }
    })?;
    Ok(())
}

fn converse(mut stream: TcpStream, mut session: Session<'_>) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE))?;
    stream.set_nodelay(true)?;
    stream.write_all(&wire::STARTUP)?;
    let mut buffer = Vec::new();
    let mut piece = [0; 4096];
    let mut greeted = false;
    loop {
        stream.set_read_timeout(Some(if session.is_known() { IDLE } else { IDLE_UNKNOWN }))?;
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(&piece[..count]);
        if !greeted {
            if buffer.len() < wire::STARTUP.len() {
                continue;
            }
            if buffer[..wire::STARTUP.len()] != wire::STARTUP {
                return Err(io::Error::other("the client speaks another version"));
            }
            buffer.drain(..wire::STARTUP.len());
            greeted = true;
        }
        loop {
            let received = match wire::read(&buffer) {
                Ok(received) => received,
                Err(wire::Unread::More) => break,
                Err(wire::Unread::TooLong) => {
                    return Err(io::Error::other("the message is too long"));
                }
            };
            let length = received.length;
            let answer = session.answer(&received);
            stream.write_all(&answer.bytes)?;
            if answer.last {
                return Ok(());
            }
            buffer.drain(..length);
        }
    }
}
