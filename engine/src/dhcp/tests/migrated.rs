//! The TOML that `migrate` makes of a file in dhcpd's language: its clients are answered as by the
//! file itself.

use std::collections::BTreeMap;
use std::path::Path;

use bootstorm_protocols::dhcpv4::options;
use proptest::prelude::{Rng, RngExt};
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;
use crate::config::{self, Config, HostId, HostKey, corpus, migrate};

/// Clients of each file.
const CLIENTS: usize = 25;

/// Words of a file that clients may say: its texts in quotes, and its bytes in hexadecimal.
struct Said {
    texts: Vec<Vec<u8>>,
    bytes: Vec<Vec<u8>>,
}

impl Said {
    fn of(text: &str) -> Self {
        let usual =
            ["PXEClient:Arch:00007:UNDI:003016", "PXEClient", "iPXE", "MSFT 5.0", "anything"];
        let quoted = text.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
        let texts = usual.into_iter().chain(quoted).filter(|text| text.len() < 100);
        let is_word = |c: char| c.is_ascii_hexdigit() || c == ':';
        let words = text.split(|c| !is_word(c)).filter(|word| word.contains(':'));
        let bytes = words.filter_map(|word| {
            word.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
        });
        Self { texts: texts.map(|text| text.as_bytes().to_vec()).collect(), bytes: bytes.collect() }
    }

    fn any(&self, random: &mut impl Rng) -> Vec<u8> {
        let of = if random.random_bool(0.7) { &self.texts } else { &self.bytes };
        let Some(value) = of.get(random.random_range(0..of.len().max(1))) else {
            return vec![0, 7];
        };
        let more = if random.random_bool(0.3) { &b":more"[..] } else { b"" };
        [value, more].concat()
    }
}

fn client(random: &mut impl Rng, config: &Config, said: &Said, relay: Option<Ipv4Addr>) -> Client {
    let dhcp = &config.dhcp;
    let mut mac = random.random::<[u8; 6]>();
    mac[0] &= 0xfe;
    let mut client = Client::plain(mac);
    client.xid = random.random();
    if let Some(value) = said.bytes.get(random.random_range(0..said.bytes.len().max(1))) {
        let value = value.strip_prefix(&[1]).unwrap_or(value);
        if random.random_bool(0.5) && value.len() <= 6 {
            client.chaddr[..value.len()].copy_from_slice(value);
        }
    }
    let asked = match random.random_range(0..3) {
        0 => Vec::new(),
        1 => (1..=254).collect(),
        _ => vec![1, 3, 6, 12, 15, 28, 42, 43, 51, 54, 58, 59, 66, 67, 119, 121, 150],
    };
    let mut information = Vec::new();
    for code in [1, 2] {
        if relay.is_some() && random.random_bool(0.5) {
            let value = said.any(random);
            information.extend([code, value.len() as u8]);
            information.extend(value);
        }
    }
    for code in [60, 77, 12, 61, 43, 150, 81, 124, 125] {
        if random.random_bool(0.4) {
            client = client.with(code, &said.any(random));
        }
    }
    if random.random_bool(0.5) {
        let arch = [0_u16, 2, 6, 7, 9, 10, 11, 16][random.random_range(0..8)];
        client = client.with(options::PXE_SYSTEM_TYPE, &arch.to_be_bytes());
    }
    if random.random_bool(0.2) {
        client = client.with(options::IPXE, &[0xb1, 5, 1, 0x80, 0x86, 0x10, 0x0e, 0x12, 1, 1]);
    }
    if !dhcp.hosts.is_empty() && random.random_bool(0.5) {
        let number = random.random_range(0..dhcp.hosts.len());
        let host = dhcp.host(HostId::from_index(number as u32));
        for key in host.keys() {
            match key {
                HostKey::Hardware(address) => client.chaddr = address.to_vec(),
                HostKey::ClientId(id) => client = client.with(61, id),
                HostKey::Circuit { circuit_id, remote_id } => {
                    information.clear();
                    for (code, value) in [(1, circuit_id), (2, remote_id)] {
                        let Some(value) = value else { continue };
                        information.extend([code, value.len() as u8]);
                        information.extend_from_slice(value);
                    }
                }
                HostKey::Option { path, value } => match path.inner {
                    None => client = client.with(path.code, value),
                    Some(inner) => {
                        let length = value.len() as u8;
                        let option = [&[inner, length][..], value].concat();
                        client = client.with(path.code, &option);
                    }
                },
                HostKey::Uuid(_) => {}
            }
        }
    }
    if !asked.is_empty() {
        client = client.with(options::PARAMETER_REQUEST_LIST, &asked);
    }
    client.broadcast = random.random();
    match relay {
        Some(relay) => client.behind(relay, &information),
        None => client,
    }
}

