//! Hosts that are added to a loaded model and taken out of it: as if all had been read again.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::super::{Config, ConfigError, Dhcp, HostChange, load_beside};
use crate::live_hosts::{By, Change, HostObject, LiveHosts, Origin};

const TEXT: &str = r#"
[dhcp]
lease-time = "1h"
[[dhcp.option-definition]]
name = "rack"
code = 224
type = "text"
[[dhcp.class]]
name = "gpu"
vendor-class = "gpu"
[[dhcp.subnet]]
subnet = "10.0.0.0/24"
pools = ["10.0.0.100-10.0.0.200"]
options = { routers = ["10.0.0.1"] }
[[dhcp.subnet]]
subnet = "10.0.1.0/24"
[[dhcp.group]]
name = "racks"
options = { domain-name = "example.net" }
[[dhcp.host]]
name = "b"
hardware = "52:54:00:00:00:09"
ip = "10.0.0.9"
"#;

/// A model as its parts are seen; what has an order of its own is sorted.
fn seen(config: &Config) -> String {
    let dhcp = &config.dhcp;
    let hosts: Vec<_> = dhcp.hosts.iter().map(|host| described(dhcp, &host)).collect();
    format!(
        "{hosts:#?} {:?} {:?} {:?} {:?} {:?} {:?}",
        dhcp.excluded,
        dhcp.goes_by_ports,
        dhcp.used,
        dhcp.has_statements,
        dhcp.subnets,
        dhcp.classes
    )
}

fn described(dhcp: &Dhcp, host: &super::super::HostView<'_>) -> String {
    let keys: Vec<_> = host.keys().collect();
    let found: Vec<_> =
        host.ips().iter().map(|ip| dhcp.host_by_ip(*ip).map(|id| dhcp.host(id).name())).collect();
    let by_key: Vec<_> = host
        .keys()
        .map(|key| dhcp.hosts.with_same_key(&key).iter().map(|id| dhcp.host(*id).name()).collect())
        .collect::<Vec<Vec<_>>>();
    let by_name = dhcp.host_by_name(host.name()).map(|id| dhcp.host(id).ips());
    let (name, ips, group) = (host.name(), host.ips(), host.group());
    let scope = without_lines(&format!("{:?}", host.scope()));
    format!("{name} {keys:?} {ips:?} {group:?} {scope} {found:?} {by_key:?} {by_name:?}")
}

/// Statements keep the lines on which they stood when they were read.
fn without_lines(scope: &str) -> String {
    let mut parts = scope.split("Line {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.filter_map(|part| part.split_once('}')).fold(first, |text, (_, rest)| text + rest)
}

struct Site {
    directory: tempfile::TempDir,
    live: LiveHosts,
    config: Config,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("server.toml"), TEXT).unwrap();
        let mut site = Self { live: LiveHosts::default(), config: super::good(TEXT), directory };
        site.config = site.read(&site.live).unwrap();
        site
    }

    fn read(&self, live: &LiveHosts) -> Result<Config, ConfigError> {
        let file = self.directory.path().join("hosts.toml");
        live.write(&file).unwrap();
        load_beside(&self.directory.path().join("server.toml"), &file)
    }

    /// Makes a change in the model and by reading all; whether it was made in the model.
    fn change(&mut self, change: Change, hosts: Vec<HostObject>) -> bool {
        let mut live = self.live.clone();
        let origin = Origin::new(jiff::Timestamp::UNIX_EPOCH, By::Command);
        let Ok(changed) = live.change_all(change, hosts, origin) else { return false };
        let quick = self.config.with_hosts(&HostChange {
            before: changed.before,
            removed: &changed.removed(),
            added: &live.added(&changed),
            file: Path::new("hosts.toml"),
            own: &[Ipv4Addr::new(10, 0, 0, 2)],
        });
        let whole = self.read(&live);
        if let Some(quick) = &quick {
            let whole = whole.as_ref().unwrap();
            assert_eq!(seen(quick), seen(whole));
            assert_ne!(quick.dhcp.id, self.config.dhcp.id);
        }
        let was_quick = quick.is_some();
        if let Ok(whole) = whole {
            (self.live, self.config) = (live, quick.unwrap_or(whole));
        }
        was_quick
    }
}

