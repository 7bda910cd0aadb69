//! HTTP of installers, on a thread of its own with an asynchronous runtime: the packet engine has
//! no TCP.
//! [`crate::clients::Clients`] queue a fetch and are woken when a result is there.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bootstorm_net::{Waker, now};
use bootstorm_protocols::time::Moment;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Bytes};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::sync::{Semaphore, mpsc as channel};
use xxhash_rust::xxh3::Xxh3Default;

/// How long an installer waits for anything to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections at one time at most: an address has fewer ports than 2^15 for them.
pub(crate) const MOST_CONNECTIONS: usize = 28_000;
/// File descriptors that are left for everything else.
const OTHER_DESCRIPTORS: u64 = 512;

/// Something to fetch.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Who wants it.
    pub machine: u32,
    /// Which of the machine's fetches it is: an answer to an earlier one is stale.
    pub serial: u8,
    /// The machine's own address, where it has one on this host.
    pub source: Option<Ipv4Addr>,
    /// Host and port.
    pub server: SocketAddrV4,
    /// Path and query.
    pub path: String,
    /// When the machine wanted it.
    pub wanted: Moment,
}

/// What came.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Who wanted it.
    pub machine: u32,
    /// From [`Fetch::serial`].
    pub serial: u8,
    /// How long it waited for a connection: the generator's fault, not the server's.
    pub waited: Duration,
    /// It failed because this host has no descriptor or port for it: not the server's fault.
    pub refused: bool,
    /// The status, where it was a success of a kind that nobody asked for.
    pub odd_status: Option<u16>,
    /// Length and digest of the body, or what went wrong.
    pub result: Result<(u64, u64), String>,
}

/// Fetches for all machines.
#[derive(Debug)]
pub struct Fetcher {
    wanted: channel::UnboundedSender<Fetch>,
    came: mpsc::Receiver<Fetched>,
}

impl Fetcher {
    /// Starts the thread with as many connections at one time as `machines` can want and file
    /// descriptors allow. It ends with the fetcher.
    ///
    /// # Errors
    /// No thread, or no runtime.
    pub fn start(waker: Waker, machines: u32) -> std::io::Result<Fetcher> {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let free = descriptors.current.unwrap_or(u64::MAX).saturating_sub(OTHER_DESCRIPTORS);
        let wanted = u64::from(machines).min(free) as usize;
        Fetcher::with_connections(waker, wanted.clamp(1, MOST_CONNECTIONS))
    }

    fn with_connections(waker: Waker, connections: usize) -> std::io::Result<Fetcher> {
        let (wanted, mut wishes) = channel::unbounded_channel::<Fetch>();
        let (results, came) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("http".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let permits = Arc::new(Semaphore::new(connections));
                while let Some(fetch) = wishes.recv().await {
                    let (permits, results, waker) =
                        (permits.clone(), results.clone(), waker.clone());
                    tokio::spawn(async move {
                        let permit = tokio::time::timeout(PATIENCE, permits.acquire()).await;
                        let waited = now().since(fetch.wanted);
                        let result = match permit {
                            Ok(_permit) => get(&fetch).await,
                            Err(_) => Err(Failed::NoConnection),
                        };
                        let refused = result.as_ref().is_err_and(Failed::is_own);
                        let status = result.as_ref().map_or(200, |body| body.status);
                        let odd_status = Some(status).filter(|status| *status != 200);
                        let result = result.map(|body| (body.len, body.digest));
                        let result = result.map_err(|error| error.to_string());
                        let (machine, serial) = (fetch.machine, fetch.serial);
                        // The run may have ended meanwhile.
                        let _ = results.send(Fetched {
                            machine,
                            serial,
                            waited,
                            refused,
                            odd_status,
                            result,
                        });
                        waker.wake();
                    });
                }
            });
        })?;
        Ok(Fetcher { wanted, came })
    }

    /// Wants something fetched.
    pub fn fetch(&self, fetch: Fetch) {
        // The thread ends only with us.
        let _ = self.wanted.send(fetch);
    }

    /// Something that came, if anything did.
    pub fn received(&self) -> Option<Fetched> {
        self.came.try_recv().ok()
    }
}

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("HTTP: cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("HTTP: {0}")]
    Protocol(hyper::Error),
    #[error("HTTP: no URL path: {0}")]
    Path(hyper::http::Error),
    #[error("HTTP status {0}")]
    Status(u16),
    #[error("HTTP silent")]
    Silent,
    #[error("HTTP: the generator had no connection free")]
    NoConnection,
}

impl Failed {
    /// Whether this host could not even try.
    fn is_own(&self) -> bool {
        use rustix::io::Errno;
        match self {
            Failed::NoConnection => true,
            Failed::Connect(error) => matches!(
                Errno::from_io_error(error),
                Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::ADDRINUSE)
            ),
            _ => false,
        }
    }
}

