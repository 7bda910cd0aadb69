//! The control thread over real sockets, with a server made of counters and a few leases.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bootstorm_protocols::time::Moment;
use crossbeam::channel::{Receiver, unbounded};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::client::{Client, ClientError};
use super::protocol::{Request, Response};
use super::socket::in_ipv6;
use super::status::{Facts, InterfaceStatus, LeaseAccess, LeaseCounts, Running, Usage};
use super::{Command, Control, Listeners, OpenError, exposition};
use crate::config::{Config, Control as ControlConfig, Dhcp, Log, Server};
use crate::event::bus::EventBus;
use crate::event::row::Row;
use crate::event::{BootEvent, Kind};
use crate::explain::{AnswerPart, Asked, Explanation, RequestPart};
use crate::leases::{
    ClientKey, Damage, Hardware, Lease, LeaseState, NotDurable, Notes, WriteFailure,
};
use crate::log::EventLog;
use crate::metrics::Metrics;

/// Leases in a map; the address that ends in 13 cannot be written.
struct FewLeases(Mutex<BTreeMap<Ipv6Addr, Lease>>);

impl LeaseAccess for FewLeases {
    fn page(&self, from: IpAddr, limit: usize, _now: Moment) -> Vec<Lease> {
        self.0.lock().range(in_ipv6(from)..).take(limit).map(|(_, lease)| lease.clone()).collect()
    }

    fn release(&self, ip: Ipv4Addr, now: Moment) -> Result<Option<Lease>, NotDurable> {
        if ip.octets()[3] == 13 {
            return Err(NotDurable::NotWritten);
        }
        Ok(self.0.lock().get_mut(&ip.to_ipv6_mapped()).map(|lease| {
            lease.state = LeaseState::Released;
            lease.expires = now;
            lease.clone()
        }))
    }

    fn usage(&self, _now: Moment) -> Usage {
        let active = self.0.lock().len() as u64;
        Usage { pools: Vec::new(), counts: LeaseCounts { active, ..LeaseCounts::default() } }
    }

    fn explain(&self, asked: &Asked) -> Result<Explanation, String> {
        let hardware = asked.hardware()?;
        let answer = AnswerPart { kind: "silence".to_owned(), ..AnswerPart::default() };
        let request = RequestPart { mac: hardware.to_string(), ..RequestPart::default() };
        Ok(Explanation { answer, request, ..Explanation::default() })
    }

    fn damage(&self, now: Moment) -> Option<Damage> {
        let found = Some("batch 7 is missing".to_owned());
        let until = Some(now + Duration::from_secs(3600));
        Some(Damage { found, until, unreadable: 2 }).filter(|_| !self.0.lock().is_empty())
    }

    fn write_failure(&self) -> Option<WriteFailure> {
        let failure = WriteFailure { since: bootstorm_net::now(), error: "it is full".to_owned() };
        Some(failure).filter(|_| !self.0.lock().is_empty())
    }
}

fn machine(number: u32) -> Hardware {
    let [.., a, b, c] = number.to_be_bytes();
    Hardware::ethernet([2, 0, 0, a, b, c])
}

fn lease(number: u32) -> Lease {
    Lease {
        ip: Ipv4Addr::from_bits(0x0a01_0000 + number).into(),
        client: ClientKey::hardware(&machine(number)),
        hardware: machine(number),
        state: LeaseState::Active,
        starts: bootstorm_net::now(),
        expires: Moment::NEVER,
        refused: false,
        told: None,
        pending: false,
        notes: Notes::default(),
    }
}

struct Fixture {
    _directory: tempfile::TempDir,
    state_dir: PathBuf,
    metrics: Arc<Metrics>,
    address: SocketAddr,
    events: EventBus,
    commands: Receiver<Command>,
    control: Option<Control>,
    log: Option<EventLog>,
}

