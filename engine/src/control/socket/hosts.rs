//! Live hosts on the control socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::OwnedReadHalf;

use super::{Command, LINE_LIMIT, Peer, Response, Running, ask, encode};
use crate::config::LIVE_HOSTS;
use crate::live_hosts::{By, Change, HostObject, LiveHosts};

/// Hosts of one change, at most.
const MOST: u32 = 1_000_000;
/// Bytes of one change, at most.
const MOST_BYTES: usize = 256 << 20;
/// How long a client may be silent between two lines.
const IDLE: Duration = Duration::from_secs(60);
/// Bytes that are written to a client at a time.
const PIECE: usize = 64 << 10;

/// Reads the lines of a change. What is wrong with them is for the client.
pub(super) async fn read(
    reader: &mut BufReader<OwnedReadHalf>,
    count: u32,
) -> io::Result<Result<Vec<HostObject>, String>> {
    if count > MOST {
        return Ok(Err(format!("one change has at most {MOST} hosts")));
    }
    let mut hosts = Vec::new();
    let mut total = 0;
    let mut line = Vec::new();
    for number in 1..=count {
        line.clear();
        let mut limited = (&mut *reader).take(LINE_LIMIT as u64);
        let read = tokio::time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await??;
        total += read;
        let wrong = |what: &str| Ok(Err(format!("host {number} of {count}: {what}")));
        match serde_json::from_slice(&line) {
            _ if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if !line.ends_with(b"\n") => {
                return wrong(&format!("a host is a line of at most {LINE_LIMIT} bytes"));
            }
            _ if total > MOST_BYTES => {
                return wrong(&format!("one change has at most {MOST_BYTES} bytes"));
            }
            Ok(host) => hosts.push(host),
            Err(error) => return wrong(&format!("not an object: {error}")),
        }
    }
    Ok(Ok(hosts))
}

pub(super) async fn change(
    peer: &mut Peer,
    running: &Running,
    change: Change,
    hosts: Vec<HostObject>,
) -> io::Result<()> {
    let by = By::Command;
    match ask(running, |reply| Command::ChangeHosts { change, hosts, by, reply }).await {
        Ok(changed) => peer.send(&Response::HostsChanged(changed)).await,
        Err(error) => peer.error(error).await,
    }
}

pub(super) async fn list(peer: &mut Peer, running: &Running) -> io::Result<()> {
    let path = running.config.load().server.state_dir.join(LIVE_HOSTS);
    let read = tokio::task::spawn_blocking(move || LiveHosts::read(&path).map(Arc::new)).await;
    let hosts = match read {
        Ok(Ok(hosts)) => hosts,
        Ok(Err(error)) => return peer.error(error.to_string()).await,
        Err(_) => return peer.error("the hosts cannot be read; see the log".to_owned()).await,
    };
    let mut text = Vec::new();
    for host in hosts.objects() {
        encode(&Response::Host(host), &mut text)?;
        if text.len() > PIECE {
            peer.write(&text).await?;
            text.clear();
        }
    }
    peer.write(&text).await?;
    peer.send(&Response::End(hosts.len() as u64)).await
}
