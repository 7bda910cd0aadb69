//! What a client of OMAPI sends, over TCP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bootstorm::config::{self, Config};
use bootstorm::leases::{Clock, Lease};
use bootstorm::live_hosts::{Change, HostObject};
use bootstorm::omapi::{self, Backend, Wanted};

use super::Target;
use crate::random::Random;

/// Both ends say it first: version 100, headers of 24 bytes.
const STARTUP: [u8; 8] = [0, 0, 0, 100, 0, 0, 0, 24];
/// Live hosts that are kept.
const HOSTS: usize = 100;

const CONFIG: &str = "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\npools = [\"10.0.0.100-10.0.0.120\"]\n\
    [[dhcp.host]]\nname = \"static\"\nhardware = \"52:54:00:00:00:99\"\nip = \"10.0.0.9\"\n";

/// A server whose live hosts are in memory.
struct Server {
    config: Arc<Config>,
    live: Mutex<Vec<HostObject>>,
}

impl Server {
    fn live(&self) -> std::sync::MutexGuard<'_, Vec<HostObject>> {
        self.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Backend for Server {
    fn config(&self) -> Arc<Config> {
        self.config.clone()
    }

    fn live_host(&self, name: &str) -> Option<HostObject> {
        self.live().iter().find(|host| host["name"] == name).cloned()
    }

    fn change(&self, change: Change, host: HostObject) -> Result<(), String> {
        let mut live = self.live();
        live.retain(|known| known["name"] != host["name"]);
        if change != Change::Remove {
            live.truncate(HOSTS - 1);
            live.push(host);
        }
        Ok(())
    }

    fn lease(&self, _wanted: &Wanted<'_>) -> (Option<Lease>, Clock) {
        (None, Clock::default())
    }

    fn release(&self, _ip: Ipv4Addr) -> Result<bool, String> {
        Ok(false)
    }
}

pub(crate) struct Omapi(SocketAddr);

impl Omapi {
    pub(crate) fn new() -> Self {
        let config = config::parse("x.toml".as_ref(), CONFIG.as_bytes()).expect("a configuration");
        let backend = Arc::new(Server { config: Arc::new(config), live: Mutex::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        omapi::serve(listener, None, backend).expect("a thread");
        Self(address)
    }
}

/// Names and values that mean something.
const NAMES: [&str; 12] = [
    "type",
    "create",
    "exclusive",
    "update",
    "name",
    "hardware-address",
    "hardware-type",
    "ip-address",
    "statements",
    "group",
    "dhcp-client-identifier",
    "algorithm",
];

const VALUES: [&[u8]; 13] = [
    b"host",
    b"lease",
    b"group",
    b"authenticator",
    b"static",
    b"n1",
    &[0, 0, 0, 1],
    &[0x52, 0x54, 0, 0, 0, 1],
    &[10, 0, 0, 5],
    b"filename \"pxelinux.0\";",
    b"option domain-name-servers 10.0.0.1, 10.0.0.2; next-server = 10.0.0.1;",
    b"if option host-name = \"a\" { filename \"b\"; }",
    b"hmac-md5.SIG-ALG.REG.INT.",
];

fn values(random: &mut Random, to: &mut Vec<u8>) {
    for _ in 0..random.below(8) {
        let name = random.one(&NAMES).copied().unwrap_or_default();
        let mut value = random.one(&VALUES).copied().unwrap_or_default().to_vec();
        if random.percent(20) {
            value = value.repeat(1 << random.below(12));
        }
        to.extend(u16::try_from(name.len()).unwrap_or_default().to_be_bytes());
        to.extend(name.as_bytes());
        to.extend(u32::try_from(value.len()).unwrap_or_default().to_be_bytes());
        to.extend(value);
    }
    to.extend([0, 0]);
}

impl Target for Omapi {
    fn input(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = STARTUP.to_vec();
        for _ in 0..1 + random.below(4) {
            let operation = 1 + random.below(7);
            let handle = random.below(4);
            for number in [0, 0, operation, handle, random.below(9), 0] {
                bytes.extend(u32::try_from(number).unwrap_or_default().to_be_bytes());
            }
            values(random, &mut bytes);
            values(random, &mut bytes);
        }
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes.truncate(at + 1),
                _ => bytes[at] = 255,
            }
        }
        bytes
    }

    fn feed(&self, input: &[u8]) {
        let stream = TcpStream::connect(self.0);
        let mut stream = stream.expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        // The server may have hung up before all is said.
        let _cut_off = stream.write_all(input).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answers = Vec::new();
        let _cut_off = stream.read_to_end(&mut answers);
    }
}
