//! Conversations between clients as the field knows them and this server's rules.

mod addresses;
mod boot;
mod bootp;
mod by_date;
mod client;
mod copies;
mod damage;
mod delivery;
mod dhcpd;
mod ending;
mod excluded;
mod explained;
mod golden;
mod holding;
mod hooks;
mod host_identifier;
mod identity;
mod interleaving;
mod known_as;
mod lease_scope;
mod leaving;
mod links;
mod malformed;
mod migrated;
mod options;
mod parameters;
mod plan;
mod renewing;
mod server;
mod server_identifier;
mod statements;
mod tests_of_classes;

use std::net::Ipv4Addr;

use client::{Client, Datagram};
use server::{Answer, Outcome, Server};

/// One subnet on the server's link, one behind a relay agent, one shared network.
const HALL: &str = r#"
[dhcp]
authoritative = true
lease-time = "1h"
min-lease-time = "10m"
max-lease-time = "1d"

[[dhcp.subnet]]
subnet = "10.1.0.0/16"
pools = ["10.1.4.0-10.1.4.9"]
options = { routers = ["10.1.0.1"], domain-name-servers = ["10.1.0.2"] }
boot = [
    { user-class = "iPXE", file = "boot.ipxe" },
    { arch = "x86-64-http", url = "http://10.1.0.6/ipxe.efi" },
    { arch = "x86-64-efi", file = "ipxe.efi" },
    { file = "pxelinux.0" },
]

[[dhcp.subnet]]
subnet = "10.2.0.0/24"
pools = ["10.2.0.10-10.2.0.99"]
next-server = "10.2.0.5"

[[dhcp.subnet]]
subnet = "10.3.0.0/24"
shared-network = "hall3"
pools = ["10.3.0.10-10.3.0.10"]

[[dhcp.subnet]]
subnet = "10.3.1.0/24"
shared-network = "hall3"
pools = ["10.3.1.10-10.3.1.99"]

[[dhcp.host]]
name = "rack1-n01"
hardware = "52:54:00:00:00:11"
ip = "10.1.0.17"
options = { host-name = "rack1-n01" }
"#;

/// The same configuration of a server that does not claim to know every client.
fn modest(text: &str) -> String {
    text.replace("authoritative = true", "authoritative = false")
}

/// The same configuration with more in the first pool of the hall.
fn with_pool(text: &str, settings: &str) -> String {
    let pool = format!("pools = [{{ range = \"10.1.4.0-10.1.4.9\", {settings} }}]");
    text.replace("pools = [\"10.1.4.0-10.1.4.9\"]", &pool)
}

fn modest_hall() -> Server {
    Server::new(&modest(HALL))
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// The machine with the number.
fn mac(number: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, number]
}