fn host(value: serde_json::Value) -> HostObject {
    serde_json::from_value(value).unwrap()
}

#[test]
fn what_nothing_is_to_be_said_of_is_made_in_the_model() {
    let mut site = Site::new();
    for (change, value) in [
        (Change::Add, json!({"name": "m", "hardware": "52:54:00:00:00:01", "ip": "10.0.0.5"})),
        (
            Change::Add,
            json!({"name": "z", "uuid": "00112233-4455-6677-8899-aabbccddeeff",
                             "ip": ["10.0.0.6", "10.0.1.6"], "group": "racks"}),
        ),
        (
            Change::Add,
            json!({"name": "a", "client-id": "one", "options": {"rack": "r1"},
                             "lease-time": "2h", "max-lease-time": "3h"}),
        ),
        (
            Change::Set,
            json!({"name": "m", "hardware": "52:54:00:00:00:02", "ip": "10.0.0.5",
                             "next-server": "10.9.0.1", "boot": {"file": "x.efi"}}),
        ),
        (
            Change::Add,
            json!({"name": "n", "hardware": "52:54:00:00:00:01", "circuit-id": "p1",
                             "remote-id": "s1"}),
        ),
        (Change::Remove, json!({"name": "a"})),
        (Change::Remove, json!({"name": "n"})),
        (
            Change::Add,
            json!({"name": "n", "host-identifier": {"rack": "r7", "agent": {"5": "hex:0a000001"}}}),
        ),
        (Change::Remove, json!({"name": "n"})),
        (
            Change::Set,
            json!({"name": "m", "hardware": "52:54:00:00:00:02",
                             "boot": [{"circuit-id": "p1", "next-server": "10.9.0.1",
                                       "file": "p.efi"}]}),
        ),
        (Change::Set, json!({"name": "m", "hardware": "52:54:00:00:00:02"})),
    ] {
        let text = value.to_string();
        assert!(site.change(change, vec![host(value)]), "{text}");
    }
    assert_eq!(site.live.len(), 2);
}

#[test]
fn hosts_with_statements_come_and_go_with_the_whole() {
    let mut site = Site::new();
    let asks = json!({"name": "m", "hardware": "52:54:00:00:00:01", "if": [
        {"test": "option agent.circuit-id = \"p1\"", "filename": "p.efi"}]});
    assert!(!site.change(Change::Add, vec![host(asks)]));
    assert!(site.config.dhcp.goes_by_ports);
    let other = json!({"name": "n", "hardware": "52:54:00:00:00:02"});
    assert!(site.change(Change::Add, vec![host(other)]));
    assert!(site.config.dhcp.goes_by_ports);
    assert!(!site.change(Change::Remove, vec![host(json!({"name": "m"}))]));
    assert!(!site.config.dhcp.goes_by_ports);
}

