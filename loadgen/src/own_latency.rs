//! The generator's own latency: plain exchanges with a bare responder on loopback, through the same
//! packet engine, before the run. What an answer takes there is no server's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bootstorm_net::{Backend, Engine, EngineKind, Limits, Socket, UdpSocketSpec, now};
use bootstorm_protocols::dhcpv4::SERVER_PORT;

use crate::clients::{Access, Clients, Config, Relay, Sockets, Sources};
use crate::memberships::Memberships;
use crate::progress::Progress;
use crate::report::OwnLatency;
use crate::responder::{Net, Setting, serve};
use crate::routes::{Block, Routes};
use crate::scenario::Scenario;
use crate::seed::Seed;
use crate::validator::{Expected, Files, LocalCopies, Recorder, Validator};

/// Where the responder answers.
const RESPONDER: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);
/// The relay agent that asks it.
const RELAY: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 2);
/// Exchanges a second, an address each: few enough for any host.
const RATE: f64 = 1000.0;
/// For so long.
const LASTS: &str = "arrival.for=500ms";
/// How long the responder has to open its socket.
const READY: Duration = Duration::from_secs(2);

/// Measures it, in about half a second.
///
/// # Errors
/// Port 67 cannot be had on loopback, or the packet engine fails.
pub(crate) fn measure(kind: EngineKind, limits: &Limits) -> io::Result<OwnLatency> {
    let net: Net = "127.66.0.0/16".parse().map_err(io::Error::other)?;
    let setting = Setting { listen: RESPONDER, net, broadcasts: false, lasts: None };
    let stop = Arc::new(AtomicBool::new(false));
    let (opened, ready) = mpsc::channel();
    let responder = {
        let stop = stop.clone();
        thread::Builder::new().name("responder".to_owned()).spawn(move || {
            serve(kind, &setting, &stop, || {
                // The one who waits may have given up.
                let _ = opened.send(());
            })
        })?
    };
    let found = match ready.recv_timeout(READY) {
        Ok(()) => match kind.open(limits)? {
            Engine::Uring(backend) => exchange(backend),
            Engine::Mmsg(backend) => exchange(backend),
        },
        // The responder's own error says why.
        Err(_) => Err(io::Error::other("the bare responder did not start")),
    };
    stop.store(true, Ordering::Relaxed);
    match responder.join() {
        Ok(served) => served.and(found),
        Err(_) => Err(io::Error::other("the bare responder failed")),
    }
}

fn exchange<B: Backend<Socket = Socket>>(mut backend: B) -> io::Result<OwnLatency> {
    let set = ["limit=5s".to_owned(), LASTS.to_owned()];
    let mut scenario = Scenario::load("dora", &set).map_err(io::Error::other)?;
    scenario.arrival.rate = Some(RATE);
    scenario.arrival.in_flight = None;
    let bind = SocketAddr::from((RELAY, SERVER_PORT));
    let socket = UdpSocketSpec { bind, ..UdpSocketSpec::default() }.open()?;
    let relay = Relay {
        giaddr: RELAY,
        network: Some(Block::around(RELAY, 16)),
        option: Vec::new(),
        socket: backend.add_socket(socket)?,
        routed: false,
    };
    let start = now();
    let config = Config {
        sockets: Sockets {
            server: RESPONDER,
            access: Access::Relayed(vec![relay]),
            sources: Sources::Ports { address: RELAY, sockets: Vec::new() },
            groups: None,
            client_addresses: None,
            machines: scenario.machines,
        },
        scenario,
        seed: Seed(0),
        generation: 0,
        files: Files::new(LocalCopies::default()),
        validator: Validator::new(start, Expected::default(), Vec::new(), Recorder::new(false)),
        progress: Arc::new(Progress::default()),
        asked: None,
        tftp_server: None,
        routes: Routes::default(),
        memberships: Memberships::default(),
        multicast_port: None,
        fetcher: None,
        http_server: None,
    };
    let mut clients = Clients::new(config, start).map_err(io::Error::other)?;
    let mut deadline = Some(start);
    while !clients.is_over() {
        deadline = backend.turn(deadline, &mut clients)?;
    }
    let answers = clients.metrics.latency().remove("answer").unwrap_or_default();
    if answers.count == 0 {
        return Err(io::Error::other("the bare responder was not heard"));
    }
    Ok(OwnLatency { answers: answers.count, p50: answers.p50, p99: answers.p99, max: answers.max })
}

#[cfg(test)]
mod tests {
    use bootstorm_net::EngineChoice;

    use super::*;

    #[test]
    fn the_bare_responder_answers_all_or_the_port_is_refused() {
        let (kind, _) = EngineChoice::Mmsg.resolve().unwrap();
        match measure(kind, &Limits::default()) {
            Ok(found) => {
                assert!((1..=1000).contains(&found.answers), "{found:?}");
                assert!(found.p50 <= found.p99 && found.p99 <= found.max, "{found:?}");
            }
            // Without root, or beside a DHCP server.
            Err(error) => assert!(
                matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse),
                "{error}"
            ),
        }
    }
}
