//! The control socket, the server's end: the file system decides who may open it (mode 0660),
//! what is said on it stands in `protocol.rs`.

mod hosts;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};

use super::lease_row::{Clocks, LeaseFilter, LeaseRow};
use super::protocol::{LINE_LIMIT, Request, Response};
use super::status::Running;
use super::{Command, ReloadReply, accept};
use crate::event::row::Row;
use crate::leases::Hardware;

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// How long a connection may stay silent between requests.
const IDLE: Duration = Duration::from_secs(60);
/// How long a client may take to read one line.
const WRITE: Duration = Duration::from_secs(30);
/// Leases copied out of the index at a time. Each page looks at the whole index, so few large ones.
const PAGE: usize = 16_384;

/// Answers until the task is dropped.
pub(super) async fn serve(listener: UnixListener, running: Rc<Running>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Nobody closes the semaphore.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = accept(|| listener.accept()).await;
        let running = running.clone();
        tokio::task::spawn_local(async move {
            // A client that went away has nobody to tell.
            let _gone = converse(stream, &running).await;
            drop(place);
        });
    }
}

async fn converse(stream: UnixStream, running: &Running) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut peer = Peer(writer);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LINE_LIMIT as u64);
        let read = limited.read_until(b'\n', &mut line);
        let Ok(read) = tokio::time::timeout(IDLE, read).await else { return Ok(()) };
        if read? == 0 {
            return Ok(());
        }
        if line.len() == LINE_LIMIT && line.last() != Some(&b'\n') {
            return peer.error(format!("a request is at most {LINE_LIMIT} bytes long")).await;
        }
        match serde_json::from_slice(&line) {
            Err(error) => peer.error(format!("not a request: {error}")).await?,
            Ok(Request::Events { mac }) => return events(peer, reader, running, mac).await,
            Ok(Request::HostsChange { change, count }) => {
                match hosts::read(&mut reader, count).await? {
                    Ok(hosts) => hosts::change(&mut peer, running, change, hosts).await?,
                    // What follows cannot be told from requests any more.
                    Err(wrong) => return peer.error(wrong).await,
                }
            }
            Ok(request) => answer(&mut peer, running, request).await?,
        }
    }
}

async fn answer(peer: &mut Peer, running: &Running, request: Request) -> io::Result<()> {
    match request {
        Request::Status {} => peer.send(&Response::Status(Box::new(running.status()))).await,
        Request::LeasesList {} => list(peer, running, LeaseFilter::all()).await,
        Request::LeasesShow { of } => match LeaseFilter::parse(&of) {
            Ok(wanted) => list(peer, running, wanted).await,
            Err(error) => peer.error(error).await,
        },
        Request::LeasesRelease { ip } => {
            let leases = running.leases.clone();
            // It waits for the disk.
            let released =
                tokio::task::spawn_blocking(move || leases.release(ip, bootstorm_net::now())).await;
            match released {
                Ok(Ok(Some(lease))) => {
                    let row = LeaseRow::new(&lease, &Clocks::read());
                    peer.send(&Response::Lease(row)).await?;
                    peer.send(&Response::End(1)).await
                }
                Ok(Ok(None)) => peer.send(&Response::End(0)).await,
                Ok(Err(error)) => peer.error(format!("{ip}: {error}")).await,
                Err(_) => peer.error(format!("{ip}: the release failed; see the log")).await,
            }
        }
        Request::Explain(asked) => {
            let leases = running.leases.clone();
            // It takes locks that shards take.
            match tokio::task::spawn_blocking(move || leases.explain(&asked)).await {
                Ok(Ok(explanation)) => peer.send(&Response::Explained(Box::new(explanation))).await,
                Ok(Err(error)) => peer.error(error).await,
                Err(_) => peer.error("the explanation failed; see the log".to_owned()).await,
            }
        }
        Request::Reload {} => {
            let command = |reply| Command::Reload { reply: Some(reply) };
            match ask(running, command).await {
                Ok(changed) => peer.send(&Response::Reloaded(changed)).await,
                Err(error) => peer.error(error).await,
            }
        }
        Request::HostsList {} => hosts::list(peer, running).await,
        // Handled by the caller: they need the connection itself.
        Request::Events { .. } | Request::HostsChange { .. } => Ok(()),
    }
}