#[test]
fn what_must_be_told_is_not() {
    let mut site = Site::new();
    let first = json!({"name": "m", "hardware": "52:54:00:00:00:01", "ip": "10.0.0.5"});
    assert!(site.change(Change::Add, vec![host(first)]));
    for value in [
        json!({"name": "b", "hardware": "52:54:00:00:00:03"}),
        json!({"name": "c", "hardware": "52:54:00:00:00:01"}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "ip": "10.0.0.9"}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "ip": "10.0.0.5"}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "ip": "10.0.0.1"}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "ip": "10.0.0.2"}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "ip": "10.0.0.255"}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "ip": "10.9.0.5"}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "ip": ["10.0.0.7", "10.0.0.8"]}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "group": "none"}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "colour": 1}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "lease-time": "2h",
               "max-lease-time": "1h"}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "boot": {"file": "x.efi"}}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "server-identifier": "10.0.0.3"}),
        json!({"name": "c", "hardware": "52:54:00:00:00:03", "options": {"routers": ["10.0.0.4"]}}),
        json!({"name": "c"}),
    ] {
        let text = value.to_string();
        let mut fresh = Site::new();
        let first = json!({"name": "m", "hardware": "52:54:00:00:00:01", "ip": "10.0.0.5"});
        assert!(fresh.change(Change::Add, vec![host(first)]));
        assert!(!fresh.change(Change::Set, vec![host(value)]), "{text}");
    }
    let twins = [("c", 5), ("d", 5)].map(|(name, card)| {
        host(json!({"name": name, "hardware": format!("52:54:00:00:01:{card:02}")}))
    });
    assert!(!site.change(Change::Add, twins.to_vec()));
}

/// A host of `count` options of relay agents, or of other ones, from a code on.
fn of_options(name: &str, space: Option<&str>, codes: std::ops::Range<u8>) -> HostObject {
    let values = codes.map(|code| (code.to_string(), json!("hex:0a000001")));
    let values = serde_json::Value::Object(values.collect());
    let identifier = match space {
        Some(space) => json!({space: values}),
        None => values,
    };
    host(json!({"name": name, "host-identifier": identifier}))
}

#[test]
fn hosts_of_too_many_options_are_refused() {
    let mut site = Site::new();
    // 254 of 255.
    assert!(site.change(Change::Add, vec![of_options("l", Some("agent"), 20..152)]));
    assert!(site.change(Change::Add, vec![of_options("m", Some("agent"), 153..254)]));
    assert!(site.change(Change::Add, vec![of_options("n", None, 225..246)]));
    // One has room, and a second has none: in one change, and of one host.
    let two = vec![of_options("p", None, 246..247), of_options("q", None, 247..248)];
    let port = host(json!({"name": "q", "circuit-id": "p1"}));
    let with_port = vec![of_options("p", None, 246..247), port];
    for added in [two, with_port, vec![of_options("p", None, 246..248)]] {
        assert!(!site.change(Change::Add, added));
        assert_eq!(site.live.len(), 3);
    }
    assert!(site.change(Change::Add, vec![of_options("p", None, 246..247)]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_changes_make_what_reading_makes(changes in proptest::collection::vec(
        (0..4_u8, "[a-f]", 1..8_u8, proptest::option::of(1..12_u8), any::<bool>(), 0..8_u8),
        1..12,
    )) {
        let mut site = Site::new();
        for (kind, name, card, ip, grouped, port) in changes {
            let change = if kind == 0 { Change::Remove } else { Change::Set };
            let mut value = host(json!({"name": name}));
            if change == Change::Set {
                value.insert("hardware".into(), json!(format!("52:54:00:00:00:{card:02x}")));
                value.extend(ip.map(|ip| ("ip".into(), json!(format!("10.0.0.{ip}")))));
                value.extend(grouped.then(|| ("group".into(), json!("racks"))));
                value.extend(match port {
                    0 => Some(("circuit-id".into(), json!(format!("p{card}")))),
                    1 => Some(("remote-id".into(), json!(format!("s{card}")))),
                    2 => Some(("boot".into(), json!([{"remote-id": "s1", "next-server": "10.9.0.1",
                        "file": "p.efi"}]))),
                    3 => Some(("if".into(), json!([
                        {"test": "option agent.remote-id = \"s1\"", "filename": "p.efi"}]))),
                    4 => Some(("host-identifier".into(), json!({"rack": format!("r{card}")}))),
                    5 => Some(("host-identifier".into(), json!({"agent": {"9": "x"}}))),
                    _ => None,
                });
            }
            site.change(change, vec![value]);
        }
    }
}