impl Fixture {
    fn with_leases(count: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = directory.path().to_owned();
        let listeners = Listeners::open(&state_dir, Some((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
        let address = listeners.metrics_address().unwrap();
        let (running, metrics, commands, log) = running(count);
        let events = running.events.clone();
        let control = Some(Control::start(listeners, running).unwrap());
        Self {
            _directory: directory,
            state_dir,
            metrics,
            address,
            events,
            commands,
            control,
            log: Some(log),
        }
    }

    fn ask(&self, request: &Request) -> Client {
        let mut client = Client::connect(&self.state_dir).unwrap();
        client.ask(request).unwrap();
        client
    }

    fn http(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.control.take().into_iter().for_each(Control::stop);
        self.log.take().into_iter().for_each(EventLog::stop);
    }
}

fn running(leases: u32) -> (Running, Arc<Metrics>, Receiver<Command>, EventLog) {
    let metrics = Arc::new(Metrics::new(2));
    let (commands, received) = unbounded();
    let config = Config {
        server: Server::default(),
        dhcp: Dhcp::default(),
        tftp: None,
        control: ControlConfig::default(),
        log: Log::default(),
        warnings: Vec::new(),
        more_warnings: 0,
        sources: Vec::new(),
        host_names: Vec::new(),
    };
    let events = EventBus::default();
    let (log, _sinks) = EventLog::start(2, events.clone()).unwrap();
    let running = Running {
        config_path: PathBuf::from("/etc/bootstorm/bootstorm.toml"),
        config: Arc::new(ArcSwap::from_pointee(config)),
        leases: Arc::new(FewLeases(Mutex::new(
            (0..leases).map(|number| (in_ipv6(lease(number).ip), lease(number))).collect(),
        ))),
        metrics: metrics.clone(),
        events,
        log: log.counts(),
        commands,
        facts: Arc::new(ArcSwap::from_pointee(Facts {
            started: Timestamp::now(),
            engine: "mmsg",
            interfaces: vec![
                InterfaceStatus {
                    name: "eth1".to_owned(),
                    served: true,
                    ..InterfaceStatus::default()
                },
                InterfaceStatus { name: "eth2".to_owned(), ..InterfaceStatus::default() },
            ],
            metrics: None,
            dry_run: false,
            last_reload: Some((Timestamp::now(), Err("line 3: no".to_owned()))),
        })),
        kernel_loss: None,
    };
    (running, metrics, received, log)
}

#[test]
fn leases_are_listed_to_the_last_over_many_pages() {
    let fixture = Fixture::with_leases(20_000);
    let mut client = fixture.ask(&Request::LeasesList {});
    for number in 0..20_000 {
        let Response::Lease(row) = client.response().unwrap() else { panic!("row {number}") };
        assert_eq!(row.ip, lease(number).ip.to_string());
        assert_eq!((&*row.state, &*row.expires), ("active", "never"));
    }
    assert_eq!(client.response().unwrap(), Response::End(20_000));
}

#[test]
fn a_lease_is_shown_by_address_and_by_machine() {
    let fixture = Fixture::with_leases(20);
    for of in ["10.1.0.7", "02:00:00:00:00:07"] {
        let mut client = fixture.ask(&Request::LeasesShow { of: of.to_owned() });
        let Response::Lease(row) = client.response().unwrap() else { panic!("{of}") };
        assert_eq!(row.ip, "10.1.0.7");
        assert_eq!(client.response().unwrap(), Response::End(1));
    }
    let mut client = fixture.ask(&Request::LeasesShow { of: "rack".to_owned() });
    assert!(matches!(client.response(), Err(ClientError::Refused(text)) if text.contains("rack")));
}

#[test]
fn a_release_answers_when_it_is_durable_and_not_when_it_is_not() {
    let fixture = Fixture::with_leases(20);
    let release = |host| Request::LeasesRelease { ip: Ipv4Addr::new(10, 1, 0, host) };
    let mut client = fixture.ask(&release(7));
    let Response::Lease(row) = client.response().unwrap() else { panic!() };
    assert_eq!((&*row.ip, &*row.state), ("10.1.0.7", "released"));
    assert_eq!(client.response().unwrap(), Response::End(1));
    // One connection takes many requests.
    client.ask(&release(200)).unwrap();
    assert_eq!(client.response().unwrap(), Response::End(0));
    client.ask(&release(13)).unwrap();
    let Err(ClientError::Refused(text)) = client.response() else { panic!() };
    assert!(text.contains("10.1.0.13") && text.contains("could not be written"), "{text}");
}

#[test]
fn a_reload_is_done_by_the_owner_and_its_error_comes_back() {
    let fixture = Fixture::with_leases(0);
    for outcome in [Ok("3 subnets".to_owned()), Err("line 3: no".to_owned())] {
        let mut client = fixture.ask(&Request::Reload {});
        let Command::Reload { reply: Some(reply) } = fixture.commands.recv().unwrap() else {
            panic!("not a reload")
        };
        reply.send(outcome.clone()).unwrap();
        match (client.response(), outcome) {
            (Ok(Response::Reloaded(text)), Ok(expected)) => assert_eq!(text, expected),
            (Err(ClientError::Refused(text)), Err(expected)) => assert_eq!(text, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn status_tells_engine_interfaces_counts_and_the_failed_reload() {
    let fixture = Fixture::with_leases(5);
    let shard = fixture.metrics.shard(1).unwrap();
    shard.received.increment(1);
    shard.tftp.bytes.add(77);
    let mut client = fixture.ask(&Request::Status {});
    let Response::Status(status) = client.response().unwrap() else { panic!() };
    assert_eq!((status.shards, &*status.engine), (2, "mmsg"));
    assert_eq!(status.interfaces, ["eth1"]);
    assert_eq!(status.interface_states.len(), 2);
    assert_eq!(status.leases.active, 5);
    assert_eq!((status.totals.received, status.totals.tftp_bytes), (1, 77));
    assert_eq!(status.reload_error.as_deref(), Some("line 3: no"));
    let damage = status.lease_store_damage.unwrap();
    assert_eq!(damage.found.as_deref(), Some("batch 7 is missing"));
    assert!(damage.probes_until.unwrap().parse::<Timestamp>().unwrap() > Timestamp::now());
    assert_eq!(damage.unreadable_records, 2);
    let failure = status.lease_store_failure.unwrap();
    assert_eq!(failure.error, "it is full");
    assert!(failure.since.parse::<Timestamp>().unwrap() <= Timestamp::now());
    let whole = Fixture::with_leases(0);
    let Response::Status(status) = whole.ask(&Request::Status {}).response().unwrap() else {
        panic!()
    };
    assert_eq!((status.lease_store_damage, status.lease_store_failure), (None, None));
}

#[test]
fn events_are_followed_and_end_with_the_server() {
    let mut fixture = Fixture::with_leases(0);
    let mut all = fixture.ask(&Request::Events { mac: None });
    let mut one = fixture.ask(&Request::Events { mac: Some(machine(2).to_string()) });
    let mut wrong = fixture.ask(&Request::Events { mac: Some("rack".to_owned()) });
    assert!(matches!(wrong.next_event(), Err(ClientError::Refused(_))));
    // The third answer shows that the first two connections were served before it.
    for number in [1, 2] {
        let event = BootEvent::new(Kind::Ack, machine(number), Ipv4Addr::new(10, 1, 0, 1));
        fixture.events.publish(&event, || Arc::new(Row::new(&event, String::new(), None)));
    }
    let macs = |response| match response {
        Some(Response::Event(row)) => row.mac.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(macs(all.next_event().unwrap()), machine(1).to_string());
    assert_eq!(macs(all.next_event().unwrap()), machine(2).to_string());
    assert_eq!(macs(one.next_event().unwrap()), machine(2).to_string());
    fixture.log.take().unwrap().stop();
    assert!(one.next_event().unwrap().is_none());
}

#[test]
fn nonsense_on_the_socket_is_answered_and_does_not_end_the_server() {
    let fixture = Fixture::with_leases(1);
    let mut stream =
        std::os::unix::net::UnixStream::connect(fixture.state_dir.join(super::SOCKET_NAME))
            .unwrap();
    stream.write_all(b"\x00\xff{}\n{\"command\":\"dance\"}\n").unwrap();
    stream.write_all(&vec![b'x'; super::protocol::LINE_LIMIT]).unwrap();
    let mut client = Client::over(stream);
    for expected in ["not a request", "not a request", "at most 65536 bytes"] {
        let Err(ClientError::Refused(text)) = client.response() else { panic!("{expected}") };
        assert!(text.contains(expected), "{text}");
    }
    assert!(matches!(client.response(), Err(ClientError::Broken(_))));
    let mut client = fixture.ask(&Request::LeasesList {});
    assert!(matches!(client.response().unwrap(), Response::Lease(_)));
}

#[test]
fn the_socket_is_for_owner_and_group_and_is_taken_over_from_the_dead_only() {
    let fixture = Fixture::with_leases(0);
    let path = fixture.state_dir.join(super::SOCKET_NAME);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let second = Listeners::open(&fixture.state_dir, None).unwrap_err();
    assert!(matches!(second, OpenError::Running { .. }), "{second}");

    let elsewhere = tempfile::tempdir().unwrap();
    drop(Listeners::open(elsewhere.path(), None).unwrap());
    assert!(elsewhere.path().join(super::SOCKET_NAME).exists());
    assert!(matches!(Client::connect(elsewhere.path()), Err(ClientError::NotRunning { .. })));
    Listeners::open(elsewhere.path(), None).unwrap();
}

#[test]
fn the_server_explains_its_answers() {
    let fixture = Fixture::with_leases(0);
    let asked =
        |mac: &str| Request::Explain(Box::new(Asked { mac: mac.to_owned(), ..Asked::default() }));
    let mut client = fixture.ask(&asked("52-54-00-12-34-56"));
    let Response::Explained(explanation) = client.response().unwrap() else { panic!() };
    assert_eq!(explanation.request.mac, "52:54:00:12:34:56");
    client.ask(&asked("nobody")).unwrap();
    assert!(matches!(client.response(), Err(ClientError::Refused(why)) if why.contains("nobody")));
}

#[test]
fn http_serves_the_metrics_and_nothing_else() {
    let fixture = Fixture::with_leases(3);
    fixture.metrics.shard(0).unwrap().received.increment(1);
    let page = fixture.http("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains(exposition::CONTENT_TYPE));
    assert!(page.contains("bootstorm_dhcp_received_total{shard=\"0\",type=\"discover\"} 1\n"));
    assert!(page.contains("bootstorm_leases{state=\"active\"} 3\n"));
    let head = |request: &str| fixture.http(request).lines().next().unwrap_or_default().to_owned();
    assert_eq!(head("GET /other HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 404 Not Found");
    let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(head(post), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(head("\x16\x03\x01\x02\n\n"), "HTTP/1.1 400 Bad Request");
}

#[test]
fn silent_connections_keep_nobody_out() {
    let fixture = Fixture::with_leases(0);
    let silent: Vec<_> = (0..100)
        .map(|index| {
            let mut stream = TcpStream::connect(fixture.address).unwrap();
            // Some say a little, and never the end of it.
            stream.write_all(&b"GET /metrics HTTP/1.1\r\nHost: "[..index % 30]).unwrap();
            stream
        })
        .collect();
    let page = fixture.http("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    let mut client = fixture.ask(&Request::Status {});
    assert!(matches!(client.response().unwrap(), Response::Status(_)));
    drop(silent);
}

#[test]
fn the_page_is_what_prometheus_reads() {
    let (running, metrics, _commands, log) = running(3);
    let shard = metrics.shard(0).unwrap();
    shard.reply_latency.observe(Duration::from_micros(3));
    shard.reply_latency.observe(Duration::from_secs(100));
    metrics.commits.batch_size.observe(64);
    let page = exposition::page(&running);
    log.stop();
    check_exposition(&page);
    assert!(
        page.contains("bootstorm_reply_latency_seconds_bucket{shard=\"0\",le=\"0.000003\"} 1\n")
    );
    assert!(page.contains("bootstorm_reply_latency_seconds_bucket{shard=\"0\",le=\"+Inf\"} 2\n"));
    assert!(page.contains("bootstorm_commit_batch_leases_bucket{le=\"64\"} 1\n"));
    assert!(page.contains("bootstorm_config_last_reload_successful 0\n"));
    assert!(page.contains("bootstorm_lease_store_damaged 1\n"));
    assert!(page.contains("bootstorm_lease_store_failing 1\n"));
    assert!(page.contains("bootstorm_lease_store_unreadable_records 2\n"));
}

/// The rules of the text format 0.0.4 that a scrape depends on.
fn check_exposition(page: &str) {
    assert!(page.ends_with('\n'));
    let (mut family, mut kind) = ("", "");
    let (mut families, mut series) = (HashSet::new(), HashSet::new());
    let mut last_bucket = (String::new(), 0.0);
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split_once(' ').expect("HELP has a text").0;
            assert!(families.insert(family), "{family} stands in one place");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').expect("TYPE has a type");
            assert_eq!(name, family, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&of), "{of}");
            assert_eq!(of == "counter", name.ends_with("_total"), "{name}");
            kind = of;
            continue;
        }
        let (name_and_labels, value) = line.rsplit_once(' ').expect("a sample has a value");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(series.insert(name_and_labels.to_owned()), "{line} stands once");
        let name = name_and_labels.split('{').next().unwrap_or_default();
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} in {family}"));
        let allowed: &[&str] =
            if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(allowed.contains(&suffix), "{line}");
        if suffix == "_bucket" {
            let (labels, bound) = name_and_labels.split_once("le=\"").expect("a bucket has le");
            assert!(bound == "+Inf\"}" || bound.trim_end_matches("\"}").parse::<f64>().is_ok());
            if last_bucket.0 == labels {
                assert!(value >= last_bucket.1, "{line} counts no less than the bucket before");
            }
            last_bucket = (labels.to_owned(), value);
        } else if suffix == "_count" {
            assert_eq!(value, last_bucket.1, "{line} is the +Inf bucket");
        }
    }
    assert!(families.len() > 20);
}