/// Has the thread that owns the server do something, and waits until it is done.
async fn ask(
    running: &Running,
    command: impl FnOnce(ReloadReply) -> Command,
) -> Result<String, String> {
    let (reply, outcome) = oneshot::channel();
    let gone = || "the server is going down".to_owned();
    running.commands.try_send(command(reply)).map_err(|_| gone())?;
    outcome.await.map_err(|_| gone())?
}

/// Addresses of both families in one order, the order of the pages.
pub(super) fn in_ipv6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Streams the leases page by page; one that changes meanwhile is shown as it was or as it is.
async fn list(peer: &mut Peer, running: &Running, wanted: LeaseFilter) -> io::Result<()> {
    let mut from = Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let mut rows = 0;
    while let Some(start) = from {
        let clocks = Clocks::read();
        let page = running.leases.page(start, PAGE, clocks.now);
        from = page
            .last()
            .filter(|_| page.len() == PAGE)
            .and_then(|last| in_ipv6(last.ip).to_bits().checked_add(1))
            .map(|next| IpAddr::V6(Ipv6Addr::from_bits(next)));
        let mut text = Vec::new();
        for lease in page.iter().filter(|lease| wanted.admits(lease)) {
            rows += 1;
            encode(&Response::Lease(LeaseRow::new(lease, &clocks)), &mut text)?;
        }
        peer.write(&text).await?;
    }
    peer.send(&Response::End(rows)).await
}

async fn events(
    mut peer: Peer,
    mut reader: BufReader<OwnedReadHalf>,
    running: &Running,
    mac: Option<String>,
) -> io::Result<()> {
    let only = match mac.map(|text| Hardware::of_text(&text)).transpose() {
        Ok(only) => only,
        Err(error) => return peer.error(error).await,
    };
    let mut subscription = running.events.subscribe(only);
    let stream = async {
        while let Some(row) = subscription.next().await {
            let lost = subscription.take_lost();
            if lost > 0 {
                peer.send(&Response::Lost(lost)).await?;
            }
            peer.send(&Response::Event(Row::clone(&row))).await?;
        }
        io::Result::Ok(())
    };
    // Whatever the client says now is not heard; that it closes is.
    let mut ignored = [0; 256];
    let closed = async {
        while reader.read(&mut ignored).await? > 0 {}
        io::Result::Ok(())
    };
    first(stream, closed).await
}

/// The output of whichever ends first; the other is dropped.
async fn first<T>(a: impl Future<Output = T>, b: impl Future<Output = T>) -> T {
    let (mut a, mut b) = (pin!(a), pin!(b));
    std::future::poll_fn(|context| match a.as_mut().poll(context) {
        Poll::Pending => b.as_mut().poll(context),
        ready => ready,
    })
    .await
}

/// The way back to the client.
struct Peer(OwnedWriteHalf);

impl Peer {
    async fn send(&mut self, response: &Response) -> io::Result<()> {
        let mut text = Vec::new();
        encode(response, &mut text)?;
        self.write(&text).await
    }

    async fn error(&mut self, message: String) -> io::Result<()> {
        self.send(&Response::Error(message)).await
    }

    async fn write(&mut self, text: &[u8]) -> io::Result<()> {
        tokio::time::timeout(WRITE, self.0.write_all(text)).await?
    }
}

fn encode(response: &Response, text: &mut Vec<u8>) -> io::Result<()> {
    serde_json::to_writer(&mut *text, response)?;
    text.push(b'\n');
    Ok(())
}