/// What a client is answered, all but the order of the options.
fn answered(outcome: &Outcome) -> (String, BTreeMap<u8, Vec<u8>>) {
    let answer = match outcome {
        Outcome::Silence(silence) => return (silence.name().to_owned(), BTreeMap::new()),
        Outcome::Recorded => return ("recorded".to_owned(), BTreeMap::new()),
        Outcome::Reply(answer) | Outcome::Probe(answer) => answer,
    };
    let message = answer.message();
    let header = format!(
        "{:?} yiaddr {} siaddr {} file {} sname {} to {:?} flags {}",
        message.message_type(),
        message.yiaddr(),
        message.siaddr(),
        message.boot_file().escape_ascii(),
        message.server_name().escape_ascii(),
        answer.delivery,
        message.flags(),
    );
    let codes = message.options().map(|(code, _)| code);
    let value = |code| Some((code, message.option(code)?.bytes().collect()));
    (header, codes.filter_map(value).collect())
}

/// Addresses of relay agents, one in each subnet.
fn relays(config: &Config) -> Vec<Ipv4Addr> {
    let dhcp = &config.dhcp;
    let subnets = dhcp.subnets.iter();
    subnets.map(|subnet| subnet.prefix.hosts().0).collect()
}

/// What differs between the answers of a file and its TOML.
fn differing(path: &Path, file: Config, toml: Config) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let said = Said::of(&text);
    let mut seed = [7; 32];
    for (at, byte) in path.file_name().unwrap().as_encoded_bytes().iter().enumerate() {
        seed[at % 32] ^= byte;
    }
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let relays = relays(&file);
    if relays.is_empty() {
        return Vec::new();
    }
    let mut servers = [file, toml].map(Server::of);
    for server in &mut servers {
        server.interface = vec![relays[0]];
        server.set_own_addresses(&relays[..1]);
    }
    let mut found = Vec::new();
    for _ in 0..CLIENTS {
        let relay = match random.random_range(0..relays.len() + 1) {
            0 => None,
            which => Some(relays[which - 1]),
        };
        let client = client(&mut random, &servers[0].config, &said, relay);
        let mut exchange = |what: &str, datagrams: [Datagram; 2]| -> Option<[Outcome; 2]> {
            let [here, there] = &mut servers;
            let outcomes = [here.receive(&datagrams[0]), there.receive(&datagrams[1])];
            let [own, other] = outcomes.each_ref().map(answered);
            // TOML logs at the end of a lease and when it is given, and all at one level.
            let programs = |server: &mut Server| {
                let mut run = server.take_run();
                run.retain(|task| !task.starts_with("log "));
                run
            };
            let [run, other_run] = [programs(here), programs(there)];
            if own == other && run == other_run {
                return Some(outcomes);
            }
            let mut lines = vec![format!("{what} of {client:?}")];
            if run != other_run {
                lines.push(format!("  file runs {run:?}, toml {other_run:?}"));
            }
            if own.0 != other.0 {
                lines.push(format!("  file {}\n  toml {}", own.0, other.0));
            }
            for code in 0..=255 {
                let [own, other] = [&own.1, &other.1].map(|options| options.get(&code));
                if own != other {
                    lines.push(format!("  option {code}: file {own:02x?}, toml {other:02x?}"));
                }
            }
            found.push(lines.join("\n"));
            None
        };
        let both = |datagram: Datagram| [datagram.clone(), datagram];
        let Some(offers) = exchange("DISCOVER", both(client.discover())) else { continue };
        if let [Outcome::Reply(own) | Outcome::Probe(own), Outcome::Reply(_) | Outcome::Probe(_)] =
            &offers
        {
            exchange("REQUEST", both(client.select(own)));
            exchange("RENEW", both(client.renew(own.yiaddr())));
            exchange("INFORM", both(client.inform(own.yiaddr())));
            exchange("RELEASE", both(client.release(own.yiaddr())));
        }
        exchange("BOOTP", both(client.bootp()));
    }
    found
}

/// Files with statements that TOML has no words for, and a part of what the report says of it.
const DROPPED: [(&str, &str); 1] = [("ddns-hostname.conf", "option host-name")];

#[test]
fn clients_are_answered_as_by_the_file() {
    let mut found = Vec::new();
    for path in corpus::right() {
        let migration = migrate(&path).unwrap_or_else(|error| panic!("{}", error.render(false)));
        let file = config::load(&path).unwrap_or_else(|error| panic!("{}", error.render(false)));
        if file.dhcp.subnets.is_empty() {
            continue;
        }
        let toml = config::parse(Path::new("bootstorm.toml"), migration.toml.as_bytes());
        let toml = toml.unwrap_or_else(|error| panic!("{}", error.render(false)));
        let differing = differing(&path, file, toml);
        let name = path.file_name().unwrap().to_string_lossy();
        let told = DROPPED.iter().find(|(file, _)| *file == name);
        if let Some((_, what)) = told {
            assert!(migration.report.contains(what), "{}", migration.report);
        } else if !differing.is_empty() {
            let some = differing.iter().take(3).cloned().collect::<Vec<_>>().join("\n");
            found.push(format!("== {name}: {}\n{some}\n", differing.len()));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