/// A body that came.
struct Body {
    status: u16,
    len: u64,
    digest: u64,
}

/// One GET over a connection of its own, as wget and the kernel's loaders do. Returns length and
/// digest of the body.
async fn get(fetch: &Fetch) -> Result<Body, Failed> {
    let socket = TcpSocket::new_v4().map_err(Failed::Connect)?;
    if let Some(source) = fetch.source {
        socket.set_reuseaddr(true).map_err(Failed::Connect)?;
        socket.bind(SocketAddr::from((source, 0))).map_err(Failed::Connect)?;
    }
    let stream =
        with_timeout(socket.connect(fetch.server.into())).await?.map_err(Failed::Connect)?;
    let (mut sender, connection) =
        with_timeout(http1::handshake(TokioIo::new(stream))).await?.map_err(Failed::Protocol)?;
    // It carries the exchange; what goes wrong with it shows in the answer.
    tokio::spawn(connection);
    let request = Request::get(&fetch.path)
        .header(header::HOST, fetch.server.to_string())
        .header(header::USER_AGENT, concat!("bootstorm-load/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(Failed::Path)?;
    let answer = with_timeout(sender.send_request(request)).await?.map_err(Failed::Protocol)?;
    let status = answer.status().as_u16();
    if !answer.status().is_success() {
        return Err(Failed::Status(answer.status().as_u16()));
    }
    let mut body = answer.into_body();
    let (mut len, mut digest) = (0, Xxh3Default::new());
    while !body.is_end_stream() {
        match with_timeout(body.frame()).await? {
            None => break,
            Some(frame) => {
                if let Some(data) = frame.map_err(Failed::Protocol)?.data_ref() {
                    len += data.len() as u64;
                    digest.update(data);
                }
            }
        }
    }
    Ok(Body { status, len, digest: digest.digest() })
}

async fn with_timeout<T>(what: impl Future<Output = T>) -> Result<T, Failed> {
    tokio::time::timeout(PATIENCE, what).await.map_err(|_| Failed::Silent)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    use bootstorm_net::{Backend, Limits, Mmsg};

    use super::*;

    fn fetch_from(answer: &'static [u8]) -> Result<(u64, u64), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(server) = listener.local_addr().unwrap() else { panic!() };
        let serving = thread::spawn(move || {
            let (mut stream, from) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let len = stream.read(&mut request).unwrap();
            assert!(request[..len].starts_with(b"GET /a?b=c HTTP/1.1\r\n"));
            stream.write_all(answer).unwrap();
            from
        });
        let backend = Mmsg::new(&Limits::default()).unwrap();
        let fetcher = Fetcher::start(backend.waker(), 1).unwrap();
        let source = Some(Ipv4Addr::new(127, 0, 0, 9));
        fetcher.fetch(wanted(7, source, server));
        let came = next(&fetcher);
        assert_eq!((came.machine, came.serial), (7, 3));
        assert_eq!(serving.join().unwrap().ip(), Ipv4Addr::new(127, 0, 0, 9));
        came.result
    }

    fn wanted(machine: u32, source: Option<Ipv4Addr>, server: SocketAddrV4) -> Fetch {
        Fetch { machine, serial: 3, source, server, path: "/a?b=c".to_owned(), wanted: now() }
    }

    fn next(fetcher: &Fetcher) -> Fetched {
        let begin = Instant::now();
        loop {
            match fetcher.received() {
                Some(came) => break came,
                None if begin.elapsed() > PATIENCE => panic!("nothing came"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    #[test]
    fn a_fetch_that_waits_for_a_connection_says_how_long() {
        const HELD: Duration = Duration::from_millis(150);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(server) = listener.local_addr().unwrap() else { panic!() };
        let serving = thread::spawn(move || {
            for held in [HELD, Duration::ZERO] {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                thread::sleep(held);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        });
        let backend = Mmsg::new(&Limits::default()).unwrap();
        let fetcher = Fetcher::with_connections(backend.waker(), 1).unwrap();
        fetcher.fetch(wanted(0, None, server));
        fetcher.fetch(wanted(1, None, server));
        let (first, second) = (next(&fetcher), next(&fetcher));
        serving.join().unwrap();
        assert_eq!((first.machine, second.machine), (0, 1));
        // The server holds the only connection for so long after the first has got it.
        assert!(second.waited >= HELD / 2, "{:?}", second.waited);
        assert!(first.result.is_ok() && second.result.is_ok());
    }

    #[test]
    fn a_body_is_counted_and_digested() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(fetch_from(answer), Ok((5, xxhash_rust::xxh3::xxh3_64(b"hello"))));
    }

    #[test]
    fn what_goes_wrong_is_named() {
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(fetch_from(answer), Err("HTTP status 404".to_owned()));
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello";
        assert!(fetch_from(cut).unwrap_err().starts_with("HTTP: "));
    }
}
